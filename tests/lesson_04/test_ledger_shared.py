"""Lesson 04: inbox and outbox on SQLite and PostgreSQL, shared by several."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from lesson_04.amqp_helpers import open_stand_in
from lessons import load, path_of

from course.amqp.errors import BadAddress, EndedInside, PublishFailed
from course.amqp.storing import Outgoing
from course.amqp.trials import consumer_with, emptied, running
from course.lab import in_background

lesson = load("04")
Fresh = Callable[[], Any]  # returns one more Ledger on the same database


@pytest.fixture(scope="module")
def env() -> Iterator[Any]:
    with open_stand_in() as found:
        yield found


@pytest.fixture(params=["sqlite", "postgresql"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fresh]:
    """Yield what opens a database once more, as another process would."""
    where = str(tmp_path / "ledger")
    schema = f"module8_{uuid.uuid4().hex[:8]}"
    if request.param == "postgresql":
        url = sa.make_url(request.getfixturevalue("postgres_url"))
        url = url.set(drivername="postgresql+psycopg")
        admin = sa.create_engine(url)
        with admin.begin() as db:
            db.execute(sa.text(f"CREATE SCHEMA {schema}"))
        within = url.update_query_dict({"options": f"-csearch_path={schema}"})
        where = within.render_as_string(hide_password=False)
    opened = []

    def open_one() -> Any:
        opened.append(lesson.Ledger(where))
        return opened[-1]

    try:
        yield open_one
    finally:
        for one in opened:
            one.close()
        if request.param == "postgresql":
            with admin.begin() as db:
                db.execute(sa.text(f"DROP SCHEMA {schema} CASCADE"))
            admin.dispose()


def add_account(name: str) -> Callable[[sa.Connection], None]:
    def write(db: sa.Connection) -> None:
        db.execute(sa.text("INSERT INTO account VALUES (:name)"), {"name": name})

    return write


def make_accounts(ledger: Any) -> None:
    with ledger.transaction() as db:
        db.execute(sa.text("CREATE TABLE account (name TEXT PRIMARY KEY)"))


def accounts(ledger: Any) -> list[str]:
    return [name for (name,) in ledger.read("SELECT name FROM account ORDER BY name")]


def test_rows_of_ones_own_commit_with_the_mark_or_not_at_all(fresh: Fresh) -> None:
    ledger, message = fresh(), lesson.user(1)
    make_accounts(ledger)
    assert ledger.once("q", message, add_account("ann"))
    assert not ledger.once("q", message, add_account("bob"))
    with pytest.raises(sa.exc.IntegrityError):
        ledger.once("q", other := lesson.user(2), add_account("ann"))
    assert not ledger.is_done("q", other)
    assert ledger.once("q", other, add_account("cid"))
    assert accounts(ledger) == ["ann", "cid"]


def roll_back(db: sa.Connection) -> None:
    db.rollback()


def roll_back_by_a_statement(db: sa.Connection) -> None:
    db.execute(sa.text("ROLLBACK"))


def close(db: sa.Connection) -> None:
    db.close()


def lose_the_connection(db: sa.Connection) -> None:
    db.invalidate()


def hide_an_error(db: sa.Connection) -> None:
    """Go on; on PostgreSQL the transaction is lost, and a commit says nothing."""
    with suppress(sa.exc.SQLAlchemyError):
        db.execute(sa.text("INSERT INTO nowhere VALUES (1)"))
    if db.dialect.name == "sqlite":  # where it is not lost
        db.rollback()


async def never_run(db: sa.Connection) -> None:
    add_account("never")(db)


def also_never_run(db: sa.Connection) -> Iterator[None]:
    yield add_account("never")(db)


@pytest.mark.parametrize(
    "ends_it",
    [
        roll_back,
        roll_back_by_a_statement,
        close,
        lose_the_connection,
        hide_an_error,
        never_run,
        also_never_run,
    ],
)
def test_an_effect_that_was_not_written_is_never_called_done(
    fresh: Fresh, ends_it: Callable[[sa.Connection], object]
) -> None:
    ledger, message = fresh(), lesson.user(1)
    make_accounts(ledger)

    def effect(db: sa.Connection) -> object:
        add_account("ann")(db)
        return ends_it(db)

    for _ in range(2):
        with pytest.raises((EndedInside, TypeError)):
            ledger.once("q", message, effect)
        assert not ledger.is_done("q", message)
        assert accounts(ledger) == []
    assert ledger.once("q", message, add_account("ann"))  # it goes on
    assert accounts(ledger) == ["ann"]


def test_an_effect_that_commits_itself_is_an_error_and_happens_once(
    fresh: Fresh,
) -> None:
    ledger, message = fresh(), lesson.user(1)
    make_accounts(ledger)

    def effect(db: sa.Connection) -> None:
        add_account("ann")(db)
        db.commit()

    with pytest.raises(EndedInside, match="nothing may commit"):
        ledger.once("q", message, effect)
    assert not ledger.once("q", message, effect)
    assert accounts(ledger) == ["ann"]


def test_an_effect_that_commits_half_of_itself_is_not_called_done(
    fresh: Fresh,
) -> None:
    ledger, message = fresh(), lesson.user(1)
    make_accounts(ledger)

    def effect(db: sa.Connection) -> None:
        db.commit()
        add_account("ann")(db)

    for _ in range(2):
        with pytest.raises(sa.exc.SQLAlchemyError):
            ledger.once("q", message, effect)
        assert not ledger.is_done("q", message)
    assert ledger.once("q", message, add_account("ann"))
    assert accounts(ledger) == ["ann"]


def test_a_question_that_fails_leaves_the_ledger_as_it_was(fresh: Fresh) -> None:
    ledger = fresh()
    with pytest.raises(sa.exc.SQLAlchemyError):
        ledger.read("SELECT nothing FROM nowhere")
    assert ledger.once("q", lesson.user(1), "done")


def test_a_consumer_writes_rows_of_ones_own_once(fresh: Fresh, env: Any) -> None:
    """Two workers, each with connections of its own to one database."""
    first, second = fresh(), fresh()
    make_accounts(first)
    queue = env.declare_queue(f"rows.{uuid.uuid4().hex[:6]}")

    def work(message: Any) -> Any:
        return add_account(message.id)

    with lesson.Producer(env.rabbit) as producer:
        messages = lesson.users(60)
        lesson.publish_all(producer, queue, messages * 3)
        made = [
            consumer_with(lesson.Consumer, work, env.rabbit, queue, producer, ledger)
            for ledger in (first, second)
        ]
        with running(made[0]), running(made[1]):
            env.until(lambda: sum(one.counts["acked"] for one in made) >= 180, 60)
    assert Counter(accounts(second)) == Counter(one.id for one in messages)
    assert not emptied(env.rabbit, queue + ".dead")
    assert sum(one.counts["processed"] for one in made) == 60


def test_an_effect_that_is_a_function_is_not_forgotten_without_a_ledger(
    env: Any,
) -> None:
    queue = env.declare_queue("no.ledger")
    message = lesson.Message(max_retries=0)
    with lesson.Producer(env.rabbit) as producer:
        lesson.publish_all(producer, queue, [message])
        kind, work = lesson.Consumer, lambda _: add_account("x")
        with running(consumer_with(kind, work, env.rabbit, queue, producer)):
            env.until(lambda: env.rabbit.ready(queue + ".dead") == 1)
    ((about, _),) = emptied(env.rabbit, queue + ".dead")
    assert "needs a ledger" in about.headers["x-error"]


def test_a_crash_leaves_neither_a_row_nor_a_message(fresh: Fresh, env: Any) -> None:
    ledger = fresh()
    make_accounts(ledger)
    with lesson.Producer(env.rabbit) as producer:
        pipeline = lesson.UserDataPipeline(producer, ledger)
        pipeline.store(add_account("ann"), lesson.user(1))
        with pytest.raises(sa.exc.IntegrityError):
            pipeline.store(add_account("ann"), lesson.user(2))
        assert accounts(ledger) == ["ann"]
        assert pipeline.relay() == 1
    assert len(emptied(env.rabbit, env.rabbit.name("user_data"))) == 1


def test_two_relays_share_an_outbox(fresh: Fresh, env: Any) -> None:
    """Each row is published once, though both are at it at the same time."""
    one, two = fresh(), fresh()
    with lesson.Producer(env.rabbit) as producer:
        pipelines = [lesson.UserDataPipeline(producer, ledger) for ledger in (one, two)]
        messages = lesson.users(300)
        for message in messages:
            pipelines[0].store("signup", message)
        start = threading.Barrier(2)

        def relay(pipeline: Any) -> int:
            start.wait(10)
            return sum(pipeline.relay(limit=10) for _ in range(30))

        shares = [in_background(partial(relay, pipeline)) for pipeline in pipelines]
        done = [share.result(60) for share in shares]
        assert one.read("SELECT count(*) FROM outbox") == [(0,)]
    found = emptied(env.rabbit, env.rabbit.name("user_data"))
    ids = Counter(about.message_id for about, _ in found)
    assert set(ids) == {message.id for message in messages}
    assert sum(done) == len(found) == 300


def test_a_relay_that_waits_keeps_no_other_from_the_rest(
    fresh: Fresh, env: Any
) -> None:
    one, two = fresh(), fresh()
    with lesson.Producer(env.rabbit) as producer:
        pipeline = lesson.UserDataPipeline(producer, two)
        for message in lesson.users(20):
            pipeline.store("signup", message)
        with one.outbox(5) as held:
            assert [row.number for row in held] == [1, 2, 3, 4, 5]
            pipeline.store("signup", lesson.user(20))  # nobody has to wait to write
            # A file of SQLite has no locks of rows: there, all the rest is left.
            now = pipeline.relay()
        then = pipeline.relay()
    assert (now, then) == ((0, 21) if one.is_sqlite else (16, 5))
    assert len(emptied(env.rabbit, env.rabbit.name("user_data"))) == 21


def test_a_key_and_a_priority_go_through_the_outbox(fresh: Fresh, env: Any) -> None:
    with lesson.Producer(env.rabbit) as producer:
        pipeline = lesson.UserDataPipeline(producer, fresh())
        what = {"recipient": "+380", "subject": "hi", "content": "text"}
        sms = lesson.notification("sms.urgent", **what)
        traced = Outgoing(lesson.user(1), about={"headers": {"traceparent": "00-1"}})
        pipeline.store("both", sms, traced)
        pipeline.relay()
    with env.rabbit.channel() as channel:
        queue = env.rabbit.name("notifications")
        method, about, _ = channel.basic_get(queue, auto_ack=True)
    assert method.routing_key == "notification.sms.urgent"
    assert (about.priority, about.correlation_id) == (lesson.URGENT, sms.message.id)
    ((about, _),) = emptied(env.rabbit, env.rabbit.name("user_data"))
    assert about.headers["traceparent"] == "00-1"


LARGE = json.dumps({"headers": {"a": "x" * 200_000}})


@pytest.mark.parametrize(
    ("body", "about", "why"),
    [
        ("{", "{}", "body is not JSON"),
        ('{"version": 0}', "{}", "version is not 1"),
        (None, "{}", "body is not JSON"),
        ('{"version": 1, "type": "of another release"}', "{}", "type is unknown"),
        (lesson.user(1).to_json(), "[", "properties are not JSON"),
        (lesson.user(1).to_json(), '{"colour": "red"}', "colour"),
        (lesson.user(1).to_json(), '{"priority": NaN}', "properties are not JSON"),
        (lesson.user(1).to_json(), '{"priority": 300}', "ubyte"),
        (lesson.user(1).to_json(), '{"headers": {"half": 0.5}}', "Unsupported"),
        (lesson.user(1).to_json(), LARGE, "larger than"),
        (lesson.user(1).to_json(), '{"expiration": "soon"}', "invalid expiration"),
        (lesson.user(1).to_json(), '{"user_id": "mallory"}', "user_id property"),
    ],
    ids=[
        "no JSON",
        "version",
        "null",
        "type",
        "properties",
        "unknown property",
        "no number",
        "not to be encoded",
        "no type of AMQP",
        "no frame is as large",
        "refused by the broker",
        "somebody else's",
    ],
)
def test_an_unreadable_row_is_set_aside_with_its_reason(
    fresh: Fresh, env: Any, body: str | None, about: str, why: str
) -> None:
    ledger = fresh()
    with lesson.Producer(env.rabbit) as producer:
        pipeline = lesson.UserDataPipeline(producer, ledger)
        pipeline.store("before", lesson.user(1))
        with ledger.transaction() as db:
            row = "INSERT INTO outbox (body, about) VALUES (:body, :about)"
            db.execute(sa.text(row), {"body": body, "about": about})
        pipeline.store("after", lesson.user(2))
        assert [pipeline.relay() for _ in range(3)] == [2, 0, 0]
        ((number, _, reason),) = ledger.set_aside()
        assert why in reason
        ledger.publish_again(number)
        assert ledger.set_aside() == []
        assert pipeline.relay() == 0
        assert len(ledger.set_aside()) == 1
    arrived = emptied(env.rabbit, env.rabbit.name("user_data"))
    # A refusal ends the channel, and what was not confirmed by then is sent again.
    assert len({about.message_id for about, _ in arrived}) == 2


def test_a_thousand_rows_that_nobody_takes_keep_no_other_back(
    fresh: Fresh, env: Any
) -> None:
    ledger = fresh()
    with lesson.Producer(env.rabbit) as producer:
        pipeline = lesson.UserDataPipeline(producer, ledger)
        fax = Outgoing(lesson.user(0), key="nobody")
        pipeline.store("lost", *[fax] * 10)
        pipeline.store("good", lesson.user(1))
        with pytest.raises(PublishFailed, match="no queue"):
            pipeline.relay(limit=10)
        with pytest.raises(PublishFailed, match="no queue"):
            pipeline.relay(limit=10)  # the good one first, which is confirmed
        assert ledger.read("SELECT count(*) FROM outbox") == [(10,)]
    assert len(emptied(env.rabbit, env.rabbit.name("user_data"))) == 1


OLD = """
    CREATE TABLE inbox (queue, id, PRIMARY KEY (queue, id));
    CREATE TABLE outbox (number INTEGER PRIMARY KEY, body, cause);
    CREATE TABLE effects (queue, id, what);
    INSERT INTO inbox VALUES ('q', 'old');
    INSERT INTO effects VALUES ('q', 'old', 'first');
    INSERT INTO outbox VALUES (NULL, '{', 'cause');
"""


def test_a_file_of_the_last_release_goes_on(tmp_path: Path, env: Any) -> None:
    path = tmp_path / "old"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(OLD)
        row = (lesson.user(1).to_json(), "cause")
        db.execute("INSERT INTO outbox VALUES (NULL, ?, ?)", row)
        db.commit()
    for _ in range(2):
        lesson.Ledger(str(path)).close()
    with lesson.Producer(env.rabbit) as producer, lesson.Ledger(str(path)) as ledger:
        assert not ledger.once("q", lesson.Message(id="old"), "again")
        assert ledger.once("q", lesson.Message(id="new"), "second")
        assert ledger.effects("q") == ["first", "second"]
        pipeline = lesson.UserDataPipeline(producer, ledger)
        pipeline.store("signup", lesson.user(2))
        assert pipeline.relay() == 2
        assert [reason for *_, reason in ledger.set_aside()] == ["body is not JSON"]
    assert len(emptied(env.rabbit, env.rabbit.name("user_data"))) == 2


def test_many_open_a_new_database_at_the_same_time(fresh: Fresh) -> None:
    """Each makes the tables; none is told that somebody else is at it."""
    for _ in range(3):
        start = threading.Barrier(8)

        def open_one(start: threading.Barrier = start) -> Any:
            start.wait(10)
            return fresh()

        opened = [in_background(open_one) for _ in range(8)]
        assert all(
            one.result(30).is_done("q", lesson.user(1)) is False for one in opened
        )


def test_processes_open_a_new_file_at_the_same_time(tmp_path: Path) -> None:
    root = path_of("04").parent
    code = "import sys, lessons; lessons.load('04').Ledger(sys.argv[1]).close()"
    for n in range(3):
        argv = [sys.executable, "-c", code, str(tmp_path / f"new{n}")]
        env = {"PYTHONPATH": "tests", "PATH": ""}
        crew = []
        for _ in range(4):
            crew.append(
                subprocess.Popen(argv, cwd=root, env=env, stderr=subprocess.PIPE)
            )
        assert [one.communicate(timeout=60)[1] for one in crew] == [b""] * 4


def test_a_transaction_within_a_transaction_is_refused_and_does_not_hang(
    fresh: Fresh,
) -> None:
    ledger = fresh()

    def read_within(_: sa.Connection) -> None:
        ledger.effects("q")

    ended = in_background(lambda: ledger.once("q", lesson.user(1), read_within))
    with pytest.raises(RuntimeError, match="use the connection"):
        ended.result(10)
    assert ledger.once("q", lesson.user(1), "later")


@pytest.mark.parametrize("where", ["mysql://user:s3cret@host/x", "nonsense://"])
def test_another_database_is_refused_without_its_password(where: str) -> None:
    with pytest.raises(BadAddress) as refused:
        lesson.Ledger(where)
    assert "s3cret" not in str(refused.value)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_ledger_survives_a_fork(fresh: Fresh) -> None:
    ledger = fresh()
    assert ledger.once("q", lesson.Message(id="parent"), "before")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if ledger.once("q", lesson.Message(id="child"), "in it") else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert ledger.once("q", lesson.Message(id="parent-again"), "after")
    assert ledger.effects("q") == ["before", "in it", "after"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_that_relays_leaves_its_parents_connections_alone(fresh: Fresh) -> None:
    ledger = fresh()
    used: list[object] = []

    def note(connection: object, *_: object) -> None:
        used.append(connection)

    sa.event.listen(ledger.engine, "checkout", note)
    with ledger.transaction() as db:
        ledger.put_in_outbox(db, [lesson.user(1)])
    with ledger.outbox(10) as rows:
        assert len(rows) == 1
    ours = used[:]
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with ledger.outbox(10) as rows:
                shared = [one for one in used[len(ours) :] if one in ours]
                code = 0 if len(rows) == 1 and not shared else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert ledger.once("q", lesson.Message(id="after"), "after")


def test_a_ledger_takes_a_path(tmp_path: Path) -> None:
    path = tmp_path / "ledger?a=b#c%20.db"
    with lesson.Ledger(path) as ledger:
        assert ledger.once("q", lesson.Message(id="a"), "done")
    with lesson.Ledger(str(path)) as again:
        assert again.effects("q") == ["done"]
