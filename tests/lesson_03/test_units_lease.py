"""Lesson 03's loads: once, shared, never stale, renewed early; no Redis needed."""

from __future__ import annotations

import functools
import json
import math
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import fakeredis
import pytest
import services
from lessons import load

from course.caching.client import escape
from course.caching.codec import Envelope
from course.caching.flights import WAITS
from course.caching.policy import Policy
from course.lab import SlowSource, start_together

lesson = load("03")


INVALIDATIONS: list[Callable[[Any, str], object]] = [
    lambda cache, key: cache.delete(key),
    lambda cache, key: cache.delete("other", key),
    lambda cache, key: cache.clear_pattern("*"),
    lambda cache, key: cache.clear_pattern(escape(key)),
    lambda cache, key: cache.bump(),
]


@pytest.mark.parametrize("invalidate", INVALIDATIONS)
def test_no_interleaving_of_load_and_invalidation_leaves_a_stale_value(
    invalidate: Callable[[Any, str], object],
) -> None:
    """A thousand rounds in all, each with its own order of the four steps."""
    dice, server = random.Random(8), fakeredis.FakeServer()
    caches = [
        lesson.RedisCache(fakeredis.FakeRedis(server=server), "module8:test:")
        for _ in range(2)
    ]
    overtaken = 0
    for number in range(200):
        key, truth = f"price[{number}]*", ["old"]
        reader, writer = dice.sample(caches, 2)

        def write(truth: list[str] = truth, key: str = key, by: Any = writer) -> None:
            truth[0] = "new"
            invalidate(by, key)

        moment = dice.randrange(3)

        def source(
            truth: list[str] = truth, write: Any = write, moment: int = moment
        ) -> str:
            if moment == 0:
                write()
            read = truth[0]
            if moment == 1:
                write()
            return read

        reader.get_or_load(key, source, Policy(ttl=60))
        if moment == 2:
            write()
        overtaken += moment == 1
        for cache in caches:
            assert cache.get(key) in (None, "new"), (number, moment)
        assert reader.get_or_load(key, lambda t=truth: t[0], Policy()) == "new"
    assert overtaken > 40


def test_a_set_beats_a_load_under_way(cache: Any) -> None:
    def load() -> str:
        assert cache.set("k", "new")
        return "old"

    assert cache.get_or_load("k", load, Policy()) == "old"
    assert cache.get("k") == "new"


def test_clear_pattern_takes_leases_first(monkeypatch: pytest.MonkeyPatch) -> None:
    server = fakeredis.FakeServer()
    one, two = (
        lesson.RedisCache(fakeredis.FakeRedis(server=server), "module8:test:")
        for _ in range(2)
    )
    loading, go_on = threading.Event(), threading.Event()

    def slow() -> str:
        loading.set()
        assert go_on.wait(10)
        return "old"

    call = functools.partial(one.get_or_load, "k", slow, Policy())
    thread = threading.Thread(target=call)
    thread.start()
    assert loading.wait(10)
    sweep = two.sweep
    sweeps: list[str] = []

    def then_store(kind: str, pattern: str) -> int:
        removed: int = sweep(kind, pattern)
        sweeps.append(kind)
        go_on.set()
        thread.join(10)
        return removed

    monkeypatch.setattr(two, "sweep", then_store)
    two.clear_pattern("*")
    assert sweeps == ["lease", "value"]
    assert one.get("k") is None


def test_a_process_told_to_end_leaves_the_load_to_others(cache: Any) -> None:
    def ending() -> None:
        raise SystemExit

    with pytest.raises(SystemExit):
        cache.get_or_load("k", ending, Policy())
    assert not cache.client.keys("*failure*")
    assert not cache.client.keys("*lease*")


@pytest.mark.parametrize("out", [False, True])
def test_who_asks_after_a_delete_does_not_get_the_load_from_before_it(
    out: bool,
) -> None:
    server = fakeredis.FakeServer()
    server.connected = not out
    cache = lesson.RedisCache(fakeredis.FakeRedis(server=server), "module8:test:")
    loading, go_on = threading.Event(), threading.Event()

    def slow() -> str:
        loading.set()
        assert go_on.wait(10)
        return "old"

    policy, got = Policy(), []
    early = threading.Thread(
        target=lambda: got.append(cache.get_or_load("k", slow, policy))
    )
    early.start()
    assert loading.wait(10)
    cache.delete("k")
    late = threading.Thread(
        target=lambda: got.append(cache.get_or_load("k", lambda: "new", policy))
    )
    late.start()
    services.wait_for(lambda: cache.stats.misses == 2)
    services.wait_for(lambda: WAITS)  # for the load from before the delete
    go_on.set()
    early.join(10)
    late.join(10)
    assert sorted(got) == ["new", "old"]
    assert cache.get("k") == (None if out else "new")
    assert cache.stats.refused == (not out)


def test_who_waits_for_a_slow_load_in_vain_shares_one_more() -> None:
    cache = lesson.RedisCache(fakeredis.FakeRedis(), "module8:test:")
    source, policy = SlowSource("value", 0.5), Policy(longest_load=0.2)
    call = functools.partial(cache.get_or_load, "k", source.load, policy)
    assert start_together([call] * 30, source) == ["value"] * 30
    assert source.loads == 2


def test_a_lease_outlived_by_its_load_lets_another_process_load() -> None:
    server = fakeredis.FakeServer()
    one, two = (
        lesson.RedisCache(fakeredis.FakeRedis(server=server), "module8:test:")
        for _ in range(2)
    )
    policy = Policy(longest_load=0.1)
    loading, go_on = threading.Event(), threading.Event()

    def slow() -> str:
        loading.set()
        assert go_on.wait(10)
        return "slow"

    thread = threading.Thread(target=one.get_or_load, args=("k", slow, policy))
    thread.start()
    assert loading.wait(10)
    assert two.get_or_load("k", lambda: "fast", policy) == "fast"  # no dead end
    go_on.set()
    thread.join(10)
    assert one.stats.loads == two.stats.loads == 1
    assert one.get("k") in (None, "fast")  # what came late was not stored


def test_old_values_stand_in_while_a_load_is_under_way(clock: Any) -> None:
    server = fakeredis.FakeServer()
    one, two = (
        lesson.RedisCache(
            fakeredis.FakeRedis(server=server), "module8:test:", clock=clock
        )
        for _ in range(2)
    )
    policy = Policy(ttl=60, grace=600, beta=0)
    one.get_or_load("k", lambda: "old", policy)
    clock.now += 61
    loading, go_on = threading.Event(), threading.Event()

    def slow() -> str:
        loading.set()
        assert go_on.wait(10)
        return "new"

    thread = threading.Thread(target=one.get_or_load, args=("k", slow, policy))
    thread.start()
    assert loading.wait(10)
    for cache in (one, two):  # the same process, and another
        assert cache.get_or_load("k", lambda: "unused", policy) == "old"
        assert cache.stats.stale == 1
    go_on.set()
    thread.join(10)
    assert two.get_or_load("k", lambda: "unused", policy) == "new"


def test_an_early_refresh_is_done_by_one_while_others_are_served(clock: Any) -> None:
    cache = lesson.RedisCache(fakeredis.FakeRedis(), "module8:test:", clock=clock)
    eager = Policy(ttl=60, beta=1e12)  # every read is due
    cache.get_or_load("k", SlowSource(1, 0.001).load, eager)
    source = SlowSource(2, 0.2)
    answers = start_together(
        [functools.partial(cache.get_or_load, "k", source.load, eager)] * 20, source
    )
    assert source.loads == 1
    assert Counter(answers) == {1: 19, 2: 1}


def test_a_failed_load_is_retried_by_the_next_call(cache: Any) -> None:
    policy = Policy()
    for number in range(3):
        source = SlowSource(KeyError(number), 0)
        with pytest.raises(KeyError):
            cache.get_or_load("k", source.load, policy)
        assert source.loads == 1
    assert cache.get_or_load("k", lambda: "value", policy) == "value"


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("gap", [0.25, 1.0, 3.0])
def test_early_refresh_has_the_published_probability(beta: float, gap: float) -> None:
    dice, delta = random.Random(8), 0.3
    entry = Envelope("value", 0.0, gap * delta, delta)
    draws = 200_000
    early = sum(
        lesson.loads_early(entry, 0.0, beta, dice.random()) for _ in range(draws)
    )
    assert abs(early / draws - math.exp(-gap / beta)) < 0.01


def test_early_refresh_is_certain_at_expiry_and_never_with_beta_0() -> None:
    entry = Envelope("value", 0.0, 10.0, 5.0)
    assert lesson.loads_early(entry, 10.0, 0.0, 0.0)
    assert not lesson.loads_early(entry, 9.999, 0.0, 0.999999)


def test_jitter_spreads_the_expiries_of_keys_set_together() -> None:
    cache = lesson.RedisCache(fakeredis.FakeRedis(), "module8:test:")
    policy = Policy(ttl=100, jitter=0.5)
    lives = [cache.lifetime("value", policy) for _ in range(5000)]
    assert 50 < min(lives) < max(lives) <= 100
    assert max(Counter(map(int, lives)).values()) < 5000 / 50 * 2


@pytest.mark.usefixtures("hasty")
def test_hits_and_misses_are_calls_under_eight_threads(cache: Any) -> None:
    policy = Policy(ttl=60, beta=0)

    def work(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(150):
            key = f"k{dice.randrange(10)}"
            if dice.random() < 0.1:
                cache.delete(key)
            cache.get_or_load(key, lambda k=key: k, policy)
            cache.get(key)

    done = start_together([functools.partial(work, seed) for seed in range(8)])
    assert done == [None] * 8
    stats = cache.stats
    assert stats.hits + stats.misses == 8 * 150 * 2
    assert set(json.loads(stats.as_json())) >= {"hits", "misses", "loads", "errors"}


def test_a_load_that_outlives_its_lease_is_logged(
    cache: Any, caplog: pytest.LogCaptureFixture
) -> None:
    policy = Policy(longest_load=0.05)
    cache.get_or_load("report", lambda: time.sleep(0.1), policy)
    said = r"'report' took \d.\d s to load: raise Policy.longest_load"
    assert re.search(said, caplog.text)


def test_none_is_kept_for_a_shorter_time_than_a_value(cache: Any, clock: Any) -> None:
    policy = Policy(ttl=60, none_ttl=5, beta=0)
    cache.get_or_load("nobody", lambda: None, policy)
    cache.get_or_load("somebody", lambda: "old", policy)
    clock.advance(4)
    assert cache.get_or_load("nobody", lambda: "new", policy) is None
    clock.advance(2)
    assert cache.get_or_load("nobody", lambda: "new", policy) == "new"
    assert cache.get_or_load("somebody", lambda: "new", policy) == "old"
