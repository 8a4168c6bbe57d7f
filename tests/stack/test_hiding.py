"""What a failing test prints of the services that it was given."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from lessons import ROOT, VARIABLES

FAILS = """
import os, subprocess, sys

def test_that_fails():
    url = os.environ["REDIS_URL"]
    print("asked", url, file=sys.stderr)
    raise AssertionError(f"{url} and Xq7Zk/9Wv")
"""


def test_a_failure_shows_no_password(tmp_path: Path) -> None:
    (tmp_path / "test_inside.py").write_text(FAILS)
    paths = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
    url = "redis://app:Xq7Zk%2F9Wv@redis.example:7/0"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-l", "-p", "hiding", "test_inside.py"],
        cwd=tmp_path,
        env=os.environ
        | dict.fromkeys(VARIABLES, "")
        | {"PYTHONPATH": paths, "REDIS_URL": url},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "redis://app:***@redis.example:7/0 and ***" in done.stdout
    assert "asked redis://app:***@redis.example" in done.stdout
    assert "Xq7Zk" not in done.stdout + done.stderr
