"""Customers of known habits, invented by a seed."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np

from course.analytics.arrays import Floats, Ints

ARRIVALS, SPAN = 84, 273  # days in which customers first buy; days until the cut
START = date(2024, 1, 1).toordinal()


def simulated_orders(
    n: int, seed: int, days: int, dropout: bool, *, truth: Any, money: Any
) -> tuple[Ints, Ints, Floats]:
    """Return customer, day and amount of each order of n customers of known habits.

    Round by round, who is still there waits for the next order, and after it leaves
    with a chance of its own.
    """
    rng = np.random.default_rng(seed)
    rate = rng.gamma(truth.r, 1 / truth.alpha, n).clip(1e-12) / 7
    leave = rng.beta(truth.a, truth.b, n) * dropout
    joined = rng.integers(ARRIVALS, size=n)
    who, now = np.arange(n), joined.astype(np.float64)
    buyers, times = [who], [joined]
    while len(who):
        now = now + rng.standard_exponential(len(who)) / rate[who]
        who, now = who[now < days], now[now < days]
        buyers.append(who)
        times.append(now.astype(np.int64))
        stay = rng.random(len(who)) >= leave[who]
        who, now = who[stay], now[stay]
    buyer, day = np.concatenate(buyers), np.concatenate(times)
    scale = money.gamma / rng.standard_gamma(money.q, n)
    amount = rng.standard_gamma(money.p, len(buyer)) * scale[buyer]
    return buyer, day + START, amount


def simulated_shop(customers: int, items: int, seed: int) -> tuple[Ints, Ints, Ints]:
    """Return a year's orders of customers with favourites and one of eight tastes."""
    rng, rows, rank = np.random.default_rng(seed), [], np.arange(items)
    for c in range(customers):
        appeal = np.where(rank % 8 == c % 8, 8, 0.3) / (rank + 1)
        some = rng.choice(items, 30, p=appeal / appeal.sum())
        for day in rng.integers(365, size=rng.integers(3, 12)):
            again = rng.random(3) < 0.4  # one of the six favourites, else a find
            picks = np.where(again, some[rng.integers(6, size=3)], rng.choice(some, 3))
            rows += [(c, START + int(day), int(item)) for item in picks]
    buyer, when, item = np.array(rows, np.int64).T
    return buyer, when, item
