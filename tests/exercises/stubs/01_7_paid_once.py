"""Paid once, whatever happens: write `pay_once`."""

from __future__ import annotations

import time
from collections.abc import Callable

import sqlalchemy as sa

from course.sql.backends import code_of  # noqa: F401  (for you to use)

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


def pay_once(
    engine: sa.Engine,
    key: str,
    work: Work,
    attempts: int = 5,
    pause: Pause = time.sleep,
) -> int:
    """Run `work` in a transaction, once per key; return its result, or the first one.

    The effects of `work` and the result in `DONE` are committed together. After an
    error whose code begins with one of `TRANSIENT`, or that has lost the connection,
    the whole transaction begins again; `work` runs at most `attempts` times. Between
    attempt n and the next (n from 1), `pause` is called with seconds drawn at random
    from 0 to min(1, 0.01 * 2**n), while no connection is held.

    Raises any other error at once, and the error of the last attempt, both unchanged;
    nothing is left of them. Raises ValueError if `attempts` is below 1.
    """
    raise NotImplementedError
