"""Rounds of publishers and consumers in which every message is counted."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import measure
from peers_04 import LIMIT, Message, Publisher

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
import services  # noqa: E402

EACH = 200  # publishes, where each waits for its confirm
RUN_LIMIT = 3 * LIMIT  # seconds of a run: queues are filled and emptied in it
POLLED = 50  # publishes, where each waits 10 ms for it

Make = Callable[[str, int], Sequence[Message]]  # so many to a queue
Rate = Callable[[], float]  # measures once, messages per second
Rates = Mapping[str, list[float]]  # of each contestant, round by round


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    rounds: int
    messages: int

    def for_bars(self) -> Size:
        """Return what decides whether a bar is met: a median of more rounds."""
        return replace(self, rounds=3 * self.rounds)

    def of(self, name: str) -> int:
        """Return how many messages a contestant publishes in a round."""
        if name == "amqpstorm, confirm each":
            return min(POLLED, self.messages)
        if "each" in name:
            return min(EACH, self.messages)
        return self.messages


def say(text: str) -> None:
    """Print progress on stderr."""
    print(f"... {text}", file=sys.stderr, flush=True)


@contextmanager
def limited(what: str) -> Iterator[None]:
    """Raise in the middle of a block that takes too long, whatever it waits for."""

    def give_up(*_: object) -> None:
        raise TimeoutError(f"{what} took longer than {RUN_LIMIT:g} s")

    before = signal.signal(signal.SIGALRM, give_up)
    # Again each second: a client's event loop may take the first one for a callback's.
    signal.setitimer(signal.ITIMER_REAL, RUN_LIMIT, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def in_turns(contestants: Mapping[str, Rate], size: Size) -> dict[str, list[float]]:
    """Return each contestant's rates in shuffled rounds; the first warms up."""
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(size.rounds + 1):
        for name in measure.shuffled(contestants, number):
            with limited(name):
                rates[name].append(contestants[name]())
        say(f"round {number} of {size.rounds}")
    return {name: values[1:] for name, values in rates.items()}


def ratio(rates: Rates, ours: str, theirs: str) -> list[float]:
    """Return the ratio of two contestants in each round, sorted."""
    return sorted(a / b for a, b in zip(rates[ours], rates[theirs], strict=True))


def rate(count: int, run: Callable[[], object]) -> float:
    """Return how many a second a run of so many makes."""
    start = time.perf_counter()
    run()
    return count / (time.perf_counter() - start)


class Counted:
    """A queue that is looked into between the runs: no message is on its way."""

    def __init__(self, channel: Any, queue: str) -> None:
        self.channel = channel
        self.queue = queue

    def ready(self) -> int:
        found = self.channel.queue_declare(self.queue, passive=True)
        return int(found.method.message_count)

    def wait_for(self, count: int) -> None:
        """Wait until so many messages are in the queue; raise if there are others."""
        what = f"{self.queue} never had {count} messages"
        services.wait_for(lambda: self.ready() >= count, LIMIT, what)
        found = self.ready()
        if found != count:
            raise RuntimeError(f"{self.queue} has {found} messages, not {count}")

    def purge(self) -> int:
        return int(self.channel.queue_purge(self.queue).method.message_count)

    def take_out(self, count: int) -> None:
        """Empty the queue, in which there have to be so many messages."""
        self.wait_for(count)
        purged = self.purge()
        if purged != count:
            raise RuntimeError(f"{self.queue} had {purged} messages, not {count}")


class CountedStream(Counted):
    """A stream, which can't be emptied: what is in it before a run does not count."""

    before = 0

    def take_out(self, count: int) -> None:
        """Wait until so many messages more are in the stream."""
        self.wait_for(self.before + count)
        self.before += count


def publish(client: Publisher, make: Make, queue: Counted, count: int) -> float:
    """Publish so many once, and see that they have all arrived."""
    ready = client.prepared(make(queue.queue, count))
    found = rate(count, lambda: client.publish(ready))
    queue.take_out(count)
    return found


def publishing(
    clients: Mapping[str, Callable[[], Publisher]],
    make: Make,
    queue: Counted,
    size: Size,
) -> Rates:
    """Measure all publishers on one queue."""
    runs: dict[str, Rate] = {}
    with ExitStack() as stack:
        for name, opened in clients.items():
            with limited(name):
                client = stack.enter_context(closing(opened()))
            runs[name] = partial(publish, client, make, queue, size.of(name))
        return in_turns(runs, size)
