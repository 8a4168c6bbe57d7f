"""Users in the order of their changes, in a file: write export_changes()."""

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


def export_changes(users: Collection, path: Path, page: int = 500) -> int:
    r"""Append the users behind the last whole line of a file; return how many.

    They come in the order of changed_at, then of _id. A line is as_line() in UTF-8 and
    b"\n". What follows the last b"\n" of the file is cut off first; what is before it
    stays. Each page is a find with limit(page), asked for by key, and is readable in
    the file before the next one is asked for.
    """
    raise NotImplementedError
