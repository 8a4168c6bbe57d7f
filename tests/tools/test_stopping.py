"""Tools that a signal ends: what they have started ends too, and one line says why."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from lessons import ROOT
from services import wait_for

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


def waiting(folder: Path, *names: str) -> dict[str, str]:
    """Put programs that wait in the place of others; return the variables for that."""
    folder.mkdir()
    for name in names:
        program = folder / name
        program.write_text("#!/bin/sh\ntouch $0.begun\nsleep 2\n", "utf-8")
        program.chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin", "TMPDIR": str(folder / "temporary")}


def ended_while_waiting(argv: list[str], folder: Path, begun: str, name: str) -> int:
    """End a shell while the program that it has started waits; return its code."""
    variables = waiting(folder, "uv", "debootstrap", "apt-get")
    temporary = folder / "temporary"
    temporary.mkdir()
    with subprocess.Popen(argv, cwd=ROOT, env=variables) as shell:
        wait_for((folder / f"{begun}.begun").exists)
        assert list(temporary.iterdir())
        shell.send_signal(getattr(signal, name))
        code = shell.wait(30)
    assert not list(temporary.iterdir())
    return code


@every_signal
def test_no_folder_of_servers_is_left(name: str, tmp_path: Path) -> None:
    argv = ["sh", "tools/newest_servers", "true"]
    code = ended_while_waiting(argv, tmp_path / "programs", "apt-get", name)
    assert code == 128 + getattr(signal, name)


@every_signal
def test_no_folder_of_the_oldest_packages_is_left(name: str, tmp_path: Path) -> None:
    recipe = (ROOT / "Makefile").read_text("utf-8").partition("\nfloors:")[2]
    recipe = recipe.partition("\n\n")[0].partition("@")[2].replace("$$", "$")
    line = re.sub(r"\$\((\w+)\)", lambda found: found[1].lower(), recipe)
    argv = ["sh", "-c", line]
    code = ended_while_waiting(argv, tmp_path / "programs", "uv", name)
    assert code == 128 + getattr(signal, name)
