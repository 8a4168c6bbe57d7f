"""The stand-in for RabbitMQ: AMQP 0-9-1 on pika's own codec, on a loopback port.

It models what the lesson relies on: routing, confirms, returns, prefetch, redelivery,
priorities, expiry and dead letters. It has no disk, no cluster, and one user.
"""

from __future__ import annotations

import heapq
import time
import uuid
from asyncio import StreamReader, StreamWriter
from functools import partial
from math import inf
from typing import Any

from pika import frame, spec

from course.network import LoopbackServer
from course.standins.amqp_queues import (
    Exchange,
    Flags,
    Queues,
    Refused,
    Stored,
    StoredQueue,
    Subscription,
    require_same,
)

Fields = tuple[Any, ...]  # of a method of AMQP
HeldMessage = tuple[StoredQueue, Stored, Subscription | None]  # by whom; None for a get
LOGIN = "\0guest\0guest"
USER = "guest"  # the only one there is
LARGEST_FRAME = 131_072  # bytes
LARGEST_PART = 100_000  # bytes of a body in one frame
MOST_CHANNELS = 2047
HEARTBEAT = 60  # seconds
ABILITIES = ("publisher_confirms", "basic.nack", "consumer_cancel_notify")
PROTOCOL_HEADER = 8  # bytes


class Broker(Queues, LoopbackServer):
    """The stand-in: RabbitMQ's contract on a loopback port, without its durability."""

    version = "3.10"

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Answer one client until it goes."""
        session = Session(self, writer)
        try:
            while data := await reader.read(65536):
                session.receive(data)
        finally:
            session.end()

    def step(self) -> None:
        """Jump to the next expiry if nobody is at work, else let them work."""

        async def jump() -> bool:
            return self.jump()

        if not self.call(jump):
            time.sleep(0.001)


class Session:
    """A client of the stand-in: AMQP frames in, replies out."""

    def __init__(self, broker: Broker, writer: StreamWriter) -> None:
        self.broker = broker
        self.transport = writer.transport
        self.received = bytearray()
        self.to_send: list[bytes] = []
        self.channels: dict[int, Channel] = {}
        self.last_seen = time.monotonic()

    def end(self) -> None:
        """Put back what is unacknowledged, delete what was exclusive."""
        for channel in list(self.channels.values()):
            channel.channel_close()
        for queue in list(self.broker.queues.values()):
            if queue.owner is self:
                self.broker.remove(queue)

    def receive(self, data: bytes) -> None:
        """Handle the frames that have arrived whole, then confirm in one go."""
        self.last_seen = time.monotonic()
        self.received += data
        done = 0
        if self.received.startswith(b"AMQP"):
            done = PROTOCOL_HEADER
            self.introduce_ourselves()
        # A frame: 7 bytes of head, the last 4 of them its size, and one at its end.
        while len(self.received) >= done + 8:
            head = self.received[done : done + 7]
            size = int.from_bytes(head[3:], "big")
            end = done + 8 + size
            if end > len(self.received):
                break
            self.handle(bytes(self.received[done:end]))
            done = end
        del self.received[:done]
        for channel in self.channels.values():
            channel.confirm_what_is_owed()

    def introduce_ourselves(self) -> None:
        """Say which broker this is, and what it can do."""
        about: Flags = {"product": "stand-in", "version": self.broker.version}
        about["capabilities"] = dict.fromkeys(ABILITIES, True)
        self.send(0, spec.Connection.Start(server_properties=about))

    def handle(self, data: bytes) -> None:
        """Handle one frame; an error closes the channel, a worse one all of them."""
        try:
            _, one = frame.decode_frame(data)
            method = getattr(one, "method", None)
            number = one.channel_number
            try:
                self.handle_frame(one, method, number)
            except Refused as refusal:
                self.refuse(refusal, method, number)
        except Exception as error:  # whatever a client sends, the broker lives on
            self.fail(541, f"INTERNAL_ERROR - {type(error).__name__}")

    def handle_frame(self, one: Any, method: Any, number: int) -> None:
        """Call the handler of a method; send what it returns, if it does."""
        if isinstance(method, spec.Channel.Open):
            self.channels[number] = Channel(self, number)
        target: Any = self.channels.get(number) if number else self
        if target is None:
            return
        if method:
            family, verb = method.NAME.split(".")
            handler = getattr(target, f"{family}_{verb}".lower())
            fields = handler(method)
            if fields is not None and not getattr(method, "nowait", False):
                reply = getattr(getattr(spec, family), verb + "Ok")
                self.send(number, reply(*fields))
        elif number:
            target.take_content(one)

    def refuse(self, refusal: Refused, method: Any, number: int) -> None:
        """Close the channel, or the connection if it concerns all of it."""
        if not number:
            self.fail(*refusal.args)
            return
        asked: Any = method or spec.Basic.Publish
        numbers = divmod(asked.INDEX, 1 << 16)  # of its class, of the method
        why = spec.Channel.Close(*refusal.args, *numbers)
        self.send(number, why)
        self.channels[number].channel_close()

    def send(
        self,
        number: int,
        method: Any,
        properties: Any = None,
        body: bytes = b"",
    ) -> None:
        """Queue a method, and a message if it carries one; all leave in one go."""
        if not self.to_send:
            self.broker.loop.call_soon(self.flush)
        frames = [frame.Method(number, method)]
        if properties is not None:
            size = len(body)
            frames.append(frame.Header(number, size, properties))
            for at in range(0, size, LARGEST_PART):
                part = body[at : at + LARGEST_PART]
                frames.append(frame.Body(number, part))
        for one in frames:
            self.to_send.append(one.marshal())

    def flush(self) -> None:
        """Write what has been queued."""
        self.transport.write(b"".join(self.to_send))
        self.to_send.clear()

    def fail(self, code: int, text: str) -> None:
        """Close the connection with an error."""
        why = spec.Connection.Close(code, text, 0, 0)
        self.send(0, why)

    def beat(self, interval: float) -> None:
        """Send heartbeats; hang up on a client that misses two of its own."""
        if time.monotonic() - self.last_seen > 2 * interval:
            self.transport.abort()
        elif not self.transport.is_closing():
            self.transport.write(frame.Heartbeat().marshal())
            self.broker.loop.call_later(interval / 2, self.beat, interval)

    # From here on, a handler for each method that a client may send: what concerns
    # the connection here, the rest in Channel. It returns the fields of the reply.

    def connection_startok(self, ask: Any) -> None:
        """Accept the only login there is."""
        if ask.response not in (LOGIN, LOGIN.encode()):
            raise Refused(403, "ACCESS_REFUSED - Login was refused")
        limits = spec.Connection.Tune(MOST_CHANNELS, LARGEST_FRAME, HEARTBEAT)
        self.send(0, limits)

    def connection_tuneok(self, ask: Any) -> None:
        """Begin the heartbeats that were agreed on."""
        if ask.heartbeat:
            self.beat(ask.heartbeat)

    def connection_open(self, ask: Any) -> Fields:
        """Open the only vhost there is."""
        if ask.virtual_host != "/":
            raise Refused(530, f"NOT_ALLOWED - vhost {ask.virtual_host} not found")
        return ()

    def connection_close(self, ask: Any) -> None:
        """Say goodbye and close."""
        self.send(0, spec.Connection.CloseOk())
        self.connection_closeok(ask)

    def connection_closeok(self, _: Any) -> None:
        """Close."""
        self.flush()
        self.transport.close()


def refuse_odd(properties: Any, user: str) -> None:
    """Refuse what RabbitMQ refuses of a message, in its words."""
    expiration = properties.expiration
    if expiration is not None and not expiration.isdecimal():
        reason = f"invalid expiration '{expiration}': no_integer"
        raise Refused(406, f"PRECONDITION_FAILED - {reason}")
    if properties.user_id not in (None, user):
        reason = f"user_id property set to '{properties.user_id}'"
        reason += f" but authenticated user was '{user}'"
        raise Refused(406, f"PRECONDITION_FAILED - {reason}")


class Channel:
    """A channel of a client; handlers as above."""

    def __init__(self, session: Session, number: int) -> None:
        self.session = session
        self.broker = session.broker
        self.send = partial(session.send, number)
        self.number = number
        self.prefetch = 0
        self.tag = 0  # of the last delivery
        self.confirms = False
        self.published = 0  # since the confirms began
        self.owed = 0  # confirms; one settles them all
        self.content: list[Any] = []  # a publish, its header, its body's parts
        self.unacked: dict[int, HeldMessage] = {}

    def confirm_what_is_owed(self) -> None:
        """Confirm all that was published since the last confirm."""
        if self.owed:
            several = self.owed > 1
            self.owed = 0
            self.send(spec.Basic.Ack(self.published, multiple=several))

    def cancelled(self, tag: str) -> None:
        """Tell a consumer that its queue is gone."""
        self.send(spec.Basic.Cancel(tag, nowait=True))

    def channel_open(self, _: Any) -> Fields:
        """Agree."""
        return ()

    def channel_close(self, _: Any = None) -> Fields:
        """End the consumers, and put back what is unacknowledged."""
        del self.session.channels[self.number]
        for queue in self.broker.queues.values():
            queue.forget(self)
        for queue, stored, _subscription in self.unacked.values():
            queue.unacked -= 1
            self.broker.requeue(queue, stored)
        return ()

    def exchange_declare(self, ask: Any) -> Fields:
        """Make an exchange, or see that it is as asked for."""
        flags = {
            "type": ask.type,
            "durable": ask.durable,
            "auto_delete": ask.auto_delete,
        } | (ask.arguments or {})
        if ask.passive:
            self.broker.exchange(ask.exchange)
        else:
            new = Exchange(flags)
            known = self.broker.exchanges.setdefault(ask.exchange, new)
            require_same("exchange", ask.exchange, flags, known.flags)
        return ()

    def exchange_delete(self, ask: Any) -> Fields:
        """Remove an exchange, if it is there."""
        self.broker.exchanges.pop(ask.exchange, None)
        return ()

    def queue_declare(self, ask: Any) -> Fields:
        """Make a queue, or see that it is as asked for; say what is in it."""
        name = ask.queue or f"amq.gen-{uuid.uuid4().hex}"
        flags = {"durable": ask.durable, "auto_delete": ask.auto_delete}
        flags |= ask.arguments or {}
        if not ask.passive:
            owner = self.session if ask.exclusive else None
            new = StoredQueue(name, flags, owner)
            known = self.broker.queues.setdefault(name, new)
            require_same("queue", name, flags, known.flags)
        queue = self.broker.queue(name)
        return (name, len(queue.ready), len(queue.subscriptions))

    def queue_bind(self, ask: Any) -> Fields:
        """Bind a queue to an exchange."""
        self.broker.queue(ask.queue)
        exchange = self.broker.exchange(ask.exchange)
        exchange.bindings.add((ask.queue, ask.routing_key))
        return ()

    def queue_purge(self, ask: Any) -> Fields:
        """Drop what is ready in a queue; say how much that was."""
        queue = self.broker.queue(ask.queue)
        count = len(queue.ready)
        queue.ready.clear()
        return (count,)

    def queue_delete(self, ask: Any) -> Fields:
        """Remove a queue, if it is there; say how much was in it."""
        if ask.queue not in self.broker.queues:
            return (0,)
        queue = self.broker.queue(ask.queue)
        self.broker.remove(queue)
        return (len(queue.ready),)

    def basic_qos(self, ask: Any) -> Fields:
        """Limit what the next consumers have in hand."""
        if ask.global_qos:
            raise Refused(540, "NOT_IMPLEMENTED - a global prefetch")
        self.prefetch = ask.prefetch_count
        return ()

    def basic_consume(self, ask: Any) -> None:
        """Begin to deliver."""
        queue = self.broker.queue(ask.queue)
        limit = self.prefetch or inf
        if ask.no_ack:
            limit = inf
        one = Subscription(self, ask.consumer_tag, limit, ask.no_ack)
        queue.subscriptions.append(one)
        self.send(spec.Basic.ConsumeOk(ask.consumer_tag))
        self.broker.dispatch(queue)

    def basic_cancel(self, ask: Any) -> Fields:
        """Deliver no more; what is in hand may still be acknowledged."""
        for queue in self.broker.queues.values():
            queue.forget(self, ask.consumer_tag)
        return (ask.consumer_tag,)

    def basic_get(self, ask: Any) -> None:
        """Deliver one message, or say that there is none."""
        queue = self.broker.queue(ask.queue)
        self.broker.dispatch(queue)
        if queue.ready:
            self.deliver(queue, ask.no_ack)
        else:
            self.send(spec.Basic.GetEmpty())

    def deliver(
        self, queue: StoredQueue, auto_ack: bool, to: Subscription | None = None
    ) -> None:
        """Send the head of a queue to a consumer, or as the answer to a get."""
        stored = heapq.heappop(queue.ready)
        self.tag += 1
        if not auto_ack:
            self.unacked[self.tag] = (queue, stored, to)
            queue.unacked += 1
            if to:
                to.holds += 1
        came = (self.tag, stored.redelivered, stored.exchange, stored.key)
        method: Any = spec.Basic.GetOk(*came, len(queue.ready))
        if to:
            method = spec.Basic.Deliver(to.tag, *came)
        self.send(method, stored.properties, stored.body)

    def settled(self, ask: Any) -> list[tuple[StoredQueue, Stored]]:
        """Return what an ack, nack or reject is about, no longer in hand."""
        tag = ask.delivery_tag
        if getattr(ask, "multiple", False):
            tags = [one for one in self.unacked if one <= tag or tag == 0]
        elif tag in self.unacked:
            tags = [tag]
        else:
            raise Refused(406, f"PRECONDITION_FAILED - unknown delivery tag {tag}")
        found = []
        for one in tags:
            queue, stored, subscription = self.unacked.pop(one)
            queue.unacked -= 1
            if subscription:
                subscription.holds -= 1
            found.append((queue, stored))
        return found

    def basic_ack(self, ask: Any) -> None:
        """Forget messages; their consumers have room for others."""
        for queue in {queue for queue, _ in self.settled(ask)}:
            self.broker.dispatch(queue)

    def basic_nack(self, ask: Any) -> None:
        """Put messages back, or bury them."""
        for queue, stored in self.settled(ask):
            if ask.requeue:
                self.broker.requeue(queue, stored)
            else:
                self.broker.bury(queue, stored, "rejected")
                self.broker.dispatch(queue)

    basic_reject = basic_nack

    def confirm_select(self, _: Any) -> Fields:
        """Confirm what is published from here on."""
        self.confirms = True
        return ()

    def basic_publish(self, ask: Any) -> None:
        """Begin a message; its header and body follow in frames of their own."""
        self.content = [ask]

    def take_content(self, one: Any) -> None:
        """Route a message once its header and its body have all arrived."""
        self.content.append(one)
        ask, header, *parts = self.content
        if sum(len(part.fragment) for part in parts) < header.body_size:
            return
        body = b"".join(part.fragment for part in parts)
        properties = header.properties
        refuse_odd(properties, USER)
        routed = self.broker.route(ask.exchange, ask.routing_key, properties, body)
        if ask.mandatory and not routed:
            where = (ask.exchange, ask.routing_key)
            back = spec.Basic.Return(312, "NO_ROUTE", *where)
            self.send(back, properties, body)
        if self.confirms:
            self.published += 1
            self.owed += 1
