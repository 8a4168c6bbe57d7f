"""What a server says about a document that it refuses, in words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pymongo.errors import WriteError

from course.mongo.codec import Collection, Document

DUPLICATE_KEY = 11000
BREAKS_VALIDATOR = 121
PARTS = ("details", "schemaRulesNotSatisfied", "propertiesNotSatisfied")


def broken(info: Any, path: tuple[str, ...] = ()) -> set[str]:
    """Return the properties that errInfo's details (MongoDB 5.0+) say are broken."""
    if isinstance(info, list):
        found = set()
        for part in info:
            found |= broken(part, path)
        return found
    if "propertyName" in info:
        path = (*path, info["propertyName"])
    # A complaint about an object holds complaints about its properties, and so on down.
    parts = [info[name] for name in PARTS if name in info]
    if parts:
        return broken(parts, path)
    wrong = info.get("missingProperties", [])
    wrong = wrong + info.get("additionalProperties", [])
    if not wrong:
        return {".".join(path)}
    return {".".join((*path, name)) for name in wrong}


def reason(error: Document) -> str:
    """Return why a document was refused, or not even sent."""
    if "unsent" in error:
        return str(error["unsent"])
    if error["code"] == DUPLICATE_KEY:
        return f"{', '.join(error.get('keyPattern', ['key']))} is taken"
    if error["code"] == BREAKS_VALIDATOR:
        return f"breaks {', '.join(sorted(broken(error['errInfo'])))}"
    return f"code {error['code']}"


def verdict(collection: Collection, document: Document) -> str:
    """Try to insert a copy; return "accepted" or the properties that it breaks."""
    try:
        collection.insert_one(dict(document))
    except WriteError as error:
        if error.code != BREAKS_VALIDATOR:
            raise
        details = error.details or {}
        return ", ".join(sorted(broken(details["errInfo"])))
    return "accepted"


def verdicts(collection: Collection, documents: dict[str, Document]) -> dict[str, str]:
    """Try to insert copies; return the verdict on each, by its name."""
    return {name: verdict(collection, each) for name, each in documents.items()}


def accepted(found: dict[str, str], names: Iterable[str]) -> int:
    """Return how many of these verdicts are "accepted"."""
    return sum(found[name] == "accepted" for name in names)
