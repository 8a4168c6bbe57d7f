"""A /metrics page of what lessons 03 and 04 count, in Prometheus' text format.

It needs prometheus_client (requirements-dev.txt). See chapter 13 of the guide.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from course.caching.stats import CacheStats


# region collector
class LessonMetrics(Collector):
    """Reads the counts of caches and consumers when Prometheus asks for them."""

    def __init__(
        self,
        caches: Mapping[str, CacheStats],
        actors: Mapping[str, Mapping[str, int]],
    ) -> None:
        self.caches = caches
        self.actors = actors  # producers and consumers, by name

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield cache_events_total, cache_load_seconds_total, messages_total."""
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
            for event, number in dict(counted).items():
                messages.add_metric([name, event], number)
        yield messages


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
