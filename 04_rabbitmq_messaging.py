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
Runtime: 5 s without RabbitMQ, 20 s with it.
Guide:   COMPREHENSIVE_GUIDE.md, chapter 4
"""

# /// script
# requires-python = ">=3.11"
# dependencies = ["pika>=1.4,<2", "python-dotenv>=1.2.2,<2", "rich>=13.7,<16"]
# ///

from __future__ import annotations

import argparse
import asyncio
import copy
import heapq
import itertools
import json
import logging
import os
import random
import re
import signal
import sqlite3
import ssl
import sys
import threading
import time
import traceback
import uuid
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from functools import partial
from math import floor, inf, log2
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NoReturn, Self, TypeVar

import pika
from dotenv import dotenv_values
from pika import exceptions, frame, spec
from pika.adapters.select_connection import IOLoop
from rich.console import Console
from rich.progress import track
from rich.text import Text

# region harness
# The same bytes in all five scripts (a test compares them): each file runs alone.
DEMOS: dict[str, Callable[[Env], None]] = {}
TALLY: Counter[str] = Counter()


class Skip(Exception):
    """Raised by a demo whose point this back end cannot show; says why."""


class BadInput(Exception):
    """Raised for what the user has to mend: one line on stderr, exit code 2."""


class Parser(argparse.ArgumentParser):
    """Parses the options that all lessons share; a complaint is one line."""

    def __init__(self) -> None:
        super().__init__(description=(__doc__ or "").split("\n\n")[0])
        mode = self.add_mutually_exclusive_group()
        self.add_argument("--list", action="store_true", help="list the demos and exit")
        self.add_argument("--only", nargs="+", metavar="NAME", help="run these demos")
        mode.add_argument("--offline", action="store_true", help="take the stand-in")
        mode.add_argument(
            "--require-live", action="store_true", help="exit 3 if absent"
        )
        self.add_argument("--url", help="the service, instead of the variable's")
        self.add_argument("--verbose", action="store_true", help="logs and tracebacks")

    def error(self, message: str) -> NoReturn:
        """Complain in one line, unlike argparse with its usage text."""
        raise BadInput(message)


def demo(fn: Callable[[Env], None]) -> Callable[[Env], None]:
    """Register a demo; the first line of its docstring is the printed title."""
    DEMOS[fn.__name__] = fn
    return fn


def redact(text: object) -> str:
    """Hide the password of every URL in the text."""
    return re.sub(r"(://[^:/\s]*:)\S*@|(password=)[^&\s]+", r"\1\2***@", str(text))


def setting(name: str, default: str = "") -> str:
    """Return a variable of the environment, else of .env beside this file."""
    dotenv = dotenv_values(Path(__file__).with_name(".env"))
    return os.environ.get(name, dotenv.get(name)) or default


def say(line: str = "", style: str = "") -> None:
    """Print a line: in colour on a terminal, plain when piped."""
    if sys.stdout.isatty():
        Console(highlight=False).print(Text(line, style), soft_wrap=True)
    else:
        print(line)


def show(name: str, value: object) -> None:
    """Print one aligned fact, the same in every run."""
    say(f"  {name:<34} {value}")


def table(header: Sequence[str], *rows: Sequence[object]) -> None:
    """Print rows under their header, columns of numbers to the right."""
    columns = list(zip(header, *rows, strict=True))
    width = [max(len(str(cell)) for cell in column) for column in columns]
    right = [all(isinstance(cell, int | float) for cell in c[1:]) for c in columns]
    for row in (header, *rows):
        cells = zip(row, width, right, strict=True)
        line = "".join(f"  {cell!s:{'>' if r else '<'}{w}}" for cell, w, r in cells)
        say(line.rstrip(), "bold" if row is header else "")


def aside(text: str) -> None:
    """Print what differs from run to run, such as a time, on stderr."""
    print(f"  ~ {text}", file=sys.stderr, flush=True)


def check(claim: str, holds: bool) -> None:
    """Print the claim if it holds, else fail the demo (-O would drop an assert)."""
    if not holds:
        raise AssertionError(claim)
    TALLY["ok"] += 1
    say(f"  [ok] {claim}", "green")


def run_demo(env: Env, run: Callable[[Env], None]) -> None:
    """Run one demo; a false claim or a broken demo is counted, not raised."""
    try:
        run(env)
    except BadInput:
        raise
    except Skip as reason:
        TALLY["skipped"] += 1
        say(f"  [skip] {reason}", "yellow")
    except Exception as error:
        TALLY["failed"] += 1
        kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
        say(f"  [FAIL] {kind}{redact(error)}", "bold red")
        logging.debug("%s", redact(traceback.format_exc()))


def teach(args: argparse.Namespace) -> int:
    """Run the chosen demos on the back end that answers; return the exit code."""
    if unknown := set(args.only or ()) - set(DEMOS):
        raise BadInput(
            f"--only: no demo {min(unknown)!r}; there are {', '.join(DEMOS)}"
        )
    titles = {
        name: (run.__doc__ or name).splitlines()[0] for name, run in DEMOS.items()
    }
    if args.list:
        table(("demo", "what it shows"), *titles.items())
        return 0
    TALLY.clear()
    with open_env(args) as env:
        say(f"backend: {env.backend}")
        if args.require_live and not env.live:
            return 3
        for number, (name, run) in enumerate(DEMOS.items(), 1):
            if name in (args.only or DEMOS):
                say(f"\n{number}. {titles[name]}", "bold")
                run_demo(env, run)
    say(
        "\n"
        + ", ".join(f"{TALLY[kind]} {kind}" for kind in ("ok", "skipped", "failed"))
    )
    return 1 if TALLY["failed"] else 0


def command(
    parser: Parser, argv: list[str] | None, run: Callable[[argparse.Namespace], int]
) -> int:
    """Run what the command line asks for; return the exit code."""
    try:
        args = parser.parse_args(argv)
        level = logging.DEBUG if args.verbose else logging.CRITICAL
        logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
        return run(args)
    except BadInput as problem:
        print(f"{parser.prog}: {redact(problem)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


# endregion harness

# Knobs
VERSION = 1  # of the envelope; a consumer refuses one that it does not know
MAX_BODY = 256 * 1024  # bytes; RabbitMQ 4 takes 16 MiB, memory and fairness less
MAX_RETRIES = 5  # waits of 1, 2, 4, 8, 16 x the base: 31 s with a base of one
DEADLINE = 5.0  # seconds a publish may stay unconfirmed; pika alone waits 130
DELIVERY_LIMIT = 20  # redeliveries until a quorum queue buries a message itself
DEFAULT_URL = "amqp://guest:guest@127.0.0.1:5672/%2F"
PERSISTENT = 2
T = TypeVar("T")
Flags = dict[str, Any]  # the options and arguments of a queue or exchange
Planned = tuple[str, str, Flags]  # "queue" or "exchange", its name

# %% Vocabulary: what goes wrong, and whether it is worth another try


class PermanentError(Exception):
    """Fails the same way every time: no retry, straight to the dead letters."""


class BadMessage(PermanentError):
    """The body or a header is not what the version promises."""


class PublishFailed(Exception):
    """Not confirmed: the message may or may not have arrived; send the id again."""


class Unroutable(PublishFailed):
    """The exchange had no queue for it: the broker gave it back."""


# %% Messages: validated where they are made and where they are read

KINDS = {"str": str, "int": int, "dict[str, Any]": dict}


def utc_now() -> str:
    """Return the time in ISO 8601, in UTC."""
    return datetime.now(UTC).isoformat()


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")  # NaN, Infinity: json takes them


@dataclass(kw_only=True)
class Message:
    """The envelope. A subclass names the fields that its payload consists of.

    Raises:
        BadMessage: a field has the wrong type or range.
    """

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
        for item in fields(self):
            # type() rather than isinstance: True is an int.
            if type(getattr(self, item.name)) is not KINDS[str(item.type)]:
                raise BadMessage(f"{item.name} is no {item.type}")
        if not re.fullmatch(r"[!-~]{1,64}", self.id):
            raise BadMessage("id is not 1 to 64 printable characters")
        with suppress(ValueError):
            zone = datetime.fromisoformat(self.timestamp).tzinfo
        if zone is None:
            raise BadMessage("timestamp is no ISO 8601 time with its zone")
        if not 0 <= self.retry_count <= 1000 or not 0 <= self.max_retries <= 1000:
            raise BadMessage("retry_count and max_retries are 0 to 1000")

    @classmethod
    def payload_fields(cls) -> list[str]:
        """Return the names that a subclass adds to the envelope."""
        return [item.name for item in fields(cls)][len(fields(Message)) :]

    def to_json(self) -> str:
        """Return the body; raise BadMessage for what JSON would change silently."""
        names = [item.name for item in fields(Message)]
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
            data = json.loads(body, parse_constant=_no_constant)
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

    type: str = "user_data"
    username: str
    email: str
    registration_date: str


@dataclass(kw_only=True)
class NotificationMessage(Message):
    """Somebody is to be told something."""

    type: str = "notification"
    recipient: str
    subject: str
    content: str


@dataclass(kw_only=True)
class AnalyticsMessage(Message):
    """Something happened that is worth counting."""

    type: str = "analytics"
    event_type: str
    user_id: str
    properties: dict[str, Any] = field(default_factory=dict)


TYPES = (Message, UserDataMessage, NotificationMessage, AnalyticsMessage)
MESSAGES: dict[str, type[Message]] = {kind.type: kind for kind in TYPES}

# %% The stand-in: AMQP 0-9-1 on pika's own codec, and a network that can fail


class Background:
    """An event loop in a thread of its own, listening on a free loopback port."""

    def __enter__(self) -> Self:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.server = self.call(self._listen)
        self.port: int = self.server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self.call(self._shut)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(DEADLINE)
        self.loop.close()

    def call(self, work: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """Run a coroutine function on the loop and return its result."""
        done = asyncio.run_coroutine_threadsafe(work(*args), self.loop)
        return done.result(DEADLINE)

    async def _listen(self) -> asyncio.Server:
        raise NotImplementedError

    async def cut_all(self) -> None:
        """End every connection without a goodbye (on the loop)."""
        raise NotImplementedError

    async def _shut(self) -> None:
        self.server.close()
        await self.cut_all()
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(tasks)
        await asyncio.sleep(0)

    def cut(self) -> None:
        """End every connection without a goodbye; new ones are welcome."""
        self.call(self.cut_all)


class _Refused(Exception):
    """A channel error: its code, and RabbitMQ's words for it."""


def _missing(kind: str, name: str) -> _Refused:
    return _Refused(404, f"NOT_FOUND - no {kind} '{name}' in vhost '/'")


def _words(value: object, other: object) -> str:
    text = value if isinstance(value, str) else str(value).lower()
    kind = "longstr" if isinstance(value, str) else "signedint"
    if value is None or other is not None:
        return "none" if value is None else f"'{text}'"
    return f"the value '{text}' of type '{kind}'"


def _require_same(kind: str, name: str, new: Flags, old: Flags) -> None:
    for arg in sorted(new | old):
        got, was = new.get(arg), old.get(arg)
        if got != was:
            what = f"inequivalent arg '{arg}' for {kind} '{name}' in vhost '/'"
            how = f"received {_words(got, was)} but current is {_words(was, got)}"
            raise _Refused(406, f"PRECONDITION_FAILED - {what}: {how}")


def topic_match(pattern: Sequence[str], words: Sequence[str]) -> bool:
    """Tell whether a topic pattern accepts the words: * is one, # zero or more."""
    if not pattern:
        return not words
    rest = bool(words) and topic_match(pattern[pattern[0] != "#" :], words[1:])
    if pattern[0] == "#":
        return rest or topic_match(pattern[1:], words)
    return rest and pattern[0] in ("*", words[0])


@dataclass(eq=False)
class _Stored:
    place: tuple[int, int]  # minus the priority, then age; kept when requeued
    exchange: str
    key: str
    props: Any
    body: bytes
    due: float  # when it expires, on the broker's clock
    redelivered: bool = False

    def __lt__(self, other: _Stored) -> bool:
        return self.place < other.place


@dataclass(eq=False)
class _Sub:
    session: _Session
    channel: int
    tag: str
    limit: int
    auto_ack: bool
    holds: int = 0


@dataclass(eq=False)
class _Queue:
    name: str
    flags: Flags
    owner: _Session | None
    ready: list[_Stored] = field(default_factory=list)
    unacked: int = 0
    subs: deque[_Sub] = field(default_factory=deque)

    def due(self) -> float:
        return self.ready[0].due if self.ready else inf  # only the head can expire


_InHand = tuple[_Queue, _Stored, _Sub | None]  # no subscription: somebody asked


@dataclass(eq=False)
class _Channel:
    prefetch: int = 0
    tag: int = 0
    confirms: bool = False
    published: int = 0
    owed: int = 0  # confirms; one settles them all
    content: list[Any] = field(default_factory=list)  # a publish, its header, bodies
    unacked: dict[int, _InHand] = field(default_factory=dict)


class Broker(Background):
    """The stand-in: RabbitMQ's contract on a loopback port, without its durability."""

    version = "3.10"

    def __init__(self) -> None:
        self.queues: dict[str, _Queue] = {}
        self.exchanges: dict[str, tuple[Flags, set[tuple[str, str]]]] = {}
        self.exchanges[""] = ({"type": "direct"}, set())  # flags, (queue, key) bound
        self.sessions: set[_Session] = set()
        self.clock = 0.0  # seconds; only advance() and step() move it
        self.started = datetime.now(UTC)
        self.count, self.expiring = itertools.count(1), False

    async def _listen(self) -> asyncio.Server:
        return await self.loop.create_server(lambda: _Session(self), "127.0.0.1", 0)

    async def cut_all(self) -> None:
        """End every connection without a goodbye (on the loop)."""
        for session in list(self.sessions):
            session.transport.abort()

    def disconnect(self) -> None:
        """Close every connection, as `rabbitmqctl close_all_connections` does."""

        async def close() -> None:
            for session in self.sessions:
                session.fail(320, "CONNECTION_FORCED - closed by the operator")

        self.call(close)

    def advance(self, seconds: float) -> None:
        """Move the clock on; what expires on the way does so in its order."""
        self.call(self._until, self.clock + seconds)

    async def _until(self, target: float) -> None:
        while (due := self._next_due()) <= target:
            self.clock = max(self.clock, due)
            self.expire()
        self.clock = target

    def step(self) -> None:
        """Jump to the next expiry if nobody is at work, else let them work."""

        async def jump() -> bool:
            queues, due = self.queues.values(), self._next_due()
            if due == inf or any(q.unacked or (q.ready and q.subs) for q in queues):
                return False
            await self._until(due)
            return True

        if not self.call(jump):
            time.sleep(0.001)

    def _next_due(self) -> float:
        return min((queue.due() for queue in self.queues.values()), default=inf)

    def expire(self) -> None:
        """Bury the heads of queues whose time has come."""
        if self.expiring:
            return  # a burial routes, which dispatches, which comes back here
        self.expiring = True
        try:
            while due := [q for q in self.queues.values() if q.due() <= self.clock]:
                self.bury(due[0], heapq.heappop(due[0].ready), "expired")
        finally:
            self.expiring = False

    def route(self, exchange: str, key: str, props: Any, body: bytes) -> int:
        """Put a copy into each queue that the key reaches; return how many."""
        if exchange not in self.exchanges:
            raise _missing("exchange", exchange)
        flags, bindings = self.exchanges[exchange]
        words = key.split(".") if key else []
        reached = {key} & set(self.queues) if exchange == "" else set()
        for queue, pattern in bindings:
            parts = pattern.split(".") if pattern else []
            topic = flags["type"] == "topic" and topic_match(parts, words)
            if flags["type"] == "fanout" or pattern == key or topic:
                reached.add(queue)
        for name in reached:
            target = self.queues[name]
            lives = (props.expiration, target.flags.get("x-message-ttl"))
            life = min((int(ms) for ms in lives if ms is not None), default=inf)
            due = self.clock + life / 1000
            rank = min(props.priority or 0, target.flags.get("x-max-priority", 0))
            place = (-rank, next(self.count))
            stored = _Stored(place, exchange, key, props, body, due)
            heapq.heappush(target.ready, stored)
            self.dispatch(target)
        return len(reached)

    def dispatch(self, queue: _Queue) -> None:
        """Deliver in turn to the consumers that have room."""
        self.expire()
        idle = 0
        while queue.ready and idle < len(queue.subs):
            queue.subs.rotate(-1)
            sub, idle = queue.subs[-1], idle + 1
            if sub.limit == 0 or sub.holds < sub.limit:
                idle = 0
                sub.session.deliver(queue, sub.channel, sub.auto_ack, sub)

    def requeue(self, queue: _Queue, stored: _Stored) -> None:
        """Put a delivered message back in its place, unless it came back too often."""
        stored.redelivered = True
        if queue.flags.get("x-queue-type") == "quorum":
            stored.props = copy.copy(stored.props)
            headers = stored.props.headers = dict(stored.props.headers or {})
            headers["x-delivery-count"] = headers.get("x-delivery-count", 0) + 1
            limit = queue.flags.get("x-delivery-limit", inf)
            if headers["x-delivery-count"] > limit:
                return self.bury(queue, stored, "delivery_limit")
        heapq.heappush(queue.ready, stored)
        return self.dispatch(queue)

    def bury(self, queue: _Queue, stored: _Stored, reason: str) -> None:
        """Dead-letter a message with RabbitMQ's x-death, or drop it without a DLX."""
        exchange = queue.flags.get("x-dead-letter-exchange")
        if exchange not in self.exchanges:
            return
        props = copy.copy(stored.props)
        headers = props.headers = dict(props.headers or {})
        headers.pop("x-delivery-count", None)
        first: dict[str, Any] = {"reason": reason, "queue": queue.name}
        first |= {"exchange": stored.exchange}
        when = self.started + timedelta(seconds=int(self.clock))
        death = first | {"count": 0, "time": when, "routing-keys": [stored.key]}
        if props.expiration is not None:
            death["original-expiration"] = props.expiration
            props.expiration = None  # or it would expire in the next queue as well
        others = list(headers.get("x-death", []))
        for old in others:
            if (old["queue"], old["reason"]) == (queue.name, reason):
                death = dict(old)
                others.remove(old)
                break
        death["count"] += 1
        headers["x-death"] = [death, *others]
        for name, value in first.items():
            headers.setdefault(f"x-first-death-{name}", value)
        key = queue.flags.get("x-dead-letter-routing-key", stored.key)
        self.route(exchange, key, props, stored.body)

    def delete(self, queue: _Queue) -> None:
        """Remove a queue with its bindings, and tell its consumers."""
        del self.queues[queue.name]
        for sub in queue.subs:
            sub.session.send(sub.channel, spec.Basic.Cancel(sub.tag, nowait=True))
        for _, bindings in self.exchanges.values():
            bindings -= {bound for bound in bindings if bound[0] == queue.name}


class _Session(asyncio.Protocol):
    """A client of the stand-in: AMQP frames in, replies out."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.received = bytearray()
        self.to_send: list[bytes] = []
        self.channels: dict[int, _Channel] = {}
        self.last_seen = time.monotonic()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.broker.sessions.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        self.broker.sessions.discard(self)
        for number in list(self.channels):
            self._channel_close(number)
        for queue in [q for q in self.broker.queues.values() if q.owner is self]:
            self.broker.delete(queue)

    def data_received(self, data: bytes) -> None:
        self.last_seen = time.monotonic()
        self.received += data
        done = 0
        if self.received.startswith(b"AMQP"):
            done = 8
            able = ("publisher_confirms", "basic.nack", "consumer_cancel_notify")
            about = {"product": "stand-in", "version": self.broker.version}
            about |= {"capabilities": dict.fromkeys(able, True)}  # type: ignore[dict-item]
            self.send(0, spec.Connection.Start(server_properties=about))
        while len(self.received) >= done + 8:
            end = done + 8 + int.from_bytes(self.received[done + 3 : done + 7], "big")
            if end > len(self.received):
                break
            self.take(bytes(self.received[done:end]))
            done = end
        del self.received[:done]
        for number, channel in self.channels.items():
            if channel.owed:
                many, channel.owed = channel.owed > 1, 0
                self.send(number, spec.Basic.Ack(channel.published, multiple=many))

    def take(self, data: bytes) -> None:
        """Handle one frame; an error closes the channel, a worse one all of them."""
        try:
            _, one = frame.decode_frame(data)
            number, channel = one.channel_number, self.channels.get(one.channel_number)
            method: Any = getattr(one, "method", None)
            if method and (channel or number == 0 or method.NAME == "Channel.Open"):
                reply = getattr(self, "_" + method.NAME.lower().replace(".", "_"))
                answer = reply(number, method)
                if answer and not getattr(method, "nowait", False):
                    self.send(number, answer)
            elif channel and not method:
                channel.content.append(one)
                parts = [part.fragment for part in channel.content[2:]]
                if sum(map(len, parts)) >= channel.content[1].body_size:
                    method = channel.content[0]
                    props = channel.content[1].properties
                    self._published(number, channel, method, props, b"".join(parts))
        except _Refused as refusal:
            index = divmod(method.INDEX, 1 << 16)
            self.send(number, spec.Channel.Close(*refusal.args, *index))
            self._channel_close(number)
        except Exception as error:  # whatever a client sends, the broker lives on
            self.fail(541, f"INTERNAL_ERROR - {type(error).__name__}")

    def send(
        self, number: int, method: Any, props: Any = None, body: bytes = b""
    ) -> None:
        """Queue a method, and a message if it carries one; all leave in one go."""
        if not self.to_send:
            self.broker.loop.call_soon(self.flush)
        parts = [frame.Method(number, method)]
        if props is not None:
            parts.append(frame.Header(number, len(body), props))
            for at in range(0, len(body), 100_000):  # of 131,072 that a frame may have
                parts.append(frame.Body(number, body[at : at + 100_000]))
        self.to_send += [part.marshal() for part in parts]

    def flush(self) -> None:
        """Write what has been queued."""
        self.transport.write(b"".join(self.to_send))
        self.to_send.clear()

    def fail(self, code: int, text: str) -> None:
        """Close the connection with an error."""
        self.send(0, spec.Connection.Close(code, text, 0, 0))

    def beat(self, interval: float) -> None:
        """Send heartbeats; hang up on a client that misses two of its own."""
        if time.monotonic() - self.last_seen > 2 * interval:
            self.transport.abort()
        elif not self.transport.is_closing():
            self.transport.write(frame.Heartbeat().marshal())
            self.broker.loop.call_later(interval / 2, self.beat, interval)

    def deliver(
        self, queue: _Queue, number: int, auto_ack: bool, sub: _Sub | None
    ) -> None:
        """Send the head of a queue to a consumer, or as the answer to a get."""
        channel, stored = self.channels[number], heapq.heappop(queue.ready)
        channel.tag += 1
        came = (channel.tag, stored.redelivered, stored.exchange, stored.key)
        if not auto_ack:
            channel.unacked[channel.tag] = (queue, stored, sub)
            queue.unacked += 1
            if sub:
                sub.holds += 1
        method = spec.Basic.GetOk(*came, len(queue.ready))
        if sub:
            method = spec.Basic.Deliver(sub.tag, *came)
        self.send(number, method, stored.props, stored.body)

    def find(self, name: str) -> _Queue:
        """Return a queue that this client may use."""
        if not (queue := self.broker.queues.get(name)):
            raise _missing("queue", name)
        if queue.owner not in (None, self):
            what = "cannot obtain exclusive access to locked queue"
            raise _Refused(405, f"RESOURCE_LOCKED - {what} '{name}' in vhost '/'")
        return queue

    # One handler for each method that a client may send; it returns the reply.

    def _connection_startok(self, _: int, ask: Any) -> Any:
        if ask.response not in ("\0guest\0guest", b"\0guest\0guest"):
            return self.fail(403, "ACCESS_REFUSED - Login was refused")
        return spec.Connection.Tune(2047, 131072, 60)

    def _connection_tuneok(self, _: int, ask: Any) -> None:
        if ask.heartbeat:
            self.beat(ask.heartbeat)

    def _connection_open(self, _: int, ask: Any) -> Any:
        if ask.virtual_host != "/":
            return self.fail(530, f"NOT_ALLOWED - vhost {ask.virtual_host} not found")
        return spec.Connection.OpenOk()

    def _connection_close(self, _: int, ask: Any) -> None:
        self.send(0, spec.Connection.CloseOk())
        self.flush()
        self.transport.close()

    def _connection_closeok(self, _: int, ask: Any) -> None:
        self.transport.close()

    def _channel_open(self, number: int, _: Any) -> Any:
        self.channels[number] = _Channel()
        return spec.Channel.OpenOk()

    def _channel_close(self, number: int, _: Any = None) -> Any:
        channel = self.channels.pop(number)
        for queue in self.broker.queues.values():
            gone = (self, number)
            queue.subs = deque(s for s in queue.subs if (s.session, s.channel) != gone)
        for queue, stored, _sub in channel.unacked.values():
            queue.unacked -= 1
            self.broker.requeue(queue, stored)
        return spec.Channel.CloseOk()

    def _exchange_declare(self, _: int, ask: Any) -> Any:
        flags = {"type": ask.type, "durable": ask.durable} | (ask.arguments or {})
        known = self.broker.exchanges.get(ask.exchange)
        if ask.passive and not known:
            raise _missing("exchange", ask.exchange)
        if known and not ask.passive:
            _require_same("exchange", ask.exchange, flags, known[0])
        self.broker.exchanges.setdefault(ask.exchange, (flags, set()))
        return spec.Exchange.DeclareOk()

    def _exchange_delete(self, _: int, ask: Any) -> Any:
        self.broker.exchanges.pop(ask.exchange, None)
        return spec.Exchange.DeleteOk()

    def _queue_declare(self, _: int, ask: Any) -> Any:
        name = ask.queue or f"amq.gen-{uuid.uuid4().hex}"
        flags = {"durable": ask.durable, "auto_delete": ask.auto_delete}
        flags |= ask.arguments or {}
        if not ask.passive and name not in self.broker.queues:
            if flags.get("x-queue-type") == "quorum" and "x-max-priority" in flags:
                what = f"invalid arg 'x-max-priority' for queue '{name}' in vhost '/'"
                what += " of queue type rabbit_quorum_queue"
                raise _Refused(406, f"PRECONDITION_FAILED - {what}")
            owner = self if ask.exclusive else None
            self.broker.queues[name] = _Queue(name, flags, owner)
        queue = self.find(name)
        if not ask.passive:
            _require_same("queue", name, flags, queue.flags)
        return spec.Queue.DeclareOk(name, len(queue.ready), len(queue.subs))

    def _queue_bind(self, _: int, ask: Any) -> Any:
        self.find(ask.queue)
        if ask.exchange not in self.broker.exchanges:
            raise _missing("exchange", ask.exchange)
        self.broker.exchanges[ask.exchange][1].add((ask.queue, ask.routing_key))
        return spec.Queue.BindOk()

    def _queue_unbind(self, _: int, ask: Any) -> Any:
        bound = (ask.queue, ask.routing_key)
        self.broker.exchanges.get(ask.exchange, ({}, set()))[1].discard(bound)
        return spec.Queue.UnbindOk()

    def _queue_purge(self, _: int, ask: Any) -> Any:
        queue = self.find(ask.queue)
        gone, queue.ready = len(queue.ready), []
        return spec.Queue.PurgeOk(gone)

    def _queue_delete(self, _: int, ask: Any) -> Any:
        if ask.queue not in self.broker.queues:
            return spec.Queue.DeleteOk(0)
        self.broker.delete(queue := self.find(ask.queue))
        return spec.Queue.DeleteOk(len(queue.ready))

    def _basic_qos(self, number: int, ask: Any) -> Any:
        self.channels[number].prefetch = ask.prefetch_count
        return spec.Basic.QosOk()

    def _basic_consume(self, number: int, ask: Any) -> Any:
        queue, channel = self.find(ask.queue), self.channels[number]
        limit = 0 if ask.no_ack else channel.prefetch
        sub = _Sub(self, number, ask.consumer_tag, limit, ask.no_ack)
        self.send(number, spec.Basic.ConsumeOk(sub.tag))
        queue.subs.append(sub)
        self.broker.dispatch(queue)

    def _basic_cancel(self, number: int, ask: Any) -> Any:
        for queue in self.broker.queues.values():
            gone = (self, ask.consumer_tag)
            queue.subs = deque(s for s in queue.subs if (s.session, s.tag) != gone)
        return spec.Basic.CancelOk(ask.consumer_tag)

    def _basic_cancelok(self, number: int, _: Any) -> None:
        pass

    def _basic_get(self, number: int, ask: Any) -> Any:
        queue = self.find(ask.queue)
        self.broker.expire()
        if not queue.ready:
            return spec.Basic.GetEmpty()
        return self.deliver(queue, number, ask.no_ack, None)

    def _settled(self, number: int, ask: Any) -> list[tuple[_Queue, _Stored]]:
        unacked, tag = self.channels[number].unacked, ask.delivery_tag
        tags = [tag]
        if getattr(ask, "multiple", False):
            tags = [one for one in unacked if one <= tag or tag == 0]
        elif tag not in unacked:
            raise _Refused(406, f"PRECONDITION_FAILED - unknown delivery tag {tag}")
        found = [unacked.pop(one) for one in tags]
        for queue, _, sub in found:
            queue.unacked -= 1
            if sub:
                sub.holds -= 1
        return [(queue, stored) for queue, stored, _ in found]

    def _basic_ack(self, number: int, ask: Any) -> None:
        for queue in {queue for queue, _ in self._settled(number, ask)}:
            self.broker.dispatch(queue)

    def _basic_nack(self, number: int, ask: Any) -> None:
        for queue, stored in self._settled(number, ask):
            if ask.requeue:
                self.broker.requeue(queue, stored)
            else:
                self.broker.bury(queue, stored, "rejected")
                self.broker.dispatch(queue)

    _basic_reject = _basic_nack

    def _confirm_select(self, number: int, _: Any) -> Any:
        self.channels[number].confirms = True
        return spec.Confirm.SelectOk()

    def _basic_publish(self, number: int, ask: Any) -> None:
        self.channels[number].content = [ask]

    def _published(
        self, number: int, channel: _Channel, ask: Any, props: Any, body: bytes
    ) -> None:
        channel.content = []
        routed = self.broker.route(ask.exchange, ask.routing_key, props, body)
        if ask.mandatory and not routed:
            where = (ask.exchange, ask.routing_key)
            self.send(number, spec.Basic.Return(312, "NO_ROUTE", *where), props, body)
        channel.published += channel.confirms
        channel.owed += channel.confirms


class Wire(Background):
    """A network between client and broker that can be slow, still, or cut."""

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.delay = 0.0  # seconds that each chunk takes, either way
        self.links: dict[asyncio.StreamWriter, list[asyncio.Future[None]]] = {}

    async def _listen(self) -> asyncio.Server:
        self.gates = {"up": asyncio.Event(), "down": asyncio.Event()}
        await self._let("up", "down")
        return await asyncio.start_server(self._link, "127.0.0.1", 0)

    async def _link(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self.target)
        ways = ((reader, far_writer, "up"), (far_reader, writer, "down"))
        pumps = self.links[writer] = [
            asyncio.ensure_future(self._pump(*way)) for way in ways
        ]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump, (_, end, _way) in zip(self.links.pop(writer), ways, strict=True):
            pump.cancel()
            end.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await asyncio.sleep(self.delay)
                await self.gates[way].wait()
                writer.write(data)

    async def _let(self, *ways: str) -> None:
        for way, gate in self.gates.items():
            (gate.set if way in ways else gate.clear)()

    def freeze(self, *ways: str) -> None:
        """Let nothing through any more, either way or only "up" or only "down"."""
        self.call(self._let, *({"up", "down"} - set(ways or ("up", "down"))))

    async def cut_all(self) -> None:
        """End every connection (on the loop); what was held back is lost."""
        for pump in itertools.chain(*self.links.values()):
            pump.cancel()
        await self._let("up", "down")

    def block(self, reason: str) -> None:
        """Say what a broker short of memory says, and take nothing more."""

        async def say_so() -> None:
            for writer in self.links:
                writer.write(frame.Method(0, spec.Connection.Blocked(reason)).marshal())

        self.freeze("up")
        self.call(say_so)


# %% Connection and topology


EXCHANGES = {"data_processing": "direct", "notifications": "topic"}
EXCHANGES |= {"analytics": "fanout"}
WORK = {  # queue: exchange, keys
    "user_data": ("data_processing", "user_data"),
    "notifications": ("notifications", "notification.email.#", "notification.sms.#"),
    "analytics": ("analytics", ""),
    "archive": ("analytics", ""),
}
FATAL = (exceptions.ProbableAuthenticationError, exceptions.ProbableAccessDeniedError)


def refused(error: Exception) -> bool:
    """Tell whether the broker said no; pika guesses it of any connection lost early."""
    no = re.search(r"ByBroker: \((403|530)\)", str(error))
    return isinstance(error, FATAL) and no is not None


class RabbitMQConnection:
    """Where the broker is, and what stands on it under our prefix.

    Everything is durable (4.3 refuses the rest). Work queues are quorum queues with a
    delivery limit of their own, as its default differs between 3.x and 4.x; the one
    with priorities is classic, where they mean the same everywhere.
    """

    def __init__(self, parameters: Any, prefix: str = "module8", base: float = 1.0):
        self.parameters, self.prefix, self.base = parameters, prefix, base
        self.plan: list[Planned] = []
        self.bindings: list[tuple[str, str, str]] = []
        for exchange, kind in EXCHANGES.items():
            self._add("exchange", self.name(exchange), exchange_type=kind)
        for queue, (exchange, *keys) in WORK.items():
            self.add_queue(queue, priorities=5 if queue == "notifications" else 0)
            for key in keys:
                self.bindings.append((self.name(queue), self.name(exchange), key))
        for attempt in range(MAX_RETRIES):
            self._add_wait(self.wait_queue(attempt), self.delay_ms(attempt))

    def name(self, suffix: str) -> str:
        """Return our full name of a queue or exchange."""
        return f"{self.prefix}.{suffix}"

    def delay_ms(self, attempt: int) -> int:
        """Return how long attempt n waits, in milliseconds: base * 2**n."""
        return round(1000 * self.base * 2.0 ** min(attempt, MAX_RETRIES - 1))

    def wait_queue(self, attempt: int) -> str:
        """Return where attempt n waits. A queue's TTL is fixed: the name carries it."""
        return self.name(f"retry.{self.delay_ms(attempt)}ms")

    def _add(self, kind: str, name: str, **options: Any) -> None:
        self.plan.append((kind, name, options))

    # region queues
    def add_queue(self, queue: str, priorities: int = 0) -> str:
        """Plan a work queue and its dead letters; return its full name."""
        work, dead = self.name(queue), self.name(queue + ".dead")
        extra: dict[str, Any] = {"x-max-priority": priorities}
        if not priorities:
            extra = {"x-queue-type": "quorum", "x-delivery-limit": DELIVERY_LIMIT}
        extra |= {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
        self._add("queue", work, arguments=extra)
        self._add("queue", dead, arguments={"x-queue-type": "quorum"})
        return work

    def _add_wait(self, name: str, ttl: int) -> None:
        # A fanout in front keeps the routing key, which is the way back.
        self._add("exchange", name, exchange_type="fanout")
        back = {"x-message-ttl": ttl, "x-dead-letter-exchange": ""}
        # The broker keeps its copy until the work queue has confirmed the next one.
        safe = {"x-dead-letter-strategy": "at-least-once", "x-queue-type": "quorum"}
        safe |= {"x-overflow": "reject-publish"}
        self._add("queue", name, arguments=back | safe)
        self.bindings.append((name, name, ""))

    # endregion queues

    def connect(self) -> Any:
        """Return a new connection; every thread needs its own."""
        return pika.BlockingConnection(self.parameters)

    @contextmanager
    def channel(self) -> Iterator[Any]:
        """Yield a channel on a connection of its own."""
        with self.connect() as connection:
            yield connection.channel()

    def setup_infrastructure(self) -> None:
        """Declare everything; doing it again changes nothing.

        Raises:
            BadInput: something stands there with other arguments. What exists is
                declared first, so that a refusal finds nothing created.
        """
        with self.connect() as connection:
            there = [item for item in self.plan if self.look(connection, item)]
            self.declare(connection.channel(), there)
            self.declare(connection.channel(), self.plan)

    def declare(self, channel: Any, plan: list[Planned]) -> None:
        """Declare queues and exchanges, and all bindings between them."""
        names = {name for _, name, _ in plan}
        try:
            for kind, name, options in plan:
                getattr(channel, f"{kind}_declare")(name, durable=True, **options)
        except exceptions.ChannelClosedByBroker as refusal:
            hint = "; delete it or take another --prefix" * (refusal.reply_code == 406)
            raise BadInput(refusal.reply_text + hint) from None
        for queue, exchange, key in self.bindings:
            if {queue, exchange} <= names:
                channel.queue_bind(queue, exchange, key)

    def look(self, connection: Any, item: tuple[str, str, Any]) -> Any:
        """Return what the broker says of a queue or exchange, or None."""
        with suppress(exceptions.ChannelClosedByBroker), connection.channel() as one:
            return getattr(one, f"{item[0]}_declare")(item[1], passive=True).method

    def teardown(self) -> None:
        """Delete everything of ours that stands, with what is in it."""
        with self.channel() as channel:
            there = [i for i in self.plan if self.look(channel.connection, i)]
            for kind, name, _ in there:
                getattr(channel, f"{kind}_delete")(name)

    def ready(self, *queues: str) -> int:
        """Return how many messages wait in queues, given by their full names."""
        with self.channel() as channel:
            ask = partial(channel.queue_declare, passive=True)
            counts = [ask(queue).method.message_count for queue in queues]
            return int(sum(counts))


def backoff(attempt: int) -> float:
    """Return seconds to wait before reconnecting: exponential, capped, with jitter."""
    return min(10.0, 0.05 * 2.0**attempt) * random.uniform(0.5, 1)


# %% Publishing: confirmed, mandatory, persistent


@dataclass(eq=False)
class Pending:
    """A publish on its way: what is sent, and the promise of a confirm."""

    exchange: str
    key: str
    body: bytes
    properties: Any
    confirmed: Future[None] = field(default_factory=Future)


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
        self._returned: set[str] = set()
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
        """Close without waiting: flush() first for what has to arrive."""
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
        """Wait until all are confirmed.

        Raises:
            Unroutable: no queue took one of them.
            PublishFailed: refused, or not confirmed within the deadline; what was
                not confirmed is given up here, yet may have arrived.
        """
        end = time.monotonic() + self.deadline
        for one in pending:
            try:
                one.confirmed.result(max(0, end - time.monotonic()))
            except TimeoutError:
                left = sum(other.confirmed.cancel() for other in pending)
                raise PublishFailed(self._why(f"{left} not confirmed")) from None

    def _why(self, what: str) -> str:
        reason = f"; the broker blocks publishers: {self.blocked}" * bool(self.blocked)
        return f"{what} within {self.deadline:g} s{reason}"

    def publish(self, exchange: str, key: str, body: bytes, properties: Any) -> None:
        """Publish and wait for the confirm; raises what wait() raises."""
        self.wait(self.send(exchange, key, body, properties))

    def publish_message(
        self, message: Message, exchange: str, key: str, **properties: Any
    ) -> str:
        """Publish a message, wait for the confirm, return its id."""
        self.publish(*addressed(message, exchange, key, **properties))
        return message.id

    def publish_user_data_event(self, username: str, email: str, date: str) -> str:
        """Announce a new or changed user; return the message's id."""
        user = UserDataMessage(username=username, email=email, registration_date=date)
        exchange = self.rabbit.name("data_processing")
        return self.publish_message(user, exchange, "user_data")

    def publish_notification(
        self, recipient: str, subject: str, content: str, way: str = "email.normal"
    ) -> str:
        """Ask for an email or SMS; `way` such as "sms.urgent" is the end of the key."""
        message = NotificationMessage(
            recipient=recipient, subject=subject, content=content
        )
        priority = 5 if way.endswith("urgent") else 0
        where = (self.rabbit.name("notifications"), f"notification.{way}")
        return self.publish_message(message, *where, priority=priority)

    def publish_analytics_event(
        self, event_type: str, user_id: str, properties: dict[str, Any]
    ) -> str:
        """Tell everybody who listens what happened; return the message's id."""
        message = AnalyticsMessage(
            event_type=event_type, user_id=user_id, properties=properties
        )
        return self.publish_message(message, self.rabbit.name("analytics"), "")

    # The I/O thread's side: pika's callbacks, never called from elsewhere

    def _connect(self) -> None:
        self._connection = pika.SelectConnection(
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
        while self._waiting and self._channel and self._channel.is_open:
            one = self._waiting.popleft()
            if one.confirmed.cancelled():
                self._room.release()
                continue
            self._tag += 1
            self.sent[self._tag] = one  # before it is sent: the confirm may overtake
            what = (one.exchange, one.key, one.body, one.properties)
            self._channel.basic_publish(*what, mandatory=True)

    def _on_returned(self, _: Any, __: Any, properties: Any, ___: bytes) -> None:
        self._returned.add(properties.message_id)

    def _on_confirm(self, confirm: Any) -> None:
        method, error = confirm.method, None
        if isinstance(method, spec.Basic.Nack):
            error = PublishFailed("the broker refused it")
        tags = [method.delivery_tag]
        if method.multiple:
            tags = list(itertools.takewhile(lambda tag: tag <= tags[0], self.sent))
        for one in [self.sent.pop(tag) for tag in tags]:
            lost = one.properties.message_id in self._returned
            where = f"no queue for {one.key!r} at exchange {one.exchange!r}"
            self._done(one, Unroutable(where) if lost else error)

    def _done(self, one: Pending, error: Exception | None) -> None:
        self._returned.discard(one.properties.message_id)
        self.counts["failed" if error else "confirmed"] += 1
        self._room.release()
        with suppress(InvalidStateError):  # given up by wait()
            one.confirmed.set_exception(error) if error else one.confirmed.set_result(
                None
            )

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
        for one in guilty:
            self._done(one, PublishFailed(reason.reply_text))
        self._waiting.extendleft(one for one in reversed(sent) if one not in guilty)
        channel.connection.channel(on_open_callback=self._on_channel)

    # region resend
    def _on_lost(self, _: Any, reason: Exception) -> None:
        self.blocked, self._channel, self._connection = "", None, None
        self.counts["resent"] += len(self.sent)
        self._waiting.extendleft(reversed(self.sent.values()))
        self.sent = {}
        if self._closing:
            self._loop.stop()
            return
        if refused(reason):
            while self._waiting:
                no = PublishFailed(type(reason).__name__)
                self._done(self._waiting.popleft(), no)
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
        # A frozen broker answers no goodbye, and pika has no public way to hang up.
        if self._connection.is_closing:
            self._connection._terminate_stream(ConnectionError("closed"))
        else:
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
        CREATE TABLE IF NOT EXISTS
            outbox (number INTEGER PRIMARY KEY, exchange, key, body, cause);
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
        return [what for (what,) in self.db.execute(ask, (queue,))]


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
        self._busy: set[int] = set()
        self._flushing = False
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
                if not self._stopping.is_set() and delivery.channel is self._channel:
                    self._process(delivery)
                    self._acknowledge(delivery)
            except Exception:  # not even the copy could be confirmed
                self.counts["unsettled"] += 1
                logging.exception("left to the broker")
                self.on_io(partial(self._give_back, delivery))
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
            self.ages[len(str(int(age.total_seconds())))] += 1
            what = self.handle(message)
            new = self.ledger is None or self.ledger.once(self.queue, message, what)
            self.counts["processed" if new else "duplicates"] += 1
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
        self.counts["dead" if final else "retried"] += 1

    # endregion copy

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

    def _give_back(self, delivery: Delivery) -> None:
        if delivery.channel.is_open:  # else the broker has it back already
            delivery.channel.basic_reject(delivery.tag)

    def _flush(self) -> None:
        self._flushing = False  # first: what is added from here on asks again
        while self._settled:
            delivery = self._settled.popleft()
            if delivery.channel.is_open:
                delivery.channel.basic_ack(delivery.tag)
                self.counts["acked"] += 1

    # region resilience
    def start_consuming(self) -> None:
        """Consume until stop(), reconnecting; raise what no reconnection mends."""
        for _ in range(self.concurrency):
            threading.Thread(target=self._work, daemon=True).start()
        attempt = acked = 0
        while not self._stopping.is_set():
            try:
                self._session()
            except Exception as error:  # pika lets a poisoned header out as ValueError
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
    def _store(self, what: str, *messages: tuple[Message, str, str]) -> None:
        cause = messages[0][0].id  # the correlation id that they share
        rows = [(exchange, key, m.to_json(), cause) for m, exchange, key in messages]
        with self.ledger.transaction() as db:
            db.execute("INSERT INTO effects VALUES ('accounts', '', ?)", (what,))
            db.executemany("INSERT INTO outbox VALUES (NULL, ?, ?, ?, ?)", rows)

    def relay(self) -> int:
        """Publish what is stored, forget it once confirmed; return how many."""
        rows = self.ledger.db.execute("SELECT * FROM outbox ORDER BY number").fetchall()
        name = self.producer.rabbit.name
        pending = []
        for _, exchange, key, body, cause in rows:
            where = (Message.from_json(body), name(exchange), key)
            one = addressed(*where, correlation_id=cause)
            pending.append(self.producer.send(*one))
        self.producer.wait(*pending)
        with self.ledger.transaction() as db:
            gone = "DELETE FROM outbox WHERE number = ?"
            db.executemany(gone, [(number,) for number, *_ in rows])
        return len(rows)

    # endregion outbox

    def process_user_signup(self, username: str, email: str) -> None:
        """Onboard a user: profile, welcome mail, event."""
        today = datetime.now(UTC).date().isoformat()
        user = UserDataMessage(username=username, email=email, registration_date=today)
        mail = NotificationMessage(recipient=email, subject="welcome", content=username)
        event = AnalyticsMessage(event_type="signup", user_id=username)
        self._store(
            f"signup {username}",
            (user, "data_processing", "user_data"),
            (mail, "notifications", "notification.email.normal"),
            (event, "analytics", ""),
        )

    def process_user_purchase(self, username: str, email: str, amount: float) -> None:
        """Take a purchase: receipt, event."""
        text = f"{amount:.2f}"
        mail = NotificationMessage(recipient=email, subject="receipt", content=text)
        event = AnalyticsMessage(
            event_type="purchase", user_id=username, properties={"amount": amount}
        )
        self._store(
            f"purchase {username} {text}",
            (mail, "notifications", "notification.email.normal"),
            (event, "analytics", ""),
        )


class FunctionConsumer(Consumer):
    """A consumer whose work is a function; its result, if any, is the effect."""

    def __init__(self, work: Callable[[Message], object], *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.work = work

    def handle(self, message: Message) -> str:
        """Call the function."""
        return str(self.work(message))


# region redrive
def redrive(rabbit: RabbitMQConnection, queue: str, producer: Producer) -> int:
    """Move a queue's dead letters back to it; return how many."""
    moved = 0
    with rabbit.channel() as channel:
        for _ in range(rabbit.ready(queue + ".dead")):  # not those that die again
            method, old, body = channel.basic_get(queue + ".dead")
            if method is None:
                break
            about = pika.BasicProperties(delivery_mode=PERSISTENT)
            about.message_id = old.message_id
            producer.publish("", queue, body, about)
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
        full = self.rabbit.add_queue(name, **options)
        self.rabbit.setup_infrastructure()
        return full

    @contextmanager
    def wire(self) -> Iterator[tuple[Wire, RabbitMQConnection]]:
        """Yield a network that can fail, and the connection that goes over it."""
        far = copy.copy(self.rabbit)
        with Wire(far.parameters.host, far.parameters.port) as wire:
            far.parameters = copy.copy(far.parameters)
            far.parameters.host, far.parameters.port = "127.0.0.1", wire.port
            yield wire, far


def started(consumer: Consumer) -> Future[None]:
    """Consume in a thread of its own; the future ends, or fails, as that does."""
    done: Future[None] = Future()

    def run() -> None:
        try:
            consumer.start_consuming()
            done.set_result(None)
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return done


@contextmanager
def running(consumer: Consumer) -> Iterator[Consumer]:
    """Consume in a thread for the length of a block."""
    done = started(consumer)
    try:
        consumer.ready.wait(DEADLINE)
        yield consumer
    finally:
        consumer.stop()
        with suppress(TimeoutError):  # a frozen broker answers no goodbye
            done.result(consumer.drain + DEADLINE)


def user(n: int) -> Message:
    """Return the nth user's data, always the same but for its id."""
    name = f"user{n}"
    return UserDataMessage(
        username=name, email=f"{name}@example.org", registration_date="2026-01-05"
    )


def users(count: int) -> list[Message]:
    """Return the data of the first users."""
    return [user(n) for n in range(count)]


def taken(channel: Any, queue: str, auto_ack: bool = True) -> Iterator[Any]:
    """Yield (method, properties, body) until a queue is empty."""
    return iter(partial(channel.basic_get, queue, auto_ack), (None, None, None))


def emptied(rabbit: RabbitMQConnection, queue: str) -> list[tuple[Any, bytes]]:
    """Take all messages out of a queue: (properties, body)."""
    with rabbit.channel() as channel:
        return [(about, body) for _, about, body in taken(channel, queue)]


def publish(producer: Producer, queue: str, messages: Iterable[Message]) -> None:
    """Publish messages to a queue, and wait until all are confirmed."""
    producer.wait(*[producer.send(*addressed(one, "", queue)) for one in messages])


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


@demo
def messages(env: Env) -> None:
    """Messages: a bad body costs itself, not the consumer"""
    queue, good = env.queue("messages"), users(3)
    bodies = [*BROKEN.values(), *(one.to_json().encode() for one in good)]
    with Producer(env.rabbit) as producer, Ledger() as ledger:
        about = pika.BasicProperties(delivery_mode=PERSISTENT)
        producer.wait(*(producer.send("", queue, body, about) for body in bodies))
        naive = read_naively(env, queue, deliveries=20)
        with running(UserDataConsumer(env.rabbit, queue, producer, ledger)) as consumer:
            env.until(lambda: consumer.counts["acked"] == len(bodies))
        ours = len(ledger.effects(queue))
    dead = emptied(env.rabbit, queue + ".dead")
    why = {body: about.headers["x-error"] for about, body in dead}
    table(("body", "why it is dead"), *((k, why.get(v)) for k, v in BROKEN.items()))
    show("good ones read, naive and ours", (naive, ours))
    dead_well = all(why.get(body, "")[:10] == "BadMessage" for body in BROKEN.values())
    done = dead_well and (naive, ours) == (0, 3)
    check("each bad body is dead with its reason, each good one done", done)
    back = [Message.from_json(one.to_json()) for one in good]
    check("a good one comes back equal from JSON", back == good)
    pair = Message(payload={"pair": (1, 2)})
    check("what JSON would change is refused", raises(BadMessage, pair.to_json))


@contextmanager
def doomed(rabbit: RabbitMQConnection) -> Iterator[Any]:
    """Yield a channel whose connection will not live to be closed."""
    connection = rabbit.connect()
    try:
        yield connection.channel()
    finally:
        with suppress(Exception):
            connection.close()


def raises(kind: type[Exception], work: Callable[[], object]) -> bool:
    """Tell whether a call raises an exception of a kind."""
    try:
        work()
    except kind:
        return True
    return False


def read_naively(env: Env, queue: str, deliveries: int) -> int:
    """Read as tutorials do, putting back what fails; return how many succeed."""
    done = 0
    with env.rabbit.channel() as channel:
        for _ in range(deliveries):
            env.until(lambda: env.rabbit.ready(queue))
            method, _, body = channel.basic_get(queue)
            try:
                done += bool(json.loads(body)["payload"]["username"])
                channel.basic_ack(method.delivery_tag)
            except Exception:
                # Trap: on a queue without a delivery limit it comes back for ever.
                channel.basic_nack(method.delivery_tag, requeue=True)
    return done


# %% 2. Routing: who gets what, and what happens to the rest


def brute_force(pattern: str, key: str) -> bool:
    """Match by trying every number of words for every # (the oracle)."""
    words, parts = key.split(".") if key else [], pattern.split(".")
    sizes = [range(len(words) + 1) if part == "#" else [1] for part in parts]
    for size in itertools.product(*sizes):
        tried = [p for part, n in zip(parts, size, strict=True) for p in [part] * n]
        pairs = zip(tried, words, strict=False)
        if len(tried) == len(words) and all(p in ("#", "*", w) for p, w in pairs):
            return True
    return False


def guess(pattern: str, key: str) -> bool:
    """Match as one might think: # is one or more words."""
    text = re.escape(pattern).replace(r"\*", r"[^.]+").replace(r"\#", ".+")
    return re.fullmatch(text, key) is not None


def truth_table(
    env: Env, exchange: str, patterns: list[str], keys: list[str]
) -> Iterator[tuple[str, str]]:
    """Yield the pairs (pattern, key) that the broker's topic exchange lets through."""
    with env.rabbit.channel() as channel:
        channel.confirm_delivery()
        queues = {}
        for pattern in patterns:
            queues[pattern] = channel.queue_declare("", exclusive=True).method.queue
            channel.queue_bind(queues[pattern], exchange, pattern)
        for key in keys:
            channel.basic_publish(exchange, key, b"")
        for pattern, queue in queues.items():
            for method, _, _ in taken(channel, queue):
                yield pattern, method.routing_key


@demo
def routing(env: Env) -> None:
    """Routing: the broker follows the truth table, and what fits nowhere is an error"""
    sizes = range(1, 4)
    patterns = [".".join(p) for n in sizes for p in itertools.product("a*#", repeat=n)]
    keys = [".".join(k) for n in range(4) for k in itertools.product("ab", repeat=n)]
    exchange = env.rabbit.name("notifications")
    through = set(truth_table(env, exchange, patterns, keys))
    pairs = list(itertools.product(patterns, keys))
    wrong = [
        sum(match(*pair) != (pair in through) for pair in pairs)
        for match in (guess, brute_force)
    ]
    show("pairs of pattern and key", len(pairs))
    show("broker differs, if # is 1+, 0+", wrong)
    check("# is zero or more words, * is one", wrong[0] > 0 and wrong[1] == 0)
    with env.rabbit.channel() as channel, Producer(env.rabbit) as producer:
        channel.confirm_delivery()
        # Trap: a broker confirms what it drops; only the mandatory flag tells.
        channel.basic_publish(exchange, "notification.fax", b"")
        show("to nobody, confirmed", "no error, and no message")
        fax = partial(producer.publish_notification, "+380", "hello", "text", "fax")
        check("mandatory: what no queue takes is an error", raises(Unroutable, fax))
        producer.publish_notification("+380", "hello", "text", "sms.urgent")
        producer.publish_analytics_event("visit", "u1", {"page": "/"})
        producer.publish_user_data_event("ada", "ada@example.org", "2026-01-05")
    got = {queue: len(emptied(env.rabbit, env.rabbit.name(queue))) for queue in WORK}
    show("direct, topic, fanout", got)
    check("each queue has what is bound to it", list(got.values()) == [1, 1, 1, 1])


# %% 3. Publishing: what a lost connection loses, and what a confirm costs


@demo
def publishing(env: Env) -> None:
    """Publishing: without a confirm, no error means nothing"""
    queue, arrived = env.queue("publishing"), {}
    with env.wire() as (wire, far):
        with doomed(far) as channel:
            wire.freeze()
            # Trap: no error says that the kernel has the bytes, and nothing else.
            for message in users(200):
                channel.basic_publish("", queue, message.to_json().encode())
            wire.cut()
        arrived["no confirms"] = (len(emptied(env.rabbit, queue)),) * 2
        for lost, way in (("publishes", "up"), ("confirms", "down")):
            with Producer(far, deadline=3) as producer:
                publish(producer, queue, users(1))
                wire.freeze(way)
                lot = [addressed(one, "", queue) for one in users(200)]
                batch = [producer.send(*one) for one in lot]
                there = 201 if way == "down" else 1
                env.until(lambda: env.rabbit.ready(queue) == there)  # noqa: B023
                env.until(lambda: len(producer.sent) == 200)
                wire.cut()
                producer.wait(*batch)
            got = [about.message_id for about, _ in emptied(env.rabbit, queue)][1:]
            arrived[f"confirms; {lost} cut off"] = (len(got), len(set(got)))
    table(("200 publishes", "arrived", "ids"), *((k, *v) for k, v in arrived.items()))
    none, up, down = arrived.values()
    check("unconfirmed is sent again: 200, not 0", (none, up) == ((0, 0), (200, 200)))
    check("a lost confirm duplicates, with the same ids", down == (400, 200))


def publish_naively(rabbit: RabbitMQConnection, queue: str) -> None:
    """Publish with confirms, a message at a time, until the connection is lost."""
    with suppress(exceptions.AMQPError), doomed(rabbit) as channel:
        channel.confirm_delivery()
        while True:
            channel.basic_publish("", queue, b"")


@demo
def windows(env: Env) -> None:
    """Publishing: a confirm costs a round trip, a window of them hardly more"""
    queue = env.queue("windows")
    with env.wire() as (wire, far), Producer(far) as producer:
        publish(producer, queue, users(1))
        wire.delay, start = 0.005, time.perf_counter()
        for message in users(20):
            publish(producer, queue, [message])
        each = time.perf_counter() - start
        publish(producer, queue, users(20))
        window = time.perf_counter() - start - each
        aside(f"20 messages, 10 ms away: each {each:.2f} s, a window {window:.2f} s")
        check("a window is over 3 x as fast as one by one", each > 3 * window)


@demo
def deadlines(env: Env) -> None:
    """Publishing: a deadline ends the wait for a broker that takes nothing"""
    queue, reason, (message,) = env.queue("deadlines"), "", users(1)
    with env.wire() as (wire, far), Producer(far) as ours:
        naive = threading.Thread(target=publish_naively, args=(far, queue), daemon=True)
        naive.start()
        publish(ours, queue, users(1))
        env.until(lambda: env.rabbit.ready(queue) > 1)
        wire.block("low on memory")
        env.until(lambda: ours.blocked)
        ours.deadline = 0.3
        try:
            publish(ours, queue, [message])
        except PublishFailed as error:
            reason = str(error)
        show("blocked: pika", "waits on" if naive.is_alive() else "gave up")
        show("blocked: ours", reason)
        saw = naive.is_alive() and "low on memory" in reason
        check("the deadline ends the wait and says why", saw)
        wire.cut()
        naive.join(DEADLINE)
        ours.deadline = DEADLINE
        publish(ours, queue, [message])
        ids = [about.message_id for about, _ in emptied(env.rabbit, queue)]
        check("sent again with the same id, it is there", message.id in ids)


# %% 4. Consuming: the thread that talks to the broker does nothing else


def beat(connection: Any, gaps: list[float], last: float = 0.0) -> None:
    """Note, over and over, how long the connection has not been looked after."""
    now = time.monotonic()
    gaps.append(now - (last or now))
    connection.call_later(0.01, partial(beat, connection, gaps, now))


@demo
def consuming(env: Env) -> None:
    """Consuming: work keeps no heartbeat waiting, prefetch no round trip"""
    queue, took = env.queue("consuming"), {}
    inline: list[float] = []
    pooled: list[float] = []
    with Producer(env.rabbit) as producer, env.wire() as (wire, far):
        publish(producer, queue, users(1))
        with env.rabbit.channel() as channel:
            beat(channel.connection, inline)
            channel.connection.process_data_events(0.05)
            method, _, _ = channel.basic_get(queue)
            # Trap: this thread answers the heartbeats, so it must not do the work.
            time.sleep(0.3)
            channel.connection.process_data_events(0.05)
            channel.basic_ack(method.delivery_tag)
        slow = FunctionConsumer(lambda _: time.sleep(0.3), env.rabbit, queue, producer)
        with running(slow):
            slow.on_io(lambda: beat(slow.connection, pooled))
            publish(producer, queue, users(1))
            env.until(lambda: slow.counts["acked"])
        silent = [max(gaps) > 0.25 for gaps in (inline, pooled)]
        show("silent meanwhile, inline and ours", silent)
        check("on a pool, heartbeats are answered meanwhile", silent == [True, False])
        for prefetch in (1, 300):
            fast = FunctionConsumer(str, far, queue, producer, prefetch=prefetch)
            with running(fast):
                wire.delay, start = 0.005, time.perf_counter()
                publish(producer, queue, users(30))
                env.until(lambda: fast.counts["acked"] == 30)  # noqa: B023
                took[prefetch] = time.perf_counter() - start
                wire.delay = 0
        aside(f"30 messages: prefetch 1 {took[1]:.2f} s, 300 {took[300]:.2f} s")
        check("prefetch 1 waits for each round trip", took[1] > 3 * took[300])


@demo
def threads(env: Env) -> None:
    """Consuming: a channel belongs to one thread, our producer to all"""
    queue = env.queue("threads")
    start = threading.Barrier(8)

    def rush(send: Callable[[Message], object]) -> int:
        def run() -> None:
            start.wait(DEADLINE)
            with suppress(Exception):  # whatever pika stumbles over
                for message in users(200):
                    send(message)

        crew = [threading.Thread(target=run, daemon=True) for _ in range(8)]
        usual = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)  # seconds; so that the threads do meet
        for thread in crew:
            thread.start()
        for thread in crew:
            thread.join(DEADLINE)
        sys.setswitchinterval(usual)
        return len(emptied(env.rabbit, queue))

    with doomed(env.rabbit) as channel:
        shared = rush(lambda message: channel.basic_publish("", queue, b"0" * 300))
    with Producer(env.rabbit) as producer:
        ours = rush(lambda message: publish(producer, queue, [message]))
    show("one channel, 8 threads x 200", "fewer than 1600" if shared < 1600 else shared)
    show("our producer", ours)
    check("only the producer delivers all 1600", shared < 1600 and ours == 1600)


def consume_inline(
    rabbit: RabbitMQConnection, queue: str, work: Callable[[Message], object]
) -> None:
    """Consume as tutorials do, until the connection or the queue goes."""

    def callback(channel: Any, method: Any, _: Any, body: bytes) -> None:
        work(Message.from_json(body))
        channel.basic_ack(method.delivery_tag)

    with doomed(rabbit) as channel:
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume(queue, callback)
        channel.start_consuming()


def at_each(names: set[str], act: Callable[[], object], seen: list[str]) -> Any:
    """Return work that notes each user, and acts once at each of some."""
    left = set(names)

    def work(message: Message) -> str:
        seen.append(name := str(message.payload["username"]))
        if name in left:
            left.remove(name)
            act()
        return name

    return work


@demo
def surviving(env: Env) -> None:
    """Surviving: five lost connections and a deleted queue"""
    queue, five = env.queue("surviving"), {f"user{n}" for n in (3, 6, 9, 12, 15)}
    naive: list[str] = []
    with Producer(env.rabbit) as producer, env.wire() as (wire, far):
        publish(producer, queue, users(20))
        work = at_each(five, wire.cut, naive)
        raises(exceptions.AMQPError, partial(consume_inline, far, queue, work))
        env.until(lambda: env.rabbit.ready(queue) == 17)
        emptied(env.rabbit, queue)
        publish(producer, queue, users(20))
        done: list[str] = []
        work = at_each(five, wire.cut, done)
        ours = FunctionConsumer(work, far, queue, producer, prefetch=1)
        with running(ours):
            env.until(lambda: len({*done}) == 20, limit=10)
            env.until(lambda: not env.rabbit.ready(queue))
            back = ours.counts["reconnects"]
            show("cut at 5 of 20: the naive loop", f"dead after {len(naive)}")
            show("cut at 5 of 20: ours", f"all done, reconnected {back} times")
            check("ours comes back each time", (len(naive), back) == (4, 5))
            with env.rabbit.channel() as channel:
                channel.queue_delete(queue)
            with suppress(TimeoutError):
                env.until(lambda: ours.counts["reconnects"] > back, limit=6)
                env.until(ours.ready.is_set, limit=6)
            alive = ours.ready.is_set() and not raises(
                PublishFailed, partial(publish, producer, queue, users(1))
            )
            check("a cancelled consumer declares its queue again", alive)


@demo
def stopping(env: Env) -> None:
    """Surviving: a stop in the middle finishes what has begun"""
    queue, begun = env.queue("stopping"), {}
    for name, drain in (("at once", 0.0), ("after draining", DEADLINE)):
        done: list[str] = []
        with Producer(env.rabbit) as producer:
            publish(producer, queue, users(20))
            first = FunctionConsumer(str, env.rabbit, queue, producer, drain=drain)

            def halt() -> None:
                first.stop()  # noqa: B023 (called within its round)
                time.sleep(0.1)  # the rest of the work

            first.work = at_each({"user8"}, halt, done)
            first.start_consuming()
            begun[name] = len(done) < 20
            work = at_each(set(), halt, done)
            with running(FunctionConsumer(work, env.rabbit, queue, producer)):
                env.until(lambda: len({*done}) == 20)  # noqa: B023
                env.until(lambda: not env.rabbit.ready(queue))
        show(f"stopped {name}", f"{len(done) - 20} of 20 done twice")
        begun[name] &= len(done) == 20
    check("drained, nothing is done twice", list(begun.values()) == [False, True])


# %% 5. Retrying: exponential backoff in the broker, not in a sleeping worker


def arrivals(env: Env, queue: str, start: float) -> list[float]:
    """Return when four messages come to a queue, in multiples of the base delay."""
    came: list[float] = []
    with env.rabbit.channel() as channel:

        def poll() -> bool:
            at = (env.clock() - start) / env.rabbit.base
            came.extend(at for _ in taken(channel, queue))
            return len(came) >= 4

        env.until(poll)
    return came


def doubling(waits: Iterable[float]) -> list[int]:
    """Return the last power of two that each has reached: a busy machine is late."""
    return [2 ** floor(log2(wait * 1.1)) for wait in waits]


@demo
def waiting(env: Env) -> None:
    """Retrying: one wait queue per delay, or all wait for the longest"""
    queue, one_queue = env.queue("waiting"), env.rabbit.name("waiting.all")
    order = (3, 0, 1, 2)  # the longest first
    with env.rabbit.channel() as channel, Producer(env.rabbit) as producer:
        back = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue}
        channel.queue_declare(one_queue, durable=True, arguments=back)
        start = env.clock()
        for attempt in order:
            # Trap: only the head of a queue expires; the short waits are behind it.
            expires = str(env.rabbit.delay_ms(attempt))
            producer.publish(
                "", one_queue, b"", pika.BasicProperties(expiration=expires)
            )
        naive = arrivals(env, queue, start)
        channel.queue_delete(one_queue)
        start = env.clock()
        for attempt in order:
            wait = env.rabbit.wait_queue(attempt)
            producer.publish(wait, queue, b"", pika.BasicProperties())
        ours = arrivals(env, queue, start)
    table(
        ("waits of 8, 1, 2, 4 x base", "came after"),
        ("in one queue", doubling(naive)),
        ("in one queue per delay", doubling(ours)),
    )
    pairs = zip(ours, (1, 2, 4, 8), strict=True)
    late = max(abs(at - due) for at, due in pairs) * env.rabbit.base
    aside(f"with a queue per delay, late by at most {1000 * late:.0f} ms")
    right = min(naive) > 7 and doubling(ours) == [1, 2, 4, 8]
    check("a queue per delay is on time, one queue waits for its head", right)


@demo
def retrying(env: Env) -> None:
    """Retrying: five more attempts, then the dead letters, with the reason"""
    queue = env.queue("retrying")
    tried: dict[str, list[float]] = {f"user{n}": [] for n in range(4)}

    def work(message: Message) -> str:
        name = str(message.payload["username"])
        tried[name].append(env.clock())
        if name == "user3":
            raise PermanentError("no such account")
        if name == "user1" or (name == "user2" and message.retry_count < 2):
            raise ConnectionError("no answer")
        return name

    with Producer(env.rabbit) as producer, Ledger() as ledger:
        publish(producer, queue, users(4))
        with running(FunctionConsumer(work, env.rabbit, queue, producer, ledger)):
            env.until(lambda: env.rabbit.ready(queue + ".dead") == 2)
            env.until(lambda: len(ledger.effects(queue)) == 2)
        attempts = {name: len(times) for name, times in tried.items()}
        gaps = [b - a for a, b in itertools.pairwise(tried["user1"])]
        waits = doubling(gap / env.rabbit.base for gap in gaps)
        show("attempts", attempts)
        show("user1 waited, x base", waits)
        check("attempts back off exponentially", waits == [1, 2, 4, 8, 16])
        once = list(attempts.values()) == [1, 6, 3, 1]
        check("a passing error is retried, a permanent one not", once)
        with env.rabbit.channel() as channel:
            found = taken(channel, queue + ".dead", auto_ack=False)
            headers = [properties.headers for _, properties, _ in found]
        dead = sorted((h["x-error"], h["x-retry-count"]) for h in headers)
        table(("error of a dead letter", "retries"), *dead)
        check("dead letters say why and how often", [n for _, n in dead] == [5, 0])
        moved = redrive(env.rabbit, queue, producer)
        check("redrive puts both back", (moved, env.rabbit.ready(queue)) == (2, 2))


class Freezing(Producer):
    """Stops the consumer's network as soon as its copy is confirmed."""

    wire: Wire

    def publish(self, *args: Any) -> None:
        """Publish, wait for the confirm, freeze."""
        super().publish(*args)
        self.wire.freeze()


@demo
def crashing(env: Env) -> None:
    """Retrying: the copy is confirmed before the original is acknowledged"""
    queue = env.queue("crashing")
    places = (queue, env.rabbit.wait_queue(0))

    def fail(_: Message) -> None:
        raise ConnectionError("no answer")

    with Freezing(env.rabbit) as producer, env.wire() as (wire, far):
        with Producer(env.rabbit) as other:
            publish(other, queue, users(1))
            with env.rabbit.channel() as channel:
                channel.basic_ack(channel.basic_get(queue)[0].delivery_tag)
                # And here it crashes: the copy is never published.
            naive = env.rabbit.ready(*places)
            publish(other, queue, users(1))
        producer.wire = wire
        with running(crashed := FunctionConsumer(fail, far, queue, producer)):
            env.until(lambda: crashed.counts["retried"])
            crashed.stop()
            wire.cut()
        env.until(lambda: env.rabbit.ready(*places))
        ours = env.rabbit.ready(*places)
    for place in places:
        emptied(env.rabbit, place)
    show("crash after ack, crash after copy", (naive, ours))
    check("the one order loses, ours keeps both", (naive, ours) == (0, 2))


# %% 6. Idempotency: delivered three times, done once


@demo
def idempotency(env: Env) -> None:
    """Idempotency: delivered three times, done once"""
    queue = env.queue("idempotency")
    naive: list[str] = []
    with Producer(env.rabbit) as producer, Ledger() as ledger:
        for inbox in (None, ledger):
            publish(producer, queue, users(20) * 3)
            work = at_each(set(), str, naive if inbox is None else [])
            seen = FunctionConsumer(work, env.rabbit, queue, producer, inbox)
            with running(seen):
                env.until(lambda: seen.counts["acked"] == 60)  # noqa: B023
        ours = len(ledger.effects(queue))
    show("60 deliveries, without an inbox", f"{len(naive)} effects")
    show("with one", f"{ours} effects")
    check("the inbox makes it 20, not 60", (len(naive), ours) == (60, 20))


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


@demo
def outbox(env: Env) -> None:
    """Idempotency: a row and its message, both or none, through 100 crashes"""
    queue, wrong = env.rabbit.name("user_data"), {}
    account = "INSERT INTO effects VALUES ('accounts', '', ?)"

    # Trap: no order of commit and publish is safe, as a crash fits in between.
    def commit_first(line: UserDataPipeline, name: str) -> None:
        with line.ledger.transaction() as db:
            db.execute(account, (f"signup {name}",))
        line.producer.publish_user_data_event(name, "a@example.org", "2026-01-05")

    def publish_first(line: UserDataPipeline, name: str) -> None:
        line.producer.publish_user_data_event(name, "a@example.org", "2026-01-05")
        with line.ledger.transaction() as db:
            db.execute(account, (f"signup {name}",))

    def with_outbox(line: UserDataPipeline, name: str) -> None:
        line.process_user_signup(name, "a@example.org")

    for sign_up in (commit_first, publish_first, with_outbox):
        with Producer(env.rabbit) as producer, CrashingLedger() as ledger:
            line = UserDataPipeline(producer, ledger)
            for n in range(100):
                raises(Crash, partial(sign_up, line, f"user{n}"))
            crashes = ledger.crashes
            for _ in range(2):  # the relay crashes too, before it forgets and after
                raises(Crash, line.relay)
            stored = {what.split()[1] for what in ledger.effects("accounts")}
        bodies = [body for _, body in emptied(env.rabbit, queue)]
        told = {Message.from_json(body).payload["username"] for body in bodies}
        wrong[sign_up.__name__] = (crashes, len(stored - told), len(told - stored))
    table(("way", "crashes", "lost", "phantoms"), *((k, *v) for k, v in wrong.items()))
    expected = [(100, 50, 0), (100, 0, 50), (100, 0, 0)]
    check("an outbox loses none and invents none", list(wrong.values()) == expected)
    for other in WORK:
        emptied(env.rabbit, env.rabbit.name(other))


# %% 7. Priorities: only what has not been fetched can be overtaken


def overtaken(env: Env, queue: str, prefetch: int) -> int:
    """Return how many of ten waiting messages come before an urgent one."""
    order: list[bytes] = []

    def work(channel: Any, method: Any, _: Any, body: bytes) -> None:
        order.append(body)
        channel.basic_ack(method.delivery_tag)

    with env.rabbit.channel() as channel, Producer(env.rabbit) as producer:
        for _ in range(10):
            producer.publish("", queue, b"low", pika.BasicProperties(priority=0))
        # Trap: without this line prefetch is unlimited, and priorities do nothing.
        channel.basic_qos(prefetch_count=prefetch)
        channel.basic_consume(queue, work)
        env.until(lambda: env.rabbit.ready(queue) == 10 - prefetch)
        producer.publish("", queue, b"HIGH", pika.BasicProperties(priority=5))
        while len(order) < 11:
            channel.connection.process_data_events(1)
    return order.index(b"HIGH")


@demo
def priorities(env: Env) -> None:
    """Priorities: what is fetched already cannot be overtaken"""
    plain = env.queue("priorities.none")
    classic = env.queue("priorities.classic", priorities=5)
    runs = (("none", plain, 1), ("0 to 5", classic, 1), ("0 to 5", classic, 10))
    rows = [(name, n, overtaken(env, queue, n)) for name, queue, n in runs]
    table(("priorities", "prefetch", "come before it"), *rows)
    check("it overtakes what is not fetched yet", [n for *_, n in rows] == [10, 1, 10])


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
    (acked,) = ledger.db.execute("SELECT count(*) FROM inbox").fetchone()
    dead = rabbit.ready(*(queue + ".dead" for queue in work))
    return acked, dead, rabbit.ready(*work, *waits)


def accounted(env: Env, ledger: Ledger, published: int) -> int:
    """Count until it adds up: what comes back from a wait meanwhile is missed."""
    found = 0

    def adds_up() -> bool:
        nonlocal found
        found = sum(account(env.rabbit, ledger))
        return found == published

    with suppress(TimeoutError):
        env.until(adds_up, limit=5)
    return found


def feed(line: UserDataPipeline) -> int:
    """Take 20 signups and purchases; return how many messages that makes."""
    for n in range(20):
        email = f"user{n}@example.org" if n % 5 else "nonsense"
        line.process_user_signup(f"user{n}", email)
        line.process_user_purchase(f"user{n}", email, 9.5 + n)
    line.relay()
    return 20 * (1 + 1 + 2) + 20 * (1 + 2)  # an event goes to two queues


@demo
def pipeline(env: Env) -> None:
    """Pipeline: published = acknowledged + dead + in flight, at every checkpoint"""
    rabbit, user_data = env.rabbit, env.rabbit.name("user_data")
    kinds: list[Any] = [UserDataConsumer, Greylisted] + 2 * [AnalyticsConsumer]
    with Producer(rabbit) as producer, Ledger() as ledger:
        published = feed(UserDataPipeline(producer, ledger))
        rows = [("published", published, sum(account(rabbit, ledger)))]
        for goal, when in ((published // 3, "a third done"), (published, "all done")):
            with ExitStack() as stack:
                crew = [
                    kind(rabbit, rabbit.name(queue), producer, ledger)
                    for kind, queue in zip(kinds, WORK, strict=True)
                ]
                for one in crew:
                    stack.enter_context(running(one))
                env.until(lambda: sum(account(rabbit, ledger)[:2]) >= goal, 8)  # noqa: B023
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
    show("acknowledged, dead, in flight", end)
    show("analytics", dict(sorted(totals.items())))
    adds_up = [wanted == found for _, wanted, found in rows]
    check("it adds up at every checkpoint", adds_up == [True, True, True, False])
    check("the four bad addresses are dead letters", end == (136, 4, 0))


# %% 9. The broker: what it refuses, how it buries, what it is not
RULES = (  # from version, what changes; release notes 4.0.1, 4.1.0, 4.3.0
    ("3.10", "quorum queues have no delivery limit unless given one (ours have)"),
    ("4.0", "x-death of a republished message is not read (ours is not sent)"),
    ("4.0", "bodies over 16 MiB are refused (ours end at 256 KiB)"),
    ("4.3", "only reject and lost connections count towards the limit (we reject)"),
    ("4.3", "transient named queues and global prefetch are refused (we use none)"),
)


def version_of(text: str) -> tuple[int, ...]:
    """Return the numbers of a version such as 3.10.8."""
    return tuple(int(number) for number in re.findall(r"\d+", text)[:2])


@demo
def refusing(env: Env) -> None:
    """Broker: what it refuses, and what it does not"""
    for since, rule in RULES:
        if version_of(since) <= version_of(env.version):
            show(f"since {since}", rule)
    queue, answers = env.rabbit.name("archive"), []
    # Trap: a declaration never changes a queue; other arguments need another name.
    same = dict(next(item for item in env.rabbit.plan if item[1] == queue)[2])
    asks: Any = ((queue, same), (queue, {}), (queue + ".no", {"passive": True}))
    for name, options in asks:
        with env.rabbit.channel() as channel:
            try:
                channel.queue_declare(name, durable=True, **options)
                answers.append((200, "declared again: nothing changes"))
            except exceptions.ChannelClosedByBroker as refusal:
                text = refusal.reply_text.split(" - ")[1].split(" for queue")[0]
                answers.append((refusal.reply_code, text.split(" 'module8")[0]))
    table(("code", "answer"), *answers)
    codes = [code for code, _ in answers] == [200, 406, 404]
    check("a different declaration is refused by name", codes and "x-" in answers[1][1])


@demo
def burying(env: Env) -> None:
    """Broker: a dead letter tells how often it died, where, and of what"""
    queue = env.queue("burying")
    with env.rabbit.channel() as channel, Producer(env.rabbit) as producer:
        producer.publish(env.rabbit.wait_queue(0), queue, b"", pika.BasicProperties())
        env.until(lambda: env.rabbit.ready(queue))
        channel.basic_reject(channel.basic_get(queue)[0].delivery_tag, requeue=False)
        env.until(lambda: env.rabbit.ready(queue + ".dead"))
    ((about, _),) = emptied(env.rabbit, queue + ".dead")
    deaths = [(d["reason"], d["count"]) for d in about.headers["x-death"]]
    table(("x-death", "count"), *deaths)
    check("the last death comes first", deaths == [("rejected", 1), ("expired", 1)])


# %% The command line


def parameters_of(url: str) -> Any:
    """Return pika's parameters for a URL; raise BadInput for what is none."""
    shown = redact(url).partition("?")[0]  # the options may hold a key's password
    try:
        if not url.startswith(("amqp://", "amqps://")):
            raise ValueError("scheme")
        parameters = pika.URLParameters(url)
    except (ValueError, TypeError, KeyError, SyntaxError):
        raise BadInput(f"{shown} is no URL like {redact(DEFAULT_URL)}") from None
    except OSError:
        raise BadInput(f"{shown}: a file of ssl_options can't be read") from None
    parameters.socket_timeout = parameters.stack_timeout = 1.0
    parameters.connection_attempts = 1
    parameters.blocked_connection_timeout = 60
    return parameters


class NoBroker(Exception):
    """Nothing answers there."""


def probe(args: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """Return the parameters of a broker that answers, and what it says of itself."""
    url = args.url or setting("RABBITMQ_URL", DEFAULT_URL)
    parameters = parameters_of(url)
    shown = redact(url).partition("?")[0]
    try:
        with pika.BlockingConnection(parameters) as connection:
            about = dict(connection._impl.server_properties)
    except ssl.SSLError as error:  # never on without: that would be a downgrade
        why = getattr(error, "verify_message", error.reason)
        hint = "SSL_CERT_FILE names an authority of your own"
        raise BadInput(f"{shown}: no TLS: {why}; {hint}") from None
    except exceptions.AMQPError as error:
        if refused(error):
            login = isinstance(error, exceptions.ProbableAuthenticationError)
            vhost = f"access to {parameters.virtual_host!r}"
            what = "user or password" if login else vhost
            raise BadInput(f"{shown}: {what} refused") from None
        where = f"{parameters.host}:{parameters.port}"
        hint = "docker compose up -d rabbitmq starts one"
        raise NoBroker(f"no RabbitMQ at {where}; {hint}") from None
    parameters.socket_timeout = parameters.stack_timeout = 10.0
    return parameters, about


@contextmanager
def open_env(args: argparse.Namespace) -> Iterator[Env]:
    """Find the broker, else start the stand-in; leave nothing on either."""
    prefix = f"module8.{uuid.uuid4().hex[:8]}"
    with ExitStack() as stack:
        try:
            if args.offline:
                raise NoBroker("--offline")
            parameters, about = probe(args)
            version, live = str(about["version"]), None
            where = f"{parameters.host}:{parameters.port}"
            backend = f"{about['product']} {version} at {where}"
        except NoBroker as absent:
            live = stack.enter_context(Broker())
            parameters, version = parameters_of(DEFAULT_URL), live.version
            parameters.port = live.port
            backend = f"stand-in in this process, nothing in it is durable ({absent})"
        rabbit = RabbitMQConnection(parameters, prefix, base=1.0 if live else 0.1)
        stack.callback(rabbit.teardown)
        rabbit.setup_infrastructure()
        yield Env(backend, live is None, rabbit, live, version)


def worker(rabbit: RabbitMQConnection, args: argparse.Namespace) -> None:
    """Consume a queue until SIGTERM or Ctrl-C; finish what has begun."""
    stops: list[object] = []
    kinds = {"user_data": UserDataConsumer, "notifications": NotificationConsumer}
    kind: Any = kinds.get(args.worker, AnalyticsConsumer)
    queue = rabbit.name(args.worker)
    options = {"concurrency": args.concurrency, "drain": args.drain}
    with Producer(rabbit) as producer, Ledger(args.ledger) as ledger:
        consumer = kind(rabbit, queue, producer, ledger, **options)
        for number in (signal.SIGTERM, signal.SIGINT):
            # Only a note: a handler may interrupt whoever holds a lock.
            signal.signal(number, lambda *why: stops.append(why))
        done = started(consumer)
        done.add_done_callback(stops.append)
        print(f"consuming {queue}", flush=True)
        while not stops:
            time.sleep(0.05)  # a wait without end can miss the signal just before it
        consumer.stop()
        with suppress(TimeoutError):  # a frozen broker answers no goodbye
            done.result(args.drain + DEADLINE)
    for name, number in sorted(consumer.counts.items()):
        show(name, number)
    show("deliveries by age, in digits of s", dict(sorted(consumer.ages.items())))


def publish_many(rabbit: RabbitMQConnection, args: argparse.Namespace) -> None:
    """Publish N user data messages, R a second, all confirmed."""
    with Producer(rabbit) as producer:
        start, pending = time.monotonic(), []
        for n in track(range(args.publish), "publishing", console=Console(stderr=True)):
            where = (rabbit.name("data_processing"), "user_data")
            pending.append(producer.send(*addressed(user(n), *where)))
            if args.rate:
                time.sleep(max(0.0, start + n / args.rate - time.monotonic()))
        producer.wait(*pending)
        show("confirmed", producer.counts["confirmed"])


def stats(rabbit: RabbitMQConnection, _: argparse.Namespace) -> None:
    """Print what waits where."""
    queues = [item for item in rabbit.plan if item[0] == "queue"]
    with rabbit.connect() as connection:
        found = [one for item in queues if (one := rabbit.look(connection, item))]
    rows = [(one.queue, one.message_count, one.consumer_count) for one in found]
    table(("queue", "ready", "consumers"), *rows)


def put_back(rabbit: RabbitMQConnection, args: argparse.Namespace) -> None:
    """Move the dead letters of a queue back to it."""
    with Producer(rabbit) as producer:
        show("moved back", redrive(rabbit, rabbit.name(args.redrive), producer))


MODES: dict[str, Callable[[RabbitMQConnection, argparse.Namespace], None]] = {
    "worker": worker,
    "publish": publish_many,
    "stats": stats,
    "redrive": put_back,
    "teardown": lambda rabbit, _: rabbit.teardown(),
}


def serve(args: argparse.Namespace) -> int:
    """Run the mode that the options ask for, else the demos; return the exit code."""
    mode = next((name for name in MODES if getattr(args, name)), None)
    if mode is None:
        return teach(args)
    if args.offline:
        raise BadInput(f"--{mode} needs a broker that others share, not --offline")
    queue = args.worker or args.redrive
    if queue and queue not in WORK:
        raise BadInput(f"--{mode}: no queue {queue!r}; there are {', '.join(WORK)}")
    if not re.fullmatch(r"[\w.-]{1,100}", args.prefix):
        raise BadInput(f"--prefix: {args.prefix!r} is not of letters, digits, . _ -")
    try:
        rabbit = RabbitMQConnection(probe(args)[0], args.prefix)
        if mode in ("worker", "publish"):
            rabbit.setup_infrastructure()
        MODES[mode](rabbit, args)
    except NoBroker as absent:
        print(f"{Path(__file__).name}: {absent}", file=sys.stderr)
        return 3
    except exceptions.ChannelClosedByBroker as refusal:
        raise BadInput(f"{refusal.reply_text}; --publish declares it") from None
    except sqlite3.Error as error:
        raise BadInput(f"--ledger {args.ledger}: {error}") from None
    except (PublishFailed, exceptions.AMQPError) as error:
        print(f"{Path(__file__).name}: {error or type(error)}", file=sys.stderr)
        return 1
    return 0


def above_zero(text: str) -> float:
    """Return a number; raise ValueError unless it is above zero."""
    if not 0 < float(text) < inf:
        raise ValueError(text)
    return float(text)


def count(text: str) -> int:
    """Return a whole number; raise ValueError unless it is above zero."""
    above_zero(text)
    return int(text)


def main(argv: list[str] | None = None) -> int:
    """Teach or work, as the command line says; return the exit code."""
    parser = Parser()
    parser.add_argument("--worker", metavar="QUEUE", help=f"consume {', '.join(WORK)}")
    parser.add_argument("--concurrency", type=count, default=4, help="its threads (4)")
    parser.add_argument(
        "--drain", type=above_zero, default=DEADLINE, help="its last seconds"
    )
    parser.add_argument("--ledger", default=":memory:", help="its SQLite file")
    parser.add_argument("--publish", type=count, metavar="N", help="publish N messages")
    parser.add_argument("--rate", type=above_zero, metavar="R", help="R a second")
    parser.add_argument("--stats", action="store_true", help="what waits where")
    parser.add_argument("--redrive", metavar="QUEUE", help="revive its dead letters")
    parser.add_argument("--teardown", action="store_true", help="delete our queues")
    parser.add_argument("--prefix", default="module8", help="of our names (module8)")
    return command(parser, argv, serve)


if __name__ == "__main__":
    sys.exit(main())
