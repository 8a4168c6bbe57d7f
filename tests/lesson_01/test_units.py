"""Lesson 01 on SQLite: its mechanisms against oracles, and what it refuses."""

from __future__ import annotations

import argparse
import random
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from lessons import load
from sqlalchemy.orm.exc import StaleDataError

from course.sql.answers import plain_ranks, seen_after
from course.sql.changes import drift, offline_sql
from course.sql.members import OldCode
from course.sql.months import Cohort
from course.sql.seed import COUNTRIES, readings

lesson = load("01")
quickly = settings(max_examples=25, deadline=None)


def arguments(**changes: Any) -> argparse.Namespace:
    given = {"offline": True, "require_live": False, "url": None} | changes
    return argparse.Namespace(**given)


@pytest.fixture(scope="module")
def env() -> Iterator[Any]:
    with lesson.open_env(arguments()) as opened:
        yield opened


@contextmanager
def changed(env: Any) -> Iterator[Any]:
    """Open a session whose changes are seen by the lesson's queries, then undone."""
    with env.sessions() as session:
        yield session
        session.rollback()


# Instants

zones = st.timedeltas(timedelta(hours=-14), timedelta(hours=14)).map(
    lambda delta: timezone(timedelta(minutes=delta // timedelta(minutes=1)))
)
instants = st.datetimes(
    datetime(1900, 1, 2), datetime(2100, 1, 1), timezones=zones.map(lambda z: z)
)


@quickly
@given(instant=instants)
def test_an_instant_of_any_offset_comes_back_as_itself(
    env: Any, instant: datetime
) -> None:
    with env.engine.connect() as connection:
        back = connection.scalar(sa.select(sa.literal(instant, lesson.Utc())))
    assert back == instant
    assert back.utcoffset() == timedelta(0)


@quickly
@given(pair=st.tuples(instants, instants))
def test_the_database_sorts_instants_as_python_does(
    env: Any, pair: tuple[datetime, datetime]
) -> None:
    first, second = (sa.literal(instant, lesson.Utc()) for instant in pair)
    with env.engine.connect() as connection:
        assert connection.scalar(sa.select(first < second)) == (pair[0] < pair[1])


def test_a_naive_instant_is_refused_and_none_is_none(env: Any) -> None:
    with env.engine.connect() as connection:
        with pytest.raises(sa.exc.StatementError, match="time zone"):
            connection.scalar(sa.select(sa.literal(datetime(2025, 1, 1), lesson.Utc())))
        assert connection.scalar(sa.select(sa.literal(None, lesson.Utc()))) is None


# The population and the repositories


def test_the_population_is_as_promised(env: Any) -> None:
    with env.sessions() as session:
        counts = [
            session.scalar(sa.select(sa.func.count()).select_from(table))
            for table in (lesson.Country, lesson.City, lesson.Address, lesson.User)
        ]
        users = lesson.UserRepository(session)
        assert counts == [5, 20, 100, 600]
        ukraine = users.find_users_by_country("Ukraine")
        assert [user.username for user in ukraine] == ["olena", "taras_s", "iryna"]
        assert {user.address.city.country.name for user in ukraine} == {"Ukraine"}
        kyiv = users.find_users_by_city("Kyiv")
        assert [user.username for user in kyiv] == ["olena", "taras_s"]
        assert users.find_users_by_country("Atlantis") == []
        countries = lesson.CountryRepository(session).get_all_countries_with_cities()
        assert [c.name for c in countries] == sorted(COUNTRIES)
        assert {len(c.cities) for c in countries} == {4}


@pytest.mark.parametrize("seed", range(5))
def test_statistics_equal_numpy_on_other_figures(env: Any, seed: int) -> None:
    rng = random.Random(seed)
    with changed(env) as session:
        users = session.scalars(sa.select(lesson.User)).all()
        for user in users:
            user.logins = rng.choice([0, 0, 20, rng.randrange(100)])
            user.spent_cents = rng.choice([None, 0, 1, rng.randrange(50)])
        session.flush()
        figures = lesson.UserRepository(session).get_user_statistics()
        logins = np.array([user.logins for user in users])
        spent = np.array([u.spent_cents for u in users if u.spent_cents is not None])
    expected = [600, (logins >= 20).sum(), len(spent)]
    expected += [logins.min(), logins.max(), spent.sum()]
    expected += list(np.quantile(spent, [0.5, 0.9], method="inverted_cdf"))
    expected += [round(float(logins.mean()), 2)]
    assert list(figures.values()) == expected


@pytest.mark.parametrize("tiles", [1, 7, 10, 599, 600])
def test_the_top_tile_is_what_ntile_means(env: Any, tiles: int) -> None:
    with env.sessions() as session:
        analytics = lesson.DataScienceAnalytics(session)
        top = analytics.identify_high_value_users(tiles)
        everyone = session.scalars(sa.select(lesson.User)).all()
        ordered = sorted(
            everyone, key=lambda u: (u.spent_cents is None, -(u.spent_cents or 0), u.id)
        )
        size = -(-len(everyone) // tiles)  # SQL gives the first tiles one more
        buyers = [user for user in ordered[:size] if user.spent_cents is not None]
        assert [user.id for user in top] == [user.id for user in buyers]


def test_a_country_without_users_is_not_lost(env: Any) -> None:
    with changed(env) as session:
        session.add(lesson.Country(name="Atlantis", population=1, gdp_per_capita=1))
        session.flush()
        statistics = lesson.CountryRepository(session).get_country_statistics()
        shares = lesson.DataScienceAnalytics(session).get_user_distribution_by_country()
    assert tuple(statistics[0]) == ("Atlantis", 0, 0, 0, 0.0, None, 1)
    assert shares[-1] == ("Atlantis", 0, 0.0)
    assert sum(users for _, users, _ in shares) == 600


@pytest.mark.parametrize("part", ["%", "_", "/", "'", '"', "\\", "; DROP TABLE users"])
def test_signs_of_the_pattern_language_are_letters(env: Any, part: str) -> None:
    with env.sessions() as session:
        found = lesson.UserRepository(session).find_users_by_name_part(part)
        expected = ["taras_s"] if part == "_" else []
        assert [user.username for user in found] == expected


def test_what_a_repository_did_not_load_raises(env: Any) -> None:
    with env.sessions() as session:
        rich = lesson.DataScienceAnalytics(session).identify_high_value_users()[0]
        with pytest.raises(sa.exc.InvalidRequestError, match="raise"):
            _ = rich.address.city.country.cities
    with env.sessions() as session:
        users = lesson.UserRepository(session)
        for found in (
            users.get_users_with_addresses(),
            users.find_users_by_city("Kyiv"),
        ):
            with pytest.raises(sa.exc.InvalidRequestError, match="raise"):
                _ = found[0].address.city.country.cities


def test_a_budget_counts_exactly(env: Any) -> None:
    def spend(queries: int, limit: int) -> None:
        with lesson.max_queries(limit, env.engine), env.engine.connect() as connection:
            for _ in range(queries):
                connection.execute(sa.select(1))

    spend(3, limit=3)
    with pytest.raises(AssertionError, match="4 statements, 3 allowed"):
        spend(4, limit=3)
    with pytest.raises(ZeroDivisionError), lesson.max_queries(0, env.engine):
        spend(1, limit=1)
        _ = 1 / 0  # the error of the block is not hidden by the budget's


@quickly
@given(days=st.lists(st.integers(0, 5), min_size=1, max_size=120))
def test_pages_by_key_visit_each_user_once(env: Any, days: list[int]) -> None:
    with changed(env) as session:
        session.execute(sa.delete(lesson.User))
        for i, day in enumerate(days):
            at = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(days=day)
            name = f"u{i}"
            user = lesson.User(username=name, email=name, registered_at=at)
            user.address_id = 1
            session.add(user)
        session.flush()
        seen: list[Any] = []
        last = (datetime(2000, 1, 1, tzinfo=UTC), 0)
        while page := session.execute(lesson.page_by_key(last)).all():
            seen += page
            last = (page[-1][0], page[-1][1])
        assert [key for _, key in seen] == [
            key for _, key in session.execute(lesson.IN_ORDER).all()
        ]
        assert len(seen) == len(days)


# Transactions and retries


class Transient(Exception):
    sqlstate = "40001"


def database_error(cause: BaseException) -> sa.exc.DBAPIError:
    return sa.exc.OperationalError("SELECT 1", None, cause)


def is_transient(error: sa.exc.DBAPIError) -> bool:
    return bool(lesson.code_of(error).startswith(lesson.TRANSIENT))


@pytest.mark.parametrize(
    ("state", "again"),
    [
        ("40001", True),
        ("40P01", True),
        ("23505", False),
        ("57P01", False),
        (None, False),
    ],
)
def test_only_two_states_of_postgresql_are_transient(
    state: str | None, again: bool
) -> None:
    error = Transient()
    error.sqlstate = state  # type: ignore[assignment]
    assert is_transient(database_error(error)) is again


def test_a_lock_of_sqlite_is_transient_and_a_typo_is_not(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    options = {"timeout": 0.0, "isolation_level": None}
    with (
        closing(sqlite3.connect(path, **options)) as one,  # type: ignore[call-overload]
        closing(sqlite3.connect(path, **options)) as two,  # type: ignore[call-overload]
    ):
        one.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError) as locked:
            two.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError) as typo:
            two.execute("SELEC 1")
    assert is_transient(database_error(locked.value))
    assert not is_transient(database_error(typo.value))


@quickly
@given(failures=st.integers(0, 12), attempts=st.integers(1, 10))
def test_retries_are_bounded_and_their_waits_too(failures: int, attempts: int) -> None:
    waits: list[float] = []
    runs = 0
    engine = sa.create_engine("sqlite://")

    def work(session: Any) -> str:
        nonlocal runs
        runs += 1
        if runs <= failures:
            raise database_error(Transient())
        return "done"

    patch = pytest.MonkeyPatch()
    patch.setattr(lesson, "time", SimpleNamespace(sleep=waits.append))
    try:
        sessions = sa.orm.sessionmaker(engine)
        if failures < attempts:
            assert lesson.run_transaction(sessions, work, attempts) == "done"
        else:
            with pytest.raises(sa.exc.OperationalError):
                lesson.run_transaction(sessions, work, attempts)
    finally:
        patch.undo()
        engine.dispose()
    assert runs == min(failures + 1, attempts)
    assert len(waits) == runs - 1
    assert all(0 <= w <= min(0.25, 0.002 * 2**i) for i, w in enumerate(waits, 1))


def test_the_whole_unit_of_work_is_run_again(env: Any) -> None:
    """A conflict at the end repeats the reads, and nothing is written twice."""
    runs: list[int] = []

    def work(session: Any) -> None:
        before = session.scalar(sa.select(sa.func.count(lesson.City.id)))
        runs.append(before)
        session.add(lesson.City(name="Atlantis", country_id=1))
        session.flush()
        if len(runs) < 3:
            raise database_error(Transient())

    lesson.run_transaction(env.sessions, work)
    with env.sessions.begin() as session:
        gone = sa.delete(lesson.City).where(lesson.City.name == "Atlantis")
        assert session.execute(gone).rowcount == 1
    assert runs == [20, 20, 20]


def test_any_other_error_is_raised_at_once(env: Any) -> None:
    runs = []

    def work(_: Any) -> None:
        runs.append(1)
        raise KeyError("mine")

    with pytest.raises(KeyError):
        lesson.run_transaction(env.sessions, work)
    assert runs == [1]


def test_a_lock_that_is_released_in_time_is_waited_for(env: Any) -> None:
    held, released = threading.Event(), threading.Event()

    def hold() -> None:
        with env.engine.begin():
            held.set()
            released.wait(5)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(5)
    sessions = sa.orm.sessionmaker(env.connect(timeout=0.001))
    runs: list[int] = []

    def work(session: Any) -> Any:
        runs.append(1)
        if len(runs) == 3:
            released.set()
            holder.join(10)
        return session.scalar(sa.select(1))

    try:
        assert lesson.run_transaction(sessions, work) == 1
    finally:
        released.set()
        holder.join(10)
    assert len(runs) >= 3


def test_a_stale_object_is_refused(env: Any) -> None:
    with env.sessions.begin() as session:
        session.merge(lesson.Tally(name="stale", n=0))
    with env.sessions() as mine:
        tally = mine.get_one(lesson.Tally, "stale")
        mine.commit()  # gives the lock back
        mine.refresh(tally)
        mine.expunge(tally)
    with env.sessions.begin() as theirs:
        theirs.get_one(lesson.Tally, "stale").n = 7
    with pytest.raises(StaleDataError), env.sessions.begin() as session:
        session.add(tally)
        tally.n += 1
    with env.sessions() as session:
        assert session.get_one(lesson.Tally, "stale").n == 7


def test_a_unit_of_work_without_commit_leaves_nothing(env: Any) -> None:
    with pytest.raises(RuntimeError), lesson.UnitOfWork(env.engine) as uow:
        lesson.register(uow.users, "ghost", "ghost@example.org", 7)
        uow.flush()
        raise RuntimeError("half-way")
    with env.sessions() as session:
        assert not lesson.UserRepository(session).has_email("ghost@example.org")


def test_two_that_register_at_once_get_one_email_in_any_case(env: Any) -> None:
    """Both pass the test of register(): the index decides."""

    def sign_up(name: str, email: str) -> None:
        with env.sessions.begin() as session:
            at = datetime(2025, 1, 1, tzinfo=UTC)
            user = lesson.User(username=name, email=email, registered_at=at)
            user.address_id = 1
            session.add(user)

    sign_up("first", "Same@example.org")
    try:
        with pytest.raises(sa.exc.IntegrityError):
            sign_up("second", "sAME@example.org")
    finally:
        with env.sessions.begin() as session:
            session.execute(sa.delete(lesson.User).where(lesson.User.id > 600))


def test_an_upsert_returns_what_the_database_holds(env: Any) -> None:
    with changed(env) as session:
        seen = [lesson.count_hit(session, "page").n for _ in range(5)]
        assert seen == [1, 2, 3, 4, 5]


def test_the_first_hit_counts_one_by_an_insert_too(env: Any) -> None:
    with changed(env) as session:
        lesson.insert_hit(session, "first")
        assert session.get_one(lesson.Tally, "first").n == 1


# At size


@pytest.mark.slow
def test_the_bulk_section_holds_at_50_000_rows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lesson, "ROWS", 50_000)
    assert lesson.main(["--offline", "--only", "bulk"]) == 0
    printed = capsys.readouterr().out
    for way, statements in (("add_all", 50_000), ("ORM, ids back", 50), ("Core", 1)):
        row = next(
            line for line in printed.splitlines() if line.startswith(f"  {way} ")
        )
        assert row.split()[-2:] == ["50000", str(statements)]


# What left the lesson's claims, and the answers that it compares with


def test_a_mistake_of_the_database_is_not_retried(env: Any) -> None:
    runs = []

    def work(session: Any) -> None:
        runs.append(1)
        session.execute(sa.insert(lesson.City).values(name="x", country_id=999))

    with pytest.raises(sa.exc.IntegrityError):
        lesson.run_transaction(env.sessions, work)
    assert runs == [1]


def test_the_sql_to_review_needs_no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.socket.connect", None)
    monkeypatch.setattr("sqlite3.connect", None)
    statements = offline_sql(lesson.expand, *lesson.CONTRACT)
    assert [statement.split()[3:5] for statement in statements] == [
        ["ADD", "COLUMN"],
        ["ADD", "CONSTRAINT"],
        ["VALIDATE", "CONSTRAINT"],
        ["ALTER", "COLUMN"],
        ["DROP", "COLUMN"],
        ["DROP", "CONSTRAINT"],
    ]
    assert all(statement.endswith(";") for statement in statements)


def test_20_uses_share_one_connection_of_the_pool(env: Any) -> None:
    opened = {}
    no_pool = {"poolclass": sa.NullPool}
    for name, options in (("no pool", no_pool), ("POOL", lesson.POOL)):
        engine, connections = env.connect(**options), list[Any]()
        sa.event.listen(
            engine, "connect", lambda c, _, seen=connections: seen.append(c)
        )
        assert [lesson.use(engine) for _ in range(20)] == ["ok"] * 20
        opened[name] = len(connections)
    assert opened == {"no pool": 20, "POOL": 1}


def test_the_tables_come_with_the_first_use_of_the_engine() -> None:
    with lesson.open_env(arguments()) as env:
        untouched = env.connect()
        assert sa.inspect(untouched).get_table_names() == []
        assert sa.inspect(env.engine).has_table("users")
        assert sa.inspect(env.naive).get_table_names() == []


def test_answers_in_plain_python_by_hand() -> None:
    users = [SimpleNamespace(logins=n) for n in (7, 9, 7, 1)]
    assert plain_ranks(users) == [2, 1, 2, 4]
    cohorts = {
        date(2025, 1, 1): Cohort(
            13, 9, 700, Counter({None: 5, 0: 1, 2: 2, 3: 4, 8: 1})
        ),
        date(2025, 12, 1): Cohort(2, 0, 0, Counter({None: 2})),
    }
    seen = seen_after(2, 3, 9, cohorts=cohorts)
    assert seen == [["2025-01", 13, 9, 700, 7, 5, 0], ["2025-12", 2, 0, 0, 0, 0, 0]]


def test_a_stream_adds_up_the_same_values(env: Any) -> None:
    with changed(env) as session:
        session.execute(sa.delete(lesson.Reading))
        lesson.load_core(session, readings(1_050))
        total = sum(row["value"] for row in readings(1_050))
        assert lesson.total_of_all(session) == total
        assert lesson.total_streamed(session) == total


def test_a_contract_that_is_refused_leaves_the_table_as_it_was(env: Any) -> None:
    lesson.BEFORE.create(env.engine)
    try:
        lesson.migrate(env.engine, lesson.expand)
        OldCode(env.engine, lesson.BEFORE).write(["Ada"])
        expanded = drift(env.engine, lesson.AFTER)
        with pytest.raises(sa.exc.IntegrityError):
            lesson.contract(env.engine)
        assert drift(env.engine, lesson.AFTER) == expanded > 0
    finally:
        lesson.BEFORE.drop(env.engine)


@pytest.mark.parametrize("way", ["add_all", "ORM, ids back", "Core"])
def test_each_way_in_stores_the_same_rows(env: Any, way: str) -> None:
    with changed(env) as session:
        lesson.LADDER[way](session, readings(250))
        found = session.execute(sa.select(lesson.Reading.sensor, lesson.Reading.value))
        assert sorted(found.all()) == sorted(
            (row["sensor"], row["value"]) for row in readings(250)
        )
