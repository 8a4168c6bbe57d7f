"""Lesson 03's hooks: everyday values come back as they were, or are refused."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, time, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy
import pandas
import pytest

from course.caching.plain import everyday_key, from_plain, to_plain

KYIV = ZoneInfo("Europe/Kyiv")
# In this night the clocks are set back: there are two times of half past three.
TWICE = datetime(2024, 10, 27, 3, 30, tzinfo=KYIV)


def there_and_back(value: Any) -> Any:
    return from_plain(json.loads(json.dumps(to_plain(value))))


@pytest.mark.parametrize(
    "value",
    [
        TWICE,
        TWICE.replace(fold=1),
        datetime(2024, 1, 1, 0, 0, 0, 1),
        datetime(2024, 1, 1, fold=1),
        datetime(2024, 1, 1, tzinfo=UTC),
        datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=2))),
        datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=2), "EET")),
        time(1, 30, fold=1),
        time(1, 30, tzinfo=KYIV),
        time(1, 30, tzinfo=UTC),
        Path("a") / "b",
    ],
    ids=repr,
)
def test_a_time_keeps_its_zone_and_a_path_its_type(value: Any) -> None:
    assert repr(there_and_back(value)) == repr(value)
    assert type(there_and_back(value)) is type(value)


class OwnZone(tzinfo):
    """A zone that only its own program knows."""

    def utcoffset(self, moment: datetime | None, /) -> timedelta:
        return timedelta(hours=2)

    def dst(self, moment: datetime | None, /) -> None:
        return None

    def tzname(self, moment: datetime | None, /) -> str:
        return "own"


FRAMES: dict[str, pandas.DataFrame] = {
    "numbers": pandas.DataFrame({"n": [1, 2]}, index=[5, 7]),
    "missing": pandas.DataFrame({"n": pandas.array([1, None], dtype="Int64")}),
    "texts": pandas.DataFrame({"t": ["a", "b"]}),
    "zone": pandas.DataFrame({"t": [pandas.Timestamp(TWICE)]}),
    "empty": pandas.DataFrame(),
    "levels": pandas.DataFrame(
        [[1, 2]], columns=pandas.MultiIndex.from_product([[1], ["x", "y"]])
    ),
    "days": pandas.DataFrame({"n": [1, 2]}, index=pandas.date_range("2024", periods=2)),
}


@pytest.mark.parametrize("kind", FRAMES)
@pytest.mark.filterwarnings("ignore:Series.values")  # which PyArrow still uses
def test_a_frame_comes_back_with_its_types_and_its_index(kind: str) -> None:
    frame = FRAMES[kind]
    pandas.testing.assert_frame_equal(there_and_back(frame), frame, check_freq=True)


SERIES: dict[str, pandas.Series] = {
    "plain": pandas.Series([1, 2], index=["a", "b"], name="n"),
    "no name": pandas.Series([1.5, None]),
    "name": pandas.Series(["x"], name=("a", 1), dtype="category"),
    "days": FRAMES["days"]["n"],
    "times": FRAMES["zone"]["t"],
    "empty": pandas.Series([], dtype="int8"),
}


@pytest.mark.parametrize("kind", SERIES)
@pytest.mark.filterwarnings("ignore:Series.values")
def test_a_column_comes_back_with_its_name(kind: str) -> None:
    series = SERIES[kind]
    found = there_and_back(series)
    pandas.testing.assert_series_equal(found, series, check_freq=True)
    assert type(found.name) is type(series.name)


@pytest.mark.parametrize(
    "moment",
    [
        pandas.Timestamp("2024-01-01 00:00:00.000000001"),
        pandas.Timestamp("2024-01-01").as_unit("s"),
        pandas.Timestamp("9999-01-01").as_unit("s"),
        pandas.Timestamp("2024-01-01", tz="UTC"),
        pandas.Timestamp(TWICE),
        pandas.Timestamp(TWICE.replace(fold=1)),
    ],
    ids=str,
)
def test_a_time_of_pandas_comes_back_in_its_unit(moment: pandas.Timestamp) -> None:
    found = there_and_back(moment)
    assert type(found) is pandas.Timestamp
    assert repr(found) == repr(moment)
    assert (found.unit, found.fold) == (moment.unit, moment.fold)


@pytest.mark.parametrize(
    "value",
    [
        TWICE.replace(tzinfo=OwnZone()),
        pandas.Series([{1}, {2}]),
        pandas.Timestamp("2024-01-01", tz=OwnZone()),
        pandas.NaT,
        numpy.ma.masked_array([1, 2], mask=[False, True]),
        numpy.array([{}], dtype=object),
        pandas.DataFrame({"sets": [{1}, {2}]}),
        pandas.DataFrame({"tuples": [(1, 2), (3, 4)]}),
        pandas.DataFrame({"dicts": [{"x": 1}, {"y": 2}]}),
        pandas.DataFrame({"ids": [uuid.UUID(int=7)]}),
        pandas.DataFrame([[1, 2]], columns=["a", "a"]),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_would_come_back_as_another_thing_is_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        to_plain(value)


def test_two_masks_of_one_array_are_not_one_key() -> None:
    masked = numpy.ma.masked_array([1, 2], mask=[False, True])
    with pytest.raises(TypeError, match="needs a hook of its own"):
        everyday_key(masked)
