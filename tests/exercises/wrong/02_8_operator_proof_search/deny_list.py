"""It refuses names with $ or dots and lets all other fields through, even status."""

from __future__ import annotations

import math
from typing import Any

from course.mongo.codec import Collection, Document, is_text, unencodable


def refuse_operators(value: Any) -> None:
    """Raise ValueError for an operator or a path, at any depth."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name.startswith("$") or "." in name:
                raise ValueError("refused: an operator")
            refuse_operators(inner)
    elif isinstance(value, list):
        for inner in value:
            refuse_operators(inner)
    elif value is None or (isinstance(value, str) and not is_text(value)):
        raise ValueError("refused: not a plain value")


def bounds_of(price: Any) -> Document:
    """Return the condition of a price; raise ValueError for no range of numbers."""
    if not isinstance(price, dict) or not price or not price.keys() <= {"from", "to"}:
        raise ValueError("refused: not a range")
    for bound in price.values():
        if isinstance(bound, bool) or not isinstance(bound, int | float):
            raise ValueError("refused: not a number")
        if unencodable({"bound": bound}) or not math.isfinite(bound):
            raise ValueError("refused: not a number")
    operators = {"from": "$gte", "to": "$lt"}
    return {operators[name]: bound for name, bound in price.items()}


def search_listings(listings: Collection, body: object) -> list[Document]:
    """Return the published listings that match a client's body, in the order of _id.

    The body may have city, price (from, to), tags and owner (name, country), as
    task.md describes them; an empty body finds all that is published. It is not
    changed.

    Raises ValueError, before the collection is asked, for everything else.
    """
    if not isinstance(body, dict):
        raise ValueError("refused: not an object")
    refuse_operators(body)
    query: Document = {"status": "published"}
    for name, value in body.items():
        if name == "price":
            query["price"] = bounds_of(value)
        elif isinstance(value, list):
            if not value or not all(isinstance(tag, str) for tag in value):
                raise ValueError("refused: not texts")
            query[name] = {"$all": list(value)}
        elif isinstance(value, dict):
            if not value:
                raise ValueError("refused: an empty object")
            for inner, wanted in value.items():
                query[f"{name}.{inner}"] = {"$eq": wanted}
        else:
            query[name] = {"$eq": value}
    return list(listings.find(query).sort("_id", 1))
