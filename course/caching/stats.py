"""What a cache counts, for its tests and for a metrics endpoint."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from course.caching.locks import ForkSafeLock


@dataclass
class CacheStats:
    """Counts of one tier; every lookup is a hit or a miss."""

    hits: int = 0
    misses: int = 0
    corrupt: int = 0  # payloads that are not an envelope of ours
    trips: int = 0  # commands sent: round trips
    loads: int = 0  # calls of a loader
    load_ms: int = 0  # spent in those that returned
    waits: int = 0  # lookups that shared another caller's load
    refused: int = 0  # loaded values not kept: deleted meanwhile, or not JSON
    early: int = 0  # loads begun before expiry
    stale: int = 0  # old values served while a load failed or was under way
    errors: int = 0  # commands that Redis did not answer, or refused
    skipped: int = 0  # commands not sent: the breaker open, or no connection free

    def __post_init__(self) -> None:
        self.lock = ForkSafeLock()

    def add(self, name: str, number: int = 1) -> None:
        """Count, from any thread: an unlocked read and write would lose some."""
        with self.lock.of_process():
            self.__dict__[name] += number

    def add_lookups(self, number: int, hits: int) -> None:
        """Count lookups, of which so many were hits: a lock costs more than a count."""
        with self.lock.of_process():
            self.hits += hits
            self.misses += number - hits

    def as_json(self) -> str:
        """Return the counts as a JSON object, for a metrics endpoint."""
        return json.dumps(asdict(self))
