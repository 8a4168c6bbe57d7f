"""Lesson 04 beside raw pika, aio-pika, kombu (py-amqp) and amqpstorm.

Prints Markdown: each table is one run, in which the contestants took turns. Takes the
RabbitMQ that answers at $RABBITMQ_URL (or on the loopback port), else a private one;
what it declares there has a prefix of its own and is deleted at the end.

Run:  python benchmarks/bench_04_rabbitmq.py
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
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

import services  # noqa: E402
from lessons import load  # noqa: E402

lesson: Any = load("04")
# Half typed: their names are neither exported nor annotated.
amqpstorm: Any = import_module("amqpstorm")
kombu: Any = import_module("kombu")
REPEATS = 5
LIMIT = 60.0  # seconds that anything may take
EACH, MANY = 100, 3000  # publishes: where each waits for its confirm, where not
READ, READ_SLOWLY = 4000, 500  # messages to consume: prefetch 300, prefetch 1
PREFETCH = 300

Rate = Callable[[], float]  # measures once, messages per second


def say(text: str) -> None:
    """Print progress on stderr."""
    print(f"... {text}", file=sys.stderr, flush=True)


def best(contestants: Mapping[str, Rate]) -> dict[str, float]:
    """Return each contestant's best rate of interleaved rounds.

    The best, since a neighbour's flush to the same disk spoils some rounds, not all.
    """
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(REPEATS):
        for name, run in contestants.items():
            rates[name].append(run())
        say(f"round {number + 1} of {REPEATS}")
    return {name: max(values) for name, values in rates.items()}


def rate(count: int, run: Callable[[], object]) -> float:
    """Return how many a second a run of so many makes."""
    start = time.perf_counter()
    run()
    return count / (time.perf_counter() - start)


def bar(what: str, measured: float, least: float, unit: str = " x") -> tuple[str, ...]:
    """Return a row of the table of bars."""
    met = "yes" if measured >= least else "**no**"
    return what, f"≥ {least:g}{unit}", f"{measured:,.1f}{unit}", met


def print_rates(title: str, rates: Mapping[str, float], unit: str = "ours") -> None:
    """Print rates, and each one's ratio to the first that is named so."""
    base = next(value for name, value in rates.items() if name.startswith(unit))
    rows = [
        (name, f"{value:,.0f}", f"{value / base:.2f}") for name, value in rates.items()
    ]
    print(f"\n{title}\n")
    print(measure.markdown(("client and mode", "messages/s", "to ours"), rows))


# Publishing


def body() -> bytes:
    """Return a message's body, about 300 bytes."""
    return bytes(lesson.users(1)[0].to_json().encode())


def publish_ours(producer: Any, queue: str, count: int, each: bool = False) -> float:
    """Publish through our Producer: one window, or one confirm at a time."""
    ready = [lesson.addressed(one, "", queue) for one in lesson.users(count)]

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
        "ours, windowed confirms": partial(publish_ours, ours, queue, MANY),
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


def publishing(rabbit: Any, url: str, queue: str) -> dict[str, float]:
    """Measure all publishers on one queue, which is emptied before each."""
    with ExitStack() as stack:
        broom = stack.enter_context(rabbit.connect()).channel()

        def swept(run: Rate) -> float:
            broom.queue_purge(queue)
            return run()

        runs = publishers(rabbit, url, queue, stack)
        return best({name: partial(swept, run) for name, run in runs.items()})


# Consuming


class Stopwatch:
    """Counts the messages from the first to the last of so many."""

    def __init__(self, count: int) -> None:
        self.count = self.left = count
        self.start = self.end = 0.0

    def tick(self) -> bool:
        """Count one; tell whether it was the last."""
        self.start = self.start or time.perf_counter()
        self.left -= 1
        if self.left == 0:
            self.end = time.perf_counter()
        return self.left == 0

    def rate(self) -> float:
        """Return messages per second."""
        return self.count / (self.end - self.start)


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
    start: list[float] = []

    def work(_: Any) -> None:
        if not start:
            start.append(time.perf_counter())

    with ExitStack() as stack:
        ledger = None
        if durable:
            folder = tempfile.TemporaryDirectory(prefix="module8-bench-")
            name = stack.enter_context(folder)
            ledger = stack.enter_context(lesson.Ledger(f"{name}/ledger"))
        consumer = lesson.FunctionConsumer(
            work, rabbit, queue, producer, ledger, prefetch=prefetch
        )
        with lesson.running(consumer):
            end = time.monotonic() + LIMIT
            while consumer.counts["acked"] < count and time.monotonic() < end:
                time.sleep(0.001)
            took = time.perf_counter() - start[0]
    assert consumer.counts["acked"] == count
    return count / took


def consume_pika(
    rabbit: Any, queue: str, count: int, read: Callable[[bytes], object] = json.loads
) -> float:
    """Consume with a plain loop of pika's: read, acknowledge."""
    watch = Stopwatch(count)

    def callback(channel: Any, method: Any, _: Any, text: bytes) -> None:
        read(text)
        channel.basic_ack(method.delivery_tag)
        if watch.tick():
            channel.stop_consuming()

    with rabbit.connect() as connection:
        channel = connection.channel()
        channel.basic_qos(prefetch_count=PREFETCH)
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
            while watch.left:
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


def consuming(rabbit: Any, url: str, queue: str) -> dict[str, float]:
    """Measure all consumers on one queue, which is filled before each."""
    with lesson.Producer(rabbit, deadline=LIMIT) as producer:

        def filled(run: Callable[[int], float], count: int) -> float:
            publish_ours(producer, queue, count)
            return run(count)

        ours = partial(consume_ours, rabbit, queue, producer)
        slow = partial(ours, prefetch=1)
        durable = partial(ours, durable=True)
        pika_too = partial(consume_pika, rabbit, queue)
        validating = partial(pika_too, read=lesson.Message.from_json)
        runs: dict[str, Rate] = {
            "ours, prefetch 300": partial(filled, ours, READ),
            "ours, prefetch 1": partial(filled, slow, READ_SLOWLY),
            "ours, with an inbox on disk": partial(filled, durable, READ_SLOWLY),
            "pika, json.loads": partial(filled, pika_too, READ),
            "pika, our validation": partial(filled, validating, READ),
            "aio-pika": partial(filled, partial(consume_aio, url, queue), READ),
            "kombu": partial(filled, partial(consume_kombu, url, queue), READ),
            "amqpstorm": partial(filled, partial(consume_amqpstorm, url, queue), READ),
        }
        return best(runs)


# The stand-in


def stand_in() -> dict[str, float]:
    """Measure confirmed publishing on the broker that runs in this process."""
    with lesson.Broker() as broker:
        parameters = lesson.parameters_of(lesson.DEFAULT_URL)
        parameters.port = broker.port
        rabbit = lesson.RabbitMQConnection(parameters, "module8.bench")
        queue = rabbit.add_queue("bench")
        rabbit.setup_infrastructure()
        with lesson.Producer(rabbit, deadline=LIMIT) as producer:
            run = partial(publish_ours, producer, queue)
            return best(
                {
                    "ours, windowed confirms": partial(run, MANY),
                    "ours, confirm each": partial(run, EACH, each=True),
                }
            )


def publishing_bars(kind: str, rates: Mapping[str, float]) -> list[tuple[str, ...]]:
    """Return what a window has to be worth on one kind of queue."""
    ours = rates["ours, windowed confirms"]
    peer = max(value for name, value in rates.items() if name.startswith("aio"))
    return [
        bar(f"{kind}: window to pika, each", ours / rates["pika, confirm each"], 8),
        bar(f"{kind}: window to ours, each", ours / rates["ours, confirm each"], 8),
        bar(f"{kind}: window to aio-pika's best mode", ours / peer, 2),
    ]


def other_bars(rates: Mapping[str, float], alone: float) -> list[tuple[str, ...]]:
    """Return what consuming has to reach, and the stand-in's publishing."""
    ours = rates["ours, prefetch 300"]
    return [
        bar("our consumer to a raw pika loop", ours / rates["pika, json.loads"], 0.8),
        bar("prefetch 300 to 1", ours / rates["ours, prefetch 1"], 2),
        bar("stand-in: confirmed publishes", alone, 3000, "/s"),
    ]


@contextmanager
def broker() -> Iterator[tuple[str, Any]]:
    """Yield the URL and our topology on the RabbitMQ that answers, or a private one."""
    configured = lesson.setting("RABBITMQ_URL")
    url = configured or lesson.DEFAULT_URL
    with ExitStack() as stack:
        if not configured and not services.answers(lesson.parameters_of(url).port):
            server = stack.enter_context(services.private("rabbitmq"))
            if server is None:
                sys.exit("no RabbitMQ answers, and there is none to start")
            url = server.url
        parameters = lesson.parameters_of(url)
        parameters.socket_timeout = parameters.stack_timeout = 10.0
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
            version = connection._impl.server_properties["version"]
        published = {}
        for kind, queue in queues.items():
            say(f"publishing to a {kind} queue")
            published[kind] = publishing(rabbit, url, queue)
        say("consuming")
        consumed = consuming(rabbit, url, to_read)
    say("the stand-in")
    alone = stand_in()
    print(f"RabbitMQ {version}, one node; persistent, mandatory messages of ", end="")
    print(f"{len(body())} bytes; best of {REPEATS} interleaved rounds.")
    for kind, rates in published.items():
        print_rates(f"Publishing to a durable {kind} queue:", rates)
    print_rates("Consuming from the quorum queue, prefetch 300, ack each:", consumed)
    print_rates("The stand-in, in this process:", alone)
    rows = [row for one in published.items() for row in publishing_bars(*one)]
    rows += other_bars(consumed, alone["ours, windowed confirms"])
    print(f"\n{measure.markdown(('claim', 'bar', 'measured', 'met'), rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
