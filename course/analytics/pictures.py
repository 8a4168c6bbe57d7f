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


def cut_week(record: Any) -> float:
    """Return in which week of the log the forecast was made."""
    first = int(record.log.day.min())
    return float(record.forecast.table.as_of - first) / 7


def percent(value: float) -> str:
    """Return a share in words."""
    return f"{100 * value:.0f} %"


def farthest(grid: Grid, model: str) -> str:
    """Return by how many points a model was off where it was off most."""
    gaps = []
    for name, row in grid.items():
        if name.rpartition(" ")[0] == model:
            gaps.append(abs(row["said (s)"] - row["seen (o)"]))
    return f"{model} by up to {100 * max(gaps):.0f} points"


def reliability_says(record: Any, grid: Grid) -> str:
    """Return how far said and seen are apart."""
    models = [farthest(grid, model) for model in record.chances_shown]
    days = record.forecast.days
    return f"No order within {days} days, said and seen: off {', '.join(models)}."


def lift_says(record: Any, grid: Grid) -> str:
    """Return what the first and the last tenth spent."""
    times = [row["times mean"] for row in grid.values()]
    best = f"The tenth with the highest forecast spent {times[0]:.1f} times the mean"
    return f"{best}, the tenth with the lowest {times[-1]:.1f} times."


def retention_says(record: Any, grid: Grid) -> str:
    """Return how many of the first month shown came again, after one month and last."""
    month, row = next(iter(grid.items()))
    if not row:
        return f"Customers since {month}: no later month is over."
    first, *_, last = [*row.items(), *row.items()]
    said = f"Of those who first ordered in {month}, {percent(first[1])} ordered one"
    return f"{said} month later and {percent(last[1])} {last[0][1:]} months later."


def alive_says(record: Any, grid: Grid) -> str:
    """Return what P(alive) hides about those who ordered once."""
    once = next(iter(grid.values()))
    days = record.forecast.days
    none = percent(once["none, 0 d"])
    said = f"Who ordered once is alive with {percent(once['alive, 0 d'])}"
    return f"{said}, and yet orders nothing within {days} days with {none}."


def tracking_says(record: Any, grid: Grid) -> str:
    """Return how many repeat orders had come, and were expected, by the end."""
    week, row = list(grid.items())[-1]
    seen = f"By week {week} there were {row['actual']:,.0f} repeat orders"
    expected = f"{row['expected']:,.0f} were expected"
    return f"{seen}, {expected}; the forecast was made in week {cut_week(record):.0f}."


def draw_reliability(ax: Any, grid: Grid, record: Any) -> None:
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
    as_percents(ax.xaxis)
    as_percents(ax.yaxis)


def as_percents(axis: Any) -> None:
    """Label an axis of shares in percent."""
    from matplotlib.ticker import PercentFormatter  # noqa: PLC0415

    axis.set_major_formatter(PercentFormatter(1.0))


def draw_bars(ax: Any, grid: Grid, record: Any) -> None:
    """Draw the first column as bars, beside a line at one."""
    heights = [next(iter(row.values())) for row in grid.values()]
    ax.bar(list(grid), heights)
    ax.axhline(1, color="black", linestyle=":")


def draw_heat(ax: Any, grid: Grid, record: Any) -> None:
    """Draw all figures as colours; what is missing stays white."""
    names = column_names(grid)
    if not names:  # a log of one month
        return
    rows = [[row.get(name, math.nan) for name in names] for row in grid.values()]
    image = ax.imshow(rows, aspect="auto", vmin=0)
    bar = ax.figure.colorbar(image, ax=ax, label="share of customers")
    as_percents(bar.ax.yaxis)
    ax.set_xticks(range(len(names)), names, rotation=90)
    ax.set_yticks(range(len(grid)), list(grid))


def draw_lines(ax: Any, grid: Grid, record: Any) -> None:
    """Draw each column as a line, and a line where the forecast was made."""
    weeks = [int(name) for name in grid]
    for name in next(iter(grid.values())):
        ax.plot(weeks, [row[name] for row in grid.values()], "o-", label=name)
    ax.axvline(cut_week(record), color="black", linestyle="--", label="the cut")
    ax.legend()


class Picture(NamedTuple):
    """A picture: its words, its figures, and who draws them."""

    title: str
    x_label: str
    y_label: str
    grid: Callable[[Any], Grid]  # of a Backtest
    draw: Callable[[Any, Grid, Any], None]
    says: Callable[[Any, Grid], str]
    rows: str  # what a row of the grid is
    shares: frozenset[str] | None  # columns that are shares; None: all


PICTURES = {
    "reliability": Picture(
        "churn said and seen",
        "said: no order, by tenths of customers",
        "seen, with 95 % intervals",
        reliability_of,
        draw_reliability,
        reliability_says,
        "model and tenth",
        None,
    ),
    "lift": Picture(
        "spend by tenths of the forecast",
        "tenth of customers, highest forecast first",
        "spend, times the mean",
        lift_of,
        draw_bars,
        lift_says,
        "tenth",
        frozenset(),
    ),
    "retention": Picture(
        "customers who bought again",
        "months after the first order",
        "month of the first order",
        retention_of,
        draw_heat,
        retention_says,
        "first order",
        None,
    ),
    "alive": Picture(
        "P(alive) beside P(no order)",
        "days since the last order",
        "repeat orders",
        alive_of,
        draw_heat,
        alive_says,
        "repeat orders",
        None,
    ),
    "tracking": Picture(
        "cumulative repeat orders by week",
        "weeks since the first order of the log",
        "repeat orders, cumulative",
        tracking_of,
        draw_lines,
        tracking_says,
        "week",
        frozenset(),
    ),
}


def svg_of(picture: Picture, record: Any) -> bytes:
    """Return one picture of a backtest, the same in every run."""
    import matplotlib as mpl  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    # A fixed salt and no date: the same picture is the same file. Small, so that its
    # text can be read on a phone.
    fixed: Any = {"svg.hashsalt": "module8", "svg.fonttype": "none", "font.size": 11}
    with mpl.rc_context(fixed):
        figure = Figure(figsize=(5.6, 4), layout="constrained")
        axes = figure.subplots()
        picture.draw(axes, picture.grid(record), record)
        title = picture.title[0].upper() + picture.title[1:]
        axes.set(title=title, xlabel=picture.x_label, ylabel=picture.y_label)
        out = io.BytesIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def pictures_of(record: Any) -> dict[str, bytes]:
    """Return each picture of a backtest as SVG; ImportError if it cannot be drawn."""
    return {name: svg_of(picture, record) for name, picture in PICTURES.items()}
