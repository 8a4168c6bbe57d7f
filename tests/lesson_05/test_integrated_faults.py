"""Lesson 05 with --integrated on private servers that are broken while it runs.

Whatever dies, the run says at the end that every figure in every store is exact, and
says so only after it has compared them; here the servers are asked once more.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from lessons import load, path_of
from services import Server, wait_for

from course.integrated.analytics import Analytics, first_customers

SCRIPT, CUSTOMERS = path_of("05"), 150
pytestmark = pytest.mark.slow


class Run:
    """The lesson as a process on four servers, watched through SQL."""

    def __init__(
        self, urls: dict[str, str], home: Path, *options: str, live: bool = True
    ) -> None:
        self.mark, self.sql = f"MODULE8_MARK={uuid.uuid4()}", urls["DATABASE_URL"]
        name, value = self.mark.split("=")
        env = os.environ | urls | {"TMPDIR": str(home), name: value}
        command = [sys.executable, str(SCRIPT), "--integrated"]
        command += ["--require-live"] * live
        command += ["--customers", str(CUSTOMERS), *options]
        pipe = subprocess.PIPE
        self.parent = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            text=True,
        )

    def workers(self) -> list[int]:
        """Return the ids of the worker processes."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                ours = self.mark.encode() in (path / "environ").read_bytes()
                if ours and b"--as-worker" in (path / "cmdline").read_bytes():
                    found.append(int(path.name))
            except OSError:
                continue
        return found

    def reached(self, condition: str) -> None:
        """Wait until a query in the schema of the run says true."""

        def state() -> bool:
            assert self.parent.poll() is None, self.parent.communicate(timeout=30)
            with closing(psycopg.connect(self.sql, autocommit=True)) as connection:
                ask = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'module8%'"
                for (schema,) in connection.execute(ask).fetchall():
                    connection.execute(f"SET search_path = {schema}")
                    try:
                        found: Any = connection.execute(
                            f"SELECT {condition}"
                        ).fetchone()
                    except psycopg.errors.UndefinedTable:
                        continue
                    return bool(found[0])
            return False

        wait_for(state, 90, condition)

    def end(self) -> str:
        """Return what it printed, after it has ended well."""
        printed, complaints = self.parent.communicate(timeout=180)
        assert self.parent.returncode == 0, printed + complaints
        assert "[FAIL]" not in printed
        assert "Traceback" not in complaints
        assert "left behind" not in complaints, complaints
        return str(printed)


@pytest.fixture(scope="module")
def urls(
    private_postgres: Server,
    private_mongo: Server,
    private_redis: Server,
    private_rabbitmq: Server,
) -> dict[str, str]:
    return {
        "DATABASE_URL": private_postgres.url,
        "MONGODB_URI": private_mongo.url,
        "REDIS_URL": private_redis.url,
        "RABBITMQ_URL": private_rabbitmq.url,
    }


@pytest.fixture
def started(urls: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def start(*options: str) -> Run:
        runs.append(Run(urls, tmp_path, *options))
        return runs[-1]

    yield start
    for one in runs:
        one.parent.kill()
        one.parent.wait()
        wait_for(lambda one=one: not one.workers(), 60)  # type: ignore[misc]
    assert not list(tmp_path.iterdir())


def figures(printed: str) -> list[str]:
    """Return what has to be the same in every run: the reconciliation."""
    part = re.search(r"Reconciliation:.*?(?=\n\d+\. )", printed, re.DOTALL)
    assert part
    return part[0].splitlines()


@pytest.fixture(scope="module")
def calm(urls: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return figures(Run(urls, tmp_path_factory.mktemp("calm")).end())


def test_chaos_on_live_servers_changes_no_figure(
    started: Callable[..., Run], calm: list[str]
) -> None:
    printed = started("--chaos").end()
    assert figures(printed) == calm
    assert "10 ok, 0 skipped, 0 failed" in printed


def test_chaos_with_a_live_redis_and_no_mongodb(
    urls: dict[str, str], tmp_path: Path, calm: list[str]
) -> None:
    nobody = {"MONGODB_URI": "mongodb://127.0.0.1:1/"}
    printed = Run(urls | nobody, tmp_path, "--chaos", live=False).end()
    assert figures(printed) == calm  # workers reach Redis through us, and the wire
    assert "10 ok, 0 skipped, 0 failed" in printed


def test_a_worker_killed_and_connections_closed_half_way(
    started: Callable[..., Run], calm: list[str], private_rabbitmq: Server
) -> None:
    one = started()
    one.reached("count(*) > 50 FROM purchases")
    os.kill(min(one.workers()), signal.SIGKILL)
    one.reached("count(*) > 80 FROM purchases")
    private_rabbitmq.ctl("close_all_connections", "test")
    assert figures(one.end()) == calm


def test_redis_killed_while_orders_come(
    started: Callable[..., Run], calm: list[str], private_redis: Server
) -> None:
    one = started()
    one.reached("count(*) > 50 FROM purchases")
    private_redis.kill()
    one.reached("count(*) > 0 FROM inbox WHERE queue = 'analytics' AND done = 0")
    private_redis.start()
    printed = one.end()
    assert figures(printed) == calm


def test_redis_killed_after_it_has_been_filled(
    started: Callable[..., Run], calm: list[str], private_redis: Server
) -> None:
    analytics = Analytics(load("05"))
    log = first_customers(analytics.sample(), CUSTOMERS)
    cut, _ = analytics.halves(log)
    one = started()
    # Orders after the cut come when two passes have filled the cache.
    one.reached(f"max(day) > {cut} AND count(*) > 100 FROM purchases")
    private_redis.kill()
    private_redis.start()
    printed = one.end()
    assert figures(printed) == calm
    assert re.search(r"after late orders +0 +150", printed)  # its memory was all it had


def test_nothing_is_left_on_the_servers(
    calm: list[str],
    private_postgres: Server,
    private_mongo: Server,
    private_redis: Server,
    private_rabbitmq: Server,
) -> None:
    import pymongo
    import redis

    with closing(psycopg.connect(private_postgres.url)) as connection:
        ask = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'module8%'"
        assert connection.execute(ask).fetchall() == []
    with pymongo.MongoClient[dict[str, Any]](private_mongo.url) as client:
        names = client.list_database_names()
        assert [name for name in names if name.startswith("module8")] == []
    with redis.Redis.from_url(private_redis.url) as client_of_redis:
        assert client_of_redis.keys("*") == []
    for kind in ("queues", "exchanges"):
        assert "module8" not in private_rabbitmq.ctl(f"list_{kind}", "name")
