"""Judges fill_cents: amounts one by one, then batches, gaps, a stop, and others."""

from __future__ import annotations

import gc
import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc

from course.claims import Condition, at_most
from course.practice.checking import Refused, Words, expect, expect_error
from course.practice.databases import (
    ask_file,
    expect_no_error,
    file_engine,
    plain_data,
    temporary_path,
    watch_rows,
)

LARGEST = 2**63 - 1
ANY_ERROR = (Exception,)
READING = ("SELECT", "PRAGMA", "BEGIN", "WITH", "SAVEPOINT", "RELEASE")

Row = tuple[int, str | None, int | None]  # id, amount, amount_cents


def has_form(outcome: Any) -> bool:
    """Tell whether a result is a number with a list."""
    is_pair = isinstance(outcome, tuple) and len(outcome) == 2
    return is_pair and isinstance(outcome[0], int) and isinstance(outcome[1], list)


AN_OUTCOME = Condition("an Outcome: a number, and a list of ids", has_form)


class Batches:
    """Counts the transactions of an engine, and the rows that each reads and writes."""

    def __init__(self, engine: sa.Engine) -> None:
        self.limit: int | None = None
        self.forget()
        watch_rows(engine, self._note_row)
        event.listen(engine, "begin", self._begin)
        event.listen(engine, "commit", self._commit)

    def forget(self) -> None:
        """Count from 0 again, without a limit."""
        self.transactions = 0
        self.read = 0
        self.most_read = 0
        self.most_written = 0
        self.changes_before = 0
        self.limit = None

    def _begin(self, connection: sa.Connection) -> None:
        self.transactions += 1
        self.read = 0
        self.changes_before = self._changes(connection)
        if self.limit is not None and self.transactions > self.limit:
            # Here, and not afterwards: there may be a million more of them.
            observed = Words(f"more than {self.limit} transactions")
            expected = Words(f"at most {self.limit} transactions")
            raise Refused(self.tried, observed, expected, 1)

    def _commit(self, connection: sa.Connection) -> None:
        written = self._changes(connection) - self.changes_before
        self.most_written = max(self.most_written, written)

    def _note_row(self, columns: set[str]) -> None:
        # A row of a count() or a max() is none of the table.
        if columns & {"id", "amount", "amount_cents", "orders_id", "orders_amount"}:
            self.read += 1
            self.most_read = max(self.most_read, self.read)

    def allow(self, tried: str, limit: int) -> None:
        """Refuse the answer at one transaction more than the limit."""
        self.forget()
        self.tried = tried
        self.limit = limit

    @staticmethod
    def _changes(connection: sa.Connection) -> int:
        driver: Any = connection.connection.driver_connection
        return int(driver.total_changes)


class Table:
    """The table in a file, and the answer that fills it."""

    def __init__(self, answer: ModuleType, path: Path) -> None:
        self.answer = answer
        self.path = path
        self.engine = file_engine(path, connect_args={"timeout": 0.5})
        self.batches = Batches(self.engine)
        answer.ORDERS.create(self.engine)

    def put(self, rows: Sequence[Row]) -> None:
        """Have these rows in the table, and no others."""
        names = ("id", "amount", "amount_cents")
        self.batches.forget()  # of the answer: this transaction is not one of its own
        with self.engine.begin() as connection:
            connection.execute(sa.delete(self.answer.ORDERS))
            values = [dict(zip(names, row, strict=True)) for row in rows]
            if values:
                connection.execute(sa.insert(self.answer.ORDERS), values)
        self.batches.forget()

    def cents(self) -> dict[int, Any]:
        """Return the cents of each row."""
        return dict(ask_file(self.path, "SELECT id, amount_cents FROM orders"))

    def fill(
        self,
        tried: str,
        size: int | None,
        hint: int,
        kinds: tuple[type[Exception], ...] = ANY_ERROR,
    ) -> tuple[int, list[int]]:
        """Have the answer fill the table; return its outcome."""
        call = partial(self.answer.fill_cents, self.engine)
        if size is not None:
            call = partial(call, size)
        outcome: Any = plain_data(expect_no_error(tried, call, hint, kinds))
        expect(tried, outcome, AN_OUTCOME, 1)
        filled, refused = outcome
        return filled, refused

    def expect_filled(
        self,
        tried: str,
        size: int | None,
        expected: dict[int, int | None],
        outcome: tuple[int, list[int]],
        hint: int,
    ) -> None:
        """Fill the table; compare the cents that differ, and the outcome."""
        filled, refused = self.fill(tried, size, hint)
        cents = self.cents()
        wrong = sorted(key for key in expected if cents.get(key) != expected[key])
        for key in wrong[:1]:
            observed = {f"the cents of row {key}": plain_data(cents.get(key))}
            expect(tried, observed, {f"the cents of row {key}": expected[key]}, hint)
        expect(
            tried,
            {"filled": filled, "refused": refused},
            {"filled": outcome[0], "refused": outcome[1]},
            hint,
        )


@contextmanager
def table(answer: ModuleType) -> Iterator[Table]:
    """Open a new database."""
    with temporary_path() as path:
        here = Table(answer, path)
        try:
            yield here
        finally:
            here.engine.dispose()


def amount_of(cents: int, rng: random.Random) -> str:
    """Return cents as a text, in one of its spellings."""
    sign = "-" if cents < 0 else ""
    euros, rest = divmod(abs(cents), 100)
    spellings = [f"{euros}.{rest:02}"]
    if rest % 10 == 0:
        spellings.append(f"{euros}.{rest // 10}")
    if rest == 0:
        spellings.append(f"{euros}")
    return sign + rng.choice(spellings)


def orders(
    rng: random.Random, number: int, low: int = 1, high: int = 10_000
) -> list[Row]:
    """Return rows to fill, not sorted, with ids that have gaps."""
    keys = rng.sample(range(low, high), number)
    return [(key, amount_of(rng.randrange(100_000), rng), None) for key in keys]


def right_cents(rows: Sequence[Row]) -> dict[int, int | None]:
    """Return the cents that rows of the usual kind should have."""
    found: dict[int, int | None] = {}
    for key, amount, cents in rows:
        found[key] = cents
        if cents is None and amount is not None:
            euros, _, rest = amount.partition(".")
            found[key] = int(euros) * 100 + int(rest.ljust(2, "0"))
    return found


def check_plain(answer: ModuleType, rng: random.Random) -> None:
    """Fill a few rows, then none."""
    with table(answer) as here:
        rows = orders(rng, 5)
        here.put(rows)
        outcome = (5, list[int]())
        here.expect_filled("five rows", None, right_cents(rows), outcome, 1)
        done = right_cents(rows)
        here.expect_filled("the same rows again", None, done, (0, []), 1)
        here.put([])
        here.expect_filled("a table without rows", 10, {}, (0, []), 1)


def good_amounts(rng: random.Random) -> dict[str, int]:
    """Return texts that are amounts, with their cents."""
    good = {"12": 1200, "12.5": 1250, "12.50": 1250, "12.05": 1205, "0.07": 7}
    good |= {"0": 0, "0.00": 0, "-3": -300, "-12.5": -1250, "-0.05": -5, "-0.5": -50}
    good |= {"-0": 0, "007.50": 750, "-1.01": -101}
    for cents in (29, 57, 58, 113, 114, 115, 435, 1999, 110_015, 1_000_000_01):
        good[f"{cents // 100}.{cents % 100:02}"] = cents  # hard for floats
    large = rng.randrange(10**17, 10**18) * 2 + 1
    for cents in (large, -large, LARGEST, -LARGEST - 1):
        good[amount_of(cents, rng)] = cents
    good["0" * 40 + "1.5"] = 150
    return good


def bad_amounts() -> list[str]:
    """Return texts that are no amounts, the likely ones first."""
    spaces = [" 12", "12 ", "1 000", "\t5", "", " ", "12\n", "12.50\n", "\n12", "12\r"]
    points = ["12.345", "12,50", ".5", "5.", "1.2.3", ".", "-.5", "1,000.00", "12.5-"]
    signs = ["+5", "--5", "-", "- 5", "12.-5", "5-", "\u221212"]
    forms = ["1e3", "1E3", "1_000", "0x10", "NaN", "inf", "-Infinity", "abc", "12€"]
    digits = ["\u0661\u0662", "\uff11\uff12.50", "12.\u0665", "\u00b2", "1\u00b2"]
    large = ["92233720368547758.08", "-92233720368547758.09", "9" * 30, "-" + "9" * 30]
    return spaces + points + signs + forms + digits + [*large, "9" * 5000, "1.5\x00"]


def check_amounts(answer: ModuleType, rng: random.Random) -> None:
    """Convert amounts one by one: those that are some, then those that are none."""
    with table(answer) as here:
        for amount, cents in good_amounts(rng).items():
            here.put([(1, amount, None)])
            here.expect_filled(f"the amount {amount!r}", 10, {1: cents}, (1, []), 2)
        for amount in bad_amounts():
            here.put([(1, amount, None)])
            shown = amount if len(amount) < 100 else amount[:5] + "..."
            here.expect_filled(f"the amount {shown!r}", 10, {1: None}, (0, [1]), 2)


def check_nothing(answer: ModuleType, rng: random.Random) -> None:
    """Leave rows without an amount alone."""
    with table(answer) as here:
        good = orders(rng, 20)
        nothing: list[Row] = [(key, None, None) for key in range(20_001, 20_010)]
        here.put(good + nothing)
        expected = right_cents(good + nothing)
        tried = "29 rows, nine of them without an amount, size=100"
        here.expect_filled(tried, 100, expected, (20, []), 2)


def check_refused(answer: ModuleType, rng: random.Random) -> None:
    """Put many refused rows together, and rows without an amount between others."""
    with table(answer) as here:
        good = orders(rng, 20)
        nothing: list[Row] = [(key, None, None) for key in range(20_001, 20_010)]
        here.put(good + nothing)
        expected = right_cents(good + nothing)
        tried = "29 rows, nine of them without an amount, size=4"
        here.expect_filled(tried, 4, expected, (20, []), 3)
        bad_ids = rng.sample(range(-30, 0), 15)
        bad: list[Row] = [(key, "unknown", None) for key in bad_ids]
        rows = bad + good + nothing
        rng.shuffle(rows)
        here.put(rows)
        expected |= dict.fromkeys(bad_ids)
        tried = "15 refused rows before all others, size=4"
        here.batches.allow(tried, 11)
        here.expect_filled(tried, 4, expected, (20, sorted(bad_ids)), 3)
        here.put([(key, amount, 5) for key, amount, _ in rows])
        tried = "rows that all have cents, other ones than their amounts say"
        fives: dict[int, int | None] = dict.fromkeys(expected, 5)
        here.expect_filled(tried, 4, fives, (0, []), 2)


def check_use(answer: ModuleType, rng: random.Random) -> None:
    """Count the transactions, and what each of them reads and writes."""
    with table(answer) as here:
        others: list[Row] = [(key, "1", 100) for key in range(20_001, 20_301, 2)]
        others += [(key, None, None) for key in range(20_002, 20_302, 2)]
        for number, size in ((40, 7), (40, 8), (12, 1), (5, 1000)):
            good = orders(rng, number, 19_500, 20_000)
            good += [(key + 1000, amount, None) for key, amount, _ in good]
            n = len(good)
            here.put(good + others)
            tried = f"{n} rows to look at, among {n + len(others)}, size={size}"
            here.batches.allow(tried, n // size + 2)
            outcome = (n, list[int]())
            here.expect_filled(tried, size, right_cents(good), outcome, 3)
            expect(
                f"a transaction of {tried}",
                {
                    "rows read": here.batches.most_read,
                    "rows written": here.batches.most_written,
                },
                {"rows read": at_most(size), "rows written": at_most(size)},
                1,
            )


def check_gaps(answer: ModuleType, rng: random.Random) -> None:
    """Fill rows whose ids are far apart, 0 or negative."""
    far = rng.randrange(10**12, 10**15)
    for keys in (
        [-7, -3, 0, 1, 5],
        [1, far, far + 1, 2 * far, -far],
        [-LARGEST - 1, -LARGEST, 0, LARGEST],
    ):
        rows: list[Row] = [
            (key, f"{number}.5", None) for number, key in enumerate(keys)
        ]
        for size in (2, 1, 10):
            with table(answer) as here:
                here.put(rows)
                tried = f"the ids {sorted(keys)}, size={size}"
                here.batches.allow(tried, len(keys) // size + 2)
                outcome = (len(keys), list[int]())
                here.expect_filled(tried, size, right_cents(rows), outcome, 3)


def check_stop(answer: ModuleType, rng: random.Random) -> None:
    """Let an error end it in the middle of the third of five batches."""
    size = rng.randrange(4, 8)
    rows = orders(rng, 5 * size)
    keys = sorted(key for key, _, _ in rows)
    stop_at = keys[2 * size + size // 2]
    with table(answer) as here:
        here.put(rows)
        # FAIL keeps what the statement has changed so far: undoing it is the answer's.
        ask_file(
            here.path,
            f"CREATE TRIGGER stop BEFORE UPDATE ON orders WHEN NEW.id = {stop_at} "
            "BEGIN SELECT RAISE(FAIL, 'no room left'); END",
        )
        tried = f"{len(rows)} rows, size={size}; the disk is full in the third batch"
        call = partial(here.answer.fill_cents, here.engine, size)
        expect_error(tried, exc.DBAPIError, lambda: plain_data(call()), 3)
        filled = sum(cents is not None for cents in here.cents().values())
        expect(tried, {"rows filled": filled}, {"rows filled": 2 * size}, 3)
        # A cursor that the error has left open locks the file until it is collected.
        gc.collect()
        here.engine.dispose()
        ask_file(here.path, "DROP TRIGGER stop")
        outcome = (3 * size, list[int]())
        tried = f"{tried}; then another run"
        here.expect_filled(tried, size, right_cents(rows), outcome, 3)


NEW_CODE = "UPDATE orders SET amount_cents = ? WHERE amount_cents IS NULL"
OLD_CODE = "UPDATE orders SET amount = ? WHERE amount_cents IS NULL"


class Others:
    """Other programs, which write when an answer is about to write."""

    def __init__(self, here: Table, statement: str, value: object) -> None:
        self.path = here.path
        self.statement = statement
        self.value = value
        self.changed: list[int] = []
        event.listen(here.engine, "before_cursor_execute", self._interfere)

    def _interfere(self, _c: object, _u: object, statement: str, *_: object) -> None:
        if self.changed or statement.lstrip().upper().startswith(READING):
            return
        # Where the answer has locked the table, they wait, and come too late.
        try:
            keys = ask_file(
                self.path, "SELECT id FROM orders WHERE amount_cents IS NULL"
            )
            ask_file(self.path, self.statement, self.value)
        except sqlite3.OperationalError:
            return
        self.changed = [key for (key,) in keys]


def check_new_code(answer: ModuleType, rng: random.Random) -> None:
    """Let new code fill rows between reading and writing."""
    rows = orders(rng, 9)
    tried = "new code fills all rows between your reading and your writing, size=20"
    with table(answer) as here:
        here.put(rows)
        others = Others(here, NEW_CODE, 5)
        expected = right_cents(rows)
        filled, refused = here.fill(tried, 20, 3)
        expected |= dict.fromkeys(others.changed, 5)
        expect_same(tried, here.cents(), expected)
        outcome = {"filled": filled, "refused": refused}
        left = len(rows) - len(others.changed)
        expect(tried, outcome, {"filled": left, "refused": []}, 3)


def check_old_code(answer: ModuleType, rng: random.Random) -> None:
    """Let old code change amounts, or take them away, between reading and writing."""
    for amount, cents in (("77.70", 7770), (None, None)):
        rows = orders(rng, 9)
        text = amount or "NULL"
        tried = f"old code sets amounts to {text} between your reading and your writing"
        with table(answer) as here:
            here.put(rows)
            others = Others(here, OLD_CODE, amount)
            filled, refused = here.fill(f"{tried}, size=20", 20, 3)
            found = here.cents()
            expected = right_cents(rows) | dict.fromkeys(others.changed, cents)
            later = [key for key in others.changed if found[key] is None]
            # NULL is right, too: such a row may wait for the next run.
            expect_same(tried, found, expected | dict.fromkeys(later))
            written = sum(one is not None for one in found.values())
            outcome = {"filled": filled, "refused": refused}
            expect(tried, outcome, {"filled": written, "refused": []}, 3)
            tried = f"{tried}; then another run"
            left = 0 if cents is None else len(later)
            here.expect_filled(tried, 20, expected, (left, []), 3)


def expect_same(
    tried: str, found: dict[int, Any], expected: dict[int, int | None]
) -> None:
    """Compare the cents of all rows; name the first that differs."""
    for key in sorted(expected):
        name = f"the cents of row {key}"
        expect(tried, {name: plain_data(found.get(key))}, {name: expected[key]}, 3)


def check_nonsense(answer: ModuleType, rng: random.Random) -> None:
    """Ask for batches of nothing."""
    rows = orders(rng, 3)
    with table(answer) as here:
        for size in (0, -1):
            here.put(rows)
            tried = f"size={size}"
            here.batches.allow(tried, 10)
            call: Callable[[], object] = partial(answer.fill_cents, here.engine, size)
            expect_error(tried, ValueError, call, 1)
            filled = {
                "rows filled": sum(one is not None for one in here.cents().values())
            }
            expect(tried, filled, {"rows filled": 0}, 1)


def check(answer: ModuleType, rng: random.Random) -> None:
    """Fill the table plainly, then amount by amount, then with all that can happen."""
    check_plain(answer, rng)
    check_amounts(answer, rng)
    check_nothing(answer, rng)
    check_gaps(answer, rng)
    check_refused(answer, rng)
    check_use(answer, rng)
    check_stop(answer, rng)
    check_new_code(answer, rng)
    check_old_code(answer, rng)
    check_nonsense(answer, rng)
