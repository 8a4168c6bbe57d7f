"""The heap still holds the end of a key's last life, which removes its new value."""

from __future__ import annotations

import heapq
import itertools
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any


class PriceCache:
    """At most `maxsize` values, each with a life of its own."""

    def __init__(self, maxsize: int, clock: Callable[[], float]) -> None:
        """Keep the limit and the clock."""
        self.maxsize = maxsize
        self.clock = clock
        self.entries: OrderedDict[Hashable, tuple[Any, float]] = OrderedDict()
        # Ends, the next one first; the number spares us from comparing keys.
        self.ends: list[tuple[float, int, Hashable]] = []
        self.numbers = itertools.count()

    def get_or_load(self, key: Hashable, load: Callable[[], tuple[Any, float]]) -> Any:
        """Return the value that is kept for the key, else load it."""
        entry = self.entries.get(key)
        if entry is not None and self.clock() < entry[1]:
            self.entries.move_to_end(key)
            return entry[0]
        value, life = load()
        self.entries.pop(key, None)
        if life <= 0:
            return value
        now = self.clock()
        if len(self.entries) >= self.maxsize:
            self.drop_expired(now)
        if len(self.entries) >= self.maxsize:
            self.entries.popitem(last=False)
        end = now + life
        self.entries[key] = (value, end)
        heapq.heappush(self.ends, (end, next(self.numbers), key))
        return value

    def drop_expired(self, now: float) -> None:
        """Drop all whose end has come, without a look at the others."""
        while self.ends and self.ends[0][0] <= now:
            _, _, key = heapq.heappop(self.ends)
            self.entries.pop(key, None)

    def __len__(self) -> int:
        """Return how many entries are kept, those included that have expired since."""
        return len(self.entries)
