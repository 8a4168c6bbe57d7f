"""A log of purchases out of a file: rows into columns, and what is refused of them."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from course.analytics.amounts import LARGEST_AMOUNT, currency_code, read_amounts
from course.analytics.arrays import Bools, Floats, Ints
from course.analytics.columns import column_positions
from course.analytics.dates import read_dates, without_clock
from course.analytics.refunds import net_refunds
from course.analytics.rules import (
    FIRST,
    OTHER_CURRENCY,
    REFUND,
    UNREADABLE_DATE,
    ReadingRules,
    Refusal,
    date_cure,
    refusals,
)
from course.analytics.textfile import SEPARATORS, Rows, lines_of
from course.columns import visible
from course.errors import BadInput
from course.services import PROJECT

LONGEST_ROW = 20  # lines; an address has fewer
SWALLOWED = "within quotes that do not end"


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


class TextColumn:
    """A column as codes of its different texts: each text is kept and read once."""

    def __init__(self, texts: Sequence[str] = (), codes: Any = None) -> None:
        self.code_of: dict[str, int] = dict.fromkeys(texts, 0)
        self.codes: Any = array("q") if codes is None else codes

    def add(self, text: str) -> None:
        """Take the text of a row."""
        self.codes.append(self.code_of.setdefault(text, len(self.code_of)))

    @property
    def texts(self) -> list[str]:
        """The different texts, in the order of their codes."""
        return list(self.code_of)

    @property
    def rows(self) -> Ints:
        """The code of each row."""
        return np.asarray(self.codes, np.int64)


class RawRows:
    """Rows before they are understood: by role, texts or what a frame knows already."""

    def __init__(self, roles: Sequence[str]) -> None:
        self.columns = {role: TextColumn() for role in roles}
        self.days: Ints | None = None  # of a frame, 0 where one is missing
        self.numbers: dict[str, Floats] = {}  # of a frame, by role
        self.lines: Any = array("q")
        self.misshapen: dict[str, list[tuple[int, str]]] = {}

    def misshape(self, why: str, line: int, row: Sequence[str]) -> None:
        """Count a row that does not fit its header."""
        self.misshapen.setdefault(why, []).append((line, ",".join(row)[:80]))

    def text_of(self, role: str, row: int) -> str:
        """Return what stands in a row, to be shown."""
        if role in self.columns and len(self.columns[role].codes):
            column = self.columns[role]
            return column.texts[int(column.codes[row])]
        found = self.days if role == "date" else self.numbers.get(role)
        return "" if found is None else str(found[row])


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
        total = float(np.nansum(self.worth[rows]))
        self.details[why] = Refusal(self.lines[rows].tolist(), first, total)

    @property
    def refused(self) -> dict[str, Sequence[int]]:
        """The lines of each reason."""
        return {why: one.lines for why, one in self.details.items()}


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


def coded(names: Sequence[str], codes: Ints) -> TextColumn:
    """Return a column of which several codes may have one name."""
    place_of = {name: place for place, name in enumerate(dict.fromkeys(names))}
    places = np.array([place_of[name] for name in names], np.int64)
    return TextColumn(list(place_of), places[codes])


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
    nameless = np.array([not text for text in customers.texts], bool)
    refuser = Refuser(raw, money.worth)
    refuser.refuse(UNREADABLE_DATE, day == 0, "date")
    refuser.refuse("date in the future", day > today(), "date")
    refuser.refuse("no customer", nameless[customers.rows], "amount")
    shown = "amount" if "amount" in raw.columns else "quantity"
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
        rows = Rows(path, text)
        with naming(path):
            at = column_positions(rows.names, rules.columns)
        raw = gathered(rows, at, rules)
        reading = {
            "file": "CSV",
            "separator": SEPARATORS.get(rows.separator, rows.separator),
            "encoding": text.encoding,
        }
    read = {role: rows.names[place] for role, place in at.items()}
    with naming(path):
        return understood(raw, rules, read, reading)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the file in what is said of it."""
    try:
        yield
    except BadInput as problem:
        raise BadInput(f"{visible(str(path))}: {problem}") from None


def gathered(rows: Rows, at: Mapping[str, int], rules: ReadingRules) -> RawRows:
    """Return the rows of a file by role; what does not fit its header is put aside."""
    raw = RawRows(list(at))
    stripped: Callable[[str], str] = str.strip
    day_of = without_clock if "%" not in (rules.date_format or "") else stripped
    days: dict[str, str] = {}  # of texts without a time, to look them up
    width = len(rows.names)
    least = max(at.values())
    places = [
        (raw.columns[role], place) for role, place in at.items() if role != "date"
    ]
    date_column = raw.columns["date"]
    date_place = at["date"]
    line = rows.line
    for row in rows:
        before, line = line, rows.line
        if line - before > LONGEST_ROW and ",".join(row).count("\n") > LONGEST_ROW:
            # A quote that nobody closed swallows the rows after it: each is counted.
            for number in range(before + 1, line + 1):
                raw.misshape(SWALLOWED, number, row)
            continue
        if len(row) <= least:
            if any(map(str.strip, row)):
                raw.misshape("too few columns", line, row)
            continue
        if len(row) > width and any(row[width:]):
            raw.misshape("too many columns", line, row)
            continue
        # Spreadsheets leave rows of nothing but separators below a table.
        if not row[date_place] and not any(map(str.strip, row)):
            continue
        for column, place in places:
            column.add(row[place].strip())
        text = row[date_place]
        day = days.get(text)
        if day is None:
            day = day_of(text)
            if day == text:
                days[text] = text
        date_column.add(day)
        raw.lines.append(line)
    if not raw.lines:
        aside = {why: [n for n, _ in found] for why, found in raw.misshapen.items()}
        said = f"no row is usable: {refusals(aside)}" if aside else "it has no rows"
        raise BadInput(f"{visible(str(rows.path))}: {said}")
    return raw
