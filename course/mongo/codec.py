"""How documents are typed in our code, and how they are read from BSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import bson
import pymongo
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.raw_bson import RawBSONDocument

Document = dict[str, Any]
Collection = pymongo.collection.Collection[Document]
Database = pymongo.database.Database[Document]

CODEC = CodecOptions[Document](
    tz_aware=True,  # moments come back in UTC, and not naive
    uuid_representation=bson.binary.STANDARD,
)
RAW = CodecOptions(  # decoded where it is touched, whatever the other fields hold
    document_class=RawBSONDocument,
    tz_aware=True,
    uuid_representation=bson.binary.STANDARD,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,  # years after 9999, too
    unicode_decode_error_handler="surrogateescape",
)
MOST_BYTES = 2**24  # of a document
UNENCODABLE = (bson.errors.BSONError, TypeError, ValueError, OverflowError)


NAIVE = "a naive datetime names no instant: give it a time zone"


def naive_field(value: Any, path: str = "") -> str:
    """Return the field of the first naive datetime in a value, "" if there is none."""
    if isinstance(value, datetime) and value.utcoffset() is None:
        return path or "value"
    inner: Iterable[tuple[object, Any]] = ()
    if isinstance(value, Mapping):
        inner = value.items()
    elif isinstance(value, list | tuple):
        inner = enumerate(value)
    for name, item in inner:
        if found := naive_field(item, f"{path}.{name}" if path else str(name)):
            return found
    return ""


def with_time_zones(document: Document) -> Document:
    """Return a document; raise ValueError if a moment in it has no time zone.

    PyMongo takes such a moment for UTC: datetime.now() in Kyiv is stored hours off.
    """
    if name := naive_field(document):
        raise ValueError(f"{name}: {NAIVE}")
    return document


def span(start: datetime, end: datetime) -> Document:
    """Return the condition start <= moment < end; both need a time zone."""
    return with_time_zones({"$gte": start, "$lt": end})


def unencodable(document: Any) -> str:
    """Return why a document is not for BSON, "" if it is."""
    if not isinstance(document, Mapping):
        return f"no document: {name_of(document)}"
    if name := naive_field(document):
        return f"{name} has no time zone"
    try:
        encoded = bson.encode(document, codec_options=CODEC)
    except UNENCODABLE as error:
        return unencodable_field(document) or f"no BSON: {type(error).__name__}"
    if len(encoded) > MOST_BYTES:
        return "larger than 16 MB"
    return ""


def unencodable_field(value: Any, path: str = "") -> str:
    """Return which field of a value BSON cannot hold, and of what type it is."""
    inner: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        inner = value.items()
    elif isinstance(value, list | tuple):
        inner = enumerate(value)
    else:
        try:
            bson.encode({"value": value}, codec_options=CODEC)
        except OverflowError:
            return f"{path}: more than 64 bits"
        except UNENCODABLE:
            return f"{path}: no BSON for {name_of(value)}"
    for name, item in inner:
        if isinstance(value, Mapping) and not isinstance(name, str):
            return f"{path or 'document'}: no key of type {name_of(name)}"
        if found := unencodable_field(item, f"{path}.{name}" if path else str(name)):
            return found
    return ""


def name_of(value: object) -> str:
    """Return a type as one writes it, such as numpy.int64."""
    kind = type(value)
    if kind.__module__ == "builtins":
        return kind.__name__
    return f"{kind.__module__}.{kind.__qualname__}"
