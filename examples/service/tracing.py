"""One trace from an order to its notification, through outbox, broker and retries.

It needs opentelemetry-sdk (requirements-dev.txt). See chapter 13 of the guide.
"""

from __future__ import annotations

from typing import Any

from opentelemetry import propagate
from opentelemetry.trace import SpanKind, Tracer

from course.amqp.settling import Delivery


# region tracing
def trace_headers() -> dict[str, Any]:
    """Return properties that carry the current span to the consumer."""
    headers: dict[str, str] = {}
    propagate.inject(headers)  # adds "traceparent"
    return {"headers": headers}


def trace_work(consumer: Any, tracer: Tracer) -> None:
    """Make each delivery of a consumer a span in the trace of its sender."""
    process = consumer.process

    def traced(delivery: Delivery) -> None:
        sender = propagate.extract(delivery.properties.headers or {})
        span = tracer.start_as_current_span(
            "process", sender, SpanKind.CONSUMER, {"queue": consumer.queue}
        )
        with span:
            process(delivery)

    consumer.process = traced


# endregion tracing
