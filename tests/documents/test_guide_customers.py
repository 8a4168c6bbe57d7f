"""What chapter 5 of the guide shows by hand: a log, its table, and two time lines."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import Any

import pytest
from lessons import ROOT, load

GUIDE = (ROOT / "COMPREHENSIVE_GUIDE.md").read_text("utf-8")
CHAPTER = GUIDE.partition("\n## 5. ")[2].partition("\n## 6. ")[0]
AS_OF = date(1997, 9, 30)
BAR = re.compile(r"^ +(.+?) :\w+, (\d{4}-\d\d-\d\d), (\d{4}-\d\d-\d\d)$", re.MULTILINE)
ORDER = re.compile(r"^ +order :milestone, (\S+), 0d$", re.MULTILINE)


def lines_of_block(first_line: str) -> list[str]:
    """Return the lines of the block whose first line begins like this."""
    _, found, after = CHAPTER.partition(f"\n```text\n{first_line}")
    assert found, f"no block begins with {first_line!r}"
    return (first_line + after.partition("\n```")[0]).splitlines()


def time_line(title: str) -> str:
    """Return the text of a time line."""
    _, found, after = CHAPTER.partition(f"    title {title}\n")
    assert found, f"no time line {title!r}"
    return after.partition("\n```")[0] + "\n"


def bars(title: str) -> dict[str, tuple[date, date]]:
    """Return the first and the last day of each bar of a time line."""
    found = {}
    for name, start, end in BAR.findall(time_line(title)):
        # A bar ends as its last date begins: the day before is its last.
        last = date.fromisoformat(end) - timedelta(days=1)
        found[name] = (date.fromisoformat(start), last)
    return found


@pytest.fixture(scope="module")
def lesson() -> Any:
    return load("05")


@pytest.fixture(scope="module")
def log(lesson: Any) -> Any:
    return lesson.read_log(lesson.SAMPLE)


def day(ordinal: Any) -> date:
    """Return the date of a day's number."""
    return date.fromordinal(int(ordinal))


def test_the_log_is_how_the_sample_begins() -> None:
    shown = lines_of_block("customer,date,quantity,amount")
    sample = (ROOT / "data" / "cdnow_sample.csv").read_text("utf-8").splitlines()
    assert len(shown) > 1
    assert shown == sample[: len(shown)]


def test_the_feature_table_is_what_the_lesson_computes(lesson: Any, log: Any) -> None:
    heading, *rows = lines_of_block("customer ")
    names = heading.split()[1:]
    table = lesson.customer_table(log, AS_OF)
    assert rows
    for line in rows:
        customer, *figures = line.split()
        row = lesson.row_of(log, table, customer)
        computed = [float(getattr(table, name)[row]) for name in names]
        assert [float(figure) for figure in figures] == pytest.approx(
            computed, abs=0.0051
        )


def test_the_cut_is_drawn_where_it_is(lesson: Any, log: Any) -> None:
    title = "Customer 0001, cut at as_of"
    mine = log.day[log.customer == log.codes["0001"]]
    orders = [date.fromisoformat(text) for text in ORDER.findall(time_line(title))]
    assert orders == [day(each) for each in mine]
    end, days = lesson.halves(log)
    assert day(end) == AS_OF
    assert bars(title) == {
        "read": (day(log.day.min()), AS_OF),
        "not read before the score": (day(end + 1), day(end + days)),
    }


def test_the_thirds_are_drawn_where_they_are(lesson: Any, log: Any) -> None:
    end, days = lesson.thirds(log)
    first = day(log.day.min())
    inner = end - days
    assert bars("The log in thirds") == {
        "fit": (first, day(inner)),
        "choose the model": (day(inner + 1), day(end)),
        "fit again": (first, day(end)),
        "holdout, scored once": (day(end + 1), day(end + days)),
    }
