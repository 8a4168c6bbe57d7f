"""What a consumer works with: its parts, and all threads that it asks for, or none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
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


def refuse_unfit(consumer: Any) -> None:
    """Raise TypeError for what would show only when a message has failed, if ever."""
    work = getattr(consumer, "handle", None)
    kinds = (iscoroutinefunction, isgeneratorfunction, isasyncgenfunction)
    if any(is_one(work) for is_one in kinds):
        # Called, it only returns what would have to be awaited, or gone through.
        raise TypeError(
            "handle() is a coroutine or generator, which nobody runs: "
            "write a plain function"
        )
    for name, needed in (("producer", "send"), ("ledger", "once")):
        part = getattr(consumer, name)
        if part is not None and not hasattr(part, needed):
            # Trap: a ledger in the producer's place is no inbox, and nobody says so.
            order = "a consumer takes rabbit, queue, producer, ledger"
            raise TypeError(f"the {name} has no {needed}(): {part!r:.40}; {order}")
    permanent = getattr(consumer, "permanent", ())
    for kind in permanent if isinstance(permanent, tuple) else (permanent,):
        if not isinstance(kind, type) or not issubclass(kind, BaseException):
            form = "an exception's class, or a tuple of them"
            raise TypeError(f"permanent is {form}, not {permanent!r:.60}")
