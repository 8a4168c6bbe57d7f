"""Waiting for a count to grow, under a progress bar on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import Progress

from course.integrated.task import LIMIT

PAUSE = 0.1  # seconds between two looks, each of which asks a service


def reach(what: str, count: Callable[[], int], goal: int) -> None:
    """Wait until a count gets to its goal; TimeoutError if it stands still.

    How long everything may take depends on the machine; so each step forward gives it
    LIMIT seconds more.
    """
    most = -1
    deadline = time.monotonic() + LIMIT
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=goal)
        while True:
            now = count()
            bar.update(task, completed=min(now, goal))
            if now >= goal:
                return
            if now > most:
                most = now
                deadline = time.monotonic() + LIMIT
            elif time.monotonic() > deadline:
                raise TimeoutError(f"{what}: {now} of {goal}, and nothing moves")
            time.sleep(PAUSE)
