"""Lesson 05: an interval holds its point, a record is of the nearest, totals widen."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from lesson_05.logs import KINDS, lesson

from course.analytics.futures import missed_by, widened
from course.analytics.nearest import Told, bracket, mean_of
from course.analytics.rates import share_of
from course.analytics.wording import spoken


def test_the_nearest_are_as_near_as_a_search_by_hand_finds() -> None:
    rng = np.random.default_rng(3)
    for n in (5, 60, 900, 3_000):
        told = rng.beta(0.5, 0.5, n).round(2)  # with many ties
        nearest = Told(told)
        for score in (-1.0, 0.0, 0.113, 0.5, 0.98, 2.0):
            rows = nearest.nearest(score)
            assert len(rows) == len(set(rows.tolist())) == max(1, min(200, n // 5))
            off = np.sort(np.abs(told - score))[: len(rows)]
            assert np.abs(told[rows] - score).max() == pytest.approx(off.max())


def test_of_many_told_the_same_any_may_be_among_the_nearest() -> None:
    rows = Told(np.full(5_000, 0.3)).nearest(0.3)
    assert 2_000 < rows.mean() < 3_000  # not the first two hundred of the file


def test_whatever_has_two_ends_holds_its_point(now: Any, record: Any) -> None:
    manager = lesson.MLModelManager(now, record)
    days = now.days
    for user in now.log.ids[::40]:
        churn, value, coming = (manager.predict(kind, user) for kind in KINDS[:3])
        assert (churn.low, churn.high) == (None, None)
        assert churn.observed.n == 200
        assert churn.told[0] <= churn.told[1]
        assert value.low <= value.value <= value.high
        low, middle, high = value.futures
        assert low <= middle <= high
        for end in (coming.low, coming.value, coming.high):
            assert end is None or 0 <= end <= days
        text = "\n".join(spoken(coming, days))
        if coming.probability < 0.5:
            assert coming.value is None
            chance = f"{coming.probability:.2f}"
            assert f"not within {days} days (chance {chance})" in text
        else:
            assert coming.value <= days
            assert f"within {coming.value:.0f} days" in text
        for said in (churn, coming):
            lines = "\n".join(spoken(said, days))
            assert "200 were told" in lines
            assert "ordered" in lines


def test_the_nearest_were_told_nearly_the_same(now: Any, record: Any) -> None:
    model = record.forecast.churn_model
    chances = record.forecast.churn[model]
    middle = float(np.median(chances))
    found = record.nearest("churn", model, middle)
    width = found.told[1] - found.told[0]
    assert width < 0.05
    assert found.told[0] <= middle <= found.told[1]
    tenth = np.quantile(chances, (0, 0.1))
    lowest = record.nearest("churn", model, float(chances.min()))
    assert lowest.told[1] - lowest.told[0] <= tenth[1] - tenth[0]


def test_the_days_until_an_order_agree_with_the_chosen_chance(now: Any) -> None:
    rows = np.arange(len(now.table.x))
    chance = 1 - now.churn[now.churn_model]
    for q in (0.1, 0.5, 0.9):
        days = now.days_until(rows, q)
        assert (np.isfinite(days) == (chance > q)).all()
        assert (days[np.isfinite(days)] <= now.days * (1 + 1e-9)).all()


def test_who_is_sure_to_be_gone_has_no_day(now: Any) -> None:
    sure = copy.copy(now)
    sure.churn = now.churn | {now.churn_model: np.ones(len(now.table.x))}
    assert np.isinf(sure.days_until(np.arange(5), 0.5)).all()  # without a warning


def test_a_bracket_holds_its_mean_and_no_record_makes_none() -> None:
    seen = mean_of(np.array([1.0, 2.0, 3.0, 50.0] * 30))
    low, high = bracket(10.0, seen, 14.0)
    assert low is not None and high is not None
    assert low < 10 < high
    assert bracket(10.0, seen, 1_000.0)[1] == 10
    assert bracket(10.0, None, 14.0) == (None, None)
    assert bracket(10.0, seen, 0.0) == (None, None)


def test_a_total_is_wider_by_what_the_backtest_missed() -> None:
    assert widened(90, 110, 0.0) == (90, 110)
    missed = missed_by(150.0, 100.0)
    assert missed == pytest.approx(np.log(1.5))
    assert missed == pytest.approx(missed_by(100.0, 150.0))
    low, high = widened(90, 110, missed)
    assert (low, high) == pytest.approx((60, 165))
    assert missed_by(0.0, 100.0) == 0


def test_the_widened_total_holds_what_was_spent(record: Any) -> None:
    rows, _, (low, high) = record.survey
    spent = float(record.spent[rows].sum())
    assert not low <= spent <= high  # the model alone knows no season
    low, high = widened(low, high, record.forecast.missed)
    assert low <= spent <= high


def test_the_interval_of_a_share_covers_it() -> None:
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(200):
        mine = rng.random(400) < 0.3
        amount = rng.gamma(0.5, 20, 400) * np.where(mine, 2, 1)
        share, low, high = share_of(amount, mine)
        assert low <= share <= high
        held += low <= 0.6 / 1.3 <= high
    assert held > 180
    assert share_of(np.zeros(4), np.ones(4, bool)) == (0.0, 0.0, 0.0)


def test_sentences_state_what_was_seen_and_claim_nothing_else(
    now: Any, record: Any
) -> None:
    report = lesson.InsightsGenerator(now, record)
    rows = report.generate_segment_report()
    sentences = report._generate_insights(rows)
    text = " ".join(sentences)
    for claim in ("unasked", "reminder", "win them", "keep them"):
        assert claim not in text
    for name, row in rows.items():
        said = next(line for line in sentences if line.startswith(name))
        assert f"within {record.forecast.days} days" in said
        assert f"of {row['observed_of']:,} then" in said
        low, high = row["observed_95"]
        assert f"({1 - high:.0%} to {1 - low:.0%};" in said
        low, high = row["ltv_95"]
        assert low < row["predicted_ltv"] < high
        assert f"({low:,.0f} to {high:,.0f})" in said
    total = next(line for line in sentences if line.startswith("all:"))
    assert f"{record.spent.sum():,.0f} was spent" in total
    assert f"{record.amount.sum():,.0f} was said" in total
    low, high = (
        float(x.replace(",", ""))
        for x in total.split("(")[1].split(")")[0].split(" to ")
    )
    sure = now.ltv.sum()
    assert low < sure * np.exp(-record.missed) and sure * np.exp(record.missed) < high
