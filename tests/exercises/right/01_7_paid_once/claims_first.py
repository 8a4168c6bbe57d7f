"""Claims the key before the work, by a row that gets its result behind it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import sqlite

from course.sql.backends import code_of

# How the codes of a conflict, a deadlock and "database is locked" begin.
TRANSIENT = ("40001", "40P01", "SQLITE_BUSY")

DONE = sa.Table(
    "done",
    sa.MetaData(),
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("result", sa.Integer, nullable=False),
)

Work = Callable[[sa.Connection], int]  # pays, and returns a result to remember
Pause = Callable[[float], object]


def may_pass(error: Exception) -> bool:
    """Tell whether the same transaction may succeed if it begins again."""
    if isinstance(error, exc.DBAPIError) and error.connection_invalidated:
        return True
    return code_of(error).startswith(TRANSIENT)


def pay(connection: sa.Connection, key: str, work: Work) -> int:
    """Return the result of the key; if there is none yet, work and store it."""
    mine = DONE.c.key == key
    claim = sqlite.insert(DONE).values(key=key, result=0).on_conflict_do_nothing()
    if connection.execute(claim).rowcount == 0:
        stored: int = connection.execute(
            sa.select(DONE.c.result).where(mine)
        ).scalar_one()
        return stored
    fresh = work(connection)
    connection.execute(sa.update(DONE).where(mine).values(result=fresh))
    return fresh


def pay_once(
    engine: sa.Engine,
    key: str,
    work: Work,
    attempts: int = 5,
    pause: Pause = time.sleep,
) -> int:
    """Run a transaction that looks for the key, works and stores; again if it fails."""
    if attempts < 1:
        raise ValueError(f"{attempts} attempts")
    attempt = 1
    while True:
        try:
            # The key and the effects in one transaction: both are there, or neither.
            with engine.begin() as connection:
                return pay(connection, key, work)
        except Exception as error:
            if attempt >= attempts or not may_pass(error):
                raise
        pause(random.uniform(0, min(1, 0.01 * 2**attempt)))
        attempt += 1
