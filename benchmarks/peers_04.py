"""How others publish to RabbitMQ, each as its documentation or its maintainer says.

All publish the same messages: exchange, key, body and properties as the lesson makes
them, persistent and mandatory. `prepared` turns them into what a client takes, which is
not timed. `publish` returns when the broker has answered for all of them, and where
there are no confirms, when it has answered a question that came after them.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from typing import Any, Protocol

import aio_pika
import pika

# Half typed: their names are neither exported nor annotated.
amqpstorm: Any = import_module("amqpstorm")
kombu: Any = import_module("kombu")

LIMIT = 60.0  # seconds that anything may take
WINDOW = 1000  # publishes that wait for their confirms, as in the lesson's Producer

Message = tuple[str, str, bytes, Any]  # exchange, key, body, pika's properties


def about(message: Message) -> dict[str, Any]:
    """Return a message's properties, by the names that most clients have for them."""
    properties = message[3]
    return {
        "message_id": properties.message_id,
        "content_type": properties.content_type,
        "delivery_mode": properties.delivery_mode,
        "headers": properties.headers,
        "type": properties.type,
    }


class Publisher(Protocol):
    """A client with a connection of its own."""

    def prepared(self, messages: Sequence[Message]) -> Sequence[Any]: ...

    def publish(self, ready: Sequence[Any]) -> None: ...

    def close(self) -> None: ...


def serve(connection: Any) -> None:
    """Serve a SelectConnection until its loop is stopped, at most for LIMIT."""

    def give_up() -> None:
        raise TimeoutError(f"not done within {LIMIT:g} s")

    limit = connection.ioloop.call_later(LIMIT, give_up)
    connection.ioloop.start()
    connection.ioloop.remove_timeout(limit)


class SelectWindow:
    """A window of confirms by hand, on pika's SelectConnection, in this thread."""

    def __init__(self, parameters: Any) -> None:
        self.waiting: Iterator[Message] = iter(())
        self.unconfirmed: set[int] = set()
        self.first_open = 1  # or confirmed alone, from here on
        self.tag = 0
        self.connection: Any = pika.SelectConnection(parameters, self.on_open)
        serve(self.connection)

    def on_open(self, connection: Any) -> None:
        connection.channel(on_open_callback=self.on_channel)

    def on_channel(self, channel: Any) -> None:
        self.channel = channel
        channel.add_on_return_callback(self.on_return)
        stop = self.connection.ioloop.stop
        channel.confirm_delivery(self.on_confirm, callback=lambda _: stop())

    def prepared(self, messages: Sequence[Message]) -> Sequence[Any]:
        return messages

    def publish(self, ready: Sequence[Any]) -> None:
        self.waiting = iter(ready)
        self.fill()
        serve(self.connection)

    def fill(self) -> None:
        """Publish until the window is full or nothing is left."""
        room = WINDOW - len(self.unconfirmed)
        for message in itertools.islice(self.waiting, room):
            self.channel.basic_publish(*message, mandatory=True)
            self.tag += 1
            self.unconfirmed.add(self.tag)

    def on_confirm(self, frame: Any) -> None:
        method = frame.method
        if isinstance(method, pika.spec.Basic.Nack):
            raise RuntimeError("the broker refused a message")
        tag = method.delivery_tag
        if method.multiple:
            self.unconfirmed.difference_update(range(self.first_open, tag + 1))
            self.first_open = tag + 1
        else:
            self.unconfirmed.discard(tag)
        self.fill()
        if not self.unconfirmed:
            self.connection.ioloop.stop()

    def on_return(self, *_: Any) -> None:
        raise RuntimeError("no queue took a message")

    def close(self) -> None:
        stop = self.connection.ioloop.stop
        self.connection.add_on_close_callback(lambda *_: stop())
        self.connection.close()
        serve(self.connection)
        self.connection.ioloop.close()


class Blocking:
    """pika's BlockingChannel, which waits for each confirm or asks for none."""

    def __init__(self, parameters: Any, confirms: bool) -> None:
        self.connection = pika.BlockingConnection(parameters)
        self.channel: Any = self.connection.channel()
        self.confirms = confirms
        if confirms:
            self.channel.confirm_delivery()

    def prepared(self, messages: Sequence[Message]) -> Sequence[Any]:
        return messages

    def publish(self, ready: Sequence[Any]) -> None:
        for message in ready:
            self.channel.basic_publish(*message, mandatory=True)
        if not self.confirms:
            self.channel.queue_declare(ready[0][1], passive=True)

    def close(self) -> None:
        self.connection.close()


class Kombu:
    """kombu's Producer over py-amqp, which waits for each confirm or asks for none."""

    def __init__(self, url: str, confirms: bool) -> None:
        options = {"confirm_publish": confirms}
        self.connection = kombu.Connection(url, transport_options=options)
        self.producer = self.connection.Producer(serializer=None, auto_declare=False)
        self.confirms = confirms

    def prepared(self, messages: Sequence[Message]) -> Sequence[Any]:
        """Return the body and the options of each."""
        rest = {"mandatory": True, "content_encoding": "utf-8"}
        return [
            (body, {"routing_key": key, **rest, **about((exchange, key, body, more))})
            for exchange, key, body, more in messages
        ]

    def publish(self, ready: Sequence[Any]) -> None:
        for body, options in ready:
            self.producer.publish(body, **options)
        if not self.confirms:
            queue = ready[0][1]["routing_key"]
            self.producer.channel.queue_declare(queue, passive=True)

    def close(self) -> None:
        self.connection.release()


class KombuWindow:
    """A window of py-amqp's confirms, on a channel of kombu's.

    kombu itself has only a confirm for each; the channel below calls back.
    """

    def __init__(self, url: str) -> None:
        self.connection = kombu.Connection(url)
        self.channel = self.connection.channel()
        self.channel.confirm_select()
        self.channel.events["basic_ack"].add(self.on_ack)
        self.channel.events["basic_nack"].add(self.on_nack)
        self.unconfirmed: set[int] = set()
        self.first_open = 1  # or confirmed alone, from here on
        self.tag = 0

    def prepared(self, messages: Sequence[Message]) -> Sequence[Any]:
        ready = []
        for message in messages:
            more = about(message)
            headers = more.pop("headers")
            kind = more.pop("content_type")
            prepare = self.channel.prepare_message
            made = prepare(message[2], None, kind, "utf-8", headers, more)
            ready.append((message[1], made))
        return ready

    def publish(self, ready: Sequence[Any]) -> None:
        for key, message in ready:
            while len(self.unconfirmed) >= WINDOW:
                self.connection.drain_events(timeout=LIMIT)
            self.tag += 1
            self.unconfirmed.add(self.tag)
            self.channel.basic_publish(message, "", key, mandatory=True)
        while self.unconfirmed:
            self.connection.drain_events(timeout=LIMIT)

    def on_ack(self, tag: int, multiple: bool) -> None:
        if multiple:
            self.unconfirmed.difference_update(range(self.first_open, tag + 1))
            self.first_open = tag + 1
        else:
            self.unconfirmed.discard(tag)

    def on_nack(self, tag: int, multiple: bool) -> None:
        raise RuntimeError("the broker refused a message")

    def close(self) -> None:
        self.connection.release()


class Storm:
    """amqpstorm's Channel: a confirm each, none, or a transaction for each batch.

    The last is what its maintainer recommends for batches (its issue 116): a confirm is
    polled for every 10 ms.
    """

    def __init__(self, url: str, mode: str) -> None:
        self.connection = amqpstorm.UriConnection(url)
        self.channel = self.connection.channel()
        self.mode = mode
        if mode == "confirms":
            self.channel.confirm_deliveries()

    def prepared(self, messages: Sequence[Message]) -> Sequence[Any]:
        ready = []
        for message in messages:
            properties = about(message)
            properties["message_type"] = properties.pop("type")
            ready.append((message[2], message[1], "", properties, True))
        return ready

    def publish(self, ready: Sequence[Any]) -> None:
        if self.mode == "transactions":
            for start in range(0, len(ready), WINDOW):
                with self.channel.tx:
                    self.send(ready[start : start + WINDOW])
            return
        self.send(ready)
        if self.mode == "nothing":
            self.channel.queue.declare(ready[0][1], passive=True)

    def send(self, ready: Sequence[Any]) -> None:
        for message in ready:
            self.channel.basic.publish(*message)
        self.channel.check_for_errors()

    def close(self) -> None:
        self.connection.close()


class AioPika:
    """aio-pika, whose publish is awaited until its confirm: so many tasks at a time.

    With `sliding`, each task takes the next message as soon as its own is confirmed.
    Else all of a batch are gathered before the next one begins.
    """

    def __init__(self, url: str, tasks: int, sliding: bool = True) -> None:
        self.tasks = tasks
        self.sliding = sliding
        self.loop = asyncio.new_event_loop()
        self.loop.run_until_complete(self.open(url))

    async def open(self, url: str) -> None:
        self.connection: Any = await aio_pika.connect(url)
        channel = await self.connection.channel()
        self.exchange = channel.default_exchange

    def prepared(self, messages: Sequence[Message]) -> Sequence[Any]:
        return [
            (aio_pika.Message(message[2], **about(message)), message[1])
            for message in messages
        ]

    def publish(self, ready: Sequence[Any]) -> None:
        way = self.slide if self.sliding else self.gather
        self.loop.run_until_complete(way(ready))

    async def gather(self, ready: Sequence[Any]) -> None:
        for start in range(0, len(ready), self.tasks):
            batch = ready[start : start + self.tasks]
            await asyncio.gather(*(self.exchange.publish(*one) for one in batch))

    async def slide(self, ready: Sequence[Any]) -> None:
        waiting = iter(ready)

        async def work() -> None:
            for one in waiting:
                await self.exchange.publish(*one)

        await asyncio.gather(*(work() for _ in range(self.tasks)))

    def close(self) -> None:
        self.loop.run_until_complete(self.connection.close())
        self.loop.close()


def publishers(parameters: Any, url: str) -> dict[str, Callable[[], Publisher]]:
    """Return how to open each publisher, by its name."""
    return {
        "SelectConnection, a window by hand": partial(SelectWindow, parameters),
        "kombu, a window of py-amqp": partial(KombuWindow, url),
        "amqpstorm, transactions of 1000": partial(Storm, url, "transactions"),
        "aio-pika, gather of 1000": partial(AioPika, url, 1000, sliding=False),
        "aio-pika, 100 sliding tasks": partial(AioPika, url, 100),
        "aio-pika, 1000 sliding tasks": partial(AioPika, url, 1000),
        "pika, confirm each": partial(Blocking, parameters, True),
        "kombu, confirm each": partial(Kombu, url, True),
        "aio-pika, confirm each": partial(AioPika, url, 1),
        "amqpstorm, confirm each": partial(Storm, url, "confirms"),
        "pika, no confirms (may lose)": partial(Blocking, parameters, False),
        "kombu, no confirms (may lose)": partial(Kombu, url, False),
        "amqpstorm, no confirms (may lose)": partial(Storm, url, "nothing"),
    }
