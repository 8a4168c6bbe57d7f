"""Customer analytics that tell the truth about themselves, on a real purchase log.

You will see, in order: a purchase log cut at a date, so that no feature knows the
future; the rules that everybody copies, scored; the BG/NBD and Gamma-Gamma models equal
to their published fit; data on which dropout cannot be learnt; why 1 - P(alive) is
not churn; a backtest with everything in it; predictions that carry their record;
recommendations; a report whose sentences are computed; and a million customers.

Run:     python 05_realworld_data_science.py [--list] [--only NAME ...]
         python 05_realworld_data_science.py --transactions orders.csv --report r.html
         python 05_realworld_data_science.py --simulate 1000000 --json
         python 05_realworld_data_science.py --integrated [--chaos] [--workers N]
Service: none. The sample in data/ is read: CDNOW, 2,357 customers, 1997-98. Only
         --integrated uses all four, as lessons 01 to 04 find them beside this file.
Without: data/cdnow_sample.csv, give your own orders by --transactions.
Runtime: about 3 s; --integrated 10 s on stand-ins.
Guide:   COMPREHENSIVE_GUIDE.md, chapter 5.
"""

# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy>=1.26,<3", "python-dotenv>=1.2.2,<2", "rich>=13.7,<16"]
# ///

from __future__ import annotations

import argparse
import base64
import copy
import csv
import gzip
import html
import importlib.util
import io
import json
import logging
import math
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
import traceback
import zlib
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from enum import Enum
from functools import cached_property, lru_cache, partial
from multiprocessing.managers import BaseManager
from operator import itemgetter
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple, NoReturn

import numpy as np
from dotenv import dotenv_values
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress, wrap_file
from rich.text import Text

# region harness
# The same bytes in all five scripts (a test compares them): each file runs alone.
DEMOS: dict[str, Callable[[Env], None]] = {}
TALLY: Counter[str] = Counter()


class Skip(Exception):
    """Raised by a demo whose point this back end cannot show; says why."""


class BadInput(Exception):
    """Raised for what the user has to mend: one line on stderr, exit code 2."""


class Parser(argparse.ArgumentParser):
    """Parses the options that all lessons share; a complaint is one line."""

    def __init__(self) -> None:
        super().__init__(description=(__doc__ or "").split("\n\n")[0])
        mode = self.add_mutually_exclusive_group()
        self.add_argument("--list", action="store_true", help="list the demos and exit")
        self.add_argument("--only", nargs="+", metavar="NAME", help="run these demos")
        mode.add_argument("--offline", action="store_true", help="take the stand-in")
        mode.add_argument(
            "--require-live", action="store_true", help="exit 3 if absent"
        )
        self.add_argument("--url", help="the service, instead of the variable's")
        self.add_argument("--verbose", action="store_true", help="logs and tracebacks")

    def error(self, message: str) -> NoReturn:
        """Complain in one line, unlike argparse with its usage text."""
        raise BadInput(message)


def demo(fn: Callable[[Env], None]) -> Callable[[Env], None]:
    """Register a demo; the first line of its docstring is the printed title."""
    DEMOS[fn.__name__] = fn
    return fn


def redact(text: object) -> str:
    """Hide the password of every URL in the text."""
    return re.sub(r"(://[^:/\s]*:)\S*@|(password=)[^&\s]+", r"\1\2***@", str(text))


def setting(name: str, default: str = "") -> str:
    """Return a variable of the environment, else of .env beside this file."""
    dotenv = dotenv_values(Path(__file__).with_name(".env"))
    return os.environ.get(name, dotenv.get(name)) or default


def say(line: str = "", style: str = "") -> None:
    """Print a line: in colour on a terminal, plain when piped."""
    if sys.stdout.isatty():
        Console(highlight=False).print(Text(line, style), soft_wrap=True)
    else:
        print(line)


def show(name: str, value: object) -> None:
    """Print one aligned fact, the same in every run."""
    say(f"  {name:<34} {value}")


def table(header: Sequence[str], *rows: Sequence[object]) -> None:
    """Print rows under their header, columns of numbers to the right."""
    columns = list(zip(header, *rows, strict=True))
    width = [max(len(str(cell)) for cell in column) for column in columns]
    right = [all(isinstance(cell, int | float) for cell in c[1:]) for c in columns]
    for row in (header, *rows):
        cells = zip(row, width, right, strict=True)
        line = "".join(f"  {cell!s:{'>' if r else '<'}{w}}" for cell, w, r in cells)
        say(line.rstrip(), "bold" if row is header else "")


def aside(text: str) -> None:
    """Print what differs from run to run, such as a time, on stderr."""
    print(f"  ~ {text}", file=sys.stderr, flush=True)


def check(claim: str, holds: bool) -> None:
    """Print the claim if it holds, else fail the demo (-O would drop an assert)."""
    if not holds:
        raise AssertionError(claim)
    TALLY["ok"] += 1
    say(f"  [ok] {claim}", "green")


def run_demo(env: Env, run: Callable[[Env], None]) -> None:
    """Run one demo; a false claim or a broken demo is counted, not raised."""
    try:
        run(env)
    except BadInput:
        raise
    except Skip as reason:
        TALLY["skipped"] += 1
        say(f"  [skip] {reason}", "yellow")
    except Exception as error:
        TALLY["failed"] += 1
        kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
        say(f"  [FAIL] {kind}{redact(error)}", "bold red")
        logging.debug("%s", redact(traceback.format_exc()))


def teach(args: argparse.Namespace) -> int:
    """Run the chosen demos on the back end that answers; return the exit code."""
    if unknown := set(args.only or ()) - set(DEMOS):
        raise BadInput(
            f"--only: no demo {min(unknown)!r}; there are {', '.join(DEMOS)}"
        )
    titles = {
        name: (run.__doc__ or name).splitlines()[0] for name, run in DEMOS.items()
    }
    if args.list:
        table(("demo", "what it shows"), *titles.items())
        return 0
    TALLY.clear()
    with open_env(args) as env:
        say(f"backend: {env.backend}")
        if args.require_live and not env.live:
            return 3
        for number, (name, run) in enumerate(DEMOS.items(), 1):
            if name in (args.only or DEMOS):
                say(f"\n{number}. {titles[name]}", "bold")
                run_demo(env, run)
    say(
        "\n"
        + ", ".join(f"{TALLY[kind]} {kind}" for kind in ("ok", "skipped", "failed"))
    )
    return 1 if TALLY["failed"] else 0


def command(
    parser: Parser, argv: list[str] | None, run: Callable[[argparse.Namespace], int]
) -> int:
    """Run what the command line asks for; return the exit code."""
    try:
        args = parser.parse_args(argv)
        level = logging.DEBUG if args.verbose else logging.CRITICAL
        logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
        return run(args)
    except BadInput as problem:
        print(f"{parser.prog}: {redact(problem)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


# endregion harness


# Knobs
SAMPLE = Path(__file__).with_name("data") / "cdnow_sample.csv"
DORMANT_DAYS = 90  # the backtest shows whom this rule writes off
DUE_DAYS = 90  # whose next order is due: a quarter, as far as a campaign plans
CHURN_MIDPOINT, CHURN_SLOPE = 30, 20  # days; the logistic that everybody copies
VIP_SHARE = 0.10  # of customers, by what they have spent
ENGAGEMENT = (0.5, 0.3, 0.2)  # weights of recency, frequency, spend
CENTURY = 36_525  # days; an order that is expected later is not expected
DISCOUNT, LTV_MONTHS = 0.10, 12  # a year's discount rate; how far a lifetime reaches
MIN_REPEATERS = 10  # under this, four parameters have nothing to hold on to
RESAMPLES, DRAWS, SEED = 400, 400, 5  # bootstrap; predictive draws; both seeded
FEWEST = 30  # customers of a segment in the backtest; of fewer nothing is concluded
SURVEYED = 5_000  # customers whose intervals a backtest draws, at most
BIG_FILE, MANY = 20_000_000, 1_000_000  # bytes, rows; above, show progress
LONGEST_LINE = 1 << 20  # characters; a file without line ends never fills the memory
LARGEST_AMOUNT = 1e12  # above it, sums lose their cents
BITS, DAY = 22, (1 << 22) - 1  # of a day in a packed key: 11,000 years
CONSTANT, RULE, NOT_ALIVE = "constant", "heuristic", "1 - P(alive)"
BGNBD, STACK = "BG/NBD", "stack"
NAIVE, PER_DAY, GG = "naive (x+1)/T", "naive x/T", "BG/NBD x GG"

Floats = NDArray[Any]  # what it holds is in the name: numpy's stubs, which lose
Ints = NDArray[Any]  # track of dtypes in arithmetic, could not check it
Bools = NDArray[Any]
Terms = tuple[float, Floats, Floats]  # a log-likelihood, its gradient and Hessian
Grid = Mapping[str, Mapping[str, Any]]  # figures by row and column


class UserSegment(Enum):
    """Who a customer is to the business; the first rule that fits decides."""

    DORMANT = "dormant"
    ACTIVE = "active"
    VIP = "vip"
    AT_RISK = "at_risk"


class PredictionType(Enum):
    """What `MLModelManager.predict` can be asked."""

    CHURN = "churn"
    LIFETIME_VALUE = "lifetime_value"
    NEXT_PURCHASE = "next_purchase"
    RECOMMENDATION = "recommendation"


SEGMENTS = list(UserSegment)


@dataclass(frozen=True)
class TransactionLog:
    """Purchases as columns of one length: code into `ids`, ordinal day, amount."""

    customer: Ints
    day: Ints
    amount: Floats
    ids: Sequence[str] | range
    item: Ints | None = None  # code into `items`
    items: Sequence[str] = ()
    refused: Mapping[str, Sequence[int]] = field(default_factory=dict)  # reason: lines
    read: Mapping[str, str] = field(default_factory=dict)  # role: column of the file

    @cached_property
    def codes(self) -> dict[str, int]:
        """The code of each id."""
        return {str(name): code for code, name in enumerate(self.ids)}

    def where(self, keep: Bools) -> TransactionLog:
        """Return the log of those rows; itself, if those are all."""
        if keep.all():
            return self
        columns = ("customer", "day", "amount") + ("item",) * (self.item is not None)
        return replace(self, **{name: getattr(self, name)[keep] for name in columns})

    def refusals(self) -> str:
        """Say why rows were refused, how many, and at which lines first."""
        reasons = [f"{len(at):,} {why}" for why, at in self.refused.items()]
        lines = [", ".join(map(str, at[:5])) for at in self.refused.values()]
        said = [f"{a} (line {b})" for a, b in zip(reasons, lines, strict=True)]
        return ", ".join(said) or "none"


@dataclass
class Env:
    """What every demo receives: the log, and its backtest, made once when asked."""

    backend: str
    live: bool
    log: TransactionLog

    @cached_property
    def record(self) -> Backtest:
        """The later half of the log, predicted from the earlier half."""
        return Backtest(self.log, *halves(self.log))


@contextmanager
def open_env(args: argparse.Namespace) -> Iterator[Env]:
    """Open the sample; this lesson asks no service."""
    log = read_log(SAMPLE)
    name = f"CDNOW sample ({len(log.ids):,} customers, {len(log.day):,} orders)"
    yield Env(f"numpy in this process, {name}; no service needed", False, log)


def iso(day: int) -> str:
    """Return an ordinal day as 1997-09-30."""
    return date.fromordinal(day).isoformat()


def cell(value: Any) -> str:
    """Return a figure for a table, with four digits or so; - for what is not known."""
    if isinstance(value, tuple | list):
        return " to ".join(map(cell, value))
    if not isinstance(value, float):
        return "-" if value is None else str(value)
    digits = sum(abs(value) < limit for limit in (1, 10, 100, 1000))
    return f"{value:,.{digits}f}" if math.isfinite(value) else "-"


def cells(corner: str, grid: Grid) -> list[list[str]]:
    """Return header and rows for `table`, figures to the right."""
    names = list(dict.fromkeys(name for row in grid.values() for name in row))
    columns = [[corner, *grid]]
    for name in names:
        column = [name, *(cell(row.get(name)) for row in grid.values())]
        columns.append([text.rjust(max(map(len, column))) for text in column])
    return [list(row) for row in zip(*columns, strict=True)]


# %% 1. The log: what was known, and when
NAMES = {
    "customer": ("customer", "user", "client", "member", "buyer", "cust"),
    "date": ("date", "timestamp", "time", "day", "created"),
    "amount": ("amount", "total", "revenue", "spend", "sales", "value"),
    "item": ("item", "product", "sku", "stockcode", "article"),
}
OTHERS = {"birth", "count", "discount", "items", "no", "tax", "unit"}  # of other things
WORD = re.compile("[A-Z]+(?![a-z])|[A-Z]?[a-z]+")  # InvoiceDate: Invoice, Date
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?")


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


def read_log(path: Path, columns: str | None = None) -> TransactionLog:
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
    log = TransactionLog(buyers, days, amounts, list(ids), refused=refused, read=read)
    if not who:
        raise BadInput(f"{path}: no row is usable: {log.refusals()}")
    return replace(log, item=np.asarray(what), items=[*items]) if "item" in at else log


def starts(ordered: Ints) -> Ints:
    """Return the positions at which a new value begins."""
    return np.flatnonzero(np.diff(ordered, prepend=-1))


def order_days(log: TransactionLog) -> tuple[Ints, Ints]:
    """Return customer and day of each day with orders, sorted; same-day orders merge.

    Both are packed into one integer, which sorts twice as fast as an argsort.
    """
    key = np.sort(log.customer << BITS | log.day)
    key = key[starts(key)]
    return key >> BITS, key & DAY


# region table
@dataclass(frozen=True)
class CustomerTable:
    """What was known of each customer at the end of `as_of`: arrays of one length.

    Two recencies, two names: `t_last` runs from the first order to the last (t_x in
    the papers), `days_since_last` from the last order to `as_of`. Times are in days.
    """

    as_of: int
    customer: Ints
    x: Ints  # repeat orders: days with orders, without the first
    t_last: Ints
    age: Ints  # from the first order to as_of, T in the papers
    days_since_last: Ints
    spend: Floats
    mean_spend: Floats  # of a repeat order; 0 without one


def customer_table(log: TransactionLog, as_of: int) -> CustomerTable:
    """Return the customers as they stood at `as_of`; later rows are not read."""
    # Trap: recency from the whole log, joined to a label from its last months. The
    # feature holds the answer, and the model shines until it meets a new month.
    log = log.where(log.day <= as_of)
    if not len(log.day):
        raise BadInput(f"no order on or before {iso(as_of)}")
    who, when = order_days(log)
    first = starts(who)
    last = np.append(first[1:], len(who)) - 1
    known, x, begun, latest = who[first], last - first, when[first], when[last]
    day_one = np.zeros(len(log.ids), np.int64)
    day_one[known] = begun
    at_first = log.day == day_one[log.customer]
    spend = np.bincount(log.customer, log.amount)[known]
    opening = np.bincount(log.customer, log.amount * at_first)[known]
    mean = (spend - opening).clip(0) * (x > 0) / np.maximum(x, 1)
    times = latest - begun, as_of - begun, as_of - latest
    return CustomerTable(as_of, known, x, *times, spend, mean)


# endregion table


def outcome(
    log: TransactionLog, table: CustomerTable, days: int
) -> tuple[Ints, Floats]:
    """Return orders and spend of each customer in the days after `as_of`."""
    later = log.where((log.day > table.as_of) & (log.day <= table.as_of + days))
    count = np.bincount(order_days(later)[0], minlength=len(log.ids))
    spend = np.bincount(later.customer, later.amount, len(log.ids))
    return count[table.customer].astype(np.int64), spend[table.customer]


def row_of(log: TransactionLog, table: CustomerTable, user: str) -> int:
    """Return the row of a user; raises BadInput for who had not bought by then."""
    code = log.codes.get(user, -1)
    row = int(np.searchsorted(table.customer, code))
    if row == len(table.customer) or table.customer[row] != code:
        raise BadInput(f"no customer {user!r} by {iso(table.as_of)}")
    return row


def halves(log: TransactionLog) -> tuple[int, int]:
    """Return the day that halves the log, and the days after it."""
    last, span = int(log.day.max()), int(np.ptp(log.day))
    return last - (span + 1) // 2, (span + 1) // 2


def auc(happened: Bools, score: Floats | Ints) -> float:
    """Return the chance that a case outscores a non-case; NaN if one is missing."""
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]
    n, cases = len(score), int(happened.sum())
    over = float(rank[happened].sum()) - cases * (cases + 1) / 2
    return over / cases / (n - cases) if 0 < cases < n else math.nan


@demo
def leakage(env: Env) -> None:
    """The log: features are cut at a date, and know nothing later"""
    log, (end, days) = env.log, halves(env.log)
    cut, whole = customer_table(log, end), customer_table(log, int(log.day.max()))
    gone = outcome(log, cut, days)[0] == 0
    show("cut at, then predict", f"{iso(end)}, {days} days")
    show("customers who then buy nothing", cell(float(gone.mean())))
    leaks = auc(gone, whole.days_since_last[np.isin(whole.customer, cut.customer)])
    show("AUC of recency from the whole log", cell(leaks))
    show("AUC of recency cut at as_of", cell(auc(gone, cut.days_since_last)))
    check("a feature that saw the future looks perfect", leaks > 0.999)
    alone = vars(customer_table(log.where(log.day <= end), end))
    same = [np.array_equal(alone[name], column) for name, column in vars(cut).items()]
    check("rows after as_of change no feature", all(same))


# %% 2. The rules that everybody copies
# Trap: 1 / (1 + exp(-x)) lies between 0 and 1, and is no probability for that. Nobody
# has fitted its midpoint and slope: it is a rank in disguise.


# region rules
def churn_rule(days_since_last: Ints) -> Floats:
    """Return the copied "probability" of churn, a logistic in days."""
    return 1 / (1 + np.exp(-(days_since_last - CHURN_MIDPOINT) / CHURN_SLOPE))


def value_rule(t: CustomerTable, days: float) -> Floats:
    """Return orders a day so far x mean order x days; for a newcomer it explodes."""
    return t.spend / np.maximum(t.age, 1) * days


def engagement_rule(t: CustomerTable) -> Floats:
    """Return a weighted score from 0 to 100; recency halves every 30 days."""
    recency, often = 0.5 ** (t.days_since_last / 30), np.minimum(t.x + 1, 10) / 10
    much = np.minimum(t.spend / max(vip_threshold(t), 1e-9), 1)
    parts = zip(ENGAGEMENT, (recency, often, much), strict=True)
    return np.asarray(100 * sum(weight * part for weight, part in parts))


def segment_rule(t: CustomerTable) -> Ints:
    """Return positions in SEGMENTS: dormant before VIP before at risk before active."""
    dormant, rich = t.days_since_last >= DORMANT_DAYS, t.spend > vip_threshold(t)
    risky = churn_rule(t.days_since_last) > 0.5
    order = UserSegment.DORMANT, UserSegment.VIP, UserSegment.AT_RISK
    codes = [SEGMENTS.index(segment) for segment in order]
    active = SEGMENTS.index(UserSegment.ACTIVE)
    return np.select([dormant, rich, risky], codes, active)


# endregion rules


def vip_threshold(t: CustomerTable) -> float:
    """Return the spend that the top share of customers exceeds."""
    place = int((1 - VIP_SHARE) * (len(t.spend) - 1))
    return float(np.partition(t.spend, place)[place])


@dataclass(frozen=True)
class UserProfile:
    """One customer by the rules, at the end of a day."""

    user_id: str
    segment: UserSegment
    orders: int
    total_spend: float
    average_order: float
    days_since_purchase: int
    tenure_days: int
    churn_risk: float
    predicted_ltv: float
    engagement_score: float


class AnalyticsEngine:
    """The customers of a log by the rules, in `columns`; `as_of` has no default."""

    def __init__(self, log: TransactionLog, as_of: int) -> None:
        self.log, self.table = log, (t := customer_table(log, as_of))
        self.segments = segment_rule(t)
        names = list(UserProfile.__dataclass_fields__)[2:]
        each, idle = t.spend / (t.x + 1), t.days_since_last
        known = [t.x + 1, t.spend, each, idle, t.age]
        ruled = [churn_rule(idle), value_rule(t, 365), engagement_rule(t)]
        self.columns = dict(zip(names, known + ruled, strict=True))

    def calculate_user_profile(self, user: str) -> UserProfile:
        """Return one customer's row of the columns; BadInput if there is none."""
        i = row_of(self.log, self.table, user)
        row = {name: column[i].item() for name, column in self.columns.items()}
        return UserProfile(user, SEGMENTS[self.segments[i]], **row)


def log_losses(happened: Bools, chance: Floats) -> Floats:
    """Return each case's loss; 0 and 1 count as a millionth off."""
    losses: Floats = -np.log(np.where(happened, chance, 1 - chance).clip(1e-6))
    return losses


def tenths(score: Floats) -> list[Ints]:
    """Return the rows of each tenth, from the lowest score to the highest."""
    parts = np.array_split(np.argsort(score, kind="stable"), 10)
    return [rows for rows in parts if len(rows)]


def interval_of_mean(sample: Floats) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a mean (of block means, if many)."""
    if len(sample) >= 2 * SURVEYED:
        ends = np.linspace(0, len(sample), SURVEYED + 1, dtype=int)
        sums = np.add.reduceat(sample, ends[:-1], dtype=np.float64)
        sample = sums * SURVEYED / len(sample)
    rng, n = np.random.default_rng(SEED), len(sample)
    means = [sample[rng.integers(n, size=n)].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, (0.025, 0.975)).tolist()
    return low, high


def churn_score(gone: Bools, chance: Floats) -> dict[str, float]:
    """Return ranking, two proper scores, and calibration error over tenths."""
    off = [len(b) * abs(gone[b].mean() - chance[b].mean()) for b in tenths(chance)]
    brier, loss = ((chance - gone) ** 2).mean(), log_losses(gone, chance).mean()
    ece = sum(off) / len(chance) if np.ptp(chance) else 0.0
    scores = auc(gone, chance), float(brier), float(loss), float(ece)
    return dict(zip(("auc", "brier", "log_loss", "ece"), scores, strict=True))


def value_score(spent: Floats, forecast: Floats) -> dict[str, float]:
    """Return errors, relative bias, and the share of spend in the top tenth."""
    top, total = tenths(-forecast)[0], float(spent.sum()) or math.nan
    off, bias = np.abs(forecast - spent), float(forecast.sum()) / total - 1
    share = float(spent[top].sum()) / total
    scores = float(off.mean()), float(np.sqrt((off**2).mean())), bias, share
    return dict(zip(("mae", "rmse", "bias", "top_decile_share"), scores, strict=True))


def compared(actual: Bools | Floats, forecasts: Mapping[str, Floats]) -> dict[str, Any]:
    """Return each model's scores and the interval of its loss minus a constant's.

    The loss is Brier's or the absolute error. The constant is the hardest there is: it
    knows the mean of what happens to these very customers.
    """
    score, power = (churn_score, 2) if actual.dtype == bool else (value_score, 1)
    constant = np.full(len(actual), actual.mean())
    table: dict[str, Any] = {CONSTANT: score(actual, constant)}
    for name, forecast in forecasts.items():
        gap = np.abs(forecast - actual) ** power - np.abs(constant - actual) ** power
        table[name] = score(actual, forecast)
        table[name]["loss - constant"] = interval_of_mean(gap)
    return table


@demo
def rules(env: Env) -> None:
    """The rules: they rank, and as probabilities they are worse than a constant"""
    end, days = halves(env.log)
    engine = AnalyticsEngine(env.log, end)
    orders, spent = outcome(env.log, engine.table, days)
    scores = compared(gone := orders == 0, {RULE: engine.columns["churn_risk"]})
    table(*cells("churn", scores))
    check("the logistic in days ranks: AUC above 0.75", scores[RULE]["auc"] > 0.75)
    gap, surprise = scores[RULE]["loss - constant"], scores[RULE]["log_loss"]
    check("its Brier score is worse than a constant's", gap[0] > 0)
    worse = surprise > 2 * scores[CONSTANT]["log_loss"]
    check("its log-loss is over twice a constant's", worse)
    dormant = engine.segments == SEGMENTS.index(UserSegment.DORMANT)
    back = 1 - gone[dormant].mean()
    show("dormant for 90 days; come back", f"{dormant.mean():.0%}; {back:.0%}")
    share = spent[dormant].sum() / spent.sum()
    check("those written off as dormant bring over a third of the spend", share > 1 / 3)
    naive = value_rule(engine.table, days).sum() / spent.sum()
    show("LTV rule: forecast / spent", cell(float(naive)))
    engaged = auc(~gone, engine.columns["engagement_score"])
    show("AUC of engagement for coming back", cell(engaged))


# %% 3. BG/NBD and Gamma-Gamma, equal to their published fit
# region newton
def maximum(
    objective: Callable[[Floats], Terms], start: Floats
) -> tuple[Floats, float, Floats]:
    """Climb by damped Newton steps; return place, value, and second derivatives.

    Eigenvalues are made positive and floored, so that a saddle or a ridge gives a
    step uphill and no jump. The place stays inside +-12: e^12 is as good as infinite.
    """
    theta = start
    value, slope, curve = objective(theta)
    for _ in range(100):
        size, axes = np.linalg.eigh(-curve)
        size = np.abs(size).clip(1e-9 * np.abs(size).max() + 1e-300)
        step = axes @ (axes.T @ slope / size)
        step *= min(1.0, 2 / max(np.abs(step).max(), 1e-300))
        for _ in range(30):
            place = (theta + step).clip(-12, 12)
            found, moved = objective(place), np.abs(place - theta).max()
            if found[0] >= value - 1e-12 * abs(value):
                break
            step = step / 2
        theta, (value, slope, curve) = place, found
        if moved < 1e-7:
            break
    return theta, value, curve


# endregion newton


def by_logs(terms: Callable[..., Terms]) -> Callable[[Floats], Terms]:
    """Return the objective, and its derivatives, by its arguments' logarithms."""

    def objective(theta: Floats) -> Terms:
        scale = np.exp(theta)
        value, slope, curve = terms(*scale)
        slope = slope * scale
        return value, slope, curve * np.outer(scale, scale) + np.diag(slope)

    return objective


class Collapsed:
    """What the likelihood needs of any number of customers, by units of time.

    Sums over customers become sums over x and over T; only one term needs rows, those
    of different (x, t_x, T) with x > 0, and how many customers each stands for.
    """

    def __init__(self, x: Ints, t_last: Ints, age: Ints, per_week: float) -> None:
        key = (x << 2 * BITS | t_last << BITS | age)[x > 0]
        key.sort()
        first = starts(key)
        self.weight = np.diff(np.append(first, len(key))).astype(np.float64)
        self.x, self.t_last = key[first] >> 2 * BITS, key[first] >> BITS & DAY
        self.age, self.by_age = key[first] & DAY, np.bincount(age)
        self.repeats_by_age = np.bincount(age, x)
        self.clock = np.arange(len(self.by_age)) / per_week
        self.above = len(x) - np.bincount(x).cumsum()[:-1]  # customers with x > i


# region likelihood
def nbd_terms(data: Collapsed, r: float, alpha: float) -> Terms:
    """Return the log-likelihood of buying without dropout; derivatives by r, alpha."""
    i, n = np.arange(len(data.above)), data.by_age.sum()
    wait, pace = np.log(alpha + data.clock), 1 / (alpha + data.clock)
    rows = r * data.by_age + data.repeats_by_age
    value = data.above @ np.log(r + i) + n * r * math.log(alpha) - rows @ wait
    by_r = data.above @ (1 / (r + i)) + n * math.log(alpha) - data.by_age @ wait
    both = n / alpha - data.by_age @ pace
    rr, aa = -data.above @ (r + i) ** -2, rows @ pace**2 - n * r / alpha**2
    slope = np.array([by_r, n * r / alpha - rows @ pace])
    return float(value), slope, np.array([[rr, both], [both, aa]])


def bgnbd_terms(data: Collapsed, r: float, alpha: float, a: float, b: float) -> Terms:
    """Return the BG/NBD log-likelihood; derivatives by r, alpha, a, b.

    Fader, Hardie and Lee 2005 (Marketing Science 24), equation 6. With `odds` the log
    odds of dropout after the last order, a customer with x > 0 adds ln(1 + e^odds).
    """
    i, x = np.arange(len(data.above)), data.x
    wait, pace = np.log(alpha + data.clock), 1 / (alpha + data.clock)
    idle, slower = (v[data.age] - v[data.t_last] for v in (wait, pace))
    odds = math.log(a) - np.log(b + x - 1) + (r + x) * idle
    small = np.exp(-np.abs(odds))
    left = np.where(odds > 0, 1, small) / (1 + small)  # 1 - P(alive)
    gone = data.weight * left
    by = np.stack([idle, (r + x) * slower, np.full(len(x), 1 / a), -1 / (b + x - 1)])
    curve = by * (gone * (1 - left)) @ by.T
    curve[[0, 1], [1, 0]] += gone @ slower
    curve[1, 1] -= gone @ ((r + x) * (pace[data.age] ** 2 - pace[data.t_last] ** 2))
    curve[[2, 3], [2, 3]] += -gone.sum() / a**2, gone @ by[3] ** 2
    value, slope, plain_curve = nbd_terms(data, r, alpha)
    value += data.weight @ (np.maximum(odds, 0) + np.log1p(small))
    value += data.above @ (np.log(b + i) - np.log(a + b + i))
    either, stay = data.above @ (1 / (a + b + i)), data.above @ (1 / (b + i))
    curve[:2, :2] += plain_curve
    curve[2:, 2:] += data.above @ (a + b + i) ** -2.0
    curve[3, 3] -= data.above @ (b + i) ** -2.0
    return float(value), by @ gone + [*slope, -either, stay - either], curve


# endregion likelihood


def weak_prior(theta: Floats) -> Terms:
    """Return a prior on ln a, ln b: dropout is neither certain nor impossible.

    ln f + ln(1 - f) - (ln k - ln 3)^2 / 4.5 with f = a/(a+b) and k = a+b.
    """
    k = np.logaddexp(*theta[2:])
    part, off = np.exp(theta[2:] - k), (k - math.log(3)) / 2.25
    bend = part.prod() * np.array([[1, -1], [-1, 1]])
    curve = -(2 + off) * bend - np.outer(part, part) / 2.25
    value = float(theta[2:].sum() - 2 * k - off**2 * 1.125)
    return value, np.pad(1 - (2 + off) * part, (2, 0)), np.pad(curve, (2, 0))


@dataclass(frozen=True)
class BgNbd:
    """Buying at a gamma rate until a beta chance of dropout; times in weeks.

    Where `identified` is False, the data tell the model from one without dropout by a
    likelihood ratio under 3.84: a and b rest on a prior and are not knowledge.
    """

    r: float
    alpha: float
    a: float
    b: float
    log_likelihood: float = math.nan
    identified: bool = True
    covariance: Floats = field(default_factory=lambda: np.eye(4), repr=False)  # of logs

    def p_alive(self, x: Ints, t_last: Floats, age: Floats) -> Floats:
        """Return the chance of not having dropped out; 1 for every one-time buyer."""
        odds = math.log(self.a) - np.log((self.b + x - 1).clip(1e-9))
        odds += (self.r + x) * np.log((self.alpha + age) / (self.alpha + t_last))
        return np.where(x > 0, 1 / (1 + np.exp(np.minimum(odds, 700))), 1.0)

    def p_none(self, x: Ints, age: Floats, weeks: float) -> Floats:
        """Return the chance that someone alive buys nothing in the next weeks."""
        return np.exp(-(self.r + x) * np.log1p(weeks / (self.alpha + age)))

    # region expected
    def expected(self, x: Ints, age: Floats, weeks: Floats | float) -> Floats:
        """Return the orders expected of someone alive in the next weeks.

        Equation 10 after an Euler transform of its hypergeometric function: terms
        shrink like z^n with z < 1, nothing overflows, and a = 1 is no pole. Six digits
        hold while `weeks` are under 1,000 times alpha + age; beyond, terms are missing.
        """
        z, e = weeks / (self.alpha + age + weeks), self.a - 1
        c, slack = self.a + self.b + x - 1, self.a + self.b - 1 - self.r
        term, n = slack * z + 0 * c, 1
        total = term
        while n < 20_000 and (np.abs(term) > 1e-12 * np.abs(total)).any():
            term = term * z * ((slack + n) * (e + n) / (n + 1)) / (c + n)
            total, n = total + term, n + 1
        log = np.log1p(-z)
        lead = -log if abs(e) < 1e-8 else -np.expm1(e * log) / e
        return (c * lead - np.exp(e * log) * total).clip(0)

    # endregion expected

    def next_order(self, x: Ints, t_last: Floats, age: Floats, q: float) -> Floats:
        """Return weeks until an order has come with chance q; inf if it is less."""
        live, weeks = self.p_alive(x, t_last, age), np.full(len(x), np.inf)
        can = live > q
        log = -np.log1p(-q / live[can]) / (self.r + x[can])
        weeks[can] = (self.alpha + age[can]) * np.expm1(log.clip(0, 700))
        return weeks


def fit_bgnbd(
    x: Ints, t_last: Ints, age: Ints, per_week: float = 7, guard: bool = True
) -> BgNbd:
    """Fit by maximum likelihood; times are whole units, `per_week` of them a week.

    Raises BadInput under MIN_REPEATERS customers with a repeat order.
    """
    # Trap: without dropout in the data, the likelihood has a ridge to a = 0, b =
    # infinity. An optimiser stops on it somewhere, and reports that as a finding.
    if (n := int((x > 0).sum())) < MIN_REPEATERS:
        said = f"{n} of {len(x)} customers bought on more than one day"
        raise BadInput(f"{said}; the models need {MIN_REPEATERS} who did")
    data = Collapsed(x, t_last, age, per_week)
    start = np.log([1, max(float(np.median(age)) / per_week, 0.1), 1, 1])
    free, plain = (by_logs(partial(f, data)) for f in (bgnbd_terms, nbd_terms))

    def held(theta: Floats) -> Terms:
        (value, slope, curve), prior = free(theta), weak_prior(theta)
        return value + prior[0], slope + prior[1], curve + prior[2]

    (theta, value, curve), identified = maximum(free, start), True
    if guard:
        ratio = 2 * (value - maximum(plain, start[:2])[1])
        identified = bool(ratio > 3.84 and np.abs(theta[2:]).max() < 12)
    if not identified:
        theta, _, curve = maximum(held, start)
    r, alpha, a, b = np.exp(theta).tolist()
    return BgNbd(r, alpha, a, b, free(theta)[0], identified, np.linalg.pinv(-curve))


def gamma_terms(v: Floats) -> tuple[Floats, Floats, Floats]:
    """Return ln Gamma and two derivatives: Stirling's series eight units above v."""
    above, y, i = v + np.arange(8)[:, None], v + 8, (v + 8) ** -2.0
    series = (1 / 12 - i * (1 / 360 - i * (1 / 1260 - i / 1680))) / y
    value = (y - 0.5) * np.log(y) - y + math.log(2 * math.pi) / 2 + series
    first = np.log(y) - 0.5 / y - i * (1 / 12 - i * (1 / 120 - i * (1 / 252 - i / 240)))
    second = 1 / y + i / 2 + i / y * (1 / 6 - i * (1 / 30 - i * (1 / 42 - i / 30)))
    value, first = value - np.log(above).sum(0), first - (1 / above).sum(0)
    return value, first, second + (above**-2.0).sum(0)


@dataclass(frozen=True)
class GammaGamma:
    """Spend of an order: gamma around a customer's mean, and means gamma, too.

    Fader, Hardie and Lee 2005 (Journal of Marketing Research 42). How often and how
    much are taken to be independent.
    """

    p: float
    q: float
    gamma: float
    log_likelihood: float = math.nan  # of the means of repeat orders

    def mean(self, x: Ints, mean_spend: Floats) -> Floats:
        """Return a customer's expected order: the own mean, shrunk towards all's."""
        return self.p * (self.gamma + x * mean_spend) / (self.p * x + self.q - 1)


def gamma_gamma_terms(x: Ints, z: Floats, p: float, q: float, gamma: float) -> Terms:
    """Return the log-likelihood of means z of x orders; derivatives by p, q, gamma."""
    n, k, weight = len(x), np.flatnonzero(count := np.bincount(x)), count[count > 0]
    sums, own = gamma_terms(p * k + q), gamma_terms(p * k)
    q0, q1, q2 = (float(g[0]) for g in gamma_terms(np.array([q])))
    total, part, shape = np.log(gamma + x * z), 1 / (gamma + x * z), p * x + q
    scale = float(x @ np.log(z) + weight @ (k * np.log(k)))
    value = weight @ (sums[0] - own[0]) + n * (q * math.log(gamma) - q0) + p * scale
    by_p = weight @ (k * (sums[1] - own[1])) + scale - x @ total
    by_q = weight @ sums[1] + n * (math.log(gamma) - q1) - total.sum()
    pp, pq = weight @ (k**2 * (sums[2] - own[2])), weight @ (k * sums[2])
    qq, qg, pg = weight @ sums[2] - n * q2, n / gamma - part.sum(), -(x @ part)
    gg = shape @ part**2 - n * q / gamma**2
    slope = np.array([by_p, by_q, n * q / gamma - shape @ part])
    curve = np.array([[pp, pq, pg], [pq, qq, qg], [pg, qg, gg]])
    return float(value - np.log(z).sum() - shape @ total), slope, curve


def fit_gamma_gamma(x: Ints, mean_spend: Floats) -> GammaGamma:
    """Fit to the customers who paid for a repeat order; BadInput if they are too few.

    q stays above 1.1, else the mean of everybody's orders would be infinite.
    """
    paid = (x > 0) & (mean_spend > 0)
    x, z = x[paid], mean_spend[paid]
    if len(x) < MIN_REPEATERS:
        said = f"{len(x)} customers paid for repeat orders"
        raise BadInput(f"{said}, {MIN_REPEATERS} needed")
    unit = float(z.mean())  # else the bounds of `maximum` depend on the currency
    z = z / unit
    terms = by_logs(lambda p, q, gamma: gamma_gamma_terms(x, z, p, 1.1 + q, gamma))
    theta, value, _ = maximum(terms, np.zeros(3))
    p, q, gamma = np.exp(theta).tolist()
    return GammaGamma(p, 1.1 + q, gamma * unit, value - len(z) * math.log(unit))


PUBLISHED = {"r": ".243", "alpha": "4.414", "a": ".793", "b": "2.426"}
PUBLISHED |= {"log_likelihood": "-9582.4", "p": "6.25", "q": "3.74", "gamma": "15.44"}


@demo
def models(env: Env) -> None:
    """The models: two fits in numpy, equal to the published ones"""
    f, later, equal = env.record.forecast, env.record.orders, []
    ours = vars(f.money) | vars(f.bgnbd)
    for name, text in PUBLISHED.items():
        digits = len(text.partition(".")[2])
        equal.append(round(ours[name], digits) == float(text))
        show(name, f"{ours[name]:.{digits}f}".replace("0.", "."))
    check("all eight equal the published figures, digit by digit", all(equal))
    rate = f.table.x / f.table.age * f.days
    guesses = {"then": later, BGNBD: f.orders, "x / T": rate}
    classes = {"0": (0, 0), "1": (1, 1), "2": (2, 2), "3": (3, 3), "over 3": (4, 99)}
    means: dict[str, dict[str, float]] = {}
    for name, (low, high) in classes.items():
        rows = (f.table.x >= low) & (f.table.x <= high)
        means[name] = {k: float(v[rows].mean()) for k, v in guesses.items()}
    table(*cells("repeat orders", means))
    off = [sum(abs(m[k] - m["then"]) for m in means.values()) for k in (BGNBD, "x / T")]
    check("BG/NBD misses by less than a quarter of the rate x / T", off[0] < off[1] / 4)


# %% 4. Known truth: simulated customers, and a dropout that nobody can see
TRUTH, MONEY = BgNbd(0.243, 4.414, 0.793, 2.426), GammaGamma(6.25, 3.74, 15.44)
ARRIVALS, SPAN = 84, 273  # days in which customers first buy; days until the cut
START = date(2024, 1, 1).toordinal()


def simulate(
    n: int, seed: int, days: int = SPAN, dropout: bool = True
) -> TransactionLog:
    """Return the orders of n customers drawn from TRUTH and MONEY, by the day.

    Round by round, who is still there waits for the next order, and after it leaves
    with a chance of its own.
    """
    rng = np.random.default_rng(seed)
    rate = rng.gamma(TRUTH.r, 1 / TRUTH.alpha, n).clip(1e-12) / 7
    leave = rng.beta(TRUTH.a, TRUTH.b, n) * dropout
    joined = rng.integers(ARRIVALS, size=n)
    who, now = np.arange(n), joined.astype(np.float64)
    buyers, times = [who], [joined]
    while len(who):
        now = now + rng.standard_exponential(len(who)) / rate[who]
        who, now = who[now < days], now[now < days]
        buyers.append(who)
        times.append(now.astype(np.int64))
        stay = rng.random(len(who)) >= leave[who]
        who, now = who[stay], now[stay]
    buyer, day = np.concatenate(buyers), np.concatenate(times)
    scale = MONEY.gamma / rng.standard_gamma(MONEY.q, n)
    amount = rng.standard_gamma(MONEY.p, len(buyer)) * scale[buyer]
    return TransactionLog(buyer, day + START, amount, range(n))


@demo
def dropout(env: Env) -> None:
    """Known truth: a dropout that is not there is reported, not invented"""
    fits, grid = list[BgNbd](), dict[str, dict[str, Any]]()
    names = ("r", "alpha", "a", "b", "identified")
    for case, real in (("leave", True), ("stay", False)):
        t = customer_table(simulate(4_000, SEED, dropout=real), START + SPAN - 1)
        for guard in (False, True):
            fits.append(fit := fit_bgnbd(t.x, t.t_last, t.age, guard=guard))
            way = f"customers who {case}, {'guarded' if guard else 'naive'} fit"
            grid[way] = {name: getattr(fit, name) for name in names}
            grid[way]["b"] = min(fit.b, 100.0)  # where on the ridge, is chance
    table(*cells("b at most 100", grid))
    _, found, wild, guarded = fits
    off = [math.log(getattr(found, k) / getattr(TRUTH, k)) for k in names[:4]]
    near = (np.abs(off) < 3 * np.sqrt(np.diag(found.covariance))).all()
    check("a real dropout is found within three standard errors", bool(near))
    check("without dropout the naive fit runs off, and says nothing", wild.b > 100)
    check("the guarded fit says: not identified", not guarded.identified)


# %% 5. P(alive) is not churn
# Trap: 1 - P(alive) sold as churn. In this model who bought once cannot have left, and
# most of them never come back.


def alive_grid(record: Backtest) -> Grid:
    """Return P(alive) and P(no order) by repeat orders and days since the last."""
    f, idle = record.forecast, np.array([0, 30, 90, 180, 270])
    grid, age = dict[str, dict[str, Any]](), np.full(5, SPAN / 7)
    for x in (0, 1, 2, 4, 8, 16):
        live = f.bgnbd.p_alive(np.full(5, x), age - idle / 7, age)
        none = 1 - live * (1 - f.bgnbd.p_none(np.full(5, x), age, f.days / 7))
        names = [f"{what}, {d} d" for what in ("alive", "none") for d in idle]
        grid[f"{x}"] = dict(zip(names, [*live.tolist(), *none.tolist()], strict=True))
    return grid


@demo
def alive(env: Env) -> None:
    """P(alive): its complement must not be sold as churn"""
    churn, record = env.record.forecast.churn, env.record
    scores = compared(record.gone, {k: churn[k] for k in (NOT_ALIVE, BGNBD)})
    table(*cells("churn", scores))
    table(*cells("x", alive_grid(record)))
    once = churn[NOT_ALIVE][record.forecast.table.x == 0]
    backwards = not once.any() and scores[NOT_ALIVE]["auc"] < 0.5
    check("who bought once counts as alive, so 1 - P(alive) ranks backwards", backwards)
    gap = scores[BGNBD]["loss - constant"]
    check("P(no order in the horizon) beats the constant", gap[1] < 0)


# %% 6. The backtest: chosen before the holdout is read
# Trap: the best of four models on the holdout. Its lead is partly luck, and the holdout
# has become training data: choose inside, score once.


def logistic(inputs: Floats, weights: Floats) -> Floats:
    """Return chances."""
    chance: Floats = 1 / (1 + np.exp(-(inputs @ weights).clip(-30, 30)))
    return chance


def fit_logistic(inputs: Floats, happened: Bools) -> Floats:
    """Return the weights of a logistic regression with a whiff of ridge."""

    def objective(theta: Floats) -> Terms:
        chance = logistic(inputs, theta)
        value = -log_losses(happened, chance).sum() - theta @ theta / 200
        slope = inputs.T @ (happened - chance) - theta / 100
        curve = -(inputs * (chance * (1 - chance))[:, None]).T @ inputs
        return float(value), slope, curve - np.eye(len(theta)) / 100

    return maximum(objective, np.zeros(inputs.shape[1]))[0]


# region forecast
class Forecast:
    """All that can be said at `as_of` about the days after it, which are not read.

    What must be learnt, the stack and which model to trust, is learnt from an earlier
    forecast inside: of `inner_days` up to `as_of`, whose outcome is known.
    """

    def __init__(
        self, log: TransactionLog, as_of: int, days: int, learn: bool = True
    ) -> None:
        self.log, self.days, self.table = log, days, (t := customer_table(log, as_of))
        self.weeks = t.x, t.t_last / 7, t.age / 7
        self.bgnbd = fit_bgnbd(t.x, t.t_last, t.age)
        self.money = fit_gamma_gamma(t.x, t.mean_spend)
        self.live = self.bgnbd.p_alive(*self.weeks)
        self.inner_loss, self.inner_rmse = dict[str, float](), dict[str, float]()
        self.weights, self.churn_model, self.value_model = np.zeros(0), BGNBD, GG
        inner_days = min(days, int(t.age.max()) // 2)
        if learn and inner_days:
            with suppress(BadInput):  # too few repeat buyers half-way: the defaults
                self._learn(Forecast(log, as_of - inner_days, inner_days, learn=False))

    def _learn(self, past: Forecast) -> None:
        orders, spent = outcome(self.log, past.table, past.days)
        gone, inputs, scores = orders == 0, past.inputs, dict(past.churn)
        self.weights = fit_logistic(inputs, gone)
        # Out of fold: in-sample, whatever was fitted would win the choice.
        fold, scores[STACK] = np.arange(len(gone)) % 5, np.zeros(len(gone))
        for mine in (fold == k for k in range(5)):
            weights = fit_logistic(inputs[~mine], gone[~mine])
            scores[STACK][mine] = logistic(inputs[mine], weights)
        for name, chance in scores.items():
            self.inner_loss[name] = float(log_losses(gone, chance).mean())
        for name, value in past.value.items():
            self.inner_rmse[name] = value_score(spent, value)["rmse"]
        self.churn_model = min(self.inner_loss, key=self.inner_loss.__getitem__)
        self.value_model = min(self.inner_rmse, key=self.inner_rmse.__getitem__)

    def by_pair(self, f: Callable[[Ints, Floats], Floats]) -> Floats:
        """Return f(x, T in weeks) of each row, evaluated once per different pair."""
        wide = int(self.table.age.max()) + 1
        key = self.table.x * wide + self.table.age
        if (int(self.table.x.max()) + 1) * wide > 4 * len(key) + 1000:
            pairs, key = np.unique(key, return_inverse=True)
        else:
            pairs = np.flatnonzero(seen := np.bincount(key) > 0)
            key = (np.cumsum(seen) - 1)[key]
        return f(pairs // wide, pairs % wide / 7)[key]

    @cached_property
    def p_zero(self) -> Floats:
        """The BG/NBD chance that a customer buys nothing in the next days."""
        none = self.by_pair(lambda x, age: self.bgnbd.p_none(x, age, self.days / 7))
        zero: Floats = 1 - self.live * (1 - none)
        return zero

    @cached_property
    def inputs(self) -> Floats:
        """Of the stack: 1, log odds of no order, and two features free of scale."""
        chance, t = self.p_zero.clip(1e-9, 1 - 1e-9), self.table
        odds, idle = np.log(chance / (1 - chance)), t.days_since_last / self.days
        return np.column_stack((np.ones(len(t.x)), odds, np.log1p(idle), np.log1p(t.x)))

    @cached_property
    def churn(self) -> dict[str, Floats]:
        """Each model's chance that a customer buys nothing in the next days."""
        rule, dead = churn_rule(self.table.days_since_last), 1 - self.live
        scores = {RULE: rule, NOT_ALIVE: dead, BGNBD: self.p_zero}
        if len(self.weights):
            scores[STACK] = logistic(self.inputs, self.weights)
        return scores

    @cached_property
    def orders(self) -> Floats:
        """The BG/NBD number of orders expected in the next days."""
        weeks = self.days / 7
        return self.live * self.by_pair(lambda x, t: self.bgnbd.expected(x, t, weeks))

    @cached_property
    def value(self) -> dict[str, Floats]:
        """Each model's forecast of what a customer spends in the next days."""
        t, naive = self.table, value_rule(self.table, self.days)
        model = self.orders * self.money.mean(t.x, t.mean_spend)
        return {NAIVE: naive, PER_DAY: naive * t.x / (t.x + 1), GG: model}

    @cached_property
    def ltv(self) -> Floats:
        """Spend of the next LTV_MONTHS, each month's discounted; at least 0."""
        month = np.arange(1, LTV_MONTHS + 1)[:, None]
        worth = (1 + DISCOUNT) ** (-month / 12)

        def orders(x: Ints, age: Floats) -> Floats:
            by_then = self.bgnbd.expected(x, age, month * 365.25 / 84)
            return np.asarray((np.diff(by_then, axis=0, prepend=0) * worth).sum(0))

        mean = self.money.mean(self.table.x, self.table.mean_spend)
        return self.live * self.by_pair(orders) * mean

    def draws(self, rows: Ints, days: float, seed: Sequence[int]) -> Floats:
        """Return DRAWS possible spends of each row in the next days, (rows, DRAWS).

        Given the data, who is alive has a rate of gamma(r + x, alpha + T), a dropout of
        beta(a, b + x) and a gamma mean order; the parameters are taken as known.
        """
        rng, shape = np.random.default_rng(seed), (len(rows), DRAWS)
        fit, money, x = self.bgnbd, self.money, self.table.x[rows, None]
        rate = rng.gamma(fit.r + x, 1 / (fit.alpha + self.weeks[2][rows, None]), shape)
        leave = rng.beta(fit.a, fit.b + x, shape).clip(1e-9, 1)
        orders = np.minimum(rng.poisson(rate * days / 7), rng.geometric(leave))
        orders *= rng.random(shape) < self.live[rows, None]
        shared = rng.gamma(money.p * x + money.q, 1, shape)
        scale = (money.gamma + x * self.table.mean_spend[rows, None]) / shared
        return rng.gamma(money.p * orders) * scale


# endregion forecast


class Rate(NamedTuple):
    """A share of n cases, with its 95 % Wilson interval."""

    rate: float
    low: float
    high: float
    n: int


def rate_of(happened: Bools) -> Rate:
    """Return the rate of what happened."""
    n, p, z = len(happened), float(happened.mean()), 1.96
    middle, half = p + z * z / 2 / n, z * math.sqrt(p * (1 - p) / n + (z / 2 / n) ** 2)
    low, high = ((middle + side) / (1 + z * z / n) for side in (-half, half))
    return Rate(p, max(low, 0.0), min(high, 1.0), n)


class Backtest:
    """A forecast made at `end`, and what happened in the days after it."""

    def __init__(self, log: TransactionLog, end: int, days: int) -> None:
        self.log, self.forecast = log, (f := Forecast(log, end, days))
        self.chance, self.amount = f.churn[f.churn_model], f.value[f.value_model]
        self.orders, self.spent = outcome(log, f.table, days)
        self.gone = self.orders == 0
        self._edges = dict[str, Floats]()  # of tenths, by model

    @cached_property
    def scores(self) -> dict[str, dict[str, Any]]:
        """Tables of churn and value scores, each with the constant first."""
        f = self.forecast
        churn, value = compared(self.gone, f.churn), compared(self.spent, f.value)
        return {"churn": churn, "value": value}

    def alike(self, model: str, scores: Floats, score: float) -> Bools:
        """Return whose score was in the tenth of a model's that this one falls into."""
        if model not in self._edges:
            edges = np.unique([scores[rows].max() for rows in tenths(scores)])
            self._edges[model] = edges[:-1]  # the last tenth is open above
        tenth = partial(np.searchsorted, self._edges[model])
        return np.asarray(tenth(scores) == tenth(score))

    def seen(self, chance: float, model: str) -> Rate | None:
        """Return how many did churn of whom a model said the like; None of another."""
        if (said := self.forecast.churn.get(model)) is None:
            return None
        return rate_of(self.gone[self.alike(model, said, chance)])

    @cached_property
    def survey(self) -> tuple[Ints, Bools, list[float]]:
        """SURVEYED rows at most, whose 80 % interval held, and the total's 95 %.

        The draws, and with them both intervals, take the fitted parameters for known.
        """
        rows = np.arange(0, len(self.gone), -(-len(self.gone) // SURVEYED))
        draws = self.forecast.draws(rows, self.forecast.days, [SEED])
        (low, high), spent = np.quantile(draws, (0.1, 0.9), axis=1), self.spent[rows]
        total = np.quantile(draws.sum(0), (0.025, 0.975)).tolist()
        return rows, (low <= spent) & (spent <= high), total

    def held(self, value: float) -> Rate | None:
        """Return how many intervals held of whom GG said the like; None of nobody."""
        rows, held, _ = self.survey
        alike = self.alike(GG, self.forecast.value[GG], value)[rows]
        return rate_of(held[alike]) if alike.any() else None


def reliability(record: Backtest) -> Grid:
    """Return by tenths what rule and chosen model said, and what was seen."""
    grid: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys((RULE, record.forecast.churn_model)):
        chance = record.forecast.churn[name]
        for k, rows in enumerate(tenths(chance), 1):
            said, seen = float(chance[rows].mean()), rate_of(record.gone[rows])
            line = list("." * 41)
            line[round(40 * seen.rate)], line[round(40 * said)] = "o", "s"
            row = {"said (s)": said, "seen (o)": seen.rate, "95 %": seen[1:3]}
            grid[f"{name} {k}"] = row | {"0 to 1": "".join(line)}
    return grid


@demo
def backtest(env: Env) -> None:
    """The backtest: chosen before the holdout is read, scored beside a constant"""
    record, f = env.record, env.record.forecast
    for name, loss in f.inner_loss.items():
        show(f"inner log-loss, {name}", cell(loss))
    show("chosen by it", f"{f.churn_model}; {f.value_model}")
    scores = record.scores
    for name, grid in scores.items():
        table(*cells(name, grid))
    table(*cells("tenth", reliability(record)))
    ours, rule = scores["churn"][f.churn_model], scores["churn"][RULE]
    better = ours["loss - constant"][1] < 0 and ours["brier"] < rule["brier"] - 0.05
    check("the chosen churn model beats the constant, and the rule by far", better)
    off = {name: row["mae"] for name, row in scores["value"].items()}
    near = 1.4 * off[GG] < min(off[NAIVE], off[PER_DAY])
    check("naive values are over 1.4 times as far off", near)
    surveyed, held, total = record.survey
    spent = float(record.spent[surveyed].sum())
    show("spends in their 80 % interval", f"{held.mean():.0%} of {len(held):,}")
    show("total's 95 %, were the fit exact", f"{cell(total)}; spent {cell(spent)}")
    who, later = env.log.customer.copy(), env.log.day > f.table.as_of
    who[later] = np.random.default_rng(SEED).permutation(who[later])
    other = Backtest(replace(env.log, customer=who), f.table.as_of, f.days)
    changed = f"{(other.spent != record.spent).mean():.0%} of customers"
    show("spends that a scramble changes", changed)
    same = (other.chance == record.chance) & (other.amount == record.amount)
    check("a scrambled holdout gets the same predictions: none was read", same.all())


# %% 7. Predictions that carry their record
# Trap: a "confidence" that the model made up for itself. What counts is how often the
# like of it came true, in a backtest, out of how many.


@dataclass(frozen=True)
class Prediction:
    """An answer, and how far to trust it; None where there is nothing to say.

    `probability`: of churn or an order in the forecast's days, of any spend in
    LTV_MONTHS. `skill`: share of the constant's error saved in the backtest.
    `observed`: how often it came true there, in the model's same tenth; of a lifetime
    value, how often the interval of the spend in the backtest's days held.
    """

    kind: PredictionType
    user: str
    value: float | tuple[str, ...] | None
    model: str
    probability: float | None = None
    low: float | None = None
    high: float | None = None
    skill: float | None = None
    observed: Rate | None = None


class MLModelManager:
    """Answers by the chosen models; a backtest, if there is one, says how good."""

    def __init__(
        self, forecast: Forecast, record: Backtest | None, *more: RecommendationEngine
    ) -> None:
        self.forecast, self.record, self.recommenders = forecast, record, more

    def predict(self, kind: PredictionType, users: str | Sequence[str]) -> Any:
        """Return the Prediction of a user, or a list for a sequence of users.

        Raises BadInput for a user who had not bought by then.
        """
        if not isinstance(users, str):
            return [self.predict(kind, user) for user in users]
        ask = {
            PredictionType.CHURN: self._predict_churn,
            PredictionType.LIFETIME_VALUE: self._predict_ltv,
            PredictionType.NEXT_PURCHASE: self._predict_next_purchase,
            PredictionType.RECOMMENDATION: self._predict_recommendation,
        }
        return ask[kind](users, row_of(self.forecast.log, self.forecast.table, users))

    def _skill(self, kind: str, error: str, model: str) -> float | None:
        scores = self.record and self.record.scores[kind]
        base = scores[CONSTANT][error] if scores and model in scores else 0
        return 1 - scores[model][error] / base if scores and base else None

    def _predict_churn(self, user: str, row: int) -> Prediction:
        model = self.forecast.churn_model
        chance = float(self.forecast.churn[model][row])
        seen = self.record.seen(chance, model) if self.record else None
        low, high = seen[1:3] if seen else (None, None)
        kind, skill = PredictionType.CHURN, self._skill("churn", "brier", model)
        return Prediction(kind, user, chance, model, chance, low, high, skill, seen)

    def _predict_ltv(self, user: str, row: int) -> Prediction:
        f, t, kind = self.forecast, self.forecast.table, PredictionType.LIFETIME_VALUE
        seed = [SEED, int(t.customer[row])]  # a user's own: alone or among many
        draws = f.draws(np.array([row]), 30.4375 * LTV_MONTHS, seed)
        x, mean, age = t.x[[row]], t.mean_spend[[row]], f.weeks[2][[row]]
        spend = f.bgnbd.expected(x, age, LTV_MONTHS * 365.25 / 84) * f.live[row]
        value, whole = float(f.ltv[row]), float((spend * f.money.mean(x, mean))[0])
        share = value / whole if whole else 1.0  # what the discount leaves
        low, high = (share * np.quantile(draws, (0.1, 0.9))).tolist()
        some, skill = float((draws > 0).mean()), self._skill("value", "rmse", GG)
        held = self.record.held(float(f.value[GG][row])) if self.record else None
        by = f"{GG}, {LTV_MONTHS} months"
        return Prediction(kind, user, value, by, some, low, high, skill, held)

    def _predict_next_purchase(self, user: str, row: int) -> Prediction:
        churn, days = self._predict_churn(user, row), list[float | None]()
        x, t_last, age = (column[[row]] for column in self.forecast.weeks)
        for q in (0.5, 0.1, 0.9):
            weeks = float(self.forecast.bgnbd.next_order(x, t_last, age, q)[0])
            days.append(7 * weeks if 7 * weeks < CENTURY else None)
        seen, back = churn.observed, 1 - (churn.probability or 0)
        seen = seen and Rate(1 - seen.rate, 1 - seen.high, 1 - seen.low, seen.n)
        kind, model = PredictionType.NEXT_PURCHASE, f"{BGNBD}, chance by {churn.model}"
        middle, low, high = days
        return Prediction(kind, user, middle, model, back, low, high, churn.skill, seen)

    def _predict_recommendation(self, user: str, row: int) -> Prediction:
        if not self.recommenders:
            raise BadInput("a recommendation needs a RecommendationEngine")
        offers = self.recommenders[0].get_recommendations(user)
        named = tuple(offer.item or offer.strategy for offer in offers)
        return Prediction(PredictionType.RECOMMENDATION, user, named, offers[0].reason)


@demo
def predict(env: Env) -> None:
    """Predictions: each says who made it, and how often that came true"""
    log, record, (_, days) = env.log, env.record, halves(env.log)
    manager = MLModelManager(f := Forecast(log, int(log.day.max()), days), record)
    best, idle = int(np.argmax(f.table.x)), f.table.days_since_last
    for row in (best, int(np.argmax(idle)), int(np.argmin(idle))):
        user = str(log.ids[f.table.customer[row]])
        show("customer, days with orders", f"{user}, {f.table.x[row] + 1}")
        for kind in list(PredictionType)[:3]:
            p = manager.predict(kind, user)
            text = f"{cell(p.value)} ({cell((p.low, p.high))}) by {p.model}; came true"
            show(f"  {kind.value}", f"{text} {p.observed.rate:.2f} of {p.observed.n:,}")
    held = []
    for chance in (record.forecast.churn[RULE], record.chance):
        pairs = [(rate_of(record.gone[b]), chance[b].mean()) for b in tenths(chance)]
        held.append(sum(seen.low <= said <= seen.high for seen, said in pairs))
    show("tenths that held: rule, model", f"{held[0]}, {held[1]} of 10")
    check("what the model says holds in over 7 tenths", held[1] > 7)
    check("what the rule says, in under 3", held[0] < 3)
    young = customer_table(log, int(log.day.min()) + 7)
    most = np.bincount(log.customer, log.amount).max()
    ruled = value_rule(young, 365).max()
    show("most spent; newcomer's LTV by the rule", f"{most:,.0f}; {ruled:,.0f}")
    sane = f.ltv.max() < most < ruled
    check("no modelled lifetime value exceeds what anyone ever spent", sane)


# %% 8. Recommendations: the segment's strategy, filled with items
# Trap: a list per segment, which is popularity by another name. What a customer bought
# says more than the company they are put in.


STRATEGY = {
    UserSegment.DORMANT: "re-engagement campaign",
    UserSegment.ACTIVE: "personalised products",
    UserSegment.VIP: "premium and exclusive items",
    UserSegment.AT_RISK: "retention offer",
}


class Recommendation(NamedTuple):
    """One thing to offer; `item` is None where the log knows no items."""

    strategy: str
    item: str | None
    reason: str


def of_items(log: TransactionLog) -> tuple[TransactionLog, Ints]:
    """Return the rows that name an item, and their items; BadInput if none can."""
    if log.item is None:
        raise BadInput("the log names no items")
    named = np.array([name != "" for name in log.items])[log.item]
    return log.where(named), log.item[named]


def grouped(by: Ints, n: int, codes: Ints) -> list[Ints]:
    """Return the different codes that stand beside each of 0 to n - 1."""
    wide = int(codes.max(initial=0)) + 1
    pairs = np.unique(by * wide + codes)
    return np.split(pairs % wide, np.searchsorted(pairs, np.arange(1, n) * wide))


class RecommendationEngine:
    """Segment strategies; with items: buy again, item-item, then what is popular."""

    def __init__(self, engine: AnalyticsEngine) -> None:
        self.engine, log = engine, engine.log
        self.items, self.popular = log.items, list[int]()
        if log.item is None:
            return
        log, item = of_items(log.where(log.day <= engine.table.as_of))
        order = np.argsort(log.customer, kind="stable")
        cuts = np.searchsorted(log.customer[order], np.arange(1, len(log.ids)))
        self.bought = np.split(item[order], cuts)  # of each customer
        self.baskets = grouped(log.customer, len(log.ids), item)  # each item once
        self.buyers = grouped(item, len(log.items), log.customer)
        sold = np.array([len(buyers) for buyers in self.buyers])
        self.reach, best = np.maximum(sold, 1), np.argsort(-sold, kind="stable")
        self.popular = best[: np.count_nonzero(sold)].tolist()
        times = np.bincount(item, minlength=len(sold))
        self.price = np.bincount(item, log.amount, len(sold)) / np.maximum(times, 1)

    # region similar
    def similar(self, items: Ints) -> Floats:
        """Return every item's cosine similarity to these, summed.

        Of two items: buyers of both / sqrt(buyers of one x buyers of the other).
        """
        score = np.zeros(len(self.reach))
        for item in np.unique(items):
            baskets = [self.baskets[c] for c in self.buyers[item]]
            both = np.bincount(np.concatenate(baskets), minlength=len(score))
            score += both / np.sqrt(self.reach * self.reach[item])
        return score

    # endregion similar

    def ranked(self, customer: int, count: int = 10) -> dict[int, str]:
        """Return the best items and why; the popular fill what is left."""
        mine = self.bought[customer]
        again, near = np.bincount(mine, minlength=len(self.reach)), self.similar(mine)
        score = again + near / (near.max() + 1e-9)  # items bought before come first
        best = np.argsort(-score, kind="stable")[:count].tolist()
        why = {i: "bought before" if again[i] else "bought together" for i in best}
        found = {i: why[i] for i in best if score[i]}
        fill = [i for i in self.popular if i not in found][: count - len(found)]
        return found | dict.fromkeys(fill, "popular")

    def get_recommendations(self, user: str, count: int = 10) -> list[Recommendation]:
        """Return what to offer, for a VIP the dearest first; BadInput if unknown."""
        row = row_of(self.engine.log, self.engine.table, user)
        segment = SEGMENTS[self.engine.segments[row]]
        if not self.popular:
            return [Recommendation(STRATEGY[segment], None, "the log names no items")]
        best = list(self.ranked(int(self.engine.table.customer[row]), count).items())
        if segment is UserSegment.VIP:
            best.sort(key=lambda pair: -self.price[pair[0]])
        offer = partial(Recommendation, STRATEGY[segment])
        return [offer(self.items[i], why) for i, why in best]


def recalls(
    log: TransactionLog, end: int, rank: Callable[[int], Iterable[int]]
) -> Floats:
    """Return what share of up to ten later items was ranked, per known customer."""
    log, item = of_items(log)
    known, bought = np.unique(log.customer[log.day <= end]), defaultdict(set)
    later = (log.day > end) & np.isin(log.customer, known)
    for customer, one in zip(log.customer[later], item[later], strict=True):
        bought[int(customer)].add(int(one))
    hits = [len(mine & {*rank(c)}) / min(len(mine), 10) for c, mine in bought.items()]
    return np.array(hits)


def simulate_shop(customers: int, items: int, seed: int) -> TransactionLog:
    """Return a year's orders of customers with favourites and one of eight tastes."""
    rng, rows, rank = np.random.default_rng(seed), [], np.arange(items)
    for c in range(customers):
        appeal = np.where(rank % 8 == c % 8, 8, 0.3) / (rank + 1)
        some = rng.choice(items, 30, p=appeal / appeal.sum())
        for day in rng.integers(365, size=rng.integers(3, 12)):
            again = rng.random(3) < 0.4  # one of the six favourites, else a find
            picks = np.where(again, some[rng.integers(6, size=3)], rng.choice(some, 3))
            rows += [(c, START + int(day), int(item)) for item in picks]
    buyer, when, item = np.array(rows, np.int64).T
    names = [f"item-{i:03}" for i in range(items)]
    ids = [f"customer-{c}" for c in range(customers)]
    return TransactionLog(buyer, when, 5.0 + item % 7, ids, item, names)


@demo
def recommend(env: Env) -> None:
    """Recommendations: what they bought, and its neighbours, beat what is popular"""
    engine = RecommendationEngine(AnalyticsEngine(env.log, int(env.log.day.max())))
    offer = engine.get_recommendations(str(env.log.ids[0]))[0]
    show("CDNOW's first customer", f"{offer.strategy}; {offer.reason}")
    shop, end = simulate_shop(400, 160, SEED), START + 270
    shown = RecommendationEngine(AnalyticsEngine(shop, end))
    found = {"popularity": recalls(shop, end, lambda c: shown.popular[:10])}
    found["again + item-item"] = recalls(shop, end, shown.ranked)
    table(*cells("a simulated shop, 160 items", {
        name: {"recall@10": float(hits.mean()), "95 %": interval_of_mean(hits)}
        for name, hits in found.items()
    }))  # fmt: skip
    base, ours = found.values()
    more = ours.mean() > 1.3 * base.mean() and interval_of_mean(ours - base)[0] > 0
    check("recall@10 is over 1.3 times popularity's, and not by chance", more)


# %% 9. Insights: sentences computed from figures
# Trap: advice written into the template. It reads the same when the data turn round.


def average(column: Floats | Bools, rows: Bools) -> float | None:
    """Return the mean of these rows; None if there are none."""
    return float(column[rows].mean()) if rows.any() else None


class InsightsGenerator:
    """Segments in figures and sentences; no sentence without its figures."""

    def __init__(self, forecast: Forecast, record: Backtest | None = None) -> None:
        self.forecast, self.record = forecast, record

    def generate_segment_report(self) -> dict[str, dict[str, Any]]:
        """Return figures by segment, now and, with a backtest, what it saw then."""
        f, report = self.forecast, dict[str, dict[str, Any]]()
        for code, segment in enumerate(SEGMENTS):
            mine = segment_rule(f.table) == code
            row: dict[str, Any] = {
                "customers": int(mine.sum()),
                "share": float(mine.mean()),
                "spend": float(f.table.spend[mine].sum()),
                "predicted_churn": average(f.churn[f.churn_model], mine),
                "predicted_ltv": float(f.ltv[mine].sum()),
            }
            report[segment.value] = row
            if b := self.record:
                then = segment_rule(b.forecast.table) == code
                row["backtest_churn"] = average(b.chance, then)
                row["observed_churn"] = average(b.gone, then)
                row["observed_95"] = rate_of(b.gone[then])[1:3] if then.any() else None
                row["observed_of"] = int(then.sum())
                share = b.spent[then].sum() / (b.spent.sum() or 1)
                row["observed_spend_share"] = float(share)
        return report

    def _generate_insights(self, report: Grid) -> list[str]:
        """Return a sentence per segment that has customers, and one on the rule."""
        said = [self._sentence(k, row) for k, row in report.items() if row["customers"]]
        if self.record:
            names = RULE, CONSTANT, self.record.forecast.churn_model
            churn = self.record.scores["churn"]
            brier = {name: churn[name]["brier"] for name in names}
            best = sorted(brier, key=brier.__getitem__)
            order = [f"{name} {brier[name]:.3f}" for name in best]
            said.append(f"churn by Brier score, best first: {', '.join(order)}.")
        return said

    def _sentence(self, name: str, row: Mapping[str, Any]) -> str:
        head = f"{name}: {row['customers']:,} customers ({row['share']:.0%}), worth "
        head += f"{row['predicted_ltv']:,.0f} in {LTV_MONTHS} months; "
        seen, said = row.get("observed_churn"), row.get("backtest_churn")
        if seen is None or said is None:
            churn = f"{row['predicted_churn']:.0%} are expected to churn"
            return f"{head}{churn} (untested)."
        share = row["observed_spend_share"]
        (low, high), n = row["observed_95"], row["observed_of"]
        head += f"in the backtest {1 - seen:.0%} came back (said: {1 - said:.0%}) "
        head += f"with {share:.0%} of all spend: "
        if n < FEWEST:
            return f"{head}{n} are too few to tell."
        if abs(seen - said) > 0.1 and not low <= said <= high:
            return head + "do not act on the model's figure here."
        if seen > 0.5:
            return head + ("win them back." if share > 0.2 else "a reminder is enough.")
        return head + ("keep them." if share > 0.2 else "they return unasked.")


@demo
def insights(env: Env) -> None:
    """Insights: sentences that change when the data do"""
    log, record, then = env.log, env.record, env.record.forecast
    now = Forecast(log, int(log.day.max()), then.days)
    report = InsightsGenerator(now, record)
    said = report._generate_insights(grid := report.generate_segment_report())
    table(*cells("segment", grid))
    for line in said:
        say(f"  - {line}")
    dormant = segment_rule(then.table) == SEGMENTS.index(UserSegment.DORMANT)
    lost = np.isin(log.customer, then.table.customer[dormant])
    kept = log.where(~lost | (log.day <= then.table.as_of))
    quiet = InsightsGenerator(now, Backtest(kept, then.table.as_of, then.days))
    changed = quiet._generate_insights(quiet.generate_segment_report())[0]
    say(f"  had none of the dormant come back: {changed.partition('; ')[2]}")
    check("the data say: win the dormant back", said[0].endswith("win them back."))
    check("other data, other sentence", changed.endswith("figure here."))


# %% 10. Pictures, reports and a million customers
# Trap: months that have not happened yet, drawn as zero: every cohort seems to die.


def lift(record: Backtest) -> Grid:
    """Return the spend of each tenth by forecast, best first, over the mean."""
    mean, grid = float(record.spent.mean()) or 1.0, dict[str, dict[str, Any]]()
    for k, rows in enumerate(tenths(-record.amount), 1):
        times = float(record.spent[rows].mean()) / mean
        grid[f"{k}"] = {"times mean": times, "": "#" * round(5 * times)}
    return grid


def retention(record: Backtest) -> Grid:
    """Return by month of the first order what share bought k months later.

    Of the last twelve cohorts; a month that is not over is missing.
    """
    last = record.forecast.table.as_of + record.forecast.days
    tomorrow = date.fromordinal(max(last, int(record.log.day.max())) + 1)
    stop = int(np.datetime64(tomorrow, "M").astype(np.int64))
    who, when = order_days(record.log)
    day = (when - date(1970, 1, 1).toordinal()).astype("datetime64[D]")
    month, first = day.astype("datetime64[M]").astype(np.int64), starts(who)
    joined = np.repeat(month[first], np.diff(np.append(first, len(who))))
    grid: dict[str, dict[str, Any]] = {}
    for cohort in np.unique(joined)[-12:].tolist():
        mine, later = joined == cohort, stop - cohort
        pairs = np.unique(who[mine] << BITS | (month[mine] - cohort))
        count = np.bincount(pairs & DAY, minlength=later)
        shares = (count[1:later] / count[0]).tolist()
        row = {f"+{k}": share for k, share in enumerate(shares, 1)}
        grid[str(np.datetime64(cohort, "M"))] = row
    return grid


def tracking(record: Backtest) -> Grid:
    """Return repeat orders by week, and those expected by the fit made at the cut."""
    f, t = record.forecast, record.forecast.table
    who, when = order_days(record.log.where(np.isin(record.log.customer, t.customer)))
    repeat, begin = np.delete(when, starts(who)), int(when.min())
    joined, count = np.unique(t.as_of - t.age - begin, return_counts=True)
    grid, none = dict[str, dict[str, Any]](), np.zeros(len(joined), np.int64)
    for day in np.linspace(0, t.as_of + f.days - begin, 14, dtype=int)[1:].tolist():
        orders = f.bgnbd.expected(none, none / 7, (day - joined).clip(0) / 7)
        seen = float((repeat <= begin + day).sum())
        grid[f"{day // 7}"] = {"actual": seen, "expected": float(count @ orders)}
    return grid


def draw_reliability(ax: Any, grid: Grid) -> None:
    """Draw what each model said against what was seen; on the diagonal it was right."""
    ax.plot([0, 1], [0, 1], "k:", label="as said")
    for model in dict.fromkeys(name.rpartition(" ")[0] for name in grid):
        rows = [row for name, row in grid.items() if name.rpartition(" ")[0] == model]
        said, seen = (
            np.array([r[key] for r in rows]) for key in ("said (s)", "seen (o)")
        )
        reach = np.abs(np.array([row["95 %"] for row in rows]).T - seen)
        ax.errorbar(said, seen, reach, fmt="o-", label=model)
    ax.legend()


def draw_bars(ax: Any, grid: Grid) -> None:
    """Draw the first column as bars, beside a line at one."""
    ax.bar(list(grid), [next(iter(row.values())) for row in grid.values()])
    ax.axhline(1, color="black", linestyle=":")


def draw_heat(ax: Any, grid: Grid) -> None:
    """Draw all figures as colours; what is missing stays white."""
    names = list(dict.fromkeys(name for row in grid.values() for name in row))
    rows = [[row.get(name, math.nan) for name in names] for row in grid.values()]
    ax.figure.colorbar(ax.imshow(rows, aspect="auto", vmin=0), ax=ax)
    ax.set_xticks(range(len(names)), names, rotation=90)
    ax.set_yticks(range(len(grid)), list(grid))


def draw_lines(ax: Any, grid: Grid) -> None:
    """Draw each column as a line."""
    for name in next(iter(grid.values())):
        ax.plot(list(grid), [row[name] for row in grid.values()], "o-", label=name)
    ax.legend()


Axes = tuple[str, str]
MONTHS: Axes = "months after the first order", "month of the first order"
SILENCE: Axes = "days since the last order", "repeat orders"
SAID: Axes = "said, by tenths", "seen, with 95 % intervals"
TENTHS: Axes = "tenth by forecast", "spend, times the mean"
PICTURES: dict[str, tuple[str, Axes, Callable[[Backtest], Grid], Any]] = {
    "reliability": ("churn said and seen", SAID, reliability, draw_reliability),
    "lift": ("spend by tenths of the forecast", TENTHS, lift, draw_bars),
    "retention": ("customers who bought again", MONTHS, retention, draw_heat),
    "alive": ("P(alive) beside P(no order)", SILENCE, alive_grid, draw_heat),
    "tracking": ("repeat orders by week", ("week", "orders"), tracking, draw_lines),
}


def figures(record: Backtest) -> dict[str, bytes]:
    """Return each picture as SVG, the same in every run; ImportError if it cannot."""
    import matplotlib as mpl  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    drawn = {}
    for name, (title, axes, grid, draw) in PICTURES.items():
        with mpl.rc_context({"svg.hashsalt": "module8", "svg.fonttype": "none"}):
            figure = Figure(figsize=(7, 4), layout="constrained")
            draw(ax := figure.subplots(), grid(record))
            ax.set(title=title, xlabel=axes[0], ylabel=axes[1])
            figure.savefig(out := io.BytesIO(), format="svg", metadata={"Date": None})
        drawn[name] = out.getvalue()
    return drawn


def repeated(log: TransactionLog) -> int:
    """Return how many rows are copies of another; two equal orders may be real."""
    known = log.item, log.amount, log.day, log.customer
    columns = [column for column in known if column is not None]
    order = np.lexsort(columns)
    new = np.any([np.diff(column[order]) != 0 for column in columns], axis=0)
    return len(order) - 1 - int(new.sum())


class Study:
    """One log, as the options say: a forecast, and a backtest if there can be one."""

    def __init__(self, args: argparse.Namespace) -> None:
        path, end, days = args.transactions, args.calibration_end, args.horizon
        path = path or SAMPLE
        self.name = f"{args.simulate:,} simulated" if args.simulate else path.name
        if args.simulate > MANY:
            aside(f"simulating {args.simulate:,} customers")
        made = args.simulate and simulate(args.simulate, args.seed)
        self.log = made or read_log(path, args.columns)
        if len(self.log.day) > MANY:
            aside(f"features, fits and forecasts from {len(self.log.day):,} orders")
        first, as_of = int(self.log.day.min()), args.as_of or int(self.log.day.max())
        if as_of < first:
            raise BadInput(f"--as-of {iso(as_of)}: the first order is on {iso(first)}")
        log = self.log.where(self.log.day <= as_of)
        days = days or as_of - (end or as_of - (as_of - first + 1) // 2)
        end, asked, self.record = end or as_of - days, bool(end or args.horizon), None
        if asked and not first <= end < end + days <= as_of:
            said = f"a backtest of {days} days, on the log of {iso(first)} to "
            raise BadInput(f"{said}{iso(as_of)}: no calibration is left, or no holdout")
        with nullcontext() if asked else suppress(BadInput):  # too few for halves
            self.record = None if made and not asked else Backtest(log, end, days)
        then = self.record and self.record.forecast
        self.now = Forecast(log, as_of, then.days if then else SPAN, learn=bool(then))
        self.fitted = self.now if args.as_of and not asked else then or self.now
        self.report = InsightsGenerator(self.now, self.record)
        self.segments = self.report.generate_segment_report()
        self.insights = self.report._generate_insights(self.segments)
        soon = 7 * self.now.bgnbd.next_order(*self.now.weeks, 0.5) <= DUE_DAYS
        self.due = int(soon.sum())

    def figures(self) -> dict[str, Any]:
        """Return what --json prints; NaN becomes None there."""
        refused, used = sum(map(len, self.log.refused.values())), len(self.log.day)
        fit = {k: v for k, v in vars(self.fitted.bgnbd).items() if k != "covariance"}
        scores = self.record.scores if self.record else {"churn": {}, "value": {}}
        chosen = self.record.forecast if self.record else self.now
        return {
            "customers": len(self.now.table.x),
            "rows": {"read": used + refused, "used": used, "refused": refused},
            "as_of": iso(self.now.table.as_of),
            "fitted_at": iso(self.fitted.table.as_of),
            "horizon_days": self.now.days,
            f"due_in_{DUE_DAYS}_days": self.due,  # as likely as not, or likelier
            "bgnbd": fit,
            "gamma_gamma": vars(self.fitted.money),
            **scores,
            "chosen": {"churn": chosen.churn_model, "value": chosen.value_model},
            "segments": self.segments,
        }

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield what stands in no table, named."""
        for name, value in self.figures().items():
            if isinstance(value, str | int):
                yield name, str(value)
            elif name in ("rows", "bgnbd", "gamma_gamma", "chosen"):
                yield name, ", ".join(f"{k} {cell(v)}" for k, v in value.items())
        if self.log.read:
            yield "columns", ", ".join(f"{k} {v}" for k, v in self.log.read.items())
        yield "rows refused", self.log.refusals()
        yield "orders that cost nothing", f"{(self.log.amount == 0).sum():,}, used"
        yield "rows like an earlier row", f"{repeated(self.log):,}, used"

    def grids(self) -> dict[str, Grid]:
        """Return tables, and pictures in figures, by title."""
        grids: dict[str, Grid] = {"segment": self.segments}
        if self.record:
            grids |= self.record.scores
            pictures = PICTURES.values()
            grids |= {title: grid(self.record) for title, _, grid, _ in pictures}
        return grids


STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:auto}
div{overflow-x:auto}td,th{padding:.2rem .6rem;text-align:right;white-space:nowrap}
td:first-child,th:first-child{text-align:left}img{width:100%}body{padding:1rem}"""
HEAD = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy"
content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,"><title>Customers</title>"""


def page(study: Study) -> str:
    """Return a report that needs nothing but itself: its policy forbids requests."""
    parts = [f"{HEAD}<style>{STYLE}</style></head><body><h1>Customers</h1><dl>"]
    for name, text in [("log", study.name), *study.lines()]:
        parts.append(f"<dt>{html.escape(name)}<dd>{html.escape(text)}")
    said = "".join(f"<li>{html.escape(line)}" for line in study.insights)
    parts.append(f"</dl><ul>{said}</ul>")
    with suppress(ImportError):  # the tables below hold the same figures
        for name, svg in figures(study.record).items() if study.record else ():
            data = base64.b64encode(svg).decode()
            parts.append(f'<img alt="{name}" src="data:image/svg+xml;base64,{data}">')
    for title, grid in study.grids().items():
        rows = [[html.escape(text) for text in row] for row in cells(title, grid)]
        lines = "".join(f"<tr><td>{'<td>'.join(row)}" for row in rows)
        parts.append(f"<div><table>{lines}</table></div>")
    return "".join(parts) + "</body></html>\n"


def saved(path: Path, content: bytes) -> None:
    """Write a file; BadInput names it if that is impossible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as problem:
        raise BadInput(f"{path}: {problem.strerror}") from None


def analyse(args: argparse.Namespace) -> int:
    """Study a log as the options say; return the exit code."""
    if (study := Study(args)).record is None and args.plots:
        raise BadInput("--plots draws a backtest: give --calibration-end or more data")
    if args.report:
        saved(args.report, page(study).encode())
    if args.plots and study.record:
        try:
            for name, svg in figures(study.record).items():
                saved(args.plots / f"{name}.svg", svg)
        except ImportError:
            raise BadInput("--plots needs matplotlib: pip install matplotlib") from None
    if args.json:
        text = json.dumps(study.figures(), indent=1)
        print(re.sub(r"-?\b(NaN|Infinity)\b", "null", text))
        return 0
    say(f"backend: numpy in this process, {study.name}; no service needed")
    for name, text in study.lines():
        show(name, text)
    for title, grid in study.grids().items():
        say()
        table(*cells(title, grid))
    for line in study.insights:
        say(f"  - {line}")
    return 0


@demo
def scale(env: Env) -> None:
    """Scale: 100,000 customers of known truth, on the few rows that differ"""
    record = Backtest(simulate(100_000, SEED, days=2 * SPAN), START + SPAN - 1, SPAN)
    f, t = record.forecast, record.forecast.table
    data = Collapsed(t.x, t.t_last, t.age, 7)
    show("customers, rows the likelihood visits", f"{len(t.x):,}, {len(data.x):,}")
    few = 3 * len(data.x) < len(t.x)
    check("the likelihood visits a row for under a third of them", few)
    off = {k: churn_score(record.gone, f.churn[k])["ece"] for k in (RULE, BGNBD)}
    show("said and seen differ by: rule, BG/NBD", f"{off[RULE]:.2f}, {off[BGNBD]:.2f}")
    check("on known truth BG/NBD's chances come true within 0.01", off[BGNBD] < 0.01)
    check("the rule's are off by over 0.1", off[RULE] > 0.1)


# %% 11. Integrated: five lessons, four stores, one set of figures
FEW, ROBOTS = 300, 3  # customers on stand-ins; sign-ups without an address
BATCH = 32  # messages that share a commit, at most: the threads of a consumer
MOST_WORKERS = 16  # each takes 4 of the 100 connections that PostgreSQL has
LIMIT, BASE = 60.0, 0.5  # seconds: without any progress; to the first retry
TTL = 3600  # seconds that a score lives in the cache
PATIENCE = 5 + int(TTL / 16 / BASE)  # retries of an order, which take longer than that
MODEL = "prediction:1"  # of the cache's keys: another model, other keys
TABLES = """
CREATE TABLE inbox (queue text, id text, done integer, PRIMARY KEY (queue, id));
CREATE TABLE purchases (id text, customer text, day integer, cents integer);
CREATE INDEX by_customer ON purchases (customer);
CREATE TABLE spans (hop text, start double precision, took double precision, n integer)
"""
DONE = "UPDATE inbox SET done = 1 WHERE queue = :queue AND id IN :ids"
BUY = "INSERT INTO purchases VALUES (:id, :customer, :day, :cents)"
TOOK = "INSERT INTO spans VALUES (:hop, :start, :took, :n)"
FEATURES = """SELECT day, sum(cents) FROM purchases WHERE customer = :user
              GROUP BY day ORDER BY day"""
CARRIES = {"01": "SQL", "02": "MongoDB", "03": "Redis", "04": "RabbitMQ"}
PUBLISH = "publish to RabbitMQ"  # a hop: until it is confirmed
Letter = tuple[Any, str, str]  # a message, its exchange, its routing key
Scores = dict[str, list[float]]  # of a customer: chance of no order, spend


def sibling(number: str) -> Any:
    """Return another lesson as a module; BadInput if it or what it needs is absent."""
    name = f"module8_lesson_{number}"
    if name in sys.modules:
        return sys.modules[name]
    path = next(Path(__file__).parent.glob(f"{number}_*.py"), None)
    if path is None:
        said = f"no {number}_*.py here, which carries the hops of {CARRIES[number]}"
        raise BadInput(f"--integrated needs lesson {number}: {said}")
    spec: Any = importlib.util.spec_from_file_location(name, path)
    # Before it runs: SQLAlchemy looks the annotations of Mapped[] up there.
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as missing:
        del sys.modules[name]
        hint = "pip install -r requirements.txt"
        raise BadInput(f"{path.name} needs {missing.name}: {hint}") from None
    vars(module)["BadInput"] = BadInput  # theirs ends as one line and exit 2, too
    return module


class Stores:
    """What a worker changes outside SQL; each call may come twice, and counts once."""

    def __init__(self, documents: Any, caching: Any, db: Any, cache: Any) -> None:
        self.documents, self.db, self.cache = documents, db, cache
        self.key = caching.redis_cache(name=MODEL)(lambda user: None).key
        self.lock = threading.Lock()

    def insert(self, collection: str, rows: list[dict[str, Any]]) -> None:
        """Insert documents, all in one command; an _id that is there counts as done."""
        loader = self.documents.UserManager({"users": self.db[collection]})
        if wrong := loader.bulk_insert_users(rows).rejected:
            raise ValueError(f"MongoDB refuses some of {collection}: {wrong[0][1]}")

    # region forget
    def forget(self, users: list[str]) -> None:
        """Delete predictions; ConnectionError if the cache has not heard of it.

        The messages then come again: the debt lies in the queue, which no crash ends,
        and not in this process, which would renew the whole cache to pay it. Orders
        have PATIENCE: when they become dead letters, the score has expired, too.
        """
        with self.lock:
            self.cache.delete(*map(self.key, users))
            if self.cache.owed:
                self.cache.owed = False
                raise ConnectionError("the cache has not heard of a purchase")

    # endregion forget


class StandIns(BaseManager):
    """Lends the Stores of one process to workers, whose calls go over loopback."""


def lent(stores: Stores, stack: ExitStack) -> tuple[int, str]:
    """Serve stand-ins that live in this process; return port and key."""
    key = secrets.token_hex(16)  # a manager unpickles what it is sent: not by anybody
    StandIns.register("stores", lambda: stores)
    server: Any = StandIns(("127.0.0.1", 0), key.encode()).get_server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stack.callback(lambda: server.stop_event.set())  # noqa: PLW0108 (made as it begins)
    return server.address[1], key


def borrowed(port: int, key: str) -> Any:
    """Return the Stores of the process that lends them."""
    StandIns.register("stores")
    manager = StandIns(("127.0.0.1", port), key.encode())
    manager.connect()
    return manager.stores()  # type: ignore[attr-defined]


def midnight(day: str) -> datetime:
    """Return the instant at which a day begins, given as 1997-09-30."""
    return datetime.fromisoformat(day).replace(tzinfo=UTC)


def span(hop: str, start: float, n: int = 1, end: float = 0.0) -> dict[str, Any]:
    """Return how long n messages took together on their way, up to now or an end."""
    return {"hop": hop, "start": start, "took": (end or time.time()) - start, "n": n}


class Books:
    """The ledger of one of lesson 04's consumers: each message has its effects once.

    Those that wait while others are written share the next commit; the price is that
    one which cannot be written costs all of them a second try. Of itself it keeps the
    inbox; what else a queue's messages change, the classes below say.
    """

    store = ""  # other than SQL

    def __init__(
        self,
        sql: Any,
        engine: Any,
        stores: Any,
        queue: str,
        *,
        inbox: bool = True,
        last_order: int = 0,
    ) -> None:
        self.sql, self.stores, self.queue, self.inbox = sql, stores, queue, inbox
        self.last_order = last_order or math.inf  # --chaos: then the process dies
        self.sessions = sql.orm.sessionmaker(engine)
        sa, dialect = sql.sa, getattr(sql, engine.dialect.name)
        table = sa.table("inbox", *map(sa.column, ("queue", "id", "done")))
        insert = dialect.insert(table).on_conflict_do_nothing()
        self.mark = insert.returning(table.c.id)
        self.done = sql.text(DONE).bindparams(sa.bindparam("ids", expanding=True))
        self.waiting: SimpleQueue[tuple[Any, Future[bool]]] = SimpleQueue()
        threading.Thread(target=self.write, daemon=True).start()

    # region batch
    def once(self, queue: str, message: Any, what: str) -> bool:
        """Wait until a message is applied with its batch; tell whether it was new."""
        self.waiting.put((message, mine := Future[bool]()))
        return mine.result()

    def write(self) -> None:
        """Apply what waits, together; while that takes its time, more come to wait."""
        while True:
            batch = [self.waiting.get()]
            while not self.waiting.empty():
                batch.append(self.waiting.get())
            self.settle(batch)

    def settle(self, batch: list[tuple[Any, Future[bool]]]) -> None:
        """Apply a batch, or each alone if that fails: the one at fault fails alone."""
        try:
            new = self.apply([message for message, _ in batch])
        except Exception as error:
            if len(batch) == 1:
                batch[0][1].set_exception(error)
            for one in batch if len(batch) > 1 else ():
                self.settle([one])
        else:
            for message, told in batch:
                told.set_result(message.id in new)

    # endregion batch
    # region once
    def apply(self, batch: list[Any]) -> set[str]:
        """Apply messages; return the ids of the new. A crash at any point is mended.

        SQL takes effects and marks together. What lies in another store follows and may
        be repeated; `done` says that it is there, and only then come acknowledgements.
        """
        # Trap: mark, then write elsewhere. After a crash in between, the message that
        # comes again is taken for done, and the other store never hears of it.
        start, known = time.time(), {message.id: message for message in batch}
        ids = sorted(known)  # or two workers wait for each other's marks
        with self.sessions.begin() as session:
            marks = [{"queue": self.queue, "id": one, "done": 0} for one in ids]
            new = set(session.scalars(self.mark, marks))
            fresh = [known[one] for one in sorted(new)] if self.inbox else batch
            self.record(session, fresh)
        self.committed(len(fresh))
        middle = time.time()
        self.follow([*known.values()])
        spans = [span(f"{self.queue} to SQL", start, len(fresh), middle)]
        if self.store:
            spans.append(span(f"{self.queue} to {self.store}", middle, len(known)))
        spans.append(span("again", start, len(batch) - len(fresh)))
        with self.sessions.begin() as session:
            session.execute(self.done, {"queue": self.queue, "ids": ids})
            session.execute(self.sql.text(TOOK), spans)
        return new

    # endregion once

    def record(self, session: Any, messages: list[Any]) -> None:
        """Put the effects of new messages into the transaction."""

    def committed(self, new: int) -> None:
        """Do nothing after a commit; what --chaos kills, dies here."""

    def follow(self, messages: list[Any]) -> None:
        """Bring messages into the other store, of which some may be there."""


class Users(Books):
    """Sign-ups: a user of lesson 01's model, and a profile of lesson 02's."""

    store = "MongoDB"

    def record(self, session: Any, messages: list[Any]) -> None:
        """Add users; CDNOW knows no addresses: all share one."""
        address = session.scalars(self.sql.text("SELECT min(id) FROM addresses")).one()
        for one in messages:
            user = self.sql.User(username=one.username, email=one.email)
            user.registered_at = midnight(one.registration_date)
            user.address_id = address
            self.sql.UserRepository(session).add(user)

    def follow(self, messages: list[Any]) -> None:
        """Insert profiles."""
        rows = [
            {
                "_id": int(one.username),
                "schema_version": 2,
                "username": one.username,
                "email": one.email,
                "created_at": midnight(one.registration_date),
                "profile": {"interests": ["music"]},
            }
            for one in messages
        ]
        self.stores.insert("users", rows)


class Purchases(Books):
    """Orders: a row of SQL each, and a prediction in Redis that is out of date."""

    store = "Redis"

    def record(self, session: Any, messages: list[Any]) -> None:
        """Add orders. No foreign key: one may overtake its customer's sign-up."""
        rows = [{"id": m.id, "customer": m.user_id} | m.properties for m in messages]
        if rows:
            session.execute(self.sql.text(BUY), rows)

    def committed(self, new: int) -> None:
        """Count; at the last order the worker is gone before it can acknowledge."""
        self.last_order -= new
        if self.last_order < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def follow(self, messages: list[Any]) -> None:
        """Forget what was predicted without these orders."""
        self.stores.forget([message.user_id for message in messages])


class Events(Books):
    """Orders, once more: as events of lesson 02, whose _id is the message's id."""

    store = "MongoDB"

    def follow(self, messages: list[Any]) -> None:
        """Insert events."""
        rows = [
            {
                "_id": one.id,
                "schema_version": 1,
                "user_id": int(one.user_id),
                "event_type": "purchase",
                "timestamp": midnight(iso(one.properties["day"])),
                "metadata": {"price": one.properties["cents"] / 100},
            }
            for one in messages
        ]
        self.stores.insert("events", rows)


WORK = {  # queue: lesson 04's consumer, and its ledger
    "user_data": ("UserDataConsumer", Users),
    "analytics": ("AnalyticsConsumer", Purchases),
    "archive": ("AnalyticsConsumer", Events),
    "notifications": ("NotificationConsumer", Books),
}


def work() -> int:
    """Consume all queues until stdin ends, as its first line says; return 0."""
    if not (first := sys.stdin.readline()):
        return 0  # whoever started us is gone already
    spec = json.loads(first)
    sql, documents, caching, messaging = map(sibling, CARRIES)
    with ExitStack() as stack:
        url, schema = sql.sa.make_url(spec["sql"]), spec["schema"]
        make = partial(sql.postgres_engine, url, schema)
        engine = make() if schema else sql.sqlite_engine(Path(url.database))
        stack.callback(engine.dispose)
        if spec["lent"]:
            stores = borrowed(*spec["lent"])
        else:
            client = documents.connect(spec["mongo"], documents.CommandCounter())
            redis = caching.cache_client(spec["redis"], 0.5)
            redis.connection_pool.connection_kwargs |= spec["redis_at"]
            cache = caching.RedisCache(redis, spec["cache"])
            db = stack.enter_context(client)[spec["db"]]
            stores = Stores(documents, caching, db, cache)
        where = messaging.parameters_of(spec["rabbit"])
        where.host, where.port = spec["rabbit_at"]
        rabbit = messaging.RabbitMQConnection(where, spec["prefix"], BASE)
        producer = stack.enter_context(messaging.Producer(rabbit))
        for queue, (kind, ledger) in WORK.items():
            books = ledger(sql, engine, stores, queue, last_order=spec["last_order"])
            about = rabbit, rabbit.name(queue), producer, books
            one = getattr(messaging, kind)(*about, 2 * BATCH, BATCH)
            stack.enter_context(messaging.running(one))
        sys.stdin.read()  # ends with our parent, however that ends
    return 0


class Staff:
    """Worker processes. Each consumes until its stdin ends: also if we are killed."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec, self.killed = spec, 0
        self.workers: list[subprocess.Popen[str]] = []

    def hire(self, last_order: int = 0) -> subprocess.Popen[str]:
        """Start a worker, which may have to die after so many orders."""
        # No URL among the arguments, which ps shows to everybody. In a session of its
        # own it does not hear a Ctrl-C that is meant for us.
        command = [sys.executable, __file__, "--as-worker"]
        one = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, text=True, start_new_session=True
        )
        self.workers.append(one)
        with suppress(BrokenPipeError):  # it is dead, as replace_dead() will find
            print(json.dumps(self.spec | {"last_order": last_order}), file=one.stdin)
            one.stdin.flush()  # type: ignore[union-attr]
        return one

    def replace_dead(self) -> None:
        """Start a worker for each that has died; RuntimeError if that goes on."""
        dead = [one for one in self.workers if one.poll() is not None]
        self.killed += len(dead)
        if self.killed > 5:
            raise RuntimeError("workers end by themselves")
        self.workers = [one for one in self.workers if one not in dead]
        for _ in dead:
            self.hire()

    def dismiss(self) -> None:
        """Let the workers finish what they have begun."""
        for one in self.workers:
            with suppress(BrokenPipeError, subprocess.TimeoutExpired):
                one.communicate(timeout=LIMIT)
            one.kill()
            one.wait()
        self.workers = []


class Shop:
    """The four services, the producer and the workers, and what should be in them."""

    wire: Any = None  # with --chaos, a network that can fail before the broker
    redis_wire: Any = None  # and before a live Redis
    scores: Scores

    def __init__(
        self,
        args: argparse.Namespace,
        envs: Sequence[Any],
        stack: ExitStack,
        log: TransactionLog,
    ) -> None:
        self.args, self.envs, self.stack, self.log = args, envs, stack, log
        self.users, self.end = [*map(str, log.ids)], int(log.day.max())
        self.cut, self.days = halves(log)
        self.truth = Forecast(log, self.cut, self.days, learn=False)
        self.sql, self.documents, self.caching, self.messaging = map(sibling, CARRIES)
        self.published, self.spans = Counter[str](), list[dict[str, Any]]()
        sql, mongo, redis, rabbit = envs
        self.engine, self.db, self.cache = sql.engine, mongo.db, redis.cache("shop")
        with self.engine.begin() as connection:
            connection.execute(self.sql.sa.delete(self.sql.User))  # lesson 01's own
            for statement in TABLES.split(";"):
                connection.exec_driver_sql(statement)
        self.documents.MongoDBManager(self.db).create_collections_with_schema()
        cache = redis.cache("shop")  # with a debt of its own, if it ever has one
        self.stores = Stores(self.documents, self.caching, self.db, cache)
        there, make = rabbit.rabbit, self.messaging.RabbitMQConnection
        self.rabbit = make(there.parameters, f"{there.prefix}.shop", BASE)
        stack.callback(self.rabbit.teardown)
        self.rabbit.setup_infrastructure()
        self.staff = Staff(spec := self.specify())
        stack.callback(self.staff.dismiss)
        far = make(copy.copy(there.parameters), self.rabbit.prefix, BASE)
        far.parameters.host, far.parameters.port = spec["rabbit_at"]
        self.producer = stack.enter_context(self.messaging.Producer(far))

    def specify(self) -> dict[str, Any]:
        """Return what a worker has to know, URLs with passwords and all."""
        sql, mongo, redis, rabbit = self.envs
        address = self.rabbit.parameters
        amqp = self.messaging.setting("RABBITMQ_URL", self.messaging.DEFAULT_URL)
        spec: dict[str, Any] = {
            "sql": self.engine.url.render_as_string(hide_password=False),
            "schema": self.ask("SELECT current_schema()")[0][0] if sql.live else "",
            "lent": None,
            "mongo": mongo.url,
            "db": self.db.name,
            "redis": self.caching.setting("REDIS_URL", self.caching.DEFAULT_URL),
            "redis_at": {},
            "cache": self.cache.prefix,
            "rabbit": amqp if rabbit.live else self.messaging.DEFAULT_URL,
            "rabbit_at": (address.host, address.port),
            "prefix": self.rabbit.prefix,
        }
        if not (mongo.live and redis.live):
            spec["lent"] = lent(self.stores, self.stack)
        if self.args.chaos:
            self.wire = self.network(*spec["rabbit_at"])
            spec["rabbit_at"] = "127.0.0.1", self.wire.port
        if self.args.chaos and redis.live:
            there = redis.connect().connection_pool.connection_kwargs
            self.redis_wire = self.network(there["host"], there["port"])
            spec["redis_at"] = {"host": "127.0.0.1", "port": self.redis_wire.port}
            pool = self.stores.cache.client.connection_pool
            pool.disconnect()  # what we lend has to go through it, too
            pool.connection_kwargs |= spec["redis_at"]
        return spec

    def network(self, host: str, port: int) -> Any:
        """Return a network of our own before a server, that can fail."""
        return self.stack.enter_context(self.messaging.Wire(host, port))

    def open(self, workers: int) -> None:
        """Start the workers; with --chaos one dies at a tenth of the orders or so."""
        early = int((self.log.day <= self.cut).sum())
        self.staff.hire(max(1, early // (8 * workers)) * self.args.chaos)
        for _ in range(1, workers):
            self.staff.hire()
        last: Any = "queue", self.rabbit.name([*WORK][-1]), {}
        with self.rabbit.connect() as connection:
            look = partial(self.rabbit.look, connection, last)
            self.reach("workers", lambda: look().consumer_count, workers)

    def ask(self, statement: str, **values: Any) -> list[Any]:
        """Return the rows of a query."""
        with self.engine.connect() as connection:
            return list(connection.execute(self.sql.text(statement), values))

    def reach(self, what: str, count: Callable[[], int], goal: int) -> None:
        """Wait until a count gets there; TimeoutError if it stands still."""
        last, moved = -1, time.monotonic()
        with Progress(console=Console(stderr=True)) as bar:
            task = bar.add_task(what, total=goal)
            while (now := count()) < goal:
                last, moved = now, moved if now == last else time.monotonic()
                if time.monotonic() - moved > LIMIT:
                    raise TimeoutError(f"{what}: {now} of {goal}, and nothing moves")
                bar.update(task, completed=now)
                time.sleep(0.1)
            bar.update(task, completed=goal)

    def applied(self) -> Counter[str]:
        """Return how many messages of each queue have had their effect."""
        done = "SELECT queue, count(*) FROM inbox WHERE done = 1 GROUP BY queue"
        return Counter(dict(map(tuple, self.ask(done))))

    def progress(self) -> int:
        """Return how many copies are applied or dead, and see to the workers."""
        self.staff.replace_dead()
        if broker := self.envs[3].broker:
            broker.step()  # the stand-in's clock, which brings retries back
        dead = [self.rabbit.name(f"{queue}.dead") for queue in WORK]
        with suppress(self.messaging.exceptions.AMQPError):  # cut off: ask again
            return self.applied().total() + int(self.rabbit.ready(*dead))
        return 0

    def publish(self, letters: Sequence[Letter]) -> None:
        """Publish, wait until all are confirmed, and note who should get copies."""
        for place in range(0, len(letters), 500):
            sent = []
            for message, exchange, key in letters[place : place + 500]:
                begun = time.time()
                to = self.messaging.addressed(message, self.rabbit.name(exchange), key)
                sent.append(one := self.producer.send(*to))
                one.confirmed.add_done_callback(
                    lambda _, begun=begun: self.spans.append(span(PUBLISH, begun))
                )
            self.producer.wait(*sent)
        to = Counter(exchange for _, exchange, _ in letters)
        for queue, (exchange, *_) in self.messaging.WORK.items():
            self.published[queue] += to[exchange]

    def deliver(
        self, what: str, letters: Sequence[Letter], trouble: Any = nullcontext
    ) -> None:
        """Publish, half of it in trouble, and wait until all is applied or dead."""
        start, half = time.monotonic(), len(letters) // 2
        self.publish(letters[:half])
        with (trouble if self.args.chaos else nullcontext)():
            self.publish(letters[half:])
        self.reach(what, self.progress, self.published.total())
        seconds = time.monotonic() - start
        aside(f"{what}: {seconds:.2f} s, {len(letters) / seconds:.0f} messages/s")

    @contextmanager
    def without_redis(self) -> Iterator[None]:
        """Take Redis from the workers until one has missed it."""
        waits = [self.rabbit.wait_queue(k) for k in range(self.messaging.MAX_RETRIES)]
        server = self.envs[2].connect.keywords.get("server", self.redis_wire)
        server.connected = False  # fakeredis; a wire has no such switch
        if self.redis_wire:
            self.redis_wire.freeze()
        yield
        self.reach("invalidations wait", lambda: self.rabbit.ready(*waits), 1)
        server.connected = True
        if self.redis_wire:
            self.redis_wire.cut()

    def sign_up(self, user: str, email: str, day: int) -> Letter:
        """Return the announcement of a user."""
        about = {"id": f"user-{user}", "username": user, "email": email}
        message = self.messaging.UserDataMessage(registration_date=iso(day), **about)
        return message, "data_processing", "user_data"

    def letters(self, rows: Ints) -> list[Letter]:
        """Return these rows, and who bought first, in the order of their dates."""
        made, first = list[Letter](), {*starts(self.log.customer).tolist()}
        for row in rows[np.argsort(self.log.day[rows], kind="stable")].tolist():
            user, day = self.users[self.log.customer[row]], int(self.log.day[row])
            if row in first:
                made.append(self.sign_up(user, f"{user}@example.org", day))
            about = {"day": day, "cents": round(100 * self.log.amount[row])}
            order = {"id": f"order-{row:07}", "user_id": user, "properties": about}
            order |= {"event_type": "purchase", "max_retries": PATIENCE}
            made.append((self.messaging.AnalyticsMessage(**order), "analytics", ""))
        return made

    def stored(self) -> TransactionLog:
        """Return the purchases as SQL has them, in the order of the file."""
        users = [user for (user,) in self.ask("SELECT username FROM users")]
        code = {user: place for place, user in enumerate(sorted(users))}
        rows = self.ask("SELECT customer, day, cents FROM purchases ORDER BY id")
        who, *columns = zip(*rows, strict=True)
        day, cents = map(np.array, columns)
        buyer = np.array([code[user] for user in who])
        return TransactionLog(buyer, day, cents / 100, sorted(users))

    def rows(self) -> Iterator[tuple[list[Any], list[Any]]]:
        """Yield orders and people, sorted, of file, SQL and MongoDB."""

        def order(name: str, who: str, day: int, cents: float) -> tuple[Any, ...]:
            return name, int(who), midnight(iso(day)), {"price": cents / 100}

        log, user = self.log, self.sql.User
        whom = (self.users[code] for code in log.customer.tolist())
        names = (f"order-{row:07}" for row in range(len(log.day)))
        cents, age = np.rint(100 * log.amount), customer_table(log, self.end).age
        bought = map(order, names, whom, log.day.tolist(), cents.tolist())
        since = (midnight(iso(day)) for day in (self.end - age).tolist())
        emails = (f"{who}@example.org" for who in self.users)
        yield [*bought], sorted(zip(self.users, emails, since, strict=True))
        found = self.ask("SELECT id, customer, day, cents FROM purchases")
        ask = self.sql.sa.select(user.username, user.email, user.registered_at)
        with self.engine.connect() as connection:
            people = sorted(map(tuple, connection.execute(ask)))
        yield sorted(order(*one) for one in found), people
        event = itemgetter("_id", "user_id", "timestamp", "metadata")
        profile = itemgetter("username", "email", "created_at")
        events, users = (self.db[name].find() for name in ("events", "users"))
        yield sorted(map(event, events)), sorted(map(profile, users))


def scored(f: Forecast, x: Ints, t_last: Ints, age: Ints, mean: Floats) -> Floats:
    """Return the chance of no order in the days that come, and the spend, (n, 2)."""
    weeks, age, t_last = f.days / 7, age / 7, t_last / 7
    live = f.bgnbd.p_alive(x, t_last, age)
    spend = live * f.bgnbd.expected(x, age, weeks) * f.money.mean(x, mean)
    gone = 1 - live * (1 - f.bgnbd.p_none(x, age, weeks))
    return np.column_stack((gone, spend))


def once_each(shop: Shop) -> None:
    """Inbox: delivered twice, done once"""
    queue, letters = shop.rabbit.add_queue("control"), shop.letters(np.arange(20))
    shop.rabbit.setup_infrastructure()
    orders = [message for message, exchange, _ in letters if exchange == "analytics"]
    found = dict[str, int]()
    for way, inbox in ("no inbox", False), ("inbox", True):
        shop.messaging.publish(shop.producer, queue, orders * 2)
        books = Purchases(shop.sql, shop.engine, shop.stores, "control", inbox=inbox)
        about = shop.rabbit, queue, shop.producer, books
        one = shop.messaging.AnalyticsConsumer(*about)
        with shop.messaging.running(one):
            shop.reach(way, lambda: one.counts["acked"], 40)  # noqa: B023
        found[way] = shop.ask("SELECT count(*) FROM purchases")[0][0]
        with shop.engine.begin() as connection:
            for name in ("purchases", "inbox", "spans"):
                connection.exec_driver_sql(f"DELETE FROM {name}")  # noqa: S608
    table(("20 orders, each twice", "rows in SQL"), *found.items())
    check("only the inbox has 20 rows for 20 orders", [*found.values()] == [40, 20])


def feed(shop: Shop) -> None:
    """Feed: sign-ups and orders up to the cut, in date order"""
    robots = [shop.sign_up(f"{10**6 + n}", "nonsense", shop.cut) for n in range(ROBOTS)]
    shop.deliver("robots", robots)
    victim = shop.staff.workers[0]
    letters = shop.letters(np.flatnonzero(shop.log.day <= shop.cut))
    shop.deliver("feed", letters, lambda: nullcontext(shop.wire.cut()))
    ours, then = customer_table(shop.stored(), shop.cut), vars(shop.truth.table)
    same = [np.array_equal(vars(ours)[name], column) for name, column in then.items()]
    whole = vars(customer_table(shop.log, shop.end))
    kept = [np.array_equal(whole[name], column) for name, column in then.items()]
    moved = kept.count(False)
    show("sign-ups and orders", len(letters))
    show("features that later orders change", f"{moved} of {len(same)}")
    check("features read back from SQL equal the file's", all(same) and moved > 4)
    if shop.args.chaos:
        killed = (victim.poll(), shop.staff.killed) == (-signal.SIGKILL, 1)
        check("a worker killed by -9, all connections cut: still equal", killed)
        again = shop.ask("SELECT sum(n) FROM spans WHERE hop = 'again'")[0][0]
        check("what was not acknowledged came again, for one effect", again > 0)


# region scorer
def scorer(shop: Shop, forecast: Forecast) -> Callable[[str], list[float]]:
    """Return a function that scores a customer by what SQL knows, through the cache."""

    @shop.caching.redis_cache(TTL, cache=shop.cache, name=MODEL)  # type: ignore[untyped-decorator]
    def predict(user: str) -> list[float]:
        start = time.time()
        days, cents = zip(*shop.ask(FEATURES, user=user), strict=True)
        shop.spans.append(span("features from SQL", start))
        x, first = np.array([len(days) - 1]), days[0]
        last, age = np.array([[days[-1] - first], [shop.end - first]])
        mean = np.array([sum(cents[1:])]) / 100 / np.maximum(x, 1)
        found: list[float] = scored(forecast, x, last, age, mean)[0].tolist()
        return found

    return predict  # type: ignore[no-any-return]


# endregion scorer


def scores(shop: Shop) -> None:
    """Scores: read again for whom a purchase came, and for nobody else"""
    predict = scorer(shop, Forecast(shop.stored(), shop.cut, shop.days, learn=False))
    n, passes = len(shop.users), list[tuple[Any, ...]]()
    keys = {shop.stores.key(user): user for user in shop.users}
    rows = np.flatnonzero(shop.log.day > shop.cut)
    buyers = {shop.users[code] for code in shop.log.customer[rows].tolist()}
    for name in ("first", "again", "after late orders"):
        if len(passes) == 2:
            stale = list(shop.scores.values())
            shop.deliver("late orders", shop.letters(rows), shop.without_redis)
        held = {keys[key] for key in shop.cache.get_many([*keys])}
        with shop.sql.max_queries(math.inf, shop.engine) as sent:
            shop.scores = {user: predict(user) for user in shop.users}
        passes.append((name, len(held), len(sent)))
    table(("pass", "in the cache", "queries"), *passes)
    show("customers with late orders", len(buyers))
    check("the second pass asks SQL nothing", passes[1] == ("again", n, 0))
    fresh = not held & buyers and passes[2][2] == n - len(held)
    check("whom a purchase came for is read again, who is cached is not", fresh)
    t = customer_table(shop.log, shop.end)
    model = scored(shop.truth, t.x, t.t_last, t.age, t.mean_spend)
    cached = shop.cache.get_many([*keys])
    both = [[*cached.values()], stale]
    equal, kept = (int(np.isclose(s, model, 1e-9).all(1).sum()) for s in both)
    show("equal the model's", f"{equal} of {n}; had nothing been deleted, {kept}")
    check("cached predictions = model output", kept < equal == n)


def answer(shop: Shop) -> None:
    """Answers: recommendations and reports go out as notifications"""
    engine = RecommendationEngine(AnalyticsEngine(log := shop.stored(), shop.end))
    report = InsightsGenerator(Forecast(log, shop.end, shop.days, learn=False))
    said = report._generate_insights(report.generate_segment_report())
    people = {row["username"]: row["email"] for row in shop.db["users"].find()}
    mails = [("sales@example.org", "report", line) for line in said]
    for user, (gone, spend) in shop.scores.items():
        offer = engine.get_recommendations(user)[0].strategy
        text = f"{offer} (churn {gone:.2f}, spend {spend:.2f})"
        mails.append((people[user], "for you", text))
    make = shop.messaging.NotificationMessage
    letters = [make(recipient=a, subject=b, content=c) for a, b, c in mails]
    where = "notifications", "notification.email.normal"
    shop.deliver("notifications", [(message, *where) for message in letters])
    say(f"  - {said[0]}")
    show("notifications", len(mails))


def reconcile(shop: Shop) -> None:
    """Reconciliation: every figure, in every store"""
    applied, rows = shop.applied(), []
    for queue in WORK:
        dead = shop.messaging.emptied(shop.rabbit, shop.rabbit.name(f"{queue}.dead"))
        lost = len({about.message_id for about, _ in dead})
        rows.append((queue, shop.published[queue], applied[queue], lost))
    table(("queue", "published", "applied", "dead"), *rows)
    whole = all(published == done + lost for _, published, done, lost in rows)
    check("published = applied + dead, in every queue", whole)
    bought = shop.documents.EventTracker(shop.db).get_purchase_analytics()
    revenue = sum(row["revenue"] for row in bought["by_category"])
    profiles, events = (shop.db[c].count_documents({}) for c in ("users", "events"))
    ((users,),) = shop.ask("SELECT count(*) FROM users")
    ((orders, cents),) = shop.ask("SELECT count(*), sum(cents) FROM purchases")
    of_file = round(100 * float(shop.log.amount.sum()))
    figures = [
        ("customers", len(shop.users), users, profiles),
        ("orders", len(shop.log.day), orders, events),
        ("cents", of_file, cents, round(100 * revenue)),
    ]
    table(("figure", "file", "SQL", "MongoDB"), *figures)
    file, *stores = shop.rows()
    one, two = ([rows[k] == file[k] for rows in stores] for k in (1, 0))
    check("SQL users = MongoDB profiles = customers, one by one", all(one))
    two.append(all(len({*found}) == 1 for _, *found in figures))
    check("SQL purchases = MongoDB events = the file, row by row", all(two))


def timeline(shop: Shop) -> None:
    """Timeline: what went where, and which hop is the slowest"""
    hops, speed, rows = defaultdict(list), dict[str, float](), []
    ours = [tuple(one.values()) for one in shop.spans]
    for hop, *times in [*shop.ask("SELECT hop, start, took, n FROM spans"), *ours]:
        hops[hop].append(times)
    del hops["again"]
    live = dict(zip(CARRIES.values(), (env.live for env in shop.envs), strict=True))
    for hop in sorted(hops):
        begun, took, n = np.array(sorted(hops[hop])).T
        ends = np.maximum.accumulate(begun + took)  # of spans that overlap, the last
        busy = ends[-1] - begun[0] - (begun[1:] - ends[:-1]).clip(0).sum()
        speed[hop], each = n.sum() / busy, np.repeat(1000 * took, n.astype(int))
        middle, late = np.quantile(each, (0.5, 0.99))
        times = f"p50 {middle:.2f} ms, p99 {late:.2f} ms"
        aside(f"{hop}: busy for {busy:.1f} s, {speed[hop]:.0f}/s, {times}")
        from_, *_, store = hop.split()
        where = "live" if live[store] else "stand-in"
        rows.append((hop, where, shop.applied()[from_] or len(took)))
    aside(f"slowest hop: {min(speed, key=speed.__getitem__)}")
    table(("hop", "on a", "messages"), *rows)


PARTS: tuple[Any, ...] = (once_each, feed, scores, answer, reconcile, timeline)


def integrated(args: argparse.Namespace) -> int:
    """Run all five lessons as one system; return the exit code."""
    lessons, log = [*map(sibling, CARRIES)], read_log(SAMPLE)
    asked = {"offline": args.offline, "require_live": args.require_live, "url": None}
    TALLY.clear()
    with ExitStack() as stack:
        each = argparse.Namespace(**asked)
        envs = [stack.enter_context(lesson.open_env(each)) for lesson in lessons]
        live = all(env.live for env in envs)
        say("backend: " + "; ".join(env.backend for env in envs))
        if args.require_live and not live:
            return 3
        n = args.customers or (len(log.ids) if live else FEW)
        if n > len(log.ids):
            raise BadInput(f"--customers {n}: the log has {len(log.ids):,}")
        some = replace(log.where(log.customer < n), ids=log.ids[:n])
        shop = Shop(args, envs, stack, some)
        shop.open(args.workers or 1 + live)  # stand-ins live in one process anyway
        for number, part in enumerate(PARTS, 1):
            if not TALLY["failed"]:  # what comes later would build on it
                say(f"\n{number}. {part.__doc__}", "bold")
                run_demo(shop, part)  # type: ignore[arg-type]
    say(f"\n{TALLY['ok']} ok, {TALLY['skipped']} skipped, {TALLY['failed']} failed")
    return 1 if TALLY["failed"] else 0


def day_option(text: str) -> int:
    """Return the ordinal of a date on the command line."""
    try:
        return date.fromisoformat(text).toordinal()
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date (1997-09-30)") from None


def count_option(text: str) -> int:
    """Return a count on the command line."""
    if not re.fullmatch("[0-9]{1,8}", text) or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 99999999")
    return int(text)


def main(argv: list[str] | None = None) -> int:
    """Teach, or study a log if an option asks for that; return the exit code."""
    parser = Parser()
    group, add = parser.add_mutually_exclusive_group(), parser.add_argument
    group.add_argument("--transactions", type=Path, metavar="CSV", help="your orders")
    group.add_argument(
        "--simulate", type=count_option, default=0, metavar="N", help="customers"
    )
    add("--columns", help="CUSTOMER,DATE,AMOUNT[,ITEM], as the CSV names them")
    add("--as-of", type=day_option, metavar="DATE", help="read nothing later")
    add("--calibration-end", type=day_option, metavar="DATE", help="backtest from here")
    add("--horizon", type=count_option, metavar="DAYS", help="of the backtest")
    add("--seed", type=count_option, default=SEED, help="of --simulate")
    add("--json", action="store_true", help="print one object")
    add("--report", type=Path, metavar="HTML", help="write a page")
    add("--plots", type=Path, metavar="DIR", help="write figures, by matplotlib")
    add("--integrated", action="store_true", help="all five lessons as one system")
    add("--customers", type=count_option, metavar="N", help="of --integrated")
    add("--workers", type=count_option, metavar="N", help="its processes (2)")
    add("--chaos", action="store_true", help="break what it runs on half-way")
    add("--as-worker", action="store_true", help=argparse.SUPPRESS)

    def run(args: argparse.Namespace) -> int:
        own = [args.transactions, args.simulate, args.as_of, args.calibration_end]
        own += [args.horizon, args.json, args.report, args.plots]
        if args.as_worker:
            return work()
        whole = args.customers or args.workers or args.chaos
        if args.integrated and (any(own) or args.columns or args.only or args.url):
            said = "--offline, --require-live, --customers, --workers and --chaos"
            raise BadInput(f"--integrated goes with {said}, and no other option")
        if whole and not args.integrated:
            raise BadInput("--customers, --workers and --chaos are of --integrated")
        if (args.workers or 0) > MOST_WORKERS:
            raise BadInput(f"--workers {args.workers}: at most {MOST_WORKERS}")
        if args.integrated and not args.list:
            return integrated(args)
        return analyse(args) if any(own) and not args.list else teach(args)

    return command(parser, argv, run)


if __name__ == "__main__":
    sys.exit(main())
