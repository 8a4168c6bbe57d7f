"""The reconciliation: file, SQL and MongoDB have to agree, row by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from course.console import check, table
from course.integrated.desks import DESKS
from course.integrated.letters import address_of, order_id
from course.integrated.shop import Shop
from course.integrated.sql import Person
from course.integrated.task import date_of, midnight

PURCHASES = "SELECT id, customer, day, cents FROM purchases"
FIGURES_IN_SQL = {
    "customers": "SELECT count(*) FROM users",
    "orders": "SELECT count(*) FROM purchases",
    "cents": "SELECT sum(cents) FROM purchases",
}
Figures = dict[str, int]  # by name


@dataclass(frozen=True)
class Order:
    """A purchase, as every store should know it."""

    id: str
    customer: int
    moment: datetime
    price: float


def orders_of_file(shop: Shop) -> list[Order]:
    """Return the purchases of the file."""
    orders = []
    for purchase in shop.purchases:
        order = Order(
            id=order_id(purchase),
            customer=int(purchase.user),
            moment=midnight(date_of(purchase.day)),
            price=purchase.cents / 100,
        )
        orders.append(order)
    return orders


def orders_in_sql(shop: Shop) -> list[Order]:
    """Return the purchases that SQL has."""
    orders = []
    for row in shop.database.rows(PURCHASES):
        order = Order(
            id=row.id,
            customer=int(row.customer),
            moment=midnight(date_of(row.day)),
            price=row.cents / 100,
        )
        orders.append(order)
    return orders


def orders_in_mongodb(shop: Shop) -> list[Order]:
    """Return the purchases that MongoDB has."""
    orders = []
    for event in shop.documents.events():
        order = Order(
            id=event["_id"],
            customer=event["user_id"],
            moment=event["timestamp"],
            price=event["metadata"]["price"],
        )
        orders.append(order)
    return orders


def people_of_file(shop: Shop) -> list[Person]:
    """Return the customers of the file, since the days of their first orders."""
    people = []
    features = shop.analytics.features(shop.log, shop.end)
    for user, age in zip(shop.users, features.age.tolist(), strict=True):
        since = midnight(date_of(shop.end - age))
        people.append(Person(user, address_of(user), since))
    return people


def differing(found: Iterable[Any], file: Iterable[Any]) -> int:
    """Return how many rows only one of both has."""
    # Counted, so that a row that is there twice differs from one.
    ours = Counter(found)
    theirs = Counter(file)
    too_many = ours - theirs
    missing = theirs - ours
    return too_many.total() + missing.total()


def compare_queues(shop: Shop) -> None:
    """Claim that every copy that was published is applied, or a dead letter."""
    applied = shop.database.applied()
    rows = []
    published = {}
    accounted = {}
    for queue in DESKS:
        # By id: a dead letter may be delivered twice as well.
        dead = len(shop.broker.take_ids(f"{queue}.dead"))
        done = applied.get(queue, 0)
        published[queue] = shop.published[queue]
        accounted[queue] = done + dead
        rows.append((queue, published[queue], done, dead))
    table(("queue", "published", "applied", "dead"), *rows)
    check("published = applied + dead, in every queue", accounted, published)


def figures_of_file(shop: Shop) -> Figures:
    """Return the sums that every store has to have."""
    return {
        "customers": len(shop.users),
        "orders": len(shop.purchases),
        "cents": sum(purchase.cents for purchase in shop.purchases),
    }


def figures_in_sql(shop: Shop) -> Figures:
    """Return the sums that SQL has."""
    figures = {}
    for name, statement in FIGURES_IN_SQL.items():
        figures[name] = int(shop.database.value(statement))
    return figures


def figures_in_mongodb(shop: Shop) -> Figures:
    """Return the sums that MongoDB has."""
    return {
        "customers": shop.documents.count("users"),
        "orders": shop.documents.count("events"),
        "cents": shop.documents.revenue_in_cents(),
    }


def compare_stores(shop: Shop) -> None:
    """Claim that SQL and MongoDB hold what the file has, row by row and in sum."""
    file = figures_of_file(shop)
    sql = figures_in_sql(shop)
    mongodb = figures_in_mongodb(shop)
    rows = []
    for name in file:
        rows.append((name, file[name], sql[name], mongodb[name]))
    table(("figure", "file", "SQL", "MongoDB"), *rows)
    people = people_of_file(shop)
    found: dict[str, Any] = {
        "users wrong in SQL": differing(shop.database.people(), people),
        "profiles wrong in MongoDB": differing(shop.documents.people(), people),
    }
    expected: dict[str, Any] = {
        "users wrong in SQL": 0,
        "profiles wrong in MongoDB": 0,
    }
    check("SQL users = MongoDB profiles = customers, one by one", found, expected)
    orders = orders_of_file(shop)
    found = {
        "purchases wrong in SQL": differing(orders_in_sql(shop), orders),
        "events wrong in MongoDB": differing(orders_in_mongodb(shop), orders),
        "sums in SQL": sql,
        "sums in MongoDB": mongodb,
    }
    expected = {
        "purchases wrong in SQL": 0,
        "events wrong in MongoDB": 0,
        "sums in SQL": file,
        "sums in MongoDB": file,
    }
    check("SQL purchases = MongoDB events = the file, row by row", found, expected)


def reconcile(shop: Shop) -> None:
    """Reconciliation: every figure, in every store"""
    compare_queues(shop)
    compare_stores(shop)
