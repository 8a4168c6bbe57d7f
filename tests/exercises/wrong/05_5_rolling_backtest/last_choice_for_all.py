"""Chooses one strength for all cuts, at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from course.analytics.arrays import Bools, Floats, Ints
from course.errors import BadInput


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
    rounds: list[Round] = []
    # By cut: the sum of squared errors of each strength.
    errors: dict[int, Floats] = {}
    for cut in cuts:
        known = panel.day + horizon <= cut
        if not known.any():
            raise BadInput(f"no outcome was known at the end of day {cut}")
        rows = np.flatnonzero(panel.day == cut)
        forecasts = [forecast(panel, known, rows, each) for each in strengths]
        over = [errors[day] for day in errors if day + horizon <= cut]
        best = int(np.argmin(np.sum(over, axis=0))) if over else 0
        constant = float(panel.spent[known].mean())
        made = Round(cut, rows, forecasts[best], constant, strengths[best])
        rounds.append(made)
        off = np.array(forecasts) - panel.spent[rows]
        errors[cut] = (off**2).sum(axis=1)
    over = [errors[day] for day in errors if day + horizon <= cuts[-1]]
    best = int(np.argmin(np.sum(over, axis=0))) if over else 0
    for place, made in enumerate(rounds):
        known = panel.day + horizon <= made.cut
        found = forecast(panel, known, made.rows, strengths[best])
        rounds[place] = made._replace(forecast=found, strength=strengths[best])
    return rounds


def forecast(panel: Panel, known: Bools, rows: Ints, strength: float) -> Floats:
    """Return the forecasts of some rows, learnt from the known ones."""
    spent = panel.spent[known]
    constant = spent.mean()
    learnt, asked = scaled(panel.inputs[known], panel.inputs[rows])
    weights = ridge(learnt, spent - constant, strength)
    return np.asarray(constant + asked @ weights)


def scaled(learnt: Floats, asked: Floats) -> tuple[Floats, Floats]:
    """Return both with the first one's means at 0, and its deviations at 1."""
    there = ~np.isnan(learnt)
    mean = np.where(there, learnt, 0).sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    # By the values themselves: rounding gives equal numbers a deviation of 1e-17.
    highest = np.where(there, learnt, -np.inf).max(axis=0)
    lowest = np.where(there, learnt, np.inf).min(axis=0)
    varies = highest > lowest
    filled = np.where(there, learnt, mean)
    deviation = np.where(varies, filled.std(axis=0), 1)

    def scale(inputs: Floats) -> Floats:
        off = np.where(np.isnan(inputs), mean, inputs) - mean
        return np.where(varies, off / deviation, 0)

    return scale(learnt), scale(asked)
