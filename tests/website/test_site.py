"""The site: every page in a browser, on a phone and a desk, light and dark."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import absent
from lessons import ROOT
from website.browser import WIDTHS, Visit, visit

pytest.importorskip("mkdocs", reason="mkdocs-material is in requirements-dev.txt")

from tools.reading_time import FENCED

BUILD = [sys.executable, str(ROOT / "tools" / "build_site.py")]
GUIDE = (ROOT / "COMPREHENSIVE_GUIDE.md").read_text("utf-8")
DIAGRAM = 800  # pixels; a wider one cannot be read where it is shrunk to a phone
SETTINGS = ("REPO_URL", "MERMAID_JS")
BARE = {name: value for name, value in os.environ.items() if name not in SETTINGS}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a site, with its diagrams if there is a mermaid to draw them."""
    folder = tmp_path_factory.mktemp("site") / "site"
    environment = dict(BARE)
    if given := os.environ.get("MERMAID_JS"):
        environment["MERMAID_JS"] = given
    done = subprocess.run(
        [*BUILD, "--output", str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def browser() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if not found:
        absent("no chromium on the PATH to open the site with")
    return str(found)


@pytest.fixture(scope="module", params=[False, True], ids=["light", "dark"])
def visited(
    request: pytest.FixtureRequest,
    site: Path,
    browser: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[bool, Visit]:
    if not (site / "assets" / "mermaid.min.js").is_file():
        absent("no mermaid to draw diagrams: neither npm nor MERMAID_JS has one")
    home = tmp_path_factory.mktemp("browser")
    return request.param, visit(site, browser, home, dark=request.param)


def brightness(color: str) -> float:
    """Return 0 for black to 1 for white."""
    parts = [float(part) for part in re.findall(r"[\d.]+", color)[:3]]
    return sum(parts) / (3 * 255)


@pytest.mark.slow
def test_every_page_can_be_read_without_a_complaint(
    site: Path, visited: tuple[bool, Visit]
) -> None:
    dark, found = visited
    assert found.complaints == []
    assert found.missing == []
    names = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    assert {(page["page"], page["width"]) for page in found.pages} == {
        (name, width) for name in names for width in WIDTHS
    }
    for page in found.pages:
        assert page["scrolls"] <= page["width"], page
        assert page["undrawn"] == 0, page
        assert page["broken"] == 0, page
        assert page["elsewhere"] == [], page
        assert page["dark"] is dark, page
        assert (brightness(page["background"]) < 0.5) is dark, page
        assert page["copies"] >= page["listings"], page
        assert all((paper < 0.5) is dark for paper in page["pictures"]), page
        assert page["widest"] <= max(DIAGRAM, page["width"]), page
    shown = sum(len(page["pictures"]) for page in found.pages)
    assert shown == GUIDE.count("](docs/figures/") * len(WIDTHS) > 0
    drawn = sum(page["diagrams"] for page in found.pages)
    assert drawn == GUIDE.count("\n```mermaid\n") * len(WIDTHS) > 0


BROKEN = """<!DOCTYPE html><html class="js"><title>broken</title>
<p style="width: 900px">wide</p><pre class="mermaid">graph</pre>
<img src="none.png"><script src="http://elsewhere.example/x.js"></script>
<script>console.error("complaint")</script>"""


def test_the_browser_sees_what_is_wrong(browser: str, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    # What is never drawn is waited for up to the deadline, here a short one.
    (folder / "broken.html").write_text(BROKEN, "utf-8")
    found = visit(folder, browser, tmp_path, dark=False, deadline=500)
    narrow, wide = found.pages
    assert narrow["width"] == 390
    assert narrow["scrolls"] >= 900
    assert wide["scrolls"] == 1280
    assert narrow["undrawn"] == narrow["broken"] == 1
    assert narrow["elsewhere"] == ["http://elsewhere.example/x.js"]
    assert "/none.png" in found.missing
    (line,) = found.complaints
    assert "complaint" in line


# What the pages hold


def html_of(site: Path, name: str) -> str:
    return (site / name).read_text("utf-8")


def test_a_page_for_each_chapter_exercise_and_lesson_to_teach(site: Path) -> None:
    headings = re.findall(r"^## (.+)$", FENCED.sub("", GUIDE), re.MULTILINE)
    titles = {
        re.sub("<.*?>|¶|&para;", "", found[1]).strip()
        for path in site.glob("*.html")
        if (found := re.search(r"<h1[^>]*>(.*?)</h1>", path.read_text("utf-8"), re.S))
    }
    assert set(headings) - {"Contents"} <= titles
    exercises = {path.parent.name for path in ROOT.glob("exercises/*/task.md")}
    built = {path.stem for path in site.glob("exercises/0*.html")}
    assert built == exercises != set()
    teaching = {path.stem for path in ROOT.glob("docs/teaching/0*.md")}
    assert {path.stem for path in site.glob("teaching/0*.html")} == teaching
    assert "<h1" in html_of(site, "report.html")


def test_hints_and_answers_are_not_on_the_site(site: Path) -> None:
    text = " ".join(path.read_text("utf-8") for path in site.glob("exercises/*.html"))
    for hidden in ("after.md", "answer.py"):
        for path in ROOT.glob(f"exercises/*/{hidden}"):
            lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
            longest = max((line for line in lines if "`" not in line), key=len)
            assert longest not in text, path


def test_lists_and_tables_are_not_left_as_text(site: Path) -> None:
    for path in site.rglob("*.html"):
        page = path.read_text("utf-8")
        text = re.sub(r"<(pre|code|script)\b.*?</\1>", "", page, flags=re.S)
        left = re.findall(r"(?:<p>|\n)(?:- |\|.*\||\d+\. |```|#+ ).*", text)
        assert left == [], path


def test_sections_can_be_searched(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text("utf-8"))
    found = {html.unescape(entry["title"]) for entry in index["docs"]}
    headings = re.findall(r"^### (.+)$", FENCED.sub("", GUIDE), re.MULTILINE)
    assert headings
    assert {heading.replace("`", "") for heading in headings} <= found


def test_a_reader_can_turn_the_page_and_find_an_exercise(site: Path) -> None:
    text = html_of(site, "5-customer-analytics-models-that-tell-the-truth.html")
    for name in ("4-rabbitmq-work-that-survives", "6-choosing-a-store"):
        assert re.search(rf'href="{name}.html" class="md-footer__link', text)
    assert 'href="exercises/05_1_features_as_of.html"' in text
    assert 'href="report.html"' in text


# Bad settings


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"MERMAID_JS": "/no/such/file.js"}, "MERMAID_JS: no file /no/such/file.js"),
        ({"REPO_URL": "ftp://host"}, "REPO_URL has to look like https://"),
        ({"REPO_URL": "https://user:word@host/a"}, "REPO_URL has to look like"),
    ],
)
def test_a_bad_setting_is_one_line(
    tmp_path: Path, settings: dict[str, str], complaint: str
) -> None:
    done = subprocess.run(
        [*BUILD, "--output", str(tmp_path / "site")],
        env=BARE | settings,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(complaint)
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "site").exists()


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine", "utf-8")
    done = subprocess.run(
        [*BUILD, "--output", str(tmp_path)],
        env=BARE,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert "is not a site" in done.stderr
    assert (tmp_path / "mine.txt").read_text("utf-8") == "mine"
