"""The maximum of a log-likelihood, by damped Newton steps; logistic regression."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from course.analytics.arrays import Bools, Floats
from course.analytics.scores import log_losses

BOUND = 12  # of a logarithm: e^12 is as good as infinite
LONGEST_STEP = 2.0
MOST_STEPS = 100  # six are the rule
MOST_HALVINGS = 30
LEVEL = 1e-12  # a relative loss that is rounding, not a step downhill
CLOSE = 1e-7  # the climb ends where a step moves no logarithm further
PRIOR_VARIANCE = 100  # of logistic weights around 0: a little ridge keeps them finite


class Terms(NamedTuple):
    """A log-likelihood at one place, with its gradient and its Hessian."""

    value: float
    slope: Floats
    curve: Floats


class Peak(NamedTuple):
    """Where a climb ended, how high that is, and the Hessian there."""

    place: Floats
    value: float
    curve: Floats


def uphill_step(slope: Floats, curve: Floats) -> Floats:
    """Return Newton's step, made to lead uphill.

    Newton's step is slope / curve, here along each axis of the curve. On a saddle its
    sign would be wrong, on a ridge it would be endless.
    """
    bends, axes = np.linalg.eigh(-curve)
    # Positive, so that each axis leads uphill; not too small, so that none jumps.
    bends = np.abs(bends)
    least_bend = 1e-9 * bends.max() + 1e-300
    bends = bends.clip(least_bend)
    along_axes = axes.T @ slope / bends
    step = axes @ along_axes
    longest = max(np.abs(step).max(), 1e-300)
    shortened: Floats = step * min(1.0, LONGEST_STEP / longest)
    return shortened


def maximum(objective: Callable[[Floats], Terms], start: Floats) -> Peak:
    """Climb from a start to the top."""
    theta = start
    here = objective(theta)
    for _ in range(MOST_STEPS):
        step = uphill_step(here.slope, here.curve)
        low_enough = here.value - LEVEL * abs(here.value)
        for _ in range(MOST_HALVINGS):
            place = (theta + step).clip(-BOUND, BOUND)
            there = objective(place)
            # Uphill, or as good as level. Else the step was too long: half of it.
            if there.value >= low_enough:
                break
            step = step / 2
        moved = np.abs(place - theta).max()
        theta = place
        here = there
        if moved < CLOSE:
            break
    return Peak(theta, here.value, here.curve)


def by_logs(terms: Callable[..., Terms]) -> Callable[[Floats], Terms]:
    """Return the objective, and its derivatives, by its arguments' logarithms."""

    def objective(theta: Floats) -> Terms:
        # Logarithms have no bounds to run into, and steps of one size for all.
        scale = np.exp(theta)
        found = terms(*scale)
        # The chain rule: d/d ln p is p x d/dp, and the second derivative has two terms.
        slope = found.slope * scale
        curve = found.curve * np.outer(scale, scale)
        return Terms(found.value, slope, curve + np.diag(slope))

    return objective


def logistic(inputs: Floats, weights: Floats) -> Floats:
    """Return the chance that a logistic regression gives each row of inputs."""
    # Beyond 30 the chance is 0 or 1 to thirteen digits, and e^x overflows in the end.
    log_odds = (inputs @ weights).clip(-30, 30)
    chance: Floats = 1 / (1 + np.exp(-log_odds))
    return chance


def fit_logistic(
    inputs: Floats,
    happened: Bools,
    prior: Floats | None = None,
    variance: float = PRIOR_VARIANCE,
) -> Floats:
    """Return the weights of a logistic regression with a little ridge.

    The ridge holds the weights near `prior`, by default near 0.
    """
    many = inputs.shape[1]
    start = np.zeros(many) if prior is None else prior

    def objective(theta: Floats) -> Terms:
        chance = logistic(inputs, theta)
        value = -log_losses(happened, chance).sum()
        slope = inputs.T @ (happened - chance)
        spread = chance * (1 - chance)
        curve = -(inputs * spread[:, None]).T @ inputs
        # The ridge: weights that the data do not ask for stay where they start.
        off = theta - start
        value = value - off @ off / (2 * variance)
        slope = slope - off / variance
        curve = curve - np.eye(many) / variance
        return Terms(float(value), slope, curve)

    return maximum(objective, start).place
