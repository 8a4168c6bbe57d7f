"""Days that a column writes as numbers: a spreadsheet's, or the time since 1970."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import NamedTuple

import numpy as np

from course.analytics.arrays import EPOCH_DAY, LAST_DAY, Ints
from course.errors import BadInput

NUMBER_OF_DAY = re.compile(r"-?[0-9]{1,19}(?:[.,][0-9]{1,9})?")
SECONDS_A_DAY = 86_400  # seconds
NUMBERS_BEGIN = date(1980, 1, 1).toordinal()  # of what nobody has explained


class Clock(NamedTuple):
    """How numbers count time."""

    said: str
    zero: int  # the day whose number is 0
    a_day: float  # how many of them a day has

    def day(self, number: float) -> int:
        """Return the ordinal of a number's day, 0 where there is none such."""
        found = self.zero + int(number // self.a_day)
        return found if 1 <= found <= LAST_DAY else 0


EXCEL = Clock("a spreadsheet's numbers", date(1899, 12, 30).toordinal(), 1)
DAYS_SINCE_1970 = Clock("days since 1970", EPOCH_DAY, 1)
SINCE_1970_BY_UNIT = (
    Clock("seconds since 1970, UTC", EPOCH_DAY, SECONDS_A_DAY),
    Clock("milliseconds since 1970, UTC", EPOCH_DAY, SECONDS_A_DAY * 1e3),
    Clock("microseconds since 1970, UTC", EPOCH_DAY, SECONDS_A_DAY * 1e6),
    Clock("nanoseconds since 1970, UTC", EPOCH_DAY, SECONDS_A_DAY * 1e9),
)
CLOCKS = ("excel", "epoch")  # what --date-format takes
CLOCKS_ASKED = "say --date-format excel or epoch, or how they are written, as %y%m%d"


def number_of(text: str) -> float | None:
    """Return a text's number; None for what is none."""
    if NUMBER_OF_DAY.fullmatch(text) is None:
        return None
    return float(text.replace(",", "."))


def recognised_clock(number: float) -> Clock | None:
    """Return by which clock a number is a day from 1980 to today: by one, or none.

    Days since 1970 are not among them: such numbers are also days since 1960.
    """
    today = date.today().toordinal() + 1  # it is tomorrow already somewhere
    for clock in (EXCEL, *SINCE_1970_BY_UNIT):
        if NUMBERS_BEGIN <= clock.day(number) <= today:
            return clock
    return None


def clock_by_size(number: float) -> Clock:
    """Return the unit in which a number counts the time since 1970."""
    if abs(number) < 1e6:
        return DAYS_SINCE_1970
    for digits, clock in zip((11, 14, 17), SINCE_1970_BY_UNIT, strict=False):
        if abs(number) < 10.0**digits:
            return clock
    return SINCE_1970_BY_UNIT[-1]


def of_different_kinds(what: str, meant: Mapping[str, str], cure: str) -> BadInput:
    """Return the error of texts that cannot stand in one column, as they are meant."""
    kinds = [f"{text!r} ({meaning})" for text, meaning in meant.items()]
    return BadInput(f"{what}: {' and '.join(kinds)} are of different kinds; {cure}")


def clock_of(texts: Sequence[str], asked: str | None, what: str) -> Clock | None:
    """Return by which clock a column counts, of whose texts none is a date.

    None if it is not numbers. Raises BadInput where nothing decides.
    """
    numbers = {text: number_of(text) for text in texts}
    first = {text: each for text, each in numbers.items() if each is not None}
    if asked == "excel":
        return EXCEL
    if asked == "epoch":
        middle = float(np.median([abs(each) for each in first.values()] or [0.0]))
        return clock_by_size(middle)
    found: dict[Clock, str] = {}
    for text, number in first.items():
        clock = recognised_clock(number)
        if clock:
            found.setdefault(clock, text)
    if len(found) > 1:
        meant = {text: clock.said for clock, text in found.items()}
        raise of_different_kinds(what, meant, CLOCKS_ASKED)
    if found:
        return next(iter(found))
    if first and len(first) == len([text for text in texts if text]):
        said = f"{next(iter(first))!r} is a number, and nothing says of what"
        raise BadInput(f"{what}: {said}; {CLOCKS_ASKED}")
    return None


def days_by(clock: Clock, texts: Sequence[str]) -> Ints:
    """Return the days of a column's texts, 0 where one is no number."""
    days = []
    for text in texts:
        number = number_of(text)
        days.append(0 if number is None else clock.day(number))
    return np.array(days, np.int64)
