"""Runs each lesson on each version of its server, and writes which claims held where.

Run:  python tools/versions.py [--write]    (`make versions`: with the newest servers)

The servers are this machine's own, those that come as wheels, and those of NEWEST_ROOT,
each private and on a port of its own. Without a server each Python runs all lessons.
README.md gets a line per lesson, docs/versions.md a line per claim.

Exit code 0 if every claim held wherever it was made, else 1.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from programs import interpreter  # noqa: E402
from services import private  # noqa: E402

from tools.live import (  # noqa: E402
    SERVICE_OF,
    VARIABLES,
    Run,
    named,
    run_lesson,
    start_all,
)
from tools.stopping import run_to_its_end  # noqa: E402

PYTHONS = ("3.11", "3.12", "3.13")
LINE = re.compile(r"^\s+\[(ok|FAIL)\] (.+)$", re.MULTILINE)
MARKS = {"ok": "✓", "FAIL": "✗"}
BLOCK = re.compile(r"(<!-- versions -->\n).*?(<!-- /versions -->)", re.DOTALL)
NOT_RUN = "MongoDB 8"  # no server of it can be had here: said, and not left out
INTEGRATED = "05 --integrated"


@dataclass(frozen=True)
class Column:
    """A lesson on one version of something."""

    lesson: str
    title: str
    run: Run

    def marks(self) -> dict[str, str]:
        """Return the mark of each claim that this run made."""
        return {text: MARKS[state] for state, text in LINE.findall(self.run.text)}


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Set variables for a block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def sources(newest: str) -> list[dict[str, str]]:
    """Return the settings by which the tests find each version of the servers."""
    own = {"NEWEST_ROOT": "", "WHEELS_FIRST": "", "REDIS_PROGRAM": ""}
    found = [own, own | {"WHEELS_FIRST": "1"}]
    if newest:
        found += [own | {"NEWEST_ROOT": newest}]
        found += [own | {"NEWEST_ROOT": newest, "REDIS_PROGRAM": "valkey-server"}]
    return found


def on_each_server(newest: str) -> Iterator[Column]:
    """Run lessons 01 to 04 on each version of their server, each version once."""
    for lesson, service in SERVICE_OF.items():
        seen = set()
        for settings in sources(newest):
            with environment(**settings), private(service) as server:
                if server is None:
                    continue
                found = named(service, server.url)
                if found.label in seen:
                    continue
                seen.add(found.label)
                urls = {VARIABLES[service]: found.url}
                run = run_lesson(lesson, "--require-live", **urls)
            yield Column(lesson, found.label, run)


def all_together(newest: str) -> Iterator[Column]:
    """Run the integrated system on this machine's servers, and on the newest."""
    for root in ("", newest) if newest else ("",):
        with environment(NEWEST_ROOT=root), ExitStack() as stack:
            there = start_all(stack)
            if len(there) < len(VARIABLES):
                continue
            urls = {VARIABLES[service]: found.url for service, found in there.items()}
            run = run_lesson("05", "--integrated", **urls)
        title = ", ".join(found.label for found in there.values())
        yield Column(INTEGRATED, title, run)


def on_each_python() -> Iterator[Column]:
    """Run all lessons without a service on each Python, with the newest packages."""
    for number in PYTHONS:
        with tempfile.TemporaryDirectory() as folder:
            found = interpreter(number)
            if not found:
                continue  # this Python is not here: it gets no column
            uv = str(Path(sys.executable).with_name("uv"))
            make = [uv, "venv", "--quiet", "--clear", "--python", found, folder]
            subprocess.run(make, check=True)
            python = str(Path(folder) / "bin" / "python")
            install = [uv, "pip", "install", "--quiet", "--python", folder]
            subprocess.run([*install, "-r", str(ROOT / "requirements.txt")], check=True)
            for lesson in ("01", "02", "03", "04", "05"):
                run = run_lesson(lesson, "--offline", python=python)
                yield Column(lesson, f"Python {number}", run)


def short(title: str) -> str:
    """Return what a version is called in a heading: without its last numbers."""
    return re.sub(r"(\d+(?:\.\d+)?)[\w.]*", short_number, title)


def short_number(found: re.Match[str]) -> str:
    """Shorten a version: RabbitMQ's minor versions differ, the others' majors do."""
    number = found.group(1)
    return number if number.split(".")[0] in {"3", "4", "0"} else number.split(".")[0]


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def outcome(run: Run) -> str:
    """Return a run's cell: the claims that held, and what else there was."""
    ok, skipped, failed = run.tally
    if not run.held:
        return f"**{failed or 'not ended:'} failed**, {ok} ok"
    return f"{ok} ok" + (f", {skipped} skipped" if skipped else "")


def summary(columns: list[Column]) -> str:
    """Return README's table: a line per run, with the claims that held."""
    rows = [
        [column.lesson, column.title, outcome(column.run)]
        for column in columns
        if not column.title.startswith("Python")
    ]
    rows.append(["02", NOT_RUN, "not run by these tests"])
    for number in PYTHONS:
        runs = [c.run for c in columns if c.title == f"Python {number}"]
        if runs:
            ok = sum(run.tally[0] for run in runs if run.held)
            skipped = sum(run.tally[1] for run in runs)
            held = all(run.held for run in runs)
            cell = f"{ok} ok, {skipped} skipped" + ("" if held else ", **some failed**")
            rows.append(["all", f"Python {number}, no service", cell])
    rows.sort(key=lambda row: row[0])
    return table(["lesson", "on", "claims"], rows)


def details(columns: list[Column]) -> str:
    """Return docs/versions.md: each claim of each lesson, on each version."""
    parts = [
        "# Which claim held on which version\n",
        "Written by `make versions`, which runs every lesson on every server below.",
        "✓ held, ✗ failed, blank: not made there. Some claims need a server, some a",
        f"stand-in. {NOT_RUN}: not run by these tests.\n",
    ]
    for lesson in dict.fromkeys(column.lesson for column in columns):
        its = [column for column in columns if column.lesson == lesson]
        marks = [column.marks() for column in its]
        claims = dict.fromkeys(text for found in marks for text in found)
        rows = [[text, *(found.get(text, "") for found in marks)] for text in claims]
        head = ["claim", *(short(column.title) for column in its)]
        parts += [f"## {lesson}\n", table(head, rows)]
    return "\n".join(parts)


def main(argv: list[str] | None = None) -> int:
    """Run everything; write the tables or print the short one; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write both files")
    args = parser.parse_args(argv)
    newest = os.environ.get("NEWEST_ROOT", "")
    columns = []
    for runs in (on_each_server(newest), all_together(newest), on_each_python()):
        for column in runs:
            print(
                f"{column.lesson:<16} {column.title}: {outcome(column.run)}", flush=True
            )
            columns.append(column)
    text = summary(columns)
    if args.write:
        readme = ROOT / "README.md"
        filled = BLOCK.sub(rf"\1{text}\2", readme.read_text("utf-8"))
        readme.write_text(filled, "utf-8")
        (ROOT / "docs" / "versions.md").write_text(details(columns), "utf-8")
    else:
        print(text)
    return 0 if all(column.run.held for column in columns) else 1


if __name__ == "__main__":
    sys.exit(run_to_its_end(main))
