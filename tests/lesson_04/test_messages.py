"""Lesson 04: what is a message, and what is a bad one."""

from __future__ import annotations

import json
import pickle
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lesson_04.amqp_helpers import mutated, open_stand_in
from lessons import load

from course.amqp.trials import emptied, running

lesson = load("04")


@pytest.fixture(scope="module")
def env() -> Iterator[Any]:
    with open_stand_in() as found:
        yield found


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
    ),
    max_leaves=10,
)


objects = st.dictionaries(st.text(), json_values, max_size=5)


@given(objects, st.integers(0, 1000))
def test_messages_come_back_equal(payload: dict[str, Any], retries: int) -> None:
    message = lesson.Message(payload=payload, retry_count=retries)
    assert lesson.Message.from_json(message.to_json()) == message


@given(st.text(), st.text(), st.text(), objects)
def test_each_kind_comes_back_as_itself(
    one: str, two: str, three: str, properties: dict[str, Any]
) -> None:
    for message in (
        lesson.UserDataMessage(username=one, email=two, registration_date=three),
        lesson.NotificationMessage(recipient=one, subject=two, content=three),
        lesson.AnalyticsMessage(event_type=one, user_id=two, properties=properties),
    ):
        again = lesson.Message.from_json(message.to_json().encode())
        assert again == message
        assert type(again) is type(message)
        assert again.payload == message.payload


def test_no_body_raises_anything_but_bad_message() -> None:
    rng = random.Random(4)
    for _ in range(20_000):
        with pytest.raises(lesson.BadMessage):
            lesson.Message.from_json(mutated(rng))


@given(st.binary(max_size=300) | objects.map(lambda data: json.dumps(data).encode()))
def test_any_bytes_are_a_message_or_a_bad_message(body: bytes) -> None:
    try:
        message = lesson.Message.from_json(body)
    except lesson.BadMessage:
        return
    assert isinstance(message, lesson.Message)


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        ({"x": (1, 2)}, "come back changed"),
        ({1: "one"}, "come back changed"),
        ({"x": float("nan")}, "not JSON"),
        ({"x": {1, 2}}, "not JSON"),
        ({"x": "y" * 300_000}, "larger than"),
    ],
)
def test_what_json_would_change_is_refused(payload: dict[Any, Any], why: str) -> None:
    with pytest.raises(lesson.BadMessage, match=why):
        lesson.Message(payload=payload).to_json()


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": ""},
        {"id": "x" * 65},
        {"id": "two words"},
        {"retry_count": -1},
        {"retry_count": True},
        {"max_retries": 1001},
        {"timestamp": None},
        {"timestamp": "yesterday"},
        {"timestamp": "2026-01-05T10:00:00"},
    ],
    ids=str,
)
def test_fields_are_validated_where_they_are_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(lesson.BadMessage, match=next(iter(wrong))):
        lesson.Message(**wrong)


@pytest.mark.slow
def test_ten_thousand_fuzzed_bodies_end_as_dead_letters(env: Any) -> None:
    queue, rng = env.declare_queue("fuzz"), random.Random(5)
    bad = [mutated(rng) for _ in range(9_990)] + [b"[" * 1_000_000] * 10
    good = [lesson.user(n).to_json().encode() for n in range(100)]
    bodies = bad + good
    rng.shuffle(bodies)
    about = pika.BasicProperties(delivery_mode=2)
    with lesson.Producer(env.rabbit) as producer, lesson.Ledger() as ledger:
        producer.deadline = 60
        pending = [producer.send("", queue, body, about) for body in bodies]
        producer.wait(*pending)
        consumer = lesson.UserDataConsumer(
            env.rabbit, queue, producer, ledger, prefetch=200, concurrency=8
        )
        with running(consumer):
            env.until(lambda: consumer.counts["acked"] == len(bodies), limit=90)
        assert consumer.counts["reconnects"] == 0
        assert len(ledger.effects(queue)) == 100
    dead = emptied(env.rabbit, queue + ".dead")
    assert Counter(body for _, body in dead) == Counter(bad)
    assert all(about.headers["x-error"].startswith("BadMessage") for about, _ in dead)


@pytest.mark.parametrize("email", ["ann", "ann@localhost", "@example.org", ""])
def test_what_is_no_email_address_is_not_worth_another_attempt(email: str) -> None:
    handle = lesson.UserDataConsumer.handle
    fields = {"username": "ann", "email": "ann@example.org"}
    assert handle(None, SimpleNamespace(payload=fields)) == "ann at example.org"
    with pytest.raises(lesson.PermanentError, match="not an email address"):
        handle(None, SimpleNamespace(payload=fields | {"email": email}))


def test_a_pickled_body_is_never_loaded(env: Any, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "sprung",)

    queue, body = env.declare_queue("pickled"), pickle.dumps(Trap())
    with lesson.Producer(env.rabbit) as producer, lesson.Ledger() as ledger:
        about = pika.BasicProperties(content_type="application/x-python-pickle")
        producer.publish("", queue, body, about)
        env.consume(lesson.UserDataConsumer(env.rabbit, queue, producer, ledger), 1)
    ((about, dead),) = emptied(env.rabbit, queue + ".dead")
    assert (about.headers["x-error"], dead) == ("BadMessage: body is not JSON", body)
    assert not list(tmp_path.iterdir())
    pickle.loads(body)
    assert list(tmp_path.iterdir())  # a consumer that did load it would have sprung it
