"""A warning that its operator reads once a minute, not a thousand times a second."""

from __future__ import annotations

import logging
import math
import time

LOG = logging.getLogger(__name__)
EVERY = 60.0  # seconds


class RareWarnings:
    """Logs what an operator has to know, each kind of it at most once a minute."""

    def __init__(self) -> None:
        self.warned: dict[str, float] = {}  # when last, by kind

    def warn(self, text: str, kind: str = "") -> None:
        """Log a warning, unless one of its kind was logged just before.

        By kind: else what happens at every call would hide an outage.
        """
        now = time.monotonic()
        if now >= self.warned.get(kind, -math.inf) + EVERY:
            self.warned[kind] = now
            LOG.warning("%s", text)

    def warn_if_slow(self, key: str, seconds: float, longest: float) -> None:
        """Warn of a load that took longer than its lease: it was done in vain."""
        if seconds > longest:
            took = f"{key!r:.80} took {seconds:.1f} s to load"
            self.warn(f"{took}: raise Policy.longest_load", "slow load")
