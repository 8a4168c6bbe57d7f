"""Three tiers of caching, each beside the well-known version that breaks.

You will see, in order: (1) what lru_cache saves, and which objects it keeps alive; (2)
one load for a hundred threads; (3) a time to live for each entry; (4) a Redis tier that
returns what was put in, or raises TypeError; (5) one load, and nothing stale, across
processes; (6) renewal before expiry; (7) which entries a change invalidates; (8) an
outage that no caller notices, and a copy in the process that Redis empties; (9)
services that use all tiers.

Run:     python 03_caching_strategies.py [--list] [--only NAME ...] [--offline]
Service: Redis 6.2 or later at REDIS_URL (default redis://127.0.0.1:6379/0; rediss://
         for TLS). Own keys only, each with a TTL, deleted at the end.
Without: fakeredis, in this process: no CLIENT TRACKING (the near cache is skipped),
         no real latency.
Runtime: about five seconds.
Guide:   COMPREHENSIVE_GUIDE.md, chapter 3.
"""

# /// script
# requires-python = ">=3.11"
# dependencies = ["redis[hiredis]>=8.0,<9", "fakeredis[lua]>=2.34.1,<3",
#                 "python-dotenv>=1.2.2,<2", "rich>=13.7,<16"]
# ///

from __future__ import annotations

import course.start  # noqa: F401  (first: it says in one line what is missing)

# isort: split

import argparse
import functools
import json
import math
import pickle
import random
import socket
import sys
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import fakeredis
import redis

from course.caching.client import (
    DEFAULT_URL,
    cache_client,
    escape,
    has_no_room,
    leave_replica,
    longest_wait,
)
from course.caching.codec import Envelope, Hook, key_bytes
from course.caching.copies import Copies
from course.caching.debts import Debts
from course.caching.experiments import (
    KEYS,
    Exploit,
    Reads,
    UnlockedCounter,
    commands_sent,
    invalidated,
    lifetimes,
    loads_at_expiry,
    most_in_one_second,
    outlives_its_users,
    read_often,
    start_and_hold,
)
from course.caching.flights import Flight, LeaderEnded, lands
from course.caching.functions import (
    Arguments,
    CachedFunction,
    Result,
    TimedFunction,
    refuse_cache,
    refuse_coroutines,
    refuse_limits,
    refuse_misuse,
    refuse_used_once,
)
from course.caching.jobs import (
    Answer,
    Claim,
    Job,
    LoaderError,
    error_text,
    failure_text,
)
from course.caching.locks import ForkSafeLock
from course.caching.log import RareWarnings
from course.caching.names import full_name
from course.caching.orders import RaceOfCaches, RaceOfClients, explore
from course.caching.policy import LONGEST_TTL, Policy, refuse_breaker, refuse_ttl
from course.caching.scripts import TAKE
from course.caching.service import Service, open_service
from course.caching.stats import CacheStats
from course.caching.store import Store, milliseconds
from course.caching.tracking import ChangeListener
from course.claims import less_than, more_than, near, other_than
from course.console import Lesson, check, fact, note, table
from course.errors import Skip
from course.lab import (
    ManualClock,
    SlowSource,
    outcome_of,
    raises,
    run_async,
    start_together,
    wait_until,
)
from course.services import setting

Clock = Callable[[], float]
Call = Callable[[], Any]
Function = Callable[..., Any]
Decorator = Callable[[Function], Any]


class CacheEnv(Service):
    """What every demo receives: a way to connect, and a prefix of our own."""

    def cache(self, name: str) -> RedisCache:
        """Return a complete cache (section 8) with connections of its own."""
        return RedisCache(self.connect(), f"{self.prefix}{name}:")


def open_env(args: argparse.Namespace) -> AbstractContextManager[CacheEnv]:
    """Open Redis or the stand-in; delete every key of ours at the end."""
    return open_service(args, CacheEnv)


lesson = Lesson("Three tiers of caching, each beside the version that breaks", open_env)


# %% [markdown]
# ## 1. lru_cache: what a cache saves, and what it keeps alive


# %%
class PerformanceTimer:
    """Times a block and prints it on stderr: `with PerformanceTimer("query"): ...`."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.seconds = 0.0

    def __enter__(self) -> PerformanceTimer:
        # Not time.time(): that clock may be set back while the block runs.
        self.start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self.start
        note(f"{self.label}: {self.seconds * 1000:.2f} ms")


# region fibonacci
class MethodCachedFibonacci:
    """Fibonacci numbers with the decorator where everybody puts it."""

    # Trap: this is one cache for all instances, and `self` is a part of each key.
    @functools.lru_cache(maxsize=128)  # noqa: B019  (the mistake that is shown)
    def cached(self, n: int) -> int:
        """Return F(n)."""
        return n if n < 2 else self.cached(n - 1) + self.cached(n - 2)


class FibonacciCalculator:
    """Fibonacci numbers by plain recursion and with a cache; counts its calls."""

    def __init__(self) -> None:
        self.calls = 0
        # Made here, the cache belongs to the instance. The two refer to each other:
        # the garbage collector frees such a cycle when nobody else needs it.
        self.cached = functools.lru_cache(maxsize=128)(self._step)

    def naive(self, n: int) -> int:
        """Return F(n) in 2 F(n+1) - 1 calls."""
        self.calls += 1
        return n if n < 2 else self.naive(n - 1) + self.naive(n - 2)

    def _step(self, n: int) -> int:
        self.calls += 1
        return n if n < 2 else self.cached(n - 1) + self.cached(n - 2)


# endregion fibonacci


@lesson.demo
def lru(env: CacheEnv) -> None:
    """lru_cache: 242,785 calls become 26"""
    rows: list[tuple[object, ...]] = []
    for n in (25, 30, 35):
        fast = FibonacciCalculator()
        slow = FibonacciCalculator()
        with PerformanceTimer(f"Fibonacci({n}) with lru_cache"):
            value = fast.cached(n)
        if n < 35:  # that would be 30 million calls
            with PerformanceTimer(f"Fibonacci({n}) without"):
                slow.naive(n)
        # F(n+1) leaves, and one call fewer that adds two results: 2 F(n+1) - 1 calls.
        by_formula = 2 * (value + fast.cached(n - 1)) - 1
        rows.append((n, value, slow.calls or "not run", by_formula, fast.calls))
    table(("n", "F(n)", "calls", "by formula", "with lru_cache"), *rows)
    _, _, plain, formula, cached = rows[0]
    check(
        "F(25) takes 242,785 calls, or 26 with a cache",
        observed={"plain": plain, "formula": formula, "cached": cached},
        expected={"plain": 242_785, "formula": 242_785, "cached": 26},
    )
    alive = {
        "on the method": outlives_its_users(MethodCachedFibonacci),
        "made in __init__": outlives_its_users(FibonacciCalculator),
    }
    fact("instance alive, lru_cache", alive)
    check(
        "a cache on the method keeps its instance alive",
        observed=alive,
        expected={"on the method": True, "made in __init__": False},
    )


# %% [markdown]
# ## 2. Single flight: one load for all who wait


# %%
def cached_by_key_locks(fn: Function) -> Function:
    """Cache results; a lock for each key lets one thread in at a time."""
    locks: dict[Hashable, threading.Lock] = defaultdict(threading.Lock)
    values: dict[Hashable, Any] = {}

    def cached(key: Hashable) -> Any:
        # Trap: after a failure the waiters try again one by one, each as long.
        with locks[key]:
            if key not in values:
                values[key] = fn(key)
            return values[key]

    return cached


# A Flight (course/caching/flights.py) is a call under way: lead() makes the call,
# outcome() returns or raises what it did, `landed` is set when it has ended; a thread
# that is told to end leaves LeaderEnded. lands() waits for a flight.


# region single-flight
class SingleFlight:
    """Runs one call per key at a time; callers meanwhile share how it ends."""

    def __init__(self) -> None:
        self.flights: dict[tuple[int, Hashable], Flight] = {}

    def run(
        self, key: Hashable, call: Call, timeout: float | None = None
    ) -> tuple[Any, str]:
        """Return the result and "led" or "shared"; raise what the call raised.

        Returns None and "busy" if another thread's call takes longer than `timeout`
        seconds; raises RecursionError where threads would wait for each other.
        """
        while True:
            with suppress(LeaderEnded):
                return self.lead_or_wait(key, call, timeout)

    def lead_or_wait(
        self, key: Hashable, call: Call, timeout: float | None
    ) -> tuple[Any, str]:
        """Do as run() does, once."""
        mine = Flight()
        name = (mine.leader[0], key)
        flight = mine
        try:
            # Atomic, without a lock: only one thread finds its own flight here.
            flight = self.flights.setdefault(name, mine)
            if flight is mine:
                return mine.lead(call), "led"
            if not lands(flight, mine, timeout):
                return None, "busy"
            return flight.outcome(), "shared"
        finally:  # however it ends, Ctrl-C included: nobody waits for a dead flight
            try:
                # First: those who are told of a failure may call again at once.
                if flight is mine:
                    self.flights.pop(name, None)
            finally:
                mine.landed.set()


# endregion single-flight


def cached_by_flight(fn: Function) -> Function:
    """Cache results; one load for each key, shared by all who wait for it."""
    flights = SingleFlight()
    values: dict[Hashable, Any] = {}

    def cached(key: Hashable) -> Any:
        def load() -> Any:
            if key not in values:  # else another thread loaded it just before
                values[key] = fn(key)
            return values[key]

        return values[key] if key in values else flights.run(key, load)[0]

    return cached


@lesson.demo
def flight(env: CacheEnv) -> None:
    """Single flight: a hundred threads miss, one loads"""
    loads = {}
    failing = {}
    for name, decorate, asks in (
        ("lru_cache", functools.lru_cache, 100),
        ("a lock for each key", cached_by_key_locks, 1),
        ("single flight", cached_by_flight, 1),
    ):
        found = SlowSource("value", seconds=0.1)
        # A source raises its answer, if that is an exception.
        missing = SlowSource(LookupError("no such row"), seconds=0.04)
        # On hold, it answers nobody until all calls have begun, and so many ask it.
        start_together([partial(decorate(found.load), 1)] * 100, hold=found, asks=asks)
        start_together([partial(decorate(missing.load), 1)] * 5, hold=missing)
        loads[name] = found.loads
        failing[name] = missing.loads
    rows = [(name, loads[name], failing[name]) for name in loads]
    table(("cached by", "loads, 100 threads", "loads, 5 failing"), *rows)
    check(
        "one load serves a hundred threads",
        observed=loads,
        expected={"lru_cache": 100, "a lock for each key": 1, "single flight": 1},
    )
    check(
        "waiters share one exception",
        observed=failing,
        expected={"lru_cache": 5, "a lock for each key": 5, "single flight": 1},
    )


# %% [markdown]
# ## 3. A time to live: timed_lru_cache


# %%
def time_slot_cache(
    maxsize: int | None = 128, ttl_seconds: float = 3600, *, clock: Clock
) -> Decorator:
    """Cache results by the well-known recipe: the time slot is one more argument."""

    def decorate(fn: Function) -> Any:
        @functools.lru_cache(maxsize)
        def find(slot: float, *args: Any, **kwargs: Any) -> Any:
            return fn(*args, **kwargs)

        def cached(*args: Any, **kwargs: Any) -> Any:
            # Trap: an entry stored just before the slot ends lives only for a moment.
            return find(clock() // ttl_seconds, *args, **kwargs)

        return cached

    return decorate


# region entry
class Entry:
    """A place in the cache: a value and the time of its end; empty at first."""

    def __init__(self, clears: int) -> None:
        self.value: Any = None  # a result may be None: `expires` tells if empty
        self.expires = -math.inf
        self.clears = clears  # how often the cache had been cleared before


# endregion entry


class TimedCache:
    """Entries that functools.lru_cache finds, and that one thread fills for all."""

    def __init__(
        self,
        fn: Function,
        maxsize: int | None,
        ttl_seconds: float,
        typed: bool,
        clock: Clock,
    ) -> None:
        self.fn = fn
        self.parameters = {"maxsize": maxsize, "typed": typed}
        self.ttl_seconds = ttl_seconds
        self.clock = clock
        self.flights = SingleFlight()
        self.lock = ForkSafeLock()
        self.clears = 0
        self.misses = 0
        self.looks = 0  # at entries, by calls that missed
        # Always bounded. Of two entries that threads make for one key at once,
        # lru_cache(None) keeps the last, in place of one that is being filled; a
        # bounded one keeps the first.
        places = sys.maxsize if maxsize is None else maxsize
        # C code looks up, keeps the order of use and evicts. Nothing of it is ours.
        self.find = functools.lru_cache(places, typed)(self.new_entry)

    def new_entry(self, /, *_args: Any, **_kwargs: Any) -> Entry:
        """Return an empty entry, for a call that has none."""
        return Entry(self.clears)

    def load(self, first: Entry, args: Any, kwargs: Any) -> Any:
        """Return the result of a call that found no value, or an expired one."""
        # Threads that miss at once make an entry each, and lru_cache keeps one of
        # them: the second look gives them all the same entry.
        entry = self.find(*args, **kwargs)
        with self.lock:
            # A look from before a cache_clear is forgotten already.
            if first.clears == self.clears:
                self.misses += 1
                self.looks += 1
            if entry.clears == self.clears:
                self.looks += 1
        fill = partial(self.fill, entry, args, kwargs)
        return self.flights.run(entry, fill)[0]

    def fill(self, entry: Entry, args: Any, kwargs: Any) -> Any:
        """Call the function and keep its result; an exception leaves it empty."""
        if self.clock() < entry.expires:  # another thread filled it just before
            return entry.value
        value = self.fn(*args, **kwargs)
        refuse_used_once(value)
        # In this order: a reader takes no lock, looks at `expires`, then reads.
        entry.value = value
        entry.expires = self.clock() + self.ttl_seconds  # last: now others read it
        return value

    def cache_info(self) -> Any:
        """Return hits, misses, maxsize and currsize; an expired find is a miss."""
        found = self.find.cache_info()
        # lru_cache has counted looks at entries, full or empty, not at values.
        looks = found.hits + found.misses
        hits = max(0, looks - self.looks)
        maxsize = self.parameters["maxsize"]
        return found._replace(hits=hits, misses=self.misses, maxsize=maxsize)

    def cache_clear(self) -> None:
        """Forget everything; a load under way fills an entry that nobody finds."""
        with self.lock:
            self.clears += 1
            self.misses = 0
            self.looks = 0
        self.find.cache_clear()  # without the lock: what it frees may call the cache

    def cache_parameters(self) -> dict[str, Any]:
        """Return what the decorator was given."""
        return {**self.parameters, "ttl_seconds": self.ttl_seconds}


def timed_lru_cache(
    maxsize: int | None = 128,
    ttl_seconds: float = 3600,
    *,
    typed: bool = False,
    clock: Clock = time.monotonic,
) -> Callable[[Callable[Arguments, Result]], TimedFunction[Arguments, Result]]:
    """Cache results, each for `ttl_seconds` from the end of its load; as lru_cache.

    Except: threads that miss one key share one load, and its exception, which is not
    kept, but takes a place. Recursion gets less than a third as deep. An entry that is
    evicted while it is loading may be loaded again. A negative maxsize is refused, and
    so is the decorator without parentheses, a coroutine function or a generator
    function (ValueError, TypeError). An expired value is freed when its place is needed
    or its key is asked for.
    As with lru_cache, all callers get the same object, and on a method it keeps every
    `self` alive: make it in __init__.
    """
    refuse_limits(maxsize, ttl_seconds)

    def decorate(fn: Callable[Arguments, Result]) -> TimedFunction[Arguments, Result]:
        refuse_coroutines(fn)
        cache = TimedCache(fn, maxsize, ttl_seconds, typed, clock)
        find = cache.find  # a local name, for the sake of each hit

        # region timed-hit
        def cached(*args: Any, **kwargs: Any) -> Any:
            # This is all that a hit costs: one look-up in C and one look at the clock.
            entry = find(*args, **kwargs)
            if clock() < entry.expires:
                return entry.value
            return cache.load(entry, args, kwargs)

        # endregion timed-hit

        wrapper: Any = functools.update_wrapper(cached, fn)
        wrapper.cache_info = cache.cache_info
        wrapper.cache_clear = cache.cache_clear
        wrapper.cache_parameters = cache.cache_parameters
        decorated: TimedFunction[Arguments, Result] = wrapper
        return decorated

    return decorate


@lesson.demo
def timed(env: CacheEnv) -> None:
    """timed_lru_cache: a time to live per entry, one load at its end"""
    lives = {
        "time slot": lifetimes(time_slot_cache),
        "timed_lru_cache": lifetimes(timed_lru_cache),
    }
    fact("a time slot's entries live, s", lives["time slot"])
    fact("timed_lru_cache's entries live, s", lives["timed_lru_cache"])
    check(
        "every entry lives 60 s, not what is left of a slot",
        observed=lives,
        expected={
            "time slot": [60, 50, 40, 30, 20, 10],
            "timed_lru_cache": [60] * 6,
        },
    )
    check(
        "an entry that expires is loaded once for fifty threads",
        observed={
            "time slot": loads_at_expiry(time_slot_cache),
            "timed_lru_cache": loads_at_expiry(timed_lru_cache),
        },
        expected={"time slot": more_than(1), "timed_lru_cache": 1},
    )

    async def fetch() -> int:
        return 1

    shared = functools.lru_cache(fetch)
    run_async(shared)
    fact("lru_cache, second await", outcome_of(lambda: run_async(shared)))
    check(
        "a coroutine function is refused at once",
        observed=raises(TypeError, lambda: timed_lru_cache()(fetch)),
        expected=True,
    )


# %% [markdown]
# ## 4. Redis as a cache: what comes out is what went in


# %%
# What lies in Redis: names are prefix + kind + ":" + key.
#   prefix + "value:" + key    an envelope in JSON: the value, its times, its generation
#   prefix + "generation:"     a random name, the generation that counts
# An entry of another generation is a miss, so that one command, which ends the
# generation, makes a miss of every entry.
#
# Store (course/caching/store.py) has name(kind, key), names(kind, keys), and
# run_with_generation(pipe), which begins a generation if there is none and returns it,
# in the round trip of the pipe.


# region json-cache
class JsonCache(Store):
    """JSON values in Redis under a prefix, each with a time to live.

    Anything in Redis that is not an envelope of ours is a miss.
    """

    kinds_of_a_key: tuple[str, ...] = ("value",)  # what a delete removes, in order

    def __init__(
        self, client: Any, prefix: str = "cache:", clock: Clock = time.time
    ) -> None:
        super().__init__(client, prefix, clock)

    def ask(self, command: Call) -> Any:
        """Return Redis's answer to a command; from section 8 on, None if it is out."""
        self.stats.add("trips")
        return command()

    def send_invalidation(self, command: Call, *names: bytes) -> Any:
        """Send what makes these names, or all, invalid; return the answer."""
        # Twice: what is read while the command is under way may be from before it.
        self.note_invalidation(*names)
        answer = self.ask(command)
        self.note_invalidation(*names)
        return answer

    def note_invalidation(self, *names: bytes) -> None:
        """Note that what this process has read of these names, or all, is invalid."""
        self.drop_copies(*names)  # which a cache has from section 8 on

    def fetch(self, names: list[bytes]) -> Any:
        """Return the payloads, in one round trip."""
        return self.ask(partial(self.get_payloads, names))

    def read(self, key: str) -> Envelope | None:
        """Return what is stored of this generation, an expired entry too."""
        name = self.name("value", key)
        # The generation comes along, so that a hit is still one round trip.
        generation, payload = self.fetch([self.generation, name]) or (None, None)
        return self.opened(name, payload, generation)

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return what is cached of the keys, in one round trip."""
        now = self.clock()
        found = {}
        asked = {self.name("value", key): key for key in keys}  # each once
        generation, *payloads = self.fetch([self.generation, *asked]) or [None]
        # No payloads if Redis is out.
        for name, payload in zip(asked, payloads, strict=False):
            entry = self.opened(name, payload, generation)
            # Redis' own TTL is longer where an old value may stand in (section 6).
            if entry and now < entry.expires:
                found[asked[name]] = entry.value
        self.stats.add_lookups(len(asked), hits=len(found))
        return found

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value, or the default on a miss."""
        return self.get_many([key]).get(key, default)

    def set(self, key: str, value: Any, ttl: float = 3600) -> bool:
        """Store a value for `ttl` seconds, at most 30 days; TypeError if JSON can't.

        False if Redis is out or has no room: then the value from before is deleted.
        """
        refuse_ttl("ttl", ttl)
        name = self.name("value", key)
        # An entry without a generation could not be made invalid by a new one.
        (generation,) = self.ask(self.begin_generation) or [None]
        payload = self.sealed(name, self.entry_of(value, ttl), generation)
        pipe = self.client.pipeline(True)  # a transaction
        for kind in self.kinds_of_a_key:
            pipe.unlink(self.name(kind, key))
        pipe.set(name, payload, px=milliseconds(ttl))
        self.note_invalidation(name)
        stored = False
        if generation:
            stored = bool(self.ask(partial(self.does, pipe)))
        self.note_invalidation(name)
        if not stored:
            self.delete(key)  # a reader must not get what it was to replace
        return stored

    def delete(self, *keys: str | bytes) -> int:
        """Delete the values; return how many there were."""
        if not keys:
            return 0
        unlink = partial(self.unlink_each, self.kinds_of_a_key, keys)
        return self.send_invalidation(unlink, *self.names("value", keys)) or 0

    def clear_pattern(self, pattern: str | bytes) -> int:
        """Delete the keys that match a glob (escape() literal parts); return how many.

        SCAN and UNLINK let others through in between; KEYS and DEL would not.
        """
        sweep = partial(self.sweep_each, self.kinds_of_a_key, key_bytes(pattern))
        return self.send_invalidation(sweep) or 0

    def end_generation(self) -> bool:
        """Make a miss of every entry: none is of a generation that does not exist."""
        self.unlink(self.generation)  # Redis does it without memory, too
        self.drop_copies()
        return True

    def bump(self) -> None:
        """Turn every entry into a miss for all processes: one command, O(1)."""
        self.send_invalidation(self.end_generation)


# endregion json-cache


@lesson.demo
def tier(env: CacheEnv) -> None:
    """JsonCache: a value comes back equal, or is refused by name"""
    cache = JsonCache(env.connect(), f"{env.prefix}tier:")
    rows = []
    refusals = set()
    moment = datetime(2026, 1, 31, tzinfo=UTC)
    for value in ((1, 2), {1: "a"}, math.nan, moment, {3}, b"x"):
        refusal = type(outcome_of(partial(cache.set, "key", value))).__name__
        # Trap: default=str never fails, and never gives back what it was given.
        changed = json.loads(json.dumps(value, default=str))
        rows.append((type(value).__name__, repr(changed), refusal))
        refusals.add(refusal)
    table(("value", "after json.dumps and loads", "JsonCache.set"), *rows)
    check(
        "what JSON would change is refused, not changed",
        observed=refusals,
        expected={"TypeError"},
    )
    kept = {"n": 1, "x": 0.1, "none": None, "deep": [[True, -0.0, 2**70], "\u017c"]}
    cache.set("kept", kept, ttl=60)
    check("what is stored comes back equal", cache.get("kept"), kept)

    payload = pickle.dumps(Exploit())
    pickle.loads(payload)  # noqa: S301  (the point)
    ran_by_pickle = Exploit.ran
    Exploit.ran = False
    cache.client.set(cache.name("value", "key"), payload, ex=60)
    check(
        "a pickle is a miss and runs nothing",
        observed={
            "by pickle": ran_by_pickle,
            "get": cache.get("key", "a miss"),
            "corrupt": cache.stats.corrupt,
            "ran": Exploit.ran,
        },
        expected={"by pickle": True, "get": "a miss", "corrupt": 1, "ran": False},
    )


# %% [markdown]
# ## 5. One load across processes: a lease


# %%
def cache_aside(client: redis.Redis, key: str, load: Call, ttl: int = 30) -> Any:
    """Return the key's value as a well-known tutorial does: a lock around the load."""
    cached = client.get(key)
    if cached is not None:
        return json.loads(cached)
    # One caller gets the lock; it ends by itself if that one dies.
    if client.set(f"{key}:lock", uuid.uuid4().hex, nx=True, px=2000):
        try:
            value = load()
            # It stores no None, and whatever was read before somebody's delete.
            if value is not None:
                client.set(key, json.dumps(value), ex=ttl)
            return value
        finally:
            client.delete(f"{key}:lock")
    for _ in range(10):
        time.sleep(0.02)
        # Trap: those who wait for a value wait in vain for None, and for a failure.
        cached = client.get(key)
        if cached is not None:
            return json.loads(cached)
    return load()


# A Policy says how entries live, in seconds (course/caching/policy.py):
#   ttl, none_ttl   from the end of the load; none_ttl for a result of None, if given
#   longest_load    others wait for a load so long, and then load themselves
#   jitter, beta    section 6: expiry spread out, renewal before it
#   grace           section 6: how long after expiry an old value may stand in
#
# Who calls whom, in this section and the next; each class adds one concern:
#   get_or_load            a hit, or:
#     load_once            one flight for all threads of this process
#       lead               by the thread that leads
#         load_and_store   under a lease, one for all processes (LeasedCache)
#           call_origin    calls job.origin, the function that really loads
#         answer_without_lease    Redis is out, or the other process is too slow
#       answer_after_wait         the thread that leads is too slow


class LoadingCache(JsonCache):
    """Unlike JsonCache it loads: once for all threads of this process.

    A caller never gets what was loaded before an invalidation that it came after.
    """

    def __init__(
        self, client: Any, prefix: str = "cache:", clock: Clock = time.time
    ) -> None:
        super().__init__(client, prefix, clock)
        self.lock = ForkSafeLock()
        self.flights = SingleFlight()
        self.last_invalidation = -math.inf  # by this process

    def note_invalidation(self, *names: bytes) -> None:
        """Note that what is being loaded now is not for those who ask later."""
        with self.lock:
            self.last_invalidation = time.perf_counter()
        super().note_invalidation(*names)

    def get_or_load(self, key: str, load: Call, policy: Policy) -> Any:
        """Return the cached value, else load it once for all threads and processes.

        Threads that share a load get the same object: copy a list before editing it.
        Raises what the load raises, LoaderError if it failed in another process.
        """
        asked = time.perf_counter()
        seen = self.decoded(self.read(key), policy)
        fresh = seen is not None and self.clock() < seen.expires
        self.stats.add("hits" if fresh else "misses")
        if seen and fresh and not self.is_due(seen, policy):
            return seen.value
        return self.load_once(Job(key, load, policy, asked, seen))

    def is_due(self, seen: Envelope, policy: Policy) -> bool:
        """Tell whether to load although what was read is fresh."""
        return False

    def load_once(self, job: Job) -> Any:
        """Return what one load gives to all; nobody waits for more than two loads."""
        lead = partial(self.lead, job)
        while True:
            answer, role = self.flights.run(job.key, lead, job.timeout)
            # Another thread leads, and takes longer than a load should.
            if role == "busy":
                answer, role = self.answer_after_wait(job)
            if role == "led":
                return answer.value
            self.stats.add("waits")
            # Else we joined too late. The next load begins after we have asked.
            if job.asked <= answer.valid_until:
                return answer.value

    def answer_after_wait(self, job: Job) -> tuple[Answer, str]:
        """Load once more for all who have waited too long, and store nothing."""
        return self.flights.run((job.key, "late"), partial(self.load_alone, job))

    def load_alone(self, job: Job) -> Answer:
        """Load, and store nothing; for those who asked before it began."""
        answer = self.call_origin(job)
        return answer._replace(valid_until=answer.started)

    def answer_without_lease(self, job: Job) -> Answer:
        """Load, and store nothing: nobody can tell of other processes' deletes."""
        return self.call_origin(job)

    def call_origin(self, job: Job) -> Answer:
        """Load; the answer is for those who asked before the value became invalid."""
        self.stats.add("loads")
        started = time.perf_counter()
        value = job.origin()
        refuse_used_once(value)
        valid_until = time.perf_counter()
        seconds = valid_until - started
        self.stats.add("load_ms", round(seconds * 1000))
        if self.last_invalidation >= started:
            valid_until = started
        return Answer(value, valid_until, started, seconds)

    def lead(self, job: Job) -> Answer:
        """Load and store, even what another process has deleted meanwhile."""
        answer = self.call_origin(job)
        with suppress(TypeError):  # what JSON can't hold is not stored
            super().set(job.key, answer.value, job.policy.ttl)
        return answer


class LeasedCache(LoadingCache):
    """Unlike LoadingCache: one load for all processes, and nothing stale is stored.

    A miss takes a lease, with a token. A delete withdraws it, and a store without it is
    refused (memcache leases: Nishtala et al., Scaling Memcache at Facebook, NSDI 2013).
    """

    kinds_of_a_key = ("lease", "value")  # leases first: no load stores in between
    sleep = staticmethod(time.sleep)  # the search in section 5 puts in one of its own

    def __init__(
        self, client: Any, prefix: str = "cache:", clock: Clock = time.time
    ) -> None:
        super().__init__(client, prefix, clock)
        self.log = RareWarnings()

    def lead(self, job: Job) -> Answer:
        """Claim the lease and load, or wait for the process that holds it."""
        # No wait is endless: not even for a process that died with the lease.
        deadline = time.monotonic() + job.timeout
        awaited = b""  # the token of the load that we wait for
        pause = 0.002
        # What a claim finds in Redis, and what we do:
        #   the lease is ours, nothing new is stored        load, and store
        #   a value that is new since we read               serve it
        #   the load that we waited for has failed          raise it; the next loads
        #   another process holds the lease                 wait for its load
        #   now a third one does, and nothing is new        load, and store nothing
        # In the second and third case the lease may be ours: then we give it back.
        # The last is a key that is deleted faster than it loads: we queue once.
        while claim := self.claim(job):
            is_new = self.is_new(claim.entry, job)
            failure = claim.reason(awaited)
            if claim.holder == job.token:
                if not is_new and not failure:
                    return self.load_and_store(job, claim.generation)
                self.give_back(job)
            if claim.entry and is_new:
                return Answer(claim.entry.value, claim.asked)
            if failure:
                raise LoaderError(failure)
            is_late = time.monotonic() >= deadline
            if is_late or awaited not in (b"", claim.holder):
                return self.load_alone(job)
            awaited = claim.holder
            # By chance, so that a hundred processes do not ask in step.
            self.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 2, 0.05)
        return self.answer_without_lease(job)  # Redis is out

    def claim(self, job: Job) -> Claim | None:
        """Take the lease if it is free; return who has it, None if Redis is out."""
        asked = time.perf_counter()
        policy = job.policy
        take = partial(self.take_lease, job.key, job.token, policy.longest_load)
        stored = self.ask(take)
        if stored is None:
            return None
        holder, generation, payload, failure = stored
        name = self.name("value", job.key)
        entry = self.opened(name, payload, generation)
        entry = self.decoded(entry, policy)
        return Claim(generation, holder or b"", entry, failure or b"", asked)

    def load_and_store(self, job: Job, generation: bytes | None) -> Answer:
        """Load, and store if the lease is still ours; tell waiters of a failure."""
        try:
            answer = self.call_origin(job)
        except BaseException as error:
            self.give_up(job, error)
            raise
        policy = job.policy
        ttl = self.lifetime(answer.value, policy)
        payload = ""
        try:
            name = self.name("value", job.key)
            entry = self.entry_of(answer.value, ttl, answer.seconds)
            payload = self.sealed(name, entry, generation, policy.encode)
        except Exception as error:  # of JSON, or of the caller's encode
            text = f"{job.key!r:.80} is not cached: {error_text(error):.200}"
            self.log.warn(text, kind="value")
        self.log.warn_if_slow(job.key, answer.seconds, policy.longest_load)
        stored = self.store(job, payload, ttl + policy.grace)
        if stored and payload:
            return answer
        # Deleted while it was loading: it answers those who asked before it began.
        self.stats.add("refused")
        return answer._replace(valid_until=answer.started)

    def store(self, job: Job, payload: str, seconds: float) -> bool:
        """Store a value and give the lease back; False if the lease was withdrawn."""
        return self.end_lease(job, "value", payload, seconds)

    def give_back(self, job: Job) -> None:
        """Give the lease back, and store nothing."""
        self.end_lease(job, "value", "", 1)

    def give_up(self, job: Job, error: BaseException) -> None:
        """Give the lease back; say why to those who wait in other processes."""
        if isinstance(error, Exception):
            text = job.token + failure_text(error)
            self.end_lease(job, "failure", text, job.policy.longest_load)
        else:  # this process is told to end (SystemExit): another one loads
            self.give_back(job)

    def end_lease(self, job: Job, kind: str, text: str | bytes, seconds: float) -> bool:
        """Give the lease back and store a text under a kind, if the lease is ours."""
        release = partial(self.release_lease, job.key, job.token, kind, text, seconds)
        return bool(self.ask(release) != 0)  # None: Redis is out, and can't say

    def is_new(self, entry: Envelope | None, job: Job) -> bool:
        """Tell whether an entry is fresh, and not the one that the job began with."""
        if entry is None:
            return False
        if job.seen and job.seen.checksum == entry.checksum:
            return False
        return bool(self.clock() < entry.expires)

    def lifetime(self, value: object, policy: Policy) -> float:
        """Return the seconds to live of a value."""
        return policy.ttl


# region redis-cache
def redis_cache(
    ttl: float | None = None,
    *,
    cache: LeasedCache | None = None,
    name: str | None = None,
    policy: Policy | None = None,
    longest_load: float | None = None,
    key: Function | None = None,
    encode: Hook | None = None,
    decode: Hook | None = None,
) -> Callable[[Callable[Arguments, Result]], CachedFunction[Arguments, Result]]:
    """Cache results in Redis, shared by all processes; `ttl` overrides the policy's.

    A TTL starts when the load ends. Others wait for a load for `longest_load` seconds
    (5) and then load themselves; what nobody else waits for is stored even if it takes
    longer, up to a day.
    The key is `name` (put the version of what computes it in), or the module and name
    of the function and of what wraps it, and a hash of the arguments. These are plain
    JSON values, else TypeError: `key` makes plain values of others. A result that JSON
    can't hold is returned, and not cached, with a warning: `encode` makes JSON of it,
    and `decode` the result again. everyday_key, to_plain and from_plain, in
    course/caching/plain.py, are such hooks for tuples, dates, Decimal, UUID, NumPy and
    data frames.
    Raises what the function raises; LoaderError, with its text, if the function failed
    in another process while this call waited for it.
    It has key(*args), invalidate(*args) and cache_clear(). Of a method decorate the
    bound one, with a name that tells instances apart, in __init__:
    `self.rank = redis_cache(600, name="rank-2")(self._rank)`.
    """
    refuse_misuse(ttl, cache, policy)
    # A policy is checked here, when the module is imported, not at the first call.
    hooks = {"encode": encode, "decode": decode}
    chosen = (policy or Policy()).but(ttl=ttl, longest_load=longest_load, **hooks)

    def decorate(fn: Callable[Arguments, Result]) -> CachedFunction[Arguments, Result]:
        refuse_coroutines(fn)
        # Late: whoever imports a decorated function has not connected yet.
        find_cache = lambda: default_cache() if cache is None else cache  # noqa: E731
        return CachedFunction(fn, name or full_name(fn), find_cache, chosen, key)

    return decorate


# endregion redis-cache


def stampede_on_tutorial(
    env: CacheEnv, name: str, source: SlowSource, asks: int
) -> int:
    """Return how often 4 clients of 25 threads load, with the tutorial's lock."""
    calls = []
    for _ in range(4):
        client = env.connect()
        calls += [partial(cache_aside, client, env.prefix + name, source.load)] * 25
    start_together(calls, hold=source, asks=asks)
    return source.loads


def stampede_on_lease(env: CacheEnv, name: str, source: SlowSource) -> tuple[int, int]:
    """Return how often 4 caches of 25 threads load, with a lease; and the failures."""
    policy = Policy(ttl=60, longest_load=30)
    caches = []
    calls = []
    for _ in range(4):
        cache = LeasedCache(env.connect(), f"{env.prefix}{name}:")
        caches.append(cache)
        calls += [partial(cache.get_or_load, "k", source.load, policy)] * 25
    answers = start_and_hold(calls, source, caches)
    return source.loads, sum(isinstance(one, Exception) for one in answers)


@lesson.demo
def lease(env: CacheEnv) -> None:
    """Stampede: four caches, 25 threads each, one load; nothing stale is stored"""
    rows = []
    for kind, answer, seconds, asks in (
        ("None, 0.05 s", None, 0.05, 1),
        ("an exception, 0.05 s", LookupError("no such row"), 0.05, 1),
        ("a value, 0.25 s", "value", 0.25, 100),  # the tutorial waits for 0.2 s
    ):
        naive = stampede_on_tutorial(env, kind, SlowSource(answer, seconds), asks)
        leased = stampede_on_lease(env, kind, SlowSource(answer, seconds))
        rows.append((kind, naive, *leased))
    table(("100 callers; a load gives", "tutorial", "lease", "failed"), *rows)
    check(
        "one load for all, also of None or an exception",
        observed={kind: counts for kind, *counts in rows},
        expected={
            "None, 0.05 s": [100, 1, 0],
            "an exception, 0.05 s": [100, 1, 100],
            "a value, 0.25 s": [100, 1, 0],
        },
    )

    # One reads a price while another writes it and deletes the old one: every order in
    # which their steps can follow each other.
    tutorial = explore(RaceOfClients(cache_aside, env.connect, env.prefix))
    ours = explore(RaceOfCaches(partial(LeasedCache, env.connect(), env.prefix)))
    fact("old after", tutorial.failing[0])
    check(
        "an old value stays after 1 of the tutorial's 21 orders, 0 of the lease's 21",
        observed={"tutorial": tutorial.counts, "lease": ours.counts},
        expected={
            "tutorial": {"orders": 21, "stale": 1},
            "lease": {"orders": 21, "stale": 0},
        },
    )


# %% [markdown]
# ## 6. Before expiry: early, spread out, and old rather than none


# %%
# region xfetch
def loads_early(entry: Envelope, now: float, beta: float, draw: float) -> bool:
    """Tell whether to load again: before expiry with P = e^(-gap / (beta * delta)).

    XFetch (Vattani, Chierichetti, Lowenstein, VLDB 2015): the slower the load, the
    earlier. `draw` is uniform in [0, 1).
    """
    early = -entry.delta * beta * math.log(1.0 - draw)  # seconds
    return now + early >= entry.expires


# endregion xfetch


class RefreshingCache(LeasedCache):
    """Unlike LeasedCache it loads before expiry, and serves an old value meanwhile."""

    dice: Any = random  # the demo puts in one that always falls alike

    def is_due(self, seen: Envelope, policy: Policy) -> bool:
        """Tell whether to load although what was read is fresh: by chance."""
        if not loads_early(seen, self.clock(), policy.beta, self.dice.random()):
            return False
        self.stats.add("early")
        return True

    def load_once(self, job: Job) -> Any:
        """Load once; nobody waits where an old value can serve meanwhile."""
        seen = job.seen
        if seen and self.clock() < seen.expires + job.policy.grace:
            job.serve_meanwhile(seen)
        return super().load_once(job)

    def load_and_store(self, job: Job, generation: bytes | None) -> Answer:
        """Load and store; the old value, if there is one, covers a failure."""
        try:
            return super().load_and_store(job, generation)
        except Exception as error:
            if job.old is None:
                raise
            # An hour-old price is better than an error page, if `grace` says so.
            text = f"{job.key!r:.80} is old: {error_text(error):.200}"
            self.log.warn(text, kind="refresh")
            return self.answer_without_lease(job)

    def answer_after_wait(self, job: Job) -> tuple[Answer, str]:
        """Return the old value at once, else load once for all who are late."""
        if job.old:
            return self.answer_without_lease(job), "led"
        return super().answer_after_wait(job)

    def load_alone(self, job: Job) -> Answer:
        """Return the old value if there is one, else load without storing."""
        if job.old:
            return self.answer_without_lease(job)
        return super().load_alone(job)

    def answer_without_lease(self, job: Job) -> Answer:
        """Return the old value if there is one, else load without storing."""
        if job.old is None:
            return super().answer_without_lease(job)
        self.stats.add("stale")
        # For this caller only: another one may have asked after a delete.
        return Answer(job.old.value, valid_until=-math.inf)

    def lifetime(self, value: object, policy: Policy) -> float:
        """Return the seconds to live of a value, shorter by chance and for None."""
        ttl = policy.ttl
        if value is None and policy.none_ttl is not None:
            ttl = policy.none_ttl
        share = policy.jitter * self.dice.random()
        return ttl * float(1 - share)


def share_early(gap: float, beta: float) -> float:
    """Return the share of 50,000 readers who load so long before expiry."""
    dice = random.Random(8)
    entry = Envelope("value", 0.0, gap, delta=1.0)
    early = sum(loads_early(entry, 0.0, beta, dice.random()) for _ in range(50_000))
    return early / 50_000


def crowded_seconds(cache: RefreshingCache) -> dict[float, int]:
    """Return how many of 1000 keys expire in one second, by jitter."""
    crowded = {}
    for jitter in (0.0, 0.2):
        policy = Policy(ttl=100, jitter=jitter)
        lives = [cache.lifetime("value", policy) for _ in range(1000)]
        crowded[jitter] = most_in_one_second(lives)
    return crowded


def what_callers_get(cache: RefreshingCache, clock: ManualClock) -> dict[int, str]:
    """Return what a caller gets whose load fails, by seconds of grace."""
    down = SlowSource(ConnectionError("origin is down"))
    got = {}
    for grace in (0, 600):
        policy = Policy(ttl=60, beta=0, grace=grace)
        cache.get_or_load("price", lambda: "the old value", policy)
        clock.advance(61)
        read = partial(cache.get_or_load, "price", down.load, policy)
        got[grace] = str(outcome_of(read))
    return got


@lesson.demo
def early(env: CacheEnv) -> None:
    """Refresh: before expiry by chance, spread out, and an old value if a load fails"""
    rows = []
    measured = {}
    never = {}
    for gap in (0.5, 1.0, 2.0, 4.0):  # in units of beta * delta
        measured[gap] = share_early(gap, beta=1.0)
        never[gap] = share_early(gap, beta=0.0)
        shares = (measured[gap], math.exp(-gap), never[gap])
        rows.append((gap, *(f"{share:.2f}" for share in shares)))
    table(("gap / (beta delta)", "measured", "e^-gap", "with beta 0"), *rows)
    check(
        "XFetch loads early with P = e^(-gap / (beta delta))",
        observed={"beta 1": measured, "beta 0": never},
        expected={
            "beta 1": {gap: near(math.exp(-gap), 0.01) for gap in measured},
            "beta 0": dict.fromkeys(never, 0),
        },
    )

    clock = ManualClock()
    cache = RefreshingCache(env.connect(), f"{env.prefix}late:", clock)
    cache.dice = random.Random(8)
    crowded = crowded_seconds(cache)
    # Trap: what was loaded together and has one TTL expires together.
    fact("of 1000 keys in one second, by jitter", crowded)
    check(
        "with a jitter of 0.2 fewer than 150 do",
        observed=crowded,
        expected={0.0: 1000, 0.2: less_than(150)},
    )

    got = what_callers_get(cache, clock)
    rows = [(f"grace {seconds} s", text) for seconds, text in got.items()]
    table(("the origin fails", "the caller gets"), *rows)
    check(
        "within the grace a failing load gives the old value",
        observed=got,
        expected={0: "origin is down", 600: "the old value"},
    )


# %% [markdown]
# ## 7. Which entries a change invalidates: by pattern, by tag, by dependency


# %%
class CacheInvalidationManager:
    """Deletes what a change invalidates; every method returns how many values.

    The dependencies are those that this process has declared.
    """

    def __init__(self, cache: LeasedCache) -> None:
        refuse_cache(cache)
        self.cache = cache
        self.dependents: dict[str, set[str]] = {}

    def depend(self, key: str, *parents: str) -> None:
        """Declare that `key` is computed from its parents; cycles are allowed."""
        for parent in parents:
            self.dependents.setdefault(parent, set()).add(key)

    def tag(self, tag: str, *keys: str) -> None:
        """Put keys under a tag, within each load; delete them if Redis can't."""
        if not keys:
            return
        name = self.cache.name("tag", tag)
        # It lives as long as any key that it names can.
        pipe = self.cache.client.pipeline()
        pipe.sadd(name, *map(key_bytes, keys))
        pipe.expire(name, LONGEST_TTL)
        if not self.cache.ask(partial(self.cache.does, pipe)):
            self.cache.delete(*keys)

    def invalidate_pattern(self, pattern: str) -> int:
        """Delete the keys that match a glob; escape() literal parts."""
        # Trap: in an unescaped id, [1] stands for 1, so another key is meant.
        return self.cache.clear_pattern(pattern)

    def invalidate_tag(self, tag: str) -> int:
        """Delete the keys under the tag, and the tag, in one step."""
        name = self.cache.name("tag", tag)
        starts = [self.cache.name("value"), self.cache.name("lease")]
        take = self.cache.script(TAKE)
        invalidate = partial(self.cache.count, partial(take, [name], starts))
        return self.cache.send_invalidation(invalidate) or 0

    def cascade_by_recursion(self, key: str) -> int:
        """Delete the key and all that depends on it, as one would write it first."""
        removed = self.cache.delete(key)
        for dependent in sorted(self.dependents.get(key, ())):
            removed += self.cascade_by_recursion(dependent)
        return removed

    # region cascade
    def cascade(self, key: str) -> int:
        """Delete the key and all that depends on it, directly or not, once each."""
        # Nothing is visited twice: dependencies may close to a cycle.
        found = {key}
        queue = [key]
        while queue:
            dependents = self.dependents.get(queue.pop(), set())
            new = dependents - found
            found |= new
            queue += new
        return self.cache.delete(*found)

    # endregion cascade


def manager_of(cache: LeasedCache) -> CacheInvalidationManager:
    """Return a manager that knows some dependencies, and a tag of two keys."""
    manager = CacheInvalidationManager(cache)
    manager.depend("profile", "user")
    manager.depend("feed", "user", "profile")
    manager.depend("page", "feed")
    manager.depend("user", "page")  # a cycle: user, feed, page, user
    manager.tag("kyiv", "u:a1", "u:b")
    return manager


@lesson.demo
def invalidation(env: CacheEnv) -> None:
    """Invalidation: exactly the entries that a change invalidates, counted"""
    cache = RefreshingCache(env.connect(), f"{env.prefix}inv:")
    manager = manager_of(cache)
    ways: dict[str, Call] = {
        "pattern u:a[1]": partial(manager.invalidate_pattern, "u:a[1]"),
        "escaped": partial(manager.invalidate_pattern, escape("u:a[1]")),
        "tag kyiv": partial(manager.invalidate_tag, "kyiv"),
        "tag kyiv again": partial(manager.invalidate_tag, "kyiv"),
        "plain recursion": partial(manager.cascade_by_recursion, "user"),
        "cascade of user": partial(manager.cascade, "user"),
        "bump": partial(commands_sent, cache, cache.bump),
    }
    found = {way: invalidated(cache, call) for way, call in ways.items()}
    table(("invalidated by", "returns", "gone"), *((k, *v) for k, v in found.items()))
    check(
        "an escaped pattern removes the key it names",
        observed={way: found[way] for way in ("pattern u:a[1]", "escaped")},
        expected={"pattern u:a[1]": (1, "u:a1"), "escaped": (1, "u:a[1]")},
    )
    check(
        "a tag removes its two keys, once",
        observed={"first": found["tag kyiv"], "again": found["tag kyiv again"]},
        expected={"first": (2, "u:a1 u:b"), "again": (0, "")},
    )
    check(
        "a cascade over a cycle removes each of four keys once",
        observed={
            "recursion": found["plain recursion"][0],
            "cascade": found["cascade of user"],
        },
        expected={
            "recursion": "RecursionError",
            "cascade": (4, "feed page profile user"),
        },
    )
    bump = "a bump: one command, all entries are misses"
    check(bump, found["bump"], (1, " ".join(KEYS)))


# %% [markdown]
# ## 8. When Redis is out, and when it is too far away


# %%
@dataclass
class CircuitBreaker:
    """Stops calls after `threshold` failures in a row; one probe per `cooldown` s."""

    threshold: int = 3
    cooldown: float = 1.0
    clock: Clock = time.monotonic
    failures: int = 0
    retry_at: float = 0.0

    def __post_init__(self) -> None:
        refuse_breaker(self.threshold, self.cooldown)
        self.lock = ForkSafeLock()

    def allows(self) -> bool:
        """Tell whether to call; while open, True for one caller per cooldown."""
        # While all is well, nobody takes a lock or looks at the clock.
        if self.failures < self.threshold:
            return True
        with self.lock:
            now = self.clock()
            if now < self.retry_at:
                return False
            self.retry_at = now + self.cooldown  # this caller is the probe
            return True

    def record(self, success: bool) -> None:
        """Close after a success; count a failure."""
        if success:
            self.failures = 0
            return
        with self.lock:
            self.failures += 1
            if self.failures == self.threshold:
                self.retry_at = self.clock() + self.cooldown


class RedisCache(RefreshingCache):
    """The complete cache: all of the above, and it fails open.

    A process never serves what it has deleted. Others may, if Redis did not receive it,
    until this process talks to Redis again: before it ends, it calls settle(). A Redis
    that restarts from a snapshot has again what was deleted since: then call bump().
    """

    def __init__(
        self,
        client: Any,
        prefix: str = "cache:",
        breaker: CircuitBreaker | None = None,
        clock: Clock = time.time,
    ) -> None:
        super().__init__(client, prefix, clock)
        self.breaker = breaker or CircuitBreaker()
        self.debts = Debts()  # invalidations that Redis has not received
        self.payments = SingleFlight()

    @property
    def owed(self) -> bool:
        """Tell whether Redis has not received an invalidation of this process."""
        return self.debts.owed

    # region ask
    def ask(self, command: Call) -> Any:
        """Return the answer, or None: at once while the breaker is open."""
        if not self.breaker.allows():
            self.stats.add("skipped")
            return None
        try:
            # First: what was deleted in an outage must not be read after it. One
            # caller ends the generation, and no other waits for that.
            if self.owed:
                self.payments.run("all", self.end_generation, timeout=0)
                if self.owed:
                    self.stats.add("skipped")
                    return None
            self.stats.add("trips")
            answer = command()
        except Exception as error:  # whatever Redis or the network does
            self.count_failure(error)
            return None
        self.breaker.record(success=True)
        return answer

    def send_invalidation(self, command: Call, *names: bytes) -> Any:
        """Send what makes these names, or all, invalid; return the answer.

        What Redis does not receive is owed: before the next command of this
        process, the generation ends instead, at the price of a cold start.
        """
        self.note_invalidation(*names)
        answer = self.ask(command)
        if answer is None:
            self.debts.add()
        self.note_invalidation(*names)
        return answer

    # endregion ask

    def end_generation(self) -> bool:
        """Make a miss of every entry, and with that good for all that is owed."""
        made = self.debts.made  # before: what is owed meanwhile is not made good
        super().end_generation()
        self.debts.pay(made)
        return True

    def count_failure(self, error: Exception) -> None:
        """Count an error; a refusal (no memory, no right) is an answer: no outage."""
        # More threads than connections: that says nothing of Redis.
        if has_no_room(error):
            self.stats.add("skipped")
            self.log.warn("all connections to Redis are taken", kind="room")
            return
        self.breaker.record(success=isinstance(error, redis.ResponseError))
        self.stats.add("errors")
        reason = error_text(error).rpartition("caused error: ")[2]  # without the values
        self.log.warn(f"the cache does without Redis: {reason}")
        leave_replica(self.client, error)

    def settle(self, timeout: float = 5.0) -> bool:
        """Pay what is owed, before the process ends; tell whether nothing is left."""
        deadline = time.monotonic() + timeout
        while self.owed and time.monotonic() < deadline:
            self.ask(self.client.ping)
            time.sleep(0.02)
        return not self.owed


@timed_lru_cache(maxsize=1, ttl_seconds=math.inf)  # lru_cache would make several
def default_cache() -> RedisCache:
    """Return the cache at REDIS_URL, for a redis_cache that is given none."""
    return RedisCache(cache_client(setting("REDIS_URL", DEFAULT_URL)))


class NearCache(RedisCache):
    """A RedisCache with a copy in this process, which Redis empties by push.

    A listener hears of every change under the prefix (CLIENT TRACKING). A second after
    it has ceased to, at the latest, nothing is served from the copy.
    """

    def __init__(self, client: Any, prefix: str, maxsize: int = 10_000) -> None:
        self.copies = Copies(maxsize)
        super().__init__(client, prefix)
        self.near_stats = CacheStats()
        # A new generation empties everything, so it is watched, too.
        watched = [self.name("value"), self.name("generation")]
        self.listener = ChangeListener(client, watched, self.copies)

    def __enter__(self) -> NearCache:
        self.listener.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.stop()

    def fetch(self, names: list[bytes]) -> Any:
        """Return the copies of all names, or fetch them all and keep copies."""
        self.listener.revive()  # a forked child hears nothing of its parent's
        # A place in the copy that is ours until somebody changes the name.
        mark = object()
        found = self.copies.find(names, mark)
        if found is not None:
            self.near_stats.add("hits")
            return found
        self.near_stats.add("misses")
        payloads = super().fetch(names)
        # What changes meanwhile loses its mark, and is not kept.
        if payloads is not None:
            self.copies.keep(names, payloads, mark)
        return payloads

    def drop_copies(self, *names: bytes) -> None:
        """Drop the copies of these names, or all, of what this process changes."""
        self.copies.drop(*names)


def reads_without_redis(thresholds: dict[str, int]) -> dict[str, Reads]:
    """Return how ten reads end at a port that refuses, by the breaker's threshold."""
    found = {}
    with socket.socket() as closed:  # bound, not listening: connections are refused
        closed.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{closed.getsockname()[1]}/0"
        for name, threshold in thresholds.items():
            breaker = CircuitBreaker(threshold, cooldown=60)
            cache = RedisCache(cache_client(url), "", breaker)
            with PerformanceTimer(f"10 reads, {name}"):
                found[name] = read_often(cache, 10)
    return found


def return_of_redis(env: CacheEnv) -> None:
    """Switch a server off, delete, and switch it on again.

    A server of our own, in this process; the one we talk to may be somebody else's.
    """
    clock = ManualClock()
    server = fakeredis.FakeServer()
    client: Any = fakeredis.FakeRedis(server=server)
    cache = RedisCache(client, env.prefix, CircuitBreaker(clock=clock))
    cache.set("k", "old", ttl=3600)
    server.connected = False
    read_often(cache, 10)
    cache.delete("k")  # Redis does not receive it
    clock.advance(2)
    probes = read_often(cache, 100).failed
    before = cache.breaker.failures
    check("half-open: of 100 reads after the cooldown one is sent", probes, 1)
    server.connected = True
    clock.advance(2)
    held = json.loads(client.get(cache.name("value", "k")))["value"]
    check(
        "a delete lost in the outage is made good",
        observed={"in Redis": held, "right answers": read_often(cache, 2).answered},
        expected={"in Redis": "old", "right answers": 2},
    )
    check(
        "one good probe closes the breaker",
        observed={"failures before": before, "after": cache.breaker.failures},
        expected={"failures before": 4, "after": 0},
    )


def has_price(cache: JsonCache, price: int) -> object:
    """Tell whether a cache gives this price."""
    return cache.get("price") == price


def copies_nearby(env: CacheEnv, cache: NearCache) -> None:
    """Read copies while another client writes, and after the connection is cut."""
    writer = env.cache("near")
    wait_until(lambda: cache.copies.followed)
    wait_until(lambda: cache.get("price") == 0)
    forever = functools.lru_cache(cache.get)
    forever("price")
    far = commands_sent(writer, lambda: [writer.get("price") for _ in range(1000)])
    nearby = commands_sent(cache, lambda: [cache.get("price") for _ in range(1000)])
    fact("round trips for 1000 reads", f"{far} by RedisCache, {nearby} by NearCache")
    check(
        "a read of a copy takes no round trip",
        observed={"RedisCache": far, "NearCache": nearby},
        expected={"RedisCache": 1000, "NearCache": 0},
    )
    for price in range(1, 51):
        writer.set("price", price)
        wait_until(partial(has_price, cache, price))
    check(
        "50 writes by another client were all seen",
        observed={"near cache": cache.get("price"), "lru_cache": forever("price")},
        expected={"near cache": 50, "lru_cache": 0},
    )
    writer.client.client_kill_filter(_id=cache.listener.connection_id)
    wait_until(lambda: not cache.copies.followed)
    writer.set("price", 51)  # nobody is told
    check("a lost connection empties the near cache", cache.get("price"), 51)


@lesson.demo
def outage(env: CacheEnv) -> None:
    """Outage: callers get answers, Redis one probe per second, nothing stale after"""
    patient = longest_wait(redis.Redis())
    ours = longest_wait(cache_client(DEFAULT_URL))
    fact("redis.Redis() is set to", patient)
    check(
        "the client is set to two tries of 0.2 s",
        observed={"redis.Redis()": patient, "cache_client": ours},
        expected={
            "redis.Redis()": other_than(ours),
            "cache_client": "2 tries of 0.2 s",
        },
    )
    # Trap: without a breaker every caller waits for the same dead server, each time.
    found = reads_without_redis({"no breaker": 10**9, "breaker": 3})
    rows = [(name, *reads) for name, reads in found.items()]
    table(("10 reads, Redis stopped", "answered", "commands sent in vain"), *rows)
    check(
        "all callers are answered from the origin",
        observed={name: reads.answered for name, reads in found.items()},
        expected={"no breaker": 10, "breaker": 10},
    )
    check(
        "three failures, then nothing is sent",
        observed={name: reads.failed for name, reads in found.items()},
        expected={"no breaker": 20, "breaker": 3},
    )
    return_of_redis(env)
    if not env.live:
        raise Skip("fakeredis has no CLIENT TRACKING: start Redis to see a near cache")
    env.cache("near").set("price", 0)  # before anybody listens
    with NearCache(env.connect(), f"{env.prefix}near:") as cache:
        copies_nearby(env, cache)


# %% [markdown]
# ## 9. Three tiers at work


# %%
# region engine
class RecommendationEngine:
    """Recommends products: lists in Redis, trends for a minute, titles for good."""

    def __init__(self, cache: RedisCache) -> None:
        dice = random.Random(8)
        items = [f"p{number:02}" for number in range(12)]
        weights = range(12, 0, -1)  # 40 users bought up to 5 products each
        self.bought = {n: set(dice.choices(items, weights, k=5)) for n in range(40)}
        # These two need `self`: made here, they go with the engine.
        in_redis = redis_cache(600, cache=cache, name="bought-1")
        self.recommend = in_redis(self._recommend)
        self.trending = timed_lru_cache(maxsize=16, ttl_seconds=60)(self._trending)

    def _recommend(self, user: int, count: int = 3) -> list[str]:
        """Return what users with the same products bought besides."""
        mine = self.bought[user]
        score: Counter[str] = Counter()
        for other in self.bought.values():
            shared = len(other & mine)
            for item in other - mine:
                score[item] += shared
        return sorted(score, key=lambda item: (-score[item], item))[:count]

    def _trending(self, count: int = 3) -> tuple[str, ...]:
        """Return the products most bought; a tuple, as all callers get the same."""
        counts = Counter(item for items in self.bought.values() for item in items)
        return tuple(sorted(counts, key=lambda item: (-counts[item], item))[:count])

    @staticmethod
    @functools.lru_cache(maxsize=128)
    def product(item: str) -> str:
        """Return a product's title, which never changes."""
        return f"Product {int(item[1:])}"


# endregion engine


class MLPredictionService:
    """Predicts churn; predictions live long, under the name of the model."""

    def __init__(self, cache: RedisCache, model: str, weight: float) -> None:
        self.weight = weight
        # Trap: a key without the version of what computes the value serves the old one.
        self.predict = redis_cache(86_400, cache=cache, name=model)(self.score)

    def score(self, days_since_purchase: int) -> float:
        """Return the probability that the customer is gone: a logistic curve."""
        return 1 / (1 + math.exp(-(days_since_purchase - 30) * self.weight))

    @staticmethod
    @functools.lru_cache(maxsize=1024)
    def embedding(text: str) -> tuple[float, ...]:
        """Return a text's direction in 8 dimensions, always the same."""
        dice = random.Random(text)
        return tuple(dice.gauss() for _ in range(8))


def scores_of_models(cache: RedisCache) -> list[tuple[str, float, float]]:
    """Return the churn after 40 days by three models in turn: cached, and computed."""
    rows = []
    for title, name, weight in (
        ("first model", "churn-1", 0.05),
        ("retrained, same name", "churn-1", 0.1),
        ("retrained, new name", "churn-2", 0.1),
    ):
        model = MLPredictionService(cache, name, weight)
        cached = round(model.predict(40), 3)
        rows.append((title, cached, round(model.score(40), 3)))
    return rows


@lesson.demo
def services(env: CacheEnv) -> None:
    """Services: three tiers under eight threads, and every lookup is accounted for"""
    cache = env.cache("shop")
    engine = RecommendationEngine(cache)
    engine.product.cache_clear()
    unlocked = UnlockedCounter()

    def visit() -> None:
        for user in range(50):
            engine.product(engine.recommend(user % 10)[0])
            engine.trending()
            unlocked.add()

    start_together([visit] * 8)
    facts = engine.product.cache_info()
    trends = engine.trending.cache_info()
    sums: dict[str, Any] = {
        "lru_cache": facts.hits + facts.misses,
        "timed_lru_cache": trends.hits + trends.misses,
        "redis_cache": cache.stats.hits + cache.stats.misses,
    }
    table(("400 lookups in tier", "hits + misses"), *sums.items())
    check(
        "hits + misses = calls in every tier",
        observed=sums | {"without a lock": unlocked.hits},
        expected=dict.fromkeys(sums, 400) | {"without a lock": less_than(400)},
    )
    check("ten users' recommendations take ten loads", cache.stats.loads, 10)

    rows = scores_of_models(cache)
    table(("churn after 40 days", "cached", "computed"), *rows)
    check(
        "a new name never serves the old model's scores",
        observed={title: cached == computed for title, cached, computed in rows},
        expected={
            "first model": True,
            "retrained, same name": False,
            "retrained, new name": True,
        },
    )


# %%
def main(argv: list[str] | None = None) -> int:
    """Teach, with the options of the command line; return the exit code."""
    return lesson.main(argv)


lesson.finish(__name__, main)
