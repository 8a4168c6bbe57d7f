"""Names and the generation: where entries lie in Redis under a prefix."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from course.caching.client import escape, refuse_decoding, unlink_matching
from course.caching.policy import LONGEST_TTL

# Kinds of names: values, leases (who may store), failures (for those who waited), tags.
KINDS = ("value", "generation", "lease", "failure", "tag")


def generation_in(stored: bytes | None) -> str:
    """Return a generation as text; where there is none, one that no entry is of."""
    return stored.decode() if stored else "none"


def milliseconds(seconds: float) -> int:
    """Return a time to live as Redis takes it: whole, and at least one."""
    return max(1, int(seconds * 1000))


class Store:
    """Names under a prefix: prefix + kind + ":" + key; and the generation's."""

    def __init__(self, client: Any, prefix: str, clock: Callable[[], float]) -> None:
        refuse_decoding(client)
        self.client = client
        self.prefix = prefix
        self.clock = clock
        self.starts = {kind: f"{prefix}{kind}:".encode() for kind in KINDS}
        self.generation = self.name("generation")

    def name(self, kind: str, key: str | bytes = "") -> bytes:
        """Return the name in Redis of a key, which may hold any bytes."""
        start = self.starts[kind]
        if isinstance(key, bytes):
            return start + key
        # A lone surrogate is a character of a file name, say; UTF-8 alone refuses it.
        return start + key.encode("utf-8", "surrogatepass")

    def names(self, kind: str, keys: tuple[str | bytes, ...]) -> list[bytes]:
        """Return the names in Redis of some keys."""
        return [self.name(kind, key) for key in keys]

    def run_with_generation(self, pipe: Any, *names: bytes) -> list[bytes | None]:
        """Run the pipe; return the generation, begun if there is none, and the rest."""
        # It outlives every entry; after 360 days every entry becomes a miss once.
        life = 12 * LONGEST_TTL
        pipe.set(self.generation, uuid.uuid4().hex, ex=life, nx=True)
        pipe.mget(self.generation, *names)
        *_, begun, stored = pipe.execute()
        if begun:
            self.drop_copies(self.generation)
        answer: list[bytes | None] = stored
        return answer

    def sweep(self, kind: str, pattern: str | bytes) -> int:
        """Delete what matches a glob among the names of a kind; return how many."""
        glob = pattern
        if isinstance(glob, str):
            glob = glob.encode()
        start = escape(f"{self.prefix}{kind}:").encode()
        return unlink_matching(self.client, start + glob)

    def drop_copies(self, *names: bytes) -> None:
        """Drop what this process holds of these names, or all (for the near cache)."""
