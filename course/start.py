"""The first import of each lesson: ends the program where its packages are missing.

The one module of the course whose import has an effect, and only on a lesson that runs
as a program: it may end it, and until `main` begins a Ctrl-C ends it in silence. It
reads what the running script asks for in its own header, so that `uv run` need not
install the packages of the other lessons. It still parses on old Pythons, as the
lessons do: otherwise a learner would see a SyntaxError instead of this line.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

OLDEST_PYTHON = "3.11"


def requirements_of(script: Path) -> list[str]:
    """Return what a script's header (PEP 723) asks for, such as "rich>=13.7,<16"."""
    text = script.read_text("utf-8")
    header = re.search(r"^# /// script\n(.+?)^# ///$", text, re.M | re.S)
    if header is None:
        return []
    _, _, dependencies = header[1].partition("dependencies = [")
    return re.findall(r'"(.+?)"', dependencies)


def numbers_of(version: str) -> list[int]:
    """Return the numbers in a version, which are compared one by one."""
    return [int(number) for number in re.findall(r"\d+", version)]


def lack_of(requirement: str) -> str:
    """Return what this Python lacks of a requirement, or nothing."""
    from importlib import metadata  # noqa: PLC0415  (slow: Ctrl-C must be silent first)

    name = re.split(r"[^\w.-]", requirement)[0]
    oldest = re.search(r">=([\d.]+)", requirement)
    try:
        have = metadata.version(name)
    except metadata.PackageNotFoundError:
        return name
    # Trap: a system's own package is there and too old, which is an ImportError later.
    if oldest and numbers_of(have) < numbers_of(oldest[1]):
        return f"{name} {oldest[1]} (it has {have})"
    return ""


def from_here(path: Path) -> str:
    """Return the path as one would type it in the current folder."""
    try:
        return os.path.relpath(path)
    except ValueError:  # on another drive of Windows
        return str(path)


def way_out(script: Path, requirements: list[str]) -> str:
    """Return what to type instead: a Python that has the packages, or how to get it."""
    from subprocess import list2cmdline  # noqa: PLC0415  (as above)

    folder = script.parent
    for name in (".venv/bin/python", ".venv/Scripts/python.exe"):
        python = folder / name
        # Trap: resolving the link would lead to the Python that it was made from.
        if python.is_file() and Path(sys.prefix) != folder / ".venv":
            command = [from_here(python), from_here(script)]
            return list2cmdline(command)  # quotes a folder with a space
    listed = folder / "requirements.txt"
    if listed.is_file():
        return list2cmdline(["pip", "install", "-r", from_here(listed)])
    # Quoted, since to a shell > and < are redirections.
    quoted = [f'"{requirement}"' for requirement in requirements]
    return f"pip install {' '.join(quoted)}"


def reason_not_to_start() -> str:
    """Return why the running script cannot start here, or nothing if it can."""
    path = getattr(sys.modules["__main__"], "__file__", None)
    if path is None or not Path(path).is_file():  # a notebook, or python -c
        return ""
    script = Path(path).absolute()
    requirements = requirements_of(script)
    if not requirements:  # not one of our scripts: a test runner, a tool
        return ""
    have = ".".join(map(str, sys.version_info[:3]))
    if numbers_of(have) < numbers_of(OLDEST_PYTHON):
        problem = f"Python {have} is too old, {OLDEST_PYTHON} or later is needed"
    else:
        missing = list(filter(None, map(lack_of, requirements)))
        if not missing:
            return ""
        problem = f"this Python lacks {', '.join(missing)}"
    return f"{script.name}: {problem}; run {way_out(script, requirements)}"


def is_lesson_of_its_own() -> bool:
    """Tell whether one of our scripts runs as a program, and not inside another."""
    path = getattr(sys.modules["__main__"], "__file__", None)
    if path is None or "IPython" in sys.modules or not Path(path).is_file():
        return False
    return bool(requirements_of(Path(path)))


# A Ctrl-C while packages are imported ends the program at once, as nothing is open yet;
# Python would print where it was. From `main` on, course.ending decides.
if is_lesson_of_its_own() and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
if problem_at_start := reason_not_to_start():
    print(problem_at_start, file=sys.stderr)
    raise SystemExit(2)
