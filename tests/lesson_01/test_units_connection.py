"""Lesson 01: which server a URL means, and what is said where there is none."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lessons import load, path_of, run, unbroken
from services import free_port

from course.errors import BadInput, NoService
from course.services import ServiceAddress
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
            thread.join()
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
        (f"postgresql://u:{SECRET}@/db?host=127.0.0.1", "takes one host"),
        (f"postgresql://u:{SECRET}@127.0.0.1/db?port=5433", "takes one host"),
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
