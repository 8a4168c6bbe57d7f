"""Lesson 04 on the modelled clock: retries, dead letters, the topology behind them."""

from __future__ import annotations

import copy
import itertools
import time
from asyncio import CancelledError
from collections.abc import Iterator
from typing import Any

import pytest
from lesson_04.amqp_helpers import open_stand_in
from lessons import load

from course.amqp.strict import utc_now
from course.amqp.trials import all_in, consumer_with, emptied, running

lesson = load("04")


@pytest.fixture(scope="module")
def env() -> Iterator[Any]:
    with open_stand_in() as found:
        yield found


def test_the_delays_double_and_their_queues_are_named_by_them() -> None:
    rabbit = lesson.RabbitMQConnection(None, "p", base=0.5)
    delays = [rabbit.delay_ms(attempt) for attempt in range(7)]
    assert delays == [500, 1000, 2000, 4000, 8000, 8000, 8000]
    assert rabbit.wait_queue(1) == "p.retry.1000ms"


def test_every_queue_is_durable_and_quorum_or_prioritised() -> None:
    plan = lesson.RabbitMQConnection(None, "p").plan
    for item in plan:
        name = item.name
        arguments = item.options.get("arguments", {})
        assert name.startswith("p.")
        if item.kind == "queue":
            quorum = arguments.get("x-queue-type") == "quorum"
            assert quorum != ("x-max-priority" in arguments)
            dead = name.endswith(".dead")
            assert dead or arguments["x-dead-letter-exchange"] == ""
            limit = arguments.get("x-delivery-limit")
            waits = not quorum or ".retry." in name
            assert limit == (2**31 - 1 if dead else None if waits else 20)
            assert (
                dead or not quorum or lesson.AT_LEAST_ONCE.items() <= arguments.items()
            )


def test_thirty_one_seconds_of_backoff_take_a_moment(env: Any) -> None:
    queue, ends = env.declare_queue("moment"), list[str]()

    def fail(_: Any) -> None:
        ends.append(utc_now())
        raise ConnectionError("no answer")

    with lesson.Producer(env.rabbit) as producer:
        consumer = consumer_with(lesson.Consumer, fail, env.rabbit, queue, producer)
        with running(consumer):
            begun, start = time.monotonic(), env.broker.clock
            lesson.publish_all(producer, queue, lesson.users(1))
            env.until(lambda: env.rabbit.ready(queue + ".dead"))
            took = time.monotonic() - begun
        assert env.broker.clock - start == pytest.approx(31)
        assert consumer.counts["retried"] == 5
        assert took < 3.1  # a tenth of it; 0.03 s on an idle machine
    ((about, body),) = emptied(env.rabbit, queue + ".dead")
    assert about.headers["x-error"] == "ConnectionError: no answer"
    assert about.headers["x-retry-count"] == 5
    assert about.headers["x-queue"] == queue
    assert ends[0] <= about.headers["x-first-failure"] <= ends[1]
    assert lesson.Message.from_json(body).payload["username"] == "user0"


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (ConnectionError, 6),
        (TimeoutError, 6),
        (ValueError, 6),
        (KeyError, 6),
        (UnicodeError, 6),
        (SystemExit, 6),
        (CancelledError, 6),
        (lesson.PermanentError, 1),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_errors_are_passing_or_permanent(
    env: Any, error: type[BaseException], attempts: int
) -> None:
    queue = env.declare_queue(f"errors.{error.__name__}")
    tried: list[int] = []

    def fail(message: Any) -> None:
        tried.append(message.retry_count)
        raise error("text \ud800 with \N{SNOWMAN}" + "x" * 1000)

    with lesson.Producer(env.rabbit) as producer:
        lesson.publish_all(producer, queue, lesson.users(1))
        with running(consumer_with(lesson.Consumer, fail, env.rabbit, queue, producer)):
            env.until(lambda: env.rabbit.ready(queue + ".dead"))
    assert tried == list(range(attempts))
    ((about, _),) = emptied(env.rabbit, queue + ".dead")
    assert about.headers["x-error"].isascii()
    assert len(about.headers["x-error"]) <= 300


def test_max_retries_of_the_message_count(env: Any) -> None:
    queue = env.declare_queue("max")
    message = lesson.Message(max_retries=2)

    def fail(_: Any) -> None:
        raise ConnectionError

    with lesson.Producer(env.rabbit) as producer:
        lesson.publish_all(producer, queue, [message])
        consumer = consumer_with(lesson.Consumer, fail, env.rabbit, queue, producer)
        with running(consumer):
            env.until(lambda: env.rabbit.ready(queue + ".dead"))
    assert (consumer.counts["retried"], consumer.counts["dead"]) == (2, 1)
    emptied(env.rabbit, queue + ".dead")


def test_without_a_dead_letter_queue_nothing_is_acknowledged(env: Any) -> None:
    """The copy is unroutable: the original must stay, until its limit is reached."""
    queue = env.declare_queue("graveless")
    with env.rabbit.connect() as connection:
        connection.channel().queue_delete(queue + ".dead")
    with lesson.Producer(env.rabbit) as producer:
        lesson.publish_all(producer, queue, [lesson.Message()])

        def fail(_: Any) -> None:
            raise lesson.PermanentError

        consumer = consumer_with(lesson.Consumer, fail, env.rabbit, queue, producer)
        consumer.rabbit = copy.copy(env.rabbit)
        consumer.rabbit.plan, consumer.rabbit.bindings = [], []
        with running(consumer):
            env.until(lambda: consumer.counts["unsettled"] >= 3)
            seen, start = consumer.counts["unsettled"], time.monotonic()
            env.until(lambda: consumer.counts["unsettled"] > seen)
            assert time.monotonic() - start > 0.1  # no hot loop
        assert consumer.counts["acked"] == 0
    env.rabbit.setup_infrastructure()
    emptied(env.rabbit, queue)


def test_redrive_resets_the_counter_and_keeps_id_and_body(env: Any) -> None:
    queue = env.declare_queue("redrive")
    message = lesson.user(7)
    with lesson.Producer(env.rabbit) as producer:
        where = ("", queue + ".dead")
        _, _, body, about = lesson.publish_arguments(message, *where)
        about.headers = {"x-retry-count": 5, "x-error": "old"}
        about.priority, about.correlation_id = 3, "cause"
        producer.publish(*where, body, about)
        assert lesson.redrive(env.rabbit, queue, producer) == 1
        assert lesson.redrive(env.rabbit, queue, producer) == 0
    ((again, got),) = emptied(env.rabbit, queue)
    assert (again.message_id, got, again.headers) == (message.id, body, None)
    kept = (again.priority, again.correlation_id, again.type, again.content_type)
    assert kept == (3, "cause", message.type, "application/json")


def test_a_queue_per_delay_is_on_time_and_one_queue_waits_for_its_head(
    env: Any,
) -> None:
    """On the broker's clock, to the millisecond: in base delays."""
    base = env.rabbit.base
    came = {}
    for wait in (lesson.wait_in_one_queue, lesson.wait_in_its_own):
        with (
            env.queue("on.time") as queue,
            lesson.Producer(env.rabbit) as producer,
            env.rabbit.channel() as channel,
        ):
            back = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue}
            channel.queue_declare(queue + ".shared", exclusive=True, arguments=back)
            start = env.clock()
            for attempt in (3, 0, 1, 2):
                wait(producer, queue, attempt)
            times: list[float] = []

            def all_came() -> bool:
                now = (env.clock() - start) / base  # noqa: B023
                times.extend(now for _ in all_in(channel, queue))  # noqa: B023
                return len(times) == 4  # noqa: B023

            env.until(all_came)
        came[wait.__name__] = times
    assert came["wait_in_its_own"] == pytest.approx([1, 2, 4, 8])
    assert came["wait_in_one_queue"] == pytest.approx([8, 8, 8, 8])


def test_attempts_back_off_exactly(env: Any) -> None:
    times: list[float] = []

    def fail(_: Any) -> None:
        times.append(env.clock())
        raise ConnectionError("no answer")

    with env.queue("exactly") as queue, lesson.Producer(env.rabbit) as producer:
        lesson.publish_all(producer, queue, lesson.users(1))
        consumer = consumer_with(lesson.Consumer, fail, env.rabbit, queue, producer)
        with running(consumer):
            env.until(lambda: consumer.counts["dead"])
    waits = [(b - a) / env.rabbit.base for a, b in itertools.pairwise(times)]
    assert waits == pytest.approx([1, 2, 4, 8, 16])


def test_the_third_wait_of_a_native_retry_is_what_is_claimed(
    env: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is 3 base delays; only RabbitMQ 4.3 and later has such queues."""
    claimed: list[float] = []
    monkeypatch.setattr(lesson, "native_waits", lambda *_: [1.0, 2.0, 3.0, 4.0])
    monkeypatch.setattr(lesson, "check", lambda _, seen, __: claimed.append(seen))
    lesson.check_native_retry(env)
    assert claimed == [3.0]
