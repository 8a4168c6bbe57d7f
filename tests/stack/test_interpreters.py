"""`make demo` from nothing, on every Python that the course is for: a soak test."""

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


@pytest.mark.soak
@pytest.mark.parametrize("version", VERSIONS)
def test_make_demo_passes_from_nothing(version: str, tmp_path: Path) -> None:
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} here: pyenv install {version}")
    copy = tmp_path / "course"
    shutil.copytree(ROOT, copy, ignore=NOT_OF_THE_PROJECT)
    done = subprocess.run(
        ["make", "demo", f"PYTHON={python}"],
        cwd=copy,
        env=os.environ | dict.fromkeys(VARIABLES, ""),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=INSTALL_AND_RUN,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    total = re.search(
        r"^all lessons +\d+ ok, \d+ skipped, 0 failed$", done.stdout, re.M
    )
    assert total, done.stdout
    assert is_python(str(copy / ".venv" / "bin" / "python"), version)


def test_soak_tests_run_only_when_asked_for() -> None:
    settings = (ROOT / "pyproject.toml").read_text("utf-8")
    assert "-m 'not soak'" in settings
    recipe = re.search(r"^soak: .*\n\t(.+)$", (ROOT / "Makefile").read_text(), re.M)
    assert recipe
    assert "-m soak" in recipe[1]
