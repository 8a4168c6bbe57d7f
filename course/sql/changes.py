"""What changing a table needs: SQLite's copies, SQL to review, a check for drift."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations

Step = Callable[[Operations], None]


@contextmanager
def connection_for_changes(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Lend a connection to either database on which tables may be changed."""
    engine.dispose()  # SQLite's other connections still know the old table
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            # Trap: SQLite alters a table by a copy. Dropping the old one would delete
            # the rows that refer to it. The pragma works outside a transaction only.
            connection.detach()  # from the pool: it ends with this setting
            raw: Any = connection.connection
            raw.execute("PRAGMA foreign_keys = OFF")
        yield connection


def refuse_orphans(connection: sa.Connection) -> None:
    """Raise ValueError if rows on SQLite have lost their parents.

    There a connection for changes checks no foreign keys; PostgreSQL's does, itself.
    """
    if connection.dialect.name == "sqlite":
        raw: Any = connection.connection
        if raw.execute("PRAGMA foreign_key_check").fetchall():
            raise ValueError("the step leaves rows without their parents")


def drift(engine: sa.Engine, wanted: sa.Table) -> int:
    """Count the differences between the database's table and the model's."""

    def is_ours(name: str | None, kind: str, _: object) -> bool:
        return kind != "table" or name == wanted.name

    with engine.connect() as connection:
        options = {"include_name": is_ours}
        context = MigrationContext.configure(connection, opts=options)
        return len(compare_metadata(context, wanted.metadata))


def offline_sql(*steps: Step) -> list[str]:
    """Return the statements of steps on PostgreSQL, to be reviewed and run by hand."""
    script = io.StringIO()
    options = {"as_sql": True, "output_buffer": script}
    context = MigrationContext.configure(dialect_name="postgresql", opts=options)
    for step in steps:
        step(Operations(context))
    return [line for line in script.getvalue().splitlines() if line]
