"""Names, envelopes and generations: how entries lie in Redis under a prefix."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from course.caching.client import escape, refuse_decoding, unlink_matching
from course.caching.codec import Envelope, Unreadable, envelope_of, payload_of
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
    """Entries under a prefix: prefix + kind + key; each carries its generation.

    There is one generation at a time, in a name of its own: entries of another one are
    misses, so that a new generation turns all of them into misses at once.
    """

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

    def sealed(
        self, value: Any, stored: bytes | None, ttl: float, delta: float = 0.0
    ) -> str:
        """Return the payload of a value; TypeError if JSON would change it."""
        now = self.clock()
        generation = generation_in(stored)
        envelope = Envelope(value, now, now + ttl, delta, generation)
        return payload_of(envelope)

    def opened(self, payload: bytes | None, stored: bytes | None) -> Envelope | None:
        """Return what is in a payload; None if it is not of the stored generation."""
        if payload is None:
            return None
        try:
            envelope = envelope_of(payload)
        except Unreadable:
            self.found_corrupt()
            return None
        if envelope is None or envelope.generation != generation_in(stored):
            return None
        return envelope

    def begin(self, pipe: Any, *names: bytes) -> list[bytes | None]:
        """Run the pipe; return the generation, begun if there is none, and the rest."""
        life = 12 * LONGEST_TTL  # it has to outlive every entry
        pipe.set(self.generation, uuid.uuid4().hex, ex=life, nx=True)
        pipe.mget(self.generation, *names)
        *_, begun, stored = pipe.execute()
        if begun:
            self.changed(self.generation)
        answer: list[bytes | None] = stored
        return answer

    def sweep(self, kind: str, pattern: str | bytes) -> int:
        """Delete what matches a glob among the names of a kind; return how many."""
        glob = pattern
        if isinstance(glob, str):
            glob = glob.encode()
        start = escape(f"{self.prefix}{kind}:").encode()
        return unlink_matching(self.client, start + glob)

    def changed(self, *names: bytes) -> None:
        """Note that these names, or all, have changed (for the near cache)."""

    def found_corrupt(self) -> None:
        """Note that a payload was no envelope of ours."""
