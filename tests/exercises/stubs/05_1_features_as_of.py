"""Features of customers, each as of a morning of its own, from what was known then."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np  # noqa: F401  (for your answer)

from course.analytics.arrays import Floats, Ints

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
    raise NotImplementedError
