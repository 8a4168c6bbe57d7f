"""A small lesson that shows everything a lesson can do, in a folder of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from lessons import ROOT

SMALL_LESSON = '''\
"""A small lesson: what the console does with every kind of demo.

Run:     python 09_small.py
"""

# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "python-dotenv>=1.2.2,<2",
#     "rich>=13.7,<16",
# ]
# ///

from __future__ import annotations

import course.start  # noqa: F401, I001  (first: it says in one line what is missing)

import os
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from course.claims import more_than
from course.console import Lesson, check, fact, note, table, write
from course.errors import BadInput, Skip
from course.services import address_of


@dataclass
class Env:
    """Who answers."""

    backend: str
    live: bool


@contextmanager
def open_env(args: Namespace) -> Iterator[Env]:
    """Say where it looked, and say when it is over."""
    address = address_of(args, "SMALL_URL", "small://default")
    if "bad" in address.url:
        raise BadInput(f"{address.source}: {address.url} is no address")
    try:
        yield Env(f"a small one at {address.source}", live=address.named)
    finally:
        print("closed", file=sys.stderr)


lesson = Lesson("A small lesson", open_env)


# %% [markdown]
# ## 1. Loading: one query instead of three

# %%
@lesson.demo
def loading(env: Env) -> None:
    """Loading: one query instead of three"""
    queries = {"lazy": 3, "joined": 1}
    table(("way", "queries"), *queries.items())
    expected = {"lazy": more_than(2), "joined": 1}
    check("three queries lazy, one joined", queries, expected)


# %% [markdown]
# ## 2. Skipping: a point that cannot be shown

# %%
@lesson.demo
def skipping(env: Env) -> None:
    """Skipping: a point that cannot be shown"""
    fact("backend", env.backend)
    note("took 3 ms")
    raise Skip("this back end has no such thing")


# %% [markdown]
# ## 3. Odd ends: what the environment asks for

# %%
@lesson.demo
def odd_end(env: Env) -> None:
    """Odd ends: what the environment asks for"""
    wish = os.environ.get("SMALL_END", "")
    if wish == "claim":
        check("two is three", 2, 3)
    if wish == "error":
        raise LookupError("nothing at redis://user:s3cr3t@host/0")
    if wish == "bad":
        raise BadInput("small://user:s3cr3t@host has no such table")
    if wish == "interrupt":
        raise KeyboardInterrupt
    if wish == "wait":
        print("waiting", flush=True)
        time.sleep(60)
    if wish == "much":
        for number in range(100_000):
            write(f"line {number}")


# %%
def main(argv: list[str] | None = None) -> int:
    """Teach, with the options of the command line; return the exit code."""
    return lesson.main(argv)


lesson.finish(__name__, main)  # a script: its exit code; a notebook: the tally
'''


@pytest.fixture(scope="session")
def small_lesson(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of a lesson that lies beside a copy of course/."""
    folder = tmp_path_factory.mktemp("small")
    unwanted = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "course", folder / "course", ignore=unwanted)
    script = folder / "09_small.py"
    script.write_text(SMALL_LESSON, "utf-8")
    return script
