"""The hooks of pre-commit run in a fresh clone, where there is no .venv yet."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lessons import ROOT

pytest.importorskip("pre_commit", reason="it is in requirements-dev.txt")
yaml = pytest.importorskip("yaml", reason="pyyaml is in requirements-dev.txt")
CONFIG = ROOT / ".pre-commit-config.yaml"
NOT_CLONED = shutil.ignore_patterns(".git", ".venv", ".env", "dist", ".*cache")
INSTALL_LIMIT = 1800.0  # seconds
UNEXPECTED = 3  # exit code of pre-commit where it could not install a hook


def hooks() -> dict[str, Any]:
    """Return the hooks by their id."""
    (repository,) = yaml.safe_load(CONFIG.read_text("utf-8"))["repos"]
    return {hook["id"]: hook for hook in repository["hooks"]}


def run_hooks(folder: Path, *names: str) -> subprocess.CompletedProcess[str]:
    """Make a folder a repository and run hooks on all its files, from nothing."""
    clean = {k: text for k, text in os.environ.items() if not k.startswith("GIT_")}
    env = clean | {"PRE_COMMIT_HOME": str(folder.parent / "pre-commit")}
    for command in (["git", "init", "--quiet"], ["git", "add", "--all"]):
        subprocess.run(command, cwd=folder, env=env, check=True)
    done = None
    for name in names:
        done = subprocess.run(
            [sys.executable, "-m", "pre_commit", "run", "--all-files", name],
            cwd=folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=INSTALL_LIMIT,
            check=False,
        )
        if done.returncode == UNEXPECTED and os.environ.get("REQUIRE_LIVE") != "1":
            pytest.skip("no registry answers, so pre-commit cannot install its hooks")
        if done.returncode:
            break
    assert done
    return done


def test_the_hooks_have_the_versions_of_the_project() -> None:
    asked = (ROOT / "requirements-dev.txt").read_text("utf-8").splitlines()
    added = [hook.get("additional_dependencies", []) for hook in hooks().values()]
    names = {name for names in added for name in names}
    assert names
    assert names <= set(asked)


def test_no_hook_needs_what_only_make_has_made() -> None:
    for hook in hooks().values():
        program = hook["entry"].split()[0]
        made_by_pre_commit = hook["language"] == "python"
        assert made_by_pre_commit or program == "make"
        assert ".venv" not in hook["entry"]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
@pytest.mark.parametrize(
    ("text", "code"), [('"""Says one."""\n\nONE = 1\n', 0), ("import os\nONE=1\n", 1)]
)
def test_style_is_checked_without_a_virtual_environment(
    tmp_path: Path, text: str, code: int
) -> None:
    clone = tmp_path / "clone"
    clone.mkdir()
    for path in (CONFIG, ROOT / "pyproject.toml"):
        shutil.copy(path, clone)
    (clone / "module.py").write_text(text, "utf-8")
    done = run_hooks(clone, "lint", "format")
    assert done.returncode == code, done.stdout
    assert not (clone / ".venv").exists()


@pytest.mark.soak
@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_all_hooks_pass_in_a_fresh_clone(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    shutil.copytree(ROOT, clone, ignore=NOT_CLONED)
    done = run_hooks(clone, *hooks())
    assert done.returncode == 0, done.stdout
