"""Lesson 04: what is stored in an outbox can be sent, and as it was given."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from lessons import load

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
