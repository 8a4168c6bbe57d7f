"""What SQLite's copy of a table must not lose, whatever the table has."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from lessons import load

from course.sql.changes import drift
from course.sql.rebuild import parts_of

lesson = load("01")
THINGS = """CREATE TABLE things (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name VARCHAR(80) NOT NULL DEFAULT 'a, (b)',
    n INTEGER CHECK (n > 0),
    other INTEGER,
    CONSTRAINT ck_name CHECK (length(name) BETWEEN 1 AND 80),
    CHECK (n < 100)
)"""


@pytest.fixture
def env() -> Iterator[Any]:
    given = argparse.Namespace(offline=True, require_live=False, url="")
    with lesson.open_env(given) as env:
        assert env.engine
        yield env


def run(env: Any, *statements: str) -> None:
    with env.engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def sql_of(env: Any, *names: str) -> dict[str, str]:
    with env.engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master").all()
    return {name: sql for name, sql in rows if name in names}


def widen(op: Any) -> None:
    with op.batch_alter_table("things") as batch:
        batch.alter_column("other", type_=sa.BigInteger())


def drop_n(op: Any) -> None:
    with op.batch_alter_table("things") as batch:
        batch.drop_column("n")


def rename_name(op: Any) -> None:
    with op.batch_alter_table("things") as batch:
        batch.alter_column("name", new_column_name="title")


def test_a_step_on_users_keeps_one_email_in_two_spellings_out(env: Any) -> None:
    def step(op: Any) -> None:
        with op.batch_alter_table("users") as batch:
            batch.alter_column("logins", type_=sa.BigInteger())

    before = sql_of(env, "uq_users_email", "ix_users_registered_at_id")
    lesson.migrate(env.engine, step)
    assert sql_of(env, *before) == before
    again = lesson.User(username="x", email="OLENA@example.org", address_id=1)
    again.registered_at = datetime(2025, 1, 1, tzinfo=UTC)
    with pytest.raises(sa.exc.IntegrityError), env.sessions.begin() as session:
        session.add(again)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE UNIQUE INDEX special ON things (lower(name))",
        "CREATE INDEX special ON things (n DESC)",
        "CREATE UNIQUE INDEX special ON things (name COLLATE NOCASE)",
        "CREATE UNIQUE INDEX special ON things (name) WHERE n > 5",
        'CREATE INDEX special ON "things" (n, name || name)',
        "CREATE TRIGGER special AFTER INSERT ON things BEGIN SELECT 1; END",
        "CREATE INDEX special ON things (n)",
    ],
)
def test_what_hangs_on_a_table_hangs_on_its_copy(env: Any, statement: str) -> None:
    run(env, THINGS, statement, "INSERT INTO things (name, n) VALUES ('x', 7)")
    before = sql_of(env, "special")
    lesson.migrate(env.engine, widen)
    assert "BIGINT" in sql_of(env, "things")["things"]
    assert sql_of(env, "special") == before


@pytest.mark.parametrize(
    "wrong",
    ["'', 1", "'x', 0", "'x', 100"],
    ids=["named check", "check of a column", "check of the table"],
)
def test_every_check_holds_in_the_copy(env: Any, wrong: str) -> None:
    run(env, THINGS)
    lesson.migrate(env.engine, widen)
    run(env, "INSERT INTO things (name, n) VALUES ('x', 1)")
    with pytest.raises(sa.exc.IntegrityError):
        run(env, f"INSERT INTO things (name, n) VALUES ({wrong})")


def test_a_key_that_was_used_is_not_used_again(env: Any) -> None:
    run(env, THINGS, "INSERT INTO things (n) VALUES (1), (2)", "DELETE FROM things")
    lesson.migrate(env.engine, widen)
    run(env, "INSERT INTO things (n) VALUES (3)")
    with env.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT id FROM things").scalar() == 3


@pytest.mark.parametrize("end", ["STRICT", "WITHOUT ROWID", "STRICT, WITHOUT ROWID"])
def test_the_options_of_a_table_stay(env: Any, end: str) -> None:
    run(env, f"CREATE TABLE things (name TEXT PRIMARY KEY NOT NULL, other INT) {end}")

    def require(op: Any) -> None:
        with op.batch_alter_table("things") as batch:
            batch.alter_column("other", existing_type=sa.INT(), nullable=False)

    lesson.migrate(env.engine, require)
    now = sql_of(env, "things")["things"]
    assert "other INT" in now and "NOT NULL" in now.rpartition("other")[2]
    assert sorted(end.split(", ")) == sorted(
        word.strip() for word in now.rpartition(")")[2].split(",")
    )


@pytest.mark.parametrize(
    ("statements", "step", "named"),
    [
        (["CREATE INDEX special ON things (abs(n))"], drop_n, "special"),
        (['CREATE INDEX special ON things (abs("n"))'], drop_n, "special"),
        (["CREATE INDEX special ON things (lower(name))"], rename_name, "special"),
        (
            ["CREATE TRIGGER special UPDATE OF n ON things BEGIN SELECT 1; END"],
            drop_n,
            "special",
        ),
        (
            [
                "DROP TABLE things",
                "CREATE TABLE things (name TEXT COLLATE NOCASE, other INT)",
            ],
            widen,
            "COLLATE NOCASE of name",
        ),
        (
            [
                "DROP TABLE things",
                "CREATE TABLE things (name TEXT COLLATE NOCASE, other INT)",
            ],
            rename_name,
            "COLLATE NOCASE of name",
        ),
    ],
)
def test_what_cannot_be_carried_over_undoes_the_step(
    env: Any, statements: list[str], step: Callable[..., None], named: str
) -> None:
    run(env, "CREATE TABLE things (name TEXT, n INT)", *statements)
    before = sql_of(env, "things", "special")
    with pytest.raises(ValueError, match=named):
        lesson.migrate(env.engine, step)
    assert sql_of(env, "things", "special") == before


def test_a_check_of_a_column_that_goes_undoes_the_step(env: Any) -> None:
    run(env, 'CREATE TABLE things (name TEXT, n INT, CHECK ("n" > 0))')
    before = sql_of(env, "things")
    with pytest.raises((ValueError, sa.exc.OperationalError)):
        lesson.migrate(env.engine, drop_n)
    assert sql_of(env, "things") == before


def test_what_a_step_drops_itself_stays_dropped(env: Any) -> None:
    def step(op: Any) -> None:
        op.drop_index("of_names", table_name="things")
        with op.batch_alter_table("things") as batch:
            batch.drop_index("descending")
            batch.alter_column("other", type_=sa.BigInteger())

    indexes = (
        "CREATE INDEX of_names ON things (lower(name))",
        "CREATE INDEX descending ON things (n DESC)",
    )
    run(env, THINGS, *indexes)
    lesson.migrate(env.engine, step)
    assert sql_of(env, "of_names", "descending") == {}


def test_definitions_are_told_apart_by_commas_outside_of_brackets_and_texts() -> None:
    found = parts_of(
        'CREATE TABLE t (a INT CHECK (a IN (1, 2)), "b c"\tTEXT, -- it\'s, so\n'
        "d 'x,', /* ) */ UNIQUE(a, \"b c\"))"
    )
    assert found == [
        ("a", "INT CHECK (a IN (1, 2))"),
        ("b c", "TEXT"),
        ("d", "'x,'"),
        ("UNIQUE", '(a, "b c")'),
    ]


@pytest.mark.parametrize(
    ("name", "more", "lost"),
    [
        ("name\tTEXT COLLATE NOCASE", "", "COLLATE NOCASE of name"),
        ("name\n  TEXT COLLATE NOCASE", "", "COLLATE NOCASE of name"),
        ("name TEXT /* it's */ collate 'nocase'", "", "COLLATE NOCASE of name"),
        ('name TEXT COLLATE "NOCASE"', "", "COLLATE NOCASE of name"),
        ("name TEXT", ", UNIQUE (name COLLATE NOCASE)", "COLLATE NOCASE of UNIQUE"),
        (
            "name TEXT",
            ", CONSTRAINT uq UNIQUE (name COLLATE NOCASE)",
            "COLLATE NOCASE of CONSTRAINT",
        ),
        (
            "name TEXT REFERENCES users (username) ON DELETE CASCADE",
            "",
            "ON DELETE CASCADE of name",
        ),
        (
            "name TEXT REFERENCES users (username) ON UPDATE SET NULL",
            "",
            "ON UPDATE SET NULL of name",
        ),
        (
            "name TEXT REFERENCES users (username) DEFERRABLE INITIALLY DEFERRED",
            "",
            "DEFERRABLE INITIALLY DEFERRED of name",
        ),
    ],
)
def test_what_a_table_says_and_nobody_reads_undoes_the_step(
    env: Any, name: str, more: str, lost: str
) -> None:
    run(env, f"CREATE TABLE things ({name}, other INT{more})")
    before = sql_of(env, "things")
    with pytest.raises(ValueError, match=lost):
        lesson.migrate(env.engine, widen)
    assert sql_of(env, "things") == before


def test_what_is_read_or_goes_with_its_column_undoes_no_step(env: Any) -> None:
    columns = "name TEXT COLLATE BINARY, other INT, n INT COLLATE NOCASE"
    more = "FOREIGN KEY (other) REFERENCES users (id) ON DELETE CASCADE"
    run(env, f"CREATE TABLE things ({columns}, {more} ON UPDATE NO ACTION)")
    lesson.migrate(env.engine, drop_n)
    assert "ON DELETE CASCADE" in sql_of(env, "things")["things"]


def test_a_foreign_key_that_a_step_drops_stays_dropped(env: Any) -> None:
    def step(op: Any) -> None:
        with op.batch_alter_table("things") as batch:
            batch.drop_constraint("fk_other", type_="foreignkey")

    key = "FOREIGN KEY (other) REFERENCES users (id) ON DELETE CASCADE"
    run(env, f"CREATE TABLE things (name TEXT, other INT, CONSTRAINT fk_other {key})")
    lesson.migrate(env.engine, step)
    assert "CASCADE" not in sql_of(env, "things")["things"]


# Views, and what else looks at a table

VIEWS = (
    "CREATE VIEW seen AS SELECT id, name FROM things",
    "CREATE VIEW counted AS SELECT count(*) AS n FROM seen",
    "CREATE TABLE log (n INT)",
    "CREATE TRIGGER logged AFTER INSERT ON log BEGIN UPDATE things SET n = 1; END",
    "CREATE TRIGGER written INSTEAD OF INSERT ON seen BEGIN DELETE FROM log; END",
)


def test_what_looks_at_a_table_looks_at_its_copy(env: Any) -> None:
    run(env, THINGS, *VIEWS, "INSERT INTO things (name) VALUES ('x')")
    names = ("seen", "counted", "log", "logged", "written")
    before = sql_of(env, *names)
    lesson.migrate(env.engine, widen)
    assert sql_of(env, *names) == before
    run(env, "INSERT INTO log VALUES (1)", "INSERT INTO seen VALUES (7, 'y')")
    with env.engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT s.id, t.n FROM seen s, things t")
        assert found.all() == [(1, 1)]
        assert connection.exec_driver_sql("SELECT n FROM counted").scalar() == 1


@pytest.mark.parametrize(("step", "gone"), [(drop_n, "n"), (rename_name, "name")])
def test_a_view_of_a_column_that_goes_undoes_the_step(
    env: Any, step: Callable[..., None], gone: str
) -> None:
    run(env, "CREATE TABLE things (name TEXT, n INT)")
    run(env, f"CREATE VIEW seen AS SELECT {gone} FROM things")
    before = sql_of(env, "things", "seen")
    with pytest.raises(ValueError, match=f"error in view seen.*: no such .*{gone}"):
        lesson.migrate(env.engine, step)
    assert sql_of(env, "things", "seen") == before


def test_a_view_that_was_broken_before_undoes_no_step(env: Any) -> None:
    run(env, THINGS, "CREATE VIEW broken AS SELECT 1 FROM nowhere")
    lesson.migrate(env.engine, widen)
    assert "BIGINT" in sql_of(env, "things")["things"]


def test_the_comparison_misses_no_index_on_an_expression(env: Any) -> None:
    users = lesson.User.__table__
    assert drift(env.engine, users) == 0
    run(env, "DROP INDEX uq_users_email")
    assert drift(env.engine, users) == 1
    run(env, "CREATE UNIQUE INDEX uq_users_email ON users (lower(username))")
    assert drift(env.engine, users) == 1
