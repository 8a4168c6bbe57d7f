"""A lock that a forked child never finds closed."""

from __future__ import annotations

import os
import threading


class ForkSafeLock:
    """A lock per process: a fork copies a closed lock, but not the thread to open it.

    Use it in a `with` block. The handler of a signal may come in between, and use what
    its own thread has locked: it is let through, or it would wait for ever.
    """

    def __init__(self) -> None:
        self.locks: dict[int, threading.RLock] = {}  # by process id
        self.closed: threading.RLock | None = None

    def __reduce__(self) -> tuple[type[ForkSafeLock], tuple[()]]:
        # A copy of what it guards is another thing, with a lock of its own.
        return ForkSafeLock, ()

    def of_process(self) -> threading.RLock:
        """Return the plain lock of this process, for `with` where each hit counts."""
        process = os.getpid()
        return self.locks.get(process) or self.locks.setdefault(  # atomic
            process, threading.RLock()
        )

    def __enter__(self) -> None:
        lock = self.of_process()
        lock.acquire()
        self.closed = lock

    def __exit__(self, *_: object) -> None:
        # The one that was closed here, even if the block has forked since.
        if self.closed is not None:
            self.closed.release()
