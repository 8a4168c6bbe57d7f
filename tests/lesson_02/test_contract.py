"""Lesson 02 on mongomock and on a server: the same tests, and the same answers."""

from __future__ import annotations

import argparse
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pymongo
import pytest
from conftest import absent
from lessons import load, path_of, run
from pymongo.errors import OperationFailure
from services import program, wait_for

SCRIPT = path_of("02")
GOLDEN = Path(__file__).with_name("golden.txt")
MUTATIONS = Path(__file__).with_name("mutations.py").read_text()
ESR = "ordered equality, sort, range, it spares a sort"  # said on MongoDB only
lesson = load("02")


def opened(url: str | None) -> Any:
    given = {"offline": url is None, "require_live": url is not None, "url": url}
    return lesson.open_env(argparse.Namespace(**given))


@pytest.fixture(scope="module", params=["stand-in", "live"])
def env(request: pytest.FixtureRequest) -> Iterator[Any]:
    live = request.param == "live"
    with opened(request.getfixturevalue("mongo_url") if live else None) as found:
        assert found.live == live
        yield found


@pytest.fixture(scope="module")
def both(mongo_url: str) -> Iterator[tuple[Any, Any]]:
    with opened(None) as stand_in, opened(mongo_url) as live:
        yield stand_in, live


def test_a_live_run_claims_all_that_the_stand_in_claims_and_more(
    mongo_url: str,
) -> None:
    with opened(mongo_url) as found:
        mongodb, client = found.mongodb, found.db.client
        before = set(client.list_database_names())
    done = run(SCRIPT, "--require-live", "--url", mongo_url)
    assert done.returncode == 0, done.stdout
    golden = GOLDEN.read_text("utf-8").splitlines()[1:-1]
    common = [line for line in golden if not line.startswith("  [skip]")]
    printed = done.stdout.splitlines()
    if mongodb:  # which runs JavaScript, unless its owner has switched that off
        common = [line for line in common if "$where" not in line]
    assert [line for line in common if line not in printed] == []
    skips = re.findall(r"\[skip\] (.*)", done.stdout)
    assert len(skips) <= 2
    assert mongodb or skips == [
        "SecantusDB plans sorts as it likes: ESR is for MongoDB itself"
    ]
    claims = re.findall(r"^  \[ok\] (.*)$", done.stdout, re.MULTILINE)
    assert [claim for claim in claims if claim not in MUTATIONS] in ([], [ESR])
    with pymongo.MongoClient[Any](mongo_url) as client:
        assert set(client.list_database_names()) <= before | {"admin", "local"}


# What may be tried on a sound event: each change alone, and some together.
CHANGES: list[dict[str, Any]] = [
    {"user_id": value} for value in (0, 2**31, 2**40, -1, 1.0, True, "7", None)
]
CHANGES += [{"metadata": {"price": value}} for value in (0, 1.5, -1, "1", True, None)]
CHANGES += [
    {"event_type": "purchase"},
    {"event_type": "steal"},
    {"timestamp": "2025-06-01"},
    {"geo": {"type": "Point", "coordinates": [30.5, 50.4]}},
    {"geo": {"type": "Point", "coordinates": [30.5]}},
    {"geo": {"type": "Polygon", "coordinates": [30.5, 50.4]}},
    {"geo": {"coordinates": [30.5, 50.4]}},
    {"geo": {"type": "Point", "coordinates": [30, 50]}},
    {"session_info": {"device": ""}},
    {"session_info": {"device": "phone", "more": 1}},
    {"session_info": {"os": "linux"}},
    {"schema_version": 2},
    {"expires_at": 5},
    {"zz": 1, "yy": 2},
]


def test_validators_agree_with_the_server(both: tuple[Any, Any]) -> None:
    for env in both:
        env.fresh()
    chance = random.Random(2)
    tried = [
        *CHANGES,
        *({**chance.choice(CHANGES), **chance.choice(CHANGES)} for _ in range(40)),
    ]
    for change in tried:
        event = lesson.SOUND | change
        stand_in, live = (lesson.verdict(env.db["events"], event) for env in both)
        if change.get("zz"):  # which of two unknown ones it names is the checker's
            assert {"yy", "zz"} & set(stand_in.split(", ")), change
            assert {"yy", "zz"} & set(live.split(", ")), change
            continue
        assert stand_in == live, change


def answers(env: Any) -> dict[str, Any]:
    """Return what every method of the lesson says about the same data."""
    env.fresh()
    env.fresh(users=100, events=800, located=True)
    tracker, processor = lesson.EventTracker(env.db), lesson.DataProcessor(env.db)
    users, places = lesson.UserManager(env.db), lesson.GeoLocationManager(env.db)
    processor.summarize_days(lesson.START, lesson.END)
    near = places.find_events_near_location(*lesson.KYIV, 8, limit=50)
    return {
        "distribution": tracker.get_event_distribution(lesson.START, lesson.END),
        "none": tracker.get_event_distribution(lesson.END, lesson.END),
        "activity": tracker.get_user_activity_metrics(20),
        "purchases": tracker.get_purchase_analytics(),
        "names": tracker.latest_with_names(30),
        "daily": list(env.db["daily"].find().sort("_id", 1)),
        "cohorts": processor.calculate_cohort_metrics(),
        "sql": users.find_users_by_interest("sql", limit=5),
        "subscribed": [
            users.add_subscription(user, plan, lesson.START)
            for user in (1, 2)
            for plan in ("pro", "pro", "team")
        ],
        "user": env.db["users"].find_one({"_id": 1}),
        "near": [(row["_id"], round(row["metres"], 1)) for row in near],
    }


def test_every_answer_is_the_same(both: tuple[Any, Any]) -> None:
    stand_in, live = map(answers, both)
    assert live.keys() == stand_in.keys()
    for name, answer in stand_in.items():
        assert live[name] == answer, name


def test_exports_are_the_same_bytes(both: tuple[Any, Any], tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("stand-in", "live")]
    for env, path in zip(both, paths, strict=True):
        env.fresh(events=300)
        assert lesson.DataProcessor(env.db).export_data_for_analysis(path, 70) == 300
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_load_with_bad_documents_reports_the_same(both: tuple[Any, Any]) -> None:
    reports = []
    for env in both:
        env.fresh(users=3)
        users: list[Any] = [lesson.make_user(n) for n in range(1, 9)]
        users[4] |= {"email": "user1@example.org"}
        users[5] |= {"email": "nobody", "extra": 1}
        users[6] |= {"metrics": {"views": object()}}
        users[7] = None
        reports.append(lesson.UserManager(env.db).bulk_insert_users(users, batch=5))
        reports[-1].rejected.sort()
        assert env.db["users"].count_documents({}) == 4
    assert reports[0] == reports[1]
    assert (reports[0].inserted, reports[0].repeated) == (1, 3)
    assert [number for number, _ in reports[0].rejected] == [4, 5, 6, 7]


def test_every_collection_and_index_is_there_and_stays(env: Any) -> None:
    manager = lesson.MongoDBManager(env.db)
    for name in env.db.list_collection_names():
        env.db.drop_collection(name)
    done = manager.create_collections_with_schema()
    assert {"created users", "created events"} < set(done)
    assert manager.create_collections_with_schema() == []
    found = env.db["events"].index_information()
    assert {"timeline", "esr", "place", "bought", "expiry"} < found.keys()
    assert found["expiry"]["expireAfterSeconds"] == 0
    purchases = {"event_type": "purchase"}
    assert found["bought"]["partialFilterExpression"] == purchases
    assert list(found["place"]["key"]) == [("geo", "2dsphere")]
    indexes = env.db["users"].index_information()
    assert indexes["email"]["unique"] and indexes["username"]["unique"]


@pytest.mark.parametrize("rules", [{}, {"unique": True, "expireAfterSeconds": 5}])
def test_an_index_with_other_rules_is_no_silent_match(
    env: Any, rules: dict[str, Any]
) -> None:
    env.fresh()
    env.db["users"].drop_index("email")
    env.db["users"].create_index("email", name="email", **rules)
    with pytest.raises(OperationFailure):
        lesson.MongoDBManager(env.db).create_collections_with_schema()
    env.db["users"].drop_index("email")
    done = lesson.MongoDBManager(env.db).create_collections_with_schema()
    assert done == ["email"]


def test_purchases_of_any_price_are_counted(env: Any) -> None:
    events = env.fresh(events=200)
    tracker = lesson.EventTracker(env.db)
    before = tracker.get_purchase_analytics()["by_price"]
    tracker.log_event(1, "purchase")
    tracker.log_event(1, "purchase", metadata={"price": 2_000_000})
    after = {
        r["_id"]: r["orders"] for r in tracker.get_purchase_analytics()["by_price"]
    }
    sold = sum(event["event_type"] == "purchase" for event in events)
    assert sum(after.values()) == sold + 2
    assert after["no price"] == 1
    assert after[100] == {row["_id"]: row["orders"] for row in before}[100] + 1


def test_an_export_does_not_begin_where_ids_are_of_two_types(
    env: Any, tmp_path: Path
) -> None:
    env.fresh(events=10)
    export = lesson.DataProcessor(env.db).export_data_for_analysis
    assert export(tmp_path / "numbers", page=5) == 10
    key = lesson.EventTracker(env.db).log_event(1, "view")
    env.db["events"].insert_one(lesson.SOUND | {"_id": 0.5})  # a number like the others
    with pytest.raises(ValueError, match="two types: ObjectId and number"):
        export(tmp_path / "both", page=5)
    env.db["events"].delete_many({"_id": {"$ne": key}})
    with pytest.raises(ValueError, match="two types"):
        export(tmp_path / "numbers")
    assert export(tmp_path / "keys") == 1


def test_an_event_is_logged_now_in_utc(env: Any) -> None:
    env.fresh()
    tracker = lesson.EventTracker(env.db)
    key = tracker.log_event(2**40, "purchase", metadata={"price": 5})
    event = env.db["events"].find_one({"_id": key})
    age = lesson.datetime.now(lesson.UTC) - event["timestamp"]
    assert lesson.timedelta(0) <= age < lesson.timedelta(minutes=1)
    assert event["timestamp"].microsecond % 1000 == 0
    with pytest.raises(pymongo.errors.WriteError):
        tracker.log_event(-1, "purchase")


# --- On a server only ---------------------------------------------------------------


@pytest.fixture(scope="module")
def live(mongo_url: str) -> Iterator[Any]:
    with opened(mongo_url) as found:
        yield found


def test_running_totals_and_circles(live: Any) -> None:
    events = live.fresh(events=500, located=True)
    processor = lesson.DataProcessor(live.db)
    processor.summarize_days(lesson.START, lesson.END)
    daily = [row["revenue"] for row in live.db["daily"].find().sort("_id", 1)]
    assert processor.running_revenue() == [
        sum(daily[: n + 1]) for n in range(len(daily))
    ]
    for km in (1, 5, 20):
        inside = sum(lesson.haversine(event) <= 1_000 * km for event in events)
        manager = lesson.GeoLocationManager(live.db)
        assert manager.count_events_within(*lesson.KYIV, km) == inside


def test_two_collections_take_one_command(live: Any) -> None:
    """A bulk_write of the client, from MongoDB 8.0 on."""
    if live.db.client.server_info()["versionArray"] < [8]:
        pytest.skip("the server is older than 8.0")
    live.fresh()
    name = live.db.name

    # region client-bulk
    def store(client: pymongo.MongoClient[Any]) -> int:
        orders = [{"_id": number, "total": 10} for number in range(500)]
        writes: list[Any] = [
            pymongo.InsertOne(order, namespace=f"{name}.orders") for order in orders
        ]
        mail = {"text": "500 new orders"}
        writes.append(pymongo.InsertOne(mail, namespace=f"{name}.mails"))
        return client.bulk_write(writes, ordered=False).inserted_count

    # endregion client-bulk
    stored: list[int] = []
    assert live.counted(lambda: stored.append(store(live.db.client))) == 1
    counts = [live.db[each].count_documents({}) for each in ("orders", "mails")]
    assert (stored, counts) == ([501], [500, 1])


def test_a_database_that_is_not_there_is_named(live: Any, mongo_url: str) -> None:
    host, _, options = mongo_url.partition("?")
    for name, code in (("nowhere", 2), ("admin", 0)):
        url = f"{host.rstrip('/')}/{name}?{options}"
        done = run(SCRIPT, "--only", "validators", "--url", url)
        assert done.returncode == code, done.stderr
        if code:
            assert done.stdout == ""
            assert len(done.stderr.splitlines()) == 1
            assert "no database 'nowhere' on this server" in done.stderr


def test_seats_are_taken_one_by_one(env: Any) -> None:
    env.fresh()
    flights, seen = env.db["flights"], {"_id": 1, "taken": 0, "version": 0}
    flights.insert_one(seen)
    lesson.race(lambda: lesson.take_seat(flights, seen), 8)
    assert flights.find_one({"_id": 1}) == {"_id": 1, "taken": 8, "version": 8}


def test_an_honest_change_is_made_and_a_search_is_bounded(env: Any) -> None:
    users = env.db["members"]
    users.insert_many([{"username": name} for name in ("bob", "a" * 50, "ab")])
    lesson.change_settings(users, {"city": "Kyiv"})
    assert [user["username"] for user in users.find({"city": "Kyiv"})] == ["bob"]
    # Only 50 characters are searched for, so what is behind them finds no less.
    found = lesson.search_names(users, "a" * 50 + "b" * 100_000)
    assert [user["username"] for user in found] == ["a" * 50]
    assert len(lesson.search_names(users, "a")) == 2


def test_who_loses_the_race_of_two_upserts_counts_after_all(
    env: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = env.db["races"]
    pages.create_index("name", unique=True)
    update = type(pages).update_one

    def beaten(*_args: Any, **_options: Any) -> None:
        monkeypatch.setattr(type(pages), "update_one", update)  # this once
        lesson.count_visit(pages, "home")
        raise pymongo.errors.DuplicateKeyError("E11000", 11000)

    monkeypatch.setattr(type(pages), "update_one", beaten)
    lesson.count_visit(pages, "home")
    assert [page["visits"] for page in pages.find()] == [2]


def test_a_pipeline_as_an_update_is_real(live: Any) -> None:
    """The list body of the injection demo is no quirk of mongomock."""
    live.fresh()
    users = live.db["logins"]
    body = '[{"$set": {"role": "admin"}}]'
    assert lesson.outcome(users, lesson.change_naive, body) == "bob is admin"
    with pytest.raises(OperationFailure):
        users.find_one({"$no_such_operator": 1})


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


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ")
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
        assert len(list(tmp_path.glob("module8-mongo-*/data"))) == 1
        process.send_signal(number)  # 0 is none: it ends by itself
    assert process.returncode in ((-signal.SIGKILL, 130, 143) if number else (0,))
    # Its folder goes when the server has ended, and not before.
    wait_for(lambda: not list(tmp_path.iterdir()), 20, "the server is still there")


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ")
def test_a_run_that_is_ended_takes_its_database_along(mongo_url: str) -> None:
    with pymongo.MongoClient[Any](mongo_url) as client:
        before = set(client.list_database_names())
        with running(str(SCRIPT), "--only", "bulk", "--url", mongo_url) as process:
            assert process.stdout and "backend: " in process.stdout.readline()
            wait_for(lambda: stored(client, before))  # it inserts 10,000
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
            process.communicate(timeout=60)
        finally:
            process.kill()
