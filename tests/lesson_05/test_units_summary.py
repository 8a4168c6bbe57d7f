"""Lesson 05: a summary asked of PostgreSQL and DuckDB in SQL, and fitted."""

from __future__ import annotations

import csv
import io
import json
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lesson_05.logs import SCRIPT, lesson, write
from lessons import run

from course.analytics.summary import read_summary, summary_sql
from course.errors import BadInput

CUT = "1997-09-30"


def query(dialect: str, *options: str) -> str:
    done = run(SCRIPT, "--summary-sql", dialect, "--as-of", CUT, *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def by_duckdb(url: str, rows: Path, sql: str, types: str) -> list[tuple[Any, ...]]:
    duckdb = pytest.importorskip("duckdb")
    connection = duckdb.connect()
    connection.execute(f"CREATE TABLE orders ({types})")
    connection.execute(f"COPY orders FROM '{rows}' (HEADER)")
    found: list[tuple[Any, ...]] = connection.execute(sql).fetchall()
    return found


def by_postgresql(url: str, rows: Path, sql: str, types: str) -> list[tuple[Any, ...]]:
    psycopg = pytest.importorskip("psycopg")
    schema = f"summary_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
        try:
            connection.execute(f"SET search_path TO {schema}")
            connection.execute(f"CREATE TABLE orders ({types})")
            copy = "COPY orders FROM STDIN (FORMAT csv, HEADER)"
            with connection.cursor() as cursor, cursor.copy(copy) as sink:
                sink.write(rows.read_text())
            found: list[tuple[Any, ...]] = connection.execute(sql).fetchall()
        finally:
            connection.execute(f"DROP SCHEMA {schema} CASCADE")
    return found


def summary_file(path: Path, found: list[tuple[Any, ...]]) -> Path:
    text = io.StringIO()
    csv.writer(text).writerows([("x", "t_last", "age", "spend", "n"), *found])
    path.write_text(text.getvalue())
    return path


ENGINES = {"duckdb": by_duckdb, "postgresql": by_postgresql}
Engine = Callable[[Path, str, str], list[tuple[Any, ...]]]


@pytest.fixture
def ask(dialect: str, request: pytest.FixtureRequest) -> Engine:
    """Return what runs a query on the engine of a dialect."""
    server = dialect == "postgresql"
    url = request.getfixturevalue("postgres_url") if server else ""
    return partial(ENGINES[dialect], url)


@pytest.mark.parametrize("money", ["numeric(12, 2)", "double precision"])
@pytest.mark.parametrize("dialect", ENGINES)
def test_an_engines_summary_gives_the_parameters_of_the_log(
    dialect: str, ask: Engine, money: str, tmp_path: Path
) -> None:
    types = f"customer text, date date, quantity int, amount {money}"
    found = ask(lesson.SAMPLE, query(dialect), types)
    path = summary_file(tmp_path / "summary.csv", found)
    done = run(SCRIPT, "--summary", str(path), "--json")
    assert done.returncode == 0, done.stderr
    ours = json.loads(done.stdout)
    theirs = json.loads(run(SCRIPT, "--json", "--as-of", CUT).stdout)
    assert ours["bgnbd"] == theirs["bgnbd"]  # to the last digit of the JSON
    assert ours["gamma_gamma"] == theirs["gamma_gamma"]
    assert ours["customers"] == theirs["customers"]
    assert ours["distinct_rows"] < ours["customers"]
    shown = run(SCRIPT, "--summary", str(path))
    assert shown.returncode == 0
    assert "r 0.2426, alpha 4.414, a 0.7929, b 2.426" in shown.stdout


@pytest.mark.parametrize("dialect", ENGINES)
def test_timestamps_copies_of_a_day_refunds_and_other_names(
    dialect: str, ask: Engine, tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    rows = []
    for _ in range(3000):
        who, day = rng.integers(0, 300), rng.integers(1, 28)
        month, hour = rng.integers(1, 9), rng.integers(0, 24)
        when = f"1997-{month:02}-{day:02} {hour:02}:30:00"
        rows.append([f"c{who}", when, f"{rng.integers(1, 9999) / 100:.2f}"])
    rows += [
        ["c1", "1997-10-01 00:00:00", "5.00"],
        ["c2", "1997-03-03 00:00:00", "-7.77"],
    ]
    path = write(tmp_path / "a.csv", rows, "user,Zeit,group")
    sql = query(dialect, "--columns", "user,Zeit,group")
    types = '"user" text, "Zeit" timestamp, "group" numeric(12, 2)'
    found = summary_file(tmp_path / "s.csv", ask(path, sql, types))
    ours = json.loads(run(SCRIPT, "--summary", str(found), "--json").stdout)
    options = ("--transactions", str(path), "--columns", "user,Zeit,group")
    theirs = json.loads(run(SCRIPT, *options, "--json", "--as-of", CUT).stdout)
    assert ours["bgnbd"] == theirs["bgnbd"]
    assert ours["gamma_gamma"] == theirs["gamma_gamma"]


def test_expectations_are_those_of_the_customers(log: Any, tmp_path: Path) -> None:
    t = lesson.customer_table(log, lesson.halves(log)[0])
    f = lesson.Forecast(log, t.as_of, 273, learn=False)
    sql = query("duckdb")
    types = "customer text, date date, quantity int, amount numeric(12, 2)"
    path = summary_file(tmp_path / "s.csv", by_duckdb("", lesson.SAMPLE, sql, types))
    done = run(SCRIPT, "--summary", str(path), "--json", "--horizon", "273")
    figures = json.loads(done.stdout)
    assert figures["expected_orders"] == pytest.approx(float(f.orders.sum()), rel=1e-9)
    buyers = float((1 - f.p_zero).sum())
    assert figures["expected_buyers"] == pytest.approx(buyers, rel=1e-9)


def test_fits_with_counts_are_those_of_copies(log: Any) -> None:
    t = lesson.customer_table(log, lesson.halves(log)[0])
    rng = np.random.default_rng(1)
    count = rng.integers(1, 5, len(t.x))
    many = [np.repeat(column, count) for column in (t.x, t.t_last, t.age, t.mean_spend)]
    x, t_last, age, mean = many
    assert lesson.fit_bgnbd(t.x, t.t_last, t.age, count=count).r == (
        lesson.fit_bgnbd(x, t_last, age).r
    )
    with_count = lesson.fit_gamma_gamma(t.x, t.mean_spend, count=count)
    assert with_count == lesson.fit_gamma_gamma(x, mean)


GOOD = ["x,t_last,age,spend,n", "0,0,30,,50", "1,7,30,,50", "1,,,12.5,20", "2,9,30,,9"]
BAD_SUMMARIES = {
    "no header": ["a,b,c", "1,2,3"],
    "a log": ["customer,date,amount", "a,2020-01-01,5"],
    "empty": [""],
    "words": [*GOOD, "one,7,30,,5"],
    "half a row": [*GOOD, "1,7"],
    "negative": [*GOOD, "1,7,30,,-5"],
    "later than now": [*GOOD, "1,31,30,,5"],
    "never came back, yet did": [*GOOD, "0,7,30,,5"],
    "more payers": [*GOOD, "1,,,3.5,2000"],
    "payers of five orders, and nobody has so many": [*GOOD, "5,,,3.5,1"],
    "too many of two orders": [*GOOD, "2,,,3.5,10"],
    "times and money in one row": [*GOOD, "1,7,30,12.5,1"],
    "a comma in an amount": [*GOOD, "1,,,12,50,1"],
    "only money": [GOOD[0], GOOD[3]],
    "one endless field": ["x" * 200_000],
    "an endless field": [*GOOD, "1" * 200_000],
}


@pytest.mark.parametrize("case", BAD_SUMMARIES)
def test_what_is_no_summary_gets_one_line(case: str, tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("\n".join([*BAD_SUMMARIES[case], ""]))
    done = run(SCRIPT, "--summary", str(path))
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "s.csv" in done.stderr


IMPOSSIBLE = [
    "5000000,5000001,5000002,,1",  # each of these once ended in a traceback, or never
    "1,7,5000000,,1",
    "31,30,30,,1",
    "99999999999,99999999999,99999999999,,1",
    "9999999999999999999999,7,30,,1",
    "1,7,30,,9999999999999999999999",
    "1_0,20,30,,1",
    "1,,,nan,5",
    "1,,,inf,5",
    "1,,,1e300,5",
]


@pytest.mark.parametrize("row", IMPOSSIBLE)
def test_counts_that_no_shop_has_are_refused(row: str, tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("\n".join([*GOOD, row, ""]))
    with pytest.raises(BadInput, match=r"s\.csv"):
        read_summary(path)


def test_a_column_may_have_a_keyword_for_its_name() -> None:
    # In PostgreSQL, user without quotes is whoever is logged in, in each row.
    sql = summary_sql("postgresql", "user,order,group", 729_000)
    assert 'SELECT "user" AS customer, CAST("order" AS DATE) AS day' in sql
    assert "`user`" in summary_sql("spark", "user,order,group", 729_000)


@pytest.mark.parametrize(
    "options",
    [
        "--summary-sql oracle7 --as-of 1997-09-30",
        "--summary-sql duckdb",
        "--summary-sql duckdb --as-of 1997-09-30 --columns a,b",
        '--summary-sql duckdb --as-of 1997-09-30 --columns a,b,c";--',
        "--summary-sql duckdb --as-of 1997-09-30 --json",
        "--summary-sql duckdb --as-of 1997-09-30 --columns a,b,quantity*price",
        "--summary nowhere.csv",
        "--summary nowhere.csv --as-of 1997-09-30",
        "--summary nowhere.csv --report page.html",
        "--summary nowhere.csv --simulate 9",
    ],
)
def test_summary_options_that_do_not_fit_get_one_line(options: str) -> None:
    done = run(SCRIPT, *options.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
