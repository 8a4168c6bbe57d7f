"""What holds for every lesson: alone, silent on import, deterministic, honest."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from lessons import (
    ROOT,
    SCRIPTS,
    Mutation,
    folder_of,
    load,
    mutated,
    path_of,
    run,
    unbroken,
)

NEED_PANDAS = {"01", "02"}  # for a claim that is skipped by name without it
every_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)


def mutations_of(number: str) -> tuple[Mutation, ...]:
    """Return the list in tests/lesson_NN/mutations.py."""
    path = folder_of(number) / "mutations.py"
    spec = importlib.util.spec_from_file_location(f"mutations{number}", path)
    assert spec and spec.loader
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    listed: tuple[Mutation, ...] = module.MUTATIONS
    return listed


MUTATIONS = [
    pytest.param(script.name[:2], mutation, id=f"{script.name[:2]}-{mutation.claim}")
    for script in SCRIPTS
    for mutation in mutations_of(script.name[:2])
]


@every_script
def test_scripts_import_nothing_of_each_other(script: Path) -> None:
    ours = {path.stem for path in SCRIPTS}
    for node in ast.walk(ast.parse(script.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            assert not ours & {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in ours


@every_script
def test_sections_are_cells_with_numbers_in_order_and_a_demo_each(script: Path) -> None:
    text = script.read_text("utf-8")
    headings = re.findall(r"^# %% \[markdown\]\n# ## (\d+)\. \S", text, re.MULTILINE)
    assert [int(number) for number in headings] == list(range(1, len(headings) + 1))
    assert len(load(script.name[:2]).lesson.demos) == len(headings)
    assert 6 <= len(headings) <= 10


@every_script
def test_uv_installs_what_requirements_txt_asks_for(script: Path) -> None:
    block = re.search(r"^# /// script\n(.+?)^# ///$", script.read_text(), re.M | re.S)
    assert block
    inline = tomllib.loads(re.sub(r"^# ?", "", block[1], flags=re.M))
    asked = set((ROOT / "requirements.txt").read_text().splitlines())
    assert inline["dependencies"] and set(inline["dependencies"]) <= asked


@every_script
def test_import_has_no_effect(
    script: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("socket.socket.connect", None)
    monkeypatch.setattr("threading.Thread.start", None)
    load(script.name[:2])
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


@every_script
def test_it_runs_alone_and_prints_the_golden_output(
    script: Path, tmp_path: Path
) -> None:
    if script.name[:2] in NEED_PANDAS:  # where it is not installed, they skip a claim
        pytest.importorskip("pandas")
    home = tmp_path / "tmp"
    home.mkdir()
    done = run(script, "--offline", cwd=home, env={"TMPDIR": str(home)})
    assert done.stdout == (folder_of(script.name[:2]) / "golden.txt").read_text("utf-8")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.isascii()  # a Windows console shows it as it is
    assert not list(home.iterdir())


@every_script
def test_list_names_every_demo_and_only_runs_one(script: Path) -> None:
    listed = run(script, "--list")
    demos = list(load(script.name[:2]).lesson.demos)
    rows = [line.split() for line in unbroken(listed.stdout).splitlines()[1:]]
    assert [row[0] for row in rows] == demos
    done = run(script, "--offline", "--only", demos[-1])
    assert done.returncode == 0
    assert re.findall(r"^(\d+)\. ", done.stdout, re.MULTILINE) == [str(len(demos))]


@every_script
def test_a_reader_that_leaves_early_gets_no_traceback(script: Path) -> None:
    command = [sys.executable, str(script), "--offline"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as lesson:
        assert lesson.stdout and lesson.stderr
        lesson.stdout.readline()
        lesson.stdout.close()
        complaint = lesson.stderr.read()
    assert "Traceback" not in complaint and "BrokenPipe" not in complaint
    assert lesson.returncode in (0, 141)


@every_script
@pytest.mark.parametrize(
    "arguments",
    [["--only", "no-such-demo"], ["--bogus"], ["--offline", "--require-live"]],
    ids=" ".join,
)
def test_bad_options_get_one_line(script: Path, arguments: list[str]) -> None:
    done = run(script, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert arguments[-1] in done.stderr


@every_script
def test_a_false_claim_exits_1(
    script: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = load(script.name[:2])
    module.lesson.demos.clear()
    module.lesson.demo(lambda env: module.check("two is three", 2, 3))
    assert module.main(["--offline"]) == 1
    assert "[FAIL] two is three: 2, not 3" in capsys.readouterr().out


NOBODY = {  # nothing listens on port 1
    "01": ("DATABASE_URL", "postgresql://user:s3cr3t@127.0.0.1:1/name"),
    "02": ("MONGODB_URI", "mongodb://user:s3cr3t@127.0.0.1:1/"),
    "03": ("REDIS_URL", "redis://user:s3cr3t@127.0.0.1:1/0"),
    "04": ("RABBITMQ_URL", "amqp://user:s3cr3t@127.0.0.1:1/%2F"),
}


@pytest.mark.parametrize("number", NOBODY)
def test_a_service_that_does_not_answer_is_named_without_its_password(
    number: str,
) -> None:
    script, (variable, url) = path_of(number), NOBODY[number]
    demo = next(iter(load(number).lesson.demos))
    for option, code in ([], 0), (["--require-live"], 3):
        arguments = [*option, "--verbose", "--only", demo]
        done = run(script, *arguments, env={variable: url})
        assert done.returncode == code, done.stderr
        assert "127.0.0.1:1" in done.stdout.splitlines()[0]
        assert "s3cr3t" not in done.stdout + done.stderr
        again = run(script, *arguments, "--url", url)
        assert again.stdout == done.stdout


@every_script
def test_every_claim_has_a_mutation(script: Path) -> None:
    golden = (folder_of(script.name[:2]) / "golden.txt").read_text("utf-8")
    claims = set(re.findall(r"^  \[ok\] (.*)$", golden, re.MULTILINE))
    listed = {mutation.claim for mutation in mutations_of(script.name[:2])}
    assert claims
    assert claims - listed == set()


@pytest.mark.parametrize(("number", "mutation"), MUTATIONS)
def test_the_error_of_a_mutation_is_one_that_only_the_claim_gets(
    number: str, mutation: Mutation
) -> None:
    if mutation.error:
        assert re.match(r"\w+: \w|\w+: \(", mutation.error)
    if "not reached in time" in mutation.error:  # which any wait may say
        assert mutation.where


@pytest.fixture
def tracebacks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the tracebacks that a run keeps for --verbose, as they come."""
    kept: list[str] = []
    whole = traceback.format_exc

    def keep() -> str:
        kept.append(whole())
        return kept[-1]

    monkeypatch.setattr(traceback, "format_exc", keep)
    return kept


@pytest.mark.parametrize(("number", "mutation"), MUTATIONS)
def test_a_mutation_makes_its_claim_fail(
    number: str,
    mutation: Mutation,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
    tracebacks: list[str],
) -> None:
    arguments = ["--offline", "--only", mutation.demo]
    if mutation.live:
        service = {"01": "postgres", "02": "mongo", "03": "redis", "04": "rabbitmq"}
        url = request.getfixturevalue(f"{service[number]}_url")
        arguments = ["--require-live", "--url", url, "--only", mutation.demo]
    with mutated(number, mutation) as lesson:
        code = lesson.main(arguments)
    printed = unbroken(capsys.readouterr().out)
    if number in NEED_PANDAS and re.search(r"\[skip\] .*pandas", printed):
        pytest.importorskip("pandas")
    assert code == 1
    assert f"  [FAIL] {mutation.error or mutation.claim}" in printed
    assert any(mutation.where in one for one in tracebacks)


@every_script
def test_coloured_on_a_terminal(script: Path) -> None:
    pty = pytest.importorskip(
        "pty", reason="platform: Windows has no terminals of this kind"
    )
    demo = next(iter(load(script.name[:2]).lesson.demos))
    command = [sys.executable, str(script), "--offline", "--only", demo]
    screen, terminal = pty.openpty()
    env = os.environ | {"TERM": "xterm-256color"}
    with subprocess.Popen(command, stdout=terminal, stderr=terminal, env=env) as lesson:
        os.close(terminal)
        seen = b""
        with suppress(OSError):  # Linux reports the closed terminal as an error
            while chunk := os.read(screen, 65536):
                seen += chunk
    os.close(screen)
    assert lesson.returncode == 0
    assert b"\x1b[32m" in seen
