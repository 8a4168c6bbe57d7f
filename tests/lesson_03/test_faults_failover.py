"""Lesson 03 where a replica takes over: behind one address, and behind Sentinel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import services
from conftest import absent
from lessons import load
from redis.sentinel import Sentinel
from services import Server

from course.caching.client import cache_client
from course.network import FaultyNetwork

lesson = load("03")
SWITCH_LIMIT = 60.0  # seconds until Sentinel has demoted a master


def role_of(server: Server) -> str:
    with redis.Redis(port=server.port, socket_timeout=5) as client:
        return str(client.info("replication")["role"])


def follow(server: Server, master: Server | None) -> None:
    """Make a server a replica of another, or a master."""
    where = ("127.0.0.1", master.port) if master else ("NO", "ONE")
    with redis.Redis(port=server.port, socket_timeout=5) as client:
        client.replicaof(*where)
        if master:

            def is_up() -> bool:
                found = client.info("replication")
                return bool(found.get("master_link_status") == "up")

            services.wait_for(is_up, 30)


@pytest.fixture
def pair() -> Iterator[tuple[Server, Server]]:
    """A master and its replica."""
    options = ("--repl-diskless-sync-delay", "0")
    with (
        services.private("redis", *options) as master,
        services.private("redis", *options) as replica,
    ):
        if not (master and replica):
            absent("no redis-server on the PATH")
        assert master
        assert replica
        follow(replica, master)
        yield master, replica


def test_who_talks_to_a_demoted_master_moves_on(pair: tuple[Server, Server]) -> None:
    """It answers as before, but takes no writes: deletes would be owed for ever."""
    master, replica = pair
    with FaultyNetwork("127.0.0.1", master.port) as network:
        url = f"redis://127.0.0.1:{network.port}/0"
        cache = lesson.RedisCache(cache_client(url, 2.0), "module8:test:")
        assert cache.set("k", "old")
        follow(replica, None)
        network.target = ("127.0.0.1", replica.port)
        follow(master, replica)
        cache.delete("k")  # refused
        services.wait_for(lambda: cache.get("k") is None and not cache.owed)
        assert cache.set("k", "new")
    with redis.Redis(port=replica.port) as client:
        assert client.exists(cache.name("value", "k"))


@pytest.fixture
def sentinel(pair: tuple[Server, Server], tmp_path: Path) -> Iterator[Any]:
    master, _ = pair
    port = services.free_port()
    settings = tmp_path / "sentinel.conf"
    lines = [
        f"port {port}",
        f"dir {tmp_path}",
        f"sentinel monitor ours 127.0.0.1 {master.port} 1",
    ]
    settings.write_text("\n".join((*lines, "")))
    program = master.argv[: master.argv.index("--port")]
    argv = [*program, str(settings), "--sentinel"]
    url = f"redis://127.0.0.1:{port}/0"
    watcher = Server(
        "sentinel", url, port, argv, tmp_path, lambda: services.answers(port)
    )
    watcher.start()
    try:
        make: Any = Sentinel  # which has no type hints
        found = make([("127.0.0.1", port)], socket_timeout=5)
        services.wait_for(lambda: found.discover_slaves("ours"), 30)
        yield found
    finally:
        watcher.kill()


def switches(sentinel: Any) -> bool:
    """Order a failover; tell whether Sentinel knows a replica that is ready for it."""
    try:
        sentinel.sentinels[0].execute_command("SENTINEL", "FAILOVER", "ours")
    except redis.ResponseError:
        return False
    return True


def sees(near: Any, writer: Any, value: int) -> None:
    """Write with one cache, and wait until the other has it, by push."""
    assert writer.set("k", value)
    services.wait_for(lambda: near.get("k") == value)


def test_a_near_cache_follows_the_master_that_sentinel_names(
    pair: tuple[Server, Server], sentinel: Any
) -> None:
    """A command of a new connection would go to localhost:6379, to anybody's Redis."""
    old, _ = pair
    options = {"protocol": 2, "socket_timeout": 5}
    near = lesson.NearCache(sentinel.master_for("ours", **options), "module8:test:")
    with near:
        services.wait_for(lambda: near.copies.followed)
        writer = lesson.RedisCache(sentinel.master_for("ours", **options), near.prefix)
        for value in range(5):
            sees(near, writer, value)
        services.wait_for(lambda: near.get("k") == 4 and near.near_stats.hits)
        services.wait_for(lambda: switches(sentinel), 30)
        services.wait_for(lambda: role_of(old) == "slave", SWITCH_LIMIT)
        # Whatever Sentinel said in between.
        services.wait_for(lambda: writer.set("k", 5))
        services.wait_for(lambda: near.copies.followed and near.get("k") == 5)
        for value in range(6, 11):
            sees(near, writer, value)
