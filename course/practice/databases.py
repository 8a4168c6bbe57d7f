"""SQLite for checks: engines that are watched, errors in words, results as data."""

from __future__ import annotations

import re
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event, exc

from course.practice.checking import Refused, Words

SQL_ERRORS = (exc.SQLAlchemyError, sqlite3.Error)
PLAIN = (int, float, str, type(None))

AnyValue = TypeVar("AnyValue")


def plain_data(value: Any) -> Any:
    """Return a result as tuples, lists and values; what else it holds, by its type.

    So a sentence never holds an address in memory, and rows compare as tuples.
    """
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, (tuple, sa.Row)):
        return tuple(plain_data(one) for one in value)
    if isinstance(value, list):
        return [plain_data(one) for one in value]
    return Words(f"a value of type {type(value).__name__}")


def in_words_of_one_line(error: BaseException) -> Words:
    """Return an error as `type: message`, without addresses, links and statements."""
    first = (str(error).splitlines() or [""])[0]
    message = first.split(" (Background on")[0]
    text = f"{type(error).__name__}: {message}"
    return Words(re.sub(r" at 0x[0-9a-fA-F]+", "", text).removesuffix(": "))


def expect_no_error(
    tried: str,
    call: Callable[[], AnyValue],
    hint: int,
    kinds: tuple[type[Exception], ...] = SQL_ERRORS,
) -> AnyValue:
    """Return what a call returns; refuse the answer if it raises an error of a kind.

    Others pass, so that the learner sees the line of a slip.
    """
    try:
        return call()
    except (NotImplementedError, Refused):
        raise
    except kinds as error:
        observed = in_words_of_one_line(error)
        raise Refused(tried, observed, Words("no error"), hint) from error


def memory_engine() -> sa.Engine:
    """Return an engine on a new database in memory, with one connection for all."""
    in_any_thread = {"check_same_thread": False}
    return sa.create_engine(
        "sqlite://", poolclass=sa.StaticPool, connect_args=in_any_thread
    )


@contextmanager
def temporary_path() -> Iterator[Path]:
    """Give the path of a database that is not there yet, and remove it at the end."""
    # Windows keeps a file that an answer has left open.
    with tempfile.TemporaryDirectory(
        prefix="module8-", ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder) / "exercise.db"


def file_engine(path: Path, **options: Any) -> sa.Engine:
    """Return an engine on a file, which need not survive a power cut."""
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)), **options)

    @event.listens_for(engine, "connect")
    def hurry(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA journal_mode = MEMORY")

    return engine


def ask_file(path: Path, question: str, *values: object) -> list[tuple[Any, ...]]:
    """Return what another program would read, or write, at once, without a wait."""
    connection = sqlite3.connect(path, timeout=0)
    try:
        with connection:
            return connection.execute(question, values).fetchall()
    finally:
        connection.close()


def watch_rows(engine: sa.Engine, seen: Callable[[set[str]], None]) -> None:
    """Call `seen` for each row that an engine's connections read, with its columns."""

    def note(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> tuple[Any, ...]:
        seen({column[0] for column in cursor.description})
        return row

    @event.listens_for(engine, "connect")
    def set_up(connection: sqlite3.Connection, _: object) -> None:
        connection.row_factory = note


class Traffic:
    """Counts the statements that an engine sends, and the rows that come back."""

    def __init__(self, engine: sa.Engine) -> None:
        self.statements = 0
        self.rows = 0
        watch_rows(engine, self._count_row)
        event.listen(engine, "before_cursor_execute", self._count_statement)

    def _count_row(self, _: set[str]) -> None:
        self.rows += 1

    def _count_statement(self, *_: object) -> None:
        self.statements += 1

    def forget(self) -> None:
        """Count from 0 again."""
        self.statements = 0
        self.rows = 0
