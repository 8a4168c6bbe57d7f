"""How long to wait before the next try to connect."""

from __future__ import annotations

import random

LONGEST_PAUSE = 10.0  # seconds
FIRST_PAUSE = 0.05  # seconds; it doubles from there


def backoff(attempt: int) -> float:
    """Return seconds to wait before reconnecting: exponential, capped, with jitter.

    Without jitter, all clients of a broker that restarts come back at the same moment.
    """
    doubled = FIRST_PAUSE * 2.0 ** min(attempt, 8)
    return min(LONGEST_PAUSE, doubled) * random.uniform(0.5, 1)
