"""RabbitMQ without losing a message: every acknowledged message is accounted for.

You will see, in order: messages, routing, confirms, consuming, shutdown, retries,
inbox, outbox, priorities.

Run:     python 04_rabbitmq_messaging.py [--list] [--only NAME ...] [--offline]
         ... --worker QUEUE --concurrency N | --publish N --rate R | --stats
         ... --redrive QUEUE | --teardown      (durable names under --prefix)
Service: RabbitMQ 3.10 to 4.x at $RABBITMQ_URL (amqp:// or amqps://, verified),
         default amqp://guest:guest@127.0.0.1:5672/%2F
Without: a loopback broker in this process, spoken to by the same pika code. It
         models no disk (nothing survives a restart), no cluster, no permissions,
         no memory alarm, and its clock moves only when it is told to.
Runtime: 4 s without RabbitMQ, 20 s with it.
Guide:   COMPREHENSIVE_GUIDE.md, chapter 4
"""

# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "pika>=1.4,<2", "python-dotenv>=1.2.2,<2", "rich>=13.7,<16",
#   "sqlalchemy>=2.1,<2.2", "psycopg[binary]>=3.2,<4",
# ]
# ///

from __future__ import annotations

import course.start  # noqa: F401  (first: it says in one line what is missing)

# isort: split

import argparse
import itertools
import json
import re
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from math import inf
from typing import Any, ClassVar

import pika
from pika import exceptions, spec
from sqlalchemy import Connection

from course.amqp.consuming import PoolAndConnection
from course.amqp.copies import copied
from course.amqp.envelope import Envelope
from course.amqp.errors import PublishFailed, Unpublishable, Unroutable, first_of
from course.amqp.hints import FieldError
from course.amqp.internals import CONNECTION_LOST, BrokerConnection
from course.amqp.pending import Pending, until_settled
from course.amqp.processes import Parts, add_process_options, mode_of, run_process
from course.amqp.publishing import DEADLINE, PublishingThread
from course.amqp.settling import Delivery
from course.amqp.storing import Effect, Outgoing, Store, StoredMessage, statement
from course.amqp.strict import is_time_with_zone, strict_json, utc_now
from course.amqp.topology import Layout, Topology
from course.amqp.trials import all_in, consumer_with, emptied, running, with_timer
from course.amqp.workbench import (
    BrokerEnv,
    arrivals,
    native_waits,
    open_broker,
    truth_table,
)
from course.claims import at_least, less_than, more_than, other_than
from course.console import Lesson, check, fact, note, table
from course.lab import in_background, outcome_of, raises, wait_until

ID = re.compile("[!-~]{1,64}")  # printable, none a blank
# region limits
VERSION = 1  # of the envelope; a consumer refuses one that it does not know
MAX_BODY = 256 * 1024  # bytes; RabbitMQ 4 takes 16 MiB, memory and fairness less
MAX_RETRIES = 5  # waits of 1, 2, 4, 8, 16 x the base: 31 s with a base of one
# endregion limits


def open_env(args: argparse.Namespace) -> AbstractContextManager[BrokerEnv]:
    """Find the broker, else start the stand-in; leave nothing on either."""
    # A notebook comes here before the cell of section 2, which defines the class.
    return open_broker(args, lambda: RabbitMQConnection)


lesson = Lesson("RabbitMQ without losing a message", open_env)


# %% [markdown]
# ## 1. Messages: nothing that arrives stops a consumer
#
# A consumer trusts nobody: a body may come from last year's release or another team.


# %%
class PermanentError(Exception):
    """Fails the same way every time: no retry, straight to the dead letters."""


class BadMessage(PermanentError):
    """The body or a header is not what the version promises."""


def read_trusting(body: bytes | str) -> Any:
    """Read a message as tutorials do: whatever is in it, or whatever error comes."""
    return json.loads(body)["payload"]


# Envelope checks the fields against their type hints, and finds a class by its `type`.
@dataclass(kw_only=True)
class Message(Envelope):
    """The envelope. A subclass names the fields that its payload consists of.

    Raises:
        BadMessage: a field has the wrong type or range.
    """

    exchange: ClassVar[str] = ""  # where messages of this kind are published
    key: ClassVar[str] = ""

    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    type: str = "message"
    payload: dict[str, Any] = field(default_factory=dict)
    timestamp: str = field(default_factory=utc_now)
    retry_count: int = 0
    max_retries: int = MAX_RETRIES

    def __post_init__(self) -> None:
        try:
            self.check_fields()
        except FieldError as error:
            raise BadMessage(str(error)) from None
        if not ID.fullmatch(self.id):
            raise BadMessage("id is not 1 to 64 printable characters")
        if not is_time_with_zone(self.timestamp):
            raise BadMessage("timestamp is not an ISO 8601 time with its zone")
        for count in (self.retry_count, self.max_retries):
            if not 0 <= count <= 1000:
                raise BadMessage("retry_count and max_retries are 0 to 1000")

    def to_json(self) -> str:
        """Return the body; raise BadMessage for what JSON would change silently."""
        Message.__post_init__(self)  # a field may have changed since
        body = {"version": VERSION, **self.envelope()}
        try:
            self.check_type()
            text = json.dumps(body, allow_nan=False)
        except FieldError as error:
            raise BadMessage(str(error)) from None
        except (TypeError, ValueError, RecursionError):
            raise BadMessage("payload is not JSON") from None
        if json.loads(text) != body:
            raise BadMessage("payload would come back changed (a tuple, an int key?)")
        if len(text) > MAX_BODY:
            raise BadMessage(f"body is larger than {MAX_BODY} bytes")
        return text

    # region reading
    @staticmethod
    def from_json(body: bytes | str) -> Message:
        """Return the message of a body, of the class that its type names."""
        # The size first: what is too large is not even parsed.
        if len(body) > MAX_BODY:
            raise BadMessage(f"body is larger than {MAX_BODY} bytes")
        try:
            data = strict_json(body)
        except (ValueError, RecursionError):
            raise BadMessage("body is not JSON") from None
        if not isinstance(data, dict):
            raise BadMessage("body is not a JSON object")
        version = data.pop("version", None)
        if type(version) is not int or version != VERSION:
            raise BadMessage(f"version is not {VERSION}")
        kind = Message.known.get(str(data.get("type")))
        if kind is None:
            raise BadMessage("type is unknown")
        if kind.payload_fields():
            payload = data.pop("payload", None)
            # A payload that could overwrite the envelope's fields is refused.
            if not isinstance(payload, dict) or set(payload) & set(data):
                reason = "payload is not an object, or repeats an envelope field"
                raise BadMessage(reason)
            data |= payload
        try:
            message: Message = kind.made_of(data)  # a class may check more
        except FieldError as error:
            raise BadMessage(str(error)) from None
        return message

    # endregion reading


@dataclass(kw_only=True)
class UserDataMessage(Message):
    """A user signed up, or changed."""

    exchange = "data_processing"
    key = "user_data"
    type: str = "user_data"
    username: str
    email: str
    registration_date: str


@dataclass(kw_only=True)
class NotificationMessage(Message):
    """Somebody is to be told something."""

    exchange = "notifications"
    key = "notification.email.normal"
    type: str = "notification"
    recipient: str
    subject: str
    content: str


@dataclass(kw_only=True)
class AnalyticsMessage(Message):
    """Something happened that is worth counting."""

    exchange = "analytics"
    type: str = "analytics"
    event_type: str
    user_id: str
    properties: dict[str, Any] = field(default_factory=dict)


BAD_BODIES = {
    "not JSON": b"{",
    "not UTF-8": b'"\xff\xfe\xfa"',
    "nested 100,000 deep": b"[" * 100_000,
    "a list": b"[1]",
    "a later version": b'{"version": 2, "payload": {}}',
    "an unknown type": b'{"version": 1, "type": "pickle", "payload": {}}',
    "a field is missing": b'{"version": 1, "type": "user_data", "payload": {}}',
    "a wrong type": b'{"version": 1, "type": "message", "id": 7, "payload": {}}',
    "not a number": b'{"version": 1, "type": "message", "payload": {"x": NaN}}',
    "1 MB": b" " * 1_000_000,
}


@lesson.demo
def messages(env: BrokerEnv) -> None:
    """Messages: a bad body is one kind of error, whatever is wrong with it"""
    naive = {}
    ours = {}
    rows = []
    for what, body in BAD_BODIES.items():
        trusted = outcome_of(partial(read_trusting, body))
        validated = outcome_of(partial(Message.from_json, body))
        naive[what] = type(trusted).__name__
        ours[what] = type(validated).__name__
        if not isinstance(trusted, Exception):
            naive[what] = "accepted"
        rows.append((what, naive[what], validated))
    table(("body", "json.loads", "Message.from_json"), *rows)
    check(
        "each bad body is refused with its reason, by one kind of error",
        observed={
            "naive": len(set(naive.values())),
            "ours": set(ours.values()),
        },
        expected={"naive": more_than(3), "ours": {"BadMessage"}},
    )
    payload = {"pair": (1, 2)}
    came_back = json.loads(json.dumps(payload))
    fact("json makes of (1, 2)", came_back["pair"])
    check(
        "what JSON would change is refused",
        observed={
            "naive": came_back,
            "ours": raises(BadMessage, Message(payload=payload).to_json),
        },
        expected={"naive": other_than(payload), "ours": True},
    )


# %% [markdown]
# ## 2. Who gets it: exchanges, queues, and what binds them
#
# A publisher names an exchange and a key, never a queue. Bindings decide which queues
# get a copy: by the same key (direct), by a pattern (topic), or all of them (fanout).
# What no binding fits is dropped, and nobody is told.

# %%
# region bindings
EXCHANGES = {
    "data_processing": "direct",  # the key names the queue
    "notifications": "topic",  # the key fits a pattern
    "analytics": "fanout",  # everybody gets a copy
}
WORK = {  # queue: exchange, keys
    "user_data": ("data_processing", "user_data"),
    "notifications": (
        "notifications",
        "notification.email.#",
        "notification.sms.#",
    ),
    "analytics": ("analytics", ""),
    "archive": ("analytics", ""),
}
DELIVERY_LIMIT = 20  # redeliveries until a quorum queue buries a message itself
URGENT = 5  # the highest priority that the queue of notifications knows
LAYOUT = Layout(EXCHANGES, WORK, priorities={"notifications": URGENT})
# Dead-letter at least once: the broker keeps a message until the dead-letter queue
# confirms it. This needs overflow=reject-publish.
AT_LEAST_ONCE = {
    "x-queue-type": "quorum",
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
}
# endregion bindings


# Topology holds the planned queues and exchanges and declares them; existing() returns
# those that already exist.
class RabbitMQConnection(Topology):
    """Where the broker is, and our queues and exchanges on it, under our prefix.

    Everything is durable (4.3 refuses the rest). Work queues are quorum queues with a
    delivery limit of their own, as its default differs between 3.x and 4.x; the one
    with priorities is classic, where they mean the same everywhere.
    """

    def __init__(
        self,
        where: Any,  # a URL, or pika's parameters
        prefix: str = "module8",
        base: float = 1.0,  # seconds that the first retry waits
        expires: float = 0.0,  # seconds until what nobody uses is gone, 0 for never
        *,
        topology: Layout = LAYOUT,
        native: bool = False,  # what only RabbitMQ 4.3 has (section 6)
    ) -> None:
        super().__init__(where, prefix, expires)
        self.base = base
        self.native = native
        for exchange, kind in topology.exchanges.items():
            self.plan_exchange(self.name(exchange), kind)
        for queue, (exchange, *keys) in topology.queues.items():
            work = self.add_queue(queue, topology.priorities.get(queue, 0))
            for key in keys:
                self.bindings.append((work, self.name(exchange), key))
        for attempt in range(0 if native else MAX_RETRIES):
            self.add_wait_queue(attempt)

    # region queues
    def add_queue(
        self, queue: str, priorities: int = 0, native: bool | None = None
    ) -> str:
        """Plan a work queue and its dead letters; return its full name."""
        native = self.native if native is None else native
        work = self.name(queue)
        dead = work + ".dead"
        arguments: dict[str, Any] = {"x-dead-letter-exchange": ""}
        arguments["x-dead-letter-routing-key"] = dead
        if priorities and not native:
            self.plan_queue(work, arguments | {"x-max-priority": priorities})
        else:
            arguments |= AT_LEAST_ONCE | {"x-delivery-limit": DELIVERY_LIMIT}
            if native:  # quorum queues have priorities, and delay what is rejected
                arguments["x-delayed-retry-type"] = "failed"
                arguments["x-delayed-retry-min"] = self.delay_ms(0)
                arguments["x-delayed-retry-max"] = self.delay_ms(MAX_RETRIES)
            self.plan_queue(work, arguments)
        # Trap: since 4.0 a quorum queue drops a message after 20 redeliveries
        # unless told otherwise; dead letters have no further queue: they would be
        # lost.
        keep = {"x-queue-type": "quorum", "x-delivery-limit": 2**31 - 1}
        self.plan_queue(dead, keep)
        return work

    # endregion queues

    # region waits
    def delay_ms(self, attempt: int) -> int:
        """Return how long attempt n waits, in milliseconds: base * 2**n."""
        doublings = min(attempt, MAX_RETRIES - 1)
        return round(1000 * self.base * 2.0**doublings)

    def wait_queue(self, attempt: int) -> str:
        """Return where attempt n waits (section 6); the name carries how long."""
        return self.name(f"retry.{self.delay_ms(attempt)}ms")

    def add_wait_queue(self, attempt: int) -> None:
        """Plan a queue that nobody reads: what expires in it goes back to work."""
        name = self.wait_queue(attempt)
        # The key of a retry names the queue to go back to (drawn in section 6).
        # A fanout takes every key, and keeps it.
        self.plan_exchange(name, "fanout")
        ttl = {
            "x-message-ttl": self.delay_ms(attempt),
            "x-dead-letter-exchange": "",
        }
        self.plan_queue(name, AT_LEAST_ONCE | ttl)
        self.bindings.append((name, name, ""))

    # endregion waits

    def connect(self) -> Any:
        """Return a new connection; every thread needs its own."""
        # Unlike pika's own: a header that it cannot decode does not end it, and its
        # errors are MessagingErrors as well.
        return BrokerConnection(self.parameters)

    def setup_infrastructure(self) -> None:
        """Declare everything; doing it again changes nothing.

        Raises:
            TopologyRefused: one exists with other arguments.
        """
        with self.connect() as connection:
            existing = self.existing(connection)
            channel = connection.channel()
            # Check existing ones first: if one differs we raise before creating
            # anything.
            self.declare(channel, existing)
            self.declare(channel, self.plan)


def words_match(key: str, pattern: str, hash_rule: str) -> bool:
    """Match a key by regular expressions, a dot before each word; * is one word."""
    rules = {"*": r"\.\w+", "#": hash_rule}
    expression = ""
    for part in pattern.split("."):
        expression += rules.get(part, rf"\.{part}")
    words = f".{key}" if key else ""
    return re.fullmatch(expression, words) is not None


def fits_as_guessed(pattern: str, key: str) -> bool:
    """Match a key as most people expect: # is one word or more."""
    return words_match(key, pattern, hash_rule=r"(\.\w+)+")


def fits(pattern: str, key: str) -> bool:
    """Match a key as brokers do: # is zero words or more."""
    return words_match(key, pattern, hash_rule=r"(\.\w+)*")


def check_bindings(env: BrokerEnv) -> None:
    """Publish to each exchange; see which queues have got something."""
    keys = [
        ("data_processing", "user_data"),
        ("notifications", "notification.sms.urgent"),
        ("notifications", "notification.fax.urgent"),  # no pattern fits
        ("analytics", "whatever"),
    ]
    errors = 0
    with env.rabbit.channel() as channel:
        channel.confirm_delivery()
        for exchange, key in keys:
            name = env.rabbit.name(exchange)
            publish = partial(channel.basic_publish, name, key, key.encode())
            errors += raises(exceptions.AMQPError, publish)
    got = {}
    routed = set()
    for queue in WORK:
        # emptied() takes all messages out of a queue: (properties, body) of each.
        bodies = [body for _, body in emptied(env.rabbit, env.rabbit.name(queue))]
        got[queue] = len(bodies)
        routed.update(bodies)
    table(("queue", "got"), *got.items())
    fact("sent, routed, errors", f"{len(keys)}, {len(routed)}, {errors}")
    check(
        "each queue has what is bound to it",
        observed=got,
        expected={"user_data": 1, "notifications": 1, "analytics": 1, "archive": 1},
    )


@lesson.demo
def routing(env: BrokerEnv) -> None:
    """Routing: the broker follows the truth table, and drops what fits nowhere"""
    exchange = env.rabbit.name("notifications")
    disagreements = {"one or more": 0, "zero or more": 0}
    pairs = truth_table(env.rabbit, exchange)  # of pattern and key: is it let through?
    for (pattern, key), passes in pairs.items():
        disagreements["one or more"] += fits_as_guessed(pattern, key) != passes
        disagreements["zero or more"] += fits(pattern, key) != passes
    fact("pairs of pattern and key", len(pairs))
    fact("broker differs, if # is 1 or more", disagreements["one or more"])
    fact("broker differs, if # is 0 or more", disagreements["zero or more"])
    check(
        "# is zero or more words, * is one",
        observed=disagreements,
        expected={"one or more": more_than(0), "zero or more": 0},
    )
    check_bindings(env)


# %% [markdown]
# ## 3. Did it arrive? Only a confirm says so
#
# A publish writes to a socket's buffer, which accepts anything. A *confirm* is the
# broker's receipt. Waiting for each costs a round trip, so a window of them stays open;
# and a wait without a deadline lasts as long as a broker is out of memory.

# %%
PERSISTENT = 2  # AMQP's delivery mode of what is to survive a restart


def publish_arguments(
    message: Message,
    exchange: str,
    key: str,
    headers: dict[str, Any] | None = None,
    **properties: Any,
) -> tuple[str, str, bytes, Any]:
    """Return what send() takes: exchange, key, body, and persistent properties."""
    count = {"x-retry-count": message.retry_count}
    about = pika.BasicProperties(
        message_id=message.id,
        type=message.type,
        content_type="application/json",
        delivery_mode=PERSISTENT,
        headers=(headers or {}) | count,
        **properties,
    )
    return exchange, key, message.to_json().encode(), about


def publish_unconfirmed(channel: Any, queue: str, messages: Iterable[Message]) -> None:
    """Publish messages to a queue as tutorials do."""
    for message in messages:
        # Trap: returning without an error means only that the kernel has the bytes.
        channel.basic_publish(*publish_arguments(message, "", queue))


# PublishingThread owns the connection, reconnects, and calls the second half of these
# methods. `room` is what the window still takes, `waiting` what is not yet sent, and
# `sent` what is not yet confirmed.
class ConfirmedProducer(PublishingThread):
    """Publishes with a window of unconfirmed messages; any thread may call it.

    What a lost connection leaves unconfirmed is sent again with the same id, so a
    message arrives at least once. Every wait ends after `deadline` seconds. The end of
    a `with` block waits for what nobody has waited for.
    """

    # region window
    def send(
        self,
        exchange: str,
        key: str,
        body: bytes,
        properties: Any,
    ) -> Pending:
        """Queue a publish; return at once unless the window is full."""
        pending = Pending(exchange, key, body, properties)
        self.check_alive(pending)
        if not self.room.acquire(timeout=self.deadline):
            raise self.too_late(pending, "the window stayed full")
        self.enqueue(pending)
        return pending

    def wait(self, *publishes: Pending) -> None:
        """Wait until all are confirmed or have failed; raise the first failure.

        Raises:
            Unroutable: no queue took one of them.
            PublishFailed: refused, or not confirmed within the deadline. It may
                have arrived: send it again, under the error's `message_id`.
        """
        until_settled(publishes, self.deadline)
        failures = []
        for pending in publishes:
            if not pending.confirmed.done():
                # Nothing may wait for ever. What was sent cannot be called back.
                pending.end(self.too_late(pending, "not confirmed"))
            if failure := pending.confirmed.exception():
                failures.append(failure)
        if failures:
            raise first_of(failures)

    # endregion window

    def publish(self, exchange: str, key: str, body: bytes, properties: Any) -> None:
        """Publish and wait for the confirm; raises what wait() raises."""
        self.wait(self.send(exchange, key, body, properties))

    # On the thread that owns the connection

    # region resending
    def on_channel(self, channel: Any) -> None:
        """Turn confirms on, and send what waits."""
        channel.confirm_delivery(self.on_confirm)
        self.send_waiting()

    def on_lost(self) -> None:
        """Put the unconfirmed before what waits: on_channel() sends it again."""
        # It may have arrived or not; only the broker could tell, and it is gone.
        self.waiting.extendleft(reversed(self.sent.values()))
        self.counts["resent"] += len(self.sent)
        self.sent.clear()

    # endregion resending

    def transmit(self, channel: Any, pending: Pending) -> None:
        """Publish once; what no queue takes is returned."""
        # A broker confirms what it drops; only the mandatory flag tells.
        channel.basic_publish(
            pending.exchange,
            pending.key,
            pending.body,
            pending.properties,
            mandatory=True,
        )

    # region confirms
    def on_confirm(self, frame: Any) -> None:
        """Settle one publish or, where the broker says `multiple`, all up to it."""
        method = frame.method
        # A busy broker confirms many at once, by the tag of the last.
        if method.multiple:
            settled = self.sent_up_to(method.delivery_tag)
        else:
            settled = [self.sent.pop(method.delivery_tag)]
        error = None
        if isinstance(method, spec.Basic.Nack):
            error = PublishFailed("the broker refused it")
        self.settle(settled, error)

    def settle(
        self,
        settled: Sequence[Pending],
        error: PublishFailed | None,
    ) -> None:
        """End publishes, with an error or without."""
        for pending in settled:
            failure = error
            # The broker returns what it cannot place, and confirms it after that.
            if self.came_back(pending):
                failure = Unroutable(f"no queue for {pending.target}")
            self.finish(pending, failure)

    # endregion confirms


def known_as(id: str | None) -> dict[str, Any]:
    """Return the id of a message that is published again, or nothing for a new one."""
    return {} if id is None else {"id": id}


# region urgent
def notification(way: str, **what: Any) -> Outgoing:
    """Return an email or SMS, with the key and priority of the way it goes."""
    priority = URGENT if way.endswith("urgent") else 0
    message = NotificationMessage(**what)
    return Outgoing(message, f"notification.{way}", {"priority": priority})


# endregion urgent


class Producer(ConfirmedProducer):
    """Publishes each kind of message where it belongs, confirmed.

    Each method returns the message's id. `id` repeats a publish that has failed, with
    PublishFailed.message_id; `about` is properties such as headers.
    """

    def publish_message(self, message: Message, key: str = "", **about: Any) -> str:
        """Publish a message where its kind belongs."""
        exchange = self.rabbit.exchange_of(message)
        key = key or message.key
        self.publish(*publish_arguments(message, exchange, key, **about))
        return message.id

    def publish_user_data_event(
        self, username: str, email: str, date: str, id: str | None = None, **about: Any
    ) -> str:
        """Announce a new or changed user."""
        user = UserDataMessage(
            username=username, email=email, registration_date=date, **known_as(id)
        )
        return self.publish_message(user, **about)

    def publish_notification(
        self,
        recipient: str,
        subject: str,
        content: str,
        way: str = "email.normal",
        id: str | None = None,
        **about: Any,
    ) -> str:
        """Ask for an email or SMS; `way` such as "sms.urgent" is the end of the key."""
        what = {"recipient": recipient, "subject": subject, "content": content}
        out = notification(way, **what, **known_as(id))
        return self.publish_message(out.message, out.key, **(out.about | about))

    def publish_analytics_event(
        self,
        event_type: str,
        user_id: str,
        properties: dict[str, Any],
        id: str | None = None,
        **about: Any,
    ) -> str:
        """Tell everybody who listens what happened."""
        message = AnalyticsMessage(
            event_type=event_type,
            user_id=user_id,
            properties=properties,
            **known_as(id),
        )
        return self.publish_message(message, **about)


def send_all(
    producer: Producer, queue: str, messages: Iterable[Message]
) -> list[Pending]:
    """Send messages to a queue, without a wait."""
    pending = []
    for message in messages:
        arguments = publish_arguments(message, "", queue)
        pending.append(producer.send(*arguments))
    return pending


def publish_all(producer: Producer, queue: str, messages: Iterable[Message]) -> None:
    """Publish messages to a queue, and wait until all are confirmed."""
    producer.wait(*send_all(producer, queue, messages))


def user(n: int) -> Message:
    """Return the nth user's data, always the same but for its id."""
    name = f"user{n}"
    return UserDataMessage(
        username=name, email=f"{name}@example.org", registration_date="2026-01-05"
    )


def users(count: int) -> list[Message]:
    """Return the data of the first users."""
    return [user(n) for n in range(count)]


# env.network() is a proxy before the broker, and `far` our connection through it.
# freeze() holds back what goes "up" to the broker or "down" to us, and cut() loses it.
def lose_unconfirmed(env: BrokerEnv, queue: str) -> None:
    """Publish 200 messages as tutorials do, over a network that fails meanwhile."""
    with env.network() as (network, far), far.channel() as channel:
        network.freeze()
        publish_unconfirmed(channel, queue, users(200))
        network.cut()


def lose_confirmed(env: BrokerEnv, queue: str, way: str) -> None:
    """Publish 200, confirmed; the publishes ("up") or confirms ("down") are lost."""
    with env.network() as (network, far), Producer(far) as producer:
        publish_all(producer, queue, users(1))  # it is connected
        emptied(env.rabbit, queue)
        network.freeze(way)
        pending = send_all(producer, queue, users(200))
        wait_until(lambda: len(producer.sent) == 200)
        if way == "down":
            wait_until(lambda: env.rabbit.ready(queue) == 200)
        network.cut()
        producer.wait(*pending)


def messages_and_ids(env: BrokerEnv, queue: str) -> dict[str, int]:
    """Take all messages out of a queue; return how many, and how many ids."""
    ids = [properties.message_id for properties, _ in emptied(env.rabbit, queue)]
    return {"arrived": len(ids), "distinct ids": len(set(ids))}


@lesson.demo
def publishing(env: BrokerEnv) -> None:
    """Publishing: without a confirm, no error means nothing"""
    with env.queue("publishing") as queue:
        lose_unconfirmed(env, queue)
        none = messages_and_ids(env, queue)
        lose_confirmed(env, queue, "up")
        up = messages_and_ids(env, queue)
        lose_confirmed(env, queue, "down")
        down = messages_and_ids(env, queue)
    table(
        ("200 publishes", *none),
        ("no confirms", *none.values()),
        ("confirms; publishes cut off", *up.values()),
        ("confirms; confirms cut off", *down.values()),
    )
    check(
        "unconfirmed is sent again: 200, not 0",
        observed={"no confirms": none["arrived"], "confirms": up["arrived"]},
        expected={"no confirms": 0, "confirms": 200},
    )
    check(
        "a lost confirm duplicates, with the same ids",
        observed=down,
        expected={"arrived": 400, "distinct ids": 200},
    )
    exchange = env.rabbit.name("notifications")
    with env.rabbit.channel() as channel, Producer(env.rabbit) as producer:
        channel.confirm_delivery()
        fax = partial(channel.basic_publish, exchange, "notification.fax", b"")
        our_fax = partial(producer.publish_notification, "+380", "hi", "text", "fax")
        failed = {
            "confirmed": raises(exceptions.AMQPError, fax),
            "and mandatory": raises(Unroutable, our_fax),
        }
    fact("a fax that no queue takes fails", failed)
    check(
        "mandatory: what no queue takes is an error",
        observed=failed,
        expected={"confirmed": False, "and mandatory": True},
    )


# %% [markdown]
# ## 4. Who does the work: not the thread that talks to the broker
#
# One thread talks to the broker and answers its heartbeats. If it also does the work,
# a job of a minute looks like a dead client: the broker hangs up, gives the message to
# somebody else, and the work begins again there. Ours hands a delivery on, and back:
#
# broker → I/O thread → jobs → pool → settled → I/O thread → ack


# %%
def consume_inline(
    rabbit: RabbitMQConnection,
    queue: str,
    work: Callable[[Message], object],
    count: float = inf,
    prefetch: int = 1,
) -> None:
    """Consume so many messages as tutorials do, or until the connection goes."""
    seen = 0

    def callback(channel: Any, method: Any, _: Any, body: bytes) -> None:
        nonlocal seen
        seen += 1
        try:
            # Trap: this thread answers the heartbeats, so it must not do the work.
            work(Message.from_json(body))
        except Exception:
            # On a queue without a delivery limit it comes back for ever.
            channel.basic_nack(method.delivery_tag, requeue=True)
        else:
            channel.basic_ack(method.delivery_tag)
        if seen == count:
            channel.stop_consuming()

    with rabbit.channel() as channel:
        channel.basic_qos(prefetch_count=prefetch)
        channel.basic_consume(queue, callback)
        channel.start_consuming()


# PoolAndConnection has the constructor (rabbit, queue, producer, ledger, prefetch,
# concurrency, drain), the threads of the pool, and the connection with its I/O thread.
class PoolConsumer(PoolAndConnection, ABC):
    """Reads a queue: a pool works, and acknowledges last.

    The thread in start_consuming() does nothing but I/O, so heartbeats are answered
    however long the work takes. Sections 5 to 7 override one method each.
    """

    @abstractmethod
    def handle(self, message: Message) -> Effect:
        """Do the slow part; return the effect, as a text or a function (section 7)."""

    # On the I/O thread

    def start_consuming(self) -> None:
        """Start the pool, and consume until stop()."""
        self.start_pool(self.work)
        try:
            self.consume()
        finally:
            self.end_pool()

    def consume(self) -> None:
        """Consume until the connection is lost; section 5 comes back."""
        self.session()

    # region receiving
    def session(self) -> None:
        """Consume over one connection."""
        with self.connected() as channel:
            # Trap: taking more than the pool can begin. The broker waits 30 minutes
            # for an acknowledgement (consumer_timeout; since 4.3 with quorum queues
            # only), and then delivers the message again.
            self.subscribe(channel, self.room())
            self.ready.set()
            # stop() before this line cancelled nothing, so look again.
            if not self.stopping.is_set():
                channel.start_consuming()
            self.leave()

    def subscribe(self, channel: Any, count: int) -> str:
        """Have the broker send so many ahead; what is behind waits in the queue.

        Called again, up to the prefetch, where the work turns out to be short.
        """
        channel.basic_qos(prefetch_count=count)
        tag: str = channel.basic_consume(self.queue, self.message_callback)
        return tag

    def message_callback(
        self, channel: Any, method: Any, properties: Any, body: bytes
    ) -> None:
        """Hand a delivery to the pool: the I/O thread never works."""
        tag = method.delivery_tag
        self.jobs.put(Delivery(channel, tag, properties, body, method.redelivered))

    # endregion receiving

    def leave(self) -> None:
        """Acknowledge what is settled, and close; section 5 drains before."""
        self.flush()

    # On a thread of the pool

    # region work
    def work(self) -> None:
        """Do what is delivered, one after another."""
        for delivery in self.deliveries():
            try:
                self.process(delivery)
                # Last: until here, a crash gives it to somebody else.
                self.acknowledge(delivery)
            except Exception as error:
                # Rejected with requeue, after a pause: it is delivered again.
                self.give_back(delivery, error)

    def deliveries(self) -> Iterator[Delivery]:
        """Yield what is to be done, until the pool ends."""
        while delivery := self.jobs.get():
            with self.in_hand(delivery) as current:
                # Else its connection is gone: the broker gives it to somebody else.
                if current:
                    yield delivery

    def process(self, delivery: Delivery) -> None:
        """Read a delivery and act on it; section 6 keeps what fails."""
        self.apply(Message.from_json(delivery.body))

    def apply(self, message: Message) -> None:
        """Do the work, and count it; section 7 does so once."""
        self.handle(message)
        self.count("processed", message.timestamp)

    def acknowledge(self, delivery: Delivery) -> None:
        """Queue an acknowledgement; it leaves on the I/O thread, with others."""
        delivery.done = True
        self.settled.append(delivery)
        self.wake_io_thread()

    # endregion work

    # On any thread

    def stop(self) -> None:
        """End start_consuming(), soon."""
        self.stopping.set()
        self.stop_listening()


def user_of(message: Message) -> str:
    """Return the user that a message is about."""
    return str(message.payload["username"])


# consumer_with() makes a consumer of a kind whose handle() is the function given, and
# running() consumes in a thread for the length of a block.
def round_trips(env: BrokerEnv, queue: str, prefetch: int) -> int:
    """Return how many round trips 15 messages take to a consumer 10 ms away."""
    with env.network() as (network, far), Producer(env.rabbit) as producer:
        consumer = consumer_with(PoolConsumer, user_of, far, queue, prefetch=prefetch)
        with running(consumer):
            network.delay = 0.005  # seconds, each way
            before = network.round_trips
            start = time.perf_counter()
            publish_all(producer, queue, users(15))
            # As wait_until(), but lets the stand-in's clock run meanwhile.
            env.until(lambda: consumer.counts["acked"] == 15)
            note(f"prefetch {prefetch}: {time.perf_counter() - start:.2f} s")
            network.delay = 0
            return network.round_trips - before


@lesson.demo
def consuming(env: BrokerEnv) -> None:
    """Consuming: work keeps no heartbeat waiting, prefetch no round trip"""
    ticks: list[float] = []  # of a timer that the consumer's connection serves
    ticked = []  # while the job ran
    rabbit = with_timer(env.rabbit, ticks)

    def slow(_: Message) -> None:
        before = len(ticks)
        time.sleep(0.15)
        ticked.append(len(ticks) > before)

    with env.queue("consuming") as queue, Producer(env.rabbit) as producer:
        publish_all(producer, queue, users(1))
        consume_inline(rabbit, queue, slow, count=1)
        publish_all(producer, queue, users(1))
        env.consume(consumer_with(PoolConsumer, slow, rabbit, queue), 1)
        served = dict(zip(("inline", "pool"), ticked, strict=True))
        fact("timer ticked during the job", served)
        check(
            "on a pool, the connection is served while a job runs",
            observed=served,
            expected={"inline": False, "pool": True},
        )
        one_by_one = round_trips(env, queue, prefetch=1)
        ahead = round_trips(env, queue, prefetch=300)
    note(f"round trips: {one_by_one} with prefetch 1, {ahead} with prefetch 300")
    check(
        "prefetch 1 waits for each round trip",
        observed={"prefetch 1": one_by_one, "prefetch 300": ahead},
        expected={"prefetch 1": at_least(14), "prefetch 300": less_than(8)},
    )


# %% [markdown]
# ## 5. A stop in the middle: lost connections, deleted queues, SIGTERM
#
# Every deployment stops every worker. What has begun is finished and acknowledged
# within a limit; what has not goes back, and somebody else does it.


# %%
# region reconnecting
class ReconnectingConsumer(PoolConsumer):
    """Unlike PoolConsumer: it survives a lost connection or a deleted queue."""

    def consume(self) -> None:
        """Consume until stop(); raise what no reconnection mends."""
        while not self.stopping.is_set():
            try:
                # Trap: a deleted queue ends it as well, and without an error.
                self.session()
            except CONNECTION_LOST as error:
                self.end_if_refused(error)
                self.pause(error)
            self.ready.clear()
            if not self.stopping.is_set():
                self.counts["reconnects"] += 1


# endregion reconnecting


# region draining
class DrainingConsumer(ReconnectingConsumer):
    """Unlike ReconnectingConsumer: a stop finishes what has begun."""

    def leave(self) -> None:
        """Finish what has begun, within the drain limit; the rest goes back."""
        self.wait_for_the_pool()
        super().leave()


# endregion draining


def done_through_cuts(env: BrokerEnv, kind: Any) -> tuple[int, int]:
    """Cut the connection during 5 of 20 messages; return what is done, reconnects."""
    done: set[str] = set()
    cuts = {"user3", "user6", "user9", "user12", "user15"}
    with (
        env.queue("cuts") as queue,
        env.network() as (network, far),
        Producer(env.rabbit) as producer,
    ):

        def work(message: Message) -> None:
            name = user_of(message)
            done.add(name)
            if name in cuts:
                cuts.remove(name)
                network.cut()

        publish_all(producer, queue, users(20))
        consumer = consumer_with(kind, work, far, queue, prefetch=1)
        ended = in_background(consumer.start_consuming)
        wait_until(lambda: ended.done() or len(done) == 20, 2 * DEADLINE)
        consumer.stop()
        ended.exception(DEADLINE)
    return len(done), consumer.counts["reconnects"]


def stop_at_once(
    consumer: PoolConsumer, ended: futures.Future[None], finish: threading.Event
) -> None:
    """Stop a consumer; let its job finish when the connection is closed."""
    consumer.stop()
    ended.result(DEADLINE)
    finish.set()


def stop_after_draining(
    consumer: PoolConsumer, ended: futures.Future[None], finish: threading.Event
) -> None:
    """Stop a consumer; let its job finish, for which it waits."""
    consumer.stop()
    # Without a drain, it would end now.
    futures.wait([ended], 0.2)
    finish.set()
    ended.result(DEADLINE)


def done_twice(env: BrokerEnv, kind: Any, stop: Callable[..., None]) -> int:
    """Stop a consumer at the ninth of 20; return how many the next one does again."""
    done: list[str] = []
    ninth_begun = threading.Event()
    finish = threading.Event()

    def work(message: Message) -> None:
        done.append(user_of(message))
        if len(done) == 9:
            ninth_begun.set()
            finish.wait(DEADLINE)

    with env.queue("stops") as queue, Producer(env.rabbit) as producer:
        publish_all(producer, queue, users(20))
        consumer = consumer_with(kind, work, env.rabbit, queue, concurrency=1)
        ended = in_background(consumer.start_consuming)
        ninth_begun.wait(DEADLINE)
        stop(consumer, ended, finish)
        with running(consumer_with(kind, work, env.rabbit, queue)):
            wait_until(lambda: len(set(done)) == 20)
            wait_until(lambda: not env.rabbit.ready(queue))
    return len(done) - 20


@lesson.demo
def stopping(env: BrokerEnv) -> None:
    """Surviving: five lost connections, and a stop in the middle"""
    once, _ = done_through_cuts(env, PoolConsumer)
    back, reconnects = done_through_cuts(env, ReconnectingConsumer)
    table(
        ("of 20, connection cut 5 times", "done"),
        ("PoolConsumer ends at the first", once),
        ("ReconnectingConsumer comes back", back),
    )
    check(
        "ours comes back each time",
        observed={"naive": once, "ours": back, "reconnects": reconnects},
        # The fourth message, user3, is the first to cut it.
        expected={"naive": 4, "ours": 20, "reconnects": at_least(5)},
    )
    at_once = done_twice(env, ReconnectingConsumer, stop_at_once)
    drained = done_twice(env, DrainingConsumer, stop_after_draining)
    fact("done twice, stopped at once", f"{at_once} of 20")
    fact("done twice, after draining", f"{drained} of 20")
    check(
        "drained, nothing is done twice",
        observed={"at once": at_once, "drained": drained},
        expected={"at once": more_than(0), "drained": 0},
    )


# %% [markdown]
# ## 6. Again, later, or never: wait queues and dead letters
#
# A service that is away for a moment is worth another attempt, a wrong address is not.
# No worker sleeps meanwhile: the message waits in a queue that nobody reads, 1, 2, 4, 8
# and 16 base delays, and comes back by expiring. What fails for good is *dead*: kept,
# with the reason.
#
# publish to exchange retry.1000ms with key=user_data → queue retry.1000ms (nobody
# reads; TTL) → expires → default exchange, key=user_data → back in user_data


# %%
def attempts_of(properties: Any) -> int:
    """Return how often a message was retried; raise BadMessage if it says nonsense."""
    attempts = (properties.headers or {}).get("x-retry-count", 0)
    if type(attempts) is not int or not 0 <= attempts <= 1000:
        raise BadMessage("header x-retry-count is not a count")
    return attempts


# region attempts
class RetryingConsumer(DrainingConsumer):
    """Unlike DrainingConsumer: what fails waits for another try, or is buried."""

    permanent = (PermanentError,)  # not worth another attempt: you say what is not
    max_retries = MAX_RETRIES  # a sender may ask for fewer

    def process(self, delivery: Delivery) -> None:
        """Read a delivery and act on it; publish a copy of what fails."""
        attempts = 0  # of what cannot be read: no attempt, and none to come
        limit = 0
        if self.counted_again(delivery, DELIVERY_LIMIT):
            return  # by a copy that has the count: a classic queue keeps none
        try:
            attempts = attempts_of(delivery.properties) + self.rejections(delivery)
            message = Message.from_json(delivery.body)
            message.retry_count = attempts
            limit = min(message.max_retries, self.max_retries)
            self.apply(message)
        except self.permanent as error:
            self.bury(delivery, error, attempts)
        except BaseException as error:  # a SystemExit ends the work, not the worker
            if attempts < limit:
                self.retry(delivery, error, attempts)
            else:
                self.bury(delivery, error, attempts)

    # endregion attempts

    # region copy
    # Both return when the copy is confirmed. Then the original is acknowledged.

    def retry(
        self,
        delivery: Delivery,
        error: BaseException,
        attempts: int,
    ) -> None:
        """Publish a copy that waits for the next attempt."""
        self.count("retried")
        if self.rabbit.delays_itself(self.queue):
            delivery.rejected = True  # and not acknowledged: the queue counts it
            return
        about = self.about_copy(delivery, error, attempts + 1)
        # The key is the way back: it leads to our queue when the wait is over.
        wait = self.rabbit.wait_queue(attempts)
        self.publish_copy(delivery, wait, self.queue, about)

    def bury(self, delivery: Delivery, error: BaseException, attempts: int) -> None:
        """Publish a copy to the dead letters, for somebody to look."""
        about = self.about_copy(delivery, error, attempts)
        self.publish_copy(delivery, "", self.queue + ".dead", about)
        self.count("dead")

    # endregion copy


# region redrive
def redrive(rabbit: RabbitMQConnection, queue: str, producer: Producer) -> int:
    """Move a queue's dead letters back to it; return how many."""
    moved = 0
    with rabbit.channel() as channel:
        for _ in range(rabbit.ready(queue + ".dead")):
            # Only what is there now; a message may fail again meanwhile.
            method, properties, body = channel.basic_get(queue + ".dead")
            if method is None:  # somebody else was faster
                break
            about = copied(properties, {})  # its attempts begin again
            producer.publish("", queue, body, about)
            channel.basic_ack(method.delivery_tag)  # after the confirm
            moved += 1
    return moved


# endregion redrive


def wait_in_one_queue(producer: Producer, queue: str, attempt: int) -> None:
    """Let a message wait where all wait, for as long as it says itself."""
    # Trap: only the head of a queue expires; the short waits are behind it.
    expiration = str(producer.rabbit.delay_ms(attempt))
    properties = pika.BasicProperties(expiration=expiration)
    producer.publish("", queue + ".shared", str(attempt).encode(), properties)


def wait_in_its_own(producer: Producer, queue: str, attempt: int) -> None:
    """Let a message wait where all wait equally long."""
    wait = producer.rabbit.wait_queue(attempt)
    producer.publish(wait, queue, str(attempt).encode(), pika.BasicProperties())


class Crash(Exception):
    """The process ends here, as far as the demo is concerned."""


def retry_ack_first(
    channel: Any, delivery_tag: int, publish_copy: Callable[[], None]
) -> None:
    """Acknowledge on arrival, before the work. Ack, crash, copy: 0 left."""
    channel.basic_ack(delivery_tag)
    publish_copy()


def retry_ack_last(
    channel: Any, delivery_tag: int, publish_copy: Callable[[], None]
) -> None:
    """Acknowledge what is safe, as RetryingConsumer. Copy, crash, ack: 2 left."""
    publish_copy()
    channel.basic_ack(delivery_tag)


def copies_left(
    env: BrokerEnv,
    retry: Callable[[Any, int, Callable[[], None]], None],
    copied: bool,
) -> int:
    """Crash just before or just after the copy; return how many messages are left."""

    def crash() -> None:
        if copied:
            publish_all(producer, queue + ".dead", users(1))
        raise Crash

    with env.queue("crashes") as queue, Producer(env.rabbit) as producer:
        publish_all(producer, queue, users(1))
        with suppress(Crash), env.rabbit.channel() as channel:
            method, _, _ = next(channel.consume(queue, inactivity_timeout=DEADLINE))
            retry(channel, method.delivery_tag, crash)
        # Closing the channel requeues it asynchronously: wait.
        env.until_nobody_reads(queue)
        left: int = env.rabbit.ready(queue, queue + ".dead")
    return left


def no_answer(_: Message) -> None:
    """Fail as a service does that is away for a moment."""
    raise ConnectionError("no answer")


def check_attempts(env: BrokerEnv, tried: dict[str, list[float]]) -> None:
    """See who was tried how often, and when, on the broker's clock."""
    attempts = {name: len(times) for name, times in tried.items()}
    fact("attempts", attempts)
    check(
        "a passing error is retried, a permanent one not",
        observed=attempts,
        expected={
            "user0": 1,
            "user1": 6,
            "user2": 3,
            "user3": 1,
        },
    )
    waits = {}
    for n, (before, after) in enumerate(itertools.pairwise(tried["user1"])):
        waits[f"wait {n}"] = round((after - before) / env.rabbit.base, 2)
    note(f"user1 waited, in base delays: {list(waits.values())}")
    # A busy machine makes waits longer, and never shorter.
    least = {f"wait {n}": at_least(0.95 * 2**n) for n in range(MAX_RETRIES)}
    check("attempts back off exponentially", observed=waits, expected=least)


def check_dead_letters(env: BrokerEnv, queue: str, producer: Producer) -> None:
    """See what the two dead letters say of themselves; put them back."""
    with env.rabbit.channel() as channel:
        # all_in() gets messages until a queue is empty: (method, properties, body).
        letters = all_in(channel, queue + ".dead", auto_ack=False)
        headers = [properties.headers for _, properties, _ in letters]
    dead = {found["x-error"]: found["x-retry-count"] for found in headers}
    table(("error of a dead letter", "retries"), *sorted(dead.items()))
    no_account = "PermanentError: no such account"
    check(
        "dead letters say why and how often",
        observed=dead,
        expected={"ConnectionError: no answer": 5, no_account: 0},
    )
    # Closing the channel requeues them asynchronously: wait.
    env.until(lambda: env.rabbit.ready(queue + ".dead") == 2)
    moved = redrive(env.rabbit, queue, producer)
    check(
        "redrive puts both back",
        observed={"moved": moved, "in the queue": env.rabbit.ready(queue)},
        expected={"moved": 2, "in the queue": 2},
    )


def check_native_retry(env: BrokerEnv) -> None:
    """See when a queue that delays retries itself gives a message back."""
    with Producer(env.rabbit) as producer:
        publish = partial(publish_all, producer, messages=users(1))
        waits = native_waits(env, RetryingConsumer, producer, publish)
    note(f"it waited in its queue, in base delays: {waits}")
    check("the queue itself waits longer each time", waits[2], at_least(2.85))


def retry_four_users(env: BrokerEnv) -> None:
    """Fail never, always, twice, and for good; see what becomes of the messages."""
    tried: dict[str, list[float]] = {f"user{n}": [] for n in range(4)}

    def work(message: Message) -> None:
        name = user_of(message)
        tried[name].append(env.clock())
        if name == "user1" or (name == "user2" and message.retry_count < 2):
            no_answer(message)
        if name == "user3":
            raise PermanentError("no such account")

    with env.queue("retrying") as queue, Producer(env.rabbit) as producer:
        publish_all(producer, queue, users(4))
        ours = consumer_with(RetryingConsumer, work, env.rabbit, queue, producer)
        with running(ours):
            env.until(lambda: ours.counts["processed"] + ours.counts["dead"] == 4)
        check_attempts(env, tried)
        check_dead_letters(env, queue, producer)


@lesson.demo
def retrying(env: BrokerEnv) -> None:
    """Retrying: later and later, then the dead letters, with the reason"""
    # arrivals() sends four messages, the longest wait first; the order they come back.
    with Producer(env.rabbit) as producer:
        shared = arrivals(env, producer, wait_in_one_queue)
        own = arrivals(env, producer, wait_in_its_own)
    table(
        ("waits of 8, 1, 2, 4 x base", "came back in this order"),
        ("in one queue", shared),
        ("in one queue per delay", own),
    )
    check(
        "a queue per delay lets the short waits pass, one queue waits for its head",
        observed={"one queue": shared, "per delay": own},
        expected={
            "one queue": [8, 1, 2, 4],
            "per delay": [1, 2, 4, 8],
        },
    )
    retry_four_users(env)
    if env.delays_itself:  # RabbitMQ 4.3: 1, 2, 3 ... base delays, no further queues
        check_native_retry(env)
    left = {}
    for retry in (retry_ack_first, retry_ack_last):
        left[retry.__name__] = {
            "before the copy": copies_left(env, retry, copied=False),
            "after it": copies_left(env, retry, copied=True),
        }
    rows = [(name, *counts.values()) for name, counts in left.items()]
    table(("copies left by a crash", "before the copy", "after it"), *rows)
    check(
        "the one order loses, ours keeps both",
        observed=left,
        expected={
            "retry_ack_first": {"before the copy": 0, "after it": 1},
            "retry_ack_last": {"before the copy": 1, "after it": 2},
        },
    )


# %% [markdown]
# ## 7. Once: delivered three times, done once
#
# Lost confirms, lost acknowledgements and crashes all end in a second delivery. The
# *inbox* remembers which message has had its effect, in the transaction of the effect.


# %%
class Ledger(Store):
    """Effects, the ids that caused them, and what is still to be published.

    Store has the tables, on SQLite or PostgreSQL, and transaction(), which gives a
    connection of SQLAlchemy.
    """

    # region inbox
    def is_done(self, queue: str, message: Message) -> bool:
        """Tell whether a message has had its effect."""
        ask = "SELECT id FROM inbox WHERE queue = :queue AND id = :id"
        return bool(self.read(ask, queue=queue, id=message.id))

    def once(self, queue: str, message: Message, effect: Effect) -> bool:
        """Write an effect unless this message has had it; tell whether it is new.

        A function is called with the connection, to write rows of your own, and
        leaves the commit to us; a text is recorded.
        """
        mark = "INSERT INTO inbox VALUES (:queue, :id) ON CONFLICT DO NOTHING"
        # Trap: two transactions, or two databases, leave room for a crash between.
        with self.transaction() as db:
            done = db.execute(statement(mark), {"queue": queue, "id": message.id})
            if done.rowcount == 0:
                return False
            self.perform(db, effect, queue, message.id)
        return True

    # endregion inbox


class Consumer(RetryingConsumer):
    """Unlike RetryingConsumer: what a message causes is recorded once, with its id.

    The complete consumer. What `handle` returns happens once. It runs again only where
    it ended without that: the inbox is asked before.
    """

    def apply(self, message: Message) -> None:
        """Do the work and record its effect, if the message has not had it."""
        # Trap: only afterwards, a duplicate of an hour's work costs an hour.
        if self.is_done(message) or not self.once(message, self.handle(message)):
            self.count("duplicates", message.timestamp)
        else:
            self.count("processed", message.timestamp)


class UserDataConsumer(Consumer):
    """Validates and enriches user data."""

    def handle(self, message: Message) -> str:
        """Return the user and the domain of the address."""
        name, _, domain = message.payload["email"].rpartition("@")
        if not name or "." not in domain:
            raise PermanentError(f"not an email address: {message.payload['email']!r}")
        return f"{message.payload['username']} at {domain}"


class NotificationConsumer(Consumer):
    """Sends notifications and tracks their delivery."""

    def handle(self, message: Message) -> str:
        """Return what was delivered to whom."""
        return f"{message.payload['subject']} to {message.payload['recipient']}"


class AnalyticsConsumer(Consumer):
    """Stores events and counts them."""

    def handle(self, message: Message) -> str:
        """Return the kind of event."""
        return str(message.payload["event_type"])

    def totals(self) -> Counter[str]:
        """Return how often each kind of event happened."""
        return Counter(self.ledger.effects(self.queue) if self.ledger else [])


CONSUMERS: dict[str, type[Consumer]] = {
    "user_data": UserDataConsumer,
    "notifications": NotificationConsumer,
    "analytics": AnalyticsConsumer,
    "archive": AnalyticsConsumer,
}


@lesson.demo
def idempotency(env: BrokerEnv) -> None:
    """Idempotency: delivered three times, done once"""
    with (
        env.queue("idempotency") as queue,
        Producer(env.rabbit) as producer,
        Ledger() as ledger,
    ):
        naive = consumer_with(RetryingConsumer, user_of, env.rabbit, queue, producer)
        publish_all(producer, queue, users(20) * 3)
        env.consume(naive, 60)
        publish_all(producer, queue, users(20) * 3)
        env.consume(UserDataConsumer(env.rabbit, queue, producer, ledger), 60)
        happened = {
            "without an inbox": naive.counts["processed"],
            "with one": len(ledger.effects(queue)),
        }
    table(("60 deliveries of 20 messages", "effects"), *happened.items())
    check(
        "the inbox makes it 20, not 60",
        observed=happened,
        expected={"without an inbox": at_least(60), "with one": 20},
    )


# %% [markdown]
# ## 8. Both or none: a row and its messages, and the sums at every checkpoint
#
# A signup is a row in the database and messages about it. The *outbox* stores them
# together, and a relay publishes later. Whether a message was lost on the way shows in
# one sum: published ≤ done + dead + in flight; equal when nobody holds a copy.


# %%
@dataclass
class UserDataPipeline:
    """Takes signups and purchases: stored with what is to be published about them."""

    producer: Producer
    ledger: Ledger

    # region signup
    def process_user_signup(self, username: str, email: str) -> None:
        """Onboard a user: profile, welcome mail, event."""
        today = datetime.now(UTC).date().isoformat()
        user = UserDataMessage(
            username=username,
            email=email,
            registration_date=today,
        )
        mail = NotificationMessage(
            recipient=email,
            subject="welcome",
            content=username,
        )
        event = AnalyticsMessage(event_type="signup", user_id=username)
        self.store(f"signup {username}", user, mail, event)

    # endregion signup

    def process_user_purchase(self, username: str, email: str, amount: float) -> None:
        """Take a purchase: receipt, event."""
        text = f"{amount:.2f}"
        mail = NotificationMessage(recipient=email, subject="receipt", content=text)
        event = AnalyticsMessage(
            event_type="purchase", user_id=username, properties={"amount": amount}
        )
        self.store(f"purchase {username} {text}", mail, event)

    # region outbox
    def store(self, effect: Effect, *messages: Message | Outgoing) -> None:
        """Commit an effect and messages in one transaction; nothing is sent yet."""
        with self.ledger.transaction() as db:
            self.ledger.perform(db, effect, "accounts")
            self.ledger.put_in_outbox(db, messages)

    def relay(self, limit: int = 1000) -> int:
        """Publish what is stored and forget what is confirmed; return how much.

        Raises what wait() raises; what was not confirmed stays for the next time.
        What nobody can read, or publish, is set aside with its reason.
        """
        # No other relay has these rows. What is confirmed is deleted at the end.
        with self.ledger.outbox(limit) as rows:
            for row in rows:
                with row.unreadable():
                    arguments = row.read_by(self.arguments_of)
                    row.pending = self.producer.send(*arguments)
            pending = [row.pending for row in rows if row.pending]
            with suppress(Unpublishable):  # set aside as well
                self.producer.wait(*pending)
        return len([one for one in pending if one.is_confirmed])

    def arguments_of(self, row: StoredMessage) -> tuple[str, str, bytes, Any]:
        """Return what send() takes."""
        message = Message.from_json(row.body)
        exchange = self.producer.rabbit.exchange_of(message)
        key = row.key or message.key
        about = {"correlation_id": row.cause} | row.about
        return publish_arguments(message, exchange, key, **about)

    # endregion outbox


# Trap: no order of commit and publish is safe, as a crash fits in between.
def commit_first(pipeline: UserDataPipeline, name: str, email: str) -> None:
    """Sign a user up: the row, then the message."""
    pipeline.store(f"signup {name}")
    pipeline.producer.publish_user_data_event(name, email, "2026-01-05")


def publish_first(pipeline: UserDataPipeline, name: str, email: str) -> None:
    """Sign a user up: the message, then the row."""
    pipeline.producer.publish_user_data_event(name, email, "2026-01-05")
    pipeline.store(f"signup {name}")


def with_outbox(pipeline: UserDataPipeline, name: str, email: str) -> None:
    """Sign a user up: the row with the message, which a relay publishes later."""
    pipeline.process_user_signup(name, email)


class CrashingLedger(Ledger):
    """Crashes at every transaction, in turn just before and just after its commit."""

    crashes = 0

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Commit every second time, and always crash."""
        self.crashes += 1
        with super().transaction() as db:
            yield db
            if self.crashes % 2 == 1:
                raise Crash
        raise Crash


def wrong_after_crashes(
    env: BrokerEnv, sign_up: Callable[[UserDataPipeline, str, str], None]
) -> dict[str, int]:
    """Crash in each of 200 signups; return who was not announced, who not stored."""
    with Producer(env.rabbit) as producer, CrashingLedger() as ledger:
        pipeline = UserDataPipeline(producer, ledger)
        for n in range(200):
            raises(Crash, partial(sign_up, pipeline, f"user{n}", "a@example.org"))
        for _ in range(2):  # the relay crashes too, before it forgets and after
            raises(Crash, pipeline.relay)
        stored = {what.split()[1] for what in ledger.effects("accounts")}
    user_data = env.rabbit.name("user_data")
    bodies = [body for _, body in emptied(env.rabbit, user_data)]
    announced = {user_of(Message.from_json(body)) for body in bodies}
    for queue in WORK:
        emptied(env.rabbit, env.rabbit.name(queue))
    return {
        "lost": len(stored - announced),
        "phantoms": len(announced - stored),
    }


class Greylisted(NotificationConsumer):
    """A mail server that takes nothing at the first attempt."""

    def handle(self, message: Message) -> str:
        """Fail once."""
        if message.retry_count == 0:
            no_answer(message)
        return super().handle(message)


UNLUCKY = CONSUMERS | {"notifications": Greylisted}


def take_signups_and_purchases(pipeline: UserDataPipeline) -> int:
    """Take 20 of each, a fifth with a bad address; return how many messages come."""
    for n in range(20):
        email = f"user{n}@example.org" if n % 5 else "nonsense"
        pipeline.process_user_signup(f"user{n}", email)
        pipeline.process_user_purchase(f"user{n}", email, 9.5 + n)
    pipeline.relay()
    # Each signup: 1 user message, 1 mail, 1 event in 2 queues = 4.
    # Each purchase: 1 mail, 1 event in 2 queues = 3.
    return 20 * 4 + 20 * 3


def count_messages(rabbit: RabbitMQConnection, ledger: Ledger) -> dict[str, int]:
    """Return how many messages are done, dead, in flight."""
    work = [rabbit.name(queue) for queue in WORK]
    waits = [rabbit.wait_queue(attempt) for attempt in range(MAX_RETRIES)]
    done = len(ledger.read("SELECT id FROM inbox"))
    dead = rabbit.ready(*[queue + ".dead" for queue in work])
    in_flight = rabbit.ready(*work, *waits)
    total = done + dead + in_flight
    return {"done": done, "dead": dead, "in flight": in_flight, "sum": total}


def consume_ack_first(
    env: BrokerEnv, producer: Producer, ledger: Ledger, count: int
) -> None:
    """Take so many messages with auto_ack, as the shortest tutorial does."""
    with env.rabbit.channel() as channel:
        for queue, kind in UNLUCKY.items():
            consumer = kind(env.rabbit, env.rabbit.name(queue), producer, ledger)
            messages = all_in(channel, consumer.queue)
            for _, _, body in itertools.islice(messages, count):
                count -= 1
                # The broker has forgotten it: what fails now is in no count.
                with suppress(ConnectionError, PermanentError):
                    consumer.apply(Message.from_json(body))


def consume_ack_last(
    env: BrokerEnv, producer: Producer, ledger: Ledger, count: int
) -> None:
    """Consume until so many messages are done or dead; then stop."""

    def enough() -> bool:
        counts = count_messages(env.rabbit, ledger)
        return counts["done"] + counts["dead"] >= count

    with ExitStack() as stack:
        for queue, kind in UNLUCKY.items():
            consumer = kind(env.rabbit, env.rabbit.name(queue), producer, ledger)
            stack.enter_context(running(consumer))
        env.until(enough, limit=15)


def counts_at_checkpoints(
    env: BrokerEnv,
    consume: Callable[[BrokerEnv, Producer, Ledger, int], None],
    limit: float,
) -> dict[str, dict[str, int]]:
    """Publish, and consume; return at three checkpoints where the messages are.

    A message that comes back meanwhile is missed, so it counts until the sum is
    complete, or for `limit` seconds.
    """
    counts = {}
    found: dict[str, int] = {}
    with Producer(env.rabbit) as producer, Ledger() as ledger:
        pipeline = UserDataPipeline(producer, ledger)
        published = take_signups_and_purchases(pipeline)

        def is_complete() -> bool:
            found.update(count_messages(env.rabbit, ledger))
            return found["sum"] == published

        checkpoints = {"published": 0, "a third": published // 3, "all": published}
        for checkpoint, count in checkpoints.items():
            consume(env, producer, ledger, count)
            with suppress(TimeoutError):
                env.until(is_complete, limit)
            counts[checkpoint] = dict(found)
    return counts


def check_sums(env: BrokerEnv) -> None:
    """Count the messages, acknowledged first and last."""
    first = counts_at_checkpoints(env, consume_ack_first, limit=0.1)
    last = counts_at_checkpoints(env, consume_ack_last, limit=3)
    sums_first = {name: counts["sum"] for name, counts in first.items()}
    sums_last = {name: counts["sum"] for name, counts in last.items()}
    table(
        ("done + dead + in flight, of 140", *sums_last),
        ("acknowledged first", *sums_first.values()),
        ("acknowledged last", *sums_last.values()),
    )
    check(
        "it adds up at every checkpoint",
        observed={"first": sums_first["all"], "last": sums_last},
        expected={
            "first": less_than(140),
            "last": {"published": 140, "a third": 140, "all": 140},
        },
    )
    fact("in the end", last["all"])
    check(
        "the four bad addresses are dead letters",
        observed=last["all"],
        expected={"done": 136, "dead": 4, "in flight": 0, "sum": 140},
    )


@lesson.demo
def pipeline(env: BrokerEnv) -> None:
    """Pipeline: a row and its message, both or none, and every message accounted for"""
    wrong = {}
    for sign_up in (commit_first, publish_first, with_outbox):
        wrong[sign_up.__name__] = wrong_after_crashes(env, sign_up)
    rows = [(name, *counts.values()) for name, counts in wrong.items()]
    table(("200 crashes", "lost", "phantoms"), *rows)
    check(
        "an outbox loses none and invents none",
        observed=wrong,
        expected={
            "commit_first": {"lost": 100, "phantoms": 0},
            "publish_first": {"lost": 0, "phantoms": 100},
            "with_outbox": {"lost": 0, "phantoms": 0},
        },
    )
    check_sums(env)


# %% [markdown]
# ## 9. What goes first: priorities, and what prefetch does to them
#
# A priority reorders the queue. What a consumer has already fetched is not in it.


# %%
def number_ahead(env: BrokerEnv, queue: str, priority: int, prefetch: int) -> int:
    """Return how many of ten waiting messages come before a later one."""
    *waiting, late = users(11)
    order: list[str] = []
    with Producer(env.rabbit) as producer:

        def work(message: Message) -> None:
            order.append(user_of(message))
            if len(order) == 1:
                # All that the prefetch allows is on its way to this consumer.
                env.until(lambda: env.rabbit.ready(queue) == 10 - prefetch)
                arguments = publish_arguments(late, "", queue, priority=priority)
                producer.publish(*arguments)

        publish_all(producer, queue, waiting)
        # Trap: without a prefetch it is unlimited, and priorities do nothing.
        consume_inline(env.rabbit, queue, work, count=11, prefetch=prefetch)
    return order.index(user_of(late))


@lesson.demo
def priorities(env: BrokerEnv) -> None:
    """Priorities: what is fetched already cannot be overtaken"""
    native = env.delays_itself  # a quorum queue obeys priorities since 4.3
    with env.queue("priorities", URGENT, native=native) as queue:
        low = number_ahead(env, queue, priority=0, prefetch=1)
        urgent = number_ahead(env, queue, priority=URGENT, prefetch=1)
        fetched = number_ahead(env, queue, priority=URGENT, prefetch=10)
    table(
        ("priority", "prefetch", "come before it"),
        (0, 1, low),
        (URGENT, 1, urgent),
        (URGENT, 10, fetched),
    )
    check(
        "it overtakes what is not fetched yet",
        observed={"low": low, "urgent": urgent, "urgent, all fetched": fetched},
        expected={"low": 10, "urgent": 1, "urgent, all fetched": 10},
    )


# %% [markdown]
# The command line: `--worker`, `--publish` and their like run the classes above.

# %%
PARTS = Parts(
    connection=RabbitMQConnection,
    producer=Producer,
    ledger=Ledger,
    consumers=CONSUMERS,
    example=user,
    arguments=publish_arguments,
    redrive=redrive,
)


def run(args: argparse.Namespace) -> int:
    """Teach or work, as the options say; return the exit code."""
    if mode_of(args):
        return run_process(args, PARTS)
    return lesson.teach(args)


def main(argv: list[str] | None = None) -> int:
    """Teach or work, as the command line says; return the exit code."""
    parser = lesson.parser()
    add_process_options(parser, ", ".join(WORK))
    return lesson.main(argv, parser, run)


lesson.finish(__name__, main)  # a script: its exit code; a notebook: the tally
