"""How others read from RabbitMQ, each as its own documentation says.

Each reads every body as JSON and acknowledges each message. The clock runs from the
first message until the broker has answered what came after the last acknowledgement.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import aio_pika
import pika
from peers_04 import LIMIT, amqpstorm, kombu, serve

PREFETCH = 300

Read = Callable[[bytes], object]


class Stopwatch:
    """Times so many messages, from the first; any thread may tick."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.numbers = itertools.count(1)
        self.start = 0.0
        self.end = 0.0
        self.done = threading.Event()

    def tick(self) -> bool:
        """Count one; tell whether it was the last."""
        number = next(self.numbers)
        if number == 1:
            self.start = time.perf_counter()
        if number == self.count:
            self.done.set()
        return number == self.count

    def stop(self) -> float:
        """Return messages per second; all acknowledgements are with the broker."""
        self.end = time.perf_counter()
        assert self.done.is_set()
        return (self.count - 1) / (self.end - self.start)


def consume_select(
    parameters: Any,
    queue: str,
    count: int,
    prefetch: int = PREFETCH,
    read: Read = json.loads,
) -> float:
    """Consume with the plainest loop on pika's SelectConnection."""
    watch = Stopwatch(count)
    rates = []

    def on_message(channel: Any, method: Any, _: Any, body: bytes) -> None:
        read(body)
        channel.basic_ack(method.delivery_tag)
        if watch.tick():
            channel.basic_cancel(method.consumer_tag, on_cancelled)

    def on_cancelled(_: Any) -> None:
        rates.append(watch.stop())
        connection.close()

    def on_channel(channel: Any) -> None:
        channel.basic_qos(prefetch_count=prefetch)
        channel.basic_consume(queue, on_message)

    connection: Any = pika.SelectConnection(
        parameters,
        on_open_callback=lambda opened: opened.channel(on_open_callback=on_channel),
        on_close_callback=lambda closed, _: closed.ioloop.stop(),
    )
    serve(connection)
    connection.ioloop.close()
    return rates[0]


def consume_blocking(
    parameters: Any, queue: str, count: int, prefetch: int = PREFETCH
) -> float:
    """Consume with pika's BlockingConnection, as its tutorials do."""
    watch = Stopwatch(count)

    def on_message(channel: Any, method: Any, _: Any, body: bytes) -> None:
        json.loads(body)
        channel.basic_ack(method.delivery_tag)
        if watch.tick():
            channel.stop_consuming()

    with pika.BlockingConnection(parameters) as connection:
        channel = connection.channel()
        channel.basic_qos(prefetch_count=prefetch)
        channel.basic_consume(queue, on_message)
        channel.start_consuming()
        return watch.stop()


def consume_kombu(url: str, queue: str, count: int) -> float:
    """Consume with kombu's Consumer."""
    watch = Stopwatch(count)

    def on_message(message: Any) -> None:
        json.loads(message.body)
        message.ack()
        watch.tick()

    with kombu.Connection(url) as connection:
        known = kombu.Queue(queue, no_declare=True)
        options = {"on_message": on_message, "prefetch_count": PREFETCH}
        with kombu.Consumer(connection, [known], **options):
            while not watch.done.is_set():
                connection.drain_events(timeout=LIMIT)
        return watch.stop()


def consume_storm(url: str, queue: str, count: int) -> float:
    """Consume with amqpstorm, which need not decode what is read as bytes."""
    watch = Stopwatch(count)

    def on_message(message: Any) -> None:
        json.loads(message.body)
        message.ack()
        if watch.tick():
            message.channel.stop_consuming()

    with amqpstorm.UriConnection(url) as connection:
        channel = connection.channel()
        channel.basic.qos(PREFETCH)
        channel.basic.consume(on_message, queue)
        channel.start_consuming(auto_decode=False)
        return watch.stop()


@contextmanager
def event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Yield a loop, and close it."""
    loop = asyncio.new_event_loop()
    try:
        yield loop
    finally:
        loop.close()


def consume_aio(url: str, queue: str, count: int) -> float:
    """Consume with aio-pika's callback."""
    watch = Stopwatch(count)

    async def run() -> float:
        done = asyncio.Event()

        async def on_message(message: Any) -> None:
            json.loads(message.body)
            await message.ack()
            if watch.tick():
                done.set()

        async with await aio_pika.connect(url) as connection:
            channel = await connection.channel()
            await channel.set_qos(PREFETCH)
            source = await channel.get_queue(queue, ensure=False)
            tag = await source.consume(on_message)
            await asyncio.wait_for(done.wait(), LIMIT)
            await source.cancel(tag)
            return watch.stop()

    with event_loop() as loop:
        return loop.run_until_complete(run())


def consumers(
    parameters: Any, url: str, queue: str
) -> dict[str, Callable[[int], float]]:
    """Return how each consumes so many messages of a queue, by its name."""
    return {
        "SelectConnection, json.loads": partial(consume_select, parameters, queue),
        "pika's BlockingConnection": partial(consume_blocking, parameters, queue),
        "aio-pika": partial(consume_aio, url, queue),
        "kombu": partial(consume_kombu, url, queue),
        "amqpstorm, auto_decode=False": partial(consume_storm, url, queue),
    }
