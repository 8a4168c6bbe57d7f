"""How demos and tests try a consumer, and look into a queue."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from course.amqp.publishing import DEADLINE
from course.lab import in_background

EMPTY = (None, None, None)  # what basic_get returns of a queue without messages
BEAT = 0.01  # seconds


def consumer_with(
    kind: Any, work: Callable[[Any], object], *args: Any, **options: Any
) -> Any:
    """Return a consumer of a kind whose work is a function; its result is the effect.

    `kind` is any step of the lesson's consumer, up to the complete one.
    """

    def handle(_: object, message: Any) -> Any:
        effect = work(message)
        return effect if callable(effect) else str(effect)

    concrete = type(kind.__name__, (kind,), {"handle": handle})
    return concrete(*args, **options)


@contextmanager
def running(consumer: Any) -> Iterator[Any]:
    """Consume in a thread for the length of a block."""
    done = in_background(consumer.start_consuming)
    try:
        consumer.ready.wait(DEADLINE)
        yield consumer
    finally:
        consumer.stop()
        with suppress(TimeoutError):  # a frozen broker answers no goodbye
            done.result(consumer.drain + DEADLINE)


def all_in(channel: Any, queue: str, auto_ack: bool = True) -> Iterator[Any]:
    """Yield (method, properties, body) until a queue is empty."""
    return iter(partial(channel.basic_get, queue, auto_ack), EMPTY)


def emptied(rabbit: Any, queue: str) -> list[tuple[Any, bytes]]:
    """Take all messages out of a queue: (properties, body)."""
    with rabbit.channel() as channel:
        return [(properties, body) for _, properties, body in all_in(channel, queue)]


def with_timer(rabbit: Any, ticks: list[float]) -> Any:
    """Return `rabbit` with connections that, while served, note every BEAT a tick.

    As long as it does not tick, heartbeats go unanswered, too.
    """

    def tick(connection: Any) -> None:
        ticks.append(time.monotonic())
        connection.call_later(BEAT, partial(tick, connection))

    def connect() -> Any:
        connection = rabbit.connect()
        tick(connection)
        return connection

    watched = copy.copy(rabbit)
    watched.connect = connect
    return watched
