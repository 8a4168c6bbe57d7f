"""Scores of customers: made from SQL, cached in Redis, and never out of date."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from course.claims import less_than
from course.console import check, fact, table
from course.integrated.analytics import Numbers, scores_of
from course.integrated.cache import Predict, Score
from course.integrated.shop import Shop
from course.integrated.spans import span_since

FEATURES = """SELECT day, sum(cents) AS cents FROM purchases WHERE customer = :user
              GROUP BY day ORDER BY day"""


# region scorer
def scorer(shop: Shop, forecast: Any) -> Predict:
    """Return a function that scores a customer by what SQL knows, through the cache."""

    def predict(user: str) -> Score:
        started = time.time()
        orders = shop.database.rows(FEATURES, user=user)
        shop.spans.append(span_since("features from SQL", started))
        return score_of(orders, forecast, shop.end)

    cached: Predict = shop.cache.cached(predict)
    return cached


def score_of(orders: Sequence[Any], forecast: Any, today: int) -> Score:
    """Return the score of a customer with an order on each of these days."""
    first = orders[0].day
    repeats = len(orders) - 1
    repeat_cents = sum(order.cents for order in orders[1:])
    mean_spend = repeat_cents / 100 / max(repeats, 1)
    scores = scores_of(
        forecast,
        x=np.array([repeats]),
        t_last=np.array([orders[-1].day - first]),
        age=np.array([today - first]),
        mean_spend=np.array([mean_spend]),
    )
    score: Score = scores[0].tolist()
    return score


# endregion scorer


@dataclass(frozen=True)
class Pass:
    """What it took to read the scores of all customers."""

    name: str
    held: set[str]  # customers whose score was in the cache
    queries: int
    scores: dict[str, Score]


def read_all(shop: Shop, predict: Predict, name: str) -> Pass:
    """Read the score of every customer, as a page would."""
    held = set(shop.cache.held(shop.users))
    with shop.database.watching_queries() as sent:
        scores = {user: predict(user) for user in shop.users}
    return Pass(name, held, len(sent), scores)


def equal_rows(scores: dict[str, Score], model: Numbers) -> int:
    """Return how many customers have the score that the model gives them."""
    same = np.isclose(list(scores.values()), model, rtol=1e-9, atol=0)
    return int(same.all(axis=1).sum())


def scores(shop: Shop) -> None:
    """Scores: read again for whom a purchase came, and for nobody else"""
    forecast = shop.analytics.forecast(shop.stored(), shop.cut, shop.days)
    predict = scorer(shop, forecast)
    first = read_all(shop, predict, "first")
    again = read_all(shop, predict, "again")
    rows = np.flatnonzero(shop.log.day > shop.cut)
    shop.deliver("late orders", shop.letters(rows), shop.trouble.without_redis)
    late = read_all(shop, predict, "after late orders")
    shop.scores = late.scores
    show_passes(first, again, late)
    buyers = {shop.users[code] for code in shop.log.customer[rows].tolist()}
    fact("customers with late orders", len(buyers))
    everybody = len(shop.users)
    check(
        "the second pass asks SQL nothing",
        {"in the cache": len(again.held), "queries": again.queries},
        {"in the cache": everybody, "queries": 0},
    )
    check(
        "whom a purchase came for is read again, who is cached is not",
        {"buyers held": len(late.held & buyers), "queries": late.queries},
        {"buyers held": 0, "queries": everybody - len(late.held)},
    )
    compare_with_model(shop, again)


def show_passes(*passes: Pass) -> None:
    """Print what was in the cache before each pass, and what the pass asked SQL."""
    rows = [(one.name, len(one.held), one.queries) for one in passes]
    table(("pass", "in the cache", "queries"), *rows)


def compare_with_model(shop: Shop, before: Pass) -> None:
    """Claim that the cache now holds what the models say of the file itself.

    The scores of the pass before the late orders show what would be served if nothing
    had been deleted.
    """
    file = shop.analytics.features(shop.log, shop.end)
    model = scores_of(shop.truth, file.x, file.t_last, file.age, file.mean_spend)
    everybody = len(shop.users)
    equal = equal_rows(shop.cache.held(shop.users), model)
    kept = equal_rows(before.scores, model)
    said = f"{equal} of {everybody}; had nothing been deleted, {kept}"
    fact("equal the model's", said)
    check(
        "cached predictions = model output",
        {"now": equal, "had nothing been deleted": kept},
        {"now": everybody, "had nothing been deleted": less_than(everybody)},
    )
