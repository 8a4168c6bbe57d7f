"""Lesson 03's services and tools, against plain computations."""

from __future__ import annotations

import asyncio
import itertools
import math
from asyncio import StreamReader, StreamWriter
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from lessons import load

from course.caching.service import probe, speaks_without_tls
from course.errors import BadInput
from course.lab import in_background
from course.network import LoopbackServer
from course.services import ServiceAddress

lesson = load("03")


def test_recommendations_equal_a_plain_computation(cache: Any) -> None:
    engine = lesson.RecommendationEngine(cache)
    for user, mine in engine.bought.items():
        score: Counter[str] = Counter()
        for other in engine.bought.values():
            for item in other - mine:
                score[item] += len(other & mine)
        best = sorted(score, key=lambda item: (-score[item], item))[:3]
        assert engine.recommend(user) == engine.recommend(user, count=3) == best
    assert cache.stats.misses == len(engine.bought) == 40
    assert len(engine.trending(4)) == 4
    assert engine.product("p03") == "Product 3"


def test_predictions_and_embeddings(cache: Any) -> None:
    service = lesson.MLPredictionService(cache, "churn-1", 1 / 20)
    assert service.predict(30) == 0.5
    assert service.predict(50) == pytest.approx(1 / (1 + math.exp(-1)))
    vector = service.embedding("text")
    assert vector == service.embedding("text")
    assert len(vector) == 8
    assert service.embedding.cache_info().hits >= 1


def test_fibonacci() -> None:
    numbers = lesson.FibonacciCalculator()
    assert [numbers.naive(n) for n in range(12)] == [
        numbers.cached(n) for n in range(12)
    ]
    assert list(itertools.islice(map(numbers.cached, range(8)), 8)) == [
        0, 1, 1, 2, 3, 5, 8, 13,
    ]  # fmt: skip


def test_the_timer_times_and_prints(capsys: pytest.CaptureFixture[str]) -> None:
    with lesson.PerformanceTimer("a query") as timer:
        pass
    assert timer.seconds >= 0
    assert "a query: " in capsys.readouterr().err


def test_where_nobody_answers_nobody_speaks_without_tls() -> None:
    url: Any = SimpleNamespace(
        hosts=[SimpleNamespace(name="127.0.0.1", port=1)], connect_limit=1.0
    )
    assert not speaks_without_tls(url)


class Endless(LoopbackServer):
    """Begins an answer of endless length, and goes on with it."""

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        await reader.read(4096)
        writer.write(b"$9223372036854775807\r\n")
        while True:
            writer.write(b"x" * 1000)
            await writer.drain()
            await asyncio.sleep(0.05)


def test_an_answer_without_an_end_is_no_redis() -> None:
    with Endless() as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        address = ServiceAddress(url, "--url", True, connect_limit=0.4)
        probing = in_background(lambda: probe(address))
        with pytest.raises(BadInput, match="another kind of server answers there"):
            probing.result(20)
