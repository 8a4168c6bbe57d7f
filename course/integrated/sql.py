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
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql, sqlite

from course.integrated.spans import Span
from course.integrated.task import Task

TABLES = """
CREATE TABLE inbox (queue text, id text, done integer, PRIMARY KEY (queue, id));
CREATE TABLE purchases (id text, customer text, day integer, cents integer);
CREATE INDEX by_customer ON purchases (customer);
CREATE TABLE spans
    (hop text, started double precision, seconds double precision, messages integer)
"""
BUY = "INSERT INTO purchases VALUES (:id, :customer, :day, :cents)"
TOOK = "INSERT INTO spans VALUES (:hop, :started, :seconds, :messages)"
DONE = "UPDATE inbox SET done = 1 WHERE queue = :queue AND id IN :ids"
APPLIED = """SELECT queue, count(*) AS messages FROM inbox
             WHERE done = 1 GROUP BY queue"""
INBOX = sa.table("inbox", sa.column("queue"), sa.column("id"), sa.column("done"))


@dataclass(frozen=True, order=True)
class Person:
    """A customer, as every store should know them."""

    username: str
    email: str
    since: datetime


@dataclass(frozen=True)
class SqlAddress:
    """How another process reaches the same tables."""

    url: str  # with its password
    schema: str


class Database:
    """The tables of a run, and what the programs do with them."""

    def __init__(self, lesson: Any, engine: sa.Engine) -> None:
        self.lesson = lesson
        self.engine = engine
        self.sessions = orm.sessionmaker(engine)

    def create_tables(self) -> None:
        """Take lesson 01's own users away, and create our tables."""
        with self.engine.begin() as connection:
            connection.execute(sa.delete(self.lesson.User))
            for statement in TABLES.split(";"):
                connection.exec_driver_sql(statement)

    def address(self) -> SqlAddress:
        """Return how a worker reaches this database."""
        url = self.engine.url.render_as_string(hide_password=False)
        schema = ""
        if self.engine.dialect.name == "postgresql":
            schema = self.rows("SELECT current_schema()")[0][0]
        return SqlAddress(url, schema)

    def rows(self, statement: str, **values: Any) -> list[Any]:
        """Return the rows of a query."""
        with self.engine.connect() as connection:
            return list(connection.execute(sa.text(statement), values))

    def count(self, table: str) -> int:
        """Return how many rows a table has."""
        return int(self.rows(f"SELECT count(*) FROM {table}")[0][0])  # noqa: S608

    def empty(self, *tables: str) -> None:
        """Delete all rows of some tables."""
        with self.engine.begin() as connection:
            for table in tables:
                connection.exec_driver_sql(f"DELETE FROM {table}")  # noqa: S608

    def mark(self, session: orm.Session, queue: str, ids: Sequence[str]) -> set[str]:
        """Mark messages as applied by this transaction; return those that were not."""
        if self.engine.dialect.name == "postgresql":
            insert: Any = postgresql.insert(INBOX)
        else:
            insert = sqlite.insert(INBOX)
        new_ids = insert.on_conflict_do_nothing().returning(INBOX.c.id)
        marks = [{"queue": queue, "id": one, "done": 0} for one in ids]
        return set(session.scalars(new_ids, marks))

    def mark_done(
        self, session: orm.Session, queue: str, ids: Sequence[str], spans: list[Span]
    ) -> None:
        """Mark messages as done in every store, and note how long they took."""
        done = sa.text(DONE).bindparams(sa.bindparam("ids", expanding=True))
        session.execute(done, {"queue": queue, "ids": ids})
        session.execute(sa.text(TOOK), [asdict(span) for span in spans])

    def add_people(self, session: orm.Session, people: Iterable[Person]) -> None:
        """Add lesson 01's users. CDNOW knows no addresses: all share one."""
        address = session.scalars(sa.text("SELECT min(id) FROM addresses")).one()
        repository = self.lesson.UserRepository(session)
        for person in people:
            user = self.lesson.User(username=person.username, email=person.email)
            user.registered_at = person.since
            user.address_id = address
            repository.add(user)

    def add_purchases(self, session: orm.Session, rows: list[dict[str, Any]]) -> None:
        """Add orders. No foreign key: one may overtake its customer's sign-up."""
        if rows:
            session.execute(sa.text(BUY), rows)

    def people(self) -> list[Person]:
        """Return the users."""
        user = self.lesson.User
        ask = sa.select(user.username, user.email, user.registered_at)
        with self.engine.connect() as connection:
            return [Person(*row) for row in connection.execute(ask)]

    def applied(self) -> dict[str, int]:
        """Return how many messages of each queue have had their effect, everywhere."""
        return {row.queue: row.messages for row in self.rows(APPLIED)}

    @contextmanager
    def watching_queries(self) -> Iterator[list[str]]:
        """Collect the statements that this process sends."""
        with self.lesson.max_queries(math.inf, self.engine) as sent:
            yield sent


def open_database(lesson: Any, task: Task) -> Database:
    """Return the database that a task names, with an engine of its own."""
    url = sa.make_url(task.sql_url)
    if task.sql_schema:
        return Database(lesson, lesson.postgres_engine(url, task.sql_schema))
    return Database(lesson, lesson.sqlite_engine(Path(str(url.database))))
