"""Lesson 04: checks and defaults of one's own in a message class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from lesson_04.amqp_helpers import open_stand_in
from lessons import load

from course.amqp.trials import consumer_with, emptied, running

lesson = load("04")


@pytest.mark.parametrize("slots", [False, True])
def test_a_check_that_forgets_its_base_lets_nothing_in(slots: bool) -> None:
    @dataclass(kw_only=True, slots=slots)  # type: ignore[literal-required]
    class ForgetfulMessage(lesson.Message):  # type: ignore[name-defined, misc]
        type: str = "forgetful"
        count: int

        def __post_init__(self) -> None:
            """Check nothing; and tell nobody."""

    made = ForgetfulMessage(count=1)
    assert made.payload == {"count": 1}
    again = lesson.Message.from_json(made.to_json())
    assert (again, again.payload) == (made, {"count": 1})
    with pytest.raises(lesson.BadMessage, match="count is not of type int"):
        ForgetfulMessage(count="1")  # type: ignore[arg-type]
    with pytest.raises(lesson.BadMessage, match="count is not of type int"):
        lesson.Message.from_json(made.to_json().replace("1}", '"1"}'))


def test_what_a_check_changes_after_its_base_is_in_the_payload() -> None:
    @dataclass(kw_only=True)
    class TidyMessage(lesson.Message):  # type: ignore[name-defined, misc]
        type: str = "tidy"
        email: str

        def __post_init__(self) -> None:
            super().__post_init__()
            self.email = self.email.lower()

    body = TidyMessage(email="A@EXAMPLE.ORG").to_json().replace("a@", "B@")
    again = lesson.Message.from_json(body)
    assert again.payload["email"] == again.email == "b@example.org"


def check_by_assert(extra: dict[str, Any]) -> None:
    assert extra["a"] > 0, "a is positive"


def divide_by(extra: dict[str, Any]) -> None:
    assert 1 / extra["a"] > 0


def strip(extra: dict[str, Any]) -> None:
    extra["a"].strip()


def compare(extra: dict[str, Any]) -> None:
    assert extra["a"] < "b"


@pytest.mark.parametrize(
    ("check", "extra", "reason"),
    [
        (check_by_assert, '{"a": -1}', "AssertionError: a is positive"),
        (check_by_assert, '{"b": 1}', "KeyError: 'a'"),
        (divide_by, '{"a": 0}', "ZeroDivisionError: division by zero"),
        (strip, '{"a": null}', "AttributeError: 'NoneType' object has no attribute"),
        (compare, '{"a": 5}', "TypeError: '<' not supported between instances of"),
    ],
)
def test_however_a_check_of_ones_own_fails_it_is_a_bad_message(
    check: Callable[[dict[str, Any]], None], extra: str, reason: str
) -> None:
    @dataclass(kw_only=True)
    class CheckedMessage(lesson.Message):  # type: ignore[name-defined, misc]
        type: str = "checked"
        extra: dict[str, Any]

        def __post_init__(self) -> None:
            super().__post_init__()
            check(self.extra)

    body = f'{{"version": 1, "type": "checked", "payload": {{"extra": {extra}}}}}'
    with pytest.raises(lesson.BadMessage, match=reason):
        lesson.Message.from_json(body)
    with pytest.raises(lesson.BadMessage, match="fields are missing or unknown"):
        lesson.Message.from_json(body.replace("extra", "other"))
    if "ssert" not in reason:
        return
    with open_stand_in() as env, lesson.Producer(env.rabbit) as producer:
        queue = env.declare_queue("checked")
        about = lesson.publish_arguments(lesson.Message(), "", queue)[3]
        producer.publish("", queue, body.encode(), about)
        work = consumer_with(lesson.Consumer, str, env.rabbit, queue, producer)
        with running(work):
            env.until(lambda: work.counts["dead"] == 1)
        assert work.counts["retried"] == 0
        ((dead, _),) = emptied(env.rabbit, queue + ".dead")
        assert dead.headers["x-error"].startswith(f"BadMessage: {reason}")


def without_a_type(kind: Any) -> None:
    class Untyped(kind):  # type: ignore[misc]
        type = "untyped"


def fewer_retries(kind: Any) -> None:
    @dataclass(kw_only=True)
    class Impatient(kind):  # type: ignore[misc]
        type: str = "impatient"
        max_retries = 1


def of_the_class(kind: Any) -> None:
    @dataclass(kw_only=True)
    class Constant(kind):  # type: ignore[misc]
        type: ClassVar[str] = "constant"


def computed(kind: Any) -> None:
    @dataclass(kw_only=True)
    class Computed(kind):  # type: ignore[misc]
        type: str = "computed"

        @property
        def timestamp(self) -> str:
            return "2026-01-05T00:00:00Z"


@pytest.mark.parametrize(
    ("define", "message"),
    [
        (without_a_type, "Untyped.type is a field: write type: str = ..."),
        (fewer_retries, "Impatient.max_retries is a field: write max_retries: int"),
        (of_the_class, "Constant.type is a field: write type: str = ..."),
        (computed, "Computed.timestamp is a field: write timestamp: str = ..."),
    ],
)
def test_a_default_that_a_dataclass_would_pass_over_is_refused(
    define: Callable[[Any], None], message: str
) -> None:
    """It would be sent with the base's default, or so that no reader can set it."""
    with pytest.raises(TypeError, match=message):
        define(lesson.Message)


def test_a_default_of_ones_own_base_is_no_less_a_field() -> None:
    @dataclass(kw_only=True)
    class TenantMessage(lesson.Message):  # type: ignore[name-defined, misc]
        tenant: str = "a"

    with pytest.raises(TypeError, match=r"Own.tenant is a field: write tenant: str ="):

        class Own(TenantMessage):
            tenant = "b"
