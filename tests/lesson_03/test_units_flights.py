"""Lesson 03's single flight: interrupts, threads that wait for each other, errors."""

from __future__ import annotations

import functools
import linecache
import sys
import threading
import traceback
from concurrent.futures import CancelledError
from types import FrameType
from typing import Any

import pytest
from lessons import load

from course.caching.flights import lands
from course.lab import SlowSource, outcome_of, start_together

lesson = load("03")
LANDING = ("try:", "if flight is mine:", "self.flights.pop(name, None)")


def interrupted_at(step: int) -> bool:
    """Run a flight, interrupted before its n-th line; tell whether it has ended.

    Afterwards the key must be free for this thread, and for another one.
    """
    flights = lesson.SingleFlight()
    watched = {lesson.SingleFlight.lead_or_wait.__code__, lands.__code__}
    left = [step]

    def trace(frame: FrameType, event: str, _arg: object) -> Any:
        if frame.f_code not in watched:
            return None
        if event == "line":
            text = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
            # Python looks for interrupts after a call, not before the first one of
            # `finally`, so the one line that frees the key is not interrupted.
            left[0] -= text not in LANDING
            if left[0] < 0:
                left[0] = 10**6
                raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        flights.run("k", lambda: 1)
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(None)
    ended = left[0] < 10**5
    if not flights.flights:
        assert flights.run("k", lambda: 2) == (2, "led")
        call = functools.partial(flights.run, "k", lambda: 3, 1.0)
        assert start_together([call]) == [(3, "led")]
    else:
        pytest.fail(f"a dead flight holds the key after {step} lines")
    return ended


def test_an_interrupt_leaves_no_dead_flight() -> None:
    """A KeyboardInterrupt before each line: before, in and after the load."""
    steps = 0
    while not interrupted_at(steps):
        steps += 1
    assert steps >= 4


def test_threads_that_wait_for_each_other_are_told_so() -> None:
    meeting = threading.Barrier(2)

    @lesson.timed_lru_cache()  # type: ignore[untyped-decorator]
    def fn(key: int) -> Any:
        if meeting.n_waiting < 2:
            meeting.wait(5)
        return fn(1 - key)

    outcomes: list[Any] = []

    def ask(key: int) -> None:
        outcomes.append(outcome_of(functools.partial(fn, key)))

    threads = [threading.Thread(target=ask, args=(k,), daemon=True) for k in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert [type(outcome) for outcome in outcomes] == [RecursionError] * 2


def test_a_chain_of_waits_without_a_circle_is_no_error() -> None:
    @lesson.timed_lru_cache()  # type: ignore[untyped-decorator]
    def fn(n: int) -> int:
        if n == 0:
            threading.Event().wait(0.05)
            return 0
        return int(fn(n - 1)) + 1

    calls = [functools.partial(fn, n) for n in range(20)] * 3
    assert start_together(calls) == [*range(20)] * 3


def test_a_shared_exception_keeps_a_short_traceback() -> None:
    flights = lesson.SingleFlight()
    source = SlowSource(ValueError("x"), 0.1)
    lines: list[int] = []

    def ask() -> None:
        try:
            flights.run("k", source.load)
        except ValueError as error:
            lines.append(len(traceback.format_exception(error)))

    start_together([ask] * 100, hold=source)
    assert source.loads == 1
    assert max(lines) < 30


def test_a_load_that_is_cancelled_is_a_failure_like_any_other() -> None:
    flights = lesson.SingleFlight()
    source = SlowSource(CancelledError(), 0.1)
    calls = [functools.partial(flights.run, "k", source.load)] * 50
    outcomes = start_together(calls, hold=source)
    assert all(isinstance(outcome, CancelledError) for outcome in outcomes)
    assert source.loads == 1


def test_a_call_across_a_clear_takes_no_hit_away() -> None:
    """The first look at the entry was forgotten; the second and the hit were not."""

    @lesson.timed_lru_cache()  # type: ignore[untyped-decorator]
    def fn(key: int) -> int:
        return key

    class Key:
        """Clears the cache when it is looked up for the second time."""

        looks = 0

        def __hash__(self) -> int:
            type(self).looks += 1
            if self.looks == 2:
                fn.cache_clear()
            return 1

    key = Key()
    fn(key)
    fn(key)
    info = fn.cache_info()
    assert (info.hits, info.misses) == (1, 0)
    fn(2)
    fn(2)
    info = fn.cache_info()
    assert (info.hits, info.misses) == (2, 1)
