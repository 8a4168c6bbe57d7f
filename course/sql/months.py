"""Months of instants, in UTC on both databases, and what a month's users did."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement


class MonthOf(FunctionElement[date]):
    """The first day of the month, in UTC, that an instant belongs to; or NULL."""

    type = sa.Date()
    inherit_cache = True


@compiles(MonthOf)
def month_of(element: MonthOf, compiler: Any, **options: Any) -> str:
    """Render it for PostgreSQL."""
    # Trap: date_trunc alone. It takes the month in the time zone of the session.
    instant = compiler.process(element.clauses, **options)
    return f"CAST(date_trunc('month', timezone('UTC', {instant})) AS DATE)"


@compiles(MonthOf, "sqlite")
def month_of_sqlite(element: MonthOf, compiler: Any, **options: Any) -> str:
    """Render it for SQLite, which holds instants in UTC."""
    instant = compiler.process(element.clauses, **options)
    return f"date({instant}, 'start of month')"


@dataclass
class Cohort:
    """The users who registered in one month, and what became of them."""

    users: int = 0
    buyers: int = 0
    spent_cents: int = 0
    # How many were last seen so many months later; None: they never came back.
    seen: Counter[int | None] = field(default_factory=Counter)


def months_between(start: date, end: date | None) -> int | None:
    """Return how many months a day's month comes after another's, if it is there."""
    if end is None:
        return None
    return (end.year - start.year) * 12 + end.month - start.month
