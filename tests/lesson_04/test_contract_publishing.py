"""On the stand-in and RabbitMQ: a producer's confirms, window, deadline, threads."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent import futures
from contextlib import suppress
from functools import partial
from typing import Any

import pika
import pytest
from lessons import load

from course.amqp.errors import PublishFailed, Unpublishable, Unroutable
from course.amqp.faults import block
from course.amqp.publishing import DEADLINE
from course.amqp.reconnecting import backoff
from course.amqp.trials import emptied
from course.lab import in_background

lesson = load("04")


def test_a_return_is_about_its_own_message_though_others_share_the_id(env: Any) -> None:
    queue = env.declare_queue("returned")
    same = pika.BasicProperties(message_id="same")
    with lesson.Producer(env.rabbit) as producer:
        lot = [producer.send("", q, b"", same) for q in (queue, "nowhere") * 300]
        with pytest.raises(Unroutable):
            producer.wait(*lot)
        assert [one.is_confirmed for one in lot] == [True, False] * 300
        assert producer.counts["returned"] == producer.counts["confirmed"] == 300


def test_reconnecting_never_waits_longer_than_ten_seconds() -> None:
    assert 5 <= backoff(10_000) <= 10


@pytest.mark.parametrize(
    "wrong",
    [{"priority": 300}, {"headers": {"a": object()}}, {"message_id": "x" * 300}],
    ids=min,
)
def test_what_cannot_be_encoded_fails_alone(env: Any, wrong: dict[str, Any]) -> None:
    queue = env.declare_queue(f"encoding.{min(wrong)}")
    with lesson.Producer(env.rabbit) as producer:
        before = producer.send(*lesson.publish_arguments(lesson.user(1), "", queue))
        bad = producer.send("", queue, b"", pika.BasicProperties(**wrong))
        after = producer.send(*lesson.publish_arguments(lesson.user(2), "", queue))
        with pytest.raises(PublishFailed, match=r"^\w+: "):
            producer.wait(bad)
        producer.wait(before, after)
    assert env.rabbit.ready(queue) == 2


def test_a_body_is_what_it_was_when_it_was_sent(env: Any) -> None:
    own = bytearray(b"buffer")
    bodies = ["text \u0457", own, memoryview(b"view"), b"bytes", b""]
    with env.queue("bodies") as queue, lesson.Producer(env.rabbit) as producer:
        pending = [producer.send("", queue, body, None) for body in bodies]
        own[:] = b"reused"
        producer.wait(*pending)
        sent = [one.body for one in pending]
        assert sent == ["text \u0457".encode(), b"buffer", b"view", b"bytes", b""]
        assert [body for _, body in emptied(env.rabbit, queue)] == sent


@pytest.mark.parametrize("body", [None, 5, {"a": 1}, ["a"]], ids=repr)
def test_what_is_no_body_is_refused_at_once(env: Any, body: Any) -> None:
    with lesson.Producer(env.rabbit) as producer:
        with pytest.raises(TypeError, match="a body is bytes or str, not"):
            producer.send("", "nowhere", body, None)
        assert producer.unconfirmed() == []


@pytest.mark.parametrize(
    "wrong", [{"expiration": "soon"}, {"user_id": "mallory"}], ids=min
)
def test_what_the_broker_refuses_fails_alone(env: Any, wrong: dict[str, Any]) -> None:
    """It closes the channel, and does not say because of which message."""
    queue = env.declare_queue(f"refused.{min(wrong)}")
    with lesson.Producer(env.rabbit) as producer:
        lot = []
        for n in range(12):
            about = pika.BasicProperties(message_id=f"{n}", **(wrong if n == 5 else {}))
            lot.append(producer.send("", queue, b"", about))
        with pytest.raises(Unpublishable, match="PRECONDITION_FAILED") as failed:
            producer.wait(*lot)
        assert failed.value.message_ids == ["5"]
    arrived = [about.message_id for about, _ in emptied(env.rabbit, queue)]
    assert set(arrived) == {f"{n}" for n in range(12)} - {"5"}


def test_a_window_takes_under_a_third_of_the_round_trips(env: Any) -> None:
    """Ten messages one by one take ten: a confirm costs a round trip."""
    trips = {}
    with (
        env.queue("windows") as queue,
        env.network() as (network, far),
        lesson.Producer(far) as producer,
    ):
        lesson.publish_all(producer, queue, lesson.users(1))
        network.delay = 0.005  # seconds, each way
        ten = lesson.users(10)
        for name, batches in (("each", [[one] for one in ten]), ("window", [ten])):
            before = network.round_trips
            for batch in batches:
                lesson.publish_all(producer, queue, batch)
            trips[name] = network.round_trips - before
    assert trips["each"] > 3 * trips["window"]


def test_a_full_window_holds_back_the_sender(env: Any) -> None:
    with (
        env.queue("full") as queue,
        env.network() as (network, far),
        lesson.Producer(far, window=5) as producer,
    ):
        lesson.publish_all(producer, queue, lesson.users(1))
        network.freeze()
        producer.deadline = 0.1
        for one in lesson.users(5):
            producer.send(*lesson.publish_arguments(one, "", queue))
        with pytest.raises(PublishFailed, match="the window stayed full within"):
            producer.send(*lesson.publish_arguments(lesson.user(5), "", queue))
        network.cut()
        producer.deadline = DEADLINE


def publish_until_lost(rabbit: Any, queue: str) -> None:
    """Publish with pika's own confirms, a message at a time, and no deadline."""
    with suppress(pika.exceptions.AMQPError), rabbit.channel() as channel:
        channel.confirm_delivery()
        while True:
            channel.basic_publish("", queue, b"")


def test_a_deadline_ends_the_wait_for_a_broker_that_takes_nothing(env: Any) -> None:
    """It says why, and the same message, sent again, arrives under the same id."""
    (message,) = lesson.users(1)
    with (
        env.queue("deadlines") as queue,
        env.network() as (network, far),
        lesson.Producer(far) as ours,
    ):
        naive = in_background(partial(publish_until_lost, far, queue))
        lesson.publish_all(ours, queue, lesson.users(1))
        env.until(lambda: env.rabbit.ready(queue) > 1)
        block(network, "low on memory")
        env.until(lambda: ours.blocked)
        ours.deadline = 0.1
        with pytest.raises(PublishFailed, match="low on memory"):
            lesson.publish_all(ours, queue, [message])
        assert not naive.done()  # pika waits on
        network.cut()
        naive.result(DEADLINE)
        ours.deadline = DEADLINE
        lesson.publish_all(ours, queue, [message])
        ids = [about.message_id for about, _ in emptied(env.rabbit, queue)]
    assert message.id in ids


def publish_from_eight_threads(
    publish: Callable[[Any], object], limit: float = DEADLINE
) -> None:
    """Publish 8 x 50 messages, all threads at once, for so many seconds at most."""
    start = threading.Barrier(8)

    def run() -> None:
        start.wait(DEADLINE)
        for message in lesson.users(50):
            publish(message)

    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # seconds; so that the threads do meet
    try:
        futures.wait([in_background(run) for _ in range(8)], limit)
    finally:
        sys.setswitchinterval(usual)


def test_a_channel_belongs_to_one_thread_and_our_producer_to_all(env: Any) -> None:
    shared = 400
    tries = 0
    with env.queue("threads") as queue, lesson.Producer(env.rabbit) as producer:
        while shared == 400 and tries < 20:  # by luck it goes well
            tries += 1
            with env.rabbit.channel() as channel:
                # pika stumbles, or waits without an end, or does neither.
                publish_from_eight_threads(
                    lambda _: channel.basic_publish("", queue, b"0" * 300),
                    limit=0.5,
                )
            shared = len(emptied(env.rabbit, queue))
        publish_from_eight_threads(
            lambda message: lesson.publish_all(producer, queue, [message])
        )
        ours = len(emptied(env.rabbit, queue))
    assert shared < 400
    assert ours == 400
