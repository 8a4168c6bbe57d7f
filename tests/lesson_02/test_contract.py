"""Lesson 02 on mongomock and on a server: the same tests, and the same answers."""

from __future__ import annotations

import argparse
import random
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bson
import pymongo
import pytest
from lessons import load, path_of, run
from pymongo.errors import OperationFailure

from course.lab import start_together
from course.mongo.complaints import verdict
from course.mongo.deployment import created
from course.mongo.reference import days_of
from course.mongo.seed import BARE_EVENT, END, KYIV, START, make_user

SCRIPT = path_of("02")
GOLDEN = Path(__file__).with_name("golden.txt")
MUTATIONS = Path(__file__).with_name("mutations.py").read_text()
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
        assert (stand_in.live, live.live) == (False, True)
        yield stand_in, live


def test_a_live_run_claims_all_that_the_stand_in_claims_and_more(
    mongo_url: str,
) -> None:
    with opened(mongo_url) as found:
        mongodb, client = found.mongodb, found.db.client
        before = set(client.list_database_names())
    done = run(SCRIPT, "--require-live", "--url", mongo_url)
    assert done.returncode == 0, done.stdout
    golden = GOLDEN.read_text("utf-8").splitlines()[2:-1]
    common = [line for line in golden if not line.startswith("  [skip]")]
    printed = done.stdout.splitlines()
    if mongodb:  # which runs JavaScript, unless its owner has switched that off
        common = [line for line in common if '"$where"' not in line]
    assert [line for line in common if line not in printed] == []
    assert "[skip]" not in done.stdout
    claims = re.findall(r"^  \[ok\] (.*)$", done.stdout, re.MULTILINE)
    assert claims
    assert [claim for claim in claims if claim not in MUTATIONS] == []
    with pymongo.MongoClient[Any](mongo_url) as client:
        assert set(client.list_database_names()) <= before | {"admin", "local"}


# What may be tried on a sound event: each change alone, and some together.
CHANGES: list[dict[str, Any]] = [
    {"user_id": value} for value in (0, 2**31, 2**40, -1, 1.0, True, "7", None, [7])
]
CHANGES += [{"metadata": {"price": value}} for value in (0, 1.5, -1, "1", True, None)]
CHANGES += [{"user_id": value} for value in (uuid.UUID(int=7), bson.ObjectId(), b"7")]
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
        event = BARE_EVENT | change
        stand_in, live = (verdict(env.db["events"], event) for env in both)
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
    processor.summarize_days(START, END)
    near = places.find_events_near_location(*KYIV, 8, limit=50)
    return {
        "distribution": tracker.get_event_distribution(START, END),
        "none": tracker.get_event_distribution(END, END),
        "activity": tracker.get_user_activity_metrics(20),
        "purchases": tracker.get_purchase_analytics(),
        "names": tracker.latest_with_names(30),
        "daily": list(env.db["daily"].find().sort("_id", 1)),
        "cohorts": processor.calculate_cohort_metrics(),
        "sql": users.find_users_by_interest("sql", limit=5),
        "subscribed": [
            users.add_subscription(user, plan, START)
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
        users: list[Any] = [make_user(n) for n in range(1, 9)]
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
    env.db["events"].insert_one(BARE_EVENT | {"_id": 0.5})  # a number like the others
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
    age = datetime.now(UTC) - event["timestamp"]
    assert timedelta(0) <= age < timedelta(minutes=1)
    assert event["timestamp"].microsecond % 1000 == 0
    with pytest.raises(pymongo.errors.WriteError):
        tracker.log_event(-1, "purchase")


def test_a_deployment_that_comes_second_does_not_fail(
    env: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    env.fresh()
    # What it sees if another one creates the collections right after its look.
    monkeypatch.setattr(env.db, "list_collections", list, raising=False)
    assert lesson.MongoDBManager(env.db).create_collections_with_schema() == []


@pytest.mark.parametrize("code", [48, 13])  # NamespaceExists, Unauthorized
def test_a_collection_made_in_between_is_no_error(
    env: Any, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: Any, **_options: Any) -> None:
        raise OperationFailure("refused", code)

    monkeypatch.setattr(env.db, "create_collection", refuse, raising=False)
    if code == 48:
        assert not created(env.db, "users", {})
    else:
        with pytest.raises(OperationFailure):
            created(env.db, "users", {})


def test_seats_are_taken_one_by_one(env: Any) -> None:
    env.fresh()
    flights, seen = env.db["flights"], {"_id": 1, "taken": 0, "version": 0}
    flights.insert_one(seen)
    start_together([lambda: lesson.take_seat(flights, seen)] * 8)
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


def test_ordered_stops_at_the_first_complaint_and_unordered_goes_on(env: Any) -> None:
    env.fresh()
    rows = [{"_id": number} for number in (0, 1, 0, 3, 4, 1, 6, 7, 8, 9)]
    found = {}
    for ordered in (True, False):
        name = f"ordered{ordered}"
        with pytest.raises(pymongo.errors.BulkWriteError) as refusal:
            env.db[name].insert_many(rows, ordered=ordered)
        errors = refusal.value.details["writeErrors"]
        codes = [(error["index"], error["code"]) for error in errors]
        found[ordered] = (env.db[name].count_documents({}), codes)
    assert found == {
        True: (2, [(2, 11000)]),
        False: (8, [(2, 11000), (5, 11000)]),
    }


def test_a_late_event_is_in_once_its_day_is_run_again(env: Any) -> None:
    events = env.fresh(users=100, events=500)
    summaries = lesson.Summaries(env.db)
    summaries.summarize_days(START, END)
    before = list(env.db["daily"].find().sort("_id", 1))
    late = lesson.AN_EVENT | {"_id": 501, "timestamp": START}
    env.db["events"].insert_one(late)
    assert list(env.db["daily"].find().sort("_id", 1)) == before
    summaries.summarize_days(START, START + timedelta(days=1))
    after = list(env.db["daily"].find().sort("_id", 1))
    assert after == days_of([*events, late])
    assert after[1:] == before[1:]


@pytest.mark.parametrize("stages", [[], [{"$match": {}}]], ids=["alone", "matched"])
def test_groups_are_a_servers(env: Any, stages: list[Any]) -> None:
    """1 is 1.0 and not True; what is missing counts as null."""
    for value in (1, True, None, 1.0, 0, False, 1):
        env.db["values"].insert_one({"v": value})
    env.db["values"].insert_one({})
    total = {"$group": {"_id": "$v", "n": {"$sum": 1}}}
    facet = [*stages, {"$facet": {"groups": [total]}}]
    plain = list(env.db["values"].aggregate([*stages, total]))
    (faceted,) = env.db["values"].aggregate(facet)
    for rows in (plain, faceted["groups"]):
        counts = sorted((repr(row["_id"]), row["n"]) for row in rows)
        assert counts == [("0", 1), ("1", 3), ("False", 1), ("None", 2), ("True", 1)]
    env.db["values"].drop()
