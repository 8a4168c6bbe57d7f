"""The models: lesson 05's log, features, forecasts and sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from course.errors import BadInput

Numbers = NDArray[Any]


@dataclass(frozen=True)
class Purchase:
    """An order of the file."""

    row: int  # of the file, from 0
    user: str
    day: int  # its ordinal
    cents: int
    first: bool = False  # of this customer


@dataclass(frozen=True)
class History:
    """What the models know of customers: arrays of one length, days as in lesson 05."""

    repeats: Numbers  # orders after the first
    t_last: Numbers  # days from the first order to the last
    age: Numbers  # days from the first order to now
    mean_spend: Numbers  # of a repeat order


class Analytics:
    """What lesson 05 says of a log of purchases."""

    def __init__(self, lesson: Any) -> None:
        self.lesson = lesson

    def sample(self) -> Any:
        """Return the purchases of all customers of the sample."""
        return self.lesson.read_log(self.lesson.SAMPLE)

    def halves(self, log: Any) -> tuple[int, int]:
        """Return the day that halves a log, and how many days come after it."""
        cut, days = self.lesson.halves(log)
        return cut, days

    def log_of(self, purchases: Sequence[Purchase]) -> Any:
        """Return purchases as lesson 05 keeps them: columns of one length."""
        # Sorted: the same customers have the same codes, in whatever order they come.
        users = sorted({purchase.user for purchase in purchases})
        code_of = {user: code for code, user in enumerate(users)}
        codes = [code_of[purchase.user] for purchase in purchases]
        days = [purchase.day for purchase in purchases]
        cents = [purchase.cents for purchase in purchases]
        return self.lesson.TransactionLog(
            customer=np.array(codes),
            day=np.array(days),
            amount=np.array(cents) / 100,
            ids=users,
        )

    def features(self, log: Any, as_of: int) -> Any:
        """Return what was known of each customer at the end of a day."""
        return self.lesson.customer_table(log, as_of)

    def history(self, log: Any, as_of: int) -> History:
        """Return the features that the models ask for."""
        table = self.features(log, as_of)
        return History(table.x, table.t_last, table.age, table.mean_spend)

    def forecast(self, log: Any, as_of: int, days: int) -> Any:
        """Return the models, fitted to what was known at the end of a day."""
        # Without the stack and the choice: the scores here are BG/NBD's own.
        return self.lesson.Forecast(log, as_of, days, learn=False)

    def offers(self, log: Any, as_of: int) -> dict[str, str]:
        """Return the first recommendation for each customer."""
        engine = self.lesson.AnalyticsEngine(log, as_of)
        recommender = self.lesson.RecommendationEngine(engine)
        offer_of = {}
        for user in log.ids:
            first, *_ = recommender.get_recommendations(user)
            offer_of[user] = first.strategy
        return offer_of

    def insights(self, forecast: Any) -> list[str]:
        """Return what a report says of the segments."""
        generator = self.lesson.InsightsGenerator(forecast)
        report = generator.generate_segment_report()
        return list(generator._generate_insights(report))


def first_customers(log: Any, count: int) -> Any:
    """Return the purchases of the first customers of a log."""
    known = len(log.ids)
    if count > known:
        raise BadInput(f"--customers {count}: the log has {known:,}")
    # Codes are given in the order of the file: the first customers have the lowest.
    theirs = log.where(log.customer < count)
    return replace(theirs, ids=log.ids[:count])


def purchases_of(log: Any) -> list[Purchase]:
    """Return the rows of a log, in its order."""
    purchases = []
    known = set()
    codes = log.customer.tolist()
    days = log.day.tolist()
    # Whole cents from here on: SQL and Python then add up to the same sum.
    cents = np.rint(100 * log.amount).astype(int).tolist()
    for row, code in enumerate(codes):
        purchase = Purchase(
            row=row,
            user=str(log.ids[code]),
            day=days[row],
            cents=cents[row],
            first=code not in known,
        )
        known.add(code)
        purchases.append(purchase)
    return purchases


def unlike(one: Any, other: Any) -> list[str]:
    """Return the names of the features that differ between two tables."""
    names = []
    theirs = vars(other)
    for name, column in vars(one).items():
        if not np.array_equal(column, theirs[name]):
            names.append(name)
    return names


def scores_of(forecast: Any, history: History) -> Numbers:
    """Return the chance of no order in the days that come, and the spend: (n, 2)."""
    fit = forecast.bgnbd
    x = history.repeats
    # The models count in weeks.
    weeks = forecast.days / 7
    age = history.age / 7
    t_last = history.t_last / 7
    alive = fit.p_alive(x, t_last, age)
    # What someone does who is alive: buy nothing, or so many orders at such a price.
    none_if_alive = fit.p_none(x, age, weeks)
    orders_if_alive = fit.expected(x, age, weeks)
    order_mean = forecast.money.mean(x, history.mean_spend)
    gone = 1 - alive * (1 - none_if_alive)
    spend = alive * orders_if_alive * order_mean
    return np.column_stack((gone, spend))
