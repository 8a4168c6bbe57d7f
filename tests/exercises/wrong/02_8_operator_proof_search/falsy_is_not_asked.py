"""What is empty or 0 is taken for not asked, so it restricts nothing."""

from __future__ import annotations

import math

from course.mongo.codec import Collection, Document, is_text, unencodable


def text(value: object) -> str:
    """Return a text; raise ValueError for anything else."""
    if not isinstance(value, str) or not is_text(value):
        raise ValueError("refused: not a text")
    return value


def number(value: object) -> float:
    """Return a finite number that BSON can hold; raise ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("refused: not a number")
    if unencodable({"value": value}) or not math.isfinite(value):
        raise ValueError("refused: not a finite number of 64 bits")
    return value


def taken(value: object, *allowed: str) -> Document:
    """Return an object of these fields only; raise ValueError otherwise."""
    if not isinstance(value, dict) or not value.keys() <= set(allowed):
        raise ValueError("refused: not the allowed fields")
    return value


def search_listings(listings: Collection, body: object) -> list[Document]:
    """Return the published listings that match a client's body, in the order of _id.

    The body may have city, price (from, to), tags and owner (name, country), as
    task.md describes them; an empty body finds all that is published. It is not
    changed.

    Raises ValueError, before the collection is asked, for everything else.
    """
    wanted = taken(body, "city", "price", "tags", "owner")
    query: Document = {"status": "published"}
    if city := wanted.get("city"):
        query["city"] = {"$eq": text(city)}
    if price := wanted.get("price"):
        bounds = taken(price, "from", "to")
        query["price"] = {}
        if low := bounds.get("from"):
            query["price"]["$gte"] = number(low)
        if high := bounds.get("to"):
            query["price"]["$lt"] = number(high)
    if tags := wanted.get("tags"):
        if not isinstance(tags, list) or len(tags) > 10:
            raise ValueError("refused: not one to ten texts")
        query["tags"] = {"$all": [text(tag) for tag in tags]}
    if owner := wanted.get("owner"):
        for name, value in taken(owner, "name", "country").items():
            query[f"owner.{name}"] = {"$eq": text(value)}
    return list(listings.find(query).sort("_id", 1))
