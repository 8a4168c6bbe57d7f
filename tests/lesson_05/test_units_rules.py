"""Lesson 05: the rules that everybody copies, at their borders; what a page names."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lesson_05.logs import SCRIPT, lesson, orders, write
from lessons import run

from course.analytics.textfile import lines_of
from course.errors import BadInput


def table(days: list[int], spend: list[float], x: int = 0, age: int = 100) -> Any:
    """Return customers who differ by their silence and their spend."""
    count = len(days)
    silent = np.array(days)
    return lesson.CustomerTable(
        as_of=1000,
        customer=np.arange(count),
        x=np.full(count, x),
        t_last=age - silent,
        age=np.full(count, age),
        days_since_last=silent,
        spend=np.array(spend),
        mean_spend=np.array(spend),
    )


def test_the_churn_of_the_rule_is_a_half_at_30_days_and_falls_by_its_slope() -> None:
    risk = lesson.churn_rule(np.array([30, 50, 10]))
    assert risk == pytest.approx([0.5, 1 / (1 + math.exp(-1)), 1 / (1 + math.e)])


def test_the_value_of_the_rule_carries_the_spend_per_day_on() -> None:
    known = table([0, 5], [200.0, 50.0], age=50)
    assert lesson.value_rule(known, 365).tolist() == [1460.0, 365.0]
    assert lesson.value_rule(table([0], [20.0], age=0), 10).tolist() == [200.0]


def test_segments_change_at_their_borders() -> None:
    days = [90, 89, 31, 30, 0] + [0] * 16
    spend = [1000.0, 1000.0, 1.0, 1.0, 1.0] + [1.0] * 16
    codes = lesson.segment_rule(table(days, spend)).tolist()
    names = [lesson.SEGMENTS[code].value for code in codes]
    assert names[:5] == ["dormant", "vip", "at_risk", "active", "active"]


def test_engagement_halves_in_30_days_and_counts_up_to_ten_orders() -> None:
    once = lesson.engagement_rule(table([0, 30, 60], [8.0] * 3))
    assert once == pytest.approx([50 + 3 + 20, 25 + 3 + 20, 12.5 + 3 + 20])
    often = lesson.engagement_rule(table([0] * 2, [8.0] * 2, x=30))
    assert often == pytest.approx([100, 100])


# What is printed, and what is said of a file


def test_a_report_names_its_rows_and_its_models(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", orders())
    done = run(SCRIPT, "--transactions", str(path))
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "rows read 400, used 400, refused 0" in lines
    starts = ("bgnbd r ", "gamma_gamma p ", "chosen churn ")
    for start in starts:
        assert [line for line in lines if line.startswith(start)] != [], start
    names = [line.split(" ")[0] for line in lines]
    assert "history" not in names  # a table of its own, and no fact of one line
    assert "segments" not in names


def complaint_about(path: Path) -> str:
    """Return what is said of a file that cannot be read to its end."""
    with pytest.raises(BadInput) as caught, lines_of(path) as text:
        list(text.lines)
    return str(caught.value).removeprefix(f"{path}: ")


def test_a_file_that_is_not_there_is_not_called_broken(tmp_path: Path) -> None:
    assert complaint_about(tmp_path / "a.csv") == "No such file or directory"
    assert complaint_about(tmp_path) == "Is a directory"
    broken = tmp_path / "b.csv.gz"
    broken.write_bytes(gzip.compress(b"customer,date,amount\n" * 5000)[:-20])
    assert complaint_about(broken) == "not a whole gzip file"
