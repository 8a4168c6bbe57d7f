"""Gamma-Gamma: its likelihood with derivatives, its fit; logarithms of Gamma.

Fader, Hardie and Lee 2005, Journal of Marketing Research 42.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from course.analytics.arrays import Floats, Ints, starts
from course.analytics.bgnbd import MIN_REPEATERS
from course.analytics.fitrows import checked_spends
from course.analytics.newton import Terms, by_logs, maximum
from course.errors import BadInput

LEAST_Q = 1.1  # at 1 the mean of everybody's orders would be infinite
SMALLEST_SUM = 0.01  # of the largest: below, and from LARGEST_SUM on, the unit differs
LARGEST_SUM = 2.0e8
MOST_DIGITS = 13  # of a sum in any other unit
UNIT_BITS = 48  # of a sum in small units, beside 15 of a number of orders
PLACES = 6  # decimals of a sum: cents are exact, and so are most other units
MANY_ROWS = 20_000  # above, a part of them is climbed first: each EVERY_NTH-th row
EVERY_NTH = 16
STEPS_UP = 8  # from here on, Stirling's series is exact to the last digit


class GammaFunctions(NamedTuple):
    """ln Gamma and its first two derivatives at the same places."""

    log: Floats
    digamma: Floats
    trigamma: Floats


def gamma_terms(v: Floats) -> GammaFunctions:
    """Return ln Gamma, digamma and trigamma: Stirling's series some units above v."""
    y = v + STEPS_UP
    i = y**-2.0
    # Each series is nested, from its last term outwards.
    series = 1 / 1260 - i / 1680
    series = 1 / 360 - i * series
    series = 1 / 12 - i * series
    log = (y - 0.5) * np.log(y) - y
    log = log + math.log(2 * math.pi) / 2 + series / y
    series = 1 / 252 - i / 240
    series = 1 / 120 - i * series
    series = 1 / 12 - i * series
    digamma = np.log(y) - 0.5 / y - i * series
    series = 1 / 42 - i / 30
    series = 1 / 30 - i * series
    series = 1 / 6 - i * series
    trigamma = 1 / y + i / 2 + i / y * series
    # Back down to v: Gamma(v + 1) = v x Gamma(v), so each step is one summand.
    steps = v + np.arange(STEPS_UP)[:, None]
    log = log - np.log(steps).sum(0)
    digamma = digamma - (1 / steps).sum(0)
    trigamma = trigamma + (steps**-2.0).sum(0)
    return GammaFunctions(log, digamma, trigamma)


def log_gamma(v: Floats | float) -> Floats:
    """Return ln Gamma."""
    return gamma_terms(np.atleast_1d(v)).log


def gamma_gamma_terms(  # noqa: PLR0917 (data, then parameters)
    x: Ints,
    z: Floats,
    p: float,
    q: float,
    gamma: float,
    count: Floats | None = None,
) -> Terms:
    """Return the log-likelihood of means z of x orders; derivatives by p, q, gamma.

    Of a customer: ln Gamma(px + q) - ln Gamma(px) - ln Gamma(q) + q ln gamma
    + (px - 1) ln z + px ln x - (px + q) ln(gamma + xz).
    """
    # Gamma functions depend on x alone: computed once for each x that occurs.
    each = np.ones(len(x)) if count is None else count  # customers of each row
    n = float(each.sum())
    of_x = np.bincount(x, each)
    k = np.flatnonzero(of_x)  # the different x, and how many customers have each
    weight = of_x[k]
    both = gamma_terms(p * k + q)
    own = gamma_terms(p * k)
    of_q = gamma_terms(np.array([q]))
    log_gamma_q, digamma_q, trigamma_q = (float(term[0]) for term in of_q)
    spent = gamma + x * z
    log_z = np.log(z)
    total = np.log(spent)
    part = 1 / spent
    shape = each * (p * x + q)
    orders = each * x
    # What p is multiplied by: ln z + ln x, x times each.
    scale = float(orders @ log_z + weight @ (k * np.log(k)))
    value = weight @ (both.log - own.log)
    value = value + n * (q * math.log(gamma) - log_gamma_q)
    value = value + p * scale
    value = value - each @ log_z - shape @ total
    by_p = weight @ (k * (both.digamma - own.digamma))
    by_p = by_p + scale - orders @ total
    of_q_alone = n * (math.log(gamma) - digamma_q)
    by_q = weight @ both.digamma + of_q_alone - each @ total
    by_gamma = n * q / gamma - shape @ part
    pp = weight @ (k**2 * (both.trigamma - own.trigamma))
    pq = weight @ (k * both.trigamma)
    pg = -(orders @ part)
    qq = weight @ both.trigamma - n * trigamma_q
    qg = n / gamma - each @ part
    gg = shape @ part**2 - n * q / gamma**2
    slope = np.array([by_p, by_q, by_gamma])
    row_p = [pp, pq, pg]
    row_q = [pq, qq, qg]
    row_gamma = [pg, qg, gg]
    curve = np.array([row_p, row_q, row_gamma])
    return Terms(float(value), slope, curve)


class FittedGammaGamma(NamedTuple):
    """The parameters found, by the names of the lesson's model."""

    p: float
    q: float
    gamma: float
    log_likelihood: float  # of the means of repeat orders


class SpendRows(NamedTuple):
    """The different numbers and means of repeat orders, and who has each."""

    x: Ints
    z: Floats
    customers: Floats


def spend_rows(x: Ints, mean_spend: Floats, count: Ints | None) -> SpendRows:
    """Return the rows that differ, in one order: the same from a log or a summary.

    Those who paid nothing for repeat orders are left out.
    """
    spend = x * mean_spend
    # The sum of amounts again, without its rounding: a whole number of small units.
    largest = float(spend.max(initial=0)) or 1.0
    scale = 10.0**PLACES
    if not SMALLEST_SUM < largest < LARGEST_SUM:
        scale = 10.0**MOST_DIGITS / largest
    units = np.rint(spend * scale).astype(np.int64)
    paid = (x > 0) & (units > 0)
    # Number and sum in one integer: sorted and compared at once.
    key = x[paid] << UNIT_BITS | units[paid]
    if count is None:
        key.sort()
        number = np.ones(len(key))
    else:
        order = np.argsort(key)
        key = key[order]
        number = count[paid][order].astype(np.float64)
    first = starts(key)
    key = key[first]
    orders = key >> UNIT_BITS
    total = (key & (1 << UNIT_BITS) - 1) / scale
    customers = np.add.reduceat(number, first) if len(key) else number
    return SpendRows(orders, total / np.maximum(orders, 1), customers)


def terms_of(x: Ints, z: Floats, customers: Floats) -> Callable[..., Terms]:
    """Return the log-likelihood of rows as a function of p, q - LEAST_Q and gamma."""

    def terms(p: float, q: float, gamma: float) -> Terms:
        return gamma_gamma_terms(x, z, p, LEAST_Q + q, gamma, customers)

    return terms


def fitted_gamma_gamma(
    x: Ints, mean_spend: Floats, count: Ints | None = None
) -> FittedGammaGamma:
    """Return the maximum for those who paid for a repeat order.

    `count` says how many customers each row stands for, by default one. Raises
    BadInput if they are too few.
    """
    rows = spend_rows(*checked_spends(x, mean_spend, count))
    payers = int(rows.customers.sum())
    if payers < MIN_REPEATERS:
        said = f"{payers} customers paid for repeat orders"
        raise BadInput(f"{said}, {MIN_REPEATERS} needed")
    # Else the bounds of `maximum` depend on the currency.
    unit = float(rows.customers @ rows.z) / payers
    rows = rows._replace(z=rows.z / unit)
    start = np.zeros(3)
    if len(rows.x) > MANY_ROWS:
        # Most of the way up is climbed on a part: all rows only take the last steps.
        part = [column[::EVERY_NTH] for column in rows]
        start = maximum(by_logs(terms_of(*part)), start).place
    top = maximum(by_logs(terms_of(*rows)), start)
    p, q, gamma = np.exp(top.place).tolist()
    # Back in the currency of the log: the density of z shrinks as its unit grows.
    log_likelihood = top.value - payers * math.log(unit)
    return FittedGammaGamma(p, LEAST_Q + q, gamma * unit, log_likelihood)
