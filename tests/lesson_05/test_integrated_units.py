"""The parts of --integrated alone: books, retries, waiting, who dies, who was busy."""

from __future__ import annotations

import threading
from argparse import Namespace
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import fakeredis
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from pika import exceptions
from services import wait_for

from course.caching.client import cache_client
from course.console import TALLY
from course.ending import ENDING, Ended
from course.errors import BadInput
from course.integrated import system
from course.integrated.analytics import Purchase
from course.integrated.books import Books, Purchases, PurchasesWithoutInbox
from course.integrated.broker import Broker, Publisher, broker_of
from course.integrated.cache import TTL, ScoreCache, redis_place
from course.integrated.lessons import load_lesson, open_back_end
from course.integrated.letters import Letter, Writer
from course.integrated.shop import Shop
from course.integrated.spans import Pace, Span, busy_seconds, pace_of
from course.integrated.sql import TABLES, Database
from course.integrated.staff import SHORT_LIMIT, Staff
from course.integrated.task import BASE, LIMIT, Lent, Place, Task, task_of
from course.integrated.trouble import Calm, Chaos
from course.integrated.waiting import reach


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


Ledger = Callable[..., Purchases]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Make books of purchases in a new database: of a kind, or the course's own."""
    sql = load_lesson("01")
    engine = sql.sqlite_engine(tmp_path / "books.db")
    with engine.begin() as connection:
        for statement in TABLES.split(";"):
            connection.exec_driver_sql(statement)

    def make(kind: type[Purchases] = Purchases) -> Purchases:
        return kind(Database(sql, engine), Told(), "analytics")

    yield make
    engine.dispose()


def order(number: int, cents: object = 1999) -> Any:
    kind = load_lesson("04").AnalyticsMessage
    about = {"day": 730_000, "cents": cents}
    ident, user = f"order-{number}", f"{number:04}"
    return kind(id=ident, event_type="purchase", user_id=user, properties=about)


def rows(books: Books, table: str) -> list[tuple[Any, ...]]:
    return [
        tuple(row) for row in books.database.rows(f"SELECT * FROM {table} ORDER BY id")
    ]


class Fragile(Purchases):
    """Books that crash at a point."""

    crash = "never"

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


@pytest.mark.parametrize("point", ["record", "follow", "done", "never"])
def test_a_crash_at_any_point_is_mended(point: str, ledger: Ledger) -> None:
    books, one = ledger(Fragile), order(1)
    assert isinstance(books, Fragile)
    if point != "never":
        books.crash = point
        with pytest.raises(Crash):
            books.once("", one, "")
        assert [done for *_, done in rows(books, "inbox")] != [1]
        books.crash = "never"
    for _ in range(3):
        books.once("", one, "")
    assert rows(books, "purchases") == [("order-1", "0001", 730_000, 1999)]
    assert rows(books, "inbox") == [("analytics", "order-1", 1)]
    assert ["0001"] in books.stores.forgotten


def test_the_naive_books_write_every_delivery(ledger: Ledger) -> None:
    ours, naive = ledger(), ledger(PurchasesWithoutInbox)
    for _ in range(3):
        ours.once("", order(1), "")
    for _ in range(3):
        naive.once("", order(1), "")
    assert len(rows(ours, "purchases")) == 1 + 3


def test_what_waits_shares_a_commit_and_the_one_at_fault_fails_alone(
    ledger: Ledger,
) -> None:
    begun, gate, sizes = threading.Event(), threading.Event(), list[int]()

    class Watched(Purchases):
        def apply(self, batch: list[Any]) -> set[str]:
            begun.set()
            gate.wait(30)
            sizes.append(len(batch))
            return super().apply(batch)

    books = ledger(Watched)
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


def test_an_outage_is_outlasted_or_the_score_expires(ledger: Ledger) -> None:
    messaging = load_lesson("04")
    purchase = Purchase(row=0, user="0001", day=730_000, cents=1999)
    message = Writer(messaging).order(purchase).message
    books = ledger()
    books.stores.silence = 20
    with ExitStack() as stack:
        args = Namespace(offline=True, require_live=False)
        env = open_back_end(messaging, args, stack)
        broker = broker_of(messaging, env)
        stack.callback(broker.remove, env.backend)
        broker.declare()
        producer = stack.enter_context(broker.producer())
        Publisher(broker, producer).publish([Letter(message, "", "analytics")])
        options = {"producer": producer, "ledger": books}

        def settled() -> bool:
            env.broker.step()
            ended = rows(books, "inbox") == [("analytics", "order-0000000", 1)]
            return ended or bool(broker.waiting_in(["analytics.dead"]))

        with broker.consuming("analytics", "AnalyticsConsumer", **options):
            wait_for(settled, 30)
        assert not broker.waiting_in(["analytics.dead"])
    assert books.stores.forgotten == [["0001"]]
    waits = [BASE * 2 ** min(k, 4) for k in range(message.max_retries)]
    assert TTL < sum(waits) < 1.1 * TTL


@pytest.mark.parametrize(("orders", "workers"), [(20, 16), (1000, 1)])
def test_chaos_kills_a_worker_of_any_number(orders: int, workers: int) -> None:
    chaos = Chaos(MagicMock(), MagicMock(), ExitStack())
    early = max(1, orders / workers / 25)  # by far, if it gets less than the others
    assert 1 <= chaos.first_death(orders, workers) <= early
    assert Calm().first_death(orders, workers) == 0


def a_task() -> Task:
    near, far = Place("127.0.0.1", 1), Place("::1", 65_535)
    stores = ("sqlite://", "s", "mongodb://", "d", "redis://", near, "p")
    return Task(*stores, "amqp://", far, "m", Lent(2, "key"))


@pytest.mark.parametrize("shares", [(40, 0), (0, 40), (3, 37), (20, 20)])
def test_chaos_kills_one_worker_however_unequal_their_shares_are(
    shares: tuple[int, ...], ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = MagicMock()
    monkeypatch.setattr("course.integrated.books.os.kill", killed)
    start = 0
    for share in shares:  # to a worker each
        books = ledger()
        books.dies_after = 5
        for number in range(start, start + share):
            books.once("analytics", order(number), "")
        start += share
        assert len(rows(books, "purchases")) == start
    assert killed.call_count == 1


def test_every_worker_is_told_when_to_die(monkeypatch: pytest.MonkeyPatch) -> None:
    staff = MagicMock()
    monkeypatch.setattr("course.integrated.shop.Staff", staff)
    for name in ("Publisher", "reach"):
        monkeypatch.setattr(f"course.integrated.shop.{name}", MagicMock())
    shop = MagicMock()
    shop.trouble.first_death.return_value = 7
    shop.task.return_value = a_task()
    Shop.open(shop, workers=3)
    (task,) = staff.call_args.args
    assert task.dies_after == 7
    assert staff.return_value.hire.call_count == 3


def test_a_task_survives_the_pipe() -> None:
    task = replace(a_task(), dies_after=3)
    for one in (task, replace(task, redis_place=None, lent=None)):
        line = one.to_json()
        assert "\n" not in line
        assert task_of(line) == one
        assert "://" not in repr(one)
        assert "key" not in repr(one)


def spans(*pairs: tuple[int, int]) -> list[Span]:
    return [Span("a to SQL", start, took, 1) for start, took in pairs]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9)), max_size=9))
def test_busy_is_a_second_in_which_anything_is_under_way(
    pairs: list[tuple[int, int]],
) -> None:
    seconds = {start + n for start, took in pairs for n in range(took)}
    assert busy_seconds(spans(*pairs)) == len(seconds)


def test_a_message_takes_as_long_as_its_batch() -> None:
    pace = pace_of([Span("a to SQL", 0.0, 2.0, 3), Span("a to SQL", 1.0, 3.0, 1)])
    assert replace(pace, late=0.0) == Pace(4.0, 1.0, 2000.0, 0.0)
    assert round(pace.late) == 2970
    assert str(pace).startswith("busy for 4.0 s, 1/s, p50 2000.00 ms")


def test_a_count_that_stands_still_ends_the_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("course.integrated.waiting.LIMIT", 0.3)
    monkeypatch.setattr("course.integrated.waiting.PAUSE", 0.2)
    counts = iter(range(10))
    reach("steps", lambda: next(counts), 5)  # longer than the limit, always ahead
    with pytest.raises(TimeoutError, match="stuck: 3 of 5"):
        reach("stuck", lambda: 3, 5)


def test_what_the_cache_has_not_heard_comes_again_and_costs_nobody_else() -> None:
    server = fakeredis.FakeServer()
    client = fakeredis.FakeRedis(server=server)
    scores = ScoreCache(load_lesson("03"), client, "module8:test:")
    for user in ("1", "2"):
        scores.cache.set(scores.key_of(user), [0.5, 9.0])
    server.connected = False
    with pytest.raises(ConnectionError, match="has not heard of a purchase"):
        scores.forget(["1"])
    assert not scores.cache.owed  # the message that comes again will do
    server.connected = True
    assert scores.held(["2"]) == {"2": [0.5, 9.0]}
    scores.forget(["1"])
    assert scores.held(["1", "2"]) == {"2": [0.5, 9.0]}


def test_a_broker_that_cannot_be_asked_counts_nothing() -> None:
    rabbit = MagicMock()
    rabbit.ready.side_effect = exceptions.AMQPConnectionError
    rabbit.channel.side_effect = exceptions.AMQPConnectionError
    broker = Broker(MagicMock(), None, "module8.test.")
    broker.rabbit = rabbit
    assert broker.waiting_in(["dead"]) == 0
    assert broker.consumers("feed") == 0


def test_a_worker_finds_the_password_of_the_database() -> None:
    engine = sa.create_engine("postgresql+psycopg://ann:s3cret@127.0.0.1/shop")
    assert "ann:s3cret@" in Database(MagicMock(), engine).url()


@pytest.mark.parametrize(
    ("reason", "failed", "limit"),
    [
        (None, 0, LIMIT),
        (None, 1, SHORT_LIMIT),
        (Ended("by SIGINT", 130), 0, SHORT_LIMIT),
    ],
    ids=["a good run", "a failure", "a signal"],
)
def test_workers_have_little_time_to_finish_in_a_bad_run(
    reason: Ended | None, failed: int, limit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ENDING, "reason", reason)
    monkeypatch.setitem(TALLY, "failed", failed)
    worker = MagicMock()
    staff = Staff(MagicMock())
    staff.workers = [worker]
    staff.dismiss()
    assert limit - 1 < worker.wait.call_args_list[0].args[0] <= limit
    worker.kill.assert_called_once()


def test_each_of_the_four_services_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = MagicMock()
    monkeypatch.setattr(system, "Watch", watch)
    with system.watched(MagicMock(all=["SQL", "MongoDB", "Redis", "RabbitMQ"])):
        pass
    watched = [seen.args[0] for seen in watch.call_args_list]
    assert watched == ["SQL", "MongoDB", "Redis", "RabbitMQ"]


def test_a_back_end_is_opened_with_the_options_of_the_run() -> None:
    module = MagicMock()
    for sweep, asked in ((True, ["--offline", "--sweep"]), (False, ["--offline"])):
        options = Namespace(offline=True, require_live=False, sweep=sweep)
        open_back_end(module, options, MagicMock())
        module.lesson.parser().parse_args.assert_called_with(asked)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://", Place("127.0.0.1", 6379)),
        ("redis://localhost/0", Place("localhost", 6379)),
        ("redis:///?host=h&port=7", Place("h", 7)),
    ],
)
def test_chaos_knows_where_redis_is_however_short_its_url(
    url: str, place: Place
) -> None:
    assert redis_place(Namespace(connect=lambda: cache_client(url))) == place


def test_chaos_refuses_the_socket_of_a_redis() -> None:
    back_end = Namespace(connect=lambda: cache_client("unix:///run/redis.sock"))
    with pytest.raises(BadInput, match="its URL names a socket"):
        redis_place(back_end)


def test_what_the_parts_leave_half_set_is_gone_when_the_run_cleans_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit = ContextVar("limit", default=0.0)

    def cut_off(*_: object) -> None:
        limit.set(5.0)
        raise Ended("by SIGINT", 130)

    monkeypatch.setattr(system, "open_back_ends", MagicMock())
    monkeypatch.setattr(system, "watched", nullcontext)
    monkeypatch.setattr(system, "Shop", MagicMock())
    monkeypatch.setattr(system, "first_customers", MagicMock())
    monkeypatch.setattr(system, "run_parts", cut_off)
    args = Namespace(require_live=False, customers=1, workers=1, chaos=False)
    with pytest.raises(Ended):
        system.run_on_back_ends(MagicMock(), args, MagicMock())
    assert limit.get() == 0.0
