"""Gamma-Gamma: its likelihood with derivatives, its fit; logarithms of Gamma.

Fader, Hardie and Lee 2005, Journal of Marketing Research 42.
"""

from __future__ import annotations

import math

import numpy as np

from course.analytics.arrays import Floats, Ints
from course.analytics.bgnbd import MIN_REPEATERS
from course.analytics.newton import Terms, by_logs, maximum
from course.errors import BadInput

LEAST_Q = 1.1  # at 1 the mean of everybody's orders would be infinite


def gamma_terms(v: Floats) -> tuple[Floats, Floats, Floats]:
    """Return ln Gamma and two derivatives: Stirling's series eight units above v."""
    # The series is exact to the last digit from 8 on; the steps down to v are sums.
    above = v + np.arange(8)[:, None]
    y = v + 8
    i = y**-2.0
    series = (1 / 12 - i * (1 / 360 - i * (1 / 1260 - i / 1680))) / y
    value = (y - 0.5) * np.log(y) - y + math.log(2 * math.pi) / 2 + series
    first = np.log(y) - 0.5 / y - i * (1 / 12 - i * (1 / 120 - i * (1 / 252 - i / 240)))
    second = 1 / y + i / 2 + i / y * (1 / 6 - i * (1 / 30 - i * (1 / 42 - i / 30)))
    value = value - np.log(above).sum(0)
    first = first - (1 / above).sum(0)
    return value, first, second + (above**-2.0).sum(0)


def log_gamma(v: Floats | float) -> Floats:
    """Return ln Gamma."""
    return gamma_terms(np.atleast_1d(v))[0]


def gamma_gamma_terms(x: Ints, z: Floats, p: float, q: float, gamma: float) -> Terms:
    """Return the log-likelihood of means z of x orders; derivatives by p, q, gamma."""
    # Gamma functions depend on x alone: computed once for each x that occurs.
    n = len(x)
    count = np.bincount(x)
    k = np.flatnonzero(count)  # the different x, and how many customers have each
    weight = count[k]
    sums = gamma_terms(p * k + q)
    own = gamma_terms(p * k)
    q0, q1, q2 = (float(g[0]) for g in gamma_terms(np.array([q])))
    total = np.log(gamma + x * z)
    part = 1 / (gamma + x * z)
    shape = p * x + q
    scale = float(x @ np.log(z) + weight @ (k * np.log(k)))
    value = weight @ (sums[0] - own[0]) + n * (q * math.log(gamma) - q0) + p * scale
    by_p = weight @ (k * (sums[1] - own[1])) + scale - x @ total
    by_q = weight @ sums[1] + n * (math.log(gamma) - q1) - total.sum()
    by_gamma = n * q / gamma - shape @ part
    pp = weight @ (k**2 * (sums[2] - own[2]))
    pq = weight @ (k * sums[2])
    qq = weight @ sums[2] - n * q2
    qg = n / gamma - part.sum()
    pg = -(x @ part)
    gg = shape @ part**2 - n * q / gamma**2
    slope = np.array([by_p, by_q, by_gamma])
    curve = np.array([[pp, pq, pg], [pq, qq, qg], [pg, qg, gg]])
    return float(value - np.log(z).sum() - shape @ total), slope, curve


def fitted_gamma_gamma(
    x: Ints, mean_spend: Floats
) -> tuple[float, float, float, float]:
    """Return p, q, gamma, and the log-likelihood of the means of repeat orders.

    Of the customers who paid for a repeat order; BadInput if they are too few.
    """
    paid = (x > 0) & (mean_spend > 0)
    x = x[paid]
    z = mean_spend[paid]
    if len(x) < MIN_REPEATERS:
        said = f"{len(x)} customers paid for repeat orders"
        raise BadInput(f"{said}, {MIN_REPEATERS} needed")
    unit = float(z.mean())  # else the bounds of `maximum` depend on the currency
    z = z / unit

    def terms(p: float, q: float, gamma: float) -> Terms:
        return gamma_gamma_terms(x, z, p, LEAST_Q + q, gamma)

    theta, value, _ = maximum(by_logs(terms), np.zeros(3))
    p, q, gamma = np.exp(theta).tolist()
    return p, LEAST_Q + q, gamma * unit, value - len(z) * math.log(unit)
