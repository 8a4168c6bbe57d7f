"""What others make of the same customers, each as its own documentation says.

lifetimes is called in two ways: on every customer, as in its tutorial, and on the rows
that differ, by the `weights` of its fit; then its predictions, too, are made once for
each different row and given to all customers who have it.

pymc-marketing takes 800 MB, and asks for packages of its own; so it is not among the
requirements. To have its row, make an interpreter for it and name that:

    python -m venv /tmp/pymc && /tmp/pymc/bin/pip install pymc-marketing
    PYMC_PYTHON=/tmp/pymc/bin/python python benchmarks/bench_05_customer_value.py
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

Steps = dict[str, float]
Answers = dict[str, float]  # what all have to agree on
Measured = tuple[Steps, Answers]
Peers = dict[str, Callable[[Any], Measured]]
SUMMARY = "log to x, t_x, T, mean"
BGNBD_FIT = "BG/NBD fit"
MONEY_FIT = "Gamma-Gamma fit"
ALIVE = "P(alive)"
ORDERS = "E[orders] in 39 weeks"
VALUE = "12-month discounted value"
END = "end to end"


def timed(steps: Steps, name: str, run: Callable[[], Any]) -> Any:
    """Run a step, and keep the processor's seconds that it took."""
    start = seconds()
    result = run()
    steps[name] = seconds() - start
    return result


def seconds() -> float:
    """Return the processor's seconds so far, of a compiler that it started, too."""
    used = os.times()
    return time.process_time() + used.children_user + used.children_system


def answers_of(alive: Any, orders: Any) -> Answers:
    """Return sums over all customers, each of whom has to have an answer."""
    return {
        "customers": len(np.ravel(alive)),
        "alive": float(np.sum(np.asarray(alive))),
        "orders": float(np.sum(np.asarray(orders))),
    }


def frame_of(log: Any) -> Any:
    """Return the orders as lifetimes wants them."""
    epoch = log.day - np.datetime64("1970-01-01").astype(object).toordinal()
    days = pd.to_datetime(epoch.astype("datetime64[D]"))
    return pd.DataFrame({"id": log.customer, "day": days, "paid": log.amount})


def summary(steps: Steps, log: Any) -> Any:
    """Return lifetimes' summary of a log; both ways begin with it."""
    utils = importlib.import_module("lifetimes.utils")
    frame = frame_of(log)
    last = frame["day"].max()

    def run() -> Any:
        return utils.summary_data_from_transaction_data(
            frame, "id", "day", "paid", observation_period_end=last
        )

    return timed(steps, SUMMARY, run)


def as_its_tutorial(log: Any) -> Measured:
    """Return the seconds of each step of lifetimes on every customer."""
    lifetimes = importlib.import_module("lifetimes")
    steps: Steps = {}
    s = summary(steps, log)
    x, t_last, age = s["frequency"], s["recency"] / 7, s["T"] / 7
    z = s["monetary_value"]
    paid = (x > 0) & (z > 0)
    fit = timed(steps, BGNBD_FIT, lambda: lifetimes.BetaGeoFitter().fit(x, t_last, age))
    money = timed(
        steps, MONEY_FIT, lambda: lifetimes.GammaGammaFitter().fit(x[paid], z[paid])
    )
    p_alive = fit.conditional_probability_alive
    alive = timed(steps, ALIVE, lambda: p_alive(x, t_last, age))
    expected = fit.conditional_expected_number_of_purchases_up_to_time
    orders = timed(steps, ORDERS, lambda: expected(39, x, t_last, age))

    def value() -> Any:
        return money.customer_lifetime_value(
            fit, x, t_last, age, z, time=12, discount_rate=0.008, freq="W"
        )

    timed(steps, VALUE, value)
    steps[END] = sum(steps.values())
    return steps, answers_of(alive, orders)


def on_distinct_rows(log: Any) -> Measured:
    """Return the seconds of each step of lifetimes on the rows that differ."""
    lifetimes = importlib.import_module("lifetimes")
    utils = importlib.import_module("lifetimes.utils")
    steps: Steps = {}
    s = summary(steps, log)
    z = s["monetary_value"]
    keys = ["frequency", "recency", "T"]
    start = time.process_time()
    # Which distinct row each customer has, and how many customers each row.
    place = s.groupby(keys, sort=False).ngroup().to_numpy()
    rows = s[keys].groupby(place).first()
    count = np.bincount(place)
    grouping = time.process_time() - start
    x, t_last, age = rows["frequency"], rows["recency"] / 7, rows["T"] / 7
    weights = pd.Series(count, index=rows.index)
    fit = timed(
        steps,
        BGNBD_FIT,
        lambda: lifetimes.BetaGeoFitter().fit(x, t_last, age, weights=weights),
    )
    steps[BGNBD_FIT] += grouping
    again = s[(s["frequency"] > 0) & (z > 0)]

    def money_fit() -> Any:
        pairs = again.groupby(["frequency", "monetary_value"], sort=False).size()
        pairs = pairs.reset_index(name="n")
        return lifetimes.GammaGammaFitter().fit(
            pairs["frequency"], pairs["monetary_value"], weights=pairs["n"]
        )

    money = timed(steps, MONEY_FIT, money_fit)
    p_alive = fit.conditional_probability_alive
    alive = timed(steps, ALIVE, lambda: np.asarray(p_alive(x, t_last, age))[place])
    expected = fit.conditional_expected_number_of_purchases_up_to_time
    orders = timed(
        steps, ORDERS, lambda: np.asarray(expected(39, x, t_last, age))[place]
    )

    def value() -> Any:
        # An order's value is everybody's own; how many orders come is the row's.
        ones = pd.Series(1.0, index=rows.index)
        orders = utils._customer_lifetime_value(
            fit, x, t_last, age, ones, 12, 0.008, "W"
        )
        mean = money.conditional_expected_average_profit(s["frequency"], z)
        return np.asarray(orders)[place] * np.asarray(mean)

    timed(steps, VALUE, value)
    steps[END] = sum(steps.values())
    return steps, answers_of(alive, orders)


class Fitted:
    """A model of clvkit's that its CLV need not fit again."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def fit(self, _: Any) -> Any:
        return self.model

    def predict(self, *given: Any) -> Any:
        return self.model.predict(*given)


def by_clvkit(log: Any) -> Measured:
    """Return the seconds of each step of clvkit, whose value goes week by week."""
    clvkit = importlib.import_module("clvkit")
    steps: Steps = {}
    frame = frame_of(log)

    def summarised() -> Any:
        return clvkit.CustomerBase.from_transactions(
            frame,
            "id",
            "day",
            "paid",
            time_unit="W",
            collapse="D",
            observation_period_end=frame["day"].max(),
        )

    base = timed(steps, SUMMARY, summarised)
    fit = timed(steps, BGNBD_FIT, lambda: clvkit.BGNBD().fit(base))
    money = timed(steps, MONEY_FIT, lambda: clvkit.GammaGamma().fit(base))
    alive = timed(steps, ALIVE, lambda: fit.probability_alive().to_pandas())
    orders = timed(steps, ORDERS, lambda: fit.predict(39).to_pandas())
    whole = clvkit.CLV(Fitted(fit), Fitted(money), check_independence=False).fit(base)
    rate = 1.008 ** (12 / 52) - 1  # 0.8 % a month
    timed(steps, VALUE, lambda: whole.predict(horizon=52, discount_rate=rate))
    steps[END] = sum(steps.values())
    return steps, answers_of(alive, orders)


def by_pymc_marketing(log: Any) -> Measured:
    """Return the seconds of pymc-marketing's fits by maximum a posteriori."""
    interpreter = os.environ.get("PYMC_PYTHON")
    return elsewhere(interpreter, log) if interpreter else by_maximum(log)


def by_maximum(log: Any) -> Measured:
    """Return the same, in this process."""
    clv = importlib.import_module("pymc_marketing.clv")
    steps: Steps = {}
    frame = frame_of(log)
    last = frame["day"].max()

    def summarised() -> Any:
        # By the day, so that no orders of different days merge; the models by the week.
        days = clv.rfm_summary(
            frame, "id", "day", "paid", observation_period_end=last, time_unit="D"
        )
        return days.assign(recency=days["recency"] / 7, T=days["T"] / 7)

    s = timed(steps, SUMMARY, summarised)
    paid = s[(s["frequency"] > 0) & (s["monetary_value"] > 0)]
    fit = clv.BetaGeoModel()
    timed(steps, BGNBD_FIT, lambda: fit.fit(s, method="map", progressbar=False))
    money = clv.GammaGammaModel()
    timed(steps, MONEY_FIT, lambda: money.fit(paid, method="map", progressbar=False))
    alive = timed(steps, ALIVE, lambda: fit.expected_probability_alive(s))
    orders = timed(steps, ORDERS, lambda: fit.expected_purchases(s, future_t=39))

    def value() -> Any:
        return money.expected_customer_lifetime_value(
            fit, s.copy(), future_t=12, discount_rate=0.008, time_unit="W"
        )

    timed(steps, VALUE, value)
    steps[END] = sum(steps.values())
    return steps, answers_of(alive, orders)


def pymc_version() -> str:
    """Return what is measured in another interpreter, empty if nothing is."""
    interpreter = os.environ.get("PYMC_PYTHON")
    if not interpreter:
        return ""
    name = "pymc-marketing"
    ask = f"from importlib.metadata import version; print(version({name!r}))"
    done = subprocess.run(
        [interpreter, "-c", ask], capture_output=True, check=False, text=True
    )
    return f"{name} {done.stdout.strip()}" if done.returncode == 0 else ""


def elsewhere(interpreter: str, log: Any) -> Measured:
    """Return what another interpreter measures, which has pymc-marketing."""
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "log.npz"
        np.savez(saved, customer=log.customer, day=log.day, amount=log.amount)
        done = subprocess.run(
            [interpreter, __file__, str(saved)],
            capture_output=True,
            check=False,
            text=True,
        )
    if done.returncode:
        last = (done.stderr.splitlines() or [""])[-1]
        raise RuntimeError(last)
    # Its packages may print, too: the answer is the last line.
    steps, answers = json.loads(done.stdout.splitlines()[-1])
    return steps, answers


FULL: Peers = {
    "lifetimes, tutorial": as_its_tutorial,
    "lifetimes, distinct rows": on_distinct_rows,
}
# Their fits go through all customers several hundred times.
AT_A_TENTH: Peers = {
    "clvkit": by_clvkit,
    "pymc-marketing, MAP": by_pymc_marketing,
}


def measured(peer: Callable[[Any], Measured], log: Any) -> Measured | str:
    """Return a peer's seconds and answers, or in a word why there are none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # their own, of old pandas and of logarithms
        try:
            return peer(log)
        except ModuleNotFoundError as missing:
            how = "; PYMC_PYTHON names an interpreter that has it"
            return f"not installed{how if 'pymc' in str(missing) else ''}"
        except Exception as problem:
            return f"failed: {type(problem).__name__}: {problem}"


if __name__ == "__main__":  # `elsewhere`
    columns = np.load(sys.argv[1])
    warnings.simplefilter("ignore")
    print(json.dumps(by_maximum(SimpleNamespace(**columns))))
