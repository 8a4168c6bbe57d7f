"""Lesson 04 as processes: bad input, workers, publishers, signals."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lesson_04.amqp_helpers import connection_to, open_stand_in, url_of
from lessons import load, path_of, run, unbroken
from services import wait_for

from course.amqp.errors import PublishFailed
from course.amqp.processes import publish_many
from course.amqp.trials import emptied
from course.standins.amqp import Broker

lesson = load("04")


@pytest.fixture
def broker() -> Iterator[Broker]:
    with Broker() as found:
        yield found


SCRIPT = path_of("04")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--publish", "0"], "--publish: '0' is not a whole number above zero"),
        (["--publish", "1.5"], "--publish: '1.5' is not a whole number above zero"),
        (
            ["--worker", "user_data", "--drain", "nan"],
            "'nan' is not a number above zero",
        ),
        (["--publish", "3", "--redrive", "user_data"], "--publish and --redrive: one"),
        (["--stats", "--teardown"], "--stats and --teardown: one at a time"),
        (["--rate", "5"], "--rate goes with --publish"),
        (["--concurrency", "2"], "--concurrency goes with --worker"),
        (["--publish", "1", "--drain", "2"], "--drain goes with --worker"),
        (["--stats", "--ledger", "file"], "--ledger goes with --worker"),
        (["--prefix", "mine"], "--prefix goes with --worker or --publish or"),
        (["--stats", "--rejects", "file"], "--rejects goes with --publish or --redri"),
    ],
    ids=str,
)
def test_options_that_do_not_fit_are_one_line(
    arguments: list[str], complaint: str
) -> None:
    done = run(SCRIPT, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert complaint in done.stderr


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "amqp://guest:secret@127.0.0.1:port/",
        "amqp://guest:secret@127.0.0.1:5672/%2F?heartbeat=often",
        "amqp://guest:secret@127.0.0.1:5672/%2F?nonsense=1",
        "redis://:secret@127.0.0.1",
        "nonsense",
    ],
)
def test_a_wrong_url_is_one_line_that_names_who_gave_it(url: str) -> None:
    for arguments in ([], ["--stats"]):
        by_option = run(SCRIPT, "--url", url, *arguments)
        by_variable = run(SCRIPT, *arguments, env={"RABBITMQ_URL": url})
        for done, who in ((by_option, "--url"), (by_variable, "RABBITMQ_URL")):
            assert (done.returncode, done.stdout) == (2, "")
            assert len(done.stderr.splitlines()) == 1
            assert f": {who} is not a RabbitMQ URL: " in done.stderr
            assert "secret" not in done.stderr


def test_refused_logins_and_vhosts_are_named(broker: Any) -> None:
    where = f"127.0.0.1:{broker.port}"
    for url, what in (
        (f"amqp://guest:secret@{where}/%2F", "user or password refused"),
        (f"amqp://guest:guest@{where}/elsewhere", "access to 'elsewhere' refused"),
    ):
        for arguments in ([], ["--worker", "user_data"]):
            done = run(SCRIPT, "--url", url, *arguments)
            assert (done.returncode, done.stdout) == (2, ""), done.stderr
            assert done.stderr.endswith(f"{what}\n")
            assert len(done.stderr.splitlines()) == 1
            assert "secret" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--worker", "orders"], "no queue 'orders'; there are user_data"),
        (["--redrive", "orders"], "no queue 'orders'; there are user_data"),
        (["--redrive", "archive"], "no queue 'module8.archive.dead'"),
        (["--publish", "0"], "--publish"),
        (["--publish", "many"], "--publish"),
        (["--publish", "5", "--rate", "-1"], "--rate"),
        (["--worker", "user_data", "--concurrency", "0"], "--concurrency"),
        (["--worker", "user_data", "--ledger", "/nowhere/x"], "--ledger /nowhere/x"),
        (["--stats", "--prefix", "a b"], "--prefix"),
        (["--stats", "--offline"], "not --offline"),
    ],
    ids=" ".join,
)
def test_bad_options_of_the_modes(broker: Any, arguments: list[str], what: str) -> None:
    done = run(SCRIPT, "--url", url_of(broker), *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert what in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(broker.queues) == []  # nothing was declared
    assert list(broker.exchanges) == [""]


def test_no_broker_exits_3(tmp_path: Path) -> None:
    nobody = "amqp://guest:secret@127.0.0.1:1/%2F"
    for arguments in (["--stats"], ["--worker", "user_data"], ["--require-live"]):
        done = run(SCRIPT, "--url", nobody, *arguments, cwd=tmp_path)
        assert done.returncode == 3
        said = unbroken(done.stderr + done.stdout)
        assert "no RabbitMQ at 127.0.0.1:1; docker compose up -d rabbitmq" in said
        assert "secret" not in said


def test_a_queue_with_other_arguments_is_named(broker: Any) -> None:
    with connection_to(broker).connect() as connection:
        connection.channel().queue_declare("module8.archive", durable=True)
    for arguments in (["--publish", "1"], ["--worker", "archive"]):
        done = run(SCRIPT, "--url", url_of(broker), *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert "inequivalent arg 'x-" in done.stderr
        assert "queue 'module8.archive'" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert list(broker.queues) == ["module8.archive"]


def worker(broker: Any, *arguments: str) -> subprocess.Popen[str]:
    """Start a worker process and wait until it consumes."""
    line = [sys.executable, str(SCRIPT), "--url", url_of(broker), "--worker"]
    process = subprocess.Popen(
        [*line, "user_data", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "consuming module8.user_data\n"
    return process


def processed(process: subprocess.Popen[str]) -> int:
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    found = re.findall(r"processed +(\d+)", out)
    return int(found[0]) if found else 0


def modes(broker: Any, *arguments: str) -> str:
    done = run(SCRIPT, "--url", url_of(broker), *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_publish_stats_redrive_teardown(broker: Any) -> None:
    assert "confirmed                          120" in modes(
        broker, "--publish", "120", "--rate", "1000"
    )
    assert re.search(r"module8.user_data +120 +0", modes(broker, "--stats"))
    rabbit = connection_to(broker)
    bodies = emptied(rabbit, "module8.user_data")
    with lesson.Producer(rabbit) as producer:
        for about, body in bodies[:5]:
            producer.publish("", "module8.user_data.dead", body, about)
    assert "moved back                         5" in modes(
        broker, "--redrive", "user_data"
    )
    assert rabbit.ready("module8.user_data", "module8.user_data.dead") == 5
    modes(broker, "--teardown")
    assert (list(broker.queues), list(broker.exchanges)) == ([], [""])


def test_a_slow_publish_fails_at_the_deadline_of_its_oldest(
    env: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasty = functools.partial(lesson.Producer, deadline=0.5)
    parts = dataclasses.replace(lesson.PARTS, producer=hasty)
    with env.network() as (network, far):
        monkeypatch.setattr(far, "setup_infrastructure", network.freeze)
        asked = argparse.Namespace(publish=900, rate=10.0)  # 90 s, within the window
        start = time.monotonic()
        with pytest.raises(PublishFailed, match="not confirmed"):
            publish_many(far, asked, parts)
        assert time.monotonic() - start < 45


@pytest.mark.slow
def test_sigterm_in_the_middle_loses_and_repeats_nothing(broker: Any) -> None:
    """No common ledger: what one began it must finish, or the other does it again."""
    modes(broker, "--publish", "3000")
    first = worker(broker, "--concurrency", "2")
    wait_for(lambda: len(broker.queues["module8.user_data"].ready) < 2500, 30)
    first.send_signal(signal.SIGTERM)
    begun = processed(first)
    assert 0 < begun < 3000
    second = worker(broker, "--concurrency", "2")
    queue = broker.queues["module8.user_data"]
    wait_for(lambda: not queue.ready and not queue.unacked, 30)
    second.send_signal(signal.SIGTERM)
    assert begun + processed(second) == 3000
    assert not broker.queues["module8.user_data.dead"].ready


@pytest.mark.slow
def test_two_workers_and_one_is_killed(broker: Any, tmp_path: Path) -> None:
    ledger = str(tmp_path / "ledger")
    modes(broker, "--publish", "3000")
    crew = [worker(broker, "--ledger", ledger) for _ in range(2)]
    queue = broker.queues["module8.user_data"]
    wait_for(lambda: len(queue.ready) < 2000, 30)
    crew[0].kill()
    crew[0].communicate(timeout=10)
    wait_for(lambda: not queue.ready and not queue.unacked, 60)
    crew[1].send_signal(signal.SIGTERM)
    assert processed(crew[1]) < 3000
    with lesson.Ledger(ledger) as found:
        effects = Counter(found.effects("module8.user_data"))
    assert len(effects) == 3000
    assert set(effects.values()) == {1}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_worker_takes_ctrl_c_and_a_hangup_like_sigterm(
    broker: Any, number: signal.Signals
) -> None:
    modes(broker, "--publish", "10")
    process = worker(broker)
    queue = broker.queues["module8.user_data"]
    wait_for(lambda: not queue.ready and not queue.unacked)
    process.send_signal(number)
    assert processed(process) == 10


@pytest.fixture(scope="module")
def env() -> Iterator[Any]:
    with open_stand_in() as found:
        yield found
