"""The documents: generated where they can be, and every name in them resolves."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from lessons import ROOT, SCRIPTS, load

DOCUMENTS = sorted(
    path for path in ROOT.rglob("*.md") if not {".venv", ".git"} & set(path.parts)
)
SYNC = [sys.executable, str(ROOT / "tools" / "sync_guide.py")]
every_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)


def prose(path: Path) -> str:
    """Return a document without its code blocks."""
    return re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.M | re.S)


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    lowered = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in lowered}


@pytest.mark.slow
def test_the_guide_says_what_the_scripts_do() -> None:
    done = subprocess.run(
        [*SYNC, "--check"], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("marker", "complaint"),
    [
        ("snippet: 09_none.py#x", "no file 09_none.py"),
        ("snippet: 01_sqlalchemy_advanced.py#no-such", "0 regions 'no-such'"),
        ("output: 01_sqlalchemy_advanced.py --only no-such", "no demo 'no-such'"),
    ],
)
def test_a_marker_that_does_not_resolve_is_named(
    tmp_path: Path, marker: str, complaint: str
) -> None:
    page = tmp_path / "page.md"
    kind = marker.partition(":")[0]
    text = f"<!-- {marker} -->\n<!-- /{kind} -->\n"
    page.write_text(text, "utf-8")
    done = subprocess.run([*SYNC, page], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert page.read_text("utf-8") == text


def test_a_stale_block_is_found_and_mended(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- snippet: 01_sqlalchemy_advanced.py#harness -->\nold\n<!-- /snippet -->\n",
        "utf-8",
    )
    check = [*SYNC, "--check", str(page)]
    assert subprocess.run(check, capture_output=True, check=False).returncode == 1
    subprocess.run([*SYNC, page], capture_output=True, check=True)
    assert "class Skip(Exception)" in page.read_text("utf-8")
    assert subprocess.run(check, capture_output=True, check=False).returncode == 0


@every_document
def test_every_relative_link_resolves(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        linked = (path.parent / name) if name else path
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked), target


@every_document
def test_every_script_and_demo_that_is_named_exists(path: Path) -> None:
    text = path.read_text("utf-8")
    there = {script.name for script in SCRIPTS}
    assert set(re.findall(r"\b0\d_\w+\.py\b", text)) <= there
    for script, names in re.findall(r"\b(0\d)_\w+\.py[^\n]*?--only ([\w ]+)", text):
        demos = load(script).DEMOS
        assert set(names.split()) & set(demos), names


@every_document
def test_every_make_target_that_is_named_exists(path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"`make ([a-z]+)", path.read_text("utf-8"))) <= targets


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_region_is_closed_and_named_once(script: Path) -> None:
    lines = re.findall(
        r"^ *# (region|endregion) (\S+)$", script.read_text("utf-8"), re.M
    )
    opened = [name for kind, name in lines if kind == "region"]
    closed = [name for kind, name in lines if kind == "endregion"]
    assert sorted(opened) == sorted(closed)
    assert len(opened) == len(set(opened))
