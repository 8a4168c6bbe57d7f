"""How lesson 02 writes a $jsonSchema, and puts it into a database."""

from __future__ import annotations

from typing import Any

from pymongo.errors import CollectionInvalid, OperationFailure

from course.mongo.codec import Database, Document

NAMESPACE_EXISTS = 48


def typed(*kinds: str, **rules: Any) -> Document:
    """Return the $jsonSchema of a value."""
    return {"bsonType": list(kinds)} | rules


def record(required: str, /, **fields: Document) -> Document:
    """Return the $jsonSchema of an object with these fields and no others."""
    schema = typed("object", properties=fields, required=required.split())
    return schema | {"additionalProperties": False}


def create_unless_there(db: Database, name: str, validator: Document) -> bool:
    """Create a collection; return False if it is there by now.

    Two deployments that start together both find it missing; one of them is second.
    """
    try:
        db.create_collection(name, validator=validator)
    except CollectionInvalid:  # PyMongo looks once more, and raises this
        return False
    except OperationFailure as error:  # the other one came after that look
        if error.code != NAMESPACE_EXISTS:
            raise
        return False
    return True
