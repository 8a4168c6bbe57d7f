"""How many commands go to a server: its round trips."""

from __future__ import annotations

from pymongo import monitoring

OF_A_CONNECTION = {"hello", "ismaster", "saslstart", "saslcontinue", "authenticate"}
OF_A_CONNECTION |= {"getnonce", "logout", "copydbsaslstart", "endsessions"}


class CommandCounter(monitoring.CommandListener):
    """Counts the commands of a client, or of the stand-in."""

    def __init__(self) -> None:
        self.sent = 0

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Count a command that goes out, unless it belongs to a new connection."""
        # Trap: the pool opens connections when it likes, and each of them logs in.
        if event.command_name.lower() not in OF_A_CONNECTION:
            self.sent += 1

    def succeeded(self, event: object) -> None:
        """Pass over an answer, of whatever kind."""

    failed = succeeded
