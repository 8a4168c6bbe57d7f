"""Lesson 04's own consumer crashes around the copy of what failed: what is left?"""

from __future__ import annotations

from typing import Any

import pytest
from lesson_04.amqp_helpers import open_stand_in
from lessons import load
from services import wait_for

from course.amqp.trials import consumer_with, emptied, running

lesson = load("04")


class CrashingProducer(lesson.Producer):  # type: ignore[name-defined, misc]
    """Ends the consumer's network just before or just after it publishes a copy."""

    consumer: Any
    network: Any
    before: bool
    crashed = False

    def send(self, *what: Any) -> Any:
        if not self.before:
            self.wait(super().send(*what))
        self.consumer.round_trip()  # what it has sent so far has arrived
        self.network.freeze()
        self.crashed = True
        raise lesson.Crash


@pytest.mark.parametrize(("before", "left"), [(True, 1), (False, 2)])
def test_a_crash_around_the_copy_leaves_one_or_two(before: bool, left: int) -> None:
    message = lesson.user(0)
    message.retry_count = lesson.MAX_RETRIES - 1  # its copy waits longest
    with open_stand_in() as env:
        wait = env.rabbit.wait_queue(message.retry_count)
        with (
            env.queue("crashes") as queue,
            env.network() as (network, far),
            lesson.Producer(env.rabbit) as own,
            CrashingProducer(env.rabbit) as producer,
        ):
            lesson.publish_all(own, queue, [message])
            kind = lesson.RetryingConsumer
            consumer = consumer_with(kind, lesson.no_answer, far, queue, producer)
            producer.consumer = consumer
            producer.network = network
            producer.before = before
            with running(consumer):
                wait_for(lambda: producer.crashed)
                consumer.stop()  # else it would come back
                network.cut()
            env.until_nobody_reads(queue)
            assert env.rabbit.ready(queue, wait) == left
            emptied(env.rabbit, wait)
