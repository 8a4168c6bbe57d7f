"""The tables of a ledger, made where they are not there; none of somebody else's."""

from __future__ import annotations

from functools import cache

import sqlalchemy as sa

from course.amqp.errors import ForeignTable

OPENING = 0x4D6F64756C65  # of the advisory lock under which tables are made
OLDEST = {  # what the tables of every release have
    "inbox": {"queue", "id"},
    "outbox": {"number", "body"},
    "effects": {"queue", "what"},
}


class LedgerTables:
    """What a ledger consists of; made when first asked for, as an import makes none."""

    def __init__(self) -> None:
        self.all = sa.MetaData()
        self.inbox = sa.Table(
            "inbox",
            self.all,
            sa.Column("queue", sa.Text, primary_key=True),
            sa.Column("id", sa.Text, primary_key=True),
        )
        self.outbox = sa.Table(
            "outbox",
            self.all,
            sa.Column("number", sa.Integer, primary_key=True),
            sa.Column("body", sa.Text),
            sa.Column("cause", sa.Text),
            sa.Column("key", sa.Text),
            sa.Column("about", sa.Text),  # further properties, in JSON
            sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
            sa.Column("reason", sa.Text),  # why the last try failed
            sa.Column("aside", sa.Integer, nullable=False, server_default="0"),
        )
        self.effects = sa.Table(
            "effects",
            self.all,
            sa.Column("number", sa.Integer, primary_key=True),
            sa.Column("queue", sa.Text),
            sa.Column("id", sa.Text),
            sa.Column("what", sa.Text),
        )
        self.record = self.effects.insert().inline()


@cache
def ledger_tables() -> LedgerTables:
    """Return the tables, the same each time."""
    return LedgerTables()


def refuse_tables_of_others(connection: sa.Connection) -> None:
    """Raise ForeignTable for one of somebody else that has the name of one of ours."""
    inspector = sa.inspect(connection)
    for name, columns in OLDEST.items():
        if inspector.has_table(name):
            there = {one["name"] for one in inspector.get_columns(name)}
            if not columns <= there:
                raise ForeignTable(name)


def make_tables(connection: sa.Connection) -> None:
    """Make the tables, and the columns that those of the last release lack."""
    if connection.dialect.name == "postgresql":
        # Else two that come at the same time both find nothing, and one of them fails.
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(OPENING)))
    refuse_tables_of_others(connection)
    ledger_tables().all.create_all(connection)
    there = {one["name"] for one in sa.inspect(connection).get_columns("outbox")}
    for column in ledger_tables().outbox.columns:
        if column.name not in there:
            kind = column.type.compile(connection.dialect)
            default = " NOT NULL DEFAULT 0" if column.server_default else ""
            change = f"ALTER TABLE outbox ADD COLUMN {column.name} {kind}{default}"
            connection.execute(sa.text(change))
