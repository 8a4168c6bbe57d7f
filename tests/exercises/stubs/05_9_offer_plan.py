"""Who is sent an offer, and who is kept back to see what offers change."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from course.analytics.arrays import Floats, Ints
from course.errors import BadInput  # noqa: F401  (for your answer)


class Customers(NamedTuple):
    """Given: a value for each customer, in arrays of one length, in any order."""

    number: Ints  # each has one of its own
    without: Floats  # the chance of an order if nothing is sent; NaN if unknown
    with_offer: Floats  # the chance of an order with an offer; NaN if unknown
    margin: Floats  # of an order at full price


class Terms(NamedTuple):
    """Given: what an offer is and costs, and how many are chosen."""

    price_cut: float  # off the margin of each order that is placed with an offer
    cost: float  # of sending an offer, whatever comes of it
    at_most: int  # customers are chosen
    hold_one_in: int  # of the chosen, one in so many is kept back; at least 2


class Plan(NamedTuple):
    """Given: the chosen, by customer number, ascending."""

    send: Ints
    hold: Ints  # chosen, and kept back
    expected: float  # gain of those in `send`


def plan_offers(customers: Customers, terms: Terms, rng: np.random.Generator) -> Plan:
    """Return whom to send an offer, whom to keep back, and what the offers gain.

    A gain is the profit with an offer minus the profit without one, on average. Who is
    kept back is drawn from `rng`. Raises BadInput for a chance below 0 or above 1.
    """
    raise NotImplementedError
