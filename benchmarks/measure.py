"""How benchmarks time: side by side in one process, repeats in turns, medians."""

from __future__ import annotations

import gc
import logging
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from course.columns import visible
from course.ending import complain
from course.errors import BadInput, NoService
from course.services import log_to_stderr, redact


def shuffled(names: Iterable[str], number: int) -> list[str]:
    """Return the order of a round, another one in each, and the same in each run.

    What one contestant leaves behind, such as messages on their way or a full cache of
    the processor, would else always fall on the same next one.
    """
    order = list(names)
    random.Random(number).shuffle(order)
    return order


def seconds(
    contestants: Mapping[str, Callable[[], object]], repeats: int = 5
) -> dict[str, list[float]]:
    """Return each contestant's times in seconds, sorted.

    All take a turn in each round, so that a busy moment of a shared machine falls on
    all of them and the ratios stay fair.
    """
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(repeats):
        for name in shuffled(contestants, number):
            gc.collect()
            start = time.perf_counter()
            contestants[name]()
            times[name].append(time.perf_counter() - start)
    return {name: sorted(values) for name, values in times.items()}


def versions(*packages: str) -> str:
    """Return a sentence with the version of each package of a table."""
    known = []
    for package in packages:
        try:
            known.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            known.append(f"{package} not installed")
    return f"With {', '.join(known)}."


def median(values: Sequence[float]) -> float:
    """Return the median time."""
    return statistics.median(values)


def markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table, the first column to the left, others right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def numbers_given(*usual: int) -> list[int]:
    """Return the numbers of the command line, or the usual ones in their place."""
    given = list(usual)
    for position, text in enumerate(sys.argv[1 : len(usual) + 1]):
        if not (text.isascii() and text.isdigit() and int(text) > 0):
            raise BadInput(f"argument {position + 1} is not a number above zero")
        given[position] = int(text)
    return given


def ended_well(main: Callable[[], int]) -> int:
    """Run a benchmark; return its exit code, 2 for what is to be corrected.

    What goes wrong otherwise shows its traceback, without a secret.
    """
    log_to_stderr(logging.CRITICAL)
    try:
        return main()
    except (BadInput, NoService) as problem:
        complain(f"{Path(sys.argv[0]).name}: {visible(redact(problem))}")
        return 2 if isinstance(problem, BadInput) else 3
