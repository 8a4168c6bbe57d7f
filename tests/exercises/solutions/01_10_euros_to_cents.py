"""Walks by id, converts in Python, and writes only where the row is as it was read."""

from __future__ import annotations

import re
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


AMOUNT = re.compile(r"(-?)([0-9]+)(?:\.([0-9]{1,2}))?")


def cents_of(amount: str) -> int | None:
    """Return an amount in cents, or None if the text is not one."""
    found = AMOUNT.fullmatch(amount)
    # int() itself refuses thousands of digits, with an error; 64 bits have 19.
    if not found or len(amount.lstrip("-0")) > 30:
        return None
    sign, euros, rest = found.groups(default="")
    cents = int(euros.lstrip("0") + rest.ljust(2, "0"))
    # The sign belongs to both parts: -0.05 has a whole part of 0.
    signed = -cents if sign else cents
    return signed if -(2**63) <= signed < 2**63 else None


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
