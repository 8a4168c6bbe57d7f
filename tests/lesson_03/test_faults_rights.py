"""Lesson 03 with users who lack single rights, and with what Redis tells nobody of."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
import redis
import services
from lessons import load, path_of, run
from services import Server

from course.caching.client import cache_client
from course.caching.policy import Policy

lesson = load("03")
SCRIPT = path_of("03")


def new_prefix() -> str:
    return f"module8:{uuid.uuid4().hex[:12]}:"


def admin_of(server: Server) -> Any:
    return redis.Redis.from_url(server.url, protocol=2)


def user_of(server: Server, *rights: str) -> str:
    """Return the URL of a user who may do anything but what is taken away."""
    user = f"user-{uuid.uuid4().hex[:8]}"
    words = [user, "on", ">secret", "~*", "+@all", *rights]
    with admin_of(server) as admin:
        admin.execute_command("ACL", "SETUSER", *words)
    return f"redis://{user}:secret@127.0.0.1:{server.port}/0"


def counter() -> Callable[[], int]:
    """Return a load that tells how often it was called."""
    calls: list[int] = []

    def load_next() -> int:
        calls.append(1)
        return len(calls)

    return load_next


@pytest.mark.parametrize("right", ["-script|load", "-script", "-evalsha"])
def test_who_may_not_load_scripts_has_a_cache(
    right: str, private_redis: Server
) -> None:
    with admin_of(private_redis) as admin:
        admin.script_flush()
    client = cache_client(user_of(private_redis, right))
    cache = lesson.RedisCache(client, new_prefix())
    manager = lesson.CacheInvalidationManager(cache)
    load_next = counter()
    for expected in (1, 1):
        assert cache.get_or_load("k", load_next, Policy()) == expected
    assert cache.set("other", 1)
    manager.tag("t", "k")
    assert manager.invalidate_tag("t") == 1
    assert cache.get_or_load("k", load_next, Policy()) == 2
    assert (cache.stats.errors, cache.owed) == (0, False)


def test_a_delete_by_who_may_not_delete_costs_a_cold_start_and_no_more(
    private_redis: Server,
) -> None:
    client = cache_client(user_of(private_redis, "-unlink", "-del"))
    cache = lesson.RedisCache(client, new_prefix())
    load_next = counter()
    for expected in range(1, 4):
        assert cache.get_or_load("k", load_next, Policy()) == expected
        assert cache.get_or_load("k", load_next, Policy()) == expected
        cache.delete("k")
        assert cache.settle(1)


@pytest.mark.parametrize(
    ("right", "says"),
    [
        ("resetchannels", "it needs &__redis__:invalidate"),  # as Redis 7 makes users
        ("-client|tracking", "client|tracking"),
        ("-sadd", "sadd"),
        ("-multi", "the rights"),
    ],
)
def test_the_lesson_names_a_right_that_it_lacks(
    right: str, says: str, private_redis: Server
) -> None:
    url = user_of(private_redis, "&*", right)
    done = run(SCRIPT, "--only", "outage", "--url", url)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_near_cache_without_the_right_to_its_channel_says_so_and_rests(
    private_redis: Server, caplog: pytest.LogCaptureFixture
) -> None:
    client = cache_client(user_of(private_redis, "resetchannels"))
    with admin_of(private_redis) as admin:
        with lesson.NearCache(client, new_prefix()) as near:
            services.wait_for(lambda: "__redis__:invalidate" in caplog.text)
            before = admin.info("stats")["total_connections_received"]
            assert near.set("k", 1)
            assert near.get("k") == 1
            time.sleep(1)
            after = admin.info("stats")["total_connections_received"]
        assert after - before <= 1
        assert not near.copies.followed


@pytest.mark.parametrize("size", [3_000_000, 100])
def test_a_value_that_redis_does_not_take_keeps_nobody_waiting(
    size: int, private_redis: Server
) -> None:
    """Its lease is given back: the next caller loads, and does not wait for it."""
    with admin_of(private_redis) as admin:
        usual = admin.config_get("proto-max-bulk-len")["proto-max-bulk-len"]
        admin.config_set("proto-max-bulk-len", 1024 * 1024)
        try:
            cache = lesson.RedisCache(cache_client(private_redis.url), new_prefix())
            began = time.monotonic()
            for _ in range(3):
                value = cache.get_or_load("k", lambda: "x" * size, Policy())
                assert len(value) == size
            assert time.monotonic() - began < 4  # one wait alone takes 5 s
            assert (cache.stats.errors > 0) == (size > 1024 * 1024)
        finally:
            admin.config_set("proto-max-bulk-len", usual)


def test_a_near_cache_notices_that_databases_are_swapped(
    private_redis: Server,
) -> None:
    """Redis tells nobody of SWAPDB."""
    prefix = new_prefix()
    far = lesson.RedisCache(cache_client(private_redis.url), prefix)
    with (
        admin_of(private_redis) as admin,
        lesson.NearCache(cache_client(private_redis.url), prefix) as near,
    ):
        services.wait_for(lambda: near.copies.followed)
        near.set("k", "old")
        services.wait_for(lambda: len(near.copies) == 2 or near.get("k") is None)
        assert near.get("k") == "old"
        admin.swapdb(0, 1)
        try:
            assert far.get("k") is None
            services.wait_for(lambda: near.get("k") is None, 5)
            far.set("k", "new")
            services.wait_for(lambda: near.get("k") == "new", 5)
        finally:
            admin.swapdb(0, 1)
        services.wait_for(lambda: near.get("k") == "old", 5)
        assert far.get("k") == "old"
