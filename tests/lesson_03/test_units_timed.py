"""Lesson 03's timed_lru_cache: what functools.lru_cache gives, and a time to live."""

from __future__ import annotations

import functools
import gc
import inspect
import itertools
import math
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, NamedTuple

import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lessons import load

from course.lab import ManualClock, SlowSource, outcome_of

lesson = load("03")
relaxed = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

arguments = st.one_of(
    st.integers(0, 6), st.sampled_from([1.0, True, False, 0.0, "a", None, (1,)])
)
spellings = st.tuples(arguments, st.one_of(st.none(), arguments), st.booleans())


def recorded(decorator: Callable[..., Any]) -> tuple[Any, list[object]]:
    """Return a decorated function and the log of the calls that reached it."""
    log: list[object] = []

    @decorator
    def fn(a: object, b: object = 0) -> object:
        log.append((a, b))
        return [a, b]

    return fn, log


@relaxed
@given(
    st.sampled_from([0, 1, 2, 5, 8, 128, None]),
    st.booleans(),
    st.lists(spellings, min_size=100, max_size=150),
)
def test_without_an_end_it_is_lru_cache(
    maxsize: int | None, typed: bool, operations: list[Any]
) -> None:
    """Results, hits, misses, evictions and what counts as the same call."""
    ours, our_log = recorded(lesson.timed_lru_cache(maxsize, math.inf, typed=typed))
    theirs, their_log = recorded(functools.lru_cache(maxsize, typed=typed))
    for a, b, spelt_out in operations:
        keywords = {} if b is None else {"b": b}
        if spelt_out:
            assert repr(ours(**keywords, a=a)) == repr(theirs(**keywords, a=a))
        else:
            assert repr(ours(a, **keywords)) == repr(theirs(a, **keywords))
        assert ours.cache_info() == theirs.cache_info()
    assert repr(our_log) == repr(their_log)


@relaxed
@given(st.lists(st.integers(0, 6), max_size=60))
def test_failures_are_counted_and_repeated_as_by_lru_cache(keys: list[int]) -> None:
    def fails_for_some(log: list[int], key: int) -> int:
        log.append(key)
        if key > 3:
            raise LookupError(key)
        return key

    logs: tuple[list[int], list[int]] = ([], [])
    ours = lesson.timed_lru_cache(None, math.inf)(
        functools.partial(fails_for_some, logs[0])
    )
    theirs = functools.lru_cache(None)(functools.partial(fails_for_some, logs[1]))
    for key in keys:
        told = outcome_of(functools.partial(ours, key))
        assert repr(told) == repr(outcome_of(functools.partial(theirs, key)))
        assert ours.cache_info()[:2] == theirs.cache_info()[:2]
    assert logs[0] == logs[1]


def test_clear_and_parameters_are_those_of_lru_cache() -> None:
    fn, log = recorded(lesson.timed_lru_cache(4, 60))
    fn(1), fn(1), fn(2)
    assert tuple(fn.cache_info()) == (1, 2, 4, 2)
    assert fn.cache_parameters() == {"maxsize": 4, "typed": False, "ttl_seconds": 60}
    fn.cache_clear()
    assert tuple(fn.cache_info()) == (0, 0, 4, 0)
    fn(1)
    assert len(log) == 3
    assert fn.__name__ == "fn"
    assert fn.__wrapped__(1) == [1, 0]
    assert str(inspect.signature(fn)).startswith("(a: ")
    assert lesson.timed_lru_cache(None)(len).cache_info().maxsize is None


def test_an_entry_dies_at_its_ttl_and_the_find_is_a_miss(clock: ManualClock) -> None:
    fn, log = recorded(lesson.timed_lru_cache(8, 60, clock=clock))
    clock.advance(30)
    fn(1)
    clock.advance(59.9)
    fn(1)
    assert len(log) == 1
    clock.advance(0.1)
    fn(1)
    assert len(log) == 2
    assert tuple(fn.cache_info()) == (1, 2, 8, 1)


def test_none_is_a_result_like_any_other() -> None:
    source = SlowSource(None)
    fn = lesson.timed_lru_cache()(source.load)
    assert [fn(1), fn(1)] == [None, None]
    assert source.loads == 1


@relaxed
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 40)), max_size=60))
def test_a_value_is_never_older_than_the_ttl(steps: list[tuple[int, int]]) -> None:
    clock = ManualClock()
    fn = lesson.timed_lru_cache(3, 60, clock=clock)(lambda key: clock.now)
    for number, (key, seconds) in enumerate(steps, 1):
        clock.advance(seconds)
        assert 0 <= clock.now - fn(key) < 60
        info = fn.cache_info()
        assert info.hits + info.misses == number
        assert info.currsize <= 3


def test_entries_end_in_time_and_not_early_by_the_real_clock() -> None:
    fn = lesson.timed_lru_cache(8, 0.05)(lambda key: time.monotonic())
    loads = set[float]()
    deadline = time.monotonic() + 30
    while len(loads) < 8:
        asked = time.monotonic()
        loads.add(written := fn(1))
        assert asked - written < 0.05 + 0.001
        assert asked < deadline
    gaps = [b - a for a, b in itertools.pairwise(sorted(loads))]
    assert min(gaps) >= 0.05


@pytest.mark.parametrize("ttl", [1e-9, 1e-4])
def test_a_life_shorter_than_a_call_is_no_trap(ttl: float) -> None:
    fn = lesson.timed_lru_cache(8, ttl)(lambda key: key)
    assert [fn(number % 3) for number in range(300)] == [0, 1, 2] * 100
    info = fn.cache_info()
    assert info.hits + info.misses == 300


def test_a_failing_reload_serves_nothing_stale(clock: ManualClock) -> None:
    source = SlowSource("old")
    fn = lesson.timed_lru_cache(ttl_seconds=60, clock=clock)(source.load)
    assert fn() == "old"
    clock.advance(60)
    source.answer = AttributeError("of the function")
    with pytest.raises(AttributeError, match="of the function") as raised:
        fn()
    assert raised.value.__context__ is None
    source.answer = "new"
    assert fn() == "new"


# What lru_cache takes


def test_unhashable_arguments_are_refused_as_lru_cache_does() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        lesson.timed_lru_cache()(lambda x: x)([1])


def test_unhashable_defaults_may_stay_unspoken() -> None:
    @lesson.timed_lru_cache()  # type: ignore[untyped-decorator]
    def total(x: int, weights: Any = [1, 2], table: Any = numpy.zeros(3)) -> int:  # noqa: B006, B008
        return int(x * sum(weights) + len(table))

    assert [total(2), total(2)] == [9, 9]
    assert total.cache_info().hits == 1


def test_a_decorator_below_may_put_in_an_argument() -> None:
    def with_session(fn: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fn)
        def call(*args: Any, **kwargs: Any) -> Any:
            return fn("session", *args, **kwargs)

        return call

    @lesson.timed_lru_cache()  # type: ignore[untyped-decorator]
    @with_session
    def load_user(session: str, user: int) -> tuple[str, int]:
        return session, user

    assert load_user(7) == load_user(7) == ("session", 7)
    assert load_user(user=7) == ("session", 7)
    assert tuple(load_user.cache_info())[:2] == (1, 2)


class Slotted:
    __slots__ = ("weight",)

    def __init__(self, weight: int) -> None:
        self.weight = weight

    @lesson.timed_lru_cache()  # type: ignore[untyped-decorator]
    def predict(self, x: int) -> int:
        return int(self.weight * x)


class Pair(NamedTuple):
    left: int
    right: int

    @lesson.timed_lru_cache()  # type: ignore[untyped-decorator]
    def total(self) -> int:
        return int(self.left + self.right)


class Shelf:
    @property
    @lesson.timed_lru_cache()  # type: ignore[untyped-decorator]
    def books(self) -> object:
        return object()

    @classmethod
    @lesson.timed_lru_cache()  # type: ignore[untyped-decorator]
    def kind(cls) -> str:
        return str(cls.__name__)


def test_methods_of_all_kinds_of_classes() -> None:
    one = Slotted(2)
    assert [one.predict(3), one.predict(3), Slotted(5).predict(3)] == [6, 6, 15]
    assert Slotted.predict(one, 3) == 6
    assert Slotted.predict.cache_info().hits == 2
    assert [Pair(1, 2).total(), Pair(1, 2).total()] == [3, 3]
    assert Pair.total.cache_info().hits == 1
    shelf = Shelf()
    assert shelf.books is shelf.books is not Shelf().books
    assert [Shelf.kind(), Shelf.kind()] == ["Shelf", "Shelf"]


@pytest.mark.parametrize(
    "fn", [len, math.hypot, max, int, functools.partial(divmod, 7)], ids=repr
)
def test_built_ins_classes_and_partials_are_functions_too(fn: Any) -> None:
    cached = lesson.timed_lru_cache()(fn)
    argument = "text" if fn is len or fn is max else 3
    assert cached(argument) == cached(argument) == fn(argument)
    assert cached.cache_info().hits == 1


def test_every_kind_of_parameter_is_passed_on() -> None:
    def fn(
        box: object, /, clock: object = 2, *rest: object, fn: object = 0, **extra: Any
    ) -> object:
        return box, clock, rest, fn, extra

    cached = lesson.timed_lru_cache()(fn)
    for args, kwargs in [
        ((1,), {}),
        ((1, 2, 3, 4), {"fn": 5}),
        ((1,), {"clock": 3, "self": 1, "args": 2}),
        ((1,), {"box": 9, "entry": 7}),
    ]:
        assert cached(*args, **kwargs) == fn(*args, **kwargs)
    with pytest.raises(TypeError):
        cached()


class Model:
    """A method keeps each instance; what is made in __init__ dies with it."""

    def __init__(self) -> None:
        self.score = lesson.timed_lru_cache()(self._score)

    @lesson.timed_lru_cache()  # type: ignore[untyped-decorator]
    def predict(self, x: int) -> int:
        return x

    def _score(self, x: int) -> int:
        return x


@pytest.mark.parametrize(("method", "stays"), [("predict", True), ("score", False)])
def test_a_method_keeps_its_instance_a_cache_of_its_own_does_not(
    method: str, stays: bool
) -> None:
    model = Model()
    assert getattr(model, method)(3) == 3
    alive = weakref.ref(model)
    del model
    gc.collect()
    assert (alive() is not None) == stays


def test_recursion_over_other_arguments_works() -> None:
    @lesson.timed_lru_cache(maxsize=None)  # type: ignore[untyped-decorator]
    def fibonacci(n: int) -> int:
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    assert fibonacci(60) == 1548008755920
    assert fibonacci.cache_info().misses == 61


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"maxsize": -1}, "maxsize is 0, above or None, not -1"),
        ({"maxsize": 1.5}, "not 1.5"),
        ({"maxsize": len}, "with parentheses"),
        ({"ttl_seconds": 0}, "above 0, not 0"),
        ({"ttl_seconds": -3}, "not -3"),
        ({"ttl_seconds": math.nan}, "not nan"),
    ],
)
def test_bad_limits_are_named(limits: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        lesson.timed_lru_cache(**limits)


def test_coroutines_and_generators_are_refused() -> None:
    async def fetch() -> None: ...

    def rows() -> Iterator[int]:
        yield 1

    async def stream() -> AsyncIterator[int]:
        yield 1

    class Fetcher:
        async def __call__(self) -> None: ...

    once: list[Any] = [fetch, rows, stream, Fetcher(), functools.partial(fetch)]
    for decorator in (lesson.timed_lru_cache(), lesson.redis_cache(name="any")):
        for fn in once:
            with pytest.raises(TypeError, match="only its first reader"):
                decorator(fn)
    with pytest.raises(TypeError, match="fetch returns a coroutine"):
        lesson.timed_lru_cache()(fetch)


def keys_kept(cached: Any) -> int:
    """Return how many of 200 results are still there; the last are looked up first."""
    made: list[int] = []
    fn = cached(made.append)
    for n in range(200):
        fn(n)
    for n in reversed(range(200)):
        before = len(made)
        fn(n)
        if len(made) > before:
            return 199 - n
    return 200


def test_without_limits_as_many_are_kept_as_by_lru_cache_and_for_an_hour() -> None:
    clock = ManualClock()
    usual = keys_kept(functools.lru_cache())
    assert keys_kept(lesson.timed_lru_cache(clock=clock)) == usual == 128
    assert keys_kept(lesson.time_slot_cache(clock=clock)) == usual
    made: list[int] = []
    fn = lesson.timed_lru_cache(clock=clock)(made.append)
    for seconds in (0, 3599, 1):
        clock.advance(seconds)
        fn(1)
    assert made == [1, 1]  # once more, 3600 s after the first


def test_a_call_in_the_middle_of_a_clear_makes_no_count_negative() -> None:
    cache = lesson.TimedCache(str, 8, 60, False, time.monotonic)

    class Interrupted:
        """Looks up as lru_cache does; another thread calls before it is cleared."""

        find = cache.find
        cache_info = cache.find.cache_info

        def __call__(self, *args: Any) -> Any:
            return self.find(*args)

        def cache_clear(self) -> None:
            cache.load(self(1), (1,), {})
            self.find.cache_clear()

    cache.find = Interrupted()
    cache.cache_clear()
    assert cache.cache_info().hits == 0
