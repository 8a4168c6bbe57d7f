"""Pictures of a backtest, as SVG by matplotlib."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from course.analytics.arrays import Grid
from course.analytics.grids import (
    alive_grid,
    column_names,
    lift,
    reliability,
    retention,
    tracking,
)


def reliability_of(record: Any) -> Grid:
    """Return what the rule and the chosen model said, and what was seen."""
    return reliability(record.chances_shown, record.gone)


def lift_of(record: Any) -> Grid:
    """Return the spend by tenths of the chosen forecast."""
    return lift(record.spent, record.amount)


def retention_of(record: Any) -> Grid:
    """Return who came back, by months; up to the end of log and backtest."""
    last = record.forecast.table.as_of + record.forecast.days
    last = max(last, int(record.log.day.max()))
    return retention(record.log.customer, record.log.day, last)


def alive_of(record: Any) -> Grid:
    """Return P(alive) beside P(no order), by the fit of the backtest."""
    return alive_grid(record.forecast.bgnbd, record.forecast.days)


def tracking_of(record: Any) -> Grid:
    """Return repeat orders by week, and those expected."""
    return tracking(record.forecast, record.log.customer, record.log.day)


def draw_reliability(ax: Any, grid: Grid) -> None:
    """Draw what each model said against what was seen; on the diagonal it was right."""
    ax.plot([0, 1], [0, 1], "k:", label="as said")
    models = dict.fromkeys(name.rpartition(" ")[0] for name in grid)
    for model in models:
        rows = [row for name, row in grid.items() if name.rpartition(" ")[0] == model]
        said = np.array([row["said (s)"] for row in rows])
        seen = np.array([row["seen (o)"] for row in rows])
        ends = np.array([row["95 %"] for row in rows]).T
        ax.errorbar(said, seen, np.abs(ends - seen), fmt="o-", label=model)
    ax.legend()


def draw_bars(ax: Any, grid: Grid) -> None:
    """Draw the first column as bars, beside a line at one."""
    heights = [next(iter(row.values())) for row in grid.values()]
    ax.bar(list(grid), heights)
    ax.axhline(1, color="black", linestyle=":")


def draw_heat(ax: Any, grid: Grid) -> None:
    """Draw all figures as colours; what is missing stays white."""
    names = column_names(grid)
    rows = [[row.get(name, math.nan) for name in names] for row in grid.values()]
    image = ax.imshow(rows, aspect="auto", vmin=0)
    ax.figure.colorbar(image, ax=ax)
    ax.set_xticks(range(len(names)), names, rotation=90)
    ax.set_yticks(range(len(grid)), list(grid))


def draw_lines(ax: Any, grid: Grid) -> None:
    """Draw each column as a line."""
    for name in next(iter(grid.values())):
        ax.plot(list(grid), [row[name] for row in grid.values()], "o-", label=name)
    ax.legend()


class Picture(NamedTuple):
    """A picture: its title, the names of its axes, its figures, and who draws them."""

    title: str
    x_label: str
    y_label: str
    grid: Callable[[Any], Grid]  # of a Backtest
    draw: Callable[[Any, Grid], None]


PICTURES = {
    "reliability": Picture(
        "churn said and seen",
        "said, by tenths",
        "seen, with 95 % intervals",
        reliability_of,
        draw_reliability,
    ),
    "lift": Picture(
        "spend by tenths of the forecast",
        "tenth by forecast",
        "spend, times the mean",
        lift_of,
        draw_bars,
    ),
    "retention": Picture(
        "customers who bought again",
        "months after the first order",
        "month of the first order",
        retention_of,
        draw_heat,
    ),
    "alive": Picture(
        "P(alive) beside P(no order)",
        "days since the last order",
        "repeat orders",
        alive_of,
        draw_heat,
    ),
    "tracking": Picture(
        "repeat orders by week", "week", "orders", tracking_of, draw_lines
    ),
}


def svg_of(picture: Picture, record: Any) -> bytes:
    """Return one picture of a backtest, the same in every run."""
    import matplotlib as mpl  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    # A fixed salt and no date: the same picture is the same file.
    with mpl.rc_context({"svg.hashsalt": "module8", "svg.fonttype": "none"}):
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        picture.draw(axes, picture.grid(record))
        axes.set(title=picture.title, xlabel=picture.x_label, ylabel=picture.y_label)
        out = io.BytesIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def pictures_of(record: Any) -> dict[str, bytes]:
    """Return each picture of a backtest as SVG; ImportError if it cannot be drawn."""
    return {name: svg_of(picture, record) for name, picture in PICTURES.items()}
