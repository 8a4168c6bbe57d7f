"""Amounts of rows: a column, a quantity times a price, or none; in one currency."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from course.analytics.amounts import LARGEST_AMOUNT, currency_code, read_amounts
from course.analytics.arrays import Bools, Floats, Ints
from course.analytics.rawrows import RawRows, TextColumn, coded
from course.analytics.rules import ReadingRules
from course.errors import BadInput

HALF_A_CENT = 0.005
FEWEST_SUMMED = 10  # amounts that are paid
LARGE_PART = 4


class Money(NamedTuple):
    """The amounts of all rows."""

    amount: Floats  # NaN where it cannot be read, negative for a refund
    worth: Floats  # what can be read of them at all
    currency: Sequence[str]  # the different ones that are written
    of_row: Ints  # which one each row has
    said: str


def money_of(raw: RawRows, rules: ReadingRules) -> Money:
    """Return amounts: a column, a quantity times a price, or 1 for each row."""
    rows = len(raw.lines)
    roles = [
        role for role in ("amount", "quantity", "unit price") if role in raw.columns
    ]
    amount = np.ones(rows)
    worth = np.ones(rows)
    said: dict[str, str] = {}
    currency = TextColumn([""], np.zeros(rows, np.int64))
    for role in roles:
        if role in raw.numbers:
            values = anyhow = raw.numbers[role]
        else:
            column = raw.columns[role]
            found = read_amounts(column.texts, rules.decimal, f"the column {role}")
            codes = column.rows
            values = found.value[codes]
            anyhow = found.anyhow[codes]
            said[role] = found.style.said
            if any(found.currency):
                currency = coded(found.currency, codes)
        if role == "unit price":
            # Where quantity and price have a minus, it is a refund all the same.
            amount[(amount < 0) & (values < 0)] *= -1
        amount = amount * values
        worth = worth * anyhow
    if "quantity" in roles:
        amount = amount.round(6)  # 6 x 2.55 is 15.3, and a refund has to equal it
        amount[np.abs(amount) >= LARGEST_AMOUNT] = np.nan  # as where it is written
        said = {"": "quantity x unit price", **said}
    if "currency" in raw.columns:
        column = raw.columns["currency"]
        currency = coded([currency_code(text) for text in column.texts], column.rows)
    how = ", ".join(dict.fromkeys(said.values())) if roles else "none"
    if roles and not said:
        how = "numbers"
    return Money(amount, worth, currency.texts, currency.rows, how)


def sums_of_rows(money: Money) -> Bools:
    """Return which rows hold the sum of all rows above, as a table has it at its end.

    The amounts above are many, so that none of them can be their sum by chance.
    """
    worth = money.worth
    readable = np.isfinite(worth)
    found = np.zeros(len(worth), bool)
    # A sum of all that is above is a large part of the whole: few rows are.
    whole = np.sum(worth, where=readable)
    large = np.flatnonzero(worth > abs(whole) / LARGE_PART)
    for row in large[-LARGE_PART:].tolist():
        above = worth[:row]
        paid = above[above > 0]
        off = worth[row] - np.sum(above, where=readable[:row])
        # Where most was paid back, what is left may be a single order.
        summed = len(paid) >= FEWEST_SUMMED and paid.sum() < 2 * worth[row]
        found[row] = summed and abs(off) < HALF_A_CENT
    return found


def only_currency(money: Money, asked: str | None) -> tuple[Bools, str]:
    """Return which rows have another currency than is read, and the one that is.

    Raises BadInput if there are several and none is asked for.
    """
    counts = np.bincount(money.of_row, minlength=len(money.currency))
    used = {
        name: int(count)
        for name, count in zip(money.currency, counts, strict=True)
        if name and count
    }
    if asked is None and len(used) > 1:
        said = ", ".join(f"{name} {count:,}" for name, count in used.items())
        raise BadInput(f"amounts of several currencies ({said}); say --currency NAME")
    wanted = currency_code(asked or next(iter(used), ""))
    if asked is not None and used and wanted not in used:
        raise BadInput(f"--currency {asked}: there is {', '.join(used)}")
    # An amount without a currency is taken to have the one that the others have.
    allowed = {wanted, ""} if asked is None or not used else {wanted}
    other = [bool(name not in allowed) for name in money.currency]
    return np.array(other, bool)[money.of_row], wanted
