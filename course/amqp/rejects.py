"""Keeps what was sent but not confirmed, in a file from which it can be sent again."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from course.errors import BadInput


class Rejects:
    """A file of JSON lines, one for each message; or none, if nobody asked for it."""

    def __init__(self, file: TextIO | None = None) -> None:
        self.file = file
        self.count = 0

    def write(self, pending: Sequence[Any]) -> str:
        """Write messages; return how many, for people."""
        if self.file is None:
            return f"{len(pending)} (--rejects FILE keeps them)"
        for one in pending:
            self.file.write(json.dumps(line_of(one)) + "\n")
        self.file.flush()
        self.count += len(pending)
        return f"{len(pending)}, in {self.file.name}"


def line_of(pending: Any) -> dict[str, Any]:
    """Return what is to be sent again: with the same id, and all other properties."""
    line = {
        "message_id": pending.message_id,
        "exchange": pending.exchange,
        "key": pending.key,
        **properties_of(pending),
    }
    try:
        line["body"] = pending.body.decode()
    except UnicodeDecodeError:
        line["body_base64"] = base64.b64encode(pending.body).decode()
    return line


def properties_of(pending: Any) -> dict[str, Any]:
    """Return the properties: as JSON, else what decode() reads, else for people."""
    values = vars(pending.properties).items()
    about = {name: value for name, value in values if value is not None}
    with suppress(TypeError, ValueError):
        if json.loads(json.dumps(about, allow_nan=False)) == about:
            return {"properties": about}
    with suppress(Exception):  # what pika can't write may be anything
        encoded = b"".join(pending.properties.encode())
        return {"properties_base64": base64.b64encode(encoded).decode()}
    return {"properties_text": ascii(about)}


@contextmanager
def rejects_file(path: str | None) -> Iterator[Rejects]:
    """Yield where to write; a file that is empty at the end is removed.

    Raises:
        BadInput: it is there already, or can't be made.
    """
    if path is None:
        yield Rejects()
        return
    try:
        file = Path(path).open("x", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise BadInput(f"--rejects {path}: {error.strerror}") from None
    rejects = Rejects(file)
    try:
        yield rejects
    finally:
        file.close()
        if not rejects.count:
            Path(path).unlink()
