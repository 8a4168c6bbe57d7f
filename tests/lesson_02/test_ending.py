"""How a run of lesson 02 on a server ends: with all that it made."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pymongo
import pytest
from conftest import absent
from ends import Run
from lessons import load, path_of
from programs import program
from pymongo import errors, monitoring
from services import Server, wait_for

from course.console import TALLY
from course.ending import ENDING
from course.lab import in_background
from course.mongo import leftovers
from course.mongo.leftovers import remove_collections, remove_database
from course.mongo.workplace import PrefixedDatabase
from course.naming import made_at
from course.network import FaultyNetwork

SCRIPT = path_of("02")

# Runs a script as if nothing listened on MongoDB's standard port.
ALONE = """
import runpy, socket, sys
connect = socket.create_connection
def refuse(address, *rest):
    if address[1] == 27017:
        raise ConnectionRefusedError
    return connect(address, *rest)
socket.create_connection = refuse
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="platform: signals differ")
@pytest.mark.parametrize("number", [0, signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_a_private_server_leaves_with_the_run(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not program("secantusd-py"):
        absent("secantusd-py is not installed")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("MONGODB_URI", "")
    with running("-c", ALONE, str(SCRIPT), "--only", "bulk") as process:
        assert process.stdout
        backend = process.stdout.readline()
        assert "SecantusDB" in backend and "not MongoDB" in backend
        assert len(list(tmp_path.glob("module8-*-mongo-*/data"))) == 1
        process.send_signal(number)  # 0 is none: it ends by itself
    assert process.returncode in ((-signal.SIGKILL, 130, 143) if number else (0,))
    # Its folder goes when the server has ended, and not before.
    servers = partial(tmp_path.glob, "module8-*-mongo-*")
    wait_for(lambda: not list(servers()), 20, "the server is still there")
    if number == signal.SIGKILL:  # after which nobody removes the folder of the run
        (left,) = tmp_path.iterdir()
        assert made_at(left.name) and not list(left.iterdir())
    else:
        assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="platform: no /proc here")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_signal_to_all_processes_leaves_nothing_that_a_sweep_would_miss(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as that of a service manager that stops a session."""
    if not program("secantusd-py"):
        absent("secantusd-py is not installed")
    run = Run("02", (), {}, tmp_path)
    monkeypatch.setenv(*run.mark.split("="))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("MONGODB_URI", "")
    with running("-c", ALONE, str(SCRIPT), "--only", "bulk") as process:
        assert process.stdout and "SecantusDB" in process.stdout.readline()
        for pid in run.processes():
            with suppress(ProcessLookupError):  # it has ended with one before it
                os.kill(pid, number)
    wait_for(lambda: not run.processes(), 20, f"left: {run.processes()}")
    left = [path.name for path in tmp_path.iterdir()]
    if number == signal.SIGKILL:
        assert len(left) == 2  # the run's and its server's
        assert all(map(made_at, left)), left
    else:
        assert left == []


@pytest.mark.skipif(sys.platform == "win32", reason="platform: signals differ")
def test_a_run_that_is_ended_takes_its_database_along(mongo_url: str) -> None:
    with pymongo.MongoClient[Any](mongo_url) as client:
        before = set(client.list_database_names())
        with running(str(SCRIPT), "--only", "bulk", "--url", mongo_url) as process:
            assert process.stdout and "backend: " in process.stdout.readline()
            wait_for(lambda: stored(client, before), 120)  # it inserts 10,000
            process.send_signal(signal.SIGTERM)
        assert process.returncode == 143
        time.sleep(1)  # in which an insert that was cut off would bring it back
        assert set(client.list_database_names()) <= before


def stored(client: pymongo.MongoClient[Any], before: set[str]) -> int:
    """Count the users in the databases that were not there before."""
    new = set(client.list_database_names()) - before
    return sum(client[name]["users"].count_documents({}) for name in new)


@contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[str]]:
    """Start a run; wait for its end in the end."""
    argv, pipe = [sys.executable, "-u", *command], subprocess.PIPE
    with subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
            process.communicate(timeout=240)
        finally:
            process.kill()


def test_what_a_failed_run_had_sent_does_not_bring_its_database_back(
    private_mongo: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a worker of `05 --integrated` that was killed in the midst of it."""
    monkeypatch.setattr(ENDING, "reason", None)
    monkeypatch.setitem(TALLY, "failed", 1)
    given = {"offline": False, "require_live": True, "url": private_mongo.url}
    over = threading.Event()
    with pymongo.MongoClient[Any](private_mongo.url) as other:
        with load("02").open_env(Namespace(**given)) as env:
            name = env.db.name

            def go_on() -> None:
                while not over.wait(0.05):
                    other[name]["late"].insert_one({})

            done = in_background(go_on)
            threading.Timer(1.0, over.set).start()
        done.result(20)
        assert name not in other.list_database_names()


class SwallowedAnswer(monitoring.CommandListener):
    """Has a network keep the answer to the first drop to itself."""

    def __init__(self, network: FaultyNetwork) -> None:
        self.network = network
        self.drops = 0

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if event.command_name in ("drop", "dropDatabase"):
            self.drops += 1
            if self.drops == 1:
                self.network.spoilt.append(lambda _: (b"", True))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Nothing to do."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Nothing to do."""


@pytest.mark.parametrize("whole", [False, True], ids=["collections", "database"])
def test_a_drop_whose_answer_does_not_come_is_sent_again(
    whole: bool, mongo_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    database, prefix = "drop_in_time", "module8_in_time_"
    (host, port), *_ = pymongo.uri_parser.parse_uri(mongo_url)["nodelist"]
    with (
        pymongo.MongoClient[Any](mongo_url) as ours,
        FaultyNetwork(host, port) as network,
    ):
        swallowed = SwallowedAnswer(network)

        def reach() -> pymongo.MongoClient[Any]:
            return pymongo.MongoClient(
                f"mongodb://127.0.0.1:{network.port}/?directConnection=true",
                event_listeners=[swallowed],
                serverMonitoringMode="poll",
                heartbeatFrequencyMS=60_000,
            )

        try:
            for name in ("one", "another"):
                ours[database][prefix + name].insert_one({})
            ours[database]["theirs"].insert_one({})
            run = pymongo.MongoClient[Any](mongo_url)
            if whole:
                remove_database(run, database, reach, f"MongoDB at {host}")
            else:
                place = PrefixedDatabase(run, database, prefix)
                remove_collections(run, place, reach, f"MongoDB at {host}")
            left = [] if whole else ["theirs"]
            assert ours[database].list_collection_names() == left
            assert swallowed.drops >= 2
            assert capsys.readouterr().err == ""
        finally:
            ours.drop_database(database)


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (errors.NetworkTimeout("timed out"), True),
        (errors.ExecutionTimeout("would exceed time limit", 50), True),
        (errors.WaitQueueTimeoutError("no connection in time"), True),
        (errors.AutoReconnect("connection closed"), True),
        (errors.NotPrimaryError("another server leads"), True),
        (errors.ServerSelectionTimeoutError("connection refused"), False),
        (errors.OperationFailure("not authorized", 13), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_drop_is_sent_again_where_the_server_may_be_there(
    error: errors.PyMongoError, lost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = iter([error, None])
    asked = []

    def drop_collections(*_: object) -> None:
        asked.append(1)
        outcome = next(outcomes)
        if outcome:
            raise outcome

    monkeypatch.setattr(leftovers, "drop_collections", drop_collections)
    if lost:
        leftovers.drop_in_time(None, None)
    else:
        with pytest.raises(type(error)):
            leftovers.drop_in_time(None, None)
    assert len(asked) == 1 + lost
