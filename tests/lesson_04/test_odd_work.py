"""Work, headers and publishers that nobody expects: each message still has an end."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from lesson_04.amqp_helpers import open_stand_in
from lessons import load

from course.amqp.trials import consumer_with, emptied, running

lesson = load("04")


@pytest.fixture(scope="module")
def env() -> Iterator[Any]:
    with open_stand_in() as found:
        yield found


class NoTextError(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


def dead_headers(env: Any, queue: str, work: Any, *publish: Any) -> dict[str, Any]:
    """Publish a message whose work fails; return the headers of its dead letter."""
    with lesson.Producer(env.rabbit) as producer:
        producer.publish(*publish)
        consumer = consumer_with(lesson.Consumer, work, env.rabbit, queue, producer)
        with running(consumer):
            env.until(lambda: consumer.counts["dead"] == 1)
    ((about, _),) = emptied(env.rabbit, queue + ".dead")
    return dict(about.headers)


def test_an_error_without_a_text_buries_its_message(env: Any) -> None:
    def fail(_: Any) -> None:
        raise NoTextError

    with env.queue("texts") as queue:
        arguments = lesson.publish_arguments(lesson.user(1), "", queue)
        found = dead_headers(env, queue, fail, *arguments)
    assert found["x-error"] == "NoTextError, whose text fails with ValueError"


def test_a_consumer_that_was_stopped_leaves_no_thread(env: Any) -> None:
    before = set(threading.enumerate())
    with env.queue("threads") as queue, lesson.Producer(env.rabbit) as producer:
        consumer = consumer_with(lesson.Consumer, bool, env.rabbit, queue, producer)
        with running(consumer):
            assert set(threading.enumerate()) - before
    env.until(lambda: not set(threading.enumerate()) - before)


def test_work_that_nobody_would_run_is_refused_where_the_consumer_is_made(
    env: Any,
) -> None:
    class Asynchronous(lesson.Consumer):  # type: ignore[name-defined, misc]
        async def handle(self, message: Any) -> str:
            return str(message)

    class Generator(lesson.Consumer):  # type: ignore[name-defined, misc]
        def handle(self, message: Any) -> Iterator[str]:
            yield str(message)

    for kind in (Asynchronous, Generator):
        with pytest.raises(TypeError, match="which nobody runs"):
            kind(env.rabbit, "queue")


@pytest.mark.parametrize("effect", [{"a": 1}, 3, [lesson], b"bytes"], ids=str)
def test_an_effect_is_a_text_or_a_function(env: Any, effect: Any) -> None:
    with lesson.Ledger() as ledger:
        with pytest.raises(TypeError, match=f"and no {type(effect).__name__}"):
            ledger.once("queue", lesson.user(1), effect)
        assert not ledger.effects("queue")
    consumer = consumer_with(lesson.Consumer, str, env.rabbit, "queue")
    with pytest.raises(TypeError, match=f"and no {type(effect).__name__}"):
        consumer.once(lesson.user(1), effect)


def test_what_is_acknowledged_outlives_a_power_cut(tmp_path: Any) -> None:
    """NORMAL would not do: in WAL mode it syncs at checkpoints only."""
    with lesson.Ledger(str(tmp_path / "ledger")) as ledger:
        assert ledger.read("PRAGMA synchronous") == [(2,)]


def test_a_signal_handler_may_publish_in_the_middle_of_a_publish(env: Any) -> None:
    from_handler: list[Any] = []
    with env.queue("signals") as queue, lesson.Producer(env.rabbit) as producer:

        def send(*_: object) -> None:
            arguments = lesson.publish_arguments(lesson.user(1), "", queue)
            from_handler.append(producer.send(*arguments))

        before = signal.signal(signal.SIGALRM, send)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        try:
            end = time.monotonic() + 1.0
            pending: list[Any] = []
            while time.monotonic() < end and len(pending) < 2000:
                arguments = lesson.publish_arguments(lesson.user(2), "", queue)
                pending.append(producer.send(*arguments))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        producer.wait(*pending, *from_handler)
        assert from_handler
        assert env.rabbit.ready(queue) == len(pending) + len(from_handler)
