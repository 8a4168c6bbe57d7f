"""BG/NBD: its likelihood with derivatives on the rows that differ, its fit, E[orders].

Fader, Hardie and Lee 2005, Marketing Science 24(2). Lesson 05 has the formula.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from course.analytics.arrays import BITS, DAY, Floats, Ints, starts
from course.analytics.newton import BOUND, Terms, by_logs, maximum
from course.errors import BadInput

MIN_REPEATERS = 10  # under this, four parameters have nothing to hold on to
LIKELIHOOD_RATIO = 3.84  # the 95 % quantile of chi-square with one degree


class Collapsed:
    """What the likelihood needs of any number of customers, by units of time.

    Sums over customers become sums over x and over T; only one term needs rows, those
    of different (x, t_x, T) with x > 0, and how many customers each stands for.
    """

    def __init__(self, x: Ints, t_last: Ints, age: Ints, per_week: float) -> None:
        # Three numbers in one integer: sorted and compared at once.
        key = (x << 2 * BITS | t_last << BITS | age)[x > 0]
        key.sort()
        first = starts(key)
        self.weight = np.diff(np.append(first, len(key))).astype(np.float64)
        self.x = key[first] >> 2 * BITS
        self.t_last = key[first] >> BITS & DAY
        self.age = key[first] & DAY
        self.by_age = np.bincount(age)
        self.repeats_by_age = np.bincount(age, x)
        self.clock = np.arange(len(self.by_age)) / per_week
        self.above = len(x) - np.bincount(x).cumsum()[:-1]  # customers with x > i


def nbd_terms(data: Collapsed, r: float, alpha: float) -> Terms:
    """Return the log-likelihood of buying without dropout; derivatives by r, alpha."""
    # ln Gamma(r + x) - ln Gamma(r) is the sum of ln(r + i) over i < x: summed over
    # customers, each i counts as often as somebody has more than i repeat orders.
    i = np.arange(len(data.above))
    n = data.by_age.sum()
    wait = np.log(alpha + data.clock)
    pace = 1 / (alpha + data.clock)
    rows = r * data.by_age + data.repeats_by_age
    value = data.above @ np.log(r + i) + n * r * math.log(alpha) - rows @ wait
    by_r = data.above @ (1 / (r + i)) + n * math.log(alpha) - data.by_age @ wait
    by_alpha = n * r / alpha - rows @ pace
    by_r_r = -data.above @ (r + i) ** -2
    by_r_alpha = n / alpha - data.by_age @ pace
    by_alpha_alpha = rows @ pace**2 - n * r / alpha**2
    curve = [[by_r_r, by_r_alpha], [by_r_alpha, by_alpha_alpha]]
    return float(value), np.array([by_r, by_alpha]), np.array(curve)


def dropout_terms(data: Collapsed, r: float, alpha: float, a: float, b: float) -> Terms:
    """Return the sum of ln(1 + e^odds) over customers with x > 0, and derivatives.

    `odds` are the log odds of having dropped out after the last order.
    """
    x = data.x
    wait = np.log(alpha + data.clock)
    pace = 1 / (alpha + data.clock)
    idle = wait[data.age] - wait[data.t_last]
    slower = pace[data.age] - pace[data.t_last]
    slower_still = pace[data.age] ** 2 - pace[data.t_last] ** 2
    odds = math.log(a) - np.log(b + x - 1) + (r + x) * idle
    small = np.exp(-np.abs(odds))  # e^odds itself could overflow
    left = np.where(odds > 0, 1, small) / (1 + small)  # 1 - P(alive)
    gone = data.weight * left
    # By r, alpha, a, b: the derivatives of each row's odds.
    by = np.stack([idle, (r + x) * slower, np.full(len(x), 1 / a), -1 / (b + x - 1)])
    curve = by * (gone * (1 - left)) @ by.T
    curve[[0, 1], [1, 0]] += gone @ slower
    curve[1, 1] -= gone @ ((r + x) * slower_still)
    curve[2, 2] += -gone.sum() / a**2
    curve[3, 3] += gone @ by[3] ** 2
    value = data.weight @ (np.maximum(odds, 0) + np.log1p(small))
    return value, by @ gone, curve


def bgnbd_terms(data: Collapsed, r: float, alpha: float, a: float, b: float) -> Terms:
    """Return the BG/NBD log-likelihood (equation 6); derivatives by r, alpha, a, b."""
    i = np.arange(len(data.above))
    plain_value, plain_slope, plain_curve = nbd_terms(data, r, alpha)
    value, slope, curve = dropout_terms(data, r, alpha, a, b)
    value = plain_value + value
    value += data.above @ (np.log(b + i) - np.log(a + b + i))
    either = data.above @ (1 / (a + b + i))
    stay = data.above @ (1 / (b + i))
    curve[:2, :2] += plain_curve
    curve[2:, 2:] += data.above @ (a + b + i) ** -2.0
    curve[3, 3] -= data.above @ (b + i) ** -2.0
    return float(value), slope + np.array([*plain_slope, -either, stay - either]), curve


def weak_prior(theta: Floats) -> Terms:
    """Return a prior on ln a, ln b: dropout is neither certain nor impossible.

    ln f + ln(1 - f) - (ln k - ln 3)^2 / 4.5 with f = a/(a+b) and k = a+b.
    """
    k = np.logaddexp(*theta[2:])
    part = np.exp(theta[2:] - k)
    off = (k - math.log(3)) / 2.25
    bend = part.prod() * np.array([[1, -1], [-1, 1]])
    curve = -(2 + off) * bend - np.outer(part, part) / 2.25
    value = float(theta[2:].sum() - 2 * k - off**2 * 1.125)
    return value, np.pad(1 - (2 + off) * part, (2, 0)), np.pad(curve, (2, 0))


class FittedBgNbd(NamedTuple):
    """The parameters found, in the order in which the lesson's model has them."""

    r: float
    alpha: float
    a: float
    b: float
    log_likelihood: float
    identified: bool
    covariance: Floats  # of the logarithms


def fitted_bgnbd(
    x: Ints, t_last: Ints, age: Ints, per_week: float, guard: bool
) -> FittedBgNbd:
    """Return the maximum of the likelihood; BadInput if too few customers came back.

    With `guard` it is compared with the fit of a model without dropout. Where the data
    do not prefer it, a weak prior holds a and b, and `identified` is False.
    """
    repeaters = int((x > 0).sum())
    if repeaters < MIN_REPEATERS:
        said = f"{repeaters} of {len(x)} customers bought on more than one day"
        raise BadInput(f"{said}; the models need {MIN_REPEATERS} who did")
    data = Collapsed(x, t_last, age, per_week)
    # Any start will do that has the right unit of time.
    start = np.log([1, max(float(np.median(age)) / per_week, 0.1), 1, 1])
    free = by_logs(partial(bgnbd_terms, data))
    plain = by_logs(partial(nbd_terms, data))

    def held(theta: Floats) -> Terms:
        value, slope, curve = free(theta)
        prior_value, prior_slope, prior_curve = weak_prior(theta)
        return value + prior_value, slope + prior_slope, curve + prior_curve

    # Trap: without dropout in the data, the likelihood has a ridge to a = 0, b =
    # infinity. An optimiser stops on it somewhere, and reports that as a finding.
    theta, value, curve = maximum(free, start)
    identified = True
    if guard:
        ratio = 2 * (value - maximum(plain, start[:2])[1])
        inside = np.abs(theta[2:]).max() < BOUND
        identified = bool(ratio > LIKELIHOOD_RATIO and inside)
    if not identified:
        theta, _, curve = maximum(held, start)
    r, alpha, a, b = np.exp(theta).tolist()
    covariance = np.linalg.pinv(-curve)
    return FittedBgNbd(r, alpha, a, b, free(theta)[0], identified, covariance)


# region expected
def expected_orders(  # noqa: PLR0917 (the paper's order)
    r: float, alpha: float, a: float, b: float, x: Ints, age: Floats, weeks: Any
) -> Floats:
    """Return the orders expected of someone alive in the next weeks.

    Equation 10 after an Euler transform of its hypergeometric function: terms
    shrink like z^n with z < 1, nothing overflows, and a = 1 is no pole. Six digits
    hold while `weeks` are under 1,000 times alpha + age; beyond, terms are missing.
    """
    z = weeks / (alpha + age + weeks)
    e = a - 1
    c = a + b + x - 1
    slack = a + b - 1 - r
    term = slack * z + 0 * c
    total = term
    n = 1
    while n < 20_000 and (np.abs(term) > 1e-12 * np.abs(total)).any():
        term = term * z * ((slack + n) * (e + n) / (n + 1)) / (c + n)
        total = total + term
        n += 1
    log = np.log1p(-z)
    lead = -log if abs(e) < 1e-8 else -np.expm1(e * log) / e
    return np.asarray((c * lead - np.exp(e * log) * total).clip(0))


# endregion expected
