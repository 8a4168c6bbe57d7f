"""Lesson 04: effects that happen once, and an outbox that loses nothing."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from lesson_04.amqp_helpers import open_stand_in
from lessons import load

from course.amqp.errors import PublishFailed
from course.amqp.trials import emptied
from course.lab import in_background

lesson = load("04")


@pytest.fixture(scope="module")
def env() -> Iterator[Any]:
    with open_stand_in() as found:
        yield found


def test_an_effect_and_its_mark_commit_together(tmp_path: Path) -> None:
    with lesson.Ledger(str(tmp_path / "ledger")) as ledger:
        message = lesson.user(1)
        assert ledger.once("a", message, "done")
        assert not ledger.once("a", message, "done")
        assert ledger.once("b", message, "done")  # a fanout copy is another matter
        with ledger.transaction() as db:
            db.execute(sa.text("DROP TABLE effects"))
        with pytest.raises(sa.exc.OperationalError):
            ledger.once("c", message, "fails")
        marks = ledger.read("SELECT queue FROM inbox ORDER BY queue")
    assert marks == [("a",), ("b",)]


def test_the_relay_sees_no_open_transaction(env: Any) -> None:
    """Else it publishes what is undone a moment later."""
    inside, go = threading.Event(), threading.Event()
    with lesson.Producer(env.rabbit) as producer, lesson.Ledger() as ledger:
        pipeline = lesson.UserDataPipeline(producer, ledger)

        def fail() -> None:
            with ledger.transaction() as db:
                ledger.put_in_outbox(db, [lesson.user(1)])
                inside.set()
                go.wait(10)
                raise lesson.Crash

        storing = in_background(fail)
        assert inside.wait(10)
        relaying = in_background(pipeline.relay)
        time.sleep(0.2)  # long enough to read, if it could
        go.set()
        relaying.result(10)
        assert isinstance(storing.exception(10), lesson.Crash)
    assert env.rabbit.ready(env.rabbit.name("user_data")) == 0


@dataclass(kw_only=True)
class Elsewhere(lesson.Message):  # type: ignore[name-defined, misc]
    """A message for an exchange that is not there."""

    exchange = "elsewhere"
    type: str = "elsewhere"


def test_a_class_that_says_nowhere_to_publish_it_is_told_so(env: Any) -> None:
    with lesson.Producer(env.rabbit) as producer, lesson.Ledger() as ledger:
        with pytest.raises(TypeError, match=r"set Message\.exchange"):
            producer.publish_message(lesson.Message())
        pipeline = lesson.UserDataPipeline(producer, ledger)
        pipeline.store("signup", lesson.Message())
        pipeline.store("signup", lesson.user(1))
        assert pipeline.relay() == 1
        ((reason,),) = ledger.read("SELECT reason FROM outbox WHERE aside = 1")
    assert "set Message.exchange" in reason
    assert len(emptied(env.rabbit, env.rabbit.name("user_data"))) == 1


def test_a_row_that_nobody_takes_keeps_no_other_back(env: Any) -> None:
    queue = env.rabbit.name("user_data")
    with lesson.Producer(env.rabbit) as producer, lesson.Ledger() as ledger:
        pipeline = lesson.UserDataPipeline(producer, ledger)
        lost = Elsewhere()
        for message in (lesson.user(1), lost, lesson.user(2)):
            pipeline.store("signup", message)
        for _ in range(3):
            with pytest.raises(PublishFailed, match="no exchange"):
                pipeline.relay()
        ((left,),) = ledger.read("SELECT body FROM outbox")
    assert json.loads(left)["id"] == lost.id
    found = emptied(env.rabbit, queue)
    assert len({about.message_id for about, _ in found}) == 2
    assert len(found) < 6  # the missing exchange closes the channel: sent again, once


def test_the_relay_may_crash_anywhere(env: Any) -> None:
    class Dying(lesson.Producer):  # type: ignore[name-defined, misc]
        left = 0

        def send(self, *args: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise lesson.Crash
            return super().send(*args)

    queue = env.rabbit.name("user_data")
    with Dying(env.rabbit) as producer, lesson.Ledger() as ledger:
        pipeline = lesson.UserDataPipeline(producer, ledger)
        for n in range(5):
            pipeline.process_user_signup(f"user{n}", "a@example.org")
        for producer.left in range(15):
            # What is confirmed by then is forgotten, and keeps no crash coming.
            with suppress(lesson.Crash):
                pipeline.relay()
        producer.left = 15
        pipeline.relay()
        assert ledger.read("SELECT number FROM outbox") == []
    found = emptied(env.rabbit, queue)
    got = [json.loads(body)["id"] for _, body in found]
    # What one signup causes carries the id of its first message.
    assert [about.correlation_id for about, _ in found] == got
    assert len(set(got)) == 5  # sent again or not, the ids stay
    for name in lesson.WORK:
        emptied(env.rabbit, env.rabbit.name(name))


def test_who_reads_does_not_wait_for_who_writes(tmp_path: Path) -> None:
    where = str(tmp_path / "ledger.db")
    with lesson.Ledger(where) as one, lesson.Ledger(where) as other:
        one.effects("queue")  # so that both have their tables
        other.effects("queue")
        with one.transaction():
            assert other.effects("queue") == []
