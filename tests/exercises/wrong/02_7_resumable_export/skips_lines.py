"""It skips as many users as there are lines, so one that is deleted loses another."""

from __future__ import annotations

from pathlib import Path

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


def whole_lines(path: Path) -> int:
    """Return how many whole lines a file has; cut off the rest."""
    data = path.read_bytes() if path.exists() else b""
    end = data.rfind(b"\n") + 1
    if end < len(data):
        with path.open("r+b") as file:
            file.truncate(end)
    return data.count(b"\n")


def export_changes(users: Collection, path: Path, page: int = 500) -> int:
    r"""Append the users behind the last whole line of a file; return how many.

    They come in the order of changed_at, then of _id. A line is as_line() in UTF-8 and
    b"\n". What follows the last b"\n" of the file is cut off first; what is before it
    stays. Each page is a find with limit(page), asked for by key, and is readable in
    the file before the next one is asked for.
    """
    there = whole_lines(path)
    written = 0
    with path.open("ab") as file:
        while True:
            query = users.find().sort(ORDER).skip(there + written)
            rows = list(query.limit(page))
            if not rows:
                return written
            lines = [as_line(row) + "\n" for row in rows]
            file.write("".join(lines).encode())
            file.flush()
            written += len(rows)
