"""Events into a data frame of pandas and back, with their types kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import bson

from course.errors import Skip
from course.lab import outcome_of
from course.mongo.codec import Document
from course.mongo.seed import START

if TYPE_CHECKING:
    import pandas


def visits_of_all_kinds() -> list[Document]:
    """Return visits: one was not timed, one is longer than a float can tell."""
    rows = []
    for number, seconds in enumerate((None, 5, 2**53 + 1)):
        metadata: Document = {"price": bson.Decimal128("0.10")}
        if seconds:
            metadata["seconds"] = seconds
        rows.append({"_id": number, "timestamp": START, "metadata": metadata})
    return rows


def kept(frame: pandas.DataFrame) -> dict[str, Any]:
    """Return what is left of the visits' time zone, digits and cents."""
    total = outcome_of(frame["metadata.price"].sum)
    return {
        "zone": str(frame["timestamp"].dt.tz),
        "digits": int(frame["metadata.seconds"].max()) - 2**53,
        "cents": type(total).__name__ if isinstance(total, Exception) else str(total),
    }


def pandas_or_skip() -> Any:
    """Return pandas; skip the rest of a demo where it is not installed."""
    try:
        import pandas  # noqa: PLC0415  (a second's work, of one demo only)
    except ImportError:
        raise Skip("pandas is not installed; it shows documents in a frame") from None
    return pandas


# region frames
# A type of its own for each field: what is missing stays missing.
COLUMNS = {
    "_id": "Int64",  # with the capital letter, an integer that may be missing
    "user_id": "Int64",
    "event_type": "string",
    "timestamp": "datetime64[ms, UTC]",  # BSON has milliseconds
    "metadata.price": "object",  # of Decimal: sums are exact
    "metadata.seconds": "Int64",
}


def to_frame(rows: Iterable[Document]) -> pandas.DataFrame:
    """Return documents as a frame, a column for each field and its type."""
    pandas = pandas_or_skip()
    rows = list(rows)
    columns = {}
    for name, kind in COLUMNS.items():
        values = [in_frame(row, name) for row in rows]
        columns[name] = pandas.Series(values, dtype=kind)
    return pandas.DataFrame(columns)


def in_frame(row: Mapping[str, Any], path: str) -> Any:
    """Return the value of a field, None where it is missing."""
    value: Any = row
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value.to_decimal() if isinstance(value, bson.Decimal128) else value


# endregion frames
def to_documents(frame: pandas.DataFrame) -> list[Document]:
    """Return the rows of a frame as documents; a missing value is no field."""
    pandas = pandas_or_skip()
    documents = []
    for row in frame.to_dict("records"):
        document: Document = {}
        for path, value in row.items():
            if not pandas.isna(value):
                put(document, str(path), in_bson(value))
        documents.append(document)
    return documents


def in_bson(value: Any) -> Any:
    """Return a value of a frame as PyMongo takes it."""
    if isinstance(value, Decimal):
        return bson.Decimal128(value)
    if hasattr(value, "to_pydatetime"):
        return value.to_pydatetime()
    return value.item() if hasattr(value, "item") else value  # of NumPy


def put(document: Document, path: str, value: Any) -> None:
    """Set a field of a document, and the objects around it."""
    *outer, last = path.split(".")
    for name in outer:
        document = document.setdefault(name, {})
    document[last] = value
