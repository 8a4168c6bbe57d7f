"""Shares and means with their intervals, and tenths of a score."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from course.analytics.arrays import Bools, Floats, Ints

RESAMPLES = 400
SEED = 5  # of everything that is drawn at random, so that each run prints the same
SURVEYED = 5_000  # customers whose intervals a backtest draws, at most
Z_95 = 1.96  # standard errors on either side of a 95 % interval


def tenths(score: Floats) -> list[Ints]:
    """Return the rows of each tenth, from the lowest score to the highest."""
    parts = np.array_split(np.argsort(score, kind="stable"), 10)
    return [rows for rows in parts if len(rows)]


def interval_of_mean(sample: Floats) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a mean (of block means, if many)."""
    # Of a million customers the means of 5,000 blocks vary as they do, in a
    # two-hundredth of the time.
    if len(sample) >= 2 * SURVEYED:
        ends = np.linspace(0, len(sample), SURVEYED + 1, dtype=int)
        sums = np.add.reduceat(sample, ends[:-1], dtype=np.float64)
        sample = sums * SURVEYED / len(sample)
    rng = np.random.default_rng(SEED)
    n = len(sample)
    means = [sample[rng.integers(n, size=n)].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, (0.025, 0.975)).tolist()
    return low, high


class Rate(NamedTuple):
    """A share of n cases, with its 95 % Wilson interval."""

    rate: float
    low: float
    high: float
    n: int


def rate_of(happened: Bools) -> Rate:
    """Return the rate of what happened."""
    n = len(happened)
    p = float(happened.mean())
    middle = p + Z_95 * Z_95 / 2 / n
    spread = p * (1 - p) / n + (Z_95 / 2 / n) ** 2
    half = Z_95 * math.sqrt(spread)
    scale = 1 + Z_95 * Z_95 / n
    low = (middle - half) / scale
    high = (middle + half) / scale
    return Rate(p, max(low, 0.0), min(high, 1.0), n)
