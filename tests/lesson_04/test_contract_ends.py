"""On the stand-in and RabbitMQ: how a producer or a consumer ends, and says so."""

from __future__ import annotations

import copy
import logging
import os
import signal
import time
from contextlib import suppress
from typing import Any

import pika
import pytest
from lesson_04.amqp_helpers import open_stand_in
from lessons import load
from services import wait_for

from course.amqp.errors import NotInTime, PublishFailed, TopologyRefused, Unroutable
from course.amqp.publishing import DEADLINE
from course.amqp.trials import consumer_with, emptied, running
from course.amqp.workbench import remove_from
from course.lab import in_background, outcome_of

lesson = load("04")


def test_a_publish_without_properties_arrives_once(env: Any) -> None:
    with env.queue("bare") as queue:
        with lesson.Producer(env.rabbit) as producer:
            producer.publish("", queue, b"x", None)
        assert len(emptied(env.rabbit, queue)) == 1


@pytest.mark.parametrize(
    ("key", "about"),
    [([], None), (None, None), ("key", pika.BasicProperties(message_id=[1]))],
    ids=["a list as key", "no key", "a list as id"],
)
def test_what_is_no_text_is_refused_at_once_and_alone(
    env: Any, key: Any, about: Any
) -> None:
    with env.queue("no.text") as queue, lesson.Producer(env.rabbit) as producer:
        with pytest.raises(TypeError, match=r"(key|message_id) is str"):
            producer.send("", key, b"", about)
        producer.publish("", queue, b"", None)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_producer_whose_thread_dies_says_so_at_once(
    env: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("a mistake")

    with env.queue("dying") as queue, lesson.Producer(env.rabbit) as producer:
        producer.publish("", queue, b"", None)
        monkeypatch.setattr(producer, "settle", fail)
        start = time.monotonic()
        for key in ("\ud800", queue):  # the one that can't be encoded, and the next
            with pytest.raises(PublishFailed, match="a mistake"):
                producer.publish("", key, b"", None)
        assert time.monotonic() - start < 2


def test_a_block_waits_for_what_it_has_sent(env: Any) -> None:
    with env.queue("block") as queue:
        with lesson.Producer(env.rabbit) as producer:
            lesson.send_all(producer, queue, lesson.users(500))
        assert len(emptied(env.rabbit, queue)) == 500
        with pytest.raises(PublishFailed, match="closed"):
            producer.send("", queue, b"", None)


def test_a_block_raises_what_nobody_has_waited_for(env: Any) -> None:
    with env.network() as (network, far):
        with (
            pytest.raises(PublishFailed, match="not confirmed within"),
            lesson.Producer(far) as producer,
            env.queue("unheard") as queue,
        ):
            lesson.publish_all(producer, queue, lesson.users(1))
            network.freeze()
            producer.deadline = 0.2
            lesson.send_all(producer, queue, lesson.users(1))
        network.cut()


def test_a_block_that_fails_fails_what_is_left(env: Any) -> None:
    with env.network() as (network, far), env.queue("failing") as queue:
        with (
            pytest.raises(lesson.Crash),
            lesson.Producer(far) as producer,
        ):
            producer.publish("", queue, b"", None)
            network.freeze()
            pending = producer.send("", queue, b"", None)
            raise lesson.Crash
        with pytest.raises(PublishFailed, match="closed"):
            pending.confirmed.result(0)
        network.cut()


def test_what_was_given_up_fails_in_the_same_way_again(env: Any) -> None:
    with (
        env.network() as (network, far),
        env.queue("again") as queue,
        lesson.Producer(far) as producer,
    ):
        producer.publish("", queue, b"", None)
        nowhere = producer.send("", "nowhere", b"", None)
        wait_for(nowhere.confirmed.done)
        network.freeze()
        producer.deadline = 0.1
        late = producer.send("", queue, b"", None)
        with pytest.raises(Unroutable):  # the first of two
            producer.wait(nowhere, late)
        for _ in range(2):
            with pytest.raises(PublishFailed, match="not confirmed within"):
                producer.wait(late)
        network.cut()


def test_a_relay_forgets_what_is_confirmed_though_the_window_is_full(
    env: Any,
) -> None:
    """Else what is confirmed is published again at every attempt."""
    with (
        env.network() as (network, far),
        lesson.Producer(far, window=2) as producer,
        lesson.Ledger() as ledger,
    ):
        pipeline = lesson.UserDataPipeline(producer, ledger)
        pipeline.store("signup", *lesson.users(5))
        send = producer.send

        def send_two(*args: Any) -> Any:
            """Send; from the third on, nothing gets through."""
            if producer.counts["confirmed"] == 2:
                network.freeze()
                producer.deadline = 0.1
                return send(*args)
            pending = send(*args)
            wait_for(pending.confirmed.done)
            return pending

        producer.send = send_two
        with pytest.raises(PublishFailed, match="window stayed full"):
            pipeline.relay()  # at the fifth
        left = ledger.read("SELECT number FROM outbox ORDER BY number")
        network.cut()
        producer.deadline = DEADLINE
        assert left == [(3,), (4,), (5,)]
    emptied(env.rabbit, env.rabbit.name("user_data"))


def test_a_mistake_is_no_lost_connection(
    env: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistake() -> None:
        raise NameError("a mistake")

    consumer = consumer_with(lesson.Consumer, str, env.rabbit, "no.matter")
    monkeypatch.setattr(consumer, "session", mistake)
    ended = in_background(consumer.start_consuming)
    with pytest.raises(NameError):
        ended.result(10)


def test_the_first_lost_connection_is_a_warning(
    env: Any, caplog: pytest.LogCaptureFixture
) -> None:
    consumer = consumer_with(lesson.Consumer, str, env.rabbit, "no.matter")
    with caplog.at_level(logging.DEBUG, "course.amqp.consuming"):
        for _ in range(3):
            consumer.pause(ConnectionError("gone"))
    levels = [record.levelname for record in caplog.records]
    assert levels == ["WARNING", "DEBUG", "DEBUG"]


def test_what_a_run_has_declared_does_not_come_back_when_it_ends(env: Any) -> None:
    """Consumers declare what was deleted: those of a demo that was cut off, too."""
    prefix = env.rabbit.prefix + ".over"
    rabbit = lesson.RabbitMQConnection(env.rabbit.parameters, prefix)
    rabbit.setup_infrastructure()
    queue = rabbit.name("archive")
    kind = lesson.ReconnectingConsumer
    consumers = [consumer_with(kind, str, copy.copy(rabbit), queue) for _ in range(4)]
    ended = [in_background(consumer.start_consuming) for consumer in consumers]
    assert consumers[0].ready.wait(DEADLINE)
    remove_from(rabbit, env.backend)
    for one in ended:
        with pytest.raises(TopologyRefused, match="this run has ended"):
            one.result(DEADLINE)
    with rabbit.connect() as connection:
        assert not rabbit.existing(connection)


def test_what_a_demo_that_failed_declares_again_is_deleted_at_the_end() -> None:
    """A thread of it may, which connects just now."""
    with open_stand_in() as found:
        rabbit = found.rabbit
        known = list(rabbit.plan)
        with found.queue("calm"):
            pass
        assert rabbit.plan == known
        with suppress(KeyError), found.queue("failed") as queue:
            as_it_was = list(rabbit.plan)
            raise KeyError
        with rabbit.channel() as channel:
            rabbit.declare(channel, as_it_was)
        rabbit.teardown()
        with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="no queue"):
            rabbit.ready(queue)


def test_what_a_confirm_calls_may_send_and_close_and_waits_for_nothing(
    env: Any,
) -> None:
    """It runs in the thread that hears of the confirms: it would wait for itself."""
    failures: list[BaseException | None] = []
    with env.queue("called.back") as queue:
        producer = lesson.Producer(env.rabbit, deadline=30)

        def call_back(_: object) -> None:
            producer.send("", queue, b"second", None)
            for call in (
                lambda: producer.publish("", queue, b"", None),
                producer.close,
            ):
                failures.append(outcome_of(call))

        first = producer.send("", queue, b"first", None)
        first.confirmed.add_done_callback(call_back)
        wait_for(lambda: len(failures) == 2, limit=10)
        assert isinstance(failures[0], NotInTime)
        assert "cannot wait" in str(failures[0])
        assert isinstance(failures[1], PublishFailed)  # the second was on its way
        wait_for(lambda: not producer._thread.is_alive())
        assert len(emptied(env.rabbit, queue)) in (1, 2)


def test_a_consumer_may_close_itself_in_the_middle_of_its_work(env: Any) -> None:
    with env.queue("closing") as queue, lesson.Producer(env.rabbit) as producer:
        lesson.publish_all(producer, queue, lesson.users(3))

        def work(_: Any) -> None:
            consumer.close()

        consumer = consumer_with(
            lesson.Consumer, work, env.rabbit, queue, producer, concurrency=1, drain=30
        )
        in_background(consumer.start_consuming).result(10)
        assert consumer.counts == {"processed": 1, "acked": 1}
        wait_for(lambda: env.rabbit.ready(queue) == 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_closes_its_copy_of_a_consumer_and_not_the_parents(
    env: Any,
) -> None:
    with env.queue("forked.consumer") as queue, lesson.Producer(env.rabbit) as producer:
        consumer = consumer_with(
            lesson.Consumer, lesson.user_of, env.rabbit, queue, producer, drain=60
        )
        with running(consumer):
            child = os.fork()
            if child == 0:
                signal.alarm(10)  # it ends the child that waits
                code = 1
                try:
                    consumer.close()
                    code = 0
                finally:
                    os._exit(code)
            assert os.waitpid(child, 0)[1] == 0
            lesson.publish_all(producer, queue, lesson.users(3))
            env.until(lambda: consumer.counts["acked"] == 3)


class DiesAfter:
    """A channel on which a run dies after so many orders."""

    def __init__(self, channel: Any, orders: int) -> None:
        self.channel = channel
        self.left = orders

    def __getattr__(self, order: str) -> Any:
        self.left -= 1
        if self.left < 0:
            raise lesson.Crash
        return getattr(self.channel, order)


@pytest.mark.parametrize("orders", [15, 16, 17, 20, 23, 26])
def test_a_run_that_dies_while_it_declares_leaves_one_exchange_at_most(
    env: Any, orders: int
) -> None:
    """Its queues expire, and the exchanges go with what was bound to them."""
    prefix = f"{env.rabbit.prefix}.dies{orders}"
    rabbit = lesson.RabbitMQConnection(env.rabbit.parameters, prefix, expires=60)
    try:
        with rabbit.channel() as channel, pytest.raises(lesson.Crash):
            rabbit.declare(DiesAfter(channel, orders), rabbit.plan)
        with rabbit.channel() as channel:
            for item in rabbit.plan:
                if item.kind == "queue":  # as if it had expired
                    channel.queue_delete(item.name)
        with rabbit.connect() as connection:
            assert len(rabbit.existing(connection)) <= 1
    finally:
        rabbit.teardown()
