"""What a read costs: its peak of memory, and the plan that the database has for it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm


def peak_bytes(read: Callable[[], object]) -> int:
    """Return the peak of what Python allocates while it reads."""
    read()  # once before: what gets compiled and cached is not this reading's
    tracemalloc.start()
    try:
        read()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return peak


def plan_of(session: orm.Session, statement: sa.Select[Any, Any]) -> str:
    """Return how the database would run a statement."""
    sql = statement.compile(session.get_bind(), compile_kwargs={"literal_binds": True})
    explain = "EXPLAIN"
    if sql.dialect.name == "sqlite":
        explain = "EXPLAIN QUERY PLAN"
    rows = session.connection().exec_driver_sql(f"{explain} {sql}")
    return " ".join(str(row[-1]) for row in rows)
