"""On the stand-in and RabbitMQ: connections that are cut in the midst of a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from lessons import load

from course.amqp.trials import all_in
from course.amqp.workbench import remove_from
from course.integrated import broker as of_05
from course.integrated.broker import Broker
from course.naming import new_name

lesson = load("04")


@contextmanager
def shop_of(env: Any) -> Iterator[tuple[Broker, Callable[[], None]]]:
    """Yield lesson 05's broker through a network, and how to cut that."""
    with env.network() as (network, far):
        broker = Broker(lesson, far.parameters, new_name("."))
        try:
            yield broker, network.cut
        finally:
            near = Broker(lesson, env.parameters, broker.prefix)
            near.remove("the broker")


def once_after(step: Callable[..., Any], cut: Callable[[], None]) -> Callable[..., Any]:
    """Return a step after which the connection is cut, the first time."""
    cuts = [cut]

    def stepped(*args: Any) -> Any:
        found = step(*args)
        if cuts:
            cuts.pop()()
        return found

    return stepped


def test_what_is_declared_is_there(env: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with shop_of(env) as (broker, cut):
        monkeypatch.setattr(broker.rabbit, "look", once_after(broker.rabbit.look, cut))
        broker.declare()
        with env.rabbit.connect() as connection:
            assert len(broker.rabbit.existing(connection)) == len(broker.rabbit.plan)


def test_what_is_taken_is_all_that_was_there(
    env: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shop_of(env) as (broker, cut):
        broker.declare()
        queue = broker.name("archive.dead")
        with lesson.Producer(env.rabbit) as producer:
            for user in lesson.users(3):
                producer.publish(*lesson.publish_arguments(user, "", queue))

        noted = once_after(lambda letter: letter, cut)
        monkeypatch.setattr(of_05, "all_in", lambda *args: map(noted, all_in(*args)))
        assert len(broker.take_ids("archive.dead")) == 3


def test_what_is_counted_is_counted(env: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with shop_of(env) as (broker, cut):
        broker.declare()
        connect = once_after(broker.rabbit.connect, cut)
        monkeypatch.setattr(broker.rabbit, "connect", connect)
        assert broker.waiting_for_retry() == 0


def test_what_is_removed_is_gone(
    env: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with shop_of(env) as (broker, cut):
        broker.declare()
        monkeypatch.setattr(broker.rabbit, "look", once_after(broker.rabbit.look, cut))
        remove_from(broker.rabbit, "the broker")
        with env.rabbit.connect() as connection:
            assert not broker.rabbit.existing(connection)
    assert capsys.readouterr().err == ""
