"""Runs checks on answers, in a process of its own, which an answer may break.

Run as `python -m course.practice.judge FOLDER`. The folder holds `jobs.json`: a list of
the exercise's folder, the answer's path and the seed, and the limit in seconds of each.
The verdicts go to `verdicts.json` there. What the answers print goes to stdout.
"""

from __future__ import annotations

import importlib.util
import json
import linecache
import os
import random
import re
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from course.claims import clipped
from course.practice.checking import Refused, Words, facts_that_differ

LONGEST_MESSAGE = 300  # characters of an exception's first line
MEMORY_ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")
BARE_OBJECT = re.compile(r"<(?:\w+\.|<locals>\.)*(\w+) object>")

Verdict = dict[
    str, Any
]  # as it goes from process to process: `kind`, and what it needs


def loaded_file(name: str, path: Path) -> ModuleType:
    """Import a file under a name, whatever was imported under it before."""
    spec: Any = importlib.util.spec_from_file_location(name, path)
    module: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # SQLAlchemy looks the annotations of Mapped[] up there
    spec.loader.exec_module(module)
    return module


def place(path: Path, line: int) -> Verdict:
    """Return a line of a file as a verdict names it."""
    text = linecache.getline(str(path), line).strip()
    return {"file": path.name, "line": line, "text": text}


def place_of_error(error: BaseException, answer: Path, check: Path) -> Verdict:
    """Return the innermost line of the answer, or else of the check, that it passed."""
    frames = traceback.extract_tb(error.__traceback__)
    for path in (answer, check):
        for frame in reversed(frames):
            if frame.filename == str(path):
                return place(path, frame.lineno or 0)
    return {"file": "", "line": 0, "text": ""}


def with_article(found: re.Match[str]) -> str:
    """Return the name of a type as a sentence has it: an object, a Page."""
    name = found[1]
    article = "an" if name[0] in "AEIOUaeiou" else "a"
    return f"{article} {name}"


def without_addresses(text: str) -> str:
    """Return a text without addresses in memory, which differ from run to run."""
    return BARE_OBJECT.sub(with_article, MEMORY_ADDRESS.sub("", text))


def message_of(error: BaseException) -> str:
    """Return what is raised as one line: `type: message`."""
    lines = str(error).splitlines() or [""]
    text = f"{type(error).__name__}: {lines[0]}".removesuffix(": ")
    return without_addresses(text)[:LONGEST_MESSAGE]


def value_in_words(value: Any) -> str:
    """Return a value for the learner, cut where it is long."""
    return clipped(Words(without_addresses(repr(value))))


def in_words(value: Any) -> str:
    """Return a value for the learner; a dict as names with their values."""
    if not isinstance(value, Mapping) or not value:
        return value_in_words(value)
    return ", ".join(f"{name} {value_in_words(held)}" for name, held in value.items())


def refused_verdict(refused: Refused) -> Verdict:
    """Return the verdict on an answer that a check refuses."""
    came, wanted = facts_that_differ(refused.observed, refused.expected)
    return {
        "kind": "refused",
        "tried": without_addresses(refused.tried),
        "observed": in_words(came),
        "expected": in_words(wanted),
        "hint": refused.hint,
    }


def is_stub(error: BaseException, answer: Path) -> bool:
    """Tell whether the answer itself says that it is not written, not a library."""
    innermost = traceback.extract_tb(error.__traceback__)[-1]
    return isinstance(error, NotImplementedError) and innermost.filename == str(answer)


def verdict_on(folder: Path, answer: Path, seed: int) -> Verdict:
    """Check an answer once, whatever it returns or raises."""
    check = folder / "check.py"
    linecache.checkcache()
    try:
        return verdict_of(check, answer, seed)
    except BaseException as error:  # its own __repr__ or __str__ may raise
        where = place_of_error(error, answer, check)
        return {"kind": "error", "error": type(error).__name__} | where


def verdict_of(check: Path, answer: Path, seed: int) -> Verdict:
    """Check an answer; raises what is raised while a verdict is put into words."""
    try:
        if b"\0" in answer.read_bytes():
            return {"kind": "binary"}
        # First, so that an answer which changes `expect` changes nothing of it.
        judge = loaded_file("check", check)
        module = loaded_file("answer", answer)
        judge.check(module, random.Random(seed))
    except Refused as refused:
        return refused_verdict(refused)
    except SyntaxError as error:
        return verdict_on_syntax(error, answer, check)
    except SystemExit as error:
        return {"kind": "exit"} | place_of_error(error, answer, check)
    except BaseException as error:  # an answer may raise what it likes
        kind = "open" if is_stub(error, answer) else "error"
        where = place_of_error(error, answer, check)
        return {"kind": kind, "error": message_of(error)} | where
    return {"kind": "right"}


def verdict_on_syntax(error: SyntaxError, answer: Path, check: Path) -> Verdict:
    """Return the verdict on an answer that is no Python; its line is in the error."""
    message = f"{type(error).__name__}: {error.msg}"
    where = place_of_error(error, answer, check)
    if error.filename == str(answer):
        where = place(answer, error.lineno or 0)
    return {"kind": "error", "error": message} | where


def frame_in(answer: Path) -> FrameType | None:
    """Return the innermost frame of the answer in any thread, the main one first."""
    main = threading.main_thread().ident
    running = sys._current_frames()
    for ident in sorted(running, key=lambda one: one != main):
        frame: FrameType | None = running[ident]
        while frame:
            if frame.f_code.co_filename == str(answer):
                return frame
            frame = frame.f_back
    return None


class Judge:
    """Goes through the jobs; at the deadline of one it ends the process."""

    def __init__(self, folder: Path, limit: float) -> None:
        self.folder = folder
        self.limit = limit
        self.verdicts: list[Verdict] = []
        self.deciding = threading.Lock()  # one verdict a job, in time or late

    def write(self) -> None:
        """Write the verdicts so far."""
        text = json.dumps(self.verdicts)
        (self.folder / "verdicts.json").write_text(text, "utf-8")

    def give_up(self, number: int, answer: Path) -> None:
        """Write that an answer does not end, and where it is; end the process."""
        with self.deciding:
            if len(self.verdicts) > number:
                return  # it came to its end just now
            frame = frame_in(answer)
            where = place(answer, frame.f_lineno) if frame else {"file": ""}
            self.verdicts.append({"kind": "late", "limit": self.limit} | where)
            self.end()

    def work(self, jobs: list[Any]) -> None:
        """Judge each of the jobs, then end the process."""
        for number, (folder, answer, seed) in enumerate(jobs):
            arguments = [number, Path(answer)]
            watchdog = threading.Timer(self.limit, self.give_up, arguments)
            watchdog.daemon = True
            watchdog.start()
            begun = time.perf_counter()
            verdict = verdict_on(Path(folder), Path(answer), seed)
            watchdog.cancel()
            verdict["seconds"] = round(time.perf_counter() - begun, 1)
            with self.deciding:
                self.verdicts.append(verdict)
                self.write()  # the next answer may end the process
        self.end()

    def end(self) -> None:
        """End the process at once: an answer may have left threads that never end."""
        self.write()
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):  # the answer may have closed it
                stream.flush()
        os._exit(0)


def judge_jobs(folder: Path) -> None:
    """Do what a folder asks for."""
    sys.dont_write_bytecode = True  # a stale .pyc would be judged instead of the answer
    asked = json.loads((folder / "jobs.json").read_text("utf-8"))
    Judge(folder, asked["limit"]).work(asked["jobs"])


if __name__ == "__main__":
    judge_jobs(Path(sys.argv[1]))
