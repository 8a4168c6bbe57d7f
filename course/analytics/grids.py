"""Figures by row and column: as text, and those that pictures are drawn from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

import numpy as np

from course.analytics.arrays import (
    BITS,
    DAY,
    Bools,
    Floats,
    Grid,
    Ints,
    order_days,
    starts,
)
from course.analytics.rates import rate_of, tenths
from course.analytics.simulate import SPAN
from course.columns import TABLE_WIDTH
from course.console import write

STRIP = 26  # characters of a line from 0 to 1
EPOCH = date(1970, 1, 1).toordinal()


def cell(value: Any) -> str:
    """Return a figure for a table, with four digits or so; - for what is not known."""
    if isinstance(value, tuple | list):
        return " to ".join(map(cell, value))
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    if not math.isfinite(value):
        return "-"
    # Four digits in all: as many decimals as the number is short.
    digits = 0
    for limit in (1, 10, 100, 1000):
        if abs(value) < limit:
            digits += 1
    return f"{value:,.{digits}f}"


def column_names(grid: Grid) -> list[str]:
    """Return the columns in the order in which rows name them; some rows lack some."""
    names: dict[str, None] = {}
    for row in grid.values():
        names |= dict.fromkeys(row)
    return list(names)


def cells(corner: str, grid: Grid) -> list[list[str]]:
    """Return header and rows of a grid as text, figures to the right."""
    columns = [[corner, *grid]]
    for name in column_names(grid):
        column = [name]
        for row in grid.values():
            column.append(cell(row.get(name)))
        width = max(map(len, column))
        columns.append([text.rjust(width) for text in column])
    return [list(row) for row in zip(*columns, strict=True)]


def parts(rows: list[list[str]]) -> Iterator[list[list[str]]]:
    """Yield a table in parts that fit a terminal; the first column is in each."""
    columns = zip(*rows, strict=True)
    widths = [2 + max(map(len, column)) for column in columns]
    first = 1
    width = widths[0]
    for place in range(1, len(widths)):
        if width + widths[place] > TABLE_WIDTH and place > first:
            yield [[row[0], *row[first:place]] for row in rows]
            first = place
            width = widths[0]
        width += widths[place]
    yield [[row[0], *row[first:]] for row in rows]


def print_grid(corner: str, grid: Grid) -> None:
    """Print figures under their header, to the right; no number is ever broken."""
    for part in parts(cells(corner, grid)):
        width = max(len(row[0]) for row in part)
        for row in part:
            name, *figures = row
            line = "  ".join(["", name.ljust(width), *figures])
            write(line.rstrip(), "bold" if row is part[0] else "")


def turned(grid: Grid) -> Grid:
    """Return a grid with its columns as rows; an interval becomes its two ends."""
    intervals = set()
    for row in grid.values():
        for figure, value in row.items():
            if isinstance(value, tuple | list):
                intervals.add(figure)
    found: dict[str, dict[str, Any]] = {}
    for name, row in grid.items():
        for figure, value in row.items():
            if figure in intervals:
                low, high = value or (None, None)
                found.setdefault(f"{figure} from", {})[name] = low
                found.setdefault(f"{figure} to", {})[name] = high
            else:
                found.setdefault(figure, {})[name] = value
    return found


def alive_grid(fit: Any, days: int) -> Grid:
    """Return P(alive) and P(no order) by repeat orders and days since the last.

    Of customers who came 39 weeks ago; `fit` is a BgNbd.
    """
    idle = np.array([0, 30, 90, 180, 270])
    age = np.full(len(idle), SPAN / 7)
    grid = {}
    for repeats in (0, 1, 2, 4, 8, 16):
        x = np.full(len(idle), repeats)
        live = fit.p_alive(x, age - idle / 7, age)
        buys = 1 - fit.p_none(x, age, days / 7)
        none = 1 - live * buys
        row = {}
        for place, silent in enumerate(idle):
            row[f"alive, {silent} d"] = float(live[place])
        for place, silent in enumerate(idle):
            row[f"none, {silent} d"] = float(none[place])
        grid[f"{repeats}"] = row
    return grid


def strip(said: float, seen: float) -> str:
    """Return a line from 0 to 1 with marks at what was said (s) and seen (o)."""
    line = list("." * STRIP)
    line[round((STRIP - 1) * seen)] = "o"
    line[round((STRIP - 1) * said)] = "s"
    return "".join(line)


def reliability(chances: Mapping[str, Floats], gone: Bools) -> Grid:
    """Return by tenths of each model's chances what it said, and what was seen."""
    grid = {}
    for name, chance in chances.items():
        for k, rows in enumerate(tenths(chance), 1):
            said = float(chance[rows].mean())
            seen = rate_of(gone[rows])
            grid[f"{name} {k}"] = {
                "said (s)": said,
                "seen (o)": seen.rate,
                "95 %": (seen.low, seen.high),
                "0 to 1": strip(said, seen.rate),
            }
    return grid


def lift(spent: Floats, forecast: Floats) -> Grid:
    """Return the spend of each tenth by forecast, best first, over the mean."""
    mean = float(spent.mean()) or 1.0
    grid = {}
    for k, rows in enumerate(tenths(-forecast), 1):
        times = float(spent[rows].mean()) / mean
        bar = "#" * round(5 * times)
        grid[f"{k}"] = {"times mean": times, "": bar}
    return grid


def retention(customer: Ints, day: Ints, last: int) -> Grid:
    """Return by month of the first order what share bought k months later.

    Of the last twelve cohorts, of orders up to the day `last`.
    """
    tomorrow = date.fromordinal(last + 1)
    stop = int(np.datetime64(tomorrow, "M").astype(np.int64))
    who, when = order_days(customer, day)
    since_1970 = (when - EPOCH).astype("datetime64[D]")
    month = since_1970.astype("datetime64[M]").astype(np.int64)
    first = starts(who)
    order_count = np.diff(np.append(first, len(who)))
    joined = np.repeat(month[first], order_count)
    grid = {}
    for cohort in np.unique(joined)[-12:].tolist():
        mine = joined == cohort
        # Trap: months that have not happened yet, drawn as zero: every cohort seems
        # to die. Only those that are over are counted.
        months = stop - cohort
        # A customer and a month in one integer: several orders a month count once.
        later = month[mine] - cohort
        pairs = np.unique(who[mine] << BITS | later)
        count = np.bincount(pairs & DAY, minlength=months)
        shares = (count[1:months] / count[0]).tolist()
        row = {f"+{k}": share for k, share in enumerate(shares, 1)}
        grid[str(np.datetime64(cohort, "M"))] = row
    return grid


def tracking(forecast: Any, customer: Ints, day: Ints) -> Grid:
    """Return repeat orders by week, and those expected by a forecast's fit.

    Of the orders of the customers who were known when the forecast was made.
    """
    t = forecast.table
    known = np.isin(customer, t.customer)
    who, when = order_days(customer[known], day[known])
    repeat = np.delete(when, starts(who))
    begin = int(when.min())
    # Who first bought on the same day is expected to buy the same from then on.
    joined_on = t.as_of - t.age - begin
    joined, count = np.unique(joined_on, return_counts=True)
    none = np.zeros(len(joined), np.int64)
    end = t.as_of + forecast.days - begin
    grid = {}
    steps = np.linspace(0, end, 14, dtype=int)
    for now in steps[1:].tolist():
        weeks = (now - joined).clip(0) / 7
        orders = forecast.bgnbd.expected(none, none / 7, weeks)
        seen = float((repeat <= begin + now).sum())
        grid[f"{now // 7}"] = {"actual": seen, "expected": float(count @ orders)}
    return grid
