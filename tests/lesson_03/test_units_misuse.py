"""Lesson 03 used as nobody meant it: it says so at once, or works all the same."""

from __future__ import annotations

import functools
import math
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import fakeredis
import pytest
import redis
import redis.asyncio
from lessons import load

from course.caching.copies import Copies
from course.caching.locks import ForkSafeLock
from course.caching.policy import Policy
from course.lab import in_background

lesson = load("03")

KINDS = ["JsonCache", "LoadingCache", "LeasedCache", "RedisCache", "NearCache"]


def cache_of(client: Any = None) -> Any:
    return lesson.RedisCache(client or fakeredis.FakeRedis(), "module8:test:")


CALLS: dict[str, Callable[[Any, Any], object]] = {
    "get": lambda cache, key: cache.get(key),
    "get_many": lambda cache, key: cache.get_many(iter(["k", key])),
    "get_or_load": lambda cache, key: cache.get_or_load(key, lambda: 1, Policy()),
    "set": lambda cache, key: cache.set(key, 1),
    "delete": lambda cache, key: cache.delete("k", key),
    "clear_pattern": lambda cache, key: cache.clear_pattern(key),
    "tag": lambda cache, key: lesson.CacheInvalidationManager(cache).tag("t", key),
    "of a tag": lambda cache, key: lesson.CacheInvalidationManager(cache).tag(key, "k"),
    "invalidate_tag": lambda cache, key: lesson.CacheInvalidationManager(
        cache
    ).invalidate_tag(key),
}


@pytest.mark.parametrize("call", CALLS)
def test_what_is_no_key_is_refused_by_name_and_is_no_outage(call: str) -> None:
    cache = cache_of()
    cache.set("k", "kept")
    for key in (5, None, ["a", "b"], bytearray(b"k"), 1.5):
        with pytest.raises(TypeError, match="a key is a str or bytes, not "):
            CALLS[call](cache, key)
    assert (cache.stats.errors, cache.breaker.failures, cache.owed) == (0, 0, False)
    assert cache.get("k") == "kept"


def test_a_key_of_any_text_can_be_tagged_and_cleared() -> None:
    """Half of a pair, as in the name of a file that is not UTF-8."""
    cache = cache_of()
    manager = lesson.CacheInvalidationManager(cache)
    key = "file \udc80"
    cache.set(key, 1)
    manager.tag("tag \udc80", key, b"\xff")
    assert cache.get(key) == 1
    assert manager.invalidate_tag("tag \udc80") == 1
    cache.set(key, 2)
    assert cache.clear_pattern("file \udc80*") == 1
    named = lesson.redis_cache(cache=cache, name=key)(lambda: 3)
    assert [named(), named.cache_clear(), named.invalidate()] == [3, 1, 0]
    assert (cache.stats.errors, cache.owed) == (0, False)


@pytest.mark.parametrize("threshold", [0, -1, 1.5, math.nan, "3", None], ids=repr)
def test_a_breaker_that_would_never_close_is_refused(threshold: Any) -> None:
    with pytest.raises(ValueError, match="threshold is an int of 1 or more, not "):
        lesson.CircuitBreaker(threshold)


@pytest.mark.parametrize("cooldown", [0, -1.0, math.nan, math.inf, 10**400])
def test_a_cooldown_that_never_or_always_ends_is_refused(cooldown: float) -> None:
    with pytest.raises(ValueError, match="cooldown is "):
        lesson.CircuitBreaker(cooldown=cooldown)


@pytest.mark.parametrize("maxsize", [-1, None, 2.5, math.nan, "9"], ids=repr)
def test_a_near_cache_of_no_size_is_refused(maxsize: Any) -> None:
    client = redis.Redis(protocol=2)
    with pytest.raises(ValueError, match="maxsize is an int of 0 or more, not "):
        lesson.NearCache(client, "module8:test:", maxsize)


def test_what_is_asked_for_and_never_answered_takes_no_more_than_the_size() -> None:
    copies = Copies(10)
    copies.begin_copies()
    for number in range(1000):
        assert copies.find([b"%d" % number], object()) is None
    assert len(copies) == 10


@pytest.mark.parametrize("kind", KINDS)
def test_an_asyncio_client_is_refused_as_what_it_is(kind: str) -> None:
    for protocol in (None, 2, 3):
        client = redis.asyncio.Redis(protocol=protocol)
        with pytest.raises(TypeError, match="is an asyncio client: take cache_client"):
            getattr(lesson, kind)(client, "module8:test:")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_client_is_refused_and_not_shown(kind: str) -> None:
    for client in ("redis://u:s3cret@h/0", None, redis):
        with pytest.raises(TypeError, match=r"the client is a redis\.Redis") as caught:
            getattr(lesson, kind)(client, "module8:test:")
        assert "s3cret" not in str(caught.value)


def test_a_prefix_of_bytes_is_refused() -> None:
    with pytest.raises(TypeError, match="the prefix is a str, not b'cache:'"):
        lesson.RedisCache(fakeredis.FakeRedis(), b"cache:")


def test_a_client_in_place_of_a_cache_is_refused_by_the_decorator() -> None:
    for client in (fakeredis.FakeRedis(), redis.asyncio.Redis(), "redis://h/0"):
        with pytest.raises(TypeError, match="cache= is a RedisCache"):
            lesson.redis_cache(cache=client, name="f")


def test_a_client_or_a_class_in_place_of_a_cache_is_refused_when_it_is_given() -> None:
    calls: list[Callable[[], Any]] = [
        lambda: lesson.redis_cache(cache=lesson.RedisCache, name="f"),
        lambda: lesson.CacheInvalidationManager(lesson.RedisCache),
        lambda: lesson.CacheInvalidationManager(fakeredis.FakeRedis()),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=r"cache= is a RedisCache\(client\), not "):
            call()


@pytest.mark.parametrize("policy", [60, None, {"ttl": 60}], ids=repr)
def test_a_load_with_anything_but_a_policy_is_refused(policy: Any) -> None:
    cache = cache_of()
    with pytest.raises(TypeError, match=r"such as Policy\(ttl=60\), not "):
        cache.get_or_load("k", lambda: 1, policy)
    cache.set("k", 2)
    with pytest.raises(TypeError, match=r"such as Policy\(ttl=60\), not "):
        cache.get_or_load("k", lambda: 1, policy)


@pytest.mark.parametrize("option", ["policy", "key", "encode", "decode"])
def test_an_option_of_another_kind_is_refused_when_it_is_given(option: str) -> None:
    with pytest.raises(TypeError, match=f"{option}=? is a .*, not 60"):
        lesson.redis_cache(**{option: 60}, name="f")(increased)


def test_a_function_may_have_a_parameter_called_self() -> None:
    cached = lesson.redis_cache(cache=cache_of(), name="f")(lambda self: [self])
    assert cached(self=5) == cached(5) == [5]
    assert cached.key(self=5) == cached.key(5)
    assert cached.invalidate(self=5) == 1


class AtLeast:
    """What is called like a function, and is none."""

    def __call__(self, number: int) -> int:
        return max(1, number)


class Shop:
    """Functions that are no methods, although they stand in a class."""

    at_least_1 = lesson.redis_cache(cache=cache_of(), name="least")(AtLeast())
    size = lesson.redis_cache(cache=cache_of(), name="size")(abs)

    @lesson.redis_cache(cache=cache_of())  # type: ignore[untyped-decorator]
    @staticmethod
    def gross(price: int) -> int:
        return price + 20

    @staticmethod
    @lesson.redis_cache(cache=cache_of())  # type: ignore[untyped-decorator]
    def net(price: int) -> int:
        return price - 20


def test_what_is_no_method_by_itself_is_none_when_it_is_cached() -> None:
    assert (Shop().at_least_1(0), Shop().size(-5)) == (1, 5)
    for shop in (Shop, Shop()):  # whichever decorator is above the other
        assert (shop.gross(100), shop.net(100)) == (120, 80)
    assert Shop.gross.key(1) != Shop.net.key(1)


class Desk:
    """A method, whose key a hook makes."""

    def __init__(self, town: str) -> None:
        self.town = town

    def _rate(self, number: int) -> list[Any]:
        """Return a rate."""
        return [self.town, number]

    rate = lesson.redis_cache(
        cache=cache_of(), name="rate", key=lambda desk, number: [desk.town, number]
    )(_rate)


def test_a_method_that_a_hook_makes_possible_can_be_invalidated_as_a_function() -> None:
    one, two = Desk("a"), Desk("b")
    assert [one.rate(1), two.rate(1)] == [["a", 1], ["b", 1]]
    assert one.rate.key(1) != two.rate.key(1)
    assert [one.rate.invalidate(1), one.rate.invalidate(1)] == [1, 0]
    assert one.rate.cache_clear() == 1  # the other's, which is the function's, too
    assert (one.rate.__name__, one.rate.__doc__) == ("_rate", "Return a rate.")


def test_what_cannot_be_called_is_refused_by_the_decorators() -> None:
    wrong: list[Any] = [5, None, classmethod(print), property(print)]
    for decorate in (lesson.timed_lru_cache(), lesson.redis_cache(name="f")):
        for fn in wrong:
            with pytest.raises(TypeError, match="can't be called: decorate the"):
                decorate(fn)


async def coroutine() -> int:
    return 1


async def asynchronous_generator() -> AsyncIterator[int]:
    yield 1


def generator() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize("fn", [coroutine, asynchronous_generator, generator])
def test_a_result_for_one_reader_is_refused_however_it_is_made(
    fn: Callable[[], Any],
) -> None:
    def disguised() -> Any:
        return fn()

    cache = cache_of()
    calls: list[Callable[[], Any]] = [
        lesson.timed_lru_cache()(disguised),
        lesson.redis_cache(cache=cache, name="f")(disguised),
        functools.partial(cache.get_or_load, "k", fn, Policy()),
    ]
    for call in calls * 2:
        with pytest.raises(TypeError, match="is only for its first reader"):
            call()


def test_a_number_beyond_all_floats_is_refused_before_any_call() -> None:
    huge = 10**400
    with pytest.raises(ValueError, match="ttl_seconds is an int beyond all floats"):
        lesson.timed_lru_cache(ttl_seconds=huge)
    with pytest.raises(ValueError, match="beta is an int beyond all floats"):
        Policy(beta=huge)


class SaysNothing(redis.ConnectionError):
    """An error whose text can't be made."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_an_error_without_a_text_is_an_outage_like_any_other() -> None:
    cache = cache_of()

    def fail(*words: Any, **options: Any) -> Any:
        raise SaysNothing

    cache.client.execute_command = fail
    assert cache.get("k") is None
    assert cache.get_or_load("k", lambda: 1, Policy()) == 1
    assert cache.stats.errors == cache.breaker.failures > 0


def price(number: int) -> int:
    return number


def doubled(fn: Callable[[int], int]) -> Callable[[int], int]:
    @functools.wraps(fn)
    def twice(number: int) -> int:
        return 2 * fn(number)

    return twice


def increased(fn: Callable[[int], int]) -> Callable[[int], int]:
    @functools.wraps(fn)
    def more(number: int) -> int:
        return 1 + fn(number)

    return more


def test_two_wrappers_of_one_function_share_no_results() -> None:
    cache = cache_of()
    wrapped: list[Callable[[int], int]] = [
        price,
        doubled(price),
        increased(price),
        functools.lru_cache(doubled(price)),
    ]
    cached = [lesson.redis_cache(cache=cache)(fn) for fn in wrapped]
    assert [fn(10) for fn in cached] == [10, 20, 11, 20]
    assert len({fn.key(10) for fn in cached}) == 4


def test_a_wrapper_of_a_script_asks_for_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "__name__", "__main__")
    with pytest.raises(TypeError, match=r"__main__\.doubled\.<locals>\.twice may be"):
        lesson.redis_cache()(doubled(price))
    assert lesson.redis_cache(cache=cache_of(), name="f")(doubled(price))(2) == 4


def test_a_handler_that_comes_in_between_is_let_through() -> None:
    """A signal's handler, say, that reads from the cache which it has interrupted."""
    lock = ForkSafeLock()

    def interrupted() -> str:
        with lock, lock:
            pass
        with lock.of_process(), lock:
            return "done"

    assert in_background(interrupted).result(10) == "done"


def test_who_leaves_a_near_cache_too_often_can_enter_it_all_the_same() -> None:
    near = lesson.NearCache(redis.Redis(protocol=2, port=1), "module8:test:")
    near.__exit__()
    with near:
        assert near.listener.thread.is_alive()
    assert not near.listener.thread.is_alive()


def test_a_tag_of_another_type_costs_one_cold_start() -> None:
    """Whoever may write that key must not stop the tag for good."""
    cache = cache_of()
    manager = lesson.CacheInvalidationManager(cache)
    cache.set("k", "old")
    cache.client.set(cache.name("tag", "t"), "somebody else's")
    assert manager.invalidate_tag("t") == 0
    assert cache.get("k") is None  # nobody can tell what was under the tag
    cache.set("k", "new")
    cache.set("other", 1)
    manager.tag("t", "k")
    assert cache.get("k") == "new"
    assert manager.invalidate_tag("t") == 1
    assert cache.get("other") == 1
    assert not cache.owed


def test_a_lease_that_outlives_all_leases_is_nobodys() -> None:
    cache = cache_of()
    for life in (10**12, None):
        cache.client.set(cache.name("lease", "k"), "somebody else's", px=life)
        policy = Policy(longest_load=60)
        assert cache.get_or_load("k", lambda: "loaded", policy) == "loaded"
        assert cache.get("k") == "loaded"
        cache.delete("k")
