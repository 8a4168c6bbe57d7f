"""Lesson 01 while its server is killed, frozen, restarted: every row accounted for."""

from __future__ import annotations

import argparse
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from lessons import load, path_of, run
from services import Server, wait_for

from course.errors import NoService
from course.services import ServiceAddress
from course.sql.backends import BACKEND_PID, end_backend
from course.sql.leftovers import drop_schema
from course.sql.postgres import postgres_server

SCRIPT = path_of("01")
lesson = load("01")


def start_again(server: Server) -> None:
    """Start after a kill, once the last back end has noticed it."""

    def started() -> bool:
        try:
            server.start()
        except RuntimeError as error:
            if "shared memory block" in str(error):
                return False
            raise
        return True

    wait_for(started, what="back ends of the killed server still run")


@pytest.fixture
def env(private_postgres: Server) -> Iterator[Any]:
    given = {"offline": False, "require_live": True, "url": private_postgres.url}
    with ExitStack() as stack:
        yield stack.enter_context(lesson.open_env(argparse.Namespace(**given)))
        if private_postgres.process is None:
            start_again(private_postgres)


def names(env: Any) -> list[str]:
    with env.sessions() as session:
        found = session.scalars(sa.select(lesson.Tally.name))
        return sorted(found)


def add(session: Any, name: str) -> None:
    session.execute(sa.insert(lesson.Tally).values(name=name))


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_crash_keeps_what_was_committed_and_nothing_else(
    env: Any, private_postgres: Server
) -> None:
    for number in range(20):
        with env.sessions.begin() as session:
            add(session, f"committed {number:02}")
    with pytest.raises(sa.exc.OperationalError), env.sessions.begin() as session:
        add(session, "uncommitted, flushed")
        private_postgres.kill()
        add(session, "uncommitted, never sent")
    start_again(private_postgres)
    wait_for(lambda: lesson.use(env.engine) == "ok", what="the pool did not recover")
    assert names(env) == [f"committed {number:02}" for number in range(20)]
    with env.sessions.begin() as session:
        add(session, "after")
    assert len(names(env)) == 21


def test_a_unit_of_work_that_loses_its_server_is_not_repeated_blindly(env: Any) -> None:
    """A lost connection may hide a commit that did happen: that is not 40001."""
    runs = []

    def work(session: Any) -> None:
        runs.append(1)
        add(session, "half")
        end_backend(env.engine, session.scalar(BACKEND_PID))
        add(session, "other half")

    with pytest.raises(sa.exc.OperationalError):
        lesson.run_transaction(env.sessions, work)
    assert runs == [1]
    assert names(env) == []  # the transaction died as a whole
    assert lesson.use(env.engine) == "ok"  # and the next one lives


def test_every_backend_killed_at_once_costs_each_pool_one_error(env: Any) -> None:
    engine = env.connect(pool_size=3)
    with ExitStack() as held:
        lines = [held.enter_context(engine.connect()) for _ in range(3)]
        pids = [line.scalar(BACKEND_PID) for line in lines]
    for pid in pids:
        end_backend(env.engine, pid)
    # The first error empties the whole pool: the other two are not tried one by one.
    assert [lesson.use(engine) for _ in range(3)] == ["lost", "ok", "ok"]


def test_a_frozen_holder_of_a_lock_holds_nobody_longer_than_the_limit(env: Any) -> None:
    engine = env.connect(limit=1)
    with env.sessions.begin() as session:
        add(session, "row")
    change = sa.update(lesson.Tally).values(n=1)
    with env.engine.connect() as holder:
        holder.execute(change)
        with frozen(holder.scalar(BACKEND_PID) or 0):
            start = time.monotonic()
            with (
                pytest.raises(sa.exc.OperationalError, match="lock timeout"),
                engine.begin() as waiting,
            ):
                waiting.execute(change)
            assert 0.5 < time.monotonic() - start < 15
        holder.commit()
    with engine.begin() as connection:
        connection.execute(change)


def test_an_endless_statement_ends_at_the_limit(env: Any) -> None:
    with (
        pytest.raises(sa.exc.OperationalError, match="statement timeout"),
        env.connect(limit=0.1).connect() as connection,
    ):
        connection.execute(sa.text("SELECT pg_sleep(60)"))


def test_a_frozen_server_is_left_in_a_second_or_two(private_postgres: Server) -> None:
    url = private_postgres.url
    server = postgres_server(ServiceAddress(url, "--url", named=True))
    private_postgres.freeze()
    try:
        start = time.monotonic()
        with pytest.raises(NoService, match="timed out"):
            server.probe()
        assert 0.9 < time.monotonic() - start < 5
        done = run(SCRIPT, "--url", url, "--only", "queries")
        assert done.returncode == 0, done.stderr
        assert "sqlite, in a temporary file (no PostgreSQL" in done.stdout
        start = time.monotonic()
        engine = lesson.postgres_engine(server.url, "public")
        with pytest.raises(sa.exc.OperationalError):
            engine.connect()
        assert time.monotonic() - start < 20
        engine.dispose()
    finally:
        private_postgres.thaw()
    wait_for(private_postgres.ready, what="the server did not thaw")


def test_a_refused_password_gets_one_line_that_does_not_show_it(
    private_postgres: Server,
) -> None:
    role = "CREATE ROLE guarded LOGIN PASSWORD 'right-s3cret'"
    with psycopg.connect(private_postgres.url, autocommit=True) as connection:
        connection.execute(role)
        (name,) = connection.execute("SHOW hba_file").fetchone() or ("",)
        rules = Path(name).read_text()
        Path(name).write_text(f"host all guarded 127.0.0.1/32 scram-sha-256\n{rules}")
        connection.execute("SELECT pg_reload_conf()")
    wrong = sa.make_url(private_postgres.url).set(
        username="guarded", password="wrong-s3cret"
    )
    url = wrong.render_as_string(hide_password=False)

    def refused() -> bool:  # the server reads its rules again when it comes to it
        done = run(SCRIPT, "--url", url, "--only", "queries")
        assert (done.returncode, done.stdout) == (2, "")
        assert len(done.stderr.splitlines()) == 1
        assert "s3cret" not in done.stderr
        return 'password authentication failed for user "guarded"' in done.stderr

    wait_for(refused, what="the password was not refused")


def test_a_server_that_dies_under_the_lesson_fails_it_without_a_traceback(
    private_postgres: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    only = {"queries": lesson.lesson.demos["queries"]}
    monkeypatch.setattr(lesson.lesson, "demos", only)

    def crash(env: Any) -> None:
        """Crash: the server goes"""
        private_postgres.kill()
        lesson.check("it is there", lesson.use(env.engine), "ok")

    lesson.lesson.demo(crash)
    try:
        assert lesson.main(["--require-live", "--url", private_postgres.url]) == 1
    finally:
        start_again(private_postgres)
    printed = capsys.readouterr()
    assert "[FAIL] it is there" in printed.out
    assert "is gone: schema module8_" in printed.err


def test_a_schema_goes_although_connections_are_ended_meanwhile(
    private_postgres: Server,
) -> None:
    engine = sa.create_engine(private_postgres.url)
    endings = [1, 1]

    @sa.event.listens_for(engine, "before_cursor_execute")
    def end_it(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("DROP") and endings:
            endings.pop()
            end_backend(elsewhere, cursor.connection.info.backend_pid)

    elsewhere = sa.create_engine(private_postgres.url)
    try:
        with engine.begin() as connection:
            connection.execute(sa.schema.CreateSchema("module8_cut"))
        drop_schema(engine, "module8_cut")
        assert "module8_cut" not in sa.inspect(elsewhere).get_schema_names()
    finally:
        engine.dispose()
        elsewhere.dispose()
