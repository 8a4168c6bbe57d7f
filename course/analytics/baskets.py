"""Who bought what: an index of items and customers, and recall on later orders."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from course.analytics.arrays import Bools, Floats, Ints


def has_name(item: Ints, names: Sequence[str]) -> Bools:
    """Return which rows name an item; a row without one is still an order."""
    named = np.array([name != "" for name in names])
    return np.asarray(named[item])


def grouped(by: Ints, n: int, codes: Ints) -> list[Ints]:
    """Return the different codes that stand beside each of 0 to n - 1."""
    width = int(codes.max(initial=0)) + 1
    # Both codes in one integer, sorted: those beside 0 come first, then those beside 1.
    pairs = np.unique(by * width + codes)
    cuts = np.searchsorted(pairs, np.arange(1, n) * width)
    return np.split(pairs % width, cuts)


class Baskets:
    """Items by customer, customers by item, what sells best, and mean prices."""

    def __init__(
        self, customer: Ints, item: Ints, amount: Floats, customers: int, items: int
    ) -> None:
        order = np.argsort(customer, kind="stable")
        cuts = np.searchsorted(customer[order], np.arange(1, customers))
        self.bought = np.split(item[order], cuts)  # of each customer, each time
        self.of_customer = grouped(customer, customers, item)  # each item once
        self.buyers = grouped(item, items, customer)
        sold = np.array([len(buyers) for buyers in self.buyers])
        self.reach = np.maximum(sold, 1)  # how many customers bought an item
        best = np.argsort(-sold, kind="stable")
        # Only what somebody has bought by now: a later item is not known yet.
        known = np.count_nonzero(sold)
        self.popular: list[int] = best[:known].tolist()
        times = np.bincount(item, minlength=items)
        paid = np.bincount(item, amount, items)
        self.price = paid / np.maximum(times, 1)


def recalls(log: Any, later: Bools, rank: Callable[[int], Iterable[int]]) -> Floats:
    """Return what share of up to ten later items was ranked, per known customer.

    `later` are the rows of the log that nobody had seen when the ranking was made.
    """
    customer = log.customer
    named = has_name(log.item, log.items)
    known = np.unique(customer[named & ~later])
    tested = named & later & np.isin(customer, known)
    bought = defaultdict(set)
    pairs = zip(customer[tested], log.item[tested], strict=True)
    for code, one in pairs:
        bought[int(code)].add(int(one))
    hits = []
    for code, mine in bought.items():
        found = mine & set(rank(code))
        hits.append(len(found) / min(len(mine), 10))
    return np.array(hits)
