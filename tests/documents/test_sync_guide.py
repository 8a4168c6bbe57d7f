"""What fills the documents: listings that can be read alone, markers that resolve."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from lessons import ROOT

from tools.sync_guide import BLOCK, region

GUIDE = ROOT / "COMPREHENSIVE_GUIDE.md"
SYNC = [sys.executable, str(ROOT / "tools" / "sync_guide.py")]
PLACES = ("*.py", "course/**/*.py", "tests/lesson_0?/*.py", "examples/**/*.*")
SUFFIXES = (".py", ".yml")
MARKED_FILES = sorted(
    path
    for path in {path for place in PLACES for path in ROOT.glob(place)}
    if path.suffix in SUFFIXES
    and re.search(r"^ *# (end)?region ", path.read_text("utf-8"), re.MULTILINE)
)
EXAMPLE = '''\
class Plain:
    # region first
    """A docstring."""

    def one(self) -> int:
        return 1

    # endregion first


class Heir(Plain, metaclass=type):
    def two(self) -> int:
        return 2

    # region method

    def three(self) -> int:
        """Return three."""
        return 3

    # region and-function
    def four(self) -> int:
        # region body
        if True:
            return 4
        # endregion body

    # endregion method


def outside() -> None:
    # region nested
    class Local:
        pass
    # endregion nested


# endregion and-function
# region left
LEFT = 1
# endregion left
'''


@pytest.fixture
def example(tmp_path: Path) -> Path:
    path = tmp_path / "example.py"
    path.write_text(EXAMPLE, "utf-8")
    return path


def code_of(what: str) -> str:
    """Return a region as the guide shows it, without the fence."""
    return region(what).removeprefix("```python\n").removesuffix("\n```")


def snippets(suffix: str) -> list[str]:
    """Return the regions of files of a kind that the guide names."""
    blocks = BLOCK.finditer(GUIDE.read_text("utf-8"))
    named = [block["what"] for block in blocks if block["kind"] == "snippet"]
    return [what for what in named if what.partition("#")[0].endswith(suffix)]


@pytest.mark.parametrize("what", snippets(".py"))
def test_every_snippet_of_the_guide_parses(what: str) -> None:
    assert ast.parse(code_of(what)).body


def test_a_region_of_yaml_is_shown_without_its_indentation(tmp_path: Path) -> None:
    path = tmp_path / "rules.yml"
    path.write_text("a:\n  # region b\n  - c: d\n    e: f\n  # endregion b\n", "utf-8")
    assert region(f"{path}#b") == "```yaml\n- c: d\n  e: f\n```"


@pytest.mark.parametrize("what", snippets(".yml"))
def test_every_snippet_of_yaml_parses(what: str) -> None:
    text = region(what).removeprefix("```yaml\n").removesuffix("```")
    assert yaml.safe_load(text)


def test_every_listing_that_is_written_by_hand_parses() -> None:
    by_hand = BLOCK.sub("", GUIDE.read_text("utf-8"))
    listings = re.findall(r"^```python\n(.*?)^```$", by_hand, re.M | re.S)
    assert listings
    for listing in listings:
        ast.parse(listing)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("first", ["class Plain:", '    """A docstring."""']),
        (
            "method",
            [
                "class Heir(Plain, metaclass=type):",
                "    ...",
                "",
                "    def three(self) -> int:",
            ],
        ),
        ("body", ["if True:", "    return 4"]),
        ("nested", ["class Local:", "    pass"]),
        ("left", ["LEFT = 1"]),
    ],
)
def test_a_listing_shows_the_class_of_its_methods(
    example: Path, name: str, lines: list[str]
) -> None:
    code = code_of(f"{example}#{name}")
    assert code.splitlines()[: len(lines)] == lines
    ast.parse(code)


def test_a_listing_may_begin_in_a_class_and_end_behind_it(example: Path) -> None:
    code = code_of(f"{example}#and-function")
    names = [getattr(node, "name", None) for node in ast.parse(code).body]
    assert names == ["Heir", "outside"]


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


def test_a_stale_block_is_found_and_mended(tmp_path: Path, example: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        f"<!-- snippet: {example}#left -->\nold\n<!-- /snippet -->\n", "utf-8"
    )
    check = [*SYNC, "--check", str(page)]
    assert subprocess.run(check, capture_output=True, check=False).returncode == 1
    subprocess.run([*SYNC, page], capture_output=True, check=True)
    assert "LEFT = 1" in page.read_text("utf-8")
    assert subprocess.run(check, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(
    "path", MARKED_FILES, ids=lambda path: str(path.relative_to(ROOT))
)
def test_every_region_is_closed_and_named_once(path: Path) -> None:
    lines = re.findall(r"^ *# (region|endregion) (\S+)$", path.read_text("utf-8"), re.M)
    assert lines
    opened = [name for kind, name in lines if kind == "region"]
    closed = [name for kind, name in lines if kind == "endregion"]
    assert sorted(opened) == sorted(closed)
    assert len(opened) == len(set(opened))
