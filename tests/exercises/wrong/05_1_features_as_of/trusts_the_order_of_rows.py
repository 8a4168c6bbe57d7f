"""Takes the orders for sorted by customer, as an export usually is."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import NamedTuple

import numpy as np

from course.analytics.arrays import Floats, Ints, order_days

NEVER = -1  # in `cancelled`: nobody has called the order off


class Orders(NamedTuple):
    """Given: the orders as the warehouse has them today, in arrays of one length."""

    customer: Ints
    day: Ints  # on which the customer ordered
    recorded: Ints  # on which the order reached the warehouse: `day` or later
    cancelled: Ints  # on which its cancellation reached the warehouse, or NEVER
    amount: Floats


class Features(NamedTuple):
    """Given: a value for each question, in the order of the questions."""

    order_days: Ints  # different days with an order
    window_spend: Floats  # of the orders placed in the last `window` days
    days_since_last: Floats  # from the last day with an order to the morning, or NaN


def features_as_of(
    orders: Orders, customer: Ints, morning: Ints, window: int
) -> Features:
    """Return what was known of customer[i] when the day morning[i] began.

    Days are ordinals, `window` is at least 1. A customer of whom nothing was known has
    0 order days, a spend of 0, and NaN days since the last one. No input is changed.
    """
    question, row = pairs(orders.customer, customer)
    at = morning[question]
    cancelled = orders.cancelled[row]
    # The row tells how the order ended; at that time nobody could have known.
    standing = (cancelled == NEVER) | (cancelled >= at)
    known = (orders.recorded[row] < at) & standing
    question = question[known]
    day = orders.day[row[known]]
    amount = orders.amount[row[known]]

    asked = len(customer)
    who, _ = order_days(question, day)
    recent = day >= morning[question] - window
    last = np.full(asked, -1)
    np.maximum.at(last, question, day)
    return Features(
        order_days=np.bincount(who, minlength=asked),
        window_spend=np.bincount(question[recent], amount[recent], asked),
        days_since_last=np.where(last < 0, np.nan, morning - last),
    )


def pairs(of_order: Ints, asked: Ints) -> tuple[Ints, Ints]:
    """Return every question beside every order of its customer, as two positions."""
    # What numpy's own search finds in rows that are not sorted differs by its version.
    first = np.array([bisect_left(of_order, one) for one in asked], int)
    count = np.array([bisect_right(of_order, one) for one in asked], int) - first
    question = np.repeat(np.arange(len(asked)), count)
    begins = np.cumsum(count) - count
    place = np.arange(len(question)) - begins[question] + first[question]
    return question, place
