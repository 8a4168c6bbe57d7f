"""The eviction policies of the guide's chapter 3, against oracles."""

from __future__ import annotations

import functools
import importlib.util
import sys
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from lessons import ROOT


def eviction_policies() -> Any:
    """Import the program, whose folder is on the path only when it runs."""
    path = ROOT / "benchmarks" / "eviction_policies.py"
    spec = importlib.util.spec_from_file_location("eviction_policies", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


eviction = eviction_policies()
relaxed = settings(deadline=None)
traces = st.lists(st.integers(0, 6), min_size=1, max_size=40)


@relaxed
@given(traces, st.integers(1, 5))
def test_the_lru_of_the_simulation_is_functools(trace: list[int], size: int) -> None:
    cached = functools.lru_cache(maxsize=size)(lambda key: key)
    for key in trace:
        cached(key)
    hits = round(eviction.hit_rate(trace, size, "LRU") * len(trace))
    assert hits == cached.cache_info().hits


@relaxed
@given(st.lists(st.integers(0, 4), min_size=1, max_size=9), st.integers(1, 3))
def test_the_optimum_is_that_of_brute_force(trace: list[int], size: int) -> None:
    @functools.cache
    def best(now: int, held: frozenset[int]) -> int:
        if now == len(trace):
            return 0
        key = trace[now]
        if key in held:
            return 1 + best(now + 1, held)
        if len(held) < size:
            return best(now + 1, held | {key})
        return max(best(now + 1, held - {victim} | {key}) for victim in held)

    hits = round(eviction.hit_rate(trace, size, "optimum") * len(trace))
    assert hits == best(0, frozenset())
    for policy in ("LRU", "LFU"):
        assert eviction.hit_rate(trace, size, policy) * len(trace) <= hits + 1e-9


def test_tinylfu_beats_lru_always_and_lfu_when_favourites_change() -> None:
    rates = eviction.rates()
    steady = {policy: shares[0] for policy, shares in rates.items()}
    changing = {policy: shares[1] for policy, shares in rates.items()}
    assert steady["LRU"] < steady["TinyLFU"] <= steady["optimum"]
    assert max(changing["LRU"], changing["LFU"]) < changing["TinyLFU"]
    assert changing["TinyLFU"] <= changing["optimum"]
