"""RabbitMQ: lesson 04's exchanges, queues, messages and publisher confirms."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from pika import exceptions

from course.amqp.finding import DEFAULT_URL, parameters_of
from course.amqp.trials import emptied, running
from course.integrated.cache import TTL
from course.integrated.spans import Span, span_since
from course.integrated.task import Place, Task, date_of
from course.services import setting

BASE = 0.5  # seconds to the first retry; each waits twice as long as the one before
LONGEST_WAIT = 16 * BASE  # the fifth; all later ones wait as long as that one
# Retries of an order. They take longer than a score lives: see ScoreCache.forget.
PATIENCE = 5 + int(TTL / LONGEST_WAIT)
WINDOW = 500  # messages that are on their way to the broker together
PUBLISH = "publish to RabbitMQ"  # a hop: until it is confirmed


@dataclass(frozen=True)
class Letter:
    """A message, and where it is sent: to an exchange, or straight to a queue."""

    message: Any
    exchange: str  # empty: the key names the queue
    key: str = ""


class Broker:
    """The broker as one process reaches it, with the queues of one run."""

    def __init__(self, lesson: Any, parameters: Any, prefix: str) -> None:
        self.lesson = lesson
        self.rabbit = lesson.RabbitMQConnection(parameters, prefix, BASE)

    @property
    def prefix(self) -> str:
        """Return what the names of this run begin with."""
        return str(self.rabbit.prefix)

    def place(self) -> Place:
        """Return where the broker listens."""
        return Place(self.rabbit.parameters.host, self.rabbit.parameters.port)

    def through(self, place: Place) -> Broker:
        """Return the same broker, reached through another address."""
        parameters = copy.copy(self.rabbit.parameters)
        parameters.host = place.host
        parameters.port = place.port
        return Broker(self.lesson, parameters, self.prefix)

    def declare(self, extra_queue: str = "") -> None:
        """Declare all exchanges and queues, and one more queue if it is named."""
        if extra_queue:
            self.rabbit.add_queue(extra_queue)
        self.rabbit.setup_infrastructure()

    def remove(self) -> None:
        """Delete everything of this run."""
        self.rabbit.teardown()

    def queue(self, name: str) -> str:
        """Return the full name of a queue."""
        return str(self.rabbit.name(name))

    @contextmanager
    def channel(self) -> Iterator[Any]:
        """Yield a channel on a connection of its own."""
        with self.rabbit.channel() as channel:
            yield channel

    def consumers(self, queue: str) -> int:
        """Return how many consume a queue."""
        with self.channel() as channel:
            found = channel.queue_declare(self.queue(queue), passive=True)
            return int(found.method.consumer_count)

    def waiting_in(self, queues: Iterable[str]) -> int:
        """Return how many messages wait in queues; 0 if nobody can be asked now."""
        try:
            with self.channel() as channel:
                return sum(waiting_in(channel, self.queue(name)) for name in queues)
        except exceptions.AMQPError:
            return 0

    def waiting_for_retry(self) -> int:
        """Return how many messages wait to be tried again."""
        full_names = map(self.rabbit.wait_queue, range(self.lesson.MAX_RETRIES))
        with self.channel() as channel:
            return sum(waiting_in(channel, name) for name in full_names)

    def take_ids(self, queue: str) -> set[str]:
        """Take all messages out of a queue; return their ids."""
        taken = emptied(self.rabbit, self.queue(queue))
        return {properties.message_id for properties, _ in taken}

    def consuming(self, queue: str, kind: str, **options: Any) -> Any:
        """Return a context in which a consumer of a kind reads a queue."""
        consumer_class = getattr(self.lesson, kind)
        consumer = consumer_class(self.rabbit, self.queue(queue), **options)
        return running(consumer)

    def addressed(self, letter: Letter) -> Any:
        """Return what lesson 04's producer sends; without an exchange, to a queue."""
        exchange = self.queue(letter.exchange) if letter.exchange else ""
        key = letter.key if letter.exchange else self.queue(letter.key)
        return self.lesson.addressed(letter.message, exchange, key)

    def producer(self) -> Any:
        """Return lesson 04's producer, which closes at the end of a `with` block."""
        return self.lesson.Producer(self.rabbit)

    def sign_up(self, user: str, email: str, day: int) -> Letter:
        """Return the announcement of a customer."""
        message = self.lesson.UserDataMessage(
            id=f"user-{user}",
            username=user,
            email=email,
            registration_date=date_of(day),
        )
        return Letter(message, "data_processing", "user_data")

    def order(self, row: int, user: str, day: int, cents: int) -> Letter:
        """Return the announcement of an order, which a row of the file describes."""
        message = self.lesson.AnalyticsMessage(
            id=order_id(row),
            event_type="purchase",
            user_id=user,
            properties={"day": day, "cents": cents},
            max_retries=PATIENCE,
        )
        return Letter(message, "analytics")

    def notification(self, recipient: str, subject: str, content: str) -> Letter:
        """Return a mail."""
        message = self.lesson.NotificationMessage(
            recipient=recipient, subject=subject, content=content
        )
        return Letter(message, "notifications", "notification.email.normal")


def order_id(row: int) -> str:
    """Return the id of the order in a row of the file."""
    return f"order-{row:07}"


def waiting_in(channel: Any, queue: str) -> int:
    """Return how many messages wait in a queue, given by its full name."""
    return int(channel.queue_declare(queue, passive=True).method.message_count)


def publish(
    broker: Broker, producer: Any, letters: Sequence[Letter], spans: list[Span]
) -> None:
    """Publish letters, wait until all are confirmed, and note how long each took."""
    for first in range(0, len(letters), WINDOW):
        pending = []
        for letter in letters[first : first + WINDOW]:
            note_confirm = partial(_note_confirm, spans, time.time())
            sent = producer.send(*broker.addressed(letter))
            sent.confirmed.add_done_callback(note_confirm)
            pending.append(sent)
        producer.wait(*pending)


def _note_confirm(spans: list[Span], started: float, _: object) -> None:
    spans.append(span_since(PUBLISH, started))


def broker_of(lesson: Any, back_end: Any) -> Broker:
    """Return the broker that the lesson has found, with names of our own on it."""
    return Broker(lesson, back_end.parameters, f"{back_end.rabbit.prefix}.shop")


def rabbit_url(back_end: Any) -> str:
    """Return the URL by which lesson 04 finds the broker, or reaches its stand-in."""
    if back_end.live:
        return setting("RABBITMQ_URL", DEFAULT_URL)
    return DEFAULT_URL


def open_broker(lesson: Any, task: Task) -> Broker:
    """Return the broker that a task names."""
    parameters = parameters_of(task.rabbit_url)
    parameters.host = task.rabbit_place.host
    parameters.port = task.rabbit_place.port
    return Broker(lesson, parameters, task.rabbit_prefix)
