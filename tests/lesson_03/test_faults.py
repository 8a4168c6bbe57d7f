"""Lesson 03 while its Redis is killed, frozen, restarted: answers, and nothing old."""

from __future__ import annotations

import functools
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
import redis
import services
from lessons import load
from services import Server

from course.caching.client import cache_client
from course.caching.policy import Policy
from course.lab import SlowSource, start_together

lesson = load("03")


def cache_at(server: Server, cooldown: float = 0.3) -> Any:
    breaker = lesson.CircuitBreaker(cooldown=cooldown)
    prefix = f"module8:{uuid.uuid4().hex[:12]}:"
    return lesson.RedisCache(cache_client(server.url), prefix, breaker)


@pytest.fixture
def server(private_redis: Server) -> Server:
    """The module's server, running again after what the last test did to it."""
    if private_redis.process is None:
        private_redis.start()
    private_redis.thaw()
    services.wait_for(functools.partial(_answers, private_redis.url))
    return private_redis


def _answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url, socket_timeout=0.5) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


BREAK: dict[str, Callable[[Server], None]] = {
    "stopped": lambda server: server.kill(),
    "frozen": lambda server: server.freeze(),
}
MEND: dict[str, Callable[[Server], None]] = {
    "stopped": lambda server: server.start(),
    "frozen": lambda server: server.thaw(),
}


@pytest.mark.parametrize("how", BREAK)
def test_callers_get_answers_throughout_and_nothing_old_after(
    how: str, server: Server
) -> None:
    cache, truth, policy = cache_at(server, 5.0), {"price": 1}, Policy(ttl=60)

    def read() -> int:
        found: int = cache.get_or_load("price", lambda: truth["price"], policy)
        return found

    assert [read(), read()] == [1, 1]
    BREAK[how](server)
    while cache.breaker.allows():  # closed: these pay for finding out
        assert read() == 1
    errors, start = cache.stats.errors, time.monotonic()
    assert [read() for _ in range(100)] == [1] * 100
    took = time.monotonic() - start
    assert cache.stats.errors == errors  # not one of them went to the network
    assert took < 0.5
    truth["price"] = 2
    assert cache.delete("price") == 0  # Redis can't hear it
    assert cache.get("price") is None
    assert cache.set("price", 99) is False
    assert cache.clear_pattern("*") == 0
    MEND[how](server)
    services.wait_for(functools.partial(_answers, server.url))
    cache.breaker.retry_at = 0.0  # the cooldown is over
    skipped = cache.stats.skipped
    assert read() == 2
    assert cache.stats.errors == errors  # one probe was enough
    assert cache.stats.skipped == skipped
    assert [read(), cache.get("price")] == [2, 2]
    hits = cache.stats.hits
    assert [read() for _ in range(10)] == [2] * 10
    assert cache.stats.hits == hits + 10


def test_while_it_is_out_one_probe_goes_per_cooldown(server: Server) -> None:
    cache = cache_at(server, 60.0)
    server.kill()
    for _ in range(5):
        cache.get("k")
    assert cache.stats.errors == 3
    cache.breaker.retry_at = 0.0
    outcomes = start_together([functools.partial(cache.get, "k")] * 30)
    assert outcomes == [None] * 30
    assert cache.stats.errors == 4


def test_threads_share_loads_while_it_is_out(server: Server) -> None:
    cache, source = cache_at(server, 60.0), SlowSource("value", 0.5)
    server.kill()
    for _ in range(3):
        cache.get("k")
    call = functools.partial(cache.get_or_load, "k", source.load, Policy())
    assert start_together([call] * 50, source) == ["value"] * 50
    assert source.loads == 1


@pytest.mark.parametrize("how", BREAK)
def test_no_exception_and_no_old_value_under_a_breaking_server(
    how: str, server: Server
) -> None:
    """Readers and a writer run through two outages; every answer is accounted for."""
    cache, version, deleted = cache_at(server, 0.2), [0], [0]
    policy, stop = Policy(ttl=60, longest_load=1.0), threading.Event()
    answers: list[tuple[int, int]] = []

    def write() -> None:
        while not stop.is_set():
            version[0] += 1
            cache.delete("v")
            deleted[0] = version[0]
            stop.wait(0.02)

    def load() -> int:
        found = version[0]
        time.sleep(0.02)
        return found

    def read() -> None:
        while not stop.is_set():
            newest = deleted[0]
            answers.append((cache.get_or_load("v", load, policy), newest))
            stop.wait(0.005)

    with ThreadPoolExecutor(5) as pool:
        running = [pool.submit(job) for job in (write, read, read, read, read)]
        try:
            for _ in range(2):
                time.sleep(0.5)
                BREAK[how](server)
                time.sleep(1.0)
                MEND[how](server)
            time.sleep(1.0)
        finally:
            stop.set()
        for job in running:
            assert job.result(30) is None
    assert len(answers) > 40
    old = [pair for pair in answers if pair[0] < pair[1]]
    assert old == [], "older than a delete that had returned before the call"
    services.wait_for(functools.partial(_answers, server.url))
    cache.breaker.retry_at = 0.0
    cache.breaker.record(True)
    assert cache.get_or_load("v", lambda: version[0], policy) == version[0]
    assert cache.stats.hits + cache.stats.misses == len(answers) + 1


def test_a_restart_loses_the_scripts_and_nobody_notices(server: Server) -> None:
    cache = cache_at(server)
    assert cache.get_or_load("k", lambda: 1, Policy()) == 1
    server.restart()
    assert cache.get_or_load("k", lambda: 2, Policy()) == 2
    assert cache.get("k") == 2
    assert cache.breaker.failures == 0


def test_the_default_client_waits_many_times_longer(server: Server) -> None:
    """redis-py's own retries, at a tenth of its timeout, against the cache's client."""
    server.freeze()
    took = {}
    for name, client in {
        "default": redis.Redis(port=server.port, socket_timeout=0.2),
        "ours": cache_client(server.url),
    }.items():
        start = time.monotonic()
        with pytest.raises(redis.RedisError):
            client.get("k")
        took[name] = time.monotonic() - start
    server.thaw()
    assert took["default"] > 3 * took["ours"]


class Lossy(redis.Connection):
    """Loses answers to commands with the needle in them, as a slow network does."""

    needle, losses = b"", 0

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        super().send_packed_command(command, check_health)  # type: ignore[no-untyped-call]
        if self.losses and self.needle in b"".join(command):
            type(self).losses -= 1
            with suppress(redis.ResponseError):
                self.read_response()
            raise redis.TimeoutError("the answer is lost")


def lossy_client(server: Server) -> Any:
    pool = cache_client(server.url).connection_pool
    pool.connection_class = Lossy
    return redis.Redis(connection_pool=pool)


def test_a_tag_whose_answer_is_lost_is_invalidated_all_the_same(server: Server) -> None:
    prefix = f"module8:{uuid.uuid4().hex[:12]}:"
    cache = lesson.RedisCache(lossy_client(server), prefix)
    manager = lesson.CacheInvalidationManager(cache)
    manager.invalidate_tag("any")  # Redis learns the script
    for key in "abc":
        cache.set(key, "old")
    manager.tag("t", *"ab")
    Lossy.needle, Lossy.losses = b"tag:t", 1
    assert manager.invalidate_tag("t") == 0  # the client asks again, unseen
    assert (Lossy.losses, cache.stats.errors) == (0, 0)
    assert cache.get_many([*"abc"]) == {"c": "old"}


def test_a_tag_that_redis_missed_leaves_no_copy_nearby(server: Server) -> None:
    prefix = f"module8:{uuid.uuid4().hex[:12]}:"
    with lesson.NearCache(lossy_client(server), prefix) as near:
        services.wait_for(lambda: near.copies.followed)
        manager = lesson.CacheInvalidationManager(near)
        near.set("k", "old")
        manager.tag("t", "k")
        services.wait_for(
            lambda: lesson.commands_sent(near, lambda: near.get("k")) == 0
        )
        assert near.get("k") == "old"
        Lossy.needle, Lossy.losses = b"tag:t", 2
        assert manager.invalidate_tag("t") == 0
        assert near.stats.errors == 1
        assert near.get("k") is None


def test_a_full_server_is_no_outage_and_costs_one_key(server: Server) -> None:
    cache = cache_at(server, 60.0)
    cache.set("k", "old")
    cache.set("other", "kept")
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", 1)
        try:
            for number in range(5):
                assert cache.set("k", number) is False
            assert cache.get_many(["k", "other"]) == {"other": "kept"}
            lesson.CacheInvalidationManager(cache).tag("t", "other")
            assert cache.get("other") is None  # it could not be tagged
            assert cache.get_or_load("k", lambda: "loaded", Policy()) == "loaded"
            assert (cache.owed, cache.breaker.failures) == (False, 0)
            cache.bump()
            assert (cache.owed, client.exists(cache.generation)) == (False, 0)
        finally:
            client.config_set("maxmemory", 0)
    assert cache.set("k", "new")
    assert cache.get("k") == "new"


def test_a_script_can_wait_until_its_delete_is_heard(server: Server) -> None:
    cache, other = cache_at(server), cache_at(server)
    other.prefix = cache.prefix
    other.starts = cache.starts
    other.generation = cache.generation
    cache.set("k", "old")
    server.freeze()
    assert cache.delete("k") == 0
    assert cache.settle(0.5) is False
    threading.Timer(0.5, server.thaw).start()
    assert cache.settle(10) is True
    assert other.get("k") is None


def test_a_full_pool_is_waited_for(server: Server) -> None:
    """100 connections are the end of redis-py's pool; a blocking pool hands them on."""
    client = cache_client(server.url, 5.0)
    calls = [functools.partial(client.get, "k")] * 200
    assert start_together(calls) == [None] * 200
    pool: Any = client.connection_pool
    assert len(pool._connections) <= 64


def test_a_near_cache_is_empty_while_its_connection_is_lost(server: Server) -> None:
    prefix = f"module8:{uuid.uuid4().hex[:12]}:"
    with lesson.NearCache(cache_client(server.url), prefix) as near:
        services.wait_for(lambda: near.copies.followed)
        near.set("k", "old")
        assert near.get("k") == near.get("k") == "old"
        server.kill()
        services.wait_for(lambda: not near.copies.followed)
        assert near.get("k") is None
        server.start()
        services.wait_for(lambda: near.copies.followed)
        near.breaker.retry_at = 0.0
        assert near.get("k") is None
        near.set("k", "new")
        assert near.get("k") == "new"


def test_a_near_cache_notices_a_silent_connection(server: Server) -> None:
    prefix = f"module8:{uuid.uuid4().hex[:12]}:"
    with lesson.NearCache(cache_client(server.url), prefix) as near:
        services.wait_for(lambda: near.copies.followed)
        near.set("k", "old")
        near.get("k")
        server.freeze()
        services.wait_for(lambda: not near.copies.followed)
        server.thaw()
        services.wait_for(lambda: near.copies.followed)


def slowest_get(url: str, job: Callable[[Any], object]) -> float:
    """Return the longest that another client's GET takes while the job runs, in s."""
    with redis.Redis.from_url(url, socket_timeout=60) as client:
        worker = redis.Redis.from_url(url, socket_timeout=60)
        thread = threading.Thread(target=job, args=(worker,))
        client.get("k")
        slowest = 0.0
        thread.start()
        while thread.is_alive():
            start = time.perf_counter()
            client.get("k")
            slowest = max(slowest, time.perf_counter() - start)
        thread.join(60)
        worker.close()
        return slowest


def longest_command(url: str) -> float:
    """Return the longest command since the log was emptied: what all others wait for.

    By the server's own clock, which a busy machine disturbs less than a client's.
    """
    with redis.Redis.from_url(url) as client:
        entries: Any = client.slowlog_get(5000)
        client.slowlog_reset()
        return float(max(entry["duration"] for entry in entries))


@pytest.mark.slow
def test_clear_pattern_lets_others_through_where_keys_does_not(server: Server) -> None:
    number = 200_000
    fill = (
        "for i = 1, ARGV[1] do redis.call('SET', 'p:value:' .. i, 'x', 'EX', 600) end"
    )

    def blocking(client: Any) -> None:
        client.delete(*client.keys("p:value:*"))

    def ours(client: Any) -> None:
        assert lesson.RedisCache(client, "p:").clear_pattern("*") == number

    waits: dict[Any, list[float]] = {blocking: [], ours: []}
    works: dict[Any, list[float]] = {blocking: [], ours: []}
    with redis.Redis.from_url(server.url, socket_timeout=60) as client:
        client.config_set("slowlog-log-slower-than", 0)
        client.config_set("slowlog-max-len", 5000)
        for _ in range(3):
            for job, seen in waits.items():
                client.eval(fill, 0, number)
                client.slowlog_reset()
                seen.append(slowest_get(server.url, job))
                works[job].append(longest_command(server.url))
    assert min(works[ours]) <= 0.1 * min(works[blocking]), works
    # The clients' view; on a busy machine any GET may wait for a processor besides.
    assert min(waits[ours]) < 0.5 * max(waits[blocking]), waits


def test_a_user_who_may_not_delete_keeps_nobody_waiting(server: Server) -> None:
    """What cannot be deleted, a lease, is given back all the same."""
    with redis.Redis.from_url(server.url) as admin:
        rights = ["~*", "+@all", "-unlink", "-del"]
        admin.execute_command("ACL", "SETUSER", "keeper", "on", ">secret", *rights)
    url = f"redis://keeper:secret@127.0.0.1:{server.port}/0"
    cache = lesson.RedisCache(cache_client(url), f"module8:{uuid.uuid4().hex[:12]}:")
    policy = Policy(ttl=0.05)
    loads: list[int] = []

    def load_slowly() -> int:
        loads.append(1)
        return len(loads)

    for _ in range(3):
        cache.get_or_load("price", load_slowly, policy)
        time.sleep(0.1)  # longer than it lives, shorter than any lease
    assert len(loads) == 3
    stats = cache.stats
    assert (stats.waits, stats.refused, stats.errors) == (0, 0, 0)
