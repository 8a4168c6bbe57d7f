"""Judges consume_batches on the loopback broker: stops, trickles, errors."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import partial
from math import inf
from types import ModuleType
from typing import Any

import pika.exceptions

from course.claims import Condition, at_least, at_most
from course.lab import in_background
from course.practice.checking import Refused, Words, expect
from course.standins.amqp import Broker

LONG = 60.0  # `longest` where it must play no part
END = 1.5  # seconds within which it has to return, on a busy machine too
LIMIT = 2 * END  # seconds that a store waits for the check at most
SLACK = 0.1  # seconds that all may take longer than the task says
EARLY = 0.03  # seconds that a clock may be coarse
TRIES = 2  # of what is timed: a busy machine may be late once


class Stop(threading.Event):
    """An event that counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def is_set(self) -> bool:
        """Tell whether it is set."""
        self.asked += 1
        return super().is_set()


class WarehouseAwayError(ConnectionError):
    """What a store raises."""


class Trial:
    """A worker with a broker, a queue and a store of its own.

    `during` is called while a batch is stored, with the trial and the batch's number,
    from 1.
    """

    def __init__(
        self,
        answer: ModuleType,
        size: int,
        longest: float = LONG,
        during: Callable[[Trial, int], object] | None = None,
    ) -> None:
        self.call = answer.consume_batches
        self.size = size
        self.longest = longest
        self.during = during
        self.stopping = Stop()
        self.batches: list[list[bytes]] = []  # copies of what the store got
        self.times: list[float] = []
        self.held: list[int] = []  # by the broker, for the worker, in watch()
        self.inside = threading.Event()  # for the check and a store that waits for it
        self.go_on = threading.Event()
        self.published: list[bytes] = []

    def __enter__(self) -> Trial:
        """Start the broker, and connect."""
        self.broker = Broker()
        self.broker.__enter__()
        where = pika.ConnectionParameters("127.0.0.1", self.broker.port)
        self.ours = pika.BlockingConnection(where)
        self.channel = self.ours.channel()
        self.channel.confirm_delivery()
        self.channel.queue_declare("events")
        self.theirs = pika.BlockingConnection(where)
        return self

    def __exit__(self, *_: object) -> None:
        """End all."""
        self.broker.__exit__()

    def publish(self, count: int) -> None:
        """Publish so many messages; only the thread of the check may."""
        for _ in range(count):
            body = f"event {len(self.published) + 1}".encode()
            self.published.append(body)
            self.channel.basic_publish("", "events", body)

    def store(self, batch: list[bytes]) -> None:
        """Keep a copy of a batch, and what the broker has for us meanwhile."""
        if not isinstance(batch, list):
            raise TypeError(f"store takes a list of bodies, not {type(batch).__name__}")
        self.times.append(time.monotonic())
        self.batches.append(list(batch))
        if self.during:
            self.during(self, len(self.batches))

    def start(self) -> None:
        """Begin to consume, in a thread."""
        channel = self.theirs.channel()

        def run() -> None:
            size = self.size
            longest = self.longest
            try:
                self.call(
                    channel,
                    "events",
                    self.store,
                    self.stopping,
                    size=size,
                    longest=longest,
                )
            finally:
                self.ended = time.monotonic()

        self.channel_of_worker = channel
        self.running: Future[Any] = in_background(run)

    def counts(self) -> tuple[int, int]:
        """Return how many messages are ready, and how many unacknowledged."""

        async def ask() -> tuple[int, int]:
            queue = self.broker.queue("events")
            return len(queue.ready), queue.unacked

        return self.broker.call(ask)

    def unacked(self) -> int:
        """Return how many messages the broker has for us, unacknowledged."""
        return self.counts()[1]

    def until(self, tried: str, what: str, state: Callable[[], object]) -> None:
        """Wait for a state; refuse the answer if it ends, or does not get there."""
        deadline = time.monotonic() + END
        while not state():
            stored = f"calls of store: {len(self.batches)}"
            if self.running.done():
                self.expect_no_error(tried, self.running.exception(), 1)
                raise Refused(tried, Words(f"it returned; {stored}"), Words(what), 1)
            if time.monotonic() > deadline:
                late = Words(f"not within {END:g} s; {stored}")
                raise Refused(tried, late, Words(what), 1)
            time.sleep(0.002)

    def has_stored_all(self) -> bool:
        """Tell whether all that is published is stored and acknowledged."""
        stored = sum(len(batch) for batch in self.batches)
        return stored >= len(self.published) and not self.unacked()

    def settle(self, looks: int) -> None:
        """Give the worker time to collect what was sent to it."""
        if not self.stopping.asked:  # it waits otherwise, and cannot be observed
            time.sleep(0.5)
            return
        enough = self.stopping.asked + looks
        deadline = time.monotonic() + 0.5
        while self.stopping.asked < enough and time.monotonic() < deadline:
            time.sleep(0.002)

    def end(self, tried: str, hint: int) -> BaseException | None:
        """Wait until it returns, then close its channel; return what it raised."""
        if not wait([self.running], END).done:
            times = len(self.batches)
            observed = Words(f"no end within {END:g} s; calls of store: {times}")
            raise Refused(tried, observed, Words("an end"), hint)
        error = self.running.exception()
        if isinstance(error, NotImplementedError):
            raise error
        with suppress(Exception):  # it may have closed it
            self.channel_of_worker.close()
        deadline = time.monotonic() + END
        while self.unacked() and time.monotonic() < deadline:
            time.sleep(0.002)
        return error

    def stop(self, tried: str, hint: int) -> None:
        """Stop it; let an error go to the learner, who then sees the line."""
        self.stopping.set()
        self.go_on.set()
        self.expect_no_error(tried, self.end(tried, hint), hint)

    def expect_no_error(
        self, tried: str, error: BaseException | None, hint: int
    ) -> None:
        """Refuse what the broker objects to; let other errors go to the learner."""
        if isinstance(error, pika.exceptions.AMQPError):
            name = type(error).__name__
            raise Refused(
                tried, Words(f"{name}: {error}"), Words("an end without it"), hint
            )
        if error:
            raise error

    def left(self) -> list[bytes]:
        """Take all out of the queue that is left in it."""
        bodies: list[bytes] = []
        while True:
            method, _, body = self.channel.basic_get("events", auto_ack=True)
            if method is None:
                return bodies
            bodies.append(body)

    def expect_batches(self, tried: str, hint: int, expected: Any) -> None:
        """Compare how many messages the batches had; see that each is one."""
        sizes = [len(batch) for batch in self.batches]
        expect(f"{tried}: sizes of the batches", sizes, expected, hint)
        most = max(sizes, default=1)
        expect(f"{tried}: the largest batch", most, at_most(self.size), hint)
        least = min(sizes, default=1)
        expect(f"{tried}: the smallest batch", least, at_least(1), hint)

    def expect_accounts(self, tried: str, hint: int) -> None:
        """Refuse the answer unless each message is stored, or left, once, in order."""
        stored = [body for batch in self.batches for body in batch]
        in_order = stored == self.published[: len(stored)]
        what = f"{tried}: stored, in order of delivery"
        expect(what, stored, self.published[: len(stored)], 1 if in_order else hint)
        left = self.published[len(stored) :]
        what = f"{tried}: left in the queue when the channel is closed"
        expect(what, self.left(), left, hint)


def check(answer: ModuleType, rng: random.Random) -> None:
    """Store full batches, then stop, trickle and fail in all ways."""
    logging.getLogger("pika").setLevel(logging.CRITICAL + 1)
    size = rng.randrange(3, 6)
    check_full(answer, size, 1)
    check_idle(answer, size)
    check_half(answer, size, rng.randrange(1, size))
    check_trickle(answer)
    check_full(answer, size, 4)
    check_full(answer, 1, 4)
    check_load(answer, size)
    check_stop_in_store(answer, size)
    check_errors(answer, size)


def watch(trial: Trial, number: int) -> None:
    """Look at what the broker holds for the worker, for a while at first."""
    until = time.monotonic() + 0.15
    enough = True
    while enough and number == 1 and time.monotonic() < until:
        held = trial.unacked()
        trial.held.append(held)
        enough = held >= len(trial.batches[0])
        time.sleep(0.005)


def check_full(answer: ModuleType, count: int, batches: int) -> None:
    """Store full batches; see that the broker keeps each until it is stored."""
    tried = f"{batches * count} messages wait, size {count}"
    with Trial(answer, count, during=watch) as trial:
        trial.publish(batches * count)
        trial.start()
        what = f"{batches} stored and acknowledged"
        trial.until(tried, what, trial.has_stored_all)
        trial.settle(looks=2)  # it is past what it does after a store
        trial.stop(f"{tried}; then a stop", 2)
        trial.expect_batches(tried, 1, [count] * batches)
        if min(trial.held) < count:
            what = f"{tried}: messages that the broker keeps during store"
            raise Refused(what, Words("fewer"), at_least(count), 1)
        what = f"{tried}: messages unacknowledged with this worker"
        expect(what, max(trial.held), at_most(count), 1)
        trial.expect_accounts(tried, 1)


def check_half(answer: ModuleType, size: int, half: int) -> None:
    """Stop with a batch that is not full."""
    tried = f"a stop with {half} of {size} messages of a batch collected"
    with Trial(answer, size) as trial:
        trial.publish(size + half)
        trial.start()
        trial.until(tried, "a full batch", lambda: trial.batches)
        trial.until(tried, "its acknowledgement", lambda: trial.unacked() == half)
        trial.settle(looks=2 * half + 2)
        expect(f"{tried}: batches before it", len(trial.batches), 1, 1)
        trial.stop(tried, 2)
        trial.expect_batches(tried, 2, [size, half])
        trial.expect_accounts(tried, 2)


def stop_in_second(trial: Trial, number: int) -> None:
    """Stop from within the second store."""
    if number == 2:
        trial.stopping.set()


def wait_in_second(trial: Trial, number: int) -> None:
    """Let the check stop it during the second store."""
    if number == 2:
        trial.inside.set()
        trial.go_on.wait(LIMIT)


def check_load(answer: ModuleType, size: int) -> None:
    """Stop during a full batch, while the queue is never empty."""
    for during in (stop_in_second, wait_in_second):
        tried = "a stop while the second of many full batches is stored"
        with Trial(answer, size, during=during) as trial:
            trial.publish(12 * size)
            trial.start()
            if during is wait_in_second:
                trial.until(tried, "a second batch", trial.inside.is_set)
                trial.stopping.set()
            trial.go_on.set()
            trial.expect_no_error(tried, trial.end(tried, 2), 2)
            trial.expect_batches(tried, 2, [size, size])
            trial.expect_accounts(tried, 2)


def wait_in_first(trial: Trial, number: int) -> None:
    """Let the check do something during the first store."""
    if number == 1:
        trial.inside.set()
        trial.go_on.wait(LIMIT)


def is_one_and_what_was_ahead(size: int) -> Condition:
    """Return the condition on the sizes of batches after a stop in the first."""
    text = f"[1], then at most {size - 1} that were sent ahead"
    return Condition(text, lambda sizes: sizes[:1] == [1] and sum(sizes) <= size)


def check_stop_in_store(answer: ModuleType, size: int) -> None:
    """Store half a batch by its time; let more come meanwhile, and stop.

    A publish is confirmed when the broker has sent ahead what it may.
    """
    tried = f"one of {size} is stored, more messages come meanwhile, then a stop"
    with Trial(answer, size, 0.1, wait_in_first) as trial:
        trial.publish(1)
        trial.start()
        trial.until(tried, "a batch of one", trial.inside.is_set)
        trial.publish(3 * size)
        trial.stop(tried, 2)
        trial.expect_batches(tried, 2, is_one_and_what_was_ahead(size))
        trial.expect_accounts(tried, 2)


def fail_in_second(trial: Trial, number: int) -> None:
    """Fail as a warehouse does that is away, from the second store on."""
    if number >= 2:
        raise WarehouseAwayError("the warehouse is away")


def check_errors(answer: ModuleType, size: int) -> None:
    """Let the second store fail."""
    tried = "the second store raises an error"
    with Trial(answer, size, during=fail_in_second) as trial:
        trial.publish(3 * size)
        trial.start()
        error = trial.end(tried, 1)
        kind = type(error).__name__ if error else "no error"
        expect(f"{tried}: what comes out", kind, WarehouseAwayError.__name__, 1)
        trial.expect_batches(tried, 1, [size, size])
        trial.batches.pop()
        trial.expect_accounts(tried, 1)


def in_some_try(
    tried: str, limit: float, hint: int, try_once: Callable[[float], float]
) -> None:
    """Refuse what takes longer in each of some tries: a machine may be late once.

    A try gets the seconds after which it is late, and need not wait any longer.
    """
    for _ in range(TRIES):
        if try_once(limit + SLACK) <= limit + SLACK:
            return
    raise Refused(tried, Words("longer, in each of two tries"), at_most(limit), hint)


def check_trickle(answer: ModuleType) -> None:
    """Send one message every now and then, after a full batch and a pause."""
    longest = 0.2
    tried = (
        f"a full batch, a pause, then one every {longest / 5:g} s; longest {longest:g}"
    )
    first_stored = f"{tried}: seconds until the first of them is stored"

    def try_once(late: float) -> float:
        with Trial(answer, 20, longest) as trial:
            trial.publish(20)
            trial.start()
            trial.until(tried, "a full batch at first", lambda: trial.batches)
            time.sleep(longest + 0.05)
            expect(f"{tried}: batches before", len(trial.batches), 1, 3)
            begun = time.monotonic()
            while len(trial.batches) == 1 and time.monotonic() < begun + late:
                trial.publish(1)
                time.sleep(longest / 5)
            if len(trial.batches) == 1 and not trial.running.done():
                return inf
            trial.until(tried, "a second batch", lambda: len(trial.batches) > 1)
            seconds = trial.times[1] - begun
            if seconds < longest - EARLY:
                raise Refused(first_stored, Words("less"), at_least(longest), 3)
            trial.stop(tried, 2)
            trial.expect_accounts(tried, 3)
            return seconds

    in_some_try(first_stored, longest + 0.2, 3, try_once)


def check_idle(answer: ModuleType, size: int) -> None:
    """Stop when the queue has been empty, from the start or for a while."""
    for count in (0, size):
        what = f"{count} are stored, and the queue is empty"
        tried = f"{what}; seconds until it returns after a stop"
        try_once = partial(idle_stop, answer, size, count, tried)
        in_some_try(tried, 0.5, 2, try_once)


def idle_stop(
    answer: ModuleType, size: int, count: int, tried: str, late: float
) -> float:
    """Return how long a stop takes after so many messages: none, or a batch."""
    with Trial(answer, size, longest=5.0) as trial:
        trial.publish(count)
        trial.start()
        if count:
            trial.until(tried, "a batch", lambda: trial.batches)
        time.sleep(0.15)
        begun = time.monotonic()
        trial.stopping.set()
        if not wait([trial.running], late).done:
            return inf
        trial.stop(tried, 2)
        trial.expect_batches(tried, 2, [size] if count else [])
        trial.expect_accounts(tried, 2)
        return trial.ended - begun
