"""Fixtures: the stand-in and a server in turn, with fresh collections."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(params=["stand-in", "live"])
def env(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Yield each in turn, by the classes of the module's own lesson."""
    live = request.param == "live"
    url = request.getfixturevalue("mongo_url") if live else None
    given = {"offline": not live, "require_live": live, "url": url}
    with request.module.lesson.open_env(argparse.Namespace(**given)) as found:
        assert found.live == live  # or it is compared with itself
        found.fresh()
        yield found
