"""Version 3 is a shallow copy, so making it changes VERSION_2 as well."""

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


EMAILS = typed(
    "array",
    minItems=1,
    maxItems=3,
    items=record(
        "address verified", address=ADDRESS, verified=typed("bool"), since=WHEN
    ),
)
INTERESTS = typed(
    "array",
    items=record("topic weight", topic=TEXT, weight=typed("number", minimum=0)),
)


def user_schemas() -> list[Document]:
    """Return the $jsonSchemas of users of versions 2 and 3.

    A user is stored if it keeps at least one of them. VERSION_2 is not changed, and
    each call returns the same.
    """
    version_3 = dict(VERSION_2)
    fields = version_3["properties"]
    fields["schema_version"] = {"enum": [3]}
    fields.pop("email", None)
    fields["emails"] = EMAILS
    fields["points"] = typed("int", "long", minimum=0)
    fields["balance"] = typed("decimal")
    fields["profile"] = record(
        "interests",
        interests=INTERESTS,
        expertise=TEXT,
        projects=typed("int", "long", minimum=0),
    )
    needed = [name for name in VERSION_2["required"] if name != "email"]
    version_3["required"] = [*needed, "emails", "points"]
    return [VERSION_2, version_3]
