"""Lesson 03 with what makes no sense: limits, names, errors that can't be told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from lessons import load

from course.caching.plain import everyday_key, to_plain
from course.caching.policy import Policy

lesson = load("03")


@pytest.mark.parametrize("number", [Decimal(60), timedelta(60), "60", None], ids=repr)
def test_what_is_no_number_of_seconds_is_refused_before_any_call(
    cache: Any, number: Any
) -> None:
    calls: list[Callable[[], object]] = [
        lambda: cache.set("k", 1, number),
        lambda: Policy(ttl=number),
        lambda: Policy(longest_load=number),
        lambda: Policy(jitter=number),
        lambda: Policy(beta=number),
        lambda: Policy(grace=number),
        lambda: lesson.timed_lru_cache(8, number),
    ]
    for call in calls:
        with pytest.raises(TypeError, match="is an int or a float, not"):
            call()


class Mute(Exception):
    """An error whose text can't be told."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


def test_an_error_without_a_text_reaches_its_caller_and_gives_the_lease_back(
    cache: Any, clock: Any
) -> None:
    def fail() -> None:
        raise Mute

    with pytest.raises(Mute):
        cache.get_or_load("k", fail, Policy())
    assert cache.client.get(cache.name("lease", "k")) is None
    policy = Policy(ttl=60, grace=600)
    cache.get_or_load("old", lambda: "old", policy)
    clock.advance(61)
    assert cache.get_or_load("old", fail, policy) == "old"


def test_a_failed_load_tells_no_secret(
    cache: Any, clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ConnectionError("postgresql://shop:hunter2@db/shop refuses")

    with pytest.raises(ConnectionError):
        cache.get_or_load("k", fail, Policy())
    told = cache.client.get(cache.name("failure", "k"))
    assert b"ConnectionError: postgresql://shop:***@db/shop refuses" in told
    policy = Policy(ttl=60, grace=600)
    cache.get_or_load("old", lambda: "old", policy)
    clock.advance(61)
    assert cache.get_or_load("old", fail, policy) == "old"
    assert "db/shop refuses" in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("module", ["<run_path>", "<string>", "__console__", ""])
def test_more_modules_that_are_called_like_others(module: str) -> None:
    scope: dict[str, Any] = {"__name__": module}
    exec("def load_rows(n):\n    return [n]", scope)
    with pytest.raises(TypeError, match="give it a name="):
        lesson.redis_cache()(scope["load_rows"])


def test_functions_that_singledispatch_registers_need_names() -> None:
    scope: dict[str, Any] = {"__name__": "shop.areas"}
    exec("def _(x: int):\n    return 1", scope)
    with pytest.raises(TypeError, match="give it a name="):
        lesson.redis_cache()(scope["_"])


def test_clearing_a_function_leaves_those_whose_names_begin_alike(cache: Any) -> None:
    decorate = lesson.redis_cache
    shop = decorate(cache=cache, name="shop")(lambda n: n)
    report = decorate(cache=cache, name="shop:report")(lambda n: n)
    shop(1), shop(2), report(1)
    assert shop.cache_clear() == 2
    assert report.invalidate(1) == 1


@pytest.mark.parametrize("hook", [None, everyday_key])
def test_equal_dicts_are_one_argument(cache: Any, hook: Any) -> None:
    fn = lesson.redis_cache(cache=cache, name="fn", key=hook)(lambda query: query)
    fn({"a": 1, "b": {"c": 2, "d": 3}})
    assert fn.invalidate({"b": {"d": 3, "c": 2}, "a": 1}) == 1
    for one, other in (({"a": 1}, {"a": 1.0}), ({"a": 1}, {"a": True}), ({}, [])):
        assert fn.key(one) != fn.key(other)


def bottomless() -> list[Any]:
    """Return a list that contains itself."""
    found: list[Any] = []
    found.append(found)
    return found


class Unprintable:
    """A value whose text can't be told."""

    def __repr__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    "make", [lambda: 10**5000, bottomless, Unprintable, lambda: bytearray(10**6)]
)
def test_what_json_cannot_hold_for_its_size_or_form_is_a_type_error(
    cache: Any, make: Callable[[], Any]
) -> None:
    value = make()
    fn = lesson.redis_cache(cache=cache, name="fn")(lambda x=None: value)
    with pytest.raises(TypeError):
        cache.set("k", value)
    with pytest.raises(TypeError):
        fn(value)
    assert fn() is value  # and not cached
    with pytest.raises(TypeError):
        to_plain(Unprintable())
