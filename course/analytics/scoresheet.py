"""A table of all customers with what is forecast of each, as CSV or Parquet."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from course.analytics.arrays import Floats, iso
from course.analytics.frames import polars_or_none, pyarrow_or_none
from course.analytics.quantiles import spend_quantiles
from course.columns import visible
from course.errors import BadInput

Column = Sequence[Any]
FORMULA = re.compile(r"\s*[=+\-@\t\r\uff0b\uff0d\uff1d\uff20]")
OUTER = (0.1, 0.9)  # between them lie 80 % of all futures


def saved_as(path: Path) -> Callable[[Mapping[str, Column]], bytes]:
    """Return what turns a table into such a file; BadInput if nothing does."""
    kind = path.suffix.lower()
    if kind == ".csv":
        return csv_of
    if kind != ".parquet":
        raise BadInput(f"--scores {visible(str(path))}: it writes .csv or .parquet")
    if pyarrow_or_none() is None and polars_or_none() is None:
        raise BadInput("--scores: to write Parquet, pip install pyarrow (or polars)")
    return parquet_of


def csv_of(table: Mapping[str, Column]) -> bytes:
    """Return a table as CSV; what is not known is empty.

    A spreadsheet takes =1+1 for a formula, and runs it: such a name is given a quote.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    others = [column for name, column in table.items() if name != "customer"]
    for name, *row in zip(table["customer"], *others, strict=True):
        text.write(f"{quoted_name(no_formula(name))},")
        writer.writerow(row)
    return text.getvalue().encode()


def quoted_name(name: str) -> str:
    """Return a name in quotes where any spreadsheet would cut it.

    In Europe one cuts at semicolons, and =1+1 behind such a mark is a formula as well.
    """
    if re.search(r'[",;\t|\r\n]', name) is None:
        return name
    quotes = '""'
    return f'"{name.replace(quotes[0], quotes)}"'


def no_formula(name: str) -> str:
    """Return a name that no spreadsheet runs; numbers such as -5 and +49170 stay."""
    if FORMULA.match(name) and not re.fullmatch(r"[-+]?\d+([.,]\d+)?", name):
        return f"'{name}"
    return name


def parquet_of(table: Mapping[str, Column]) -> bytes:
    """Return a table as Parquet; what is not known is null."""
    content = io.BytesIO()
    pyarrow = pyarrow_or_none()
    if pyarrow is not None:
        pyarrow.parquet.write_table(pyarrow.table(dict(table)), content)
    else:
        polars_or_none().DataFrame(dict(table)).write_parquet(content)
    return content.getvalue()


def listed(column: Floats, digits: int) -> list[float | None]:
    """Return figures rounded as far as they mean anything; None for none."""
    rounded = np.asarray(column, np.float64).round(digits)
    return [value if math.isfinite(value) else None for value in rounded.tolist()]


def skill_of(scores: Mapping[str, Any], model: str, error: str) -> float | None:
    """Return the share of a constant's squared error that a model saved."""
    if model not in scores or not scores["constant"][error]:
        return None
    power = 2 if error == "rmse" else 1
    left = scores[model][error] / scores["constant"][error]
    return round(1 - float(left) ** power, 4)


def score_table(
    forecast: Any, record: Any, segments: Sequence[str]
) -> dict[str, Column]:
    """Return a row for each customer: what is known, what is forecast, by whom.

    From value_low to value_high lie at least 80 % of the futures, and their mean. A
    next order is named if it is as likely as not within the horizon.
    """
    t = forecast.table
    n = len(t.x)
    scores = record.scores if record else {"churn": {}, "value": {}}
    churn_model = forecast.churn_model
    value_model = forecast.value_model
    value = np.asarray(forecast.value[value_model])
    futures = spend_quantiles(forecast, np.arange(n), forecast.days, OUTER)
    low, high = futures.quantiles.T
    due = forecast.days_until(np.arange(n), 0.5)
    last = (t.as_of - t.days_since_last).tolist()
    next_order = [
        iso(t.as_of + math.ceil(days)) if math.isfinite(days) else None
        for days in due.tolist()
    ]
    money: dict[str, Column] = {
        "total_spend": listed(t.spend, 2),
        "expected_value": listed(value, 2),
        "value_low": listed(np.minimum(low, value), 2),
        "value_high": listed(np.maximum(high, value), 2),
    }
    if not forecast.log.has_amounts:
        money = dict.fromkeys(money, [None] * n)
    return {
        "customer": [str(forecast.log.ids[code]) for code in t.customer.tolist()],
        "segment": list(segments),
        "orders": (t.x + 1).tolist(),
        "total_spend": money["total_spend"],
        "last_order": [iso(day) for day in last],
        "churn_probability": listed(forecast.churn[churn_model], 6),
        "churn_model": [churn_model] * n,
        "churn_skill": [skill_of(scores["churn"], churn_model, "brier")] * n,
        "expected_orders": listed(forecast.orders, 6),
        "expected_value": money["expected_value"],
        "value_low": money["value_low"],
        "value_high": money["value_high"],
        "value_model": [value_model] * n,
        "value_skill": [skill_of(scores["value"], value_model, "rmse")] * n,
        "next_order": next_order,
        "horizon_days": [forecast.days] * n,
        "as_of": [iso(t.as_of)] * n,
    }
