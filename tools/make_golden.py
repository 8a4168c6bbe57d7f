"""Writes the golden files: what each lesson prints offline, compared by the tests.

Run:  python tools/make_golden.py [NUMBER ...]    (such as 01 03; default: all)

Prints what changes, as a unified diff: read it, for each line is a promise to a reader.
A lesson that fails, or has a false claim, keeps its golden file: the exit code is 1.
"""

from __future__ import annotations

import argparse
import difflib
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VARIABLES = ("DATABASE_URL", "MONGODB_URI", "REDIS_URL", "RABBITMQ_URL")
RUN_LIMIT = 300.0  # seconds; a lesson takes five, a busy machine more


class RunFailed(Exception):
    """A lesson ended with another exit code than 0."""


@dataclass(frozen=True)
class Golden:
    """A file, and the run whose output it holds."""

    script: Path
    options: tuple[str, ...]
    path: Path


def golden_files(scripts: list[Path]) -> list[Golden]:
    """Return what is kept of these lessons."""
    files = []
    for script in scripts:
        folder = ROOT / "tests" / f"lesson_{script.name[:2]}"
        files.append(Golden(script, ("--offline",), folder / "golden.txt"))
        if script.name.startswith("05"):
            integrated = ("--integrated", "--offline")
            files.append(Golden(script, integrated, folder / "golden_integrated.txt"))
    return files


def printed(script: Path, options: tuple[str, ...]) -> str:
    """Return what a run prints, in an empty folder and with no service named."""
    with tempfile.TemporaryDirectory(prefix="module8-golden-") as folder:
        done = subprocess.run(
            [sys.executable, str(script), *options],
            cwd=folder,
            env=os.environ | dict.fromkeys(VARIABLES, ""),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=RUN_LIMIT,
            check=False,
        )
    if done.returncode:
        false_claims = [line for line in done.stdout.splitlines() if "[FAIL]" in line]
        why = "\n".join([*false_claims, done.stderr]).rstrip()
        raise RunFailed(f"{script.name} ended with {done.returncode}:\n{why}")
    return done.stdout


def bring_up_to_date(golden: Golden, root: Path = ROOT) -> str:
    """Write a golden file if its run prints something else; return the difference."""
    fresh = printed(golden.script, golden.options)
    kept = golden.path.read_text("utf-8") if golden.path.exists() else ""
    if fresh == kept:
        return ""
    golden.path.write_text(fresh, "utf-8")
    name = golden.path.relative_to(root).as_posix()
    difference = difflib.unified_diff(
        kept.splitlines(), fresh.splitlines(), name, f"{name}, new", n=1, lineterm=""
    )
    return "\n".join(difference)


def main(argv: list[str] | None = None) -> int:
    """Bring the golden files up to date; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    scripts = {path.name[:2]: path for path in sorted(ROOT.glob("0[1-5]_*.py"))}
    parser.add_argument("numbers", nargs="*", metavar="NUMBER", help="such as 01 03")
    args = parser.parse_args(argv)
    for number in args.numbers:
        if number not in scripts:
            parser.error(f"no lesson {number!r}; there are {', '.join(scripts)}")
    failed = False
    chosen = args.numbers or list(scripts)
    for golden in golden_files([scripts[number] for number in chosen]):
        try:
            difference = bring_up_to_date(golden)
        except RunFailed as problem:
            failed = True
            print(problem, file=sys.stderr)
            continue
        name = golden.path.relative_to(ROOT).as_posix()
        print(difference or f"{name}: nothing changes", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
