"""Refunds: netted against the order that they cancel, else counted and summed."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from course.analytics.arrays import Bools, Floats, Ints

CENT = 1e-6  # amounts this near are one amount


def cancelled(
    customer: Ints, day: Ints, amount: Floats, item: Ints | None, usable: Bools
) -> tuple[Ints, Ints]:
    """Return the rows of refunds, and of the orders that they cancel, in pairs.

    A refund cancels the latest order before it, or of its day, of the same customer,
    item and amount.
    """
    refund = usable & (amount < 0)
    # Only rows of customers with a refund are looked at one by one.
    theirs = np.isin(customer, np.unique(customer[refund])) & usable
    rows = np.flatnonzero(theirs)
    order = np.lexsort((amount[rows] < 0, day[rows]))
    open_orders: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    refunds = []
    orders = []
    for row in rows[order].tolist():
        what = -1 if item is None else int(item[row])
        cents = round(abs(float(amount[row])) / CENT)
        key = (int(customer[row]), what, cents)
        if amount[row] > 0:
            open_orders[key].append(row)
        elif amount[row] < 0 and open_orders[key]:
            refunds.append(row)
            orders.append(open_orders[key].pop())
    return np.array(refunds, np.int64), np.array(orders, np.int64)


def net_refunds(
    refuser: Any, customer: Ints, day: Ints, amount: Floats, item: Ints | None
) -> dict[str, Any]:
    """Take out refunds with the orders that they cancel; return what was done."""
    refund = refuser.keep & (amount < 0)
    count = int(refund.sum())
    if not count:
        return {}
    total = float(amount[refund].sum())
    refunds, orders = cancelled(customer, day, amount, item, refuser.keep)
    netted = float(amount[refunds].sum())
    refuser.keep[refunds] = False
    refuser.keep[orders] = False
    return {
        "rows": count,
        "sum": round(total, 6),
        "netted": len(refunds),
        "netted_sum": round(netted, 6),
        "left_sum": round(total - netted, 6),
    }
