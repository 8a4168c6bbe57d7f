"""Fixtures: each service as it is found or started, and private ones to break.

A service is looked for in this order: its URL variable (environment or .env), its
standard loopback port, a private instance from a program on the PATH. Where there is
none, its tests are skipped with the reason; REQUIRE_LIVE=1 makes that a failure.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
import services
from dotenv import dotenv_values
from hiding import pytest_runtest_logreport
from lessons import ROOT
from programs import newest_root
from required import pytest_make_collect_report, pytest_runtest_makereport
from services import Server

FOUND_AT = {
    "postgres": ("DATABASE_URL", 5432, "postgresql://postgres@127.0.0.1:5432/postgres"),
    "mongo": ("MONGODB_URI", 27017, "mongodb://127.0.0.1:27017/"),
    "redis": ("REDIS_URL", 6379, "redis://127.0.0.1:6379/0"),
    "rabbitmq": ("RABBITMQ_URL", 5672, "amqp://guest:guest@127.0.0.1:5672/%2F"),
}


def pytest_configure() -> None:
    """Let Ctrl-C reach the programs that tests start.

    A shell lets what it starts in the background ignore SIGINT, and so would they.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # nohup has it ignored, and programs inherit that.
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


__all__ = [
    "pytest_make_collect_report",
    "pytest_runtest_logreport",
    "pytest_runtest_makereport",
]
SERVERS = ("postgres", "redis", "rabbitmq")  # what NEWEST_ROOT has
FIXTURES = {f"{name}_url" for name in SERVERS} | {f"private_{name}" for name in SERVERS}
TALK_TO_SERVERS = (
    "test_contract",
    "test_faults",
    "test_live",
    "test_integrated_ends",
    "test_integrated_faults",
    "test_guide_security",
    "test_pooler",
    "test_schedules",
)
STAND_INS = ("stand-in", "sqlite", "offline")  # in the names of parameters


def meets_a_server(item: pytest.Item) -> bool:
    """Tell whether a test talks to one of the servers that NEWEST_ROOT has."""
    if any(name in item.name for name in STAND_INS):
        return False
    if item.path.parent.name == "lesson_02":  # MongoDB is in no Debian
        return False
    fixtures = set(getattr(item, "fixturenames", ()))
    return item.path.name.startswith(TALK_TO_SERVERS) or bool(fixtures & FIXTURES)


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Leave out the tests whose servers are not of the version that they are bound to.

    With NEWEST_ROOT only what talks to servers is run: nothing else would differ.
    """
    chosen: list[pytest.Item] = []
    left: list[pytest.Item] = []
    for item in items:
        bound = item.get_closest_marker("newest")
        if newest_root():
            older = item.get_closest_marker("older")
            runs = bound or (meets_a_server(item) and not older)
        else:
            runs = not bound
        (chosen if runs else left).append(item)
    items[:] = chosen
    config.hook.pytest_deselected(items=left)


def absent(reason: str) -> None:
    """Skip the test: what it needs is not here."""
    pytest.skip(reason)


@contextmanager
def with_tls() -> Iterator[None]:
    """Skip a test whose server was built without TLS."""
    try:
        yield
    except services.NoTls:
        absent("this server was built without TLS")


def _start(name: str, stack: ExitStack, *options: str) -> Server:
    server = stack.enter_context(services.private(name, *options))
    if server is None:
        absent(f"no {name}: neither its variable, its port nor its program is there")
    assert server
    return server


def _service(name: str) -> Iterator[str]:
    variable, port, default = FOUND_AT[name]
    configured = os.environ.get(variable) or dotenv_values(ROOT / ".env").get(variable)
    with ExitStack() as stack:
        if name != "mongo" and newest_root():
            yield _start(name, stack).url
        elif configured:
            yield configured
        elif services.answers(port):
            yield default
        else:
            yield _start(name, stack).url


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    yield from _service("postgres")


@pytest.fixture(scope="session")
def mongo_url() -> Iterator[str]:
    yield from _service("mongo")


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    yield from _service("redis")


@pytest.fixture(scope="session")
def rabbitmq_url() -> Iterator[str]:
    yield from _service("rabbitmq")


def _private(name: str) -> Iterator[Server]:
    with ExitStack() as stack:
        yield _start(name, stack)


@pytest.fixture(scope="module")
def private_postgres() -> Iterator[Server]:
    yield from _private("postgres")


@pytest.fixture(scope="module")
def private_mongo() -> Iterator[Server]:
    yield from _private("mongo")


@pytest.fixture(scope="module")
def private_redis() -> Iterator[Server]:
    yield from _private("redis")


@pytest.fixture(scope="module")
def private_rabbitmq() -> Iterator[Server]:
    yield from _private("rabbitmq")


@pytest.fixture(scope="module")
def servers(
    private_postgres: Server,
    private_mongo: Server,
    private_redis: Server,
    private_rabbitmq: Server,
) -> dict[str, Server]:
    """Return a private server of each kind by the variable that names it."""
    return {
        "DATABASE_URL": private_postgres,
        "MONGODB_URI": private_mongo,
        "REDIS_URL": private_redis,
        "RABBITMQ_URL": private_rabbitmq,
    }
