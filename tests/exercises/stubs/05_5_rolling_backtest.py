"""A backtest at several dates, none of which knows what came after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from course.analytics.arrays import Floats, Ints
from course.errors import BadInput  # noqa: F401  (for your answer)


class Panel(NamedTuple):
    """Given: a row for each customer and date, in any order."""

    day: Ints  # at whose end the inputs were computed
    inputs: Floats  # a column for each; NaN where one is missing
    spent: Floats  # in the `horizon` days after `day`


class Round(NamedTuple):
    """Given: the forecast of one cut."""

    cut: int
    rows: Ints  # of the panel, ascending: those whose day is the cut
    forecast: Floats  # for each of these rows
    constant: float  # the mean spend of the rows that were learnt from
    strength: float  # that was chosen


def ridge(inputs: Floats, target: Floats, strength: float) -> Floats:
    """Given: return the weights of a ridge regression without an intercept."""
    square = inputs.T @ inputs + strength * np.eye(inputs.shape[1])
    return np.asarray(np.linalg.solve(square, inputs.T @ target))


def rolling_backtest(
    panel: Panel, cuts: Sequence[int], horizon: int, strengths: Sequence[float]
) -> list[Round]:
    """Return a Round for each cut, as it could have been made at the end of that day.

    `cuts` ascend and are days; `strengths` are above 0. Raises BadInput for a cut at
    whose end no outcome was known.
    """
    raise NotImplementedError
