"""Bet first, without a lesson's options: ten statements, a lesson, a whole class."""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from course.bets import KIND_OF_RESULTS, Bet, Statement, load_bets, statement_of
from course.betting import (
    BETS_FILE,
    PRINTED,
    Betting,
    Printer,
    opened_answers,
    refuse_other_file,
    write_results,
)
from course.columns import unbroken
from course.console import table, write
from course.ending import printing
from course.errors import BadInput
from course.practice.learner import Command, Learner, expanded

LIMIT_OF_A_DEMO = 120.0  # seconds; a demo takes two, a busy machine more
LIMIT_OF_AN_END = 15.0  # seconds; a service may not answer
MOST_SHOWN = 20  # claims in the table of a class; as JSON all of them


def add_bet_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `practice.py bet`."""
    add = parser.add_argument
    add("lesson", nargs="?", metavar="LESSON", help="01 to 05 (all, one by one)")
    add("--ten", action="store_true", help="only what nearly everybody gets wrong")
    add(
        "--answers",
        metavar="FILE",
        help="read the answers from a file; - is standard input",
    )
    add("--bets-json", type=Path, metavar="FILE", help="write the results there")
    add(
        "--bet-seed",
        type=int,
        default=0,
        metavar="N",
        help="the seed that chooses the statements (0)",
    )


def run_bet(root: Path, args: argparse.Namespace) -> int:
    """Let the reader bet on ten statements, on a lesson, or on all five in turn."""
    lessons = load_bets(BETS_FILE)["lessons"]
    if args.ten and args.lesson:
        raise BadInput("--ten is about all lessons: leave out the lesson")
    if args.ten:
        return bet_on_ten(root, args)
    if args.lesson:
        args.lesson = args.lesson.zfill(2)
    if args.lesson and args.lesson not in lessons:
        known = ", ".join(lessons)
        raise BadInput(f"there is no such lesson; there are {known}")
    if not args.lesson and (args.answers or args.bets_json):
        raise BadInput("--answers and --bets-json are for one lesson, or for --ten")
    for number in [args.lesson] if args.lesson else list(lessons):
        script = root / lessons[number]["script"]
        command = [sys.executable, str(script), "--bet", *options_of_lesson(args)]
        code = run_to_its_end(command)
        if code:
            return code
    return 0


def run_to_its_end(command: list[str]) -> int:
    """Run a lesson on this terminal; ended with us, it still prints its score."""
    with subprocess.Popen(command) as lesson:  # noqa: S603  (one of ours)
        try:
            return lesson.wait()
        except KeyboardInterrupt:
            if os.name != "nt":  # there it would be killed; Ctrl-C has reached it
                lesson.terminate()
            with suppress(subprocess.TimeoutExpired):
                lesson.wait(LIMIT_OF_AN_END)
            lesson.kill()  # which does nothing where it has ended
            raise


def options_of_lesson(args: argparse.Namespace) -> list[str]:
    """Return the options of bets as the lesson itself takes them."""
    options = ["--bet-seed", str(args.bet_seed)]
    if args.answers:
        options += ["--answers", args.answers]
    if args.bets_json:
        options += ["--bets-json", str(args.bets_json)]
    return options


# Ten


def ten_statements(bets: Mapping[str, Any], seed: int) -> list[Statement]:
    """Return the ten chosen claims; half of them, by the seed, are stated falsely."""
    rng = random.Random(seed)
    chosen = bets["ten"]
    truths = [number % 2 == 0 for number in range(len(chosen))]
    rng.shuffle(truths)
    statements = []
    for (lesson, demo, shows), is_true in zip(chosen, truths, strict=True):
        about = bets["lessons"][lesson]["demos"][demo]
        listed = [claim["shows"] for claim in about["claims"]]
        place = listed.index(shows)
        claim = about["claims"][place]
        text = claim["true"] if is_true else rng.choice(claim["false"])
        statements.append(statement_of(lesson, demo, about, place, text))
    return statements


def bet_on_ten(root: Path, args: argparse.Namespace) -> int:
    """Ask for ten bets, each followed by its demo; sum them up."""
    bets = load_bets(BETS_FILE)
    refuse_other_file(args.bets_json)
    statements = ten_statements(bets, args.bet_seed)
    printer = Printer(write, table)
    ask = opened_answers(args.answers, len(statements), printer)
    betting = Betting(ask, printer, args.bet_seed)
    code = 0
    try:
        for statement in statements:
            about = bets["lessons"][statement.lesson]
            demo = about["demos"][statement.demo]
            write()
            write(f"Lesson {statement.lesson}, {demo['subject']}", "bold")
            betting.ask_about(demo["situation"], [statement])
            code = show_demo(root / about["script"], statement.demo) or code
            betting.settle()
    finally:
        betting.sum_up()
        write_results(args.bets_json, betting)
    return code


def show_demo(script: Path, demo: str) -> int:
    """Run a demo offline and print what it prints; return its exit code."""
    command = [sys.executable, str(script), "--offline", "--only", demo]
    try:
        done = subprocess.run(  # noqa: S603  (one of ours)
            command,
            env=os.environ | {"PYTHONUTF8": "1"},  # not the code page of Windows
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            timeout=LIMIT_OF_A_DEMO,
            check=False,
        )
    except subprocess.TimeoutExpired:
        write(f"  the demo took longer than {LIMIT_OF_A_DEMO:.0f} s", "yellow")
        return 1
    for line in done.stdout.splitlines():
        write(line)
    PRINTED.extend(unbroken(done.stdout).splitlines())
    return done.returncode


# A class


@dataclass
class ClaimOfClass:
    """What a class thought of one statement."""

    lesson: str
    demo: str
    statement: str
    is_true: bool
    asked: int = 0
    wrong: int = 0
    confidence: float = 0.0  # the mean chance given to what each took it for


def add_class_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `practice.py bets`."""
    add = parser.add_argument
    add("files", nargs="+", metavar="FILE", help="of --bets-json")
    add("--json", action="store_true", help="print all of it as JSON")


def run_class(args: argparse.Namespace) -> int:
    """Print how a class has bet: what was wrong most often comes first."""
    answers = [bets_in(Path(path)) for path in expanded(args.files)]
    claims = claims_of_class(answers)
    if args.json:
        listed = [asdict(claim) for claim in claims]
        found = {"people": len(answers), "claims": listed}
        with printing("stdout"):
            print(json.dumps(found, indent=1, ensure_ascii=False))
        return 0
    people = "1 person" if len(answers) == 1 else f"{len(answers)} people"
    write(f"{people}, {sum(map(len, answers))} bets")
    if claims:
        table(("wrong", "of", "sure", "what was said", "it is"), *class_rows(claims))
    return 0


def class_rows(claims: Sequence[ClaimOfClass]) -> list[tuple[object, ...]]:
    """Return the rows of the table, those that were wrong most often first."""
    rows: list[tuple[object, ...]] = []
    for claim in claims[:MOST_SHOWN]:
        sure = round(100 * claim.confidence)
        said = f"{claim.lesson} {claim.demo}: {claim.statement}"
        truth = "true" if claim.is_true else "false"
        rows.append((claim.wrong, claim.asked, sure, said, truth))
    return rows


def bets_in(path: Path) -> list[Bet]:
    """Return the bets in a file of results; BadInput if it is none."""
    try:
        found = json.loads(path.read_text("utf-8"))
        if found["kind"] != KIND_OF_RESULTS:
            raise ValueError
        return [bet_from(one) for one in found["bets"]]
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise BadInput(f"{path}: cannot be read ({why})") from None
    except (ValueError, TypeError, KeyError, RecursionError):
        raise BadInput(f"{path}: that is not a file of --bets-json") from None


def bet_from(one: Mapping[str, Any]) -> Bet:
    """Return one bet of a file; ValueError, TypeError or KeyError if it is none."""
    texts = [one[name] for name in ("lesson", "demo", "statement", "shows")]
    chance = one["chance"]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError
    if not isinstance(one["is_true"], bool) or not isinstance(chance, int | float):
        raise TypeError
    if not 0 <= chance <= 1:
        raise ValueError
    lesson, demo, text, shows = texts
    statement = Statement(lesson, demo, text, one["is_true"], shows, "", "")
    return Bet(statement, float(chance))


def claims_of_class(answers: Sequence[Sequence[Bet]]) -> list[ClaimOfClass]:
    """Return what all have thought of each statement, worst first."""
    by_statement: dict[tuple[str, str, str], list[Bet]] = {}
    for bets in answers:
        for bet in bets:
            one = bet.statement
            key = (one.lesson, one.demo, one.text)
            by_statement.setdefault(key, []).append(bet)
    claims = []
    for (lesson, demo, text), bets_on_it in by_statement.items():
        count = len(bets_on_it)
        wrong = sum(bet.is_wrong for bet in bets_on_it)
        sure = math.fsum(bet.sureness for bet in bets_on_it) / count
        is_true = bets_on_it[0].statement.is_true
        claims.append(ClaimOfClass(lesson, demo, text, is_true, count, wrong, sure))
    claims.sort(key=lambda claim: (-claim.wrong / claim.asked, -claim.confidence))
    return claims


def bet_here(learner: Learner, args: argparse.Namespace) -> int:
    """Let the learner bet on the lessons of this project."""
    return run_bet(learner.root, args)


def sum_up_class(_: Learner, args: argparse.Namespace) -> int:
    """Sum up the results of a class."""
    return run_class(args)


BETTING = (
    Command("bet", "bet on what a lesson will show", bet_here, add_bet_options),
    Command("bets", "sum up the bets of a class", sum_up_class, add_class_options),
)
