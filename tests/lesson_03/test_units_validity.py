"""Who may have an answer: those who asked before its value became invalid."""

from __future__ import annotations

import functools
import threading
import time
from typing import Any

import fakeredis
import pytest
import services
from lessons import load

from course.caching.flights import WAITS
from course.caching.policy import Policy
from course.lab import ManualClock, in_background, start_together

lesson = load("03")


def caches_of_two_processes(clock: Any = time.time) -> list[Any]:
    server = fakeredis.FakeServer()
    return [
        lesson.RedisCache(
            fakeredis.FakeRedis(server=server), "module8:test:", clock=clock
        )
        for _ in range(2)
    ]


def test_an_old_value_is_not_for_who_asked_after_another_process_deleted_it(
    clock: ManualClock,
) -> None:
    one, two = caches_of_two_processes(clock)
    policy = Policy(ttl=60, grace=600, beta=0)
    one.get_or_load("k", lambda: "old", policy)
    clock.advance(61)
    loading, go_on = threading.Event(), threading.Event()

    def failing() -> None:
        loading.set()
        assert go_on.wait(10)
        raise ConnectionError("origin is down")

    leader = in_background(lambda: one.get_or_load("k", failing, policy))
    assert loading.wait(10)
    assert two.delete("k") == 1
    late = in_background(lambda: one.get_or_load("k", lambda: "new", policy))
    services.wait_for(lambda: one.stats.misses == 3)
    services.wait_for(lambda: WAITS)  # for the flight from before the delete
    go_on.set()
    assert leader.result(10) == "old"
    assert late.result(10) == "new"


def test_deletes_faster_than_a_load_cost_nobody_more_than_two_loads() -> None:
    cache, other = caches_of_two_processes()
    stop = threading.Event()
    loads: list[int] = []

    def delete() -> None:
        while not stop.is_set():
            other.delete("k")
            stop.wait(0.01)

    def slow() -> int:
        loads.append(1)
        time.sleep(0.1)
        return len(loads)

    deleting = in_background(delete)
    call = functools.partial(cache.get_or_load, "k", slow, Policy(longest_load=30))
    answers = start_together([call] * 40)
    stop.set()
    deleting.result(10)
    assert not any(isinstance(answer, Exception) for answer in answers)
    assert len(loads) <= 4  # it took 40, one after the other


def test_what_is_read_while_a_delete_is_under_way_is_not_for_who_asks_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A reader claims, and finds what another process has stored; then it is slow."""
    one, two = caches_of_two_processes()
    policy = Policy(ttl=60, beta=0)
    truth = ["old"]
    claimed, go_on, deleting = (threading.Event() for _ in range(3))
    read, give_back, ask = one.read, one.give_back, one.ask

    def then_another_stores(key: str) -> Any:
        found = read(key)
        two.get_or_load("k", lambda: truth[0], policy)
        truth[0] = "new"
        return found

    def slowly(job: Any) -> None:
        claimed.set()
        assert go_on.wait(10)
        give_back(job)

    def when_claimed(command: Any) -> Any:
        if threading.current_thread().name == "deletes":
            deleting.set()
            assert claimed.wait(10)
        return ask(command)

    monkeypatch.setattr(one, "give_back", slowly)
    monkeypatch.setattr(one, "ask", when_claimed)
    delete = threading.Thread(target=one.delete, args=("k",), name="deletes")
    delete.start()
    assert deleting.wait(10)
    monkeypatch.setattr(one, "read", then_another_stores)
    early = in_background(lambda: one.get_or_load("k", lambda: truth[0], policy))
    assert claimed.wait(10)
    delete.join(10)
    monkeypatch.setattr(one, "read", read)
    late = in_background(lambda: one.get_or_load("k", lambda: truth[0], policy))
    services.wait_for(lambda: one.stats.misses == 2)
    services.wait_for(lambda: WAITS)
    go_on.set()
    assert early.result(10) == "old"
    assert late.result(10) == "new"


def test_a_refresh_that_fails_is_logged_and_one_that_is_not_json_is_returned(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    cache, _ = caches_of_two_processes(clock)
    policy = Policy(ttl=60, grace=600, beta=0)
    cache.get_or_load("k", lambda: "old", policy)
    clock.advance(61)
    assert cache.get_or_load("k", lambda: 1 / 0, policy) == "old"
    assert "'k' is old: ZeroDivisionError" in caplog.text
    assert cache.get_or_load("k", lambda: (1, 2), policy) == (1, 2)
    assert cache.get_or_load("k", lambda: 1 / 0, policy) == "old"  # it was not stored


def test_one_process_loads_once_without_a_lease() -> None:
    server = fakeredis.FakeServer()
    cache = lesson.LoadingCache(fakeredis.FakeRedis(server=server), "module8:test:")
    loads: list[int] = []

    def slow() -> str:
        loads.append(1)
        time.sleep(0.1)
        return "value"

    call = functools.partial(cache.get_or_load, "k", slow, Policy())
    assert start_together([call] * 20) == ["value"] * 20
    assert len(loads) == 1
    assert cache.get("k") == "value"
