"""make_refusals: it writes the sentences, and names what is not refused by one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from exercises.conftest import NAMES

from exercises import sample
from tools.make_refusals import main


@pytest.fixture
def wrong(project: Path) -> Path:
    """Return the folder with two wrong answers to an exercise."""
    folder = project / "tests" / "exercises" / "wrong" / NAMES[0]
    folder.mkdir(parents=True)
    for name in ("SMALLER", "FIRST_HALF"):
        text = getattr(sample, name)
        (folder / f"{name.lower()}.py").write_text(text, "utf-8")
    return folder


SENTENCES = {
    "first_half": "a list of two: [1], not [2] (hint 1)",
    "smaller": "a list of seven: length 3, first 782, not length 4, first 821 (hint 2)",
}


def test_it_writes_the_sentences_and_the_stub(
    project: Path, wrong: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = project / "tests" / "exercises" / "refusals.json"
    assert main([NAMES[0]], project) == 0
    assert json.loads(path.read_text("utf-8")) == {NAMES[0]: SENTENCES}
    assert f'+  "first_half": "{SENTENCES["first_half"]}"' in capsys.readouterr().out
    stub = project / "tests" / "exercises" / "stubs" / f"{NAMES[0]}.py"
    assert stub.read_text("utf-8") == sample.STUB
    assert main([NAMES[0]], project) == 0
    assert capsys.readouterr().out == "nothing changes\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (sample.RIGHT, "smaller is not refused: right"),
        (sample.STUB, "smaller is not refused: open"),
        (
            sample.answering("    import time\n    return [time.perf_counter_ns()]\n"),
            "smaller: the sentence differs from run to run",
        ),
    ],
    ids=["right", "open", "differs"],
)
def test_what_is_not_refused_is_named_and_nothing_written(
    project: Path,
    wrong: Path,
    text: str,
    problem: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (wrong / "smaller.py").write_text(text, "utf-8")
    assert main([NAMES[0]], project) == 1
    assert f"{NAMES[0]}/{problem}" in capsys.readouterr().err
    path = project / "tests" / "exercises" / "refusals.json"
    assert json.loads(path.read_text("utf-8")) == {}


def test_an_answer_that_is_written_is_no_stub(
    project: Path, wrong: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "exercises" / NAMES[0] / "answer.py").write_text(sample.RIGHT, "utf-8")
    assert main([NAMES[0]], project) == 1
    assert "answer.py is no stub" in capsys.readouterr().err
    stub = project / "tests" / "exercises" / "stubs" / f"{NAMES[0]}.py"
    assert stub.read_text("utf-8") == sample.STUB
