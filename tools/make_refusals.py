"""Writes what each wrong answer of an exercise is refused by, compared by the tests.

Run:  python tools/make_refusals.py [NAME ...]     (exercises; default: all)

Prints what changes, as a unified diff: read it, for each sentence has to name what is
wrong with its answer. Copies the stubs, too, which `practice.py reset` puts back. A
wrong answer that is not refused, or not twice by the same sentence, is named: then
no sentence of its exercise is written, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from course.practice.exercises import Exercise, exercises_in  # noqa: E402
from course.practice.verdicts import judge_every, sentence_of  # noqa: E402

SEED = 1  # whose sentences are kept
LIMIT = 60.0  # seconds for a check on a busy machine

Sentences = dict[str, str]  # by the name of the wrong answer


def refusals_file(root: Path) -> Path:
    """Return where the sentences are kept."""
    return root / "tests" / "exercises" / "refusals.json"


def wrong_answers(exercise: Exercise) -> list[Path]:
    """Return the wrong answers to an exercise."""
    return sorted(exercise.beside("wrong").with_suffix("").glob("*.py"))


def refusals_of(root: Path, exercise: Exercise) -> tuple[Sentences, list[str]]:
    """Return the sentence on each wrong answer, and what is the matter with some."""
    answers = wrong_answers(exercise)
    jobs = [(exercise.folder, answer, SEED) for answer in answers]
    first = judge_every(root, jobs, LIMIT)
    second = judge_every(root, jobs, LIMIT)
    sentences: Sentences = {}
    problems = []
    for answer, one, other in zip(answers, first, second, strict=True):
        name = f"{exercise.name}/{answer.stem}"
        if one["kind"] in ("right", "open"):
            problems.append(f"{name} is not refused: {one['kind']}")
        elif sentence_of(one) != sentence_of(other):
            both = f"{sentence_of(one)}\n  {sentence_of(other)}"
            problems.append(f"{name}: the sentence differs from run to run\n  {both}")
        else:
            sentences[answer.stem] = sentence_of(one)
    return sentences, problems


def copy_stub(root: Path, exercise: Exercise) -> str:
    """Copy the answer's file if it is a stub; return what is the matter with it."""
    stub = judge_every(root, [(exercise.folder, exercise.answer, SEED)], LIMIT)[0]
    if stub["kind"] != "open":
        return f"{exercise.name}/answer.py is no stub: {sentence_of(stub)}"
    exercise.stub.parent.mkdir(parents=True, exist_ok=True)
    exercise.stub.write_bytes(exercise.answer.read_bytes())
    return ""


def bring_up_to_date(root: Path, exercises: list[Exercise]) -> tuple[str, list[str]]:
    """Write the sentences; return their difference, and all problems."""
    path = refusals_file(root)
    kept = path.read_text("utf-8") if path.exists() else "{}\n"
    refusals = json.loads(kept)
    known = {exercise.name for exercise in exercises_in(root)}
    refusals = {name: refusals[name] for name in refusals if name in known}
    problems = []
    for exercise in exercises:
        sentences, found = refusals_of(root, exercise)
        stub = copy_stub(root, exercise)
        problems += [*found, *filter(None, [stub])]
        if not found:
            refusals[exercise.name] = sentences
    fresh = json.dumps(refusals, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    path.write_text(fresh, "utf-8")
    name = path.relative_to(root).as_posix()
    lines = difflib.unified_diff(
        kept.splitlines(), fresh.splitlines(), name, f"{name}, new", n=1, lineterm=""
    )
    return "\n".join(lines), problems


def main(argv: list[str] | None = None, root: Path = ROOT) -> int:
    """Bring the sentences up to date; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    args = parser.parse_args(argv)
    exercises = {exercise.name: exercise for exercise in exercises_in(root)}
    for name in args.names:
        if name not in exercises:
            parser.error(f"no exercise {name!r}")
    chosen = [exercises[name] for name in args.names or exercises]
    difference, problems = bring_up_to_date(root, chosen)
    print(difference or "nothing changes")
    for problem in problems:
        print(problem, file=sys.stderr)
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
