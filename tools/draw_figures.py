"""Draws the guide's pictures, docs/figures/, from the lessons' own --plots.

Run:  python tools/draw_figures.py [--check]

With --check nothing is written: the exit code is 1 if a picture would differ.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "docs" / "figures"
DRAWN_BY = "05_realworld_data_science.py"


def main() -> int:
    """Draw or check; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory(prefix="module8-figures-") as folder:
        command = [sys.executable, str(ROOT / DRAWN_BY), "--plots", folder]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        drawn = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    kept = {p.name: p.read_bytes() for p in FIGURES.glob("*.svg")}
    if check:
        for name in sorted(drawn.keys() | kept.keys()):
            if drawn.get(name) != kept.get(name):
                print(f"docs/figures/{name} is not what {DRAWN_BY} draws")
        return int(drawn != kept)
    FIGURES.mkdir(parents=True, exist_ok=True)
    for name, content in drawn.items():
        (FIGURES / name).write_bytes(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
