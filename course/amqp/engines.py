"""How a ledger's database is opened: SQLite as it has to be set up, or PostgreSQL."""

from __future__ import annotations

import os
import sqlite3
import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.pool import StaticPool

from course.amqp.errors import BadAddress, MessagingError
from course.amqp.publishing import DEADLINE

LIMIT = "connect_timeout"  # seconds; PGCONNECT_TIMEOUT says it, too
LOCKED = ("database is locked", "database table is locked")


def engine_for(where: str | os.PathLike[str] | sa.URL) -> sa.Engine:
    """Return an engine for a SQLite file, ":memory:", or a URL."""
    if isinstance(where, sa.URL):  # whose str() has asterisks for a password
        where = where.render_as_string(hide_password=False)
    where = os.fspath(where)
    if "://" not in where:
        where = sa.URL.create("sqlite", database=where).render_as_string()
    try:
        url = sa.make_url(where)
        if url.get_backend_name() in ("postgresql", "postgres"):
            url = url.set(drivername="postgresql+psycopg")
            # One that accepts and stays silent would keep us for ever.
            limit = (
                {}
                if LIMIT in url.query or "PGCONNECT_TIMEOUT" in os.environ
                else {LIMIT: round(DEADLINE)}
            )
            return sa.create_engine(
                url, connect_args=limit, pool_pre_ping=True, max_overflow=50
            )
        if url.get_backend_name() != "sqlite":
            raise ValueError(url.get_backend_name())
    except (sa.exc.ArgumentError, ValueError):
        reason = "a ledger is a file of SQLite, or a URL like postgresql://host/name"
        raise BadAddress(reason) from None
    options: dict[str, Any] = {}
    if url.database in (None, "", ":memory:"):
        options["poolclass"] = StaticPool  # all threads see the same tables
    arguments = {"timeout": DEADLINE, "check_same_thread": False}
    engine = sa.create_engine(url, connect_args=arguments, **options)
    event.listen(engine, "connect", set_up_sqlite)
    event.listen(engine, "begin", begin_sqlite)
    if "poolclass" in options:
        event.listen(engine, "connect", OnlyOnce())
    return engine


class OnlyOnce:
    """Refuses a second connection to what is in memory: it would find no table."""

    def __init__(self) -> None:
        self.was_open = False

    def __call__(self, *_: object) -> None:
        """Note the first connection."""
        if self.was_open:
            raise MessagingError("the ledger was in memory, and is closed")
        self.was_open = True


def set_up_sqlite(connection: Any, _: object) -> None:
    """Let readers and a writer work side by side, and begin transactions ourselves."""
    connection.isolation_level = None
    # Two processes that open a new file at the same time: the one that comes second is
    # refused at once, however long it would wait.
    end = time.monotonic() + DEADLINE
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            # Trap: with NORMAL, a power cut undoes what is acknowledged already.
            connection.execute("PRAGMA synchronous = FULL")
        except sqlite3.OperationalError as error:
            if str(error) not in LOCKED or time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            return


def begin_sqlite(connection: sa.Connection) -> None:
    """Begin as a writer, unless it only reads.

    A transaction that reads first and writes then fails if another wrote in between.
    """
    if not connection.info.get("reads"):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def is_open(connection: sa.Connection) -> bool:
    """Tell whether the database would commit now what was written since the begin."""
    if connection.closed or connection.invalidated:
        return False
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == "sqlite":
        return bool(driver.in_transaction)
    return str(driver.info.transaction_status.name) == "INTRANS"
