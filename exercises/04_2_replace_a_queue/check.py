"""Judges replace_queue with a broker in memory that fails, and others at work on it."""

from __future__ import annotations

import copy
import itertools
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from course.claims import is_a
from course.practice.checking import Refused, Words, expect

MOST_CALLS = 200  # of one run; four times what it takes
OLD = "orders"
NEW = "orders.v2"
ARGUMENTS = {"x-queue-type": "quorum", "x-dead-letter-exchange": ""}
BINDINGS = [("shop", "order.new"), ("shop", "order.changed"), ("returns", "order.new")]

Properties = dict[str, object]


class TooManyCalls(BaseException):
    """One run does not end."""


class Message:
    """A message: what was published, which a copy has to be equal to."""

    def __init__(self, properties: Mapping[str, object], body: bytes) -> None:
        self.properties = copy.deepcopy(dict(properties))
        self.body = body

    def content(self) -> tuple[bytes, Properties]:
        """Return what two copies have in common."""
        return self.body, self.properties

    def id(self) -> object:
        """Return what an inbox knows it by."""
        return self.properties.get("message_id")


class Queue:
    """A queue: what is ready, and what others hold."""

    def __init__(self, arguments: Mapping[str, object]) -> None:
        self.arguments = dict(arguments)
        self.ready: deque[Message] = deque()
        self.held: list[Message] = []


class FakeBroker:
    """A broker in memory.

    `between` is called before each call and told its number, from 1. `fails` is the
    number of the call that raises, and `late` tells whether it has its effect first.
    """

    def __init__(self, delivery: Any, rng: random.Random) -> None:
        self.delivery = delivery
        self.rng = rng
        self.queues = {OLD: Queue({})}
        self.bindings = {(OLD, exchange, key) for exchange, key in BINDINGS}
        self.taken: dict[int, tuple[str, Message]] = {}
        self.published: list[Message] = []  # by the shop
        self.done: list[Message] = []  # by the old worker
        self.unheard: list[str] = []  # publishes that reached no queue
        self.refusing: set[object] = set()  # ids that the new queue refuses
        self.tags = itertools.count(1)
        self.ids = itertools.count(1)
        self.next_binding = 0
        self.start_run()

    def start_run(
        self,
        between: Callable[[int], object] | None = None,
        fails: int = 0,
        late: bool = False,
    ) -> None:
        """Prepare for the next run."""
        self.calls = 0
        self.names: list[str] = []  # of the calls
        self.between = between
        self.fails = fails
        self.late = late

    # What the others do

    def shop_publishes(self, _: int = 0) -> None:
        """Publish through the next binding; note it if that leads to no queue."""
        exchange, key = BINDINGS[self.next_binding % len(BINDINGS)]
        self.next_binding += 1
        number = next(self.ids)
        properties: Properties = {
            "message_id": f"order-{number}",
            "delivery_mode": 2,
            "priority": self.rng.randrange(5),
            "headers": {"traceparent": f"00-{self.rng.randrange(10**6)}"},
        }
        body = b"" if number % 4 == 0 else f"order {number}".encode()
        message = Message(properties, body)
        reached = False
        for name, queue in self.queues.items():
            if (name, exchange, key) in self.bindings:
                queue.ready.append(message)
                reached = True
        self.published.append(message)
        if not reached:
            self.unheard.append(f"{exchange}, {key}")

    def worker_takes(self, count: int) -> None:
        """Let the old worker take so many, and acknowledge none."""
        queue = self.queues[OLD]
        for _ in range(count):
            queue.held.append(queue.ready.popleft())

    def worker_lets_go(self, done: bool) -> None:
        """Let the old worker acknowledge one, or give it back."""
        queue = self.queues.get(OLD)
        if queue is None or not queue.held:
            return
        message = queue.held.pop(0)
        if done:
            self.done.append(message)
        else:
            queue.ready.appendleft(message)

    # What the function may ask for

    def call(self, name: str, effect: Callable[[], Any]) -> Any:
        """Do what is asked for; fail where this run is to fail."""
        if self.between:
            self.between(self.calls + 1)
        self.calls += 1
        self.names.append(name)
        if self.calls > MOST_CALLS:
            raise TooManyCalls
        failing = self.calls == self.fails
        if failing and not self.late:
            self.lose("the connection is gone")
        result = effect()
        if failing:
            self.lose("the connection is gone")
        return result

    def name_of(self, number: int) -> str:
        """Return the name of a call of this run, as part of a sentence."""
        return f" ({self.names[number - 1]})" if number <= self.calls else ""

    def lose(self, reason: str) -> None:
        """Give back what was taken, and raise."""
        for name, message in reversed(self.taken.values()):
            if name in self.queues:
                self.queues[name].ready.appendleft(message)
        self.taken.clear()
        raise ConnectionError(reason)

    def existing(self, queue: str) -> Queue:
        """Return a queue that has to exist."""
        if queue not in self.queues:
            raise LookupError(f"no queue {queue}")
        return self.queues[queue]

    def target(self, queue: str) -> Queue:
        """Return a queue to bind or to fill; the connection ends if there is none."""
        if queue not in self.queues:
            self.lose(f"no queue {queue}")
        return self.queues[queue]

    def declare(self, queue: str, arguments: Mapping[str, object]) -> None:
        """Create a queue."""

        def effect() -> None:
            known = self.queues.setdefault(queue, Queue(arguments))
            if known.arguments != dict(arguments):
                self.lose(f"{queue} exists with other arguments")

        self.call("declare", effect)

    def bind(self, queue: str, exchange: str, key: str) -> None:
        """Bind a queue."""

        def effect() -> None:
            self.target(queue)
            self.bindings.add((queue, exchange, key))

        self.call("bind", effect)

    def unbind(self, queue: str, exchange: str, key: str) -> None:
        """Remove a binding."""
        self.call("unbind", lambda: self.bindings.discard((queue, exchange, key)))

    def held_by_others(self, queue: str) -> int:
        """Return how many messages others hold."""
        held: int = self.call("held_by_others", lambda: len(self.existing(queue).held))
        return held

    def get(self, queue: str) -> Any:
        """Take a message."""

        def effect() -> Any:
            ready = self.existing(queue).ready
            if not ready:
                return None
            message = ready.popleft()
            tag = next(self.tags)
            self.taken[tag] = (queue, message)
            properties = copy.deepcopy(message.properties)
            return self.delivery(tag, properties, message.body)

        return self.call("get", effect)

    def publish(
        self, queue: str, properties: Mapping[str, object], body: bytes
    ) -> None:
        """Put a message into a queue."""

        def effect() -> None:
            message = Message(properties, body)
            if message.id() in self.refusing:
                self.lose("the queue refused it")
            self.target(queue).ready.append(message)

        self.call("publish", effect)

    def ack(self, tag: int) -> None:
        """Remove a message."""

        def effect() -> None:
            if tag not in self.taken:
                self.lose(f"unknown tag {tag}")
            del self.taken[tag]

        self.call("ack", effect)

    def delete(self, queue: str) -> None:
        """Delete a queue."""

        def effect() -> None:
            self.queues.pop(queue, None)
            self.bindings = {one for one in self.bindings if one[0] != queue}

        self.call("delete", effect)

    # What has come of it

    def lost(self) -> list[object]:
        """Return the ids of what is nowhere: not in a queue, and not done."""
        kept = {message.id() for message in self.done}
        kept |= {message.id() for _, message in self.taken.values()}
        for queue in self.queues.values():
            kept |= {message.id() for message in [*queue.ready, *queue.held]}
        return [one.id() for one in self.published if one.id() not in kept]

    def changed(self) -> list[object]:
        """Return the ids of copies in the new queue that differ from the original."""
        originals = {one.id(): one.content() for one in self.published}
        found = []
        for message in self.queues[NEW].ready:
            if originals.get(message.id()) != message.content():
                found.append(message.id())
        return found


class Trial:
    """A broker with some messages, and the function that is judged."""

    def __init__(self, answer: ModuleType, rng: random.Random, count: int) -> None:
        self.replace = answer.replace_queue
        self.broker = FakeBroker(answer.Delivery, rng)
        for _ in range(count):
            self.broker.shop_publishes()

    def run(self, tried: str, hint: int) -> Any:
        """Run the function once; return its result, or the error that is allowed."""
        bindings: Sequence[tuple[str, str]] = tuple(BINDINGS)
        try:
            return self.replace(self.broker, OLD, NEW, dict(ARGUMENTS), bindings)
        except NotImplementedError:
            raise
        except (ConnectionError, RuntimeError) as error:
            return error
        except TooManyCalls:
            observed = Words(f"no end within {MOST_CALLS} calls")
            raise Refused(tried, observed, Words("an end"), hint) from None
        except LookupError as error:
            observed = Words(f"{type(error).__name__}: {error}")
            raise Refused(tried, observed, Words("an end without it"), hint) from error

    def expect_nothing_lost(self, tried: str, hint: int) -> None:
        """Refuse the answer where a message is nowhere, or was not heard."""
        broker = self.broker
        unheard = broker.unheard[:1]
        expect(f"{tried}: publishes that reach neither queue", unheard, [], 1)
        expect(f"{tried}: messages that are lost", broker.lost(), [], hint)

    def finish(self, tried: str, hint: int, moved: Any = None) -> None:
        """Run to the end, without a failure; see that the job is done."""
        expected = is_a(int) if moved is None else moved
        result = self.run(tried, hint)
        expect(f"{tried}: what is returned", result, expected, hint)
        broker = self.broker
        self.expect_nothing_lost(tried, hint)
        expect(f"{tried}: the queues", sorted(broker.queues), [NEW], hint)
        bound = sorted(broker.bindings)
        wanted = sorted((NEW, exchange, key) for exchange, key in BINDINGS)
        expect(f"{tried}: the bindings", bound, wanted, 1)
        arguments = broker.queues[NEW].arguments
        expect(f"{tried}: the new queue's arguments", arguments, ARGUMENTS, 1)
        what = f"{tried}: copies with another body or other properties"
        expect(what, broker.changed(), [], 2)


def check(answer: ModuleType, rng: random.Random) -> None:
    """Replace a queue: in peace, then with publishers, failures and the old worker."""
    count = rng.randrange(4, 7)
    check_in_peace(answer, rng, count)
    check_publishers(answer, rng, count)
    check_refusals(answer, rng, count)
    check_worker_holds(answer, rng, count)
    check_worker_lets_go(answer, rng, count)
    check_failures(answer, rng, count)


def check_in_peace(answer: ModuleType, rng: random.Random, count: int) -> None:
    """Let nobody else do anything; then run again, and with a new queue there."""
    trial = Trial(answer, rng, count)
    trial.finish(f"{count} messages, nobody else at work", 1, count)
    trial.broker.start_run()
    trial.finish("run again after it has succeeded", 2, 0)
    kept = len(trial.broker.queues[NEW].ready)
    expect("run again: messages in the new queue", kept, count, 2)
    Trial(answer, rng, 0).finish("an empty queue", 1, 0)
    trial = Trial(answer, rng, count)
    trial.broker.queues[NEW] = Queue(ARGUMENTS)
    trial.broker.bindings.add((NEW, *BINDINGS[0]))
    trial.broker.shop_publishes()
    tried = "the new queue exists, is bound once, and has a message"
    trial.finish(tried, 2, count + 1)


def check_publishers(answer: ModuleType, rng: random.Random, count: int) -> None:
    """Publish between any two calls, through each binding in turn."""
    for first in range(len(BINDINGS)):
        trial = Trial(answer, rng, count)
        trial.broker.next_binding = first
        trial.broker.start_run(trial.broker.shop_publishes)
        trial.finish("a message is published between any two calls", 1)


def check_refusals(answer: ModuleType, rng: random.Random, count: int) -> None:
    """Let the new queue refuse one message, for a while."""
    place = rng.randrange(1, count)
    trial = Trial(answer, rng, count)
    broker = trial.broker
    refused = broker.published[place].id()
    broker.refusing.add(refused)
    tried = f"the new queue refuses message {place + 1} of {count}"
    for again in ("", ", and does so again"):
        broker.start_run()
        result = trial.run(tried + again, 2)
        trial.expect_nothing_lost(tried + again, 2)
        expect(f"{tried}{again}: what it raises", result, is_a(ConnectionError), 2)
        ids = [one.id() for one in broker.queues[OLD].ready]
        kept = refused in ids
        expect(f"{tried}{again}: it is still in the old queue", kept, True, 2)
    broker.refusing.clear()
    broker.start_run()
    left = len(broker.queues[OLD].ready)
    trial.finish(f"{tried}; run again when it takes it", 2, left)


def check_worker_holds(answer: ModuleType, rng: random.Random, count: int) -> None:
    """Let the old worker hold messages all the time, and give them back after that."""
    held = rng.randrange(1, 3)
    trial = Trial(answer, rng, count)
    broker = trial.broker
    broker.worker_takes(held)
    tried = f"the old worker holds {held} of {count} messages"
    for again in ("", ", and still does in the next run"):
        broker.start_run()
        result = trial.run(tried + again, 3)
        trial.expect_nothing_lost(tried + again, 3)
        expect(f"{tried}{again}: what it raises", result, is_a(RuntimeError), 3)
        bound = [one[1:] for one in broker.bindings if one[0] == OLD]
        expect(f"{tried}{again}: the old queue's bindings", bound, [], 3)
        moved = len(broker.queues[NEW].ready)
        expect(f"{tried}{again}: messages moved", moved, count - held, 3)
    for _ in range(held):
        broker.worker_lets_go(done=False)
    broker.start_run()
    trial.finish(f"{tried}, then gives them back", 3, held)
    # A publisher in between must not hide what the worker holds.
    trial = Trial(answer, rng, count)
    trial.broker.worker_takes(held)
    trial.broker.start_run(trial.broker.shop_publishes)
    result = trial.run(f"{tried}, and the shop publishes", 3)
    trial.expect_nothing_lost(f"{tried}, and the shop publishes", 3)
    expect(f"{tried}, and the shop publishes", result, is_a(RuntimeError), 3)


def check_worker_lets_go(answer: ModuleType, rng: random.Random, count: int) -> None:
    """Let the old worker let go of a message before any of the calls."""
    for held, done in itertools.product((1, 2), (False, True)):
        lets_go = "acknowledges" if done else "gives back"
        which = "the only one" if held == 1 else "the first of two"
        number = 1
        reached = True
        while reached:
            trial = Trial(answer, rng, count)
            trial.broker.worker_takes(held)
            tried = f"the old worker {lets_go} {which} before call {number}"
            reached = worker_lets_go(trial, tried, number, done)
            number += 1


def worker_lets_go(trial: Trial, tried: str, number: int, done: bool) -> bool:
    """Let the worker let go before a call; tell whether there was such a call."""
    broker = trial.broker
    held = len(broker.queues[OLD].held)

    def between(call: int) -> None:
        if call == number:
            broker.worker_lets_go(done)

    broker.start_run(between)
    result = trial.run(tried, 3)
    reached = broker.calls >= number
    tried += broker.name_of(number)
    trial.expect_nothing_lost(tried, 3)
    allowed = is_a(int, RuntimeError) if held == 1 else is_a(RuntimeError)
    expect(f"{tried}: what comes out", result, allowed, 3)
    while OLD in broker.queues and broker.queues[OLD].held:
        broker.worker_lets_go(done=False)
    broker.start_run()
    trial.finish(f"{tried}; run again when it holds nothing", 3)
    return reached


def check_failures(answer: ModuleType, rng: random.Random, count: int) -> None:
    """Let each of the calls fail, before and after its effect; run again."""
    for late in (False, True):
        when = "after its effect" if late else "before its effect"
        number = 1
        failed = True
        while failed:
            trial = Trial(answer, rng, count)
            tried = f"a call fails {when}, number {number}"
            failed = failing_call(trial, tried, number, late)
            number += 1


def failing_call(trial: Trial, tried: str, number: int, late: bool) -> bool:
    """Let one call fail, and one of the second run; tell whether there was the first.

    The shop publishes meanwhile.
    """
    broker = trial.broker
    broker.start_run(broker.shop_publishes, number, late)
    result = trial.run(tried, 2)
    failed = broker.calls >= number
    tried += broker.name_of(number)
    trial.expect_nothing_lost(tried, 2)
    if failed:
        expect(f"{tried}: what it raises", result, is_a(ConnectionError), 2)
        second = broker.rng.randrange(1, number + 4)
        broker.start_run(broker.shop_publishes, second, not late)
        tried += f", then call {second} of the next run"
        trial.run(tried, 2)
        tried += broker.name_of(second)
        trial.expect_nothing_lost(tried, 2)
    broker.start_run()
    left = len(broker.queues[OLD].ready) if OLD in broker.queues else 0
    trial.finish(f"{tried}; run again", 2, left)
    return failed
