"""What the private servers of the tests are asked of the system."""

import subprocess
import sys
from pathlib import Path

import pytest
from services import numbered, states_of

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/task").is_dir(), reason="platform: needs /proc"
)


def test_a_process_that_has_ended_has_no_threads() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    threads = Path("/proc", str(process.pid), "task")
    process.wait(30)
    assert numbered(threads) == []


def test_processes_that_end_meanwhile_do_not_disturb() -> None:
    """Shells that start and end others by the hundred, while all are looked at."""
    command = "for i in $(seq 1000); do /bin/true & done; wait"
    shell = subprocess.Popen(["sh", "-c", command], start_new_session=True)
    while shell.poll() is None:
        assert states_of(shell.pid) <= set("DIRSXZ")
    assert states_of(shell.pid) == set()
