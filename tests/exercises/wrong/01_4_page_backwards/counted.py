"""Finds the page by counting, from where the key's row is: one that is gone is lost."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

USERS = sa.Table(
    "users",
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("seen_at", sa.Integer),  # a second since 1970; NULL: never seen
    sa.Column("name", sa.String, nullable=False),
)


class Key(NamedTuple):
    """The place of a row in the list."""

    seen_at: int | None
    id: int


class Page(NamedTuple):
    """Rows in the order of the list, and whether others stand before the first."""

    rows: list[tuple[int, int | None, str]]  # id, seen_at, name
    more: bool


ORDER = (USERS.c.seen_at.desc().nulls_last(), USERS.c.id)
LIST = sa.select(USERS.c.id, USERS.c.seen_at, USERS.c.name).order_by(*ORDER)


def rows_before(connection: sa.Connection, first: Key | None) -> int:
    """Count the rows before a key."""
    if first is None:
        return connection.scalars(sa.select(sa.func.count(USERS.c.id))).one()
    number = sa.func.row_number().over(order_by=ORDER)
    numbered = sa.select(USERS.c.id, number.label("number")).subquery()
    of_key = sa.select(numbered.c.number).where(numbered.c.id == first.id)
    place = connection.scalars(of_key).one_or_none()
    return place - 1 if place else 0


def page_before(connection: sa.Connection, first: Key | None, size: int) -> Page:
    """Return the page before a key, by the number of rows in front of it."""
    if size < 1:
        raise ValueError(f"a page of {size} rows")
    end = rows_before(connection, first)
    start = max(0, end - size)
    page = LIST.offset(start).limit(end - start)
    rows = [(key, at, name) for key, at, name in connection.execute(page)]
    return Page(rows, more=start > 0)
