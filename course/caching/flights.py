"""A call that one thread makes while others wait for how it ends."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any


# region flight
class LeaderEnded(Exception):
    """The thread that led was told to end (SystemExit, Ctrl-C): another one leads."""


class Flight:
    """A call under way: the thread that leads it, and how it ended."""

    def __init__(self) -> None:
        # By process: a forked child has none of the threads that its parent waits for.
        self.leader = (os.getpid(), threading.get_ident())
        self.landed = threading.Event()
        self.value: Any = None
        self.error: Exception | None = LeaderEnded()  # unless the call ends
        self.traceback: Any = None

    def lead(self, call: Callable[[], Any]) -> Any:
        """Make the call, and note how it ends."""
        try:
            self.value = call()
        except Exception as error:
            self.error = error
            self.traceback = error.__traceback__
            raise
        self.error = None
        return self.value

    def outcome(self) -> Any:
        """Return what the call returned, or raise what it raised."""
        if self.error is None:
            return self.value
        # All waiters raise the same object: each would make its traceback longer.
        raise self.error.with_traceback(self.traceback)


WAITS: dict[tuple[int, int], Flight] = {}  # what a thread waits for, in any cache


def lands(flight: Flight, mine: Flight, timeout: float | None) -> bool:
    """Wait for a flight; tell whether it has landed in time.

    Raises RecursionError where threads would wait for each other for ever.
    """
    if timeout == 0:
        return flight.landed.is_set()
    WAITS[mine.leader] = flight
    try:
        # Its leader may wait for a flight, too, whose leader ... waits for us.
        ahead: Flight | None = flight
        while ahead and not ahead.landed.is_set():
            if ahead.leader == mine.leader:
                raise RecursionError("a call waits for itself: same arguments")
            ahead = WAITS.get(ahead.leader)
        return flight.landed.wait(timeout)
    finally:
        WAITS.pop(mine.leader, None)


# endregion flight
