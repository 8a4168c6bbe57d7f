"""Lesson 03 with a Redis that says anything, slow loads, and keys that never rest."""

from __future__ import annotations

import functools
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import fakeredis
import pytest
import redis
import services
from lessons import load

from course.caching.client import cache_client
from course.caching.flights import WAITS
from course.caching.orders import RaceOfCaches, Turns, explore, take_turns
from course.caching.policy import LONGEST_LEASE, Policy
from course.lab import SlowSource, in_background, outcome_of, start_together

lesson = load("03")

RAISED: list[Exception] = [
    redis.exceptions.RedisClusterException("no slot"),
    redis.exceptions.ClusterDownError("CLUSTERDOWN"),
    redis.exceptions.InvalidResponse("Protocol Error"),
    redis.exceptions.MaxConnectionsError("Too many connections"),
    MemoryError(),
    ValueError("invalid literal for int()"),
    TypeError("'NoneType' object is not iterable"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    RecursionError(),
    AssertionError(),
]

ANSWERS: list[Any] = [b"OK", 7, [], [b"1"], [7, 8], [[b"a"], None], {"a": 1}, "text"]


class Hostile:
    """A client that answers each command, after a while, as it is told to."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.answer: Callable[[], Any] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def execute_command(self, *words: Any, **options: Any) -> Any:
        if self.answer:
            return self.answer()
        return self.client.execute_command(*words, **options)

    def register_script(self, text: str) -> Any:
        script = self.client.register_script(text)
        return lambda *args: self.answer() if self.answer else script(*args)

    def unlink(self, *names: bytes) -> Any:
        return self.answer() if self.answer else self.client.unlink(*names)

    def scan_iter(self, *args: Any) -> Any:
        return self.answer() if self.answer else self.client.scan_iter(*args)

    def pipeline(self, *args: Any) -> Any:
        pipe = self.client.pipeline(*args)
        if self.answer:
            pipe.execute = self.answer
        return pipe


def use_all(cache: Any) -> list[object]:
    """Return what each method answers."""
    manager = lesson.CacheInvalidationManager(cache)
    manager.tag("t", "k")
    return [
        cache.get("k"),
        cache.get_many(["k", "j"]),
        cache.get_or_load("k", lambda: "loaded", Policy()),
        cache.delete("k", "j"),
        cache.clear_pattern("*"),
        manager.invalidate_tag("t"),
        cache.settle(0.05),
    ]


def raising(error: Exception) -> Callable[[], Any]:
    def answer() -> Any:
        raise error

    return answer


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_whatever_a_command_raises_callers_get_answers(error: Exception) -> None:
    client = Hostile(fakeredis.FakeRedis())
    cache = lesson.RedisCache(client, "module8:test:")
    cache.set("k", "old")
    client.answer = raising(error)
    assert use_all(cache) == [None, {}, "loaded", 0, 0, 0, False]
    assert cache.set("k", "new") is False
    cache.bump()
    client.answer = None
    cache.breaker.retry_at = 0.0
    assert cache.settle()
    assert cache.get("k") is None  # nothing from before the deletes
    assert cache.get_or_load("k", lambda: "new", Policy()) == "new"


@pytest.mark.parametrize("answer", ANSWERS, ids=repr)
def test_whatever_redis_answers_callers_get_answers(answer: Any) -> None:
    client = Hostile(fakeredis.FakeRedis())
    cache = lesson.RedisCache(client, "module8:test:")
    cache.set("k", "old")
    client.answer = lambda: answer
    found = use_all(cache)
    assert found[:3] == [None, {}, "loaded"]
    outcome_of(functools.partial(cache.set, "k", "new"))
    client.answer = None
    cache.breaker.retry_at = 0.0
    if answer == 7:  # which may be a number of deleted keys
        cache.debts.add()
    assert cache.settle()
    assert cache.get_or_load("k", lambda: "new", Policy()) == "new"


@pytest.mark.parametrize("call", ["set", "tag", "delete", "take", "bump", "pay"])
@pytest.mark.parametrize(
    "answer", [one for one in ANSWERS if one not in (7, [7, 8])], ids=repr
)
def test_what_redis_did_not_clearly_do_is_owed(call: str, answer: Any) -> None:
    client = Hostile(fakeredis.FakeRedis())
    cache = lesson.RedisCache(client, "module8:test:")
    manager = lesson.CacheInvalidationManager(cache)
    cache.set("k", "old")
    manager.tag("t", "k")
    calls: dict[str, Callable[[], Any]] = {
        "set": functools.partial(cache.set, "k", "new"),
        "tag": functools.partial(manager.tag, "new", "k"),
        "delete": functools.partial(cache.delete, "k"),
        "take": functools.partial(manager.invalidate_tag, "t"),
        "bump": cache.bump,
        "pay": functools.partial(cache.get, "k"),
    }
    if call == "pay":
        cache.debts.add()
    client.answer = lambda: answer  # and nothing is done
    # A number of values, or False for what is not stored.
    assert not calls[call]()
    assert cache.owed
    client.answer = None
    cache.breaker.retry_at = 0.0
    assert cache.get("k") is None


@pytest.mark.parametrize(
    "stored", [b"\xff\xfe", b"\x80", "\u017c", b"none", b"", [b"a list"], {"a": "hash"}]
)
def test_a_generation_of_anything_stops_nobody(cache: Any, stored: Any) -> None:
    client = cache.client
    cache.set("k", "old")
    client.delete(cache.generation)
    if isinstance(stored, list):
        client.rpush(cache.generation, *stored)
    elif isinstance(stored, dict):
        client.hset(cache.generation, mapping=stored)
    else:
        client.set(cache.generation, stored)
    assert cache.get("k") is None
    assert cache.get_or_load("k", lambda: "loaded", Policy()) == "loaded"
    assert cache.set("k", "new") or stored == b""
    assert cache.get("k") in ("new", None)
    cache.bump()
    assert cache.get("k") is None
    assert cache.get_or_load("k", lambda: "last", Policy()) == "last"
    assert cache.get("k") == "last"
    assert cache.stats.errors == 0


@pytest.mark.parametrize("kind", ["value", "lease", "failure"])
def test_a_key_of_another_type_is_a_miss(cache: Any, kind: str) -> None:
    cache.client.rpush(cache.name(kind, "k"), b"x")
    assert cache.get_or_load("k", lambda: 1, Policy()) == 1
    assert (cache.get("k"), cache.stats.errors) == (1, 0)


def test_an_entry_of_no_generation_is_never_served(cache: Any) -> None:
    """Whoever finds no generation must not find what was stored without one."""
    name = cache.name("value", "k")
    cache.client.set(name, cache.sealed(name, cache.entry_of("old", 60), None))
    assert cache.get("k") is None


def test_a_payload_under_another_name_or_changed_on_the_way_is_a_miss(
    cache: Any,
) -> None:
    cache.set("a", 1234567)
    payload = cache.client.get(cache.name("value", "a"))
    cache.client.set(cache.name("value", "b"), payload)
    assert cache.get_many(["a", "b"]) == {"a": 1234567}
    cache.client.set(cache.name("value", "a"), payload.replace(b"1234567", b"1234568"))
    assert json.loads(cache.client.get(cache.name("value", "a")))["value"] == 1234568
    assert cache.get("a") is None
    assert cache.stats.corrupt == 2


def test_a_failure_that_is_not_text_is_told_all_the_same(cache: Any) -> None:
    job = lesson.Job("k", lambda: 1, Policy(), 0.0, None)
    claim = lesson.Claim(b"g", b"", None, job.token + b"\xff\xfe", 0.0)
    assert claim.reason(job.token) == "\ufffd\ufffd"
    assert claim.reason(b"") == ""


@pytest.mark.parametrize("blocking", [True, False])
def test_more_threads_than_connections_are_no_outage(
    redis_url: str, blocking: bool
) -> None:
    pool: Any = cache_client(redis_url, 5.0).connection_pool
    kind = redis.BlockingConnectionPool if blocking else redis.ConnectionPool
    options: dict[str, Any] = {"timeout": 0.01} if blocking else {}
    client = redis.Redis(
        connection_pool=kind(max_connections=2, **options, **pool.connection_kwargs)
    )
    cache = lesson.RedisCache(client, f"module8:{time.time_ns()}:")
    source = SlowSource("value", 0.1)
    held = [client.connection_pool.get_connection() for _ in range(2)]
    call = functools.partial(cache.get_or_load, "k", source.load, Policy())
    assert start_together([call] * 150) == ["value"] * 150
    assert (cache.stats.errors, cache.breaker.failures) == (0, 0)
    assert cache.stats.skipped >= 150
    for connection in held:
        client.connection_pool.release(connection)
    assert cache.set("k", "new", ttl=60)
    assert cache.get("k") == "new"
    cache.clear_pattern("*")
    cache.end_generation()


def caches_of(number: int) -> tuple[Any, list[Any]]:
    """Return a cache that writes, and others that read: a process each."""
    server = fakeredis.FakeServer()
    made = [
        lesson.RedisCache(fakeredis.FakeRedis(server=server), "module8:test:")
        for _ in range(number + 1)
    ]
    return made[0], made[1:]


def test_a_load_longer_than_others_wait_is_kept_if_nobody_else_loads(
    cache: Any,
) -> None:
    source = SlowSource("value", 0.3)
    fn = lesson.redis_cache(60, cache=cache, name="slow", longest_load=0.05)(
        source.load
    )
    assert [fn(), fn(), fn()] == ["value"] * 3
    assert (source.loads, cache.stats.refused, cache.stats.hits) == (1, 0, 2)


def test_a_load_longer_than_its_lease_is_still_withdrawn_by_a_delete() -> None:
    writer, (reader,) = caches_of(1)
    policy = Policy(longest_load=0.05)

    def load_and_be_overtaken() -> str:
        time.sleep(0.1)
        writer.delete("k")
        return "old"

    assert reader.get_or_load("k", load_and_be_overtaken, policy) == "old"
    assert writer.get("k") is None
    assert reader.stats.refused == 1


def test_the_lease_of_a_dead_process_is_taken_by_the_next() -> None:
    dead, (next_one,) = caches_of(1)
    policy = Policy(longest_load=0.2)
    dead.take_lease("k", b"token", policy.longest_load)  # and never heard of again
    life = dead.client.pttl(dead.name("lease", "k"))
    assert 0 < life <= LONGEST_LEASE * 1000
    assert next_one.get_or_load("k", lambda: "value", policy) == "value"
    assert (next_one.get("k"), next_one.stats.refused) == ("value", 0)


def test_a_key_deleted_faster_than_it_loads_is_waited_for_once() -> None:
    writer, readers = caches_of(20)
    stop = threading.Event()

    def keep_deleting() -> None:
        while not stop.wait(0.03):
            writer.delete("k")

    under_way: list[int] = []
    at_once: list[int] = []

    def load_slowly() -> str:
        under_way.append(1)
        time.sleep(0.15)
        at_once.append(len(under_way))
        under_way.pop()
        return "value"

    deleting = in_background(keep_deleting)
    calls = [
        functools.partial(cache.get_or_load, "k", load_slowly, Policy())
        for cache in readers
    ]
    assert start_together(calls) == ["value"] * 20
    stop.set()
    deleting.result(10)
    # Those who waited for the first one load at the same time, not each after a delete
    # more: that would be five at once, with 0.15 s and a delete every 0.03 s.
    assert max(at_once) > 12
    assert sum(cache.stats.loads for cache in readers) <= 20


def test_who_loads_alone_does_not_answer_those_who_came_after_a_delete() -> None:
    """Another process's delete, which this one cannot know of."""
    writer, (reader,) = caches_of(1)
    truth = ["old"]
    loading, go_on = threading.Event(), threading.Event()

    def slow() -> str:
        found = truth[0]
        loading.set()
        assert go_on.wait(10)
        return found

    job = lesson.Job("k", slow, Policy(), time.perf_counter(), None)
    early = in_background(
        lambda: reader.flights.run("k", functools.partial(reader.load_alone, job))
    )
    assert loading.wait(10)
    truth[0] = "new"
    writer.delete("k")
    late = in_background(lambda: reader.get_or_load("k", lambda: truth[0], Policy()))
    services.wait_for(lambda: reader.stats.misses == 1)
    services.wait_for(lambda: WAITS)
    go_on.set()
    assert early.result(10)[0].value == "old"
    assert late.result(10) == "new"


CHANGES: dict[str, Callable[[Any, str], object]] = {
    "delete": lambda cache, key: cache.delete(key),
    "set": lambda cache, key: cache.set(key, "new"),
    "clear_pattern": lambda cache, key: cache.clear_pattern("*"),
    "bump": lambda cache, key: cache.bump(),
}


class RaceOfChanges(RaceOfCaches):
    """Unlike RaceOfCaches the price is changed in another way."""

    def __init__(self, make_cache: Callable[[], Any], change: str) -> None:
        super().__init__(make_cache)
        self.change = CHANGES[change]

    def __call__(self, turns: Turns, number: int) -> Callable[[], bool]:
        one, two = self.make_cache(), self.make_cache()
        truth = ["old"]
        key = f"raced:{number}"
        for cache in (one, two):
            take_turns(cache, turns)

        def load_price() -> str:
            turns.step("load")
            return truth[0]

        def change() -> None:
            turns.step("write")
            truth[0] = "new"
            self.change(two, key)

        turns.add(
            "reader", functools.partial(one.get_or_load, key, load_price, Policy())
        )
        turns.add("writer", change)
        return lambda: "old" in (one.get(key), two.get(key))


def makers() -> dict[str, Callable[[], Any]]:
    server = fakeredis.FakeServer()
    client: Any = fakeredis.FakeRedis(server=server)
    return {
        "leased": lambda: lesson.RedisCache(client, "module8:test:"),
        "without": lambda: lesson.LoadingCache(client, "module8:other:"),
    }


@pytest.mark.parametrize("change", CHANGES)
def test_no_order_of_a_load_and_a_change_leaves_an_old_value(change: str) -> None:
    """Every order of the steps, with the real code; without a lease some fail."""
    found = {
        name: explore(RaceOfChanges(make, change)) for name, make in makers().items()
    }
    assert found["leased"].failing == []
    assert found["leased"].orders >= 10
    assert found["without"].failing, "the search finds nothing: it is no evidence"


@pytest.mark.soak
def test_no_order_of_two_loads_and_a_delete_leaves_an_old_value() -> None:
    found = {
        name: explore(RaceOfCaches(make, readers=2)) for name, make in makers().items()
    }
    assert found["leased"].orders > 10_000
    assert found["leased"].failing == []
    assert len(found["without"].failing) > 1000


def test_the_search_tries_each_order_once() -> None:
    """Two programs of two and three steps: 5! / (2! 3!) orders."""
    seen: list[str] = []

    def race(turns: Turns, number: int) -> Callable[[], bool]:
        said: list[str] = []

        def steps(name: str, count: int) -> None:
            for _ in range(count):
                turns.step("step")
                said.append(name)

        turns.add("a", functools.partial(steps, "a", 2))
        turns.add("b", functools.partial(steps, "b", 3))

        def note_it() -> bool:
            seen.append("".join(said))
            return False

        return note_it

    assert explore(race).counts == {"orders": 10, "stale": 0}
    assert len(set(seen)) == 10
