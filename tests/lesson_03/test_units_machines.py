"""Lesson 03's breaker, lease and near cache as machines: any steps, in any order.

Hypothesis draws the steps, and shows the shortest run that breaks a rule.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import fakeredis
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from lessons import load

from course.caching.copies import Copies
from course.caching.jobs import Job
from course.caching.policy import Policy
from course.lab import ManualClock

lesson = load("03")
# To find a mistake that is there: the same steps each time, no search for shorter ones.
UNTIL_FOUND = settings(
    max_examples=1000,
    stateful_step_count=40,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
)
LIMITS = settings(max_examples=60, stateful_step_count=40, deadline=None, database=None)


class BreakerMachine(RuleBasedStateMachine):
    """While open, one call per cooldown is let through; a success closes."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.breaker = lesson.CircuitBreaker(3, 10.0, self.clock)
        self.in_a_row = 0
        self.last_true = 0.0  # when a call was last let through, or it opened

    @rule()
    def succeed(self) -> None:
        self.breaker.record(True)
        self.in_a_row = 0

    @rule()
    def fail(self) -> None:
        self.breaker.record(False)
        self.in_a_row += 1
        if self.in_a_row == 3:
            self.last_true = self.clock()

    @rule(seconds=st.sampled_from([0.0, 1.0, 9.0, 10.0, 25.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def ask(self) -> None:
        allowed = self.breaker.allows()
        if self.in_a_row < 3:
            assert allowed
        else:
            assert allowed == (self.clock() >= self.last_true + 10.0)
            if allowed:
                self.last_true = self.clock()


class Load(NamedTuple):
    """A load under way: who does it, for whom, and what it has read."""

    cache: Any
    job: Job
    generation: bytes | None
    read: int


KEYS = ("a",)  # more would spread the steps over them
keys = st.sampled_from(KEYS)
places = st.integers(0, 2)
ENDS = ["stores", "stores", "stores", "fails", "dies"]


class LeaseMachine(RuleBasedStateMachine):
    """No cache gives what is older than a change whose delete has ended."""

    def __init__(self) -> None:
        super().__init__()
        server = fakeredis.FakeServer()
        self.caches = [
            lesson.RedisCache(fakeredis.FakeRedis(server=server), "module8:test:")
            for _ in range(3)
        ]
        self.truth = dict.fromkeys(KEYS, 0)
        self.unsaid: set[str] = set()  # changed, and not yet deleted
        self.loads: list[Load] = []

    @rule(key=keys, place=places, patience=st.sampled_from([5.0, 0.001]))
    def begin_load(self, key: str, place: int, patience: float) -> None:
        cache = self.caches[place]
        if patience < 1:
            time.sleep(0.002)  # whoever holds the lease has had it for longer
        job = Job(key, lambda: None, Policy(longest_load=patience), 0.0, None)
        claim = cache.claim(job)
        assert claim is not None
        if claim.holder == job.token:
            found = self.truth[key]
            self.loads.append(Load(cache, job, claim.generation, found))

    @precondition(lambda self: self.loads)
    @rule(data=st.data(), ends=st.sampled_from(ENDS))
    def end_load(self, data: st.DataObject, ends: str) -> None:
        load = self.loads.pop(data.draw(st.integers(0, len(self.loads) - 1)))
        if ends == "stores":
            name = load.cache.name("value", load.job.key)
            entry = load.cache.entry_of(load.read, 60.0)
            payload = load.cache.sealed(name, entry, load.generation)
            load.cache.store(load.job, payload, 60.0)
        elif ends == "fails":
            load.cache.give_up(load.job, LookupError("no row"))

    @rule(key=keys)
    def change(self, key: str) -> None:
        self.truth[key] += 1
        self.unsaid.add(key)

    @rule(key=keys, place=places)
    def delete(self, key: str, place: int) -> None:
        self.forget(key, place)

    def forget(self, key: str, place: int) -> None:
        self.caches[place].delete(key)
        self.unsaid.discard(key)

    @rule(key=keys, place=places)
    def change_and_delete(self, key: str, place: int) -> None:
        self.truth[key] += 1
        self.forget(key, place)

    @rule(key=keys, place=places)
    def put(self, key: str, place: int) -> None:
        assert self.caches[place].set(key, self.truth[key])
        self.unsaid.discard(key)

    @rule(place=places, how=st.sampled_from(["bump", "clear", "tag"]))
    def invalidate_all(self, place: int, how: str) -> None:
        cache = self.caches[place]
        if how == "bump":
            cache.bump()
        elif how == "clear":
            cache.clear_pattern("*")
        else:
            manager = lesson.CacheInvalidationManager(cache)
            manager.tag("t", *KEYS)
            manager.invalidate_tag("t")
        self.unsaid.clear()

    @invariant()
    def nothing_old_is_given(self) -> None:
        for key in KEYS:
            if key in self.unsaid:
                continue
            for cache in self.caches:
                assert cache.get(key) in (None, self.truth[key])


class Fetch(NamedTuple):
    """A fetch under way: the mark was set, and Redis has answered or not."""

    name: bytes
    mark: object
    answer: list[bytes]


NAMES = [b"a", b"b"]
names = st.sampled_from(NAMES)


class NearMachine(RuleBasedStateMachine):
    """A copy is what Redis has, or the news of its change is still on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.copies = Copies(1)
        self.redis = dict.fromkeys(NAMES, 0)
        self.news: list[bytes] | None = None  # on the way; None: nobody listens
        self.fetches: list[Fetch] = []
        self.listen()

    @rule(name=names)
    def ask(self, name: bytes) -> None:
        mark = object()
        found = self.copies.find([name], mark)
        if found is None:
            self.fetches.append(Fetch(name, mark, []))
        else:
            current = found == [str(self.redis[name]).encode()]
            assert current or name in (self.news or ())

    @precondition(lambda self: self.fetches)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        fetch = self.fetches[data.draw(st.integers(0, len(self.fetches) - 1))]
        if not fetch.answer:
            fetch.answer.append(str(self.redis[fetch.name]).encode())

    @precondition(lambda self: any(fetch.answer for fetch in self.fetches))
    @rule(data=st.data())
    def keep(self, data: st.DataObject) -> None:
        answered = [fetch for fetch in self.fetches if fetch.answer]
        fetch = answered[data.draw(st.integers(0, len(answered) - 1))]
        self.fetches.remove(fetch)
        self.copies.keep([fetch.name], fetch.answer, fetch.mark)

    @rule(name=names)
    def change(self, name: bytes) -> None:
        self.redis[name] += 1
        if self.news is not None:
            self.news.append(name)

    @precondition(lambda self: self.news)
    @rule()
    def hear(self) -> None:
        assert self.news
        self.copies.drop(self.news.pop(0))

    @rule()
    def lose(self) -> None:
        self.news = None
        self.copies.end_copies()

    @rule()
    def listen_again(self) -> None:
        if self.news is None:
            self.listen()

    def listen(self) -> None:
        self.news = []
        self.copies.begin_copies()

    @invariant()
    def it_is_bounded_and_empty_when_nobody_listens(self) -> None:
        assert len(self.copies) <= (2 if self.news is not None else 0)


class CarelessBreakerMachine(BreakerMachine):
    """As it would be if each probe did not begin a new cooldown."""

    def __init__(self) -> None:
        super().__init__()
        allows = self.breaker.allows

        def allow_all() -> bool:
            at = self.breaker.retry_at
            allowed: bool = allows()
            self.breaker.retry_at = at
            return allowed

        self.breaker.allows = allow_all


class CarelessLeaseMachine(LeaseMachine):
    """As it would be if a store did not ask for the lease."""

    def __init__(self) -> None:
        super().__init__()
        for cache in self.caches:
            cache.release_lease = self.store_anyway(cache)

    def store_anyway(self, cache: Any) -> Any:
        def release(
            key: str, token: bytes, kind: str, text: str, seconds: float
        ) -> int:
            if text:
                cache.client.set(cache.name(kind, key), text, ex=60)
            return 1

        return release


class CarelessNearMachine(NearMachine):
    """As it would be if what was fetched were kept without the mark."""

    def __init__(self) -> None:
        super().__init__()
        copies = self.copies

        def keep(names: list[bytes], payloads: list[bytes], mark: object) -> None:
            if copies.held is not None:
                copies.held.update(zip(names, payloads, strict=True))

        self.copies.keep = keep  # type: ignore[method-assign,assignment]


MACHINES: list[type[RuleBasedStateMachine]] = [
    BreakerMachine,
    LeaseMachine,
    NearMachine,
]
CARELESS: list[type[RuleBasedStateMachine]] = [
    CarelessBreakerMachine,
    CarelessLeaseMachine,
    CarelessNearMachine,
]


@pytest.mark.parametrize("machine", MACHINES)
def test_no_steps_break_a_rule(machine: type[RuleBasedStateMachine]) -> None:
    run_state_machine_as_test(machine, settings=LIMITS)


@pytest.mark.parametrize("machine", CARELESS)
def test_the_steps_would_show_a_mistake(machine: type[RuleBasedStateMachine]) -> None:
    with pytest.raises(AssertionError):
        run_state_machine_as_test(machine, settings=UNTIL_FOUND)


def test_an_invalidation_within_a_load_that_has_tagged_its_key_is_not_lost() -> None:
    cache = lesson.RedisCache(fakeredis.FakeRedis(), "module8:test:")
    manager = lesson.CacheInvalidationManager(cache)
    source = [1]

    def load() -> int:
        value = source[0]
        manager.tag("t", "k")
        source[0] += 1
        manager.invalidate_tag("t")
        return value

    assert cache.get_or_load("k", load, Policy(ttl=60)) == 1
    assert cache.get_or_load("k", load, Policy(ttl=60)) == 2
