"""Bet first: a reader says how sure he is before each demo, and is scored after it."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from course.bets import (
    ANSWER_FORM,
    KIND_OF_RESULTS,
    Bet,
    Statement,
    answers_from,
    brier_score,
    chance_from,
    constant_scores,
    drawn_statements,
    load_bets,
    number_of_lesson,
    reliability_rows,
    results_of,
    surest_errors,
)
from course.ending import flush, printing
from course.errors import BadInput
from course.files import write_whole
from course.services import PROJECT

BETS_FILE = PROJECT / "data" / "bets.json"
LONGEST_ANSWERS = 1_000_000  # characters of a file of answers
PRINTED: deque[str] = deque(maxlen=10_000)  # what settles the bets on a demo


class Ask(Protocol):
    """Says how sure the reader is of the statement that has just been printed."""

    def __call__(self) -> float:
        """Return the chance of being true."""


@dataclass(frozen=True)
class Printer:
    """How the course prints: it is handed in, for the console itself uses this."""

    write: Callable[..., None]
    table: Callable[..., None]


def same_line(text: str) -> str:
    """Return a line with single spaces: a table is as wide as its widest cell."""
    return " ".join(text.split())


class Betting:
    """The bets of one run: asked before a demo, settled after it, summed up."""

    def __init__(self, ask: Ask, printer: Printer, seed: int) -> None:
        self.ask = ask
        self.printer = printer
        self.seed = seed
        self.asked = 0
        self.open: list[tuple[int, Bet]] = []
        self.settled: list[Bet] = []
        self.uncounted = 0

    def ask_about(self, situation: str, statements: Sequence[Statement]) -> None:
        """Print statements about the demo to come; take an answer to each."""
        self.printer.write(f"  {situation}")
        for statement in statements:
            self.asked += 1
            self.printer.write(f"  bet {self.asked}: {statement.text}")
            chance = self.ask()
            self.open.append((self.asked, Bet(statement, chance)))
        PRINTED.clear()

    def settle(self) -> None:
        """Print what came of the bets on the demo that has just run.

        What it did not show, such as what this back end skips, does not count.
        """
        seen = {same_line(line) for line in PRINTED}
        for number, bet in self.open:
            if bet.statement.shows in seen:
                self.settled.append(bet)
                self._print_outcome(number, bet)
            else:
                self.uncounted += 1
                said = "not shown in this run, so it does not count"
                self.printer.write(f"  bet {number}: {said}", "yellow")
        self.open.clear()

    def _print_outcome(self, number: int, bet: Bet) -> None:
        said = "true" if bet.said_true else "false"
        came = "true" if bet.statement.is_true else "false"
        told = f"you said {said}, {100 * bet.sureness:.0f} % sure; it is {came}"
        style = "bold red" if bet.is_wrong else "green"
        self.printer.write(f"  bet {number}: {told}: {bet.statement.shows}", style)

    def sum_up(self) -> None:
        """Print the score beside those of constant answers, and the surest errors."""
        write = self.printer.write
        write()
        write("Your bets", "bold")
        if self.uncounted:
            write(f"  {self.uncounted} not counted: their demos did not show them")
        if not self.settled:
            write("  no bet was settled, so there is no score")
            return
        scores = {"you": brier_score(self.settled)} | constant_scores(self.settled)
        rows = [(name, f"{score:.4f}") for name, score in scores.items()]
        self.printer.table((f"of {len(self.settled)} bets", "Brier score"), *rows)
        write("  0 is perfect; what is above 0.25 is worse than knowing nothing")
        header = ("you said", "bets", "said (s)", "came true (o)", "0 to 1")
        self.printer.table(header, *reliability_rows(self.settled))
        for bet in surest_errors(self.settled):
            said = "true" if bet.said_true else "false"
            about = bet.statement
            write(f"  {100 * bet.sureness:.0f} % sure that it is {said}: {about.text}")
            write(f"    it shows: {about.shows}")
            write(f"    read: {about.heading} ({about.link})")


class LessonBets:
    """The bets on the demos of one lesson, as its options ask for them."""

    def __init__(self, args: Namespace, title: str, printer: Printer) -> None:
        found = load_bets(BETS_FILE)
        number = number_of_lesson(found, title)
        self.about = found["lessons"][number]["demos"]
        self.statements = drawn_statements(found, number, args.bet_seed)
        self.results = args.bets_json
        chosen = args.only or list(self.statements)
        asked = [name for name in self.statements if name in chosen]
        count = sum(len(self.statements[name]) for name in asked)
        refuse_other_file(self.results)
        ask = opened_answers(args.answers, count, printer)
        self.betting = Betting(ask, printer, args.bet_seed)

    def ask_about(self, demo: str, number: int) -> None:
        """Print the subject of a demo, but not its claim; take the reader's bets."""
        write = self.betting.printer.write
        subject = self.about[demo]["subject"]
        write()
        write(f"{number}. {subject}: bet first", "bold")
        statements = self.statements[demo]
        self.betting.ask_about(self.about[demo]["situation"], statements)

    @contextmanager
    def summed_up(self) -> Iterator[None]:
        """Sum up what is settled at the end of a block, whatever ends it."""
        try:
            yield
        finally:
            if self.betting.asked:
                self.betting.sum_up()
                write_results(self.results, self.betting)


def bets_of(args: Namespace, title: str, printer: Printer) -> LessonBets | None:
    """Return the bets that the options ask for; None if they do not."""
    return LessonBets(args, title, printer) if args.bet else None


# Answers


def opened_answers(given: str | None, count: int, printer: Printer) -> Ask:
    """Return what answers so many statements: a file, a pipe ("-"), or the reader."""
    if given is None:
        if not (sys.stdin and sys.stdin.isatty()):
            said = "--answers FILE answers instead (- is standard input)"
            raise BadInput(f"--bet asks on a terminal, and there is none: {said}")
        return asked_on_terminal
    try:
        chances = answers_from(text_of_answers(given))
    except BadInput as problem:
        raise BadInput(f"--answers: {problem}") from None
    if len(chances) != count:
        raise BadInput(f"--answers: {len(chances)} answers to {count} statements")
    left = iter(chances)

    def ask() -> float:
        chance = next(left)
        printer.write(f"    answered: true with {100 * chance:.0f} %")
        return chance

    return ask


def text_of_answers(given: str) -> str:
    """Return what a file of answers holds, or stdin."""
    try:
        if given == "-":
            text = sys.stdin.read(LONGEST_ANSWERS) if sys.stdin else ""
            text = text.removeprefix("\ufeff")  # which PowerShell may put in front
        else:
            with Path(given).open(encoding="utf-8-sig") as file:
                text = file.read(LONGEST_ANSWERS)
    except UnicodeError:
        raise BadInput("that is not UTF-8 text") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        raise BadInput(f"cannot be read ({why})") from None
    return text


def asked_on_terminal() -> float:
    """Return the reader's answer; ask again until it is one."""
    while True:
        with printing("stdout"):
            print("    true? how sure, 0 to 100? ", end="")
        flush()
        try:
            line = sys.stdin.readline()
        except UnicodeError:
            line = "?"
        if not line:
            raise BadInput("--bet: the answers ended")
        try:
            return chance_from(line)
        except BadInput:
            with printing("stdout"):
                print(f"    {ANSWER_FORM}; 50 is not knowing")


# Results


def holds_results(path: Path) -> bool:
    """Tell whether a file is one that a run with bets has written."""
    try:
        found: Any = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("kind") == KIND_OF_RESULTS


def refuse_other_file(path: Path | None) -> None:
    """Refuse to write over what is not ours, before anything is asked."""
    if path is None:
        return
    if path.exists() and not (path.is_file() and holds_results(path)):
        raise BadInput("--bets-json: a file with other contents is there, and stays")
    if not path.parent.is_dir():
        raise BadInput("--bets-json: there is no such folder")


def write_results(path: Path | None, betting: Betting) -> None:
    """Write the results, whole or not at all."""
    if path is None:
        return
    found = results_of(betting.settled, betting.uncounted, betting.seed)
    text = json.dumps(found, indent=1, ensure_ascii=False)

    def put(beside: Path, target: Path) -> None:
        refuse_other_file(target)  # once more: the lesson took a while
        beside.replace(target)

    try:
        write_whole(path, f"{text}\n".encode(), put)
    except OSError as error:
        raise BadInput(f"--bets-json: {error.strerror or error}") from None
