"""Lesson 03's redis_cache above other decorators: each wrapper has its own results."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
from lessons import load

lesson = load("03")


def priced(n: int) -> int:
    """Return n."""
    return n


def times(fn: Callable[..., Any], factor: int) -> Callable[..., Any]:
    @functools.wraps(fn)
    def multiplied(n: int) -> Any:
        return factor * fn(n)

    return multiplied


def double(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def doubled(n: int) -> Any:
        return 2 * fn(n)

    return doubled


def triple(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def tripled(n: int) -> Any:
        return 3 * fn(n)

    return tripled


@pytest.mark.parametrize("outer", [functools.lru_cache, lambda fn: times(fn, 1)])
def test_wrappers_inside_wrappers_are_a_part_of_the_name(
    cache: Any, outer: Callable[..., Any]
) -> None:
    decorate = lesson.redis_cache(60, cache=cache)
    first = decorate(outer(double(priced)))
    second = decorate(outer(triple(priced)))
    assert (first(1), second(1)) == (2, 3)


def test_two_wrappers_of_one_factory_need_a_name(cache: Any) -> None:
    first = times(priced, 2)
    second = times(priced, 3)
    cached = lesson.redis_cache(60, cache=cache)(first)
    with pytest.raises(TypeError, match="another wrapper's name, too: give it a name="):
        lesson.redis_cache(60, cache=cache)(second)
    named = lesson.redis_cache(60, cache=cache, name="thrice")(second)
    again = lesson.redis_cache(60, cache=cache)(first)  # the same one
    assert (cached(1), named(1), again(1)) == (2, 3, 2)
