"""Sorts those never seen as if it had been at the least second of 32 bits."""

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


NEVER = -(2**31)
SEEN = sa.func.coalesce(USERS.c.seen_at, NEVER)
BACKWARDS = sa.select(USERS.c.id, USERS.c.seen_at, USERS.c.name).order_by(
    SEEN.asc(), USERS.c.id.desc()
)


def stands_before(key: Key) -> sa.ColumnElement[bool]:
    """Return the condition of the rows before a key."""
    seen_at = NEVER if key.seen_at is None else key.seen_at
    later = sa.literal(seen_at) < SEEN
    same_instant = sa.literal(seen_at) == SEEN
    return later | (same_instant & (USERS.c.id < key.id))


def page_before(connection: sa.Connection, first: Key | None, size: int) -> Page:
    """Return the page before a key: read backwards, one row more, and turned round."""
    if size < 1:
        raise ValueError(f"a page of {size} rows")
    query = BACKWARDS.limit(size + 1)
    if first is not None:
        query = query.where(stands_before(first))
    rows = [(key, at, name) for key, at, name in connection.execute(query)]
    # The last one read is not on the page: it only tells that there is more.
    page = rows[:size]
    page.reverse()
    return Page(page, more=len(rows) > size)
