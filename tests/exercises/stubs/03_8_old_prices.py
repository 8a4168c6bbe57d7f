"""Read prices from a source that is out now and then."""

from __future__ import annotations

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
        """Keep the source, the clock and the limits, all in seconds.

        `fetch` returns a price, raises OSError if the source is out, and raises
        something else (LookupError) as its answer. `clock` returns seconds.
        """
        raise NotImplementedError

    def get(self, key: str) -> Any:
        """Return a price: a fresh one, else a fetched one, else an old one.

        A price is fresh while it is younger than `ttl`, and serves in an outage while
        it is younger than `ttl + grace`. Its age counts from the end of its fetch. When
        a fetch fails with OSError, a pause of `pause` seconds begins: no fetch of any
        key.

        Raises OSError in an outage or a pause if no price may serve. Any other
        exception of `fetch` is raised as it is, and drops the key's old price.
        """
        raise NotImplementedError

    def forget(self, key: str) -> None:
        """Drop the price of a key, and do not keep what is being fetched of it now."""
        raise NotImplementedError
