"""Lesson 05 against others: a log of a million customers, step by step and whole.

Run:  python benchmarks/bench_05_customer_value.py [customers]   (default 1,000,000)

All work on the same simulated logs, in this process, on one core: a shop of 39 weeks,
and one of 4.5 years, whose customers differ in more rows. What would take minutes works
on a tenth of the customers, and so does ours beside it. The others run each step once,
ours five times and the median counts. All have to agree on how many customers are alive
and how many orders they will make. How they are called stands in peers_05.py.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy starts its threads

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from measure import ended_well, markdown, numbers_given, versions
from peers_05 import (
    ALIVE,
    AT_A_TENTH,
    BGNBD_FIT,
    END,
    FULL,
    MONEY_FIT,
    ORDERS,
    SUMMARY,
    VALUE,
    Answers,
    Measured,
    Peers,
    Steps,
    answers_of,
    measured,
    pymc_version,
)

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from lessons import load, path_of

lesson: Any = load("05")
SHOPS = (273, 1_643)  # days: 39 weeks as in CDNOW, and 4.5 years
AT_LEAST = {"lifetimes, distinct rows": 10, "lifetimes, tutorial": 25}  # times as fast
AGREE = 0.001  # answers differ by less than this share
PACKAGES = ("numpy", "scipy", "pandas", "lifetimes", "clvkit")

Bar = tuple[str, str, str, bool]  # what, the bar, what was found, whether it is met


def timed(run: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    """Return the median of the processor's seconds, and the last result."""
    times: list[float] = []
    result = None
    for _ in range(repeats):
        start = time.process_time()
        result = run()
        times.append(time.process_time() - start)
    return statistics.median(times), result


def ours(log: Any) -> Measured:
    """Return seconds of each of our steps, and the answers."""
    last = int(log.day.max())
    steps: Steps = {}
    steps[SUMMARY], t = timed(lambda: lesson.customer_table(log, last), 5)
    steps[BGNBD_FIT], fit = timed(lambda: lesson.fit_bgnbd(t.x, t.t_last, t.age), 5)
    steps[MONEY_FIT], money = timed(
        lambda: lesson.fit_gamma_gamma(t.x, t.mean_spend), 5
    )
    weeks = t.x, t.t_last / 7, t.age / 7
    steps[ALIVE], alive = timed(lambda: fit.p_alive(*weeks), 5)
    made = lesson.Forecast(log, last, 273, learn=False)

    def fresh(name: str) -> Callable[[], Any]:
        def run() -> Any:
            vars(made).pop(name, None)  # what it cached
            return getattr(made, name)

        return run

    steps[ORDERS], orders = timed(fresh("orders"), 5)
    steps[VALUE], _ = timed(lambda: made.lifetime_spend(lesson.DISCOUNT), 5)
    steps[END], _ = timed(lambda: everything(log), 5)
    assert money.p > 0
    return steps, answers_of(alive, orders)


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


def check_same(name: str, mine: Answers, theirs: Answers) -> None:
    """Raise if a peer answers something else than we do."""
    for what, value in theirs.items():
        if abs(value / mine[what] - 1) > AGREE:
            raise SystemExit(f"{name}: {what} {value:,.1f}, ours {mine[what]:,.1f}")


def table_of(log: Any, days: int, peers: Peers) -> dict[str, float]:
    """Print a shop's table; return how many times longer each takes than ours."""
    print("ours ...", file=sys.stderr)
    mine, answers = ours(log)
    there: dict[str, Steps] = {}
    absent = []
    for name, peer in peers.items():
        print(f"{name} ...", file=sys.stderr)
        found = measured(peer, log)
        if isinstance(found, str):
            absent.append(f"{name} ({found})")
            continue
        there[name], theirs = found
        check_same(name, answers, theirs)
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
    print(f"\n{versions(*PACKAGES)}")
    if "pymc-marketing, MAP" in there:
        print(f"Apart, in an interpreter of its own: {pymc_version()}.")
    if absent:
        print(f"Not in the table: {', '.join(absent)}.")
    print()
    whole = {name: steps[END] for name, steps in there.items() if END in steps}
    return {name: taken / mine[END] for name, taken in whole.items()}


def ten_times(n: int) -> list[Bar]:
    """Print what a run of the whole script takes; return its bars."""
    memory = whole_run(n)[1]  # first, as the largest child so far is what counts
    once: list[float] = []
    ten: list[float] = []
    for number in range(3):
        print(f"whole runs, {number + 1} of 3 ...", file=sys.stderr)
        once.append(whole_run(n)[0])
        ten.append(whole_run(10 * n)[0])
    more = statistics.median(b / a for a, b in zip(once, ten, strict=True))
    print(
        f"The whole script, from its start to the report: {n:,} customers take "
        f"{statistics.median(once):.2f} s of one core, {10 * n:,} take "
        f"{statistics.median(ten):.1f} s.\n"
    )
    return [
        ("peak memory, whole script", "<= 600 MB", f"{memory:.0f} MB", memory <= 600),
        ("ten times as many, whole script", "<= 12x", f"{more:.1f}x", more <= 12),
    ]


def bars_of(ratios: dict[str, float], days: int) -> Sequence[Bar]:
    """Return the rows of the bars of a shop."""
    bars: list[Bar] = []
    for name, least in AT_LEAST.items():
        if name in ratios:
            ratio = ratios[name]
            what = f"against {name}, {days} days"
            bars.append((what, f">= {least}x", f"{ratio:.0f}x", ratio >= least))
    return bars


def main() -> int:
    """Print the tables."""
    (n,) = numbers_given(1_000_000)
    bars = ten_times(n)
    for days in SHOPS:
        ratios = table_of(lesson.simulate(n, 5, days=days), days, FULL)
        bars += bars_of(ratios, days)
    days = SHOPS[0]
    table_of(lesson.simulate(n // 10, 5, days=days), days, AT_A_TENTH)
    met = [(what, bar, found, "yes" if ok else "no") for what, bar, found, ok in bars]
    print(markdown(("end to end", "bar", "measured", "met"), met))
    return 0


if __name__ == "__main__":
    sys.exit(ended_well(main))
