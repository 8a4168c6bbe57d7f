"""What a URL asks for beside a server that is there: one line, and never a stand-in."""

from __future__ import annotations

import os
import signal
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from lessons import ROOT, path_of, run
from services import Server

AMQP = {
    "heartbeat=99999": "heartbeat is 0 to 65535 seconds",
    "locale=" + 300 * "x": "answers, but not to these options",
    "tcp_options={'TCP_KEEPIDLE':-1}": "answers, but not to these options",
    "tcp_options={'TCP_USER_TIMEOUT':'a'}": "is not a RabbitMQ URL",
    "client_properties={'a':1.5}": "answers, but not to these options",
    "client_properties={'a':{1:2}}": "is not a RabbitMQ URL",
}
REDIS = {
    "decode_responses=true": "the client decodes",
    "protocol=4": "answers, but: protocol must be either 2 or 3",
    "socket_timeout=0": "socket_timeout must be above zero",
    "socket_read_size=0": "answers, but: ",
    "retry_on_error=x": "retry_on_error cannot stand in a URL",
}
SECRET = "Xq7Zk9WvJmQ"


def refused(lesson: str, *arguments: str, cwd: Path | None = None) -> str:
    """Run a lesson; return its one line of complaint (exit code 2)."""
    done = run(path_of(lesson), *arguments, cwd=cwd)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.parametrize(("option", "why"), AMQP.items(), ids=lambda one: one[:20])
def test_rabbitmq_and_options(rabbitmq_url: str, option: str, why: str) -> None:
    url = f"{rabbitmq_url}?{option}"
    assert why in refused("04", "--only", "routing", "--url", url)


def test_a_vhost_that_is_too_long(rabbitmq_url: str) -> None:
    place = rabbitmq_url.rpartition("/")[0]
    line = refused("04", "--only", "routing", "--url", f"{place}/{300 * 'v'}")
    assert "answers, but not to these options" in line


@pytest.mark.parametrize(("option", "why"), REDIS.items(), ids=lambda one: one[:20])
def test_redis_and_options(redis_url: str, option: str, why: str) -> None:
    assert why in refused("03", "--only", "tier", "--url", f"{redis_url}?{option}")


@contextmanager
def far_away(answer: bytes) -> Iterator[int]:
    """Yield the port of something that gives its first answer after 0.8 s."""

    class Slow(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            if self.request.recv(8):
                time.sleep(0.8)
                with suppress(OSError):
                    self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Slow) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_a_server_that_is_far_away_is_not_taken_for_absent() -> None:
    with far_away(b"AMQP\x00\x00\x09\x01") as port:
        url = f"amqp://127.0.0.1:{port}/%2F?tcp_options={{'TCP_KEEPIDLE':-1}}"
        line = refused("04", "--only", "routing", "--url", url)
        assert "answers, but not to these options" in line
    with far_away(b"+PONG\r\n") as port:
        url = f"redis://127.0.0.1:{port}?protocol=4"
        assert "answers, but: protocol" in refused("03", "--only", "tier", "--url", url)


@pytest.mark.parametrize("rest", ["Hunter22==", "hunter=", "hunterTwo=x"])
@pytest.mark.parametrize("lesson", ["01", "03"])
def test_what_follows_an_ampersand_of_a_secret_is_hidden(
    lesson: str, rest: str, postgres_url: str, redis_url: str
) -> None:
    url = {"01": postgres_url, "03": redis_url}[lesson]
    line = refused(lesson, "--url", f"{url}?password=ab&{rest}")
    assert "unter" not in line


SWEEP_OF_05 = """
import os, signal, sys
from course.sql import database
sys.path.insert(0, "tests")
from lessons import load
drop = database.drop_schema
def ended(*args):
    os.kill(os.getpid(), signal.SIGTERM)
    drop(*args)
database.drop_schema = ended
sys.exit(load("05").main(["--sweep"]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="platform: signals differ")
def test_a_signal_while_a_sweep_of_all_closes_leaves_nothing(
    private_postgres: Server,
) -> None:
    ask = r"SELECT nspname FROM pg_namespace WHERE nspname LIKE 'module8\_%'"
    url = private_postgres.url
    with psycopg.connect(url, autocommit=True) as db:
        done = subprocess.run(
            [sys.executable, "-c", SWEEP_OF_05],
            cwd=ROOT,
            env=os.environ | {"DATABASE_URL": url},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode in (0, 128 + signal.SIGTERM), done.stderr
        assert "left behind" not in done.stderr
        assert db.execute(ask).fetchall() == []
