"""RabbitMQ: lesson 04's exchanges and queues, its producer and its consumers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from pika import exceptions

from course.amqp.finding import DEFAULT_URL, by_another_way, parameters_of
from course.amqp.reconnecting import tried_again
from course.amqp.trials import all_in, running
from course.amqp.workbench import remove_from
from course.integrated.letters import PATIENCE, Letter
from course.integrated.spans import Span, span_since
from course.integrated.task import BASE, Place, Task
from course.services import setting

EXPIRES = 3600.0  # seconds; far longer than a run, whose waiting nobody may cut short
WINDOW = 500  # messages that are on their way to the broker together
PUBLISH = "publish to RabbitMQ"  # a hop: until it is confirmed


class Broker:
    """The broker as one process reaches it, with the queues of one run."""

    def __init__(self, lesson: Any, parameters: Any, prefix: str) -> None:
        self.lesson = lesson
        self.parameters = parameters
        self.prefix = prefix
        self.rabbit = lesson.RabbitMQConnection(parameters, prefix, BASE, EXPIRES)

    def place(self) -> Place:
        """Return where the broker listens."""
        return Place(self.parameters.host, self.parameters.port)

    def through(self, place: Place) -> Broker:
        """Return the same broker, reached through another address."""
        parameters = by_another_way(self.parameters, place.host, place.port)
        return Broker(self.lesson, parameters, self.prefix)

    def declare(self) -> None:
        """Declare all exchanges and queues."""
        tried_again(self.rabbit.setup_infrastructure)

    def declare_also(self, queue: str) -> None:
        """Declare one more queue, with its dead letters."""
        self.rabbit.add_queue(queue)
        self.declare()

    def remove(self, backend: str) -> None:
        """Delete everything of this run; say its names where that cannot be."""
        remove_from(self.rabbit, backend)

    def name(self, suffix: str) -> str:
        """Return the full name of a queue or exchange."""
        return str(self.rabbit.name(suffix))

    def consumers(self, queue: str) -> int:
        """Return how many consume a queue; 0 if nobody can be asked now."""
        with suppress(exceptions.AMQPError), self.rabbit.channel() as channel:
            found = channel.queue_declare(self.name(queue), passive=True)
            return int(found.method.consumer_count)
        return 0

    def waiting_in(self, queues: Sequence[str]) -> int:
        """Return how many messages wait in queues; 0 if nobody can be asked now."""
        names = [self.name(queue) for queue in queues]
        try:
            return int(self.rabbit.ready(*names))
        except exceptions.AMQPError:
            # Cut off, by --chaos for example. Whatever waits for a count asks again.
            return 0

    def waiting_for_retry(self) -> int:
        """Return how many messages wait to be tried again."""
        # Lesson 04 has a queue for each attempt, each with a longer wait.
        attempts = range(self.lesson.MAX_RETRIES)
        names = [self.rabbit.wait_queue(attempt) for attempt in attempts]
        return int(tried_again(lambda: self.rabbit.ready(*names)))

    def take_ids(self, queue: str) -> set[str]:
        """Take all messages out of a queue; return their ids."""
        ids: set[str] = set()

        def take() -> None:
            with self.rabbit.channel() as channel:
                for method, properties, _ in all_in(channel, self.name(queue), False):
                    # Noted first: of what is acknowledged, the broker knows no more.
                    ids.add(properties.message_id)
                    channel.basic_ack(method.delivery_tag)

        tried_again(take)
        return ids

    def consuming(self, queue: str, kind: str, **options: Any) -> Any:
        """Return a context in which a consumer of a kind reads a queue."""
        # The kind is the name of one of lesson 04's classes.
        consumer_class = getattr(self.lesson, kind)
        name = self.name(queue)
        consumer = consumer_class(self.rabbit, name, **options)
        consumer.max_retries = PATIENCE  # an order may ask for as many
        return running(consumer)

    def producer(self) -> Any:
        """Return lesson 04's producer, which closes at the end of a `with` block."""
        return self.lesson.Producer(self.rabbit)

    def publish_arguments(self, letter: Letter) -> Any:
        """Return what the producer sends."""
        message = letter.message
        if letter.exchange:
            exchange = self.name(letter.exchange)
            return self.lesson.publish_arguments(message, exchange, letter.key)
        # The default exchange takes the routing key for the name of a queue.
        queue = self.name(letter.key)
        return self.lesson.publish_arguments(message, letter.exchange, queue)


class Publisher:
    """Publishes letters, and notes how long each was on its way."""

    def __init__(self, broker: Broker, producer: Any) -> None:
        self.broker = broker
        self.producer = producer
        self.spans: list[Span] = []

    def publish(self, letters: Sequence[Letter]) -> None:
        """Publish letters, and wait until all are confirmed."""
        # One window at a time: what is unconfirmed stays bounded.
        for first in range(0, len(letters), WINDOW):
            window = letters[first : first + WINDOW]
            pending = [self.send(letter) for letter in window]
            self.producer.wait(*pending)

    def send(self, letter: Letter) -> Any:
        """Begin to publish a letter; return what can be waited for."""
        started = time.time()
        arguments = self.broker.publish_arguments(letter)
        pending = self.producer.send(*arguments)
        # Called later, in the thread that hears of the confirm.
        note_confirm = partial(self.confirmed, started)
        pending.confirmed.add_done_callback(note_confirm)
        return pending

    def confirmed(self, started: float, _: object) -> None:
        """Note how long a letter took."""
        self.spans.append(span_since(PUBLISH, started))


def broker_of(lesson: Any, back_end: Any) -> Broker:
    """Return the broker that the lesson has found, with names of our own on it."""
    prefix = f"{back_end.rabbit.prefix}.shop"
    return Broker(lesson, back_end.parameters, prefix)


def rabbit_url(back_end: Any) -> str:
    """Return the URL by which lesson 04 finds the broker, or reaches its stand-in."""
    if back_end.live:
        return setting("RABBITMQ_URL", DEFAULT_URL)
    return DEFAULT_URL


def open_broker(lesson: Any, task: Task) -> Broker:
    """Return the broker that a task names."""
    named = Broker(lesson, parameters_of(task.rabbit_url), task.rabbit_prefix)
    return named.through(task.rabbit_place)
