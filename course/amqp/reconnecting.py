"""How long to wait before the next try to connect; which waits make no sense."""

from __future__ import annotations

import math
import random
import threading

LONGEST_PAUSE = 10.0  # seconds
FIRST_PAUSE = 0.05  # seconds; it doubles from there
MOST_AHEAD = 65_535  # deliveries; for AMQP, 0 is no limit at all
LONGEST_WAITING = threading.TIMEOUT_MAX / 2  # seconds; there may be a pause on top


def backoff(attempt: int) -> float:
    """Return seconds to wait before reconnecting: exponential, capped, with jitter.

    Without jitter, all clients of a broker that restarts come back at the same moment.
    """
    doubled = FIRST_PAUSE * 2.0 ** min(attempt, 8)
    return min(LONGEST_PAUSE, doubled) * random.uniform(0.5, 1)


def refuse_number(name: str, number: object, most: float = math.inf) -> None:
    """Raise ValueError for what is no whole number from 1 to the most.

    Nobody would work, or send anything, and nobody would say so.
    """
    if not isinstance(number, int) or not 1 <= number <= most:
        limit = "" if most == math.inf else f", at most {most}"
        raise ValueError(f"{name} is a whole number above 0{limit}, not {number!r:.40}")


def refuse_seconds(name: str, seconds: object) -> None:
    """Raise ValueError for what is no time that a thread can wait."""
    if not isinstance(seconds, int | float) or not 0 <= seconds <= LONGEST_WAITING:
        raise ValueError(f"{name} is a number of seconds, not {seconds!r:.40}")


def refuse_pool(prefetch: object, concurrency: object, drain: object) -> None:
    """Raise ValueError for a consumer that would do nothing, or take everything."""
    refuse_number("prefetch", prefetch, MOST_AHEAD)
    refuse_number("concurrency", concurrency)
    refuse_seconds("drain", drain)
