"""SQL: lesson 01's engine and users, and three tables of our own beside them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, sessionmaker

from course.integrated.spans import Span
from course.integrated.task import Task

TABLES = """
CREATE TABLE inbox (queue text, id text, done integer, PRIMARY KEY (queue, id));
CREATE TABLE purchases (id text, customer text, day integer, cents integer);
CREATE INDEX by_customer ON purchases (customer);
CREATE TABLE spans
    (hop text, started double precision, seconds double precision, messages integer)
"""
INBOX = sa.table(
    "inbox",
    sa.column("queue"),
    sa.column("id"),
    sa.column("done"),
)
INSERT = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}
MARK_DONE = "UPDATE inbox SET done = 1 WHERE queue = :queue AND id IN :ids"
IDS: sa.BindParameter[Any] = sa.bindparam("ids", expanding=True)
DONE = sa.text(MARK_DONE).bindparams(IDS)
BUY = sa.text("INSERT INTO purchases VALUES (:id, :customer, :day, :cents)")
TOOK = sa.text("INSERT INTO spans VALUES (:hop, :started, :seconds, :messages)")
ADDRESS = sa.text("SELECT min(id) FROM addresses")  # CDNOW knows none: all share one
APPLIED = """SELECT queue, count(*) AS messages FROM inbox
             WHERE done = 1 GROUP BY queue"""

Row = dict[str, Any]
Ids = Iterable[str]  # of messages


@dataclass(frozen=True)
class Person:
    """A customer, as every store should know them."""

    username: str
    email: str
    since: datetime


class Database:
    """The tables of a run, and what the programs do with them."""

    def __init__(self, lesson: Any, engine: sa.Engine) -> None:
        self.lesson = lesson
        self.engine = engine
        self.sessions = sessionmaker(engine)
        self.dialect = engine.dialect.name

    def create_tables(self) -> None:
        """Take lesson 01's own users away, and create our tables."""
        with self.engine.begin() as connection:
            connection.execute(sa.delete(self.lesson.User))
            for statement in TABLES.split(";"):
                connection.exec_driver_sql(statement)

    def url(self) -> str:
        """Return how a worker reaches this database: with its password."""
        if self.dialect == "sqlite":
            return str(self.engine.url.database)  # not each path can stand in a URL
        return self.engine.url.render_as_string(hide_password=False)

    def schema(self) -> str:
        """Return where our tables are; empty on SQLite, which has no schemas."""
        if self.dialect == "sqlite":
            return ""
        return str(self.value("SELECT current_schema()"))

    def rows(self, statement: str, **values: Any) -> list[Any]:
        """Return the rows of a query."""
        query = sa.text(statement)
        with self.engine.connect() as connection:
            return list(connection.execute(query, values))

    def value(self, statement: str, **values: Any) -> Any:
        """Return what a query finds, if that is one value."""
        (row,) = self.rows(statement, **values)
        return row[0]

    def empty(self, *tables: str) -> None:
        """Delete all rows of some tables."""
        with self.engine.begin() as connection:
            for table in tables:
                connection.exec_driver_sql(f"DELETE FROM {table}")  # noqa: S608

    def mark(self, session: Session, queue: str, ids: Ids) -> set[str]:
        """Mark messages as applied by this transaction; return those that were not."""
        marks = []
        for one in ids:
            marks.append({"queue": queue, "id": one, "done": 0})
        insert: Any = INSERT[self.dialect](INBOX)
        # The database tells which marks are new: a look before the insert could be
        # overtaken by another worker with the same message.
        insert = insert.on_conflict_do_nothing()
        new_ids = session.scalars(insert.returning(INBOX.c.id), marks)
        return set(new_ids)

    def claim_once(self, what: str) -> bool:
        """Claim something; tell whether no process of the run had claimed it before."""
        with self.sessions.begin() as session:
            return bool(self.mark(session, "", [what]))

    def mark_done(self, session: Session, queue: str, ids: Ids) -> None:
        """Mark messages as done in every store."""
        values = {"queue": queue, "ids": list(ids)}
        session.execute(DONE, values)

    def add_spans(self, session: Session, spans: Iterable[Span]) -> None:
        """Note how long messages took."""
        rows = [asdict(span) for span in spans]
        session.execute(TOOK, rows)

    def add_people(self, session: Session, people: Iterable[Person]) -> None:
        """Add lesson 01's users."""
        address = session.scalars(ADDRESS).one()
        repository = self.lesson.UserRepository(session)
        for person in people:
            user = self.lesson.User(username=person.username)
            user.email = person.email
            user.registered_at = person.since
            user.address_id = address
            repository.add(user)

    def add_purchases(self, session: Session, rows: Sequence[Row]) -> None:
        """Add orders. No foreign key: one may overtake its customer's sign-up."""
        if rows:
            session.execute(BUY, rows)

    def people(self) -> list[Person]:
        """Return the users."""
        user = self.lesson.User
        query = sa.select(user.username, user.email, user.registered_at)
        with self.engine.connect() as connection:
            rows = connection.execute(query)
            return [Person(*row) for row in rows]

    def applied(self) -> dict[str, int]:
        """Return how many messages of each queue have had their effect, everywhere."""
        rows = self.rows(APPLIED)
        return {row.queue: row.messages for row in rows}

    @contextmanager
    def watching_queries(self) -> Iterator[list[str]]:
        """Collect the statements that this process sends."""
        no_limit = math.inf
        with self.lesson.max_queries(no_limit, self.engine) as sent:
            yield sent


def open_database(lesson: Any, task: Task) -> Database:
    """Return the database that a task names, with an engine of its own."""
    if task.sql_schema:
        engine = lesson.postgres_engine(sa.make_url(task.sql_url), task.sql_schema)
    else:
        engine = lesson.sqlite_engine(Path(task.sql_url))
    return Database(lesson, engine)
