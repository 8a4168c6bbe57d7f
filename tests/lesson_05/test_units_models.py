"""Lesson 05: published figures, derivatives, oracles, edge cases, known truth."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from lesson_05.logs import lesson

from course.analytics.arrays import Floats
from course.analytics.bgnbd import (
    Collapsed,
    bgnbd_terms,
    nbd_terms,
    weak_prior,
    with_weak_prior,
)
from course.analytics.gammagamma import gamma_gamma_terms, gamma_terms
from course.analytics.newton import by_logs, fit_logistic, maximum
from course.analytics.rates import SEED
from course.analytics.simulate import SPAN, START


def log_likelihood(fit: Any, x: int, t_last: float, age: float) -> float:
    """Return one customer's, in weeks to a hundredth."""
    last, whole = np.array([round(100 * t_last)]), np.array([round(100 * age)])
    data = Collapsed(np.array([x]), last, whole, 100)
    return bgnbd_terms(data, fit.r, fit.alpha, fit.a, fit.b).value


PAPER = lesson.BgNbd(0.243, 4.414, 0.793, 2.426)


# --- Published figures


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


# --- The formula in front, and what is climbed behind it


def test_the_plain_formula_is_the_one_that_is_maximised(record: Any) -> None:
    fit = record.forecast.bgnbd
    each = lesson.log_likelihoods(fit, *record.forecast.weeks)
    assert float(each.sum()) == pytest.approx(fit.log_likelihood, abs=1e-6)


def test_the_fit_visits_the_rows_that_differ_with_their_customers(record: Any) -> None:
    t = record.forecast.table
    data = Collapsed(t.x, t.t_last, t.age, 7)
    times = np.column_stack((t.x, t.t_last, t.age))[t.x > 0]
    rows, customers = np.unique(times, axis=0, return_counts=True)
    assert np.array_equal(np.column_stack((data.x, data.t_last, data.age)), rows)
    assert np.array_equal(data.weight, customers)
    visited, _ = lesson.likelihood_of_distinct(record.forecast.bgnbd, t)
    assert visited == len(rows) < len(times)


# --- Derivatives, oracles, edge cases


def differences_agree(objective: Callable[[Floats], Any], theta: Floats) -> None:
    _, slope, curve = objective(theta)
    for k, step in enumerate(np.eye(len(theta)) * 1e-5):
        up, down = objective(theta + step), objective(theta - step)
        assert (up[0] - down[0]) / 2e-5 == pytest.approx(slope[k], rel=1e-5, abs=1e-3)
        assert (up[1] - down[1]) / 2e-5 == pytest.approx(curve[k], rel=1e-5, abs=1e-3)


def test_gradients_and_hessians_agree_with_differences(record: Any) -> None:
    t = record.forecast.table
    data = Collapsed(t.x, t.t_last, t.age, 7)
    place = np.log([0.3, 5.0, 0.7, 2.0])
    terms = by_logs(lambda *p: bgnbd_terms(data, *p))
    differences_agree(terms, place)
    differences_agree(by_logs(lambda *p: nbd_terms(data, *p)), place[:2])
    differences_agree(weak_prior, place)
    again = t.x > 0
    x, z = t.x[again], t.mean_spend[again]
    money = by_logs(lambda *p: gamma_gamma_terms(x, z, *p))
    differences_agree(money, np.log([5.0, 3.0, 12.0]))


def test_gamma_terms_agree_with_scipy() -> None:
    special = pytest.importorskip("scipy.special")
    v = np.array([1e-3, 0.02, 0.3, 1.0, 2.5, 17.0, 900.0, 1e6])
    value, first, second = gamma_terms(v)
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
    found = fit_logistic(inputs, record.gone)
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
    assume(weeks < 1000 * past)  # beyond, expected_orders promises fewer digits

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


# --- Known truth


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


def test_a_real_dropout_is_found_within_three_standard_errors() -> None:
    log = lesson.simulate(4_000, SEED)
    t = lesson.customer_table(log, START + SPAN - 1)
    fits = [lesson.fit_bgnbd(t.x, t.t_last, t.age, guard=g) for g in (False, True)]
    for fit in fits:
        found = np.log([fit.r, fit.alpha, fit.a, fit.b])
        off = found - np.log([PAPER.r, PAPER.alpha, PAPER.a, PAPER.b])
        assert (np.abs(off) < 3 * np.sqrt(np.diag(fit.covariance))).all()
        assert fit.identified
    naive, guarded = fits
    assert (naive.r, naive.b) == (guarded.r, guarded.b)


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
    data = Collapsed(t.x, t.t_last, t.age, 7)
    free = by_logs(lambda *p: bgnbd_terms(data, *p))

    start = np.log([fit.r, fit.alpha, fit.a, fit.b])
    moved = maximum(with_weak_prior(free), start).place - start
    assert (np.abs(moved) < 0.1 * np.sqrt(np.diag(fit.covariance))).all()


def test_days_and_weeks_give_the_same_fit(record: Any) -> None:
    t, weeks = record.forecast.table, record.forecast.bgnbd
    days = lesson.fit_bgnbd(t.x, t.t_last, t.age, per_week=1)
    assert days.alpha == pytest.approx(7 * weeks.alpha, rel=1e-5)
    assert (days.r, days.b) == pytest.approx((weeks.r, weeks.b), rel=1e-5)
