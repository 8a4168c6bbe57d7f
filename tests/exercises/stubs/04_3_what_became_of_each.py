"""Keep the books of a publisher: what became of each message."""

from __future__ import annotations


class Receipts:
    """What the broker has said about each message, and what it has not.

    A message is known by its id. Outcomes are "waiting", "arrived", "unroutable",
    "refused" and "unknown", as task.md explains them.
    """

    def __init__(self) -> None:
        raise NotImplementedError

    def publishing(self, message_id: str) -> int:
        """Note a message that is published next; return its delivery tag.

        The tag counts what is published on the present channel, from 1.

        Raises:
            ValueError: the message waits, or has arrived. Nothing is noted.
        """
        raise NotImplementedError

    def on_return(self, message_id: str) -> None:
        """Note that the broker returned a waiting message: no queue took it."""
        raise NotImplementedError

    def on_confirm(self, tag: int, multiple: bool, positive: bool) -> None:
        """Note a confirm of the present channel: an ack if positive, else a nack.

        The broker confirms each message once.
        """
        raise NotImplementedError

    def on_lost(self) -> list[str]:
        """Note that the channel is gone, with all its tags.

        Returns:
            The ids that were in flight and had not been returned, in the order of
            publishing.
        """
        raise NotImplementedError

    def outcome(self, message_id: str) -> str:
        """Return the outcome of a message.

        Raises:
            KeyError: it was never published.
        """
        raise NotImplementedError
