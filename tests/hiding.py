"""A failing test shows what it was given: a URL, but not the password in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from dotenv import dotenv_values

from course.services import HIDDEN, TOO_SHORT, USUAL_WORDS

ROOT = Path(__file__).resolve().parent.parent
VARIABLES = ("DATABASE_URL", "MONGODB_URI", "REDIS_URL", "RABBITMQ_URL")


def passwords() -> set[str]:
    """Return those of the services that the environment or .env names."""
    found = set()
    file = dotenv_values(ROOT / ".env")
    for variable in VARIABLES:
        url = os.environ.get(variable) or file.get(variable) or ""
        login = url.rpartition("@")[0].partition("://")[2]
        written = login.partition(":")[2] or login
        found |= {written, unquote(written)}
    return {one for one in found if len(one) >= TOO_SHORT and one not in USUAL_WORDS}


def without(secrets: set[str], text: str) -> str:
    """Return a text in which they are hidden."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: Any) -> None:
    """Hide passwords in what is printed of a test that has failed."""
    if report.failed and (secrets := passwords()):
        report.longrepr = without(secrets, report.longreprtext)
        report.sections = [(name, without(secrets, s)) for name, s in report.sections]
