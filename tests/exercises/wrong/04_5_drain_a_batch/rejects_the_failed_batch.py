"""It rejects a batch that could not be stored, so the broker drops it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from math import inf
from typing import Any

TICK = 0.05  # seconds: how often an idle consumer looks at the event


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
    channel.basic_qos(prefetch_count=size)
    batch: list[bytes] = []
    last = 0  # tag of the last message of the batch
    due = inf
    for method, _, body in channel.consume(queue, inactivity_timeout=TICK):
        if method is not None:
            if not batch:
                due = time.monotonic() + longest
            batch.append(body)
            last = method.delivery_tag
        full = len(batch) == size or time.monotonic() >= due
        if batch and (full or stopping.is_set()):
            try:
                store(batch)
            except Exception:
                channel.basic_nack(last, multiple=True, requeue=False)
                raise
            channel.basic_ack(last, multiple=True)
            batch = []
            due = inf
        # Looked at again: it may have been set while the batch was stored.
        if stopping.is_set() and not batch:
            break
    channel.cancel()  # gives back what was sent ahead
