"""Which tests run a line of the course, measured once.

Each test module is run under coverage, with a context for each test
(tools/mutants_contexts.py). What was measured is kept in .mutants/reach/, and measured
again where the test module has changed: remove the folder after the course has changed
much. A function that has changed since is looked up as a whole, not by its lines.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import coverage

from tools.mutants_contexts import CONTEXT, NOTES, SHARED
from tools.mutants_copy import Copy, pytest_options
from tools.mutants_finding import ROOT, Function, Mutant, functions_of, sources, text_of

REACH = ROOT / ".mutants" / "reach"
OF_ALL = "tests/test_lessons.py"
# They compare texts, or are about more than a function.
NOT_THESE = {"test_house.py", "test_standalone.py", "test_start.py", "test_notebook.py"}
FOLDERS = ("course", "exercises", *(f"lesson_0{number}" for number in range(1, 6)))
ONE_MORE = "tests/stack/test_connections.py"
TALK_TO_SERVERS = re.compile(
    "contract|faults|live|pooler|rights|integrated(?!_units|_letters)|crash|schedules"
    "|ending_services|stack/"
)
INTEGRATED = "--integrated"  # of lesson 05, with a golden output of its own
LONGEST = 1800.0  # seconds for a module under coverage
SETTINGS = """[run]
include = */0?_*.py, */course/*
omit = */pytest-of-*
parallel = true
patch = _exit
data_file = {data}
context = ${{{context}-}}
"""


@dataclass
class Reach:
    """What the tests of a module reach: function -> line within it -> tests."""

    text: str  # a hash of the module
    tests: dict[str, float]  # how long each took, in seconds
    functions: dict[str, dict[str, Any]]


def hash_of(text: bytes) -> str:
    """Return a short hash."""
    return hashlib.sha256(text).hexdigest()[:12]


def name_of(function: Function) -> str:
    """Return the name that a function has here."""
    return f"{function.file}::{function.name}"


def text_within(function: Function) -> bytes:
    """Return the text of a function."""
    lines = text_of(function.file).splitlines()[function.first - 1 : function.last]
    return "\n".join(lines).encode()


def is_test(step: str) -> bool:
    """Tell whether it is one of tests/, and not a lesson with its demos."""
    return step.startswith("tests/")


def is_quick(step: str) -> bool:
    """Tell whether a test, or a test module, needs no server and no signal."""
    return not TALK_TO_SERVERS.search(step) and not step.startswith("timeout")


def scripts() -> list[str]:
    """Return the lessons."""
    return sorted(path.name for path in ROOT.glob("0[1-5]_*.py"))


def modules() -> list[str]:
    """Return the test modules that may notice a mutant, the quick ones first."""
    found = [
        path for name in FOLDERS for path in (ROOT / "tests" / name).glob("test_*")
    ]
    names = [path.relative_to(ROOT).as_posix() for path in found]
    names = [name for name in names if Path(name).name not in NOT_THESE]
    return sorted(
        [OF_ALL, *names, ONE_MORE], key=lambda name: (not is_quick(name), name)
    )


def owners(context: str, notes: dict[str, Any]) -> Iterable[str]:
    """Return the tests that a context stands for; none for what an import runs."""
    if context.startswith(SHARED):
        fixture = context.removeprefix(SHARED)
        return [test for test in notes if fixture in notes[test]["fixtures"]]
    test = context.partition("|")[0]  # a static and a dynamic one
    return [test] if test in notes else []


def reach_in(data: coverage.CoverageData, folder: Path, notes: dict[str, Any]) -> Reach:
    """Return what was measured, by functions and by lines within them."""
    number = {test: place for place, test in enumerate(notes)}
    found: dict[str, dict[str, Any]] = {}
    for file in sources():
        contexts = data.contexts_by_lineno(str(folder / file))
        for function in functions_of(file):
            lines = {}
            for line in range(function.body, function.last + 1):
                tests = {
                    number[test]
                    for context in contexts.get(line, ())
                    for test in owners(context, notes)
                }
                if tests:
                    lines[str(line - function.first)] = sorted(tests)
            if lines:
                its = {"text": hash_of(text_within(function)), "lines": lines}
                found[name_of(function)] = its
    return Reach("", {test: notes[test]["seconds"] for test in notes}, found)


class Measuring:
    """Runs something under coverage in a copy, with no mutant in it."""

    def __init__(self, copy: Copy) -> None:
        self.copy = copy
        copy.mutate(None)
        self.folder = copy.folder / "measured"
        self.folder.mkdir(exist_ok=True)
        self.settings = self.folder / "settings"
        self.data = self.folder / "data"
        written = SETTINGS.format(data=self.data, context=CONTEXT)
        self.settings.write_text(written, "utf-8")
        self.notes = self.folder / "notes.json"

    def run(self, command: Sequence[str], context: str = "") -> str:
        """Run a command of Python; return what it printed."""
        extra = {CONTEXT: context, NOTES: str(self.notes)}
        extra["COVERAGE_PROCESS_START"] = str(self.settings)
        return self.copy.run([sys.executable, *command], LONGEST, extra)[1]

    def reach(self, notes: dict[str, Any]) -> Reach:
        """Return what was reached since the last time."""
        whole = coverage.Coverage(str(self.data), config_file=False)
        parts = [str(path) for path in self.folder.glob("data.*")]
        if parts:
            whole.combine(parts)
        found = reach_in(whole.get_data(), self.copy.folder, notes)
        self.data.unlink(missing_ok=True)
        return found


def measured(copy: Copy, module: str) -> Reach:
    """Return what the tests of a module reach."""
    measuring = Measuring(copy)
    start = time.monotonic()
    measuring.notes.write_text("{}", "utf-8")
    plugin = ["-p", "tools.mutants_contexts"]
    printed = measuring.run(["-m", "pytest", *pytest_options(), *plugin, module])
    found = measuring.reach(json.loads(measuring.notes.read_text("utf-8")))
    said = (printed.strip().splitlines() or ["nothing"])[-1]
    taken = time.monotonic() - start
    print(f"  measured {module} in {taken:.0f} s: {said}", flush=True)
    return found


def options_of(name: str) -> list[str]:
    """Return the options that run one demo of a lesson, or what is like one."""
    return ["--offline", name] if name == INTEGRATED else ["--offline", "--only", name]


def measured_demos(copy: Copy, script: str) -> Reach:
    """Return what the demos of a lesson reach."""
    measuring = Measuring(copy)
    rows = copy.run([sys.executable, script, "--list"], LONGEST)[1].splitlines()[1:]
    names = [row.split()[0] for row in rows if re.match("  [a-z]", row)]
    if script.startswith("05"):
        names.append(INTEGRATED)
    notes = {}
    for name in names:
        start = time.monotonic()
        test = f"{script}::{name}"
        measuring.run([script, *options_of(name)], test)
        seconds = round(time.monotonic() - start, 3)
        notes[test] = {"seconds": seconds, "fixtures": []}
    print(f"  measured {script}: {len(notes)} demos", flush=True)
    return measuring.reach(notes)


def statement_at(function: Function, line: int) -> range:
    """Return the lines of the statement that a line is in, of a compound its head."""
    lines = range(line, line + 1)
    for node in ast.walk(ast.parse(text_of(function.file))):
        if not isinstance(node, ast.stmt | ast.excepthandler | ast.match_case):
            continue
        first = node.pattern.lineno if isinstance(node, ast.match_case) else node.lineno
        last = getattr(node, "end_lineno", None) or first
        body = getattr(node, "body", None)
        if body:
            last = max(first, body[0].lineno - 1)
        if first <= line <= last and first >= function.first:
            lines = range(first, last + 1)
    return lines


class Reached:
    """Which tests reach a place, measured where it is not known yet."""

    def __init__(self, copy: Copy) -> None:
        self.copy = copy
        self.known: dict[str, Reach] = {}

    def of(self, module: str) -> Reach:
        """Return what the tests of a module reach."""
        if module not in self.known:
            text = hash_of((ROOT / module).read_bytes())
            path = REACH / f"{module.replace('/', '.')}.json"
            kept = json.loads(path.read_text("utf-8")) if path.exists() else {}
            if kept.get("text") != text:
                measure = measured if is_test(module) else measured_demos
                kept = vars(measure(self.copy, module)) | {"text": text}
                REACH.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(kept), "utf-8")
            self.known[module] = Reach(**kept)
        return self.known[module]

    def at(self, mutant: Mutant, module: str) -> Iterator[tuple[str, float, bool]]:
        """Yield the tests that reach a function: name, seconds, whether by its line."""
        reach = self.of(module)
        its = reach.functions.get(name_of(mutant.function))
        if its is None:
            return
        names = list(reach.tests)
        lines = {int(offset): tests for offset, tests in its["lines"].items()}
        place = [line - mutant.function.first for line in place_of(mutant)]
        is_measured = its["text"] == hash_of(text_within(mutant.function))
        if not is_measured or mutant.line < mutant.function.body:
            place = list(lines)  # its lines are others now; or a default, a decorator
        close = {number for line in place for number in lines.get(line, ())}
        for number in sorted({one for tests in lines.values() for one in tests}):
            yield names[number], reach.tests[names[number]], number in close


@cache
def place_of(mutant: Mutant) -> range:
    """Return the lines that run what a mutant has changed."""
    return statement_at(mutant.function, mutant.line)
