"""The lesson's own classes do the same on the stand-in and on RabbitMQ."""

from __future__ import annotations

import copy
import struct
import time
from typing import Any

import pika
import pytest
from lesson_04.contract_helpers import all_of, settle, taken
from lessons import load

from course.amqp.errors import TopologyRefused
from course.amqp.trials import consumer_with, emptied, running

lesson = load("04")


def test_setup_is_idempotent_and_teardown_leaves_nothing(env: Any) -> None:
    prefix = env.rabbit.prefix + ".setup"
    rabbit = lesson.RabbitMQConnection(env.rabbit.parameters, prefix)
    rabbit.setup_infrastructure()
    rabbit.setup_infrastructure()
    with rabbit.connect() as connection:
        assert rabbit.existing(connection) == rabbit.plan
        rabbit.teardown()
        assert not rabbit.existing(connection)


def test_a_refused_setup_declares_nothing(env: Any, channel: Any) -> None:
    prefix = env.rabbit.prefix + ".refused"
    rabbit = lesson.RabbitMQConnection(env.rabbit.parameters, prefix)
    work = rabbit.name("archive")
    channel.queue_declare(work, durable=True)
    try:
        with pytest.raises(TopologyRefused, match="inequivalent arg 'x-"):
            rabbit.setup_infrastructure()
        with rabbit.connect() as connection:
            there = rabbit.existing(connection)
        assert [item.name for item in there] == [work]
    finally:
        channel.queue_delete(work)


def test_poisoned_headers_cost_themselves(env: Any) -> None:
    """A header that pika cannot even decode breaks the connection, five times."""
    queue = env.declare_queue("poisoned")
    limit = 3
    item = next(item for item in env.rabbit.plan if item.name == queue)
    item.options["arguments"]["x-delivery-limit"] = limit
    with env.rabbit.connect() as connection:
        connection.channel().queue_delete(queue)
    env.rabbit.setup_infrastructure()
    headers: list[Any] = [
        {"x-retry-count": "many"},
        {"x-retry-count": -1},
        {"x-retry-count": True},
        {"x-retry-count": 2**60},
        {"x-retry-count": [1, {"deep": [None]}], "x-first-failure": {"a": 1}},
        {"x-first-failure": 5, "x-error": b"\xff"},
    ]
    with lesson.Producer(env.rabbit) as producer, lesson.Ledger() as ledger:
        for number, one in enumerate(headers):
            _, _, body, about = lesson.publish_arguments(lesson.user(number), "", queue)
            about.headers = one
            producer.publish("", queue, body, about)
        with running(lesson.UserDataConsumer(env.rabbit, queue, producer, ledger)):
            env.until(lambda: env.rabbit.ready(queue + ".dead") == 5)
            env.until(lambda: len(ledger.effects(queue)) == 1)
    dead = emptied(env.rabbit, queue + ".dead")
    assert {about.headers["x-error"] for about, _ in dead} == {
        "BadMessage: header x-retry-count is not a count"
    }


class Undecodable(pika.BasicProperties):  # type: ignore[misc]
    """A header that RabbitMQ takes and pika cannot read: a time in the far future."""

    def encode(self) -> list[bytes]:
        entry = b"\x01tT" + struct.pack(">Q", 2**62)
        return [struct.pack(">HI", 1 << 13, len(entry)), entry]


@pytest.mark.parametrize("kind", ["quorum", "classic"])
def test_an_undecodable_header_costs_only_itself(env: Any, kind: str) -> None:
    queue = env.declare_queue(f"undecodable.{kind}", priorities=int(kind == "classic"))
    with env.rabbit.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        if not env.live:  # the stand-in reads with pika's codec: it refuses the sender
            with pytest.raises(pika.exceptions.ConnectionClosedByBroker):
                channel.basic_publish("", queue, b"", Undecodable())
            return
        for where in (queue, queue + ".dead"):
            channel.basic_publish("", where, b"poison", Undecodable())
    with lesson.Producer(env.rabbit) as producer, lesson.Ledger() as ledger:
        lesson.publish_all(producer, queue, lesson.users(10))  # all in one prefetch
        consumer = lesson.UserDataConsumer(env.rabbit, queue, producer, ledger)
        with running(consumer):
            env.until(lambda: len(ledger.effects(queue)) == 10)
            env.until(lambda: env.rabbit.ready(queue + ".dead") == 2)
        assert consumer.counts["reconnects"] == 0
        assert lesson.redrive(env.rabbit, queue, producer) == 2
    found = emptied(env.rabbit, queue)
    assert [body for _, body in found] == [b"poison"] * 2


def test_a_dead_letter_may_be_looked_at_often(env: Any) -> None:
    """From 4.0 on a quorum queue drops what came back 20 times, unless told not to."""
    dead = env.declare_queue("looked.at") + ".dead"
    with env.rabbit.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish("", dead, b"")
        for _ in range(25):
            channel.basic_reject(taken(channel, dead)[0].delivery_tag)
    settle(env, dead, 1)


@pytest.mark.slow
def test_seven_seconds_of_work_at_a_heartbeat_of_two(env: Any) -> None:
    """Inline, the work costs the connection; on the pool, meanwhile, it does not."""
    inline, pooled = (
        env.declare_queue("heartbeat.inline"),
        env.declare_queue("heartbeat.pooled"),
    )
    rabbit = copy.copy(env.rabbit)
    rabbit.parameters = copy.copy(rabbit.parameters)
    rabbit.parameters.heartbeat = 2

    def work(_: Any) -> None:
        time.sleep(7)

    with lesson.Producer(env.rabbit) as producer:
        lesson.publish_all(producer, inline, lesson.users(1))
        lesson.publish_all(producer, pooled, lesson.users(1))
        seen = consumer_with(lesson.Consumer, work, rabbit, pooled, producer)
        with running(seen):
            with pytest.raises(pika.exceptions.AMQPConnectionError):
                lesson.consume_inline(rabbit, inline, work)
            env.until(lambda: seen.counts["acked"] == 1)
            assert seen.counts["reconnects"] == 0
    settle(env, pooled, 0)
    settle(env, inline, 1)
    ((method, _, _),) = all_of(env, inline, 1)
    assert method.redelivered
