"""Lesson 05: recommendations and insights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from lesson_05.logs import lesson

from course.analytics.simulate import START, simulated_shop
from course.errors import BadInput


@pytest.fixture(scope="module")
def shop() -> Any:
    return lesson.TransactionLog(*simulated_shop(120, 80, 3))


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
    with pytest.raises(BadInput, match="the log names no items"):
        advice.popular(0)


def test_items_bought_before_come_first_then_neighbours_then_popular(shop: Any) -> None:
    end = START + 270
    engine = lesson.AnalyticsEngine(shop, end)
    advice = lesson.RecommendationEngine(engine)
    rank = {"bought before": 0, "bought together": 1, "popular": 2}
    for user in [str(shop.ids[c]) for c in engine.table.customer[:50]]:
        offers = advice.get_recommendations(user, 40)
        assert len({offer.item for offer in offers}) == len(offers) == 40
        if engine.calculate_user_profile(user).segment is lesson.UserSegment.VIP:
            price = [advice.known.price[shop.items.index(o.item)] for o in offers]
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
    end = START + 200
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
    price = dict(zip(log.items, advice.known.price, strict=True))
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
        (29, 0.1, "29 customers then in it: too few to tell."),
        (30, 0.1, ": as said."),
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


def test_the_rule_is_named_once_where_it_is_the_chosen_model(
    now: Any, record: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record.forecast, "churn_model", lesson.RULE)
    report = lesson.InsightsGenerator(now, record)
    last = report._generate_insights(report.generate_segment_report())[-1]
    assert last == "churn by Brier score, best first: constant 0.206, heuristic 0.220."
