"""A log of purchases out of a CSV file: columns, dates, amounts, refusals."""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import wrap_file

from course.analytics.arrays import Floats, Ints
from course.errors import BadInput
from course.services import PROJECT

BIG_FILE = 20_000_000  # bytes; above, show progress
LONGEST_LINE = 1 << 20  # characters; a file without line ends never fills the memory
LARGEST_AMOUNT = 1e12  # above it, sums lose their cents
NAMES = {
    "customer": ("customer", "user", "client", "member", "buyer", "cust"),
    "date": ("date", "timestamp", "time", "day", "created"),
    "amount": ("amount", "total", "revenue", "spend", "sales", "value"),
    "item": ("item", "product", "sku", "stockcode", "article"),
}
OTHERS = {"birth", "count", "discount", "items", "no", "tax", "unit"}  # of other things
WORD = re.compile("[A-Z]+(?![a-z])|[A-Z]?[a-z]+")  # InvoiceDate: Invoice, Date
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?")


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


def sample_file() -> Path:
    """Return where the sample lies: in data/, or beside a lesson made one file."""
    name = "cdnow_sample.csv"
    beside = PROJECT / name
    return beside if beside.is_file() else PROJECT / "data" / name


def refusals(refused: Mapping[str, Sequence[int]]) -> str:
    """Say why rows were refused, how many, and at which lines first."""
    said = []
    for why, lines in refused.items():
        first = ", ".join(map(str, lines[:5]))
        said.append(f"{len(lines):,} {why} (line {first})")
    return ", ".join(said) or "none"


def candidates(header: Sequence[str], words: Sequence[str]) -> list[int]:
    """Return the columns named by one of the words (or its id), else with one in it."""
    names = [*words, *(f"{word}id" for word in words)]
    whole = []
    partly = []
    for place, name in enumerate(header):
        split = [word.lower() for word in WORD.findall(name)]
        if "".join(split) in names:
            whole.append(place)
        if set(words) & set(split) and not OTHERS & set(split):
            partly.append(place)
    return whole or partly


def chosen_positions(header: Sequence[str], chosen: str) -> dict[str, int]:
    """Return where the columns stand that --columns names."""
    wanted = dict(zip(NAMES, chosen.split(","), strict=False))
    if len(wanted) < 3 or not set(wanted.values()) <= set(header):
        said = f"it takes CUSTOMER,DATE,AMOUNT[,ITEM] out of {', '.join(header)}"
        raise BadInput(f"--columns {chosen}: {said}")
    return {role: header.index(name) for role, name in wanted.items()}


def column_positions(header: Sequence[str], chosen: str | None) -> dict[str, int]:
    """Return where each role stands: as chosen, else by the words in the names."""
    if chosen:
        return chosen_positions(header, chosen)
    found: dict[str, int] = {}
    for role, words in NAMES.items():
        free = [i for i in candidates(header, words) if i not in found.values()]
        if len(free) == 1:
            found[role] = free[0]
        elif free or role != "item":
            which = " or ".join(header[i] for i in free) or "no column"
            said = f"{which} could be the {role}, of {', '.join(header)!r}"
            raise BadInput(f"{said}; say --columns CUSTOMER,DATE,AMOUNT[,ITEM]")
    return found


@lru_cache(maxsize=1 << 16)
def parsed_day(text: str) -> int:
    """Return the ordinal of 1997-09-30, 1997/09/30, 19970930 or a timestamp."""
    try:
        day = datetime.fromisoformat(text.strip().replace("/", "-")).toordinal()
    except ValueError:
        raise ValueError("unreadable date") from None
    if day > date.today().toordinal():
        raise ValueError("date in the future")
    return day


def parsed_amount(text: str) -> float:
    """Return an amount such as 12.50, 12,50 or $1,234.50; ValueError for others."""
    text = text.strip(" $")
    # A comma stands between thousands, or before the decimals.
    if THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    text = text.replace(",", ".")
    try:
        amount = math.nan if "_" in text else float(text)
    except ValueError:
        amount = math.nan
    if not abs(amount) < LARGEST_AMOUNT:
        raise ValueError("unreadable amount")
    if amount < 0:
        raise ValueError("negative amount")  # a refund is no order
    return amount


class Purchase(NamedTuple):
    """A row that can be used."""

    customer: str
    day: int
    amount: float
    item: str


def parsed_row(row: Sequence[str], at: Mapping[str, int]) -> Purchase:
    """Return what a row says; ValueError says why it is unusable."""
    if len(row) <= max(at.values()):
        raise ValueError("too few columns")
    customer = row[at["customer"]].strip()
    day = parsed_day(row[at["date"]])
    if not customer:
        raise ValueError("no customer")
    amount = parsed_amount(row[at["amount"]])
    item = row[at["item"]].strip() if "item" in at else ""
    return Purchase(customer, day, amount, item)


@contextmanager
def lines_of(path: Path) -> Iterator[Iterator[str]]:
    """Open a text file, gzipped or not, as lines; a big one shows progress."""
    try:
        with ExitStack() as stack:
            raw: Any = stack.enter_context(path.open("rb"))
            packed = raw.peek(2)[:2] == b"\x1f\x8b"
            size = path.stat().st_size
            if size > BIG_FILE:
                bar = Console(stderr=True)
                raw = stack.enter_context(wrap_file(raw, size, console=bar))
            if packed:
                raw = stack.enter_context(gzip.open(raw))
            text = io.TextIOWrapper(raw, "utf-8-sig", "backslashreplace", newline="")
            # Bytes that are no UTF-8 stay visible: a row is refused, not the file.
            yield iter(lambda: text.readline(LONGEST_LINE), "")
    except (OSError, EOFError, zlib.error) as problem:
        why = getattr(problem, "strerror", None) or "not a whole gzip file"
        raise BadInput(f"{path}: {why}") from None


class Collector:
    """Gathers rows in columns: of each row 32 bytes are kept, whatever its text."""

    def __init__(self) -> None:
        self.customer = array("q")
        self.day = array("q")
        self.amount = array("d")
        self.item = array("q")
        self.ids: dict[str, int] = {}
        self.items: dict[str, int] = {}
        self.refused: dict[str, array[int]] = {}

    def add(self, bought: Purchase) -> None:
        """Take a row."""
        self.customer.append(self.ids.setdefault(bought.customer, len(self.ids)))
        self.item.append(self.items.setdefault(bought.item, len(self.items)))
        self.day.append(bought.day)
        self.amount.append(bought.amount)

    def refuse(self, why: str, line: int) -> None:
        """Count an unusable row."""
        self.refused.setdefault(why, array("q")).append(line)

    def columns(self, read: Mapping[str, str]) -> PurchaseColumns:
        """Return what was gathered; `read` says which column of the file is what."""
        with_items = "item" in read
        return PurchaseColumns(
            customer=np.asarray(self.customer),
            day=np.asarray(self.day),
            amount=np.asarray(self.amount),
            ids=list(self.ids),
            item=np.asarray(self.item) if with_items else None,
            items=list(self.items) if with_items else [],
            refused=self.refused,
            read=read,
        )


def purchase_columns(path: Path, columns: str | None = None) -> PurchaseColumns:
    """Read a CSV of purchases, gzipped or not.

    Unusable rows are counted, with their lines. Raises BadInput if the file, one of
    its columns or every row is unusable.
    """
    found = Collector()
    with lines_of(path) as lines:
        header = next(lines, "").strip()
        if not header:
            raise BadInput(f"{path}: no column names; is the file empty?")
        comma = max(",;\t|", key=header.count)
        names = [name.strip() for name in header.replace('"', "").split(comma)]
        at = column_positions(names, columns)
        rows = csv.reader(lines, delimiter=comma)
        try:
            for row in filter(None, rows):
                try:
                    found.add(parsed_row(row, at))
                except ValueError as why:
                    found.refuse(str(why), rows.line_num + 1)
        except csv.Error as problem:
            raise BadInput(f"{path}, line {rows.line_num + 1}: {problem}") from None
    if not found.day:
        raise BadInput(f"{path}: no row is usable: {refusals(found.refused)}")
    return found.columns({role: names[place] for role, place in at.items()})
