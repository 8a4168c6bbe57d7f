"""Shares and means with their intervals, and tenths of a score."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from course.analytics.arrays import Bools, Floats, Ints

RESAMPLES = 400
FEW_ROWS = 500  # whose resamples are drawn once for all that ask
SEED = 5  # of everything that is drawn at random, so that each run prints the same
SURVEYED = 5_000  # customers whose intervals a backtest draws, at most
Z_95 = 1.96  # standard errors on either side of a 95 % interval


def tenths(score: Floats) -> list[Ints]:
    """Return the rows of each tenth, from the lowest score to the highest."""
    order = np.argsort(score, kind="stable")
    parts = np.array_split(order, 10)
    return [rows for rows in parts if len(rows)]  # fewer than ten rows: fewer parts


@lru_cache(maxsize=8)
def drawn_rows(n: int) -> Ints:
    """Return RESAMPLES times n of n rows: the same as when drawn one after another."""
    return np.random.default_rng(SEED).integers(n, size=(RESAMPLES, n))


def interval_of_mean(sample: Floats) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a mean (of block means, if many)."""
    if len(sample) >= 2 * SURVEYED:
        sample = block_means(sample)
    n = len(sample)
    if n <= FEW_ROWS:
        means = sample[drawn_rows(n)].mean(axis=1)
    else:
        rng = np.random.default_rng(SEED)
        # As many as there are, drawn with replacement.
        drawn = (rng.integers(n, size=n) for _ in range(RESAMPLES))
        means = np.array([sample[rows].mean() for rows in drawn])
    low, high = np.quantile(means, (0.025, 0.975)).tolist()
    return low, high


def block_means(sample: Floats) -> Floats:
    """Return SURVEYED numbers with the mean of a large sample, whose mean varies alike.

    Resampling them takes a two-hundredth of the time for a million customers.
    """
    n = len(sample)
    ends = np.linspace(0, n, SURVEYED + 1, dtype=int)
    sums = np.add.reduceat(sample, ends[:-1], dtype=np.float64)
    means: Floats = sums * SURVEYED / n
    return means


class Rate(NamedTuple):
    """A share of n cases, with its 95 % Wilson interval."""

    rate: float
    low: float
    high: float
    n: int

    @property
    def of_the_rest(self) -> Rate:
        """The share of the other cases; its interval is the mirror image."""
        return Rate(1 - self.rate, 1 - self.high, 1 - self.low, self.n)


def rate_of(happened: Bools) -> Rate:
    """Return the rate of what happened."""
    # Wilson 1927: unlike p plus or minus two errors, it holds near 0 and 1 as well.
    n = len(happened)
    p = float(happened.mean())
    middle = p + Z_95 * Z_95 / 2 / n
    spread = p * (1 - p) / n
    spread = spread + (Z_95 / 2 / n) ** 2
    half = Z_95 * math.sqrt(spread)
    scale = 1 + Z_95 * Z_95 / n
    low = (middle - half) / scale
    high = (middle + half) / scale
    return Rate(p, max(low, 0.0), min(high, 1.0), n)


def share_of(amount: Floats, mine: Bools) -> tuple[float, float, float]:
    """Return which share of all amounts is theirs, with its 95 % interval.

    The interval is that of a ratio of sums over customers (delta method).
    """
    total = float(amount.sum())
    if total <= 0:
        return 0.0, 0.0, 0.0
    share = float(amount[mine].sum()) / total
    off = amount * (mine - share)
    half = Z_95 * math.sqrt(float(off @ off)) / total
    return share, max(share - half, 0.0), min(share + half, 1.0)


def tenths_that_held(gone: Bools, chance: Floats) -> int:
    """Return in how many tenths the mean chance lies within what was seen."""
    count = 0
    for rows in tenths(chance):
        seen = rate_of(gone[rows])
        said = chance[rows].mean()
        if seen.low <= said <= seen.high:
            count += 1
    return count
