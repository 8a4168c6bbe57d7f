"""Lets a tag live for the longest ttl, counted from before the load."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Collection
from typing import Any

TAG_LIFE = 86_400  # seconds: as long as any entry


class TaggedCache:
    """JSON values in Redis, each under a key and some tags."""

    def __init__(self, client: Any, prefix: str) -> None:
        """Keep a client of redis-py and the prefix of all names."""
        self.client = client
        self.prefix = prefix

    def value_name(self, key: str) -> str:
        """Return the name of a value in Redis."""
        return f"{self.prefix}value:{key}"

    def tag_names(self, tags: Collection[str]) -> list[str]:
        """Return the names of the tags' versions in Redis, always in one order."""
        return [f"{self.prefix}tag:{tag}" for tag in sorted(set(tags))]

    def get_or_load(
        self, key: str, tags: Collection[str], load: Callable[[], Any], ttl: int
    ) -> Any:
        """Return the value that is cached under the key, else load and store it."""
        names = self.tag_names(tags)
        payload, *found = self.client.mget([self.value_name(key), *names])
        if payload is not None and None not in found:
            entry = json.loads(payload)
            if entry["versions"] == [version.decode() for version in found]:
                return entry["value"]
        # Before the load: an invalidation from now on makes them versions of the past.
        versions = self.begin_versions(names)
        value = load()
        payload = json.dumps({"value": value, "versions": versions})
        self.client.set(self.value_name(key), payload, ex=ttl)
        return value

    def begin_versions(self, names: list[str]) -> list[str]:
        """Return the tags' versions, made where there is none; each lives long."""
        pipe = self.client.pipeline()
        for name in names:
            pipe.set(name, uuid.uuid4().hex, nx=True, ex=TAG_LIFE)
            pipe.expire(name, TAG_LIFE)
        pipe.mget(names)
        *_, found = pipe.execute()
        return [version.decode() for version in found]

    def invalidate(self, *tags: str) -> None:
        """Make a miss of every entry that has one of these tags, for all processes."""
        # No version is like one that was there before, so a lost one is a miss as well.
        if tags:
            self.client.delete(*self.tag_names(tags))
