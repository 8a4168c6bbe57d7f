"""Invalidations that Redis has not received, and what has been made good of them."""

from __future__ import annotations

from course.caching.locks import ForkSafeLock


class Debts:
    """Counts lost invalidations, and how many of them have been made good."""

    def __init__(self) -> None:
        self.lock = ForkSafeLock()
        self.made = 0
        self.paid = 0

    @property
    def owed(self) -> bool:
        """Tell whether Redis has still to be told of an invalidation."""
        return self.made > self.paid

    def add(self) -> None:
        """Note an invalidation that Redis did not receive."""
        with self.lock:
            self.made += 1

    def pay(self, made: int) -> None:
        """Note that the first `made` are settled; one made meanwhile is still owed."""
        with self.lock:
            self.paid = max(self.paid, made)

    def forgive(self) -> None:
        """Owe nothing more: the caller sees to it that the entries are deleted."""
        self.pay(self.made)
