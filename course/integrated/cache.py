"""Redis: scores behind lesson 03's decorator, deleted when a purchase comes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

import redis

from course.caching.client import DEFAULT_URL, cache_client
from course.errors import BadInput
from course.integrated.task import Place, Task
from course.services import setting
from course.urls import REDIS_FORM

TTL = 3600  # seconds that a score lives in the cache
MODEL = "prediction:1"  # of the cache's keys: another model, other keys
CLIENT_TIMEOUT = 0.5  # seconds; a worker has more patience than a page

Score = list[float]  # of a customer: the chance of no order, and the spend
Predict = Callable[[str], Score]


class Detour(redis.Connection):
    """A connection to a server that begins at another place, as in a network of ours.

    Trap: a certificate is for the server's name, not for where the way begins.
    """

    def __init__(self, begins_at: Place, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self.begins_at = begins_at

    def _connect(self) -> Any:
        named = (self.host, self.port)
        self.host, self.port = self.begins_at.host, self.begins_at.port
        try:
            return super()._connect()  # type: ignore[no-untyped-call]
        finally:
            self.host, self.port = named


class SecureDetour(redis.SSLConnection, Detour):
    """The same over TLS: redis-py puts it around the connection that Detour opens."""


class ScoreCache:
    """The scores of customers in Redis."""

    def __init__(self, lesson: Any, client: Any, prefix: str) -> None:
        self.client = client
        self.cache = lesson.RedisCache(client, prefix)
        self.cached = lesson.redis_cache(TTL, cache=self.cache, name=MODEL)
        self.lock = threading.Lock()

        @self.cached  # type: ignore[untyped-decorator]
        def score(user: str) -> Score:
            raise NotImplementedError(user)

        # Keys depend on the name of the model and the arguments, not on the function.
        self.key_of = score.key

    def held(self, users: Iterable[str]) -> dict[str, Score]:
        """Return the scores that the cache holds now, by customer."""
        user_of = {self.key_of(user): user for user in users}
        found = self.cache.get_many(list(user_of))
        return {user_of[key]: found[key] for key in found}

    def forget(self, users: list[str]) -> None:
        """Delete scores; ConnectionError if the cache has not heard of it.

        The messages then come again: the debt lies in the queue, which no crash ends,
        and not in this process, which would renew the whole cache to pay it. Orders
        have PATIENCE: when they become dead letters, the score has expired, too.
        """
        keys = [self.key_of(user) for user in users]
        with self.lock:
            self.cache.delete(*keys)
            if self.cache.owed:
                self.cache.debts.forgive()
                raise ConnectionError("the cache has not heard of a purchase")

    def move(self, place: Place) -> None:
        """Reach the same Redis through another address from here on."""
        pool = self.client.connection_pool
        pool.disconnect()
        secure = issubclass(pool.connection_class, redis.SSLConnection)
        pool.connection_class = SecureDetour if secure else Detour
        pool.connection_kwargs["begins_at"] = place


def cache_prefix(back_end: Any) -> str:
    """Return what the keys of a run begin with."""
    return f"{back_end.prefix}shop:"


def cache_of(lesson: Any, back_end: Any) -> ScoreCache:
    """Return the cache of this run, with connections of its own."""
    return ScoreCache(lesson, back_end.connect(), cache_prefix(back_end))


def redis_url() -> str:
    """Return the URL by which lesson 03 finds Redis."""
    return setting("REDIS_URL", DEFAULT_URL)


def redis_place(back_end: Any) -> Place:
    """Return where a live Redis listens; BadInput if that is no port."""
    known = back_end.connect().connection_pool.connection_kwargs
    if "path" in known:
        how = "which reaches Redis by a port: its URL names a socket"
        raise BadInput(f"--chaos puts a network before Redis, {how}")
    # A URL may leave both to redis-py.
    port = known.get("port", REDIS_FORM.port)
    return Place(known.get("host", "127.0.0.1"), int(port))


def stand_in_server(back_end: Any) -> Any:
    """Return what all clients of the stand-in share; its `connected` is a switch."""
    pool = back_end.connect().connection_pool
    return pool.connection_kwargs["server"]


def open_cache(lesson: Any, task: Task) -> ScoreCache:
    """Return the cache that a task names."""
    client = cache_client(task.redis_url, CLIENT_TIMEOUT)
    cache = ScoreCache(lesson, client, task.redis_prefix)
    if task.redis_place:
        cache.move(task.redis_place)
    return cache
