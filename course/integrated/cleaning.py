"""`05 --sweep`: what killed runs have left, on all four services."""

from __future__ import annotations

from argparse import Namespace
from contextlib import ExitStack

from course.console import write
from course.integrated.lessons import Lessons, open_back_ends
from course.sweeping import Leftover, sweep, temporary_folders


def sweep_all(lessons: Lessons, args: Namespace) -> int:
    """List what is old on every service that answers; 3 if none does."""
    with ExitStack() as stack:
        back_ends = open_back_ends(lessons, args, stack)
        write(f"backend: {back_ends.backend}")
        found: list[Leftover] = temporary_folders()
        for env in back_ends.all:
            found += env.leftovers()
        code = sweep(found, args.yes)
        return code if any(back_ends.live.values()) else code or 3
