"""Takes a key of NULL and id 0 for no key at all: it returns the last page."""

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


BACKWARDS = sa.select(USERS.c.id, USERS.c.seen_at, USERS.c.name).order_by(
    USERS.c.seen_at.asc().nulls_first(), USERS.c.id.desc()
)


def stands_before(key: Key) -> sa.ColumnElement[bool]:
    """Return the condition of the rows before a key."""
    lower_id = USERS.c.id < key.id
    if key.seen_at is None:
        # A comparison with NULL is never true: those who were seen are named apart.
        among_unseen = USERS.c.seen_at.is_(None) & lower_id
        return USERS.c.seen_at.is_not(None) | among_unseen
    # One column goes down, the other up: (a, b) < (:a, :b) cannot say that.
    same_instant = (USERS.c.seen_at == key.seen_at) & lower_id
    return (USERS.c.seen_at > key.seen_at) | same_instant


def page_before(connection: sa.Connection, first: Key | None, size: int) -> Page:
    """Return the page before a key: read backwards, one row more, and turned round."""
    if size < 1:
        raise ValueError(f"a page of {size} rows")
    query = BACKWARDS.limit(size + 1)
    if first is not None and any(first):
        query = query.where(stands_before(first))
    rows = [(key, at, name) for key, at, name in connection.execute(query)]
    # The last one read is not on the page: it only tells that there is more.
    page = rows[:size]
    page.reverse()
    return Page(page, more=len(rows) > size)
