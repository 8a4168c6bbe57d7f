"""How a tool ends by a signal: with all that it has started, and with one line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from course.ending import (  # noqa: E402
    as_ended,
    complain,
    ending_well,
    give_up_stdout,
    interruptible,
)

STOP_LIMIT = 20.0  # seconds for a lesson to clean up


def run_to_its_end(tool: Callable[[], int]) -> int:
    """Run a tool, which signals end where it says `interruptible`; return its code."""
    try:
        with ending_well():
            return tool()
    except KeyboardInterrupt as interrupt:
        end = as_ended(interrupt)
        complain(f"{Path(sys.argv[0]).name}: ended {end}")
        return end.code
    except BrokenPipeError:  # the reader, such as head, has seen enough
        give_up_stdout()
        return 141


def watched(process: subprocess.Popen[str], work: Callable[[], None]) -> None:
    """Do something while a process runs; if that is ended, so is the process."""
    try:
        with interruptible():
            work()
    except BaseException:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=STOP_LIMIT)
        process.kill()  # nothing, if it has ended
        raise
