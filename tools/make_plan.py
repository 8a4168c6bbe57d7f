"""Fills the plan of five days, the minutes of each section, and the claims per lesson.

    <!-- plan -->       five days of three hours       (guide, chapter 16)
    <!-- minutes -->    each section and exercise      (guide, chapter 16)
    <!-- claims 03 -->  what a lesson claims           (docs/teaching/)

Run:  python tools/make_plan.py [--check]

Minutes of reading are counted in the guide, those of exercises stand in their tasks.
Claims come from the golden outputs. With --check nothing is written: a difference is
printed and the exit code is 1.
"""

from __future__ import annotations

import argparse
import difflib
import json
import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from course.columns import WIDTH  # noqa: E402
from course.practice.exercises import Exercise, exercises_in  # noqa: E402
from tools.reading_time import minutes_to_read, without_code  # noqa: E402

GUIDE = ROOT / "COMPREHENSIVE_GUIDE.md"
PAGES = sorted((ROOT / "docs" / "teaching").glob("0[1-5].md"))
LESSONS = ("01", "02", "03", "04", "05")
BLOCK = re.compile(
    r"^<!-- (?P<kind>plan|minutes|claims)(?P<lesson> 0[1-5])? -->\n"
    r".*?^<!-- /(?P=kind) -->$",
    re.DOTALL | re.MULTILINE,
)
# A day. What is left of it is for exercises of its lesson, in the order of FIRST.
DAY = 180
RUN = 5
BET = 20
BUG = 25
FIRST = (
    "01_4_page_backwards",
    "01_7_paid_once",
    "02_8_operator_proof_search",
    "02_3_idempotent_load",
    "03_3_each_its_own_life",
    "03_8_old_prices",
    "04_3_what_became_of_each",
    "04_6_order_per_user",
    "05_2_auc_of_counts",
    "05_1_features_as_of",
)


@dataclass(frozen=True)
class Section:
    """A section of a lesson's chapter; that before the first one has number 0."""

    lesson: str
    number: int
    title: str
    minutes: float


# The guide


def sections_of(lesson: str, guide: str) -> list[Section]:
    """Return the sections of a lesson's chapter, and what comes before them."""
    chapter = lesson.lstrip("0")
    headings = without_code(guide)
    opened = re.search(rf"^## ({chapter}\. .+)$", headings, re.MULTILINE)
    if opened is None:
        raise SystemExit(f"{GUIDE.name} has no chapter {chapter}")
    closed = re.compile(r"^## ", re.MULTILINE).search(headings, opened.end())
    end = closed.start() if closed else len(guide)
    titled = re.compile(rf"^### ({chapter}\.(\d+) .+)$", re.MULTILINE)
    found = list(titled.finditer(headings, opened.end(), end))
    starts = [opened.end(), *(one.end() for one in found)]
    ends = [*(one.start() for one in found), end]
    titles = [(0, opened[1]), *((int(one[2]), one[1]) for one in found)]
    sections = []
    for (number, title), start, stop in zip(titles, starts, ends, strict=True):
        minutes = minutes_to_read(guide[start:stop])
        sections.append(Section(lesson, number, title, minutes))
    return sections


# The blocks


def section_of(exercise: Exercise) -> int:
    """Return the section of its lesson that an exercise belongs to."""
    return int(exercise.name.split("_")[1])


def minutes_block(guide: str, exercises: list[Exercise]) -> str:
    """Return a line per section, and one per exercise below its section."""
    rows: list[tuple[str, int, int, str, int]] = []
    for lesson in LESSONS:
        for section in sections_of(lesson, guide):
            minutes = math.ceil(section.minutes)
            rows.append((lesson, section.number, 0, section.title, minutes))
    for one in exercises:
        label = f"    write again: {one.name}"
        rows.append((one.lesson, section_of(one), one.number, label, one.minutes))
    lines = [f"{minutes:>7}  {label}" for *_, label, minutes in sorted(rows)]
    return "\n".join(["```text", "minutes", *lines, "```"])


def chosen_for_a_day(left: int, exercises: list[Exercise]) -> list[Exercise]:
    """Return the exercises that fit into the minutes left, those of FIRST only."""
    chosen: list[Exercise] = []
    for one in sorted(exercises, key=lambda one: FIRST.index(one.name)):
        if one.minutes <= left:
            chosen.append(one)
            left -= one.minutes
    return chosen


def day_line(lesson: str, guide: str, exercises: list[Exercise]) -> str:
    """Return the row of a lesson's day; the minutes of reading are rounded up."""
    counted = sum(section.minutes for section in sections_of(lesson, guide))
    read = 5 * math.ceil(counted / 5)
    fixed = read + RUN + BET + BUG
    listed = [one for one in exercises if one.name in FIRST and one.lesson == lesson]
    chosen = chosen_for_a_day(DAY - fixed, listed)
    write = ", ".join(f"`{one.name}` {one.minutes}" for one in chosen)
    total = fixed + sum(one.minutes for one in chosen)
    return f"| {int(lesson)} | {read} | {RUN} | {BET} | {write} | {BUG} | {total} |"


def plan_block(guide: str, exercises: list[Exercise]) -> str:
    """Return the table of five days."""
    lines = [
        "| day | read | run | bet | write again | find the bug | in all |",
        "|---|---|---|---|---|---|---|",
        *(day_line(lesson, guide, exercises) for lesson in LESSONS),
    ]
    return "\n".join(lines)


def claims_in(printed: str) -> list[str]:
    """Return the lines of claims in what a demo prints; a long claim has several.

    What stands below a claim goes on with it only if its first word had no room there:
    a table, or SQL, may begin with as many spaces.
    """
    lines = []
    above = ""  # the line before, if it is of a claim
    for line in printed.splitlines():
        word = line.lstrip().partition(" ")[0]
        has_room = len(f"{above} {word}") <= WIDTH
        goes_on = above and line.startswith("    ") and not has_room
        begins = re.match(r"  \[(?:ok|skip)\] ", line)
        above = line if begins or goes_on else ""
        if above:
            lines.append(line)
    return lines


def claims_block(lesson: str) -> str:
    """Return each demo of a lesson with what it claims when it runs offline."""
    golden = (ROOT / "tests" / f"lesson_{lesson}" / "golden.txt").read_text("utf-8")
    bets = json.loads((ROOT / "data" / "bets.json").read_text("utf-8"))
    names = list(bets["lessons"][lesson]["demos"])  # in the order of the run
    printed = re.split(r"\n\n(?=\d+\. )", golden)[1:]
    lines = []
    for name, text in zip(names, printed, strict=True):
        title = text.partition("\n")[0]
        lines += [f"{title}   --only {name}", *claims_in(text)]
    return "\n".join(["```text", *lines, "```"])


def filled(text: str, guide: str, exercises: list[Exercise]) -> str:
    """Return a document with each of its blocks made again."""

    def fill(block: re.Match[str]) -> str:
        kind = block["kind"]
        lesson = block["lesson"] or ""
        if kind == "plan":
            inner = plan_block(guide, exercises)
        elif kind == "minutes":
            inner = minutes_block(guide, exercises)
        else:
            inner = claims_block(lesson.strip())
        return f"<!-- {kind}{lesson} -->\n{inner}\n<!-- /{kind} -->"

    return BLOCK.sub(fill, text)


def main(argv: list[str] | None = None) -> int:
    """Fill or check the documents; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args(argv)
    guide = GUIDE.read_text("utf-8")
    exercises = exercises_in(ROOT)
    differs = False
    for path in (GUIDE, *PAGES):
        before = path.read_text("utf-8")
        after = filled(before, guide, exercises)
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
