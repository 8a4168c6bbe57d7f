"""Runs tests and demos in forks of this process, which has imported what is not ours.

To start Python, pytest and the libraries takes longer than most of the tests do.
"""

from __future__ import annotations

import importlib
import os
import runpy
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType

from tools.mutants_finding import ROOT

# No plugins of pytest: those it has to import itself.
LIBRARIES = (
    "alembic.command",
    "fakeredis",
    "mongomock",
    "multiprocessing.managers",
    "numpy",
    "pandas",
    "pika",
    "psycopg",
    "pyarrow",
    "pymongo",
    "pytest",
    "redis",
    "sqlalchemy.orm",
)
SERVICES = ("DATABASE_URL", "MONGODB_URI", "REDIS_URL", "RABBITMQ_URL")
LOOKS = 0.02  # seconds between two looks at a fork


def prepare() -> None:
    """Import the libraries that lessons and tests use."""
    for name in LIBRARIES:
        with suppress(ImportError):
            importlib.import_module(name)


def is_ours(module: ModuleType) -> bool:
    """Tell whether a module is of the project, which a copy has its own of."""
    path = Path(getattr(module, "__file__", None) or "/")
    return path.is_relative_to(ROOT) and not path.is_relative_to(ROOT / ".venv")


def become(folder: Path, env: Mapping[str, str], output: Path) -> None:
    """Let this process, a fork, be one that was started in a folder."""
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, source in enumerate((nothing, file, file)):
        os.dup2(source, number)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", buffering=1, closefd=False)
    for name in [name for name, module in sys.modules.items() if is_ours(module)]:
        del sys.modules[name]
    # Of its own: the tool that forked is ours, too, and some look at what was started.
    sys.modules["__main__"] = ModuleType("__main__")
    not_there = {"", str(ROOT), str(ROOT / "tools")}
    sys.path[:] = [str(folder), *(one for one in sys.path if one not in not_there)]
    sys.dont_write_bytecode = False  # most of the copy never changes
    importlib.invalidate_caches()


def in_fork(
    work: Callable[[], int], folder: Path, env: Mapping[str, str], limit: float
) -> tuple[int | None, str]:
    """Do some work in a fork; return its exit code, None if late, and what it printed.

    Nothing that this process does at its end is done in the fork.
    """
    output = folder / "t" / "output"
    sys.stdout.flush()
    with warnings.catch_warnings():  # libraries may have threads, which wait
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        code: int | None = 70
        try:
            become(folder, env, output)
            code = work()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            with suppress(Exception):
                sys.stdout.flush()
            os._exit(code or 0)
    latest = time.monotonic() + limit
    ended, status = 0, 0
    try:
        while not ended and time.monotonic() < latest:
            ended, status = os.waitpid(child, os.WNOHANG)
            if not ended:
                time.sleep(LOOKS)
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)
        if not ended:
            os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status) if ended else None
    return code, output.read_text("utf-8", errors="replace")


def tests(arguments: Sequence[str]) -> Callable[[], int]:
    """Return the work of running pytest."""

    def work() -> int:
        import pytest  # noqa: PLC0415

        return int(pytest.main([*arguments]))

    return work


def demo(script: str, options: Sequence[str]) -> Callable[[], int]:
    """Return the work of running a lesson, or a demo of it, without its service."""

    def work() -> int:
        os.environ.update(dict.fromkeys(SERVICES, ""))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        sys.argv = [script, *options]
        runpy.run_path(script, run_name="__main__")
        return 0

    return work
