"""Judges calibration_of_spend by customers that are drawn bin by bin."""

from __future__ import annotations

import math
import random
import statistics
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from course.claims import near
from course.errors import BadInput
from course.practice.checking import Refused, Words, expect, expect_error

Customer = tuple[float, float]  # said and seen
EDGES = [0.0, 20.0, 50.0, 120.0]
PLACE = ("low", "high", "customers", "said", "seen")
FACTS = (*PLACE, "holds")
# Numbers of customers, and standard errors by which their mean is off. Of two customers
# the deviation with n instead of n - 1 is 0.71 of the right one.
FAR_AND_NEAR = [
    (2, 1.7),
    (3, 1.8),
    (2, -1.7),
    (40, 1.9),
    (40, -1.9),
    (40, 2.1),
    (40, -2.1),
    (3, 1.98),
    (2, 4.0),
    (5, -2.3),
]
UNKNOWN = math.nan  # a spend whose days are not over


def check(answer: ModuleType, rng: random.Random) -> None:
    """Try plain bins, then edges, gaps, `holds`, `miss`, and bad input."""
    try_plain(answer, rng)
    try_edges(answer, rng)
    try_holds(answer, rng)
    try_empty_bins(answer, rng)
    try_miss(answer, rng)
    try_unknown(answer, rng)
    try_shop(answer, rng)
    try_bad_input(answer, rng)


def raw_result(
    answer: ModuleType, customers: list[Customer], edges: list[float]
) -> object:
    """Return what comes out."""
    said = np.array([one for one, _ in customers], np.float64)
    seen = np.array([other for _, other in customers], np.float64)
    found: object = answer.calibration_of_spend(said, seen, np.array(edges))
    return found


def result_of(
    answer: ModuleType, tried: str, customers: list[Customer], edges: list[float]
) -> object:
    """Return the same; where bins are small, an exception is told with the case."""
    try:
        return raw_result(answer, customers, edges)
    except Exception as error:
        if "bins of" not in tried:
            raise
        raised = Words(f"{type(error).__name__}: {error}")
        raise Refused(tried, raised, Words("no error"), 1) from error


def plain(value: Any) -> Any:
    """Return a number as Python has it, without the digits that rounding changes."""
    if isinstance(value, np.generic):
        value = value.item()
    return round(value, 6) if isinstance(value, float) else value


def try_bins(  # noqa: PLR0917 (the case, then what it is about)
    answer: ModuleType,
    tried: str,
    customers: list[Customer],
    hint: int,
    names: tuple[str, ...] = FACTS,
    edges: list[float] = EDGES,
) -> Any:
    """Compare some facts bin by bin; return what came out."""
    found: Any = result_of(answer, tried, customers, edges)
    expect(f"{tried}: the result", type(found).__name__, "Calibration", 1)
    expect(f"{tried}: `bins`", type(found.bins).__name__, "list", 1)
    expect(f"{tried}: number of bins", len(found.bins), len(edges) - 1, 1)
    for number, made in enumerate(found.bins):
        low = edges[number]
        high = edges[number + 1]
        where = f"{tried}: bin {number + 1}, from {low:g} to {high:g}"
        expect(where, type(made).__name__, "Bin", 1)
        mine = inside(customers, low, high, number == len(edges) - 2)
        facts = bin_facts(mine, low, high)
        came = {name: plain(getattr(made, name)) for name in names}
        expect(where, came, {name: facts[name] for name in names}, hint)
    return found


def try_miss_of(
    answer: ModuleType, tried: str, customers: list[Customer], hint: int
) -> None:
    """Compare the bins, then `miss`."""
    found = try_bins(answer, tried, customers, hint)
    expected = near(miss_of(customers, EDGES), 1e-5)
    expect(f"{tried}: `miss`", plain(found.miss), expected, 3)


def inside(
    customers: list[Customer], low: float, high: float, last: bool
) -> list[Customer]:
    """Return the customers of a bin whose spend is known."""
    return [
        (said, seen)
        for said, seen in customers
        if not math.isnan(seen)
        if low <= said < high or (last and said == high)
    ]


def bin_facts(mine: list[Customer], low: float, high: float) -> dict[str, Any]:
    """Return what has to come out for the customers of a bin."""
    none = {"customers": 0, "said": None, "seen": None, "holds": None}
    edges = {"low": low, "high": high}
    if not mine:
        return edges | none
    return edges | {
        "customers": len(mine),
        "said": near(plain(statistics.fmean(said for said, _ in mine)), 1e-5),
        "seen": near(plain(statistics.fmean(seen for _, seen in mine)), 1e-5),
        "holds": holds_for(mine),
    }


def holds_for(mine: list[Customer]) -> bool | None:
    """Return whether said and seen agree, None if that cannot be told."""
    if len(mine) < 2:
        return None
    off = [seen - said for said, seen in mine]
    error = statistics.stdev(off) / math.sqrt(len(off))
    return abs(statistics.fmean(off)) <= 1.96 * error


def miss_of(customers: list[Customer], edges: list[float]) -> float:
    """Return how far all are off."""
    off = 0.0
    known = 0
    for number in range(len(edges) - 1):
        last = number == len(edges) - 2
        mine = inside(customers, edges[number], edges[number + 1], last)
        # The number of customers times the distance of their means.
        off += abs(math.fsum(seen - said for said, seen in mine))
        known += len(mine)
    return round(off / known, 6)


def spend(rng: random.Random, said: float) -> float:
    """Return what somebody spends: most spend nothing."""
    if rng.random() < 0.6:
        return 0.0
    return rng.randrange(1, 20) * said / 4


def drawn(rng: random.Random, low: float, high: float, count: int) -> list[Customer]:
    """Return customers whose forecasts lie well within a bin.

    Drawn again while `holds` is so near its border that rounding might decide it.
    """
    while True:
        made = []
        for _ in range(count):
            said = low + (high - low) * rng.randrange(1, 64) / 64
            made.append((said, spend(rng, said)))
        if count < 2 or is_clear(made):
            return made


def is_clear(mine: list[Customer]) -> bool:
    """Tell whether `holds` is far from its border."""
    off = [seen - said for said, seen in mine]
    error = statistics.stdev(off) / math.sqrt(len(off))
    border = 1.96 * error
    return error > 0.01 and abs(abs(statistics.fmean(off)) - border) > 0.001


def all_bins(rng: random.Random, counts: tuple[int, ...]) -> list[Customer]:
    """Return customers of every bin, so many each, shuffled."""
    customers = []
    for number, count in enumerate(counts):
        customers += drawn(rng, EDGES[number], EDGES[number + 1], count)
    rng.shuffle(customers)
    return customers


def try_plain(answer: ModuleType, rng: random.Random) -> None:
    """Try three bins of some customers each, most of whom spend nothing."""
    customers = all_bins(rng, (8, 5, 12))
    try_bins(answer, "three bins, most spends are 0", customers, 1, PLACE)
    ordered = sorted(customers)
    try_bins(answer, "the same, sorted by forecast", ordered, 1, PLACE)
    one_bin = drawn(rng, 0, 40, 6)
    try_bins(answer, "two edges, so one bin", one_bin, 1, PLACE, [0.0, 40.0])


def try_edges(answer: ModuleType, rng: random.Random) -> None:
    """Try forecasts that lie on an edge."""
    for place, edge in enumerate(EDGES):
        customers = with_one_more(rng, edge)
        name = ("the first edge", "an inner edge", "an inner edge", "the last edge")
        tried = f"one forecast of {edge:g}, {name[place]}"
        try_bins(answer, tried, customers, 1, PLACE)


def with_one_more(rng: random.Random, said: float) -> list[Customer]:
    """Return customers of every bin, and one with this forecast."""
    while True:
        customers = all_bins(rng, (4, 4, 4))
        customers.append((said, spend(rng, 40.0)))
        mine = [each for each in customers if bin_of(each[0]) == bin_of(said)]
        if is_clear(mine):
            return customers


def bin_of(said: float) -> int:
    """Return the number of the bin that a forecast lies in."""
    return min(sum(said >= edge for edge in EDGES), len(EDGES) - 1)


def try_empty_bins(answer: ModuleType, rng: random.Random) -> None:
    """Try bins of nobody, and of one customer."""
    for counts in ((5, 0, 4), (0, 5, 4), (5, 4, 0), (0, 0, 3)):
        customers = all_bins(rng, counts)
        tried = "bins of " + ", ".join(map(str, counts)) + " customers"
        try_bins(answer, tried, customers, 1)
    customers = all_bins(rng, (5, 1, 4))
    try_bins(answer, "bins of 5, 1, 4 customers", customers, 2)


def try_unknown(answer: ModuleType, rng: random.Random) -> None:
    """Try spends that are not known yet, in one bin all of them."""
    known = all_bins(rng, (6, 5, 7))
    customers = list(known)
    for said in (3.0, 18.0, 19.0, 45.0, 60.0, 110.0, 120.0):
        customers.append((said, UNKNOWN))
    rng.shuffle(customers)
    tried = f"{len(known)} spends known, 7 not yet"
    try_miss_of(answer, tried, customers, 1)
    customers = all_bins(rng, (6, 0, 7))
    customers += [(25.0, UNKNOWN), (40.0, UNKNOWN)]
    tried = "bins of 6, 2, 7 customers, of the 2 no spend is known"
    try_miss_of(answer, tried, customers, 1)


def shifted(rng: random.Random, offs: list[float]) -> list[Customer]:
    """Return customers between 20 and 50 whose spend minus forecast is given."""
    customers = []
    for off in offs:
        said = 30 + rng.randrange(0, 64) / 4
        customers.append((said, said + off))
    return customers


def at_errors(rng: random.Random, count: int, errors: float) -> list[float]:
    """Return differences whose mean is so many standard errors away from 0."""
    while True:
        offs = [float(rng.randrange(-10, 11)) for _ in range(count)]
        error = statistics.stdev(offs) / math.sqrt(count)
        if 0 < error < 5:
            break
    mean = statistics.fmean(offs)
    return [off - mean + errors * error for off in offs]


def try_holds(answer: ModuleType, rng: random.Random) -> None:
    """Try means of differences on both sides of 1.96 standard errors."""
    for count, errors in FAR_AND_NEAR:
        customers = shifted(rng, at_errors(rng, count, errors))
        apart = f"{abs(errors):g} standard errors"
        side = "more" if errors > 0 else "less"
        tried = f"{count} customers who spent {apart} {side} than was said"
        try_bins(answer, tried, customers, 2, FACTS, [20.0, 50.0])
    try_pairs(answer, rng)


def try_pairs(answer: ModuleType, rng: random.Random) -> None:
    """Try what single differences tell, and spends and forecasts apart do not."""
    edges = [20.0, 50.0]
    said = [20.0, 26.0, 32.0, 38.0, 44.0]
    cases = {
        "5 customers who spent just what was said": said,
        "5 customers who each spent about 4 more": [24.0, 30.5, 35.5, 42.25, 48.0],
        "5 customers who all spent about 33": [33.0, 33.5, 33.25, 33.0, 33.5],
    }
    for tried, seen in cases.items():
        customers = list(zip(said, seen, strict=True))
        try_bins(answer, tried, customers, 2, FACTS, edges)
        rng.shuffle(customers)
        try_bins(answer, f"{tried}, shuffled", customers, 2, FACTS, edges)


def try_miss(answer: ModuleType, rng: random.Random) -> None:
    """Try bins of very different sizes, and misses on both sides."""
    low = [(10.0, 10.0 + rng.choice([6, 8])) for _ in range(90)]
    low[:2] = [(10.0, 11.0), (10.0, 30.0)]
    high = [(80.0, 20.0)]
    try_miss_of(answer, "bins of 90, 0, 1 customers", [*low, *high], 3)
    up = [(10.0, 14.0), (10.0, 16.0), (10.0, 18.0)]
    down = [(30.0, 22.0), (30.0, 24.0), (30.0, 26.0)]
    both = [*up, *down]
    rng.shuffle(both)
    try_miss_of(answer, "one bin 6 too low, the next 6 too high", both, 3)


def try_shop(answer: ModuleType, rng: random.Random) -> None:
    """Try shops with everything at once."""
    for number in range(5):
        customers = all_bins(rng, (rng.randrange(3, 60), rng.randrange(2, 30), 20))
        for _ in range(rng.randrange(1, 20)):
            customers.append((rng.randrange(0, 480) / 4, UNKNOWN))
        rng.shuffle(customers)
        tried = f"shop {number + 1} of 5, {len(customers)} customers"
        try_miss_of(answer, tried, customers, 3)


def try_bad_input(answer: ModuleType, rng: random.Random) -> None:
    """Try forecasts that no bin holds, and a call without an outcome."""
    good = all_bins(rng, (4, 3, 3))
    beyond = EDGES[-1] + rng.randrange(1, 40)
    bad = {
        "a forecast of NaN": [*good, (math.nan, 5.0)],
        "a forecast below the first edge": [*good, (-0.25, 5.0)],
        "a forecast above the last edge": [*good, (beyond, 5.0)],
        "a forecast just above the last edge": [*good, (math.nextafter(120, 121), 5.0)],
        "a forecast above the last edge, its spend not known": [
            *good,
            (beyond, UNKNOWN),
        ],
        "a forecast of NaN, its spend not known": [*good, (math.nan, UNKNOWN)],
        "four customers, no spend known": [(said, UNKNOWN) for said, _ in good[:4]],
        "no customers": [],
    }
    for tried, customers in bad.items():
        rng.shuffle(customers)
        expect_error(tried, BadInput, partial(kind_of_result, answer, customers), 3)


def kind_of_result(answer: ModuleType, customers: list[Customer]) -> Words:
    """Return what comes out in a word: its numbers would be too many."""
    return Words(f"a {type(raw_result(answer, customers, EDGES)).__name__}")
