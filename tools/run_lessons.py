"""Runs every lesson on its embedded back end and adds up what they showed.

Run:  python tools/run_lessons.py [--quiet]    (`make demo` makes the environment first)

With --quiet only the last lines are printed: one per lesson and one for all.

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
TALLY = re.compile(r"(\d+) ok, (\d+) skipped, (\d+) failed")


def lesson(script: Path, quiet: bool) -> tuple[str, int]:
    """Run one lesson, show what it prints as it comes; return last line, exit code."""
    if not quiet:
        print(f"\n=== {script.name} ===", flush=True)
    command = [sys.executable, str(script), "--offline"]
    last = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as running:
        for line in running.stdout or ():
            if not quiet:
                print(line, end="", flush=True)
            last = line.strip() or last
    return last, running.returncode


def main(argv: list[str] | None = None) -> int:
    """Run all lessons that are there; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quiet", action="store_true", help="only the last lines")
    args = parser.parse_args(argv)
    lines = [] if args.quiet else [""]
    total = [0, 0, 0]
    failed = False
    for script in sorted(ROOT.glob("0[1-5]_*.py")):
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
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
