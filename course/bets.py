"""Bets on what a demo shows: the statements, the answers, and how good they were."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from course.errors import BadInput

KIND_OF_RESULTS = "module8 bets"
DRAWN_LENGTH = 26  # characters of a line from 0 to 1, as lesson 05 draws it
BINS = 5  # of chances: 0 to 20 %, and so on
SURE_ERRORS = 3
ANSWER = re.compile(r"(t|true|y|yes|f|false|n|no)[\s,:]+(\d{1,3})\s*%?", re.IGNORECASE)
ANSWER_FORM = "t or f and how sure, 0 to 100, such as t 80"


@dataclass(frozen=True)
class Statement:
    """A sentence about a demo; it is settled by a line that the demo prints."""

    lesson: str
    demo: str
    text: str
    is_true: bool
    shows: str  # the line, with single spaces
    heading: str  # of the guide's section about it
    link: str


@dataclass(frozen=True)
class Bet:
    """A statement, and the chance that the reader gives it of being true."""

    statement: Statement
    chance: float

    @property
    def said_true(self) -> bool:
        """Tell which of the two the reader took it for; half and half is true."""
        return self.chance >= 0.5

    @property
    def sureness(self) -> float:
        """Return the chance the reader gave to what he took it for."""
        return max(self.chance, 1 - self.chance)

    @property
    def is_wrong(self) -> bool:
        """Tell whether it came otherwise; half and half is never wrong."""
        return self.chance != 0.5 and self.said_true != self.statement.is_true


def chance_from(line: str) -> float:
    """Return the chance of being true that an answer such as "f 60" gives."""
    found = ANSWER.fullmatch(line.strip())
    percent = int(found[2]) if found else 101
    if found is None or percent > 100:
        raise BadInput(f"{line.strip()[:40]!r} is not {ANSWER_FORM}")
    if found[1].lower().startswith(("t", "y")):
        return percent / 100
    return (100 - percent) / 100


def answers_from(text: str) -> list[float]:
    """Return the chances in a text, one a line; empty lines and # comments are none."""
    chances = []
    for number, line in enumerate(text.splitlines(), 1):
        answer = line.partition("#")[0]
        if answer.strip():
            try:
                chances.append(chance_from(answer))
            except BadInput as problem:
                raise BadInput(f"line {number}: {problem}") from None
    return chances


# What is stated


def load_bets(path: Path) -> dict[str, Any]:
    """Return what can be said of each lesson's demos, by the lesson's number."""
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except OSError:
        where = f"{path.parent.name}/{path.name}"
        raise BadInput(f"--bet needs {where}, which is not beside the lesson") from None
    return found


def number_of_lesson(bets: Mapping[str, Any], title: str) -> str:
    """Return the number of the lesson with a title."""
    for number, about in bets["lessons"].items():
        if about["title"] == title:
            return str(number)
    raise BadInput("--bet: there are no bets on this lesson")


def statement_of(
    lesson: str, demo: str, about: Mapping[str, Any], place: int, text: str
) -> Statement:
    """Return a sentence about what the claim at a place of the demo's list says."""
    claim = about["claims"][place]
    is_true = text == claim["true"]
    heading, link = about["heading"], about["link"]
    return Statement(lesson, demo, text, is_true, claim["shows"], heading, link)


def drawn_statements(
    bets: Mapping[str, Any], lesson: str, seed: int
) -> dict[str, list[Statement]]:
    """Return two or three statements for each demo; half of all of them are false.

    No claim is there twice: of a claim and its opposite, one would tell the other.
    """
    demos = bets["lessons"][lesson]["demos"]
    rng = random.Random(f"{seed} {lesson}")
    places = {}
    for demo, about in demos.items():
        claims = range(len(about["claims"]))
        wanted = min(rng.choice((2, 3)), len(claims))
        places[demo] = rng.sample(claims, wanted)
    count = sum(map(len, places.values()))
    # Of the whole lesson, not of each demo: else the last one of a demo is no question.
    truths = [number % 2 == 0 for number in range(count)]
    rng.shuffle(truths)
    drawn = {}
    for demo, about in demos.items():
        statements = []
        for place in places[demo]:
            claim = about["claims"][place]
            text = claim["true"] if truths.pop() else rng.choice(claim["false"])
            statements.append(statement_of(lesson, demo, about, place, text))
        drawn[demo] = statements
    return drawn


# How good the answers were


def mean_squared_error(cases: Iterable[tuple[float, bool]]) -> float:
    """Return the Brier score of pairs of a chance and what came; NaN of none."""
    errors = [(chance - came) ** 2 for chance, came in cases]
    return math.fsum(errors) / len(errors) if errors else math.nan


def brier_score(bets: Sequence[Bet]) -> float:
    """Return the mean squared error of the chances: 0 is perfect, 0.25 knows nothing.

    Brier, "Verification of forecasts expressed in terms of probability", 1950.
    """
    return mean_squared_error((bet.chance, bet.statement.is_true) for bet in bets)


def constant_scores(bets: Sequence[Bet]) -> dict[str, float]:
    """Return the Brier scores of those who answer all statements alike."""
    came = [bet.statement.is_true for bet in bets]
    scores = {}
    for name, chance in (("always 50", 0.5), ("always yes", 1.0), ("always no", 0.0)):
        scores[name] = mean_squared_error((chance, true) for true in came)
    return scores


def line_from_0_to_1(said: float, seen: float) -> str:
    """Return a line with marks at what was said (s) and what came true (o)."""
    line = list("." * DRAWN_LENGTH)
    line[round((DRAWN_LENGTH - 1) * seen)] = "o"
    line[round((DRAWN_LENGTH - 1) * said)] = "s"
    return "".join(line)


def reliability_rows(bets: Sequence[Bet]) -> list[tuple[str, int, str, str, str]]:
    """Return by bins of chances: how many, the mean said, the share that came true."""
    rows = []
    for place in range(BINS):
        inside = [bet for bet in bets if min(int(bet.chance * BINS), BINS - 1) == place]
        if inside:
            said = math.fsum(bet.chance for bet in inside) / len(inside)
            seen = sum(bet.statement.is_true for bet in inside) / len(inside)
            label = f"{100 * place // BINS} to {100 * (place + 1) // BINS} %"
            line = line_from_0_to_1(said, seen)
            row = (label, len(inside), f"{said:.2f}", f"{seen:.2f}", line)
            rows.append(row)
    return rows


def surest_errors(bets: Sequence[Bet]) -> list[Bet]:
    """Return the wrong answers that were given with most confidence, surest first."""
    wrong = [bet for bet in bets if bet.is_wrong]
    return sorted(wrong, key=lambda bet: -bet.sureness)[:SURE_ERRORS]


def results_of(bets: Sequence[Bet], uncounted: int, seed: int) -> dict[str, Any]:
    """Return what goes into the file of results."""
    listed = []
    for bet in bets:
        one = bet.statement
        listed.append(
            {
                "lesson": one.lesson,
                "demo": one.demo,
                "shows": one.shows,
                "statement": one.text,
                "is_true": one.is_true,
                "chance": bet.chance,
            }
        )
    scores = {"brier": brier_score(bets)} | constant_scores(bets) if bets else {}
    return {
        "kind": KIND_OF_RESULTS,
        "seed": seed,
        "scores": scores,
        "uncounted": uncounted,
        "bets": listed,
    }
