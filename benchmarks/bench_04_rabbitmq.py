"""Lesson 04 beside pika, aio-pika, kombu (py-amqp) and amqpstorm.

Prints Markdown: each table is one run, in which the contestants took turns in another
order each round. A ratio is the median of the rounds' ratios: what slows a round of a
busy machine slows both sides. A bar has more rounds, in which only its contestants take
turns: the median of a few is a matter of luck. Every message is counted: those of a run
have to be in the queue, and be taken out of it, before the next one begins.

Takes the RabbitMQ that answers at $RABBITMQ_URL (or on the loopback port), else a
private one; what it declares there has a prefix of its own and is deleted at the end.
With NEWEST_ROOT (tools/newest_servers) it also starts the RabbitMQ of that, and
measures the clients for AMQP 1.0 and streams on it.

Run:  python benchmarks/bench_04_rabbitmq.py [rounds] [messages]   (default 7, 5000)
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import measure
from newest_04 import AMQP_1_0, Amqp10, Stream
from peers_04 import LIMIT, Message, Publisher, SelectWindow, publishers
from readers_04 import PREFETCH, Stopwatch, consume_select, consumers
from rounds_04 import (
    Counted,
    CountedStream,
    Rates,
    Size,
    in_turns,
    publishing,
    ratio,
    say,
)

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT))

import services  # noqa: E402
from lessons import load  # noqa: E402

from course.amqp.finding import DEFAULT_URL, broker_of, parameters_of  # noqa: E402
from course.amqp.internals import server_properties  # noqa: E402
from course.amqp.trials import consumer_with, running  # noqa: E402
from course.services import setting  # noqa: E402

lesson: Any = load("04")
SLOWLY = 800  # messages to consume with a prefetch of 1
STREAM_PLUGIN = "[rabbitmq_stream].\n"

OURS_WINDOW = "ours, windowed confirms"
OURS = "ours"
BY_HAND = "SelectConnection, a window by hand"
PIKA_EACH = "pika, confirm each"
SELECT = "SelectConnection, json.loads"
VALIDATING = "SelectConnection, our validation"  # decodes as much as ours does
BARS_300 = (VALIDATING, SELECT)


def bar(what: str, values: list[float], least: float) -> list[str]:
    """Return a row of the table of bars: the median, and between what it varied."""
    middle = statistics.median(values)
    spread = f"{min(values):,.2f} to {max(values):,.2f}"
    met = "yes" if middle >= least else "**no**"
    return [what, f"≥ {least:g} x", f"{middle:,.2f} x", spread, met]


def print_rates(title: str, rates: Rates, packages: Sequence[str]) -> None:
    """Print each one's median rate, and its median ratio to the first."""
    first = next(iter(rates))
    rows = []
    for name, values in rates.items():
        middle = statistics.median(values)
        compared = statistics.median(ratio(rates, name, first))
        rows.append((name, f"{middle:,.0f}", f"{compared:.3g}"))
    print(f"\n{title}\n")
    print(measure.markdown(("client and mode", "messages/s", f"x {first}"), rows))
    if packages:
        print(f"\n{measure.versions(*packages)}")


# Publishing


def messages(queue: str, count: int) -> list[Message]:
    """Return users' data as the lesson publishes it, each with an id of its own."""
    return [lesson.publish_arguments(one, "", queue) for one in lesson.users(count)]


class Ours:
    """The lesson's Producer, which sends in a window or waits for each confirm."""

    def __init__(self, rabbit: Any, each: bool) -> None:
        self.producer = lesson.Producer(rabbit, deadline=LIMIT)
        self.each = each

    def prepared(self, messages: Sequence[Message]) -> Sequence[Any]:
        return messages

    def publish(self, ready: Sequence[Any]) -> None:
        if self.each:
            for one in ready:
                self.producer.publish(*one)
        else:
            self.producer.wait(*[self.producer.send(*one) for one in ready])

    def close(self) -> None:
        self.producer.close()


def our_publishers(rabbit: Any) -> dict[str, Callable[[], Publisher]]:
    """Return how to open ours, by its modes."""
    return {
        OURS_WINDOW: partial(Ours, rabbit, each=False),
        "ours, confirm each": partial(Ours, rabbit, each=True),
    }


def least_of(kind: str, rates: Rates) -> dict[str, float]:
    """Return how many times each of some peers a window has to be worth."""
    aio = [name for name in rates if name.startswith("aio")]
    best = max(aio, key=lambda name: statistics.median(rates[name]))
    return {BY_HAND: 0.8, PIKA_EACH: 8 if kind == "quorum" else 4, best: 1.8}


def publishing_bars(
    kind: str, rates: Rates, least: Mapping[str, float]
) -> list[list[str]]:
    """Return what a window is worth on one kind of queue."""
    return [
        bar(f"{kind}: window / {theirs}", ratio(rates, OURS_WINDOW, theirs), times)
        for theirs, times in least.items()
    ]


# Consuming


def consume_ours(
    rabbit: Any,
    queue: str,
    producer: Any,
    count: int,
    *,
    prefetch: int = PREFETCH,
    inbox: bool = False,
) -> float:
    """Consume with our Consumer: validated, on a pool, with an inbox if asked to."""
    watch = Stopwatch(count)
    with ExitStack() as stack:
        ledger = None
        if inbox:
            folder = tempfile.TemporaryDirectory(prefix="module8-bench-")
            name = stack.enter_context(folder)
            ledger = stack.enter_context(lesson.Ledger(f"{name}/ledger"))
        consumer = consumer_with(
            lesson.Consumer,
            lambda _: watch.tick(),
            rabbit,
            queue,
            producer,
            ledger,
            prefetch=prefetch,
        )
        with running(consumer):
            assert watch.done.wait(LIMIT)
            end = time.monotonic() + LIMIT
            while consumer.counts["acked"] < count and time.monotonic() < end:
                time.sleep(0.0005)
            consumer.round_trip()  # the broker has read the acknowledgements
            found = watch.stop()
    assert consumer.counts["acked"] == count
    return found


def consuming(rabbit: Any, url: str, queue: Counted, size: Size) -> dict[str, Rates]:
    """Measure all consumers on one queue, which is filled before each."""
    with closing(lesson.Producer(rabbit, deadline=LIMIT)) as producer:

        def filled(run: Callable[[int], float], count: int) -> float:
            pending = [producer.send(*one) for one in messages(queue.queue, count)]
            producer.wait(*pending)
            queue.wait_for(count)
            found = run(count)
            queue.wait_for(0)
            return found

        def in_rounds(
            runs: Mapping[str, Callable[[int], float]], size: Size
        ) -> dict[str, list[float]]:
            filling = {}
            for name, run in runs.items():
                filling[name] = partial(filled, run, size.messages)
            return in_turns(filling, size)

        name = queue.queue
        ours = partial(consume_ours, rabbit, name, producer)
        select = partial(consume_select, rabbit.parameters, name)
        validating = partial(select, read=lesson.Message.from_json)
        many: dict[str, Callable[[int], float]] = {
            OURS: ours,
            VALIDATING: validating,
        }
        many |= consumers(rabbit.parameters, url, name)
        say("consuming, prefetch 300")
        found: dict[str, Rates] = {"300": in_rounds(many, size)}
        few = {name: many[name] for name in (OURS, *BARS_300)}
        say("only those of the bar")
        found["bar 300"] = in_rounds(few, size.for_bars())
        say("consuming, prefetch 1")
        one = {
            OURS: partial(ours, prefetch=1),
            SELECT: partial(select, prefetch=1),
            "ours, prefetch 300": ours,
            "ours, prefetch 300, an inbox on disk": partial(ours, inbox=True),
        }
        slow = replace(size, messages=min(SLOWLY, size.messages))
        found["1"] = in_rounds(one, slow)
        few = {name: one[name] for name in (OURS, SELECT)}
        say("only those of the bar")
        found["bar 1"] = in_rounds(few, slow.for_bars())
        return found


# Brokers


@contextmanager
def broker() -> Iterator[tuple[str, Any]]:
    """Yield the URL and our topology on the RabbitMQ that answers, or a private one."""
    configured = setting("RABBITMQ_URL")
    url = configured or DEFAULT_URL
    with ExitStack() as stack:
        if configured:
            broker_of(argparse.Namespace(url=None))  # it says why, in one line
        elif not services.answers(parameters_of(url).port):
            server = stack.enter_context(services.private("rabbitmq"))
            if server is None:
                sys.exit("no RabbitMQ answers, and there is none to start")
            url = server.url
        yield url, stack.enter_context(topology(url))


@contextmanager
def topology(url: str) -> Iterator[Any]:
    """Yield our topology under a prefix of its own, and take it down."""
    prefix = f"module8.bench.{uuid.uuid4().hex[:8]}"
    rabbit = lesson.RabbitMQConnection(parameters_of(url), prefix)
    try:
        yield rabbit
    finally:
        rabbit.teardown()


def introduce(rabbit: Any, size: Size) -> None:
    """Print what the tables that follow were measured on."""
    with rabbit.connect() as connection:
        version = server_properties(connection)["version"]
    body = messages("", 1)[0][2]
    print(
        f"RabbitMQ {version}, one node; persistent, mandatory messages of {len(body)} "
        f"bytes; medians of {size.rounds} rounds, their order shuffled."
    )


def measure_usual(size: Size) -> list[list[str]]:
    """Measure on the RabbitMQ that is here; print the tables, return the bars."""
    packages = ("pika", "aio-pika", "kombu", "amqp", "amqpstorm")
    bars = []
    with broker() as (url, rabbit):
        queues = {"quorum": rabbit.add_queue("quorum")}
        queues["classic"] = rabbit.add_queue("classic", priorities=5)
        to_read = rabbit.add_queue("read")
        rabbit.setup_infrastructure()
        introduce(rabbit, size)
        clients = our_publishers(rabbit) | publishers(rabbit.parameters, url)
        for kind, queue in queues.items():
            say(f"publishing to a {kind} queue")
            with rabbit.channel() as channel:
                rates = publishing(clients, messages, Counted(channel, queue), size)
                print_rates(f"Publishing to a durable {kind} queue:", rates, packages)
                least = least_of(kind, rates)
                few = {name: clients[name] for name in (OURS_WINDOW, *least)}
                say("only those of the bars")
                counted = Counted(channel, queue)
                rates = publishing(few, messages, counted, size.for_bars())
            bars += publishing_bars(kind, rates, least)
        with rabbit.channel() as channel:
            found = consuming(rabbit, url, Counted(channel, to_read), size)
    title = "Consuming from a quorum queue, prefetch 300, ack each:"
    print_rates(title, found["300"], packages)
    title = "The same, prefetch 1; the last two rows compare ours with itself:"
    print_rates(title, found["1"], ["pika"])
    wanted = [("300", 0.9, theirs) for theirs in BARS_300] + [("1", 0.8, SELECT)]
    for prefetch, times, theirs in wanted:
        what = f"our consumer / {theirs}, prefetch {prefetch}"
        bars.append(bar(what, ratio(found["bar " + prefetch], OURS, theirs), times))
    return bars


def measure_newest(size: Size) -> None:
    """Measure what only a newer RabbitMQ has, on one of our own; print the tables."""
    port = services.free_port()
    options = [f"stream.listeners.tcp.1 = 127.0.0.1:{port}"]
    options += [
        "stream.advertised_host = 127.0.0.1",
        f"stream.advertised_port = {port}",
    ]
    with ExitStack() as stack:
        server = stack.enter_context(services.private("rabbitmq", *options))
        assert server is not None
        (server.folder / "enabled_plugins").write_text(STREAM_PLUGIN)
        server.restart()
        services.wait_for(lambda: services.answers(port), LIMIT, "no stream protocol")
        url = server.url
        rabbit = stack.enter_context(topology(url))
        quorum = rabbit.add_queue("quorum")
        stream = rabbit.name("stream")
        rabbit.plan_queue(stream, {"x-queue-type": "stream"})
        rabbit.setup_infrastructure()
        print()
        introduce(rabbit, size)
        channel = stack.enter_context(rabbit.channel())
        clients = our_publishers(rabbit)
        to_quorum = clients | {BY_HAND: partial(SelectWindow, rabbit.parameters)}
        if find_spec(AMQP_1_0):
            to_quorum["AMQP 1.0 client, settled each"] = partial(Amqp10, url, quorum)
        to_stream = clients | {
            "rstream, send_batch of 1000": partial(Stream, url, port, stream, True),
            "rstream, send_wait each": partial(Stream, url, port, stream, False),
        }
        say("the newest: a quorum queue")
        rates = publishing(to_quorum, messages, Counted(channel, quorum), size)
        title = "Publishing to a quorum queue, by the protocol of others:"
        print_rates(title, rates, ["pika", "rabbitmq-amqp-python-client"])
        say("the newest: a stream")
        rates = publishing(to_stream, messages, CountedStream(channel, stream), size)
        title = "Publishing to a stream, which keeps what is read:"
        print_rates(title, rates, ["pika", "rstream"])


def main() -> int:
    """Measure everything and print it; return 0."""
    size = Size(*measure.numbers_given(7, 5000))
    bars = measure_usual(size)
    if os.environ.get("NEWEST_ROOT"):
        measure_newest(size)
    else:
        print(
            "\nNot measured without NEWEST_ROOT: AMQP 1.0 and streams, on RabbitMQ 4."
        )
    header = ("claim", "bar", "median", "rounds", "met")
    print(f"\n{measure.markdown(header, bars)}")
    return 0


if __name__ == "__main__":
    sys.exit(measure.ended_well(main))
