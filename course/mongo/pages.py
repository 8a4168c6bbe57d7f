"""Pages of a collection in the order of _id, as the bytes that the server sends."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import bson

from course.mongo.codec import RAW, Collection, Document

FIRST = 1  # the directions of a sort
LAST = -1


def raw_page(
    collection: Collection, query: Document, size: int, way: int = FIRST
) -> bytes:
    """Return documents as BSON, end to end: nothing is decoded."""
    find: Any = collection.find_raw_batches
    batches = find(query, sort=[("_id", way)], limit=size)
    return b"".join(batches)


def query_behind(collection: Collection, last: Any, since: Any = None) -> Document:
    """Return the query for the documents behind an _id; None stands for the beginning.

    With `since`, an _id, it is the query for the documents from there on.

    Raises ValueError if there are _id of two types: $gt compares within a type only, so
    it would pass over the others.
    """
    # A server sorts by type first, so the two ends differ if any two _id do.
    first = raw_page(collection, {}, 1, FIRST)
    end = raw_page(collection, {}, 1, LAST)
    ids = [row["_id"] for row in bson.decode_all(first + end, RAW)]
    ids += [key for key in (last, since) if key is not None]
    kinds = sorted({kind_of(key) for key in ids})
    if len(kinds) > 1:
        raise ValueError(f"_id of two types: {' and '.join(kinds)}")
    if since is not None:
        return {"_id": {"$gte": since}}
    if last is None:
        return {}
    return {"_id": {"$gt": last}}


def kind_of(key: Any) -> str:
    """Return the name of an _id's type; all numbers compare."""
    if type(key) in (int, bson.Int64, float, bson.Decimal128):
        return "number"
    if isinstance(key, Mapping):
        return "object"
    if isinstance(key, datetime | bson.DatetimeMS):
        return "date"
    return type(key).__name__
