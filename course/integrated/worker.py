"""A worker: a process that consumes all queues, started by `--as-worker`."""

from __future__ import annotations

import sys
from contextlib import ExitStack

from course.integrated.lessons import load_lessons
from course.integrated.task import task_of


def work() -> int:
    """Consume all queues until stdin ends, as its first line says; return 0."""
    line = sys.stdin.readline()
    if not line:
        return 0  # whoever started us is gone already
    lessons = load_lessons()
    # After the lessons, which say in one line what is not installed.
    from course.integrated.desks import open_desks  # noqa: PLC0415

    with ExitStack() as stack:
        open_desks(lessons, task_of(line), stack)
        sys.stdin.read()  # ends with our parent, however that ends
    return 0
