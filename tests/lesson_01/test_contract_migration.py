"""Lesson 01's migration on SQLite and on PostgreSQL, while others read and write."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from lessons import load
from services import wait_for

from course.sql.backends import BACKEND_PID
from course.sql.changes import drift, offline_sql

lesson = load("01")
Both = tuple[Any, Any]


def test_the_reviewed_script_makes_the_model(both: Both) -> None:
    """What the offline SQL says is what the migration does."""
    postgres = both[1].engine
    lesson.BEFORE.create(postgres)
    try:
        for step in (lesson.expand, *lesson.CONTRACT):
            with postgres.begin() as connection:
                for statement in offline_sql(step):
                    connection.exec_driver_sql(statement)
        assert drift(postgres, lesson.AFTER) == 0
        assert drift(postgres, lesson.BEFORE) > 0
    finally:
        lesson.AFTER.drop(postgres)


def test_a_backfill_goes_on_where_it_was_stopped(both: Both) -> None:
    for env in both:
        lesson.BEFORE.create(env.engine)
        try:
            with env.engine.begin() as connection:
                rows = [{"full_name": f"A B C{i}"} for i in range(25)]
                connection.execute(lesson.BEFORE.insert(), rows)
            lesson.migrate(env.engine, lesson.expand)
            stop = threading.Event()

            def note(*_: Any, stop: threading.Event = stop) -> None:
                if stop.is_set():
                    raise KeyboardInterrupt
                stop.set()

            sa.event.listen(env.engine, "commit", note)
            with pytest.raises(KeyboardInterrupt):
                lesson.backfill(env.engine, size=10)
            sa.event.remove(env.engine, "commit", note)
            assert lesson.backfill(env.engine, size=10) == 2
            assert lesson.backfill(env.engine, size=10) == 0
            with env.engine.connect() as connection:
                names = connection.scalars(sa.text("SELECT display_name FROM members"))
                assert sorted(names) == sorted(f"A B C{i}" for i in range(25))
        finally:
            lesson.BEFORE.drop(env.engine)


def waited_for(engine: Any, pid: int) -> bool:
    """Tell whether some back end waits for a lock of this one."""
    waiting = (
        "SELECT pid FROM pg_stat_activity WHERE :pid = ANY (pg_blocking_pids(pid))"
    )
    with engine.connect() as connection:
        return bool(connection.scalars(sa.text(waiting), {"pid": pid}).all())


@contextmanager
def expanded(engine: Any) -> Iterator[None]:
    """Have three members with a new column that is not filled yet."""
    lesson.BEFORE.create(engine)
    try:
        with engine.begin() as connection:
            rows = [{"full_name": f"name {i}"} for i in range(3)]
            connection.execute(lesson.BEFORE.insert(), rows)
        lesson.migrate(engine, lesson.expand)
        yield
    finally:
        lesson.BEFORE.drop(engine)


def test_a_backfill_keeps_what_is_edited_meanwhile(both: Both) -> None:
    engine = both[1].engine
    edit = "UPDATE members SET display_name = 'edited' WHERE id = 1"
    with expanded(engine):
        with ThreadPoolExecutor(1) as threads:
            with engine.begin() as connection:
                connection.exec_driver_sql(edit)
                filling = threads.submit(lesson.backfill, engine, size=1)
                wait_for(partial(waited_for, engine, connection.scalar(BACKEND_PID)))
            filling.result(lesson.LIMIT)
        with engine.connect() as connection:
            in_order = "SELECT display_name FROM members ORDER BY id"
            filled = connection.scalars(sa.text(in_order)).all()
    assert filled == ["edited", "name 1", "name 2"]


@pytest.mark.parametrize("on_delete", ["", " ON DELETE CASCADE"], ids=repr)
def test_a_migration_takes_no_child_along(both: Both, on_delete: str) -> None:
    key = f"member_id INTEGER NOT NULL REFERENCES members (id){on_delete}"
    for env in both:
        lesson.BEFORE.create(env.engine)
        try:
            with env.engine.begin() as connection:
                rows = [{"full_name": f"name {i}"} for i in range(5)]
                connection.execute(lesson.BEFORE.insert(), rows)
                connection.exec_driver_sql(f"CREATE TABLE orders ({key})")
                connection.exec_driver_sql("INSERT INTO orders SELECT id FROM members")
            lesson.migrate(env.engine, lesson.expand)
            lesson.backfill(env.engine)
            lesson.contract(env.engine)
            lesson.migrate(env.engine, lesson.downgrade)
            with env.engine.begin() as connection:
                orders = connection.exec_driver_sql("SELECT count(*) FROM orders")
                assert orders.scalar() == 5
            with pytest.raises(sa.exc.IntegrityError), env.engine.begin() as connection:
                connection.exec_driver_sql("INSERT INTO orders VALUES (999)")
        finally:
            with env.engine.begin() as connection:
                connection.exec_driver_sql("DROP TABLE orders")
                connection.exec_driver_sql("DROP TABLE members")


def test_a_step_that_orphans_rows_is_undone_on_both(both: Both) -> None:
    def orphan(op: Any) -> None:
        op.execute("DELETE FROM cities WHERE id = 1")

    for env in both:
        with pytest.raises((ValueError, sa.exc.IntegrityError)):
            lesson.migrate(env.engine, orphan)
        with env.sessions() as session:
            assert session.get(lesson.City, 1)
            if not env.live:
                assert session.scalar(sa.text("PRAGMA foreign_keys")) == 1


def test_nobody_waits_while_contract_reads_the_table(both: Both) -> None:
    """Its one look at all rows stops no writer, and SET NOT NULL needs no second."""
    env = both[1]
    engine, notices, written = env.connect(), list[str](), list[int]()

    def write(_c: Any, _u: Any, statement: str, *_: Any) -> None:
        if "VALIDATE" in statement:
            with env.connect().begin() as other:
                other.exec_driver_sql("SET LOCAL lock_timeout = '1s'")
                edit = "UPDATE members SET display_name = 'edited' WHERE id = 1"
                written.append(other.exec_driver_sql(edit).rowcount)

    def listen(connection: Any, _: Any) -> None:
        connection.add_notice_handler(lambda note: notices.append(note.message_primary))
        connection.execute("SET client_min_messages = debug1")
        connection.commit()

    sa.event.listen(engine, "after_cursor_execute", write)
    sa.event.listen(engine, "connect", listen)
    with expanded(env.engine):
        lesson.backfill(env.engine)
        lesson.contract(engine)
        assert written == [1]
        assert any("sufficient to prove" in notice for notice in notices)
        assert drift(engine, lesson.AFTER) == 0
        with engine.connect() as connection:
            checks = "SELECT count(*) FROM pg_constraint WHERE conname = :name"
            left = connection.scalar(sa.text(checks), {"name": lesson.FULL})
        assert left == 0


def test_nobody_waits_long_behind_a_migration_that_waits(both: Both) -> None:
    engine = both[1].engine
    with expanded(engine), ThreadPoolExecutor(1) as threads:
        lesson.backfill(engine)
        with engine.begin() as connection:
            connection.exec_driver_sql("SELECT 1 FROM members").all()
            pid = connection.scalar(BACKEND_PID)
            waiting = threads.submit(
                lesson.migrate, both[1].connect(), lesson.CONTRACT[0]
            )
            for _ in range(2):
                wait_for(partial(waited_for, engine, pid))
                with engine.begin() as other:
                    other.exec_driver_sql("SET LOCAL statement_timeout = '3s'")
                    assert (
                        len(other.exec_driver_sql("SELECT id FROM members").all()) == 3
                    )
        waiting.result(lesson.LIMIT)
