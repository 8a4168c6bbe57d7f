"""Lesson 05 --integrated with one worker process and with two, on live services.

Prints Markdown. PostgreSQL, Redis and RabbitMQ are private servers, started for this
and ended after it; so is SecantusDB, which stands for MongoDB unless $MONGODB_URI names
a server. Each run ends with the reconciliation, else this ends with 1.

Run:  python benchmarks/bench_05_integrated.py [CUSTOMERS]
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import measure

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import services  # noqa: E402

SCRIPT = ROOT / "05_realworld_data_science.py"
VARIABLES = {
    "DATABASE_URL": "postgres",
    "MONGODB_URI": "mongo",
    "REDIS_URL": "redis",
    "RABBITMQ_URL": "rabbitmq",
}
ROUNDS, BAR = 3, 1.5
HOP = re.compile(r"~ (.+): busy for [\d.]+ s, (\d+)/s, (.*)")


def run(customers: str, workers: int, env: dict[str, str]) -> tuple[float, list[str]]:
    """Return messages per second of the feed, and a line of each hop."""
    command = [sys.executable, str(SCRIPT), "--integrated", "--require-live"]
    command += ["--customers", customers, "--workers", str(workers)]
    done = subprocess.run(
        command, env=os.environ | env, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    feed = re.search(r"~ feed: .* (\d+) messages/s", done.stderr)
    assert feed
    print(f"... {workers} worker(s): {feed[1]} messages/s", file=sys.stderr, flush=True)
    return float(feed[1]), [f"{a}|{b}|{c}" for a, b, c in HOP.findall(done.stderr)]


def main() -> int:
    """Measure in turns and print the tables; return the exit code."""
    customers = sys.argv[1] if len(sys.argv) > 1 else "600"
    speeds: dict[int, list[float]] = {1: [], 2: []}
    hops: list[str] = []
    with ExitStack() as stack:
        env = {}
        for variable, name in VARIABLES.items():
            if variable == "MONGODB_URI" and os.environ.get(variable):
                continue
            server = stack.enter_context(services.private(name))
            if server is None:
                print(f"No {name} here: nothing measured.")
                return 0
            env[variable] = server.url
        for _ in range(ROUNDS):
            for workers, found in speeds.items():
                speed, hops = run(customers, workers, env)
                found.append(speed)
    one, two = (statistics.median(found) for found in speeds.values())
    cores, load = os.cpu_count() or 1, os.getloadavg()[0]
    print(
        f"{customers} customers' sign-ups and orders through RabbitMQ into PostgreSQL, "
        f"MongoDB and Redis, each run reconciled; medians of {ROUNDS} runs that took "
        f"turns, on {cores} cores that the servers share (load {load:.1f}). The bar is "
        "for a machine that has cores to spare.\n"
    )
    rows = [("1", f"{one:.0f}", "", "", ""), ("2", f"{two:.0f}", f"{two / one:.2f}")]
    rows[1] += (f"{BAR}", "yes" if two / one >= BAR else "**no**")
    header = ("worker processes", "messages/s", "ratio", "bar", "met")
    print(measure.markdown(header, rows))
    print("\nThe hops of the last run, with two workers:\n")
    cells = [line.split("|") for line in hops]
    print(measure.markdown(("hop", "messages/s while busy", "time of one"), cells))
    return 0


if __name__ == "__main__":
    sys.exit(main())
