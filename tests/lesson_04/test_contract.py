"""The stand-in answers as RabbitMQ does: routing, publishing, acknowledging."""

from __future__ import annotations

from functools import partial
from typing import Any

import pika
import pytest
from lesson_04.contract_helpers import all_of, bodies, missing, settle, take_some
from lessons import load

from course.amqp.errors import PublishFailed
from course.amqp.trials import EMPTY

lesson = load("04")


@pytest.mark.parametrize(
    ("kind", "reached"),
    [
        ("direct", {"a.b": 1, "a": 0, "": 0, "a.b.c": 0, "#": 0}),
        ("fanout", {"a.b": 1, "a": 1, "": 1, "a.b.c": 1, "#": 1}),
    ],
)
def test_exchanges(
    env: Any, channel: Any, name: str, kind: str, reached: dict[str, int]
) -> None:
    channel.exchange_declare(name, kind, durable=True)
    channel.queue_declare(name, durable=True)
    channel.queue_bind(name, name, "a.b")
    found = {}
    for key in reached:
        channel.basic_publish(name, key, b"")
        found[key] = len(list(iter(partial(channel.basic_get, name, True), EMPTY)))
    assert found == reached


def test_two_bindings_of_one_queue_deliver_once(
    env: Any, channel: Any, name: str
) -> None:
    channel.exchange_declare(name, "topic", durable=True)
    channel.queue_declare(name, durable=True)
    for pattern in ("#", "a.*"):
        channel.queue_bind(name, name, pattern)
    channel.basic_publish(name, "a.b", b"once")
    assert bodies(env, name, 1) == [b"once"]


def test_returned_when_mandatory(env: Any, channel: Any, name: str) -> None:
    channel.basic_publish("", name, b"", mandatory=False)
    with pytest.raises(pika.exceptions.UnroutableError) as error:
        channel.basic_publish("", name, b"lost", mandatory=True)
    (back,) = error.value.messages
    answer = (back.method.reply_code, back.method.reply_text, back.body)
    assert answer == (312, "NO_ROUTE", b"lost")
    assert (back.method.exchange, back.method.routing_key) == ("", name)


@pytest.mark.parametrize("size", [0, 1, 99_999, 100_000, 300_001])
def test_bodies_and_properties_arrive_as_sent(
    env: Any, channel: Any, name: str, size: int
) -> None:
    channel.queue_declare(name, durable=True)
    body = bytes(n % 256 for n in range(size))
    sent = pika.BasicProperties(
        message_id="m1",
        correlation_id="c1",
        content_type="text/x",
        delivery_mode=2,
        priority=3,
        reply_to="r",
        timestamp=1_700_000_000,
        type="t",
        app_id="a",
        headers={"text": "x", "number": 5, "deep": {"list": [1, "two", True, None]}},
    )
    channel.basic_publish("", name, body, sent)
    ((_, properties, got),) = all_of(env, name, 1)
    assert got == body
    assert properties == sent


def test_many_confirms_at_once(env: Any, name: str, channel: Any) -> None:
    channel.queue_declare(name, durable=True)
    with lesson.Producer(env.rabbit, window=500) as producer:
        messages = lesson.users(2000)
        lesson.publish_all(producer, name, messages)
        assert producer.counts["confirmed"] == 2000
        assert producer.sent == {}
    got = [properties.message_id for _, properties, _ in all_of(env, name, 2000)]
    assert got == [message.id for message in messages]


def test_a_missing_exchange_fails_its_messages_only(
    env: Any, name: str, channel: Any
) -> None:
    channel.queue_declare(name, durable=True)
    with lesson.Producer(env.rabbit) as producer:
        wrong: list[Any] = []
        right: list[Any] = []
        for n in range(50):
            where = ("", name) if n % 10 else (name + ".none", "key")
            one = producer.send(*lesson.publish_arguments(lesson.user(n), *where))
            (right if n % 10 else wrong).append(one)
        producer.wait(*right)
        for one in wrong:
            with pytest.raises(PublishFailed, match="NOT_FOUND - no exchange"):
                producer.wait(one)
    found = {properties.message_id for _, properties, _ in take_some(env, name)}
    assert found == {one.properties.message_id for one in right}


def test_a_missing_exchange_fails_its_message_and_not_the_one_beside_it(
    env: Any, name: str, channel: Any
) -> None:
    channel.queue_declare(name, durable=True)
    with lesson.Producer(env.rabbit) as producer:
        lesson.publish_all(producer, name, lesson.users(1))
        for first in (True, False):
            arguments = [("", name), (name + ".none", "key")]
            right, wrong = (
                producer.send(*lesson.publish_arguments(lesson.user(n), *where))
                for n, where in enumerate(arguments if first else arguments[::-1])
            )
            right, wrong = (right, wrong) if first else (wrong, right)
            producer.wait(right)
            with pytest.raises(PublishFailed, match="NOT_FOUND - no exchange"):
                producer.wait(wrong)
    # One may have arrived before its channel was closed, and then again.
    assert len({about.message_id for _, about, _ in take_some(env, name)}) == 3


def test_order_and_redelivered_flags(env: Any, channel: Any, name: str) -> None:
    channel.queue_declare(name, durable=True)
    for body in (b"1", b"2", b"3"):
        channel.basic_publish("", name, body)
    first, _, _ = channel.basic_get(name)
    second, _, _ = channel.basic_get(name)
    assert not first.redelivered
    channel.basic_nack(second.delivery_tag, requeue=True)
    channel.basic_reject(first.delivery_tag, requeue=True)
    settle(env, name, 3)
    got = [(m.redelivered, body) for m, _, body in all_of(env, name, 3)]
    assert got == [(True, b"1"), (True, b"2"), (False, b"3")]


@pytest.mark.parametrize("end", ["channel", "connection"])
def test_what_is_unacknowledged_comes_back(
    env: Any, channel: Any, name: str, end: str
) -> None:
    channel.queue_declare(name, durable=True)
    for body in (b"1", b"2", b"3"):
        channel.basic_publish("", name, body)
    connection = env.rabbit.connect()
    other = connection.channel()
    tags = [other.basic_get(name)[0].delivery_tag for _ in range(2)]
    other.basic_ack(tags[0])
    (other if end == "channel" else connection).close()
    settle(env, name, 2)
    got = [(m.redelivered, body) for m, _, body in all_of(env, name, 2)]
    assert got == [(True, b"2"), (False, b"3")]
    if connection.is_open:
        connection.close()


@pytest.mark.parametrize(("ack", "left"), [(True, 2), (False, 5)])
def test_multiple(env: Any, channel: Any, name: str, ack: bool, left: int) -> None:
    channel.queue_declare(name, durable=True)
    for _ in range(5):
        channel.basic_publish("", name, b"")
    tags = [channel.basic_get(name)[0].delivery_tag for _ in range(3)]
    assert tags == [1, 2, 3]
    settle(env, name, 2)
    if ack:
        channel.basic_ack(tags[-1], multiple=True)
    else:
        channel.basic_nack(tags[-1], multiple=True, requeue=True)
    channel.connection.process_data_events()
    settle(env, name, left)


def test_prefetch_limits_what_is_in_hand(env: Any, channel: Any, name: str) -> None:
    channel.queue_declare(name, durable=True)
    for _ in range(10):
        channel.basic_publish("", name, b"")
    got: list[int] = []
    channel.basic_qos(prefetch_count=3)
    channel.basic_consume(name, lambda _, m, __, ___: got.append(m.delivery_tag))

    def in_hand(count: int) -> bool:
        channel.connection.process_data_events(0.01)
        return len(got) == count

    env.until(lambda: in_hand(3))
    channel.connection.process_data_events(0.1)
    assert got == [1, 2, 3]
    channel.basic_ack(1)
    env.until(lambda: in_hand(4))
    channel.basic_ack(0, multiple=True)
    env.until(lambda: in_hand(7))


def test_two_consumers_take_turns(env: Any, channel: Any, name: str) -> None:
    channel.queue_declare(name, durable=True)
    got: dict[str, list[bytes]] = {"one": [], "two": []}
    for tag, found in got.items():
        channel.basic_consume(
            name,
            lambda _, __, ___, body, found=found: found.append(body),
            auto_ack=True,
            consumer_tag=tag,
        )
    for n in range(10):
        channel.basic_publish("", name, b"%d" % n)
    env.until(
        lambda: (
            channel.connection.process_data_events(0.01)
            or sum(map(len, got.values())) == 10
        )
    )
    assert sorted(map(len, got.values())) == [5, 5]


def test_a_deleted_queue_cancels_its_consumer(
    env: Any, channel: Any, name: str
) -> None:
    channel.queue_declare(name, durable=True)
    gone: list[str] = []
    channel.add_on_cancel_callback(lambda frame: gone.append(frame.method.consumer_tag))
    channel.basic_consume(name, lambda *_: None, consumer_tag="mine")
    with env.rabbit.connect() as connection:
        connection.channel().queue_delete(name)
    env.until(lambda: channel.connection.process_data_events(0.01) or gone)
    assert gone == ["mine"]
    channel.start_consuming()  # returns at once, without an error: the trap


def test_counts_of_declare_and_delete(env: Any, channel: Any, name: str) -> None:
    channel.queue_declare(name, durable=True)
    for _ in range(3):
        channel.basic_publish("", name, b"")
    again = channel.queue_declare(name, durable=True).method
    assert (again.queue, again.message_count, again.consumer_count) == (name, 3, 0)
    assert channel.queue_delete(name).method.message_count == 3
    assert channel.queue_delete(name).method.message_count == 0


def test_a_purge_drops_what_is_ready_and_nothing_in_hand(
    env: Any, channel: Any, name: str
) -> None:
    channel.queue_declare(name, durable=True)
    for n in range(3):
        channel.basic_publish("", name, str(n).encode())
    method, _, body = channel.basic_get(name)
    assert body == b"0"
    assert channel.queue_purge(name).method.message_count == 2
    channel.basic_nack(method.delivery_tag, requeue=True)
    env.until(lambda: env.rabbit.ready(name) == 1)
    assert channel.queue_purge(name).method.message_count == 1


def test_exclusive_queues_go_with_their_connection(env: Any) -> None:
    with env.rabbit.connect() as connection:
        own = connection.channel().queue_declare("", exclusive=True).method.queue
        assert own.startswith("amq.gen-")
        assert not missing(env, own)
    env.until(lambda: missing(env, own))
