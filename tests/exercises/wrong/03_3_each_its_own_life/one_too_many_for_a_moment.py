"""It stores first and makes room afterwards, so one entry too many can be seen."""

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
        # From here on: the load may have stored other keys, and this one.
        self.entries.pop(key, None)
        if life > 0:
            self.entries[key] = (value, self.clock() + life)
            if len(self.entries) > self.maxsize:
                self.make_room(self.clock())
        return value

    def make_room(self, now: float) -> None:
        """Drop what has expired, else the entry whose last use is longest ago."""
        expired = [key for key, (_, end) in self.entries.items() if end <= now]
        for key in expired:
            del self.entries[key]
        if not expired:
            self.entries.popitem(last=False)

    def __len__(self) -> int:
        """Return how many entries are kept, those included that have expired since."""
        return len(self.entries)
