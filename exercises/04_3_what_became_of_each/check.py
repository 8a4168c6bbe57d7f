"""Judges Receipts: nights that are told in words, then nights drawn at random."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import ModuleType
from typing import Any

from course.claims import is_a
from course.practice.checking import Refused, Words, expect, expect_error

STEPS = 300  # of a night at random


class Book:
    """The receipts that are judged, and a diary of what they were told."""

    def __init__(self, answer: ModuleType) -> None:
        self.receipts = answer.Receipts()
        self.diary: list[str] = []

    def told(self) -> str:
        """Return the last things that it was told."""
        return ", ".join(self.diary[-10:])

    def tell(self, what: str, call: Callable[[], Any], hint: int) -> Any:
        """Tell it something; refuse the answer if it raises an error."""
        self.diary.append(what)
        try:
            return call()
        except NotImplementedError:
            raise
        except Exception as error:
            raised = Words(f"{type(error).__name__}: {error}")
            raise Refused(self.told(), raised, Words("no error"), hint) from error

    def publish(self, letter: str, tag: int, hint: int = 1) -> None:
        """Publish a letter, which should get a tag."""
        publishing = self.receipts.publishing
        got = self.tell(f"{letter} published", lambda: publishing(letter), hint)
        expect(f"{self.told()}: its tag", got, tag, hint)

    def give_back(self, letter: str, hint: int = 2) -> None:
        """Return a letter."""
        on_return = self.receipts.on_return
        self.tell(f"{letter} returned", lambda: on_return(letter), hint)

    def confirm(self, tag: int, many: bool, positive: bool, hint: int = 1) -> None:
        """Confirm one letter, or many."""
        word = "ack" if positive else "nack"
        if many:
            word += " multiple"
        confirm = self.receipts.on_confirm
        self.tell(f"{word} {tag}", lambda: confirm(tag, many, positive), hint)

    def lose(self, expected: list[str], hint: int = 2) -> None:
        """Lose the channel, which should return some letters."""
        found = self.tell("channel lost", self.receipts.on_lost, hint)
        expect(f"{self.told()}: what on_lost returns", found, is_a(list), hint)
        expect(f"{self.told()}: what on_lost returns", found, expected, hint)

    def outcomes(self, hint: int, **expected: str) -> None:
        """Ask for the outcomes of letters."""
        for letter, outcome in expected.items():
            what = f"{self.told()}: outcome of {letter}"
            try:
                found = self.receipts.outcome(letter)
            except KeyError:
                raise Refused(what, Words("KeyError"), outcome, hint) from None
            expect(what, found, outcome, hint)

    def refused(self, letter: str, hint: int = 1) -> None:
        """Publish a letter that must not be published now."""
        what = f"{self.told()}, then {letter} published"
        publishing = self.receipts.publishing
        expect_error(what, ValueError, lambda: publishing(letter), hint)


def check(answer: ModuleType, rng: random.Random) -> None:
    """Tell stories of a few letters, then some of many."""
    one_by_one(answer)
    apart(answer)
    many_at_once(answer)
    not_allowed(answer)
    returned(answer)
    lost(answer)
    tried_again(answer)
    doubts(answer)
    for _ in range(10):
        Night(Book(answer), rng).go_on()


def one_by_one(answer: ModuleType) -> None:
    """Confirm each by its own tag, in another order."""
    book = Book(answer)
    book.publish("a", 1)
    book.publish("b", 2)
    book.publish("c", 3)
    book.outcomes(1, a="waiting", b="waiting", c="waiting")
    book.confirm(2, many=False, positive=True)
    book.outcomes(1, a="waiting", b="arrived", c="waiting")
    book.confirm(3, many=False, positive=False)
    book.outcomes(1, a="waiting", b="arrived", c="refused")
    book.publish("d", 4)
    book.confirm(1, many=False, positive=True)
    book.outcomes(1, a="arrived", b="arrived", c="refused", d="waiting")


def many_at_once(answer: ModuleType) -> None:
    """Confirm many, up to a tag and all, where one is confirmed already."""
    for positive, outcome in ((True, "arrived"), (False, "refused")):
        other = "refused" if positive else "arrived"
        book = Book(answer)
        for tag, letter in enumerate("abcde", start=1):
            book.publish(letter, tag)
        book.confirm(2, many=False, positive=not positive)
        book.confirm(3, many=True, positive=positive)
        book.outcomes(1, a=outcome, b=other, c=outcome, d="waiting", e="waiting")
        book.confirm(0, many=True, positive=positive)
        book.outcomes(1, a=outcome, b=other, c=outcome, d=outcome, e=outcome)
        book.publish("f", 6)
        book.outcomes(1, f="waiting")
        book.confirm(6, many=True, positive=not positive)
        book.outcomes(1, a=outcome, e=outcome, f=other)


def not_allowed(answer: ModuleType) -> None:
    """Publish what waits or has arrived, and ask for what was never published."""
    book = Book(answer)
    book.publish("a", 1)
    book.refused("a")
    book.publish("b", 2)
    book.confirm(1, many=False, positive=True)
    book.refused("a")
    book.publish("c", 3)
    book.confirm(2, many=False, positive=True)
    book.outcomes(1, a="arrived", b="arrived", c="waiting")
    what = "outcome of a letter that was never published"
    expect_error(what, KeyError, lambda: book.receipts.outcome("z"), 1)
    book.lose(["c"])
    book.refused("a")
    book.outcomes(2, a="arrived", b="arrived", c="unknown")


def returned(answer: ModuleType) -> None:
    """Return letters, and confirm them alone and with others."""
    book = Book(answer)
    for tag, letter in enumerate("abcd", start=1):
        book.publish(letter, tag)
    book.give_back("b")
    book.outcomes(2, a="waiting", b="waiting")
    book.refused("b", 2)
    book.confirm(3, many=True, positive=True)
    book.outcomes(2, a="arrived", b="unroutable", c="arrived", d="waiting")
    book.give_back("d")
    book.confirm(4, many=False, positive=True)
    book.outcomes(2, b="unroutable", d="unroutable")


def lost(answer: ModuleType) -> None:
    """Lose channels, with letters in flight, returned and confirmed."""
    book = Book(answer)
    for tag, letter in enumerate(("d", "a", "c", "b", "e"), start=1):
        book.publish(letter, tag)
    book.confirm(2, many=False, positive=True)
    book.give_back("c")
    book.confirm(5, many=False, positive=False)
    book.lose(["d", "b"])
    book.outcomes(2, a="arrived", e="refused", d="unknown", b="unknown")
    book.outcomes(2, c="unroutable")
    book.lose([])
    book.outcomes(2, d="unknown", b="unknown", c="unroutable")
    # The order of publishing is that of the last try, and tags count from 1.
    book.publish("b", 1)
    book.publish("f", 2)
    book.publish("d", 3)
    book.outcomes(2, b="waiting", d="waiting", f="waiting", e="refused")
    book.lose(["b", "f", "d"])
    book.publish("d", 1)
    book.publish("b", 2)
    book.confirm(1, many=True, positive=True)
    book.outcomes(2, d="arrived", b="waiting", f="unknown")


def tried_again(answer: ModuleType) -> None:
    """Publish again what was refused or returned: the old try says nothing."""
    book = Book(answer)
    for tag, letter in enumerate("abcd", start=1):
        book.publish(letter, tag)
    book.give_back("b")
    book.confirm(2, many=False, positive=True)
    book.confirm(1, many=False, positive=False)
    book.give_back("c")
    book.lose(["d"])
    book.outcomes(2, a="refused", b="unroutable", c="unroutable", d="unknown")
    for tag, letter in enumerate("abcd", start=1):
        book.publish(letter, tag)
    book.outcomes(2, a="waiting", b="waiting", c="waiting", d="waiting")
    book.confirm(0, many=True, positive=True)
    book.outcomes(2, a="arrived", b="arrived", c="arrived", d="arrived")
    # Returned once, then refused; returned once, then lost.
    book = Book(answer)
    for letter in "ab":
        book.publish(letter, "ab".index(letter) + 1)
        book.give_back(letter)
    book.lose([])
    book.publish("a", 1)
    book.publish("b", 2)
    book.confirm(1, many=False, positive=False)
    book.outcomes(2, a="refused")
    book.lose(["b"])
    book.outcomes(2, a="refused", b="unknown")


def doubts(answer: ModuleType) -> None:
    """Publish again what is unknown: only an arrival ends the doubt."""
    book = Book(answer)
    for tag, letter in enumerate("abcd", start=1):
        book.publish(letter, tag)
    book.lose(["a", "b", "c", "d"])
    for tag, letter in enumerate("abcd", start=1):
        book.publish(letter, tag, 3)
    book.outcomes(3, a="waiting", b="waiting", c="waiting", d="waiting")
    book.confirm(1, many=False, positive=False, hint=3)
    book.outcomes(3, a="unknown")
    book.give_back("b", 3)
    book.confirm(2, many=False, positive=True, hint=3)
    book.outcomes(3, b="unknown")
    book.give_back("c", 3)
    # Its last try was returned: it is not in flight any more, but the first may be.
    book.lose(["d"], 3)
    book.outcomes(3, a="unknown", b="unknown", c="unknown", d="unknown")
    for tag, letter in enumerate("cba", start=1):
        book.publish(letter, tag, 3)
        book.confirm(tag, many=False, positive=False, hint=3)
    book.outcomes(3, a="unknown", b="unknown", c="unknown")
    book.publish("a", 4, 3)
    book.confirm(4, many=False, positive=True, hint=3)
    book.outcomes(3, a="arrived", b="unknown")


def apart(answer: ModuleType) -> None:
    """Keep two books at once."""
    first = Book(answer)
    second = Book(answer)
    first.publish("a", 1)
    first.lose(["a"])
    second.diary.append("a second book, beside one where a is unknown")
    second.publish("a", 1)
    second.confirm(1, many=False, positive=False)
    second.outcomes(2, a="refused")


class Night:
    """A night at random. A letter's outcome follows from what became of its tries."""

    def __init__(self, book: Book, rng: random.Random) -> None:
        self.book = book
        self.rng = rng
        self.in_flight: dict[int, str] = {}
        self.next_tag = 1
        self.returned: set[str] = set()
        self.tries: dict[str, list[str]] = {}  # how each try of a letter ended

    def go_on(self) -> None:
        """Let things happen; compare all outcomes after each of them."""
        events = [self.publish] * 5 + [self.give_back] + [self.confirm] * 3
        for step in range(STEPS):
            event = self.rng.choice(events)
            if step % 25 == 24:
                event = self.lose
            event()
            expected = {letter: self.expected(letter) for letter in self.tries}
            self.book.outcomes(3, **expected)

    def expected(self, letter: str) -> str:
        """Return the outcome of a letter, by all its tries."""
        tries = self.tries[letter]
        if letter in self.in_flight.values():
            return "waiting"
        if tries[-1] != "arrived" and "unknown" in tries:
            return "unknown"
        return tries[-1]

    def publish(self) -> None:
        """Publish a new letter, or one again that may be."""
        again = []
        for letter in self.tries:
            if self.expected(letter) not in ("waiting", "arrived"):
                again.append(letter)
        letter = f"n{len(self.tries) + 1}"
        if again and self.rng.random() < 0.6:
            letter = self.rng.choice(again)
        self.book.publish(letter, self.next_tag, 3)
        self.in_flight[self.next_tag] = letter
        self.next_tag += 1
        self.tries.setdefault(letter, [])

    def give_back(self) -> None:
        """Return a letter that is in flight."""
        letters = [one for one in self.in_flight.values() if one not in self.returned]
        if letters:
            letter = self.rng.choice(letters)
            self.book.give_back(letter, 3)
            self.returned.add(letter)

    def confirm(self) -> None:
        """Confirm one letter, or many; what was returned is never refused."""
        if not self.in_flight:
            return
        tag = self.rng.choice(list(self.in_flight))
        many = self.rng.random() < 0.5
        tags = [one for one in self.in_flight if one == tag or (many and one < tag)]
        if many and self.rng.random() < 0.3:
            tag = 0
            tags = list(self.in_flight)
        positive = self.rng.random() < 0.6
        if any(self.in_flight[one] in self.returned for one in tags):
            positive = True
        self.book.confirm(tag, many, positive, 3)
        for one in tags:
            self.end(one, "arrived" if positive else "refused")

    def lose(self) -> None:
        """Lose the channel."""
        letters = [one for one in self.in_flight.values() if one not in self.returned]
        self.book.lose(letters, 3)
        for tag in list(self.in_flight):
            self.end(tag, "unknown")
        self.next_tag = 1

    def end(self, tag: int, how: str) -> None:
        """Note how a try ends."""
        letter = self.in_flight.pop(tag)
        if letter in self.returned:
            self.returned.remove(letter)
            how = "unroutable"
        self.tries[letter].append(how)
