"""A full cache makes room also for a key that has a place: another entry goes."""

from __future__ import annotations

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

    def get_or_load(self, key: Hashable, load: Callable[[], tuple[Any, float]]) -> Any:
        """Return the value that is kept for the key, else load it."""
        entry = self.entries.get(key)
        if entry is not None and self.clock() < entry[1]:
            self.entries.move_to_end(key)
            return entry[0]
        value, life = load()
        if life > 0:
            now = self.clock()
            if len(self.entries) >= self.maxsize:
                self.make_room(key, now)
            self.entries[key] = (value, now + life)
            self.entries.move_to_end(key)
        else:
            self.entries.pop(key, None)
        return value

    def make_room(self, wanted: Hashable, now: float) -> None:
        """Drop an entry that has expired, else the one used longest ago."""
        for key, (_, end) in self.entries.items():
            # The place of the key that is wanted is written again anyway.
            if end <= now and key != wanted:
                del self.entries[key]
                return
        self.entries.popitem(last=False)

    def __len__(self) -> int:
        """Return how many entries are kept, those included that have expired since."""
        return len(self.entries)
