"""Lesson 03 given bad input: one line, exit 2, and never a password."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import services
from conftest import absent
from lessons import path_of, run, unbroken
from programs import program

from course.caching.service import product_of

SCRIPT = path_of("03")


@contextmanager
def talking(replies: Callable[[bytes], bytes]) -> Iterator[int]:
    """Serve the loopback with a function from what was received to the reply."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)

        def serve() -> None:
            try:
                while True:
                    connection, _ = server.accept()
                    with connection:
                        while received := connection.recv(65536):
                            connection.sendall(replies(received))
            except OSError:
                return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def info(version: str) -> Callable[[bytes], bytes]:
    text = f"# Server\r\nredis_version:{version}\r\n"
    bulk = f"${len(text)}\r\n{text}\r\n".encode()
    return lambda received: b"".join(
        bulk if b"INFO" in command else b"+OK\r\n"
        for command in received.split(b"*")[1:]
    )


def refused(*arguments: str, env: dict[str, str] | None = None) -> str:
    """Return the one line of a run that ends with 2."""
    done = run(SCRIPT, "--only", "lru", *arguments, env=env)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    return done.stderr


@pytest.mark.parametrize(
    "url",
    ["http://localhost", "localhost:6379", "redis://localhost:port/0", "nonsense"],
)
def test_a_wrong_url_is_named_with_the_right_form(url: str) -> None:
    assert "write redis://user:" in refused("--url", url)
    line = refused(env={"REDIS_URL": url})
    assert ": REDIS_URL is not a Redis URL: " in line
    assert url not in line


def test_a_password_is_never_printed() -> None:
    for url in ("redis://user:s3cret@localhost:port/0", "http://:s3cret@localhost"):
        assert "s3cret" not in refused("--url", url)
    url = f"redis://user:s3cret@127.0.0.1:{services.free_port()}/0"
    done = run(SCRIPT, "--only", "tier", "--url", url)
    assert done.returncode == 0
    assert "s3cret" not in done.stdout + done.stderr
    assert "connection refused; docker compose up -d redis" in unbroken(done.stdout)


def test_an_old_server_is_named() -> None:
    with talking(info("5.0.14")) as port:
        line = refused("--url", f"redis://127.0.0.1:{port}/0")
    assert "Redis 5.0.14" in line
    assert "too old: 6.2 or later" in line


def test_what_is_no_redis_is_not_taken_for_one() -> None:
    with talking(lambda received: b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        assert "what answers there is none" in refused(
            "--url", f"redis://127.0.0.1:{port}/0"
        )


def test_a_wrong_password_and_database_are_named() -> None:
    with services.private("redis", "--requirepass", "s3cret") as server:
        if server is None:
            absent("no redis-server on the PATH")
        assert server
        place = f"127.0.0.1:{server.port}"
        for user in ("", ":wr0ng@", "user:wr0ng@"):
            line = refused("--url", f"redis://{user}{place}/0")
            assert "refuses the password; before the host write user:pass" in line
            assert "wr0ng" not in line
        line = refused("--url", f"redis://:s3cret@{place}/99")
        assert f"--url: Redis at {place}: DB index is out of range" in line
        assert "s3cret" not in line
        done = run(SCRIPT, "--only", "tier", "--url", f"redis://:s3cret@{place}/1")
        assert done.returncode == 0, done.stdout
        assert re.search(rf"backend: (redis|valkey) [\d.]+ at {place}\n", done.stdout)
        assert "s3cret" not in done.stdout + done.stderr


# What a Redis refuses to write for, by its setting; and what it says.
UNWRITABLE = {
    ("maxmemory", "1"): "command not allowed when used memory > 'maxmemory'",
    ("min-replicas-to-write", "3"): "NOREPLICAS Not enough good replicas to write",
    ("replicaof", "127.0.0.1 1"): "You can't write against a read only replica",
}


@pytest.mark.parametrize(
    ("setting", "said"), UNWRITABLE.items(), ids=lambda one: one[0]
)
def test_a_redis_that_takes_no_writes_is_named_with_its_words(
    setting: tuple[str, str], said: str
) -> None:
    name, value = setting
    with services.private("redis", f"--{name}", *value.split()) as server:
        if server is None:
            absent("no redis-server on the PATH")
        assert server
        place = f"127.0.0.1:{server.port}"
        line = refused("--url", f"redis://{place}/0")
    assert f"--url: Redis at {place}: {said}" in line
    assert "INFO" not in line


def test_a_redis_without_auth_repeats_no_part_of_a_long_password() -> None:
    password = "Xq7Zk9WvJmQ" * 20  # of which a Redis repeats so many characters
    beginning = f"`AUTH`, with args beginning with: `{password[:128]}`, "
    with talking(lambda _: f"-ERR unknown command {beginning}\r\n".encode()) as port:
        line = refused("--url", f"redis://:{password}@127.0.0.1:{port}/0")
    assert "unknown command `AUTH`" in line
    assert "Xq7Zk" not in line


def test_require_live_without_a_server_exits_3() -> None:
    url = f"redis://127.0.0.1:{services.free_port()}/0"
    done = run(SCRIPT, "--require-live", "--url", url)
    assert done.returncode == 3
    assert "fakeredis" in done.stdout


def test_a_server_that_says_nothing_gives_way_within_seconds() -> None:
    with talking(lambda received: b"") as port:
        done = run(
            SCRIPT, "--only", "invalidation", "--url", f"redis://127.0.0.1:{port}/0"
        )
    assert done.returncode == 0
    assert "no answer; docker compose" in unbroken(done.stdout)


def test_a_redis_without_tls_is_named_where_tls_is_asked_for() -> None:
    def answer(received: bytes) -> bytes:
        return b"+PONG\r\n" if received.startswith(b"PING") else b""

    with talking(answer) as port:
        url = f"rediss://:hunter2@127.0.0.1:{port}/0"
        done = run(SCRIPT, "--only", "invalidation", "--url", url)
    assert done.returncode == 2
    assert "does not speak TLS: begin with redis://" in unbroken(done.stderr)
    assert "hunter2" not in done.stdout + done.stderr


def test_an_untrusted_certificate_is_refused(tmp_path: Path) -> None:
    openssl = program("openssl")
    if openssl is None:
        pytest.skip("no openssl program to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
            "-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate),
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            try:
                while True:
                    connection, _ = server.accept()
                    context.wrap_socket(connection, server_side=True).close()
            except OSError:
                return

        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        port = server.getsockname()[1]
        line = refused("--url", f"rediss://localhost:{port}/0")
        server.shutdown(socket.SHUT_RDWR)
    assert "its certificate is not trusted; name its authority" in line


def test_valkey_is_named_as_what_it_is() -> None:
    redis = {"redis_version": "8.2.1"}
    assert product_of(redis) == "redis 8.2.1"
    valkey = {
        "redis_version": "7.2.4",
        "server_name": "valkey",
        "valkey_version": "9.0.1",
    }
    assert product_of(valkey) == "valkey 9.0.1"
    assert product_of({"redis_version": "7.2.4", "server_name": "kvrocks"}) == (
        "kvrocks 7.2.4"
    )


def test_a_valkey_server_gives_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_PROGRAM", "valkey-server")
    with services.private("redis") as server:
        if server is None:
            absent("no valkey-server: neither its wheel nor its program is there")
        assert server
        done = run(SCRIPT, "--only", "tier", "--url", server.url)
    assert done.stdout.startswith("backend: valkey ")
