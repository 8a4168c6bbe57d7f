"""A private RabbitMQ node is left by connections and workers: who lost what?

Each test keeps the sets of what was attempted, confirmed and done (the effects in the
ledger): confirmed is a subset of done, done of attempted, and nothing is done twice.
"""

from __future__ import annotations

import re
import socket
import time
from pathlib import Path
from typing import Any

import pika
import pytest
from lesson_04.fault_helpers import (
    LIMIT,
    consume_inline,
    effects,
    ended,
    once,
    published,
    thread,
    worker,
)
from lessons import load
from services import Server, wait_for

from course.amqp.trials import consumer_with, running

lesson = load("04")


def test_five_connections_closed_by_the_broker(
    node: Server, rabbit: Any, tmp_path: Path
) -> None:
    queue, ledger = rabbit.name("user_data"), tmp_path / "ledger"
    naive, outcome, ids = rabbit.name("archive"), list[str](), set[str]()

    def work(message: Any) -> str:
        time.sleep(0.01)
        return str(message.id)

    with lesson.Producer(rabbit) as producer, lesson.Ledger(str(ledger)) as book:
        published(producer, naive, 1)
        consumer = consumer_with(lesson.Consumer, work, rabbit, queue, producer, book)
        idle = thread(consume_inline, rabbit.parameters, naive, bool, outcome)
        with idle, running(consumer):
            wait_for(lambda: rabbit.ready(naive) == 0, LIMIT)
            for closed in range(1, 6):
                ids |= published(producer, queue, 300)
                wait_for(consumer.ready.is_set, LIMIT)
                node.ctl("close_all_connections", "a fault test")
                wait_for(lambda: consumer.counts["reconnects"] >= closed, LIMIT)  # noqa: B023
            wait_for(lambda: len(effects(ledger)) == 1500, LIMIT)
            assert consumer.counts["reconnects"] >= 5
    assert set(effects(ledger)) == ids
    assert once(effects(ledger))
    assert outcome == ["ConnectionClosedByBroker"], "the plain loop ended at the first"


def early_end() -> pika.exceptions.AMQPError:
    """Return what pika makes of a server that hangs up in the middle of a login."""

    def hang_up() -> None:
        client, _ = server.accept()
        with client:
            client.recv(8)
            client.sendall(pika.frame.Method(0, pika.spec.Connection.Start()).marshal())
            client.recv(4096)

    with socket.create_server(("127.0.0.1", 0)) as server, thread(hang_up):
        url = f"amqp://guest:guest@127.0.0.1:{server.getsockname()[1]}/"
        with pytest.raises(pika.exceptions.ProbableAuthenticationError) as caught:
            pika.BlockingConnection(pika.URLParameters(url))
    return caught.value


def test_a_broker_that_dies_during_a_login_has_refused_nothing(
    node: Server, rabbit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pika's "probable authentication error" is a guess: the consumer tries again."""
    queue, connect, failures = rabbit.name("user_data"), rabbit.connect, [early_end()]

    def connect_later() -> Any:
        if failures:
            raise failures.pop()
        return connect()

    with lesson.Producer(rabbit) as producer:
        consumer = consumer_with(lesson.Consumer, str, rabbit, queue, producer)
        monkeypatch.setattr(rabbit, "connect", connect_later)
        with running(consumer):
            published(producer, queue, 1)
            wait_for(lambda: consumer.counts["acked"], LIMIT)


def test_a_killed_worker_leaves_its_work_to_the_other(
    node: Server, rabbit: Any, tmp_path: Path
) -> None:
    queue, ledger = rabbit.name("user_data"), tmp_path / "ledger"
    with (
        worker(rabbit, node, ledger, pause=0.1) as killed,
        worker(rabbit, node, ledger, pause=0.1) as other,
        lesson.Producer(rabbit) as producer,
    ):
        ids = published(producer, queue, 300)
        wait_for(lambda: len(effects(ledger)) > 40, LIMIT)
        killed.kill()
        killed.wait(LIMIT)
        before = len(effects(ledger))
        wait_for(lambda: len(effects(ledger)) == 300, LIMIT)
        wait_for(lambda: rabbit.ready(queue) == 0, LIMIT)
        code, output = ended(other)
    assert before < 300, "it was killed in the middle"
    assert code == 0
    share = re.search(r"processed\D*(\d+)", output)
    assert share, output
    assert int(share[1]) < 300, "both had a share"
    assert set(effects(ledger)) == ids
    assert once(effects(ledger))


def test_sigterm_in_the_middle_loses_nothing_and_does_nothing_twice(
    node: Server, rabbit: Any, tmp_path: Path
) -> None:
    queue, ledger = rabbit.name("user_data"), tmp_path / "ledger"
    with lesson.Producer(rabbit) as producer:
        ids = published(producer, queue, 20)
    options = ("--concurrency", "2", "--drain", "5")
    with worker(rabbit, node, ledger, *options, pause=0.5) as first:
        wait_for(lambda: len(effects(ledger)) >= 4, LIMIT)
        code, _ = ended(first, limit=15)
    before = len(effects(ledger))
    assert code == 0
    assert before < 20, "it was stopped in the middle"
    # What had begun is done and acknowledged; everything else is back in its queue.
    wait_for(lambda: rabbit.ready(queue) == 20 - before, LIMIT)
    with worker(rabbit, node, ledger) as second:
        wait_for(lambda: len(effects(ledger)) == 20, LIMIT)
        assert ended(second)[0] == 0
    assert set(effects(ledger)) == ids
    assert once(effects(ledger))


def test_a_drain_limit_ends_a_worker_whose_work_does_not(
    node: Server, rabbit: Any, tmp_path: Path
) -> None:
    queue, ledger = rabbit.name("user_data"), tmp_path / "ledger"
    with lesson.Producer(rabbit) as producer:
        published(producer, queue, 1)
    with worker(rabbit, node, ledger, "--drain", "1", pause=600) as process:
        wait_for(lambda: rabbit.ready(queue) == 0, LIMIT)
        code, _ = ended(process, limit=10)
    assert code == 0
    wait_for(lambda: rabbit.ready(queue) == 1, LIMIT)
    assert not effects(ledger)
