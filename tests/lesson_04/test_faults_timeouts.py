"""A private RabbitMQ that waits five seconds for an acknowledgement, not 30 minutes."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import services
from conftest import absent
from lesson_04.fault_helpers import LIMIT, fresh_connection, published
from lessons import load
from services import Server, wait_for

from course.amqp.trials import consumer_with, running

lesson = load("04")
TIMEOUT = 5.0  # seconds


@pytest.fixture(scope="module")
def hasty() -> Iterator[Server]:
    with services.private("rabbitmq", "consumer_timeout = 5000") as server:
        if server is None:
            absent("no rabbitmq-server on the PATH to start a private node from")
        assert server
        # Else it looks once a minute.
        server.ctl("eval", "application:set_env(rabbit, channel_tick_interval, 1000).")
        yield server


@pytest.fixture
def rabbit(hasty: Server) -> Iterator[Any]:
    found = fresh_connection(hasty.url)
    found.setup_infrastructure()
    yield found
    found.teardown()


@pytest.mark.slow
@pytest.mark.parametrize("with_ledger", [True, False], ids=["inbox", "no inbox"])
def test_work_that_outlasts_the_timeout_begins_once(
    rabbit: Any, with_ledger: bool
) -> None:
    """It comes again while it is being done, and is acknowledged when it is."""
    begun: list[float] = []

    def work(_: Any) -> None:
        begun.append(time.monotonic())
        time.sleep(2.5 * TIMEOUT)

    queue = rabbit.name("user_data")
    with lesson.Producer(rabbit) as producer, lesson.Ledger() as book:
        published(producer, queue, 1)
        ledger = book if with_ledger else None
        consumer = consumer_with(lesson.Consumer, work, rabbit, queue, producer, ledger)
        with running(consumer):
            wait_for(lambda: consumer.counts["acked"], LIMIT)
            # Where it came again, it came before that; nothing is left to begin.
            time.sleep(1.5 * TIMEOUT)
    assert len(begun) == 1
    assert rabbit.ready(queue, queue + ".dead") == 0


@pytest.mark.slow
@pytest.mark.parametrize("queue", ["user_data", "notifications"])
def test_what_waits_for_the_pool_does_not_wait_too_long(
    rabbit: Any, queue: str
) -> None:
    """Twenty jobs of 1.5 s for two threads: all taken at once, most come too late."""
    begun: Counter[str] = Counter()
    lock = threading.Lock()

    def work(message: Any) -> None:
        with lock:
            begun[message.id] += 1
        time.sleep(1.5)

    name = rabbit.name(queue)
    with lesson.Producer(rabbit) as producer:
        ids = published(producer, name, 20)
        consumer = consumer_with(lesson.Consumer, work, rabbit, name, producer)
        with running(consumer):
            wait_for(lambda: consumer.counts["acked"] >= 20, LIMIT)
        assert consumer.counts["reconnects"] == 0
    assert begun == Counter(ids)


def test_quick_work_is_fetched_ahead_and_slow_work_is_not(rabbit: Any) -> None:
    """The prefetch follows the pace of the work, in both directions."""
    pause = 0.0
    queue = rabbit.name("user_data")

    def work(_: Any) -> None:
        time.sleep(pause)

    with lesson.Producer(rabbit) as producer:
        consumer = consumer_with(
            lesson.Consumer, work, rabbit, queue, producer, prefetch=100
        )
        with running(consumer):
            published(producer, queue, 300)
            wait_for(lambda: consumer.counts["acked"] == 300, LIMIT)
            assert consumer._more_count >= 25  # 98, unless the machine is busy
            pause = 0.5
            published(producer, queue, 100)
            wait_for(lambda: consumer._more_count < 25, LIMIT)
            pause = 0.0
            wait_for(lambda: consumer.counts["acked"] >= 400, LIMIT)
    assert rabbit.ready(queue, queue + ".dead") == 0
