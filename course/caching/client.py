"""A Redis client with the limits of a cache, and what every client has to do."""

from __future__ import annotations

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


# region client
def cache_client(url: str, timeout: float = TIMEOUT) -> redis.Redis:
    """Return a client made for a cache: it waits 0.2 s, tries twice, then gives up.

    redis-py's defaults (5 s, 11 tries) suit a database. RESP2 works from Redis 6 to 8.
    """
    limits: dict[str, Any] = {"timeout": timeout, "socket_timeout": timeout}
    limits |= {"socket_connect_timeout": timeout, "max_connections": 64}
    retry = Retry(ExponentialWithJitterBackoff(base=0.01, cap=0.05), retries=1)
    pool = redis.BlockingConnectionPool.from_url(url, protocol=2, retry=retry, **limits)
    return redis.Redis(connection_pool=pool)


# endregion client


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


def refuse_decoding(client: Any) -> None:
    """Raise ValueError for a client that makes text of what may be any bytes."""
    if client.get_connection_kwargs().get("decode_responses"):
        raise ValueError("the client decodes: leave out decode_responses=True")


def refuse_resp3(client: Any) -> None:
    """Raise ValueError for a client whose protocol pushes are not what we read."""
    if str(client.get_connection_kwargs().get("protocol")) != "2":
        raise ValueError("the client speaks RESP3: take cache_client or protocol=2")


def longest_wait(client: Any) -> str:
    """Return how long one command can wait for a frozen server."""
    seconds = client.get_connection_kwargs()["socket_timeout"]
    tries = client.get_retry().get_retries() + 1
    return f"{tries} tries of {seconds} s"
