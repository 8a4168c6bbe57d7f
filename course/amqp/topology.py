"""What exists on a broker under our prefix: declared with care, taken down again."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from pika import exceptions

from course.amqp.errors import BadAddress, TopologyRefused
from course.amqp.finding import parameters_of
from course.amqp.internals import (
    BY_THE_BROKER,
    ITS_OWN_FAULT,
    NOT_NOW,
    BrokerConnection,
    own_errors,
    server_properties,
)
from course.errors import BadInput

PRECONDITION_FAILED = 406  # it is there, with other arguments
NATIVE_SINCE = [4, 3]
LEAST_TIMES = {"x-message-ttl": 0, "x-expires": 1}  # milliseconds
LONGEST_TIME = 2**32 - 1
LONGEST_NAME = 255  # bytes
MOST_PRIORITIES = 255
KINDS = ("direct", "topic", "fanout", "headers")  # those of plugins begin with x-
BY_ITSELF = "x-delayed-retry-type"  # of a queue that delays what is rejected
BY_ANSWER = (exceptions.ChannelClosedByBroker, exceptions.ConnectionClosedByBroker)
OVER: set[str] = set()  # prefixes of runs that have ended: nothing comes back there


@dataclass(frozen=True)
class Layout:
    """Which exchanges there are, and which queues get what is published to them.

    Raises:
        ValueError: a queue would be bound to nothing, and nobody would be told.
    """

    exchanges: Mapping[str, str]  # each with its kind, one of KINDS
    queues: Mapping[str, Sequence[str]]  # each with its exchange, and with keys
    priorities: Mapping[str, int] = field(default_factory=dict)  # the highest of each

    def __post_init__(self) -> None:
        for queue, where in self.queues.items():
            is_list = isinstance(where, Sequence) and not isinstance(where, str)
            if not is_list or len(where) < 2 or {type(one) for one in where} != {str}:
                form = '(exchange, key, ...), with the key "" for a fanout'
                raise ValueError(f"{queue}: write {form}, not {where!r}")
            if where[0] not in self.exchanges:
                known = ", ".join(self.exchanges) or "none"
                raise ValueError(f"{queue}: no exchange {where[0]!r}; known: {known}")
        for queue, most in self.priorities.items():
            if queue not in self.queues:
                raise ValueError(f"priorities: there is no queue {queue!r}")
            if type(most) is not int or not 0 <= most <= MOST_PRIORITIES:
                limits = f"0 to {MOST_PRIORITIES}"
                raise ValueError(f"priorities: {queue} has {limits}, not {most!r}")


@dataclass(frozen=True)
class Planned:
    """A queue or an exchange of ours, and how it is declared."""

    kind: str  # "queue" or "exchange"
    name: str
    options: dict[str, Any] = field(hash=False)


def refuse_name(name: str) -> None:
    """Raise ValueError for a name that AMQP has no room for."""
    if len(name.encode()) > LONGEST_NAME:
        raise ValueError(f"{name:.40}...: a name has at most {LONGEST_NAME} bytes")


class Topology:
    """Where the broker is, and the planned queues and exchanges, which it declares.

    With `expires`, what nobody has used for so many seconds disappears by itself, also
    after a kill -9.
    """

    def __init__(self, where: Any, prefix: str, expires: float = 0.0) -> None:
        self.parameters = where
        if isinstance(where, str):
            try:
                self.parameters = parameters_of(where, "the address")
            except BadInput as error:  # of the command line, which this need not be
                raise BadAddress(str(error)) from None
        self.native = False
        self.prefix = prefix
        self.expires = expires
        self.plan: list[Planned] = []
        self.bindings: list[tuple[str, str, str]] = []  # queue, exchange, key

    def name(self, suffix: str) -> str:
        """Return our full name of a queue or exchange."""
        return f"{self.prefix}.{suffix}"

    def exchange_of(self, message: Any) -> str:
        """Return where messages of a class go; TypeError if it does not say."""
        if not message.exchange:
            kind = type(message).__name__
            raise TypeError(f"{kind} says nowhere to publish it: set {kind}.exchange")
        return self.name(message.exchange)

    def plan_exchange(self, name: str, kind: str) -> None:
        """Plan an exchange; ValueError for a kind that no broker has."""
        refuse_name(name)
        if kind not in KINDS and not kind.startswith("x-"):
            raise ValueError(f"{name}: an exchange is {', '.join(KINDS)}, not {kind!r}")
        options: dict[str, Any] = {"exchange_type": kind}
        if self.expires:
            options["auto_delete"] = True  # it goes with the last queue bound to it
        self.plan.append(Planned("exchange", name, options))

    def plan_queue(self, name: str, arguments: dict[str, Any]) -> None:
        """Plan a queue; raise ValueError for a name or times that no broker takes."""
        refuse_name(name)
        if self.expires:
            arguments = arguments | {"x-expires": round(1000 * self.expires)}
        for key, least in LEAST_TIMES.items():
            time = arguments.get(key, least)
            if not least <= time <= LONGEST_TIME:
                limits = f"{least} to {LONGEST_TIME} ms (49 days)"
                raise ValueError(f"{name}: {key} is {limits}, not {time}")
        self.plan.append(Planned("queue", name, {"arguments": arguments}))

    def connect(self) -> Any:
        """Return a new connection; every thread needs its own."""
        return BrokerConnection(self.parameters)

    @contextmanager
    def channel(self) -> Iterator[Any]:
        """Yield a channel on a connection of its own, lost or not when it ends."""
        connection = self.connect()
        try:
            with own_errors(*BY_THE_BROKER):
                yield connection.channel()
        finally:
            with suppress(Exception):
                connection.close()

    def declare(self, channel: Any, plan: Sequence[Planned]) -> None:
        """Declare queues and exchanges, and all bindings between them.

        Queues first, and then each exchange with its bindings. Trap: one that is never
        bound is not deleted automatically, and would outlive a run that dies here.

        Raises:
            TopologyRefused: the broker says no: one is there with other arguments, or
                there is no right to; or the run has ended, and a thread of it has not.
        """
        names = {item.name for item in plan}
        try:
            for item in sorted(plan, key=lambda item: item.kind, reverse=True):
                if self.prefix in OVER:
                    raise TopologyRefused(f"{self.prefix}.*: this run has ended")
                declare = getattr(channel, f"{item.kind}_declare")
                declare(item.name, durable=True, **item.options)
                if item.kind == "exchange":  # a queue may have the same name
                    for queue, exchange, key in self.bindings:
                        if exchange == item.name and queue in names:
                            channel.queue_bind(queue, exchange, key)
        except BY_ANSWER as refusal:
            reason = refusal.reply_text
            if any(words in reason for words in NOT_NOW):
                raise
            is_channel = isinstance(refusal, exceptions.ChannelClosedByBroker)
            if not is_channel and refusal.reply_code not in ITS_OWN_FAULT:
                raise  # it closes all connections, for instance to shut down
            if refusal.reply_code == PRECONDITION_FAILED:
                reason += "; delete it, or take another prefix"
            raise TopologyRefused(reason) from None

    def look(self, connection: Any, item: Planned) -> Any:
        """Return what the broker says of a queue or exchange, or None."""
        with suppress(exceptions.ChannelClosedByBroker), connection.channel() as one:
            declare = getattr(one, f"{item.kind}_declare")
            return declare(item.name, passive=True).method

    def delays_itself(self, queue: str) -> bool:
        """Tell whether a queue, by its full name, delays what a consumer rejects."""
        for item in self.plan:
            if item.kind == "queue" and item.name == queue:
                return BY_ITSELF in item.options["arguments"]
        return False

    def check_version(self, connection: Any) -> None:
        """Raise TopologyRefused where a broker would ignore what is planned."""
        version = str(server_properties(connection)["version"])
        numbers = [int(one) for one in re.findall(r"\d+", version)[:2]]
        if self.native and numbers < NATIVE_SINCE:
            reason = f"RabbitMQ {version} delays no retries itself: 4.3 is the first to"
            raise TopologyRefused(reason)

    def existing(self, connection: Any) -> list[Planned]:
        """Return those of the plan that exist already."""
        self.check_version(connection)
        return [item for item in self.plan if self.look(connection, item)]

    def teardown(self, for_good: bool = False) -> None:
        """Delete everything of ours that exists, with what is in it.

        For good, nothing in this process declares it again: a consumer would, whose
        thread still connects when its run is ended.
        """
        if for_good:
            OVER.add(self.prefix)
        # Twice: a thread may have been in the midst of declaring one.
        for _ in range(2 if for_good else 1):
            with self.connect() as connection:
                existing = self.existing(connection)
            # One channel at a time: a broker may allow no more.
            with self.channel() as channel:
                for item in existing:
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
