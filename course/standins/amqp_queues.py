"""What the stand-in for RabbitMQ holds: exchanges, queues, messages, and a clock."""

from __future__ import annotations

import copy
import heapq
import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any

Flags = dict[str, Any]  # the options and arguments of a queue or exchange


class Refused(Exception):
    """A channel or connection error: its code, and RabbitMQ's words for it."""


def require_same(kind: str, name: str, asked: Flags, current: Flags) -> None:
    """Refuse a declaration that differs from what is there, naming the argument."""
    for argument in sorted(asked | current):
        new = asked.get(argument)
        old = current.get(argument)
        if new != old:
            what = f"inequivalent arg '{argument}' for {kind} '{name}' in vhost '/'"
            how = f"received {new!r} but current is {old!r}"
            raise Refused(406, f"PRECONDITION_FAILED - {what}: {how}")


def topic_match(pattern: Sequence[str], words: Sequence[str]) -> bool:
    """Tell whether a topic pattern accepts the words: * is one, # zero or more."""
    if not pattern:
        return not words
    if pattern[0] == "#":
        # Either it takes a word and stays, or it is done.
        rest_fits = bool(words) and topic_match(pattern, words[1:])
        return rest_fits or topic_match(pattern[1:], words)
    if not words:
        return False
    if pattern[0] not in ("*", words[0]):
        return False
    return topic_match(pattern[1:], words[1:])


def words_of(key: str) -> list[str]:
    """Return the words of a routing key; an empty one has none."""
    return key.split(".") if key else []


def with_own_headers(properties: Any) -> Any:
    """Return a copy of properties whose headers may be changed."""
    properties = copy.copy(properties)
    properties.headers = dict(properties.headers or {})
    return properties


@dataclass(eq=False)
class Stored:
    """A message in a queue."""

    place: tuple[int, int]  # minus the priority, then age; kept when requeued
    exchange: str
    key: str
    properties: Any
    body: bytes
    due: float  # when it expires, on the broker's clock
    redelivered: bool = False

    def __lt__(self, other: Stored) -> bool:
        return self.place < other.place


@dataclass(eq=False)
class Subscription:
    """A consumer of a queue, and how many messages it has in hand."""

    channel: Any
    tag: str
    limit: float
    auto_ack: bool
    holds: int = 0


@dataclass(eq=False)
class StoredQueue:
    """A queue: what is ready in it, and who reads it."""

    name: str
    flags: Flags
    owner: Any  # the session that declared it exclusive, or None
    ready: list[Stored] = field(default_factory=list)  # a heap, by place
    unacked: int = 0
    subscriptions: deque[Subscription] = field(default_factory=deque)

    def due(self) -> float:
        """Return when the next message expires: only the head can."""
        return self.ready[0].due if self.ready else inf

    def busy(self) -> bool:
        """Tell whether somebody works on it, or is about to."""
        return bool(self.unacked or (self.ready and self.subscriptions))

    def forget(self, channel: Any, tag: str | None = None) -> None:
        """End a channel's subscription, or all of them."""
        kept = [
            one
            for one in self.subscriptions
            if one.channel is not channel or tag not in (None, one.tag)
        ]
        self.subscriptions = deque(kept)


@dataclass
class Exchange:
    """An exchange: its flags, and the queues and keys that are bound to it."""

    flags: Flags
    bindings: set[tuple[str, str]] = field(default_factory=set)

    def leads_to(self, key: str) -> set[str]:
        """Return the names of the queues that a message with this key reaches."""
        kind = self.flags["type"]
        reached = set()
        for queue, pattern in self.bindings:
            fits = pattern == key
            if kind == "fanout":
                fits = True
            elif kind == "topic" and not fits:
                fits = topic_match(words_of(pattern), words_of(key))
            if fits:
                reached.add(queue)
        return reached


class Queues:
    """All exchanges and queues, and a clock that moves only when it is told to."""

    def __init__(self) -> None:
        self.queues: dict[str, StoredQueue] = {}
        self.exchanges = {"": Exchange({"type": "direct"})}
        self.clock = 0.0  # seconds
        self.started = datetime.now(UTC)
        self.count = itertools.count()

    def exchange(self, name: str) -> Exchange:
        """Return an exchange that exists."""
        if name not in self.exchanges:
            raise Refused(404, f"NOT_FOUND - no exchange '{name}' in vhost '/'")
        return self.exchanges[name]

    def queue(self, name: str) -> StoredQueue:
        """Return a queue that exists."""
        if name not in self.queues:
            raise Refused(404, f"NOT_FOUND - no queue '{name}' in vhost '/'")
        return self.queues[name]

    def jump(self) -> bool:
        """Move the clock to the next expiry, unless somebody is at work."""
        queues = list(self.queues.values())
        due = min((queue.due() for queue in queues), default=inf)
        if due == inf or any(queue.busy() for queue in queues):
            return False
        self.clock = max(self.clock, due)
        for queue in queues:
            self.dispatch(queue)
        return True

    def route(self, exchange: str, key: str, properties: Any, body: bytes) -> int:
        """Put a copy into each queue that the key reaches; return how many."""
        reached = self.exchange(exchange).leads_to(key)
        if exchange == "" and key in self.queues:  # the default exchange
            reached = {key}
        for target in [self.queues[name] for name in reached]:
            self.store(target, Stored((0, 0), exchange, key, properties, body, inf))
        return len(reached)

    def store(self, queue: StoredQueue, stored: Stored) -> None:
        """Put a message into a queue, by its priority, and note when it expires."""
        lives = (stored.properties.expiration, queue.flags.get("x-message-ttl"))
        life = min((int(ms) for ms in lives if ms is not None), default=inf)
        stored.due = self.clock + life / 1000
        highest = queue.flags.get("x-max-priority", 0)
        priority = min(stored.properties.priority or 0, highest)
        stored.place = (-priority, next(self.count))
        heapq.heappush(queue.ready, stored)
        self.dispatch(queue)

    def dispatch(self, queue: StoredQueue) -> None:
        """Bury heads whose time has come; deliver to consumers in turn, with room."""
        full = 0  # consumers in a row that have no room
        while queue.ready:
            if queue.due() <= self.clock:
                self.bury(queue, heapq.heappop(queue.ready), "expired")
                continue
            if full == len(queue.subscriptions):
                break
            queue.subscriptions.rotate(-1)
            one = queue.subscriptions[-1]
            if one.holds < one.limit:
                full = 0
                one.channel.deliver(queue, one.auto_ack, one)
            else:
                full += 1

    def requeue(self, queue: StoredQueue, stored: Stored) -> None:
        """Put a delivered message back in its place, unless it came back too often."""
        stored.redelivered = True
        if queue.flags.get("x-queue-type") == "quorum":
            stored.properties = with_own_headers(stored.properties)
            headers = stored.properties.headers
            headers["x-delivery-count"] = headers.get("x-delivery-count", 0) + 1
            if headers["x-delivery-count"] > queue.flags.get("x-delivery-limit", inf):
                self.bury(queue, stored, "delivery_limit")
                return
        heapq.heappush(queue.ready, stored)
        self.dispatch(queue)

    def bury(self, queue: StoredQueue, stored: Stored, reason: str) -> None:
        """Dead-letter a message with RabbitMQ's x-death, or drop it without a DLX."""
        exchange = queue.flags.get("x-dead-letter-exchange")
        if exchange not in self.exchanges:
            return
        properties = with_own_headers(stored.properties)
        headers = properties.headers
        headers.pop("x-delivery-count", None)
        death = self.death(queue, stored, reason)
        properties.expiration = None  # or it would expire in the next queue as well
        others = []
        for old in headers.get("x-death", []):
            if old["queue"] == queue.name and old["reason"] == reason:
                death = dict(old)
            else:
                others.append(old)
        death["count"] += 1
        headers["x-death"] = [death, *others]
        for name in ("reason", "queue", "exchange"):
            headers.setdefault(f"x-first-death-{name}", death[name])
        key = queue.flags.get("x-dead-letter-routing-key", stored.key)
        self.route(exchange, key, properties, stored.body)

    def death(self, queue: StoredQueue, stored: Stored, reason: str) -> Flags:
        """Return an entry of x-death that counts nothing yet."""
        entry: Flags = {
            "count": 0,
            "time": self.started + timedelta(seconds=int(self.clock)),
            "routing-keys": [stored.key],
            "reason": reason,
            "queue": queue.name,
            "exchange": stored.exchange,
        }
        if stored.properties.expiration is not None:
            entry["original-expiration"] = stored.properties.expiration
        return entry

    def remove(self, queue: StoredQueue) -> None:
        """Remove a queue with its bindings, and tell its consumers."""
        del self.queues[queue.name]
        for one in queue.subscriptions:
            one.channel.cancelled(one.tag)
        for name, exchange in [*self.exchanges.items()]:
            kept = {bound for bound in exchange.bindings if bound[0] != queue.name}
            was_bound = kept != exchange.bindings
            exchange.bindings = kept
            if was_bound and not kept and exchange.flags.get("auto_delete"):
                del self.exchanges[name]
