"""What is still at work when a run removes what it made, and would bring it back."""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
import threading
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lessons import ROOT, load
from pymongo.errors import _OperationCancelled

from course.console import TALLY, Lesson, run_claims, was_cut_off
from course.ending import ENDING, Ended
from course.lab import in_background
from course.naming import folder_of_the_run
from course.options import Parser

LATE = 0.2  # seconds for which something goes on
TIMES = 5  # each of these is a race


@contextmanager
def still_written_to(folder: Path) -> Iterator[None]:
    """Have threads make files in a folder, also for a while after the block."""
    over = threading.Event()

    def make_files(first: int) -> None:
        for number in itertools.count(first, 4):
            if over.is_set():
                return
            with suppress(OSError):
                (folder / f"{number}").write_bytes(b"")
            time.sleep(0.0005)

    for first in range(4):
        in_background(partial(make_files, first))
    time.sleep(0.05)  # there is something to remove by then
    yield
    threading.Timer(LATE, over.set).start()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_the_folder_of_a_run_goes_while_threads_still_write(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(TIMES):
        with folder_of_the_run():
            deep = Path(tempfile.mkdtemp())
            with still_written_to(deep):
                pass
    assert not list(home.iterdir())
    assert capsys.readouterr().err == ""


def test_a_lesson_ends_as_asked_while_threads_still_write(home: Path) -> None:
    """What cannot be removed yet does not take the place of why the run ends."""
    args = Parser("", []).parse_args(["--offline"])
    for _ in range(TIMES):
        with (
            pytest.raises(Ended, match="by SIGTERM"),
            load("01").open_env(args) as env,
        ):
            with still_written_to(env.folder):
                pass
            raise Ended("by SIGTERM", 143)


def test_a_run_that_has_failed_may_still_be_at_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ENDING, "reason", None)
    for failed in (0, 1):
        monkeypatch.setitem(TALLY, "failed", failed)
        assert was_cut_off() is bool(failed)
    monkeypatch.setitem(TALLY, "failed", 0)
    monkeypatch.setattr(ENDING, "reason", Ended("by SIGHUP", 129))
    assert was_cut_off()


def test_an_operation_that_a_library_gave_up_is_told_with_a_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """PyMongo ends the others where one has found that the server is silent."""
    monkeypatch.setitem(TALLY, "failed", 0)

    def demo() -> None:
        raise _OperationCancelled("operation cancelled")

    run_claims(demo)
    said = "AutoReconnect: operation cancelled, since its server was silent to another"
    assert capsys.readouterr().out.startswith(f"  [FAIL] {said} one")


def test_what_a_demo_leaves_half_set_is_gone_when_the_run_cleans_up() -> None:
    limit = ContextVar("limit", default=0.0)
    found = []

    @contextmanager
    def open_env(_: Namespace) -> Iterator[Any]:
        try:
            yield SimpleNamespace(backend="a small one", live=False)
        finally:
            found.append(limit.get())

    lesson = Lesson("A small lesson", open_env)

    @lesson.demo
    def cut_off(_: object) -> None:
        """Cut off: between two halves of a limit"""
        limit.set(5.0)
        raise Ended("by SIGINT", 130)

    assert lesson.main([]) == 130
    assert found == [0.0]


LEAVING = """
import threading, time
from concurrent.futures import ThreadPoolExecutor
from course.ending import ENDING, Ended, leave

def ask():
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asked).result()

def asked():
    waits.set()
    time.sleep(60)

waits = threading.Event()
threading.Thread(target=ask, daemon={daemon}).start()
waits.wait()
ENDING.reason = Ended("by SIGTERM", 143)
leave(143)
"""


@pytest.mark.parametrize("daemon", [False, True])
def test_a_process_that_is_ended_waits_for_no_thread_of_a_pool(daemon: bool) -> None:
    """Python waits for those at its exit, also where a daemon started them."""
    command = [sys.executable, "-c", LEAVING.format(daemon=daemon)]
    assert subprocess.run(command, cwd=ROOT, timeout=30, check=False).returncode == 143


def test_what_a_library_logs_beside_its_run_is_shown_with_verbose_only() -> None:
    program = """
import logging, sys
from course.services import log_to_stderr
log_to_stderr(getattr(logging, sys.argv[1]))
loud = logging.getLogger("loud")
loud.setLevel(logging.WARNING)  # as SQLAlchemy gives itself a level
loud.error("of no use to a reader")
"""
    for level, said in {"CRITICAL": "", "DEBUG": "ERROR loud: of no use"}.items():
        command = [sys.executable, "-c", program, level]
        done = subprocess.run(
            command, cwd=ROOT, timeout=30, check=True, capture_output=True, text=True
        )
        assert done.stderr.startswith(said) and bool(done.stderr) == bool(said)
