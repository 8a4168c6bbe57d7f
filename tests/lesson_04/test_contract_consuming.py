"""On the stand-in and RabbitMQ: a consumer whose connection or queue goes."""

from __future__ import annotations

from typing import Any

import pika
import pytest
from lessons import load
from services import wait_for

from course.amqp.trials import consumer_with, emptied, running

lesson = load("04")


def test_what_came_over_a_dead_connection_is_not_begun(env: Any) -> None:
    queue = env.declare_queue("dead.connection")
    done: list[str] = []
    with lesson.Producer(env.rabbit) as producer, env.network() as (network, far):
        lesson.publish_all(producer, queue, lesson.users(20))

        def work(message: Any) -> None:
            done.append(lesson.user_of(message))
            if done == ["user0"]:
                network.cut()
                wait_for(lambda: not consumer._channel.is_open)

        consumer = consumer_with(
            lesson.Consumer, work, far, queue, producer, concurrency=1
        )
        with running(consumer):
            env.until(lambda: len(set(done)) == 20)
            env.until(lambda: not env.rabbit.ready(queue))
    # Not user0 again, although its acknowledgement was lost: it is known to be done.
    assert len(done) == 20


def test_a_deleted_queue_is_declared_again(env: Any) -> None:
    """pika's start_consuming() returns without an error; the plain pool ends there."""
    ends = {}
    for kind in (lesson.PoolConsumer, lesson.Consumer):
        with (
            env.queue("deleted") as queue,
            lesson.Producer(env.rabbit) as producer,
            running(
                consumer_with(kind, lesson.user_of, env.rabbit, queue, producer)
            ) as consumer,
        ):
            assert consumer.ready.is_set()
            channel_before = consumer._channel
            with env.rabbit.channel() as channel:
                channel.queue_delete(queue)
            wait_for(lambda: not channel_before.is_open)  # noqa: B023
            comes_back = kind is lesson.Consumer
            if comes_back:
                wait_for(lambda: consumer.counts["reconnects"] == 1)
                wait_for(consumer.ready.is_set)
                lesson.publish_all(producer, queue, lesson.users(1))
                env.until(lambda: consumer.counts["acked"] == 1)
            ends[kind.__name__] = consumer.counts["acked"]
    assert ends == {"PoolConsumer": 0, "Consumer": 1}


def test_bad_bodies_are_dead_with_their_reason_and_good_ones_done(env: Any) -> None:
    """Put back instead, as by consume_inline, the first bad one blocks all others."""
    bad = list(lesson.BAD_BODIES.values())
    bodies = bad + [one.to_json().encode() for one in lesson.users(3)]
    seen: list[Any] = []
    with (
        env.queue("bodies") as queue,
        lesson.Producer(env.rabbit) as producer,
        lesson.Ledger() as ledger,
    ):
        about = pika.BasicProperties(delivery_mode=lesson.PERSISTENT)
        producer.wait(*[producer.send("", queue, body, about) for body in bodies])
        lesson.consume_inline(env.rabbit, queue, seen.append, count=10)
        consumer = lesson.UserDataConsumer(env.rabbit, queue, producer, ledger)
        env.consume(consumer, len(bodies))
        assert len(ledger.effects(queue)) == 3
        dead = {body: about for about, body in emptied(env.rabbit, queue + ".dead")}
    assert seen == []
    assert set(dead) == set(bad)
    for about in dead.values():
        assert about.headers["x-error"].startswith("BadMessage: ")


def test_a_stop_gives_back_what_has_not_begun(env: Any) -> None:
    done: list[str] = []
    with env.queue("given.back") as queue, lesson.Producer(env.rabbit) as producer:

        def work(message: Any) -> None:
            done.append(lesson.user_of(message))
            consumer.stop()

        lesson.publish_all(producer, queue, lesson.users(20))
        options = {"prefetch": 20, "concurrency": 1}
        consumer = consumer_with(
            lesson.Consumer, work, env.rabbit, queue, producer, **options
        )
        consumer.start_consuming()
        wait_for(lambda: env.rabbit.ready(queue) == 19)
    assert done == ["user0"]


def test_a_round_trip_is_over_when_the_broker_has_read_what_came_before(
    env: Any,
) -> None:
    with env.queue("round.trip") as queue, env.network() as (network, far):
        consumer = consumer_with(lesson.Consumer, lesson.user_of, far, queue)
        with running(consumer):
            before = network.round_trips
            consumer.round_trip()
            assert network.round_trips > before
            network.freeze("down")
            with pytest.raises(TimeoutError):
                consumer.round_trip()
            network.cut()
