"""Users of versions 2 and 3 in one collection: write user_schemas()."""

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


def user_schemas() -> list[Document]:
    """Return the $jsonSchemas of users of versions 2 and 3.

    A user is stored if it keeps at least one of them. VERSION_2 is not changed, and
    each call returns the same.
    """
    raise NotImplementedError
