"""Writes data/bets.json: what `--bet` says of each demo, and what each is settled by.

Run:  python tools/make_bets.py [--mutations] [--check]     (make bets)

The true sentences are the claims of the golden files, or say what another line there
shows. The false ones, and the situations, are in data/bets_by_hand.toml. A number that
a broken lesson shows is taken from the [FAIL] of the claim's mutation: --mutations runs
these again, which takes minutes, and writes data/bets_observed.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import os
import re
import sys
import tomllib
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BY_HAND = ROOT / "data" / "bets_by_hand.toml"
OBSERVED = ROOT / "data" / "bets_observed.json"
TARGET = ROOT / "data" / "bets.json"
GUIDE = ROOT / "COMPREHENSIVE_GUIDE.md"
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tests"))

import lessons  # noqa: E402  (of tests/: it loads and mutates the lessons)

from tools.site_pages import anchor_of  # noqa: E402


class BadBets(Exception):
    """Raised for what is written by hand and does not fit what the lessons print."""


def printed_by_demo(number: str) -> list[list[str]]:
    """Return the lines of each demo in a golden file, in order, with single spaces."""
    golden = (lessons.folder_of(number) / "golden.txt").read_text("utf-8")
    demos: list[list[str]] = []
    for text in re.split(r"\n\n(?=\d+\. )", golden)[1:]:
        # With its broken lines made whole, and as they are: some begin with spaces.
        lines = [*lessons.unbroken(text).splitlines(), *text.splitlines()]
        demos.append([" ".join(line.split()) for line in lines])
    return demos


def sections(script: Path) -> dict[str, str]:
    """Return the guide's heading above the output of each demo of a lesson."""
    found: dict[str, str] = {}
    heading = ""
    is_code = False
    for line in GUIDE.read_text("utf-8").splitlines():
        if line.startswith("```"):
            is_code = not is_code
        elif line.startswith("#") and not is_code:
            heading = line.lstrip("# ")
        shown = re.match(rf"<!-- output: {script.name} --only ([\w-]+) -->", line)
        if shown:
            found.setdefault(shown[1], heading)
    return found


def link_to(heading: str) -> str:
    """Return the address of a heading of the guide, as GitHub makes it."""
    return f"{GUIDE.name}#{anchor_of(heading)}"


# What broken lessons show


def mutations_of(number: str) -> tuple[lessons.Mutation, ...]:
    """Return the mutations of a lesson that run offline."""
    path = lessons.folder_of(number) / "mutations.py"
    spec = importlib.util.spec_from_file_location(f"mutations{number}", path)
    if spec is None or spec.loader is None:
        raise BadBets(f"{path} cannot be imported")
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return tuple(one for one in module.MUTATIONS if not one.live)


def observed_in(failure: str, claim: str) -> str:
    """Return the first number that a [FAIL] of a claim shows instead of another."""
    found = re.search(r"(?:^|[\s\[])(\d+)\]?, not", failure.removeprefix(claim))
    return found[1] if found else ""


def observed_by_mutations(number: str) -> dict[str, str]:
    """Run all mutations of a lesson; return what the first of each claim shows."""
    found: dict[str, str] = {}
    for mutation in mutations_of(number):
        printed = io.StringIO()
        with redirect_stdout(printed), lessons.mutated(number, mutation) as lesson:
            lesson.main(["--offline", "--only", mutation.demo])
        text = lessons.unbroken(printed.getvalue())
        for failure in re.findall(r"^  \[FAIL\] (.*)$", text, re.MULTILINE):
            value = observed_in(failure, mutation.claim)
            if value and failure.startswith(mutation.claim):
                found.setdefault(mutation.claim, value)
    return found


# The file


def claim_of(
    written: dict[str, Any], lines: list[str], observed: dict[str, str], where: str
) -> dict[str, Any]:
    """Return one claim for the file; refuse what the demo does not print."""
    claim = written.get("claim", "")
    shows = f"[ok] {claim}" if claim else written["shows"]
    if shows not in lines:
        raise BadBets(f"{where} does not print: {shows}")
    wrong = written["false"]
    if "{observed}" in wrong:
        if claim not in observed:
            raise BadBets(f"{where}: no mutation shows a number: {claim}")
        wrong = wrong.replace("{observed}", observed[claim])
    true = claim or written["true"]
    return {"shows": shows, "true": true, "false": [wrong]}


def demos_of(
    number: str, by_hand: dict[str, Any], observed: dict[str, str]
) -> dict[str, Any]:
    """Return what the file says of a lesson's demos, in their order."""
    lesson = lessons.load(number).lesson
    headings = sections(lessons.path_of(number))
    printed = printed_by_demo(number)
    demos = {}
    for name, lines in zip(lesson.demos, printed, strict=True):
        where = f"{number} {name}"
        if name not in by_hand or name not in headings:
            raise BadBets(f"{where}: no bets, or no section of the guide")
        claims = []
        for written in by_hand[name]["claims"]:
            claims.append(claim_of(written, lines, observed, where))
        demos[name] = {
            "subject": lesson.title_of(name).partition(":")[0],
            "situation": by_hand[name]["situation"],
            "heading": headings[name],
            "link": link_to(headings[name]),
            "claims": claims,
        }
    return demos


def made(observed: dict[str, dict[str, str]]) -> str:
    """Return the text of the file."""
    by_hand = tomllib.loads(BY_HAND.read_text("utf-8"))
    found: dict[str, Any] = {"ten": by_hand["ten"], "lessons": {}}
    for script in lessons.SCRIPTS:
        number = script.name[:2]
        demos = demos_of(number, by_hand[number], observed.get(number, {}))
        title = lessons.load(number).lesson.title
        about = {"title": title, "script": script.name, "demos": demos}
        found["lessons"][number] = about
    for number, demo, shows in by_hand["ten"]:
        claims = found["lessons"][number]["demos"][demo]["claims"]
        if shows not in [claim["shows"] for claim in claims]:
            raise BadBets(f"ten: no such claim of {number} {demo}: {shows}")
    return as_json(found)


def as_json(found: dict[str, Any]) -> str:
    """Return the text of a file."""
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def write_observed() -> None:
    """Run all mutations; write what they show."""
    found = {}
    for script in lessons.SCRIPTS:
        found[script.name[:2]] = observed_by_mutations(script.name[:2])
    OBSERVED.write_text(as_json(found), "utf-8")


def main(argv: list[str] | None = None) -> int:
    """Write or check the file; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mutations", action="store_true", help="run them again")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if old")
    args = parser.parse_args(argv)
    os.environ.update(dict.fromkeys(lessons.VARIABLES, ""))
    if args.mutations:
        write_observed()
    try:
        text = made(json.loads(OBSERVED.read_text("utf-8")))
    except BadBets as problem:
        print(problem, file=sys.stderr)
        return 1
    if TARGET.exists() and TARGET.read_text("utf-8") == text:
        print(f"{TARGET.name}: nothing changes")
        return 0
    if args.check:
        print(f"{TARGET.name} is old: run tools/make_bets.py", file=sys.stderr)
        return 1
    TARGET.write_text(text, "utf-8")
    print(f"{TARGET.name}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
