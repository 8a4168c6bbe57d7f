"""Judges auc_of_counts by tables small enough to count every pair, and by huge ones."""

from __future__ import annotations

import math
import random
import tracemalloc
import warnings
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from course.claims import Condition, is_a, near
from course.errors import BadInput
from course.practice.checking import Refused, Words, expect, expect_error

NAN = Condition("nan", math.isnan)
DIGITS = 10  # of a result that are compared and shown
MEGABYTE = 1_000_000


class Row(NamedTuple):
    """A group of customers with one score."""

    score: float
    gone: int
    customers: int


def check(answer: ModuleType, rng: random.Random) -> None:
    """Try small tables, then ties, odd scores, huge counts, and bad input."""
    try_plain(answer, rng)
    try_weights(answer, rng)
    try_ties(answer, rng)
    try_odd_scores(answer, rng)
    try_random_tables(answer, rng)
    try_huge_counts(answer, rng)
    try_nobody(answer, rng)
    try_bad_input(answer, rng)


def columns_of(table: list[Row], kind: type[Any]) -> tuple[Any, Any, Any]:
    """Return a table as the answer takes it, with counts of a type."""
    score = np.array([row.score for row in table], np.float64)
    gone = np.array([row.gone for row in table], kind)
    customers = np.array([row.customers for row in table], kind)
    return score, gone, customers


def exact_auc(table: list[Row]) -> float:
    """Return the AUC of a table in whole numbers, every row against every other."""
    twice_won = 0  # a win counts 2, equal scores count 1
    for one in table:
        for other in table:
            pairs = one.gone * (other.customers - other.gone)
            if one.score > other.score:
                twice_won += 2 * pairs
            elif one.score == other.score:
                twice_won += pairs
    gone = sum(row.gone for row in table)
    stayed = sum(row.customers for row in table) - gone
    return float(Fraction(twice_won, 2 * gone * stayed))


def auc_of(answer: ModuleType, table: list[Row], kind: type[Any] = np.int64) -> object:
    """Return what comes out for a table, rounded if it is a number."""
    found: object = answer.auc_of_counts(*columns_of(table, kind))
    if not isinstance(found, float):
        return found
    return round(float(found), DIGITS)


def try_table(
    answer: ModuleType,
    tried: str,
    table: list[Row],
    hint: int,
    kind: type[Any] = np.int64,
) -> None:
    """Compare the AUC of a table with the exact one."""
    found = auc_of(answer, table, kind)
    expect(f"{tried}: the result", found, is_a(float), 1)
    expected = round(exact_auc(table), DIGITS)
    expect(f"{tried}: AUC", found, near(expected, 1e-9), hint)


def in_words(table: list[Row]) -> str:
    """Return a small table for a sentence: `0.25: 3 of 8 left`."""
    rows = [f"{row.score:g}: {row.gone:,} of {row.customers:,} left" for row in table]
    return "score " + "; ".join(rows)


def group(rng: random.Random, score: float) -> Row:
    """Return a small group of whom some left and some stayed."""
    customers = rng.randrange(4, 20)
    return Row(score, rng.randrange(1, customers), customers)


def turned(row: Row) -> Row:
    """Return a row with its score below 0 instead of above, or the other way."""
    return row._replace(score=-row.score)


def try_plain(answer: ModuleType, rng: random.Random) -> None:
    """Try groups of whom all left or all stayed; then the wrong way round."""
    few = rng.randrange(2, 5)
    table = [Row(0.1, 0, 6), Row(0.4, few, few), Row(0.6, 0, few + 1), Row(0.8, 7, 7)]
    try_table(answer, in_words(table), table, 1)
    table = [turned(row) for row in table]
    try_table(answer, f"the wrong way round, {in_words(table)}", table, 1)


def try_ties(answer: ModuleType, rng: random.Random) -> None:
    """Try equal scores within a row, in several rows, apart, and split."""
    table = [group(rng, 0.5)]
    try_table(answer, f"one row, {in_words(table)}", table, 2)
    table = [group(rng, 0.5), group(rng, 0.5), group(rng, 0.5)]
    try_table(answer, f"equal scores only, {in_words(table)}", table, 2)
    table = [Row(0.3, 0, 5), Row(0.7, 4, 9), Row(0.3, 6, 6), Row(0.7, 3, 4)]
    rng.shuffle(table)
    try_table(answer, f"two scores, two rows each, {in_words(table)}", table, 2)
    low = group(rng, 0.2)
    split = [low._replace(gone=0, customers=low.customers - low.gone)]
    split.append(low._replace(customers=low.gone))
    table = [split[0], group(rng, 0.6), split[1]]
    try_table(answer, f"a row split in two, {in_words(table)}", table, 2)
    split.reverse()
    table = [split[0], table[1], split[1]]
    try_table(answer, f"the same, those who left first, {in_words(table)}", table, 2)
    table = [Row(-0.0, 2, 5), Row(0.0, 4, 5), Row(1.0, 3, 4)]
    try_table(answer, f"0 and minus 0 are equal, {in_words(table)}", table, 2)


def try_weights(answer: ModuleType, rng: random.Random) -> None:
    """Try groups of very different sizes, and empty ones."""
    many = 1_000_000 + rng.randrange(99)
    table = [Row(0.2, 0, many), Row(0.3, 1, 1), Row(0.4, 0, 1), Row(0.1, 1, 1)]
    try_table(answer, in_words(table), table, 1)
    kept = [Row(0.3, 0, rng.randrange(2, 9)), Row(0.5, 4, 4), Row(0.9, 0, 3)]
    empty = [Row(0.1, 0, 0), Row(0.6, 0, 0), Row(math.inf, 0, 0)]
    table = [*empty, *kept]
    rng.shuffle(table)
    try_table(answer, f"with rows of 0 customers, {in_words(table)}", table, 1)


def try_odd_scores(answer: ModuleType, rng: random.Random) -> None:
    """Try scores outside 0 to 1, infinite ones, and some that hardly differ."""
    table = [group(rng, score) for score in (-250.0, 0.0, 3.0, 1e300)]
    rng.shuffle(table)
    try_table(answer, f"scores beyond 0 and 1, {in_words(table)}", table, 3)
    table = [group(rng, -math.inf), group(rng, 0.0), group(rng, math.inf)]
    rng.shuffle(table)
    try_table(answer, f"infinite scores, {in_words(table)}", table, 3)
    table += [group(rng, math.inf), group(rng, -math.inf)]
    rng.shuffle(table)
    try_table(answer, f"equal infinities in two rows, {in_words(table)}", table, 3)
    base = rng.randrange(10, 90) / 100
    for above, words in ((1e-12, "1e-12"), (math.ulp(base), "the last bit")):
        table = [Row(base, 1, 9), Row(base + above, 8, 9)]
        rng.shuffle(table)
        where = f"two scores that differ by {words}, of the higher one 8 of 9 left"
        try_table(answer, where, table, 3)


def try_random_tables(answer: ModuleType, rng: random.Random) -> None:
    """Try shuffled tables with few different scores, so that many are equal."""
    for number in range(20):
        scores = [rng.randrange(-4, 5) / 4 for _ in range(rng.randrange(4, 30))]
        table = [group(rng, score) for score in scores]
        table.append(Row(0.25, 0, rng.randrange(3)))
        tried = f"table {number + 1} of 20, {len(table)} rows, many equal scores"
        try_table(answer, tried, table, 2)


def try_huge_counts(answer: ModuleType, rng: random.Random) -> None:
    """Try counts that leave no room for a number per customer, nor for 32 bits."""
    table = [Row(rng.random(), 40_000, 200_000) for _ in range(10)]
    tried = "10 rows of 200,000 customers each: the memory it takes"
    tracemalloc.start()
    try:
        auc_of(answer, table)
        _, highest = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    if highest > MEGABYTE:  # then one for five billion would not fit: do not even try
        raise Refused(tried, Words("for each customer"), Words("for each row"), 2)
    table = [huge_group(rng, 70_000, 4_000_000) for _ in range(30)]
    tried = "30 rows of up to 4,000,000 customers, counts of 32 bits"
    try_table(answer, tried, table, 3, np.int32)
    for kind, words in ((np.int32, "32 bits"), (np.int64, "64 bits")):
        table = [huge_group(rng, 800_000_000, 1_000_000_000) for _ in range(6)]
        tried = f"6 rows, five billion customers in all, counts of {words}"
        try_table(answer, tried, table, 3, kind)
    table = [Row(0.1, 1_249_999_999, 2_500_000_000), Row(0.2, 1_250_000_001, 2**31)]
    tried = "2 rows, 4.6 billion customers in all, counts of 64 bits"
    try_table(answer, tried, table, 3)


def huge_group(rng: random.Random, low: int, high: int) -> Row:
    """Return a group of many, with one of ten scores."""
    customers = rng.randrange(low, high)
    return Row(rng.randrange(10) / 10, rng.randrange(customers), customers)


def try_nobody(answer: ModuleType, rng: random.Random) -> None:
    """Try tables that no AUC can be computed of."""
    stayed = [Row(0.2, 0, rng.randrange(1, 9)), Row(0.7, 0, 3)]
    left = [Row(0.2, 5, 5), Row(0.7, 3, 3)]
    empty = [Row(0.2, 0, 0), Row(0.7, 0, 0)]
    tables = {
        "nobody left": stayed,
        "nobody stayed": left,
        "no customers in two rows": empty,
        "no rows": [],
    }
    for tried, table in tables.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = result_of(tried, partial(auc_of, answer, table))
        expect(f"{tried}: the result", found, is_a(float), 3)
        expect(f"{tried}: AUC", found, NAN, 3)
        if caught:
            kind = Words(caught[0].category.__name__)
            raise Refused(f"{tried}: a warning", kind, Words("none"), 3)


def result_of(tried: str, call: Callable[[], object]) -> object:
    """Return what a call returns; an exception is refused by what was tried."""
    try:
        return call()
    except Exception as error:
        raised = Words(f"{type(error).__name__}: {error}")
        raise Refused(tried, raised, Words("nan"), 3) from error


def try_bad_input(answer: ModuleType, rng: random.Random) -> None:
    """Try tables that are wrong in one row, wherever it stands."""
    good = [group(rng, 0.3), group(rng, 0.5), group(rng, 0.9)]
    size = rng.randrange(3, 9)
    bad = {
        "a score of NaN": Row(math.nan, 1, size),
        "a score of NaN in a row of 0 customers": Row(math.nan, 0, 0),
        f"-1 of {size} left": Row(0.6, -1, size),
        f"{size + 1} of {size} left": Row(0.6, size + 1, size),
        "1 of 0 left": Row(0.6, 1, 0),
        "-1 of 0 left, beside rows of whom enough left": Row(0.6, -1, 0),
    }
    for tried, row in bad.items():
        table = [*good, row]
        rng.shuffle(table)
        expect_error(tried, BadInput, partial(auc_of, answer, table), 3)
    nobody = [Row(0.3, 0, size), Row(math.nan, 0, size)]
    tried = "a score of NaN in a table of whom nobody left"
    expect_error(tried, BadInput, partial(auc_of, answer, nobody), 3)
