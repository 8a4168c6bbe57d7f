"""The processes of lesson 04: --worker, --publish, --stats, --redrive, --teardown."""

from __future__ import annotations

import re
import signal
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import inf
from types import FrameType
from typing import Any

from pika import exceptions
from rich.console import Console
from rich.progress import track
from sqlalchemy.exc import SQLAlchemyError

from course.amqp.errors import MessagingError, PublishFailed
from course.amqp.finding import broker_of
from course.amqp.internals import CONNECTION_LOST, broker_words, is_limit, refused
from course.amqp.pending import until_settled
from course.amqp.reconnecting import LONGEST_WAITING
from course.amqp.rejects import Rejects, rejects_file
from course.console import fact, table
from course.errors import BadInput, NoService
from course.lab import in_background
from course.services import ServiceAddress, redact
from course.urls import NO_OPTIONS, POSTGRES_FORM, ServiceUrl, service_url

MOMENT = 1.0  # seconds in which the last confirms may come
GOODBYE = 5.0  # seconds beyond its drain limit that a worker may take to end
MODES = ("worker", "publish", "stats", "redrive", "teardown")
# What an option does nothing without. None of them has a default of its own, so that it
# is known whether it was given.
NEEDED = {
    "rate": ("publish",),
    "rejects": ("publish", "redrive"),
    "concurrency": ("worker",),
    "drain": ("worker",),
    "ledger": ("worker",),
    "prefix": MODES,
}
CONCURRENCY = 4  # messages that a worker works on at a time
DRAIN = 5.0  # seconds in which a stopped worker may finish what it has begun
IN_MEMORY = ":memory:"  # where it notes what it has done
PREFIX = "module8"
# In what --ledger names: parts of a URL, or keywords of libpq or of other drivers.
NO_FILE = re.compile(
    r"""@ | :// | ^postgres\w*[:/]
        | (?:^|[\s?&;])
          (?:dbname|host|hostaddr|passfile|password|port|pwd|service|user) \s*=
    """,
    re.IGNORECASE | re.VERBOSE,
)
A_FILE = re.compile(r"sqlite(\+\w+)?:|\.{0,2}/")  # how it begins, whatever follows


@dataclass
class Parts:
    """The lesson's own classes and functions that its processes are made of."""

    connection: Callable[..., Any]  # RabbitMQConnection(parameters, prefix)
    producer: Callable[..., Any]  # Producer(rabbit)
    ledger: Callable[..., Any]  # Ledger(path)
    consumers: Mapping[str, Callable[..., Any]]  # by the queue that they read
    example: Callable[[int], Any]  # the nth message that --publish makes
    arguments: Callable[..., Any]  # what Producer.send takes
    redrive: Callable[..., int]


def above_zero(text: str) -> float:
    """Return a number above zero."""
    with suppress(ValueError):
        if 0 < float(text) < inf:
            return float(text)
    raise ArgumentTypeError(f"{text!r} is not a number above zero")


def some_seconds(text: str) -> float:
    """Return a number of seconds above zero that a thread can wait."""
    seconds = above_zero(text)
    if seconds > LONGEST_WAITING:
        raise ArgumentTypeError(f"{text!r} is longer than anybody waits")
    return seconds


def whole_number(text: str) -> int:
    """Return a whole number above zero."""
    with suppress(ValueError):
        if int(text) > 0:
            return int(text)
    raise ArgumentTypeError(f"{text!r} is not a whole number above zero")


def add_process_options(parser: ArgumentParser, queues: str) -> None:
    """Add the options that make the lesson a process beside a running broker."""
    add_worker_options(parser, queues)
    add = parser.add_argument
    add(
        "--publish",
        type=whole_number,
        metavar="N",
        help="publish N messages of user data, each confirmed",
    )
    add(
        "--rate",
        type=above_zero,
        metavar="R",
        help="messages per second that --publish sends (as many as it can)",
    )
    add("--stats", action="store_true", help="show how many messages wait where")
    add(
        "--redrive",
        metavar="QUEUE",
        help="move the dead letters of a queue back to it, to be tried again",
    )
    add(
        "--rejects",
        metavar="FILE",
        help="where --publish and --redrive write what was sent but not confirmed",
    )
    add(
        "--teardown",
        action="store_true",
        help="delete the queues and exchanges under the prefix",
    )
    add(
        "--prefix",
        help=f"what the names of queues and exchanges begin with ({PREFIX})",
    )


def add_worker_options(parser: ArgumentParser, queues: str) -> None:
    """Add --worker, and what it may be told."""
    add = parser.add_argument
    add("--worker", metavar="QUEUE", help=f"consume one of {queues} until Ctrl-C")
    add(
        "--concurrency",
        metavar="N",
        type=whole_number,
        help=f"how many messages the worker works on at a time ({CONCURRENCY})",
    )
    add(
        "--drain",
        metavar="SECONDS",
        type=some_seconds,
        help=f"how long a stopped worker may finish what it has begun ({DRAIN:.0f})",
    )
    add(
        "--ledger",
        metavar="WHERE",
        help="where the worker notes what it has done: a file, or a PostgreSQL URL",
    )


def mode_of(args: Namespace) -> str:
    """Return the process that the options ask for, or nothing for the demos.

    Raises:
        BadInput: they ask for two, or say how to do what they do not ask for.
    """
    asked = [mode for mode in MODES if getattr(args, mode)]
    if len(asked) > 1:
        raise BadInput(f"--{asked[0]} and --{asked[1]}: one at a time")
    for option, modes in NEEDED.items():
        if getattr(args, option, None) is not None and not set(asked) & set(modes):
            raise BadInput(f"--{option} goes with --{' or --'.join(modes)}")
    if asked and args.bet:
        raise BadInput(f"--bet runs demos: it does not go with --{asked[0]}")
    return asked[0] if asked else ""


def run_process(args: Namespace, parts: Parts) -> int:
    """Run the process that the options ask for; return the exit code."""
    mode = mode_of(args)
    if args.offline:
        raise BadInput(f"--{mode} needs a broker that others share, not --offline")
    queue = args.worker or args.redrive
    if queue and queue not in parts.consumers:
        known = ", ".join(parts.consumers)
        raise BadInput(f"--{mode}: no queue {queue!r}; there are {known}")
    prefix = PREFIX if args.prefix is None else args.prefix
    if not re.fullmatch(r"[\w.-]{1,100}", prefix):
        raise BadInput(f"--prefix: {prefix!r} may only have letters, digits, . _ -")
    script = sys.argv[0].rpartition("/")[2]
    server = server_of_ledger(args)
    try:
        parameters, _ = broker_of(args)
        rabbit = parts.connection(parameters, prefix)
        run = {
            "worker": work_on,
            "publish": publish_many,
            "stats": print_stats,
            "redrive": put_back,
            "teardown": tear_down,
        }
        run[mode](rabbit, args, parts)
    except NoService as absent:
        print(f"{script}: {absent}", file=sys.stderr)
        return 3
    except exceptions.ChannelClosedByBroker as refusal:
        raise BadInput(f"{refusal.reply_text}; --publish declares it") from None
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).partition("\n")[0]
        where = f"PostgreSQL at {server.place}" if server else args.ledger
        raise BadInput(f"--ledger {where}: {redact(reason)}") from None
    except PublishFailed as error:
        print(f"{script}: {error}", file=sys.stderr)
        return 1
    except CONNECTION_LOST as error:
        if refused(error) or is_limit(error):
            raise BadInput(broker_words(error)) from None
        print(f"{script}: {broker_words(error)}", file=sys.stderr)
        return 1
    except MessagingError as error:
        raise BadInput(str(error)) from None
    return 0


def server_of_ledger(args: Namespace) -> ServiceUrl | None:
    """Return the PostgreSQL of a ledger, if it has one.

    Raises:
        BadInput: it is neither a file nor a URL; nothing of it is repeated, as a
            password may stand anywhere in it.
    """
    where = args.ledger or ""
    if not NO_FILE.search(where) or A_FILE.match(where):
        return None
    server = service_url(ServiceAddress(where, "--ledger", named=True), POSTGRES_FORM)
    for name in sorted(NO_OPTIONS.intersection(server.options)):
        raise BadInput(f"--ledger: {name} is no option of PostgreSQL")
    return server


def work_on(rabbit: Any, args: Namespace, parts: Parts) -> None:
    """Consume a queue until SIGTERM, SIGHUP or Ctrl-C; finish what has begun."""
    stops: list[object] = []

    def note_the_signal(number: int, _: FrameType | None) -> None:
        # Only a note: the signal may have interrupted a thread that holds a lock.
        stops.append(number)

    queue = rabbit.name(args.worker)
    kind = parts.consumers[args.worker]
    drain = args.drain or DRAIN
    where = IN_MEMORY if args.ledger is None else args.ledger
    with parts.ledger(where) as ledger, parts.producer(rabbit) as producer:
        rabbit.setup_infrastructure()
        consumer = kind(
            rabbit,
            queue,
            producer,
            ledger,
            concurrency=args.concurrency or CONCURRENCY,
            drain=drain,
        )
        for name in ("SIGTERM", "SIGINT", "SIGHUP"):  # Windows has no SIGHUP
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), note_the_signal)
        done = in_background(consumer.start_consuming)
        done.add_done_callback(stops.append)
        print(f"consuming {queue}", flush=True)
        while not stops:
            time.sleep(0.05)  # a wait without end can miss the signal just before it
        consumer.stop()
        with suppress(TimeoutError):  # a frozen broker answers no goodbye
            done.result(drain + GOODBYE)
    for name, number in sorted(consumer.counts.items()):
        fact(name, number)
    fact("deliveries by age, in digits of s", dict(sorted(consumer.ages.items())))


def publish_many(rabbit: Any, args: Namespace, parts: Parts) -> None:
    """Publish N messages of user data, R per second, all confirmed."""
    with rejects_file(getattr(args, "rejects", None)) as rejects:
        rabbit.setup_infrastructure()
        with parts.producer(rabbit) as producer, counted(producer, rejects):
            send_many(rabbit, producer, args, parts)


def send_many(rabbit: Any, producer: Any, args: Namespace, parts: Parts) -> None:
    """Send them, and wait until all are confirmed."""
    exchange = rabbit.name("data_processing")
    start = time.monotonic()
    pending: deque[Any] = deque()
    numbers = range(args.publish)
    for n in track(numbers, "publishing", console=Console(stderr=True)):
        arguments = parts.arguments(parts.example(n), exchange, "user_data")
        pending.append(producer.send(*arguments))
        wait_for_the_oldest(producer, pending)
        if args.rate:
            time.sleep(max(0.0, start + n / args.rate - time.monotonic()))
    producer.wait(*pending)


@contextmanager
def counted(producer: Any, rejects: Rejects, what: str = "confirmed") -> Iterator[None]:
    """Say at the end of a block, however it ends, how much was confirmed."""
    failed = True
    try:
        yield
        failed = False
    finally:
        # Ctrl-C as well: what is on its way may still be confirmed.
        until_settled(producer.unconfirmed(), MOMENT)
        left = producer.unconfirmed()
        confirmed = producer.counts["confirmed"]
        if confirmed or left or not failed:
            fact(what, confirmed)
        if left:
            fact("sent, not confirmed", rejects.write(left))


def wait_for_the_oldest(producer: Any, pending: deque[Any]) -> None:
    """Forget what is confirmed; raise PublishFailed for what is past its deadline."""
    overdue = time.monotonic() - producer.deadline
    while pending and (pending[0].confirmed.done() or pending[0].since < overdue):
        producer.wait(pending.popleft())


def print_stats(rabbit: Any, _: Namespace, __: Parts) -> None:
    """Print how many messages wait where."""
    queues = [item for item in rabbit.plan if item.kind == "queue"]
    rows = []
    with rabbit.connect() as connection:
        for queue in queues:
            found = rabbit.look(connection, queue)
            if found:
                rows.append((found.queue, found.message_count, found.consumer_count))
    table(("queue", "ready", "consumers"), *rows)


def put_back(rabbit: Any, args: Namespace, parts: Parts) -> None:
    """Move the dead letters of a queue back to it."""
    with (
        rejects_file(getattr(args, "rejects", None)) as rejects,
        parts.producer(rabbit) as producer,
        counted(producer, rejects, "moved back"),
    ):
        parts.redrive(rabbit, rabbit.name(args.redrive), producer)


def tear_down(rabbit: Any, _: Namespace, __: Parts) -> None:
    """Delete everything under the prefix."""
    rabbit.teardown()
