"""`make demo` from nothing, and the exercises, on every Python of the course."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from lessons import ROOT, VARIABLES
from programs import interpreter, is_python

VERSIONS = ("3.11", "3.12", "3.13", "3.14")
INSTALL_AND_RUN = 1800.0  # seconds
NOT_OF_THE_PROJECT = shutil.ignore_patterns(".git", ".venv", ".env", "dist", ".*cache")


# Prints what is not said as it should be, of solutions and of wrong answers.
JUDGE = """
import json
from pathlib import Path

from course.practice.exercises import exercises_in
from course.practice.verdicts import judge_every, sentence_of

root = Path.cwd()
refusals = json.loads((root / "tests/exercises/refusals.json").read_text("utf-8"))
jobs = []
expected = []
for one in exercises_in(root):
    wrong = one.beside("wrong").with_suffix("")
    jobs += [(one.folder, one.solution, seed) for seed in (1, 2, 3)]
    expected += ["right"] * 3
    others = sorted(one.beside("right").with_suffix("").glob("*.py"))
    jobs += [(one.folder, other, 1) for other in others]
    expected += ["right"] * len(others)
    jobs += [(one.folder, wrong / f"{name}.py", 1) for name in refusals[one.name]]
    expected += list(refusals[one.name].values())
assert len(jobs) >= 175
for job, verdict, said in zip(jobs, judge_every(root, jobs, 60.0), expected):
    if sentence_of(verdict) != said:
        print(job[1], job[2], sentence_of(verdict))
"""


def run_in(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder, without the address of any service."""
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | dict.fromkeys(VARIABLES, ""),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=INSTALL_AND_RUN,
        check=False,
    )


@pytest.mark.soak
@pytest.mark.timeout(2 * INSTALL_AND_RUN)  # a busy machine takes more than the usual
@pytest.mark.parametrize("version", VERSIONS)
def test_make_demo_and_the_exercises_pass_from_nothing(
    version: str, tmp_path: Path
) -> None:
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} here: pyenv install {version}")
    copy = tmp_path / "course"
    shutil.copytree(ROOT, copy, ignore=NOT_OF_THE_PROJECT)
    done = run_in(copy, "make", "demo", f"PYTHON={python}")
    assert done.returncode == 0, done.stdout
    total = re.search(
        r"^all lessons +\d+ ok, \d+ skipped, 0 failed$", done.stdout, re.M
    )
    assert total, done.stdout
    python = str(copy / ".venv" / "bin" / "python")
    assert is_python(python, version)
    judged = run_in(copy, python, "-c", JUDGE)
    assert (judged.returncode, judged.stdout) == (0, "")


def test_soak_tests_run_only_when_asked_for() -> None:
    settings = (ROOT / "pyproject.toml").read_text("utf-8")
    assert "-m 'not soak'" in settings
    recipe = re.search(r"^soak: .*\n\t(.+)$", (ROOT / "Makefile").read_text(), re.M)
    assert recipe
    assert "-m soak" in recipe[1]
