"""Lesson 05: the page that a manager keeps open, in a browser on a phone and a desk."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html import escape, unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from conftest import absent
from lesson_05.logs import SCRIPT, orders, write
from lessons import load, run

from course.analytics.page import Table, as_figure, as_html, as_percent

WIDTHS = (390, 1280)

# Runs in the page: what is too wide, what cannot be read, which scheme is on.
PROBE = """<script>
function luminance(color) {
  const parts = color.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255);
  const [r, g, b] = parts.map(
    v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function contrast(element) {
  const style = getComputedStyle(element);
  let back = element;
  while (back && getComputedStyle(back).backgroundColor === 'rgba(0, 0, 0, 0)')
    back = back.parentElement;
  const one = luminance(style.color);
  const other = luminance(getComputedStyle(back || document.body).backgroundColor);
  return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
}
addEventListener('load', () => {
  const wide = [];
  for (const element of document.body.querySelectorAll('*')) {
    if (element.closest('.scroll') && !element.matches('.scroll')) continue;
    if (element.getBoundingClientRect().right > innerWidth + 1)
      wide.push(element.tagName);
  }
  const fits = document.querySelector('table.fits').closest('.scroll');
  const texts = [...document.querySelectorAll('a,li,td,th,dd,dt,h1,h2,caption,p')];
  document.title = JSON.stringify({
    width: innerWidth,
    page: document.documentElement.scrollWidth,
    wide: wide,
    segments: fits.scrollWidth - fits.clientWidth,
    contrast: Math.min(...texts.map(contrast)),
    dark: matchMedia('(prefers-color-scheme: dark)').matches,
    pictures: [...document.images].map(i => i.complete && i.naturalWidth > 0),
  });
});</script>"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    done = run(SCRIPT, "--report", str(path), "--json")
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, int, bool], Any]:
    """Measure a page in a browser of some width, in a light or dark scheme."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if not browser:
        absent("no chromium on the PATH to open the report with")
    home = tmp_path_factory.mktemp("probe")

    def measured(page: Path, width: int, dark: bool) -> Any:
        # The page's policy forbids scripts: for the measurement it is taken out. In a
        # frame, as a browser's window cannot be as narrow as a phone.
        text = re.sub(r'<meta http-equiv="[^>]*>', "", page.read_text("utf-8"))
        framed = escape(text.replace("</body>", f"{PROBE}</body>"))
        copy = home / "framed.html"
        copy.write_text(
            "<!DOCTYPE html><title>none</title><body style='margin:0'>"
            f"<iframe style='border:0;width:{width}px;height:3000px' "
            f'srcdoc="{framed}" onload="document.title = '
            'this.contentDocument.title"></iframe>',
            "utf-8",
        )
        scheme = "0" if dark else "1"
        command = [str(browser), "--headless", "--no-sandbox", "--disable-gpu"]
        command += [f"--user-data-dir={home / 'profile'}", "--hide-scrollbars"]
        command += [f"--blink-settings=preferredColorScheme={scheme}"]
        command += ["--virtual-time-budget=4000", "--window-size=1400,1000"]
        done = subprocess.run(
            [*command, "--dump-dom", copy.as_uri()],
            capture_output=True,
            encoding="utf-8",
            timeout=90,
            check=False,
        )
        titles = re.findall(r"<title>(.*?)</title>", done.stdout)
        return json.loads(unescape(titles[0]))

    return measured


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_runs_over_the_edge_and_all_can_be_read(
    probe: Any, report: Path, width: int, dark: bool
) -> None:
    found = probe(report, width, dark)
    assert found["width"] == width
    assert found["dark"] is dark
    assert found["page"] <= width
    assert found["wide"] == []
    assert found["segments"] <= 1  # no scrolling for the table that matters
    assert found["contrast"] >= 4.5
    assert all(found["pictures"])


def test_the_probe_sees_what_is_too_wide(
    probe: Any, report: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.html"
    text = report.read_text("utf-8").replace(
        "<main>", "<main><p style='width:900px;color:#ddd'>x</p>"
    )
    broken.write_text(text, "utf-8")
    found = probe(broken, 390, False)
    assert found["page"] > 390
    assert "P" in found["wide"]
    assert found["contrast"] < 2


class Outline(HTMLParser):
    """What stands on a page, in its order."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def outline(page: str) -> Outline:
    found = Outline()
    found.feed(page)
    return found


def test_sentences_then_segments_then_pictures_then_tables(report: Path) -> None:
    text = report.read_text("utf-8")
    places = [
        text.index(mark)
        for mark in ("dormant: 2,058", 'class="fits"', "<figure>", "churn model")
    ]
    assert places == sorted(places)
    found = outline(text)
    headings = [tag for tag, _ in found.tags if tag in ("h1", "h2")]
    assert headings == ["h1", *["h2"] * 5]
    ids = {attrs["id"] for tag, attrs in found.tags if tag == "section"}
    links = {str(attrs["href"])[1:] for tag, attrs in found.tags if tag == "a"}
    assert links == ids
    tags = [tag for tag, _ in found.tags]
    assert tags.count("caption") == tags.count("table") > 4
    scopes = [attrs.get("scope") for tag, attrs in found.tags if tag == "th"]
    assert set(scopes) == {"col", "row"}
    assert "#####" not in text
    assert "....s" not in text
    assert "cumulative repeat orders" in text


def test_alt_texts_say_what_the_pictures_say(report: Path) -> None:
    pytest.importorskip("matplotlib")
    alts = [
        str(attrs["alt"])
        for tag, attrs in outline(report.read_text("utf-8")).tags
        if tag == "img"
    ]
    assert len(alts) == len(set(alts)) == 5
    for alt in alts:
        assert re.search(r"\d", alt)
        assert len(alt.split()) > 8
    figures = json.loads(run(SCRIPT, "--json").stdout)
    assert any(str(figures["horizon_days"]) in alt for alt in alts)


def test_shares_are_percent_and_large_sums_are_short(report: Path) -> None:
    assert as_percent(0.334) == "33 %"
    assert as_percent((0.31, 0.352)) == "31 to 35 %"
    assert as_percent(0.9996) == "100.0 %"
    assert as_percent(0.004) == "0.4 %"
    assert as_percent(None) == as_percent(float("nan")) == "-"
    assert as_figure(1_234_567.0) == "1.23 M"
    assert as_figure(2.5e9) == "2.50 bn"
    assert as_figure(2058) == "2,058"
    text = report.read_text("utf-8")
    segments = text[text.index('class="fits"') : text.index("</table>")]
    assert not re.search(r">0?\.\d+<", segments)
    assert "87 %" in segments


def test_all_text_is_escaped() -> None:
    name = "<script>&"
    shown = as_html(Table(name, name, {name: {name: name}}))
    assert "<script>" not in shown
    assert shown.count("&lt;script&gt;&amp;") == 6


def test_amounts_of_any_size_fit_a_phone(probe: Any, tmp_path: Path) -> None:
    rows = [[c, d, f"{float(p) * 1e7:.2f}"] for c, d, p in orders()]
    page = tmp_path / "r.html"
    path = write(tmp_path / "orders.csv", rows)
    done = run(SCRIPT, "--transactions", str(path), "--report", str(page), "--json")
    assert done.returncode == 0, done.stderr
    found = probe(page, 390, False)
    assert found["page"] <= 390
    assert found["wide"] == []
    assert found["segments"] <= 1


def test_without_matplotlib_the_page_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    page = tmp_path / "page.html"
    assert load("05").main(["--json", "--report", str(page)]) == 0
    text = page.read_text("utf-8")
    assert "pip install matplotlib" in text
    assert "<img" not in text
    assert "spent 5." in text  # what the picture would say
