"""Lesson 04: message classes of one's own, with the types that JSON has."""

from __future__ import annotations

import sys
import textwrap
import types
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, ClassVar, Literal, NewType

import pytest
from lesson_04.amqp_helpers import open_stand_in
from lessons import load

from course.amqp.trials import consumer_with, emptied, running

lesson = load("04")
NUMBERS = count()
BODY = """
import dataclasses
from typing import Any

@dataclasses.dataclass
class Address:
    city: str
    zip_code: str | None = None

@dataclasses.dataclass(kw_only=True)
class OrderMessage(Message):
    exchange = "data_processing"
    key = "user_data"
    type: str = "order"
    order_id: str
    amount: float = 0.0
    gift: bool = False
    items: list[str] = dataclasses.field(default_factory=list)
    note: str | None = None
    address: Address | None = None
    stops: list[Address] = dataclasses.field(default_factory=list)
    stock: dict[str, list[int]] = dataclasses.field(default_factory=dict)
    extra: Any = None
"""


def module_of(source: str) -> Any:
    """Return a module of its own with Message in it, as a user's file would be."""
    module: Any = types.ModuleType(f"orders{next(NUMBERS)}")
    module.Message = lesson.Message
    sys.modules[module.__name__] = module
    exec(source, vars(module))
    return module


@pytest.fixture(scope="module", params=["", "from __future__ import annotations\n"])
def orders(request: pytest.FixtureRequest) -> Any:
    return module_of(request.param + textwrap.dedent(BODY))


@pytest.fixture(scope="module")
def env() -> Iterator[Any]:
    with open_stand_in() as found:
        yield found


def test_a_class_of_ones_own_comes_back_as_itself(orders: Any) -> None:
    order = orders.OrderMessage(
        order_id="o1",
        amount=9.5,
        gift=True,
        items=["a", "b"],
        address=orders.Address(city="Kyiv"),
        stops=[orders.Address(city="Lviv", zip_code="79000")],
        stock={"a": [1, 2]},
        extra=[None, {"x": 1.5}],
    )
    again = lesson.Message.from_json(order.to_json())
    assert type(again) is orders.OrderMessage
    assert again == order
    assert again.payload["address"] == {"city": "Kyiv", "zip_code": None}
    assert type(again.stops[0]) is orders.Address
    bare = lesson.Message.from_json(orders.OrderMessage(order_id="o2").to_json())
    assert bare.note is bare.address is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"order_id": 7},
        {"amount": "9.5"},
        {"amount": True},
        {"gift": 1},
        {"items": ["a", 2]},
        {"items": "ab"},
        {"note": 5},
        {"address": {"town": "Kyiv"}},
        {"address": {"city": 7}},
        {"stops": [None]},
        {"stock": {"a": [1.5]}},
    ],
    ids=str,
)
def test_a_field_of_another_type_is_named(orders: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(lesson.BadMessage, match=next(iter(wrong))):
        orders.OrderMessage(**({"order_id": "o"} | wrong))


def test_a_whole_number_is_a_float_as_other_languages_write_it(orders: Any) -> None:
    body = orders.OrderMessage(order_id="o", amount=5).to_json()
    assert lesson.Message.from_json(body).amount == 5


def test_an_order_reaches_its_consumer(orders: Any, env: Any) -> None:
    seen: list[Any] = []
    queue = env.declare_queue(f"orders.{orders.__name__}")
    with lesson.Producer(env.rabbit) as producer:
        lesson.publish_all(producer, queue, [orders.OrderMessage(order_id="o1")])
        work = consumer_with(lesson.Consumer, seen.append, env.rabbit, queue, producer)
        with running(work):
            env.until(lambda: work.counts["acked"] == 1)
    assert [type(one) for one in seen] == [orders.OrderMessage]
    assert not emptied(env.rabbit, queue + ".dead")


@pytest.mark.parametrize(
    "hint", ["set[str]", "bytes", "tuple[int, int]", "dict[int, str]", "complex"]
)
def test_a_type_that_json_lacks_is_refused_where_it_is_written(hint: str) -> None:
    with pytest.raises(TypeError, match=r"Wrong\.field: JSON has no"):
        module_of(f"class Wrong(Message):\n    field: {hint}\n")


def test_a_type_belongs_to_one_class() -> None:
    with pytest.raises(TypeError, match="is that of UserDataMessage"):
        module_of("class Other(Message):\n    type: str = 'user_data'\n")
    assert lesson.Message.known["user_data"] is lesson.UserDataMessage


def test_what_no_reader_would_know_is_not_published() -> None:
    @dataclass(kw_only=True)
    class Untyped(lesson.Message):  # type: ignore[name-defined, misc]
        value: int

    with pytest.raises(lesson.BadMessage, match="not that of Untyped itself"):
        Untyped(value=1).to_json()
    with pytest.raises(lesson.BadMessage, match="of UserDataMessage itself"):
        replace(lesson.user(1), type="order").to_json()


def test_classes_may_be_local_nested_slotted_or_defined_twice() -> None:
    for _ in range(2):

        @dataclass
        class Point:
            x: float

        @dataclass(kw_only=True, slots=True)
        class Local(lesson.Message):  # type: ignore[name-defined, misc]
            labels: ClassVar[dict[bytes, set[int]]] = {}
            type: str = field(default="local")
            at: Point
            kind: Literal["a", 1] = "a"

        message = Local(at=Point(x=1.5))
        assert lesson.Message.from_json(message.to_json()) == message
        with pytest.raises(lesson.BadMessage, match="kind"):
            Local(at=Point(x=1.5), kind=True)  # type: ignore[arg-type]


@dataclass
class Box:
    size: int


@dataclass
class Parcel:
    size: int
    weight: float = 0.0


@dataclass
class Tree:
    value: int
    kids: list[Tree] = field(default_factory=list)


def message_class(name: str, hint: Any) -> Any:
    """Return a class of messages with one field of a type."""
    hints = {"type": str, "field": hint}
    members = {"__annotations__": hints, "type": name, "__module__": __name__}
    return dataclass(kw_only=True)(type(name, (lesson.Message,), members))


@pytest.mark.parametrize(
    ("hint", "value"),
    [(Parcel | Box, Box(3)), (dict[str, Any] | Box, Box(3)), (Any, [{"a": Box(3)}])],
    ids=str,
)
def test_what_would_come_back_as_another_class_is_refused(
    hint: Any, value: Any
) -> None:
    kind = message_class("Ambiguous", hint)
    with pytest.raises(lesson.BadMessage, match="field would come back as another"):
        kind(field=value).to_json()


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (Tree, Tree(1, [Tree(2, [Tree(3)])])),
        (NewType("UserId", str), "u1"),
        (list[NewType("Cents", int)], [1, 2]),  # type: ignore[misc]
        (Box | Parcel | None, Parcel(3, 1.5)),
        (Literal[True, 1], 1),
        (Literal[0, False], False),
    ],
    ids=str,
)
def test_trees_and_new_names_of_types_come_back(hint: Any, value: Any) -> None:
    message = message_class("Named", hint)(field=value)
    assert lesson.Message.from_json(message.to_json()) == message


def test_a_literal_of_what_json_lacks_is_refused_where_it_is_written() -> None:
    with pytest.raises(TypeError, match=r"Literal_.field: JSON has no"):
        message_class("Literal_", Literal[b"a"])


def test_a_class_that_no_reader_could_make_says_what_is_wrong_with_it() -> None:
    class Bare(lesson.Message):  # type: ignore[name-defined, misc]
        type: str = "bare"
        value: int

    body = '{"version": 1, "type": "bare", "payload": {"value": 1}}'
    with pytest.raises(TypeError, match=r"@dataclass\(kw_only=True\) above class Bare"):
        lesson.Message.from_json(body)

    @dataclass(kw_only=True)
    class Total(lesson.Message):  # type: ignore[name-defined, misc]
        type: str = "total"
        value: int = field(default=3, init=False)

    with pytest.raises(TypeError, match=r"Total\.value: a reader can't set it"):
        Total()


@pytest.mark.parametrize("depth", [400, 600, 900, 2000, 100_000])
def test_however_deep_it_is_nested_it_is_read_or_a_bad_message(depth: int) -> None:
    body = lesson.AnalyticsMessage(event_type="e", user_id="u", properties={"x": 7})
    text = body.to_json().replace("7}", "[" * depth + "]" * depth + "}")
    with suppress(lesson.BadMessage):
        lesson.Message.from_json(text)


def test_a_check_of_ones_own_makes_a_bad_message() -> None:
    @dataclass(kw_only=True)
    class Positive(lesson.Message):  # type: ignore[name-defined, misc]
        type: str = "positive"
        value: int

        def __post_init__(self) -> None:
            lesson.Message.__post_init__(self)
            if self.value <= 0:
                raise ValueError("value is not above zero")

    body = Positive(value=1).to_json().replace('"value": 1', '"value": -1')
    with pytest.raises(lesson.BadMessage, match="not above zero"):
        lesson.Message.from_json(body)


def test_what_is_published_is_what_the_fields_say_now() -> None:
    message = lesson.user(1)
    message.email = "new@example.org"
    again = lesson.Message.from_json(message.to_json())
    assert (again.email, again.payload["email"]) == ("new@example.org",) * 2
    message.payload["email"] = "newer@example.org"
    again = lesson.Message.from_json(message.to_json())
    assert (again.email, message.email) == ("newer@example.org",) * 2
    message.email = 7
    with pytest.raises(lesson.BadMessage, match="email"):
        message.to_json()


def test_a_number_beyond_all_bounds_is_no_json() -> None:
    body = '{"version": 1, "type": "message", "payload": {"x": 1e400}}'
    with pytest.raises(lesson.BadMessage, match="not JSON"):
        lesson.Message.from_json(body)


@pytest.mark.parametrize(
    ("name", "kind", "why"),
    [
        ("key", str, "all messages use that name"),  # it would be published there
        ("base", str, "all messages use that name"),
        ("to_json", str, "all messages use that name"),
        ("retry_count", str, "in all messages it is of type int"),
        ("payload", str, r"in all messages it is of type dict"),
    ],
)
def test_a_field_that_would_hide_what_all_messages_have_is_refused(
    name: str, kind: Any, why: str
) -> None:
    body = {"__annotations__": {"type": str, name: kind}, "type": f"hides{name}"}
    with pytest.raises(TypeError, match=rf"^Hiding\.{name}: {why}"):
        type("Hiding", (lesson.Message,), body)


UserId = NewType("UserId", str)


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (list[None], [None]),
        (dict[UserId, int], {"a": 1}),
        (Literal["big", 1, None], None),
        (dict[str, list[int | None]], {"a": [1, None]}),
    ],
)
def test_names_of_json_types_are_types(hint: Any, value: Any) -> None:
    kind = f"named{next(NUMBERS)}"
    body = {"__annotations__": {"type": str, "field": hint}, "type": kind}
    made: Any = dataclass(kw_only=True)(type(f"Named{kind}", (lesson.Message,), body))
    assert lesson.Message.from_json(made(field=value).to_json()).field == value


def test_a_base_of_others_may_have_slots() -> None:
    @dataclass(kw_only=True, slots=True)
    class Tenant(lesson.Message):  # type: ignore[name-defined, misc]
        tenant: str

    @dataclass(kw_only=True, slots=True)
    class Rented(Tenant):
        type: str = "rented"
        flat: int

    message = Rented(tenant="ann", flat=3)
    assert lesson.Message.from_json(message.to_json()) == message
    assert lesson.Message.known["message"] is lesson.Message
