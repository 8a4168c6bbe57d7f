"""Lesson 05: the command line, pictures, and the page in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from conftest import absent
from lesson_05.logs import DAYS, END, SCRIPT, lesson, orders, write
from lessons import ROOT, load, run

from course.analytics import read
from course.analytics.arrays import Grid
from course.analytics.grids import cell, print_grid, turned
from course.analytics.pictures import (
    PICTURES,
    lift_of,
    reliability_of,
    retention_of,
    tracking_of,
)


def test_json_is_one_object_with_the_promised_keys() -> None:
    done = run(SCRIPT, "--json", "--calibration-end", "1997-09-30", "--horizon", "273")
    figures = json.loads(done.stdout, parse_constant=pytest.fail)
    assert figures["customers"] == 2357
    assert figures["rows"] == {"read": 6919, "used": 6919, "refused": 0}
    assert (figures["as_of"], figures["horizon_days"]) == ("1998-06-30", 273)
    fit = figures["bgnbd"]
    assert fit.keys() == {"r", "alpha", "a", "b", "log_likelihood", "identified"}
    assert fit["log_likelihood"] == pytest.approx(-9582.4292, abs=1e-3)
    assert figures["gamma_gamma"].keys() == {"p", "q", "gamma", "log_likelihood"}
    for scores in figures["churn"].values():
        assert scores.keys() >= {"auc", "brier", "log_loss", "ece"}
    for scores in figures["value"].values():
        assert scores.keys() >= {"mae", "rmse", "bias", "top_decile_share"}
    assert figures["chosen"] == {"churn": lesson.STACK, "value": lesson.GG}
    assert figures["segments"].keys() == {s.value for s in lesson.UserSegment}
    # Without options: thirds, so that the choice is made over as many days.
    thirds = json.loads(run(SCRIPT, "--json").stdout)
    assert (thirds["fitted_at"], thirds["horizon_days"]) == ("1997-12-30", 182)
    options = ("--calibration-end", "1997-12-30", "--horizon", "182")
    assert json.loads(run(SCRIPT, "--json", *options).stdout) == thirds


def test_as_of_ends_what_is_read() -> None:
    figures = json.loads(run(SCRIPT, "--json", "--as-of", "1997-09-30").stdout)
    assert figures["as_of"] == figures["fitted_at"] == "1997-09-30"
    assert figures["bgnbd"]["log_likelihood"] == pytest.approx(-9582.4292, abs=1e-3)
    assert figures["horizon_days"] == 91


def test_a_simulation_is_the_same_again_and_near_its_truth() -> None:
    one, two = (run(SCRIPT, "--simulate", "60000", "--json") for _ in range(2))
    assert one.stdout == two.stdout
    fit = json.loads(one.stdout)["bgnbd"]
    for name in ("r", "alpha", "a", "b"):
        assert fit[name] == pytest.approx(getattr(lesson.TRUTH, name), rel=0.1)
    assert (
        run(SCRIPT, "--simulate", "60000", "--json", "--seed", "6").stdout != one.stdout
    )


def test_plots_are_drawn_the_same_again(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for folder in ("a", "b"):
        done = run(SCRIPT, "--plots", str(tmp_path / folder))
        assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == sorted(f"{name}.svg" for name in PICTURES)
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (
            tmp_path / "b" / name
        ).read_bytes()


def test_plots_without_matplotlib_say_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    assert load("05").main(["--plots", str(tmp_path / "p")]) == 2
    assert "pip install matplotlib" in capsys.readouterr().err
    assert not (tmp_path / "p").exists()
    page = tmp_path / "page.html"
    assert load("05").main(["--json", "--report", str(page)]) == 0
    assert "churn said and seen" in page.read_text()


def test_pictures_as_text_blank_what_is_not_observed(record: Any) -> None:
    grid = retention_of(record)
    assert [len(row) for row in grid.values()] == [17, 16, 15]
    begun = record.log.where(record.log.day <= date(1998, 6, 4).toordinal())
    cut = retention_of(lesson.Backtest(begun, END, DAYS - 26))
    assert [len(row) for row in cut.values()] == [16, 15, 14]  # June is not over
    for whole, less in zip(grid.values(), cut.values(), strict=True):
        assert less.items() <= whole.items()
    tracked = list(tracking_of(record).values())
    assert tracked[-1]["expected"] == pytest.approx(tracked[-1]["actual"], rel=0.1)
    assert len(lift_of(record)) == 10
    assert len(reliability_of(record)) == 20


def test_require_live_says_that_no_service_is_needed() -> None:
    for options in ([], ["--only", "rules"], ["--json"]):
        done = run(SCRIPT, "--require-live", *options)
        assert (done.returncode, done.stdout) == (3, "")
        assert "needs no service" in done.stderr
        assert "--integrated" in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "options",
    [
        "--simulate 3000 --only nonsense",
        "--json --only rules",
        "--as-of 1998-01-01 --only",
    ],
)
def test_demos_do_not_go_with_a_log_that_is_studied(options: str) -> None:
    done = run(SCRIPT, *options.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "--only" in done.stderr


@pytest.mark.parametrize("option", ["--integrated", "--as-worker"])
def test_without_the_repository_integrated_is_refused_in_one_line(
    option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "course.integrated.run", None)
    assert load("05").main([option]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert "repository" in printed.err


def test_the_sample_may_lie_beside_a_lesson_made_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "PROJECT", tmp_path)
    assert read.sample_file() == tmp_path / "data" / "cdnow_sample.csv"
    (tmp_path / "cdnow_sample.csv").touch()
    assert read.sample_file() == tmp_path / "cdnow_sample.csv"


# --- What is printed fits a terminal


@pytest.mark.parametrize(
    "options", ["--simulate 3000 --horizon 90", "--as-of 1998-06-01"]
)
def test_a_printed_report_fits_a_terminal_and_breaks_no_number(options: str) -> None:
    shown = run(SCRIPT, *options.split()).stdout
    figures = json.loads(run(SCRIPT, *options.split(), "--json").stdout)
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 100
    # Facts come first, then a blank line, tables, and at last the sentences.
    later = lines[lines.index("") :]
    tables = [line for line in later if not re.match(r"  - |    ", line)]
    assert max(map(len, tables)) <= 80
    for scores in (figures["churn"], figures["value"]):
        for name, row in scores.items():
            wanted = "  ".join(cell(value) for value in row.values())
            found = [line for line in lines if line.startswith(f"  {name} ")]
            assert any(re.sub(" +", " ", wanted) in re.sub(" +", " ", x) for x in found)


def test_a_wide_grid_is_printed_in_parts_whose_rows_are_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    grid = {f"row {k}": {f"column {n}": n / 7 for n in range(20)} for k in range(2)}
    print_grid("grid", grid)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith("  grid ") for line in lines) == len(lines) / 3
    printed = " ".join(line for line in lines if line.startswith("  row 1"))
    assert re.findall(r"\d\.\d+", printed) == [cell(n / 7) for n in range(20)]


def test_a_turned_grid_has_its_figures_down_and_both_ends_of_an_interval() -> None:
    grid: Grid = {"a": {"n": 1, "95 %": (0.1, 0.2)}, "b": {"n": 2, "95 %": None}}
    assert turned(grid) == {
        "n": {"a": 1, "b": 2},
        "95 % from": {"a": 0.1, "b": None},
        "95 % to": {"a": 0.2, "b": None},
    }


# --- The page in a browser


@pytest.fixture(scope="module")
def browse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Open a page: return its DOM, console lines, and hosts that it asked for."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if not browser:
        absent("no chromium on the PATH to open the report with")
    home = tmp_path_factory.mktemp("browser")

    def opened(
        page: Path, width: int = 390, scheme: int = 1
    ) -> tuple[str, list[str], set[str]]:
        log = home / "net.json"
        command = [str(browser), "--headless", "--no-sandbox", "--disable-gpu"]
        command += ["--no-first-run", "--disable-background-networking"]
        command += [f"--user-data-dir={home / 'profile'}", f"--log-net-log={log}"]
        command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr"]
        command += [f"--blink-settings=preferredColorScheme={scheme}"]  # 0: dark
        command += [f"--window-size={width},800", "--dump-dom", page.as_uri()]
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", timeout=90, check=False
        )
        console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
        urls = re.findall(r'"url":"(https?://[^"]*)', log.read_text("utf-8", "replace"))
        return done.stdout, console, {str(urlsplit(url).hostname) for url in urls}

    yield opened


def test_the_report_opens_without_error_or_request(browse: Any, tmp_path: Path) -> None:
    blank, noisy, report = (
        tmp_path / f"{name}.html" for name in ("blank", "noisy", "r")
    )
    blank.write_text("<!DOCTYPE html><title>x</title>")
    noisy.write_text(
        '<!DOCTYPE html><img src="http://module8.invalid/x.png">'
        "<script>console.error('boom')</script>"
    )
    own = browse(blank)[2]  # what the browser asks for by itself
    _, console, hosts = browse(noisy)
    assert console and "module8.invalid" in hosts  # the instruments work
    rows = [["<b>c&1" if c == "c1" else c, d, p] for c, d, p in orders()]
    path = write(tmp_path / "<i>orders.csv", rows)
    done = run(SCRIPT, "--transactions", str(path), "--report", str(report), "--json")
    assert done.returncode == 0, done.stderr
    for width, scheme in ((390, 0), (1280, 0), (1280, 1), (390, 1)):
        dom, console, hosts = browse(report, width, scheme)
        assert console == []
        assert hosts <= own | {"update.googleapis.com", "clients2.google.com"}
    assert "<i>orders" not in dom
    assert "&lt;i&gt;orders.csv" in dom
    assert 'name="viewport"' in dom
    for title in ("Segments now", "Churn:", "Value:", "cumulative repeat orders"):
        assert f"<caption>{title}" in dom
    sources = re.findall(r'(?:src|href)="([^"]*)', dom)
    assert sources and all(source.startswith(("data:", "#s")) for source in sources)


def test_the_data_file_is_what_its_readme_says() -> None:
    import hashlib

    readme = (ROOT / "data" / "README.md").read_text("utf-8")
    raw = (ROOT / "data" / "cdnow_sample.csv").read_bytes()
    assert f"`{hashlib.sha256(raw).hexdigest()}`" in readme
    pytest.importorskip("lifetimes")
    done = run(ROOT / "tools" / "make_cdnow_sample.py", "--check")
    assert done.returncode == 0, done.stderr
