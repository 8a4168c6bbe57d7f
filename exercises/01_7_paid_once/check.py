"""Judges pay_once: a ledger whose connections fail where the check wants it."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc

from course.claims import between, less_than, more_than
from course.practice.checking import Refused, Words, expect, expect_error
from course.practice.databases import (
    ask_file,
    expect_no_error,
    file_engine,
    in_words_of_one_line,
    plain_data,
    temporary_path,
)
from course.practice.faults import (
    COMMIT_LOST,
    COMMIT_REFUSED,
    LOST_BEFORE,
    Faults,
    busy,
    faulty_connections,
    lost_connection,
    refused_by_postgres,
)

KEY_READ = r"(?is)\s*SELECT\b.*\bdone\b"
RESULT_WRITTEN = r"(?is)\s*(INSERT|REPLACE)\b.*\bdone\b"
PAYMENT_WRITTEN = r"(?is)\s*INSERT INTO paid\b"
MOST_PAUSES = 50  # of a call that does not end by itself


def open_engine(path: Path, faults: Faults) -> sa.Engine:
    """Return an engine that begins each transaction itself, and waits for no lock."""
    engine = file_engine(
        path,
        connect_args={
            "isolation_level": None,
            "timeout": 0,
            "factory": faulty_connections(faults),
        },
        poolclass=sa.QueuePool,
    )

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


class Work:
    """Pays an amount; raises the errors in turn, one a run, after it has paid."""

    def __init__(self, result: int = 7, *errors: Exception | None) -> None:
        self.result = result
        self.errors = list(errors)
        self.runs = 0

    def __call__(self, connection: sa.Connection) -> int:
        """Write a payment, then fail or return the result."""
        self.runs += 1
        connection.exec_driver_sql("INSERT INTO paid (cents) VALUES (100)")
        error = self.errors.pop(0) if self.errors else None
        if error:
            raise error
        return self.result


class Pauses:
    """Notes how long each pause would be, and which connections are held in it."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.seconds: list[Any] = []
        self.held = 0
        self.meanwhile: Callable[[], object] | None = None

    def __call__(self, seconds: float) -> None:
        """Let something happen instead of waiting; only in the first pause."""
        pool: Any = self.engine.pool
        is_number = isinstance(seconds, (int, float))
        self.seconds.append(round(seconds, 4) if is_number else plain_data(seconds))
        if len(self.seconds) > MOST_PAUSES:
            observed = Words(f"more than {MOST_PAUSES} pauses")
            tried = "a call that fails each time"
            raise Refused(tried, observed, Words("an end after `attempts`"), 2)
        self.held = max(self.held, pool.checkedout())
        if self.meanwhile and len(self.seconds) == 1:
            self.meanwhile()


class Ledger:
    """A database with the table of payments, and the answer that pays."""

    def __init__(self, answer: ModuleType, path: Path) -> None:
        self.answer = answer
        self.path = path
        self.key = "order 17"
        self.faults = Faults()
        self.engine = open_engine(path, self.faults)
        answer.DONE.create(self.engine)
        ask_file(path, "CREATE TABLE paid (cents INTEGER CHECK (cents > 0))")
        self.pauses = Pauses(self.engine)

    def restart(self) -> None:
        """Go on with a new engine, as after a restart."""
        self.engine.dispose()
        self.engine = open_engine(self.path, self.faults)
        self.pauses = Pauses(self.engine)

    def pay(self, work: Callable[..., int], attempts: int = 5) -> Any:
        """Have the answer pay."""
        return self.answer.pay_once(
            self.engine, self.key, work, attempts=attempts, pause=self.pauses
        )

    def outcome_of_paying(self, work: Callable[..., int], attempts: int = 5) -> Any:
        """Return what the answer returns, or the error that it raises."""
        try:
            return self.pay(work, attempts)
        except (Refused, NotImplementedError):
            raise
        except Exception as error:
            return error

    def stored(self) -> list[int]:
        """Return the results that the database has for a key."""
        rows = ask_file(self.path, "SELECT result FROM done WHERE key = ?", self.key)
        return [result for (result,) in rows]

    def payments(self) -> int:
        """Return how often was paid."""
        return int(ask_file(self.path, "SELECT count(*) FROM paid")[0][0])

    def state(self, work: Work) -> dict[str, Any]:
        """Return what a key has led to."""
        return {
            "work ran": work.runs,
            "payments": self.payments(),
            "results stored": self.stored(),
            "pauses": len(self.pauses.seconds),
        }

    def expect_state(self, tried: str, work: Work, hint: int, **expected: Any) -> None:
        """Compare what a key has led to; no connection may have been kept."""
        wanted = {name.replace("_", " "): value for name, value in expected.items()}
        state = self.state(work)
        expect(tried, {name: state[name] for name in wanted}, wanted, hint)
        held = {"connections held in a pause": self.pauses.held}
        expect(tried, held, {"connections held in a pause": 0}, 2)
        pool: Any = self.engine.pool
        kept = {"connections kept": pool.checkedout()}
        expect(f"{tried}, afterwards", kept, {"connections kept": 0}, 2)

    def expect_paid(
        self, tried: str, work: Work, hint: int, runs: Any, pauses: Any = 0
    ) -> None:
        """Pay; expect one payment, and the result of the work, after some runs."""
        result = expect_no_error(tried, partial(self.pay, work), hint)
        expect(f"the result of {tried}", plain_data(result), work.result, hint)
        self.expect_state(
            tried,
            work,
            hint,
            work_ran=runs,
            payments=1,
            results_stored=[work.result],
            pauses=pauses,
        )

    def expect_paid_after_a_fault(
        self, tried: str, work: Work, hint: int, runs: Any
    ) -> None:
        """Pay while a fault is planned; expect a pause if it has happened.

        An answer that claims a key before the work reads none that is new, and stores
        something twice: before the work, and behind it.
        """
        self.expect_paid(tried, work, hint, runs=runs, pauses=between(0, 1))
        happened = not self.faults.planned
        self.faults.planned.clear()
        expect(f"{tried}: pauses", len(self.pauses.seconds), int(happened), hint)


@contextmanager
def ledger(answer: ModuleType) -> Iterator[Ledger]:
    """Open a new database."""
    with temporary_path() as path:
        here = Ledger(answer, path)
        try:
            yield here
        finally:
            here.engine.dispose()


def check_done(answer: ModuleType, rng: random.Random) -> None:
    """Pay a key, again, and again after a restart; results may be 0."""
    for result in (rng.randrange(1, 1000), 0, -5):
        with ledger(answer) as here:
            key = f"order {rng.randrange(1000)}"
            here.key = key
            tried = f"a new key, with a work that returns {result}"
            here.expect_paid(tried, Work(result), 1, runs=1)
            for when in ("sent again", "sent again after a restart"):
                again = Work(result + 1)
                tried = f"a key with the result {result}, {when}"
                paid = expect_no_error(tried, partial(here.pay, again), 1)
                expect(f"the result of {tried}", plain_data(paid), result, 1)
                here.expect_state(tried, again, 1, work_ran=0, payments=1)
                here.restart()
            other = Work(result)
            tried = "another key"
            here.key += "0"
            expect_no_error(tried, partial(here.pay, other), 1)
            here.expect_state(tried, other, 1, work_ran=1, payments=2)
    with ledger(answer) as here:
        here.key = key
        tried = "a key that is done in another database, but not in this one"
        here.expect_paid(tried, Work(3), 1, runs=1)


def check_others(answer: ModuleType, rng: random.Random) -> None:
    """Get in the way in the work, then at each statement, then at the commit."""
    check_codes(answer)
    check_paid_elsewhere(answer)
    check_busy_statements(answer)
    check_lock_held(answer)


def check_codes(answer: ModuleType) -> None:
    """Get in the way in the work, with each code that says so."""
    errors = {
        "SQLITE_BUSY": busy(),
        "SQLITE_BUSY_SNAPSHOT": busy("SQLITE_BUSY_SNAPSHOT"),
        "40001": refused_by_postgres("40001"),
        "40P01": refused_by_postgres("40P01"),
    }
    for code, error in errors.items():
        with ledger(answer) as here:
            wrapped = exc.OperationalError("UPDATE accounts", {}, error)
            tried = f"a work that fails once, with the code {code}"
            work = Work(4, wrapped)
            here.expect_paid(tried, work, 2, runs=2, pauses=1)


def check_paid_elsewhere(answer: ModuleType) -> None:
    """Let somebody else pay the key in the pause."""
    for place in ("the work", "the COMMIT"):
        with ledger(answer) as here:
            work = Work(4)
            if place == "the work":
                work.errors = [exc.OperationalError("UPDATE", {}, busy())]
            else:
                here.faults.plan(COMMIT_REFUSED, busy())
            here.pauses.meanwhile = partial(pay_elsewhere, here)
            tried = f"somebody else pays the key after {place} met SQLITE_BUSY"
            result = expect_no_error(tried, partial(here.pay, work), 2)
            expect(f"the result of {tried}", plain_data(result), 99, 2)
            here.expect_state(
                tried, work, 2, work_ran=1, payments=1, results_stored=[99]
            )


def check_busy_statements(answer: ModuleType) -> None:
    """Get in the way at each statement."""
    places = {
        "the INSERT of the work": (PAYMENT_WRITTEN, 2),
        "storing the result": (RESULT_WRITTEN, between(1, 2)),
        "the COMMIT": (COMMIT_REFUSED, 2),
        "reading the key": (KEY_READ, 1),
    }
    for place, (where, runs) in places.items():
        with ledger(answer) as here:
            here.faults.plan(where, busy())
            tried = f"{place} fails once, with SQLITE_BUSY"
            here.expect_paid_after_a_fault(tried, Work(4), 2, runs=runs)


def check_lock_held(answer: ModuleType) -> None:
    """Hold the lock until the first pause."""
    tried = "somebody else holds the lock when the transaction begins"
    with ledger(answer) as here:
        other = sqlite3.connect(here.path, isolation_level=None, timeout=0)
        other.execute("BEGIN IMMEDIATE")
        here.pauses.meanwhile = other.rollback
        try:
            here.expect_paid(tried, Work(4), 2, runs=1, pauses=1)
        finally:
            other.close()


def check_driver_errors(answer: ModuleType, rng: random.Random) -> None:
    """Let a work that uses the driver's own cursor get in the way of others."""
    for code, error in (
        ("SQLITE_BUSY", busy()),
        ("40001", refused_by_postgres("40001")),
    ):
        with ledger(answer) as here:
            tried = f"a work with the driver's own error once, and its code {code}"
            here.expect_paid(tried, Work(4, error), 2, runs=2, pauses=1)


def pay_elsewhere(here: Ledger) -> None:
    """Pay the key from another program; refuse an answer that keeps a lock."""
    try:
        ask_file(here.path, "INSERT INTO paid (cents) VALUES (100)")
    except sqlite3.OperationalError as error:
        tried = "somebody else writes in a pause"
        raise Refused(tried, in_words_of_one_line(error), Words("a row"), 2) from error
    ask_file(here.path, "INSERT INTO done (key, result) VALUES (?, 99)", here.key)


def check_losses(answer: ModuleType, rng: random.Random) -> None:
    """Lose the connection in the work, before the commit, and behind it."""
    places = {
        "the connection is lost in the work": (PAYMENT_WRITTEN, 2),
        "the connection is lost before the COMMIT": (LOST_BEFORE, 2),
        "the connection is lost when the COMMIT has happened": (COMMIT_LOST, 1),
        "the connection is lost when the key is read": (KEY_READ, 1),
    }
    for tried, (where, runs) in places.items():
        with ledger(answer) as here:
            here.faults.plan(where, lost_connection())
            here.expect_paid_after_a_fault(tried, Work(4), 3, runs=runs)
    tried = "the connection is lost behind the COMMIT, with one attempt"
    with ledger(answer) as here:
        here.faults.plan(COMMIT_LOST, lost_connection())
        work = Work(4)
        expect_error(tried, exc.DBAPIError, partial(here.pay, work, 1), 3)
        here.expect_state(tried, work, 3, work_ran=1, payments=1, pauses=0)
        again = Work(5)
        tried = f"{tried}, then the key again"
        result = expect_no_error(tried, partial(here.pay, again), 3)
        expect(f"the result of {tried}", plain_data(result), 4, 3)
        here.expect_state(tried, again, 3, work_ran=0, payments=1)


def expect_the_very(tried: str, outcome: Any, error: Exception, hint: int) -> None:
    """Expect that the very error of the work came out."""
    if outcome is error:
        return
    name = type(error).__name__
    if not isinstance(outcome, Exception):
        observed = Words(f"no error, but {plain_data(outcome)!r}")
    elif type(outcome) is type(error):
        observed = Words(f"another {name}")
    else:
        observed = in_words_of_one_line(outcome)
    raise Refused(tried, observed, Words(f"the very {name} of the work"), hint)


def check_other_errors(answer: ModuleType, rng: random.Random) -> None:
    """Let the work fail for good, in several ways; then pay the same key."""
    with ledger(answer) as here:
        work = Work(4)

        def pay_nothing(connection: sa.Connection) -> int:
            work(connection)
            connection.exec_driver_sql("INSERT INTO paid (cents) VALUES (0)")
            return 4

        tried = "a work that violates a constraint"
        call = partial(here.pay, pay_nothing)
        expect_error(tried, exc.IntegrityError, call, 1)
        here.expect_state(
            tried, work, 1, work_ran=1, payments=0, results_stored=[], pauses=0
        )
        here.expect_paid(f"{tried}, then the same key", Work(5), 1, runs=1)
    errors: dict[str, Exception] = {
        "ValueError": ValueError("no account"),
        "the code SQLITE_LOCKED": exc.OperationalError(
            "UPDATE", {}, busy("SQLITE_LOCKED")
        ),
        "the code 40002": exc.OperationalError(
            "UPDATE", {}, refused_by_postgres("40002")
        ),
    }
    for name, error in errors.items():
        with ledger(answer) as here:
            work = Work(4, error)
            tried = f"a work that fails with {name}"
            outcome = here.outcome_of_paying(work)
            expect_the_very(tried, outcome, error, 1)
            nothing = {"work_ran": 1, "payments": 0, "results_stored": []}
            here.expect_state(tried, work, 1, pauses=0, **nothing)
            tried = f"{tried}, then the same key"
            here.expect_paid(tried, Work(5), 1, runs=1)


def check_end(answer: ModuleType, rng: random.Random) -> None:
    """Let every attempt fail, and all but the last."""
    for attempts in (3, 1, 6):
        errors = [exc.OperationalError("UPDATE", {}, busy()) for _ in range(20)]
        with ledger(answer) as here:
            work = Work(4, *errors)
            tried = f"a work that is always busy, attempts={attempts}"
            outcome = here.outcome_of_paying(work, attempts)
            nothing = {"payments": 0, "results_stored": []}
            pauses = attempts - 1
            here.expect_state(
                tried, work, 2, work_ran=attempts, pauses=pauses, **nothing
            )
            expect_the_very(tried, outcome, errors[attempts - 1], 2)
        with ledger(answer) as here:
            work = Work(4, *errors[: attempts - 1])
            tried = f"a work that succeeds in the last attempt, attempts={attempts}"
            result = expect_no_error(tried, partial(here.pay, work, attempts), 2)
            expect(f"the result of {tried}", plain_data(result), 4, 2)
            here.expect_state(tried, work, 2, work_ran=attempts, payments=1)


def check_no_begin(answer: ModuleType, rng: random.Random) -> None:
    """Let no transaction begin: by a lock, then by nonsense."""
    tried = "somebody else holds the lock all the time, attempts=3"
    with ledger(answer) as here:
        other = sqlite3.connect(here.path, isolation_level=None, timeout=0)
        other.execute("BEGIN IMMEDIATE")
        work = Work(4)
        try:
            outcome = here.outcome_of_paying(work, 3)
        finally:
            other.close()
        here.expect_state(tried, work, 2, work_ran=0, payments=0, pauses=2)
        expect(tried, type(outcome).__name__, "OperationalError", 2)
    for attempts in (0, -1):
        with ledger(answer) as here:
            work = Work(4)
            tried = f"attempts={attempts}"
            call = partial(here.pay, work, attempts)
            expect_error(tried, ValueError, call, 2)
            here.expect_state(tried, work, 2, work_ran=0, payments=0)


def check_pauses(answer: ModuleType, rng: random.Random) -> None:
    """Compare the shortest and the longest pauses of many calls with their bounds."""
    attempts = 9
    calls = 24
    with ledger(answer) as here:
        drawn: list[list[Any]] = []
        for _ in range(calls):
            errors = [exc.OperationalError("UPDATE", {}, busy()) for _ in range(9)]
            work = Work(4, *errors)
            here.outcome_of_paying(work, attempts)
            tried = f"a work that is always busy, attempts={attempts}"
            expect(tried, {"pauses": len(here.pauses.seconds)}, {"pauses": 8}, 2)
            drawn.append(here.pauses.seconds)
            here.pauses.seconds = []
        for n in range(1, attempts):
            limit = min(1, 0.01 * 2**n)
            pauses = [seconds[n - 1] for seconds in drawn]
            tried = f"the pauses after attempt {n}, in {calls} calls"
            for seconds in pauses:
                expect(tried, seconds, between(0, limit), 2)
            # Each call draws on its own: all in one half are a chance of 2**-24.
            ends = {"shortest": min(pauses), "longest": max(pauses)}
            wanted = {"shortest": less_than(limit / 2), "longest": more_than(limit / 2)}
            expect(tried, ends, wanted, 2)
    with ledger(answer) as here:
        work = Work(4, exc.OperationalError("UPDATE", {}, busy()))
        tried = "a work that is busy once, with the pause that is the default"
        call = partial(answer.pay_once, here.engine, here.key, work)
        expect(tried, plain_data(expect_no_error(tried, call, 2)), 4, 2)


def check(answer: ModuleType, rng: random.Random) -> None:
    """Pay and pay again; then fail for good, for a while, and after the commit."""
    random.seed(rng.random())  # the pauses of most answers come from there
    check_done(answer, rng)
    check_other_errors(answer, rng)
    check_others(answer, rng)
    check_driver_errors(answer, rng)
    check_end(answer, rng)
    check_no_begin(answer, rng)
    check_losses(answer, rng)
    check_pauses(answer, rng)
