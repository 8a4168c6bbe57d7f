"""It looks which rows are newer and then writes them, whatever came in between."""

from __future__ import annotations

from collections.abc import Sequence

from pymongo import ReplaceOne
from pymongo.errors import BulkWriteError

from course.mongo.codec import Collection, Document

DUPLICATE_KEY = 11000  # the codes of a server's complaints
BREAKS_VALIDATOR = 121


def pair_of(row: Document) -> Document:
    """Return the filter for the stored row of the same warehouse and sku."""
    return {"warehouse": row["warehouse"], "sku": row["sku"]}


def breaks(row: Document) -> bool:
    """Tell whether the validator will refuse a row, as far as we know."""
    quantity = row.get("quantity")
    return type(quantity) is not int or quantity < 0


def newest_of(rows: Sequence[Document]) -> dict[tuple[str, str], Document]:
    """Return the latest of some rows by warehouse and sku."""
    newest: dict[tuple[str, str], Document] = {}
    for row in rows:
        key = (row["warehouse"], row["sku"])
        if key not in newest or newest[key]["counted_at"] < row["counted_at"]:
            newest[key] = row
    return newest


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
        pairs = [pair_of(row) for row in chunk]
        stored = newest_of(list(counts.find({"$or": pairs})))
        changes = []
        places = []
        for place, row in enumerate(chunk, start):
            there = stored.get((row["warehouse"], row["sku"]))
            if there and there["counted_at"] >= row["counted_at"]:
                continue
            changes.append(ReplaceOne(pair_of(row), row, upsert=True))
            places.append(place)
            if not breaks(row):
                stored[row["warehouse"], row["sku"]] = row
        try:
            if changes:
                counts.bulk_write(changes, ordered=False)
        except BulkWriteError as error:
            for complaint in error.details["writeErrors"]:
                if complaint["code"] == BREAKS_VALIDATOR:
                    refused.append(places[complaint["index"]])
    return refused
