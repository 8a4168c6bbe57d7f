"""How lesson 02 writes a $jsonSchema."""

from __future__ import annotations

from typing import Any

from course.mongo.codec import Document


def typed(*kinds: str, **rules: Any) -> Document:
    """Return the $jsonSchema of a value."""
    return {"bsonType": list(kinds)} | rules


def record(required: str, /, **fields: Document) -> Document:
    """Return the $jsonSchema of an object with these fields and no others."""
    schema = typed("object", properties=fields, required=required.split())
    return schema | {"additionalProperties": False}
