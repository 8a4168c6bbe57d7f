"""What exists on a broker under our prefix: declared with care, taken down again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pika
from pika import exceptions

from course.amqp.internals import TolerantConnection
from course.ending import ENDING
from course.errors import BadInput

PRECONDITION_FAILED = 406  # it is there, with other arguments


@dataclass(frozen=True)
class Planned:
    """A queue or an exchange of ours, and how it is declared."""

    kind: str  # "queue" or "exchange"
    name: str
    options: dict[str, Any] = field(hash=False)


class Topology:
    """Where the broker is, and the planned queues and exchanges, which it declares.

    With `expires`, what nobody has used for so many seconds disappears by itself, also
    after a kill -9.
    """

    def __init__(self, parameters: Any, prefix: str, expires: float = 0.0) -> None:
        self.parameters = parameters
        self.prefix = prefix
        self.expires = expires
        self.plan: list[Planned] = []
        self.bindings: list[tuple[str, str, str]] = []  # queue, exchange, key

    def name(self, suffix: str) -> str:
        """Return our full name of a queue or exchange."""
        return f"{self.prefix}.{suffix}"

    def plan_exchange(self, name: str, kind: str) -> None:
        """Plan an exchange: "direct", "topic" or "fanout"."""
        options: dict[str, Any] = {"exchange_type": kind}
        if self.expires:
            options["auto_delete"] = True  # it goes with the last queue bound to it
        self.plan.append(Planned("exchange", name, options))

    def plan_queue(self, name: str, arguments: dict[str, Any]) -> None:
        """Plan a queue."""
        if self.expires:
            arguments = arguments | {"x-expires": round(1000 * self.expires)}
        self.plan.append(Planned("queue", name, {"arguments": arguments}))

    def connect(self) -> Any:
        """Return a new connection; every thread needs its own."""
        return pika.BlockingConnection(self.parameters, TolerantConnection)

    @contextmanager
    def channel(self) -> Iterator[Any]:
        """Yield a channel on a connection of its own, lost or not when it ends."""
        connection = self.connect()
        try:
            yield connection.channel()
        finally:
            with suppress(Exception):
                connection.close()

    def declare(self, channel: Any, plan: Sequence[Planned]) -> None:
        """Declare queues and exchanges, and all bindings between them.

        Raises:
            BadInput: the broker refuses, as one is there with other arguments.
        """
        try:
            for item in plan:
                declare = getattr(channel, f"{item.kind}_declare")
                declare(item.name, durable=True, **item.options)
        except exceptions.ChannelClosedByBroker as refusal:
            reason = refusal.reply_text
            if refusal.reply_code == PRECONDITION_FAILED:
                reason += "; delete it or take another --prefix"
            raise BadInput(reason) from None
        names = {item.name for item in plan}
        for queue, exchange, key in self.bindings:
            if queue in names and exchange in names:
                channel.queue_bind(queue, exchange, key)

    def look(self, connection: Any, item: Planned) -> Any:
        """Return what the broker says of a queue or exchange, or None."""
        with suppress(exceptions.ChannelClosedByBroker), connection.channel() as one:
            declare = getattr(one, f"{item.kind}_declare")
            return declare(item.name, passive=True).method

    def existing(self, connection: Any) -> list[Planned]:
        """Return those of the plan that exist already."""
        return [item for item in self.plan if self.look(connection, item)]

    def teardown(self) -> None:
        """Delete everything of ours that exists, with what is in it."""
        with self.channel() as channel:
            # Twice where a run was ended: a thread of it may just be declaring some.
            for _ in range(2 if ENDING.reason else 1):
                for item in self.existing(channel.connection):
                    delete = getattr(channel, f"{item.kind}_delete")
                    delete(item.name)

    def ready(self, *queues: str) -> int:
        """Return how many messages wait in queues, given by their full names."""
        count = 0
        with self.channel() as channel:
            for queue in queues:
                found = channel.queue_declare(queue, passive=True)
                count += int(found.method.message_count)
        return count
