"""The reconciliation: file, SQL and MongoDB have to agree, row by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from course.console import check, table
from course.integrated.broker import order_id
from course.integrated.desks import DESKS
from course.integrated.shop import Shop, address_of
from course.integrated.sql import Person
from course.integrated.task import date_of, midnight


@dataclass(frozen=True)
class Order:
    """A purchase, as every store should know it."""

    id: str
    customer: int
    moment: datetime
    price: float


def orders_of_file(shop: Shop) -> list[Order]:
    """Return the purchases of the file."""
    log = shop.log
    orders = []
    for row, code in enumerate(log.customer.tolist()):
        moment = midnight(date_of(int(log.day[row])))
        cents = round(100 * log.amount[row])
        orders.append(Order(order_id(row), int(shop.users[code]), moment, cents / 100))
    return orders


def orders_in_sql(shop: Shop) -> list[Order]:
    """Return the purchases that SQL has."""
    orders = []
    for row in shop.database.rows("SELECT id, customer, day, cents FROM purchases"):
        moment = midnight(date_of(row.day))
        orders.append(Order(row.id, int(row.customer), moment, row.cents / 100))
    return orders


def orders_in_mongodb(shop: Shop) -> list[Order]:
    """Return the purchases that MongoDB has."""
    orders = []
    for event in shop.documents.events():
        price = event["metadata"]["price"]
        order = Order(event["_id"], event["user_id"], event["timestamp"], price)
        orders.append(order)
    return orders


def people_of_file(shop: Shop) -> list[Person]:
    """Return the customers of the file, since the days of their first orders."""
    ages = shop.analytics.features(shop.log, shop.end).age.tolist()
    people = []
    for user, age in zip(shop.users, ages, strict=True):
        since = midnight(date_of(shop.end - age))
        people.append(Person(user, address_of(user), since))
    return people


def differing(found: Iterable[Any], file: Iterable[Any]) -> int:
    """Return how many rows only one of both has."""
    ours = Counter(found)
    theirs = Counter(file)
    too_many = ours - theirs
    missing = theirs - ours
    return too_many.total() + missing.total()


def compare_queues(shop: Shop) -> None:
    """Claim that every copy that was published is applied, or a dead letter."""
    applied = shop.database.applied()
    rows = []
    accounted = {}
    for queue in DESKS:
        dead = len(shop.broker.take_ids(f"{queue}.dead"))
        done = applied.get(queue, 0)
        rows.append((queue, shop.published[queue], done, dead))
        accounted[queue] = done + dead
    table(("queue", "published", "applied", "dead"), *rows)
    published = {queue: shop.published[queue] for queue in DESKS}
    check("published = applied + dead, in every queue", accounted, published)


def figures_of_file(shop: Shop) -> dict[str, int]:
    """Return the sums that every store has to have."""
    return {
        "customers": len(shop.users),
        "orders": len(shop.log.day),
        "cents": round(100 * float(np.sum(shop.log.amount))),
    }


def figures_in_sql(shop: Shop) -> dict[str, int]:
    """Return the sums that SQL has."""
    cents = shop.database.rows("SELECT sum(cents) FROM purchases")[0][0]
    return {
        "customers": shop.database.count("users"),
        "orders": shop.database.count("purchases"),
        "cents": int(cents),
    }


def figures_in_mongodb(shop: Shop) -> dict[str, int]:
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
    rows = [(name, file[name], sql[name], mongodb[name]) for name in file]
    table(("figure", "file", "SQL", "MongoDB"), *rows)
    people = people_of_file(shop)
    check(
        "SQL users = MongoDB profiles = customers, one by one",
        {
            "wrong in SQL": differing(shop.database.people(), people),
            "wrong in MongoDB": differing(shop.documents.people(), people),
        },
        {"wrong in SQL": 0, "wrong in MongoDB": 0},
    )
    orders = orders_of_file(shop)
    check(
        "SQL purchases = MongoDB events = the file, row by row",
        {
            "wrong in SQL": differing(orders_in_sql(shop), orders),
            "wrong in MongoDB": differing(orders_in_mongodb(shop), orders),
            "SQL's sums": sql,
            "MongoDB's sums": mongodb,
        },
        {
            "wrong in SQL": 0,
            "wrong in MongoDB": 0,
            "SQL's sums": file,
            "MongoDB's sums": file,
        },
    )


def reconcile(shop: Shop) -> None:
    """Reconciliation: every figure, in every store"""
    compare_queues(shop)
    compare_stores(shop)
