"""Refuses a bad forecast only where the spend is known."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from course.analytics.arrays import Floats
from course.errors import BadInput


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
    over = ~np.isnan(seen)
    if not ((said >= edges[0]) & (said <= edges[-1]))[over].all():
        raise BadInput("a forecast is NaN or lies outside the edges")
    if not over.any():
        raise BadInput("no spend is known yet")
    said = said[over]
    seen = seen[over]
    place = np.searchsorted(edges, said, side="right") - 1
    place = np.minimum(place, len(edges) - 2)  # the last edge belongs to the last bin
    bins = []
    off = 0.0
    for number in range(len(edges) - 1):
        mine = place == number
        found = bin_of(edges[number], edges[number + 1], said[mine], seen[mine])
        bins.append(found)
        if found.said is not None and found.seen is not None:
            off += found.customers * abs(found.said - found.seen)
    return Calibration(bins, off / len(said))


def bin_of(low: float, high: float, said: Floats, seen: Floats) -> Bin:
    """Return the bin of these customers."""
    count = len(said)
    if count == 0:
        return Bin(float(low), float(high), 0, None, None, None)
    holds = None
    if count > 1:
        off = seen - said
        error = off.std(ddof=1) / math.sqrt(count)
        holds = bool(abs(off.mean()) <= 1.96 * error)
    mean_said = float(said.mean())
    mean_seen = float(seen.mean())
    return Bin(float(low), float(high), count, mean_said, mean_seen, holds)
