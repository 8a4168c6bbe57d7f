"""Lesson 03's values and keys: what may go into Redis, and what comes out."""

from __future__ import annotations

import functools
import json
import math
import random
import uuid
from collections.abc import Callable
from typing import Any

import fakeredis
import numpy
import pytest
import services
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lessons import load

from course.caching.codec import SCHEMA, strict
from course.caching.policy import Policy

lesson = load("03")
relaxed = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)

foreign = st.sampled_from(
    [(1, 2), {1: 2}, {None: 1}, {3}, b"x", 1j, object(), numpy.float64(0.5)]
)


@relaxed
@given(json_values | foreign | st.lists(json_values | foreign, max_size=3))
def test_a_value_comes_back_exactly_or_is_refused(value: Any) -> None:
    cache = lesson.RedisCache(fakeredis.FakeRedis(), "module8:test:")
    try:
        cache.set("key", value)
    except TypeError as error:
        assert "JSON would change" in str(error)
        assert not _is_plain(value)
    else:
        assert repr(cache.get("key")) == repr(value)  # types and signs of zero too
        assert _is_plain(value)


def test_two_halves_of_a_character_do_not_come_back_as_that_character() -> None:
    cache = lesson.RedisCache(fakeredis.FakeRedis(), "module8:test:")
    halves = "\ud83d\ude00"
    for value in (halves, [1, {"a": f"x{halves}"}], {halves: 1}):
        with pytest.raises(TypeError, match="two surrogates, which JSON would join"):
            cache.set("key", value)
    for value in ("\U0001f600", "\ud83d", "\ude00\ud83d", "\\ud83d\\ude00"):
        assert cache.set("key", value)
        assert cache.get("key") == value
    cached = lesson.redis_cache(cache=cache, name="f")(lambda text: len(text["a"]))
    assert [cached({"a": halves}), cached({"a": "\U0001f600"})] == [2, 1]


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(type(k) is str for k in value) and all(
            map(_is_plain, value.values())
        )
    if type(value) is list:
        return all(map(_is_plain, value))
    return type(value) in (type(None), bool, int, str) or (
        type(value) is float and math.isfinite(value)
    )


def test_a_refusal_names_the_place() -> None:
    with pytest.raises(TypeError, match=r"result\['rows'\]\[1\] is \(1, 2\) \(tuple\)"):
        strict({"rows": [1, (1, 2)]})


@relaxed
@given(st.binary() | st.text() | st.binary(min_size=1, max_size=3))
def test_keys_hold_any_bytes(key: bytes | str) -> None:
    cache = lesson.RedisCache(fakeredis.FakeRedis(), "module8:test:")
    assert cache.set(key, 1)
    assert cache.get(key) == 1
    assert cache.delete(key, b"another") == 1
    assert cache.get(key) is None


@relaxed
@given(
    st.binary()
    | st.builds(lambda value: json.dumps(value).encode(), json_values)
    | st.dictionaries(
        st.sampled_from(["v", "generation", "created", "expires", "delta", "value"]),
        st.sampled_from([1, "", None, [], "x", 2.5]),
    ).map(lambda value: json.dumps(value).encode())
)
def test_a_foreign_payload_is_a_miss(payload: bytes) -> None:
    cache = lesson.RedisCache(fakeredis.FakeRedis(), "module8:test:")
    cache.client.set(cache.name("value", "key"), payload)
    missing = object()
    found = cache.get("key", missing)
    if found is not missing:  # by chance a whole envelope
        assert {"v", "generation", "created", "expires", "delta", "value"} <= set(
            json.loads(payload)
        )


def test_deep_nesting_and_other_schemas_are_misses(cache: Any) -> None:
    name = cache.name("value", "key")
    cache.client.set(name, b"[" * 100_000)
    assert cache.get("key") is None
    assert cache.stats.corrupt == 1
    cache.set("key", "value")
    envelope = json.loads(cache.client.get(name))
    assert set(envelope) == {
        "sum", "v", "generation", "created", "expires", "delta", "value",
    }  # fmt: skip
    cache.client.set(name, json.dumps(envelope | {"v": SCHEMA - 1}))
    assert cache.get("key") is None
    assert cache.stats.corrupt == 1  # old, not corrupt


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"ttl": 0}, "ttl is above 0, at most 30 days, not 0"),
        ({"ttl": -1}, "not -1"),
        ({"ttl": math.inf}, "not inf"),
        ({"none_ttl": 0}, "none_ttl is above 0"),
        ({"longest_load": 0}, "longest_load is above 0"),
        ({"jitter": 1}, "jitter is in"),
        ({"beta": -1}, "beta and grace"),
        ({"grace": -1}, "beta and grace"),
        ({"grace": math.inf}, "ttl and grace are at most 30 days together"),
        ({"encode": repr}, "encode and decode go together"),
        ({"none_ttl": 9, "grace": 30 * 86_400 - 3599}, "30 days together"),
    ],
)
def test_policies_that_make_no_sense_are_refused(
    arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        Policy(**arguments)
    if set(arguments) == {"ttl"}:
        with pytest.raises(ValueError, match=says):
            lesson.redis_cache(**arguments)


def test_a_client_that_does_not_fit_is_refused() -> None:
    for ours in (lesson.RedisCache, lesson.NearCache):
        decoding = fakeredis.FakeRedis(decode_responses=True, protocol=2)
        with pytest.raises(ValueError, match="leave out decode_responses"):
            ours(decoding, "module8:test:")
    for client in (fakeredis.FakeRedis(), fakeredis.FakeRedis(protocol=3)):
        with pytest.raises(ValueError, match="RESP3: take cache_client"):
            lesson.NearCache(client, "module8:test:")


def test_an_evicted_generation_revives_nothing(cache: Any) -> None:
    cache.set("k", "old")
    cache.bump()
    cache.set("j", "new")
    cache.client.delete(cache.generation)  # as a full Redis evicts it
    assert cache.get_many(["k", "j"]) == {}
    assert cache.get_or_load("k", lambda: "new", Policy()) == "new"
    assert cache.get_many(["k", "j"]) == {"k": "new"}


def test_keys_of_calls(cache: Any) -> None:
    @lesson.redis_cache(60, cache=cache, name="model-1")  # type: ignore[untyped-decorator]
    def predict(user: object, limit: int = 3) -> str:
        return repr(user)

    same = [predict.key(7), predict.key(7, 3), predict.key(limit=3, user=7)]
    other = [predict.key(7.0), predict.key(True), predict.key("7"), predict.key([7])]
    assert len(set(same)) == 1
    assert len({*same, *other, predict.key(1)}) == 6
    assert all(key.startswith("model-1:") for key in same + other)
    with pytest.raises(TypeError, match=r"argument\[0\] is \(7,\)"):
        predict((7,))
    assert [predict(1), predict(1.0), predict(True)] == ["1", "1.0", "True"]


def module_of(name: str, answer: str) -> Any:
    """Return the function get_user of a module of this name."""
    scope: dict[str, Any] = {"__name__": name}
    exec(f"def get_user(n):\n    return {answer!r}", scope)
    return scope["get_user"]


def test_functions_of_one_name_in_two_modules_share_nothing(cache: Any) -> None:
    one, two = (
        lesson.redis_cache(60, cache=cache)(module_of(name, name))
        for name in ("shop.users", "blog.users")
    )
    assert [one(1), two(1), one(1), two(1)] == ["shop.users", "blog.users"] * 2
    assert one.key(1).startswith("shop.users.get_user:")


def test_what_has_no_name_of_its_own_must_be_given_one(cache: Any) -> None:
    def local(n: int) -> int:
        return n

    half: Any = functools.partial(divmod, 7)
    unnamed: list[Any] = [local, lambda n: n, random.Random(8).choice, [].count, half]
    for fn in unnamed:
        with pytest.raises(TypeError, match="give it a name="):
            lesson.redis_cache(60, cache=cache)(fn)
    named = lesson.redis_cache(60, cache=cache, name="half")(functools.partial(pow, 2))
    assert [named(3), named(3), cache.stats.hits] == [8, 8, 1]
    assert lesson.redis_cache(60, cache=cache)(json.dumps)(1) == "1"


def test_a_ttl_overrides_the_policy_only_when_given(cache: Any, clock: Any) -> None:
    policy = Policy(ttl=60, beta=0)
    for ttl, lives in ((None, 60), (600, 600)):
        fn = lesson.redis_cache(ttl, cache=cache, name=f"{ttl}", policy=policy)(
            lambda: uuid.uuid4().hex
        )
        first = fn()
        clock.now += lives - 1
        assert fn() == first
        clock.now += 1
        assert fn() != first


def test_the_default_cache_is_that_of_redis_url(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{services.free_port()}/0")
    lesson.default_cache.cache_clear()

    @lesson.redis_cache(ttl=60, name="fn")  # type: ignore[untyped-decorator]
    def fn(x: int) -> int:
        return x + 1

    assert [fn(1), fn(1)] == [2, 2]  # nobody is there: it fails open
    assert lesson.default_cache().stats.errors == 3
    lesson.default_cache.cache_clear()


def test_many_keys_take_one_round_trip(cache: Any) -> None:
    keys = [f"user:{number}" for number in range(100)]
    for key in keys:
        cache.set(key, key, ttl=60)
    found: dict[str, Any] = {}
    assert lesson.commands_sent(cache, lambda: [cache.get(key) for key in keys]) == 100
    assert lesson.commands_sent(cache, lambda: found.update(cache.get_many(keys))) == 1
    assert found == dict(zip(keys, keys, strict=True))


def test_calls_of_a_wrapper_are_bound_as_the_wrapper_takes_them(cache: Any) -> None:
    def with_session(fn: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fn)
        def call(*args: Any, **kwargs: Any) -> Any:
            return fn("session", *args, **kwargs)

        return call

    @lesson.redis_cache(60, cache=cache, name="user-1")  # type: ignore[untyped-decorator]
    @with_session
    def load_user(session: str, user: int) -> list[object]:
        return [session, user]

    assert [load_user(7), load_user(7)] == [["session", 7]] * 2
    assert cache.stats.hits == 1


STEPS = (
    lesson.JsonCache,
    lesson.LoadingCache,
    lesson.LeasedCache,
    lesson.RefreshingCache,
)


def test_each_step_of_the_cache_does_what_the_one_before_does() -> None:
    for step in STEPS:
        cache = step(fakeredis.FakeRedis(), "module8:test:")
        assert cache.set("k", {"n": 1})
        assert [cache.get("k"), cache.get("other", "none")] == [{"n": 1}, "none"]
        assert [cache.delete("k", "other"), cache.delete("k")] == [1, 0]
        for key in ("u:1", "u:2", "v:1"):
            cache.set(key, key)
        assert cache.clear_pattern("u:*") == 2
        assert cache.get_many(["u:1", "v:1"]) == {"v:1": "v:1"}
        cache.bump()
        assert cache.get("v:1") is None
