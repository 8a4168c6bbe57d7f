"""What the lesson's message classes stand on: checked fields, and who reads a type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import Field
from functools import cache, wraps
from inspect import currentframe, get_annotations, signature
from operator import attrgetter
from typing import Any, ClassVar, Self, get_type_hints

from course.amqp.hints import (
    AS_IT_IS,
    LEAVES,
    FieldError,
    as_json,
    converted,
    fields_of,
    refuse_fixed,
    refuse_taken,
    refuse_unsuitable,
    same_kinds,
)

# What a check of one's own may raise for a value that it did not expect.
OF_A_CHECK = (AssertionError, ArithmeticError, AttributeError, LookupError)


def checked_after(check: Callable[..., None]) -> Any:
    """Return a __post_init__ after which a message is checked, whatever it has done.

    One that forgets to call that of its base would let everything in.
    """

    @wraps(check)
    def checked(self: Any, *arguments: Any) -> None:
        check(self, *arguments)
        base: Any = self.base
        base.__post_init__(self)

    ours: Any = checked
    ours.is_ours = True
    return ours


def place_of(kind: Any) -> str:
    """Return a class with where it is defined."""
    return f"{kind.__module__}.{kind.__qualname__}"


@cache
def added_fields(kind: Any, base: Any) -> tuple[str, ...]:
    """Return the names of fields that a class has and its base has not."""
    common = fields_of(base)
    return tuple(name for name in fields_of(kind) if name not in common)


class Checks:
    """How the fields of a class of messages are checked: most by one look at all types.

    Each message read comes by here.
    """

    def __init__(self, kind: Any) -> None:
        hints = fields_of(kind)
        self.own = kind.payload_fields()
        own_first = sorted(hints, key=lambda name: name not in self.own)
        plain_ones = {n: hints[n] for n in own_first if hints[n] in AS_IT_IS}
        if self.own:
            plain_ones["payload"] = dict  # made of the others, afterwards
        self.plain_types = list(plain_ones.values())
        self.plain_values = values_of(tuple(plain_ones))
        self.others = [pair for pair in hints.items() if pair[0] not in plain_ones]
        self.all = list(hints.items())
        self.own_values = values_of(self.own)
        self.is_flat = all(hints[name] in LEAVES for name in self.own)

    def payload(self, message: Any) -> dict[str, Any]:
        """Return the fields that a message consists of, as JSON has them."""
        values = self.own_values(message)
        if not self.is_flat:
            values = tuple(map(as_json, values))
        return dict(zip(self.own, values, strict=True))

    def copied(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Return a payload that changes to this one leave as it is."""
        return payload.copy() if self.is_flat else as_json(payload)


def values_of(names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    """Return a function that returns the attributes of these names."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda one: tuple(getattr(one, name) for name in names)


@cache
def checks_of(kind: Any) -> Checks:
    """Return the same of a class each time."""
    return Checks(kind)


class Envelope:
    """What subclasses of Message inherit: each is known by its type, and is checked.

    The types of their fields are those of JSON: str, int, float, bool, list, dict,
    None, unions of them, and dataclasses made of them. Another is a TypeError at the
    class statement, as is a `type` that another class has.
    """

    base: ClassVar[Any]  # Message itself
    known: ClassVar[dict[str, Any]]  # classes by their type

    type: str  # a dataclass with these two
    payload: dict[str, Any]
    _payload_before: dict[str, Any]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if Envelope in cls.__bases__:
            cls.base = cls
            cls.known = {}
        if cls is not cls.base:
            refuse_fixed(cls)
            own = vars(cls).get("__post_init__")
            if own and not hasattr(own, "is_ours"):  # slots=True: the second time
                kind: Any = cls
                kind.__post_init__ = checked_after(own)
        if "_hints" not in vars(cls):  # slots=True makes the class a second time
            # A type that is defined in a function is seen from that function only.
            frame = currentframe()
            around = frame.f_back.f_locals if frame and frame.f_back else {}
            with suppress(NameError):  # defined further down: asked again, later
                cls._hints = get_type_hints(cls, localns=dict(around))
                refuse_unsuitable(cls, cls._hints)
                if cls is not cls.base:
                    refuse_taken(cls, cls._hints)
        cls._register()

    _hints: ClassVar[dict[str, Any]]

    @classmethod
    def _register(cls) -> None:
        """Note which class reads messages of its type."""
        # With slots=True, the second class has the default there only.
        made = vars(cls).get("__dataclass_fields__", {})
        kind = vars(cls).get("type")
        if "type" in get_annotations(cls):  # what is inherited is that of its base
            kind = made.get("type") or kind
        if isinstance(kind, Field):
            kind = kind.default
        if not isinstance(kind, str):
            return  # a base of others
        other = cls.known.get(kind)
        # The same name is the same class, defined once more: a module that is loaded
        # again, a cell of a notebook.
        if other and other.__name__ != cls.__name__:
            raise TypeError(f"the type {kind!r} is that of {other.__name__}")
        cls.known[kind] = cls

    @classmethod
    def made_of(cls, values: dict[str, Any]) -> Self:
        """Return a message of what a body says.

        Raises:
            FieldError: that is none; a check of its own may say so in its own way.
        """
        try:
            return cls(**values)
        except TypeError as error:
            reason = f"{type(error).__name__}: {error}"
            try:
                signature(cls).bind(**values)
            except TypeError:
                reason = "fields are missing or unknown"
            raise FieldError(reason) from None
        except ValueError as error:
            raise FieldError(str(error)) from None
        except OF_A_CHECK as error:
            raise FieldError(f"{type(error).__name__}: {error}") from None

    @classmethod
    def payload_fields(cls) -> Sequence[str]:
        """Return the names that a subclass adds to the envelope."""
        kind: Any = cls
        return added_fields(kind, kind.base)

    def envelope(self) -> dict[str, Any]:
        """Return the fields that all messages have."""
        return {name: getattr(self, name) for name in fields_of(self.base)}

    def check_fields(self) -> None:
        """Check the types of all fields, and make the payload of those it consists of.

        Raises:
            FieldError: one has another type than its class says, or is nested too deep.
        """
        try:
            self._check_fields()
        except RecursionError:
            raise FieldError("payload is nested too deep") from None

    def _check_fields(self) -> None:
        kind: Any = type(self)
        checks = checks_of(kind)
        if before := vars(self).get("_payload_before"):
            self._take_changes(checks, before)
        values = checks.plain_values(self)
        as_expected = list(map(type, values)) == checks.plain_types
        left = checks.others if as_expected else checks.all
        for name, hint in left:
            setattr(self, name, converted(hint, getattr(self, name), name))
        if not checks.own:
            return
        if left or not checks.is_flat:
            self.payload = checks.payload(self)
        else:  # the first values are those
            self.payload = dict(zip(checks.own, values, strict=False))
        self._payload_before = checks.copied(self.payload)

    def _take_changes(self, checks: Checks, before: dict[str, Any]) -> None:
        """Let what was changed last count: a field, or its place in the payload."""
        for name in checks.own:
            if name in before and before[name] != self.payload.get(name):
                setattr(self, name, self.payload.get(name))

    def check_type(self) -> None:
        """Raise FieldError unless a reader would make the same class of it."""
        reader = self.known.get(self.type)
        if reader is not type(self):
            name = type(self).__name__
            reason = f"type {self.type!r} is not that of {name} itself"
            if reader and reader.__name__ == name:  # two of one name, the last is known
                reason += f", but of {place_of(reader)}"
            raise FieldError(reason)
        for name, hint in fields_of(reader).items():
            value = getattr(self, name)
            if type(value) is hint and hint in AS_IT_IS:
                continue
            if not same_kinds(value, converted(hint, as_json(value), name)):
                raise FieldError(f"{name} would come back as another class")
