"""Types of columns, days as integers, and what keeps millions of rows fast."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from course.errors import BadInput

BITS = 22  # of a day in a packed key: 11,000 years
DAY = (1 << BITS) - 1  # the mask of a packed day

EPOCH_DAY = date(1970, 1, 1).toordinal()
SINCE_1970 = range(3_650, 73_000)  # 1980 to 2169, were they days since 1970
LAST_DAY = date.max.toordinal()

Floats = NDArray[Any]  # what it holds is in the name: numpy's stubs, which lose
Ints = NDArray[Any]  # track of dtypes in arithmetic, could not check it
Bools = NDArray[Any]
Grid = Mapping[str, Mapping[str, Any]]  # figures by row and column


def iso(day: int) -> str:
    """Return an ordinal day as 1997-09-30."""
    return date.fromordinal(day).isoformat()


def plain_array(name: str, column: Any) -> Any:
    """Return a column as an array without gaps, or BadInput."""
    if np.ma.is_masked(column):
        raise BadInput(f"the column {name} has masked rows: leave them out")
    try:
        found = np.asarray(column)
    except Exception as problem:  # each library has its own
        why = type(problem).__name__
        raise BadInput(f"the column {name} is no array of numbers: {why}") from None
    if found.ndim != 1:
        raise BadInput(f"the column {name} is not one column")
    return found


def whole(name: str, column: Any) -> Ints:
    """Return a column of whole numbers, as wide as an integer gets, or BadInput."""
    found = plain_array(name, column)
    if found.dtype.kind not in "iuf" and len(found):
        raise BadInput(f"the column {name} holds {found.dtype}, not whole numbers")
    if found.dtype.kind == "u" and len(found) and found.max() >= 1 << 63:
        raise BadInput(f"the column {name} holds {found.max():,}, which is too large")
    if found.dtype.kind == "f" and not (found == np.floor(found)).all():
        raise BadInput(f"the column {name} holds NaN or fractions, not whole numbers")
    if found.dtype.kind == "f" and len(found):
        exact = 2.0 ** (np.finfo(found.dtype).nmant + 1)
        if np.abs(found).max() > exact:
            said = f"{found.dtype} does not tell numbers above {exact:,.0f} apart"
            raise BadInput(f"the column {name}: {said}")
    return np.asarray(found, np.int64)


def ordinals(column: Any) -> Ints:
    """Return days as ordinals; datetime64 is turned into them, else BadInput."""
    found = plain_array("day", column)
    if found.dtype.kind == "M":
        if np.isnat(found).any():
            raise BadInput("the column day holds NaT, a missing date")
        found = found.astype("datetime64[D]").astype(np.int64) + EPOCH_DAY
    if found.dtype == object and all(isinstance(each, date) for each in found):
        try:
            found = np.array([each.toordinal() for each in found], np.int64)
        except ValueError:
            raise BadInput("the column day holds NaT, a missing date") from None
    days = whole("day", found)
    if not len(days):
        return days
    if days.min() < 1 or days.max() > LAST_DAY:
        raise BadInput("the column day holds no ordinals, as date.toordinal() has them")
    if int(days.max()) in SINCE_1970:
        said = f"add {EPOCH_DAY:,} to days since 1970"
        raise BadInput(f"the column day holds no ordinals of our time: {said}")
    return days


def ordinal(day: Any) -> int:
    """Return a date, a timestamp or an ordinal as an ordinal; BadInput for others."""
    if isinstance(day, np.datetime64):
        day = day.astype("datetime64[D]").item()
    try:
        found = day.toordinal() if isinstance(day, date) else operator.index(day)
    except (TypeError, ValueError):
        raise BadInput(f"as_of {day!r} is no day: give a date or an ordinal") from None
    if not 1 <= found <= LAST_DAY:
        raise BadInput(f"as_of {found} is no ordinal, as date.toordinal() has them")
    return found


def whole_days(days: Any) -> int:
    """Return a number of days; BadInput for what is none."""
    try:
        found = operator.index(days)
    except TypeError:
        raise BadInput(f"days {days!r}: a whole number is needed") from None
    if not 1 <= found <= LAST_DAY:
        raise BadInput(f"days {found:,}: it takes 1 to {LAST_DAY:,}")
    return found


def starts(ordered: Ints) -> Ints:
    """Return the positions at which a new value begins, in sorted codes from 0."""
    new = np.diff(ordered, prepend=-1) != 0
    return np.flatnonzero(new)


def order_days(customer: Ints, day: Ints) -> tuple[Ints, Ints]:
    """Return customer and day of each day with orders, sorted; same-day orders merge.

    Both are packed into one integer, which sorts twice as fast as an argsort.
    """
    packed = customer << BITS | day
    packed = np.sort(packed)
    different = packed[starts(packed)]
    return different >> BITS, different & DAY


def by_distinct_pair(
    compute: Callable[[Ints, Floats], Floats], x: Ints, age: Ints
) -> Floats:
    """Return compute(x, T in weeks) of each row, evaluated once per different pair.

    Customers who have both numbers in common get the same answer: with a million
    customers there are a few thousand pairs.
    """
    width = int(age.max()) + 1
    key = x * width + age  # the pair as one number
    possible = (int(x.max()) + 1) * width
    if possible > 4 * len(key) + 1000:
        pairs, place = np.unique(key, return_inverse=True)
    else:
        # Few pairs are possible: to count them all is faster than to sort.
        seen = np.bincount(key) > 0
        pairs = np.flatnonzero(seen)
        place_of_key = np.cumsum(seen) - 1
        place = place_of_key[key]
    answers = compute(pairs // width, pairs % width / 7)
    return answers[place]
