"""The validators of the MongoDB stand-in: $jsonSchema as far as lesson 02 uses it.

The package jsonschema knows no bsonType, and takes several times as long.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import bson

INT = {"int", "number"}
LONG = {"long", "number"}
BINARY = {"binData"}
EXPRESSION = {"regex"}
OTHER = {"other"}
BSON_TYPES: dict[type, set[str]] = {
    type(None): {"null"},
    bool: {"bool"},
    str: {"string"},
    datetime: {"date"},
    dict: {"object"},
    list: {"array"},
    float: {"double", "number"},
    bson.Decimal128: {"decimal", "number"},
    bson.Int64: LONG,
    bson.ObjectId: {"objectId"},
    uuid.UUID: BINARY,
    bytes: BINARY,
    bson.Binary: BINARY,
    re.Pattern: EXPRESSION,
    bson.Regex: EXPRESSION,
    bson.Timestamp: {"timestamp"},
}


def bson_types(value: Any) -> set[str]:
    """Return the bsonTypes of a value, as PyMongo sends it."""
    kind = type(value)
    if kind is int:  # sent as int32 where it fits
        return INT if -(2**31) <= value < 2**31 else LONG
    return BSON_TYPES.get(kind, OTHER)


def has_type(value: Any, kinds: list[str]) -> bool:
    """Tell whether a value is of one of these bsonTypes."""
    return not bson_types(value).isdisjoint(kinds)


def is_listed(value: Any, listed: list[Any]) -> bool:
    """Tell whether an enum has a value; True equals 1 in Python, and not in BSON."""
    return value in listed and type(value) is not bool


def is_a_number(value: Any) -> bool:
    """Tell whether a rule about numbers concerns a value."""
    return "number" in bson_types(value)


def is_at_least(value: Any, least: float) -> bool:
    """Tell whether a number reaches a minimum; what is none need not."""
    return not is_a_number(value) or float(str(value)) >= least


def matches(value: str, pattern: str) -> bool:
    """Tell whether a pattern is found in a text."""
    return not isinstance(value, str) or re.search(pattern, value) is not None


def has_at_least(value: list[Any], least: int) -> bool:
    """Tell whether an array has enough items."""
    return len(value) >= least


def has_at_most(value: list[Any], most: int) -> bool:
    """Tell whether an array has no more items than this."""
    return len(value) <= most


RULES: dict[str, Callable[[Any, Any], bool]] = {
    "bsonType": has_type,  # first: the others rely on the type
    "enum": is_listed,
    "minimum": is_at_least,
    "pattern": matches,
    "minItems": has_at_least,
    "maxItems": has_at_most,
}


def keeps_rules(schema: dict[str, Any], value: Any) -> bool:
    """Tell whether a value keeps the rules of a schema that concern itself."""
    # The first rule that is broken ends it: a text is not compared with 0.
    for name, rule in schema.items():
        is_kept = RULES.get(name)
        if is_kept and not is_kept(value, rule):
            return False
    return True


def breaches(schema: dict[str, Any], value: Any, path: str = "") -> Iterator[str]:
    """Yield the paths of the properties that break a $jsonSchema."""
    if not keeps_rules(schema, value):
        yield path
    elif isinstance(value, dict):
        yield from breaches_within(schema, value, f"{path}." if path else "")
    elif isinstance(value, list):
        for item in value:
            yield from breaches(schema.get("items", {}), item, path)


def breaches_within(
    schema: dict[str, Any], value: dict[str, Any], prefix: str
) -> Iterator[str]:
    """Yield what an object lacks, has too much, or has wrong."""
    known = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            yield prefix + name
    for name, inner in value.items():
        if name in known:
            yield from breaches(known[name], inner, prefix + name)
        elif not schema.get("additionalProperties", True):
            yield prefix + name
