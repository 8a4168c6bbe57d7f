"""Counts how full the lines of the lessons are, and how far away the first demo is.

Run:  python tools/legibility.py [--check] [FILE ...]   (default: lessons and course/)

    lines      of the file
    tokens     without comments and docstrings; a string and a name count one each
    per line   tokens by code line, the mean
    full       share of the code lines that have 20 tokens or more
    notes      comments that explain, by code line
    pairs      assignments of several values at once, as in `a, b = 1, 2`
    demo       line of the first demo
    longest    lines of the longest function
    sections   numbered headings

With --check the exit code is 1 if a lesson has too many tokens or its first demo comes
too late, and a line on stderr says which. The other figures are a mirror: where one of
them would make a passage worse, leave it and say so in the commit.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

FULL = 20  # tokens; a reader's eye stops at such a line
LATEST_DEMO = 250  # line
MOST_TOKENS = {"05": 11_500}  # five subjects in one lesson
MOST_TOKENS_ELSEWHERE = 10_000

LAYOUT = {
    tokenize.ENCODING,
    tokenize.NEWLINE,
    tokenize.NL,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
    tokenize.COMMENT,
}
# Comments that tools read: they explain nothing.
MARKER = re.compile(r"#!|# ?(region|endregion|%%|noqa|type:|pragma:|fmt:)")
HEADING = re.compile(r"^# %% \[markdown\]\n((?:#.*\n)+)", re.MULTILINE)
NUMBERED = re.compile(r"^# ## \d+\. ", re.MULTILINE)
DEPENDENCIES = re.compile(r"^# /// script\n(?:#.*\n)*?# ///$", re.MULTILINE)

Function = ast.FunctionDef | ast.AsyncFunctionDef
Place = tuple[int, int]  # line and column, as ast and tokenize give them


@dataclass(frozen=True)
class Figures:
    """What one file looks like to a reader; 0 for what it does not have."""

    lines: int
    tokens: int
    code_lines: int
    full_lines: int
    notes: int
    pairs: int
    demo: int
    longest: int
    sections: int

    @property
    def per_line(self) -> float:
        """Return the tokens of a code line, on average."""
        return self.tokens / max(self.code_lines, 1)

    @property
    def full(self) -> float:
        """Return the share of code lines that are full."""
        return self.full_lines / max(self.code_lines, 1)

    @property
    def notes_per_line(self) -> float:
        """Return the explaining comments of a code line."""
        return self.notes / max(self.code_lines, 1)


def docstrings(tree: ast.Module) -> set[Place]:
    """Return where the docstrings begin."""
    places = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | Function):
            continue
        if ast.get_docstring(node, clean=False) is not None:
            first = node.body[0]
            places.add((first.lineno, first.col_offset))
    return places


def as_one(tokens: Iterator[tokenize.TokenInfo]) -> Iterator[tokenize.TokenInfo]:
    """Yield the tokens with each f-string as one, as before Python 3.12."""
    depth = 0
    for token in tokens:
        name = tokenize.tok_name[token.type]
        if name in ("FSTRING_START", "TSTRING_START"):
            if depth == 0:
                yield token
            depth += 1
        elif name in ("FSTRING_END", "TSTRING_END"):
            depth -= 1
        elif depth == 0:
            yield token


def tokens_by_line(source: str, tree: ast.Module) -> Counter[int]:
    """Return how many tokens begin in each line of code."""
    ignored = docstrings(tree)
    counts: Counter[int] = Counter()
    for token in as_one(tokenize.generate_tokens(io.StringIO(source).readline)):
        if token.type not in LAYOUT and token.start not in ignored:
            counts[token.start[0]] += 1
    return counts


def explaining(source: str) -> int:
    """Return how many comments explain something: not markers, headings, settings."""
    told = HEADING.sub("", DEPENDENCIES.sub("", source))
    comments = 0
    for token in tokenize.generate_tokens(io.StringIO(told).readline):
        if token.type == tokenize.COMMENT and not MARKER.match(token.string):
            comments += 1
    return comments


def is_pair(node: ast.AST) -> bool:
    """Tell whether a node assigns several values to several targets."""
    if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Tuple):
        return False
    return any(isinstance(target, ast.Tuple) for target in node.targets)


def is_demo(function: Function) -> bool:
    """Tell whether a function is registered as a demo, by `@demo` or `@lesson.demo`."""
    names = [ast.unparse(decorator) for decorator in function.decorator_list]
    return any(name.split(".")[-1] == "demo" for name in names)


def figures_of(source: str) -> Figures:
    """Return the figures of a file's text."""
    tree = ast.parse(source)
    counts = tokens_by_line(source, tree)
    functions = [node for node in ast.walk(tree) if isinstance(node, Function)]
    lengths = [(one.end_lineno or 0) - one.lineno + 1 for one in functions]
    demos = [one.lineno for one in functions if is_demo(one)]
    return Figures(
        lines=len(source.splitlines()),
        tokens=counts.total(),
        code_lines=len(counts),
        full_lines=sum(count >= FULL for count in counts.values()),
        notes=explaining(source),
        pairs=sum(map(is_pair, ast.walk(tree))),
        demo=min(demos, default=0),
        longest=max(lengths, default=0),
        sections=sum(len(NUMBERED.findall(head)) for head in HEADING.findall(source)),
    )


def broken_limits(name: str, figures: Figures) -> list[str]:
    """Return a complaint for each hard limit that a lesson breaks."""
    if not re.match(r"0\d_", name):
        return []
    complaints = []
    most = MOST_TOKENS.get(name[:2], MOST_TOKENS_ELSEWHERE)
    if figures.tokens > most:
        complaints.append(f"{name}: {figures.tokens:,} tokens, more than {most:,}")
    if figures.demo == 0:
        complaints.append(f"{name}: no demo")
    if figures.demo > LATEST_DEMO:
        complaints.append(
            f"{name}: the first demo is at line {figures.demo}, not by {LATEST_DEMO}"
        )
    return complaints


def row(name: str, figures: Figures) -> str:
    """Return a line of the table."""
    return (
        f"{name:<32} {figures.lines:>5} {figures.tokens:>6} {figures.per_line:>8.1f} "
        f"{figures.full:>5.0%} {figures.notes_per_line:>5.2f} {figures.pairs:>5} "
        f"{figures.demo or '-':>5} {figures.longest or '-':>7} "
        f"{figures.sections or '-':>8}"
    )


def main(argv: list[str] | None = None) -> int:
    """Print the table; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 if a lesson breaks a limit"
    )
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    of_project = [*ROOT.glob("0[1-5]_*.py"), *ROOT.glob("course/**/*.py")]
    complaints = []
    print(
        f"{'file':<32} lines tokens per line  full notes pairs  demo longest sections"
    )
    for path in args.files or sorted(of_project):
        inside = path.is_relative_to(ROOT)
        name = path.relative_to(ROOT).as_posix() if inside else path.as_posix()
        figures = figures_of(path.read_text("utf-8"))
        print(row(name, figures))
        complaints += broken_limits(path.name, figures)
    if args.check:
        print("\n".join(complaints), end="\n" if complaints else "", file=sys.stderr)
    return int(bool(complaints) and args.check)


if __name__ == "__main__":
    sys.exit(main())
