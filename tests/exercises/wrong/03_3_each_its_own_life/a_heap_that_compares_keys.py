"""Keeps ends with their keys in a heap, which compares keys where ends are equal."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any


class PriceCache:
    """At most `maxsize` values, each with a life of its own."""

    def __init__(self, maxsize: int, clock: Callable[[], float]) -> None:
        """Keep the limit and the clock."""
        self.maxsize = maxsize
        self.clock = clock
        # A value and the second of its end, by key; the last use is at the end.
        self.entries: OrderedDict[Hashable, tuple[Any, float]] = OrderedDict()
        self.ends: list[Any] = []

    def get_or_load(self, key: Hashable, load: Callable[[], tuple[Any, float]]) -> Any:
        """Return the value that is kept for the key, else load it."""
        entry = self.entries.get(key)
        if entry is not None and self.clock() < entry[1]:
            self.entries.move_to_end(key)
            return entry[0]
        value, life = load()
        # From here on: the load may have stored other keys, and this one.
        self.entries.pop(key, None)
        if life > 0:
            now = self.clock()
            if len(self.entries) >= self.maxsize:
                self.make_room(now)
            self.entries[key] = (value, now + life)
            heapq.heappush(self.ends, (now + life, key))
        return value

    def make_room(self, now: float) -> None:
        """Drop what has expired, else the entry whose last use is longest ago."""
        while self.ends and self.ends[0][0] <= now:
            end, key = heapq.heappop(self.ends)
            # It may be gone, or have been loaded again since.
            if key in self.entries and self.entries[key][1] == end:
                del self.entries[key]
                return
        self.entries.popitem(last=False)

    def __len__(self) -> int:
        """Return how many entries are kept, those included that have expired since."""
        return len(self.entries)
