"""The tables behind the lesson's inbox and outbox: on SQLite, or on PostgreSQL."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Self, TypeVar

import sqlalchemy as sa
from pika import BasicProperties

from course.amqp.engines import LOCKED, engine_for, is_open
from course.amqp.errors import (
    EndedInside,
    Unpublishable,
    Unreadable,
    check_effect,
    refuse_unrun,
)
from course.amqp.pending import Pending
from course.amqp.publishing import DEADLINE
from course.amqp.strict import strict_json
from course.amqp.tables import ledger_tables, make_tables
from course.lab import outcome_of

Made = TypeVar("Made")
Effect = str | Callable[[sa.Connection], object]  # a text to record, or what writes


THE_MESSAGES_OWN = {"message_id", "type", "content_type", "delivery_mode"}
MOST_OF_A_REASON = 1000  # characters
ENDED = "within a transaction, nothing may commit, roll back, close, or hide an error"


@dataclass(frozen=True)
class Outgoing:
    """A message that does not go where all of its kind go, or not in the same way."""

    message: Any
    key: str = ""  # empty for that of its kind
    about: dict[str, Any] = field(default_factory=dict)  # properties, as of JSON


@dataclass(eq=False)
class StoredMessage:
    """A row of the outbox, while a relay has it in hand."""

    number: int
    body: str
    cause: str | None
    key: str | None
    about: dict[str, Any] = field(default_factory=dict)
    pending: Pending | None = None
    reason: str = ""  # why nobody can ever publish it

    def set_aside(self, reason: object) -> None:
        """Keep it, with the reason, and publish it no more."""
        self.reason = storable(reason)

    @contextmanager
    def unreadable(self) -> Iterator[None]:
        """Set it aside if a block cannot read it, or may not send what it says."""
        try:
            yield
        except (Unreadable, TypeError) as error:
            self.set_aside(error)

    def read_by(self, read: Callable[[Self], Made]) -> Made:
        """Return what a function makes of it.

        Raises:
            Unreadable: with the error's text. A check of one's own raises what it
                likes, and would keep all others back.
        """
        try:
            return read(self)
        except Exception as error:
            raise Unreadable(storable(error)) from error

    @property
    def failure(self) -> str:
        """Why it was not published this time, or nothing."""
        if self.pending is None or not self.pending.confirmed.done():
            return ""
        error = self.pending.confirmed.exception()
        if isinstance(error, Unpublishable):
            self.set_aside(error)
        return storable(error) if error else ""


def storable(reason: object) -> str:
    """Return a reason as every database takes it: no half of a character, no NUL."""
    text = outcome_of(lambda: str(reason))
    if not isinstance(text, str) or not text:
        text = type(reason).__name__
    text = text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    return text[:MOST_OF_A_REASON]


def sendable(about: dict[str, Any]) -> dict[str, Any]:
    """Return properties; ValueError here, and not an hour later in the relay."""
    taken = THE_MESSAGES_OWN & set(about)
    if taken:
        raise ValueError(f"{', '.join(sorted(taken))}: the message says that itself")
    try:
        BasicProperties(**about).encode()
    except Exception as error:
        raise ValueError(f"not to be sent with {about!r:.200}: {error}") from None
    return about


@cache
def statement(text: str) -> sa.TextClause:
    """Return a statement of SQL, the same object each time."""
    return sa.text(text)


def readable(rows: Sequence[StoredMessage]) -> list[StoredMessage]:
    """Return the rows that are not set aside."""
    return [row for row in rows if not row.reason]


class Store:
    """The tables of a ledger; what stands in them is the lesson's.

    `where` is a file of SQLite, ":memory:", or a URL of SQLite or PostgreSQL. Several
    threads and processes may share it; on several machines, take PostgreSQL.
    """

    def __init__(self, where: str | os.PathLike[str] | sa.URL = ":memory:") -> None:
        self.engine = engine_for(where)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        self._lock = threading.Lock()  # SQLite has one writer: the others wait here
        self._inside = threading.local()  # the transaction of this thread, if any
        self._relaying = threading.Lock()
        self._process = os.getpid()
        self._held: sa.Connection | None = None
        with self.engine.begin() as db:
            make_tables(db)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections to the database."""
        if self._held:
            self._held.close()
            self._held = None
        self.engine.dispose()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Take a turn at the database."""
        if getattr(self._inside, "is_open", False):
            raise RuntimeError("within a transaction, use the connection it gives you")
        self._leave_the_parents()
        with self._lock if self.is_sqlite else nullcontext():
            self._inside.is_open = True
            try:
                yield
            finally:
                self._inside.is_open = False

    def _leave_the_parents(self) -> None:
        """Have connections of our own, in a forked child."""
        if self._process != os.getpid():
            self._process = os.getpid()
            self._lock = threading.Lock()
            self._relaying = threading.Lock()
            self._held = None
            self.engine.dispose(close=False)

    @contextmanager
    def _connection(self, reads: bool = False) -> Iterator[sa.Connection]:
        """Yield a connection; the one to SQLite stays open, which is much faster."""
        if not self.is_sqlite:
            with self.engine.connect() as db:
                yield db
            return
        if self._held is None or self._held.closed or self._held.invalidated:
            self._held = self.engine.connect()
        self._held.info["reads"] = reads
        yield self._held

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """Commit what happens inside, or none of it."""
        with self._turn():
            try:
                with self._connection() as db, db.begin() as begun:
                    yield db
                    # Trap: a commit of what has failed or ended meanwhile says nothing.
                    if not begun.is_active or not is_open(db):
                        raise EndedInside(ENDED)
            finally:
                self._forget_mark()

    def _forget_mark(self) -> None:
        """Take back the mark of an effect that was committed, and then failed."""
        queue, message_id = self._inside.__dict__.pop("failed", ("", ""))
        if queue:
            inbox = ledger_tables().inbox
            this = (inbox.c.queue == queue) & (inbox.c.id == message_id)
            with self._connection() as db, db.begin():
                db.execute(inbox.delete().where(this))

    def read(self, ask: str, **values: object) -> list[tuple[Any, ...]]:
        """Return rows; never those of a transaction that may still be undone."""
        with self._turn(), self._connection(reads=True) as db:
            try:
                found = db.execute(statement(ask), values)
                return [tuple(row) for row in found]
            finally:
                db.rollback()

    def perform(
        self, db: sa.Connection, effect: Effect, queue: str, message_id: str = ""
    ) -> None:
        """Write an effect: call it, or record it if it is a text."""
        check_effect(effect)
        if callable(effect):
            try:
                refuse_unrun(effect(db))
            except BaseException:
                # It has committed its beginning, with our mark: the rest is missing.
                if not db.in_transaction():
                    self._inside.failed = (queue, message_id)
                raise
            return
        row = {"queue": queue, "id": message_id, "what": effect}
        db.execute(ledger_tables().record, row)

    def effects(self, queue: str) -> list[str]:
        """Return what was recorded because of a queue's messages, in order."""
        ask = "SELECT what FROM effects WHERE queue = :queue ORDER BY number"
        if self.is_sqlite:  # where a file of the last release has no number
            ask = ask.replace("number", "rowid")
        return [what for (what,) in self.read(ask, queue=queue)]

    def put_in_outbox(self, db: sa.Connection, messages: Sequence[Any]) -> None:
        """Store messages, or Outgoing, that a relay will publish.

        All carry the id of the first: the correlation id that they share, where they
        have none of their own. Raises ValueError for properties that no relay can send.
        """
        cause = ""
        for one in messages:
            outgoing = one if isinstance(one, Outgoing) else Outgoing(one)
            cause = cause or outgoing.message.id
            row = {
                "body": outgoing.message.to_json(),
                "cause": cause,
                "key": outgoing.key,
                "about": json.dumps(sendable(outgoing.about), allow_nan=False),
            }
            db.execute(ledger_tables().outbox.insert().values(row))

    @contextmanager
    def outbox(self, limit: int) -> Iterator[list[StoredMessage]]:
        """Yield rows that nobody else has in hand; forget those that are confirmed.

        What fails comes last the next time, so that it keeps no other back.
        """
        self._leave_the_parents()
        if self.is_sqlite:  # whose file knows no locks of rows
            with self._relaying, self._only_relay() as is_free:
                rows = []
                if is_free:
                    with self._turn(), self._connection(reads=True) as db:
                        try:
                            rows = self._rows(db, limit)
                        finally:
                            db.rollback()
                try:
                    yield readable(rows)
                finally:
                    with self.transaction() as db:
                        self._settle(db, rows)
            return
        with self.engine.connect() as db:
            rows = self._rows(db, limit)  # locked until the commit
            try:
                yield readable(rows)
            finally:
                self._settle(db, rows)
                db.commit()

    @contextmanager
    def _only_relay(self) -> Iterator[bool]:
        """Keep the relays of other processes out; tell whether one kept us out.

        By the lock of a file beside the database, which ends with its process; one in
        the database would keep everybody from writing until the broker has answered.
        """
        path = self.engine.url.database
        if path in (None, "", ":memory:"):
            yield True
            return
        with closing(sqlite3.connect(f"{path}-relay", timeout=DEADLINE)) as lock:
            try:
                lock.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError as error:
                if str(error) not in LOCKED:
                    raise
                yield False
            else:
                yield True

    def _rows(self, db: sa.Connection, limit: int) -> list[StoredMessage]:
        columns = ledger_tables().outbox.c
        ask = (
            sa.select(
                columns.number, columns.body, columns.cause, columns.key, columns.about
            )
            .where(columns.aside == 0)
            .order_by(columns.tries, columns.number)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        rows = []
        for number, body, cause, key, about in db.execute(ask):
            row = StoredMessage(number, body or "", cause, key)
            try:
                row.about = dict(strict_json(about or "{}"))
            except (ValueError, TypeError):
                row.set_aside("its properties are not JSON")
            rows.append(row)
        return rows

    def _settle(self, db: sa.Connection, rows: Sequence[StoredMessage]) -> None:
        this = ledger_tables().outbox.c.number == sa.bindparam("row")
        confirmed = []
        failed = []
        for row in rows:
            if row.pending is not None and row.pending.is_confirmed:
                confirmed.append({"row": row.number})
            elif why := row.failure or row.reason:
                aside = int(bool(row.reason))
                failed.append({"row": row.number, "why": why, "off": aside})
        if confirmed:
            db.execute(ledger_tables().outbox.delete().where(this), confirmed)
        if failed:
            change = {
                "tries": ledger_tables().outbox.c.tries + 1,
                "reason": sa.bindparam("why"),
                "aside": sa.bindparam("off"),
            }
            db.execute(
                ledger_tables().outbox.update().where(this).values(change), failed
            )

    def set_aside(self) -> list[tuple[Any, ...]]:
        """Return what no relay can publish: number, body, reason."""
        return self.read("SELECT number, body, reason FROM outbox WHERE aside = 1")

    def publish_again(self, number: int) -> None:
        """Have a relay try once more what was set aside, its cause being mended."""
        row = ledger_tables().outbox.c.number == number
        with self.transaction() as db:
            db.execute(
                ledger_tables().outbox.update().where(row).values(aside=0, reason=None)
            )
