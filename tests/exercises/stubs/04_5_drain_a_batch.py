"""Consume in batches, and finish the last one when told to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


def consume_batches(
    channel: Any,
    queue: str,
    store: Callable[[list[bytes]], None],
    stopping: threading.Event,
    *,
    size: int,
    longest: float,
) -> None:
    """Consume a queue in batches until an event is set.

    Args:
        channel: an open channel of pika's BlockingConnection, used by nobody else.
        queue: the queue, which exists.
        store: writes the bodies of a batch; slow. What it raises is let out.
        stopping: set by the handler of SIGTERM, from another thread, or by `store`.
        size: how many messages a batch has at most, 1 or more. Also how many the broker
            may have with this consumer.
        longest: seconds from the first message of a batch until it is stored.
    """
    raise NotImplementedError
