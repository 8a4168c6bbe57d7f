"""What the documents say of practising: commands, exercises, the plan, the pages."""

from __future__ import annotations

import functools
import json
import re
import shlex
from pathlib import Path

import pytest
from lessons import ROOT, load, path_of, run

from course.practice.commands import command_parser
from course.practice.exercises import exercises_in, named_exercise
from course.practice.verdicts import judge_answers, verdict_lines
from tools import make_plan, reading_time

GUIDE = ROOT / "COMPREHENSIVE_GUIDE.md"
README = ROOT / "README.md"
TEACHING = sorted((ROOT / "docs" / "teaching").glob("*.md"))
DOCUMENTS = [
    GUIDE,
    README,
    ROOT / "CONTRIBUTING.md",
    ROOT / "exercises" / "README.md",
    *TEACHING,
]
EXERCISES = exercises_in(ROOT)
MINUTES = {exercise.name: exercise.minutes for exercise in EXERCISES}
every_document = pytest.mark.parametrize(
    "path", DOCUMENTS, ids=lambda path: f"{path.parent.name}/{path.name}"
)
every_page = pytest.mark.parametrize("number", make_plan.LESSONS)


def page(number: str) -> str:
    return (ROOT / "docs" / "teaching" / f"{number}.md").read_text("utf-8")


def commands_in(path: Path, program: str) -> list[list[str]]:
    """Return the words behind `python PROGRAM` wherever a document has that."""
    text = path.read_text("utf-8").replace("\\\n", " ")  # a command on two lines
    inline = re.findall(rf"`python {program}([^`\n]*)`", text)
    alone = re.findall(rf"^(?:\$ )?python {program}(.*)$", text, re.MULTILINE)
    return [shlex.split(words, comments=True) for words in inline + alone]


# Commands


@every_document
def test_every_command_of_practice_is_one(path: Path) -> None:
    for words in commands_in(path, r"practice\.py"):
        args = command_parser().parse_args(words)  # it raises BadInput
        if words[:1] == ["start"] and args.name != "NAME":
            assert named_exercise(args.name, EXERCISES)


@functools.cache
def options_of(number: str) -> set[str]:
    """Return the options that a lesson's --help shows."""
    return set(re.findall(r"--[\w-]+", run(path_of(number), "--help").stdout))


@every_document
def test_every_option_of_a_lesson_is_one(path: Path) -> None:
    for number in make_plan.LESSONS:
        for words in commands_in(path, re.escape(path_of(number).name)):
            typed = {word for word in words if word.startswith("--")}
            if typed:
                assert typed <= options_of(number), words


def test_every_word_of_the_page_for_learners_is_a_command() -> None:
    text = (ROOT / "exercises" / "README.md").read_text("utf-8")
    words = re.findall(r"`([a-z]+)(?: --seed \d+)?`", text)
    assert {"start", "check", "hint", "watch", "bug"} <= set(words)
    for word in words:
        command_parser().parse_args([word])


# Exercises


@every_document
def test_every_exercise_that_is_named_exists(path: Path) -> None:
    named = re.findall(r"\b0[1-5]_\d+_[a-z0-9_]+\b", path.read_text("utf-8"))
    assert set(named) <= set(MINUTES)


def test_the_readme_begins_with_an_exercise_and_its_minutes() -> None:
    text = README.read_text("utf-8").partition("## Practise\n")[2]
    assert f"has {len(EXERCISES)} exercises" in text
    begun = re.search(
        r"^python practice\.py start (\w+) .*; (\d+) minutes$", text, re.M
    )
    assert begun
    assert named_exercise(begun[1], EXERCISES).minutes == int(begun[2])


def test_the_readme_shows_what_a_wrong_answer_is_told() -> None:
    (shown,) = re.findall(
        r"^```text\n(not yet: .+?)\n```$", README.read_text("utf-8"), re.M | re.S
    )
    exercise = named_exercise("auc_of_counts", EXERCISES)
    wrong = exercise.beside("wrong").with_suffix("") / "ties_lose.py"
    judged = judge_answers(ROOT, [(exercise.folder, wrong, 1)], 60.0)
    assert verdict_lines(judged.verdicts[0]) == shown.splitlines()


# The plan


def chapter_16() -> str:
    text = GUIDE.read_text("utf-8").partition("\n## 16. ")[2]
    return text.partition("\n## 17. ")[0]


def test_minutes_plan_and_claims_are_those_of_today(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert make_plan.main(["--check"]) == 0, capsys.readouterr().out


def test_each_of_the_five_days_fits_into_three_hours() -> None:
    (table,) = re.findall(r"<!-- plan -->\n(.*?)<!-- /plan -->", chapter_16(), re.S)
    rows = [line.split("|")[1:-1] for line in table.splitlines()[2:]]
    assert [int(row[0]) for row in rows] == [1, 2, 3, 4, 5]
    for day, read, run_it, bet, write, bug, total in rows:
        listed = re.findall(r"`(\w+)` (\d+)", write)
        assert listed
        for name, minutes in listed:
            assert name.startswith(f"0{int(day)}_")
            assert MINUTES[name] == int(minutes)
        exercises = sum(int(minutes) for _, minutes in listed)
        others = sum(int(cell) for cell in (read, run_it, bet, bug))
        assert exercises + others == int(total) <= 180


def test_the_self_test_has_six_questions_and_six_answers() -> None:
    text = chapter_16().partition("### Do you know enough")[2].partition("\n### ")[0]
    questions, _, answers = text.partition("Answers:")
    for part in (questions, answers):
        numbers = re.findall(r"^(\d)\. ", part, re.MULTILINE)
        assert numbers == ["1", "2", "3", "4", "5", "6"]
    # What the answers say of Python is so.
    assert json.loads(json.dumps({1: (2, 3)})) == {"1": [2, 3]}
    assert '`{"1": [2, 3]}`' in answers


def test_the_plan_is_read_in_five_minutes() -> None:
    words = reading_time.FENCED.sub("", chapter_16()).split()
    assert len(words) <= 1000


EXAMPLE = """\
## 1. Stores

Four words of it.

### 1.1 First: a

```python
## 2. no heading
### 1.9 none either
```

### More

### 1.10 Last: b

## 2. Next
"""


def test_sections_are_found_and_code_holds_no_headings() -> None:
    found = make_plan.sections_of("01", EXAMPLE)
    titles = [(one.number, one.title) for one in found]
    assert titles == [(0, "1. Stores"), (1, "1.1 First: a"), (10, "1.10 Last: b")]
    assert found[0].minutes == 4 / reading_time.WORDS
    assert found[1].minutes == 1 / reading_time.WORDS + 2 / reading_time.CODE_LINES


def test_each_exercise_stands_below_its_section() -> None:
    text = "\n".join(f"## {number}. A\n" for number in range(1, 6))
    text = text.replace("## 2.", "### 1.4 Four\n### 1.7 Seven\n### 1.10 Ten\n## 2.")
    block = make_plan.minutes_block(text, EXERCISES)
    lines = re.findall(r"^ *\d+ +(?:write again: )?(.+)$", block, re.MULTILINE)
    of_first = [one.name for one in EXERCISES if one.lesson == "01"]
    assert lines[:9] == [
        "1. A",
        "1.4 Four",
        *of_first[:2],
        of_first[2],
        "1.7 Seven",
        of_first[3],
        "1.10 Ten",
        of_first[4],
    ]


def test_what_is_shorter_gets_more_exercises_into_a_day() -> None:
    long = make_plan.day_line(
        "01", "## 1. A\n" + "word " * reading_time.WORDS * 80, EXERCISES
    )
    short = make_plan.day_line(
        "01", "## 1. A\n" + "word " * reading_time.WORDS * 45, EXERCISES
    )
    assert long == "| 1 | 80 | 5 | 20 | `01_4_page_backwards` 30 | 25 | 160 |"
    assert "`01_4_page_backwards` 30, `01_7_paid_once` 45 | 25 | 170 |" in short


def test_only_the_rest_of_a_broken_claim_goes_on_with_it() -> None:
    long = "  [ok] " + "word " * 18 + "end"
    below = ["    last words", "    SELECT 1", "  [ok] short", "    SELECT 2", "[ok] x"]
    printed = "\n".join(["1. A: b", long, *below])
    expected = [long, "    last words", "  [ok] short"]
    assert make_plan.claims_in(printed) == expected


def test_what_differs_is_shown_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "03.md"
    copy.write_text("<!-- claims 03 -->\nold\n<!-- /claims -->\n")
    monkeypatch.setattr(make_plan, "PAGES", [copy])
    assert make_plan.main(["--check"]) == 1
    assert "-old" in capsys.readouterr().out
    assert make_plan.main([]) == 0
    assert "[ok] F(25) takes 242,785 calls, or 26 with a cache" in copy.read_text()
    assert make_plan.main(["--check"]) == 0


# The pages for instructors


def test_each_lesson_has_its_page() -> None:
    names = [f"{number}.md" for number in make_plan.LESSONS]
    assert [path.name for path in TEACHING] == [*names, "README.md"]
    overview = (ROOT / "docs" / "teaching" / "README.md").read_text("utf-8")
    assert all(f"]({name})" in overview for name in names)


@every_page
def test_a_page_is_about_its_lesson(number: str) -> None:
    text = page(number)
    assert f"<!-- claims {number} -->" in text
    scripts = re.findall(r"\b0\d_\w+\.py\b", text)
    assert set(scripts) == {path_of(number).name}
    named = set(re.findall(r"\b0[1-5]_\d+_[a-z0-9_]+\b", text))
    assert named == {one.name for one in EXERCISES if one.lesson == number}
    demos = set(load(number).lesson.demos)
    assert set(re.findall(r"--only ([\w-]+)", text)) == demos
    for words in re.findall(r"practice\.py (?:bet|bug) (\S+)", text):
        assert words == number


@every_page
def test_a_page_has_a_plan_of_ninety_minutes(number: str) -> None:
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", page(number), re.MULTILINE)
    assert sum(int(minutes) for minutes, _ in rows) == 90
    (written,) = [row for row in rows if "practice.py start" in row[1]]
    (name,) = re.findall(r"start (\w+)", written[1])
    assert MINUTES[name] == int(written[0])


@every_page
def test_a_page_has_five_questions_with_answers(number: str) -> None:
    questions, _, answers = (
        page(number).partition("## Five questions")[2].partition("Answers:")
    )
    for part in (questions, answers):
        assert re.findall(r"^(\d)\. ", part, re.M) == ["1", "2", "3", "4", "5"]


def test_the_verdicts_that_are_named_are_those_that_a_judge_gives() -> None:
    text = (ROOT / "docs" / "teaching" / "README.md").read_text("utf-8")
    (row,) = re.findall(r"^\| judged \| (.+) \|$", text, re.MULTILINE)
    source = "".join(
        (ROOT / "course" / "practice" / name).read_text("utf-8")
        for name in ("judge.py", "surveying.py", "verdicts.py")
    )
    for kind in re.findall(r"`(\w+)`", row):
        assert f'"{kind}"' in source
