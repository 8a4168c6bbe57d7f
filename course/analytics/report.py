"""What a study's page shows: tables in words, and pictures with what they say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from course.analytics.arrays import Grid, iso
from course.analytics.page import Report, Shown, Table
from course.analytics.pictures import PICTURES
from course.analytics.wording import how_many

NO_MATPLOTLIB = (
    "The pictures are drawn by matplotlib, which is not installed: pip install "
    "matplotlib. What they would say stands here, their figures below."
)
NO_BACKTEST = "No backtest: the log is too short, so nothing here has been tested."
DRAWN = frozenset({"0 to 1", ""})  # columns that are charts of characters
# Figures of a segment: what they are called, in how many words fit a phone.
NAMES = {
    "customers": "customers",
    "share": "of all customers",
    "spend": "spent so far",
    "predicted_churn": "expected: no order in {days} days",
    "predicted_ltv": "worth in a year",
    "ltv_95": "95 %, with the backtest's miss",
    "observed_of": "backtest: customers then",
    "backtest_churn": "backtest: said, no order",
    "observed_churn": "backtest: seen, no order",
    "observed_95": "95 % of that",
    "observed_spend_share": "backtest: of all spend",
    "observed_share_95": "95 % of this share",
}
SHARES = (
    "share",
    "predicted_churn",
    "backtest_churn",
    "observed_churn",
    "observed_95",
    "observed_spend_share",
    "observed_share_95",
)


def segment_table(segments: Grid, days: int) -> Table:
    """Return the segments as columns, their figures as rows, in words."""
    grid: dict[str, dict[str, Any]] = {}
    for figure, words in NAMES.items():
        if any(figure in row for row in segments.values()):
            of_each = {name: row.get(figure) for name, row in segments.items()}
            grid[words.format(days=days)] = of_each
    shares = frozenset(NAMES[name].format(days=days) for name in SHARES)
    caption = f"Segments now, and in the backtest over {how_many(days, 'day')}"
    return Table("", caption, grid, shares, fits=True)


def without_charts(grid: Grid) -> Grid:
    """Return a grid without the columns that draw in characters."""
    found = {}
    for name, row in grid.items():
        found[name] = {key: value for key, value in row.items() if key not in DRAWN}
    return found


def score_tables(scores: Mapping[str, Grid]) -> list[Table]:
    """Return how good each model was: churn and value."""
    churn = "Churn: how well each model told who orders nothing"
    value = "Value: errors of each model in the log's currency, by customer"
    shares = frozenset({"bias", "top_decile_share"})
    return [
        Table("churn model", churn, scores["churn"]),
        Table("value model", value, scores["value"], shares),
    ]


def report_of(study: Any, drawn: Mapping[str, bytes] | None) -> Report:
    """Return a Study as a page shows it; `drawn` is None without matplotlib."""
    days = study.now.days
    pictures = []
    tables = []
    if study.record:
        tables += score_tables(study.record.scores)
        for name, picture in PICTURES.items():
            grid = picture.grid(study.record)
            says = picture.says(study.record, grid)
            svg = drawn[name] if drawn else None
            pictures.append(Shown(picture.title, says, svg))
            plain = without_charts(grid)
            table = Table(picture.rows, picture.title, plain, picture.shares)
            tables.append(table)
    missing = None if drawn else NO_MATPLOTLIB
    if not study.record:
        missing = NO_BACKTEST
    chosen = f"{study.now.churn_model} for churn, {study.now.value_model} for value"
    last = iso(study.now.table.as_of)
    ahead = how_many(days, "day")
    return Report(
        name=study.name,
        subject=f"As of {last}, for {ahead} after it. Models: {chosen}.",
        sentences=study.insights,
        segments=segment_table(study.segments, days),
        pictures=pictures,
        missing=missing,
        tables=tables,
        facts=study.facts(),
    )
