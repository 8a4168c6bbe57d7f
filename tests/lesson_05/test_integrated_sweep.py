"""What `05 --integrated` and `05 --sweep` open: with which limit, and how it closes."""

from __future__ import annotations

import os
import signal
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest

from course.ending import Ended, ending_well, interruptible
from course.integrated.cleaning import sweep_all
from course.integrated.lessons import Lessons, load_lesson, open_back_end


class Backend:
    """A back end on which nothing has been left."""

    backend = "none"
    live = True

    def leftovers(self) -> list[Any]:
        return []


class Module:
    """A lesson whose back end is ended by a signal as it begins to close."""

    def __init__(self) -> None:
        self.lesson = self
        self.closed = 0
        self.asked = Namespace()
        self.parser = load_lesson("01").lesson.parser

    @contextmanager
    def open_env(self, asked: Namespace) -> Iterator[Backend]:
        self.asked = asked
        try:
            yield Backend()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
            self.closed += 1


def arguments() -> Namespace:
    return Namespace(
        offline=False, require_live=False, sweep=True, yes=False, connect_timeout=7.5
    )


@pytest.mark.skipif(sys.platform == "win32", reason="platform: signals differ")
def test_a_signal_while_a_sweep_closes_leaves_nothing() -> None:
    module = Module()
    lessons = Lessons(module, module, module, module, None)
    with suppress(Ended), ending_well(), interruptible():
        sweep_all(lessons, arguments())
    assert module.closed == 4


def test_the_time_to_connect_reaches_the_lessons() -> None:
    seen = []

    class Silent(Module):
        @contextmanager
        def open_env(self, asked: Namespace) -> Iterator[Backend]:
            seen.append(asked.connect_timeout)
            yield Backend()

    with ExitStack() as stack:
        open_back_end(Silent(), arguments(), stack)
    assert seen == [7.5]
