"""Lesson 04: how a ledger is opened, and what it says once it is closed."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from lessons import load

from course.amqp import engines
from course.amqp.errors import MessagingError

lesson = load("04")


def test_a_ledger_in_memory_that_is_closed_says_so() -> None:
    """It was "no such table", of a database that had every table a moment before."""
    with lesson.Ledger() as ledger:
        assert ledger.once("q", lesson.user(1), "done")
    ledger.close()
    asks: list[Callable[[], object]] = [
        lambda: ledger.once("q", lesson.user(1), "done"),
        lambda: ledger.is_done("q", lesson.user(1)),
        lambda: ledger.effects("q"),
    ]
    for ask in asks:
        with pytest.raises(MessagingError, match="was in memory, and is closed"):
            ask()


def test_a_ledger_in_a_file_opens_again(tmp_path: Any) -> None:
    ledger = lesson.Ledger(tmp_path / "ledger")
    for n in range(2):
        with ledger:
            assert ledger.once("q", lesson.user(n), "done")
    assert len(ledger.effects("q")) == 2
    ledger.close()


def test_a_ledger_takes_a_url_of_sqlalchemy(tmp_path: Any) -> None:
    url = sa.URL.create("sqlite", database=str(tmp_path / "ledger"))
    with lesson.Ledger(url) as ledger:
        assert ledger.once("q", lesson.user(1), "done")
    assert (tmp_path / "ledger").exists()


def test_a_url_of_sqlalchemy_keeps_its_password() -> None:
    url = sa.URL.create("postgresql", "user", "s3cret", "host", database="name")
    assert engines.engine_for(url).url.password == "s3cret"


@pytest.mark.parametrize("option", ["", "?connect_timeout=2"])
def test_a_database_that_accepts_and_stays_silent_has_a_limit(
    monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.setattr(engines, "DEADLINE", 2.0 if not option else 60.0)
    monkeypatch.delenv("PGCONNECT_TIMEOUT", raising=False)
    begun = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(sa.exc.OperationalError, match="timeout"):
            lesson.Ledger(f"postgresql://postgres@127.0.0.1:{port}/name{option}")
    assert time.monotonic() - begun < 30
