"""Judges report_by_country() by orders with holes, and by what the server returns."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

from course.claims import at_most, is_a, near
from course.mongo.codec import Document
from course.mongo.counting import CommandCounter
from course.practice.checking import expect
from course.practice.noted import Asked, NotedCollection
from course.standins.mongodb import StandInCollection, StandInDatabase

START = datetime(2025, 3, 1, tzinfo=UTC)
END = datetime(2025, 4, 1, tzinfo=UTC)
MISSING = object()  # stands for a field that an order does not have
MOST_LINES = 4  # of an order
FIELDS = ("orders", "customers", "revenue", "mean")


class NotedDatabase:
    """A database whose collections note what they are asked."""

    def __init__(self, orders: list[Document]) -> None:
        self.inner: Any = StandInDatabase(CommandCounter())
        self.noted: dict[str, NotedCollection] = {}
        if orders:
            self.inner["orders"].insert_many(orders)

    def __getitem__(self, name: str) -> NotedCollection:
        """Return a collection, the same each time."""
        if name not in self.noted:
            self.noted[name] = NotedCollection(self.inner[name])
        return self.noted[name]

    def get_collection(self, name: str, **_options: Any) -> NotedCollection:
        """Return the same."""
        return self[name]

    def __getattr__(self, name: str) -> Any:
        """Return what the database has: a method, or a collection."""
        found = getattr(self.inner, name)
        return self[name] if isinstance(found, StandInCollection) else found

    def asked(self) -> list[Asked]:
        """Return all commands."""
        return [asked for each in self.noted.values() for asked in each.asked]


class Shop:
    """Makes orders with the _id 1, 2 and so on."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.orders: list[Document] = []

    def order(
        self,
        country: Any,
        customer: Any,
        *amounts: int,
        status: str = "paid",
        at: datetime | None = None,
        lines: Any = None,
    ) -> None:
        """Add an order, with a line for each amount, or with other `lines`."""
        seconds = self.rng.randrange(1, 30 * 24 * 3600)
        made = [{"sku": f"P-{amount % 7}", "amount": amount} for amount in amounts]
        fields = {
            "_id": len(self.orders) + 1,
            "status": status,
            "placed_at": at or START + timedelta(seconds=seconds),
            "country": country,
            "customer": customer,
            "lines": made if lines is None else lines,
        }
        order = {name: value for name, value in fields.items() if value is not MISSING}
        self.orders.append(order)

    def amount(self) -> int:
        """Return some cents."""
        return self.rng.randrange(1, 10_000)


def expected_rows(orders: list[Document], start: datetime, end: datetime) -> Any:
    """Return the rows, computed in plain Python."""
    by_country: dict[Any, list[Document]] = defaultdict(list)
    for order in orders:
        if order["status"] == "paid" and start <= order["placed_at"] < end:
            by_country[order.get("country")].append(order)
    rows = []
    for country, found in by_country.items():
        customers = {order.get("customer") for order in found} - {None}
        amounts = [
            line["amount"] for order in found for line in order.get("lines") or []
        ]
        row = {
            "country": country,
            "orders": len(found),
            "customers": len(customers),
            "revenue": sum(amounts),
            "mean": sum(amounts) / len(found),
        }
        rows.append(row)
    # None comes before all texts, an empty one too.
    rows.sort(key=lambda row: (row["country"] is not None, row["country"] or ""))
    rows.sort(key=lambda row: row["revenue"], reverse=True)
    return rows


def judge(
    answer: ModuleType,
    tried: str,
    orders: list[Document],
    hint: int,
    span: tuple[datetime, datetime] = (START, END),
) -> NotedDatabase:
    """Ask for the report of some orders, and compare it; return the database."""
    db = NotedDatabase(orders)
    found = answer.report_by_country(db, *span)
    expect(f"{tried}; what is returned", found, is_a(list), 1)
    wanted = expected_rows(orders, *span)
    for row in found:
        expect(f"{tried}; a row", row, is_a(dict), 1)
    for row in found:
        names = sorted(map(str, row))
        expect(f"{tried}; the fields of a row", names, sorted([*FIELDS, "country"]), 1)
    countries = [row["country"] for row in found]
    in_any_order = sorted(countries, key=repr)
    wanted_countries = [row["country"] for row in wanted]
    words = f"{tried}; the countries, sorted here"
    expect(words, in_any_order, sorted(wanted_countries, key=repr), hint)
    by_country = {row["country"]: row for row in found}
    for row in wanted:
        given = by_country[row["country"]]
        mean = near(row["mean"], 0.01)
        expect(f"{tried}; {row['country']!r}", given, row | {"mean": mean}, hint)
    expect(f"{tried}; the order of the rows", countries, wanted_countries, 1)
    return db


def plain_orders(rng: random.Random) -> list[Document]:
    """Return orders without a hole, some with several lines."""
    shop = Shop(rng)
    for country in ("UA", "DE", "PL"):
        for customer in (1, 2, 2):
            shop.order(country, customer, shop.amount())
    for status in ("open", "cancelled", "refunded"):
        shop.order("UA", 5, shop.amount(), status=status)
    return shop.orders


def lines_orders(rng: random.Random) -> list[Document]:
    """Return orders with several lines, and with negative amounts."""
    shop = Shop(rng)
    shop.order("UA", 1, 500, 300, 300)
    shop.order("UA", 2, shop.amount())
    shop.order("DE", 1, shop.amount(), -shop.amount())
    shop.order("PL", 1, -shop.amount())
    shop.order("FR", 1, 2**40, 2**40 + rng.randrange(9))
    return shop.orders


def customer_orders(rng: random.Random) -> list[Document]:
    """Return customers with many orders, also in several countries, and guests."""
    shop = Shop(rng)
    for country in ("UA", "UA", "UA", "DE", "DE"):
        shop.order(country, 7, shop.amount(), shop.amount())
    shop.order("UA", 8, shop.amount())
    shop.order("DE", 0, shop.amount())
    for customer in (None, MISSING, None, MISSING):
        shop.order("UA", customer, shop.amount())
    for customer in (None, MISSING):
        shop.order("PL", customer, shop.amount())
    rng.shuffle(shop.orders)
    return shop.orders


def country_orders(rng: random.Random) -> list[Document]:
    """Return orders whose country is missing, null, or a text."""
    shop = Shop(rng)
    for country in (None, MISSING, None, MISSING, "UA", "", "ua", "None", "null"):
        shop.order(country, 3, shop.amount())
        shop.order(country, rng.choice([3, 4]), shop.amount())
    rng.shuffle(shop.orders)
    return shop.orders


def empty_orders(rng: random.Random) -> list[Document]:
    """Return orders without lines, of three kinds."""
    shop = Shop(rng)
    for lines in (MISSING, None, []):
        shop.order("UA", 1, lines=lines)
        shop.order("UA", rng.randrange(2, 5), shop.amount())
        shop.order("PL", 1, lines=lines)
        shop.order(MISSING, MISSING, lines=lines)
    rng.shuffle(shop.orders)
    return shop.orders


def border_orders(rng: random.Random) -> list[Document]:
    """Return orders around the start and the end."""
    shop = Shop(rng)
    step = timedelta(milliseconds=1)
    for at in (START - step, START, START + step, END - step, END, END + step):
        shop.order("UA", shop.rng.randrange(9), shop.amount(), at=at)
    shop.order("DE", 1, shop.amount(), at=END)
    return shop.orders


def tied_orders(rng: random.Random) -> list[Document]:
    """Return countries with the same revenue; one of them is None."""
    shop = Shop(rng)
    amount = shop.amount()
    for country in ("PL", "DE", "", "AT", MISSING, "UA", "at"):
        shop.order(country, 1, amount)
    shop.order("ZM", 1, amount, 1)
    shop.order("AA", 1, amount, -1)
    rng.shuffle(shop.orders)
    return shop.orders


def mixed_orders(rng: random.Random) -> list[Document]:
    """Return many orders of all kinds."""
    shop = Shop(rng)
    for _ in range(150):
        amounts = [shop.amount() - 3_000 for _ in range(rng.randrange(MOST_LINES + 1))]
        country = rng.choice([None, MISSING, "UA", "DE", "PL"])
        customer = rng.choice([None, MISSING, *range(9)])
        lines = None if amounts else rng.choice([MISSING, None, []])
        at = START + timedelta(hours=rng.randrange(-90, 900))
        status = rng.choice(["paid", "paid", "paid", "open"])
        shop.order(country, customer, *amounts, lines=lines, at=at, status=status)
    return shop.orders


def many_customers(rng: random.Random) -> list[Document]:
    """Return two countries: one has 60 customers, and one of them 40 orders."""
    shop = Shop(rng)
    for customer in range(60):
        shop.order("UA", customer, shop.amount())
    for _ in range(40):
        shop.order("UA", 7, shop.amount())
    shop.order("DE", 1, shop.amount())
    return shop.orders


def lists_in(value: Any) -> Iterator[list[Any]]:
    """Yield all lists in a value, at any depth."""
    if isinstance(value, list):
        yield value
    inner = value.values() if isinstance(value, dict) else value
    if isinstance(inner, str | bytes) or not hasattr(inner, "__iter__"):
        return
    for each in inner:
        yield from lists_in(each)


def judge_commands(answer: ModuleType, orders: list[Document]) -> None:
    """Judge what is sent, and what each stage passes on to the next."""
    tried = "60 customers in one country, and one of them with 41 orders"
    db = judge(answer, tried, orders, 1)
    names = [asked.name for asked in db.asked()]
    expect(f"{tried}; the commands", names, ["aggregate"], 3)
    asked = db.asked()[0]
    countries = len(expected_rows(orders, START, END))
    words = f"{tried}; rows that the server returns for {countries} countries"
    expect(words, len(asked.rows), countries, 3)
    given = [*asked.arguments, *asked.options.values()]
    stages = list(given[0])
    for end in range(1, len(stages) + 1):
        stage = next(iter(stages[end - 1]))
        words = f"{tried}; stage {end}, {stage}, which writes nothing"
        expect(words, stage in ("$out", "$merge"), False, 3)
        # The stand-in takes no pipeline of one $match; this one changes nothing.
        so_far = [*stages[:end], {"$match": {}}]
        rows = list(db.inner["orders"].aggregate(so_far))
        longest = max((len(each) for row in rows for each in lists_in(row)), default=0)
        words = f"{tried}; the longest list in a row behind stage {end}, {stage}"
        expect(words, longest, at_most(MOST_LINES), 2)


def check(answer: ModuleType, rng: random.Random) -> None:
    """Report on plain orders, on each kind of hole, and on all of them at once."""
    judge(answer, "plain orders", plain_orders(rng), 1)
    judge(answer, "several lines, negative amounts", lines_orders(rng), 1)
    judge(answer, "guests, and customers with many orders", customer_orders(rng), 2)
    judge(answer, "country missing, null or a text", country_orders(rng), 2)
    judge(answer, "lines missing, null or empty", empty_orders(rng), 2)
    judge(answer, "orders around start and end", border_orders(rng), 1)
    judge(answer, "countries with the same revenue", tied_orders(rng), 1)
    judge(answer, "no orders at all", [], 1)
    late = END + timedelta(days=400)
    orders = plain_orders(rng)
    judge(answer, "no orders in the span", orders, 1, (late, late + timedelta(days=1)))
    judge_commands(answer, many_customers(rng))
    judge(answer, "150 orders of all kinds", mixed_orders(rng), 3)
