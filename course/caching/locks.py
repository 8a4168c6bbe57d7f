"""A lock that a forked child never finds closed."""

from __future__ import annotations

import os
import threading


class ForkSafeLock:
    """A lock per process: a fork copies a closed lock, but not the thread to open it.

    Use it in a `with` block; it is not reentrant.
    """

    def __init__(self) -> None:
        self.locks: dict[int, threading.Lock] = {}  # by process id
        self.closed: threading.Lock | None = None

    def __reduce__(self) -> tuple[type[ForkSafeLock], tuple[()]]:
        # A copy of what it guards is another thing, with a lock of its own.
        return ForkSafeLock, ()

    def __enter__(self) -> None:
        process = os.getpid()
        lock = self.locks.get(process)
        if lock is None:
            lock = self.locks.setdefault(process, threading.Lock())  # atomic
        lock.acquire()
        self.closed = lock

    def __exit__(self, *_: object) -> None:
        # The one that was closed here, even if the block has forked since.
        if self.closed is not None:
            self.closed.release()
