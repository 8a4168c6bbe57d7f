"""A connection to PostgreSQL, directly or through a pooler, whose waits all end."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from functools import cache
from typing import Any

import sqlalchemy as sa

# A peer that is gone without a goodbye is noticed within about half a minute: idle by
# keepalives, while something is under way by what nobody acknowledges.
LINE_LIMITS = {
    "connect_timeout": 2,  # seconds, per address; libpq takes no less
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # milliseconds
}


def line_limits(url: sa.URL) -> dict[str, Any]:
    """Return the limits of a connection's line that its URL does not set itself."""
    return {name: n for name, n in LINE_LIMITS.items() if name not in url.query}


def end_what_is_left_open(engine: sa.Engine) -> None:
    """Roll back, as a connection of SQLite comes back, what it has left open.

    Trap: a COMMIT that is refused, such as by a deferred foreign key, ends nothing on
    SQLite. SQLAlchemy takes the transaction to be over; the next one on the connection
    would fail to begin, and all others wait for the lock that it holds.
    """

    @sa.event.listens_for(engine, "checkin")
    def roll_back(raw: Any, _: object) -> None:
        if raw is not None and raw.in_transaction:  # None: it was invalidated
            raw.rollback()


def set_locally(connection: sa.Connection, settings: Mapping[str, str]) -> None:
    """Set what holds until the transaction ends; a list's parts are split at commas.

    Raises ValueError on AUTOCOMMIT, where nothing would hold.
    """
    raw: Any = connection.connection.driver_connection
    if raw.autocommit:
        raise ValueError("AUTOCOMMIT has no transaction that settings could hold in")
    statements = []
    for name, value in settings.items():
        parts = [part.strip().replace("'", "''") for part in value.split(",")]
        listed = ", ".join(f"'{part}'" for part in parts)
        statements.append(f"SET LOCAL {name} = {listed}")
    # Several in one message: a single round trip, and nothing that is ever prepared. A
    # connection whose results are streamed would declare a cursor for it.
    plain = {"stream_results": False}
    connection.exec_driver_sql("; ".join(statements), execution_options=plain)


def set_in_transactions(engine: sa.Engine, settings: Mapping[str, str]) -> None:
    """Let settings hold in each transaction that SQLAlchemy begins on an engine.

    One of two phases is refused with ValueError: psycopg takes nothing before it.
    """

    def begin(connection: sa.Connection) -> None:
        set_locally(connection, settings)

    def refuse(_connection: sa.Connection, _xid: object) -> None:
        raise ValueError("no settings would hold in a transaction of two phases")

    sa.event.listen(engine, "begin", begin)
    sa.event.listen(engine, "begin_twophase", refuse)


def is_pooled(raw: Any) -> bool:
    """Tell whether a pooler stands between a connection and its server process.

    A pooler hands out a number of its own where PostgreSQL names its process.
    """
    before = raw.autocommit
    raw.autocommit = True
    try:
        (pid,) = raw.execute("SELECT pg_backend_pid()").fetchone()
    finally:
        raw.autocommit = before
    return bool(pid != raw.info.backend_pid)


@cache
def bounded_connection() -> Any:
    """Return psycopg's class of connections, with a limit to each wait."""
    import psycopg  # noqa: PLC0415  (not needed for SQLite)

    def ending(waits: Any, limit: float, line: Any) -> Generator[Any, Any, Any]:
        heard = time.monotonic()
        try:
            wanted = next(waits)
            while True:
                ready = yield wanted
                now = time.monotonic()
                if ready:
                    heard = now
                elif now - heard > limit:
                    line.finish()  # its answer could come later, to another question
                    raise psycopg.OperationalError(f"no answer in {limit:g} s")
                wanted = waits.send(ready)
        except StopIteration as end:
            return end.value

    class BoundedConnection(psycopg.Connection[Any]):
        """A connection that is closed where an answer does not come in time.

        Trap: TCP alone. The kernel of a peer, or of a proxy, acknowledges what a
        program that hangs will never read: keepalives and timeouts of TCP see nothing.
        """

        idle_limit = 10.0  # seconds for BEGIN or a ping, which any server answers
        limit = 60.0  # in a transaction, where the server has a limit of its own

        def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
            idle = self.pgconn.transaction_status == psycopg.pq.TransactionStatus.IDLE
            limit = self.idle_limit if idle else self.limit
            return super().wait(ending(gen, limit, self.pgconn), *args, **options)

    return BoundedConnection


def bound_waits(engine: sa.Engine, idle: float, busy: float) -> None:
    """Let each wait of an engine's connections end: outside a transaction, and in one.

    They speak UTF-8. Behind a pooler nothing is prepared: the next transaction may meet
    a server process that does not know it.
    """

    def connect(_dialect: Any, _record: Any, place: Any, options: Any) -> Any:
        # Where a role or a database says SQL_ASCII, texts would come back as bytes.
        options.setdefault("client_encoding", "utf8")
        raw = bounded_connection().connect(*place, **options)
        raw.idle_limit = idle
        raw.limit = busy
        try:
            if is_pooled(raw):
                raw.prepare_threshold = None
        except BaseException:
            raw.close()
            raise
        return raw

    sa.event.listen(engine, "do_connect", connect)
