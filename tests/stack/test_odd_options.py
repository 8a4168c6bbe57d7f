"""What a URL asks for beside a server that is there: one line, and never a stand-in."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from lessons import ROOT, path_of, run

from course.integrated import lessons as of_05
from course.options import Parser

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


@pytest.mark.parametrize(
    "where",
    [
        "postgresql://odd:s3cr3t@{secret}?x@h/db",
        "postgresql://u:Tr0ub@{secret}@h.invalid/db",
        "postgresql://{secret}@{place}/postgres",
        "postgresql://u:{secret}@{place}/postgres",
        "postgresql//u:{secret}@h/db",
        "postgresql:u:{secret}@h",
        "u:{secret}@h",
        "postgresql://u:{secret}@h/db?autocommit=1",
    ],
)
def test_a_ledger_shows_no_part_of_a_password(
    rabbitmq_url: str, postgres_url: str, tmp_path: Path, where: str
) -> None:
    place = postgres_url.rpartition("@")[2].partition("/")[0]
    ledger = where.format(secret=SECRET, place=place)
    worker = ["--worker", "user_data", "--prefix", "module8.odd", "--url", rabbitmq_url]
    line = refused("04", *worker, "--ledger", ledger, cwd=tmp_path)
    assert line.startswith("04_rabbitmq_messaging.py: --ledger")
    for start in range(len(SECRET) - 4):
        assert SECRET[start : start + 5] not in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("rest", ["Hunter22==", "hunter=", "hunterTwo=x"])
@pytest.mark.parametrize("lesson", ["01", "03"])
def test_what_follows_an_ampersand_of_a_secret_is_hidden(
    lesson: str, rest: str, postgres_url: str, redis_url: str
) -> None:
    url = {"01": postgres_url, "03": redis_url}[lesson]
    line = refused(lesson, "--url", f"{url}?password=ab&{rest}")
    assert "unter" not in line


def test_the_integrated_part_waits_as_long_as_it_is_told_to() -> None:
    asked: list[Any] = []

    class Lesson:
        lesson: Any

        @staticmethod
        def parser() -> Parser:
            return Parser("a lesson", [])

        @staticmethod
        def open_env(args: Any) -> Any:
            asked.append(args.connect_timeout)
            raise LookupError

    module = Lesson()
    module.lesson = module
    args = Parser("", []).parse_args(["--connect-timeout", "20"])
    with pytest.raises(LookupError):
        of_05.open_back_end(module, args, ExitStack())
    assert asked == [20.0]


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
def test_a_signal_while_a_sweep_of_all_closes_leaves_nothing(postgres_url: str) -> None:
    import psycopg

    ask = r"SELECT nspname FROM pg_namespace WHERE nspname LIKE 'module8\_%'"
    with psycopg.connect(postgres_url, autocommit=True) as db:
        before = set(db.execute(ask))
        done = subprocess.run(
            [sys.executable, "-c", SWEEP_OF_05],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode in (0, 128 + signal.SIGTERM), done.stderr
        assert "left behind" not in done.stderr
        assert set(db.execute(ask)) <= before
