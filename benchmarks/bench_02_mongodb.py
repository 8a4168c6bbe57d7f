"""Lesson 02 beside raw PyMongo: loads, upserts, decoding, and N+1 against its cures.

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
import warnings
from collections.abc import Callable
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import bson
import pandas
import pyarrow as pa
from measure import ended_well, markdown, median, seconds, versions
from pymongo import UpdateOne

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from lessons import load

from course.mongo.codec import CODEC, RAW, surely_in_utc, unencodable_of
from course.mongo.frames import to_frame
from course.mongo.seed import make_events, make_user

lesson = load("02")
# Of each of its classes pymongoarrow says that it was built for another pyarrow.
warnings.filterwarnings("ignore", "pyarrow.* size changed", RuntimeWarning)
arrow: Any = import_module("pymongoarrow.context")
arrow_schema: Any = import_module("pymongoarrow.schema")
SIZES = {1: 20, 100: 200, 500: 500}  # documents in a command: documents in a turn
ROUNDS = 31
PACKAGES = versions("pymongo", "SecantusDB", "pymongoarrow", "pandas", "pyarrow")
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


class Taking:
    """A collection that takes all, and does nothing."""

    def insert_many(self, documents: list[Any], ordered: bool) -> None:
        """Take them."""


def checks() -> list[Row]:
    """Return what our inserts do beside PyMongo's; no server is involved."""
    users = [make_user(number) for number in range(500)]
    manager = lesson.UserManager({"users": Taking()})
    encoding = "can BSON hold it? (encoded twice)"
    report = "what became of it?"
    ways: dict[str, Callable[[], object]] = {
        "is there a moment without a time zone?": lambda: surely_in_utc(users),
        encoding: lambda: unencodable_of(users),
        report: lambda: manager.bulk_insert_users(users, 500),
    }
    rows: list[Row] = []
    for name, way in ways.items():
        times = []
        for _ in range(ROUNDS):
            gc.collect()
            start = time.process_time()
            way()
            times.append(time.process_time() - start)
        rows.append([name, f"{1e6 * median(times) / len(users):.2f}"])
    return rows


def turns(env: Any, works: list[Any], count: int) -> tuple[float, float, float]:
    """Return the second work's CPU time to the first's, and its documents per second.

    The third is the first's CPU time for a document, in microseconds.

    The ratio is the median of many short turns side by side, so that what slows the
    machine down slows both. Every turn has users of its own, so that nothing has to be
    deleted in between; who goes first alternates. What is sent is the same.
    """
    numbers, sent, wall = itertools.count(1), [0, 0], [0.0, 0.0]
    ratios, first = [], []
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
        first.append(1e6 * cpu[0] / count)
    assert len(set(sent)) == 1
    return median(ratios), ROUNDS * count / wall[1], median(first)


def loads(env: Any) -> tuple[list[Row], list[Row], list[Row]]:
    """Return documents per second by batch size, our price over PyMongo's, and its CPU.

    The third has the microseconds of each of PyMongo's inserts and upserts.
    """
    rows: list[Row] = []
    bars: list[Row] = []
    raw: list[Row] = []
    kinds = {"insert": (raw_insert, our_insert), "upsert": (raw_upsert, our_upsert)}
    for kind, works in kinds.items():
        row: Row = [f"{kind}, documents/s"]
        for batch, count in SIZES.items():
            note(f"{kind} by {batch}")
            env.fresh()
            both = [functools.partial(work, env, batch) for work in works]
            ratio, rate, first = turns(env, both, count)
            raw.append([f"PyMongo's own {kind} by {batch}", f"{first:.2f}"])
            row.append(f"{rate:,.0f}")
            bars.append([f"{kind} by {batch}: ours / raw, CPU", "<= 1.1", ratio])
        rows.append(row)
    return rows, bars, raw


def latest_by_two_queries(db: Any, limit: int) -> list[Any]:
    """Return the same rows as $lookup: the events, then all of their users by $in."""
    bought = db["events"].find({"event_type": "purchase"})
    events = list(bought.sort([("timestamp", -1), ("_id", 1)]).limit(limit))
    wanted = list({event["user_id"] for event in events})
    names = {}
    for user in db["users"].find({"_id": {"$in": wanted}}, {"username": 1}):
        names[user["_id"]] = user["username"]
    rows = []
    for event in events:
        if event["user_id"] in names:
            rows.append({"_id": event["_id"], "name": names[event["user_id"]]})
    return rows


def joins(env: Any) -> list[Row]:
    """Return how the loop and two queries compare with $lookup, for 100 events."""
    env.fresh(users=100, events=500)
    tracker = lesson.EventTracker(env.db)
    ways: dict[str, Callable[[], list[Any]]] = {
        "101 queries": lambda: lesson.latest_with_names_naive(env.db, 100),
        "2 queries, the second with $in": lambda: latest_by_two_queries(env.db, 100),
        "$lookup": lambda: tracker.latest_with_names(100),
    }
    found = [way() for way in ways.values()]
    assert found[0] == found[1] == found[2]
    times = seconds(ways, repeats=11)
    base = median(times["$lookup"])
    return [
        [name, f"{1000 * median(values):.1f}", f"{median(values) / base:.2f}"]
        for name, values in times.items()
    ]


def frames() -> list[Row]:
    """Return how fast 50,000 events become a frame; no server is involved."""
    events = make_events(5_000)
    data = b"".join(map(bson.encode, events)) * 10
    names = ("_id", "user_id", "timestamp")
    kinds = {"_id": pa.int64(), "user_id": pa.int64(), "timestamp": datetime}
    schema = arrow_schema.Schema(kinds)

    def by_arrow() -> Any:
        context = arrow.PyMongoArrowContext(schema)
        context.process_bson_stream(data)
        return context.finish().to_pandas()

    def by_documents() -> Any:
        rows = bson.decode_all(data, CODEC)
        picked = [{name: row[name] for name in names} for row in rows]
        return pandas.DataFrame(picked)

    def by_lesson() -> Any:
        rows = bson.decode_all(data, CODEC)
        return to_frame([{name: row[name] for name in names} for row in rows])

    ways = {
        "decode_all, DataFrame": by_documents,
        "decode_all, the lesson's to_frame": by_lesson,
        "pymongoarrow": by_arrow,
    }
    for way in ways.values():
        frame = way()
        assert len(frame) == 10 * len(events)
        assert frame["user_id"].sum() == 10 * sum(one["user_id"] for one in events)
    times = seconds(ways, repeats=5)
    base = median(next(iter(times.values())))
    return [
        [name, f"{50_000 / median(values):,.0f}", f"{base / median(values):.2f}"]
        for name, values in times.items()
    ]


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
            rows, bars, raw = loads(env)
            note("N+1 and its cures")
            ways = joins(env)
            server = "MongoDB" if env.mongodb else "SecantusDB, not MongoDB"
            print(f"\nOn {server}, by the documents in one command. {PACKAGES}\n")
            print(markdown(["ours", *map(str, SIZES)], rows))
            print("\n100 events with the names of their users, same rows each way:\n")
            print(markdown(["way", "ms", "x $lookup"], ways))
        else:
            raw = []
            print(f"\nLoads and joins not measured: {env.backend}.")
    note("checks")
    print("\nThe last three: what our inserts ask besides, each with those above it:\n")
    print(markdown(["CPU", "microseconds a document"], raw + checks()))
    note("frames, decoding, memory")
    print("\nThree fields of 50,000 events as a frame of pandas, without a server:\n")
    print(markdown(["way", "events/s", "x the first"], frames()))
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
    sys.exit(ended_well(main))
