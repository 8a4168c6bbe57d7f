"""BG/NBD: its likelihood with derivatives on the rows that differ, its fit, E[orders].

Fader, Hardie and Lee 2005, Marketing Science 24(2). Lesson 05 has the formula, step by
step (`log_likelihoods`). The authors' note on the model in Excel writes a customer's
likelihood as A1 x A2 x (A3 + A4), A4 only where x > 0; those names are used here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from course.analytics.arrays import BITS, DAY, Floats, Ints, starts
from course.analytics.fitrows import checked_times
from course.analytics.newton import BOUND, Peak, Terms, by_logs, maximum
from course.errors import BadInput

MIN_REPEATERS = 10  # under this, four parameters have nothing to hold on to
LIKELIHOOD_RATIO = 3.84  # the 95 % quantile of chi-square with one degree
MOST_TERMS = 20_000  # of a series
SMALL_TERM = 1e-12  # beside the sum: adding more of them changes no printed digit
POLE = 1e-8  # nearer to a = 1 than this, the limit is exact
ALIKE = 30  # of r beyond a + b: so alike are customers that the series alternates
LEAST_E = 1e-5
HUGE = 1e200  # sums are scaled down from here
WIDEST = 2.0  # standard error of a logarithm: beyond, it is not known within 50 times


class Collapsed:
    """What the likelihood needs of any number of customers, by units of time.

    Sums over customers become sums over x and over T; only one term needs rows, those
    of different (x, t_x, T) with x > 0, and how many customers each stands for.
    """

    def __init__(
        self,
        x: Ints,
        t_last: Ints,
        age: Ints,
        per_week: float,
        count: Ints | None = None,
    ) -> None:
        x, t_last, age, count = checked_times(x, t_last, age, count)
        # Three numbers side by side in one integer: sorted and compared at once.
        packed = x << 2 * BITS
        packed = packed | t_last << BITS
        packed = packed | age
        again = x > 0
        key = packed[again]
        if count is None:
            key.sort()
            weight = np.ones(len(key))
        else:
            order = np.argsort(key)
            key = key[order]
            weight = count[again][order].astype(np.float64)
        first = starts(key)
        distinct = key[first]
        self.x = distinct >> 2 * BITS
        self.t_last = distinct >> BITS & DAY
        self.age = distinct & DAY
        self.weight = np.add.reduceat(weight, first)  # customers of each row
        self.customers = len(x) if count is None else int(count.sum())
        self.by_age = np.bincount(age, count)
        self.repeats_by_age = np.bincount(age, x if count is None else x * count)
        self.clock = np.arange(len(self.by_age)) / per_week  # each age in weeks
        # Of 0, 1, 2 ... repeat orders: how many customers have more than that.
        at_most = np.bincount(x, count).cumsum()
        self.above = self.customers - at_most[:-1]
        self.i = np.arange(len(self.above))


def nbd_terms(data: Collapsed, r: float, alpha: float) -> Terms:
    """Return ln A1 + ln A3: buying without dropout; derivatives by r, alpha.

    A1 = Gamma(r + x) / Gamma(r) x alpha^r, and A3 = (alpha + T)^-(r + x).
    """
    # ln Gamma(r + x) - ln Gamma(r) is the sum of ln(r + i) over i < x: summed over
    # customers, each i counts as often as somebody has more than i repeat orders.
    i = data.i
    n = data.customers
    log_alpha = math.log(alpha)
    wait = np.log(alpha + data.clock)
    pace = 1 / (alpha + data.clock)
    # r + x, summed over the customers of each age.
    power = r * data.by_age + data.repeats_by_age
    value = data.above @ np.log(r + i)
    value = value + n * r * log_alpha
    value = value - power @ wait
    by_r = data.above @ (1 / (r + i))
    by_r = by_r + n * log_alpha
    by_r = by_r - data.by_age @ wait
    by_alpha = n * r / alpha - power @ pace
    by_r_r = -data.above @ (r + i) ** -2
    by_r_alpha = n / alpha - data.by_age @ pace
    by_alpha_alpha = power @ pace**2 - n * r / alpha**2
    slope = np.array([by_r, by_alpha])
    row_r = [by_r_r, by_r_alpha]
    row_alpha = [by_r_alpha, by_alpha_alpha]
    curve = np.array([row_r, row_alpha])
    return Terms(float(value), slope, curve)


def dropout_terms(data: Collapsed, r: float, alpha: float, a: float, b: float) -> Terms:
    """Return ln(1 + A4 / A3), summed over customers with x > 0, and derivatives.

    A4 = a / (b + x - 1) x (alpha + t_x)^-(r + x). A4 / A3 are the odds of having
    dropped out after the last order.
    """
    x = data.x
    wait = np.log(alpha + data.clock)
    pace = 1 / (alpha + data.clock)
    # Of alpha + T beside alpha + t_x: the logarithm and its derivatives by alpha.
    idle = wait[data.age] - wait[data.t_last]
    slower = pace[data.age] - pace[data.t_last]
    slower_still = pace[data.age] ** 2 - pace[data.t_last] ** 2
    odds = math.log(a) - np.log(b + x - 1)
    odds = odds + (r + x) * idle
    # ln(1 + e^odds) by way of e^-|odds|: e^odds itself could overflow.
    small = np.exp(-np.abs(odds))
    each = np.maximum(odds, 0) + np.log1p(small)
    left = np.where(odds > 0, 1, small)
    left = left / (1 + small)  # 1 - P(alive)
    gone = data.weight * left
    # The derivatives of each row's odds.
    by_r = idle
    by_alpha = (r + x) * slower
    by_a = np.full(len(x), 1 / a)
    by_b = -1 / (b + x - 1)
    by = np.stack([by_r, by_alpha, by_a, by_b])
    spread = gone * (1 - left)
    curve = by * spread @ by.T
    # What the second derivatives of the odds add.
    by_r_alpha = gone @ slower
    curve[0, 1] += by_r_alpha
    curve[1, 0] += by_r_alpha
    curve[1, 1] -= gone @ ((r + x) * slower_still)
    curve[2, 2] -= gone.sum() / a**2
    curve[3, 3] += gone @ by_b**2
    value = data.weight @ each
    return Terms(float(value), by @ gone, curve)


def bgnbd_terms(data: Collapsed, r: float, alpha: float, a: float, b: float) -> Terms:
    """Return the BG/NBD log-likelihood (equation 6); derivatives by r, alpha, a, b."""
    buying = nbd_terms(data, r, alpha)
    leaving = dropout_terms(data, r, alpha, a, b)
    # Staying after each order but the last:
    # A2 = Gamma(b + x) / Gamma(b) x Gamma(a + b) / Gamma(a + b + x).
    i = data.i
    log_stay = np.log(b + i) - np.log(a + b + i)
    staying = data.above @ log_stay
    by_both = data.above @ (1 / (a + b + i))
    by_b = data.above @ (1 / (b + i))
    slope = leaving.slope
    slope[:2] += buying.slope
    slope[2] -= by_both
    slope[3] += by_b - by_both
    curve = leaving.curve
    curve[:2, :2] += buying.curve
    curve[2:, 2:] += data.above @ (a + b + i) ** -2.0
    curve[3, 3] -= data.above @ (b + i) ** -2.0
    value = buying.value + leaving.value + staying
    return Terms(float(value), slope, curve)


def weak_prior(theta: Floats) -> Terms:
    """Return a prior on ln a, ln b: dropout is neither certain nor impossible.

    ln f + ln(1 - f) - (ln k - ln 3)^2 / 4.5 with f = a/(a+b) and k = a+b.
    """
    logs = theta[2:]  # of a and b; r and alpha need none
    log_k = np.logaddexp(logs[0], logs[1])
    shares = np.exp(logs - log_k)  # f and 1 - f, the derivatives of ln k
    off = (log_k - math.log(3)) / 2.25
    value = logs.sum() - 2 * log_k - off**2 * 1.125
    slope = np.zeros(4)
    slope[2:] = 1 - (2 + off) * shares
    # The second derivatives of ln k: f (1 - f) with either sign.
    bend = shares.prod() * np.array([[1, -1], [-1, 1]])
    curve = np.zeros((4, 4))
    pull = np.outer(shares, shares) / 2.25
    curve[2:, 2:] = -(2 + off) * bend - pull
    return Terms(float(value), slope, curve)


def with_weak_prior(objective: Callable[[Floats], Terms]) -> Callable[[Floats], Terms]:
    """Return an objective plus the weak prior: where it climbs, a and b stay finite."""

    def held(theta: Floats) -> Terms:
        found = objective(theta)
        prior = weak_prior(theta)
        return Terms(
            value=found.value + prior.value,
            slope=found.slope + prior.slope,
            curve=found.curve + prior.curve,
        )

    return held


class FittedBgNbd(NamedTuple):
    """The parameters found, by the names of the lesson's model."""

    r: float
    alpha: float
    a: float
    b: float
    log_likelihood: float
    identified: bool
    covariance: Floats  # of the logarithms


def shows_dropout(data: Collapsed, top: Peak, start: Floats) -> bool:
    """Return whether a fit is better than one of the model without dropout."""
    # Trap: without dropout in the data, the likelihood has a ridge to a = 0, b =
    # infinity. An optimiser stops on it somewhere, and reports that as a finding.
    without_dropout = by_logs(partial(nbd_terms, data))
    plain = maximum(without_dropout, start[:2])
    ratio = 2 * (top.value - plain.value)
    inside = np.abs(top.place[2:]).max() < BOUND
    return bool(ratio > LIKELIHOOD_RATIO and inside)


def all_known(top: Peak, covariance: Floats) -> bool:
    """Return whether no parameter stands at its bound or is anybody's guess."""
    # Customers who buy like clockwork have no spread of rates: r and alpha run off
    # together, and only their ratio is a finding.
    inside = np.abs(top.place).max() < BOUND - 0.01
    variances = np.diag(covariance)
    certain = bool((variances >= 0).all() and (variances < WIDEST**2).all())
    return bool(inside and certain)


def fitted_bgnbd(  # noqa: PLR0917 (as the lesson's)
    x: Ints,
    t_last: Ints,
    age: Ints,
    per_week: float,
    guard: bool,
    count: Ints | None = None,
) -> FittedBgNbd:
    """Return the maximum of the likelihood; BadInput if too few customers came back.

    `count` says how many customers each row stands for, by default one.

    With `guard` it is compared with the fit of a model without dropout. Where the data
    do not prefer it, a weak prior holds a and b, and `identified` is False. So it is if
    any of the four stands at its bound, or has a standard error that says nothing.
    """
    data = Collapsed(x, t_last, age, per_week, count)
    repeaters = int(data.weight.sum())
    if repeaters < MIN_REPEATERS:
        said = f"{repeaters} of {data.customers} customers bought on more than one day"
        raise BadInput(f"{said}; the models need {MIN_REPEATERS} who did")
    # Any start with the right unit of time will do.
    at_most = np.cumsum(data.by_age)
    middle_age = int(np.searchsorted(at_most, data.customers / 2)) / per_week
    start = np.log([1, max(middle_age, 0.1), 1, 1])
    free = by_logs(partial(bgnbd_terms, data))

    top = maximum(free, start)
    identified = not guard or shows_dropout(data, top, start)
    if not identified:
        top = maximum(with_weak_prior(free), start)
    covariance = np.linalg.pinv(-top.curve)
    if guard:
        identified = identified and all_known(top, covariance)
    r, alpha, a, b = np.exp(top.place).tolist()
    return FittedBgNbd(
        r,
        alpha,
        a,
        b,
        log_likelihood=free(top.place).value,
        identified=identified,
        covariance=covariance,
    )


# region expected
def expected_orders(  # noqa: PLR0917 (the paper's order)
    r: float,
    alpha: float,
    a: float,
    b: float,
    x: Ints,
    age: Floats,
    weeks: Any,
) -> Floats:
    """Return the orders expected of someone alive in the next weeks.

    Equation 10 after an Euler transform of its hypergeometric function: terms
    shrink like z^n with z < 1, nothing overflows, and a = 1 is no pole. Six digits
    hold while `weeks` are under 1,000 times alpha + age; beyond, terms are missing.
    """
    # With F = 2F1(u, e; c; z), the orders are c/e x (1 - (1 - z)^e x F).
    z = weeks / (alpha + age + weeks)
    c = a + b + x - 1
    e = a - 1
    u = a + b - 1 - r
    # The terms below would alternate, and cancel each other's digits; or overflow.
    if not -ALIKE < u < MOST_TERMS:
        return orders_of_the_alike(z, r + x, b + x, e)
    # c/e x (F - 1), term by term: divided by e beforehand, it is finite at e = 0.
    term = u * z + 0 * c  # 0 * c: a number for each customer
    total = term
    for n in range(1, MOST_TERMS):
        still_counts = np.abs(term) > SMALL_TERM * np.abs(total)
        if not still_counts.any():
            break
        ratio = (u + n) * (e + n) / (n + 1)
        term = term * z * ratio / (c + n)
        total = total + term
    log = np.log1p(-z)  # ln(1 - z)
    power = np.exp(e * log)
    # (1 - (1 - z)^e) / e, whose limit at e = 0 is -ln(1 - z).
    at_pole = abs(e) < POLE
    lead = -log if at_pole else -np.expm1(e * log) / e
    orders = c * lead - power * total
    return np.asarray(orders.clip(0))


# endregion expected


def orders_of_the_alike(z: Floats, s: Floats, stay: Floats, e: float) -> Floats:
    """Return the same for extreme parameters, by the paper's own series, of one sign.

    Equation 10: c/e x (1 - (1 - z)^s x 2F1(s, stay; c; z)), s = r + x, stay = b + x.
    """
    if abs(e) < LEAST_E:
        e = LEAST_E  # near enough to the limit; nearer, 1 - ... loses its digits
    c = stay + e
    term = np.ones(np.broadcast_shapes(np.shape(z), np.shape(s)))
    total = term
    log_scale = np.zeros(term.shape)
    for n in range(MOST_TERMS):
        ratio = (s + n) * (stay + n) / (n + 1)
        term = term * z * ratio / (c + n)
        total = total + term
        too_large = np.abs(total) > HUGE
        if too_large.any():
            scale = np.where(too_large, 1 / HUGE, 1.0)
            term = term * scale
            total = total * scale
            log_scale = log_scale - np.log(scale)
        shrinks = z * (s + n) * (stay + n) < (n + 1) * (c + n)
        small = np.abs(term) < SMALL_TERM * np.abs(total)
        if (shrinks & small).all():
            break
    share = total * np.exp(log_scale + s * np.log1p(-z))
    orders = (1 - share) * c / e
    return np.asarray(orders.clip(0))
