"""What demos and tests experiment with: races, clocks, slow sources, deadlines."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

START_LIMIT = 30.0  # seconds; a busy machine is slow to start a hundred threads


def outcome_of(call: Callable[[], Any]) -> Any:
    """Return what a call returns, or the exception it raises."""
    try:
        return call()
    except Exception as error:
        return error


def raises(kind: type[Exception], call: Callable[[], object]) -> bool:
    """Tell whether a call raises an exception of a kind; others pass through."""
    try:
        call()
    except kind:
        return True
    return False


def wait_until(
    state: Callable[[], object],
    limit: float = 5.0,
    what: str = "the state was not reached in time",
) -> None:
    """Poll until the state holds; raise TimeoutError after `limit` seconds."""
    deadline = time.monotonic() + limit
    while not state():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.0005)


class ManualClock:
    """A clock, in seconds, that moves only when it is told to."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


class SlowSource:
    """An origin of data that takes its time and counts its loads.

    It returns `answer`, or raises it if it is an exception. While `ready` is not set,
    each load waits: nobody is answered before all have asked.
    """

    def __init__(self, answer: object = "value", seconds: float = 0.0) -> None:
        self.answer = answer
        self.seconds = seconds
        self.loads = 0
        self.ready = threading.Event()
        self.ready.set()
        self._lock = threading.Lock()

    def load(self, *_: object) -> Any:
        """Answer after a while, whatever is asked."""
        with self._lock:
            self.loads += 1
        if not self.ready.wait(START_LIMIT):
            raise TimeoutError("not all readers came")
        time.sleep(self.seconds)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def start_together(
    calls: Sequence[Callable[[], Any]], hold: SlowSource | None = None, asks: int = 0
) -> list[Any]:
    """Start the calls at once, a thread each; return their outcomes in order.

    An outcome is what the call returned, or the exception that it raised. The source
    `hold`, if given, answers nobody before all calls have begun and `asks` of them have
    reached it.
    """
    barrier = threading.Barrier(len(calls))
    begun = threading.Semaphore(0)

    def run(call: Callable[[], Any]) -> Any:
        barrier.wait(START_LIMIT)
        begun.release()
        return outcome_of(call)

    if hold:
        hold.ready.clear()
    with ThreadPoolExecutor(len(calls)) as pool:
        running = [pool.submit(run, call) for call in calls]
        for _ in calls:
            begun.acquire(timeout=START_LIMIT)
        if hold:
            wait_until(lambda: hold.loads >= asks, START_LIMIT, "too few calls ask")
            hold.ready.set()
        return [one.result() for one in running]


def in_background(work: Callable[[], object]) -> Future[Any]:
    """Run something in a daemon thread; the future ends, or fails, as it does."""
    done: Future[Any] = Future()
    done.set_running_or_notify_cancel()  # it cannot be cancelled: a thread goes on

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return done


def run_async(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run a coroutine function to its end and return its result.

    It gets a thread of its own: in a notebook, the main thread already runs a loop.
    """
    return in_background(lambda: asyncio.run(work())).result(START_LIMIT)
