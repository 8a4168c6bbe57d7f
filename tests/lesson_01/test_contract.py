"""Lesson 01's promises on SQLite and on PostgreSQL, and that the answers are equal."""

from __future__ import annotations

import argparse
import re
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from lessons import load, path_of, run
from sqlalchemy.orm.exc import StaleDataError

from course.lab import start_together
from course.sql.seed import COUNTRIES, readings

SCRIPT = path_of("01")
SECRET = "Xyzzy-s3cret"
lesson = load("01")
Both = tuple[Any, Any]


def opened(stack: ExitStack, url: str) -> Any:
    given = {"offline": not url, "require_live": bool(url), "url": url}
    return stack.enter_context(lesson.open_env(argparse.Namespace(**given)))


def schemas(url: str) -> set[str]:
    with psycopg.connect(url, autocommit=True) as connection:
        rows = connection.execute("SELECT nspname FROM pg_namespace").fetchall()
    return {name for (name,) in rows if name.startswith("module8_")}


def no_pause() -> None:
    """Write as soon as it is read."""


def names(users: list[Any]) -> list[str]:
    return [user.username for user in users]


QUESTIONS: dict[str, Callable[[Any], Any]] = {
    "country": lambda s: names(lesson.UserRepository(s).find_users_by_country("Japan")),
    "city": lambda s: names(lesson.UserRepository(s).find_users_by_city("Kyiv")),
    "other case": lambda s: names(lesson.UserRepository(s).find_users_by_city("kyiv")),
    "part": lambda s: names(lesson.UserRepository(s).find_users_by_name_part("UsEr1")),
    "addresses": lambda s: [
        (u.username, u.address.street, u.address.city.name, u.registered_at)
        for u in lesson.UserRepository(s).get_users_with_addresses()
    ],
    "statistics": lambda s: lesson.UserRepository(s).get_user_statistics(),
    "ranks": lambda s: [
        (rank, user.username)
        for rank, user in lesson.UserRepository(s).get_users_ranked_by_activity()
    ],
    "countries": lambda s: [
        tuple(row) for row in lesson.CountryRepository(s).get_country_statistics()
    ],
    "cities": lambda s: [
        (c.name, [city.name for city in c.cities])
        for c in lesson.CountryRepository(s).get_all_countries_with_cities()
    ],
    "shares": lambda s: lesson.DataScienceAnalytics(
        s
    ).get_user_distribution_by_country(),
    "cohorts": lambda s: lesson.DataScienceAnalytics(
        s
    ).get_user_metrics_by_registration_cohort(),
    "high value": lambda s: names(
        lesson.DataScienceAnalytics(s).identify_high_value_users()
    ),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_both_databases_give_the_same_answer(both: Both, question: str) -> None:
    answers = []
    for env in both:
        with env.sessions() as session:
            answers.append(QUESTIONS[question](session))
    assert answers[0] == answers[1]
    assert answers[0] or question == "other case"


instants = st.datetimes(
    datetime(1900, 1, 2),
    datetime(2100, 1, 1),
    timezones=st.integers(-14 * 60, 14 * 60).map(
        lambda minutes: timezone(timedelta(minutes=minutes))
    ),
)
cents = st.none() | st.integers(0, 30)


@settings(max_examples=8, deadline=None)
@given(figures=st.lists(st.tuples(instants, cents, st.integers(0, 9)), min_size=25))
def test_the_same_for_any_figures(both: Both, figures: list[Any]) -> None:
    answers = []
    for env in both:
        with env.sessions() as session:
            session.execute(sa.delete(lesson.User))
            for i, (at, spent, logins) in enumerate(figures):
                user = lesson.User(id=i + 1, username=f"u{i}", email=f"u{i}")
                user.registered_at, user.last_seen_at = at, at + timedelta(days=40)
                user.spent_cents, user.logins, user.address_id = spent, logins, 1
                session.add(user)
            session.flush()
            users = lesson.UserRepository(session)
            analytics = lesson.DataScienceAnalytics(session)
            answers.append(
                (
                    users.get_user_statistics(),
                    [(rank, u.id) for rank, u in users.get_users_ranked_by_activity()],
                    analytics.get_user_metrics_by_registration_cohort(),
                    [u.id for u in analytics.identify_high_value_users()],
                    [tuple(row) for row in session.execute(lesson.IN_ORDER)],
                )
            )
            session.rollback()
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    "row",
    [
        {"username": ""},
        {"username": "x" * 81},
        {"username": "olena"},
        {"email": "Olena@example.org"},
        {"email": ""},
        {"email": "x" * 81},
        {"address_id": 999},
        {"registered_at": None},
        {"registered_at": date(2025, 1, 1)},
        {"registered_at": "2025-01-01"},
        {"logins": "abc"},
        {"logins": 2**31},
        {"logins": -(2**31) - 1},
        {"spent_cents": "abc"},
        # PostgreSQL 18 makes a number of bytes.
        pytest.param({"spent_cents": b"1"}, marks=pytest.mark.older),
        {"spent_cents": 2**63},
        {"username": "a\x00b"},
        {"username": "\ud800"},
    ],
    ids=repr,
)
def test_both_refuse_the_same_rows(both: Both, row: dict[str, Any]) -> None:
    good: dict[str, Any] = {"username": "new", "email": "new", "address_id": 1}
    good["registered_at"] = datetime(2025, 1, 1, tzinfo=UTC)
    good["spent_cents"] = 2**40
    for env in both:
        with env.sessions() as session:
            session.execute(sa.insert(lesson.User).values(good))
            session.rollback()
            refusals = (sa.exc.StatementError, UnicodeEncodeError, OverflowError)
            with pytest.raises(refusals):
                session.execute(sa.insert(lesson.User).values(good | row))


def test_an_empty_table_has_counts_and_no_means(both: Both) -> None:
    for env in both:
        with env.sessions() as session:
            session.execute(sa.update(lesson.User).values(spent_cents=None))
            bought = lesson.UserRepository(session).get_user_statistics()
            session.execute(sa.delete(lesson.User))
            figures = lesson.UserRepository(session).get_user_statistics()
            analytics = lesson.DataScienceAnalytics(session)
            shares = analytics.get_user_distribution_by_country()
            empty = analytics.identify_high_value_users()
            assert empty == [] == lesson.UserRepository(session).find_users_by_city("x")
            assert analytics.get_user_metrics_by_registration_cohort() == {}
            session.rollback()
        money = {name: bought[name] for name in bought if name.startswith("spent")}
        assert (bought["users"], bought["buyers"]) == (600, 0)
        assert set(money.values()) == {None}
        assert [*figures.values()] == [0, 0, 0] + [None] * 6
        assert shares == [(name, 0, None) for name in sorted(COUNTRIES)]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("Özil", ["Özil"]),
        ("ÖZIL", ["Özil"]),
        ("özil", []),
        ("Їжак", ["Їжак"]),
        ("їжак", []),
    ],
)
def test_only_a_to_z_have_two_cases_on_both_and_on_the_fake(
    both: Both, asked: str, expected: list[str]
) -> None:
    there = ["Özil", "Їжак"]
    at = datetime(2025, 1, 1, tzinfo=UTC)
    rows = [{"username": name, "email": name, "address_id": 1} for name in there]
    for env in both:
        with env.sessions() as session:
            session.execute(
                sa.insert(lesson.User), [row | {"registered_at": at} for row in rows]
            )
            users = lesson.UserRepository(session)
            assert names(users.find_users_by_name_part(asked)) == expected
            assert users.has_email(asked) is bool(expected)
            session.rollback()
    fake = lesson.FakeUsers()
    for name in there:
        fake.add(lesson.User(email=name))
    assert fake.has_email(asked) is bool(expected)


def test_a_missing_eager_load_costs_the_same_on_both(both: Both) -> None:
    for env in both:
        counts = {way: lesson.walk(env, way)[0] for way in lesson.LOADS}
        assert counts == {"lazy": 126, "selectin": 4, "joined": 1}


def test_upserts_of_many_threads_lose_nothing_on_both(both: Both) -> None:
    for env in both:

        def hit(env: Any = env) -> None:
            def work(session: Any) -> None:
                lesson.count_hit(session, "contract")

            lesson.run_transaction(env.sessions, work)

        def hit_five_times(hit: Callable[[], None] = hit) -> None:
            for _ in range(5):
                hit()

        assert start_together([hit_five_times] * 8) == [None] * 8
        with env.sessions() as session:
            tally = session.get_one(lesson.Tally, "contract")
            assert (tally.n, tally.version) == (40, 40)


@pytest.mark.parametrize("other", ["atomic", "versioned", "locked", "in_transaction"])
def test_a_versioned_increment_sees_all_other_ways(both: Both, other: str) -> None:
    increment = getattr(lesson, f"increment_{other}")
    for env in both:
        with env.sessions.begin() as session:
            session.merge(lesson.Tally(name="clicks", n=0))
        waiting = [lambda env=env: increment(env.sessions, no_pause)]

        def meanwhile(waiting: list[Any] = waiting) -> None:
            if waiting:
                waiting.pop()()

        lesson.increment_versioned(env.sessions, meanwhile)
        with env.sessions() as session:
            assert session.scalar(lesson.CLICKS) == 2


def test_an_object_somebody_changed_meanwhile_is_read_again(both: Both) -> None:
    for env in both:
        with env.sessions.begin() as session:
            session.merge(lesson.Tally(name="stale", n=0))
        runs: list[int] = []

        def work(session: Any, env: Any = env, runs: list[int] = runs) -> Any:
            with env.sessions() as reading:  # of SQLite's sessions only one may write
                tally = reading.get_one(lesson.Tally, "stale")
            if not runs:
                with env.sessions.begin() as other:
                    other.get_one(lesson.Tally, "stale").n += 10
            runs.append(tally.n)
            tally.n += 1
            session.add(tally)
            return tally

        returned = lesson.run_transaction(env.sessions, work)
        assert (runs, returned.n, returned.name) == ([0, 10], 11, "stale")


def test_a_versioned_increment_gives_up_in_the_end(both: Both) -> None:
    for env in both:
        with env.sessions.begin() as session:
            session.merge(lesson.Tally(name="clicks", n=0))
        pauses: list[int] = []

        def others(env: Any = env, pauses: list[int] = pauses) -> None:
            pauses.append(1)
            assert len(pauses) < 50, "endless"
            lesson.increment_atomic(env.sessions, no_pause)

        with pytest.raises(StaleDataError):
            lesson.increment_versioned(env.sessions, others, attempts=3)
        assert len(pauses) == 3


@pytest.mark.parametrize("way", ["Core", "COPY"])
def test_a_conflict_within_a_load_is_retried(both: Both, way: str) -> None:
    env, runs = both[1], []
    conflict = "RAISE 'a conflict' USING ERRCODE = '40001'"
    with env.engine.begin() as connection:
        for sql in (
            "CREATE SEQUENCE tries",
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"IF nextval('tries') < 3 THEN {conflict}; END IF; RETURN new; END $$",
            "CREATE TRIGGER refuse BEFORE INSERT ON readings "
            "FOR EACH ROW EXECUTE FUNCTION refuse()",
        ):
            connection.exec_driver_sql(sql)

    def work(session: Any) -> None:
        runs.append(way)
        lesson.LADDER[way](session, [{"sensor": "refused", "value": 1}])

    try:
        lesson.run_transaction(env.sessions, work)
        with env.sessions() as session:
            readings = sa.select(lesson.Reading).filter_by(sensor="refused")
            assert (len(runs), len(session.scalars(readings).all())) == (3, 1)
    finally:
        with env.engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM readings")
            connection.exec_driver_sql("DROP FUNCTION refuse CASCADE")
            connection.exec_driver_sql("DROP SEQUENCE tries")


@pytest.mark.parametrize(
    ("attempts", "expected"), [(1, ["40P01", "ok"]), (20, ["ok", "ok"])]
)
def test_retried_a_deadlock_ends_well(
    both: Both, attempts: int, expected: list[str]
) -> None:
    env = both[1]
    rows = ("deadlock one", "deadlock two")
    each_holds_one = threading.Barrier(2)
    with env.sessions.begin() as session:
        for name in rows:
            session.merge(lesson.Tally(name=name, n=0))

    def transfer(first: str, second: str) -> None:
        meetings = [each_holds_one]  # in the first attempt only

        def work(session: Any) -> None:
            row = sa.update(lesson.Tally).values(n=1)
            session.execute(row.where(lesson.Tally.name == first))
            if meetings:
                meetings.pop().wait(lesson.LIMIT)
            session.execute(row.where(lesson.Tally.name == second))

        lesson.run_transaction(env.sessions, work, attempts)

    outcomes = start_together(
        [partial(transfer, *rows), partial(transfer, *rows[::-1])]
    )
    assert sorted(lesson.code_of(one) if one else "ok" for one in outcomes) == expected


def test_copy_is_at_least_4_times_as_fast_as_executemany(both: Both) -> None:
    env, rows = both[1], readings(5_000)

    def seconds(way: str) -> float:
        with env.sessions.begin() as session:
            session.execute(sa.delete(lesson.Reading))
        with env.sessions.begin() as session:
            start = time.perf_counter()
            lesson.LADDER[way](session, rows)
            session.flush()
            return time.perf_counter() - start

    turns = [(seconds("Core"), seconds("COPY")) for _ in range(9)]
    core, copy = (min(times) for times in zip(*turns, strict=True))
    assert core >= 4 * copy


def test_limits_are_the_servers(both: Both) -> None:
    with both[1].engine.connect() as connection:
        shown = {
            name: connection.scalar(sa.text(f"SHOW {name}"))
            for name in ("lock_timeout", "statement_timeout", "timezone")
        }
    assert shown == {
        "lock_timeout": "10s",
        "statement_timeout": "1min",
        "timezone": "UTC",
    }


def test_options_of_the_url_do_not_lead_out_of_our_schema(postgres_url: str) -> None:
    options = {"options": "-csearch_path=public -cwork_mem=5MB"}
    url = sa.make_url(postgres_url).update_query_dict(options)
    with ExitStack() as stack:
        env = opened(stack, url.render_as_string(hide_password=False))
        with env.engine.connect() as connection:
            path = connection.scalar(sa.text("SHOW search_path"))
            memory = connection.scalar(sa.text("SHOW work_mem"))
            place = connection.scalar(sa.text("SELECT current_schema()"))
    assert (path, memory) == (f"{place}, pg_temp", "5MB")
    assert place.startswith("module8_")


# The whole lesson, live


def test_it_passes_live_twice_and_leaves_nothing(
    postgres_url: str, tmp_path: Path
) -> None:
    home = tmp_path / "tmp"
    home.mkdir()
    outputs = set()
    for _ in range(2):
        done = run(
            SCRIPT,
            "--require-live",
            cwd=home,
            env={"TMPDIR": str(home), "DATABASE_URL": postgres_url},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.endswith(" ok, 0 skipped, 0 failed\n")
        outputs.add(done.stdout)
    assert len(outputs) == 1
    assert not list(home.iterdir())
    claims = set(re.findall(r"^  \[ok\] (.*)$", outputs.pop(), re.MULTILINE))
    assert claims
    mutations = Path(__file__).with_name("mutations.py").read_text("utf-8")
    assert {claim for claim in claims if f'"{claim}"' not in mutations} == set()


def test_its_schema_is_gone_afterwards(postgres_url: str) -> None:
    with ExitStack() as stack:
        env = opened(stack, postgres_url)
        with env.engine.connect() as connection:
            mine = connection.scalar(sa.text("SELECT current_schema()"))
        assert mine in schemas(postgres_url)
    assert mine not in schemas(postgres_url)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            {"username": "nobody-of-module8", "password": SECRET},
            'role "nobody-of-module8" does not exist',
        ),
        (
            {"database": "module8_none", "password": SECRET},
            'database "module8_none" does not exist',
        ),
        ({"query": {"no_such": SECRET}}, 'invalid connection option "no_such"'),
    ],
)
def test_what_the_server_refuses_gets_one_line(
    postgres_url: str, change: dict[str, Any], named: str
) -> None:
    url = sa.make_url(postgres_url).set(**change)
    done = run(SCRIPT, "--url", url.render_as_string(hide_password=False))
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert named in done.stderr
    assert SECRET not in done.stderr


@pytest.mark.slow
def test_the_bulk_section_holds_at_50_000_rows_live(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lesson, "ROWS", 50_000)
    assert lesson.main(["--require-live", "--url", postgres_url, "--only", "bulk"]) == 0
