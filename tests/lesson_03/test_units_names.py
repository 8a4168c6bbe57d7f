"""Lesson 03's redis_cache: unlike functions never share results under one name."""

from __future__ import annotations

import functools
import gc
import importlib.util
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
from lessons import load

from course.caching.names import TITLED, full_name
from course.lab import start_together

lesson = load("03")


def priced(n: int) -> int:
    """Return n."""
    return n


class Engine:
    """A model, whose results depend on its weight."""

    def __init__(self, weight: int) -> None:
        self.weight = weight

    def rank(self, n: int) -> int:
        return self.weight * n

    @classmethod
    def name(cls, n: int) -> str:
        return cls.__name__ * n


def logged(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def call(*args: Any) -> Any:
        return fn(*args)

    return call


WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "functools.wraps": logged,
    "lru_cache": functools.lru_cache,
    "timed_lru_cache": lesson.timed_lru_cache(),
    "two of them": lambda fn: logged(functools.lru_cache(fn)),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_what_wraps_a_bound_method_needs_a_name(cache: Any, wrapper: str) -> None:
    """It is called as the method is: that of each instance would have one name."""
    wrap = WRAPPERS[wrapper]
    for bound in (Engine(2).rank, Engine.name):
        with pytest.raises(TypeError, match=r"is a bound method, .* give it a name="):
            lesson.redis_cache(60, cache=cache)(wrap(bound))
    named = [
        lesson.redis_cache(60, cache=cache, name=f"rank-{weight}")(
            wrap(Engine(weight).rank)
        )
        for weight in (2, 3)
    ]
    assert [fn(1) for fn in named] == [2, 3]


def counted(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function as many do: the wrapper counts on itself."""

    @functools.wraps(fn)
    def counting(n: int) -> Any:
        counting.calls += 1  # type: ignore[attr-defined]
        return fn(n)

    counting.calls = 0  # type: ignore[attr-defined]
    return counting


def remembered(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function with a memory and a number, which change with each call."""
    known: dict[int, Any] = {}
    calls = 0

    @functools.wraps(fn)
    def remembering(n: int) -> Any:
        nonlocal calls
        calls += 1
        return known.setdefault(n, fn(n))

    return remembering


@pytest.mark.parametrize("wrap", [counted, remembered])
def test_a_wrapper_with_a_state_of_its_own_may_be_made_twice(
    cache: Any, wrap: Callable[..., Any]
) -> None:
    first = lesson.redis_cache(60, cache=cache)(wrap(priced))
    assert first(1) == 1
    again = lesson.redis_cache(60, cache=cache)(wrap(priced))
    assert [again(1), again(2), first(2)] == [1, 2, 2]


def times(fn: Callable[..., Any], factor: float) -> Callable[..., Any]:
    @functools.wraps(fn)
    def multiplied(n: int) -> Any:
        return factor * fn(n)

    return multiplied


@pytest.mark.parametrize("factors", [(2, 3), (1, 1.0), (1, True), (0.0, -0.0)])
def test_a_wrapper_that_is_gone_has_left_its_results(
    factors: tuple[float, float],
) -> None:
    """What a wrapper holds is a part of its name, also for those that come later."""
    one, other = factors
    assert full_name(times(priced, one)) == full_name(times(priced, one))
    assert full_name(times(priced, one)) != full_name(times(priced, other))


def with_function(fn: Callable[..., Any], inner: Callable[..., Any]) -> Any:
    @functools.wraps(fn)
    def call(n: int) -> Any:
        return inner(fn(n))

    return call


def test_what_a_wrapper_holds_has_a_name_or_is_asked_for_one() -> None:
    titles = {
        full_name(with_function(priced, len)),
        full_name(with_function(priced, abs)),
        full_name(with_function(priced, str)),
        full_name(with_function(priced, logged)),
        full_name(with_function(priced, times(priced, 2))),
        full_name(with_function(priced, times(priced, 3))),
        full_name(with_function(priced, [1, {"a": {2, 3}}])),  # type: ignore[arg-type]
        full_name(with_function(priced, [1, {"a": {2, 4}}])),  # type: ignore[arg-type]
    }
    assert len(titles) == 8
    itself: list[Any] = []
    itself.append(itself)
    assert full_name(with_function(priced, itself))  # type: ignore[arg-type]
    kept = with_function(priced, lambda n: n + 1)
    assert full_name(kept)
    with pytest.raises(TypeError, match="is another function's name, too: give it"):
        full_name(with_function(priced, lambda n: n + 2))


def test_a_secret_that_a_wrapper_holds_is_not_in_its_name() -> None:
    assert "s3cr3t" not in full_name(times(priced, "s3cr3t"))  # type: ignore[arg-type]


def guarded(fn: Callable[..., Any]) -> Callable[..., Any]:
    lock = Lock()

    @functools.wraps(fn)
    def call(n: int) -> Any:
        with lock:
            return fn(n)

    return call


def test_an_app_that_has_ended_does_not_take_the_name_with_it() -> None:
    app: dict[str, Any] = {"rank": guarded(priced)}
    app["itself"] = app  # as apps do, it waits for the garbage collector
    full_name(app["rank"])
    with pytest.raises(TypeError, match="is another function's name, too"):
        full_name(guarded(priced))  # two locks: nobody knows what they are for
    gc.disable()
    try:
        del app
        full_name(guarded(priced))
    finally:
        gc.enable()


class Compiled:
    """As numba makes it: an object with the code of the function, but no globals."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        functools.update_wrapper(self, fn)
        self.__code__ = fn.__code__
        self.fn = fn

    def __call__(self, n: int) -> Any:
        return self.fn(n)


class Proxy:
    """As wrapt makes it: an object that looks in everything like what it wraps."""

    def __init__(self, fn: Callable[..., Any], factor: int) -> None:
        self.held = (fn, factor)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return self.held[0].__class__

    @property
    def __wrapped__(self) -> Any:
        return self.held[0]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.held[0], name)

    def __eq__(self, other: object) -> bool:
        return bool(self.held[0] == getattr(other, "__wrapped__", other))

    def __hash__(self) -> int:
        return hash(self.held[0])

    def __call__(self, n: int) -> Any:
        fn, factor = self.held
        return factor * fn(n)


def test_a_compiled_function_has_a_name(cache: Any) -> None:
    compiled = lesson.redis_cache(60, cache=cache)(Compiled(priced))
    plain = lesson.redis_cache(60, cache=cache)(priced)
    assert [compiled(1), plain(1), cache.stats.loads] == [1, 1, 2]


def test_two_proxies_of_one_function_need_a_name(cache: Any) -> None:
    double = Proxy(priced, 2)
    first = lesson.redis_cache(60, cache=cache)(double)
    with pytest.raises(TypeError, match="is another function's name, too: give it a"):
        lesson.redis_cache(60, cache=cache)(Proxy(priced, 3))
    again = lesson.redis_cache(60, cache=cache)(double)
    assert [first(1), again(1)] == [2, 2]


@pytest.mark.usefixtures("hasty")
def test_threads_may_decorate_at_once() -> None:
    kept = []

    def decorate() -> None:
        for _ in range(200):
            fn = times(Engine.rank, 2)
            kept.append(fn)
            full_name(fn)

    assert start_together([decorate] * 8) == [None] * 8
    assert len(kept) == 1600


REGISTERED = """
handlers = []

@handlers.append
def handle(n):
    return 1

@handlers.append
def handle(n):
    return 2
"""


def module_of(path: Path, text: str) -> Any:
    path.write_text(text, "utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_two_of_one_name_need_one_also_when_they_are_cached_later(
    tmp_path: Path,
) -> None:
    first, second = module_of(tmp_path / "registered.py", REGISTERED).handlers
    assert full_name(first) == full_name(first) == "registered.handle"
    with pytest.raises(TypeError, match="handle is another function's name, too"):
        full_name(second)


A_DECORATOR = """
from functools import wraps

def priced_in(fn, currency):
    if currency == "UAH":
        @wraps(fn)
        def price(n):
            return fn(n)
    else:
        @wraps(fn)
        def price(n):
            return fn(n) * {}
    return price
"""


def test_a_decorator_that_is_edited_and_loaded_again_keeps_its_names(
    tmp_path: Path,
) -> None:
    """As a notebook does, which loads a module again when its file has changed."""
    path = tmp_path / "decorators.py"
    module = module_of(path, A_DECORATOR.format(40))
    kept = [module.priced_in(priced, "EUR")]
    title = full_name(kept[0])
    with pytest.raises(TypeError, match="is another function's name, too"):
        full_name(module.priced_in(priced, "UAH"))
    path.write_text("# Edited.\n" + A_DECORATOR.format(41_000), "utf-8")
    module.__loader__.exec_module(module)
    kept.append(module.priced_in(priced, "EUR"))
    assert full_name(kept[1]) == title
    with pytest.raises(TypeError, match="is another function's name, too"):
        full_name(module.priced_in(priced, "UAH"))


def test_a_module_that_is_imported_once_more_has_the_decorators_it_had(
    tmp_path: Path,
) -> None:
    path = tmp_path / "imported.py"
    found = [module_of(path, A_DECORATOR.format(40)) for _ in range(2)]
    kept = [module.priced_in(priced, "EUR") for module in found]
    assert full_name(kept[0]) == full_name(kept[1])


def through(*steps: Callable[..., Any]) -> Callable[..., Any]:
    """Make a decorator that calls functions, one after the other, with the result."""

    def decorate(fn: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fn)
        def call(n: int) -> Any:
            found = fn(n)
            for step in steps:
                found = step(found)
            return found

        return call

    return decorate


def plus_one(n: int) -> int:
    return n + 1


def doubled(n: int) -> int:
    return 2 * n


def rounding(mode: str) -> Callable[..., Any]:
    if mode == "up":

        def step(n: int) -> int:
            return n + 1
    else:

        def step(n: int) -> int:
            return n - 1

    return step


def strategy(factor: int) -> type:
    class Strategy(int):
        __doc__ = f"Times {factor}."

    return Strategy


def test_what_a_wrapper_holds_twice_is_named_twice(cache: Any) -> None:
    decorate = lesson.redis_cache(60, cache=cache)
    first = decorate(through(plus_one, doubled, plus_one)(priced))
    second = decorate(through(plus_one, doubled, doubled)(priced))
    assert (first(1), second(1)) == (5, 8)
    pair = (1, 2)
    titles = [
        full_name(through(*items)(priced))  # type: ignore[arg-type]
        for items in ((pair, pair), (pair, tuple([1, 2])))  # noqa: C409
    ]
    assert titles[0] == titles[1]  # equal, whether or not it is one object


@pytest.mark.parametrize("make", [rounding, strategy])
def test_local_functions_and_classes_of_one_name_need_a_name(make: Any) -> None:
    wanted = ("up", "down") if make is rounding else (1, 2)
    kept = through(make(wanted[0]))(priced)
    full_name(kept)
    with pytest.raises(TypeError, match="is another function's name, too: give it"):
        full_name(through(make(wanted[1]))(priced))


def test_an_app_that_is_made_twice_may_hold_a_local_function() -> None:
    kept = [through(rounding("up"))(priced) for _ in range(2)]
    assert full_name(kept[0]) == full_name(kept[1])


@pytest.mark.parametrize("kind", ["function", "class"])
def test_what_a_wrapper_holds_of_a_script_needs_a_name(kind: str) -> None:
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec("def step(n): return n\nclass Step(int): pass", scope)
    held = scope["step" if kind == "function" else "Step"]
    with pytest.raises(TypeError, match="any script or notebook: give it a"):
        full_name(through(held)(priced))


def test_a_function_that_is_decorated_at_each_call_is_noted_once() -> None:
    kept = times(priced, 2)
    for fn in (priced, kept):
        titles = {full_name(fn) for _ in range(100)}
        (title,) = titles
        living = [one for one in TITLED[title] if one.fn() is fn]
        assert len(living) == 1
