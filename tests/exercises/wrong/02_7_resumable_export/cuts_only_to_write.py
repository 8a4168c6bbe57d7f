"""Cuts off half a line only where something comes behind it."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from bson import json_util

from course.mongo.codec import Collection, Document

OPTIONS = json_util.JSONOptions(json_mode=json_util.JSONMode.RELAXED, tz_aware=True)


def as_line(document: Document) -> str:
    """Return a document as JSON without a line end; U+0085 and U+2028 stay in it."""
    return json_util.dumps(document, json_options=OPTIONS, ensure_ascii=False)


def from_line(line: str | bytes) -> Document:
    """Return the document of a line; raise ValueError if it is not whole."""
    document: Document = json_util.loads(line, json_options=OPTIONS)
    return document


ORDER = [("changed_at", 1), ("_id", 1)]


def last_exported(file: BinaryIO) -> tuple[Document | None, int]:
    """Return the user of the last whole line, None without one, and its end."""
    last = b""
    end = 0
    file.seek(0)
    # In bytes: a torn letter cannot be decoded, and only b"\n" ends a line.
    for line in file:
        if line.endswith(b"\n"):
            last = line
            end += len(line)
    return from_line(last) if last else None, end


def behind(last: Document | None) -> Document:
    """Return the query for the users behind one; None stands for the beginning."""
    if last is None:
        return {}
    moment = last["changed_at"]
    same_moment = {"changed_at": moment, "_id": {"$gt": last["_id"]}}
    return {"$or": [{"changed_at": {"$gt": moment}}, same_moment]}


def export_changes(users: Collection, path: Path, page: int = 500) -> int:
    r"""Append the users behind the last whole line of a file; return how many.

    They come in the order of changed_at, then of _id. A line is as_line() in UTF-8 and
    b"\n". What follows the last b"\n" of the file is cut off first; what is before it
    stays. Each page is a find with limit(page), asked for by key, and is readable in
    the file before the next one is asked for.
    """
    written = 0
    with path.open("a+b") as file:
        last, end = last_exported(file)
        # Two users of the same moment are told apart by _id.
        while rows := list(users.find(behind(last)).sort(ORDER).limit(page)):
            lines = [as_line(row) + "\n" for row in rows]
            if not written:
                file.truncate(end)
            file.write("".join(lines).encode())
            file.flush()
            written += len(rows)
            last = rows[-1]
    return written
