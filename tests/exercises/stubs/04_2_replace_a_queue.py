"""Replace a queue by another while publishers go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Delivery:
    """A message that was taken from a queue."""

    tag: int
    properties: Mapping[str, object]
    body: bytes


class Broker(Protocol):
    """What the function may ask of the broker; every call may raise ConnectionError.

    Queues, bindings and messages outlast an error. What was taken and not acknowledged
    goes back to its queue then.
    """

    def declare(self, queue: str, arguments: Mapping[str, object]) -> None:
        """Create a queue; one with the same arguments stays as it is."""

    def bind(self, queue: str, exchange: str, key: str) -> None:
        """Bind a queue to an exchange; doing it again changes nothing."""

    def unbind(self, queue: str, exchange: str, key: str) -> None:
        """Remove a binding; neither it nor the queue has to exist."""

    def held_by_others(self, queue: str) -> int:
        """Return how many messages of a queue others hold unacknowledged.

        Raises:
            LookupError: there is no such queue.
        """

    def get(self, queue: str) -> Delivery | None:
        """Take the first message that is ready, or return None.

        Raises:
            LookupError: there is no such queue.
        """

    def publish(
        self, queue: str, properties: Mapping[str, object], body: bytes
    ) -> None:
        """Put a message into a queue; return when the broker has confirmed it.

        Raises:
            ConnectionError: it was refused, or not confirmed.
        """

    def ack(self, tag: int) -> None:
        """Remove a message that was taken."""

    def delete(self, queue: str) -> None:
        """Delete a queue with its bindings and with all that is in it, also what others
        hold. The queue does not have to exist.
        """


def replace_queue(
    broker: Broker,
    old: str,
    new: str,
    arguments: Mapping[str, object],
    bindings: Sequence[tuple[str, str]],
) -> int:
    """Put a new queue in the place of an old one, and move the messages.

    Args:
        broker: the connection.
        old: the queue that goes. It has exactly these bindings, or fewer after a run
            that failed, or it is gone already.
        new: the queue that comes; it may exist already, with the same arguments.
        arguments: of the new queue.
        bindings: pairs of exchange and key.

    Returns:
        How many messages were moved by this call.

    Raises:
        ConnectionError: a call failed; run it again.
        RuntimeError: others still hold messages of the old queue. It has no bindings
            any more, and what was ready is moved; run it again.
    """
    raise NotImplementedError
