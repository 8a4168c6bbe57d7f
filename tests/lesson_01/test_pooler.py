"""Lesson 01 behind PgBouncer, on a frozen network, and as a user of few rights."""

from __future__ import annotations

import argparse
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
import pytest
import services
import sqlalchemy as sa
from conftest import absent
from lessons import load, path_of, run, unbroken
from services import Server

from course.errors import BadInput
from course.network import FaultyNetwork
from course.sql.connection import is_pooled, line_limits, set_locally
from course.sql.database import Openers, open_database

SCRIPT = path_of("01")
lesson = load("01")
ROWS = 1_234
TABLES = ("readings", "users", "tallies", "members")
IGNORED = "ignore_startup_parameters = options"


def query(url: str, sql: str) -> list[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(sql).fetchall()


def run_all(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def of_others(url: str) -> list[Any]:
    """Return what is there that is not PostgreSQL's: every table, with all its rows."""
    found = []
    tables = "SELECT schemaname, tablename FROM pg_tables WHERE tableowner <> 'x' AND "
    tables += "schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2"
    for schema, name in query(url, tables):
        found.append((schema, name, query(url, f"TABLE {schema}.{name} ORDER BY 1")))
    return found


@pytest.fixture
def shop(private_postgres: Server) -> Iterator[str]:
    """Yield a database that is somebody's, with tables named as the lesson's."""
    url = private_postgres.url
    run_all(url, "CREATE DATABASE shop")
    theirs = sa.make_url(url).set(database="shop").render_as_string(hide_password=False)
    for name in TABLES:
        columns = "id serial PRIMARY KEY, sensor text, value int"
        rows = f"SELECT 'theirs', n FROM generate_series(1, {ROWS}) AS n"
        insertion = f"INSERT INTO {name} (sensor, value) {rows}"
        run_all(theirs, f"CREATE TABLE {name} ({columns})", insertion)
    before = of_others(theirs)
    assert [(schema, name) for schema, name, _ in before] == sorted(
        ("public", name) for name in TABLES
    )
    yield theirs
    assert of_others(theirs) == before
    run_all(url, "DROP DATABASE shop WITH (FORCE)")


@contextmanager
def pgbouncer(behind: str, *options: str) -> Iterator[Server]:
    with services.private("pgbouncer", behind, *options) as server:
        if server is None:
            absent("no pgbouncer: its program is not there")
        assert server
        yield server


@contextmanager
def opened(url: str) -> Iterator[Any]:
    given = argparse.Namespace(offline=False, require_live=True, url=url)
    with lesson.open_env(given) as env:
        yield env


@pytest.mark.parametrize(
    ("options", "demos"),
    [
        (["pool_mode = transaction"], []),
        (["pool_mode = transaction", IGNORED], ["bulk", "migration"]),
        (["pool_mode = session", IGNORED, "auth_type = plain"], []),
    ],
    ids=["transaction", "transaction, options ignored", "session, ignored, login"],
)
def test_behind_a_pooler_every_claim_holds_and_every_foreign_row_stays(
    shop: str, options: list[str], demos: list[str]
) -> None:
    only = ["--only", *demos] if demos else []
    with pgbouncer(shop, *options) as pooler:
        done = run(SCRIPT, "--require-live", "--url", pooler.url, *only)
    printed = unbroken(done.stdout)
    assert done.returncode == 0, printed
    assert printed.splitlines()[0].endswith(", through a pooler")
    assert ("[skip] killed back ends: the pooler" in printed) is (not demos)
    assert printed.splitlines()[-1].endswith("0 failed")


@pytest.mark.older  # from 1.20 on PgBouncer takes these options
def test_start_up_options_of_the_url_that_a_pooler_refuses_get_one_line(
    shop: str,
) -> None:
    with pgbouncer(shop) as pooler:
        url = f"{pooler.url}?options=-csearch_path%3Dpublic"
        done = run(SCRIPT, "--require-live", "--url", url)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "unsupported startup parameter" in done.stderr


def test_transactions_that_are_not_allowed_get_one_line(shop: str) -> None:
    with pgbouncer(shop, "pool_mode = statement") as pooler:
        done = run(SCRIPT, "--require-live", "--url", pooler.url)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "statement pooling" in done.stderr


def test_a_pooler_with_too_few_connections_is_refused_in_time(shop: str) -> None:
    options = ("default_pool_size = 2", "query_wait_timeout = 2")
    with pgbouncer(shop, *options) as pooler:
        done = run(SCRIPT, "--require-live", "--url", pooler.url)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "the lesson needs 10 connections" in done.stderr


def test_a_pooler_is_told_from_a_server(shop: str) -> None:
    with pgbouncer(shop) as pooler:
        found = []
        for url in (shop, pooler.url):
            with psycopg.connect(url) as raw:
                found.append(is_pooled(raw))
                assert not raw.autocommit
    assert found == [False, True]


def test_what_is_set_holds_in_each_transaction_of_a_pool_of_one(shop: str) -> None:
    """Two clients share one server process, and what another has left in it."""
    with pgbouncer(shop, "default_pool_size = 1", IGNORED) as pooler:
        with psycopg.connect(pooler.url, autocommit=True) as other:
            other.execute("SET search_path = public; SET timezone = 'Asia/Tokyo'")
            other.execute("SET statement_timeout = 0")
            other.execute("CREATE TEMPORARY TABLE readings (id int)")
        run_all(shop, "CREATE SCHEMA ours", "CREATE TABLE ours.readings (id int)")
        server = sa.make_url(pooler.url).set(drivername="postgresql+psycopg")
        engine = lesson.postgres_engine(server, "ours")
        try:
            for _ in range(8):  # psycopg prepares what it has sent five times
                with engine.begin() as connection:
                    asked = sa.text(
                        "SELECT current_schema(), current_setting('timezone'), "
                        "current_setting('statement_timeout'), to_regclass('readings') "
                        "= 'ours.readings'::regclass"
                    )
                    row = connection.execute(asked).one()
                    assert tuple(row) == ("ours", "UTC", "1min", True)
        finally:
            engine.dispose()
            run_all(shop, "DROP SCHEMA ours CASCADE")


def test_autocommit_is_refused_where_no_setting_would_hold(shop: str) -> None:
    server = sa.make_url(shop).set(drivername="postgresql+psycopg")
    engine = lesson.postgres_engine(server, "ours", isolation_level="AUTOCOMMIT")
    with pytest.raises(ValueError, match="AUTOCOMMIT"), engine.connect() as connection:
        connection.execute(sa.text("DELETE FROM readings"))
    engine.dispose()


def test_a_transaction_of_two_phases_is_refused_where_no_setting_would_hold(
    shop: str,
) -> None:
    server = sa.make_url(shop).set(drivername="postgresql+psycopg")
    engine = lesson.postgres_engine(server, "ours")
    with (
        pytest.raises(ValueError, match="two phases"),
        engine.connect() as connection,
        connection.begin_twophase(),
    ):
        connection.execute(sa.text("DELETE FROM readings"))
    engine.dispose()


def test_settings_hold_for_results_that_are_streamed(shop: str) -> None:
    server = sa.make_url(shop).set(drivername="postgresql+psycopg")
    engine = lesson.postgres_engine(server, "public")
    with engine.connect().execution_options(stream_results=True) as connection:
        zone = connection.execute(sa.text("SELECT current_setting('timezone')"))
        assert zone.scalar() == "UTC"
    engine.dispose()


def test_settings_that_do_not_arrive_stop_the_lesson_before_it_begins(
    shop: str,
) -> None:
    def without_settings(url: sa.URL, _schema: str, **options: Any) -> sa.Engine:
        return sa.create_engine(url, **options)

    openers = Openers(
        sqlite=lesson.sqlite_engine,
        postgres=without_settings,
        naive=lesson.naive_engine,
        fill=lesson.fill,
    )
    given = argparse.Namespace(offline=False, require_live=True, url=shop)
    with (
        pytest.raises(BadInput, match=r"do not reach .*: schema public"),
        open_database(given, openers),
    ):
        pass


def test_a_setting_may_hold_a_quote(shop: str) -> None:
    engine = sa.create_engine(sa.make_url(shop).set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        set_locally(connection, {"search_path": "it's, public", "lock_timeout": "1s"})
        path = connection.exec_driver_sql("SHOW search_path").scalar()
    engine.dispose()
    assert path == '"it\'s", public'


# Rights and limits


@pytest.fixture
def clerk(shop: str) -> Iterator[str]:
    """Yield the URL of a user who may only read what is there."""
    run_all(shop, "CREATE ROLE clerk LOGIN")
    login = sa.make_url(shop).set(username="clerk", password="not-asked-for")
    yield login.render_as_string(hide_password=False)
    run_all(shop, "DROP OWNED BY clerk", "DROP ROLE clerk")


def test_without_the_right_to_a_schema_the_missing_right_is_named(clerk: str) -> None:
    done = run(SCRIPT, "--require-live", "--url", clerk)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "permission denied for database shop" in done.stderr
    assert "GRANT CREATE ON DATABASE shop TO clerk" in done.stderr


def test_the_right_is_named_for_whoever_libpq_takes_for_the_user(shop: str) -> None:
    """The URL names neither user nor database."""
    run_all(shop, 'CREATE ROLE "Clerk-2" LOGIN')
    try:
        url = sa.make_url(shop)
        bare = f"postgresql://{url.host}:{url.port}"
        login = {"PGUSER": "Clerk-2", "PGDATABASE": "shop", "PGPASSWORD": "not-asked"}
        done = run(SCRIPT, "--require-live", "--url", bare, env=login)
    finally:
        run_all(shop, 'DROP ROLE "Clerk-2"')
    assert (done.returncode, done.stdout) == (2, "")
    assert 'GRANT CREATE ON DATABASE shop TO "Clerk-2"' in done.stderr


def test_the_right_to_a_schema_and_ten_connections_are_enough(
    shop: str, clerk: str
) -> None:
    run_all(
        shop,
        "GRANT CREATE ON DATABASE shop TO clerk",
        "ALTER ROLE clerk CONNECTION LIMIT 10",
        "ALTER ROLE clerk SET search_path = public",
        "ALTER ROLE clerk SET timezone = 'America/New_York'",
        "ALTER ROLE clerk SET datestyle = 'German'",
        "ALTER ROLE clerk SET client_encoding = 'SQL_ASCII'",
        "ALTER ROLE clerk SET default_transaction_isolation = 'serializable'",
    )
    done = run(SCRIPT, "--require-live", "--url", clerk)
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1].endswith("0 skipped, 0 failed")


@pytest.mark.parametrize("limit", [1, 2, 9])
def test_a_limit_of_connections_is_named_before_a_demo_runs(
    shop: str, clerk: str, limit: int
) -> None:
    grant = "GRANT CREATE ON DATABASE shop TO clerk"
    run_all(shop, grant, f"ALTER ROLE clerk CONNECTION LIMIT {limit}")
    done = run(SCRIPT, "--require-live", "--url", clerk, "--only", "queries")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert 'too many connections for role "clerk"' in done.stderr
    assert "the lesson needs 10 connections" in done.stderr


# Lines that fall silent


def test_a_frozen_network_is_left_in_time_in_and_out_of_a_transaction(
    private_postgres: Server,
) -> None:
    with ExitStack() as stack:
        env = stack.enter_context(opened(private_postgres.url))
        network, engine = stack.enter_context(
            env.faulty_network(limit=0.1, pool_pre_ping=True)
        )
        assert lesson.use(engine) == "ok"
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))
            network.freeze()
            start = time.monotonic()
            with pytest.raises(sa.exc.OperationalError, match="no answer in"):
                connection.execute(sa.text("SELECT 2"))
            assert connection.invalidated
        assert lesson.use(engine) == "ConnectionTimeout"
        assert time.monotonic() - start < 20
        network.thaw()
        assert lesson.use(engine) == "ok"


def test_a_long_answer_that_keeps_coming_is_no_silence(
    private_postgres: Server,
) -> None:
    with ExitStack() as stack:
        env = stack.enter_context(opened(private_postgres.url))
        network, engine = stack.enter_context(env.faulty_network(limit=0.2))
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))
            network.delay = 0.5  # of each piece; the limit is 1.4 in a transaction
            start = time.monotonic()
            long = sa.text("SELECT repeat('x', 100000) FROM generate_series(1, 8)")
            rows = connection.execute(long).all()
            network.delay = 0.0
        assert len(rows) == 8
        assert time.monotonic() - start > 1.4


def test_the_kernel_gives_up_a_line_that_nobody_acknowledges(
    private_postgres: Server,
) -> None:
    url = sa.make_url(private_postgres.url).set(drivername="postgresql+psycopg")
    engine = lesson.postgres_engine(url, "public")
    with engine.connect() as connection:
        raw: Any = connection.connection.driver_connection
        line = socket.socket(fileno=raw.fileno())
        try:
            keeps = line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            idle = line.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
            silence = line.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        finally:
            line.detach()
    engine.dispose()
    assert (keeps, idle, silence) == (1, 15, 30_000)


def test_limits_of_the_url_go_first() -> None:
    url = sa.make_url("postgresql://h/d?connect_timeout=9&tcp_user_timeout=1")
    assert "connect_timeout" not in line_limits(url)
    assert "tcp_user_timeout" not in line_limits(url)
    assert "keepalives_idle" in line_limits(url)


def test_a_network_needs_a_host() -> None:
    given = argparse.Namespace(offline=True, require_live=False, url="")
    with (
        lesson.open_env(given) as env,
        pytest.raises(lesson.Skip, match="needs one host"),
        env.faulty_network(),
    ):
        pass
    assert FaultyNetwork("127.0.0.1", 1).target == ("127.0.0.1", 1)


def test_sockets_and_several_hosts_lead_to_the_server() -> None:
    with services.private("postgres") as server:
        if server is None:
            absent("no postgres: its program is not there")
        assert server
        server.kill()
        server.argv[server.argv.index("-k") + 1] = str(server.folder)
        server.start()
        folder, port = server.folder, server.port
        encoded = str(folder).replace("/", "%2F")
        for url in (
            f"postgresql://postgres@/postgres?host={folder}&port={port}",
            f"postgresql://postgres@{encoded}:{port}/postgres",
            f"postgresql://postgres@127.0.0.1:1,127.0.0.1:{port}/postgres\n",
        ):
            done = run(SCRIPT, "--require-live", "--url", url, "--only", "engines")
            assert done.returncode == 0, done.stderr
            assert f"backend: PostgreSQL {done.stdout.split()[2]} at" in done.stdout
        done = run(SCRIPT, "--require-live", "--url", url, "--only", "pool")
        assert "[skip] a frozen network, killed back ends: needs one" in done.stdout
