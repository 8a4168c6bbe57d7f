"""Fills the guide's code and outputs from the scripts, so that they cannot differ.

A block between these markers is generated; everything else is written by hand:

    <!-- snippet: 03_caching_strategies.py#single-flight -->   a region of a file
    <!-- output: 03_caching_strategies.py --only stampede -->  what a run prints
    <!-- reading time -->                                      how long a chapter takes

Run:  python tools/sync_guide.py [--check] [FILE ...]   (default: guide and README)

Lessons run with --offline, so that the guide is the same on every machine. With --check
nothing is written: a difference is printed and the exit code is 1.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import os
import re
import shlex
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.reading_time import with_reading_times  # noqa: E402

BLOCK = re.compile(
    r"^<!-- (?P<kind>snippet|output): (?P<what>.+?) -->\n.*?^<!-- /(?P=kind) -->$",
    re.DOTALL | re.MULTILINE,
)
VARIABLES = ("DATABASE_URL", "MONGODB_URI", "REDIS_URL", "RABBITMQ_URL")
RUN_LIMIT = 1800.0  # seconds; a lesson takes five, a benchmark minutes


class GuideError(Exception):
    """A marker names a file, region or command that is not there, or that fails."""


Block = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def around(tree: ast.Module, start: int, first: int) -> list[Block]:
    """Return the classes and functions that a region begins in, outermost first.

    `start` is the line of the region's marker, `first` that of its first code.
    """
    blocks = []
    for node in ast.walk(tree):
        if not isinstance(node, Block):
            continue
        if node.lineno < start and first <= (node.end_lineno or 0):
            blocks.append(node)
    return sorted(blocks, key=lambda block: block.lineno)


def class_lines(owners: list[ast.ClassDef], start: int) -> str:
    """Return the heads of classes, and an ellipsis for what the listing leaves out."""
    lines = []
    for depth, owner in enumerate(owners):
        arguments = [*owner.bases, *owner.keywords]
        written = ", ".join(map(ast.unparse, arguments))
        bases = f"({written})" if written else ""
        indent = "    " * depth
        lines.append(f"{indent}class {owner.name}{bases}:\n")
        if owner.body[0].lineno < start:
            lines.append(f"{indent}    ...\n\n")
    return "".join(lines)


def listing(source: str, start: int, text: str) -> str:
    """Return a region as it can be read, and parsed, alone.

    `text` follows the marker in line `start`. Of methods, the line of their class is
    shown too; what stands at the left, or inside a function, loses its indentation.
    """
    blank_lines = len(re.findall(r"\A\n*", text)[0])
    blocks = around(ast.parse(source), start, start + 1 + blank_lines)
    owners = [block for block in blocks if isinstance(block, ast.ClassDef)]
    if not owners or len(owners) < len(blocks):
        return textwrap.dedent(text).strip()
    return class_lines(owners, start) + text.strip("\n").rstrip()


def region(what: str) -> str:
    """Return the text of `file.py#name`, fenced, as it can be read alone."""
    name, _, wanted = what.partition("#")
    path = ROOT / name
    if not path.is_file():
        raise GuideError(f"snippet: no file {name}")
    source = path.read_text("utf-8")
    marked = re.compile(
        rf"^ *# region {re.escape(wanted)}\n(.*?)^ *# endregion {re.escape(wanted)}$",
        re.DOTALL | re.MULTILINE,
    )
    found = list(marked.finditer(source))
    if len(found) != 1:
        raise GuideError(f"snippet: {len(found)} regions {wanted!r} in {name}, not 1")
    if path.suffix == ".yml":
        return f"```yaml\n{textwrap.dedent(found[0][1]).strip()}\n```"
    start = source.count("\n", 0, found[0].start()) + 1
    return f"```python\n{listing(source, start, found[0][1])}\n```"


def output(what: str) -> str:
    """Return what a run prints on stdout; a benchmark prints Markdown of its own."""
    script, *options = shlex.split(what)
    lesson = re.match(r"0\d_", script)
    if lesson:
        options.insert(0, "--offline")
    done = subprocess.run(
        [sys.executable, script, *options],
        cwd=ROOT,
        env=os.environ | dict.fromkeys(VARIABLES, "") if lesson else None,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=RUN_LIMIT,
        check=False,
    )
    if done.returncode:
        raise GuideError(f"output: {what} ended with {done.returncode}: {done.stderr}")
    if script.startswith("benchmarks/"):
        return done.stdout.strip()
    shown = f"$ python {shlex.join([script, *options])}\n{done.stdout.strip()}"
    return f"```text\n{shown}\n```"


def synced(text: str) -> str:
    """Return the text with every block filled afresh."""
    blocks = list(BLOCK.finditer(text))
    makers = {"snippet": region, "output": output}
    measured = any(block["what"].startswith("benchmarks/") for block in blocks)
    with ThreadPoolExecutor(max_workers=1 if measured else 2) as pool:
        fresh = iter(
            list(pool.map(lambda block: makers[block["kind"]](block["what"]), blocks))
        )

    def fill(block: re.Match[str]) -> str:
        kind, what = block["kind"], block["what"]
        return f"<!-- {kind}: {what} -->\n{next(fresh)}\n<!-- /{kind} -->"

    return with_reading_times(BLOCK.sub(fill, text))


def main(argv: list[str] | None = None) -> int:
    """Fill or check the files; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    both = [ROOT / "README.md", ROOT / "COMPREHENSIVE_GUIDE.md"]
    parser.add_argument("files", nargs="*", default=both)
    args = parser.parse_args(argv)
    differs = False
    for path in map(Path, args.files):
        before = path.read_text("utf-8")
        try:
            after = synced(before)
        except GuideError as problem:
            print(f"{path.name}: {problem}", file=sys.stderr)
            return 2
        if after == before:
            continue
        differs = True
        if args.check:
            lines = difflib.unified_diff(
                before.splitlines(), after.splitlines(), path.name, "generated", n=1
            )
            print("\n".join(lines))
        else:
            path.write_text(after, "utf-8")
            print(f"{path.name}: brought up to date")
    return int(differs and args.check)


if __name__ == "__main__":
    sys.exit(main())
