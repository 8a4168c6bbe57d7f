"""The figures of legibility, on texts small enough to count by hand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from lessons import ROOT, SCRIPTS

from tools.legibility import FULL, broken_limits, figures_of, main

LESSON = '''\
"""A docstring is not counted."""

# /// script
# dependencies = []
# ///

import os  # noqa: F401

# %% [markdown]
# ## 1. One: a heading

# %%
# region one
A = "a string"  # counts one, and this comment explains
# endregion one


@lesson.demo
def one(env: int) -> None:
    """Neither is this one."""
    a, b = 1, 2
    # Trap: why.
    return f"{a} and {b}"


# %% [markdown]
# ## 2. Two: another

# %%
'''


def test_the_figures_of_a_lesson() -> None:
    figures = figures_of(LESSON)
    # import os | A = "..." | @ lesson . demo | def one ( env : int ) -> None : |
    # a , b = 1 , 2 | return f"..."
    assert figures.tokens == 2 + 3 + 4 + 10 + 7 + 2
    assert figures.code_lines == 6
    assert figures.per_line == 28 / 6
    assert figures.notes == 2
    assert figures.pairs == 1
    assert figures.demo == LESSON.splitlines().index("def one(env: int) -> None:") + 1
    assert figures.longest == 5
    assert figures.sections == 2
    assert figures.lines == len(LESSON.splitlines())


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ('f"{a + b} and {f(c)!r:>{width}}"', 1),
        ('"""one\nstring\nof four\nlines"""\n1', 1),  # a docstring, and a number
        ('x = """one\nstring\nof four\nlines"""', 3),
        ("def f():\n    '''Say.'''\n    'more'", 6),
        ("class C:\n    'Say.'", 3),
        ("a.b[0](c)", 9),
        ("# a comment\n\n", 0),
        ("'Say.'; x = 1", 4),
    ],
)
def test_what_counts_as_a_token(text: str, tokens: int) -> None:
    assert figures_of(text).tokens == tokens


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("a, b = 1, 2", 1),
        ("a, b = b, a", 1),
        ("a, b = f()", 0),  # one value, taken apart
        ("a = b, c", 0),
        ("a = (b, c) = 1, 2", 1),
    ],
)
def test_what_counts_as_a_pair(text: str, pairs: int) -> None:
    assert figures_of(text).pairs == pairs


@pytest.mark.parametrize(("names", "full"), [(FULL - 2, 0), (FULL - 1, 1)])
def test_a_line_is_full_from_twenty_tokens_on(names: int, full: int) -> None:
    text = f"[{' -' * (names - 2)} 1]"
    assert figures_of(text).tokens == names + 1
    assert figures_of(text).full_lines == full


@pytest.mark.parametrize(
    "comment", ["# region x", "# %%", "# type: ignore", "# noqa", "#!/bin/sh"]
)
def test_what_a_tool_reads_explains_nothing(comment: str) -> None:
    assert figures_of(f"x = 1\n{comment}\n").notes == 0


def test_an_empty_file_has_no_figures() -> None:
    figures = figures_of("")
    assert (figures.per_line, figures.full, figures.notes_per_line) == (0, 0, 0)
    assert (figures.demo, figures.longest, figures.sections) == (0, 0, 0)


def too_long(tokens: int) -> str:
    """Return a lesson of so many tokens, with an early demo."""
    demo = "@demo\ndef d(): 1\n"  # 2 + 6
    return demo + "x\n" * (tokens - 8)


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("01_x.py", too_long(10_000), ""),
        ("01_x.py", too_long(10_001), "01_x.py: 10,001 tokens, more than 10,000"),
        ("05_x.py", too_long(11_500), ""),
        ("05_x.py", too_long(11_501), "05_x.py: 11,501 tokens, more than 11,500"),
        ("helper.py", too_long(20_000), ""),
        ("02_x.py", "\n" * 248 + too_long(8), ""),
        (
            "02_x.py",
            "\n" * 249 + too_long(8),
            "02_x.py: the first demo is at line 251, not by 250",
        ),
        ("02_x.py", "x = 1", "02_x.py: no demo"),
    ],
)
def test_the_two_hard_limits(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    text: str,
    complaint: str,
) -> None:
    path = tmp_path / name
    path.write_text(text, "utf-8")
    assert main(["--check", str(path)]) == int(bool(complaint))
    assert capsys.readouterr().err.strip() == complaint
    assert main([str(path)]) == 0  # without --check it only shows
    listed = [complaint] if complaint else []
    assert broken_limits(name, figures_of(text)) == listed


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_no_lesson_breaks_them(script: Path) -> None:
    assert broken_limits(script.name, figures_of(script.read_text("utf-8"))) == []


def test_make_lint_checks_them() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert re.search(r"^lint:.*\n(\t.*\n)*\t.*legibility.py --check", makefile, re.M)


def test_the_table_has_a_line_for_each_file_of_the_course() -> None:
    command = [sys.executable, str(ROOT / "tools" / "legibility.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    head, *rows = done.stdout.splitlines()
    files = [*ROOT.glob("0[1-5]_*.py"), *ROOT.glob("course/**/*.py")]
    assert [line.split()[0] for line in rows] == sorted(
        path.relative_to(ROOT).as_posix() for path in files
    )
    assert head.split()[:2] == ["file", "lines"]
    assert max(map(len, done.stdout.splitlines())) <= 100
