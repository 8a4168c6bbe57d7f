"""Stock counts of two keys, loaded in any order: write load_counts()."""

from __future__ import annotations

from collections.abc import Sequence

from course.mongo.codec import Collection, Document

DUPLICATE_KEY = 11000  # the codes of a server's complaints
BREAKS_VALIDATOR = 121


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
    raise NotImplementedError
