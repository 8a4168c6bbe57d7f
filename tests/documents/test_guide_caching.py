"""The shapes of the guide's chapter 3: an entry of Redis, and what listings import."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import fakeredis
import pytest
from lessons import ROOT, load

from course.caching.codec import Envelope, envelope_of, payload_of

GUIDE = (ROOT / "COMPREHENSIVE_GUIDE.md").read_text("utf-8")
SHAPES = GUIDE.partition("\n## 3. ")[2].partition("\n### 3.1 ")[0]


def block(kind: str) -> str:
    """Return the only fenced block of a kind among the shapes."""
    (found,) = re.findall(rf"^```{kind}\n(.*?)^```$", SHAPES, re.M | re.S)
    return str(found)


@pytest.fixture
def name() -> bytes:
    """Return the first name in Redis that the guide shows."""
    return block("text").split()[0].encode()


def test_the_envelope_is_what_the_cache_stores_under_that_name(name: bytes) -> None:
    shown = json.loads(block("json"))
    payload = json.dumps(shown, separators=(",", ":"))
    found = envelope_of(name, payload.encode())
    assert isinstance(found, Envelope)
    assert payload_of(name, found) == payload


def test_the_name_and_the_value_are_those_of_recommend_7(name: bytes) -> None:
    lesson = load("03")
    cache = lesson.RedisCache(fakeredis.FakeRedis(), "shop:")
    engine = lesson.RecommendationEngine(cache)
    recommended = engine.recommend(7)
    assert cache.client.exists(name)
    assert recommended == json.loads(block("json"))["value"]


def test_the_kinds_of_names_are_those_of_the_store() -> None:
    lesson = load("03")
    cache = lesson.RedisCache(fakeredis.FakeRedis(), "shop:")
    shown = re.findall(r"^(shop:\w+:)", block("text"), re.M)
    assert {start.encode() for start in shown} == set(cache.starts.values())


def test_the_imports_of_the_listings_work() -> None:
    done = subprocess.run(
        [sys.executable, "-c", block("python")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
