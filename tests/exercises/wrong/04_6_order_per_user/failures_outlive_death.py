"""The failures of a dead letter count for the next one of its user."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import inf
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


@dataclass
class Lane:
    """What one user has waiting, in order."""

    waiting: deque[Delivery] = field(default_factory=deque)
    failures: int = 0  # of the first
    due: float = -inf  # when the first may be attempted


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
        self.channel = channel
        self.handle = handle
        self.base = base
        self.retries = retries
        self.dead = set(dead_users)
        self.lanes: dict[str, Lane] = {}

    def on_delivery(self, delivery: Delivery, now: float) -> None:
        """Take a delivery: attempt it, bury it, or keep it until its turn comes.

        Raises:
            ConnectionError: the broker is gone.
        """
        lane = self.lanes.setdefault(delivery.user, Lane())
        lane.waiting.append(delivery)
        self.advance(delivery.user, now)

    def on_time(self, now: float) -> None:
        """Attempt what is due, and what is behind it.

        Raises:
            ConnectionError: the broker is gone.
        """
        for user in list(self.lanes):
            self.advance(user, now)

    def redrive(self, letters: Sequence[Delivery], now: float) -> None:
        """Begin again with the dead letters of one user, at least one, in order.

        They are deliveries of the queue of dead letters, with tags of the same channel,
        and are acknowledged as all others are. Nothing else of this user waits.

        Raises:
            ConnectionError: the broker is gone.
        """
        user = letters[0].user
        self.dead.discard(user)
        lane = self.lanes.setdefault(user, Lane())
        lane.waiting.extend(letters)
        self.advance(user, now)

    def advance(self, user: str, now: float) -> None:
        """Settle what one user has waiting, as far as it is due."""
        lane = self.lanes[user]
        while lane.waiting:
            first = lane.waiting[0]
            if user in self.dead:
                self.channel.bury(first, "behind")
            elif now < lane.due or not self.attempt(lane, first, now):
                return
            self.channel.ack(first.tag)
            lane.waiting.popleft()
            if user not in self.dead:
                lane.failures = 0
                lane.due = -inf
        if user not in self.dead:
            del self.lanes[user]

    def attempt(self, lane: Lane, delivery: Delivery, now: float) -> bool:
        """Attempt a delivery; tell whether it is done or buried."""
        try:
            self.handle(delivery)
        except Exception as error:
            if isinstance(error, ValueError) or lane.failures == self.retries:
                # Remembered first: what is delivered from now on comes behind it.
                self.dead.add(delivery.user)
                self.channel.bury(delivery, str(error))
                return True
            lane.due = now + self.base * 2**lane.failures
            lane.failures += 1
            return False
        return True
