"""Lesson 03's changes, and a stand-in that is switched off: nothing stale after."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fakeredis
import pytest
import redis
import services
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lessons import load

from course.caching.copies import Copies
from course.caching.policy import Policy
from course.lab import SlowSource, start_together

lesson = load("03")
relaxed = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


graphs = st.dictionaries(st.integers(0, 8), st.sets(st.integers(0, 8)), max_size=9)


@relaxed
@given(graphs, st.sets(st.integers(0, 8)), st.integers(0, 8))
def test_a_cascade_is_the_transitive_closure(
    graph: dict[int, set[int]], stored: set[int], start: int
) -> None:
    cache = lesson.RedisCache(fakeredis.FakeRedis(), "module8:test:")
    manager = lesson.CacheInvalidationManager(cache)
    for parent, children in graph.items():
        for child in children:
            manager.depend(str(child), str(parent))
    for key in stored:
        cache.set(str(key), key)
    reached = {start}
    while (more := reached | set().union(*(graph.get(k, set()) for k in reached))) != (
        reached
    ):
        reached = more
    assert manager.cascade(str(start)) == len(reached & stored)
    kept = {str(key) for key in stored - reached}
    assert set(cache.get_many([str(key) for key in range(9)])) == kept


def test_a_tag_without_keys_does_nothing(cache: Any) -> None:
    lesson.CacheInvalidationManager(cache).tag("t")
    assert (cache.stats.errors, cache.stats.trips) == (0, 0)


def test_a_cascade_remembers_no_strangers(cache: Any) -> None:
    manager = lesson.CacheInvalidationManager(cache)
    manager.cascade("k")
    assert manager.dependents == {}


def test_the_breaker_lets_one_probe_through(clock: Any) -> None:
    breaker = lesson.CircuitBreaker(threshold=2, cooldown=5, clock=clock)
    breaker.record(False)
    assert breaker.allows()
    breaker.record(False)
    assert not breaker.allows()
    clock.now += 5
    assert start_together([breaker.allows] * 20).count(True) == 1
    breaker.record(False)
    clock.now += 4.9
    assert not breaker.allows()
    clock.now += 0.2
    assert breaker.allows()
    breaker.record(True)
    assert start_together([breaker.allows] * 20) == [True] * 20


OWED: dict[str, Callable[[Any], object]] = {
    "delete": lambda cache: cache.delete("k"),
    "set": lambda cache: cache.set("k", "new"),
    "clear_pattern": lambda cache: cache.clear_pattern("k"),
    "bump": lambda cache: cache.bump(),
    "tag": lambda cache: lesson.CacheInvalidationManager(cache).tag("t", "k"),
    "invalidate_tag": lambda cache: lesson.CacheInvalidationManager(
        cache
    ).invalidate_tag("t"),
}


@pytest.mark.parametrize("change", OWED)
@pytest.mark.parametrize("failures", [0, 5])
def test_an_invalidation_that_redis_missed_is_made_good(
    change: str, failures: int, clock: Any
) -> None:
    server = fakeredis.FakeServer()
    client = fakeredis.FakeRedis(server=server)
    breaker = lesson.CircuitBreaker(clock=clock)
    cache = lesson.RedisCache(client, "module8:test:", breaker)
    other = lesson.RedisCache(client, "module8:test:")
    cache.set("k", "old")
    server.connected = False
    for _ in range(failures):
        assert cache.get("k") is None
    OWED[change](cache)
    server.connected = True
    clock.now += 2
    assert cache.get("k") is None
    assert other.get("k") is None  # no other process serves it either
    assert cache.set("k", "new")
    assert cache.get("k") == other.get("k") == "new"


def test_a_set_that_could_not_read_the_generation_says_so() -> None:
    cache = lesson.RedisCache(fakeredis.FakeRedis(), "module8:test:")
    cache.set("k", "old")
    asked = cache.ask
    answers = iter([[None]])
    cache.ask = lambda command: next(answers, None) or asked(command)
    assert cache.set("k", "new") is False
    assert cache.get("k") is None


def test_a_run_of_errors_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    server = fakeredis.FakeServer()
    server.connected = False
    cache = lesson.RedisCache(fakeredis.FakeRedis(server=server), "module8:test:")
    for _ in range(5):
        cache.get("k")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "the cache does without Redis: " in caplog.text


def test_what_happens_at_every_call_hides_no_outage(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = fakeredis.FakeServer()
    cache = lesson.RedisCache(fakeredis.FakeRedis(server=server), "module8:test:")
    policy = Policy(ttl=60)
    for _ in range(3):
        cache.get_or_load("k", lambda: {1}, policy)  # never cached
    server.connected = False
    for _ in range(3):
        cache.get_or_load("k", lambda: {1}, policy)
    told = [record.getMessage() for record in caplog.records]
    assert [text[:27] for text in told] == [
        "'k' is not cached: TypeErro",
        "the cache does without Redi",
    ]


def test_settle_tells_whether_the_debt_is_paid(clock: Any) -> None:
    server = fakeredis.FakeServer()
    breaker = lesson.CircuitBreaker(clock=clock)
    client = fakeredis.FakeRedis(server=server)
    cache = lesson.RedisCache(client, "module8:test:", breaker)
    server.connected = False
    cache.delete("k")
    assert cache.owed
    assert not cache.settle(0.1)
    server.connected = True
    clock.now += 2
    assert cache.settle(5)


def test_single_flight_holds_while_redis_is_out(clock: Any) -> None:
    server = fakeredis.FakeServer()
    server.connected = False
    cache = lesson.RedisCache(fakeredis.FakeRedis(server=server), "module8:test:")
    source = SlowSource("value", 0.2)
    call = functools.partial(cache.get_or_load, "k", source.load, Policy())
    assert start_together([call] * 50, source) == ["value"] * 50
    assert source.loads == 1


LOCKED_FORK = """
import os, signal, threading
import fakeredis
from lessons import load
lesson = load("03")
loading, go_on = threading.Event(), threading.Event()
def slow(key):
    loading.set()
    go_on.wait(30)
    return key
cache = lesson.RedisCache(fakeredis.FakeRedis(), "module8:test:")
timed = lesson.timed_lru_cache()(slow)
far = lesson.redis_cache(cache=cache, name="slow")(slow)
for call in (timed, far):
    loading.clear(), go_on.clear()
    threading.Thread(target=call, args=("k",), daemon=True).start()
    assert loading.wait(30)
    with cache.lock, cache.stats.lock, cache.breaker.lock:
        child = os.fork()
    if child == 0:
        signal.alarm(10)
        go_on.set()
        os._exit(call("k") != "k")
    go_on.set()
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="platform: no fork on this system")
def test_a_child_forked_during_a_load_loads_for_itself() -> None:
    place = Path(services.__file__).parent
    argv = [sys.executable, "-c", LOCKED_FORK]
    environment = os.environ | {"PYTHONPATH": str(place.parent)}
    subprocess.run(argv, cwd=place, env=environment, timeout=90, check=True)


class FrozenClient:
    """A client that, once frozen, answers no command in time; it counts them."""

    def __init__(self, client: Any, seconds: float) -> None:
        self.client = client
        self.seconds = seconds
        self.frozen = False
        self.unlinks = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def wait(self) -> None:
        time.sleep(self.seconds)
        if self.frozen:
            raise redis.TimeoutError("frozen")

    def unlink(self, *names: bytes) -> Any:
        self.unlinks += 1
        self.wait()
        return self.client.unlink(*names)

    def execute_command(self, *words: Any) -> Any:
        if self.frozen:
            self.wait()
        return self.client.execute_command(*words)


def test_a_debt_to_a_frozen_server_keeps_no_reader_waiting() -> None:
    client = FrozenClient(fakeredis.FakeRedis(), 0.2)
    cache = lesson.RedisCache(client, "module8:test:")
    cache.debts.add()
    client.frozen = True
    took: list[float] = []

    def read() -> None:
        start = time.monotonic()
        assert cache.get("k") is None
        took.append(time.monotonic() - start)

    assert start_together([read] * 50) == [None] * 50
    assert max(took) < 3  # they stood in a row for 10 s
    assert client.unlinks <= 4
    assert cache.owed


def test_one_debt_ends_one_generation() -> None:
    client = FrozenClient(fakeredis.FakeRedis(), 0.05)
    cache = lesson.RedisCache(client, "module8:test:")
    cache.debts.add()
    start_together([functools.partial(cache.get, "k")] * 50)
    assert (client.unlinks, cache.owed) == (1, False)


def test_a_debt_made_while_another_is_paid_stays(cache: Any) -> None:
    cache.debts.add()
    unlink = cache.client.unlink

    def and_lose_another(*names: bytes) -> Any:
        cache.debts.add()
        return unlink(*names)

    cache.client.unlink = and_lose_another
    cache.end_generation()
    assert cache.owed
    cache.debts.forgive()
    assert not cache.owed


def test_a_near_cache_keeps_no_copy_of_an_answer_it_did_not_get() -> None:
    client: Any = fakeredis.FakeRedis(protocol=2)
    near = lesson.NearCache(client, "module8:test:")
    near.copies.begin_copies()  # as the listener does
    near.set("price", 7, 60)
    asked = client.execute_command
    failures = [redis.TimeoutError("hiccup")]

    def once_in_vain(*words: Any, **options: Any) -> Any:
        if words[0] == "MGET" and failures:
            raise failures.pop()
        return asked(*words, **options)

    client.execute_command = once_in_vain
    assert [near.get("price") for _ in range(3)] == [None, 7, 7]


def test_what_a_process_changes_leaves_its_own_copies_at_once() -> None:
    """It may read again before Redis has told it of its own change."""
    client: Any = fakeredis.FakeRedis(protocol=2)
    near = lesson.NearCache(client, "module8:test:")
    near.copies.begin_copies()  # as the listener does, and nobody tells of changes
    near.set("price", 7, 60)
    assert near.get("price") == 7
    later = time.time() + 61
    near.clock = lambda: later
    assert near.get_or_load("price", lambda: 19, Policy(ttl=60)) == 19
    assert near.get("price") == 19  # and not the copy that has expired
    near.set("price", 8, 60)
    assert near.get("price") == 8
    near.end_generation()  # to pay a debt
    assert len(near.copies) == 0


def test_a_pattern_that_nothing_matches_deletes_none(cache: Any) -> None:
    assert cache.clear_pattern("nobody:*") == 0


def test_what_owes_nothing_is_settled_at_once(cache: Any) -> None:
    trips = cache.stats.trips
    assert cache.settle(0.2)
    assert cache.stats.trips == trips  # it asks no server


def test_a_miss_nearby_leaves_the_other_copies() -> None:
    copies = Copies(10)
    copies.begin_copies()
    mark = object()
    assert copies.find([b"generation", b"a"], mark) is None
    copies.keep([b"generation", b"a"], [b"1", b"x"], mark)
    assert copies.find([b"generation", b"b"], object()) is None
    assert copies.find([b"generation", b"a"], object()) == [b"1", b"x"]


def test_threads_that_need_the_default_cache_share_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[object] = []

    class Slow(lesson.RedisCache):  # type: ignore[name-defined,misc]
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            time.sleep(0.05)
            made.append(self)

    monkeypatch.setattr(lesson, "RedisCache", Slow)
    lesson.default_cache.cache_clear()
    found = start_together([lesson.default_cache] * 20)
    lesson.default_cache.cache_clear()
    assert found == made * 20
