"""The examples that the guide shows: they run, and say what the lessons count."""

from __future__ import annotations

import argparse
import subprocess
import sys
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from lessons import ROOT, load


@pytest.mark.slow
def test_the_example_service_passes_its_own_tests() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "examples/service"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout


def samples(page: str) -> dict[tuple[str, ...], float]:
    """Return the numbers of a page by the name and the labels' values."""
    from prometheus_client.parser import text_string_to_metric_families

    found = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            found[(sample.name, *sample.labels.values())] = sample.value
    return found


def test_metrics_are_what_cache_and_consumer_count() -> None:
    pytest.importorskip("prometheus_client", reason="it is in requirements-dev.txt")
    import fakeredis

    from examples.service.metrics import LessonMetrics, metrics_served

    lesson = load("03")
    client: Any = fakeredis.FakeRedis(server=fakeredis.FakeServer())
    cache = lesson.RedisCache(client)
    rank = lesson.redis_cache(60, cache=cache, name="rank-1")(lambda user: user * 2)
    producer: dict[str, int] = {"confirmed": 7}
    metrics = LessonMetrics({"rank": cache.stats}, {"producer": producer})
    with metrics_served(metrics) as url:
        assert [rank(1), rank(1), rank(2)] == [2, 2, 4]
        with urllib.request.urlopen(url, timeout=10) as answer:
            first = samples(answer.read().decode())
        producer["failed"] = 1  # counted later: the page reads, it keeps nothing
        with urllib.request.urlopen(url, timeout=10) as answer:
            second = samples(answer.read().decode())

    assert first["cache_events_total", "rank", "hits"] == 1
    assert first["cache_events_total", "rank", "misses"] == 2
    assert first["cache_events_total", "rank", "loads"] == 2
    assert first["cache_load_seconds_total", "rank"] == cache.stats.load_ms / 1000
    assert first["messages_total", "producer", "confirmed"] == 7
    assert first["messages_total", "producer", "failed"] == 0
    assert second["messages_total", "producer", "failed"] == 1
    with pytest.raises(OSError):
        urllib.request.urlopen(url, timeout=10)


def test_metrics_say_how_long_the_oldest_message_waits_in_the_outbox() -> None:
    pytest.importorskip("prometheus_client", reason="it is in requirements-dev.txt")
    from examples.service.metrics import outbox_delay

    lesson = load("04")
    made = datetime(2026, 3, 1, 12, tzinfo=UTC)
    with lesson.Ledger() as ledger:
        assert outbox_delay(ledger, made.timestamp()) == 0
        for minutes in (0, 2):
            mail = lesson.NotificationMessage(
                recipient="a@b.org",
                subject="hi",
                content="",
                timestamp=(made + timedelta(minutes=minutes)).isoformat(),
            )
            with ledger.transaction() as db:
                ledger.put_in_outbox(db, [mail])
        assert outbox_delay(ledger, made.timestamp() + 300) == 300
        with (
            ledger.transaction() as db
        ):  # the first, as a relay does what is unreadable
            db.execute(lesson.statement("UPDATE outbox SET aside = 1 WHERE number = 1"))
        assert outbox_delay(ledger, made.timestamp() + 300) == 180


def test_a_trace_leads_from_the_order_to_its_notification() -> None:
    """Through the outbox, the broker, a failed attempt and the next one."""
    pytest.importorskip("opentelemetry.sdk", reason="it is in requirements-dev.txt")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import (
        InMemorySpanExporter,
    )

    from examples.service.tracing import trace_headers, trace_work

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("shop")
    lesson = load("04")
    mail = lesson.NotificationMessage(recipient="a@b.org", subject="hi", content="")
    with (
        lesson.open_env(argparse.Namespace(offline=True, url=None)) as env,
        lesson.Producer(env.rabbit) as producer,
        lesson.Ledger() as ledger,
    ):
        env.rabbit.setup_infrastructure()
        pipeline = lesson.UserDataPipeline(producer, ledger)
        with tracer.start_as_current_span("order"):
            outgoing = lesson.Outgoing(mail, about=trace_headers())
            pipeline.store("an order", outgoing)
        assert pipeline.relay() == 1  # later, in no span at all

        queue = env.rabbit.name("notifications")
        consumer = lesson.Greylisted(env.rabbit, queue, producer, ledger)
        trace_work(consumer, tracer)
        env.consume(consumer, 2)
        env.rabbit.teardown()
    assert consumer.counts["retried"] == consumer.counts["processed"] == 1

    order, *attempts = exporter.get_finished_spans()
    assert [attempt.name for attempt in attempts] == ["process", "process"]
    assert order.context
    for attempt in attempts:
        assert attempt.parent
        assert attempt.parent.span_id == order.context.span_id
        assert attempt.parent.trace_id == order.context.trace_id
