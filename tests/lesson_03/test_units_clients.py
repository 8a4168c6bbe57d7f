"""Lesson 03: clients that can't serve a cache, results for one reader, equal keys."""

from __future__ import annotations

import csv
import functools
import io
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from unittest.mock import MagicMock

import fakeredis
import pytest
import redis
import sqlalchemy
from lessons import load
from redis.backoff import NoBackoff
from redis.cache import CacheConfig
from redis.retry import Retry
from redis.sentinel import Sentinel

from course.caching.client import cache_client, refuse_client
from course.caching.copies import Copies
from course.caching.plain import everyday_key
from course.caching.policy import Policy

lesson = load("03")
sentinel: Any = Sentinel  # which has no types


def of_balance() -> Any:
    """Return what a cluster's client looks like that reads from replicas."""
    client = fakeredis.FakeRedis()
    client.load_balancing_strategy = "round robin"  # type: ignore[attr-defined]
    return client


OLD_ANSWERS: dict[str, Callable[[], Any]] = {
    "a slave": lambda: sentinel([("127.0.0.1", 1)]).slave_for("x"),
    "a balance": of_balance,
    "copies": lambda: redis.Redis(protocol=3, cache_config=CacheConfig()),
}


@pytest.mark.parametrize("kind", OLD_ANSWERS)
def test_a_client_that_may_answer_with_what_is_deleted_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="may not have heard of a delete"):
        lesson.RedisCache(OLD_ANSWERS[kind](), "module8:test:")


def test_a_client_that_never_gives_up_is_refused() -> None:
    client = redis.Redis(retry=Retry(NoBackoff(), -1))
    with pytest.raises(ValueError, match="tries again for ever"):
        lesson.RedisCache(client, "module8:test:")
    for retry in (Retry(NoBackoff(), 0), Retry(NoBackoff(), 3)):
        refuse_client(redis.Redis(retry=retry), "module8:test:")
    refuse_client(sentinel([("127.0.0.1", 1)]).master_for("x"), "module8:test:")
    refuse_client(cache_client("unix:///tmp/none.sock"), "module8:test:")


def blocking(timeout: float | None) -> redis.Redis:
    pool_class: Any = redis.BlockingConnectionPool
    return redis.Redis(connection_pool=pool_class(timeout=timeout))


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("socket_timeout", lambda: redis.Redis(socket_timeout=None)),
        ("socket_connect_timeout", lambda: redis.Redis(socket_connect_timeout=None)),
        ("timeout", lambda: blocking(None)),
    ],
)
def test_a_client_that_waits_for_ever_is_refused(
    name: str, make: Callable[[], Any]
) -> None:
    with pytest.raises(ValueError, match=f"waits for ever, by {name}=None"):
        refuse_client(make(), "module8:test:")
    for client in (redis.Redis(), redis.Redis.from_url("redis://x"), blocking(1.0)):
        refuse_client(client, "module8:test:")


def test_what_a_client_makes_is_no_client() -> None:
    client: Any = fakeredis.FakeRedis()
    for made in (client.pipeline(), client.pubsub(), redis.Redis().pipeline(False)):
        with pytest.raises(TypeError, match=r"the client is a redis\.Redis"):
            lesson.RedisCache(made, "module8:test:")


@contextmanager
def opened() -> Iterator[int]:
    yield 1


@asynccontextmanager
async def opened_later() -> AsyncIterator[int]:
    yield 1


class Pages:
    """An asynchronous iterator that is no generator."""

    def __aiter__(self) -> Pages:
        return self

    async def __anext__(self) -> int:
        raise StopAsyncIteration


def rows_of_a_query() -> Any:
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.connect() as connection:
        return connection.execute(sqlalchemy.text("select 1")).scalars()


class Stream(io.BytesIO):
    """As a pipe is: what has been read is gone."""

    def seekable(self) -> bool:
        return False


ONE_READER: list[Callable[[], Any]] = [
    lambda: map(str, [1, 2]),
    lambda: zip([1], [2], strict=True),
    lambda: iter([1]),
    lambda: csv.reader(["a,b"]),
    lambda: sqlite3.connect(":memory:").cursor(),
    Pages,
    rows_of_a_query,
    lambda: Stream(b"x"),
    opened,
    opened_later,
]


@pytest.mark.parametrize("fn", ONE_READER, ids=lambda fn: type(fn()).__name__)
def test_what_is_empty_for_the_next_reader_is_refused(fn: Callable[[], Any]) -> None:
    cache = lesson.RedisCache(fakeredis.FakeRedis(), "module8:test:")
    calls: list[Callable[[], Any]] = [
        lesson.timed_lru_cache()(fn),
        lesson.redis_cache(cache=cache, name="f")(fn),
        functools.partial(cache.get_or_load, "k", fn, Policy()),
    ]
    for call in calls * 2:
        with pytest.raises(TypeError, match="is only for its first reader"):
            call()


@pytest.mark.parametrize("make", [MagicMock, io.StringIO, list, lambda: range(3)])
def test_what_can_be_read_again_is_kept(make: Callable[[], Any]) -> None:
    cached = lesson.timed_lru_cache()(make)
    assert cached() is cached()


def test_connections_that_nobody_gives_back_are_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An exception of a signal's handler may come before redis-py would do so."""
    client = fakeredis.FakeRedis()
    cache = lesson.RedisCache(client, "module8:test:")

    def fail(*words: Any, **options: Any) -> Any:
        raise redis.MaxConnectionsError("Too many connections")

    client.execute_command = fail  # type: ignore[method-assign]
    for _ in range(5):
        assert cache.get("k") is None
    assert cache.breaker.failures == cache.stats.errors == 0
    said = [record.getMessage() for record in caplog.records]
    assert said == ["all connections to Redis are taken"]


class Sized(lesson.RedisCache):  # type: ignore[misc,name-defined]
    """A cache that is false in a condition, as an empty list is."""

    def __len__(self) -> int:
        return 0


def test_a_cache_that_was_given_is_used_though_it_is_empty() -> None:
    cache = Sized(fakeredis.FakeRedis(), "module8:test:")
    fn = lesson.redis_cache(cache=cache, name="fn")(lambda: 1)
    assert (fn(), fn()) == (1, 1)
    assert (cache.stats.hits, cache.stats.loads) == (1, 1)


@pytest.mark.parametrize("name", [5, b"report", len])
def test_a_name_that_is_no_text_is_refused(name: Any) -> None:
    with pytest.raises(TypeError, match="name= is a str"):
        lesson.redis_cache(name=name)(lambda: 1)


def test_equal_dicts_are_one_argument_whatever_their_keys(cache: Any) -> None:
    fn = lesson.redis_cache(cache=cache, name="fn", key=everyday_key)(lambda query: 1)
    pairs: list[tuple[dict[Any, Any], dict[Any, Any]]] = [
        ({1: "a", 2: "b"}, {2: "b", 1: "a"}),
        ({"$a": 1, "b": 2}, {"b": 2, "$a": 1}),
        ({1: {(2, 3): {4: 5, 6: 7}, 8: 9}}, {1: {8: 9, (2, 3): {6: 7, 4: 5}}}),
        ({1: {"a": 2, "b": 3}, 4: 5}, {4: 5, 1: {"b": 3, "a": 2}}),
    ]
    for one, other in pairs:
        fn(one)
        assert fn.invalidate(other) == 1
    assert fn.key({1: "a"}) != fn.key({1.0: "a"})
    assert fn.key([1, 2]) != fn.key([2, 1])


def test_copies_are_dropped_if_one_differs_from_what_is_stored() -> None:
    def copies_of(witness: bytes | None) -> Copies:
        copies = Copies(10)
        copies.begin_copies()
        mark = object()
        copies.find([b"g", b"k"], mark)
        copies.keep([b"g", b"k"], [witness, b"value"], mark)
        return copies

    for copy, stored in ((b"1", b"2"), (b"1", None), (None, b"1")):
        copies = copies_of(copy)
        copies.compare(b"g", copy)
        copies.compare(b"unknown", stored)
        assert len(copies) == 2
        copies.compare(b"g", stored)
        assert len(copies) == 0
    asked = Copies(10)
    asked.compare(b"g", b"1")  # nobody tells of changes
    asked.begin_copies()
    asked.find([b"g"], object())
    asked.compare(b"g", b"1")  # what is asked for is still to come
    assert len(asked) == 1
