"""SQLite connections for checks that fail where a check wants it, once each."""

from __future__ import annotations

import re
import sqlite3
from typing import Any

CONNECTION_CLOSED = (
    "Cannot operate on a closed database."  # what SQLAlchemy takes for a loss
)
COMMIT_REFUSED = "a COMMIT that is refused"
COMMIT_LOST = "a COMMIT whose answer is lost"
LOST_BEFORE = "a connection that is lost before the COMMIT"


def busy(code: str = "SQLITE_BUSY") -> sqlite3.OperationalError:
    """Return the error of a lock that somebody else holds."""
    locked = "database table" if code == "SQLITE_LOCKED" else "database"
    error = sqlite3.OperationalError(f"{locked} is locked")
    error.sqlite_errorname = code
    return error


def refused_by_postgres(sqlstate: str) -> sqlite3.OperationalError:
    """Return an error with a code, as psycopg has it."""
    error: Any = sqlite3.OperationalError("could not serialize access")
    error.sqlstate = sqlstate
    return error  # type: ignore[no-any-return]


def lost_connection() -> sqlite3.ProgrammingError:
    """Return the error of a connection that is gone."""
    return sqlite3.ProgrammingError(CONNECTION_CLOSED)


class Faults:
    """What happens to the next statements and commits: each fault once, in order."""

    def __init__(self) -> None:
        self.planned: list[tuple[str, sqlite3.Error]] = []

    def plan(self, where: str, error: sqlite3.Error) -> None:
        """Let the next statement that matches fail, or the next commit."""
        self.planned.append((where, error))

    def due(self, where: str) -> sqlite3.Error | None:
        """Return the error for a commit, if it is its turn."""
        if self.planned and self.planned[0][0] == where:
            return self.planned.pop(0)[1]
        return None

    def raise_at(self, statement: str) -> None:
        """Raise the error for a statement, if it is its turn."""
        if self.planned and re.match(self.planned[0][0], statement):
            raise self.planned.pop(0)[1]


def faulty_connections(faults: Faults) -> type[sqlite3.Connection]:
    """Return a class of connections that fail as planned."""

    class FaultyCursor(sqlite3.Cursor):
        def execute(self, sql: str, *values: Any) -> Any:
            faults.raise_at(sql)
            return super().execute(sql, *values)

    class FaultyConnection(sqlite3.Connection):
        def cursor(self, *_: Any) -> Any:
            return super().cursor(FaultyCursor)

        def commit(self) -> None:
            if error := faults.due(COMMIT_REFUSED):
                raise error
            if error := faults.due(LOST_BEFORE):
                super().rollback()
                raise error
            super().commit()
            if error := faults.due(COMMIT_LOST):
                raise error

    return FaultyConnection
