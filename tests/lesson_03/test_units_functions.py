"""Lesson 03's redis_cache in a program of one's own: names, hints, hooks, methods."""

from __future__ import annotations

import asyncio
import copy
import functools
import json
import logging
import os
import pickle
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import fakeredis
import numpy
import pandas
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from lessons import ROOT, load

from course.caching.plain import everyday_key, from_plain, to_plain
from course.caching.policy import Policy
from course.lab import start_together

lesson = load("03")


def function_of(module: str | None) -> Any:
    """Return the function load_rows of a module of this name."""
    scope: dict[str, Any] = {"__name__": module}
    exec("def load_rows(n):\n    return [n]", scope)
    return scope["load_rows"]


@pytest.mark.parametrize("module", ["__main__", "__mp_main__", "builtins", None])
def test_a_module_that_is_called_like_others_asks_for_a_name(
    cache: Any, module: str | None
) -> None:
    with pytest.raises(TypeError, match=r"any script or notebook: give it a name="):
        lesson.redis_cache(60, cache=cache)(function_of(module))
    named = lesson.redis_cache(60, cache=cache, name="rows")(function_of(module))
    assert named(1) == [1]


def test_two_scripts_do_not_share_results_of_unlike_functions(tmp_path: Path) -> None:
    script = (
        "from lessons import load\n"
        "lesson = load('03')\n"
        "@lesson.redis_cache(60)\n"
        "def load_rows(n):\n"
        "    return n\n"
    )
    path = tmp_path / "report.py"
    path.write_text(script)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    done = subprocess.run(
        [sys.executable, str(path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 1
    assert "__main__.load_rows may be a function of any script" in done.stderr


def test_without_parentheses_it_says_what_to_write() -> None:
    with pytest.raises(TypeError, match=r"write @redis_cache\(\) above load_rows"):
        lesson.redis_cache(function_of("shop"))


class Shop:
    """A class with a method that is decorated where everybody puts it."""

    number = 7

    def rank(self, limit: int) -> list[int]:
        return [self.number] * limit


def test_on_a_method_it_says_what_to_write(cache: Any) -> None:
    decorated = lesson.redis_cache(60, cache=cache)(Shop.rank)
    kind = type("Decorated", (Shop,), {"rank": decorated})
    with pytest.raises(TypeError, match=r"__init__ write self.rank = redis_cache\("):
        kind().rank(2)


def test_a_key_that_identifies_the_instance_makes_a_method_possible(
    cache: Any,
) -> None:
    hook = {"key": lambda self, limit: [self.number, limit]}
    decorated = lesson.redis_cache(60, cache=cache, **hook)(Shop.rank)
    kind = type("Decorated", (Shop,), {"rank": decorated})
    one, two = kind(), kind()
    two.number = 8
    assert [one.rank(1), two.rank(1), one.rank(limit=1)] == [[7], [8], [7]]
    assert (cache.stats.hits, cache.stats.loads) == (1, 2)


def test_one_call_and_all_calls_can_be_invalidated(cache: Any) -> None:
    numbers = iter(range(100))
    fn = lesson.redis_cache(60, cache=cache, name="f[1]")(lambda n: next(numbers))
    other = lesson.redis_cache(60, cache=cache, name="f[1]x")(lambda n: next(numbers))
    assert [fn(1), fn(2), other(1)] == [0, 1, 2]
    assert [fn.invalidate(1), fn.invalidate(1), fn(1), fn(2)] == [1, 0, 3, 1]
    assert fn.invalidate(n=2) == 1  # however the call is spelt
    assert [fn.cache_clear(), fn(1), other(1)] == [1, 4, 2]


def decorated_by_name(n: int) -> int:
    """Return n."""
    return n


def test_a_decorated_function_stays_a_function_to_others(
    monkeypatch: pytest.MonkeyPatch, cache: Any
) -> None:
    found = lesson.redis_cache(60, cache=cache, name="n")(decorated_by_name)
    assert (found.__name__, found.__doc__) == ("decorated_by_name", "Return n.")
    assert found.__wrapped__ is decorated_by_name
    monkeypatch.setitem(globals(), "decorated_by_name", found)
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or _self())
    assert pickle.loads(pickle.dumps(found)) is found
    assert copy.deepcopy(found) is found


def _self() -> Any:
    module = type(sys)(__name__)
    vars(module).update(globals())
    return module


TYPED = """
import lesson03 as lesson

@lesson.redis_cache(60, name="rows")
def rows(user: int, limit: int = 3) -> list[str]:
    return [str(user)] * limit

@lesson.timed_lru_cache(ttl_seconds=60)
def twice(n: int) -> int:
    return 2 * n

reveal_type(rows(1))
reveal_type(twice(1))
rows("1")
twice(n="1")
rows.invalidate(1, wrong=2)
rows.key(1).upper()
rows.cache_clear()
twice.cache_info()
"""


@pytest.mark.slow
def test_the_type_hints_of_a_decorated_function_survive(tmp_path: Path) -> None:
    # mypy takes no module name that begins with a digit.
    script = next(ROOT.glob("03_*.py"))
    (tmp_path / "lesson03.py").write_text(script.read_text("utf-8"), "utf-8")
    (tmp_path / "typed.py").write_text(TYPED)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--follow-imports=silent", "typed.py"],
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    said = done.stdout
    assert 'note: Revealed type is "list[str]"' in said.replace("builtins.", ""), said
    assert 'note: Revealed type is "int"' in said.replace("builtins.", ""), said
    errors = [line.split(":")[1] for line in said.splitlines() if ": error:" in line]
    assert errors == ["14", "15", "16"], said


@pytest.fixture(params=[True, False], ids=["up", "down"])
def up_or_down(request: pytest.FixtureRequest) -> Any:
    server = fakeredis.FakeServer()
    server.connected = request.param
    client = fakeredis.FakeRedis(server=server)
    return lesson.RedisCache(client, "module8:test:")


@pytest.mark.parametrize("result", [(1, 2), {1: 2}, float("nan"), object(), {3}])
def test_what_json_would_change_is_returned_and_not_cached(
    up_or_down: Any, result: Any, caplog: pytest.LogCaptureFixture
) -> None:
    fn = lesson.redis_cache(cache=up_or_down, name="fn")(lambda: result)
    assert [fn() is result, fn() is result] == [True, True]
    assert up_or_down.stats.loads >= 2
    about = [r for r in caplog.records if "is not cached: TypeError" in r.message]
    assert len(about) == (up_or_down.stats.errors == 0)


def test_who_waits_for_what_is_not_cached_loads_for_himself() -> None:
    server = fakeredis.FakeServer()
    caches = [
        lesson.RedisCache(fakeredis.FakeRedis(server=server), "module8:test:")
        for _ in range(6)
    ]
    under_way: list[int] = []
    at_once: list[int] = []

    def slow() -> tuple[int, int]:
        under_way.append(1)
        lesson.time.sleep(0.2)
        at_once.append(len(under_way))
        under_way.pop()
        return 1, 2

    calls = [functools.partial(c.get_or_load, "k", slow, Policy()) for c in caches]
    assert start_together(calls) == [(1, 2)] * 6
    assert max(at_once) > 2  # not one after another


EVERYDAY: list[Any] = [
    (1, ("a", None)),
    date(2026, 1, 31),
    datetime(2026, 1, 31, 12, tzinfo=UTC),
    time(12, 30),
    timedelta(days=-1, microseconds=1),
    Decimal("1.10"),
    uuid.UUID(int=7),
    numpy.int64(7),
    numpy.float32(0.1),
    b"\x00\xff",
    {1: "a", (2, 3): "b"},
    {"$tuple": [1]},
    {3, 1},
    frozenset({"x"}),
    float("inf"),
    [1, 2.5, None, True, {"deep": [(1,)]}],
]


@pytest.mark.parametrize("value", EVERYDAY, ids=repr)
def test_everyday_values_come_back_with_their_types(cache: Any, value: Any) -> None:
    hooks = {"key": everyday_key, "encode": to_plain, "decode": from_plain}
    fn = lesson.redis_cache(60, cache=cache, name="echo", **hooks)(lambda x: x)
    found = [fn(value), fn(value)]
    assert cache.stats.hits == 1
    assert [type(one) for one in found] == [type(value)] * 2
    assert repr(found) == repr([value, value])
    assert fn.invalidate(x=value) == 1


def test_frames_and_arrays_come_back_as_they_were(cache: Any) -> None:
    frame = pandas.DataFrame(
        {"day": pandas.to_datetime(["2026-01-31"] * 2), "n": [1, None]},
        index=["a", "b"],
    )
    array = numpy.arange(6, dtype="int16").reshape(2, 3)
    hooks = {"encode": to_plain, "decode": from_plain}
    for number, value in enumerate((frame, array)):
        fn = lesson.redis_cache(60, cache=cache, name=f"f{number}", **hooks)(
            functools.partial([frame, array].__getitem__, number)
        )
        fn()
        found = fn()
        assert found is not value
        if isinstance(value, pandas.DataFrame):
            pandas.testing.assert_frame_equal(found, value)
        else:
            numpy.testing.assert_array_equal(found, value)
            assert found.dtype == value.dtype
    assert cache.stats.hits == 2


def test_what_no_hook_knows_is_named() -> None:
    with pytest.raises(TypeError, match="complex: it needs a hook of its own"):
        to_plain([1j])


@given(
    st.recursive(
        st.none()
        | st.integers()
        | st.text()
        | st.dates()
        | st.decimals(allow_nan=False),
        lambda inner: (
            st.lists(inner)
            | st.tuples(inner, inner)
            | st.dictionaries(st.text() | st.integers(), inner)
        ),
        max_leaves=8,
    )
)
def test_to_plain_gives_json_and_from_plain_takes_it_back(value: Any) -> None:
    assert repr(from_plain(json.loads(json.dumps(to_plain(value))))) == repr(value)


def test_a_decode_that_fails_is_a_miss(cache: Any) -> None:
    def strict_decode(held: Any) -> Any:
        return held["new form"]

    policy = Policy(ttl=60, encode=lambda v: {"new form": v}, decode=strict_decode)
    cache.set("k", "the old form")
    assert cache.get_or_load("k", lambda: 7, policy) == 7
    assert cache.get_or_load("k", lambda: 8, policy) == 7
    assert (cache.stats.corrupt, cache.stats.loads) == (2, 1)


def test_the_limit_of_a_load_is_a_parameter(cache: Any) -> None:
    fn = lesson.redis_cache(60, cache=cache, name="fn", longest_load=0.5)(lambda: 1)
    assert fn.policy.longest_load == 0.5
    assert "longest_load" in lesson.redis_cache.__doc__
    assert "LoaderError" in lesson.redis_cache.__doc__


def test_a_key_is_read_once_however_often_it_is_named(cache: Any) -> None:
    cache.set("a", 1)
    assert cache.get_many(["a", "a"]) == {"a": 1}
    assert (cache.stats.hits, cache.stats.misses) == (1, 0)
    assert cache.get_many(key for key in ("a", "b", "b")) == {"a": 1}
    assert (cache.stats.hits, cache.stats.misses) == (2, 1)
    assert cache.get_many([]) == {}


def test_counts_can_be_copied(cache: Any) -> None:
    cache.get("a")
    assert asdict(cache.stats)["misses"] == 1
    for twin in (copy.deepcopy(cache.stats), pickle.loads(pickle.dumps(cache.stats))):
        assert twin == cache.stats
        twin.add("misses")
        assert (twin.misses, cache.stats.misses) == (2, 1)


@pytest.mark.parametrize("kind", ["redis", "fakeredis"])
def test_an_asyncio_client_is_refused_by_name(kind: str) -> None:
    async def make() -> Any:
        if kind == "redis":
            return redis.asyncio.Redis()
        return fakeredis.FakeAsyncRedis()

    client = asyncio.run(make())
    with pytest.raises(TypeError, match="is an asyncio client: take cache_client"):
        lesson.RedisCache(client)


def test_a_failed_command_leaves_the_programs_logging_alone() -> None:
    server = fakeredis.FakeServer()
    server.connected = False
    cache = lesson.RedisCache(fakeredis.FakeRedis(server=server), "module8:test:")
    root = logging.getLogger()
    handlers = root.handlers[:]
    root.handlers = []  # as in a program that has not set up logging
    try:
        assert cache.get("k") is None
        assert root.handlers == []
    finally:
        root.handlers = handlers


WRAPPED: dict[str, Callable[[Any], Any]] = {
    "encode": lambda value: 1 / 0,
    "not JSON": lambda value: (value,),
}


@pytest.mark.parametrize("encode", WRAPPED)
def test_an_encode_that_fails_costs_the_caller_nothing(
    cache: Any, encode: str, caplog: pytest.LogCaptureFixture
) -> None:
    hooks = {"encode": WRAPPED[encode], "decode": lambda value: value}
    fn = lesson.redis_cache(60, cache=cache, name="fn", **hooks)(lambda: 7)
    assert [fn(), fn()] == [7, 7]
    assert sum("is not cached" in record.message for record in caplog.records) == 1
    assert not cache.client.keys("*lease*")
