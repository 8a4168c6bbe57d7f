"""How far forecasts of spend are to be believed: said and seen, by size of forecast."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np  # noqa: F401  (for your answer)

from course.analytics.arrays import Floats
from course.errors import BadInput  # noqa: F401  (for your answer)


class Bin(NamedTuple):
    """Given: the customers whose forecast lies between `low` and `high`."""

    low: float
    high: float
    customers: int
    said: float | None  # the mean forecast; None without customers
    seen: float | None  # the mean spend; None without customers
    holds: bool | None  # whether both agree; None with fewer than two customers


class Calibration(NamedTuple):
    """Given: a bin for each pair of neighbouring edges, and how far all are off."""

    bins: list[Bin]
    miss: float


def calibration_of_spend(said: Floats, seen: Floats, edges: Floats) -> Calibration:
    """Compare each bin's mean forecast with its mean spend.

    `said` and `seen` have a value per customer; seen is NaN while the days of the
    forecast are not over. `edges` ascend: there is one bin fewer. `miss` is the mean
    over customers of how far said and seen of their bin are apart. Raises BadInput for
    a forecast of NaN or outside the edges, and if no spend is known.
    """
    raise NotImplementedError
