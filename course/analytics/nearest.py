"""Who was told nearly the same in a backtest, and what then happened to them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from course.analytics.arrays import Floats, Ints
from course.analytics.rates import SEED, interval_of_mean

MOST_NEAREST = 200  # enough for an interval of a rate within 7 points


class Mean(NamedTuple):
    """The mean of n sums of money, with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float
    n: int


def mean_of(sample: Floats) -> Mean:
    """Return a sample's mean."""
    low, high = interval_of_mean(sample)
    return Mean(float(sample.mean()), low, high, len(sample))


def bracket(
    value: float, seen: Mean | None, told: float
) -> tuple[float | None, float | None]:
    """Return a mean as it would be at either end of what was seen; it holds the mean.

    The nearest were told `told` on average: what they spent may be more or less.
    """
    if seen is None or told <= 0:
        return None, None
    return min(value, value * seen.low / told), max(value, value * seen.high / told)


class Like(NamedTuple):
    """Those of a backtest who were told nearly the same."""

    told: tuple[float, float]  # the least and the most of it
    mean: float  # of what they were told
    happened: Floats  # who ordered nothing, or what each spent


def like(told: Floats, happened: Floats) -> Like:
    """Return those who were told this, and what happened to them."""
    return Like((float(told.min()), float(told.max())), float(told.mean()), happened)


class Told:
    """What a model told each customer, sorted: the nearest are found at once."""

    def __init__(self, told: Floats) -> None:
        # A tenth would be too wide at the ends: there, it holds very different chances.
        self.count = max(1, min(MOST_NEAREST, len(told) // 5))
        # Shuffled first: of many who were told the same, any may be among the nearest.
        shuffled = np.random.default_rng(SEED).permutation(len(told))
        self.order = shuffled[np.argsort(told[shuffled], kind="stable")]
        self.sorted = told[self.order]
        # The nearest stand side by side. Of all stretches of that length it is the one
        # whose ends are equally far off, so the sum of its ends is twice the score.
        last = len(told) - self.count
        self.ends = self.sorted[: last + 1] + self.sorted[self.count - 1 :]

    def nearest(self, score: float) -> Ints:
        """Return the rows of those who were told nearly this."""
        first = int(np.searchsorted(self.ends, 2 * score))
        first = min(first, len(self.ends) - 1)
        before = max(first - 1, 0)
        # Of two neighbours, the stretch whose farther end is nearer.
        if self.reach(before, score) < self.reach(first, score):
            first = before
        return self.order[first : first + self.count]

    def reach(self, first: int, score: float) -> float:
        """Return how far off the farther end of a stretch is."""
        low = score - self.sorted[first]
        high = self.sorted[first + self.count - 1] - score
        return float(max(low, high))
