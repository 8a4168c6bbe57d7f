"""It takes a return before a loss for the end of an earlier doubt."""

from __future__ import annotations


class Receipts:
    """What the broker has said about each message, and what it has not.

    A message is known by its id. Outcomes are "waiting", "arrived", "unroutable",
    "refused" and "unknown", as task.md explains them.
    """

    def __init__(self) -> None:
        self.in_flight: dict[int, str] = {}  # tag: id, in the order of publishing
        self.last_tag = 0
        self.returned: set[str] = set()  # and not yet confirmed
        self.doubtful: set[str] = set()  # an earlier try may have arrived
        self.outcomes: dict[str, str] = {}

    def publishing(self, message_id: str) -> int:
        """Note a message that is published next; return its delivery tag.

        The tag counts what is published on the present channel, from 1.

        Raises:
            ValueError: the message waits, or has arrived. Nothing is noted.
        """
        if self.outcomes.get(message_id) in ("waiting", "arrived"):
            raise ValueError(f"{message_id} is {self.outcomes[message_id]}")
        self.last_tag += 1
        self.in_flight[self.last_tag] = message_id
        self.outcomes[message_id] = "waiting"
        return self.last_tag

    def on_return(self, message_id: str) -> None:
        """Note that the broker returned a waiting message: no queue took it."""
        self.returned.add(message_id)

    def on_confirm(self, tag: int, multiple: bool, positive: bool) -> None:
        """Note a confirm of the present channel: an ack if positive, else a nack.

        The broker confirms each message once.
        """
        tags = [tag]
        if multiple:
            tags = [one for one in self.in_flight if one <= tag or tag == 0]
        for one in tags:
            message_id = self.in_flight.pop(one)
            if message_id in self.returned:
                self.settle(message_id, "unroutable")
            elif positive:
                self.settle(message_id, "arrived")
            else:
                self.settle(message_id, "refused")

    def settle(self, message_id: str, outcome: str) -> None:
        """Note the outcome of a try, and what it says about the message."""
        self.returned.discard(message_id)
        if outcome == "arrived":
            self.doubtful.discard(message_id)
        elif message_id in self.doubtful:
            outcome = "unknown"
        self.outcomes[message_id] = outcome

    def on_lost(self) -> list[str]:
        """Note that the channel is gone, with all its tags.

        Returns:
            The ids that were in flight and had not been returned, in the order of
            publishing.
        """
        again = []
        for message_id in self.in_flight.values():
            if message_id in self.returned:
                self.returned.discard(message_id)
                self.outcomes[message_id] = "unroutable"
            else:
                self.doubtful.add(message_id)
                self.settle(message_id, "unknown")
                again.append(message_id)
        self.in_flight.clear()
        self.last_tag = 0
        return again

    def outcome(self, message_id: str) -> str:
        """Return the outcome of a message.

        Raises:
            KeyError: it was never published.
        """
        return self.outcomes[message_id]
