"""Judges TaggedCache: several processes on one Redis, which forgets what it likes."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Collection
from functools import partial
from types import ModuleType
from typing import Any

import fakeredis

from course.claims import at_most, between, one_of, other_than
from course.lab import outcome_of
from course.practice.checking import Words, expect
from course.practice.counted import CountedRedis

DAY = 86_400
AnyRedis: Any = fakeredis.FakeRedis  # its methods have no types
# Commands that look for names, or take what a tag holds.
SEARCHES = re.compile(
    r"keys|[hsz]?scan|smembers|spop|srandmember|hgetall|hkeys|hvals|lrange"
    r"|zrange\w*|sinter\w*|sunion\w*|sdiff\w*|sort|zpop\w*|lpop|rpop|flush\w+"
)
CALL = re.compile(r"call\(\s*['\"](\w+)")  # in a script


class Shop:
    """A Redis, and the caches of two processes on it."""

    def __init__(self, answer: ModuleType, prefix: str = "shop:") -> None:
        self.answer = answer
        self.server = fakeredis.FakeServer()
        self.redis: Any = AnyRedis(server=self.server)
        self.client = self.connect()
        self.first = answer.TaggedCache(self.client, prefix)
        self.second = answer.TaggedCache(self.connect(), prefix)

    def connect(self) -> CountedRedis:
        """Return a client of this Redis."""
        return CountedRedis(server=self.server).prepare()

    def names(self) -> list[bytes]:
        """Return all names that are in Redis."""
        found: list[bytes] = sorted(self.redis.keys())
        return found

    def let_pass(self, seconds: float) -> None:
        """Do to each key what so many seconds do."""
        for name in self.names():
            left = self.redis.pttl(name)
            if 0 <= left <= seconds * 1000:
                self.redis.delete(name)
            elif left > 0:
                self.redis.pexpire(name, left - int(seconds * 1000))

    def expect_lives(self, tried: str) -> None:
        """Refuse an answer that leaves a key without a time to live."""
        immortal = [name.decode() for name in self.names() if self.redis.ttl(name) < 0]
        expect(f"{tried}: keys without a time to live", immortal, [], 3)


def ask(
    cache: Any, key: str, tags: Collection[str], value: Any, ttl: int = 600
) -> tuple[Any, bool]:
    """Return what a call returns or raises, and whether it has loaded `value`."""
    loads = []

    def load() -> Any:
        loads.append(key)
        if isinstance(value, Exception):
            raise value
        return value() if callable(value) else value

    got = outcome_of(lambda: cache.get_or_load(key, tags, load, ttl))
    if isinstance(got, NotImplementedError):
        raise got
    if isinstance(got, Exception) and got is not value:
        got = Words(type(got).__name__)  # its text may hold what is drawn at random
    return got, bool(loads)


def expect_load(
    tried: str, cache: Any, key: str, tags: Collection[str], hint: int
) -> None:
    """Refuse an answer that gets a value without a load, or another one."""
    value = f"a new {key}"
    got, loaded = ask(cache, key, tags, value)
    expect(f"{tried}: the next call gets", got, value, hint)
    if not loaded:
        expect(tried, Words("a hit"), Words("a load"), hint)


def expect_hit(
    tried: str, cache: Any, key: str, tags: Collection[str], value: Any, *, hint: int
) -> None:
    """Refuse an answer that loads what is kept, or gets another value."""
    got, loaded = ask(cache, key, tags, "loaded again")
    if loaded and not isinstance(got, Words):
        expect(tried, Words("a load"), Words("a hit"), hint)
    expect(f"{tried}: the call gets", got, value, hint)


def words(rng: random.Random, count: int) -> list[str]:
    """Return some names."""
    return [f"n{number}" for number in rng.sample(range(100, 1000), count)]


def check(answer: ModuleType, rng: random.Random) -> None:
    """Judge hits and tags, then other processes, then what Redis may do."""
    for test in (
        hits,
        each_tag,
        failing_load,
        two_processes,
        invalidated_during_a_load,
        newer_value_stays,
        loads_side_by_side,
        whole_life,
        dropped_keys,
        invalidated_for_good,
        dropped_during_a_load,
        odd_names,
        two_prefixes,
        work_of_a_hit,
        work_of_an_invalidation,
    ):
        test(answer, rng)


def hits(answer: ModuleType, rng: random.Random) -> None:
    """A value is loaded once, whatever it is, until its life is over."""
    shop = Shop(answer)
    key, *tags = words(rng, 4)
    values: list[Any] = [rng.randrange(1000), None, "", 0, False, [], {"a": [1, None]}]
    for number, value in enumerate(values):
        name = f"{key}-{number}"
        got, _ = ask(shop.first, name, tags, value)
        expect(f"the value {value!r}, loaded", got, value, 1)
        expect_hit(f"the value {value!r}", shop.first, name, tags, value, hint=1)
        for form in (set(tags), tuple(reversed(tags)), [tags[1], tags[2], tags[0]]):
            tried = f"the value {value!r}, tags in another order"
            expect_hit(tried, shop.first, name, form, value, hint=1)
    shop.expect_lives("some values are stored")
    ask(shop.first, key, tags, "old", ttl=300)
    shop.let_pass(301)
    tried = "a value with a ttl of 300, after 301 seconds"
    expect_load(tried, shop.first, key, tags, 1)


def each_tag(answer: ModuleType, rng: random.Random) -> None:
    """Each tag of an entry makes it a miss, and no other entry."""
    one, two, three, *tags = words(rng, 6)
    entries = {one: tags[:2], two: tags[1:], three: [tags[2]]}
    for gone in (*([tag] for tag in tags), tags[:2], ["a tag of no entry"], []):
        shop = Shop(answer)
        for key, its_tags in entries.items():
            ask(shop.first, key, its_tags, f"old {key}")
        outcome = outcome_of(partial(shop.first.invalidate, *gone))
        tried = f"{entries} (tags by key) are stored; invalidate({', '.join(gone)})"
        expect(f"{tried}: it returns", outcome, None, 1)
        shop.expect_lives(tried)
        for key, its_tags in entries.items():
            if set(gone) & set(its_tags):
                expect_load(f"{tried}: {key}", shop.first, key, its_tags, 1)
                ask(shop.first, key, its_tags, "not loaded")
            tried_key = f"{tried}: {key} afterwards"
            value = f"{'a new' if set(gone) & set(its_tags) else 'old'} {key}"
            expect_hit(tried_key, shop.first, key, its_tags, value, hint=1)
        shop.expect_lives(tried)


def failing_load(answer: ModuleType, rng: random.Random) -> None:
    """What a load raises reaches the caller; no value is stored."""
    shop = Shop(answer)
    key, tag = words(rng, 2)
    error = LookupError("no such page")
    got, _ = ask(shop.first, key, [tag], error)
    expect("the load raises: the call", got, error, 1)
    shop.expect_lives("the load raises")
    expect_load("the load raises", shop.first, key, [tag], 1)


def two_processes(answer: ModuleType, rng: random.Random) -> None:
    """What one process invalidates is a miss in the other."""
    shop = Shop(answer)
    key, other, tag, second_tag = words(rng, 4)
    tags = [tag, second_tag]
    ask(shop.first, key, tags, 1)
    expect_hit("stored by another process", shop.second, key, tags, 1, hint=1)
    for gone in tags:
        shop.first.invalidate(gone)
        tried = f"another process has called invalidate({gone})"
        expect_load(tried, shop.second, key, tags, 1)
        expect_hit(
            f"{tried}, and loaded", shop.first, key, tags, f"a new {key}", hint=1
        )
    ask(shop.second, other, [tag], 2)
    tried = "another entry with one of its tags is stored"
    expect_hit(tried, shop.first, key, tags, f"a new {key}", hint=1)


def invalidated_during_a_load(answer: ModuleType, rng: random.Random) -> None:
    """A value whose load began before an invalidation is for its caller only."""
    key, other, *tags = words(rng, 4)
    for about, before in (
        ("the first load of all", lambda shop: None),
        ("its tags are in use", lambda shop: ask(shop.first, other, tags, 1)),
        ("invalidated before", lambda shop: shop.first.invalidate(*tags)),
    ):
        for gone, times in (*((tag, 1) for tag in tags), (tags[0], 2)):
            shop = Shop(answer)
            before(shop)

            def load(shop: Shop = shop, gone: str = gone, times: int = times) -> str:
                for _ in range(times):
                    shop.second.invalidate(gone)
                return "old"

            got, _ = ask(shop.first, key, tags, load)
            often = "twice " if times == 2 else ""
            tried = (
                f"{key} has the tags {tags[0]} and {tags[1]} ({about});"
                f" {gone} is invalidated {often}while it loads"
            )
            expect(f"{tried}: its caller gets", got, one_of("old", f"a new {key}"), 2)
            expect_load(f"{tried}, in this process", shop.first, key, tags, 2)
            shop = Shop(answer)
            before(shop)
            ask(shop.first, key, tags, lambda load=load, shop=shop: load(shop))
            expect_load(f"{tried}, in another process", shop.second, key, tags, 2)


def newer_value_stays(answer: ModuleType, rng: random.Random) -> None:
    """A slow load does not bring back what was invalidated and loaded meanwhile."""
    shop = Shop(answer)
    key, tag = words(rng, 2)

    def load() -> str:
        shop.second.invalidate(tag)
        ask(shop.second, key, [tag], "new")
        return "old"

    ask(shop.first, key, [tag], load)
    tried = "invalidated and loaded by another process while a load runs: the next call"
    for cache in (shop.first, shop.second):
        got, _ = ask(cache, key, [tag], "newest")
        expect(f"{tried} gets", got, other_than("old"), 2)


def loads_side_by_side(answer: ModuleType, rng: random.Random) -> None:
    """Two processes begin to use a tag at once: both entries are hits."""
    one, two, tag = words(rng, 3)
    for place in range(6):
        shop = Shop(answer)

        def load_other(shop: Shop = shop) -> None:
            ask(shop.second, two, [tag], 2)

        if place:
            shop.client.after_trip[place] = load_other
            ask(shop.first, one, [tag], 1)
            when = f"after round trip {place} of another process, which loads {one}"
        else:
            ask(shop.first, one, [tag], lambda load=load_other: load() or 1)
            when = f"while another process loads {one}"
        if shop.client.after_trip:
            break  # it has taken fewer round trips
        tried = f"{two} is loaded {when}, both with the tag {tag}"
        expect_hit(f"{tried}; {one}", shop.first, one, [tag], 1, hint=3)
        expect_hit(f"{tried}; {two}", shop.first, two, [tag], 2, hint=3)
        shop.expect_lives(tried)


def whole_life(answer: ModuleType, rng: random.Random) -> None:
    """Nothing that an entry needs expires before it."""
    long, short, tag = words(rng, 3)
    about = f"{long} has a ttl of a day, {short} of 2 s, both the tag {tag}"
    for first, second in ((long, short), (short, long)):
        shop = Shop(answer)
        for key in (first, second):
            ask(shop.first, key, [tag], key, ttl=DAY if key == long else 2)
        shop.expect_lives(about)
        tried = f"{about}; {first} is stored first. {long} a minute before its end"
        shop.let_pass(DAY - 60)
        expect_hit(tried, shop.first, long, [tag], long, hint=3)
    for days in (1, 2, 6, 6.95, 29, 29.95):
        shop = Shop(answer)
        ask(shop.first, short, [tag], 1, ttl=2)
        shop.let_pass(days * DAY)
        ask(shop.first, long, [tag], 2, ttl=DAY)
        shop.let_pass(DAY - 60)
        tried = f"the tag is {days:g} days old when {long} is stored for a day; then"
        expect_hit(
            f"{tried} a minute before its end", shop.first, long, [tag], 2, hint=3
        )
    for ttl in (60, DAY):
        shop = Shop(answer)

        def load(shop: Shop = shop) -> int:
            shop.let_pass(120)
            return 3

        ask(shop.first, long, [tag], load, ttl=ttl)
        shop.let_pass(ttl - 10)
        tried = f"a load takes 120 s, its value has a ttl of {ttl}: {ttl - 10} s later"
        expect_hit(tried, shop.first, long, [tag], 3, hint=3)


def subsets(names: list[bytes]) -> list[tuple[bytes, ...]]:
    """Return each name, each pair, and all of them."""
    ones = list(itertools.combinations(names, 1))
    return [*ones, *itertools.combinations(names, 2), tuple(names)]


def dropped_keys(answer: ModuleType, rng: random.Random) -> None:
    """Redis drops keys: that may cost a load, and brings nothing back."""
    key, other, *tags = words(rng, 4)

    def begin() -> Shop:
        shop = Shop(answer)
        ask(shop.first, key, tags, "old")
        return shop

    def drop_first(shop: Shop, names: tuple[bytes, ...]) -> None:
        shop.redis.delete(*names)
        shop.first.invalidate(tags[0])

    def invalidate_first(shop: Shop, names: tuple[bytes, ...]) -> None:
        shop.first.invalidate(tags[0])
        shop.redis.delete(*names)

    def use_the_tags(shop: Shop, names: tuple[bytes, ...]) -> None:
        invalidate_first(shop, names)
        ask(shop.second, other, tags, 1)

    def again(shop: Shop, names: tuple[bytes, ...]) -> None:
        use_the_tags(shop, names)
        shop.second.invalidate(tags[0])
        ask(shop.second, other, tags, 2)

    shop = begin()
    shop.first.invalidate(tags[0])
    all_names = sorted({*begin().names(), *shop.names()})
    for about, do in (
        ("invalidated, then Redis drops", invalidate_first),
        ("Redis drops, then it is invalidated:", drop_first),
        ("invalidated, dropped, and its tags used by another entry:", use_the_tags),
        ("invalidated, dropped, and its tags used and invalidated again:", again),
    ):
        for names in subsets(all_names):
            shop = begin()
            do(shop, names)
            tried = f"{about} {shown(names)}"
            expect_load(tried, shop.first, key, tags, 3)
    for names in subsets(all_names):
        shop = begin()
        shop.redis.delete(*names)
        got, loaded = ask(shop.first, key, tags, "new")
        tried = f"Redis drops {shown(names)}: the next call"
        expect(f"{tried} gets", got, "new" if loaded else "old", 3)
        shop.expect_lives(tried)


def shown(names: tuple[bytes, ...]) -> str:
    """Return names for the learner; what is long may be a random part."""
    words = [name.decode("utf-8", "replace") for name in names]
    return " and ".join(re.sub(r"[0-9a-f]{16,}", "...", word) for word in words)


def invalidated_for_good(answer: ModuleType, rng: random.Random) -> None:
    """Time does not bring back what was invalidated, whatever expires meanwhile."""
    key, tag = words(rng, 2)
    for ttl in (60, DAY):
        for share in (0.02, 0.3, 0.6, 0.95):
            for gap in (0.0, share):
                shop = Shop(answer)
                ask(shop.first, key, [tag], "old", ttl=ttl)
                shop.let_pass(ttl * gap / 2)
                shop.first.invalidate(tag)
                seconds = ttl * (share - gap / 2)
                shop.let_pass(seconds)
                tried = f"a value with a ttl of {ttl}, {seconds:.0f} s after invalidate"
                expect_load(tried, shop.first, key, [tag], 3)


def dropped_during_a_load(answer: ModuleType, rng: random.Random) -> None:
    """Redis drops keys while a load runs whose tag is invalidated."""
    key, other, tag = words(rng, 3)
    probe = Shop(answer)
    all_names: set[bytes] = set()

    def look() -> int:
        all_names.update(probe.names())
        probe.first.invalidate(tag)
        all_names.update(probe.names())
        return 1

    ask(probe.first, key, [tag], look)
    all_names.update(probe.names())
    for names in subsets(sorted(all_names)):
        for is_used in (False, True):
            shop = Shop(answer)

            def load(
                shop: Shop = shop, used: bool = is_used, names: Any = names
            ) -> str:
                shop.second.invalidate(tag)
                shop.redis.delete(*names)
                if used:
                    ask(shop.second, other, [tag], 1)
                return "old"

            ask(shop.first, key, [tag], load)
            then = f", and {other} stored" if is_used else ""
            tried = f"while {key} loads, {tag} is invalidated, {shown(names)} dropped"
            expect_load(f"{tried}{then}", shop.first, key, [tag], 3)


def odd_names(answer: ModuleType, rng: random.Random) -> None:
    """Keys and tags may be any text, such as what the cache itself writes."""
    key, tag, other = words(rng, 3)
    probe = Shop(answer)
    ask(probe.first, key, [tag], 1)
    probe.first.invalidate(other)
    own = [name.decode("utf-8", "replace") for name in probe.names()]
    odd = [key, tag, *own, *(name.removeprefix("shop:") for name in own)]
    odd += ["", ":", "a b", "a:b", "b", "*", "h[a-z]llo", "ż\n", f"{key}:{tag}", "None"]
    odd += [f"tag:{tag}", f"tags:{tag}", f"value:{key}", f"{tag}:{key}"]
    odd += [f"version:{tag}"]
    texts = list(dict.fromkeys(odd))
    odd_keys(answer, tag, texts, f"after keys such as {own[0]!r}")
    odd_tags(answer, key, tag, texts)
    joined_tags(answer, key)


def odd_keys(answer: ModuleType, tag: str, texts: list[str], after: str) -> None:
    """Store an entry for each text as its key, then find all of them."""
    shop = Shop(answer)
    for number, text in enumerate(texts):
        about = f"the key {text!r} with the tag {tag!r}"
        expect(f"{about}, loaded", ask(shop.first, text, [tag], number)[0], number, 3)
    for number, text in enumerate(texts):
        tried = f"the key {text!r} with the tag {tag!r}, {after}"
        expect_hit(tried, shop.first, text, [tag], number, hint=3)


def odd_tags(answer: ModuleType, key: str, tag: str, texts: list[str]) -> None:
    """Store an entry with each text as its tag, then invalidate one by one."""
    shop = Shop(answer)
    ask(shop.first, key, [tag], 1)
    others = [(number, text) for number, text in enumerate(texts) if text != tag]
    for number, text in others:
        tried = f"a key with the tag {text!r}"
        got, _ = ask(shop.first, f"page {number}", [text], number)
        expect(tried, got, number, 3)
    for number, text in others:
        outcome = outcome_of(partial(shop.first.invalidate, text))
        expect(f"invalidate({text!r})", outcome, None, 3)
        tried = f"invalidate({text!r}), a tag of one key"
        expect_hit(f"{tried}; {key}", shop.first, key, [tag], 1, hint=3)
        expect_load(tried, shop.first, f"page {number}", [text], 3)


def joined_tags(answer: ModuleType, key: str) -> None:
    """A tag is not two others with something between them."""
    for one, two in (
        (["a,b"], ["a", "b"]),
        (["a:b"], ["a", "b"]),
        (["a b"], ["a", "b"]),
    ):
        shop = Shop(answer)
        ask(shop.first, key, one, 1)
        shop.first.invalidate(*two)
        tried = f"a key with the tags {one}; invalidate of {two}"
        expect_hit(tried, shop.first, key, one, 1, hint=3)


def two_prefixes(answer: ModuleType, rng: random.Random) -> None:
    """Caches with different prefixes do not disturb each other."""
    shop = Shop(answer)
    key, tag = words(rng, 2)
    other = answer.TaggedCache(shop.client, "blog:")
    ask(shop.first, key, [tag], 1)
    tried = "the same key and tag under two prefixes"
    got, _ = ask(other, key, [tag], 2)
    expect(f"{tried}: the second loads", got, 2, 1)
    expect_hit(f"{tried}: the first", shop.first, key, [tag], 1, hint=1)
    other.invalidate(tag)
    expect_hit(
        f"{tried}, one invalidated: the other", shop.first, key, [tag], 1, hint=1
    )
    names = [name.decode("utf-8", "replace") for name in shop.names()]
    strange = [name for name in names if not name.startswith(("shop:", "blog:"))]
    expect(f"{tried}: names in Redis without them", strange, [], 1)


def work_of_a_hit(answer: ModuleType, rng: random.Random) -> None:
    """A hit takes two round trips at most, with many tags, too."""
    for count in (1, 5, 30):
        shop = Shop(answer)
        key, *tags = words(rng, count + 1)
        ask(shop.first, key, tags, 1)
        shop.client.trips.clear()
        expect_hit(f"an entry with {count} tags", shop.first, key, tags, 1, hint=2)
        trips = len(shop.client.trips)
        tried = f"a hit of an entry with {count} tags: round trips"
        expect(tried, trips, between(1, 2), 2)


def work_of_an_invalidation(answer: ModuleType, rng: random.Random) -> None:
    """What is sent does not depend on the entries, and names none of them."""
    tag = "brand"
    sent = {}
    for count in (3, 60):
        shop = Shop(answer)
        keys = [f"page-{name}" for name in words(rng, count)]
        for key in keys:
            ask(shop.first, key, [tag], 1)
        before = len(shop.client.trips)
        shop.first.invalidate(tag)
        commands = list(itertools.chain(*shop.client.trips[before:]))
        texts = [text_of(command) for command in commands]
        if any(text.startswith("EVALSHA") for text in texts):
            earlier = map(text_of, itertools.chain(*shop.client.trips[:before]))
            texts += [text for text in earlier if text.startswith("SCRIPT LOAD")]
        tried = f"invalidate of a tag that {count} entries have"
        named = [key for key in keys if any(key in text for text in texts)]
        expect(f"{tried}: names of entries that it sends", named[:3], [], 2)
        found = list(filter(SEARCHES.fullmatch, commands_in(texts)))
        expect(f"{tried}: commands that read a set or look for names", found, [], 2)
        sent[f"{count} entries"] = len(commands)
    tried = "commands of an invalidate of a tag with 3 entries, with 60"
    expect(tried, sent, dict.fromkeys(sent, at_most(sent["3 entries"])), 2)


def commands_in(texts: list[str]) -> list[str]:
    """Return the names of commands, and of those that scripts call."""
    names = []
    for text in texts:
        names += [text.split(maxsplit=1)[0].lower()]
        if text.startswith(("EVAL ", "SCRIPT LOAD")):
            names += [name.lower() for name in CALL.findall(text)]
    return names


def text_of(command: tuple[Any, ...]) -> str:
    """Return a command as text, with the script that it may hold."""
    parts = []
    for part in command:
        parts.append(
            part.decode("utf-8", "replace") if isinstance(part, bytes) else str(part)
        )
    return " ".join(parts)
