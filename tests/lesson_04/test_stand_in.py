"""The stand-in for RabbitMQ, and a network before it that fails."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from typing import Any

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lesson_04.amqp_helpers import connection_to
from lessons import load

from course.amqp.errors import PublishFailed
from course.amqp.trials import emptied
from course.network import FaultyNetwork
from course.standins.amqp import Broker
from course.standins.amqp_queues import topic_match

lesson = load("04")


@pytest.fixture
def broker() -> Iterator[Broker]:
    with Broker() as found:
        yield found


words = st.lists(st.sampled_from("ab"), max_size=4)
patterns = st.lists(st.sampled_from("ab*#"), min_size=1, max_size=4)


@given(patterns, words)
def test_topics_match_as_brute_force_does(pattern: list[str], key: list[str]) -> None:
    expected = lesson.fits(".".join(pattern), ".".join(key))
    assert topic_match(pattern, key) == expected


def test_garbage_does_not_stop_the_stand_in(broker: Any) -> None:
    rng = random.Random(6)
    for size in (0, 1, 7, 8, 100, 5000):
        with socket.create_connection(("127.0.0.1", broker.port)) as client:
            client.sendall(b"AMQP\0\0\x09\x01"[: size % 9] + rng.randbytes(size))
    connection_to(broker).setup_infrastructure()


def test_the_clock_moves_only_when_told(broker: Any) -> None:
    rabbit = connection_to(broker)
    rabbit.setup_infrastructure()
    queue, wait = rabbit.name("user_data"), rabbit.wait_queue(0)
    with lesson.Producer(rabbit) as producer:
        producer.publish(wait, queue, b"", pika.BasicProperties())
        assert (broker.clock, rabbit.ready(wait), rabbit.ready(queue)) == (0, 1, 0)
        broker.step()
        assert (broker.clock, rabbit.ready(wait), rabbit.ready(queue)) == (1, 0, 1)
        broker.step()  # nothing expires any more
        assert broker.clock == 1


def test_a_network_freezes_each_way_and_cuts(broker: Any) -> None:
    target = connection_to(broker)
    target.setup_infrastructure()
    queue = target.name("user_data")
    with FaultyNetwork("127.0.0.1", broker.port) as network:
        far = connection_to(broker)
        far.parameters.port = network.port
        with lesson.Producer(far, deadline=0.3) as producer:
            for way, arrives in (("up", 0), ("down", 1)):
                producer.deadline = 10
                lesson.publish_all(producer, queue, lesson.users(1))  # connected again
                producer.deadline = 0.3
                emptied(target, queue)
                network.freeze(way)
                with pytest.raises(PublishFailed, match="not confirmed"):
                    lesson.publish_all(producer, queue, lesson.users(1))
                assert target.ready(queue) == arrives
                network.cut()


def test_a_quorum_queue_counts_how_often_a_message_came_back(broker: Any) -> None:
    rabbit = connection_to(broker)
    arguments = {"x-queue-type": "quorum", "x-delivery-limit": 2}
    counts = []
    with rabbit.channel() as channel:
        channel.queue_declare("counted", durable=True, arguments=arguments)
        channel.basic_publish("", "counted", b"again")
        for _ in range(5):
            method, about, _ = channel.basic_get("counted")
            if method:
                counts.append((about.headers or {}).get("x-delivery-count", 0))
                channel.basic_nack(method.delivery_tag, requeue=True)
    assert counts == [0, 1, 2]


def test_a_dead_letter_says_how_often_it_died(broker: Any) -> None:
    rabbit = connection_to(broker)
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "again"}
    with rabbit.channel() as channel:
        channel.queue_declare("again", arguments=arguments)
        channel.basic_publish("", "again", b"dies, and comes again")
        for times in (1, 2):
            method, _, _ = channel.basic_get("again")
            channel.basic_reject(method.delivery_tag, requeue=False)
            method, about, _ = channel.basic_get("again")
            assert about.headers["x-death"][0]["count"] == times
            channel.basic_reject(method.delivery_tag, requeue=True)
