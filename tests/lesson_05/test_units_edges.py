"""Lesson 05: shops at the edge of what can be studied, and what is said of them."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from lesson_05.logs import SCRIPT, lesson, orders, write
from lessons import run, unbroken

from course.analytics.history import history_facts, history_figures
from course.analytics.options import add_options, check_options
from course.analytics.study import Makers, Study
from course.analytics.wording import how_many
from course.errors import BadInput


def every_day(days: int, customers: int = 40) -> list[list[str]]:
    first = date(2023, 1, 1)
    rows = []
    for who in range(customers):
        for day in range(days):
            paid = f"{5 + (7 * who + 3 * day) % 40}.50"
            rows.append([f"c{who}", str(first + timedelta(day)), paid])
    return rows


def study(path: Path, *options: str) -> Study:
    parser = lesson.lesson.parser()
    add_options(parser)
    args = parser.parse_args(["--transactions", str(path), *options])
    make = Makers(
        sample=lesson.SAMPLE,
        read_log=lesson.read_log,
        simulate=lesson.simulate,
        forecast=lesson.Forecast,
        backtest=lesson.Backtest,
        insights=lesson.InsightsGenerator,
        segment_rule=lesson.segment_rule,
    )
    return Study(args, make)


@pytest.mark.parametrize("days", [2, 3, 20])
def test_a_few_days_are_no_backtest(days: int, tmp_path: Path) -> None:
    path = write(tmp_path / "short.csv", every_day(days))
    short = study(path)
    assert short.record is None
    assert short.now.days == 273
    assert all("untested" in line for line in short.insights[:-1])
    assert "carried on" in history_facts(short.history)["days of the log"]
    if days > 2:
        assert study(path, "--horizon", "1").record is not None


def test_a_log_of_years_needs_no_warning(log: Any) -> None:
    facts = history_facts(history_figures(log, log.last_day))
    assert facts["days of the log"] == "546"


NO_ROOM = {
    ("--calibration-end", "2021-06-01"): "--calibration-end 2021-06-01: it has to lie",
    ("--calibration-end", "2019-06-01"): "--calibration-end 2019-06-01: it has to lie",
    ("--horizon", "9999"): r"--horizon 9999: .* \d+ days can be predicted$",
    ("--calibration-end", "2020-10-25", "--horizon", "5"): "1 day can be predicted",
    ("--calibration-end", "2020-01-02"): "--calibration-end: a backtest .* 2020-01-02:",
    ("--horizon", "298"): "--horizon: a backtest has only .* up to 2020-01-02: 0 of",
    ("--as-of", "2020-01-02"): "--as-of 2020-01-02: 0 of",
}


@pytest.mark.parametrize("options", NO_ROOM)
def test_no_room_for_a_backtest_names_the_option(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    path = write(tmp_path / "log.csv", orders())
    with pytest.raises(BadInput, match=NO_ROOM[options]):
        study(path, *options)


def test_a_log_that_cost_nothing_names_the_option(tmp_path: Path) -> None:
    rows = [[who, day, "0.00"] for who, day, _ in orders()]
    path = write(tmp_path / "log.csv", rows)
    with pytest.raises(
        BadInput, match="0 customers paid anything: --columns CUSTOMER,DATE"
    ):
        study(path)
    assert not study(path, "--columns", "customer,date").log.has_amounts


def test_one_is_not_many() -> None:
    assert [how_many(n, "day") for n in (0, 1, 2, 1000)] == [
        "0 days",
        "1 day",
        "2 days",
        "1,000 days",
    ]


def test_a_day_ahead_is_one_day(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", orders())
    done = run(SCRIPT, "--transactions", str(path), "--horizon", "1")
    assert done.returncode == 0, done.stderr
    said = unbroken(done.stdout)
    assert "within 1 day (" in said
    assert "was said for 1 day," in said
    assert " of 1 customers" not in said


UNREAD = [
    ["--columns", "a,b"],
    ["--simulate", "99", "--decimal", ","],
    ["--accept-refused"],
]


@pytest.mark.parametrize("options", UNREAD)
def test_how_a_file_is_read_needs_a_file(options: list[str]) -> None:
    parser = lesson.lesson.parser()
    add_options(parser)
    with pytest.raises(BadInput, match="they go with --transactions"):
        check_options(parser.parse_args(options))
    check_options(parser.parse_args(["--json", "--columns", "customer,date"]))
