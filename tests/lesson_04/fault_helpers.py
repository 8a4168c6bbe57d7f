"""What the fault tests of lesson 04 share: worker processes, and naive clients."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pika
from lessons import load, path_of
from services import Server

from course.amqp.finding import parameters_of

lesson = load("04")

LIMIT = 120.0  # seconds; what takes ten alone may take a hundred on a busy machine
SCRIPT = path_of("04")
SLOW = """
import sys, time, lessons
lesson, pause = lessons.load("04"), float(sys.argv.pop(1))
handle = lesson.UserDataConsumer.handle
def slow(self, message):
    time.sleep(pause)
    return handle(self, message)
lesson.UserDataConsumer.handle = slow
sys.exit(lesson.main(sys.argv[1:]))
"""
NAMES = (  # everything that stands on the broker, in one call of rabbitmqctl
    "rabbit_amqqueue:list_names() ++ "
    '[element(2, One) || One <- rabbit_exchange:list(<<"/">>)].'
)
CA = """
[req]
distinguished_name = name
x509_extensions = ca
[name]
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
subjectAltName = DNS:localhost
basicConstraints = CA:FALSE
keyUsage = digitalSignature, keyEncipherment
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


def certificates(folder: Path) -> None:
    """Make a throw-away authority, and a server's certificate for localhost."""

    def openssl(*args: str) -> None:
        done = ["openssl", *args]
        subprocess.run(done, cwd=folder, check=True, capture_output=True, timeout=LIMIT)

    (folder / "ca.cnf").write_text(CA)
    key = ("-newkey", "rsa:2048", "-nodes", "-config", "ca.cnf")
    name = ("-subj", "/CN=module8-authority")
    openssl("req", "-x509", *key, *name, "-keyout", "ca.key", "-out", "ca.pem")
    name = ("-subj", "/CN=localhost")
    openssl("req", *key, *name, "-keyout", "server.key", "-out", "server.csr")
    signer = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial")
    use = ("-extfile", "ca.cnf", "-extensions", "server", "-in", "server.csr")
    openssl("x509", "-req", *signer, *use, "-out", "server.pem", "-days", "2")
    for file in folder.iterdir():
        file.chmod(0o644)  # the node's account may be another


def fresh_connection(url: str) -> Any:
    """Return what the script makes of a URL, under a prefix of its own."""
    parameters = parameters_of(url)
    return lesson.RabbitMQConnection(parameters, f"module8.{uuid.uuid4().hex[:8]}")


@contextmanager
def worker(
    rabbit: Any, node: Server, ledger: Path, *options: str, pause: float | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run `--worker user_data` as a process; with `pause`, its work takes longer."""
    start = [str(SCRIPT)] if pause is None else ["-c", SLOW, str(pause)]
    argv = [sys.executable, *start, "--worker", "user_data", "--url", node.url]
    argv += ["--prefix", rabbit.prefix, "--ledger", str(ledger), *options]
    with subprocess.Popen(
        argv,
        cwd=SCRIPT.parent,
        env={"PYTHONPATH": "tests", "PATH": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout
            assert process.stdout.readline().startswith("consuming")
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[str], limit: float = LIMIT) -> tuple[int, str]:
    """Send SIGTERM, wait for the end; return the exit code and the last output."""
    process.send_signal(signal.SIGTERM)
    output, complaint = process.communicate(timeout=limit)
    return process.returncode, output + complaint


def effects(ledger: Path) -> Counter[str]:
    """Return how often each message took effect, by its id."""
    with closing(sqlite3.connect(ledger, timeout=LIMIT)) as db:
        return Counter(one for (one,) in db.execute("SELECT id FROM effects"))


def done_in(ledger: Path) -> int:
    """Return how many messages took effect, without a look at each."""
    with closing(sqlite3.connect(ledger, timeout=LIMIT)) as db:
        ((count,),) = db.execute("SELECT count(DISTINCT id) FROM effects")
        return int(count)


def wait_until_done(ledger: Path, goal: int, stuck: float = LIMIT) -> None:
    """Wait until so many took effect; fail if none did for so long.

    Each is a sync of the disk, and how many of them a second has is the machine's
    affair: slow is not lost, but at a standstill the rest is.
    """
    count = done_in(ledger)
    since = time.monotonic()
    while count < goal:
        assert time.monotonic() - since < stuck, f"{count} of {goal}, and no more"
        time.sleep(0.1)
        before, count = count, done_in(ledger)
        if count > before:
            since = time.monotonic()


def once(done: Counter[str]) -> bool:
    """Tell whether nothing took effect twice."""
    return max(done.values(), default=0) == 1


def published(producer: Any, queue: str, count: int) -> set[str]:
    """Publish user data to a queue, confirmed; return the ids."""
    messages = lesson.users(count)
    pending = [
        producer.send(*lesson.publish_arguments(one, "", queue)) for one in messages
    ]
    producer.wait(*pending)
    return {one.id for one in messages}


@contextmanager
def thread(work: Callable[..., object], *args: Any) -> Iterator[threading.Thread]:
    """Run something beside a block; it has to have ended soon after it."""
    one = threading.Thread(target=work, args=args, daemon=True)
    one.start()
    yield one
    one.join(LIMIT)
    assert not one.is_alive()


def publish_unconfirmed(parameters: Any, queue: str, believed: list[int]) -> None:
    """Publish persistent messages as tutorials do, until the connection is lost."""
    about = pika.BasicProperties(delivery_mode=2)
    with suppress(pika.exceptions.AMQPError):
        channel = pika.BlockingConnection(parameters).channel()
        while believed[0] < 100_000:
            channel.basic_publish("", queue, b"0" * 300, about)
            believed[0] += 1


def publish_transient(parameters: Any, queue: str) -> None:
    """Publish messages that are confirmed, but not persistent."""
    with pika.BlockingConnection(parameters) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for _ in range(200):
            about = pika.BasicProperties(delivery_mode=1)
            channel.basic_publish("", queue, b"0" * 300, about)


def publish_confirmed(parameters: Any, queue: str, outcome: list[str]) -> None:
    """Publish one message with pika's confirm and no deadline; note how it ends."""
    try:
        connection = pika.BlockingConnection(parameters)
        channel = connection.channel()
        channel.confirm_delivery()
        outcome.append("published")
        for _ in range(2):  # the broker blocks a publisher at its first message
            channel.basic_publish("", queue, b"0" * 300)
        outcome.append("confirmed")
        connection.close()
    except pika.exceptions.AMQPError as error:
        outcome.append(type(error).__name__)


def consume_inline(
    parameters: Any, queue: str, work: Callable[[], object], outcome: list[str]
) -> None:
    """Consume as tutorials do, work in the callback; note the error that ends it."""

    def callback(channel: Any, method: Any, _: Any, __: bytes) -> None:
        work()
        channel.basic_ack(method.delivery_tag)

    try:
        channel = pika.BlockingConnection(parameters).channel()
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume(queue, callback)
        channel.start_consuming()
    except pika.exceptions.AMQPError as error:
        outcome.append(type(error).__name__)
