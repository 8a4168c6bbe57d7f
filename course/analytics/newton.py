"""The maximum of a log-likelihood, by damped Newton steps; logistic regression."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from course.analytics.arrays import Bools, Floats
from course.analytics.scores import log_losses

Terms = tuple[float, Floats, Floats]  # a log-likelihood, its gradient and Hessian
BOUND = 12  # of a logarithm: e^12 is as good as infinite
LONGEST_STEP = 2.0


def uphill_step(slope: Floats, curve: Floats) -> Floats:
    """Return Newton's step, made to lead uphill.

    Eigenvalues are made positive and floored, so that a saddle or a ridge gives a
    step uphill and no jump.
    """
    size, axes = np.linalg.eigh(-curve)
    size = np.abs(size).clip(1e-9 * np.abs(size).max() + 1e-300)
    step = axes @ (axes.T @ slope / size)
    longest = max(np.abs(step).max(), 1e-300)
    shortened: Floats = step * min(1.0, LONGEST_STEP / longest)
    return shortened


def maximum(
    objective: Callable[[Floats], Terms], start: Floats
) -> tuple[Floats, float, Floats]:
    """Climb from a start; return place, value, and second derivatives."""
    theta = start
    value, slope, curve = objective(theta)
    for _ in range(100):
        step = uphill_step(slope, curve)
        for _ in range(30):
            place = (theta + step).clip(-BOUND, BOUND)
            found = objective(place)
            moved = np.abs(place - theta).max()
            # Uphill, or as good as level: else half of the step.
            if found[0] >= value - 1e-12 * abs(value):
                break
            step = step / 2
        theta = place
        value, slope, curve = found
        if moved < 1e-7:
            break
    return theta, value, curve


def by_logs(terms: Callable[..., Terms]) -> Callable[[Floats], Terms]:
    """Return the objective, and its derivatives, by its arguments' logarithms."""

    def objective(theta: Floats) -> Terms:
        # Logarithms have no bounds to run into, and steps of one size for all.
        scale = np.exp(theta)
        value, slope, curve = terms(*scale)
        slope = slope * scale
        return value, slope, curve * np.outer(scale, scale) + np.diag(slope)

    return objective


def logistic(inputs: Floats, weights: Floats) -> Floats:
    """Return chances."""
    chance: Floats = 1 / (1 + np.exp(-(inputs @ weights).clip(-30, 30)))
    return chance


def fit_logistic(inputs: Floats, happened: Bools) -> Floats:
    """Return the weights of a logistic regression with a whiff of ridge."""

    def objective(theta: Floats) -> Terms:
        chance = logistic(inputs, theta)
        value = -log_losses(happened, chance).sum() - theta @ theta / 200
        slope = inputs.T @ (happened - chance) - theta / 100
        spread = chance * (1 - chance)
        curve = -(inputs * spread[:, None]).T @ inputs
        return float(value), slope, curve - np.eye(len(theta)) / 100

    return maximum(objective, np.zeros(inputs.shape[1]))[0]


def out_of_fold(inputs: Floats, happened: Bools, folds: int = 5) -> Floats:
    """Return each row's chance by a regression that has not seen the row.

    In-sample, whatever was fitted would win a choice between models.
    """
    fold = np.arange(len(happened)) % folds
    chance = np.zeros(len(happened))
    for k in range(folds):
        mine = fold == k
        weights = fit_logistic(inputs[~mine], happened[~mine])
        chance[mine] = logistic(inputs[mine], weights)
    return chance
