"""On the stand-in and RabbitMQ: a consumer starts once, and ends where it is no use."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from lessons import load

from course.amqp.errors import ConsumerRefused, PublishFailed, TopologyRefused
from course.amqp.topology import Layout
from course.amqp.trials import consumer_with, running
from course.lab import in_background
from course.naming import new_name

lesson = load("04")
LIMIT = 30.0


def test_a_consumer_is_not_started_twice_at_a_time(env: Any) -> None:
    """The second took the channel: what the first had in hand was never settled."""
    with env.queue("starts") as queue, lesson.Producer(env.rabbit) as producer:
        work = consumer_with(lesson.Consumer, str, env.rabbit, queue, producer)
        with running(work):
            with pytest.raises(RuntimeError, match="has been started; make another"):
                work.start_consuming()
            lesson.publish_all(producer, queue, lesson.users(20))
            env.until(lambda: work.counts["acked"] == 20)
        assert work.ended.is_set()


def test_a_consumer_that_was_stopped_says_so_when_it_is_started_again(env: Any) -> None:
    """It returned at once, as if its work were done."""
    with env.queue("starts.again") as queue:
        work = consumer_with(lesson.Consumer, str, env.rabbit, queue)
        with running(work):
            pass
        with pytest.raises(RuntimeError, match="has been stopped; make another"):
            work.start_consuming()


def test_a_stop_before_the_start_is_a_stop(env: Any) -> None:
    with env.queue("stops.first") as queue:
        work = consumer_with(lesson.Consumer, str, env.rabbit, queue)
        work.stop()
        work.stop()
        in_background(work.start_consuming).result(LIMIT)
        work.close()


def test_a_consumer_that_was_refused_may_be_started_again(env: Any) -> None:
    """Whoever supervises it waits until somebody has made the queue."""
    name = env.rabbit.name("late")
    work = consumer_with(lesson.Consumer, str, env.rabbit, name)
    with pytest.raises(ConsumerRefused):
        in_background(work.start_consuming).result(LIMIT)
    with (
        env.queue("late") as queue,
        lesson.Producer(env.rabbit) as producer,
        running(work),
    ):
        lesson.publish_all(producer, queue, lesson.users(3))
        env.until(lambda: work.counts["acked"] == 3)


@pytest.mark.parametrize("priorities", [0, 5], ids=["quorum", "classic"])
@pytest.mark.parametrize("closed", [True, False], ids=["closed", "none"])
def test_a_consumer_ends_where_nothing_that_fails_can_be_put_aside(
    env: Any, closed: bool, priorities: int
) -> None:
    """It took the same message five times a second: until the limit, or for ever."""
    with env.queue("putaside", priorities) as queue:
        with lesson.Producer(env.rabbit) as producer:
            lesson.publish_all(producer, queue, [lesson.Message()])
        with lesson.Producer(env.rabbit) as other:
            other.close()
        has_begun = threading.Event()

        def fail(_: Any) -> None:
            has_begun.set()
            raise ConnectionError("no answer")

        producer = other if closed else None
        work = consumer_with(lesson.Consumer, fail, env.rabbit, queue, producer)
        reason = "the producer is closed" if closed else "there is no producer"
        with pytest.raises(PublishFailed, match=reason):
            in_background(work.start_consuming).result(LIMIT)
        assert has_begun.is_set()
        assert work.counts["unsettled"] == 1
        env.until(lambda: env.rabbit.ready(queue) == 1)
        assert env.rabbit.ready(queue + ".dead") == 0


def test_a_ledger_in_the_place_of_the_producer_is_refused() -> None:
    """It was no inbox: what came twice was done twice, and recorded not once."""
    with lesson.Ledger() as ledger:
        with pytest.raises(TypeError, match=r"producer has no send\(\)"):
            lesson.UserDataConsumer(None, "queue", ledger)
        with pytest.raises(TypeError, match=r"ledger has no once\(\): 'ledger.db'"):
            lesson.UserDataConsumer(None, "queue", None, "ledger.db")
        lesson.UserDataConsumer(None, "queue", None, ledger)


@pytest.mark.parametrize(
    "permanent", [[KeyError], KeyError | OSError, (str,), "KeyError"]
)
def test_what_names_no_exceptions_is_not_permanent(permanent: Any) -> None:
    """What failed came back at once, with all its work, until the queue buried it."""
    kind = type("Mine", (lesson.UserDataConsumer,), {"permanent": permanent})
    with pytest.raises(TypeError, match="class, or a tuple of them, not"):
        kind(None, "queue")


EVENTS = {"events": "fanout"}


@pytest.mark.parametrize(
    ("exchanges", "queues", "priorities", "said"),
    [
        (EVENTS, {"log": ("event", "")}, {}, "log: no exchange 'event'"),
        (EVENTS, {"log": ("events",)}, {}, 'log: write .*the key "" for a fanout'),
        (EVENTS, {"log": "events"}, {}, "log: write .*, not 'events'"),
        (EVENTS, {"log": ("events", "")}, {"logs": 5}, "there is no queue 'logs'"),
        (EVENTS, {"log": ("events", "")}, {"log": 256}, "log has 0 to 255, not 256"),
        (EVENTS, {"log": ("events", "")}, {"log": True}, "0 to 255, not True"),
        (EVENTS, {"log": ("events", None)}, {}, "log: write .*, not .'events', None"),
        (EVENTS, {"log": None}, {}, "log: write .*, not None"),
        ({}, {"log": ("events", "")}, {}, "no exchange 'events'; known: none"),
    ],
)
def test_a_layout_that_says_something_else_than_it_means_is_refused(
    exchanges: Any, queues: Any, priorities: Any, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        Layout(exchanges, queues, priorities)


def test_a_kind_that_no_broker_has_is_refused_where_it_is_planned() -> None:
    layout = Layout({"events": "topics"}, {"log": ("events", "#")})
    with pytest.raises(ValueError, match="topic, fanout, headers, not 'topics'"):
        lesson.RabbitMQConnection("amqp://127.0.0.1/%2F", topology=layout)


def test_a_kind_that_this_broker_lacks_ends_a_consumer(rabbitmq_url: str) -> None:
    """It hangs up on it, which is no lost connection: it would do so each time."""
    layout = Layout({"events": "x-none"}, {"log": ("events", "#")})
    rabbit = lesson.RabbitMQConnection(
        rabbitmq_url, new_name("."), expires=60, topology=layout
    )
    consumer = consumer_with(lesson.Consumer, str, rabbit, rabbit.name("log"))
    try:
        for begin in (rabbit.setup_infrastructure, consumer.start_consuming):
            with pytest.raises(TopologyRefused, match="exchange type 'x-none'"):
                in_background(begin).result(10)
    finally:
        consumer.stop()
        rabbit.teardown()
