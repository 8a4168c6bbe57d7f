"""How documents are typed in our code, and how they are read from BSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
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
TOGETHER = 20  # documents that are encoded at once, to see whether they can be
# What holds no moment; most values of most documents are of these types.
TIMELESS = {str, int, float, bool, bytes, type(None), bson.ObjectId}
IN_UTC = (UTC, bson.tz_util.utc)  # the second is PyMongo's own

NAIVE = "a naive datetime names no instant: give it a time zone"
BEYOND = "in UTC, this is not in the years 1 to 9999"


def bad_moment(value: Any, path: str = "") -> tuple[str, str]:
    """Return the field of the first moment that is none in UTC, and why."""
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            return path or "value", NAIVE
        try:
            value.astimezone(UTC)
        except OverflowError:
            return path or "value", BEYOND
    inner: Iterable[tuple[object, Any]] = ()
    if isinstance(value, Mapping):
        inner = value.items()
    elif isinstance(value, list | tuple):
        inner = enumerate(value)
    for name, item in inner:
        field, why = bad_moment(item, f"{path}.{name}" if path else str(name))
        if why:
            return field, why
    return "", ""


def surely_in_utc(values: Iterable[Any]) -> bool:
    """Tell whether no moment in these values needs the longer look of bad_moment()."""
    for value in values:
        kind = type(value)
        if kind in TIMELESS:
            continue
        if kind is datetime:
            is_sure = value.tzinfo in IN_UTC
        elif kind is dict:
            is_sure = surely_in_utc(value.values())
        else:
            is_sure = kind is list and surely_in_utc(value)
        if not is_sure:
            return False
    return True


def with_time_zones(document: Document) -> Document:
    """Return a document; raise ValueError if a moment in it has no time zone.

    PyMongo takes such a moment for UTC: datetime.now() in Kyiv is stored hours off.
    """
    if not surely_in_utc(document.values()):
        name, why = bad_moment(document)
        if why:
            raise ValueError(f"{name}: {why}")
    return document


def span(start: datetime, end: datetime) -> Document:
    """Return the condition start <= moment < end; both need a time zone."""
    return with_time_zones({"$gte": start, "$lt": end})


def is_text(value: Any) -> bool:
    """Tell whether a value is a text; half a character, as in JSON, is none."""
    return isinstance(value, str) and not unencodable({"text": value})


def list_in(document: Mapping[str, Any], name: str) -> list[Any]:
    """Return a list of a document, [] if the field is missing; else ValueError."""
    found = document.get(name, [])
    if not isinstance(found, list):
        raise ValueError(f"{name} is not a list: {name_of(found)}")
    return found


def unencodable(document: Any) -> str:
    """Return why a document is not for BSON, "" if it is."""
    if not isinstance(document, Mapping):
        return f"no document: {name_of(document)}"
    name, why = bad_moment(document)
    if why:
        return f"{name} has no time zone" if why == NAIVE else f"{name}: {why}"
    try:
        encoded = bson.encode(document, codec_options=CODEC)
    except UNENCODABLE as error:
        return unencodable_field(document) or f"no BSON: {type(error).__name__}"
    if len(encoded) > MOST_BYTES:
        return "larger than 16 MB"
    return ""


def surely_encodable(documents: Sequence[Any]) -> bool:
    """Tell whether none of some documents needs the longer look of unencodable().

    To encode all in one call costs half of what a call for each costs.
    """
    are_plain = {type(document) for document in documents} <= {dict}
    if not are_plain or not surely_in_utc(documents):
        return False
    try:
        encoded = bson.encode({"all": documents}, codec_options=CODEC)
    except UNENCODABLE:
        return False
    return len(encoded) <= MOST_BYTES


def unencodable_of(documents: Sequence[Document]) -> dict[int, Document]:
    """Return complaints, by index, about the documents that BSON cannot hold."""
    complaints: dict[int, Document] = {}
    for start in range(0, len(documents), TOGETHER):
        page = documents[start : start + TOGETHER]
        if surely_encodable(page):
            continue
        for index, document in enumerate(page, start):
            why = unencodable(document)
            if why:
                complaints[index] = {"code": 0, "unsent": why}
    return complaints


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
