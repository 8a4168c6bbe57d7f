"""A small exercise and a small lesson for the tests, and answers of every kind."""

TASK = "# The larger half\nMinutes: 15\n\nSplit a list: see “halves” in section 2.\n"
HINTS = "## 1\nWhich half?\n\n## 2\nThe last one.\n\n## 3\nCount from the end.\n"
AFTER = "The lesson's own version uses a slice.\n"

STUB = '''\
"""The larger half of a list."""


def larger_half(items: list[int]) -> list[int]:
    """Return the last half of a list, the larger one where its length is odd."""
    raise NotImplementedError
'''

CHECK = '''\
"""Judges larger_half."""

import random
from types import ModuleType

from course.practice.checking import expect, expect_end, expect_error


def check(answer: ModuleType, rng: random.Random) -> None:
    """Try lists of an even and an odd length, an empty one, and no list."""
    half = expect_end("a list of two", lambda: answer.larger_half([1, 2]), 1, 30.0)
    expect("a list of two", half, [2], 1)
    items = [rng.randrange(1000) for _ in range(7)]
    half = answer.larger_half(items)
    about = {"length": len(half), "first": half[0], "type": type(half).__name__}
    expected = {"length": 4, "first": items[3], "type": "list"}
    expect("a list of seven", about, expected, 2)
    expect("an empty list", answer.larger_half([]), [], 3)
    expect_error("no list", TypeError, lambda: answer.larger_half(None), 3)
'''

BODY = "    raise NotImplementedError\n"


def answering(body: str, below: str = "") -> str:
    """Return the stub with another body, and with a text below it."""
    return STUB.replace(BODY, body) + below


RIGHT = answering("    return items[len(items) // 2 :]\n")
FIRST_HALF = answering("    return items[: len(items) // 2]\n")
SMALLER = answering("    return items[(len(items) + 1) // 2 :]\n")
NO_ERROR = answering("    items = items or []\n    return items[len(items) // 2 :]\n")
OTHER_ERROR = RIGHT.replace(
    "    return", '    if items is None:\n        raise KeyError("x")\n    return'
)
RAISES = answering("    middle = items[len(items)]\n    return [middle]\n")
IN_A_LIBRARY = answering('    import json\n\n    return json.loads("[")\n')
NOT_IN_A_LIBRARY = answering(
    "    import asyncio\n\n    asyncio.AbstractEventLoop().close()\n    return items\n"
)
LOOPS = answering("    while True:\n        pass\n")
DEADLOCK = answering(
    "    return items\n",
    "\n\nimport threading\n\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()\n",
)
NO_PYTHON = answering("    return items[\n")
NOT_INDENTED = answering("    items = []\n  return items\n")
NO_UTF_8 = RIGHT.encode() + b'NAME = "\xff"\n'
EXITS = answering("    raise SystemExit(0)\n")
ENDS_ITS_PROCESS = answering("    import os\n\n    os._exit(0)\n")
PRINTS = RIGHT.replace("    return", '    print("“half” of", items)\n    return')
NO_FUNCTION = RIGHT.replace("larger_half", "half")
RETURNS_NONE = answering("    return [2] if items == [1, 2] else None\n")
LEAVES_A_THREAD = (
    RIGHT + "\n\nimport threading\n\nthreading.Timer(600, print).start()\n"
)
LEAVES_A_PROCESS = f"""{RIGHT}

import subprocess
import sys

sleeping = [sys.executable, "-c", "import time; time.sleep(120)"]
print(subprocess.Popen(sleeping).pid)
"""
RAISES_WITHOUT_A_TEXT = (
    answering("    raise Untold\n")
    + """

class Untold(Exception):
    def __str__(self):
        raise KeyError(1)
"""
)
RETURNS_WITHOUT_A_TEXT = (
    answering("    return Untold()\n")
    + """

class Untold:
    def __repr__(self):
        raise KeyError(1)
"""
)
CHANGES_THE_CHECK = (
    answering("    return []\n")
    + """

from course.practice import checking

checking.expect = checking.expect_end = checking.expect_error = lambda *_: []
"""
)
IN_UTF_16 = RIGHT.encode("utf-16")
KILLS_ITSELF = answering("    import os\n\n    os.kill(os.getpid(), 9)\n")
PRINTS_FOR_EVER = answering('    while True:\n        print("again")\n')

LESSON = '''\
"""A small lesson with a mechanism that the bugs of its tests break."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from course.console import Lesson, check


@dataclass
class Env:
    """Nobody answers."""

    backend: str = "none"
    live: bool = False


@contextmanager
def open_env(args: Namespace) -> Iterator[Env]:
    """Open nothing."""
    yield Env()


lesson = Lesson("A small lesson", open_env)


# %% [markdown]
# ## 1. Doubling: twice as many

# %%
def doubled(number: int) -> int:
    """Return twice a number."""
    if number < 0:
        raise ValueError(number)
    return number * 2


# %% [markdown]
# ## 2. Claims: what it does

# %%
def outcome(number: int) -> object:
    """Return what doubled returns or raises."""
    try:
        return doubled(number)
    except ValueError:
        return "refused"


@lesson.demo
def doubling(env: Env) -> None:
    """Doubling: what it does"""
    seen = {"of 2": doubled(2), "of -1": outcome(-1)}
    check("2 doubled is 4, -1 is refused", seen, {"of 2": 4, "of -1": "refused"})


lesson.finish(__name__)
'''

MUTATIONS = """\
from lessons import Mutation

CLAIM = "2 doubled is 4, -1 is refused"
MUTATIONS = (
    Mutation("doubling", CLAIM, "number * 2", "number * 3"),
    Mutation("doubling", CLAIM, "number < 0", "number < -9"),
)
"""
