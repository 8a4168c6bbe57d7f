"""What a run prints, how it is told what to do, and how it ends."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from lessons import run

from course.claims import more_than
from course.columns import TABLE_WIDTH, WIDTH
from course.console import (
    TALLY,
    check,
    fact,
    note,
    run_claims,
    table,
    write,
)
from course.errors import BadInput, ClaimFailed, Skip

Printed = Callable[[], str]


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Printed:
    """Return what was printed on stdout since the last call."""
    return lambda: capsys.readouterr().out


# Texts


def test_a_long_line_is_broken_between_words(printed: Printed) -> None:
    words = [f"word-{number}" for number in range(40)]
    write("  [ok] " + " ".join(words))
    lines = printed().splitlines()
    assert len(lines) == 4
    assert max(map(len, lines)) <= WIDTH
    assert lines[0].startswith("  [ok] word-0 ")
    assert all(re.match(r" {4}\S", line) for line in lines[1:])
    assert " ".join(lines).split() == ["[ok]", *words]


def test_a_line_that_fits_is_left_as_it_is(printed: Printed) -> None:
    line = "  a   b" + "x" * (WIDTH - 7)
    write(line)
    write()
    assert printed() == f"{line}\n\n"


def test_a_text_of_several_lines_is_broken_line_by_line(printed: Printed) -> None:
    write("short\n" + "long " * 30)
    lines = printed().splitlines()
    assert lines[0] == "short"
    assert max(map(len, lines)) <= WIDTH


def test_a_word_longer_than_a_line_is_broken_after_all(printed: Printed) -> None:
    write("x" * 250)
    assert max(map(len, printed().splitlines())) <= WIDTH


def test_a_fact_is_broken_below_its_value(printed: Printed) -> None:
    fact("name", "value " * 20)
    first, second = printed().splitlines()
    assert first.index("value") == second.index("value") == 37


def test_a_note_is_on_stderr_and_fits_too(capsys: pytest.CaptureFixture[str]) -> None:
    note("measured " * 30)
    seen = capsys.readouterr()
    assert seen.out == ""
    assert seen.err.startswith("  ~ measured")
    assert max(map(len, seen.err.splitlines())) <= WIDTH


# Tables


def test_numbers_stand_to_the_right_and_texts_to_the_left(printed: Printed) -> None:
    table(("way", "queries"), ("lazy", 126), ("selectin", 4))
    assert printed() == (
        "  way       queries\n"
        "  lazy          126\n"
        "  selectin        4\n"
    )  # fmt: skip


BROKEN_HEADINGS = """\
                                                 queries that     rows that came
  way                                      reached the server       back from it
  a way that takes some forty characters                  126                  5
  b                                                         4              12345
"""


def test_headings_are_broken_before_texts_and_end_on_one_line(
    printed: Printed,
) -> None:
    header = ("way", "queries that reached the server", "rows that came back from it")
    table(header, ("a way that takes some forty characters", 126, 5), ("b", 4, 12345))
    assert printed() == BROKEN_HEADINGS


def test_texts_are_broken_where_headings_do_not_help(printed: Printed) -> None:
    table(("n", "text"), (1, "some words " * 15), (2, "short"))
    lines = printed().splitlines()
    assert len(lines) == 5
    assert max(map(len, lines)) <= TABLE_WIDTH
    assert lines[2].startswith("     ")  # goes on below the text, not below the number


def test_an_empty_cell_and_an_empty_row_keep_their_place(printed: Printed) -> None:
    table(("a", "b"), ("", "x"), ("", ""))
    assert printed() == "  a  b\n     x\n\n"


def test_rows_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        table(("a", "b"), ("only one",))


numbers = st.integers(-(10**9), 10**9) | st.floats(-1e9, 1e9, allow_nan=False)
word = st.text("abcdefgh", min_size=1, max_size=30)
texts = st.lists(word, max_size=12).map(" ".join)


@st.composite
def tables(draw: st.DrawFn) -> list[tuple[object, ...]]:
    """Return rows of up to four columns; the first row are the headings."""
    width = draw(st.integers(1, 4))
    height = draw(st.integers(0, 4))
    columns = []
    for _ in range(width):
        heading = draw(st.lists(word, min_size=1, max_size=6).map(" ".join))
        kind = draw(st.sampled_from([numbers, texts]))
        cells = draw(st.lists(kind, min_size=height, max_size=height))
        columns.append([heading, *cells])
    return list(zip(*columns, strict=True))


@given(tables())
@example([tuple(letter * 23 for letter in "abcd")])  # headings of 101 columns
def test_no_table_is_too_wide_and_no_number_broken(
    rows: list[tuple[object, ...]],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        lines: list[str] = []
        patch.setattr("course.console.write", lambda text, *_: lines.append(text))
        table(*rows)  # type: ignore[arg-type]
    assert max(map(len, lines)) <= WIDTH
    shown = " ".join(lines).split()
    cells = [cell for row in rows[1:] for cell in row if not isinstance(cell, str)]
    for cell in cells:
        assert str(cell) in shown
    content = sorted("".join(str(cell) for row in rows for cell in row))
    assert sorted("".join(lines).replace(" ", "")) == sorted(
        letter for letter in content if letter != " "
    )


@given(st.lists(st.tuples(texts, numbers), min_size=1, max_size=5))
def test_a_table_that_fits_eighty_is_not_wider(rows: list[tuple[str, float]]) -> None:
    heading = "a heading of many words that may be broken between any two of them"
    with pytest.MonkeyPatch.context() as patch:
        lines: list[str] = []
        patch.setattr("course.console.write", lambda text, *_: lines.append(text))
        table(("name", heading), *rows)
    assert max(map(len, lines)) <= TABLE_WIDTH


# Claims


def test_a_claim_that_holds_is_printed_and_counted(printed: Printed) -> None:
    TALLY.clear()
    check("two is two", 2, 2)
    check("ways", {"lazy": 126, "joined": 1}, {"lazy": more_than(100), "joined": 1})
    assert printed() == "  [ok] two is two\n  [ok] ways\n"
    assert TALLY == {"ok": 2}


def test_a_false_claim_says_what_was_seen_and_what_expected(printed: Printed) -> None:
    TALLY.clear()
    with pytest.raises(ClaimFailed, match="two is three: 2, not 3"):
        check("two is three", 2, 3)
    observed = {"lazy": 127, "joined": 1}
    run_claims(
        lambda: check("126 lazy, 1 joined", observed, {"lazy": 126, "joined": 1})
    )
    assert printed() == "  [FAIL] 126 lazy, 1 joined: lazy 127, not 126\n"
    assert TALLY == {"failed": 1}


def test_an_error_is_counted_and_hides_passwords(printed: Printed) -> None:
    def broken() -> None:
        raise LookupError("nothing at redis://user:s3cr3t@host/0")

    TALLY.clear()
    run_claims(broken)
    assert printed() == "  [FAIL] LookupError: nothing at redis://user:***@host/0\n"
    assert TALLY == {"failed": 1}


@pytest.mark.parametrize("error", [BadInput("x"), KeyboardInterrupt(), SystemExit(1)])
def test_what_ends_the_run_is_no_failed_claim(error: BaseException) -> None:
    def broken() -> None:
        raise error

    with pytest.raises(type(error)):
        run_claims(broken)


def test_a_skip_says_why(printed: Printed) -> None:
    def skips() -> None:
        raise Skip("no such thing here")

    TALLY.clear()
    run_claims(skips)
    assert printed() == "  [skip] no such thing here\n"
    assert TALLY == {"skipped": 1}


# A whole run

WHOLE = """\
backend: a small one at SMALL_URL

1. Loading: one query instead of three
  way     queries
  lazy          3
  joined        1
  [ok] three queries lazy, one joined

2. Skipping: a point that cannot be shown
  backend                            a small one at SMALL_URL
  [skip] this back end has no such thing

3. Odd ends: what the environment asks for

1 ok, 1 skipped, 0 failed
"""

LIST = """\
  demo      what it shows
  loading   Loading: one query instead of three
  skipping  Skipping: a point that cannot be shown
  odd_end   Odd ends: what the environment asks for
"""


def test_a_run_from_its_first_line_to_its_last(small_lesson: Path) -> None:
    done = run(small_lesson)
    assert (done.returncode, done.stdout) == (0, WHOLE)
    assert done.stderr == "  ~ took 3 ms\nclosed\n"


def test_only_runs_what_it_names_under_its_own_number(small_lesson: Path) -> None:
    done = run(small_lesson, "--only", "odd_end", "loading")
    assert done.returncode == 0
    assert re.findall(r"^(\d)\. ", done.stdout, re.M) == ["1", "3"]


@pytest.mark.parametrize("options", [["--list"], ["--only"], ["--offline", "--only"]])
def test_the_demos_are_listed_without_running_any(
    small_lesson: Path, options: list[str]
) -> None:
    done = run(small_lesson, *options)
    assert (done.returncode, done.stdout, done.stderr) == (0, LIST, "")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["loading"], "choose a demo with --only loading"),
        (["--url", ""], "argument --url: it is empty"),
        (["nothing"], "unrecognized arguments: ***"),
        (["--bogus"], "unrecognized arguments: --bogus"),
        (
            ["--only", "nothing"],
            "--only: there is no demo 'nothing'; there are loading, skipping, odd_end",
        ),
        (
            ["--list", "--only", "nothing"],
            "--only: there is no demo 'nothing'; there are loading, skipping, odd_end",
        ),
        (
            ["--offline", "--require-live"],
            "argument --require-live: not allowed with argument --offline",
        ),
        (["--url", "bad://x"], "--url: bad://x is no address"),
        (["--url", "bad://u:s3cr3t@h"], "--url: bad://u:***@h is no address"),
        (["--url"], "argument --url: expected one argument"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_complaint_is_one_line(
    small_lesson: Path, options: list[str], complaint: str
) -> None:
    done = run(small_lesson, *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"09_small.py: {complaint}\n"


def test_a_complaint_names_the_variable_where_that_has_the_url(
    small_lesson: Path,
) -> None:
    done = run(small_lesson, env={"SMALL_URL": "bad://x"})
    assert done.stderr == "09_small.py: SMALL_URL: bad://x is no address\n"
    assert done.returncode == 2


@pytest.mark.parametrize(
    ("wish", "code", "last_of_stdout", "in_stderr"),
    [
        ("claim", 1, "1 ok, 1 skipped, 1 failed", "closed"),
        ("error", 1, "1 ok, 1 skipped, 1 failed", "closed"),
        (
            "bad",
            2,
            "1 ok, 1 skipped, 0 failed",
            "09_small.py: small://user:***@host has no such table",
        ),
        ("interrupt", 130, "1 ok, 1 skipped, 0 failed", "closed"),
    ],
)
def test_how_a_run_ends_is_its_exit_code(
    small_lesson: Path,
    wish: str,
    code: int,
    last_of_stdout: str | None,
    in_stderr: str,
) -> None:
    done = run(small_lesson, env={"SMALL_END": wish})
    assert done.returncode == code
    if last_of_stdout:
        assert done.stdout.splitlines()[-1] == last_of_stdout
    assert in_stderr in done.stderr.splitlines()
    assert "Traceback" not in done.stderr
    assert "s3cr3t" not in done.stdout + done.stderr


def test_verbose_shows_the_traceback_without_the_password(small_lesson: Path) -> None:
    done = run(small_lesson, "--verbose", env={"SMALL_END": "error"})
    assert "Traceback" in done.stderr
    assert "s3cr3t" not in done.stdout + done.stderr


def test_no_service_where_one_is_required_is_3(small_lesson: Path) -> None:
    done = run(small_lesson, "--require-live")
    assert (done.returncode, done.stdout) == (3, "backend: a small one at SMALL_URL\n")
    done = run(small_lesson, "--require-live", "--url", "small://there")
    assert (done.returncode, done.stdout) == (0, WHOLE.replace("SMALL_URL", "--url"))


@pytest.mark.skipif(
    sys.platform == "win32", reason="platform: Windows ends a process without a signal"
)
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_ends_it_with_its_cleaning_up(
    small_lesson: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = getattr(signal, name)
    monkeypatch.setenv("SMALL_END", "wait")
    command = [sys.executable, str(small_lesson)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as lesson:
        assert lesson.stdout
        while lesson.stdout.readline() != "waiting\n":
            assert lesson.poll() is None
        lesson.send_signal(number)
        printed, complaint = lesson.communicate(timeout=20)
    assert lesson.returncode == 128 + number
    ended = f"  [ended] by {name}\n\n1 ok, 1 skipped, 0 failed\n"
    assert printed == ended
    assert complaint.splitlines()[-1] == "closed"
    assert "Traceback" not in complaint


def test_a_reader_that_leaves_early_ends_it(
    small_lesson: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMALL_END", "much")
    command = [sys.executable, str(small_lesson)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as lesson:
        assert lesson.stdout and lesson.stderr
        lesson.stdout.readline()
        lesson.stdout.close()
        complaint = lesson.stderr.read()
    assert lesson.returncode == 141
    assert complaint.splitlines()[-1] == "closed"
    assert "Traceback" not in complaint and "BrokenPipe" not in complaint


def test_help_says_what_it_is_and_fits(small_lesson: Path) -> None:
    done = run(small_lesson, "--help", env={"COLUMNS": "80"})
    assert done.returncode == 0
    assert "A small lesson" in done.stdout
    for option in ("--list", "--only", "--offline", "--require-live", "--url"):
        assert option in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
