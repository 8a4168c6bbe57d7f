"""How a run ends: by signals at any moment, without output, with what stays behind."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from lessons import ROOT

from course import watching
from course.ending import (
    ENDING,
    Ended,
    Ending,
    OutputLost,
    Phase,
    as_ended,
    ending_well,
    printing,
    remove,
)
from course.lab import in_background, wait_until
from course.watching import Watch, absence_of

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
    sys.platform == "win32", reason="platform: Windows ends a process without a signal"
)

UNHEARD = """
import os, signal, sys, threading
from course.ending import Ended, ending_well, interruptible

def strike():  # this thread is no main thread, which sleeps on and hears nothing
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

read, _ = os.pipe()
try:
    with ending_well(), interruptible():
        threading.Timer(0.5, strike).start()
        os.read(read, 1)
except Ended as end:
    sys.exit(end.code)
"""


@needs_signals
def test_a_signal_that_does_not_wake_what_waits_is_heard_all_the_same() -> None:
    command = [sys.executable, "-c", UNHEARD]
    assert subprocess.run(command, cwd=ROOT, timeout=30, check=False).returncode == 143


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


SCRIPT = """
import signal, sys, time
from contextlib import contextmanager, suppress
from course import ending
from course.ending import Ended, ENDING, ending_well, held, interruptible, remove
ending.GRACE = 0.5
ending.REMOVAL_LIMIT = 1.0

def signal_me(*numbers):
    for number in numbers:
        signal.raise_signal(number)

def say(text):
    print(text, flush=True)

@contextmanager
def opened(seconds=0.0):
    say("opening")
    time.sleep(seconds)
    try:
        say("open")
        yield
    finally:
        signal_me(signal.SIGINT, signal.SIGTERM)  # somebody is impatient
        say("closed")

with ending_well():
    try:
{body}
    except Ended as end:
        say(f"ended {{end}} {{end.code}}")
"""


def said_by(body: str) -> list[str]:
    """Run a body in the script above; return what it says, line by line."""
    indented = "".join(f"        {line}\n" for line in body.strip().splitlines())
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(body=indented)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return (done.stdout + done.stderr).splitlines()


@needs_signals
def test_a_signal_waits_until_what_is_opened_can_be_closed() -> None:
    body = """
with held():
    signal_me(signal.SIGTERM)
    with opened(), interruptible():
        say("runs")
"""
    assert said_by(body) == ["opening", "open", "closed", "ended by SIGTERM 143"]


@needs_signals
def test_what_opens_for_too_long_is_interrupted_after_all() -> None:
    body = """
with held(), opened(0.0):
    signal_me(signal.SIGTERM)
    time.sleep(20)
"""
    assert said_by(body) == ["opening", "open", "closed", "ended by SIGTERM 143"]


@needs_signals
def test_a_second_signal_breaks_no_cleaning_and_the_first_one_counts() -> None:
    body = """
with held(), opened(), interruptible():
    signal_me(signal.SIGHUP)
    say("runs")
"""
    assert said_by(body) == ["opening", "open", "closed", "ended by SIGHUP 129"]


@needs_signals
def test_a_signal_while_all_is_closed_after_a_whole_run_is_heard_then() -> None:
    body = """
with held(), opened(), interruptible():
    say("runs")
"""
    printed = ["opening", "open", "runs", "closed", "ended by SIGINT 130"]
    assert said_by(body) == printed


@needs_signals
@pytest.mark.parametrize(
    "swallow",
    [
        "try: signal_me(signal.SIGTERM)\n    except BaseException: pass",
        "class Dying:\n"
        "        def __del__(self): signal_me(signal.SIGTERM)\n"
        "    Dying()",
    ],
    ids=["by a library", "by a finalizer"],
)
def test_a_signal_that_is_swallowed_comes_again(swallow: str) -> None:
    body = f"""
with held(), opened(), interruptible():
    {swallow}
    time.sleep(20)
"""
    assert said_by(body) == ["opening", "open", "closed", "ended by SIGTERM 143"]


@needs_signals
def test_a_wait_for_threads_is_interrupted() -> None:
    body = """
from concurrent.futures import ThreadPoolExecutor
with held(), opened(), interruptible():
    with ThreadPoolExecutor(1) as pool:
        pool.submit(time.sleep, 4)
        signal_me(signal.SIGTERM)
"""
    assert said_by(body) == ["opening", "open", "closed", "ended by SIGTERM 143"]


def test_what_does_not_go_in_time_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    def freeze() -> None:
        threading.Event().wait(5)

    def die() -> None:
        raise ConnectionError("refused")

    remove("schema a", "PostgreSQL at h:1", freeze, "it expires", limit=0.1)
    remove("schema b", "PostgreSQL at h:1", die)
    remove("schema c", "PostgreSQL at h:1", lambda: None)
    assert capsys.readouterr().err.splitlines() == [
        "  ~ PostgreSQL at h:1 does not answer: schema a left behind (it expires)",
        "  ~ PostgreSQL at h:1 is gone: schema b left behind",
    ]


@needs_signals
def test_ctrl_c_while_packages_are_imported_ends_it_in_silence(
    small_lesson: Path,
) -> None:
    script = small_lesson.with_name("08_slow.py")
    text = small_lesson.read_text("utf-8")
    slow = "import time\nprint('importing', flush=True)\ntime.sleep(30)\n"
    script.write_text(text.replace("import os\n", f"{slow}import os\n", 1), "utf-8")
    pipe = subprocess.PIPE
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as lesson:
        assert lesson.stdout and lesson.stdout.readline() == "importing\n"
        lesson.send_signal(signal.SIGINT)
        assert lesson.communicate(timeout=20) == ("", "")
    assert lesson.returncode == -signal.SIGINT  # a shell shows 130


def test_what_is_closed_at_the_exit_of_python_goes_too() -> None:
    """A notebook closes its service there, where Python 3.12 starts no more threads."""
    program = """
import atexit
from course.ending import remove
atexit.register(remove, "schema", "PostgreSQL", lambda: print("removed", flush=True))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("removed\n", "")


class Env:
    """A back end that answers as long as `there` says so."""

    def __init__(self, there: bool = True, live: bool = True) -> None:
        self.backend = "Small 1.0 at h:1"
        self.live = live
        self.there = there

    def ask(self) -> None:
        if not self.there:
            raise ConnectionError


def test_a_service_is_lost_if_it_does_not_answer_several_times() -> None:
    assert absence_of(Env()) == ""
    assert absence_of(Env(there=False)) == "Small 1.0 at h:1 does not answer any more"
    assert absence_of(Env(there=False, live=False)) == ""
    assert absence_of(object()) == ""  # it cannot be asked


@needs_signals
def test_a_service_that_falls_silent_ends_the_run() -> None:
    body = """
from course import watching
watching.PERIOD = 0.05

class Env:
    backend = "Small 1.0 at h:1"
    live = there = True

    def ask(self):
        if not self.there:
            raise ConnectionError

env = Env()
with held(), opened(), interruptible(), watching.Watch(env, patience=0.3):
    time.sleep(0.5)
    ENDING.check()
    say("silent from now on")
    env.there = False
    time.sleep(20)
"""
    *printed, last = said_by(body)
    assert printed == ["opening", "open", "silent from now on", "closed"]
    assert last == "ended Small 1.0 at h:1 does not answer any more 1"


@pytest.mark.parametrize(
    ("code", "number"),
    [(errno.EPIPE, 141), (errno.EIO, 129), (errno.ENOSPC, 1), (errno.EBADF, 1)],
)
def test_output_that_is_lost_has_its_exit_code(code: int, number: int) -> None:
    with pytest.raises(OutputLost, match="stdout") as caught, printing("stdout"):
        raise OSError(code, os.strerror(code))
    assert caught.value.code == number


@needs_signals
def test_a_loss_outside_of_a_run_sends_no_signal() -> None:
    """SIGALRM, for which nobody has set a handler, would kill the process."""
    heard: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _: heard.append(number))
    try:
        ending = Ending()
        loser = threading.Thread(target=ending.lose, args=("the server is gone",))
        loser.start()
        loser.join()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert str(ending.reason) == "the server is gone"
    assert not heard


def test_an_alarm_ends_what_runs_and_never_what_cleans_up() -> None:
    ending = Ending()
    ending.reason = Ended("by SIGTERM", 143)
    ended = []
    for phase in Phase:
        ending.phase = phase
        try:
            ending.on_alarm()
        except Ended:
            ended.append(phase)
    assert ended == [Phase.OPEN, Phase.HELD]


def test_who_ends_a_run_has_found_no_failure() -> None:
    assert not as_ended(KeyboardInterrupt()).fails
    ending = Ending()
    with pytest.raises(Ended) as lost:
        ending.lose("the server is gone")
    assert lost.value.fails


def test_one_question_without_an_answer_is_no_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    losses: list[str] = []

    def silence(_: object) -> str:
        asked.append("TimeoutError" if not asked else "")
        return asked[-1]

    monkeypatch.setattr(watching, "PERIOD", 0.001)
    monkeypatch.setattr(watching, "silence_of", silence)
    monkeypatch.setattr(watching, "lost", str)
    monkeypatch.setattr(ENDING, "lose", losses.append)
    watch = Watch("a server")
    watch.thread.start()
    wait_until(lambda: len(asked) >= 3 or bool(losses))
    watch.over.set()
    watch.thread.join()
    assert not losses
