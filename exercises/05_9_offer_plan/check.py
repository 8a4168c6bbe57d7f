"""Judges plan_offers by customers whose gains are exact, and by many draws."""

from __future__ import annotations

import math
import random
from collections import Counter
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from course.claims import between, is_a, more_than, near
from course.errors import BadInput
from course.practice.checking import Refused, Words, expect, expect_error

EIGHTH = 1 / 8  # chances are eighths, so that rounding decides no tie
DRAWS = 240
SIGMAS = 6  # standard deviations by which a fair count may be off


class Customer(NamedTuple):
    """A row of what is given."""

    number: int
    without: float
    with_offer: float
    margin: float


class Terms(NamedTuple):
    """As the answer's own, with what most cases have in common."""

    price_cut: float = 2.0
    cost: float = 1.0
    at_most: int = 100
    hold_one_in: int = 1000


class Made(NamedTuple):
    """A plan as plain numbers."""

    send: list[int]
    hold: list[int]
    expected: float


def check(answer: ModuleType, rng: random.Random) -> None:
    """Try who is chosen, then who is kept back, then odd customers."""
    try_gains(answer, rng)
    try_places(answer, rng)
    try_ties(answer, rng)
    try_unknown(answer, rng)
    try_number_held(answer, rng)
    try_shops(answer, rng)
    try_order_of_rows(answer, rng)
    try_draw(answer, rng)
    try_nobody(answer, rng)
    try_bad_input(answer, rng)


def gain_of(customer: Customer, terms: Terms) -> float:
    """Return the gain of an offer: what is earned with it, and without."""
    with_offer = customer.with_offer * (customer.margin - terms.price_cut)
    return with_offer - terms.cost - customer.without * customer.margin


def chosen_of(customers: list[Customer], terms: Terms) -> list[int]:
    """Return the numbers of those who are to be chosen, ascending."""
    gains = {each.number: gain_of(each, terms) for each in customers}
    worth = [number for number, gain in gains.items() if gain > 0]
    worth.sort(key=lambda number: (-gains[number], number))
    return sorted(worth[: terms.at_most])


def made_plan(
    answer: ModuleType, customers: list[Customer], terms: Terms, seed: int
) -> Any:
    """Return what comes out, with a generator in a state of its own."""
    given = answer.Customers(
        number=np.array([each.number for each in customers], np.int64),
        without=np.array([each.without for each in customers], np.float64),
        with_offer=np.array([each.with_offer for each in customers], np.float64),
        margin=np.array([each.margin for each in customers], np.float64),
    )
    own_terms = answer.Terms(*terms)
    return answer.plan_offers(given, own_terms, np.random.default_rng(seed))


def numbers_in(tried: str, name: str, column: Any) -> list[int]:
    """Return an array of customer numbers as a list; refuse anything else."""
    shape = Words(type(column).__name__)
    if isinstance(column, np.ndarray):
        shape = Words(f"array of {column.dtype}, shape {column.shape}")
        is_column = column.ndim == 1 and (column.dtype.kind in "iu" or not len(column))
        if is_column:
            return [int(number) for number in column]
    wanted = Words("an array of customer numbers")
    raise Refused(f"{tried}: `{name}`", shape, wanted, 1)


def plan_of(
    answer: ModuleType, tried: str, customers: list[Customer], terms: Terms, seed: int
) -> Made:
    """Return a plan as plain numbers; refuse a result that is none."""
    plan = made_plan(answer, customers, terms, seed)
    expect(f"{tried}: the result", type(plan).__name__, "Plan", 1)
    send = numbers_in(tried, "send", plan.send)
    hold = numbers_in(tried, "hold", plan.hold)
    expect(f"{tried}: `expected`", plan.expected, is_a(float, int, np.floating), 1)
    return Made(send, hold, round(float(plan.expected), 6))


def expect_nobody(tried: str, numbers: list[int], hint: int) -> None:
    """Refuse a list of customers that should be empty."""
    if numbers:
        raise Refused(tried, numbers, Words("nobody"), hint)


def try_customers(  # noqa: PLR0917 (the case, then what it is about)
    answer: ModuleType,
    rng: random.Random,
    tried: str,
    customers: list[Customer],
    terms: Terms,
    hint: int,
) -> Made:
    """Compare the chosen, how many are kept back, and the gain of the others."""
    plan = plan_of(answer, tried, customers, terms, rng.getrandbits(32))
    chosen = chosen_of(customers, terms)
    count = len(chosen) // terms.hold_one_in
    both = sorted(set(plan.send) & set(plan.hold))
    expect_nobody(f"{tried}: in `send` and in `hold`", both, 2)
    for name, numbers in (("send", plan.send), ("hold", plan.hold)):
        twice = sorted(number for number, n in Counter(numbers).items() if n > 1)
        expect_nobody(f"{tried}: more than once in `{name}`", twice, 2)
    made = plan.send + plan.hold
    wrong = sorted(set(made) - set(chosen))
    left_out = sorted(set(chosen) - set(made))
    expect_nobody(f"{tried}: wrongly chosen", wrong, hint)
    expect_nobody(f"{tried}: wrongly left out", left_out, hint)
    expect(f"{tried}: number of the chosen", len(made), len(chosen), hint)
    expect(
        f"{tried}: number kept back of {len(chosen)}",
        len(plan.hold),
        count,
        2,
    )
    expect(f"{tried}: `send`", plan.send, sorted(plan.send), 2)
    expect(f"{tried}: `hold`", plan.hold, sorted(plan.hold), 2)
    gains = [gain_of(each, terms) for each in customers if each.number in plan.send]
    expect(f"{tried}: `expected`", plan.expected, near(math.fsum(gains), 1e-6), hint)
    return plan


def try_gains(answer: ModuleType, rng: random.Random) -> None:
    """Try customers for whom a wrong gain chooses another one."""
    number = rng.randrange(100, 900)
    terms = Terms(price_cut=2.0, cost=1.0, at_most=1)
    pen = Customer(number, 0.0, 0.5, 6.0)
    piano = Customer(number + 5, 0.5, 0.625, 400.0)
    tried = f"one place, {number} who buys pens, {number + 5} who buys pianos"
    try_customers(answer, rng, tried, [pen, piano], terms, 1)
    terms = Terms(price_cut=4.0, cost=0.5, at_most=1)
    won = Customer(number, 0.0, 0.25, 20.0)  # an order costs one price cut
    loyal = Customer(number + 5, 0.625, 0.875, 20.0)  # 0.875 orders cost one each
    tried = f"one place, {number} who never buys without an offer, and a loyal customer"
    try_customers(answer, rng, tried, [loyal, won], terms, 1)
    terms = Terms(price_cut=8.0, cost=0.25, at_most=5)
    sure = Customer(number, 1.0, 1.0, 30.0)
    lost = Customer(number + 5, 0.0, 0.0, 30.0)
    asleep = Customer(number + 8, 0.75, 0.5, 30.0)
    tried = f"{number + 1} can be persuaded, {number} buys anyway, {number + 5} never"
    persuaded = Customer(number + 1, 0.0, 0.5, 30.0)
    customers = [sure, lost, asleep, persuaded]
    try_customers(answer, rng, tried, customers, terms, 1)
    terms = Terms(price_cut=1.0, cost=3.0, at_most=5)
    costly = Customer(number, 0.0, 0.125, 20.0)
    tried = f"{number}, whose one chance in eight brings less than sending costs"
    try_customers(answer, rng, tried, [costly, persuaded], terms, 1)


def try_places(answer: ModuleType, rng: random.Random) -> None:
    """Try more places than gains above 0, with gains of exactly 0 among them."""
    number = rng.randrange(100, 900)
    terms = Terms(price_cut=2.0, cost=1.0, at_most=5)
    customers = [
        Customer(number, 0.0, 0.5, 10.0),  # a gain of 3
        Customer(number + 1, 0.5, 0.75, 10.0),  # of 0
        Customer(number + 2, 0.0, 0.125, 10.0),  # of 0
        Customer(number + 3, 0.5, 0.5, 10.0),  # below 0
        Customer(number + 4, 0.0, 1.0, 10.0),  # of 7
    ]
    tried = "five places, gains of 3, 0, 0, -2 and 7"
    try_customers(answer, rng, tried, customers, terms, 1)
    few = terms._replace(at_most=1)
    try_customers(answer, rng, "one place, the same gains", customers, few, 1)


def try_ties(answer: ModuleType, rng: random.Random) -> None:
    """Try equal gains at the last place, of customers who are otherwise different."""
    terms = Terms(price_cut=2.0, cost=1.0, at_most=4)
    numbers = rng.sample(range(100, 900), 9)
    customers = [Customer(number, 0.0, 0.5, 10.0) for number in numbers[:4]]
    customers += [Customer(number, 0.25, 0.75, 11.0) for number in numbers[4:7]]
    customers += [Customer(number, 0.0, 1.0, 50.0) for number in numbers[7:]]
    tried = "four places, gains of 47, 47 and seven of 3"
    # Twice, as a sort that is not stable may be lucky once.
    for words in ("", ", in another order of rows"):
        rng.shuffle(customers)
        try_customers(answer, rng, tried + words, customers, terms, 1)


def drawn(rng: random.Random, count: int) -> list[Customer]:
    """Return customers of every kind, in any order."""
    numbers = rng.sample(range(1000, 100_000), count)
    return [
        Customer(
            number,
            rng.randrange(0, 9) * EIGHTH,
            rng.randrange(0, 9) * EIGHTH,
            float(rng.choice([4, 6, 20, 400])),
        )
        for number in numbers
    ]


def try_unknown(answer: ModuleType, rng: random.Random) -> None:
    """Try chances that are not known, of either kind."""
    number = rng.randrange(100, 900)
    terms = Terms(at_most=3)
    customers = [
        Customer(number, math.nan, 0.5, 90.0),
        Customer(number + 1, 0.25, math.nan, 90.0),
        Customer(number + 2, math.nan, math.nan, 90.0),
        Customer(number + 3, 0.0, 0.5, 10.0),
        Customer(number + 4, 0.0, 0.75, 10.0),
        Customer(number + 5, 0.0, 1.0, 10.0),
        Customer(number + 6, 0.0, 0.25, 40.0),
    ]
    for places in (3, 7):
        rng.shuffle(customers)
        tried = f"{places} places, 4 customers with gains, 3 with an unknown chance"
        more = terms._replace(at_most=places)
        try_customers(answer, rng, tried, customers, more, 2)


def with_gains(rng: random.Random, count: int) -> list[Customer]:
    """Return customers who all gain, from a little to very much."""
    numbers = rng.sample(range(1000, 100_000), count)
    margins = [float(8 * 2 ** (place % 9)) for place in range(count)]
    rng.shuffle(margins)
    return [
        Customer(number, 0.0, 0.5, margin)
        for number, margin in zip(numbers, margins, strict=True)
    ]


def try_number_held(answer: ModuleType, rng: random.Random) -> None:
    """Try numbers of the chosen that are no multiples, and places that stay free."""
    for gaining, places, one_in in (
        (80, 59, 10),
        (59, 59, 10),
        (60, 60, 10),
        (25, 90, 10),
        (9, 9, 10),
        (30, 21, 2),
    ):
        customers = with_gains(rng, gaining)
        terms = Terms(at_most=places, hold_one_in=one_in)
        tried = f"{gaining} gain, {places} places, one in {one_in} kept back"
        try_customers(answer, rng, tried, customers, terms, 2)


def try_shops(answer: ModuleType, rng: random.Random) -> None:
    """Try customers of all kinds, a few with an unknown chance."""
    for number in range(6):
        customers = drawn(rng, 90)
        for place in range(0, 90, 17):
            customers[place] = customers[place]._replace(without=math.nan)
        terms = Terms(
            price_cut=float(rng.randrange(1, 5)),
            cost=rng.randrange(1, 9) / 4,
            at_most=rng.randrange(5, 60),
            hold_one_in=rng.randrange(2, 12),
        )
        tried = f"shop {number + 1} of 6, 90 customers, {terms.at_most} places"
        try_customers(answer, rng, tried, customers, terms, 2)


def try_order_of_rows(answer: ModuleType, rng: random.Random) -> None:
    """Try the same customers in another order, with the generator in the same state."""
    customers = [*with_gains(rng, 40), *drawn(rng, 20)]
    terms = Terms(at_most=36, hold_one_in=6)
    seed = rng.getrandbits(32)
    tried = "36 places, one in 6 kept back, generators in the same state"
    first = plan_of(answer, tried, customers, terms, seed)
    again = plan_of(answer, tried, customers, terms, seed)
    expect_same(f"{tried}, the same rows twice", again, first)
    for _ in range(3):
        rng.shuffle(customers)
        shuffled = plan_of(answer, tried, customers, terms, seed)
        expect_same(f"{tried}, the rows shuffled", shuffled, first)


def expect_same(tried: str, plan: Made, first: Made) -> None:
    """Refuse another plan; whom it names is up to numpy's version."""
    for name, one, other in zip(Made._fields, plan, first, strict=True):
        if one != other:
            wanted = Words("the same as before")
            raise Refused(f"{tried}: `{name}`", Words("another one"), wanted, 3)


def try_draw(answer: ModuleType, rng: random.Random) -> None:
    """Count how often each of the chosen is kept back, by many generators."""
    customers = with_gains(rng, 17)
    terms = Terms(at_most=15, hold_one_in=4)  # whoever draws one of each four forgets 3
    chosen = chosen_of(customers, terms)
    gains = {each.number: gain_of(each, terms) for each in customers}
    tried = "15 chosen, one in 4 kept back"
    held: Counter[int] = Counter()
    groups = set()
    for _ in range(DRAWS):
        plan = plan_of(answer, tried, customers, terms, rng.getrandbits(32))
        held.update(plan.hold)
        groups.add(tuple(plan.hold))
    different = f"{tried}: different groups by {DRAWS} states of the generator"
    expect(different, len(groups), more_than(1), 3)
    share = 15 // terms.hold_one_in / 15
    spread = SIGMAS * math.sqrt(DRAWS * share * (1 - share))
    fair = between(round(DRAWS * share - spread), round(DRAWS * share + spread))
    for rank, number in enumerate(sorted(chosen, key=lambda one: -gains[one])):
        about = f"how often customer {number}, number {rank + 1} by gain, is kept back"
        words = f"{tried}, {DRAWS} states of the generator: {about}"
        expect(words, held[number], fair, 3)


def try_nobody(answer: ModuleType, rng: random.Random) -> None:
    """Try plans in which nobody is chosen."""
    number = rng.randrange(100, 900)
    loses = Customer(number, 0.5, 0.5, 10.0)
    unknown = Customer(number + 1, math.nan, 0.5, 10.0)
    gains = Customer(number + 2, 0.0, 1.0, 40.0)
    cases = {
        "nobody gains": ([loses], Terms()),
        "nobody's chances are known": ([unknown, unknown._replace(number=3)], Terms()),
        "no place": ([gains], Terms(at_most=0)),
    }
    for tried, (customers, terms) in cases.items():
        try:
            try_customers(answer, rng, tried, customers, terms, 2)
        except Refused:
            raise
        except Exception as error:
            raised = Words(f"{type(error).__name__}: {error}")
            raise Refused(tried, raised, Words("a plan for nobody"), 2) from error


def try_bad_input(answer: ModuleType, rng: random.Random) -> None:
    """Try chances that are none, also of customers who would not be chosen."""
    number = rng.randrange(100_000, 200_000)
    tenth = rng.randrange(1, 9) / 10
    cases = {
        "a chance with an offer above 1": Customer(number, 0.5, 1 + tenth, 10.0),
        "a chance with an offer below 0": Customer(number, 0.5, -tenth, 10.0),
        "a chance without an offer above 1": Customer(number, 1 + tenth, 0.5, 10.0),
        "a chance without an offer below 0": Customer(number, -tenth, 0.5, 10.0),
        "a chance below 0 beside an unknown one": Customer(
            number, -tenth, math.nan, 10.0
        ),
        "a chance above 1 beside an unknown one": Customer(
            number, math.nan, 1 + tenth, 10.0
        ),
    }
    for tried, customer in cases.items():
        customers = [*with_gains(rng, 5), customer]
        rng.shuffle(customers)

        expect_error(tried, BadInput, partial(kind_of_plan, answer, customers), 1)


def kind_of_plan(answer: ModuleType, customers: list[Customer]) -> Words:
    """Return what a plan is called: its numbers would be too many."""
    return Words(type(made_plan(answer, customers, Terms(), 1)).__name__)
