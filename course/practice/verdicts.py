"""Has answers judged in a process with a deadline, and says in words what came out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECK_LIMIT = 15.0  # seconds for one check, which takes 3; waits in it end sooner
START_TIME = 10.0  # seconds more for Python to start, and to end
SERVICES = ("DATABASE_URL", "MONGODB_URI", "REDIS_URL", "RABBITMQ_URL")
LONGEST_OUTPUT = 20_000  # characters of what an answer prints
ZERO_BYTES = "the file has zero bytes, as UTF-16 has: save it as UTF-8"
HEADLINES = {  # by the kind of verdict
    "binary": f"not yet: {ZERO_BYTES}",
    "open": "open: this is still to be written",
    "exit": "not yet: the answer ends the program (SystemExit)",
}

JudgeJob = tuple[Path, Path, int]  # an exercise's folder, an answer, a seed


@dataclass(frozen=True)
class Judged:
    """The verdicts on the jobs that came to one, and what was printed meanwhile."""

    verdicts: list[dict[str, Any]]
    printed: str


class Printed(threading.Thread):
    """Reads what a process prints, and keeps its beginning."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        super().__init__(daemon=True)
        self.stream: Any = process.stdout
        self.kept = b""
        self.is_cut = False

    def run(self) -> None:
        """Read to the end: a process whose output nobody reads would wait."""
        with self.stream:
            while chunk := self.stream.read1(65536):
                if len(self.kept) < LONGEST_OUTPUT:
                    self.kept += chunk
                else:
                    self.is_cut = True

    def text(self) -> str:
        """Return what was kept, once the process has ended."""
        self.join(1.0)  # a process that the answer has started may hold it open
        text = self.kept[:LONGEST_OUTPUT].decode("utf-8", "replace")
        if self.is_cut or len(self.kept) > LONGEST_OUTPUT:
            return f"{text}\n... (it printed more, which is left out)"
        return text


def judge_answers(
    root: Path, jobs: list[JudgeJob], deadline: float = CHECK_LIMIT
) -> Judged:
    """Judge answers one after the other in a process; it ends at a job that is late."""
    with tempfile.TemporaryDirectory(
        prefix="module8-practice-", ignore_cleanup_errors=True
    ) as name:
        folder = Path(name)
        listed = [(str(one), str(answer), seed) for one, answer, seed in jobs]
        asked = {"limit": deadline, "jobs": listed}
        (folder / "jobs.json").write_text(json.dumps(asked), "utf-8")
        limit = deadline * len(jobs) + START_TIME
        printed, code = run_judge(root, folder, limit)
        verdicts = verdicts_in(folder)
    is_cut = not verdicts or verdicts[-1]["kind"] != "late"
    if len(verdicts) < len(jobs) and is_cut:
        if code is None:  # it holds the interpreter, so that the judge could not end it
            verdicts.append({"kind": "late", "limit": deadline, "file": ""})
        else:
            verdicts.append({"kind": "died", "code": code})
    return Judged(verdicts, printed)


def verdicts_in(folder: Path) -> list[dict[str, Any]]:
    """Return the verdicts that the judge wrote before its process ended."""
    try:
        text = (folder / "verdicts.json").read_text("utf-8")
        return list(json.loads(text))
    except (OSError, ValueError):
        return []


def judge_every(
    root: Path, jobs: list[JudgeJob], deadline: float = CHECK_LIMIT
) -> list[dict[str, Any]]:
    """Judge answers one after the other; one that ends its process costs a new one."""
    verdicts: list[dict[str, Any]] = []
    while len(verdicts) < len(jobs):
        left = jobs[len(verdicts) :]
        verdicts += judge_answers(root, left, deadline).verdicts
    return verdicts


def run_judge(root: Path, folder: Path, limit: float) -> tuple[str, int | None]:
    """Run the judge; return what is printed, and its exit code, None if it is late."""
    here = folder / "here"  # whatever an answer writes, nothing of the learner's is hit
    here.mkdir()
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    variables = {"PYTHONPATH": os.pathsep.join(paths)}
    variables |= dict.fromkeys(SERVICES, "")  # no exercise needs one, or may touch one
    command = [sys.executable, "-X", "utf8", "-m", "course.practice.judge", str(folder)]
    # Trap: a `with`. At its end it closes the output, which waits for all that hold it
    # open, such as a process that the answer has started.
    process = subprocess.Popen(  # noqa: S603
        command,
        cwd=here,
        env=os.environ | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    printed = Printed(process)
    printed.start()
    try:
        code: int | None = process.wait(limit)
    except subprocess.TimeoutExpired:
        code = None
    finally:
        process.kill()
        process.wait()
    return printed.text(), code


def at_line(verdict: dict[str, Any]) -> str:
    """Return where something is in the learner's file, as an editor finds it."""
    if not verdict.get("line"):
        return ""
    return f"{verdict['file']}:{verdict['line']}: {verdict['text']}"


def verdict_lines(verdict: dict[str, Any]) -> list[str]:
    """Return a verdict that is not `right` as lines for the learner."""
    kind = verdict["kind"]
    where = [f"  {at_line(verdict)}"] if at_line(verdict) else []
    if kind == "refused":
        return [
            f"not yet: {verdict['tried']}",
            f"  came out:     {verdict['observed']}",
            f"  should have:  {verdict['expected']}",
            f"  hint {verdict['hint']} fits (python practice.py hint)",
        ]
    if kind in HEADLINES:
        return [HEADLINES[kind], *where]
    if kind == "error":
        return [headline_of_error(verdict), *where, f"  {verdict['error']}"]
    if kind == "late":
        limit = f"{verdict['limit']:g}"
        return [f"not yet: no end within {limit} seconds; it was stopped", *where]
    return [f"not yet: the answer ended its process, {how_it_died(verdict['code'])}"]


def how_it_died(code: int) -> str:
    """Return an exit code in words; below 0 it is a signal, such as that of a crash."""
    if code >= 0:
        return f"with exit code {code}"
    with suppress(ValueError):
        return f"by {signal.Signals(-code).name}"
    return f"by signal {-code}"


def headline_of_error(verdict: dict[str, Any]) -> str:
    """Return the first line about an exception: whose line it is."""
    if verdict["file"] == "check.py":
        return "not yet: the check cannot go on with what it got from the answer"
    return "not yet: the answer raises an exception"


def sentence_of(verdict: dict[str, Any]) -> str:
    """Return a verdict as one sentence, without what differs from run to run."""
    if verdict["kind"] == "refused":
        about = "{tried}: {observed}, not {expected} (hint {hint})"
        return about.format(**verdict)
    if verdict["kind"] == "right":
        return "right"
    lines = [line.strip() for line in verdict_lines(verdict)]
    return "; ".join(lines)
