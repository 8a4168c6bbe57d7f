"""The exercises in their folders, and which one a learner means."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from course.errors import BadInput

HINTS = 3  # of each exercise
FOLDER_NAME = re.compile(r"(0[1-5])_(\d+)_[a-z0-9_]+")


@dataclass(frozen=True)
class Exercise:
    """A folder of exercises/, and what its task says of it."""

    number: int  # its place in the list, from 1
    folder: Path
    title: str
    minutes: int

    @property
    def name(self) -> str:
        """Return its folder's name, such as 03_2_one_load_two_keys."""
        return self.folder.name

    @property
    def lesson(self) -> str:
        """Return its lesson's number, such as 03."""
        return self.name[:2]

    @property
    def answer(self) -> Path:
        """Return the file that the learner writes."""
        return self.folder / "answer.py"

    @property
    def solution(self) -> Path:
        """Return the file with a full answer."""
        return self.beside("solutions")

    @property
    def stub(self) -> Path:
        """Return the copy of the answer's file as it was before the learner wrote."""
        return self.beside("stubs")

    def beside(self, kind: str) -> Path:
        """Return its file of a kind, out of the learner's way."""
        project = self.folder.parent.parent
        return project / "tests" / "exercises" / kind / f"{self.name}.py"

    def text(self, name: str) -> str:
        """Return the text of a file in its folder."""
        try:
            return (self.folder / name).read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            where = f"exercises/{self.name}/{name}"
            raise BadInput(f"{where} is missing, or is not UTF-8") from None


def order_of(folder: Path) -> tuple[str, int, str]:
    """Return what the exercises are sorted by: lesson, section, name."""
    lesson, section, _ = folder.name.split("_", 2)
    return lesson, int(section), folder.name


def exercises_in(root: Path) -> list[Exercise]:
    """Return the exercises of a project, in the order of lessons and sections."""
    found = [
        folder
        for folder in (root / "exercises").glob("*")
        if FOLDER_NAME.fullmatch(folder.name) and (folder / "task.md").is_file()
    ]
    exercises = []
    for number, folder in enumerate(sorted(found, key=order_of), start=1):
        task = (folder / "task.md").read_text("utf-8")
        head = re.match(r"# (.+)\n\s*Minutes: (\d+)\n", task)
        if head is None:
            where = f"exercises/{folder.name}/task.md"
            raise BadInput(f"{where}: it begins with `# Title` and `Minutes: 20`")
        exercises.append(Exercise(number, folder, head[1], int(head[2])))
    return exercises


def named_exercise(typed: str, exercises: list[Exercise]) -> Exercise:
    """Return the exercise that a number, a path, or a part of its name stands for."""
    if re.fullmatch("[1-9][0-9]?", typed):
        found = [one for one in exercises if one.number == int(typed)]
    else:
        word = word_of(typed)
        found = [one for one in exercises if one.name == word]
        found = found or [one for one in exercises if one.name.startswith(word)]
        found = found or [one for one in exercises if word in one.name]
    if not found:
        raise BadInput(f"no exercise is called {typed!r}: practice.py lists them")
    if len(found) > 1:
        names = ", ".join(one.name for one in found[:4])
        more = ", ..." if len(found) > 4 else ""
        raise BadInput(f"{typed!r} may be {names}{more}: type more of the name")
    return found[0]


def word_of(typed: str) -> str:
    """Return the name in what may be a path, as a shell completes it."""
    parts = re.split(r"[/\\]", typed.rstrip("/\\"))
    if parts[-1] in ("answer.py", "task.md") and len(parts) > 1:
        return parts[-2]
    return parts[-1] or typed


def hints_in(exercise: Exercise) -> list[str]:
    """Return the hints of an exercise, in order."""
    parts = re.split(r"^## \d+ *\n", exercise.text("hints.md"), flags=re.MULTILINE)
    return [part.strip() for part in parts[1:]]
