"""Lesson 05: files and frames from elsewhere: what is read, what is never merged."""

from __future__ import annotations

import csv
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lesson_05.logs import SCRIPT, lesson, orders, write
from lessons import run

from course.analytics.amounts import read_amounts
from course.analytics.dates import read_dates
from course.analytics.rules import require_few_refused
from course.analytics.scoresheet import csv_of
from course.errors import BadInput


def dated(how: str, days: int = 60) -> list[str]:
    first = date(2020, 1, 1)
    return [(first + timedelta(3 * k)).strftime(how) for k in range(days)]


def ordinals(days: int = 60) -> list[int]:
    return [date(2020, 1, 1).toordinal() + 3 * k for k in range(days)]


NO_CENTS = {
    "CHF 1'234.-": 1234,
    "1'234.\u2013": 1234,
    "Fr. 12.--": 12,
    "-12.-": -12,
    "1,23,456.50": 123456.5,
}
CONTINENTAL = {
    "1.234,-": 1234,
    "1.234,-- \u20ac": 1234,
    "kr 1 234,-": 1234,
    "-1.234,\u2014": -1234,
    "1.234:-": 1234,
    "12,50-": -12.5,
}


@pytest.mark.parametrize(
    ("texts", "proof"), [(NO_CENTS, "1,000.50"), (CONTINENTAL, "1.000,50")]
)
def test_a_dash_for_no_cents_is_no_refund(texts: dict[str, float], proof: str) -> None:
    found = read_amounts([proof, *texts], None, "the amounts").value
    assert found[1:].tolist() == list(texts.values())


def test_a_dash_for_no_cents_decides_the_mark() -> None:
    for text, value in {"1.234,-": 1234, "1,234.-": 1234}.items():
        assert read_amounts([text], None, "the amounts").value.tolist() == [value]


CURRENCIES = [
    ("kr {}", "{} kr."),
    ("{} z\u0142", "{} Z\u0141"),
    ("{} K\u010d", "{} k\u010d"),
    ("Rs. {}", "Rs {}"),
    ("{} usd", "${}"),
    ("\u20ac{}", "{} Euro"),
    ("HK${}", "hk${}"),
    ("{} lei", "{} Lei"),
    ("\uffe5{}", "{}\u5186"),
]


@pytest.mark.parametrize("forms", CURRENCIES)
def test_a_currency_is_one_however_it_is_spelled(
    forms: tuple[str, str], tmp_path: Path
) -> None:
    rows = [
        [who, day, forms[place % 2].format(paid)]
        for place, (who, day, paid) in enumerate(orders())
    ]
    log = lesson.read_log(write(tmp_path / "orders.csv", rows))
    assert len(log.day) == len(rows)
    assert log.reading["currency"]
    assert not log.refused


DATES = ("%y-%m-%d", "%d.%m.%y", "%m/%d/%y", "%y/%m/%d", "%d-%m-%Y")


@pytest.mark.parametrize("how", DATES)
def test_a_year_of_two_digits_may_come_first(how: str) -> None:
    assert read_dates(dated(how), None, "the dates").day.tolist() == ordinals()


def test_a_year_of_two_digits_is_asked_for_where_nothing_decides() -> None:
    with pytest.raises(BadInput, match="--date-format"):
        read_dates(["20-01-05", "20-01-15"], None, "the dates")
    found = read_dates(["20-01-05", "20-01-15"], "ymd", "the dates").day
    assert found.tolist() == [
        date(2020, 1, 5).toordinal(),
        date(2020, 1, 15).toordinal(),
    ]


def test_one_day_in_any_order_needs_no_question() -> None:
    found = read_dates(["03/03/2020", "05/05/2020"], None, "the dates").day.tolist()
    assert found == [date(2020, 3, 3).toordinal(), date(2020, 5, 5).toordinal()]


def test_empty_lines_and_rows_are_no_mistakes(tmp_path: Path) -> None:
    path = write(tmp_path / "orders.csv", orders())
    text = path.read_text("utf-8")
    lines = text.splitlines()
    spread = "\n \n".join(lines)
    path.write_text(f"\n  \n{spread}\n,,\n" + ",,\n" * 50, "utf-8")
    log = lesson.read_log(path)
    assert len(log.day) == len(lines) - 1
    assert not log.refused


@pytest.mark.parametrize("column", ["customer", "item"])
def test_a_quote_that_does_not_end_loses_no_rows_in_silence(
    column: str, tmp_path: Path
) -> None:
    rows = [[*row, "thing"] for row in orders()]
    path = write(tmp_path / "orders.csv", rows, "customer,date,amount,item")
    lines = path.read_text("utf-8").splitlines()
    broken = {
        "customer": '"c1,2020-01-05,1.50,thing',
        "item": 'c1,2020-01-05,1.50,"19"" screen',
    }
    lines[200] = broken[column]
    if column == "item":
        lines[300] = 'c1,2020-01-05,1.50,24" screen"'
    path.write_text("\n".join([*lines, ""]), "utf-8")
    log = lesson.read_log(path)
    refused = sum(map(len, log.refused.values()))
    assert len(log.day) + refused >= len(rows) - 1
    with pytest.raises(BadInput, match="quotes that do not end"):
        require_few_refused(log, "--accept-refused")


def test_nothing_usable_shows_a_value(tmp_path: Path) -> None:
    rows = [[who, day, f"{paid} incl. VAT"] for who, day, paid in orders()]
    with pytest.raises(BadInput, match=r"such as '\d+\.50 incl\. VAT'"):
        lesson.read_log(write(tmp_path / "orders.csv", rows))


def frames_with_a_gap() -> dict[str, Any]:
    pandas = pytest.importorskip("pandas")
    polars = pytest.importorskip("polars")
    pyarrow = pytest.importorskip("pyarrow")
    long = [2**60 + 1, 2**60 + 2, None] * 4
    days = [date(2020, 1, 1 + k) for k in range(12)]
    return {
        "pandas": pandas.DataFrame({"c": pandas.array(long, dtype="Int64"), "d": days}),
        "objects": pandas.DataFrame(
            {"c": pandas.Series(long, dtype=object), "d": days}
        ),
        "arrow in pandas": pandas.DataFrame(
            {"c": pandas.array(long, dtype="int64[pyarrow]"), "d": days}
        ),
        "polars": polars.DataFrame({"c": long, "d": days}),
        "pyarrow": pyarrow.table({"c": long, "d": days}),
    }


@pytest.mark.parametrize("kind", frames_with_a_gap())
def test_long_numbers_beside_a_gap_stay_apart(kind: str) -> None:
    frame = frames_with_a_gap()[kind]
    names = {"customer": "c", "date": "d"}
    log = lesson.TransactionLog.from_frame(frame, **names, accept_refused=True)
    assert list(log.ids) == [str(2**60 + 1), str(2**60 + 2)]
    assert len(log.refused["no customer"]) == 4


def test_floats_that_merge_neighbours_are_no_names() -> None:
    frame = {"c": np.array([2.0**60, 2.0**60 + 2**10]), "d": ["2020-01-01"] * 2}
    with pytest.raises(BadInput, match="too large to be told apart"):
        lesson.TransactionLog.from_frame(frame, customer="c", date="d")


@pytest.mark.parametrize("bad", [np.inf, -np.inf, 1e13])
def test_an_amount_of_a_frame_has_the_bounds_of_a_file(bad: float) -> None:
    paid = np.full(300, 5.0)
    paid[7] = bad
    frame = {"c": ["a", "b"] * 150, "d": ["2020-01-01"] * 300, "a": paid}
    names = {"customer": "c", "date": "d", "amount": "a"}
    log = lesson.TransactionLog.from_frame(frame, **names)
    assert log.refused == {"unreadable amount": [7]}


COLUMNS: dict[str, tuple[dict[str, Any], str]] = {
    "half floats": ({"customer": np.array([0, 1, 2050], "float16")}, "float16"),
    "masked": (
        {"customer": np.ma.array([0, 1, 1], mask=[False, True, False])},
        "masked",
    ),
    "masked amounts": (
        {"amount": np.ma.array([1, 1, 1.0], mask=[False, True, False])},
        "masked",
    ),
    "dates as amounts": ({"amount": np.zeros(3, "M8[D]")}, "amount holds datetime64"),
    "truths as amounts": ({"amount": np.ones(3, bool)}, "amount holds bool"),
}


@pytest.mark.parametrize("case", COLUMNS)
def test_columns_that_numpy_would_cast_in_silence_are_named(case: str) -> None:
    changed, named = COLUMNS[case]
    columns = {
        "customer": np.array([0, 1, 1]),
        "day": np.array([730000, 730001, 730002]),
        "amount": np.ones(3),
    }
    with pytest.raises(BadInput, match=named):
        lesson.TransactionLog(**columns | changed, ids=range(3000))


def test_two_customers_of_one_name_are_named(log: Any) -> None:
    twice = lesson.TransactionLog([0, 1], [730000, 730001], [1, 1], ["a", "a"])
    engine = lesson.AnalyticsEngine(twice, 730001)
    with pytest.raises(BadInput, match="one name"):
        engine.calculate_user_profile("a")


@pytest.mark.parametrize("day", ["1997-09-30", float("nan"), np.datetime64("NaT"), -5])
def test_as_of_that_is_no_day_is_named(log: Any, day: Any) -> None:
    with pytest.raises(BadInput, match="as_of"):
        lesson.AnalyticsEngine(log, day)


FORMULAS = ["=1+1", "+1+1", "-2+3", "@SUM(A1)", "=cmd|'/C calc'!A0", "\uff1d1+1"]


def test_no_name_in_the_scores_is_a_formula() -> None:
    numbers = ["-5", "+49170", "12347", "c1", "-1,5"]
    table: dict[str, list[Any]] = {"customer": [*FORMULAS, *numbers]}
    table["orders"] = [1] * 11
    rows = list(csv.reader(csv_of(table).decode().splitlines()))[1:]
    assert [row[0] for row in rows] == [f"'{name}" for name in FORMULAS] + numbers
    assert [row[1] for row in rows] == ["1"] * 11


@pytest.mark.parametrize("option", ["--scores", "--report", "--plots"])
def test_a_name_that_no_file_can_have_is_one_line(option: str, tmp_path: Path) -> None:
    name = str(tmp_path / f"{'a' * 300}.csv")
    done = run(SCRIPT, "--json", option, name)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1


def test_a_log_of_one_month_draws_without_a_warning(tmp_path: Path) -> None:
    rows = [
        [f"c{k % 50}", str(date(2020, 2, 1) + timedelta(k % 27)), "5.50"]
        for k in range(500)
    ]
    path = write(tmp_path / "orders.csv", rows)
    done = run(SCRIPT, "--transactions", str(path), "--plots", str(tmp_path / "p"))
    assert (done.returncode, done.stderr) == (0, "")


def test_the_climb_by_parts_ends_at_the_same_top(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from course.analytics import gammagamma

    log = lesson.simulate(80_000, 3)
    t = lesson.customer_table(log, log.last_day)
    by_parts = vars(lesson.fit_gamma_gamma(t.x, t.mean_spend))
    monkeypatch.setattr(gammagamma, "MANY_ROWS", 10**9)
    at_once = vars(lesson.fit_gamma_gamma(t.x, t.mean_spend))
    assert by_parts == pytest.approx(at_once, rel=1e-8)
