"""The stand-in answers as RabbitMQ does: dead letters, time, priorities."""

from __future__ import annotations

from typing import Any

import pika
from lesson_04.contract_helpers import all_of, bodies, dead_letters, deaths, settle


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
