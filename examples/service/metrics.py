"""A /metrics page of what lessons 03 and 04 count, in Prometheus' text format.

It needs prometheus_client (requirements-dev.txt). The rules in alerts.yml beside this
file watch it. See chapter 13 of the guide.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from course.amqp.storing import Store
from course.caching.stats import CacheStats

# What producers and consumers count. A series that begins at 1 has not increased in
# the eyes of Prometheus, so each of these is on the page before it happens.
EVENTS = (
    *("confirmed", "returned", "failed", "resent", "reconnects"),
    *("processed", "duplicates", "retried", "delayed", "dead", "acked", "unsettled"),
)


# region outbox
def outbox_delay(ledger: Store, now: float) -> float:
    """Return for how many seconds the outbox's oldest message has waited."""
    oldest = "SELECT body FROM outbox WHERE aside = 0 ORDER BY number LIMIT 1"
    for (body,) in ledger.read(oldest):
        made = datetime.fromisoformat(json.loads(body)["timestamp"])
        return now - made.timestamp()
    return 0.0


# endregion outbox


# region collector
class LessonMetrics(Collector):
    """Reads the counts of caches and consumers when Prometheus asks for them."""

    def __init__(
        self,
        caches: Mapping[str, CacheStats],
        actors: Mapping[str, Mapping[str, int]],
        outboxes: Mapping[str, Store] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.caches = caches
        self.actors = actors  # producers and consumers, by name
        self.outboxes = outboxes or {}
        self.clock = clock

    def collect(self) -> Iterator[Metric]:
        """Yield the counters of caches and messages, and the delay of outboxes."""
        by_event = ["cache", "event"]
        events = CounterMetricFamily("cache_events", "By event", labels=by_event)
        seconds = CounterMetricFamily(
            "cache_load_seconds", "Spent in loads that returned", labels=["cache"]
        )
        for name, stats in self.caches.items():
            counts = asdict(stats)
            seconds.add_metric([name], counts.pop("load_ms") / 1000)
            for event, number in counts.items():
                events.add_metric([name, event], number)
        yield events
        yield seconds
        by_event = ["actor", "event"]
        messages = CounterMetricFamily("messages", "Their fate", labels=by_event)
        for name, counted in self.actors.items():
            # A copy: another thread may count something new meanwhile.
            for event, number in (dict.fromkeys(EVENTS, 0) | dict(counted)).items():
                messages.add_metric([name, event], number)
        yield messages
        by_name = ["outbox"]
        delay = GaugeMetricFamily("outbox_delay_seconds", "Its oldest", labels=by_name)
        for name, ledger in self.outboxes.items():
            delay.add_metric([name], outbox_delay(ledger, self.clock()))
        yield delay


# endregion collector


# region serve
@contextmanager
def metrics_served(metrics: LessonMetrics, port: int = 0) -> Iterator[str]:
    """Serve /metrics on the loopback, on a free port by default; yield its URL."""
    registry = CollectorRegistry()
    registry.register(metrics)
    server, thread = start_http_server(port, "127.0.0.1", registry)
    try:
        yield f"http://127.0.0.1:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


# endregion serve
