"""`make golden`, on scripts that stand in for lessons."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from lessons import ROOT, SCRIPTS, VARIABLES

from tools import make_golden
from tools.make_golden import Golden, RunFailed, bring_up_to_date, golden_files

LONG_AGO = 1_000_000_000  # a time of modification, in nanoseconds


def golden_of(folder: Path, text: str, kept: str | None) -> Golden:
    """Return a golden file, if `kept` is given, and the script that it belongs to."""
    script = folder / "script.py"
    script.write_text(text, "utf-8")
    path = folder / "golden.txt"
    if kept is not None:
        path.write_text(kept, "utf-8")
        os.utime(path, ns=(LONG_AGO, LONG_AGO))
    return Golden(script, ("--offline",), path)


def test_nothing_is_written_where_nothing_changes(tmp_path: Path) -> None:
    golden = golden_of(tmp_path, "print('one')", "one\n")
    assert bring_up_to_date(golden, tmp_path) == ""
    assert golden.path.stat().st_mtime_ns == LONG_AGO


def test_what_changes_is_written_and_shown(tmp_path: Path) -> None:
    golden = golden_of(tmp_path, "print('one\\nthree')", "one\ntwo\n")
    shown = bring_up_to_date(golden, tmp_path)
    assert shown.splitlines() == [
        "--- golden.txt",
        "+++ golden.txt, new",
        "@@ -1,2 +1,2 @@",
        " one",
        "-two",
        "+three",
    ]
    assert golden.path.read_text("utf-8") == "one\nthree\n"
    assert bring_up_to_date(golden, tmp_path) == ""


def test_a_golden_file_that_is_not_there_is_made(tmp_path: Path) -> None:
    golden = golden_of(tmp_path, "print('one')", None)
    assert "+one" in bring_up_to_date(golden, tmp_path)
    assert golden.path.read_text("utf-8") == "one\n"


def test_a_run_is_offline_alone_and_names_no_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "somewhere")
    text = (
        "import os, sys\n"
        f"print(sys.argv[1:], os.listdir(), [os.environ[n] for n in {VARIABLES}])"
    )
    golden = golden_of(tmp_path, text, "['--offline'] [] ['', '', '', '']\n")
    assert bring_up_to_date(golden, tmp_path) == ""


def test_a_false_claim_never_becomes_golden(tmp_path: Path) -> None:
    text = "print('  [FAIL] two is three: 2, not 3'); raise SystemExit(1)"
    golden = golden_of(tmp_path, text, "  [ok] two is three\n")
    with pytest.raises(RunFailed, match=r"ended with 1:\n  \[FAIL\] two is three"):
        bring_up_to_date(golden, tmp_path)
    assert golden.path.stat().st_mtime_ns == LONG_AGO


def test_every_golden_file_is_made(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And main says for each what happens: here the run prints what is kept."""
    kept = {golden.path for golden in golden_files(SCRIPTS)}
    assert kept == {*ROOT.glob("tests/lesson_0?/golden*.txt")}
    monkeypatch.setattr(make_golden, "bring_up_to_date", lambda _: "")
    assert make_golden.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(kept)
    assert all(line.endswith("golden.txt: nothing changes") for line in lines[:4])
    assert make_golden.main(["03"]) == 0
    assert capsys.readouterr().out == ("tests/lesson_03/golden.txt: nothing changes\n")


def test_a_failed_run_is_named_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail_at_02(golden: Golden) -> str:
        if golden.script.name.startswith("02"):
            raise RunFailed("02 failed")
        return ""

    monkeypatch.setattr(make_golden, "bring_up_to_date", fail_at_02)
    assert make_golden.main(["01", "02", "03"]) == 1
    seen = capsys.readouterr()
    assert seen.err == "02 failed\n"
    assert len(seen.out.splitlines()) == 2


def test_a_lesson_that_is_not_there_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        make_golden.main(["09"])
    assert "no lesson '09'; there are 01, 02, 03, 04, 05" in capsys.readouterr().err
