"""Tries mutants: a copy of the project, the tests that reach a function, a verdict.

Which test module reaches which function is measured once, by coverage and with the
lessons that tests run as processes of their own. What was measured is kept in
.mutants/, and measured again where the module has changed: remove the folder after the
course has changed much.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from pathlib import Path

import coverage

from tools.mutants_finding import ROOT, Function, Mutant, functions_of, sources

REACH = ROOT / ".mutants" / "reach.json"
GOLDEN = "tests/test_lessons.py::test_it_runs_alone_and_prints_the_golden_output"
OF_ALL = "tests/test_lessons.py"
# What compares texts would notice each change, and a mutation may not find its place.
NOT_MUTATIONS = "not mutation and not uv_installs and not cells"
NOT_THESE = {"test_house.py", "test_standalone.py", "test_start.py", "test_notebook.py"}
TALK_TO_SERVERS = re.compile("contract|faults|live|pooler|rights|integrated|crash|cut")
PER_TEST = 120  # seconds; a test that hangs has noticed
LEAST = 90.0  # seconds for some tests, on a busy machine
USUAL = 20.0  # seconds for a test module
MOST_NAMING = 3
QUICK = 2  # stages: demos, units
FACTOR = 6  # times what they took without a mutant
TAG = "MUTANTS_COPY"
FAILED = re.compile(r"^(?:FAILED|ERROR) (tests/\S+?\.py(?:::.+?)?)(?: - .*)?$", re.M)


@dataclass
class Reach:
    """What a test module reached when it was measured, and how long that took."""

    text: str  # a hash of the module
    seconds: float
    functions: list[str]


@dataclass
class Outcome:
    """How some tests ended."""

    failed: list[str]
    late: bool
    printed: str

    @property
    def passed(self) -> bool:
        """Tell whether nothing was noticed."""
        return not self.failed and not self.late


def hash_of(path: Path) -> str:
    """Return a short hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def files() -> list[str]:
    """Return the project's files, without what git ignores."""
    asked = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    found = subprocess.run(asked, cwd=ROOT, capture_output=True, check=True).stdout
    names = [name for name in found.decode().split("\0") if name]
    return [name for name in names if (ROOT / name).is_file()]


def processes_of(folder: Path) -> Iterator[int]:
    """Yield the processes that tests in a copy have started and left, on Linux."""
    tag = f"{TAG}={folder}".encode()
    for place in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if tag in place.read_bytes().split(b"\0"):
                yield int(place.parent.name)


@dataclass
class Copy:
    """A copy of the project in a folder of its own, where one file may be changed."""

    folder: Path
    changed: str = ""
    stamp: int = field(default_factory=lambda: int(time.time()))

    def fill(self) -> None:
        """Copy the project's files, and link its Python."""
        for name in files():
            target = self.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
        (self.folder / ".venv").symlink_to(sys.prefix)

    def write(self, file: str, text: str) -> None:
        """Change a file; its time of modification is one that no bytecode has seen."""
        self.stamp += 2
        path = self.folder / file
        path.write_text(text, "utf-8")
        os.utime(path, (self.stamp, self.stamp))

    def mutate(self, mutant: Mutant | None) -> None:
        """Put a mutant in, after the one before is out."""
        if self.changed:
            self.write(self.changed, (ROOT / self.changed).read_text("utf-8"))
        self.changed = ""
        if mutant:
            self.changed = mutant.function.file
            self.write(self.changed, mutant.text)

    def refresh(self) -> None:
        """Take over tests that were written in the meantime."""
        for name in files():
            if name.startswith("tests/"):
                target = self.folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, target)

    def environment(self) -> dict[str, str]:
        """Return the variables for tests: temporary files of their own, and a mark."""
        temporary = self.folder / "t"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        return os.environ | {"TMPDIR": str(temporary), TAG: str(self.folder)}

    def run(self, command: list[str], limit: float) -> tuple[bool, str]:
        """Run a command here; return whether it came to an end, and what it printed."""
        env = self.environment()
        output = self.folder / "t" / "output"
        with output.open("wb") as file:
            started = subprocess.Popen(
                command,
                cwd=self.folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            late = False
            try:
                started.wait(limit)
            except subprocess.TimeoutExpired:
                late = True
            finally:  # also where Ctrl-C ends this run
                for process in {started.pid, *processes_of(self.folder)}:
                    with suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
                started.wait()
        return not late, output.read_text("utf-8", errors="replace")

    def test(self, chosen: list[str], limit: float) -> Outcome:
        """Run tests until the first fails."""
        command = [sys.executable, *pytest_command(chosen), "-x"]
        ended, printed = self.run(command, limit)
        return Outcome(FAILED.findall(printed), not ended, printed)


def pytest_command(chosen: list[str]) -> list[str]:
    """Return how tests are run: without a cache, and none that compares texts."""
    quiet = ["-m", "pytest", "-q", "--no-header", "--tb=line", "-p", "no:cacheprovider"]
    limit = ["-o", f"timeout={PER_TEST}", "-k", NOT_MUTATIONS]
    return [*quiet, *limit, *chosen]


def functions_reached(data: coverage.CoverageData, folder: Path) -> list[str]:
    """Return which functions ran: a line behind their def was executed."""
    found = []
    for file in sources():
        lines = set(data.lines(str(folder / file)) or ())
        for function in functions_of(file):
            if lines & set(range(function.body, function.last + 1)):
                found.append(f"{file}::{function.name}")
    return found


class Reached:
    """Which test modules reach a function, measured where it is not known yet."""

    def __init__(self, copy: Copy) -> None:
        self.copy = copy
        kept = json.loads(REACH.read_text("utf-8")) if REACH.exists() else {}
        self.known = {name: Reach(**values) for name, values in kept.items()}

    def of(self, step: str) -> Reach:
        """Return what a test module reaches."""
        text = hash_of(ROOT / step.split("::", maxsplit=1)[0])
        if step not in self.known or self.known[step].text != text:
            self.known[step] = self.measured(step, text)
            REACH.parent.mkdir(exist_ok=True)
            kept = {name: vars(reach) for name, reach in self.known.items()}
            REACH.write_text(json.dumps(kept), "utf-8")
        return self.known[step]

    def seconds_of(self, step: str) -> float:
        """Return how long a test module took, or a guess."""
        return self.known[step].seconds if step in self.known else USUAL

    def measured(self, step: str, text: str) -> Reach:
        """Run a test module under coverage, with no mutant in it."""
        self.copy.mutate(None)
        self.copy.refresh()
        start = time.monotonic()
        report = self.copy.folder / ".coverage"
        traced = ["-m", "coverage", "run", "--data-file", str(report)]
        self.copy.run([sys.executable, *traced, *pytest_command([step])], 1800.0)
        seconds = time.monotonic() - start
        parts = [str(path) for path in self.copy.folder.glob(".coverage*")]
        whole = coverage.Coverage(str(report), config_file=False)
        whole.combine(parts)
        found = functions_reached(whole.get_data(), self.copy.folder)
        for path in self.copy.folder.glob(".coverage*"):
            path.unlink()
        print(f"  measured {step}: {seconds:.0f} s, {len(found)} functions", flush=True)
        return Reach(text, round(seconds, 1), found)


def is_quick(step: str) -> bool:
    """Tell whether a test, or a test module, needs no server and no signal."""
    return step.startswith("tests/") and not TALK_TO_SERVERS.search(step)


@cache
def imports_of(path: Path) -> frozenset[str]:
    """Return the files of course/ that a file imports itself."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
            "course"
        ):
            found.add(f"{(node.module or '').replace('.', '/')}.py")
    return frozenset(found)


def modules(folder: str) -> list[str]:
    """Return the test modules of a folder, those that need no server first."""
    found = (ROOT / "tests" / folder).glob("test_*.py")
    names = [path.relative_to(ROOT).as_posix() for path in sorted(found)]
    names = [name for name in names if Path(name).name not in NOT_THESE]
    return sorted(names, key=is_quick, reverse=True)


def golden_of(number: str) -> str:
    """Return the test that runs a lesson and compares all that it prints."""
    (script,) = ROOT.glob(f"{number}_*.py")
    return f"{GOLDEN}[{script.stem}]"


def stages(function: Function) -> Iterator[list[str]]:
    """Yield the test modules that may reach a function, the quick ones first."""
    group = function.group
    lessons = ["01", "02", "03", "04", "05"]
    if group in lessons:
        yield [golden_of(group)]
        own = modules(f"lesson_{group}")
    elif group == "integrated":
        own = [name for name in modules("lesson_05") if "integrated" in name]
    else:
        yield [golden_of(number) for number in lessons]
        own = [
            name
            for number in lessons
            for name in modules(f"lesson_{number}")
            if function.file in imports_of(ROOT / name)
        ]
    shared = [*modules("course"), OF_ALL]
    folders = [shared, own] if group == "core" else [own, shared]
    for quick in (True, False):
        for names in folders:
            yield [name for name in names if is_quick(name) is quick]
    yield ["tests/stack/test_connections.py"]


def most_naming(function: Function, steps: list[str]) -> list[str]:
    """Return the few test modules that name a function most often."""
    last = function.name.rpartition(".")[2]
    if last.startswith("__"):
        last = function.name.partition(".")[0]  # of a class, then
    word = re.compile(rf"\b{re.escape(last)}\b")
    counts = {}
    for step in steps:
        if "::" not in step and step != OF_ALL:
            counts[step] = len(word.findall((ROOT / step).read_text("utf-8")))
    named = [step for step in counts if counts[step]]
    return sorted(named, key=lambda step: -counts[step])[:MOST_NAMING]


@dataclass
class Verdict:
    """What became of a mutant: noticed by a test, or by none of those that ran."""

    verdict: str
    by: str
    seconds: float


class Trial:
    """Tries mutants, one after the other, each in the same copy."""

    def __init__(self, folder: Path) -> None:
        self.copy = Copy(folder)
        self.copy.fill()
        self.reached = Reached(self.copy)
        self.broken: set[str] = set()  # tests that fail without any mutant

    def verdict_on(self, mutant: Mutant, quick: bool = False) -> Verdict:
        """Run what reaches the function, until something notices the mutant.

        If `quick`, only the demos and the units of its own lesson.
        """
        start = time.monotonic()
        by = ""
        tried: set[str] = set()
        for steps in islice(stages(mutant.function), QUICK if quick else None):
            # What names the function is tried at once, what does not is measured first.
            naming = most_naming(mutant.function, steps)
            for chosen in (naming, steps):
                left = [one for one in chosen if one not in tried]
                if chosen is steps:
                    left = self.reaching(mutant.function, left)
                tried |= set(chosen)
                by = by or (self.noticed_by(mutant, left) if left else "")
            if by:
                break
        self.copy.mutate(None)
        seconds = round(time.monotonic() - start, 1)
        if by:
            return Verdict("noticed", by, seconds)
        return Verdict("unnoticed by units" if quick else "survived", "", seconds)

    def reaching(self, function: Function, steps: list[str]) -> list[str]:
        """Return which of these reach a function, the quickest first."""
        name = f"{function.file}::{function.name}"
        found = [one for one in steps if name in self.reached.of(one).functions]
        return sorted(found, key=self.reached.seconds_of)

    def noticed_by(self, mutant: Mutant, chosen: list[str]) -> str:
        """Return the test that notices a mutant, "" if none of these does."""
        usual = sum(map(self.reached.seconds_of, chosen))
        limit = max(LEAST, FACTOR * usual)
        while True:
            left_out = [f"--deselect={test}" for test in sorted(self.broken)]
            self.copy.mutate(mutant)
            outcome = self.copy.test([*chosen, *left_out], limit)
            if outcome.late:
                return f"timeout of {chosen[0]}"
            if not outcome.failed:
                if " passed" in outcome.printed or "deselected" in outcome.printed:
                    return ""
                return f"{chosen[0]} (ended without a result)"
            test = outcome.failed[0]
            if self.is_fault_of(mutant, test):
                return test
            self.broken.add(test)

    def is_fault_of(self, mutant: Mutant, test: str) -> bool:
        """Tell whether a test fails with the mutant again, and passes without it.

        The golden outputs hold without it: that is a test of its own.
        """
        if not test.startswith(GOLDEN):
            self.copy.mutate(None)
            if not self.copy.test([test], LEAST + PER_TEST).passed:
                return False
        self.copy.mutate(mutant)
        return not self.copy.test([test], LEAST + PER_TEST).passed
