"""Find the bug: a copy gets one, and what is mended is told from what is bent."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lessons import ROOT, SCRIPTS

from course.practice import bugs, mending
from course.practice.bugs import (
    Bug,
    bug_folder,
    change_of,
    copied_lesson,
    is_caught,
    keep_bug,
    mutated_file,
    mutations_in,
    planted,
    put_in,
    script_of,
)
from course.practice.commands import practise
from course.practice.finding import show_bug
from course.practice.mending import reasons_against
from course.practice.progress import progress_in

CLAIM = "2 doubled is 4, -1 is refused"
BROKEN = f"[FAIL] {CLAIM}: of 2 6, not 4"
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a lesson on a busy machine the time it needs."""
    monkeypatch.setattr(bugs, "RUN_LIMIT", 120.0)
    monkeypatch.setattr(mending, "DEMO_LIMIT", 120.0)


@pytest.fixture
def call(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Call:
    """Return what runs a command in the project: its exit code and what it prints."""
    monkeypatch.chdir(project)
    monkeypatch.setattr(bugs, "LESSONS", ("03",))

    def run(*argv: str) -> tuple[int, str, str]:
        code = practise(project, list(argv))
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def with_bug(call: Call, project: Path, place: int = 0, level: str = "1") -> str:
    """Put one of the two bugs in; return what is shown of it."""
    for seed in range(20):
        _, printed, _ = call("bug", "--seed", str(seed), "--level", level)
        found = bugs.open_bug(project)
        assert found
        if found.place == place:
            return printed
        call("bug", "drop")
    raise AssertionError("20 seeds and always the same bug")


def edit(project: Path, old: str, new: str, file: str = "03_small.py") -> None:
    path = bug_folder(project) / file
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


def files_of(project: Path) -> dict[Path, bytes]:
    """Return all of the learner's files: not those of the copy."""
    found = {}
    for path in project.rglob("*"):
        if path.is_file() and not {".bug", "__pycache__"} & set(path.parts):
            found[path] = path.read_bytes()
    return found


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("1", [BROKEN, "The bug is in section 1. Doubling: twice as many."]),
        ("2", [BROKEN]),
        ("3", ["Something in lesson 03 is wrong."]),
    ],
)
def test_a_level_tells_as_much_as_it_says(
    call: Call, project: Path, level: str, shown: list[str]
) -> None:
    lines = [line.strip() for line in with_bug(call, project, 0, level).splitlines()]
    _, _, *said = lines[: lines.index("lesson:  exercises/.bug/03_small.py")]
    assert [line for line in said if line] == shown


def test_a_claim_that_is_not_reached_is_named(
    call: Call, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "not reached" not in with_bug(call, project)
    bug = bugs.open_bug(project)
    assert bug
    show_bug(project, bug, ["TimeoutError: the state was not reached"])
    assert f"  not reached: [ok] {CLAIM}\n" in capsys.readouterr().out


def test_a_bug_touches_nothing_of_the_learner(call: Call, project: Path) -> None:
    before = files_of(project)
    with_bug(call, project)
    call("check")
    after = files_of(project)
    changed = {path.name for path in after if before.get(path) != after[path]}
    assert changed <= {".progress.json"}  # which counts the bugs that were dropped
    assert set(before) <= set(after)


def test_a_mended_copy_is_right_and_counted(call: Call, project: Path) -> None:
    with_bug(call, project)
    code, printed, _ = call("check")
    assert (code, printed) == (1, f"not yet, after 1 minute, 1 try:\n  {BROKEN}\n")
    edit(project, "number * 3", "number + number")  # another way than it was
    code, printed, _ = call("bug", "check")
    assert code == 0
    assert printed.startswith("right: found and fixed in 1 minute, 2 tries\n")
    assert "-    return number * 3\n+    return number * 2\n" in printed
    kept = progress_in(project / "exercises").bugs[-1]
    assert kept == {
        "lesson": "03",
        "claim": CLAIM,
        "level": 1,
        "minutes": 1,
        "tries": 2,
        "found": True,
    }
    assert not bug_folder(project).exists()
    assert "bugs found: 1" in call("all")[1]


BENT = {
    "the check": (
        '"of 2": 4, "of -1"',
        '"of 2": 6, "of -1"',
        "03_small.py",
        "03_small.py: a call of `check` is changed; mend what it checks",
    ),
    "no check": (
        '    check("2 doubled',
        '    print("2 doubled',
        "03_small.py",
        "03_small.py: a call of `check` is changed; mend what it checks",
    ),
    "a check of one's own": (
        "lesson = Lesson",
        "def check(claim, *_, **__):\n    print('  [ok]', claim)\n\n\nlesson = Lesson",
        "03_small.py",
        "03_small.py: `check` is another function there; mend what it checks",
    ),
    "another name for check": (
        "lesson = Lesson",
        "check = lambda claim, *_, **__: print(f'  [ok] {claim}')\nlesson = Lesson",
        "03_small.py",
        "03_small.py: `check` is another function there; mend what it checks",
    ),
    "what is seen": (
        '"of 2": doubled(2)',
        '"of 2": 4',
        "03_small.py",
        "the demo `doubling` is changed, and the bug is not in it",
    ),
    "what compares": (
        "same = bool(observed == expected)",
        "same = True",
        "course/claims.py",
        "course/claims.py is changed: it is what checks the claims",
    ),
    "the other half of the claim": (
        "number * 3",
        "4",
        "03_small.py",
        f"the lesson does not notice any more where this is wrong: {CLAIM}",
    ),
    "no Python": (
        "number * 3",
        "number *",
        "03_small.py",
        "03_small.py:38: SyntaxError: invalid syntax",
    ),
    "no demo": (
        "@lesson.demo\n",
        "",
        "03_small.py",
        "the demo `doubling` is changed, and the bug is not in it",
    ),
    "an error": (
        "    return number * 3",
        "    return nobody",
        "03_small.py",
        "[FAIL] NameError: name 'nobody' is not defined",
    ),
    "an end": (
        "lesson = Lesson",
        "raise KeyError(1)\nlesson = Lesson",
        "03_small.py",
        "the lesson does not run to its end: KeyError: 1",
    ),
}


@pytest.mark.parametrize("name", BENT)
def test_what_only_looks_mended_is_refused(
    call: Call, project: Path, name: str
) -> None:
    old, new, file, reason = BENT[name]
    with_bug(call, project)
    edit(project, old, new, file)
    if name == "the other half of the claim":  # -1 is not refused for its own sake
        edit(project, "number < 0", "number == -1 or number < 0 and number != -1")
        edit(project, "    return 4", "    return number * 2 if number > 0 else None")
    code, printed, _ = call("check")
    said = [line.strip() for line in printed.splitlines()[1:]]
    assert (code, said) == (1, [reason])


def test_a_lesson_that_is_stopped_says_so_and_what_failed_before(
    call: Call, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_bug(call, project)
    seen = bugs.Run(None, "  [FAIL] 1 is 2\n", "no end within 20 seconds")
    monkeypatch.setattr(mending, "run_offline", lambda *_, **__: seen)
    code, printed, _ = call("check")
    said = [line.strip() for line in printed.splitlines()[1:]]
    stopped = "the lesson was stopped: no end within 20 seconds; it takes 5 to 10"
    assert (code, said) == (1, ["[FAIL] 1 is 2", stopped])


HANGS = """\
import signal, sys, time

def end(*_):
    print("cleaned up")
    sys.exit(1)

signal.signal(signal.SIGTERM, {handler})
print("begun", flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(os.name == "nt", reason="platform: no SIGTERM, a program is killed")
@pytest.mark.parametrize(
    ("handler", "printed"),
    [("end", "begun\ncleaned up\n"), ("signal.SIG_IGN", "begun\n")],
    ids=["cleans up", "does not end"],
)
def test_a_lesson_that_hangs_is_told_to_end_and_then_killed(
    project: Path, monkeypatch: pytest.MonkeyPatch, handler: str, printed: str
) -> None:
    monkeypatch.setattr(bugs, "TIME_TO_CLEAN", 1.0)
    (project / "03_small.py").write_text(HANGS.format(handler=handler), "utf-8")
    run = bugs.run_offline(project, "03", limit=2.0)
    assert run == bugs.Run(None, printed, "no end within 2 seconds")


def test_what_is_not_mended_is_told_by_its_demo_alone(
    call: Call, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_bug(call, project)
    asked: list[tuple[str, ...]] = []
    whole = bugs.run_offline

    def run(folder: Path, lesson: str, *options: str, **limit: float) -> bugs.Run:
        asked.append(options)
        return whole(folder, lesson, *options, **limit)

    monkeypatch.setattr(mending, "run_offline", run)
    assert call("check")[0] == 1
    assert asked == [("--only", "doubling")]


ENCODED = {
    "utf-16": "the file has zero bytes, as UTF-16 has: save it as UTF-8",
    "latin-1": "it is not UTF-8, as it was: save it as that",
}


@pytest.mark.parametrize("encoding", ENCODED)
def test_a_copy_in_another_encoding_is_named(
    call: Call, project: Path, encoding: str
) -> None:
    with_bug(call, project)
    path = bug_folder(project) / "03_small.py"
    text = path.read_text("utf-8").replace("number * 3", "number * 2")
    path.write_bytes(f"# coding: latin-1, \xe9\n{text}".encode(encoding))
    code, printed, complaint = call("check")
    assert (code, complaint) == (1, "")
    assert printed.splitlines()[1] == f"  03_small.py: {ENCODED[encoding]}"


def test_one_bug_at_a_time(call: Call, project: Path) -> None:
    with_bug(call, project)
    code, printed, complaint = call("bug")
    assert (code, printed, complaint.count("\n")) == (2, "", 1)
    assert "a bug is open in exercises/.bug" in complaint
    code, printed, _ = call("bug", "drop")
    assert code == 0
    assert printed.startswith("given up after 1 minute, 0 tries\n")
    assert "+    return number * 2" in printed
    assert progress_in(project / "exercises").bugs[-1]["found"] is False
    assert call("bug", "drop")[0] == 2


def test_check_with_a_name_is_about_the_exercise(call: Call, project: Path) -> None:
    with_bug(call, project)
    assert call("check", "2")[1].splitlines()[0] == "03_2_larger_half"


def test_check_is_about_what_was_opened_last(call: Call, project: Path) -> None:
    with_bug(call, project)
    assert BROKEN in call("check")[1]
    call("start", "larger")
    assert BROKEN not in call("check")[1]
    assert BROKEN in call("bug", "check")[1]


def test_a_seed_puts_the_same_bug_in(call: Call, project: Path) -> None:
    printed = []
    for _ in range(2):
        printed.append(call("bug", "--seed", "3")[1])
        call("bug", "drop")
    assert printed[0] == printed[1]
    assert "seed 3, level 1" in printed[0]


def test_a_bug_of_another_list_is_one_line(call: Call, project: Path) -> None:
    with_bug(call, project)
    kept = bug_folder(project) / "bug.json"
    kept.write_text(kept.read_text("utf-8").replace(CLAIM, "another claim"), "utf-8")
    code, printed, complaint = call("check")
    assert (code, printed) == (2, "")
    assert complaint.count("\n") == 1
    assert "lesson 03 has changed since the bug was put in" in complaint


NO_BUGS: dict[str, Callable[[str], str]] = {
    "no JSON": lambda kept: "{",
    "no dict": lambda kept: "[" * 100_000,
    "another lesson": lambda kept: kept.replace('"03"', '"09"'),
    "a number": lambda kept: kept.replace('"03"', "3"),
    "no place": lambda kept: re.sub('"place": .', '"place": -1', kept),
    "no tries": lambda kept: kept.replace('"tries": 0', '"tries": "x"'),
    "no time": lambda kept: re.sub('"started": [^,]+', '"started": "x"', kept),
}


def test_a_broken_copy_is_one_line(call: Call, project: Path) -> None:
    with_bug(call, project)
    path = bug_folder(project) / "bug.json"
    kept = path.read_text("utf-8")
    for name, broken in NO_BUGS.items():
        path.write_text(broken(kept), "utf-8")
        for command in ("check", "drop"):
            code, printed, complaint = call("bug", command)
            assert (code, printed, complaint.count("\n")) == (2, "", 1), name
            assert "bug.json cannot be read" in complaint


def test_a_copy_that_is_gone_is_one_line(call: Call, project: Path) -> None:
    with_bug(call, project)
    (bug_folder(project) / "03_small.py").unlink()
    code, printed, complaint = call("check")
    assert (code, printed, complaint.count("\n")) == (2, "", 1)
    assert "lesson 03 is not there" in complaint


def test_a_mark_of_utf_8_and_a_copy_of_ones_own_are_no_bugs(
    call: Call, project: Path
) -> None:
    with_bug(call, project)
    path = bug_folder(project) / "03_small.py"
    text = path.read_text("utf-8")
    path.with_name("03_small.before.py").write_text(text, "utf-8")
    path.write_text(text.replace("number * 3", "number * 2"), "utf-8-sig")
    assert call("check")[1].startswith("right: found and fixed")


def test_without_the_tests_it_is_one_line(call: Call, project: Path) -> None:
    shutil.rmtree(project / "tests")
    code, _, complaint = call("bug", "3")
    assert (code, complaint.count("\n")) == (2, 1)
    assert "mutations.py is not there" in complaint


# The lessons' own mutations


def numbers() -> list[str]:
    return [script.name[:2] for script in SCRIPTS]


def places(lesson: str) -> list[int]:
    """Return which mutations of a lesson can be bugs."""
    listed = mutations_in(ROOT, lesson)
    return [place for place, one in enumerate(listed) if not one.live]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a copy of what bugs are made from."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "exercises").mkdir()
    for script in SCRIPTS:
        copied_lesson(ROOT, script.name[:2], folder / "one")
        shutil.copytree(folder / "one", folder, dirs_exist_ok=True)
        shutil.rmtree(folder / "one")
        tests = folder / "tests" / f"lesson_{script.name[:2]}"
        tests.mkdir(parents=True)
        shutil.copy2(ROOT / tests.relative_to(folder) / "mutations.py", tests)
    yield folder


def found_and_mended(project: Path, lesson: str, place: int) -> None:
    """Put a bug in, see it, mend it, and see that the copy is right."""
    mutation: Any = mutations_in(project, lesson)[place]
    run = planted(project, lesson, mutation)
    assert run
    if re.search(r"\[skip\] .*pandas", run.printed):
        pytest.importorskip("pandas")
    assert is_caught(run, mutation)
    bug = Bug(lesson, place, mutation.claim, 1, 0, 0.0)
    keep_bug(project, bug)
    copy = mutated_file(bug_folder(project), lesson, mutation)
    shutil.copy2(mutated_file(project, lesson, mutation), copy)
    assert reasons_against(project, bug) == []


@pytest.mark.slow
@pytest.mark.parametrize("lesson", ["01", "03", "05"])  # all of all: make soak
def test_a_bug_of_a_lesson_is_found_and_mended(whole: Path, lesson: str) -> None:
    listed = places(lesson)
    found_and_mended(whole, lesson, listed[len(listed) // 2])


@pytest.mark.slow
def test_an_unmended_bug_is_refused(whole: Path) -> None:
    place = places("03")[0]
    mutation = mutations_in(whole, "03")[place]
    assert planted(whole, "03", mutation)
    reasons = reasons_against(whole, Bug("03", place, mutation.claim, 1, 0, 0.0))
    assert any(line.startswith(f"[FAIL] {mutation.claim}") for line in reasons)


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.parametrize(
    ("lesson", "place"), [(one, place) for one in numbers() for place in places(one)]
)
def test_every_bug_is_found_and_mended(whole: Path, lesson: str, place: int) -> None:
    found_and_mended(whole, lesson, place)


@pytest.mark.parametrize("lesson", numbers())
def test_every_mutation_fits_into_a_copy(lesson: str, tmp_path: Path) -> None:
    for place in places(lesson):
        mutation = mutations_in(ROOT, lesson)[place]
        copy = tmp_path / str(place)
        copy.mkdir()
        shutil.copy2(script_of(ROOT, lesson), copy)
        path = mutated_file(copy, lesson, mutation)
        if mutation.file:
            path.parent.mkdir(parents=True)
            shutil.copy2(ROOT / mutation.file, path)
        before = path.read_text("utf-8")
        assert put_in(copy, lesson, mutation)
        assert path.read_text("utf-8") != before


def test_what_mends_a_bug_is_shown_with_two_lines_around_it() -> None:
    found = [one for one in mutations_in(ROOT, "03") if "\n" not in one.old]
    mutation = next(one for one in found if "\n" not in one.new and one.times == 1)
    place = mutations_in(ROOT, "03").index(mutation)
    shown = change_of(ROOT, Bug("03", place, mutation.claim, 1, 0, 0.0))
    signs = [line[:1] for line in shown[3:]]  # behind the two names and the place
    assert signs == [" ", " ", "-", "+", " ", " "]
