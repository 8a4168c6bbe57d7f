"""A collection of the MongoDB stand-in that notes what an answer asks of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

COMMANDS = {
    "aggregate",
    "aggregate_raw_batches",
    "bulk_write",
    "count_documents",
    "delete_many",
    "delete_one",
    "distinct",
    "estimated_document_count",
    "find",
    "find_one",
    "find_one_and_delete",
    "find_one_and_replace",
    "find_one_and_update",
    "find_raw_batches",
    "insert_many",
    "insert_one",
    "replace_one",
    "update_many",
    "update_one",
}
# What changes no result; the stand-in does not know all of it.
WITHOUT_EFFECT = {"allowDiskUse", "batchSize", "comment", "maxTimeMS"}


@dataclass
class Asked:
    """A command, and what it has returned if that is documents."""

    name: str
    arguments: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    limit: int = 0
    skip: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)


class NotedCollection:
    """Passes all on to a collection, and notes each command that would be sent.

    A subclass may look, write, or raise, `before` and `after` each of them.
    """

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.asked: list[Asked] = []

    def before(self, asked: Asked) -> None:
        """Do something just before a command is sent."""

    def after(self, asked: Asked) -> None:
        """Do something as soon as a command has returned."""

    def send(self, asked: Asked, command: Any) -> Any:
        """Run a command, and note it."""
        self.asked.append(asked)
        self.before(asked)
        try:
            return command()
        finally:
            self.after(asked)

    def __getattr__(self, name: str) -> Any:
        """Return what the collection has, with its commands noted."""
        found = getattr(self.inner, name)
        if name not in COMMANDS:
            return found

        def command(*arguments: Any, **options: Any) -> Any:
            known = {key: options[key] for key in options.keys() - WITHOUT_EFFECT}
            asked = Asked(name, arguments, known)
            if name == "find":
                return NotedCursor(self, asked)
            return self.send(asked, lambda: run(asked, found))

        return command


def run(asked: Asked, method: Any) -> Any:
    """Run a command to its end, as a server does before it answers."""
    result = method(*asked.arguments, **asked.options)
    if asked.name != "aggregate":
        return result
    asked.rows = list(result)
    return iter(asked.rows)


class NotedCursor:
    """A find: it is sent when its first document is asked for, as PyMongo does it."""

    def __init__(self, owner: NotedCollection, asked: Asked) -> None:
        self.owner = owner
        self.asked = asked
        self.inner = owner.inner.find(*asked.arguments, **asked.options)
        self.unread: Iterator[dict[str, Any]] | None = None
        asked.limit = asked.options.get("limit", 0)
        asked.skip = asked.options.get("skip", 0)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Return what is unread, of documents that were all read at once."""
        if self.unread is None:
            self.asked.rows = self.owner.send(self.asked, lambda: list(self.inner))
            self.unread = iter(self.asked.rows)
        return self.unread

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Return the documents."""
        return self.rows()

    def __next__(self) -> dict[str, Any]:
        """Return the next document."""
        return next(self.rows())

    def __getitem__(self, place: Any) -> Any:
        """Return the document at a place."""
        self.rows()
        return self.asked.rows[place]

    def limit(self, count: int) -> NotedCursor:
        """Note a limit."""
        self.asked.limit = count
        self.inner.limit(count)
        return self

    def skip(self, count: int) -> NotedCursor:
        """Note how many are passed over."""
        self.asked.skip = count
        self.inner.skip(count)
        return self

    def to_list(self, length: int | None = None) -> list[dict[str, Any]]:
        """Return the documents as a list."""
        found = list(self.rows())
        return found if length is None else found[:length]

    def __getattr__(self, name: str) -> Any:
        """Return what the cursor has, such as sort(), which returns this one."""
        found = getattr(self.inner, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            result = found(*arguments, **options)
            return self if result is self.inner else result

        return call
