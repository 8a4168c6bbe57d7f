"""It asks the inbox before the transaction, so a second worker does the work again."""

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
    # A duplicate needs no write lock.
    known = stored(db, message_id, body)
    if known is not None:
        return known
    db.execute("BEGIN IMMEDIATE")
    try:
        answer = work(db, body)
        row = (message_id, body, answer)
        db.execute("INSERT OR REPLACE INTO inbox VALUES (?, ?, ?)", row)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return answer


def stored(db: sqlite3.Connection, message_id: str, body: bytes) -> str | None:
    """Return the stored answer, or None."""
    ask = "SELECT body, answer FROM inbox WHERE id = ?"
    known = db.execute(ask, (message_id,)).fetchone()
    if known is None:
        return None
    known_body, known_answer = known
    if known_body != body:
        raise ValueError(f"message {message_id} came before with another body")
    return str(known_answer)
