"""Each lesson as a notebook: cell by cell, a demo prints under its own cell.

The kernel's working folder is a temporary one, so PYTHONPATH leads to course/. For a
notebook that lies beside the lessons, its own folder is the working folder: it needs no
such variable.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lessons import SCRIPTS, folder_of

pytest.importorskip("jupytext")
pytest.importorskip("nbconvert")
pytest.importorskip("ipykernel")

CELL_LIMIT = 120  # seconds; a lesson takes five in all, a busy machine more
NOBODY = {  # nothing listens on port 1
    "DATABASE_URL": "postgresql://user:s3cr3t@127.0.0.1:1/name",
    "MONGODB_URI": "mongodb://user:s3cr3t@127.0.0.1:1/",
    "REDIS_URL": "redis://user:s3cr3t@127.0.0.1:1/0",
    "RABBITMQ_URL": "amqp://user:s3cr3t@127.0.0.1:1/%2F",
}


@dataclass(frozen=True)
class Cell:
    """A cell of code and what it printed."""

    source: str
    outputs: list[dict[str, Any]]

    def printed(self, stream: str = "stdout") -> str:
        parts = [one["text"] for one in self.outputs if one.get("name") == stream]
        return "".join("".join(part) for part in parts)

    @property
    def errors(self) -> list[str]:
        return [
            f"{one['ename']}: {one['evalue']}"
            for one in self.outputs
            if one["output_type"] == "error"
        ]


def call(folder: Path, course: Path, *arguments: str, **variables: str) -> None:
    """Run one of Jupyter's programs, which leaves everything in `folder`."""
    home = folder / "home"
    env = os.environ | NOBODY | variables
    env |= {
        "HOME": str(home),
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTER_PLATFORM_DIRS": "1",
        "PYTHONPATH": str(course),
    }
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def cells_of(script: Path, folder: Path, **variables: str) -> list[Cell]:
    """Run a lesson as a notebook, even past an error; return its cells of code."""
    course = script.parent
    convert = ["jupytext", "--from", "py:percent", "--to", "ipynb"]
    call(folder, course, *convert, "--output", "lesson.ipynb", str(script))
    execute = ["nbconvert", "--to", "notebook", "--execute", "--allow-errors"]
    limit = f"--ExecutePreprocessor.timeout={CELL_LIMIT}"
    output = ["--output", "done.ipynb", "lesson.ipynb"]
    call(folder, course, *execute, limit, *output, **variables)
    notebook = json.loads((folder / "done.ipynb").read_text("utf-8"))
    return [
        Cell("".join(cell["source"]), cell["outputs"])
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
    ]


def check_cells(cells: list[Cell], golden: str) -> None:
    """Check that each demo printed under its own cell what the golden file has."""
    assert [cell.errors for cell in cells if cell.errors] == []
    number = 0
    for cell in cells:
        printed = cell.printed()
        headings = re.findall(r"^(\d+)\. ", printed, re.MULTILINE)
        if "@lesson.demo" in cell.source:
            number += 1
            assert headings == [str(number)]
            assert printed.startswith("backend: ") == (number == 1)
        elif cell is not cells[-1]:
            assert printed == ""
    everything = "".join(cell.printed() for cell in cells)
    # What comes before the first heading says which back end it is, and why.
    assert everything.partition("\n\n")[2] == golden.partition("\n\n")[2]
    assert cells[-1].printed().split() == golden.splitlines()[-1].split()
    assert not any("s3cr3t" in str(cell.outputs) for cell in cells)


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_lesson_runs_cell_by_cell(script: Path, tmp_path: Path) -> None:
    cells = cells_of(script, tmp_path)
    check_cells(cells, (folder_of(script.name[:2]) / "golden.txt").read_text("utf-8"))
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"home", "lesson.ipynb", "done.ipynb"}


SMALL_GOLDEN = """\
backend: a small one at SMALL_URL

1. Loading: one query instead of three
  way     queries
  lazy          3
  joined        1
  [ok] three queries lazy, one joined

2. Skipping: a point that cannot be shown
  backend                            a small one at SMALL_URL
  [skip] this back end has no such thing

3. Odd ends: what the environment asks for

1 ok, 1 skipped, 0 failed
"""


def test_the_back_end_is_open_from_the_first_demo_to_the_last_cell(
    small_lesson: Path, tmp_path: Path
) -> None:
    cells = cells_of(small_lesson, tmp_path)
    check_cells(cells, SMALL_GOLDEN)
    closed = [cell for cell in cells if "closed" in cell.printed("stderr")]
    assert closed == cells[-1:]


def test_a_false_claim_is_counted_and_the_next_cells_go_on(
    small_lesson: Path, tmp_path: Path
) -> None:
    cells = cells_of(small_lesson, tmp_path, SMALL_END="claim")
    assert "[FAIL] two is three: 2, not 3" in cells[-2].printed()
    assert cells[-1].printed() == "\n1 ok, 1 skipped, 1 failed\n"
    assert cells[-1].errors == []


def test_bad_input_is_an_error_of_its_cell_without_the_password(
    small_lesson: Path, tmp_path: Path
) -> None:
    cells = cells_of(small_lesson, tmp_path, SMALL_URL="bad://user:s3cr3t@host")
    assert cells[1].errors == ["BadInput: SMALL_URL: bad://user:***@host is no address"]
