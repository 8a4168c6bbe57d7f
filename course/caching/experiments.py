"""What the demos of lesson 03 do to a cache: crowds, clocks, overtaken loads."""

from __future__ import annotations

import gc
import time
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from course.caching.policy import Policy
from course.lab import (
    ManualClock,
    SlowSource,
    in_background,
    outcome_of,
    start_together,
    wait_until,
)


class Counting(Protocol):
    """A cache that counts its misses and its commands."""

    @property
    def stats(self) -> Any:
        """Return the counts."""


def all_have_asked(caches: Sequence[Counting], readers: int) -> bool:
    """Tell whether all readers of each cache have missed, and one has claimed."""
    for cache in caches:
        if cache.stats.misses < readers or cache.stats.trips <= readers:
            return False
    return True


def start_and_hold(
    calls: Sequence[Callable[[], Any]], hold: SlowSource, caches: Sequence[Counting]
) -> list[Any]:
    """Start the calls, a thread each, on some caches; return their outcomes.

    The source answers nobody before each cache has seen its share of the calls.
    """
    readers = len(calls) // len(caches)
    hold.ready.clear()
    running = in_background(lambda: start_together(calls))
    wait_until(lambda: all_have_asked(caches, readers), limit=30)
    hold.ready.set()
    outcomes: list[Any] = running.result(60)
    return outcomes


def outlives_its_users(calculator: Any) -> bool:
    """Tell whether an instance of this class stays when nobody holds it any more."""
    instance = calculator()
    instance.cached(10)
    alive = weakref.ref(instance)
    del instance
    gc.collect()  # an instance and its own cache refer to each other
    return alive() is not None


def lifetimes(decorator: Callable[..., Any]) -> list[int]:
    """Return how long entries live that are written 0, 10 ... 50 s into a minute."""
    clock = ManualClock()
    cached = decorator(ttl_seconds=60, clock=clock)(object)
    lives = []
    for number in range(6):
        start = 3600.0 * (number + 1) + 10 * number
        clock.now = start
        first = cached()
        while cached() is first:
            clock.advance(1)
        lives.append(int(clock.now - start))
    return lives


def loads_at_expiry(decorator: Callable[..., Any]) -> int:
    """Return how often fifty threads load an entry that has just expired."""
    clock = ManualClock()
    source = SlowSource("value", seconds=0.1)
    cached = decorator(ttl_seconds=60, clock=clock)(source.load)
    cached()
    clock.advance(61)
    start_together([cached] * 50, hold=source)
    return source.loads - 1


def most_in_one_second(lives: Sequence[float]) -> int:
    """Return how many of some keys, loaded together, expire in the same second."""
    return max(Counter(int(life) for life in lives).values())


class Exploit:
    """Once unpickled, it has run code of its author's choice."""

    ran = False

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return setattr, (Exploit, "ran", True)


class UnlockedCounter:
    """Counts without a lock: it reads, may be interrupted, and writes."""

    hits = 0

    def add(self) -> None:
        """Count; what another thread counts in between is lost."""
        hits = self.hits
        time.sleep(0)
        self.hits = hits + 1


def commands_sent(cache: Counting, call: Callable[[], object]) -> int:
    """Return how many commands the call sends to Redis."""
    before = cache.stats.trips
    call()
    return int(cache.stats.trips - before)


KEYS = ("feed", "page", "profile", "u:a1", "u:a[1]", "u:b", "user")


def invalidated(cache: Any, invalidate: Callable[[], Any]) -> tuple[Any, str]:
    """Store all keys and invalidate; return what the call returned, and what is gone.

    Of a call that raises, the name of the exception.
    """
    for key in KEYS:
        cache.set(key, key, ttl=60)
    returned = outcome_of(invalidate)
    if isinstance(returned, Exception):
        returned = type(returned).__name__
    left = cache.get_many(KEYS)
    return returned, " ".join(key for key in KEYS if key not in left)


class Reads(NamedTuple):
    """How reads ended: with the right answer, and after how many failed commands."""

    answered: int
    failed: int


def read_often(cache: Any, number: int) -> Reads:
    """Read a key, which the origin gives as "new", so many times."""
    before = cache.stats.errors
    answers = [cache.get_or_load("k", lambda: "new", Policy()) for _ in range(number)]
    return Reads(answers.count("new"), cache.stats.errors - before)
