"""A private RabbitMQ node locks out: a login, a right, a certificate."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lesson_04.fault_helpers import LIMIT, NAMES, SCRIPT, worker
from lessons import load, run
from services import Server

from course.amqp.finding import parameters_of
from course.amqp.workbench import BrokerEnv
from course.integrated.broker import Broker
from course.integrated.task import Place

lesson = load("04")


def refused(*args: str, **env: str) -> str:
    """Run the script; return its one line of complaint (exit code 2)."""
    done = run(SCRIPT, *args, env=env)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    (line,) = done.stderr.splitlines()
    return line


@pytest.fixture(scope="module")
def reader(node: Server) -> Iterator[str]:
    """Yield the URL of a user who may read, and declare nothing."""
    node.ctl("add_user", "reader", "s3cret-of-reader")
    node.ctl("set_permissions", "reader", "^$", "^$", ".*")
    yield node.url.replace("guest:guest", "reader:s3cret-of-reader")
    node.ctl("delete_user", "reader")


@pytest.mark.parametrize("mode", [["--require-live"], ["--worker", "user_data"]])
def test_a_refusal_is_one_line_and_declares_nothing(
    node: Server, rabbit: Any, reader: str, mode: list[str]
) -> None:
    wrong_password = node.url.replace("guest:guest", "guest:s3cret")
    wrong_vhost = node.url.replace("%2F", "nowhere")
    prefix = ["--prefix", "module8.refused"] if "--worker" in mode else []
    before = node.ctl("eval", NAMES)
    assert "password" in refused(*mode, *prefix, "--url", wrong_password)
    assert "nowhere" in refused(*mode, *prefix, "--url", wrong_vhost)
    line = refused(*mode, *prefix, "--url", reader)
    assert "access" in line.lower()
    assert "s3cret" not in line
    assert node.ctl("eval", NAMES) == before


def test_a_worker_whose_password_is_changed_says_so_and_ends(
    node: Server, rabbit: Any, tmp_path: Path
) -> None:
    node.ctl("add_user", "passing", "s3cret-before")
    try:
        node.ctl("set_permissions", "passing", ".*", ".*", ".*")
        url = node.url.replace("guest:guest", "passing:s3cret-before")
        there = Server("", url, 0, [], tmp_path, lambda: True)
        with worker(rabbit, there, tmp_path / "ledger") as process:
            node.ctl("change_password", "passing", "s3cret-after")
            node.ctl("close_all_connections", "a fault test")
            _, complaint = process.communicate(timeout=LIMIT)
        assert process.returncode in (1, 2)
        (line,) = complaint.splitlines()
        assert "refused" in line
        assert "s3cret" not in line
    finally:
        node.ctl("delete_user", "passing")


def test_a_connection_is_encrypted_and_verified_or_not_made(
    node: Server, rabbit: Any, tls: tuple[Path, int]
) -> None:
    folder, port = tls
    trusted = {"SSL_CERT_FILE": str(folder / "ca.pem")}
    secure = f"amqps://guest:guest@localhost:{port}/%2F"
    prefix = ["--prefix", rabbit.prefix]
    done = run(SCRIPT, "--publish", "50", "--url", secure, *prefix, env=trusted)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    assert rabbit.ready(rabbit.name("user_data")) == 50
    lost = f"{secure}?ssl_options={{'ca_certs':'/nowhere','password':'s3cret'}}"
    line = refused("--stats", *prefix, "--url", lost)
    assert "ssl_options" in line
    assert "s3cret" not in line
    by_option = f"{secure}?ssl_options={{'ca_certs':'{folder}/ca.pem'}}"
    done = run(SCRIPT, "--stats", "--url", by_option, *prefix)
    assert done.returncode == 0, done.stderr
    for mode in (["--only", "routing"], ["--publish", "1", *prefix]):
        unknown = refused(*mode, "--url", secure)
        assert "certificate" in unknown
        other_name = secure.replace("localhost", "127.0.0.1")
        assert "certificate" in refused(*mode, "--url", other_name, **trusted)
        plain = node.url.replace("amqp:", "amqps:")
        assert "TLS" in refused(*mode, "--url", plain, **trusted)
    assert rabbit.ready(rabbit.name("user_data")) == 50


def test_a_certificate_is_for_the_brokers_name_wherever_the_way_begins(
    node: Server, rabbit: Any, tls: tuple[Path, int]
) -> None:
    """A network of our own begins at 127.0.0.1, which no certificate names."""
    folder, port = tls
    trusted = f"ssl_options={{'ca_certs':'{folder}/ca.pem'}}"
    for host, fits in (("localhost", True), ("127.0.0.1", False)):
        parameters = parameters_of(f"amqps://guest:guest@{host}:{port}/%2F?{trusted}")
        env = BrokerEnv("", True, parameters, "", None, lambda: None)
        env.rabbit = lesson.RabbitMQConnection(parameters, rabbit.prefix)
        named = Broker(lesson, parameters, rabbit.prefix)
        with env.network() as (network, far):
            over = named.through(Place("127.0.0.1", network.port)).rabbit
            for one in (far, over):
                if fits:
                    with one.connect() as connection:
                        assert one.existing(connection)
                else:
                    with pytest.raises(ssl.SSLCertVerificationError, match="127"):
                        one.connect()


def test_a_question_that_a_node_cannot_answer_is_an_error(node: Server) -> None:
    assert node.ctl("eval", "1 + 1.") == "2\n"
    with pytest.raises(RuntimeError, match="undef"):
        node.ctl("eval", "no:such().")
