"""Runs whose output is not taken: a closed terminal, a full disk, no stdout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ends import TALLY, running
from lessons import ROOT, SCRIPTS, path_of

if sys.platform == "win32":
    pytest.skip("platform: terminals and file systems differ", allow_module_level=True)
import pty

pytestmark = pytest.mark.slow
NUMBERS = [path.name[:2] for path in SCRIPTS]
every_lesson = pytest.mark.parametrize("number", NUMBERS)
FULL = Path("/dev/full")  # every write to it fails for lack of space
needs_full = pytest.mark.skipif(not FULL.exists(), reason="platform: needs /dev/full")


@every_lesson
def test_a_terminal_that_is_closed_ends_it(number: str, tmp_path: Path) -> None:
    """Both outputs fail with EIO; no signal comes, as it controls no session."""
    ours, theirs = pty.openpty()
    outputs = {"stdout": theirs, "stderr": theirs}
    with running(number, "--offline", urls={}, home=tmp_path, **outputs) as one:
        os.close(theirs)
        seen = b""
        while b"backend: " not in seen:
            seen += os.read(ours, 4096)
        os.close(ours)
        one.end()
    assert one.process.returncode == 129
    assert one.folders() == []


@every_lesson
def test_a_reader_that_leaves_ends_it(number: str, tmp_path: Path) -> None:
    with running(number, "--offline", urls={}, home=tmp_path) as one:
        assert one.process.stdout and one.process.stderr
        one.process.stdout.readline()
        one.process.stdout.close()
        complaints = one.process.stderr.read()
        one.process.stderr.close()
        one.process.wait(60)
    assert one.process.returncode in (141, 0)  # 0: all was printed before
    assert "Traceback" not in complaints
    assert "Error" not in complaints
    assert one.folders() == []


@needs_full
@every_lesson
def test_a_full_disk_under_its_output(number: str, tmp_path: Path) -> None:
    with FULL.open("w") as full:
        options = {"urls": {}, "home": tmp_path, "stdout": full}
        with running(number, "--offline", **options) as one:  # type: ignore[arg-type]
            _, complaints = one.end()
    assert one.process.returncode == 1, complaints
    assert "Traceback" not in complaints
    assert "stdout: No space left on device" in complaints
    assert TALLY.search(complaints)
    assert one.folders() == []


@needs_full
@pytest.mark.parametrize(
    "options", [["--list"], ["--json"], ["--sweep"], ["--help"]], ids=str
)
def test_a_full_disk_under_what_is_no_run(options: list[str], tmp_path: Path) -> None:
    with (
        FULL.open("w") as full,
        running("05", *options, urls={}, home=tmp_path, stdout=full) as one,
    ):
        _, complaints = one.end()
    assert one.process.returncode == 1, complaints
    assert "Traceback" not in complaints
    assert "No space left on device" in complaints


@needs_full
@pytest.mark.parametrize("words", [[], ["--help"], ["check", "--help"]], ids=str)
def test_a_full_disk_under_the_list_of_exercises(words: list[str]) -> None:
    with FULL.open("w") as full:
        command = [sys.executable, str(ROOT / "practice.py"), *words]
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "practice.py: ended stdout: No space left on device\n"


@every_lesson
@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "1>&- 2>&-"])
def test_outputs_that_are_closed_from_the_start(
    number: str, closed: str, tmp_path: Path
) -> None:
    first = {"01": "engines", "02": "validators", "03": "lru", "04": "messages"}
    only = f"--only {first[number]}" if number in first else "--only rules"
    command = f'exec "$0" "$1" --offline {only} {closed}'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable, str(path_of(number))],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not list(tmp_path.iterdir())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB, which a lesson fills soon."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() != 0 or not mount:
        pytest.skip("platform: only root may mount a file system")
    options = ["-t", "tmpfs", "-o", "size=256k", "module8", str(folder)]
    done = subprocess.run([mount, *options], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"platform: cannot mount: {done.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@every_lesson
def test_a_full_disk_under_its_files(number: str, small_disk: Path) -> None:
    with running(number, "--offline", urls={}, home=small_disk) as one:
        printed, complaints = one.end()
    assert "Traceback" not in complaints
    assert one.folders() == []
    failures = re.findall(r"^  \[FAIL\] .*$", printed, re.M)
    assert one.process.returncode == (1 if failures else 0), complaints
    assert TALLY.search(printed.splitlines()[-1])
    if number == "01":
        assert "disk is full" in "".join(failures)
