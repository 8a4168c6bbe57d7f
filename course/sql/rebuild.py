"""SQLite alters a table by a copy: what Alembic's copy would lose is put back.

Alembic rebuilds a table from what SQLAlchemy reads of it. That leaves out indexes on
expressions, with a collation or in descending order, checks without a name, triggers,
and what CREATE TABLE says behind the columns. Alembic drops all of it without an error.
It also leaves out some of what a column says: that is not put back, but refused.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
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
# What SQLAlchemy reads at some places only, where it is not what SQLite does anyway.
NAMED = r"""[\"'`[]?(\w+)"""
LOST_WORDS = (
    rf"\bCOLLATE\s+{NAMED}(?<!BINARY)\b",
    r"\bON\s+CONFLICT\s+(?!ABORT\b)\w+",
    r"\bON\s+(?:DELETE|UPDATE)\s+(?!NO\b)(?:SET\s+)?\w+",
    r"(?<!NOT )\bDEFERRABLE\s+INITIALLY\s+DEFERRED\b",
)
# Texts and quoted names as a whole: they may have commas, brackets and dashes in them.
QUOTED = r"""'(?:[^']|'')*'|"[^"]*"|`[^`]*`|\[[^]]*\]"""
COMMENT = r"--[^\n]*|/\*.*?\*/"
OF_TABLE = ("CONSTRAINT", "UNIQUE", "FOREIGN", "PRIMARY", "CHECK")
TRIAL = '"module8 trial"'  # a name that no table has


def mentions(sql: str, column: str) -> bool:
    """Tell whether a statement has the name of a column in it."""
    return bool(re.search(rf"(?<!\w){re.escape(column)}(?!\w)", sql, re.IGNORECASE))


def without_comments(sql: str) -> str:
    """Return a statement with a space in place of each comment."""
    pieces = re.findall(rf"{QUOTED}|{COMMENT}|.", sql, re.DOTALL)
    return "".join(" " if re.match(COMMENT, one) else one for one in pieces)


def parts_of(create_table: str) -> list[tuple[str, str]]:
    """Return the columns of CREATE TABLE and what it says of each, as SQL.

    What it says of the table follows, each behind its first word: UNIQUE, CHECK.
    """
    sql = without_comments(create_table)
    body = sql[sql.index("(") + 1 : sql.rindex(")")]
    parts = [""]
    depth = 0
    for piece in re.findall(rf"{QUOTED}|.", body, re.DOTALL):
        depth += (piece == "(") - (piece == ")")
        if piece == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += piece
    found = []
    for part in parts:
        named = re.match(rf"\s*({QUOTED}|\w+)\s*(.*)", part, re.DOTALL)
        if named:
            name, rest = named.groups()
            found.append((name.strip("'\"`[]"), rest.strip()))
    return found


def lost_words(parts: list[tuple[str, str]]) -> Counter[str]:
    """Count what may get lost, in one spelling."""
    found: Counter[str] = Counter()
    for _, rest in parts:
        for word in LOST_WORDS:
            for had in re.finditer(word, rest, re.IGNORECASE):
                found[in_one_spelling(had[0])] += 1
    return found


def in_one_spelling(sql: str) -> str:
    """Return words of SQL in capitals, without quotes, a space apart."""
    return " ".join(re.sub(r"[\"'`\[\]]", "", sql).upper().split())


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

    def is_sound(self) -> str:
        """Return "" if all views and triggers know their tables, or what SQLite says.

        It looks at all of them when a table gets another name, which is taken back.
        """
        run = self.connection.exec_driver_sql
        run("SAVEPOINT trial")
        try:
            run(f"ALTER TABLE {quoted(self.table)} RENAME TO {TRIAL}")
        except exc.DBAPIError as error:
            return str(error.orig)
        finally:
            run("ROLLBACK TO trial")
            run("RELEASE trial")
        return ""

    def put_back(self, dropped: set[str], renamed: dict[str, str]) -> None:
        """Create again what the copy has lost; ValueError where that is impossible."""
        now = self._sql_of("table").get(self.table, "")
        if now == self.sql:
            return
        gone = self.columns - self._columns()
        self._refuse_lost_words(now, dropped | (gone - set(renamed)))
        self._put_back_last_key()
        for check in sa.inspect(self.connection).get_check_constraints(self.table):
            self._refuse_old_names(str(check["sqltext"]), "a check", gone)
        there = self._sql_of("index") | self._sql_of("trigger")
        for name, sql in self.kept.items():
            if name in dropped or there.get(name) == sql:
                continue
            # Trap: SQLite takes a quoted name that is no column for a text.
            self._refuse_old_names(sql, name, gone)
            try:
                if name in there:
                    self.connection.exec_driver_sql(f"DROP INDEX {quoted(name)}")
                self.connection.exec_driver_sql(sql)
            except exc.DBAPIError as error:
                raise self.refuse(name, error.orig) from error

    def _refuse_old_names(self, sql: str, what: str, gone: set[str]) -> None:
        for column in gone:
            if mentions(sql, column):
                raise self.refuse(what, f"it names {column}")

    def _refuse_lost_words(self, now: str, dropped: set[str]) -> None:
        """Refuse what has become less, except by what a step drops itself."""
        before = []
        for name, rest in parts_of(self.sql):
            of_table = name.upper() in OF_TABLE
            goes = name in dropped
            if of_table or rest.upper().find("CONSTRAINT") >= 0:
                goes = goes or any(mentions(rest, one) for one in dropped)
            if not goes:
                before.append((name, rest))
        lost = lost_words(before) - lost_words(parts_of(now))
        for name, rest in before:
            for word in lost:
                if word in lost_words([(name, rest)]):
                    raise self.refuse(f"{word} of {name}", "it cannot be read")


def quoted(name: str) -> str:
    """Return a name as SQLite takes it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


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
        wrong = before.is_sound()
        with warnings.catch_warnings(), without_views(connection):
            # Of an index on an expression, which is put back below.
            warnings.filterwarnings("ignore", "Skipped unsupported reflection")
            with super().batch_alter_table(table_name, *args, **options) as batch:
                yield batch
                dropped, renamed = changes_in(batch)
        before.put_back(dropped, renamed)
        if not wrong and (wrong := before.is_sound()):
            raise before.refuse("what looks at it", wrong)


@contextmanager
def without_views(connection: sa.Connection) -> Iterator[None]:
    """Let a copy take a table's name without a look at views and other triggers.

    To SQLite they are broken meanwhile: the table they name is not there.
    """
    asked = "PRAGMA legacy_alter_table"
    before = connection.exec_driver_sql(asked).scalar_one()
    connection.exec_driver_sql(f"{asked} = ON")
    try:
        yield
    finally:
        connection.exec_driver_sql(f"{asked} = {before}")


def changes_in(batch: Any) -> tuple[set[str], dict[str, str]]:
    """Return the indexes and constraints that a batch drops, and columns' new names."""
    dropped = set()
    renamed = {}
    for operation, args, options in batch.impl.batch:
        if operation in ("drop_index", "drop_constraint"):
            dropped.add(str(args[0].name))
        if operation == "alter_column" and options.get("name"):
            renamed[str(args[1])] = str(options["name"])
    return dropped, renamed


def operations_on(connection: sa.Connection) -> Operations:
    """Return Alembic's operations on a connection: a library, without an ini file."""
    return CarefulOperations(MigrationContext.configure(connection))
