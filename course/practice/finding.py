"""The commands for bugs that are to be found: bug, and check while one is open."""

from __future__ import annotations

import argparse
from pathlib import Path

from course.console import write
from course.ending import flush
from course.errors import BadInput
from course.practice.bugs import (
    Bug,
    bug_folder,
    change_of,
    keep_bug,
    lesson_number,
    mutation_of,
    new_bug,
    open_bug,
    remove_bug,
    script_of,
    section_of,
)
from course.practice.learner import CALL, Command, Learner, typed_path
from course.practice.mending import reasons_against
from course.practice.progress import THE_BUG
from course.practice.writing import FRESH, SEEDS, check_answer, seed_number, with_seed


def find_bug(learner: Learner, args: argparse.Namespace) -> int:
    """Put a bug into a copy of a lesson; or check what became of it, or drop it."""
    if args.what == "check":
        return check_bug(learner, wanted_bug(learner))
    if args.what == "drop":
        return drop_bug(learner, wanted_bug(learner))
    if open_bug(learner.root):
        where = typed_path(bug_folder(learner.root))
        raise BadInput(f"a bug is open in {where}: `bug check` or `bug drop` first")
    lesson = lesson_number(args.what) if args.what else ""
    seed = FRESH.randrange(SEEDS) if args.seed is None else args.seed
    write("putting a bug into a copy of a lesson ...")
    flush()
    bug, run = new_bug(learner.root, lesson, args.level, seed)
    learner.read_again()  # another terminal may have written meanwhile
    learner.progress.current = THE_BUG
    learner.keep()
    show_bug(learner.root, bug, run.lines_with("[FAIL]"))
    return 0


def show_bug(root: Path, bug: Bug, failed: list[str]) -> None:
    """Say as much about a bug as its level allows."""
    script = typed_path(script_of(bug_folder(root), bug.lesson))
    mutation = mutation_of(root, bug)
    write()
    if bug.level == 3:
        write(f"Something in lesson {bug.lesson} is wrong.")
    else:
        for line in failed:
            write(f"  [FAIL] {line}")
        if not any(line.startswith(mutation.claim) for line in failed):
            write(f"  not reached: [ok] {mutation.claim}")
    if bug.level == 1:
        write(f"The bug is in {section_of(root, bug.lesson, mutation)}.")
    write()
    write(f"lesson:  {script}")
    if bug.level < 3:
        write(f"run it:  python {script} --offline --only {mutation.demo}")
    else:
        write(f"run it:  python {script} --offline")
    write(f"mend it there, or in course/ beside it; then:  {CALL} check")
    write(f"seed {bug.seed}, level {bug.level}")


def wanted_bug(learner: Learner) -> Bug:
    """Return the open bug; BadInput if there is none."""
    bug = open_bug(learner.root)
    if bug is None:
        raise BadInput(f"no bug is open: {CALL} bug puts one in")
    return bug


def check_bug(learner: Learner, bug: Bug) -> int:
    """Judge the mended copy; 0 if the bug is found."""
    reasons = reasons_against(learner.root, bug)
    bug.tries += 1
    if reasons:
        write(f"not yet, after {time_and_tries(bug)}:")
        for reason in reasons:
            write(f"  {reason}")
        keep_bug(learner.root, bug)
        return 1
    write(f"right: found and fixed in {time_and_tries(bug)}", "green")
    close_bug(learner, bug, found=True)
    return 0


def time_and_tries(bug: Bug) -> str:
    """Return the minutes and the tries."""
    minutes = "1 minute" if bug.minutes == 1 else f"{bug.minutes} minutes"
    return f"{minutes}, " + ("1 try" if bug.tries == 1 else f"{bug.tries} tries")


def drop_bug(learner: Learner, bug: Bug) -> int:
    """Give up on a bug, and show it."""
    write(f"given up after {time_and_tries(bug)}")
    close_bug(learner, bug, found=False)
    return 0


def close_bug(learner: Learner, bug: Bug, found: bool) -> None:
    """Show what the bug was, keep the counts, and remove the copy."""
    mutation = mutation_of(learner.root, bug)
    write()
    for line in change_of(learner.root, bug):
        write(line)
    kept = {"lesson": bug.lesson, "claim": mutation.claim, "level": bug.level}
    kept |= {"minutes": bug.minutes, "tries": bug.tries, "found": found}
    learner.read_again()  # another terminal may have written meanwhile
    learner.progress.bugs.append(kept)
    learner.keep()
    remove_bug(learner.root)


def check_open(learner: Learner, args: argparse.Namespace) -> int:
    """Check the answer that is named, or else what the learner opened last."""
    is_about_bug = not args.name and learner.progress.current in ("", THE_BUG)
    bug = open_bug(learner.root) if is_about_bug else None
    if bug:
        return check_bug(learner, bug)
    return check_answer(learner, args)


def bug_options(parser: argparse.ArgumentParser) -> None:
    """Add the lesson, the level and the seed."""
    parser.add_argument(
        "what",
        nargs="?",
        default="",
        metavar="LESSON",
        help="its number, otherwise any; or `check`, or `drop` to give up and see it",
    )
    parser.add_argument(
        "--level",
        type=int,
        choices=(1, 2, 3),
        default=1,
        help="1 names the section and the claim, 2 the claim, 3 only the lesson",
    )
    parser.add_argument(
        "--seed", type=seed_number, metavar="N", help="draw the same bug again"
    )


FINDING = (
    Command("check", "check an answer, or a bug that you fixed", check_open, with_seed),
    Command("bug", "put a bug into a copy of a lesson", find_bug, bug_options),
)
