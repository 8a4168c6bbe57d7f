"""`05 --integrated` begins here: all lessons are loaded, then the shop is opened."""

from __future__ import annotations

import argparse

from course.integrated.lessons import load_lessons


def integrated(args: argparse.Namespace) -> int:
    """Run all five lessons as one system; return the exit code.

    `args` has offline, require_live, customers, workers and chaos, as lesson 05 reads
    them from the command line.
    """
    lessons = load_lessons()
    # After the lessons, which say in one line what is not installed.
    from course.integrated.cleaning import sweep_all  # noqa: PLC0415
    from course.integrated.system import run_system  # noqa: PLC0415

    if args.sweep:
        return sweep_all(lessons, args)
    return run_system(lessons, args)
