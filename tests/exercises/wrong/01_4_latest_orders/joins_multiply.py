"""Joins labels and lines in one query: an order costs as often as there are labels."""

import json
from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship


class Base(orm.DeclarativeBase):
    """All tables."""


class Customer(Base):
    """Somebody who orders."""

    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    labels: Mapped[list["Label"]] = relationship()
    orders: Mapped[list["Order"]] = relationship()


class Label(Base):
    """A word about a customer, such as "pays late"."""

    __tablename__ = "labels"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(sa.ForeignKey("customers.id"))
    text: Mapped[str]


class Order(Base):
    """An order of a customer, placed at a second since 1970."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(sa.ForeignKey("customers.id"))
    placed_at: Mapped[int]
    lines: Mapped[list["Line"]] = relationship()


class Line(Base):
    """A line of an order; the price is of one piece, and NULL until it is known."""

    __tablename__ = "lines"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(sa.ForeignKey("orders.id"))
    price_cents: Mapped[int | None]
    quantity: Mapped[int]


class OrderCard(NamedTuple):
    """An order as it is shown."""

    id: int
    placed_at: int
    cents: int


class CustomerCard(NamedTuple):
    """A customer as it is shown: labels by their text, orders from the latest on."""

    id: int
    name: str
    labels: list[str]
    orders: list[OrderCard]


def ranked(ids: Sequence[int]) -> sa.Subquery:
    """Number the orders of each customer from the latest on."""
    newest_first = (Order.placed_at.desc(), Order.id.desc())
    place = sa.func.row_number().over(
        partition_by=Order.customer_id, order_by=newest_first
    )
    orders = sa.select(
        Order.id, Order.customer_id, Order.placed_at, place.label("place")
    )
    return orders.where(Order.customer_id.in_(ids)).subquery()


def cards(session: Session, ids: Sequence[int], latest: int = 3) -> list[CustomerCard]:
    """Return a card per customer: one statement with everything in it."""
    order = ranked(ids)
    price = sa.func.coalesce(Line.price_cents, 0) * Line.quantity
    cents = sa.func.coalesce(sa.func.sum(price), 0)
    labels = sa.func.json_group_array(Label.text.distinct())
    rows = sa.select(Customer, order.c.id, order.c.placed_at, cents, labels)
    belongs = (order.c.customer_id == Customer.id) & (order.c.place <= latest)
    rows = rows.outerjoin(order, belongs)
    rows = rows.outerjoin(Line, Line.order_id == order.c.id)
    rows = rows.outerjoin(Label, Label.customer_id == Customer.id)
    rows = rows.where(Customer.id.in_(ids)).group_by(Customer.id, order.c.id)
    found: dict[int, CustomerCard] = {}
    for customer, key, at, total, texts in session.execute(
        rows.order_by(order.c.place)
    ):
        words = sorted(text for text in json.loads(texts) if text is not None)
        card = CustomerCard(customer.id, customer.name, words, [])
        card = found.setdefault(customer.id, card)
        if key is not None:
            card.orders.append(OrderCard(key, at, total))
    return [found[key] for key in dict.fromkeys(ids) if key in found]
