"""The pages before they are built: chapters, anchors, links, diagrams."""

from __future__ import annotations

from pathlib import Path

import pytest
from lessons import ROOT

pytest.importorskip("yaml", reason="pyyaml is in requirements-dev.txt")

from tools.build_site import MERMAID, menu, put_mermaid, with_diagrams
from tools.site_pages import Links, Page, SiteError, all_pages, chapters_of

GUIDE_TEXT = """\
# Title

[One](#1-one-of-two)

## Contents

- [One](#1-one-of-two)

## 1. One `of` two

See [`code`](course), `[not](a-link)`, [two](#21-deep), [a picture](docs/figures/a.svg)
and [elsewhere](https://example.org/x).

```text
## no heading, [no](link)
```

<!-- a marker -->

## 2. Two

### 2.1 Deep

Deep.
"""
TEACHING = """\
# Teaching

[One](../../COMPREHENSIVE_GUIDE.md#1-one-of-two), [x](../../course)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    files = {
        "COMPREHENSIVE_GUIDE.md": GUIDE_TEXT,
        "exercises/README.md": "# Exercises\n",
        "exercises/01_1_first/task.md": "# A task\nMinutes: 5\n",
        "docs/teaching/01.md": "# First lesson\n\n[All](README.md)\n",
        "docs/teaching/README.md": TEACHING,
        "docs/versions.md": "# Versions\n",
        "docs/figures/a.svg": "<svg/>",
        "benchmarks/README.md": "# Benchmarks\n",
        "course/x.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    return tmp_path


def page(root: Path, path: str, repository: str = "") -> str:
    """Return the text of a page with its links changed."""
    pages = all_pages(root)
    (wanted,) = (one for one in pages if one.path == path)
    return Links(root, pages, repository).rewritten(wanted)


def test_each_chapter_is_a_page_and_contents_stay_on_the_first(project: Path) -> None:
    assert [title for title, _ in chapters_of(GUIDE_TEXT)] == [
        "Start",
        "1. One `of` two",
        "2. Two",
    ]
    paths = [one.path for one in all_pages(project)]
    assert paths == [
        "index.md",
        "1-one-of-two.md",
        "2-two.md",
        "exercises/index.md",
        "exercises/01_1_first.md",
        "teaching/index.md",
        "teaching/01.md",
        "benchmarks.md",
        "versions.md",
    ]


def test_links_lead_to_pages(project: Path) -> None:
    first = page(project, "index.md")
    assert first.count("[One](1-one-of-two.md#1-one-of-two)") == 2
    one = page(project, "1-one-of-two.md")
    assert one.startswith("# 1. One `of` two { #1-one-of-two }")
    assert "See `code`, `[not](a-link)`, [two](2-two.md#21-deep)" in one
    assert "[a picture](figures/a.svg)" in one
    assert "(https://example.org/x)" in one
    assert "```text\n## no heading, [no](link)\n```" in one
    assert "marker" not in one
    teaching = page(project, "teaching/index.md")
    assert "[One](../1-one-of-two.md#1-one-of-two), x" in teaching
    assert "[All](index.md)" in page(project, "teaching/01.md")


def test_links_to_code_lead_to_the_repository_if_there_is_one(project: Path) -> None:
    one = page(project, "1-one-of-two.md", "https://example.org/me/it/")
    assert "[`code`](https://example.org/me/it/tree/HEAD/course)" in one


@pytest.mark.parametrize("target", ["#nothing", "course/none.py", "none.md#x"])
def test_a_link_that_leads_nowhere_is_an_error(project: Path, target: str) -> None:
    with (project / "COMPREHENSIVE_GUIDE.md").open("a") as guide:
        guide.write(f"\n[x]({target})\n")
    with pytest.raises(SiteError, match=target):
        page(project, "2-two.md")


def test_every_link_of_the_documents_leads_somewhere() -> None:
    pages = all_pages(ROOT)
    links = Links(ROOT, pages, "https://example.org/me/it")
    texts = [links.rewritten(one) for one in pages]
    assert any("/blob/HEAD/course/sql/" in text for text in texts)


def test_pages_without_a_group_come_alone_in_the_menu() -> None:
    pages = [Page(f"{x}.md", "G" if x != "a" else "", x, "s.md", "") for x in "abc"]
    assert menu(pages)[:2] == [{"a": "a.md"}, {"G": [{"b": "b.md"}, {"c": "c.md"}]}]


# Diagrams


@pytest.mark.parametrize(
    ("npm", "reason"),
    [
        ("", "npm is not on the PATH"),
        ("#!/bin/sh\nexit 1\n", f"npm could not fetch {MERMAID}"),
        ("#!/bin/sh\nexec sleep 60\n", "npm took longer than 1 seconds"),
    ],
)
def test_without_mermaid_the_build_says_so(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    npm: str,
    reason: str,
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    if npm:
        (programs / "npm").write_text(npm, "utf-8")
        (programs / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/bin" if npm else str(programs))
    monkeypatch.delenv("MERMAID_JS", raising=False)
    monkeypatch.setattr("tools.build_site.FETCH_LIMIT", 1.0)
    (tmp_path / "assets").mkdir()
    assert put_mermaid(tmp_path / "assets") is False
    assert capsys.readouterr().out == (
        f"Diagrams are shown as code: {reason}, and MERMAID_JS is not set.\n"
    )


def test_a_mermaid_that_is_given_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "own.js").write_text("own", "utf-8")
    monkeypatch.setenv("MERMAID_JS", str(tmp_path / "own.js"))
    assert put_mermaid(tmp_path / "assets") is True
    assert (tmp_path / "assets" / "mermaid.min.js").read_text("utf-8") == "own"


def test_diagrams_that_nothing_draws_stay_code() -> None:
    text = "One\n\n```mermaid\nflowchart LR\n```\n\n```sh\nls\n```\n"
    code = with_diagrams(text, drawn=False)
    assert code == text.replace("mermaid", "text")
    drawn = with_diagrams(text, drawn=True)
    opened, _, rest = drawn.partition('<div class="diagram" markdown>\n\n```mermaid\n')
    assert opened == "One\n\n"
    first, second, *_ = rest.splitlines()
    assert first.startswith("%%{init: ")
    assert first.endswith("}%%")
    assert second == "flowchart LR"
    assert rest.endswith("```\n\n</div>\n\n```sh\nls\n```\n")
