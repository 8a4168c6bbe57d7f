"""`05 --sweep`: what killed runs have left, on all four services."""

from __future__ import annotations

from argparse import Namespace
from contextlib import ExitStack

from course.console import told_at_once, write
from course.ending import apart, held, interruptible
from course.integrated.lessons import BackEnds, Lessons, open_back_ends
from course.naming import folder_of_the_run
from course.sweeping import Leftover, sweep, temporary_folders


def sweep_all(lessons: Lessons, args: Namespace) -> int:
    """List what is old on every service that answers; 3 if none does."""
    with held(), folder_of_the_run(), ExitStack() as stack:
        back_ends = open_back_ends(lessons, args, stack)
        with told_at_once(), interruptible():
            write(f"backend: {back_ends.backend}")
            code = apart(sweep_these, back_ends, args.yes)
            return code if any(back_ends.live.values()) else code or 3


def sweep_these(back_ends: BackEnds, really: bool) -> int:
    """List what is old, or remove it."""
    found: list[Leftover] = temporary_folders()
    for env in back_ends.all:
        found += env.leftovers()
    return sweep(found, really)
