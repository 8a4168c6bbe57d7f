"""Three tiers of caching, each beside the well-known version that breaks.

You will see, in order: (1) what lru_cache saves, and whom it keeps alive; (2) one load
for a hundred threads; (3) a time to live for each entry; (4) a Redis tier that returns
what was put in, or says no; (5) one load, and nothing stale, across processes;
(6) renewal before expiry; (7) what a change makes wrong; (8) an outage that no caller
notices, and a copy in the process that Redis empties; (9) services that use all tiers.

Run:     python 03_caching_strategies.py [--list] [--only NAME ...] [--offline]
Service: Redis 6.2 or later at REDIS_URL (default redis://127.0.0.1:6379/0; rediss://
         for TLS). Own keys only, each with a TTL, deleted at the end.
Without: fakeredis, in this process: no CLIENT TRACKING (the near cache is skipped),
         no real latency.
Runtime: about four seconds.
Guide:   COMPREHENSIVE_GUIDE.md, chapter 3.
"""

# /// script
# requires-python = ">=3.11"
# dependencies = ["redis[hiredis]>=8.0,<9", "fakeredis[lua]>=2.33,<3",
#                 "python-dotenv>=1.2.2,<2", "rich>=13.7,<16"]
# ///

from __future__ import annotations

import course.start  # noqa: F401  (first: it says in one line what is missing)

# isort: split

import argparse
import functools
import hashlib
import json
import math
import os
import pickle
import random
import socket
import sys
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import CancelledError, Future, wait
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

import fakeredis
import redis

from course.caching.client import (
    DEFAULT_URL,
    cache_client,
    escape,
    longest_wait,
    refuse_resp3,
)
from course.caching.codec import Envelope
from course.caching.copies import Copies
from course.caching.experiments import (
    lifetimes,
    loads_at_expiry,
    most_in_one_second,
    old_value_after,
    outlives_its_users,
    start_and_hold,
)
from course.caching.functions import (
    CallKey,
    full_name,
    refuse_coroutines,
    refuse_limits,
)
from course.caching.jobs import Answer, Claim, Job, LoaderError, failure_text
from course.caching.locks import ForkSafeLock
from course.caching.log import RareWarnings
from course.caching.policy import LONGEST_TTL, Policy, refuse_ttl
from course.caching.scripts import RELEASE, TAKE
from course.caching.service import Service, open_service
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
from course.services import redact, setting

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
# ## 1. lru_cache: what a memory saves, and whom it keeps alive


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


class MethodCachedFibonacci:
    """Fibonacci numbers with the decorator where everybody puts it."""

    # Trap: this is one cache for all instances, and `self` is a part of each key.
    @functools.lru_cache(maxsize=128)  # noqa: B019  (the mistake that is shown)
    def cached(self, n: int) -> int:
        """Return F(n)."""
        return n if n < 2 else self.cached(n - 1) + self.cached(n - 2)


class FibonacciCalculator:
    """Fibonacci numbers by plain recursion and by memory; counts its calls."""

    def __init__(self) -> None:
        self.calls = 0
        # Made here, the cache belongs to the instance and dies with it.
        self.cached = functools.lru_cache(maxsize=128)(self._step)

    def naive(self, n: int) -> int:
        """Return F(n) in 2 F(n+1) - 1 calls."""
        self.calls += 1
        return n if n < 2 else self.naive(n - 1) + self.naive(n - 2)

    def _step(self, n: int) -> int:
        self.calls += 1
        return n if n < 2 else self.cached(n - 1) + self.cached(n - 2)


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
        # Each leaf of the recursion returns 0 or 1; F(n) is their sum.
        known = 2 * (value + fast.cached(n - 1)) - 1
        rows.append((n, value, slow.calls or "not run", known, fast.calls))
    table(("n", "F(n)", "calls", "by formula", "with lru_cache"), *rows)
    _, _, plain, formula, cached = rows[0]
    check(
        "F(25) takes 242,785 calls, or 26 with a memory",
        observed={"plain": plain, "formula": formula, "cached": cached},
        expected={"plain": 242_785, "formula": 242_785, "cached": 26},
    )
    alive = {
        "on the method": outlives_its_users(MethodCachedFibonacci),
        "made in __init__": outlives_its_users(FibonacciCalculator),
    }
    fact("the instance stays, lru_cache", alive)
    check(
        "an instance dies in spite of its cache",
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


# region single-flight
class Flight(Future[Any]):
    """A call under way: how it ends, for all who wait, and the thread that leads it."""

    def __init__(self) -> None:
        super().__init__()
        self.leader = threading.get_ident()


class SingleFlight:
    """Runs one call per key at a time; those who ask meanwhile share how it ends."""

    def __init__(self) -> None:
        self.flights: dict[tuple[int, Hashable], Flight] = {}

    def run(
        self, key: Hashable, call: Call, limit: float | None = None
    ) -> tuple[Any, str]:
        """Return the result and "led" or "shared"; raise what the call raised.

        Returns None and "busy" if another thread's call takes longer than `limit`
        seconds; raises RecursionError instead of waiting for itself.
        """
        # By process: a forked child has none of the threads that its parent waits for.
        name = (os.getpid(), key)
        mine = Flight()
        # Atomic: of all threads that come now one finds its own flight, without a lock.
        flight = self.flights.setdefault(name, mine)
        if flight is mine:
            return self.lead(name, mine, call), "led"
        # Its load has asked for the same key again: waiting for itself, for ever.
        if flight.leader == mine.leader:
            raise RecursionError("a cached call asks for itself: same arguments")
        if not wait([flight], limit).done:
            return None, "busy"
        # The leader's thread was told to end, which is no answer: try again.
        if isinstance(flight.exception(), CancelledError):
            return self.run(key, call, limit)
        return flight.result(), "shared"

    def lead(self, name: tuple[int, Hashable], flight: Flight, call: Call) -> Any:
        """Make the call and tell all who wait how it ended."""
        try:
            result = call()
        except BaseException as error:
            # First: those who are told of a failure may call again at once.
            del self.flights[name]
            if isinstance(error, Exception):
                flight.set_exception(error)
            # SystemExit, KeyboardInterrupt: this thread ends, another one will lead.
            else:
                flight.set_exception(CancelledError())
            raise
        del self.flights[name]
        flight.set_result(result)
        return result


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
    for name, decorate in (
        ("lru_cache", functools.lru_cache),
        ("a lock for each key", cached_by_key_locks),
        ("single flight", cached_by_flight),
    ):
        found = SlowSource("value", seconds=0.1)
        missing = SlowSource(LookupError("no such row"), seconds=0.1)
        start_together([partial(decorate(found.load), 1)] * 100, hold=found)
        start_together([partial(decorate(missing.load), 1)] * 5, hold=missing)
        loads[name] = found.loads
        failing[name] = missing.loads
    rows = [(name, loads[name], failing[name]) for name in loads]
    table(("cached by", "loads, 100 threads", "loads, 5 failing"), *rows)
    check(
        "one load serves a hundred threads",
        observed=loads,
        expected={
            "lru_cache": more_than(1),
            "a lock for each key": 1,
            "single flight": 1,
        },
    )
    check(
        "waiters share one exception",
        observed=failing,
        expected={
            "lru_cache": more_than(1),
            "a lock for each key": 5,
            "single flight": 1,
        },
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
            # Trap: all entries of a slot die together, the last after a moment.
            return find(clock() // ttl_seconds, *args, **kwargs)

        return cached

    return decorate


# region timed
class Entry:
    """A place in the cache: a value and the time of its end; empty at first."""

    def __init__(self) -> None:
        self.value: Any = None  # read only before `expires`: None may be a result
        self.expires = -math.inf


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
        self.misses = 0
        # Always bounded: an unbounded one may replace an entry that is being filled.
        places = sys.maxsize if maxsize is None else maxsize
        # C code looks up, keeps the order of use and evicts. Nothing of it is ours.
        self.find = functools.lru_cache(places, typed)(self.new_entry)

    @staticmethod
    def new_entry(*_args: Any, **_kwargs: Any) -> Entry:
        """Return an empty entry, for a call that has none."""
        return Entry()

    def load(self, args: Any, kwargs: Any) -> Any:
        """Return the result of a call that found no value, or an expired one."""
        with self.lock:
            self.misses += 1
        # Again: threads that miss at once make an entry each, of which one is kept.
        entry = self.find(*args, **kwargs)
        fill = partial(self.fill, entry, args, kwargs)
        return self.flights.run(entry, fill)[0]

    def fill(self, entry: Entry, args: Any, kwargs: Any) -> Any:
        """Call the function and keep its result; an exception leaves no trace."""
        if self.clock() < entry.expires:  # another thread filled it just before
            return entry.value
        value = self.fn(*args, **kwargs)
        # In this order: a reader takes no lock, it looks at `expires` and then reads.
        entry.value = value
        entry.expires = self.clock() + self.ttl_seconds  # last: now others read it
        return value

    def cache_info(self) -> Any:
        """Return hits, misses, maxsize and currsize; an expired find is a miss."""
        found = self.find.cache_info()
        # lru_cache has counted looks at entries, full or empty, not at values.
        looks = found.hits + found.misses
        hits = max(0, looks - 2 * self.misses)  # a miss has looked twice
        maxsize = self.parameters["maxsize"]
        return found._replace(hits=hits, misses=self.misses, maxsize=maxsize)

    def cache_clear(self) -> None:
        """Forget everything; a load under way fills an entry that nobody finds."""
        with self.lock:
            self.misses = 0
        self.find.cache_clear()

    def cache_parameters(self) -> dict[str, Any]:
        """Return what the decorator was given."""
        return {**self.parameters, "ttl_seconds": self.ttl_seconds}


def timed_lru_cache(
    maxsize: int | None = 128,
    ttl_seconds: float = 3600,
    *,
    typed: bool = False,
    clock: Clock = time.monotonic,
) -> Decorator:
    """Cache results for `ttl_seconds` each; in all else it behaves as lru_cache does.

    Threads that miss one key share one load, and its exception, which is not kept.
    None is a result like any other; all callers get the same object. On a method it
    keeps every `self` alive: make it in __init__. An expired value is freed when its
    place is needed or its key is asked for. Raises ValueError for a bad limit,
    TypeError for a coroutine or generator function.
    """
    refuse_limits(maxsize, ttl_seconds)

    def decorate(fn: Function) -> Any:
        refuse_coroutines(fn)
        cache = TimedCache(fn, maxsize, ttl_seconds, typed, clock)
        find = cache.find  # a local name, for the sake of each hit

        def cached(*args: Any, **kwargs: Any) -> Any:
            # This is all that a hit costs: one look-up in C and one look at the clock.
            entry = find(*args, **kwargs)
            if clock() < entry.expires:
                return entry.value
            return cache.load(args, kwargs)

        wrapper: Any = functools.update_wrapper(cached, fn)
        wrapper.cache_info = cache.cache_info
        wrapper.cache_clear = cache.cache_clear
        wrapper.cache_parameters = cache.cache_parameters
        return wrapper

    return decorate


# endregion timed


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
@dataclass
class CacheStats:
    """Counts of one tier; every lookup is a hit or a miss, whoever loads."""

    hits: int = 0
    misses: int = 0
    loads: int = 0  # calls of a loader
    load_ms: int = 0  # spent in those that returned
    waits: int = 0  # lookups that shared another caller's load
    early: int = 0  # loads begun before expiry
    stale: int = 0  # old values served while a load failed or was under way
    refused: int = 0  # loaded values not kept: deleted while they were loading
    corrupt: int = 0  # payloads that are no envelope of ours
    errors: int = 0  # commands that Redis did not answer, or refused
    skipped: int = 0  # commands not sent, the breaker being open
    trips: int = 0  # commands sent: round trips

    def __post_init__(self) -> None:
        self.lock = ForkSafeLock()

    def add(self, name: str, number: int = 1) -> None:
        """Count, from any thread: an unlocked read and write would lose some."""
        with self.lock:
            setattr(self, name, getattr(self, name) + number)

    def as_json(self) -> str:
        """Return the counts as a JSON object, for a metrics endpoint."""
        return json.dumps(asdict(self))


# region json-cache
class JsonCache(Store):
    """JSON values in Redis under a prefix, each with a time to live.

    A value lies in an envelope: its times, what its load took, and the generation that
    it is of. Whatever is not such an envelope is a miss. See Store for the names.
    """

    kinds_of_a_key: tuple[str, ...] = ("value",)  # what a delete removes, in order

    def __init__(
        self, client: Any, prefix: str = "cache:", clock: Clock = time.time
    ) -> None:
        super().__init__(client, prefix, clock)
        self.stats = CacheStats()

    def ask(self, command: Call, default: Any) -> Any:
        """Return Redis' answer; from section 8 on the default, if there is none."""
        self.stats.add("trips")
        return command()

    def change(self, command: Call, default: Any, *names: bytes) -> Any:
        """Return the answer to a command that makes these names, or all, invalid."""
        answer = self.ask(command, default)
        self.changed(*names)
        return answer

    def fetch(self, names: list[bytes]) -> Any:
        """Return the payloads, in one round trip."""
        # The bare command: client.mget's conveniences are a part of every hit's cost.
        command = partial(self.client.execute_command, "MGET", *names)
        return self.ask(command, [None] * len(names))

    def read(self, keys: Sequence[str]) -> list[Envelope | None]:
        """Return what is stored of this generation, expired entries too."""
        # The generation comes along, so that a hit is still one round trip.
        names = [self.name("value", key) for key in keys]
        generation, *payloads = self.fetch([self.generation, *names])
        return [self.opened(payload, generation) for payload in payloads]

    def get_many(self, keys: Sequence[str]) -> dict[str, Any]:
        """Return what is cached of the keys, in one round trip."""
        now = self.clock()
        found = {}
        for key, entry in zip(keys, self.read(keys), strict=True):
            # Redis' own TTL is longer where an old value may stand in (section 6).
            if entry and now < entry.expires:
                found[key] = entry.value
        self.stats.add("hits", len(found))
        self.stats.add("misses", len(keys) - len(found))
        return found

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value, or the default on a miss."""
        return self.get_many([key]).get(key, default)

    def set(self, key: str, value: Any, ttl: float = 3600) -> bool:
        """Store a value for `ttl` seconds, at most 30 days; TypeError if JSON can't.

        False if Redis is out or has no room: then the value from before is deleted.
        """
        refuse_ttl("ttl", ttl)
        # An entry without a generation could not be made invalid by a new one.
        begin = partial(self.begin, self.client.pipeline())
        (generation,) = self.ask(begin, [None])
        payload = self.sealed(value, generation, ttl)
        name = self.name("value", key)
        pipe = self.client.pipeline()  # a transaction
        for kind in self.kinds_of_a_key:
            pipe.unlink(self.name(kind, key))
        pipe.set(name, payload, px=milliseconds(ttl))
        stored = False
        if generation:
            stored = bool(self.ask(pipe.execute, None))
        self.changed(name)
        if not stored:
            self.delete(key)  # a reader must not get what it was to replace
        return stored

    def delete(self, *keys: str | bytes) -> int:
        """Delete the values; return how many there were."""
        if not keys:
            return 0
        pipe = self.client.pipeline(False)  # a full Redis would refuse a transaction
        for kind in self.kinds_of_a_key:
            pipe.unlink(*self.names(kind, keys))
        counts = self.change(pipe.execute, [0], *self.names("value", keys))
        return int(counts[-1])

    def clear_pattern(self, pattern: str | bytes) -> int:
        """Delete the keys that match a glob (escape() literal parts); return how many.

        SCAN and UNLINK let others through in between; KEYS and DEL would not.
        """

        def sweep() -> int:
            counts = [self.sweep(kind, pattern) for kind in self.kinds_of_a_key]
            return counts[-1]

        return int(self.change(sweep, 0))

    def renew(self) -> None:
        """End the generation: without one, every entry is a miss."""
        self.client.unlink(self.generation)  # Redis does it without memory, too
        self.changed()

    def bump(self) -> None:
        """Turn every entry into a miss for all processes: one command, O(1)."""
        self.change(self.renew, None)

    def found_corrupt(self) -> None:
        """Count a payload that is no envelope of ours: a pickle, say."""
        self.stats.add("corrupt")


# endregion json-cache


def commands_sent(cache: JsonCache, call: Call) -> int:
    """Return how many commands the call sends to Redis."""
    before = cache.stats.trips
    call()
    return cache.stats.trips - before


class Exploit:
    """Once unpickled, it has run code of its author's choice."""

    ran = False

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return setattr, (Exploit, "ran", True)


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
    fact("pickle.loads ran the payload's code", Exploit.ran)
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


class LeasedCache(JsonCache):
    """Unlike JsonCache it loads: once for all threads and processes, never stale.

    A miss takes a lease, with a token. A delete withdraws it, and a store without it is
    refused (memcache leases: Nishtala et al., Scaling Memcache at Facebook, NSDI 2013).
    """

    kinds_of_a_key = ("lease", "value")  # leases first: no load stores in between

    def __init__(
        self, client: Any, prefix: str = "cache:", clock: Clock = time.time
    ) -> None:
        super().__init__(client, prefix, clock)
        self.lock = ForkSafeLock()
        self.flights = SingleFlight()
        self.changes = 0  # by this process
        self.log = RareWarnings()
        self.release = client.register_script(RELEASE)

    def count_change(self) -> None:
        """Note that what is being loaded by now is not for who asks later."""
        with self.lock:
            self.changes += 1

    def change(self, command: Call, default: Any, *names: bytes) -> Any:
        """Return the answer to a command that makes these names, or all, invalid."""
        self.count_change()
        return super().change(command, default, *names)

    def set(self, key: str, value: Any, ttl: float = 3600) -> bool:
        """Store a value, which loads under way can't replace."""
        self.count_change()
        return super().set(key, value, ttl)

    def get_or_load(self, key: str, load: Call, policy: Policy) -> Any:
        """Return the cached value, else load it once for all threads and processes.

        Threads that share a load get the same object: copy a list before editing it.
        Raises what the load raises, LoaderError if it failed in another process.
        """
        began = self.changes
        (seen,) = self.read([key])
        fresh = seen is not None and self.clock() < seen.expires
        self.stats.add("hits" if fresh else "misses")
        if seen and fresh and not self.is_due(seen, policy):
            return seen.value
        return self.load_once(Job(key, load, policy, began, seen))

    def is_due(self, seen: Envelope, policy: Policy) -> bool:
        """Tell whether to load although what was read is fresh."""
        return False

    def load_once(self, job: Job) -> Any:
        """Return the value of a load that began after the last change before us."""
        lead = partial(self.lead, job)
        while True:
            answer, role = self.flights.run(job.key, lead, job.wait)
            # Another thread leads, and takes longer than a load should.
            if role == "busy":
                answer, role = self.load_late(job)
            if role == "led":
                return answer.value
            self.stats.add("waits")
            # A flight from before a delete is no answer to who asked after it.
            if answer.began >= job.began:
                return answer.value

    def load_late(self, job: Job) -> tuple[Answer, str]:
        """Load once more for all who have waited too long, and store nothing."""
        return self.flights.run((job.key, "late"), partial(self.load_only, job))

    def load_only(self, job: Job) -> Answer:
        """Load without a lease: then nothing may be stored."""
        began = self.changes
        self.stats.add("loads")
        return Answer(job.load(), began)

    # region lease
    def lead(self, job: Job) -> Answer:
        """Claim the lease and load, or wait for the process that holds it."""
        began = self.changes
        # No wait is endless: not even for a process that died with the lease.
        deadline = time.monotonic() + job.wait
        awaited = job.token  # whose failure would be ours, too
        pause = 0.002
        while claim := self.claim(job):
            fresh = self.is_news(claim.entry, job)
            failure = claim.reason(awaited)
            if claim.holder == job.token:
                if not fresh and not failure:
                    return self.load(job, claim.generation)
                self.finish(job)  # somebody has loaded just before: give it back
            if claim.entry and fresh:
                return Answer(claim.entry.value, began)
            # Told only to those who waited for that very load; the next one loads.
            if failure:
                raise LoaderError(failure)
            if time.monotonic() >= deadline:
                break
            awaited = claim.holder or awaited
            # By chance, so that a hundred processes do not ask in step.
            time.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 2, 0.05)
        return self.load_only(job)  # Redis is out, or the other one too slow

    def claim(self, job: Job) -> Claim | None:
        """Take the lease if it is free; return who has it, None if Redis is out."""
        lease, *others = [self.name(k, job.key) for k in ("lease", "value", "failure")]
        pipe = self.client.pipeline()  # a transaction, in one round trip
        pipe.set(lease, job.token, px=milliseconds(job.policy.wait), nx=True)
        stored = self.ask(partial(self.begin, pipe, lease, *others), None)
        if stored is None:
            return None
        generation, holder, payload, failure = stored
        entry = self.opened(payload, generation)
        return Claim(generation, holder or b"", entry, failure or b"")

    def finish(
        self, job: Job, kind: str = "value", text: str | bytes = "", ttl: float = 1
    ) -> bool:
        """Give the lease back and store a text; False if the lease was withdrawn."""
        names = [self.name("lease", job.key), self.name(kind, job.key)]
        release = partial(self.release, names, [job.token, text, milliseconds(ttl)])
        # If Redis is out, the caller still has a good answer: 1 stands for "kept".
        kept = bool(self.ask(release, 1))
        self.changed(names[1])
        return kept

    # endregion lease

    def is_news(self, entry: Envelope | None, job: Job) -> bool:
        """Tell whether an entry is fresh, and not the one that the job began with."""
        if entry is None or entry == job.seen:
            return False
        return self.clock() < entry.expires

    def load(self, job: Job, generation: bytes | None) -> Answer:
        """Load and store, if the lease is still ours; tell waiters of a failure."""
        self.stats.add("loads")
        began = self.changes
        start = time.perf_counter()
        try:
            value = job.load()
            delta = time.perf_counter() - start
            ttl = self.lifetime(value, job.policy)
            payload = self.sealed(value, generation, ttl, delta)
        except BaseException as error:
            self.give_up(job, error)
            raise
        self.stats.add("load_ms", round(delta * 1000))
        self.log.warn_if_slow(job.key, delta, job.policy.wait)
        if self.finish(job, "value", payload, ttl + job.policy.grace):
            return Answer(value, began)
        # Somebody has deleted it while it was loading.
        self.stats.add("refused")
        return Answer(value, -1)  # only for those who asked before that

    def give_up(self, job: Job, error: BaseException) -> None:
        """Give the lease back; say why to those who wait in other processes."""
        if isinstance(error, Exception):
            text = job.token + failure_text(error)
            self.finish(job, "failure", text, job.policy.wait)
        else:  # this process is told to end (SystemExit): another one loads
            self.finish(job)

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
) -> Decorator:
    """Cache results in Redis, shared by all processes; `ttl` overrides the policy's.

    The key is `name` (put the version of what computes it in), or the module and name
    of the function, and a hash of the arguments. Arguments and results are plain JSON
    values, else TypeError. Of a method decorate the bound one, with a name that tells
    instances apart: `self.rank = redis_cache(600, name="rank-2")(self._rank)`.
    """
    # A policy is checked here, when the module is imported, not at the first call.
    chosen = policy or Policy()
    if ttl is not None:
        chosen = replace(chosen, ttl=ttl)

    def decorate(fn: Function) -> Any:
        refuse_coroutines(fn)
        title = name or full_name(fn)
        call_key = CallKey(fn)

        def key(*args: Any, **kwargs: Any) -> str:
            return f"{title}:{call_key.digest(args, kwargs)}"

        def cached(*args: Any, **kwargs: Any) -> Any:
            # Late: whoever imports a decorated function has not connected yet.
            store = cache or default_cache()
            load = partial(fn, *args, **kwargs)
            return store.get_or_load(key(*args, **kwargs), load, chosen)

        wrapper: Any = functools.update_wrapper(cached, fn)
        wrapper.key = key
        return wrapper

    return decorate


# endregion redis-cache


def stampede_on_tutorial(env: CacheEnv, name: str, answer: object) -> int:
    """Return how often 4 clients of 25 threads load, with the tutorial's lock."""
    source = SlowSource(answer)
    calls = []
    for _ in range(4):
        client = env.connect()
        calls += [partial(cache_aside, client, env.prefix + name, source.load)] * 25
    start_together(calls, hold=source)
    return source.loads


def stampede_on_lease(env: CacheEnv, name: str, answer: object) -> tuple[int, int]:
    """Return how often 4 clients of 25 threads load, with a lease; and the failures."""
    source = SlowSource(answer, seconds=0.1)
    policy = Policy(ttl=60, wait=30)
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
    """Stampede: four processes' worth of callers, one load; nothing stale is stored"""
    rows = []
    for kind, answer in (("None", None), ("an exception", LookupError("no such row"))):
        naive = stampede_on_tutorial(env, kind, answer)
        leased, failed = stampede_on_lease(env, kind, answer)
        rows.append((kind, naive, leased, failed))
    table(("100 callers, 4 clients; loaded:", "tutorial", "lease", "failed"), *rows)
    check(
        "one load for all, also of None or an exception",
        observed={kind: counts for kind, *counts in rows},
        expected={"None": [100, 1, 0], "an exception": [100, 1, 100]},
    )

    cache = LeasedCache(env.connect(), f"{env.prefix}fence:")
    client = env.connect()
    rounds = 100
    stale = {"tutorial": 0, "lease": 0}
    for number in range(rounds):
        key = f"{env.prefix}price:{number}"
        cache_aside(client, key, partial(old_value_after, partial(client.delete, key)))
        if client.get(key) == b'"old"':
            stale["tutorial"] += 1
        load = partial(old_value_after, partial(cache.delete, key))
        cache.get_or_load(key, load, Policy(ttl=60))
        if cache.get(key) == "old":
            stale["lease"] += 1
    fact(f"stale after {rounds} overtaken loads", stale)
    check(
        "a delete during a load leaves nothing stale",
        observed=stale,
        expected={"tutorial": rounds, "lease": 0},
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

    def is_due(self, seen: Envelope, policy: Policy) -> bool:
        """Tell whether to load although what was read is fresh: by chance."""
        if not loads_early(seen, self.clock(), policy.beta, random.random()):
            return False
        self.stats.add("early")
        return True

    def load_once(self, job: Job) -> Any:
        """Load once; nobody waits where an old value can serve meanwhile."""
        seen = job.seen
        if seen and self.clock() < seen.expires + job.policy.grace:
            job.serve_meanwhile(seen)
        return super().load_once(job)

    def load(self, job: Job, generation: bytes | None) -> Answer:
        """Load and store; the old value, if there is one, covers a failure."""
        try:
            return super().load(job, generation)
        except Exception:
            # An hour-old price is better than an error page, if `grace` says so.
            if job.old is None:
                raise
            return self.load_only(job)

    def load_late(self, job: Job) -> tuple[Answer, str]:
        """Return the old value at once, else load once for all who are late."""
        if job.old:
            return self.load_only(job), "led"
        return super().load_late(job)

    def load_only(self, job: Job) -> Answer:
        """Return the old value if there is one, else load without storing."""
        if job.old is None:
            return super().load_only(job)
        self.stats.add("stale")
        return Answer(job.old.value, job.began)

    def lifetime(self, value: object, policy: Policy) -> float:
        """Return the seconds to live of a value, shorter by chance and for None."""
        ttl = policy.ttl
        if value is None and policy.none_ttl is not None:
            ttl = policy.none_ttl
        return ttl * (1 - policy.jitter * random.random())


@lesson.demo
def early(env: CacheEnv) -> None:
    """Refresh: before expiry by chance, spread out, and an old value if a load fails"""
    dice = random.Random(8)
    draws = 50_000
    rows = []
    measured = {}
    exact = {}
    for gap in (0.5, 1.0, 2.0, 4.0):  # in units of beta * delta
        entry = Envelope("value", 0.0, gap, delta=1.0)
        begun = sum(loads_early(entry, 0.0, 1.0, dice.random()) for _ in range(draws))
        measured[gap] = begun / draws
        exact[gap] = math.exp(-gap)
        misprint = 1 - exact[gap]
        shares = (measured[gap], exact[gap], misprint)
        rows.append((gap, *(f"{share:.2f}" for share in shares)))
    table(("gap / (beta delta)", "measured", "e^-gap", "as once published"), *rows)
    check(
        "XFetch loads early with P = e^(-gap / (beta delta))",
        observed=measured,
        expected={gap: near(share, within=0.01) for gap, share in exact.items()},
    )

    clock = ManualClock()
    cache = RefreshingCache(env.connect(), f"{env.prefix}late:", clock)
    crowded = {}
    for jitter in (0.0, 0.2):
        policy = Policy(ttl=100, jitter=jitter)
        lives = [cache.lifetime("value", policy) for _ in range(1000)]
        crowded[jitter] = most_in_one_second(lives)
    # Trap: what was loaded together and has one TTL expires together.
    fact("of 1000 keys expire in one second", f"{crowded[0.0]} without jitter")
    check(
        "with a jitter of 0.2 fewer than 150 do",
        observed=crowded,
        expected={0.0: 1000, 0.2: less_than(150)},
    )

    down = SlowSource(ConnectionError("origin is down"))
    got = {}
    for grace in (0, 600):
        policy = Policy(ttl=60, beta=0, grace=grace)
        cache.get_or_load("price", lambda: "the old value", policy)
        clock.advance(61)
        read = partial(cache.get_or_load, "price", down.load, policy)
        got[grace] = str(outcome_of(read))
    table(
        ("the origin fails", "the caller gets"),
        ("no grace", got[0]),
        ("grace 600 s", got[600]),
    )
    check(
        "within the grace a failing load gives the old value",
        observed=got,
        expected={0: "origin is down", 600: "the old value"},
    )


# %% [markdown]
# ## 7. What a change makes wrong: by pattern, by tag, by dependency


# %%
class CacheInvalidationManager:
    """Deletes what a change makes wrong; every method returns how many values.

    The dependencies are those that this process has declared.
    """

    def __init__(self, cache: LeasedCache) -> None:
        self.cache = cache
        self.dependents: dict[str, set[str]] = {}

    def depend(self, key: str, *parents: str) -> None:
        """Declare that `key` is computed from its parents; cycles are allowed."""
        for parent in parents:
            self.dependents.setdefault(parent, set()).add(key)

    def tag(self, tag: str, *keys: str) -> None:
        """Put keys under a tag; delete them if Redis can't tag them."""
        if not keys:
            return
        name = self.cache.name("tag", tag)
        # It lives as long as any key that it names can.
        pipe = self.cache.client.pipeline()
        pipe.sadd(name, *keys)
        pipe.expire(name, LONGEST_TTL)
        if not self.cache.ask(pipe.execute, None):
            self.cache.delete(*keys)

    def invalidate_pattern(self, pattern: str) -> int:
        """Delete the keys that match a glob; escape() literal parts."""
        # Trap: in an unescaped id, [1] stands for 1, so another key is meant.
        return self.cache.clear_pattern(pattern)

    # region tag
    def invalidate_tag(self, tag: str) -> int:
        """Delete the keys under the tag, and the tag, in one step."""
        name = self.cache.name("tag", tag)
        starts = [self.cache.name("value"), self.cache.name("lease")]
        take = self.cache.client.register_script(TAKE)
        removed: int = self.cache.change(partial(take, [name], starts), 0)
        return removed

    # endregion tag

    def cascade_by_recursion(self, key: str) -> int:
        """Delete the key and all that depends on it, as one would write it first."""
        removed = self.cache.delete(key)
        for dependent in sorted(self.dependents.get(key, ())):
            removed += self.cascade_by_recursion(dependent)
        return removed

    # region cascade
    def cascade(self, key: str) -> int:
        """Delete the key and all that depends on it, however indirectly, once each."""
        # What is found already is not visited again: dependencies may close to a cycle.
        found = {key}
        queue = [key]
        while queue:
            dependents = self.dependents.get(queue.pop(), set())
            new = dependents - found
            found |= new
            queue += new
        return self.cache.delete(*found)

    # endregion cascade


KEYS = ("feed", "page", "profile", "u:a1", "u:a[1]", "u:b", "user")


def invalidated(cache: LeasedCache, invalidate: Call) -> tuple[Any, str]:
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


@lesson.demo
def invalidation(env: CacheEnv) -> None:
    """Invalidation: exactly what a change makes wrong, counted"""
    cache = RefreshingCache(env.connect(), f"{env.prefix}inv:")
    manager = CacheInvalidationManager(cache)
    manager.depend("profile", "user")
    manager.depend("feed", "user", "profile")
    manager.depend("page", "feed")
    manager.depend("user", "page")  # a cycle: user, feed, page, user
    manager.tag("kyiv", "u:a1", "u:b")

    raw = invalidated(cache, lambda: manager.invalidate_pattern("u:a[1]"))
    exact = invalidated(cache, lambda: manager.invalidate_pattern(escape("u:a[1]")))
    tag = invalidated(cache, lambda: manager.invalidate_tag("kyiv"))
    again = invalidated(cache, lambda: manager.invalidate_tag("kyiv"))
    naive = invalidated(cache, lambda: manager.cascade_by_recursion("user"))
    cascade = invalidated(cache, lambda: manager.cascade("user"))
    bump = invalidated(cache, lambda: commands_sent(cache, cache.bump))
    table(
        ("invalidated by", "returns", "gone"),
        ("pattern u:a[1]", *raw),
        ("escaped", *exact),
        ("tag kyiv", *tag),
        ("tag kyiv again", *again),
        ("plain recursion", *naive),
        ("cascade of user", *cascade),
        ("bump", *bump),
    )
    check(
        "an escaped pattern removes the key it names",
        observed={"as it is": raw, "escaped": exact},
        expected={"as it is": (1, "u:a1"), "escaped": (1, "u:a[1]")},
    )
    check(
        "a tag removes its two keys, once",
        observed={"first": tag, "again": again},
        expected={"first": (2, "u:a1 u:b"), "again": (0, "")},
    )
    check(
        "a cascade over a cycle removes each of four keys once",
        observed={"recursion": naive[0], "cascade": cascade},
        expected={
            "recursion": "RecursionError",
            "cascade": (4, "feed page profile user"),
        },
    )
    check(
        "a bump: one command, all entries are misses",
        observed={"commands": bump[0], "gone": bump[1]},
        expected={"commands": 1, "gone": " ".join(KEYS)},
    )


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


UNHEARD = object()  # stands for the answer that Redis did not give


class RedisCache(RefreshingCache):
    """The complete cache: all of the above, and it fails open.

    A process never serves what it has deleted. Others may, if Redis did not hear of it,
    until this process talks to Redis again: before it ends, it calls settle().
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
        self.owed = False  # an invalidation that Redis has not heard of

    # region ask
    def ask(self, command: Call, default: Any) -> Any:
        """Return the answer, or the default: at once while the breaker is open."""
        if not self.breaker.allows():
            self.stats.add("skipped")
            return default
        try:
            # First: what was deleted in an outage must not be read after it.
            if self.owed:
                self.renew()
            self.stats.add("trips")
            answer = command()
        except (redis.RedisError, OSError) as error:
            self.count_failure(error)
            return default
        self.breaker.record(success=True)
        return answer

    def change(self, command: Call, default: Any, *names: bytes) -> Any:
        """Return the answer to a command that makes these names, or all, invalid.

        What Redis did not hear is owed: before the next command of this process a new
        generation makes good for it, at the price of a cold start.
        """
        # First: a load that is under way by now is not for who asks after this.
        self.count_change()
        answer = self.ask(command, UNHEARD)
        if answer is UNHEARD:
            with self.lock:
                self.owed = True
            answer = default
        self.changed(*names)
        return answer

    def renew(self) -> None:
        """End the generation, and with it whatever is owed."""
        with self.lock:
            self.client.unlink(self.generation)
            self.owed = False
        self.changed()

    # endregion ask

    def count_failure(self, error: Exception) -> None:
        """Count an error; a refusal (no memory, no right) is an answer: no outage."""
        self.breaker.record(success=isinstance(error, redis.ResponseError))
        self.stats.add("errors")
        reason = redact(error).rpartition("caused error: ")[2]  # without the values
        self.log.warn(f"the cache does without Redis: {reason}")

    def settle(self, timeout: float = 5.0) -> bool:
        """Pay what is owed, before the process ends; tell whether nothing is left."""
        deadline = time.monotonic() + timeout
        while self.owed and time.monotonic() < deadline:
            self.ask(self.client.ping, False)
            time.sleep(0.02)
        return not self.owed


@functools.lru_cache(maxsize=1)
def default_cache() -> RedisCache:
    """Return the cache at REDIS_URL, for a redis_cache that is given none."""
    return RedisCache(cache_client(setting("REDIS_URL", DEFAULT_URL)))


class NearCache(RedisCache):
    """A RedisCache with a copy in this process, which Redis empties by push.

    A listener hears of every change under the prefix (CLIENT TRACKING). While it does
    not, nothing is served from the copy.
    """

    def __init__(self, client: Any, prefix: str, maxsize: int = 10_000) -> None:
        refuse_resp3(client)
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
        self.copies.keep(names, payloads, mark)
        return payloads

    def changed(self, *names: bytes) -> None:
        """Drop the copies of these names, or all, of what this process changes."""
        self.copies.changed(*names)


class Reads(NamedTuple):
    """How reads ended: with the right answer, and after how many failed commands."""

    answered: int
    failed: int


def read_often(cache: RedisCache, number: int) -> Reads:
    """Read a key, which the origin gives as "new", so many times."""
    before = cache.stats.errors
    answers = [cache.get_or_load("k", lambda: "new", Policy()) for _ in range(number)]
    return Reads(answers.count("new"), cache.stats.errors - before)


def reads_without_redis(limits: dict[str, int]) -> dict[str, Reads]:
    """Return how ten reads end at a port that refuses, by the breakers' limits."""
    found = {}
    with socket.socket() as closed:  # bound, not listening: connections are refused
        closed.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{closed.getsockname()[1]}/0"
        for name, limit in limits.items():
            breaker = CircuitBreaker(limit, cooldown=60)
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
    cache.delete("k")  # Redis does not hear it
    clock.advance(2)
    probes = read_often(cache, 100).failed
    check("half-open: of 100 reads after the cooldown one is sent", probes, 1)
    server.connected = True
    clock.advance(2)
    held = json.loads(client.get(cache.name("value", "k")))["value"]
    fact("Redis comes back and still holds", held)
    check(
        "a delete lost in the outage is made good",
        observed={"in Redis": held, "right answers": read_often(cache, 2).answered},
        expected={"in Redis": "old", "right answers": 2},
    )
    check("one good probe closes the breaker", cache.stats.hits, 1)


def copies_nearby(env: CacheEnv, cache: NearCache) -> None:
    """Read copies while another client writes, and after the connection is cut."""
    writer = env.cache("near")
    wait_until(lambda: cache.copies.followed)
    forever = functools.lru_cache(cache.get)
    wait_until(lambda: forever("price") == cache.get("price") == 0)
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
        wait_until(lambda new=price: cache.get("price") == new)  # type: ignore[misc]
    fact("lru_cache over the same reads", f"{forever('price')}; the price is 50")
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
    fact("a frozen Redis costs, by default", patient)
    check(
        "the client gives up after two tries of 0.2 s",
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
class RecommendationEngine:
    """Recommends products: results in Redis, trends for a minute, facts for good."""

    def __init__(self, cache: RedisCache) -> None:
        dice = random.Random(8)
        items = [f"p{number:02}" for number in range(12)]
        weights = range(12, 0, -1)  # 40 users bought up to 5 products each
        self.bought = {n: set(dice.choices(items, weights, k=5)) for n in range(40)}
        # Each cache is made here, so that it dies with the engine.
        self.recommend = redis_cache(600, cache=cache, name="bought-1")(self._recommend)
        self.trending = timed_lru_cache(maxsize=16, ttl_seconds=60)(self._trending)

    def _recommend(self, user: int, limit: int = 3) -> list[str]:
        """Return what users with the same products bought besides."""
        mine = self.bought[user]
        score: Counter[str] = Counter()
        for other in self.bought.values():
            shared = len(other & mine)
            for item in other - mine:
                score[item] += shared
        return sorted(score, key=lambda item: (-score[item], item))[:limit]

    def _trending(self, limit: int = 3) -> tuple[str, ...]:
        """Return the products most bought; a tuple, as all callers get the same."""
        counts = Counter(item for items in self.bought.values() for item in items)
        return tuple(sorted(counts, key=lambda item: (-counts[item], item))[:limit])

    @staticmethod
    @functools.lru_cache(maxsize=128)
    def product(item: str) -> str:
        """Return a product's title, which never changes."""
        return f"Product {int(item[1:])}"


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
        """Return a text's direction in 8 dimensions: unit length, the same always."""
        raw = hashlib.blake2b(text.encode(), digest_size=8).digest()
        centred = [byte - 127.5 for byte in raw]
        norm = math.hypot(*centred)
        return tuple(number / norm for number in centred)


class UnlockedCounter:
    """Counts without a lock: it reads, may be interrupted, and writes."""

    hits = 0

    def add(self) -> None:
        """Count; what another thread counts in between is lost."""
        hits = self.hits
        time.sleep(0)
        self.hits = hits + 1


@lesson.demo
def services(env: CacheEnv) -> None:
    """Services: three tiers under eight threads, and every lookup is accounted for"""
    cache = env.cache("shop")
    engine = RecommendationEngine(cache)
    engine.product.cache_clear()
    unlocked = UnlockedCounter()

    def visit() -> None:
        for user in range(50):
            best = engine.recommend(user % 10)[0]
            engine.product(best)
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
    fact("counted without a lock", "fewer" if unlocked.hits < 400 else "all")
    check(
        "hits + misses = calls in every tier",
        observed=sums | {"without a lock": unlocked.hits},
        expected=dict.fromkeys(sums, 400) | {"without a lock": less_than(400)},
    )
    check("ten users' recommendations take ten loads", cache.stats.loads, 10)

    rows = []
    agrees = {}
    for title, name, weight in (
        ("first model", "churn-1", 0.05),
        ("retrained, same name", "churn-1", 0.1),
        ("retrained, new name", "churn-2", 0.1),
    ):
        model = MLPredictionService(cache, name, weight)
        cached = round(model.predict(40), 3)
        computed = round(model.score(40), 3)
        rows.append((title, cached, computed))
        agrees[title] = cached == computed
    table(("churn after 40 days", "cached", "computed"), *rows)
    check(
        "a new name never serves the old model's scores",
        observed=agrees,
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
