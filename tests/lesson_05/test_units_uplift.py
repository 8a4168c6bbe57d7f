"""Lesson 05: offers of known truth, their Qini, and how many an experiment needs."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from lesson_05.logs import lesson

from course.analytics.offers import (
    BUYS_WITH,
    BUYS_WITHOUT,
    COST,
    KINDS,
    MARGIN,
    PRICE_CUT,
    area_above_chance,
    best,
    campaign,
    customers_needed,
    qini_curve,
    share_that_find_it,
    simulated_offers,
    true_curve,
)


def test_four_kinds_and_what_an_offer_does_to_each() -> None:
    made = simulated_offers(8_000, 1)
    assert set(made.kind.tolist()) == {0, 1, 2, 3}
    effects = {}
    gains = {}
    for code, kind in enumerate(KINDS):
        mine = made.kind == code
        effects[kind] = set(made.effect[mine].tolist())
        gains[kind] = set(made.gain[mine].tolist())
    assert effects == {
        "sure thing": {0},
        "persuadable": {1},
        "lost cause": {0},
        "sleeping dog": {-1},
    }
    assert gains["sleeping dog"] == {-MARGIN - COST}
    assert gains["persuadable"] == {MARGIN - PRICE_CUT - COST}
    shown = np.where(made.offered, BUYS_WITH[made.kind], BUYS_WITHOUT[made.kind])
    assert np.array_equal(made.bought, shown)
    assert 0.47 < made.offered.mean() < 0.53


@pytest.mark.parametrize("seed", range(6))
def test_the_naive_target_loses_money_and_uplift_earns_it(seed: int) -> None:
    past, now = (
        simulated_offers(20_000, 2 * seed),
        simulated_offers(20_000, 2 * seed + 1),
    )
    profit = {}
    for make in (lesson.random_score, lesson.churn_of, lesson.uplift_of):
        found = campaign(now, make(past, now), lesson.TARGETED)
        low, high = found["95 %"]
        assert low < found["profit each"] < high
        profit[make.__name__] = (low, high)
    assert profit["churn_of"][1] < 0
    assert profit["uplift_of"][0] > 0
    assert profit["random_score"][1] < 0


def test_curves_and_areas_agree_with_scikit_uplift() -> None:
    metrics = pytest.importorskip("sklift.metrics")
    past, now = simulated_offers(4_000, 1), simulated_offers(3_000, 2)
    rounded = lesson.uplift_of(past, now).round(2)  # with ties
    for score in (lesson.uplift_of(past, now), lesson.churn_of(past, now), rounded):
        y, treated = now.bought.astype(int), now.offered.astype(int)
        x, won = qini_curve(now.bought, now.offered, score)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its own, of a helper in scikit-learn
            theirs_x, theirs = metrics.qini_curve(y, score, treated)
            top_x, top = metrics.perfect_qini_curve(y, treated)
            their_share = metrics.qini_auc_score(y, score, treated)
        assert np.array_equal(x, theirs_x)
        assert won == pytest.approx(theirs)
        # Theirs is in units of a perfect model's area: ours of both gives the same.
        whole = area_above_chance((np.asarray(top_x), np.asarray(top)))
        assert area_above_chance((x, won)) / whole == pytest.approx(their_share)


def test_the_experiments_qini_is_that_of_the_truth_on_average() -> None:
    past = simulated_offers(20_000, 1)
    gaps, truths = [], []
    for seed in range(20):
        now = simulated_offers(5_000, 100 + seed)
        score = lesson.uplift_of(past, now)
        truth = area_above_chance(true_curve(now.effect, score))
        gaps.append(
            area_above_chance(qini_curve(now.bought, now.offered, score)) - truth
        )
        truths.append(truth)
    assert abs(np.mean(gaps)) < 0.1 * np.mean(truths)


def test_the_best_are_a_share_and_random_has_no_area() -> None:
    score = np.array([0.1, 0.9, 0.5, 0.7])
    assert best(score, 0.5).tolist() == [False, True, False, True]
    now = simulated_offers(20_000, 7)
    area = area_above_chance(true_curve(now.effect, lesson.random_score(now, now)))
    assert abs(area) < 0.01


@pytest.mark.parametrize(
    ("without", "with_offer"), [(0.1, 0.12), (0.44, 0.47), (0.5, 0.3)]
)
def test_an_experiment_of_that_size_finds_it_four_times_in_five(
    without: float, with_offer: float
) -> None:
    each = customers_needed(without, with_offer)
    assert share_that_find_it(without, with_offer, each, 1) == pytest.approx(
        0.8, abs=0.03
    )
    assert share_that_find_it(without, with_offer, each // 10, 1) < 0.35
    assert share_that_find_it(without, without, each, 1) == pytest.approx(
        0.05, abs=0.02
    )
