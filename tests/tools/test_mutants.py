"""`make mutants`: what is changed, what is left alone, and what a verdict rests on."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import absent
from lessons import ROOT
from services import wait_for

pytest.importorskip("cosmic_ray", reason="it is in requirements-dev.txt")

from cosmic_ray.ast import get_ast

from tools import (
    mutants,
    mutants_copy,
    mutants_finding,
    mutants_reach,
    mutants_trying,
)
from tools.mutants_copy import Copy, failed_of
from tools.mutants_finding import Function, Mutant, candidates, mutant_of, sample
from tools.mutants_reach import Reach, Reached
from tools.mutants_trying import GOLDEN, Reaching, Trial, in_order, may_notice

CODE = '''"""A module."""

__all__ = ["total"]


class Sum:
    """A class."""

    limit: int = 3

    def total(self, values: list[int] | None = None, most: int = 9) -> int | None:
        """Return a sum of at most 9."""
        log.warning("%d values", 1 + 1)
        found: int | None = 0
        self.seen = True
        for value in values or ():
            found += value
        raise NotImplementedError
'''


@pytest.fixture
def total(monkeypatch: pytest.MonkeyPatch) -> Function:
    """Return a function of a file that is not there."""
    monkeypatch.setattr(mutants_finding, "text_of", lambda file: CODE)
    mutants_finding.functions_of.cache_clear()
    (found,) = mutants_finding.functions_of("course/sum.py")
    mutants_finding.functions_of.cache_clear()
    return found


def all_mutants(function: Function) -> dict[str, Mutant]:
    """Return many mutants of a function, by what they change the line to."""
    found = [mutant_of(function, seed, 0) for seed in range(150)]
    return {one.after.strip(): one for one in found if one}


def test_each_place_that_matters_is_changed_and_no_other(total: Function) -> None:
    assert (total.name, total.group) == ("Sum.total", "core")
    found = all_mutants(total)
    changed = {one.before.strip() for one in found.values()}
    assert changed == {
        CODE.splitlines()[10].strip(),  # a default
        "found: int | None = 0",
        "self.seen = True",
        "for value in values or ():",
        "found += value",
    }
    assert {"self.seen = False", "for value in values and ():"} <= found.keys()
    assert "found: int | None = 1" in found
    assert "pass" in found


def test_a_mutant_is_the_whole_file_with_one_line_changed(total: Function) -> None:
    mutant = all_mutants(total)["self.seen = False"]
    assert mutant.text == CODE.replace("self.seen = True", "self.seen = False")
    assert CODE.splitlines()[mutant.line - 1].strip() == "self.seen = True"


def test_the_key_is_that_of_the_function_wherever_it_stands(
    total: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    lower = Function(total.file, total.name, *(total.first + 2, total.body + 2), 20)
    before = {key: one.key for key, one in all_mutants(total).items()}
    assert len(set(before.values())) == len(before)
    monkeypatch.setattr(mutants_finding, "text_of", lambda file: f"import a\n\n{CODE}")
    assert {key: one.key for key, one in all_mutants(lower).items()} == before


def test_a_larger_sample_continues_a_smaller_one() -> None:
    few = [mutant.key for mutant in sample(5, 8)]
    more = list(sample(5, 16))
    assert [mutant.key for mutant in more][:8] == few
    assert len({mutant.function for mutant in more}) == 16
    assert {mutant.function.group for mutant in more} >= {"01", "02", "03", "04", "05"}
    assert [mutant.key for mutant in sample(6, 8)] != few


def test_no_demo_is_changed_and_every_mutant_can_be_compiled() -> None:
    functions = mutants_finding.functions_of("04_rabbitmq_messaging.py")
    names = {one.name for one in functions}
    assert "Producer.publish_message" in names
    assert not {"messages", "pipeline", "main"} & names
    for function in functions[:10]:
        if mutant := mutant_of(function, 1, 0):
            compile(mutant.text, "mutant", "exec")


def test_operators_are_those_of_cosmic_ray_and_one_more() -> None:
    families = set(mutants_finding.operators())
    assert "LeaveOut" in families
    assert {"NumberReplacer", "ReplaceBinaryOperator", "AddNot"} <= families
    tree = get_ast("a.b()\nraise C\nx = 1\nx += 1\na.b = 2\ndel x\n")
    assert len(candidates(tree)["LeaveOut"]) == 5


# Trying them


def test_the_modules_are_those_of_lessons_the_quick_ones_first() -> None:
    names = mutants_reach.modules()
    quick = [mutants_reach.is_quick(name) for name in names]
    assert quick == sorted(quick, reverse=True)
    assert {mutants_reach.OF_ALL, "tests/lesson_04/test_retrying.py"} <= set(names)
    assert not any("test_house" in name or "documents" in name for name in names)


def test_exercises_count_for_the_practice_only() -> None:
    bugs = "tests/exercises/test_bugs.py"  # it looks for texts in the lessons
    writing = Function("course/practice/writing.py", "write", 1, 2, 3)
    lesson = Function("03_caching_strategies.py", "loads_early", 1, 2, 3)
    assert may_notice(writing, bugs)
    assert not may_notice(lesson, bugs)
    assert may_notice(lesson, "tests/lesson_03/test_units_lease.py")


def test_the_soonest_is_tried_first_and_a_module_stays_together() -> None:
    tests = [
        Reaching("tests/b.py::slow", 4.0, True),
        Reaching("tests/c.py::slow", 2.0, True),
        Reaching("tests/b.py::slower", 5.0, True),
        Reaching("tests/a.py::far", 0.1, False),
        Reaching("tests/b.py::quick", 0.3, True),
        Reaching("tests/b.py::late", 100.0, True),
    ]
    names = [[test.name for test in group] for group in in_order(tests, 20.0)]
    of_b = ["tests/b.py::quick", "tests/b.py::slow", "tests/b.py::slower"]
    assert names == [["tests/c.py::slow"], of_b]
    assert in_order(tests[-1:], 20.0) == [tests[-1:]]


@pytest.mark.parametrize(
    ("line", "test"),
    [
        ("FAILED tests/b.py::test_c[x - y] - assert 1", "tests/b.py::test_c[x - y]"),
        ("FAILED tests/b.py::test_c", "tests/b.py::test_c"),
        ("ERROR tests/b.py - ImportError: no", "tests/b.py::test_c"),
        ("FAILED tests/a.py::test_d - assert 1", "tests/a.py::test_d"),
    ],
)
def test_the_first_failed_test_is_found(line: str, test: str) -> None:
    printed = f"F\n=== short test summary info ===\n{line}\n1 failed"
    chosen = [
        "tests/b.py::test_c",
        "tests/b.py::test_c[x]",
        "tests/b.py::test_c[x - y]",
    ]
    assert failed_of(printed, chosen) == [test]


def small_project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Copy:
    """Return a copy of a project with one function and one test."""
    project = folder / "project"
    (project / "tests").mkdir(parents=True)
    (project / "course").mkdir()
    (project / "course" / "one.py").write_text("def one() -> int:\n    return 1\n")
    test = "from course.one import one\n\ndef test_one():\n    assert one() == 1\n"
    (project / "tests" / "test_one.py").write_text(test)
    settings = '[tool.pytest.ini_options]\npythonpath = ["."]\n'
    (project / "pyproject.toml").write_text(settings)
    names = ["course/one.py", "tests/test_one.py", "pyproject.toml"]
    for module in (mutants_copy, mutants_finding, mutants_reach):
        monkeypatch.setattr(module, "ROOT", project)
    monkeypatch.setattr(mutants_copy, "files", lambda: names)
    monkeypatch.setattr(mutants_reach, "REACH", folder / "reach")
    copy = Copy(folder / "copy")
    copy.fill()
    return copy


def mutant_returning(text: str) -> Mutant:
    """Return a mutant of the small project."""
    function = Function("course/one.py", "one", 1, 2, 2)
    whole = f"def one() -> int:\n    return {text}\n"
    return Mutant(function, "NumberReplacer", 2, "return 1", "", whole, text, 0)


def test_a_copy_notices_each_mutant_and_is_clean_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = small_project(tmp_path, monkeypatch)
    for text, passes in (("2", False), ("1", True), ("3", False), ("0 + 1", True)):
        copy.mutate(mutant_returning(text))  # the same size, in the same second
        assert copy.test(["tests/test_one.py"], 60).passed is passes, text
    copy.mutate(None)
    assert copy.test(["tests/test_one.py"], 60).passed
    original = (tmp_path / "project" / "course" / "one.py").read_text()
    assert (copy.folder / "course" / "one.py").read_text() == original


def test_what_hangs_is_ended_with_all_that_it_has_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = small_project(tmp_path, monkeypatch)
    script = "import subprocess as s; s.run(['sleep', '60'], start_new_session=True)"
    ended, _ = copy.run([sys.executable, "-c", script], 1.5)
    assert not ended
    # What is killed goes in a moment.
    wait_for(lambda: not list(mutants_copy.processes_of(copy.folder)))


def test_a_test_that_fails_without_the_mutant_too_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = small_project(tmp_path, monkeypatch)
    path = copy.folder / "tests" / "test_one.py"
    path.write_text("def test_bad():\n    assert False\n\n" + path.read_text())
    trial = Trial(copy, Reached(copy))
    bad, one = (f"tests/test_one.py::test_{name}" for name in ("bad", "one"))
    tests = [Reaching(bad, 0.1, True), Reaching(one, 0.1, True)]
    assert trial.noticed_by(mutant_returning("2"), tests) == one
    assert (trial.broken, trial.sound) == ({bad}, {one})
    assert trial.noticed_by(mutant_returning("0 + 1"), tests) == ""


def test_what_ends_python_itself_is_noticed_and_a_run_without_a_result_is_no_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = small_project(tmp_path, monkeypatch)
    trial = Trial(copy, Reached(copy))
    one = "tests/test_one.py::test_one"
    ending = mutant_returning("__import__('os')._exit(0)")
    assert trial.noticed_by(ending, [Reaching(one, 0.1, True)]) == one
    copy.mutate(ending)
    assert not copy.test([one], 60).passed


def test_tests_run_in_a_fork_of_the_tool_as_they_do_in_pytest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = small_project(tmp_path, monkeypatch)
    test = "import sys\n\n\ndef test_main():\n    assert '__main__' in sys.modules\n"
    (copy.folder / "tests" / "test_main.py").write_text(test)
    tool = str(ROOT / "tools" / "mutants.py")
    monkeypatch.setattr(sys.modules["__main__"], "__file__", tool, raising=False)
    assert copy.test(["tests/test_main.py"], 60).passed


@pytest.mark.parametrize(
    ("row", "fits"),
    [
        ({}, True),
        ({"verdict": "unnoticed by units", "by": ""}, False),
        ({"by": "tests/lesson_04/test_contract_ends.py::test_one"}, False),
        ({"seconds": 60}, False),
    ],
)
def test_a_handful_is_of_what_a_quick_test_noticed_soon(
    row: dict[str, Any], fits: bool
) -> None:
    usual = {"verdict": "noticed", "by": "tests/test_one.py::test_one", "seconds": 1}
    assert mutants.is_for_a_handful(usual | row) is fits


def trial_of(project: Copy, monkeypatch: pytest.MonkeyPatch) -> Trial:
    """Return one whose only test module is that of the small project."""
    monkeypatch.setattr(mutants_trying, "scripts", lambda: ["1.py"])
    monkeypatch.setattr(mutants_trying, "modules", lambda: ["tests/test_one.py"])
    return Trial(project, Reached(project))


def test_what_units_do_not_notice_is_open_until_all_tests_have_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = trial_of(small_project(tmp_path, monkeypatch), monkeypatch)
    lines = {"1": [0]}
    reach = {"course/one.py::one": {"text": "", "lines": lines}}
    test = "tests/test_one.py::test_one"
    none = Reach("", {}, {})
    its = Reach("", {test: 0.1}, reach)
    trial.reached.known = {"tests/test_one.py": its, "1.py": none}
    same, other = mutant_returning("0 + 1"), mutant_returning("2")
    assert trial.verdict_on(same, (True,)).verdict == mutants.OPEN
    assert trial.verdict_on(same, (True, False)).verdict == "survived"
    verdict = trial.verdict_on(other, (True,))
    assert (verdict.verdict, verdict.by) == ("noticed", test)
    reach.clear()
    assert trial.verdict_on(other, (True, False)).verdict == "survived"


DEMO = """
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from course.one import one

print(sys.argv[1:], one())
print("another each time", file=sys.stderr)
raise SystemExit(3)
"""


def test_a_demo_that_prints_something_else_is_the_golden_test_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = trial_of(small_project(tmp_path, monkeypatch), monkeypatch)
    (trial.copy.folder / "1.py").write_text(DEMO)
    test = Reaching("1.py::first", 0.1, True)
    assert trial.demo_that_notices(mutant_returning("2"), [test]) == f"{GOLDEN}[1]"
    assert trial.demo_that_notices(mutant_returning("0 + 1"), [test]) == ""
    printed = "['--offline', '--only', 'first'] 1\n\nexit code 3"
    assert trial.expected == {"1.py::first": printed}


REACHING = """
import subprocess
import sys
import pytest
from course.one import one

CALL = "import sys; sys.path.insert(0, '.'); from course.one import one; one(sys.argv)"

@pytest.fixture(scope="module")
def shared():
    return one(1)

def test_other(): one(0)
def test_line(): one(1)
def test_child(): subprocess.run([sys.executable, "-c", CALL], check=True)
def test_shared(shared): pass
def test_none(): pass
def test_shared_again(shared): pass
def test_failing():
    one(1)
    assert False
"""


def test_what_is_measured_is_which_test_runs_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In processes that it starts too, and in what several tests share."""
    copy = small_project(tmp_path, monkeypatch)
    for folder in (copy.folder, tmp_path / "project"):
        (folder / "tests" / "test_one.py").write_text(REACHING)
        text = "def one(a):\n    if a:\n        return 1\n    return 0\n"
        (folder / "course" / "one.py").write_text(text)
    for name in ("__init__", "mutants_contexts"):
        target = copy.folder / "tools" / f"{name}.py"
        target.parent.mkdir(exist_ok=True)
        source = ROOT / "tools" / f"{name}.py"
        target.write_text(source.read_text("utf-8") if source.exists() else "")
    mutants_finding.text_of.cache_clear()
    mutants_finding.functions_of.cache_clear()
    try:
        function = Function("course/one.py", "one", 1, 2, 4)
        mutant = Mutant(function, "", 3, "return 1", "return 2", "", "", 0)
        found = list(Reached(copy).at(mutant, "tests/test_one.py"))
        again = list(Reached(copy).at(mutant, "tests/test_one.py"))
    finally:
        mutants_finding.text_of.cache_clear()
        mutants_finding.functions_of.cache_clear()
    close = {name.partition("::test_")[2]: is_close for name, _, is_close in found}
    expected = dict.fromkeys(["line", "child", "shared", "shared_again"], True)
    assert close == {"other": False, **expected}
    assert again == found


# What is kept


def test_a_verdict_is_kept_and_the_last_one_holds(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.jsonl"
    for verdict in ("survived", "noticed"):
        mutants.add({"key": "a", "verdict": verdict}, path)
    mutants.add({"key": "b", "verdict": "survived"}, path)
    kept = mutants.results(path)
    assert [row["verdict"] for row in kept.values()] == ["noticed", "survived"]


def test_the_share_leaves_out_what_makes_no_difference(
    total: Function, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    four = list(all_mutants(total).values())[:4]
    kept: dict[str, Any] = {one.key: {"verdict": "survived"} for one in four[:3]}
    kept[four[0].key] = {"verdict": "noticed"}
    monkeypatch.setattr(mutants, "results", lambda: kept)
    monkeypatch.setattr(mutants, "reasons", lambda: {four[1].key: "it is the same"})
    assert mutants.report(four) == 0.5
    last = capsys.readouterr().out.splitlines()
    assert last[-2].split() == ["all", "1", "1", "1", "0", "1", "50.0%"]
    assert last[-1] == f"survived {four[2].key} {four[2].label}"


def test_each_reason_is_about_a_survivor_and_says_something() -> None:
    kept = mutants.results()
    for key, why in mutants.reasons().items():
        assert kept[key]["verdict"] in ("survived", mutants.OPEN), key
        assert len(why.split()) >= 4, key


def test_the_results_are_one_object_a_line() -> None:
    text = mutants.RESULTS.read_text("utf-8")
    for line in text.splitlines():
        row = json.loads(line)
        assert row["verdict"] in ("noticed", "survived", mutants.OPEN)
        assert bool(row["by"]) == (row["verdict"] == "noticed")


@pytest.mark.slow
def test_a_handful_of_mutants_is_still_noticed(tmp_path: Path) -> None:
    """Those noticed by units or demos before, whose function is the same today."""
    if not shutil.which("git"):
        absent("git is not installed, which knows what a copy needs")
    chosen = list(mutants.handful(3, seed=1))
    assert chosen
    assert mutants.unnoticed(chosen, tmp_path / "copy") == []


def test_the_makefile_runs_it() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert "tools/mutants.py" in makefile
