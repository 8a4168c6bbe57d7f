"""A bounded cache in which each load says how long its value lives."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any


class PriceCache:
    """At most `maxsize` values, each with a life of its own."""

    def __init__(self, maxsize: int, clock: Callable[[], float]) -> None:
        """Keep the limit (1 or more) and the clock, which returns seconds."""
        raise NotImplementedError

    def get_or_load(self, key: Hashable, load: Callable[[], tuple[Any, float]]) -> Any:
        """Return the value that is kept for the key, else load it.

        `load` returns the value and its life in seconds, counted from the moment at
        which `load` returns. A value with a life of 0 or less is not kept. If there is
        no place left, an expired entry gives way, else the one whose last use (found or
        stored) is longest ago.

        Raises what `load` raises; then all entries are as before.
        """
        raise NotImplementedError

    def __len__(self) -> int:
        """Return how many entries are kept, those included that have expired since."""
        raise NotImplementedError
