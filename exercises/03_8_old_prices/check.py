"""Judges PriceReader: a clock moved by hand, and a source that is out when told to."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import wait
from functools import partial
from types import ModuleType
from typing import Any

from course.claims import other_than
from course.lab import ManualClock, in_background, outcome_of
from course.practice.checking import Words, expect, expect_end

LIMIT = 2.0  # seconds that a call may take, on a busy machine, too
OUT = (ConnectionError, TimeoutError, ConnectionResetError, OSError)
ANSWERS = (LookupError, KeyError, ValueError, RuntimeError)


class Source:
    """The prices of a shop; it counts what is fetched of it, and fails when told to."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.outage: Exception | None = None
        self.takes = 0.0
        self.fetches: list[str] = []
        self.effects: dict[str, Callable[[], object]] = {}
        self.clock = ManualClock()

    def fetch(self, key: str) -> Any:
        """Return a price or raise; what is to happen meanwhile happens first."""
        self.fetches.append(key)
        self.clock.advance(self.takes)
        effect = self.effects.pop(key, None)
        if effect:
            effect()
        if self.outage is not None:
            raise self.outage
        answer = self.answers.get(key)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Shop:
    """A source, and a reader of its prices, with limits that are drawn."""

    def __init__(self, answer: ModuleType, rng: random.Random) -> None:
        self.rng = rng
        self.source = Source()
        self.ttl = rng.randrange(50, 100)
        self.grace = rng.randrange(1000, 5000)
        self.pause = rng.randrange(4, 12)
        self.reader = answer.PriceReader(
            self.source.fetch,
            self.source.clock,
            ttl=self.ttl,
            grace=self.grace,
            pause=self.pause,
        )
        self.limits = f"ttl {self.ttl}, grace {self.grace}, pause {self.pause}"

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        self.source.clock.advance(seconds)

    def go_out(self) -> None:
        """Begin an outage."""
        self.source.outage = self.rng.choice(OUT)("the source is out")

    def keep(self, **prices: Any) -> None:
        """Fetch some prices that are not fresh."""
        self.source.outage = None
        for key, price in prices.items():
            self.source.answers[key] = price
            self.expect_fetch(
                f"get({key!r}), to be fetched, the source not out", key, price, 1
            )

    def got(self, key: str) -> tuple[Any, int]:
        """Return what a get returns or raises, and how often it has fetched."""
        before = len(self.source.fetches)
        outcome = outcome_of(lambda: self.reader.get(key))
        if isinstance(outcome, NotImplementedError):
            raise outcome
        return outcome, len(self.source.fetches) - before

    def expect_price(
        self, tried: str, key: str, price: Any, fetches: int, hint: int
    ) -> None:
        """Refuse an answer that gets another price, or fetches otherwise."""
        outcome, fetched = self.got(key)
        tried = f"{tried} ({self.limits})"
        expect(tried, outcome, price, hint)
        expect(f"{tried}: fetches", fetched, fetches, hint)

    def expect_kept(self, tried: str, key: str, price: Any, hint: int) -> None:
        """Refuse an answer that fetches what is kept."""
        self.expect_price(tried, key, price, 0, hint)

    def expect_fetch(self, tried: str, key: str, price: Any, hint: int) -> None:
        """Refuse an answer that does not fetch once."""
        self.expect_price(tried, key, price, 1, hint)

    def expect_out(self, tried: str, key: str, fetches: int, hint: int) -> None:
        """Refuse an answer that does not raise OSError."""
        outcome, fetched = self.got(key)
        tried = f"{tried} ({self.limits})"
        if not isinstance(outcome, OSError):
            expect(tried, outcome, Words("an OSError"), hint)
        expect(f"{tried}: fetches", fetched, fetches, hint)


def check(answer: ModuleType, rng: random.Random) -> None:
    """Judge fresh prices, then outages, then what is dropped, then what hangs."""
    for test in (
        fresh,
        any_clock,
        falsy_prices,
        old_price_in_an_outage,
        many_failures,
        too_old_after_a_slow_failure,
        nothing_to_return,
        pauses,
        too_old_in_a_pause,
        pause_after_a_slow_failure,
        later_failure,
        withdrawn,
        forgotten,
        forgotten_during_a_fetch,
        forgotten_and_fetched_within,
        calls_within_a_fetch,
        a_fetch_that_hangs,
        usual_limits,
    ):
        test(Shop(answer, rng))


def fresh(shop: Shop) -> None:
    """A price is fresh for `ttl` seconds after its fetch has ended."""
    shop.source.takes = shop.ttl + 20
    tried = f"a fetch that takes {shop.source.takes:g} s"
    shop.source.answers["a"] = 7
    shop.expect_fetch(tried, "a", 7, 1)
    shop.source.takes = 0
    shop.source.answers["a"] = 8
    shop.pass_time(shop.ttl - 0.5)
    shop.expect_kept(f"{tried}; {shop.ttl - 0.5:g} s after its end", "a", 7, 1)
    shop.pass_time(0.5)
    tried = f"exactly {shop.ttl} s after the end of the fetch"
    shop.expect_fetch(tried, "a", 8, 1)
    shop.pass_time(shop.ttl - 1)
    shop.expect_kept(f"fetched again, {shop.ttl - 1} s later", "a", 8, 1)


def any_clock(shop: Shop) -> None:
    """A clock may begin anywhere."""
    for number, start in enumerate((0.0, -float(shop.rng.randrange(100, 90_000)))):
        key = f"key{number}"
        kind: Any = type(shop.reader)
        shop.source.clock.now = start
        shop.reader = kind(shop.source.fetch, shop.source.clock, shop.ttl)
        shop.source.answers[key] = 7
        tried = f"a clock that begins at {start:g}"
        shop.expect_fetch(tried, key, 7, 1)
        shop.expect_kept(f"{tried}; the second get", key, 7, 1)


def falsy_prices(shop: Shop) -> None:
    """None and 0 are prices."""
    shop.keep(none=None, zero=0)
    shop.expect_kept("a fresh price None", "none", None, 1)
    shop.expect_kept("a fresh price 0", "zero", 0, 1)


def old_price_in_an_outage(shop: Shop) -> None:
    """An old price is returned until it is ttl + grace old."""
    oldest = shop.ttl + shop.grace
    shop.keep(a=1)
    shop.go_out()
    shop.expect_kept("a fresh price, in an outage", "a", 1, 1)
    shop.pass_time(shop.ttl)
    for age in (shop.ttl, oldest - 0.5):
        shop.keep(a=age)
        shop.pass_time(age)
        shop.go_out()
        shop.expect_fetch(f"an outage; the price is {age:g} s old", "a", age, 1)
        shop.pass_time(2 * oldest)
    shop.keep(a=3)
    shop.pass_time(oldest)
    shop.go_out()
    shop.expect_out(f"an outage; the price is exactly {oldest} s old", "a", 1, 2)
    shop.source.outage = None
    shop.pass_time(shop.pause + 1)
    shop.expect_fetch("after the outage", "a", 3, 2)


def many_failures(shop: Shop) -> None:
    """A failure makes no price younger, however many there are."""
    shop.keep(a=1)
    shop.pass_time(shop.ttl)
    shop.go_out()
    age = shop.ttl
    step = shop.grace // 10
    while age < shop.ttl + shop.grace:
        tried = f"an outage with a get every {step} s; the price is {age} s old"
        shop.expect_fetch(tried, "a", 1, 2)
        shop.pass_time(step)
        age += step
    tried = f"an outage with a get every {step} s; the price is {age} s old"
    shop.expect_out(tried, "a", 1, 2)


def too_old_after_a_slow_failure(shop: Shop) -> None:
    """What counts is the age when the fetch has failed."""
    shop.keep(a=1)
    shop.pass_time(shop.ttl + shop.grace - 10)
    shop.go_out()
    shop.source.takes = 30
    tried = f"the price is {shop.ttl + shop.grace - 10} s old; a fetch fails after 30 s"
    shop.expect_out(tried, "a", 1, 3)


def nothing_to_return(shop: Shop) -> None:
    """Without a price an outage raises; so does a pause, without a fetch."""
    for number, kind in enumerate(OUT):
        shop.source.outage = kind("the source is out")
        tried = f"{kind.__name__}, failure {number + 1}, for a key without a price"
        shop.expect_out(tried, f"key{number}", 1, 1)
        shop.expect_out(f"{tried}; the same key at once", f"key{number}", 0, 2)
        shop.expect_out(f"{tried}; another key at once", f"other{number}", 0, 2)
        shop.pass_time(shop.pause + 1)


def pauses(shop: Shop) -> None:
    """After a failure the source is left alone, by all keys, each time."""
    shop.keep(a=1, b=2, c=3)
    shop.pass_time(shop.ttl - 1)
    shop.keep(late=4)
    shop.pass_time(1)
    shop.go_out()
    shop.expect_fetch("the first failure", "a", 1, 1)
    for number in range(3):
        tried = f"pause {number + 1} in a row, at its begin"
        shop.expect_kept(f"{tried}: the key that has failed", "a", 1, 2)
        shop.expect_kept(f"{tried}: another old price", "b", 2, 2)
        shop.expect_out(f"{tried}: an unknown key", "new", 0, 2)
        shop.pass_time(shop.pause - 0.5)
        tried = f"pause {number + 1} in a row, half a second before its end"
        shop.expect_kept(f"{tried}: an old price", "c", 3, 2)
        shop.expect_kept(f"{tried}: a fresh price", "late", 4, 2)
        shop.expect_out(f"{tried}: an unknown key", "new", 0, 2)
        shop.pass_time(1)
        tried = f"after pause {number + 1} in a row, the source still out"
        shop.expect_fetch(tried, "b", 2, 2)
    shop.source.outage = None
    shop.pass_time(shop.pause + 0.5)
    shop.source.answers["a"] = 9
    shop.expect_fetch("after the last pause, the source is back", "a", 9, 2)
    shop.expect_kept("the price fetched after the outage", "a", 9, 2)
    shop.expect_fetch("the source is back; another old price", "b", 2, 2)
    shop.pass_time(shop.ttl + 1)
    shop.go_out()
    shop.expect_fetch("a second outage", "a", 9, 2)
    shop.expect_kept("the pause of a second outage", "b", 2, 2)


def too_old_in_a_pause(shop: Shop) -> None:
    """A pause covers no price that is too old; it covers None, and 0."""
    oldest = shop.ttl + shop.grace
    shop.keep(a=1, b=None, c=0)
    shop.pass_time(oldest - 1)
    shop.go_out()
    shop.expect_fetch(f"an outage; the price is {oldest - 1} s old", "a", 1, 2)
    shop.expect_kept("a pause; the price is None, and old", "b", None, 2)
    shop.expect_kept("a pause; the price is 0, and old", "c", 0, 2)
    shop.pass_time(1)
    shop.expect_out(f"a pause; the price is exactly {oldest} s old", "b", 0, 2)
    shop.pass_time(shop.pause)
    shop.expect_out(f"an outage; the price is older than {oldest} s", "b", 1, 2)


def pause_after_a_slow_failure(shop: Shop) -> None:
    """A pause counts from the moment at which the fetch fails."""
    shop.keep(a=1, b=2)
    shop.pass_time(shop.ttl)
    shop.go_out()
    shop.source.takes = 30
    shop.expect_fetch("a fetch that fails after 30 s", "a", 1, 2)
    shop.pass_time(shop.pause - 0.5)
    tried = f"a fetch failed after 30 s; {shop.pause - 0.5:g} s later"
    shop.expect_kept(tried, "b", 2, 2)
    shop.pass_time(1)
    shop.expect_fetch(f"{tried}, and one second more", "b", 2, 2)


def later_failure(shop: Shop) -> None:
    """A fetch that began before the pause, and fails in it, begins another one."""
    shop.keep(a=1, b=2)
    shop.pass_time(shop.ttl)
    shop.go_out()

    def fail_first() -> None:
        outcome_of(partial(shop.reader.get, "b"))
        shop.pass_time(shop.pause - 1)

    shop.source.effects["a"] = fail_first
    outcome_of(partial(shop.reader.get, "a"))
    shop.pass_time(shop.pause - 1)
    tried = (
        f"two fetches fail, one {shop.pause - 1} s after the other; as long after that"
    )
    shop.expect_kept(tried, "b", 2, 3)


def withdrawn(shop: Shop) -> None:
    """Another exception is an answer: it is raised, and drops the old price."""
    for number, kind in enumerate(ANSWERS):
        key = f"key{number}"
        other = f"other{number}"
        shop.keep(**{key: 1})
        shop.pass_time(shop.ttl)
        shop.source.answers |= {key: kind("withdrawn"), other: 2}
        tried = f"an old price, and the fetch raises {kind.__name__}"
        outcome, _ = shop.got(key)
        if repr(outcome) != repr(kind("withdrawn")):
            expect(f"{tried}: get", outcome, Words(repr(kind("withdrawn"))), 1)
        shop.expect_fetch(f"{tried}; another key at once", other, 2, 2)
        shop.go_out()
        shop.expect_out(f"{tried}; then an outage", key, 1, 2)
        shop.expect_out(f"{tried}; then a pause", key, 0, 2)
        shop.pass_time(shop.pause + 1)
        shop.keep(**{key: 3})
        shop.expect_kept(f"{tried}; then it has a price again", key, 3, 2)


def forgotten(shop: Shop) -> None:
    """A price that was forgotten never comes back."""
    shop.keep(a=1, b=2)
    for key in ("a", "unknown", "unknown"):
        tried = f"forget({key!r})"
        expect(tried, outcome_of(partial(shop.reader.forget, key)), None, 2)
    shop.source.answers |= {"a": 3, "unknown": 4}
    shop.expect_fetch("a fresh price is forgotten", "a", 3, 2)
    shop.expect_kept("forgotten, fetched, and asked for once more", "a", 3, 3)
    shop.expect_fetch("an unknown key is forgotten, then fetched", "unknown", 4, 3)
    shop.expect_kept("the same key once more", "unknown", 4, 3)
    shop.expect_kept("the price of another key", "b", 2, 2)
    shop.pass_time(shop.ttl)
    shop.reader.forget("a")
    shop.go_out()
    shop.expect_out("an old price is forgotten, then an outage", "a", 1, 2)
    shop.reader.forget("b")
    shop.expect_out("an old price is forgotten in a pause", "b", 0, 2)


def forgotten_during_a_fetch(shop: Shop) -> None:
    """What is being fetched meanwhile is not kept; that of other keys is."""
    shop.source.answers |= {"a": 1, "b": 2}
    shop.source.effects["a"] = partial(shop.reader.forget, "a")
    tried = "a key without a price is forgotten while it is fetched"
    call = partial(shop.got, "a")
    outcome, _ = expect_end(tried, call, 3, LIMIT)
    expect(f"{tried}: its caller gets", outcome, 1, 3)
    shop.source.answers["a"] = 3
    shop.expect_fetch(f"{tried}; the next call", "a", 3, 3)
    shop.expect_kept(f"{tried}; the call after that", "a", 3, 3)
    shop.source.effects["b"] = partial(shop.reader.forget, "a")
    shop.expect_fetch("another key is forgotten during a fetch", "b", 2, 3)
    shop.expect_kept("another key was forgotten during its fetch", "b", 2, 3)
    shop.pass_time(shop.ttl)
    shop.source.effects["b"] = partial(shop.reader.forget, "b")
    shop.go_out()
    tried = "an old price is forgotten while its fetch runs, which then fails"
    shop.expect_out(tried, "b", 1, 3)


def forgotten_and_fetched_within(shop: Shop) -> None:
    """An older fetch does not replace what was fetched after `forget`."""
    shop.source.answers["a"] = "new"

    def forget_and_get() -> None:
        shop.reader.forget("a")
        shop.reader.get("a")
        shop.source.answers["a"] = "old"

    shop.source.effects["a"] = forget_and_get
    outcome_of(partial(shop.reader.get, "a"))
    shop.source.answers["a"] = "newest"
    outcome, _ = shop.got("a")
    tried = "forgotten and fetched by another call while a fetch runs; the next call"
    expect(f"{tried} gets", outcome, other_than("old"), 3)


def calls_within_a_fetch(shop: Shop) -> None:
    """A fetch may call `get` and `forget` for other keys."""
    shop.keep(part=2, gone=3)
    shop.source.answers |= {"a": 1, "other": 4}
    inner: list[Any] = []

    def call_others() -> None:
        inner.append(shop.reader.get("part"))
        inner.append(shop.reader.get("other"))
        inner.append(shop.reader.forget("gone"))

    shop.source.effects["a"] = call_others
    tried = "a fetch that calls get and forget for other keys"
    got = expect_end(tried, lambda: shop.reader.get("a"), 3, LIMIT)
    expect(tried, got, 1, 3)
    expect(f"{tried}: what these return", inner, [2, 4, None], 3)
    shop.expect_kept(f"{tried}; its price afterwards", "a", 1, 3)


def a_fetch_that_hangs(shop: Shop) -> None:
    """While a fetch hangs, calls for other keys go on."""
    shop.keep(known=2, old=3)
    shop.source.answers |= {"slow": 1, "other": 4}
    begun = threading.Event()
    go_on = threading.Event()

    def hang() -> None:
        begun.set()
        go_on.wait(4 * LIMIT)

    shop.source.effects["slow"] = hang
    slow = in_background(partial(shop.reader.get, "slow"))
    tried = "while a fetch hangs"
    expect(f"{tried}: it begins", begun.wait(LIMIT), True, 3)
    for about, call, price in (
        ("get of a fresh price", partial(shop.reader.get, "known"), 2),
        ("get of a price to be fetched", partial(shop.reader.get, "other"), 4),
        ("forget of another key", partial(shop.reader.forget, "old"), None),
    ):
        got = expect_end(f"{tried}: {about}", call, 3, LIMIT)
        expect(f"{tried}: {about}", got, price, 3)
    shop.pass_time(100_000)
    go_on.set()
    expect(f"{tried}: it ends", bool(wait([slow], LIMIT).done), True, 3)
    expect("a fetch that hung, and has ended", slow.result(), 1, 3)
    shop.expect_kept("a fetch that hung, and has just ended", "slow", 1, 3)


def usual_limits(shop: Shop) -> None:
    """The limits that nobody gives are 60, 3600 and 5 seconds."""
    kind: Any = type(shop.reader)
    shop.reader = kind(shop.source.fetch, shop.source.clock)
    shop.limits = "the usual limits"
    shop.keep(a=1)
    shop.pass_time(59)
    shop.expect_kept("a price of 59 s", "a", 1, 1)
    shop.pass_time(1)
    shop.expect_fetch("a price of 60 s", "a", 1, 1)
    shop.pass_time(3600)
    shop.go_out()
    shop.expect_fetch("an outage; the price is an hour old", "a", 1, 1)
    shop.pass_time(4)
    shop.expect_kept("4 s after a failure", "a", 1, 1)
    shop.pass_time(56)
    shop.expect_out("an outage; the price is 61 minutes old", "a", 1, 1)
