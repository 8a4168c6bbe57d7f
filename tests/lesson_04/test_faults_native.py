"""RabbitMQ 4.3 delays a retry and obeys priorities itself: against a broker that can.

An older one would ignore the arguments, so there the topology is refused.
"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import pytest
from lessons import load
from services import Server, wait_for

from course.amqp.errors import TopologyRefused
from course.amqp.internals import server_properties
from course.amqp.trials import consumer_with, emptied, running

lesson = load("04")
LIMIT = 60.0
BASE = 0.5  # seconds


def is_refused(rabbit: Any) -> bool:
    """See that an older broker is refused, by name; tell whether it is one."""
    with rabbit.connect() as connection:
        version: str = server_properties(connection)["version"]
    if [int(number) for number in version.split(".")[:2]] >= [4, 3]:
        return False
    with pytest.raises(TopologyRefused, match=f"{version} delays no retries itself"):
        rabbit.setup_infrastructure()
    return True


def native(node: Server, name: str) -> Any:
    return lesson.RabbitMQConnection(
        node.url, f"module8.{name}", base=BASE, native=True, expires=120
    )


def test_a_retry_waits_in_its_queue_and_holds_nothing_up(node: Server) -> None:
    """Waits of 1, 2, 3 x base."""
    rabbit = native(node, "delayed")
    if is_refused(rabbit):
        return
    rabbit.setup_infrastructure()
    queue = rabbit.name("user_data")
    tried: dict[str, list[float]] = {}

    def work(message: Any) -> None:
        times = tried.setdefault(message.payload["username"], [])
        times.append(time.monotonic())
        if message.payload["username"] == "user0":
            raise ConnectionError("no answer")

    try:
        with lesson.Producer(rabbit) as producer:
            made = consumer_with(
                lesson.Consumer, work, rabbit, queue, producer, concurrency=1
            )
            made.max_retries = 3
            with running(made):
                lesson.publish_all(producer, queue, lesson.users(5))
                wait_for(lambda: made.counts["dead"] == 1, LIMIT)
                wait_for(lambda: made.counts["processed"] == 4, LIMIT)
        ((about, _),) = emptied(rabbit, queue + ".dead")
        assert about.headers["x-error"] == "ConnectionError: no answer"
        assert about.headers["x-retry-count"] == 3
        assert len(tried["user0"]) == 4
        for n in range(1, 5):
            assert len(tried[f"user{n}"]) == 1
        for n, (before, after) in enumerate(pairwise(tried["user0"]), 1):
            assert after - before > 0.95 * n * BASE
        # Nothing that was published behind it had to wait for it.
        assert max(tried["user4"]) < tried["user0"][1]
        assert made.counts["acked"] == 5
    finally:
        rabbit.teardown()


def test_strict_priorities_with_a_delivery_limit(node: Server) -> None:
    """A quorum queue for notifications, where it has priorities: urgent ones first."""
    rabbit = native(node, "strict")
    if is_refused(rabbit):
        return
    rabbit.setup_infrastructure()
    order: list[int] = []
    try:
        queue = rabbit.name("notifications")
        with lesson.Producer(rabbit) as producer:
            for priority in (0, 1, 5, 3, 4, 2):
                what = lesson.publish_arguments(
                    lesson.Message(payload={"p": priority}),
                    "",
                    queue,
                    priority=priority,
                )
                producer.publish(*what)

            def work(message: Any) -> None:
                order.append(message.payload["p"])

            made = consumer_with(
                lesson.Consumer, work, rabbit, queue, producer, concurrency=1
            )
            made.prefetch = 1
            with running(made):
                wait_for(lambda: len(order) == 6, LIMIT)
        assert order == [5, 4, 3, 2, 1, 0]
        planned = {item.name: item.options for item in rabbit.plan if "." in item.name}
        assert planned[queue]["arguments"]["x-delivery-limit"] == lesson.DELIVERY_LIMIT
    finally:
        rabbit.teardown()


def test_native_waits_need_fewer_queues() -> None:
    ours = lesson.RabbitMQConnection("amqp://127.0.0.1/%2F", "p")
    theirs = lesson.RabbitMQConnection("amqp://127.0.0.1/%2F", "p", native=True)

    def count(rabbit: Any) -> int:
        return sum(item.kind == "queue" for item in rabbit.plan)

    assert count(ours) - count(theirs) == lesson.MAX_RETRIES
