"""What a consumer has been given, and how the broker is told that it is done."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from course.amqp.copies import RETURNS
from course.amqp.errors import check_effect

AHEAD = 1.0  # seconds of work that a consumer may hold beside what has begun
CHANGE = 4  # times: by so much has the pace to change until the prefetch follows

Content = tuple[Any, ...]  # by which a message is known


def ahead(now: int, most: int, threads: int, pace: float) -> int:
    """Return how many messages to take ahead, where one takes `pace` seconds.

    What waits for a thread has to be acknowledged in time, like what has begun. `now`
    stays unless the pace has changed much.
    """
    wanted = most
    if most * pace > threads * AHEAD:
        wanted = int(threads * AHEAD / pace)
    much_more = wanted >= CHANGE * now
    much_less = wanted * CHANGE <= now
    return wanted if much_more or much_less else now


@dataclass(eq=False, slots=True)
class Delivery:
    """A message in hand: what to acknowledge, and where."""

    channel: Any
    tag: int
    properties: Any
    body: bytes
    redelivered: bool = False
    rejected: bool = False  # instead of acknowledged: the queue itself delays it
    done: bool = False  # to be settled
    settled: bool = False
    begun: bool = False
    again: list[Delivery] | None = None  # the same message, that came meanwhile

    @property
    def content(self) -> Content | None:
        """Return what tells whether two deliveries are of one message, if anything.

        A copy that waits for another attempt is another message: it has other counts.
        """
        message_id = self.properties.message_id
        if not message_id:
            return None
        headers = self.properties.headers or {}
        counts = [repr(headers.get(name)) for name in ("x-retry-count", RETURNS)]
        return (message_id, self.body, *counts)


class OpenTags:
    """The delivery tags of a channel that the broker still waits for, in order."""

    def __init__(self) -> None:
        self._open: dict[int, None] = {}

    def add(self, tag: int) -> None:
        """Note that a message has come."""
        self._open[tag] = None

    def remove(self, tag: int) -> None:
        """Note that a message was given back."""
        self._open.pop(tag, None)

    def acknowledged(self, tags: Sequence[int]) -> Iterator[tuple[int, bool]]:
        """Yield the acknowledgements of messages: a tag, and whether of all up to it.

        Trap: that takes along what is still being worked on. So it goes only as far as
        nothing is left open.
        """
        wanted = set(tags)
        first = []
        for tag in self._open:
            if tag not in wanted:
                break
            first.append(tag)
        if first:
            yield first[-1], len(first) > 1
        for tag in sorted(wanted.difference(first)):
            yield tag, False
        for tag in tags:
            self.remove(tag)


class ByLedger:
    """Asks a consumer's ledger, if it has one, what has had its effect."""

    queue: str
    ledger: Any

    def is_done(self, message: Any) -> bool:
        """Tell whether a message has had its effect."""
        return bool(self.ledger and self.ledger.is_done(self.queue, message))

    def once(self, message: Any, effect: Any) -> bool:
        """Write an effect unless the message has had it; tell whether it is new."""
        if self.ledger:
            return bool(self.ledger.once(self.queue, message, effect))
        check_effect(effect)
        if callable(effect):  # to forget it would lose it
            raise TypeError("an effect that is a function needs a ledger")
        return True


class InHand:
    """Marks a delivery as begun for the length of a block."""

    __slots__ = ("begun", "consumer", "delivery", "start")

    def __init__(self, consumer: Any, delivery: Delivery) -> None:
        self.consumer = consumer
        self.delivery = delivery
        self.begun = False
        self.start = time.monotonic()

    def __enter__(self) -> bool:
        self.begun = self.consumer.begin(self.delivery)
        return self.begun

    def __exit__(self, *_: object) -> None:
        self.consumer.end(self.delivery, self.begun, time.monotonic() - self.start)
