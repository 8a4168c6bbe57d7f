"""What a consumer stands on: its connection, its pool, settling on the I/O thread."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from queue import SimpleQueue
from typing import Any

from pika import exceptions

from course.amqp.copies import Copies
from course.amqp.errors import ConsumerRefused, MessagingError, ProducerEnded
from course.amqp.internals import (
    acknowledge,
    batch_of,
    broker_words,
    call_soon,
    deliver_at_once,
    refused,
    refused_for_good,
    reject,
)
from course.amqp.pool import refuse_unfit, start_threads
from course.amqp.publishing import DEADLINE
from course.amqp.reconnecting import backoff, refuse_pool
from course.amqp.settling import ByLedger, Content, Delivery, InHand, OpenTags, ahead

PAUSE = 0.2  # seconds until a message is given back that could not be settled
MANY = 25  # settled messages, for which a thread of the pool waits
FLUSHED = 0.005  # seconds that it waits at most
MOST_LOST = 10_000  # acknowledgements that were too late, of which we know


@dataclass(eq=False)
class PoolAndConnection(Copies, ByLedger):
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
        refuse_unfit(self)
        refuse_pool(self.prefetch, self.concurrency, self.drain)
        self.counts: Counter[str] = Counter()
        self.ages: Counter[int] = Counter()  # of deliveries, by digits of their seconds
        self.ready = threading.Event()
        self.ended = threading.Event()  # start_consuming() has returned, or not begun
        self.ended.set()
        self.stopping = threading.Event()
        self.jobs: SimpleQueue[Delivery | None] = SimpleQueue()
        self.settled: deque[Delivery] = deque()  # to be acknowledged
        self.busy: set[Delivery] = set()  # that have begun
        self.open = OpenTags()  # of deliveries that are not settled
        self.connection: Any = None
        self._channel: Any = None
        self._process = os.getpid()
        self._own_threads: list[threading.Thread] = []
        self._fatal: BaseException | None = None  # what ended a thread of the pool
        self._flushing = False  # the I/O thread knows that something is settled
        self._flushed = threading.Event()  # what was settled has left since
        self._failures = 0  # connections in a row that brought nothing
        self._acknowledged = 0
        self._lock = threading.Lock()  # of what follows, and of what is counted
        self._lost: dict[Content, None] = {}  # done, but acknowledged too late
        self.replacing = set()
        self._pace = 0.0  # seconds that a piece of work takes, about
        self._more = ""  # the tag of a second subscription
        self._more_count = 0  # what it lets the broker send ahead

    # The pool

    def start_pool(self, work: Callable[[], None]) -> None:
        """Start the threads that work.

        Raises:
            RuntimeError: it consumes already, or has been stopped: it would take
                nothing from the queue, or what is in the other's hands.
        """
        with self._lock:
            if not self.ended.is_set():
                raise RuntimeError("this consumer has been started; make another")
            if self._own_threads and self.stopping.is_set():
                raise RuntimeError("this consumer has been stopped; make another")
            self.ended.clear()
        self._process = os.getpid()
        run = partial(self._run, work)
        try:
            pool = start_threads(run, self.concurrency, self.jobs)
        except MessagingError:
            self.ended.set()
            raise
        self._own_threads = [threading.current_thread(), *pool]

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
        self.ended.set()
        if self._fatal:
            raise self._fatal

    def close(self) -> None:
        """Stop, and wait until start_consuming() has returned, or may be given up.

        Not in a thread of its own, which would wait for itself, nor in a forked child,
        where nobody consumes.
        """
        self.stop()
        ours = threading.current_thread() in self._own_threads
        if not ours and self._process == os.getpid():
            self.ended.wait(self.drain + DEADLINE)

    def stop(self) -> None:
        """End start_consuming(), soon."""
        raise NotImplementedError

    def in_hand(self, delivery: Delivery) -> InHand:
        """Mark a delivery as begun; `with` tells whether it should begin.

        Not if it came over a connection that is lost: the broker had it back, and gives
        it to somebody else. Not after stop(). And not while the same message is being
        worked on here, or when it has been: the broker waits only so long for an
        acknowledgement, and then delivers it again.
        """
        return InHand(self, delivery)

    def begin(self, delivery: Delivery) -> bool:
        """Note that a delivery is in hand; tell whether it should begin."""
        delivery.begun = not delivery.redelivered
        self.busy.add(delivery)  # before the look at what stop() sets first
        same = delivery.channel is self._channel
        if not same or not self._channel.is_open or self.stopping.is_set():
            return False
        # Trap: what comes for the first time is no duplicate, whatever is in it.
        return not delivery.redelivered or self._begin_again(delivery)

    def _begin_again(self, delivery: Delivery) -> bool:
        """Tell whether to begin what came before, unless it is done or in hand."""
        content = delivery.content
        if content is None:
            return True
        with self._lock:
            for other in list(self.busy):
                if other.begun and other.content == content:
                    other.again = [*(other.again or ()), delivery]
                    return False
            if content not in self._lost and not self._is_settled(content):
                delivery.begun = True
                return True
            self._lost.pop(content, None)
        self.count("duplicates")
        self._settle([delivery])
        return False

    def _is_settled(self, content: Content) -> bool:
        """Tell whether a message is done, and its acknowledgement about to leave."""
        waiting = list(self.settled)
        return any(one.content == content and not one.rejected for one in waiting)

    def end(self, delivery: Delivery, begun: bool, seconds: float) -> None:
        """Note that it is in hand no more; begin what came again if it is not done."""
        with self._lock:
            self.busy.discard(delivery)
            left = delivery.again
            if begun:
                weight = 0.2 if self._pace else 1.0  # of the last one
                self._pace += weight * (seconds - self._pace)
        if left and delivery.done:
            self._settle(self.like(delivery, left))
        elif left:
            for again in left:
                self.jobs.put(again)
        if begun:
            self._follow_pace()

    def like(self, delivery: Delivery, others: list[Delivery]) -> list[Delivery]:
        """Return others of the same message, to be settled in the same way."""
        for other in others:
            other.rejected = delivery.rejected
        return others

    def _settle(self, deliveries: list[Delivery]) -> None:
        self.settled.extend(deliveries)
        self.wake_io_thread()

    # How much to take

    def room(self) -> int:
        """Return how many deliveries the pool begins at once."""
        return min(self.prefetch, self.concurrency)

    def subscribe(self, channel: Any, count: int) -> str:
        """Have the broker send so many ahead; return the subscription's tag."""
        raise NotImplementedError

    def _follow_pace(self) -> None:
        """Take as much ahead as the pool begins within a second, up to the prefetch."""
        most = self.prefetch - self.room()
        wanted = ahead(self._more_count, most, self.concurrency, self._pace)
        if wanted != self._more_count:
            self._more_count = wanted
            self.on_io(partial(self._take_ahead, wanted))

    def _take_ahead(self, count: int) -> None:
        ended = self.stopping.is_set() or not self._channel.is_open
        if ended or not self._channel.consumer_tags:  # it listens no more
            return
        if self._more:
            self._channel.basic_cancel(self._more)
            self._more = ""
        if count:
            self._more = self.subscribe(self._channel, count)

    def count(self, what: str, timestamp: str | None = None, number: int = 1) -> None:
        """Count messages and, if one says when it was made, its age."""
        digits = 0
        if timestamp is not None:
            age = time.time() - datetime.fromisoformat(timestamp).timestamp()
            digits = len(str(int(age)))
        with self._lock:  # several threads count, and += is two steps
            self.counts[what] += number
            if digits:
                self.ages[digits] += 1

    # The I/O thread, and how the pool's threads reach it

    @contextmanager
    def connected(self) -> Iterator[Any]:
        """Yield a channel of a new connection, all of the plan declared."""
        with self.rabbit.connect() as connection:
            self.connection = connection
            self._channel = connection.channel()
            self._flushing = False  # a call that was lost with its connection
            self._more = ""
            self._more_count = 0
            self.open = OpenTags()
            deliver_at_once(self._channel, self.open.add)
            # One of two subscriptions may end alone: by a timeout, from 4.3 on.
            self._channel.add_on_cancel_callback(lambda _: self._stop_listening())
            self.rabbit.declare(self._channel, self.rabbit.plan)
            yield self._channel

    def on_io(self, work: Callable[[], None]) -> None:
        """Run something in the I/O thread, the only one that may use the connection."""
        with suppress(exceptions.AMQPError):  # lost: it will be delivered again
            # The connection of a forked child is its parent's.
            if self.connection and self._process == os.getpid():
                self.connection.add_callback_threadsafe(work)

    def wake_io_thread(self) -> None:
        """Have flush() called in the I/O thread, once for all that is settled."""
        if not self._flushing:
            self._flushing = True
            if self.connection:
                self._flushed.clear()
                call_soon(self.connection, self.flush)
        elif len(self.settled) >= max(self.prefetch // 2, MANY):
            # Trap: the I/O thread runs when the others wait, or after 5 ms. By then
            # short work is through with a prefetch, and waits for the broker.
            self._flushed.wait(FLUSHED)

    def flush(self) -> None:
        """Send the acknowledgements that have gathered, in one write."""
        self._flushing = False  # first: what is added from here on asks again
        done = []
        with batch_of(self.connection):
            while self.settled:
                delivery = self.settled[0]
                if not delivery.settled and self._settle_now(delivery):
                    done.append(delivery.tag)
                delivery.settled = True
                self.settled.popleft()
            for tag, multiple in self.open.acknowledged(done):
                acknowledge(self._channel, tag, multiple)
        self._flushed.set()
        if done:
            self.count("acked", number=len(done))

    def _settle_now(self, delivery: Delivery) -> bool:
        """Tell whether a delivery is to be acknowledged; see to it if not."""
        same = delivery.channel is self._channel
        if not same or not self._channel.is_open:  # the broker has it back already
            self._too_late(delivery)
            return False
        if delivery.rejected:
            self.open.remove(delivery.tag)
            reject(self._channel, delivery.tag)
        return not delivery.rejected

    def _too_late(self, delivery: Delivery) -> None:
        """Remember what is done, for when it comes again."""
        content = delivery.content
        if content and not delivery.rejected:
            with self._lock:
                self._lost[content] = None
                if len(self._lost) > MOST_LOST:
                    del self._lost[next(iter(self._lost))]

    def give_back(self, delivery: Delivery, error: Exception) -> None:
        """Reject with requeue after a pause: at once, it would come back in a loop."""
        self.count("unsettled")
        logging.getLogger(__name__).error("left to the broker", exc_info=error)
        if isinstance(error, ProducerEnded) and not self.stopping.is_set():
            # Nothing that fails could be put aside: it would come again and again.
            self._fatal = error
            self.stopping.set()
            self.stop_listening()
        self.on_io(partial(self._reject_later, delivery))

    def _reject_later(self, delivery: Delivery) -> None:
        self.connection.call_later(PAUSE, partial(self._reject, delivery))

    def _reject(self, delivery: Delivery) -> None:
        if delivery.channel is self._channel and self._channel.is_open:
            self.open.remove(delivery.tag)
            reject(self._channel, delivery.tag)

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

    def end_if_refused(self, error: Exception) -> None:
        """Raise ConsumerRefused for what no other connection mends, in its own words.

        That is a password, a right, or the name of a queue that nobody declares.
        """
        final = refused(error)
        if isinstance(error, exceptions.ChannelClosedByBroker):
            ours = any(item.name == self.queue for item in self.rabbit.plan)
            # Ours was deleted a moment ago: the next connection declares it.
            final = refused_for_good(error) and (error.reply_code == 403 or not ours)
        if final:
            raise ConsumerRefused(broker_words(error)) from error

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
