"""What an eviction policy is worth: hit rates beside the best that is possible.

Prints Markdown, the same on every machine: two seeded traces of 8,000 requests for
1,000 keys, on a cache with 50 places. Nothing is timed.

Run:  python benchmarks/eviction_policies.py
"""

from __future__ import annotations

import math
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import measure

POLICIES = ("LRU", "LFU", "TinyLFU", "optimum")


# region eviction
def hit_rate(trace: Sequence[int], size: int, policy: str) -> float:
    """Return the share of hits of a cache with `size` places.

    TinyLFU (Einziger, Friedman, Manes 2017): LRU, but a newcomer must have been
    asked for more often, of late, than what it would evict. "optimum" is Belady's:
    evict what is needed last, which takes knowing the future.
    """
    upcoming: defaultdict[int, list[float]] = defaultdict(lambda: [math.inf])
    for moment in reversed(range(len(trace))):
        upcoming[trace[moment]].append(moment)
    used: dict[int, int] = {}
    asked: Counter[int] = Counter()
    hits = 0
    worth: dict[str, Callable[[int], float]] = {
        "LRU": lambda key: used[key],
        "TinyLFU": lambda key: used[key],
        "LFU": lambda key: asked[key],
        "optimum": lambda key: -upcoming[key][-1],
    }
    for now, key in enumerate(trace):
        upcoming[key].pop()
        asked[key] += 1
        if policy == "TinyLFU" and now % (10 * size) == 0:  # old fame fades
            asked = Counter({k: n // 2 for k, n in asked.items() if n > 1})
        if key in used:
            hits += 1
        elif len(used) == size:
            victim = min(used, key=worth[policy])
            if policy == "TinyLFU" and asked[key] <= asked[victim]:
                continue
            del used[victim]
        used[key] = now
    return hits / len(trace)


# endregion eviction


def traces() -> dict[str, list[int]]:
    """Return a skewed trace, and the same with new favourites in its second half."""
    dice = random.Random(8)
    weights = [1 / (rank + 1) for rank in range(1000)]
    zipf = dice.choices(range(1000), weights, k=8000)
    shifted = [key if now < 4000 else key + 1000 for now, key in enumerate(zipf)]
    return {"Zipf": zipf, "Zipf, new favourites half-way": shifted}


def rates(size: int = 50) -> dict[str, list[int]]:
    """Return the hit rates of each policy in percent, by the traces."""
    found = {}
    for policy in POLICIES:
        shares = [hit_rate(trace, size, policy) for trace in traces().values()]
        found[policy] = [round(100 * share) for share in shares]
    return found


def main() -> int:
    """Print the table; return the exit code."""
    print("Hit rates in percent, 50 places for 1,000 keys, 8,000 requests:\n")
    rows = [(name, *map(str, shares)) for name, shares in rates().items()]
    print(measure.markdown(("policy", *traces()), rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
