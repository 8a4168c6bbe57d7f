"""REQUIRE_LIVE=1: what is missing is a failure, whatever kind of skip it is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from lessons import ROOT

TESTS = """
import pytest

def test_calls_skip():
    pytest.skip("no server")

def test_imports():
    pytest.importorskip("a_package_that_is_not_there")

@pytest.mark.skipif(True, reason="no program")
def test_is_marked():
    pass

@pytest.fixture
def server():
    pytest.skip("no fixture")

def test_has_a_fixture(server):
    pass

@pytest.mark.skipif(True, reason="platform: no fork on Windows")
def test_of_another_platform():
    pass

def test_passes():
    pass
"""
MODULE = "import pytest\npytest.importorskip('a_package_that_is_not_there')\n"


@pytest.mark.parametrize(
    ("required", "outcomes"),
    [
        ("1", {"failed": 2, "errors": 2, "error": 1, "passed": 1, "skipped": 1}),
        ("0", {"passed": 1, "skipped": 6}),
    ],
)
def test_a_skip_is_a_failure_but_for_another_platform(
    required: str, outcomes: dict[str, int], tmp_path: Path
) -> None:
    (tmp_path / "test_inside.py").write_text(TESTS)
    (tmp_path / "test_whole.py").write_text(MODULE)
    paths = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
    found: dict[str, int] = {}
    for name in ("test_inside.py", "test_whole.py"):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "required", name],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": paths, "REQUIRE_LIVE": required},
            capture_output=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )
        last = done.stdout.splitlines()[-1]
        for count, outcome in re.findall(r"(\d+) (\w+)", last.partition(" in ")[0]):
            found[outcome] = found.get(outcome, 0) + int(count)
    assert found == outcomes
