"""Lesson 01: which server a URL means, and what is said where there is none."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from lessons import load, path_of, run, unbroken
from services import free_port

from course.errors import BadInput, NoService
from course.services import ServiceAddress
from course.sql.database import refuse_elsewhere
from course.sql.postgres import PostgresServer, postgres_server

SCRIPT = path_of("01")
SECRET = "Xyzzy-s3cret"
lesson = load("01")


def server_at(url: str, source: str = "DATABASE_URL") -> PostgresServer:
    return postgres_server(ServiceAddress(url, source, named=True))


@pytest.mark.parametrize(
    "scheme", ["postgres", "postgresql", "postgresql+psycopg"], ids=str
)
def test_every_spelling_of_postgresql_is_psycopg(scheme: str) -> None:
    url = server_at(f"{scheme}://u:p%40@db.example/x").url
    assert (url.drivername, url.host, url.port) == (
        "postgresql+psycopg",
        "db.example",
        5432,
    )
    assert url.password == "p@"


def answering(reply: bytes | None) -> Iterator[int]:
    """Listen, and answer all callers alike, or hang up on None; yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        stop = threading.Event()
        lines: list[socket.socket] = []

        def serve() -> None:
            while not stop.is_set():
                try:
                    line, _ = server.accept()
                except TimeoutError:
                    continue
                lines.append(line)
                line.settimeout(10)
                if reply is None:
                    line.recv(8)
                    line.close()
                if reply:
                    line.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            stop.set()
            thread.join(20)
            for line in lines:
                line.close()


@pytest.fixture
def silent_port() -> Iterator[int]:
    yield from answering(b"")


@pytest.fixture
def closing_port() -> Iterator[int]:
    yield from answering(None)


@pytest.fixture
def web_server_port() -> Iterator[int]:
    yield from answering(b"HTTP/1.1 400 Bad Request\r\n")


@pytest.fixture
def polite_port() -> Iterator[int]:
    yield from answering(b"N")


@pytest.mark.parametrize(
    ("url", "named"),
    [
        (f"postgresql://u:{SECRET}@127.0.0.1:port/db", "the port is not a number"),
        (f"postgresql://u:{SECRET}@127.0.0.1:99999/db", "from 1 to 65535"),
        (f"postgresql://u:{SECRET}", "no @ before the host"),
        (f"postgresql://u:a@{SECRET}@127.0.0.1/db", "percent-encoded"),
        (f"u:{SECRET}@127.0.0.1", "it does not begin with postgresql://"),
        (f"postgresql://u:{SECRET}@127.0.0.1/db?port=99999", "the option port"),
        (f"postgresql://u:{SECRET}@a,b/db?port=1,2,3", "the option port"),
        (f"mysql://u:{SECRET}@127.0.0.1/db", "mysql"),
        (f"postgresql+psycopg2://u:{SECRET}@127.0.0.1/db", "psycopg2:// is not for"),
        ("sqlite:///mine.db", "sqlite:// is not for this lesson; write postgresql://"),
    ],
)
def test_a_url_that_cannot_be_used_gets_one_line(url: str, named: str) -> None:
    by_option = run(SCRIPT, "--url", url)
    by_variable = run(SCRIPT, env={"DATABASE_URL": url})
    for done, source in ((by_option, "--url"), (by_variable, "DATABASE_URL")):
        assert (done.returncode, done.stdout) == (2, "")
        assert len(done.stderr.splitlines()) == 1
        assert named in done.stderr
        assert f": {source}" in done.stderr
        assert SECRET not in done.stderr


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("port=x", "the option port does not give each host a port"),
        ("port=99999999999999999999", "the option port does not give each host a port"),
        ("hostaddr=x", "hostaddr does not give each host an address"),
        ("host=a,b&hostaddr=127.0.0.1,", "hostaddr does not give each host an address"),
        ("service=x", "service names a server that stands elsewhere"),
        ("row_factory=x", "row_factory is no option of PostgreSQL"),
        ("plugin=x", "plugin is no option of PostgreSQL"),
    ],
)
def test_an_option_that_no_server_can_take_is_named(option: str, named: str) -> None:
    address = ServiceAddress(f"postgresql://h/db?{option}", "--url", named=True)
    with pytest.raises(BadInput, match=f"^--url: {named}"):
        postgres_server(address)


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("postgresql:///d?host=/run/x", "/run/x", "5432"),
        ("postgresql://%2Frun%2Fx/d", "/run/x", "5432"),
        ("postgresql://%2Frun%2Fx:5433/d", "/run/x", "5433"),
        ("postgresql:///d?host=/run/x&port=5433", "/run/x", "5433"),
        ("postgresql://h1,h2/d", "h1,h2", "5432,5432"),
        ("postgresql://h1:1,h2:2/d", "h1,h2", "1,2"),
        ("postgresql:///d?host=h1,h2&port=1,2", "h1,h2", "1,2"),
        ("postgresql:///d?host=h1&host=h2&port=1", "h1,h2", "1,1"),
        ("postgresql://h1,h2/d?port=7", "h1,h2", "7,7"),
        ("postgresql://h1/d?port=7", "h1", 7),
        ("postgresql:///d?host=h1", "h1", 5432),
        ("postgresql://u:p@[::1]:9/d", "::1", 9),
        ("postgresql://h1/d\n", "h1", 5432),
        ("postgresql:///d", "127.0.0.1", 5432),
    ],
)
def test_psycopg_gets_the_hosts_that_a_url_names(
    url: str, host: str, port: int | str
) -> None:
    server = server_at(url)
    _, given = server.url.get_dialect()().create_connect_args(server.url)
    assert (given["host"], given["port"], given["dbname"]) == (host, port, "d")


@pytest.mark.parametrize(
    ("url", "addresses", "place"),
    [
        ("postgresql://h.invalid/d?", "127.0.0.1", "127.0.0.1:5432"),
        ("postgresql:///d?port=7", "::1", "[::1]:7"),
        ("postgresql://h/d?port=7", "::1,127.0.0.1", "[::1]:7, 127.0.0.1:7"),
        ("postgresql://h:7,i:8/d?", "::1,127.0.0.1", "[::1]:7, 127.0.0.1:8"),
    ],
)
def test_what_is_shown_and_asked_is_the_address_that_libpq_takes(
    url: str, addresses: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = server_at(f"{url}&hostaddr={addresses}".replace("?&", "?"))
    assert server.place == server.named.place == place
    _, given = server.url.get_dialect()().create_connect_args(server.url)
    assert given["hostaddr"] == addresses
    # Where only the environment names it, that is where libpq goes, too.
    monkeypatch.setenv("PGHOSTADDR", addresses)
    assert server_at(url.rstrip("?")).place == place


def test_the_option_of_an_address_is_where_the_server_is_looked_for(
    polite_port: int, web_server_port: int
) -> None:
    server_at(f"postgresql://h.invalid:{polite_port}/d?hostaddr=127.0.0.1").probe()
    url = f"postgresql://h.invalid/d?hostaddr=127.0.0.1&port={web_server_port}"
    with pytest.raises(BadInput, match=f"listens at 127.0.0.1:{web_server_port}"):
        server_at(url).probe()


def test_connect_timeout_reaches_the_driver_unless_the_url_has_its_own() -> None:
    waits = []
    for url, wait in (("postgresql://h/d", 7.5), ("postgresql://h/d", 1.0)):
        address = ServiceAddress(url, "--url", True, wait)
        waits.append(postgres_server(address).url.query.get("connect_timeout"))
    own = ServiceAddress("postgresql://h/d?connect_timeout=3", "--url", True, 60.0)
    waits.append(postgres_server(own).url.query.get("connect_timeout"))
    assert waits == ["8", None, "3"]


def test_one_host_that_answers_is_enough(
    polite_port: int, web_server_port: int
) -> None:
    nobody = free_port()
    server_at(f"postgresql://127.0.0.1:{nobody},127.0.0.1:{polite_port}/d").probe()
    server_at(f"postgresql://127.0.0.1:{web_server_port},[::1]:{polite_port}/d")
    with pytest.raises(BadInput, match="no PostgreSQL listens"):
        server_at(f"postgresql://h.invalid,127.0.0.1:{web_server_port}/d").probe()
    with pytest.raises(NoService, match=r"at 127.0.0.1:\d+, 127.0.0.1:1: Connection"):
        server_at(f"postgresql://127.0.0.1:{nobody},127.0.0.1:1/d").probe()


def test_a_folder_without_a_socket_is_no_server(tmp_path: Path) -> None:
    url = f"postgresql:///d?host={tmp_path}"
    with pytest.raises(NoService, match=f"{tmp_path}: No such file"):
        server_at(url).probe()
    done = run(SCRIPT, "--url", url, "--only", "engines")
    assert done.returncode == 0
    assert "backend: sqlite" in done.stdout


def test_a_folder_that_cannot_be_written_gets_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/proc")
    assert lesson.main(["--offline"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert "TMPDIR" in printed.err


@pytest.mark.parametrize("name", ["a%20b", "a?b", "a#b"])
def test_a_folder_of_any_name_holds_the_databases(tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    home.mkdir()
    done = run(SCRIPT, "--offline", "--only", "model", env={"TMPDIR": str(home)})
    assert done.returncode == 0, done.stdout
    assert [*tmp_path.iterdir()] == [home]
    engine = lesson.sqlite_engine(home / "lesson.db")
    with engine.connect():
        assert (home / "lesson.db").exists()
    engine.dispose()


def test_without_a_server_sqlite_takes_over_and_says_so() -> None:
    port = free_port()
    url = f"postgres://u:{SECRET}@127.0.0.1:{port}/db"
    done = run(SCRIPT, "--url", url, "--only", "queries")
    first = unbroken(done.stdout).splitlines()[0].lower()
    assert done.returncode == 0
    assert first.startswith(
        "backend: sqlite, in a temporary file (no postgresql at 127"
    )
    assert "connection refused; docker compose up -d postgres starts one)" in first
    assert SECRET not in done.stdout + done.stderr
    done = run(SCRIPT, "--url", url, "--require-live")
    assert done.returncode == 3
    assert len(unbroken(done.stdout).splitlines()) == 1


def test_a_server_that_says_nothing_does_not_hold_us_up(silent_port: int) -> None:
    url = f"postgresql://127.0.0.1:{silent_port}/db"
    start = time.monotonic()
    with pytest.raises(NoService, match="timed out"):
        server_at(url).probe()
    assert 0.9 < time.monotonic() - start < 5
    done = run(SCRIPT, "--url", url, "--only", "queries")
    assert done.returncode == 0
    assert "timed out" in unbroken(done.stdout).splitlines()[0]


def test_a_server_that_hangs_up_is_absent(closing_port: int) -> None:
    url = f"postgresql://127.0.0.1:{closing_port}/db"
    done = run(SCRIPT, "--url", url, "--only", "queries")
    assert done.returncode == 0
    assert "it hangs up; docker compose up" in unbroken(done.stdout).splitlines()[0]
    assert run(SCRIPT, "--url", url, "--require-live").returncode == 3


def test_another_kind_of_server_gets_one_line(web_server_port: int) -> None:
    done = run(SCRIPT, "--url", f"postgresql://127.0.0.1:{web_server_port}/db")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"no PostgreSQL listens at 127.0.0.1:{web_server_port}" in done.stderr
    with pytest.raises(BadInput, match=r"^DATABASE_URL: no PostgreSQL listens"):
        server_at(f"postgresql://127.0.0.1:{web_server_port}/db").probe()


def test_a_missing_driver_is_named(polite_port: int, tmp_path: Path) -> None:
    (tmp_path / "psycopg.py").write_text(
        "raise ModuleNotFoundError('No module named psycopg', name='psycopg')\n"
    )
    url = f"postgresql://127.0.0.1:{polite_port}/db"
    done = run(SCRIPT, "--url", url, env={"PYTHONPATH": str(tmp_path)})
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install 'psycopg[binary]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_commit_that_is_refused_holds_no_lock(tmp_path: Path) -> None:
    engine = lesson.sqlite_engine(tmp_path / "lesson.db", pool_size=1, max_overflow=0)
    parents = "CREATE TABLE parents (id INTEGER PRIMARY KEY)"
    deferred = "REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED"
    with engine.begin() as connection:
        connection.exec_driver_sql(parents)
        connection.exec_driver_sql(f"CREATE TABLE children (parent INTEGER {deferred})")
    orphan = sa.text("INSERT INTO children VALUES (5)")

    def by_connection() -> None:
        with engine.connect() as connection:
            connection.execute(orphan)
            connection.commit()

    def by_unit_of_work() -> None:
        with lesson.UnitOfWork(engine) as work:
            work.execute(orphan)
            work.commit()

    for write in (by_connection, by_unit_of_work):
        with pytest.raises(sa.exc.IntegrityError):
            write()
        with engine.begin() as connection:  # else it could not begin
            count = connection.scalar(sa.text("SELECT count(*) FROM children"))
        assert count == 0
    engine.dispose()


def test_a_server_that_refuses_the_first_statement_gets_one_line() -> None:
    server = server_at("postgresql://u@127.0.0.1:5432/db")
    engine = sa.create_engine("sqlite://")  # it has no current_schema()
    with pytest.raises(BadInput, match=r"^DATABASE_URL: PostgreSQL at \S+: no such"):
        refuse_elsewhere(server, engine, "module8")
    engine.dispose()
