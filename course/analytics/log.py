"""A log of purchases as columns, cast and checked at the door."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from course.analytics.arrays import Bools, Floats, Ints, ordinals, plain_array, whole
from course.analytics.frames import frame_columns, parquet_columns
from course.analytics.read import purchase_columns
from course.analytics.rules import ReadingRules, require_few_refused
from course.analytics.textfile import is_parquet
from course.errors import BadInput


@dataclass(frozen=True)
class TransactionLog:
    """Purchases as columns of one length; customers and items are codes from 0.

    Columns of any type of whole numbers, and Series, are cast; BadInput says what
    cannot be a column.
    """

    customer: Ints  # place in `ids`
    day: Ints  # ordinal, as in date.toordinal(); datetime64 is turned into it
    amount: Floats
    ids: Sequence[str] | range
    item: Ints | None = None  # place in `items`
    items: Sequence[str] = ()
    refused: Mapping[str, Sequence[int]] = field(default_factory=dict)  # reason: lines
    read: Mapping[str, str] = field(default_factory=dict)  # role: column of the file
    reading: Mapping[str, Any] = field(default_factory=dict)  # how it was understood

    def __post_init__(self) -> None:
        """Cast and check the columns."""
        # Trap: codes as pandas and polars give them, 8 to 32 bits wide. Packed with a
        # day into one integer they overflow in silence, and customers merge.
        columns = checked_columns(self.customer, self.day, self.amount, self.item)
        check_codes("customer", columns["customer"], len(self.ids))
        if self.item is not None:
            check_codes("item", columns["item"], len(self.items))
        vars(self).update(columns)

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        *,
        customer: str,
        date: str,
        amount: str | None = None,
        item: str | None = None,
        accept_refused: bool = False,
        **rules: Any,
    ) -> TransactionLog:
        """Return the log in a frame: pandas, polars, pyarrow, or a dict of columns.

        Each argument names a column; without `amount` each order counts as 1. Texts
        are understood as in a file, with the same `rules`, such as date_format="dmy".
        Rows without a customer, a date or an amount are refused; BadInput if they are
        over 1 %, unless that is accepted.
        """
        names = {"customer": customer, "date": date, "amount": amount, "item": item}
        asked = {role: name for role, name in names.items() if name is not None}
        columns = frame_columns(frame, asked, ReadingRules(**rules))
        log = cls(**columns._asdict())
        if not accept_refused:
            require_few_refused(log, "accept_refused=True")
        return log

    @cached_property
    def codes(self) -> dict[str, int]:
        """The code of each id."""
        codes = {str(name): code for code, name in enumerate(self.ids)}
        if len(codes) < len(self.ids):
            raise BadInput("two customers of the log have one name")
        return codes

    @property
    def last_day(self) -> int:
        """The day of the last order; BadInput if there is none."""
        if not len(self.day):
            raise BadInput("the log has no orders")
        return int(self.day.max())

    @property
    def has_amounts(self) -> bool:
        """Whether amounts are money; where there are none, each order counts as 1."""
        return self.reading.get("amounts") != "none"

    def where(self, keep: Bools) -> TransactionLog:
        """Return the log of those rows; itself, if those are all."""
        if keep.all():
            return self
        return replace(
            self,
            customer=self.customer[keep],
            day=self.day[keep],
            amount=self.amount[keep],
            item=None if self.item is None else self.item[keep],
        )


def checked_columns(customer: Any, day: Any, amount: Any, item: Any) -> dict[str, Any]:
    """Return the columns as the log keeps them; BadInput if one cannot be that."""
    found = {
        "customer": whole("customer", customer),
        "day": ordinals(day),
        "amount": amounts_given(amount),
    }
    if item is not None:
        found["item"] = whole("item", item)
    lengths = {name: len(column) for name, column in found.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{name} {count:,}" for name, count in lengths.items())
        raise BadInput(f"columns of one length are needed: {said}")
    return found


def amounts_given(column: Any) -> Floats:
    """Return amounts as floats; BadInput for what no order costs."""
    given = plain_array("amount", column)
    if given.dtype.kind in "bMmc":
        raise BadInput(f"the column amount holds {given.dtype}, not numbers")
    try:
        found: Floats = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        raise BadInput("the column amount holds no numbers") from None
    if not np.isfinite(found).all():
        raise BadInput("the column amount holds NaN or infinity")
    if len(found) and found.min() < 0:
        raise BadInput("the column amount holds refunds: take them out, or net them")
    return found


def check_codes(name: str, codes: Ints, known: int) -> None:
    """Raise BadInput for a code without a name, such as -1 for a missing one."""
    if not len(codes):
        return
    if codes.min() < 0:
        raise BadInput(f"the column {name} holds {codes.min()}: codes begin at 0")
    if codes.max() >= known:
        said = f"the column {name} holds the code {codes.max():,}"
        raise BadInput(f"{said}, and there are {known:,} names")


def read_log(path: Path, columns: str | None = None, **rules: Any) -> TransactionLog:
    """Return the purchases in a CSV or Parquet file; BadInput if it is unusable.

    `rules` are those of ReadingRules: columns, decimal, date_format, currency.
    """
    known = ReadingRules(columns=columns, **rules)
    read = parquet_columns if is_parquet(path) else purchase_columns
    found = read(path, known)
    return TransactionLog(**found._asdict())
