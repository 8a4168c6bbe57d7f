"""What a learner has done so far, in a file that is written whole or not at all."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from course.ending import complain
from course.errors import BadInput
from course.files import write_whole

OPEN = "open"
TRIED = "tried"
RIGHT = "right"
SKIPPED = "skipped"
STATES = (OPEN, TRIED, RIGHT, SKIPPED)


UNREADABLE = (
    OSError,
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
    RecursionError,  # of JSON that is nested too deeply
)


THE_BUG = "bug"  # what is under way where no exercise is


@dataclass
class Standing:
    """How far a learner is with one exercise; times are in seconds since 1970."""

    state: str = OPEN
    tries: int = 0
    hints: int = 0  # that were shown
    started: float = 0.0  # 0 if it was not
    finished: float = 0.0
    gave_up: bool = False

    @property
    def minutes(self) -> int:
        """Return the minutes from its start to the first right answer, 0 before."""
        if not self.started or not self.finished:
            return 0
        return max(1, round((self.finished - self.started) / 60))


@dataclass
class Progress:
    """All that is kept: standings by exercise, the one under way, the bugs found."""

    exercises: dict[str, Standing] = field(default_factory=dict)
    current: str = ""  # an exercise's name, or THE_BUG
    bugs: list[dict[str, Any]] = field(default_factory=list)

    def of(self, name: str) -> Standing:
        """Return the standing of an exercise, to be read or changed."""
        return self.exercises.setdefault(name, Standing())


def progress_file(exercises: Path) -> Path:
    """Return where the progress is kept, in a folder of exercises."""
    return exercises / ".progress.json"


def progress_in(exercises: Path) -> Progress:
    """Read the progress; a broken file is named in one line and counts as empty."""
    try:
        return read_progress(exercises)
    except UNREADABLE as error:
        path = progress_file(exercises)
        kind = type(error).__name__
        complain(f"{path}: cannot be read ({kind}), so it counts as empty")
        return Progress()


def read_progress(exercises: Path) -> Progress:
    """Read the progress, empty where there is no file; raises one of UNREADABLE."""
    try:
        text = progress_file(exercises).read_text("utf-8")
    except FileNotFoundError:
        return Progress()
    return progress_of(json.loads(text))


def progress_of(kept: dict[str, Any]) -> Progress:
    """Return the progress from what its file holds; raises one of UNREADABLE."""
    progress = Progress(current=str(kept["current"]))
    for bug in kept["bugs"]:
        progress.bugs.append({**bug, "found": bool(bug["found"])})
    for name, values in kept["exercises"].items():
        standing = Standing(**values)
        if not (isinstance(standing.tries, int) and isinstance(standing.hints, int)):
            raise TypeError(name)
        if not math.isfinite(standing.started + standing.finished):
            raise ValueError(name)
        if standing.state not in STATES:
            raise ValueError(name)
        progress.exercises[name] = standing
    return progress


def set_aside_if_broken(path: Path) -> None:
    """Rename a file that cannot be read: what is in it may be mended by hand."""
    try:
        progress_of(json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        return
    except UNREADABLE:
        path.replace(path.with_name(".progress.broken.json"))


def keep(progress: Progress, exercises: Path) -> None:
    """Write the progress, and keep aside what cannot be read."""
    path = progress_file(exercises)
    text = json.dumps(asdict(progress), indent=1)
    try:
        set_aside_if_broken(path)
        write_whole(path, f"{text}\n".encode())
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise BadInput(f"{path} cannot be written: {why}") from None


def begin(progress: Progress, name: str) -> Standing:
    """Make an exercise the one under way; its clock starts the first time."""
    progress.current = name
    standing = progress.of(name)
    standing.started = standing.started or time.time()
    return standing
