"""Retry and bury messages without changing the order of any user's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Delivery:
    """A message that the broker has delivered."""

    tag: int
    user: str
    body: bytes


class Channel(Protocol):
    """What the consumer may ask of the broker; both may raise ConnectionError."""

    def ack(self, tag: int) -> None:
        """Tell the broker that a delivery is settled."""

    def bury(self, delivery: Delivery, reason: str) -> None:
        """Publish a copy to the dead letters' end; return when it is confirmed."""


class OrderedConsumer:
    """Attempts deliveries in the order of each user, with backoff and dead letters.

    Args:
        channel: acknowledges and buries.
        handle: does the work of a delivery. It raises ValueError for what fails the
            same way every time, and any other Exception for what is worth a retry.
        base: seconds before the first further attempt; each later wait is doubled.
        retries: how many further attempts each message has, 0 or more.
        dead_users: users who have dead letters from before.
    """

    def __init__(
        self,
        channel: Channel,
        handle: Callable[[Delivery], None],
        base: float,
        retries: int,
        dead_users: Iterable[str] = (),
    ) -> None:
        raise NotImplementedError

    def on_delivery(self, delivery: Delivery, now: float) -> None:
        """Take a delivery: attempt it, bury it, or keep it until its turn comes.

        Raises:
            ConnectionError: the broker is gone.
        """
        raise NotImplementedError

    def on_time(self, now: float) -> None:
        """Attempt what is due, and what is behind it.

        Raises:
            ConnectionError: the broker is gone.
        """
        raise NotImplementedError

    def redrive(self, letters: Sequence[Delivery], now: float) -> None:
        """Begin again with the dead letters of one user, at least one, in order.

        They are deliveries of the queue of dead letters, with tags of the same channel,
        and are acknowledged as all others are. Nothing else of this user waits.

        Raises:
            ConnectionError: the broker is gone.
        """
        raise NotImplementedError
