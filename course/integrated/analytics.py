"""The models: lesson 05's log, features, forecasts and sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from course.errors import BadInput

Numbers = NDArray[Any]


class Analytics:
    """What lesson 05 says of a log of purchases."""

    def __init__(self, lesson: Any) -> None:
        self.lesson = lesson

    def sample(self) -> Any:
        """Return the purchases of all customers of the sample."""
        return self.lesson.read_log(self.lesson.SAMPLE)

    def log_of(
        self, customer: Numbers, day: Numbers, amount: Numbers, ids: Sequence[str]
    ) -> Any:
        """Return purchases as lesson 05 keeps them: columns of one length."""
        return self.lesson.TransactionLog(
            customer=customer, day=day, amount=amount, ids=ids
        )

    def halves(self, log: Any) -> tuple[int, int]:
        """Return the day that halves a log, and how many days come after it."""
        cut, days = self.lesson.halves(log)
        return cut, days

    def features(self, log: Any, as_of: int) -> Any:
        """Return what was known of each customer at the end of a day."""
        return self.lesson.customer_table(log, as_of)

    def forecast(self, log: Any, as_of: int, days: int) -> Any:
        """Return the models, fitted to what was known at the end of a day."""
        return self.lesson.Forecast(log, as_of, days, learn=False)

    def offers(self, log: Any, as_of: int, users: Sequence[str]) -> list[str]:
        """Return the first recommendation for each customer."""
        engine = self.lesson.AnalyticsEngine(log, as_of)
        recommend = self.lesson.RecommendationEngine(engine).get_recommendations
        return [recommend(user)[0].strategy for user in users]

    def insights(self, forecast: Any) -> list[str]:
        """Return what a report says of the segments."""
        report = self.lesson.InsightsGenerator(forecast)
        sentences = report._generate_insights(report.generate_segment_report())
        return list(sentences)


def first_customers(log: Any, count: int) -> Any:
    """Return the purchases of the first customers of a log."""
    known = len(log.ids)
    if count > known:
        raise BadInput(f"--customers {count}: the log has {known:,}")
    return replace(log.where(log.customer < count), ids=log.ids[:count])


def first_orders(log: Any) -> set[int]:
    """Return the rows with the first order of each customer."""
    _, rows = np.unique(log.customer, return_index=True)
    return set(rows.tolist())


def unlike(one: Any, other: Any) -> list[str]:
    """Return the names of the features that differ between two tables."""
    theirs = vars(other)
    names = []
    for name, column in vars(one).items():
        if not np.array_equal(column, theirs[name]):
            names.append(name)
    return names


def scores_of(
    forecast: Any, x: Numbers, t_last: Numbers, age: Numbers, mean_spend: Numbers
) -> Numbers:
    """Return the chance of no order in the days that come, and the spend: (n, 2).

    `x` counts repeat orders; `t_last` and `age` are in days, as in lesson 05.
    """
    weeks = forecast.days / 7
    age_in_weeks = age / 7
    alive = forecast.bgnbd.p_alive(x, t_last / 7, age_in_weeks)
    orders = forecast.bgnbd.expected(x, age_in_weeks, weeks)
    none_if_alive = forecast.bgnbd.p_none(x, age_in_weeks, weeks)
    spend = alive * orders * forecast.money.mean(x, mean_spend)
    gone = 1 - alive * (1 - none_if_alive)
    return np.column_stack((gone, spend))
