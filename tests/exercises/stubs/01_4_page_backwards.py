"""A page backwards: write `page_before`."""

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


def page_before(connection: sa.Connection, first: Key | None, size: int) -> Page:
    """Return the page that ends directly before a key, or the last page if None.

    The list: `seen_at` downwards, NULL at the end, then `id` upwards. The page has its
    rows in that order, `size` of them, or as many as there are before the key. `more`
    tells whether a row stands before the page. No row needs to have the key.

    Sends at most two statements that together read at most `size` + 1 rows. Raises
    ValueError if `size` is below 1.
    """
    raise NotImplementedError
