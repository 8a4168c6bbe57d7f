"""Customers of known habits, invented by a seed."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from course.analytics.arrays import Floats, Ints
from course.errors import BadInput

ARRIVALS = 84  # days in which customers first buy
SPAN = 273  # days until the cut: 39 weeks, as in CDNOW
START = date(2024, 1, 1).toordinal()
TASTES = 8
KNOWN = 30  # items that a customer would ever buy
FAVOURITES = 6  # of them, bought again and again
LOYALTY = 0.4  # the chance that a favourite is picked
BASKET = 3  # items of an order


BYTES = 600  # of memory for a customer, at the peak of a study


def memory_left() -> int:
    """Return how many bytes this process may take, as far as the system tells."""
    limits = [1 << 62]
    with suppress(AttributeError, OSError, ValueError):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit"):
        with suppress(OSError, ValueError):
            limits.append(int(Path(path).read_text("ascii")))
    with suppress(ImportError):
        import resource  # noqa: PLC0415

        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        if soft != resource.RLIM_INFINITY:
            limits.append(soft)
    return min(limits)


def require_memory(customers: int) -> None:
    """Raise BadInput for more customers than there is memory for."""
    needed = customers * BYTES
    left = memory_left()
    if needed > left:
        most = left // BYTES
        said = f"about {needed / 1e9:.0f} GB of memory, and there are {left / 1e9:.0f}"
        raise BadInput(f"--simulate {customers}: it takes {said}; at most {most:,} fit")


class SimulatedOrders(NamedTuple):
    """Orders as columns, by the names of the lesson's log."""

    customer: Ints
    day: Ints
    amount: Floats


class SimulatedShop(NamedTuple):
    """Orders with items as columns, by the names of the lesson's log."""

    customer: Ints
    day: Ints
    amount: Floats
    ids: list[str]
    item: Ints
    items: list[str]


def simulated_orders(
    n: int,
    seed: int,
    days: int,
    dropout: bool,
    *,
    truth: Any,
    money: Any,
) -> SimulatedOrders:
    """Return the orders of n customers of known habits, from START on.

    `truth` and `money` have the parameters of BG/NBD and of Gamma-Gamma.
    """
    rng = np.random.default_rng(seed)
    # Each one's habits: orders a day, and the chance of leaving after an order.
    per_week = rng.gamma(truth.r, 1 / truth.alpha, n)
    rate = per_week.clip(1e-12) / 7
    leave = rng.beta(truth.a, truth.b, n)
    if not dropout:
        leave = np.zeros(n)
    buyer, day = visits(rng, rate, leave, days)
    # Each one's mean order, and around it each order.
    scale = money.gamma / rng.standard_gamma(money.q, n)
    shape = rng.standard_gamma(money.p, len(buyer))
    amount = shape * scale[buyer]
    return SimulatedOrders(buyer, day + START, amount)


def visits(rng: Any, rate: Floats, leave: Floats, days: int) -> tuple[Ints, Ints]:
    """Return who orders and on which day, for customers of these habits.

    Round by round, those who are still there wait for their next order, and after it
    leave with a chance of their own.
    """
    joined = rng.integers(ARRIVALS, size=len(rate))
    who = np.arange(len(rate))
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
    return np.concatenate(buyers), np.concatenate(times)


def simulated_shop(customers: int, items: int, seed: int) -> SimulatedShop:
    """Return a year's orders of customers with favourites and one of eight tastes."""
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
    return SimulatedShop(buyer, when, price, ids, bought, names)
