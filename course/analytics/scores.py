"""How good a forecast was: ranking, proper scores, intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from course.analytics.arrays import Bools, Floats, Ints

RESAMPLES, SEED = 400, 5  # of a bootstrap, which is seeded
SURVEYED = 5_000  # customers whose intervals a backtest draws, at most
CONSTANT = "constant"


def auc(happened: Bools, score: Floats | Ints) -> float:
    """Return the chance that a case outscores a non-case; NaN if one is missing."""
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]
    n, cases = len(score), int(happened.sum())
    over = float(rank[happened].sum()) - cases * (cases + 1) / 2
    return over / cases / (n - cases) if 0 < cases < n else math.nan


def log_losses(happened: Bools, chance: Floats) -> Floats:
    """Return each case's loss; 0 and 1 count as a millionth off."""
    losses: Floats = -np.log(np.where(happened, chance, 1 - chance).clip(1e-6))
    return losses


def tenths(score: Floats) -> list[Ints]:
    """Return the rows of each tenth, from the lowest score to the highest."""
    parts = np.array_split(np.argsort(score, kind="stable"), 10)
    return [rows for rows in parts if len(rows)]


def interval_of_mean(sample: Floats) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a mean (of block means, if many)."""
    if len(sample) >= 2 * SURVEYED:
        ends = np.linspace(0, len(sample), SURVEYED + 1, dtype=int)
        sums = np.add.reduceat(sample, ends[:-1], dtype=np.float64)
        sample = sums * SURVEYED / len(sample)
    rng, n = np.random.default_rng(SEED), len(sample)
    means = [sample[rng.integers(n, size=n)].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, (0.025, 0.975)).tolist()
    return low, high


def churn_score(gone: Bools, chance: Floats) -> dict[str, float]:
    """Return ranking, two proper scores, and calibration error over tenths."""
    off = [len(b) * abs(gone[b].mean() - chance[b].mean()) for b in tenths(chance)]
    brier, loss = ((chance - gone) ** 2).mean(), log_losses(gone, chance).mean()
    ece = sum(off) / len(chance) if np.ptp(chance) else 0.0
    scores = auc(gone, chance), float(brier), float(loss), float(ece)
    return dict(zip(("auc", "brier", "log_loss", "ece"), scores, strict=True))


def value_score(spent: Floats, forecast: Floats) -> dict[str, float]:
    """Return errors, relative bias, and the share of spend in the top tenth."""
    top, total = tenths(-forecast)[0], float(spent.sum()) or math.nan
    off, bias = np.abs(forecast - spent), float(forecast.sum()) / total - 1
    share = float(spent[top].sum()) / total
    scores = float(off.mean()), float(np.sqrt((off**2).mean())), bias, share
    return dict(zip(("mae", "rmse", "bias", "top_decile_share"), scores, strict=True))


def compared(actual: Bools | Floats, forecasts: Mapping[str, Floats]) -> dict[str, Any]:
    """Return each model's scores and the interval of its loss minus a constant's.

    The loss is Brier's or the absolute error. The constant is the hardest there is: it
    knows the mean of what happens to these very customers.
    """
    score, power = (churn_score, 2) if actual.dtype == bool else (value_score, 1)
    constant = np.full(len(actual), actual.mean())
    table: dict[str, Any] = {CONSTANT: score(actual, constant)}
    for name, forecast in forecasts.items():
        gap = np.abs(forecast - actual) ** power - np.abs(constant - actual) ** power
        table[name] = score(actual, forecast)
        table[name]["loss - constant"] = interval_of_mean(gap)
    return table


class Rate(NamedTuple):
    """A share of n cases, with its 95 % Wilson interval."""

    rate: float
    low: float
    high: float
    n: int


def rate_of(happened: Bools) -> Rate:
    """Return the rate of what happened."""
    n, p, z = len(happened), float(happened.mean()), 1.96
    middle, half = p + z * z / 2 / n, z * math.sqrt(p * (1 - p) / n + (z / 2 / n) ** 2)
    low, high = ((middle + side) / (1 + z * z / n) for side in (-half, half))
    return Rate(p, max(low, 0.0), min(high, 1.0), n)
