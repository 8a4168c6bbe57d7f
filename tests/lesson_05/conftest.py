"""The sample, its backtest and its forecast, made once for the tests of lesson 05."""

from __future__ import annotations

from typing import Any

import pytest
from lesson_05.logs import DAYS, END, lesson


@pytest.fixture(scope="session")
def log() -> Any:
    return lesson.read_log(lesson.SAMPLE)


@pytest.fixture(scope="session")
def record(log: Any) -> Any:
    return lesson.Backtest(log, END, DAYS)


@pytest.fixture(scope="session")
def now(log: Any) -> Any:
    return lesson.Forecast(log, int(log.day.max()), DAYS)
