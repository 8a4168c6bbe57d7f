"""SQLite alters a table by a copy: what Alembic's copy would lose is put back.

Alembic rebuilds a table from what SQLAlchemy reads of it. That leaves out indexes on
expressions, with a collation or in descending order, checks without a name, triggers,
and what CREATE TABLE says behind the columns. Alembic drops all of it without an error.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import BatchOperations, Operations
from sqlalchemy import exc

PLAIN = "BINARY"  # SQLite's collation where none is named
TABLE_OPTIONS = {
    "sqlite_autoincrement": (r"\bAUTOINCREMENT\b", True),
    "sqlite_with_rowid": (r"\bWITHOUT\s+ROWID\b", False),
    "sqlite_strict": (r"\)[^)]*\bSTRICT\b", True),
}
# Parts of a column's definition that SQLAlchemy does not read.
LOST_WORDS = (r"\bCOLLATE\s+\w+", r"\bON\s+CONFLICT\s+\w+")


def mentions(sql: str, column: str) -> bool:
    """Tell whether a statement has the name of a column in it."""
    return bool(re.search(rf"(?<!\w){re.escape(column)}(?!\w)", sql, re.IGNORECASE))


def definitions(create_table: str) -> dict[str, str]:
    """Return what CREATE TABLE says of each column, by its name, as SQL."""
    body = create_table[create_table.index("(") + 1 : create_table.rindex(")")]
    parts = [""]
    depth = 0
    # Texts and quoted names as a whole: they may have commas and brackets in them.
    for piece in re.findall(
        r"'(?:[^']|'')*'|\"[^\"]*\"|`[^`]*`|\[[^]]*\]|.", body, re.S
    ):
        depth += (piece == "(") - (piece == ")")
        if piece == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += piece
    found = {}
    for part in parts:
        name, _, rest = part.strip().partition(" ")
        found[name.strip('"`[]')] = rest
    return found


class Rebuild:
    """What a table of SQLite has before a step, to be there after it, too."""

    def __init__(self, connection: sa.Connection, table: str) -> None:
        self.connection = connection
        self.table = table
        self.sql = self._sql_of("table").get(table, "")
        self.columns = self._columns()
        self.last_key = self._last_key()
        special = self._indexes() | self._sql_of("trigger")
        self.kept = {name: sql for name, sql in special.items() if sql}

    def _sql_of(self, kind: str) -> dict[str, str]:
        asked = sa.text(
            "SELECT name, sql FROM sqlite_master WHERE type = :kind AND tbl_name = :of"
        )
        rows = self.connection.execute(asked, {"kind": kind, "of": self.table})
        return {name: sql for name, sql in rows if sql}

    def _columns(self) -> set[str]:
        asked = sa.text("SELECT name FROM pragma_table_xinfo(:of)")
        return set(self.connection.scalars(asked, {"of": self.table}))

    def _last_key(self) -> int | None:
        """Return the last key that AUTOINCREMENT gave, which is never given again."""
        if "sqlite_autoincrement" not in self.options():
            return None
        asked = sa.text("SELECT seq FROM sqlite_sequence WHERE name = :of")
        return self.connection.scalars(asked, {"of": self.table}).first()

    def _put_back_last_key(self) -> None:
        if self.last_key is not None:
            of = {"of": self.table, "seq": self.last_key}
            forget = sa.text("DELETE FROM sqlite_sequence WHERE name = :of")
            keep = sa.text("INSERT INTO sqlite_sequence VALUES (:of, :seq)")
            self.connection.execute(forget, of)
            self.connection.execute(keep, of)

    def _indexes(self) -> dict[str, str]:
        """Return the indexes that are more than a list of columns."""
        asked = sa.text("SELECT cid, desc, coll FROM pragma_index_xinfo(:of) WHERE key")
        special = {}
        for name, sql in self._sql_of("index").items():
            keys = self.connection.execute(asked, {"of": name})
            plain = all(
                cid >= 0 and not desc and coll == PLAIN for cid, desc, coll in keys
            )
            if not plain or re.search(r"\bWHERE\b", sql, re.IGNORECASE):
                special[name] = sql
        return special

    def checks(self) -> list[Any]:
        """Return the table's checks without a name, which Alembic leaves out."""
        found = sa.inspect(self.connection).get_check_constraints(self.table)
        unnamed = [check["sqltext"] for check in found if not check["name"]]
        return [sa.CheckConstraint(str(sql)) for sql in unnamed]

    def options(self) -> dict[str, bool]:
        """Return what CREATE TABLE says of the whole table, as SQLAlchemy spells it."""
        found = {}
        for name, (pattern, value) in TABLE_OPTIONS.items():
            if re.search(pattern, self.sql, re.IGNORECASE):
                found[name] = value
        return found

    def refuse(self, what: str, why: object) -> ValueError:
        """Return the error that undoes a step."""
        lost = f"the copy of {self.table} would lose {what} ({why})"
        return ValueError(f"{lost}: drop it in a step before, create it again after")

    def put_back(self, dropped: set[str], renamed: dict[str, str]) -> None:
        """Create again what the copy has lost; ValueError where that is impossible."""
        now = self._sql_of("table").get(self.table, "")
        if now == self.sql:
            return
        gone = self.columns - self._columns()
        self._refuse_lost_words(now, renamed)
        self._put_back_last_key()
        for check in sa.inspect(self.connection).get_check_constraints(self.table):
            self._refuse_old_names(str(check["sqltext"]), "a check", gone)
        there = self._sql_of("index") | self._sql_of("trigger")
        for name, sql in self.kept.items():
            if name in dropped or there.get(name) == sql:
                continue
            # Trap: SQLite takes a quoted name that is no column for a text.
            self._refuse_old_names(sql, name, gone)
            quoted = '"' + name.replace('"', '""') + '"'
            try:
                if name in there:
                    self.connection.exec_driver_sql(f"DROP INDEX {quoted}")
                self.connection.exec_driver_sql(sql)
            except exc.DBAPIError as error:
                raise self.refuse(name, error.orig) from error

    def _refuse_old_names(self, sql: str, what: str, gone: set[str]) -> None:
        for column in gone:
            if mentions(sql, column):
                raise self.refuse(what, f"it names {column}")

    def _refuse_lost_words(self, now: str, renamed: dict[str, str]) -> None:
        after = definitions(now)
        for column, before in definitions(self.sql).items():
            name = renamed.get(column, column)
            for word in LOST_WORDS:
                had = re.search(word, before, re.IGNORECASE)
                if had and name in after and not re.search(word, after[name], re.I):
                    raise self.refuse(f"{had[0]} of {column}", "it cannot be read")


class CarefulOperations(Operations):
    """Alembic's operations, with nothing lost where SQLite copies a table."""

    @contextmanager
    def batch_alter_table(
        self, table_name: str, *args: Any, **options: Any
    ) -> Iterator[BatchOperations]:
        """Change a table: on SQLite by a copy that has all that the table had."""
        connection = self.get_bind()
        if connection.dialect.name != "sqlite":
            with super().batch_alter_table(table_name, *args, **options) as batch:
                yield batch
            return
        before = Rebuild(connection, table_name)
        given = options.get("table_args", ())
        if not any(isinstance(part, sa.CheckConstraint) for part in given):
            options["table_args"] = (*given, *before.checks())
        options["table_kwargs"] = before.options() | {**options.get("table_kwargs", {})}
        with warnings.catch_warnings():
            # Of an index on an expression, which is put back below.
            warnings.filterwarnings("ignore", "Skipped unsupported reflection")
            with super().batch_alter_table(table_name, *args, **options) as batch:
                yield batch
                dropped, renamed = changes_in(batch)
        before.put_back(dropped, renamed)


def changes_in(batch: Any) -> tuple[set[str], dict[str, str]]:
    """Return the indexes that a batch drops, and the columns that get another name."""
    dropped = set()
    renamed = {}
    for operation, args, options in batch.impl.batch:
        if operation == "drop_index":
            dropped.add(str(args[0].name))
        if operation == "alter_column" and options.get("name"):
            renamed[str(args[1])] = str(options["name"])
    return dropped, renamed


def operations_on(connection: sa.Connection) -> Operations:
    """Return Alembic's operations on a connection: a library, without an ini file."""
    return CarefulOperations(MigrationContext.configure(connection))
