"""Judges UnitOfWork: sign-ups and mails in a pool that holds one connection."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc

from course.practice.checking import Refused, Words, expect, expect_error
from course.practice.databases import (
    ask_file,
    expect_no_error,
    file_engine,
    in_words_of_one_line,
    plain_data,
    temporary_path,
)

POOL_TIMEOUT = 0.2  # seconds; nobody else takes the connection, so a wait is a fault
NOBODY = 10**6  # the id of nobody: a row that refers to it fails at the commit

Action = Callable[[], object]
Names = Sequence[str]

METADATA = sa.MetaData()
PEOPLE = sa.Table(
    "people",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String, nullable=False, unique=True),
    sa.Column(
        "invited_by",
        # Checked at the commit only.
        sa.ForeignKey("people.id", deferrable=True, initially="DEFERRED"),
    ),
)


class BlockError(Exception):
    """Raised in a block or a part."""


class MailError(Exception):
    """Raised by an action."""


class Service:
    """A database with a pool of one connection, and what was mailed."""

    def __init__(self, answer: ModuleType, engine: sa.Engine) -> None:
        self.answer = answer
        self.engine = engine
        self.path = engine.url.database or ""
        self.sent: list[str] = []
        METADATA.create_all(engine)

    def people(self) -> list[str]:
        """Return who is signed up, as another program sees it."""
        rows = ask_file(self.path, "SELECT name FROM people ORDER BY id")  # type: ignore[arg-type]
        return [name for (name,) in rows]

    def mail(self, name: str) -> Action:
        """Return an action that notes a mail."""
        return lambda: self.sent.append(name)

    def failing(self, error: Exception) -> Action:
        """Return an action that notes a mail, and fails."""

        def send() -> None:
            self.sent.append(f"failed {error}")
            raise error

        return send

    def state(self) -> dict[str, list[str]]:
        """Return rows and mails."""
        return {"rows": self.people(), "actions run": list(self.sent)}

    def expect(self, tried: str, rows: Names, sent: Names, hint: int) -> None:
        """Compare rows and mails; all connections have to be free."""
        expected = {"rows": list(rows), "actions run": list(sent)}
        expect(tried, self.state(), expected, hint)

    def expect_free(self, tried: str) -> None:
        """Refuse an answer that keeps the connection."""
        pool: Any = self.engine.pool
        held = {"connections kept": pool.checkedout()}
        expect(f"{tried}, after the block", held, {"connections kept": 0}, 2)

    @contextmanager
    def unit(self, tried: str, hint: int) -> Iterator[Any]:
        """Open a unit; an error of the database that leaves it is refused."""
        try:
            with self.answer.UnitOfWork(self.engine) as unit:
                if not isinstance(unit, self.answer.UnitOfWork):
                    given = "what `with UnitOfWork(engine) as unit` gives"
                    raise Refused(given, plain_data(unit), Words("a UnitOfWork"), 1)
                yield unit
        except (exc.SQLAlchemyError, ExceptionGroup) as error:
            observed = in_words_of_one_line(error)
            raise Refused(tried, observed, Words("no error"), hint) from error
        self.expect_free(tried)


@contextmanager
def service(answer: ModuleType) -> Iterator[Service]:
    """Open a new database whose engine begins each transaction itself."""
    with temporary_path() as path:
        engine = file_engine(
            path,
            connect_args={"isolation_level": None, "timeout": 0},
            pool_size=1,
            max_overflow=0,
            pool_timeout=POOL_TIMEOUT,
        )

        @event.listens_for(engine, "connect")
        def set_up(connection: Any, _: object) -> None:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA journal_mode = WAL")

        @event.listens_for(engine, "begin")
        def begin(connection: sa.Connection) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

        try:
            yield Service(answer, engine)
        finally:
            engine.dispose()


def sign_up(unit: Any, name: str, invited_by: int | None = None) -> None:
    """Write a row in a unit's session."""
    person = {"name": name, "invited_by": invited_by}
    unit.session.execute(sa.insert(PEOPLE), person)


def is_raised(
    tried: str, error: Exception, block: Callable[[], None], hint: int
) -> None:
    """Expect that a block's own error comes out of it, the very same."""
    raised = expect_error(tried, type(error), block, hint)
    if raised is not error:
        observed = Words(f"another {type(error).__name__}")
        raise Refused(tried, observed, Words("the very error of the block"), hint)


def check_plain(answer: ModuleType, rng: random.Random) -> None:
    """Commit once, with three actions."""
    names = rng.sample(["Ada", "Bob", "Cleo", "Dan", "Eve"], 3)
    tried = "a sign-up with three actions"
    with service(answer) as here:
        with here.unit(tried, 1) as unit:
            sign_up(unit, names[0])
            for name in names:
                unit.later(here.mail(name))
            here.expect(f"{tried}, before commit()", [], [], 1)
            unit.commit()
            here.expect(f"{tried}, after commit()", names[:1], names, 1)
        here.expect(f"{tried}, after the block", names[:1], names, 1)
    seen: list[list[str]] = []
    tried = "an action that looks at the rows from another program"
    with service(answer) as here:
        with here.unit(tried, 1) as unit:
            sign_up(unit, names[0])
            unit.later(lambda: seen.append(here.people()))
            unit.commit()
        expect(tried, seen, [names[:1]], 1)


def check_no_commit(answer: ModuleType, rng: random.Random) -> None:
    """Leave a block without a commit."""
    name = rng.choice(["Ada", "Bob", "Cleo"])
    tried = "a block without commit()"
    with service(answer) as here:
        with here.unit(tried, 1) as unit:
            sign_up(unit, name)
            unit.later(here.mail(name))
        here.expect(tried, [], [], 1)
        with here.unit(tried, 1) as unit:
            unit.commit()
        here.expect("the commit of the next unit", [], [], 1)


def check_error(answer: ModuleType, rng: random.Random) -> None:
    """Leave blocks with an error, before a commit and behind one."""
    name, other = rng.sample(["Ada", "Bob", "Cleo"], 2)
    tried = "a block that raises an error"
    error = BlockError("of the block")
    with service(answer) as here:

        def fail() -> None:
            with here.unit(tried, 1) as unit:
                sign_up(unit, name)
                unit.later(here.mail(name))
                raise error

        is_raised(tried, error, fail, 1)
        here.expect_free(tried)
        here.expect(tried, [], [], 1)
    tried = "a block that raises an error after its commit, with a second sign-up"
    with service(answer) as here:

        def fail_later() -> None:
            with here.unit(tried, 1) as unit:
                sign_up(unit, name)
                unit.later(here.mail(name))
                unit.commit()
                sign_up(unit, other)
                unit.later(here.mail(other))
                raise error

        is_raised(tried, error, fail_later, 1)
        here.expect_free(tried)
        here.expect(tried, [name], [name], 1)


def check_several_commits(answer: ModuleType, rng: random.Random) -> None:
    """Commit several times in a block, and in two units."""
    tried = "three commits, each after an action, then one without"
    names = rng.sample(["Ada", "Bob", "Cleo", "Dan"], 3)
    with service(answer) as here:
        with here.unit(tried, 1) as unit:
            for number, name in enumerate(names, start=1):
                sign_up(unit, name)
                unit.later(here.mail(name))
                unit.commit()
                here.expect(
                    f"{tried}: after {number}", names[:number], names[:number], 1
                )
            unit.commit()
        here.expect(tried, names, names, 1)
    tried = "a commit in one unit while another has an action, but no commit"
    with service(answer) as here:
        with here.unit(tried, 1) as waiting:
            waiting.later(here.mail("of the other unit"))
            with here.unit(tried, 1) as unit:
                sign_up(unit, names[0])
                unit.later(here.mail(names[0]))
                unit.commit()
        here.expect(tried, names[:1], names[:1], 1)
    tried = "an action and a commit without a row"
    with service(answer) as here:
        with here.unit(tried, 1) as unit:
            unit.later(here.mail(names[0]))
            unit.commit()
        here.expect(tried, [], names[:1], 1)


def check_one_connection(answer: ModuleType, rng: random.Random) -> None:
    """Let an action use the only connection."""
    tried = "an action that asks the pool for its one connection"
    with service(answer) as here:

        def use() -> None:
            with here.engine.begin() as connection:
                connection.execute(sa.insert(PEOPLE), {"name": "by an action"})
            here.sent.append("used")

        with here.unit(tried, 2) as unit:
            sign_up(unit, "Ada")
            unit.later(use)
            unit.commit()
            sign_up(unit, "Bob")
            unit.commit()
        here.expect(tried, ["Ada", "by an action", "Bob"], ["used"], 2)
    tried = "UnitOfWork(engine)"
    with service(answer) as here:
        made = answer.UnitOfWork(here.engine)
        pool: Any = here.engine.pool
        held = {"connections taken": pool.checkedout()}
        expect(tried, held, {"connections taken": 0}, 2)
        del made


def check_failing_commit(answer: ModuleType, rng: random.Random) -> None:
    """Commit what a constraint refuses at the commit itself; go on."""
    tried = "a commit that a foreign key refuses"
    with service(answer) as here:
        with here.unit(tried, 2) as unit:
            sign_up(unit, "Ada", invited_by=NOBODY)
            unit.later(here.mail("Ada"))
            expect_error(tried, exc.IntegrityError, unit.commit, 2)
            here.expect(tried, [], [], 2)

            def go_on() -> None:
                sign_up(unit, "Bob")
                unit.later(here.mail("Bob"))
                unit.commit()

            tried = f"{tried}, then one that succeeds"
            expect_no_error(tried, go_on, 2)
        here.expect(tried, ["Bob"], ["Bob"], 2)


def check_failing_last_commit(answer: ModuleType, rng: random.Random) -> None:
    """Let the error of a commit leave the block."""
    tried = "a commit that a foreign key refuses, as the last thing of a block"
    with service(answer) as here:

        def fail() -> None:
            with here.answer.UnitOfWork(here.engine) as unit:
                sign_up(unit, "Ada", invited_by=NOBODY)
                unit.later(here.mail("Ada"))
                unit.commit()

        expect_error(tried, exc.IntegrityError, fail, 2)
        here.expect_free(tried)
        here.expect(tried, [], [], 2)


def check_failing_flush(answer: ModuleType, rng: random.Random) -> None:
    """Commit what a constraint refuses at the flush before the commit."""
    tried = "a commit that fails in the flush before it"
    with service(answer) as here:
        entity = mapped_person()
        with here.unit(tried, 2) as unit:
            sign_up(unit, "Ada")
            unit.commit()
            sign_up(unit, "Bob")
            unit.session.add(entity(name="Ada"))
            unit.later(here.mail("Ada"))
            expect_error(tried, exc.IntegrityError, unit.commit, 2)
            here.expect(tried, ["Ada"], [], 2)
            unit.session.add(entity(name="Cleo"))
            unit.later(here.mail("Cleo"))
            unit.commit()
        tried = f"{tried}, then one that succeeds"
        here.expect(tried, ["Ada", "Cleo"], ["Cleo"], 2)


def mapped_person() -> Any:
    """Return a new class for people."""
    return sa.orm.registry().mapped(type("Person", (), {"__table__": PEOPLE}))


def fail_in_part(unit: Any, error: Exception, *steps: Callable[[], object]) -> None:
    """Do steps in a part, then fail there."""
    with unit.part():
        for step in steps:
            step()
        raise error


def check_parts(answer: ModuleType, rng: random.Random) -> None:
    """Let a part succeed."""
    tried = "a part that succeeds"
    with service(answer) as here:
        with here.unit(tried, 3) as unit:
            unit.later(here.mail("before"))
            with unit.part():
                sign_up(unit, "in the part")
                unit.later(here.mail("in the part"))
                here.expect(f"{tried}, in the part", [], [], 3)
            here.expect(f"{tried}, before commit()", [], [], 3)
            unit.later(here.mail("after"))
            unit.commit()
        sent = ["before", "in the part", "after"]
        here.expect(tried, ["in the part"], sent, 3)


def check_failing_part(answer: ModuleType, rng: random.Random) -> None:
    """Let a part fail between others; catch its error."""
    tried = "a part that fails, with its error caught"
    error = BlockError("of the part")
    with service(answer) as here:
        mail = here.mail("before, and in the part")
        with here.unit(tried, 3) as unit:
            unit.session.add(mapped_person()(name="before"))
            unit.later(mail)
            unit.later(here.mail("second"))
            steps = (lambda: sign_up(unit, "inside"), lambda: unit.later(mail))
            is_raised(tried, error, lambda: fail_in_part(unit, error, *steps), 3)
            sign_up(unit, "after")
            unit.later(here.mail("after"))
            unit.commit()
        here.expect(
            tried,
            ["before", "after"],
            ["before, and in the part", "second", "after"],
            3,
        )


def check_interrupted_part(answer: ModuleType, rng: random.Random) -> None:
    """Let a part be ended by what is no Exception; catch that, and go on."""
    tried = "a part that KeyboardInterrupt ends, with that caught"
    with service(answer) as here:
        with here.unit(tried, 3) as unit:
            write(here, unit, "before")
            try:
                with unit.part():
                    write(here, unit, "inside")
                    raise KeyboardInterrupt
            except KeyboardInterrupt:
                write(here, unit, "after")
            else:
                raise Refused(tried, Words("no error"), Words("its error"), 3)
            unit.commit()
        here.expect(tried, ["before", "after"], ["before", "after"], 3)


def check_failing_part_passed_on(answer: ModuleType, rng: random.Random) -> None:
    """Let a part fail, and the block with it."""
    tried = "a part that fails, with its error not caught"
    error = BlockError("of the part")
    with service(answer) as here:

        def fail() -> None:
            with here.unit(tried, 3) as unit:
                sign_up(unit, "before")
                unit.later(here.mail("before"))
                fail_in_part(unit, error, lambda: sign_up(unit, "inside"))

        is_raised(tried, error, fail, 3)
        here.expect_free(tried)
        here.expect(tried, [], [], 3)


def check_refused_part(answer: ModuleType, rng: random.Random) -> None:
    """Let a constraint stop a part, at the flush with which it ends."""
    tried = "a part that a constraint stops, with its error caught"
    with service(answer) as here:
        entity = mapped_person()
        with here.unit(tried, 3) as unit:
            sign_up(unit, "Ada")

            def repeat() -> None:
                with unit.part():
                    unit.later(here.mail("inside"))
                    unit.session.add(entity(name="Ada"))

            expect_error(tried, exc.IntegrityError, repeat, 3)
            unit.later(here.mail("after"))
            unit.commit()
        here.expect(tried, ["Ada"], ["after"], 3)


def write(here: Service, unit: Any, name: str) -> None:
    """Write a row, and give the unit a mail of that name."""
    sign_up(unit, name)
    unit.later(here.mail(name))


def check_nested_parts(answer: ModuleType, rng: random.Random) -> None:
    """Nest parts, of which the outer one fails."""
    error = BlockError("of the part")
    tried = "a part that fails after one within it has succeeded"
    with service(answer) as here:
        with here.unit(tried, 3) as unit:
            write(here, unit, "before")

            def outer() -> None:
                with unit.part():
                    write(here, unit, "outer")
                    with unit.part():
                        write(here, unit, "inner")
                    raise error

            is_raised(tried, error, outer, 3)
            write(here, unit, "after")
            unit.commit()
        here.expect(tried, ["before", "after"], ["before", "after"], 3)


def check_failing_inner_part(answer: ModuleType, rng: random.Random) -> None:
    """Nest parts, of which the inner one fails; let one fail after a commit."""
    error = BlockError("of the part")
    tried = "a part that succeeds although one within it has failed"
    with service(answer) as here:
        with here.unit(tried, 3) as unit:
            with unit.part():
                write(here, unit, "outer")
                inner = (lambda: write(here, unit, "inner"),)
                is_raised(tried, error, lambda: fail_in_part(unit, error, *inner), 3)
                write(here, unit, "outer, later")
            with unit.part():
                write(here, unit, "next part")
            unit.commit()
        kept = ["outer", "outer, later", "next part"]
        here.expect(tried, kept, kept, 3)
    tried = "parts before and after a commit, the later one fails"
    with service(answer) as here:
        with here.unit(tried, 3) as unit:
            with unit.part():
                write(here, unit, "first")
            unit.commit()
            write(here, unit, "second")
            inside = (lambda: write(here, unit, "inside"),)
            is_raised(tried, error, lambda: fail_in_part(unit, error, *inside), 3)
            unit.commit()
        here.expect(tried, ["first", "second"], ["first", "second"], 3)


def check_failing_actions(answer: ModuleType, rng: random.Random) -> None:
    """Let two of four actions fail."""
    errors = [MailError("A"), MailError("B")]
    tried = "the second and the third of four actions fail"
    sent = ["first", "failed A", "failed B", "fourth"]
    with service(answer) as here:

        def work() -> None:
            with answer.UnitOfWork(here.engine) as unit:
                sign_up(unit, "Ada")
                unit.later(here.mail("first"))
                unit.later(here.failing(errors[0]))
                unit.later(here.failing(errors[1]))
                unit.later(here.mail("fourth"))
                group = expect_error(tried, ExceptionGroup, unit.commit, 2)
                here.expect(tried, ["Ada"], sent, 2)
                raised = [str(one) for one in group.exceptions]
                expect(f"{tried}: the errors in the group", raised, ["A", "B"], 2)
                sign_up(unit, "Bob")
                unit.later(here.mail("fifth"))
                unit.commit()

        expect_no_error(tried, work, 2)
        here.expect_free(tried)
        here.expect(
            f"{tried}, then another commit", ["Ada", "Bob"], [*sent, "fifth"], 2
        )
    tried = "one action, which fails, as the last thing of a block"
    with service(answer) as here:

        def commit() -> None:
            with answer.UnitOfWork(here.engine) as unit:
                sign_up(unit, "Ada")
                unit.later(here.failing(errors[0]))
                unit.commit()

        expect_error(tried, ExceptionGroup, commit, 2)
        here.expect_free(tried)
        here.expect(tried, ["Ada"], ["failed A"], 2)


def check(answer: ModuleType, rng: random.Random) -> None:
    """Commit, do not commit, fail to commit; then parts, and actions that fail."""
    check_plain(answer, rng)
    check_no_commit(answer, rng)
    check_error(answer, rng)
    check_several_commits(answer, rng)
    check_one_connection(answer, rng)
    check_failing_commit(answer, rng)
    check_failing_last_commit(answer, rng)
    check_failing_flush(answer, rng)
    check_failing_actions(answer, rng)
    check_parts(answer, rng)
    check_failing_part(answer, rng)
    check_interrupted_part(answer, rng)
    check_failing_part_passed_on(answer, rng)
    check_refused_part(answer, rng)
    check_nested_parts(answer, rng)
    check_failing_inner_part(answer, rng)
