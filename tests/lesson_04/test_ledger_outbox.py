"""Lesson 04: what is stored in an outbox can be sent, and as it was given."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

import pytest
from lessons import load

from course.amqp.errors import ForeignTable, ProducerEnded
from course.amqp.storing import Outgoing
from course.amqp.trials import emptied

lesson = load("04")


@pytest.mark.parametrize(
    ("about", "why"),
    [
        ({"colour": "red"}, "colour"),
        ({"priority": 300}, "ubyte format"),
        ({"priority": "5"}, "not an integer"),
        ({"expiration": 5000}, "expiration"),
        ({"headers": "tenant"}, "headers|str"),
        ({"headers": {"half": 0.5}}, "0.5"),
        ({"headers": {"id": UUID(int=1)}}, "UUID"),
        ({"message_id": "mine"}, "message_id: the message says that itself"),
        ({"delivery_mode": 1, "type": "x"}, "delivery_mode, type: the message says"),
    ],
    ids=str,
)
def test_what_no_relay_can_send_is_refused_where_it_is_stored(
    about: dict[str, Any], why: str
) -> None:
    """Committed and set aside an hour later, the row would stand and nobody knew."""
    with lesson.Ledger() as ledger:
        pipeline = lesson.UserDataPipeline(None, ledger)
        with pytest.raises(ValueError, match=why):
            pipeline.store("signup", Outgoing(lesson.user(1), about=about))
        assert ledger.effects("accounts") == []
        assert ledger.read("SELECT number FROM outbox") == []


def test_a_correlation_id_of_ones_own_goes_through_the_outbox(env: Any) -> None:
    """A reply has that of its request, and not that of its neighbour."""
    first, reply = lesson.users(2)
    with lesson.Producer(env.rabbit) as producer, lesson.Ledger() as ledger:
        pipeline = lesson.UserDataPipeline(producer, ledger)
        about = {"correlation_id": "request 7"}
        pipeline.store("both", first, Outgoing(reply, about=about))
        assert pipeline.relay() == 2
    found = {}
    for properties, _ in emptied(env.rabbit, env.rabbit.name("user_data")):
        found[properties.message_id] = properties.correlation_id
    assert found == {first.id: first.id, reply.id: "request 7"}


class NoCountryCode(Exception):
    """As libraries that validate raise: no ValueError, and here without a text."""


@dataclass(kw_only=True)
class Sms(lesson.Message):  # type: ignore[name-defined, misc]
    """Its check has become stricter since the last release."""

    exchange = "data_processing"
    key = "user_data"
    strict: ClassVar[Any] = None
    type: str = "sms of a test"
    to: str

    def __post_init__(self) -> None:
        lesson.Message.__post_init__(self)
        if self.strict:
            raise self.strict


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NoCountryCode(), "NoCountryCode"),
        (NoCountryCode("no +"), "no +"),
        (ValueError("no such country: \ud83d\0"), r"no such country: \ud83d\0"),
        (ValueError("x" * 5000), "x" * 1000),
    ],
    ids=["without a text", "of a library", "not to be stored", "long"],
)
def test_a_row_that_a_stricter_check_refuses_keeps_no_other_back(
    env: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    with lesson.Producer(env.rabbit) as producer, lesson.Ledger() as ledger:
        pipeline = lesson.UserDataPipeline(producer, ledger)
        pipeline.store("all", lesson.user(1), Sms(to="0171"), lesson.user(2))
        monkeypatch.setattr(Sms, "strict", error)
        assert pipeline.relay() == 2
        assert pipeline.relay() == 0
        ((_, _, why),) = ledger.set_aside()
        assert why == reason
    assert len(emptied(env.rabbit, env.rabbit.name("user_data"))) == 2


def test_a_producer_that_has_ended_sets_no_row_aside(env: Any) -> None:
    with lesson.Ledger() as ledger:
        producer = lesson.Producer(env.rabbit)
        pipeline = lesson.UserDataPipeline(producer, ledger)
        pipeline.store("one", lesson.user(1))
        producer.close()
        with pytest.raises(ProducerEnded):
            pipeline.relay()
        assert ledger.set_aside() == []


@pytest.mark.parametrize("name", ["inbox", "outbox", "effects"])
def test_a_table_of_somebody_else_is_left_as_it_is(tmp_path: Path, name: str) -> None:
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, payload TEXT)")
        with pytest.raises(
            ForeignTable, match=f"the table {name} there is no ledger's"
        ):
            lesson.Ledger(path)
        tables = db.execute("SELECT name, sql FROM sqlite_master").fetchall()
    assert tables == [
        (name, f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, payload TEXT)")
    ]
