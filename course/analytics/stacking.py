"""A logistic regression on a model's chance, made so that it cannot turn it round."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from course.analytics.arrays import Bools, Floats
from course.analytics.newton import fit_logistic, logistic

# Of the inputs: 1, log odds by the model, silence, pace. The prior is the model itself.
PRIOR = np.array([0.0, 1.0, 0.0, 0.0])
SIGNS = np.array([0, 1, 1, -1])  # what a weight may be; 0: anything
VARIANCE = 4.0  # of weights around the prior
CONSTANT_WEIGHS = 10  # customers, beside those that were learnt from
FOLDS = 5


def stack_weights(inputs: Floats, gone: Bools) -> Floats:
    """Return weights of the right signs; an input that asks for the wrong one is out.

    Log odds, silence and pace say nearly the same where customers are regular. Free
    weights then cancel each other on the past, and pull apart on the next horizon.
    """
    used = np.ones(len(PRIOR), bool)
    while True:
        weights = np.zeros(len(PRIOR))
        weights[used] = fit_logistic(inputs[:, used], gone, PRIOR[used], VARIANCE)
        wrong = used & (weights * SIGNS < 0)
        if not wrong.any():
            return weights
        used &= ~wrong


@dataclass(frozen=True)
class Stack:
    """What was learnt from a past: weights, and how near its constant they stay."""

    weights: Floats
    constant: float
    share: float  # of the weights' chance; the rest is the constant's

    def chance(self, inputs: Floats) -> Floats:
        """Return the chance of each row."""
        own = logistic(inputs, self.weights)
        return np.asarray(self.share * own + (1 - self.share) * self.constant)


def fitted_stack(inputs: Floats, gone: Bools) -> Stack:
    """Return what a past teaches; the fewer customers, the nearer to its constant."""
    known = len(gone)
    return Stack(
        weights=stack_weights(inputs, gone),
        constant=float(gone.mean()),
        share=known / (known + CONSTANT_WEIGHS),
    )


def out_of_fold(inputs: Floats, gone: Bools) -> Floats:
    """Return each row's chance by a stack that has not seen the row.

    In-sample, whatever was fitted would win a choice between models.
    """
    fold = np.arange(len(gone)) % FOLDS
    chance = np.zeros(len(gone))
    for k in range(FOLDS):
        mine = fold == k
        if not mine.all():  # a single customer has nobody to learn from
            chance[mine] = fitted_stack(inputs[~mine], gone[~mine]).chance(inputs[mine])
    return chance
