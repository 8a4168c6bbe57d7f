"""A publish on its way."""

from __future__ import annotations

import time
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pika import BasicProperties

from course.amqp.errors import PublishFailed


class Confirmation(Future[None]):
    """The promise of a confirm; it knows whether somebody has asked how it ended."""

    heard = False

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return how it failed, or None; from here on it is known."""
        failure = super().exception(timeout)
        self.heard = True
        return failure

    def result(self, timeout: float | None = None) -> None:
        """Raise if it failed; from here on that is known."""
        try:
            super().result(timeout)
        finally:
            self.heard = self.done()


@dataclass(eq=False)
class Pending:
    """A publish on its way: what is sent, and the promise of a confirm."""

    exchange: str
    key: str
    body: bytes
    properties: Any
    confirmed: Confirmation = field(default_factory=Confirmation)
    since: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if self.properties is None:
            self.properties = BasicProperties()
        # What is returned is known by these two: refused here, not in the I/O thread.
        for text in (self.key, self.properties.message_id or ""):
            if not isinstance(text, str):
                raise TypeError(f"key and message_id are str, not {text!r}")

    @property
    def message_id(self) -> str:
        """The id to send it again with; empty if it has none."""
        return self.properties.message_id or ""

    @property
    def is_confirmed(self) -> bool:
        """Whether the broker has confirmed it."""
        return self.confirmed.done() and self.confirmed.exception() is None

    def end(self, error: PublishFailed | None) -> None:
        """Settle it, unless that has happened: whoever waited may have given it up."""
        with suppress(InvalidStateError):
            if error:  # which others may share
                self.confirmed.set_exception(error.about(self.message_id))
            else:
                self.confirmed.set_result(None)

    @property
    def target(self) -> str:
        """Where it was sent, for an error."""
        return f"{self.key!r} at exchange {self.exchange!r}"

    @property
    def sent_to(self) -> tuple[str, str, str]:
        """What a returned message is known by.

        An id alone is not enough: a fanout's messages may share theirs with others.
        """
        return self.exchange, self.key, self.properties.message_id
