"""Older rows are removed and the new ones inserted, so their _id change."""

from __future__ import annotations

from collections.abc import Sequence

from pymongo.errors import BulkWriteError

from course.mongo.codec import Collection, Document

DUPLICATE_KEY = 11000  # the codes of a server's complaints
BREAKS_VALIDATOR = 121


def older_than(row: Document) -> Document:
    """Return the filter for the stored row of a pair, if it is older."""
    return {
        "warehouse": row["warehouse"],
        "sku": row["sku"],
        "counted_at": {"$lt": row["counted_at"]},
    }


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
        chunk = list(enumerate(rows[start : start + batch], start))
        chunk.sort(key=lambda each: each[1]["counted_at"], reverse=True)
        counts.delete_many({"$or": [older_than(row) for _, row in chunk]})
        try:
            counts.insert_many([dict(row) for _, row in chunk], ordered=False)
        except BulkWriteError as error:
            for complaint in error.details["writeErrors"]:
                if complaint["code"] == BREAKS_VALIDATOR:
                    refused.append(chunk[complaint["index"]][0])
    return sorted(refused)
