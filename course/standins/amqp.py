"""The stand-in for RabbitMQ: AMQP 0-9-1 on pika's own codec, on a loopback port."""

from __future__ import annotations

import copy
import heapq
import itertools
import time
import uuid
from asyncio import StreamReader, StreamWriter
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from math import inf
from typing import Any

from pika import frame, spec

from course.network import LoopbackServer

Flags = dict[str, Any]  # the options and arguments of a queue or exchange
Fields = tuple[Any, ...]  # of a method of AMQP


class _Refused(Exception):
    """A channel error: its code, and RabbitMQ's words for it."""


def _require_same(kind: str, name: str, new: Flags, old: Flags) -> None:
    for arg in sorted(new | old):
        if new.get(arg) != old.get(arg):
            what = f"inequivalent arg '{arg}' for {kind} '{name}' in vhost '/'"
            how = f"received {new.get(arg)!r} but current is {old.get(arg)!r}"
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
    channel: _Channel
    tag: str
    limit: float
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

    def forget(self, channel: _Channel, tag: str | None = None) -> None:
        gone = [s for s in self.subs if s.channel is channel and tag in (None, s.tag)]
        self.subs = deque(sub for sub in self.subs if sub not in gone)


class Broker(LoopbackServer):
    """The stand-in: RabbitMQ's contract on a loopback port, without its durability."""

    version = "3.10"

    def __init__(self) -> None:
        self.queues: dict[str, _Queue] = {}
        self.exchanges: dict[str, tuple[Flags, set[tuple[str, str]]]] = {}
        self.exchanges[""] = ({"type": "direct"}, set())
        self.clock = 0.0  # seconds; only step() moves it
        self.started, self.count = datetime.now(UTC), itertools.count()

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Answer one client until it goes."""
        session = _Session(self, writer)
        try:
            while data := await reader.read(65536):
                session.receive(data)
        finally:
            session.end()

    def step(self) -> None:
        """Jump to the next expiry if nobody is at work, else let them work."""

        async def jump() -> bool:
            queues = list(self.queues.values())
            due = min((queue.due() for queue in queues), default=inf)
            if due == inf or any(q.unacked or (q.ready and q.subs) for q in queues):
                return False
            self.clock = max(self.clock, due)
            for queue in queues:
                self.dispatch(queue)
            return True

        if not self.call(jump):
            time.sleep(0.001)

    def exchange(self, name: str) -> tuple[Flags, set[tuple[str, str]]]:
        """Return an exchange's flags, and what is bound to it: (queue, key)."""
        if name not in self.exchanges:
            raise _Refused(404, f"NOT_FOUND - no exchange '{name}' in vhost '/'")
        return self.exchanges[name]

    def route(self, exchange: str, key: str, props: Any, body: bytes) -> int:
        """Put a copy into each queue that the key reaches; return how many."""
        flags, bindings = self.exchange(exchange)
        words = key.split(".") if key else []
        reached = {key} & set(self.queues) if exchange == "" else set()
        for queue, pattern in bindings:
            parts = pattern.split(".") if pattern else []
            topic = flags["type"] == "topic" and topic_match(parts, words)
            if flags["type"] == "fanout" or pattern == key or topic:
                reached.add(queue)
        for target in [self.queues[name] for name in reached]:
            lives = (props.expiration, target.flags.get("x-message-ttl"))
            life = min((int(ms) for ms in lives if ms is not None), default=inf)
            rank = min(props.priority or 0, target.flags.get("x-max-priority", 0))
            what = (exchange, key, props, body, self.clock + life / 1000)
            heapq.heappush(target.ready, _Stored((-rank, next(self.count)), *what))
            self.dispatch(target)
        return len(reached)

    def dispatch(self, queue: _Queue) -> None:
        """Bury heads whose time has come; deliver to consumers in turn, with room."""
        idle = 0
        while queue.ready:
            if queue.due() <= self.clock:
                self.bury(queue, heapq.heappop(queue.ready), "expired")
            elif idle == len(queue.subs):
                break
            else:
                queue.subs.rotate(-1)
                sub, idle = queue.subs[-1], idle + 1
                if sub.holds < sub.limit:
                    idle = 0
                    sub.channel.deliver(queue, sub.auto_ack, sub)

    def requeue(self, queue: _Queue, stored: _Stored) -> None:
        """Put a delivered message back in its place, unless it came back too often."""
        stored.redelivered = True
        if queue.flags.get("x-queue-type") == "quorum":
            stored.props, headers = _with_headers(stored.props)
            headers["x-delivery-count"] = headers.get("x-delivery-count", 0) + 1
            if headers["x-delivery-count"] > queue.flags.get("x-delivery-limit", inf):
                return self.bury(queue, stored, "delivery_limit")
        heapq.heappush(queue.ready, stored)
        return self.dispatch(queue)

    def bury(self, queue: _Queue, stored: _Stored, reason: str) -> None:
        """Dead-letter a message with RabbitMQ's x-death, or drop it without a DLX."""
        exchange = queue.flags.get("x-dead-letter-exchange")
        if exchange not in self.exchanges:
            return
        props, headers = _with_headers(stored.props)
        headers.pop("x-delivery-count", None)
        first = {"reason": reason, "queue": queue.name, "exchange": stored.exchange}
        when = self.started + timedelta(seconds=int(self.clock))
        death: Flags = {"count": 0, "time": when, "routing-keys": [stored.key]} | first
        if props.expiration is not None:
            death["original-expiration"] = props.expiration
            props.expiration = None  # or it would expire in the next queue as well
        others = []
        for old in headers.get("x-death", []):
            if (old["queue"], old["reason"]) == (queue.name, reason):
                death = dict(old)
            else:
                others.append(old)
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
            sub.channel.send(spec.Basic.Cancel(sub.tag, nowait=True))
        for _, bindings in self.exchanges.values():
            bindings -= {bound for bound in bindings if bound[0] == queue.name}


def _with_headers(props: Any) -> tuple[Any, Flags]:
    """Return a copy of properties, and its headers, which may be changed."""
    props = copy.copy(props)
    props.headers = dict(props.headers or {})
    return props, props.headers


class _Session:
    """A client of the stand-in: AMQP frames in, replies out."""

    def __init__(self, broker: Broker, writer: StreamWriter) -> None:
        self.broker, self.transport = broker, writer.transport
        self.received, self.to_send = bytearray(), list[bytes]()
        self.channels: dict[int, _Channel] = {}
        self.last_seen = time.monotonic()

    def end(self) -> None:
        """Put back what is unacknowledged, delete what was exclusive."""
        for channel in list(self.channels.values()):
            channel.channel_close()
        for queue in [q for q in self.broker.queues.values() if q.owner is self]:
            self.broker.delete(queue)

    def receive(self, data: bytes) -> None:
        """Handle the frames that have arrived whole, then confirm in one go."""
        self.last_seen = time.monotonic()
        self.received += data
        done = 0
        if self.received.startswith(b"AMQP"):
            done = 8
            able = ("publisher_confirms", "basic.nack", "consumer_cancel_notify")
            about: Flags = {"product": "stand-in", "version": self.broker.version}
            about |= {"capabilities": dict.fromkeys(able, True)}
            self.send(0, spec.Connection.Start(server_properties=about))
        while len(self.received) >= done + 8:
            end = done + 8 + int.from_bytes(self.received[done + 3 : done + 7], "big")
            if end > len(self.received):
                break
            self.take(bytes(self.received[done:end]))
            done = end
        del self.received[:done]
        for channel in self.channels.values():
            if owed := channel.owed:
                channel.owed = 0
                channel.send(spec.Basic.Ack(channel.published, multiple=owed > 1))

    def take(self, data: bytes) -> None:
        """Handle one frame; an error closes the channel, a worse one all of them."""
        try:
            _, one = frame.decode_frame(data)
            number, method = one.channel_number, getattr(one, "method", None)
            if isinstance(method, spec.Channel.Open):
                self.channels[number] = _Channel(self, number)
            to: Any = self.channels.get(number) if number else self
            if to and method:
                family, verb = method.NAME.split(".")
                fields = getattr(to, f"{family}_{verb}".lower())(method)
                if fields is not None and not getattr(method, "nowait", False):
                    reply = getattr(getattr(spec, family), verb + "Ok")
                    self.send(number, reply(*fields))
            elif to and number:
                to.take_content(one)
        except _Refused as refusal:
            if not number:
                return self.fail(*refusal.args)
            asked: Any = method or spec.Basic.Publish
            index = divmod(asked.INDEX, 1 << 16)
            self.send(number, spec.Channel.Close(*refusal.args, *index))
            self.channels[number].channel_close()
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

    # From here on, a handler for each method that a client may send: what concerns
    # the connection here, the rest in _Channel. It returns the fields of the reply.

    def connection_startok(self, ask: Any) -> None:
        if ask.response not in ("\0guest\0guest", b"\0guest\0guest"):
            raise _Refused(403, "ACCESS_REFUSED - Login was refused")
        self.send(0, spec.Connection.Tune(2047, 131072, 60))

    def connection_tuneok(self, ask: Any) -> None:
        if ask.heartbeat:
            self.beat(ask.heartbeat)

    def connection_open(self, ask: Any) -> Fields:
        if ask.virtual_host != "/":
            raise _Refused(530, f"NOT_ALLOWED - vhost {ask.virtual_host} not found")
        return ()

    def connection_close(self, ask: Any) -> None:
        self.send(0, spec.Connection.CloseOk())
        self.connection_closeok(ask)

    def connection_closeok(self, _: Any) -> None:
        self.flush()
        self.transport.close()


class _Channel:
    """A channel of a client; handlers as above."""

    def __init__(self, session: _Session, number: int) -> None:
        self.session, self.broker = session, session.broker
        self.send = partial(session.send, number)
        self.number, self.prefetch, self.confirms = number, 0, False
        self.tag = self.published = self.owed = 0  # confirms owed; one settles them all
        self.content: list[Any] = []  # a publish, its header, its body's parts
        self.unacked: dict[int, tuple[_Queue, _Stored, _Sub | None]] = {}

    def channel_open(self, _: Any) -> Fields:
        return ()

    def channel_close(self, _: Any = None) -> Fields:
        del self.session.channels[self.number]
        for queue in self.broker.queues.values():
            queue.forget(self)
        for queue, stored, _sub in self.unacked.values():
            queue.unacked -= 1
            self.broker.requeue(queue, stored)
        return ()

    def exchange_declare(self, ask: Any) -> Fields:
        flags = {"type": ask.type, "durable": ask.durable}
        flags |= {"auto_delete": ask.auto_delete} | (ask.arguments or {})
        if not ask.passive:
            self.broker.exchanges.setdefault(ask.exchange, (flags, set()))
        known, _ = self.broker.exchange(ask.exchange)
        if not ask.passive:
            _require_same("exchange", ask.exchange, flags, known)
        return ()

    def exchange_delete(self, ask: Any) -> Fields:
        self.broker.exchanges.pop(ask.exchange, None)
        return ()

    def find(self, name: str) -> _Queue:
        """Return a queue that exists."""
        if not (queue := self.broker.queues.get(name)):
            raise _Refused(404, f"NOT_FOUND - no queue '{name}' in vhost '/'")
        return queue

    def queue_declare(self, ask: Any) -> Fields:
        name = ask.queue or f"amq.gen-{uuid.uuid4().hex}"
        flags = {"durable": ask.durable, "auto_delete": ask.auto_delete}
        flags |= ask.arguments or {}
        if not ask.passive:
            new = _Queue(name, flags, self.session if ask.exclusive else None)
            self.broker.queues.setdefault(name, new)
        queue = self.find(name)
        if not ask.passive:
            _require_same("queue", name, flags, queue.flags)
        return (name, len(queue.ready), len(queue.subs))

    def queue_bind(self, ask: Any) -> Fields:
        self.find(ask.queue)
        _, bindings = self.broker.exchange(ask.exchange)
        bindings.add((ask.queue, ask.routing_key))
        return ()

    def queue_delete(self, ask: Any) -> Fields:
        if ask.queue not in self.broker.queues:
            return (0,)
        self.broker.delete(queue := self.find(ask.queue))
        return (len(queue.ready),)

    def basic_qos(self, ask: Any) -> Fields:
        if ask.global_qos:
            raise _Refused(540, "NOT_IMPLEMENTED - a global prefetch")
        self.prefetch = ask.prefetch_count
        return ()

    def basic_consume(self, ask: Any) -> None:
        queue = self.find(ask.queue)
        limit = inf if ask.no_ack else self.prefetch or inf
        queue.subs.append(_Sub(self, ask.consumer_tag, limit, ask.no_ack))
        self.send(spec.Basic.ConsumeOk(ask.consumer_tag))
        self.broker.dispatch(queue)

    def basic_cancel(self, ask: Any) -> Fields:
        for queue in self.broker.queues.values():
            queue.forget(self, ask.consumer_tag)
        return (ask.consumer_tag,)

    def basic_get(self, ask: Any) -> None:
        self.broker.dispatch(queue := self.find(ask.queue))
        if queue.ready:
            self.deliver(queue, ask.no_ack)
        else:
            self.send(spec.Basic.GetEmpty())

    def deliver(self, queue: _Queue, auto_ack: bool, sub: _Sub | None = None) -> None:
        """Send the head of a queue to a consumer, or as the answer to a get."""
        stored, self.tag = heapq.heappop(queue.ready), self.tag + 1
        came = (self.tag, stored.redelivered, stored.exchange, stored.key)
        if not auto_ack:
            self.unacked[self.tag] = (queue, stored, sub)
            queue.unacked += 1
            if sub:
                sub.holds += 1
        method: Any = spec.Basic.GetOk(*came, len(queue.ready))
        if sub:
            method = spec.Basic.Deliver(sub.tag, *came)
        self.send(method, stored.props, stored.body)

    def settled(self, ask: Any) -> list[tuple[_Queue, _Stored]]:
        """Return what an ack, nack or reject is about, no longer in hand."""
        tag = ask.delivery_tag
        tags = [tag]
        if getattr(ask, "multiple", False):
            tags = [one for one in self.unacked if one <= tag or tag == 0]
        elif tag not in self.unacked:
            raise _Refused(406, f"PRECONDITION_FAILED - unknown delivery tag {tag}")
        found = [self.unacked.pop(one) for one in tags]
        for queue, _, sub in found:
            queue.unacked -= 1
            if sub:
                sub.holds -= 1
        return [(queue, stored) for queue, stored, _ in found]

    def basic_ack(self, ask: Any) -> None:
        for queue in {queue for queue, _ in self.settled(ask)}:
            self.broker.dispatch(queue)

    def basic_nack(self, ask: Any) -> None:
        for queue, stored in self.settled(ask):
            if ask.requeue:
                self.broker.requeue(queue, stored)
            else:
                self.broker.bury(queue, stored, "rejected")
                self.broker.dispatch(queue)

    basic_reject = basic_nack

    def confirm_select(self, _: Any) -> Fields:
        self.confirms = True
        return ()

    def basic_publish(self, ask: Any) -> None:
        self.content = [ask]

    def take_content(self, one: Any) -> None:
        """Route a message once its header and its body have all arrived."""
        self.content.append(one)
        ask, header, *parts = self.content
        if sum(len(part.fragment) for part in parts) < header.body_size:
            return
        props, body = header.properties, b"".join(part.fragment for part in parts)
        routed = self.broker.route(ask.exchange, ask.routing_key, props, body)
        if ask.mandatory and not routed:
            where = (ask.exchange, ask.routing_key)
            self.send(spec.Basic.Return(312, "NO_ROUTE", *where), props, body)
        self.published += self.confirms
        self.owed += self.confirms
