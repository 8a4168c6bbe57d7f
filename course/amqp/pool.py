"""The threads that work for a consumer: all that it asks for, or none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from course.amqp.errors import MessagingError


def start_threads(
    work: Callable[[], None], count: int, jobs: SimpleQueue[Any]
) -> list[threading.Thread]:
    """Start threads that take jobs until they get None.

    Raises:
        MessagingError: not so many can be started, as where a container allows few.
    """
    pool: list[threading.Thread] = []
    try:
        for _ in range(count):
            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            pool.append(thread)
    except RuntimeError as error:
        for _ in pool:
            jobs.put(None)
        reason = f"only {len(pool)} of {count} threads could be started: {error}"
        raise MessagingError(reason) from error
    return pool
