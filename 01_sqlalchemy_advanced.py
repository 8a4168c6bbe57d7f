"""SQL without surprises: the same rows and the same answers on SQLite and PostgreSQL.

You will see, in order: (1) transactions that end whole, (2) constraints and instants
that hold, (3) filters that no input escapes, (4) 126 queries become 4 or 1, (5) figures
equal to plain Python, (6) a unit of work that leaves nothing behind, (7) lost updates
and write skew with their cures, (8) a pool that fails fast and recovers, (9) rows in
and out in bulk and as frames, and (10) a migration without downtime.

Run:     python 01_sqlalchemy_advanced.py [--list] [--only NAME ...]
Service: PostgreSQL at $DATABASE_URL or --url, in a schema of its own; with
         --require-live and nothing set, postgresql://postgres@127.0.0.1:5432/postgres.
Without: SQLite, a real engine, in a temporary file. It runs one writer at a time and
         in this process: no write skew, killed back end or COPY to show. Without pandas
         (optional) there are no frames.
Runtime: about three seconds, a dozen on PostgreSQL.
Guide:   COMPREHENSIVE_GUIDE.md, chapter 1.
"""

# /// script
# requires-python = ">=3.11"
# dependencies = ["sqlalchemy>=2.1,<2.2", "psycopg[binary]>=3.2,<4", "alembic>=1.19,<2",
#                 "python-dotenv>=1.2.2,<2", "rich>=13.7,<16"]
# ///

from __future__ import annotations

import course.start  # noqa: F401  (first: it says in one line what is missing)

# isort: split

# region imports
import argparse
import math
import random
import sqlite3
import string
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import sqlalchemy as sa
from alembic.operations import Operations
from sqlalchemy import event, exc, func, insert, orm, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, Session, mapped_column, raiseload, relationship

# endregion imports
from course.claims import at_least, less_than, more_than, other_than
from course.console import Lesson, check, fact, table, write
from course.errors import Skip
from course.lab import outcome_of, raises, start_together
from course.sql.answers import (
    plain_cohorts,
    plain_country_statistics,
    plain_ranks,
    plain_shares,
    plain_top,
    plain_user_statistics,
    rounded,
    seen_after,
    whole,
)
from course.sql.backends import code_of
from course.sql.changes import (
    Step,
    connection_for_changes,
    drift,
    offline_sql,
    refuse_no_size,
    refuse_orphans,
)
from course.sql.checks import BigWhole, Whole, can_be_stored, refuse_as_postgres
from course.sql.connection import (
    bound_waits,
    end_what_is_left_open,
    line_limits,
    set_in_transactions,
)
from course.sql.database import Database, Openers, open_database
from course.sql.experiments import (
    changed_rows,
    is_refused,
    left_after_rollback,
    uses_after_a_kill,
    visited,
)
from course.sql.frames import frame_type, pandas_or_skip, rows_of
from course.sql.measure import peak_bytes
from course.sql.members import OldCode, members
from course.sql.months import Cohort, MonthOf, months_between
from course.sql.rebuild import operations_on
from course.sql.seed import LATE_EVENING, NEW_YEAR, USERS, population, readings
from course.sql.tables import table_of

LIMIT = 10  # seconds for a lock, a statement or a thread: no wait is endless
ROWS = 5_000  # of the bulk section; at 50,000 it takes half a minute
CHUNK = 1_000  # rows per round trip: more saves little and holds more memory
PAGE = 50  # users per page
ACTIVE = 20  # logins that make a user active

T = TypeVar("T")


# %% [markdown]
# ## 1. Engines: transactions that are transactions


# %%
# region engines
def naive_engine(path: Path) -> sa.Engine:
    """Return an engine on a file as create_engine leaves it."""
    # Not f"sqlite:///{path}": there a %20 in the path would be read as a space.
    url = sa.URL.create("sqlite", database=str(path))
    return sa.create_engine(url)


def sqlite_engine(path: Path, timeout: float = LIMIT, **options: Any) -> sa.Engine:
    """Unlike naive: a rollback undoes everything, and foreign keys are checked.

    Each transaction takes the write lock when it begins, and waits up to `timeout`
    seconds for it. The price: transactions that only read wait for each other, too.
    """
    url = sa.URL.create("sqlite", database=str(path))
    # Trap: left alone, the driver begins at the first write, so what comes
    # before, a CREATE TABLE too, is committed at once. With None it does not;
    # `begin` below does.
    arguments = {"timeout": timeout, "isolation_level": None}
    engine = sa.create_engine(url, connect_args=arguments, **options)

    @event.listens_for(engine, "connect")
    def set_up(connection: sqlite3.Connection, _: object) -> None:
        # Off by default, and a setting of each single connection.
        connection.execute("PRAGMA foreign_keys = ON")
        # Other programs can read the last commit while this one writes.
        connection.execute("PRAGMA journal_mode = WAL")
        # A power cut may undo the last commits, never half of one; FULL syncs each.
        connection.execute("PRAGMA synchronous = NORMAL")

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # A plain BEGIN takes the lock at the first write. Of two transactions that
        # have read the same row, one would then fail to write it.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    end_what_is_left_open(engine)
    return engine


# endregion engines


# region postgres-engine
def postgres_engine(
    url: sa.URL, schema: str, limit: float = LIMIT, **options: Any
) -> sa.Engine:
    """Return an engine that works in one schema and in UTC, and limits each wait.

    It waits up to `limit` seconds for a lock, six times as long for a statement. It
    works behind a pooler. The price: one more round trip per transaction. Nothing
    holds for a raw_connection(), whose transactions SQLAlchemy does not begin.
    """
    settings = {
        # Temporary tables, of a session that others used before, come last.
        "search_path": f"{schema}, pg_temp",
        "timezone": "UTC",
        "datestyle": "ISO",  # the only one that the driver can read
        "lock_timeout": f"{limit}s",
        "statement_timeout": f"{6 * limit}s",
        "idle_in_transaction_session_timeout": "60s",
    }
    # Where the user's default is another, some demo's conflicts would be errors.
    options.setdefault("isolation_level", "READ COMMITTED")
    # What the URL says itself goes first.
    engine = sa.create_engine(url, connect_args=line_limits(url), **options)
    # The server may fall silent, too: then the client gives up, a little later.
    bound_waits(engine, idle=limit, busy=7 * limit)
    # Trap: setting these when it connects. A pooler refuses that or forgets it, and
    # gives the next transaction another session: without our schema, DELETE would
    # empty somebody's table of the same name.
    set_in_transactions(engine, settings)
    return engine


# endregion postgres-engine


def fill(engine: sa.Engine) -> None:
    """Create the tables of section 2 and their 600 users, before their first use."""
    # Called when a demo first asks for env.engine: section 1 needs no tables yet.
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add_all(population(Country, City, Address, User))
        session.flush()
        session.execute(text("ANALYZE users"))  # the planner knows the sizes


def open_env(args: argparse.Namespace) -> AbstractContextManager[Database]:
    """Open PostgreSQL if one is named and answers, else SQLite; clean up at the end."""
    openers = Openers(
        sqlite=sqlite_engine, postgres=postgres_engine, naive=naive_engine, fill=fill
    )
    return open_database(args, openers)


lesson = Lesson(
    "SQL without surprises: the same rows and answers on SQLite and PostgreSQL.",
    open_env,
)


@lesson.demo
def engines(env: Database) -> None:
    """Engines: a rollback takes back everything"""
    left = {
        "sqlite3's defaults": left_after_rollback(env.naive),
        "this engine": left_after_rollback(env.connect()),
    }
    table_of("left after rollback", left)
    check(
        "a rollback takes SAVEPOINTs and tables along",
        observed=left,
        expected={
            "sqlite3's defaults": {"SAVEPOINT": 1, "DDL": 1},
            "this engine": {"SAVEPOINT": 0, "DDL": 0},
        },
    )


# %% [markdown]
# ## 2. Model: what the database itself refuses


# %%
# region utc
class Utc(sa.TypeDecorator[datetime]):
    """An instant: aware in, UTC in the database, aware out; never a naive one."""

    # Trap: DateTime(timezone=True) alone. SQLite drops the offset without a word,
    # and PostgreSQL takes a naive value to be in the time zone of the session.
    impl = sa.DateTime(timezone=True)
    # The type has no parameters: statements with it may be compiled once and kept.
    cache_ok = True

    def process_bind_param(
        self, value: datetime | None, dialect: sa.Dialect
    ) -> datetime | None:
        """Convert to UTC; raise ValueError (outside: StatementError) if naive."""
        if value is None:
            return None
        if not isinstance(value, datetime) or value.utcoffset() is None:
            kind = type(value).__name__
            raise ValueError(f"a {kind} without a time zone names no instant")
        return value.astimezone(UTC)

    def process_result_value(
        self, value: datetime | None, dialect: sa.Dialect
    ) -> datetime | None:
        """Attach UTC where the database (SQLite) has lost it."""
        if value is None:
            return None
        if value.tzinfo is None:
            return value.replace(tzinfo=UTC)
        return value.astimezone(UTC)


# endregion utc


# Bytewise order on both: PostgreSQL's default follows the language of the server.
NAME = sa.String(80).with_variant(sa.String(80, collation="C"), "postgresql")
Name = Annotated[str, mapped_column(NAME)]
Key = Annotated[int, mapped_column(primary_key=True)]


class Base(orm.DeclarativeBase):
    """All tables. Every constraint gets a name, or no migration could drop it."""

    # Trap: 1.5 for an integer. PostgreSQL rounds it without a word; Whole refuses it.
    type_annotation_map = {datetime: Utc(), int: Whole()}  # noqa: RUF012
    metadata = sa.MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )


# region places
class Country(Base):
    """A country with its population and its GDP per capita in US dollars."""

    __tablename__ = "countries"
    id: Mapped[Key]
    name: Mapped[Name] = mapped_column(unique=True)
    population: Mapped[int] = mapped_column(BigWhole)
    gdp_per_capita: Mapped[int]
    cities: Mapped[list[City]] = relationship(back_populates="country")


class City(Base):
    """A city of a country."""

    __tablename__ = "cities"
    id: Mapped[Key]
    name: Mapped[Name]
    country_id: Mapped[int] = mapped_column(
        sa.ForeignKey("countries.id"),
        index=True,
    )
    country: Mapped[Country] = relationship(back_populates="cities")
    addresses: Mapped[list[Address]] = relationship(back_populates="city")


class Address(Base):
    """A street and house number in a city."""

    __tablename__ = "addresses"
    id: Mapped[Key]
    street: Mapped[Name]
    city_id: Mapped[int] = mapped_column(sa.ForeignKey("cities.id"), index=True)
    city: Mapped[City] = relationship(back_populates="addresses")
    users: Mapped[list[User]] = relationship(back_populates="address")


# endregion places


# region user
class User(Base):
    """A user. Money is whole cents, as SQLite has no decimals; NULL: none spent."""

    __tablename__ = "users"
    id: Mapped[Key]
    username: Mapped[Name] = mapped_column(unique=True)
    email: Mapped[Name]
    registered_at: Mapped[datetime]
    last_seen_at: Mapped[datetime | None]
    logins: Mapped[int] = mapped_column(default=0)
    # 32 bits would end at 21 million, in cents.
    spent_cents: Mapped[int | None] = mapped_column(BigWhole)
    address_id: Mapped[int] = mapped_column(
        sa.ForeignKey("addresses.id"),
        index=True,
    )
    address: Mapped[Address] = relationship(back_populates="users")
    __table_args__ = (
        # SQLite ignores the 80 of String(80); a check holds on both.
        sa.CheckConstraint(
            "length(username) BETWEEN 1 AND 80",
            name="username_length",
        ),
        sa.CheckConstraint("length(email) BETWEEN 1 AND 80", name="email_length"),
        # One address in two spellings is one address.
        sa.Index("uq_users_email", text("lower(email)"), unique=True),
        # Finds a page of section 4 without sorting all users.
        sa.Index(None, "registered_at", "id"),
    )


# endregion user

NAIVE_USERS = sa.Table(  # the users of a tutorial
    "naive_users",
    Base.metadata,
    sa.Column("username", sa.String(80)),
    sa.Column("email", sa.String(80)),
    sa.Column("registered_at", sa.DateTime(timezone=True)),
    sa.Column("logins", sa.Integer),
    sa.Column("address_id", sa.ForeignKey("addresses.id")),
)


class Tally(Base):
    """A number that threads fight over; each UPDATE of an object checks its version."""

    __tablename__ = "tallies"
    name: Mapped[Name] = mapped_column(primary_key=True)
    n: Mapped[int] = mapped_column(default=0)
    version: Mapped[int] = mapped_column(default=1)
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012


class Reading(Base):
    """One measurement, for what needs volume."""

    __tablename__ = "readings"
    id: Mapped[Key]
    sensor: Mapped[Name]
    value: Mapped[int]


# Trap: a type per column is PostgreSQL's. SQLite has one per value, and stores 'abc'.
refuse_as_postgres(Base)

Row = dict[str, Any]


def show_instants(env: Database) -> None:
    """Bring a late evening in New York through the database and back."""
    plain_column = sa.literal(LATE_EVENING, sa.DateTime(timezone=True))
    utc_column = sa.literal(LATE_EVENING, Utc())
    with env.naive.connect() as connection:
        moved = connection.scalars(select(plain_column)).one()
    with env.engine.connect() as connection:
        kept = connection.scalars(select(utc_column)).one()
    fact("22:30 at -05:00 in a plain column", moved)
    fact("22:30 at -05:00 in a Utc column", kept)
    check(
        "an instant comes back as that instant",
        observed={
            "plain": moved,
            "Utc": kept,
        },
        expected={
            "plain": other_than(LATE_EVENING),
            "Utc": LATE_EVENING,
        },
    )


@lesson.demo
def model(env: Database) -> None:
    """Model: constraints and instants that hold on both databases"""
    Base.metadata.create_all(env.naive)
    sound: Row = {"username": "x", "email": "x", "address_id": 1}
    sound |= {"registered_at": NEW_YEAR, "logins": 0}
    # What is wrong with each user; the rest is sound.
    users: dict[str, Row] = {
        "a sound user": {},
        "a home that does not exist": {"address_id": 999},
        "a datetime without a time zone": {"registered_at": datetime(2025, 1, 1)},
        "a name of 81 letters": {"username": "x" * 81},
        "a text for a number": {"logins": "abc"},
    }
    refused = {}
    for what, change in users.items():
        row = sound | change
        refused[what] = {
            "by sqlite3's defaults": is_refused(env.naive, NAIVE_USERS, row),
            "by this model": is_refused(env.engine, User, row),
        }
    table_of("is refused", refused)
    by_none = {"by sqlite3's defaults": False, "by this model": False}
    by_the_model = {"by sqlite3's defaults": False, "by this model": True}
    check("stored: a sound user", refused.pop("a sound user"), by_none)
    for what, observed in refused.items():
        check(f"refused: {what}", observed, by_the_model)
    show_instants(env)


# %% [markdown]
# ## 3. Queries: what a stranger types stays a value

# %%
# region pasted
LIVING_IN = """
    SELECT users.* FROM users
    JOIN addresses ON addresses.id = users.address_id
    JOIN cities ON cities.id = addresses.city_id
    WHERE cities.name = """


def find_users_by_city_naive(session: Session, city_name: str) -> list[User]:
    """Paste the name into the statement, which the name may rewrite."""
    # A quote in the name ends the literal, and the rest of the name is run as SQL.
    sql = text(f"{LIVING_IN} '{city_name}'")
    users = select(User).from_statement(sql)
    return list(session.scalars(users))


# endregion pasted


def find_users_by_name_part_naive(session: Session, part: str) -> list[User]:
    """Bind the part, but use it as a pattern."""
    matches = User.username.ilike(f"%{part}%")
    users = select(User).where(matches)
    return list(session.scalars(users))


# Each user's home, by joins; any other relation raises when touched, instead of costing
# a query each.
TO_COUNTRY = orm.joinedload(User.address).joinedload(Address.city)
WITH_HOME = (TO_COUNTRY.joinedload(City.country), raiseload("*"))
# The letters that lower() changes in SQLite, and in PostgreSQL with collation "C".
A_TO_Z = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


# region user-queries
class UserQueries:
    """Users of one session; touching a relation that was not loaded is an error."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def _find(self, *where: sa.ColumnElement[bool], given: str = "") -> list[User]:
        # SQLite ends a pattern at NUL, and PostgreSQL takes none.
        if not can_be_stored(given):
            return []
        users = select(User).where(*where).order_by(User.id)
        users = users.join(User.address)
        users = users.join(Address.city)
        users = users.join(City.country)
        # contains_eager fills the objects from the joins that the filter needs.
        address = orm.contains_eager(User.address)
        city = address.contains_eager(Address.city)
        country = city.contains_eager(City.country)
        users = users.options(country, raiseload("*"))
        return list(self.session.scalars(users))

    def find_users_by_country(self, country_name: str) -> list[User]:
        """Return a country's users by id, each with address, city and country."""
        return self._find(Country.name == country_name, given=country_name)

    def find_users_by_city(self, city_name: str) -> list[User]:
        """Return a city's users by id, each with address, city and country."""
        return self._find(City.name == city_name, given=city_name)

    def find_users_by_name_part(self, part: str) -> list[User]:
        """Return users whose name contains the text, A-Z in any case; % is a %."""
        # Trap: a bound value cannot become SQL, but in LIKE it is still a pattern.
        # And no ordinary index helps to search inside names: every row is read.
        name = func.lower(User.username)
        folded = part.translate(A_TO_Z)
        return self._find(name.contains(folded, autoescape=True), given=part)

    # endregion user-queries

    def get_users_with_addresses(self) -> list[User]:
        """Return all users by id with address, city and country, in one query."""
        return self._find()

    def add(self, user: User) -> None:
        """Put a new user into the session; the unit of work commits."""
        self.session.add(user)

    def has_email(self, email: str) -> bool:
        """Tell whether somebody has this email, A-Z in any case."""
        # The same expression as in the unique index, which then serves this query.
        if not can_be_stored(email):
            return False
        folded = email.translate(A_TO_Z)
        same = sa.exists().where(func.lower(User.email) == folded)
        return self.session.scalars(select(same)).one()


@lesson.demo
def queries(env: Database) -> None:
    """Queries: what a stranger types stays a value"""
    attack = "Kyiv' OR '1'='1"
    with env.sessions() as session:
        pasted = len(find_users_by_city_naive(session, attack))
        wild = len(find_users_by_name_part_naive(session, "_s"))
        users = UserQueries(session)
        bound = len(users.find_users_by_city(attack))
        escaped = [user.username for user in users.find_users_by_name_part("_S")]
        ukraine = len(users.find_users_by_country("Ukraine"))
        kyiv = len(users.find_users_by_city("Kyiv"))
    fact(f"users in {attack}", f"{pasted} pasted, {bound} bound")
    fact("user names with _s", f"{wild} as a pattern, {len(escaped)} escaped")
    check(
        "3 users live in Ukraine, 2 of them in Kyiv",
        observed={"Ukraine": ukraine, "Kyiv": kyiv},
        expected={"Ukraine": 3, "Kyiv": 2},
    )
    check(
        "SQL as a city's name finds nobody",
        observed={"pasted": pasted, "bound": bound},
        expected={"pasted": USERS, "bound": 0},
    )
    check(
        "an underscore is a letter",
        observed={"as a pattern": wild, "escaped": escaped},
        expected={"as a pattern": more_than(1), "escaped": ["taras_s"]},
    )


# %% [markdown]
# ## 4. Loading: one query instead of 126, and pages that do not slip


# %%
# region budget
@contextmanager
def max_queries(limit: float, engine: sa.Engine) -> Iterator[list[str]]:
    """Collect the statements of an engine; raise AssertionError above `limit`.

    It counts all threads, and executemany as one: the driver is called once.
    """
    sent: list[str] = []

    def collect(_c: object, _u: object, statement: str, *_: object) -> None:
        # What section 1's engines send by themselves, to begin a transaction.
        if not statement.startswith(("BEGIN", "SET LOCAL")):
            sent.append(statement)

    event.listen(engine, "before_cursor_execute", collect)
    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", collect)
    # Not in `finally`: there it would hide an error of the block itself.
    if len(sent) > limit:
        raise AssertionError(f"{len(sent)} statements, {limit} allowed: {sent[-1]}")


# endregion budget


# region loading
def countries_lazy() -> sa.Select[Country]:
    """Every attribute read later is one more query: 1 + 5 + 20 + 100."""
    return select(Country)


def countries_selectin() -> sa.Select[Country]:
    """Unlike lazy: one query per level, for (up to 500) parents at once."""
    # SELECT ... WHERE country_id IN (...)
    cities = orm.selectinload(Country.cities)
    users = cities.selectinload(City.addresses).selectinload(Address.users)
    return select(Country).options(users)


def countries_joined() -> sa.Select[Country]:
    """Unlike selectin: one query that repeats each parent in every child's row."""
    cities = orm.joinedload(Country.cities)
    users = cities.joinedload(City.addresses).joinedload(Address.users)
    return select(Country).options(users)


# endregion loading

LOADS = {
    "lazy": countries_lazy,
    "selectin": countries_selectin,
    "joined": countries_joined,
}


def names_by(way: str, session: Session) -> list[str]:
    """Return the names of all users, by walking down all four levels."""
    names = []
    # Trap: a joined query returns a parent once per child; unique() drops the copies.
    for country in session.scalars(LOADS[way]()).unique():
        for city in country.cities:
            for address in city.addresses:
                names += [user.username for user in address.users]
    return sorted(names)


def walk(env: Database, way: str, limit: float = math.inf) -> tuple[int, list[str]]:
    """Return how many queries a walk takes, and the names it finds."""
    with env.sessions() as session, max_queries(limit, env.engine) as sent:
        names = names_by(way, session)
    return len(sent), names


# region paging
PAGE_KEY = (User.registered_at, User.id)
IN_ORDER = select(User.registered_at, User.id).order_by(*PAGE_KEY)


def page_by_offset(number: int) -> sa.Select[datetime, int]:
    """Skip the pages before this one: the database reads them all again."""
    return IN_ORDER.limit(PAGE).offset(number * PAGE)


def page_by_key(last: tuple[datetime, int]) -> sa.Select[datetime, int]:
    """Unlike offset: go on after the last row seen, straight from the index."""
    # Trap: without the id, users of the same instant get lost between two pages.
    # (registered_at, id) > (:at, :id), which both databases look up in the index.
    after = sa.tuple_(*PAGE_KEY) > last
    return IN_ORDER.where(after).limit(PAGE)


# endregion paging


def show_paging(env: Database) -> None:
    """Page by OFFSET and by key, while one more user registers after the first page."""
    next_pages: dict[str, Callable[..., Any]] = {
        "OFFSET": lambda number, _: page_by_offset(number),
        "key": lambda _, last: page_by_key(last),
    }
    pages = {}
    for way, next_page in next_pages.items():
        early = User(username="early", email="early", address_id=1)
        early.registered_at = NEW_YEAR - timedelta(days=1)  # on the first page
        with env.sessions() as session:
            ids = visited(session, page_by_offset(0), next_page, early)
        pages[way] = {"visits": len(ids), "users": len(set(ids))}
    table_of("600 users paged by", pages)
    check(
        "pages by key slip for nobody",
        observed=pages,
        expected={
            "OFFSET": {"visits": USERS + 1, "users": USERS},
            "key": {"visits": USERS, "users": USERS},
        },
    )


@lesson.demo
def loading(env: Database) -> None:
    """Loading: 126 queries, or 4, or 1, for the same 600 users"""
    queries = {}
    names = {}
    for way in LOADS:
        queries[way], names[way] = walk(env, way)
    table(("loading", "queries"), *queries.items())
    with env.engine.connect() as connection:  # plain rows, before the ORM folds them
        rows = connection.execute(countries_joined()).all()
    fact("rows of the joined query", f"{len(rows)}, each repeats its country")
    check(
        "126 queries lazy, 4 selectin, 1 joined",
        observed=queries,
        expected={
            "lazy": 126,
            "selectin": 4,
            "joined": 1,
        },
    )
    different = {tuple(found) for found in names.values()}
    check(
        "all three find the same 600 users",
        observed=[len(found) for found in different],
        expected=[USERS],  # one list, and not three
    )

    walk(env, "selectin", limit=4)  # which is enough, or it would raise
    over = raises(AssertionError, lambda: walk(env, "lazy", limit=4))
    check("a budget of 4 queries stops the lazy loop", over, True)
    with env.sessions() as session:
        # user.address is there already; its other users were not asked for.
        user = UserQueries(session).get_users_with_addresses()[0]
        lazily = raises(exc.InvalidRequestError, lambda: user.address.users)
    check("a repository's user raises instead of loading on the sly", lazily, True)
    show_paging(env)


# %% [markdown]
# ## 5. Figures: one query each, equal to plain Python


# %%
# region statistics
class UserRepository(UserQueries):
    """Unlike UserQueries: figures and ranks of users, computed by the database."""

    def get_user_statistics(self) -> dict[str, float | None]:
        """Return counts, logins and spending (whole cents), None without users."""
        spent = User.spent_cents
        share = func.cume_dist().over(order_by=spent).label("share")
        # Without the NULLs: those who never bought are in no percentile.
        curve = select(spent, share).where(spent.is_not(None)).subquery()

        def percentile(p: float) -> sa.ScalarSelect[Any]:
            # The least amount that a share p of the buyers does not exceed, as by
            # percentile_disc, which SQLite lacks. The price is cume_dist's sort.
            least = select(func.min(curve.c.spent_cents))
            return least.where(curve.c.share >= p).scalar_subquery()

        figures = {
            "users": func.count(User.id),
            "active": func.count().filter(User.logins >= ACTIVE),
            "buyers": func.count(spent),
            "logins_min": func.min(User.logins),
            "logins_max": func.max(User.logins),
            "spent_total": func.sum(spent),
            "spent_median": percentile(0.5),
            "spent_p90": percentile(0.9),
        }
        all_in_one = select(func.avg(User.logins), *figures.values())
        mean, *row = self.session.execute(all_in_one).one()
        statistics: dict[str, float | None] = {}
        for name, figure in zip(figures, row, strict=True):
            statistics[name] = whole(figure)
        # Trap: SQL's round(). PostgreSQL's takes no second argument with a double,
        # and rounds halves differently from Python. Round once, here, for both.
        statistics["logins_mean"] = rounded(mean)
        return statistics

    # endregion statistics

    def get_users_ranked_by_activity(self) -> list[tuple[int, User]]:
        """Return (rank, user) by logins; users with as many logins share a rank."""
        # row_number() would put ties in a random order.
        rank = func.rank().over(order_by=User.logins.desc())
        users = select(rank, User).order_by(rank, User.id)
        ranked = self.session.execute(users.options(*WITH_HOME))
        return [(place, user) for place, user in ranked]


def cities_joined_naively(session: Session) -> int:
    """Count cities behind two joins: each counts once per user."""
    cities = select(func.count(City.id))
    joined = cities.join(City.addresses).join(Address.users)
    return session.scalars(joined).one()


# region per-country
def per_country(*figures: Any) -> sa.Select[Any]:
    """Select figures per country, those without a city or a user too."""
    # Outer joins: inner ones would lose the countries where nobody lives.
    countries = select(Country.name, *figures).group_by(Country.id)
    cities = countries.outerjoin(Country.cities)
    return cities.outerjoin(City.addresses).outerjoin(Address.users)


# endregion per-country


class CountryStatistics(NamedTuple):
    """What the users of a country are and spend, beside its population and GDP."""

    country: str
    cities: int
    users: int
    spent_cents: int
    users_per_million: float | None  # of its population
    cents_per_user: float | None
    gdp_per_capita: int  # US dollars a year


class CountryRepository:
    """Countries of one session."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def get_all_countries_with_cities(self) -> list[Country]:
        """Return all countries by name with their cities, in two queries."""
        countries = select(Country).options(
            orm.selectinload(Country.cities), raiseload("*")
        )
        by_name = countries.order_by(Country.name)
        return list(self.session.scalars(by_name))

    # region country-statistics
    def get_country_statistics(self) -> list[CountryStatistics]:
        """Return a row per country, by name, those without a user too."""
        # Trap: joins multiply. A city counts once per user unless it is DISTINCT.
        cities = func.count(City.id.distinct())
        users = func.count(User.id)
        # PostgreSQL sums bigint to a decimal; after the cast it is an int on both.
        spent = sa.cast(func.sum(User.spent_cents), sa.BigInteger)
        spent_or_0 = func.coalesce(spent, 0)
        per_million = 1_000_000.0 * users / func.nullif(Country.population, 0)
        per_user = 1.0 * spent / func.nullif(users, 0)
        figures = per_country(
            cities, users, spent_or_0, per_million, per_user, Country.gdp_per_capita
        )
        rows = []
        for row in self.session.execute(figures.order_by(Country.name)):
            *counts, density, each, gdp = row
            found = (*counts, rounded(density), rounded(each), gdp)
            rows.append(CountryStatistics(*found))
        return rows

    # endregion country-statistics


def top_spending_naive(session: Session, count: int) -> list[int | None]:
    """Return the largest amounts spent, as desc() alone orders them on PostgreSQL."""
    # nulls_first is PostgreSQL's default for desc(); spelled out, SQLite does it, too.
    spent = User.spent_cents
    ordered = select(spent).order_by(spent.desc().nulls_first())
    return list(session.scalars(ordered.limit(count)))


class DataScienceAnalytics:
    """Questions about users, each answered by one query."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def get_user_distribution_by_country(self) -> list[tuple[str, int, float | None]]:
        """Return (country, users, percent of all users, if any), the largest first."""
        users = func.count(User.id)
        # A window over the groups: the sum of all countries' counts.
        everybody = func.nullif(func.sum(users).over(), 0)
        shares = per_country(users, 100.0 * users / everybody)
        rows = []
        ordered = shares.order_by(users.desc(), Country.name)
        for country, count, percent in self.session.execute(ordered):
            rows.append((country, count, rounded(percent)))
        return rows

    def get_user_metrics_by_registration_cohort(self) -> dict[date, Cohort]:
        """Return, by the month registered: users, buyers, cents, and when last seen."""
        # Both months are of UTC, whatever the session's time zone: see MonthOf.
        start = MonthOf(User.registered_at)
        end = MonthOf(User.last_seen_at)
        spent = User.spent_cents
        figures = select(start, end, func.count(), func.count(spent), func.sum(spent))
        in_order = figures.group_by(start, end).order_by(start)
        cohorts: dict[date, Cohort] = {}
        for month, last, users, buyers, cents in self.session.execute(in_order):
            cohort = cohorts.setdefault(month, Cohort())
            cohort.users += users
            cohort.buyers += buyers
            cohort.spent_cents += whole(cents) or 0
            cohort.seen[months_between(month, last)] += users
        return cohorts

    # region high-value
    def identify_high_value_users(self, tiles: int = 10) -> list[User]:
        """Return the first of `tiles` equal parts of all users by spending."""
        # Trap: a NULL is the greatest value on PostgreSQL and the least on SQLite.
        order = (User.spent_cents.desc().nulls_last(), User.id)
        # WHERE cannot use a window: number the users in a subquery, then choose.
        tile = func.ntile(tiles).over(order_by=order).label("tile")
        ranked = select(User.id, tile).subquery()
        users = select(User).join(ranked, ranked.c.id == User.id)
        first = users.where(ranked.c.tile == 1).order_by(*order)
        # Where few have bought, the first tile also holds people who have not.
        buyers = first.where(User.spent_cents.is_not(None))
        return list(self.session.scalars(buyers.options(*WITH_HOME)))

    # endregion high-value


def show_totals(session: Session, users: list[User]) -> None:
    """Count and add up: users, and per country."""
    statistics = UserRepository(session).get_user_statistics()
    for name, value in statistics.items():
        fact(name, value)
    expected = plain_user_statistics(users, ACTIVE)
    check("user statistics equal plain Python", statistics, expected)

    countries = CountryRepository(session).get_all_countries_with_cities()
    totals = CountryRepository(session).get_country_statistics()
    naive = cities_joined_naively(session)
    headings = [name.replace("_", " ") for name in CountryStatistics._fields]
    table(headings, *totals)
    fact("cities, if the join counts them", naive)
    check(
        "country statistics equal plain Python",
        observed={
            "totals": totals,
            "cities by a join": naive,
        },
        expected={
            "totals": plain_country_statistics(countries, users),
            "cities by a join": USERS,  # not 20
        },
    )


def show_ranks(session: Session, users: list[User]) -> None:
    """Rank by logins, with ties, and by spending, with NULLs."""
    ranked = UserRepository(session).get_users_ranked_by_activity()
    rows = []
    for rank, user in ranked[:3]:
        rows.append((rank, user.username, user.logins, user.address.city.name))
    table(("rank", "user", "logins", "lives in"), *rows)
    ranks = [rank for rank, _ in ranked]
    in_order = [user for _, user in ranked]
    check("users with as many logins share a rank", ranks, plain_ranks(in_order))

    top = DataScienceAnalytics(session).identify_high_value_users()
    nulls = top_spending_naive(session, len(top)).count(None)
    fact("non-buyers in PostgreSQL's top tenth", f"{nulls} of {len(top)}")
    check(
        "the top tenth are those who spent most",
        observed={
            "users": top,
            "non-buyers by desc() alone": nulls,
        },
        expected={
            "users": plain_top(users, USERS // 10),
            "non-buyers by desc() alone": more_than(0),
        },
    )


def show_groups(session: Session, users: list[User]) -> None:
    """Group by month of registration, and by country."""
    analytics = DataScienceAnalytics(session)
    cohorts = analytics.get_user_metrics_by_registration_cohort()
    seen = seen_after(1, 3, 6, cohorts=cohorts)
    headings = ("registered", "users", "buyers", "cents", "seen 1", "3", "6 months on")
    table(headings, *seen[:3])
    expected = plain_cohorts(users)
    check("cohorts equal plain Python, in months of UTC", cohorts, expected)
    shares = analytics.get_user_distribution_by_country()
    check("the shares equal plain Python, in percent", shares, plain_shares(users))


@lesson.demo
def figures(env: Database) -> None:
    """Figures: one query each, equal to plain Python on the same rows"""
    with env.sessions() as session:
        users = UserRepository(session).get_users_with_addresses()
        show_totals(session, users)
        show_ranks(session, users)
        show_groups(session, users)


# %% [markdown]
# ## 6. Transactions: what is not committed was never there


# %%
# region unit-of-work
class UnitOfWork(Session):
    """One transaction and its repositories; without commit() it leaves nothing.

    It holds a connection from its first query to its end. Never wait inside it for
    a person or another service.
    """

    @property
    def users(self) -> UserRepository:
        """The users, as this transaction sees and changes them."""
        return UserRepository(self)


# endregion unit-of-work


class FakeUsers:
    """Users in a list, to test a rule without a database."""

    def __init__(self) -> None:
        self.stored: list[User] = []

    def add(self, user: User) -> None:
        """Put a new user into the list."""
        self.stored.append(user)

    def has_email(self, email: str) -> bool:
        """Tell whether somebody has this email, A-Z in any case."""
        folded = email.translate(A_TO_Z)
        return any(user.email.translate(A_TO_Z) == folded for user in self.stored)


UserStore = UserRepository | FakeUsers


# region register
def register(users: UserStore, username: str, email: str, address_id: int) -> None:
    """Add a new user who lives at an address; ValueError if the email is taken."""
    # Trap: trusting this test. Two at once both pass it, and only the unique index
    # stops the second; the test is there for its message.
    if users.has_email(email):
        raise ValueError(f"{email} is taken")
    user = User(username=username, email=email, address_id=address_id)
    user.registered_at = datetime.now(UTC)
    users.add(user)


# endregion register

Person = tuple[str, str, int]  # username, email, address


def sign_up_one_by_one(engine: sa.Engine, people: Sequence[Person]) -> None:
    """Commit each person: where one fails, those before it stay."""
    for person in people:
        with UnitOfWork(engine) as uow:
            register(uow.users, *person)
            uow.commit()


# region sign-up
def sign_up_together(
    engine: sa.Engine, people: Sequence[Person], commit: bool = True
) -> None:
    """Unlike one by one: all or none."""
    with UnitOfWork(engine) as uow:
        for person in people:
            register(uow.users, *person)
        uow.flush()  # everything is written, and nobody else sees it
        if commit:
            uow.commit()


# endregion sign-up


def new_users(
    env: Database, sign_up: Callable[..., None], people: Sequence[Person]
) -> int:
    """Sign people up, which may fail; delete those who are stored, return how many."""
    with suppress(exc.IntegrityError):
        sign_up(env.engine, people)
    # Deleted, so that the next demo finds the 600 users again.
    new = sa.delete(User).where(User.id > USERS)
    new_ids = new.returning(User.id)
    with env.sessions.begin() as session:
        return len(session.scalars(new_ids).all())


def second_is_refused(users: UserStore) -> bool:
    """Register one email twice, in two spellings; tell whether the second fails."""
    register(users, "anna", "anna@example.org", 1)
    return raises(ValueError, lambda: register(users, "x", "ANNA@EXAMPLE.ORG", 1))


@lesson.demo
def transactions(env: Database) -> None:
    """Transactions: what is not committed was never there"""
    anna = ("anna", "anna@example.org", 1)
    second_olena = ("olena", "new@example.org", 1)  # the name is taken
    both = [anna, second_olena]
    without_commit = partial(sign_up_together, commit=False)
    left = {
        "half failed, a commit each": new_users(env, sign_up_one_by_one, both),
        "half failed, one unit of work": new_users(env, sign_up_together, both),
        "written, not committed": new_users(env, without_commit, [anna]),
        "committed": new_users(env, sign_up_together, [anna]),
    }
    table(("new users", "left"), *left.items())
    check(
        "only what is committed stays",
        observed=left,
        expected={
            "half failed, a commit each": 1,
            "half failed, one unit of work": 0,
            "written, not committed": 0,
            "committed": 1,
        },
    )
    with UnitOfWork(env.engine) as uow:
        real = second_is_refused(uow.users)
    with max_queries(0, env.engine):
        fake = second_is_refused(FakeUsers())
    check(
        "the rule is the same on a fake, without a query",
        observed={
            "database": real,
            "fake": fake,
        },
        expected={
            "database": True,
            "fake": True,
        },
    )


# %% [markdown]
# ## 7. Concurrency: lost updates, upserts, write skew, and what to retry

# %%
# region retry
Sessions = orm.sessionmaker[Session]
# How these codes begin: a conflict, a deadlock, "database is locked", an object
# that somebody else has changed. The same transaction may succeed next time.
# https://www.postgresql.org/docs/current/mvcc-serialization-failure-handling.html
# https://www.sqlite.org/rescode.html#busy
TRANSIENT = ("40001", "40P01", "SQLITE_BUSY", "StaleDataError")


def run_transaction(
    sessions: Sessions,
    work: Callable[[Session], T],
    attempts: int = 20,
    codes: tuple[str, ...] = TRANSIENT,
) -> T:
    """Run the whole unit of work in a transaction; again if others got in its way.

    `work` may run `attempts` times, so it must have no effect outside its session.
    The waits are random, at most 2 ms * 2**attempt or 250 ms ("full jitter",
    Brooker, AWS 2015). Any other error, and the last transient one, is raised
    unchanged. Objects that are returned keep their values (expire_on_commit=False).
    """
    # Trap: retrying only the statement that failed. What the work read before it,
    # and decided from, is out of date as well.
    attempt = 1
    while True:
        try:
            # A new session each time remembers nothing that was read before.
            with sessions(expire_on_commit=False) as session, session.begin():
                return work(session)
        except Exception as error:
            if attempt >= attempts or not code_of(error).startswith(codes):
                raise
        # At random: those who collided would otherwise collide again.
        longest = min(0.25, 0.002 * 2**attempt)
        time.sleep(random.uniform(0, longest))
        attempt += 1


# endregion retry


# region increments
Pause = Callable[[], object]  # what happens between reading and writing
ARE_CLICKS = Tally.name == "clicks"
CLICKS = select(Tally.n).where(ARE_CLICKS)
# Trap: an UPDATE that does not raise the version. A versioned writer cannot see it.
WRITE = update(Tally).where(ARE_CLICKS).values(version=Tally.version + 1)


def increment_naive(sessions: Sessions, pause: Pause) -> None:
    """Read, think, write: what a web form does."""
    with sessions() as session:
        n = session.scalars(CLICKS).one()
    pause()
    with sessions.begin() as session:
        session.execute(WRITE.values(n=n + 1))


def increment_atomic(sessions: Sessions, pause: Pause) -> None:
    """Unlike naive: the database reads and writes in one statement."""
    pause()
    with sessions.begin() as session:
        session.execute(WRITE.values(n=Tally.n + 1))


def increment_versioned(
    sessions: Sessions,
    pause: Pause,
    attempts: int = 200,
) -> None:
    """Unlike atomic: may think, without a lock; the second to write reads again."""

    def work(session: Session) -> None:
        # In a session of its own, so that none holds a connection during the pause.
        with sessions() as reading:
            tally = reading.get_one(Tally, "clicks")
        pause()  # an hour in front of a form, if need be
        tally.n += 1
        session.add(tally)  # UPDATE ... WHERE version = the one that was read

    run_transaction(sessions, work, attempts)


# endregion increments


# region in-the-transaction
def increment_locked(sessions: Sessions, pause: Pause) -> None:
    """Unlike versioned: thinks in the transaction, while all others wait."""
    with sessions.begin() as session:
        # SELECT ... FOR UPDATE; SQLite has no such lock: its whole file is locked.
        n = session.scalars(CLICKS.with_for_update()).one()
        pause()
        session.execute(WRITE.values(n=n + 1))


def increment_in_transaction(
    sessions: Sessions, pause: Pause, attempts: int = 1
) -> None:
    """Unlike locked: nobody waits; right only if the database refuses conflicts."""

    def work(session: Session) -> None:
        n = session.scalars(CLICKS).one()
        pause()
        session.execute(WRITE.values(n=n + 1))

    run_transaction(sessions, work, attempts)


def increment_retried(sessions: Sessions, pause: Pause) -> None:
    """Unlike in one transaction alone: one that is refused begins again."""
    increment_in_transaction(sessions, pause, attempts=200)


# endregion in-the-transaction


def think() -> None:
    """Take a moment, long enough for others to come in between."""
    time.sleep(0.001)


def clicks_after(
    engine: sa.Engine, increment: Callable[..., None], pause: Pause
) -> int:
    """Let 4 threads increment 25 times each; return the number that comes out."""
    sessions = orm.sessionmaker(engine)
    with sessions.begin() as session:
        session.merge(Tally(name="clicks", n=0))  # again from 0

    def increment_25_times() -> None:
        for _ in range(25):
            outcome_of(lambda: increment(sessions, pause))  # a refused one is lost

    start_together([increment_25_times] * 4)
    with sessions() as session:
        return session.scalars(CLICKS).one()


def show_increments(env: Database) -> None:
    """Count what is left of 100 increments."""
    strict = env.strict()
    Base.metadata.create_all(env.naive)
    all_have_read = threading.Barrier(4)  # and none has written yet
    meet = partial(all_have_read.wait, LIMIT)
    lossy = {
        "naive": clicks_after(env.engine, increment_naive, meet),
        "one transaction, sqlite3's defaults": clicks_after(
            env.naive, increment_in_transaction, meet
        ),
    }
    # A lock would keep them from meeting, so these only think for a moment.
    safe = {
        "atomic": clicks_after(env.engine, increment_atomic, think),
        "versioned": clicks_after(env.engine, increment_versioned, think),
        "locked": clicks_after(env.engine, increment_locked, think),
        "retried": clicks_after(strict, increment_retried, think),
    }
    # The control of `safe`: the same load, unprotected.
    unprotected = max(
        clicks_after(env.engine, increment_naive, think),
        clicks_after(strict, increment_in_transaction, think),
    )
    table(("increment", "of 100"), *lossy.items(), *safe.items())
    fewer = less_than(100)
    check("read, think, write loses updates", lossy, dict.fromkeys(lossy, fewer))
    for name, clicks in safe.items():
        check(
            f"{name}: 100 of 100",
            observed={
                name: clicks,
                "unprotected, the same load": unprotected,
            },
            expected={
                name: 100,
                "unprotected, the same load": fewer,
            },
        )


def insert_hit(session: Session, name: str) -> None:
    """Insert a number, which only the first hit of a page can do."""
    session.execute(insert(Tally).values(name=name, n=1))


# region upsert
DIALECTS: dict[str, Any] = {"postgresql": postgresql, "sqlite": sqlite}


def count_hit(session: Session, name: str) -> Tally:
    """Insert a number or add one to it in one statement; return it as it is now."""
    dialect = DIALECTS[session.get_bind().dialect.name]
    new = dialect.insert(Tally).values(name=name, n=1)
    # Trap: an upsert does not apply onupdate=. Nor does it refresh an object that
    # the session already holds, without populate_existing.
    changes = {"n": Tally.n + 1, "version": Tally.version + 1}
    upsert = new.on_conflict_do_update(index_elements=[Tally.name], set_=changes)
    fresh = upsert.returning(Tally).execution_options(populate_existing=True)
    return session.execute(fresh).scalar_one()  # type: ignore[no-any-return]


# endregion upsert


def hit_by_eight(env: Database, hit: Callable[..., object], name: str) -> int:
    """Let eight threads count the first hit of a page; return how many succeed."""
    work = partial(hit, name=name)
    visitor = partial(run_transaction, env.sessions, work)
    outcomes = start_together([visitor] * 8)
    return sum(not isinstance(outcome, Exception) for outcome in outcomes)


def show_upsert(env: Database) -> None:
    """Race for a row that is not there yet."""
    env.close_idle()  # of the increments: eight more are needed at once
    inserts = hit_by_eight(env, insert_hit, "/insert")
    upserts = hit_by_eight(env, count_hit, "/upsert")
    with env.sessions() as session:
        hits = session.get_one(Tally, "/upsert").n
    fact("8 hits at once, by INSERT", f"{inserts} ok, {8 - inserts} duplicates")
    check(
        "8 racing upserts count 8 hits",
        observed={
            "inserts": inserts,
            "upserts": upserts,
            "hits": hits,
        },
        expected={
            "inserts": 1,
            "upserts": 8,
            "hits": 8,
        },
    )


# region write-skew
ANN = "Ann on call"
BOB = "Bob on call"
DOCTORS = (ANN, BOB)
ON_CALL = select(func.sum(Tally.n)).where(Tally.name.in_(DOCTORS))


def go_home(session: Session, name: str, meanwhile: Pause | None = None) -> None:
    """Leave, if somebody else is on call."""
    others = session.scalars(ON_CALL).one() > 1
    if meanwhile:
        meanwhile()
    # Decided from what was true then. And no row is written by both doctors.
    if others:
        mine = update(Tally).where(Tally.name == name)
        session.execute(mine.values(n=0))


# endregion write-skew


def doctors_left(env: Database, level: str) -> dict[str, int]:
    """Let each doctor go home if another stays; return who stays, and Ann's attempts.

    Bob's whole transaction runs between Ann's decision and her own write.
    """
    sessions = orm.sessionmaker(env.connect(isolation_level=level))
    with sessions.begin() as session:
        for name in DOCTORS:
            session.merge(Tally(name=name, n=1))
    attempts = []

    def bob_leaves() -> None:
        run_transaction(sessions, partial(go_home, name=BOB))

    def ann_leaves(session: Session) -> None:
        attempts.append(ANN)
        go_home(session, ANN, meanwhile=bob_leaves)

    run_transaction(sessions, ann_leaves)
    with sessions() as session:
        left = session.scalars(ON_CALL).one()
    return {"on call": left, "attempts": len(attempts)}


@lesson.demo
def concurrency(env: Database) -> None:
    """Concurrency: 100 increments are 100, and a conflict is retried as a whole"""
    show_increments(env)
    show_upsert(env)
    if not env.live:
        raise Skip("write skew: SQLite runs one writer at a time")
    expected = {
        "READ COMMITTED": {"on call": 0, "attempts": 1},
        "REPEATABLE READ": {"on call": 0, "attempts": 1},
        "SERIALIZABLE": {"on call": 1, "attempts": 2},
    }
    left = {level: doctors_left(env, level) for level in expected}
    table_of("level", left)
    check("a doctor stays on call, at SERIALIZABLE only", left, expected)


# %% [markdown]
# ## 8. Pool: few connections, no endless wait, recovery

# %%
# region pool
# Trap: raising these until the error is gone. All processes share the server's
# max_connections, and the error mostly means a session that nobody closed.
POOL: dict[str, Any] = {
    "pool_size": 2,
    "max_overflow": 1,
    "pool_timeout": 0.1,  # seconds; 30 by default, and all threads wait with it
    "pool_pre_ping": True,  # costs a round trip per use
}
# endregion pool


def use(engine: sa.Engine) -> str:
    """Run a query on a connection; return how that ends."""
    try:
        with engine.connect() as connection:
            connection.execute(select(1))
    except exc.DBAPIError as error:
        # The transaction is lost, and SQLAlchemy has emptied the pool by now.
        return "lost" if error.connection_invalidated else code_of(error)
    except exc.TimeoutError:
        return "no connection in time"
    return "ok"


def fourth_of_three(engine: sa.Engine) -> str:
    """Hold three connections at once; return how the use of a fourth ends."""
    with engine.connect(), engine.connect(), engine.connect():
        return use(engine)


def show_killed_backends(env: Database) -> None:
    """Kill the server process of an idle connection, without and with a ping."""
    uses = {}
    for pre_ping in (False, True):
        engine = env.connect(**POOL | {"pool_pre_ping": pre_ping})
        ends = uses_after_a_kill(engine, env.engine, use)
        uses[f"pool_pre_ping={pre_ping}"] = ends
    table_of("back end killed while idle", uses)
    check(
        "pre_ping replaces a dead connection unseen",
        observed=uses,
        expected={
            "pool_pre_ping=False": {"next use": "lost", "then": "ok"},
            "pool_pre_ping=True": {"next use": "ok", "then": "ok"},
        },
    )


def show_frozen_network(env: Database) -> None:
    """Freeze the network between two uses, without and with a limit to a silence."""
    uses = env.uses_when_frozen(use, limit=0.5, **POOL)
    table_of("network", uses)
    check(
        "a silent network ends a use, not the program",
        observed=uses,
        expected={
            "pool_pre_ping alone": {"frozen": "waits", "thawed": "ok"},
            "this engine": {"frozen": "ConnectionTimeout", "thawed": "ok"},
        },
    )


@lesson.demo
def pool(env: Database) -> None:
    """Pool: few connections, an error instead of an endless wait, recovery"""
    fourth = {
        "no pool": fourth_of_three(env.connect(poolclass=sa.NullPool)),
        "POOL": fourth_of_three(env.connect(**POOL)),
    }
    table(("", "the fourth of three at once"), *fourth.items())
    expected = {"no pool": "ok", "POOL": "no connection in time"}
    check("a pool that is used up says so at once", fourth, expected)
    if not env.live:
        raise Skip("killed back ends, a frozen network: SQLite runs in this process")
    show_frozen_network(env)
    if env.pooled:
        raise Skip("killed back ends: the pooler in between replaces them itself")
    show_killed_backends(env)


# %% [markdown]
# ## 9. In and out: in bulk, as a stream, as a frame

# %%
Rows = list[Row]


# region ladder
def load_each(session: Session, rows: Rows) -> None:
    """Commit every row."""
    for row in rows:
        session.add(Reading(**row))
        session.commit()


def load_objects(session: Session, rows: Rows) -> None:
    """Unlike each: one transaction; the ids come back, on SQLite row by row."""
    session.add_all([Reading(**row) for row in rows])
    session.flush()


def load_returning(session: Session, rows: Rows) -> None:
    """Unlike objects: plain rows; the ids come back a chunk at a time."""
    if rows:
        insertion = insert(Reading).returning(Reading.id)
        session.scalars(insertion, rows).all()


def load_core(session: Session, rows: Rows) -> None:
    """Unlike returning: no ids, and one call of the driver (executemany)."""
    # Trap: an empty list. It would insert a row of nothing but defaults.
    if rows:
        session.connection().execute(insert(Reading), rows)


def load_copy(session: Session, rows: Rows) -> None:
    """Unlike core: no INSERT at all, but a stream of rows. PostgreSQL only."""
    cursor: Any = session.connection().connection.cursor()
    with cursor.copy("COPY readings (sensor, value) FROM STDIN") as copy:
        for row in rows:
            copy.write_row((row["sensor"], row["value"]))


# endregion ladder

EACH = "add and commit each"
LADDER = {
    EACH: load_each,
    "add_all": load_objects,
    "ORM, ids back": load_returning,
    "Core": load_core,
    "COPY": load_copy,
}


def load_counts(env: Database, way: str) -> dict[str, int]:
    """Load ROWS (a 50th of them, if committed each) into the emptied table; count."""
    count = ROWS // 50 if way == EACH else ROWS
    rows = readings(count)
    with env.sessions() as session:
        session.execute(sa.delete(Reading))
        session.commit()  # the counting begins with an empty table
        with max_queries(math.inf, env.engine) as sent:
            LADDER[way](session, rows)
            session.commit()
        there = session.scalars(select(func.count(Reading.id))).one()
    # COPY bypasses the hook that counts, and shows up as no call at all.
    return {"rows": there, "calls": len(sent)}


def show_ladder(env: Database) -> None:
    """Load the same rows in every way, and count the calls of the driver."""
    chunks = math.ceil(ROWS / CHUNK)
    expected = {
        EACH: {"rows": ROWS // 50, "calls": ROWS // 50},
        "add_all": {"rows": ROWS, "calls": ROWS},
        "ORM, ids back": {"rows": ROWS, "calls": chunks},
        "Core": {"rows": ROWS, "calls": 1},
    }
    if env.live:  # PostgreSQL returns the ids of many rows in order, SQLite does not
        expected["add_all"]["calls"] = chunks
        expected["COPY"] = {"rows": ROWS, "calls": 0}
    counts = {way: load_counts(env, way) for way in expected}
    table_of("way", counts)
    check("a call per row, per chunk, or for all", counts, expected)


# region streaming
def total_of_all(session: Session) -> int:
    """Read all objects, then add their values up."""
    objects = session.scalars(select(Reading)).all()
    return sum(reading.value for reading in objects)


def total_streamed(session: Session) -> int:
    """Unlike all: hold 100 objects at a time. A transaction is open meanwhile."""
    in_parts = select(Reading).execution_options(yield_per=100)
    return sum(reading.value for reading in session.scalars(in_parts))


# endregion streaming


def show_streaming(env: Database) -> None:
    """Read all objects at once and in a stream; compare the peaks of memory."""
    with env.sessions() as session:
        whole = peak_bytes(partial(total_of_all, session))
        part = peak_bytes(partial(total_streamed, session))
    check(
        "a stream takes at most a tenth of the memory of all()",
        observed={"all() / stream": whole / part},
        expected={"all() / stream": at_least(10)},
    )


# region frames
# What a data scientist wants as a frame: keys, texts, instants, NULLs, money.
EVERYBODY = select(User.__table__).order_by(User.id)


def frame_naive(session: Session) -> Any:
    """Let pandas guess the types from the values."""
    everybody = text("SELECT * FROM users ORDER BY id")
    return pandas_or_skip().read_sql(everybody, session.connection())


def frame_typed(session: Session) -> Any:
    """Unlike naive: the columns decide. NULLs, cents and UTC stay what they are."""
    # Trap: dtype= of read_sql. It converts afterwards, when the cents are floats.
    pandas = pandas_or_skip()
    columns = EVERYBODY.selected_columns
    kinds = {column.name: frame_type(column) for column in columns}
    rows = session.execute(EVERYBODY).all()
    return pandas.DataFrame(rows, columns=[*kinds], dtype=object).astype(kinds)


def write_naive(session: Session, frame: Any) -> None:
    """Let pandas write; if_exists="replace" would drop the keys and checks."""
    frame.to_sql("users", session.connection(), if_exists="append", index=False)


def write_typed(session: Session, frame: Any) -> None:
    """Unlike naive: the model writes, and checks, with None for what is missing."""
    rows = rows_of(frame)
    if rows:
        session.execute(insert(User), rows)


# endregion frames


def show_frames(env: Database) -> None:
    """Read all users into a frame and write them back; count those who have changed."""
    ways = {
        "guessed": (frame_naive, write_naive),
        "from the columns": (frame_typed, write_typed),
    }
    kinds = {}
    changed = {}
    for way, (read, store) in ways.items():
        with env.sessions() as session:  # without a commit
            session.get_one(User, 1).spent_cents = 2**53 + 1
            frame = read(session)
            changed[way] = changed_rows(session, EVERYBODY, partial(store, frame=frame))
        shown = frame.dtypes[["id", "registered_at", "spent_cents"]]
        kinds[way] = {**shown, "users changed": changed[way]}
    table_of("types", kinds)
    check(
        "a frame from the columns brings everybody back",
        observed=changed,
        expected={"guessed": more_than(0), "from the columns": 0},
    )


@lesson.demo
def bulk(env: Database) -> None:
    """Bulk: fewer calls in, less memory out, and frames that keep their types"""
    show_ladder(env)
    show_streaming(env)
    show_frames(env)
    if not env.live:
        raise Skip("COPY: SQLite has none, and no network in between")


# %% [markdown]
# ## 10. Migration: expand, backfill, contract


# %%
NAMING = Base.metadata.naming_convention
BEFORE = members("full_name", NAME, NAMING)
AFTER = members("display_name", NAME, NAMING)


# region expand
def rename(op: Operations) -> None:
    """Change the column in one step: from then on, old code that runs fails."""
    op.execute("ALTER TABLE members RENAME COLUMN full_name TO display_name")


def expand(op: Operations) -> None:
    """Unlike rename: add a column beside the old one. Old code leaves it empty."""
    op.add_column("members", sa.Column("display_name", NAME))


# endregion expand


# region fill
MORE = text("""
    SELECT EXISTS (SELECT 1 FROM members
                   WHERE display_name IS NULL AND full_name IS NOT NULL)
""")
# IS NULL twice: when PostgreSQL gets a row that was locked, it checks the outer
# WHERE once more, but not the subquery. What was filled meanwhile is left alone.
FILL = text("""
    UPDATE members SET display_name = full_name
    WHERE display_name IS NULL AND id IN
        (SELECT id FROM members
         WHERE display_name IS NULL AND full_name IS NOT NULL LIMIT :size)
""")
NAMELESS = text("SELECT count(*) FROM members WHERE display_name IS NULL")


# endregion fill


# region backfill
def backfill(engine: sa.Engine, size: int = 100) -> int:
    """Fill the new column, `size` rows per transaction; return the transactions.

    It may be stopped and run again: it goes on with the rows that are still empty.
    No row is filled twice, so code that still changes a full name must write both
    columns. Raises ValueError, at the end, if rows have no full name.
    """
    refuse_no_size(size)
    # Trap: one UPDATE of the whole table. It locks every row until all are done.
    done = 0
    while True:
        with engine.begin() as connection:
            if not connection.scalars(MORE).one():
                nameless = connection.scalars(NAMELESS).one()
                break
            connection.execute(FILL, {"size": size})
        done += 1
    if nameless:
        raise ValueError(f"{nameless} members have no full name to fill in")
    return done


# endregion backfill


def on_postgres(op: Operations, change: str) -> None:
    """Alter the table on PostgreSQL only; SQLite copies it anyway."""
    if op.get_context().dialect.name == "postgresql":
        op.execute(f"ALTER TABLE members {change}")


# region contract
FULL = "members_full"  # the check by which PostgreSQL knows that no row is empty


def refuse_empty(op: Operations) -> None:
    """Check new rows from now on; the old ones are not read."""
    # Trap: SET NOT NULL alone. It reads the whole table while everybody else waits.
    check_it = f"ADD CONSTRAINT {FULL} CHECK (display_name IS NOT NULL) NOT VALID"
    on_postgres(op, check_it)


def check_old_rows(op: Operations) -> None:
    """Read the table, while others read and write it."""
    on_postgres(op, f"VALIDATE CONSTRAINT {FULL}")


def settle(op: Operations, required: str, gone: str) -> None:
    """Require one column and drop another; SQLite copies the table for it."""
    with op.batch_alter_table("members") as batch:
        batch.alter_column(required, existing_type=NAME, nullable=False)
        batch.drop_column(gone)


def drop_old_column(op: Operations) -> None:
    """Require the new column, without reading the table again; drop the old one."""
    settle(op, required="display_name", gone="full_name")


def drop_check(op: Operations) -> None:
    """Drop the check, which the column's own NOT NULL replaces."""
    on_postgres(op, f"DROP CONSTRAINT IF EXISTS {FULL}")


CONTRACT = (refuse_empty, check_old_rows, drop_old_column, drop_check)


# endregion contract


# region migrate
def migrate(engine: sa.Engine, step: Step) -> None:
    """Run a step in one transaction: Alembic as a library, without an ini file.

    It waits for a lock for half a second, then gives way and tries again, since all
    others queue behind it. On SQLite it undoes the step and raises ValueError if a
    row loses its parent, or the table something that its copy cannot have.
    """

    def work(session: Session) -> None:
        if engine.dialect.name == "postgresql":
            session.execute(text("SET LOCAL lock_timeout = '500ms'"))
        connection = session.connection()
        step(operations_on(connection))
        refuse_orphans(connection)

    no_lock_in_time = "55P03"
    with connection_for_changes(engine) as connection:
        sessions = orm.sessionmaker(connection)
        run_transaction(sessions, work, codes=(*TRANSIENT, no_lock_in_time))


# endregion migrate


def contract(engine: sa.Engine) -> None:
    """Require the new column and drop the old one, a transaction per step."""
    *steps, clean_up = CONTRACT
    try:
        for step in steps:
            migrate(engine, step)
    finally:
        migrate(engine, clean_up)


def downgrade(op: Operations) -> None:
    """Go back to the old table, with its data. Everybody else waits for it."""
    op.add_column("members", sa.Column("full_name", NAME))
    op.execute("UPDATE members SET full_name = display_name")
    settle(op, required="full_name", gone="display_name")


def show_expand(old_code: OldCode, names: list[str]) -> None:
    """Add the new column, while old code goes on."""
    broken = old_code.breaks_by(partial(migrate, step=rename))
    BEFORE.create(old_code.engine)
    old_code.write(names[:150])
    migrate(old_code.engine, expand)
    old_code.write(names[150:200])
    check(
        "after expand the old code reads and writes",
        observed={
            "rename breaks it": broken,
            "reads": old_code.read(),
        },
        expected={
            "rename breaks it": True,
            "reads": names[:200],
        },
    )


def show_contract(old_code: OldCode, names: list[str]) -> None:
    """Fill the new column, require it, and let the old one go."""
    engine = old_code.engine
    expanded = drift(engine, AFTER)
    early = raises(exc.IntegrityError, lambda: contract(engine))
    # Undone: the old code goes on, with the new column empty.
    old_code.write(names[200:])
    check(
        "contract before backfill is refused and undone",
        observed={
            "refused": early,
            "reads": old_code.read(),
        },
        expected={
            "refused": True,
            "reads": names,
        },
    )
    batches = [backfill(engine), backfill(engine)]
    fact("transactions of the backfill, again", batches)
    check("no backfill locks more than 100 rows", batches, [3, 0])
    contract(engine)  # once no old code runs any more
    drifts = {"expand": expanded, "contract": drift(engine, AFTER)}
    check(
        "after contract the database is the model",
        observed=drifts,
        expected={"expand": more_than(0), "contract": 0},
    )


def show_way_back(old_code: OldCode, names: list[str]) -> None:
    """Migrate back; compare table and names with what they were."""
    migrate(old_code.engine, downgrade)
    check(
        "downgrade brings table and names back",
        observed={
            "drift": drift(old_code.engine, BEFORE),
            "reads": old_code.read(),
        },
        expected={
            "drift": 0,
            "reads": names,
        },
    )


@lesson.demo
def migration(env: Database) -> None:
    """Migration: old and new code run side by side, and there is a way back"""
    names = [f"Ada Lovelace {number}" for number in range(250)]
    BEFORE.drop(env.engine, checkfirst=True)  # of an earlier run of this cell
    old_code = OldCode(env.engine, BEFORE)
    show_expand(old_code, names)
    show_contract(old_code, names)
    show_way_back(old_code, names)
    for statement in offline_sql(expand, *CONTRACT):  # for review, or to run by hand
        write(f"    {statement}")


# %%
def main(argv: list[str] | None = None) -> int:
    """Teach, with the options of the command line; return the exit code."""
    return lesson.main(argv)


lesson.finish(__name__, main)
