"""On the stand-in and RabbitMQ: what others send, what a sender uses again."""

from __future__ import annotations

import struct
import sys
import threading
from typing import Any

import pika
import pytest
from lessons import load
from pika import data as pika_data
from services import wait_for

from course.amqp.errors import MessagingError, Unroutable
from course.amqp.faults import block
from course.amqp.trials import consumer_with, emptied, running

lesson = load("04")


class Double(float):
    """Sent as Java does; pika would send a number that is not whole as text."""


DOUBLES: dict[str, Any] = {  # the stand-in reads and writes with pika
    "a large double": {"headers": {"limit": Double(sys.float_info.max)}},
    "one within a table": {"headers": {"a": {"b": [Double(2.0**70)]}}},
}
ODD: dict[str, Any] = {
    "a name in Latin-1": {"headers": {b"pr\xe9nom": "x"}},
    "an id of bytes": {"message_id": b"\xff\xfe\x00\x9a" * 4},
}


@pytest.fixture(autouse=True)
def doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    encode = pika_data.encode_value

    def encode_value(pieces: list[bytes], value: Any) -> int:
        if not isinstance(value, Double):
            return int(encode(pieces, value))
        pieces.append(struct.pack(">cd", b"d", value))
        return 9

    monkeypatch.setattr(pika_data, "encode_value", encode_value)


def send(env: Any, queue: str, body: bytes, **about: Any) -> None:
    """Publish as another program does, without our producer."""
    with env.rabbit.channel() as channel:
        channel.confirm_delivery()
        channel.basic_publish("", queue, body, pika.BasicProperties(**about))


def odd(everywhere: dict[str, Any], live: dict[str, Any]) -> pytest.MarkDecorator:
    """Parametrize by the broker and what is sent to it."""
    cases = []
    for broker in ("stand-in", "rabbitmq"):
        for name, about in (everywhere if broker == "stand-in" else live).items():
            cases.append(pytest.param(broker, about, id=f"{broker}-{name}"))
    return pytest.mark.parametrize(("env", "about"), cases, indirect=["env"])


@odd(ODD, ODD | DOUBLES)
@pytest.mark.parametrize("priorities", [0, 5], ids=["quorum", "classic"])
def test_what_pika_reads_and_does_not_write_is_put_aside(
    env: Any, about: dict[str, Any], priorities: int
) -> None:
    def fail(_: Any) -> None:
        raise lesson.PermanentError("no such account")

    message = lesson.user(1).to_json().encode()
    with env.queue("odd", priorities) as queue, lesson.Producer(env.rabbit) as producer:
        send(env, queue, message, **about)
        consumer = consumer_with(lesson.Consumer, fail, env.rabbit, queue, producer)
        env.consume(consumer, 1)
        assert (consumer.counts["dead"], consumer.counts["unsettled"]) == (1, 0)
        ((properties, body),) = emptied(env.rabbit, queue + ".dead")
    assert body == message
    if "message_id" in about:
        assert properties.message_id == about["message_id"]
    else:  # what it said can still be read
        (name,) = set(properties.headers) & {"limit", "a", "pr\xe9nom"}
        assert properties.headers[name]


@odd(ODD, ODD | DOUBLES)
def test_an_odd_letter_keeps_no_other_from_going_back(
    env: Any, about: dict[str, Any]
) -> None:
    with env.queue("back") as queue, lesson.Producer(env.rabbit) as producer:
        send(env, queue + ".dead", b"odd", **about)
        send(env, queue + ".dead", b"good", message_id="1")
        assert lesson.redrive(env.rabbit, queue, producer) == 2
        assert [body for _, body in emptied(env.rabbit, queue)] == [b"odd", b"good"]


@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
def test_properties_are_what_they_were_when_they_were_sent(
    env: Any, nested: bool
) -> None:
    table = {"is": 0}
    about = pika.BasicProperties(headers={"n": table} if nested else table)
    with env.queue("reused") as queue, lesson.Producer(env.rabbit) as producer:
        pending = []
        for number in range(50):
            about.message_id = f"order-{number}"
            table["is"] = number
            pending.append(producer.send("", queue, b"%d" % number, about))
        producer.wait(*pending)
        arrived = emptied(env.rabbit, queue)
    for properties, body in arrived:
        assert properties.message_id == f"order-{body.decode()}"
        found = properties.headers["n"] if nested else properties.headers
        assert found["is"] == int(body)
    assert len(arrived) == 50


def test_a_look_at_what_is_unconfirmed_hides_no_loss(env: Any) -> None:
    with pytest.raises(Unroutable), lesson.Producer(env.rabbit) as producer:
        producer.send("", "nowhere", b"x", None)
        wait_for(lambda: producer.counts["returned"], 20)
        assert len(producer.unconfirmed()) == 1


def test_a_retry_that_waits_for_a_blocked_broker_is_published_once(env: Any) -> None:
    attempts = []

    def fail_once(message: Any) -> None:
        attempts.append(message.retry_count)
        if message.retry_count == 0:
            raise ConnectionError("no answer")

    with (
        env.queue("blocked") as queue,
        env.network() as (network, far),
        lesson.Producer(env.rabbit) as sender,
        lesson.Producer(far) as producer,
    ):
        producer.publish("", queue + ".dead", b"", None)  # it is connected
        emptied(env.rabbit, queue + ".dead")
        producer.deadline = 0.1
        block(network, "low on memory")
        lesson.publish_all(sender, queue, lesson.users(1))
        kind = lesson.RetryingConsumer
        consumer = consumer_with(kind, fail_once, env.rabbit, queue, producer)
        with running(consumer):
            wait_for(lambda: consumer.counts["delayed"] > 3, 20)
            producer.deadline = 20.0
            network.thaw()
            env.until(lambda: consumer.counts["acked"] >= 2)
        assert emptied(env.rabbit, queue) == []
        assert env.rabbit.ready(env.rabbit.wait_queue(0)) == 0
    assert attempts == [0, 1]


def test_a_pool_that_cannot_be_started_leaves_no_thread(
    env: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def start_two(thread: threading.Thread) -> None:
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    with env.queue("few") as queue:
        consumer = consumer_with(
            lesson.Consumer, id, env.rabbit, queue, None, concurrency=4
        )
        monkeypatch.setattr(threading.Thread, "start", start_two)
        with pytest.raises(MessagingError, match="only 2 of 4 threads"):
            consumer.start_consuming()
        monkeypatch.undo()
        consumer.close()
        for thread in started:
            thread.join(20)
            assert not thread.is_alive()
