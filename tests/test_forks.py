"""A script in a fork does and says what it does and says in a Python of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from forks import Forks, may_fork
from lessons import path_of, run_alone
from services import wait_for

SHOWN = """
import os, random, signal, sys, uuid
print(__name__, __file__, sys.argv, sys.path[0], os.getcwd(), sorted(os.environ))
for one in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
    print(signal.getsignal(one))
print(os.isatty(0), sys.stdin.read(), sys.stdout.encoding, sys.stderr.errors)
print([one for one in sys.modules if one.startswith("course")], "ünïcode")
"""
ENDS = {
    "well": "print('out', end='')",
    "code": "raise SystemExit(3)",
    "words": "raise SystemExit('no')",
    "killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "at the end": "import atexit; atexit.register(print, 'bye')",
    "a thread": "import threading as t; t.Timer(0.2, print, ['late']).start()",
    "a child": "import subprocess as s; print(s.run(['false']).returncode, flush=True)",
    "errors": "import sys; print('wrong', file=sys.stderr); sys.exit(2)",
}
ENV = {**os.environ, "ANOTHER": "one"}


if sys.platform != "linux":
    pytest.skip("platform: scripts are forked on Linux only", allow_module_level=True)


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with closing(Forks()) as found:
        yield found


def both(
    forks: Forks, folder: Path, *argv: str
) -> list[subprocess.CompletedProcess[str]]:
    """Return how a script ends in a Python of its own, and in a fork."""
    return [run_alone(argv, folder, ENV), forks.run(argv, str(folder), ENV, 60)]


@pytest.mark.parametrize("end", ENDS)
def test_it_ends_as_it_does_alone(forks: Forks, tmp_path: Path, end: str) -> None:
    (tmp_path / "script.py").write_text(ENDS[end])
    alone, forked = both(forks, tmp_path, "script.py", "an option")
    for one in ("returncode", "stdout", "stderr"):
        assert getattr(forked, one) == getattr(alone, one)


def test_it_sees_what_it_sees_alone(forks: Forks, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SHOWN, "utf-8")
    alone, forked = both(forks, tmp_path, "script.py", "--an", "option")
    assert forked.stdout == alone.stdout
    assert "ünïcode" in alone.stdout
    assert (forked.stderr, forked.returncode) == ("", 0)


def test_an_error_is_shown_with_its_line(forks: Forks, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("def divide():\n    1 / 0\n\n\ndivide()\n")
    alone, forked = both(forks, tmp_path, "script.py")
    assert forked.returncode == alone.returncode == 1
    _, _, shown = alone.stderr.partition("\n")  # the first line is the same
    assert forked.stderr.endswith(shown)  # above it are the forking program's


@pytest.mark.parametrize("lesson", ["01", "02", "03", "04", "05"])
@pytest.mark.parametrize("option", ["--list", "--nonsense", "--only=nonsense"])
def test_a_lesson_says_the_same(
    forks: Forks, tmp_path: Path, lesson: str, option: str
) -> None:
    alone, forked = both(forks, tmp_path, str(path_of(lesson)), option)
    for one in ("returncode", "stdout", "stderr"):
        assert getattr(forked, one) == getattr(alone, one)


def test_several_threads_ask_at_once(forks: Forks, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import sys; print(sys.argv[1])")

    def ask(number: int) -> str:
        argv = ("script.py", str(number))
        return forks.run(argv, str(tmp_path), ENV, 60).stdout

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(40))) == [f"{number}\n" for number in range(40)]


def test_what_takes_too_long_is_killed(forks: Forks, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(60)"
    )
    with pytest.raises(subprocess.TimeoutExpired):
        forks.run(["script.py"], str(tmp_path), ENV, 5)
    process = Path("/proc", (tmp_path / "pid").read_text())
    wait_for(lambda: not process.exists())


def test_nothing_is_forked_for_what_is_read_at_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in os.environ if name.startswith("COV")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    assert not may_fork(dict(os.environ))
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    assert may_fork({**os.environ, "ANOTHER": "one"})
    for name in ("PYTHONUTF8", "PYTHONPATH", "LC_ALL", "TZ", "LD_PRELOAD"):
        assert not may_fork({**os.environ, name: "another"})
    monkeypatch.setenv("COVERAGE_PROCESS_START", "settings")
    assert not may_fork(dict(os.environ))


def test_the_program_that_forks_ends_with_who_asks_it() -> None:
    forks = Forks()
    forks.close()
    assert forks.started.returncode == 0
