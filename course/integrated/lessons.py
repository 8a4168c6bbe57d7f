"""The five lessons as modules. They are scripts, so each is loaded by its path."""

from __future__ import annotations

import importlib.util
import sys
from argparse import Namespace
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from course.errors import BadInput
from course.services import PROJECT

CARRIES = {
    "01": "SQL",
    "02": "MongoDB",
    "03": "Redis",
    "04": "RabbitMQ",
    "05": "the analytics",
}


def lesson_path(number: str) -> Path:
    """Return where a lesson is; BadInput if it is not beside the others."""
    for path in PROJECT.glob(f"{number}_*.py"):
        return path
    carries = CARRIES[number]
    raise BadInput(
        f"--integrated needs lesson {number}: no {number}_*.py here, "
        f"which carries the hops of {carries}"
    )


def load_lesson(number: str) -> Any:
    """Return a lesson as a module; BadInput if it or what it needs is absent."""
    name = f"module8_lesson_{number}"
    if name in sys.modules:
        return sys.modules[name]
    path = lesson_path(number)
    spec: Any = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    # Before it runs: SQLAlchemy looks the annotations of Mapped[] up there.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as missing:
        del sys.modules[name]
        hint = "pip install -r requirements.txt"
        raise BadInput(f"{path.name} needs {missing.name}: {hint}") from None
    return module


@dataclass(frozen=True)
class Lessons:
    """The five lessons, each by what it teaches.

    Their names are used in one module each: sql.py, documents.py, cache.py, broker.py
    and analytics.py. Nothing else here depends on how a lesson is written.
    """

    sql: Any
    documents: Any
    caching: Any
    messaging: Any
    analytics: Any


def load_lessons() -> Lessons:
    """Return all five lessons; BadInput names the first that cannot be loaded."""
    return Lessons(
        sql=load_lesson("01"),
        documents=load_lesson("02"),
        caching=load_lesson("03"),
        messaging=load_lesson("04"),
        analytics=load_lesson("05"),
    )


@dataclass(frozen=True)
class BackEnds:
    """What the demos of lessons 01 to 04 run on: a real service, or its stand-in."""

    sql: Any
    documents: Any
    caching: Any
    messaging: Any

    @property
    def all(self) -> list[Any]:
        """Return all four."""
        return [self.sql, self.documents, self.caching, self.messaging]

    @property
    def live(self) -> dict[str, bool]:
        """Tell of each store whether a real service answers."""
        return {
            "SQL": self.sql.live,
            "MongoDB": self.documents.live,
            "Redis": self.caching.live,
            "RabbitMQ": self.messaging.live,
        }

    @property
    def backend(self) -> str:
        """Return the first line of a run: who answers, of all four."""
        return "; ".join(env.backend for env in self.all)


def open_back_end(module: Any, args: Namespace, stack: ExitStack) -> Any:
    """Open what the demos of a lesson run on, as the lesson itself does."""
    options = []
    if args.offline:
        options.append("--offline")
    if args.require_live:
        options.append("--require-live")
    if getattr(args, "sweep", False):
        options.append("--sweep")
    if limit := getattr(args, "connect_timeout", None):
        options += ["--connect-timeout", str(limit)]
    asked = module.lesson.parser().parse_args(options)
    return stack.enter_context(module.lesson.open_env(asked))


def open_back_ends(lessons: Lessons, args: Namespace, stack: ExitStack) -> BackEnds:
    """Open the four services, each or its stand-in; they close with the stack."""
    return BackEnds(
        sql=open_back_end(lessons.sql, args, stack),
        documents=open_back_end(lessons.documents, args, stack),
        caching=open_back_end(lessons.caching, args, stack),
        messaging=open_back_end(lessons.messaging, args, stack),
    )
