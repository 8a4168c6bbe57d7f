"""A Redis client with the limits of a cache, and what every client has to do."""

from __future__ import annotations

import inspect
import re
from itertools import islice
from typing import Any

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

DEFAULT_URL = "redis://127.0.0.1:6379/0"
TIMEOUT = 0.2  # seconds; a cache that answers later than its source is no help
SCAN_COUNT = 1000  # keys per step; Redis' default of 10 takes 18 times as long
BATCH = 500  # keys per UNLINK
NO_ROOM = "No connection available"  # says redis-py's blocking pool


# region client
def two_tries() -> Retry:
    """Return how a cache's client tries again: once, a moment later."""
    return Retry(ExponentialWithJitterBackoff(base=0.01, cap=0.05), retries=1)


def cache_client(url: str, timeout: float = TIMEOUT) -> redis.Redis:
    """Return a client made for a cache: it waits 0.2 s, tries twice, then gives up.

    redis-py's defaults (5 s, 11 tries) suit a database.
    The limit is for each piece of an answer: a large one may take longer.
    RESP2 works from Redis 6 to 8.
    """
    limits: dict[str, Any] = {"timeout": timeout, "socket_timeout": timeout}
    limits |= {"socket_connect_timeout": timeout, "max_connections": 64}
    limits |= {"protocol": 2, "retry": two_tries()}
    pool = redis.BlockingConnectionPool.from_url(url, **limits)
    return redis.Redis(connection_pool=pool)


# endregion client


# region cluster
def cluster_client(url: str, timeout: float = TIMEOUT) -> redis.RedisCluster:
    """Return a client for Redis Cluster with the same limits; the URL is any node's.

    Give the cache a prefix with a hash tag, as in "{rank}:": all its names then lie on
    one node. Caches of several tags lie on several nodes. A master that dies takes with
    it what its replica has not heard of: a value deleted just before may come back, for
    as long as its TTL.
    """
    limits = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
    return redis.RedisCluster.from_url(url, protocol=2, retry=two_tries(), **limits)


# endregion cluster


def escape(literal: str) -> str:
    """Return a glob pattern that matches the text itself and nothing else."""
    return re.sub(r"([*?\[\]^\\-])", r"\\\1", literal)


def unlink_matching(client: Any, pattern: bytes | str) -> int:
    """Delete the keys that match, without blocking others; return how many."""
    names = client.scan_iter(pattern, SCAN_COUNT)
    removed = 0
    while batch := list(islice(names, BATCH)):
        removed += client.unlink(*batch)
    return removed


def is_cluster(client: Any) -> bool:
    """Tell whether a client talks to Redis Cluster, node by node."""
    return hasattr(client, "get_node_from_key")


def refuse_client(client: Any, prefix: str) -> None:
    """Raise TypeError or ValueError for a client that cannot serve a cache."""
    if not hasattr(client, "execute_command") or is_for_one_use(client):
        kind = type(client).__name__  # and not its text: a URL holds a password
        raise TypeError(
            f"the client is a redis.Redis, as cache_client(url), not {kind}"
        )
    if not isinstance(prefix, str):
        raise TypeError(f"the prefix is a str, not {prefix!r:.40}")
    if inspect.iscoroutinefunction(client.execute_command):
        kind = f"{type(client).__module__}.{type(client).__name__}"
        raise TypeError(
            f"{kind} is an asyncio client: take cache_client(url), and call the cache "
            "from a thread, as with asyncio.to_thread"
        )
    # A client makes text of what may be any bytes, if it is told to.
    if client.get_connection_kwargs().get("decode_responses"):
        raise ValueError("the client decodes: leave out decode_responses=True")
    refuse_old_answers(client)
    refuse_endless_waits(client)
    retry = client.retry if is_cluster(client) else client.get_retry()
    if retry is not None and retry.get_retries() < 0:
        raise ValueError(
            "the client tries again for ever: no caller would get an answer without "
            "Redis; take cache_client(url), or a Retry with a limit"
        )
    # A tag is what is between the first { and the next }, if that is not empty.
    if is_cluster(client) and not re.search(r"^[^{]*\{[^}]+\}", prefix):
        raise ValueError(
            f"in Redis Cluster a prefix holds a hash tag, as in '{{cache}}:', "
            f"not {prefix!r}: the names of a cache lie on one node"
        )


def is_for_one_use(client: Any) -> bool:
    """Tell whether this is what a client makes: a pipeline, or a subscription."""
    if isinstance(client, redis.client.Pipeline | redis.client.PubSub):
        return True
    return not hasattr(client, "get_connection_kwargs")  # a monitor, say


def refuse_endless_waits(client: Any) -> None:
    """Raise ValueError for a client that waits for ever, as None tells it to.

    Where a limit is left out, it is redis-py's.
    """
    limits = dict(client.get_connection_kwargs())
    pool = getattr(client, "connection_pool", None)
    if isinstance(pool, redis.BlockingConnectionPool):
        limits["timeout"] = pool.timeout
    for name in ("socket_timeout", "socket_connect_timeout", "timeout"):
        if limits.get(name, 0) is None:
            raise ValueError(
                f"the client waits for ever, by {name}=None: take cache_client(url), "
                "or a number of seconds"
            )


def refuse_old_answers(client: Any) -> None:
    """Raise ValueError for a client that may answer with what has been deleted."""
    pool = getattr(client, "connection_pool", None)
    chooses = ("read_from_replicas", "load_balancing_strategy")
    if any(getattr(client, name, None) for name in chooses) or not getattr(
        pool, "is_master", True
    ):
        raise ValueError(
            "the client reads from replicas, which may not have heard of a delete: "
            "take master_for(), or a cluster client without load_balancing_strategy"
        )
    if getattr(pool, "cache", None) is not None:
        raise ValueError(
            "the client keeps copies, which may not have heard of a delete: leave out "
            "cache_config, and take NearCache for copies"
        )


def run_script(client: Any, script: Any, keys: list[bytes], args: list[Any]) -> Any:
    """Return what a registered script gives, also to who may not load scripts."""
    try:
        return script(keys, args)
    except redis.exceptions.NoPermissionError:
        # EVAL brings the text along, and Redis keeps it for the next EVALSHA.
        return client.eval(script.script, len(keys), *keys, *args)


def refuse_resp3(client: Any) -> None:
    """Raise ValueError for a client whose pushes are not what the near cache reads."""
    if is_cluster(client):
        raise ValueError(
            "a near cache listens to one server, which in a cluster may change "
            "unnoticed: take RedisCache"
        )
    if str(client.get_connection_kwargs().get("protocol")) != "2":
        raise ValueError("the client speaks RESP3: take cache_client or protocol=2")


def drop_idle(client: Any) -> None:
    """Close the connections that nobody uses: one of them is out of step."""
    if is_cluster(client):
        client.disconnect_connection_pools()
    else:
        client.connection_pool.disconnect(inuse_connections=False)


def leave_replica(client: Any, error: Exception) -> None:
    """Close the idle connections to what takes no writes: a master that was demoted.

    It does not hang up, and would refuse for ever. A new connection goes to where the
    address leads now.
    """
    if isinstance(error, redis.ReadOnlyError):
        drop_idle(client)


def has_no_room(error: Exception) -> bool:
    """Tell whether our own pool had no connection free: that is no outage."""
    if isinstance(error, redis.MaxConnectionsError):
        return True
    # Its arguments: the text of somebody's subclass may fail.
    return isinstance(error, redis.ConnectionError) and NO_ROOM in repr(error.args)


def longest_wait(client: Any) -> str:
    """Return how long one command can wait for a frozen server."""
    seconds = client.get_connection_kwargs()["socket_timeout"]
    tries = client.get_retry().get_retries() + 1
    return f"{tries} tries of {seconds} s"
