"""A warning that its operator reads once a minute, not a thousand times a second."""

from __future__ import annotations

import logging
import math
import time

LOG = logging.getLogger(__name__)
EVERY = 60.0  # seconds


class RareWarnings:
    """Logs what an operator has to know, at most once a minute."""

    def __init__(self) -> None:
        self.warned = -math.inf

    def warn(self, text: str) -> None:
        """Log a warning, unless one was logged just before."""
        now = time.monotonic()
        if now >= self.warned + EVERY:
            self.warned = now
            LOG.warning("%s", text)

    def warn_if_slow(self, key: str, seconds: float, longest: float) -> None:
        """Warn of a load that took longer than its lease: it was done in vain."""
        if seconds > longest:
            took = f"{key!r:.80} took {seconds:.1f} s to load"
            self.warn(f"{took}: raise Policy.longest_load")
