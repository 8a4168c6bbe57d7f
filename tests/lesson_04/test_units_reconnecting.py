"""Lesson 04: how often a producer tries again while no broker answers."""

from __future__ import annotations

import random
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from lesson_04.amqp_helpers import connection_to
from lessons import load
from pika.exceptions import ChannelClosedByBroker

from course.amqp.errors import ConsumerRefused
from course.amqp.reconnecting import backoff
from course.lab import wait_until
from course.network import FaultyNetwork
from course.standins.amqp import Broker

lesson = load("04")
NOBODY = ("127.0.0.1", 1)  # nothing listens there


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the numbers of the attempts that producers wait for; they wait shortly."""
    asked: list[int] = []

    def noted(attempt: int) -> float:
        asked.append(attempt)
        return 0.01

    monkeypatch.setattr("course.amqp.publishing.backoff", noted)
    return asked


def test_each_pause_is_twice_as_long_as_the_one_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    pauses = [backoff(attempt) for attempt in range(1, 12)]
    assert pauses[:7] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4]
    assert set(pauses[7:]) == {10.0}
    monkeypatch.setattr(random, "uniform", lambda low, high: low)
    assert backoff(3) == 0.2


def test_a_producer_counts_its_attempts_and_begins_again_once_it_was_connected(
    attempts: list[int],
) -> None:
    with (
        Broker() as broker,
        FaultyNetwork("127.0.0.1", broker.port) as network,
        lesson.Producer(connection_to(network)) as producer,
    ):
        for _ in range(2):
            wait_until(lambda: producer.lost == "" and producer._channel is not None)
            attempts.clear()
            network.target = NOBODY
            network.cut()
            wait_until(lambda: len(attempts) >= 4)
            assert attempts[:4] == [1, 2, 3, 4]
            network.target = ("127.0.0.1", broker.port)


@pytest.mark.parametrize(
    ("code", "queue", "is_final"),
    [(404, "ours", False), (404, "other", True), (403, "ours", True)],
    ids=["ours was deleted", "nobody declares it", "no right"],
)
def test_a_consumer_ends_for_what_no_other_connection_mends(
    code: int, queue: str, is_final: bool
) -> None:
    plan = [SimpleNamespace(name="ours")]
    consumer: Any = SimpleNamespace(rabbit=SimpleNamespace(plan=plan), queue=queue)
    refusal = None
    with suppress(ConsumerRefused):
        lesson.Consumer.end_if_refused(consumer, ChannelClosedByBroker(code, "NO"))
        refusal = "none"
    assert (refusal is None) == is_final


def test_what_is_of_the_same_message_is_rejected_with_it() -> None:
    others = [SimpleNamespace(rejected=False), SimpleNamespace(rejected=False)]
    rejected: Any = SimpleNamespace(rejected=True)
    assert lesson.Consumer.like(None, rejected, others) is others
    assert [other.rejected for other in others] == [True, True]
