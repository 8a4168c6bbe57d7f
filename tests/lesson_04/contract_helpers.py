"""What the contract tests of lesson 04 ask a broker."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pika
import pytest
from services import wait_for

from course.amqp.trials import EMPTY

Closed = pika.exceptions.ChannelClosedByBroker


def all_of(env: Any, queue: str, count: int) -> list[tuple[Any, Any, bytes]]:
    """Wait for a number of messages, take them, and see that there are no more."""
    got: list[tuple[Any, Any, bytes]] = []
    with env.rabbit.connect() as connection:
        get = partial(connection.channel().basic_get, queue, auto_ack=True)

        def came() -> bool:
            got.extend(iter(get, EMPTY))
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


def missing(env: Any, queue: str) -> bool:
    with env.rabbit.connect() as connection:
        try:
            connection.channel().queue_declare(queue, passive=True)
        except Closed as closed:
            return bool(closed.reply_code == 404)
    return False


def take_some(env: Any, queue: str) -> list[tuple[Any, Any, bytes]]:
    with env.rabbit.connect() as connection:
        get = partial(connection.channel().basic_get, queue, auto_ack=True)
        return list(iter(get, EMPTY))


def dead_letters(channel: Any, name: str, **arguments: Any) -> None:
    """Declare NAME, whose dead letters go to NAME.dead."""
    back = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": name + ".dead"}
    channel.queue_declare(name, durable=True, arguments=back | arguments)
    channel.queue_declare(name + ".dead", durable=True)


def taken(channel: Any, queue: str) -> tuple[Any, Any, bytes]:
    """Get a message as soon as there is one; a quorum queue takes a moment."""
    got: tuple[Any, Any, Any] = EMPTY

    def came() -> bool:
        nonlocal got
        got = channel.basic_get(queue)
        return got != EMPTY

    wait_for(came)
    return got
