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
from contextlib import ExitStack, contextmanager, suppress
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
    reasons = [f"{len(at):,} {why}" for why, at in refused.items()]
    lines = [", ".join(map(str, at[:5])) for at in refused.values()]
    said = [f"{a} (line {b})" for a, b in zip(reasons, lines, strict=True)]
    return ", ".join(said) or "none"


def candidates(header: Sequence[str], words: Sequence[str]) -> list[int]:
    """Return the columns named by one of the words (or its id), else with one in it."""
    split = [[word.lower() for word in WORD.findall(name)] for name in header]
    named = {*words, *(f"{word}id" for word in words)}
    if same := [i for i, parts in enumerate(split) if "".join(parts) in named]:
        return same
    fits = [{*words} & {*parts} and not OTHERS & {*parts} for parts in split]
    return [i for i, fit in enumerate(fits) if fit]


def column_positions(header: Sequence[str], chosen: str | None) -> dict[str, int]:
    """Return where each role stands: as chosen, else by the words in the names."""
    if chosen:
        wanted = dict(zip(NAMES, chosen.split(","), strict=False))
        if len(wanted) < 3 or not set(wanted.values()) <= set(header):
            said = f"it takes CUSTOMER,DATE,AMOUNT[,ITEM] out of {', '.join(header)}"
            raise BadInput(f"--columns {chosen}: {said}")
        return {role: header.index(name) for role, name in wanted.items()}
    found = dict[str, int]()
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


def parsed_row(
    row: Sequence[str], at: Mapping[str, int]
) -> tuple[str, int, float, str]:
    """Return customer, day, amount, item; ValueError says why it is unusable."""
    if len(row) <= max(at.values()):
        raise ValueError("too few columns")
    who, day, paid = row[at["customer"]].strip(), parsed_day(row[at["date"]]), math.nan
    text = row[at["amount"]].strip(" $")
    if "," in text:  # between thousands, or before the decimals
        text = text.replace(",", "" if THOUSANDS.fullmatch(text) else ".")
    with suppress(ValueError):
        paid = math.nan if "_" in text else float(text)
    if not who or not abs(paid) < LARGEST_AMOUNT:
        raise ValueError("unreadable amount" if who else "no customer")
    if paid < 0:
        raise ValueError("negative amount")  # a refund is no order
    return who, day, paid, row[at["item"]].strip() if "item" in at else ""


@contextmanager
def opened(path: Path) -> Iterator[Iterator[str]]:
    """Open a text file, gzipped or not, as lines; a big one shows progress."""
    try:
        with ExitStack() as stack:
            raw: Any = stack.enter_context(path.open("rb"))
            packed = raw.peek(2)[:2] == b"\x1f\x8b"
            if (size := path.stat().st_size) > BIG_FILE:
                bar = Console(stderr=True)
                raw = stack.enter_context(wrap_file(raw, size, console=bar))
            raw = stack.enter_context(gzip.open(raw)) if packed else raw
            text = io.TextIOWrapper(raw, "utf-8-sig", "backslashreplace", newline="")
            yield iter(lambda: text.readline(LONGEST_LINE), "")
    except (OSError, EOFError, zlib.error) as problem:
        why = getattr(problem, "strerror", None) or "not a whole gzip file"
        raise BadInput(f"{path}: {why}") from None


def purchase_columns(path: Path, columns: str | None = None) -> PurchaseColumns:
    """Read a CSV of purchases; of each row 32 bytes are kept, whatever its text.

    Unusable rows are counted, with their lines. Raises BadInput if the file, one of
    its columns or every row is unusable.
    """
    who, when, what, paid = array("q"), array("q"), array("q"), array("d")
    ids, items = dict[str, int](), dict[str, int]()
    refused: dict[str, array[int]] = {}
    with opened(path) as lines:
        header = next(lines, "").strip()
        comma = max(",;\t|", key=header.count)
        names = [name.strip() for name in header.replace('"', "").split(comma)]
        if not header:
            raise BadInput(f"{path}: no column names; is the file empty?")
        at, rows = column_positions(names, columns), csv.reader(lines, delimiter=comma)
        try:
            for row in filter(None, rows):
                try:
                    name, day, amount, item = parsed_row(row, at)
                except ValueError as why:
                    refused.setdefault(str(why), array("q")).append(rows.line_num + 1)
                    continue
                who.append(ids.setdefault(name, len(ids)))
                what.append(items.setdefault(item, len(items)))
                when.append(day)
                paid.append(amount)
        except csv.Error as problem:
            raise BadInput(f"{path}, line {rows.line_num + 1}: {problem}") from None
    buyers, days, amounts = map(np.asarray, (who, when, paid))
    read = {role: names[i] for role, i in at.items()}
    if not who:
        raise BadInput(f"{path}: no row is usable: {refusals(refused)}")
    item_codes, names = (np.asarray(what), [*items]) if "item" in at else (None, [])
    return PurchaseColumns(
        buyers, days, amounts, list(ids), item_codes, names, refused, read
    )
