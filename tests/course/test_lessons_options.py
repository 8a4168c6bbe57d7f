"""What all lessons have of the console: widths, addresses, whom a complaint names."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from lessons import ROOT, SCRIPTS, load, path_of, run

from course.columns import TABLE_WIDTH, WIDTH, TableColumn
from course.console import write_row

every_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
VARIABLE = {
    "01": "DATABASE_URL",
    "02": "MONGODB_URI",
    "03": "REDIS_URL",
    "04": "RABBITMQ_URL",
}
every_service = pytest.mark.parametrize("number", VARIABLE)


def too_wide(text: str, limit: int = WIDTH) -> list[str]:
    return [line for line in text.splitlines() if len(line) > limit]


# Widths


@pytest.mark.parametrize(
    "golden", sorted((ROOT / "tests").glob("lesson_0*/golden*.txt")), ids=str
)
def test_no_line_of_a_golden_file_is_too_wide(golden: Path) -> None:
    assert too_wide(golden.read_text("utf-8")) == []


@every_script
def test_lists_and_help_fit_eighty(script: Path) -> None:
    assert too_wide(run(script, "--list").stdout, TABLE_WIDTH) == []
    help_text = run(script, "--help", env={"COLUMNS": "80"}).stdout
    assert too_wide(help_text, TABLE_WIDTH) == []


@every_script
def test_a_run_fits_its_width_and_its_tables_do_where_their_words_do(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = load(script.name[:2])
    wide: list[str] = []

    def measured(
        row: Sequence[object],
        columns: Sequence[TableColumn],
        widths: Sequence[int],
        is_header: bool = False,
    ) -> None:
        narrowest = sum(2 + column.texts_broken for column in columns)
        if sum(2 + width for width in widths) > TABLE_WIDTH >= narrowest:
            wide.append(str(row))
        write_row(row, columns, widths, is_header)

    monkeypatch.setattr("course.console.write_row", measured)
    assert module.main(["--offline"]) == 0
    assert wide == []
    printed = capsys.readouterr()
    assert too_wide(printed.out) == []
    assert too_wide(printed.err) == []


# Addresses


@every_service
@pytest.mark.parametrize("url", ["foo", "foo://127.0.0.1:1/x", "127.0.0.1:1"])
def test_a_wrong_url_is_blamed_on_the_option_that_had_it(number: str, url: str) -> None:
    variable = VARIABLE[number]
    for value in ("", "bar"):  # the variable's own, which does not count
        done = run(path_of(number), "--url", url, env={variable: value})
        assert (done.returncode, done.stdout) == (2, ""), url
        assert len(done.stderr.splitlines()) == 1
        assert "--url" in done.stderr
        assert variable not in done.stderr


@every_service
def test_a_wrong_url_is_blamed_on_the_variable_that_had_it(number: str) -> None:
    variable = VARIABLE[number]
    done = run(path_of(number), env={variable: "foo"})
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert variable in done.stderr
    assert "--url" not in done.stderr


@every_service
def test_a_wrong_url_shows_no_password(number: str) -> None:
    done = run(path_of(number), "--url", "foo://user:s3cr3t@host:x/y")
    assert (done.returncode, done.stdout) == (2, "")
    assert "s3cr3t" not in done.stderr


# Demos


@every_script
def test_a_demo_as_an_argument_points_to_the_option(script: Path) -> None:
    demo = next(iter(load(script.name[:2]).lesson.demos))
    done = run(script, demo)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(f"choose a demo with --only {demo}\n")
    assert len(done.stderr.splitlines()) == 1


@every_script
def test_only_without_a_name_lists_the_demos(script: Path) -> None:
    listed = run(script, "--list")
    assert run(script, "--only").stdout == listed.stdout
    assert re.match(r"  demo +what it shows\n", listed.stdout)


# Bets


def test_a_lesson_without_bets_says_so(small_lesson: Path, tmp_path: Path) -> None:
    shutil.copytree(small_lesson.parent, tmp_path / "small")
    script = tmp_path / "small" / small_lesson.name
    for has_file, why in ((False, "data/bets.json"), (True, "no bets on this lesson")):
        if has_file:
            shutil.copytree(ROOT / "data", script.parent / "data")
        done = run(script, "--bet")
        assert (done.returncode, done.stdout) == (2, "")
        (line,) = done.stderr.splitlines()
        assert why in line
