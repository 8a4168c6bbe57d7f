"""Lesson 05: the backtest, its leaks, and predictions."""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lesson_05.logs import DAYS, END, KINDS, as_log, lesson

from course.analytics.rates import interval_of_mean
from course.errors import BadInput


def test_bars_of_the_backtest(record: Any) -> None:
    churn, value = record.scores["churn"], record.scores["value"]
    assert churn[lesson.BGNBD]["brier"] <= 0.1613
    stack = churn[lesson.STACK]
    assert stack["brier"] <= 0.156
    assert stack["log_loss"] <= 0.486
    assert stack["auc"] >= 0.778
    assert value[lesson.GG]["rmse"] <= 72.5
    assert record.forecast.churn_model == lesson.STACK
    rule, constant = churn[lesson.RULE], churn[lesson.CONSTANT]
    assert (round(rule["brier"], 4), round(constant["brier"], 4)) == (0.2199, 0.2060)
    assert (round(rule["auc"], 3), round(constant["log_loss"], 3)) == (0.771, 0.602)
    assert rule["log_loss"] == pytest.approx(1.478, abs=1e-3)
    assert round(churn[lesson.NOT_ALIVE]["auc"], 3) == 0.316


def test_nothing_of_the_holdout_is_read_before_it_is_scored(
    log: Any, record: Any
) -> None:
    rng = np.random.default_rng(1)
    later = log.day > END
    n = int(later.sum())
    scrambled = replace(
        log,
        customer=np.where(
            later, rng.integers(len(log.ids), size=len(later)), log.customer
        ),
        day=np.where(later, END + 1 + rng.integers(DAYS, size=len(later)), log.day),
        amount=np.where(later, rng.random(len(later)) * 1e6, log.amount),
    )
    assert n > 1_900
    other = lesson.Backtest(scrambled, END, DAYS)
    for mine, theirs in (
        (record.forecast.churn, other.forecast.churn),
        (record.forecast.value, other.forecast.value),
    ):
        assert mine.keys() == theirs.keys()
        for name, column in mine.items():
            assert np.array_equal(column, theirs[name])
    assert record.forecast.inner_loss == other.forecast.inner_loss
    assert not np.array_equal(record.spent, other.spent)


@pytest.mark.parametrize("span", range(2, 9))
def test_a_log_of_a_few_days_is_answered_or_refused(span: int) -> None:
    rng = np.random.default_rng(0)
    rows = [(who, 1 + day, 9.5) for who in range(60) for day in range(span)]
    log = as_log([row for row in rows if rng.random() < 0.6], 60)
    assert len(lesson.Forecast(log, int(log.day.max()), 1).churn) >= 3
    if span > 2:  # the first half of two days is one, and shows no repeat order
        assert np.isfinite(lesson.Backtest(log, *lesson.halves(log)).chance).all()


def test_coverage_is_measured(record: Any) -> None:
    rows, held, (low, high) = record.survey
    assert 0.85 < held.mean() < 0.93
    assert (
        low < high < record.spent[rows].sum()
    )  # the model knows no season; it is said, not hidden


def test_the_interval_of_many_reads_every_row() -> None:
    sample = np.concatenate((np.zeros(10_000), np.ones(4_999)))
    low, high = interval_of_mean(sample)
    assert low < sample.mean() < high


ROWS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(1, 60), st.floats(0, 100)),
    min_size=1,
    max_size=40,
)


@settings(max_examples=100, deadline=None)
@given(ROWS, ROWS)
def test_rows_after_as_of_change_no_feature(past: Any, future: Any) -> None:
    later = [(who + 3, day + 60, paid) for who, day, paid in future]
    before = lesson.AnalyticsEngine(as_log(past, 9), 60)
    after = lesson.AnalyticsEngine(as_log(later + past, 9), 60)
    for name, column in vars(before.table).items():
        assert np.array_equal(column, getattr(after.table, name))
    for user in {f"c{who}" for who, _, _ in past}:
        profile = before.calculate_user_profile(user)
        assert profile == after.calculate_user_profile(user)


@settings(max_examples=100, deadline=None)
@given(ROWS, st.integers(1, 70))
def test_profiles_equal_a_count_by_hand(rows: Any, as_of: int) -> None:
    log, orders = as_log(rows, 6), defaultdict(list)
    for who, day, paid in rows:
        if day <= as_of:
            orders[f"c{who}"].append((day, paid))
    if not orders:
        with pytest.raises(BadInput):
            lesson.AnalyticsEngine(log, as_of)
        return
    engine = lesson.AnalyticsEngine(log, as_of)
    spends = sorted(sum(paid for _, paid in mine) for mine in orders.values())
    rich = spends[int(0.9 * (len(spends) - 1))]
    for user, mine in orders.items():
        days = {day for day, _ in mine}
        total, idle = sum(paid for _, paid in mine), as_of - max(days)
        profile = engine.calculate_user_profile(user)
        assert profile.orders == len(days)
        assert profile.total_spend == pytest.approx(total)
        assert profile.average_order == pytest.approx(total / len(days))
        assert profile.days_since_purchase == idle
        assert profile.tenure_days == as_of - min(days)
        assert profile.churn_risk == pytest.approx(1 / (1 + math.exp((30 - idle) / 20)))
        assert profile.predicted_ltv == pytest.approx(
            total / max(profile.tenure_days, 1) * 365
        )
        assert 0 <= profile.engagement_score <= 100
        if not math.isclose(total, rich):
            segment = "vip" if total > rich else "at_risk" if idle > 30 else "active"
            assert profile.segment.value == ("dormant" if idle >= 90 else segment)
        first = min(days)
        again = sum(paid for day, paid in mine if day > first)
        row = lesson.row_of(log, engine.table, user)
        mean = again / (len(days) - 1) if len(days) > 1 else 0
        assert engine.table.mean_spend[row] == pytest.approx(mean, abs=1e-9)


def test_the_same_day_is_one_order_and_a_whole_table_has_no_nan(log: Any) -> None:
    engine = lesson.AnalyticsEngine(log, END)
    assert int(engine.table.x.sum()) == 2457  # repeat orders in 39 weeks
    for column in engine.columns.values():
        assert np.isfinite(column).all()


# --- Predictions


def test_alone_or_among_many_a_user_gets_the_same_answer(now: Any, record: Any) -> None:
    engine = lesson.AnalyticsEngine(now.log, now.table.as_of)
    manager = lesson.MLModelManager(now, record, lesson.RecommendationEngine(engine))
    users = ["0003", "0157", "2357"]
    for kind in KINDS:
        together = manager.predict(kind, users)
        assert together == [manager.predict(kind, user) for user in users]
        assert [p.user for p in together] == users
        assert {p.kind for p in together} == {kind}
        with pytest.raises(BadInput, match="'nobody'"):
            manager.predict(kind, ["0003", "nobody"])


def test_predictions_are_finite_and_in_order(now: Any, record: Any) -> None:
    manager = lesson.MLModelManager(now, record)
    for user in now.log.ids[::100]:
        churn, value, coming = (manager.predict(kind, user) for kind in KINDS[:3])
        assert 0 <= churn.value <= 1
        assert churn.probability + coming.probability == pytest.approx(1)
        assert coming.model == f"{lesson.BGNBD}, chance by {churn.model}"
        assert coming.skill == churn.skill
        assert 0 <= value.low <= value.value <= value.high < 1e6
        low, middle, high = value.futures
        assert 0 <= low <= middle <= high < 1e6
        assert 0.2 < churn.skill < 0.3
        seen = churn.observed
        assert seen.low <= seen.rate <= seen.high
        assert seen.n >= 200
        days = [d for d in (coming.low, coming.value, coming.high) if d is not None]
        assert days == sorted(days)
    assert np.isfinite(now.ltv).all()
    assert (now.ltv >= 0).all()


def test_without_a_backtest_nothing_is_claimed(now: Any) -> None:
    p = lesson.MLModelManager(now, None).predict(KINDS[0], "0003")
    assert (p.skill, p.observed, p.low) == (None, None, None)
    with pytest.raises(BadInput, match="RecommendationEngine"):
        lesson.MLModelManager(now, None).predict(KINDS[3], "0003")


def test_the_record_of_a_prediction_is_its_own_models(now: Any, record: Any) -> None:
    chosen = copy.copy(now)
    chosen.churn_model = lesson.BGNBD
    p = lesson.MLModelManager(chosen, record).predict(KINDS[0], "0157")
    assert p.model == lesson.BGNBD
    chances = record.forecast.churn[lesson.BGNBD]
    nearest = np.argsort(np.abs(chances - p.value))[:200]
    assert p.observed.n == 200
    assert p.told == (chances[nearest].min(), chances[nearest].max())
    assert p.observed.rate == pytest.approx(record.gone[nearest].mean(), abs=0.011)
    other = copy.copy(record)
    other.forecast = lesson.Forecast(record.log, END, DAYS, learn=False)
    del other.__dict__["scores"]
    manager = lesson.MLModelManager(now, other)
    assert now.churn_model == lesson.STACK  # which the other has not
    for kind in (KINDS[0], KINDS[2]):
        p = manager.predict(kind, "0157")
        assert (p.skill, p.observed) == (None, None)


def test_the_interval_of_a_lifetime_value_is_discounted_too(
    log: Any, record: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for discount in (0.0, 0.1):
        monkeypatch.setattr(lesson, "DISCOUNT", discount)
        forecast = lesson.Forecast(log, END, DAYS, learn=False)
        manager = lesson.MLModelManager(forecast, record)
        found.append(manager.predict(KINDS[1], "0157"))
    plain, less = found
    share = less.value / plain.value
    assert 0.9 < share < 0.97
    both = less.low / plain.low, less.high / plain.high
    assert both == pytest.approx((share, share))
    assert less.model == "BG/NBD x GG, 12 months"
    assert less.observed.n == 200  # the like of this customer, not everybody


def test_lifetime_values_discount_each_month(now: Any) -> None:
    t, fit = now.table, now.bgnbd
    row = int(np.argmax(t.x))
    x, age = t.x[[row]], t.age[[row]] / 7
    before, total = 0.0, 0.0
    for month in range(1, 13):
        orders = float(fit.expected(x, age, month * 365.25 / 84)[0])
        total += (orders - before) * 1.10 ** (-month / 12)
        before = orders
    mean = float(now.money.mean(x, t.mean_spend[[row]])[0])
    assert now.ltv[row] == pytest.approx(total * now.live[row] * mean)


def test_a_forecast_learns_from_one_past_which_learns_from_none(
    log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    make = lesson.Forecast.__init__

    def noted(self: Any, log: Any, as_of: int, days: int, learn: bool = True) -> None:
        made.append(learn)
        make(self, log, as_of, days, learn)

    monkeypatch.setattr(lesson.Forecast, "__init__", noted)
    lesson.Forecast(log, END, DAYS)
    assert made == [True, False]
