"""What `make demo` prints and returns, on scripts that stand in for lessons."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from lessons import ROOT

from tools import run_lessons

GOOD = "print('backend: none'); print('  [ok] one'); print('1 ok, 2 skipped, 0 failed')"
FALSE = "print('0 ok, 0 skipped, 1 failed'); raise SystemExit(1)"
BROKEN = "raise SystemExit('no package')"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with two lessons, which the tool takes for its own."""
    for name in ("01_first.py", "02_second.py"):
        (tmp_path / name).write_text(GOOD, "utf-8")
    (tmp_path / run_lessons.GUIDE).touch()
    (tmp_path / "practice.py").write_text("print('the list')", "utf-8")
    monkeypatch.setattr(run_lessons, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_tallies_are_added_up(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_lessons.main(["--quiet"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{'01_first.py':<30} 1 ok, 2 skipped, 0 failed",
        f"{'02_second.py':<30} 1 ok, 2 skipped, 0 failed",
        f"{'all lessons':<30} 2 ok, 4 skipped, 0 failed",
    ]


def test_it_ends_with_what_to_do_next(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_lessons.main([]) == 0
    *_, blank, run, read, practise = capsys.readouterr().out.splitlines()
    assert blank == ""
    command = re.fullmatch(r"run a lesson: +(\S+) (\S+)   \(--help .*\)", run)
    assert command
    done = subprocess.run(command.groups(), check=True, capture_output=True, text=True)
    assert "[ok] one" in done.stdout
    guide = re.fullmatch(r"read about it: +(\S+), a chapter for each lesson", read)
    assert guide
    assert Path(guide[1]).is_file()
    listing = re.fullmatch(r"practise: +(\S+) (\S+)   \(exercises .+\)", practise)
    assert listing
    done = subprocess.run(listing.groups(), check=True, capture_output=True, text=True)
    assert done.stdout == "the list\n"
    assert (ROOT / listing[2]).is_file()
    for line, paths in ((read, guide.groups()), (practise, listing.groups())):
        assert len(line) - len("".join(paths)) <= 60  # beside paths as long as they are


def test_the_interpreter_is_named_as_one_types_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(folder / ".venv" / "bin" / "python"))
    first, *_ = run_lessons.what_next(folder / "01_first.py").splitlines()
    assert ":   .venv/bin/python 01_first.py " in first


@pytest.mark.parametrize(
    ("script", "line"),
    [
        (FALSE, "0 ok, 0 skipped, 1 failed (exit code 1)"),
        (BROKEN, " (exit code 1)"),
        ("", ""),  # no tally
    ],
)
def test_what_fails_is_named_and_exits_1(
    folder: Path, capsys: pytest.CaptureFixture[str], script: str, line: str
) -> None:
    (folder / "02_second.py").write_text(script, "utf-8")
    assert run_lessons.main(["--quiet"]) == 1
    assert f"{'02_second.py':<30} {line}" in capsys.readouterr().out
