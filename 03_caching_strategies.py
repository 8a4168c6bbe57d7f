"""Three tiers of caching, each beside the well-known version that breaks.

You will see, in order: what lru_cache saves; a time to live per entry at its speed;
one load for a hundred threads; a Redis tier that returns what was put in, or says no;
stampedes and stale sets stopped across processes; early and stale answers; a near
cache that Redis empties by push; invalidation that counts; an outage that no caller
notices; the services that use it all; what eviction policies are worth.

Run:     python 03_caching_strategies.py [--list] [--only NAME ...] [--offline]
Service: Redis 6.2 or later at REDIS_URL (default redis://127.0.0.1:6379/0; rediss://
         for TLS). Own keys only, each with a TTL, deleted at the end.
Without: fakeredis, in this process: no CLIENT TRACKING (the near cache is skipped),
         no real latency. Runtime: about four seconds. Guide: chapter 3.
"""

# /// script
# requires-python = ">=3.11"
# dependencies = ["redis[hiredis]>=8.0,<9", "fakeredis[lua]>=2.33,<3",
#                 "python-dotenv>=1.2.2,<2", "rich>=13.7,<16"]
# ///

from __future__ import annotations

import argparse
import asyncio
import functools
import hashlib
import inspect
import json
import logging
import math
import os
import pickle
import random
import socket
import threading
import time
import uuid
import weakref
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, suppress
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple, TypeVar

import fakeredis
import redis

import course.start  # noqa: F401  (first: it says in one line what is missing)
from course.caching.client import DEFAULT_URL, cache_client, escape, unlink_matching
from course.caching.codec import strict
from course.caching.service import Service, open_service
from course.console import Lesson, check, fact, note, table
from course.errors import Skip
from course.services import redact, setting

LONGEST_TTL = 30 * 86_400  # seconds; a generation has to outlive every entry
SCHEMA = 1  # of the envelope; an entry of another version is a miss
KINDS = ("value", "generation", "lease", "failure", "tag")  # of names in Redis
Clock = Callable[[], float]
T = TypeVar("T")


class CacheEnv(Service):
    """What every demo receives: a way to connect, and a prefix of our own."""

    def cache(self, name: str) -> RedisCache:
        """Return a cache with connections of its own, as a process has."""
        return RedisCache(self.connect(), f"{self.prefix}{name}:")


def open_env(args: argparse.Namespace) -> AbstractContextManager[CacheEnv]:
    """Open Redis or the stand-in; delete every key of ours at the end."""
    return open_service(args, CacheEnv)


lesson = Lesson("Three tiers of caching", open_env)


class PerformanceTimer:
    """Times a block and prints it on stderr: `with PerformanceTimer("query"): ...`."""

    def __init__(self, label: str) -> None:
        self.label, self.seconds = label, 0.0

    def __enter__(self) -> PerformanceTimer:
        self.seconds -= time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter()
        note(f"{self.label}: {self.seconds * 1000:.2f} ms")


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
    _lock: Any = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, name: str, number: int = 1) -> None:
        """Count, from any thread: an unlocked read and write would lose some."""
        with self._lock:
            vars(self)[name] += number

    def as_json(self) -> str:
        """Return the counts as a JSON object, for a metrics endpoint."""
        counts = {k: v for k, v in vars(self).items() if not k.startswith("_")}
        return json.dumps(counts)


def outcome(call: Callable[[], Any]) -> Any:
    """Return what the call returns, or the exception it raises."""
    try:
        return call()
    except Exception as error:
        return error


class Source:
    """A slow origin that counts its loads; it returns its answer, or raises it."""

    def __init__(self, answer: object, seconds: float = 0.1) -> None:
        self.answer, self.seconds, self.loads = answer, seconds, 0
        self.ready: Callable[[], object] = lambda: True  # until then it holds back
        self.lock = threading.Lock()

    def __call__(self, *_: object) -> Any:
        """Answer after a while."""
        with self.lock:
            self.loads += 1
        wait_until(self.ready, 30)
        time.sleep(self.seconds)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def crowd(
    calls: Sequence[Callable[[], Any]], source: Source | None = None
) -> list[Any]:
    """Start the calls at once, a thread each; return their outcomes.

    The source, if given, answers nobody before all have called: a race without luck.
    """
    barrier, absent = threading.Barrier(len(calls)), [*calls]
    if source:
        source.ready = lambda: not absent

    def start(call: Callable[[], Any]) -> Any:
        barrier.wait(30)
        absent.pop()
        return outcome(call)

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(start, calls))


class Ticker:
    """A clock that moves only when told to, in seconds."""

    now = 1_000_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def wait_until(state: Callable[[], object], limit: float = 5.0) -> None:
    """Poll until the state holds; raise TimeoutError after `limit` seconds."""
    until = time.monotonic() + limit
    while not state():
        if time.monotonic() > until:
            raise TimeoutError("the state was not reached in time")
        time.sleep(0.0002)


# %% [markdown]
# ## 1. lru_cache: what a memory saves

# %%


class FibonacciCalculator:
    """Fibonacci numbers by plain recursion and by memory; counts its calls."""

    def __init__(self) -> None:
        self.calls = 0
        # Trap: @lru_cache on the method would keep every self alive.
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
        slow, fast = FibonacciCalculator(), FibonacciCalculator()
        with PerformanceTimer(f"Fibonacci({n}) with lru_cache"):
            value = fast.cached(n)
        if n < 35:  # that would be 30 million calls
            with PerformanceTimer(f"Fibonacci({n}) without"):
                slow.naive(n)
        known = 2 * (value + fast.cached(n - 1)) - 1
        rows.append((n, value, slow.calls or "not run", known, fast.calls))
    table(("n", "F(n)", "calls", "by formula", "with lru_cache"), *rows)
    counts = rows[0][2:] == (242_785, 242_785, 26)
    check("F(25) takes 242,785 calls, or 26 with a memory", counts, True)


# %% [markdown]
# ## 2. timed_lru_cache: a time to live per entry, at C speed

# %%


ONCE = [
    getattr(inspect, f"is{k}function") for k in ("coroutine", "generator", "asyncgen")
]


def refuse_coroutines(fn: Callable[..., Any]) -> None:
    """Raise TypeError for a function whose result can be used only once."""
    called = fn, getattr(fn, "__call__", fn)  # noqa: B004 (an object's)
    if any(is_one(it) for is_one in ONCE for it in called):
        once = "returns a coroutine or generator, which only its first reader can use"
        name = getattr(fn, "__qualname__", repr(fn))
        raise TypeError(f"{name} {once}: cache a plain function's result")


# region forwarder
def forwarder(fn: Callable[..., Any], body: str, scope: dict[str, Any]) -> Any:
    """Return a function with fn's own parameters that executes `body`.

    Python itself binds the arguments, at no cost: every spelling of a call reaches the
    body as the same `{call}`. dataclasses write their __init__ in this way.
    """
    parameters = inspect.signature(fn).parameters.values()
    spelt: dict[Any, str] = {
        inspect.Parameter.VAR_POSITIONAL: "*{0}",
        inspect.Parameter.KEYWORD_ONLY: "{0}={0}",
        inspect.Parameter.VAR_KEYWORD: "**_in_order_({0})",
    }
    call = ", ".join(spelt.get(p.kind, "{0}").format(p.name) for p in parameters)
    scope["_in_order_"] = lambda extra: dict(sorted(extra.items()))
    preset = {p.name: p.default for p in parameters if p.default is not p.empty}
    bare = [
        p.replace(annotation=p.empty, default=None if p.name in preset else p.empty)
        for p in parameters
    ]
    text = f"def cached{inspect.Signature(bare)}:\n{body.replace('{call}', call)}"
    exec(text, scope)  # noqa: S102 (the names of parameters and our own body)
    cached: Any = functools.wraps(fn)(scope["cached"])
    named = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    cached.__kwdefaults__ = {name: preset.pop(name) for name in named if name in preset}
    cached.__defaults__ = tuple(preset.values())
    return cached


# endregion forwarder


FORKED: weakref.WeakSet[Any] = weakref.WeakSet()  # what a child has to revive


def revive_all() -> None:
    """Replace the locks and threads that a forked child has of its parent."""
    for one in [*FORKED]:
        one.revive()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=revive_all)


# region single-flight
class SingleFlight:
    """Runs one call per key at a time; who asks meanwhile shares how it ends."""

    def __init__(self) -> None:
        self.flights: dict[Hashable, tuple[int, Future[Any]]] = {}

    def run(
        self, key: Hashable, call: Callable[[], Any], limit: float | None = None
    ) -> tuple[Any, str]:
        """Return the result and "led" or "shared"; raise what the call raised.

        Returns "busy" if another thread's call takes longer than `limit` seconds;
        raises RecursionError instead of waiting for itself.
        """
        me, mine = threading.get_ident(), Future[Any]()
        owner, flight = self.flights.setdefault(key, (me, mine))  # atomic: no lock
        if flight is mine:
            try:
                result, error = call(), None
            except BaseException as raised:
                result, error = None, raised
            # First: who is told of a failure may call again. A fork has no flights.
            self.flights.pop(key, None)
            if error and not isinstance(error, Exception):  # its thread is told to end
                flight.set_exception(CancelledError())
                raise error
            flight.set_result(result) if error is None else flight.set_exception(error)
        elif owner == me:
            raise RecursionError("a cached call asks for itself: same arguments")
        elif not wait([flight], limit).done:
            return None, "busy"
        elif isinstance(flight.exception(), CancelledError):
            return self.run(key, call, limit)
        return flight.result(), "led" if flight is mine else "shared"


# endregion single-flight


class Box:
    """The one holder of a value, which it lacks before its load and after its time.

    Found by its key while a cache or a caller has it.
    """

    __slots__ = ("__weakref__", "expires", "value")
    value: Any

    def __init__(self) -> None:
        self.expires = math.inf


# region reaper
class Reaper:
    """Empties boxes `ttl` seconds after they were filled: no hit need ask for the time.

    Equal lives end in the order in which they began, so a queue will do. A daemon
    thread sleeps until its head is due; it takes what is due together, up to 5 ms late,
    and ends with the queue.
    """

    def __init__(self, ttl: float) -> None:
        self.ttl, self.limit = ttl, 256
        self.queue = deque[tuple[float, weakref.ref[Box]]]()
        self.revive()
        FORKED.add(self)

    def revive(self) -> None:
        """Take a new lock, which nobody holds, and a thread if there is work."""
        self.lock = threading.RLock()  # the end of a value may call a cached function
        if self.queue:
            threading.Thread(target=self.run, name="reaper", daemon=True).start()

    def fill(self, box: Box, value: Any) -> None:
        """Put a value into a box, for `ttl` seconds."""
        _old = getattr(box, "value", None)  # ends with this call, not under the lock
        with self.lock:
            if not self.queue:
                threading.Thread(target=self.run, name="reaper", daemon=True).start()
            box.expires = time.monotonic() + self.ttl
            self.queue.append((box.expires, weakref.ref(box)))
            box.value = value  # last: a fork may come in between
            if len(self.queue) > self.limit:  # boxes that were evicted are dead
                self.queue = deque(item for item in self.queue if item[1]())
                self.limit = max(256, 2 * len(self.queue))

    def run(self) -> None:
        """Reap until nothing is left."""
        while pause := self.reap():
            time.sleep(pause)

    def reap(self) -> float:
        """Take away what is due; return for how many seconds to sleep, 0 for good."""
        dead = list[Any]()  # ends after the lock is free: values may have a __del__
        with self.lock:
            now = time.monotonic()
            while self.queue and self.queue[0][0] <= now:
                dead.append(box := self.queue[0][1]())
                if box and box.expires <= now and hasattr(box, "value"):
                    dead.append(box.value)
                    del box.value
                self.queue.popleft()  # last, too
            if not self.queue:
                return 0.0
            return min(max(self.queue[0][0] - now, 0.005), 3600.0)


reaper_for = functools.cache(Reaper)  # a thread per length of life, not per cache
# endregion reaper

# region hit
HIT = """
    _box_ = FIND
    try:
        if IN_TIME:
            return _box_.value
    except AttributeError:  # taken away: its time is over
        pass
    return _reload_(_box_, {call})
"""
# typed=True would cost as much again as the lookup; an int or a str needs no type.
FIND_ONE = (
    "_core_({call}) if _type_({call}) is _int_ or _type_({call}) is _str_"
    " else _core_({call}, _type_({call}))"
)
# endregion hit


class TimedCore:
    """lru_cache's C core, holding boxes with an expiry instead of values.

    A hit is one C lookup, without a lock. A key has one box however many threads ask
    for it, so one of them can fill it for all.
    """

    def __init__(
        self, fn: Callable[..., Any], size: int | None, ttl: float, clock: Clock
    ) -> None:
        self.fn, self.size, self.ttl, self.clock = fn, size, ttl, clock
        self.revive()
        FORKED.add(self)
        reaped = clock is time.monotonic
        self.reaper = reaper_for(ttl) if reaped and ttl < math.inf else None
        kinds = [p.kind.name for p in inspect.signature(fn).parameters.values()]
        self.one = len(kinds) == 1 and kinds[0].startswith("POSITIONAL_O")
        self.scope: dict[str, Any] = {"_clock_": clock, "_reload_": self.reload}
        self.scope |= {"_type_": type, "_int_": int, "_str_": str}
        self.clear()
        find = FIND_ONE if self.one else "_core_({call})"
        in_time = "True" if reaped else "_clock_() < _box_.expires"
        body = HIT.replace("FIND", find).replace("IN_TIME", in_time)
        self.cached = forwarder(fn, body, self.scope)

    def revive(self) -> None:
        """Take locks that nobody holds; forget the loads of threads that are gone."""
        self.lock, self.flights, self.moving = threading.RLock(), SingleFlight(), False

    def clear(self) -> None:
        """Forget everything; a load under way ends in a core that nobody asks."""
        with self.lock:
            old = vars(self).get("core")
            self.boxes = weakref.WeakValueDictionary[tuple[Any, ...], Box]()
            self.hits = self.misses = 0  # what the core's own counts lack
            self.renew()
        del old  # the values end here, without the lock

    def renew(self) -> None:
        """Put an empty core in the place of the present one."""
        self.core = functools.lru_cache(self.size, typed=not self.one)(self.load)
        self.scope["_core_"] = self.core
        self.sweep_at = self.clock() + self.ttl

    # region box
    def load(self, *args: Any, **kwargs: Any) -> Box:
        """Return the filled box of the arguments; the core calls this on a miss."""
        types = tuple(map(type, (*args, *kwargs.values())))
        with self.lock:
            key = (args, tuple(kwargs.items()), types)
            box = self.boxes.setdefault(key, Box())
            if self.moving:
                return box
            if self.clock() >= self.sweep_at:
                self.sweep()
        self.shared(box, args, kwargs)
        return box

    def reload(self, box: Box, *args: Any, **kwargs: Any) -> Any:
        """Fill a box that the core still holds although it has expired."""
        with self.lock:  # the core took it for a hit
            self.hits, self.misses = self.hits - 1, self.misses + 1
        return self.shared(box, args, kwargs)

    def shared(self, box: Box, args: Any, kwargs: Any) -> Any:
        """Return the value, which one thread loads for all who ask meanwhile."""
        return self.flights.run(box, lambda: self.fill(box, args, kwargs))[0]

    def fill(self, box: Box, args: Any, kwargs: Any) -> Any:
        """Load the value, unless another thread just did."""
        value = getattr(box, "value", box)
        if value is box or self.clock() >= box.expires:
            # A type that follows the one argument is for the key only.
            value = self.fn(*(args[:1] if self.one else args), **kwargs)
            if self.reaper:
                self.reaper.fill(box, value)
            else:
                box.value, box.expires = value, self.clock() + self.ttl
        return value

    # endregion box

    def sweep(self) -> None:
        """Free the places of expired boxes, at most once per TTL.

        lru_cache can't drop one entry, so the live ones move to a new core in the order
        they were loaded. O(maxsize), paid by one miss.
        """
        now, old = self.clock(), self.core
        live = [(key, box) for key, box in self.boxes.items() if now < box.expires]
        self.renew()
        self.moving = True
        for (args, kwargs, _), _box in sorted(live, key=lambda item: item[1].expires):
            self.core(*args, **dict(kwargs))
        self.moving = False
        info = old.cache_info()  # only now: hits take no lock, and went on till renew
        self.hits += info.hits
        self.misses += info.misses - len(live)

    def info(self) -> Any:
        """Return the counts as lru_cache does; an expired find is a miss."""
        with self.lock:
            raw = self.core.cache_info()
            hits, misses = raw.hits + self.hits, raw.misses + self.misses
            return raw._replace(hits=hits, misses=misses)


class PerInstance:
    """Gives each instance a cache of its own that dies with it."""

    def __init__(self, fn: Callable[..., Any], make: Callable[..., Any]) -> None:
        self.fn, self.make = fn, make
        self.caches: dict[int, tuple[Any, Any]] = {}
        functools.update_wrapper(self, fn)

    def __call__(self, owner: Any, *args: Any, **kwargs: Any) -> Any:
        """Call through the class, or from a property."""
        return self.__get__(owner)(*args, **kwargs)

    def cache_clear(self) -> None:
        """Empty the caches of all instances."""
        for _, cached in [*self.caches.values()]:
            cached.cache_clear()

    def __get__(self, owner: Any, _: type | None = None) -> Any:
        name = id(owner)
        if owner is None or name in self.caches:
            return self if owner is None else self.caches[name][1]
        alive = weakref.ref(owner, lambda _: self.caches.pop(name, None))

        @functools.wraps(self.fn)
        def bound(*args: Any, **kwargs: Any) -> Any:
            return self.fn(alive(), *args, **kwargs)

        vars(bound)["__signature__"] = inspect.signature(self.fn.__get__(0))
        return self.caches.setdefault(name, (alive, self.make(bound)))[1]


def timed_lru_cache(
    maxsize: int | None = 128,
    ttl_seconds: float = 3600,
    *,
    clock: Clock = time.monotonic,
    copy: Callable[[Any], Any] | None = None,
) -> Callable[[Callable[..., Any]], Any]:
    """Cache results for `ttl_seconds` each, with lru_cache's methods.

    Every spelling of a call is one entry; 1, 1.0 and True are three. None is kept, an
    exception is not. Threads that miss one key share one load. A method (its first
    parameter is called self) has a cache per instance. All callers get the same object
    unless `copy`, such as copy.deepcopy, makes them their own. Raises ValueError for a
    bad limit, TypeError for a coroutine function.
    """
    if not (maxsize is None or (isinstance(maxsize, int) and maxsize >= 0)):
        hint = "; write @timed_lru_cache(), with brackets" if callable(maxsize) else ""
        raise ValueError(f"maxsize is 0, above or None, not {maxsize!r}{hint}")
    if not ttl_seconds > 0:
        raise ValueError(f"ttl_seconds is a number above 0, not {ttl_seconds!r}")
    limits = {"maxsize": maxsize, "typed": True, "ttl_seconds": ttl_seconds}

    def plain(fn: Callable[..., Any]) -> Any:
        core = TimedCore(fn, maxsize, ttl_seconds, clock)
        cached = core.cached
        if copy:
            scope = {"_copy_": copy, "_found_": cached}
            cached = forwarder(fn, "    return _copy_(_found_({call}))", scope)
        cached.cache_info, cached.cache_clear = core.info, core.clear
        cached.cache_parameters = limits.copy
        return cached

    def decorate(fn: Callable[..., Any]) -> Any:
        refuse_coroutines(fn)
        first = next(iter(inspect.signature(fn).parameters), "")
        return PerInstance(fn, plain) if first == "self" else plain(fn)

    return decorate


def habits(decorator: Callable[..., Any]) -> tuple[object, ...]:
    """Return how a caching decorator treats spellings, types, instances and lists."""
    loads: list[object] = []

    @decorator
    def price(item: object, currency: str = "EUR") -> list[Any]:
        loads.append(item)
        return [item, [currency]]

    price(7), price(7, "EUR"), price(item=7), price(currency="EUR", item=7)
    spellings, loads[:] = len(loads), []
    price(1), price(1.0), price(True)
    price(7)[1].append("edited")

    class Model:
        @decorator
        def predict(self, x: int) -> int:
            return x

    model = Model()
    model.predict(1)
    gone = weakref.ref(model)
    del model
    return spellings, len(loads), gone() is not None, "edited" in price(7)[1]


def lifetimes(cached: Callable[[], object], clock: Ticker) -> list[int]:
    """Return how long entries live that are written 0, 10 ... 50 s into a minute."""
    lives = []
    for minute in range(1, 7):
        clock.now = start = 3600.0 * minute + 10 * (minute - 1)
        first = cached()
        while cached() is first:
            clock.now += 1
        lives.append(int(clock.now - start))
    return lives


@lesson.demo
def timed(env: CacheEnv) -> None:
    """timed_lru_cache: a time to live per entry, and none of lru_cache's traps"""
    clock, own = Ticker(), timed_lru_cache(ttl_seconds=60, copy=deepcopy)
    plain, ours = habits(functools.lru_cache), habits(own)
    asked = ("loads of 4 spellings", "of 1, 1.0, True", "self kept", "edits leak")
    table(("decorator", *asked), ("lru_cache", *plain), ("timed_lru_cache", *ours))
    spellings, types, kept, leaks = zip(plain, ours, strict=True)
    check("four spellings of a call are one entry", spellings == (4, 1), True)
    check("1, 1.0 and True are three entries", types == (2, 3), True)
    check("an instance dies in spite of its cache", kept == (True, False), True)
    check(
        "copy=deepcopy: no caller edits another's result", leaks == (True, False), True
    )

    # Trap: the number of the time slot as one more argument, as many recipes have it.
    slotted = functools.lru_cache(lambda slot: object())
    entry = lifetimes(timed_lru_cache(ttl_seconds=60, clock=clock)(object), clock)
    fact(
        "a time slot's entries live, s",
        lifetimes(lambda: slotted(clock() // 60), clock),
    )
    fact("timed_lru_cache's entries live, s", entry)
    check("every entry lives 60 s, not what is left of a slot", {*entry} == {60}, True)

    async def fetch() -> int:
        return 1

    shared = functools.lru_cache(fetch)
    asyncio.run(shared())
    fact("lru_cache, second await", outcome(lambda: asyncio.run(shared())))
    early = outcome(lambda: own(fetch))
    check("a coroutine function is refused at once", isinstance(early, TypeError), True)


# %% [markdown]
# ## 3. Single flight: one load per key, shared by every thread

# %%


def taking_turns(
    fn: Callable[[Any], Any], turn: Callable[[Any], object]
) -> Callable[[Any], Any]:
    """Return what cachetools' `condition=` comes to: waiters look again, in turn."""
    locks, values = defaultdict[object, Any](threading.Lock), dict[object, Any]()

    def call(key: Any) -> Any:
        with locks[turn(key)]:
            return values[key] if key in values else values.setdefault(key, fn(key))

    return call


def overlapping(decorator: Callable[..., Any]) -> bool:
    """Tell whether the loads of five keys can all be under way at once."""
    meeting, origin = threading.Barrier(5), Source(None, 0)
    cached = decorator(lambda key: (origin(), meeting.wait(0.25)))
    answers = crowd([partial(cached, key) for key in range(5)], origin)
    return not any(isinstance(answer, Exception) for answer in answers)


@lesson.demo
def flight(env: CacheEnv) -> None:
    """Single flight: a hundred threads miss, one loads"""
    rows: list[tuple[Any, ...]] = []
    decorators: dict[str, Callable[..., Any]] = {
        "lru_cache": functools.lru_cache,
        "one lock around it": partial(taking_turns, turn=lambda key: "the one"),
        "a lock for each key": partial(taking_turns, turn=lambda key: key),
        "timed_lru_cache": timed_lru_cache(ttl_seconds=60),
    }
    for name, decorator in decorators.items():
        found, missing = Source("value"), Source(LookupError("no such row"), 0.04)
        crowd([partial(decorator(found), 1)] * 100, found)
        told = crowd([partial(decorator(missing), 1)] * 5, missing)
        rows.append((name, found.loads, missing.loads, overlapping(decorator)))
    same = sum(error is missing.answer for error in told)
    asked = ("loads, 100 threads", "loads, 5 failing", "keys in parallel")
    table(("decorator", *asked), *rows)
    _, many, failing, parallel = zip(*rows, strict=True)
    check(
        "one load serves a hundred threads", many[0] > 1 and many[1:] == (1, 1, 1), True
    )
    # Trap: locks without single flight make waiters repeat a failure, one by one.
    shared = failing[1:] == (5, 5, 1) and same == 5
    check("waiters share one exception", shared, True)
    check(
        "different keys do not wait for each other",
        parallel[1:] == (False, True, True),
        True,
    )


# %% [markdown]
# ## 4. RedisCache: what comes out is what went in

# %%


class Entry(NamedTuple):
    """A cached value and its times, in Unix seconds."""

    value: Any
    created: float
    expires: float
    delta: float  # seconds that the load took


@dataclass
class CircuitBreaker:
    """Stops calls after `threshold` failures in a row; one probe per `cooldown` s."""

    threshold: int = 3
    cooldown: float = 1.0
    clock: Clock = time.monotonic
    failures: int = 0
    retry_at: float = 0.0
    lock: Any = field(default_factory=threading.Lock, repr=False)

    def allows(self) -> bool:
        """Tell whether to call; while open, True for one caller per cooldown."""
        with self.lock:
            now = self.clock()
            if self.failures >= self.threshold and now < self.retry_at:
                return False
            self.retry_at = now + self.cooldown
            return True

    def record(self, success: bool) -> None:
        """Close after a success; count a failure."""
        with self.lock:
            self.failures = 0 if success else self.failures + 1


@dataclass(frozen=True)
class Policy:
    """How entries live, in seconds; raises ValueError for what makes no sense."""

    ttl: float = 3600
    none_ttl: float | None = None  # of None ("no such row"); as ttl, if not given
    jitter: float = 0.0  # up to this share of the TTL is cut off at random
    beta: float = 1.0  # of XFetch: above 1 refreshes earlier, 0 never
    grace: float = 0.0  # how long after expiry an old value may stand in
    wait: float = 5.0  # the longest load; others wait for it, or its lease ends

    def __post_init__(self) -> None:
        for name in ("ttl", "none_ttl", "wait"):
            seconds = getattr(self, name)
            if seconds is not None and not 0 < seconds <= LONGEST_TTL:
                raise ValueError(f"{name} is above 0, at most 30 days, not {seconds!r}")
        if not (0 <= self.jitter < 1 and self.beta >= 0 and self.grace >= 0):
            raise ValueError("jitter is in [0, 1), beta and grace are 0 or more")
        if max(self.ttl, self.none_ttl or 0) + self.grace > LONGEST_TTL:
            raise ValueError("ttl and grace are at most 30 days together")

    def lifetime(self, value: object) -> float:
        """Return the seconds to live of a value."""
        ttl = self.none_ttl if value is None and self.none_ttl else self.ttl
        return ttl * (1 - self.jitter * random.random())


# region xfetch
def is_due(entry: Entry, now: float, beta: float, draw: float) -> bool:
    """Tell whether to load again: before expiry with P = e^(-gap / (beta * delta)).

    XFetch (Vattani, Chierichetti, Lowenstein, VLDB 2015): the slower the load, the
    earlier. `draw` is uniform in [0, 1).
    """
    return now - entry.delta * beta * math.log(1.0 - draw) >= entry.expires


# endregion xfetch


class LoaderError(RuntimeError):
    """The load that this call waited for failed, in another process."""


class Job(NamedTuple):
    """A load to do: for whom, how, and what may stand in for it."""

    key: str
    load: Callable[[], Any]
    policy: Policy
    old: Entry | None
    token: bytes  # in the lease while this job may store
    began: int  # how many changes this process had made by then


@dataclass(eq=False)
class RedisCache:
    """JSON values in Redis under a prefix, each with a TTL; fails open.

    A process never serves what it has deleted. Others may, if Redis did not hear of it,
    until this process talks to Redis again: before it ends, it calls settle().

    Names are prefix + kind + key: value:..., lease:... (who may store), failure:...
    (for those who waited), tag:..., and one generation, whose change turns all older
    entries into misses at once.
    """

    client: Any
    prefix: str = "cache:"
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    clock: Clock = time.time

    def __post_init__(self) -> None:
        if self.client.get_connection_kwargs().get("decode_responses"):
            raise ValueError("the client decodes: leave out decode_responses=True")
        self.warned, self.owed, self.changes = -math.inf, False, 0
        self.stats = CacheStats()
        RedisCache.revive(self)
        FORKED.add(self)
        self.kinds = {kind: f"{self.prefix}{kind}:".encode() for kind in KINDS}
        self.generation = self.name("generation")
        self.release = self.client.register_script(self.RELEASE)

    def revive(self) -> None:
        """Take locks that nobody holds; forget the loads of threads that are gone."""
        self.lock, self.flights = threading.Lock(), SingleFlight()
        self.breaker.lock, self.stats._lock = threading.Lock(), threading.Lock()

    def name(self, kind: str, key: str | bytes = "") -> bytes:
        """Return the name in Redis of a key, which may hold any bytes."""
        raw = key if isinstance(key, bytes) else key.encode("utf-8", "surrogatepass")
        return self.kinds[kind] + raw

    # region ask
    def ask(self, command: Callable[[], T], default: T, invalidates: bool = False) -> T:
        """Return the answer, or the default: at once while the breaker is open.

        An invalidation that Redis did not hear is owed: before the next command of this
        process a new generation makes good for it, at the price of a cold start.
        """
        if self.breaker.allows():
            try:
                if self.owed:
                    self.renew()
                self.stats.add("trips")
                answer = command()
            except (redis.RedisError, OSError) as error:
                self.failed(error)
            else:
                self.breaker.record(True)
                return answer
        else:
            self.stats.add("skipped")
        if invalidates:
            with self.lock:
                self.owed = True
        return default

    # endregion ask

    def failed(self, error: Exception) -> None:
        """Count an error; a refusal (no memory, no right) is an answer: no outage."""
        self.breaker.record(isinstance(error, redis.ResponseError))
        self.stats.add("errors")
        reason = redact(error).rpartition("caused error: ")[2]  # without the values
        self.warn(f"the cache does without Redis: {reason}")

    def warn(self, text: str) -> None:
        """Log what its operator has to know, at most once a minute."""
        if time.monotonic() >= self.warned + 60:
            self.warned = time.monotonic()
            logging.warning("%s", text)

    def change(
        self, command: Callable[[], T], default: T, *names: bytes, owed: bool = True
    ) -> T:
        """Return the answer to a command that invalidates these names, or all."""
        with self.lock:  # first: a load begun by now is not for who asks after this
            self.changes += 1
        answer = self.ask(command, default, owed)
        self.changed(*names)
        return answer

    def changed(self, *names: bytes) -> None:
        """Note that these names, or all, have changed (for the near cache)."""

    def renew(self) -> None:
        """End the generation: without one, every entry is a miss."""
        with self.lock:
            self.client.unlink(self.generation)  # Redis does it without memory, too
            self.owed = False
        self.changed()

    def settle(self, timeout: float = 5.0) -> bool:
        """Pay what is owed, before the process ends; tell whether nothing is left."""
        until = time.monotonic() + timeout
        while self.owed and time.monotonic() < until:
            self.ask(self.client.ping, False)
            time.sleep(0.02)
        return not self.owed

    def bump(self) -> None:
        """Turn every entry into a miss for all processes: one command, O(1)."""
        self.change(self.renew, None)

    def fetch(self, names: list[bytes]) -> list[bytes | None] | None:
        """Return the payloads in one round trip; None while Redis is out."""
        # The bare command: client.mget's conveniences are a part of every hit's cost.
        command = partial(self.client.execute_command, "MGET", *names)
        answer: list[bytes | None] | None = self.ask(command, None)
        return answer

    def begin(self, pipe: Any, *names: bytes) -> Any:
        """Run the pipe; return the generation, begun if there is none, and the rest."""
        pipe.set(self.generation, uuid.uuid4().hex, ex=12 * LONGEST_TTL, nx=True)
        pipe.mget(self.generation, *names)
        *_, begun, stored = pipe.execute()
        if begun:
            self.changed(self.generation)
        return stored

    def read(self, keys: Sequence[str]) -> tuple[list[Entry | None], str]:
        """Return the entries, expired ones too, and the generation."""
        names = [self.generation, *(self.name("value", key) for key in keys)]
        first, *payloads = self.fetch(names) or [None] * len(names)
        generation = (first or b"none").decode()  # which no entry is of
        return [self.entry(payload, generation) for payload in payloads], generation

    def entry(self, payload: bytes | None, generation: str) -> Entry | None:
        """Return the entry of an envelope; None if it is of other times, or none.

        Never pickle: it would let anyone who can write to Redis run code here.
        """
        if payload is None:
            return None
        try:
            held = json.loads(payload.decode())  # faster than guessing the encoding
            if held["v"] != SCHEMA or held["generation"] != generation:
                return None
            created, expires = float(held["created"]), float(held["expires"])
            return Entry(held["value"], created, expires, float(held["delta"]))
        except (TypeError, ValueError, ArithmeticError, LookupError, RecursionError):
            self.stats.add("corrupt")
            return None

    def envelope(self, value: Any, generation: str, ttl: float, delta: float) -> str:
        """Return the JSON to store; raise TypeError if it would not come back equal."""
        strict(value)
        now = self.clock()
        head = {"v": SCHEMA, "generation": generation, "created": now}
        times = {"expires": now + ttl, "delta": delta}
        return json.dumps(head | times | {"value": value}, separators=(",", ":"))

    def get_many(self, keys: Sequence[str]) -> dict[str, Any]:
        """Return what is cached of the keys, in one round trip."""
        now, (entries, _) = self.clock(), self.read(keys)
        held = zip(keys, entries, strict=True)
        found = {key: item.value for key, item in held if item and now < item.expires}
        self.stats.add("hits", len(found))
        self.stats.add("misses", len(keys) - len(found))
        return found

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value, or the default on a miss."""
        return self.get_many([key]).get(key, default)

    def set(self, key: str, value: Any, ttl: float = 3600) -> bool:
        """Store a value, which loads under way can't replace.

        False if Redis is out or has no room: then the value from before is deleted.
        """
        px, name = int(Policy(ttl=ttl).ttl * 1000) or 1, self.name("value", key)
        pipe = self.client.pipeline()
        (first,) = self.ask(partial(self.begin, self.client.pipeline()), [None])
        pipe.set(name, self.envelope(value, (first or b"").decode(), ttl, 0.0), px=px)
        pipe.unlink(self.name("lease", key))
        if first and self.change(lambda: bool(pipe.execute()), False, name, owed=False):
            return True
        self.delete(key)
        return False

    def delete(self, *keys: str | bytes) -> int:
        """Delete values, and refuse those being loaded; return how many there were."""
        if not keys:
            return 0
        names = [self.name("value", key) for key in keys]
        pipe = self.client.pipeline(False)  # a full Redis would refuse a transaction
        pipe.unlink(*(self.name("lease", key) for key in keys))
        pipe.unlink(*names)
        removed: int = self.change(pipe.execute, [0], *names)[-1]
        return removed

    def clear_pattern(self, pattern: str | bytes) -> int:
        """Delete the keys that match a glob (escape() literal parts); return how many.

        Leases first: a load that began before this call can then no longer store.
        """
        glob = pattern if isinstance(pattern, bytes) else pattern.encode()

        def sweep(kind: str) -> int:
            prefix = escape(f"{self.prefix}{kind}:").encode()
            return unlink_matching(self.client, prefix + glob)

        return self.change(lambda: (sweep("lease"), sweep("value"))[1], 0)

    def get_or_load(self, key: str, load: Callable[[], Any], policy: Policy) -> Any:
        """Return the cached value, else load it once for all threads and processes.

        Threads that share a load get the same object: copy a list before editing it.
        """
        began, ((seen,), _) = self.changes, self.read([key])
        now = self.clock()
        hit = seen is not None and now < seen.expires
        self.stats.add("hits" if hit else "misses")
        if seen and hit:
            if not is_due(seen, now, policy.beta, random.random()):
                return seen.value
            self.stats.add("early")
        old = seen if seen and now < seen.expires + policy.grace else None
        job = Job(key, load, policy, old, uuid.uuid4().hex.encode(), began)
        return self.shared(job)

    def shared(self, job: Job) -> Any:
        """Return the value of a flight that began after the last change before us."""
        limit = 0 if job.old else job.policy.wait
        while True:
            answer, role = self.flights.run(job.key, lambda: self.lead(job), limit)
            if role == "busy" and job.old:
                return self.fallback(job)[0]
            if role == "busy":  # too slow: all who are late share one more load
                late = (job.key, "late")
                answer, role = self.flights.run(late, lambda: self.fallback(job))
            self.stats.add("waits", role == "shared")
            value, began = answer
            if role == "led" or began >= job.began:
                return value

    def fallback(self, job: Job) -> tuple[Any, int]:
        """Return the old value if there is one, else load without storing."""
        self.stats.add("stale" if job.old else "loads")
        began = job.began if job.old else self.changes
        return job.old.value if job.old else job.load(), began

    def lead(self, job: Job) -> tuple[Any, int]:
        """Claim the lease, or wait for the process that holds it.

        Returns the value, and how many changes this process had made when it was read:
        it is no answer to a call that began after another.
        """
        until, pause, waited = time.monotonic() + job.policy.wait, 0.002, job.token
        began = self.changes
        while stored := self.ask(partial(self.claim, job), None):
            first, holder, payload, failure = stored
            generation = first.decode()
            entry, ours = self.entry(payload, generation), holder == job.token
            fresh = entry and entry != job.old and self.clock() < entry.expires
            failed = failure and failure.startswith(waited)
            if ours and not (fresh or failed):
                return self.load(job, generation)
            if ours:
                self.finish(job)
            if entry and fresh:
                return entry.value, began
            if failed:
                raise LoaderError(failure[len(waited) :].decode())
            if job.old or time.monotonic() >= until:
                break
            waited = holder or waited
            time.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 2, 0.05)
        return self.fallback(job)  # Redis is out, or too slow: fail open

    def load(self, job: Job, generation: str) -> tuple[Any, int]:
        """Load and store, if the lease is still ours; tell waiters of a failure."""
        self.stats.add("loads")
        began, start = self.changes, time.perf_counter()
        try:
            value = job.load()
            ttl, delta = job.policy.lifetime(value), time.perf_counter() - start
            payload = self.envelope(value, generation, ttl, delta)
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"[:200].encode(errors="replace")
            told = job.token + text if isinstance(error, Exception) else b""
            self.finish(job, "failure", told, job.policy.wait)
            if job.old is None or not isinstance(error, Exception):
                raise
            self.stats.add("stale")
            return job.old.value, job.began
        self.stats.add("load_ms", round(delta * 1000))
        if delta > job.policy.wait:
            self.warn(f"{job.key!r:.80} took {delta:.1f} s to load: raise Policy.wait")
        kept = self.finish(job, "value", payload, ttl + job.policy.grace)
        self.stats.add("refused", not kept)
        return value, began if kept else -1

    # region lease
    RELEASE = """
    if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
    redis.call('UNLINK', KEYS[1])
    if ARGV[2] ~= '' then redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3]) end
    return 1
    """

    def claim(self, job: Job) -> Any:
        """Take the lease if it is free; return who has it, and what is stored."""
        lease, *others = (self.name(k, job.key) for k in ("lease", "value", "failure"))
        pipe = self.client.pipeline()  # a transaction, in one round trip
        pipe.set(lease, job.token, px=int(job.policy.wait * 1000) or 1, nx=True)
        return self.begin(pipe, lease, *others)

    def finish(
        self, job: Job, kind: str = "value", text: str | bytes = "", ttl: float = 1
    ) -> bool:
        """Give the lease back and store a text; False if the lease was withdrawn."""
        names = [self.name("lease", job.key), self.name(kind, job.key)]
        args = [job.token, text, int(ttl * 1000) or 1]
        kept = bool(self.ask(partial(self.release, names, args), 1))
        self.changed(names[1])
        return kept

    # endregion lease


@functools.lru_cache(maxsize=1)
def default_cache() -> RedisCache:
    """Return the cache at REDIS_URL, for a redis_cache that is given none."""
    return RedisCache(cache_client(setting("REDIS_URL", DEFAULT_URL)))


def title_of(fn: Callable[..., Any]) -> str:
    """Return a function's name in full; TypeError if others have the same."""
    name = getattr(fn, "__qualname__", "<no name>")
    bound = not inspect.ismodule(getattr(fn, "__self__", inspect))
    if bound or "<" in name:
        kind = "a bound method" if bound else "a local function, lambda or object"
        raise TypeError(f"{name} is {kind}, others may be called so: give it a name=")
    return f"{fn.__module__}.{name}"


def redis_cache(
    ttl: float | None = None,
    *,
    cache: RedisCache | None = None,
    name: str | None = None,
    policy: Policy | None = None,
) -> Callable[[Callable[..., Any]], Any]:
    """Cache results in Redis, shared by all processes; `ttl` overrides the policy's.

    The key is `name` (put the version of what computes it in), or the module and name
    of the function, and a hash of the arguments. Arguments and results are plain JSON
    values, else TypeError. Of a method decorate the bound one, with a name that tells
    instances apart: `self.rank = redis_cache(600, name="rank-2")(self._rank)`.
    """
    chosen = policy or Policy()
    if ttl is not None:
        chosen = replace(chosen, ttl=ttl)

    def decorate(fn: Callable[..., Any]) -> Any:
        refuse_coroutines(fn)
        title = name or title_of(fn)

        def key(*args: Any, **kwargs: Any) -> str:
            strict([*args, kwargs] if kwargs else list(args), "argument")
            text = ascii((args, kwargs)).encode()  # tells 1, 1.0 and True apart
            digest = hashlib.blake2b(text, digest_size=16).hexdigest()
            return f"{title}:{digest}"

        def look(key: str, call: Callable[[], Any]) -> Any:
            return (cache or default_cache()).get_or_load(key, call, chosen)

        scope = {"_fn_": fn, "_key_": key, "_look_": look}
        body = "    return _look_(_key_({call}), lambda: _fn_({call}))"
        cached = forwarder(fn, body, scope)
        cached.key = forwarder(fn, "    return _key_({call})", {"_key_": key})
        return cached

    return decorate


def commands(cache: RedisCache, call: Callable[[], object]) -> int:
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
    """RedisCache: a value comes back equal, or is refused by name"""
    cache, rows = env.cache("tier"), []
    moment = datetime(2026, 1, 31, tzinfo=UTC)
    for value in ((1, 2), {1: "a"}, math.nan, moment, {3}, b"x"):
        plain = json.loads(json.dumps(value, default=str))
        refusal = outcome(partial(cache.set, "key", value))
        rows.append((type(value).__name__, repr(plain), type(refusal).__name__))
    # Trap: json.dumps(default=str) never fails, and never gives back what it was given.
    table(("value", "after json.dumps and loads", "RedisCache.set"), *rows)
    kept = {"n": 1, "x": 0.1, "none": None, "deep": [[True, -0.0, 2**70], "\u017c"]}
    cache.set("kept", kept, ttl=60)
    refused = {refusal for *_, refusal in rows} == {"TypeError"}
    check("what JSON would change is refused, not changed", refused, True)
    check("what is stored comes back equal", cache.get("kept") == kept, True)

    payload = pickle.dumps(Exploit())
    pickle.loads(payload)  # noqa: S301 (the point)
    fact("pickle.loads ran the payload's code", Exploit.ran)
    Exploit.ran = False
    cache.client.set(cache.name("value", "key"), payload, ex=60)
    missed = cache.get("key", "a miss") == "a miss" and cache.stats.corrupt == 1
    check("a pickle is a miss and runs nothing", missed and not Exploit.ran, True)

    keys = [f"user:{number}" for number in range(100)]
    for key in keys:
        cache.set(key, key, ttl=60)
    single = commands(cache, lambda: [cache.get(key) for key in keys])
    together = commands(cache, lambda: cache.get_many(keys))
    fact("round trips for 100 keys", f"{single} one by one, {together} by get_many")
    same = cache.get_many(keys) == dict(zip(keys, keys, strict=True))
    check("get_many takes one", same and (single, together) == (100, 1), True)


# %% [markdown]
# ## 5. Stampedes and stale sets: a lease across threads and processes

# %%


def cache_aside(
    client: redis.Redis, key: str, load: Callable[[], Any], ttl: int = 30
) -> Any:
    """Return the key's value as a well-known tutorial does: a lock around the load.

    It stores no None, no failure, and whatever was read before somebody's delete.
    """
    if (cached := client.get(key)) is not None:
        return json.loads(cached)
    if client.set(f"{key}:lock", uuid.uuid4().hex, nx=True, px=2000):
        try:
            if (value := load()) is not None:
                client.set(key, json.dumps(value), ex=ttl)
            return value
        finally:
            client.delete(f"{key}:lock")
    for _ in range(10):
        time.sleep(0.02)
        if (cached := client.get(key)) is not None:
            return json.loads(cached)
    return load()


def stampede(env: CacheEnv, name: str, answer: object) -> tuple[int, int, int]:
    """Return loads by the tutorial's way and by ours, and failures, of 4 x 25 calls."""
    naive, leased, policy = Source(answer, 0), Source(answer), Policy(ttl=60, wait=30)
    clients, caches = [env.connect() for _ in "1234"], [env.cache(name) for _ in "1234"]
    calls = [partial(cache_aside, c, f"{env.prefix}{name}", naive) for c in clients]
    crowd(calls * 25, naive)
    # All 25 have read, and one has claimed: then everyone waits for the one who loads.
    leased.ready = lambda: all(c.stats.misses == 25 < c.stats.trips for c in caches)
    answers = crowd([partial(c.get_or_load, "k", leased, policy) for c in caches] * 25)
    return naive.loads, leased.loads, sum(isinstance(a, Exception) for a in answers)


def overtaken(forget: Callable[[], object]) -> Callable[[], str]:
    """Return a load of "old", which somebody else deletes before it is stored."""

    def load() -> str:
        forget()
        return "old"

    return load


@lesson.demo
def lease(env: CacheEnv) -> None:
    """Stampede: four processes' worth of callers, one load; nothing stale is stored"""
    kinds = {"None": None, "an exception": LookupError("no such row")}
    rows = [(kind, *stampede(env, kind, kinds[kind])) for kind in kinds]
    table(("100 callers, 4 clients; loaded:", "tutorial", "lease", "failed"), *rows)
    once = [row[1:] for row in rows] == [(100, 1, 0), (100, 1, 100)]
    # Trap: a lock whose waiters look for a value waits in vain for None or a failure.
    check("one load for all, also of None or an exception", once, True)

    cache, client, rounds = env.cache("fence"), env.connect(), 100
    stale = {"tutorial": 0, "lease": 0}
    for number in range(rounds):
        key = f"{env.prefix}price:{number}"
        cache_aside(client, key, overtaken(partial(client.delete, key)))
        stale["tutorial"] += client.get(key) == b'"old"'
        cache.get_or_load(key, overtaken(partial(cache.delete, key)), Policy(ttl=60))
        stale["lease"] += cache.get(key) == "old"
    fact(f"stale after {rounds} overtaken loads", stale)
    fenced = stale == {"tutorial": rounds, "lease": 0}
    check("a delete during a load leaves nothing stale", fenced, True)


# %% [markdown]
# ## 6. Early, late and never at the same time

# %%


@lesson.demo
def early(env: CacheEnv) -> None:
    """Refresh: before expiry by chance, spread out, and an old value if a load fails"""
    dice, draws, rows = random.Random(8), 50_000, []
    for gap in (0.5, 1.0, 2.0, 4.0):  # in units of beta * delta
        entry, truth = Entry("value", 0.0, gap, 1.0), math.exp(-gap)
        drawn = sum(is_due(entry, 0.0, 1.0, dice.random()) for _ in range(draws))
        rows.append((gap, drawn / draws, truth, 1 - truth))
    rounded = [(gap, *(f"{share:.2f}" for share in shares)) for gap, *shares in rows]
    table(("gap / (beta delta)", "measured", "e^-gap", "as once published"), *rounded)
    right = all(abs(p - is_) < 0.01 < abs(p - not_) for _, p, is_, not_ in rows)
    check("XFetch loads early with P = e^(-gap / (beta delta))", right, True)

    crowded = []
    for jitter in (0.0, 0.2):
        lives = [Policy(ttl=100, jitter=jitter).lifetime("value") for _ in range(1000)]
        crowded.append(max(Counter(map(int, lives)).values()))
    # Trap: what was loaded together and has one TTL expires together.
    fact("of 1000 keys expire in one second", f"{crowded[0]} without jitter")
    apart = crowded[0] == 1000 and crowded[1] < 150
    check("with a jitter of 0.2 fewer than 150 do", apart, True)

    clock, down, got = Ticker(), Source(ConnectionError("origin is down"), 0), []
    cache = RedisCache(env.connect(), f"{env.prefix}late:", clock=clock)
    for grace in (0, 600):
        policy = Policy(ttl=60, none_ttl=5, beta=0, grace=grace)
        cache.get_or_load("price", lambda: "the old value", policy)
        clock.now += 61
        got.append(str(outcome(partial(cache.get_or_load, "price", down, policy))))
    table(
        ("the origin fails", "the caller gets"),
        ("no grace", got[0]),
        ("grace 600 s", got[1]),
    )
    served = got == ["origin is down", "the old value"]
    check("within the grace a failing load gives the old value", served, True)
    cache.get_or_load("nobody", lambda: None, policy)
    cache.get_or_load("somebody", lambda: "old", policy)
    clock.now += 6
    now = [cache.get_or_load(k, lambda: "new", policy) for k in ("nobody", "somebody")]
    check("None is kept, for a shorter time than a value", now == ["new", "old"], True)


# %% [markdown]
# ## 7. Near cache: a copy in the process, emptied by push

# %%


class NearCache(RedisCache):
    """A RedisCache with a copy in this process, which Redis empties by push.

    CLIENT TRACKING in broadcast mode, RESP2: one connection subscribes and is told of
    every change under the prefix. While it is down, nothing is served from the copy.
    """

    def __init__(self, client: redis.Redis, prefix: str, maxsize: int = 10_000) -> None:
        if str(client.get_connection_kwargs().get("protocol")) != "2":
            raise ValueError("the client speaks RESP3: take cache_client or protocol=2")
        super().__init__(client, prefix)
        self.maxsize, self.near_stats = maxsize, CacheStats()
        self.copies: dict[bytes, object] | None = None  # None: not tracking
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.listen, daemon=True)

    def __enter__(self) -> NearCache:
        self.thread.start()
        return self

    def revive(self) -> None:
        """Drop the copies, which the parent's thread watches, and watch new ones."""
        super().revive()
        self.copies, self.near_stats._lock = None, threading.Lock()
        running = self.thread.ident and not self.stopping.is_set()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.listen, daemon=True)
        if running:
            self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.thread.join(5)

    # region near
    def fetch(self, names: list[bytes]) -> list[bytes | None] | None:
        """Return the copies of all names, or fetch them all and keep copies."""
        mark: Any = object()
        with self.lock:
            copies = self.copies
            if copies is not None:
                found: list[Any] = [copies.get(name, mark) for name in names]
                if all(item is None or isinstance(item, bytes) for item in found):
                    self.near_stats.add("hits")
                    return found
                copies.update(dict.fromkeys(names, mark))
        self.near_stats.add("misses")
        payloads = super().fetch(names)
        with self.lock:
            # A change told meanwhile has removed the mark: that payload may be old.
            if copies is not None and copies is self.copies and payloads is not None:
                pairs = zip(names, payloads, strict=True)
                copies |= {n: p for n, p in pairs if copies.get(n) is mark}
                while len(copies) > self.maxsize:
                    del copies[next(iter(copies))]
        return payloads

    # endregion near

    def changed(self, *names: bytes) -> None:
        """Drop the copies of these names, or all."""
        with self.lock:
            for name in names or [*(self.copies or ())]:
                (self.copies or {}).pop(name, None)

    def listen(self) -> None:
        """Follow the changes; after a loss start again with an empty copy."""
        pool = self.client.connection_pool
        while not self.stopping.is_set():
            connection = pool.connection_class(**pool.connection_kwargs)
            with suppress(redis.RedisError, OSError):
                self.follow(connection)
            with self.lock:
                self.copies = None
            connection.disconnect()
            self.stopping.wait(0.2)

    def follow(self, connection: Any) -> None:
        """Subscribe to the changes of our prefix and apply them until one is lost."""

        def order(*words: object) -> Any:
            connection.send_command(*words)
            return connection.read_response()

        self.connection_id = me = order("CLIENT", "ID")
        ours = [
            word for k in ("value", "generation") for word in ("PREFIX", self.name(k))
        ]
        order("CLIENT", "TRACKING", "ON", "REDIRECT", me, "BCAST", *ours)
        order("SUBSCRIBE", "__redis__:invalidate")
        with self.lock:
            self.copies = {}
        asked = False
        while not self.stopping.is_set():
            if connection.can_read(timeout=0.5):
                kind, *_, names = connection.read_response()
                asked = False
                if kind == b"message":
                    self.changed(*(names or ()))
            elif asked:
                raise redis.TimeoutError("no answer to PING: the connection is lost")
            else:
                connection.send_command("PING")
                asked = True


@lesson.demo
def near(env: CacheEnv) -> None:
    """Near cache: no round trip to read, and another client's write is seen"""
    if not env.live:
        raise Skip("fakeredis has no CLIENT TRACKING: start Redis to see this")
    writer, delays = env.cache("near"), []
    writer.set("price", 0)  # before anybody listens: no message of it is under way
    with NearCache(env.connect(), f"{env.prefix}near:") as cache:
        wait_until(lambda: cache.copies is not None)
        forever = functools.lru_cache(cache.get)
        wait_until(lambda: forever("price") == cache.get("price") == 0)
        far = commands(writer, lambda: [writer.get("price") for _ in range(1000)])
        trips = commands(cache, lambda: [cache.get("price") for _ in range(1000)])
        fact("round trips for 1000 reads", f"{far} by RedisCache, {trips} by NearCache")
        check("a read of a copy takes no round trip", (far, trips) == (1000, 0), True)
        for price in range(1, 51):
            writer.set("price", price)
            start = time.perf_counter()
            wait_until(partial(lambda p: cache.get("price") == p, price))
            delays.append(time.perf_counter() - start)
        note(f"median until a write was seen: {sorted(delays)[25] * 1000:.2f} ms")
        # Trap: a copy that nobody is told to drop serves the first price for ever.
        fact("lru_cache over the same reads", f"{forever('price')}; the price is 50")
        seen = cache.get("price") == 50 and forever("price") == 0
        check("50 writes by another client were all seen", seen, True)
        writer.client.client_kill_filter(_id=cache.connection_id)
        wait_until(lambda: cache.copies is None)
        writer.set("price", 51)  # nobody is told
        check(
            "a lost connection empties the near cache", cache.get("price") == 51, True
        )


# %% [markdown]
# ## 8. Invalidation: by pattern, by tag, by dependency

# %%


@dataclass
class CacheInvalidationManager:
    """Deletes what a change makes wrong; every method returns how many values."""

    cache: RedisCache
    dependents: dict[str, set[str]] = field(default_factory=partial(defaultdict, set))

    # region tag
    # In one step: a retry after a lost answer finds the tag gone, and its keys too.
    TAKE = """
    local removed = 0
    for _, key in ipairs(redis.call('SMEMBERS', KEYS[1])) do
        redis.call('UNLINK', ARGV[2] .. key)
        removed = removed + redis.call('UNLINK', ARGV[1] .. key)
    end
    redis.call('UNLINK', KEYS[1])
    return removed
    """

    def invalidate_tag(self, tag: str) -> int:
        """Delete the keys under the tag."""
        cache, name = self.cache, self.cache.name("tag", tag)
        kinds = [cache.kinds["value"], cache.kinds["lease"]]
        take = cache.client.register_script(self.TAKE)
        return cache.change(partial(take, [name], kinds), 0)

    # endregion tag

    def depend(self, key: str, *parents: str) -> None:
        """Declare that `key` is computed from its parents; cycles are allowed."""
        for parent in parents:
            self.dependents[parent].add(key)

    def tag(self, tag: str, *keys: str) -> None:
        """Put keys under a tag; delete them if Redis can't tag them."""
        if not keys:
            return
        name = self.cache.name("tag", tag)
        pipe = self.cache.client.pipeline()
        pipe.sadd(name, *keys)
        pipe.expire(name, LONGEST_TTL)
        if not self.cache.ask(pipe.execute, []):
            self.cache.delete(*keys)

    def invalidate_pattern(self, pattern: str) -> int:
        """Delete the keys that match a glob; escape() literal parts."""
        return self.cache.clear_pattern(pattern)

    # region cascade
    def cascade(self, key: str) -> int:
        """Delete the key and all that depends on it, however indirectly, once each."""
        found, queue = {key}, [key]
        while queue:
            new = self.dependents.get(queue.pop(), set()) - found
            found |= new
            queue += new
        return self.cache.delete(*found)

    # endregion cascade


@lesson.demo
def invalidation(env: CacheEnv) -> None:
    """Invalidation: exactly what a change makes wrong, counted"""
    cache = env.cache("inv")
    manager = CacheInvalidationManager(cache)
    manager.depend("profile", "user")
    manager.depend("feed", "user", "profile")
    manager.depend("page", "feed")
    manager.depend("user", "page")  # a cycle: user, feed, page, user
    manager.tag("kyiv", "u:a1", "u:b")
    keys = ["feed", "page", "profile", "u:a1", "u:a[1]", "u:b", "user"]

    def recursive(key: str) -> int:
        return cache.delete(key) + sum(map(recursive, sorted(manager.dependents[key])))

    found: dict[str, tuple[object, str]] = {}
    for way, invalidate in {
        # Trap: an id inside a pattern; [1] stands for 1, so another key is meant.
        "pattern u:a[1]": lambda: manager.invalidate_pattern("u:a[1]"),
        "escaped": lambda: manager.invalidate_pattern(escape("u:a[1]")),
        "tag kyiv": lambda: manager.invalidate_tag("kyiv"),
        "tag kyiv again": lambda: manager.invalidate_tag("kyiv"),
        "plain recursion": lambda: recursive("user"),
        "cascade of user": lambda: manager.cascade("user"),
        "bump": lambda: commands(cache, cache.bump),
    }.items():
        for key in keys:
            cache.set(key, key, ttl=60)
        told, left = outcome(invalidate), cache.get_many(keys)
        gone = " ".join(key for key in keys if key not in left)
        found[way] = (told if isinstance(told, int) else type(told).__name__, gone)
    table(("invalidated by", "returns", "gone"), *((k, *v) for k, v in found.items()))
    raw, exact, tag, again, naive, cascade, all_gone = found.values()
    exactly = (raw, exact) == ((1, "u:a1"), (1, "u:a[1]"))
    check("an escaped pattern removes the key it names", exactly, True)
    check(
        "a tag removes its two keys, once",
        (tag, again) == ((2, "u:a1 u:b"), (0, "")),
        True,
    )
    four = cascade == (4, "feed page profile user") and naive[0] == "RecursionError"
    check("a cascade over a cycle removes each of four keys once", four, True)
    cache.get_or_load("page", overtaken(cache.bump), Policy())
    none_left = all_gone == (1, " ".join(keys)) and not cache.get_many(keys)
    check("a bump: one command, all entries are misses", none_left, True)


# %% [markdown]
# ## 9. Outage: no caller notices

# %%


def patience(client: Any) -> str:
    """Return how long one command can wait for a frozen server."""
    seconds = client.get_connection_kwargs()["socket_timeout"]
    return f"{client.get_retry().get_retries() + 1} tries of {seconds} s"


def reads(cache: RedisCache, number: int) -> tuple[int, int]:
    """Read a key so many times; return right answers and commands sent in vain."""
    before = cache.stats.errors
    answers = [cache.get_or_load("k", lambda: "new", Policy()) for _ in range(number)]
    return answers.count("new"), cache.stats.errors - before


@lesson.demo
def outage(env: CacheEnv) -> None:
    """Outage: callers get answers, Redis one probe per second, nothing stale after"""
    default, ours = patience(redis.Redis()), patience(cache_client(DEFAULT_URL))
    fact("a frozen Redis costs redis.Redis()", default)
    fact("and the cache's client", ours)
    check(
        "the client gives up after two tries of 0.2 s", ours == "2 tries of 0.2 s", True
    )

    with socket.socket() as closed:  # bound, not listening: connections are refused
        closed.bind(("127.0.0.1", 0))
        url, rows = f"redis://127.0.0.1:{closed.getsockname()[1]}/0", []
        for name, limit in (("no breaker", 10**9), ("breaker", 3)):
            cache = RedisCache(
                cache_client(url), "", CircuitBreaker(limit, cooldown=60)
            )
            with PerformanceTimer(f"10 reads, {name}"):
                rows.append((name, *reads(cache, 10)))
    table(("10 reads, Redis stopped", "answered", "commands sent in vain"), *rows)
    _, answered, in_vain = zip(*rows, strict=True)
    # Trap: without a breaker every caller waits for the same dead server, each time.
    check("all callers are answered from the origin", answered == (10, 10), True)
    check("three failures, then nothing is sent", in_vain == (20, 3), True)

    # A server to switch off at will; the one we talk to may be somebody else's.
    clock, server = Ticker(), fakeredis.FakeServer()
    client: Any = fakeredis.FakeRedis(server=server)
    cache = RedisCache(client, env.prefix, CircuitBreaker(clock=clock))
    cache.set("k", "old", ttl=3600)
    server.connected = False
    reads(cache, 10)
    cache.delete("k")  # Redis does not hear it
    clock.now += 2
    probes = reads(cache, 100)[1]
    check("half-open: of 100 reads after the cooldown one is sent", probes == 1, True)
    server.connected = True
    clock.now += 2
    kept = json.loads(client.get(cache.name("value", "k")))["value"]
    fact("Redis comes back and still holds", kept)
    after = reads(cache, 2)
    check(
        "a delete lost in the outage is made good",
        kept == "old" and after[0] == 2,
        True,
    )
    check("one good probe closes the breaker", cache.stats.hits == 1, True)


# %% [markdown]
# ## 10. Services: three tiers at work

# %%


class RecommendationEngine:
    """Recommends products: results in Redis, trends for a minute, facts for good."""

    def __init__(self, cache: RedisCache) -> None:
        dice, items = random.Random(8), [f"p{number:02}" for number in range(12)]
        weights = range(12, 0, -1)  # 40 users bought up to 5 products each
        self.bought = {n: {*dice.choices(items, weights, k=5)} for n in range(40)}
        self.recommend = redis_cache(600, cache=cache, name="bought-1")(self._recommend)

    def _recommend(self, user: int, limit: int = 3) -> list[str]:
        mine, score = self.bought[user], Counter[str]()
        for other in self.bought.values():
            score.update(dict.fromkeys(other - mine, len(other & mine)))
        return sorted(score, key=lambda item: (-score[item], item))[:limit]

    @timed_lru_cache(maxsize=16, ttl_seconds=60)
    def trending(self, limit: int = 3) -> tuple[str, ...]:
        """Return the products most bought."""
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
        self.predict = redis_cache(86_400, cache=cache, name=model)(self.score)

    def score(self, days_since_purchase: int) -> float:
        """Return the probability that the customer is gone: a logistic curve."""
        return 1 / (1 + math.exp(-(days_since_purchase - 30) * self.weight))

    @staticmethod
    @functools.lru_cache(maxsize=1024)
    def embedding(text: str) -> tuple[float, ...]:
        """Return a text's direction in 8 dimensions: unit length, the same always."""
        raw = hashlib.blake2b(text.encode(), digest_size=8).digest()
        norm = math.hypot(*(byte - 127.5 for byte in raw))
        return tuple((byte - 127.5) / norm for byte in raw)


@lesson.demo
def services(env: CacheEnv) -> None:
    """Services: three tiers under eight threads, and every lookup is accounted for"""
    cache, unlocked = env.cache("shop"), {"hits": 0}
    engine = RecommendationEngine(cache)
    engine.product.cache_clear()

    def visit() -> None:
        for user in range(50):
            engine.product(engine.recommend(user % 10)[0])
            engine.trending()
            hits = unlocked["hits"]  # += reads, may be interrupted, and writes
            time.sleep(0)
            unlocked["hits"] = hits + 1

    crowd([visit] * 8)
    sums = {
        "lru_cache": sum(engine.product.cache_info()[:2]),
        "timed_lru_cache": sum(engine.trending.cache_info()[:2]),
        "redis_cache": cache.stats.hits + cache.stats.misses,
    }
    table(("400 lookups in tier", "hits + misses"), *sums.items())
    fact("counted without a lock", "fewer" if unlocked["hits"] < 400 else "all")
    exact = {*sums.values()} == {400} and unlocked["hits"] < 400
    check("hits + misses = calls in every tier", exact, True)
    check("ten users' recommendations take ten loads", cache.stats.loads == 10, True)
    fact("metrics, as JSON", ", ".join(json.loads(cache.stats.as_json())))

    rows = []
    for title, name, weight in (
        ("first model", "churn-1", 0.05),
        ("retrained, same name", "churn-1", 0.1),
        ("retrained, new name", "churn-2", 0.1),
    ):
        model = MLPredictionService(cache, name, weight)
        rows.append((title, *(round(f(40), 3) for f in (model.predict, model.score))))
    # Trap: a key without the version of what computes the value serves the old model.
    table(("churn after 40 days", "cached", "computed"), *rows)
    fresh = [cached == computed for _, cached, computed in rows]
    renamed = fresh == [True, False, True]
    check("a new name never serves the old model's scores", renamed, True)


# %% [markdown]
# ## 11. Eviction: what a policy is worth

# %%


# region eviction
def hit_rate(trace: Sequence[int], size: int, policy: str) -> float:
    """Return the share of hits of a cache with `size` places.

    TinyLFU (Einziger, Friedman, Manes 2017): LRU, but a newcomer must have been asked
    for more often, of late, than the one it would evict. "optimum" is Belady's: evict
    what is needed last, which takes knowing the future.
    """
    upcoming: defaultdict[int, list[float]] = defaultdict(lambda: [math.inf])
    for moment in reversed(range(len(trace))):
        upcoming[trace[moment]].append(moment)
    used: dict[int, int] = {}
    asked: Counter[int] = Counter()
    hits = 0
    worth: dict[str, Callable[[int], float]] = {
        "LRU": lambda key: used[key],
        "TinyLFU": lambda key: used[key],
        "LFU": lambda key: asked[key],
        "optimum": lambda key: -upcoming[key][-1],
    }
    for now, key in enumerate(trace):
        upcoming[key].pop()
        asked[key] += 1
        hits += key in used
        if policy == "TinyLFU" and now % (10 * size) == 0:  # old fame fades
            asked = Counter({k: n // 2 for k, n in asked.items() if n > 1})
        if key not in used and len(used) == size:
            victim = min(used, key=worth[policy])
            if policy == "TinyLFU" and asked[key] <= asked[victim]:
                continue
            del used[victim]
        used[key] = now
    return hits / len(trace)


# endregion eviction


@lesson.demo
def eviction(env: CacheEnv) -> None:
    """Eviction: LRU, LFU and TinyLFU beside the best that is possible"""
    dice = random.Random(8)
    zipf = dice.choices(range(1000), [1 / (rank + 1) for rank in range(1000)], k=8000)
    shift = [key + 1000 * (now >= 4000) for now, key in enumerate(zipf)]
    names = ("LRU", "LFU", "TinyLFU", "optimum")
    rates = {p: [round(100 * hit_rate(t, 50, p)) for t in (zipf, shift)] for p in names}
    header = ("hit rate, %", "Zipf", "Zipf, new favourites half-way")
    table(header, *((name, *rates[name]) for name in names))
    lru, lfu, tiny, optimum = rates.values()
    check("TinyLFU beats LRU on a steady trace", lru[0] < tiny[0] <= optimum[0], True)
    # Trap: LFU without ageing keeps yesterday's favourites for ever.
    check(
        "and LFU when favourites change",
        max(lru[1], lfu[1]) < tiny[1] <= optimum[1],
        True,
    )


def main(argv: list[str] | None = None) -> int:
    """Teach, with the options of the command line; return the exit code."""
    return lesson.main(argv)


lesson.finish(__name__, main)
