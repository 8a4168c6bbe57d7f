"""Lesson 05: its models and logs as somebody lifts them, fed with what he has."""

from __future__ import annotations

import pickle
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lesson_05.logs import lesson, orders, write

from course.analytics.futures import missed_by
from course.errors import BadInput


def some(column: Any, value: float) -> Any:
    changed = np.asarray(column, np.float64).copy()
    changed[5] = value
    return changed


BAD_TIMES: dict[str, tuple[Callable[..., Any], str]] = {
    "lengths": (lambda x, t, age: (x, t[:-1], age), "one length"),
    "fewer than no orders": (lambda x, t, age: (some(x, -1), t, age), "column x"),
    "before the first": (lambda x, t, age: (x, t, some(age, -3)), "column age"),
    "days of millennia": (lambda x, t, age: (x, t, age + 10**9), "4,194,303"),
    "orders by the million": (lambda x, t, age: (x + 10**6, t, age), "524,287"),
    "later than today": (lambda x, t, age: (x, age + 5, age), "above age"),
    "days since the last": (lambda x, t, age: (x, age - t, age), "where x is 0"),
    "too few counts": (lambda x, t, age: (x, t, age, 7, True, [1, 2]), "count 2"),
    "a negative count": (lambda x, t, age: (x, t, age, 7, True, -x), "column count"),
}


@pytest.mark.parametrize("case", BAD_TIMES)
def test_times_that_no_customer_has_are_named(case: str, log: Any) -> None:
    t = lesson.customer_table(log, lesson.halves(log)[0])
    change, named = BAD_TIMES[case]
    with pytest.raises(BadInput, match=named):
        lesson.fit_bgnbd(*change(t.x, t.t_last, t.age))


BAD_SPENDS: dict[str, tuple[Callable[..., Any], str]] = {
    "nan": (lambda x, mean: (x, np.where(x > 2, np.nan, mean)), "NaN"),
    "infinity": (lambda x, mean: (x, np.where(x > 2, np.inf, mean)), "infinity"),
    "negative": (lambda x, mean: (x, mean - 30), "less than 0"),
    "lengths": (lambda x, mean: (x, mean[:-1]), "one length"),
    "too many orders": (lambda x, mean: (np.where(x > 0, x + 40_000, x), mean), "32,"),
    "texts": (lambda x, mean: (x, ["much"] * len(x)), "no numbers"),
}


@pytest.mark.parametrize("case", BAD_SPENDS)
def test_spends_that_no_customer_has_are_named(case: str, log: Any) -> None:
    t = lesson.customer_table(log, lesson.halves(log)[0])
    change, named = BAD_SPENDS[case]
    with pytest.raises(BadInput, match=named):
        lesson.fit_gamma_gamma(*change(t.x, t.mean_spend))


def test_the_models_take_lists_and_arrays_of_any_layout(log: Any) -> None:
    t = lesson.customer_table(log, lesson.halves(log)[0])
    columns = [t.x, t.t_last, t.age]
    r = lesson.fit_bgnbd(*columns).r
    locked = [column.copy() for column in columns]
    for column in locked:
        column.setflags(write=False)
    strided = [np.repeat(column, 2)[::2] for column in columns]
    unsigned = [column.astype(np.uint64) for column in columns]
    for given in (locked, strided, unsigned, [list(column) for column in columns]):
        assert lesson.fit_bgnbd(*given).r == r
    # A mean of no orders is missing, as pandas has it.
    gap = np.where(t.x > 0, t.mean_spend, np.nan)
    gap.setflags(write=False)
    assert lesson.fit_gamma_gamma(t.x, gap) == lesson.fit_gamma_gamma(t.x, t.mean_spend)
    assert np.isnan(gap).any()


def test_a_log_without_orders_says_so() -> None:
    empty = lesson.TransactionLog([], [], [], [])
    for ask in (lesson.halves, lesson.thirds, lambda log: log.last_day):
        with pytest.raises(BadInput, match="no orders"):
            ask(empty)
    with pytest.raises(BadInput, match="too large"):
        lesson.TransactionLog(np.array([2**63], "uint64"), [730000], [1], ["a"])


@pytest.mark.parametrize("days", [0, -1, 30.5, "30", None, 10**7])
def test_days_that_are_none_are_named(days: Any, log: Any) -> None:
    with pytest.raises(BadInput, match="days"):
        lesson.Forecast(log, lesson.halves(log)[0], days)


def test_a_backtest_ends_where_the_log_does(log: Any) -> None:
    end, days = lesson.halves(log)
    with pytest.raises(
        BadInput, match=r"cannot be compared: the last order is on 1998"
    ):
        lesson.Backtest(log, end, 2 * days)
    with pytest.raises(BadInput, match="cannot be compared"):
        lesson.Backtest(log, log.last_day, 30)
    quiet_end = lesson.Backtest(log.where(log.day < log.last_day - 9), end, days)
    assert quiet_end.forecast.days == days


def test_a_total_that_is_right_by_luck_narrows_no_interval(log: Any) -> None:
    record = lesson.Backtest(log, *lesson.thirds(log))
    mine = missed_by(record.spent.sum(), record.amount.sum())
    assert mine < 0.01 < record.forecast.missed  # of two totals, one was right by luck
    assert record.missed == record.forecast.missed
    record.forecast.missed = 0.0
    assert record.missed == mine


def test_a_log_and_a_forecast_can_be_sent_elsewhere(
    log: Any, now: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # pickle looks a class up by name; another test may have loaded the lesson again.
    monkeypatch.setitem(sys.modules, lesson.__name__, lesson)
    sent = pickle.loads(pickle.dumps(log))
    assert sent.codes == log.codes
    assert np.array_equal(sent.amount, log.amount)
    again = pickle.loads(pickle.dumps(now))
    assert np.array_equal(again.ltv, now.ltv)


def test_threads_may_share_a_log(log: Any) -> None:
    end = lesson.halves(log)[0]
    found = []

    def forecast() -> None:
        f = lesson.Forecast(log, end, 90)
        found.append((f.churn_model, float(f.ltv.sum())))

    threads = [threading.Thread(target=forecast) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1


def test_two_minus_signs_are_a_refund(tmp_path: Path) -> None:
    rows = [[who, day, "1", paid] for who, day, paid in orders()]
    back = ["c1", "2020-11-01", "-2", "-7.25"]
    header = "customer,date,quantity,price"
    log = lesson.read_log(write(tmp_path / "a.csv", [*rows, back], header))
    assert log.reading["refunds"]["sum"] == -14.5
    assert len(log.day) == len(rows)
