"""Lesson 04 beside raw pika, aio-pika, kombu (py-amqp) and amqpstorm.

Prints Markdown: each table is one run, in which the contestants took turns. A ratio is
the median of the rounds' ratios: what slows a round of a busy machine slows both sides.
Takes the RabbitMQ that answers at $RABBITMQ_URL (or on the loopback port), else a
private one; what it declares there has a prefix of its own and is deleted at the end.

Run:  python benchmarks/bench_04_rabbitmq.py
"""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import aio_pika
import measure
import pika

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT))

import services  # noqa: E402
from lessons import load  # noqa: E402

from course.amqp.finding import DEFAULT_URL, parameters_of  # noqa: E402
from course.amqp.internals import server_properties  # noqa: E402
from course.amqp.trials import consumer_with, running  # noqa: E402
from course.services import setting  # noqa: E402
from course.standins.amqp import Broker  # noqa: E402

lesson: Any = load("04")
# Half typed: their names are neither exported nor annotated.
amqpstorm: Any = import_module("amqpstorm")
kombu: Any = import_module("kombu")
REPEATS = 11
LIMIT = 60.0  # seconds that anything may take
EACH, MANY = 200, 5000  # publishes: where each waits for its confirm, where not
READ, READ_SLOWLY = 5000, 800  # messages to consume: prefetch 300, prefetch 1
PREFETCH = 300

WINDOW, OURS, PLAIN = "ours, windowed confirms", "ours", "pika, json.loads"

Rate = Callable[[], float]  # measures once, messages per second
Rates = Mapping[str, list[float]]  # of each contestant, round by round


def say(text: str) -> None:
    """Print progress on stderr."""
    print(f"... {text}", file=sys.stderr, flush=True)


def rounds(contestants: Mapping[str, Rate]) -> dict[str, list[float]]:
    """Return each contestant's rates in interleaved rounds; the first warms up."""
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(REPEATS + 1):
        for name, run in contestants.items():
            rates[name].append(run())
        say(f"round {number} of {REPEATS}")
    return {name: values[1:] for name, values in rates.items()}


def ratio(rates: Rates, ours: str, theirs: str) -> list[float]:
    """Return the ratio of two contestants in each round, sorted."""
    return sorted(a / b for a, b in zip(rates[ours], rates[theirs], strict=True))


def rate(count: int, run: Callable[[], object]) -> float:
    """Return how many a second a run of so many makes."""
    start = time.perf_counter()
    run()
    return count / (time.perf_counter() - start)


def bar(what: str, values: list[float], least: float, unit: str = " x") -> list[str]:
    """Return a row of the table of bars: the median, and between what it varied."""
    middle = statistics.median(values)
    spread = f"{min(values):,.2f} to {max(values):,.2f}"
    met = "yes" if middle >= least else "**no**"
    return [what, f"≥ {least:g}{unit}", f"{middle:,.2f}{unit}", spread, met]


def print_rates(title: str, rates: Rates) -> None:
    """Print each one's median rate, and its median ratio to the first."""
    first = next(iter(rates))
    rows = [
        (
            name,
            f"{statistics.median(values):,.0f}",
            f"{statistics.median(ratio(rates, name, first)):.2f}",
        )
        for name, values in rates.items()
    ]
    print(f"\n{title}\n")
    print(measure.markdown(("client and mode", "messages/s", "to ours"), rows))


# Publishing


def body() -> bytes:
    """Return a message's body, about 300 bytes."""
    return bytes(lesson.users(1)[0].to_json().encode())


def publish_ours(producer: Any, queue: str, count: int, each: bool = False) -> float:
    """Publish through our Producer: one window, or one confirm at a time."""
    ready = [lesson.publish_arguments(one, "", queue) for one in lesson.users(count)]

    def run() -> None:
        if each:
            for one in ready:
                producer.publish(*one)
        else:
            producer.wait(*[producer.send(*one) for one in ready])

    return rate(count, run)


def publish_pika(channel: Any, queue: str, count: int) -> float:
    """Publish by pika's BlockingChannel, with confirms if they are on."""
    about, text = pika.BasicProperties(delivery_mode=2), body()

    def run() -> None:
        for _ in range(count):
            channel.basic_publish("", queue, text, about, mandatory=True)

    return rate(count, run)


def publish_kombu(producer: Any, queue: str, count: int) -> float:
    """Publish by kombu's Producer, over py-amqp."""
    text = body()

    def run() -> None:
        for _ in range(count):
            producer.publish(text, routing_key=queue, delivery_mode=2, mandatory=True)

    return rate(count, run)


def publish_amqpstorm(channel: Any, queue: str, count: int) -> float:
    """Publish by amqpstorm's Channel, with confirms if they are on."""
    about, text = {"delivery_mode": 2}, body()

    def run() -> None:
        for _ in range(count):
            channel.basic.publish(text, queue, properties=about, mandatory=True)

    return rate(count, run)


def publish_aio(
    loop: asyncio.AbstractEventLoop, exchange: Any, queue: str, count: int, window: int
) -> float:
    """Publish by aio-pika, so many at a time with asyncio.gather."""
    message = aio_pika.Message(body(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)

    async def run() -> None:
        for _ in range(0, count, window):
            await asyncio.gather(
                *(exchange.publish(message, queue) for _ in range(window))
            )

    return rate(count, lambda: loop.run_until_complete(run()))


@contextmanager
def aio(url: str) -> Iterator[tuple[asyncio.AbstractEventLoop, Any]]:
    """Yield a loop and, on it, an open connection of aio-pika."""
    loop = asyncio.new_event_loop()
    connection = loop.run_until_complete(aio_pika.connect(url))
    try:
        yield loop, connection
    finally:
        loop.run_until_complete(connection.close())
        loop.close()


async def default_exchange(connection: Any) -> Any:
    """Return the exchange that routes to queues by name, on a channel of its own."""
    return (await connection.channel()).default_exchange


def publishers(rabbit: Any, url: str, queue: str, stack: ExitStack) -> dict[str, Rate]:
    """Open every client's connection and return its modes, ready to run."""
    ours = stack.enter_context(lesson.Producer(rabbit, deadline=LIMIT))
    channels: list[Any] = []
    for confirms in (True, False):
        channel = stack.enter_context(rabbit.connect()).channel()
        if confirms:
            channel.confirm_delivery()
        channels.append(channel)
        # kombu's transport keeps confirms out of sight of its API: an option has it.
        options = {"confirm_publish": confirms}
        to = stack.enter_context(kombu.Connection(url, transport_options=options))
        channels.append(to.Producer(serializer=None, auto_declare=False))
        storm = stack.enter_context(amqpstorm.UriConnection(url)).channel()
        if confirms:
            storm.confirm_deliveries()
        channels.append(storm)
    loop, connection = stack.enter_context(aio(url))
    exchange = loop.run_until_complete(default_exchange(connection))
    sync = (publish_pika, publish_kombu, publish_amqpstorm)
    names = ("pika", "kombu", "amqpstorm")
    each = zip(names, sync, channels[:3], strict=True)
    none = zip(names, sync, channels[3:], strict=True)
    return {
        WINDOW: partial(publish_ours, ours, queue, MANY),
        "ours, confirm each": partial(publish_ours, ours, queue, EACH, each=True),
        **{
            f"{name}, confirm each": partial(run, to, queue, EACH)
            for name, run, to in each
        },
        **{
            f"aio-pika, gather of {window}": partial(
                publish_aio, loop, exchange, queue, count, window
            )
            for window, count in ((1, EACH), (100, 1000), (1000, 1000))
        },
        **{
            f"{name}, no confirms (may lose)": partial(run, to, queue, MANY)
            for name, run, to in none
        },
    }


def publishing(rabbit: Any, url: str, queue: str) -> Rates:
    """Measure all publishers on one queue, which is emptied before each."""
    with ExitStack() as stack:
        broom = stack.enter_context(rabbit.connect()).channel()

        def swept(run: Rate) -> float:
            broom.queue_purge(queue)
            return run()

        runs = publishers(rabbit, url, queue, stack)
        return rounds({name: partial(swept, run) for name, run in runs.items()})


# Consuming


class Stopwatch:
    """Times the messages from the first to the last of so many; any thread may tick."""

    def __init__(self, count: int) -> None:
        self.count, self.numbers = count, itertools.count(1)
        self.start = self.end = 0.0
        self.done = threading.Event()

    def tick(self) -> bool:
        """Count one; tell whether it was the last."""
        number = next(self.numbers)
        if number == 1:
            self.start = time.perf_counter()
        if number == self.count:
            self.end = time.perf_counter()
            self.done.set()
        return number == self.count

    def rate(self) -> float:
        """Return messages per second."""
        return (self.count - 1) / (self.end - self.start)


def consume_ours(
    rabbit: Any,
    queue: str,
    producer: Any,
    count: int,
    *,
    prefetch: int = PREFETCH,
    durable: bool = False,
) -> float:
    """Consume with our Consumer: validated, on a pool, with an inbox if asked to."""
    watch = Stopwatch(count)
    with ExitStack() as stack:
        ledger = None
        if durable:
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
    assert consumer.counts["acked"] == count
    return watch.rate()


def consume_pika(
    rabbit: Any,
    queue: str,
    count: int,
    *,
    prefetch: int = PREFETCH,
    read: Callable[[bytes], object] = json.loads,
) -> float:
    """Consume with a plain loop of pika's: read, acknowledge."""
    watch = Stopwatch(count)

    def callback(channel: Any, method: Any, _: Any, text: bytes) -> None:
        read(text)
        last = watch.tick()
        channel.basic_ack(method.delivery_tag)
        if last:
            channel.stop_consuming()

    with rabbit.connect() as connection:
        channel = connection.channel()
        channel.basic_qos(prefetch_count=prefetch)
        channel.basic_consume(queue, callback)
        channel.start_consuming()
    return watch.rate()


def consume_kombu(url: str, queue: str, count: int) -> float:
    """Consume with kombu's Consumer."""
    watch = Stopwatch(count)

    def callback(message: Any) -> None:
        json.loads(message.body)
        message.ack()
        watch.tick()

    with kombu.Connection(url) as connection:
        known = kombu.Queue(queue, no_declare=True)
        options = {"on_message": callback, "prefetch_count": PREFETCH}
        with kombu.Consumer(connection, [known], **options):
            while not watch.done.is_set():
                connection.drain_events(timeout=LIMIT)
    return watch.rate()


def consume_amqpstorm(url: str, queue: str, count: int) -> float:
    """Consume with amqpstorm's callback loop."""
    watch = Stopwatch(count)

    with amqpstorm.UriConnection(url) as connection:
        channel = connection.channel()

        def callback(message: Any) -> None:
            json.loads(message.body)
            message.ack()
            if watch.tick():
                channel.stop_consuming()

        channel.basic.qos(PREFETCH)
        channel.basic.consume(callback, queue)
        channel.start_consuming()
        channel.close()
    return watch.rate()


def consume_aio(url: str, queue: str, count: int) -> float:
    """Consume with aio-pika's callback."""
    watch = Stopwatch(count)

    async def run(connection: Any) -> None:
        done = asyncio.Event()

        async def callback(message: Any) -> None:
            json.loads(message.body)
            await message.ack()
            if watch.tick():
                done.set()

        channel = await connection.channel()
        await channel.set_qos(PREFETCH)
        source = await channel.get_queue(queue, ensure=False)
        tag = await source.consume(callback)
        await asyncio.wait_for(done.wait(), LIMIT)
        await source.cancel(tag)

    with aio(url) as (loop, connection):
        loop.run_until_complete(run(connection))
    return watch.rate()


def consuming(rabbit: Any, url: str, queue: str) -> dict[str, Rates]:
    """Measure all consumers on one queue, which is filled before each, by prefetch."""
    with lesson.Producer(rabbit, deadline=LIMIT) as producer:

        def filled(run: Callable[[int], float], count: int) -> float:
            publish_ours(producer, queue, count)
            return run(count)

        ours = partial(consume_ours, rabbit, queue, producer)
        plain = partial(consume_pika, rabbit, queue)
        many: dict[str, Callable[[int], float]] = {
            OURS: ours,
            PLAIN: plain,
            "pika, our validation": partial(plain, read=lesson.Message.from_json),
            "aio-pika": partial(consume_aio, url, queue),
            "kombu": partial(consume_kombu, url, queue),
            "amqpstorm": partial(consume_amqpstorm, url, queue),
        }
        single: dict[str, Callable[[int], float]] = {
            OURS: partial(ours, prefetch=1),
            PLAIN: partial(plain, prefetch=1),
            "ours, prefetch 300": ours,
            "ours, prefetch 300, an inbox on disk": partial(ours, durable=True),
        }
        return {
            "300": rounds({k: partial(filled, run, READ) for k, run in many.items()}),
            "1": rounds(
                {k: partial(filled, run, READ_SLOWLY) for k, run in single.items()}
            ),
        }


# The stand-in


def stand_in() -> Rates:
    """Measure confirmed publishing on the broker that runs in this process."""
    with Broker() as broker:
        parameters = parameters_of(DEFAULT_URL)
        parameters.port = broker.port
        rabbit = lesson.RabbitMQConnection(parameters, "module8.bench")
        queue = rabbit.add_queue("bench")
        rabbit.setup_infrastructure()
        with lesson.Producer(rabbit, deadline=LIMIT) as producer:
            run = partial(publish_ours, producer, queue)
            return rounds(
                {
                    WINDOW: partial(run, MANY),
                    "ours, confirm each": partial(run, EACH, each=True),
                }
            )


def publishing_bars(kind: str, rates: Rates) -> list[list[str]]:
    """Return what a window has to be worth on one kind of queue."""
    aio = [name for name in rates if name.startswith("aio")]
    best = max(aio, key=lambda name: statistics.median(rates[name]))
    return [
        bar(f"{kind}: window to {theirs}", ratio(rates, WINDOW, theirs), least)
        for theirs, least in (
            ("pika, confirm each", 8),
            ("ours, confirm each", 8),
            (best, 2),
        )
    ]


def other_bars(consumed: Mapping[str, Rates], alone: Rates) -> list[list[str]]:
    """Return what consuming has to reach, and the stand-in's publishing."""
    slow = consumed["1"]
    return [
        *(
            bar(f"our consumer to a raw pika loop, prefetch {n}", found, 0.8)
            for n, rates in consumed.items()
            for found in [ratio(rates, OURS, PLAIN)]
        ),
        bar(
            "our consumer, prefetch 300 to 1",
            ratio(slow, "ours, prefetch 300", OURS),
            2,
        ),
        bar("stand-in: confirmed publishes", alone[WINDOW], 3000, "/s"),
    ]


@contextmanager
def broker() -> Iterator[tuple[str, Any]]:
    """Yield the URL and our topology on the RabbitMQ that answers, or a private one."""
    configured = setting("RABBITMQ_URL")
    url = configured or DEFAULT_URL
    with ExitStack() as stack:
        if not configured and not services.answers(parameters_of(url).port):
            server = stack.enter_context(services.private("rabbitmq"))
            if server is None:
                sys.exit("no RabbitMQ answers, and there is none to start")
            url = server.url
        parameters = parameters_of(url)
        prefix = f"module8.bench.{uuid.uuid4().hex[:8]}"
        rabbit = lesson.RabbitMQConnection(parameters, prefix)
        stack.callback(rabbit.teardown)
        yield url, rabbit


def main() -> int:
    """Measure everything and print it; return 0."""
    with broker() as (url, rabbit):
        queues = {"quorum": rabbit.add_queue("quorum")}
        queues["classic"] = rabbit.add_queue("classic", priorities=5)
        to_read = rabbit.add_queue("read")
        rabbit.setup_infrastructure()
        with rabbit.connect() as connection:
            version = server_properties(connection)["version"]
        published = {}
        for kind, queue in queues.items():
            say(f"publishing to a {kind} queue")
            published[kind] = publishing(rabbit, url, queue)
        say("consuming")
        consumed = consuming(rabbit, url, to_read)
    say("the stand-in")
    alone = stand_in()
    print(f"RabbitMQ {version}, one node; persistent, mandatory messages of ", end="")
    print(f"{len(body())} bytes; medians of {REPEATS} interleaved rounds.")
    for kind, rates in published.items():
        print_rates(f"Publishing to a durable {kind} queue:", rates)
    for prefetch, rates in consumed.items():
        title = f"Consuming from the quorum queue, prefetch {prefetch}, ack each:"
        print_rates(title, rates)
    print_rates("The stand-in, in this process:", alone)
    rows = [row for one in published.items() for row in publishing_bars(*one)]
    rows += other_bars(consumed, alone)
    header = ("claim", "bar", "median", "rounds", "met")
    print(f"\n{measure.markdown(header, rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
