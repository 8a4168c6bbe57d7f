"""Documents that hold: MongoDB, its traps, and how to step over them.

You will see, in order: validators, two schema versions read as one, bulk writes that
lose nothing, pipelines, summaries and cohorts, distances, an export that survives a
crash, operator injection, and what holds under load.

Run:     python 02_mongodb_advanced.py [--list] [--only NAME ...] [--offline]
Service: MongoDB 5.0 or later at $MONGODB_URI (mongodb:// or mongodb+srv://), else at
         127.0.0.1:27017, else SecantusDB's secantusd-py, if installed, for this run.
         All happens in a database module8_<random>, dropped in the end.
Without: mongomock. What it lacks is emulated, as the first line says, or skipped: the
         planner, transactions, $geoWithin.
Runtime: 5 s without a server, 30 s on SecantusDB.  Guide: COMPREHENSIVE_GUIDE.md, 2.
"""

# /// script
# requires-python = ">=3.11"
# dependencies = ["pymongo>=4.18.1,<5", "mongomock>=4.3,<5", "python-dotenv>=1.2.2,<2",
#                 "rich>=13.7,<16"]
# ///

from __future__ import annotations

import course.start  # noqa: F401  (first: it says in one line what is missing)

# isort: split

import argparse
import json
import math
import os
import re
import socket
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, BinaryIO

import bson
from pymongo import IndexModel, MongoClient, UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure

from course.claims import less_than, more_than
from course.console import Lesson, check, fact, table
from course.lab import in_background, outcome_of, start_together
from course.mongo.codec import (
    CODEC,
    RAW,
    UNENCODABLE,
    Collection,
    Database,
    Document,
    unencodable,
)
from course.mongo.complaints import DUPLICATE_KEY, reason, verdict
from course.mongo.connection import concerns_of, connect, waits_of
from course.mongo.counting import CommandCounter
from course.mongo.environment import MongoEnv, open_database
from course.mongo.pages import query_behind, raw_page
from course.mongo.plans import examined, explained, index_definition
from course.mongo.reference import (
    EARTH_KM,
    activity_of,
    cohorts_of,
    days_of,
    distribution_of,
    haversine,
    purchases_of,
)
from course.mongo.schema import record, typed
from course.mongo.seed import (
    END,
    KYIV,
    START,
    make_user,
    make_users,
)


def deploy(db: Database) -> None:
    """Create the collections of this lesson, as section 1 defines them."""
    MongoDBManager(db).create_collections_with_schema()


def open_env(args: argparse.Namespace) -> AbstractContextManager[MongoEnv]:
    """Open a database of our own where a server answers; drop it at the end."""
    return open_database(args, deploy)


lesson = Lesson("Documents that hold: MongoDB and its traps", open_env)


# %% [markdown]
# ## 1. Validators: the server refuses what must not be stored

# %%
# region documents
AN_EVENT: Document = {
    "schema_version": 1,
    "user_id": 7,
    "event_type": "purchase",
    "timestamp": datetime(2025, 6, 1, 12, 30, tzinfo=UTC),
    "metadata": {  # whatever this type of event needs
        "product": {"sku": "P-1", "title": "Databases"},
        "category": "book",
        "price": 19.5,
    },
    "geo": {"type": "Point", "coordinates": [30.5234, 50.4501]},  # longitude first
    "session_info": {"device": "phone", "os": "linux", "app_version": "8.1"},
}
A_USER: Document = {
    "_id": 7,
    "schema_version": 2,
    "username": "olha",
    "email": "olha@example.org",
    "created_at": datetime(2025, 1, 31, 22, 30, tzinfo=UTC),
    "profile": {"interests": ["sql", "maths"], "expertise": "senior", "projects": 12},
    "metrics": {"engagement": 0.8, "views": 341},
    "subscriptions": [{"plan": "pro", "since": datetime(2025, 2, 1, tzinfo=UTC)}],
}
# endregion documents


# region schemas
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
# endregion schemas
# region indexes
ESR = [("event_type", 1), ("timestamp", -1), ("metadata.price", 1)]
BOUGHT = {"event_type": "purchase"}
INDEXES = {
    "users": [
        IndexModel("username", name="username", unique=True),
        IndexModel("email", name="email", unique=True),
        IndexModel("profile.interests", name="interests"),
    ],
    # Each index answers one question; each write pays for all of them.
    "events": [
        IndexModel([("user_id", 1), ("timestamp", -1)], name="timeline"),
        IndexModel(ESR, name="esr"),  # equality first, then the sort, then the range
        IndexModel([("geo", "2dsphere")], name="place"),
        IndexModel("metadata.category", name="bought", partialFilterExpression=BOUGHT),
        # Trap: with a TTL index on `timestamp` the history is gone within a minute.
        IndexModel("expires_at", name="expiry", expireAfterSeconds=0),
    ],
}
# endregion indexes


# region manager
class MongoDBManager:
    """Keeps collections, validators and indexes as the code has them."""

    def __init__(self, db: Database, schemas: dict[str, Document] = SCHEMAS) -> None:
        self.db = db
        self.schemas = schemas

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
            done += self.create_missing_indexes(name)
        return done

    def create_missing_indexes(self, collection: str) -> list[str]:
        """Create the indexes that are not there as defined; return their names."""
        there = self.db[collection].index_information()
        missing = []
        for index in INDEXES[collection]:
            wanted = index.document
            found = there.get(wanted["name"])
            # By its rules too: an email that is not unique has the same name.
            if not found or index_definition(found) != index_definition(wanted):
                missing.append(index)
        return self.db[collection].create_indexes(missing) if missing else []


# endregion manager


SOUND_CHANGES: dict[str, Document] = {
    "user_id 2**31 (sent as int64)": {"user_id": 2**31},
    "price 5 (sent as int32)": {"metadata": {"price": 5}},
    "price Decimal128": {"metadata": {"price": bson.Decimal128("5.2")}},
    "price 1.0": {"metadata": {"price": 1.0}},
}
BAD_CHANGES: dict[str, Document] = {
    "user_id 1.0": {"user_id": 1.0},
    "user_id True": {"user_id": True},
    "price '5'": {"metadata": {"price": "5"}},
    "price True": {"metadata": {"price": True}},
    "geo without type": {"geo": {"coordinates": [30.5, 50.4]}},
    "is_admin, not in the schema": {"is_admin": True},
}
PRICE = typed("object", properties={"price": typed("double")})
NAIVE_SCHEMA = typed("object", properties={"user_id": typed("int"), "metadata": PRICE})


@lesson.demo
def validators(env: MongoEnv) -> None:
    """Validators: they accept what PyMongo sends and name what they refuse"""
    env.fresh()
    env.db.create_collection("naive", validator={"$jsonSchema": NAIVE_SCHEMA})
    verdicts: dict[str, list[str]] = {}
    for name in ("unchecked", "naive", "events"):
        verdicts[name] = []
        for change in (SOUND_CHANGES | BAD_CHANGES).values():
            verdicts[name].append(verdict(env.db[name], AN_EVENT | change))
    rows = zip(SOUND_CHANGES | BAD_CHANGES, *verdicts.values(), strict=True)
    table(("event", "no validator", "int and double", "ours"), *rows)
    # How many of the four sound events, which come first, each collection accepts.
    accepted = {name: each[:4].count("accepted") for name, each in verdicts.items()}
    check(
        "4 sound events are accepted, of which int and double refuse 3",
        accepted,
        {"unchecked": 4, "naive": 1, "events": 4},
    )
    named = ["user_id", "user_id", "metadata.price", "metadata.price"]
    check(
        "6 bad ones, else accepted, are refused by name",
        {"unchecked": verdicts["unchecked"][4:], "ours": verdicts["events"][4:]},
        {"unchecked": ["accepted"] * 6, "ours": [*named, "geo.type", "is_admin"]},
    )
    again = outcome_of(lambda: env.db.create_collection("events"))
    ours = MongoDBManager(env.db).create_collections_with_schema()
    check(
        "a second deployment neither changes nor fails",
        {"create_collection": type(again).__name__, "ours": ours},
        {"create_collection": "CollectionInvalid", "ours": []},
    )


# %% [markdown]
# ## 2. Versions: documents of two ages, read as one


# %%
BATCH = 1_000  # documents in one write command; a server takes up to 100,000


# region versions
def as_current(user: Document) -> Document:
    """Return a user of any schema version as version 2; the store is not touched."""
    if user["schema_version"] == 2:
        return user
    # A copy: a reader must not change what others hold.
    current = dict(user)
    profile = {"interests": current.pop("interests", [])}
    return current | {"schema_version": 2, "profile": profile}


def upgrade(old: Document) -> UpdateOne:
    """Return the write that stores a user as version 2, if nobody was faster."""
    # Trap: by _id alone we would undo what others write after our read. So they win:
    # our change finds nothing, and the next page has the user again.
    seen = {name: old.get(name) for name in ("_id", "schema_version", "interests")}
    new = {"schema_version": 2, "profile": as_current(old)["profile"]}
    return UpdateOne(seen, {"$set": new, "$unset": {"interests": ""}})


def upgrade_users(users: Collection, batch: int = BATCH) -> int:
    """Store the users of version 1 as version 2, page by page; return how many."""
    upgraded = 0
    # Each page changes what the query finds, so there is no position to keep.
    while page := list(users.find({"schema_version": 1}).limit(batch)):
        changes = [upgrade(old) for old in page]
        upgraded += users.bulk_write(changes, ordered=False).modified_count
    return upgraded


class VersionedUsers:
    """Finds users, in whichever version they are stored."""

    def __init__(self, db: Database) -> None:
        self.users = db["users"]

    def find_users_by_interest(self, interest: str, limit: int = 100) -> list[Document]:
        """Return users of both versions with an interest, in the order of _id."""
        wanted = {"$eq": interest}  # a dict from outside stays a value, no operator
        # Both places, until the last document of version 1 is upgraded.
        either = [{"profile.interests": wanted}, {"interests": wanted}]
        found = self.users.find({"$or": either}).sort("_id", 1).limit(limit)
        return [as_current(user) for user in found]


# endregion versions


def find_users_naive(users: Collection, interest: str) -> list[Document]:
    """Look where version 2 keeps the interests; whoever is older is not found."""
    return list(users.find({"profile.interests": interest}))


def old_user(number: int) -> Document:
    """Return a user as version 1 of the application stored it."""
    user = make_user(number)
    interests = user.pop("profile")["interests"]
    return user | {"schema_version": 1, "interests": interests}


def deploy_version_1(db: Database) -> None:
    """Create the users' collection as it was before there were profiles."""
    fields = USER | {"schema_version": {"enum": [1]}}
    del fields["profile"]
    schemas = {"users": record("username", **fields)}
    MongoDBManager(db, schemas).create_collections_with_schema()


def versions_side_by_side(users: Collection, manager: MongoDBManager) -> None:
    """Store 100 users of version 1, and then 100 of version 2 beside them."""
    users.insert_many([old_user(number) for number in range(1, 101)])
    refused = verdict(users, make_user(201))
    fact("a user of version 2, at first", f"breaks {refused}")
    changed = manager.create_collections_with_schema()
    users.insert_many(make_users(101, 200))
    check(
        "collMod lets version 2 in beside version 1",
        {"at first": refused, "then": changed, "users": users.count_documents({})},
        {
            "at first": "profile, schema_version",
            "then": ["changed users"],
            "users": 200,
        },
    )


@lesson.demo
def versions(env: MongoEnv) -> None:
    """Versions: two schema versions side by side, read as one"""
    env.fresh()
    users = env.db["users"]
    deploy_version_1(env.db)
    versions_side_by_side(users, MongoDBManager(env.db))
    naive = len(find_users_naive(users, "sql"))
    wanted = [make_user(number) for number in range(3, 201, 3)]
    before = VersionedUsers(env.db).find_users_by_interest("sql")
    upgraded = [upgrade_users(users, batch=40) for _ in range(2)]
    after = VersionedUsers(env.db).find_users_by_interest("sql")
    fact("interested in sql: naive, ours", f"{naive}, {len(before)}")
    check(
        "both versions are read alike, before and after the upgrade",
        {"naive": naive, "before": before, "after": after},
        {"naive": 33, "before": wanted, "after": wanted},
    )
    check("the upgrade is complete, and repeated does nothing", upgraded, [100, 0])


# %% [markdown]
# ## 3. Bulk writes: one command, nothing lost, nothing twice


# %%
# region bulk
@dataclass
class LoadReport:
    """What became of a load: every document is in exactly one of the three."""

    inserted: int = 0
    repeated: int = 0  # their _id was there: an earlier run of the same load
    rejected: list[tuple[int, str]] = field(default_factory=list)  # index, reason


class UserManager(VersionedUsers):
    """Unlike VersionedUsers, it also loads and changes them."""

    def bulk_insert_users(
        self, users: Sequence[Document], batch: int = BATCH
    ) -> LoadReport:
        """Insert users that carry their _id; bad ones do not keep good ones out.

        Run again, it inserts what is missing. Raises PyMongoError if the server fails.
        """
        report = LoadReport()
        stored: dict[Any, Document] = {}  # by _id: the users of this load that are in
        for start in range(0, len(users), batch):
            chunk = users[start : start + batch]
            complaints = self._insert(chunk)
            repeated = self._repeated(chunk, complaints)
            for index, user in enumerate(chunk):
                if index in complaints and index not in repeated:
                    report.rejected.append((start + index, reason(complaints[index])))
                elif stored.setdefault(user["_id"], user) != user:
                    # Trap: it looks like an earlier run's, and is another user.
                    report.rejected.append((start + index, "_id is twice in this load"))
                # Its _id was there with no word about it in this load: an earlier run.
                elif index in repeated:
                    report.repeated += 1
                else:
                    report.inserted += 1
        return report

    def _insert(self, users: Sequence[Document]) -> dict[int, Document]:
        """Insert in one command; return the complaints about users, by index."""
        try:
            if users:
                self.users.insert_many(users, ordered=False)
        except UNENCODABLE:
            # Trap: one such document fails the whole call. Send the others.
            unsent = {}
            for index, user in enumerate(users):
                if why := unencodable(user):
                    unsent[index] = {"code": 0, "unsent": why}
            if not unsent:
                raise  # so it was not that
            # What is left is sound for BSON; its complaints get their own indexes.
            good = [index for index in range(len(users)) if index not in unsent]
            complaints = self._insert([users[index] for index in good])
            return unsent | {good[n]: complaints[n] for n in complaints}
        except BulkWriteError as error:
            if error.details.get("writeConcernErrors"):
                raise  # written but not safe, which is no single user's fault
            return {each["index"]: each for each in error.details["writeErrors"]}
        return {}

    def _repeated(
        self, users: Sequence[Document], complaints: dict[int, Document]
    ) -> set[int]:
        """Return the indexes of the users whose _id was there already."""
        repeated = set()
        doubtful = {}
        for index, complaint in complaints.items():
            if "_id" in complaint.get("keyPattern", ()):
                repeated.add(index)
            elif complaint["code"] == DUPLICATE_KEY:
                # A server names one broken index, and it need not be that of _id.
                doubtful[index] = users[index]["_id"]
        if doubtful:
            query = {"_id": {"$in": list(doubtful.values())}}
            # One query for all that are in doubt, and none in a load without conflicts.
            there = self.users.distinct("_id", query)
            repeated |= {index for index in doubtful if doubtful[index] in there}
        return repeated

    def upsert_users(self, users: Iterable[Document]) -> int:
        """Insert or update users by _id; return how many are new or differ now."""
        # Only what differs is written: an equal document counts as not modified.
        changes = []
        for user in users:
            same = {"_id": user["_id"]}
            changes.append(UpdateOne(same, {"$set": user}, upsert=True))
        done = self.users.bulk_write(changes, ordered=False)
        return done.upserted_count + done.modified_count

    # endregion bulk
    def add_subscription(self, user_id: int, plan: str, since: datetime) -> bool:
        """Add a plan unless the user has it; raise LookupError for no such user."""
        # Condition and change are one command, so nobody comes in between.
        missing = {"_id": {"$eq": user_id}, "subscriptions.plan": {"$ne": plan}}
        added = {"$push": {"subscriptions": {"plan": plan, "since": since}}}
        done = self.users.update_one(missing, added).matched_count == 1
        if not done and not self.users.find_one({"_id": {"$eq": user_id}}):
            raise LookupError(f"no user {user_id}")
        return done


def insert_singly(collection: Collection, rows: list[Document]) -> None:
    """Insert with one command, and one round trip, for each document."""
    for row in rows:
        collection.insert_one(row)


def bad_batch(manager: UserManager) -> None:
    """Load seven users of whom three are bad: by insert_many, then by ours."""
    batch: list[Any] = make_users(10_001, 10_007)
    batch[1]["email"] = "nobody"
    batch[2]["metrics"] = {"views": object()}
    batch[4]["email"] = "user1@example.org"
    # It raises before anything is sent: an object() is not BSON.
    with suppress(bson.errors.BSONError):
        manager.users.insert_many(batch, ordered=False)
    naive = manager.users.count_documents({"_id": {"$gt": 10_000}})
    report = manager.bulk_insert_users(batch)
    table(("index", "rejected because"), *report.rejected)
    check(
        "4 of 7 are in, 3 named; insert_many stores none",
        {
            "insert_many": naive,
            "ours": manager.users.count_documents({"_id": {"$gt": 10_000}}),
            "reported": report.inserted,
            "named": [index for index, _ in report.rejected],
        },
        {"insert_many": 0, "ours": 4, "reported": 4, "named": [1, 2, 4]},
    )


def changed_at_the_source(manager: UserManager, people: list[Document]) -> None:
    """Load users of whom one has changed since: by insert, and by upsert."""
    people[0]["metrics"] = {"views": 1}
    inserted = manager.bulk_insert_users(people[:9]).inserted
    upserted = [manager.upsert_users(people[:9]) for _ in range(2)]
    fact("1 change, loaded again", f"{inserted} by insert; {upserted} by two upserts")
    check(
        "upserting brings it in, then 0; inserting nothing",
        {"inserted": inserted, "upserted": upserted},
        {"inserted": 0, "upserted": [1, 0]},
    )


@lesson.demo
def bulk(env: MongoEnv) -> None:
    """Bulk writes: 500 commands or 1, and every document is accounted for"""
    env.fresh()
    notes = [{"_id": number} for number in range(500)]
    singly = env.counted(lambda: insert_singly(env.db["singly"], notes))
    at_once = env.counted(lambda: env.db["at_once"].insert_many(notes))
    fact("commands for 500 documents", f"{singly} singly, {at_once} at once")
    check(
        "500 documents take 1 command instead of 500",
        {"singly": singly, "at once": at_once},
        {"singly": 500, "at once": 1},
    )
    manager = UserManager(env.db)
    people = make_users(1, 10_000)
    first = env.counted(lambda: manager.bulk_insert_users(people, batch=10_000))
    again = manager.bulk_insert_users(people)
    fact("10,000 users", f"{first} command; again: {again.inserted} new")
    check(
        "10,000 users are 1 command, and 0 new when it is repeated",
        {"commands": first, "again": again},
        {"commands": 1, "again": LoadReport(inserted=0, repeated=10_000)},
    )
    bad_batch(manager)
    changed_at_the_source(manager, people)


# %% [markdown]
# ## 4. Pipelines: the server computes, plain Python agrees

# %%
# region tracker
DAY = {"$dateToString": {"date": "$timestamp", "format": "%Y-%m-%d"}}  # in UTC


class EventTracker:
    """Events as they happen, and what they add up to."""

    def __init__(self, db: Database) -> None:
        self.events = db["events"]

    def log_event(self, user_id: int, event_type: str, **more: Any) -> Any:
        """Store an event, now unless `timestamp` is given; return its _id."""
        event = {
            "schema_version": 1,
            "user_id": user_id,
            "event_type": event_type,
            "timestamp": datetime.now(UTC),
        }
        if "geo" in more:
            # A server stores swapped coordinates; point(), of section 6, refuses them.
            point(*more["geo"]["coordinates"])
        return self.events.insert_one(event | more).inserted_id

    def get_event_distribution(self, start: datetime, end: datetime) -> list[Document]:
        """Return events and distinct users by type, for start <= timestamp < end."""
        # Distinct users are a set in memory per group: for millions, group twice.
        totals = {"events": {"$sum": 1}, "users": {"$addToSet": "$user_id"}}
        pipeline: list[Document] = [
            {"$match": {"timestamp": {"$gte": start, "$lt": end}}},
            {"$group": {"_id": "$event_type"} | totals},
            {"$set": {"users": {"$size": "$users"}}},
            {"$sort": {"events": -1, "_id": 1}},
        ]
        return list(self.events.aggregate(pipeline))

    def get_user_activity_metrics(self, limit: int = 10) -> list[Document]:
        """Return the most active users: events, active days, last seen."""
        totals = {
            "events": {"$sum": 1},
            "days": {"$addToSet": DAY},
            "last": {"$max": "$timestamp"},
        }
        pipeline: list[Document] = [
            {"$group": {"_id": "$user_id"} | totals},
            {"$set": {"days": {"$size": "$days"}}},
            {"$sort": {"events": -1, "_id": 1}},
            {"$limit": limit},
        ]
        return list(self.events.aggregate(pipeline))

    def get_purchase_analytics(self) -> Document:
        """Return orders and revenue by category, and orders by price, in one pass."""
        totals = {
            "orders": {"$sum": 1},
            "revenue": {"$sum": "$metadata.price"},
            "mean": {"$avg": "$metadata.price"},
        }
        bands = {
            "groupBy": "$metadata.price",
            # A price outside all bands would fail the pipeline, but for the default.
            "boundaries": [0, 50, 100, math.inf],
            "default": "no price",
            "output": {"orders": {"$sum": 1}},
        }
        by_category: list[Document] = [
            {"$group": {"_id": "$metadata.category"} | totals},
            {"$sort": {"_id": 1}},
        ]
        pipeline: list[Document] = [
            # Before $facet, which cannot use an index.
            {"$match": {"event_type": "purchase"}},
            {"$facet": {"by_category": by_category, "by_price": [{"$bucket": bands}]}},
        ]
        return next(iter(self.events.aggregate(pipeline)))

    def latest_with_names(self, limit: int) -> list[Document]:
        """Return the latest purchases with their users' names, in one command."""
        users = {
            "from": "users",
            "localField": "user_id",
            "foreignField": "_id",
            "as": "user",
        }
        pipeline: list[Document] = [
            # Limited before it is joined: $lookup asks once for each document.
            {"$match": {"event_type": "purchase"}},
            {"$sort": {"timestamp": -1, "_id": 1}},
            {"$limit": limit},
            {"$lookup": users},
            {"$unwind": "$user"},  # Trap: this drops an event whose user is gone
            {"$project": {"name": "$user.username"}},
        ]
        return list(self.events.aggregate(pipeline))


# endregion tracker


def latest_with_names_naive(db: Database, limit: int) -> list[Document]:
    """Return the same with one query more for every event."""
    bought = db["events"].find({"event_type": "purchase"})
    latest = bought.sort([("timestamp", -1), ("_id", 1)]).limit(limit)
    rows = []
    for event in latest:
        user = db["users"].find_one({"_id": event["user_id"]})
        if user:
            rows.append({"_id": event["_id"], "name": user["username"]})
    return rows


def count_closed(db: Database, start: datetime, end: datetime) -> int:
    """Count the events of a span whose end belongs to it, and to the next span."""
    closed = {"$gte": start, "$lte": end}
    return db["events"].count_documents({"timestamp": closed})


def revenue_unwound(db: Database) -> float:
    """Add up the prices after $unwind, which repeats an order for each of its tags."""
    total = {"$group": {"_id": None, "sum": {"$sum": "$metadata.price"}}}
    rows = db["events"].aggregate([{"$unwind": "$metadata.tags"}, total])
    return float(next(iter(rows))["sum"])


def distribution(db: Database, events: list[Document]) -> None:
    """Count by type, in all and in two days that meet at an event."""
    tracker = EventTracker(db)
    middle = events[0]["timestamp"]
    day = timedelta(days=1)
    # Each event belongs to one day, also one that happens as a day begins.
    half_open = 0
    closed = 0
    for start in (middle - day, middle):
        rows = tracker.get_event_distribution(start, start + day)
        half_open += sum(row["events"] for row in rows)
        closed += count_closed(db, start, start + day)
    fact("in two days, an event between", f"{half_open} half-open, {closed} closed")
    found = tracker.get_event_distribution(START, END)
    counts = [(row["_id"], row["events"], row["users"]) for row in found]
    table(("type", "events", "users"), *counts)
    inside = 0
    for event in events:
        inside += middle - day <= event["timestamp"] < middle + day
    check(
        "the distribution equals the reference; closed spans count double",
        {"by type": found, "half-open": half_open, "closed": closed},
        {
            "by type": distribution_of(events),
            "half-open": inside,
            "closed": more_than(inside),
        },
    )


def what_is_read(db: Database, events: list[Document]) -> None:
    """Compare what queries read, without an index and with it."""
    mine = sum(event["user_id"] == 7 for event in events)
    find = db["events"].find({"user_id": 7})
    scan = find.clone().hint([("$natural", 1)])  # as if there were no index
    by_user = {"$group": {"_id": "$user_id", "spent": {"$sum": "$metadata.price"}}}
    # Trap: a $match on what was computed before it cannot use an index.
    computed: list[Document] = [
        {"$set": {"who": {"$toInt": "$user_id"}}},
        {"$match": {"who": 7}},
    ]
    matched = [{"$match": {"user_id": 7}}]
    found = {
        "scan": examined(scan.explain()),
        "computed": examined(explained(db, [*computed, by_user])),
        "find": examined(find.explain()),
        "$match": examined(explained(db, [*matched, by_user])),
    }
    rows = [(name, *read) for name, read in found.items()]
    table((f"to return {mine}", "index", "keys", "documents"), *rows)
    everything = ("COLLSCAN", 0, len(events))
    only_mine = ("timeline", mine, mine)
    check(
        "with the index only what is returned is read, else all",
        found,
        {
            "scan": everything,
            "computed": everything,
            "find": only_mine,
            "$match": only_mine,
        },
    )


def activity(db: Database, events: list[Document]) -> None:
    """Rank the users by events, and count the days that had any."""
    found = EventTracker(db).get_user_activity_metrics(100)
    busiest = found[0]
    fact("the busiest user", f"{busiest['events']} events on {busiest['days']} days")
    check(
        "activity equals the reference; days are no events",
        {"ranking": found, "days": busiest["days"]},
        {"ranking": activity_of(events), "days": less_than(busiest["events"])},
    )


def purchases(db: Database, events: list[Document]) -> None:
    """Add up the orders by category and by price, right and unwound."""
    found = EventTracker(db).get_purchase_analytics()
    rows = [(row["_id"], row["orders"], row["revenue"]) for row in found["by_category"]]
    table(("category", "orders", "revenue"), *rows)
    revenue = sum(row["revenue"] for row in found["by_category"])
    unwound = revenue_unwound(db)
    fact("revenue after $unwind of two tags", unwound)
    check(
        "purchases equal the reference; unwound, they double",
        {"analytics": found, "unwound": unwound},
        {"analytics": purchases_of(events), "unwound": 2 * revenue},
    )


@lesson.demo
def pipelines(env: MongoEnv) -> None:
    """Pipelines: the server's answers equal plain Python's over 5,000 events"""
    events = env.fresh(users=100, events=5_000)
    distribution(env.db, events)
    activity(env.db, events)
    purchases(env.db, events)
    ours = EventTracker(env.db).latest_with_names
    names: list[list[Document]] = []
    loop = env.counted(lambda: names.append(latest_with_names_naive(env.db, 100)))
    joined = env.counted(lambda: names.append(ours(100)))
    fact("commands for 100 orders with names", f"{loop} in a loop, {joined} by $lookup")
    check(
        "$lookup answers in 1 command, the loop in 101",
        {"loop": loop, "$lookup": joined, "names": names[1]},
        {"loop": 101, "$lookup": 1, "names": names[0]},
    )
    env.need_server("a COLLSCAN read all there is, an index what is returned")
    what_is_read(env.db, events)


# %% [markdown]
# ## 5. Summaries: computed twice and still right


# %%
# region summaries
class Summaries:
    """Daily sums and cohorts, from events and users."""

    def __init__(self, db: Database) -> None:
        self.db = db

    def summarize_days(self, start: datetime, end: datetime) -> None:
        """Compute the days from start to before end again; replace them in `daily`.

        So a run may be repeated, at once or when events came late; it has to be, after
        a lost connection: drivers do not retry $merge.
        """
        totals = {"events": {"$sum": 1}, "revenue": {"$sum": "$metadata.price"}}
        pipeline: list[Document] = [
            # Trap: half a day here would replace a whole one by its half.
            {"$match": {"timestamp": {"$gte": start, "$lt": end}}},
            {"$group": {"_id": DAY} | totals},
            {"$merge": {"into": "daily", "whenMatched": "replace"}},
        ]
        self.db["events"].aggregate(pipeline)

    def calculate_cohort_metrics(self) -> list[Document]:
        """Return users, active users and revenue by calendar month (UTC) of sign-up."""
        revenue = {"$sum": "$metadata.price"}
        # Two short answers are joined here; a $lookup would read a user per event.
        by_user: Document = {"$group": {"_id": "$user_id", "revenue": revenue}}
        spent = {}
        for row in self.db["events"].aggregate([by_user]):
            spent[row["_id"]] = row["revenue"]
        # Trap: in the time zone of whoever asks, users move to another month.
        month = {"$dateToString": {"date": "$created_at", "format": "%Y-%m"}}
        by_month: list[Document] = [
            {"$group": {"_id": month, "users": {"$push": "$_id"}}},
            {"$sort": {"_id": 1}},
        ]
        cohorts = []
        for row in self.db["users"].aggregate(by_month):
            active = [user for user in row["users"] if user in spent]
            cohort = {
                "cohort": row["_id"],
                "users": len(row["users"]),
                "active": len(active),
                "revenue": sum(spent[user] for user in active),
            }
            cohorts.append(cohort)
        return cohorts


# endregion summaries


def summarize_days_naive(db: Database, events: list[Document]) -> None:
    """Add the events to counters, one by one: right, if it runs only once."""
    for row in days_of(events):
        change = {"$inc": {"events": row["events"]}}
        db["counters"].update_one({"_id": row["_id"]}, change, upsert=True)


def events_in(collection: Collection) -> int:
    """Return the events that the rows of a summary count."""
    return sum(row["events"] for row in collection.find())


@lesson.demo
def summaries(env: MongoEnv) -> None:
    """Summaries: $merge may run twice, $inc may not, and months begin in UTC"""
    events = env.fresh(users=100, events=5_000)
    ours = Summaries(env.db)
    # A scheduler that retries does just this.
    for _ in range(2):
        summarize_days_naive(env.db, events)
        ours.summarize_days(START, END)
    naive = events_in(env.db["counters"])
    merged = events_in(env.db["daily"])
    fact("5,000 events summed up twice", f"{naive} with $inc, {merged} with $merge")
    daily = list(env.db["daily"].find().sort("_id", 1))
    check(
        "$merge run twice equals the reference; $inc doubles",
        {"$inc": naive, "$merge": daily},
        {"$inc": 10_000, "$merge": days_of(events)},
    )
    found = ours.calculate_cohort_metrics()
    rows = [list(row.values()) for row in found]
    table(("cohort", "users", "active", "revenue"), *rows)
    users = make_users(1, 100)
    # A user who signed up at 22:30 UTC did so on the next day in Kyiv.
    kyiv = timezone(timedelta(hours=3))
    moved = 0
    for user in users:
        signed_up = user["created_at"]
        moved += signed_up.astimezone(kyiv).month != signed_up.month
    fact("users in another month in Kyiv", moved)
    check(
        "cohorts by UTC equal the reference; Kyiv's would move 10",
        {"cohorts": found, "moved": moved},
        {"cohorts": cohorts_of(users, events), "moved": 10},
    )


# %% [markdown]
# ## 6. Geo: metres on a sphere, longitude first


# %%
# region geo
def point(longitude: float, latitude: float) -> Document:
    """Return a GeoJSON point; raise ValueError outside our area (swapped?)."""
    # The two ranges do not overlap, so that a swap is always outside.
    if not (22 <= longitude <= 41 and 44 <= latitude <= 53):
        raise ValueError(f"({longitude}, {latitude}) is not in our area: swapped?")
    return {"type": "Point", "coordinates": [float(longitude), float(latitude)]}


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


def is_near_naive(event: Document, max_km: float) -> bool:
    """Tell whether an event is near, as if a degree were 111 km in each direction."""
    return math.dist(event["geo"]["coordinates"], KYIV) <= max_km / 111


def metres_off(found: list[Document], radius_km: float) -> float:
    """Return how far the server's distances are from haversine's, at most."""
    off: list[float] = [row["metres"] - haversine(row, radius_km) for row in found]
    return max(map(abs, off))


def swapped_coordinates(db: Database) -> None:
    """Store an event in Kyiv whose latitude comes first."""
    swapped = {"type": "Point", "coordinates": [KYIV[1], KYIV[0]]}
    server = verdict(db["events"], AN_EVENT | {"geo": swapped})
    refusal = outcome_of(lambda: point(KYIV[1], KYIV[0]))
    fact("Kyiv swapped: server, point()", f"{server}, {type(refusal).__name__}")
    check(
        "point() refuses swapped coordinates",
        {"server": server, "point()": type(refusal)},
        {"server": "accepted", "point()": ValueError},
    )


@lesson.demo
def geo(env: MongoEnv) -> None:
    """Geo: distances to 0.1 m, and what swapped coordinates do"""
    events = env.fresh(events=1_000, located=True)
    manager = GeoLocationManager(env.db)
    found = manager.find_events_near_location(*KYIV, max_km=5)
    ours = metres_off(found, EARTH_KM)
    usual = metres_off(found, 6_371)
    fact("metres off with R = 6371 km", f"up to {usual:.1f}")
    check(
        "metres equal haversine's with R = 6378.1 km to 0.1",
        {"R = 6378.1": ours, "R = 6371": usual},
        {"R = 6378.1": less_than(0.1), "R = 6371": more_than(1)},
    )
    inside = [event for event in events if haversine(event) <= 5_000]
    inside.sort(key=haversine)
    flat = sum(is_near_naive(event, 5) for event in events)
    fact("events within 5 km, 5/111 degrees", f"{len(inside)}, {flat}")
    check(
        "$geoNear equals brute force; degrees miss some",
        {"$geoNear": [row["_id"] for row in found], "degrees": flat},
        {
            "$geoNear": [event["_id"] for event in inside],
            "degrees": less_than(len(inside)),
        },
    )
    swapped_coordinates(env.db)
    env.need_server("that $geoWithin counts the same events")
    check(
        "$geoWithin equals brute force; degrees do not",
        {"$geoWithin": manager.count_events_within(*KYIV, 5), "degrees": flat},
        {"$geoWithin": len(inside), "degrees": less_than(len(inside))},
    )


# %% [markdown]
# ## 7. Export: pages by key, a file that is its own checkpoint


# %%
PAGE = 500  # documents in memory at once during an export


# region export
def last_id(file: BinaryIO) -> Any:
    """Return the _id of the last whole document, or None; cut off a torn one."""
    size = file.seek(0, os.SEEK_END)
    begin = 0
    end = 0
    while end + 4 <= size:
        file.seek(end)
        length = int.from_bytes(file.read(4), "little")  # BSON begins with its length
        if not 5 <= length <= 2**24:  # text read as a number is far more
            raise ValueError(f"no BSON document at byte {end}: not an export of ours")
        if end + length > size:
            break
        begin = end
        end += length
    file.truncate(end)
    if end == 0:
        return None
    file.seek(begin)
    return bson.decode(file.read(end - begin), CODEC)["_id"]


class DataProcessor(Summaries):
    """Unlike Summaries, it also takes all events away, in a file."""

    def export_data_for_analysis(
        self,
        path: Path,
        page: int = PAGE,
        on_page: Callable[[int], object] | None = None,
    ) -> int:
        """Append the events that a file lacks, in the order of _id; return how many.

        The file holds BSON documents end to end, as mongodump's do, and is its own
        checkpoint: killed at any byte, it is gone on with behind the last whole one.
        Memory holds one page. Raises ValueError for a file that is something else, or
        where the _id are of two types.
        """
        events = self.db["events"]
        written = 0
        with path.open("a+b") as file:
            query = query_behind(events, last_id(file))
            # Trap: skip() would read all earlier pages again, for each page.
            while data := raw_page(events, query, page):
                file.write(data)
                # Before the next page is asked for: a crash loses one page at most.
                file.flush()
                rows = bson.decode_all(data, RAW)  # raw: only one _id is looked at
                query = {"_id": {"$gt": rows[-1]["_id"]}}
                written += len(rows)
                if on_page:
                    on_page(written)
        return written


# endregion export


class Crash(Exception):
    """Stands for a process that ends in the middle of its work."""


def crash_at_1000(written: int) -> None:
    """End an export after two pages of 500."""
    if written == 1_000:
        raise Crash


@lesson.demo
def export(env: MongoEnv) -> None:
    """Export: killed half-way and resumed, every document is there once"""
    env.fresh(events=2_000, located=True)
    ours = DataProcessor(env.db).export_data_for_analysis
    with tempfile.TemporaryDirectory(prefix="module8-export-") as folder:
        path = Path(folder, "ours")
        with suppress(Crash):
            ours(path, on_page=crash_at_1000)
        # Restarted from the beginning, it would append all of them again.
        restarted = len(bson.decode_all(path.read_bytes())) + 2_000
        with path.open("ab") as file:
            file.write(
                bson.encode(AN_EVENT)[:-7]
            )  # it died in the middle of a document
        resumed = ours(path)
        data = path.read_bytes()
    ids = [row["_id"] for row in bson.decode_all(data, CODEC)]
    fact("after a crash at 1,000", f"{restarted} restarted, {len(ids)} resumed")
    check(
        "resumed, each of 2,000 is there once; restarted, 1,000 twice",
        {"restarted": restarted, "resumed": resumed, "ids": ids},
        {"restarted": 3_000, "resumed": 1_000, "ids": list(range(1, 2_001))},
    )


# %% [markdown]
# ## 8. Injection: a value that is an operator


# %%
# region injection
def plain_fields(body: object, allowed: Iterable[str]) -> Document:
    """Return a client's JSON object of plain values in allowed fields.

    Raises ValueError for all else: operators such as {"$ne": null}, pipelines (lists),
    names with $ or dots, fields that the client has no business with.
    """
    # An allow-list: what it does not name is refused, also what comes next year.
    if not isinstance(body, dict) or not body.keys() <= set(allowed):
        raise ValueError("refused: no object of allowed fields")
    for value in body.values():
        # A dict would be an operator, a list a pipeline or an $in.
        if not isinstance(value, str | int | float | bool):
            raise ValueError("refused: no plain value")
    if unencodable(body):  # such as an int of more than 64 bits
        raise ValueError("refused: no plain value")
    return body


def equal_to(given: Document) -> Document:
    """Return a filter that compares the values and obeys none of them."""
    return {key: {"$eq": value} for key, value in given.items()}


def log_in(users: Collection, body: object) -> Document | None:
    """Return the user with this name and this token (in life: its hash), or None."""
    given = plain_fields(body, ("username", "token"))
    for name in ("username", "token"):
        # Trap: a field left out restricts nothing, and None equals a missing field.
        if not isinstance(given.get(name), str):
            raise ValueError("refused: no name and token")
    return users.find_one(equal_to(given))


def change_settings(users: Collection, body: object) -> None:
    """Change what users may change themselves, by an update that we have built."""
    changes = plain_fields(body, ["city"])
    users.update_one({"username": "bob"}, {"$set": changes})


def search_names(users: Collection, text: str) -> list[Document]:
    """Return the users whose names begin with a text, which is no pattern."""
    # Escaped, and bounded: a long pattern costs the server time.
    pattern = "^" + re.escape(text[:50])
    return list(users.find({"username": {"$regex": pattern}}))


# endregion injection


def log_in_naive(users: Collection, body: Any) -> Document | None:
    """Look up what the client has sent; PyMongo escapes nothing."""
    return users.find_one(body)


def change_naive(users: Collection, body: Any) -> None:
    """Apply what the client has sent: a list is a pipeline, a $set takes any field."""
    users.update_one({"username": "bob"}, body)


def search_names_naive(users: Collection, text: str) -> list[Document]:
    """Take what the client has sent for a pattern."""
    return list(users.find({"username": {"$regex": "^" + text}}))


LOGINS = (
    '{"username": "admin", "token": {"$ne": null}}',
    '{"username": {"$regex": "^a"}, "token": {"$gt": ""}}',
    '{"username": "admin", "$or": [{"role": "admin"}]}',
    '{"username": "admin", "$where": "true"}',
    '{"username": "sso"}',
)
CHANGES = ('[{"$set": {"role": "admin"}}]', '{"$set": {"rights.billing": 1}}')
WON = {"in as admin", "in as sso", "bob is admin", "bob has billing rights"}
NO_SCRIPTS = "no JavaScript here"  # a MongoDB has it unless javascriptEnabled is false


def result_of(users: Collection, call: Callable[..., Any], text: str) -> str:
    """Return what a client gets for a JSON text: a login, a change, or a refusal."""
    users.delete_many({})
    for name in ("admin", "bob"):
        users.insert_one({"username": name, "token": name[::-1], "role": name})
    users.insert_one({"username": "sso"})  # signs in elsewhere, so it has no token
    try:
        user = call(users, json.loads(text))
    except ValueError as error:
        return str(error)
    except (NotImplementedError, OperationFailure):
        return NO_SCRIPTS if "$where" in text else "an error"
    if user:
        return f"in as {user['username']}"
    bob = users.find({"username": "bob"})[0]
    if "rights" in bob:
        return f"bob has {'/'.join(bob['rights'])} rights"
    return f"bob is {bob.get('city', bob['role'])}"


def honest_use(users: Collection) -> None:
    """Log in, change and search as one should; and search for what is a pattern."""
    pattern = len(search_names_naive(users, ".*"))
    escaped = len(search_names(users, ".*"))
    fact('names that begin with ".*"', f"{pattern} as a pattern, {escaped} as text")
    honest = '{"username": "admin", "token": "nimda"}'
    check(
        "honest logins, changes and searches work; .* lists nobody",
        {
            "login": result_of(users, log_in, honest),
            "change": result_of(users, change_settings, '{"city": "in Kyiv"}'),
            "search": len(search_names(users, "adm")),
            ".* as a pattern": pattern,
            ".* as text": escaped,
        },
        {
            "login": "in as admin",
            "change": "bob is in Kyiv",
            "search": 1,
            ".* as a pattern": 3,
            ".* as text": 0,
        },
    )


@lesson.demo
def injection(env: MongoEnv) -> None:
    """Injection: a JSON body with an operator logs in, unless values stay values"""
    env.fresh()
    users = env.db["logins"]
    naive = {text: result_of(users, log_in_naive, text) for text in LOGINS}
    naive |= {text: result_of(users, change_naive, text) for text in CHANGES}
    ours = {text: result_of(users, log_in, text) for text in LOGINS}
    ours |= {text: result_of(users, change_settings, text) for text in CHANGES}
    rows = [(text, naive[text], ours[text]) for text in naive]
    table(("body", "naive", "defended"), *rows)
    refused = [text for text in ours if ours[text].startswith("refused")]
    check(
        "operators and pipelines win where naive, not where defended",
        {"naive": set(naive.values()) - {NO_SCRIPTS}, "defended": refused},
        {"naive": WON, "defended": [*LOGINS, *CHANGES]},
    )
    body = json.loads(LOGINS[0])
    obeyed = users.count_documents(body)
    compared = users.count_documents(equal_to(body))
    fact("admins with that token", f"{obeyed} as an operator, {compared} by $eq")
    check(
        "behind that wall, $eq compares the operator and finds nobody",
        {"as an operator": obeyed, "by $eq": compared},
        {"as an operator": 1, "by $eq": 0},
    )
    honest_use(users)


# %% [markdown]
# ## 9. Under load: one winner, no money lost, no wait without an end


# %%
CROWD = 16  # threads that do the same at the same moment


# region upsert
def count_visit(pages: Collection, name: str) -> None:
    """Count a visit; `name` has a unique index, or two upserts may insert twice."""
    change = {"$inc": {"visits": 1}}
    try:
        pages.update_one({"name": name}, change, upsert=True)
    except DuplicateKeyError:  # inserted between our look and our insert
        pages.update_one({"name": name}, change, upsert=True)


def take_seat(flights: Collection, seen: Document) -> None:
    """Take a seat of a flight as it was seen; if it has changed, look again."""
    # Somebody wins each round, so that 16 need 16 rounds at most.
    for _ in range(100):
        change = {"taken": seen["taken"] + 1, "version": seen["version"] + 1}
        unchanged = {"_id": seen["_id"], "version": seen["version"]}
        if flights.update_one(unchanged, {"$set": change}).modified_count:
            return
        seen = flights.find({"_id": seen["_id"]})[0]
    raise TimeoutError("100 times somebody was faster")


# endregion upsert


def take_seat_naive(flights: Collection, seen: Document) -> None:
    """Write what follows from what was seen, however long ago that was."""
    change = {"$set": {"taken": seen["taken"] + 1}}
    flights.update_one({"_id": seen["_id"]}, change)


def count_visit_naive(pages: Collection, name: str, others: threading.Barrier) -> None:
    """Look, then write: nothing keeps the others from looking before we write."""
    page = pages.find_one({"name": name})
    others.wait()
    if not page:
        pages.insert_one({"name": name, "visits": 1})


def subscribe_naive(users: Collection, plan: str, others: threading.Barrier) -> None:
    """Look, then write, once more."""
    user = users.find_one({"_id": 1})
    others.wait()
    if user and not user["subscriptions"]:
        users.update_one({"_id": 1}, {"$push": {"subscriptions": {"plan": plan}}})


def all_at_once(call: Callable[[], Any]) -> None:
    """Make the same call in sixteen threads at once; raise what one of them raises."""
    for outcome in start_together([call] * CROWD):
        if isinstance(outcome, Exception):
            raise outcome


# region transfer
def move(
    db: Database, giver: int, taker: int, crash: bool, session: Any = None
) -> None:
    """Move a euro and record it: three writes, which are one only in a session."""
    # Trap: a write without session= is outside, and stays when the rest is undone.
    accounts = db["accounts"]
    accounts.update_one({"_id": giver}, {"$inc": {"euro": -1}}, session=session)
    if crash:
        raise Crash
    accounts.update_one({"_id": taker}, {"$inc": {"euro": 1}}, session=session)
    db["moves"].insert_one({"giver": giver, "taker": taker}, session=session)


def transfer(db: Database, giver: int, taker: int, crash: bool) -> None:
    """Move a euro, all or nothing; after a conflict it is tried again."""
    with db.client.start_session() as session:
        # Trap: after a conflict it runs again, so it must do nothing else.
        session.with_transaction(lambda own: move(db, giver, taker, crash, own))


# endregion transfer


def visits(db: Database) -> None:
    """Count a visit in each of sixteen threads."""
    # All have looked before one writes: a race that does not need luck.
    others = threading.Barrier(CROWD, timeout=10)
    all_at_once(lambda: count_visit_naive(db["naive"], "home", others))
    db["pages"].create_index("name", unique=True)
    all_at_once(lambda: count_visit(db["pages"], "home"))
    naive = [page["visits"] for page in db["naive"].find()]
    ours = [page["visits"] for page in db["pages"].find()]
    fact("pages after 16 visits", f"{len(naive)} naive, {len(ours)} by upsert")
    check(
        "16 upserts leave 1 page with 16 visits",
        {"naive": naive, "upsert": ours},
        {"naive": [1] * 16, "upsert": [16]},
    )


def subscriptions(db: Database) -> None:
    """Subscribe one user in each of sixteen threads."""
    others = threading.Barrier(CROWD, timeout=10)
    all_at_once(lambda: subscribe_naive(db["users"], "free", others))
    all_at_once(lambda: UserManager(db).add_subscription(1, "pro", START))
    user = db["users"].find({"_id": 1})[0]
    plans = Counter(each["plan"] for each in user["subscriptions"])
    fact("subscriptions after 16 clicks", f"{plans['free']} naive, {plans['pro']} ours")
    check("16 clicks subscribe once", plans, {"free": 16, "pro": 1})


def seats(db: Database) -> None:
    """Take a seat in each of sixteen threads, of a flight that all saw when empty."""
    seen = {"taken": 0, "version": 0}
    flights = db["flights"]
    naive = {"_id": "naive"} | seen
    ours = {"_id": "ours"} | seen
    flights.insert_many([naive, ours])
    all_at_once(lambda: take_seat_naive(flights, naive))
    all_at_once(lambda: take_seat(flights, ours))
    taken = {flight["_id"]: flight["taken"] for flight in flights.find()}
    fact("seats taken by 16", f"{taken['naive']} naive, {taken['ours']} with a version")
    expected = {"naive": 1, "ours": 16}
    check("a version in the filter loses none of 16 seats", taken, expected)


def bounded_waits() -> None:
    """Ask a server that accepts a connection and says nothing."""
    # A frozen server looks like this: the kernel accepts for it.
    mute = socket.create_server(("127.0.0.1", 0))
    url = f"mongodb://127.0.0.1:{mute.getsockname()[1]}/"
    counter = CommandCounter()
    with (
        MongoClient[Document](url) as naive,
        connect(url, counter, connect=False) as ours,
        connect(url, counter, timeoutMS=200) as hasty,
        mute,  # closed first, which ends the naive wait
    ):
        usual = waits_of(naive) | concerns_of(naive)
        finite = waits_of(ours) | concerns_of(ours)
        waiting = in_background(lambda: naive.admin.command("ping"))
        ending = in_background(lambda: hasty.admin.command("ping"))
        ended = outcome_of(lambda: ending.result(5))
        still_waiting = not waiting.done()
    outcome_of(lambda: waiting.result(5))
    rows = [(name, usual[name], finite[name]) for name in usual]
    table(("seconds to wait for", "PyMongo", "ours"), *rows)
    check(
        "all our waits end, two of PyMongo's do not",
        {
            "PyMongo": list(usual.values()).count("for ever"),
            "ours": list(finite.values()).count("for ever"),
            "acknowledged by": finite["acknowledged by"],
            "read concern": finite["read concern"],
        },
        {
            "PyMongo": 2,
            "ours": 0,
            "acknowledged by": "majority",
            "read concern": "majority",
        },
    )
    fact("a mute server, timeoutMS=200", type(ended).__name__)
    check(
        "timeoutMS ends a wait that the defaults go on with",
        {"defaults still wait": still_waiting, "timeoutMS": type(ended).__name__},
        {"defaults still wait": True, "timeoutMS": "ServerSelectionTimeoutError"},
    )


def total_after_transfers(db: Database, way: Callable[..., None]) -> tuple[int, int]:
    """Race 80 transfers, of which 16 crash; return the money left and the records."""
    db["moves"].drop()
    db["accounts"].drop()
    # Created outside: a transaction would conflict with the others over it.
    db.create_collection("moves")
    accounts = [{"_id": number, "euro": 100} for number in range(4)]
    db["accounts"].insert_many(accounts)

    def ten() -> None:
        for number in range(10):
            with suppress(Crash):
                way(db, number % 4, (number + 1) % 4, crash=number % 5 == 4)

    for outcome in start_together([ten] * 8):
        if isinstance(outcome, Exception):
            raise outcome
    total = sum(account["euro"] for account in db["accounts"].find())
    return total, db["moves"].count_documents({})


@lesson.demo
def concurrency(env: MongoEnv) -> None:
    """Under load: 16 at once and one winner, waits that end, money that stays"""
    env.fresh(users=1)
    visits(env.db)
    subscriptions(env.db)
    seats(env.db)
    bounded_waits()
    env.need_server("a sum that transactions keep", replica_set=True)
    totals = {}
    for way in (transfer, move):
        totals[way.__name__] = total_after_transfers(env.db, way)
    rows = [(name, *total) for name, total in totals.items()]
    table(("80 transfers, 16 of them crash", "of 400 euro", "recorded"), *rows)
    check(
        "transactions keep the sum; without, each crash loses a euro",
        totals,
        {"transfer": (400, 64), "move": (384, 64)},
    )


# %%
def main(argv: list[str] | None = None) -> int:
    """Teach, with the options of the command line; return the exit code."""
    return lesson.main(argv)


lesson.finish(__name__, main)
