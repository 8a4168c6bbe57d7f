"""Worker processes: started, replaced when they die, and let go at the end."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress

from course.console import was_cut_off
from course.integrated.lessons import lesson_path
from course.integrated.task import LIMIT, Task

SHORT_LIMIT = 5.0  # seconds for workers whose service may be gone
MOST_DEATHS = 5  # of a run; more than --chaos and a curious reader bring about


class Staff:
    """The workers. Each consumes until its stdin ends: also if we are killed."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.exit_codes: list[int] = []  # of those that died
        self.workers: list[subprocess.Popen[str]] = []

    def hire(self) -> None:
        """Start a worker."""
        command = [sys.executable, str(lesson_path("05")), "--as-worker"]
        # In a session of its own it does not hear a Ctrl-C that is meant for us.
        worker = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, text=True, start_new_session=True
        )
        self.workers.append(worker)
        with suppress(BrokenPipeError):  # it is dead, as replace_dead() will find
            print(self.task.to_json(), file=worker.stdin, flush=True)

    def replace_dead(self) -> None:
        """Start a worker for each that has died; RuntimeError if that goes on."""
        dead = [worker for worker in self.workers if worker.poll() is not None]
        codes = [worker.returncode for worker in dead]
        self.exit_codes += codes
        deaths = len(self.exit_codes)
        if deaths > MOST_DEATHS:
            last = ", ".join(map(str, codes))
            died = f"{deaths} have died, the last with exit code {last}"
            raise RuntimeError(f"workers end by themselves: {died}")
        for worker in dead:
            self.workers.remove(worker)
            self.hire()

    def dismiss(self) -> None:
        """Let the workers finish what they have begun; not for long in a bad run."""
        deadline = time.monotonic() + (SHORT_LIMIT if was_cut_off() else LIMIT)
        for worker in self.workers:
            if worker.stdin:
                with suppress(OSError):  # it is dead
                    worker.stdin.close()
        for worker in self.workers:
            with suppress(subprocess.TimeoutExpired):
                worker.wait(max(0.0, deadline - time.monotonic()))
            worker.kill()
            worker.wait()
        self.workers = []
