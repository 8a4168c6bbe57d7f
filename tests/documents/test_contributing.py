"""CONTRIBUTING.md: its worked example, figures and minutes are the real ones."""

from __future__ import annotations

import re

import pytest
from lessons import ROOT, folder_of, path_of

from tools import legibility

TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
CI_RUN = (ROOT / ".ci" / "run").read_text("utf-8")


def section(heading: str) -> str:
    """Return the text under a heading."""
    return re.split(r"^## ", TEXT.partition(f"## {heading}\n")[2], flags=re.M)[0]


def test_the_claim_of_the_worked_example_has_all_its_parts() -> None:
    claim = re.search(r"`\[ok\] (.+?)` of lesson (\d+)", TEXT)
    assert claim
    words, number = claim.groups()
    folder = folder_of(number)
    golden = (folder / "golden.txt").read_text("utf-8")
    guide = (ROOT / "COMPREHENSIVE_GUIDE.md").read_text("utf-8")
    script = path_of(number).read_text("utf-8")
    assert f'"{words}"' in script
    assert f'"{words}"' in (folder / "mutations.py").read_text("utf-8")
    assert f"  [ok] {words}\n" in golden
    assert f"  [ok] {words}\n" in guide
    for name in ("countries_lazy", "countries_selectin", "loading"):
        assert f"`{name}`" in TEXT
        assert f"def {name}(" in script


def test_every_part_of_ci_has_its_minutes_and_they_sum_up_to_less_than_40() -> None:
    rows = re.findall(r"^\| (\w+) \| (\d+) \| (\d+) \|", section("Time"), re.MULTILINE)
    parts = re.findall(r"^part (\w+) ", CI_RUN, re.MULTILINE)
    assert [name for name, _, _ in rows] == parts
    assert sum(int(at_most) for _, at_most, _ in rows) < 40
    for name, at_most, usual in rows:
        assert int(usual) <= int(at_most), name


def test_ci_types_what_the_readme_names() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    for target in ("demo", "test", "live", "floors", "newest"):
        assert re.search(rf"^part {target} .*make {target}\b", CI_RUN, re.MULTILINE)
        assert f"make {target}" in readme


@pytest.mark.parametrize(
    "limit",
    [
        f"{legibility.MOST_TOKENS_ELSEWHERE:,}",
        f"lesson 05: {legibility.MOST_TOKENS['05']:,}",
        f"**{legibility.LATEST_DEMO}**",
    ],
)
def test_the_hard_limits_are_those_of_the_tool(limit: str) -> None:
    assert limit in section("Plain code")


def test_the_core_is_what_stands_in_course() -> None:
    (core,) = re.findall(r"the core: course/(.+)$", section("The house"), re.MULTILINE)
    modules = {path.stem for path in ROOT.glob("course/*.py")} - {"__init__", "start"}
    assert set(core.split(", ")) == modules


def test_soak_tests_are_marked_as_it_says() -> None:
    assert "`@pytest.mark.soak`" in section("Time")
    settings = (ROOT / "pyproject.toml").read_text("utf-8")
    assert '"soak: ' in settings


def test_the_changelog_begins_with_what_is_not_released() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    headings = re.findall(r"^## (.+)$", changelog, re.MULTILINE)
    assert headings[0] == "Unreleased"
    kinds = re.findall(r"^### (.+)$", changelog, re.MULTILINE)
    known = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(kinds) <= known
