"""Log-likelihoods with gradient and Hessian: BG/NBD and Gamma-Gamma."""

from __future__ import annotations

import math

import numpy as np

from course.analytics.arrays import BITS, DAY, Floats, Ints, starts
from course.analytics.newton import Terms


class Collapsed:
    """What the likelihood needs of any number of customers, by units of time.

    Sums over customers become sums over x and over T; only one term needs rows, those
    of different (x, t_x, T) with x > 0, and how many customers each stands for.
    """

    def __init__(self, x: Ints, t_last: Ints, age: Ints, per_week: float) -> None:
        key = (x << 2 * BITS | t_last << BITS | age)[x > 0]
        key.sort()
        first = starts(key)
        self.weight = np.diff(np.append(first, len(key))).astype(np.float64)
        self.x, self.t_last = key[first] >> 2 * BITS, key[first] >> BITS & DAY
        self.age, self.by_age = key[first] & DAY, np.bincount(age)
        self.repeats_by_age = np.bincount(age, x)
        self.clock = np.arange(len(self.by_age)) / per_week
        self.above = len(x) - np.bincount(x).cumsum()[:-1]  # customers with x > i


# region likelihood
def nbd_terms(data: Collapsed, r: float, alpha: float) -> Terms:
    """Return the log-likelihood of buying without dropout; derivatives by r, alpha."""
    i, n = np.arange(len(data.above)), data.by_age.sum()
    wait, pace = np.log(alpha + data.clock), 1 / (alpha + data.clock)
    rows = r * data.by_age + data.repeats_by_age
    value = data.above @ np.log(r + i) + n * r * math.log(alpha) - rows @ wait
    by_r = data.above @ (1 / (r + i)) + n * math.log(alpha) - data.by_age @ wait
    both = n / alpha - data.by_age @ pace
    rr, aa = -data.above @ (r + i) ** -2, rows @ pace**2 - n * r / alpha**2
    slope = np.array([by_r, n * r / alpha - rows @ pace])
    return float(value), slope, np.array([[rr, both], [both, aa]])


def bgnbd_terms(data: Collapsed, r: float, alpha: float, a: float, b: float) -> Terms:
    """Return the BG/NBD log-likelihood; derivatives by r, alpha, a, b.

    Fader, Hardie and Lee 2005 (Marketing Science 24), equation 6. With `odds` the log
    odds of dropout after the last order, a customer with x > 0 adds ln(1 + e^odds).
    """
    i, x = np.arange(len(data.above)), data.x
    wait, pace = np.log(alpha + data.clock), 1 / (alpha + data.clock)
    idle, slower = (v[data.age] - v[data.t_last] for v in (wait, pace))
    odds = math.log(a) - np.log(b + x - 1) + (r + x) * idle
    small = np.exp(-np.abs(odds))
    left = np.where(odds > 0, 1, small) / (1 + small)  # 1 - P(alive)
    gone = data.weight * left
    by = np.stack([idle, (r + x) * slower, np.full(len(x), 1 / a), -1 / (b + x - 1)])
    curve = by * (gone * (1 - left)) @ by.T
    curve[[0, 1], [1, 0]] += gone @ slower
    curve[1, 1] -= gone @ ((r + x) * (pace[data.age] ** 2 - pace[data.t_last] ** 2))
    curve[[2, 3], [2, 3]] += -gone.sum() / a**2, gone @ by[3] ** 2
    value, slope, plain_curve = nbd_terms(data, r, alpha)
    value += data.weight @ (np.maximum(odds, 0) + np.log1p(small))
    value += data.above @ (np.log(b + i) - np.log(a + b + i))
    either, stay = data.above @ (1 / (a + b + i)), data.above @ (1 / (b + i))
    curve[:2, :2] += plain_curve
    curve[2:, 2:] += data.above @ (a + b + i) ** -2.0
    curve[3, 3] -= data.above @ (b + i) ** -2.0
    return float(value), by @ gone + [*slope, -either, stay - either], curve


# endregion likelihood


def weak_prior(theta: Floats) -> Terms:
    """Return a prior on ln a, ln b: dropout is neither certain nor impossible.

    ln f + ln(1 - f) - (ln k - ln 3)^2 / 4.5 with f = a/(a+b) and k = a+b.
    """
    k = np.logaddexp(*theta[2:])
    part, off = np.exp(theta[2:] - k), (k - math.log(3)) / 2.25
    bend = part.prod() * np.array([[1, -1], [-1, 1]])
    curve = -(2 + off) * bend - np.outer(part, part) / 2.25
    value = float(theta[2:].sum() - 2 * k - off**2 * 1.125)
    return value, np.pad(1 - (2 + off) * part, (2, 0)), np.pad(curve, (2, 0))


def gamma_terms(v: Floats) -> tuple[Floats, Floats, Floats]:
    """Return ln Gamma and two derivatives: Stirling's series eight units above v."""
    above, y, i = v + np.arange(8)[:, None], v + 8, (v + 8) ** -2.0
    series = (1 / 12 - i * (1 / 360 - i * (1 / 1260 - i / 1680))) / y
    value = (y - 0.5) * np.log(y) - y + math.log(2 * math.pi) / 2 + series
    first = np.log(y) - 0.5 / y - i * (1 / 12 - i * (1 / 120 - i * (1 / 252 - i / 240)))
    second = 1 / y + i / 2 + i / y * (1 / 6 - i * (1 / 30 - i * (1 / 42 - i / 30)))
    value, first = value - np.log(above).sum(0), first - (1 / above).sum(0)
    return value, first, second + (above**-2.0).sum(0)


def gamma_gamma_terms(x: Ints, z: Floats, p: float, q: float, gamma: float) -> Terms:
    """Return the log-likelihood of means z of x orders; derivatives by p, q, gamma."""
    n, k, weight = len(x), np.flatnonzero(count := np.bincount(x)), count[count > 0]
    sums, own = gamma_terms(p * k + q), gamma_terms(p * k)
    q0, q1, q2 = (float(g[0]) for g in gamma_terms(np.array([q])))
    total, part, shape = np.log(gamma + x * z), 1 / (gamma + x * z), p * x + q
    scale = float(x @ np.log(z) + weight @ (k * np.log(k)))
    value = weight @ (sums[0] - own[0]) + n * (q * math.log(gamma) - q0) + p * scale
    by_p = weight @ (k * (sums[1] - own[1])) + scale - x @ total
    by_q = weight @ sums[1] + n * (math.log(gamma) - q1) - total.sum()
    pp, pq = weight @ (k**2 * (sums[2] - own[2])), weight @ (k * sums[2])
    qq, qg, pg = weight @ sums[2] - n * q2, n / gamma - part.sum(), -(x @ part)
    gg = shape @ part**2 - n * q / gamma**2
    slope = np.array([by_p, by_q, n * q / gamma - shape @ part])
    curve = np.array([[pp, pq, pg], [pq, qq, qg], [pg, qg, gg]])
    return float(value - np.log(z).sum() - shape @ total), slope, curve
