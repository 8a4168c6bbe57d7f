"""A project with one small exercise and one small lesson, in a folder of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from lessons import ROOT

from exercises import sample

NAMES = ("03_2_larger_half", "03_10_other_half", "01_4_third_half")


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that each test gets a copy of."""
    project = tmp_path_factory.mktemp("practice") / "project"
    unwanted = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "course", project / "course", ignore=unwanted)
    shutil.copy2(ROOT / "practice.py", project)
    tests = project / "tests"
    for name in NAMES:
        folder = project / "exercises" / name
        folder.mkdir(parents=True)
        files = {
            "task.md": sample.TASK,
            "answer.py": sample.STUB,
            "check.py": sample.CHECK,
            "hints.md": sample.HINTS,
            "after.md": sample.AFTER,
        }
        for file, text in files.items():
            (folder / file).write_text(text, "utf-8")
        for kind, text in ("stubs", sample.STUB), ("solutions", sample.RIGHT):
            aside = tests / "exercises" / kind / f"{name}.py"
            aside.parent.mkdir(parents=True, exist_ok=True)
            aside.write_text(text, "utf-8")
    shutil.copy2(ROOT / "tests" / "lessons.py", tests)
    (project / "03_small.py").write_text(sample.LESSON, "utf-8")
    (tests / "lesson_03").mkdir()
    (tests / "lesson_03" / "mutations.py").write_text(sample.MUTATIONS, "utf-8")
    return project


@pytest.fixture
def project(pristine: Path, tmp_path: Path) -> Path:
    """Return a project that the test may change."""
    copy = tmp_path / "project"
    shutil.copytree(pristine, copy)
    return copy


@pytest.fixture
def answer_with(project: Path) -> Callable[[str | bytes], Path]:
    """Return what writes the answer of the first exercise of lesson 03."""

    def write(text: str | bytes) -> Path:
        path = project / "exercises" / NAMES[0] / "answer.py"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write
