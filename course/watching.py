"""Whether the service of a run still answers, asked beside its demos."""

from __future__ import annotations

import threading
import time
from typing import Any, Self

from course.ending import ENDING

PERIOD = 2.0  # seconds between two questions
PATIENCE = 30.0  # seconds without an answer: a busy server may be slow, not lost
LEAST_TRIES = 3  # that it takes at least: a laptop may have slept


def silence_of(env: Any) -> str:
    """Ask a service once; return why it does not answer, or nothing.

    A back end that can be asked has a method `ask`, which raises if nobody answers.
    """
    ask = getattr(env, "ask", None)
    if ask is None or not env.live:
        return ""
    try:
        ask()
    except Exception as error:
        return type(error).__name__
    return ""


def lost(env: Any) -> str:
    """Return the sentence about a service that is lost."""
    return f"{env.backend} does not answer any more"


def absence_of(env: Any) -> str:
    """Ask a service, after something has failed; return that it is lost, or nothing."""
    for _ in range(LEAST_TRIES):
        if not silence_of(env):
            return ""
        time.sleep(0.2)
    return lost(env)


class Watch:
    """Ends the run when its service has not answered for a while."""

    def __init__(self, env: Any, patience: float = PATIENCE) -> None:
        self.env = env
        self.patience = patience
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def __enter__(self) -> Self:
        if getattr(self.env, "ask", None) and self.env.live and ENDING.has_alarm:
            self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()

    def watch(self) -> None:
        """Ask every now and then, until the block is over or the service lost."""
        heard = time.monotonic()
        failures = 0
        while not self.over.wait(PERIOD):
            if not silence_of(self.env):
                heard = time.monotonic()
                failures = 0
                continue
            failures += 1
            silent = time.monotonic() - heard
            if (
                failures >= LEAST_TRIES
                and silent > self.patience
                and not self.over.is_set()
            ):
                ENDING.lose(lost(self.env))
                return
