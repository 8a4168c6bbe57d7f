"""Returns NaN where nobody left, before it looks at the scores."""

from __future__ import annotations

import math

import numpy as np

from course.analytics.arrays import Floats, Ints
from course.errors import BadInput


def auc_of_counts(score: Floats, gone: Ints, customers: Ints) -> float:
    """Return the chance that one who left has a higher score than one who stayed.

    Row i stands for customers[i] customers with score[i], of whom gone[i] left. Equal
    scores count as half. NaN if nobody left or nobody stayed. Raises BadInput for a
    score of NaN, for gone[i] below 0, and for gone[i] above customers[i].
    """
    if gone.sum() == 0 or (customers - gone).sum() == 0:
        return math.nan
    if np.isnan(score).any():
        raise BadInput("a score is NaN")
    if (gone < 0).any() or (gone > customers).any():
        raise BadInput("gone must lie between 0 and the customers of its row")
    # As floats: a product of two counts soon exceeds 32 bits.
    left = gone.astype(np.float64)
    stayed = customers.astype(np.float64) - left
    scores, place = np.unique(score, return_inverse=True)
    cases = np.bincount(place, left, len(scores))
    others = np.bincount(place, stayed, len(scores))
    if cases.sum() == 0 or others.sum() == 0:
        return math.nan
    below = np.cumsum(others) - others
    won = cases @ (below + others / 2)
    return float(won / cases.sum() / others.sum())
