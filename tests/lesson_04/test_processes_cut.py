"""Lesson 04 as processes: a broker that is not there, says nothing, or goes away."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from lesson_04.amqp_helpers import connection_to, url_of
from lessons import load, path_of, run, unbroken
from services import wait_for

from course.amqp.finding import parameters_of, probing
from course.amqp.trials import emptied
from course.network import FaultyNetwork
from course.services import ServiceAddress
from course.standins.amqp import Broker
from course.urls import AMQP_FORM, service_url

lesson = load("04")
SCRIPT = path_of("04")
MODES = [[], ["--stats"], ["--worker", "user_data"], ["--publish", "1"]]


@pytest.fixture
def broker() -> Iterator[Broker]:
    with Broker() as found:
        yield found


@contextmanager
def silent_port() -> Iterator[int]:
    """Yield a port on which connections are accepted, and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


@pytest.mark.parametrize("mode", MODES, ids=" ".join)
@pytest.mark.parametrize("kind", ["unknown host", "silent"])
def test_a_broker_that_is_not_there_is_named(mode: list[str], kind: str) -> None:
    """The demos take the stand-in, everything else exits 3; no traceback."""
    with silent_port() as port:
        host = "no-such-host.invalid:5672"
        if kind == "silent":
            host = f"127.0.0.1:{port}"
        url = f"amqp://guest:s3cret@{host}/%2F"
        options = mode or ["--only", "messages"]
        done = run(SCRIPT, "--url", url, *options)
    said = unbroken(done.stdout + done.stderr)
    assert done.returncode == (3 if mode else 0), done.stderr
    assert f"no RabbitMQ at {host}" in said
    assert "Traceback" not in said
    assert "s3cret" not in said
    assert len(done.stderr.splitlines()) == (1 if mode else 0)


@pytest.mark.parametrize("path", ["//", "//orders", "/a/b"])
def test_a_slash_in_a_vhost_has_a_hint(path: str) -> None:
    done = run(SCRIPT, "--url", f"amqp://guest:s3cret@127.0.0.1:5672{path}", "--stats")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "%2F" in line
    assert "s3cret" not in line


def test_what_the_url_says_of_timeouts_counts() -> None:
    asked = (
        "socket_timeout=3&stack_timeout=4&connection_attempts=2&retry_delay=1"
        "&blocked_connection_timeout=7&heartbeat=9&channel_max=1"
    )
    url = f"amqp://guest:guest@127.0.0.1/%2F?{asked}"
    found = parameters_of(url)
    for name, value in (part.split("=") for part in asked.split("&")):
        assert getattr(found, name) == int(value), name
        assert getattr(probing(found, named(url)), name) == int(value), name
    plain = "amqp://guest:guest@127.0.0.1/%2F"
    usual = parameters_of(plain)
    assert usual.connection_attempts == 1
    assert probing(usual, named(plain)).stack_timeout == 1.5
    half = plain + "?socket_timeout=3"
    assert probing(parameters_of(half), named(half)).socket_timeout == 3


def named(url: str) -> Any:
    """Return what a URL says, where --connect-timeout is 1.5."""
    address = ServiceAddress(url, "--url", named=True, connect_limit=1.5)
    return service_url(address, AMQP_FORM)


def test_one_channel_is_enough_for_the_demos(broker: Any) -> None:
    url = url_of(broker) + "?channel_max=1"
    done = run(SCRIPT, "--url", url, "--only", "routing", "publishing", "idempotency")
    assert done.returncode == 0, done.stdout + done.stderr


def start(*options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def number_of(what: str, output: str) -> int:
    found = re.search(rf"{what}\D*(\d+)", output)
    assert found, output
    return int(found[1])


@pytest.mark.parametrize("end", ["SIGINT", "SIGTERM", "lost"])
def test_a_publish_that_is_cut_says_what_is_confirmed_and_keeps_the_rest(
    broker: Any, tmp_path: Path, end: str
) -> None:
    rejects = tmp_path / "rejects.jsonl"
    with FaultyNetwork("127.0.0.1", broker.port) as network:
        url = f"amqp://guest:guest@127.0.0.1:{network.port}/%2F"
        options = ("--publish", "100000", "--rate", "500", "--rejects", str(rejects))
        process = start("--url", url, *options)
        wait_for(lambda: "module8.user_data" in broker.queues, 30)
        queue = broker.queues["module8.user_data"]
        wait_for(lambda: len(queue.ready) > 100, 30)
        network.freeze("down")
        arrived = len(queue.ready)
        wait_for(lambda: len(queue.ready) > arrived + 20, 30)
        if end != "lost":
            process.send_signal(getattr(signal, end))
        out, err = process.communicate(timeout=30)
    assert process.returncode == {"SIGINT": 130, "SIGTERM": 143, "lost": 1}[end], err
    assert "Traceback" not in err
    confirmed = number_of("confirmed", out)
    left = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert number_of("sent, not confirmed", out) == len(left) > 0
    about = [about for about, _ in emptied(connection_to(broker), "module8.user_data")]
    ids = {one.message_id for one in about}
    again = {one["message_id"] for one in left}
    # Everything that arrived is either confirmed or in the file; some of it is both
    # there and in the queue, under the same id.
    assert len(ids - again) <= confirmed
    assert len(ids | again) == confirmed + len(again)
    for one in left:
        assert lesson.Message.from_json(one["body"]).id == one["message_id"]
        assert (one["exchange"], one["key"]) == ("module8.data_processing", "user_data")


def test_a_publish_that_succeeds_leaves_no_file(broker: Any, tmp_path: Path) -> None:
    rejects = tmp_path / "rejects.jsonl"
    options = ("--publish", "20", "--rejects", str(rejects))
    done = run(SCRIPT, "--url", url_of(broker), *options)
    assert (done.returncode, number_of("confirmed", done.stdout)) == (0, 20)
    assert not rejects.exists()


@pytest.mark.parametrize("kind", ["there", "nowhere"])
def test_a_file_is_never_overwritten(broker: Any, tmp_path: Path, kind: str) -> None:
    rejects = tmp_path / "rejects.jsonl"
    if kind == "there":
        rejects.write_text("precious")
    else:
        rejects = tmp_path / "missing" / "rejects.jsonl"
    for mode in (["--publish", "5"], ["--redrive", "user_data"]):
        done = run(SCRIPT, "--url", url_of(broker), *mode, "--rejects", str(rejects))
        assert (done.returncode, done.stdout) == (2, "")
        (line,) = done.stderr.splitlines()
        assert f"--rejects {rejects}" in line
    assert list(broker.queues) == []
    if kind == "there":
        assert rejects.read_text() == "precious"


@pytest.mark.parametrize("end", ["SIGINT", "lost"])
def test_a_redrive_that_is_cut_says_how_far_it_came(
    broker: Any, tmp_path: Path, end: str
) -> None:
    rejects = tmp_path / "rejects.jsonl"
    run(SCRIPT, "--url", url_of(broker), "--publish", "1")
    rabbit = connection_to(broker)
    emptied(rabbit, "module8.user_data")
    messages = lesson.users(3000)
    with lesson.Producer(rabbit) as producer:
        lesson.publish_all(producer, "module8.user_data.dead", messages)
    with FaultyNetwork("127.0.0.1", broker.port) as network:
        url = f"amqp://guest:guest@127.0.0.1:{network.port}/%2F"
        options = ("--redrive", "user_data", "--rejects", str(rejects))
        process = start("--url", url, *options)
        queue = broker.queues["module8.user_data"]
        wait_for(lambda: len(queue.ready) > 50, 30)
        if end == "SIGINT":
            process.send_signal(signal.SIGINT)
        else:
            network.cut()
        out, err = process.communicate(timeout=40)
    assert process.returncode == {"SIGINT": 130, "lost": 1}[end], err
    moved = number_of("moved back", out)
    dead = broker.queues["module8.user_data.dead"]
    wait_for(lambda: not dead.unacked, 30)
    assert 0 < moved <= len(queue.ready) <= moved + 1
    # One may be there thrice: its confirm was lost, and it is a dead letter still.
    assert 3000 <= len(queue.ready) + len(dead.ready) <= 3002
    assert rejects.exists() == ("not confirmed" in out)
