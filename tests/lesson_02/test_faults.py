"""Lesson 02 while its server is killed, frozen and restarted: all accounted for."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import bson
import pymongo
import pytest
from lessons import ROOT, load, path_of, run
from pymongo import monitoring
from pymongo.errors import (
    AutoReconnect,
    ConnectionFailure,
    PyMongoError,
    WaitQueueTimeoutError,
)
from services import Server, wait_for

from course.mongo.connection import connect
from course.mongo.seed import make_user

SCRIPT = path_of("02")
lesson = load("02")


@pytest.fixture
def env(private_mongo: Server) -> Iterator[Any]:
    if private_mongo.process is None:
        private_mongo.start()
    given = {"offline": False, "require_live": True, "url": private_mongo.url}
    with lesson.open_env(argparse.Namespace(**given)) as found:
        yield found


def armed(env: Any, app: str, times: int = 1, **fault: Any) -> None:
    """Let the next commands of an application meet a fault."""
    data = {"appName": app} | fault
    mode = {"times": times}
    command = {"configureFailPoint": "failCommand", "mode": mode, "data": data}
    env.db.client.admin.command(command)


class Log(monitoring.CommandListener):
    def __init__(self) -> None:
        self.numbers: list[int | None] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if event.command_name == "insert":
            self.numbers.append(event.command.get("txnNumber"))

    def succeeded(self, event: object) -> None:
        pass

    failed = succeeded


def test_an_insert_cut_off_is_sent_again_under_its_number(env: Any) -> None:
    log = Log()
    with connect(env.url, log, appname="module8-cut") as client:
        armed(env, "module8-cut", failCommands=["insert"], closeConnection=True)
        client[env.db.name]["orders"].insert_one({"_id": 1})
    assert len(log.numbers) == 2
    assert len(set(log.numbers)) == 1
    assert [row["_id"] for row in env.db["orders"].find()] == [1]


def test_under_timeout_ms_an_insert_is_sent_again_until_the_deadline(env: Any) -> None:
    log = Log()
    with connect(env.url, log, appname="module8-again") as client:
        fault = {"failCommands": ["insert"], "closeConnection": True}
        armed(env, "module8-again", times=5, **fault)
        client[env.db.name]["orders"].insert_one({"_id": 3})
    assert len(log.numbers) == 6
    assert len(set(log.numbers)) == 1
    assert env.db["orders"].count_documents({"_id": 3}) == 1
    log = Log()
    with connect(env.url, log, timeoutMS=None, appname="module8-once-more") as client:
        armed(env, "module8-once-more", times=5, **fault)
        with pytest.raises(AutoReconnect):
            client[env.db.name]["orders"].insert_one({"_id": 4})
    assert len(log.numbers) == 2


def test_what_is_acknowledged_survives_a_kill(env: Any, private_mongo: Server) -> None:
    """The journal: without it, a server that is killed may lose all of these."""
    rows = [{"_id": number} for number in range(500)]
    env.db["kept"].insert_many(rows)
    private_mongo.kill()
    private_mongo.start()
    assert env.db["kept"].count_documents({}) == 500


def test_a_batch_of_more_than_a_message_is_all_or_named(env: Any) -> None:
    """PyMongo sends 48 MB at a time: a bad document comes when some are stored."""
    env.fresh()
    text = "x" * 1_000_000
    users: list[Any] = [make_user(number) | {"bio": text} for number in range(1, 61)]
    env.db.drop_collection("users")  # and its validator with it
    users[55]["bio"] = {1, 2}
    with pytest.raises(bson.errors.InvalidDocument):
        env.db["naive"].insert_many(users, ordered=False)
    assert 0 < env.db["naive"].count_documents({}) < 55
    report = lesson.UserManager(env.db).bulk_insert_users(users)
    assert (report.inserted, report.repeated) == (59, 0)
    assert report.rejected == [(55, "bio: no BSON for set")]
    again = lesson.UserManager(env.db).bulk_insert_users(users)
    assert (again.inserted, again.repeated) == (0, 59)


def test_without_retries_an_insert_that_is_cut_off_is_lost(env: Any) -> None:
    log = Log()
    options: Any = {"appname": "module8-once", "retryWrites": False}
    with connect(env.url, log, **options) as client:
        armed(env, "module8-once", failCommands=["insert"], closeConnection=True)
        with pytest.raises(AutoReconnect):
            client[env.db.name]["orders"].insert_one({"_id": 2})
    assert log.numbers == [None]  # sent once, without a txnNumber
    assert env.db["orders"].count_documents({"_id": 2}) == 0


def test_update_many_is_not_retried(env: Any) -> None:
    env.db["orders"].insert_many([{"_id": number, "n": 0} for number in range(3)])
    with connect(env.url, Log(), appname="module8-many") as client:
        armed(env, "module8-many", failCommands=["update"], closeConnection=True)
        with pytest.raises(AutoReconnect):
            client[env.db.name]["orders"].update_many({}, {"$inc": {"n": 1}})
    assert {row["n"] for row in env.db["orders"].find()} == {0}


def test_a_pool_that_is_used_up_says_so(env: Any) -> None:
    options: Any = {
        "appname": "module8-pool",
        "maxPoolSize": 1,
        "waitQueueTimeoutMS": 200,
    }
    # With timeoutMS the whole operation is bounded instead, the queue included.
    with connect(env.url, Log(), timeoutMS=None, **options) as client:
        client.admin.command("ping")
        armed(
            env,
            "module8-pool",
            failCommands=["find"],
            blockConnection=True,
            blockTimeMS=2_000,
        )
        busy = threading.Thread(target=client[env.db.name]["x"].find_one)
        busy.start()
        pool = next(iter(client._topology._servers.values())).pool
        wait_for(lambda: pool.active_sockets == 1)
        with pytest.raises(WaitQueueTimeoutError):
            client.admin.command("ping")
        busy.join(10)


def test_a_frozen_server_is_waited_for_so_long_and_no_longer(
    env: Any, private_mongo: Server
) -> None:
    env.fresh(users=3)
    private_mongo.freeze()
    try:
        waited = threading.Event()

        def ask() -> None:
            with suppress(PyMongoError), pymongo.timeout(0.5):
                env.db["users"].find_one()
            waited.set()

        asking = threading.Thread(target=ask)
        asking.start()
        assert waited.wait(10)
        asking.join(10)
        done = run(SCRIPT, "--require-live", "--url", private_mongo.url)
        assert done.returncode == 3
        assert "no answer in 1 s" in done.stdout
    finally:
        private_mongo.thaw()
    assert env.db["users"].count_documents({}) == 3


def test_a_load_goes_on_where_a_killed_server_stopped_it(
    env: Any, private_mongo: Server
) -> None:
    env.fresh()
    users = [make_user(number) for number in range(1, 3_001)]
    manager = lesson.UserManager(env.db)
    confirmed = manager.bulk_insert_users(users[:500], batch=100).inserted

    def kill_when_half_way() -> None:
        with pymongo.MongoClient[Any](private_mongo.url) as client:
            count = client[env.db.name]["users"].count_documents
            wait_for(lambda: count({}) >= 1_000, 60)
        private_mongo.kill()

    killer = threading.Thread(target=kill_when_half_way)
    killer.start()
    with pymongo.timeout(5), pytest.raises(ConnectionFailure):
        manager.bulk_insert_users(users, batch=100)
    killer.join(60)
    private_mongo.start()
    there = env.db["users"].count_documents({})
    assert confirmed <= there < 3_000
    report = manager.bulk_insert_users(users, batch=100)
    assert (report.inserted, report.repeated) == (3_000 - there, there)
    assert report.rejected == []
    ids = [user["_id"] for user in env.db["users"].find({}, {"_id": 1}).sort("_id", 1)]
    assert ids == list(range(1, 3_001))


def test_an_export_goes_on_where_a_killed_server_stopped_it(
    env: Any, private_mongo: Server, tmp_path: Path
) -> None:
    env.fresh(events=1_000)
    processor, path = lesson.DataProcessor(env.db), tmp_path / "events.bson"

    def kill(written: int) -> None:
        if written == 300:
            private_mongo.kill()

    with pymongo.timeout(3), pytest.raises(ConnectionFailure):
        processor.export_data_for_analysis(path, 100, kill)
    assert len(bson.decode_all(path.read_bytes())) == 300
    private_mongo.start()
    assert processor.export_data_for_analysis(path, 100) == 700
    rows = bson.decode_all(path.read_bytes())
    assert [row["_id"] for row in rows] == list(range(1, 1_001))


EXPORTER = """
import sys, pathlib
sys.path.insert(0, {tests!r})
import lessons
lesson = lessons.load("02")
from course.mongo.connection import connect
from course.mongo.counting import CommandCounter
client = connect({url!r}, CommandCounter())
lesson.DataProcessor(client[{name!r}]).export_data_for_analysis(
    pathlib.Path({path!r}), page=20)
"""


def test_an_export_killed_by_sigkill_writes_each_document_once(
    env: Any, tmp_path: Path
) -> None:
    env.fresh(events=2_000)
    path = tmp_path / "events.bson"
    names = {"tests": str(ROOT / "tests"), "url": env.url, "name": env.db.name}
    program = EXPORTER.format(**names, path=str(path))
    for size in (40_000, 150_000, 300_000):
        with subprocess.Popen([sys.executable, "-c", program]) as child:
            wait_for(lambda size=size: path.exists() and path.stat().st_size > size, 60)  # type: ignore[misc]
            child.kill()
    whole = path.stat().st_size
    with path.open("ab") as file:  # a write that the kill has torn
        file.write(bson.encode({"_id": 5, "a": 1})[:9])
    assert whole > 0
    lesson.DataProcessor(env.db).export_data_for_analysis(path)
    ids = [row["_id"] for row in bson.decode_all(path.read_bytes())]
    assert ids == list(range(1, 2_001))


def test_wrong_credentials_get_one_line(private_mongo: Server) -> None:
    if private_mongo.process is None:
        private_mongo.start()
    options: dict[str, Any] = {"serverSelectionTimeoutMS": 5_000}
    with pymongo.MongoClient[Any](private_mongo.url, **options) as client:
        client.admin.command("createUser", "ann", pwd="s3cr3t", roles=["root"])
    private_mongo.signal(signal.SIGTERM)  # a killed one forgets users just made
    assert private_mongo.process
    private_mongo.process.wait(20)
    private_mongo.kill()
    private_mongo.argv.append("--auth")
    address = private_mongo.url.removeprefix("mongodb://")
    try:
        private_mongo.start()
        for user in ("ann:wr0ng@", "bob:s3cr3t@", ""):
            url = f"mongodb://{user}{address}"
            done = run(SCRIPT, "--only", "validators", "--url", url)
            assert (done.returncode, done.stdout) == (2, ""), done.stdout
            assert len(done.stderr.splitlines()) == 1
            assert "authSource" in done.stderr
            assert "s3cr3t" not in done.stderr
            assert "wr0ng" not in done.stderr
        done = run(
            SCRIPT, "--only", "validators", "--url", f"mongodb://ann:s3cr3t@{address}"
        )
        assert done.returncode == 0, done.stderr
        assert "s3cr3t" not in done.stdout
    finally:
        private_mongo.kill()
        private_mongo.argv.remove("--auth")
