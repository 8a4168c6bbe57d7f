"""Lesson 03 beside functools, other caches of Python, and raw redis-py.

Prints Markdown: each table is one run, in which the contestants took turns. Redis is a
private server, started for this and ended after it; nothing is taken on fakeredis.

Run:  python benchmarks/bench_03_caching.py
"""

from __future__ import annotations

import functools
import gc
import json
import random
import sys
import threading
import time
import timeit
from collections.abc import Callable
from concurrent.futures import wait
from datetime import timedelta
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import cachebox
import cachetools
import dogpile.cache
import measure
import redis
from measure import versions
from redis.cache import CacheConfig

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import services  # noqa: E402
from lessons import load  # noqa: E402
from services import Server  # noqa: E402

from course.caching.client import cache_client  # noqa: E402
from course.caching.codec import Envelope  # noqa: E402
from course.caching.policy import Policy  # noqa: E402
from course.lab import SlowSource, in_background, outcome_of, start_together  # noqa: E402

lesson = load("03")
moka_py: Any = import_module("moka_py")
theine: Any = import_module("theine")
CLIENT_SIDE = "redis-py with its client-side cache"
FAILING_LIMIT = 5.0  # seconds
ROUNDS = 100  # short ones, and the best: a neighbour then spoils some, not all
# A hit in Redis waits for another process. The longer a round, the less likely it is
# that none of its hits has met a neighbour.
REDIS_ROUNDS = 400
REDIS_CALLS = 10
ROW = {"user": 7, "items": [f"p{number:02}" for number in range(40)], "score": 0.5}


def say(text: str) -> None:
    """Print progress on stderr."""
    print(f"... {text}", file=sys.stderr, flush=True)


def met(ratio: float, bar: float, at_least: bool = False) -> str:
    """Tell whether a ratio keeps to its bar."""
    return "yes" if (ratio >= bar if at_least else ratio <= bar) else "**no**"


def hit_costs() -> None:
    """Compare what a hit costs in one process."""

    def value(x: int) -> int:
        return x

    lock = threading.Lock
    region = dogpile.cache.make_region().configure(
        "dogpile.cache.memory", expiration_time=3600
    )
    cached: dict[str, Callable[[int], int]] = {
        "functools.lru_cache": functools.lru_cache(128)(value),
        "functools.lru_cache(typed=True)": functools.lru_cache(128, typed=True)(value),
        "timed_lru_cache": lesson.timed_lru_cache(128, 3600)(value),
        "cachebox.cached(TTLCache)": cachebox.cached(cachebox.TTLCache(128, 3600))(
            value
        ),
        "cachetools.cached(TTLCache, lock)": cachetools.cached(
            cachetools.TTLCache(128, 3600), lock=lock()
        )(value),
        "cachetools.cached(TTLCache, condition)": cachetools.cached(
            cachetools.TTLCache(128, 3600), condition=threading.Condition()
        )(value),
        "dogpile.cache.memory": region.cache_on_arguments()(value),
        "moka_py.cached": moka_py.cached(maxsize=128, ttl=3600)(value),
        "theine.Memoize": theine.Memoize(128, timedelta(hours=1))(value),
    }
    number = 2_000
    contestants = {
        name: partial(timeit.Timer("f(7)", globals={"f": fn}).timeit, number)
        for name, fn in cached.items()
    }
    times = measure.seconds(contestants, ROUNDS)
    best = {name: values[0] / number * 1e9 for name, values in times.items()}
    ours = best["timed_lru_cache"]
    packages = versions("cachetools", "cachebox", "dogpile.cache", "moka-py", "theine")
    print("A hit with one int argument, best of 100 rounds of 2,000 calls.", packages)
    print()
    rows = [
        (
            name,
            f"{ns:.0f}",
            f"{ns / best['functools.lru_cache']:.1f}",
            f"{ns / ours:.2f}",
        )
        for name, ns in best.items()
    ]
    print(measure.markdown(("decorator", "ns", "x lru_cache", "x ours"), rows), "\n")
    bars = []
    for rival, bar in (
        ("functools.lru_cache", 4.5),
        ("cachetools.cached(TTLCache, lock)", 1 / 3),
        ("cachebox.cached(TTLCache)", 3 / 4),
    ):
        ratio = ours / best[rival]
        bars.append(
            (f"a hit / {rival}", f"<= {bar:.2f}", f"{ratio:.2f}", met(ratio, bar))
        )
    print(measure.markdown(("bar", "limit", "measured", "met"), bars), "\n")


def by_cachetools(fn: Callable[..., Any], **guard: Any) -> Any:
    """Return the function with a cache and a guard of its own."""
    made: dict[str, Any] = {name: make() for name, make in guard.items()}
    decorator: Any = cachetools.cached(cachetools.TTLCache(9, 60), **made)
    return decorator(fn)


def function_of(source: SlowSource) -> Callable[[int], Any]:
    """Return the source as a plain function of one argument."""

    def load(x: int) -> Any:
        return source.load(x)

    return load


def by_cachebox(fn: Callable[..., Any]) -> Any:
    """Return the function with a cache of its own."""
    return cachebox.cached(cachebox.TTLCache(9, 60))(fn)


def by_dogpile(fn: Callable[..., Any]) -> Any:
    """Return the function with a region of its own."""
    region = dogpile.cache.make_region().configure(
        "dogpile.cache.memory", expiration_time=60
    )
    return region.cache_on_arguments()(fn)


def by_moka(fn: Callable[..., Any], **options: Any) -> Any:
    """Return the function with a cache of its own."""
    return moka_py.cached(maxsize=9, ttl=60, **options)(fn)


def by_theine(fn: Callable[..., Any]) -> Any:
    """Return the function with a cache of its own."""
    return theine.Memoize(9, timedelta(minutes=1))(fn)


def time_of_failing(load: Callable[[int], Any]) -> str:
    """Return how long ten callers wait for a load that fails, in seconds."""
    start = time.perf_counter()
    calls = [in_background(partial(outcome_of, partial(load, 1))) for _ in range(10)]
    waiting = wait(calls, FAILING_LIMIT).not_done
    if waiting:
        return f"{len(waiting)} still wait after {FAILING_LIMIT:.0f}"
    return f"{time.perf_counter() - start:.2f}"


def flights() -> None:
    """Compare how often a loader runs when many threads miss at once."""
    decorators: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
        "functools.lru_cache": functools.lru_cache,
        "cachetools, lock": partial(by_cachetools, lock=threading.Lock),
        "cachetools, condition": partial(by_cachetools, condition=threading.Condition),
        "cachebox": by_cachebox,
        "dogpile.cache.memory": by_dogpile,
        "moka_py": by_moka,
        "moka_py, wait_concurrent": partial(by_moka, wait_concurrent=True),
        "theine": by_theine,
        "timed_lru_cache": lesson.timed_lru_cache(9, 60),
    }
    rows = []
    for name, decorate in decorators.items():
        found = SlowSource("value", 0.1)
        missing = SlowSource(LookupError("no row"), 0.05)
        # As plain functions: some decorators ask a function for its name.
        plain, failing = (
            decorate(function_of(found)),
            decorate(function_of(missing)),
        )
        start_together([partial(plain, 1)] * 100)
        took = time_of_failing(failing)
        rows.append((name, found.loads, missing.loads, took))
    header = ("decorator", "loads, 100 threads", "loads, 10 failing", "s for those")
    print("Calls of the loader when threads miss one key together:\n")
    print(measure.markdown(header, rows), "\n")


def redis_costs(server: Server) -> None:
    """Compare what a hit in Redis costs, and a hundred keys at once."""
    client: Any = cache_client(server.url, 5.0)
    # The plainest client: a pool like ours, which waits, would flatter us.
    raw: Any = redis.Redis.from_url(server.url, protocol=2)
    cache = lesson.RedisCache(client, "bench:")
    fetch = lesson.redis_cache(3600, cache=cache, name="row")(lambda user, limit=3: ROW)
    region = dogpile.cache.make_region().configure(
        "dogpile.cache.redis",
        expiration_time=3600,
        arguments={"url": server.url, "redis_expiration_time": 7200},
    )
    dogpiled = region.cache_on_arguments()(lambda user: ROW)
    fetch(7)
    stored = client.get(cache.name("value", fetch.key(7)))
    raw.set("raw", stored, ex=3600)
    raw.set("bare", json.dumps(ROW), ex=3600)
    tracked = client_side(server)
    keys = [f"k{number}" for number in range(100)]
    for key in keys:
        cache.set(key, ROW)
        raw.set(f"raw:{key}", json.dumps(ROW), ex=3600)
    with lesson.NearCache(cache_client(server.url, 5.0), "bench:") as near:
        services.wait_for(lambda: near.copies.followed)
        nearby = lesson.redis_cache(3600, cache=near, name="row")(
            lambda user, limit=3: ROW
        )
        nearby(7), dogpiled(7)
        single: dict[str, Callable[[], object]] = {
            "redis-py: GET + json.loads": lambda: json.loads(raw.get("raw")),
            "the same of the bare value": lambda: json.loads(raw.get("bare")),
            "redis_cache": lambda: fetch(7),
            "RedisCache.get": lambda: cache.get("k7"),
            "dogpile.cache.redis": lambda: dogpiled(7),
            "redis_cache over NearCache": lambda: nearby(7),
            "NearCache.get": lambda: near.get("k7"),
        }
        if tracked:
            single[CLIENT_SIDE] = lambda: json.loads(tracked.get("bare"))
        number = REDIS_CALLS
        contestants = {
            name: partial(timeit.Timer(call).timeit, number)
            for name, call in single.items()
        }
        times = measure.seconds(contestants, REDIS_ROUNDS)
    base = "redis-py: GET + json.loads"
    mid = {name: t[0] / number * 1e6 for name, t in times.items()}
    text = f"{len(stored)} bytes of JSON, raw is the plainest client"
    packages = versions("redis", "hiredis", "dogpile.cache")
    print(
        f"A hit in Redis over loopback, {text}, best of {REDIS_ROUNDS} rounds of "
        f"{REDIS_CALLS} calls. {packages}\n"
    )
    rows = [(n, f"{us:.1f}", f"{us / mid[base]:.2f}") for n, us in mid.items()]
    print(measure.markdown(("call", "us", "x raw"), rows), "\n")
    names = [f"raw:{key}" for key in keys]
    together = measure.seconds(
        {
            "get, one by one": lambda: [cache.get(key) for key in keys],
            "get_many": lambda: cache.get_many(keys),
            # What comes back is decoded by all, or the work would differ.
            "redis-py: 100 GETs": lambda: [json.loads(raw.get(name)) for name in names],
            "redis-py: a pipeline of GETs": lambda: pipelined(raw, names),
            "redis-py: one MGET": lambda: [*map(json.loads, raw.mget(names))],
        },
        ROUNDS,
    )
    many = {name: t[0] * 1e6 for name, t in together.items()}
    print("A hundred keys, best of 100 rounds:\n")
    rows = [(n, f"{us:.0f}", f"{100e6 / us:,.0f}") for n, us in many.items()]
    print(measure.markdown(("call", "us", "keys/s"), rows), "\n")
    hit = mid["redis_cache"] / mid["the same of the bare value"]
    peer = mid["redis_cache"] / mid["dogpile.cache.redis"]
    many_ratio = many["get, one by one"] / many["get_many"]
    bars = [
        (
            "redis_cache hit / GET + json.loads of the bare value",
            "<= 1.60",
            f"{hit:.2f}",
            met(hit, 1.6),
        ),
        ("the same / dogpile.cache.redis", "<= 1.00", f"{peer:.2f}", met(peer, 1.0)),
        (
            "100 times get / one get_many",
            ">= 4",
            f"{many_ratio:.1f}",
            met(many_ratio, 4, at_least=True),
        ),
    ]
    if tracked:
        near_ratio = mid["NearCache.get"] / mid[CLIENT_SIDE]
        bar = "NearCache.get / redis-py's client-side cache"
        bars.append((bar, "<= 0.33", f"{near_ratio:.2f}", met(near_ratio, 1 / 3)))
    print(measure.markdown(("bar", "limit", "measured", "met"), bars), "\n")


def pipelined(client: Any, names: list[str]) -> list[Any]:
    """Return what is stored under the names, by one GET each in one round trip."""
    pipe = client.pipeline(transaction=False)
    for name in names:
        pipe.get(name)
    return [json.loads(payload) for payload in pipe.execute()]


def client_side(server: Server) -> Any:
    """Return redis-py's client with its own cache; None before Redis 7.4."""
    try:
        client: Any = redis.Redis.from_url(
            server.url, protocol=3, cache_config=CacheConfig(max_size=10_000)
        )
        client.ping()
    except redis.RedisError:
        return None
    return client


def pushes(server: Server) -> None:
    """Measure how long another client's write stays unseen by a near cache."""
    writer = lesson.RedisCache(cache_client(server.url, 5.0), "push:")
    delays = []
    with lesson.NearCache(cache_client(server.url, 5.0), "push:") as near:
        services.wait_for(lambda: near.copies.followed)
        for number in range(300):
            near.get("k")
            writer.set("k", number)
            start = time.perf_counter()
            while near.get("k") != number:
                time.sleep(0.00005)
            delays.append(time.perf_counter() - start)
    delays.sort()
    middle, late = delays[150] * 1000, delays[297] * 1000
    row = ("a write is seen, median ms", "<= 50", f"{middle:.2f}", met(middle, 50))
    print(f"Near cache, 300 writes by another client (99 % within {late:.1f} ms):\n")
    print(measure.markdown(("bar", "limit", "measured", "met"), [row]), "\n")


def recomputes() -> None:
    """Simulate loads around one expiry, with and without XFetch (no single flight)."""
    dice, delta, rows = random.Random(8), 0.4, []
    for rate in (10, 100, 1000):
        counts = []
        for _ in range(200):
            entry, done, begun = Envelope("v", 0.0, 10.0, delta), 1e9, 0
            moment = 10.0 - 12 * delta
            while moment < done:
                if lesson.loads_early(entry, moment, 1.0, dice.random()):
                    begun, done = begun + 1, min(done, moment + delta)
                moment += 1 / rate
            counts.append(begun)
        mean = sum(counts) / len(counts)
        rows.append((rate, f"{rate * delta:.0f}", f"{mean:.1f}", max(counts)))
    header = ("reads/s", "loads at expiry", "with XFetch, mean", "max")
    print("Loads of 0.4 s around one expiry, simulated 200 times, no lock at all:\n")
    print(measure.markdown(header, rows), "\n")


def outages() -> None:
    """Compare what an outage costs one call, and what a hundred."""
    rows = []

    def timed(call: Callable[[], object]) -> float:
        start = time.perf_counter()
        outcome_of(call)
        return time.perf_counter() - start

    port = services.free_port()
    url = f"redis://127.0.0.1:{port}/0"
    with services.private("redis") as server:
        assert server
        server.freeze()
        for name, stopped, frozen in (
            ("redis.Redis(), timeout as set", redis.Redis(port=port),
             redis.Redis(port=server.port, socket_timeout=0.2)),
            ("cache_client", cache_client(url), cache_client(server.url)),
        ):  # fmt: skip
            say(f"outage: {name}")
            took = [timed(partial(client.get, "k")) for client in (stopped, frozen)]
            rows.append((name, *(f"{seconds:.3f}" for seconds in took)))
        server.thaw()
    cache = lesson.RedisCache(cache_client(url), "x:")
    policy = Policy()
    for _ in range(3):
        cache.get("k")
    hundred = timed(
        lambda: [cache.get_or_load("k", lambda: 1, policy) for _ in range(100)]
    )
    print("One GET while Redis is out, s (frozen: both with a timeout of 0.2 s):\n")
    print(measure.markdown(("client", "stopped", "frozen"), rows), "\n")
    row = ("100 calls, breaker open, s", "< 0.50", f"{hundred:.3f}", met(hundred, 0.5))
    print(measure.markdown(("bar", "limit", "measured", "met"), [row]), "\n")


def clearing(server: Server) -> None:
    """Compare what another client's GET waits while 200,000 keys are deleted."""
    number, worst = 200_000, {"KEYS + DEL": 0.0, "clear_pattern": 0.0}
    times: dict[str, list[float]] = {name: [] for name in worst}
    took: dict[str, list[float]] = {name: [] for name in worst}
    jobs: dict[str, Callable[[Any], object]] = {
        "KEYS + DEL": lambda c: c.delete(*c.keys("p:value:*")),
        "clear_pattern": lambda c: lesson.RedisCache(c, "p:").clear_pattern("*"),
    }
    fill = "for i = 1, %d do redis.call('SET', 'p:value:' .. i, 'x', 'EX', 600) end"
    with redis.Redis.from_url(server.url, socket_timeout=60) as client:
        for _ in range(3):
            for name, job in jobs.items():
                client.eval(fill % number, 0)
                other = redis.Redis.from_url(server.url, socket_timeout=60)
                thread = threading.Thread(target=job, args=(other,))
                begin = time.perf_counter()
                thread.start()
                slowest = 0.0
                while thread.is_alive():
                    start = time.perf_counter()
                    client.get("k")
                    slowest = max(slowest, time.perf_counter() - start)
                times[name].append(slowest)
                took[name].append(time.perf_counter() - begin)
                other.close()
    mid = {name: measure.median(values) * 1000 for name, values in times.items()}
    rows = [
        (name, f"{mid[name]:.1f}", f"{measure.median(took[name]):.2f}") for name in jobs
    ]
    print("Another client's slowest GET while 200,000 keys go, median of 3:\n")
    print(measure.markdown(("way", "slowest GET, ms", "whole, s"), rows), "\n")
    ratio = mid["clear_pattern"] / mid["KEYS + DEL"]
    row = ("slowest GET / KEYS + DEL", "<= 0.10", f"{ratio:.3f}", met(ratio, 0.1))
    print(measure.markdown(("bar", "limit", "measured", "met"), [row]))


def main() -> int:
    """Print every table; return the exit code."""
    # What is loaded stays: to look through all of it before each round would take
    # longer than the round, and leave the processor's caches empty.
    gc.freeze()
    say("hits in one process")
    hit_costs()
    say("single flight")
    flights()
    with services.private("redis") as server:
        if server is None:
            print("no redis-server on the PATH: the tables of Redis are left out")
            return 0
        say("hits in Redis")
        redis_costs(server)
        pushes(server)
        say("clearing 200,000 keys")
        clearing(server)
    recomputes()
    outages()
    return 0


if __name__ == "__main__":
    sys.exit(measure.ended_well(main))
