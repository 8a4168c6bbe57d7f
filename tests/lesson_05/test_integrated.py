"""Lesson 05 with --integrated, on stand-ins: exact, also in chaos, and left clean."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, call

import numpy as np
import pytest
from lessons import ROOT, SCRIPTS, load, path_of, run
from services import wait_for

SCRIPT = path_of("05")
GOLDEN = Path(__file__).with_name("golden_integrated.txt")
NOBODY = {  # nothing listens on port 1
    "DATABASE_URL": "postgresql://user:s3cr3t@127.0.0.1:1/name",
    "MONGODB_URI": "mongodb://user:s3cr3t@127.0.0.1:1/",
    "REDIS_URL": "redis://user:s3cr3t@127.0.0.1:1/0",
    "RABBITMQ_URL": "amqp://user:s3cr3t@127.0.0.1:1/%2F",
}


def processes(mark: str) -> set[int]:
    """Return the processes whose environment holds a text."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in path.read_bytes():
                found.add(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with copies of the lessons and the data, to be changed."""
    for script in SCRIPTS:
        shutil.copy(script, tmp_path)
    shutil.copytree(ROOT / "data", tmp_path / "data")
    return tmp_path


def test_the_golden_output_and_nothing_left_behind(tmp_path: Path) -> None:
    env = {"TMPDIR": str(tmp_path), "MODULE8_MARK": str(tmp_path)}
    done = run(SCRIPT, "--integrated", "--offline", cwd=tmp_path, env=env)
    assert done.stdout == GOLDEN.read_text("utf-8"), done.stderr
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert "slowest hop" in done.stderr
    assert done.stdout.isascii()
    assert not list(tmp_path.iterdir())
    assert not processes(f"MODULE8_MARK={tmp_path}")


def test_chaos_changes_no_figure(tmp_path: Path) -> None:
    options = ["--offline", "--chaos", "--workers", "2"]
    done = run(SCRIPT, "--integrated", *options, env={"TMPDIR": str(tmp_path)})
    assert done.returncode == 0, done.stdout + done.stderr
    calm = GOLDEN.read_text("utf-8").splitlines()
    added = [line for line in done.stdout.splitlines() if line not in calm]
    assert added == [
        "  [ok] a worker killed by -9, all connections cut: still equal",
        "  [ok] what was not acknowledged came again, for one effect",
        "10 ok, 0 skipped, 0 failed",
    ]
    assert set(calm[:-1]) <= set(done.stdout.splitlines())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("number", "store"),
    [("01", "SQL"), ("02", "MongoDB"), ("03", "Redis"), ("04", "RabbitMQ")],
)
def test_a_missing_sibling_is_named(number: str, store: str, home: Path) -> None:
    (home / path_of(number).name).unlink()
    done = run(home / SCRIPT.name, "--integrated", "--offline")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        f"{SCRIPT.name}: --integrated needs lesson {number}: no {number}_*.py here, "
        f"which carries the hops of {store}"
    ]


def test_a_missing_package_is_named(home: Path, tmp_path: Path) -> None:
    (home / "pika.py").write_text("raise ModuleNotFoundError(name='pika')\n")
    done = run(home / SCRIPT.name, "--integrated", env={"PYTHONPATH": str(home)})
    assert (done.returncode, done.stdout) == (2, "")
    hint = "04_rabbitmq_messaging.py needs pika: pip install -r requirements.txt"
    assert done.stderr.splitlines() == [f"{SCRIPT.name}: {hint}"]


@pytest.mark.parametrize(
    "options",
    [
        "--customers 5",
        "--workers 2",
        "--chaos",
        "--integrated --workers 0",
        "--integrated --workers 65",
        "--integrated --customers x",
        "--integrated --only rules",
        "--integrated --url redis://x",
        "--integrated --json",
        "--integrated --simulate 100",
        "--integrated --offline --require-live",
        "--integrated --offline --customers 9999",
        "--integrated --offline --customers 3",
    ],
)
def test_bad_options_get_one_line(options: str) -> None:
    done = run(SCRIPT, *options.split())
    assert done.returncode == 2, done.stdout
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert len(done.stdout.splitlines()) <= 1  # the backend line


def test_services_that_do_not_answer_exit_3_and_show_no_password() -> None:
    done = run(SCRIPT, "--integrated", "--require-live", "--verbose", env=NOBODY)
    assert done.returncode == 3, done.stderr
    assert done.stdout.count("127.0.0.1:1") == 4
    assert "s3cr3t" not in done.stdout + done.stderr


def test_another_lessons_bad_url_is_one_line_too() -> None:
    done = run(SCRIPT, "--integrated", env=NOBODY | {"REDIS_URL": "http://:s3cr3t@x"})
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "no Redis URL" in line
    assert "s3cr3t" not in line


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_its_parent(number: signal.Signals, tmp_path: Path) -> None:
    if not Path("/proc").is_dir():
        pytest.skip("needs /proc")
    mark = f"MODULE8_MARK={tmp_path}"
    command = [sys.executable, str(SCRIPT), "--integrated", "--offline"]
    command += ["--workers", "2"]
    env = os.environ | {"TMPDIR": str(tmp_path), "MODULE8_MARK": str(tmp_path)}
    null, pipe = subprocess.DEVNULL, subprocess.PIPE
    with subprocess.Popen(
        command, env=env, stdin=null, stdout=null, stderr=pipe
    ) as parent:
        wait_for(lambda: len(processes(mark)) == 3, 60)
        parent.send_signal(number)
        printed = parent.communicate(timeout=60)[1]
    assert parent.returncode == (130 if number == signal.SIGINT else -number)
    assert b"Traceback" not in printed or number == signal.SIGKILL
    wait_for(lambda: not processes(mark), 60)
    if number == signal.SIGINT:
        assert not list(tmp_path.iterdir())


class Crash(Exception):
    pass


class Told:
    """Stores that only remember what they were told, after a silence."""

    def __init__(self) -> None:
        self.forgotten: list[list[str]] = []
        self.silence = 0

    def forget(self, users: list[str]) -> None:
        self.silence -= 1
        if self.silence >= 0:
            raise ConnectionError
        self.forgotten.append(users)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Make books of purchases in a new database: of a kind, or the lesson's own."""
    lesson = load("05")
    sql = lesson.sibling("01")
    engine = sql.sqlite_engine(tmp_path / "books.db")
    with engine.begin() as connection:
        for statement in lesson.TABLES.split(";"):
            connection.exec_driver_sql(statement)

    def make(kind: Callable[[Any], Any] = lambda base: base) -> Any:
        return kind(lesson.Purchases)(sql, engine, Told(), "analytics")

    yield make
    engine.dispose()


def order(number: int, cents: object = 1999) -> Any:
    kind = load("05").sibling("04").AnalyticsMessage
    about = {"day": 730_000, "cents": cents}
    ident, user = f"order-{number}", f"{number:04}"
    return kind(id=ident, event_type="purchase", user_id=user, properties=about)


def rows(books: Any, table: str) -> list[tuple[Any, ...]]:
    with books.sessions() as session:
        found = session.execute(books.sql.text(f"SELECT * FROM {table} ORDER BY id"))
        return [tuple(row) for row in found]


@pytest.mark.parametrize("point", ["record", "follow", "done", "never"])
def test_a_crash_at_any_point_is_mended(point: str, ledger: Callable[..., Any]) -> None:
    def fragile(base: Any) -> Any:
        class Fragile(base):  # type: ignore[misc]
            crash = point

            def record(self, session: Any, messages: list[Any]) -> None:
                super().record(session, messages)  # written, and not committed
                if self.crash == "record":
                    raise Crash

            def follow(self, messages: list[Any]) -> None:
                if self.crash == "follow":
                    raise Crash
                super().follow(messages)
                if self.crash == "done":
                    raise Crash

        return Fragile

    books, one = ledger(fragile), order(1)
    if point != "never":
        with pytest.raises(Crash):
            books.once("", one, "")
        assert [done for *_, done in rows(books, "inbox")] != [1]
        books.crash = "never"
    for _ in range(3):
        books.once("", one, "")
    assert rows(books, "purchases") == [("order-1", "0001", 730_000, 1999)]
    assert rows(books, "inbox") == [("analytics", "order-1", 1)]
    assert ["0001"] in books.stores.forgotten


def test_what_waits_shares_a_commit_and_the_one_at_fault_fails_alone(
    ledger: Callable[..., Any],
) -> None:
    begun, gate, sizes = threading.Event(), threading.Event(), list[int]()

    def watched(base: Any) -> Any:
        class Watched(base):  # type: ignore[misc]
            def apply(self, batch: list[Any]) -> Any:
                begun.set()
                gate.wait(30)
                sizes.append(len(batch))
                return super().apply(batch)

        return Watched

    books = ledger(watched)
    messages = [order(n % 10) for n in range(20)] + [order(99, cents=None)]
    messages[20].properties["cents"] = {"no": "number"}
    with ThreadPoolExecutor(21) as pool:
        told = [pool.submit(books.once, "", messages[0], "")]
        assert begun.wait(30)  # the first is in hand, alone
        told += [pool.submit(books.once, "", one, "") for one in messages[1:]]
        wait_for(lambda: books.waiting.qsize() == 20)
        gate.set()
        new = [one.result(30) for one in told[:20]]
        assert told[20].exception(30)
    assert len(rows(books, "purchases")) == 10
    assert rows(books, "inbox") == [("analytics", f"order-{n}", 1) for n in range(10)]
    assert max(sizes) == 20  # then all of them alone, for the sake of one
    assert sizes.count(1) == 21
    assert sum(new) == 10


def test_an_outage_is_outlasted_or_the_score_expires(
    ledger: Callable[..., Any],
) -> None:
    lesson = load("05")
    messaging = lesson.sibling("04")
    log = lesson.read_log(lesson.SAMPLE)
    shop = SimpleNamespace(log=log, users=["0001"], messaging=messaging)
    shop.sign_up = lambda *about: (about, "data_processing", "")
    *_, (message, *_) = lesson.Shop.letters(shop, np.arange(1))
    books = ledger()
    books.stores.silence = 20
    options = Namespace(offline=True, require_live=False, url=None)
    with messaging.open_env(options) as env, messaging.Producer(env.rabbit) as producer:
        env.rabbit.setup_infrastructure()
        queue = env.rabbit.name("analytics")
        messaging.publish(producer, queue, [message])
        one = messaging.AnalyticsConsumer(env.rabbit, queue, producer, books)

        def settled() -> bool:
            env.broker.step()
            ended = rows(books, "inbox") == [("analytics", "order-0000000", 1)]
            return ended or bool(env.rabbit.ready(f"{queue}.dead"))

        with messaging.running(one):
            wait_for(settled, 30)
        assert not env.rabbit.ready(f"{queue}.dead")
    assert books.stores.forgotten == [["0001"]]
    waits = [lesson.BASE * 2 ** min(k, 4) for k in range(message.max_retries)]
    assert lesson.TTL < sum(waits) < 1.1 * lesson.TTL


@pytest.mark.parametrize(("orders", "workers"), [(20, 16), (1000, 1)])
def test_chaos_kills_a_worker_of_any_number(orders: int, workers: int) -> None:
    shop = MagicMock(cut=1, args=Namespace(chaos=True))
    shop.log.day = np.ones(orders)
    load("05").Shop.open(shop, workers)
    first, *others = shop.staff.hire.call_args_list
    assert 1 <= first.args[0] <= orders / 8
    assert others == [call()] * (workers - 1)


@dataclass(frozen=True)
class Change:
    """A change of the text after which the claim must not be made any more."""

    claim: str
    old: str
    new: str
    times: int = 1
    options: tuple[str, ...] = ()


CHAOS = ("--chaos",)
CHANGES = (
    Change(
        "only the inbox has 20 rows for 20 orders",
        "[known[one] for one in sorted(new)] if self.inbox else batch",
        "batch",
    ),
    Change(
        "features read back from SQL equal the file's",
        '"cents": round(100 * self.log.amount[row])',
        '"cents": int(100 * self.log.amount[row])',
    ),
    Change(
        "the second pass asks SQL nothing", "redis_cache(TTL,", "redis_cache(0.001,"
    ),
    Change(
        "whom a purchase came for is read again, who is cached is not",
        "self.cache.delete(*map(self.key, users))",
        "self.cache.delete(*users)",
    ),
    Change("cached predictions = model output", "sum(cents[1:])", "sum(cents)"),
    Change(
        "published = applied + dead, in every queue",
        '"queue": self.queue',
        '"queue": "any"',
        2,
    ),
    Change(
        "SQL users = MongoDB profiles = customers, one by one",
        '("UserDataConsumer", Users)',
        '("NotificationConsumer", Users)',
    ),
    Change(
        "SQL users = MongoDB profiles = customers, one by one",
        '"created_at": midnight(one.registration_date)',
        '"created_at": midnight("1997-01-01")',
    ),
    Change(
        "SQL purchases = MongoDB events = the file, row by row",
        'one.properties["cents"] / 100}',
        'one.properties["cents"] // 100}',
    ),
    Change(
        "SQL purchases = MongoDB events = the file, row by row",
        '"user_id": int(one.user_id)',
        '"user_id": 1',
    ),
    Change(
        "a worker killed by -9, all connections cut: still equal",
        "for _ in dead:",
        "for _ in ():",
        options=CHAOS,
    ),
    Change(
        "what was not acknowledged came again, for one effect",
        "inbox: bool = True",
        "inbox: bool = False",
        options=CHAOS,
    ),
)


def test_every_claim_has_a_change() -> None:
    claims = set(
        re.findall(r"^  \[ok\] (.*)$", GOLDEN.read_text("utf-8"), re.MULTILINE)
    )
    assert claims == {change.claim for change in CHANGES if not change.options}
    assert len({change.new for change in CHANGES}) == len(CHANGES)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.new)
def test_a_change_makes_its_claim_fail(change: Change, home: Path) -> None:
    script = home / SCRIPT.name
    text = script.read_text("utf-8")
    assert text.count(change.old) == change.times
    assert text.count("LIMIT, BASE = 60.0") == 1
    text = text.replace("LIMIT, BASE = 60.0", "LIMIT, BASE = 20.0")  # stalls are short
    script.write_text(text.replace(change.old, change.new), "utf-8")
    options = ["--offline", "--customers", "100", *change.options]
    done = run(script, "--integrated", *options)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "[FAIL]" in done.stdout
    assert f"  [ok] {change.claim}\n" not in done.stdout
