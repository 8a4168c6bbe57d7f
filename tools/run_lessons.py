"""Runs every lesson on its embedded back end and adds up what they showed.

Run:  python tools/run_lessons.py [--quiet]    (`make demo` makes the environment first)

With --quiet only the tallies are printed: one line per lesson and one for all.

Exit code 0 if no claim failed, else 1.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.stopping import run_to_its_end, watched  # noqa: E402

GUIDE = "COMPREHENSIVE_GUIDE.md"
TALLY = re.compile(r"(\d+) ok, (\d+) skipped, (\d+) failed")


def lesson(script: Path, quiet: bool) -> tuple[str, int]:
    """Run one lesson, show what it prints as it comes; return last line, exit code."""
    if not quiet:
        print(f"\n=== {script.name} ===", flush=True)
    command = [sys.executable, str(script), "--offline"]
    last = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as running:

        def show() -> None:
            nonlocal last
            for line in running.stdout or ():
                if not quiet:
                    print(line, end="", flush=True)
                last = line.strip() or last

        watched(running, show)
    return last, running.returncode


def from_here(path: Path) -> str:
    """Return a path as one types it here: relative, if it is below this folder."""
    inside = path.is_relative_to(Path.cwd())
    return str(path.relative_to(Path.cwd()) if inside else path)


def what_next(script: Path) -> str:
    """Return three lines: how to run a lesson, where the guide is, how to practise."""
    python = from_here(Path(sys.executable))
    lines = (
        f"run a lesson:   {python} {from_here(script)}   (--help shows its options)",
        f"read about it:  {from_here(ROOT / GUIDE)}, a chapter for each lesson",
        f"practise:       {python} {from_here(ROOT / 'practice.py')}   "
        "(exercises that judge your answer)",
    )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run all lessons that are there; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quiet", action="store_true", help="only the last lines")
    args = parser.parse_args(argv)
    lines = [] if args.quiet else [""]
    total = [0, 0, 0]
    failed = False
    scripts = sorted(ROOT.glob("0[1-5]_*.py"))
    for script in scripts:
        start = time.monotonic()
        last, code = lesson(script, args.quiet)
        took = time.monotonic() - start
        tally = TALLY.search(last)
        failed = failed or code != 0 or tally is None
        if tally:
            total = [a + int(b) for a, b in zip(total, tally.groups(), strict=True)]
        state = last if tally and not code else f"{last} (exit code {code})"
        lines.append(f"{script.name:<30} {state}")
        print(f"{script.name} took {took:.1f} s", file=sys.stderr)
    print("\n".join(lines))
    print(f"{'all lessons':<30} {total[0]} ok, {total[1]} skipped, {total[2]} failed")
    if not args.quiet:
        print(f"\n{what_next(scripts[0])}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(run_to_its_end(main))
