"""Races that start together, a clock that is told, waits that end."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from course.lab import (
    ManualClock,
    SlowSource,
    in_background,
    outcome_of,
    raises,
    run_async,
    start_together,
    wait_until,
)


def fail() -> None:
    raise LookupError("nothing there")


def test_an_outcome_is_a_result_or_an_exception() -> None:
    assert outcome_of(lambda: 3) == 3
    assert isinstance(outcome_of(fail), LookupError)
    with pytest.raises(KeyboardInterrupt):
        outcome_of(lambda: (_ for _ in ()).throw(KeyboardInterrupt))


def test_raises_is_about_one_kind_and_lets_others_through() -> None:
    assert raises(LookupError, fail)
    assert not raises(LookupError, int)
    with pytest.raises(LookupError):
        raises(OSError, fail)


def test_waiting_ends_with_the_state_or_at_the_deadline() -> None:
    begin = time.monotonic()
    wait_until(lambda: time.monotonic() > begin + 0.02)
    with pytest.raises(TimeoutError, match="no reply"):
        wait_until(lambda: False, limit=0.02, what="no reply")
    assert time.monotonic() - begin < 5


def test_a_clock_moves_only_when_told() -> None:
    clock = ManualClock(100.0)
    assert (clock(), clock()) == (100.0, 100.0)
    clock.advance(0.5)
    assert clock() == clock.now == 100.5


def test_calls_start_together_and_their_outcomes_keep_their_order() -> None:
    inside = threading.Barrier(8)  # broken, unless all eight run at the same time

    def meet(number: int) -> int:
        inside.wait(20)
        if number == 3:
            raise LookupError("three")
        return number

    outcomes = start_together([lambda n=n: meet(n) for n in range(8)])  # type: ignore[misc]
    assert isinstance(outcomes.pop(3), LookupError)
    assert outcomes == [0, 1, 2, 4, 5, 6, 7]


def test_a_source_on_hold_answers_after_all_have_asked() -> None:
    source = SlowSource("answer")
    values: dict[str, str] = {}

    def cache_aside() -> str:
        if "key" not in values:
            values["key"] = source.load()
        return values["key"]

    assert start_together([cache_aside] * 16, hold=source) == ["answer"] * 16
    assert source.loads > 1
    assert source.ready.is_set()  # for the next one
    # Without the hold nobody meets anybody: the control.
    for _ in range(16):
        cache_aside()
    assert source.loads <= 16


def test_a_source_raises_what_it_is_told_to_and_counts_that_too() -> None:
    source = SlowSource(OSError("gone"), seconds=0.01)
    begin = time.monotonic()
    assert raises(OSError, source.load)
    assert time.monotonic() - begin >= 0.01
    assert source.loads == 1


def test_work_in_the_background_tells_how_it_ended() -> None:
    begin = threading.Event()
    running = in_background(lambda: begin.wait(20))
    assert not running.done()
    assert not running.cancel()  # it runs
    begin.set()
    assert running.result(20) is True
    with pytest.raises(LookupError):
        in_background(fail).result(20)
    with pytest.raises(SystemExit):
        in_background(exit).result(20)


def test_a_coroutine_runs_even_where_a_loop_runs_already() -> None:
    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    async def broken() -> int:
        raise LookupError("nothing there")

    async def as_in_a_notebook() -> None:
        usual = answer()
        with pytest.raises(RuntimeError, match="running event loop"):
            asyncio.run(usual)
        usual.close()
        assert run_async(answer) == 42
        with pytest.raises(LookupError):
            run_async(broken)

    asyncio.run(as_in_a_notebook())
