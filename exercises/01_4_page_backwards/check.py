"""Judges page_before: pages of small lists, before every place in them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import sqlalchemy as sa

from course.claims import Condition, at_most
from course.practice.checking import expect, expect_error
from course.practice.databases import (
    Traffic,
    expect_no_error,
    memory_engine,
    plain_data,
)

NAMES = ("Ada", "Bob", "Cleo", "Dan", "Eve")

Row = tuple[int, int | None, str]  # id, seen_at, name
Place = tuple[int | None, int]  # seen_at, id


def position(place: Place) -> tuple[bool, int, int]:
    """Return what places are sorted by: the latest first, NULL last, then the id."""
    seen_at, key = place
    return seen_at is None, -(seen_at or 0), key


def place_of(row: Row) -> Place:
    """Return where a row stands in the list."""
    return row[1], row[0]


def is_page(page: Any) -> bool:
    """Tell whether a result has the form of a page."""
    rows, more = page
    is_list = isinstance(rows, list) and isinstance(more, (bool, int))
    return is_list and all(isinstance(row, tuple) and len(row) == 3 for row in rows)


def has_form(page: Any) -> bool:
    """Tell the same of anything, also of what cannot be taken apart."""
    return isinstance(page, tuple) and len(page) == 2 and is_page(page)


A_PAGE = Condition("a Page, with a list of tuples of three, and a bool", has_form)


class Console:
    """A list of users, and the answer that pages it."""

    def __init__(self, answer: ModuleType, rows: Sequence[Row]) -> None:
        self.answer = answer
        self.rows = sorted(rows, key=lambda row: position(place_of(row)))
        engine = memory_engine()
        self.traffic = Traffic(engine)
        self.connection = engine.connect()
        answer.USERS.create(self.connection)
        names = ("id", "seen_at", "name")
        values = [dict(zip(names, row, strict=True)) for row in rows]
        if values:
            self.connection.execute(sa.insert(answer.USERS), values)
        self.connection.commit()

    def page(self, place: Place | None, size: int) -> Any:
        """Ask the answer for a page."""
        key = None if place is None else self.answer.Key(*place)
        self.traffic.forget()
        return self.answer.page_before(self.connection, key, size)

    def in_words(self, place: Place | None, size: int) -> str:
        """Return what is asked for, with the list if that is short."""
        if place is None:
            asked = f"the last page, of size {size}"
        else:
            asked = f"the page of size {size} before {place}"
            if place not in self.places():
                asked += ", whose row is gone"
        if len(self.rows) > 10:
            return f"{asked}, in a list of {len(self.rows)}"
        listed = ", ".join(str(place_of(row)) for row in self.rows)
        return f"{asked}, in the list (seen_at, id): {listed or 'nobody'}"

    def expect_page(self, place: Place | None, size: int, hint: int) -> None:
        """Compare a page with the same page of the sorted list."""
        tried = self.in_words(place, size)
        page = expect_no_error(tried, lambda: self.page(place, size), hint)
        page = plain_data(page)
        expect(tried, page, A_PAGE, 1)
        before = self.rows
        if place is not None:
            limit = position(place)
            before = [row for row in before if position(place_of(row)) < limit]
        expected = before[-size:]
        rows, more = page
        expect(
            tried,
            {"places": [place_of(row) for row in rows], "more": more},
            {
                "places": [place_of(row) for row in expected],
                "more": len(before) > size,
            },
            hint,
        )
        expect(f"the rows of {tried}", rows, expected, 1)

    def expect_every_page(self, places: Sequence[Place], hint: int) -> None:
        """Compare the pages before places, from small ones to one that holds all."""
        for size in (2, 1, 3, len(self.rows)):
            for place in places:
                self.expect_page(place, size, hint)

    def places(self) -> list[Place]:
        """Return where the rows stand, from the last one on."""
        return [place_of(row) for row in reversed(self.rows)]

    def gaps(self) -> list[Place]:
        """Return places where no row stands: beside each row, and at both ends."""
        taken = {place_of(row) for row in self.rows}
        found: list[Place] = []
        for seen_at, key in self.places():
            found += [(seen_at, key + 1), (seen_at, key - 1)]
            if seen_at is not None:
                found += [(seen_at + 1, key), (seen_at - 1, key)]
        found += [(None, -(10**9)), (None, 10**9), (10**9, 1), (-(10**9), 1)]
        return [place for place in found if place not in taken]


def drawn(
    rng: random.Random, seen: Sequence[int | None], low: int = 1, high: int = 100
) -> list[Row]:
    """Return a row for each instant, with ids that say nothing about the order."""
    ids = rng.sample(range(low, high), len(seen))
    return [(key, at, rng.choice(NAMES)) for key, at in zip(ids, seen, strict=True)]


def check_plain_lists(answer: ModuleType, rng: random.Random) -> None:
    """Page lists where everybody was seen at another instant."""
    seen = rng.sample(range(100, 1000), 6)
    console = Console(answer, drawn(rng, seen))
    middle = place_of(console.rows[4])
    console.expect_page(middle, 2, 1)
    console.expect_page(None, 2, 1)
    console.expect_page(place_of(console.rows[2]), 3, 2)
    console.expect_page(place_of(console.rows[3]), 3, 2)
    console.expect_page(place_of(console.rows[0]), 2, 2)
    console.expect_page(None, 6, 2)
    console.expect_every_page(console.places(), 2)
    Console(answer, []).expect_page(None, 2, 2)


def check_ties(answer: ModuleType, rng: random.Random) -> None:
    """Page lists where many share an instant."""
    early, late = sorted(rng.sample(range(100, 1000), 2))
    console = Console(answer, drawn(rng, [late] + [early] * 5 + [early - 1]))
    console.expect_page(place_of(console.rows[3]), 2, 2)
    console.expect_every_page(console.places(), 2)


def check_never_seen(answer: ModuleType, rng: random.Random) -> None:
    """Page lists whose end, or all of them, was never seen."""
    at = rng.randrange(100, 1000)
    console = Console(answer, drawn(rng, [at, at, at + 1, None, None, None, None]))
    console.expect_page(None, 2, 3)
    console.expect_page(None, 6, 3)
    console.expect_page(place_of(console.rows[3]), 2, 3)
    console.expect_page(place_of(console.rows[4]), 2, 3)
    console.expect_every_page(console.places(), 3)
    nobody = Console(answer, drawn(rng, [None] * 5))
    nobody.expect_page(None, 2, 3)
    nobody.expect_every_page(nobody.places(), 3)


def check_zero(answer: ModuleType, rng: random.Random) -> None:
    """Page lists around the second 0, with ids below 0."""
    console = Console(
        answer, drawn(rng, [-1, 0, 0, 0, 1, -rng.randrange(2, 99), None, None], -50, 50)
    )
    console.expect_every_page(console.places(), 3)
    zeros = Console(answer, [(0, 0, "Ada"), (-1, 0, "Bob"), (1, 0, "Eve")])
    zeros.expect_every_page(zeros.places(), 3)
    unseen = Console(answer, [(0, None, "Ada"), (-1, None, "Bob"), (1, 0, "Eve")])
    unseen.expect_every_page(unseen.places(), 3)
    far = rng.randrange(2**32, 2**53)
    console = Console(answer, drawn(rng, [far, 5, -far, -far, None, None], -50, 50))
    console.expect_every_page(console.places(), 3)


def check_change(answer: ModuleType, rng: random.Random) -> None:
    """Ask for what stands before a row that is gone."""
    at = rng.randrange(100, 1000)
    seen = [at, at, at, at - 2, at + 2, None, None, None]
    console = Console(answer, drawn(rng, seen))
    console.expect_every_page(console.gaps(), 2)


def check_mixture(answer: ModuleType, rng: random.Random) -> None:
    """Page a list of everything, before each place, with any size."""
    seen = [rng.choice([None, -1, 0, 1, 2, 50]) for _ in range(25)]
    console = Console(answer, drawn(rng, seen, -40, 40))
    for size in (1, 2, 4, 7, 24, 25, 26):
        for place in [None, *console.places()]:
            console.expect_page(place, size, 3)


def check_cost(answer: ModuleType, rng: random.Random) -> None:
    """Count statements and rows at the end, in the middle and at the start."""
    seen = [rng.choice([None, 5, 6, 7, 8, 9]) for _ in range(300)]
    console = Console(answer, drawn(rng, seen, 1, 1000))
    size = rng.randrange(5, 15)
    for place in (None, *(place_of(console.rows[at]) for at in (290, 150, 8, 0))):
        console.page(place, size)
        traffic = console.traffic
        expect(
            f"the cost of {console.in_words(place, size)}",
            {"statements": traffic.statements, "rows read": traffic.rows},
            {"statements": at_most(2), "rows read": at_most(size + 1)},
            1,
        )


def check(answer: ModuleType, rng: random.Random) -> None:
    """Page lists from the plain one to the odd ones; then count, then ask nonsense."""
    check_plain_lists(answer, rng)
    check_ties(answer, rng)
    check_never_seen(answer, rng)
    check_zero(answer, rng)
    check_change(answer, rng)
    check_mixture(answer, rng)
    check_cost(answer, rng)
    console = Console(answer, drawn(rng, [3, 2, 1]))
    for size in (0, -1):
        for place in (None, place_of(console.rows[1])):
            tried = console.in_words(place, size)

            def ask(place: Place | None = place, size: int = size) -> Any:
                return plain_data(console.page(place, size))

            expect_error(tried, ValueError, ask, 1)
