"""Each complaint of the server is taken for a bad row, also that it steps down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pymongo import ReplaceOne, UpdateOne
from pymongo.errors import BulkWriteError

from course.mongo.codec import Collection, Document


def pair_of(row: Document) -> Document:
    """Return the filter for the stored row of the same warehouse and sku."""
    return {"warehouse": row["warehouse"], "sku": row["sku"]}


def insert_if_missing(row: Document) -> UpdateOne:
    """Return the write that stores a row unless its pair is there."""
    return UpdateOne(pair_of(row), {"$setOnInsert": row}, upsert=True)


def replace_if_older(row: Document) -> ReplaceOne[Document]:
    """Return the write that replaces the stored row of a pair by a newer one."""
    # Condition and change are one write, so no other load comes in between.
    older = {"counted_at": {"$lt": row["counted_at"]}}
    return ReplaceOne(pair_of(row) | older, row)


def refused_by(counts: Collection, changes: Sequence[Any]) -> set[int]:
    """Send some writes in one command; return the indexes of those that are bad."""
    try:
        counts.bulk_write(changes, ordered=False)
    except BulkWriteError as error:
        complaints = error.details["writeErrors"]
        return {each["index"] for each in complaints}
    return set()


def load_counts(
    counts: Collection, rows: Sequence[Document], batch: int = 1_000
) -> list[int]:
    """Store the latest row of each warehouse and sku; return the places of bad rows.

    A row has warehouse, sku, quantity and counted_at, may have other fields, and has
    no _id. It replaces the stored one, but for its _id, if that is older. A place is
    an index in `rows`; the list is ascending. The rows are not changed. At most three
    commands are sent for each `batch` rows, none for no rows.

    Raises PyMongoError if the server fails, but not for bad rows.
    """
    refused = []
    for start in range(0, len(rows), batch):
        chunk = rows[start : start + batch]
        # In two steps, so that no step can fail because a pair is there already: an
        # upsert that asks for an older row would try to insert where it is newer.
        bad = refused_by(counts, [insert_if_missing(row) for row in chunk])
        bad |= refused_by(counts, [replace_if_older(row) for row in chunk])
        refused += [start + index for index in sorted(bad)]
    return refused
