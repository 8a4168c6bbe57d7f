"""How tests load, run and mutate the lessons, whose names are no module names."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted(ROOT.glob("0[1-5]_*.py"))
VARIABLES = ("DATABASE_URL", "MONGODB_URI", "REDIS_URL", "RABBITMQ_URL")
RUN_LIMIT = 120.0  # seconds; a lesson takes five, a busy machine more


@dataclass(frozen=True)
class Mutation:
    """A change of the script's text that must make the claim fail.

    `claim` is the text behind `[ok]`, as the golden file has it; `old` stands exactly
    `times` in the script. `live` mutations run on the real service (the claim is made
    only there), the others offline. Where the loss shows as an error before the claim
    is reached, `error` is its name.
    """

    demo: str
    claim: str
    old: str
    new: str
    times: int = 1
    live: bool = False
    error: str = ""


def path_of(number: str) -> Path:
    """Return the path of a lesson by its number, such as "03"."""
    return next(path for path in SCRIPTS if path.name.startswith(number))


def folder_of(number: str) -> Path:
    """Return the folder of a lesson's tests."""
    return Path(__file__).parent / f"lesson_{number}"


def load(number: str, source: str | None = None) -> Any:
    """Import a lesson by its number, or a mutated text of it, as a fresh module."""
    path = path_of(number)
    name = f"lesson{number}" if source is None else f"lesson{number}_mutated"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    module: ModuleType = importlib.util.module_from_spec(spec)
    # Before it is executed: SQLAlchemy looks the annotations of Mapped[] up there.
    sys.modules[name] = module
    text = path.read_text("utf-8") if source is None else source
    exec(compile(text, str(path), "exec"), module.__dict__)
    return module


def run(
    script: Path, *args: str, cwd: Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a lesson as a user does: a process of its own, no input, no variables set."""
    clean = {name: text for name, text in os.environ.items() if name not in VARIABLES}
    return subprocess.run(
        [sys.executable, str(script), *args],
        cwd=cwd,
        env=clean | dict.fromkeys(VARIABLES, "") | (env or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=RUN_LIMIT,
        check=False,
    )
