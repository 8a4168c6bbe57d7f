"""A copy of the project, where one file may be changed and tests are run.

What tests start there is ended with them, whatever a mutant has done to it.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tools.mutants_finding import ROOT, Mutant
from tools.mutants_forks import in_fork, tests

# What compares texts would notice each change, and a mutation may not find its place.
NOT_MUTATIONS = "not mutation and not uv_installs and not cells"
PER_TEST = 120  # seconds; a test that hangs has noticed
TAG = "MUTANTS_COPY"
FAILED = re.compile(r"^(?:FAILED|ERROR) (tests/\S+?\.py(?:::.+?)?)(?: - .*)?$", re.M)


RESULT = re.compile(r"\b(?:passed|skipped|deselected)\b")


@dataclass
class Outcome:
    """How some tests ended."""

    failed: list[str]
    late: bool
    printed: str

    @property
    def passed(self) -> bool:
        """Tell whether nothing was noticed, by tests that came to a result."""
        return not self.failed and not self.late and bool(RESULT.search(self.printed))


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


def end_processes_of(folder: Path) -> None:
    """End them, and what they have started meanwhile."""
    while found := list(processes_of(folder)):
        for process in found:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


@dataclass
class Copy:
    """A copy of the project in a folder of its own, where one file may be changed."""

    folder: Path
    changed: str = ""
    stamp: int = field(default_factory=lambda: int(time.time()))

    def fill(self) -> None:
        """Copy the project's files, and link its Python."""
        self.folder.mkdir(exist_ok=True)
        self.folder.chmod(0o755)  # the account of a private PostgreSQL has to enter
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

    def environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        """Return the variables for tests: temporary files of their own, and a mark."""
        temporary = self.folder / "t"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        own = {"TMPDIR": str(temporary), TAG: str(self.folder)}
        whole = {**os.environ, **own, **extra}
        whole.pop("PYTHONDONTWRITEBYTECODE", None)  # most of the copy never changes
        return whole

    def run(
        self,
        command: Sequence[str],
        limit: float,
        extra: Mapping[str, str] | None = None,
    ) -> tuple[bool, str]:
        """Run a command here; return whether it came to an end, and what it printed."""
        env = self.environment(extra or {})
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
                started.kill()
                started.wait()
                end_processes_of(self.folder)
        return not late, output.read_text("utf-8", errors="replace")

    def fork(self, work: Callable[[], int], limit: float) -> tuple[int | None, str]:
        """Do some work in a fork that is here, and end what it has started."""
        try:
            return in_fork(work, self.folder, self.environment({}), limit)
        finally:
            end_processes_of(self.folder)

    def test(
        self, chosen: Sequence[str], limit: float, per_test: float = PER_TEST
    ) -> Outcome:
        """Run tests, in this order, until the first fails."""
        listed = self.folder / "chosen"  # too many for a command
        listed.write_text("\n".join(chosen), "utf-8")
        work = tests([*pytest_options(per_test), "-x", f"@{listed}"])
        code, printed = self.fork(work, limit)
        return Outcome(failed_of(printed, chosen), code is None, printed)


def pytest_options(per_test: float = PER_TEST) -> list[str]:
    """Return how tests are run: without a cache, and none that compares texts."""
    quiet = ["-q", "--no-header", "--tb=line", "-p", "no:cacheprovider"]
    return [*quiet, "-o", f"timeout={per_test:.0f}", "-k", NOT_MUTATIONS]


def failed_of(printed: str, chosen: Sequence[str]) -> list[str]:
    """Return the tests that failed, for a whole module the first that was asked for."""
    found = []
    for line in FAILED.finditer(printed):
        rest = line[0].partition(" ")[2]
        known = [one for one in chosen if f"{rest} ".startswith(f"{one} ")]
        module = line[1].partition("::")[0]
        known = known or [one for one in chosen if one.startswith(f"{module}::")][:1]
        found.append(max(known, key=len, default=line[1]))
    return found
