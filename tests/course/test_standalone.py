"""Each lesson as one file: it prints the same in an empty folder, or says why not."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lessons import ROOT, SCRIPTS, folder_of, path_of, run


def load_tool() -> Any:
    spec = importlib.util.spec_from_file_location(
        "standalone", ROOT / "tools" / "standalone.py"
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["standalone"] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


tool = load_tool()
every_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)


@pytest.fixture
def project(small_lesson: Path, tmp_path: Path) -> Path:
    """Return a folder with the small lesson and course/, to be changed."""
    folder = tmp_path / "project"
    unwanted = shutil.ignore_patterns("__pycache__")
    shutil.copytree(small_lesson.parent, folder, ignore=unwanted)
    return folder


def single_file_of(project: Path) -> str:
    text: str = tool.standalone(project / "09_small.py", project)
    return text


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), "utf-8")


def test_it_is_the_lesson_with_its_modules_in_it(project: Path, tmp_path: Path) -> None:
    text = single_file_of(project)
    lesson = (project / "09_small.py").read_text("utf-8")
    header, _, rest = lesson.partition("from __future__")
    assert text.startswith(header)
    first_cell = rest[rest.index("# %% [markdown]") :]
    assert text.endswith(first_cell)  # word for word, with its cells
    headings = re.findall(r"^# (course/\w+\.py)$", text, re.MULTILINE)
    assert len(headings) == len(set(headings)) > 5
    assert (headings[0], headings[-1]) == ("course/start.py", "course/console.py")
    for place, heading in enumerate(headings):
        source = (project / heading).read_text("utf-8")
        for name in re.findall(r"^from course\.(\w+) import", source, re.MULTILINE):
            assert f"course/{name}.py" in headings[:place]
    assert "course." not in "".join(
        line for line in text.splitlines() if line.startswith(("import", "from"))
    )
    for line in text.splitlines():
        if not line.startswith(" ") and "import " in line and "#" not in line:
            assert text.count(f"\n{line}\n") == 1  # each is imported once


def test_it_runs_as_the_lesson_does(project: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone" / "09_small.py"
    alone.parent.mkdir()
    alone.write_text(single_file_of(project), "utf-8")
    for options in ([], ["--list"], ["--only", "no-such-demo"]):
        here = run(project / "09_small.py", *options)
        there = run(alone, *options, cwd=alone.parent)
        assert (there.returncode, there.stdout) == (here.returncode, here.stdout)
        assert there.stderr == here.stderr
    # The variables are cleared by `run`; here the .env beside the file counts.
    (alone.parent / ".env").write_text("SMALL_URL=small://there\n")
    assert run(alone, "--require-live").returncode == 0


REFUSED = [
    (
        "course/claims.py",
        "LONGEST = 120",
        "WIDTH = 1\nLONGEST = 120",
        "columns.py: `WIDTH` is something else in claims.py",
    ),
    (
        "course/claims.py",
        "LONGEST = 120",
        "if Callable:\n    WIDTH = 1\nLONGEST = 120",
        "columns.py: `WIDTH` is something else in claims.py",
    ),
    (
        "course/claims.py",
        "LONGEST = 120",
        "print = repr\nLONGEST = 120",
        "claims.py:9: `print` hides Python's own",
    ),
    (
        "course/claims.py",
        "from typing import Any\n",
        "from typing import Any\nfrom builtins import repr as BadInput\n",
        "errors.py: `BadInput` is something else in claims.py",
    ),
    (
        "09_small.py",
        "from course.errors import BadInput, Skip\n",
        "from course.errors import BadInput, Skip as Skipped\n",
        "09_small.py:29: `Skip` must keep its name",
    ),
    (
        "09_small.py",
        "from course.errors import BadInput, Skip\n",
        "import course.errors\n",
        "09_small.py:29: write `from course.errors import name`",
    ),
    (
        "09_small.py",
        "from course.errors import BadInput, Skip\n",
        "from course.errors import *\n",
        "09_small.py:29: write `from course.x import name`",
    ),
    (
        "09_small.py",
        "from course.errors import BadInput, Skip\n",
        "from course.errors import BadInput, Skipped\n",
        "09_small.py:29: course.errors defines no `Skipped`",
    ),
    (
        "09_small.py",
        "from course.errors import BadInput, Skip\n",
        "from course.nothing import BadInput, Skip\n",
        "09_small.py: course.nothing is not a module of course/",
    ),
    (
        "course/console.py",
        "from course.claims import difference\n",
        "from .claims import difference\n",
        "console.py:19: write `from course.x import name`",
    ),
    (
        "course/claims.py",
        "    text = repr(value)\n",
        "    from course.errors import Skip\n    text = repr(value)\n",
        "claims.py:91: import it at the top of the file",
    ),
    (
        "course/claims.py",
        "    text = repr(value)\n",
        "    import course.errors\n    text = repr(value)\n",
        "claims.py:91: import it at the top of the file",
    ),
    (
        "course/claims.py",
        "    text = repr(value)\n",
        "    text = repr(value) + __file__\n",
        "claims.py:91: only course.services knows where the files are",
    ),
    (
        "09_small.py",
        '    note("took 3 ms")\n',
        "    note(__file__)\n",
        "09_small.py:74: a lesson does not know its file",
    ),
    (
        "course/claims.py",
        "LONGEST = 120",
        'LONGEST = 12\nif __name__ == "__main__":\n    LONGEST = 120',
        "claims.py:10: a module of course/ is not a program",
    ),
    (
        "course/errors.py",
        "from __future__ import annotations\n",
        "",
        "errors.py: needs the lesson's `from __future__`",
    ),
    (
        "course/errors.py",
        "from __future__ import annotations\n",
        "from __future__ import annotations\nfrom course.console import check\n",
        "09_small.py: a circle of imports: "
        "course.console -> course.betting -> course.bets -> course.errors "
        "-> course.console",
    ),
]


@pytest.mark.parametrize(
    ("file", "old", "new", "complaint"), REFUSED, ids=[row[3] for row in REFUSED]
)
def test_what_would_mean_something_else_in_one_file_is_refused(
    project: Path, file: str, old: str, new: str, complaint: str
) -> None:
    change(project / file, old, new)
    with pytest.raises(tool.CannotInline) as refused:
        single_file_of(project)
    got, _, text = str(refused.value).partition(": ")
    want, _, expected = complaint.partition(": ")
    assert text == expected
    assert got.partition(":")[0] == want.partition(":")[0]
    assert (":" in got) == (":" in want)  # the line, where there is one


def test_the_same_import_twice_and_the_integrated_part_are_fine(project: Path) -> None:
    change(project / "09_small.py", "import os\n", "import os\nimport threading\n")
    old = "    raise Skip("
    new = "    from course.integrated.shop import run as run_all\n    raise Skip("
    change(project / "09_small.py", old, new)
    text = single_file_of(project)
    assert text.count("import threading\n") == 1
    assert "from course.integrated.shop import run as run_all" in text


def test_a_script_that_cannot_be_written_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text('"""Wrong."""\n\nimport course.errors\n')
    assert tool.main(["--into", str(tmp_path / "dist"), str(wrong)]) == 1
    seen = capsys.readouterr()
    assert seen.err == "wrong.py:3: write `from course.errors import name`\n"
    assert not (tmp_path / "dist").exists()


# The lessons


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that `make standalone` writes, far from course/."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, str(ROOT / "tools" / "standalone.py")]
    done = subprocess.run(
        [*command, "--into", str(folder)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == len(SCRIPTS)
    return folder


def alone(dist: Path, script: Path, empty: Path) -> Path:
    """Return the single file of a lesson, with its data, in an empty folder."""
    copied = shutil.copy(dist / script.name, empty)
    if script.name.startswith("05"):
        shutil.copytree(dist / "data", empty / "data")
    return Path(copied)


@every_script
def test_a_single_file_prints_what_the_lesson_prints(
    script: Path, dist: Path, tmp_path: Path
) -> None:
    copied = alone(dist, script, tmp_path)
    before = {path.name for path in tmp_path.iterdir()}
    done = run(copied, "--offline", cwd=tmp_path)
    assert done.stdout == (folder_of(script.name[:2]) / "golden.txt").read_text("utf-8")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == before


@every_script
def test_a_single_file_has_no_name_that_nobody_defines(
    script: Path, dist: Path
) -> None:
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--quiet"]
    found = subprocess.run(
        [*command, "--select", "F821,F811,F822", str(dist / script.name)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.returncode, found.stdout) == (0, "")


def test_integrated_needs_the_repository(dist: Path, tmp_path: Path) -> None:
    copied = alone(dist, path_of("05"), tmp_path)
    done = run(copied, "--integrated", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "repository" in done.stderr
