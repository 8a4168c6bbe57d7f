"""Fixtures: a broker, stand-in and real in turn; and a private node to break."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import services
from conftest import absent
from lesson_04.fault_helpers import NAMES, certificates, fresh_connection
from lessons import load
from services import Server

lesson = load("04")


@pytest.fixture(scope="module", params=["stand-in", "rabbitmq"])
def env(request: pytest.FixtureRequest) -> Iterator[Any]:
    live = request.param == "rabbitmq"
    url = request.getfixturevalue("rabbitmq_url") if live else None
    with lesson.open_env(argparse.Namespace(offline=not live, url=url)) as found:
        assert found.live == live
        yield found


@pytest.fixture
def channel(env: Any) -> Iterator[Any]:
    with env.rabbit.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        yield channel


@pytest.fixture
def name(env: Any, channel: Any, request: pytest.FixtureRequest) -> Iterator[str]:
    """A prefix of the test's own; queues and exchanges that it may use are removed."""
    prefix: str = env.rabbit.name(request.node.originalname)
    yield prefix
    with env.rabbit.connect() as connection:
        cleaner = connection.channel()
        for suffix in ("", ".dead", ".back", ".prio", ".one", ".two"):
            cleaner.queue_delete(prefix + suffix)
            cleaner.exchange_delete(prefix + suffix)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """Return the folder of the certificates and the port for amqps."""
    folder = tmp_path_factory.mktemp("module8-tls")
    if not shutil.which("openssl"):
        absent("no openssl on the PATH to make certificates with")
    certificates(folder)
    return folder, services.free_port()


@pytest.fixture(scope="module")
def node(tls: tuple[Path, int]) -> Iterator[Server]:
    folder, port = tls
    lines = [
        f"listeners.ssl.1 = 127.0.0.1:{port}",
        f"ssl_options.cacertfile = {folder}/ca.pem",
        f"ssl_options.certfile = {folder}/server.pem",
        f"ssl_options.keyfile = {folder}/server.key",
    ]
    with services.private("rabbitmq", *lines) as server:
        if server is None:
            absent("no rabbitmq-server on the PATH to start a private node from")
        assert server
        yield server


@pytest.fixture
def rabbit(node: Server) -> Iterator[Any]:
    """Yield a topology under an own prefix; afterwards nothing stands on the node."""
    rabbit = fresh_connection(node.url)
    rabbit.setup_infrastructure()
    yield rabbit
    rabbit.teardown()
    assert "module8" not in node.ctl("eval", NAMES)
