"""An example service: one welcome for each message, however often it is delivered."""

from __future__ import annotations

import sqlite3
from pathlib import Path

TABLES = """
CREATE TABLE IF NOT EXISTS inbox (message_id TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS welcomes (email TEXT NOT NULL);
"""


class WelcomesInMemory:
    """The stand-in, for tests of what uses the service."""

    def __init__(self) -> None:
        self.by_message: dict[str, str] = {}

    def keep(self, message_id: str, email: str) -> bool:
        """Keep an address, once for each message; tell whether it is new."""
        is_new = message_id not in self.by_message
        self.by_message.setdefault(message_id, email)
        return is_new

    def addresses(self) -> list[str]:
        """Return what is kept."""
        return list(self.by_message.values())


class WelcomesInDatabase:
    """Keeps the message's id and its effect in one transaction: both, or none."""

    def __init__(self, database: Path) -> None:
        self.connection = sqlite3.connect(database, timeout=5)
        self.connection.executescript(TABLES)

    # region keep
    def keep(self, message_id: str, email: str) -> bool:
        """Keep an address, once for each message; tell whether it is new."""
        with self.connection as connection:
            new_id = "INSERT OR IGNORE INTO inbox VALUES (?)"
            if connection.execute(new_id, [message_id]).rowcount == 0:
                return False
            connection.execute("INSERT INTO welcomes VALUES (?)", [email])
        return True

    # endregion keep

    def addresses(self) -> list[str]:
        """Return what is kept."""
        return [email for (email,) in self.connection.execute("SELECT * FROM welcomes")]
