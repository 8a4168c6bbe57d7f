"""The latest orders of each customer, in four queries: write `cards`."""

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


def cards(session: Session, ids: Sequence[int], latest: int = 3) -> list[CustomerCard]:
    """Return a card per customer of `ids`, each with its `latest` orders.

    Cards come in the order of `ids`; one per customer, and none for an unknown id.
    Labels are sorted by their text. Orders come from the latest to the earliest, at
    most `latest` (1 or more) of them; at the same instant the higher id is later. What
    an order costs is the sum of price times quantity of its lines, with 0 for a price
    that is NULL and for an order without lines.

    Sends at most four statements. Sees what the session has not flushed yet, commits
    nothing, and returns plain data that needs no session.
    """
    raise NotImplementedError
