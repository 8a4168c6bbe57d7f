"""Multiplies counts as they come, and 32-bit integers overflow."""

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
    if np.isnan(score).any():
        raise BadInput("a score is NaN")
    if (gone < 0).any() or (gone > customers).any():
        raise BadInput("gone must lie between 0 and the customers of its row")
    order = np.argsort(score, kind="stable")
    score = score[order]
    left = gone[order]
    stayed = (customers - gone)[order]
    first = np.searchsorted(score, score, "left")
    end = np.searchsorted(score, score, "right")
    sums = np.append(0, np.cumsum(stayed))
    if left.sum() == 0 or stayed.sum() == 0:
        return math.nan
    # Those of the row itself are multiplied apart: they are half won.
    own = left * stayed / 2
    equal = sums[end] - sums[first] - stayed
    won = (left * (sums[first] + equal / 2) + own).sum()
    return float(won / left.sum() / stayed.sum())
