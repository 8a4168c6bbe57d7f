"""How documents are typed in our code, and how they are read from BSON."""

from __future__ import annotations

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


def unencodable(document: Any) -> str:
    """Return why BSON cannot hold a document, "" if it can."""
    try:
        encoded = bson.encode(document, codec_options=CODEC)
    except UNENCODABLE as error:
        return f"no BSON: {type(error).__name__}"
    if len(encoded) > MOST_BYTES:
        return "larger than 16 MB"
    return ""
