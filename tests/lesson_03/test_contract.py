"""Lesson 03's Redis tier: the same on fakeredis and on Redis, results compared."""

from __future__ import annotations

import fnmatch
import functools
import json
import os
import re
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fakeredis
import pytest
import services
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lessons import ROOT, load, path_of, run

from course.caching.client import cache_client, escape
from course.caching.experiments import start_and_hold
from course.caching.jobs import LoaderError
from course.caching.policy import Policy
from course.lab import SlowSource, outcome_of, start_together

lesson = load("03")


@pytest.fixture(scope="module", params=["stand-in", "live"])
def connect(request: pytest.FixtureRequest) -> Callable[[], Any]:
    if request.param == "live":
        url = request.getfixturevalue("redis_url")
        return functools.partial(cache_client, url, 5.0)
    server = fakeredis.FakeServer()
    return functools.partial(fakeredis.FakeRedis, server=server)


@contextmanager
def own_prefix(client: Any) -> Iterator[str]:
    """Yield a prefix; check that all left under it would expire, and delete it."""
    name = f"module8:{uuid.uuid4().hex[:12]}:"
    yield name
    left = list(client.scan_iter(name + "*", 1000))
    lives = [client.pttl(key) for key in left]
    if left:
        client.unlink(*left)
    assert all(life > 0 or life == -2 for life in lives), left  # -2: expired by now


@pytest.fixture
def prefix(connect: Callable[[], Any]) -> Iterator[str]:
    with own_prefix(connect()) as name:
        yield name


@pytest.fixture
def live_prefix(redis_url: str) -> Iterator[str]:
    with own_prefix(cache_client(redis_url, 5.0)) as name:
        yield name


def story(connect: Callable[[], Any], prefix: str) -> list[object]:
    """Return what a series of calls answers, the same on every back end."""
    one, two = (lesson.RedisCache(connect(), prefix) for _ in range(2))
    manager = lesson.CacheInvalidationManager(one)
    policy = Policy(ttl=60)
    said: list[object] = [
        one.get("a"),
        one.set("a", {"x": [1, 2.5, None]}),
        two.get("a"),
    ]
    said += [one.delete("a", "b"), two.get("a", "gone"), one.delete(), one.delete("a")]
    said += [one.get_or_load(k, lambda: None, policy) for k in ("n", "n")]
    said += [two.get_or_load("n", lambda: "not called", policy)]
    for key in ("u:1", "u:2", "v:1", "u:[1]"):
        one.set(key, key)
    manager.tag("odd", "u:1", "v:1", "missing")
    said += [two.get_many(["u:1", "u:2", "w"]), manager.invalidate_pattern("u:[1]")]
    said += [manager.invalidate_tag("odd"), manager.invalidate_tag("odd")]
    said += [sorted(one.get_many(["u:1", "u:2", "v:1", "u:[1]"]))]
    said += [one.bump(), two.get("u:2"), one.set("u:2", 2), two.get("u:2")]
    said += [two.clear_pattern("*"), one.get("u:2")]
    outcome_of(functools.partial(one.get_or_load, "e", _fail, policy))
    for cache in (one, two):
        counts = json.loads(cache.stats.as_json())
        del counts["load_ms"]  # a time: no two loads take equally long
        said.append(counts)
    return said


def _fail() -> None:
    raise LookupError("no")


def test_a_series_of_calls_has_the_same_answers(
    connect: Callable[[], Any], prefix: str
) -> None:
    expected = story(
        functools.partial(fakeredis.FakeRedis, server=fakeredis.FakeServer()), "p:"
    )
    assert story(connect, prefix) == expected


def test_entries_live_as_long_as_the_policy_says(
    connect: Callable[[], Any], prefix: str
) -> None:
    cache = lesson.RedisCache(connect(), prefix)
    policy = Policy(ttl=100, none_ttl=10, grace=50)
    cache.get_or_load("value", lambda: 1, policy)
    cache.get_or_load("none", lambda: None, policy)
    cache.set("set", 1, ttl=30)
    lives = [
        cache.client.pttl(cache.name("value", key)) for key in ("value", "none", "set")
    ]
    for life, limit in zip(lives, (150_000, 60_000, 30_000), strict=True):
        assert limit - 20_000 < life <= limit


pieces = st.sampled_from(["a", "b", "1", ":", "[", "]", "*", "?", "-", "^", "\\", "."])
names = st.lists(pieces, min_size=1, max_size=4).map("".join)
globs = st.lists(
    st.tuples(st.booleans(), pieces) | st.sampled_from(["*", "?"]), max_size=4
)


@pytest.mark.parametrize("dummy", [0])
@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(keys=st.sets(names, max_size=12), glob=globs)
def test_clear_pattern_deletes_what_matches_and_nothing_else(
    connect: Callable[[], Any], prefix: str, dummy: int, keys: set[str], glob: list[Any]
) -> None:
    cache = lesson.RedisCache(connect(), prefix)
    literals = [part if isinstance(part, str) else part[1] for part in glob]
    wild = [isinstance(part, str) for part in glob]
    pairs = list(zip(literals, wild, strict=True))
    ours = "".join(text if free else escape(text) for text, free in pairs)
    theirs = "".join(text if free else _fn_escape(text) for text, free in pairs)
    for key in keys:
        cache.set(key, 1, ttl=60)
    matching = {key for key in keys if fnmatch.fnmatchcase(key, theirs)}
    assert cache.clear_pattern(ours) == len(matching)
    assert set(cache.get_many(sorted(keys))) == keys - matching
    assert cache.clear_pattern("*") == len(keys - matching)


def _fn_escape(text: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", text)


def test_a_prefix_with_glob_characters_clears_only_its_own(
    connect: Callable[[], Any], prefix: str
) -> None:
    one, other = (lesson.RedisCache(connect(), f"{prefix}{c}:") for c in ("[ab]*", "a"))
    one.set("k", 1)
    other.set("k", 1)
    assert one.clear_pattern("*") == 1
    assert other.get("k") == 1


def test_a_hundred_threads_on_four_clients_load_once(
    connect: Callable[[], Any], prefix: str
) -> None:
    for number, answer in enumerate([{"id": 1}, None, LookupError("no row")]):
        caches = [lesson.RedisCache(connect(), prefix) for _ in range(4)]
        source = SlowSource(answer, 0.2)
        calls = [
            functools.partial(
                c.get_or_load,
                f"k{number}",
                source.load,
                Policy(ttl=60, longest_load=30),
            )
            for c in caches
        ]
        outcomes = start_and_hold(calls * 25, source, caches)
        assert source.loads == 1
        assert sum(c.stats.hits + c.stats.misses for c in caches) == 100
        if isinstance(answer, Exception):
            kinds = Counter(type(outcome).__name__ for outcome in outcomes)
            assert set(kinds) <= {"LookupError", "LoaderError"}
            told = {str(o) for o in outcomes if isinstance(o, LoaderError)}
            assert told <= {"LookupError: no row"}
        else:
            assert outcomes == [answer] * 100


PROCESS = """
import sys
from functools import partial
from lessons import load
from course.caching.experiments import all_have_asked
from course.caching.policy import Policy
from course.lab import SlowSource, in_background, start_together, wait_until
lesson = load("03")
prefix, url, kind = sys.argv[1:]
client = lesson.cache_client(url, 5.0)
cache = lesson.RedisCache(client, prefix)
def all_are(what):
    client.incr(prefix + what)
    client.expire(prefix + what, 60)
    wait_until(lambda: int(client.get(prefix + what)) == 4, 60)
answer = {"row": {"id": 1}, "none": None, "error": LookupError("no row")}[kind]
source = SlowSource(answer, 0.3)
source.ready.clear()
all_are("ready")
call = partial(cache.get_or_load, "k", source.load, Policy(ttl=60, longest_load=30))
running = in_background(lambda: start_together([call] * 25))
wait_until(lambda: all_have_asked([cache], 25), 60)
all_are("joined")
source.ready.set()
outcomes = running.result(60)
told = sum(isinstance(o, Exception) for o in outcomes)
print(source.loads, told, sum(o == answer for o in outcomes))
"""


NEAR_FORK = """
import os, signal, sys
from lessons import load
from course.lab import wait_until
lesson = load("03")
prefix, url = sys.argv[1:]
writer = lesson.RedisCache(lesson.cache_client(url, 5.0), prefix)
with lesson.NearCache(lesson.cache_client(url, 5.0), prefix) as near:
    def takes_no_trip():
        return lesson.commands_sent(near, lambda: near.get("k")) == 0
    wait_until(lambda: near.copies.followed)
    near.set("k", "old")
    wait_until(takes_no_trip)
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        for value in ("new", "newer"):
            writer.set("k", value)
            wait_until(lambda: near.get("k") == value)
            wait_until(takes_no_trip)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    wait_until(lambda: near.get("k") == "newer")
"""
PATHS = os.pathsep.join([str(ROOT), str(ROOT / "tests")])


@pytest.mark.parametrize("kind", ["row", "none", "error"])
def test_four_processes_of_25_threads_load_once(
    kind: str, redis_url: str, live_prefix: str
) -> None:
    argv = [sys.executable, "-c", PROCESS, live_prefix, redis_url, kind]
    environment = os.environ | {"PYTHONPATH": PATHS}
    running = [
        subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(4)
    ]
    printed = [process.communicate(timeout=90)[0] for process in running]
    loads, told, right = (
        sum(column)
        for column in zip(*(map(int, p.split()) for p in printed), strict=True)
    )
    assert loads == 1
    assert told == (100 if kind == "error" else 0)
    assert kind == "error" or right == 100


def test_the_lesson_runs_live_and_leaves_nothing(redis_url: str) -> None:
    client = cache_client(redis_url, 5.0)
    done = run(path_of("03"), "--require-live", "--url", redis_url)
    assert done.returncode == 0, done.stdout
    assert "0 skipped, 0 failed" in done.stdout
    offline = Path(__file__).with_name("golden.txt").read_text("utf-8")
    skipped = {line for line in offline.splitlines() if "[skip]" in line}
    missing = set(offline.splitlines()[1:-1]) - set(done.stdout.splitlines()) - skipped
    assert missing == set()  # what the stand-in shows, Redis shows alike
    assert client.ping()


def test_a_near_cache_sees_other_clients_writes(
    redis_url: str, live_prefix: str
) -> None:
    writer = lesson.RedisCache(cache_client(redis_url, 5.0), live_prefix)
    with lesson.NearCache(cache_client(redis_url, 5.0), live_prefix) as near:
        services.wait_for(lambda: near.copies.followed)
        for change, expected in [
            (lambda: writer.set("k", 1), 1),
            (lambda: writer.set("k", 2), 2),
            (lambda: writer.delete("k"), None),
            (lambda: writer.set("k", 3), 3),
            (writer.bump, None),
            (lambda: writer.set("k", 4), 4),
            (lambda: writer.clear_pattern("*"), None),
        ]:
            near.get("k")
            change()
            services.wait_for(lambda want=expected: near.get("k") == want)  # type: ignore[misc]
        for value in range(50):  # what this process writes, it reads at once
            near.set("k", value)
            assert near.get("k") == value
        near.delete("k")
        assert near.get("k") is None
        assert near.get_or_load("k", lambda: "loaded", Policy(ttl=60)) == "loaded"
        services.wait_for(lambda: near.get("k") == "loaded")


def test_a_near_cache_never_keeps_what_was_overtaken(
    redis_url: str, live_prefix: str
) -> None:
    """The value is fetched; before it is kept, another client changes it."""
    writer = lesson.RedisCache(cache_client(redis_url, 5.0), live_prefix)
    with lesson.NearCache(cache_client(redis_url, 5.0), live_prefix) as near:
        services.wait_for(lambda: near.copies.followed)
        fetched = near.ask

        def overtaken(command: Any) -> Any:
            answer = fetched(command)
            writer.set("k", "new")
            name = near.name("value", "k")
            services.wait_for(lambda: (near.copies.held or {}).get(name) is None)
            return answer

        writer.set("k", "old")
        near.ask = overtaken
        assert near.get("k") == "old"  # it was true when the read began
        near.ask = fetched
        assert near.get("k") == "new"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="platform: no fork on this system")
def test_a_near_cache_in_a_forked_child_hears_of_changes(
    redis_url: str, live_prefix: str
) -> None:
    argv = [sys.executable, "-c", NEAR_FORK, live_prefix, redis_url]
    environment = os.environ | {"PYTHONPATH": PATHS}
    subprocess.run(argv, env=environment, timeout=90, check=True)


def test_a_near_cache_holds_no_more_than_its_size(
    redis_url: str, live_prefix: str
) -> None:
    with lesson.NearCache(cache_client(redis_url, 5.0), live_prefix, 10) as near:
        services.wait_for(lambda: near.copies.followed)
        for number in range(50):
            near.set(f"k{number}", number)
            assert near.get(f"k{number}") == number
            assert len(near.copies) <= 10


def test_near_and_far_counts_add_up_under_eight_threads(
    redis_url: str, live_prefix: str
) -> None:
    with lesson.NearCache(cache_client(redis_url, 5.0), live_prefix) as near:
        services.wait_for(lambda: near.copies.followed)

        def work() -> None:
            for number in range(100):
                near.get(f"k{number % 10}")
                if number % 10 == 9:
                    near.set(f"k{number // 10}", number)

        assert start_together([work] * 8) == [None] * 8
        assert near.stats.hits + near.stats.misses == 800
        assert near.near_stats.hits + near.near_stats.misses == 800


def test_json_in_redis_is_readable_by_others(
    connect: Callable[[], Any], prefix: str
) -> None:
    cache = lesson.RedisCache(connect(), prefix)
    cache.set("k", {"x": 1})
    assert json.loads(cache.client.get(cache.name("value", "k")))["value"] == {"x": 1}
