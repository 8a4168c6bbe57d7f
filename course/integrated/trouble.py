"""What `--chaos` breaks while the shop runs, and what takes its place in a calm run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from course.console import note
from course.integrated.broker import Broker
from course.integrated.cache import redis_place, stand_in_server
from course.integrated.task import Place
from course.integrated.waiting import reach
from course.network import FaultyNetwork

Trouble = Callable[[str], AbstractContextManager[None]]  # takes when it comes


@dataclass(frozen=True)
class Broken:
    """Something that was broken, when, and what that cost."""

    what: str
    when: str
    cost: str


class Calm:
    """A run without trouble: everybody reaches everything, and nobody dies."""

    def __init__(self) -> None:
        self.broken: list[Broken] = []

    def way_to_broker(self, place: Place) -> Place:
        """Return where workers and producer reach the broker that is at a place."""
        return place

    def way_to_redis(self) -> Place | None:
        """Return where workers reach Redis, if not where its URL says."""
        return None

    def first_death(self, orders: int, workers: int) -> int:
        """Return after how many orders a worker dies, the first one; 0 for never."""
        return 0

    @contextmanager
    def without_connections(self, when: str) -> Iterator[None]:
        """Leave the connections to the broker alone."""
        yield

    @contextmanager
    def without_redis(self, when: str) -> Iterator[None]:
        """Leave Redis alone."""
        yield


class Chaos(Calm):
    """Kills a worker, cuts all connections to the broker, and takes Redis away.

    A server that others use, too, is left alone: a network of our own before it fails.
    """

    def __init__(self, broker: Broker, redis: Any, stack: ExitStack) -> None:
        super().__init__()
        self.broker = broker
        self.redis = redis  # lesson 03's back end
        self.stack = stack
        self.to_broker: FaultyNetwork | None = None
        self.to_redis: FaultyNetwork | None = None  # before a live one

    def network_before(self, place: Place) -> FaultyNetwork:
        """Return a network of our own before a server, for the length of the run."""
        return self.stack.enter_context(FaultyNetwork(place.host, place.port))

    def way_to_broker(self, place: Place) -> Place:
        """Put a network before the broker, and return where it begins."""
        self.to_broker = self.network_before(place)
        return Place("127.0.0.1", self.to_broker.port)

    def way_to_redis(self) -> Place | None:
        """Put a network before a live Redis; the stand-in has a switch of its own."""
        if not self.redis.live:
            return None
        self.to_redis = self.network_before(redis_place(self.redis))
        return Place("127.0.0.1", self.to_redis.port)

    def first_death(self, orders: int, workers: int) -> int:
        """Return a 32nd of what one worker gets, if all get the same.

        One of them gets so many, however unequal their shares are.
        """
        own = max(1, orders // (32 * workers))
        when = f"feed, {own:,} orders done"
        cost = "replaced; what it had not acknowledged came again"
        self.note_broken("a worker, by kill -9", when, cost)
        return own

    def note_broken(self, what: str, when: str, cost: str) -> None:
        """Note what is broken, and say so while it is."""
        self.broken.append(Broken(what, when, cost))
        note(f"chaos: {what}: {when}")

    @contextmanager
    def without_connections(self, when: str) -> Iterator[None]:
        """Cut every connection to the broker once, at the start of the block."""
        if self.to_broker:
            count = len(self.to_broker.clients)
            self.to_broker.cut()
            cost = "opened again; what was on its way came again"
            self.note_broken("connections to RabbitMQ", when, cost)
            note(f"chaos: {count} connections were cut")
        yield

    @contextmanager
    def without_redis(self, when: str) -> Iterator[None]:
        """Take Redis from the workers until one has missed it."""
        started = time.monotonic()
        self.take_redis_away()
        cost = "orders waited for a retry, until it was back"
        self.note_broken("Redis", when, cost)
        yield
        reach("invalidations wait", self.broker.waiting_for_retry, 1)
        waiting = self.broker.waiting_for_retry()
        self.bring_redis_back()
        seconds = time.monotonic() - started
        note(f"chaos: Redis is back after {seconds:.1f} s; {waiting} orders wait")

    def take_redis_away(self) -> None:
        """Let no command through any more."""
        if self.to_redis:
            self.to_redis.freeze()
        else:
            stand_in_server(self.redis).connected = False

    def bring_redis_back(self) -> None:
        """Let commands through; what was on its way is lost."""
        if self.to_redis:
            self.to_redis.cut()
        else:
            stand_in_server(self.redis).connected = True
