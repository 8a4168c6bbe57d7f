"""Who bought what: an index of items and customers, and recall on later orders."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from course.analytics.arrays import Bools, Floats, Ints

RANKED = 10  # items of a ranking that is scored


def has_name(item: Ints, names: Sequence[str]) -> Bools:
    """Return which rows name an item; a row without one is still an order."""
    has = np.array([name != "" for name in names])
    return np.asarray(has[item])


def grouped(by: Ints, n: int, codes: Ints) -> list[Ints]:
    """Return the different codes that stand beside each of 0 to n - 1."""
    width = int(codes.max(initial=0)) + 1
    # Both codes in one integer, sorted: those beside 0 come first, then those beside 1.
    pairs = np.unique(by * width + codes)
    first_of_each = np.arange(1, n) * width
    cuts = np.searchsorted(pairs, first_of_each)
    return np.split(pairs % width, cuts)


def grouped_with_repeats(by: Ints, n: int, codes: Ints) -> list[Ints]:
    """Return the codes that stand beside each of 0 to n - 1, in their order."""
    order = np.argsort(by, kind="stable")
    in_order = by[order]
    cuts = np.searchsorted(in_order, np.arange(1, n))
    return np.split(codes[order], cuts)


class Baskets:
    """Items by customer, customers by item, what sells best, and mean prices."""

    def __init__(
        self,
        customer: Ints,
        item: Ints,
        amount: Floats,
        customers: int,
        items: int,
    ) -> None:
        # What each customer bought: each time, and each item once.
        self.bought = grouped_with_repeats(customer, customers, item)
        self.of_customer = grouped(customer, customers, item)
        self.buyers = grouped(item, items, customer)
        buyers_of_each = [len(buyers) for buyers in self.buyers]
        sold = np.array(buyers_of_each)
        # How many customers bought an item; 1 for none, as it is divided by.
        self.reach = np.maximum(sold, 1)
        best = np.argsort(-sold, kind="stable")
        # Only what somebody has bought by now: a later item is not known yet.
        known = np.count_nonzero(sold)
        self.popular: list[int] = best[:known].tolist()
        times = np.bincount(item, minlength=items)
        paid = np.bincount(item, amount, items)
        self.price = paid / np.maximum(times, 1)


def recalls(
    log: Any,
    later: Bools,
    rank: Callable[[int], Iterable[int]],
) -> Floats:
    """Return what share of up to ten later items was ranked, per known customer.

    `later` are the rows of the log that nobody had seen when the ranking was made.
    """
    named = has_name(log.item, log.items)
    known = np.unique(log.customer[named & ~later])
    tested = named & later & np.isin(log.customer, known)
    customers = log.customer[tested].tolist()
    items = log.item[tested].tolist()
    bought = defaultdict(set)
    for customer, item in zip(customers, items, strict=True):
        bought[customer].add(item)
    shares = []
    for customer, mine in bought.items():
        hits = mine & set(rank(customer))
        # Ten are ranked: of more than ten later items, ten can be found.
        possible = min(len(mine), RANKED)
        shares.append(len(hits) / possible)
    return np.array(shares)
