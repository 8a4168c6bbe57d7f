"""Dates as people write them: day first or month first, decided on a column."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Any, NamedTuple

import numpy as np

from course.analytics.arrays import Ints, iso
from course.analytics.daynumbers import CLOCKS, clock_of, days_by, of_different_kinds
from course.analytics.months import month_of
from course.analytics.typed import in_ascii_digits, unwrapped
from course.errors import BadInput

ORDERS = ("dmy", "mdy", "ymd")  # what --date-format takes, beside CLOCKS and patterns
SHORT_YEAR_FIRST = "yy first"  # a reading that is ymd only if the column is
NUMBERS = re.compile(r"(\d{1,4})(\. |[-/. ])(\d{1,2})\2(\d{1,4})")
COMPACT = re.compile(r"(\d{4})(\d{2})(\d{2})(?:\.0)?")  # pandas beside a gap
COMPACT_TIME = re.compile(r"((?:19|20)\d{2})(\d{2})(\d{2})[0-2]\d[0-5]\d(?:[0-5]\d)?")
YEAR_LAST = re.compile(r"(\d{2})()(\d{2})((?:19|20)\d{2})")  # groups as in NUMBERS
IN_ASIA = re.compile(  # and in Hungary
    r"(\d{4})[.\u5e74\ub144] ?(\d{1,2})[.\u6708\uc6d4] ?(\d{1,2})[.\u65e5\uc77c]"
)
WEEK = re.compile(r"\d{4}(-?)W\d{2}\1[1-7]")
MONTH_WORD = r"([^\W\d_]{3,12})\.?"
BETWEEN_PARTS = r"(?:[-/ ]| of | de )"
YEAR_NUMBER = r"(\d{2}|\d{4})"
CLOCK_WITHIN = r"(?: \d{1,2}(?::\d{2}){1,2})?(?: [A-Z]{3,5})?"  # as in ctime and `date`
NAMED = re.compile(
    r"(?:[^\W\d_]{2,10}\.?,? )?"  # the day of the week
    r"(?:"
    rf"(\d{{1,2}})(?:st|nd|rd|th|er|\.)?{BETWEEN_PARTS}?{MONTH_WORD},?{BETWEEN_PARTS}?|"
    rf"{MONTH_WORD}[- ](\d{{1,2}})(?:st|nd|rd|th)?(?:,?[- ]|{CLOCK_WITHIN} )"
    rf"){YEAR_NUMBER}",
    re.IGNORECASE,
)
YEAR_THEN_NAME = re.compile(rf"(\d{{4}})[-/ ]{MONTH_WORD}[-/ ](\d{{1,2}})")
HOUR = "(?:[01]?[0-9]|2[0-4])"
ZONE = (
    r"(?:Z|(?-i:[A-Z]{3,5})|Uhr)?(?:[+-]\d{2}:?(?:\d{2})?)?"
    r"(?:\[[\w/+-]+\]| ?\([^()]+\)| ?[a-z]+(?:/[\w-]+)+)?"
)
BEFORE_HOUR = "(?:(?:at|um|klo|kl\\.?|\u00e0|\u00e0s|a las) )?"
CLOCK = re.compile(
    rf"(?:(?<=\d)T{HOUR}(?::?[0-5]\d(?::?[0-6]\d)?)?"
    rf"|,?[ _]{BEFORE_HOUR}{HOUR}[:.h][0-5]\d(?:[:.][0-6]\d)?"
    rf"|(?<=\d{{2}}):{HOUR}:[0-5]\d:[0-6]\d"  # 30/Sep/1997:10:20:30
    rf"|(?<=-\d{{2}})-{HOUR}\.[0-5]\d\.[0-6]\d"  # 1997-09-30-10.20.30, as of DB2
    r"|(?<=\d{4}-\d{2}-\d{2})(?=Z|[+-]\d{2}:))"  # 1997-09-30+01:00, as of XML
    rf"(?:[.,]\d+)? ?(?:[ap]\.? ?m\.?)? ?{ZONE}$",
    re.IGNORECASE,
)
PIVOT = 69  # of years with two digits: 69 is 1969, 68 is 2068, as in POSIX
CENTURY_LATER = 36_525  # days; no forecast reaches that far
SHORT_LOG = 30  # days
TIMES_THE_MIDDLE = 3  # as long as most of the log takes: so far is no gap in it
FEW = 0.05  # of the rows; more than that beyond a gap are no mistakes


def without_clock(text: str) -> str:
    """Return a timestamp without its time of day."""
    text = unwrapped(in_ascii_digits(text).strip())
    if "  " in text or not text.isascii():
        text = " ".join(text.split())  # of any kind, and two before a single digit
    return CLOCK.sub("", text) if len(text) > len("30/09/1997") else text


def full_year(text: str) -> int:
    """Return a year of two digits or four."""
    year = int(text)
    if len(text) > 2:
        return year
    return year + (1900 if year >= PIVOT else 2000)


def ordinal_of(year: str, month: str, day: str) -> int:
    """Return the day, 0 if there is none such."""
    try:
        return date(full_year(year), int(month), int(day)).toordinal()
    except ValueError:
        return 0


def week_day(text: str) -> int:
    """Return the day of 1997-W40-2, 0 if there is none such."""
    try:
        return date.fromisoformat(text).toordinal()
    except ValueError:
        return 0


def named_day(text: str) -> int:
    """Return the day of a text with the month's name, 0 if it is none."""
    named = NAMED.fullmatch(text)
    year_first = YEAR_THEN_NAME.fullmatch(text)
    if named:
        name = named[2] or named[3]
        year = named[5]
        day = named[1] or named[4]
    elif year_first:
        year, name, day = year_first.groups()
    else:
        return 0
    return ordinal_of(year, str(month_of(name)), day)


def clear_day(text: str) -> int:
    """Return the day of a text that can be read in one way only, 0 if it cannot."""
    for pattern in (COMPACT, COMPACT_TIME, IN_ASIA):
        found = pattern.fullmatch(text)
        day = ordinal_of(*found.groups()) if found else 0
        if day:
            return day
    return week_day(text) if WEEK.fullmatch(text) else named_day(text)


def readings(text: str) -> dict[str, int]:
    """Return the day that a text means, by the order in which it is read.

    One with a year of two digits, or with the year last, has several; empty for a
    text that is no date.
    """
    clear = clear_day(text)
    if clear:
        return {"ymd": clear}
    numbers = NUMBERS.fullmatch(text) or YEAR_LAST.fullmatch(text)
    if numbers is None:
        return {}
    first, _, second, third = numbers.groups()
    if len(first) == 4:
        return only_real({"ymd": ordinal_of(first, second, third)})
    if len(first) > 2 or len(third) not in (2, 4):
        return {}
    day_first = ordinal_of(third, second, first)
    month_first = ordinal_of(third, first, second)
    found = {"dmy": day_first, "mdy": month_first}
    if len(first) == len(third) == 2:
        found[SHORT_YEAR_FIRST] = ordinal_of(first, second, third)
    return only_real(found)


def only_real(days: dict[str, int]) -> dict[str, int]:
    """Return the readings that are days."""
    return {order: day for order, day in days.items() if day}


def plausible(text: str) -> dict[str, int]:
    """Return the readings that have come already; all, if none has."""
    found = readings(text)
    now = date.today().toordinal()
    return {order: day for order, day in found.items() if day <= now} or found


def date_order(texts: Iterable[str], asked: str | None, what: str) -> str:
    """Return in which order a column is written; `ymd` where the year is never last.

    Raises BadInput where nothing decides whether the day or the month comes first.
    """
    if asked is not None:
        return asked
    proof: dict[str, str] = {}
    open_question: dict[str, str] = {}  # by what stands between the numbers
    decided = set()  # what stands there in a proof
    possible = set(ORDERS)  # that every text allows which has a choice
    order_of = {"dmy": "dmy", "mdy": "mdy", SHORT_YEAR_FIRST: "ymd"}
    chosen = False
    for text in texts:
        found = plausible(text)
        allowed = {order_of[name] for name in found if name in order_of}
        if not allowed:
            continue
        chosen = True
        possible &= allowed
        mark = re.sub(r"\d", "", text)[:1]
        if len(allowed) == 1:
            proof.setdefault(allowed.pop(), text)
            decided.add(mark)
        elif len(set(found.values())) > 1:
            open_question.setdefault(mark, text)
    options = "--date-format dmy, mdy or ymd"
    if len(proof) > 1:
        meant = {text: SAID[order] for order, text in proof.items()}
        raise of_different_kinds(what, meant, f"say {options}")
    # A spreadsheet in another country turns 05.04. into 04/05/ and leaves 13.04. alone.
    left = [text for mark, text in open_question.items() if mark not in decided]
    if proof and not left:
        return next(iter(proof))
    if len(possible) == 1 and not proof:
        return possible.pop()
    if left:
        said = f"{left[0]!r} may have the day first or the month"
        raise BadInput(f"{what}: {said}, and nothing decides; say {options}")
    return "dmy" if chosen else "ymd"  # 03/03/1997 is one day in any order


class DateTexts(NamedTuple):
    """What the different texts of a column say; 0 for those that are no date."""

    day: Ints
    said: str  # how they were read


SAID = {"dmy": "day first", "mdy": "month first", "ymd": "year, month, day"}


def read_dates(texts: Sequence[str], asked: str | None, what: str) -> DateTexts:
    """Return the days of a column's different texts."""
    if asked is not None and "%" in asked:
        days = [by_pattern(text, asked) for text in texts]
        return DateTexts(np.array(days, np.int64), f"as {asked}")
    if asked in CLOCKS or (asked is None and not any(map(readings, texts))):
        clock = clock_of(texts, asked, what)
        if clock:
            return DateTexts(days_by(clock, texts), clock.said)
    order = date_order(texts, asked, what)
    days = []
    for text in texts:
        found = readings(text)
        day = found.get(SHORT_YEAR_FIRST, 0) if order == "ymd" else found.get(order, 0)
        days.append(day or found.get("ymd", 0))
    return DateTexts(np.array(days, np.int64), SAID[order])


def by_pattern(text: str, pattern: str) -> int:
    """Return the day of a text by a pattern of strptime, 0 if it does not fit."""
    text = in_ascii_digits(text)
    pattern = in_ascii_digits(pattern)
    try:
        return datetime.strptime(text, pattern).toordinal()
    except ValueError:
        return 0


def check_pattern(text: str) -> str:
    """Return what --date-format was given, or raise BadInput."""
    if text.lower() in (*ORDERS, *CLOCKS):
        return text.lower()
    try:
        known = "%" in text and datetime.strptime(
            date(1997, 9, 30).strftime(text), text
        )
    except ValueError:
        known = False
    if not known or (known.year, known.month, known.day) != (1997, 9, 30):
        said = "dmy, mdy, ymd, excel, epoch, or a pattern such as %d.%m.%Y"
        raise BadInput(f"--date-format {text}: it takes {said}")
    return text


class Gap(NamedTuple):
    """A date that stands too far from the others to be trusted."""

    day: int
    neighbour: int


def distrusted(day: Ints) -> Gap | None:
    """Return a first or last day further from its neighbour than all others are apart.

    A few such days together count as one: what stands beyond the gap is under FEW of
    the rows. Of hundreds of days, a hundredth at either end are left out of the rest.
    """
    days, rows = np.unique(day, return_counts=True)
    if len(days) < 3:
        return None
    share = np.cumsum(rows) / len(day)
    before = share[:-1]  # of the rows, up to each gap
    most = days[np.searchsorted(share, [FEW, 1 - FEW])]
    middle = max(int(most[1] - most[0]), SHORT_LOG)
    gaps = np.diff(days)
    trim = len(days) // 100
    rest = int(days[-1 - trim] - days[trim])
    for at in np.argsort(-gaps, kind="stable")[:3].tolist():
        left = int(days[at] - days[0])
        right = int(days[-1] - days[at + 1])
        in_the_tail = trim and (at < trim or at >= len(gaps) - trim)
        far = gaps[at] > max(left, right) or (in_the_tail and gaps[at] > rest)
        # Several wrong days at both ends hide behind each other.
        far = far or gaps[at] > TIMES_THE_MIDDLE * middle
        few_before = before[at] < FEW or at == 0
        few_after = 1 - before[at] < FEW or at == len(gaps) - 1
        if far and (few_before or few_after):
            ends = (int(days[at]), int(days[at + 1]))
            first_is_few = few_before and (not few_after or before[at] < 0.5)
            return Gap(*ends) if first_is_few else Gap(ends[1], ends[0])
    return None


def check_days(day: Ints, accepted: bool) -> None:
    """Raise BadInput if one date would decide all that is said of a log."""
    found = None if accepted else distrusted(day)
    if found is None:
        return
    away = abs(found.day - found.neighbour)
    said = f"{iso(found.day)} is {away:,} days from the next day with an order"
    rest = "further than all others lie apart"
    cure = (
        f"--as-of {iso(found.neighbour)} leaves it out"
        if (found.day > found.neighbour)
        else "correct it"
    )
    raise BadInput(f"{said}, {rest}: {cure}, --accept-dates takes it")


def known_until(log: Any, asked: int | None, accepted: bool) -> int:
    """Return the day up to which a log is read: as asked, else its last.

    Raises BadInput for a day that is not in the log, or if a date in it is doubtful.
    """
    first = int(log.day.min())
    last = int(log.day.max())
    as_of = asked or last
    if as_of < first:
        raise BadInput(f"--as-of {iso(as_of)}: the first order is on {iso(first)}")
    check_days(log.day[log.day <= as_of], accepted)
    if as_of > last and not accepted:
        said = f"the last order is on {iso(last)}"
        cure = "--accept-dates takes it that nobody ordered since"
        raise BadInput(f"--as-of {iso(as_of)}: {said}; {cure}")
    if as_of > last + CENTURY_LATER:
        raise BadInput(f"--as-of {iso(as_of)}: over a century after the last order")
    return as_of
