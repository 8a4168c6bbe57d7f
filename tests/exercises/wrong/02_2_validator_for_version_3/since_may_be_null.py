"""Takes null for a date that may be missing."""

from __future__ import annotations

from course.mongo.codec import Document
from course.mongo.schema import record, typed

# typed(bsonType...) describes a value; record("a b", a=..., b=..., c=...) an object
# that must have a and b, may have c, and nothing else.
KEY = typed("int", "long", "string", "objectId", "binData", minimum=0)
TEXT = typed("string", pattern="^.{1,200}$")
ADDRESS = typed("string", pattern="^[^@ ]{1,99}@[^@ ]{1,99}$")
WHEN = typed("date")

# What the release before writes. It stays as it is.
VERSION_2: Document = record(
    "schema_version username email created_at",
    _id=KEY,
    schema_version={"enum": [2]},
    username=TEXT,
    email=ADDRESS,
    created_at=WHEN,
    profile=record(
        "interests",
        interests=typed("array", items=TEXT),
        expertise=TEXT,
        projects=typed("int", "long", minimum=0),
    ),
)


# Spelled out: a copy of VERSION_2 would share its inner dicts, and changing it would
# change them in both.
MAYBE_WHEN = typed("date", "null")
VERSION_3: Document = record(
    "schema_version username emails created_at points",
    _id=KEY,
    schema_version={"enum": [3]},
    username=TEXT,
    emails=typed(
        "array",
        minItems=1,
        maxItems=3,
        items=record(
            "address verified",
            address=ADDRESS,
            verified=typed("bool"),
            since=MAYBE_WHEN,
        ),
    ),
    created_at=WHEN,
    points=typed("int", "long", minimum=0),
    balance=typed("decimal"),
    profile=record(
        "interests",
        interests=typed(
            "array",
            items=record("topic weight", topic=TEXT, weight=typed("number", minimum=0)),
        ),
        expertise=TEXT,
        projects=typed("int", "long", minimum=0),
    ),
)


def user_schemas() -> list[Document]:
    """Return the $jsonSchemas of users of versions 2 and 3.

    A user is stored if it keeps at least one of them. VERSION_2 is not changed, and
    each call returns the same.
    """
    return [VERSION_2, VERSION_3]
