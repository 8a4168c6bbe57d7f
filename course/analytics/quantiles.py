"""Quantiles of what customers may spend, for all of them at once.

Given that customers are alive, their futures depend on x and T alone, but for the unit
in which they pay. So futures are drawn once for each different pair, by a seed of its
own: a customer gets the same answer alone and among a million.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from course.analytics.arrays import Floats, Ints
from course.analytics.rates import SEED

PAIR_DRAWS = 1_000  # possible futures of a pair


class Futures(NamedTuple):
    """What each customer may spend."""

    quantiles: Floats  # (customers, quantiles)
    chance: Floats  # of any spend


def unit_spends(forecast: Any, x: int, age: int, days: float) -> Floats:
    """Return possible spends, sorted, of one who is alive and pays in units of 1."""
    rng = np.random.default_rng([SEED, x, age])
    fit = forecast.bgnbd
    money = forecast.money
    rate = rng.gamma(fit.r + x, 1 / (fit.alpha + age / 7), PAIR_DRAWS)
    leave = rng.beta(fit.a, fit.b + x, PAIR_DRAWS).clip(1e-9, 1)
    wanted = rng.poisson(rate * days / 7)
    orders = np.minimum(wanted, rng.geometric(leave))
    # A mean order of each future; the sum of so many gamma orders is gamma, too.
    shared = rng.gamma(money.p * x + money.q, 1, PAIR_DRAWS)
    return np.sort(rng.gamma(money.p * orders) / shared)


def spend_quantiles(
    forecast: Any, rows: Ints, days: float, wanted: Sequence[float]
) -> Futures:
    """Return quantiles of what the customers in these rows spend in the next days.

    The parameters are taken as known.
    """
    t = forecast.table
    x = t.x[rows]
    age = t.age[rows]
    live = forecast.live[rows]
    unit = forecast.money.gamma + x * t.mean_spend[rows]
    width = int(t.age.max()) + 1
    pairs, place = np.unique(x * width + age, return_inverse=True)
    found = np.zeros((len(rows), len(wanted)))
    chance = np.zeros(len(rows))
    # Rows by pair: those of the first pair, then those of the second ...
    order = np.argsort(place, kind="stable")
    ends = np.searchsorted(place[order], np.arange(len(pairs) + 1))
    levels = np.linspace(0, 1, PAIR_DRAWS)
    for number, pair in enumerate(pairs.tolist()):
        mine = order[ends[number] : ends[number + 1]]
        repeats, old = divmod(pair, width)
        spends = unit_spends(forecast, repeats, old, days)
        alive = live[mine]
        chance[mine] = alive * (spends > 0).mean()
        for column, q in enumerate(wanted):
            # With the chance that a customer has left, nothing is spent.
            level = (q - (1 - alive)) / np.maximum(alive, 1e-12)
            found[mine, column] = np.interp(level, levels, spends, left=0)
    return Futures(found * unit[:, None], chance)
