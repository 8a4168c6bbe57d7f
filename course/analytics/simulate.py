"""Customers of known habits, invented by a seed."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np

from course.analytics.arrays import Floats, Ints

ARRIVALS = 84  # days in which customers first buy
SPAN = 273  # days until the cut: 39 weeks, as in CDNOW
START = date(2024, 1, 1).toordinal()
TASTES = 8
KNOWN = 30  # items that a customer would ever buy
FAVOURITES = 6  # of them, bought again and again
LOYALTY = 0.4  # the chance that a favourite is picked
BASKET = 3  # items of an order


def simulated_orders(
    n: int, seed: int, days: int, dropout: bool, *, truth: Any, money: Any
) -> tuple[Ints, Ints, Floats]:
    """Return customer, day and amount of each order of n customers of known habits.

    `truth` and `money` have the parameters of BG/NBD and of Gamma-Gamma. Round by
    round, who is still there waits for the next order, and after it leaves with a
    chance of its own.
    """
    rng = np.random.default_rng(seed)
    # Each one's habits: orders a day, and the chance of leaving after an order.
    rate = rng.gamma(truth.r, 1 / truth.alpha, n).clip(1e-12) / 7
    leave = rng.beta(truth.a, truth.b, n)
    if not dropout:
        leave = np.zeros(n)
    joined = rng.integers(ARRIVALS, size=n)
    who = np.arange(n)
    now = joined.astype(np.float64)
    buyers = [who]
    times = [joined]
    while len(who):
        wait = rng.standard_exponential(len(who)) / rate[who]
        now = now + wait
        in_time = now < days
        who = who[in_time]
        now = now[in_time]
        buyers.append(who)
        times.append(now.astype(np.int64))
        stay = rng.random(len(who)) >= leave[who]
        who = who[stay]
        now = now[stay]
    buyer = np.concatenate(buyers)
    day = np.concatenate(times)
    # Each one's mean order, and around it each order.
    scale = money.gamma / rng.standard_gamma(money.q, n)
    amount = rng.standard_gamma(money.p, len(buyer)) * scale[buyer]
    return buyer, day + START, amount


def simulated_shop(
    customers: int, items: int, seed: int
) -> tuple[Ints, Ints, Floats, list[str], Ints, list[str]]:
    """Return a year's orders of customers with favourites and one of eight tastes.

    The columns are those of the lesson's log: customer, day, amount, ids, item, items.
    """
    rng = np.random.default_rng(seed)
    rank = np.arange(items)
    rows = []
    for c in range(customers):
        # Customers and items of the same taste go together; low ranks sell best.
        same_taste = rank % TASTES == c % TASTES
        appeal = np.where(same_taste, 8, 0.3) / (rank + 1)
        known = rng.choice(items, KNOWN, p=appeal / appeal.sum())
        orders = rng.integers(3, 12)
        for day in rng.integers(365, size=orders):
            again = rng.random(BASKET) < LOYALTY
            favourites = known[rng.integers(FAVOURITES, size=BASKET)]
            others = rng.choice(known, BASKET)
            for item in np.where(again, favourites, others):
                rows.append((c, START + int(day), int(item)))
    buyer, when, bought = np.array(rows, np.int64).T
    ids = [f"customer-{c}" for c in range(customers)]
    names = [f"item-{i:03}" for i in range(items)]
    price = 5.0 + bought % 7
    return buyer, when, price, ids, bought, names
