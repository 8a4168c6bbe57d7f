"""A private RabbitMQ node is killed, frozen, starved and locked: who lost what?

Each test keeps the sets of what was attempted, confirmed and done (the effects in the
ledger): confirmed is a subset of done, done of attempted, and nothing is done twice.
"""

from __future__ import annotations

import re
import shutil
import signal
import socket
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

import lessons
import pika
import pytest
import services
from conftest import absent
from services import Server, wait_for

LIMIT = 120.0  # seconds; what takes ten alone may take a hundred on a busy machine
SCRIPT = lessons.path_of("04")
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


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """Return the folder of the certificates and the port for amqps."""
    folder = tmp_path_factory.mktemp("module8-tls")
    if not shutil.which("openssl"):
        absent("no openssl on the PATH to make certificates with")
    certificates(folder)
    return folder, services.free_port()


@pytest.fixture(scope="module")
def node(tls: tuple[Path, int]) -> Iterator[Server]:
    folder, port = tls
    lines = [
        f"listeners.ssl.1 = 127.0.0.1:{port}",
        f"ssl_options.cacertfile = {folder}/ca.pem",
        f"ssl_options.certfile = {folder}/server.pem",
        f"ssl_options.keyfile = {folder}/server.key",
    ]
    with services.private("rabbitmq", *lines) as server:
        if server is None:
            absent("no rabbitmq-server on the PATH to start a private node from")
        assert server
        yield server


@pytest.fixture(scope="module")
def lesson() -> Any:
    return lessons.load("04")


def connection_to(lesson: Any, url: str) -> Any:
    """Return what the script makes of a URL, under a prefix of its own."""
    parameters = lesson.parameters_of(url)
    return lesson.RabbitMQConnection(parameters, f"module8.{uuid.uuid4().hex[:8]}")


@pytest.fixture
def rabbit(node: Server, lesson: Any) -> Iterator[Any]:
    """Yield a topology under an own prefix; afterwards nothing stands on the node."""
    rabbit = connection_to(lesson, node.url)
    rabbit.setup_infrastructure()
    yield rabbit
    rabbit.teardown()
    assert "module8" not in node.ctl("eval", NAMES)


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


def once(done: Counter[str]) -> bool:
    """Tell whether nothing took effect twice."""
    return max(done.values(), default=0) == 1


def published(lesson: Any, producer: Any, queue: str, count: int) -> set[str]:
    """Publish user data to a queue, confirmed; return the ids."""
    messages = lesson.users(count)
    pending = [producer.send(*lesson.addressed(one, "", queue)) for one in messages]
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


# The broker dies


def test_a_killed_broker_loses_no_confirmed_message(
    node: Server, lesson: Any, rabbit: Any, tmp_path: Path
) -> None:
    queue, naive = rabbit.name("user_data"), rabbit.add_queue("naive", priorities=1)
    transient = rabbit.add_queue("transient", priorities=1)
    rabbit.setup_infrastructure()
    publish_transient(rabbit.parameters, transient)
    assert rabbit.ready(transient) == 200
    ledger, believed = tmp_path / "ledger", [0]
    messages = lesson.users(20_000)
    for bad in messages[::100]:
        bad.payload["email"] = "nonsense"  # fails for good: to the dead letters
    pending: list[Any] = []

    def publish() -> None:
        for one in messages:
            pending.append(producer.send(*lesson.addressed(one, "", queue)))

    with (
        worker(rabbit, node, ledger) as one,
        worker(rabbit, node, ledger) as other,
        lesson.Producer(rabbit, deadline=LIMIT) as producer,
    ):
        with thread(publish):
            wait_for(lambda: producer.counts["confirmed"] > 3000, LIMIT)
            with thread(publish_unconfirmed, rabbit.parameters, naive, believed):
                wait_for(lambda: believed[0] > 1000, LIMIT)
                before = sum(effects(ledger).values())
                node.kill()
            sent_before = len(pending)
            node.start()
        producer.wait(*pending)
        confirmed = {one.id for one in messages}
        dead = {one.id for one in messages[::100]}
        wait_for(lambda: len(effects(ledger)) == len(messages) - len(dead), LIMIT)
        wait_for(lambda: rabbit.ready(queue) == 0, LIMIT)
        wait_for(lambda: rabbit.ready(queue + ".dead") >= len(dead), LIMIT)
        assert [ended(process)[0] for process in (one, other)] == [0, 0]
    done = effects(ledger)
    assert 0 < before < len(done), "it was killed in the middle"
    assert sent_before < len(messages)
    assert producer.counts["resent"] > 0, "what was on its way was sent again"
    assert once(done)
    assert set(done) == confirmed - dead
    buried = lesson.emptied(rabbit, queue + ".dead")
    assert {about.message_id for about, _ in buried} == dead
    # The controls. The same kill, no confirms, and no error told them apart:
    assert rabbit.ready(naive) < believed[0]
    # And confirmed, on a durable queue, but not persistent: all gone.
    assert rabbit.ready(transient) == 0


def test_what_is_in_hand_or_waits_for_its_retry_outlives_the_broker(
    node: Server, lesson: Any, rabbit: Any, tmp_path: Path
) -> None:
    """Also a dead letter that can't be published while the broker is away."""
    queue, retried = rabbit.name("user_data"), rabbit.name("archive")
    ledger, book = tmp_path / "ledger", tmp_path / "book"
    bad = lesson.users(1)[0]
    bad.payload["email"] = "nonsense"

    def fail_first(message: Any) -> str:
        if message.retry_count == 0:
            raise ConnectionError("no answer")
        return str(message.id)

    with (
        worker(rabbit, node, ledger, pause=2.0) as process,
        lesson.Producer(rabbit) as producer,
        lesson.Ledger(str(book)) as own,
    ):
        flaky = lesson.FunctionConsumer(fail_first, rabbit, retried, producer, own)
        with lesson.running(flaky):
            producer.publish(*lesson.addressed(bad, "", queue))
            waiting = published(lesson, producer, retried, 100)
            wait_for(lambda: flaky.counts["retried"] >= 50, LIMIT)
            node.kill()
            time.sleep(lesson.DEADLINE + 2)  # past the deadline for each copy
            node.start()
            wait_for(lambda: set(effects(book)) == waiting, LIMIT)
        wait_for(lambda: rabbit.ready(queue + ".dead") == 1, LIMIT)
        ids = published(lesson, producer, queue, 4)
        wait_for(lambda: set(effects(ledger)) == ids, LIMIT)
        assert ended(process)[0] == 0
    assert once(effects(ledger))
    assert once(effects(book))


# The broker stops answering


def test_a_frozen_broker_fails_a_publish_at_its_deadline(
    node: Server, lesson: Any, rabbit: Any
) -> None:
    queue, outcome = rabbit.name("user_data"), list[str]()
    message, enough = lesson.users(1)[0], threading.Event()

    def publish_on() -> None:
        while not enough.is_set():
            publish_confirmed(rabbit.parameters, queue, outcome)

    with (
        lesson.Producer(rabbit, deadline=LIMIT) as producer,
        thread(publish_on) as naive,
    ):
        published(lesson, producer, queue, 1)
        wait_for(lambda: "confirmed" in outcome, LIMIT)
        node.freeze()
        try:
            producer.deadline, start = 1.0, time.monotonic()
            with pytest.raises(lesson.PublishFailed, match="within 1 s"):
                producer.publish(*lesson.addressed(message, "", queue))
            assert time.monotonic() - start < 30  # pika's own 130 are far away
            seen = len(outcome)
            time.sleep(0.5)
            assert naive.is_alive()
            assert len(outcome) == seen  # it waits on
        finally:
            enough.set()
            node.thaw()
        producer.deadline = LIMIT
        producer.publish(*lesson.addressed(message, "", queue))
    ids = [about.message_id for about, _ in lesson.emptied(rabbit, queue)]
    assert message.id in ids


def test_a_worker_ends_though_the_broker_is_frozen(
    node: Server, lesson: Any, rabbit: Any, tmp_path: Path
) -> None:
    with worker(rabbit, node, tmp_path / "ledger", "--drain", "1") as process:
        node.freeze()
        try:
            code, output = ended(process, limit=30)
        finally:
            node.thaw()
    assert code == 0, output


def test_a_memory_alarm_is_reported_and_over_when_it_is_over(
    node: Server, lesson: Any, rabbit: Any
) -> None:
    queue, outcome = rabbit.name("user_data"), list[str]()
    impatient = lesson.parameters_of(node.url)
    impatient.blocked_connection_timeout = 2
    message = lesson.users(1)[0]
    with lesson.Producer(rabbit, deadline=1.0) as producer:
        node.ctl("set_vm_memory_high_watermark", "absolute", "1MB")
        try:
            with thread(publish_confirmed, impatient, queue, outcome):
                # The broker blocks a publisher at its first message.
                with suppress(lesson.PublishFailed):
                    producer.publish(*lesson.addressed(message, "", queue))
                wait_for(lambda: producer.blocked, LIMIT)
                with pytest.raises(lesson.PublishFailed, match="low on memory"):
                    producer.publish(*lesson.addressed(message, "", queue))
            # The consuming side goes on: that is why it has a connection of its own.
            assert lesson.emptied(rabbit, queue) == []
        finally:
            node.ctl("set_vm_memory_high_watermark", "0.6")
        wait_for(lambda: not producer.blocked, LIMIT)
        producer.deadline = LIMIT
        producer.publish(*lesson.addressed(message, "", queue))
    assert outcome == ["published", "ConnectionBlockedTimeout"]
    ids = {about.message_id for about, _ in lesson.emptied(rabbit, queue)}
    assert message.id in ids


# Connections go


def test_five_connections_closed_by_the_broker(
    node: Server, lesson: Any, rabbit: Any, tmp_path: Path
) -> None:
    queue, ledger = rabbit.name("user_data"), tmp_path / "ledger"
    naive, outcome, ids = rabbit.name("archive"), list[str](), set[str]()

    def work(message: Any) -> str:
        time.sleep(0.01)
        return str(message.id)

    with lesson.Producer(rabbit) as producer, lesson.Ledger(str(ledger)) as book:
        published(lesson, producer, naive, 1)
        consumer = lesson.FunctionConsumer(work, rabbit, queue, producer, book)
        idle = thread(consume_inline, rabbit.parameters, naive, bool, outcome)
        with idle, lesson.running(consumer):
            wait_for(lambda: rabbit.ready(naive) == 0, LIMIT)
            for closed in range(1, 6):
                ids |= published(lesson, producer, queue, 300)
                wait_for(consumer.ready.is_set, LIMIT)
                node.ctl("close_all_connections", "a fault test")
                wait_for(lambda: consumer.counts["reconnects"] >= closed, LIMIT)  # noqa: B023
            wait_for(lambda: len(effects(ledger)) == 1500, LIMIT)
            assert consumer.counts["reconnects"] >= 5
    assert set(effects(ledger)) == ids
    assert once(effects(ledger))
    assert outcome == ["ConnectionClosedByBroker"], "the plain loop ended at the first"


def early_end() -> pika.exceptions.AMQPError:
    """Return what pika makes of a server that hangs up in the middle of a login."""

    def hang_up() -> None:
        client, _ = server.accept()
        with client:
            client.recv(8)
            client.sendall(pika.frame.Method(0, pika.spec.Connection.Start()).marshal())
            client.recv(4096)

    with socket.create_server(("127.0.0.1", 0)) as server, thread(hang_up):
        url = f"amqp://guest:guest@127.0.0.1:{server.getsockname()[1]}/"
        with pytest.raises(pika.exceptions.ProbableAuthenticationError) as caught:
            pika.BlockingConnection(pika.URLParameters(url))
    return caught.value


def test_a_broker_that_dies_during_a_login_has_refused_nothing(
    node: Server, lesson: Any, rabbit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pika's "probable authentication error" is a guess: the consumer tries again."""
    queue, connect, failures = rabbit.name("user_data"), rabbit.connect, [early_end()]

    def connect_later() -> Any:
        if failures:
            raise failures.pop()
        return connect()

    with lesson.Producer(rabbit) as producer:
        consumer = lesson.FunctionConsumer(str, rabbit, queue, producer)
        monkeypatch.setattr(rabbit, "connect", connect_later)
        with lesson.running(consumer):
            published(lesson, producer, queue, 1)
            wait_for(lambda: consumer.counts["acked"], LIMIT)


# Workers go


def test_a_killed_worker_leaves_its_work_to_the_other(
    node: Server, lesson: Any, rabbit: Any, tmp_path: Path
) -> None:
    queue, ledger = rabbit.name("user_data"), tmp_path / "ledger"
    with (
        worker(rabbit, node, ledger, pause=0.1) as killed,
        worker(rabbit, node, ledger, pause=0.1) as other,
        lesson.Producer(rabbit) as producer,
    ):
        ids = published(lesson, producer, queue, 300)
        wait_for(lambda: len(effects(ledger)) > 40, LIMIT)
        killed.kill()
        killed.wait(LIMIT)
        before = len(effects(ledger))
        wait_for(lambda: len(effects(ledger)) == 300, LIMIT)
        wait_for(lambda: rabbit.ready(queue) == 0, LIMIT)
        code, output = ended(other)
    assert before < 300, "it was killed in the middle"
    assert code == 0
    share = re.search(r"processed\D*(\d+)", output)
    assert share, output
    assert int(share[1]) < 300, "both had a share"
    assert set(effects(ledger)) == ids
    assert once(effects(ledger))


def test_sigterm_in_the_middle_loses_nothing_and_does_nothing_twice(
    node: Server, lesson: Any, rabbit: Any, tmp_path: Path
) -> None:
    queue, ledger = rabbit.name("user_data"), tmp_path / "ledger"
    with lesson.Producer(rabbit) as producer:
        ids = published(lesson, producer, queue, 20)
    options = ("--concurrency", "2", "--drain", "5")
    with worker(rabbit, node, ledger, *options, pause=0.5) as first:
        wait_for(lambda: len(effects(ledger)) >= 4, LIMIT)
        code, _ = ended(first, limit=15)
    before = len(effects(ledger))
    assert code == 0
    assert before < 20, "it was stopped in the middle"
    # What had begun is done and acknowledged; everything else is back in its queue.
    wait_for(lambda: rabbit.ready(queue) == 20 - before, LIMIT)
    with worker(rabbit, node, ledger) as second:
        wait_for(lambda: len(effects(ledger)) == 20, LIMIT)
        assert ended(second)[0] == 0
    assert set(effects(ledger)) == ids
    assert once(effects(ledger))


def test_a_drain_limit_ends_a_worker_whose_work_does_not(
    node: Server, lesson: Any, rabbit: Any, tmp_path: Path
) -> None:
    queue, ledger = rabbit.name("user_data"), tmp_path / "ledger"
    with lesson.Producer(rabbit) as producer:
        published(lesson, producer, queue, 1)
    with worker(rabbit, node, ledger, "--drain", "1", pause=600) as process:
        wait_for(lambda: rabbit.ready(queue) == 0, LIMIT)
        code, _ = ended(process, limit=10)
    assert code == 0
    wait_for(lambda: rabbit.ready(queue) == 1, LIMIT)
    assert not effects(ledger)


# Who may do what


def refused(*args: str, **env: str) -> str:
    """Run the script; return its one line of complaint (exit code 2)."""
    done = lessons.run(SCRIPT, *args, env=env)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    (line,) = done.stderr.splitlines()
    return line


@pytest.fixture(scope="module")
def reader(node: Server) -> Iterator[str]:
    """Yield the URL of a user who may read, and declare nothing."""
    node.ctl("add_user", "reader", "s3cret-of-reader")
    node.ctl("set_permissions", "reader", "^$", "^$", ".*")
    yield node.url.replace("guest:guest", "reader:s3cret-of-reader")
    node.ctl("delete_user", "reader")


@pytest.mark.parametrize("mode", [["--require-live"], ["--worker", "user_data"]])
def test_a_refusal_is_one_line_and_declares_nothing(
    node: Server, rabbit: Any, reader: str, mode: list[str]
) -> None:
    wrong_password = node.url.replace("guest:guest", "guest:s3cret")
    wrong_vhost = node.url.replace("%2F", "nowhere")
    prefix = ["--prefix", "module8.refused"]
    assert "password" in refused(*mode, *prefix, "--url", wrong_password)
    assert "nowhere" in refused(*mode, *prefix, "--url", wrong_vhost)
    line = refused(*mode, *prefix, "--url", reader)
    assert "access" in line.lower()
    assert "s3cret" not in line
    assert "module8.refused" not in node.ctl("eval", NAMES)


def test_a_worker_whose_password_is_changed_says_so_and_ends(
    node: Server, lesson: Any, rabbit: Any, tmp_path: Path
) -> None:
    node.ctl("add_user", "passing", "s3cret-before")
    try:
        node.ctl("set_permissions", "passing", ".*", ".*", ".*")
        url = node.url.replace("guest:guest", "passing:s3cret-before")
        there = Server("", url, 0, [], tmp_path, lambda: True)
        with worker(rabbit, there, tmp_path / "ledger") as process:
            node.ctl("change_password", "passing", "s3cret-after")
            node.ctl("close_all_connections", "a fault test")
            _, complaint = process.communicate(timeout=LIMIT)
        assert process.returncode in (1, 2)
        (line,) = complaint.splitlines()
        assert "refused" in line
        assert "s3cret" not in line
    finally:
        node.ctl("delete_user", "passing")


def test_a_connection_is_encrypted_and_verified_or_not_made(
    node: Server, rabbit: Any, tls: tuple[Path, int]
) -> None:
    folder, port = tls
    trusted = {"SSL_CERT_FILE": str(folder / "ca.pem")}
    secure = f"amqps://guest:guest@localhost:{port}/%2F"
    prefix = ["--prefix", rabbit.prefix]
    done = lessons.run(SCRIPT, "--publish", "50", "--url", secure, *prefix, env=trusted)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    assert rabbit.ready(rabbit.name("user_data")) == 50
    lost = f"{secure}?ssl_options={{'ca_certs':'/nowhere','password':'s3cret'}}"
    line = refused("--stats", *prefix, "--url", lost)
    assert "ssl_options" in line
    assert "s3cret" not in line
    by_option = f"{secure}?ssl_options={{'ca_certs':'{folder}/ca.pem'}}"
    done = lessons.run(SCRIPT, "--stats", "--url", by_option, *prefix)
    assert done.returncode == 0, done.stderr
    for mode in (["--only", "routing"], ["--publish", "1"]):
        unknown = refused(*mode, *prefix, "--url", secure)
        assert "certificate" in unknown
        other_name = secure.replace("localhost", "127.0.0.1")
        assert "certificate" in refused(*mode, *prefix, "--url", other_name, **trusted)
        plain = node.url.replace("amqp:", "amqps:")
        assert "TLS" in refused(*mode, *prefix, "--url", plain, **trusted)
    assert rabbit.ready(rabbit.name("user_data")) == 50
