"""Pages of a collection in the order of _id, as the bytes that the server sends."""

from __future__ import annotations

from typing import Any

import bson

from course.mongo.codec import CODEC, Collection, Document

FIRST = 1  # the directions of a sort
LAST = -1


def raw_page(
    collection: Collection, query: Document, size: int, way: int = FIRST
) -> bytes:
    """Return documents as BSON, end to end: nothing is decoded."""
    find: Any = collection.find_raw_batches
    return b"".join(find(query, sort=[("_id", way)], limit=size))


def query_behind(collection: Collection, last: Any) -> Document:
    """Return the query of what is behind an _id, of all where that is None.

    Raises ValueError if there are _id of two types: $gt compares within a type only, so
    it would pass over the others.
    """
    ends = raw_page(collection, {}, 1, FIRST) + raw_page(collection, {}, 1, LAST)
    ids = [row["_id"] for row in bson.decode_all(ends, CODEC)]
    if last is not None:
        ids.append(last)
    kinds = sorted({kind_of(key) for key in ids})
    if len(kinds) > 1:
        raise ValueError(f"_id of two types: {' and '.join(kinds)}")
    if last is None:
        return {}
    return {"_id": {"$gt": last}}


def kind_of(key: Any) -> str:
    """Return the name of an _id's type; all numbers compare with each other."""
    if type(key) in (int, bson.Int64, float, bson.Decimal128):
        return "number"
    return type(key).__name__
