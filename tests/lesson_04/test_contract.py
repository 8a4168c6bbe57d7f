"""The stand-in answers as RabbitMQ does: the same scenarios, the same results."""

from __future__ import annotations

import argparse
import copy
import struct
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from lessons import load
from services import wait_for

lesson = load("04")
pika = lesson.pika
NOTHING = (None, None, None)
Closed = pika.exceptions.ChannelClosedByBroker


@pytest.fixture(scope="module", params=["stand-in", "rabbitmq"])
def env(request: pytest.FixtureRequest) -> Iterator[Any]:
    live = request.param == "rabbitmq"
    url = request.getfixturevalue("rabbitmq_url") if live else None
    with lesson.open_env(argparse.Namespace(offline=not live, url=url)) as found:
        assert found.live == live
        yield found


@pytest.fixture
def channel(env: Any) -> Iterator[Any]:
    with env.rabbit.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        yield channel


@pytest.fixture
def name(env: Any, channel: Any, request: pytest.FixtureRequest) -> Iterator[str]:
    """A prefix of the test's own; queues and exchanges that it may use are removed."""
    prefix: str = env.rabbit.name(request.node.originalname)
    yield prefix
    with env.rabbit.connect() as connection:
        cleaner = connection.channel()
        for suffix in ("", ".dead", ".back", ".prio", ".one", ".two"):
            cleaner.queue_delete(prefix + suffix)
            cleaner.exchange_delete(prefix + suffix)


def all_of(env: Any, queue: str, count: int) -> list[tuple[Any, Any, bytes]]:
    """Wait for a number of messages, take them, and see that there are no more."""
    got: list[tuple[Any, Any, bytes]] = []
    with env.rabbit.connect() as connection:
        get = partial(connection.channel().basic_get, queue, auto_ack=True)

        def came() -> bool:
            got.extend(iter(get, NOTHING))
            return len(got) >= count

        env.until(came)
    assert len(got) == count
    return got


def bodies(env: Any, queue: str, count: int) -> list[bytes]:
    return [body for _, _, body in all_of(env, queue, count)]


def refusal(env: Any, ask: Callable[[Any], object], name: str) -> tuple[int, str]:
    """Return the code and text that close the channel, without our prefix."""
    with env.rabbit.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        with pytest.raises(Closed) as closed:
            ask(channel)
    return closed.value.reply_code, closed.value.reply_text.replace(name, "NAME")


def deaths(properties: Any, name: str) -> list[tuple[Any, ...]]:
    """Return x-death in order, without the times."""
    keep = ("reason", "queue", "count", "exchange", "routing-keys")
    return [
        tuple(str(death[key]).replace(name, "NAME") for key in keep)
        for death in properties.headers["x-death"]
    ]


def settle(env: Any, queue: str, count: int) -> None:
    env.until(lambda: env.rabbit.ready(queue) == count)


# Routing and publishing


@pytest.mark.parametrize(
    ("kind", "reached"),
    [
        ("direct", {"a.b": 1, "a": 0, "": 0, "a.b.c": 0, "#": 0}),
        ("fanout", {"a.b": 1, "a": 1, "": 1, "a.b.c": 1, "#": 1}),
    ],
)
def test_exchanges(
    env: Any, channel: Any, name: str, kind: str, reached: dict[str, int]
) -> None:
    channel.exchange_declare(name, kind, durable=True)
    channel.queue_declare(name, durable=True)
    channel.queue_bind(name, name, "a.b")
    found = {}
    for key in reached:
        channel.basic_publish(name, key, b"")
        found[key] = len(list(iter(partial(channel.basic_get, name, True), NOTHING)))
    assert found == reached


def test_two_bindings_of_one_queue_deliver_once(
    env: Any, channel: Any, name: str
) -> None:
    channel.exchange_declare(name, "topic", durable=True)
    channel.queue_declare(name, durable=True)
    for pattern in ("#", "a.*"):
        channel.queue_bind(name, name, pattern)
    channel.basic_publish(name, "a.b", b"once")
    assert bodies(env, name, 1) == [b"once"]


def test_returned_when_mandatory(env: Any, channel: Any, name: str) -> None:
    channel.basic_publish("", name, b"", mandatory=False)
    with pytest.raises(pika.exceptions.UnroutableError) as error:
        channel.basic_publish("", name, b"lost", mandatory=True)
    (back,) = error.value.messages
    answer = (back.method.reply_code, back.method.reply_text, back.body)
    assert answer == (312, "NO_ROUTE", b"lost")
    assert (back.method.exchange, back.method.routing_key) == ("", name)


@pytest.mark.parametrize("size", [0, 1, 99_999, 100_000, 300_001])
def test_bodies_and_properties_arrive_as_sent(
    env: Any, channel: Any, name: str, size: int
) -> None:
    channel.queue_declare(name, durable=True)
    body = bytes(n % 256 for n in range(size))
    sent = pika.BasicProperties(
        message_id="m1",
        correlation_id="c1",
        content_type="text/x",
        delivery_mode=2,
        priority=3,
        reply_to="r",
        timestamp=1_700_000_000,
        type="t",
        app_id="a",
        headers={"text": "x", "number": 5, "deep": {"list": [1, "two", True, None]}},
    )
    channel.basic_publish("", name, body, sent)
    ((_, properties, got),) = all_of(env, name, 1)
    assert got == body
    assert properties == sent


def test_many_confirms_at_once(env: Any, name: str, channel: Any) -> None:
    channel.queue_declare(name, durable=True)
    with lesson.Producer(env.rabbit, window=500) as producer:
        messages = lesson.users(2000)
        lesson.publish(producer, name, messages)
        assert producer.counts["confirmed"] == 2000
        assert producer.sent == {}
    got = [properties.message_id for _, properties, _ in all_of(env, name, 2000)]
    assert got == [message.id for message in messages]


def test_a_missing_exchange_fails_its_messages_only(
    env: Any, name: str, channel: Any
) -> None:
    channel.queue_declare(name, durable=True)
    with lesson.Producer(env.rabbit) as producer:
        wrong: list[Any] = []
        right: list[Any] = []
        for n in range(50):
            where = ("", name) if n % 10 else (name + ".none", "key")
            one = producer.send(*lesson.addressed(lesson.user(n), *where))
            (right if n % 10 else wrong).append(one)
        producer.wait(*right)
        for one in wrong:
            with pytest.raises(lesson.PublishFailed, match="NOT_FOUND - no exchange"):
                producer.wait(one)
    found = {properties.message_id for _, properties, _ in take_some(env, name)}
    assert found == {one.properties.message_id for one in right}


def take_some(env: Any, queue: str) -> list[tuple[Any, Any, bytes]]:
    with env.rabbit.connect() as connection:
        get = partial(connection.channel().basic_get, queue, auto_ack=True)
        return list(iter(get, NOTHING))


# Acknowledging


def test_order_and_redelivered_flags(env: Any, channel: Any, name: str) -> None:
    channel.queue_declare(name, durable=True)
    for body in (b"1", b"2", b"3"):
        channel.basic_publish("", name, body)
    first, _, _ = channel.basic_get(name)
    second, _, _ = channel.basic_get(name)
    assert not first.redelivered
    channel.basic_nack(second.delivery_tag, requeue=True)
    channel.basic_reject(first.delivery_tag, requeue=True)
    settle(env, name, 3)
    got = [(m.redelivered, body) for m, _, body in all_of(env, name, 3)]
    assert got == [(True, b"1"), (True, b"2"), (False, b"3")]


@pytest.mark.parametrize("end", ["channel", "connection"])
def test_what_is_unacknowledged_comes_back(
    env: Any, channel: Any, name: str, end: str
) -> None:
    channel.queue_declare(name, durable=True)
    for body in (b"1", b"2", b"3"):
        channel.basic_publish("", name, body)
    connection = env.rabbit.connect()
    other = connection.channel()
    tags = [other.basic_get(name)[0].delivery_tag for _ in range(2)]
    other.basic_ack(tags[0])
    (other if end == "channel" else connection).close()
    settle(env, name, 2)
    got = [(m.redelivered, body) for m, _, body in all_of(env, name, 2)]
    assert got == [(True, b"2"), (False, b"3")]
    if connection.is_open:
        connection.close()


@pytest.mark.parametrize(("ack", "left"), [(True, 2), (False, 5)])
def test_multiple(env: Any, channel: Any, name: str, ack: bool, left: int) -> None:
    channel.queue_declare(name, durable=True)
    for _ in range(5):
        channel.basic_publish("", name, b"")
    tags = [channel.basic_get(name)[0].delivery_tag for _ in range(3)]
    assert tags == [1, 2, 3]
    settle(env, name, 2)
    if ack:
        channel.basic_ack(tags[-1], multiple=True)
    else:
        channel.basic_nack(tags[-1], multiple=True, requeue=True)
    channel.connection.process_data_events()
    settle(env, name, left)


def test_prefetch_limits_what_is_in_hand(env: Any, channel: Any, name: str) -> None:
    channel.queue_declare(name, durable=True)
    for _ in range(10):
        channel.basic_publish("", name, b"")
    got: list[int] = []
    channel.basic_qos(prefetch_count=3)
    channel.basic_consume(name, lambda _, m, __, ___: got.append(m.delivery_tag))

    def in_hand(count: int) -> bool:
        channel.connection.process_data_events(0.01)
        return len(got) == count

    env.until(lambda: in_hand(3))
    channel.connection.process_data_events(0.1)
    assert got == [1, 2, 3]
    channel.basic_ack(1)
    env.until(lambda: in_hand(4))
    channel.basic_ack(0, multiple=True)
    env.until(lambda: in_hand(7))


def test_two_consumers_take_turns(env: Any, channel: Any, name: str) -> None:
    channel.queue_declare(name, durable=True)
    got: dict[str, list[bytes]] = {"one": [], "two": []}
    for tag, found in got.items():
        channel.basic_consume(
            name,
            lambda _, __, ___, body, found=found: found.append(body),
            auto_ack=True,
            consumer_tag=tag,
        )
    for n in range(10):
        channel.basic_publish("", name, b"%d" % n)
    env.until(
        lambda: (
            channel.connection.process_data_events(0.01)
            or sum(map(len, got.values())) == 10
        )
    )
    assert sorted(map(len, got.values())) == [5, 5]


def test_a_deleted_queue_cancels_its_consumer(
    env: Any, channel: Any, name: str
) -> None:
    channel.queue_declare(name, durable=True)
    gone: list[str] = []
    channel.add_on_cancel_callback(lambda frame: gone.append(frame.method.consumer_tag))
    channel.basic_consume(name, lambda *_: None, consumer_tag="mine")
    with env.rabbit.connect() as connection:
        connection.channel().queue_delete(name)
    env.until(lambda: channel.connection.process_data_events(0.01) or gone)
    assert gone == ["mine"]
    channel.start_consuming()  # returns at once, without an error: the trap


def test_counts_of_declare_and_delete(env: Any, channel: Any, name: str) -> None:
    channel.queue_declare(name, durable=True)
    for _ in range(3):
        channel.basic_publish("", name, b"")
    again = channel.queue_declare(name, durable=True).method
    assert (again.queue, again.message_count, again.consumer_count) == (name, 3, 0)
    assert channel.queue_delete(name).method.message_count == 3
    assert channel.queue_delete(name).method.message_count == 0


def test_exclusive_queues_go_with_their_connection(env: Any) -> None:
    with env.rabbit.connect() as connection:
        own = connection.channel().queue_declare("", exclusive=True).method.queue
        assert own.startswith("amq.gen-")
        assert not missing(env, own)
    env.until(lambda: missing(env, own))


def missing(env: Any, queue: str) -> bool:
    with env.rabbit.connect() as connection:
        try:
            connection.channel().queue_declare(queue, passive=True)
        except Closed as closed:
            return bool(closed.reply_code == 404)
    return False


# Errors


NO_QUEUE = (404, "NOT_FOUND - no queue 'NAME' in vhost '/'")
NO_EXCHANGE = (404, "NOT_FOUND - no exchange 'NAME' in vhost '/'")


@pytest.mark.parametrize(
    ("ask", "answer"),
    [
        (lambda c, n: c.queue_declare(n, passive=True), NO_QUEUE),
        (lambda c, n: c.basic_get(n), NO_QUEUE),
        (lambda c, n: c.basic_consume(n, print), NO_QUEUE),
        (lambda c, n: c.queue_bind(n, "amq.direct", "k"), NO_QUEUE),
        (lambda c, n: c.exchange_declare(n, passive=True), NO_EXCHANGE),
        (lambda c, n: c.basic_publish(n, "k", b""), NO_EXCHANGE),
    ],
    ids=["declare", "get", "consume", "bind", "exchange", "publish"],
)
def test_404(env: Any, ask: Any, answer: tuple[int, str], name: str) -> None:
    assert refusal(env, lambda channel: ask(channel, name), name) == answer


TTL = {"x-message-ttl": 1000}


@pytest.mark.parametrize(
    ("ask", "argument"),
    [
        ({"durable": False, "arguments": TTL}, "durable"),
        ({"durable": True, "arguments": {"x-message-ttl": 2000}}, "x-message-ttl"),
        ({"durable": True}, "x-message-ttl"),
        (
            {"durable": True, "arguments": TTL | {"x-dead-letter-exchange": "X"}},
            "x-dead-letter-exchange",
        ),
    ],
    ids=["durable", "other value", "missing", "extra"],
)
def test_406_names_the_argument(
    env: Any, channel: Any, name: str, ask: dict[str, Any], argument: str
) -> None:
    for _ in range(2):
        channel.queue_declare(name, durable=True, arguments=TTL)
    code, text = refusal(env, lambda other: other.queue_declare(name, **ask), name)
    what = f"inequivalent arg '{argument}' for queue 'NAME' in vhost '/': received"
    assert code == 406
    assert text.startswith(f"PRECONDITION_FAILED - {what} ")


def test_406_of_exchanges_tags_and_quorum_priorities(
    env: Any, channel: Any, name: str
) -> None:
    channel.exchange_declare(name, "topic", durable=True)
    said = refusal(
        env, lambda other: other.exchange_declare(name, "direct", durable=True), name
    )
    assert said == (
        406,
        "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'NAME' in vhost "
        "'/': received 'direct' but current is 'topic'",
    )

    def wrong_tag(other: Any) -> None:
        other.basic_ack(99)
        other.queue_declare("", exclusive=True)

    said = refusal(env, wrong_tag, name)
    assert said == (406, "PRECONDITION_FAILED - unknown delivery tag 99")


def test_an_error_costs_the_channel_only(env: Any, channel: Any, name: str) -> None:
    channel.queue_declare(name, durable=True)
    channel.basic_publish("", name, b"")
    doomed = channel.connection.channel()
    doomed.basic_get(name)
    with pytest.raises(Closed):
        doomed.queue_declare(name + ".one", passive=True)
    assert doomed.is_closed
    settle(env, name, 1)
    (again, _, _), *_ = all_of(env, name, 1)
    assert again.redelivered


# Dead letters, time, priorities


def dead_letters(channel: Any, name: str, **arguments: Any) -> None:
    """Declare NAME, whose dead letters go to NAME.dead."""
    back = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": name + ".dead"}
    channel.queue_declare(name, durable=True, arguments=back | arguments)
    channel.queue_declare(name + ".dead", durable=True)


def test_rejected(env: Any, channel: Any, name: str) -> None:
    dead_letters(channel, name)
    channel.basic_publish("", name, b"x", pika.BasicProperties(headers={"own": 1}))
    channel.basic_reject(channel.basic_get(name)[0].delivery_tag, requeue=False)
    ((method, properties, body),) = all_of(env, name + ".dead", 1)
    assert deaths(properties, name) == [("rejected", "NAME", "1", "", "['NAME']")]
    assert (body, properties.headers["own"]) == (b"x", 1)
    assert method.exchange == ""
    first = {k[14:]: v for k, v in properties.headers.items() if "first-death" in k}
    assert first == {"exchange": "", "queue": name, "reason": "rejected"}


def test_without_a_dlx_it_is_dropped(env: Any, channel: Any, name: str) -> None:
    channel.queue_declare(name, durable=True)
    channel.basic_publish("", name, b"")
    channel.basic_nack(channel.basic_get(name)[0].delivery_tag, requeue=False)
    channel.connection.process_data_events()
    settle(env, name, 0)


def test_expired_by_queue_and_by_message(env: Any, channel: Any, name: str) -> None:
    dead_letters(channel, name, **{"x-message-ttl": 150})
    channel.basic_publish("", name, b"queue")
    ((_, properties, _),) = all_of(env, name + ".dead", 1)
    assert deaths(properties, name) == [("expired", "NAME", "1", "", "['NAME']")]
    channel.basic_publish("", name, b"own", pika.BasicProperties(expiration="50"))
    ((_, properties, _),) = all_of(env, name + ".dead", 1)
    assert properties.expiration is None
    assert properties.headers["x-death"][0]["original-expiration"] == "50"


def test_only_the_head_of_a_queue_expires(env: Any, channel: Any, name: str) -> None:
    dead_letters(channel, name)
    start = env.clock()
    for expiration in ("400", "100", "200"):
        about = pika.BasicProperties(expiration=expiration)
        channel.basic_publish("", name, expiration.encode(), about)
    got = bodies(env, name + ".dead", 3)
    assert got == [b"400", b"100", b"200"]
    assert env.clock() - start >= 0.39


def test_deaths_are_merged_and_newest_first(env: Any, channel: Any, name: str) -> None:
    wait = {"x-dead-letter-exchange": "", "x-message-ttl": 50}
    wait["x-dead-letter-routing-key"] = name
    channel.queue_declare(name + ".back", durable=True, arguments=wait)
    back = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": name + ".back"}
    channel.queue_declare(name, durable=True, arguments=back)
    channel.basic_publish("", name, b"")
    seen = []
    for _ in range(3):
        settle(env, name, 1)
        method, properties, _ = channel.basic_get(name)
        if properties.headers:
            seen.append([death[:3] for death in deaths(properties, name)])
        channel.basic_reject(method.delivery_tag, requeue=False)
    assert seen == [
        [("expired", "NAME.back", "1"), ("rejected", "NAME", "1")],
        [("expired", "NAME.back", "2"), ("rejected", "NAME", "2")],
    ]


def test_a_quorum_queue_buries_what_comes_back_too_often(
    env: Any, channel: Any, name: str
) -> None:
    dead_letters(channel, name, **{"x-queue-type": "quorum", "x-delivery-limit": 2})
    channel.basic_publish("", name, b"poison")
    counts = []
    for _ in range(3):
        settle(env, name, 1)
        method, properties, _ = channel.basic_get(name)
        counts.append((properties.headers or {}).get("x-delivery-count", 0))
        channel.basic_reject(method.delivery_tag, requeue=True)
    ((_, properties, _),) = all_of(env, name + ".dead", 1)
    assert counts == [0, 1, 2]
    assert deaths(properties, name)[0][:3] == ("delivery_limit", "NAME", "1")


def test_priorities_then_age(env: Any, channel: Any, name: str) -> None:
    channel.queue_declare(name, durable=True, arguments={"x-max-priority": 5})
    for number, priority in enumerate((0, 5, None, 9, 2, 5)):
        about = pika.BasicProperties(priority=priority)
        channel.basic_publish("", name, b"%d" % number, about)
    assert bodies(env, name, 6) == [b"1", b"3", b"5", b"4", b"0", b"2"]


# What differs between the versions: each rule is put to the broker that answers


def taken(channel: Any, queue: str) -> tuple[Any, Any, bytes]:
    """Get a message as soon as there is one; a quorum queue takes a moment."""
    got: tuple[Any, Any, Any] = NOTHING

    def came() -> bool:
        nonlocal got
        got = channel.basic_get(queue)
        return got != NOTHING

    wait_for(came)
    return got


def poisoned(channel: Any, name: str, attempts: int, **how: Any) -> bool:
    """Send one message back time and again; tell whether it stays in its queue."""
    channel.basic_publish("", name, b"")
    back = getattr(channel, how.pop("by"))
    for _ in range(attempts):
        back(taken(channel, name)[0].delivery_tag, requeue=True)
    time.sleep(0.2)
    return bool(channel.queue_declare(name, passive=True).method.message_count)


def default_limit(channel: Any, name: str) -> str:
    channel.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum"})
    stays = poisoned(channel, name, 21, by="basic_reject")
    return "none unless given" if stays else "20 unless given"


def nack_counts(channel: Any, name: str) -> str:
    limited = {"x-queue-type": "quorum", "x-delivery-limit": 1}
    channel.queue_declare(name, durable=True, arguments=limited)
    stays = poisoned(channel, name, 2, by="basic_nack")
    return "does not count" if stays else "counts"


def buried(channel: Any, name: str, headers: Any = None) -> tuple[Any, Any]:
    """Reject a message; return what its dead letter says of itself."""
    channel.basic_publish("", name, b"", pika.BasicProperties(headers=headers))
    channel.basic_reject(taken(channel, name)[0].delivery_tag, requeue=False)
    method, properties, _ = taken(channel, name + ".dead")
    channel.basic_ack(method.delivery_tag)
    return method, properties


def second_death(channel: Any, name: str) -> str:
    dead_letters(channel, name)
    headers = buried(channel, name)[1].headers
    (death,) = buried(channel, name, headers)[1].headers["x-death"]
    return {1: "begins at 1", 2: "goes on counting"}[death["count"]]


def redelivered(channel: Any, name: str) -> str:
    dead_letters(channel, name)
    return "yes" if buried(channel, name)[0].redelivered else "no"


def large_body(channel: Any, name: str) -> str:
    channel.queue_declare(name, durable=True)
    try:
        channel.basic_publish("", name, bytes(2**24 + 1))
    except Closed as refused:
        assert refused.reply_code == 406
        return "refused"
    return "taken"


def quorum_priority(channel: Any, name: str) -> str:
    channel.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum"})
    for priority in (0, 5):
        about = pika.BasicProperties(priority=priority)
        channel.basic_publish("", name, b"%d" % priority, about)
    wait_for(lambda: channel.queue_declare(name, passive=True).method.message_count > 1)
    return {b"0": "ignored", b"5": "obeyed"}[taken(channel, name)[2]]


def transient(channel: Any, name: str) -> str:
    try:
        channel.queue_declare(name, durable=False)
    except pika.exceptions.ConnectionClosedByBroker as refused:
        assert refused.reply_code == 541
        return "refused"
    return "taken"


def global_prefetch(channel: Any, name: str) -> str:
    try:
        channel.basic_qos(prefetch_count=1, global_qos=True)
    except Closed as refused:
        return str(refused.reply_code)
    got = []
    for suffix in ("", ".one"):
        channel.queue_declare(name + suffix, durable=True)
        channel.basic_publish("", name + suffix, b"")
        channel.basic_consume(name + suffix, lambda *one: got.append(one))
    channel.connection.process_data_events(0.5)
    return {1: "for the channel", 2: "for each consumer"}[len(got)]


def three_hashes(channel: Any, name: str) -> str:
    channel.exchange_declare(name, "topic", durable=True)
    channel.queue_declare(name, durable=True)
    try:
        channel.queue_bind(name, name, "#.#.#")
    except Closed as refused:
        assert refused.reply_code == 406
        return "refused"
    return "taken"


ASKED: dict[str, Callable[[Any, str], str]] = {
    "delivery limit of a quorum queue": default_limit,
    "x-death of a message sent again": second_death,
    "a body of over 16 MiB": large_body,
    "priorities on a quorum queue": quorum_priority,
    "nack towards the delivery limit": nack_counts,
    "a dead letter as redelivered": redelivered,
    "a transient named queue": transient,
    "a global prefetch": global_prefetch,
    "a topic's pattern of three #": three_hashes,
}


@pytest.mark.parametrize("rule", lesson.RULES, ids=lambda rule: rule[0])
def test_the_rules_are_those_of_the_version(env: Any, name: str, rule: Any) -> None:
    what, since, before, after = rule
    old = lesson.version_of(env.version) < lesson.version_of(since)
    with env.rabbit.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        found = ASKED[what](channel, name)
    if not env.live and what == "a global prefetch":
        before = "540"  # the stand-in says that it has none
    assert found == (before if old else after)


def test_every_rule_is_asked_for() -> None:
    assert [what for what, *_ in lesson.RULES] == list(ASKED)


# Ours on both


def test_setup_is_idempotent_and_teardown_leaves_nothing(env: Any) -> None:
    prefix = env.rabbit.prefix + ".setup"
    rabbit = lesson.RabbitMQConnection(env.rabbit.parameters, prefix)
    rabbit.setup_infrastructure()
    rabbit.setup_infrastructure()
    with rabbit.connect() as connection:
        assert all(rabbit.look(connection, item) for item in rabbit.plan)
        rabbit.teardown()
        assert not any(rabbit.look(connection, item) for item in rabbit.plan)


def test_a_refused_setup_declares_nothing(env: Any, channel: Any) -> None:
    prefix = env.rabbit.prefix + ".refused"
    rabbit = lesson.RabbitMQConnection(env.rabbit.parameters, prefix)
    work = rabbit.name("archive")
    channel.queue_declare(work, durable=True)
    try:
        with pytest.raises(lesson.BadInput, match="inequivalent arg 'x-"):
            rabbit.setup_infrastructure()
        with rabbit.connect() as connection:
            there = [item for item in rabbit.plan if rabbit.look(connection, item)]
        assert [name for _, name, _ in there] == [work]
    finally:
        channel.queue_delete(work)


def test_poisoned_headers_cost_themselves(env: Any) -> None:
    """A header that pika cannot even decode breaks the connection, five times."""
    queue = env.queue("poisoned")
    limit = 3
    item = next(item for item in env.rabbit.plan if item[1] == queue)
    item[2]["arguments"]["x-delivery-limit"] = limit
    with env.rabbit.connect() as connection:
        connection.channel().queue_delete(queue)
    env.rabbit.setup_infrastructure()
    headers: list[Any] = [
        {"x-retry-count": "many"},
        {"x-retry-count": -1},
        {"x-retry-count": True},
        {"x-retry-count": 2**60},
        {"x-retry-count": [1, {"deep": [None]}], "x-first-failure": {"a": 1}},
        {"x-first-failure": 5, "x-error": b"\xff"},
    ]
    with lesson.Producer(env.rabbit) as producer, lesson.Ledger() as ledger:
        for number, one in enumerate(headers):
            _, _, body, about = lesson.addressed(lesson.user(number), "", queue)
            about.headers = one
            producer.publish("", queue, body, about)
        with lesson.running(
            lesson.UserDataConsumer(env.rabbit, queue, producer, ledger)
        ):
            env.until(lambda: env.rabbit.ready(queue + ".dead") == 5)
            env.until(lambda: len(ledger.effects(queue)) == 1)
    dead = lesson.emptied(env.rabbit, queue + ".dead")
    assert {about.headers["x-error"] for about, _ in dead} == {
        "BadMessage: header x-retry-count is no count"
    }


class Undecodable(pika.BasicProperties):  # type: ignore[name-defined, misc]
    """A header that RabbitMQ takes and pika cannot read: a time in the far future."""

    def encode(self) -> list[bytes]:
        entry = b"\x01tT" + struct.pack(">Q", 2**62)
        return [struct.pack(">HI", 1 << 13, len(entry)), entry]


@pytest.mark.parametrize("kind", ["quorum", "classic"])
def test_an_undecodable_header_costs_only_itself(env: Any, kind: str) -> None:
    queue = env.queue(f"undecodable.{kind}", priorities=int(kind == "classic"))
    with env.rabbit.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        if not env.live:  # the stand-in reads with pika's codec: it refuses the sender
            with pytest.raises(pika.exceptions.ConnectionClosedByBroker):
                channel.basic_publish("", queue, b"", Undecodable())
            return
        for where in (queue, queue + ".dead"):
            channel.basic_publish("", where, b"poison", Undecodable())
    with lesson.Producer(env.rabbit) as producer, lesson.Ledger() as ledger:
        lesson.publish(producer, queue, lesson.users(10))  # all in one prefetch
        consumer = lesson.UserDataConsumer(env.rabbit, queue, producer, ledger)
        with lesson.running(consumer):
            env.until(lambda: len(ledger.effects(queue)) == 10)
            env.until(lambda: env.rabbit.ready(queue + ".dead") == 2)
        assert consumer.counts["reconnects"] == 0
        assert lesson.redrive(env.rabbit, queue, producer) == 2
    found = lesson.emptied(env.rabbit, queue)
    assert [body for _, body in found] == [b"poison"] * 2


def test_a_dead_letter_may_be_looked_at_often(env: Any) -> None:
    """From 4.0 on a quorum queue drops what came back 20 times, unless told not to."""
    dead = env.queue("looked.at") + ".dead"
    with env.rabbit.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish("", dead, b"")
        for _ in range(25):
            channel.basic_reject(taken(channel, dead)[0].delivery_tag)
    settle(env, dead, 1)


@pytest.mark.slow
def test_seven_seconds_of_work_at_a_heartbeat_of_two(env: Any) -> None:
    """Inline, the work costs the connection; on the pool, meanwhile, it does not."""
    inline, pooled = env.queue("heartbeat.inline"), env.queue("heartbeat.pooled")
    rabbit = copy.copy(env.rabbit)
    rabbit.parameters = copy.copy(rabbit.parameters)
    rabbit.parameters.heartbeat = 2

    def work(_: Any) -> None:
        time.sleep(7)

    with lesson.Producer(env.rabbit) as producer:
        lesson.publish(producer, inline, lesson.users(1))
        lesson.publish(producer, pooled, lesson.users(1))
        seen = lesson.FunctionConsumer(work, rabbit, pooled, producer)
        with lesson.running(seen):
            with pytest.raises(pika.exceptions.AMQPConnectionError):
                lesson.consume_inline(rabbit, inline, work)
            env.until(lambda: seen.counts["acked"] == 1)
            assert seen.counts["reconnects"] == 0
    settle(env, pooled, 0)
    settle(env, inline, 1)
    ((method, _, _),) = all_of(env, inline, 1)
    assert method.redelivered
