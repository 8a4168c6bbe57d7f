"""Tries mutants: the tests that run a changed line, the quickest first, and a verdict.

A test that fails counts if it fails again with the mutant, and passes without it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tools.mutants_copy import Copy
from tools.mutants_finding import Function, Mutant
from tools.mutants_forks import demo, prepare
from tools.mutants_reach import (
    INTEGRATED,
    Reached,
    is_quick,
    modules,
    options_of,
    scripts,
)

GOLDEN = "tests/test_lessons.py::test_it_runs_alone_and_prints_the_golden_output"
GOLDEN_INTEGRATED = (
    "tests/lesson_05/test_integrated.py::test_the_golden_output_and_nothing_left_behind"
)
MOST_BROKEN = 4  # of a module, until the rest is not asked
MOST = {True: 60.0, False: 300.0}  # seconds of quick tests, and of others
LEAST = 90.0  # seconds for some tests, on a busy machine
FACTOR = 6  # times what they took without a mutant
LEAST_EACH = 30.0
OF_PRACTICE = ("course/practice/", "course/bet")
NOT_FOUND = re.compile(r"^ERROR: not found: .*?(tests/.+)$", re.M)


@dataclass(frozen=True)
class Reaching:
    """A test that reaches a function, and perhaps the line that a mutant changes."""

    name: str
    seconds: float
    is_close: bool

    @property
    def module(self) -> str:
        """Return the module that it stands in."""
        return self.name.partition("::")[0]


@dataclass
class Verdict:
    """What became of a mutant: noticed by a test, or by none of those that ran."""

    verdict: str
    by: str
    seconds: float


def may_notice(function: Function, module: str) -> bool:
    """Tell whether a test module notices more of a function than another text.

    The exercises plant their bugs where the lessons have a certain text.
    """
    if not module.startswith("tests/exercises/"):
        return True
    return function.file.startswith(OF_PRACTICE)


def golden_of(test: Reaching) -> str:
    """Return the test that compares what a demo prints."""
    if test.name.endswith(INTEGRATED):
        return GOLDEN_INTEGRATED
    return f"{GOLDEN}[{test.module.removesuffix('.py')}]"


def in_order(tests: Sequence[Reaching], most: float) -> list[list[Reaching]]:
    """Return tests by modules, in the order that finds out soonest; up to some seconds.

    Only those that reach the line. A module has a process of its own: tests of several
    may disturb each other, and what a module shares is set up once.
    """
    close = [test for test in tests if test.is_close]
    groups: dict[str, list[Reaching]] = {}
    whole = 0.0
    for test in sorted(close, key=lambda test: test.seconds):
        if not groups or whole + test.seconds <= most:
            groups.setdefault(test.module, []).append(test)
            whole += test.seconds
    return sorted(groups.values(), key=lambda group: sum(it.seconds for it in group))


@dataclass
class Trial:
    """Tries mutants, one after the other, each in the same copy."""

    copy: Copy
    reached: Reached
    broken: set[str] = field(default_factory=set)  # tests that fail without a mutant
    sound: set[str] = field(default_factory=set)  # and those that pass

    expected: dict[str, str] = field(default_factory=dict)  # what a demo prints

    @classmethod
    def in_folder(cls, folder: Path) -> Trial:
        """Return one with a fresh copy."""
        prepare()
        copy = Copy(folder)
        copy.fill()
        return cls(copy, Reached(copy))

    def verdict_on(self, mutant: Mutant, kinds: Sequence[bool]) -> Verdict:
        """Run what reaches the mutant, until something notices it.

        `kinds` are True for what needs no server, False for the other tests.
        """
        start = time.monotonic()
        demos = self.reaching(mutant, scripts()) if True in kinds else []
        by = ""
        for group in in_order(demos, MOST[True]):
            by = by or self.demo_that_notices(mutant, group)
        for quick in kinds:
            if by:  # what needs a server is not even measured then
                break
            names = [name for name in modules() if is_quick(name) is quick]
            found = self.reaching(mutant, names)
            if demos:
                found = [
                    one
                    for one in found
                    if not one.name.startswith((GOLDEN, GOLDEN_INTEGRATED))
                ]
            for group in in_order(found, MOST[quick]):
                by = by or self.noticed_by(mutant, group)
        self.copy.mutate(None)
        seconds = round(time.monotonic() - start, 1)
        if by:
            return Verdict("noticed", by, seconds)
        state = "survived" if False in kinds else "unnoticed by units"
        return Verdict(state, "", seconds)

    def printed_by(self, test: Reaching) -> str:
        """Return what a demo prints, and how it ends."""
        script, _, name = test.name.partition("::")
        limit = LEAST_EACH + FACTOR * test.seconds
        code, printed = self.copy.fork(demo(script, options_of(name)), limit)
        return f"{printed}\nexit code {code}"

    def demo_that_notices(self, mutant: Mutant, tests: Sequence[Reaching]) -> str:
        """Return the test of the golden output if a demo prints something else."""
        for test in tests:
            if test.name not in self.expected:
                self.copy.mutate(None)
                self.expected[test.name] = self.printed_by(test)
            expected = self.expected[test.name]
            self.copy.mutate(mutant)
            if all(self.printed_by(test) != expected for _ in range(2)):
                return golden_of(test)
        return ""

    def reaching(self, mutant: Mutant, names: Sequence[str]) -> list[Reaching]:
        """Return what reaches a mutant's function, of some modules or lessons."""
        return [
            Reaching(*found)
            for name in names
            if may_notice(mutant.function, name)
            for found in self.reached.at(mutant, name)
        ]

    def noticed_by(self, mutant: Mutant, tests: Sequence[Reaching]) -> str:
        """Return the test that notices a mutant, "" if none of these does."""
        for _ in range(MOST_BROKEN):
            left = [test for test in tests if test.name not in self.broken]
            if not left:
                return ""
            names = [test.name for test in left]
            limit = max(LEAST, FACTOR * sum(test.seconds for test in left))
            each = LEAST_EACH + FACTOR * max(test.seconds for test in left)
            self.copy.mutate(mutant)
            outcome = self.copy.test(names, limit, each)
            if outcome.late:
                return f"timeout of {names[0]}"
            if outcome.passed:
                return ""
            missing = NOT_FOUND.findall(outcome.printed)
            # Without a result, the first may have ended Python itself.
            test: str = [*outcome.failed, *missing, *names][0]
            if self.is_fault_of(mutant, test, each):
                return test
            self.broken.add(test)
        return ""

    def is_fault_of(self, mutant: Mutant, test: str, limit: float) -> bool:
        """Tell whether a test fails with the mutant again, and passes without it.

        The golden outputs hold without it: that is a test of its own.
        """
        if self.copy.test([test], LEAST + limit, limit).passed:
            return False
        if test not in self.sound and not test.startswith(GOLDEN):
            self.copy.mutate(None)
            if not self.copy.test([test], LEAST + limit, limit).passed:
                return False
            self.sound.add(test)
        return True
