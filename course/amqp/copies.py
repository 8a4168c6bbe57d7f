"""What a consumer publishes in place of a message: with all that the publisher sent."""

from __future__ import annotations

import copy
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from threading import Event
from typing import Any

from pika import BasicProperties

from course.amqp.errors import (
    MessagingError,
    NotInTime,
    ProducerEnded,
    PublishFailed,
    Unpublishable,
    Unroutable,
)
from course.amqp.pending import Pending
from course.amqp.publishing import DEADLINE
from course.amqp.strict import utc_now
from course.lab import outcome_of

PERSISTENT_MODE = 2
RETURNS = "x-return-count"  # of a classic queue, which does not count them itself
OURS = ("x-retry-count", "x-first-failure", "x-error", "x-queue", RETURNS)
BROKERS = ("x-death", "x-delivery-count", "x-acquired-count", "x-opt-deaths")
BROKERS_BEGIN = ("x-first-death-", "x-last-death-", "x-opt-rabbitmq-")
ADDRESSES = ("CC", "BCC")  # by which the broker sends it to further queues
DROPPED = "x-dropped-headers"
MOST_HEADERS = 64 * 1024  # bytes: all of them share one frame, of 128 KiB as a rule


class ReturnedTooOften(MessagingError):
    """Delivered again and again: whoever takes it dies of it, or of something else."""


def sent_headers(properties: Any) -> dict[str, Any]:
    """Return the headers that the publisher sent: neither ours nor the broker's.

    Nor those that name further queues, which have got the message already: they would
    get each copy, also of what is dead or comes back from a wait.
    """
    kept = {}
    for name, value in (properties.headers or {}).items():
        text = as_text(name)
        # Trap: to go by how more of them begin. Whoever delivers parcels sends an
        # x-delivery-country, and whoever asks for consent an x-opt-in.
        known = text in (*OURS, *BROKERS, *ADDRESSES)
        if not known and not text.startswith(BROKERS_BEGIN):
            kept[text] = value
    return kept


def as_text(name: str | bytes) -> str:
    """Return a header's name, which pika reads as bytes if it is not UTF-8."""
    return name if isinstance(name, str) else bytes(name).decode("latin-1")


def writable(value: Any) -> Any:
    """Return a header's value with the numbers in it that are too large as text.

    pika reads a double as a whole number, and writes none of more than 64 bits.
    """
    if isinstance(value, dict):
        return {as_text(name): writable(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [writable(inner) for inner in value]
    if isinstance(value, int) and value.bit_length() > 63:
        return str(int(value))
    return value


def can_be_sent(headers: Mapping[str, Any]) -> bool:
    """Tell whether pika can write headers."""
    encode = BasicProperties(headers=headers).encode
    return not isinstance(outcome_of(encode), Exception)


def sendable_headers(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Return those headers that can be sent, and a note if others were dropped."""
    if can_be_sent(headers):
        return dict(headers)
    found: dict[str, Any] = {}
    for name, value in headers.items():
        header = {name: writable(value)}
        found |= header if can_be_sent(header) else {DROPPED: True}
    return found


def ours_alone(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Return our headers only, and that others were dropped."""
    ours = {name: headers[name] for name in OURS if name in headers}
    return {DROPPED: True, **ours}


def copied(properties: Any, headers: dict[str, Any]) -> Any:
    """Return properties as the publisher sent them, and headers of ours beside his.

    Two can't stay: an expiration, or it would expire where it waits or lies dead; and
    a user id, which RabbitMQ compares with that of the connection: ours. And a float is
    a whole number from here on, because pika reads it as one: send it as text.
    """
    same = copy.copy(properties)
    same.expiration = None
    same.user_id = None
    same.delivery_mode = PERSISTENT_MODE
    same.message_id = properties.message_id or uuid.uuid4().hex
    same.headers = sendable_headers(sent_headers(properties) | headers) or None
    if sum(len(piece) for piece in same.encode()) > MOST_HEADERS:
        same.headers = ours_alone(headers)
    return same


def described(error: BaseException) -> str:
    """Return an error with its class, also one whose own text can't be made."""
    name = type(error).__name__
    try:
        return f"{name}: {error}"
    except Exception as another:  # else the message would come again for ever
        return f"{name}, whose text fails with {type(another).__name__}"


def is_deleted(error: PublishFailed) -> bool:
    """Tell whether somebody has deleted the queue, or the exchange, of a publish."""
    return isinstance(error, Unroutable) or "no exchange" in str(error)


class Copies:
    """Publishes copies for a consumer, which acknowledges the original after that."""

    rabbit: Any
    queue: str
    producer: Any
    stopping: Event
    counts: Counter[str]
    replacing: set[object]  # of what a copy is being published in its place

    def bury(self, delivery: Any, error: BaseException, attempts: int) -> None:
        """Publish a copy to the dead letters."""
        raise NotImplementedError

    def acknowledge(self, delivery: Any) -> None:
        """Queue an acknowledgement."""
        raise NotImplementedError

    def round_trip(self) -> None:
        """Wait until the broker has read all acknowledgements so far."""
        raise NotImplementedError

    def stop_listening(self) -> None:
        """End the session; a new one begins unless the consumer is stopped."""
        raise NotImplementedError

    def about_copy(self, delivery: Any, error: BaseException, count: int) -> Any:
        """Return a copy's properties: the original's, and why it failed."""
        headers = delivery.properties.headers or {}
        first = headers.get("x-first-failure")
        text = ascii(described(error))[1:-1]
        ours = {
            "x-retry-count": count,
            "x-first-failure": first if isinstance(first, str) else utc_now(),
            # printable ASCII, 300 characters: headers share one frame
            "x-error": text[:300],
            "x-queue": self.queue,
        }
        if type(headers.get(RETURNS)) is int:
            ours[RETURNS] = headers[RETURNS]
        return copied(delivery.properties, ours)

    def publish_copy(self, delivery: Any, exchange: str, key: str, about: Any) -> None:
        """Publish a copy, and wait for its confirm: also while publishing is blocked.

        Given back meanwhile, the original would come again, and each time count as a
        failure of its own until the broker buries it.
        """
        if self.producer is None:
            raise ProducerEnded("there is no producer to put aside what fails")
        while True:
            try:
                pending = self.producer.send(exchange, key, delivery.body, about)
                self._wait_for_confirm(delivery, pending)
            except NotInTime:
                if self._is_given_up(delivery):
                    raise
                self.counts["delayed"] += 1
            except Unpublishable:
                # With our headers beside his, they fill more than a frame.
                if DROPPED in about.headers:
                    raise
                about.headers = ours_alone(about.headers)
            except PublishFailed as error:
                if is_deleted(error) and self._is_planned(exchange or key):
                    self.stop_listening()  # the next connection declares it again
                raise
            else:
                return

    def _wait_for_confirm(self, delivery: Any, pending: Pending) -> None:
        """Wait as long as it takes: what is sent twice will be there twice."""
        while not pending.confirmed.wait(self.producer.deadline):
            if self._is_given_up(delivery):
                pending.end(self.producer.too_late(pending, "not confirmed"))
                break
            self.counts["delayed"] += 1
        self.producer.wait(pending)

    def _is_given_up(self, delivery: Any) -> bool:
        """Tell whether the broker gives the original to somebody else."""
        return self.stopping.is_set() or not delivery.channel.is_open

    def _is_planned(self, name: str) -> bool:
        """Tell whether we declare what has this name."""
        return any(item.name == name for item in self.rabbit.plan)

    def counted_again(self, delivery: Any, limit: int) -> bool:
        """Count how often a classic queue has delivered a message; tell if we did.

        A quorum queue counts itself, and buries what comes back too often. For a
        classic one a copy with a count of ours takes the message's place.
        """
        headers = delivery.properties.headers or {}
        this = (delivery.properties.message_id, delivery.body)
        if not delivery.redelivered or self.is_quorum(delivery):
            if RETURNS in headers:
                self._wait_for_original(this)
            return False
        count = headers.get(RETURNS, 0)
        count = count + 1 if type(count) is int else 1
        retries = headers.get("x-retry-count", 0)
        if count > limit:
            error = ReturnedTooOften(f"delivered {count} times without an end")
            self.bury(delivery, error, retries)
            return True
        ours = {name: headers[name] for name in OURS if name in headers}
        about = copied(delivery.properties, ours | {RETURNS: count})
        self.replacing.add(this)
        try:
            self.publish_copy(delivery, "", self.queue, about)
            self.acknowledge(delivery)
            with suppress(TimeoutError):
                self.round_trip()
        finally:
            self.replacing.discard(this)
        return True

    def _wait_for_original(self, this: object) -> None:
        """Let the broker forget an original before its copy is worked on here.

        Else who dies at that moment leaves both, and their number grows.
        """
        end = time.monotonic() + DEADLINE
        while this in self.replacing and time.monotonic() < end:
            time.sleep(0.005)

    def rejections(self, delivery: Any) -> int:
        """Return how often a queue that delays retries itself has got it back."""
        count = (delivery.properties.headers or {}).get("x-delivery-count", 0)
        return int(count) if count and self.rabbit.delays_itself(self.queue) else 0

    def is_quorum(self, delivery: Any) -> bool:
        """Tell whether our queue counts deliveries itself."""
        for item in self.rabbit.plan:
            if item.kind == "queue" and item.name == self.queue:
                arguments = item.options["arguments"]
                return bool(arguments.get("x-queue-type") == "quorum")
        headers = delivery.properties.headers or {}
        return "x-delivery-count" in headers or "x-acquired-count" in headers
