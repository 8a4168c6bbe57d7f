"""A cache in Redis whose entries are invalidated by tag, however many there are."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any


class TaggedCache:
    """JSON values in Redis, each under a key and some tags."""

    def __init__(self, client: Any, prefix: str) -> None:
        """Keep a client of redis-py (which returns bytes) and the prefix of all names.

        Prefixes end with a colon, and none is the beginning of another.
        """
        raise NotImplementedError

    def get_or_load(
        self, key: str, tags: Collection[str], load: Callable[[], Any], ttl: int
    ) -> Any:
        """Return the value that is cached under the key, else load and store it.

        `load` returns what JSON can hold, None included. The value is a hit for `ttl`
        seconds (1 to 86,400), unless one of its tags is invalidated after its load has
        begun. A key comes with the same tags each time, in any order; there is at least
        one.

        Raises what `load` raises; then no value is stored.
        """
        raise NotImplementedError

    def invalidate(self, *tags: str) -> None:
        """Make a miss of every entry that has one of these tags, for all processes.

        The work depends on the number of tags, not on the number of entries. A tag that
        no entry has is not an error.
        """
        raise NotImplementedError
