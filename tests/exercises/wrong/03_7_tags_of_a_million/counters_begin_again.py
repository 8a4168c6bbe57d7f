"""A version is a counter: one that Redis drops begins again, and old entries match."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import Any

TAG_LIFE = 7 * 86_400  # seconds


class TaggedCache:
    """JSON values in Redis, each under a key and some tags."""

    def __init__(self, client: Any, prefix: str) -> None:
        """Keep a client of redis-py and the prefix of all names."""
        self.client = client
        self.prefix = prefix

    def tag_names(self, tags: Collection[str]) -> list[str]:
        """Return the names of the tags' counters, always in one order."""
        return [f"{self.prefix}tag:{tag}" for tag in sorted(set(tags))]

    def get_or_load(
        self, key: str, tags: Collection[str], load: Callable[[], Any], ttl: int
    ) -> Any:
        """Return the value that is cached under the key, else load and store it."""
        name = f"{self.prefix}value:{key}"
        tag_names = self.tag_names(tags)
        payload, *counts = self.client.mget([name, *tag_names])
        # A tag that nobody has invalidated has no counter.
        versions = [int(count or 0) for count in counts]
        if payload is not None:
            entry = json.loads(payload)
            if entry["versions"] == versions:
                return entry["value"]
        for tag_name in tag_names:
            self.client.expire(tag_name, TAG_LIFE)
        value = load()
        payload = json.dumps({"value": value, "versions": versions})
        self.client.set(name, payload, ex=ttl)
        return value

    def invalidate(self, *tags: str) -> None:
        """Make a miss of every entry that has one of these tags, for all processes."""
        pipe = self.client.pipeline()
        for name in self.tag_names(tags):
            pipe.incr(name)
            pipe.expire(name, TAG_LIFE)
        pipe.execute()
