"""It takes any IntegrityError for a duplicate, also one of the work."""

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
    # Immediate: a second worker waits here, and then sees what the first has stored.
    db.execute("BEGIN IMMEDIATE")
    try:
        answer = answer_within(db, message_id, body, work)
        db.execute("COMMIT")
    except sqlite3.IntegrityError:
        db.execute("ROLLBACK")
        return ""
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return answer


def answer_within(
    db: sqlite3.Connection, message_id: str, body: bytes, work: Work
) -> str:
    """Return the stored answer, else do the work and store its answer."""
    ask = "SELECT body, answer FROM inbox WHERE id = ?"
    known = db.execute(ask, (message_id,)).fetchone()
    if known is None:
        answer = work(db, body)
        row = (message_id, body, answer)
        db.execute("INSERT INTO inbox VALUES (?, ?, ?)", row)
        return answer
    known_body, known_answer = known
    if known_body != body:
        raise ValueError(f"message {message_id} came before with another body")
    return str(known_answer)
