"""Lesson 03's timed_lru_cache under threads, forks and a million keys."""

from __future__ import annotations

import functools
import itertools
import os
import random
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import services
from lessons import load

from course.lab import ManualClock, SlowSource, start_together

lesson = load("03")


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("maxsize", [8, None])
def test_many_threads_refresh_an_expired_entry_once(
    maxsize: int | None, clock: ManualClock
) -> None:
    source = SlowSource("value", 0.2)
    fn = lesson.timed_lru_cache(maxsize, 60, clock=clock)(source.load)
    calls = [functools.partial(fn, 1)] * 50
    assert start_together(calls, source) == ["value"] * 50
    clock.advance(61)
    assert start_together(calls, source) == ["value"] * 50
    assert source.loads == 2
    assert fn.cache_info().hits + fn.cache_info().misses == 100


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("maxsize", [128, None])
def test_threads_that_miss_at_the_same_instant_load_once(maxsize: int | None) -> None:
    """Without a slow source: the entry itself is made by several of them."""
    loads: list[int] = []

    def slow(key: int) -> int:
        loads.append(key)
        time.sleep(0.002)
        return key

    fn = lesson.timed_lru_cache(maxsize)(slow)
    for key in range(60):
        assert start_together([functools.partial(fn, key)] * 8) == [key] * 8
    assert loads == list(range(60))


@pytest.mark.usefixtures("hasty")
def test_counts_add_up_while_entries_expire_under_threads() -> None:
    fn = lesson.timed_lru_cache(16, 0.001)(lambda key: key)

    def work(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(2000):
            key = dice.randrange(40)
            assert fn(key) == key

    calls = [functools.partial(work, seed) for seed in range(8)]
    assert start_together(calls) == [None] * 8
    info = fn.cache_info()
    assert info.hits + info.misses == 16_000
    assert info.currsize <= 16


def test_a_failure_is_shared_and_not_kept() -> None:
    source = SlowSource(LookupError("no"), 0.2)
    fn = lesson.timed_lru_cache()(source.load)
    outcomes = start_together([functools.partial(fn, 1)] * 20, source)
    assert all(error is source.answer for error in outcomes)
    assert source.loads == 1
    source.answer = "value"
    assert fn(1) == "value"
    assert source.loads == 2


def load_in_parallel(decorate: Callable[..., Any]) -> bool:
    """Tell whether the loads of five keys can all be under way at once."""
    meeting = threading.Barrier(5)
    cached = decorate(lambda key: meeting.wait(1))
    answers = start_together([functools.partial(cached, key) for key in range(5)])
    return not any(isinstance(answer, Exception) for answer in answers)


def cached_by_one_lock(fn: Callable[..., Any]) -> Callable[..., Any]:
    lock = threading.Lock()
    cached = functools.lru_cache(fn)

    def call(key: object) -> Any:
        with lock:
            return cached(key)

    return call


def test_different_keys_do_not_wait_for_each_other() -> None:
    assert not load_in_parallel(cached_by_one_lock)
    assert load_in_parallel(lesson.cached_by_flight)
    assert load_in_parallel(lesson.timed_lru_cache())


def test_the_lock_for_each_key_fares_as_cachetools_condition_does() -> None:
    cachetools = pytest.importorskip("cachetools")

    def theirs(fn: Callable[..., Any]) -> Any:
        cached = cachetools.cached(
            cachetools.TTLCache(9, 60), condition=threading.Condition()
        )
        return cached(fn)

    rows = []
    for decorate in (lesson.cached_by_key_locks, theirs):
        found = SlowSource("value", 0.1)
        failing = SlowSource(LookupError("no such row"), 0.1)
        for source, number in ((found, 20), (failing, 5)):
            call = functools.partial(decorate(source.load), 1)
            start_together([call] * number, source)
        rows.append((found.loads, failing.loads, load_in_parallel(decorate)))
    assert rows == [(1, 5, True)] * 2


def test_what_is_loaded_across_a_clear_is_not_served_after_it() -> None:
    loading = threading.Event()
    go_on = threading.Event()
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


def test_a_key_may_call_the_function_while_it_is_looked_up() -> None:
    """No lock of ours is held then: it would wait for itself."""

    class Key:
        def __hash__(self) -> int:
            return int(fn(1))

        def __eq__(self, other: object) -> bool:
            return bool(fn(2) == 2 and self is other)

    fn = lesson.timed_lru_cache()(lambda key: key if isinstance(key, int) else 0)
    assert fn(Key()) == 0


def test_a_value_may_call_its_own_cache_when_it_ends(clock: ManualClock) -> None:
    ended: list[object] = []

    class Value:
        def __del__(self) -> None:
            if not ended:
                ended.append(fn("other"))

    fn = lesson.timed_lru_cache(2, 60, clock=clock)(
        lambda key: Value() if key == "value" else key
    )
    fn("value")
    clock.advance(60)
    for key in range(3):
        fn(key)
    assert ended == ["other"]


def test_those_who_wait_for_a_thread_that_is_told_to_end_load_themselves() -> None:
    loading = threading.Event()
    go_on = threading.Event()
    loads: list[int] = []

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
    threading.Timer(0.1, go_on.set).start()
    assert start_together([fn] * 3) == ["value"] * 3
    ending.join(10)
    assert len(loads) == 2


FORK = """
import os, signal, threading
from lessons import load
lesson = load("03")
loading, go_on = threading.Event(), threading.Event()
def slow(key):
    loading.set()
    go_on.wait(30)
    return key
call = lesson.timed_lru_cache()(slow)
threading.Thread(target=call, args=("k",), daemon=True).start()
assert loading.wait(30)
child = os.fork()
if child == 0:
    signal.alarm(10)
    go_on.set()
    threads = [threading.Thread(target=call, args=("k",)) for _ in range(5)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    info = call.cache_info()
    os._exit(call("k") != "k" or info.hits + info.misses != 6)
go_on.set()
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="platform: no fork on this system")
def test_a_fork_during_a_load_does_not_hang_the_child() -> None:
    place = Path(services.__file__).parent
    environment = os.environ | {"PYTHONPATH": str(place.parent)}
    argv = [sys.executable, "-c", FORK]
    subprocess.run(argv, cwd=place, env=environment, timeout=60, check=True)


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
    assert fn.cache_info().currsize == 128
