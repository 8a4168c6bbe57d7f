"""Lesson 02's subject on a server only: plans, transactions, change streams."""

from __future__ import annotations

import argparse
import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import bson
import pymongo
import pytest
from conftest import absent
from lessons import load, path_of, run
from pymongo.errors import OperationFailure
from services import private

from course.mongo.connection import OPTIONS
from course.mongo.frames import visits_of_all_kinds
from course.mongo.plans import examined
from course.mongo.reference import haversine
from course.mongo.seed import END, KYIV, START

CHANGE_STREAM_FATAL = 280
CHANGE_STREAM_HISTORY_LOST = 286
SCRIPT = path_of("02")
lesson = load("02")


@pytest.fixture(scope="module")
def live(mongo_url: str) -> Iterator[Any]:
    given = {"offline": False, "require_live": True, "url": mongo_url}
    with lesson.open_env(argparse.Namespace(**given)) as found:
        yield found


def test_running_totals_and_circles(live: Any) -> None:
    events = live.fresh(events=500, located=True)
    lesson.DataProcessor(live.db).summarize_days(START, END)
    daily = [row["revenue"] for row in live.db["daily"].find().sort("_id", 1)]
    total = {"$sum": "$revenue", "window": {"documents": ["unbounded", "current"]}}
    pipeline = [
        {"$setWindowFields": {"sortBy": {"_id": 1}, "output": {"total": total}}},
        {"$sort": {"_id": 1}},
    ]
    totals = [row["total"] for row in live.db["daily"].aggregate(pipeline)]
    assert totals == list(itertools.accumulate(daily))
    for km in (1, 5, 20):
        inside = [event for event in events if haversine(event) <= 1_000 * km]
        manager = lesson.GeoLocationManager(live.db)
        assert manager.count_events_within(*KYIV, km) == len(inside)
        near = {"$geometry": lesson.point(*KYIV), "$maxDistance": 1_000 * km}
        found = live.db["events"].find({"geo": {"$near": near}})
        ids = {row["_id"] for row in found}
        assert ids == {event["_id"] for event in inside}


def test_two_collections_take_one_command(live: Any) -> None:
    """A bulk_write of the client, from MongoDB 8.0 on."""
    if live.db.client.server_info()["versionArray"] < [8]:
        pytest.skip("the server is older than 8.0")
    live.fresh()
    name = live.db.name

    def store(client: pymongo.MongoClient[Any]) -> int:
        orders = [{"_id": number, "total": 10} for number in range(500)]
        writes: list[Any] = [
            pymongo.InsertOne(order, namespace=f"{name}.orders") for order in orders
        ]
        mail = {"text": "500 new orders"}
        writes.append(pymongo.InsertOne(mail, namespace=f"{name}.mails"))
        return client.bulk_write(writes, ordered=False).inserted_count

    stored: list[int] = []
    assert live.counted(lambda: stored.append(store(live.db.client))) == 1
    counts = [live.db[each].count_documents({}) for each in ("orders", "mails")]
    assert (stored, counts) == ([501], [500, 1])


def test_a_database_that_is_not_there_is_no_error(live: Any, mongo_url: str) -> None:
    """No demo uses the database of the URL: it says where a user's login is."""
    host, _, options = mongo_url.partition("?")
    url = f"{host.rstrip('/')}/nowhere?{options}\n"  # as a file with a secret ends
    done = run(SCRIPT, "--only", "validators", "--url", url)
    assert done.returncode == 0, done.stderr
    assert "nowhere" not in live.db.client.list_database_names()


def test_a_pipeline_as_an_update_is_real(live: Any) -> None:
    """The list body of the injection demo is no quirk of mongomock."""
    live.fresh()
    users = live.db["logins"]
    body = '[{"$set": {"role": "admin"}}]'
    assert lesson.result_of(users, lesson.change_naive, body) == "bob is admin"
    with pytest.raises(OperationFailure):
        users.find_one({"$no_such_operator": 1})


def test_a_partial_index_serves_only_queries_that_repeat_its_filter(live: Any) -> None:
    events = live.fresh(events=1_000)
    books = {"metadata.category": "book"}
    sold = sum(
        event["metadata"]["category"] == "book" and event["event_type"] == "purchase"
        for event in events
    )
    find = live.db["events"].find
    assert examined(find(books).explain()) == ("COLLSCAN", 0, len(events))
    repeated = find(books | {"event_type": "purchase"})
    assert examined(repeated.explain()) == ("bought", sold, sold)


def test_ordered_equality_sort_range_an_index_spares_a_sort(live: Any) -> None:
    if not live.mongodb:
        pytest.skip(
            "platform: SecantusDB plans sorts as it likes: ESR is for MongoDB itself"
        )
    live.fresh(events=1_000)
    esr = lesson.ESR
    live.db["events"].create_index([esr[0], esr[2], esr[1]], name="ers")
    dear = {"event_type": "purchase", "metadata.price": {"$gte": 100}}
    latest = live.db["events"].find(dear).sort("timestamp", -1)
    for name, sorts in (("ers", True), ("esr", False)):
        winner = latest.clone().hint(name).explain()["queryPlanner"]["winningPlan"]
        assert ("'SORT'" in str(winner)) == sorts


# region write-skew
def ask_off(doctors: Any, session: Any, name: str, shared: bool) -> None:
    """Let a doctor go if another one stays on call."""
    if doctors.count_documents({"on_call": True}, session=session) > 1:
        if shared:  # snapshots conflict only where both write the same document
            doctors.update_one({"_id": "rota"}, {"$inc": {"n": 1}}, session=session)
        off = {"$set": {"on_call": False}}
        doctors.update_one({"_id": name}, off, session=session)


# endregion write-skew


@pytest.mark.parametrize(("shared", "left"), [(False, 0), (True, 1)])
def test_write_skew_leaves_nobody_on_call_and_a_shared_write_one(
    live: Any, shared: bool, left: int
) -> None:
    doctors = live.db[f"doctors{shared}"]
    rota = [{"_id": name, "on_call": name != "rota"} for name in ("ann", "bob", "rota")]
    doctors.insert_many(rota)
    client = live.db.client
    with client.start_session() as ann, client.start_session() as bob:
        ann.start_transaction()
        bob.start_transaction()
        ask_off(doctors, ann, "ann", shared)
        try:
            ask_off(doctors, bob, "bob", shared)
            ann.commit_transaction()
            bob.commit_transaction()
        except OperationFailure:  # TransientTransactionError: again from the start
            bob.abort_transaction()
            ann.commit_transaction()
            bob.with_transaction(lambda own: ask_off(doctors, own, "bob", shared))
    assert doctors.count_documents({"on_call": True}) == left


def test_a_stream_that_is_resumed_goes_on_and_a_new_one_begins_later(live: Any) -> None:
    feed = live.db.create_collection("feed")
    # region feed
    with feed.watch() as stream:
        feed.insert_many([{"_id": 1}, {"_id": 2}])
        first = stream.next()["documentKey"]["_id"]
        # Trap: stored before the change has had its effect, a crash loses that change.
        token = stream.resume_token
    feed.insert_one({"_id": 3})
    heard: dict[str, list[int]] = {"resumed": [], "new": []}
    with feed.watch(resume_after=token) as resumed, feed.watch() as new:
        feed.insert_one({"_id": 4})
        while 4 not in heard["resumed"]:
            heard["resumed"].append(resumed.next()["documentKey"]["_id"])
        while 4 not in heard["new"]:
            heard["new"].append(new.next()["documentKey"]["_id"])
    # endregion feed
    assert first == 1
    assert heard == {"resumed": [2, 3, 4], "new": [4]}


# region gone
def heard_since(feed: Any, token: Any) -> tuple[str, list[Any]]:
    """Return what was missed since a token: the changes, or all documents."""
    try:
        with feed.watch(resume_after=token) as stream:
            missed = []
            while (change := stream.try_next()) is not None:
                missed.append(change["documentKey"]["_id"])
            return "changes", missed
    except OperationFailure as error:
        if error.code not in (CHANGE_STREAM_HISTORY_LOST, CHANGE_STREAM_FATAL):
            raise
        # Trap: a new stream alone would pass over what happened in between. So
        # begin it first, then read everything; a change may come twice.
        with feed.watch():
            return "everything", sorted(feed.distinct("_id"))


# endregion gone


def test_a_token_that_is_gone_means_to_read_everything() -> None:
    """The oplog is short: what a token points to is gone after some writes (286)."""
    with private("mongo", "--oplog-max-entries", "20") as server:
        if server is None:
            absent("secantusd-py is not installed")
        assert server
        with pymongo.MongoClient[Any](server.url) as client:
            feed = client["module8_gone"]["feed"]
            with feed.watch() as stream:
                feed.insert_one({"_id": 0})
                stream.next()
                token = stream.resume_token
            feed.insert_one({"_id": 1})
            assert heard_since(feed, token) == ("changes", [1])
            # It forgets every thousand writes or so.
            feed.insert_many([{"_id": number} for number in range(2, 3_000)])
            feed.insert_one({"_id": 3_000})
            assert heard_since(feed, token) == ("everything", list(range(3_001)))


def test_a_frame_by_pymongoarrow_has_the_same_types(live: Any) -> None:
    """Faster, as it decodes in C; the schema names the fields, and so do we."""
    pyarrow: Any = pytest.importorskip("pyarrow")
    arrow: Any = pytest.importorskip("pymongoarrow.api")
    rows = visits_of_all_kinds()
    live.fresh()
    live.db["visits"].insert_many(rows)
    schema = arrow.Schema(
        {
            "_id": pyarrow.int64(),
            "timestamp": pyarrow.timestamp("ms", tz="UTC"),
            "metadata": {"seconds": pyarrow.int64(), "price": bson.Decimal128},
        }
    )
    found = arrow.find_arrow_all(live.db["visits"], {}, schema=schema).to_pylist()
    assert [row["metadata"]["seconds"] for row in found] == [None, 5, 2**53 + 1]
    assert {row["timestamp"] for row in found} == {START}


async def write_and_hear(url: str, name: str) -> list[str]:
    """Wait for a change and make it meanwhile; return the steps in their order."""
    steps = []
    async with pymongo.AsyncMongoClient[Any](url, **OPTIONS) as client:
        feed = client[name]["async_feed"]
        async with await feed.watch() as stream:

            async def hear() -> None:
                steps.append("waits")
                change = await stream.next()
                steps.append(f"hears {change['documentKey']['_id']}")

            hearing = asyncio.create_task(hear())
            await asyncio.sleep(0)  # let it begin
            steps.append("writes")
            await feed.insert_one({"_id": 5})
            await hearing
    return steps


def test_an_async_client_writes_while_it_waits(live: Any) -> None:
    live.db.create_collection("async_feed")
    steps = asyncio.run(write_and_hear(live.url, live.db.name))
    assert steps == ["waits", "writes", "hears 5"]


def test_a_second_attempt_is_what_keeps_a_transfer(live: Any) -> None:
    """with_transaction runs its body again after a conflict: more than 64 attempts."""
    live.fresh()
    attempts = []
    move = lesson.move

    def counted(*args: Any) -> None:
        attempts.append(args)
        move(*args)

    lesson.move = counted
    try:
        found = lesson.after_transfers(live.db, lesson.transfer)
    finally:
        lesson.move = move
    assert found == {"euro": 400, "moves": 64}
    assert len(attempts) > 80
