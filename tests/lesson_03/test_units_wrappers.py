"""Lesson 03's redis_cache above other decorators: each wrapper has its own results."""

from __future__ import annotations

import functools
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
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


def test_two_wrappers_of_one_factory_have_results_of_their_own(cache: Any) -> None:
    decorate = lesson.redis_cache(60, cache=cache)
    first, second = decorate(times(priced, 2)), decorate(times(priced, 3))
    assert (first(1), second(1)) == (2, 3)


def test_an_app_that_is_made_twice_shares_its_results(cache: Any) -> None:
    first = lesson.redis_cache(60, cache=cache)(times(times(priced, 2), 3))
    again = lesson.redis_cache(60, cache=cache)(times(times(priced, 2), 3))
    assert (first(1), again(1), cache.stats.loads) == (6, 6, 1)
    another = lesson.redis_cache(60, cache=cache)(times(times(priced, 3), 3))
    assert another(1) == 9


TWO_OF_ONE_NAME = """
from functools import wraps
from lessons import load
redis_cache = load("03").redis_cache
registered = []

def keep(fn):
    registered.append(fn)
    return fn

{first}

{second}
"""
A_FUNCTION = """
@keep
@redis_cache(60)
def report(n):
    return {}
"""
A_METHOD = """
class Shop:
    @redis_cache(60, key=lambda self, n: n)
    def report(self, n):
        return {}
keep(Shop)
"""


def load_text(text: str, path: Path, name: str = "of_one_name") -> Any:
    path.write_text(text, "utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("kind", [A_FUNCTION, A_METHOD])
def test_two_of_one_name_in_a_module_need_a_name(kind: str, tmp_path: Path) -> None:
    text = TWO_OF_ONE_NAME.format(first=kind.format(1), second=kind.format(2))
    with pytest.raises(TypeError, match=r"of_one_name\.\w*\.?report is another func"):
        load_text(text, tmp_path / "of_one_name.py")


@pytest.mark.parametrize("kind", [A_FUNCTION, A_METHOD])
def test_a_module_that_is_loaded_again_keeps_its_names(
    kind: str, tmp_path: Path
) -> None:
    path = tmp_path / "of_one_name.py"
    first = TWO_OF_ONE_NAME.format(first=kind.format(1), second="")
    modules = [load_text(first, path), load_text(first, path)]
    # Edited and loaded again, into the same names.
    module = modules[0]
    kept = list(module.registered)
    edited = TWO_OF_ONE_NAME.format(first="\n\n", second=kind.format(2))
    exec(compile(edited, str(path), "exec"), vars(module))
    assert len(kept + module.registered) == 2


def test_classes_that_inherit_a_method_have_results_of_their_own(cache: Any) -> None:
    def decorate(name: str, key: Callable[..., Any]) -> Any:
        return lesson.redis_cache(60, cache=cache, name=name, key=key)

    class Prices:
        factor = 1

        @decorate("of", lambda self, n: n)  # type: ignore[untyped-decorator]
        def of(self, n: int) -> int:
            return self.factor * n

        @classmethod
        @decorate("known", lambda cls, n: n)  # type: ignore[untyped-decorator]
        def known(cls, n: int) -> int:
            return cls.factor * n

        @staticmethod
        @decorate("whole", lambda n: n)  # type: ignore[untyped-decorator]
        def whole(n: int, more: int = 0) -> int:
            return n + more

    class Doubled(Prices):
        factor = 2

    class Tripled(Prices):
        factor = 3

        def of(self, n: int) -> int:
            return 10 * int(super().of(n))

    for _ in range(2):
        assert [kind().of(1) for kind in (Prices, Doubled, Tripled)] == [1, 2, 30]
        assert [kind.known(1) for kind in (Prices, Doubled, Tripled)] == [1, 2, 3]
    assert Prices.of(Doubled(), 1) == 2  # however it is called
    assert Doubled().of.key(1) == Prices.of.key(Doubled(), 1)
    assert Doubled().of.key(1) != Prices().of.key(1)
    assert Doubled().of.invalidate(1) == 1
    assert Prices().of.cache_clear() == 2  # of the classes that are left
    assert Prices.whole.key(1) == Prices.whole.key(n=1)


def test_a_method_is_one_whatever_it_calls_its_object(cache: Any) -> None:
    by_object = lesson.redis_cache(60, cache=cache, name="of", key=lambda this, n: n)
    by_class = lesson.redis_cache(60, cache=cache, name="known", key=lambda kind, n: n)

    class Prices:
        factor = 1

        @by_object  # type: ignore[untyped-decorator]
        def of(this, n: int) -> int:  # noqa: N805
            return this.factor * n

        @classmethod
        @by_class  # type: ignore[untyped-decorator]
        def known(kind, n: int) -> int:  # noqa: N804
            return kind.factor * n

    class Doubled(Prices):
        factor = 2

    for _ in range(2):
        assert [Prices().of(1), Doubled().of(1)] == [1, 2]
        assert [Prices.known(1), Doubled.known(1)] == [1, 2]


A_CLASS = """
class Prices:
    @redis_cache(60, cache=cache, name="of", key=lambda self, n: n)
    def of(self, n):
        return n

class Doubled(Prices):
    pass
"""


def test_a_method_has_one_key_however_a_process_calls_the_module(cache: Any) -> None:
    """A script is __main__, __mp_main__ in its children, and shop to who imports it."""
    keys = []
    for name in ("__main__", "__mp_main__", "shop"):
        scope = {"__name__": name, "redis_cache": lesson.redis_cache, "cache": cache}
        exec(A_CLASS, scope)
        prices: Any = scope["Prices"]
        doubled: Any = scope["Doubled"]
        theirs = type("Prices", (prices,), {"__module__": "another"})
        keys.append([kind().of.key(1) for kind in (prices, doubled, theirs)])
    assert keys == [keys[0]] * 3
    assert len(set(keys[0])) == 3


def test_a_subclass_of_a_script_has_one_key_in_its_children_too(cache: Any) -> None:
    of = lesson.redis_cache(60, cache=cache, name="of", key=lambda self, n: n)
    prices = type("Prices", (), {})

    def rank(self: Any, n: int) -> int:
        return n

    rank.__qualname__ = "Prices.rank"
    prices.rank = of(rank)  # type: ignore[attr-defined]
    keys = {
        type("Mine", (prices,), {"__module__": name})().rank.key(1)
        for name in ("__main__", "__mp_main__")
    }
    assert len(keys) == 1


def passing_on(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return call


def with_default(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        if len(args) == 1:
            kwargs.setdefault("more", 7)
        return fn(*args, **kwargs)

    return call


def with_argument(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        return fn(100, *args, **kwargs)

    return call


def summed(n: int, more: int = 0, *, most: int = 1000) -> int:
    """Return a sum."""
    return min(n + more, most)


CALLS: list[tuple[list[int], dict[str, int]]] = [
    ([1, 2], {"most": 50}),
    ([1], {"more": 2, "most": 50}),
    ([], {"most": 50, "more": 2, "n": 1}),
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("change", CALLS)
def test_what_is_invalidated_above_a_wrapper_goes_however_it_is_spelt(
    cache: Any,
    call: tuple[list[int], dict[str, int]],
    change: tuple[list[int], dict[str, int]],
) -> None:
    cached = lesson.redis_cache(60, cache=cache)(passing_on(passing_on(summed)))
    assert cached(*call[0], **call[1]) == 3
    other = cached(2)
    cached.invalidate(*change[0], **change[1])
    before = cache.stats.loads
    assert (cached(*call[0], **call[1]), cached(2)) == (3, other)
    assert cache.stats.loads == before + 1


def test_what_a_wrapper_puts_in_makes_no_two_calls_one(cache: Any) -> None:
    cached = lesson.redis_cache(60, cache=cache)(with_default(summed))
    assert [cached(1), cached(1, more=0), cached(1, 7)] == [8, 1, 8]
    cached = lesson.redis_cache(60, cache=cache)(with_argument(summed))
    assert [cached(1), cached(2), cached(more=2)] == [101, 102, 102]
    for _ in range(2):
        with pytest.raises(TypeError, match="multiple values for argument 'n'"):
            cached(n=1)
    assert cached.invalidate(1) == 1
    with pytest.raises(TypeError, match="unexpected keyword argument 'amount'"):
        cached(1, amount=2)
    assert cached.invalidate(1, amount=2) == 0


def test_a_hook_above_a_wrapper_gets_the_call_as_it_is(cache: Any) -> None:
    decorate = lesson.redis_cache(60, cache=cache, key=lambda *args, most: [*args])
    cached = decorate(passing_on(summed))
    assert cached(1, 2, most=5) == 3
    assert cached.invalidate(1, 2, most=5) == 1


def with_options(n: int, **options: int) -> int:
    """Return a sum."""
    return n + sum(options.values())


def with_first(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def call(n: int, *args: Any, **kwargs: Any) -> Any:
        return fn(n, *args, **kwargs)

    return call


def test_options_and_first_arguments_are_found_too(cache: Any) -> None:
    decorate = lesson.redis_cache(60, cache=cache)
    cached = decorate(passing_on(with_options))
    assert cached(n=1, x=3) == 4
    assert cached.invalidate(1, x=3) == 1
    cached = decorate(with_first(summed))
    assert cached(1, 2) == 3
    assert cached.invalidate(n=1, more=2) == 1

    def number(*args: int) -> int:
        return len(args)

    cached = lesson.redis_cache(60, cache=cache, name="any")(passing_on(number))
    assert cached(1, 2) == 2
    assert (cached.invalidate([1, 2]), cached.invalidate(1, 2)) == (0, 1)


def test_a_wrapper_of_a_built_in_without_a_signature_is_decorated(cache: Any) -> None:
    cached = lesson.redis_cache(60, cache=cache, name="max")(passing_on(max))
    assert [cached(1, 2), cached(1, 2), cached.invalidate(1, 2)] == [2, 2, 1]


SCRIPT = """
import sys
sys.path[:0] = {paths!r}
from lessons import load
from shop import Prices

class Mine(Prices):
    factor = {factor}

if __name__ == "__main__":
    print(Mine().of.key(1))
"""


def test_a_subclass_of_a_script_has_the_name_of_its_file(tmp_path: Path) -> None:
    shop = """
from lessons import load

class Prices:
    @load("03").redis_cache(60, key=lambda self, n: n)
    def of(self, n):
        return n
"""
    (tmp_path / "shop.py").write_text(shop, "utf-8")
    paths = [str(tmp_path), *sys.path]
    keys = []
    for name in ("first", "second"):
        script = tmp_path / f"{name}.py"
        script.write_text(SCRIPT.format(paths=paths, factor=2), "utf-8")
        ask = f"import sys; sys.path[:0] = {paths!r}; import {name}; "
        ask += f"print({name}.Mine().of.key(1))"
        for command in ([str(script)], ["-c", ask]):
            done = subprocess.run(
                [sys.executable, *command],
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            )
            keys.append(done.stdout)
    assert keys[0] == keys[1] != keys[2] == keys[3]
