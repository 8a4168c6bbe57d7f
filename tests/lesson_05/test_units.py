"""Lesson 05: published figures, oracles, edge cases, leaks, bad input, the report."""

from __future__ import annotations

import copy
import csv
import gzip
import json
import math
import re
import shutil
import subprocess
import tracemalloc
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from conftest import absent
from hypothesis import given, settings
from hypothesis import strategies as st
from lessons import ROOT, load, path_of, run

lesson: Any = load("05")
SCRIPT = path_of("05")
END, DAYS = date(1997, 9, 30).toordinal(), 273
KINDS = list(lesson.PredictionType)
Floats = Any


@pytest.fixture(scope="module")
def log() -> Any:
    return lesson.read_log(lesson.SAMPLE)


@pytest.fixture(scope="module")
def record(log: Any) -> Any:
    return lesson.Backtest(log, END, DAYS)


@pytest.fixture(scope="module")
def now(log: Any) -> Any:
    return lesson.Forecast(log, int(log.day.max()), DAYS)


def log_likelihood(fit: Any, x: int, t_last: float, age: float) -> float:
    """Return one customer's, in weeks to a hundredth."""
    times = (np.array([round(100 * t)]) for t in (t_last, age))
    data = lesson.Collapsed(np.array([x]), *times, 100)
    value: float = lesson.bgnbd_terms(data, fit.r, fit.alpha, fit.a, fit.b)[0]
    return value


PAPER = lesson.BgNbd(0.243, 4.414, 0.793, 2.426)


# --- Published figures ---------------------------------------------------------------


def test_bg_nbd_equals_table_2_of_the_paper(record: Any) -> None:
    fit = record.forecast.bgnbd
    found = [round(v, 3) for v in (fit.r, fit.alpha, fit.a, fit.b)]
    assert found == [0.243, 4.414, 0.793, 2.426]
    assert fit.log_likelihood == pytest.approx(-9582.4292, abs=0.001)
    assert fit.identified


@pytest.mark.parametrize(
    ("x", "t_last", "age", "published"),
    [
        (2, 30.43, 38.86, -9.4596),
        (7, 29.43, 38.86, -21.8644),
        (4, 26.57, 27.00, -14.1284),
    ],
)
def test_rows_of_figure_1(x: int, t_last: float, age: float, published: float) -> None:
    # The paper's sheet works with days / 7, its print has two digits of the weeks.
    assert log_likelihood(PAPER, x, t_last, age) == pytest.approx(published, abs=0.005)


def test_expectations_of_note_004(record: Any) -> None:
    fit, one = record.forecast.bgnbd, np.array([2])
    age, t_last = np.array([38.86]), np.array([30.43])
    live = fit.p_alive(one, t_last, age)
    assert float((live * fit.expected(one, age, 39.0))[0]) == pytest.approx(
        1.226, abs=5e-4
    )
    new = np.array([0])
    published = {0.1429: 0.0078, 1: 0.0532, 3: 0.1506, 31.857: 1.0405, 32: 1.0437}
    for weeks, orders in published.items():
        found = float(fit.expected(new, np.zeros(1), weeks)[0])
        assert found == pytest.approx(orders, abs=5.1e-5)


def test_counts_as_btyd_gives_them() -> None:
    none = PAPER.p_none(np.array([0]), np.zeros(1), 39.0)
    assert float(none[0]) == pytest.approx(0.5737864, abs=5e-8)
    # P(X(2) = 10) is the likelihood over all times: the last order's is integrated,
    # the nine before it fall anywhere up to there.
    times = np.linspace(0, 2, 201)[1:]
    dense = [math.exp(log_likelihood(PAPER, 10, t, 2)) for t in times]
    density = np.append(0, np.array(dense) * times**9 / math.factorial(9))
    simpson = np.array([1, *[4, 2] * 99, 4, 1]) / 3 * 0.01
    assert float(simpson @ density) == pytest.approx(1.07869e-07, rel=1e-4)


def test_classes_and_correlation_of_the_paper(record: Any) -> None:
    f, later = record.forecast, record.orders
    for x, n, actual, predicted in [(0, 1411, 0.237, 0.225), (3, 100, 1.560, 1.520)]:
        rows = f.table.x == x
        assert int(rows.sum()) == n
        assert float(later[rows].mean()) == pytest.approx(actual, abs=5e-4)
        assert float(f.orders[rows].mean()) == pytest.approx(predicted, abs=5e-4)
    assert int(later[f.table.x == 0].sum()) == 334
    assert round(float(np.corrcoef(later, f.orders)[0, 1]), 3) == 0.626


def test_gamma_gamma_equals_the_papers(record: Any) -> None:
    t, money = record.forecast.table, record.forecast.money
    found = [round(v, 2) for v in (money.p, money.q, money.gamma)]
    assert found == [6.25, 3.74, 15.44]
    assert money.log_likelihood == pytest.approx(-4055.9177, abs=1e-4)
    total = money.log_likelihood - float(np.log(t.x[t.x > 0]).sum())
    assert round(total) == -4659
    first = money.mean(t.x, t.mean_spend)[:10]
    note = [24.65, 18.91, 35.17, 35.17, 35.17, 71.46, 18.91, 35.17, 27.28, 35.17]
    assert first == pytest.approx(note, abs=0.1)
    again = t.x > 0
    assert int(again.sum()) == 946
    found = np.corrcoef(t.x[again], t.mean_spend[again])[0, 1]
    assert round(float(found), 2) == 0.11


@pytest.mark.parametrize("unit", [1e6, 1e-6])
def test_gamma_gamma_is_the_same_in_any_currency(record: Any, unit: float) -> None:
    t, own = record.forecast.table, record.forecast.money
    other = lesson.fit_gamma_gamma(t.x, t.mean_spend * unit)
    ours = own.p, own.q, own.gamma
    assert (other.p, other.q, other.gamma / unit) == pytest.approx(ours, rel=1e-6)
    shift = int((t.x > 0).sum()) * math.log(unit)
    assert other.log_likelihood + shift == pytest.approx(own.log_likelihood)


# --- Derivatives, oracles, edge cases ------------------------------------------------


def differences_agree(objective: Callable[[Floats], Any], theta: Floats) -> None:
    _, slope, curve = objective(theta)
    for k, step in enumerate(np.eye(len(theta)) * 1e-5):
        up, down = objective(theta + step), objective(theta - step)
        assert (up[0] - down[0]) / 2e-5 == pytest.approx(slope[k], rel=1e-5, abs=1e-3)
        assert (up[1] - down[1]) / 2e-5 == pytest.approx(curve[k], rel=1e-5, abs=1e-3)


def test_gradients_and_hessians_agree_with_differences(record: Any) -> None:
    t = record.forecast.table
    data = lesson.Collapsed(t.x, t.t_last, t.age, 7)
    place = np.log([0.3, 5.0, 0.7, 2.0])
    terms = lesson.by_logs(lambda *p: lesson.bgnbd_terms(data, *p))
    differences_agree(terms, place)
    differences_agree(lesson.by_logs(lambda *p: lesson.nbd_terms(data, *p)), place[:2])
    differences_agree(lesson.weak_prior, place)
    again = t.x > 0
    x, z = t.x[again], t.mean_spend[again]
    money = lesson.by_logs(lambda *p: lesson.gamma_gamma_terms(x, z, *p))
    differences_agree(money, np.log([5.0, 3.0, 12.0]))


def test_gamma_terms_agree_with_scipy() -> None:
    special = pytest.importorskip("scipy.special")
    v = np.array([1e-3, 0.02, 0.3, 1.0, 2.5, 17.0, 900.0, 1e6])
    value, first, second = lesson.gamma_terms(v)
    assert value == pytest.approx(special.gammaln(v), rel=1e-12, abs=1e-10)
    assert first == pytest.approx(special.digamma(v), rel=1e-11)
    assert second == pytest.approx(special.polygamma(1, v), rel=1e-11)


def test_fits_and_forecasts_agree_with_lifetimes(record: Any) -> None:
    pytest.importorskip("lifetimes")
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, of old pandas and of logarithms
        from lifetimes import BetaGeoFitter, GammaGammaFitter

        t, f = record.forecast.table, record.forecast
        x, t_last, age = f.weeks
        peer = BetaGeoFitter().fit(x, t_last, age)
        money = GammaGammaFitter().fit(x[x > 0], t.mean_spend[x > 0])
        orders = peer.conditional_expected_number_of_purchases_up_to_time(
            39, x, t_last, age
        )
        alive = peer.conditional_probability_alive(x, t_last, age)
    ours = f.bgnbd
    for name in ("r", "alpha", "a", "b"):
        assert getattr(ours, name) == pytest.approx(peer.params_[name], rel=2e-3)
    for name, theirs in (("p", "p"), ("q", "q"), ("gamma", "v")):
        assert getattr(f.money, name) == pytest.approx(money.params_[theirs], rel=5e-3)
    assert f.orders == pytest.approx(np.asarray(orders), rel=5e-3, abs=1e-6)
    assert f.live == pytest.approx(np.asarray(alive), rel=5e-3, abs=1e-6)


def test_scores_agree_with_scikit_learn(record: Any) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    for name in (lesson.RULE, lesson.BGNBD, lesson.STACK):
        chance = record.forecast.churn[name]
        scores = record.scores["churn"][name]
        assert scores["auc"] == pytest.approx(
            metrics.roc_auc_score(record.gone, chance)
        )
        brier = metrics.brier_score_loss(record.gone, chance)
        assert scores["brier"] == pytest.approx(brier)
        assert scores["log_loss"] == pytest.approx(
            metrics.log_loss(record.gone, chance), rel=1e-3
        )


def test_the_logistic_regression_agrees_with_scikit_learn(record: Any) -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    inputs = record.forecast.inputs
    peer = linear.LogisticRegression(
        C=100, fit_intercept=False, tol=1e-10, max_iter=999
    )
    peer.fit(inputs, record.gone)
    found = lesson.fit_logistic(inputs, record.gone)
    assert found == pytest.approx(peer.coef_[0], rel=1e-4, abs=1e-4)


EDGES = [  # parameters, x, t_x, T, horizon, expected orders to 30 digits
    ((0.11, 2.24, 0.31, 0.50), 0, 0, 1, 30, 0.5645886),
    ((0.5, 5, 1, 2), 3, 20, 30, 26, 1.143465268),
    ((0.3, 4, 0.4, 0.6), 0, 0, 10, 20, 0.3340593892),
    ((0.243, 4.414, 0.793, 2.426), 5000, 260, 260.1, 260, 3673.932583),
    ((0.243, 0.052, 0.793, 2.426), 0, 0, 0, 52, 11.4851908374),
]


@pytest.mark.parametrize("edge", EDGES)
def test_expected_orders_where_peers_return_nan(edge: Any) -> None:
    p, x, t_last, age, weeks, truth = edge
    fit, one = lesson.BgNbd(*p), np.array([x])
    live = fit.p_alive(one, np.array([1.0 * t_last]), np.array([1.0 * age]))
    found = float((live * fit.expected(one, np.array([1.0 * age]), weeks))[0])
    assert found == pytest.approx(truth, rel=2e-7)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(*[st.floats(0.05, 20) for _ in range(4)]),
    st.integers(0, 400),
    st.floats(0, 300),
    st.floats(0.1, 300),
)
def test_expected_orders_agree_with_quadrature(
    p: Any, x: int, age: float, weeks: float
) -> None:
    integrate = pytest.importorskip("scipy.integrate")
    stats = pytest.importorskip("scipy.stats")
    fit = lesson.BgNbd(*p)
    found = float(fit.expected(np.array([x]), np.array([age]), weeks)[0])
    dropout = stats.beta(fit.a, fit.b + x)
    past = fit.alpha + age

    def orders(u: float) -> float:  # of a dropout at the u-quantile
        chance = max(float(dropout.ppf(u)), 1e-300)
        power = -(fit.r + x) * math.log1p(chance * weeks / past)
        return -math.expm1(power) / chance

    # Told in full, it returns its doubts (a larger error) instead of a warning.
    truth, error = integrate.quad(orders, 0, 1, limit=400, full_output=1)[:2]
    assert math.isfinite(found) and found >= 0
    assert found == pytest.approx(truth, rel=1e-4, abs=10 * error + 1e-9)


@pytest.mark.parametrize("e", [-1e-6, -1e-9, 0, 1e-9, 1e-6])
def test_a_of_one_is_no_pole(e: float) -> None:
    at = [np.array([3]), np.array([30.0]), 26.0]
    one = lesson.BgNbd(0.5, 5, 1, 2).expected(*at)
    assert lesson.BgNbd(0.5, 5, 1 + e, 2).expected(*at) == pytest.approx(one, rel=1e-5)


# --- Known truth ---------------------------------------------------------------------


def continuous(n: int, rng: np.random.Generator, truth: Any) -> tuple[Any, Any, Any]:
    """Return x, t_x and T in hundredths of a day, one customer at a time."""
    rows = []
    for _ in range(n):
        rate = max(rng.gamma(truth.r, 1 / truth.alpha), 1e-12)
        leave, age = rng.beta(truth.a, truth.b), 39 - 12 * rng.random()
        x, now, last = 0, rng.exponential(1 / rate), 0.0
        while now < age:
            x, last = x + 1, now
            if rng.random() < leave:
                break
            now += rng.exponential(1 / rate)
        rows.append((x, round(700 * last), round(700 * age)))
    x, t_last, age = np.array(rows).T
    return x, t_last, age


@pytest.mark.slow
def test_wald_intervals_cover_the_truth_in_sixty_runs() -> None:
    rng, inside = np.random.default_rng(20), []
    truth = np.log([PAPER.r, PAPER.alpha, PAPER.a, PAPER.b])
    for _ in range(60):
        x, t_last, age = continuous(2_000, rng, PAPER)
        fit = lesson.fit_bgnbd(x, t_last, age, per_week=700)
        off = np.log([fit.r, fit.alpha, fit.a, fit.b]) - truth
        inside.append(np.abs(off) < 1.96 * np.sqrt(np.diag(fit.covariance)))
    assert 0.90 <= float(np.mean(inside)) <= 0.99


def test_plain_nbd_is_called_not_identified() -> None:
    for seed in (1, 2, 3):
        log = lesson.simulate(3_000, seed, dropout=False)
        t = lesson.customer_table(log, int(log.day.max()))
        fit = lesson.fit_bgnbd(t.x, t.t_last, t.age)
        assert not fit.identified
        assert fit.b < 100  # no silent 10^8
        dropped = 1 - fit.p_alive(t.x, t.t_last / 7, t.age / 7)
        assert float(dropped.mean()) < 0.05


def test_the_prior_hardly_moves_an_identified_fit(record: Any) -> None:
    fit, t = record.forecast.bgnbd, record.forecast.table
    data = lesson.Collapsed(t.x, t.t_last, t.age, 7)
    free = lesson.by_logs(lambda *p: lesson.bgnbd_terms(data, *p))

    def held(theta: Any) -> Any:
        pairs = zip(free(theta), lesson.weak_prior(theta), strict=True)
        return tuple(a + b for a, b in pairs)

    start = np.log([fit.r, fit.alpha, fit.a, fit.b])
    moved = lesson.maximum(held, start)[0] - start
    assert (np.abs(moved) < 0.1 * np.sqrt(np.diag(fit.covariance))).all()


def test_days_and_weeks_give_the_same_fit(record: Any) -> None:
    t, weeks = record.forecast.table, record.forecast.bgnbd
    days = lesson.fit_bgnbd(t.x, t.t_last, t.age, per_week=1)
    assert days.alpha == pytest.approx(7 * weeks.alpha, rel=1e-5)
    assert (days.r, days.b) == pytest.approx((weeks.r, weeks.b), rel=1e-5)


# --- The backtest --------------------------------------------------------------------


def test_bars_of_the_backtest(record: Any) -> None:
    churn, value = record.scores["churn"], record.scores["value"]
    assert churn[lesson.BGNBD]["brier"] <= 0.1613
    stack = churn[lesson.STACK]
    assert stack["brier"] <= 0.156
    assert stack["log_loss"] <= 0.486
    assert stack["auc"] >= 0.778
    assert value[lesson.GG]["mae"] <= 30.5
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
    low, high = lesson.interval_of_mean(sample)
    assert low < sample.mean() < high


ROWS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(1, 60), st.floats(0, 100)),
    min_size=1,
    max_size=40,
)


def as_log(rows: list[tuple[int, int, float]], ids: int) -> Any:
    who, day, paid = (np.array(column) for column in zip(*rows, strict=True))
    return lesson.TransactionLog(who, day, paid, [f"c{k}" for k in range(ids)])


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
        with pytest.raises(lesson.BadInput):
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


# --- Predictions ---------------------------------------------------------------------


def test_alone_or_among_many_a_user_gets_the_same_answer(now: Any, record: Any) -> None:
    engine = lesson.AnalyticsEngine(now.log, now.table.as_of)
    manager = lesson.MLModelManager(now, record, lesson.RecommendationEngine(engine))
    users = ["0003", "0157", "2357"]
    for kind in KINDS:
        together = manager.predict(kind, users)
        assert together == [manager.predict(kind, user) for user in users]
        assert [p.user for p in together] == users
        assert {p.kind for p in together} == {kind}
        with pytest.raises(lesson.BadInput, match="'nobody'"):
            manager.predict(kind, ["0003", "nobody"])


def test_predictions_are_finite_and_in_order(now: Any, record: Any) -> None:
    manager = lesson.MLModelManager(now, record)
    for user in now.log.ids[::100]:
        churn, value, coming = (manager.predict(kind, user) for kind in KINDS[:3])
        assert 0 <= churn.value <= 1
        assert churn.probability + coming.probability == pytest.approx(1)
        assert coming.model == f"{lesson.BGNBD}, chance by {churn.model}"
        assert coming.skill == churn.skill
        assert 0 <= value.low <= value.high < 1e6
        assert value.value >= 0
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
    with pytest.raises(lesson.BadInput, match="RecommendationEngine"):
        lesson.MLModelManager(now, None).predict(KINDS[3], "0003")


def test_the_record_of_a_prediction_is_its_own_models(now: Any, record: Any) -> None:
    chosen = copy.copy(now)
    chosen.churn_model = lesson.BGNBD
    p = lesson.MLModelManager(chosen, record).predict(KINDS[0], "0157")
    chances = record.forecast.churn[lesson.BGNBD]
    lowest = chances <= chances[lesson.tenths(chances)[0]].max()
    assert p.value < chances[lowest].max()
    assert p.observed == lesson.rate_of(record.gone[lowest])
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
    assert 200 < less.observed.n < 300  # the like of this customer, not everybody


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


# --- Recommendations and insights ----------------------------------------------------


@pytest.fixture(scope="module")
def shop() -> Any:
    return lesson.simulate_shop(120, 80, 3)


def test_strategies_are_the_segments(log: Any, now: Any) -> None:
    engine = lesson.AnalyticsEngine(log, now.table.as_of)
    advice = lesson.RecommendationEngine(engine)
    seen = {}
    for user in log.ids[:400]:
        (offer,) = advice.get_recommendations(user)
        assert offer.item is None
        assert "no items" in offer.reason
        seen[engine.calculate_user_profile(user).segment] = offer.strategy
    assert seen == lesson.STRATEGY


def test_items_bought_before_come_first_then_neighbours_then_popular(shop: Any) -> None:
    end = lesson.START + 270
    engine = lesson.AnalyticsEngine(shop, end)
    advice = lesson.RecommendationEngine(engine)
    rank = {"bought before": 0, "bought together": 1, "popular": 2}
    for user in [str(shop.ids[c]) for c in engine.table.customer[:50]]:
        offers = advice.get_recommendations(user, 40)
        assert len({offer.item for offer in offers}) == len(offers) == 40
        if engine.calculate_user_profile(user).segment is lesson.UserSegment.VIP:
            price = [advice.price[shop.items.index(o.item)] for o in offers]
            assert price == sorted(price, reverse=True)
        else:
            order = [rank[offer.reason] for offer in offers]
            assert order == sorted(order)


def test_similarity_equals_the_cosine_of_the_matrix(shop: Any) -> None:
    advice = lesson.RecommendationEngine(lesson.AnalyticsEngine(shop, 10**6))
    matrix = np.zeros((len(shop.ids), len(shop.items)))
    matrix[shop.customer, shop.item] = 1
    norm = np.maximum(np.linalg.norm(matrix, axis=0), 1)
    cosine = matrix.T @ matrix / np.outer(norm, norm)
    for customer in range(10):
        items = np.flatnonzero(matrix[customer])
        found = advice.similar(items)
        assert found == pytest.approx(cosine[items].sum(0))


def test_later_orders_change_no_recommendation(shop: Any) -> None:
    end = lesson.START + 200
    early = shop.where(shop.day <= end)
    a, b = (
        lesson.RecommendationEngine(lesson.AnalyticsEngine(log, end))
        for log in (shop, early)
    )
    for customer in np.unique(early.customer)[:20].tolist():
        assert a.ranked(customer) == b.ranked(customer)


def test_a_newcomer_without_neighbours_gets_what_is_popular() -> None:
    day, ids = np.array([1, 1, 1, 2]), ["a", "b", "c"]
    log = lesson.TransactionLog(
        np.array([0, 0, 1, 2]),
        day,
        np.ones(4),
        ids,
        np.array([0, 1, 0, 2]),
        list("xyz"),
    )
    advice = lesson.RecommendationEngine(lesson.AnalyticsEngine(log, 9))
    reasons = [(o.item, o.reason) for o in advice.get_recommendations("c", 3)]
    assert sorted(reasons) == [
        ("x", "popular"),
        ("y", "popular"),
        ("z", "bought before"),
    ]


def as_shop(rows: list[tuple[int, int, str, float]], ids: int) -> Any:
    """Return a log of (customer, day, item, amount)."""
    who, day, what, paid = zip(*rows, strict=True)
    items = sorted({*what})
    code = np.array([items.index(one) for one in what])
    columns = np.array(who), np.array(day), np.array(paid)
    return lesson.TransactionLog(*columns, [f"c{k}" for k in range(ids)], code, items)


def test_only_what_was_sold_and_has_a_name_is_offered_at_its_price() -> None:
    rows = [(0, day, "coffee", 3.0) for day in range(1, 21)]
    rows += [(0, 5, "champagne", 40.0), (1, 6, "", 9.0), (1, 30, "next year's", 1.0)]
    log = as_shop(rows, 2)
    advice = lesson.RecommendationEngine(lesson.AnalyticsEngine(log, 25))
    price = dict(zip(log.items, advice.price, strict=True))
    assert (price["coffee"], price["champagne"]) == (3, 40)
    for user in log.ids:
        offers = advice.get_recommendations(user)
        assert {offer.item for offer in offers} == {"coffee", "champagne"}
    rows = [(who, 1, item, 1.0) for who in range(2_000) for item in "ab"]
    log = as_shop([*rows, (2_000, 1, "a", 1.0)], 2_001)
    advice = lesson.RecommendationEngine(lesson.AnalyticsEngine(log, 1))
    assert advice.similar(np.array([0]))[1] == pytest.approx(1, rel=1e-3)


def test_each_figure_of_a_sentence_comes_from_the_data(now: Any, record: Any) -> None:
    report = lesson.InsightsGenerator(now, record)
    rows = report.generate_segment_report()
    said = dict(zip(rows, report._generate_insights(rows), strict=False))
    for name, row in rows.items():
        assert f"{row['customers']:,} customers" in said[name]
        assert f"{1 - row['observed_churn']:.0%} came back" in said[name]
        assert f"with {row['observed_spend_share']:.0%} of all spend" in said[name]
        changed = row | {"customers": 77, "observed_churn": 0.42}
        other = report._generate_insights({name: changed})[0]
        assert "77 customers" in other
        assert "58% came back" in other
        assert other != said[name]
    assert sum(row["customers"] for row in rows.values()) == 2357
    assert sum(row["share"] for row in rows.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("of", "low", "end"),
    [
        (29, 0.1, "29 are too few to tell."),
        (30, 0.1, "they return unasked."),
        (3000, 0.28, "do not act on the model's figure here."),
    ],
)
def test_a_sentence_concludes_nothing_from_a_few(
    now: Any, record: Any, of: int, low: float, end: str
) -> None:
    report = lesson.InsightsGenerator(now, record)
    row = report.generate_segment_report()["active"]
    row |= {"observed_churn": 0.3, "backtest_churn": 0.15}
    row |= {"observed_95": (low, 0.5), "observed_of": of}
    assert report._generate_insights({"active": row})[0].endswith(end)


# --- Files ---------------------------------------------------------------------------


def write(
    path: Path, rows: list[list[str]], header: str = "customer,date,amount"
) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header.split(","), *rows])
    return path


def orders(n: int = 400, start: date = date(2020, 1, 1)) -> list[list[str]]:
    rng = np.random.default_rng(4)
    day = [start + timedelta(int(d)) for d in rng.integers(0, 300, n)]
    who, paid = rng.integers(0, 80, n), rng.integers(1, 90, n)
    rows = zip(who, day, paid, strict=True)
    return [[f"c{c}", str(d), f"{p}.50"] for c, d, p in rows]


def parsed(path: Path, *options: str) -> Any:
    done = run(SCRIPT, "--transactions", str(path), "--json", *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout, parse_constant=pytest.fail)


def test_dates_columns_and_packing_give_the_same_figures(tmp_path: Path) -> None:
    rows = orders()
    plain = parsed(write(tmp_path / "a.csv", rows))
    compact = [[p, c, d.replace("-", "")] for c, d, p in rows]
    other = write(tmp_path / "b.csv", compact, "Order Total,CustomerID,OrderDate")
    assert parsed(other) == plain
    timed = [[c, f"{d}T23:59:59Z", p] for c, d, p in rows]
    named = write(tmp_path / "c.csv", timed, "x,y,z")
    assert parsed(named, "--columns", "x,y,z") == plain
    packed = tmp_path / "d.csv.gz"
    packed.write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    assert parsed(packed) == plain
    semicolons = (tmp_path / "a.csv").read_text().replace(",", ";").replace(".", ",")
    (tmp_path / "e.csv").write_text("\ufeff" + semicolons, "utf-8")
    assert parsed(tmp_path / "e.csv") == plain


AMOUNTS = {
    "1,234": 1234,
    "$1,200": 1200,
    "1,234.56": 1234.56,
    "-0": 0,
    "1,234,567": 1234567,
    "12,50": 12.5,
    "0,125": 0.125,
    "1_000": None,
    "1.234,56": None,
    "12,34,567": None,
}


def test_amounts_with_commas_are_understood_or_refused(tmp_path: Path) -> None:
    rows = [[text, "2020-01-01", text] for text in AMOUNTS]
    log = lesson.read_log(write(tmp_path / "amounts.csv", rows))
    found = dict(zip(log.ids, log.amount.tolist(), strict=True))
    assert found == {k: v for k, v in AMOUNTS.items() if v is not None}
    assert list(log.refused) == ["unreadable amount"]


COLUMNS = {  # header: the columns of customer, date, amount and item, or who compete
    "customer_id,updated_at,created_at,amount": "customer_id created_at amount",
    "customer_id,birth_date,order_time,value": "customer_id order_time value",
    "UserID,OrderDate,discount_amount,order_total": "UserID OrderDate order_total",
    "user,day,total_items,revenue,StockCode": "user day revenue StockCode",
    "UserID,OrderDate,UnitPrice,total_price": "UserID OrderDate total_price",
    "InvoiceDate,UnitPrice,CustomerID": "no column could be the amount",
    "customer,order_date,ship_date,amount": "order_date or ship_date could be the date",
    "user,client,day,amount": "user or client could be the customer",
}


@pytest.mark.parametrize("header", COLUMNS)
def test_columns_are_found_by_whole_words_or_asked_for(
    header: str, tmp_path: Path
) -> None:
    names = header.split(",")
    if "could be" in COLUMNS[header]:
        with pytest.raises(lesson.BadInput, match=f"{COLUMNS[header]}.*--columns"):
            lesson.column_positions(names, None)
        return
    found = lesson.column_positions(names, None)
    assert " ".join(names[i] for i in found.values()) == COLUMNS[header]


def test_the_columns_that_were_read_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", orders(), "UserID,OrderDate,order_total")
    shown = run(SCRIPT, "--transactions", str(path)).stdout
    said = "customer UserID, date OrderDate, amount order_total"
    assert re.search(f"columns +{said}\n", shown)


def test_rows_that_cannot_be_used_are_counted_with_their_lines(tmp_path: Path) -> None:
    good = orders()
    bad = [
        ["x", "2020-02-30", "3"],
        ["y", "2020-01-01", "abc"],
        ["", "2020-01-01", "3"],
        ["z", "2020-01-01"],
        ["q", "2020-01-01", "-5"],
        ["q", "2020-01-01", "nan"],
        ["q", "2999-01-01", "5"],
        ["q", "2020-01-01", "1e300"],
    ]
    path = write(tmp_path / "mixed.csv", good[:100] + bad + good[100:])
    log = lesson.read_log(path)
    assert {why: list(lines) for why, lines in log.refused.items()} == {
        "unreadable date": [102],
        "unreadable amount": [103, 107, 109],
        "no customer": [104],
        "too few columns": [105],
        "negative amount": [106],
        "date in the future": [108],
    }
    figures = parsed(path)
    assert figures["rows"] == {"read": 408, "used": 400, "refused": 8}
    assert figures["bgnbd"] == parsed(write(tmp_path / "good.csv", good))["bgnbd"]
    shown = run(SCRIPT, "--transactions", str(path)).stdout
    assert "3 unreadable amount (line 103, 107, 109)" in shown


def test_duplicates_and_free_orders_are_reported(tmp_path: Path) -> None:
    rows = orders()
    path = write(tmp_path / "twice.csv", [*rows, *rows[:7], ["c1", "2020-01-05", "0"]])
    shown = run(SCRIPT, "--transactions", str(path)).stdout
    assert re.search(r"cost nothing +1, used", shown)
    assert re.search(r"like an earlier row +7, used", shown)
    assert "nan" not in shown.lower()


MANY = [[f"c{i % 30}", f"2020-01-{1 + i % 28:02}", "5"] for i in range(300)]
BAD = {  # name: rows, options, what the one line on stderr must name
    "missing column": ([["a", "b", "c"]], [], "customer"),
    "no usable row": ([["a", "soon", "5"]], [], "1 unreadable date (line 2)"),
    "no rows": ([], [], "no row is usable"),
    "one customer": (
        [["a", f"2020-01-{d:02}", "5"] for d in range(1, 9)],
        [],
        "1 of 1 customers",
    ),
    "no repeat buyer": (
        [[f"c{i}", "2020-01-01", "5"] for i in range(50)],
        [],
        "0 of 50",
    ),
    "all on one day": (
        [[f"c{i % 9}", "2020-01-01", "5"] for i in range(50)],
        [],
        "0 of 9",
    ),
    "all free": ([[c, d, "0"] for c, d, _ in MANY], [], "0 customers paid"),
    "all refunds": ([[c, d, "-1"] for c, d, _ in MANY], [], "300 negative amount"),
    "long horizon": (MANY, ["--horizon", "400"], "400 days"),
    "early as_of": (MANY, ["--as-of", "2019-12-31"], "2020-01-01"),
    "calibration outside": (MANY, ["--calibration-end", "2021-01-01"], "2020-01-28"),
    "bad column": (MANY, ["--columns", "customer,when,amount"], "customer,when,amount"),
    "bad date": (MANY, ["--as-of", "yesterday"], "'yesterday'"),
    "bad number": (MANY, ["--horizon", "-3"], "--horizon"),
    "two sources": (MANY, ["--simulate", "9"], "--simulate"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_line(case: str, tmp_path: Path) -> None:
    rows, options, named = BAD[case]
    header = "a,b,c" if case == "missing column" else "customer,date,amount"
    path = write(tmp_path / "bad.csv", rows, header)
    done = run(SCRIPT, "--transactions", str(path), *options)
    assert (done.returncode, done.stdout) == (2, ""), done.stdout
    assert len(done.stderr.splitlines()) == 1
    assert named in done.stderr


def damaged(name: str, folder: Path) -> Path:
    path = folder / name
    packed = gzip.compress(b"customer,date,amount\n" + b"a,2020-01-01,5\n" * 9999)
    contents = {
        "empty.csv": b"",
        "binary.csv": bytes(range(256)) * 99,
        "cut.csv.gz": packed[: len(packed) // 2],
        "broken.csv.gz": packed[:40] + b"!" * 40 + packed[80:],
        "endless.csv": b"customer,date,amount\n" + b"x" * 3_000_000,
        "quote.csv": b'customer,date,amount\n"a,2020-01-01,5\n'
        + b"b,2020-01-01,5\n" * 20000,
    }
    if name in contents:
        path.write_bytes(contents[name])
    elif name == "folder":
        path.mkdir()
    return path


@pytest.mark.parametrize(
    "name",
    [
        "empty.csv",
        "binary.csv",
        "cut.csv.gz",
        "broken.csv.gz",
        "endless.csv",
        "quote.csv",
        "folder",
        "nowhere.csv",
    ],
)
def test_a_file_that_is_no_log_gets_one_line(name: str, tmp_path: Path) -> None:
    done = run(SCRIPT, "--transactions", str(damaged(name, tmp_path)))
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("amount", ["10", "0.01", "999999999"])
def test_strange_but_usable_logs_give_numbers(amount: str, tmp_path: Path) -> None:
    rows = [[c, d, amount] for c, d, _ in orders()]
    path = write(tmp_path / "same.csv", rows)
    shown = run(SCRIPT, "--transactions", str(path))
    assert shown.returncode == 0, shown.stderr
    assert not re.search(r"\b(nan|inf)\b", shown.stdout, re.IGNORECASE)
    assert parsed(path, "--as-of", "2030-01-01")["customers"] > 0


def test_a_big_file_is_read_in_bounded_memory(tmp_path: Path) -> None:
    path, line = tmp_path / "big.csv", "customer-{},2020-01-{:02},12.50,{}\n"
    with path.open("w") as file:
        file.write("customer,date,amount,note\n")
        for i in range(60_000):
            file.write(line.format(i % 100, 1 + i % 28, "n" * 200))
    tracemalloc.start()
    log = lesson.read_log(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(log.day) == 60_000
    assert path.stat().st_size > 13_000_000
    assert peak < 60_000 * 100  # the text of a row, 230 bytes, is not kept


# --- The command line ----------------------------------------------------------------


def test_json_is_one_object_with_the_promised_keys() -> None:
    done = run(SCRIPT, "--json", "--calibration-end", "1997-09-30", "--horizon", "273")
    figures = json.loads(done.stdout, parse_constant=pytest.fail)
    assert figures["customers"] == 2357
    assert figures["rows"] == {"read": 6919, "used": 6919, "refused": 0}
    assert (figures["as_of"], figures["horizon_days"]) == ("1998-06-30", 273)
    fit = figures["bgnbd"]
    assert fit.keys() == {"r", "alpha", "a", "b", "log_likelihood", "identified"}
    assert fit["log_likelihood"] == pytest.approx(-9582.4292, abs=1e-3)
    assert figures["gamma_gamma"].keys() == {"p", "q", "gamma", "log_likelihood"}
    for scores in figures["churn"].values():
        assert scores.keys() >= {"auc", "brier", "log_loss", "ece"}
    for scores in figures["value"].values():
        assert scores.keys() >= {"mae", "rmse", "bias", "top_decile_share"}
    assert figures["chosen"] == {"churn": lesson.STACK, "value": lesson.GG}
    assert figures["segments"].keys() == {s.value for s in lesson.UserSegment}
    assert json.loads(run(SCRIPT, "--json").stdout) == figures


def test_as_of_ends_what_is_read() -> None:
    figures = json.loads(run(SCRIPT, "--json", "--as-of", "1997-09-30").stdout)
    assert figures["as_of"] == figures["fitted_at"] == "1997-09-30"
    assert figures["bgnbd"]["log_likelihood"] == pytest.approx(-9582.4292, abs=1e-3)
    assert figures["horizon_days"] == 136


def test_a_simulation_is_the_same_again_and_near_its_truth() -> None:
    one, two = (run(SCRIPT, "--simulate", "60000", "--json") for _ in range(2))
    assert one.stdout == two.stdout
    fit = json.loads(one.stdout)["bgnbd"]
    for name in ("r", "alpha", "a", "b"):
        assert fit[name] == pytest.approx(getattr(lesson.TRUTH, name), rel=0.1)
    assert (
        run(SCRIPT, "--simulate", "60000", "--json", "--seed", "6").stdout != one.stdout
    )


def test_plots_are_drawn_the_same_again(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for folder in ("a", "b"):
        done = run(SCRIPT, "--plots", str(tmp_path / folder))
        assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == sorted(f"{name}.svg" for name in lesson.PICTURES)
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (
            tmp_path / "b" / name
        ).read_bytes()


def test_plots_without_matplotlib_say_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    assert load("05").main(["--plots", str(tmp_path / "p")]) == 2
    assert "pip install matplotlib" in capsys.readouterr().err
    assert not (tmp_path / "p").exists()
    page = tmp_path / "page.html"
    assert load("05").main(["--json", "--report", str(page)]) == 0
    assert "churn said and seen" in page.read_text()


def test_pictures_as_text_blank_what_is_not_observed(record: Any) -> None:
    grid = lesson.retention(record)
    assert [len(row) for row in grid.values()] == [17, 16, 15]
    begun = record.log.where(record.log.day <= date(1998, 6, 4).toordinal())
    cut = lesson.retention(lesson.Backtest(begun, END, DAYS - 26))
    assert [len(row) for row in cut.values()] == [16, 15, 14]  # June is not over
    for whole, less in zip(grid.values(), cut.values(), strict=True):
        assert less.items() <= whole.items()
    tracked = list(lesson.tracking(record).values())
    assert tracked[-1]["expected"] == pytest.approx(tracked[-1]["actual"], rel=0.1)
    assert len(lesson.lift(record)) == 10
    assert len(lesson.reliability(record)) == 20


# --- The report in a browser ---------------------------------------------------------


@pytest.fixture(scope="module")
def browse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Open a page: return its DOM, console lines, and hosts that it asked for."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if not browser:
        absent("no chromium on the PATH to open the report with")
    home = tmp_path_factory.mktemp("browser")

    def opened(page: Path) -> tuple[str, list[str], set[str]]:
        log = home / "net.json"
        command = [str(browser), "--headless", "--no-sandbox", "--disable-gpu"]
        command += ["--no-first-run", "--disable-background-networking"]
        command += [f"--user-data-dir={home / 'profile'}", f"--log-net-log={log}"]
        command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr"]
        command += ["--window-size=390,800", "--dump-dom", page.as_uri()]
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", timeout=90, check=False
        )
        console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
        urls = re.findall(r'"url":"(https?://[^"]*)', log.read_text("utf-8", "replace"))
        return done.stdout, console, {str(urlsplit(url).hostname) for url in urls}

    yield opened


def test_the_report_opens_without_error_or_request(browse: Any, tmp_path: Path) -> None:
    blank, noisy, report = (
        tmp_path / f"{name}.html" for name in ("blank", "noisy", "r")
    )
    blank.write_text("<!DOCTYPE html><title>x</title>")
    noisy.write_text(
        '<!DOCTYPE html><img src="http://module8.invalid/x.png">'
        "<script>console.error('boom')</script>"
    )
    own = browse(blank)[2]  # what the browser asks for by itself
    _, console, hosts = browse(noisy)
    assert console and "module8.invalid" in hosts  # the instruments work
    rows = [["<b>c&1" if c == "c1" else c, d, p] for c, d, p in orders()]
    path = write(tmp_path / "<i>orders.csv", rows)
    done = run(SCRIPT, "--transactions", str(path), "--report", str(report), "--json")
    assert done.returncode == 0, done.stderr
    dom, console, hosts = browse(report)
    assert console == []
    assert hosts <= own | {"update.googleapis.com", "clients2.google.com"}
    assert "<i>orders" not in dom
    assert "&lt;i&gt;orders.csv" in dom
    assert 'name="viewport"' in dom
    for title in ("segment", "churn", "value", "repeat orders by week"):
        assert f"<td>{title}" in dom
    sources = re.findall(r'(?:src|href)="([^"]*)', dom)
    assert sources and all(source.startswith("data:") for source in sources)


def test_the_data_file_is_what_its_readme_says() -> None:
    import hashlib

    readme = (ROOT / "data" / "README.md").read_text("utf-8")
    raw = (ROOT / "data" / "cdnow_sample.csv").read_bytes()
    assert f"`{hashlib.sha256(raw).hexdigest()}`" in readme
    pytest.importorskip("lifetimes")
    done = run(ROOT / "tools" / "make_cdnow_sample.py", "--check")
    assert done.returncode == 0, done.stderr
