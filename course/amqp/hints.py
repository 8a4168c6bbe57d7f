"""Field types of message classes: those of JSON, and how a value is checked."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import KW_ONLY, asdict, fields, is_dataclass
from functools import cache
from inspect import get_annotations
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


def refuse_fixed(kind: Any) -> None:
    """Raise TypeError for a default that says no type, or that is the class's alone.

    A dataclass passes over both in silence: each message keeps the base's default, or
    is published with a field that no reader can set.
    """
    if "__dataclass_fields__" in vars(kind):
        return  # made a second time, by slots=True
    hints = get_annotations(kind)
    for item in fields(kind):
        name = item.name
        if name not in vars(kind) and name not in hints:
            continue
        if name not in hints or "ClassVar" in str(hints[name]):
            example = f"{name}: {name_of(item.type)} = ..."
            raise TypeError(f"{kind.__name__}.{name} is a field: write {example}")


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
