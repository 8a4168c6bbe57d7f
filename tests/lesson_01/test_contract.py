"""Lesson 01's promises on SQLite and on PostgreSQL, and that the answers are equal."""

from __future__ import annotations

import argparse
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from lessons import load, path_of, run
from services import wait_for
from sqlalchemy.orm.exc import StaleDataError

SCRIPT = path_of("01")
SECRET = "Xyzzy-s3cret"
lesson = load("01")
Both = tuple[Any, Any]


def opened(stack: ExitStack, url: str) -> Any:
    given = {"offline": not url, "require_live": bool(url), "url": url}
    return stack.enter_context(lesson.open_env(argparse.Namespace(**given)))


@pytest.fixture(scope="module")
def both(postgres_url: str) -> Iterator[Both]:
    """Yield the same rows on SQLite and on PostgreSQL."""
    with ExitStack() as stack:
        yield opened(stack, ""), opened(stack, postgres_url)


def schemas(url: str) -> set[str]:
    with psycopg.connect(url, autocommit=True) as connection:
        rows = connection.execute("SELECT nspname FROM pg_namespace").fetchall()
    return {name for (name,) in rows if name.startswith("module8_")}


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
    ],
    ids=str,
)
def test_both_refuse_the_same_rows(both: Both, row: dict[str, Any]) -> None:
    good: dict[str, Any] = {"username": "new", "email": "new", "address_id": 1}
    good["registered_at"] = datetime(2025, 1, 1, tzinfo=UTC)
    good["spent_cents"] = 2**40
    for env in both:
        with env.sessions() as session:
            session.execute(sa.insert(lesson.User).values(good))
            session.rollback()
            with pytest.raises(sa.exc.DBAPIError):
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
        assert shares == [(name, 0, None) for name in sorted(lesson.COUNTRIES)]


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
    fake = lesson.FakeUsers(lesson.User(email=name) for name in there)
    assert fake.has_email(asked) is bool(expected)


def test_a_missing_eager_load_costs_the_same_on_both(both: Both) -> None:
    for env in both:
        counts = [lesson.walked(env, way)[0] for way in lesson.LOADS]
        assert counts == [126, 4, 1]


def test_upserts_of_many_threads_lose_nothing_on_both(both: Both) -> None:
    for env in both:

        def hit(env: Any = env) -> None:
            def work(session: Any) -> None:
                lesson.count_hit(session, "contract")

            lesson.run_transaction(env.sessions, work)

        assert lesson.race([hit] * 8, rounds=5) == {"ok": 40}
        with env.sessions() as session:
            tally = session.get_one(lesson.Tally, "contract")
            assert (tally.n, tally.version) == (40, 40)


@pytest.mark.parametrize("other", ["atomic", "versioned", "in_one"])
def test_a_versioned_increment_sees_all_other_ways(both: Both, other: str) -> None:
    increment = getattr(lesson, f"increment_{other}")
    for env in both:
        with env.sessions.begin() as session:
            session.merge(lesson.Tally(name="clicks", n=0))
        waiting = [lambda env=env: increment(env.sessions, bool)]

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
            lesson.increment_atomic(env.sessions, bool)

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


def test_the_reviewed_script_makes_the_model(both: Both) -> None:
    """What the offline SQL says is what the migration does."""
    postgres = both[1].engine
    lesson.BEFORE.create(postgres)
    try:
        for step in (lesson.expand, *lesson.CONTRACT):
            with postgres.begin() as connection:
                connection.exec_driver_sql(lesson.script_of(step))
        assert lesson.drift(postgres, lesson.AFTER) == 0
        assert lesson.drift(postgres, lesson.BEFORE) > 0
    finally:
        lesson.AFTER.drop(postgres)


def test_a_backfill_goes_on_where_it_was_stopped(both: Both) -> None:
    for env in both:
        lesson.BEFORE.create(env.engine)
        try:
            with env.engine.begin() as connection:
                rows = [{"full_name": f"A B C{i}"} for i in range(25)]
                connection.execute(lesson.BEFORE.insert(), rows)
            lesson.migrate(env.engine, lesson.expand)
            stop = threading.Event()

            def note(*_: Any, stop: threading.Event = stop) -> None:
                if stop.is_set():
                    raise KeyboardInterrupt
                stop.set()

            sa.event.listen(env.engine, "commit", note)
            with pytest.raises(KeyboardInterrupt):
                lesson.backfill(env.engine, size=10)
            sa.event.remove(env.engine, "commit", note)
            assert lesson.backfill(env.engine, size=10) == 2
            assert lesson.backfill(env.engine, size=10) == 0
            with env.engine.connect() as connection:
                names = connection.scalars(sa.text("SELECT display_name FROM members"))
                assert sorted(names) == sorted(f"A B C{i}" for i in range(25))
        finally:
            lesson.BEFORE.drop(env.engine)


def waited_for(engine: Any, pid: int) -> bool:
    """Tell whether some back end waits for a lock of this one."""
    waiting = (
        "SELECT pid FROM pg_stat_activity WHERE :pid = ANY (pg_blocking_pids(pid))"
    )
    with engine.connect() as connection:
        return bool(connection.scalars(sa.text(waiting), {"pid": pid}).all())


@contextmanager
def expanded(engine: Any) -> Iterator[None]:
    """Have three members with a new column that is not filled yet."""
    lesson.BEFORE.create(engine)
    try:
        with engine.begin() as connection:
            rows = [{"full_name": f"name {i}"} for i in range(3)]
            connection.execute(lesson.BEFORE.insert(), rows)
        lesson.migrate(engine, lesson.expand)
        yield
    finally:
        lesson.BEFORE.drop(engine)


def test_a_backfill_keeps_what_is_edited_meanwhile(both: Both) -> None:
    engine = both[1].engine
    edit = "UPDATE members SET display_name = 'edited' WHERE id = 1"
    with expanded(engine):
        with ThreadPoolExecutor(1) as threads:
            with engine.begin() as connection:
                connection.exec_driver_sql(edit)
                filling = threads.submit(lesson.backfill, engine, size=1)
                wait_for(partial(waited_for, engine, connection.scalar(lesson.PID)))
            filling.result(lesson.LIMIT)
        with engine.connect() as connection:
            in_order = "SELECT display_name FROM members ORDER BY id"
            filled = connection.scalars(sa.text(in_order)).all()
    assert filled == ["edited", "name 1", "name 2"]


@pytest.mark.parametrize("on_delete", ["", " ON DELETE CASCADE"], ids=repr)
def test_a_migration_takes_no_child_along(both: Both, on_delete: str) -> None:
    key = f"member_id INTEGER NOT NULL REFERENCES members (id){on_delete}"
    for env in both:
        lesson.BEFORE.create(env.engine)
        try:
            with env.engine.begin() as connection:
                rows = [{"full_name": f"name {i}"} for i in range(5)]
                connection.execute(lesson.BEFORE.insert(), rows)
                connection.exec_driver_sql(f"CREATE TABLE orders ({key})")
                connection.exec_driver_sql("INSERT INTO orders SELECT id FROM members")
            lesson.migrate(env.engine, lesson.expand)
            lesson.backfill(env.engine)
            lesson.contract(env.engine)
            lesson.migrate(env.engine, lesson.downgrade)
            with env.engine.begin() as connection:
                orders = connection.exec_driver_sql("SELECT count(*) FROM orders")
                assert orders.scalar() == 5
            with pytest.raises(sa.exc.IntegrityError), env.engine.begin() as connection:
                connection.exec_driver_sql("INSERT INTO orders VALUES (999)")
        finally:
            with env.engine.begin() as connection:
                connection.exec_driver_sql("DROP TABLE orders")
                connection.exec_driver_sql("DROP TABLE members")


def test_a_step_that_orphans_rows_is_undone_on_both(both: Both) -> None:
    def orphan(op: Any) -> None:
        op.execute("DELETE FROM cities WHERE id = 1")

    for env in both:
        with pytest.raises((ValueError, sa.exc.IntegrityError)):
            lesson.migrate(env.engine, orphan)
        with env.sessions() as session:
            assert session.get(lesson.City, 1)
            if not env.live:
                assert session.scalar(sa.text("PRAGMA foreign_keys")) == 1


def test_nobody_waits_while_contract_reads_the_table(both: Both) -> None:
    """Its one look at all rows stops no writer, and SET NOT NULL needs no second."""
    env = both[1]
    engine, notices, written = env.connect(), list[str](), list[int]()

    def write(_c: Any, _u: Any, statement: str, *_: Any) -> None:
        if "VALIDATE" in statement:
            with env.connect().begin() as other:
                other.exec_driver_sql("SET LOCAL lock_timeout = '1s'")
                edit = "UPDATE members SET display_name = 'edited' WHERE id = 1"
                written.append(other.exec_driver_sql(edit).rowcount)

    def listen(connection: Any, _: Any) -> None:
        connection.add_notice_handler(lambda note: notices.append(note.message_primary))
        connection.execute("SET client_min_messages = debug1")
        connection.commit()

    sa.event.listen(engine, "after_cursor_execute", write)
    sa.event.listen(engine, "connect", listen)
    with expanded(env.engine):
        lesson.backfill(env.engine)
        lesson.contract(engine)
        assert written == [1]
        assert any("sufficient to prove" in notice for notice in notices)
        assert lesson.drift(engine, lesson.AFTER) == 0
        with engine.connect() as connection:
            checks = "SELECT count(*) FROM pg_constraint WHERE conname = :name"
            left = connection.scalar(sa.text(checks), {"name": lesson.FULL})
        assert left == 0


def test_nobody_waits_long_behind_a_migration_that_waits(both: Both) -> None:
    engine = both[1].engine
    with expanded(engine), ThreadPoolExecutor(1) as threads:
        lesson.backfill(engine)
        with engine.begin() as connection:
            connection.exec_driver_sql("SELECT 1 FROM members").all()
            pid = connection.scalar(lesson.PID)
            waiting = threads.submit(
                lesson.migrate, both[1].connect(), lesson.CONTRACT[0]
            )
            for _ in range(2):
                wait_for(partial(waited_for, engine, pid))
                with engine.begin() as other:
                    other.exec_driver_sql("SET LOCAL statement_timeout = '3s'")
                    assert (
                        len(other.exec_driver_sql("SELECT id FROM members").all()) == 3
                    )
        waiting.result(lesson.LIMIT)


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
    assert (path, memory) == (place, "5MB")
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
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(lesson, "ROWS", 50_000)
    assert lesson.main(["--require-live", "--url", postgres_url, "--only", "bulk"]) == 0
    assert "[ok] COPY is at least 4 x as fast" in capsys.readouterr().out
