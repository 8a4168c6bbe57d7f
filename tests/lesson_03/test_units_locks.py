"""Lesson 03: a lock that was closed when its process forked."""

from __future__ import annotations

import copy
import os
import pickle
import threading
import time
from typing import NoReturn

import pytest

from course.caching.locks import ForkSafeLock
from course.lab import in_background

LIMIT = 10.0  # seconds


def exit_code_of(child: int) -> int:
    """Return how a child ended; one that hangs is killed, which is another code."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, 9)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def end_after(lock: ForkSafeLock) -> NoReturn:
    """End a child, with 0 if it finds the lock open; it never goes on as a pytest."""
    code = 1
    try:
        with lock:
            code = 0
    finally:
        os._exit(code)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="platform: no fork on this system")
def test_a_child_finds_it_open_though_a_thread_of_its_parent_holds_it() -> None:
    lock = ForkSafeLock()
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            assert go_on.wait(LIMIT)

    holding = in_background(hold)
    assert held.wait(LIMIT)
    child = os.fork()
    if child == 0:
        end_after(lock)
    code = exit_code_of(child)
    go_on.set()
    holding.result(LIMIT)
    assert code == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="platform: no fork on this system")
def test_a_block_that_forks_inside_leaves_it_open_in_both() -> None:
    lock = ForkSafeLock()
    with lock:
        child = os.fork()
    if child == 0:
        end_after(lock)
    assert exit_code_of(child) == 0
    with lock:
        pass


def test_it_keeps_others_out_and_is_open_after_an_error() -> None:
    lock = ForkSafeLock()
    inside: list[str] = []

    def enter() -> None:
        with lock:
            inside.append("second")

    with pytest.raises(ZeroDivisionError), lock:
        inside.append("first")
        other = in_background(enter)
        with pytest.raises(TimeoutError):
            other.result(0.1)
        inside.append("still")
        raise ZeroDivisionError
    other.result(LIMIT)
    assert inside == ["first", "still", "second"]


def is_closed(lock: ForkSafeLock) -> bool:
    """Tell whether another thread would have to wait."""

    def try_it() -> bool:
        plain = lock.of_process()
        if not plain.acquire(blocking=False):
            return True
        plain.release()
        return False

    closed: bool = in_background(try_it).result(LIMIT)
    return closed


def test_a_copy_is_open_though_the_original_is_closed() -> None:
    lock = ForkSafeLock()
    with lock:
        sent = pickle.loads(pickle.dumps(lock))
        for other in (copy.copy(lock), copy.deepcopy(lock), sent):
            assert isinstance(other, ForkSafeLock)
            assert not is_closed(other)
        assert is_closed(lock)
    assert not is_closed(lock)
