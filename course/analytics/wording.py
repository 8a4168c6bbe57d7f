"""Predictions as lines of text: what is said, and how it went for others."""

from __future__ import annotations

from typing import Any

from course.analytics.grids import cell
from course.analytics.nearest import Mean


def spoken(prediction: Any, days: int) -> list[str]:
    """Return a lesson's Prediction as text: the answer, then the record, by name."""
    kind = prediction.kind.value
    said = {
        "churn": said_of_churn,
        "lifetime_value": said_of_value,
        "next_purchase": said_of_next,
    }[kind]
    lines = said(prediction, days)
    if prediction.observed:  # of the backtest's days
        lines.append(record_of(prediction))
    names = [kind] + [""] * (len(lines) - 1)
    return [f"{name:16}{line}" for name, line in zip(names, lines, strict=True)]


def how_many(count: int, what: str) -> str:
    """Return 1 day, 2 days, 1,000 days."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def money(*values: float) -> str:
    """Return amounts, in cents, as an interval if there are several."""
    return " to ".join(f"{value:,.2f}" for value in values)


def said_of_churn(prediction: Any, days: int) -> list[str]:
    """Return a chance of churn as text."""
    chance = cell(prediction.value)
    within = how_many(days, "day")
    return [f"{chance} that no order comes within {within}, by {prediction.model}"]


def said_of_value(prediction: Any, days: int) -> list[str]:
    """Return a lifetime value as text: the mean, and apart from it what is no mean."""
    low, middle, high = prediction.futures
    mean = f"{money(prediction.value)} on average, by {prediction.model}"
    if prediction.low is not None:
        mean += f"; by the record {money(prediction.low, prediction.high)}"
    futures = f"{money(low, high)} in 80 % of the futures, median {money(middle)}"
    return [mean, futures]


def said_of_next(prediction: Any, days: int) -> list[str]:
    """Return when the next order is due as text; beyond the horizon only its chance."""
    chance = f"{prediction.probability:.2f}"
    if prediction.value is None:
        within = how_many(days, "day")
        return [f"not within {within} (chance {chance}), by {prediction.model}"]
    due = how_many(round(prediction.value), "day")
    within = f"within {due} as likely as not, by"
    return [f"{within} {prediction.model} {chance}"]


def record_of(prediction: Any) -> str:
    """Return what happened within the days to those who were told nearly the same."""
    seen = prediction.observed
    if isinstance(seen, Mean):
        who = f"{seen.n} were told {money(*prediction.told)}"
        spent = f"{money(seen.mean)} (95 % {money(seen.low, seen.high)})"
        return f"{who} and spent {spent}"
    happened = {"churn": "ordered nothing", "next_purchase": "ordered"}
    what = happened[prediction.kind.value]
    who = f"{seen.n} were told {cell(prediction.told)}"
    return f"{who}; {cell(seen.rate)} (95 % {cell((seen.low, seen.high))}) {what}"
