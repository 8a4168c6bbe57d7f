"""Lesson 05 with --integrated that cannot go on: it ends with its table and a reason.

The course is a copy in which nobody waits as long as a user has to.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ends import TALLY, Run, left_on, running
from lessons import ROOT, SCRIPTS, unbroken
from services import Server, wait_for

from course.integrated.broker import EXPIRES, Broker
from course.integrated.lessons import load_lesson

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="platform: needs /proc"),
    pytest.mark.skipif(sys.platform == "win32", reason="platform: signals differ"),
]
OPTIONS = ("--integrated", "--customers", "150")
QUICK = {
    "system.py": ("SERVICE_PATIENCE = 20.0", "SERVICE_PATIENCE = 3.0"),
    "task.py": ("LIMIT = 60.0", "LIMIT = 20.0"),
}
DIES = "def open_desks(lessons: Lessons, task: Task, stack: ExitStack) -> None:\n"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Copy the lessons, their course and the data, to be changed."""
    root = tmp_path / "copy"
    root.mkdir()
    for script in SCRIPTS:
        shutil.copy(script, root)
    for folder in ("course", "data"):
        shutil.copytree(ROOT / folder, root / folder)
    for name, (old, new) in QUICK.items():
        change(root / "course" / "integrated" / name, old, new)
    return root


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), "utf-8")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def workers_of(one: Run) -> list[int]:
    """Return the processes that consume."""
    return sorted(one.processes() - {one.process.pid})


def has_ended_with_a_reason(one: Run, printed: str, complaints: str) -> None:
    about = f"{printed}\n{complaints}"
    assert one.process.returncode == 1, about
    assert "Traceback" not in complaints, about
    assert printed.count("[FAIL]") == 1, about
    assert re.search(r"^  queue +published +applied$", printed, re.M), about
    assert re.search(r"^  analytics +\d+ +\S", printed, re.M), about
    assert TALLY.search(printed.splitlines()[-1]), about
    assert one.folders() == []


# Workers


def test_a_worker_that_is_killed_before_all_have_started(
    copy: Path, home: Path
) -> None:
    options = (*OPTIONS, "--offline", "--workers", "2")
    with running("05", *options, urls={}, home=home, root=copy) as one:
        wait_for(lambda: workers_of(one), 60)
        os.kill(workers_of(one)[0], signal.SIGKILL)  # it is still importing
        printed, complaints = one.end()
    assert one.process.returncode == 0, printed + complaints
    assert " 0 failed" in printed


def test_workers_that_all_die_at_their_start(copy: Path, home: Path) -> None:
    """Not a minute later, and not with a traceback of a wait that was in vain."""
    bad = f"{DIES}    raise ConnectionError('no way to the broker')\n"
    change(copy / "course" / "integrated" / "desks.py", DIES, bad)
    # Six starts take a while where the machine is busy.
    task = copy / "course" / "integrated" / "task.py"
    change(task, QUICK["task.py"][1], "LIMIT = 400.0")
    started = time.monotonic()
    options = (*OPTIONS, "--offline", "--workers", "2")
    with running("05", *options, urls={}, home=home, root=copy) as one:
        printed, complaints = one.end(360)
    has_ended_with_a_reason(one, printed, complaints)
    assert "RuntimeError: workers end by themselves" in unbroken(printed)
    assert "ConnectionError: no way to the broker" in complaints
    assert re.search(r"workers that died +[6-9]", printed)
    assert time.monotonic() - started < 360  # and not LIMIT


# Services

Break = Callable[[Server], None]
BREAKS: dict[str, tuple[Break, Break]] = {
    "frozen": (Server.freeze, Server.thaw),
    "killed": (Server.kill, Server.start),
}


def begun(one: Run, until: str) -> None:
    """Read what a run prints up to a line that starts like this."""
    assert one.process.stdout
    for line in one.process.stdout:
        if line.startswith(until):
            return
    raise AssertionError("it has ended")


MOMENTS = {"at-start": "backend: ", "in-feed": "2. "}
IN_CI = {
    ("RABBITMQ_URL", "at-start", "frozen"),
    ("REDIS_URL", "at-start", "killed"),
    ("DATABASE_URL", "in-feed", "frozen"),
    ("MONGODB_URI", "in-feed", "killed"),
}
VARIABLES = ("DATABASE_URL", "MONGODB_URI", "REDIS_URL", "RABBITMQ_URL")
CASES = [
    pytest.param(
        case, marks=[] if case in IN_CI else pytest.mark.soak, id="-".join(case)
    )
    for case in itertools.product(VARIABLES, MOMENTS, BREAKS)
]


@pytest.mark.parametrize("case", CASES)
def test_a_service_that_is_lost(
    case: tuple[str, str, str], servers: dict[str, Server], copy: Path, home: Path
) -> None:
    variable, moment, how = case
    lose, mend = BREAKS[how]
    urls = {name: server.url for name, server in servers.items()}
    options = (*OPTIONS, "--require-live")
    others = {name: one for name, one in servers.items() if name != variable}
    before = set(left_on(others))  # of earlier tests, where a server was broken
    try:
        with running("05", *options, urls=urls, home=home, root=copy) as one:
            begun(one, MOMENTS[moment])
            lose(servers[variable])
            printed, complaints = one.end(120)
    finally:
        mend(servers[variable])
    lost = f"127.0.0.1:{servers[variable].port}"
    assert f"{lost} does not answer any more" in unbroken(printed), printed
    has_ended_with_a_reason(one, printed, complaints)
    # What stays is named; all that lies on the other servers is gone.
    assert f"{lost} " in unbroken(complaints)
    assert "left behind" in unbroken(complaints)
    assert set(left_on(others)) == before


# After a kill


def test_all_that_a_killed_run_leaves_on_the_broker_expires() -> None:
    rabbit = Broker(load_lesson("04"), None, "module8.test").rabbit
    assert rabbit.plan
    for item in rabbit.plan:
        if item.kind == "queue":
            assert item.options["arguments"]["x-expires"] == 1000 * EXPIRES
        else:
            assert item.options["auto_delete"]
