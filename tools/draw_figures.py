"""Draws the guide's pictures, docs/figures/, from the lessons' own --plots.

Run:  python tools/draw_figures.py [--check]

Each gets a second set of colours, for readers whose page is dark. With --check nothing
is written: the exit code is 1 if a picture would differ.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "docs" / "figures"
DRAWN_BY = "05_realworld_data_science.py"
DARK = {  # on a dark page, in place of
    "#ffffff": "#1e2129",
    "#000000": "#d0d3d9",
    "#cccccc": "#4b4f58",
    "#1f77b4": "#58a6ff",
    "#ff7f0e": "#ffa657",
}
STYLES_END = "</style>"
LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")


def for_dark_pages_too(picture: str) -> str:
    """Return a picture of SVG with other colours where the page around it is dark."""
    rules = [f"text {{fill: {DARK['#000000']}}}"]  # a text has the colour by default
    for light, dark in DARK.items():
        for what in ("fill", "stroke"):
            rule = f'[style*="{what}: {light}"] {{{what}: {dark} !important}}'
            rules.append(rule)
    lines = "\n".join(rules)
    query = f"@media (prefers-color-scheme: dark) {{\n{lines}\n}}\n"
    return picture.replace(STYLES_END, f"\n{query}{STYLES_END}", 1)


def rounded(picture: str) -> str:
    """Return a picture with two decimals: processors differ in the last of six."""
    return LONG_NUMBER.sub(lambda number: f"{float(number[0]):.2f}", picture)


def main() -> int:
    """Draw or check; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory(prefix="module8-figures-") as folder:
        command = [sys.executable, str(ROOT / DRAWN_BY), "--plots", folder]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        drawn = {
            path.name: for_dark_pages_too(rounded(path.read_text("utf-8")))
            for path in Path(folder).iterdir()
        }
    kept = {path.name: path.read_text("utf-8") for path in FIGURES.glob("*.svg")}
    if check:
        for name in sorted(drawn.keys() | kept.keys()):
            if drawn.get(name) != kept.get(name):
                print(f"docs/figures/{name} is not what {DRAWN_BY} draws")
        return int(drawn != kept)
    FIGURES.mkdir(parents=True, exist_ok=True)
    for name, content in drawn.items():
        (FIGURES / name).write_text(content, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
