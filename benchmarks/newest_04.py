"""What only a newer RabbitMQ has: AMQP 1.0 and the stream protocol, by their clients.

Needs 4.0 or newer, and the stream protocol's plugin. rstream publishes to a stream,
which is another kind of queue: it is compared with our publishes to a stream. The
client for AMQP 1.0 comes without a wheel for Linux, and may be missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from importlib import import_module
from typing import Any
from urllib.parse import unquote, urlsplit

from peers_04 import LIMIT, WINDOW, Message

AMQP_1_0 = "rabbitmq_amqp_python_client"

rstream: Any = import_module("rstream")  # half typed


class Amqp10:
    """The AMQP 1.0 client, whose publish returns when the broker has settled it."""

    def __init__(self, url: str, queue: str) -> None:
        self.client: Any = import_module(AMQP_1_0)
        # Without a virtual host: it takes the path of a URL for its name, "%2F" too.
        address = url.removesuffix("%2F")
        self.environment = self.client.Environment(uri=address)
        self.connection = self.environment.connection()
        self.connection.dial()
        target = self.client.AddressHelper.queue_address(queue)
        self.publisher = self.connection.publisher(target)

    def prepared(self, messages: Sequence[Message]) -> Sequence[Any]:
        return [
            self.client.Message(
                body,
                id=about.message_id,
                subject=about.type,
                content_type=about.content_type,
                application_properties=about.headers,
                durable=True,
            )
            for _, _, body, about in messages
        ]

    def publish(self, ready: Sequence[Any]) -> None:
        accepted = self.client.OutcomeState.ACCEPTED
        for message in ready:
            assert self.publisher.publish(message).remote_state == accepted

    def close(self) -> None:
        self.publisher.close()
        self.connection.close()
        self.environment.close()


class Stream:
    """rstream's Producer: a confirm each, or batches with all confirms in the end."""

    def __init__(self, url: str, port: int, stream: str, batches: bool) -> None:
        parts = urlsplit(url)
        self.stream = stream
        self.batches = batches
        self.loop = asyncio.new_event_loop()
        self.producer = rstream.Producer(
            parts.hostname,
            port,
            username=unquote(parts.username or "guest"),
            password=unquote(parts.password or "guest"),
        )
        self.loop.run_until_complete(self.producer.start())

    def prepared(self, messages: Sequence[Message]) -> Sequence[Any]:
        return [
            rstream.AMQPMessage(
                body=body,
                properties=rstream.Properties(
                    message_id=about.message_id,
                    subject=about.type,
                    content_type=about.content_type,
                ),
                application_properties=about.headers,
            )
            for _, _, body, about in messages
        ]

    def publish(self, ready: Sequence[Any]) -> None:
        way = self.in_batches if self.batches else self.one_by_one
        self.loop.run_until_complete(asyncio.wait_for(way(ready), LIMIT))

    async def one_by_one(self, ready: Sequence[Any]) -> None:
        for message in ready:
            await self.producer.send_wait(self.stream, message)

    async def in_batches(self, ready: Sequence[Any]) -> None:
        done = asyncio.Event()
        confirmed = 0

        def on_confirm(status: Any) -> None:
            nonlocal confirmed
            assert status.is_confirmed
            confirmed += 1
            if confirmed == len(ready):
                done.set()

        for start in range(0, len(ready), WINDOW):
            batch = ready[start : start + WINDOW]
            await self.producer.send_batch(
                self.stream, batch, on_publish_confirm=on_confirm
            )
        await done.wait()

    def close(self) -> None:
        self.loop.run_until_complete(self.producer.close())
        self.loop.close()
