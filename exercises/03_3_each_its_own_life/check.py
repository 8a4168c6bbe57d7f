"""Judges PriceCache: a clock that is moved by hand, and prices drawn at random."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable
from functools import partial
from types import ModuleType
from typing import Any

from course.claims import at_most
from course.lab import ManualClock, outcome_of
from course.practice.checking import Words, expect

LOADED = Words("loaded again")
KEPT = Words("kept")


class Unknown(Exception):
    """What a load raises that only looks whether the value is kept."""


class Shop:
    """A cache with its clock; notes how many entries the cache ever shows."""

    def __init__(self, answer: ModuleType, maxsize: int, start: float = 1e6) -> None:
        self.clock = ManualClock(start)
        self.most = 0
        self.is_looking = False
        self.cache: Any = None
        self.cache = answer.PriceCache(maxsize, self.look_and_tell)

    def look_and_tell(self) -> float:
        """Return the time; the cache is looked at whenever it asks."""
        self.look()
        return self.clock.now

    def look(self) -> None:
        """Note how many entries there are."""
        if self.cache is None or self.is_looking:  # len() may ask for the time, too
            return
        self.is_looking = True
        self.most = max(self.most, len(self.cache))
        self.is_looking = False

    def get(self, key: Hashable, value: Any, life: float, takes: float = 0) -> Any:
        """Ask for a key; its load takes some seconds and gives a value and a life."""

        def load() -> tuple[Any, float]:
            self.look()
            self.clock.advance(takes)
            return value, life

        return outcome_of(lambda: self.cache.get_or_load(key, load))

    def keep(self, lives: dict[Any, float]) -> None:
        """Load a price for each key, with its life."""
        for key, life in lives.items():
            tried = f"get_or_load({key!r}) with a life of {life:g} s"
            expect(tried, self.get(key, f"price of {key}", life), f"price of {key}", 1)

    def probe(self, key: Hashable) -> Any:
        """Return the value that is kept, else the error of a load."""

        def load() -> tuple[Any, float]:
            raise Unknown

        return outcome_of(lambda: self.cache.get_or_load(key, load))

    def kept(self, *keys: Hashable) -> list[Hashable]:
        """Return which of the keys are kept."""
        found: list[Hashable] = []
        for key in keys:
            if not isinstance(self.probe(key), Unknown):
                found.append(key)
        return found

    def expect_kept(self, tried: str, keys: list[Any], hint: int) -> None:
        """Refuse an answer that has lost one of the keys."""
        for key in keys:
            seen = KEPT if self.kept(key) else LOADED
            expect(f"{tried}: {key!r}", seen, KEPT, hint)

    def expect_gone(self, tried: str, key: Any, hint: int) -> None:
        """Refuse an answer that still has the key."""
        seen = KEPT if self.kept(key) else LOADED
        expect(f"{tried}: {key!r}", seen, LOADED, hint)

    def expect_room(self, tried: str, maxsize: int) -> None:
        """Refuse an answer that has ever shown more entries than it has room for."""
        self.look()
        expect(f"{tried}: the most entries seen", self.most, at_most(maxsize), 3)


def drawn_keys(rng: random.Random, count: int) -> list[str]:
    """Return the keys of some prices."""
    return [f"p{number}" for number in rng.sample(range(100, 1000), count)]


def check(answer: ModuleType, rng: random.Random) -> None:
    """Judge lives first, then places, then loads that ask for other keys."""
    for test in (
        kept_for_its_life,
        any_clock,
        values_that_are_false,
        no_life,
        failing_load,
        loaded_again,
        longest_unused_goes,
        expired_goes_first,
        expired_during_a_load,
        takes_its_own_place,
        whole_new_life,
        nested_loads,
        bundle_with_an_old_price,
    ):
        test(partial(Shop, answer), rng)


NewShop = Callable[..., Shop]


def kept_for_its_life(new: NewShop, rng: random.Random) -> None:
    """A life begins when the load returns, and ends at its second."""
    key, other = drawn_keys(rng, 2)
    life = rng.randrange(20, 40)
    takes = rng.randrange(50, 90)
    shop = new(maxsize=5)
    tried = f"a load that takes {takes} s, with a life of {life} s"
    got = shop.get(key, 7, life, takes=takes)
    expect(f"{tried}: what the caller gets", got, 7, 1)
    expect(f"{tried}: len()", outcome_of(lambda: len(shop.cache)), 1, 1)
    expect(f"{tried}: the next call gets", shop.get(key, 8, life), 7, 1)
    shop.get(other, 9, 86_400)
    shop.clock.advance(life - 0.5)
    about = f"{tried}: {life - 0.5:g} s after its end the call gets"
    expect(about, shop.get(key, 8, life), 7, 1)
    shop.clock.advance(0.5)
    about = f"{tried}: exactly {life} s after its end, and found before, the call gets"
    expect(about, shop.get(key, 8, life), 8, 1)
    shop.expect_kept("the other entry, with a life of a day", [other], 1)
    shop.clock.advance(86_400 - life - 1)
    shop.expect_kept("the other entry, a second before its day ends", [other], 1)
    shop.clock.advance(1)
    shop.expect_gone("the other entry, at the end of its day", other, 1)


def any_clock(new: NewShop, rng: random.Random) -> None:
    """A clock may begin anywhere."""
    (key,) = drawn_keys(rng, 1)
    for start in (0.0, -float(rng.randrange(100, 900))):
        shop = new(maxsize=3, start=start)
        tried = f"a clock that begins at {start:g}"
        expect(f"{tried}: the first call gets", shop.get(key, 7, 50), 7, 1)
        expect(f"{tried}: the second one gets", shop.get(key, 8, 50), 7, 1)
        shop.clock.advance(50)
        expect(f"{tried}: a call after its life gets", shop.get(key, 9, 50), 9, 1)


def values_that_are_false(new: NewShop, rng: random.Random) -> None:
    """None, 0 and False are values; any hashable object is a key."""
    shop = new(maxsize=9)
    values: list[Any] = [None, 0, False, "", []]
    rng.shuffle(values)
    for value in values:
        for key in (f"key {value!r}", ("key", repr(value))):
            shop.get(key, value, 60)
            got = shop.get(key, "loaded again", 60)
            expect(f"the value {value!r}, asked for a second time", got, value, 1)
    shop = new(maxsize=2)
    shop.get(None, 1, 60)
    expect("the key None, the second time", shop.get(None, "loaded again", 60), 1, 1)


def no_life(new: NewShop, rng: random.Random) -> None:
    """A value with a life of 0 or less is not kept, and takes nobody's place."""
    first, second, key = drawn_keys(rng, 3)
    for life in (0, -rng.randrange(1, 50)):
        shop = new(maxsize=2)
        shop.keep({first: 60, second: 60})
        tried = f"a life of {life} s, while the cache is full"
        expect(f"{tried}: the caller gets", shop.get(key, 5, life), 5, 2)
        shop.expect_gone(tried, key, 2)
        shop.expect_kept(f"{tried}: another entry", [first, second], 2)
        shop.clock.advance(60)
        shop.keep({first: 60})
        shop.clock.advance(60)
        tried = f"an expired price is loaded again, with a life of {life} s"
        expect(f"{tried}: the caller gets", shop.get(first, 6, life), 6, 2)
        shop.expect_gone(tried, first, 2)


def failing_load(new: NewShop, rng: random.Random) -> None:
    """What a load raises reaches the caller, and changes nothing."""
    keys = drawn_keys(rng, 4)
    shop = new(maxsize=3)
    shop.keep({keys[0]: 60, keys[1]: 60, keys[2]: 60})
    error = type(shop.probe(keys[3])).__name__
    tried = "a load raises, while the cache is full"
    expect(f"{tried}: the caller gets", error, "Unknown", 2)
    shop.expect_gone(f"{tried}; the key asked for again", keys[3], 2)
    expect(f"{tried}: len()", len(shop.cache), 3, 2)
    shop.expect_kept(f"{tried}: another entry", keys[:3], 2)
    shop = new(maxsize=2)
    shop.keep({keys[0]: 10, keys[1]: 60})
    shop.clock.advance(10)
    tried = "the load of an expired price raises"
    shop.expect_gone(tried, keys[0], 2)
    shop.expect_kept(f"{tried}: another entry", [keys[1]], 2)
    expect(f"{tried}; the next call gets", shop.get(keys[0], 3, 60), 3, 2)


def loaded_again(new: NewShop, rng: random.Random) -> None:
    """A price that is loaded again has its new life, longer or shorter."""
    (key,) = drawn_keys(rng, 1)
    short = rng.randrange(10, 30)
    for lives in ((short, 10 * short, short), (10 * short, short, 10 * short)):
        shop = new(maxsize=3)
        for life in lives:
            expect(f"lives of {lives} s in turn", shop.get(key, life, life), life, 1)
            shop.clock.advance(life - 1)
            tried = f"lives of {lives} s in turn: a second before {life} s are over"
            shop.expect_kept(tried, [key], 1)
            shop.clock.advance(1)
            tried = f"lives of {lives} s in turn: when {life} s are over"
            shop.expect_gone(tried, key, 1)


def longest_unused_goes(new: NewShop, rng: random.Random) -> None:
    """Of entries that are alive the one goes whose last use is longest ago."""
    for pause in (rng.randrange(1, 5), 0):
        keys = drawn_keys(rng, 5)
        shop = new(maxsize=3)
        # The one used last ends first: the order of ends is no order of use.
        for key, life in zip(keys, (300, 900, 600), strict=False):
            shop.get(key, key, life)
            shop.clock.advance(pause)
        shop.get(keys[0], "loaded again", 300)
        shop.clock.advance(pause)
        shop.get(keys[3], keys[3], 300)
        names = ", ".join(keys[:3])
        moved = "the clock moves on" if pause else "the clock stands still"
        tried = f"{names} stored, {keys[0]} found, {keys[3]} stored ({moved}), 3 places"
        shop.expect_kept(tried, [keys[0], keys[2], keys[3]], 2)
        shop.expect_gone(tried, keys[1], 2)
        expect(f"{tried}: len()", len(shop.cache), 3, 2)
        # The look above has found 0, 2 and 3, in this order.
        shop.get(keys[4], keys[4], 300)
        tried = f"{tried}; then {keys[0]}, {keys[2]}, {keys[3]} found, {keys[4]} stored"
        shop.expect_kept(tried, [keys[2], keys[3], keys[4]], 2)
        shop.expect_gone(tried, keys[0], 2)
        shop.expect_room(tried, 3)


def expired_goes_first(new: NewShop, rng: random.Random) -> None:
    """An expired entry gives way, though it was used after those that are alive."""
    alive, short, also, fresh, second = drawn_keys(rng, 5)
    shop = new(maxsize=3)
    shop.keep({alive: 900, also: 800, short: 30})
    shop.get(short, "loaded again", 30)
    shop.clock.advance(30)
    tried = f"a full cache, of which {short} has just expired; {fresh} is stored"
    expect(f"{tried}: it gets", shop.get(fresh, 1, 100), 1, 2)
    shop.expect_kept(tried, [alive, also, fresh], 2)
    shop.expect_room(tried, 3)
    shop.clock.advance(100)
    shop.get(second, 2, 100)
    tried = f"then {fresh} expires, and {second} is stored"
    shop.expect_kept(tried, [alive, also, second], 2)
    shop = new(maxsize=4)
    life = rng.randrange(10, 30)
    shop.keep(dict.fromkeys(["4711", 4711, ("bundle", 7), None], life))
    shop.clock.advance(life)
    tried = f"a full cache of a text, a number, a pair and None; {fresh} is stored"
    expect(f"{tried}: it gets", shop.get(fresh, 1, 100), 1, 2)
    shop.expect_kept(tried, [fresh], 2)


def expired_during_a_load(new: NewShop, rng: random.Random) -> None:
    """What has expired when the load returns gives way."""
    alive, short, fresh = drawn_keys(rng, 3)
    shop = new(maxsize=2)
    shop.keep({alive: 900, short: 30})
    tried = f"a full cache, of which {short} expires while {fresh} is loading"
    shop.get(fresh, 1, 100, takes=40)
    shop.expect_kept(tried, [alive, fresh], 3)


def takes_its_own_place(new: NewShop, rng: random.Random) -> None:
    """A price that is loaded again costs no other entry."""
    keys = drawn_keys(rng, 3)
    shop = new(maxsize=3)
    shop.keep({keys[0]: 900, keys[1]: 30, keys[2]: 800})
    shop.clock.advance(30)
    tried = f"a full cache, of which {keys[1]} has expired and is loaded again"
    expect(f"{tried}: it gets", shop.get(keys[1], 4, 60), 4, 2)
    shop.expect_kept(tried, keys, 2)
    expect(f"{tried}: len()", len(shop.cache), 3, 2)
    shop.expect_room(tried, 3)


def whole_new_life(new: NewShop, rng: random.Random) -> None:
    """The end of an old life means nothing for the new one."""
    again, other, fresh = drawn_keys(rng, 3)
    shop = new(maxsize=2)
    shop.keep({again: 10})
    shop.clock.advance(10)
    shop.keep({other: 500, again: 1000})
    shop.clock.advance(10)
    shop.get(fresh, 1, 100)
    tried = (
        f"{again} expires and is loaded again with a longer life, after {other};"
        f" later {fresh} is stored, 2 places"
    )
    shop.expect_kept(tried, [again, fresh], 2)
    shop.expect_gone(tried, other, 2)


def nested_loads(new: NewShop, rng: random.Random) -> None:
    """A bundle asks for its parts, and there are never more than `maxsize` entries."""
    bundle, used, unused, *parts = drawn_keys(rng, 6)
    for maxsize in (1, 2, 3):
        shop = new(maxsize=maxsize)

        def load(shop: Shop = shop) -> tuple[Any, float]:
            total = sum(shop.get(part, 10, 60) for part in parts)
            shop.look()
            return total, 60

        tried = f"a bundle whose load asks for three parts, maxsize {maxsize}"
        got = outcome_of(partial(shop.cache.get_or_load, bundle, load))
        expect(f"{tried}: it gets", got, 30, 3)
        shop.expect_room(tried, maxsize)
        last = [*parts, bundle][-maxsize:]
        shop.expect_kept(tried, last, 3)
    shop = new(maxsize=2)
    shop.keep({used: 500, unused: 600})

    def load_used() -> tuple[Any, float]:
        return shop.get(used, "loaded again", 60), 60

    tried = f"a full cache of {used} and {unused}; the load of {bundle} asks for {used}"
    got = outcome_of(lambda: shop.cache.get_or_load(bundle, load_used))
    expect(f"{tried}: it gets", got, f"price of {used}", 3)
    shop.expect_kept(tried, [used, bundle], 3)
    shop.expect_room(tried, 2)


def bundle_with_an_old_price(new: NewShop, rng: random.Random) -> None:
    """The parts of a bundle may take the place of its expired price."""
    bundle, *parts = drawn_keys(rng, 3)
    for maxsize in (1, 2):
        shop = new(maxsize=maxsize)
        shop.keep({bundle: 10})
        shop.clock.advance(10)

        def load(shop: Shop = shop) -> tuple[Any, float]:
            total = sum(shop.get(part, 10, 60) for part in parts)
            return total, 60

        about = "a bundle with an expired price; its load asks for two parts"
        tried = f"{about}, maxsize {maxsize}"
        got = outcome_of(partial(shop.cache.get_or_load, bundle, load))
        expect(f"{tried}: it gets", got, 20, 3)
        shop.expect_room(tried, maxsize)
        shop.expect_kept(tried, [*parts, bundle][-maxsize:], 3)
