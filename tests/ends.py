"""Runs of lessons that are ended somehow, and what they have left behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lessons import ROOT, VARIABLES, path_of
from services import Server, wait_for

END_LIMIT = 60.0  # seconds; cleaning up takes at most ten for each server
TALLY = re.compile(r"^\d+ ok, \d+ skipped, \d+ failed$", re.MULTILINE)
NAMES_ON_BROKER = (
    "[element(4, element(2, X)) || X <- "
    "rabbit_amqqueue:list() ++ rabbit_exchange:list(<<$/>>)]."
)


@dataclass
class Run:
    """A lesson as a process of its own, with a temporary folder and a mark."""

    number: str
    options: tuple[str, ...]
    urls: Mapping[str, str]
    home: Path
    mark: str = field(default_factory=lambda: f"MODULE8_MARK={uuid.uuid4().hex}")
    stdout: Any = subprocess.PIPE
    stderr: Any = subprocess.PIPE
    root: Path = ROOT  # where the lessons are: a copy that a test has changed

    def start(self) -> subprocess.Popen[str]:
        """Start it in a session of its own: no terminal, no group of ours."""
        name, value = self.mark.split("=")
        env = os.environ | dict.fromkeys(VARIABLES, "") | dict(self.urls)
        env |= {"TMPDIR": str(self.home), name: value}
        command = [sys.executable, "-u", str(self.root / path_of(self.number).name)]
        command += [*self.options]
        self.process = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=self.stdout,
            stderr=self.stderr,
            text=True,
            start_new_session=True,
        )
        return self.process

    def end(self, limit: float = END_LIMIT) -> tuple[str, str]:
        """Wait for its end; return what it printed. No process of it may be left."""
        try:
            printed = self.process.communicate(timeout=limit)
        finally:
            self.process.kill()
            self.process.wait()
        wait_for(lambda: not self.processes(), 20, f"left: {self.processes()}")
        return printed

    def processes(self) -> set[int]:
        """Return the processes that it has started, and itself."""
        found = set()
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if self.mark.encode() in path.read_bytes():
                    found.add(int(path.parent.name))
            except OSError:
                continue
        return found

    def folders(self) -> list[str]:
        """Return what it has left in its temporary folder."""
        return sorted(path.name for path in self.home.iterdir())


def left_in_postgres(url: str) -> list[str]:
    """Return the schemas of runs."""
    import psycopg

    ask = r"SELECT nspname FROM pg_namespace WHERE nspname LIKE 'module8\_%'"
    with closing(psycopg.connect(url)) as connection:
        return [name for (name,) in connection.execute(ask).fetchall()]


def left_in_mongo(url: str) -> list[str]:
    """Return the databases of runs."""
    import pymongo

    with pymongo.MongoClient[dict[str, Any]](url) as client:
        names = client.list_database_names()
    return [name for name in names if name.startswith("module8")]


def left_in_redis(url: str) -> list[str]:
    """Return all keys: the server is private."""
    import redis

    with redis.Redis.from_url(url) as client:
        return [key.decode(errors="replace") for key in client.scan_iter("*", 1000)]


def left_in_rabbitmq(server: Server) -> list[str]:
    """Return the queues and exchanges of runs."""
    printed = server.ctl("eval", NAMES_ON_BROKER)
    return re.findall(r'<<"(module8[^"]*)">>', printed)


LEFT: dict[str, Callable[[Any], list[str]]] = {
    "DATABASE_URL": left_in_postgres,
    "MONGODB_URI": left_in_mongo,
    "REDIS_URL": left_in_redis,
}


def left_on(servers: Mapping[str, Server]) -> list[str]:
    """Return everything of ours on private servers, given by their variables."""
    found = []
    for variable, server in servers.items():
        if variable == "RABBITMQ_URL":
            found += left_in_rabbitmq(server)
        else:
            found += LEFT[variable](server.url)
    return found


@contextmanager
def running(
    number: str, *options: str, urls: Mapping[str, str], home: Path, **outputs: Any
) -> Iterator[Run]:
    """Start a run; whatever happens, none of it stays."""
    one = Run(number, options, urls, home, **outputs)
    one.start()
    try:
        yield one
    finally:
        one.process.kill()
        one.process.wait()
