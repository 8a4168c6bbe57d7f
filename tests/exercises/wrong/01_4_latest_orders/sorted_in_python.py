"""Loads all orders and lines, and cuts the lists in Python: reads whole histories."""

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


def card_of(customer: Customer, orders: list[Order]) -> CustomerCard:
    """Return the card of a customer, with these orders."""
    shown = []
    for order in orders:
        cents = sum((line.price_cents or 0) * line.quantity for line in order.lines)
        shown.append(OrderCard(order.id, order.placed_at, cents))
    labels = sorted(label.text for label in customer.labels)
    return CustomerCard(customer.id, customer.name, labels, shown)


def cards(session: Session, ids: Sequence[int], latest: int = 3) -> list[CustomerCard]:
    """Return a card per customer: four statements, one per level."""
    lines = orm.selectinload(Customer.orders).selectinload(Order.lines)
    labels = orm.selectinload(Customer.labels)
    customers = sa.select(Customer).where(Customer.id.in_(ids)).options(lines, labels)
    by_id = {customer.id: customer for customer in session.scalars(customers)}
    found = []
    for key in dict.fromkeys(ids):
        if key in by_id:
            orders = by_id[key].orders
            orders.sort(key=lambda order: (order.placed_at, order.id), reverse=True)
            found.append(card_of(by_id[key], orders[:latest]))
    return found
