"""An inbox that gives the same answer again."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

SCHEMA = """
CREATE TABLE IF NOT EXISTS inbox (
    id TEXT PRIMARY KEY,
    body BLOB NOT NULL,
    answer TEXT NOT NULL
)
"""

Work = Callable[[sqlite3.Connection, bytes], str]


def answer_once(
    db: sqlite3.Connection, message_id: str, body: bytes, work: Work
) -> str:
    """Return the answer to a message, and do its work unless that has been done.

    Args:
        db: a connection in autocommit mode, outside a transaction, with the tables.
        message_id: the same for every delivery of a message.
        body: what the message says.
        work: writes the effect with the connection, and returns the answer.

    Raises:
        ValueError: the id is known with another body.
        Exception: what `work` raises, and what SQLite raises if another connection
            keeps the file locked for longer than the timeout.
    """
    raise NotImplementedError
