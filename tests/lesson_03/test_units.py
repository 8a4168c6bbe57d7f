"""Lesson 03 on its own: against functools, brute force and bad input; no Redis."""

from __future__ import annotations

import copy
import functools
import gc
import inspect
import itertools
import json
import math
import os
import random
import socket
import ssl
import subprocess
import sys
import threading
import time
import tracemalloc
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fakeredis
import numpy
import pytest
import services
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lessons import load, path_of, run

lesson = load("03")
SCRIPT = path_of("03")
relaxed = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def clock() -> Any:
    return lesson.Ticker()


@pytest.fixture
def cache(clock: Any) -> Any:
    return lesson.RedisCache(fakeredis.FakeRedis(), "module8:test:", clock=clock)


# timed_lru_cache against functools.lru_cache

arguments = st.one_of(
    st.integers(0, 6), st.sampled_from([1.0, True, False, 0.0, "a", None, (1,)])
)
calls = st.tuples(arguments, st.one_of(st.none(), arguments), st.booleans())


def recorded(decorator: Callable[..., Any]) -> tuple[Any, list[object]]:
    """Return a decorated function and the log of the calls that reached it."""
    log: list[object] = []

    @decorator
    def fn(a: object, b: object = 0) -> object:
        log.append((a, b))
        if a == 5:
            raise LookupError(a)
        return a, b

    return fn, log


def outcome(call: Callable[[], object]) -> object:
    try:
        return call()
    except LookupError as error:
        return repr(error)


@relaxed
@given(
    st.sampled_from([0, 1, 2, 5, 8, 128, None]),
    st.lists(calls, min_size=100, max_size=150),
)
def test_hits_misses_and_evictions_are_those_of_lru_cache(
    maxsize: int | None, operations: list[Any]
) -> None:
    ours, our_log = recorded(lesson.timed_lru_cache(maxsize, math.inf))
    theirs, their_log = recorded(functools.lru_cache(maxsize, typed=True))
    for a, b, spelt_out in operations:
        bound = (a, 0 if b is None else b)  # lru_cache needs one spelling
        kwargs = {} if b is None else {"b": b}
        if spelt_out:
            result = outcome(functools.partial(ours, **kwargs, a=a))
        else:
            result = outcome(functools.partial(ours, a, **kwargs))
        expected = outcome(functools.partial(theirs, *bound))
        assert repr(result) == repr(expected)
        assert ours.cache_info() == theirs.cache_info()
    assert repr(our_log) == repr(their_log)


@relaxed
@given(
    st.sampled_from([0, 1, 2, 5, 128, None]),
    st.sampled_from([math.inf, 3600]),
    st.lists(arguments, min_size=100, max_size=150),
)
def test_one_parameter_is_as_typed_as_in_lru_cache(
    maxsize: int | None, ttl: float, keys: list[Any]
) -> None:
    ours = lesson.timed_lru_cache(maxsize, ttl)(lambda x: [x])
    theirs = functools.lru_cache(maxsize, typed=True)(lambda x: [x])
    for key in keys:
        assert repr(ours(key)) == repr(theirs(key))
        assert ours(x=key) is ours(key) or maxsize == 0
        theirs(key), theirs(key)
        assert ours.cache_info() == theirs.cache_info()


def test_clear_and_parameters_are_those_of_lru_cache() -> None:
    fn, log = recorded(lesson.timed_lru_cache(4, 60))
    fn(1), fn(1), fn(2)
    assert tuple(fn.cache_info()) == (1, 2, 4, 2)
    assert fn.cache_parameters() == {"maxsize": 4, "typed": True, "ttl_seconds": 60}
    fn.cache_clear()
    assert tuple(fn.cache_info()) == (0, 0, 4, 0)
    fn(1)
    assert len(log) == 3
    assert fn.__name__ == "fn"
    assert str(inspect.signature(fn)).startswith("(a: ")


def test_an_entry_dies_at_its_ttl_and_the_find_is_a_miss(clock: Any) -> None:
    fn, log = recorded(lesson.timed_lru_cache(8, 60, clock=clock))
    clock.now += 30
    fn(1)
    clock.now += 59.9
    fn(1)
    assert len(log) == 1
    clock.now += 0.1
    fn(1)
    assert len(log) == 2
    assert tuple(fn.cache_info()) == (1, 2, 8, 1)


def test_expired_entries_leave_their_places_to_live_ones(
    clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def live_ones_evicted() -> int:
        fn, log = recorded(lesson.timed_lru_cache(8, 60, clock=clock))
        favourites, others = range(4), "abcd"
        for favourite in favourites:
            fn(favourite)
        clock.now += 30
        for any_key in (*others, *favourites):  # the favourites are used last ...
            fn(any_key)
        clock.now += 31  # ... but expire first
        for key in "wxyz":
            fn(key)
        before = len(log)
        for key in others:
            fn(key)
        info = fn.cache_info()
        assert info.hits + info.misses == 4 + 8 + 4 + 4
        assert info.currsize <= 8
        return len(log) - before

    assert live_ones_evicted() == 0
    monkeypatch.setattr(lesson.TimedCore, "sweep", lambda self: None)
    assert live_ones_evicted() == 4


def test_a_sweep_frees_what_an_unlimited_cache_holds(clock: Any) -> None:
    fn, _ = recorded(lesson.timed_lru_cache(None, 60, clock=clock))
    for key in range(10, 1010):
        fn(key)
    clock.now += 61
    fn("one more")
    assert fn.cache_info().currsize == 1


def test_a_sweep_moves_every_type_of_one_argument(clock: Any) -> None:
    loads: list[object] = []
    fn = lesson.timed_lru_cache(8, 60, clock=clock)(loads.append)
    fn("dies")
    clock.now += 30
    keys = (1, 1.0, True, "1", None, (1,))
    for key in keys:
        fn(key)
    clock.now += 31
    fn("new")  # sweeps
    for key in keys:
        fn(key)
    assert len(loads) == 8
    assert tuple(fn.cache_info()) == (6, 8, 8, 7)


# The reaper, by the real clock


def test_the_reaper_ends_entries_in_time_and_not_early() -> None:
    fn = lesson.timed_lru_cache(8, 0.05)(lambda key: lesson.time.monotonic())
    ages, loads = list[float](), set[float]()
    while len(loads) < 8:
        loads.add(written := fn(1))
        ages.append(lesson.time.monotonic() - written)
        assert ages[-1] < 2, "an entry outlives its time"
    gaps = [b - a for a, b in itertools.pairwise(sorted(loads))]
    assert min(gaps) >= 0.05
    assert fn.cache_info().hits + fn.cache_info().misses == len(ages)


def test_the_reaper_frees_what_nobody_asks_for() -> None:
    class Value: ...

    fn = lesson.timed_lru_cache(None, 0.05)(lambda key: Value())
    values = [weakref.ref(fn(key)) for key in range(50)]
    services.wait_for(lambda: not any(value() for value in values))


def test_a_reaper_starts_with_a_value_that_can_expire_and_ends_with_the_last() -> None:
    fresh = load("03")
    before = threading.active_count()
    fresh.timed_lru_cache(ttl_seconds=math.inf)(lambda: 1)()
    fresh.timed_lru_cache(ttl_seconds=9, clock=lambda: 1.0)(lambda: 1)()
    assert threading.active_count() == before
    for ttl in (9, 10**12, 0.05):
        for _ in range(20):
            fresh.timed_lru_cache(ttl_seconds=ttl)(lambda: 1)()
    assert before + 2 <= threading.active_count() <= before + 3  # one for each TTL
    services.wait_for(lambda: threading.active_count() == before + 2)
    fn = fresh.timed_lru_cache(ttl_seconds=0.05)(lambda: [])
    first = fn()
    services.wait_for(lambda: fn() is not first)  # it starts again


@pytest.mark.parametrize("ttl", [1e-9, 1e-4])
def test_a_life_shorter_than_a_sweep_is_no_trap(ttl: float) -> None:
    fn = lesson.timed_lru_cache(8, ttl)(lambda key: key)
    assert [fn(number % 3) for number in range(300)] == [0, 1, 2] * 100
    info = fn.cache_info()
    assert info.hits + info.misses == 300


def test_a_load_under_way_keeps_its_place_through_a_sweep(clock: Any) -> None:
    loading, go_on, loads = threading.Event(), threading.Event(), list[str]()

    @lesson.timed_lru_cache(8, 60, clock=clock)  # type: ignore[untyped-decorator]
    def fn(key: str) -> str:
        loads.append(key)
        if key == "slow":
            loading.set()
            assert go_on.wait(10)
        return key

    fn("old")
    thread = threading.Thread(target=fn, args=("slow",))
    thread.start()
    assert loading.wait(10)
    clock.now += 61
    fn("new")  # sweeps
    go_on.set()
    thread.join(10)
    assert [fn("slow"), fn("new")] == ["slow", "new"]
    assert loads == ["old", "slow", "new"]
    assert tuple(fn.cache_info()) == (2, 3, 8, 2)


def test_a_value_may_call_its_own_cache_when_it_ends() -> None:
    ended: list[int] = []

    class Value:
        def __del__(self) -> None:
            if len(ended) < 2:
                ended.append(fn(len(ended) + 1) is not None)

    fn = lesson.timed_lru_cache(None, 0.03)(lambda key: Value())
    fn(0)
    services.wait_for(lambda: len(ended) == 2)


def test_a_failing_reload_serves_nothing_stale() -> None:
    answers: list[Any] = ["new", AttributeError("of the function"), "old"]

    @lesson.timed_lru_cache(ttl_seconds=0.05)  # type: ignore[untyped-decorator]
    def fn() -> Any:
        answer = answers.pop()
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert fn() == "old"

    failures: list[Any] = []

    def failed() -> bool:
        failures.append(lesson.outcome(fn))
        return isinstance(failures[-1], AttributeError)

    services.wait_for(failed)
    assert (str(failures[-1]), failures[-1].__context__) == ("of the function", None)
    assert fn() == "new"


def test_errors_of_a_copy_reach_the_caller() -> None:
    fn = lesson.timed_lru_cache(copy=lambda value: value.missing)(lambda: 1)
    with pytest.raises(AttributeError, match="missing"):
        fn()
    with pytest.raises(AttributeError, match="missing"):
        fn()
    assert fn.cache_info().misses == 1


FORK = """
import os, time
from lessons import load
fn = load("03").timed_lru_cache(ttl_seconds=0.3)(lambda: os.getpid())
assert fn() == os.getpid()
child = os.fork()
until = time.monotonic() + 20
while child == 0:
    if fn() == os.getpid():
        os._exit(0)
    if time.monotonic() > until:
        os._exit(1)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_entries_expire_in_a_forked_child() -> None:
    place = Path(services.__file__).parent
    subprocess.run([sys.executable, "-c", FORK], cwd=place, timeout=60, check=True)


LOCKED_FORK = """
import os, signal, threading
import fakeredis
from lessons import load
lesson = load("03")
loading, go_on = threading.Event(), threading.Event()
def slow(key):
    loading.set()
    go_on.wait(30)
    return key
cache = lesson.RedisCache(fakeredis.FakeRedis(), "module8:test:")
timed = lesson.timed_lru_cache()(slow)
far = lesson.redis_cache(cache=cache, name="slow")(slow)
for call in (timed, far):
    loading.clear(), go_on.clear()
    threading.Thread(target=call, args=("k",), daemon=True).start()
    assert loading.wait(30)
    with cache.lock, cache.stats._lock, cache.breaker.lock:
        child = os.fork()
    if child == 0:
        signal.alarm(10)
        go_on.set()
        os._exit(call("k") != "k")
    go_on.set()
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_child_forked_during_a_load_loads_for_itself() -> None:
    place = Path(services.__file__).parent
    argv = [sys.executable, "-c", LOCKED_FORK]
    subprocess.run(argv, cwd=place, timeout=90, check=True)


@pytest.mark.parametrize("end", ["reaper", "clear"])
def test_values_end_without_a_lock_of_ours(end: str, clock: Any) -> None:
    """Another thread may need a cached call to free what the end of a value awaits."""
    free, ended = threading.Event(), list[bool]()

    class Value:
        def __del__(self) -> None:
            ended.append(free.wait(10))

    brought = {} if end == "reaper" else {"clock": clock}
    cached = lesson.timed_lru_cache(8, 0.3, **brought)
    fn = cached(lambda key: Value() if key == "value" else key)
    neighbour = fn if brought else lesson.timed_lru_cache(8, 0.3)(lambda key: key)
    fn("value")
    thread = threading.Thread(target=fn.cache_clear if brought else threading.Event)
    thread.start()
    time.sleep(0.6)  # the value is about to end

    def set_free() -> None:
        neighbour("y")
        free.set()

    other = threading.Thread(target=set_free)
    other.start()
    other.join(5)
    thread.join(20)
    services.wait_for(lambda: ended)
    assert ended == [True]


def test_who_waits_for_a_thread_that_is_told_to_end_loads_himself() -> None:
    loading, go_on, loads = threading.Event(), threading.Event(), list[int]()

    @lesson.timed_lru_cache()  # type: ignore[untyped-decorator]
    def fn() -> str:
        loads.append(1)
        if len(loads) == 1:
            loading.set()
            assert go_on.wait(10)
            raise SystemExit
        return "value"

    ending = threading.Thread(target=pytest.raises, args=(SystemExit, fn))
    ending.start()
    assert loading.wait(10)
    with lesson.ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(fn) for _ in range(3)]
        time.sleep(0.1)
        go_on.set()
        assert [call.result(10) for call in waiting] == ["value"] * 3
    assert len(loads) == 2


@relaxed
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 40)), max_size=60))
def test_a_value_is_never_older_than_the_ttl(steps: list[tuple[int, int]]) -> None:
    clock = lesson.Ticker()
    fn = lesson.timed_lru_cache(3, 60, clock=clock)(lambda key: clock.now)
    for number, (key, seconds) in enumerate(steps, 1):
        clock.now += seconds
        assert 0 <= clock.now - fn(key) < 60
        info = fn.cache_info()
        assert info.hits + info.misses == number
        assert info.currsize <= 3


@pytest.mark.usefixtures("hasty")
def test_many_threads_refresh_an_expired_entry_once(clock: Any) -> None:
    source = lesson.Source("value", 0.2)
    fn = lesson.timed_lru_cache(8, 60, clock=clock)(source)
    assert lesson.crowd([functools.partial(fn, 1)] * 50, source) == ["value"] * 50
    clock.now += 61
    assert lesson.crowd([functools.partial(fn, 1)] * 50, source) == ["value"] * 50
    assert source.loads == 2
    assert fn.cache_info().hits + fn.cache_info().misses == 100


@pytest.fixture
def hasty() -> Iterator[None]:
    """Let threads take turns five hundred times as often: races are lost sooner."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("hasty")
def test_counts_add_up_while_threads_sweep_and_expire() -> None:
    fn = lesson.timed_lru_cache(16, 0.001)(lambda key: key)

    def work(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(2000):
            key = dice.randrange(40)
            assert fn(key) == key

    assert (
        lesson.crowd([functools.partial(work, seed) for seed in range(8)]) == [None] * 8
    )
    info = fn.cache_info()
    assert info.hits + info.misses == 16_000
    assert info.currsize <= 16


def test_a_failure_is_shared_and_not_kept() -> None:
    source = lesson.Source(LookupError("no"), 0.2)
    fn = lesson.timed_lru_cache()(source)
    outcomes = lesson.crowd([functools.partial(fn, 1)] * 20, source)
    assert all(error is source.answer for error in outcomes)
    assert source.loads == 1
    source.answer = None
    assert fn(1) is None
    assert fn(1) is None  # None is a result like any other
    assert source.loads == 2


def test_the_lock_for_each_key_fares_as_cachetools_condition_does() -> None:
    cachetools = pytest.importorskip("cachetools")

    def theirs(fn: Callable[..., Any]) -> Any:
        cached = cachetools.cached(
            cachetools.TTLCache(9, 60), condition=threading.Condition()
        )
        return cached(fn)

    rows = []
    for decorate in (lambda fn: lesson.taking_turns(fn, lambda key: key), theirs):
        found = lesson.Source("value")
        failing = lesson.Source(LookupError("no such row"), 0.04)
        for source, number in ((found, 20), (failing, 5)):
            lesson.crowd([functools.partial(decorate(source), 1)] * number, source)
        rows.append((found.loads, failing.loads, lesson.overlapping(decorate)))
    assert rows == [(1, 5, True)] * 2


def test_what_is_loaded_across_a_clear_is_not_served_after_it() -> None:
    loading, go_on = threading.Event(), threading.Event()
    answers = iter(["old", "new"])

    @lesson.timed_lru_cache()  # type: ignore[untyped-decorator]
    def fn() -> str:
        answer = next(answers)
        if answer == "old":
            loading.set()
            assert go_on.wait(10)
        return answer

    thread = threading.Thread(target=fn)
    thread.start()
    assert loading.wait(10)
    fn.cache_clear()
    assert fn() == "new"
    go_on.set()
    thread.join(10)
    assert fn() == "new"


def test_a_call_that_waits_for_itself_is_told_so() -> None:
    @lesson.timed_lru_cache()  # type: ignore[untyped-decorator]
    def fn(n: int) -> int:
        return fn(n) + 1  # type: ignore[no-any-return]

    with pytest.raises(RecursionError, match="same arguments"):
        fn(1)


def test_recursion_over_other_arguments_works() -> None:
    @lesson.timed_lru_cache(maxsize=None)  # type: ignore[untyped-decorator]
    def fibonacci(n: int) -> int:
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    assert fibonacci(60) == 1548008755920
    assert fibonacci.cache_info().misses == 61


def test_every_kind_of_parameter_is_forwarded_as_python_does() -> None:
    marker = object()

    def fn(
        box: object,
        /,
        clock: object = 2,
        *rest: object,
        cached: object = marker,
        **extra: object,
    ) -> object:
        return box, clock, rest, cached, tuple(sorted(extra.items()))

    cached = lesson.timed_lru_cache()(fn)
    for args, kwargs in [
        ((1,), {}),
        ((1, 2, 3, 4), {"cached": 5}),
        ((1,), {"clock": 3, "z": 1, "a": 2}),
        ((1,), {"a": 2, "z": 1, "clock": 3}),
        ((1,), {"box": 9}),
    ]:
        assert cached(*args, **kwargs) == fn(*args, **kwargs)
    assert cached.cache_info().misses == 4  # the order of keywords is no difference
    for args, kwargs in [((), {}), ((), {"clock": 1})]:
        with pytest.raises(TypeError):
            cached(*args, **kwargs)


def test_unhashable_arguments_are_refused_as_lru_cache_does() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        lesson.timed_lru_cache()(lambda x: x)([1])


@dataclass
class Model:
    """Equal to its like, and not hashable: lru_cache could not take it."""

    weight: int

    @lesson.timed_lru_cache(maxsize=4)  # type: ignore[untyped-decorator]
    def predict(self, x: int, y: int = 0) -> tuple[int, int]:
        """Predict."""
        return self.weight * x, y


def test_methods_have_a_cache_per_instance_that_dies_with_it() -> None:
    one, two = Model(1), Model(1)
    assert one.predict(2) == one.predict(x=2, y=0) == two.predict(2) == (2, 0)
    assert one.predict.cache_info().misses == two.predict.cache_info().misses == 1
    twin = copy.copy(one)
    twin.weight = 5
    assert twin.predict(2) == (10, 0)
    gone, cached = weakref.ref(one), weakref.ref(one.predict)
    del one
    assert gone() is None
    gc.collect()
    assert cached() is None
    assert Model.predict.__get__(None, Model) is Model.__dict__["predict"]


class Shelf:
    """Has a cached property, and a method to call through the class."""

    @property
    @lesson.timed_lru_cache()  # type: ignore[untyped-decorator]
    def books(self) -> object:
        return object()

    @lesson.timed_lru_cache()  # type: ignore[untyped-decorator]
    def book(self, number: int) -> object:
        """Return a book."""
        return object()


def test_a_cached_method_works_as_a_property_and_through_its_class() -> None:
    shelf, other = Shelf(), Shelf()
    assert shelf.books is shelf.books is not other.books
    book = Shelf.book(shelf, 1)
    assert book is shelf.book(1) is not Shelf.book(other, 1)
    assert (Shelf.book.__name__, Shelf.book.__doc__) == ("book", "Return a book.")
    Shelf.book.cache_clear()
    assert shelf.book(1) is not book


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"maxsize": -1}, "maxsize is 0, above or None, not -1"),
        ({"maxsize": 1.5}, "not 1.5"),
        ({"maxsize": len}, "with brackets"),
        ({"ttl_seconds": 0}, "above 0, not 0"),
        ({"ttl_seconds": -3}, "not -3"),
        ({"ttl_seconds": math.nan}, "not nan"),
    ],
)
def test_bad_limits_are_named(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        lesson.timed_lru_cache(**arguments)


def test_coroutines_and_generators_are_refused() -> None:
    async def fetch() -> None: ...

    def rows() -> Iterator[int]:
        yield 1

    async def stream() -> AsyncIterator[int]:
        yield 1

    class Fetcher:
        async def __call__(self) -> None: ...

    once: list[Any] = [fetch, rows, stream, Fetcher(), functools.partial(fetch)]
    for decorator in (lesson.timed_lru_cache(), lesson.redis_cache()):
        for fn in once:
            with pytest.raises(TypeError, match="only its first reader"):
                decorator(fn)


@pytest.mark.slow
def test_memory_is_flat_over_a_million_keys() -> None:
    """Objects counted over a million keys; bytes, by tracemalloc, over the last."""
    fn = lesson.timed_lru_cache(maxsize=128, ttl_seconds=60)(lambda key: [key])
    keys = iter(range(1_040_000))

    def ask(number: int) -> None:
        for key in itertools.islice(keys, number):
            fn(key)

    ask(20_000)
    blocks = sys.getallocatedblocks()
    ask(1_000_000)
    # 128 of a million lists are alive; a leak of one object each would be a million.
    assert sys.getallocatedblocks() - blocks < 5_000
    tracemalloc.start()  # which makes a call four times as long
    try:
        ask(1)
        before, _ = tracemalloc.get_traced_memory()
        ask(19_000)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 100_000  # a leak of one pointer each would be 152,000
    reaper = lesson.reaper_for(60)
    assert len(reaper.queue) <= reaper.limit < 1000
    assert fn.cache_info().currsize == 128


# The Redis tier

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)
foreign = st.sampled_from(
    [(1, 2), {1: 2}, {None: 1}, {3}, b"x", 1j, object(), numpy.float64(0.5)]
)


@relaxed
@given(json_values | foreign | st.lists(json_values | foreign, max_size=3))
def test_a_value_comes_back_exactly_or_is_refused(value: Any) -> None:
    cache = lesson.RedisCache(fakeredis.FakeRedis(), "module8:test:")
    try:
        cache.set("key", value)
    except TypeError as error:
        assert "JSON would change" in str(error)
        assert not _is_plain(value)
    else:
        assert repr(cache.get("key")) == repr(value)  # types and signs of zero too
        assert _is_plain(value)


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(type(k) is str for k in value) and all(
            map(_is_plain, value.values())
        )
    if type(value) is list:
        return all(map(_is_plain, value))
    return type(value) in (type(None), bool, int, str) or (
        type(value) is float and math.isfinite(value)
    )


def test_a_refusal_names_the_place() -> None:
    with pytest.raises(TypeError, match=r"result\['rows'\]\[1\] is \(1, 2\) \(tuple\)"):
        lesson.strict({"rows": [1, (1, 2)]})


@relaxed
@given(st.binary() | st.text() | st.binary(min_size=1, max_size=3))
def test_keys_hold_any_bytes(key: bytes | str) -> None:
    cache = lesson.RedisCache(fakeredis.FakeRedis(), "module8:test:")
    assert cache.set(key, 1)
    assert cache.get(key) == 1
    assert cache.delete(key, b"another") == 1
    assert cache.get(key) is None


@relaxed
@given(
    st.binary()
    | st.builds(lambda value: json.dumps(value).encode(), json_values)
    | st.dictionaries(
        st.sampled_from(["v", "generation", "created", "expires", "delta", "value"]),
        st.sampled_from([1, "", None, [], "x", 2.5]),
    ).map(lambda value: json.dumps(value).encode())
)
def test_a_foreign_payload_is_a_miss(payload: bytes) -> None:
    cache = lesson.RedisCache(fakeredis.FakeRedis(), "module8:test:")
    cache.client.set(cache.name("value", "key"), payload)
    missing = object()
    found = cache.get("key", missing)
    if found is not missing:  # by chance a whole envelope
        assert {"v", "generation", "created", "expires", "delta", "value"} <= set(
            json.loads(payload)
        )


def test_deep_nesting_and_other_schemas_are_misses(cache: Any) -> None:
    name = cache.name("value", "key")
    cache.client.set(name, b"[" * 100_000)
    assert cache.get("key") is None
    assert cache.stats.corrupt == 1
    cache.set("key", "value")
    envelope = json.loads(cache.client.get(name))
    assert set(envelope) == {
        "v", "generation", "created", "expires", "delta", "value",
    }  # fmt: skip
    cache.client.set(name, json.dumps(envelope | {"v": lesson.SCHEMA - 1}))
    assert cache.get("key") is None
    assert cache.stats.corrupt == 1  # old, not corrupt


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"ttl": 0}, "ttl is above 0, at most 30 days, not 0"),
        ({"ttl": -1}, "not -1"),
        ({"ttl": math.inf}, "not inf"),
        ({"none_ttl": 0}, "none_ttl is above 0"),
        ({"wait": 0}, "wait is above 0"),
        ({"jitter": 1}, "jitter is in"),
        ({"beta": -1}, "beta and grace"),
        ({"grace": -1}, "beta and grace"),
        ({"grace": math.inf}, "ttl and grace are at most 30 days together"),
        ({"none_ttl": 9, "grace": 30 * 86_400 - 3599}, "30 days together"),
    ],
)
def test_policies_that_make_no_sense_are_refused(
    arguments: dict[str, float], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        lesson.Policy(**arguments)
    if set(arguments) == {"ttl"}:
        with pytest.raises(ValueError, match=says):
            lesson.redis_cache(**arguments)


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("gap", [0.25, 1.0, 3.0])
def test_early_refresh_has_the_published_probability(beta: float, gap: float) -> None:
    dice, delta = random.Random(8), 0.3
    entry = lesson.Entry("value", 0.0, gap * delta, delta)
    draws = 200_000
    early = sum(lesson.is_due(entry, 0.0, beta, dice.random()) for _ in range(draws))
    assert abs(early / draws - math.exp(-gap / beta)) < 0.01


def test_early_refresh_is_certain_at_expiry_and_never_with_beta_0() -> None:
    entry = lesson.Entry("value", 0.0, 10.0, 5.0)
    assert lesson.is_due(entry, 10.0, 0.0, 0.0)
    assert not lesson.is_due(entry, 9.999, 0.0, 0.999999)


def test_jitter_spreads_the_expiries_of_keys_set_together() -> None:
    policy = lesson.Policy(ttl=100, jitter=0.5)
    lives = [policy.lifetime("value") for _ in range(5000)]
    assert 50 < min(lives) < max(lives) <= 100
    assert max(Counter(map(int, lives)).values()) < 5000 / 50 * 2


INVALIDATIONS: list[Callable[[Any, str], object]] = [
    lambda cache, key: cache.delete(key),
    lambda cache, key: cache.delete("other", key),
    lambda cache, key: cache.clear_pattern("*"),
    lambda cache, key: cache.clear_pattern(lesson.escape(key)),
    lambda cache, key: cache.bump(),
]


@pytest.mark.parametrize("invalidate", INVALIDATIONS)
def test_no_interleaving_of_load_and_invalidation_leaves_a_stale_value(
    invalidate: Callable[[Any, str], object],
) -> None:
    """A thousand rounds in all, each with its own order of the four steps."""
    dice, server = random.Random(8), fakeredis.FakeServer()
    caches = [
        lesson.RedisCache(fakeredis.FakeRedis(server=server), "module8:test:")
        for _ in range(2)
    ]
    overtaken = 0
    for number in range(200):
        key, truth = f"price[{number}]*", ["old"]
        reader, writer = dice.sample(caches, 2)

        def write(truth: list[str] = truth, key: str = key, by: Any = writer) -> None:
            truth[0] = "new"
            invalidate(by, key)

        moment = dice.randrange(3)

        def source(
            truth: list[str] = truth, write: Any = write, moment: int = moment
        ) -> str:
            if moment == 0:
                write()
            read = truth[0]
            if moment == 1:
                write()
            return read

        reader.get_or_load(key, source, lesson.Policy(ttl=60))
        if moment == 2:
            write()
        overtaken += moment == 1
        for cache in caches:
            assert cache.get(key) in (None, "new"), (number, moment)
        assert reader.get_or_load(key, lambda t=truth: t[0], lesson.Policy()) == "new"
    assert overtaken > 40


def test_a_set_beats_a_load_under_way(cache: Any) -> None:
    def load() -> str:
        assert cache.set("k", "new")
        return "old"

    assert cache.get_or_load("k", load, lesson.Policy()) == "old"
    assert cache.get("k") == "new"


def test_clear_pattern_takes_leases_first(monkeypatch: pytest.MonkeyPatch) -> None:
    server = fakeredis.FakeServer()
    one, two = (
        lesson.RedisCache(fakeredis.FakeRedis(server=server), "module8:test:")
        for _ in range(2)
    )
    loading, go_on = threading.Event(), threading.Event()

    def slow() -> str:
        loading.set()
        assert go_on.wait(10)
        return "old"

    call = functools.partial(one.get_or_load, "k", slow, lesson.Policy())
    thread = threading.Thread(target=call)
    thread.start()
    assert loading.wait(10)
    unlink, sweeps = lesson.unlink_matching, list[object]()

    def then_store(client: Any, pattern: object) -> int:
        removed: int = unlink(client, pattern)
        sweeps.append(pattern)
        go_on.set()
        thread.join(10)
        return removed

    monkeypatch.setattr(lesson, "unlink_matching", then_store)
    two.clear_pattern("*")
    assert len(sweeps) == 2
    assert one.get("k") is None


def test_a_process_told_to_end_leaves_the_load_to_others(cache: Any) -> None:
    def ending() -> None:
        raise SystemExit

    with pytest.raises(SystemExit):
        cache.get_or_load("k", ending, lesson.Policy())
    assert not cache.client.keys("*failure*")
    assert not cache.client.keys("*lease*")


@pytest.mark.parametrize("out", [False, True])
def test_who_asks_after_a_delete_does_not_get_the_load_from_before_it(
    out: bool,
) -> None:
    server = fakeredis.FakeServer()
    server.connected = not out
    cache = lesson.RedisCache(fakeredis.FakeRedis(server=server), "module8:test:")
    loading, go_on = threading.Event(), threading.Event()

    def slow() -> str:
        loading.set()
        assert go_on.wait(10)
        return "old"

    policy, got = lesson.Policy(), []
    early = threading.Thread(
        target=lambda: got.append(cache.get_or_load("k", slow, policy))
    )
    early.start()
    assert loading.wait(10)
    cache.delete("k")
    late = threading.Thread(
        target=lambda: got.append(cache.get_or_load("k", lambda: "new", policy))
    )
    late.start()
    services.wait_for(lambda: cache.stats.misses == 2)
    time.sleep(0.05)  # it has joined the load from before the delete
    go_on.set()
    early.join(10)
    late.join(10)
    assert sorted(got) == ["new", "old"]
    assert cache.get("k") == (None if out else "new")
    assert cache.stats.refused == (not out)


def test_who_waits_for_a_slow_load_in_vain_shares_one_more() -> None:
    cache = lesson.RedisCache(fakeredis.FakeRedis(), "module8:test:")
    source, policy = lesson.Source("value", 0.5), lesson.Policy(wait=0.2)
    call = functools.partial(cache.get_or_load, "k", source, policy)
    assert lesson.crowd([call] * 30, source) == ["value"] * 30
    assert source.loads == 2


def test_a_lease_outlived_by_its_load_lets_another_process_load() -> None:
    server = fakeredis.FakeServer()
    one, two = (
        lesson.RedisCache(fakeredis.FakeRedis(server=server), "module8:test:")
        for _ in range(2)
    )
    policy = lesson.Policy(wait=0.1)
    loading, go_on = threading.Event(), threading.Event()

    def slow() -> str:
        loading.set()
        assert go_on.wait(10)
        return "slow"

    thread = threading.Thread(target=one.get_or_load, args=("k", slow, policy))
    thread.start()
    assert loading.wait(10)
    assert two.get_or_load("k", lambda: "fast", policy) == "fast"  # no dead end
    go_on.set()
    thread.join(10)
    assert one.stats.loads == two.stats.loads == 1
    assert one.get("k") in (None, "fast")  # what came late was not stored


def test_old_values_stand_in_while_a_load_is_under_way(clock: Any) -> None:
    server = fakeredis.FakeServer()
    one, two = (
        lesson.RedisCache(
            fakeredis.FakeRedis(server=server), "module8:test:", clock=clock
        )
        for _ in range(2)
    )
    policy = lesson.Policy(ttl=60, grace=600, beta=0)
    one.get_or_load("k", lambda: "old", policy)
    clock.now += 61
    loading, go_on = threading.Event(), threading.Event()

    def slow() -> str:
        loading.set()
        assert go_on.wait(10)
        return "new"

    thread = threading.Thread(target=one.get_or_load, args=("k", slow, policy))
    thread.start()
    assert loading.wait(10)
    for cache in (one, two):  # the same process, and another
        assert cache.get_or_load("k", lambda: "unused", policy) == "old"
        assert cache.stats.stale == 1
    go_on.set()
    thread.join(10)
    assert two.get_or_load("k", lambda: "unused", policy) == "new"


def test_an_early_refresh_is_done_by_one_while_others_are_served(clock: Any) -> None:
    cache = lesson.RedisCache(fakeredis.FakeRedis(), "module8:test:", clock=clock)
    eager = lesson.Policy(ttl=60, beta=1e12)  # every read is due
    cache.get_or_load("k", lambda: lesson.time.sleep(0.001) or 1, eager)
    source = lesson.Source(2, 0.2)
    answers = lesson.crowd(
        [functools.partial(cache.get_or_load, "k", source, eager)] * 20, source
    )
    assert source.loads == 1
    assert Counter(answers) == {1: 19, 2: 1}


def test_a_failed_load_is_retried_by_the_next_call(cache: Any) -> None:
    policy = lesson.Policy()
    for number in range(3):
        source = lesson.Source(KeyError(number), 0)
        with pytest.raises(KeyError):
            cache.get_or_load("k", source, policy)
        assert source.loads == 1
    assert cache.get_or_load("k", lambda: "value", policy) == "value"


@pytest.mark.parametrize("result", [(1, 2), {1: 2}, object()])
def test_a_result_that_json_would_change_is_an_error(cache: Any, result: Any) -> None:
    fn = lesson.redis_cache(cache=cache, name="fn")(lambda: result)
    with pytest.raises(TypeError, match=r"result is .* JSON would change; use str"):
        fn()
    assert not cache.client.keys("*value*")


def test_keys_of_calls(cache: Any) -> None:
    @lesson.redis_cache(60, cache=cache, name="model-1")  # type: ignore[untyped-decorator]
    def predict(user: object, limit: int = 3) -> str:
        return repr(user)

    same = [predict.key(7), predict.key(7, 3), predict.key(limit=3, user=7)]
    other = [predict.key(7.0), predict.key(True), predict.key("7"), predict.key([7])]
    assert len(set(same)) == 1
    assert len({*same, *other, predict.key(1)}) == 6
    assert all(key.startswith("model-1:") for key in same + other)
    with pytest.raises(TypeError, match=r"argument\[0\] is \(7,\)"):
        predict((7,))
    assert [predict(1), predict(1.0), predict(True)] == ["1", "1.0", "True"]


def module_of(name: str, answer: str) -> Any:
    """Return the function get_user of a module of this name."""
    scope: dict[str, Any] = {"__name__": name}
    exec(f"def get_user(n):\n    return {answer!r}", scope)
    return scope["get_user"]


def test_functions_of_one_name_in_two_modules_share_nothing(cache: Any) -> None:
    one, two = (
        lesson.redis_cache(60, cache=cache)(module_of(name, name))
        for name in ("shop.users", "blog.users")
    )
    assert [one(1), two(1), one(1), two(1)] == ["shop.users", "blog.users"] * 2
    assert one.key(1).startswith("shop.users.get_user:")


def test_what_has_no_name_of_its_own_must_be_given_one(cache: Any) -> None:
    def local(n: int) -> int:
        return n

    half: Any = functools.partial(divmod, 7)
    unnamed: list[Any] = [local, lambda n: n, random.Random(8).choice, [].count, half]
    for fn in unnamed:
        with pytest.raises(TypeError, match="give it a name="):
            lesson.redis_cache(60, cache=cache)(fn)
    named = lesson.redis_cache(60, cache=cache, name="half")(functools.partial(pow, 2))
    assert [named(3), named(3), cache.stats.hits] == [8, 8, 1]
    assert lesson.redis_cache(60, cache=cache)(json.dumps)(1) == "1"


def test_a_ttl_overrides_the_policy_only_when_given(cache: Any, clock: Any) -> None:
    policy = lesson.Policy(ttl=60, beta=0)
    for ttl, lives in ((None, 60), (600, 600)):
        fn = lesson.redis_cache(ttl, cache=cache, name=f"{ttl}", policy=policy)(
            lambda: lesson.uuid.uuid4().hex
        )
        first = fn()
        clock.now += lives - 1
        assert fn() == first
        clock.now += 1
        assert fn() != first


def test_the_default_cache_is_that_of_redis_url(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{services.free_port()}/0")
    lesson.default_cache.cache_clear()

    @lesson.redis_cache(ttl=60, name="fn")  # type: ignore[untyped-decorator]
    def fn(x: int) -> int:
        return x + 1

    assert [fn(1), fn(1)] == [2, 2]  # nobody is there: it fails open
    assert lesson.default_cache().stats.errors == 3
    lesson.default_cache.cache_clear()


@pytest.mark.usefixtures("hasty")
def test_hits_and_misses_are_calls_under_eight_threads(cache: Any) -> None:
    policy = lesson.Policy(ttl=60, beta=0)

    def work(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(150):
            key = f"k{dice.randrange(10)}"
            if dice.random() < 0.1:
                cache.delete(key)
            cache.get_or_load(key, lambda k=key: k, policy)
            cache.get(key)

    done = lesson.crowd([functools.partial(work, seed) for seed in range(8)])
    assert done == [None] * 8
    stats = cache.stats
    assert stats.hits + stats.misses == 8 * 150 * 2
    assert set(json.loads(stats.as_json())) >= {"hits", "misses", "loads", "errors"}


graphs = st.dictionaries(st.integers(0, 8), st.sets(st.integers(0, 8)), max_size=9)


@relaxed
@given(graphs, st.sets(st.integers(0, 8)), st.integers(0, 8))
def test_a_cascade_is_the_transitive_closure(
    graph: dict[int, set[int]], stored: set[int], start: int
) -> None:
    cache = lesson.RedisCache(fakeredis.FakeRedis(), "module8:test:")
    manager = lesson.CacheInvalidationManager(cache)
    for parent, children in graph.items():
        for child in children:
            manager.depend(str(child), str(parent))
    for key in stored:
        cache.set(str(key), key)
    reached = {start}
    while (more := reached | set().union(*(graph.get(k, set()) for k in reached))) != (
        reached
    ):
        reached = more
    assert manager.cascade(str(start)) == len(reached & stored)
    kept = {str(key) for key in stored - reached}
    assert set(cache.get_many([str(key) for key in range(9)])) == kept


# The outage, on a stand-in that can be switched off


def test_the_breaker_lets_one_probe_through(clock: Any) -> None:
    breaker = lesson.CircuitBreaker(threshold=2, cooldown=5, clock=clock)
    breaker.record(False)
    assert breaker.allows()
    breaker.record(False)
    assert not breaker.allows()
    clock.now += 5
    assert lesson.crowd([breaker.allows] * 20).count(True) == 1
    breaker.record(False)
    clock.now += 4.9
    assert not breaker.allows()
    clock.now += 0.2
    assert breaker.allows()
    breaker.record(True)
    assert lesson.crowd([breaker.allows] * 20) == [True] * 20


OWED: dict[str, Callable[[Any], object]] = {
    "delete": lambda cache: cache.delete("k"),
    "set": lambda cache: cache.set("k", "new"),
    "clear_pattern": lambda cache: cache.clear_pattern("k"),
    "bump": lambda cache: cache.bump(),
    "tag": lambda cache: lesson.CacheInvalidationManager(cache).tag("t", "k"),
    "invalidate_tag": lambda cache: lesson.CacheInvalidationManager(
        cache
    ).invalidate_tag("t"),
}


@pytest.mark.parametrize("change", OWED)
@pytest.mark.parametrize("failures", [0, 5])
def test_an_invalidation_that_redis_missed_is_made_good(
    change: str, failures: int, clock: Any
) -> None:
    server = fakeredis.FakeServer()
    client = fakeredis.FakeRedis(server=server)
    breaker = lesson.CircuitBreaker(clock=clock)
    cache = lesson.RedisCache(client, "module8:test:", breaker)
    other = lesson.RedisCache(client, "module8:test:")
    cache.set("k", "old")
    server.connected = False
    for _ in range(failures):
        assert cache.get("k") is None
    OWED[change](cache)
    server.connected = True
    clock.now += 2
    assert cache.get("k") is None
    assert other.get("k") is None  # no other process serves it either
    assert cache.set("k", "new")
    assert cache.get("k") == other.get("k") == "new"


def test_an_evicted_generation_revives_nothing(cache: Any) -> None:
    cache.set("k", "old")
    cache.bump()
    cache.set("j", "new")
    cache.client.delete(cache.generation)  # as a full Redis evicts it
    assert cache.get_many(["k", "j"]) == {}
    assert cache.get_or_load("k", lambda: "new", lesson.Policy()) == "new"
    assert cache.get_many(["k", "j"]) == {"k": "new"}


def test_a_set_that_could_not_read_the_generation_says_so() -> None:
    cache = lesson.RedisCache(fakeredis.FakeRedis(), "module8:test:")
    cache.set("k", "old")
    asked = cache.ask
    answers = iter([[None]])
    cache.ask = lambda *args, **options: next(answers, None) or asked(*args, **options)
    assert cache.set("k", "new") is False
    assert cache.get("k") is None


def test_a_run_of_errors_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    server = fakeredis.FakeServer()
    server.connected = False
    cache = lesson.RedisCache(fakeredis.FakeRedis(server=server), "module8:test:")
    for _ in range(5):
        cache.get("k")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "the cache does without Redis: " in caplog.text


def test_a_load_that_outlives_its_lease_is_logged(
    cache: Any, caplog: pytest.LogCaptureFixture
) -> None:
    policy = lesson.Policy(wait=0.05)
    cache.get_or_load("report", lambda: time.sleep(0.1), policy)
    assert "'report' took 0.1 s to load: raise Policy.wait" in caplog.text


def test_a_client_that_does_not_fit_is_refused() -> None:
    for ours in (lesson.RedisCache, lesson.NearCache):
        decoding = fakeredis.FakeRedis(decode_responses=True, protocol=2)
        with pytest.raises(ValueError, match="leave out decode_responses"):
            ours(decoding, "module8:test:")
    for client in (fakeredis.FakeRedis(), fakeredis.FakeRedis(protocol=3)):
        with pytest.raises(ValueError, match="RESP3: take cache_client"):
            lesson.NearCache(client, "module8:test:")


def test_a_tag_without_keys_does_nothing(cache: Any) -> None:
    lesson.CacheInvalidationManager(cache).tag("t")
    assert (cache.stats.errors, cache.stats.trips) == (0, 0)


def test_a_cascade_remembers_no_strangers(cache: Any) -> None:
    manager = lesson.CacheInvalidationManager(cache)
    manager.cascade("k")
    assert manager.dependents == {}


def test_settle_tells_whether_the_debt_is_paid(clock: Any) -> None:
    server = fakeredis.FakeServer()
    breaker = lesson.CircuitBreaker(clock=clock)
    client = fakeredis.FakeRedis(server=server)
    cache = lesson.RedisCache(client, "module8:test:", breaker)
    server.connected = False
    cache.delete("k")
    assert cache.owed
    assert not cache.settle(0.1)
    server.connected = True
    clock.now += 2
    assert cache.settle(5)


def test_single_flight_holds_while_redis_is_out(clock: Any) -> None:
    server = fakeredis.FakeServer()
    server.connected = False
    cache = lesson.RedisCache(fakeredis.FakeRedis(server=server), "module8:test:")
    source = lesson.Source("value", 0.2)
    call = functools.partial(cache.get_or_load, "k", source, lesson.Policy())
    assert lesson.crowd([call] * 50, source) == ["value"] * 50
    assert source.loads == 1


# The services, and the eviction policies against oracles


def test_recommendations_equal_a_plain_computation(cache: Any) -> None:
    engine = lesson.RecommendationEngine(cache)
    for user, mine in engine.bought.items():
        score: Counter[str] = Counter()
        for other in engine.bought.values():
            for item in other - mine:
                score[item] += len(other & mine)
        best = sorted(score, key=lambda item: (-score[item], item))[:3]
        assert engine.recommend(user) == engine.recommend(user, limit=3) == best
    assert cache.stats.misses == len(engine.bought)
    assert len(engine.trending(4)) == 4
    assert engine.product("p03") == "Product 3"


def test_predictions_and_embeddings(cache: Any) -> None:
    service = lesson.MLPredictionService(cache, "churn-1", 1 / 20)
    assert service.predict(30) == 0.5
    assert service.predict(50) == pytest.approx(1 / (1 + math.exp(-1)))
    vector = service.embedding("text")
    assert vector == service.embedding("text")
    assert math.hypot(*vector) == pytest.approx(1)
    assert service.embedding.cache_info().hits >= 1


traces = st.lists(st.integers(0, 6), min_size=1, max_size=40)


@relaxed
@given(traces, st.integers(1, 5))
def test_the_lru_of_the_simulation_is_functools(trace: list[int], size: int) -> None:
    cached = functools.lru_cache(maxsize=size)(lambda key: key)
    for key in trace:
        cached(key)
    hits = round(lesson.hit_rate(trace, size, "LRU") * len(trace))
    assert hits == cached.cache_info().hits


@relaxed
@given(st.lists(st.integers(0, 4), min_size=1, max_size=9), st.integers(1, 3))
def test_the_optimum_is_that_of_brute_force(trace: list[int], size: int) -> None:
    @functools.cache
    def best(now: int, held: frozenset[int]) -> int:
        if now == len(trace):
            return 0
        key = trace[now]
        if key in held:
            return 1 + best(now + 1, held)
        if len(held) < size:
            return best(now + 1, held | {key})
        return max(best(now + 1, held - {victim} | {key}) for victim in held)

    hits = round(lesson.hit_rate(trace, size, "optimum") * len(trace))
    assert hits == best(0, frozenset())
    for policy in ("LRU", "LFU"):
        assert lesson.hit_rate(trace, size, policy) * len(trace) <= hits + 1e-9


def test_fibonacci() -> None:
    numbers = lesson.FibonacciCalculator()
    assert [numbers.naive(n) for n in range(12)] == [
        numbers.cached(n) for n in range(12)
    ]
    assert list(itertools.islice(map(numbers.cached, range(8)), 8)) == [
        0, 1, 1, 2, 3, 5, 8, 13,
    ]  # fmt: skip


def test_the_timer_times_and_prints(capsys: pytest.CaptureFixture[str]) -> None:
    with lesson.PerformanceTimer("a query") as timer:
        pass
    assert timer.seconds >= 0
    assert "a query: " in capsys.readouterr().err


# Bad input: one line, exit 2, and never a password


@contextmanager
def talking(replies: Callable[[bytes], bytes]) -> Iterator[int]:
    """Serve the loopback with a function from what was received to the reply."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)

        def serve() -> None:
            try:
                while True:
                    connection, _ = server.accept()
                    with connection:
                        while received := connection.recv(65536):
                            connection.sendall(replies(received))
            except OSError:
                return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def info(version: str) -> Callable[[bytes], bytes]:
    text = f"# Server\r\nredis_version:{version}\r\n"
    bulk = f"${len(text)}\r\n{text}\r\n".encode()
    return lambda received: b"".join(
        bulk if b"INFO" in command else b"+OK\r\n"
        for command in received.split(b"*")[1:]
    )


def refused(*arguments: str, env: dict[str, str] | None = None) -> str:
    """Return the one line of a run that ends with 2."""
    done = run(SCRIPT, "--only", "lru", *arguments, env=env)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    return done.stderr


@pytest.mark.parametrize(
    "url",
    ["http://localhost", "localhost:6379", "redis://localhost:port/0", "nonsense"],
)
def test_a_wrong_url_is_named_with_the_right_form(url: str) -> None:
    assert "write redis://host:port/database" in refused("--url", url)
    assert url in refused(env={"REDIS_URL": url})


def test_a_password_is_never_printed() -> None:
    for url in ("redis://user:s3cret@localhost:port/0", "http://:s3cret@localhost"):
        assert "s3cret" not in refused("--url", url)
    url = f"redis://user:s3cret@127.0.0.1:{services.free_port()}/0"
    done = run(SCRIPT, "--only", "tier", "--url", url)
    assert done.returncode == 0
    assert "s3cret" not in done.stdout + done.stderr
    assert "connection refused; docker compose up -d redis" in done.stdout


def test_an_old_server_is_named() -> None:
    with talking(info("5.0.14")) as port:
        line = refused("--url", f"redis://127.0.0.1:{port}/0")
    assert "Redis 5.0.14" in line
    assert "too old: 6.2 or later" in line


def test_what_is_no_redis_is_not_taken_for_one() -> None:
    with talking(lambda received: b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        assert "refuses INFO (InvalidResponse)" in refused(
            "--url", f"redis://127.0.0.1:{port}/0"
        )


def test_a_wrong_password_and_database_are_named() -> None:
    with services.private("redis", "--requirepass", "s3cret") as server:
        if server is None:
            pytest.skip("no redis-server on the PATH")
        place = f"127.0.0.1:{server.port}"
        for user in ("", ":wr0ng@", "user:wr0ng@"):
            line = refused("--url", f"redis://{user}{place}/0")
            assert "refuses the password; before the host write user:pass" in line
            assert "wr0ng" not in line
        line = refused("--url", f"redis://:s3cret@{place}/99")
        assert "look at the database number" in line
        assert "s3cret" not in line
        done = run(SCRIPT, "--only", "tier", "--url", f"redis://:s3cret@{place}/1")
        assert done.returncode == 0, done.stdout
        assert f"backend: redis {'.'.join(_version(done.stdout))} at {place}" in (
            done.stdout
        )
        assert "s3cret" not in done.stdout + done.stderr


def _version(text: str) -> list[str]:
    return text.split("redis ")[1].split(" ", maxsplit=1)[0].split(".")


def test_require_live_without_a_server_exits_3() -> None:
    url = f"redis://127.0.0.1:{services.free_port()}/0"
    done = run(SCRIPT, "--require-live", "--url", url)
    assert done.returncode == 3
    assert "fakeredis" in done.stdout


def test_a_server_that_says_nothing_gives_way_within_seconds() -> None:
    with talking(lambda received: b"") as port:
        done = run(SCRIPT, "--only", "eviction", "--url", f"redis://127.0.0.1:{port}/0")
    assert done.returncode == 0
    assert "no answer; docker compose" in done.stdout


def test_an_untrusted_certificate_is_refused(tmp_path: Path) -> None:
    openssl = services.program("openssl")
    if openssl is None:
        pytest.skip("no openssl program to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
            "-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate),
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            try:
                while True:
                    connection, _ = server.accept()
                    context.wrap_socket(connection, server_side=True).close()
            except OSError:
                return

        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        port = server.getsockname()[1]
        line = refused("--url", f"rediss://localhost:{port}/0")
        server.shutdown(socket.SHUT_RDWR)
    assert "its certificate is not trusted; name its authority" in line
