"""practice.py: what a learner reads, and what is kept of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from lessons import ROOT

from course.claims import is_a
from course.errors import BadInput
from course.lab import wait_until
from course.practice import progress, writing
from course.practice.checking import Refused
from course.practice.commands import COMMANDS, practise
from course.practice.exercises import exercises_in
from course.practice.judge import (
    loaded_file,
    message_of,
    place_of_error,
    refused_verdict,
)
from course.practice.progress import Progress, keep, progress_in, progress_of
from course.practice.verdicts import (
    judge_answers,
    judge_every,
    sentence_of,
    verdict_lines,
)
from exercises import sample

FIRST, LAST, OTHER = "03_2_larger_half", "03_10_other_half", "01_4_third_half"
PATIENT = 60.0  # seconds, where no test is about the deadline
Writer = Callable[[str | bytes], Path]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a check on a busy machine the time it needs."""
    slow = partial(judge_answers, deadline=PATIENT)
    monkeypatch.setattr(writing, "judge_answers", slow)


@pytest.fixture
def call(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Return what runs a command in the project: its exit code and what it prints."""
    monkeypatch.chdir(project)

    def run(*argv: str) -> tuple[int, str, str]:
        code = practise(project, list(argv))
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


Call = Callable[..., tuple[int, str, str]]


def state_of(project: Path, name: str = FIRST) -> str:
    return progress_in(project / "exercises").of(name).state


def script(project: Path, *argv: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(project / "practice.py"), *argv]
    return subprocess.run(
        command,
        cwd=cwd,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


# The list


LIST = """\
  no  name              lesson  minutes  state
   1  01_4_third_half   01           15  open
   2  03_2_larger_half  03           15  open
   3  03_10_other_half  03           15  open

0 of 3 right

next: The larger half (15 minutes)
  python practice.py start 01_4_third_half
"""


def test_a_bare_run_lists_the_exercises_by_lesson_and_section(
    project: Path, tmp_path: Path
) -> None:
    done = script(project, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, LIST, "")


def test_the_list_is_the_same_by_name(call: Call) -> None:
    assert call("list") == call() == (0, LIST, "")


def test_the_states_are_listed_and_the_next_one_is_open(
    call: Call, answer_with: Writer
) -> None:
    answer_with(sample.RIGHT)
    call("check", "larger")
    call("skip", OTHER)
    _, printed, _ = call()
    states = re.findall(r"^ +\d+  (\w+) .* (\w+)$", printed, re.MULTILINE)
    assert states == [(OTHER, "skipped"), (FIRST, "right"), (LAST, "open")]
    assert f"start {LAST}" in printed
    call("skip")
    assert "next:" not in call()[1]


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("2", FIRST),
        ("01", OTHER),
        ("03_1", LAST),
        ("larger", FIRST),
        (FIRST, FIRST),
        (f"exercises/{FIRST}/", FIRST),
        (f"exercises\\{FIRST}\\answer.py", FIRST),
    ],
)
def test_a_part_of_a_name_is_enough(call: Call, typed: str, name: str) -> None:
    code, printed, _ = call("start", typed)
    assert code == 0
    assert f"answer:  exercises/{name}/answer.py" in printed


BAD = {
    "start nothing": "no exercise is called 'nothing'",
    "start 4": "no exercise is called '4'",
    "check half": "'half' may be 01_4_third_half, 03_2_larger_half, 03_10_other_half",
    "start 03": "'03' may be 03_2_larger_half, 03_10_other_half: type more",
    "bogus": "invalid choice: 'bogus'",
    "check --seed x": "--seed: 'x' is not a whole number from 0",
    "check --seed -1": "--seed: '-1' is not a whole number from 0",
    "solution 2": "03_2_larger_half is not right yet: --give-up",
    "bug 6": "no lesson '6'",
    "bug check": "no bug is open",
    "bug --level 4": "--level",
    "all nowhere": "nowhere: no such folder",
}


@pytest.mark.parametrize("line", BAD)
def test_bad_input_is_one_line(call: Call, line: str) -> None:
    code, printed, complaint = call(*line.split())
    assert (code, printed) == (2, "")
    assert complaint.count("\n") == 1
    assert complaint.startswith("practice.py: ")
    assert BAD[line] in complaint


@pytest.mark.parametrize("file", ["task.md", "check.py", "hints.md"])
def test_a_broken_exercise_is_one_line(call: Call, project: Path, file: str) -> None:
    command = {"check.py": "check", "hints.md": "hint"}.get(file, "start")
    path = project / "exercises" / FIRST / file
    path.write_bytes(b"\xff") if file == "hints.md" else path.unlink()
    code, printed, complaint = call(command, FIRST)
    assert (code, printed, complaint.count("\n")) == (2, "", 1)
    if file != "task.md":  # without it, the folder is no exercise
        assert f"exercises/{FIRST}/{file}" in complaint


def test_a_task_without_its_minutes_is_one_line(call: Call, project: Path) -> None:
    path = project / "exercises" / FIRST / "task.md"
    path.write_text("# The larger half\n\nSplit a list.\n")
    code, _, complaint = call()
    assert (code, complaint.count("\n")) == (2, 1)
    assert f"exercises/{FIRST}/task.md" in complaint


def test_every_command_is_in_the_help(project: Path, tmp_path: Path) -> None:
    done = script(project, "--help", cwd=tmp_path)
    names = [command.name for command in COMMANDS]
    assert len(set(names)) == len(names)
    for command in COMMANDS:
        assert re.search(rf"^    {command.name} +{command.summary}", done.stdout, re.M)


# A check


def test_from_the_task_to_a_right_answer(
    project: Path, tmp_path: Path, answer_with: Writer
) -> None:
    begun = script(project, "start", "2", cwd=project)
    assert begun.stdout.startswith(sample.TASK)
    assert "answer:  exercises/03_2_larger_half/answer.py" in begun.stdout
    assert script(project, "check", cwd=project).returncode == 1
    answer_with(sample.RIGHT)
    done = script(project, "check", "--seed", "7", cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr, lines[0]) == (0, "", FIRST)
    assert re.fullmatch(r"right  \(seed 7, \d+\.\d s\)", lines[1])
    assert lines[3] == sample.AFTER.strip()
    assert lines[-1] == f"  python practice.py start {OTHER}"


EXPLAINED = {
    "STUB": (
        "open: this is still to be written",
        "answer.py:6: raise NotImplementedError",
    ),
    "FIRST_HALF": (
        "not yet: a list of two",
        "came out:     [1]",
        "should have:  [2]",
        "hint 1 fits (python practice.py hint)",
    ),
    "SMALLER": (
        "not yet: a list of seven",
        "came out:     length 3, first 782",
        "should have:  length 4, first 821",
        "hint 2 fits (python practice.py hint)",
    ),
    "NO_ERROR": (
        "not yet: no list",
        "came out:     no error, but []",
        "should have:  TypeError",
        "hint 3 fits (python practice.py hint)",
    ),
    "OTHER_ERROR": (
        "not yet: no list",
        "came out:     KeyError: 'x'",
        "should have:  TypeError",
        "hint 3 fits (python practice.py hint)",
    ),
    "RAISES": (
        "not yet: the answer raises an exception",
        "answer.py:6: middle = items[len(items)]",
        "IndexError: list index out of range",
    ),
    "IN_A_LIBRARY": (
        "not yet: the answer raises an exception",
        'answer.py:8: return json.loads("[")',
        "JSONDecodeError: Expecting value: line 1 column 2 (char 1)",
    ),
    "NOT_IN_A_LIBRARY": (
        "not yet: the answer raises an exception",
        "answer.py:8: asyncio.AbstractEventLoop().close()",
        "NotImplementedError",
    ),
    "NO_PYTHON": (
        "not yet: the answer raises an exception",
        "answer.py:6: return items[",
        "SyntaxError: '[' was never closed",
    ),
    "NOT_INDENTED": (
        "not yet: the answer raises an exception",
        "answer.py:7: return items",
        "IndentationError: unindent does not match any outer indentation level",
    ),
    "EXITS": (
        "not yet: the answer ends the program (SystemExit)",
        "answer.py:6: raise SystemExit(0)",
    ),
    "ENDS_ITS_PROCESS": ("not yet: the answer ended its process, with exit code 0",),
    "RAISES_WITHOUT_A_TEXT": (
        "not yet: the answer raises an exception",
        "answer.py:11: raise KeyError(1)",
        "KeyError",
    ),
    "RETURNS_WITHOUT_A_TEXT": (
        "not yet: the answer raises an exception",
        "answer.py:11: raise KeyError(1)",
        "KeyError: 1",
    ),
    "IN_UTF_16": ("not yet: the file has zero bytes, as UTF-16 has: save it as UTF-8",),
    "NO_FUNCTION": (
        "not yet: the check cannot go on with what it got from the answer",
        'check.py:11: half = expect_end("a list of two", lambda: '
        "answer.larger_half([1, 2]), 1, 30.0)",
        "AttributeError: module 'answer' has no attribute 'larger_half'",
    ),
    "RETURNS_NONE": (
        "not yet: the check cannot go on with what it got from the answer",
        'check.py:15: about = {"length": len(half), "first": half[0], '
        '"type": type(half).__name__}',
        "TypeError: object of type 'NoneType' has no len()",
    ),
    # Last: it changes what is judged in the same process after it.
    "CHANGES_THE_CHECK": (
        "not yet: a list of two",
        "came out:     []",
        "should have:  [2]",
        "hint 1 fits (python practice.py hint)",
    ),
}


@pytest.fixture(scope="module")
def verdicts(
    pristine: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """Return the verdict on each of the sample's answers, from as few processes."""
    jobs = []
    for name in EXPLAINED:
        folder = tmp_path_factory.mktemp(name.lower())
        path = folder / "answer.py"
        text = getattr(sample, name)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        jobs.append((pristine / "exercises" / FIRST, path, 1))
    return dict(zip(EXPLAINED, judge_every(pristine, jobs, PATIENT), strict=True))


@pytest.mark.parametrize("name", EXPLAINED)
def test_what_is_not_right_is_explained(
    verdicts: dict[str, dict[str, Any]], name: str
) -> None:
    first, *more = EXPLAINED[name]
    assert verdict_lines(verdicts[name]) == [first, *(f"  {line}" for line in more)]


def test_a_refusal_is_a_sentence_too(verdicts: dict[str, dict[str, Any]]) -> None:
    said = sentence_of(verdicts["SMALLER"])
    assert said == (
        "a list of seven: length 3, first 782, not length 4, first 821 (hint 2)"
    )


def text_for(value: object) -> str:
    """Return how a check that expects a list names another value."""
    return str(refused_verdict(Refused("a call", value, is_a(list), 1))["observed"])


@pytest.mark.parametrize("value", [{}, [], "", ()], ids=repr)
def test_what_is_empty_is_shown(value: object) -> None:
    assert text_for(value) == repr(value)


def test_a_value_without_a_text_is_shown_by_its_type() -> None:
    class Answer:
        """Has no __repr__ of its own."""

    assert text_for(object()) == "an object"
    assert text_for({"rows": [object(), Answer()]}) == "rows [an object, an Answer]"
    assert text_for(sample.answering) == "<function answering>"
    shown = [message_of(TypeError(f"{object()} is no row")) for _ in range(2)]
    assert shown == ["TypeError: an object is no row"] * 2
    refused = Refused(f"a load of {Answer()}", 1, 2, 1)
    assert refused_verdict(refused)["tried"] == "a load of an Answer"


def test_a_long_value_is_cut_after_its_addresses_are_gone() -> None:
    shown = text_for([object() for _ in range(30)])
    assert re.fullmatch(r"\[(an object, )+.{0,9} \.\.\.", shown)


def test_a_file_that_is_not_utf_8_is_explained(call: Call, answer_with: Writer) -> None:
    answer_with(sample.NO_UTF_8)
    code, printed, _ = call("check", "2")
    assert code == 1
    assert (
        "SyntaxError: (unicode error) 'utf-8' codec can't decode byte 0xff" in printed
    )
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("LOOPS", r"answer.py:[67]: (while True:|pass)"),
        ("DEADLOCK", r"answer.py:\d+: lock.acquire\(\)"),
        ("PRINTS_FOR_EVER", r"answer.py:[67]: (while True:|print\(\"again\"\))"),
    ],
)
def test_what_never_ends_is_stopped_and_its_line_shown(
    project: Path, answer_with: Writer, name: str, line: str
) -> None:
    path = answer_with(getattr(sample, name))
    judged = judge_answers(project, [(path.parent, path, 1)], 2.0)
    said = verdict_lines(judged.verdicts[0])
    assert said[0] == "not yet: no end within 2 seconds; it was stopped"
    assert re.fullmatch(f"  {line}", said[1])
    if name == "PRINTS_FOR_EVER":
        assert judged.printed.endswith("\n... (it printed more, which is left out)")
    assert len(judged.printed) <= 20_050


@pytest.mark.skipif(
    os.name == "nt", reason="platform: Windows has no signals to die of"
)
def test_a_signal_that_ends_the_process_is_named(
    call: Call, answer_with: Writer
) -> None:
    answer_with(sample.KILLS_ITSELF)
    said = "not yet: the answer ended its process, by SIGKILL"
    assert call("check", "2")[1].splitlines()[1] == said


def test_one_that_holds_the_interpreter_is_stopped_from_outside(
    project: Path, answer_with: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("course.practice.verdicts.START_TIME", 2.0)
    body = '    import re\n\n    re.match("(a*)*b", "a" * 99)\n    return items\n'
    path = answer_with(sample.answering(body))
    judged = judge_answers(project, [(path.parent, path, 1)], 1.0)
    said = verdict_lines(judged.verdicts[0])
    assert said == ["not yet: no end within 1 seconds; it was stopped"]


def test_a_process_that_a_check_starts_is_waited_for_within_its_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = ROOT / "exercises" / "03_4_one_question_one_key"
    check: Any = loaded_file("check_of_keys", folder / "check.py")
    answer: Any = loaded_file("answer_of_keys", folder / "answer.py")
    monkeypatch.setattr(check, "CHILD_LIMIT", 0.001)
    with pytest.raises(Refused) as refused:
        check.keys_elsewhere("a call", answer, os.environ)
    assert (
        str(refused.value) == "a call: no end within 0.001 seconds, not an end (hint 1)"
    )


def test_a_thread_that_is_left_holds_nobody_up(
    project: Path, answer_with: Writer
) -> None:
    path = answer_with(sample.LEAVES_A_THREAD)
    begun = time.monotonic()
    judged = judge_answers(project, [(path.parent, path, 1)], PATIENT)
    assert judged.verdicts[0]["kind"] == "right"
    assert time.monotonic() - begun < PATIENT


def test_a_process_that_is_left_holds_nobody_up(
    project: Path, answer_with: Writer
) -> None:
    path = answer_with(sample.LEAVES_A_PROCESS)
    begun = time.monotonic()
    judged = judge_answers(project, [(path.parent, path, 1)], PATIENT)
    seconds = time.monotonic() - begun
    os.kill(int(judged.printed), signal.SIGTERM)
    assert judged.verdicts[0]["kind"] == "right"
    assert seconds < PATIENT


def test_what_the_answer_prints_is_shown_indented(
    call: Call, answer_with: Writer
) -> None:
    answer_with(sample.PRINTS)
    code, printed, _ = call("check", "2", "--seed", "1")
    assert code == 0
    assert printed.splitlines()[1:3] == [
        "  | “half” of [1, 2]",
        "  | “half” of [137, 582, 867, 821, 782, 64, 261]",
    ]


def test_a_seed_repeats_the_data_and_another_draws_it_anew(
    call: Call, answer_with: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_with(sample.SMALLER)
    _, printed, _ = call("check", "2", "--seed", "5")
    assert call("check", "2", "--seed", "5")[1] == printed
    monkeypatch.setattr(writing.FRESH, "randrange", lambda stop: stop - 1)
    _, other, _ = call("check", "2")
    assert "seed 999999: repeat it with --seed 999999" in other
    assert other.splitlines()[2:4] != printed.splitlines()[2:4]
    assert call("check", "2", "--seed", "999999")[1] == other


def test_an_answer_writes_into_a_folder_of_its_own(
    call: Call, answer_with: Writer, project: Path
) -> None:
    answer_with(sample.RIGHT + '\nopen("left.txt", "w").close()\n')
    before = {path for path in project.rglob("*") if "__pycache__" not in path.parts}
    assert call("check", "2")[0] == 0
    after = {path for path in project.rglob("*") if "__pycache__" not in path.parts}
    assert {path.name for path in after - before} == {".progress.json"}
    assert not (project / "exercises" / FIRST / "__pycache__").exists()


# Progress


def test_a_stub_stays_open_and_a_try_is_counted(
    call: Call, answer_with: Writer, project: Path
) -> None:
    call("check", "2")
    assert state_of(project) == "open"
    answer_with(sample.SMALLER)
    call("check")
    assert state_of(project) == "tried"
    answer_with(sample.RIGHT)
    call("check")
    assert state_of(project) == "right"
    answer_with(sample.SMALLER)
    call("check", "2")
    standing = progress_in(project / "exercises").of(FIRST)
    assert (standing.state, standing.tries) == ("right", 3)
    assert standing.minutes == 1


def test_what_another_terminal_does_during_a_check_stays(
    call: Call, project: Path, answer_with: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = partial(judge_answers, deadline=PATIENT)

    def judge(*given: Any) -> Any:
        code, *_ = call("hint", FIRST)
        assert code == 0
        assert call("skip", OTHER)[0] == 0
        return whole(*given)

    monkeypatch.setattr(writing, "judge_answers", judge)
    answer_with(sample.RIGHT)
    assert call("check", FIRST)[0] == 0
    kept = progress_in(project / "exercises")
    assert (kept.of(FIRST).state, kept.of(FIRST).hints) == ("right", 1)
    assert kept.of(OTHER).state == "skipped"
    assert kept.current == FIRST


def test_after_a_right_answer_the_next_one_is_under_way(
    call: Call, answer_with: Writer
) -> None:
    answer_with(sample.RIGHT)
    call("check", "2")
    assert call("check")[1].splitlines()[0] == OTHER


def test_hints_come_one_by_one(call: Call) -> None:
    call("start", "2")
    shown = [call("hint")[1] for _ in range(4)]
    assert [text.count("\nhint ") for text in shown] == [1, 2, 3, 3]
    assert "Which half?" in shown[0] and "The last one." not in shown[0]
    assert shown[2] == shown[3]
    assert shown[2].endswith("hint 3 of 3\nCount from the end.\n")


def test_reset_keeps_the_text_aside(
    call: Call, answer_with: Writer, project: Path
) -> None:
    folder = project / "exercises" / FIRST
    for text in (sample.RIGHT, sample.SMALLER):
        answer_with(text)
        call("check", "2")
        assert call("reset", "2")[0] == 0
        assert (folder / "answer.py").read_text("utf-8") == sample.STUB
    assert (folder / "answer.before.py").read_text("utf-8") == sample.RIGHT
    assert (folder / "answer.before2.py").read_text("utf-8") == sample.SMALLER
    assert state_of(project) == "open"
    call("reset", "2")
    assert len([*folder.glob("answer*.py")]) == 3  # the stub is not kept aside


def test_the_solution_comes_after_the_answer_or_on_giving_up(
    call: Call, answer_with: Writer, project: Path
) -> None:
    assert call("solution", "2", "--give-up")[1] == sample.RIGHT
    assert progress_in(project / "exercises").of(FIRST).gave_up
    answer_with(sample.RIGHT)
    call("check", "2")
    assert call("solution") == (0, sample.RIGHT, "")


def test_start_takes_up_what_was_skipped(call: Call, project: Path) -> None:
    call("skip", "2")
    assert state_of(project) == "skipped"
    call("start", "2")
    assert state_of(project) == "open"


BROKEN = [
    *("", "{", "[]", "null", '{"current": ""}'),
    '{"exercises": {"a": {"x": 1}}}',
    '{"current": "", "bugs": [1], "exercises": {}}',
    '{"current": "", "bugs": [], "exercises": {"a": {"started": "x"}}}',
    '{"current": "", "bugs": [], "exercises": {"a": {"hints": "x"}}}',
    '{"current": "", "bugs": [], "exercises": {"a": {"state": "done"}}}',
    "[" * 100_000,
]


@pytest.mark.parametrize("text", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_progress_file_is_one_line_and_is_kept(
    call: Call, project: Path, text: str
) -> None:
    path = project / "exercises" / ".progress.json"
    path.write_text(text)
    code, printed, complaint = call()
    assert (code, printed, complaint.count("\n")) == (0, LIST, 1)
    assert ".progress.json" in complaint
    call("start", "2")
    assert call()[2] == ""
    assert path.with_name(".progress.broken.json").read_text() == text


def test_progress_is_written_whole_or_not_at_all(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project / "exercises"
    keep(Progress(current=FIRST), folder)

    def fail(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(BadInput, match="No space"):
        keep(Progress(current=LAST), folder)
    assert progress_in(folder).current == FIRST


def test_a_folder_that_cannot_be_written_is_one_line(
    call: Call,
    project: Path,
    answer_with: Writer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(progress, "write_whole", fail)
    code, _, complaint = call("start", "2")
    path = project / "exercises" / ".progress.json"
    said = f"practice.py: {path} cannot be written: Permission denied\n"
    assert (code, complaint) == (2, said)
    answer_with(sample.SMALLER)
    code, printed, complaint = call("check", "2")
    assert (code, complaint) == (2, said)
    assert "not yet: a list of seven" in printed


def test_git_ignores_what_belongs_to_the_learner() -> None:
    if shutil.which("git") is None:
        pytest.skip("platform: there is no git here")
    root = Path(__file__).resolve().parents[2]
    names = [".progress.json", ".bug/course/lab.py", f"{FIRST}/answer.before2.py"]
    command = ["git", "check-ignore", "--no-index"]
    command += [f"exercises/{name}" for name in names]
    done = subprocess.run(
        command, cwd=root, capture_output=True, text=True, check=False
    )
    if done.returncode == 128:
        pytest.skip("platform: this is no clone of git")
    assert done.stdout.split() == command[3:]


# Watching


def has_looked(output: Path, times: int) -> bool:
    return output.read_text("utf-8").count("Ctrl-C") >= times


def test_watch_checks_at_each_save_until_it_is_right(
    project: Path, answer_with: Writer, tmp_path: Path
) -> None:
    output = tmp_path / "watched.txt"
    command = [sys.executable, str(project / "practice.py"), "watch", "2"]
    with output.open("w") as stream:
        watching = subprocess.Popen(command, stdout=stream, cwd=project)
    try:
        for number, text in enumerate([sample.SMALLER, sample.RIGHT], start=1):
            wait_until(partial(has_looked, output, number), PATIENT)
            script(project, "hint", "2", cwd=project)  # in another terminal
            answer_with(text)
        assert watching.wait(PATIENT) == 0
    finally:
        watching.kill()
        watching.wait()
    printed = output.read_text("utf-8")
    found = re.findall(r"^(open|not yet|right)", printed, re.MULTILINE)
    assert found == ["open", "not yet", "right"]
    assert progress_in(project / "exercises").of(FIRST).hints == 2


@pytest.mark.skipif(os.name == "nt", reason="platform: a Ctrl-C cannot be sent")
def test_ctrl_c_ends_watch_without_a_word(project: Path, tmp_path: Path) -> None:
    output = tmp_path / "watched.txt"
    command = [sys.executable, str(project / "practice.py"), "watch", "2"]
    with output.open("w") as stream:
        watching = subprocess.Popen(
            command, stdout=stream, stderr=subprocess.PIPE, cwd=project, text=True
        )
    try:
        wait_until(partial(has_looked, output, 1), PATIENT)
        watching.send_signal(signal.SIGINT)
        _, complaint = watching.communicate(timeout=PATIENT)
    finally:
        watching.kill()
    assert (watching.returncode, complaint) == (130, "")


def test_a_reader_that_leaves_early_gets_no_traceback(project: Path) -> None:
    command = [sys.executable, str(project / "practice.py"), "start", "2"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as starting:
        assert starting.stdout and starting.stderr
        starting.stdout.close()
        complaint = starting.stderr.read()
    assert complaint == ""
    assert starting.returncode in (0, 141)


@pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="platform: no device that is always full"
)
def test_a_full_disk_is_one_line(project: Path) -> None:
    command = [sys.executable, str(project / "practice.py"), "start", "2"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    said = "practice.py: ended stdout: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, said)


def test_an_answer_reaches_no_service(
    call: Call, answer_with: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://user:s3cr3t@127.0.0.1:1/0")
    answer_with(sample.RIGHT + '\nimport os\n\nprint(os.environ["REDIS_URL"])\n')
    assert call("check", "2")[1].splitlines()[1] == "  | "


# For instructors


def test_all_shows_a_table_for_each_learner(
    call: Call, answer_with: Writer, project: Path, tmp_path: Path
) -> None:
    answer_with(sample.RIGHT)
    call("hint", "2")
    call("check", "2")
    empty = tmp_path / "empty"
    empty.mkdir()
    code, printed, _ = call("all", str(project), str(empty))
    assert code == 0
    assert f"{project}\n  name " in printed
    assert re.search(r"03_2_larger_half  right +1 +1 +1$", printed, re.M)
    assert printed.count("1 of 3 right; bugs found: 0") == 1
    assert printed.count("0 of 3 right; bugs found: 0") == 1
    code, printed, _ = call("all", "--json", "--judge", f"{project}/exercises")
    survey = json.loads(printed)[0]
    rows = [(row["name"], row["state"], row["judged"]) for row in survey["exercises"]]
    assert rows == [
        (OTHER, "open", "open"),
        (FIRST, "right", "right"),
        (LAST, "open", "open"),
    ]


def test_all_counts_what_is_judged_not_what_the_learner_says(
    call: Call, answer_with: Writer, project: Path
) -> None:
    answer_with(sample.SMALLER)
    progress = Progress()
    for name in (FIRST, LAST):
        progress.of(name).state = "right"
    keep(progress, project / "exercises")
    assert "  2 of 3 right; bugs found: 0\n" in call("all")[1]
    printed = call("all", "--judge")[1]
    assert re.search(r"03_2_larger_half  right .* refused$", printed, re.M)
    assert "  0 of 3 right; bugs found: 0\n" in printed


def test_all_changes_nothing_of_a_learner(
    call: Call, project: Path, tmp_path: Path
) -> None:
    learner = tmp_path / "learner"
    learner.mkdir()
    (learner / ".progress.json").write_text("{")
    code, _, complaint = call("all", str(learner))
    assert (code, complaint.count("\n")) == (0, 1)
    assert [path.name for path in learner.iterdir()] == [".progress.json"]


def test_the_exercises_of_a_project_are_sorted_by_section(project: Path) -> None:
    assert [one.name for one in exercises_in(project)] == [OTHER, FIRST, LAST]


def test_an_error_is_placed_where_the_answer_raised_it(tmp_path: Path) -> None:
    answer = tmp_path / "answer.py"
    answer.write_text("def find():\n    raise KeyError\n\n\nfind()\n")
    with pytest.raises(KeyError) as caught:
        exec(compile(answer.read_text(), str(answer), "exec"), {})
    found = place_of_error(caught.value, answer, tmp_path / "check.py")
    assert found == {"file": "answer.py", "line": 2, "text": "raise KeyError"}


def test_an_answer_that_is_not_there_was_never_saved(tmp_path: Path) -> None:
    assert writing.saved_at(tmp_path / "none.py") == 0


@pytest.mark.parametrize("clock", [float("inf"), float("nan")])
def test_a_progress_without_a_clock_is_unreadable(clock: float) -> None:
    standing = {"started": clock, "finished": 0.0}
    kept = {"current": FIRST, "bugs": [], "exercises": {FIRST: standing}}
    with pytest.raises(ValueError, match=FIRST):
        progress_of(kept)
