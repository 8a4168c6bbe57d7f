"""Judges cards: small shops with one difficulty each, then the cost of a large one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from course.claims import Condition, at_most
from course.practice.checking import expect
from course.practice.databases import (
    Traffic,
    expect_no_error,
    memory_engine,
    plain_data,
)

Line = tuple[int | None, int]  # price, quantity
Values = dict[str, Any]


def is_card(card: Any) -> bool:
    """Tell whether a result has the form of a CustomerCard."""
    if not isinstance(card, tuple) or len(card) != 4:
        return False
    _, _, labels, orders = card
    if not isinstance(labels, list) or not isinstance(orders, list):
        return False
    are_orders = all(isinstance(one, tuple) and len(one) == 3 for one in orders)
    return are_orders and all(isinstance(label, str) for label in labels)


def are_cards(found: Any) -> bool:
    """Tell whether a result is a list of CustomerCards."""
    return isinstance(found, list) and all(is_card(card) for card in found)


CARDS = Condition(
    "a list of (id, name, [text, ...], [(id, placed_at, cents), ...])", are_cards
)


def facts(card: Any) -> Values:
    """Return a card by name, so that a sentence shows only what differs."""
    _, name, labels, orders = card
    return {
        "name": name,
        "labels": labels,
        "orders": [order[0] for order in orders],
        "placed at": [order[1] for order in orders],
        "cents": [order[2] for order in orders],
    }


class Shop:
    """Customers and what they ordered, as rows, and the answer that shows them."""

    def __init__(self, answer: ModuleType, rng: random.Random) -> None:
        self.answer = answer
        self.rng = rng
        self.engine = memory_engine()
        self.traffic = Traffic(self.engine)
        answer.Base.metadata.create_all(self.engine)
        # Drawn, so that no id tells what came first.
        self.free = rng.sample(range(1, 100_000), 20_000)
        self.customers: dict[int, str] = {}
        self.labels: list[tuple[int, str]] = []
        self.orders: dict[int, tuple[int, int]] = {}  # by id: customer, placed_at
        self.orders_of: dict[int, list[int]] = {}  # by customer
        self.lines_of: dict[int, list[Line]] = {}  # by order
        self.rows: dict[str, list[Values]] = {}

    def new(self, kind: str, **values: Any) -> int:
        """Note a row of a class of the answer's; return its id."""
        key = self.free.pop()
        self.rows.setdefault(kind, []).append({"id": key} | values)
        return key

    def customer(self, *labels: str) -> int:
        """Add a customer with labels; return the id."""
        name = self.rng.choice(["Ada", "Bob", "Cleo", "Dan", "Eve"])
        key = self.new("Customer", name=name)
        self.customers[key] = name
        self.orders_of[key] = []
        for label in labels:
            self.label(key, label)
        return key

    def label(self, customer: int, text: str) -> None:
        """Add a label."""
        self.new("Label", customer_id=customer, text=text)
        self.labels.append((customer, text))

    def order(self, customer: int, placed_at: int, *lines: Line) -> int:
        """Add an order with lines; return its id."""
        key = self.new("Order", customer_id=customer, placed_at=placed_at)
        self.orders[key] = (customer, placed_at)
        self.orders_of[customer].append(key)
        self.lines_of[key] = []
        for price, quantity in lines:
            self.line(key, price, quantity)
        return key

    def line(self, order: int, price: int | None, quantity: int) -> None:
        """Add a line to an order."""
        self.new("Line", order_id=order, price_cents=price, quantity=quantity)
        self.lines_of[order].append((price, quantity))

    def any_line(self) -> tuple[int, int]:
        """Return a line as it is usual."""
        return self.rng.randrange(100, 5_000), self.rng.randrange(1, 9)

    def store(self) -> None:
        """Commit what was added."""
        with self.engine.begin() as connection:
            for kind, values in self.rows.items():
                table = getattr(self.answer, kind).__table__
                connection.execute(sa.insert(table), values)
        self.rows.clear()

    def add_to(self, session: Session) -> None:
        """Add what is new to a session, as objects."""
        for kind, values in self.rows.items():
            made = getattr(self.answer, kind)
            session.add_all([made(**each) for each in values])
        self.rows.clear()

    def shown(self, customer: int, latest: int) -> list[int]:
        """Return which orders belong on a card."""
        by_instant = sorted(
            (self.orders[key][1], key) for key in self.orders_of[customer]
        )
        newest_first = [key for _, key in reversed(by_instant)]
        return newest_first[:latest]

    def cost(self, order: int) -> int:
        """Return what an order costs."""
        return sum((price or 0) * quantity for price, quantity in self.lines_of[order])

    def card(self, customer: int, latest: int) -> Values:
        """Return what a card should say."""
        shown = self.shown(customer, latest)
        return {
            "name": self.customers[customer],
            "labels": sorted(text for key, text in self.labels if key == customer),
            "orders": shown,
            "placed at": [self.orders[key][1] for key in shown],
            "cents": [self.cost(key) for key in shown],
        }

    def bound(self, customers: Sequence[int], latest: int) -> int:
        """Return how many rows the cards of some customers need at most."""
        rows = len(customers)
        rows += sum(key in customers for key, _ in self.labels)
        for customer in customers:
            shown = self.shown(customer, latest)
            rows += len(shown) + sum(len(self.lines_of[order]) for order in shown)
        return rows

    def ask(
        self, tried: str, session: Session, ids: Sequence[int], latest: int, hint: int
    ) -> list[Any]:
        """Return what the answer shows, in its form, read after the session closed."""
        self.traffic.forget()
        found = expect_no_error(
            tried, lambda: self.answer.cards(session, ids, latest), hint
        )
        cards: list[Any] = plain_data(found)
        expect(tried, cards, CARDS, 1)
        return cards

    def compare(self, tried: str, cards: list[Any], latest: int, hint: int) -> None:
        """Compare cards with what they should say."""
        for card in cards:
            about = f"{tried}: the card of customer {card[0]}"
            expect(about, facts(card), self.card(card[0], latest), hint)

    def expect_cards(
        self, tried: str, ids: Sequence[int], latest: int, hint: int
    ) -> None:
        """Store what was added, and compare all cards."""
        self.store()
        known = [key for key in dict.fromkeys(ids) if key in self.customers]
        with Session(self.engine) as session:
            cards = self.ask(tried, session, ids, latest, hint)
        expect(f"{tried}: the customers", [card[0] for card in cards], known, hint)
        self.compare(tried, cards, latest, hint)


def check_plain(answer: ModuleType, rng: random.Random) -> None:
    """Show two customers with few orders, then more orders than a card takes."""
    shop = Shop(answer, rng)
    day = rng.randrange(10**9)
    first = shop.customer("pays late")
    shop.order(first, day, shop.any_line())
    second = shop.customer("wholesale")
    shop.order(second, day + 5, shop.any_line(), shop.any_line())
    both = sorted([first, second])
    shop.expect_cards("two customers with an order each", both, 3, 1)
    shop = Shop(answer, rng)
    customers = sorted([shop.customer("x"), shop.customer("y")])
    for customer in customers:
        for placed_at in rng.sample(range(1000), 7):
            shop.order(customer, placed_at, shop.any_line())
    for latest in (3, 1, 7, 8):
        tried = f"two customers with 7 orders each, latest={latest}"
        shop.expect_cards(tried, customers, latest, 2)
    busy = shop.customer()
    for placed_at in range(2000, 2009):
        shop.order(busy, placed_at, shop.any_line())
    tried = "a customer with 9 newer orders beside them, latest=3"
    shop.expect_cards(tried, [*customers, busy], 3, 2)


def check_little(answer: ModuleType, rng: random.Random) -> None:
    """Show customers and orders that lack something."""
    shop = Shop(answer, rng)
    nothing = shop.customer()
    shop.expect_cards("a customer without orders and labels", [nothing], 3, 3)
    no_label = shop.customer()
    shop.order(no_label, 5, shop.any_line())
    shop.expect_cards("a customer without a label", [no_label], 3, 3)
    no_order = shop.customer("new")
    shop.expect_cards("a customer without an order", [no_order], 3, 3)
    no_line = shop.customer("x")
    shop.order(no_line, 1, shop.any_line())
    shop.order(no_line, 2)
    shop.expect_cards("an order without a line", [no_line], 3, 3)
    no_price = shop.customer("x")
    shop.order(no_price, 1, shop.any_line(), (None, 2), shop.any_line())
    shop.order(no_price, 2, (None, 3))
    shop.order(no_price, 3, (0, 3))
    shop.expect_cards("lines whose price is NULL or 0", [no_price], 3, 3)
    shop.expect_cards("all of these at once", list(shop.customers), 3, 3)


def check_much(answer: ModuleType, rng: random.Random) -> None:
    """Show sums that something could multiply."""
    shop = Shop(answer, rng)
    one = shop.customer("pays late", "abroad", "wholesale")
    line = shop.any_line()
    shop.order(one, 1, shop.any_line(), shop.any_line())
    shop.expect_cards("a customer with three labels", [one], 3, 3)
    shop.order(one, 2, line, line, line)
    shop.expect_cards("an order with three equal lines", [one], 3, 3)
    shop.order(one, 3, (line[0], 1), (line[0], 2))
    shop.expect_cards("an order with two lines of one price", [one], 3, 3)
    shop.order(one, 4, line, (-line[0], line[1] - 1))
    shop.expect_cards("an order with a line that is sent back", [one], 3, 3)
    twice = shop.customer("called", "pays late", "called")
    shop.expect_cards("a customer who has a label twice", [twice], 3, 3)


def check_instants(answer: ModuleType, rng: random.Random) -> None:
    """Show customers whose orders share an instant, more of them than a card takes."""
    shop = Shop(answer, rng)
    customers = [shop.customer(), shop.customer("x")]
    for customer in customers:
        instants = [7, 7, 7, 7, 9, 5]
        rng.shuffle(instants)
        for placed_at in instants:
            shop.order(customer, placed_at, shop.any_line())
    for latest in (3, 2, 4, 6):
        tried = f"four orders at one instant, latest={latest}"
        shop.expect_cards(tried, customers, latest, 2)


def check_list(answer: ModuleType, rng: random.Random) -> None:
    """Show customers in an order of the list's own."""
    shop = Shop(answer, rng)
    customers = [shop.customer("x") for _ in range(6)]
    for customer in customers:
        shop.order(customer, rng.randrange(99), shop.any_line())
    rng.shuffle(customers)
    for ids in (customers, sorted(customers), sorted(customers, reverse=True)):
        shop.expect_cards(f"the ids {ids}", ids, 3, 1)
    unknown = shop.free.pop()
    first, second, third, *_ = customers
    mixed = [first, unknown, second]
    shop.expect_cards(f"the ids {mixed}, {unknown} of nobody", mixed, 3, 1)
    twice = [first, second, first, third, second]
    shop.expect_cards(f"the ids {twice}", twice, 3, 1)
    shop.expect_cards("no ids", [], 3, 1)
    shop.expect_cards("the id of nobody alone", [unknown], 3, 1)
    shop.expect_cards("ids as a tuple", (second, first), 3, 1)


def check_added(answer: ModuleType, rng: random.Random) -> None:
    """Show what a session has added; look at the session afterwards."""
    shop = Shop(answer, rng)
    old = shop.customer("x")
    shop.order(old, 5, shop.any_line())
    shop.store()
    new = shop.customer("just here")
    shop.order(new, 6, shop.any_line())
    shop.order(old, 7, shop.any_line())
    shop.label(old, "again")
    ids = [old, new]
    tried = "a customer, orders and a label that are added, but not flushed"
    with Session(shop.engine) as session:
        shop.add_to(session)
        cards = shop.ask(tried, session, ids, 3, 3)
        expect(f"{tried}: the customers", [card[0] for card in cards], ids, 3)
        shop.compare(tried, cards, 3, 3)
        orders = sa.select(sa.func.count()).select_from(answer.Order)
        counts = {"in the session": session.scalar(orders)}
        session.rollback()
        counts["after its rollback"] = session.scalar(orders)
    expected = {"in the session": 3, "after its rollback": 1}
    expect("the orders when cards has returned", counts, expected, 3)


def check_read_before(answer: ModuleType, rng: random.Random) -> None:
    """Show what is added to customers whose collections the session has read."""
    shop = Shop(answer, rng)
    old = shop.customer("x")
    order = shop.order(old, 5, shop.any_line())
    shop.store()
    tried = "a label, an order and a line, added after the session had read the others"
    with Session(shop.engine) as session:
        customer = session.get_one(answer.Customer, old)
        read = [customer.labels, customer.orders, customer.orders[0].lines]
        shop.label(old, "again")
        shop.order(old, 7, shop.any_line())
        shop.line(order, 100, 2)
        shop.add_to(session)
        cards = shop.ask(tried, session, [old], 3, 3)
        del read
    shop.compare(tried, cards, 3, 3)


def check_cost(answer: ModuleType, rng: random.Random) -> None:
    """Count statements and rows for many customers, then for a long history."""
    shop = Shop(answer, rng)
    customers = [shop.customer(rng.choice("abcdef")) for _ in range(150)]
    for customer in customers:
        for placed_at in rng.sample(range(1000), 3):
            shop.order(customer, placed_at, shop.any_line())
    others = [shop.customer("x", "y") for _ in range(50)]
    history = shop.customer("x")
    for placed_at in rng.sample(range(10_000), 300):
        shop.order(history, placed_at, shop.any_line(), shop.any_line())
    shop.store()
    for number, ids in enumerate((customers, [history, others[0]], [customers[0]])):
        with Session(shop.engine) as session:
            tried = f"{len(ids)} of {len(shop.customers)} customers"
            if number == 1:
                tried = "two customers, one of them with 300 orders"
            shop.ask(tried, session, ids, 3, 1)
        expect(
            f"the cost of {tried}, latest=3",
            {
                "statements": shop.traffic.statements,
                "rows read": shop.traffic.rows,
            },
            {
                "statements": at_most(4),
                "rows read": at_most(shop.bound(ids, 3)),
            },
            1 if shop.traffic.statements > 4 else 2,
        )
    with Session(shop.engine) as session:
        everybody = shop.ask("150 customers", session, customers, 3, 1)
    shop.compare("150 customers", everybody, 3, 2)


def check(answer: ModuleType, rng: random.Random) -> None:
    """Show shops from the plain one to the odd ones; count what a large one costs."""
    check_plain(answer, rng)
    check_cost(answer, rng)
    check_list(answer, rng)
    check_instants(answer, rng)
    check_much(answer, rng)
    check_little(answer, rng)
    check_added(answer, rng)
    check_read_before(answer, rng)
