"""How often to try, how long to wait in between; which waits make no sense."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from course.amqp.internals import CONNECTION_LOST

Done = TypeVar("Done")
TRIES = 4  # to do something on a connection that may be cut meanwhile
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


def tried_again(work: Callable[[], Done]) -> Done:
    """Do something that may be repeated, again if its connection is lost meanwhile."""
    for attempt in range(TRIES - 1):
        with suppress(*CONNECTION_LOST):
            return work()
        time.sleep(backoff(attempt))
    return work()


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
