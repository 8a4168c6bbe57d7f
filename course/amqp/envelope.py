"""What the lesson's message classes stand on: field types, and who reads a type."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, Field, asdict, fields, is_dataclass
from functools import cache
from inspect import currentframe, get_annotations
from operator import attrgetter
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

PLAIN = (str, int, bool, list, dict)  # what JSON gives back as it was
AS_IT_IS = frozenset((*PLAIN, float))  # nothing inside to look at
LEAVES = frozenset((str, int, float, bool, types.NoneType))  # of a JSON tree
ANYTHING = (Any, object)
NARROWER = {"type": (Literal,), "payload": (dict,)}  # what a subclass may say of those
NOTHING = object()  # no part of a type hint


class FieldError(ValueError):
    """A field has another type than its class says; the text names both."""


def name_of(hint: Any) -> str:
    """Return a type as one writes it."""
    return hint.__name__ if isinstance(hint, type) else str(hint)


def plain(hint: Any) -> Any:
    """Return the type that a NewType, or a name given by `type X = ...`, stands for."""
    while (meant := getattr(hint, "__supertype__", None)) or (
        meant := getattr(hint, "__value__", None)
    ):
        hint = meant
    return types.NoneType if hint is None else hint


def unsuitable(hint: Any, seen: frozenset[Any] = frozenset()) -> Any:
    """Return the part of a type hint that JSON has no type for, or NOTHING."""
    hint = plain(hint)
    kind = get_origin(hint) or hint
    inner = get_args(hint)
    if kind is Literal:
        known = all(type(one) in LEAVES for one in inner)  # a member of an Enum is not
        return NOTHING if known else hint
    if hint in ANYTHING or kind in (types.NoneType, float) or kind in seen:
        return NOTHING
    if kind is dict and inner and plain(inner[0]) is not str:
        return hint  # JSON turns every key into text
    if is_dataclass(kind):
        inner = tuple(raw_hints(kind).values())
        seen = seen | {kind}  # a tree has trees inside
    elif kind not in (*PLAIN, Union, types.UnionType):
        return hint
    found = [unsuitable(one, seen) for one in inner]
    return next((one for one in found if one is not NOTHING), NOTHING)


def converted(hint: Any, value: Any, where: str) -> Any:
    """Return a value as a field of this type has it; raise FieldError if it can't.

    Only a dataclass changes: JSON has made an object of it.
    """
    hint = plain(hint)
    kind = get_origin(hint) or hint
    if hint in ANYTHING:
        return value
    if kind in (Union, types.UnionType):
        return first_that_fits(hint, value, where)
    if kind is Literal:
        # Trap: 1 == True, and a hint may name both.
        fits = (type(value), value) in [(type(one), one) for one in get_args(hint)]
    elif is_dataclass(kind):
        return nested(kind, value, where)
    elif kind is float:
        fits = type(value) in (float, int)  # another language writes 5 for 5.0
    else:
        # Trap: isinstance would take True for an int.
        fits = type(value) is kind
    if not fits:
        raise FieldError(f"{where} is not of type {name_of(hint)}")
    if kind in (list, dict) and get_args(hint):
        return collection(get_args(hint)[-1], value, where)
    return value


def first_that_fits(hint: Any, value: Any, where: str) -> Any:
    """Return a value as the first type of several has it."""
    for one in get_args(hint):
        try:
            return converted(one, value, where)
        except FieldError:
            continue
    raise FieldError(f"{where} is not of type {name_of(hint)}")


def collection(hint: Any, value: Any, where: str) -> Any:
    """Return a list or dict, each of whose values is of the type."""
    if hint in ANYTHING:
        return value.copy()
    if isinstance(value, list):
        return [converted(hint, one, f"{where}[{n}]") for n, one in enumerate(value)]
    return {key: converted(hint, one, f"{where}.{key}") for key, one in value.items()}


def nested(kind: Any, value: Any, where: str) -> Any:
    """Return a dataclass within a message, from JSON's object or as it is."""
    if isinstance(value, dict):
        try:
            value = kind(**value)
        except TypeError:
            reason = f"{where}: fields of {kind.__name__} are missing or unknown"
            raise FieldError(reason) from None
    if type(value) is not kind:
        raise FieldError(f"{where} is not of type {kind.__name__}")
    for name, hint in fields_of(kind).items():
        # Frozen or not: what is checked may only be what was there, converted.
        whole = converted(hint, getattr(value, name), f"{where}.{name}")
        object.__setattr__(value, name, whole)
    return value


def as_json(value: Any) -> Any:
    """Return a value with dataclasses as the objects that JSON has for them."""
    if type(value) in LEAVES:
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, list):
        return [as_json(one) for one in value]
    if isinstance(value, dict):
        return {key: as_json(one) for key, one in value.items()}
    return value


def refuse_unsuitable(kind: Any, hints: Mapping[str, Any]) -> None:
    """Raise TypeError for the first field of a type that JSON does not have."""
    for name, hint in hints.items():
        if get_origin(hint) is ClassVar or hint in (ClassVar, KW_ONLY):
            continue
        wrong = unsuitable(hint)
        if wrong is not NOTHING:
            raise TypeError(f"{kind.__name__}.{name}: JSON has no {name_of(wrong)}")


def refuse_taken(kind: Any, hints: Mapping[str, Any]) -> None:
    """Raise TypeError for a field that would hide what all messages have.

    A publisher that asks a message for its key would get what the field says.
    """
    common = raw_hints(kind.base)
    for name in get_annotations(kind):
        hint = hints[name]
        if get_origin(hint) is ClassVar or hint in (ClassVar, KW_ONLY):
            continue
        narrower = get_origin(hint) in NARROWER.get(name, ())
        if name in common and plain(hint) != common[name] and not narrower:
            reason = f"in all messages it is of type {name_of(common[name])}"
            raise TypeError(f"{kind.__name__}.{name}: {reason}")
        if name not in common and hasattr(kind.base, name):
            reason = "all messages use that name; take another, or write ClassVar"
            raise TypeError(f"{kind.__name__}.{name}: {reason}")


def raw_hints(kind: Any) -> dict[str, Any]:
    """Return the fields of a dataclass, each with its type, suitable or not."""
    known = vars(kind).get("_hints") or get_type_hints(kind)
    return {item.name: known[item.name] for item in fields(kind)}


@cache
def hints_of(kind: Any) -> dict[str, Any]:
    """Return the fields of a dataclass, each with its type.

    Raises:
        TypeError: no reader could make one, so none is to be sent.
    """
    if "__dataclass_fields__" not in vars(kind) and get_annotations(kind):
        raise TypeError(f"write @dataclass(kw_only=True) above class {kind.__name__}")
    for item in fields(kind):
        if not item.init:
            raise TypeError(f"{kind.__name__}.{item.name}: a reader can't set it")
    hints = raw_hints(kind)
    refuse_unsuitable(kind, hints)
    return hints


def place_of(kind: Any) -> str:
    """Return a class with where it is defined."""
    return f"{kind.__module__}.{kind.__qualname__}"


def same_kinds(one: Any, other: Any) -> bool:
    """Tell whether two values consist of the same types, as far as dataclasses go."""
    if is_dataclass(type(one)) or is_dataclass(type(other)):
        if type(one) is not type(other):
            return False
        names = [item.name for item in fields(one)]
        return all(same_kinds(getattr(one, n), getattr(other, n)) for n in names)
    if isinstance(one, list):
        return all(map(same_kinds, one, other))
    if isinstance(one, dict):
        return all(same_kinds(one[key], other[key]) for key in one)
    return True


def fields_of(kind: Any) -> dict[str, Any]:
    """Return the same of a class of messages, which has found its types already."""
    return hints_of(kind)


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
        plain_ones = {name: hint for name, hint in hints.items() if hint in AS_IT_IS}
        if self.own:
            plain_ones["payload"] = dict  # made of the others, afterwards
        self.plain_types = tuple(plain_ones.values())
        self.plain_values = values_of(tuple(plain_ones))
        self.others = [pair for pair in hints.items() if pair[0] not in plain_ones]
        self.all = list(hints.items())
        self.own_values = values_of(self.own)
        self.is_flat = all(hints[name] in LEAVES for name in self.own)

    def left(self, message: Any) -> Sequence[tuple[str, Any]]:
        """Return the fields that one has to look at further, with their types."""
        types = tuple(map(type, self.plain_values(message)))
        return self.others if types == self.plain_types else self.all

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
        kind = made.get("type") or vars(cls).get("type")
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
        # What was changed since the last time counts: a field, or its place in there.
        before = vars(self).get("_payload_before") or {}
        for name in checks.own if before else ():
            if name in before and before[name] != self.payload.get(name):
                setattr(self, name, self.payload.get(name))
        for name, hint in checks.left(self):
            setattr(self, name, converted(hint, getattr(self, name), name))
        if checks.own:
            self.payload = checks.payload(self)
            self._payload_before = checks.copied(self.payload)

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
