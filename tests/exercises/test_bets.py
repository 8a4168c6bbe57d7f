"""--bet: the statements and where they come from, the answers, the score, a class."""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from lessons import ROOT, SCRIPTS, load, path_of, run

from course.analytics.grids import strip
from course.analytics.scores import churn_score
from course.bets import (
    Bet,
    Statement,
    answers_from,
    brier_score,
    chance_from,
    constant_scores,
    drawn_statements,
    line_from_0_to_1,
    load_bets,
    reliability_rows,
    results_of,
    surest_errors,
)
from course.betting import (
    BETS_FILE,
    PRINTED,
    Betting,
    LessonBets,
    Printer,
    same_line,
    text_of_answers,
    write_results,
)
from course.console import table, write
from course.errors import BadInput
from course.practice import bets as practice

NUMBERS = [script.name[:2] for script in SCRIPTS]
every_lesson = pytest.mark.parametrize("number", NUMBERS)
SCRIPT = path_of("04")
WAIT = 60.0  # seconds; for a lesson on a busy machine to reach its first bet


def load_tool() -> Any:
    path = ROOT / "tools" / "make_bets.py"
    spec = importlib.util.spec_from_file_location("make_bets", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool = load_tool()
FILE = load_bets(BETS_FILE)


@cache
def imported(number: str) -> Any:
    """Return a lesson's module; importing it takes longer than most tests."""
    return load(number)


def demos_of(number: str) -> dict[str, Any]:
    demos: dict[str, Any] = FILE["lessons"][number]["demos"]
    return demos


def statements_of(number: str, seed: int = 0) -> list[Statement]:
    drawn = drawn_statements(FILE, number, seed)
    return [one for statements in drawn.values() for one in statements]


def answers_to(statements: list[Statement], sure: int = 90) -> str:
    """Return the lines of a reader who knows."""
    letter = {True: "t", False: "f"}
    return "".join(f"{letter[one.is_true]} {sure}\n" for one in statements)


# The statements


def test_the_file_is_what_the_golden_files_and_the_hand_written_one_make() -> None:
    observed = json.loads(tool.OBSERVED.read_text("utf-8"))
    assert tool.made(observed) == BETS_FILE.read_text("utf-8")


@pytest.mark.soak
def test_each_number_of_a_broken_lesson_is_still_shown_by_one() -> None:
    # Which number it is may depend on a race; that there is one does not.
    kept = json.loads(tool.OBSERVED.read_text("utf-8"))
    for number in NUMBERS:
        assert set(tool.observed_by_mutations(number)) == set(kept[number])


@every_lesson
def test_each_demo_has_two_true_and_two_false_statements(number: str) -> None:
    lesson = imported(number).lesson
    assert list(demos_of(number)) == list(lesson.demos)
    printed = tool.printed_by_demo(number)
    for (demo, about), lines in zip(demos_of(number).items(), printed, strict=True):
        true = [claim["true"] for claim in about["claims"]]
        false = [text for claim in about["claims"] for text in claim["false"]]
        claims = [line.removeprefix("[ok] ") for line in lines]
        assert len(set(true)) == len(true) >= 2, demo
        assert len(set(false)) == len(false) >= 2, demo
        assert not {*false} & {*true, *claims}, demo
        for claim in about["claims"]:
            assert claim["shows"] in lines
            assert claim["false"]
            if claim["shows"].startswith("[ok]"):
                assert claim["shows"] == f"[ok] {claim['true']}"


def figures(text: str) -> set[str]:
    return set(re.findall(r"\d+(?:\.\d+)?", text.replace(",", "")))


@every_lesson
def test_a_figure_in_a_statement_is_one_that_was_seen(number: str) -> None:
    observed = json.loads(tool.OBSERVED.read_text("utf-8"))[number]
    printed = tool.printed_by_demo(number)
    for (demo, about), lines in zip(demos_of(number).items(), printed, strict=True):
        title = imported(number).lesson.title_of(demo)
        seen = figures(" ".join([*lines, title]))
        for claim in about["claims"]:
            assert figures(claim["true"]) <= seen, claim
            broken = observed.get(claim["true"], "")
            known = seen | {broken} | figures(about["situation"])
            for text in claim["false"]:
                assert figures(text) <= known, text


# The others print in the same way, and take longer.
@pytest.mark.parametrize(
    "number",
    [
        "03",
        *(
            pytest.param(one, marks=pytest.mark.soak)
            for one in ("01", "02", "04", "05")
        ),
    ],
)
def test_what_settles_a_bet_is_printed_by_a_run(number: str) -> None:
    lesson = load(number)
    PRINTED.clear()
    assert lesson.main(["--offline"]) == 0
    seen = {same_line(line) for line in PRINTED}
    for about in demos_of(number).values():
        for claim in about["claims"]:
            assert claim["shows"] in seen


@every_lesson
def test_the_subject_of_a_demo_does_not_give_its_claims_away(number: str) -> None:
    lesson = imported(number).lesson
    for demo, about in demos_of(number).items():
        assert lesson.title_of(demo).startswith(f"{about['subject']}:")
        for claim in about["claims"]:
            assert claim["true"] not in about["situation"]


@every_lesson
def test_the_section_to_read_is_in_the_guide(number: str) -> None:
    guide = (ROOT / "COMPREHENSIVE_GUIDE.md").read_text("utf-8")
    for about in demos_of(number).values():
        assert re.search(rf"^#+ {re.escape(about['heading'])}$", guide, re.MULTILINE)
        name, _, anchor = about["link"].partition("#")
        assert (ROOT / name).is_file()
        plain = re.sub(r"[^\w -]", "", about["heading"]).lower()
        assert anchor == plain.replace(" ", "-")


@every_lesson
def test_half_are_false_no_claim_comes_twice_and_a_seed_repeats_itself(
    number: str,
) -> None:
    orders = set()
    for seed in range(20):
        drawn = drawn_statements(FILE, number, seed)
        assert drawn == drawn_statements(FILE, number, seed)
        statements = statements_of(number, seed)
        false = sum(not one.is_true for one in statements)
        assert abs(2 * false - len(statements)) <= 1
        for demo in drawn.values():
            assert len(demo) in (2, 3)
            assert len({one.shows for one in demo}) == len(demo)
        orders.add(tuple(one.text for one in statements))
    assert len(orders) == 20


def test_what_a_hand_written_bet_says_must_be_printed() -> None:
    with pytest.raises(tool.BadBets, match="does not print"):
        tool.claim_of({"claim": "no such", "false": "x"}, ["[ok] a"], {}, "01 x")
    with pytest.raises(tool.BadBets, match="no mutation shows a number"):
        tool.claim_of({"claim": "a", "false": "{observed}"}, ["[ok] a"], {}, "01 x")


# The score


def bets_with(pairs: list[tuple[float, bool]]) -> list[Bet]:
    bets = []
    for number, (chance, is_true) in enumerate(pairs):
        one = Statement("01", "x", f"statement {number}", is_true, "line", "H", "G#h")
        bets.append(Bet(one, chance))
    return bets


def test_the_brier_score_is_that_of_lesson_05() -> None:
    rng = random.Random(5)
    for size in (1, 2, 24, 500):
        pairs = [(rng.randrange(101) / 100, rng.random() < 0.5) for _ in range(size)]
        chances = np.array([chance for chance, _ in pairs])
        came = np.array([is_true for _, is_true in pairs])
        expected = churn_score(came, chances)["brier"]
        assert brier_score(bets_with(pairs)) == pytest.approx(expected, rel=1e-12)
        for name, chance in (("50", 0.5), ("yes", 1.0), ("no", 0.0)):
            theirs = churn_score(came, np.full(size, chance))["brier"]
            ours = constant_scores(bets_with(pairs))[f"always {name}"]
            assert ours == pytest.approx(theirs, rel=1e-12)


@every_lesson
@pytest.mark.parametrize("sure", [60, 90, 100])
def test_who_knows_beats_all_who_answer_alike(number: str, sure: int) -> None:
    for seed in range(5):
        statements = statements_of(number, seed)
        chances = answers_from(answers_to(statements, sure))
        bets = [Bet(*pair) for pair in zip(statements, chances, strict=True)]
        alike = constant_scores(bets)
        assert set(alike) == {"always 50", "always yes", "always no"}
        assert brier_score(bets) < min(alike.values())


def test_the_reliability_table_is_drawn_as_in_lesson_05() -> None:
    bets = bets_with([(0.0, False), (0.19, True), (0.5, True), (1.0, True)])
    assert reliability_rows(bets) == [
        ("0 to 20 %", 2, "0.10", "0.50", strip(0.095, 0.5)),
        ("40 to 60 %", 1, "0.50", "1.00", strip(0.5, 1.0)),
        ("80 to 100 %", 1, "1.00", "1.00", strip(1.0, 1.0)),
    ]
    for said, seen in ((0.0, 1.0), (0.3, 0.3), (0.77, 0.12)):
        assert line_from_0_to_1(said, seen) == strip(said, seen)


def test_the_surest_errors_are_three_and_the_surest_first() -> None:
    pairs = [(0.6, False), (0.01, True), (0.9, False), (0.99, True), (0.3, True)]
    wrong = surest_errors(bets_with([*pairs, (0.5, False)]))
    assert [bet.chance for bet in wrong] == [0.01, 0.9, 0.3]
    assert surest_errors(bets_with([(0.5, False), (0.5, True)])) == []


# Answers


ANSWERS = [("t 80", 0.8), ("F 60", 0.4), ("true, 100", 1.0), ("no:0 %", 1.0)]


@pytest.mark.parametrize(("line", "chance"), ANSWERS)
def test_an_answer_is_a_side_and_how_sure(line: str, chance: float) -> None:
    assert chance_from(line) == chance


@pytest.mark.parametrize("line", ["", "t", "80", "t 101", "t -5", "t 5.5", "x 80"])
def test_what_is_no_answer_is_refused(line: str) -> None:
    with pytest.raises(BadInput, match="is not t or f and how sure"):
        chance_from(line)


def test_a_file_of_answers_may_have_comments() -> None:
    text = "# mine\n\nt 80  # sure\nf 60\n"
    assert answers_from(text) == [0.8, 0.4]


def test_piped_answers_may_begin_with_a_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\ufefft 80\r\nf 60\r\n"))
    assert answers_from(text_of_answers("-")) == [0.8, 0.4]


GOOD = answers_to(statements_of("04"))
REFUSED = {
    "malformed": (GOOD.replace("90", "ninety", 1), "line 1: "),
    "out of range": (GOOD.replace("90", "101", 1), "line 1: "),
    "too few": (GOOD.partition("\n")[2], "answers to"),
    "too many": (f"{GOOD}t 50\n", "answers to"),
    "empty": ("", "0 answers to"),
}


def refusal(*options: str, number: str = "04") -> str:
    """Return the line on stderr of a lesson that refuses its options."""
    printed = io.StringIO()
    complained = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(complained):
        code = imported(number).main(["--offline", *options])
    assert (code, printed.getvalue()) == (2, "")
    (line,) = complained.getvalue().splitlines()
    return line


@pytest.mark.parametrize("kind", REFUSED)
def test_answers_that_do_not_fit_get_one_line(kind: str, tmp_path: Path) -> None:
    text, why = REFUSED[kind]
    path = tmp_path / "answers"
    path.write_text(text)
    line = refusal("--bet", "--answers", str(path))
    assert "--answers: " in line
    assert why in line


def test_answers_that_cannot_be_read_get_one_line(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in refusal("--bet", "--answers", str(binary))
    assert "cannot be read" in refusal("--bet", "--answers", str(tmp_path))
    missing = refusal("--bet", "--answers", str(tmp_path / "no"))
    assert "No such file" in missing


@every_lesson
def test_without_a_terminal_and_a_file_it_says_so(number: str) -> None:
    line = refusal("--bet", number=number)
    assert "asks on a terminal" in line


TOGETHER = [
    ("04", ["--answers", "x"], "--answers goes with --bet"),
    ("04", ["--bets-json", "x"], "--bets-json goes with --bet"),
    ("04", ["--bet-seed", "2"], "--bet-seed goes with --bet"),
    ("04", ["--worker", "email", "--bet"], "--bet runs demos"),
    ("05", ["--json", "--bet"], "--bet runs demos"),
    ("05", ["--integrated", "--bet"], "no other option"),
]


@pytest.mark.parametrize(("number", "options", "why"), TOGETHER)
def test_options_that_do_not_go_together(
    number: str, options: list[str], why: str
) -> None:
    assert why in refusal(*options, number=number)


def test_bets_and_sweeping_do_not_go_together() -> None:
    complained = io.StringIO()
    with redirect_stderr(complained):
        code = imported("04").main(["--bet", "--sweep"])
    assert code == 2
    assert "leave out --sweep" in complained.getvalue()


def test_a_refusal_of_the_script_is_one_line() -> None:
    done = run(SCRIPT, "--offline", "--bet")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{SCRIPT.name}: --bet asks on a terminal")


def test_a_single_file_says_what_it_lacks(tmp_path: Path) -> None:
    standalone = ROOT / "tools" / "standalone.py"
    command = [sys.executable, str(standalone), "--into", str(tmp_path), str(SCRIPT)]
    subprocess.run(command, check=True, capture_output=True)
    done = run(tmp_path / SCRIPT.name, "--offline", "--bet")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "data/bets.json, which is not beside the lesson" in line


# A run


def test_a_run_is_scored_and_prints_the_demos_as_ever(tmp_path: Path) -> None:
    statements = statements_of("03", 7)
    wrong = answers_to(statements).replace("t 90", "f 97", 1)
    (tmp_path / "answers").write_text(wrong)
    results = tmp_path / "results.json"
    done = run(
        path_of("03"),
        *("--offline", "--bet", "--bet-seed", "7"),
        *("--answers", str(tmp_path / "answers"), "--bets-json", str(results)),
    )
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0)
    found = json.loads(results.read_text("utf-8"))
    assert [one["statement"] for one in found["bets"]] == [
        one.text for one in statements
    ]
    assert (found["seed"], found["uncounted"]) == (7, 0)
    chances = np.array([one["chance"] for one in found["bets"]])
    came = np.array([one["is_true"] for one in found["bets"]])
    score = churn_score(came, chances)["brier"]
    assert found["scores"]["brier"] == pytest.approx(score, rel=1e-12)
    assert f"you         {score:.4f}" in done.stdout
    assert done.stdout.count("97 % sure that it is false") == 1
    first = next(one for one in statements if one.is_true)
    on_one_line = " ".join(done.stdout.split())
    assert f"read: {first.heading} ({first.link})" in on_one_line
    golden = (ROOT / "tests" / "lesson_03" / "golden.txt").read_text("utf-8")
    printed = done.stdout.splitlines()
    assert [line for line in golden.splitlines() if line not in printed] == []


def test_a_demo_is_asked_about_before_its_title_is_shown() -> None:
    statements = drawn_statements(FILE, "04", 0)["priorities"]
    only = ["--only", "priorities"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--offline", "--bet", "--answers", "-", *only],
        input=answers_to(statements),
        capture_output=True,
        text=True,
        check=True,
    )
    title = imported("04").lesson.title_of("priorities")
    before, _, after = done.stdout.partition(title)
    assert all(one.text in before for one in statements)
    assert after.count("you said") == len(statements) + 1  # the table's heading
    assert "1 ok, 0 skipped, 0 failed" in after


def test_what_a_demo_does_not_show_does_not_count(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = Statement("01", "x", "a", True, "[ok] a", "H", "G#h")
    skipped = Statement("01", "x", "b", True, "[ok] b", "H", "G#h")
    betting = Betting(lambda: 0.9, Printer(write, table), 0)
    write("  [ok] b")  # of the demo before this one
    betting.ask_about("situation", [shown, skipped])
    write("  [ok]  a")
    betting.settle()
    betting.sum_up()
    assert [bet.statement for bet in betting.settled] == [shown]
    assert betting.uncounted == 1
    printed = capsys.readouterr().out
    assert "bet 2: not shown in this run, so it does not count" in printed
    assert "1 not counted" in printed


def test_without_a_settled_bet_there_is_no_score(
    capsys: pytest.CaptureFixture[str],
) -> None:
    betting = Betting(lambda: 0.9, Printer(write, table), 0)
    betting.sum_up()
    assert "no bet was settled" in capsys.readouterr().out
    assert results_of([], 0, 0)["scores"] == {}


# A terminal


class Terminal:
    """A lesson on a terminal of its own."""

    def __init__(self, *options: str) -> None:
        pty = pytest.importorskip(
            "pty", reason="platform: Windows has no terminals of this kind"
        )
        self.screen, terminal = pty.openpty()
        command = [sys.executable, str(SCRIPT), "--offline", "--bet", *options]
        self.lesson = subprocess.Popen(
            command,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
        )
        os.close(terminal)
        os.set_blocking(self.screen, False)
        self.seen = ""

    def read(self) -> None:
        try:
            self.seen += os.read(self.screen, 65536).decode("utf-8", "replace")
        except BlockingIOError:
            time.sleep(0.01)
        except OSError:  # Linux reports the closed terminal as an error
            time.sleep(0.01)

    def wait_for(self, text: str, times: int = 1) -> None:
        deadline = time.monotonic() + WAIT
        while self.seen.count(text) < times:
            assert time.monotonic() < deadline, self.seen
            self.read()

    def type(self, text: str) -> None:
        os.write(self.screen, text.encode())

    def end(self) -> int:
        deadline = time.monotonic() + WAIT
        while self.lesson.poll() is None:
            assert time.monotonic() < deadline, self.seen
            self.read()
        for _ in range(10):
            self.read()
        return self.lesson.returncode

    def close(self) -> None:
        self.lesson.kill()
        self.lesson.wait()
        os.close(self.screen)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results.json"


@pytest.fixture
def terminal(results: Path) -> Iterator[Terminal]:
    opened = Terminal("--bets-json", str(results))
    try:
        yield opened
    finally:
        opened.close()


PROMPT = "true? how sure, 0 to 100? "


def test_ctrl_c_at_a_question_gives_the_score_so_far(
    terminal: Terminal, results: Path
) -> None:
    first = len(drawn_statements(FILE, "04", 0)["messages"])
    terminal.wait_for(PROMPT)
    terminal.type("perhaps\n")  # asked again
    terminal.wait_for("50 is not knowing")
    for number in range(first):
        terminal.wait_for(PROMPT, number + 2)
        terminal.type("t 80\n")
    terminal.wait_for(PROMPT, first + 2)
    os.kill(terminal.lesson.pid, signal.SIGINT)
    assert terminal.end() == 130
    assert "Traceback" not in terminal.seen
    assert f"of {first} bets" in terminal.seen
    assert len(json.loads(results.read_text("utf-8"))["bets"]) == first


def test_the_end_of_the_input_ends_the_bets(terminal: Terminal) -> None:
    terminal.wait_for(PROMPT)
    terminal.type("\x04")
    assert terminal.end() == 2
    assert "--bet: the answers ended" in terminal.seen
    assert "Traceback" not in terminal.seen


# The file of results


OTHERS = ["", "{}", "[1]", '{"kind": "other"}', "[" * 100_000, "text"]


@pytest.mark.parametrize("text", OTHERS, ids=range(len(OTHERS)))
def test_what_is_no_file_of_results_stays(text: str, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text(text)
    (tmp_path / "answers").write_text(GOOD)
    answers = ["--answers", str(tmp_path / "answers")]
    line = refusal("--bet", *answers, "--bets-json", str(other))
    assert "--bets-json: a file with other contents is there, and stays" in line
    assert other.read_text() == text


def test_a_folder_is_no_file_of_results(tmp_path: Path) -> None:
    line = refusal("--bet", "--answers", "x", "--bets-json", str(tmp_path))
    assert "other contents" in line
    line = refusal("--bet", "--answers", "x", "--bets-json", str(tmp_path / "a" / "b"))
    assert "no such folder" in line


def test_results_are_written_whole_or_not_at_all(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    betting = Betting(lambda: 0.9, Printer(write, table), 0)
    betting.settled = bets_with([(0.9, True)])
    write_results(results, betting)
    before = results.read_text("utf-8")
    betting.settled = bets_with([(0.1, True)])

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(BadInput, match="No space left"):
        write_results(results, betting)
    assert results.read_text("utf-8") == before
    monkeypatch.undo()
    write_results(results, betting)  # over one of its own kind
    assert json.loads(results.read_text("utf-8"))["bets"][0]["chance"] == 0.1
    assert [path.name for path in results.parent.iterdir()] == [results.name]


# practice.py


def bet_args(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    practice.add_bet_options(parser)
    return parser.parse_args(given)


def class_args(*given: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    practice.add_class_options(parser)
    return parser.parse_args([str(one) for one in given])


@pytest.mark.parametrize("seed", range(5))
def test_ten_are_two_of_each_lesson_half_of_them_false(seed: int) -> None:
    statements = practice.ten_statements(FILE, seed)
    assert [one.lesson for one in statements] == sorted(NUMBERS * 2)
    assert sum(one.is_true for one in statements) == 5
    assert len({(one.lesson, one.demo) for one in statements}) == 10


def test_ten_are_asked_shown_and_scored(
    tmp_path: Path,
    results: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = []

    def show(script: Path, demo: str) -> int:
        number = script.name[:2]
        place = list(demos_of(number)).index(demo)
        for line in tool.printed_by_demo(number)[place]:
            write(line)
        shown.append((number, demo))
        return 0

    monkeypatch.setattr(practice, "show_demo", show)
    statements = practice.ten_statements(FILE, 3)
    (tmp_path / "answers").write_text(answers_to(statements))
    given = ["--ten", "--bet-seed", "3", "--answers", str(tmp_path / "answers")]
    args = bet_args(*given, "--bets-json", str(results))
    assert practice.run_bet(ROOT, args) == 0
    assert shown == [(one.lesson, one.demo) for one in statements]
    assert "you         0.0100" in capsys.readouterr().out
    assert len(json.loads(results.read_text("utf-8"))["bets"]) == 10


def test_a_demo_of_the_ten_is_shown_with_what_settles_its_bet(
    capsys: pytest.CaptureFixture[str],
) -> None:
    PRINTED.clear()
    assert practice.show_demo(path_of("03"), "lease") == 0
    seen = {same_line(line) for line in PRINTED}
    for claim in demos_of("03")["lease"]["claims"]:
        assert claim["shows"] in seen
    assert "5. Stampede" in capsys.readouterr().out


def test_a_lesson_is_run_with_its_options(tmp_path: Path, results: Path) -> None:
    (tmp_path / "answers").write_text(answers_to(statements_of("01", 2)))
    given = ["1", "--bet-seed", "2", "--answers", str(tmp_path / "answers")]
    args = bet_args(*given, "--bets-json", str(results))
    assert practice.run_bet(ROOT, args) == 0
    assert json.loads(results.read_text("utf-8"))["scores"]["brier"] < 0.02


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["09"], "there are 01, 02, 03, 04, 05"),
        (["04", "--ten"], "leave out the lesson"),
        (["--answers", "x"], "for one lesson, or for --ten"),
        (["--ten", "--answers", "no-such-file"], "cannot be read"),
    ],
)
def test_practice_refuses_in_one_line(given: list[str], why: str) -> None:
    with pytest.raises(BadInput, match=why):
        practice.run_bet(ROOT, bet_args(*given))


def results_file(path: Path, pairs: list[tuple[float, bool]]) -> Path:
    betting = Betting(lambda: 0.5, Printer(write, table), 0)
    betting.settled = bets_with(pairs)
    write_results(path, betting)
    return path


def test_a_class_is_summed_up_worst_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = results_file(tmp_path / "1.json", [(0.9, True), (0.9, False)])
    second = results_file(tmp_path / "2.json", [(0.6, True), (0.7, False)])
    third = results_file(tmp_path / "3.json", [(0.2, True), (0.2, False)])
    files = (first, second, third)
    assert practice.run_class(class_args("--json", *files)) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["people"] == 3
    listed = [(one["statement"], one["wrong"], one["asked"]) for one in found["claims"]]
    assert listed == [("statement 1", 2, 3), ("statement 0", 1, 3)]
    sure = [one["confidence"] for one in found["claims"]]
    assert sure == pytest.approx([0.8, 2.3 / 3])
    assert practice.run_class(class_args(*files)) == 0
    assert capsys.readouterr().out == (
        "3 people, 6 bets\n"
        "  wrong  of  sure  what was said      it is\n"
        "      2   3    80  01 x: statement 1  false\n"
        "      1   3    77  01 x: statement 0  true\n"
    )


def test_a_class_may_be_named_by_a_pattern(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """PowerShell hands *.json on as it was typed."""
    for name in ("ada.json", "ben.json", "[c].json"):
        results_file(tmp_path / name, [(0.9, True)])
    found = {"*.json": "3 people", "[c].json": "1 person", "?en.json": "1 person"}
    for pattern, people in found.items():
        assert practice.run_class(class_args(tmp_path / pattern)) == 0
        assert capsys.readouterr().out.startswith(f"{people}, {people[0]} bets\n")
    with pytest.raises(BadInput, match=r"x\*\.json: cannot be read"):
        practice.run_class(class_args(tmp_path / "x*.json"))


def bet_entry(**changes: object) -> str:
    texts = {"lesson": "01", "demo": "x", "statement": "s", "shows": "l"}
    entry = {**texts, "is_true": True, "chance": 0.5, **changes}
    return json.dumps({"kind": "module8 bets", "bets": [entry]})


def test_the_bad_files_below_are_bad_by_what_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "good.json"
    path.write_text(bet_entry())
    assert len(practice.bets_in(path)) == 1


BAD_FILES = [
    *("", "{}", "[]", '{"kind": "other", "bets": []}', '{"kind": "module8 bets"}'),
    *(bet_entry(chance=2), bet_entry(chance="x"), bet_entry(demo=[1])),
    *(bet_entry(is_true=1), "[" * 100_000, '{"kind": "module8 bets", "bets": [1]}'),
]


@pytest.mark.parametrize("text", BAD_FILES, ids=range(len(BAD_FILES)))
def test_a_file_that_is_none_is_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(BadInput, match=r"bad\.json: that is not a file of --bets-json"):
        practice.run_class(class_args(path))
    path.unlink()
    with pytest.raises(BadInput, match=r"bad\.json: cannot be read"):
        practice.run_class(class_args(path))


def test_a_demo_is_named_before_its_bets_without_its_claim() -> None:
    bets = LessonBets.__new__(LessonBets)
    bets.betting = MagicMock()
    bets.about = {"pool": {"subject": "Pool", "situation": "Ten threads."}}
    bets.statements = {"pool": []}
    bets.ask_about("pool", 8)
    bets.betting.printer.write.assert_called_with("8. Pool: bet first", "bold")
    bets.betting.ask_about.assert_called_once_with("Ten threads.", [])
