"""On the stand-in and RabbitMQ: what is sent again is the same message, all of it."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pika
import pytest
from lessons import load
from services import wait_for

from course.amqp.errors import NotInTime, PublishFailed, Unroutable
from course.amqp.faults import block
from course.amqp.publishing import DEADLINE
from course.amqp.trials import consumer_with, emptied, running

lesson = load("04")
WAYS: dict[str, tuple[str, Callable[..., str]]] = {
    "message": (
        "user_data",
        lambda one, **about: one.publish_message(lesson.user(1), **about),
    ),
    "user data": (
        "user_data",
        lambda one, **about: one.publish_user_data_event("u", "e", "d", **about),
    ),
    "notification": (
        "notifications",
        lambda one, **about: one.publish_notification("r", "s", "c", **about),
    ),
    "analytics": (
        "analytics",
        lambda one, **about: one.publish_analytics_event("t", "u", {}, **about),
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_failed_publish_names_its_id_and_can_be_repeated(env: Any, way: str) -> None:
    """The confirm is lost, and the message sent again: one id, so one effect."""
    queue, publish = WAYS[way]
    name = env.rabbit.name(queue)
    for other in lesson.WORK:
        emptied(env.rabbit, env.rabbit.name(other))
    with (
        env.network() as (network, far),
        lesson.Producer(far) as producer,
        lesson.Producer(env.rabbit) as other_producer,
    ):
        publish(producer)
        emptied(env.rabbit, name)
        network.freeze("down")
        producer.deadline = 0.3
        with pytest.raises(PublishFailed) as failed:
            publish(producer)
        message_id = failed.value.message_id
        env.until(lambda: env.rabbit.ready(name) == 1)
        network.cut()
        about = {} if way == "message" else {"id": message_id}
        again = publish(other_producer, **about)
    ids = [properties.message_id for properties, _ in emptied(env.rabbit, name)]
    assert message_id == ids[0]
    if about:
        assert set(ids) == {message_id, again} == {message_id}
    for other in lesson.WORK:
        emptied(env.rabbit, env.rabbit.name(other))


@pytest.mark.parametrize("cause", ["window", "closed", "unroutable", "unencodable"])
def test_every_failure_names_its_own_id(env: Any, cause: str) -> None:
    one, two = lesson.users(2)
    with env.network() as (network, far), env.queue(f"own.{cause}") as queue:
        producer = lesson.Producer(far, window=1)
        producer.publish("", queue, b"", None)
        where, about = queue, {}
        if cause == "unroutable":
            where = "nowhere"
        if cause == "unencodable":
            about = {"priority": 300}
        if cause == "closed":
            producer.close()
        if cause == "window":
            network.freeze()
            producer.deadline = 0.2
            producer.send(*lesson.publish_arguments(one, "", queue))
        with pytest.raises(PublishFailed) as failed:
            producer.publish(*lesson.publish_arguments(two, "", where, **about))
        assert failed.value.message_id == two.id
        network.cut()
        producer.close(flush=False)


def test_all_failures_of_one_wait_are_named(env: Any) -> None:
    with lesson.Producer(env.rabbit) as producer:
        messages = lesson.users(3)
        with pytest.raises(Unroutable) as failed:
            lesson.publish_all(producer, "nowhere", messages)
    assert list(failed.value.message_ids) == [one.id for one in messages]
    assert failed.value.message_id == messages[0].id


SENT = {
    "headers": {"traceparent": "00-abc-01", "tenant": "t1", "n": 5},
    "reply_to": "answers",
    "content_encoding": "identity",
    "app_id": "shop",
    "correlation_id": "cause",
    "timestamp": 1_760_000_000,
    "priority": 3,
}


def kept(about: Any) -> dict[str, Any]:
    """Return what a publisher sent, as it came through."""
    found = {name: getattr(about, name) for name in SENT}
    found["headers"] = {
        name: (about.headers or {}).get(name)
        for name in SENT["headers"]  # type: ignore[attr-defined]
    }
    return found


def test_retry_burial_and_redrive_keep_what_the_publisher_sent(env: Any) -> None:
    queue = env.declare_queue("kept")
    message = lesson.Message(max_retries=2)
    seen = []

    class Watching(lesson.Consumer):  # type: ignore[name-defined, misc]
        def process(self, delivery: Any) -> None:
            seen.append(delivery.properties)
            super().process(delivery)

    def fail(_: Any) -> None:
        raise ConnectionError("no answer")

    with lesson.Producer(env.rabbit) as producer:
        producer.publish(*lesson.publish_arguments(message, "", queue, **SENT))
        work = consumer_with(Watching, fail, env.rabbit, queue, producer)
        with running(work):
            env.until(lambda: work.counts["dead"] == 1)
        assert lesson.redrive(env.rabbit, queue, producer) == 1
    ((again, _),) = emptied(env.rabbit, queue)
    assert [about.headers["x-retry-count"] for about in seen] == [0, 1, 2]
    assert [kept(about) for about in [*seen, again]] == [SENT] * 4
    again.headers.pop("x-delivery-count", None)  # the broker's, of this delivery
    assert again.headers == SENT["headers"]  # neither ours nor the dead letter's


def test_publish_message_takes_headers(env: Any) -> None:
    with lesson.Producer(env.rabbit) as producer:
        for way, (_, publish) in WAYS.items():
            publish(producer, headers={"tenant": way})
        producer.publish_message(lesson.user(1), headers={"x-retry-count": "mine"})
    found = emptied(env.rabbit, env.rabbit.name("user_data"))
    headers = [about.headers for about, _ in found]
    assert [one.get("tenant") for one in headers] == ["message", "user data", None]
    assert [one["x-retry-count"] for one in headers] == [0, 0, 0]
    for other in lesson.WORK:
        emptied(env.rabbit, env.rabbit.name(other))


def test_what_would_not_survive_a_copy_is_taken_off(env: Any) -> None:
    """A user id is compared with ours, an expiration would end it among the dead."""
    queue = env.declare_queue("off")
    with lesson.Producer(env.rabbit) as producer:
        arguments = lesson.publish_arguments(
            lesson.Message(), "", queue, user_id="guest", expiration="600000"
        )
        producer.publish(*arguments)

        def fail(_: Any) -> None:
            raise lesson.PermanentError("no")

        work = consumer_with(lesson.Consumer, fail, env.rabbit, queue, producer)
        with running(work):
            env.until(lambda: work.counts["dead"] == 1)
    ((about, _),) = emptied(env.rabbit, queue + ".dead")
    assert (about.user_id, about.expiration) == (None, None)


def test_a_copy_goes_to_nobody_but_its_queue(env: Any) -> None:
    """CC and BCC have brought the message to other queues once already."""
    queue = env.declare_queue("one")
    other = env.declare_queue("other")
    headers = {"CC": [other], "BCC": [other], "tenant": "a"}
    message = lesson.Message(max_retries=2)
    with lesson.Producer(env.rabbit) as producer:
        producer.publish(*lesson.publish_arguments(message, "", queue, headers))
        emptied(env.rabbit, other)
        work = consumer_with(
            lesson.Consumer, lesson.no_answer, env.rabbit, queue, producer
        )
        with running(work):
            env.until(lambda: work.counts["dead"] == 1)
        assert lesson.redrive(env.rabbit, queue, producer) == 1
    assert emptied(env.rabbit, other) == []
    ((again, _),) = emptied(env.rabbit, queue)
    again.headers.pop("x-delivery-count", None)
    assert again.headers == {"tenant": "a"}


def test_headers_that_leave_no_room_for_ours_are_dropped_and_that_is_said(
    env: Any,
) -> None:
    queue = env.declare_queue("large")
    with lesson.Producer(env.rabbit) as producer:
        large = {"blob": "x" * 100_000}
        message = lesson.Message(max_retries=0)
        producer.publish(*lesson.publish_arguments(message, "", queue, headers=large))

        def fail(_: Any) -> None:
            raise ConnectionError

        work = consumer_with(lesson.Consumer, fail, env.rabbit, queue, producer)
        with running(work):
            env.until(lambda: work.counts["dead"] == 1)
    ((about, _),) = emptied(env.rabbit, queue + ".dead")
    assert about.headers["x-dropped-headers"] is True
    assert about.headers["x-error"].startswith("ConnectionError")


def test_a_frame_that_ours_would_overfill_carries_ours_alone(env: Any) -> None:
    """Else nobody could bury it, and it would come again for ever."""
    queue = env.declare_queue("full.frame")
    small = copy.copy(env.rabbit)
    small.parameters = copy.copy(env.parameters)
    small.parameters.frame_max = 8192  # the least that RabbitMQ 4.3 takes
    with lesson.Producer(small) as producer:
        headers = {"blob": "x" * 7896}
        message = lesson.Message(max_retries=0)
        producer.publish(*lesson.publish_arguments(message, "", queue, headers=headers))

        def fail(_: Any) -> None:
            raise ConnectionError("y" * 300)

        work = consumer_with(lesson.Consumer, fail, small, queue, producer)
        with running(work):
            env.until(lambda: work.counts["dead"] == 1)
    ((about, _),) = emptied(env.rabbit, queue + ".dead")
    assert about.headers["x-dropped-headers"] is True
    assert about.headers["x-error"].startswith("ConnectionError: yyy")


def test_a_burial_waits_while_publishing_is_blocked(env: Any) -> None:
    """Given back, it would be counted, and buried by the broker without a reason."""
    queue = env.declare_queue("blocked")
    tried: list[str] = []

    def fail(message: Any) -> None:
        tried.append(message.id)
        raise lesson.PermanentError("no such account")

    with (
        env.network() as (network, far),
        lesson.Producer(env.rabbit) as sender,
        lesson.Producer(far) as producer,
    ):
        producer.publish("", queue + ".dead", b"", None)
        producer.deadline = 0.1
        emptied(env.rabbit, queue + ".dead")
        block(network, "low on memory")
        wait_for(lambda: producer.blocked)
        lesson.publish_all(sender, queue, [lesson.user(1)])
        work = consumer_with(lesson.Consumer, fail, env.rabbit, queue, producer)
        with running(work):
            wait_for(lambda: work.counts["delayed"] > 3)
            assert (len(tried), work.counts["unsettled"]) == (1, 0)
            producer.deadline = DEADLINE
            network.cut()
            env.until(lambda: work.counts["acked"] == 1)
    found = emptied(env.rabbit, queue + ".dead")
    assert found
    for about, _ in found:  # a publish that was given up may arrive as well
        assert about.headers["x-error"] == "PermanentError: no such account"
    assert len(tried) == 1


def test_a_block_without_a_wait_loses_nothing(env: Any) -> None:
    with env.queue("no.wait") as queue:
        with lesson.Producer(env.rabbit) as producer:
            for message in lesson.users(300):
                producer.send(*lesson.publish_arguments(message, "", queue))
        assert len(emptied(env.rabbit, queue)) == 300


def test_a_block_raises_a_failure_that_nobody_has_heard_of(env: Any) -> None:
    """It had failed long before the block ended: that makes it no success."""
    message = lesson.user(1)
    with (
        pytest.raises(Unroutable) as failed,
        lesson.Producer(env.rabbit) as producer,
    ):
        lost = producer.send(*lesson.publish_arguments(message, "", "nowhere"))
        wait_for(lost.confirmed.done)
    assert failed.value.message_id == message.id
    with lesson.Producer(env.rabbit) as producer:
        lost = producer.send(*lesson.publish_arguments(message, "", "nowhere"))
        with suppress(PublishFailed):
            producer.wait(lost)  # heard: not a second time


def test_close_flushes_once_and_after_that_nothing_is_sent(env: Any) -> None:
    with env.queue("closing") as queue:
        producer = lesson.Producer(env.rabbit)
        lesson.send_all(producer, queue, lesson.users(50))
        producer.close()
        producer.close()
        assert len(emptied(env.rabbit, queue)) == 50
        with pytest.raises(PublishFailed, match="closed"):
            producer.send("", queue, b"", None)
        work = consumer_with(lesson.Consumer, str, env.rabbit, queue)
        work.close()  # it has not begun
        with running(work):
            work.close()
            assert work.ended.is_set()
    ledger = lesson.Ledger()
    ledger.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_says_at_once_that_it_needs_a_producer(env: Any) -> None:
    with env.queue("forked") as queue, lesson.Producer(env.rabbit) as producer:
        producer.publish("", queue, b"parent", None)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                start = time.monotonic()
                try:
                    with producer:
                        producer.publish("", queue, b"child", None)
                except PublishFailed as failure:
                    said = "fork" in str(failure)
                    code = 0 if said and time.monotonic() - start < 2 else 2
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        producer.publish("", queue, b"parent", None)  # its connection is still its own
        assert len(emptied(env.rabbit, queue)) == 2


def test_a_deadline_says_why_there_is_no_connection(env: Any) -> None:
    nobody = copy.copy(env.rabbit)
    nobody.parameters = copy.copy(env.rabbit.parameters)
    nobody.parameters.port = 1
    producer = lesson.Producer(nobody, deadline=1)
    with pytest.raises(NotInTime, match=r"no connection: .*refused"):
        producer.publish("", "anywhere", b"", None)
    producer.close(flush=False)


def test_properties_of_a_copy_can_be_encoded(env: Any) -> None:
    brokers = {"x-death": [], "x-opt-rabbitmq-received-time": 1, "x-opt-deaths": []}
    his = {"x-mine": 2, "x-delivery-country": "UA", "x-opt-in": True}
    about = pika.BasicProperties(headers=brokers | his)
    assert lesson.copied(about, {}).headers == his
