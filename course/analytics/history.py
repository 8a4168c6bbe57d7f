"""What a log's own history does to its figures: where it begins, season, growth."""

from __future__ import annotations

from typing import Any

import numpy as np

from course.analytics.arrays import EPOCH_DAY, order_days, starts

MONTH_DAYS = 30
QUARTER = 91  # days
YEAR_DAYS = 365  # days


def history_figures(log: Any, as_of: int) -> dict[str, Any]:
    """Return one figure each on left truncation, season and growth; None if unknown."""
    known = log.day <= as_of
    who, when = order_days(log.customer[known], log.day[known])
    first = when[starts(who)]
    begin = int(when.min())
    early = int((first < begin + MONTH_DAYS).sum())
    return {
        "days": as_of - begin + 1,
        "first_orders_in_the_first_30_days": early,
        "first_orders": len(first),
        **busiest_month(when),
        "orders_of_91_days_over_a_year_before": growth(when, as_of),
    }


def busiest_month(when: Any) -> dict[str, Any]:
    """Return the month of a year that has most orders, as times the mean month.

    Only whole years count, the last ones: a month that comes twice would seem busy.
    """
    none = {"busiest_month": None, "times_mean_month": None}
    years = (int(when.max()) - int(when.min()) + 1) // YEAR_DAYS
    if not years:
        return none
    recent = when[when > int(when.max()) - years * YEAR_DAYS]
    days = (recent - EPOCH_DAY).astype("datetime64[D]")
    month = days.astype("datetime64[M]").astype(np.int64) % 12
    orders = np.bincount(month, minlength=12)
    busiest = int(orders.argmax())
    times = float(orders[busiest] / orders.mean())
    return {"busiest_month": busiest + 1, "times_mean_month": times}


def growth(when: Any, as_of: int) -> float | None:
    """Return the orders of the last 91 days over those a year earlier; None if none."""
    end = as_of - YEAR_DAYS
    if int(when.min()) > end - QUARTER:
        return None
    now = int((when > as_of - QUARTER).sum())
    then = int(((when > end - QUARTER) & (when <= end)).sum())
    return now / then if then else None


def history_facts(figures: dict[str, Any]) -> dict[str, str]:
    """Return the same as sentences of a report."""
    early = figures["first_orders_in_the_first_30_days"]
    of = figures["first_orders"]
    share = f"{early:,} of {of:,} ({early / of:.0%}) in the log's first 30 days"
    month = figures["busiest_month"]
    season = "unknown: the log is under a year long"
    if month:
        season = f"month {month} has {figures['times_mean_month']:.2f} times the mean"
    grown = figures["orders_of_91_days_over_a_year_before"]
    change = "unknown: no orders a year before the last 91 days"
    if grown is not None:
        change = f"{grown:.2f} times the orders of the same 91 days a year before"
    whole = figures["days"]
    reach = f"{whole:,}"
    if whole < YEAR_DAYS:
        reach += ": what is said of a year is carried on from them"
    return {
        "days of the log": reach,
        "first orders": f"{share}: who came before it seems new",
        "season, in no model": season,
        "growth, in no model": change,
    }
