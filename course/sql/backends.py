"""The server process behind each connection of PostgreSQL, and how it ends."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import func, select

BACKEND_END_LIMIT = 10  # seconds to wait until a process is gone
BACKEND_PID = sa.text("SELECT pg_backend_pid()")


def end_backend(engine: sa.Engine, pid: int) -> None:
    """End a connection's server process, as a failover or an administrator does."""
    ended = func.pg_terminate_backend(pid, 1000 * BACKEND_END_LIMIT)
    with engine.connect() as admin:  # the call waits until the process is gone
        admin.execute(select(ended))


def code_of(error: Exception) -> str:
    """Return psycopg's SQLSTATE or sqlite3's name of an error, else its class."""
    # SQLAlchemy wraps the driver's error, but not those of COPY.
    cause = getattr(error, "orig", None) or error
    of_psycopg = getattr(cause, "sqlstate", None)
    of_sqlite3 = getattr(cause, "sqlite_errorname", None)
    return of_psycopg or of_sqlite3 or type(cause).__name__
