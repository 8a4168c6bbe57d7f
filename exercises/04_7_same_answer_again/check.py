"""Judges answer_once on SQLite files, with crashes and with two workers.

What a crash would leave is what another connection sees: it looks before each statement
of the answer, and while the work is done.
"""

from __future__ import annotations

import importlib.util
import random
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from math import inf
from pathlib import Path
from types import ModuleType
from typing import Any

from course.claims import is_a
from course.lab import in_background
from course.practice.checking import Refused, Words, expect

TIMEOUT = 5.0  # seconds that a connection waits for another one
QUIET = 0.2  # seconds without a statement after which a worker is waiting
NOTHING = {"orders": 0, "answers": []}

Connection = sqlite3.Connection


class Interrupted(BaseException):
    """An exception that is not an Exception."""


class Shop:
    """A file with the tables, and connections to it."""

    def __init__(self, path: Path, schema: str) -> None:
        self.path = path
        self.connections: list[Connection] = []
        self.eye = self.connect(0)
        self.eye.execute(schema)
        self.eye.execute("CREATE TABLE orders (number INTEGER PRIMARY KEY, what TEXT)")
        self.eye.execute("CREATE TABLE probe (x INTEGER)")
        self.seen: list[tuple[int, int]] = []

    def connect(self, timeout: float = TIMEOUT) -> Connection:
        """Return a connection as a worker has it."""
        db = sqlite3.connect(
            self.path, timeout, isolation_level=None, check_same_thread=False
        )
        db.execute(
            "PRAGMA synchronous = OFF"
        )  # the machine does not crash, and is slow
        self.connections.append(db)
        return db

    def state(self) -> dict[str, Any]:
        """Return how many orders there are, and what the inbox holds."""
        try:
            orders = self.eye.execute("SELECT count(*) FROM orders").fetchone()[0]
            rows = self.eye.execute("SELECT id, body, answer FROM inbox ORDER BY id")
            return {"orders": orders, "answers": rows.fetchall()}
        except sqlite3.OperationalError as error:
            return {"file": Words(str(error))}

    def look(self, *_: object) -> bool:
        """Note what a crash would leave now, unless the file is locked."""
        state = self.state()
        if "orders" in state:
            self.seen.append((state["orders"], len(state["answers"])))
        return True

    def expect_whole(self, tried: str) -> None:
        """Refuse the answer if a crash would have left some of it, and not all."""
        for orders, answers in self.seen:
            if orders != answers:
                what = f"{tried}: what a crash between two statements leaves"
                came = Words(f"orders {orders}, answers {answers}")
                raise Refused(what, came, Words("as many of both"), 2)


class Order:
    """The work: it adds an order, and answers with a text. It counts its calls.

    `meanwhile` is called after the order is added; it may raise.
    """

    def __init__(
        self, text: str = "order {}", meanwhile: Callable[[], object] | None = None
    ) -> None:
        self.text = text
        self.meanwhile = meanwhile
        self.calls: list[tuple[Connection, bytes]] = []

    def __call__(self, db: Connection, body: bytes) -> str:
        """Add an order."""
        self.calls.append((db, body))
        row = db.execute("INSERT INTO orders (what) VALUES (?)", (str(body),))
        if self.meanwhile:
            self.meanwhile()
        return self.text.format(row.lastrowid)


def check(answer: ModuleType, rng: random.Random) -> None:
    """Answer once and again, with failures and crashes, then with two workers."""
    trials = [
        check_once,
        check_again,
        check_failing_work,
        check_another_body,
        check_crashes,
        check_same_id,
        check_first_fails,
        check_different_ids,
        check_locked,
    ]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for trial in trials:
            shop = Shop(Path(folder) / f"{trial.__name__}.sqlite", answer.SCHEMA)
            try:
                trial(answer, shop, rng)
            finally:
                for db in shop.connections:
                    with suppress(sqlite3.Error):
                        db.close()


def ask(
    tried: str,
    answer: ModuleType,
    db: Connection,
    message: tuple[str, bytes],
    work: Callable[..., str],
    *,
    hint: int = 1,
) -> Any:
    """Return the answer to a message; refuse one that raises an error."""
    try:
        return answer.answer_once(db, *message, work)
    except NotImplementedError:
        raise
    except Exception as error:
        raised = Words(f"{type(error).__name__}: {error}")
        raise Refused(tried, raised, Words("an answer"), hint) from error


def expect_usable(tried: str, shop: Shop, db: Connection, hint: int) -> None:
    """Refuse the answer if the connection is not as it was, or holds a lock."""
    expect(
        f"{tried}: the connection is in a transaction", db.in_transaction, False, hint
    )
    try:
        db.execute("INSERT INTO probe VALUES (1)")
        seen = shop.eye.execute("SELECT count(*) FROM probe").fetchone()
        shop.eye.execute("DELETE FROM probe")
    except sqlite3.Error as error:
        observed = Words(f"{type(error).__name__}: {error}")
        what = f"{tried}: the next statement on this connection, and on another"
        raise Refused(what, observed, Words("a row stored"), hint) from error
    what = f"{tried}: rows that another connection sees after the next INSERT"
    expect(what, seen, (1,), hint)


def second_copy(answer: ModuleType) -> ModuleType:
    """Return the answer as another process has it: nothing in memory is shared."""
    spec: Any = importlib.util.spec_from_file_location("answer", answer.__file__)
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check_once(answer: ModuleType, shop: Shop, rng: random.Random) -> None:
    """Answer two messages, once each."""
    db = shop.connect()
    first = (f"m{rng.randrange(100)}", b"two cups")
    second = ("it's; --", bytes(rng.randrange(256) for _ in range(8)))
    rows = []
    for number, message in enumerate((first, second), start=1):
        work = Order("№ {}")
        tried = f"message {message[0]!r}, for the first time"
        got = ask(tried, answer, db, message, work)
        expect(f"{tried}: the answer", got, f"№ {number}", 1)
        expect(f"{tried}: calls of the work", len(work.calls), 1, 1)
        expect(f"{tried}: the body it gets", work.calls[0][1], message[1], 1)
        same = work.calls[0][0] is db
        expect(f"{tried}: the work gets the connection", same, True, 1)
        rows.append((*message, f"№ {number}"))
        stored = {"orders": number, "answers": sorted(rows)}
        expect(f"{tried}: what another connection sees", shop.state(), stored, 1)
        expect_usable(tried, shop, db, 1)


def check_again(answer: ModuleType, shop: Shop, rng: random.Random) -> None:
    """Deliver again, on this connection, another and in another process."""
    db = shop.connect()
    for text, name in (("order {}", "a"), ("", "b")):
        message = (name, f"{rng.randrange(9)} cups".encode())
        first = ask("the first delivery", answer, db, message, Order(text))
        before = shop.state()
        others = {
            "on the same connection": (answer, db),
            "on another connection": (answer, shop.connect()),
            "in another process": (second_copy(answer), shop.connect()),
        }
        for where, (module, connection) in others.items():
            again = Order("another {}")
            tried = f"a second delivery {where}, the answer was {first!r}"
            got = ask(tried, module, connection, message, again)
            expect(f"{tried}: calls of the work", len(again.calls), 0, 1)
            expect(f"{tried}: the answer", got, first, 1)
            expect(f"{tried}: what is stored", shop.state(), before, 1)
            expect_usable(tried, shop, connection, 1)


def raising(error: BaseException) -> Callable[[], object]:
    """Return a function that raises."""

    def run() -> object:
        raise error

    return run


def check_failing_work(answer: ModuleType, shop: Shop, rng: random.Random) -> None:
    """Let the work raise all kinds of exceptions, then deliver again."""
    errors: list[BaseException] = [
        RuntimeError("no stock"),
        ValueError("no such cup"),
        sqlite3.IntegrityError("UNIQUE constraint failed: orders.number"),
        KeyboardInterrupt(),
        SystemExit(3),
        Interrupted(),
    ]
    db = shop.connect()
    for number, error in enumerate(errors, start=1):
        message = (f"m{number}", b"cups")
        name = type(error).__name__
        tried = f"the work adds an order and raises {name}"
        before = shop.state()
        raised: BaseException | None = None
        try:
            answer.answer_once(db, *message, Order(meanwhile=raising(error)))
        except NotImplementedError:
            raise
        except BaseException as caught:
            raised = caught
        came = Words(type(raised).__name__ if raised else "no error")
        if raised is not error:
            raise Refused(f"{tried}: what is let out", came, Words(f"that {name}"), 2)
        expect(f"{tried}: what is stored", shop.state(), before, 2)
        expect_usable(tried, shop, db, 2)
        work = Order()
        got = ask(f"{tried}; delivered again", answer, db, message, work, hint=2)
        expect(f"{tried}; delivered again: the answer", got, f"order {number}", 2)
        orders = shop.state()["orders"]
        expect(f"{tried}; delivered again: orders", orders, number, 2)


def check_another_body(answer: ModuleType, shop: Shop, rng: random.Random) -> None:
    """Send the same id with another body, then with the first one."""
    db = shop.connect()
    bodies = {b"two cups": b"two cups ", b"": b"0", b"\xff": b"\xfe", b"A": b"a"}
    for number, (body, other) in enumerate(bodies.items(), start=1):
        message = (f"m{number}", body)
        first = ask("the first delivery", answer, db, message, Order())
        before = shop.state()
        for module, connection in ((answer, db), (second_copy(answer), shop.connect())):
            work = Order()
            tried = f"the id of {body!r}, with the body {other!r}"
            try:
                got = module.answer_once(connection, message[0], other, work)
            except ValueError:
                pass
            except Exception as error:
                raised = Words(f"{type(error).__name__}: {error}")
                raise Refused(tried, raised, Words("ValueError"), 2) from error
            else:
                raise Refused(tried, got, Words("ValueError"), 2)
            expect(f"{tried}: calls of the work", len(work.calls), 0, 2)
            expect(f"{tried}: what is stored", shop.state(), before, 2)
            expect_usable(tried, shop, connection, 2)
        tried = f"the id of {body!r} again, after another body came"
        got = ask(tried, answer, db, message, Order(), hint=2)
        expect(f"{tried}: the answer", got, first, 2)


def check_crashes(answer: ModuleType, shop: Shop, rng: random.Random) -> None:
    """Look, before each statement and during the work, at what a crash would leave."""
    db = shop.connect()
    db.set_trace_callback(shop.look)
    message = ("m1", b"cups")
    error = RuntimeError("no stock")
    with suppress(RuntimeError):
        fails = Order(meanwhile=lambda: shop.look() and raising(error)())
        answer.answer_once(db, *message, fails)
    shop.expect_whole("the work fails")
    ask("the first delivery", answer, db, message, Order(meanwhile=shop.look))
    shop.expect_whole("the first delivery")
    ask("the second delivery", answer, db, message, Order())
    shop.expect_whole("the second delivery")


class Worker:
    """A second process: a copy of the answer, a connection, a thread."""

    def __init__(self, answer: ModuleType, shop: Shop, work: Order) -> None:
        self.module = second_copy(answer)
        self.db = shop.connect()
        self.work = work
        self.last = inf  # when it began its last statement
        self.db.set_trace_callback(self.note)
        self.running: Future[Any] = Future()

    def note(self, _: str) -> None:
        """Note that a statement begins."""
        self.last = time.monotonic()

    def start(self, message: tuple[str, bytes]) -> None:
        """Begin, in a thread."""
        call = self.module.answer_once
        self.running = in_background(lambda: call(self.db, *message, self.work))

    def wait_until_it_waits(self) -> None:
        """Return when it has begun no statement for a while, or has ended."""
        deadline = time.monotonic() + TIMEOUT / 2
        while time.monotonic() < deadline and not self.running.done():
            if time.monotonic() - self.last > QUIET:
                return
            time.sleep(0.005)

    def result(self, tried: str) -> Any:
        """Return its answer; refuse one that raises, or does not end."""
        try:
            return self.running.result(2 * TIMEOUT)
        except TimeoutError:
            raise Refused(tried, Words("no end"), Words("an answer"), 3) from None
        except Exception as error:
            raised = Words(f"{type(error).__name__}: {error}")
            raise Refused(tried, raised, Words("an answer"), 3) from error


def two_workers(
    answer: ModuleType,
    shop: Shop,
    messages: Sequence[tuple[str, bytes]],
    error: Exception | None = None,
) -> tuple[Worker, Worker]:
    """Begin a second delivery while the work of the first is done; return both."""
    second = Worker(answer, shop, Order())

    def meanwhile() -> None:
        if not started.is_set():
            started.set()
            second.start(messages[1])
            second.wait_until_it_waits()
        if error:
            raise error

    started = threading.Event()
    first = Worker(answer, shop, Order(meanwhile=meanwhile))
    first.start(messages[0])
    return first, second


def check_same_id(answer: ModuleType, shop: Shop, rng: random.Random) -> None:
    """Deliver a message to a second worker while the first one is at work."""
    message = ("m1", b"cups")
    tried = "a second worker gets a message while the first one does its work"
    first, second = two_workers(answer, shop, (message, message))
    answers = [first.result(f"{tried}: the first one's answer")]
    answers.append(second.result(f"{tried}: the second one's answer"))
    expect(f"{tried}: orders", shop.state()["orders"], 1, 3)
    expect(f"{tried}: the two answers", answers, ["order 1", "order 1"], 3)
    expect_usable(tried, shop, second.db, 3)
    # Both begin at once, some times.
    for number in range(2, 12):
        message = (f"m{number}", b"cups")
        barrier = threading.Barrier(2)
        workers = [Worker(answer, shop, Order()) for _ in range(2)]
        for worker in workers:
            worker.db.set_trace_callback(None)
            meet(worker, barrier)
            worker.start(message)
        tried = "two workers get a message at the same time"
        answers = [one.result(tried) for one in workers]
        expect(f"{tried}: orders", shop.state()["orders"], number, 3)
        expect(f"{tried}: the two answers", answers, [f"order {number}"] * 2, 3)


def meet(worker: Worker, barrier: threading.Barrier) -> None:
    """Let a worker wait for the other one before it begins."""
    call = worker.module.answer_once

    def begin(*args: Any) -> Any:
        barrier.wait(TIMEOUT)
        return call(*args)

    worker.module.answer_once = begin  # type: ignore[attr-defined]


def check_first_fails(answer: ModuleType, shop: Shop, rng: random.Random) -> None:
    """Let the first worker's work fail while the second one waits."""
    message = ("m1", b"cups")
    error = RuntimeError("no stock")
    tried = "the first worker's work fails while a second one waits"
    first, second = two_workers(answer, shop, (message, message), error)
    failure = first.running.exception(2 * TIMEOUT)
    expect(f"{tried}: what the first one raises", failure, is_a(RuntimeError), 3)
    got = second.result(f"{tried}: the second one's answer")
    expect(f"{tried}: the second one's answer", got, "order 1", 3)
    expect(f"{tried}: its calls of the work", len(second.work.calls), 1, 3)
    expect(f"{tried}: orders", shop.state()["orders"], 1, 3)


def check_different_ids(answer: ModuleType, shop: Shop, rng: random.Random) -> None:
    """Deliver another message to a second worker meanwhile."""
    messages = (("m1", b"cups"), ("m2", b"plates"))
    tried = "a second worker gets another message while the first one is at work"
    first, second = two_workers(answer, shop, messages)
    answers = [first.result(f"{tried}: the first one's answer")]
    answers.append(second.result(f"{tried}: the second one's answer"))
    expect(f"{tried}: the two answers", answers, ["order 1", "order 2"], 3)
    expect(f"{tried}: orders", shop.state()["orders"], 2, 3)


def check_locked(answer: ModuleType, shop: Shop, rng: random.Random) -> None:
    """Keep the file locked for longer than the timeout."""
    other = shop.connect()
    db = shop.connect(timeout=0.05)
    message = ("m1", b"cups")
    work = Order()
    tried = "another connection keeps the file locked for longer than the timeout"
    other.execute("BEGIN IMMEDIATE")
    running = in_background(lambda: answer.answer_once(db, *message, work))
    try:
        error = running.exception(TIMEOUT)
    except TimeoutError:
        raise Refused(tried, Words("no end"), Words("an error"), 3) from None
    finally:
        other.execute("ROLLBACK")
    expect(f"{tried}: what it raises", error, is_a(sqlite3.OperationalError), 3)
    expect(f"{tried}: what is stored", shop.state(), NOTHING, 3)
    expect_usable(tried, shop, db, 3)
    got = ask(f"{tried}; delivered again after that", answer, db, message, work, hint=3)
    expect(f"{tried}; delivered again after that: the answer", got, "order 1", 3)
