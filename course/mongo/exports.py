"""The file of an export: opened by one at a time, and cut only where it is ours."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

import bson
from bson.raw_bson import RawBSONDocument

from course.mongo.codec import MOST_BYTES, RAW, Collection
from course.mongo.elements import field_names
from course.mongo.pages import query_behind, raw_page

if sys.platform == "win32":
    import msvcrt

    FAR_AWAY = 2**62  # a byte that no file has: what is locked cannot be read

    def lock(file: BinaryIO) -> None:
        """Lock a file until it is closed; raise OSError if another has it."""
        file.seek(FAR_AWAY)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def lock(file: BinaryIO) -> None:
        """Lock a file until it is closed; raise OSError if another has it."""
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


# How a document begins: its length, the type of its first field, and that one's name.
# A server, and PyMongo, put _id first.
LENGTH = 4  # bytes
NAME = b"_id\0"
HEAD = LENGTH + 1 + len(NAME)
EVENT_FIELDS = {"schema_version", "user_id", "event_type", "timestamp"}
MORE_FIELDS = {"_id", "metadata", "geo", "session_info", "expires_at"}


class NotOurs(ValueError):
    """Raised for a file that is not provably an export of ours; it is left as it is."""


@dataclass
class Exported:
    """What a file holds already."""

    greatest: Any = None  # of all _id; not the last one, if events came late
    since: set[bytes] = field(default_factory=set)  # the _id from where we were asked
    end: int = 0  # of the last whole document, in bytes
    odd: RawBSONDocument | None = None  # the first without the fields of an event
    names: set[str] = field(default_factory=set)  # of all fields


@contextmanager
def export_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file to append to; raise ValueError if another export writes to it."""
    with path.open("a+b") as file:
        try:
            lock(file)
        except OSError:
            raise ValueError(f"another export writes to {path.name}") from None
        yield file


def exported(file: BinaryIO, events: Collection, since: Any = None) -> Exported:
    """Return what a file holds; cut off a document that is torn.

    Raises NotOurs, and leaves the file alone, unless its documents are of this
    collection and what is torn is the beginning of another one.
    """
    size = file.seek(0, os.SEEK_END)
    found = Exported()
    for row, end in whole_documents(file, size):
        key = row["_id"]
        if found.end == 0 or is_greater(key, found.greatest):
            found.greatest = key
        # In doubt, such as of two documents, it is among them.
        if since is not None and (is_greater(key, since) or not is_greater(since, key)):
            found.since.add(identity(key))
        found.names |= row.keys()
        if found.odd is None and not row.keys() >= EVENT_FIELDS:
            found.odd = row
        found.end = end
    if found.odd is not None and not is_stored(found.odd, events):
        raise NotOurs("not all its documents are events: not an export of ours")
    file.seek(found.end)
    torn = file.read(size - found.end)
    if torn and not is_torn(torn, found, events):
        raise NotOurs(f"no BSON document at byte {found.end}: not an export of ours")
    file.truncate(found.end)
    return found


def whole_documents(file: BinaryIO, size: int) -> Iterator[tuple[RawBSONDocument, int]]:
    """Yield the documents of a file that are whole, each with where it ends."""
    end = 0
    while end + HEAD <= size:
        file.seek(end)
        head = file.read(HEAD)
        length = int.from_bytes(head[:LENGTH], "little")
        if not is_head(head):
            raise NotOurs(f"no BSON document at byte {end}: not an export of ours")
        if end + length > size:
            return  # the process died while it wrote this one
        data = head + file.read(length - HEAD)
        try:
            row = RawBSONDocument(data, RAW)
            row["_id"]  # which reads the fields
        except bson.errors.BSONError:
            problem = f"no BSON document at byte {end}: not an export of ours"
            raise NotOurs(problem) from None
        end += length
        yield row, end


def is_head(head: bytes) -> bool:
    """Tell whether a document may begin like this: its length, a type, and _id."""
    length = int.from_bytes(head[:LENGTH], "little")
    return HEAD < length <= MOST_BYTES and head[LENGTH + 1 :] == NAME


def is_stored(row: RawBSONDocument, events: Collection) -> bool:
    """Tell whether a document is in a collection, byte for byte."""
    return row.raw == next_raw(events, {"_id": {"$gte": row["_id"]}})


def is_torn(data: bytes, found: Exported, events: Collection) -> bool:
    """Tell whether some bytes are the beginning of a document of ours.

    Trap: the head of a gzip file is also the length of a document that is not whole
    yet, and so are the first bytes of many a file. Behind documents of ours it takes a
    length, _id, and no field that events do not have; else the bytes have to be those
    of the event that comes next.
    """
    if found.end and is_head(data[:HEAD]):
        known = found.names | EVENT_FIELDS | MORE_FIELDS
        if known.issuperset(field_names(data)):
            return True
    following = next_raw(events, query_behind(events, found.greatest))
    return following.startswith(data)


def lacking(there: set[bytes], rows: list[RawBSONDocument]) -> list[RawBSONDocument]:
    """Return the documents whose _id is not among these."""
    return [row for row in rows if identity(row["_id"]) not in there]


def identity(key: Any) -> bytes:
    """Return an _id as something for a set; Python has no hash of some of them."""
    return bson.encode({"_id": key}, codec_options=RAW)


def next_raw(events: Collection, query: Any) -> bytes:
    """Return the first document that a query finds, b"" if there is none."""
    return raw_page(events, query, 1)


def is_greater(key: Any, other: Any) -> bool:
    """Tell whether an _id comes behind another, as the server sorts them."""
    if is_nan(key) or is_nan(other):  # which a server puts before all numbers
        return not is_nan(key)
    try:
        return bool(comparable(key) > comparable(other))
    except TypeError:  # such as two documents: the later in the file is the greater
        return True


def is_nan(key: Any) -> bool:
    """Tell whether an _id is the number that is none."""
    value = comparable(key)
    return isinstance(value, float | Decimal) and math.isnan(value)


def comparable(key: Any) -> Any:
    """Return an _id as something that Python compares as a server does."""
    if isinstance(key, bson.Decimal128):
        return key.to_decimal()
    if isinstance(key, bytes):  # the longer is the greater
        return len(key), getattr(key, "subtype", 0), key
    return key
