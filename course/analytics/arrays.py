"""Types of arrays, and what sorts millions of integers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

BITS, DAY = 22, (1 << 22) - 1  # of a day in a packed key: 11,000 years

Floats = NDArray[Any]  # what it holds is in the name: numpy's stubs, which lose
Ints = NDArray[Any]  # track of dtypes in arithmetic, could not check it
Bools = NDArray[Any]
Grid = Mapping[str, Mapping[str, Any]]  # figures by row and column


def iso(day: int) -> str:
    """Return an ordinal day as 1997-09-30."""
    return date.fromordinal(day).isoformat()


def starts(ordered: Ints) -> Ints:
    """Return the positions at which a new value begins."""
    return np.flatnonzero(np.diff(ordered, prepend=-1))


def order_days(log: Any) -> tuple[Ints, Ints]:
    """Return customer and day of each day with orders, sorted; same-day orders merge.

    Both are packed into one integer, which sorts twice as fast as an argsort.
    """
    key = np.sort(log.customer << BITS | log.day)
    key = key[starts(key)]
    return key >> BITS, key & DAY
