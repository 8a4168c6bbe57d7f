"""Draws one of each block of neighbours by gain; the last ones are in none."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from course.analytics.arrays import Floats, Ints
from course.errors import BadInput


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
    number, without, with_offer, margin = customers
    chances = np.concatenate([without, with_offer])
    if (chances < 0).any() or (chances > 1).any():
        raise BadInput("a chance must lie between 0 and 1")
    # Who would have bought anyway takes the price cut, too.
    earned = with_offer * (margin - terms.price_cut)
    gain = earned - without * margin - terms.cost
    ranking = np.lexsort((number, -gain))
    pays = gain[ranking] > 0  # False for NaN
    best = ranking[pays][: terms.at_most]
    chosen = number[best]
    count = len(chosen) // terms.hold_one_in
    firsts = np.arange(count) * terms.hold_one_in
    hold = np.sort(chosen[firsts + rng.integers(0, terms.hold_one_in, count)])
    send = np.setdiff1d(chosen, hold)
    sent = np.isin(number, send)
    return Plan(send, hold, float(gain[sent].sum()))
