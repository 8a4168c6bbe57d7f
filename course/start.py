"""The first import of each lesson: ends the program where its packages are missing.

The one module of the course whose import may end the program, and only for this. It
reads what the running script asks for in its own header, so that `uv run` need not
install the packages of the other lessons. It still parses on old Pythons, as the
lessons do: otherwise a learner would see a SyntaxError instead of this line.
"""

from __future__ import annotations

import os
import re
import sys
from importlib import metadata
from pathlib import Path

OLDEST_PYTHON = (3, 11)


def packages_asked_for(script: Path) -> list[str]:
    """Return the distributions that a script's header (PEP 723) names."""
    header = re.search(
        r"^# /// script\n(.+?)^# ///$", script.read_text("utf-8"), re.M | re.S
    )
    if header is None:
        return []
    return re.findall(r'"([A-Za-z][\w.-]*)[^"]*"', header[1].partition("[")[2])


def packages_missing(names: list[str]) -> list[str]:
    """Return those distributions that this Python does not have."""
    missing = []
    for name in names:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
    return missing


def way_out(script: Path) -> str:
    """Return what to type instead: a Python that has the packages, or how to get it."""
    folder = script.parent
    for python in (".venv/bin/python", ".venv/Scripts/python.exe"):
        found = folder / python
        # Trap: resolving the link would lead to the Python that it was made from.
        if found.is_file() and Path(sys.prefix) != folder / ".venv":
            return f"run {os.path.relpath(found)} {os.path.relpath(script)}"
    needed = ".".join(map(str, OLDEST_PYTHON))
    requirements = folder / "requirements.txt"
    if not requirements.is_file():
        return f"install them with pip, for Python {needed} or later"
    return (
        f"run pip install -r {os.path.relpath(requirements)}, Python {needed} or later"
    )


def reason_not_to_start() -> str:
    """Return why the running script cannot start here, or nothing if it can."""
    path = getattr(sys.modules["__main__"], "__file__", None)
    if path is None or not Path(path).is_file():  # a notebook, or python -c
        return ""
    script = Path(path).absolute()
    asked = packages_asked_for(script)
    if not asked:  # not one of our scripts: a test runner, a tool
        return ""
    if sys.version_info < OLDEST_PYTHON:
        have = ".".join(map(str, sys.version_info[:3]))
        need = ".".join(map(str, OLDEST_PYTHON))
        problem = f"Python {have} is too old, {need} or later is needed"
    else:
        missing = packages_missing(asked)
        if not missing:
            return ""
        problem = f"this Python lacks {', '.join(missing)}"
    return f"{script.name}: {problem}: {way_out(script)}"


if problem_at_start := reason_not_to_start():
    print(problem_at_start, file=sys.stderr)
    raise SystemExit(2)
