"""What changing a table needs: SQLite's copies, SQL to review, a check for drift."""

from __future__ import annotations

import io
import warnings
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


def refuse_no_size(size: int) -> None:
    """Raise ValueError if batches of a size would never come to an end."""
    if size < 1:
        raise ValueError(f"a batch of {size} rows brings nothing forward")


def unseen(connection: sa.Connection, wanted: sa.Table) -> int:
    """Count the indexes on expressions that SQLite lacks, or has on others.

    SQLAlchemy does not read them there, so Alembic's comparison leaves them out.
    """
    if connection.dialect.name != "sqlite":
        return 0
    asked = "SELECT lower(sql) FROM sqlite_master WHERE type = 'index'"
    there = set(connection.exec_driver_sql(asked).scalars())
    missing = 0
    for index in wanted.indexes:
        if not all(isinstance(part, sa.Column) for part in index.expressions):
            created = sa.schema.CreateIndex(index).compile(dialect=connection.dialect)
            missing += str(created).strip().lower() not in there
    return missing


def drift(engine: sa.Engine, wanted: sa.Table) -> int:
    """Count the differences between the database's table and the model's."""

    def is_ours(name: str | None, kind: str, *_: object) -> bool:
        return kind != "table" or name == wanted.name

    def is_wanted(_: object, name: str | None, kind: str, *_more: object) -> bool:
        return is_ours(name, kind)

    with engine.connect() as connection:
        options = {"include_name": is_ours, "include_object": is_wanted}
        context = MigrationContext.configure(connection, opts=options)
        with warnings.catch_warnings():
            # Of the indexes that are counted below.
            warnings.filterwarnings("ignore", "Skipped unsupported reflection")
            warnings.filterwarnings("ignore", "autogenerate skipping")
            seen = len(compare_metadata(context, wanted.metadata))
        return seen + unseen(connection, wanted)


def offline_sql(*steps: Step) -> list[str]:
    """Return the statements of steps on PostgreSQL, to be reviewed and run by hand."""
    script = io.StringIO()
    options = {"as_sql": True, "output_buffer": script}
    context = MigrationContext.configure(dialect_name="postgresql", opts=options)
    for step in steps:
        step(Operations(context))
    return [line for line in script.getvalue().splitlines() if line]
