"""Lesson 05: dates as shops, spreadsheets and clocks in many countries write them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lesson_05.logs import lesson, orders, write

from course.analytics.dates import read_dates, without_clock
from course.analytics.months import months_by_name
from course.analytics.rules import require_few_refused
from course.errors import BadInput

DAY = date(2023, 9, 30)
NOON = datetime(2023, 9, 30, 12, 30, tzinfo=UTC)
EXCEL_NUMBER = (DAY - date(1899, 12, 30)).days


def read(*texts: str, asked: str | None = None) -> tuple[list[date | None], str]:
    found = read_dates([without_clock(text) for text in texts], asked, "the dates")
    days = [date.fromordinal(day) if day else None for day in found.day.tolist()]
    return days, found.said


ONE_WAY_ONLY = """\
2023-09-30T10:20:30+02:00[Europe/Berlin]
2023-09-30 10:20:30 CEST
2023-09-30\u00a010:20
9/30/2023, 10:20\u202fAM
30.09.2023, 10:20 Uhr
20230930102030
202309301020
30092023
09302023
2023-W39-6
2023W396
2023.09.30.
2023. 9. 30.
2023\u5e749\u670830\u65e5
\uff12\uff10\uff12\uff13\u5e74\uff19\u6708\uff13\uff10\u65e5
\uff12\uff10\uff12\uff13\uff0f\uff10\uff19\uff0f\uff13\uff10
\u200e30.\u200e09.\u200e2023\u200f
\u0662\u0660\u0662\u0663-\u0660\u0669-\u0663\u0660
30. September 2023
Samstag, 30. September 2023
30.Sep.2023
30 de septiembre de 2023
sabado, 30 de set. de 2023
30 settembre 2023
30. syyskuuta 2023
30-set-2023
30 sept. 2023
30th of September 2023
30Sep2023
30SEP23:10:20:30
30/Sep/2023:10:20:30 +0000
2023-Sep-30
30. 09. 2023
30. 9. 2023 10:20
30\u201309\u20132023
2023\u221209\u221230
2023-09-30Z
2023-09-30+02:00
2023-09-30-10.20.30.123456
20230930.0
'2023-09-30'
Sat Sep 30 10:20:30 2023
Sat Sep 30 10:20:30 UTC 2023
""".splitlines()
NOT_WESTERN = "30. syyskuuta 2023"


@pytest.mark.parametrize("text", ONE_WAY_ONLY)
def test_what_has_one_meaning_is_read(text: str) -> None:
    wanted = None if text == NOT_WESTERN else DAY
    assert read(text)[0] == [wanted]


MONTHS = {
    "3. M\u00e4rz 2023": 3,
    "3 mrt. 2023": 3,
    "3 f\u00e9vr. 2023": 2,
    "14 ao\u00fbt 2023": 8,
    "1er juil. 2023": 7,
    "3 jui 2023": None,  # June or July
    "5 mag 2023": 5,
    "3 maj 2023": 5,
    "1 enero 2023": 1,
    "2. Dez. 2023": 12,
    "3 pa\u017adziernika 2023": 10,
    "1 wrze\u015bnia 2023": 9,
    "7 lut 2023": 2,
    "3 marras 2023": None,  # November in Finnish: it only begins like March
}


@pytest.mark.parametrize("text", MONTHS)
def test_a_month_has_its_name_in_many_languages(text: str) -> None:
    (day,) = read(text)[0]
    assert (day.month if day else None) == MONTHS[text]


def test_no_beginning_of_a_name_is_two_months() -> None:
    names = months_by_name()
    assert "jui" not in names
    assert "ma" not in names
    assert {names[name] for name in ("mar", "mai", "set", "ago", "dez")} == {
        3,
        5,
        9,
        8,
        12,
    }


NUMBERS = {
    "a spreadsheet's": str(EXCEL_NUMBER),
    "a spreadsheet's, with a time": f"{EXCEL_NUMBER}.52",
    "a spreadsheet's, with a comma": f"{EXCEL_NUMBER},52",
    "seconds": str(int(NOON.timestamp())),
    "seconds and parts": f"{NOON.timestamp():.3f}",
    "milliseconds": str(int(NOON.timestamp() * 1e3)),
    "microseconds": str(int(NOON.timestamp() * 1e6)),
    "nanoseconds": str(int(NOON.timestamp()) * 10**9),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_days_as_numbers_are_recognised_and_said(kind: str) -> None:
    days, said = read(NUMBERS[kind], "")
    assert days == [DAY, None]
    assert said.startswith(kind.partition(",")[0].split()[0])
    by_name = "excel" if kind.startswith("a spreadsheet") else "epoch"
    assert read(NUMBERS[kind], asked=by_name)[0] == [DAY]


def test_milliseconds_of_the_nineties_are_no_years() -> None:
    text = "873009300000"  # 1997; as a date of twelve digits it would be 8730-09-30
    assert read(text)[0] == [date(1997, 8, 31)]


ASKED = [
    ["230930", "230929"],  # yymmdd, or a number
    ["19630"],  # since 1970, or since 1960
    ["2023", "2024"],
    [str(EXCEL_NUMBER), str(int(NOON.timestamp()))],
    ["4102444800"],  # in a future that no log knows
]


@pytest.mark.parametrize("texts", ASKED)
def test_numbers_that_nothing_explains_ask(texts: list[str]) -> None:
    with pytest.raises(BadInput, match="--date-format excel or epoch"):
        read(*texts)


def test_an_option_says_what_numbers_are() -> None:
    assert read("19630", asked="epoch")[0] == [date(2023, 9, 30)]
    assert read("230930", asked="%y%m%d")[0] == [DAY]
    assert read("60", "x", asked="excel")[0] == [date(1900, 2, 28), None]


def test_a_number_beside_dates_is_no_date() -> None:
    assert read("2023-09-30", str(EXCEL_NUMBER))[0] == [DAY, None]


def test_unreadable_dates_name_the_option(tmp_path: Path) -> None:
    rows = [[who, "3 lokakuuta 2023", paid] for who, _, paid in orders(40)]
    with pytest.raises(BadInput, match="--date-format"):
        lesson.read_log(write(tmp_path / "all.csv", rows))
    some = lesson.read_log(write(tmp_path / "some.csv", [*rows[:5], *orders(40)]))
    with pytest.raises(BadInput, match="--date-format"):
        require_few_refused(some, "--accept-refused")


COLUMNS: dict[str, Any] = {
    "whole numbers": lambda days: np.array(days, np.int32),
    "floats": lambda days: np.array(days, np.float64) + 0.25,
    "objects": lambda days: np.array(days, object),
    "texts": lambda days: [str(day) for day in days],
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_frame_may_hold_numbers_for_days(kind: str) -> None:
    column = COLUMNS[kind]([EXCEL_NUMBER + k for k in range(9)])
    frame = {"who": ["a", "b", "c"] * 3, "day": column}
    log = lesson.TransactionLog.from_frame(frame, customer="who", date="day")
    wanted = [(DAY + timedelta(k)).toordinal() for k in range(9)]
    assert log.day.tolist() == wanted
    assert log.reading["dates"] == "a spreadsheet's numbers"


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("\u200e30.\u200e09.2023", "%d.%m.%Y"),
        ("\uff12\uff10\uff12\uff13\uff0f09\uff0f30", "%Y\uff0f%m\uff0f%d"),
        ("2023\u5e7409\u670830\u65e5", "%Y\u5e74%m\u6708%d\u65e5"),
    ],
)
def test_a_pattern_reads_the_digits_of_any_script(text: str, pattern: str) -> None:
    assert read_dates([text], pattern, "the dates").day.tolist() == [DAY.toordinal()]
