"""README: what it says about options and .venv is what a reader meets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from lessons import ROOT

from course.options import Parser

README = ROOT / "README.md"
GUIDE = ROOT / "COMPREHENSIVE_GUIDE.md"


def test_the_options_are_those_that_help_shows() -> None:
    shown = re.sub(r"\s+", " ", Parser("A lesson", []).format_help())
    text = README.read_text("utf-8")
    rows = re.findall(r"^\| `(--[\w-]+)[^`]*` \| (.+) \|$", text, re.MULTILINE)
    usage, _, listed = shown.partition("options:")
    offered = set(re.findall(r"--[\w-]+", usage))
    assert {option for option, _ in rows} == offered
    for option, meaning in rows:
        assert re.search(rf"{option}( [A-Z\[][^-]*)? {re.escape(meaning)}", listed)


@pytest.mark.parametrize("path", [README, GUIDE], ids=lambda path: path.name)
def test_the_environment_is_explained_before_the_first_python_line(path: Path) -> None:
    text = path.read_text("utf-8")
    first = re.search(r"^(\$ )?python ", text, re.MULTILINE)
    assert first
    before = text[: first.start()]
    assert "source .venv/bin/activate" in before
    assert r".venv\Scripts\Activate.ps1" in before
    assert text.count("source .venv/bin/activate") == 1


def test_everything_at_the_top_is_explained() -> None:
    table = README.read_text("utf-8").partition("## What is where")[2]
    folders = [path.name for path in ROOT.iterdir() if path.is_dir()]
    hidden = (".", "_", "dist", "site")
    for name in folders:
        if not name.startswith(hidden):
            assert f"`{name}/" in table, name
