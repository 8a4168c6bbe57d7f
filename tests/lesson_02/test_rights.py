"""Lesson 02 with a login: as its owner, and as a user of few rights."""

from __future__ import annotations

import argparse
import hashlib
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pymongo
import pytest
from lessons import load, path_of, run
from mongo_rights import READ_WRITE, FewRights
from services import Server

from course.mongo.codec import RAW
from course.mongo.connection import connect
from course.mongo.counting import CommandCounter

SCRIPT = path_of("02")
lesson = load("02")
USER = "shop_app:s3cr3tpw@"
OWNER = "owner:s3cr3tpw@"


@pytest.fixture(scope="module")
def with_login(private_mongo: Server) -> Server:
    """A server that lets in who has a login, and checks nothing else."""
    if private_mongo.process is None:
        private_mongo.start()
    with pymongo.MongoClient[Any](private_mongo.url) as client:
        client.admin.command("createUser", "owner", pwd="s3cr3tpw", roles=["root"])
        roles = [{"role": "readWrite", "db": "shop"}]
        client["shop"].command("createUser", "shop_app", pwd="s3cr3tpw", roles=roles)
        every = [{"role": "readWriteAnyDatabase", "db": "admin"}]
        client.admin.command("createUser", "writer", pwd="s3cr3tpw", roles=every)
    private_mongo.signal(signal.SIGTERM)  # a killed one forgets users just made
    assert private_mongo.process
    private_mongo.process.wait(20)
    private_mongo.kill()
    private_mongo.argv.append("--auth")
    private_mongo.start()
    return private_mongo


@pytest.fixture
def shop(with_login: Server) -> Iterator[Any]:
    """A database with users and events of somebody else's."""
    url = f"mongodb://{OWNER}127.0.0.1:{with_login.port}/"
    with pymongo.MongoClient[Any](url) as client:
        client.drop_database("shop")
        db = client["shop"]
        schema = {"$jsonSchema": {"bsonType": "object", "required": ["mine"]}}
        for name in ("users", "events", "daily", "module8_users"):
            db.create_collection(name, validator=schema, validationAction="warn")
            db[name].create_index("mine", name="email", sparse=True)
            db[name].insert_many([{"_id": n, "mine": n} for n in range(50)])
        yield db


def state(db: Any) -> dict[str, Any]:
    """Return documents, validators and indexes, the documents byte for byte."""
    found = {}
    for row in db.list_collections():
        raw = db[row["name"]].with_options(RAW)
        data = b"".join(each.raw for each in raw.find().sort("_id", 1))
        digest = hashlib.sha256(data).hexdigest()
        indexes = db[row["name"]].index_information()
        found[row["name"]] = (row["options"], row["info"]["uuid"], indexes, digest)
    return found


def at(proxy: FewRights, database: str = "shop") -> str:
    return f"mongodb://{USER}127.0.0.1:{proxy.port}/{database}?directConnection=true"


@pytest.mark.parametrize(
    ("user", "demos", "claims"),
    [("shop_app", [], 25), ("writer", ["--only", "pipelines", "summaries"], 7)],
)
def test_a_user_of_few_rights_works_beside_what_is_there(
    with_login: Server, shop: Any, user: str, demos: list[str], claims: int
) -> None:
    """As the server itself enforces its roles; the second may write everywhere."""
    before, databases = state(shop), shop.client.list_database_names()
    source = "?authSource=admin" if user == "writer" else ""
    place = f"127.0.0.1:{with_login.port}/shop{source}"
    url = f"mongodb://{user}:s3cr3tpw@{place}"
    done = run(SCRIPT, "--require-live", *demos, "--url", url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[FAIL]" not in done.stdout
    assert done.stdout.count("[ok]") >= claims
    assert state(shop) == before, done.stderr  # which says what was left, and why
    assert shop.client.list_database_names() == databases
    assert "s3cr3tpw" not in done.stdout + done.stderr


def test_the_role_read_write_as_the_manual_has_it_is_enough(
    with_login: Server, shop: Any
) -> None:
    before, databases = state(shop), shop.client.list_database_names()
    with FewRights(with_login.port, "shop", READ_WRITE) as proxy:
        demos = ("--only", "versions", "geo", "concurrency")
        done = run(SCRIPT, "--require-live", *demos, "--url", at(proxy))
        refused = {name for name, _ in proxy.refused}
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[FAIL]" not in done.stdout
    skipped = [line for line in done.stdout.splitlines() if "[skip]" in line]
    assert skipped == ["  [skip] this user may not collMod: the role dbAdmin has it"]
    assert done.stdout.count("[ok]") >= 8
    assert refused <= {"listDatabases", "dropDatabase", "collMod"}
    assert state(shop) == before
    assert shop.client.list_database_names() == databases
    assert "s3cr3tpw" not in done.stdout + done.stderr


@pytest.mark.parametrize("right", sorted(READ_WRITE))
def test_a_right_that_is_missing_is_named(
    with_login: Server, shop: Any, right: str
) -> None:
    before = state(shop)
    with FewRights(with_login.port, "shop", READ_WRITE - {right}) as proxy:
        done = run(SCRIPT, "--only", "validators", "--url", at(proxy))
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert f"lacks the right {right} in the database 'shop'" in line
    assert "s3cr3tpw" not in line
    assert state(shop) == before


def test_without_a_database_in_the_url_one_is_asked_for(
    with_login: Server, shop: Any
) -> None:
    with FewRights(with_login.port, "shop", READ_WRITE) as proxy:
        url = at(proxy, "") + "&authSource=shop"
        done = run(SCRIPT, "--only", "validators", "--url", url)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "name one in the URL where it has readWrite" in line


def test_a_sweep_passes_over_what_its_user_may_not_list(
    with_login: Server, shop: Any
) -> None:
    before = state(shop)
    with FewRights(with_login.port, "shop", READ_WRITE) as proxy:
        done = run(SCRIPT, "--sweep", "--url", at(proxy))
        assert ("listDatabases", "admin") in proxy.refused
    assert done.returncode == 0, done.stderr
    assert state(shop) == before


def test_with_a_login_no_round_trip_is_counted_that_only_logs_in(
    with_login: Server,
) -> None:
    counter = CommandCounter()
    url = f"mongodb://{USER}127.0.0.1:{with_login.port}/shop"
    with connect(url, counter, maxIdleTimeMS=1) as client:
        for _ in range(3):
            client.admin.command("ping")
            time.sleep(0.05)  # in which the connection becomes too old
    assert counter.sent == 3


def test_an_owner_who_may_all_runs_every_demo(with_login: Server, shop: Any) -> None:
    before = state(shop)
    url = f"mongodb://{OWNER}127.0.0.1:{with_login.port}/"
    demos = ("--only", "versions", "concurrency")
    done = run(SCRIPT, "--require-live", *demos, "--url", url)
    assert done.returncode == 0, done.stdout
    assert "skip" not in done.stdout.splitlines()[-1].replace("0 skipped", "")
    assert state(shop) == before


def test_the_names_of_others_stay_hidden_in_a_prefixed_database(
    with_login: Server, shop: Any
) -> None:
    with FewRights(with_login.port, "shop", READ_WRITE) as proxy:
        given = {"offline": False, "require_live": True, "url": at(proxy)}
        with lesson.open_env(argparse.Namespace(**given)) as env:
            env.fresh(users=3)
            assert sorted(env.db.list_collection_names()) == ["events", "users"]
            assert env.db["users"].count_documents({}) == 3
            env.db["events"].insert_one(lesson.AN_EVENT | {"user_id": 1})
            lesson.DataProcessor(env.db).summarize_days(lesson.START, lesson.END)
            assert env.db["daily"].count_documents({}) == 1
            (row,) = lesson.EventTracker(env.db).latest_with_names(5)
            assert row["name"] == "user1"
            assert shop["daily"].count_documents({}) == 50


def test_a_sweep_removes_what_the_user_may_list(with_login: Server, shop: Any) -> None:
    made = datetime.now(UTC) - timedelta(hours=2)
    old = f"module8_{made:%Y%m%d%H%M%S}_0123abcd"
    shop[old].insert_one({})
    shop.client[old]["t"].insert_one({})  # the run of a user with more rights
    before = state(shop)
    with FewRights(with_login.port, "shop", READ_WRITE) as proxy:
        done = run(SCRIPT, "--sweep", "--yes", "--url", at(proxy))
        refused = {name for name, _ in proxy.refused}
    assert done.returncode == 0, done.stderr
    assert "  collection  " + old in done.stdout
    assert "  database  " not in done.stdout
    assert "listDatabases" in refused
    assert state(shop) == {name: one for name, one in before.items() if name != old}
    shop.client.drop_database(old)
