"""How benchmarks time: side by side in one process, repeats interleaved, medians."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence


def seconds(
    contestants: Mapping[str, Callable[[], object]], repeats: int = 5
) -> dict[str, list[float]]:
    """Return each contestant's times in seconds, sorted.

    The rounds are interleaved (a, b, c, a, b, c, ...), so that a busy moment of a
    shared machine falls on all of them and the ratios stay fair.
    """
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, run in contestants.items():
            gc.collect()
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: sorted(values) for name, values in times.items()}


def median(values: Sequence[float]) -> float:
    """Return the median time."""
    return statistics.median(values)


def markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table, the first column to the left, others right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
