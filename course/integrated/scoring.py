"""Scores of customers: made from SQL, cached in Redis, and never out of date."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from course.claims import less_than
from course.console import check, fact, table
from course.integrated.analytics import History, Numbers, scores_of
from course.integrated.cache import Predict, Score
from course.integrated.shop import Shop
from course.integrated.spans import span_since

ORDERS = """SELECT day, sum(cents) AS cents FROM purchases WHERE customer = :user
            GROUP BY day ORDER BY day"""
Scores = dict[str, Score]  # by customer


def scorer(shop: Shop, forecast: Any) -> Predict:
    """Return a function that scores a customer by what SQL knows, through the cache."""

    def predict(user: str) -> Score:
        started = time.time()
        orders = shop.database.rows(ORDERS, user=user)
        shop.spans.append(span_since("features from SQL", started))
        history = history_of(orders, shop.end)
        # One customer in, one row out.
        (score,) = scores_of(forecast, history).tolist()
        return list(score)

    # Lesson 03's decorator: SQL is asked only where the cache has no score.
    cached: Predict = shop.cache.cached(predict)
    return cached


def history_of(orders: Sequence[Any], today: int) -> History:
    """Return what the models ask of one customer, from the sums of each day's orders.

    As in lesson 05, the first order shows when a customer came, not how often or for
    how much one comes back.
    """
    first, *repeat_orders = orders
    last = orders[-1]
    repeats = len(repeat_orders)
    cents = sum(order.cents for order in repeat_orders)
    mean_spend = cents / 100 / max(repeats, 1)
    return History(
        repeats=np.array([repeats]),
        t_last=np.array([last.day - first.day]),
        age=np.array([today - first.day]),
        mean_spend=np.array([mean_spend]),
    )


@dataclass(frozen=True)
class Pass:
    """What it took to read the scores of all customers."""

    name: str
    held: set[str]  # customers whose score was in the cache
    queries: int
    scores: Scores


def read_all(shop: Shop, predict: Predict, name: str) -> Pass:
    """Read the score of every customer, as a page would."""
    # Before the first read: afterwards all scores are in the cache.
    held = set(shop.cache.held(shop.users))
    with shop.database.watching_queries() as sent:
        read = {user: predict(user) for user in shop.users}
    return Pass(name, held, len(sent), read)


def equal_rows(read: Scores, model: Numbers) -> int:
    """Return how many customers have the score that the model gives them."""
    ours = np.array(list(read.values()))
    if len(ours) != len(model):
        return 0  # somebody is missing: rows and customers would not match
    # Sums of cents by SQL and of amounts by numpy differ in the last digits.
    same = np.isclose(ours, model, rtol=1e-9, atol=0)
    same_row = same.all(axis=1)
    return int(same_row.sum())


def scores(shop: Shop) -> None:
    """Scores: read again for whom a purchase came, and for nobody else"""
    known = shop.stored()
    forecast = shop.analytics.forecast(known, shop.cut, shop.days)
    predict = scorer(shop, forecast)
    first = read_all(shop, predict, "first")
    again = read_all(shop, predict, "again")
    # Purchases after the cut arrive: with each, the customer's score is out of date.
    late_orders = shop.purchases_after_cut()
    letters = shop.writer.in_date_order(late_orders)
    shop.deliver("late orders", letters, shop.trouble.without_redis)
    last = read_all(shop, predict, "after late orders")
    shop.scores = last.scores
    buyers = {order.user for order in late_orders}
    show_passes(first, again, last)
    fact("customers with late orders", len(buyers))
    check_passes(len(shop.users), buyers, again, last)
    compare_with_model(shop, again)


def show_passes(*passes: Pass) -> None:
    """Print what was in the cache before each pass, and what the pass asked SQL."""
    rows = []
    for one in passes:
        rows.append((one.name, len(one.held), one.queries))
    table(("pass", "in the cache", "queries"), *rows)


def check_passes(everybody: int, buyers: set[str], again: Pass, last: Pass) -> None:
    """Claim that SQL is asked for whom a score was deleted, and for nobody else."""
    check(
        "the second pass asks SQL nothing",
        observed={"in the cache": len(again.held), "queries": again.queries},
        expected={"in the cache": everybody, "queries": 0},
    )
    late_but_cached = last.held & buyers
    not_cached = everybody - len(last.held)
    check(
        "whom a purchase came for is read again, who is cached is not",
        observed={
            "late buyers in the cache": len(late_but_cached),
            "queries": last.queries,
        },
        expected={
            "late buyers in the cache": 0,
            "queries": not_cached,
        },
    )


def compare_with_model(shop: Shop, before: Pass) -> None:
    """Claim that the cache now holds what the models say of the file itself.

    The scores of the pass before the late orders show what would be served if nothing
    had been deleted.
    """
    # From the log of the file, which has been through none of the stores.
    history = shop.analytics.history(shop.log, shop.end)
    model = scores_of(shop.truth, history)
    everybody = len(shop.users)
    equal = equal_rows(shop.cache.held(shop.users), model)
    kept = equal_rows(before.scores, model)
    shown = f"{equal} of {everybody}; had nothing been deleted, {kept}"
    fact("equal the model's", shown)
    check(
        "cached predictions = model output",
        observed={"now": equal, "had nothing been deleted": kept},
        expected={
            "now": everybody,
            "had nothing been deleted": less_than(everybody),
        },
    )
