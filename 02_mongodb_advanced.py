"""Documents that hold: MongoDB, its traps, and what it takes to step over them.

You will see, in order: validators, two schema versions read as one, bulk writes that
lose nothing, pipelines, summaries, a sphere, an export that survives a crash, operator
injection, indexes, races and transactions, reliability.

Run:     python 02_mongodb_advanced.py [--list] [--only NAME ...] [--offline]
Service: MongoDB 5.0 or later at $MONGODB_URI (mongodb:// or mongodb+srv://), else at
         127.0.0.1:27017, else SecantusDB's secantusd-py, if installed, for this run.
         All happens in a database module8_<random>, dropped in the end.
Without: mongomock. What it lacks is emulated, as the first line says, or skipped: the
         planner, transactions, change streams, $geoWithin, running totals.
Runtime: 5 s without a server, 30 s on SecantusDB.  Guide: COMPREHENSIVE_GUIDE.md, 2.
"""

# /// script
# requires-python = ">=3.11"
# dependencies = ["pymongo>=4.18.1,<5", "mongomock>=4.3,<5", "python-dotenv>=1.2.2,<2",
#                 "rich>=13.7,<16"]
# ///

from __future__ import annotations

import argparse
import asyncio
import functools
import itertools
import json
import math
import operator
import os
import re
import socket
import tempfile
import threading
import time
import timeit
import tracemalloc
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, BinaryIO, cast

import bson
import pymongo
import pymongo.errors as err
from pymongo import IndexModel, UpdateOne

import course.start  # noqa: F401  (first: it says in one line what is missing)
from course.console import Lesson, check, fact, note, table
from course.errors import Skip
from course.mongo.codec import (
    CODEC,
    RAW,
    UNENCODABLE,
    Collection,
    Database,
    Document,
    unencodable,
)
from course.mongo.connection import OPTIONS, connect
from course.mongo.counting import CommandCounter
from course.mongo.environment import Env, open_database
from course.mongo.seed import (
    BARE_EVENT,
    END,
    KYIV,
    START,
    make_user,
    make_users,
)

BATCH = 1_000  # documents in one write command; a server takes up to 100,000
PAGE = 500  # documents in memory at once during an export
EARTH_KM = 6_378.1  # the radius of the sphere that MongoDB measures on
NUMERIC = (int, bson.Int64, float, bson.Decimal128)  # these compare with each other

# %% Vocabulary: what the documents look like


def typed(*kinds: str, **rules: Any) -> Document:
    """Return the $jsonSchema of a value."""
    return {"bsonType": list(kinds)} | rules


def record(required: str, /, **fields: Document) -> Document:
    """Return the $jsonSchema of an object with these fields and no others."""
    schema = typed("object", properties=fields, required=required.split())
    return schema | {"additionalProperties": False}


# PyMongo sends an int as int32 or, from 2**31 on, as int64: "int" alone is too narrow.
WHOLE = typed("int", "long", minimum=0)
NUMBER = typed("number", minimum=0)  # int, long, double or Decimal128
TEXT = typed("string", pattern="^.{1,200}$")
TEXTS = typed("array", items=TEXT)
WHEN = typed("date")
PLACE = typed("array", minItems=2, maxItems=2, items=typed("double"))
USER: Document = {
    "_id": WHOLE,
    "schema_version": {"enum": [1, 2]},
    "username": TEXT,
    "email": typed("string", pattern="^[^@ ]{1,99}@[^@ ]{1,99}$"),
    "created_at": WHEN,
    "interests": TEXTS,  # version 1; since version 2 in the profile
    "profile": record("interests", interests=TEXTS, expertise=TEXT, projects=WHOLE),
    "metrics": record("views", views=WHOLE, engagement=NUMBER),
    "subscriptions": typed("array", items=record("plan", plan=TEXT, since=WHEN)),
}
EVENT: Document = {
    "_id": {},
    "schema_version": {"enum": [1]},
    "user_id": WHOLE,
    "event_type": {"enum": ["view", "search", "cart", "purchase"]},
    "timestamp": WHEN,
    "metadata": typed("object", properties={"price": NUMBER}),  # and whatever else
    "geo": record("type coordinates", type={"enum": ["Point"]}, coordinates=PLACE),
    "session_info": record("device", device=TEXT, os=TEXT, app_version=TEXT),
    "expires_at": WHEN,
}
SCHEMAS = {
    "users": record("schema_version username email created_at", **USER),
    "events": record("schema_version user_id event_type timestamp", **EVENT),
}
BOUGHT = {"partialFilterExpression": {"event_type": "purchase"}}
ESR = [("event_type", 1), ("timestamp", -1), ("metadata.price", 1)]
INDEXES = {
    "users": [
        IndexModel("username", name="username", unique=True),
        IndexModel("email", name="email", unique=True),
        IndexModel("profile.interests", name="interests"),
    ],
    "events": [
        IndexModel([("user_id", 1), ("timestamp", -1)], name="timeline"),
        IndexModel(ESR, name="esr"),  # equality first, then the sort, then the range
        IndexModel([("geo", "2dsphere")], name="place"),
        IndexModel("metadata.category", name="bought", **BOUGHT),
        # Trap: with a TTL index on `timestamp` the history is gone within a minute.
        IndexModel("expires_at", name="expiry", expireAfterSeconds=0),
    ],
}


def point(longitude: float, latitude: float) -> Document:
    """Return a GeoJSON point; raise ValueError outside our area (swapped?)."""
    if not (22 <= longitude <= 41 and 44 <= latitude <= 53):
        raise ValueError(f"({longitude}, {latitude}) is not in our area: swapped?")
    return {"type": "Point", "coordinates": [float(longitude), float(latitude)]}


def grouped(rows: Iterable[Document], key: Callable[[Document], Any]) -> dict[Any, Any]:
    """Return lists of rows by key: the plain Python that pipelines are held against."""
    groups: dict[Any, list[Document]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return dict(sorted(groups.items()))


def deploy(db: Database) -> None:
    """Create the collections and their indexes."""
    MongoDBManager(db).create_collections_with_schema()


def open_env(args: argparse.Namespace) -> AbstractContextManager[Env]:
    """Open a database of our own where a server answers; drop it at the end."""
    return open_database(args, deploy)


lesson = Lesson(
    "Documents that hold: MongoDB, its traps, and the way over them", open_env
)


# %% 1. Validators: the server refuses what must not be stored


# region manager
def definition(index: Any) -> list[object]:
    """Return what an index is: its fields in their order, and its rules."""
    rules = ("unique", "expireAfterSeconds", "partialFilterExpression")
    return [[*dict(index["key"]).items()], *map(index.get, rules)]


class MongoDBManager:
    """Keeps collections, validators and indexes as the code has them."""

    def __init__(self, db: Database, schemas: dict[str, Document] = SCHEMAS) -> None:
        self.db, self.schemas = db, schemas

    def create_collections_with_schema(self) -> list[str]:
        """Create or change what differs; return what was done, [] when run again.

        Raises OperationFailure for an index that has our name and another definition:
        whether it may be dropped is for you to say.
        """
        there = {row["name"]: row["options"] for row in self.db.list_collections()}
        done = []
        for name, schema in self.schemas.items():
            validator = {"$jsonSchema": schema}
            if name not in there:
                self.db.create_collection(name, validator=validator)
                done.append(f"created {name}")
            elif there[name].get("validator") != validator:
                # Trap: it does not look at what is stored: {"$nor": [validator]} does.
                self.db.command("collMod", name, validator=validator)
                done.append(f"changed {name}")
            info = self.db[name].index_information()
            same = [(key, definition(index)) for key, index in info.items()]
            models = [(index.document, index) for index in INDEXES[name]]
            new = [i for d, i in models if (d["name"], definition(d)) not in same]
            done += self.db[name].create_indexes(new) if new else []
        return done


def broken(info: Any, path: tuple[str, ...] = ()) -> set[str]:
    """Return the properties that errInfo's details (MongoDB 5.0+) say are broken."""
    if isinstance(info, list):
        return set().union(*(broken(part, path) for part in info))
    path += (info["propertyName"],) if "propertyName" in info else ()
    inner = ("details", "schemaRulesNotSatisfied", "propertiesNotSatisfied")
    if parts := [info[key] for key in inner if key in info]:
        return broken(parts, path)
    missing = info.get("missingProperties", []) + info.get("additionalProperties", [])
    return {".".join((*path, name)) for name in missing} or {".".join(path)}


# endregion manager


def verdict(collection: Collection, document: Document) -> str:
    """Try to insert a copy; return "accepted" or the properties that it breaks."""
    try:
        collection.insert_one(dict(document))
    except err.WriteError as error:
        if error.code != 121:  # it is not about the validator
            raise
        return ", ".join(sorted(broken((error.details or {})["errInfo"])))
    return "accepted"


TRIALS: dict[str, tuple[Document, str]] = {
    "user_id 2**31 (sent as int64)": ({"user_id": 2**31}, "accepted"),
    "price 5 (sent as int32)": ({"metadata": {"price": 5}}, "accepted"),
    "price Decimal128": ({"metadata": {"price": bson.Decimal128("5.2")}}, "accepted"),
    "price 1.0": ({"metadata": {"price": 1.0}}, "accepted"),
    "user_id 1.0": ({"user_id": 1.0}, "user_id"),
    "user_id True": ({"user_id": True}, "user_id"),
    "price '5'": ({"metadata": {"price": "5"}}, "metadata.price"),
    "price True": ({"metadata": {"price": True}}, "metadata.price"),
    "geo without type": ({"geo": {"coordinates": [30.5, 50.4]}}, "geo.type"),
    "is_admin, not in the schema": ({"is_admin": True}, "is_admin"),
}


@lesson.demo
def validators(env: Env) -> None:
    """Validators: they accept what PyMongo sends and name what they refuse"""
    env.fresh()
    price = typed("object", properties={"price": typed("double")})
    first = typed("object", properties={"user_id": typed("int"), "metadata": price})
    env.db.create_collection("first", validator={"$jsonSchema": first})
    tried = [env.db[name] for name in ("unchecked", "first", "events")]
    found = {
        k: [verdict(c, BARE_EVENT | v[0]) for c in tried] for k, v in TRIALS.items()
    }
    header = ("event", "no validator", "int and double", "ours")
    table(header, *((name, *verdicts) for name, verdicts in found.items()))
    unchecked, naive, ours = zip(*found.values(), strict=True)
    sound = "accepted" not in naive[:3] and set(ours[:4]) == {"accepted"}
    check("4 sound events are accepted, of which int and double refuse 3", sound, True)
    named = ours == tuple(wanted for _, wanted in TRIALS.values())
    all_in = set(unchecked) == {"accepted"}
    check("6 bad ones, else accepted, are refused by name", named and all_in, True)


# %% 2. Types and versions: what changes on the way, and documents of two ages


# region versions
def as_current(user: Document) -> Document:
    """Return a user of any schema version as version 2; the store is not touched."""
    if user["schema_version"] == 2:
        return user
    rest = {key: value for key, value in user.items() if key != "interests"}
    profile = {"interests": user.get("interests", [])}
    return rest | {"schema_version": 2, "profile": profile}


def upgrade_users(users: Collection, batch: int = BATCH) -> int:
    """Store the users of version 1 as version 2, page by page; return how many."""
    upgraded = 0
    while page := list(users.find({"schema_version": 1}).limit(batch)):
        changes = []
        for old in page:
            # Trap: by _id alone we would undo what others write after our read. So
            # they win: our change finds nothing, and the next page has the user again.
            seen = {key: old.get(key) for key in ("_id", "schema_version", "interests")}
            new = {"schema_version": 2, "profile": as_current(old)["profile"]}
            changes.append(UpdateOne(seen, {"$set": new, "$unset": {"interests": ""}}))
        upgraded += users.bulk_write(changes, ordered=False).modified_count
    return upgraded


# endregion versions


@lesson.demo
def versions(env: Env) -> None:
    """Versions: UTC and UUIDs survive the trip, and two schema versions read as one"""
    moment, key = START + timedelta(microseconds=123_456), uuid.UUID(int=8)
    sent = bson.encode({"at": moment, "key": key}, codec_options=CODEC)
    naive, ours = bson.decode(sent), bson.decode(sent, CODEC)
    for name, read in (("PyMongo's defaults", naive), ("our options", ours)):
        text = f"{read['at'].isoformat()}, {type(read['key']).__name__}"
        fact(f"read with {name}", text)
    whole = {"at": moment.replace(microsecond=123_000), "key": key}
    kept = ours == whole != naive
    check("moments come back in UTC, cut to ms, and UUIDs as such", kept, True)

    manager = two_versions(env)
    failing = manager.users.count_documents({"profile": None})
    found = [manager.find_users_by_interest("sql")]
    upgraded = [upgrade_users(manager.users, batch=40) for _ in range(2)]
    found.append(manager.find_users_by_interest("sql"))
    wanted = [make_user(number) for number in range(3, 201, 3)]
    fact("without the new field; upgraded", f"{failing}; {upgraded[0]}")
    same = found == [wanted, wanted] and failing == 100
    check("both versions are read alike, before and after the upgrade", same, True)
    check(
        "the upgrade is complete, and repeated does nothing", upgraded == [100, 0], True
    )


def two_versions(env: Env) -> UserManager:
    """Deploy version 1, then version 2; store 100 users of each."""
    env.fresh()
    first = {k: rule for k, rule in USER.items() if k != "profile"}
    old_schema = record("username", **first | {"schema_version": {"enum": [1]}})
    MongoDBManager(env.db, {"users": old_schema}).create_collections_with_schema()
    manager, people = UserManager(env.db), make_users(1, 200)
    for user in people[:100]:
        user |= {"schema_version": 1, "interests": user.pop("profile")["interests"]}
    refused = [why for _, why in manager.bulk_insert_users(people).rejected]
    changed = MongoDBManager(env.db).create_collections_with_schema()
    manager.bulk_insert_users(people)
    fact("100 users of version 2, at first", next(iter(refused), "accepted"))
    beside = (len(refused), changed, manager.users.count_documents({}))
    let_in = beside == (100, ["changed users"], 200)
    check("collMod lets version 2 in beside version 1", let_in, True)
    return manager


# %% 3. Bulk writes: one command, nothing lost, nothing twice


# region bulk
@dataclass
class LoadReport:
    """What became of a load: every document is in exactly one of the three."""

    inserted: int = 0
    repeated: int = 0  # their _id was there: an earlier run of the same load
    rejected: list[tuple[int, str]] = field(default_factory=list)  # index, reason


def reason(error: Document) -> str:
    """Return why a document was refused."""
    if error["code"] == 11000:
        return f"{', '.join(error.get('keyPattern', ['key']))} is taken"
    if error["code"] == 121:
        return f"breaks {', '.join(sorted(broken(error['errInfo'])))}"
    return str(error.get("unsent", f"code {error['code']}"))


class UserManager:
    """Users: loading, finding and changing them."""

    def __init__(self, db: Database) -> None:
        self.users = db["users"]

    def bulk_insert_users(
        self, users: Sequence[Document], batch: int = BATCH
    ) -> LoadReport:
        """Insert users that carry their _id; bad ones do not keep good ones out.

        Run again, it inserts what is missing. Raises PyMongoError if the server fails.
        """
        report, kept = LoadReport(), dict[Any, Document]()
        for start in range(0, len(users), batch):
            chunk = users[start : start + batch]
            if not (errors := self._insert(chunk)):
                report.inserted += len(chunk)
                kept.update((user["_id"], user) for user in chunk)
                continue
            repeated = self._repeated(chunk, errors)
            why = {e["index"]: reason(e) for e in errors if e["index"] not in repeated}
            for index, user in enumerate(chunk):
                # Trap: it looks like an earlier run's, and is another user, not stored.
                if index in repeated and kept.get(user["_id"], user) != user:
                    why[index] = "_id is twice in this load"
                elif index not in why:
                    kept[user["_id"]] = user
            report.inserted += len(chunk) - len(why.keys() | repeated)
            report.repeated += len(repeated - why.keys())
            report.rejected += [(start + index, why[index]) for index in sorted(why)]
        return report

    def _insert(self, users: Sequence[Document]) -> list[Document]:
        """Insert in one command; return the complaints about single users."""
        try:
            if users:
                self.users.insert_many(users, ordered=False)
        except UNENCODABLE:  # Trap: one such fails the whole call: send the others
            why = [unencodable(user) for user in users]
            if not any(why):
                raise  # so it was not that
            bad = [{"index": i, "code": 0, "unsent": w} for i, w in enumerate(why) if w]
            good = [index for index, unsent in enumerate(why) if not unsent]
            rest = self._insert([users[index] for index in good])
            return bad + [e | {"index": good[e["index"]]} for e in rest]
        except err.BulkWriteError as error:
            if error.details.get("writeConcernErrors"):
                raise  # written but not safe, which is no single user's fault
            return cast(list[Document], error.details["writeErrors"])
        return []

    def _repeated(self, users: Sequence[Document], errors: list[Document]) -> set[int]:
        """Return the indexes of the users whose _id was there already."""
        taken = [e for e in errors if e["code"] == 11000]
        sure = {e["index"] for e in taken if "_id" in e.get("keyPattern", ())}
        # A server names one broken index, and it need not be that of _id: ask.
        ids = {e["index"]: users[e["index"]]["_id"] for e in taken}
        doubtful = [key for index, key in ids.items() if index not in sure]
        query = {"_id": {"$in": doubtful}}
        there = self.users.distinct("_id", query) if doubtful else []
        return sure | {index for index, key in ids.items() if key in there}

    def upsert_users(self, users: Iterable[Document]) -> int:
        """Insert or update users by _id; return how many are new or differ now."""
        each = [({"_id": user["_id"]}, {"$set": user}) for user in users]
        changes = [UpdateOne(*change, upsert=True) for change in each]
        done = self.users.bulk_write(changes, ordered=False)
        return done.upserted_count + done.modified_count

    # endregion bulk
    def find_users_by_interest(self, interest: str, limit: int = 100) -> list[Document]:
        """Return users of both versions with an interest, in the order of _id."""
        wanted = {"$eq": interest}  # a dict from outside stays a value, no operator
        either = [{"profile.interests": wanted}, {"interests": wanted}]
        found = self.users.find({"$or": either}).sort("_id", 1).limit(limit)
        return [as_current(user) for user in found]

    def add_subscription(self, user_id: int, plan: str, since: datetime) -> bool:
        """Add a plan unless the user has it; raise LookupError for no such user."""
        # Condition and change are one command, so nobody comes in between.
        missing = {"_id": {"$eq": user_id}, "subscriptions.plan": {"$ne": plan}}
        added = {"$push": {"subscriptions": {"plan": plan, "since": since}}}
        done = self.users.update_one(missing, added).matched_count == 1
        if not done and not self.users.find_one({"_id": {"$eq": user_id}}):
            raise LookupError(f"no user {user_id}")
        return done


def stored(
    collection: Collection, rows: list[Document], ordered: bool
) -> tuple[int, str]:
    """Insert rows; return how many are in, and index and code of each refusal."""
    try:
        collection.insert_many(rows, ordered=ordered)
    except err.BulkWriteError as error:
        refused = [f"{e['index']}: {e['code']}" for e in error.details["writeErrors"]]
        return error.details["nInserted"], ", ".join(refused)
    return len(rows), ""


@lesson.demo
def bulk(env: Env) -> None:
    """Bulk writes: 500 commands or 1, and every document is accounted for"""
    env.fresh()
    notes = [{"_id": number} for number in range(500)]
    singly = env.counted(lambda: [env.db["singly"].insert_one(note) for note in notes])
    at_once = env.counted(lambda: env.db["at_once"].insert_many(notes))
    fact("commands for 500 documents", f"{singly} singly, {at_once} at once")
    check(
        "500 documents take 1 command instead of 500",
        (singly, at_once) == (500, 1),
        True,
    )
    notes[2], notes[5] = notes[0], notes[1]
    ordered, unordered = (stored(env.db[f"o{o}"], notes[:10], o) for o in (True, False))
    header = ("2 of 10 repeated", "in", "index: code")
    table(header, ("ordered", *ordered), ("unordered", *unordered))
    done = (ordered, unordered) == ((2, "2: 11000"), (8, "2: 11000, 5: 11000"))
    check("unordered stores the 8 that it can, ordered stops after 2", done, True)

    manager, people = UserManager(env.db), make_users(1, 10_000)
    load = env.counted(lambda: manager.bulk_insert_users(people, batch=10_000))
    again = manager.bulk_insert_users(people)
    fact("10,000 users", f"{load} command; again: {again.inserted} new")
    once = (load, again) == (1, LoadReport(0, 10_000))
    check("10,000 users are 1 command, and 0 new when it is repeated", once, True)
    bad_batch(manager)
    people[0]["metrics"] = {"views": 1}
    inserted = manager.bulk_insert_users(people[:9]).inserted
    upserted = [manager.upsert_users(people[:9]) for _ in range(2)]
    text = f"{inserted} by insert; by upsert, twice: {upserted}"
    fact("1 change at the source", text)
    right = (inserted, upserted) == (0, [1, 0])
    check("upserting brings it in, then 0; inserting nothing", right, True)


def bad_batch(manager: UserManager) -> None:
    """Load seven users of whom three are bad: by insert_many, then by ours."""
    batch: list[Any] = make_users(10_001, 10_007)
    batch[1]["email"], batch[4]["email"] = "nobody", "user1@example.org"
    batch[2]["metrics"] = {"views": object()}
    with suppress(bson.errors.BSONError):
        manager.users.insert_many(batch, ordered=False)
    naive = manager.users.count_documents({})
    report = manager.bulk_insert_users(batch)
    table(("index", "rejected because"), *report.rejected)
    found = naive, manager.users.count_documents({}), [*dict(report.rejected)]
    right = found == (10_000, 10_004, [1, 2, 4]) and report.inserted == 4
    check("4 of 7 are in, 3 named; insert_many stores none", right, True)


# %% 4. Pipelines: the server computes, plain Python agrees


# region tracker
DAY = {"$dateToString": {"date": "$timestamp", "format": "%Y-%m-%d"}}  # in UTC


class EventTracker:
    """Events as they happen, and what they add up to."""

    def __init__(self, db: Database) -> None:
        self.events = db["events"]

    def log_event(self, user_id: int, event_type: str, **more: Any) -> Any:
        """Store an event, now unless `timestamp` is given; return its _id."""
        event = BARE_EVENT | {"user_id": user_id, "event_type": event_type}
        event["timestamp"] = datetime.now(UTC)
        if "geo" in more:  # a server stores swapped coordinates
            point(*more["geo"]["coordinates"])
        return self.events.insert_one(event | more).inserted_id

    # fmt: off
    def get_event_distribution(self, start: datetime, end: datetime) -> list[Document]:
        """Return events and distinct users by type, for start <= timestamp < end."""
        return list(self.events.aggregate([
            {"$match": {"timestamp": {"$gte": start, "$lt": end}}},
            {"$group": {"_id": "$event_type", "events": {"$sum": 1},
                        "users": {"$addToSet": "$user_id"}}},
            {"$set": {"users": {"$size": "$users"}}},
            {"$sort": {"events": -1, "_id": 1}},
        ]))

    def get_user_activity_metrics(self, limit: int = 10) -> list[Document]:
        """Return the most active users: events, active days, last seen."""
        return list(self.events.aggregate([
            {"$group": {"_id": "$user_id", "events": {"$sum": 1},
                        "days": {"$addToSet": DAY}, "last": {"$max": "$timestamp"}}},
            {"$set": {"days": {"$size": "$days"}}},
            {"$sort": {"events": -1, "_id": 1}},
            {"$limit": limit},
        ]))

    def get_purchase_analytics(self) -> Document:
        """Return orders and revenue by category, and orders by price, in one pass."""
        price = "$metadata.price"
        return next(iter(self.events.aggregate([
            {"$match": {"event_type": "purchase"}},
            {"$facet": {
                "by_category": [
                    {"$group": {"_id": "$metadata.category", "orders": {"$sum": 1},
                                "revenue": {"$sum": price}, "mean": {"$avg": price}}},
                    {"$sort": {"_id": 1}}],
                "by_price": [{"$bucket": {
                    "groupBy": price, "boundaries": [0, 50, 100, math.inf],
                    "default": "no price", "output": {"orders": {"$sum": 1}}}}],
            }},
        ])))

    def latest_with_names(self, limit: int) -> list[Document]:
        """Return the latest purchases with their users' names, in one command."""
        return list(self.events.aggregate([
            {"$match": {"event_type": "purchase"}},
            {"$sort": {"timestamp": -1, "_id": 1}},
            {"$limit": limit},
            {"$lookup": {"from": "users", "localField": "user_id",
                         "foreignField": "_id", "as": "user"}},
            {"$unwind": "$user"},  # Trap: this drops an event whose user is gone
            {"$project": {"name": "$user.username"}},
        ]))
    # fmt: on


# endregion tracker


def latest_with_names_naive(db: Database, limit: int) -> list[Document]:
    """Return the same with one query more for every event."""
    bought = db["events"].find({"event_type": "purchase"})
    latest = bought.sort([("timestamp", -1), ("_id", 1)]).limit(limit)
    users = ((e["_id"], db["users"].find_one({"_id": e["user_id"]})) for e in latest)
    return [{"_id": key, "name": user["username"]} for key, user in users if user]


@lesson.demo
def pipelines(env: Env) -> None:
    """Pipelines: the server's answers equal plain Python's over 5,000 events"""
    events = env.fresh(users=100, events=5_000)
    orders = [event for event in events if event["event_type"] == "purchase"]
    distribution(env.db, events)
    activity(env.db, events)
    purchases(env.db, orders)
    latest = sorted(orders, key=operator.itemgetter("timestamp"), reverse=True)[:100]
    plain = [{"_id": e["_id"], "name": f"user{e['user_id']}"} for e in latest]
    names: list[list[Document]] = []
    ours = EventTracker(env.db).latest_with_names
    loop = env.counted(lambda: names.append(latest_with_names_naive(env.db, 100)))
    joined = env.counted(lambda: names.append(ours(100)))
    counts = f"{loop} in a loop, {joined} with $lookup"
    fact("commands for 100 orders with names", counts)
    right = names == [plain, plain] and (loop, joined) == (101, 1)
    check("$lookup answers in 1 command, the loop in 101", right, True)


def distribution(db: Database, events: list[Document]) -> None:
    """Count by type, in all and in two days that meet at an event."""
    ours, middle = EventTracker(db).get_event_distribution, events[0]["timestamp"]
    start, end = middle - timedelta(days=1), middle + timedelta(days=1)
    spans = [(start, middle), (middle, end)]
    halves = sum(row["events"] for span in spans for row in ours(*span))
    closed = [{"timestamp": {"$gte": start, "$lte": end}} for start, end in spans]
    twice = sum(map(db["events"].count_documents, closed))
    both = sum(start <= event["timestamp"] < end for event in events)
    fact("in two days, an event between", f"{halves} half-open, {twice} closed")
    rows = ours(START, END)
    found = [(row["_id"], row["events"], row["users"]) for row in rows]
    table(("type", "events", "users"), *found)
    by_type = grouped(events, lambda event: event["event_type"])
    plain = [(k, len(v), len({e["user_id"] for e in v})) for k, v in by_type.items()]
    same = sorted(found) == plain and halves == both < twice
    check(
        "the distribution equals the reference; closed spans count double", same, True
    )


def activity(db: Database, events: list[Document]) -> None:
    """Rank the users by events, and count the days that had any."""
    found = EventTracker(db).get_user_activity_metrics(100)
    fact("the busiest user", f"{found[0]['events']} events on {found[0]['days']} days")
    plain = []
    for user, rows in grouped(events, lambda event: event["user_id"]).items():
        times = [row["timestamp"] for row in rows]
        days = len({when.date() for when in times})
        row = {"_id": user, "events": len(rows), "days": days, "last": max(times)}
        plain.append(row)
    plain.sort(key=lambda row: -row["events"])
    fewer = plain[0]["days"] < plain[0]["events"]
    check(
        "activity equals the reference; days are no events",
        found == plain and fewer,
        True,
    )


def purchases(db: Database, orders: list[Document]) -> None:
    """Add up the orders by category and by price, right and unwound."""
    by_category = grouped(orders, lambda order: order["metadata"]["category"])
    prices = {k: [e["metadata"]["price"] for e in v] for k, v in by_category.items()}
    facets = EventTracker(db).get_purchase_analytics()
    rows = facets["by_category"]
    fields = operator.itemgetter("_id", "orders", "revenue", "mean")
    found = [fields(row) for row in rows]
    table(("category", "orders", "revenue"), *(row[:3] for row in found))
    total = {"$group": {"_id": 0, "sum": {"$sum": "$metadata.price"}}}
    unwound = db["events"].aggregate([{"$unwind": "$metadata.tags"}, total])
    naive = next(iter(unwound))["sum"]
    fact("revenue after $unwind of two tags", naive)
    bands = Counter(min(p // 50, 2) * 50 for each in prices.values() for p in each)
    plain = [(k, len(v), sum(v), sum(v) / len(v)) for k, v in prices.items()]
    same = found == plain
    same &= {row["_id"]: row["orders"] for row in facets["by_price"]} == bands
    doubled = naive == 2 * sum(row[2] for row in found)
    check("purchases equal the reference; unwound, they double", same and doubled, True)


# %% 5. Summaries: computed twice and still right


class DataProcessor:
    """What analysts take away: daily summaries, cohorts, exports."""

    def __init__(self, db: Database) -> None:
        self.db = db

    # fmt: off
    # region merge
    def summarize_days(self, start: datetime, end: datetime) -> None:
        """Compute the days from start to before end anew, and replace them in `daily`.

        So a run may be repeated, at once or when events came late; it has to be, after
        a lost connection: drivers do not retry $merge.
        """
        self.db["events"].aggregate([
            # Trap: half a day here would replace a whole one by its half.
            {"$match": {"timestamp": {"$gte": start, "$lt": end}}},
            {"$group": {"_id": DAY, "events": {"$sum": 1},
                        "revenue": {"$sum": "$metadata.price"}}},
            {"$merge": {"into": "daily", "whenMatched": "replace"}},
        ])
    # endregion merge

    def running_revenue(self) -> list[float]:
        """Return for each day in `daily` the revenue up to it."""
        total = {"$sum": "$revenue", "window": {"documents": ["unbounded", "current"]}}
        return [row["total"] for row in self.db["daily"].aggregate([
            {"$setWindowFields": {"sortBy": {"_id": 1}, "output": {"total": total}}},
            {"$sort": {"_id": 1}},
        ])]

    # region cohorts
    def calculate_cohort_metrics(self) -> list[Document]:
        """Return users, active users and revenue by calendar month (UTC) of sign-up."""
        spent = {row["_id"]: row["revenue"] for row in self.db["events"].aggregate([
            {"$group": {"_id": "$user_id", "revenue": {"$sum": "$metadata.price"}}},
        ])}
        month = {"$dateToString": {"date": "$created_at", "format": "%Y-%m"}}
        return [{
            "cohort": row["_id"],
            "users": len(row["users"]),
            "active": sum(user in spent for user in row["users"]),
            "revenue": sum(spent.get(user, 0) for user in row["users"]),
        } for row in self.db["users"].aggregate([
            {"$group": {"_id": month, "users": {"$push": "$_id"}}},
            {"$sort": {"_id": 1}},
        ])]
    # endregion cohorts
    # fmt: on

    # region export
    def _page(self, query: Document, size: int, way: int = 1) -> bytes:
        """Return documents in the order of _id, as the server has sent them."""
        find: Any = self.db["events"].find_raw_batches
        return b"".join(find(query, sort=[("_id", way)], limit=size))

    def _first_query(self, last: Any) -> Document:
        """Return what is behind the last _id; raise ValueError for _id of two types."""
        ends = b"".join(self._page({}, 1, way) for way in (1, -1))
        ids = [row["_id"] for row in bson.decode_all(ends, CODEC)]
        ids += [] if last is None else [last]
        kinds = {"number" if type(i) in NUMERIC else type(i).__name__ for i in ids}
        # Trap: $gt compares within a type only, so it would pass over the other one.
        if len(kinds) > 1:
            raise ValueError(f"_id of two types: {' and '.join(sorted(kinds))}")
        return {} if last is None else {"_id": {"$gt": last}}

    def export_data_for_analysis(
        self, path: Path, page: int = PAGE, on_page: Callable[[int], object] = id
    ) -> int:
        """Append the events that a file lacks, in the order of _id; return how many.

        The file holds BSON documents end to end, as mongodump's do, and is its own
        checkpoint: killed at any byte, it is gone on with behind the last whole one.
        Memory holds one page. Raises ValueError for a file that is something else, or
        where the _id are of two types.
        """
        written = 0
        with path.open("a+b") as file:
            query = self._first_query(last_id(file))
            while data := self._page(query, page):
                file.write(data)
                file.flush()
                rows = bson.decode_all(data, RAW)  # raw: only one _id is looked at
                query = {"_id": {"$gt": rows[-1]["_id"]}}
                written += len(rows)
                on_page(written)
        return written


def last_id(file: BinaryIO) -> Any:
    """Return the _id of the last whole document, or None; cut off a torn one."""
    size, begin, end = file.seek(0, os.SEEK_END), 0, 0
    while end + 4 <= size:
        file.seek(end)
        length = int.from_bytes(file.read(4), "little")
        if not 5 <= length <= 2**24:  # text read as a number is far more
            raise ValueError(f"no BSON document at byte {end}: not an export of ours")
        if end + length > size:
            break
        begin, end = end, end + length
    file.truncate(end)
    file.seek(begin)
    return bson.decode(file.read(end - begin), CODEC)["_id"] if end else None


# endregion export


@lesson.demo
def summaries(env: Env) -> None:
    """Summaries: $merge may run twice, $inc may not, and months begin in UTC"""
    events = env.fresh(users=100, events=5_000)
    processor, daily = DataProcessor(env.db), env.db["daily"]
    twice(env.db, events)
    before = [row["revenue"] for row in daily.find().sort("_id", 1)]
    late = {"timestamp": START, "metadata": {"price": 10.0}}
    EventTracker(env.db).log_event(1, "purchase", **late)
    processor.summarize_days(START, START + timedelta(days=1))
    revenue = [row["revenue"] for row in daily.find().sort("_id", 1)]
    fact("revenue of a day; with a late event", f"{before[0]}; {revenue[0]}")
    healed = revenue == [before[0] + 10, *before[1:]]
    check("a late event is in once its day is run again", healed, True)

    cohorts(processor, [*events, BARE_EVENT | late | {"user_id": 1}])

    env.need_server("running totals by $setWindowFields")
    totals = processor.running_revenue()
    fact("revenue of the last day, of all days", f"{revenue[-1]}, {totals[-1]}")
    same = totals == list(itertools.accumulate(revenue)) != revenue
    check("$setWindowFields' running totals equal itertools.accumulate", same, True)


def twice(db: Database, events: list[Document]) -> None:
    """Sum the events up by day, and again, by $inc and by $merge."""
    daily, counters = db["daily"], db["counters"]
    days = grouped(events, lambda event: f"{event['timestamp']:%Y-%m-%d}")
    for _ in range(2):
        for day, rows in days.items():
            more = {"$inc": {"events": len(rows)}}
            counters.update_one({"_id": day}, more, upsert=True)
        DataProcessor(db).summarize_days(START, END)
    naive, sums = (sum(row["events"] for row in c.find()) for c in (counters, daily))
    fact("5,000 events summed up twice", f"{naive} with $inc, {sums} with $merge")
    price = {event["_id"]: event["metadata"].get("price", 0) for event in events}
    plain = [(d, len(v), sum(price[e["_id"]] for e in v)) for d, v in days.items()]
    same = [tuple(row.values()) for row in daily.find().sort("_id", 1)] == plain
    doubled = naive == 2 * len(events)
    check("$merge run twice equals the reference; $inc doubles", same and doubled, True)


def cohorts(processor: DataProcessor, events: list[Document]) -> None:
    """Compare the cohorts with plain Python's, and with those of another time zone."""
    spent = Counter[int]()
    for event in events:
        spent[event["user_id"]] += event.get("metadata", {}).get("price", 0)
    by_month = grouped(make_users(1, 100), lambda user: f"{user['created_at']:%Y-%m}")
    plain = []
    for month, users in by_month.items():
        ids = [user["_id"] for user in users]
        active = sum(i in spent for i in ids)
        plain.append((month, len(ids), active, sum(spent[i] for i in ids)))
    found = [tuple(row.values()) for row in processor.calculate_cohort_metrics()]
    table(("cohort", "users", "active", "revenue"), *found)
    signed_up = [user["created_at"] for users in by_month.values() for user in users]
    kyiv = timezone(timedelta(hours=3))
    moved = sum(when.astimezone(kyiv).month != when.month for when in signed_up)
    fact("users in another month in Kyiv", moved)
    right = found == plain and moved == 10
    check("cohorts by UTC equal the reference; Kyiv's would move 10", right, True)


# %% 6. Geo: metres on a sphere, longitude first


# region geo
class GeoLocationManager:
    """Finds events by where they happened."""

    def __init__(self, db: Database) -> None:
        self.events = db["events"]

    def find_events_near_location(
        self, longitude: float, latitude: float, max_km: float, limit: int = 100
    ) -> list[Document]:
        """Return events within max_km, nearest first, each with its `metres`."""
        near = {
            "near": point(longitude, latitude),
            "maxDistance": max_km * 1_000,
            "distanceField": "metres",
            "key": "geo",  # which index, should there ever be a second
        }
        # Trap: $geoNear has to come first, and has no limit of its own.
        return list(self.events.aggregate([{"$geoNear": near}, {"$limit": limit}]))

    def count_events_within(
        self, longitude: float, latitude: float, max_km: float
    ) -> int:
        """Return how many events are within max_km; this needs no index."""
        circle = [point(longitude, latitude)["coordinates"], max_km / EARTH_KM]
        within = {"$geoWithin": {"$centerSphere": circle}}
        return self.events.count_documents({"geo": within})


# endregion geo


def haversine(event: Document, radius_km: float = EARTH_KM, start: Any = KYIV) -> float:
    """Return the metres to an event (R. W. Sinnott, Sky and Telescope 68, 1984)."""
    lon, lat = map(math.radians, event["geo"]["coordinates"])
    lon0, lat0 = map(math.radians, start)
    across = math.cos(lat) * math.cos(lat0) * math.sin((lon - lon0) / 2) ** 2
    half = math.asin(math.sqrt(math.sin((lat - lat0) / 2) ** 2 + across))
    return 2_000 * radius_km * half


@lesson.demo
def geo(env: Env) -> None:
    """Geo: distances to 0.1 m, and what swapped coordinates do"""
    events, manager = env.fresh(events=1_000, located=True), GeoLocationManager(env.db)
    found = manager.find_events_near_location(*KYIV, max_km=5)
    radii = (EARTH_KM, 6_371)
    off = [max(abs(row["metres"] - haversine(row, r)) for row in found) for r in radii]
    fact("metres off with R = 6371 km", f"up to {off[1]:.1f}")
    right = off[0] < 0.1 and off[1] > 1
    check("metres equal haversine's with R = 6378.1 km to 0.1", right, True)
    inside = sorted((e for e in events if haversine(e) <= 5_000), key=haversine)
    flat = sum(math.dist(e["geo"]["coordinates"], KYIV) <= 5 / 111 for e in events)
    fact("events within 5 km, 5/111 degrees", f"{len(inside)}, {flat}")
    same = [row["_id"] for row in found] == [event["_id"] for event in inside]
    check(
        "$geoNear equals brute force; degrees miss some",
        same and len(inside) > flat,
        True,
    )
    swapped = {"type": "Point", "coordinates": [KYIV[1], KYIV[0]]}
    verdicts = [verdict(env.db["events"], BARE_EVENT | {"geo": swapped})]
    try:
        verdicts.append(str(point(KYIV[1], KYIV[0])))
    except ValueError:
        verdicts.append("refused")
    fact("Kyiv swapped: server, point()", ", ".join(verdicts))
    check(
        "point() refuses swapped coordinates", verdicts == ["accepted", "refused"], True
    )
    env.need_server("$geoWithin and $near find the same events")
    within = manager.count_events_within(*KYIV, 5)
    near = {"$near": {"$geometry": point(*KYIV), "$maxDistance": 5_000}}
    ids = {event["_id"] for event in env.db["events"].find({"geo": near})}
    right = within == len(inside) != flat and ids == {row["_id"] for row in found}
    check("$geoWithin and $near equal brute force; degrees do not", right, True)


# %% 7. Export: pages by key, a file that is its own checkpoint


class Crash(Exception):
    """Stands for a process that ends in the middle of its work."""


def crash_at_1000(written: int) -> None:
    """End an export after two pages of 500."""
    if written == 1_000:
        raise Crash


@lesson.demo
def export(env: Env) -> None:
    """Export: killed half-way and resumed, every document is there once"""
    env.fresh(events=2_000, located=True)
    ours = DataProcessor(env.db).export_data_for_analysis
    with tempfile.TemporaryDirectory(prefix="module8-export-") as folder:
        path, whole = Path(folder, "ours"), Path(folder, "whole")
        with suppress(Crash):
            ours(path, on_page=crash_at_1000)
        crashed = path.read_bytes()
        with path.open("ab") as file:
            file.write(
                bson.encode(BARE_EVENT)[:-7]
            )  # it died in the middle of a document
        began = time.perf_counter()
        resumed = ours(path)
        note(f"exported {resumed / (time.perf_counter() - began):,.0f} documents/s")
        data = path.read_bytes()
        tracemalloc.start()
        ours(whole)
        pages = tracemalloc.get_traced_memory()[1]
        doubled = len(bson.decode_all(crashed + whole.read_bytes(), RAW))
    ids = [row["_id"] for row in bson.decode_all(data, RAW)]
    fact("documents after a crash at 1,000", f"{doubled} restarted, {len(ids)} resumed")
    once = ids == list(range(1, 2_001)) and resumed == 1_000 and doubled == 3_000
    check("resumed, each of 2,000 is there once; restarted, 1,000 twice", once, True)
    listed = bson.decode_all(data, CODEC)  # what list(find()) holds
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    note(f"peak memory: {pages / 1e3:.0f} KB by pages, {peak / 1e3:.0f} KB as a list")
    small = pages < peak / 2 and len(listed) == 2_000
    check("pages take less than half the memory of a list", small, True)
    ms = [math.inf, math.inf]
    for turn in range(20):  # the best of turns, in CPU time: others are busy here, too
        decode = functools.partial(bson.decode_all, data, (CODEC, RAW)[turn % 2])
        took = timeit.timeit(decode, "gc.enable()", time.process_time, 1)
        ms[turn % 2] = min(ms[turn % 2], 1_000 * took)
    note(f"decoding 2,000 documents: {ms[0]:.1f} ms to dict, {ms[1]:.1f} to RawBSON")
    faster = ms[0] > 5 * ms[1]
    check("RawBSONDocument decodes at least 5 times faster than dict", faster, True)


# %% 8. Injection: a value that is an operator


# region injection
def plain_fields(body: object, allowed: Iterable[str]) -> Document:
    """Return a client's JSON object of plain values in allowed fields.

    Raises ValueError for all else: operators such as {"$ne": null}, pipelines (lists),
    names with $ or dots, fields that the client has no business with.
    """
    if not isinstance(body, dict) or not body.keys() <= set(allowed):
        raise ValueError("refused: no object of allowed fields")
    plain = all(isinstance(v, str | int | float | bool) for v in body.values())
    if not plain or unencodable(body):  # such as an int of more than 64 bits
        raise ValueError("refused: no plain value")
    return body


def equal_to(given: Document) -> Document:
    """Return a filter that compares the values and obeys none of them."""
    return {key: {"$eq": value} for key, value in given.items()}


def log_in(users: Collection, body: object) -> Document | None:
    """Return the user with this name and this token (in life: its hash), or None."""
    wanted = ("username", "token")
    given = plain_fields(body, wanted)
    # Trap: a field left out restricts nothing, and None equals a field that is missing.
    if not all(isinstance(given.get(name), str) for name in wanted):
        raise ValueError("refused: no name and token")
    return users.find_one(equal_to(given))


def change_settings(users: Collection, body: object) -> None:
    """Change what users may change themselves, by an update that we have built."""
    users.update_one({"username": "bob"}, {"$set": plain_fields(body, ["city"])})


def search_names(users: Collection, text: str) -> list[Document]:
    """Return the users whose names begin with a text, which is no pattern."""
    return list(users.find({"username": {"$regex": "^" + re.escape(text[:50])}}))


# endregion injection


def log_in_naive(users: Collection, body: Any) -> Document | None:
    """Look up what the client has sent; PyMongo escapes nothing."""
    return users.find_one(body)


def change_naive(users: Collection, body: Any) -> None:
    """Apply what the client has sent: a list is a pipeline, a $set takes any field."""
    users.update_one({"username": "bob"}, body)


ATTACKS: tuple[tuple[str, Callable[..., Any], Callable[..., Any]], ...] = (
    ('{"username": "admin", "token": {"$ne": null}}', log_in_naive, log_in),
    ('{"username": {"$regex": "^a"}, "token": {"$gt": ""}}', log_in_naive, log_in),
    ('{"username": "admin", "$or": [{"role": "admin"}]}', log_in_naive, log_in),
    ('{"username": "admin", "$where": "true"}', log_in_naive, log_in),
    ('{"username": "sso"}', log_in_naive, log_in),
    ('[{"$set": {"role": "admin"}}]', change_naive, change_settings),
    ('{"$set": {"rights.billing": 1}}', change_naive, change_settings),
)
WON = {"in as admin", "in as sso", "bob is admin", "bob has billing rights"}
NO_SCRIPTS = "no JavaScript here"  # a MongoDB has it unless javascriptEnabled is false


def outcome(users: Collection, attack: Callable[..., Any], text: str) -> str:
    """Return what a client gets for a JSON text: a login, a change, or a refusal."""
    users.delete_many({})
    names = ("admin", "bob")
    users.insert_many([{"username": n, "token": n[::-1], "role": n} for n in names])
    users.insert_one({"username": "sso"})  # signs in elsewhere, so it has no token
    try:
        user = attack(users, json.loads(text))
    except ValueError as error:
        return str(error)
    except (NotImplementedError, err.OperationFailure):
        return NO_SCRIPTS if "$where" in text else "an error"
    bob = users.find({"username": "bob"})[0]
    got = f"has {'/'.join(bob['rights'])} rights" if "rights" in bob else ""
    got = got or f"is {bob.get('city', bob['role'])}"
    return f"in as {user['username']}" if user else f"bob {got}"


@lesson.demo
def injection(env: Env) -> None:
    """Injection: a JSON body with an operator logs in, unless values stay values"""
    env.fresh()
    users, rows = env.db["logins"], []
    for text, naive, ours in ATTACKS:
        rows.append((text, outcome(users, naive, text), outcome(users, ours, text)))
    table(("body", "naive", "defended"), *rows)
    won = {row[1] for row in rows} - {NO_SCRIPTS} == WON
    lost = {row[2][:7] for row in rows} == {"refused"}
    check(
        "operators and pipelines win where naive, not where defended",
        won and lost,
        True,
    )
    body = json.loads(ATTACKS[0][0])
    hits = [users.count_documents(query) for query in (body, equal_to(body))]
    fact("admins with that token", f"{hits[0]} as an operator, {hits[1]} by $eq")
    nobody = hits == [1, 0]
    check("behind that wall, $eq compares the operator and finds nobody", nobody, True)
    honest = [outcome(users, change_settings, '{"city": "in Kyiv"}')]
    honest.append(outcome(users, log_in, '{"username": "admin", "token": "nimda"}'))
    naive_hits = users.count_documents({"username": {"$regex": "^.*"}})
    hits = [len(search_names(users, text)) for text in (".*", "adm")]
    fact('names that begin with ".*"', f"{naive_hits} as a pattern, {hits[0]} as text")
    honest_in = honest == ["bob is in Kyiv", "in as admin"]
    right = honest_in and (naive_hits, hits) == (3, [0, 1])
    check("honest logins, changes and searches work; .* lists nobody", right, True)


# %% 9. Indexes: one for each question, and what it saves


def examined(plan: Any) -> tuple[str, int, int, int]:
    """Return a plan's scan, and the keys and documents that it reads and returns."""
    if "stages" in plan:  # of a pipeline
        plan = plan["stages"][0]["$cursor"]
    stats, winner = plan["executionStats"], str(plan["queryPlanner"]["winningPlan"])
    index = re.search("'indexName': '(.*?)'", winner)
    read = stats["totalKeysExamined"], stats["totalDocsExamined"]
    return index[1] if index else "COLLSCAN", *read, stats["nReturned"]


def explained(db: Database, pipeline: list[Document]) -> Any:
    """Return how a server runs a pipeline."""
    asked = {"aggregate": "events", "pipeline": pipeline, "cursor": {}}
    return db.command("explain", asked, verbosity="executionStats")


@lesson.demo
def plans(env: Env) -> None:
    """Plans: indexes deployed once, and only what is returned is read"""
    env.fresh()
    info = env.db["events"].index_information()
    rules = {"expireAfterSeconds": "TTL", "partialFilterExpression": "partial"}
    for name, index in sorted(info.items()):
        fields = ", ".join(f"{field} {way}" for field, way in index["key"])
        fact(name, ", ".join([fields, *(rules[key] for key in index if key in rules)]))
    again, failure = MongoDBManager(env.db).create_collections_with_schema(), ""
    try:
        env.db.create_collection("events")
    except err.CollectionInvalid as error:
        failure = type(error).__name__
    fact("create_collection() again", failure)
    right = failure != "" and again == []
    check("a second deployment neither changes nor fails", right, True)

    env.need_server("a COLLSCAN read all there is, an index what is returned")
    reads(env.db, env.fresh(events=1_000))
    if not env.mongodb:
        raise Skip("SecantusDB plans sorts as it likes: ESR is for MongoDB itself")
    env.db["events"].create_index([ESR[0], ESR[2], ESR[1]], name="ers")
    dear = {"event_type": "purchase", "metadata.price": {"$gte": 100}}
    latest = env.db["events"].find(dear).sort("timestamp", -1)
    winners = [latest.clone().hint(n).explain()["queryPlanner"] for n in ("ers", "esr")]
    sorts = ["'SORT'" in str(winner["winningPlan"]) for winner in winners]
    check(
        "ordered equality, sort, range, it spares a sort", sorts == [True, False], True
    )


def reads(db: Database, events: list[Document]) -> None:
    """Compare what queries read with what they return, without an index and with it."""
    find, price = db["events"].find, "$metadata.price"
    by_user = {"$group": {"_id": "$user_id", "spent": {"$sum": price}}}
    # A filter on the group's own key would be moved to the front for us.
    who = {"$set": {"who": {"$toInt": "$user_id"}}}
    mine = sum(event["user_id"] == 7 for event in events)
    books = [e["event_type"] for e in events if e["metadata"]["category"] == "book"]
    sold = {"metadata.category": "book", "event_type": "purchase"}
    found = {
        "a user's": find({"user_id": 7}).hint([("$natural", 1)]).explain(),
        "the same": find({"user_id": 7}).explain(),
        "books": find({"metadata.category": "book"}).explain(),
        # Trap: a partial index serves only queries that repeat its filter.
        "books sold": find(sold).explain(),
        "computed $match": explained(db, [who, {"$match": {"who": 7}}, by_user]),
        "$match, $group": explained(db, [{"$match": {"user_id": 7}}, by_user]),
    }
    rows: dict[str, tuple[object, ...]] = {k: examined(v) for k, v in found.items()}
    for name in ("computed $match", "$match, $group"):
        rows[name] = (*rows[name][:3], "")  # not every plan has the $group's input
    header = ("query", "index", "keys", "documents", "returned")
    table(header, *((name, *row) for name, row in rows.items()))
    naive = {name: rows.pop(name) for name in ("a user's", "books", "computed $match")}
    all_read = {row[:3] for row in naive.values()} == {("COLLSCAN", 0, len(events))}
    bought = books.count("purchase")
    exact = [*rows.values()] == [
        ("timeline", mine, mine, mine),
        ("bought", bought, bought, bought),
        ("timeline", mine, mine, ""),
    ]
    check(
        "with the index only what is returned is read, else all",
        exact and all_read,
        True,
    )


# %% 10. Concurrency: one winner, and no money lost


def race(work: Callable[[], object], workers: int = 16) -> None:
    """Run the work in as many threads at the same moment; raise what one raises."""
    start = threading.Barrier(workers, timeout=10)

    def run(_: int) -> None:
        start.wait()
        work()

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(run, range(workers)))


# region upsert
def count_visit(pages: Collection, name: str) -> None:
    """Count a visit; `name` has a unique index, or two upserts may insert twice."""
    change = {"$inc": {"visits": 1}}
    try:
        pages.update_one({"name": name}, change, upsert=True)
    except err.DuplicateKeyError:  # inserted between our look and our insert
        pages.update_one({"name": name}, change, upsert=True)


def take_seat(flights: Collection, seen: Document) -> None:
    """Take a seat of a flight as it was seen; if it has changed, look again."""
    for _ in range(100):
        change = {"taken": seen["taken"] + 1, "version": seen["version"] + 1}
        unchanged = {"_id": seen["_id"], "version": seen["version"]}
        if flights.update_one(unchanged, {"$set": change}).modified_count:
            return
        seen = flights.find({"_id": seen["_id"]})[0]
    raise TimeoutError("100 times somebody was faster")


# endregion upsert


@lesson.demo
def concurrency(env: Env) -> None:
    """Concurrency: 16 threads at once, one document, and the sum of money stays"""
    env.fresh(users=1)
    names = ("users", "pages", "naive", "flights")
    users, pages, naive, flights = (env.db[name] for name in names)
    pages.create_index("name", unique=True)
    seen = {"_id": 1, "taken": 0, "version": 0}
    flights.insert_many([seen, seen | {"_id": 2}])
    looked = threading.Barrier(16, timeout=10)

    def look_then_write() -> None:
        page, user = naive.find_one({"name": "home"}), users.find_one({"_id": 1})
        looked.wait()
        if not page:
            naive.insert_one({"name": "home"})
        if user and not user["subscriptions"]:
            users.update_one({"_id": 1}, {"$push": {"subscriptions": {"plan": "free"}}})
        flights.update_one({"_id": 2}, {"$set": {"taken": seen["taken"] + 1}})

    race(look_then_write)
    race(lambda: count_visit(pages, "home"))
    race(lambda: UserManager(env.db).add_subscription(1, "pro", START))
    race(lambda: take_seat(flights, seen))
    plan = Counter(row["plan"] for row in users.find()[0]["subscriptions"])
    counts = [collection.count_documents({}) for collection in (naive, pages)]
    taken = [flight["taken"] for flight in flights.find().sort("_id", -1)]
    header = ("after 16 at once", "look, then write", "in one step")
    subscribed = ("subscriptions", plan["free"], plan["pro"])
    table(header, ("pages", *counts), subscribed, ("seats taken", *taken))
    visits = [page["visits"] for page in pages.find()]
    check(
        "16 upserts leave 1 page with 16 visits",
        (counts, visits) == ([16, 1], [16]),
        True,
    )
    check("16 clicks subscribe once", plan == {"free": 16, "pro": 1}, True)
    check("a version in the filter loses none of 16 seats", taken == [1, 16], True)
    shows = "a sum kept by transactions; write skew and its cure"
    env.need_server(shows, replica_set=True)
    transfers(env.db)
    left = [on_call(env.db, shared) for shared in (False, True)]
    text = f"{left[0]}; with a shared write {left[1]}"
    fact("on call after two asked off at once", text)
    check(
        "write skew leaves nobody on call, a shared write leaves one",
        left == [0, 1],
        True,
    )


# region transfer
def move(
    db: Database, giver: int, taker: int, crash: bool, session: Any = None
) -> None:
    """Move a euro and record it: three writes, which are one only in a session."""
    # Trap: a write without session= is outside, and stays when the rest is undone.
    db["accounts"].update_one({"_id": giver}, {"$inc": {"euro": -1}}, session=session)
    if crash:
        raise Crash
    db["accounts"].update_one({"_id": taker}, {"$inc": {"euro": 1}}, session=session)
    db["moves"].insert_one({"giver": giver, "taker": taker}, session=session)


def transfer(db: Database, giver: int, taker: int, crash: bool = False) -> int:
    """Move a euro, all or nothing; return the attempts: after a conflict, once more."""
    attempts = 0

    def attempt(session: Any) -> None:
        nonlocal attempts
        attempts += 1
        move(db, giver, taker, crash, session)

    with db.client.start_session() as session:
        session.with_transaction(attempt)
    return attempts


# endregion transfer


def transfers(db: Database) -> None:
    """Race 80 transfers, of which 16 crash, with transactions and without."""
    accounts, moves = db.create_collection("accounts"), db.create_collection("moves")
    accounts.insert_many([{"_id": number, "euro": 100} for number in range(4)])
    attempts: list[int] = []

    def ten(way: Callable[..., int | None]) -> None:
        for number in range(10):
            with suppress(Crash):
                crash = number % 5 == 4
                attempts.append(way(db, number % 4, (number + 1) % 4, crash) or 0)

    rows = []
    for name, way in (("transactions", transfer), ("without", move)):
        moves.delete_many({})
        race(functools.partial(ten, way), 8)
        total = sum(account["euro"] for account in accounts.find())
        rows.append((name, total, moves.count_documents({})))
    note(f"64 transfers took {sum(attempts)} attempts")
    table(("80 transfers, 16 of them crash", "of 400 euro", "recorded"), *rows)
    kept = [row[1:] for row in rows] == [(400, 64), (384, 64)] and sum(attempts) > 64
    check("transactions keep the sum; without, each crash loses a euro", kept, True)


def on_call(db: Database, shared: bool) -> int:
    """Let two doctors go if another stays, in step; return how many are on call."""
    doctors = db[f"doctors{shared}"]
    rota = [{"_id": n, "on_call": n != "rota"} for n in ("ann", "bob", "rota")]
    doctors.insert_many(rota)

    def ask(session: Any, name: str) -> None:
        if doctors.count_documents({"on_call": True}, session=session) > 1:
            if shared:  # snapshots conflict only where both write the same document
                doctors.update_one({"_id": "rota"}, {"$inc": {"n": 1}}, session=session)
            off = {"$set": {"on_call": False}}
            doctors.update_one({"_id": name}, off, session=session)

    with db.client.start_session() as ann, db.client.start_session() as bob:
        ann.start_transaction()
        bob.start_transaction()
        ask(ann, "ann")
        try:
            ask(bob, "bob")
            ann.commit_transaction()
            bob.commit_transaction()
        except err.OperationFailure:  # TransientTransactionError: again from the start
            bob.abort_transaction()
            ann.commit_transaction()
            bob.with_transaction(lambda session: ask(session, "bob"))
    return doctors.count_documents({"on_call": True})


# %% 11. Reliability: a silent server, a lost connection, a feed taken up again


def limits(client: Any) -> Iterator[tuple[str, object]]:
    """Yield a client's waits in seconds and its concerns, by what they are for."""
    options, pool = client.options, client.options.pool_options
    yield "a server", options.server_selection_timeout
    yield "connecting", pool.connect_timeout
    yield "a free connection", pool.wait_queue_timeout or "for ever"
    yield "a whole operation", options.timeout or "for ever"
    written, read = client.write_concern.document, client.read_concern.level
    yield "acknowledged by", written.get("w", "as the server says")
    yield "read concern", read or "as the server says"


@lesson.demo
def reliability(env: Env) -> None:
    """Reliability: bounded waits, an insert sent again, a feed taken up again"""
    mute = socket.create_server(("127.0.0.1", 0))  # it accepts, and says nothing
    url = f"mongodb://127.0.0.1:{mute.getsockname()[1]}/"
    with (
        ThreadPoolExecutor() as pool,
        pymongo.MongoClient[Document](url) as naive,
        connect(url, env.commands, connect=False) as ours,
        connect(url, env.commands, timeoutMS=200) as hasty,
        mute,  # closed first, which ends the naive wait
    ):
        rows = zip(limits(naive), limits(ours), strict=True)
        facts = [(name, default, value) for (name, default), (_, value) in rows]
        waits = [pool.submit(c.admin.command, "ping") for c in (naive, hasty)]
        ended = wait(waits, 5, "FIRST_COMPLETED").done
        seen = [type(w.exception()).__name__ if w in ended else "" for w in waits]
    table(("seconds to wait for", "PyMongo", "ours"), *facts)
    defaults, finite = zip(*((row[1], row[2]) for row in facts[:4]), strict=True)
    bounded = "for ever" not in finite and defaults.count("for ever") == 2
    safe = [row[2] for row in facts[4:]] == ["majority"] * 2
    check("all our waits end, two of PyMongo's do not", bounded and safe, True)
    fact("a mute server, PyMongo's defaults", seen[0] or "still waiting")
    fact("a mute server, timeoutMS=200", seen[1] or "still waiting")
    right = seen[0] == "" and seen[1].endswith("TimeoutError")
    check("timeoutMS ends a wait that the defaults go on with", right, True)
    shows = "a feed taken up again, and an insert that was cut off sent again"
    env.need_server(shows, replica_set=True)
    feed_resumed(env.db.create_collection("feed"))
    steps = asyncio.run(write_and_hear(env.url, env.db.name))
    fact("AsyncMongoClient, in one thread", ", ".join(steps))
    right = steps == ["waits", "writes", "hears 5"]
    check("while it waits for a change, it makes that change", right, True)
    retried(env)


def feed_resumed(feed: Collection) -> None:
    """Read one change, stop, and go on behind it."""
    # region feed
    with feed.watch() as stream:
        feed.insert_many([{"_id": 1}, {"_id": 2}])
        first = stream.next()["documentKey"]["_id"]
        # Trap: stored before the change has had its effect, a crash loses that change.
        token = stream.resume_token
    feed.insert_one({"_id": 3})
    heard: list[list[int]] = [[], []]
    with feed.watch(resume_after=token) as resumed, feed.watch() as anew:
        feed.insert_one({"_id": 4})
        for stream, keys in zip((resumed, anew), heard, strict=True):
            while 4 not in keys:
                keys.append(stream.next()["documentKey"]["_id"])
    # endregion feed
    fact("changes after the first", f"{heard[0]} resumed, {heard[1]} watched anew")
    right = (first, heard) == (1, [[2, 3, 4], [4]])
    check(
        "a stream resumed from its token goes on with 2, a new one with 4", right, True
    )


# region async
async def write_and_hear(url: str, name: str) -> list[str]:
    """Wait for a change and make it meanwhile; return the steps in their order."""
    steps = []
    async with pymongo.AsyncMongoClient[Document](url, **OPTIONS) as client:
        feed = client[name]["feed"]
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


# endregion async


def retried(env: Env) -> None:
    """Drop the connection before an insert is done, without and with retryWrites."""
    rows = []
    for retry in (False, True):
        commands, app = CommandCounter(), f"module8-{uuid.uuid4().hex[:8]}"
        data = {"failCommands": ["insert"], "closeConnection": True, "appName": app}
        fault: Any = {"mode": {"times": 1}, "data": data}
        try:
            env.db.client.admin.command("configureFailPoint", "failCommand", **fault)
        except err.OperationFailure:
            text = "only with enableTestCommands=1 does a server drop an insert"
            raise Skip(text) from None
        client = connect(env.url, commands, appname=app, retryWrites=retry)
        with client, suppress(err.AutoReconnect):
            client[env.db.name]["orders"].insert_one({"_id": retry})
        stored = env.db["orders"].count_documents({"_id": retry})
        numbers = len(commands.transactions)
        rows.append((f"retryWrites={retry}", commands.sent, numbers, stored))
    table(("an insert cut off", "sent", "txnNumbers", "stored"), *rows)
    right = [row[1:] for row in rows] == [(1, 0, 0), (2, 1, 1)]
    check("cut off, it is stored if sent again, under the same txnNumber", right, True)


def main(argv: list[str] | None = None) -> int:
    """Teach, with the options of the command line; return the exit code."""
    return lesson.main(argv)


lesson.finish(__name__, main)
