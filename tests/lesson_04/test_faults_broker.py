"""A private RabbitMQ node is killed, frozen and starved: who lost what?

Each test keeps the sets of what was attempted, confirmed and done (the effects in the
ledger): confirmed is a subset of done, done of attempted, and nothing is done twice.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from lesson_04.fault_helpers import (
    LIMIT,
    effects,
    ended,
    once,
    publish_confirmed,
    publish_transient,
    publish_unconfirmed,
    published,
    thread,
    wait_until_done,
    worker,
)
from lessons import load
from services import Server, wait_for

from course.amqp.errors import PublishFailed
from course.amqp.finding import parameters_of
from course.amqp.publishing import DEADLINE
from course.amqp.trials import consumer_with, emptied, running

lesson = load("04")


def test_a_killed_broker_loses_no_confirmed_message(
    node: Server, rabbit: Any, tmp_path: Path
) -> None:
    queue, naive = rabbit.name("user_data"), rabbit.add_queue("naive", priorities=1)
    transient = rabbit.add_queue("transient", priorities=1)
    rabbit.setup_infrastructure()
    publish_transient(rabbit.parameters, transient)
    assert rabbit.ready(transient) == 200
    ledger, believed = tmp_path / "ledger", [0]
    messages = lesson.users(20_000)
    for bad in messages[::100]:
        bad.payload["email"] = "nonsense"  # fails for good: to the dead letters
    pending: list[Any] = []

    frozen = threading.Event()

    def publish() -> None:
        for number, one in enumerate(messages):
            if number == 10_000:  # the others when nobody answers any more
                frozen.wait(LIMIT)
            pending.append(producer.send(*lesson.publish_arguments(one, "", queue)))

    with (
        worker(rabbit, node, ledger) as one,
        worker(rabbit, node, ledger) as other,
        lesson.Producer(rabbit, deadline=LIMIT) as producer,
    ):
        with thread(publish):
            wait_for(lambda: producer.counts["confirmed"] > 3000, LIMIT)
            with thread(publish_unconfirmed, rabbit.parameters, naive, believed):
                wait_for(lambda: believed[0] > 1000, LIMIT)
                wait_for(lambda: bool(effects(ledger)), LIMIT)
                before = sum(effects(ledger).values())
                node.freeze()
                frozen.set()
                # Killed with messages on their way.
                wait_for(lambda: len(pending) > producer.counts["confirmed"], LIMIT)
                node.kill()
            sent_before = len(pending)
            node.start()
        producer.wait(*pending)
        confirmed = {one.id for one in messages}
        dead = {one.id for one in messages[::100]}
        wait_until_done(ledger, len(messages) - len(dead))
        wait_for(lambda: rabbit.ready(queue) == 0, LIMIT)
        wait_for(lambda: rabbit.ready(queue + ".dead") >= len(dead), LIMIT)
        assert [ended(process)[0] for process in (one, other)] == [0, 0]
    done = effects(ledger)
    assert 0 < before < len(done), "it was killed in the middle"
    assert sent_before < len(messages)
    assert producer.counts["resent"] > 0, "what was on its way was sent again"
    assert once(done)
    assert set(done) == confirmed - dead
    buried = emptied(rabbit, queue + ".dead")
    assert {about.message_id for about, _ in buried} == dead
    # The controls. The same kill, no confirms, and no error told them apart:
    assert rabbit.ready(naive) < believed[0]
    # And confirmed, on a durable queue, but not persistent: all gone.
    assert rabbit.ready(transient) == 0


def test_what_is_in_hand_or_waits_for_its_retry_outlives_the_broker(
    node: Server, rabbit: Any, tmp_path: Path
) -> None:
    """Also a dead letter that can't be published while the broker is away."""
    queue, retried = rabbit.name("user_data"), rabbit.name("archive")
    ledger, book = tmp_path / "ledger", tmp_path / "book"
    bad = lesson.users(1)[0]
    bad.payload["email"] = "nonsense"

    def fail_first(message: Any) -> str:
        if message.retry_count == 0:
            raise ConnectionError("no answer")
        return str(message.id)

    with (
        worker(rabbit, node, ledger, pause=2.0) as process,
        lesson.Producer(rabbit) as producer,
        lesson.Ledger(str(book)) as own,
    ):
        flaky = consumer_with(
            lesson.Consumer, fail_first, rabbit, retried, producer, own
        )
        with running(flaky):
            producer.publish(*lesson.publish_arguments(bad, "", queue))
            waiting = published(producer, retried, 100)
            wait_for(lambda: flaky.counts["retried"] >= 50, LIMIT)
            node.kill()
            time.sleep(DEADLINE + 2)  # past the deadline for each copy
            node.start()
            wait_until_done(book, len(waiting))
            assert set(effects(book)) == waiting
        wait_for(lambda: rabbit.ready(queue + ".dead") == 1, LIMIT)
        ids = published(producer, queue, 4)
        wait_for(lambda: set(effects(ledger)) == ids, LIMIT)
        assert ended(process)[0] == 0
    assert once(effects(ledger))
    assert once(effects(book))


def test_a_frozen_broker_fails_a_publish_at_its_deadline(
    node: Server, rabbit: Any
) -> None:
    queue, outcome = rabbit.name("user_data"), list[str]()
    message, enough = lesson.users(1)[0], threading.Event()

    def publish_on() -> None:
        while not enough.is_set():
            publish_confirmed(rabbit.parameters, queue, outcome)

    with (
        lesson.Producer(rabbit, deadline=LIMIT) as producer,
        thread(publish_on) as naive,
    ):
        published(producer, queue, 1)
        wait_for(lambda: "confirmed" in outcome, LIMIT)
        node.freeze()
        try:
            producer.deadline, start = 1.0, time.monotonic()
            with pytest.raises(PublishFailed, match="within 1 s"):
                producer.publish(*lesson.publish_arguments(message, "", queue))
            assert time.monotonic() - start < 30  # pika's own 130 are far away
            seen = len(outcome)
            time.sleep(0.5)
            assert naive.is_alive()
            assert len(outcome) == seen  # it waits on
        finally:
            enough.set()
            node.thaw()
        producer.deadline = LIMIT
        producer.publish(*lesson.publish_arguments(message, "", queue))
    ids = [about.message_id for about, _ in emptied(rabbit, queue)]
    assert message.id in ids


def test_a_worker_ends_though_the_broker_is_frozen(
    node: Server, rabbit: Any, tmp_path: Path
) -> None:
    with worker(rabbit, node, tmp_path / "ledger", "--drain", "1") as process:
        node.freeze()
        try:
            code, output = ended(process, limit=30)
        finally:
            node.thaw()
    assert code == 0, output


def test_a_memory_alarm_is_reported_and_over_when_it_is_over(
    node: Server, rabbit: Any
) -> None:
    queue, outcome = rabbit.name("user_data"), list[str]()
    impatient = parameters_of(node.url)
    impatient.blocked_connection_timeout = 2
    message = lesson.users(1)[0]
    with lesson.Producer(rabbit, deadline=1.0) as producer:
        node.ctl("set_vm_memory_high_watermark", "absolute", "1MB")
        try:
            with thread(publish_confirmed, impatient, queue, outcome):
                # The broker blocks a publisher at its first message.
                with suppress(PublishFailed):
                    producer.publish(*lesson.publish_arguments(message, "", queue))
                wait_for(lambda: producer.blocked, LIMIT)
                with pytest.raises(PublishFailed, match="low on memory"):
                    producer.publish(*lesson.publish_arguments(message, "", queue))
            # The consuming side goes on: that is why it has a connection of its own.
            assert emptied(rabbit, queue) == []
        finally:
            node.ctl("set_vm_memory_high_watermark", "0.6")
        wait_for(lambda: not producer.blocked, LIMIT)
        producer.deadline = LIMIT
        producer.publish(*lesson.publish_arguments(message, "", queue))
    assert outcome == ["published", "ConnectionBlockedTimeout"]
    ids = {about.message_id for about, _ in emptied(rabbit, queue)}
    assert message.id in ids
