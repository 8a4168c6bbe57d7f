"""Fixtures of lesson 03: a clock that is told, a cache, hasty threads."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import fakeredis
import pytest
from lessons import load

from course.lab import ManualClock

lesson = load("03")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def cache(clock: ManualClock) -> Any:
    client = fakeredis.FakeRedis()
    return lesson.RedisCache(client, "module8:test:", clock=clock)


@pytest.fixture
def hasty() -> Iterator[None]:
    """Let threads take turns five hundred times as often: races are lost sooner."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(usual)
