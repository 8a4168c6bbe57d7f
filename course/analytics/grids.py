"""Figures by row and column: as text, and those that pictures are drawn from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import date
from typing import Any

import numpy as np

from course.analytics.arrays import BITS, DAY, Grid, order_days, starts
from course.analytics.scores import rate_of, tenths
from course.analytics.simulate import SPAN
from course.console import write

RULE = "heuristic"
TABLE_LIMIT = 80  # columns of a terminal; a wider grid is printed in parts


def cell(value: Any) -> str:
    """Return a figure for a table, with four digits or so; - for what is not known."""
    if isinstance(value, tuple | list):
        return " to ".join(map(cell, value))
    if not isinstance(value, float):
        return "-" if value is None else str(value)
    digits = sum(abs(value) < limit for limit in (1, 10, 100, 1000))
    return f"{value:,.{digits}f}" if math.isfinite(value) else "-"


def cells(corner: str, grid: Grid) -> list[list[str]]:
    """Return header and rows for `table`, figures to the right."""
    names = list(dict.fromkeys(name for row in grid.values() for name in row))
    columns = [[corner, *grid]]
    for name in names:
        column = [name, *(cell(row.get(name)) for row in grid.values())]
        columns.append([text.rjust(max(map(len, column))) for text in column])
    return [list(row) for row in zip(*columns, strict=True)]


def parts(rows: list[list[str]]) -> Iterator[list[list[str]]]:
    """Yield the columns of a table in parts that fit a terminal, the first in each."""
    widths = [2 + max(map(len, column)) for column in zip(*rows, strict=True)]
    first, width = 1, widths[0]
    for place in range(1, len(widths) + 1):
        if place == len(widths) or (
            width + widths[place] > TABLE_LIMIT and place > first
        ):
            yield [[row[0], *row[first:place]] for row in rows]
            first, width = place, widths[0]
        width += widths[place] if place < len(widths) else 0


def print_grid(corner: str, grid: Grid) -> None:
    """Print figures under their header, to the right; no number is ever broken."""
    for part in parts(cells(corner, grid)):
        width = max(len(row[0]) for row in part)
        for row in part:
            line = "  ".join(["", row[0].ljust(width), *row[1:]])
            write(line.rstrip(), "bold" if row is part[0] else "")


def alive_grid(record: Any) -> Grid:
    """Return P(alive) and P(no order) by repeat orders and days since the last."""
    f, idle = record.forecast, np.array([0, 30, 90, 180, 270])
    grid, age = dict[str, dict[str, Any]](), np.full(5, SPAN / 7)
    for x in (0, 1, 2, 4, 8, 16):
        live = f.bgnbd.p_alive(np.full(5, x), age - idle / 7, age)
        none = 1 - live * (1 - f.bgnbd.p_none(np.full(5, x), age, f.days / 7))
        names = [f"{what}, {d} d" for what in ("alive", "none") for d in idle]
        grid[f"{x}"] = dict(zip(names, [*live.tolist(), *none.tolist()], strict=True))
    return grid


def reliability(record: Any) -> Grid:
    """Return by tenths what rule and chosen model said, and what was seen."""
    grid: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys((RULE, record.forecast.churn_model)):
        chance = record.forecast.churn[name]
        for k, rows in enumerate(tenths(chance), 1):
            said, seen = float(chance[rows].mean()), rate_of(record.gone[rows])
            line = list("." * 41)
            line[round(40 * seen.rate)], line[round(40 * said)] = "o", "s"
            row = {"said (s)": said, "seen (o)": seen.rate, "95 %": seen[1:3]}
            grid[f"{name} {k}"] = row | {"0 to 1": "".join(line)}
    return grid


def lift(record: Any) -> Grid:
    """Return the spend of each tenth by forecast, best first, over the mean."""
    mean, grid = float(record.spent.mean()) or 1.0, dict[str, dict[str, Any]]()
    for k, rows in enumerate(tenths(-record.amount), 1):
        times = float(record.spent[rows].mean()) / mean
        grid[f"{k}"] = {"times mean": times, "": "#" * round(5 * times)}
    return grid


def retention(record: Any) -> Grid:
    """Return by month of the first order what share bought k months later.

    Of the last twelve cohorts; a month that is not over is missing.
    """
    last = record.forecast.table.as_of + record.forecast.days
    tomorrow = date.fromordinal(max(last, int(record.log.day.max())) + 1)
    stop = int(np.datetime64(tomorrow, "M").astype(np.int64))
    who, when = order_days(record.log)
    day = (when - date(1970, 1, 1).toordinal()).astype("datetime64[D]")
    month, first = day.astype("datetime64[M]").astype(np.int64), starts(who)
    joined = np.repeat(month[first], np.diff(np.append(first, len(who))))
    grid: dict[str, dict[str, Any]] = {}
    for cohort in np.unique(joined)[-12:].tolist():
        mine, later = joined == cohort, stop - cohort
        pairs = np.unique(who[mine] << BITS | (month[mine] - cohort))
        count = np.bincount(pairs & DAY, minlength=later)
        shares = (count[1:later] / count[0]).tolist()
        row = {f"+{k}": share for k, share in enumerate(shares, 1)}
        grid[str(np.datetime64(cohort, "M"))] = row
    return grid


def tracking(record: Any) -> Grid:
    """Return repeat orders by week, and those expected by the fit made at the cut."""
    f, t = record.forecast, record.forecast.table
    who, when = order_days(record.log.where(np.isin(record.log.customer, t.customer)))
    repeat, begin = np.delete(when, starts(who)), int(when.min())
    joined, count = np.unique(t.as_of - t.age - begin, return_counts=True)
    grid, none = dict[str, dict[str, Any]](), np.zeros(len(joined), np.int64)
    for day in np.linspace(0, t.as_of + f.days - begin, 14, dtype=int)[1:].tolist():
        orders = f.bgnbd.expected(none, none / 7, (day - joined).clip(0) / 7)
        seen = float((repeat <= begin + day).sum())
        grid[f"{day // 7}"] = {"actual": seen, "expected": float(count @ orders)}
    return grid
