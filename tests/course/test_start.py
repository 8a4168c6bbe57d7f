"""A Python that cannot run a lesson says so in one line, and what to type instead."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from lessons import ROOT, SCRIPTS

from course.start import from_here, lack_of, numbers_of, requirements_of

every_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
OLDER = ("3.9", "3.10")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a Python without any package."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    venv.create(folder, with_pip=False)
    return next(folder.glob("[bS]*/python*"))


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the lessons, course/, requirements.txt, and no .venv."""
    folder = tmp_path_factory.mktemp("copied") / "the course"  # with a space
    unwanted = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "course", folder / "course", ignore=unwanted)
    for path in (*SCRIPTS, ROOT / "requirements.txt"):
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def made(copied: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return such a folder after `make demo`: its .venv is the one that runs this."""
    if sys.prefix == sys.base_prefix or sys.platform == "win32":
        pytest.skip("needs a virtual environment, and a link to it")
    folder = tmp_path_factory.mktemp("made") / "course of five"
    shutil.copytree(copied, folder)
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def start(
    python: Path, script: Path, *options: str, cwd: Path
) -> subprocess.CompletedProcess[str]:
    """Run a script by a path that is relative to a folder, as one types it."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [str(python), os.path.relpath(script, cwd), *options],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def complaint_of(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one line on stderr of a run that did not start."""
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr
    return done.stderr.strip()


@every_script
def test_without_packages_it_names_them_and_the_file_to_install_from(
    script: Path, bare: Path, copied: Path
) -> None:
    copy = copied / script.name
    names = [re.split(r"[^\w.-]", one)[0] for one in requirements_of(script)]
    expected = (
        f"{script.name}: this Python lacks {', '.join(names)}; "
        "run pip install -r requirements.txt"
    )
    for options in ([], ["--help"], ["--list"], ["--only", "nothing"]):
        assert complaint_of(start(bare, copy, *options, cwd=copied)) == expected


@every_script
def test_after_make_demo_it_names_the_python_that_has_them(
    script: Path, bare: Path, made: Path
) -> None:
    copy = made / script.name
    for options in ([], ["--help"], ["--list"]):
        complaint = complaint_of(start(bare, copy, *options, cwd=made))
        assert complaint.endswith(f"; run .venv/bin/python {script.name}")


def test_what_it_says_to_type_is_right_from_another_folder(
    bare: Path, made: Path, copied: Path, tmp_path: Path
) -> None:
    script = made / SCRIPTS[0].name
    complaint = complaint_of(start(bare, script, cwd=tmp_path))
    command = shlex.split(complaint.partition("; run ")[2])
    done = subprocess.run(
        [*command, "--list"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("  demo ")
    complaint = complaint_of(start(bare, copied / script.name, cwd=tmp_path))
    *pip, path = shlex.split(complaint.partition("; run ")[2])
    assert pip == ["pip", "install", "-r"]
    assert (tmp_path / path).resolve() == (copied / "requirements.txt").resolve()


@pytest.mark.skipif(
    sys.platform == "win32", reason="platform: a venv has other folders there"
)
def test_the_venv_s_own_python_is_not_told_to_run_itself(copied: Path) -> None:
    folder = copied.parent / "interrupted"  # `make demo` ended before pip did
    shutil.copytree(copied, folder)
    venv.create(folder / ".venv", with_pip=False)
    python = folder / ".venv" / "bin" / "python"
    complaint = complaint_of(start(python, folder / SCRIPTS[0].name, cwd=folder))
    assert complaint.endswith("; run pip install -r requirements.txt")


def test_a_single_file_says_what_to_install(
    bare: Path, small_lesson: Path, tmp_path: Path
) -> None:
    command = [sys.executable, str(ROOT / "tools" / "standalone.py")]
    subprocess.run([*command, "--into", str(tmp_path), str(small_lesson)], check=True)
    complaint = complaint_of(start(bare, tmp_path / small_lesson.name, cwd=tmp_path))
    assert complaint == (
        "09_small.py: this Python lacks python-dotenv, rich; "
        'run pip install "python-dotenv>=1.2.2,<2" "rich>=13.7,<16"'
    )


@pytest.mark.skipif(
    sys.platform == "win32", reason="platform: a venv has other folders there"
)
def test_a_package_that_is_too_old_is_named_with_its_version(
    small_lesson: Path, tmp_path: Path
) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    packages = next(tmp_path.glob("venv/lib/python*/site-packages"))
    for name, version in ("python_dotenv", "1.2.2"), ("rich", "13.6.0"):
        info = packages / f"{name}-{version}.dist-info"
        info.mkdir()
        about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (info / "METADATA").write_text(about)
    python = tmp_path / "venv" / "bin" / "python"
    complaint = complaint_of(start(python, small_lesson, cwd=tmp_path))
    assert "this Python lacks rich 13.7 (it has 13.6.0); run " in complaint


@pytest.mark.skipif(sys.platform == "win32", reason="platform: no SIGINT to oneself")
def test_a_ctrl_c_while_packages_are_looked_for_is_silent(
    small_lesson: Path, tmp_path: Path
) -> None:
    code = """import os, signal
from importlib import metadata
metadata.version = lambda name: os.kill(os.getpid(), signal.SIGINT)
"""
    (tmp_path / "sitecustomize.py").write_text(code)
    done = subprocess.run(
        [sys.executable, str(small_lesson), "--list"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_a_requirement_is_met_or_named() -> None:
    assert lack_of("pytest>=1.0") == ""
    assert lack_of("pytest") == ""
    assert re.fullmatch(
        r"pytest 999\.1 \(it has [\d.]+\)", lack_of("pytest>=999.1,<1000")
    )
    assert lack_of("no-such-package[extra]>=1") == "no-such-package"
    assert numbers_of("1.10.0") > numbers_of("1.9")
    assert numbers_of("8.0.0b3") >= numbers_of("8.0")


def test_a_path_is_as_one_types_it_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert from_here(tmp_path / "a" / "b") == str(Path("a") / "b")
    assert from_here(tmp_path.parent / "c") == str(Path("..") / "c")


# Older Pythons


def older_pythons() -> dict[str, str]:
    """Return the older Pythons of this machine, those of pyenv among them."""
    found = {}
    for version in OLDER:
        places = [*Path.home().glob(f".pyenv/versions/{version}.*/bin/python")]
        named = shutil.which(f"python{version}")
        for python in (*map(str, places), *([named] if named else [])):
            asked = "import sys; print(*sys.version_info[:2], sep='.')"
            done = subprocess.run(
                [python, "-c", asked], capture_output=True, text=True, check=False
            )
            if done.stdout.strip() == version:
                found[version] = python
    return found


@pytest.mark.parametrize("version", OLDER)
def test_an_older_python_says_that_it_is_too_old(version: str, copied: Path) -> None:
    python = older_pythons().get(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    for script in SCRIPTS:
        for options in ([], ["--help"]):
            done = start(Path(python), copied / script.name, *options, cwd=copied)
            complaint = complaint_of(done)
            assert complaint.startswith(f"{script.name}: Python {version}.")
            assert "is too old, 3.11 or later is needed; run pip install" in complaint


@pytest.mark.parametrize(
    "path",
    [*SCRIPTS, *sorted((ROOT / "course").rglob("*.py"))],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_it_parses_on_python_3_10(path: Path) -> None:
    # The modules behind a lesson too: in a single file they stand in the same text.
    ast.parse(path.read_text("utf-8"), feature_version=(3, 10))


def test_a_real_python_3_10_parses_all_of_it() -> None:
    python = older_pythons().get("3.10")
    if python is None:
        pytest.skip("no Python 3.10 on this machine")
    paths = [*SCRIPTS, *sorted((ROOT / "course").rglob("*.py"))]
    code = "import ast, sys; [ast.parse(open(p, 'rb').read(), p) for p in sys.argv[1:]]"
    done = subprocess.run(
        [python, "-c", code, *map(str, paths)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
