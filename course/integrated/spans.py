"""How long messages were on each of their ways, and how busy each way was."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

AGAIN = "again"  # the hop of messages that were done before


@dataclass(frozen=True)
class Span:
    """How long some messages took, together, on one of their ways."""

    hop: str  # such as "archive to MongoDB": the store is its last word
    started: float  # seconds since 1970, which all processes share
    seconds: float
    messages: int


def span_since(hop: str, started: float, messages: int = 1) -> Span:
    """Return the span from an instant to now."""
    return Span(hop, started, time.time() - started, messages)


def busy_seconds(spans: Iterable[Span]) -> float:
    """Return how long at least one of the spans was under way."""
    total = 0.0
    counted_until = -math.inf
    for span in sorted(spans, key=lambda span: span.started):
        end = span.started + span.seconds
        if end > counted_until:
            # What overlaps with an earlier span is counted already.
            total += end - max(span.started, counted_until)
            counted_until = end
    return total


def milliseconds_each(spans: Sequence[Span]) -> list[float]:
    """Return how long each message took: as long as those it shared its way with."""
    each = []
    for span in spans:
        each += [1000 * span.seconds] * span.messages
    return each


@dataclass(frozen=True)
class Pace:
    """How fast messages went over a hop."""

    busy: float  # seconds
    speed: float  # messages a second, of the time that it was busy
    median: float  # milliseconds
    late: float  # milliseconds; one message in a hundred takes longer

    def __str__(self) -> str:
        times = f"p50 {self.median:.2f} ms, p99 {self.late:.2f} ms"
        return f"busy for {self.busy:.1f} s, {self.speed:.0f}/s, {times}"


def pace_of(spans: Sequence[Span]) -> Pace:
    """Return how fast the messages of these spans went."""
    each = milliseconds_each(spans)
    busy = busy_seconds(spans)
    return Pace(
        busy=busy,
        speed=len(each) / busy,
        median=float(np.quantile(each, 0.5)),
        late=float(np.quantile(each, 0.99)),
    )
