"""A row replaces what is stored, whatever its moment: an old file undoes a new one."""

from __future__ import annotations

from collections.abc import Sequence

from pymongo import ReplaceOne
from pymongo.errors import BulkWriteError

from course.mongo.codec import Collection, Document

DUPLICATE_KEY = 11000  # the codes of a server's complaints
BREAKS_VALIDATOR = 121


def replacement(row: Document) -> ReplaceOne[Document]:
    """Return the write that stores a row in place of an older one."""
    same = {"warehouse": row["warehouse"], "sku": row["sku"]}
    return ReplaceOne(same, row, upsert=True)


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
        changes = [replacement(row) for row in rows[start : start + batch]]
        try:
            counts.bulk_write(changes, ordered=False)
        except BulkWriteError as error:
            for complaint in error.details["writeErrors"]:
                if complaint["code"] == BREAKS_VALIDATOR:
                    refused.append(start + complaint["index"])
    return refused
