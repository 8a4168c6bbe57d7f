"""Fills the guide's code and outputs from the scripts, so that they cannot differ.

A block between these markers is generated; everything else is written by hand:

    <!-- snippet: 03_caching_strategies.py#single-flight -->   a region of a script
    <!-- output: 03_caching_strategies.py --only stampede -->  what a run prints

Run:  python tools/sync_guide.py [--check] [FILE ...]   (default: guide and README)

Lessons run with --offline, so that the guide is the same on every machine. With --check
nothing is written: a difference is printed and the exit code is 1.
"""

from __future__ import annotations

import argparse
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
BLOCK = re.compile(
    r"^<!-- (?P<kind>snippet|output): (?P<what>.+?) -->\n.*?^<!-- /(?P=kind) -->$",
    re.DOTALL | re.MULTILINE,
)
VARIABLES = ("DATABASE_URL", "MONGODB_URI", "REDIS_URL", "RABBITMQ_URL")
RUN_LIMIT = 1800.0  # seconds; a lesson takes five, a benchmark minutes


class GuideError(Exception):
    """A marker names a file, region or command that is not there, or that fails."""


def region(what: str) -> str:
    """Return the text of `script.py#name`, fenced and without its indentation."""
    name, _, wanted = what.partition("#")
    path = ROOT / name
    if not path.is_file():
        raise GuideError(f"snippet: no file {name}")
    found = re.findall(
        rf"^ *# region {re.escape(wanted)}\n(.*?)^ *# endregion {re.escape(wanted)}$",
        path.read_text("utf-8"),
        re.DOTALL | re.MULTILINE,
    )
    if len(found) != 1:
        raise GuideError(f"snippet: {len(found)} regions {wanted!r} in {name}, not 1")
    return f"```python\n{textwrap.dedent(found[0]).strip()}\n```"


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

    return BLOCK.sub(fill, text)


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
