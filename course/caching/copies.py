"""Copies in this process of what is stored in Redis, dropped when it changes there."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

from course.caching.locks import ForkSafeLock
from course.caching.policy import refuse_size

PROMISE = 1.0  # seconds for which copies are good without news, whatever holds it up


class Copies:
    """A bounded dict of payloads by name; it is empty while nobody tells of changes.

    The race that it is made for: a payload is fetched, changes in Redis, and the news
    arrives before the payload is kept. So a name is marked before it is asked for, and
    the news removes the mark.
    """

    def __init__(self, maxsize: int) -> None:
        refuse_size("maxsize", maxsize, 0)
        self.maxsize = maxsize
        self.lock = ForkSafeLock()
        self.held: dict[bytes, Any] | None = None  # None: nobody tells of changes
        self.valid_until = -math.inf  # by time.monotonic()

    @property
    def followed(self) -> bool:
        """Tell whether changes are being followed."""
        return self.held is not None

    def __len__(self) -> int:
        return len(self.held or ())

    def begin_copies(self) -> None:
        """Begin to keep copies: from now on every change is told."""
        with self.lock:
            self.held = {}
            self.valid_until = time.monotonic() + PROMISE

    def confirm_copies(self, asked: float) -> None:
        """Note that all changes from before this moment have been told."""
        self.valid_until = asked + PROMISE

    def are_confirmed(self) -> bool:
        """Tell whether the copies count now."""
        return time.monotonic() < self.valid_until

    def end_copies(self) -> None:
        """Keep no copies any more: changes may be missed."""
        with self.lock:
            self.held = None

    def drop(self, *names: bytes) -> None:
        """Drop the copies, and the marks, of these names, or all."""
        with self.lock:
            if self.held is None:
                return
            for name in names or list(self.held):
                self.held.pop(name, None)

    def compare(self, name: bytes, payload: bytes | None) -> None:
        """Drop all copies if that of this name differs from what is stored."""
        with self.lock:
            copy = (self.held or {}).get(name, payload)
            # A mark is an object: what it stands for is still to come.
            differs = isinstance(copy, bytes | None) and copy != payload
        if differs:
            self.drop()

    # region near
    def find(
        self,
        names: Sequence[bytes],
        mark: object,
    ) -> list[bytes | None] | None:
        """Return the copies of all names; None if one is missing, and mark that."""
        with self.lock.of_process():
            # By the clock: who tells of news may be kept waiting.
            if self.held is None or not self.are_confirmed():
                return None
            found: list[Any] = []
            missing = False
            for name in names:
                item = self.held.get(name, mark)
                # Another reader's mark is an object, too, and not a copy.
                if item is not None and not isinstance(item, bytes):
                    self.held[name] = mark
                    missing = True
                found.append(item)
            if not missing:
                return found
            # A mark takes a place, too, and what is asked for may never be kept.
            self.shrink(self.held)
            return None

    def keep(
        self, names: Sequence[bytes], payloads: Sequence[bytes | None], mark: object
    ) -> None:
        """Keep what was fetched of the names that still carry our mark."""
        with self.lock:
            if self.held is None:
                return
            for name, payload in zip(names, payloads, strict=True):
                # Without the mark, it has changed: the payload may be old.
                if self.held.get(name) is mark:
                    self.held[name] = payload
            self.shrink(self.held)

    # endregion near

    def shrink(self, held: dict[bytes, Any]) -> None:
        """Drop the oldest beyond the size."""
        while len(held) > self.maxsize:
            del held[next(iter(held))]
