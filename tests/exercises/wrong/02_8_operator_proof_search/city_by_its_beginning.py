"""A city is looked for by a pattern, which others begin with, too."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from course.mongo.codec import Collection, Document, is_text, unencodable


def fields_of(value: object, allowed: Iterable[str]) -> Document:
    """Return an object that has no fields but these; raise ValueError otherwise."""
    if not isinstance(value, dict) or not value.keys() <= set(allowed):
        raise ValueError("refused: not an object of the allowed fields")
    return value


def some_fields_of(value: object, allowed: Iterable[str]) -> Document:
    """Return the same, if it has one field at least."""
    fields = fields_of(value, allowed)
    if not fields:
        raise ValueError("refused: an empty object")
    return fields


def text(value: object) -> str:
    """Return a text; raise ValueError for anything else."""
    if not isinstance(value, str) or not is_text(value):
        raise ValueError("refused: not a text")
    return value


def texts(value: object) -> list[str]:
    """Return one to ten texts; an operator among them would be obeyed."""
    if not isinstance(value, list) or not 1 <= len(value) <= 10:
        raise ValueError("refused: not one to ten texts")
    return [text(each) for each in value]


def number(value: object) -> float:
    """Return a number that BSON can hold; True is an int in Python."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("refused: not a number")
    if unencodable({"value": value}) or not math.isfinite(value):
        raise ValueError("refused: not a finite number of 64 bits")
    return value


def price_range(value: object) -> Document:
    """Return the condition of a price, with one bound or two."""
    operators = {"from": "$gte", "to": "$lt"}
    bounds = some_fields_of(value, operators)
    return {operators[name]: number(bound) for name, bound in bounds.items()}


def search_listings(listings: Collection, body: object) -> list[Document]:
    """Return the published listings that match a client's body, in the order of _id.

    The body may have city, price (from, to), tags and owner (name, country), as
    task.md describes them; an empty body finds all that is published. It is not
    changed.

    Raises ValueError, before the collection is asked, for everything else.
    """
    wanted = fields_of(body, ("city", "price", "tags", "owner"))
    query: Document = {"status": "published"}
    if "city" in wanted:
        query["city"] = {"$regex": "^" + re.escape(text(wanted["city"]))}
    if "price" in wanted:
        query["price"] = price_range(wanted["price"])
    if "tags" in wanted:
        query["tags"] = {"$all": texts(wanted["tags"])}
    if "owner" in wanted:
        owner = some_fields_of(wanted["owner"], ("name", "country"))
        for name, value in owner.items():
            query[f"owner.{name}"] = {"$eq": text(value)}
    return list(listings.find(query).sort("_id", 1))
