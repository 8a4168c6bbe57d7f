"""Each read begins the life of an entry again."""

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
        # A value, the second of its end and its life, by key; the last use is last.
        self.entries: OrderedDict[Hashable, tuple[Any, float, float]] = OrderedDict()

    def get_or_load(self, key: Hashable, load: Callable[[], tuple[Any, float]]) -> Any:
        """Return the value that is kept for the key, else load it."""
        entry = self.entries.get(key)
        now = self.clock()
        if entry is not None and now < entry[1]:
            value, _, life = entry
            self.entries[key] = (value, now + life, life)
            self.entries.move_to_end(key)
            return value
        value, life = load()
        # From here on: the load may have stored other keys, and this one.
        self.entries.pop(key, None)
        if life > 0:
            now = self.clock()
            if len(self.entries) >= self.maxsize:
                self.make_room(now)
            self.entries[key] = (value, now + life, life)
        return value

    def make_room(self, now: float) -> None:
        """Drop what has expired, else the entry whose last use is longest ago."""
        expired = [key for key, (_, end, _) in self.entries.items() if end <= now]
        for key in expired:
            del self.entries[key]
        if not expired:
            self.entries.popitem(last=False)

    def __len__(self) -> int:
        """Return how many entries are kept, those included that have expired since."""
        return len(self.entries)
