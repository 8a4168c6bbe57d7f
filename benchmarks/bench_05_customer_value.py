"""Lesson 05 against lifetimes: a log of a million customers, step by step and whole.

Run:  python benchmarks/bench_05_customer_value.py [customers]   (default 1,000,000)

Both work on the same simulated log, in this process, on one core. lifetimes runs each
step once, as it takes a minute; ours runs five times and the median counts.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy starts its threads

import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from measure import markdown

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from lessons import load, path_of

lesson: Any = load("05")


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
    steps["12-month discounted value"], _ = timed(fresh("ltv"), 5)
    steps["end to end"], _ = timed(lambda: everything(log), 5)
    assert money.p > 0
    return steps


def everything(log: Any) -> None:
    """From the log to churn, next order, lifetime value and segments of everybody."""
    f = lesson.Forecast(log, int(log.day.max()), 273, learn=False)
    f.bgnbd.next_order(*f.weeks, 0.5)
    assert len(f.churn[lesson.BGNBD]) == len(f.ltv) == len(lesson.segment_rule(f.table))


def peers(log: Any) -> dict[str, float]:
    """Return seconds of each of lifetimes' steps."""
    from lifetimes import BetaGeoFitter, GammaGammaFitter
    from lifetimes.utils import summary_data_from_transaction_data

    epoch = log.day - np.datetime64("1970-01-01").astype(object).toordinal()
    frame = pd.DataFrame(
        {
            "id": log.customer,
            "day": pd.to_datetime(epoch.astype("datetime64[D]")),
            "paid": log.amount,
        }
    )
    steps: dict[str, float] = {}
    steps["log to x, t_x, T, mean"], s = timed(
        lambda: summary_data_from_transaction_data(
            frame, "id", "day", "paid", observation_period_end=frame["day"].max()
        )
    )
    x, t_last, age = s["frequency"], s["recency"] / 7, s["T"] / 7
    z, again = s["monetary_value"], s["frequency"] > 0
    steps["BG/NBD fit"], fit = timed(lambda: BetaGeoFitter().fit(x, t_last, age))
    steps["Gamma-Gamma fit"], money = timed(
        lambda: GammaGammaFitter().fit(x[again], z[again])
    )
    steps["P(alive)"], _ = timed(
        lambda: fit.conditional_probability_alive(x, t_last, age)
    )
    steps["E[orders] in 39 weeks"], _ = timed(
        lambda: fit.conditional_expected_number_of_purchases_up_to_time(
            39, x, t_last, age
        )
    )
    steps["12-month discounted value"], _ = timed(
        lambda: money.customer_lifetime_value(
            fit, x, t_last, age, z, time=12, discount_rate=0.008, freq="W"
        )
    )
    steps["end to end"] = sum(steps.values())
    return steps


def whole_run(customers: int) -> tuple[float, float]:
    """Return seconds and peak megabytes of a run of the script, start to report."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, str(path_of("05")), "--simulate", str(customers)]
    subprocess.run([*command, "--json"], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    return user + system, after.ru_maxrss / 1e3


def main() -> int:
    """Print the tables."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    log = lesson.simulate(n, 5)
    small = [whole_run(n) for _ in range(3)]
    seconds, memory = statistics.median(s for s, _ in small), max(m for _, m in small)
    print("ours ...", file=sys.stderr)
    mine = ours(log)
    print("lifetimes, a minute ...", file=sys.stderr)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, of old pandas and of logarithms
        theirs = peers(log)
    print("ten times the customers ...", file=sys.stderr)
    more = statistics.median(whole_run(10 * n)[0] for _ in range(3)) / seconds
    rows = []
    for step, time_ in mine.items():
        peer = theirs[step]
        rows.append((step, f"{time_:.3f} s", f"{peer:.2f} s", f"{peer / time_:.0f}x"))
    print(f"{n:,} simulated customers, {len(log.day):,} orders; seconds of one core.\n")
    print(markdown(("step", "ours", "lifetimes 0.11.3", "ratio"), rows))
    million, ratio = (
        mine["end to end"] * 1e6 / n,
        theirs["end to end"] / mine["end to end"],
    )
    bars = [
        ("a million customers", "<= 1.0 s", f"{million:.2f} s", million <= 1),
        ("against lifetimes", ">= 30x", f"{ratio:.0f}x", ratio >= 30),
        ("peak memory, whole script", "<= 600 MB", f"{memory:.0f} MB", memory <= 600),
        ("ten times as many, whole script", "<= 12x", f"{more:.1f}x", more <= 12),
    ]
    met = [(what, bar, found, "yes" if ok else "no") for what, bar, found, ok in bars]
    print("\n" + markdown(("end to end", "bar", "measured", "met"), met))
    return 0


if __name__ == "__main__":
    sys.exit(main())
