"""SecantusDB, which speaks MongoDB's protocol, as a server for one run."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from course.lab import wait_until
from course.naming import new_name
from course.services import accepts_connections

# Runs a server in a folder of its own as long as the lesson's end of a pipe is open, so
# that neither outlives the lesson, even if that is killed. A signal that goes to all
# processes of a run ends the lesson, and by that this. If all are killed, the folder
# has a name that --sweep knows.
KEEPER = """
import signal, subprocess, sys, tempfile
for name in {"SIGINT", "SIGTERM", "SIGHUP"}.intersection(dir(signal)):
    signal.signal(getattr(signal, name), lambda *_: None)
with tempfile.TemporaryDirectory(prefix=sys.argv[1]) as folder:
    server = subprocess.Popen(sys.argv[2:], cwd=folder, stdin=subprocess.DEVNULL)
    sys.stdin.read()
    server.kill()
    server.wait()
"""


def secantusd() -> str | None:
    """Return the path of the server's program: beside this Python, or on the PATH."""
    beside = Path(sys.executable).with_name("secantusd-py")
    if beside.exists():
        return str(beside)
    return shutil.which("secantusd-py")


@contextmanager
def private_server() -> Iterator[str | None]:
    """Start a server on a free port; yield its URL, or None if it is not installed."""
    program = secantusd()
    if program is None:
        yield None
        return
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", KEEPER, f"{new_name('-')}-mongo-"]
    command += [program, "--port", str(port)]
    command += ["--storage-path", "data", "--enable-test-commands"]
    quiet: Any = dict.fromkeys(("stdout", "stderr"), subprocess.DEVNULL)
    # In a session of its own, it does not hear a Ctrl-C that is meant for us.
    with subprocess.Popen(  # noqa: S603
        command, stdin=subprocess.PIPE, start_new_session=True, **quiet
    ):
        with suppress(TimeoutError):  # the client will say that nobody answers
            wait_until(lambda: accepts_connections("127.0.0.1", port))
        # Its data goes with the run, so that no write need wait for the disk.
        yield f"mongodb://127.0.0.1:{port}/?journal=false"
