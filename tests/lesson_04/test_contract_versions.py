"""What differs between RabbitMQ's versions: each rule is put to who answers."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable
from typing import Any

import pika
import pytest
from lesson_04.contract_helpers import Closed, dead_letters, taken
from services import wait_for

# region rules
RULES = (  # what, since when (the last by 4.3.6), before it and after
    ("delivery limit of a quorum queue", "4.0", "none by default", "20 by default"),
    ("x-death of a message sent again", "4.0", "goes on counting", "begins at 1"),
    ("a body of over 16 MiB", "4.0", "taken", "refused"),
    ("priorities on a quorum queue", "4.0", "ignored", "obeyed"),
    ("nack towards the delivery limit", "4.3", "counts", "does not count"),
    ("a dead letter as redelivered", "4.3", "no", "yes"),
    ("a transient named queue", "4.3", "taken", "refused"),
    ("a global prefetch", "4.3", "for the channel", "for each consumer"),
    ("a topic's pattern of three #", "4.3", "taken", "refused"),
)
# endregion rules


def version_of(text: str) -> tuple[int, ...]:
    """Return the numbers of a version such as 3.10.8."""
    return tuple(int(number) for number in re.findall(r"\d+", text)[:2])


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
    return "none by default" if stays else "20 by default"


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


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule[0])
def test_the_rules_are_those_of_the_version(env: Any, name: str, rule: Any) -> None:
    what, since, before, after = rule
    old = version_of(env.version) < version_of(since)
    with env.rabbit.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        found = ASKED[what](channel, name)
    if not env.live and what == "a global prefetch":
        before = "540"  # the stand-in says that it has none
    assert found == (before if old else after)


def test_every_rule_is_asked_for() -> None:
    assert [what for what, *_ in RULES] == list(ASKED)


def test_versions_are_compared_as_numbers() -> None:
    order = ["3.9", "3.10.8", "3.13.0-rc.1", "4.0.1", "4.3", "4.12"]
    for older, newer in itertools.pairwise(order):
        assert version_of(older) < version_of(newer)
