"""Fixtures: the same rows on SQLite and on PostgreSQL."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest


@pytest.fixture(scope="module")
def both(
    request: pytest.FixtureRequest, postgres_url: str
) -> Iterator[tuple[Any, Any]]:
    """Yield the same rows on both, by the classes of the module's own lesson."""
    lesson = request.module.lesson
    with ExitStack() as stack:

        def opened(url: str) -> Any:
            given = {"offline": not url, "require_live": bool(url), "url": url}
            return stack.enter_context(lesson.open_env(argparse.Namespace(**given)))

        sqlite, postgres = opened(""), opened(postgres_url)
        assert (sqlite.live, postgres.live) == (False, True)
        yield sqlite, postgres
