"""A plugin of pytest for `make mutants`: which test is the one that runs a line.

Coverage keeps a name, a context, with each line that it has seen. This plugin lets the
name be that of the test, here and, by a variable, in the processes that tests start.
What a fixture of more than one test runs has a name of its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import coverage
import pytest

CONTEXT = "MUTANTS_CONTEXT"  # coverage's settings for processes refer to it
NOTES = "MUTANTS_NOTES"  # the file for what is known of each test
SHARED = "fixture "

seconds: dict[str, float] = {}
passed: set[str] = set()
fixtures: dict[str, list[str]] = {}


def enter(context: str) -> None:
    """Let all lines that run from now on be noted under this name."""
    os.environ[CONTEXT] = context
    current = coverage.Coverage.current()
    if current is not None:
        current.switch_context(context)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[Any]:
    """Note what runs under the test's name, and what it may have from fixtures."""
    fixtures[item.nodeid] = list(getattr(item, "fixturenames", ()))
    enter(item.nodeid)
    result = yield
    enter("")
    return result


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Iterator[Any]:
    """Note what a fixture runs under its own name if several tests have it."""
    before = os.environ.get(CONTEXT, "")
    if fixturedef.scope != "function":
        enter(f"{SHARED}{fixturedef.argname}")
    try:
        return (yield)
    finally:
        enter(before)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note how long a test took with its fixtures, and whether it passed."""
    whole = seconds.get(report.nodeid, 0.0) + report.duration
    seconds[report.nodeid] = round(whole, 3)
    if report.when == "call" and report.passed:
        passed.add(report.nodeid)


def pytest_sessionfinish() -> None:
    """Write down what is known of each test that passed."""
    notes = {
        name: {"seconds": seconds[name], "fixtures": fixtures[name]}
        for name in seconds
        if name in passed
    }
    Path(os.environ[NOTES]).write_text(json.dumps(notes), "utf-8")
