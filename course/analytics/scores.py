"""How good a forecast was: ranking, proper scores, errors."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from course.analytics.arrays import Bools, Floats, Ints
from course.analytics.rates import tenths


def auc(happened: Bools, score: Floats | Ints) -> float:
    """Return the chance that a case outscores a non-case; NaN if one is missing."""
    # Mann and Whitney: cases have won against all that are ranked below them. Equal
    # scores share the rank in their middle, so they count as half won.
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    last_rank = np.cumsum(count)
    middle = last_rank - (count - 1) / 2
    rank = middle[place]
    cases = int(happened.sum())
    others = len(score) - cases
    if cases == 0 or others == 0:
        return math.nan
    least_sum = cases * (cases + 1) / 2  # of ranks, if all cases came last
    won = float(rank[happened].sum()) - least_sum
    return won / cases / others


def squared_errors(actual: Bools | Floats, forecast: Floats) -> Floats:
    """Return each case's squared error; of chances, its Brier score."""
    return np.asarray((forecast - actual) ** 2)


def log_losses(happened: Bools, chance: Floats) -> Floats:
    """Return each case's loss; 0 and 1 count as a millionth off."""
    # Without a floor a single certain error would cost more than all else together.
    told = np.where(happened, chance, 1 - chance).clip(1e-6)
    losses: Floats = -np.log(told)
    return losses


def calibration_error(gone: Bools, chance: Floats) -> float:
    """Return how far said and seen are apart, on average over tenths."""
    if np.ptp(chance) == 0:
        return 0.0  # one number for all makes no tenths
    off = 0.0
    for rows in tenths(chance):
        seen = gone[rows].mean()
        said = chance[rows].mean()
        off += len(rows) * abs(seen - said)
    return float(off / len(chance))


def churn_score(gone: Bools, chance: Floats) -> dict[str, float]:
    """Return ranking, two proper scores, and calibration error over tenths."""
    return {
        "auc": auc(gone, chance),
        "brier": float(squared_errors(gone, chance).mean()),
        "log_loss": float(log_losses(gone, chance).mean()),
        "ece": calibration_error(gone, chance),
    }


def value_score(spent: Floats, forecast: Floats) -> dict[str, float]:
    """Return errors, relative bias, and the share of spend in the top tenth."""
    top = tenths(-forecast)[0]
    total = float(spent.sum()) or math.nan
    off = np.abs(forecast - spent)
    mean_square = (off**2).mean()
    return {
        "mae": float(off.mean()),
        "rmse": float(np.sqrt(mean_square)),
        "bias": float(forecast.sum()) / total - 1,
        "top_decile_share": float(spent[top].sum()) / total,
    }


def squared_error(score: Mapping[str, float]) -> float:
    """Return the mean squared error in a row of either table of scores."""
    return score["brier"] if "brier" in score else score["rmse"] ** 2
