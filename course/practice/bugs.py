"""Bugs to be found: a mutation of the tests, put into a copy of a lesson."""

from __future__ import annotations

import difflib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from course.columns import unbroken
from course.errors import BadInput
from course.files import write_whole
from course.practice.judge import loaded_file
from course.practice.verdicts import SERVICES

RUN_LIMIT = 20.0  # seconds for a lesson, which takes 5 to 10
TIME_TO_CLEAN = 3.0  # seconds more for one that is told to end
LESSONS = ("01", "02", "03", "04", "05")
SECTION = re.compile(r"^# ## (\d+\. .+)$", re.MULTILINE)


@dataclass
class Bug:
    """A bug that a learner looks for; it is kept beside the copy that has it."""

    lesson: str
    place: int  # of its mutation in the list of the lesson's tests
    claim: str  # that it breaks
    level: int  # 1 names the section, 2 the claim, 3 only the lesson
    seed: int
    started: float  # seconds since 1970
    tries: int = 0

    @property
    def minutes(self) -> int:
        """Return the minutes since it was put in, at least 1."""
        return max(1, round((time.time() - self.started) / 60))


@dataclass(frozen=True)
class Run:
    """What a run of a lesson ended with; its exit code is None if it did not end."""

    code: int | None
    printed: str
    complaint: str

    def lines_with(self, mark: str) -> list[str]:
        """Return what stands behind a mark, such as "[FAIL]"."""
        found = re.findall(rf"^  {re.escape(mark)} (.+)$", self.printed, re.MULTILINE)
        return [str(line) for line in found]


def bug_folder(root: Path) -> Path:
    """Return where the copy with the bug is."""
    return root / "exercises" / ".bug"


def mutations_in(root: Path, lesson: str) -> list[Any]:
    """Return the mutations of a lesson, in the order of its tests."""
    tests = root / "tests"
    path = tests / f"lesson_{lesson}" / "mutations.py"
    if not path.is_file():
        raise BadInput(f"{path} is not there: the bugs are the mutations of the tests")
    sys.path.insert(0, str(tests))  # it imports their class from there
    try:
        return list(loaded_file(f"mutations_of_{lesson}", path).MUTATIONS)
    finally:
        sys.path.remove(str(tests))


def mutation_of(root: Path, bug: Bug) -> Any:
    """Return the mutation that a bug is; BadInput if the lesson's list has changed."""
    mutations = mutations_in(root, bug.lesson)
    if bug.place >= len(mutations) or mutations[bug.place].claim != bug.claim:
        raise BadInput(
            f"lesson {bug.lesson} has changed since the bug was put in: "
            f"remove {bug_folder(root)}, and put in another"
        )
    return mutations[bug.place]


def script_of(folder: Path, lesson: str) -> Path:
    """Return the path of a lesson in the project, or in a copy."""
    found = folder.glob(f"{lesson}_*.py")
    if shortest := min(found, key=lambda path: len(path.name), default=None):
        return shortest  # a learner's own copy beside it has a longer name
    raise BadInput(f"{folder}: lesson {lesson} is not there")


def mutated_file(folder: Path, lesson: str, mutation: Any) -> Path:
    """Return the file that a mutation changes."""
    if mutation.file:
        return folder / str(mutation.file)
    return script_of(folder, lesson)


def copied_lesson(root: Path, lesson: str, target: Path) -> None:
    """Copy a lesson and what it needs into a folder that is not there yet."""
    unwanted = shutil.ignore_patterns("__pycache__")
    for name in ("course", "data"):
        if (root / name).is_dir():
            shutil.copytree(root / name, target / name, ignore=unwanted)
    shutil.copy2(script_of(root, lesson), target)


def put_in(folder: Path, lesson: str, mutation: Any) -> bool:
    """Apply a mutation to a copy; tell whether what it changes stands there."""
    path = mutated_file(folder, lesson, mutation)
    text = path.read_text("utf-8")
    if text.count(mutation.old) != mutation.times:
        return False
    path.write_text(text.replace(mutation.old, mutation.new), "utf-8")
    return True


def run_offline(
    folder: Path, lesson: str, *options: str, limit: float | None = None
) -> Run:
    """Run a lesson of a folder on its stand-ins, for so many seconds at most."""
    limit = RUN_LIMIT if limit is None else limit
    variables = dict.fromkeys(SERVICES, "")
    # A stale .pyc would run instead of what was changed within the same second.
    variables |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1"}
    command = [sys.executable, str(script_of(folder, lesson)), "--offline", *options]
    with subprocess.Popen(  # noqa: S603
        command,
        cwd=folder,
        env=os.environ | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    ) as lesson_run:
        try:
            printed, complaint = lesson_run.communicate(timeout=limit)
            code: int | None = lesson_run.returncode
        except subprocess.TimeoutExpired:
            printed = printed_at_its_end(lesson_run)
            complaint = f"no end within {limit:g} seconds"
            code = None
        except BaseException:  # such as Ctrl-C, which has reached it, too
            printed_at_its_end(lesson_run)
            raise
    return Run(code, unbroken(printed), complaint)


def printed_at_its_end(running: subprocess.Popen[str]) -> str:
    """End a lesson, which then removes what it made; return what it has printed."""
    running.terminate()
    try:
        return running.communicate(timeout=TIME_TO_CLEAN)[0]
    except subprocess.TimeoutExpired:
        running.kill()
    try:
        return running.communicate(timeout=TIME_TO_CLEAN)[0]
    except subprocess.TimeoutExpired:  # a process of the lesson holds the pipe open
        return ""


def is_caught(run: Run, mutation: Any) -> bool:
    """Tell whether a run shows that its lesson is mutated."""
    if run.code is None:
        return True
    text = mutation.error or mutation.claim
    failed = [line for line in run.lines_with("[FAIL]") if line.startswith(text)]
    return run.code == 1 and bool(failed)


def lesson_number(typed: str) -> str:
    """Return a lesson's number, from "4" or "04"."""
    number = typed.zfill(2)
    if number not in LESSONS:
        raise BadInput(f"no lesson {typed!r}; there are {', '.join(LESSONS)}")
    return number


def new_bug(root: Path, lesson: str, level: int, seed: int) -> tuple[Bug, Run]:
    """Put a bug that the seed chooses into a fresh copy; return what its demo shows."""
    drawn = random.Random(seed)
    lesson = lesson or drawn.choice(LESSONS)
    mutations = mutations_in(root, lesson)
    offline = [place for place, one in enumerate(mutations) if not one.live]
    drawn.shuffle(offline)
    for place in offline:
        # One that needs a package which is not installed is not seen: take another.
        run = planted(root, lesson, mutations[place])
        if run and is_caught(run, mutations[place]):
            claim = mutations[place].claim
            bug = Bug(lesson, place, claim, level, seed, time.time())
            keep_bug(root, bug)
            return bug, run
    raise BadInput(f"no mutation of lesson {lesson} makes a claim fail here")


def planted(root: Path, lesson: str, mutation: Any) -> Run | None:
    """Make the copy with one mutation; return what its demo shows, if it fits."""
    folder = bug_folder(root)
    remove_bug(root)
    folder.mkdir(parents=True)
    copied_lesson(root, lesson, folder)
    if not put_in(folder, lesson, mutation):
        return None
    return run_offline(folder, lesson, "--only", mutation.demo)


def keep_bug(root: Path, bug: Bug) -> None:
    """Write down which bug the copy has."""
    path = bug_folder(root) / "bug.json"
    write_whole(path, json.dumps(asdict(bug)).encode())


def open_bug(root: Path) -> Bug | None:
    """Return the bug that the learner looks for, if there is one."""
    path = bug_folder(root) / "bug.json"
    try:
        return bug_of(json.loads(path.read_text("utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError, RecursionError):
        raise BadInput(f"{path} cannot be read: remove its folder") from None


def bug_of(kept: dict[str, Any]) -> Bug:
    """Return a bug from what its file holds; raises ValueError or TypeError."""
    bug = Bug(**kept)
    numbers = (bug.place, bug.level, bug.seed, bug.tries)
    if not all(isinstance(number, int) and number >= 0 for number in numbers):
        raise TypeError("numbers")
    if bug.lesson not in LESSONS or not 0 <= bug.started <= time.time():
        raise ValueError(bug.lesson)
    return bug


def remove_bug(root: Path) -> None:
    """Remove the copy with its bug."""
    folder = bug_folder(root)
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():  # on Windows, while a program stands in it
        raise BadInput(f"{folder} cannot be removed: close what has it open")


def section_of(root: Path, lesson: str, mutation: Any) -> str:
    """Return where the bug is: a section of the lesson, or a file behind it."""
    if mutation.file:
        return str(mutation.file)
    text = script_of(root, lesson).read_text("utf-8")
    before = SECTION.findall(text[: text.index(mutation.old)])
    return f"section {before[-1]}" if before else "what stands before section 1"


def change_of(root: Path, bug: Bug) -> list[str]:
    """Return what the bug had changed, as the lines of a difference."""
    mutation = mutation_of(root, bug)
    path = mutated_file(root, bug.lesson, mutation)
    text = path.read_text("utf-8")
    broken = text.replace(mutation.old, mutation.new)
    name = path.relative_to(root).as_posix()
    lines = difflib.unified_diff(
        broken.splitlines(), text.splitlines(), f"{name}, with the bug", name, n=2
    )
    return [line.rstrip("\n") for line in lines]
