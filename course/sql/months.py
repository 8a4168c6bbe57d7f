"""Months of instants: as both databases count them, whatever a session's time zone."""

from __future__ import annotations

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


def months_between(start: date, end: date) -> int:
    """Return how many months a month comes after another."""
    return (end.year - start.year) * 12 + end.month - start.month
