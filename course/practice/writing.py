"""The commands for what is written again: start, check, hint, watch and their like."""

from __future__ import annotations

import argparse
import random
import re
import time
from pathlib import Path
from typing import Any

from course.console import table, write
from course.ending import flush
from course.errors import BadInput
from course.practice.exercises import HINTS, Exercise, hints_in
from course.practice.learner import CALL, Command, Learner, typed_path, write_text
from course.practice.progress import OPEN, RIGHT, SKIPPED, TRIED, begin
from course.practice.verdicts import judge_answers, verdict_lines

SEEDS = 1_000_000
LOOK_EVERY = 0.5  # seconds between two looks at a file
FRESH = random.SystemRandom()


def list_exercises(learner: Learner, args: argparse.Namespace) -> int:
    """Show all exercises and the next one."""
    if not learner.exercises:
        raise BadInput(f"{typed_path(learner.folder)}: no exercise is there")
    rows = []
    for one in learner.exercises:
        row = (one.number, one.name, one.lesson, one.minutes, learner.state(one))
        rows.append(row)
    table(("no", "name", "lesson", "minutes", "state"), *rows)
    right = [one for one in learner.exercises if learner.state(one) == RIGHT]
    write()
    write(f"{len(right)} of {len(rows)} right")
    learner.show_next()
    return 0


def start_exercise(learner: Learner, args: argparse.Namespace) -> int:
    """Show the task, and where to write the answer."""
    exercise = learner.chosen(args.name, None)
    standing = begin(learner.progress, exercise.name)
    if standing.state == SKIPPED:
        standing.state = OPEN
    learner.keep()
    write_text(exercise.text("task.md"))
    write()
    write(f"task:    {typed_path(exercise.folder / 'task.md')}")
    write(f"answer:  {typed_path(exercise.answer)}")
    write(f"then:    {CALL} check   (or: {CALL} watch)")
    return 0


def judge_one(learner: Learner, exercise: Exercise, seed: int | None) -> bool:
    """Judge an answer, show the verdict and keep it; tell whether it is right."""
    if not exercise.answer.is_file():
        raise BadInput(f"{typed_path(exercise.answer)} is not there: {CALL} reset")
    exercise.text("check.py")  # says so if it is missing
    used = FRESH.randrange(SEEDS) if seed is None else seed
    begun = begin(learner.progress, exercise.name).started
    write(exercise.name, "bold")
    flush()
    judged = judge_answers(learner.root, [(exercise.folder, exercise.answer, used)])
    learner.read_again()  # another terminal may have written meanwhile
    standing = begin(learner.progress, exercise.name)
    standing.started = min(standing.started, begun)
    verdict = judged.verdicts[0]
    for line in judged.printed.splitlines():
        write(f"  | {line}")
    note_state(learner, exercise, verdict["kind"])
    show_verdict(learner, exercise, verdict, used)
    learner.keep()  # last: where it cannot be written, the verdict is told all the same
    return bool(verdict["kind"] == RIGHT)


def show_verdict(
    learner: Learner, exercise: Exercise, verdict: dict[str, Any], seed: int
) -> None:
    """Show what a check said, and what comes next."""
    if verdict["kind"] == RIGHT:
        write(f"right  (seed {seed}, {verdict['seconds']} s)", "green")
        write()
        write_text(exercise.text("after.md"))
        learner.show_next()
        return
    for line in verdict_lines(verdict):
        write(line)
    if verdict["kind"] != OPEN:
        write(f"  seed {seed}: repeat it with --seed {seed}")


def note_state(learner: Learner, exercise: Exercise, kind: str) -> None:
    """Note what a check said; an answer that was right once stays so."""
    standing = learner.progress.of(exercise.name)
    if kind != OPEN:
        standing.tries += 1
    if kind == RIGHT:
        standing.state = RIGHT
        standing.finished = standing.finished or time.time()
    elif kind != OPEN and standing.state != RIGHT:
        standing.state = TRIED


def check_answer(learner: Learner, args: argparse.Namespace) -> int:
    """Check an answer on new data."""
    exercise = learner.under_way(args.name)
    return 0 if judge_one(learner, exercise, args.seed) else 1


def hint(learner: Learner, args: argparse.Namespace) -> int:
    """Show one hint more than the last time."""
    exercise = learner.under_way(args.name)
    hints = hints_in(exercise)
    standing = begin(learner.progress, exercise.name)
    standing.hints = min(HINTS, standing.hints + 1)
    learner.keep()
    write(exercise.name, "bold")
    for number, text in enumerate(hints[: standing.hints], start=1):
        write()
        write(f"hint {number} of {HINTS}")
        write_text(text)
    return 0


def saved_at(path: Path) -> int:
    """Return when a file was written last, in nanoseconds; 0 while it is not there."""
    try:
        return path.stat().st_mtime_ns
    except OSError:  # an editor may replace it
        return 0


def watch(learner: Learner, args: argparse.Namespace) -> int:
    """Check now and whenever the answer is saved, until it is right."""
    exercise = learner.under_way(args.name)
    seen = saved_at(exercise.answer)
    while not judge_one(learner, exercise, args.seed):
        write()
        write(f"watching {typed_path(exercise.answer)}; Ctrl-C ends it")
        flush()
        while saved_at(exercise.answer) in (0, seen):
            time.sleep(LOOK_EVERY)
        seen = saved_at(exercise.answer)
        learner.read_again()  # such as a hint that was shown meanwhile
        write()
    return 0


def kept_aside(exercise: Exercise) -> Path:
    """Return a path beside the answer that is not in use."""
    path = exercise.folder / "answer.before.py"
    number = 2
    while path.exists():
        path = exercise.folder / f"answer.before{number}.py"
        number += 1
    return path


def reset(learner: Learner, args: argparse.Namespace) -> int:
    """Put the stub back; the learner's text is kept beside it."""
    exercise = learner.chosen(args.name, learner.last())
    if not exercise.stub.is_file():
        raise BadInput(f"{typed_path(exercise.stub)} is not there")
    stub = exercise.stub.read_bytes()
    if exercise.answer.is_file() and exercise.answer.read_bytes() != stub:
        aside = kept_aside(exercise)
        exercise.answer.rename(aside)
        write(f"your text is now {typed_path(aside)}")
    exercise.answer.write_bytes(stub)
    learner.progress.of(exercise.name).state = OPEN
    learner.keep()
    write(f"{typed_path(exercise.answer)} is as it was")
    return 0


def solution(learner: Learner, args: argparse.Namespace) -> int:
    """Show a full answer, once there is one or the learner gives up."""
    exercise = learner.chosen(args.name, learner.last())
    standing = learner.progress.of(exercise.name)
    if not exercise.solution.is_file():
        raise BadInput(f"{typed_path(exercise.solution)} is not there")
    if standing.state != RIGHT and not args.give_up:
        raise BadInput(f"{exercise.name} is not right yet: --give-up shows it anyway")
    if standing.state != RIGHT:
        standing.gave_up = True
        learner.keep()
    write_text(exercise.solution.read_text("utf-8"))
    return 0


def skip(learner: Learner, args: argparse.Namespace) -> int:
    """Leave an exercise out; `start` takes it up again."""
    exercise = learner.under_way(args.name)
    standing = learner.progress.of(exercise.name)
    if standing.state == RIGHT:
        raise BadInput(f"{exercise.name} is right already")
    standing.state = SKIPPED
    learner.keep()
    write(f"{exercise.name} is skipped; `{CALL} start {exercise.name}` takes it up")
    learner.show_next()
    return 0


def seed_number(text: str) -> int:
    """Return a seed; ArgumentTypeError if it is no number from 0."""
    if not re.fullmatch("[0-9]{1,300}", text):
        said = f"{text!r} is not a whole number from 0"
        raise argparse.ArgumentTypeError(said)
    return int(text)


def name_option(parser: argparse.ArgumentParser) -> None:
    """Add the exercise's name, which may be left out."""
    parser.add_argument(
        "name",
        nargs="?",
        default="",
        metavar="NAME",
        help="its number, or a part of its name; otherwise the one under way",
    )


def with_seed(parser: argparse.ArgumentParser) -> None:
    """Add the name and the seed."""
    name_option(parser)
    parser.add_argument(
        "--seed", type=seed_number, metavar="N", help="draw the same data again"
    )


def with_give_up(parser: argparse.ArgumentParser) -> None:
    """Add the name and what shows a solution too early."""
    name_option(parser)
    parser.add_argument(
        "--give-up",
        action="store_true",
        help="show it even if your answer is not right",
    )


WRITING = (
    Command("list", "show all exercises and the next one", list_exercises),
    Command(
        "start",
        "show a task, and where to write the answer",
        start_exercise,
        name_option,
    ),
    Command("hint", "show one more hint, up to three", hint, name_option),
    Command("watch", "check whenever the answer is saved", watch, with_seed),
    Command("reset", "put the stub back, keep your text aside", reset, name_option),
    Command("solution", "show a full answer", solution, with_give_up),
    Command("skip", "leave an exercise out", skip, name_option),
)
