"""Worker processes: started, replaced when they die, and let go at the end."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from dataclasses import replace

from course.integrated.lessons import lesson_path
from course.integrated.task import LIMIT, Task

MOST_DEATHS = 5  # of a run; more than --chaos and a curious reader bring about


class Staff:
    """The workers. Each consumes until its stdin ends: also if we are killed."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.deaths = 0
        self.workers: list[subprocess.Popen[str]] = []

    def hire(self, dies_after: int = 0) -> subprocess.Popen[str]:
        """Start a worker, which may have to die after so many orders."""
        command = [sys.executable, str(lesson_path("05")), "--as-worker"]
        # In a session of its own it does not hear a Ctrl-C that is meant for us.
        worker = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, text=True, start_new_session=True
        )
        self.workers.append(worker)
        task = replace(self.task, dies_after=dies_after)
        with suppress(BrokenPipeError):  # it is dead, as replace_dead() will find
            print(task.to_json(), file=worker.stdin, flush=True)
        return worker

    def replace_dead(self) -> None:
        """Start a worker for each that has died; RuntimeError if that goes on."""
        dead = [worker for worker in self.workers if worker.poll() is not None]
        self.deaths += len(dead)
        if self.deaths > MOST_DEATHS:
            raise RuntimeError("workers end by themselves")
        for worker in dead:
            self.workers.remove(worker)
            self.hire()

    def dismiss(self) -> None:
        """Let the workers finish what they have begun."""
        for worker in self.workers:
            with suppress(BrokenPipeError, subprocess.TimeoutExpired):
                worker.communicate(timeout=LIMIT)
            worker.kill()
            worker.wait()
        self.workers = []
