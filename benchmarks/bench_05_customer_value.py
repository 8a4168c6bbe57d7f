"""Lesson 05 against others: a log of a million customers, step by step and whole.

Run:  python benchmarks/bench_05_customer_value.py [customers]   (default 1,000,000)

All work on the same simulated logs, in this process, on one core: a shop of 39 weeks,
and one of 4.5 years, whose customers differ in more rows. The others run each step
once, as some take a minute; ours runs five times and the median counts. How they are
called stands in peers_05.py.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy starts its threads

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measure import markdown
from peers_05 import PEERS, Steps, steps_of

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from lessons import load, path_of

lesson: Any = load("05")
SHOPS = (273, 1_643)  # days: 39 weeks as in CDNOW, and 4.5 years
AT_LEAST = {"lifetimes, distinct rows": 10, "lifetimes, tutorial": 25}  # times as fast


def timed(run: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    """Return the median of the processor's seconds, and the last result."""
    times: list[float] = []
    result = None
    for _ in range(repeats):
        start = time.process_time()
        result = run()
        times.append(time.process_time() - start)
    return statistics.median(times), result


def ours(log: Any) -> dict[str, float]:
    """Return seconds of each of our steps."""
    last = int(log.day.max())
    steps: dict[str, float] = {}
    steps["log to x, t_x, T, mean"], t = timed(
        lambda: lesson.customer_table(log, last), 5
    )
    steps["BG/NBD fit"], fit = timed(lambda: lesson.fit_bgnbd(t.x, t.t_last, t.age), 5)
    steps["Gamma-Gamma fit"], money = timed(
        lambda: lesson.fit_gamma_gamma(t.x, t.mean_spend), 5
    )
    weeks = t.x, t.t_last / 7, t.age / 7
    steps["P(alive)"], _ = timed(lambda: fit.p_alive(*weeks), 5)
    made = lesson.Forecast(log, last, 273, learn=False)

    def fresh(name: str) -> Callable[[], Any]:
        def run() -> Any:
            vars(made).pop(name, None)  # what it cached
            return getattr(made, name)

        return run

    steps["E[orders] in 39 weeks"], _ = timed(fresh("orders"), 5)
    steps["12-month discounted value"], _ = timed(
        lambda: made.lifetime_spend(lesson.DISCOUNT), 5
    )
    steps["end to end"], _ = timed(lambda: everything(log), 5)
    assert money.p > 0
    return steps


def everything(log: Any) -> None:
    """From the log to churn, next order, lifetime value and segments of everybody."""
    f = lesson.Forecast(log, int(log.day.max()), 273, learn=False)
    f.bgnbd.next_order(*f.weeks, 0.5)
    assert len(f.churn[lesson.BGNBD]) == len(f.ltv) == len(lesson.segment_rule(f.table))


def whole_run(customers: int) -> tuple[float, float]:
    """Return seconds and peak megabytes of a run of the script, start to report."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, str(path_of("05")), "--simulate", str(customers)]
    subprocess.run([*command, "--json"], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    return user + system, after.ru_maxrss / 1e3


def table_of(log: Any, days: int) -> tuple[dict[str, float], dict[str, Steps | str]]:
    """Print a shop's table; return our seconds and those of the others."""
    print("ours ...", file=sys.stderr)
    mine = ours(log)
    theirs: dict[str, Steps | str] = {}
    for name in PEERS:
        print(f"{name} ...", file=sys.stderr)
        theirs[name] = steps_of(name, log)
    absent = [f"{name} {why}" for name, why in theirs.items() if isinstance(why, str)]
    there = {name: each for name, each in theirs.items() if isinstance(each, dict)}
    rows = []
    for step, own in mine.items():
        row = [step, f"{own:.3f} s"]
        for steps in there.values():
            taken = steps.get(step)
            row.append(f"{taken:.2f} s, {taken / own:.1f}x" if taken else "-")
        rows.append(row)
    customers = f"{len(log.ids):,} simulated customers of {days} days"
    print(f"{customers}, {len(log.day):,} orders; seconds of one core.\n")
    print(markdown(("step", "ours", *there), rows))
    print(f"\nNot in the table: {'; '.join(absent) or 'nobody'}.\n")
    return mine, theirs


def main() -> int:
    """Print the tables."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    small = [whole_run(n) for _ in range(3)]
    seconds, memory = statistics.median(s for s, _ in small), max(m for _, m in small)
    bars: list[tuple[str, str, str, bool]] = []
    for days in SHOPS:
        mine, theirs = table_of(lesson.simulate(n, 5, days=days), days)
        for name, least in AT_LEAST.items():
            steps = theirs[name]
            if isinstance(steps, dict):
                ratio = steps["end to end"] / mine["end to end"]
                what = f"against {name}, {days} days"
                bars.append((what, f">= {least}x", f"{ratio:.0f}x", ratio >= least))
        print(
            f"a million customers: {mine['end to end'] * 1e6 / n:.2f} s of one core\n"
        )
    print("ten times the customers ...", file=sys.stderr)
    more = statistics.median(whole_run(10 * n)[0] for _ in range(3)) / seconds
    bars += [
        ("peak memory, whole script", "<= 600 MB", f"{memory:.0f} MB", memory <= 600),
        ("ten times as many, whole script", "<= 12x", f"{more:.1f}x", more <= 12),
    ]
    met = [(what, bar, found, "yes" if ok else "no") for what, bar, found, ok in bars]
    print(markdown(("end to end", "bar", "measured", "met"), met))
    return 0


if __name__ == "__main__":
    sys.exit(main())
