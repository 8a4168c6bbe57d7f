"""forget() drops the fresh price, not the copy that is kept for outages."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any


class PriceReader:
    """Prices that are kept, and serve for a while when the source is out."""

    def __init__(
        self,
        fetch: Callable[[str], Any],
        clock: Callable[[], float],
        ttl: float = 60.0,
        grace: float = 3600.0,
        pause: float = 5.0,
    ) -> None:
        """Keep the source, the clock and the limits, all in seconds."""
        self.fetch = fetch
        self.clock = clock
        self.ttl = ttl
        self.oldest = ttl + grace
        self.pause = pause
        self.lock = threading.Lock()
        self.fresh: dict[str, tuple[Any, float]] = {}
        self.last_good: dict[str, tuple[Any, float]] = {}
        self.forgotten: dict[str, int] = {}
        self.closed_until = -math.inf

    def get(self, key: str) -> Any:
        """Return a price: a fresh one, else a fetched one, else an old one."""
        with self.lock:
            now = self.clock()
            price, fetched_at = self.fresh.get(key, (None, -math.inf))
            if now - fetched_at < self.ttl:
                return price
            before = self.forgotten.get(key, 0)
            if now < self.closed_until:
                return self.stand_in(key, ConnectionError("the source is out"))
        try:
            price = self.fetch(key)
        except OSError as error:
            with self.lock:
                self.closed_until = self.clock() + self.pause
                return self.stand_in(key, error)
        except Exception:
            with self.lock:
                self.fresh.pop(key, None)
                self.last_good.pop(key, None)
            raise
        with self.lock:
            if self.forgotten.get(key, 0) == before:
                self.fresh[key] = (price, self.clock())
                self.last_good[key] = self.fresh[key]
        return price

    def stand_in(self, key: str, error: OSError) -> Any:
        """Return the last good price if it is not too old, else raise the error."""
        price, fetched_at = self.last_good.get(key, (None, -math.inf))
        if self.clock() - fetched_at >= self.oldest:
            raise error
        return price

    def forget(self, key: str) -> None:
        """Drop the price of a key, and do not keep what is being fetched of it now."""
        with self.lock:
            self.fresh.pop(key, None)
            self.forgotten[key] = self.forgotten.get(key, 0) + 1
