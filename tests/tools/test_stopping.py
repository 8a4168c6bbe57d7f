"""Tools that a signal ends: what they have started ends too, and one line says why."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from lessons import ROOT

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="platform: Windows ends a process without a signal"
)
every_signal = pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
LESSON = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
try:
    print("ready", flush=True)
    time.sleep(60)
finally:
    pathlib.Path(__file__).with_name("ended").touch()
"""
DEMO = """
import pathlib, sys
from tools import run_lessons
run_lessons.ROOT = pathlib.Path(sys.argv[1])
sys.exit(run_lessons.run_to_its_end(lambda: run_lessons.main([])))
"""
LIVE = """
import sys, time
from tools import live

def start_all(stack):
    stack.callback(print, "servers ended", flush=True)
    print("ready", flush=True)
    time.sleep(60)

live.start_all = start_all
sys.exit(live.run_to_its_end(live.main))
"""
WAITING = "echo ready; sleep 30"
# Stand in for what fills a folder of some hundred megabytes.
FILLING = {
    "apt-get": "echo http://mirror.invalid",
    "debootstrap": 'mkdir "$4/etc"',
    "uv": f'for last; do true; done; touch "$last/begun"; {WAITING}',
}


def begun(program: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a tool, and wait until what it has started is ready."""
    tool = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert tool.stdout
    while tool.stdout.readline() not in ("ready\n", ""):
        pass
    return tool


@every_signal
def test_the_lesson_that_runs_ends_too(name: str, tmp_path: Path) -> None:
    (tmp_path / "01_slow.py").write_text(LESSON, "utf-8")
    number = getattr(signal, name)
    with begun(DEMO, str(tmp_path)) as tool:
        tool.send_signal(number)
        _, complaints = tool.communicate(timeout=30)
    assert (tmp_path / "ended").exists()
    assert tool.returncode == 128 + number
    assert complaints.splitlines() == [f"-c: ended by {name}"]


def test_a_reader_that_leaves_ends_the_lesson(tmp_path: Path) -> None:
    lesson = LESSON.replace(
        "time.sleep(60)", "[print(n, flush=True) for n in range(9**6)]"
    )
    (tmp_path / "01_slow.py").write_text(lesson, "utf-8")
    with begun(DEMO, str(tmp_path)) as tool:
        assert tool.stdout and tool.stderr
        tool.stdout.close()
        assert tool.stderr.read() == ""
        tool.wait(30)
    assert (tmp_path / "ended").exists()
    assert tool.returncode == 141


@every_signal
def test_the_servers_end_too(name: str) -> None:
    number = getattr(signal, name)
    with begun(LIVE) as tool:
        tool.send_signal(number)
        printed, complaints = tool.communicate(timeout=30)
    assert printed == "servers ended\n"
    assert tool.returncode == 128 + number
    assert complaints.splitlines() == [f"-c: ended by {name}"]


@pytest.mark.parametrize("what", ["floors", "newest"])
@every_signal
def test_the_folder_of_a_tool_goes_too(name: str, what: str, tmp_path: Path) -> None:
    commands, made, project = (tmp_path / each for each in ("bin", "made", "project"))
    for folder in (commands, made, project / ".venv"):
        folder.mkdir(parents=True)
    for command, does in FILLING.items():
        (commands / command).write_text(f"#!/bin/sh\n{does}\n", "utf-8")
        (commands / command).chmod(0o755)
    for file in ("Makefile", "requirements.txt", "requirements-dev.txt"):
        shutil.copy(ROOT / file, project)
    (project / ".venv" / "dev").touch()  # newer than what it is made from
    asked = ["make", "-s", "floors", f"UV={commands / 'uv'}"]
    if what == "newest":
        asked = [str(ROOT / "tools" / "newest_servers"), "sh", "-c", WAITING]
    elif not shutil.which("make"):
        pytest.skip("make is not installed")
    tool = subprocess.Popen(
        asked,
        cwd=project,
        env={"PATH": f"{commands}:{os.environ['PATH']}", "TMPDIR": str(made)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a terminal's signal comes to all of a group
    )
    with tool:
        assert tool.stdout
        assert tool.stdout.readline() == "ready\n"
        assert len(list(made.iterdir())) == 1
        os.killpg(tool.pid, getattr(signal, name))
        tool.communicate(timeout=30)
    assert tool.returncode
    assert not list(made.iterdir())
