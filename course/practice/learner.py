"""What every command of practice.py works with."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from course.columns import visible
from course.console import write
from course.ending import printing
from course.errors import BadInput
from course.practice.exercises import Exercise, exercises_in, named_exercise
from course.practice.progress import (
    RIGHT,
    SKIPPED,
    UNREADABLE,
    Progress,
    keep,
    progress_in,
    read_progress,
)
from course.start import from_here

CALL = "python practice.py"  # as a learner types it


class Learner:
    """The exercises of a project and how far its learner is."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.exercises = exercises_in(root)
        self.progress: Progress = progress_in(self.folder)

    @property
    def folder(self) -> Path:
        """Return the folder of the exercises."""
        return self.root / "exercises"

    def keep(self) -> None:
        """Write the progress."""
        self.folder.mkdir(exist_ok=True)
        keep(self.progress, self.folder)

    def read_again(self) -> None:
        """Read the progress again: another terminal may have changed it.

        What cannot be read was named the first time.
        """
        with suppress(*UNREADABLE):
            self.progress = read_progress(self.folder)

    def state(self, exercise: Exercise) -> str:
        """Return the state of an exercise."""
        return self.progress.of(exercise.name).state

    def next(self) -> Exercise | None:
        """Return the first exercise that is neither right nor skipped."""
        for exercise in self.exercises:
            if self.state(exercise) not in (RIGHT, SKIPPED):
                return exercise
        return None

    def named(self, typed: str) -> Exercise | None:
        """Return the exercise that was typed, None if none was."""
        return named_exercise(typed, self.exercises) if typed else None

    def last(self) -> Exercise | None:
        """Return the exercise that the learner dealt with last."""
        for exercise in self.exercises:
            if exercise.name == self.progress.current:
                return exercise
        return None

    def under_way(self, typed: str) -> Exercise:
        """Return the exercise that was typed, or the one under way, or the next."""
        last = self.last()
        is_over = last is None or self.state(last) in (RIGHT, SKIPPED)
        return self.chosen(typed, None if is_over else last)

    def chosen(self, typed: str, otherwise: Exercise | None) -> Exercise:
        """Return the exercise that was typed, or another, or the next one."""
        chosen = self.named(typed) or otherwise or self.next()
        if chosen is None:
            raise BadInput("no exercise is left: name one, practice.py lists them")
        return chosen

    def show_next(self) -> None:
        """Name the next exercise, and the command that opens it."""
        if exercise := self.next():
            write()
            write(f"next: {exercise.title} ({exercise.minutes} minutes)")
            write(f"  {CALL} start {exercise.name}")


@dataclass(frozen=True)
class Command:
    """A word behind `practice.py`; `run` returns the exit code."""

    name: str
    summary: str
    run: Callable[[Learner, argparse.Namespace], int]
    options: Callable[[argparse.ArgumentParser], None] | None = None


def typed_path(path: Path) -> str:
    """Return a path as one would type it here."""
    return from_here(path).replace(os.sep, "/")


def expanded(typed: Sequence[str]) -> list[str]:
    """Return paths, for a name such as *.json those it fits: Windows leaves it so."""
    found: list[str] = []
    for one in typed:
        fitting: list[Path] = []
        if re.search(r"[*?[]", one) and not Path(one).exists():
            start = Path(Path(one).anchor)
            with suppress(ValueError):  # of what is no pattern
                fitting = sorted(start.glob(str(Path(one).relative_to(start))))
        found += [str(path) for path in fitting] or [one]
    return found


def write_text(text: str) -> None:
    """Print a text as its file has it: long lines are the terminal's to break."""
    for line in text.rstrip().splitlines():
        with printing("stdout"):
            print(visible(line))
