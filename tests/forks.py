"""Runs a script in a fork of a Python that has imported the packages already.

To start Python and import SQLAlchemy, redis-py, pika and NumPy costs more than most of
what tests ask of a lesson, and a whole run asks a thousand times. The fork imports all
that is the project's own, has its own arguments, variables, working folder and files,
and ends as any Python does. Nothing is forked that has threads of ours.

Run as a program, this is the process that forks: a line of JSON for each script comes
over the socket at file descriptor 0, with the files that it is to write to.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType

PACKAGES = (
    "alembic.operations",
    "dotenv",
    "fakeredis",
    "mongomock",
    "numpy",
    "pika",
    "psycopg",
    "pymongo",
    "redis",
    "rich.progress",
    "sqlalchemy.orm",
)
# Python, the C library and OpenBLAS look at these once, at the start.
AT_START = ("PYTHON", "COV", "LC_", "LANG", "LD_", "TZ", "OMP_", "OPENBLAS_")
START_LIMIT = 120.0  # seconds, in which the packages are imported, too
LONGEST = 1 << 20  # bytes of a request


class Forks:
    """The process that forks, and how to ask it; for one caller at a time each."""

    def __init__(self) -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.lock = threading.Lock()
        self.started = subprocess.Popen(
            [sys.executable, __file__], stdin=theirs.fileno(), start_new_session=True
        )
        theirs.close()

    def close(self) -> None:
        """Let the process end: it sees that nobody can ask it any more."""
        self.socket.close()
        self.started.wait(60)

    def run(
        self, argv: Sequence[str], cwd: str, env: Mapping[str, str], limit: float
    ) -> subprocess.CompletedProcess[str]:
        """Run a script to its end; return its exit code and what it printed.

        Raises:
            subprocess.TimeoutExpired: it took longer than the limit, and was killed.
        """
        request = json.dumps({"argv": list(argv), "cwd": cwd, "env": dict(env)})
        answers, theirs = socket.socketpair()
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, answers:
            files = [out.fileno(), err.fileno(), theirs.fileno()]
            with theirs, self.lock:
                socket.send_fds(self.socket, [request.encode()], files)
            answers.settimeout(START_LIMIT)
            child = 0
            try:
                with answers.makefile("r") as lines:
                    child = int(lines.readline())
                    answers.settimeout(limit)
                    status = int(lines.readline())
            except TimeoutError:
                raise subprocess.TimeoutExpired(list(argv), limit) from None
            finally:
                if sys.exc_info()[0] and child:
                    with suppress(ProcessLookupError):
                        os.kill(child, signal.SIGKILL)
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode("utf-8").replace("\r\n", "\n"))
        code = os.waitstatus_to_exitcode(status)
        return subprocess.CompletedProcess([*argv], code, *texts)


@cache
def forks() -> Forks:
    """Return the one of this process."""
    found = Forks()
    atexit.register(found.close)
    return found


def may_fork(env: Mapping[str, str]) -> bool:
    """Tell whether scripts are forked: in a worker of a whole run, as it is worth it.

    Not where a variable is set that is read only when a program starts, nor on macOS,
    whose own libraries may have threads.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ or sys.platform != "linux":
        return False
    if any(name.startswith("COV") for name in os.environ):
        return False
    changed = {name for name, text in env.items() if os.environ.get(name) != text}
    return not any(name.startswith(AT_START) for name in changed)


def serve() -> None:
    """Fork for each request, until nobody can ask any more."""
    requests = socket.socket(fileno=os.dup(0))
    for name in PACKAGES:
        with suppress(ImportError):
            importlib.import_module(name)
    gc.freeze()  # what is shared with all forks
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those in between
    while True:
        text, files, _, _ = socket.recv_fds(requests, LONGEST, 3)
        if not text:
            return
        if os.fork() == 0:
            requests.close()
            begin(json.loads(text), *files)
            return
        for file in files:
            os.close(file)


def begin(request: dict[str, object], out: int, err: int, answers: int) -> None:
    """Fork once more, and become the script there; here, tell how that ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if child:
        with suppress(OSError):  # nobody wants to know any more
            os.write(answers, b"%d\n" % child)
            _, status = os.waitpid(child, 0)
            os.write(answers, b"%d\n" % status)
        os._exit(0)
    os.close(answers)
    for number, file in enumerate((os.open(os.devnull, os.O_RDONLY), out, err)):
        os.dup2(file, number)
        os.close(file)
    become(**request)  # type: ignore[arg-type]


def become(argv: list[str], cwd: str, env: dict[str, str]) -> None:
    """Be the script, as if Python had been started with it."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = argv
    script = Path(cwd) / argv[0]
    sys.path[0] = str(script.resolve().parent)
    main = ModuleType("__main__")
    main.__file__ = str(script)
    sys.modules["__main__"] = main
    code = compile(script.read_bytes(), str(script), "exec")
    exec(code, main.__dict__)


if __name__ == "__main__":
    serve()
