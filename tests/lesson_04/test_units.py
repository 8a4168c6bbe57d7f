"""Lesson 04 on its stand-in: messages, retries, processes, bad input, the broker."""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import pickle
import random
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lessons import load, path_of, run
from services import wait_for

lesson = load("04")
SCRIPT = path_of("04")
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
    ),
    max_leaves=10,
)
objects = st.dictionaries(st.text(), json_values, max_size=5)


@pytest.fixture(scope="module")
def env() -> Iterator[Any]:
    with lesson.open_env(argparse.Namespace(offline=True, url=None)) as found:
        yield found


@pytest.fixture
def broker() -> Iterator[Any]:
    with lesson.Broker() as found:
        yield found


def url_of(broker: Any) -> str:
    return f"amqp://guest:guest@127.0.0.1:{broker.port}/%2F"


def connection_to(broker: Any, **options: Any) -> Any:
    parameters = lesson.parameters_of(url_of(broker))
    return lesson.RabbitMQConnection(parameters, **options)


# Messages


@given(objects, st.integers(0, 1000))
def test_messages_come_back_equal(payload: dict[str, Any], retries: int) -> None:
    message = lesson.Message(payload=payload, retry_count=retries)
    assert lesson.Message.from_json(message.to_json()) == message


@given(st.text(), st.text(), st.text(), objects)
def test_each_kind_comes_back_as_itself(
    one: str, two: str, three: str, properties: dict[str, Any]
) -> None:
    for message in (
        lesson.UserDataMessage(username=one, email=two, registration_date=three),
        lesson.NotificationMessage(recipient=one, subject=two, content=three),
        lesson.AnalyticsMessage(event_type=one, user_id=two, properties=properties),
    ):
        again = lesson.Message.from_json(message.to_json().encode())
        assert again == message
        assert type(again) is type(message)
        assert again.payload == message.payload


def mutated(rng: random.Random) -> bytes:
    """Return a body that is no message, or that is one with something wrong."""
    good = json.loads(lesson.user(rng.randrange(100)).to_json())
    match rng.randrange(7):
        case 0:
            return rng.randbytes(rng.randrange(200))
        case 1:
            text = json.dumps(good)
            return text[: rng.randrange(len(text))].encode()
        case 2:
            good.pop(rng.choice(list(good)), None)
            good.pop("version", None)
        case 3:
            wrong: list[Any] = [
                None,
                [],
                {},
                -1,
                1.5,
                True,
                "x" * 99,
                10**400,
                "\ud800 ",
            ]
            good[rng.choice(["id", "type", "payload"])] = rng.choice(wrong)
        case 4:
            good["version"] = rng.choice([0, 2, "1", None, True, 1.0, [1]])
        case 5:
            good["payload"] = {"username": 1, "id": "x"}
        case _:
            good[rng.choice(["extra", "__class__", "self", "cls"])] = "x"
    return json.dumps(good).encode()


def test_no_body_raises_anything_but_bad_message() -> None:
    rng = random.Random(4)
    for _ in range(20_000):
        with pytest.raises(lesson.BadMessage):
            lesson.Message.from_json(mutated(rng))


@given(st.binary(max_size=300) | objects.map(lambda data: json.dumps(data).encode()))
def test_any_bytes_are_a_message_or_a_bad_message(body: bytes) -> None:
    try:
        message = lesson.Message.from_json(body)
    except lesson.BadMessage:
        return
    assert isinstance(message, lesson.Message)


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        ({"x": (1, 2)}, "come back changed"),
        ({1: "one"}, "come back changed"),
        ({"x": float("nan")}, "no JSON"),
        ({"x": {1, 2}}, "no JSON"),
        ({"x": "y" * 300_000}, "larger than"),
    ],
)
def test_what_json_would_change_is_refused(payload: dict[Any, Any], why: str) -> None:
    with pytest.raises(lesson.BadMessage, match=why):
        lesson.Message(payload=payload).to_json()


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": ""},
        {"id": "x" * 65},
        {"id": "two words"},
        {"retry_count": -1},
        {"retry_count": True},
        {"max_retries": 1001},
        {"timestamp": None},
        {"timestamp": "yesterday"},
        {"timestamp": "2026-01-05T10:00:00"},
    ],
    ids=str,
)
def test_fields_are_validated_where_they_are_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(lesson.BadMessage, match=next(iter(wrong))):
        lesson.Message(**wrong)


@pytest.mark.slow
def test_ten_thousand_fuzzed_bodies_end_as_dead_letters(env: Any) -> None:
    queue, rng = env.queue("fuzz"), random.Random(5)
    bad = [mutated(rng) for _ in range(9_990)] + [b"[" * 1_000_000] * 10
    good = [lesson.user(n).to_json().encode() for n in range(100)]
    bodies = bad + good
    rng.shuffle(bodies)
    about = lesson.pika.BasicProperties(delivery_mode=2)
    with lesson.Producer(env.rabbit) as producer, lesson.Ledger() as ledger:
        producer.deadline = 60
        pending = [producer.send("", queue, body, about) for body in bodies]
        producer.wait(*pending)
        consumer = lesson.UserDataConsumer(
            env.rabbit, queue, producer, ledger, prefetch=200, concurrency=8
        )
        with lesson.running(consumer):
            env.until(lambda: consumer.counts["acked"] == len(bodies), limit=90)
        assert consumer.counts["reconnects"] == 0
        assert len(ledger.effects(queue)) == 100
    dead = lesson.emptied(env.rabbit, queue + ".dead")
    assert Counter(body for _, body in dead) == Counter(bad)
    assert all(about.headers["x-error"].startswith("BadMessage") for about, _ in dead)


# Topology and routing


words = st.lists(st.sampled_from("ab"), max_size=4)
patterns = st.lists(st.sampled_from("ab*#"), min_size=1, max_size=4)


@given(patterns, words)
def test_topics_match_as_brute_force_does(pattern: list[str], key: list[str]) -> None:
    expected = lesson.brute_force(".".join(pattern), ".".join(key))
    assert lesson.topic_match(pattern, key) == expected


def test_the_delays_double_and_their_queues_are_named_by_them() -> None:
    rabbit = lesson.RabbitMQConnection(None, "p", base=0.5)
    delays = [rabbit.delay_ms(attempt) for attempt in range(7)]
    assert delays == [500, 1000, 2000, 4000, 8000, 8000, 8000]
    assert rabbit.wait_queue(1) == "p.retry.1000ms"


def test_every_queue_is_durable_and_quorum_or_prioritised() -> None:
    plan = lesson.RabbitMQConnection(None, "p").plan
    for kind, name, options in plan:
        arguments = options.get("arguments", {})
        assert name.startswith("p.")
        if kind == "queue":
            quorum = arguments.get("x-queue-type") == "quorum"
            assert quorum != ("x-max-priority" in arguments)
            dead = name.endswith(".dead")
            assert dead or arguments["x-dead-letter-exchange"] == ""
            limit = arguments.get("x-delivery-limit")
            waits = not quorum or ".retry." in name
            assert limit == (2**31 - 1 if dead else None if waits else 20)
            assert dead or not quorum or lesson.SAFE.items() <= arguments.items()


# Retrying on the modelled clock


def test_thirty_one_seconds_of_backoff_take_a_moment(env: Any) -> None:
    queue, ends = env.queue("moment"), list[str]()

    def fail(_: Any) -> None:
        ends.append(lesson.utc_now())
        raise ConnectionError("no answer")

    with lesson.Producer(env.rabbit) as producer:
        consumer = lesson.FunctionConsumer(fail, env.rabbit, queue, producer)
        with lesson.running(consumer):
            begun, start = time.monotonic(), env.broker.clock
            lesson.publish(producer, queue, lesson.users(1))
            env.until(lambda: env.rabbit.ready(queue + ".dead"))
            took = time.monotonic() - begun
        assert env.broker.clock - start == pytest.approx(31)
        assert consumer.counts["retried"] == 5
        assert took < 3.1  # a tenth of it; 0.03 s on an idle machine
    ((about, body),) = lesson.emptied(env.rabbit, queue + ".dead")
    assert about.headers["x-error"] == "ConnectionError: no answer"
    assert about.headers["x-retry-count"] == 5
    assert about.headers["x-queue"] == queue
    assert ends[0] <= about.headers["x-first-failure"] <= ends[1]
    assert lesson.Message.from_json(body).payload["username"] == "user0"


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (ConnectionError, 6),
        (TimeoutError, 6),
        (ValueError, 1),
        (KeyError, 1),
        (UnicodeError, 1),
        (lesson.PermanentError, 1),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_errors_are_passing_or_permanent(
    env: Any, error: type[Exception], attempts: int
) -> None:
    queue = env.queue(f"errors.{error.__name__}")
    tried: list[int] = []

    def fail(message: Any) -> None:
        tried.append(message.retry_count)
        raise error("text \ud800 with \N{SNOWMAN}" + "x" * 1000)

    with lesson.Producer(env.rabbit) as producer:
        lesson.publish(producer, queue, lesson.users(1))
        with lesson.running(lesson.FunctionConsumer(fail, env.rabbit, queue, producer)):
            env.until(lambda: env.rabbit.ready(queue + ".dead"))
    assert tried == list(range(attempts))
    ((about, _),) = lesson.emptied(env.rabbit, queue + ".dead")
    assert about.headers["x-error"].isascii()
    assert len(about.headers["x-error"]) <= 300


def test_max_retries_of_the_message_count(env: Any) -> None:
    queue = env.queue("max")
    message = lesson.Message(max_retries=2)

    def fail(_: Any) -> None:
        raise ConnectionError

    with lesson.Producer(env.rabbit) as producer:
        lesson.publish(producer, queue, [message])
        consumer = lesson.FunctionConsumer(fail, env.rabbit, queue, producer)
        with lesson.running(consumer):
            env.until(lambda: env.rabbit.ready(queue + ".dead"))
    assert (consumer.counts["retried"], consumer.counts["dead"]) == (2, 1)
    lesson.emptied(env.rabbit, queue + ".dead")


def test_without_a_dead_letter_queue_nothing_is_acknowledged(env: Any) -> None:
    """The copy is unroutable: the original must stay, until its limit is reached."""
    queue = env.queue("graveless")
    with env.rabbit.connect() as connection:
        connection.channel().queue_delete(queue + ".dead")
    with lesson.Producer(env.rabbit) as producer:
        lesson.publish(producer, queue, [lesson.Message()])

        def fail(_: Any) -> None:
            raise lesson.PermanentError

        consumer = lesson.FunctionConsumer(fail, env.rabbit, queue, producer)
        consumer.rabbit = lesson.copy.copy(env.rabbit)
        consumer.rabbit.plan, consumer.rabbit.bindings = [], []
        with lesson.running(consumer):
            env.until(lambda: consumer.counts["unsettled"] >= 3)
            seen, start = consumer.counts["unsettled"], time.monotonic()
            env.until(lambda: consumer.counts["unsettled"] > seen)
            assert time.monotonic() - start > 0.1  # no hot loop
        assert consumer.counts["acked"] == 0
    env.rabbit.setup_infrastructure()
    lesson.emptied(env.rabbit, queue)


def test_redrive_resets_the_counter_and_keeps_id_and_body(env: Any) -> None:
    queue = env.queue("redrive")
    message = lesson.user(7)
    with lesson.Producer(env.rabbit) as producer:
        where = ("", queue + ".dead")
        _, _, body, about = lesson.addressed(message, *where)
        about.headers = {"x-retry-count": 5, "x-error": "old"}
        about.priority, about.correlation_id = 3, "cause"
        producer.publish(*where, body, about)
        assert lesson.redrive(env.rabbit, queue, producer) == 1
        assert lesson.redrive(env.rabbit, queue, producer) == 0
    ((again, got),) = lesson.emptied(env.rabbit, queue)
    assert (again.message_id, got, again.headers) == (message.id, body, None)
    kept = (again.priority, again.correlation_id, again.type, again.content_type)
    assert kept == (3, "cause", message.type, "application/json")


def test_a_return_is_about_its_own_message_though_others_share_the_id(env: Any) -> None:
    queue = env.queue("returned")
    same = lesson.pika.BasicProperties(message_id="same")
    with lesson.Producer(env.rabbit) as producer:
        lot = [producer.send("", q, b"", same) for q in (queue, "nowhere") * 300]
        with pytest.raises(lesson.Unroutable):
            producer.wait(*lot)
        assert [one.arrived for one in lot] == [True, False] * 300
        assert producer.counts["returned"] == producer.counts["confirmed"] == 300


def test_reconnecting_never_waits_longer_than_ten_seconds() -> None:
    assert 5 <= lesson.backoff(10_000) <= 10


def test_what_came_over_a_dead_connection_is_not_begun(env: Any) -> None:
    queue, done = env.queue("dead.connection"), list[str]()
    with lesson.Producer(env.rabbit) as producer, env.wire() as (wire, far):
        lesson.publish(producer, queue, lesson.users(20))

        def cut(_: Any) -> None:
            wire.cut()
            wait_for(lambda: not consumer._channel.is_open)

        work = lesson.noting(done, {"user0"}, lambda: cut(None))
        consumer = lesson.FunctionConsumer(work, far, queue, producer, concurrency=1)
        with lesson.running(consumer):
            env.until(lambda: len({*done}) == 20)
            env.until(lambda: not env.rabbit.ready(queue))
    assert len(done) == 21  # user0 twice, as its acknowledgement was lost


def test_a_pickled_body_is_never_loaded(env: Any, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "sprung",)

    queue, body = env.queue("pickled"), pickle.dumps(Trap())
    with lesson.Producer(env.rabbit) as producer, lesson.Ledger() as ledger:
        about = lesson.pika.BasicProperties(content_type="application/x-python-pickle")
        producer.publish("", queue, body, about)
        env.consume(lesson.UserDataConsumer(env.rabbit, queue, producer, ledger), 1)
    ((about, dead),) = lesson.emptied(env.rabbit, queue + ".dead")
    assert (about.headers["x-error"], dead) == ("BadMessage: body is no JSON", body)
    assert not list(tmp_path.iterdir())
    pickle.loads(body)
    assert list(tmp_path.iterdir())  # a consumer that did load it would have sprung it


@pytest.mark.parametrize(
    "wrong",
    [{"priority": 300}, {"headers": {"a": object()}}, {"message_id": "x" * 300}],
    ids=min,
)
def test_what_cannot_be_encoded_fails_alone(env: Any, wrong: dict[str, Any]) -> None:
    queue = env.queue(f"encoding.{min(wrong)}")
    with lesson.Producer(env.rabbit) as producer:
        before = producer.send(*lesson.addressed(lesson.user(1), "", queue))
        bad = producer.send("", queue, b"", lesson.pika.BasicProperties(**wrong))
        after = producer.send(*lesson.addressed(lesson.user(2), "", queue))
        with pytest.raises(lesson.PublishFailed, match=r"^\w+: "):
            producer.wait(bad)
        producer.wait(before, after)
    assert env.rabbit.ready(queue) == 2


# The ledger


def test_an_effect_and_its_mark_commit_together(tmp_path: Path) -> None:
    with lesson.Ledger(str(tmp_path / "ledger")) as ledger:
        message = lesson.user(1)
        assert ledger.once("a", message, "done")
        assert not ledger.once("a", message, "done")
        assert ledger.once("b", message, "done")  # a fanout copy is another matter
        ledger.db.execute("DROP TABLE effects")
        with pytest.raises(sqlite3.OperationalError):
            ledger.once("c", message, "fails")
        marks = ledger.db.execute("SELECT queue FROM inbox ORDER BY queue").fetchall()
    assert marks == [("a",), ("b",)]


def test_the_relay_sees_no_open_transaction(env: Any) -> None:
    """Else it publishes what is undone a moment later."""
    inside, go = threading.Event(), threading.Event()
    with lesson.Producer(env.rabbit) as producer, lesson.Ledger() as ledger:
        line = lesson.UserDataPipeline(producer, ledger)

        def fail() -> None:
            with ledger.transaction() as db:
                row = (lesson.user(1).to_json(), "cause")
                db.execute("INSERT INTO outbox VALUES (NULL, ?, ?)", row)
                inside.set()
                go.wait(10)
                raise lesson.Crash

        storing = lesson.background(fail)
        assert inside.wait(10)
        relaying = lesson.background(line.relay)
        time.sleep(0.2)  # long enough to read, if it could
        go.set()
        relaying.result(10)
        assert isinstance(storing.exception(10), lesson.Crash)
    assert env.rabbit.ready(env.rabbit.name("user_data")) == 0


def test_a_row_that_nobody_takes_keeps_no_other_back(env: Any) -> None:
    queue = env.rabbit.name("user_data")
    with lesson.Producer(env.rabbit) as producer, lesson.Ledger() as ledger:
        line = lesson.UserDataPipeline(producer, ledger)
        lost = lesson.Message()  # of a kind that no exchange is there for
        for message in (lesson.user(1), lost, lesson.user(2)):
            line._store("signup", message)
        for _ in range(3):
            with pytest.raises(lesson.PublishFailed, match="no exchange"):
                line.relay()
        ((left,),) = ledger.read("SELECT body FROM outbox")
    assert json.loads(left)["id"] == lost.id
    found = lesson.emptied(env.rabbit, queue)
    assert len({about.message_id for about, _ in found}) == 2
    assert len(found) < 6  # the missing exchange closes the channel: sent again, once


def test_the_relay_may_crash_anywhere(env: Any) -> None:
    class Dying(lesson.Producer):  # type: ignore[name-defined, misc]
        left = 0

        def send(self, *args: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise lesson.Crash
            return super().send(*args)

    queue = env.rabbit.name("user_data")
    with Dying(env.rabbit) as producer, lesson.Ledger() as ledger:
        line = lesson.UserDataPipeline(producer, ledger)
        for n in range(5):
            line.process_user_signup(f"user{n}", "a@example.org")
        for producer.left in range(15):
            with pytest.raises(lesson.Crash):
                line.relay()
        producer.left = 15
        assert line.relay() == 15
        assert line.relay() == 0
    found = lesson.emptied(env.rabbit, queue)
    got = [json.loads(body)["id"] for _, body in found]
    # What one signup causes carries the id of its first message.
    assert [about.correlation_id for about, _ in found] == got
    assert len(set(got)) == 5  # and some of them twice, with the same id
    assert len(got) > 5
    for name in lesson.WORK:
        lesson.emptied(env.rabbit, env.rabbit.name(name))


# The stand-in


def test_garbage_does_not_stop_the_stand_in(broker: Any) -> None:
    import socket

    rng = random.Random(6)
    for size in (0, 1, 7, 8, 100, 5000):
        with socket.create_connection(("127.0.0.1", broker.port)) as client:
            client.sendall(b"AMQP\0\0\x09\x01"[: size % 9] + rng.randbytes(size))
    connection_to(broker).setup_infrastructure()


def test_the_clock_moves_only_when_told(broker: Any) -> None:
    rabbit = connection_to(broker)
    rabbit.setup_infrastructure()
    queue, wait = rabbit.name("user_data"), rabbit.wait_queue(0)
    with lesson.Producer(rabbit) as producer:
        producer.publish(wait, queue, b"", lesson.pika.BasicProperties())
        assert (broker.clock, rabbit.ready(wait), rabbit.ready(queue)) == (0, 1, 0)
        broker.step()
        assert (broker.clock, rabbit.ready(wait), rabbit.ready(queue)) == (1, 0, 1)
        broker.step()  # nothing expires any more
        assert broker.clock == 1


def test_a_wire_freezes_each_way_and_cuts(broker: Any) -> None:
    target = connection_to(broker)
    target.setup_infrastructure()
    queue = target.name("user_data")
    with lesson.Wire("127.0.0.1", broker.port) as wire:
        far = connection_to(broker)
        far.parameters.port = wire.port
        with lesson.Producer(far, deadline=0.3) as producer:
            for way, arrives in (("up", 0), ("down", 1)):
                producer.deadline = 10
                lesson.publish(producer, queue, lesson.users(1))  # connected again
                producer.deadline = 0.3
                lesson.emptied(target, queue)
                wire.freeze(way)
                with pytest.raises(lesson.PublishFailed, match="not confirmed"):
                    lesson.publish(producer, queue, lesson.users(1))
                assert target.ready(queue) == arrives
                wire.cut()


# Bad input


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "amqp://guest:secret@127.0.0.1:port/",
        "amqp://guest:secret@127.0.0.1:5672/%2F?heartbeat=often",
        "amqp://guest:secret@127.0.0.1:5672/%2F?nonsense=1",
        "redis://:secret@127.0.0.1",
        "nonsense",
    ],
)
def test_a_wrong_url_is_one_line(url: str) -> None:
    for arguments in ([], ["--stats"]):
        done = run(SCRIPT, "--url", url, *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert len(done.stderr.splitlines()) == 1
        assert "is no URL like amqp://" in done.stderr
        assert "secret" not in done.stderr


def test_refused_logins_and_vhosts_are_named(broker: Any) -> None:
    where = f"127.0.0.1:{broker.port}"
    for url, what in (
        (f"amqp://guest:secret@{where}/%2F", "user or password refused"),
        (f"amqp://guest:guest@{where}/elsewhere", "access to 'elsewhere' refused"),
    ):
        for arguments in ([], ["--worker", "user_data"]):
            done = run(SCRIPT, "--url", url, *arguments)
            assert (done.returncode, done.stdout) == (2, ""), done.stderr
            assert done.stderr.endswith(f"{what}\n")
            assert len(done.stderr.splitlines()) == 1
            assert "secret" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--worker", "orders"], "no queue 'orders'; there are user_data"),
        (["--redrive", "orders"], "no queue 'orders'; there are user_data"),
        (["--redrive", "archive"], "no queue 'module8.archive.dead'"),
        (["--publish", "0"], "--publish"),
        (["--publish", "many"], "--publish"),
        (["--publish", "5", "--rate", "-1"], "--rate"),
        (["--worker", "user_data", "--concurrency", "0"], "--concurrency"),
        (["--worker", "user_data", "--ledger", "/nowhere/x"], "--ledger /nowhere/x"),
        (["--stats", "--prefix", "a b"], "--prefix"),
        (["--stats", "--offline"], "not --offline"),
    ],
    ids=" ".join,
)
def test_bad_options_of_the_modes(broker: Any, arguments: list[str], what: str) -> None:
    done = run(SCRIPT, "--url", url_of(broker), *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert what in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(broker.queues) == []  # nothing was declared
    assert list(broker.exchanges) == [""]


def test_no_broker_exits_3(tmp_path: Path) -> None:
    nobody = "amqp://guest:secret@127.0.0.1:1/%2F"
    for arguments in (["--stats"], ["--worker", "user_data"], ["--require-live"]):
        done = run(SCRIPT, "--url", nobody, *arguments, cwd=tmp_path)
        assert done.returncode == 3
        said = done.stderr + done.stdout
        assert "no RabbitMQ at 127.0.0.1:1; docker compose up -d rabbitmq" in said
        assert "secret" not in said


def test_a_queue_with_other_arguments_is_named(broker: Any) -> None:
    with connection_to(broker).connect() as connection:
        connection.channel().queue_declare("module8.archive", durable=True)
    for arguments in (["--publish", "1"], ["--worker", "archive"]):
        done = run(SCRIPT, "--url", url_of(broker), *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert "inequivalent arg 'x-" in done.stderr
        assert "queue 'module8.archive'" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert list(broker.queues) == ["module8.archive"]


# Processes


def worker(broker: Any, *arguments: str) -> subprocess.Popen[str]:
    """Start a worker process and wait until it consumes."""
    line = [sys.executable, str(SCRIPT), "--url", url_of(broker), "--worker"]
    process = subprocess.Popen(
        [*line, "user_data", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "consuming module8.user_data\n"
    return process


def processed(process: subprocess.Popen[str]) -> int:
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    found = re.findall(r"processed +(\d+)", out)
    return int(found[0]) if found else 0


def modes(broker: Any, *arguments: str) -> str:
    done = run(SCRIPT, "--url", url_of(broker), *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_publish_stats_redrive_teardown(broker: Any) -> None:
    assert "confirmed                          120" in modes(
        broker, "--publish", "120", "--rate", "1000"
    )
    assert re.search(r"module8.user_data +120 +0", modes(broker, "--stats"))
    rabbit = connection_to(broker)
    bodies = lesson.emptied(rabbit, "module8.user_data")
    with lesson.Producer(rabbit) as producer:
        for about, body in bodies[:5]:
            producer.publish("", "module8.user_data.dead", body, about)
    assert "moved back                         5" in modes(
        broker, "--redrive", "user_data"
    )
    assert rabbit.ready("module8.user_data", "module8.user_data.dead") == 5
    modes(broker, "--teardown")
    assert (list(broker.queues), list(broker.exchanges)) == ([], [""])


def test_a_slow_publish_fails_at_the_deadline_of_its_oldest(
    env: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasty = functools.partial(lesson.Producer, deadline=0.5)
    monkeypatch.setattr(lesson, "Producer", hasty)
    with env.wire() as (wire, far):
        monkeypatch.setattr(far, "setup_infrastructure", wire.freeze)
        asked = argparse.Namespace(publish=900, rate=10.0)  # 90 s, within the window
        start = time.monotonic()
        with pytest.raises(lesson.PublishFailed, match="not confirmed"):
            lesson.publish_many(far, asked)
        assert time.monotonic() - start < 45


@pytest.mark.slow
def test_sigterm_in_the_middle_loses_and_repeats_nothing(broker: Any) -> None:
    """No common ledger: what one began it must finish, or the other does it again."""
    modes(broker, "--publish", "3000")
    first = worker(broker, "--concurrency", "2")
    wait_for(lambda: len(broker.queues["module8.user_data"].ready) < 2500, 30)
    first.send_signal(signal.SIGTERM)
    begun = processed(first)
    assert 0 < begun < 3000
    second = worker(broker, "--concurrency", "2")
    queue = broker.queues["module8.user_data"]
    wait_for(lambda: not queue.ready and not queue.unacked, 30)
    second.send_signal(signal.SIGTERM)
    assert begun + processed(second) == 3000
    assert not broker.queues["module8.user_data.dead"].ready


@pytest.mark.slow
def test_two_workers_and_one_is_killed(broker: Any, tmp_path: Path) -> None:
    ledger = str(tmp_path / "ledger")
    modes(broker, "--publish", "3000")
    crew = [worker(broker, "--ledger", ledger) for _ in range(2)]
    queue = broker.queues["module8.user_data"]
    wait_for(lambda: len(queue.ready) < 2000, 30)
    crew[0].kill()
    crew[0].communicate(timeout=10)
    wait_for(lambda: not queue.ready and not queue.unacked, 60)
    crew[1].send_signal(signal.SIGTERM)
    assert processed(crew[1]) < 3000
    with lesson.Ledger(ledger) as found:
        effects = Counter(found.effects("module8.user_data"))
    assert len(effects) == 3000
    assert set(effects.values()) == {1}


def test_a_worker_takes_ctrl_c_like_sigterm(broker: Any) -> None:
    modes(broker, "--publish", "10")
    process = worker(broker)
    queue = broker.queues["module8.user_data"]
    wait_for(lambda: not queue.ready and not queue.unacked)
    process.send_signal(signal.SIGINT)
    assert processed(process) == 10


# Live


def ours_on(url: str) -> set[str]:
    """Return which of our standard names exist, by passive declares."""
    rabbit = lesson.RabbitMQConnection(lesson.parameters_of(url), "module8")
    with rabbit.connect() as connection:
        return {item[1] for item in rabbit.plan if rabbit.look(connection, item)}


def test_a_live_run_is_the_golden_run_and_leaves_nothing(
    rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    named: set[tuple[str, str]] = set()
    declare = lesson.RabbitMQConnection.declare

    def spy(self: Any, channel: Any, plan: Any) -> None:
        named.update((kind, name) for kind, name, _ in plan)
        declare(self, channel, plan)

    before = ours_on(rabbitmq_url)
    monkeypatch.setattr(lesson.RabbitMQConnection, "declare", spy)
    assert lesson.main(["--require-live", "--url", rabbitmq_url]) == 0
    printed = capsys.readouterr().out
    golden = Path(__file__).with_name("golden.txt").read_text()
    claims = re.compile(r"^  \[ok\] .*$", re.MULTILINE)
    assert claims.findall(printed) == claims.findall(golden)
    assert "0 skipped, 0 failed" in printed
    rabbit = lesson.RabbitMQConnection(lesson.parameters_of(rabbitmq_url))
    with rabbit.connect() as one:
        assert not [item for item in sorted(named) if rabbit.look(one, item)]
    assert len(named) > 40
    assert ours_on(rabbitmq_url) == before


@pytest.mark.slow
def test_what_a_killed_run_leaves_behind_expires(rabbitmq_url: str) -> None:
    where = lesson.parameters_of(rabbitmq_url)
    rabbit = lesson.RabbitMQConnection(where, f"module8.{uuid.uuid4().hex[:8]}")
    short = lesson.RabbitMQConnection(where, rabbit.prefix, expires=1.0)
    short.setup_infrastructure()

    def gone() -> bool:
        time.sleep(1.5)  # a look may count as use
        with rabbit.connect() as connection:
            return not any(rabbit.look(connection, item) for item in rabbit.plan)

    try:
        wait_for(gone, 30)
    finally:
        rabbit.teardown()


def test_versions_are_compared_as_numbers() -> None:
    order = ["3.9", "3.10.8", "3.13.0-rc.1", "4.0.1", "4.3", "4.12"]
    for older, newer in itertools.pairwise(order):
        assert lesson.version_of(older) < lesson.version_of(newer)
