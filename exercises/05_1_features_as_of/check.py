"""Judges features_as_of by histories made by hand, and by living through the days."""

from __future__ import annotations

import math
import random
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from course.claims import Condition, near
from course.practice.checking import Refused, Words, expect

NAN = Condition("nan", math.isnan)
FIRST_MORNING = 729_000  # an ordinal day of 1996


class Row(NamedTuple):
    """An order in the log; `cancelled` is None where nobody called it off."""

    customer: int
    day: int
    recorded: int
    cancelled: int | None
    amount: float


class Question(NamedTuple):
    """Whom a question is about, and when."""

    customer: int
    morning: int


class Placed(NamedTuple):
    """An order by days before the morning: 0 is its own day, -1 the day after it."""

    day: int
    recorded: int
    amount: float
    cancelled: int | None = None


class Case(NamedTuple):
    """The orders of one customer, and what is known of them in the morning."""

    hint: int
    orders: list[Placed]
    order_days: int
    spend: float
    since: int | None  # None if nothing is known


def check(answer: ModuleType, rng: random.Random) -> None:
    """Try one customer at a time, then all at once, then a whole shop."""
    window = rng.randrange(5, 11)
    cases = plain_cases(rng, window) | window_cases(rng, window)
    try_each(answer, rng, cases, window)
    try_each(answer, rng, cases_of_one_day(rng), 1)
    try_mornings(answer, rng, window)
    try_unknown(answer, rng, window)
    try_empty_log(answer, rng, window)
    try_together(answer, rng, cases, window)
    try_shop(answer, rng)


def money(rng: random.Random) -> float:
    """Return an amount whose sums are exact."""
    return rng.randrange(4, 400) / 4


def plain_cases(rng: random.Random, window: int) -> dict[str, Case]:
    """Return what was known, what was called off, and what was one day."""
    a = money(rng)
    b = money(rng)
    old = Placed(4, 4, a)
    sought = f"a window of {window} days; "
    late = "orders placed 4 and 2 days before, the later one recorded"
    return {
        f"{sought}orders 2, 4 and {window + 5} days before the morning": Case(
            1, [Placed(2, 2, b), old, Placed(window + 5, window + 5, 8.0)], 3, a + b, 2
        ),
        "an order on the day before the morning": Case(1, [Placed(1, 1, a)], 1, a, 1),
        "an order 4 days before, and one on the morning's own day": Case(
            1, [old, Placed(0, 0, b)], 1, a, 4
        ),
        "an order 4 days before, and one 3 days after the morning": Case(
            1, [old, Placed(-3, -3, b)], 1, a, 4
        ),
        f"{late} 3 days after the morning": Case(1, [old, Placed(2, -3, b)], 1, a, 4),
        f"{late} on the morning's own day": Case(1, [old, Placed(2, 0, b)], 1, a, 4),
        f"{late} on the day before the morning": Case(
            1, [old, Placed(2, 1, b)], 2, a + b, 2
        ),
        **cancelled_cases(a, b),
        "two orders on one day": Case(
            3, [Placed(3, 3, a), Placed(3, 2, b)], 1, a + b, 3
        ),
        "an order without a price 2 days before, one with a price 4 days before": Case(
            3, [old, Placed(2, 2, 0.0)], 2, a, 2
        ),
    }


def cancelled_cases(a: float, b: float) -> dict[str, Case]:
    """Return orders called off before the morning, on it, and after it."""
    old = Placed(4, 4, a)
    tried = "orders 4 and 2 days before; the later one is called off"
    return {
        f"{tried} the day before the morning": Case(
            2, [old, Placed(2, 2, b, 1)], 1, a, 4
        ),
        f"{tried} on the morning's own day": Case(
            2, [old, Placed(2, 2, b, 0)], 2, a + b, 2
        ),
        f"{tried} 30 days after the morning": Case(
            2, [old, Placed(2, 2, b, -30)], 2, a + b, 2
        ),
        f"{tried} on the day of the order": Case(2, [old, Placed(2, 2, b, 2)], 1, a, 4),
        "two orders on one day, one of them called off before the morning": Case(
            2, [Placed(3, 3, a), Placed(3, 3, b, 1)], 1, a, 3
        ),
        "one order, called off the day before the morning": Case(
            2, [Placed(3, 3, a, 1)], 0, 0.0, None
        ),
        "one order, recorded and called off after the morning": Case(
            2, [Placed(3, -1, a, -2)], 0, 0.0, None
        ),
    }


def window_cases(rng: random.Random, window: int) -> dict[str, Case]:
    """Return the edges of a window, and what is measured by the day of the order."""
    a = money(rng)
    b = money(rng)
    sought = f"a window of {window} days; "
    before = window + 1
    return {
        f"{sought}an order {window} days before the morning": Case(
            3, [Placed(window, window, a)], 1, a, window
        ),
        f"{sought}an order {before} days before the morning": Case(
            3, [Placed(before, before, a)], 1, 0.0, before
        ),
        f"{sought}an order placed {before} days before, recorded a day before": Case(
            3, [Placed(before, 1, a)], 1, 0.0, before
        ),
        "orders placed 4 and 2 days before, the earlier one recorded late": Case(
            3, [Placed(2, 2, a), Placed(4, 1, b)], 2, a + b, 2
        ),
    }


def cases_of_one_day(rng: random.Random) -> dict[str, Case]:
    """Return the shortest window."""
    tried = "a window of 1 day; orders 1 and 2 days before the morning"
    a = money(rng)
    return {tried: Case(3, [Placed(1, 1, a), Placed(2, 2, 5.0)], 2, a, 1)}


def rows_of(case: Case, question: Question) -> list[Row]:
    """Return a case's orders as they stand in the log."""
    customer, morning = question
    rows = []
    for day, recorded, amount, cancelled in case.orders:
        off = None if cancelled is None else morning - cancelled
        row = Row(customer, morning - day, morning - recorded, off, amount)
        rows.append(row)
    return rows


def facts(order_days: int, spend: float, since: int | None) -> dict[str, Any]:
    """Return what has to come out for a question."""
    return {
        "order_days": order_days,
        "window_spend": near(spend, 1e-6),
        "days_since_last": NAN if since is None else since,
    }


def facts_of(case: Case) -> dict[str, Any]:
    """Return what has to come out for a case."""
    return facts(case.order_days, case.spend, case.since)


def columns_of(answer: ModuleType, log: list[Row]) -> Any:
    """Return the log as the answer takes it."""
    called_off = [answer.NEVER if row[3] is None else row[3] for row in log]
    return answer.Orders(
        customer=np.array([row.customer for row in log], np.int64),
        day=np.array([row.day for row in log], np.int64),
        recorded=np.array([row.recorded for row in log], np.int64),
        cancelled=np.array(called_off, np.int64),
        amount=np.array([row.amount for row in log], np.float64),
    )


def result_of(
    answer: ModuleType,
    tried: str,
    log: list[Row],
    questions: list[Question],
    window: int,
) -> list[dict[str, Any]]:
    """Return the facts of each question; refuse a result that has no such facts."""
    orders = columns_of(answer, log)
    customer = np.array([each.customer for each in questions], np.int64)
    morning = np.array([each.morning for each in questions], np.int64)
    given = {**orders._asdict(), "customers asked": customer, "mornings": morning}
    before = {name: column.copy() for name, column in given.items()}
    found = answer.features_as_of(orders, customer, morning, window)
    for name, column in given.items():
        if not np.array_equal(column, before[name]):
            where = f"{tried}: the given column {name}, after the call"
            raise Refused(where, Words("changed"), Words("as it was"), 3)
    return by_question(tried, found, len(questions))


def by_question(tried: str, found: Any, count: int) -> list[dict[str, Any]]:
    """Return three columns as a dict for each question."""
    columns = {}
    for name in ("order_days", "window_spend", "days_since_last"):
        column: Any = getattr(found, name, None)
        shape = Words(type(column).__name__)
        if isinstance(column, np.ndarray):
            shape = Words(f"array of {column.dtype}, shape {column.shape}")
        fits = isinstance(column, np.ndarray) and column.shape == (count,)
        if not fits or column.dtype.kind not in "iuf":
            wanted = Words(f"an array of shape ({count},), a number for each question")
            raise Refused(f"{tried}: {name}", shape, wanted, 3)
        columns[name] = [round(value, 6) for value in column.tolist()]
    return [
        dict(zip(columns, values, strict=True))
        for values in zip(*columns.values(), strict=True)
    ]


def try_each(
    answer: ModuleType, rng: random.Random, cases: dict[str, Case], window: int
) -> None:
    """Ask about one customer at a time."""
    for tried, case in cases.items():
        question = Question(rng.randrange(1, 1000), FIRST_MORNING + rng.randrange(99))
        log = rows_of(case, question)
        rng.shuffle(log)
        found = result_of(answer, tried, log, [question], window)
        expect(tried, found[0], facts_of(case), case.hint)


def guarded(
    answer: ModuleType,
    tried: str,
    log: list[Row],
    questions: list[Question],
    window: int,
) -> list[dict[str, Any]]:
    """Return the same; an exception is refused by what was tried."""
    try:
        return result_of(answer, tried, log, questions, window)
    except Refused:
        raise
    except Exception as error:
        raised = Words(f"{type(error).__name__}: {error}")
        wanted = Words("a row for each question")
        raise Refused(tried, raised, wanted, 3) from error


def try_mornings(answer: ModuleType, rng: random.Random, window: int) -> None:
    """Ask about one customer at several mornings, twice at one of them."""
    amount = money(rng)
    day = FIRST_MORNING
    log = [Row(5, day, day, None, amount), Row(5, day + 3, day + 3, None, 2.0)]
    known = {
        day: facts(0, 0.0, None),
        day + 1: facts(1, amount, 1),
        day + 4: facts(2, amount + 2, 1),
        day + 5: facts(2, amount + 2, 2),
    }
    mornings = [*known, day + 1]
    rng.shuffle(mornings)
    tried = "one customer asked about at four mornings, twice at one of them"
    questions = [Question(5, morning) for morning in mornings]
    found = result_of(answer, tried, log, questions, window)
    for morning, row in zip(mornings, found, strict=True):
        about = f"{tried}; on day {morning - day} after the first order"
        expect(about, row, known[morning], 3)


def try_unknown(answer: ModuleType, rng: random.Random, window: int) -> None:
    """Ask about customers who are nowhere in the log, beside one who is."""
    amount = money(rng)
    morning = FIRST_MORNING
    log = [Row(50, morning - 2, morning - 2, None, amount)]
    customers = [50, 7, 51, 90]
    rng.shuffle(customers)
    questions = [Question(each, morning) for each in customers]
    tried = "four questions, three about customers who are nowhere in the log"
    found = guarded(answer, tried, log, questions, window)
    for customer, row in zip(customers, found, strict=True):
        expected = facts(1, amount, 2) if customer == 50 else facts(0, 0.0, None)
        expect(f"{tried}: customer {customer}, order by 50", row, expected, 3)


def try_empty_log(answer: ModuleType, rng: random.Random, window: int) -> None:
    """Ask when there is no order at all."""
    tried = "two questions, and no order at all"
    questions = [Question(rng.randrange(9), FIRST_MORNING) for _ in range(2)]
    for row in guarded(answer, tried, [], questions, window):
        expect(tried, row, facts(0, 0.0, None), 3)


def try_together(
    answer: ModuleType, rng: random.Random, cases: dict[str, Case], window: int
) -> None:
    """Ask about all at once: each case is a customer with a morning of its own."""
    asked: dict[Question, str] = {}
    log = []
    numbers = rng.sample(range(1, 1000), len(cases))
    for number, (words, case) in zip(numbers, cases.items(), strict=True):
        question = Question(number, FIRST_MORNING + rng.randrange(60))
        asked[question] = words
        log += rows_of(case, question)
    log.sort(key=lambda row: (row.customer, row.day))
    for order in ("sorted by customer and day", "shuffled"):
        questions = list(asked)
        rng.shuffle(questions)
        tried = f"{len(cases)} customers at once, their orders {order}"
        found = guarded(answer, tried, log, questions, window)
        for question, row in zip(questions, found, strict=True):
            words = asked[question]
            expect(f"{tried}; one has {words}", row, facts_of(cases[words]), 3)
        rng.shuffle(log)


def try_shop(answer: ModuleType, rng: random.Random) -> None:
    """Ask about a shop's customers, several times each, once twice the same."""
    window = rng.randrange(7, 31)
    log = [random_row(rng) for _ in range(400)]
    questions = [random_question(rng) for _ in range(120)]
    questions.append(questions[0])
    rng.shuffle(questions)
    tried = f"{len(log)} orders of 40 customers, {len(questions)} questions, some twice"
    found = result_of(answer, tried, log, questions, window)
    known = live_through(log, questions, window)
    for question, row, expected in zip(questions, found, known, strict=True):
        about = f"customer {question.customer} on the morning of {question.morning}"
        expect(f"{tried}: {about}", row, expected, 3)


def random_row(rng: random.Random) -> Row:
    """Return an order that may come late, and may be called off."""
    day = FIRST_MORNING + rng.randrange(90)
    recorded = day + rng.choice([0, 0, 0, 1, 2, 5, 12])
    off = recorded + rng.randrange(25) if rng.random() < 0.25 else None
    return Row(rng.randrange(1, 41), day, recorded, off, money(rng))


def random_question(rng: random.Random) -> Question:
    """Return a question, now and then about someone who never ordered."""
    morning = FIRST_MORNING + rng.randrange(-3, 120)
    return Question(rng.randrange(0, 44), morning)


def live_through(
    log: list[Row], questions: list[Question], window: int
) -> list[dict[str, Any]]:
    """Return the facts of each question, from a book that is kept day by day."""
    found: dict[int, dict[str, Any]] = {}
    book: dict[int, Row] = {}
    for today in range(FIRST_MORNING - 3, FIRST_MORNING + 140):
        for place, question in enumerate(questions):
            if question.morning == today:
                found[place] = facts_in(book, question, window)
        for place, row in enumerate(log):
            if row.recorded == today:
                book[place] = row
            if row.cancelled == today:
                del book[place]
    return [found[place] for place in range(len(questions))]


def facts_in(book: dict[int, Row], question: Question, window: int) -> dict[str, Any]:
    """Return what the book says of a customer."""
    mine = [row for row in book.values() if row.customer == question.customer]
    if not mine:
        return facts(0, 0.0, None)
    days = {row.day for row in mine}
    ago = [question.morning - row.day for row in mine]
    recent = [
        row.amount
        for row, days_ago in zip(mine, ago, strict=True)
        if days_ago <= window
    ]
    return facts(len(days), math.fsum(recent), min(ago))
