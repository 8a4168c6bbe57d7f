"""Every exercise: it is whole, and its check tells right from wrong.

All that is compared here lies in the folders: no exercise is named.
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from lessons import ROOT

from course.practice.exercises import Exercise, exercises_in, hints_in
from course.practice.progress import Progress, begin, keep, progress_file, progress_in
from course.practice.verdicts import judge_every, sentence_of
from tools.make_refusals import refusals_file, wrong_answers

SEEDS = (1, 2, 3)
LIMIT = 60.0  # seconds for a check on a busy machine
FILES = {"task.md", "answer.py", "check.py", "hints.md", "after.md"}
EXERCISES = exercises_in(ROOT)
OTHERS = sorted((ROOT / "tests" / "exercises" / "right").glob("*/*.py"))
every_exercise = pytest.mark.parametrize(
    "exercise", EXERCISES, ids=lambda one: one.name
)


def verdicts_on(
    exercise: Exercise, answers: list[Path], seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """Judge answers with each seed: those of the first one come first."""
    jobs = [(exercise.folder, path, seed) for seed in seeds for path in answers]
    return judge_every(ROOT, jobs, LIMIT)


def is_through(verdict: dict[str, Any]) -> bool:
    """Tell whether a check took an answer for right, or for not written yet."""
    return verdict["kind"] in ("right", "open")


def kept_refusals() -> dict[str, dict[str, str]]:
    path = refusals_file(ROOT)
    kept: dict[str, dict[str, str]] = json.loads(path.read_text("utf-8"))
    return kept


def test_there_are_enough_of_them() -> None:
    lessons = Counter(exercise.lesson for exercise in EXERCISES)
    assert set(lessons) == {"01", "02", "03", "04", "05"}
    assert min(lessons.values()) >= 5
    assert sum(len(wrong_answers(one)) for one in EXERCISES) >= 100


def test_every_folder_is_an_exercise_and_nothing_is_left_over() -> None:
    names = {exercise.name for exercise in EXERCISES}
    folders = [path for path in (ROOT / "exercises").glob("[!._]*") if path.is_dir()]
    assert {path.name for path in folders} == names
    beside = ROOT / "tests" / "exercises"
    assert {path.stem for path in (beside / "solutions").glob("*.py")} == names
    assert {path.stem for path in (beside / "stubs").glob("*.py")} == names
    wrong = [path for path in (beside / "wrong").glob("[!_]*") if path.is_dir()]
    assert {path.name for path in wrong} == names
    assert set(kept_refusals()) == names


@every_exercise
def test_a_folder_is_complete(exercise: Exercise) -> None:
    assert {path.name for path in exercise.folder.iterdir()} >= FILES
    assert len(hints_in(exercise)) == 3
    assert all(hints_in(exercise))
    assert 10 <= exercise.minutes <= 60
    assert exercise.text("after.md").strip()
    for wrong in wrong_answers(exercise):
        docstring = ast.get_docstring(ast.parse(wrong.read_text("utf-8")))
        assert docstring and docstring.splitlines()[0].endswith("."), wrong.name
    assert len(wrong_answers(exercise)) >= 3


@every_exercise
def test_a_task_names_its_section(exercise: Exercise) -> None:
    section = exercise.name.split("_")[1]
    assert re.search(rf"[Ss]ection\s+{section}\b", exercise.text("task.md"))


@every_exercise
def test_a_hint_holds_no_code(exercise: Exercise) -> None:
    for hint in hints_in(exercise):
        assert "```" not in hint
        assert not re.search(r"^(    |\t)\S", hint, re.MULTILINE)


def is_begun(name: str, exercises: Path) -> bool:
    """Tell whether a learner writes an answer here, or has; most clones have none."""
    if not progress_file(exercises).is_file():
        return False
    return progress_in(exercises).of(name).started > 0


def test_only_what_a_learner_has_begun_may_differ_from_its_stub(tmp_path: Path) -> None:
    assert not is_begun("one", tmp_path)
    progress = Progress()
    begin(progress, "one")
    progress.of("other")  # as it is listed: an entry that says nothing
    keep(progress, tmp_path)
    assert is_begun("one", tmp_path)
    assert not is_begun("other", tmp_path)


@every_exercise
def test_the_stub_is_kept(exercise: Exercise) -> None:
    assert exercise.stub.is_file(), "tools/make_refusals.py copies it"
    if is_begun(exercise.name, ROOT / "exercises"):
        pytest.skip("platform: a learner's own project, who has begun this one")
    assert exercise.stub.read_text("utf-8") == exercise.text("answer.py")


@every_exercise
def test_a_stub_is_open(exercise: Exercise) -> None:
    verdict = judge_every(ROOT, [(exercise.folder, exercise.stub, 1)], LIMIT)[0]
    assert verdict["kind"] == "open", sentence_of(verdict)


@every_exercise
def test_a_solution_is_right_with_each_seed(exercise: Exercise) -> None:
    verdicts = verdicts_on(exercise, [exercise.solution], SEEDS)
    said = [sentence_of(one) for one in verdicts if one["kind"] != "right"]
    assert said == []


@pytest.mark.parametrize("answer", OTHERS, ids=lambda path: path.stem)
def test_a_right_answer_of_another_kind_is_right(answer: Path) -> None:
    """A check may have taken something of its own solution for the task."""
    exercise = next(one for one in EXERCISES if one.name == answer.parent.name)
    verdicts = verdicts_on(exercise, [answer], SEEDS)
    assert [sentence_of(one) for one in verdicts] == ["right"] * len(SEEDS)


@every_exercise
def test_a_wrong_answer_is_refused_by_its_sentence(exercise: Exercise) -> None:
    answers = wrong_answers(exercise)
    verdicts = verdicts_on(exercise, answers, SEEDS[:1])
    said = {}
    for answer, verdict in zip(answers, verdicts, strict=True):
        assert not is_through(verdict), answer.stem
        said[answer.stem] = sentence_of(verdict)
    assert said == kept_refusals()[exercise.name]


@pytest.mark.soak
@pytest.mark.parametrize("seed", SEEDS[1:])
@every_exercise
def test_a_wrong_answer_is_refused_with_each_seed(
    exercise: Exercise, seed: int
) -> None:
    answers = wrong_answers(exercise)
    verdicts = verdicts_on(exercise, answers, [seed])
    paired = zip(answers, verdicts, strict=True)
    assert [answer.stem for answer, said in paired if is_through(said)] == []


@every_exercise
def test_a_sentence_names_what_is_wrong(exercise: Exercise) -> None:
    """No sentence is that of a process that was stopped or died."""
    for sentence in kept_refusals()[exercise.name].values():
        assert not re.search(
            r"it was stopped|ended its process|0x[0-9a-f]{6}", sentence
        )
