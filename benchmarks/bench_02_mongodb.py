"""Lesson 02 beside raw PyMongo: loads, upserts, decoding, and N+1 against $lookup.

On MongoDB if $MONGODB_URI or the standard port answers, else on SecantusDB, whose speed
says nothing about MongoDB's: what counts are the ratios between the clients. Both send
the same commands, so their difference is CPU time of this process, which is what is
compared: it is stricter than wall time, and the server's moods are not in it.
"""

from __future__ import annotations

import argparse
import functools
import gc
import itertools
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

import bson
from measure import markdown, median, seconds
from pymongo import UpdateOne

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from lessons import ROOT, load

sys.path.insert(0, str(ROOT))
from course.mongo.codec import CODEC, RAW
from course.mongo.seed import make_events, make_user

lesson = load("02")
SIZES = {1: 20, 100: 200, 500: 500}  # documents in a command: documents in a turn
ROUNDS = 61
Row = list[object]


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def raw_insert(env: Any, batch: int, users: list[Any]) -> None:
    """Insert as an example of PyMongo does, without a report."""
    for start in range(0, len(users), batch):
        env.db["users"].insert_many(users[start : start + batch], ordered=False)


def raw_upsert(env: Any, batch: int, users: list[Any]) -> None:
    """Upsert in batches by bulk_write()."""
    for start in range(0, len(users), batch):
        page = users[start : start + batch]
        changes = [UpdateOne({"_id": u["_id"]}, {"$set": u}, upsert=True) for u in page]
        env.db["users"].bulk_write(changes, ordered=False)


def our_insert(env: Any, batch: int, users: list[Any]) -> None:
    report = lesson.UserManager(env.db).bulk_insert_users(users, batch)
    assert report.inserted == len(users)


def our_upsert(env: Any, batch: int, users: list[Any]) -> None:
    manager = lesson.UserManager(env.db)
    for start in range(0, len(users), batch):
        manager.upsert_users(users[start : start + batch])


def turns(env: Any, works: list[Any], count: int) -> tuple[float, float]:
    """Return the second work's CPU time to the first's, and its documents per second.

    The ratio is the median of many short turns side by side, so that what slows the
    machine down slows both. Every turn has users of its own, so that nothing has to be
    deleted in between; who goes first alternates. What is sent is the same.
    """
    numbers, sent, wall = itertools.count(1), [0, 0], [0.0, 0.0]
    ratios = []
    for number in range(ROUNDS):
        cpu = [0.0, 0.0]
        for place in (0, 1) if number % 2 else (1, 0):
            people = [make_user(n) for n in itertools.islice(numbers, count)]
            gc.collect()
            before, start, clock = env.commands.sent, time.process_time(), time.time()
            works[place](people)
            cpu[place] = time.process_time() - start
            wall[place] += time.time() - clock
            sent[place] += env.commands.sent - before
        ratios.append(cpu[1] / cpu[0])
    assert len(set(sent)) == 1
    return median(sorted(ratios)), ROUNDS * count / wall[1]


def loads(env: Any) -> tuple[list[Row], list[Row]]:
    """Return documents per second by batch size, and our price over PyMongo's."""
    rows, bars = [], []
    kinds = {"insert": (raw_insert, our_insert), "upsert": (raw_upsert, our_upsert)}
    for kind, works in kinds.items():
        row: Row = [f"{kind}, documents/s"]
        for batch, count in SIZES.items():
            note(f"{kind} by {batch}")
            env.fresh()
            both = [functools.partial(work, env, batch) for work in works]
            ratio, rate = turns(env, both, count)
            row.append(f"{rate:,.0f}")
            bars.append([f"{kind} by {batch}: ours / raw, CPU", "<= 1.1", ratio])
        rows.append(row)
    return rows, bars


def joins(env: Any) -> float:
    """Return N+1 / $lookup for 100 events with their users' names."""
    env.fresh(users=100, events=500)
    tracker = lesson.EventTracker(env.db)
    times = seconds(
        {
            "loop": lambda: lesson.latest_with_names_naive(env.db, 100),
            "lookup": lambda: tracker.latest_with_names(100),
        }
    )
    return median(times["loop"]) / median(times["lookup"])


def decoding() -> float:
    """Return dict / RawBSONDocument for 50,000 events; no server is involved."""
    data = b"".join(map(bson.encode, make_events(5_000))) * 10
    codecs = {"dict": CODEC, "raw": RAW}
    times = seconds(
        {n: functools.partial(bson.decode_all, data, c) for n, c in codecs.items()}
    )
    return median(times["dict"]) / median(times["raw"])


class Made:
    """A collection whose pages are made when they are asked for."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.body = make_events(1)[0]

    def find_raw_batches(self, query: Any, sort: Any, limit: int) -> Any:
        start = query["_id"]["$gt"] + 1 if query else 1
        numbers = itertools.islice(range(start, self.count + 1), limit)
        return (bson.encode(self.body | {"_id": number}) for number in numbers)


def memory(count: int) -> int:
    """Return the peak in bytes of an export of so many documents."""
    processor = lesson.DataProcessor({"events": Made(count)})
    with tempfile.TemporaryDirectory(prefix="module8-bench-") as folder:
        tracemalloc.start()
        processor.export_data_for_analysis(Path(folder, "export"), page=2_000)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


def main() -> int:
    given = argparse.Namespace(offline=False, require_live=False, url=None)
    bars: list[list[Any]] = []
    with lesson.open_env(given) as env:
        if env.live:
            env.fresh()
            rows, bars = loads(env)
            note("N+1 and $lookup")
            bars.append(
                ["100 events with names: 101 queries / $lookup", ">= 1", joins(env)]
            )
            server = "MongoDB" if env.mongodb else "SecantusDB, not MongoDB"
            print(f"\nOn {server}, by the documents in one command:\n")
            print(markdown(["ours", *map(str, SIZES)], rows))
        else:
            print(f"\nLoads and joins not measured: {env.backend}.")
    note("decoding, memory")
    bars.append(["50,000 events: dict / RawBSONDocument", ">= 5", decoding()])
    growth = memory(200_000) / memory(10_000)
    bars.append(["export: peak memory of 200,000 / 10,000", "<= 1.1", growth])
    met = {"<=": float.__le__, ">=": float.__ge__}
    results: list[Row] = [
        [
            name,
            bar,
            f"{value:.3g}",
            "yes" if met[bar[:2]](value, float(bar[3:])) else "NO",
        ]
        for name, bar, value in bars
    ]
    print()
    print(markdown(["", "bar", "measured", "met"], results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
