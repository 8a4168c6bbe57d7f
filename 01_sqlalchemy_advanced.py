"""SQL without surprises: the same rows and the same answers on SQLite and PostgreSQL.

You will see, in order: (1) constraints and instants that hold, (2) filters that no
input escapes, (3) 126 queries become 4 or 1, (4) statistics and (5) rankings equal to
plain Python, (6) transactions that leave nothing behind, (7) lost updates, write skew
and deadlocks with their cures, (8) a pool that fails fast and recovers, (9) rows in
and out in bulk, counted, and (10) a migration without downtime.

Run:     python 01_sqlalchemy_advanced.py [--list] [--only NAME ...]
Service: PostgreSQL at $DATABASE_URL or --url, in a schema of its own; with
         --require-live and nothing set, postgresql://postgres@127.0.0.1:5432/postgres.
Without: SQLite, a real engine, in a temporary file. It runs one writer at a time and
         in this process: no write skew, deadlock, killed back end or COPY to show.
Runtime: about three seconds, a dozen on PostgreSQL.
Guide:   COMPREHENSIVE_GUIDE.md, chapter 1.
"""

# /// script
# requires-python = ">=3.11"
# dependencies = ["sqlalchemy>=2.1,<2.2", "psycopg[binary]>=3.2,<4", "alembic>=1.19,<2",
#                 "python-dotenv>=1.2.2,<2", "rich>=13.7,<16"]
# ///

from __future__ import annotations

import argparse
import itertools
import math
import random
import sqlite3
import string
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from rich.console import Console
from rich.progress import track
from sqlalchemy import event, exc, func, insert, orm, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, Session, mapped_column, raiseload, relationship

import course.start  # noqa: F401  (first: it says in one line what is missing)
from course.console import Lesson, check, fact, note, table, write
from course.errors import Skip
from course.lab import raises
from course.sql.backends import PID, end_backend
from course.sql.changes import drift, offline_sql
from course.sql.database import Database, Openers, open_database
from course.sql.measure import peak_bytes, plan_of
from course.sql.seed import COUNTRIES, LATE_EVENING, NEW_YEAR, USERS, population

LIMIT = 10  # seconds for a lock, a statement or a thread: no wait is endless
ROWS = 5_000  # of the bulk section; at 50,000 it takes half a minute
CHUNK = 1_000  # rows per round trip: more saves little and holds more memory
PAGE = 50  # users per page
ACTIVE = 20  # logins that make a user active

Instant = datetime | None
T = TypeVar("T")

# %% 1. Model: what the database itself refuses


# region utc
class Utc(sa.TypeDecorator[datetime]):
    """An instant: aware in, UTC in the database, aware out. Refuses naive datetimes."""

    # Trap: DateTime(timezone=True) alone. SQLite drops the offset without a word, and
    # PostgreSQL reads a naive value in the time zone of whoever happens to connect.
    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: Instant, dialect: sa.Dialect) -> Instant:
        """Convert to UTC; raise ValueError (StatementError outside) if it is naive."""
        if value is not None and value.utcoffset() is None:
            raise ValueError("a naive datetime names no instant: give it a time zone")
        return value and value.astimezone(UTC)

    def process_result_value(self, value: Instant, dialect: sa.Dialect) -> Instant:
        """Attach UTC where the database (SQLite) has lost it."""
        aware = value if value is None or value.tzinfo else value.replace(tzinfo=UTC)
        return aware and aware.astimezone(UTC)
        # endregion utc


# Bytewise order on both: PostgreSQL's default follows the language of the server.
NAME = sa.String(80).with_variant(sa.String(80, collation="C"), "postgresql")
Name = Annotated[str, mapped_column(NAME)]
Key = Annotated[int, mapped_column(primary_key=True)]


class Base(orm.DeclarativeBase):
    """All tables. Every constraint gets a name, or no migration could drop it."""

    type_annotation_map = {datetime: Utc()}  # noqa: RUF012
    metadata = sa.MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )


class Country(Base):
    """A country with its population and its GDP per capita in US dollars."""

    __tablename__ = "countries"
    id: Mapped[Key]
    name: Mapped[Name] = mapped_column(unique=True)
    population: Mapped[int] = mapped_column(sa.BigInteger)
    gdp_per_capita: Mapped[int]
    cities: Mapped[list[City]] = relationship(back_populates="country")


class City(Base):
    """A city of a country."""

    __tablename__ = "cities"
    id: Mapped[Key]
    name: Mapped[Name]
    country_id: Mapped[int] = mapped_column(sa.ForeignKey("countries.id"), index=True)
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


class User(Base):
    """A user. Money is whole cents, NULL before a purchase: SQLite has no decimals."""

    __tablename__ = "users"
    id: Mapped[Key]
    username: Mapped[Name] = mapped_column(unique=True)
    email: Mapped[Name]
    registered_at: Mapped[datetime]
    last_seen_at: Mapped[datetime | None]
    logins: Mapped[int] = mapped_column(default=0)
    spent_cents: Mapped[int | None] = mapped_column(sa.BigInteger)
    address_id: Mapped[int] = mapped_column(sa.ForeignKey("addresses.id"), index=True)
    address: Mapped[Address] = relationship(back_populates="users")
    __table_args__ = (
        # SQLite ignores the 80 of String(80); a check holds on both.
        sa.CheckConstraint("length(username) BETWEEN 1 AND 80", name="username_length"),
        sa.CheckConstraint("length(email) BETWEEN 1 AND 80", name="email_length"),
        sa.Index("uq_users_email", text("lower(email)"), unique=True),
        sa.Index(None, "registered_at", "id"),
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


NAIVE_USERS = (
    sa.Table(  # users as a tutorial has them: the control of what User refuses
        "naive_users",
        Base.metadata,
        sa.Column("username", sa.String(80)),
        sa.Column("email", sa.String(80)),
        sa.Column("registered_at", sa.DateTime(timezone=True)),
        sa.Column("address_id", sa.ForeignKey("addresses.id")),
    )
)


# region engines
def sqlite_engine(path: Path, timeout: float = LIMIT, **options: Any) -> sa.Engine:
    """Return an engine on a file whose transactions are transactions.

    Each takes the write lock when it begins, waiting `timeout` seconds for it: no two
    can both read and then write. The price: readers wait for writers, too.
    """
    # None: the driver itself must neither begin nor commit.
    arguments = {"timeout": timeout, "isolation_level": None}
    url = sa.URL.create("sqlite", database=str(path))  # as text, a %20 is a blank
    engine = sa.create_engine(url, connect_args=arguments, **options)

    @event.listens_for(engine, "connect")
    def set_up(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA journal_mode = WAL")
        # After a power cut the last commits may be missing, whole; FULL syncs each.
        connection.execute("PRAGMA synchronous = NORMAL")

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def postgres_engine(url: sa.URL, schema: str, **options: Any) -> sa.Engine:
    """Return an engine that lives in one schema, in UTC, and waits for nothing long.

    The server enforces the limits; `connect_timeout` is for the one that is not there.
    """
    limits = {"lock": LIMIT, "statement": 6 * LIMIT, "idle_in_transaction_session": 60}
    flags = [str(url.query.get("options", ""))]  # first, for the last -c wins
    flags += [f"-c{name}_timeout={seconds}s" for name, seconds in limits.items()]
    flags += [f"-csearch_path={schema} -ctimezone=UTC"]
    arguments = {"options": " ".join(flags), "connect_timeout": 2}
    return sa.create_engine(url, connect_args=arguments, **options)
    # endregion engines


def naive_engine(path: Path) -> sa.Engine:
    """Return an engine on a file as create_engine leaves it: the control of claims."""
    return sa.create_engine(sa.URL.create("sqlite", database=str(path)))


def fill(engine: sa.Engine) -> None:
    """Create the tables and their 600 users."""
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add_all(population(Country, City, Address, User))
        session.flush()
        session.execute(text("ANALYZE users"))  # the planner knows the sizes


def open_env(args: argparse.Namespace) -> AbstractContextManager[Database]:
    """Open PostgreSQL if one is named and answers, else SQLite; clean up at the end."""
    openers = Openers(sqlite_engine, postgres_engine, naive_engine, fill)
    return open_database(args, openers)


lesson = Lesson("SQL without surprises", open_env)


@lesson.demo
def model(env: Database) -> None:
    """Model: constraints and instants that hold on both databases"""

    def store(engine: sa.Engine, table: Any, row: dict[str, Any]) -> None:
        with engine.connect() as connection:  # and roll back
            connection.execute(insert(table).values(row))

    sound = {"username": "x", "email": "x", "registered_at": NEW_YEAR, "address_id": 1}
    users: dict[str, dict[str, Any]] = {
        "a sound user": sound,
        "a home that does not exist": sound | {"address_id": 999},
        "a datetime without a time zone": sound
        | {"registered_at": datetime(2025, 1, 1)},
        "a name of 81 letters": sound | {"username": "x" * 81},
    }
    Base.metadata.create_all(env.naive)
    stores = partial(store, env.naive, NAIVE_USERS), partial(store, env.engine, User)
    ends = {
        what: [raises(exc.StatementError, partial(into, user)) for into in stores]
        for what, user in users.items()
    }
    header = ("is refused", "by sqlite3's defaults", "by this model")
    table(header, *((what, *end) for what, end in ends.items()))
    usual = ends.pop("a sound user") == [False, False]
    for what, end in ends.items():
        check(f"refused: {what}", usual and end == [False, True], True)
    plain = select(sa.literal(LATE_EVENING, sa.DateTime(timezone=True)))
    with env.naive.connect() as naive, env.engine.connect() as connection:
        moved = naive.scalar(plain)
        kept = connection.scalar(select(sa.literal(LATE_EVENING, Utc())))
    fact("22:30 at -05:00 in a plain column", moved)
    fact("22:30 at -05:00 in a Utc column", kept)
    check("an instant comes back as that instant", moved != LATE_EVENING == kept, True)


# %% 2. Queries: what a stranger types stays a value


# region user-repository
# As lower() does in SQLite and in collation C; elsewhere PostgreSQL's folds more.
A_TO_Z = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


class UserRepository:
    """Users of one session, under raiseload: a forgotten eager load is an error."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def _find(self, *where: sa.ColumnElement[bool]) -> list[User]:
        # contains_eager fills the objects from the joins that the filter needs anyway.
        path = orm.contains_eager(User.address).contains_eager(Address.city)
        users = select(User).join(User.address).join(Address.city).join(City.country)
        users = users.options(path.contains_eager(City.country), raiseload("*"))
        return list(self.session.scalars(users.where(*where).order_by(User.id)))

    def find_users_by_country(self, country_name: str) -> list[User]:
        """Return a country's users by id, each with address, city and country."""
        return self._find(Country.name == country_name)

    def find_users_by_city(self, city_name: str) -> list[User]:
        """Return a city's users by id, each with address, city and country."""
        return self._find(City.name == city_name)

    def find_users_by_name_part(self, part: str) -> list[User]:
        """Return users whose name holds the text, A-Z in any case; % is a letter."""
        # Trap: a bound value is no SQL, yet in LIKE it is still a pattern. And whatever
        # the pattern, a search inside of names reads them all.
        name, folded = func.lower(User.username), part.translate(A_TO_Z)
        return self._find(name.contains(folded, autoescape=True))

    def get_users_with_addresses(self) -> list[User]:
        """Return all users by id with address, city and country, in one query."""
        return self._find()

    def add(self, user: User) -> None:
        """Put a new user into the session; the unit of work commits."""
        self.session.add(user)

    def has_email(self, email: str) -> bool:
        """Tell whether somebody has this address, A-Z in any case."""
        same = sa.exists().where(func.lower(User.email) == email.translate(A_TO_Z))
        return self.session.scalars(select(same)).one()
        # endregion user-repository

    # region statistics
    def get_user_statistics(self) -> dict[str, float | None]:
        """Return counts, mean logins, spending (cents); None without any: one query."""
        share = func.cume_dist().over(order_by=User.spent_cents).label("share")
        bought = select(User.spent_cents, share).where(User.spent_cents.is_not(None))
        curve = bought.subquery()

        def percentile(p: float) -> sa.ScalarSelect[Any]:
            # percentile_disc, which SQLite lacks: the least value that p of all reach.
            # The price is the sort behind cume_dist.
            least = select(func.min(curve.c.spent_cents)).where(curve.c.share >= p)
            return least.scalar_subquery()

        figures = {
            "users": func.count(User.id),
            "active": func.count().filter(User.logins >= ACTIVE),
            "buyers": func.count(User.spent_cents),
            "logins_mean": func.avg(User.logins),
            "logins_min": func.min(User.logins),
            "logins_max": func.max(User.logins),
            "spent_total": func.sum(User.spent_cents),
            "spent_median": percentile(0.5),
            "spent_p90": percentile(0.9),
        }
        row = self.session.execute(select(*figures.values())).one()
        # Trap: SQL's round(). On PostgreSQL it takes no double, and it rounds halves
        # otherwise than Python does: round once, here, for both.
        rounded = (None if n is None else round(float(n), 2) for n in row)
        return dict(zip(figures, rounded, strict=True))
        # endregion statistics

    def get_users_ranked_by_activity(self) -> list[tuple[int, User]]:
        """Return (rank, user) by logins; users with as many logins share a rank."""
        rank = func.rank().over(order_by=User.logins.desc())
        users = select(rank, User).options(raiseload("*")).order_by(rank, User.id)
        return [(place, user) for place, user in self.session.execute(users)]


@lesson.demo
def queries(env: Database) -> None:
    """Queries: what a stranger types stays a value"""
    attack = "Kyiv' OR '1'='1"
    join = "users JOIN addresses a ON a.id = address_id JOIN cities c ON c.id = city_id"
    naive = text(f"SELECT users.id FROM {join} WHERE c.name = '{attack}'")  # noqa: S608
    with env.sessions() as session:
        users = UserRepository(session)
        ukraine = len(users.find_users_by_country("Ukraine"))
        kyiv = len(users.find_users_by_city("Kyiv"))
        bound = len(users.find_users_by_city(attack))
        pasted = len(session.execute(naive).all())
        wild = session.scalars(select(User).where(User.username.ilike("%_s%"))).all()
        literal = [user.username for user in users.find_users_by_name_part("_S")]
    fact("users in Ukraine, in Kyiv", f"{ukraine}, {kyiv}")
    fact(f"users in {attack}", f"{pasted} pasted, {bound} bound")
    fact("user names with _s", f"{len(wild)} as a pattern, {len(literal)} escaped")
    check("3 users live in Ukraine, 2 of them in Kyiv", (ukraine, kyiv) == (3, 2), True)
    check("SQL as a city's name finds nobody", (pasted, bound) == (USERS, 0), True)
    check("an underscore is a letter", literal == ["taras_s"] and len(wild) > 1, True)


# %% 3. Loading: one query instead of 126


# region budget
@contextmanager
def max_queries(limit: float, engine: sa.Engine) -> Iterator[list[str]]:
    """Collect an engine's statements, of all threads; AssertionError above `limit`."""
    sent: list[str] = []

    def collect(_c: object, _u: object, statement: str, *_: object) -> None:
        if not statement.startswith("BEGIN"):  # the driver's own, but for our SQLite
            sent.append(statement)

    event.listen(engine, "before_cursor_execute", collect)
    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", collect)
    if len(sent) > limit:
        raise AssertionError(f"{len(sent)} statements, {limit} allowed: {sent[-1]}")
    # endregion budget


# region loading
SELECTIN = orm.selectinload(Country.cities).selectinload(City.addresses)
JOINED = orm.joinedload(Country.cities).joinedload(City.addresses)
LOADS = {
    # Every attribute read later is one more query: 1 + 5 + 20 + 100.
    "lazy": select(Country),
    # Unlike lazy: one query per level, for (up to 500) parents at once.
    "selectin": select(Country).options(SELECTIN.selectinload(Address.users)),
    # Unlike selectin: one query, that repeats each parent in every child's row.
    "joined": select(Country).options(JOINED.joinedload(Address.users)),
}
# endregion loading


def walked(env: Database, way: str, budget: float = math.inf) -> tuple[int, list[str]]:
    """Walk down all four levels; return the number of queries and the users' names."""
    with env.sessions() as session, max_queries(budget, env.engine) as sent:
        # Trap: a joined collection repeats its parent; only unique() folds the rows.
        found = session.scalars(LOADS[way]).unique()
        cities = [city for country in found for city in country.cities]
        addresses = [address for city in cities for address in city.addresses]
        names = [user.username for address in addresses for user in address.users]
    return len(sent), sorted(names)


@lesson.demo
def loading(env: Database) -> None:
    """Loading: 126 queries, or 4, or 1, for the same 600 users"""
    queries, names = zip(*(walked(env, way) for way in LOADS), strict=True)
    table(("loading", "queries"), *zip(LOADS, queries, strict=True))
    with env.engine.connect() as connection:
        rows = connection.execute(LOADS["joined"]).all()
    fact("rows of the joined query", f"{len(rows)}, each repeats its country")
    check("126 queries lazy, 4 selectin, 1 joined", queries == (126, 4, 1), True)
    same = len(names[0]) == USERS and names == names[:1] * 3
    check("all three find the same 600 users", same, True)
    walked(env, "selectin", budget=4)
    over = raises(AssertionError, lambda: walked(env, "lazy", budget=4))
    check("a budget of 4 queries stops the lazy loop", over, True)
    with env.sessions() as session:
        user = UserRepository(session).get_users_with_addresses()[0]
        lazily = raises(exc.InvalidRequestError, lambda: user.address.users)
    check("a repository's user raises instead of loading on the sly", lazily, True)


# %% 4. Statistics: equal to plain Python, to the cent


# region country-repository
def per_country(*figures: Any) -> sa.Select[Any]:
    """Select figures per country, those without a city or a user too."""
    rows = select(Country.name, *figures).outerjoin(Country.cities)
    return rows.outerjoin(City.addresses).outerjoin(Address.users).group_by(Country.id)


class CountryRepository:
    """Countries of one session."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def get_all_countries_with_cities(self) -> list[Country]:
        """Return all countries by name with their cities, in two queries."""
        eager = orm.selectinload(Country.cities), raiseload("*")
        countries = select(Country).options(*eager).order_by(Country.name)
        return list(self.session.scalars(countries))

    def get_country_statistics(self) -> list[tuple[str, int, int, int]]:
        """Return (name, cities, users, cents spent) by name, users or not."""
        # Trap: joins multiply. A city counts once per user unless it is DISTINCT.
        cities, users = func.count(City.id.distinct()), func.count(User.id)
        spent = func.coalesce(sa.cast(func.sum(User.spent_cents), sa.BigInteger), 0)
        figures = per_country(cities, users, spent).order_by(Country.name)
        return list(self.session.execute(figures))
        # endregion country-repository


@lesson.demo
def statistics(env: Database) -> None:
    """Statistics: one query, equal to plain Python on the same rows"""
    with env.sessions() as session:
        users = UserRepository(session).get_users_with_addresses()
        figures = UserRepository(session).get_user_statistics()
        countries = CountryRepository(session).get_country_statistics()
        joined = select(func.count(City.id)).join(City.addresses).join(Address.users)
        naive = session.scalars(joined).one()
    for name, value in figures.items():
        fact(name, value)
    table(("country", "cities", "users", "cents spent"), *countries)
    fact("cities, if the join counts them", naive)
    logins = [user.logins for user in users]
    spent = sorted(user.spent_cents for user in users if user.spent_cents is not None)
    expected: list[float] = [USERS, sum(n >= ACTIVE for n in logins), len(spent)]
    expected += [round(sum(logins) / USERS, 2), min(logins), max(logins), sum(spent)]
    expected += [spent[math.ceil(len(spent) * p) - 1] for p in (0.5, 0.9)]
    check("user statistics equal plain Python", [*figures.values()] == expected, True)
    plain = []
    for name, (*_, towns) in sorted(COUNTRIES.items()):
        cents = [u.spent_cents or 0 for u in users if u.address.city.name in towns]
        plain.append((name, len(towns), len(cents), sum(cents)))
    check("country statistics equal plain Python", countries == plain, True)


# %% 5. Ranking and cohorts: window functions, NULLs and months


# region analytics
Cohorts = dict[int, dict[int | None, int]]


def sql_month(instant: Any) -> sa.ColumnElement[int]:
    """Return the month of an instant, from year 0, on both databases; by no index."""
    month = sa.extract("year", instant) * 12 + sa.extract("month", instant) - 1
    return sa.cast(month, sa.Integer)


class DataScienceAnalytics:
    """Questions about users, each answered by one query."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def get_user_distribution_by_country(self) -> list[tuple[str, int, float | None]]:
        """Return (country, users, percent of all users, if any), the largest first."""
        n = func.count(User.id)
        shares = per_country(n, 100.0 * n / func.nullif(func.sum(n).over(), 0))
        rows = self.session.execute(shares.order_by(n.desc(), Country.name))
        return [(c, n, p if p is None else round(float(p), 2)) for c, n, p in rows]

    def get_user_metrics_by_registration_cohort(self) -> Cohorts:
        """Return users by month registered, then by months until last seen or None."""
        start = sql_month(User.registered_at)
        lag = sql_month(User.last_seen_at) - start
        counts = select(start, lag, func.count()).group_by(start, lag).order_by(start)
        cohorts: Cohorts = {}
        for month, months_later, users in self.session.execute(counts):
            cohorts.setdefault(month, {})[months_later] = users
        return cohorts

    def identify_high_value_users(self, tiles: int = 10) -> list[User]:
        """Return the first of `tiles` equal parts of all users by spending."""
        # Trap: a NULL is the greatest value on PostgreSQL and the least on SQLite.
        order = User.spent_cents.desc().nulls_last(), User.id
        tile = func.ntile(tiles).over(order_by=order).label("tile")
        ranked = select(User.id, tile).subquery()
        users = select(User).join(ranked, ranked.c.id == User.id).order_by(*order)
        top = users.where(ranked.c.tile == 1, User.spent_cents.is_not(None))
        return list(self.session.scalars(top.options(raiseload("*"))))
        # endregion analytics


@lesson.demo
def ranking(env: Database) -> None:
    """Ranking and cohorts: ties, NULLs and months as plain Python has them"""
    # What desc() alone does on PostgreSQL, said aloud so that SQLite does it too.
    naive = select(User.spent_cents).order_by(User.spent_cents.desc().nulls_first())
    with env.sessions() as session:
        users = UserRepository(session).get_users_with_addresses()
        ranked = UserRepository(session).get_users_ranked_by_activity()
        analytics = DataScienceAnalytics(session)
        top = analytics.identify_high_value_users()
        cohorts = analytics.get_user_metrics_by_registration_cohort()
        shares = analytics.get_user_distribution_by_country()
        nulls = [*session.scalars(naive.limit(len(top)))].count(None)
    first = ((rank, user.username, user.logins) for rank, user in ranked[:3])
    table(("rank", "user", "logins"), *first)
    logins = [user.logins for user in users]
    places = [1 + sum(n > user.logins for n in logins) for _, user in ranked]
    check(
        "users with as many logins share a rank", [r for r, _ in ranked] == places, True
    )
    fact("non-buyers in PostgreSQL's top tenth", f"{nulls} of {len(top)}")
    rich = sorted(users, key=lambda user: (-(user.spent_cents or 0), user.id))
    check(
        "the top tenth are those who spent most", nulls > 0 and top == rich[:60], True
    )
    expected: dict[int, Counter[int | None]] = {}
    for user in users:
        start, end = user.registered_at, user.last_seen_at
        lag = (end.year - start.year) * 12 + end.month - start.month if end else None
        expected.setdefault(start.year * 12 + start.month - 1, Counter())[lag] += 1
    for month, seen in list(cohorts.items())[:3]:
        later = [sum(n for k, n in seen.items() if k and k >= age) for age in (1, 3, 6)]
        fact(f"{month // 12}-{month % 12 + 1:02}: seen 1, 3, 6 months on", later)
    check("cohorts equal plain Python, in months of UTC", cohorts == expected, True)
    lived = Counter(user.address.city.country.name for user in users)
    plain = [(name, n, round(100 * n / USERS, 2)) for name, n in lived.items()]
    plain.sort(key=lambda share: (-share[1], share[0]))
    check("the shares equal plain Python, in percent", shares == plain, True)


# %% 6. Transactions: what is not committed was never there


# region unit-of-work
class UnitOfWork(Session):
    """One transaction and its repositories; without commit() it leaves nothing.

    It holds a connection from its first query to its end: let nobody wait meanwhile.
    """

    @property
    def users(self) -> UserRepository:
        """The users, as this transaction sees and changes them."""
        return UserRepository(self)


class FakeUsers(list[User]):
    """Users in a list, to test a rule without a database."""

    add = list.append

    def has_email(self, email: str) -> bool:
        """Tell whether somebody has this address, A-Z in any case."""
        folded = email.translate(A_TO_Z)
        return any(user.email.translate(A_TO_Z) == folded for user in self)


def register(users: UserRepository | FakeUsers, username: str, email: str) -> None:
    """Add a new user, at the first address; ValueError if the email is taken."""
    # Trap: two at once both pass this test. The unique index is what holds; the test
    # is there for its message.
    if users.has_email(email):
        raise ValueError(f"{email} is taken")
    now = datetime.now(UTC)
    users.add(User(username=username, email=email, registered_at=now, address_id=1))
    # endregion unit-of-work


def new_users(
    env: Database, *units: Sequence[tuple[str, str]], commit: bool = True
) -> int:
    """Register the people of each unit of work; return (and delete) how many stay."""
    with suppress(exc.IntegrityError):
        for people in units:
            with UnitOfWork(env.engine) as uow:
                for username, email in people:
                    register(uow.users, username, email)
                uow.flush()
                if commit:
                    uow.commit()
    new = sa.delete(User).where(User.id > USERS).returning(User.id)
    with env.sessions.begin() as session:
        return len(session.scalars(new).all())


def left_after_rollback(engine: sa.Engine) -> list[int]:
    """Roll back a released SAVEPOINT and a CREATE TABLE; count what is left of each."""
    with Session(engine) as session:
        with session.begin_nested():
            session.execute(insert(Tally).values(name="inner"))
        session.execute(text("CREATE TABLE leftover (n INTEGER)"))
        session.rollback()
        inner = session.get(Tally, "inner")
    return [int(inner is not None), int(sa.inspect(engine).has_table("leftover"))]


@lesson.demo
def transactions(env: Database) -> None:
    """Transactions: what is not committed was never there"""
    good, bad = ("anna", "anna@example.org"), ("olena", "new@example.org")  # name taken
    left = {
        "half failed, a commit each": new_users(env, [good], [bad]),
        "half failed, one unit of work": new_users(env, [good, bad]),
        "written, not committed": new_users(env, [good], commit=False),
        "committed": new_users(env, [good]),
    }
    table(("new users", "left"), *left.items())
    check("only what is committed stays", [*left.values()] == [1, 0, 0, 1], True)

    def twice_raises(users: UserRepository | FakeUsers) -> bool:
        register(users, *good)
        return raises(ValueError, lambda: register(users, "x", good[1].upper()))

    with UnitOfWork(env.engine) as uow:
        real = twice_raises(uow.users)
    with max_queries(0, env.engine):
        fake = twice_raises(FakeUsers())
    check("the rule is the same on a fake, without a query", real and fake, True)
    lax, strict = left_after_rollback(env.naive), left_after_rollback(env.engine)
    header = ("left after rollback", "SAVEPOINT", "DDL")
    table(header, ("sqlite3's defaults", *lax), ("this engine", *strict))
    gone = lax == [1, 1] and strict == [0, 0]
    check("a rollback takes SAVEPOINTs and tables along", gone, True)


# %% 7. Concurrency: lost updates, write skew, deadlocks

# region retry
Sessions = orm.sessionmaker[Session]
# Conflict, deadlock, "database is locked", an object that somebody else has changed:
# the same transaction may succeed next time.
# https://www.postgresql.org/docs/current/mvcc-serialization-failure-handling.html
# https://www.sqlite.org/rescode.html#busy
TRANSIENT = ("40001", "40P01", "SQLITE_BUSY", "StaleDataError")


def code_of(error: Exception) -> str:
    """Return psycopg's SQLSTATE or sqlite3's name of an error, else its class's."""
    cause = getattr(error, "orig", None) or error  # COPY's errors are psycopg's own
    code = getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorname", None)
    return str(code or type(cause).__name__)


def run_transaction(
    sessions: Sessions,
    work: Callable[[Session], T],
    attempts: int = 20,
    codes: tuple[str, ...] = TRANSIENT,
) -> T:
    """Run the whole unit of work in a transaction; again if others were in its way.

    `work` has no effect outside its session, for it may run `attempts` times. The waits
    are random, up to 2 ms * 2**attempt and 250 ms ("full jitter", Brooker, AWS 2015).
    Any other error, and the last transient one, is raised as it is. An object that is
    returned keeps its values (expire_on_commit=False), for its session is closed.
    """
    # Trap: retrying the statement that failed. What was decided from is void too.
    attempt = 1
    while True:
        try:
            with sessions(expire_on_commit=False) as session, session.begin():
                return work(session)
        except Exception as error:
            if attempt >= attempts or not code_of(error).startswith(codes):
                raise
        time.sleep(random.uniform(0, min(0.25, 0.002 * 2**attempt)))
        attempt += 1
        # endregion retry


# region increments
Work = Callable[[], object]
CLICKS = select(Tally.n).where(Tally.name == "clicks")
# Trap: an UPDATE that leaves the version alone. A versioned writer does not see it.
WRITE = update(Tally).where(Tally.name == "clicks").values(version=Tally.version + 1)


def increment_naive(sessions: Sessions, pause: Work) -> None:
    """Read, think, write: what a web form does."""
    with sessions() as session:
        n = session.scalars(CLICKS).one()
    pause()
    with sessions.begin() as session:
        session.execute(WRITE.values(n=n + 1))


def increment_atomic(sessions: Sessions, pause: Work) -> None:
    """Unlike naive: the database reads and writes in one statement."""
    pause()
    with sessions.begin() as session:
        session.execute(WRITE.values(n=Tally.n + 1))


def increment_versioned(sessions: Sessions, pause: Work, attempts: int = 200) -> None:
    """Unlike atomic: may think, holding no lock; who is late reads again."""

    def work(session: Session) -> None:  # no connection is taken before the commit
        with sessions() as reading:
            tally = reading.get_one(Tally, "clicks")
        pause()
        tally.n += 1
        session.add(tally)  # UPDATE ... WHERE version = the one that was read

    run_transaction(sessions, work, attempts)


def increment_in_one(
    sessions: Sessions, pause: Work, lock: bool = False, attempts: int = 1
) -> None:
    """Unlike versioned: thinks in the transaction. `lock`: others wait meanwhile."""

    def work(session: Session) -> None:
        n = session.scalars(CLICKS.with_for_update() if lock else CLICKS).one()
        pause()
        session.execute(WRITE.values(n=n + 1))

    run_transaction(sessions, work, attempts)
    # endregion increments


def race(works: Sequence[Work], rounds: int = 1) -> Counter[str]:
    """Run each work in its thread, all together in every round; count the outcomes."""
    start = threading.Barrier(len(works))

    def outcome(work: Work) -> str:
        start.wait(LIMIT)
        try:
            work()
        except exc.DBAPIError as error:
            return code_of(error)
        return "ok"

    with ThreadPoolExecutor(len(works)) as threads:
        runs = threads.map(lambda work: [outcome(work) for _ in range(rounds)], works)
        return Counter(itertools.chain(*runs))


def clicks_after(engine: sa.Engine, increment: Callable[..., None], pause: Work) -> int:
    """Let 4 threads increment 25 times each; return the number that comes out."""
    sessions = orm.sessionmaker(engine)
    with sessions.begin() as session:
        session.merge(Tally(name="clicks", n=0))
    race([partial(increment, sessions, pause)] * 4, rounds=25)
    with sessions() as session:
        return session.scalars(CLICKS).one()


def show_increments(env: Database) -> None:
    """Count what is left of 100 increments."""
    # `strict` refuses at once what could go wrong.
    isolation = {"isolation_level": "SERIALIZABLE"} if env.live else {"timeout": 0.001}
    strict, in_one = env.connect(**isolation), increment_in_one
    meet = partial(threading.Barrier(4).wait, LIMIT)  # all have read, none has written
    think = partial(time.sleep, 0.001)  # where a lock keeps the others from meeting
    lossy = {
        "naive": clicks_after(env.engine, increment_naive, meet),
        "in one, sqlite3's defaults": clicks_after(env.naive, in_one, meet),
    }
    safe = {
        "atomic": clicks_after(env.engine, increment_atomic, think),
        "versioned": clicks_after(env.engine, increment_versioned, think),
        "locked": clicks_after(env.engine, partial(in_one, lock=True), think),
        "retried": clicks_after(strict, partial(in_one, attempts=200), think),
    }
    bare = [clicks_after(env.engine, increment_naive, think)]
    bare += [clicks_after(strict, in_one, think)]
    table(("increment", "of 100"), *lossy.items(), *safe.items())
    fact("unprotected, the same load", "fewer" if max(bare) < 100 else bare)
    check("read, think, write loses updates", max(lossy.values()) < 100, True)
    for name, n in safe.items():
        check(f"{name}: 100 of 100", n == 100 > max(bare), True)


DUTY = ("Ann on call", "Bob on call")
ON_CALL = select(func.sum(Tally.n)).where(Tally.name.in_(DUTY))


def doctors_left(env: Database, level: str) -> tuple[int, int]:
    """Let each doctor go home if another stays; return who stays, and Ann's attempts.

    Bob's whole transaction runs between Ann's decision and her own write.
    """
    sessions, attempts = orm.sessionmaker(env.connect(isolation_level=level)), []
    with sessions.begin() as session:
        for name in DUTY:
            session.merge(Tally(name=name, n=1))

    def leave(name: str, meanwhile: Work, session: Session) -> None:
        attempts.append(name)
        others = session.scalars(ON_CALL).one() > 1
        meanwhile()
        if others:
            session.execute(update(Tally).where(Tally.name == name).values(n=0))

    ann, bob = DUTY
    bob_leaves = partial(run_transaction, sessions, partial(leave, bob, bool))
    run_transaction(sessions, partial(leave, ann, bob_leaves))
    with sessions() as session:
        return session.scalars(ON_CALL).one(), attempts.count(ann)


def deadlock(env: Database, attempts: int) -> Counter[str]:
    """Let two transactions lock two rows in opposite order; count the outcomes."""
    each_holds_one = threading.Barrier(2)

    def transfer(names: Sequence[str]) -> None:
        meetings = [each_holds_one.wait]  # in the first attempt only

        def work(session: Session) -> None:
            for name in names:
                session.execute(update(Tally).where(Tally.name == name).values(n=1))
                while meetings:
                    meetings.pop()(LIMIT)

        run_transaction(env.sessions, work, attempts)

    return race([partial(transfer, DUTY), partial(transfer, DUTY[::-1])])


@lesson.demo
def concurrency(env: Database) -> None:
    """Concurrency: 100 increments are 100, and a conflict is retried as a whole"""
    show_increments(env)
    mistake = insert(City).values(name="Atlantis", country_id=999)
    run = partial(run_transaction, env.sessions, lambda s: s.execute(mistake))
    with max_queries(math.inf, env.engine) as sent:
        failed = raises(exc.IntegrityError, run)
    check("a mistake is not retried", failed and len(sent) == 1, True)
    if not env.live:
        raise Skip("write skew and deadlock: SQLite runs one writer at a time")
    levels = "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"
    left = {level: doctors_left(env, level) for level in levels}
    table(("level", "on call", "attempts"), *((k, *v) for k, v in left.items()))
    stays = [*left.values()] == [(0, 1), (0, 1), (1, 2)]
    check("a doctor stays on call, at SERIALIZABLE only", stays, True)
    once, again = deadlock(env, attempts=1), deadlock(env, attempts=20)
    fact("a deadlock, without a retry", dict(sorted(once.items())))
    well = once == {"ok": 1, "40P01": 1} and again == {"ok": 2}
    check("retried, a deadlock ends well", well, True)


# %% 8. Pool: few connections, no endless wait, recovery

# region pool
# Trap: raising these until the error is gone. max_connections of the server is for all
# processes together, and the error mostly means a session that nobody closed.
# The ping costs a round trip per checkout.
POOL = {"pool_size": 2, "max_overflow": 1, "pool_timeout": 0.1, "pool_pre_ping": True}


# endregion pool
def use(engine: sa.Engine) -> str:
    """Use a connection for a query; return how that ends."""
    try:
        with engine.connect() as connection:
            connection.execute(select(1))
    except exc.DBAPIError as error:
        return "lost" if error.connection_invalidated else code_of(error)
    except exc.TimeoutError as error:
        return f"code {error.code}"
    return "ok"


def show_killed_backends(env: Database) -> None:
    """Kill the server processes of idle and of busy connections."""
    uses = []
    for pre_ping in (False, True):
        engine = env.connect(**POOL | {"pool_pre_ping": pre_ping})
        with engine.connect() as connection:
            pid = connection.scalars(PID).one()
        end_backend(env.engine, pid)
        uses.append((use(engine), use(engine)))
    header = ("back end killed while idle", "next use", "then")
    table(header, ("pool_pre_ping=False", *uses[0]), ("pool_pre_ping=True", *uses[1]))
    unseen = uses == [("lost", "ok"), ("ok", "ok")]
    check("pre_ping replaces a dead connection unseen", unseen, True)

    def half() -> None:
        with engine.begin() as connection:
            connection.execute(insert(Tally).values(name="first half"))
            end_backend(env.engine, connection.scalars(PID).one())
            connection.execute(insert(Tally).values(name="other half"))

    error = raises(exc.OperationalError, half)
    with env.sessions() as session:
        left = session.scalars(select(Tally).where(Tally.name.endswith(" half"))).all()
    whole = (error, len(left), use(engine)) == (True, 0, "ok")
    check("a transaction dies as a whole, the next one lives", whole, True)


@lesson.demo
def pool(env: Database) -> None:
    """Pool: few connections, an error instead of an endless wait, recovery"""
    rows, unpooled = [], {"poolclass": sa.NullPool}
    for name, options in (("no pool", unpooled), ("POOL", dict[str, Any](POOL))):
        engine, opened = env.connect(**options), Counter[str]()
        event.listen(engine, "connect", lambda *_, seen=opened: seen.update(["one"]))
        for _ in range(20):
            use(engine)
        used = opened["one"]
        with engine.connect(), engine.connect(), engine.connect():
            rows.append((name, used, use(engine)))
    table(("", "connections for 20 uses", "the fourth of three at once"), *rows)
    check("20 uses share one connection", [n for _, n, _ in rows] == [20, 1], True)
    ends = [end for *_, end in rows]
    check("a pool that is used up says so at once", ends == ["ok", "code 3o7r"], True)
    if not env.live:
        raise Skip("killed back ends: SQLite runs in this process")
    show_killed_backends(env)


# %% 9. Bulk: fewer statements in, less memory out, pages that do not slip

INSERT = insert(Base.metadata.tables["readings"])
RETURNING = insert(Reading).returning(Reading.id)
Rows = list[dict[str, Any]]
Load = Callable[[Session, Rows], object]


# region ladder
def load_each(session: Session, rows: Rows) -> None:
    """Commit every row."""
    for row in rows:
        session.add(Reading(**row))
        session.commit()


def load_values(session: Session, rows: Rows) -> None:
    """Send long statements, compiled anew each time."""
    for i in range(0, len(rows), CHUNK):
        session.execute(insert(Reading).values(rows[i : i + CHUNK]))


def load_copy(session: Session, rows: Rows) -> None:
    """Send no INSERT at all, but a stream of rows. PostgreSQL only."""
    cursor: Any = session.connection().connection.cursor()
    with cursor.copy("COPY readings (sensor, value) FROM STDIN") as copy:
        for row in rows:
            copy.write_row((row["sensor"], row["value"]))


# From objects to a stream of rows. Long statements gain nothing where add_all sends
# chunks, too, as on PostgreSQL; all others have less work per row than the one above.
EACH = "add and commit each"
LADDER: dict[str, Load] = {
    EACH: load_each,
    "add_all": lambda session, rows: session.add_all(Reading(**row) for row in rows),
    "values(1000 rows)": load_values,
    "ORM, ids back": lambda session, rows: session.scalars(RETURNING, rows).all(),
    "ORM": lambda session, rows: session.execute(insert(Reading), rows),
    "Core": lambda session, rows: session.connection().execute(INSERT, rows),
    "COPY": load_copy,
}
# endregion ladder


def loaded(env: Database, way: str) -> tuple[int, int, float]:
    """Load ROWS (committed each: a 50th) into the emptied table.

    Returns the rows that are there, the statements sent and the seconds.
    """
    count = ROWS // 50 if way == EACH else ROWS
    rows = [{"sensor": f"s{i % 100:02}", "value": i % 1000} for i in range(count)]
    with env.sessions() as session:
        session.execute(sa.delete(Reading))
        session.commit()
        with max_queries(math.inf, env.engine) as sent:
            start = time.perf_counter()
            LADDER[way](session, rows)
            session.commit()
            seconds = time.perf_counter() - start
        there = session.scalars(select(func.count(Reading.id))).one()
    return there, len(sent), seconds


def show_ladder(env: Database) -> None:
    """Load the same rows in every way, and count the statements."""
    chunks, ways = math.ceil(ROWS / CHUNK), [*LADDER][: 7 if env.live else 6]
    progress = track(ways, "loading", console=Console(stderr=True), transient=True)
    loads = {way: loaded(env, way) for way in progress}
    table(("way", "rows", "statements"), *((w, n, k) for w, (n, k, _) in loads.items()))
    core = ROWS / loads["Core"][2]
    for way, (rows, _, seconds) in loads.items():
        rate = rows / seconds
        note(f"{way:<19} {rate:>9,.0f} rows per second, {rate / core:.3f} x Core")
    # SQLite returns the ids of objects one by one, PostgreSQL a chunk at a time.
    sent = [ROWS // 50, chunks if env.live else ROWS, chunks, chunks, 1, 1, 0]
    there = [ROWS // 50] + [ROWS] * 6
    expected = [*zip(there, sent, strict=True)][: len(ways)]
    counts = [(rows, statements) for rows, statements, _ in loads.values()]
    check("a statement per row, per chunk, or for all", counts == expected, True)


def show_streaming(env: Database) -> None:
    """Read all entities at once and in a stream; compare the peaks of memory."""

    def total(**options: int) -> int:
        with env.sessions() as session:
            found = session.scalars(select(Reading).execution_options(**options))
            return sum(r.value for r in (found if options else found.all()))

    stream = partial(total, yield_per=ROWS // 50)
    peaks = peak_bytes(total), peak_bytes(stream)
    note(f"peaks: all() {peaks[0] / 1e6:.1f} MB, yield_per {peaks[1] / 1e6:.2f} MB")
    tenth = total() == stream() and peaks[1] * 10 <= peaks[0]
    check("a stream takes at most a tenth of the memory of all()", tenth, True)


# region upsert
def count_hit(session: Session, name: str) -> Tally:
    """Insert a number or add one to it in one statement; return it as it is now."""
    dialects = {"postgresql": postgresql, "sqlite": sqlite}
    # Trap: onupdate= is not applied here, and without populate_existing an object that
    # the session holds already stays as it was.
    changes = {"n": Tally.n + 1, "version": Tally.version + 1}
    dialect: Any = dialects[session.get_bind().dialect.name]
    new = dialect.insert(Tally).values(name=name, n=1)
    upsert = new.on_conflict_do_update(index_elements=[Tally.name], set_=changes)
    fresh = upsert.returning(Tally).execution_options(populate_existing=True)
    return session.execute(fresh).scalar_one()  # type: ignore[no-any-return]
    # endregion upsert


def show_upsert(env: Database) -> None:
    """Let eight threads count the first hits of a page."""

    def insert_hit(session: Session, name: str) -> None:
        session.execute(insert(Tally).values(name=name, n=1))

    ends = []
    for hit in (insert_hit, count_hit):
        work = partial(hit, name=hit.__name__)
        ends.append(race([partial(run_transaction, env.sessions, work)] * 8))
    with env.sessions() as session:
        hits = session.get_one(Tally, count_hit.__name__).n
    plain, upserts = (end["ok"] for end in ends)
    fact("8 hits at once, by INSERT", f"{plain} ok, {8 - plain} duplicates")
    check("8 racing upserts count 8 hits", (plain, upserts, hits) == (1, 8, 8), True)


# region paging
IN_ORDER = select(User.registered_at, User.id).order_by(User.registered_at, User.id)


def page_by_offset(number: int) -> sa.Select[datetime, int]:
    """Skip the pages before: the database reads them all again."""
    return IN_ORDER.limit(PAGE).offset(number * PAGE)


def page_by_key(last: tuple[datetime, int]) -> sa.Select[datetime, int]:
    """Unlike offset: go on behind the last row seen, straight from the index."""
    # Trap: without the id, users of the same instant get lost between two pages.
    return IN_ORDER.where(sa.tuple_(User.registered_at, User.id) > last).limit(PAGE)
    # endregion paging


def visits(session: Session, by_key: bool) -> list[int]:
    """Page through all users, while one more registers after the first page."""
    seen = [*session.execute(page_by_offset(0))]
    before = NEW_YEAR - timedelta(days=1)
    early = User(username="early", email="early", registered_at=before, address_id=1)
    session.add(early)
    for number in range(1, USERS // PAGE + 1):
        page = page_by_key(seen[-1]) if by_key else page_by_offset(number)
        seen += session.execute(page)
    session.rollback()
    return [key for _, key in seen]


def show_paging(env: Database) -> None:
    """Page by OFFSET and by key, and ask the database how it finds a page."""
    with env.sessions() as session:
        pages = {"OFFSET": visits(session, False), "key": visits(session, True)}
        by_logins = page_by_offset(1).order_by(None).order_by(User.logins)
        plans = (
            plan_of(session, by_logins),
            plan_of(session, page_by_key((NEW_YEAR, 0))),
        )
    rows = [(by, len(ids), len(set(ids))) for by, ids in pages.items()]
    table(("600 users paged by", "visits", "users"), *rows)
    slipped = [visited - there for _, visited, there in rows]
    check(
        "pages by key slip for nobody", slipped == [1, 0] and rows[1][2] == USERS, True
    )
    indexed = ["ix_users_registered_at_id" in plan for plan in plans]
    check("an index finds the page by key", indexed == [False, True], True)


@lesson.demo
def bulk(env: Database) -> None:
    """Bulk: fewer statements in, less memory out, pages that do not slip"""
    show_ladder(env)
    show_streaming(env)
    show_upsert(env)
    show_paging(env)
    if not env.live:
        raise Skip("COPY: SQLite is in this process, there is no wire to save")
    turns = [(loaded(env, "Core")[2], loaded(env, "COPY")[2]) for _ in range(9)]
    core, copy = map(min, zip(*turns, strict=True))
    note(f"COPY is {core / copy:.1f} x as fast as Core's executemany")
    check("COPY is at least 4 x as fast as executemany", core >= 4 * copy, True)


# %% 10. Migration: expand, backfill, contract

OLD, NEW = "full_name", "display_name"


def members(name: str) -> sa.Table:
    """Return a table with a column of this name besides its id."""
    metadata = sa.MetaData(naming_convention=Base.metadata.naming_convention)
    key = sa.Column("id", sa.Integer, primary_key=True)
    return sa.Table("members", metadata, key, sa.Column(name, NAME, nullable=False))


BEFORE, AFTER = members(OLD), members(NEW)


# region migration
def add(op: Operations, name: str) -> None:
    """Add a column that code may leave empty."""
    op.add_column("members", sa.Column(name, NAME))


def settle(op: Operations, required: str, gone: str) -> None:
    """Require one column and drop another; SQLite needs a copy of the table for it."""
    with op.batch_alter_table("members") as batch:
        batch.alter_column(required, existing_type=NAME, nullable=False)
        batch.drop_column(gone)


def proof(change: str, op: Operations) -> None:
    """Change the check by which PostgreSQL knows that no row is empty."""
    if op.get_context().dialect.name == "postgresql":
        op.execute(f"ALTER TABLE members {change}")


FULL = "members_full"  # the name of that check
# The new code needs one; when no old code runs any more, the other takes the rest away.
expand = partial(add, name=NEW)
CONTRACT = (
    # Trap: SET NOT NULL alone. It reads the table, and nobody else may meanwhile.
    partial(proof, f"ADD CONSTRAINT {FULL} CHECK ({NEW} IS NOT NULL) NOT VALID"),
    partial(proof, f"VALIDATE CONSTRAINT {FULL}"),  # reads it, and so may others
    partial(settle, required=NEW, gone=OLD),  # need not read it
    partial(proof, f"DROP CONSTRAINT IF EXISTS {FULL}"),
)


def migrate(engine: sa.Engine, step: Callable[[Operations], None]) -> None:
    """Run a step in one transaction: Alembic as a library, without ini file.

    For a lock it waits half a second, then tries again: all others queue up behind it.
    Raises ValueError, and undoes the step, if a row of SQLite loses its parent.
    """
    engine.dispose()  # SQLite's other connections still believe in the old table
    lite = engine.dialect.name == "sqlite"
    with engine.connect() as connection:
        if lite:
            # Trap: to SQLite a table that is copied and dropped has lost its rows, and
            # their children follow. This is heeded outside of a transaction only.
            connection.detach()  # from the pool: it ends with this setting
            raw: Any = connection.connection
            raw.execute("PRAGMA foreign_keys = OFF")

        def work(session: Session) -> None:
            if not lite:
                session.execute(text("SET LOCAL lock_timeout = '500ms'"))
            step(Operations(MigrationContext.configure(session.connection())))
            if lite and raw.execute("PRAGMA foreign_key_check").fetchall():
                raise ValueError("the step leaves rows without their parents")

        again = *TRANSIENT, "55P03"  # no lock in time
        run_transaction(orm.sessionmaker(connection), work, codes=again)


def contract(engine: sa.Engine) -> None:
    """Require the new column and drop the old one, a transaction per step."""
    *steps, clean_up = CONTRACT
    try:
        for step in steps:
            migrate(engine, step)
    finally:
        migrate(engine, clean_up)


def backfill(engine: sa.Engine, size: int = 100) -> int:
    """Fill the new column, `size` rows per transaction; return the transactions.

    May be stopped and run again: it goes on where the column is empty. Code that still
    changes a full name has to write both columns: no row is filled twice.
    """
    # Trap: one UPDATE of the whole table keeps every row locked until the last is done.
    empty = "members WHERE display_name IS NULL"
    some = f"SELECT id FROM {empty} LIMIT :size"  # noqa: S608
    # Of a row that it waited for, PostgreSQL asks the outer WHERE again, no subquery.
    where = f"display_name IS NULL AND id IN ({some})"
    fill = f"UPDATE members SET display_name = full_name WHERE {where}"  # noqa: S608
    done = 0
    while True:
        with engine.begin() as connection:
            if not connection.scalar(text(f"SELECT EXISTS (SELECT 1 FROM {empty})")):  # noqa: S608
                return done
            connection.execute(text(fill), {"size": size})
        done += 1


def downgrade(op: Operations) -> None:
    """Go back to the old table, with its data. Everybody waits until it is done."""
    add(op, OLD)
    op.execute("UPDATE members SET full_name = display_name")
    settle(op, required=OLD, gone=NEW)

    # endregion migration


@lesson.demo
def migration(env: Database) -> None:
    """Migration: old and new code run side by side, and there is a way back"""
    engine, names = env.engine, [f"Ada Lovelace {number}" for number in range(250)]

    def old_code_writes(some: list[str]) -> None:
        with engine.begin() as connection:
            rows = [{"full_name": name} for name in some]
            connection.execute(BEFORE.insert(), rows)

    def old_code_reads() -> list[str]:
        with engine.connect() as connection:
            in_order = text("SELECT full_name FROM members ORDER BY id")
            return [*connection.scalars(in_order)]

    BEFORE.create(engine)
    old_code_writes(names[:150])
    migrate(engine, expand)
    old_code_writes(names[150:200])
    check(
        "after expand the old code reads and writes",
        old_code_reads() == names[:200],
        True,
    )
    expanded = drift(engine, AFTER)
    early = raises(exc.IntegrityError, lambda: contract(engine))
    old_code_writes(names[200:])
    undone = old_code_reads() == names and drift(engine, AFTER) == expanded
    check("contract before backfill is refused and undone", early and undone, True)
    batches = backfill(engine), backfill(engine)
    fact("transactions of the backfill, again", batches)
    check("no backfill locks more than 100 rows", batches == (3, 0), True)
    contract(engine)
    contracted = drift(engine, AFTER)
    fact("drift after expand, contract", [expanded, contracted])
    check("after contract the database is the model", expanded > 0 == contracted, True)
    migrate(engine, downgrade)
    back = drift(engine, BEFORE) == 0 and old_code_reads() == names
    check("downgrade brings table and names back", back, True)
    with max_queries(0, engine):
        script = [line for line in offline_sql(expand, *CONTRACT).splitlines() if line]
    for line in script:
        write(f"    {line}")
    check("the SQL to review needs no database", len(script) == 6, True)


def main(argv: list[str] | None = None) -> int:
    """Teach, with the options of the command line; return the exit code."""
    return lesson.main(argv)


lesson.finish(__name__, main)
