"""What the models are fitted to, checked at the door: nothing is cast in silence."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from course.analytics.arrays import BITS, DAY, Floats, Ints, plain_array, whole
from course.errors import BadInput

MOST_REPEATS = (1 << 63 - 2 * BITS) - 1  # that fit beside two times in one integer
MOST_PAID = (1 << 15) - 1  # repeat orders that fit beside their sum in one


class Times(NamedTuple):
    """x, t_x and T of each row, and how many customers it stands for, if not one."""

    x: Ints
    t_last: Ints
    age: Ints
    customers: Ints | None


class Spends(NamedTuple):
    """x and the mean of repeat orders of each row, and its customers."""

    x: Ints
    mean: Floats
    customers: Ints | None


def require_one_length(**columns: Any) -> None:
    """Raise BadInput for columns of several lengths."""
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{name} {length:,}" for name, length in lengths.items())
        raise BadInput(f"columns of one length are needed: {said}")


def with_count(rows: dict[str, Ints], count: Ints | None) -> dict[str, Ints]:
    """Return columns, and with them the number of customers if there is one."""
    return rows if count is None else {**rows, "count": count}


def within(name: str, column: Ints, most: int) -> Ints:
    """Return a column of counts, or BadInput for one below 0 or above the most."""
    if len(column) and (column.min() < 0 or column.max() > most):
        found = column.min() if column.min() < 0 else column.max()
        raise BadInput(f"the column {name} holds {found:,}: it takes 0 to {most:,}")
    return column


def counted(count: Any) -> Ints:
    """Return how many customers each row stands for."""
    return within("count", whole("count", count), 1 << 53)


def checked_times(x: Any, t_last: Any, age: Any, count: Any = None) -> Times:
    """Return the columns of BG/NBD as whole numbers; BadInput for what cannot be."""
    found = Times(
        within("x", whole("x", x), MOST_REPEATS),
        within("t_last", whole("t_last", t_last), DAY),
        within("age", whole("age", age), DAY),
        None if count is None else counted(count),
    )
    rows = {"x": found.x, "t_last": found.t_last, "age": found.age}
    require_one_length(**with_count(rows, found.customers))
    if (found.t_last > found.age).any():
        raise BadInput("t_last is above age: both begin with the first order")
    # Trap: the days since the last order in the place of t_last. Both are "recency".
    if (found.t_last[found.x == 0] > 0).any():
        said = "it runs from the first order to the last"
        raise BadInput(f"t_last is above 0 where x is 0: {said}, not to today")
    return found


def checked_spends(x: Any, mean_spend: Any, count: Any = None) -> Spends:
    """Return the columns of Gamma-Gamma; BadInput for what cannot be one.

    A mean may be missing where there are no repeat orders.
    """
    orders = within("x", whole("x", x), MOST_PAID)
    try:
        mean = np.array(plain_array("mean_spend", mean_spend), np.float64)
    except (TypeError, ValueError):
        raise BadInput("the column mean_spend holds no numbers") from None
    customers = None if count is None else counted(count)
    rows = {"x": orders, "mean_spend": mean}
    require_one_length(**with_count(rows, customers))
    mean[orders == 0] = 0
    if not np.isfinite(mean).all() or (mean < 0).any():
        said = "NaN, infinity or less than 0"
        raise BadInput(f"the column mean_spend holds {said} where x is above 0")
    return Spends(orders, mean, customers)
