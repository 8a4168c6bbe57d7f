"""Lesson 05: a row of scores for each customer, and what a log's history does."""

from __future__ import annotations

import csv
import json
import sys
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from lesson_05.logs import SCRIPT, as_log, lesson, orders, write
from lessons import run

from course.analytics import quantiles, simulate, study
from course.analytics.futures import possible_spends
from course.analytics.history import history_figures
from course.analytics.pictures import cut_week
from course.analytics.quantiles import spend_quantiles
from course.analytics.scoresheet import csv_of, parquet_of, score_table
from course.errors import BadInput


@pytest.fixture(scope="module")
def sheet(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    path = tmp_path_factory.mktemp("scores") / "scores.csv"
    done = run(SCRIPT, "--json", "--horizon", "273", "--scores", str(path))
    assert done.returncode == 0, done.stderr
    assert path.stat().st_mode & 0o777 == 0o600
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_each_customer_has_a_row_of_the_models_figures(
    sheet: list[dict[str, str]], log: Any, now: Any, record: Any
) -> None:
    assert [row["customer"] for row in sheet] == list(log.ids)
    assert {row["horizon_days"] for row in sheet} == {"273"}
    assert {row["as_of"] for row in sheet} == {"1998-06-30"}
    chance = [float(row["churn_probability"]) for row in sheet]
    (model,) = {row["churn_model"] for row in sheet}
    assert model in record.scores["churn"]
    assert all(0 <= each <= 1 for each in chance)
    expected = [float(row["expected_orders"]) for row in sheet]
    assert expected == pytest.approx(now.orders.tolist(), abs=1e-6)
    (skill,) = {float(row["churn_skill"]) for row in sheet}
    brier = record.scores["churn"]
    left = brier[model]["brier"] / brier["constant"]["brier"]
    assert skill == pytest.approx(1 - left, abs=1e-3)
    segments = lesson.segment_rule(now.table)
    assert [row["segment"] for row in sheet] == [
        lesson.SEGMENTS[code].value for code in segments
    ]
    for row in sheet:
        value = float(row["expected_value"])
        assert float(row["value_low"]) <= value <= float(row["value_high"])
        assert not row["next_order"] or "1998-06-30" < row["next_order"] < "1999-04-01"


def test_who_is_due_has_a_name(
    sheet: list[dict[str, str]], now: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = lesson.MLModelManager(now)
    monkeypatch.setattr(now, "churn_model", sheet[0]["churn_model"])
    kind = lesson.PredictionType.NEXT_PURCHASE
    due = {one.user for one in manager.predict(kind) if one.value is not None}
    assert due == {row["customer"] for row in sheet if row["next_order"]}
    assert due


def test_parquet_holds_the_rows_of_the_csv(
    sheet: list[dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "scores.parquet"
    options = ("--json", "--horizon", "273", "--scores", str(path))
    assert run(SCRIPT, *options).returncode == 0
    rows = parquet.read_table(path).to_pylist()
    assert [row["customer"] for row in rows] == [row["customer"] for row in sheet]
    for mine, theirs in zip(rows, sheet, strict=True):
        assert str(mine["expected_value"]) == theirs["expected_value"]
        assert (mine["next_order"] or "") == theirs["next_order"]
    columns: dict[str, list[Any]] = {
        "customer": ["a", "b"],
        "next_order": [None, "2020-01-01"],
    }
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    polars = pytest.importorskip("polars")
    path.write_bytes(parquet_of(columns))
    assert polars.read_parquet(path).to_dict(as_series=False) == columns


@pytest.mark.parametrize("name", ["scores.xlsx", "scores", "missing/scores.csv"])
def test_scores_that_cannot_be_written_are_refused_first(
    name: str, tmp_path: Path
) -> None:
    done = run(SCRIPT, "--json", "--scores", str(tmp_path / name))
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("other", ["one.csv", "ONE.csv", "One.CSV"])
def test_two_outputs_are_two_files(other: str, tmp_path: Path) -> None:
    path = str(tmp_path / "one.csv")
    done = run(SCRIPT, "--json", "--scores", path, "--report", str(tmp_path / other))
    assert (done.returncode, done.stdout) == (2, "")
    assert not list(tmp_path.iterdir())


def test_a_log_without_amounts_has_no_values(tmp_path: Path) -> None:
    rows = [[c, d] for c, d, _ in orders()]
    path = write(tmp_path / "a.csv", rows, "customer,date")
    log = lesson.read_log(path)
    forecast = lesson.Forecast(log, log.last_day, 90)
    segments = [
        lesson.SEGMENTS[code].value for code in lesson.segment_rule(forecast.table)
    ]
    table = score_table(forecast, None, segments)
    assert set(table["expected_value"]) == {None}
    assert set(table["churn_skill"]) == {None}
    assert b"nan" not in csv_of(table).lower()


def test_quantiles_are_those_of_drawn_futures(now: Any) -> None:
    rows = np.arange(0, len(now.table.x), 40)
    wanted = (0.5, 0.8, 0.9)
    found = spend_quantiles(now, rows, 273, wanted)
    drawn = np.concatenate(
        [possible_spends(now, rows, 273, [seed]) for seed in range(5)], axis=1
    )
    theirs = np.quantile(drawn, wanted, axis=1).T
    spread = drawn.std(axis=1)[:, None]
    off = np.abs(found.quantiles - theirs) / np.maximum(spread, 1e-9)
    assert off.mean() < 0.1
    assert np.abs(found.chance - (drawn > 0).mean(axis=1)).max() < 0.06


def test_alone_or_among_all_a_customer_has_the_same_quantiles(now: Any) -> None:
    everybody = spend_quantiles(now, np.arange(len(now.table.x)), 365, (0.1, 0.9))
    for row in (0, 17, 2000):
        alone = spend_quantiles(now, np.array([row]), 365, (0.1, 0.9))
        assert np.array_equal(alone.quantiles[0], everybody.quantiles[row])


@pytest.mark.parametrize("kind", list(lesson.PredictionType)[:3])
def test_all_customers_are_predicted_at_once(
    now: Any, record: Any, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = MagicMock(side_effect=quantiles.unit_spends)
    monkeypatch.setattr(quantiles, "unit_spends", drawn)
    manager = lesson.MLModelManager(now, record)
    everybody = manager.predict(kind)
    ids = [str(now.log.ids[code]) for code in now.table.customer]
    assert [prediction.user for prediction in everybody] == ids
    # The cost of a lifetime value is in the draws: once for each pair that differs.
    pairs = len(set(zip(now.table.x.tolist(), now.table.age.tolist(), strict=True)))
    assert drawn.call_count == (pairs if kind.value == "lifetime_value" else 0)
    assert pairs < len(ids) / 3
    some = [3, 700, 2000]
    assert manager.predict(kind, [ids[row] for row in some]) == [
        everybody[row] for row in some
    ]
    assert manager.predict(kind, ids[700]) == everybody[700]


def test_records_have_defaults(now: Any) -> None:
    kind = lesson.PredictionType.CHURN
    assert lesson.Prediction(kind, "a").value is None
    assert lesson.UserProfile("a", lesson.UserSegment.ACTIVE).orders == 1
    assert lesson.Recommendation("a").item is None
    assert lesson.MLModelManager(now).predict(kind, "0001").observed is None


# --- What a log's history does to its figures


def test_season_growth_and_beginning_are_one_figure_each() -> None:
    start = date(2020, 1, 1).toordinal()
    rows = []
    for day in range(0, 730, 2):
        when = date.fromordinal(start + day)
        customers = 3 if when.year == 2021 else 2
        customers *= 4 if when.month == 12 else 1
        rows += [(k, start + day, 5.0) for k in range(customers)]
    log = as_log(rows, 12)
    figures = history_figures(log, log.last_day)
    assert figures["busiest_month"] == 12
    assert figures["times_mean_month"] == pytest.approx(3.2, abs=0.2)
    grown = figures["orders_of_91_days_over_a_year_before"]
    assert grown == pytest.approx(1.5, abs=0.15)
    assert figures["first_orders_in_the_first_30_days"] == 2
    assert figures["first_orders"] == 12
    short = history_figures(log, start + 300)
    assert short["busiest_month"] is None
    assert short["orders_of_91_days_over_a_year_before"] is None


def test_a_limit_of_the_process_is_all_the_memory_that_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resource = pytest.importorskip("resource", reason="platform: Windows has no limits")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (12_345, -1))
    assert simulate.memory_left() == 12_345


def test_the_cut_is_drawn_in_the_week_of_the_forecast() -> None:
    table = SimpleNamespace(as_of=714)
    log = SimpleNamespace(day=np.array([700, 800]))
    record = SimpleNamespace(log=log, forecast=SimpleNamespace(table=table))
    assert cut_week(record) == 2


@pytest.mark.parametrize(("days", "is_whole"), [(363, 0), (364, 1), (365, 1)])
def test_a_year_is_whole_from_its_first_day_to_its_last(
    days: int, is_whole: int
) -> None:
    start = date(2021, 1, 1).toordinal()
    log = as_log([(0, start, 5.0), (0, start + days, 5.0)], 1)
    busiest = history_figures(log, log.last_day)["busiest_month"]
    assert (busiest is not None) == is_whole


def test_the_report_says_them(tmp_path: Path) -> None:
    shown = run(SCRIPT, "--as-of", "1998-06-30").stdout
    assert "759 of 2,357 (32%)" in shown
    assert "growth, in no model" in shown
    assert json.loads(run(SCRIPT, "--json").stdout)["history"]["first_orders"] == 2357


# --- More customers than fit


def test_more_simulated_customers_than_fit_are_refused_at_once() -> None:
    done = run(SCRIPT, "--simulate", "99999999", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "GB" in done.stderr


def test_the_estimate_knows_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate, "memory_left", lambda: 600_000_000)
    simulate.require_memory(1_000_000)
    with pytest.raises(BadInput, match="at most 1,000,000 fit"):
        simulate.require_memory(1_000_001)


def test_memory_that_runs_out_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(study, "Study", MagicMock(side_effect=MemoryError))
    assert lesson.main(["--json"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
