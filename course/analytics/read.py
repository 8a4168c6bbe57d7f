"""A log of purchases out of a file: rows into columns, and what is refused of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from course.analytics.arrays import Bools, Floats, Ints
from course.analytics.columns import STATUS, column_positions
from course.analytics.customers import customers_of
from course.analytics.dates import read_dates, readings, without_clock
from course.analytics.money import money_of, only_currency, sums_of_rows
from course.analytics.orders import CutAmounts, is_cancelled
from course.analytics.rawrows import RawRows, TextColumn, coded
from course.analytics.refunds import net_refunds
from course.analytics.rules import (
    CANCELLED_ORDER,
    FIRST,
    FUTURE_DATE,
    OTHER_CURRENCY,
    PLACEHOLDER,
    REFUND,
    ROUNDED_NAME,
    SUM_OF_ROWS,
    UNREADABLE_DATE,
    ReadingRules,
    Refusal,
    date_cure,
    refusals,
)
from course.analytics.textfile import SEPARATORS, Rows, lines_of, plain_name
from course.columns import visible
from course.errors import BadInput
from course.services import PROJECT

LONGEST_ROW = 20  # lines; an address has fewer
DRAWN_LINE = (
    "-=_+: \t\x1a"  # around a table as a terminal shows it; and an old file end
)
SWALLOWED = "within quotes that do not end"
OPTIONAL = {"item", "currency"}  # a row may end before them, or before its status


class PurchaseColumns(NamedTuple):
    """What a file held: columns of one length, and what was refused."""

    customer: Ints
    day: Ints
    amount: Floats
    ids: Sequence[str]
    item: Ints | None
    items: Sequence[str]
    refused: Mapping[str, Sequence[int]]  # reason: lines
    read: Mapping[str, str]  # role: column of the file
    reading: Mapping[str, Any]  # how it was understood


def sample_file() -> Path:
    """Return where the sample lies: in data/, or beside a lesson made one file."""
    name = "cdnow_sample.csv"
    beside = PROJECT / name
    return beside if beside.is_file() else PROJECT / "data" / name


class Refuser:
    """Says no to rows, each for the first reason that there is."""

    def __init__(self, raw: RawRows, worth: Floats) -> None:
        self.raw = raw
        self.worth = worth  # what could be read of each row's amount
        self.lines = np.asarray(raw.lines, np.int64)
        self.keep = np.ones(len(self.lines), bool)
        self.details: dict[str, Refusal] = {}
        for why, rows in raw.misshapen.items():
            first = [text for _, text in rows[:FIRST]]
            self.details[why] = Refusal([line for line, _ in rows], first, 0.0)

    def refuse(self, why: str, bad: Bools, role: str) -> None:
        """Refuse these rows; the values that are shown are of a role."""
        rows = np.flatnonzero(bad & self.keep)
        if not len(rows):
            return
        self.keep[rows] = False
        first = [self.raw.text_of(role, int(row)) for row in rows[:FIRST]]
        lines = self.lines[rows].tolist()
        total = float(np.nansum(self.worth[rows]))
        before = self.details.get(why)
        if before:
            lines = sorted([*before.lines, *lines])
            first = [*before.values, *first][:FIRST]
            total += before.sum
        self.details[why] = Refusal(lines, first, total)

    @property
    def refused(self) -> dict[str, Sequence[int]]:
        """The lines of each reason."""
        return {why: one.lines for why, one in self.details.items()}


def understood(
    raw: RawRows,
    rules: ReadingRules,
    read: Mapping[str, str],
    reading: Mapping[str, Any],
) -> PurchaseColumns:
    """Return the columns of raw rows, without those that cannot be used.

    Raises BadInput if nothing decides how a column is written.
    """
    about = dict(reading)
    if raw.days is None:
        dates = raw.columns["date"]
        found = read_dates(dates.texts, rules.date_format, "the dates")
        day = found.day[dates.rows]
        about["dates"] = found.said
    else:
        day = raw.days
        about["dates"] = "dates"
    money = money_of(raw, rules)
    about["amounts"] = money.said
    other_currency, about["currency"] = only_currency(money, rules.currency)
    customers = raw.columns["customer"]
    who = customers_of(customers.texts, customers.rows)
    nameless = np.array([not name for name in who.names], bool)
    refuser = Refuser(raw, money.worth)
    refuser.refuse(UNREADABLE_DATE, day == 0, "date")
    refuser.refuse(FUTURE_DATE, day > today(), "date")
    refuser.refuse("no customer", nameless[customers.rows], "amount")
    nobody = np.array(who.placeholders, bool)
    refuser.refuse(PLACEHOLDER, nobody[customers.rows], "customer")
    rounded = np.array(who.rounded, bool)
    refuser.refuse(ROUNDED_NAME, rounded[customers.rows], "customer")
    if who.names != customers.texts:
        customers = coded(who.names, customers.rows)
    refuse_cancelled(refuser)
    shown = "amount" if "amount" in raw.columns else "quantity"
    refuser.refuse(SUM_OF_ROWS, sums_of_rows(money), "customer")
    refuser.refuse(OTHER_CURRENCY, other_currency, "currency")
    refuser.refuse("unreadable amount", np.isnan(money.amount), shown)
    items = raw.columns.get("item")
    about["refunds"] = net_refunds(
        refuser,
        customers.rows,
        day,
        money.amount,
        None if items is None else items.rows,
    )
    refuser.refuse(REFUND, money.amount < 0, shown)
    about["refused"] = refuser.details
    if not refuser.keep.any() and not refuser.details:
        raise BadInput("no row is usable: a refund cancels each order")
    if not refuser.keep.any():
        first = next(iter(refuser.details.values())).values
        shown = f", such as {first[0]!r}" if first else ""
        said = f"{refusals(refuser.refused)}{shown}{date_cure(refuser.refused)}"
        raise BadInput(f"no row is usable: {said}")
    keep = refuser.keep
    customer, ids = renumbered(customers, keep)
    amount = money.amount[keep]
    if money.said == "none":
        amount = one_a_day(customer, day[keep])
    item, names = (None, []) if items is None else renumbered(items, keep)
    return PurchaseColumns(
        customer=customer,
        day=day[keep],
        amount=amount,
        ids=ids,
        item=item,
        items=names,
        refused=refuser.refused,
        read=dict(read),
        reading=about,
    )


def refuse_cancelled(refuser: Refuser) -> None:
    """Refuse the rows of which any column of states says that there is no order."""
    for role, status in refuser.raw.columns.items():
        if role.startswith(STATUS):
            off = np.array([is_cancelled(text) for text in status.texts], bool)
            refuser.refuse(CANCELLED_ORDER, off[status.rows], role)


def one_a_day(customer: Ints, day: Ints) -> Floats:
    """Return amounts with which each customer's orders of a day sum to 1."""
    pairs = np.column_stack([customer, day])
    _, place, count = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    return np.asarray(1 / count[place.ravel()])


def renumbered(column: TextColumn, keep: Bools) -> tuple[Ints, list[str]]:
    """Return the codes of the rows that are kept, without gaps, and their texts."""
    codes = column.rows[keep]
    used = np.zeros(len(column.code_of), bool)
    used[codes] = True
    texts = [text for text, is_used in zip(column.texts, used, strict=True) if is_used]
    return (np.cumsum(used) - 1)[codes], texts


def today() -> int:
    """Return the ordinal of this day."""
    return int(np.datetime64("today").astype(object).toordinal())


def purchase_columns(path: Path, rules: ReadingRules) -> PurchaseColumns:
    """Read a CSV or Parquet file of purchases, a CSV gzipped or not.

    Unusable rows are counted, with their lines. Raises BadInput if the file, one of
    its columns or every row is unusable, or where nothing decides what it means.
    """
    with lines_of(path) as text:
        with naming(path):
            rows = Rows(path, text, partial(named_columns, chosen=rules.columns))
        at = rows.at
        raw = gathered(rows, at, rules)
        reading = {
            "file": "CSV",
            "separator": SEPARATORS.get(rows.separator, rows.separator),
            "encoding": text.encoding,
        }
        if rows.titles:
            reading["header"] = f"in line {rows.above}"
    read = {role: rows.names[place] for role, place in at.items()}
    with naming(path):
        return understood(raw, rules, read, reading)


def named_columns(names: Sequence[str], chosen: str | None) -> dict[str, int]:
    """Return where each role stands under these names.

    Raises BadInput if they do not say so, or are a row and no names.
    """
    is_row = any(readings(without_clock(name)) for name in names)
    cure = "put a line such as customer,date,amount above the rows"
    try:
        at = column_positions(names, chosen)
    except BadInput:
        if is_row and not chosen:
            raise BadInput(f"no line names the columns: {cure}") from None
        raise
    if readings(without_clock(names[at["date"]])):
        raise BadInput(f"the date {names[at['date']]!r} is no name of a column: {cure}")
    return at


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the file in what is said of it."""
    try:
        yield
    except BadInput as problem:
        raise BadInput(f"{visible(str(path))}: {problem}") from None


def fitting(
    rows: Rows, raw: RawRows, least: int
) -> Iterator[tuple[int, Sequence[str]]]:
    """Yield rows as wide as their header, with their lines; put aside what is not.

    A row may end early, but not before the place `least`.
    """
    width = len(rows.names)
    line = rows.line
    for row in rows:
        before, line = line, rows.line
        if line - before > LONGEST_ROW and ",".join(row).count("\n") > LONGEST_ROW:
            # A quote that nobody closed swallows the rows after it: each is counted.
            for number in range(before + 1, line + 1):
                raw.misshape(SWALLOWED, number, row)
        elif len(row) <= least:
            if any(cell.strip(DRAWN_LINE) for cell in row):
                raw.misshape("too few columns", line, row)
        elif len(row) > width and any(row[width:]):
            raw.misshape("too many columns", line, row)
        elif len(row) < width:
            yield line, [*row, *[""] * (width - len(row))]
        else:
            yield line, row


def needed(role: str) -> bool:
    """Tell whether a row has to have such a cell."""
    return role not in OPTIONAL and not role.startswith(STATUS)


def is_header(row: Sequence[str], names: Sequence[str]) -> bool:
    """Tell whether a row has the names of the columns in it."""
    return [plain_name(cell) for cell in row] == names


def gathered(rows: Rows, at: Mapping[str, int], rules: ReadingRules) -> RawRows:
    """Return the rows of a file by role; what does not fit its header is put aside."""
    raw = RawRows(list(at))
    stripped: Callable[[str], str] = str.strip
    day_of = without_clock if "%" not in (rules.date_format or "") else stripped
    days: dict[str, str] = {}  # of texts without a time, to look them up
    width = len(rows.names)
    least = max(place for role, place in at.items() if needed(role))
    cut = CutAmounts(rows.names, rows.separator, {} if rules.columns else at)
    places = [
        (raw.columns[role], place) for role, place in at.items() if role != "date"
    ]
    date_column = raw.columns["date"]
    date_place = at["date"]
    date_word = rows.names[date_place].rpartition(" ")[2]
    for line, row in fitting(rows, raw, least):
        # Spreadsheets leave rows of nothing but separators below a table.
        text = row[date_place]
        if not text.strip(DRAWN_LINE) and not any(
            cell.strip(DRAWN_LINE) for cell in row
        ):
            continue
        day = days.get(text)
        if day is None:
            # Files that were put together have the header several times.
            if date_word in text and is_header(row[:width], rows.names):
                continue
            day = day_of(text)
            if day == text:
                days[text] = text
        for column, place in places:
            column.add(row[place].strip())
        date_column.add(day)
        raw.lines.append(line)
        if cut.watching:
            cut.see(row)
    cut.check()
    if not raw.lines:
        aside = {why: [n for n, _ in found] for why, found in raw.misshapen.items()}
        said = f"no row is usable: {refusals(aside)}" if aside else "it has no rows"
        raise BadInput(f"{visible(str(rows.path))}: {said}")
    return raw
