"""A later fetch takes the mark away, so that the earlier one is kept."""

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
        self.grace = grace
        self.pause = pause
        self.lock = threading.Lock()  # never held during a fetch
        self.prices: dict[str, tuple[Any, float]] = {}  # and the end of the fetch
        self.forgotten: dict[str, int] = {}  # how often
        self.retry_at = -math.inf

    def get(self, key: str) -> Any:
        """Return a price: a fresh one, else a fetched one, else an old one."""
        with self.lock:
            now = self.clock()
            found = self.prices.get(key)
            if found is not None and now - found[1] < self.ttl:
                return found[0]
            is_pause = now < self.retry_at
            self.forgotten.pop(key, None)  # from now on it counts
        if is_pause:
            return self.old_price(key, ConnectionError("the source is out"))
        try:
            price = self.fetch(key)
        except OSError as error:
            with self.lock:
                self.retry_at = self.clock() + self.pause
            return self.old_price(key, error)
        except Exception:
            self.forget(key)
            raise
        with self.lock:
            if key not in self.forgotten:
                self.prices[key] = (price, self.clock())
        return price

    def old_price(self, key: str, error: OSError) -> Any:
        """Return the price that is kept, if it is not too old, else raise the error."""
        with self.lock:
            found = self.prices.get(key)
            now = self.clock()
        if found is None or now - found[1] >= self.ttl + self.grace:
            raise error
        return found[0]

    def forget(self, key: str) -> None:
        """Drop the price of a key, and do not keep what is being fetched of it now."""
        with self.lock:
            self.prices.pop(key, None)
            self.forgotten[key] = self.forgotten.get(key, 0) + 1
