"""Of a pair that comes twice in a load, the later row is taken, not the latest."""

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
    older = {"counted_at": {"$lt": row["counted_at"]}}
    return ReplaceOne(same | older, row, upsert=True)


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
    last = {}
    for place, row in enumerate(rows):
        last[row["warehouse"], row["sku"]] = place
    places = sorted(last.values())
    refused = []
    for start in range(0, len(places), batch):
        chunk = places[start : start + batch]
        changes = [replacement(rows[place]) for place in chunk]
        try:
            counts.bulk_write(changes, ordered=False)
        except BulkWriteError as error:
            for complaint in error.details["writeErrors"]:
                if complaint["code"] == BREAKS_VALIDATOR:
                    refused.append(chunk[complaint["index"]])
    return refused
