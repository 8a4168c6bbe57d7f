"""Lesson 04 on RabbitMQ: the golden claims, and nothing left behind."""

from __future__ import annotations

import re
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from lessons import load
from services import wait_for

from course.amqp.finding import parameters_of
from course.amqp.topology import Planned

lesson = load("04")


def ours_on(url: str) -> set[str]:
    """Return which of our standard names exist, by passive declares."""
    rabbit = lesson.RabbitMQConnection(parameters_of(url), "module8")
    with rabbit.connect() as connection:
        return {item.name for item in rabbit.existing(connection)}


def test_a_live_run_is_the_golden_run_and_leaves_nothing(
    rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    named: dict[tuple[str, str], Planned] = {}
    declare = lesson.RabbitMQConnection.declare

    def spy(self: Any, channel: Any, plan: Any) -> None:
        named.update({(item.kind, item.name): item for item in plan})
        declare(self, channel, plan)

    before = ours_on(rabbitmq_url)
    monkeypatch.setattr(lesson.RabbitMQConnection, "declare", spy)
    assert lesson.main(["--require-live", "--url", rabbitmq_url]) == 0
    printed = capsys.readouterr().out
    golden = Path(__file__).with_name("golden.txt").read_text()
    claims = re.compile(r"^  \[ok\] .*$", re.MULTILINE)
    made, usual = claims.findall(printed), claims.findall(golden)
    assert usual
    assert [claim for claim in usual if claim in made] == [
        claim for claim in made if claim in usual
    ]
    # From 4.3 on queues have retries and strict priorities of their own.
    missing = [claim for claim in usual if claim not in made]
    assert len(missing) <= len(set(made) - set(usual)) <= 2
    assert "0 skipped, 0 failed" in printed
    rabbit = lesson.RabbitMQConnection(parameters_of(rabbitmq_url))
    with rabbit.connect() as one:
        assert not [item for item in named.values() if rabbit.look(one, item)]
    assert len(named) > 30
    assert ours_on(rabbitmq_url) == before


@pytest.mark.slow
def test_what_a_killed_run_leaves_behind_expires(rabbitmq_url: str) -> None:
    where = parameters_of(rabbitmq_url)
    rabbit = lesson.RabbitMQConnection(where, f"module8.{uuid.uuid4().hex[:8]}")
    short = lesson.RabbitMQConnection(where, rabbit.prefix, expires=1.0)
    short.setup_infrastructure()

    def gone() -> bool:
        time.sleep(1.5)  # a look may count as use
        with rabbit.connect() as connection:
            return not rabbit.existing(connection)

    try:
        wait_for(gone, 30)
    finally:
        rabbit.teardown()
