"""How many commands go to a server: its round trips."""

from __future__ import annotations

from pymongo import monitoring


class CommandCounter(monitoring.CommandListener):
    """Counts the commands of a client, or of the stand-in."""

    def __init__(self) -> None:
        self.sent = 0

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Count a command that goes out."""
        self.sent += 1

    def succeeded(self, event: object) -> None:
        """Pass over an answer, of whatever kind."""

    failed = succeeded
