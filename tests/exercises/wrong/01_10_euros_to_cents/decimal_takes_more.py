"""Leaves the syntax to Decimal, which takes 1e3, blanks, 1_000 and more digits."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import NamedTuple

import sqlalchemy as sa

ORDERS = sa.Table(
    "orders",
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("amount", sa.String),  # euros, such as 12.50
    sa.Column("amount_cents", sa.BigInteger),  # NULL until it is filled
)


class Outcome(NamedTuple):
    """How many rows were filled, and the ids of those that cannot be, in order."""

    filled: int
    refused: list[int]


def cents_of(amount: str) -> int | None:
    """Return an amount in cents, or None if the text is not one."""
    try:
        euros = Decimal(amount)
    except InvalidOperation:
        return None
    if not euros.is_finite():
        return None
    cents = int(euros.scaleb(2))
    return cents if -(2**63) <= cents < 2**63 else None


Rows = list[tuple[int, str]]  # id, amount


def next_rows(connection: sa.Connection, after: int | None, size: int) -> Rows:
    """Return the next rows to look at, behind an id."""
    rows = sa.select(ORDERS.c.id, ORDERS.c.amount).order_by(ORDERS.c.id).limit(size)
    rows = rows.where(ORDERS.c.amount.is_not(None), ORDERS.c.amount_cents.is_(None))
    if after is not None:
        rows = rows.where(ORDERS.c.id > after)
    return [(key, amount) for key, amount in connection.execute(rows)]


def fill(connection: sa.Connection, key: int, amount: str, cents: int) -> int:
    """Fill a row if it is as it was read; return the rows filled, 0 or 1."""
    row = sa.update(ORDERS).where(ORDERS.c.id == key)
    unchanged = row.where(ORDERS.c.amount_cents.is_(None), ORDERS.c.amount == amount)
    return connection.execute(unchanged.values(amount_cents=cents)).rowcount


def fill_cents(engine: sa.Engine, size: int = 100) -> Outcome:
    """Fill the column in batches, each behind the last id of the one before."""
    if size < 1:
        raise ValueError(f"batches of {size} rows")
    filled = 0
    refused: list[int] = []
    last: int | None = None
    while True:
        with engine.begin() as connection:
            rows = next_rows(connection, last, size)
            for key, amount in rows:
                cents = cents_of(amount)
                if cents is None:
                    refused.append(key)
                else:
                    filled += fill(connection, key, amount, cents)
        if len(rows) < size:
            return Outcome(filled, refused)
        # Past the refused ones, too: they would fill each batch from now on.
        last = rows[-1][0]
