"""Lesson 05 --integrated with one worker process and with two, near and far services.

Prints Markdown. PostgreSQL, Redis and RabbitMQ are private servers, started for this
and ended after it; so is SecantusDB, which stands for MongoDB. Near, they are reached
over loopback, and share the cores with the workers. Far, a network before each of them
delays what the feed sends through, so that waiting decides, not the cores.
Every run ends with the reconciliation, else this ends with 1.

Run:  python benchmarks/bench_05_integrated.py [NEAR_CUSTOMERS [FAR_CUSTOMERS]]
"""

from __future__ import annotations

import operator
import os
import re
import subprocess
import sys
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import measure

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT))

import services  # noqa: E402

from course.network import FaultyNetwork  # noqa: E402

SCRIPT = ROOT / "05_realworld_data_science.py"
VARIABLES = {
    "DATABASE_URL": "postgres",
    "MONGODB_URI": "mongo",
    "REDIS_URL": "redis",
    "RABBITMQ_URL": "rabbitmq",
}
ROUNDS, BAR, DELAY = 3, 1.5, 0.025  # seconds that the far network adds, each way
FEED = re.compile(r"~ feed: ([\d.]+) s, (\d+) messages/s")
TICK = os.sysconf("SC_CLK_TCK")
HOP = re.compile(r"~ (.+): busy for [\d.]+ s, (\d+)/s, (.*)")
Times = dict[str, float]  # seconds of processor, by who took them


class Feed(NamedTuple):
    """How fast the feed was, and what it took of the processor meanwhile."""

    speed: float  # messages a second
    cores: Times  # cores that each kept busy
    hops: list[tuple[str, ...]]


def processor(roots: dict[str, int]) -> Times:
    """Return seconds of processor so far, of processes and all below them.

    The workers, of which --as-worker is told, are counted for themselves.
    """
    parents, spent, names = dict[int, int](), dict[int, float](), dict[int, str]()
    for path in Path("/proc").glob("[0-9]*"):
        pid = int(path.name)
        try:
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            if b"--as-worker" in (path / "cmdline").read_bytes():
                names[pid] = "workers"
        except OSError:
            continue
        parents[pid] = int(fields[1])
        spent[pid] = sum(map(int, fields[11:15])) / TICK  # with children that ended
    names = {pid: name for name, pid in roots.items()} | names
    total: Times = defaultdict(float)
    for pid, seconds in spent.items():
        above = pid
        while above in parents and above not in names:
            above = parents[above]
        if above in names:
            total[names[above]] += seconds
    return total


class Place(NamedTuple):
    """Where the services are, and how many customers come."""

    customers: str
    env: dict[str, str]
    wires: list[Any]
    pids: dict[str, int]


def run(place: Place, workers: int) -> Feed:
    """Run the lesson; return what its feed did. Only the feed is far away."""
    command = [sys.executable, str(SCRIPT), "--integrated", "--require-live"]
    command += ["--customers", place.customers, "--workers", str(workers)]
    printed, before, after, speed, seconds = list[str](), Times(), Times(), 0.0, 0.0
    pipe, env = subprocess.PIPE, os.environ | place.env
    with subprocess.Popen(command, env=env, stdout=pipe, stderr=pipe, text=True) as one:
        assert one.stderr and one.stdout
        for line in one.stderr:
            printed.append(line)
            roots = place.pids | {"publisher": one.pid}
            if "~ robots:" in line:
                before = processor(roots)
                for wire in place.wires:
                    wire.delay = DELAY
            elif found := FEED.search(line):
                seconds, speed, after = (
                    float(found[1]),
                    float(found[2]),
                    processor(roots),
                )
                for wire in place.wires:
                    wire.delay = 0.0
        said = one.stdout.read()
    if one.returncode or not after:
        raise SystemExit(said + "".join(printed))
    print(
        f"... {workers} worker(s): {speed:.0f} messages/s", file=sys.stderr, flush=True
    )
    cores = {name: (after[name] - before.get(name, 0)) / seconds for name in after}
    return Feed(speed, cores, HOP.findall("".join(printed)))


def medians(place: Place) -> list[Feed]:
    """Return the median feed with one worker and with two, of runs that take turns."""
    feeds: dict[int, list[Feed]] = {1: [], 2: []}
    for _ in range(ROUNDS):
        for workers, found in feeds.items():
            found.append(run(place, workers))
    by_speed = operator.attrgetter("speed")
    return [sorted(found, key=by_speed)[ROUNDS // 2] for found in feeds.values()]


def main() -> int:
    """Measure near and far, and print the tables; return the exit code."""
    near, far = map(str, measure.numbers_given(600, 300))
    places = Place(near, {}, [], {}), Place(far, {}, [], {})
    with ExitStack() as stack:
        for variable, name in VARIABLES.items():
            server = stack.enter_context(services.private(name))
            if server is None or server.process is None:
                print(f"No {name} here: nothing measured.")
                return 0
            between = stack.enter_context(FaultyNetwork("127.0.0.1", server.port))
            there = server.url.replace(f":{server.port}", f":{between.port}")
            if name == "mongo":  # else its driver looks for the server's own address
                there += "?directConnection=true"
            for place, url in zip(places, (server.url, there), strict=True):
                place.env[variable], place.pids[name] = url, server.process.pid
            places[1].wires.append(between)
        feeds = [medians(place) for place in places]
    cores = os.cpu_count() or 1
    print(
        "Sign-ups and orders through RabbitMQ into PostgreSQL, MongoDB (here "
        f"SecantusDB) and Redis, each run reconciled; medians of {ROUNDS} runs that "
        f"took turns, on {cores} cores (load {os.getloadavg()[0]:.1f}). Far is "
        f"{1000 * DELAY:.0f} ms away, each way. The bar is for cores to spare.\n"
    )
    rows, busy = list[tuple[str, ...]](), list[tuple[str, ...]]()
    parts = ("workers", "publisher", *VARIABLES.values())
    for name, place, (one, two) in zip(("near", "far"), places, feeds, strict=True):
        ratio = two.speed / one.speed
        met = "yes" if ratio >= BAR else "no"
        shown = f"{one.speed:.0f}", f"{two.speed:.0f}", f"{ratio:.2f}", f"{BAR}", met
        rows.append((f"{name}, {place.customers} customers", *shown))
        for workers, feed in enumerate((one, two), 1):
            shares = [f"{feed.cores.get(part, 0):.2f}" for part in parts]
            total = f"{sum(feed.cores.values()):.2f}"
            busy.append((f"{name}, {workers}", *shares, total))
    header = ("services", "one worker, messages/s", "two", "ratio", "bar", "met")
    print(measure.markdown(header, rows))
    print(f"\nHow many of the {cores} cores each kept busy during the feed:\n")
    print(measure.markdown(("services, workers", *parts, "all"), busy))
    alone = sum(feeds[0][0].cores.values())
    print(
        f"\nNear, one worker and what it uses keep {alone:.2f} of {cores} cores busy. "
        "On an otherwise idle machine a second brings at best "
        f"{min(2, cores / alone):.2f} times as much, and that only where no server is "
        "at its limit already."
    )
    print("\nThe hops of the near run with two workers:\n")
    heads = ("hop", "messages/s while busy", "a message's time, with its batch")
    print(measure.markdown(heads, feeds[0][1].hops))
    return 0


if __name__ == "__main__":
    sys.exit(measure.ended_well(main))
