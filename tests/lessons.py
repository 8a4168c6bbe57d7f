"""How tests load, run and mutate the lessons, whose names are no module names."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from forks import forks, may_fork

from course import columns

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted(ROOT.glob("0[1-5]_*.py"))
VARIABLES = ("DATABASE_URL", "MONGODB_URI", "REDIS_URL", "RABBITMQ_URL")
RUN_LIMIT = 400.0  # seconds; a lesson takes five, a busy machine more
unbroken = columns.unbroken


@dataclass(frozen=True)
class Mutation:
    """A change of the code that must make the claim fail.

    `claim` is the text behind `[ok]`, as the golden file has it; `old` stands exactly
    `times` in the lesson's script, or in `file`, a path from the project's root such as
    "course/amqp/connection.py". `live` mutations run on the real service (the claim is
    made only there), the others offline. Where the loss shows as an error before the
    claim is reached, `error` is its name and how its message begins; if others raise
    the same, `where` is the code that it comes from.
    """

    demo: str
    claim: str
    old: str
    new: str
    times: int = 1
    live: bool = False
    error: str = ""
    where: str = ""
    file: str = ""


def path_of(number: str) -> Path:
    """Return the path of a lesson by its number, such as "03"."""
    return next(path for path in SCRIPTS if path.name.startswith(number))


def folder_of(number: str) -> Path:
    """Return the folder of a lesson's tests."""
    return Path(__file__).parent / f"lesson_{number}"


def load(number: str, source: str | None = None) -> Any:
    """Import a lesson by its number, or a mutated text of it, as a fresh module."""
    path = path_of(number)
    name = f"lesson{number}" if source is None else f"lesson{number}_mutated"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    module: ModuleType = importlib.util.module_from_spec(spec)
    # Before it is executed: SQLAlchemy looks the annotations of Mapped[] up there.
    sys.modules[name] = module
    text = path.read_text("utf-8") if source is None else source
    exec(compile(text, str(path), "exec"), module.__dict__)
    return module


class ChangedText(SourceFileLoader):
    """Loads a module from a text instead of its file."""

    def __init__(self, name: str, path: str, text: str) -> None:
        super().__init__(name, path)
        self.text = text

    def get_code(self, fullname: str) -> CodeType:
        code: CodeType = compile(self.text, self.path, "exec")
        return code


class ChangedModule(MetaPathFinder):
    """Finds one module of `course/` with a changed text."""

    def __init__(self, file: str, text: str) -> None:
        self.path = str(ROOT / file)
        self.name = file.removesuffix(".py").replace("/", ".")
        self.text = text

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname != self.name:
            return None
        loader = ChangedText(fullname, self.path, self.text)
        return importlib.util.spec_from_file_location(
            fullname, self.path, loader=loader
        )


def of_course() -> list[str]:
    """Return the names of the modules of `course/` that are imported."""
    return [name for name in sys.modules if re.match(r"course(\.|$)", name)]


@contextmanager
def mutated(number: str, mutation: Mutation) -> Iterator[Any]:
    """Yield the lesson with the change in it, in its script or in what it imports."""
    path = ROOT / mutation.file if mutation.file else path_of(number)
    text = path.read_text("utf-8")
    assert text.count(mutation.old) == mutation.times, path.name
    text = text.replace(mutation.old, mutation.new)
    if not mutation.file:
        yield load(number, text)
        return
    # All of course/ is imported again: others hold what they took from the changed one.
    before = {name: sys.modules.pop(name) for name in of_course()}
    finder = ChangedModule(mutation.file, text)
    sys.meta_path.insert(0, finder)
    try:
        yield load(number, path_of(number).read_text("utf-8"))
    finally:
        sys.meta_path.remove(finder)
        for name in of_course():
            del sys.modules[name]
        sys.modules.update(before)


def run(
    script: Path, *args: str, cwd: Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a lesson as a user does: a process of its own, no input, no variables set."""
    clean = {name: text for name, text in os.environ.items() if name not in VARIABLES}
    whole = clean | dict.fromkeys(VARIABLES, "") | (env or {})
    if may_fork(whole):
        where = str(cwd or Path.cwd())
        return forks().run([str(script), *args], where, whole, RUN_LIMIT)
    return run_alone([str(script), *args], cwd, whole)


def run_alone(
    argv: Sequence[str], cwd: Path | None, env: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a script in a Python of its own, which is started for it."""
    return subprocess.run(
        [sys.executable, *argv],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=RUN_LIMIT,
        check=False,
    )
