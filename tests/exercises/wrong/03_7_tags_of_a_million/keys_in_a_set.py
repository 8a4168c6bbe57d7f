"""A tag is a set of keys, which are read and deleted one and all."""

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

    def get_or_load(
        self, key: str, tags: Collection[str], load: Callable[[], Any], ttl: int
    ) -> Any:
        """Return the value that is cached under the key, else load and store it."""
        name = f"{self.prefix}value:{key}"
        payload = self.client.get(name)
        if payload is not None:
            return json.loads(payload)
        value = load()
        pipe = self.client.pipeline(transaction=True)
        pipe.set(name, json.dumps(value), ex=ttl)
        for tag in tags:
            pipe.sadd(f"{self.prefix}tag:{tag}", name)
            pipe.expire(f"{self.prefix}tag:{tag}", TAG_LIFE)
        pipe.execute()
        return value

    def invalidate(self, *tags: str) -> None:
        """Make a miss of every entry that has one of these tags, for all processes."""
        for tag in tags:
            names = self.client.smembers(f"{self.prefix}tag:{tag}")
            self.client.unlink(f"{self.prefix}tag:{tag}", *names)
