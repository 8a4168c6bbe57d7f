"""How publishing, consuming and declaring fail: the library's own errors."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import isasyncgen, isawaitable, iscoroutine, isgenerator
from typing import Any, Self


class MessagingError(Exception):
    """What all errors of this library have in common."""


class BadAddress(MessagingError):
    """A URL that names no broker; its text repeats nothing of it."""


class TopologyRefused(MessagingError):
    """The broker does not declare a queue or exchange, in its own words."""


class ConsumerRefused(MessagingError):
    """The broker lets nobody consume there, in its own words: a name, or a right."""


class PublishFailed(MessagingError):
    """Not confirmed: the message may or may not have arrived; send the id again.

    `message_id` is that id, `message_ids` those of all that failed in one wait().
    """

    outcome = "failed"  # what a producer counts it as
    message_id = ""
    message_ids: Sequence[str] = ()

    def about(self, message_id: str | None) -> Self:
        """Return the same failure, of one message."""
        one = type(self)(*self.args)
        one.message_id = message_id or ""
        one.message_ids = (one.message_id,)
        return one


class ProducerEnded(PublishFailed):
    """The producer is closed, or its thread has ended: it publishes nothing more."""


class NotInTime(PublishFailed):
    """Nobody has refused it: the broker was away, or takes nothing at the moment."""


class Unpublishable(PublishFailed):
    """It can never be sent as it is: not to be encoded, or the broker refuses it."""


class Unroutable(PublishFailed):
    """The exchange had no queue for it: the broker gave it back."""

    outcome = "returned"


class Unreadable(MessagingError):
    """A stored message that cannot be read, with the reason as a database takes it."""


class ForeignTable(MessagingError):
    """The database has a table of somebody else's with the name of one of a ledger."""

    def __init__(self, name: str) -> None:
        advice = "take another schema or database"
        super().__init__(f"the table {name} there is no ledger's; {advice}")


class EndedInside(MessagingError):
    """What ran inside a transaction has ended it, or hidden an error that did."""


def refuse_unrun(result: object) -> None:
    """Raise TypeError for what a coroutine or generator returns: nobody runs it."""
    if isawaitable(result) or isgenerator(result) or isasyncgen(result):
        if iscoroutine(result):
            result.close()  # else Python warns of it, somewhere and later
        raise TypeError("the effect is a coroutine or generator, which nobody runs")


def check_effect(effect: object) -> None:
    """Raise TypeError for what neither can be recorded nor writes anything."""
    if effect is not None and not isinstance(effect, str) and not callable(effect):
        kind = type(effect).__name__
        raise TypeError(f"an effect is a text or a function, and no {kind}")


def first_of(failures: Sequence[Any]) -> Any:
    """Return the first failure, which knows the ids of all.

    One that another attempt may mend, if there is one.
    """
    passing = [one for one in failures if not isinstance(one, Unpublishable)]
    first = (passing or failures)[0]
    first.message_ids = [failure.message_id for failure in failures]
    return first
