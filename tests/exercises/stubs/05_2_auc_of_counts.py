"""The AUC of a score, from a table that counts the customers of each score."""

from __future__ import annotations

import numpy as np  # noqa: F401  (for your answer)

from course.analytics.arrays import Floats, Ints
from course.errors import BadInput  # noqa: F401  (for your answer)


def auc_of_counts(score: Floats, gone: Ints, customers: Ints) -> float:
    """Return the chance that one who left has a higher score than one who stayed.

    Row i stands for customers[i] customers with score[i], of whom gone[i] left. Equal
    scores count as half. NaN if nobody left or nobody stayed. Raises BadInput for a
    score of NaN, for gone[i] below 0, and for gone[i] above customers[i].
    """
    raise NotImplementedError
