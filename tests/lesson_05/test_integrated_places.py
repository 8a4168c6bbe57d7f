"""Lesson 05 with --integrated where the names of its folders are odd."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from lessons import path_of, run

pytestmark = pytest.mark.slow
NO_UTF8 = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.skipif(
    sys.platform in ("win32", "darwin"), reason="platform: names are always Unicode"
)
def test_a_folder_whose_name_no_url_can_hold(tmp_path: Path) -> None:
    """Python then takes its bytes for lone surrogates, which SQLite can open."""
    home = tmp_path / "ä ? % # \N{GRINNING FACE}"
    home.mkdir()
    options = ["--integrated", "--offline", "--customers", "60"]
    done = run(path_of("05"), *options, env=NO_UTF8 | {"TMPDIR": str(home)})
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(home.iterdir())
