"""On the stand-in and RabbitMQ: what ends a consumer, and what it never ends by."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from math import inf, nan
from typing import Any

import pytest
from lessons import load
from services import wait_for

from course.amqp.errors import BadAddress, ConsumerRefused, TopologyRefused
from course.amqp.topology import Layout
from course.amqp.trials import consumer_with, emptied, running
from course.lab import in_background

lesson = load("04")
LIMIT = 30.0


def test_a_mistyped_queue_ends_a_consumer_with_the_brokers_words(env: Any) -> None:
    name = env.rabbit.name("user_dta")
    with lesson.Producer(env.rabbit) as producer:
        work = consumer_with(lesson.Consumer, str, env.rabbit, name, producer)
        ended = in_background(work.start_consuming)
        with pytest.raises(ConsumerRefused, match=f"NOT_FOUND - no queue '{name}'"):
            ended.result(LIMIT)
    assert work.counts["reconnects"] == 0


def test_a_queue_with_other_arguments_ends_a_consumer_with_the_brokers_words(
    env: Any, channel: Any
) -> None:
    rabbit = lesson.RabbitMQConnection(env.rabbit.parameters, env.rabbit.name("other"))
    channel.queue_declare(rabbit.name("archive"), durable=True)
    try:
        work = consumer_with(lesson.Consumer, str, rabbit, rabbit.name("archive"))
        ended = in_background(work.start_consuming)
        with pytest.raises(TopologyRefused, match="inequivalent arg 'x-"):
            ended.result(LIMIT)
    finally:
        rabbit.teardown()


@pytest.mark.parametrize(
    "error", [SystemExit(3), asyncio.CancelledError(), KeyboardInterrupt()], ids=repr
)
def test_an_exit_in_the_work_costs_one_message_and_no_thread(
    env: Any, error: BaseException
) -> None:
    queue = env.declare_queue(f"exit.{type(error).__name__}")
    bad = lesson.Message(max_retries=1)
    good = lesson.users(20)

    def work(message: Any) -> None:
        if message.id == bad.id:
            raise error

    with lesson.Producer(env.rabbit) as producer, lesson.Ledger() as ledger:
        lesson.publish_all(producer, queue, [bad, *good])
        kind = partial(consumer_with, lesson.Consumer, work, env.rabbit, queue)
        made = kind(producer, ledger, concurrency=1)
        with running(made):
            env.until(lambda: made.counts["dead"] + made.counts["processed"] == 21)
    ((about, _),) = emptied(env.rabbit, queue + ".dead")
    assert about.headers["x-error"].startswith(type(error).__name__)
    assert about.headers["x-retry-count"] == 1


def test_the_caller_says_what_is_permanent(env: Any) -> None:
    """An upstream's page of HTML is no JSON: a moment later it may be."""
    queue = env.declare_queue("permanent")

    class Impatient(lesson.Consumer):  # type: ignore[name-defined, misc]
        permanent = (*lesson.Consumer.permanent, KeyError)

    def work(message: Any) -> None:
        if message.retry_count == 0:
            raise {"a": ValueError, "b": KeyError}[message.payload["as"]]

    with lesson.Producer(env.rabbit) as producer:
        messages = [lesson.Message(payload={"as": one}) for one in "ab"]
        lesson.publish_all(producer, queue, messages)
        made = consumer_with(Impatient, work, env.rabbit, queue, producer)
        with running(made):
            env.until(lambda: made.counts["processed"] and made.counts["dead"])
        assert made.counts["retried"] == 1
    ((about, _),) = emptied(env.rabbit, queue + ".dead")
    assert about.message_id == messages[1].id


def test_a_sender_may_ask_for_fewer_retries_and_not_for_more(env: Any) -> None:
    queue = env.declare_queue("sender")

    def work(_: Any) -> None:
        raise ConnectionError("no answer")

    with lesson.Producer(env.rabbit) as producer:
        lesson.publish_all(producer, queue, [lesson.Message(max_retries=1000)])
        made = consumer_with(lesson.Consumer, work, env.rabbit, queue, producer)
        made.max_retries = 2
        with running(made):
            env.until(lambda: made.counts["dead"] == 1)
    assert made.counts["retried"] == 2
    emptied(env.rabbit, queue + ".dead")


def die_with_a_message(rabbit: Any, queue: str) -> bool:
    """Take a message and lose the connection, as a worker does that is killed."""
    with rabbit.channel() as channel:
        channel.basic_qos(prefetch_count=1)
        method, _, _ = next(channel.consume(queue, inactivity_timeout=1))
    return method is not None


def test_a_poison_message_on_a_classic_queue_has_a_limit(
    env: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each worker dies at it; the queue does not count, so the next worker does."""
    monkeypatch.setattr(lesson, "DELIVERY_LIMIT", 4)
    queue = env.declare_queue("poison", priorities=lesson.URGENT)
    deaths = 0
    with lesson.Producer(env.rabbit) as producer:
        lesson.publish_all(producer, queue, [lesson.Message()])
        for _ in range(15):
            with env.network() as (network, far):
                has_died = threading.Event()

                def die(_: Any) -> None:
                    nonlocal deaths
                    deaths += 1
                    made.stopping.set()  # noqa: B023
                    network.cut()
                    has_died.set()  # noqa: B023

                made = consumer_with(
                    lesson.Consumer, die, far, queue, producer, concurrency=1
                )
                with running(made):
                    # The network has to outlive its cut, which else fails like work.
                    env.until(lambda: has_died.is_set() or made.counts["dead"])  # noqa: B023
                    env.until(lambda: made.ended.is_set() or made.counts["dead"])  # noqa: B023
            env.until_nobody_reads(queue)
            if made.counts["dead"]:
                break
        ((about, _),) = emptied(env.rabbit, queue + ".dead")
        assert env.rabbit.ready(queue) == 0
    assert deaths == 5  # once, and four times again
    assert (
        about.headers["x-error"] == "ReturnedTooOften: delivered 5 times without an end"
    )


def test_what_a_classic_queue_delivers_again_is_done_once_and_keeps_its_place(
    env: Any,
) -> None:
    queue = env.declare_queue("again.classic", priorities=lesson.URGENT)
    messages = lesson.users(5)
    with lesson.Producer(env.rabbit) as producer, lesson.Ledger() as ledger:
        for n, message in enumerate(messages):
            about = {"priority": n, "headers": {"tenant": "t"}}
            producer.publish(*lesson.publish_arguments(message, "", queue, **about))
        assert die_with_a_message(env.rabbit, queue)
        env.until_nobody_reads(queue)
        seen: list[Any] = []

        class Watching(lesson.Consumer):  # type: ignore[name-defined, misc]
            def process(self, delivery: Any) -> None:
                seen.append(delivery.properties)
                super().process(delivery)

        made = consumer_with(Watching, str, env.rabbit, queue, producer, ledger)
        with running(made):
            env.until(lambda: made.counts["processed"] == 5)
    copies = [about for about in seen if "x-return-count" in about.headers]
    assert [(one.priority, one.headers["tenant"]) for one in copies] == [(4, "t")]
    assert len(ledger_ids(seen)) == 5


def ledger_ids(seen: list[Any]) -> set[str]:
    return {about.message_id for about in seen}


def test_a_url_and_a_topology_of_ones_own(env: Any) -> None:
    where = env.parameters
    url = f"amqp://guest:guest@{where.host}:{where.port}/%2F"
    topology = Layout(
        exchanges={"orders": "topic"},
        queues={"orders": ("orders", "order.#"), "urgent": ("orders", "order.now")},
        priorities={"urgent": 3},
    )
    rabbit = lesson.RabbitMQConnection(
        url, env.rabbit.name("own"), topology=topology, expires=60
    )
    try:
        rabbit.setup_infrastructure()
        with lesson.Producer(rabbit) as producer:
            arguments = lesson.publish_arguments(
                lesson.user(1), rabbit.name("orders"), "order.now"
            )
            producer.publish(*arguments)
        assert rabbit.ready(rabbit.name("orders"), rabbit.name("urgent")) == 2
        names = {item.name.removeprefix(rabbit.prefix + ".") for item in rabbit.plan}
        assert not names & set(lesson.WORK)
    finally:
        rabbit.teardown()


@pytest.mark.parametrize(
    "url",
    ["http://host/", "amqp://guest:s3cret@host:port/", "amqp://guest:s3cret@host//"],
)
def test_a_wrong_url_is_the_librarys_own_error(url: str) -> None:
    with pytest.raises(BadAddress) as refused:
        lesson.RabbitMQConnection(url)
    assert "s3cret" not in str(refused.value)
    assert "course.console" not in type(refused.value).__mro__[0].__module__


def test_one_channel_is_enough(env: Any) -> None:
    """For setting up, publishing, consuming, looking, redriving and taking down."""
    parameters = env.rabbit.parameters
    narrow = type(parameters)("amqp://guest:guest@127.0.0.1:5672/%2F?channel_max=1")
    narrow.host, narrow.port = parameters.host, parameters.port
    rabbit = lesson.RabbitMQConnection(narrow, env.rabbit.name("narrow"), expires=60)
    try:
        rabbit.setup_infrastructure()
        rabbit.setup_infrastructure()
        queue = rabbit.name("user_data")
        with lesson.Producer(rabbit) as producer, lesson.Ledger() as ledger:
            lesson.publish_all(producer, queue, lesson.users(3))
            lesson.publish_all(producer, queue + ".dead", lesson.users(2))
            assert lesson.redrive(rabbit, queue, producer) == 2
            made = lesson.UserDataConsumer(rabbit, queue, producer, ledger)
            with running(made):
                wait_for(lambda: made.counts["processed"] == 5, LIMIT)
    finally:
        rabbit.teardown()


@pytest.mark.parametrize("number", [0, -1, 2.5, None, "4"], ids=repr)
def test_limits_with_which_nothing_would_happen_are_refused(
    env: Any, number: Any
) -> None:
    """AMQP takes a prefetch of 0 for no limit at all."""
    made = partial(consumer_with, lesson.PoolConsumer, str, env.rabbit, "q")
    for name in ("prefetch", "concurrency"):
        with pytest.raises(ValueError, match=f"{name} is a whole number above 0"):
            made(**{name: number})
    with pytest.raises(ValueError, match="window is a whole number above 0"):
        lesson.Producer(env.rabbit, window=number)


@pytest.mark.parametrize("seconds", [-1, nan, inf, 1e300, None, "5"], ids=repr)
def test_waits_that_no_thread_can_wait_are_refused(env: Any, seconds: Any) -> None:
    with pytest.raises(ValueError, match="drain is a number of seconds"):
        consumer_with(lesson.PoolConsumer, str, env.rabbit, "q", drain=seconds)
    with pytest.raises(ValueError, match="deadline is a number of seconds"):
        lesson.Producer(env.rabbit, deadline=seconds)


def test_a_prefetch_that_amqp_cannot_say_is_refused(env: Any) -> None:
    with pytest.raises(ValueError, match="at most 65535, not 65536"):
        consumer_with(lesson.PoolConsumer, str, env.rabbit, "q", prefetch=65536)


@pytest.mark.parametrize("base", [-1.0, 2.0**32])
def test_waits_that_no_broker_takes_are_refused_where_they_are_planned(
    env: Any, base: float
) -> None:
    where = env.rabbit.parameters
    with pytest.raises(ValueError, match=r"retry.*: x-message-ttl is 0 to 4294967295"):
        lesson.RabbitMQConnection(where, base=base)
    with pytest.raises(ValueError, match="x-expires is 1 to 4294967295"):
        lesson.RabbitMQConnection(where, expires=base)


@pytest.mark.parametrize("prefix", ["a" * 250, "\u0457" * 125], ids=["ascii", "bytes"])
def test_names_that_amqp_has_no_room_for_are_refused_where_they_are_planned(
    env: Any, prefix: str
) -> None:
    with pytest.raises(ValueError, match="a name has at most 255 bytes"):
        lesson.RabbitMQConnection(env.rabbit.parameters, prefix)


def test_a_wait_queue_that_was_deleted_is_declared_again(env: Any) -> None:
    """Else each failure would come back at once, until the broker has had enough."""
    queue = env.declare_queue("unwaited")
    wait = env.rabbit.wait_queue(0)
    with lesson.Producer(env.rabbit) as producer:
        work = consumer_with(
            lesson.Consumer, lesson.no_answer, env.rabbit, queue, producer
        )
        with running(work):
            with env.rabbit.channel() as channel:
                channel.queue_delete(wait)
            message = lesson.Message(max_retries=2)
            lesson.publish_all(producer, queue, [message])
            env.until(lambda: work.counts["dead"] == 1)
    ((about, _),) = emptied(env.rabbit, queue + ".dead")
    assert about.headers["x-retry-count"] == 2
    assert about.headers["x-error"] == "ConnectionError: no answer"
    assert work.counts["unsettled"] == 1
