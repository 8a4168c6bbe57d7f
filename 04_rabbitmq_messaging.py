"""RabbitMQ without losing a message: every acknowledged message is accounted for.

You will see, in order: validated messages, routing, publishing with confirms,
consuming off the I/O thread, surviving lost connections, retries with exponential
backoff, effects that happen once, priorities, a pipeline that adds up, the stand-in.

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
# dependencies = ["pika>=1.4,<2", "python-dotenv>=1.2.2,<2", "rich>=13.7,<16"]
# ///

from __future__ import annotations

import argparse
import copy
import itertools
import json
import logging
import random
import re
import sqlite3
import sys
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from concurrent.futures import Future, InvalidStateError
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import cache, partial
from math import floor, inf, log2
from queue import SimpleQueue
from typing import Any, ClassVar, NoReturn, Self

import pika
from pika import exceptions, spec
from pika.adapters.select_connection import IOLoop

import course.start  # noqa: F401  (first: it says in one line what is missing)
from course.amqp.errors import PublishFailed, Unroutable
from course.amqp.faults import block
from course.amqp.finding import DEFAULT_URL, broker_of, parameters_of
from course.amqp.internals import SteadyConnection, batch, hang_up, refused
from course.amqp.processes import Parts, add_process_options, mode_of, run_process
from course.amqp.topology import Topology
from course.console import Lesson, check, fact, note, table
from course.errors import BadInput, NoService
from course.lab import in_background, outcome_of, raises
from course.network import FaultyNetwork
from course.standins.amqp import Broker

# Knobs
VERSION = 1  # of the envelope; a consumer refuses one that it does not know
MAX_BODY = 256 * 1024  # bytes; RabbitMQ 4 takes 16 MiB, memory and fairness less
MAX_RETRIES = 5  # waits of 1, 2, 4, 8, 16 x the base: 31 s with a base of one
DEADLINE = 5.0  # seconds a publish may stay unconfirmed; pika alone waits 130
DELIVERY_LIMIT = 20  # redeliveries until a quorum queue buries a message itself
EXPIRES = 600.0  # seconds after which the queues of a run that was killed are gone
PERSISTENT = 2
Flags = dict[str, Any]  # the options and arguments of a queue or exchange
Fields = tuple[Any, ...]  # of a method of AMQP

# %% Vocabulary: what goes wrong, and whether it is worth another try


class PermanentError(Exception):
    """Fails the same way every time: no retry, straight to the dead letters."""


class BadMessage(PermanentError):
    """The body or a header is not what the version promises."""


# %% Messages: validated where they are made and where they are read

KINDS = {"str": str, "int": int, "dict[str, Any]": dict}


def utc_now() -> str:
    """Return the time in ISO 8601, in UTC."""
    return datetime.now(UTC).isoformat()


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")  # NaN, Infinity: json takes them


DECODER = json.JSONDecoder(parse_constant=_no_constant)


@dataclass(kw_only=True)
class Message:
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
        if own := self.payload_fields():
            self.payload = {name: getattr(self, name) for name in own}
        zone = None
        for name, kind in self.kinds().items():
            # type() rather than isinstance: True is an int.
            if type(getattr(self, name)) is not kind:
                raise BadMessage(f"{name} is no {kind.__name__}")
        if not re.fullmatch(r"[!-~]{1,64}", self.id):
            raise BadMessage("id is not 1 to 64 printable characters")
        with suppress(ValueError):
            zone = datetime.fromisoformat(self.timestamp).tzinfo
        if zone is None:
            raise BadMessage("timestamp is no ISO 8601 time with its zone")
        if not 0 <= self.retry_count <= 1000 or not 0 <= self.max_retries <= 1000:
            raise BadMessage("retry_count and max_retries are 0 to 1000")

    @classmethod
    @cache
    def kinds(cls) -> dict[str, Any]:
        """Return the fields, each with the type that JSON has for it."""
        return {item.name: KINDS[str(item.type)] for item in fields(cls)}

    @classmethod
    def payload_fields(cls) -> list[str]:
        """Return the names that a subclass adds to the envelope."""
        return list(cls.kinds())[len(Message.kinds()) :]

    def to_json(self) -> str:
        """Return the body; raise BadMessage for what JSON would change silently."""
        names = list(Message.kinds())
        body = {"version": VERSION} | {name: getattr(self, name) for name in names}
        try:
            text = json.dumps(body, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            raise BadMessage("payload is no JSON") from None
        if json.loads(text) != body:
            raise BadMessage("payload would come back changed (a tuple, an int key?)")
        if len(text) > MAX_BODY:
            raise BadMessage(f"body is larger than {MAX_BODY} bytes")
        return text

    @staticmethod
    def from_json(body: bytes | str) -> Message:
        """Return the message of a body, of the class that its type names."""
        if len(body) > MAX_BODY:
            raise BadMessage(f"body is larger than {MAX_BODY} bytes")
        try:
            data = DECODER.decode(body if isinstance(body, str) else body.decode())
        except (ValueError, RecursionError):
            raise BadMessage("body is no JSON") from None
        if not isinstance(data, dict):
            raise BadMessage("body is no JSON object")
        if type(data.get("version")) is not int or data.pop("version") != VERSION:
            raise BadMessage(f"version is not {VERSION}")
        kind = MESSAGES.get(str(data.get("type")))
        if kind is None:
            raise BadMessage("type is unknown")
        if kind.payload_fields():
            payload = data.pop("payload", None)
            if not isinstance(payload, dict) or set(payload) & set(data):
                raise BadMessage("payload is no object of its own")
            data |= payload
        try:
            return kind(**data)
        except TypeError:
            raise BadMessage("fields are missing or unknown") from None


@dataclass(kw_only=True)
class UserDataMessage(Message):
    """A user signed up, or changed."""

    exchange, key = "data_processing", "user_data"
    type: str = "user_data"
    username: str
    email: str
    registration_date: str


@dataclass(kw_only=True)
class NotificationMessage(Message):
    """Somebody is to be told something."""

    exchange, key = "notifications", "notification.email.normal"
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


TYPES = (Message, UserDataMessage, NotificationMessage, AnalyticsMessage)
MESSAGES: dict[str, type[Message]] = {kind.type: kind for kind in TYPES}

# %% Connection and topology

EXCHANGES = {
    "data_processing": "direct",
    "notifications": "topic",
    "analytics": "fanout",
}
# A broker that buries a message keeps it until the next queue has confirmed it.
SAFE = {
    "x-queue-type": "quorum",
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
}
WORK = {  # queue: exchange, keys
    "user_data": ("data_processing", "user_data"),
    "notifications": ("notifications", "notification.email.#", "notification.sms.#"),
    "analytics": ("analytics", ""),
    "archive": ("analytics", ""),
}


class RabbitMQConnection(Topology):
    """Where the broker is, and what stands on it under our prefix.

    Everything is durable (4.3 refuses the rest). Work queues are quorum queues with a
    delivery limit of their own, as its default differs between 3.x and 4.x; the one
    with priorities is classic, where they mean the same everywhere. With `expires`,
    what nobody has used for so many seconds disappears, also after a kill -9.
    """

    def __init__(
        self,
        parameters: Any,
        prefix: str = "module8",
        base: float = 1.0,
        expires: float = 0.0,
    ) -> None:
        super().__init__(parameters, prefix, expires)
        self.base = base
        for exchange, kind in EXCHANGES.items():
            self.plan_exchange(self.name(exchange), kind)
        for queue, (exchange, *keys) in WORK.items():
            self.add_queue(queue, priorities=5 if queue == "notifications" else 0)
            for key in keys:
                self.bindings.append((self.name(queue), self.name(exchange), key))
        for attempt in range(MAX_RETRIES):
            self._add_wait(self.wait_queue(attempt), self.delay_ms(attempt))

    def delay_ms(self, attempt: int) -> int:
        """Return how long attempt n waits, in milliseconds: base * 2**n."""
        return round(1000 * self.base * 2.0 ** min(attempt, MAX_RETRIES - 1))

    def wait_queue(self, attempt: int) -> str:
        """Return where attempt n waits. A queue's TTL is fixed: the name carries it."""
        return self.name(f"retry.{self.delay_ms(attempt)}ms")

    # region queues
    def add_queue(self, queue: str, priorities: int = 0) -> str:
        """Plan a work queue and its dead letters; return its full name."""
        work, dead = self.name(queue), self.name(queue + ".dead")
        extra: dict[str, Any] = {"x-max-priority": priorities}
        if not priorities:
            extra = SAFE | {"x-delivery-limit": DELIVERY_LIMIT}
        extra |= {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
        self.plan_queue(work, extra)
        # Trap: from 4.0 on the default is 20, and from here nothing leads further.
        keep = {"x-queue-type": "quorum", "x-delivery-limit": 2**31 - 1}
        self.plan_queue(dead, keep)
        return work

    def _add_wait(self, name: str, ttl: int) -> None:
        # A fanout in front keeps the routing key, which is the way back.
        self.plan_exchange(name, "fanout")
        back = {"x-message-ttl": ttl, "x-dead-letter-exchange": ""}
        self.plan_queue(name, SAFE | back)
        self.bindings.append((name, name, ""))

    # endregion queues

    def connect(self) -> Any:
        """Return a new connection; every thread needs its own."""
        return pika.BlockingConnection(self.parameters, SteadyConnection)

    def setup_infrastructure(self) -> None:
        """Declare everything; doing it again changes nothing.

        Raises:
            BadInput: something stands there with other arguments. What exists is
                declared first, so that a refusal finds nothing created.
        """
        with self.connect() as connection:
            self.declare(connection.channel(), self.standing(connection))
            self.declare(connection.channel(), self.plan)


def backoff(attempt: int) -> float:
    """Return seconds to wait before reconnecting: exponential, capped, with jitter."""
    return min(10.0, 0.05 * 2.0 ** min(attempt, 8)) * random.uniform(0.5, 1)


# %% Publishing: confirmed, mandatory, persistent


@dataclass(eq=False)
class Pending:
    """A publish on its way: what is sent, and the promise of a confirm."""

    exchange: str
    key: str
    body: bytes
    properties: Any
    confirmed: Future[None] = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)

    @property
    def arrived(self) -> bool:
        """Whether the broker has confirmed it."""
        settled = self.confirmed.done() and not self.confirmed.cancelled()
        return settled and not self.confirmed.exception()


class Producer:
    """Publishes with a window of unconfirmed messages; any thread may call it.

    What a lost connection leaves unconfirmed is sent again with the same id, so a
    message arrives at least once. Every wait ends after `deadline` seconds.
    """

    def __init__(
        self, rabbit: RabbitMQConnection, window: int = 1000, deadline: float = DEADLINE
    ):
        self.rabbit, self.deadline = rabbit, deadline
        self.blocked = ""  # the broker's reason while it takes no messages
        self.counts: Counter[str] = Counter()
        self._room = threading.BoundedSemaphore(window)
        self._waiting: deque[Pending] = deque()
        self.sent: dict[int, Pending] = {}  # by delivery tag, in order
        self._returned: Counter[Fields] = Counter()  # not yet confirmed as well
        self._channel: Any = None
        self._connection: Any = None
        self._attempt, self._awake, self._closing = 0, False, False
        self._loop = IOLoop()
        self._thread = threading.Thread(target=self._loop.start, daemon=True)
        self._loop.add_callback_threadsafe(self._connect)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close without waiting: wait() first for what has to arrive."""
        self._closing = True
        self._loop.add_callback_threadsafe(self._close)
        self._thread.join(DEADLINE)
        self._loop.close()

    # The caller's side

    def send(self, exchange: str, key: str, body: bytes, properties: Any) -> Pending:
        """Queue a publish; return at once unless the window is full."""
        if not self._room.acquire(timeout=self.deadline):
            raise PublishFailed(self._why("the window stayed full"))
        self._waiting.append(pending := Pending(exchange, key, body, properties))
        if not self._awake:
            self._awake = True
            self._loop.add_callback_threadsafe(self._pump)
        return pending

    def wait(self, *pending: Pending) -> None:
        """Wait until all are confirmed or have failed; raise the first failure.

        Raises:
            Unroutable: no queue took one of them.
            PublishFailed: refused, or not confirmed within the deadline; what was
                not confirmed is given up here, yet may have arrived.
        """
        end, failures = time.monotonic() + self.deadline, list[Exception]()
        for one in pending:
            try:
                one.confirmed.result(max(0, end - time.monotonic()))
            except PublishFailed as failure:
                failures.append(failure)
            except TimeoutError:
                left = sum(other.confirmed.cancel() for other in pending)
                raise PublishFailed(self._why(f"{left} not confirmed")) from None
        if failures:
            raise failures[0]

    def _why(self, what: str) -> str:
        reason = f"; the broker blocks publishers: {self.blocked}" * bool(self.blocked)
        return f"{what} within {self.deadline:g} s{reason}"

    def publish(self, exchange: str, key: str, body: bytes, properties: Any) -> None:
        """Publish and wait for the confirm; raises what wait() raises."""
        self.wait(self.send(exchange, key, body, properties))

    def publish_message(self, message: Message, key: str = "", **about: Any) -> str:
        """Publish a message where its kind belongs, confirmed; return its id."""
        where = (self.rabbit.name(message.exchange), key or message.key)
        self.publish(*addressed(message, *where, **about))
        return message.id

    def publish_user_data_event(self, username: str, email: str, date: str) -> str:
        """Announce a new or changed user; return the message's id."""
        user = UserDataMessage(username=username, email=email, registration_date=date)
        return self.publish_message(user)

    def publish_notification(
        self, recipient: str, subject: str, content: str, way: str = "email.normal"
    ) -> str:
        """Ask for an email or SMS; `way` such as "sms.urgent" is the end of the key."""
        message = NotificationMessage(
            recipient=recipient, subject=subject, content=content
        )
        priority = 5 if way.endswith("urgent") else 0
        return self.publish_message(message, f"notification.{way}", priority=priority)

    def publish_analytics_event(
        self, event_type: str, user_id: str, properties: dict[str, Any]
    ) -> str:
        """Tell everybody who listens what happened; return the message's id."""
        message = AnalyticsMessage(
            event_type=event_type, user_id=user_id, properties=properties
        )
        return self.publish_message(message)

    # The I/O thread's side: pika's callbacks, never called from elsewhere

    def _connect(self) -> None:
        self._connection = SteadyConnection(
            self.rabbit.parameters,
            on_open_callback=self._on_open,
            on_open_error_callback=self._on_lost,
            on_close_callback=self._on_lost,
            custom_ioloop=self._loop,
        )

    def _on_open(self, connection: Any) -> None:
        self._attempt = 0
        if self._closing:
            self._close()
            return
        connection.add_on_connection_blocked_callback(self._on_blocked)
        connection.add_on_connection_unblocked_callback(self._on_blocked)
        connection.channel(on_open_callback=self._on_channel)

    def _on_channel(self, channel: Any) -> None:
        self._channel, self._tag = channel, 0
        channel.add_on_close_callback(self._on_channel_closed)
        channel.add_on_return_callback(self._on_returned)
        channel.confirm_delivery(self._on_confirm)
        self._pump()

    # region confirms
    def _pump(self) -> None:
        self._awake = False
        if not (self._channel and self._channel.is_open):
            return  # _on_channel comes back here
        with self._connection.batch():
            while self._waiting:
                one = self._waiting.popleft()
                if one.confirmed.cancelled():
                    self._room.release()
                    continue
                what = (one.exchange, one.key, one.body, one.properties)
                try:
                    self._channel.basic_publish(*what, mandatory=True)
                except Exception as error:  # not to be encoded: nothing was sent
                    self._done([one], PublishFailed(f"{type(error).__name__}: {error}"))
                    continue
                self._tag += 1
                self.sent[self._tag] = one

    def _on_returned(self, _: Any, how: Any, about: Any, __: bytes) -> None:
        # An id alone is not enough: a fanout's messages may share theirs with others.
        self._returned[how.exchange, how.routing_key, about.message_id] += 1

    def _on_confirm(self, confirm: Any) -> None:
        method, error = confirm.method, None
        if isinstance(method, spec.Basic.Nack):
            error = PublishFailed("the broker refused it")
        tags = [method.delivery_tag]
        if method.multiple:
            tags = list(itertools.takewhile(lambda tag: tag <= tags[0], self.sent))
        self._done([self.sent.pop(tag) for tag in tags], error)

    def _done(self, settled: Sequence[Pending], error: Exception | None) -> None:
        for one in settled:
            outcome = error
            sent_to = (one.exchange, one.key, one.properties.message_id)
            if self._returned[sent_to]:
                self._returned -= Counter([sent_to])
                where = f"no queue for {one.key!r} at exchange {one.exchange!r}"
                outcome = Unroutable(where)
            kind = "returned" if isinstance(outcome, Unroutable) else "failed"
            self.counts[kind if outcome else "confirmed"] += 1
            with suppress(InvalidStateError):  # given up by wait()
                if outcome:
                    one.confirmed.set_exception(outcome)
                else:
                    one.confirmed.set_result(None)
        if settled:
            self._room.release(len(settled))

    # endregion confirms

    def _on_blocked(self, _: Any, notice: Any) -> None:
        self.blocked = getattr(notice.method, "reason", "")
        logging.warning("publishing is blocked: %s", self.blocked or "no longer")

    def _on_channel_closed(self, channel: Any, reason: Exception) -> None:
        if not isinstance(reason, exceptions.ChannelClosedByBroker):
            return  # the connection went: _on_lost follows
        # A missing exchange closes the channel under everybody else's messages.
        sent, self.sent = list(self.sent.values()), {}
        guilty = [one for one in sent if f"'{one.exchange}'" in reason.reply_text]
        guilty = guilty or sent
        self._done(guilty, PublishFailed(reason.reply_text))
        self._returned.clear()
        self._waiting.extendleft(one for one in reversed(sent) if one not in guilty)
        channel.connection.channel(on_open_callback=self._on_channel)

    # region resend
    def _on_lost(self, _: Any, reason: Exception) -> None:
        self.blocked, self._channel, self._connection = "", None, None
        self.counts["resent"] += len(self.sent)
        self._waiting.extendleft(reversed(self.sent.values()))
        self.sent = {}
        self._returned.clear()
        if self._closing:
            self._loop.stop()
            return
        if refused(reason):
            given_up = [self._waiting.popleft() for _ in range(len(self._waiting))]
            self._done(given_up, PublishFailed(type(reason).__name__))
        self.counts["reconnects"] += 1
        self._attempt += 1
        self._loop.call_later(backoff(self._attempt), self._connect)

    # endregion resend

    def _close(self) -> None:
        if self._connection is None:
            self._loop.stop()
            return
        # pika trips over a close() while it connects: _on_open comes back here.
        if self._connection.is_open:
            self._connection.close()
        self._loop.call_later(1.0, self._hang_up)

    def _hang_up(self) -> None:
        if not hang_up(self._connection):
            self._loop.stop()


def addressed(
    message: Message, exchange: str, key: str, **properties: Any
) -> tuple[str, str, bytes, Any]:
    """Return what Producer.send takes: where to, the body, persistent properties."""
    about = pika.BasicProperties(
        message_id=message.id,
        type=message.type,
        content_type="application/json",
        delivery_mode=PERSISTENT,
        headers={"x-retry-count": message.retry_count},
        **properties,
    )
    return exchange, key, message.to_json().encode(), about


# %% Consuming: work on a bounded pool, acknowledgements on the I/O thread


class Ledger:
    """Effects, the ids that caused them, and what is still to be published.

    One SQLite file. An effect and the mark that it happened commit together.
    """

    TABLES = """
        CREATE TABLE IF NOT EXISTS inbox (queue, id, PRIMARY KEY (queue, id));
        CREATE TABLE IF NOT EXISTS outbox (number INTEGER PRIMARY KEY, body, cause);
        CREATE TABLE IF NOT EXISTS effects (queue, id, what);
    """

    def __init__(self, path: str = ":memory:") -> None:
        self.db = sqlite3.connect(path, timeout=DEADLINE, check_same_thread=False)
        self.lock = threading.Lock()
        self.db.executescript("PRAGMA journal_mode = WAL;" + self.TABLES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.db.close()

    # region inbox
    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit what happens inside, or none of it."""
        with self.lock, self.db:
            yield self.db

    def read(self, ask: str, *values: object) -> list[tuple[Any, ...]]:
        """Return rows; never those of a transaction that may still be undone."""
        with self.lock:
            return self.db.execute(ask, values).fetchall()

    def once(self, queue: str, message: Message, what: str) -> bool:
        """Record an effect unless this message has had it; tell whether it is new."""
        with self.transaction() as db:
            mark = "INSERT OR IGNORE INTO inbox VALUES (?, ?)"
            if db.execute(mark, (queue, message.id)).rowcount == 0:
                return False
            effect = "INSERT INTO effects VALUES (?, ?, ?)"
            db.execute(effect, (queue, message.id, what))
        return True

    # endregion inbox

    def effects(self, queue: str) -> list[str]:
        """Return what happened because of a queue's messages, in order."""
        ask = "SELECT what FROM effects WHERE queue = ? ORDER BY rowid"
        return [what for (what,) in self.read(ask, queue)]


@dataclass
class Delivery:
    """A message in hand: what to acknowledge, and where."""

    channel: Any
    tag: int
    properties: Any
    body: bytes


@dataclass(eq=False)
class Consumer(ABC):
    """Reads a queue: validates, works on a pool, retries, buries, acknowledges last.

    The thread in start_consuming() does nothing but I/O, so heartbeats are answered
    however long the work takes. It lives through lost connections and deleted queues.
    """

    permanent = (PermanentError, ValueError, LookupError)

    rabbit: RabbitMQConnection
    queue: str
    producer: Producer
    ledger: Ledger | None = None
    prefetch: int = 20
    concurrency: int = 2
    drain: float = DEADLINE  # seconds that a stop waits for what has begun

    def __post_init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.ages: Counter[int] = Counter()  # of deliveries, by digits of their seconds
        self.ready, self._stopping = threading.Event(), threading.Event()
        self._jobs: SimpleQueue[Delivery | None] = SimpleQueue()
        self._settled: deque[Delivery] = deque()
        self._busy, self._flushing = set[int](), False
        self._lock = threading.Lock()
        self.connection: Any = None
        self._channel: Any = None

    @abstractmethod
    def handle(self, message: Message) -> str:
        """Do the slow part; return the effect to record, with the id, in the ledger."""

    # region work
    def message_callback(
        self, channel: Any, method: Any, properties: Any, body: bytes
    ) -> None:
        """Hand a delivery to the pool: the I/O thread never works."""
        self._jobs.put(Delivery(channel, method.delivery_tag, properties, body))

    def _work(self) -> None:
        while delivery := self._jobs.get():
            self._busy.add(id(delivery))  # before the look at what stop() sets first
            try:
                # Else it has not begun: the broker gives it to somebody else.
                current = delivery.channel is self._channel and self._channel.is_open
                if current and not self._stopping.is_set():
                    self._process(delivery)
                    self._acknowledge(delivery)
            except Exception:  # not even the copy could be confirmed
                self._count("unsettled")
                logging.exception("left to the broker")
                back = partial(self._give_back, delivery)
                # Trap: at once, a classic queue would deliver it in a hot loop.
                self.on_io(partial(self._after, 0.2, back))
            finally:
                self._busy.discard(id(delivery))

    def _process(self, delivery: Delivery) -> None:
        """Handle a message; on failure publish, confirmed, its copy to elsewhere."""
        attempts: Any = 0
        message = None
        try:
            attempts = (delivery.properties.headers or {}).get("x-retry-count", 0)
            if type(attempts) is not int or not 0 <= attempts <= 1000:
                attempts = 0
                raise BadMessage("header x-retry-count is no count")
            message = Message.from_json(delivery.body)
            message.retry_count = attempts
            age = datetime.now(UTC) - datetime.fromisoformat(message.timestamp)
            what = self.handle(message)
            new = self.ledger is None or self.ledger.once(self.queue, message, what)
            self._count("processed" if new else "duplicates", age.total_seconds())
        except Exception as error:
            limit = message.max_retries if message else 0
            final = isinstance(error, self.permanent) or attempts >= limit
            self._copy(delivery, error, attempts, final)

    # endregion work

    # region copy
    def _copy(
        self, delivery: Delivery, error: Exception, attempts: int, final: bool
    ) -> None:
        """Publish the copy that waits for the next attempt, or for somebody to look."""
        old = delivery.properties
        first = (old.headers or {}).get("x-first-failure")
        # Of the headers only ours go along: x-death and its like are the broker's own.
        headers = {
            "x-retry-count": attempts + (not final),
            "x-first-failure": first if isinstance(first, str) else utc_now(),
            "x-error": ascii(f"{type(error).__name__}: {error}")[1:-1][:300],
            "x-queue": self.queue,
        }
        about = pika.BasicProperties(
            message_id=old.message_id or uuid.uuid4().hex,
            type=old.type,
            content_type=old.content_type,
            correlation_id=old.correlation_id,
            priority=old.priority,
            delivery_mode=PERSISTENT,
            headers=headers,
        )
        where = ("", self.queue + ".dead")
        if not final:
            where = (self.rabbit.wait_queue(attempts), self.queue)
        self.producer.publish(*where, delivery.body, about)
        self._count("dead" if final else "retried")

    # endregion copy

    def _count(self, what: str, age: float | None = None) -> None:
        with self._lock:  # several threads count, and += is two steps
            self.counts[what] += 1
            if age is not None:
                self.ages[len(str(int(age)))] += 1

    def _acknowledge(self, delivery: Delivery) -> None:
        self._settled.append(delivery)
        if not self._flushing:  # one call to the I/O thread settles what has gathered
            self._flushing = True
            self.on_io(self._flush)

    def on_io(self, work: Callable[[], None]) -> None:
        """Run something in the I/O thread, the only one that may use the connection."""
        with suppress(exceptions.AMQPError):  # lost: it will be delivered again
            if self.connection:
                self.connection.add_callback_threadsafe(work)

    def _after(self, seconds: float, work: Callable[[], None]) -> None:
        self.connection.call_later(seconds, work)

    def _give_back(self, delivery: Delivery) -> None:
        if delivery.channel.is_open:  # else the broker has it back already
            delivery.channel.basic_reject(delivery.tag)

    def _flush(self) -> None:
        self._flushing = False  # first: what is added from here on asks again
        with batch(self.connection):
            while self._settled:
                delivery = self._settled.popleft()
                if delivery.channel.is_open:
                    delivery.channel.basic_ack(delivery.tag)
                    self._count("acked")

    # region resilience
    def start_consuming(self) -> None:
        """Consume until stop(), reconnecting; raise what no reconnection mends."""
        for _ in range(self.concurrency):
            threading.Thread(target=self._work, daemon=True).start()
        attempt = acked = 0
        while not self._stopping.is_set():
            try:
                self._session()
            except Exception as error:  # whatever pika stumbles over
                if isinstance(error, BadInput) or refused(error):
                    raise
                logging.debug("consumer lost its connection: %s", error)
                attempt = attempt + 1 if self.counts["acked"] == acked else 0
                acked = self.counts["acked"]
                self._stopping.wait(backoff(attempt))
            self.ready.clear()
            self.counts["reconnects"] += not self._stopping.is_set()
        for _ in range(self.concurrency):
            self._jobs.put(None)

    def _session(self) -> None:
        with self.rabbit.connect() as self.connection:
            channel = self._channel = self.connection.channel()
            self._flushing = False  # a call that was lost with its connection
            self.rabbit.declare(channel, self.rabbit.plan)
            channel.basic_qos(prefetch_count=self.prefetch)
            channel.basic_consume(self.queue, self.message_callback)
            self.ready.set()
            if not self._stopping.is_set():
                # Trap: it also returns, silently, when the broker cancels the consumer.
                channel.start_consuming()
            end = time.monotonic() + self.drain
            while self._busy and time.monotonic() < end:
                self.connection.process_data_events(0.02)
            self._flush()

    def stop(self) -> None:
        """Finish what has begun, within the drain limit; the rest goes back."""
        self._stopping.set()
        self.on_io(lambda: self._channel.stop_consuming())  # noqa: PLW0108 (may be None)

    # endregion resilience


class UserDataConsumer(Consumer):
    """Validates and enriches user data."""

    def handle(self, message: Message) -> str:
        """Return the user and the domain of the address."""
        name, _, domain = message.payload["email"].rpartition("@")
        if not name or "." not in domain:
            raise PermanentError(f"no email address: {message.payload['email']!r}")
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


@dataclass
class UserDataPipeline:
    """Takes signups and purchases: stored with what is to be published about them."""

    producer: Producer
    ledger: Ledger

    # region outbox
    def _store(self, what: str, *messages: Message) -> None:
        cause = messages[0].id  # the correlation id that they share
        with self.ledger.transaction() as db:
            db.execute("INSERT INTO effects VALUES ('accounts', '', ?)", (what,))
            rows = [(message.to_json(), cause) for message in messages]
            db.executemany("INSERT INTO outbox VALUES (NULL, ?, ?)", rows)

    def relay(self, limit: int = 1000) -> int:
        """Publish what is stored and forget what is confirmed; return how much.

        Raises what wait() raises; what was not confirmed stays for the next time.
        """
        ask = "SELECT * FROM outbox ORDER BY number LIMIT ?"
        pending: dict[int, Pending] = {}
        for number, body, cause in self.ledger.read(ask, limit):
            message = Message.from_json(body)
            where = (self.producer.rabbit.name(message.exchange), message.key)
            one = addressed(message, *where, correlation_id=cause)
            pending[number] = self.producer.send(*one)
        try:
            self.producer.wait(*pending.values())
        finally:
            gone = [(number,) for number, one in pending.items() if one.arrived]
            with self.ledger.transaction() as db:
                db.executemany("DELETE FROM outbox WHERE number = ?", gone)
        return len(gone)

    # endregion outbox

    def process_user_signup(self, username: str, email: str) -> None:
        """Onboard a user: profile, welcome mail, event."""
        today = datetime.now(UTC).date().isoformat()
        user = UserDataMessage(username=username, email=email, registration_date=today)
        mail = NotificationMessage(recipient=email, subject="welcome", content=username)
        event = AnalyticsMessage(event_type="signup", user_id=username)
        self._store(f"signup {username}", user, mail, event)

    def process_user_purchase(self, username: str, email: str, amount: float) -> None:
        """Take a purchase: receipt, event."""
        text = f"{amount:.2f}"
        mail = NotificationMessage(recipient=email, subject="receipt", content=text)
        event = AnalyticsMessage(
            event_type="purchase", user_id=username, properties={"amount": amount}
        )
        self._store(f"purchase {username} {text}", mail, event)


# region redrive
def redrive(rabbit: RabbitMQConnection, queue: str, producer: Producer) -> int:
    """Move a queue's dead letters back to it; return how many."""
    moved = 0
    with rabbit.channel() as channel:
        for _ in range(rabbit.ready(queue + ".dead")):  # not those that die again
            method, old, body = channel.basic_get(queue + ".dead")
            if method is None:
                break
            old.headers = old.expiration = None  # it begins anew
            old.delivery_mode = PERSISTENT
            producer.publish("", queue, body, old)
            channel.basic_ack(method.delivery_tag)  # after the confirm
            moved += 1
    return moved


# endregion redrive


# %% What every demo receives


@dataclass
class Env:
    """Which broker answered, how to reach it, and how its time passes."""

    backend: str
    live: bool
    rabbit: RabbitMQConnection
    broker: Broker | None
    version: str = "3.10"

    def clock(self) -> float:
        """Return the broker's time in seconds."""
        return self.broker.clock if self.broker else time.monotonic()

    def until(self, state: Callable[[], object], limit: float = 30.0) -> None:
        """Let time pass until the state holds; give up after `limit` real seconds."""
        end = time.monotonic() + limit
        while not state():
            if time.monotonic() > end:
                raise TimeoutError("the state was not reached in time")
            if self.broker:
                self.broker.step()
            else:
                time.sleep(0.01)

    def queue(self, name: str, **options: Any) -> str:
        """Declare a work queue of the demo's own; return its full name."""
        known = len(self.rabbit.plan)
        full = self.rabbit.add_queue(name, **options)
        with self.rabbit.channel() as channel:
            self.rabbit.declare(channel, self.rabbit.plan[known:])
        return full

    @contextmanager
    def stage(self, name: str) -> Iterator[tuple[str, Producer, Ledger]]:
        """Yield what most demos need: a queue of their own, a producer, a ledger."""
        known = len(self.rabbit.plan)
        queue = self.queue(name)
        try:
            with Producer(self.rabbit) as producer, Ledger() as ledger:
                yield queue, producer, ledger
        finally:
            with self.rabbit.channel() as channel:
                for own in self.rabbit.plan[known:]:
                    channel.queue_delete(own.name)
            del self.rabbit.plan[known:]

    @contextmanager
    def wire(self) -> Iterator[tuple[FaultyNetwork, RabbitMQConnection]]:
        """Yield a network that can fail, and the connection that goes over it."""
        far = copy.copy(self.rabbit)
        with FaultyNetwork(far.parameters.host, far.parameters.port) as wire:
            far.parameters = copy.copy(far.parameters)
            far.parameters.host, far.parameters.port = "127.0.0.1", wire.port
            yield wire, far

    def consume(self, consumer: Consumer, count: int) -> None:
        """Consume until so many messages are acknowledged."""
        with running(consumer):
            self.until(lambda: consumer.counts["acked"] == count)


@contextmanager
def open_env(args: argparse.Namespace) -> Iterator[Env]:
    """Find the broker, else start the stand-in; leave nothing on either."""
    prefix = f"module8.{uuid.uuid4().hex[:8]}"
    with ExitStack() as stack:
        try:
            if args.offline:
                raise NoService("--offline")
            parameters, about = broker_of(args)
            version, live = str(about["version"]), None
            where = f"{parameters.host}:{parameters.port}"
            backend = f"{about['product']} {version} at {where}"
        except NoService as absent:
            live = stack.enter_context(Broker())
            parameters, version = parameters_of(DEFAULT_URL), live.version
            parameters.port = live.port
            backend = f"stand-in in this process, nothing in it is durable ({absent})"
        rabbit = RabbitMQConnection(parameters, prefix, 1.0 if live else 0.1, EXPIRES)
        stack.callback(rabbit.teardown)
        rabbit.setup_infrastructure()
        yield Env(backend, live is None, rabbit, live, version)


lesson = Lesson("RabbitMQ without losing a message", open_env)


class FunctionConsumer(Consumer):
    """A consumer whose work is a function; its result, if any, is the effect."""

    def __init__(self, work: Callable[[Message], object], *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.work = work

    def handle(self, message: Message) -> str:
        """Call the function."""
        return str(self.work(message))


@contextmanager
def running(consumer: Consumer) -> Iterator[Consumer]:
    """Consume in a thread for the length of a block."""
    done = in_background(consumer.start_consuming)
    try:
        consumer.ready.wait(DEADLINE)
        yield consumer
    finally:
        consumer.stop()
        with suppress(TimeoutError):  # a frozen broker answers no goodbye
            done.result(consumer.drain + DEADLINE)


def consume_inline(
    rabbit: RabbitMQConnection,
    queue: str,
    work: Callable[[Message], object],
    count: float = inf,
    prefetch: int = 1,
) -> None:
    """Consume as tutorials do, until the connection goes: the naive variant."""
    left = count

    def callback(channel: Any, method: Any, _: Any, body: bytes) -> None:
        nonlocal left
        left -= 1
        try:
            work(Message.from_json(body))
        except Exception:
            # Trap: on a queue without a delivery limit it comes back for ever.
            channel.basic_nack(method.delivery_tag, requeue=True)
        else:
            channel.basic_ack(method.delivery_tag)
        if left == 0:
            channel.stop_consuming()

    with rabbit.channel() as channel:
        channel.basic_qos(prefetch_count=prefetch)
        channel.basic_consume(queue, callback)
        channel.start_consuming()


def user(n: int) -> Message:
    """Return the nth user's data, always the same but for its id."""
    name = f"user{n}"
    return UserDataMessage(
        username=name, email=f"{name}@example.org", registration_date="2026-01-05"
    )


def users(count: int) -> list[Message]:
    """Return the data of the first users."""
    return [user(n) for n in range(count)]


def name_of(message: Message) -> str:
    """Return the user that a message is about."""
    return str(message.payload["username"])


def noting(
    seen: list[str], at: Iterable[str] = (), act: Callable[[], object] = str
) -> Callable[[Message], object]:
    """Return work that notes each user, and acts once at each of some."""
    left = set(at)

    def work(message: Message) -> None:
        seen.append(name := name_of(message))
        if name in left:
            left.remove(name)
            act()

    return work


def publish(producer: Producer, queue: str, messages: Iterable[Message]) -> None:
    """Publish messages to a queue, and wait until all are confirmed."""
    producer.wait(*[producer.send(*addressed(one, "", queue)) for one in messages])


def taken(channel: Any, queue: str, auto_ack: bool = True) -> Iterator[Any]:
    """Yield (method, properties, body) until a queue is empty."""
    return iter(partial(channel.basic_get, queue, auto_ack), (None, None, None))


def emptied(rabbit: RabbitMQConnection, queue: str) -> list[tuple[Any, bytes]]:
    """Take all messages out of a queue: (properties, body)."""
    with rabbit.channel() as channel:
        return [(about, body) for _, about, body in taken(channel, queue)]


# %% 1. Messages: nothing that arrives stops a consumer
BROKEN = {
    "not JSON": b"{",
    "not UTF-8": b'"\xff\xfe\xfa"',
    "nested 100,000 deep": b"[" * 100_000,
    "a list": b"[1]",
    "a later version": b'{"version": 2}',
    "an unknown type": b'{"version": 1, "type": "pickle"}',
    "a field is missing": b'{"version": 1, "type": "user_data", "payload": {}}',
    "a wrong type": b'{"version": 1, "type": "message", "id": 7}',
    "not a number": b'{"version": 1, "type": "message", "payload": {"x": NaN}}',
    "1 MB": b" " * 1_000_000,
}


@lesson.demo
def messages(env: Env) -> None:
    """Messages: a bad body costs itself, not the consumer"""
    good, naive = users(3), list[str]()
    bodies = [*BROKEN.values(), *(one.to_json().encode() for one in good)]
    with env.stage("messages") as (queue, producer, ledger):
        about = pika.BasicProperties(delivery_mode=PERSISTENT)
        producer.wait(*(producer.send("", queue, body, about) for body in bodies))
        consume_inline(env.rabbit, queue, noting(naive), count=10)
        env.consume(UserDataConsumer(env.rabbit, queue, producer, ledger), len(bodies))
        ours = len(ledger.effects(queue))
        dead = emptied(env.rabbit, queue + ".dead")
    why = {body: about.headers["x-error"] for about, body in dead}
    table(("body", "why it is dead"), *((k, why.get(v)) for k, v in BROKEN.items()))
    fact("good ones read, naive and ours", (len(naive), ours))
    dead_well = all(why.get(body, "")[:10] == "BadMessage" for body in BROKEN.values())
    done = dead_well and (len(naive), ours) == (0, 3)
    check("each bad body is dead with its reason, each good one done", done, True)
    back = [Message.from_json(one.to_json()) for one in good]
    check("a good one comes back equal from JSON", back == good, True)
    pair = Message(payload={"pair": (1, 2)})
    check("what JSON would change is refused", raises(BadMessage, pair.to_json), True)


# %% 2. Routing: who gets what, and what happens to the rest


def brute_force(pattern: str, key: str, some: str = "*") -> bool:
    """Match by trying numbers of words for a #: "*" means 0 or more, "+" 1 or more."""
    rules = {"*": r"\.\w+", "#": rf"(\.\w+){some}"}
    rule = "".join(rules.get(part, rf"\.{part}") for part in pattern.split("."))
    return re.fullmatch(rule, f".{key}" * bool(key)) is not None


def truth_table(env: Env, patterns: list[str], keys: list[str]) -> set[tuple[str, str]]:
    """Return the pairs (pattern, key) that the broker's topic exchange lets through."""
    exchange, through = env.rabbit.name("notifications"), set()
    with env.rabbit.channel() as channel:
        channel.confirm_delivery()
        queues = {}
        for pattern in patterns:
            queues[pattern] = channel.queue_declare("", exclusive=True).method.queue
            channel.queue_bind(queues[pattern], exchange, pattern)
        for key in keys:
            channel.basic_publish(exchange, key, b"")
        for pattern, queue in queues.items():
            through |= {(pattern, m.routing_key) for m, *_ in taken(channel, queue)}
            channel.queue_delete(queue)
    return through


@lesson.demo
def routing(env: Env) -> None:
    """Routing: the broker follows the truth table, and what fits nowhere is an error"""
    sizes = range(1, 4)
    patterns = [".".join(p) for n in sizes for p in itertools.product("a*#", repeat=n)]
    patterns.remove("#.#.#")  # the newest brokers take two # at most
    keys = [".".join(k) for n in range(4) for k in itertools.product("ab", repeat=n)]
    through = truth_table(env, patterns, keys)
    pairs = list(itertools.product(patterns, keys))
    wrong = [
        sum(brute_force(*pair, some) != (pair in through) for pair in pairs)
        for some in "+*"
    ]
    fact("pairs of pattern and key", len(pairs))
    fact("broker differs, if # is 1+, 0+", wrong)
    check("# is zero or more words, * is one", wrong[0] > 0 and wrong[1] == 0, True)
    with env.rabbit.channel() as channel, Producer(env.rabbit) as producer:
        channel.confirm_delivery()
        # Trap: a broker confirms what it drops; only the mandatory flag tells.
        channel.basic_publish(env.rabbit.name("notifications"), "notification.fax", b"")
        fact("to nobody, confirmed", "no error, and no message")
        fax = partial(producer.publish_notification, "+380", "hello", "text", "fax")
        check(
            "mandatory: what no queue takes is an error", raises(Unroutable, fax), True
        )
        producer.publish_notification("+380", "hello", "text", "sms.urgent")
        producer.publish_analytics_event("visit", "u1", {"page": "/"})
        producer.publish_user_data_event("ada", "ada@example.org", "2026-01-05")
    got = {queue: len(emptied(env.rabbit, env.rabbit.name(queue))) for queue in WORK}
    fact("direct, topic, fanout", got)
    check(
        "each queue has what is bound to it", list(got.values()) == [1, 1, 1, 1], True
    )


# %% 3. Publishing: what a lost connection loses, and what a confirm costs


@lesson.demo
def publishing(env: Env) -> None:
    """Publishing: without a confirm, no error means nothing"""
    arrived = {}
    with env.stage("publishing") as (queue, _, _), env.wire() as (wire, far):
        with far.channel() as channel:
            wire.freeze()
            # Trap: no error says that the kernel has the bytes, and nothing else.
            for message in users(200):
                channel.basic_publish("", queue, message.to_json().encode())
            wire.cut()
        arrived["no confirms"] = (len(emptied(env.rabbit, queue)),) * 2
        for lost, way, there in (("publishes", "up", 1), ("confirms", "down", 201)):
            with Producer(far) as producer:
                publish(producer, queue, users(1))
                wire.freeze(way)
                lot = [addressed(one, "", queue) for one in users(200)]
                batch = [producer.send(*one) for one in lot]
                env.until(lambda: env.rabbit.ready(queue) == there)  # noqa: B023
                env.until(lambda: len(producer.sent) == 200)
                wire.cut()
                producer.wait(*batch)
            got = [about.message_id for about, _ in emptied(env.rabbit, queue)][1:]
            arrived[f"confirms; {lost} cut off"] = (len(got), len(set(got)))
    table(("200 publishes", "arrived", "ids"), *((k, *v) for k, v in arrived.items()))
    none, up, down = arrived.values()
    check(
        "unconfirmed is sent again: 200, not 0",
        (none, up) == ((0, 0), (200, 200)),
        True,
    )
    check("a lost confirm duplicates, with the same ids", down == (400, 200), True)


@lesson.demo
def windows(env: Env) -> None:
    """Publishing: a confirm costs a round trip, a window of them hardly more"""
    lot, trips = users(10), []
    with (
        env.stage("windows") as (queue, _, _),
        env.wire() as (wire, far),
        Producer(far) as producer,
    ):
        publish(producer, queue, users(1))
        wire.delay = 0.005  # seconds, each way
        for batches in ([[one] for one in lot], [lot]):
            before, start = wire.round_trips, time.perf_counter()
            for batch in batches:
                publish(producer, queue, batch)
            took = time.perf_counter() - start
            trips.append(wire.round_trips - before)
            note(f"10 messages, 10 ms away, {len(batches)} waits: {took:.2f} s")
    fact("round trips one by one", trips[0])
    check(
        "a window takes under a third of the round trips", trips[0] > 3 * trips[1], True
    )


def publish_naively(rabbit: RabbitMQConnection, queue: str) -> None:
    """Publish with confirms, a message at a time, until the connection is lost."""
    with suppress(exceptions.AMQPError), rabbit.channel() as channel:
        channel.confirm_delivery()
        while True:
            channel.basic_publish("", queue, b"")


@lesson.demo
def deadlines(env: Env) -> None:
    """Publishing: a deadline ends the wait for a broker that takes nothing"""
    reason, (message,) = "", users(1)
    with (
        env.stage("deadlines") as (queue, _, _),
        env.wire() as (wire, far),
        Producer(far) as ours,
    ):
        naive = in_background(partial(publish_naively, far, queue))
        publish(ours, queue, users(1))
        env.until(lambda: env.rabbit.ready(queue) > 1)
        block(wire, "low on memory")
        env.until(lambda: ours.blocked)
        ours.deadline = 0.1
        try:
            publish(ours, queue, [message])
        except PublishFailed as error:
            reason = str(error)
        fact("blocked: pika", "gave up" if naive.done() else "waits on")
        fact("blocked: ours", reason)
        saw = not naive.done() and "low on memory" in reason
        check("the deadline ends the wait and says why", saw, True)
        wire.cut()
        naive.result(DEADLINE)
        ours.deadline = DEADLINE
        publish(ours, queue, [message])
        ids = [about.message_id for about, _ in emptied(env.rabbit, queue)]
        check("sent again with the same id, it is there", message.id in ids, True)


# %% 4. Consuming: the thread that talks to the broker does nothing else


def beat(connection: Any, beats: list[float]) -> None:
    """Note, every 10 ms, that the connection is looked after."""
    beats.append(time.monotonic())
    connection.call_later(0.01, partial(beat, connection, beats))


@lesson.demo
def consuming(env: Env) -> None:
    """Consuming: work keeps no heartbeat waiting, prefetch no round trip"""
    beats, served, trips = list[float](), list[bool](), {}

    def slow(_: object) -> None:
        before = len(beats)
        time.sleep(0.15)
        served.append(len(beats) > before)

    with env.stage("consuming") as (queue, producer, _), env.wire() as (wire, far):
        publish(producer, queue, users(1))
        with env.rabbit.channel() as channel:
            beat(channel.connection, beats)
            channel.connection.process_data_events(0.05)
            method, _, body = channel.basic_get(queue)
            # Trap: this thread answers the heartbeats, so it must not do the work.
            slow(body)
            channel.basic_ack(method.delivery_tag)
        ours = FunctionConsumer(slow, env.rabbit, queue, producer)
        with running(ours):
            ours.on_io(lambda: beat(ours.connection, beats))
            publish(producer, queue, users(1))
            env.until(lambda: ours.counts["acked"])
        fact("heard meanwhile, inline and ours", served)
        check(
            "on a pool, heartbeats are answered meanwhile",
            served == [False, True],
            True,
        )
        for prefetch in (1, 300):
            fast = FunctionConsumer(str, far, queue, producer, prefetch=prefetch)
            with running(fast):
                wire.delay, before = 0.005, wire.round_trips
                start = time.perf_counter()
                publish(producer, queue, users(15))
                env.until(lambda: fast.counts["acked"] == 15)  # noqa: B023
                took = time.perf_counter() - start
                trips[prefetch] = wire.round_trips - before
                wire.delay = 0
            note(f"15 messages, 10 ms away, prefetch {prefetch}: {took:.2f} s")
        check("prefetch 1 waits for each round trip", trips[1] > 3 * trips[300], True)


@lesson.demo
def threads(env: Env) -> None:
    """Consuming: a channel belongs to one thread, our producer to all"""
    start = threading.Barrier(8)

    def rush(send: Callable[[Message], object], limit: float = DEADLINE) -> None:
        def run() -> None:
            start.wait(DEADLINE)
            for message in users(50):
                send(message)

        usual = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)  # seconds; so that the threads do meet
        futures.wait([in_background(run) for _ in range(8)], limit)
        sys.setswitchinterval(usual)

    with env.stage("threads") as (queue, producer, _):
        shared, tries = 400, 0
        while shared == 400 and tries < 20:  # by luck it goes well
            with env.rabbit.channel() as channel:
                # Trap: pika stumbles, or waits without an end, or does neither.
                rush(lambda _: channel.basic_publish("", queue, b"0" * 300), 0.5)
            shared, tries = len(emptied(env.rabbit, queue)), tries + 1
        rush(lambda message: publish(producer, queue, [message]))
        ours = len(emptied(env.rabbit, queue))
    fact("one channel, 8 threads x 50", "fewer than 400" if shared < 400 else shared)
    fact("our producer", ours)
    check("only the producer delivers all 400", shared < 400 and ours == 400, True)


@lesson.demo
def surviving(env: Env) -> None:
    """Surviving: five lost connections and a deleted queue"""
    five = {f"user{n}" for n in (3, 6, 9, 12, 15)}
    naive, done = list[str](), list[str]()
    with env.stage("surviving") as (queue, producer, _), env.wire() as (wire, far):
        publish(producer, queue, users(20))
        work = noting(naive, five, wire.cut)
        raises(exceptions.AMQPError, partial(consume_inline, far, queue, work))
        env.until(lambda: env.rabbit.ready(queue) == 17)
        emptied(env.rabbit, queue)
        publish(producer, queue, users(20))
        work = noting(done, five, wire.cut)
        ours = FunctionConsumer(work, far, queue, producer, prefetch=1)
        with running(ours):
            env.until(lambda: len({*done}) == 20)
            env.until(lambda: not env.rabbit.ready(queue))
            back = ours.counts["reconnects"]
            fact("cut at 5 of 20: the naive loop", f"dead after {len(naive)}")
            fact("cut at 5 of 20: ours", f"all done, reconnected {back} times")
            check("ours comes back each time", (len(naive), back) == (4, 5), True)
            with env.rabbit.channel() as channel:
                channel.queue_delete(queue)
            with suppress(TimeoutError):
                env.until(lambda: ours.counts["reconnects"] > back, limit=15)
                env.until(ours.ready.is_set, limit=15)
            again = partial(publish, producer, queue, users(1))
            alive = ours.ready.is_set() and not raises(PublishFailed, again)
            check("a cancelled consumer declares its queue again", alive, True)


@lesson.demo
def stopping(env: Env) -> None:
    """Surviving: a stop in the middle finishes what has begun"""
    rounds = []
    for drain in (0.0, DEADLINE):
        done: list[str] = []
        with env.stage("stopping") as (queue, producer, _):
            publish(producer, queue, users(20))
            first = FunctionConsumer(str, env.rabbit, queue, producer, drain=drain)

            def halt() -> None:
                first.stop()  # noqa: B023 (called within its round)
                gone = lambda: not first.ready.is_set()  # noqa: B023, E731
                with suppress(TimeoutError):  # drained, the session outlasts the work
                    env.until(gone, limit=0.1 if drain else DEADLINE)  # noqa: B023

            first.work = noting(done, {"user8"}, halt)
            first.start_consuming()
            begun = len(done)
            work = noting(done)
            with running(FunctionConsumer(work, env.rabbit, queue, producer)):
                env.until(lambda: len({*done}) == 20)  # noqa: B023
                env.until(lambda: not env.rabbit.ready(queue))
        rounds.append((begun < 20, len(done) - 20))
    (cut, naive), (drained, ours) = rounds
    fact("done twice, stopped at once", f"{naive} of 20")
    fact("done twice, after draining", f"{ours} of 20")
    halves = cut and drained  # both were stopped in the middle
    check("drained, nothing is done twice", halves and naive > 0 and ours == 0, True)


# %% 5. Retrying: exponential backoff in the broker, not in a sleeping worker
WAITS = (8, 1, 2, 4)  # in base delays, the longest first


def arrivals(
    env: Env, channel: Any, queue: str, send: Callable[[int], Pending]
) -> list[float]:
    """Send one message for each wait; return when they come, in base delays."""
    start, came = env.clock(), list[float]()
    for wait in WAITS:
        send(int(log2(wait)))

    def poll() -> bool:
        now = (env.clock() - start) / env.rabbit.base
        came.extend(now for _ in taken(channel, queue))
        return len(came) >= len(WAITS)

    env.until(poll)
    return came


def lateness(env: Env, came: Iterable[float]) -> float:
    """Return by how many seconds the latest of the four arrivals is late."""
    pairs = zip(came, sorted(WAITS), strict=True)
    return max(abs(at - due) for at, due in pairs) * env.rabbit.base


def doubling(waits: Iterable[float]) -> list[int]:
    """Return the last power of two that each has reached: a busy machine is late."""
    return [2 ** floor(log2(wait * 1.1)) for wait in waits]


@lesson.demo
def waiting(env: Env) -> None:
    """Retrying: one wait queue per delay, or all wait for the longest"""
    with env.stage("waiting") as (queue, producer, _), env.rabbit.channel() as channel:
        back = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue}
        shared = channel.queue_declare("", exclusive=True, arguments=back).method.queue

        def in_one(attempt: int) -> Pending:
            # Trap: only the head of a queue expires; the short waits are behind it.
            expires = str(env.rabbit.delay_ms(attempt))
            about = pika.BasicProperties(expiration=expires)
            return producer.send("", shared, b"", about)

        def in_its_own(attempt: int) -> Pending:
            wait = env.rabbit.wait_queue(attempt)
            return producer.send(wait, queue, b"", pika.BasicProperties())

        # The best of three: what a busy machine delays, one try shows on time.
        naive, ours = (
            min(
                (arrivals(env, channel, queue, send) for _ in range(3)),
                key=partial(lateness, env),
            )
            for send in (in_one, in_its_own)
        )
    table(
        ("waits of 8, 1, 2, 4 x base", "came after"),
        ("in one queue", doubling(naive)),
        ("in one queue per delay", doubling(ours)),
    )
    late = lateness(env, ours)
    note(f"with a queue per delay, late by at most {1000 * late:.0f} ms")
    right = late <= 0.1 < lateness(env, naive)
    check(
        "a queue per delay is within 100 ms, one queue waits for its head", right, True
    )


@lesson.demo
def retrying(env: Env) -> None:
    """Retrying: five more attempts, then the dead letters, with the reason"""
    tried: dict[str, list[float]] = {f"user{n}": [] for n in range(4)}

    def work(message: Message) -> str:
        tried[name := name_of(message)].append(env.clock())
        if name == "user3":
            raise PermanentError("no such account")
        if name == "user1" or (name == "user2" and message.retry_count < 2):
            raise ConnectionError("no answer")
        return name

    with env.stage("retrying") as (queue, producer, ledger):
        publish(producer, queue, users(4))
        with running(FunctionConsumer(work, env.rabbit, queue, producer, ledger)):
            env.until(lambda: env.rabbit.ready(queue + ".dead") == 2)
            env.until(lambda: len(ledger.effects(queue)) == 2)
        attempts = {name: len(times) for name, times in tried.items()}
        gaps = [b - a for a, b in itertools.pairwise(tried["user1"])]
        waits = doubling(gap / env.rabbit.base for gap in gaps)
        fact("attempts", attempts)
        fact("user1 waited, x base", waits)
        check("attempts back off exponentially", waits == [1, 2, 4, 8, 16], True)
        once = list(attempts.values()) == [1, 6, 3, 1]
        check("a passing error is retried, a permanent one not", once, True)
        with env.rabbit.channel() as channel:
            found = taken(channel, queue + ".dead", auto_ack=False)
            headers = [properties.headers for _, properties, _ in found]
        dead = sorted((h["x-error"], h["x-retry-count"]) for h in headers)
        table(("error of a dead letter", "retries"), *dead)
        check(
            "dead letters say why and how often", [n for _, n in dead] == [5, 0], True
        )
        moved = redrive(env.rabbit, queue, producer)
        check(
            "redrive puts both back", (moved, env.rabbit.ready(queue)) == (2, 2), True
        )


class Freezing(Producer):
    """Stops the consumer's network as soon as its copy is confirmed."""

    wire: FaultyNetwork

    def publish(self, *args: Any) -> None:
        """Publish, wait for the confirm, freeze."""
        super().publish(*args)
        self.wire.freeze()


@lesson.demo
def crashing(env: Env) -> None:
    """Retrying: the copy is confirmed before the original is acknowledged"""
    wait = env.rabbit.wait_queue(0)

    def fail(_: Message) -> None:
        raise ConnectionError("no answer")

    with (
        env.stage("crashing") as (queue, other, _),
        Freezing(env.rabbit) as producer,
        env.wire() as (producer.wire, far),
    ):
        publish(other, queue, users(1))
        with env.rabbit.channel() as channel:
            channel.basic_ack(channel.basic_get(queue)[0].delivery_tag)
            # And here it crashes: the copy is never published.
        naive = env.rabbit.ready(queue, wait)
        publish(other, queue, users(1))
        with running(crashed := FunctionConsumer(fail, far, queue, producer)):
            env.until(lambda: crashed.counts["retried"])
            crashed.stop()
            producer.wire.cut()
        with suppress(TimeoutError):
            env.until(lambda: env.rabbit.ready(queue, wait) == 2, limit=15)
        ours = env.rabbit.ready(queue, wait)
        emptied(env.rabbit, wait)
    fact("crash after ack, crash after copy", (naive, ours))
    check("the one order loses, ours keeps both", (naive, ours) == (0, 2), True)


# %% 6. Idempotency: delivered three times, done once


@lesson.demo
def idempotency(env: Env) -> None:
    """Idempotency: delivered three times, done once"""
    with env.stage("idempotency") as (queue, producer, ledger):
        naive = FunctionConsumer(name_of, env.rabbit, queue, producer)
        ours = FunctionConsumer(name_of, env.rabbit, queue, producer, ledger)
        for consumer in (naive, ours):
            publish(producer, queue, users(20) * 3)
            env.consume(consumer, 60)
        effects = (naive.counts["processed"], len(ledger.effects(queue)))
    fact("60 deliveries, without an inbox", f"{effects[0]} effects")
    fact("with one", f"{effects[1]} effects")
    check("the inbox makes it 20, not 60", effects == (60, 20), True)


class Crash(Exception):
    """The process ends here, as far as the demo is concerned."""


class CrashingLedger(Ledger):
    """Crashes at every transaction, in turn just before and just after its commit."""

    crashes = 0

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit every second time, and always crash."""
        self.crashes += 1
        with super().transaction() as db:
            yield db
            if self.crashes % 2:
                raise Crash
        raise Crash


@lesson.demo
def outbox(env: Env) -> None:
    """Idempotency: a row and its message, both or none, through 200 crashes"""
    queue, wrong = env.rabbit.name("user_data"), {}
    about = ("a@example.org", "2026-01-05")

    def store(line: UserDataPipeline, name: str) -> None:
        with line.ledger.transaction() as db:
            db.execute("INSERT INTO effects VALUES ('accounts', '', ?)", (name,))

    # Trap: no order of commit and publish is safe, as a crash fits in between.
    def commit_first(line: UserDataPipeline, name: str) -> None:
        store(line, f"signup {name}")
        line.producer.publish_user_data_event(name, *about)

    def publish_first(line: UserDataPipeline, name: str) -> None:
        line.producer.publish_user_data_event(name, *about)
        store(line, f"signup {name}")

    def with_outbox(line: UserDataPipeline, name: str) -> None:
        line.process_user_signup(name, about[0])

    for sign_up in (commit_first, publish_first, with_outbox):
        with Producer(env.rabbit) as producer, CrashingLedger() as ledger:
            line = UserDataPipeline(producer, ledger)
            for n in range(200):  # half of them between commit and publish
                outcome_of(partial(sign_up, line, f"user{n}"))
            crashes = ledger.crashes
            for _ in range(2):  # the relay crashes too, before it forgets and after
                raises(Crash, line.relay)
            stored = {what.split()[1] for what in ledger.effects("accounts")}
        bodies = [body for _, body in emptied(env.rabbit, queue)]
        told = {name_of(Message.from_json(body)) for body in bodies}
        wrong[sign_up.__name__] = (crashes, len(stored - told), len(told - stored))
    table(("way", "crashes", "lost", "phantoms"), *((k, *v) for k, v in wrong.items()))
    expected = [(200, 100, 0), (200, 0, 100), (200, 0, 0)]
    check(
        "an outbox loses none and invents none", list(wrong.values()) == expected, True
    )
    for other in WORK:
        emptied(env.rabbit, env.rabbit.name(other))


# %% 7. Priorities: only what has not been fetched can be overtaken


def overtaken(
    env: Env, queue: str, producer: Producer, priority: int, prefetch: int
) -> int:
    """Return how many of ten waiting messages come before a later one."""
    *low, late = users(11)
    order: list[str] = []

    def send_late() -> None:
        env.until(lambda: env.rabbit.ready(queue) == 10 - prefetch)
        producer.publish(*addressed(late, "", queue, priority=priority))

    for message in low:
        producer.publish(*addressed(message, "", queue, priority=0))
    # Trap: where tutorials set no prefetch it is unlimited, and priorities do nothing.
    work = noting(order, {"user0"}, send_late)
    consume_inline(env.rabbit, queue, work, count=11, prefetch=prefetch)
    return order.index("user10")


@lesson.demo
def priorities(env: Env) -> None:
    """Priorities: what is fetched already cannot be overtaken"""
    queue = env.queue("priorities", priorities=5)
    runs = ((0, 1), (5, 1), (5, 10))
    with Producer(env.rabbit) as producer:
        rows = [(*run, overtaken(env, queue, producer, *run)) for run in runs]
    table(("priority", "prefetch", "come before it"), *rows)
    check(
        "it overtakes what is not fetched yet",
        [n for *_, n in rows] == [10, 1, 10],
        True,
    )


# %% 8. The pipeline: signups and purchases that add up


class Greylisted(NotificationConsumer):
    """A mail server that takes nothing at the first attempt."""

    def handle(self, message: Message) -> str:
        """Fail once."""
        if message.retry_count == 0:
            raise ConnectionError("try again later")
        return super().handle(message)


def account(rabbit: RabbitMQConnection, ledger: Ledger) -> tuple[int, int, int]:
    """Return how many messages are acknowledged, dead, in flight."""
    work = [rabbit.name(queue) for queue in WORK]
    waits = [rabbit.wait_queue(attempt) for attempt in range(MAX_RETRIES)]
    ((acked,),) = ledger.read("SELECT count(*) FROM inbox")
    dead = rabbit.ready(*(queue + ".dead" for queue in work))
    return acked, dead, rabbit.ready(*work, *waits)


def accounted(env: Env, ledger: Ledger, published: int) -> int:
    """Count until it adds up: what comes back from a wait meanwhile is missed."""
    counts: deque[int] = deque(maxlen=1)

    def adds_up() -> bool:
        counts.append(sum(account(env.rabbit, ledger)))
        return counts[0] == published

    with suppress(TimeoutError):
        env.until(adds_up, limit=5)
    return counts[0]


def feed(line: UserDataPipeline) -> int:
    """Take 20 signups and purchases; return how many messages that makes."""
    for n in range(20):
        email = f"user{n}@example.org" if n % 5 else "nonsense"
        line.process_user_signup(f"user{n}", email)
        line.process_user_purchase(f"user{n}", email, 9.5 + n)
    line.relay()
    return 20 * (1 + 1 + 2) + 20 * (1 + 2)  # an event goes to two queues


@lesson.demo
def pipeline(env: Env) -> None:
    """Pipeline: published = acknowledged + dead + in flight, at every checkpoint"""
    rabbit, user_data = env.rabbit, env.rabbit.name("user_data")
    kinds: list[Any] = [UserDataConsumer, Greylisted] + 2 * [AnalyticsConsumer]
    with Producer(rabbit) as producer, Ledger() as ledger:
        published = feed(UserDataPipeline(producer, ledger))
        rows = [("published", published, sum(account(rabbit, ledger)))]
        for goal, when in ((published // 3, "a third done"), (published, "all done")):
            with ExitStack() as stack:
                crew: list[Any] = [
                    stack.enter_context(running(kind(rabbit, name, producer, ledger)))
                    for kind, name in zip(kinds, map(rabbit.name, WORK), strict=True)
                ]
                env.until(lambda: sum(account(rabbit, ledger)[:2]) >= goal, 15)  # noqa: B023
            rows.append((when, published, accounted(env, ledger, published)))
        end, totals = account(rabbit, ledger), crew[2].totals()
        publish(producer, user_data, batch := [*users(3), Message()])
        # Trap: auto_ack means done when sent; the one that fails is in no count.
        emails = [
            Message.from_json(body).payload for _, body in emptied(rabbit, user_data)
        ]
        naive = sum("email" in payload for payload in emails)
    rows.append(("naive: acknowledged on arrival", len(batch), naive))
    table(("checkpoint", "published", "accounted for"), *rows)
    fact("acknowledged, dead, in flight", end)
    fact("analytics", dict(sorted(totals.items())))
    adds_up = [wanted == found for _, wanted, found in rows]
    check("it adds up at every checkpoint", adds_up == [True, True, True, False], True)
    check("the four bad addresses are dead letters", end == (136, 4, 0), True)


# %% 9. The broker: which rules apply, what it refuses, how it buries
RULES = (  # what, since when (the last by 4.3.6), before it and after
    ("delivery limit of a quorum queue", "4.0", "none unless given", "20 unless given"),
    ("x-death of a message sent again", "4.0", "goes on counting", "begins at 1"),
    ("a body of over 16 MiB", "4.0", "taken", "refused"),
    ("priorities on a quorum queue", "4.0", "ignored", "obeyed"),
    ("nack towards the delivery limit", "4.3", "counts", "does not count"),
    ("a dead letter as redelivered", "4.3", "no", "yes"),
    ("a transient named queue", "4.3", "taken", "refused"),
    ("a global prefetch", "4.3", "for the channel", "for each consumer"),
    ("a topic's pattern of three #", "4.3", "taken", "refused"),
)


def version_of(text: str) -> tuple[int, ...]:
    """Return the numbers of a version such as 3.10.8."""
    return tuple(int(number) for number in re.findall(r"\d+", text)[:2])


def answer(rabbit: RabbitMQConnection, queue: str, options: Flags) -> tuple[int, str]:
    """Return the code and the words with which a declaration is answered."""
    with rabbit.channel() as channel:
        try:
            channel.queue_declare(queue, durable=True, **options)
        except exceptions.ChannelClosedByBroker as refusal:
            what = re.sub(r".* - | (for queue )?'module8.*", "", refusal.reply_text)
            return refusal.reply_code, what
    return 200, "declared again: nothing changes"


@lesson.demo
def refusing(env: Env) -> None:
    """Broker: what it refuses, and what a dead letter tells"""
    here = version_of(env.version)
    rules = [
        (what, n, old if here < version_of(n) else new) for what, n, old, new in RULES
    ]
    table(("what changed", "in", f"here, {here[0]}.{here[1]}"), *rules)
    archive = env.rabbit.name("archive")
    # Trap: a declaration never changes a queue; other arguments need another name.
    same = next(item.options for item in env.rabbit.plan if item.name == archive)
    asks: Any = ((archive, same), (archive, {}), (archive + ".no", {"passive": True}))
    answers = [answer(env.rabbit, *ask) for ask in asks]
    table(("code", "answer"), *answers)
    codes = [code for code, _ in answers] == [200, 406, 404]
    check(
        "a different declaration is refused by name",
        codes and "x-" in answers[1][1],
        True,
    )
    with env.stage("burying") as (queue, producer, _), env.rabbit.channel() as channel:
        producer.publish(env.rabbit.wait_queue(0), queue, b"", pika.BasicProperties())
        env.until(lambda: env.rabbit.ready(queue))
        channel.basic_reject(channel.basic_get(queue)[0].delivery_tag, requeue=False)
        env.until(lambda: env.rabbit.ready(queue + ".dead"))
        ((about, _),) = emptied(env.rabbit, queue + ".dead")
    deaths = [(d["reason"], d["count"]) for d in about.headers["x-death"]]
    table(("x-death", "count"), *deaths)
    check(
        "the last death comes first", deaths == [("rejected", 1), ("expired", 1)], True
    )


# %% The command line
PARTS = Parts(
    RabbitMQConnection,
    Producer,
    Ledger,
    {
        "user_data": UserDataConsumer,
        "notifications": NotificationConsumer,
        "analytics": AnalyticsConsumer,
        "archive": AnalyticsConsumer,
    },
    user,
    addressed,
    redrive,
)


def run(args: argparse.Namespace) -> int:
    """Teach or work, as the options say; return the exit code."""
    return run_process(args, PARTS) if mode_of(args) else lesson.teach(args)


def main(argv: list[str] | None = None) -> int:
    """Teach or work, as the command line says; return the exit code."""
    parser = lesson.parser()
    add_process_options(parser, ", ".join(WORK))
    return lesson.main(argv, parser, run)


lesson.finish(__name__, main)
