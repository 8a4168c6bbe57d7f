"""What a consumer stands on: its connection, its pool, settling on the I/O thread."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from queue import SimpleQueue
from typing import Any

from pika import exceptions

from course.amqp.internals import batch_of
from course.amqp.publishing import DEADLINE
from course.amqp.reconnecting import backoff

PAUSE = 0.2  # seconds until a message is given back that could not be settled


@dataclass
class Delivery:
    """A message in hand: what to acknowledge, and where."""

    channel: Any
    tag: int
    properties: Any
    body: bytes


@dataclass(eq=False)
class PoolAndConnection:
    """One thread that talks to the broker, a pool of threads that work, and no more.

    Only the first may use the connection. The others hand it what is to be settled.
    """

    rabbit: Any
    queue: str
    producer: Any = None
    ledger: Any = None
    prefetch: int = 20
    concurrency: int = 2
    drain: float = DEADLINE  # seconds that a stop waits for what has begun

    def __post_init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.ages: Counter[int] = Counter()  # of deliveries, by digits of their seconds
        self.ready = threading.Event()
        self.stopping = threading.Event()
        self.jobs: SimpleQueue[Delivery | None] = SimpleQueue()
        self.settled: deque[Delivery] = deque()  # to be acknowledged
        self.busy: set[int] = set()  # deliveries that have begun
        self.connection: Any = None
        self._channel: Any = None
        self._fatal: BaseException | None = None  # what ended a thread of the pool
        self._flushing = False  # the I/O thread knows that something is settled
        self._failures = 0  # connections in a row that brought nothing
        self._acknowledged = 0
        self._lock = threading.Lock()

    # The pool

    def start_pool(self, work: Callable[[], None]) -> None:
        """Start the threads that work."""
        run = partial(self._run, work)
        for _ in range(self.concurrency):
            threading.Thread(target=run, daemon=True).start()

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # a thread less would work on in silence
            self._fatal = error
            self.stopping.set()
            self.stop_listening()

    def end_pool(self) -> None:
        """Let the threads that work end; raise what has ended one of them before."""
        for _ in range(self.concurrency):
            self.jobs.put(None)
        if self._fatal:
            raise self._fatal

    @contextmanager
    def in_hand(self, delivery: Delivery) -> Iterator[bool]:
        """Mark a delivery as begun; tell whether it should begin.

        Not if it came over a connection that is lost: the broker has it back, and gives
        it to somebody else. And not after stop().
        """
        self.busy.add(id(delivery))  # before the look at what stop() sets first
        try:
            same = delivery.channel is self._channel
            current = same and self._channel.is_open
            yield current and not self.stopping.is_set()
        finally:
            self.busy.discard(id(delivery))

    def count(self, what: str, timestamp: str | None = None) -> None:
        """Count a message and, if it says when it was made, its age."""
        with self._lock:  # several threads count, and += is two steps
            self.counts[what] += 1
            if timestamp is not None:
                age = datetime.now(UTC) - datetime.fromisoformat(timestamp)
                seconds = int(age.total_seconds())
                self.ages[len(str(seconds))] += 1

    # The I/O thread, and how the pool's threads reach it

    @contextmanager
    def connected(self) -> Iterator[Any]:
        """Yield a channel of a new connection, all of the plan declared."""
        with self.rabbit.connect() as connection:
            self.connection = connection
            self._channel = connection.channel()
            self._flushing = False  # a call that was lost with its connection
            self.rabbit.declare(self._channel, self.rabbit.plan)
            yield self._channel

    def on_io(self, work: Callable[[], None]) -> None:
        """Run something in the I/O thread, the only one that may use the connection."""
        with suppress(exceptions.AMQPError):  # lost: it will be delivered again
            if self.connection:
                self.connection.add_callback_threadsafe(work)

    def wake_io_thread(self) -> None:
        """Have flush() called in the I/O thread, once for all that is settled."""
        if not self._flushing:
            self._flushing = True
            self.on_io(self.flush)

    def flush(self) -> None:
        """Send the acknowledgements that have gathered, in one write."""
        self._flushing = False  # first: what is added from here on asks again
        with batch_of(self.connection):
            while self.settled:
                delivery = self.settled.popleft()
                if delivery.channel.is_open:  # else the broker has it back already
                    delivery.channel.basic_ack(delivery.tag)
                    self.count("acked")

    def give_back(self, delivery: Delivery, error: Exception) -> None:
        """Reject a message with requeue, after a pause.

        At once, a classic queue would deliver it in a hot loop.
        """
        self.count("unsettled")
        logging.getLogger(__name__).error("left to the broker", exc_info=error)
        self.on_io(partial(self._reject_later, delivery))

    def _reject_later(self, delivery: Delivery) -> None:
        self.connection.call_later(PAUSE, partial(self._reject, delivery))

    def _reject(self, delivery: Delivery) -> None:
        if delivery.channel.is_open:
            delivery.channel.basic_reject(delivery.tag, requeue=True)

    def stop_listening(self) -> None:
        """End the channel's start_consuming(), which returns in the I/O thread."""
        self.on_io(self._stop_listening)

    def _stop_listening(self) -> None:
        self._channel.stop_consuming()

    def pause(self, error: Exception) -> None:
        """Wait before the next connection: longer where the last brought nothing."""
        acknowledged = self.counts["acked"]
        if acknowledged == self._acknowledged:
            self._failures += 1
        else:
            self._failures = 0
        self._acknowledged = acknowledged
        log = logging.getLogger(__name__)
        level = logging.WARNING if self._failures < 2 else logging.DEBUG
        log.log(level, "the consumer lost its connection: %r", error)
        self.stopping.wait(backoff(self._failures))

    def round_trip(self) -> None:
        """Wait until the broker has read what this consumer has sent so far.

        Its channel is served in order: an answer means that all before it was read.
        """
        answered = threading.Event()

        def ask() -> None:
            self._channel.queue_declare(self.queue, passive=True)
            answered.set()

        self.on_io(ask)
        if not answered.wait(DEADLINE):
            raise TimeoutError(f"{self.queue}: no answer on the consumer's channel")

    def wait_for_the_pool(self) -> None:
        """Answer the broker until all that has begun is done, or the drain limit."""
        end = time.monotonic() + self.drain
        while self.busy and time.monotonic() < end:
            self.connection.process_data_events(0.02)
