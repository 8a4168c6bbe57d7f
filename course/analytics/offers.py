"""Offers of known truth: four kinds of customers, an experiment, and its score."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from course.analytics.arrays import Bools, Floats, Ints
from course.analytics.newton import fit_logistic, logistic
from course.analytics.rates import Z_95, interval_of_mean

# What an offer does: nothing to those who buy or stay away all the same; it wins the
# persuadable; and sleeping dogs, who would have bought, are reminded to leave.
KINDS = ("sure thing", "persuadable", "lost cause", "sleeping dog")
BUYS_WITHOUT = np.array([True, False, False, True])
BUYS_WITH = np.array([True, True, False, False])
MARGIN = 10.0  # of an order
PRICE_CUT = 2.0  # what an offer takes off the margin
COST = 1.0  # of sending it
POWER = 0.84  # standard errors: a true effect is found in 80 % of experiments


class Offers(NamedTuple):
    """Customers, of whom a random half was sent an offer: arrays of one length."""

    kind: Ints  # place in KINDS, which no shop knows
    inputs: Floats  # 1, silence, share of orders at a discount, and their products
    offered: Bools
    bought: Bools
    gain: Floats  # profit with an offer minus profit without
    effect: Ints  # orders with an offer minus orders without: 1, 0 or -1


def simulated_offers(n: int, seed: int) -> Offers:
    """Return an experiment with n customers, and what each would have done."""
    rng = np.random.default_rng(seed)
    silence = rng.random(n)
    discount = rng.random(n)
    # How strongly each kind is suggested. Who has long been silent is lost, or was
    # about to be charged again unnoticed; who likes discounts can be persuaded.
    strength = np.column_stack(
        [
            1.5 - 4 * silence,
            2.5 * discount - 20 * (silence - 0.35) ** 2 - 0.5,
            7 * silence - 3.5,
            4 * silence - 4 * discount - 0.5,
        ]
    )
    share = np.exp(strength)
    share = share / share.sum(axis=1, keepdims=True)
    # Where a random number falls among the shares that are added up.
    above = rng.random((n, 1)) > share.cumsum(axis=1)
    kind = np.minimum(above.sum(axis=1), len(KINDS) - 1)
    without = BUYS_WITHOUT[kind]
    with_offer = BUYS_WITH[kind]
    offered = rng.random(n) < 0.5
    gain = with_offer * (MARGIN - PRICE_CUT) - without * MARGIN - COST
    columns = [np.ones(n), silence, discount, silence**2, discount * silence]
    return Offers(
        kind=kind,
        inputs=np.column_stack(columns),
        offered=offered,
        bought=np.where(offered, with_offer, without),
        gain=gain,
        effect=with_offer.astype(int) - without,
    )


def chance_of_order(past: Offers, rows: Bools, inputs: Floats) -> Floats:
    """Return the chance of an order, as learnt from some rows of an experiment."""
    weights = fit_logistic(past.inputs[rows], past.bought[rows])
    return logistic(inputs, weights)


def best(score: Floats, share: float) -> Bools:
    """Return whose scores are among the highest share of all."""
    chosen = np.zeros(len(score), bool)
    chosen[np.argsort(-score, kind="stable")[: int(share * len(score))]] = True
    return chosen


def qini_curve(bought: Bools, offered: Bools, score: Floats) -> tuple[Floats, Floats]:
    """Return how many are targeted, best first, and the orders that offers won there.

    Orders of those with an offer, minus those of as many without (Radcliffe 2007); one
    point for each different score.
    """
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    treated = offered[order].cumsum()[ends]
    control = (~offered)[order].cumsum()[ends]
    with_offer = (bought & offered)[order].cumsum()[ends]
    without = (bought & ~offered)[order].cumsum()[ends]
    as_many = np.divide(treated, control, out=np.zeros(len(ends)), where=control > 0)
    won = with_offer - without * as_many
    return np.append(0, ends + 1), np.append(0, won)


def true_curve(effect: Ints, score: Floats) -> tuple[Floats, Floats]:
    """Return the same from what each would have done, for a random half with offers."""
    order = np.argsort(-score, kind="stable")
    won = effect[order].cumsum() / 2
    return np.arange(len(score) + 1), np.append(0, won)


def area_above_chance(curve: tuple[Floats, Floats]) -> float:
    """Return the area between a curve and the straight line to its end, per customer².

    The Qini coefficient: 0 for targets at random.
    """
    targeted, won = curve
    widths = np.diff(targeted)
    area = float(widths @ (won[1:] + won[:-1])) / 2
    n = float(targeted[-1])
    return (area - n * float(won[-1]) / 2) / n**2


def campaign(customers: Offers, score: Floats, share: float) -> dict[str, Any]:
    """Return what offers to the highest share of scores bring, and the score's Qini.

    Profit is that of each customer, with or without an offer, beside sending nothing.
    """
    profit = np.where(best(score, share), customers.gain, 0)
    seen = qini_curve(customers.bought, customers.offered, score)
    return {
        "profit each": float(profit.mean()),
        "95 %": interval_of_mean(profit),
        "Qini": area_above_chance(seen),
        "of the truth": area_above_chance(true_curve(customers.effect, score)),
    }


def customers_needed(without: float, with_offer: float) -> int:
    """Return how many each half of an experiment needs to find a difference of rates.

    Two-sided at 5 %, found in 80 % of experiments.
    """
    spread = without * (1 - without) + with_offer * (1 - with_offer)
    return math.ceil((Z_95 + POWER) ** 2 * spread / (with_offer - without) ** 2)


def share_that_find_it(
    without: float, with_offer: float, each: int, seed: int
) -> float:
    """Return in how many of 4,000 experiments the difference stands out."""
    rng = np.random.default_rng(seed)
    p = rng.binomial(each, without, 4_000) / each
    q = rng.binomial(each, with_offer, 4_000) / each
    error = np.sqrt((p * (1 - p) + q * (1 - q)) / each)
    return float((np.abs(q - p) > Z_95 * error).mean())
