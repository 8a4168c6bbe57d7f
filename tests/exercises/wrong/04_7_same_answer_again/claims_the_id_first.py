"""It commits the id before the work, so a crash leaves an id without its effect."""

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
    claim = "INSERT INTO inbox VALUES (?, ?, '') ON CONFLICT DO NOTHING"
    new = db.execute(claim, (message_id, body)).rowcount == 1
    if not new:
        return known_answer(db, message_id, body)
    db.execute("BEGIN IMMEDIATE")
    try:
        answer = work(db, body)
        change = "UPDATE inbox SET answer = ? WHERE id = ?"
        db.execute(change, (answer, message_id))
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        # Somebody else may try.
        db.execute("DELETE FROM inbox WHERE id = ?", (message_id,))
        raise
    return answer


def known_answer(db: sqlite3.Connection, message_id: str, body: bytes) -> str:
    """Return the answer that is stored."""
    ask = "SELECT body, answer FROM inbox WHERE id = ?"
    known_body, answer = db.execute(ask, (message_id,)).fetchone()
    if known_body != body:
        raise ValueError(f"message {message_id} came before with another body")
    return str(answer)
