"""A log as the rows that differ: asked of an engine in SQL, read back, and fitted.

All that the models need of any number of customers is how many of them have the same
(x, t_x, T), and how many the same number and sum of repeat orders.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from course.analytics.amounts import LARGEST_AMOUNT
from course.analytics.arrays import LAST_DAY, Floats, Ints, iso
from course.analytics.columns import names_in
from course.analytics.grids import cell
from course.analytics.simulate import SPAN
from course.analytics.textfile import lines_of
from course.columns import visible
from course.console import fact, write
from course.errors import BadInput

HEADER = ("x", "t_last", "age", "spend", "n")
NO_VALUE = {"", "NULL", None}  # as engines write it


class Dialect(NamedTuple):
    """How an engine writes what is not the same in all of them."""

    days_between: str  # of {first} and {last}
    decimal: str  # a type for sums
    day: str  # of {column}


DATE = "CAST({column} AS DATE)"
DIALECTS = {
    "postgresql": Dialect("({last} - {first})", "NUMERIC(38, 6)", DATE),
    "duckdb": Dialect("date_diff('day', {first}, {last})", "DECIMAL(38, 6)", DATE),
    "spark": Dialect("datediff({last}, {first})", "DECIMAL(32, 6)", DATE),
}
QUERY = """\
-- The rows that differ, as of {as_of}. Refunds are left out: net them beforehand.
-- Guests and cancelled orders count: take them out, as --transactions does.
WITH orders_by_day AS (
  SELECT {customer} AS customer, {day} AS day,
         SUM(CAST({amount} AS {decimal})) AS paid
  FROM {table}
  WHERE {customer} IS NOT NULL AND {amount} >= 0 AND {day} <= DATE '{as_of}'
  GROUP BY {customer}, {day}
), first_and_last AS (
  SELECT customer, MIN(day) AS first_day, MAX(day) AS last_day, COUNT(*) - 1 AS x
  FROM orders_by_day
  GROUP BY customer
), customers AS (
  SELECT f.customer, f.x,
         {t_last} AS t_last,
         {age} AS age,
         SUM(CASE WHEN d.day > f.first_day THEN d.paid ELSE 0 END) AS spend
  FROM first_and_last f JOIN orders_by_day d ON d.customer = f.customer
  GROUP BY f.customer, f.x, f.first_day, f.last_day
)
SELECT x, t_last, age, CAST(NULL AS {decimal}) AS spend, COUNT(*) AS n
FROM customers
GROUP BY x, t_last, age
UNION ALL
SELECT x, NULL AS t_last, NULL AS age, CAST(spend AS {decimal}) AS spend, COUNT(*) AS n
FROM customers
WHERE x > 0 AND spend > 0
GROUP BY x, spend
ORDER BY 1, 2, 3, 4
"""


def quoted(name: str) -> str:
    """Return a name for SQL in quotes: order is a keyword, and user somebody else."""
    if not name or re.search('[\x00-\x1f"`]', name):
        raise BadInput(f"--summary-sql: {visible(name)!r} is no name of a column")
    return f'"{name}"'


def summary_sql(dialect: str, columns: str | None, as_of: int | None) -> str:
    """Return a query for the summary of `orders`; BadInput for what it lacks."""
    if dialect not in DIALECTS:
        raise BadInput(f"--summary-sql {dialect}: there is {', '.join(DIALECTS)}")
    if as_of is None:
        raise BadInput("--summary-sql needs --as-of: the day up to which orders count")
    names = names_in(columns or "customer,date,amount")
    if len(names) != 3:
        raise BadInput(f"--columns {columns}: --summary-sql takes CUSTOMER,DATE,AMOUNT")
    if "*" in names[2]:
        said = "--summary-sql takes one column of amounts: multiply them in a view"
        raise BadInput(f"--columns {columns}: {said}")
    quote = "`" if dialect == "spark" else '"'
    customer, day, amount = (quoted(name).replace('"', quote) for name in names)
    engine = DIALECTS[dialect]
    until = f"DATE '{iso(as_of)}'"
    between = engine.days_between
    return QUERY.format(
        as_of=iso(as_of),
        table="orders",
        customer=customer,
        amount=amount,
        day=engine.day.format(column=day),
        decimal=engine.decimal,
        t_last=between.format(first="f.first_day", last="f.last_day"),
        age=between.format(first="f.first_day", last=until),
    )


@dataclass(frozen=True)
class Summary:
    """The rows that differ, and how many customers each stands for."""

    x: Ints
    t_last: Ints
    age: Ints
    n: Ints
    repeats: Ints  # of those who paid for repeat orders
    spend: Floats  # what they paid for all of them
    payers: Ints


def read_summary(path: Path) -> Summary:
    """Read a summary that an engine wrote as CSV; BadInput if it is none."""
    name = visible(str(path))
    times: list[tuple[int, ...]] = []
    spends: list[tuple[float, ...]] = []
    with lines_of(path) as text, readable(name):
        reader = csv.DictReader(text.lines)
        if not set(HEADER) <= set(reader.fieldnames or ()):
            raise BadInput(f"{name}: a summary has the columns {', '.join(HEADER)}")
        for row in reader:
            try:
                if None in row:  # more cells than the header has
                    raise ValueError(row)
                if row["spend"] in NO_VALUE:
                    numbers = (row["x"], row["t_last"], row["age"], row["n"])
                    times.append(tuple(map(count_of, numbers)))
                elif {row["t_last"], row["age"]} - NO_VALUE:
                    raise ValueError(row)  # of one customer, whose T would be lost
                else:
                    paid = float(row["spend"])
                    spends.append((count_of(row["x"]), paid, count_of(row["n"])))
            except (TypeError, ValueError):
                raise BadInput(
                    f"{name}, line {reader.line_num}: no row of a summary"
                ) from None
    if not times:
        raise BadInput(f"{name}: it has no rows of x, t_last, age")
    x, t_last, age, n = np.array(times, np.int64).T
    repeats, spend, payers = np.array(spends, np.float64).reshape(-1, 3).T
    whole = np.array([repeats, payers], np.int64)
    found = Summary(x, t_last, age, n, whole[0], spend, whole[1])
    check_summary(found, name)
    return found


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Say of a file that no CSV is like this, instead of the csv module's error."""
    try:
        yield
    except csv.Error as problem:
        raise BadInput(f"{name}: {problem}") from None


def count_of(text: str | None) -> int:
    """Return a count; ValueError for what is none, or no shop has."""
    if text is None or not re.fullmatch("-?[0-9]{1,12}", text.strip()):
        raise ValueError(text)
    return int(text)


def check_summary(found: Summary, name: str) -> None:
    """Raise BadInput for rows that no customers can have."""
    once = found.x == 0
    impossible = {
        "x, t_last and n are counts, and T is not below t_x": (
            (found.x < 0)
            | (found.t_last < 0)
            | (found.age < found.t_last)
            | (found.n < 1)
        ),
        "t_last is 0 where x is, and only there": (found.t_last == 0) != once,
        "x is at most one a day": found.x > found.t_last,
        f"T is at most {LAST_DAY:,} days": found.age > LAST_DAY,
        f"x is at most {LAST_DAY:,}": found.repeats > LAST_DAY,
        "spend is over 0, of repeat orders": np.append(
            found.repeats < 1, ~(found.spend > 0) | (found.payers < 1)
        ),
        "an order costs less than 1e12": found.spend / LARGEST_AMOUNT >= found.repeats,
    }
    for rule, broken in impossible.items():
        if broken.any():
            raise BadInput(f"{name}: it breaks a rule of summaries: {rule}")
    with_orders = np.bincount(found.x, found.n)
    with_orders.resize(max(len(with_orders), int(found.repeats.max(initial=0)) + 1))
    who_paid = np.bincount(found.repeats, found.payers, len(with_orders))
    if (who_paid > with_orders).any():
        x = int(np.argmax(who_paid > with_orders))
        said = f"more customers paid for {x} repeat orders than have so many"
        raise BadInput(f"{name}: {said}")


class Fits(NamedTuple):
    """The lesson's fits of both models to rows with weights."""

    bgnbd: Any
    gamma_gamma: Any


def summary_figures(found: Summary, fits: Fits, days: int) -> dict[str, Any]:
    """Return what the models say of all customers together."""
    fit = fits.bgnbd(found.x, found.t_last, found.age, count=found.n)
    money = fits.gamma_gamma(
        found.repeats, found.spend / found.repeats, count=found.payers
    )
    weeks = (found.x, found.t_last / 7, found.age / 7)
    live = fit.p_alive(*weeks)
    orders = live * fit.expected(found.x, found.age / 7, days / 7)
    buys = live * (1 - fit.p_none(found.x, found.age / 7, days / 7))
    shown = {k: v for k, v in vars(fit).items() if k != "covariance"}
    return {
        "customers": int(found.n.sum()),
        "distinct_rows": len(found.x),
        "horizon_days": days,
        "bgnbd": shown,
        "gamma_gamma": vars(money),
        "expected_orders": float(found.n @ orders),
        "expected_buyers": float(found.n @ buys),
    }


def study_summary(args: argparse.Namespace, fits: Fits) -> int:
    """Print the query, or fit and print a summary; return the exit code."""
    if args.summary_sql:
        print(summary_sql(args.summary_sql, args.columns, args.as_of), end="")
        return 0
    found = read_summary(args.summary)
    figures = summary_figures(found, fits, args.horizon or SPAN)
    if args.json:
        print(re.sub(r"-?\b(NaN|Infinity)\b", "null", json.dumps(figures, indent=1)))
        return 0
    write(f"backend: numpy in this process, {visible(args.summary.name)}")
    for name, text in shown_figures(figures):
        fact(name, text)
    return 0


def shown_figures(figures: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield figures as facts."""
    for name, value in figures.items():
        if isinstance(value, dict):
            yield name, ", ".join(f"{key} {cell(each)}" for key, each in value.items())
        else:
            yield name, cell(value)
