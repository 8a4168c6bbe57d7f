"""Possible futures of customers, drawn from what a forecast knows of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from course.analytics.arrays import Bools, Floats, Ints
from course.analytics.rates import SEED, SURVEYED, Z_95

DRAWS = 400  # possible futures of a customer
MEASURED = 500  # customers of a group whose futures are drawn for its total


def surveyed(n: int) -> Ints:
    """Return which of n rows a survey looks at: evenly, SURVEYED at most."""
    step = math.ceil(n / SURVEYED)
    return np.arange(0, n, step)


def possible_spends(
    forecast: Any,
    rows: Ints,
    days: float,
    seed: Sequence[int],
) -> Floats:
    """Return DRAWS possible spends of each row in the next days, (rows, DRAWS).

    Given the data, those alive have a rate of gamma(r + x, alpha + T), a chance of
    leaving of beta(a, b + x), and orders as Gamma-Gamma has them. The parameters are
    taken as known.
    """
    # The order of the draws is part of the result: with one seed, the same futures.
    rng = np.random.default_rng(seed)
    shape = (len(rows), DRAWS)
    fit = forecast.bgnbd
    money = forecast.money
    table = forecast.table
    # Columns: one number per customer, beside DRAWS futures.
    x = table.x[rows, None]
    age = table.age[rows, None] / 7
    mean_spend = table.mean_spend[rows, None]
    chance_alive = forecast.live[rows, None]
    # Orders as if nobody left, and after how many of them each customer leaves.
    rate = rng.gamma(fit.r + x, 1 / (fit.alpha + age), shape)
    leave = rng.beta(fit.a, fit.b + x, shape)
    leave = leave.clip(1e-9, 1)  # geometric() refuses 0
    wanted = rng.poisson(rate * days / 7)
    until_leaving = rng.geometric(leave)
    orders = np.minimum(wanted, until_leaving)
    alive = rng.random(shape) < chance_alive
    orders = np.where(alive, orders, 0)
    # A mean order of each future; the sum of so many gamma orders is gamma, too.
    shared = rng.gamma(money.p * x + money.q, 1, shape)
    scale = (money.gamma + x * mean_spend) / shared
    return np.asarray(rng.gamma(money.p * orders) * scale)


def total_interval(
    forecast: Any, mine: Bools, days: float, missed: float
) -> tuple[float, float]:
    """Return the 95 % interval of these customers' value, widened by a miss.

    Its spread is that of what they may spend in the next days.
    """
    total = float(forecast.ltv[mine].sum())
    rows = np.flatnonzero(mine)
    if not len(rows):
        return total, total
    some = rows[:: math.ceil(len(rows) / MEASURED)]
    variances = possible_spends(forecast, some, days, [SEED]).var(axis=1)
    half = Z_95 * math.sqrt(float(variances.mean()) * len(rows))
    return widened(total - half, total + half, missed)


def widened(low: float, high: float, missed: float) -> tuple[float, float]:
    """Return an interval of a total, made wider by what a backtest's total missed.

    `missed` is a logarithm: 0 is a forecast that was right, 0.7 one by a factor of 2.
    """
    return max(low, 0.0) * math.exp(-missed), high * math.exp(missed)


def missed_by(spent: float, forecast: float) -> float:
    """Return how far off a total was, either way, as a logarithm; 0 if nobody knows."""
    if spent <= 0 or forecast <= 0:
        return 0.0
    return abs(math.log(spent / forecast))
