"""The stand-in answers as RabbitMQ does: what it refuses, and in which words."""

from __future__ import annotations

from typing import Any

import pytest
from lesson_04.contract_helpers import Closed, all_of, refusal, settle

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
