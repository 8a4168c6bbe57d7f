"""From euros in a text to whole cents: write `fill_cents`."""

from __future__ import annotations

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


def fill_cents(engine: sa.Engine, size: int = 100) -> Outcome:
    """Fill `amount_cents` from `amount` where it is NULL, `size` rows a transaction.

    An amount is a text of ASCII digits, with one `-` in front or none, and with a point
    and one or two digits behind or without. Other texts, and cents beyond 64 bits, are
    refused: the row stays NULL, and its id is returned. A row without an amount is left
    alone. So is one whose cents or amount others write after it was read.

    May be stopped and run again. `filled` counts the rows that this run has filled.
    Raises ValueError if `size` is below 1.
    """
    raise NotImplementedError
