"""What lesson 04's demos run on: a broker, its time, its network, queues to try."""

from __future__ import annotations

import argparse
import copy
import itertools
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import pika
from pika import exceptions

from course.amqp.errors import MessagingError
from course.amqp.finding import (
    DEFAULT_URL,
    broker_of,
    by_another_way,
    parameters_of,
)
from course.amqp.internals import CONNECTION_LOST, broker_words
from course.amqp.leftovers import leftovers_on
from course.amqp.reconnecting import tried_again
from course.amqp.topology import NATIVE_SINCE
from course.amqp.trials import all_in, consumer_with, running
from course.console import in_notebook
from course.ending import ENDING, interruptible, remove
from course.errors import BadInput, NoService
from course.lab import wait_until
from course.naming import new_name
from course.network import FaultyNetwork
from course.standins.amqp import Broker
from course.sweeping import Leftover, sweep, temporary_folders
from course.urls import Host
from course.watching import Watch

EXPIRES = 600.0  # seconds after which the queues of a run that was killed are gone
ASK_LIMIT = 2.0  # seconds for a broker to answer in the midst of a run


@dataclass
class BrokerEnv:
    """Which broker answered, how to reach it, and how its time passes."""

    backend: str
    live: bool
    parameters: Any
    version: str
    broker: Broker | None  # the stand-in, if it is one
    connection: Callable[[], Any]  # returns RabbitMQConnection, the lesson's own class
    cleaning: ExitStack = field(default_factory=ExitStack)

    @cached_property
    def rabbit(self) -> Any:
        """Our exchanges and queues; they are declared when first asked for.

        Their names are this run's own, and are deleted at its end.
        """
        prefix = new_name(".")
        # Seconds that the first retry waits; the stand-in jumps over them.
        base = 0.2 if self.live else 1.0
        rabbit = self.connection()(self.parameters, prefix, base, EXPIRES)
        self.cleaning.callback(remove_from, rabbit, self.backend)
        rabbit.setup_infrastructure()
        return rabbit

    def ask(self) -> None:
        """Raise pika's error if no broker answers; a refusal is an answer."""
        parameters = copy.copy(self.parameters)
        parameters.socket_timeout = ASK_LIMIT
        parameters.stack_timeout = ASK_LIMIT
        with suppress(
            exceptions.ConnectionClosed, exceptions.ProbableAccessDeniedError
        ):
            pika.BlockingConnection(parameters).close()

    def leftovers(self) -> list[Leftover]:
        """Return what runs that were killed have left."""
        return leftovers_on(self.parameters) if self.live else []

    def sweep(self, really: bool) -> int:
        """List what killed runs have left, and remove it if asked to."""
        return sweep([*self.leftovers(), *temporary_folders()], really)

    def clock(self) -> float:
        """Return the broker's time in seconds."""
        return self.broker.clock if self.broker else time.monotonic()

    def until(self, state: Callable[[], object], limit: float = 30.0) -> None:
        """Let time pass until the state holds; give up after `limit` real seconds.

        The stand-in's clock jumps to the next expiry whenever nobody is at work.
        """
        end = time.monotonic() + limit
        while not state():
            if time.monotonic() > end:
                raise TimeoutError("the state was not reached in time")
            if self.broker:
                self.broker.step()
            else:
                time.sleep(0.01)

    @property
    def delays_itself(self) -> bool:
        """Whether this broker's quorum queues delay retries, and know priorities."""
        numbers = [int(one) for one in re.findall(r"\d+", self.version)[:2]]
        return self.live and numbers >= NATIVE_SINCE

    def declare_queue(self, name: str, priorities: int = 0, **options: Any) -> str:
        """Declare a work queue and its dead letters; return its full name."""
        rabbit = self.rabbit
        known = len(rabbit.plan)
        full: str = rabbit.add_queue(name, priorities, **options)
        with rabbit.channel() as channel:
            rabbit.declare(channel, rabbit.plan[known:])
        return full

    @contextmanager
    def queue(self, name: str, priorities: int = 0, **options: Any) -> Iterator[str]:
        """Yield a work queue of the demo's own, by its full name; delete it again."""
        known = len(self.rabbit.plan)
        full = self.declare_queue(name, priorities, **options)
        try:
            yield full
        finally:
            own = self.rabbit.plan[known:]
            with self.rabbit.channel() as channel:
                for item in own:
                    channel.queue_delete(item.name)
        # Only now: what stays goes at the end. So does what a thread of a demo that has
        # failed, or was ended, declares again as it connects.
        if not ENDING.reason:
            del self.rabbit.plan[known:]

    @contextmanager
    def network(self) -> Iterator[tuple[FaultyNetwork, Any]]:
        """Yield a network that can fail, and the connection that goes over it."""
        far = copy.copy(self.rabbit)
        ours = self.parameters
        with FaultyNetwork(ours.host, ours.port) as network:
            far.parameters = by_another_way(ours, "127.0.0.1", network.port)
            yield network, far

    def consume(self, consumer: Any, count: int) -> None:
        """Consume until so many deliveries are acknowledged, or more."""
        with running(consumer):
            self.until(lambda: consumer.counts["acked"] >= count)

    def until_nobody_reads(self, queue: str) -> None:
        """Wait until the broker has noticed that a queue's consumers are gone.

        It has then put back what they had not acknowledged.
        """
        with self.rabbit.channel() as channel:

            def consumers() -> int:
                found = channel.queue_declare(queue, passive=True)
                return int(found.method.consumer_count)

            wait_until(lambda: consumers() == 0)


@contextmanager
def open_broker(
    args: argparse.Namespace, connection: Callable[[], Any]
) -> Iterator[BrokerEnv]:
    """Find the broker, else start the stand-in; leave nothing on either."""
    with ExitStack() as stack:
        stand_in: Broker | None = None
        try:
            if args.offline:
                raise NoService("--offline")
            parameters, about = broker_of(args)
            version = str(about["version"])
            where = Host(parameters.host, parameters.port).place
            backend = f"{about['product']} {version} at {where}"
        except NoService as absent:
            stand_in = stack.enter_context(Broker())
            version = stand_in.version
            parameters = parameters_of(DEFAULT_URL)
            parameters.port = stand_in.port
            backend = f"stand-in in this process, nothing in it is durable ({absent})"
        live = stand_in is None
        env = BrokerEnv(backend, live, parameters, version, stand_in, connection)
        stack.enter_context(env.cleaning)
        if not in_notebook() and not getattr(args, "sweep", False):
            # A missing right is named before anything is printed. In a notebook, the
            # class whose setup this calls is defined in a later cell.
            try:
                with interruptible(), Watch(env):  # it may fall silent just now
                    _ = env.rabbit
            except CONNECTION_LOST as lost:  # it goes in this very moment, or is full
                raise BadInput(f"{backend}: {broker_words(lost)}") from None
            except MessagingError as refusal:
                raise BadInput(str(refusal)) from None
        yield env


def remove_from(rabbit: Any, backend: str) -> None:
    """Delete our queues and exchanges; say their names where that cannot be."""
    what = f"queues and exchanges {rabbit.prefix}.*"
    minutes = f"{rabbit.expires / 60:.0f} minutes"
    delete_all = partial(tried_again, partial(rabbit.teardown, for_good=True))
    remove(what, backend, delete_all, f"they expire after {minutes} without use")


def patterns_and_keys() -> tuple[list[str], list[str]]:
    """Return topics of up to three parts, and keys of up to three words."""
    patterns = []
    keys = []
    for size in range(4):
        keys += [".".join(words) for words in itertools.product("ab", repeat=size)]
        if size > 0:
            parts = itertools.product("a*#", repeat=size)
            patterns += [".".join(words) for words in parts]
    patterns.remove("#.#.#")  # the newest brokers take two # at most
    return patterns, keys


def truth_table(rabbit: Any, exchange: str) -> dict[tuple[str, str], bool]:
    """Return for pairs (pattern, key) whether a topic exchange lets it through."""
    patterns, keys = patterns_and_keys()
    passes = dict.fromkeys(itertools.product(patterns, keys), False)
    queues = {}
    with rabbit.channel() as channel:
        channel.confirm_delivery()
        for pattern in patterns:
            queues[pattern] = channel.queue_declare("", exclusive=True).method.queue
            channel.queue_bind(queues[pattern], exchange, pattern)
        for key in keys:
            channel.basic_publish(exchange, key, b"")
        for pattern, queue in queues.items():
            for method, _, _ in all_in(channel, queue):
                passes[pattern, method.routing_key] = True
            channel.queue_delete(queue)
    return passes


def arrivals(
    env: BrokerEnv, producer: Any, wait: Callable[[Any, str, int], None]
) -> list[int]:
    """Return in which order four messages come back, by their waits in base delays.

    `wait(producer, queue, attempt)` lets a message wait, for instance in the queue
    whose name ends in ".shared"; when it expires there, it goes to `queue`.
    """
    came: list[int] = []
    with env.queue("waits") as queue, env.rabbit.channel() as channel:
        back = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue}
        channel.queue_declare(queue + ".shared", exclusive=True, arguments=back)
        for attempt in (3, 0, 1, 2):  # the longest first
            wait(producer, queue, attempt)

        def all_came() -> bool:
            came.extend(2 ** int(body) for _, _, body in all_in(channel, queue))
            return len(came) >= 4

        env.until(all_came)
    return came


def native_waits(
    env: BrokerEnv, kind: Any, producer: Any, publish: Callable[[str], None]
) -> list[float]:
    """Return how long a message that always fails waits, in base delays, three times.

    It waits in a queue that delays retries itself. `kind` is the consumer's class.
    """
    times: list[float] = []

    def fail(_: object) -> None:
        times.append(env.clock())
        raise ConnectionError("no answer")

    with env.queue("native", native=True) as queue:
        publish(queue)
        consumer = consumer_with(kind, fail, env.rabbit, queue, producer)
        with running(consumer):
            env.until(lambda: len(times) >= 4)
    pairs = itertools.pairwise(times[:4])
    return [round((b - a) / env.rabbit.base, 2) for a, b in pairs]
