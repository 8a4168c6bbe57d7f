"""Keeps labels in a set, which shows one that a customer has twice once."""

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


def names_of(session: Session, ids: list[int]) -> dict[int, str]:
    """Return the names of those customers who exist, by id."""
    named = sa.select(Customer.id, Customer.name).where(Customer.id.in_(ids))
    return {row.id: row.name for row in session.execute(named)}


def add_labels(session: Session, found: dict[int, CustomerCard]) -> None:
    """Put their labels on the cards, sorted by text."""
    labels = sa.select(Label.customer_id, Label.text)
    labels = labels.where(Label.customer_id.in_(found))
    for key, text in sorted({(key, text) for key, text in session.execute(labels)}):
        found[key].labels.append(text)


def add_orders(session: Session, found: dict[int, CustomerCard], latest: int) -> None:
    """Put their latest orders on the cards, each with what it costs."""
    newest_first = (Order.placed_at.desc(), Order.id.desc())
    place = sa.func.row_number().over(
        partition_by=Order.customer_id, order_by=newest_first
    )
    ranked = sa.select(
        Order.id, Order.customer_id, Order.placed_at, place.label("place")
    )
    # Numbered in a subquery: WHERE cannot use a window.
    ranking = ranked.where(Order.customer_id.in_(found)).subquery()
    cents = sa.func.sum(Line.price_cents * Line.quantity)
    orders = sa.select(
        ranking.c.customer_id,
        ranking.c.id,
        ranking.c.placed_at,
        sa.func.coalesce(cents, 0),
    )
    # An inner join would lose the orders without lines.
    orders = orders.outerjoin(Line, Line.order_id == ranking.c.id)
    orders = orders.where(ranking.c.place <= latest)
    orders = orders.group_by(
        ranking.c.customer_id, ranking.c.id, ranking.c.placed_at, ranking.c.place
    )
    for key, *order in session.execute(orders.order_by(ranking.c.place)):
        found[key].orders.append(OrderCard(*order))


def cards(session: Session, ids: Sequence[int], latest: int = 3) -> list[CustomerCard]:
    """Return a card per customer: three statements, each about one kind of rows."""
    wanted = list(dict.fromkeys(ids))
    names = names_of(session, wanted)
    found: dict[int, CustomerCard] = {}
    for key in wanted:
        if key in names:
            found[key] = CustomerCard(key, names[key], [], [])
    add_labels(session, found)
    add_orders(session, found, latest)
    return list(found.values())
