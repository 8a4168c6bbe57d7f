"""The command for instructors: how far the learners of a class are."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from course.console import table, write
from course.ending import printing
from course.errors import BadInput
from course.practice.exercises import Exercise
from course.practice.learner import Command, Learner, expanded
from course.practice.progress import RIGHT, progress_in
from course.practice.verdicts import judge_answers


def exercises_folder(typed: str) -> Path:
    """Return the folder of exercises in what may be a whole project."""
    path = Path(typed)
    inner = path / "exercises"
    if inner.is_dir():
        return inner
    if not path.is_dir():
        raise BadInput(f"{typed}: no such folder")
    return path


def judged_again(learner: Learner, exercise: Exercise, folder: Path) -> str:
    """Return what this project's own check says about a learner's answer."""
    answer = folder / exercise.name / "answer.py"
    if not answer.is_file():
        return "missing"
    job = (exercise.folder, answer.absolute(), 1)
    return str(judge_answers(learner.root, [job]).verdicts[0]["kind"])


def survey_of(learner: Learner, typed: str, judge: bool) -> dict[str, Any]:
    """Return how far one learner is."""
    folder = exercises_folder(typed)
    progress = progress_in(folder)
    rows = []
    for exercise in learner.exercises:
        standing = progress.of(exercise.name)
        row = {"name": exercise.name} | asdict(standing)
        row["minutes"] = standing.minutes
        if judge:
            row["judged"] = judged_again(learner, exercise, folder)
        rows.append(row)
    return {"folder": typed, "exercises": rows, "bugs": progress.bugs}


def show_survey(survey: dict[str, Any], judge: bool) -> None:
    """Print the table of one learner."""
    columns = ["name", "state", "tries", "hints", "minutes", "gave_up"]
    if judge:
        columns.append("judged")
    rows = []
    for exercise in survey["exercises"]:
        cells = dict(exercise)
        cells["gave_up"] = "yes" if exercise["gave_up"] else ""
        rows.append([cells[column] for column in columns])
    write(survey["folder"], "bold")
    table([column.replace("_", " ") for column in columns], *rows)
    said_by = "judged" if judge else "state"
    right = [one for one in survey["exercises"] if one[said_by] == RIGHT]
    found = [one for one in survey["bugs"] if one["found"]]
    write(f"  {len(right)} of {len(rows)} right; bugs found: {len(found)}")
    write()


def survey_all(learner: Learner, args: argparse.Namespace) -> int:
    """Show how far each learner is, as tables or as JSON."""
    folders = expanded(args.folders) or [str(learner.root)]
    surveys = [survey_of(learner, one, args.judge) for one in folders]
    if args.json:
        with printing("stdout"):
            print(json.dumps(surveys, indent=1))
        return 0
    for survey in surveys:
        show_survey(survey, args.judge)
    return 0


def survey_options(parser: argparse.ArgumentParser) -> None:
    """Add the learners' folders, and how they are shown."""
    parser.add_argument(
        "folders",
        nargs="*",
        metavar="FOLDER",
        help="a learner's project, or its exercises/; otherwise this one",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, not tables")
    parser.add_argument(
        "--judge", action="store_true", help="check the answers that lie there again"
    )


SURVEYING = (
    Command("all", "for instructors: a table per learner", survey_all, survey_options),
)
