"""How a run ends: by signals at any moment, without output, with what stays behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest
from lessons import ROOT

from course.ending import ending_well
from course.lab import in_background

PROGRAM = """
import signal, sys, time
from course.ending import Ended, ending_well, interruptible
{before}
try:
    with ending_well(), interruptible():
        try:
            print("ready", flush=True)
            time.sleep(60)
        finally:
            print("cleaned up", flush=True)
except Ended as end:
    sys.exit(end.code)
"""


def ended_by(number: int, before: str = "") -> subprocess.Popen[str]:
    """Return the program above, ready and then sent a signal."""
    command = [sys.executable, "-c", PROGRAM.format(before=before)]
    program = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert program.stdout and program.stdout.readline() == "ready\n"
    program.send_signal(number)
    return program


needs_signals = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows ends a process without a signal"
)


@needs_signals
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_runs_what_cleans_up(name: str) -> None:
    number = getattr(signal, name)
    with ended_by(number) as program:
        assert program.communicate(timeout=20)[0] == "cleaned up\n"
    assert program.returncode == 128 + number


@needs_signals
def test_a_signal_that_nohup_ignores_stays_ignored() -> None:
    ignore = "signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    with ended_by(signal.SIGHUP, before=ignore) as program:
        with pytest.raises(subprocess.TimeoutExpired):
            program.wait(0.3)
        program.terminate()
        assert program.communicate(timeout=20)[0] == "cleaned up\n"
    assert program.returncode == 128 + signal.SIGTERM


def test_the_handlers_before_are_back_after_the_block() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with ending_well():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_another_thread_than_the_main_one_sets_no_handler() -> None:
    def work() -> bool:
        with ending_well():
            return threading.current_thread() is not threading.main_thread()

    assert in_background(work).result(5)
