"""Judges load_counts() by what is stored afterwards, whoever else has written."""

from __future__ import annotations

import copy
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from types import ModuleType
from typing import Any

from pymongo.errors import AutoReconnect, BulkWriteError, PyMongoError

from course.claims import at_most, is_a
from course.mongo.codec import Document
from course.mongo.counting import CommandCounter
from course.mongo.schema import record, typed
from course.practice.checking import Refused, Words, expect, expect_error
from course.practice.noted import Asked, NotedCollection
from course.standins.mongodb import StandInDatabase

START = datetime(2025, 3, 1, 8, tzinfo=UTC)
SCHEMA = record(
    "warehouse sku quantity counted_at",
    _id={},
    warehouse=typed("string"),
    sku=typed("string"),
    quantity=typed("int", "long", minimum=0),
    counted_at=typed("date"),
    note=typed("string"),
    shelf=typed("string"),
)
# Written end to end, or with a mark in between, some of these would be one pair.
ODD_PAIRS = [
    *(("a", "bc"), ("ab", "c"), ("a|b", "c"), ("a", "b|c"), ("a/b", "c"), ("a", "b/c")),
    *(("a:b", "c"), ("a", "b:c"), ("a b", "c"), ("a", "b c"), ("", "abc"), ("abc", "")),
    *(("a,b", "c"), ("a", "b,c"), ("a\0b", "c"), ("a", "b\0c"), ("Kyiv", "Львів")),
    *(("a.b", "$c"), ("$a", "b.c"), (".*", "^a"), ("A", "bc"), ("a", "bc ")),
    *(("a_b", "c"), ("a", "b_c"), ("a-b", "c"), ("a", "b-c"), ("1", "1"), ("01", "1")),
]
Pair = tuple[str, str]


class Watched(NotedCollection):
    """A collection in which something happens before or after some command."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.number = 0  # of the command around which it happens; 0 is none of them
        self.in_between: Callable[[], object] | None = None
        self.failure: Exception | None = None

    def before(self, asked: Asked) -> None:
        """Fail, if this is the command to fail."""
        if self.failure and len(self.asked) == self.number:
            raise self.failure

    def after(self, asked: Asked) -> None:
        """Let another load write, if this is the command behind which it does."""
        if self.in_between and len(self.asked) == self.number:
            self.in_between()


def fresh_counts() -> Watched:
    """Return an empty collection with its index and its validator."""
    database: Any = StandInDatabase(CommandCounter())
    validator = {"$jsonSchema": SCHEMA}
    counts = database.create_collection("counts", validator=validator)
    counts = database["counts"]
    counts.create_index([("warehouse", 1), ("sku", 1)], unique=True)
    return Watched(counts)


@dataclass
class Trial:
    """A collection, and what it has to hold."""

    answer: ModuleType
    counts: Watched = field(default_factory=fresh_counts)
    latest: dict[Pair, Document] = field(default_factory=dict)

    def put(self, row: Document) -> None:
        """Store a row as another load does: only if it is newer than what is there."""
        self.note(row)
        inner = self.counts.inner
        pair = {"warehouse": row["warehouse"], "sku": row["sku"]}
        there = inner.find_one(pair)
        if there is None:
            inner.insert_one(dict(row))
        elif there["counted_at"] < row["counted_at"]:
            inner.replace_one(pair, dict(row))

    def note(self, row: Document) -> None:
        """Keep what has to be stored once a row is loaded."""
        pair = pair_of(row)
        held = self.latest.get(pair)
        if is_good(row) and (held is None or held["counted_at"] < row["counted_at"]):
            self.latest[pair] = row

    def load(
        self, tried: str, rows: Sequence[Document], hint: int, batch: int = 50
    ) -> None:
        """Load rows by the answer, and judge what it returns and what is stored."""
        keys = self.keys()
        for row in rows:
            self.note(row)
        given = copy.deepcopy(list(rows))
        self.counts.asked.clear()
        returned = self.returned(tried, rows, hint, batch)
        bad = [place for place, row in enumerate(rows) if not is_good(row)]
        self.judge_places(tried, returned, bad, hint)
        self.judge_stored(tried, hint)
        self.judge_keys(tried, keys)
        expect(f"{tried}; the caller's rows afterwards", list(rows), given, 3)
        most = 3 * -(-len(rows) // batch)
        sent = len(self.counts.asked)
        words = f"{tried}; commands for {len(rows)} rows in batches of {batch}"
        expect(words, sent, at_most(most), 3)

    def returned(
        self, tried: str, rows: Sequence[Document], hint: int, batch: int
    ) -> Any:
        """Return what the answer returns; refuse it if it raises what servers say."""
        try:
            return self.answer.load_counts(self.counts, rows, batch)
        except PyMongoError as error:
            raised = Words(name_of(error))
            raise Refused(tried, raised, Words("no error"), hint) from error

    def judge_places(
        self, tried: str, returned: Any, bad: list[int], hint: int
    ) -> None:
        """Judge the places of the bad rows."""
        tried = f"{tried}; the places of bad rows"
        expect(tried, returned, is_a(list), 1)
        expect(tried, returned, bad, hint)

    def judge_stored(self, tried: str, hint: int) -> None:
        """Judge what is stored, but for the _id."""
        stored: dict[Pair, Document] = {}
        for row in self.counts.inner.find():
            del row["_id"]
            stored[pair_of(row)] = row
        for pair, row in self.latest.items():
            warehouse, sku = pair
            words = f"{tried}; what is stored of {sku!r} in {warehouse!r}"
            found = readable(stored[pair]) if pair in stored else Words("nothing")
            expect(words, found, readable(row), hint)
        expect(f"{tried}; how many are stored", len(stored), len(self.latest), hint)

    def keys(self) -> dict[Pair, Any]:
        """Return the _id of each pair."""
        return {pair_of(row): row["_id"] for row in self.counts.inner.find()}

    def judge_keys(self, tried: str, before: dict[Pair, Any]) -> None:
        """Judge that no _id has changed."""
        after = self.keys()
        lost = [pair for pair, key in before.items() if after.get(pair) != key]
        words = f"{tried}; pairs whose _id is another one than before"
        expect(words, len(lost), 0, 2)


def name_of(error: PyMongoError) -> str:
    """Return an error in words; its documents have an _id that nobody knows."""
    if isinstance(error, BulkWriteError):
        complaints = error.details["writeErrors"]
        codes = Counter(each["code"] for each in complaints)
        said = ", ".join(f"{codes[code]} of code {code}" for code in sorted(codes))
        return f"BulkWriteError: {said}"
    return f"{type(error).__name__}: {error}"


def pair_of(row: Document) -> Pair:
    """Return what a row is known by."""
    return row["warehouse"], row["sku"]


def readable(row: Document) -> Document:
    """Return a row whose moment is a text in UTC: it is shown so."""
    at = row.get("counted_at")
    if isinstance(at, datetime):
        return row | {"counted_at": f"{at.astimezone(UTC):%d %B %H:%M:%S}"}
    return row


def is_good(row: Document) -> bool:
    """Tell whether the validator accepts a row."""
    quantity = row.get("quantity")
    is_number = type(quantity) is int and quantity >= 0
    return is_number and isinstance(row.get("note", ""), str)


def count(pair: Pair, minutes: int, quantity: Any, **more: Any) -> Document:
    """Return a row that was counted so many minutes after the start."""
    at = START + timedelta(minutes=minutes)
    return {
        "warehouse": pair[0],
        "sku": pair[1],
        "quantity": quantity,
        "counted_at": at,
    } | more


def pairs_drawn(rng: random.Random, number: int) -> list[Pair]:
    """Return different pairs, with the same skus in many warehouses."""
    cities = ("Kyiv", "Lviv", "Odesa", "Dnipro")
    every = [(city, f"P-{sku}") for city in cities for sku in range(number)]
    return rng.sample(every, number)


def plain_trials(answer: ModuleType, rng: random.Random) -> None:
    """Load rows once, again, and out of order."""
    trial = Trial(answer)
    pairs = pairs_drawn(rng, 12)
    noon = [count(pair, 240, rng.randrange(100)) for pair in pairs]
    trial.load("12 rows into an empty collection", noon, 1)
    trial.load("the same 12 rows again", noon, 1)
    morning = [count(pair, 60, rng.randrange(100, 200)) for pair in pairs]
    trial.load("an older file after a newer one", morning, 1)
    evening = [count(pair, 600, rng.randrange(200, 300)) for pair in pairs[:8]]
    trial.load("a newer file", evening, 1)
    trial.counts.asked.clear()
    trial.load("no rows", [], 3)
    rows = noon + evening + morning
    rng.shuffle(rows)
    Trial(answer).load("three files as one, in any order", rows, 1)
    Trial(answer).load("three files as one, in batches of 5", rows, 1, batch=5)
    trial = Trial(answer)
    trial.load("three files, a row in each batch", tuple(rows), 1, batch=1)


def one_pair_trials(answer: ModuleType, rng: random.Random) -> None:
    """Load one pair several times, with the latest row anywhere."""
    for place in range(4):
        others = rng.sample(range(60), 3)
        minutes = [*others[:place], 90, *others[place:]]
        rows = [count(("Kyiv", "P-1"), each, each) for each in minutes]
        words = f"one pair four times, the latest as row {place}"
        Trial(answer).load(words, rows, 1)
        trial = Trial(answer)
        trial.put(count(("Kyiv", "P-1"), 70, 5))
        trial.load(f"{words}, and an older one is stored", rows, 1)
    rows = [count(("Kyiv", "P-1"), 5, 10)] * 2
    Trial(answer).load("the same row twice in one load", rows, 1)


def field_trials(answer: ModuleType, rng: random.Random) -> None:
    """Replace rows that have more fields, and count in other time zones."""
    trial = Trial(answer)
    pair = ("Kyiv", "P-1")
    trial.put(count(pair, 10, 5, note="torn box", shelf="A7"))
    rows = [count(pair, 20, 4, shelf="B2")]
    trial.load("a newer row without the note that is stored", rows, 2)
    both = [count(pair, 30, 3, note="wet"), count(pair, 40, 2)]
    trial.load("a row with a note, and a newer one without", both, 2)
    both = [count(pair, 60, 0), count(pair, 50, 7, note="late")]
    trial.load("a row, and an older one with a note", both, 2)
    in_kyiv = timezone(timedelta(hours=2))
    in_york = timezone(timedelta(hours=-5))
    early = count(pair, 100, 8)
    early["counted_at"] = early["counted_at"].astimezone(in_kyiv)
    late = count(pair, 160, 9)
    late["counted_at"] = late["counted_at"].astimezone(in_york)
    rows = [late, early]
    rng.shuffle(rows)
    trial.load("moments of two time zones", rows, 2)


def odd_pair_trials(answer: ModuleType, rng: random.Random) -> None:
    """Load pairs of any characters."""
    trial = Trial(answer)
    rows = [count(pair, 10, number) for number, pair in enumerate(ODD_PAIRS)]
    rng.shuffle(rows)
    trial.load("pairs such as ('a|b', 'c') and ('a', 'b|c')", rows, 2)
    rows = [row | {"counted_at": START, "quantity": 7} for row in rows]
    trial.load("the same pairs, counted before", rows, 2)


def bad_trials(answer: ModuleType, rng: random.Random) -> None:
    """Load bad rows among good ones, in any batch."""
    trial = Trial(answer)
    pairs = pairs_drawn(rng, 40)
    for pair in pairs[:20]:
        trial.put(count(pair, 10, 1, note="stored before"))
    rows = [count(pair, 20, 2) for pair in pairs]
    rows[0]["quantity"] = -1
    trial.load("40 rows, of which the first is bad", rows, 1)
    rows = [count(pair, 30, 3) for pair in pairs]
    for place in (5, 6, 25, 33, 39):
        rows[place] |= rng.choice([{"quantity": -1}, {"quantity": 2.5}, {"note": 5}])
    del rows[25]["quantity"]
    rng.shuffle(rows)
    trial.load("40 rows with 5 bad ones, in batches of 10", rows, 2, batch=10)
    trial.load("the same 40 rows again", rows, 2, batch=10)
    new = Trial(answer)
    new.load("the same into an empty collection", rows, 2, batch=7)
    pair = pairs[0]
    mixed = [count(pair, 50, 6), count(pair, 60, -1), count(pair, 70, "many")]
    for order in (mixed, mixed[::-1]):
        words = "a good row of a pair, and two bad ones that are newer"
        Trial(answer).load(words, order, 3)
    bad = [row for row in rows if not is_good(row)]
    Trial(answer).load("bad rows only", bad, 3)


def other_load(trial: Trial, rows: Sequence[Document], minutes: int) -> None:
    """Store a count of each of these pairs, as another load."""
    for row in rows:
        trial.put(count(pair_of(row), minutes, 77, note="of another load"))


def race(answer: ModuleType, rng: random.Random, number: int, minutes: int) -> None:
    """Let another load write behind a command: to stored pairs, and to new ones."""
    trial = Trial(answer)
    pairs = pairs_drawn(rng, 20)
    for pair in pairs[:10]:
        trial.put(count(pair, 0, 1))
    rows = [count(pair, 60, 2) for pair in pairs]
    others = rows[5:15]
    trial.counts.number = number
    trial.counts.in_between = lambda: other_load(trial, others, minutes)
    age = "newer" if minutes > 60 else "older"
    words = f"another load stores {age} counts behind your command {number}"
    trial.load(words, rows, 3, batch=10)


def race_trials(answer: ModuleType, rng: random.Random) -> None:
    """Let another load write between any two commands."""
    for number in range(1, 6):
        race(answer, rng, number, 90)
    for number in range(1, 6):
        race(answer, rng, number, 30)


def large_trial(answer: ModuleType, rng: random.Random) -> None:
    """Load 200 rows in batches of 50, twice."""
    trial = Trial(answer)
    pairs = pairs_drawn(rng, 60)
    rows = []
    for minutes in rng.sample(range(1_000), 200):
        rows.append(count(rng.choice(pairs), minutes, minutes))
    trial.load("200 rows of 60 pairs or fewer", rows, 3)
    trial.load("the same 200 rows again", rows, 3)


def failing_trials(answer: ModuleType, rng: random.Random) -> None:
    """Let the server fail: this is no fault of a row."""
    lost = AutoReconnect("connection closed")
    complaint = {"index": 0, "code": 189, "errmsg": "the primary stepped down"}
    stepped_down = BulkWriteError({"writeErrors": [complaint]})
    failures = {"the connection breaks": lost, "the server says 189": stepped_down}
    for words, failure in failures.items():
        counts = fresh_counts()
        counts.number = 1
        counts.failure = failure
        rows = [count(pair, 5, 1) for pair in pairs_drawn(rng, 3)]
        load = partial(answer.load_counts, counts, rows, 50)
        expect_error(f"{words} at the first command", PyMongoError, load, 3)


def check(answer: ModuleType, rng: random.Random) -> None:
    """Load what is plain, then what is odd, then what others write to."""
    plain_trials(answer, rng)
    one_pair_trials(answer, rng)
    bad_trials(answer, rng)
    field_trials(answer, rng)
    odd_pair_trials(answer, rng)
    large_trial(answer, rng)
    race_trials(answer, rng)
    failing_trials(answer, rng)
