"""Documents that hold: MongoDB, its traps, and how to step over them.

You will see, in order: validators, two schema versions read as one, bulk writes that
lose nothing, pipelines, summaries and cohorts, distances, an export that survives a
crash, operator injection, what holds under load, and what to embed.

Run:     python 02_mongodb_advanced.py [--list] [--only NAME ...] [--offline]
Service: MongoDB 5.0 or later at $MONGODB_URI (mongodb:// or mongodb+srv://), else at
         127.0.0.1:27017, else a SecantusDB for this run, if secantusd-py is installed.
         All data goes into a database module8_<random>, dropped at the end.
Without: mongomock. What it lacks is emulated (the first line says what) or skipped: the
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
import re
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import bson
from pymongo import IndexModel, UpdateOne
from pymongo.collation import Collation
from pymongo.errors import BulkWriteError, DuplicateKeyError, WriteError

from course.claims import less_than, more_than
from course.console import Lesson, check, fact, table
from course.lab import outcome_of, start_together
from course.mongo.attacks import CALLER, CHANGES, LOGINS, NO_SCRIPTS, WON, result_of
from course.mongo.codec import (
    CODEC,
    MOST_BYTES,
    RAW,
    Collection,
    Database,
    Document,
    is_text,
    list_in,
    span,
    unencodable,
    unencodable_of,
    with_time_zones,
)
from course.mongo.complaints import DUPLICATE_KEY, accepted, reason, verdict, verdicts
from course.mongo.deployment import (
    created,
    planned,
    refuse_differences,
    replaced_indexes,
)
from course.mongo.environment import MongoEnv, open_database
from course.mongo.exports import export_file, exported, lacking
from course.mongo.frames import (
    kept,
    pandas_or_skip,
    to_documents,
    to_frame,
    visits_of_all_kinds,
)
from course.mongo.pages import query_behind, raw_page
from course.mongo.places import point, point_of
from course.mongo.plans import Examined, examined, explained
from course.mongo.reference import (
    EARTH_KM,
    activity_of,
    cohorts_of,
    days_of,
    distribution_of,
    events_around,
    haversine,
    is_near_naive,
    metres_off,
    moved_to_another_month,
    purchases_of,
)
from course.mongo.samples import BAD_CHANGES, NAIVE_SCHEMA, SOUND_CHANGES
from course.mongo.schema import record, typed
from course.mongo.seed import END, KYIV, START, make_user, make_users


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
    "profile": {"interests": ["sql", "maths"], "expertise": "lead", "projects": 12},
    "metrics": {"engagement": 0.8, "views": 341},
    "subscriptions": [{"plan": "pro", "since": datetime(2025, 2, 1, tzinfo=UTC)}],
}
# endregion documents


# region schemas
# typed(bsonType...) describes a value; record("a b", a=..., b=..., c=...) an object
# that must have a and b, may have c, and nothing else.
# PyMongo sends an int from 2**31 on as int64: "int" alone is too narrow.
WHOLE = typed("int", "long", minimum=0)
NUMBER = typed("number", minimum=0)  # int, long, double or Decimal128
TEXT = typed("string", pattern="^.{1,200}$")
TEXTS = typed("array", items=TEXT)
WHEN = typed("date")
PLACE = typed("array", minItems=2, maxItems=2, items=typed("number"))
KEY = typed("int", "long", "string", "objectId", "binData", minimum=0)  # or a UUID
USER: Document = {
    "_id": KEY,
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
    "user_id": KEY,
    "event_type": {"enum": ["view", "search", "cart", "purchase"]},
    "timestamp": WHEN,
    "metadata": typed("object", properties={"price": NUMBER}),  # and others
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
ONLY_PURCHASES = {"partialFilterExpression": {"event_type": "purchase"}}
ANY_CASE = Collation("en", strength=2)
INDEXES = {
    "users": [
        IndexModel("username", name="username", unique=True),
        # Ann@x.org and ann@x.org are one address: strength 2 ignores case.
        IndexModel("email", name="email", unique=True, collation=ANY_CASE),
        IndexModel("profile.interests", name="interests"),
    ],
    # Each index answers one question; each write pays for all of them.
    "events": [
        IndexModel([("user_id", 1), ("timestamp", -1)], name="timeline"),
        IndexModel(ESR, name="esr"),  # equality, then sort, then range
        IndexModel([("geo", "2dsphere")], name="place"),
        IndexModel("metadata.category", name="bought", **ONLY_PURCHASES),
        # Trap: with a TTL index on `timestamp` the history is gone within a minute.
        IndexModel("expires_at", name="expiry", expireAfterSeconds=0),
    ],
}
# endregion indexes


# region manager
class MongoDBManager:
    """Keeps collections, validators and indexes as the code has them."""

    def __init__(
        self,
        db: Database,
        schemas: dict[str, Document] = SCHEMAS,
        indexes: dict[str, list[IndexModel]] = INDEXES,
    ) -> None:
        self.db = db
        self.schemas = schemas
        self.indexes = indexes

    def create_collections_with_schema(self, mend: bool = False) -> list[str]:
        """Create what is missing; return what was done, [] when run again.

        Raises DeploymentDiffers, before it changes anything, where a collection or
        an index differs: somebody made it so. With `mend` it is replaced.
        """
        plans = {}
        for name, schema in self.schemas.items():
            plans[name] = planned(self.db, name, schema, self.indexes.get(name, []))
        if not mend:
            refuse_differences(plans.values())
        done = []
        for name, plan in plans.items():
            if plan.is_missing:
                done += created(self.db, name, plan.rules)
            elif plan.other_rules:
                # Trap: what is stored is not checked; $nor finds the bad ones.
                self.db.command("collMod", name, **plan.rules)
                done.append(f"changed {name}")
            done += replaced_indexes(self.db[name], plan)
        return done


# endregion manager


@lesson.demo
def validators(env: MongoEnv) -> None:
    """Validators: they accept what PyMongo sends and name what they refuse"""
    env.fresh()
    env.db.create_collection("naive", validator={"$jsonSchema": NAIVE_SCHEMA})
    events = {}
    for name, change in (SOUND_CHANGES | BAD_CHANGES).items():
        events[name] = AN_EVENT | change
    unchecked = verdicts(env.db["unchecked"], events)
    naive = verdicts(env.db["naive"], events)
    ours = verdicts(env.db["events"], events)
    rows = [(name, unchecked[name], naive[name], ours[name]) for name in events]
    table(("event", "no validator", "int and double", "ours"), *rows)
    check(
        "4 sound events are accepted, of which int and double refuse 3",
        {
            "unchecked": accepted(unchecked, SOUND_CHANGES),
            "naive": accepted(naive, SOUND_CHANGES),
            "ours": accepted(ours, SOUND_CHANGES),
        },
        {"unchecked": 4, "naive": 1, "ours": 4},
    )
    named = ["user_id", "user_id", "metadata.price", "metadata.price"]
    named += ["geo.type", "is_admin"]
    check(
        "6 bad ones, else accepted, are refused by name",
        {
            "unchecked": accepted(unchecked, BAD_CHANGES),
            "ours": [ours[name] for name in BAD_CHANGES],
        },
        {"unchecked": 6, "ours": named},
    )
    # What most scripts do at every start; it fails from the second start on.
    again = outcome_of(lambda: env.db.create_collection("events"))
    done = MongoDBManager(env.db).create_collections_with_schema()
    check(
        "a second deployment neither changes nor fails",
        {"create_collection": type(again).__name__, "ours": done},
        {"create_collection": "CollectionInvalid", "ours": []},
    )


# %% [markdown]
# ## 2. Versions: documents of two ages, read as one


# %%
BATCH = 1_000  # documents in one write command; a server takes up to 100,000


# region as-current
def as_current(user: Document) -> Document:
    """Return a user of any schema version as version 2; the store is not touched.

    Raises ValueError for a version that we do not know, such as one of next year.
    """
    version = user.get("schema_version")
    if isinstance(version, bool) or version not in (1, 2):
        raise ValueError(f"user {user.get('_id')} has the schema version {version}")
    # A copy: our caller may still need the user as it was read.
    current = dict(user)
    profile = dict(user.get("profile", {}))
    # Where version 1 keeps them. It may have added one after we upgraded this user.
    added = list_in(user, "interests")
    current.pop("interests", None)
    known = list_in(profile, "interests")
    profile["interests"] = known + [each for each in added if each not in known]
    return current | {"schema_version": 2, "profile": profile}


# endregion as-current
# region upgrade
# What has interests where version 1 keeps them is not upgraded, or not any more.
TO_UPGRADE: Document = {
    "$or": [{"schema_version": 1}, {"interests": {"$exists": True}}]
}


def upgrade(old: Document) -> UpdateOne:
    """Return the write that stores a user as version 2, unless it has changed."""
    # Trap: with _id alone in the filter we would undo what others write after our
    # read. So the filter has all that we saw; a changed user is in the next page.
    seen = {"_id": old["_id"]}
    for name in ("schema_version", "interests", "profile"):
        seen[name] = old.get(name)
    new = {"schema_version": 2, "profile": as_current(old)["profile"]}
    change = {"$set": new, "$unset": {"interests": ""}}
    return UpdateOne(seen, change)


def upgrade_users(users: Collection, batch: int = BATCH) -> int:
    """Store the users of version 1 as version 2, page by page; return how many."""
    upgraded = 0
    # An upgraded user is no longer found, so the first page is always the next one.
    while page := list(users.find(TO_UPGRADE).limit(batch)):
        changes = [upgrade(old) for old in page]
        upgraded += users.bulk_write(changes, ordered=False).modified_count
    return upgraded


# endregion upgrade
# region find-users
class VersionedUsers:
    """Finds users, in whichever version they are stored."""

    def __init__(self, db: Database) -> None:
        self.users = db["users"]

    def find_users_by_interest(
        self,
        interest: str,
        limit: int = 100,
    ) -> list[Document]:
        """Return users of both versions with an interest, in the order of _id."""
        # Trap: {"$eq": None} finds every user who lacks the field, so all users of
        # the other version. A list equals a whole list, and limit(0) sets no limit.
        if not is_text(interest) or limit < 1:
            return []
        wanted = {"$eq": interest}  # a dict from outside stays a value, no operator
        # Both places, until the last document of version 1 is upgraded.
        either = [{"profile.interests": wanted}, {"interests": wanted}]
        found = self.users.find({"$or": either}).sort("_id", 1)
        return [as_current(user) for user in found.limit(limit)]


# endregion find-users


def find_users_naive(users: Collection, interest: str) -> list[Document]:
    """Look only where version 2 keeps the interests; users of version 1 are missed."""
    return list(users.find({"profile.interests": interest}))


def old_user(number: int) -> Document:
    """Return a user as version 1 of the application stored it."""
    user = make_user(number)
    interests = user.pop("profile")["interests"]
    return user | {"schema_version": 1, "interests": interests}


def deploy_version_1(db: Database) -> None:
    """Create the users' collection as it was before there were profiles."""
    fields = USER | {"schema_version": {"enum": [1]}}
    del fields["profile"]  # a field that the schema does not name is refused
    schemas = {"users": record("username", **fields)}
    MongoDBManager(db, schemas).create_collections_with_schema(mend=True)


def versions_side_by_side(users: Collection, manager: MongoDBManager) -> None:
    """Store 100 users of version 1, and then 100 of version 2 beside them."""
    old_users = [old_user(number) for number in range(1, 101)]
    users.insert_many(old_users)
    refused = verdict(users, make_user(201))
    fact("a user of version 2, at first", f"breaks {refused}")
    changed = manager.create_collections_with_schema(mend=True)
    users.insert_many(make_users(101, 200))
    stored = users.count_documents({})
    check(
        "collMod lets version 2 in beside version 1",
        {"at first": refused, "then": changed, "users": stored},
        {
            "at first": "profile, schema_version",
            "then": ["changed users"],
            "users": 200,
        },
    )


@lesson.demo
def versions(env: MongoEnv) -> None:
    """Versions: two schema versions side by side, read as one"""
    env.need_validators_to_change()
    env.fresh()
    users = env.db["users"]
    deploy_version_1(env.db)
    versions_side_by_side(users, MongoDBManager(env.db))
    naive = len(find_users_naive(users, "sql"))
    # Every third user is interested in sql; make_user() returns each as version 2.
    interested = range(3, 201, 3)
    wanted = [make_user(number) for number in interested]
    before = VersionedUsers(env.db).find_users_by_interest("sql")
    upgraded = upgrade_users(users, batch=40)
    repeated = upgrade_users(users, batch=40)
    after = VersionedUsers(env.db).find_users_by_interest("sql")
    fact("interested in sql: naive, ours", f"{naive}, {len(before)}")
    check(
        "both versions are read alike, before and after the upgrade",
        {"naive": naive, "before": before, "after": after},
        {"naive": 33, "before": wanted, "after": wanted},
    )
    check(
        "the upgrade is complete, and repeated does nothing",
        {"first": upgraded, "repeated": repeated},
        {"first": 100, "repeated": 0},
    )


# %% [markdown]
# ## 3. Bulk writes: one command, nothing lost, nothing twice


# %%
@dataclass
class LoadReport:
    """What became of a load: every document is in exactly one of the three."""

    inserted: int = 0
    repeated: int = 0  # their _id was there already, from an earlier run of this load
    # The place in the load, and the reason, of each that is not stored.
    rejected: list[tuple[int, str]] = field(default_factory=list)

    def reject(self, place: int, why: str) -> None:
        """Note a document that is not stored, and why."""
        self.rejected.append((place, why))


# region bulk
class UserManager(VersionedUsers):
    """VersionedUsers that also loads and changes them."""

    def bulk_insert_users(
        self, users: Sequence[Document], batch: int = BATCH
    ) -> LoadReport:
        """Insert users that carry their _id; bad ones do not keep good ones out.

        Run again, it inserts what is missing. Raises PyMongoError if the server
        fails.
        """
        report = LoadReport()
        # What is now stored under each _id of this load, as far as we know.
        stored: dict[Any, Document] = {}
        for start in range(0, len(users), batch):
            chunk = users[start : start + batch]
            complaints = self._insert(chunk)
            repeated = self._repeated(chunk, complaints)
            for index, user in enumerate(chunk):
                place = start + index
                if index in complaints and index not in repeated:
                    report.reject(place, reason(complaints[index]))
                    continue
                first = stored.setdefault(user["_id"], user)
                if first != user:
                    # Trap: the server says "_id is there", as after an earlier run,
                    # but this is another user, whom nobody has stored.
                    report.reject(place, "_id is twice in this load")
                elif index in repeated:
                    report.repeated += 1
                else:
                    report.inserted += 1
        return report

    # endregion bulk
    # region insert
    def _insert(self, users: Sequence[Document]) -> dict[int, Document]:
        """Insert in one command; return the complaints about users, by index."""
        # Trap: one document that BSON cannot hold fails the whole call, or what is
        # left of it after the first 48 MB. So we look before anything is sent.
        complaints = unencodable_of(users)
        sent = [index for index in range(len(users)) if index not in complaints]
        try:
            if sent:  # PyMongo refuses an empty list
                sound = [users[index] for index in sent]
                self.users.insert_many(sound, ordered=False)
        except BulkWriteError as error:
            if error.details.get("writeConcernErrors"):
                raise  # written but not safe, which is no single user's fault
            for complaint in error.details["writeErrors"]:
                # The server counts what it was sent: its 0 is the first of `sent`.
                complaints[sent[complaint["index"]]] = complaint
        return complaints

    # endregion insert
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
        # One query for all that are in doubt, and none in a load without conflicts.
        if doubtful:
            keys = list(doubtful.values())
            there = self.users.distinct("_id", {"_id": {"$in": keys}})
            repeated |= {index for index in doubtful if doubtful[index] in there}
        return repeated

    def upsert_users(self, users: Iterable[Document]) -> int:
        """Insert or update users by _id; return how many are new or differ now."""
        # An equal document counts as not modified. A field that is gone at the source
        # stays here: $set adds and changes; ReplaceOne would also remove.
        changes = []
        for user in users:
            same = {"_id": user["_id"]}
            change = {"$set": with_time_zones(user)}
            changes.append(UpdateOne(same, change, upsert=True))
        if not changes:  # PyMongo refuses an empty list
            return 0
        done = self.users.bulk_write(changes, ordered=False)
        return done.upserted_count + done.modified_count

    def add_subscription(self, user_id: int, plan: str, since: datetime) -> bool:
        """Add a plan unless the user has it; raise LookupError for no such user."""
        # Condition and change are one command, so nobody comes in between.
        missing = {"_id": {"$eq": user_id}, "subscriptions.plan": {"$ne": plan}}
        bought = with_time_zones({"plan": plan, "since": since})
        added = {"$push": {"subscriptions": bought}}
        if self.users.update_one(missing, added).matched_count == 1:
            return True
        # Nothing matched: the user has the plan, or there is no such user.
        if not self.users.find_one({"_id": {"$eq": user_id}}):
            raise LookupError(f"no user {user_id}")
        return False


def insert_singly(collection: Collection, rows: list[Document]) -> None:
    """Insert with one command, and one round trip, for each document."""
    for row in rows:
        collection.insert_one(row)


def bad_batch(manager: UserManager) -> None:
    """Load seven users of whom three are bad: by insert_many, then by ours."""
    batch: list[Any] = make_users(10_001, 10_007)
    batch[1]["email"] = "nobody"  # breaks the validator
    batch[2]["metrics"] = {"views": object()}  # BSON cannot hold it
    batch[4]["email"] = "user1@example.org"  # is taken
    of_this_batch = {"_id": {"$gt": 10_000}}
    # It raises before anything is sent.
    with suppress(bson.errors.BSONError):
        manager.users.insert_many(batch, ordered=False)
    naive = manager.users.count_documents(of_this_batch)
    report = manager.bulk_insert_users(batch)
    ours = manager.users.count_documents(of_this_batch)
    named = [place for place, _ in report.rejected]  # without the reasons
    table(("index", "rejected because"), *report.rejected)
    check(
        "4 of 7 are in, 3 named; insert_many stores none",
        {
            "insert_many": naive,
            "ours": ours,
            "reported": report.inserted,
            "named": named,
        },
        {
            "insert_many": 0,
            "ours": 4,
            "reported": 4,
            "named": [1, 2, 4],
        },
    )


def changed_at_the_source(manager: UserManager, people: list[Document]) -> None:
    """Load users of whom one has changed since: by insert, and by upsert."""
    nine = people[:9]
    nine[0]["metrics"] = {"views": 1}
    inserted = manager.bulk_insert_users(nine).inserted
    upserted = manager.upsert_users(nine)
    again = manager.upsert_users(nine)
    new = f"insert {inserted}, upsert {upserted}, upsert {again}"
    fact("1 change, loaded again", new)
    check(
        "upserting brings it in, then 0; inserting nothing",
        {"inserted": inserted, "upserted": upserted, "upserted again": again},
        {"inserted": 0, "upserted": 1, "upserted again": 0},
    )


@lesson.demo
def bulk(env: MongoEnv) -> None:
    """Bulk writes: 500 commands or 1, and every document is accounted for"""
    env.fresh()
    notes = [{"_id": number} for number in range(500)]
    one_by_one = env.db["singly"]
    together = env.db["at_once"]
    singly = env.counted(lambda: insert_singly(one_by_one, notes))
    at_once = env.counted(lambda: together.insert_many(notes))
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
    nothing_new = LoadReport(inserted=0, repeated=10_000)
    check(
        "10,000 users are 1 command, and 0 new when it is repeated",
        {"commands": first, "again": again},
        {"commands": 1, "again": nothing_new},
    )
    bad_batch(manager)
    changed_at_the_source(manager, people)


# %% [markdown]
# ## 4. Pipelines: the server computes, plain Python agrees

# %%
# region revenue
DAY = {"$dateToString": {"date": "$timestamp", "format": "%Y-%m-%d"}}  # in UTC
# Trap: a view and a cart have a price, too; a sum of all prices is not revenue.
IS_PAID = {"$eq": ["$event_type", "purchase"]}
REVENUE = {"$sum": {"$cond": [IS_PAID, "$metadata.price", 0]}}
# endregion revenue


class EventTracker:
    """Events as they happen, and what they add up to."""

    def __init__(self, db: Database) -> None:
        self.events = db["events"]

    def log_event(self, user_id: int, event_type: str, **more: Any) -> Any:
        """Store an event, now unless `timestamp` is given; return its _id.

        Raises ValueError for a moment without a time zone, and for swapped coordinates.
        """
        event = {
            "schema_version": 1,
            "user_id": user_id,
            "event_type": event_type,
            "timestamp": datetime.now(UTC),
        }
        if "geo" in more:
            # A server stores swapped coordinates; point(), of section 6, refuses them.
            more["geo"] = point_of(more["geo"])
        return self.events.insert_one(with_time_zones(event | more)).inserted_id

    # region distribution
    def get_event_distribution(
        self,
        start: datetime,
        end: datetime,
    ) -> list[Document]:
        """Return events and users by type, for start <= timestamp < end."""
        # Trap: $addToSet collects the users of a type in one document, which ends
        # at 16 MB. Grouped twice, each group is a number.
        by_user = {"type": "$event_type", "user": "$user_id"}
        by_type = {"events": {"$sum": "$events"}, "users": {"$sum": 1}}
        pipeline: list[Document] = [
            {"$match": {"timestamp": span(start, end)}},
            {"$group": {"_id": by_user, "events": {"$sum": 1}}},
            {"$group": {"_id": "$_id.type"} | by_type},
            {"$sort": {"events": -1, "_id": 1}},
        ]
        return list(self.events.aggregate(pipeline))

    # endregion distribution
    def get_user_activity_metrics(self, limit: int = 10) -> list[Document]:
        """Return the most active users: events, active days, last seen."""
        totals = {
            "events": {"$sum": 1},
            "days": {"$addToSet": DAY},  # each day once, however many events it has
            "last": {"$max": "$timestamp"},
        }
        pipeline: list[Document] = [
            {"$group": {"_id": "$user_id"} | totals},
            {"$set": {"days": {"$size": "$days"}}},
            {"$sort": {"events": -1, "_id": 1}},
            {"$limit": limit},
        ]
        return list(self.events.aggregate(pipeline))

    # region purchases
    def get_purchase_analytics(self) -> Document:
        """Return orders and revenue by category, and orders by price."""
        totals = {
            "orders": {"$sum": 1},
            "revenue": REVENUE,
            "mean": {"$avg": "$metadata.price"},
        }
        bands = {
            "groupBy": "$metadata.price",
            # [0, 50), [50, 100), and the rest. Without the default, one order that
            # has no price would fail the whole pipeline.
            "boundaries": [0, 50, 100, math.inf],
            "default": "no price",
            "output": {"orders": {"$sum": 1}},
        }
        by_category: list[Document] = [
            {"$group": {"_id": "$metadata.category"} | totals},
            {"$sort": {"_id": 1}},
        ]
        by_price = [{"$bucket": bands}]
        pipeline: list[Document] = [
            # Before $facet, which cannot use an index.
            {"$match": {"event_type": "purchase"}},
            {"$facet": {"by_category": by_category, "by_price": by_price}},
        ]
        # A pipeline that ends with $facet returns exactly one document.
        return next(iter(self.events.aggregate(pipeline)))

    # endregion purchases
    # region lookup
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

    # endregion lookup


def latest_with_names_naive(db: Database, limit: int) -> list[Document]:
    """Return the same rows, with one more query for every event."""
    bought = db["events"].find({"event_type": "purchase"})
    # The _id decides between two of the same moment, so that both ways agree.
    latest = bought.sort([("timestamp", -1), ("_id", 1)])
    rows = []
    for event in latest.limit(limit):
        user = db["users"].find_one({"_id": event["user_id"]})
        if user:
            rows.append({"_id": event["_id"], "name": user["username"]})
    return rows


def count_closed(db: Database, start: datetime, end: datetime) -> int:
    """Count start <= timestamp <= end; the next span begins with the same end."""
    closed = {"$gte": start, "$lte": end}
    return db["events"].count_documents({"timestamp": closed})


def revenue_unwound(db: Database) -> float:
    """Add up the orders after $unwind, which repeats each of them for each tag."""
    pipeline: list[Document] = [
        {"$match": {"event_type": "purchase"}},
        {"$unwind": "$metadata.tags"},
        {"$group": {"_id": None, "sum": {"$sum": "$metadata.price"}}},
    ]
    row = next(iter(db["events"].aggregate(pipeline)))
    return float(row["sum"])


def distribution(db: Database, events: list[Document]) -> None:
    """Count by type, in all and in two days that meet at the moment of an event."""
    tracker = EventTracker(db)
    border = events[0]["timestamp"]
    day = timedelta(days=1)
    half_open = 0
    closed = 0
    # The border is the end of the first day and the start of the second.
    for start in (border - day, border):
        rows = tracker.get_event_distribution(start, start + day)
        half_open += sum(row["events"] for row in rows)
        closed += count_closed(db, start, start + day)
    fact("in two days, an event between", f"{half_open} half-open, {closed} closed")
    found = tracker.get_event_distribution(START, END)
    counts = [(row["_id"], row["events"], row["users"]) for row in found]
    table(("type", "events", "users"), *counts)
    # Each event belongs to one day, even if it happens just as a day begins.
    around = events_around(events, border)
    check(
        "the distribution equals the reference; closed spans count double",
        {"by type": found, "half-open": half_open, "closed": closed},
        {
            "by type": distribution_of(events),
            "half-open": around,
            "closed": more_than(around),
        },
    )


def what_is_read(db: Database, events: list[Document]) -> None:
    """Compare what queries read, without an index and with it."""
    mine = len([event for event in events if event["user_id"] == 7])
    find = db["events"].find({"user_id": 7})
    scan = find.clone().hint([("$natural", 1)])  # as if there were no index
    by_user: Document = {"$group": {"_id": "$user_id", "spent": REVENUE}}
    # Trap: a $match on what was computed before it cannot use an index.
    computed: list[Document] = [
        {"$set": {"who": {"$toInt": "$user_id"}}},
        {"$match": {"who": 7}},
        by_user,
    ]
    matched: list[Document] = [
        {"$match": {"user_id": 7}},
        by_user,
    ]
    found = {
        "scan": examined(scan.explain()),
        "computed": examined(explained(db, computed)),
        "find": examined(find.explain()),
        "$match": examined(explained(db, matched)),
    }
    rows = []
    for name, read in found.items():
        rows.append((name, read.index_name, read.keys, read.documents))
    table((f"to return {mine}", "index", "keys", "documents"), *rows)
    everything = Examined("COLLSCAN", keys=0, documents=len(events))
    only_mine = Examined("timeline", keys=mine, documents=mine)
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
        "activity equals the reference; days are not events",
        {"ranking": found, "days": busiest["days"]},
        {
            "ranking": activity_of(events),
            "days": less_than(busiest["events"]),
        },
    )


def purchases(db: Database, events: list[Document]) -> None:
    """Add up the orders by category and by price, right and unwound."""
    found = EventTracker(db).get_purchase_analytics()
    rows = []
    revenue = 0.0
    for row in found["by_category"]:
        rows.append((row["_id"], row["orders"], row["revenue"]))
        revenue += row["revenue"]
    table(("category", "orders", "revenue"), *rows)
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
    loop = env.counted(lambda: latest_with_names_naive(env.db, 100))
    joined = env.counted(lambda: ours(100))
    fact("commands for 100 orders with names", f"{loop} in a loop, {joined} by $lookup")
    names = latest_with_names_naive(env.db, 100)
    check(
        "$lookup answers in 1 command, the loop in 101",
        {"loop": loop, "$lookup": joined, "names": ours(100)},
        {"loop": 101, "$lookup": 1, "names": names},
    )
    env.need_server("a COLLSCAN read all there is, an index what is returned")
    what_is_read(env.db, events)


# %% [markdown]
# ## 5. Summaries: computed twice and still right


# %%
def year_month(moment: str) -> Document:
    """Return the month of a field as an expression, in UTC."""
    # Trap: in the reader's time zone, users would move to another month.
    return {"$dateToString": {"date": moment, "format": "%Y-%m"}}


# region summaries
class Summaries:
    """Daily sums and cohorts, from events and users."""

    def __init__(self, db: Database) -> None:
        self.db = db

    def summarize_days(self, start: datetime, end: datetime) -> None:
        """Compute the days from start until before end; replace them in `daily`.

        A run may be repeated, at once or when events have come late. After a lost
        connection it must be: drivers do not retry $merge.
        """
        totals = {"events": {"$sum": 1}, "revenue": REVENUE}
        pipeline: list[Document] = [
            # Trap: half a day here would replace a whole one by its half.
            {"$match": {"timestamp": span(start, end)}},
            {"$group": {"_id": DAY} | totals},
            # The day is the _id, so a second run finds the row of the first.
            {"$merge": {"into": "daily", "whenMatched": "replace"}},
        ]
        self.db["events"].aggregate(pipeline)

    # endregion summaries
    # region cohorts
    def calculate_cohort_metrics(self) -> list[Document]:
        """Return users, active users and revenue by month (UTC) of sign-up.

        A revenue is a Decimal128 as soon as one of its prices is.
        """
        users = {
            "from": "users",
            "localField": "_id",
            "foreignField": "_id",
            "as": "user",
        }
        totals = {"active": {"$sum": 1}, "revenue": {"$sum": "$revenue"}}
        # Trap: {"$push": "$_id"} by month would answer in one document, too large
        # from some 1.3 million users on. Here every answer is a number.
        by_user: list[Document] = [
            {"$group": {"_id": "$user_id", "revenue": REVENUE}},
            {"$lookup": users},
            {"$unwind": "$user"},
            {"$group": {"_id": year_month("$user.created_at")} | totals},
        ]
        spent = {row["_id"]: row for row in self.db["events"].aggregate(by_user)}
        # endregion cohorts
        by_month: list[Document] = [
            {"$group": {"_id": year_month("$created_at"), "users": {"$sum": 1}}},
            {"$sort": {"_id": 1}},
        ]
        cohorts = []
        for row in self.db["users"].aggregate(by_month):
            cohort = {
                "cohort": row["_id"],
                "users": row["users"],
                "active": 0,
                "revenue": 0,
            }
            cohort |= spent.get(row["_id"], {})
            cohort.pop("_id", None)
            cohorts.append(cohort)
        return cohorts


def summarize_days_naive(db: Database, events: list[Document]) -> None:
    """Add each day's events to its counter: right if it runs only once."""
    for row in days_of(events):
        day = {"_id": row["_id"]}
        change = {"$inc": {"events": row["events"]}}
        db["counters"].update_one(day, change, upsert=True)


def events_in(collection: Collection) -> int:
    """Return how many events the rows of a summary add up to."""
    return sum(row["events"] for row in collection.find())


@lesson.demo
def summaries(env: MongoEnv) -> None:
    """Summaries: $merge may run twice, $inc may not, and months begin in UTC"""
    events = env.fresh(users=100, events=5_000)
    ours = Summaries(env.db)
    # A scheduler that retries does just this.
    for _run in range(2):
        summarize_days_naive(env.db, events)
        ours.summarize_days(START, END)
    naive = events_in(env.db["counters"])
    merged = events_in(env.db["daily"])
    fact("5,000 events summed up twice", f"{naive} with $inc, {merged} with $merge")
    daily = list(env.db["daily"].find(sort=[("_id", 1)]))
    check(
        "$merge run twice equals the reference; $inc doubles",
        {"$inc": naive, "$merge": daily},
        {"$inc": 10_000, "$merge": days_of(events)},
    )
    found = ours.calculate_cohort_metrics()
    rows = [list(row.values()) for row in found]
    table(("cohort", "users", "active", "revenue"), *rows)
    users = make_users(1, 100)
    # Ten signed up at 22:30 UTC, on the last of a month: the next day in Kyiv.
    kyiv = timezone(timedelta(hours=3))
    moved = moved_to_another_month(users, kyiv)
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
        pipeline: list[Document] = [
            {"$geoNear": near},
            {"$limit": limit},
        ]
        return list(self.events.aggregate(pipeline))

    def count_events_within(
        self, longitude: float, latitude: float, max_km: float
    ) -> int:
        """Return how many events are within max_km; this needs no index."""
        centre = point(longitude, latitude)["coordinates"]
        # $centerSphere takes its radius as an angle, in radians.
        circle = [centre, max_km / EARTH_KM]
        within = {"$geoWithin": {"$centerSphere": circle}}
        return self.events.count_documents({"geo": within})


# endregion geo


def swapped_coordinates(db: Database) -> None:
    """Store an event in Kyiv whose latitude comes first."""
    longitude, latitude = KYIV
    swapped = {"type": "Point", "coordinates": [latitude, longitude]}
    server = verdict(db["events"], AN_EVENT | {"geo": swapped})
    refusal = outcome_of(lambda: point(latitude, longitude))
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
    longitude, latitude = KYIV
    found = manager.find_events_near_location(longitude, latitude, max_km=5)
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
    flat = len([event for event in events if is_near_naive(event, 5)])
    fact("events within 5 km, 5/111 degrees", f"{len(inside)}, {flat}")
    check(
        "$geoNear equals brute force; degrees miss some",
        {
            "$geoNear": [row["_id"] for row in found],
            "degrees": flat,
        },
        {
            "$geoNear": [event["_id"] for event in inside],
            "degrees": less_than(len(inside)),
        },
    )
    swapped_coordinates(env.db)
    env.need_server("that $geoWithin counts the same events")
    within = manager.count_events_within(longitude, latitude, max_km=5)
    check(
        "$geoWithin equals brute force; degrees do not",
        {"$geoWithin": within, "degrees": flat},
        {
            "$geoWithin": len(inside),
            "degrees": less_than(len(inside)),
        },
    )


# %% [markdown]
# ## 7. Export: a file that is its own checkpoint, a frame that keeps its types


# %%
PAGE = 500  # documents in memory at once during an export


class DataProcessor(Summaries):
    """Summaries that also exports the events to a file."""

    def export_data_for_analysis(
        self,
        path: Path,
        page: int = PAGE,
        on_page: Callable[[int], object] | None = None,
        late_from: Any = None,
    ) -> int:
        """Append the events behind the greatest _id of a file; return how many.

        The file holds BSON documents end to end, as mongodump's do, and is its own
        checkpoint: after a kill at any byte, the next run goes on behind the last whole
        document. Memory holds one page.

        An event that comes late, with a smaller _id, is not among them: two machines
        make _id at once. With late_from, an _id, all events from there on are compared
        with the file, and those that it lacks appended; memory holds their _id, too.

        Raises ValueError for a file that is something else, which stays as it is, or
        that another export writes to, and where the _id are of two types.
        """
        # region export
        events = self.db["events"]
        written = 0
        with export_file(path) as file:
            there = exported(file, events, late_from)
            query = query_behind(events, there.greatest, late_from)
            # Trap: skip() would read all earlier pages again, for each page.
            while data := raw_page(events, query, page):
                rows = bson.decode_all(data, RAW)  # raw: only one _id is looked at
                query = {"_id": {"$gt": rows[-1]["_id"]}}
                if there.since:
                    rows = lacking(there.since, rows)
                    data = b"".join(row.raw for row in rows)
                file.write(data)
                # Before the next page is asked for: a crash loses one page at most.
                file.flush()
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


def frames(db: Database) -> None:
    """Read events into a frame of pandas, naively and by our types, and write back."""
    pandas = pandas_or_skip()
    rows = visits_of_all_kinds()
    db["visits"].insert_many(rows)
    data = raw_page(db["visits"], {}, PAGE)
    naive = kept(pandas.json_normalize(bson.decode_all(data)))  # PyMongo's defaults
    frame = to_frame(bson.decode_all(data, CODEC))
    ours = kept(frame)
    heads = ("frame by", "time zone", "2**53 +", "sum of prices")
    table(heads, ("json_normalize", *naive.values()), ("to_frame", *ours.values()))
    db["copies"].insert_many(to_documents(frame))
    check(
        "a frame by our types keeps zone, digits and cents, and goes back as it was",
        {"naive": naive, "ours": ours, "copies": list(db["copies"].find())},
        {
            "naive": {"zone": "None", "digits": 0, "cents": "TypeError"},
            "ours": {"zone": "UTC", "digits": 1, "cents": "0.30"},
            "copies": rows,
        },
    )


@lesson.demo
def export(env: MongoEnv) -> None:
    """Export: killed half-way and resumed, each is there once; and into a frame"""
    env.fresh(events=2_000, located=True)
    ours = DataProcessor(env.db).export_data_for_analysis
    with tempfile.TemporaryDirectory(prefix="module8-export-") as folder:
        path = Path(folder, "ours")
        with suppress(Crash):
            ours(path, on_page=crash_at_1000)
        # The naive way starts again at the first event, and appends all 2,000.
        restarted = len(bson.decode_all(path.read_bytes())) + 2_000
        with path.open("ab") as file:
            # The process died in the middle of a document.
            torn = bson.encode({"_id": 1_001} | AN_EVENT)[:-7]
            file.write(torn)
        resumed = ours(path)
        data = path.read_bytes()
    ids = [row["_id"] for row in bson.decode_all(data, CODEC)]
    all_ids = list(range(1, 2_001))
    fact("after a crash at 1,000", f"{restarted} restarted, {len(ids)} resumed")
    check(
        "resumed, each of 2,000 is there once; restarted, 1,000 twice",
        {"restarted": restarted, "resumed": resumed, "ids": ids},
        {"restarted": 3_000, "resumed": 1_000, "ids": all_ids},
    )
    frames(env.db)


# %% [markdown]
# ## 8. Injection: a value that is an operator


# %%
# region plain-fields
def plain_fields(body: object, allowed: Iterable[str]) -> Document:
    """Return a client's JSON object of plain values in allowed fields.

    Raises ValueError for all else: operators such as {"$ne": null}, pipelines
    (lists), names with $ or dots, and fields that this client must not use.
    """
    # An allow-list also refuses the operators and fields that are added next year.
    if not isinstance(body, dict) or not body.keys() <= set(allowed):
        raise ValueError("refused: not the allowed fields")
    for value in body.values():
        # A dict would be an operator, a list a pipeline or an $in.
        if not isinstance(value, str | int | float | bool):
            raise ValueError("refused: not a plain value")
    if unencodable(body):  # such as an int of more than 64 bits
        raise ValueError("refused: not a plain value")
    return body  # a dict with str, int, float or bool values, and nothing else


def equal_to(given: Document) -> Document:
    """Return a filter that compares the values and obeys none of them."""
    return {key: {"$eq": value} for key, value in given.items()}


def log_in(users: Collection, body: object) -> Document | None:
    """Return the user with this name and this token, or None.

    To be short, the token is stored as it is; store its hash.
    """
    given = plain_fields(body, ("username", "token"))
    for name in ("username", "token"):
        # Trap: a field left out restricts nothing, and None equals a missing field.
        if not isinstance(given.get(name), str):
            raise ValueError("refused: name and token needed")
    return users.find_one(equal_to(given))


# endregion plain-fields
# region search
def change_settings(users: Collection, body: object) -> None:
    """Change what a user may change: we build the update from plain values."""
    changes = plain_fields(body, ["city"])
    users.update_one(CALLER, {"$set": changes})


def search_names(users: Collection, text: str) -> list[Document]:
    """Return the users whose names begin with the first 50 characters of a text."""
    if not is_text(text):
        return []
    # Escaped, .* is two characters; cut, a text cannot keep a server busy.
    # MongoDB refuses the character 0 in a pattern, and re.escape() leaves it there.
    pattern = "^" + re.escape(text[:50]).replace("\0", r"\x00")
    return list(users.find({"username": {"$regex": pattern}}))


# endregion search


def log_in_naive(users: Collection, body: Any) -> Document | None:
    """Look up what the client has sent; PyMongo escapes nothing."""
    return users.find_one(body)


def change_naive(users: Collection, body: Any) -> None:
    """Apply what the client has sent: a list is a pipeline, a $set takes any field."""
    users.update_one(CALLER, body)


def search_names_naive(users: Collection, text: str) -> list[Document]:
    """Return the same, with what the client has sent as the pattern."""
    return list(users.find({"username": {"$regex": "^" + text}}))


def honest_use(users: Collection) -> None:
    """Log in, change and search honestly; then search for ".*", a pattern."""
    pattern = len(search_names_naive(users, ".*"))
    escaped = len(search_names(users, ".*"))
    fact('names that begin with ".*"', f"{pattern} as a pattern, {escaped} as text")
    login = '{"username": "admin", "token": "nimda"}'
    change = '{"city": "in Kyiv"}'
    check(
        "honest logins, changes and searches work; .* lists nobody",
        {
            "login": result_of(users, log_in, login),
            "change": result_of(users, change_settings, change),
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
    rows = []
    for text in naive:
        rows.append((text, naive[text], ours[text]))
    table(("body", "naive", "defended"), *rows)
    won = set(naive.values()) - {NO_SCRIPTS}
    refused = [text for text in ours if ours[text].startswith("refused")]
    check(
        "operators and pipelines win where naive, not where defended",
        {"naive": won, "defended": refused},
        {"naive": WON, "defended": [*LOGINS, *CHANGES]},
    )
    # Were plain_fields() left out, this would still protect.
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
# ## 9. Under load: one winner, and no money lost


# %%
CROWD = 16  # threads that do the same thing at the same moment


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
    # One of us wins each round, so 16 threads need 16 rounds at most.
    for _round in range(100):
        unchanged = {"_id": seen["_id"], "version": seen["version"]}
        change = {
            "$set": {"taken": seen["taken"] + 1},
            "$inc": {"version": 1},
        }
        if flights.update_one(unchanged, change).modified_count:
            return
        seen = flights.find({"_id": seen["_id"]})[0]
    raise TimeoutError("somebody was faster, 100 times in a row")


# endregion upsert


def take_seat_naive(flights: Collection, seen: Document) -> None:
    """Write the sum of what was seen and 1, however long ago that was seen."""
    change = {"$set": {"taken": seen["taken"] + 1}}
    flights.update_one({"_id": seen["_id"]}, change)


def count_visit_naive(pages: Collection, name: str, others: threading.Barrier) -> None:
    """Look, then write: nothing keeps the others from looking before we write."""
    page = pages.find_one({"name": name})
    others.wait()
    if not page:
        pages.insert_one({"name": name, "visits": 1})


def subscribe_naive(users: Collection, plan: str, others: threading.Barrier) -> None:
    """Look, then write; the others have looked in between."""
    user = users.find_one({"_id": 1})
    others.wait()
    if user and not user["subscriptions"]:
        added = {"$push": {"subscriptions": {"plan": plan}}}
        users.update_one({"_id": 1}, added)


def all_at_once(call: Callable[[], Any]) -> None:
    """Make the same call in sixteen threads at once; raise the first error."""
    for outcome in start_together([call] * CROWD):
        if isinstance(outcome, Exception):
            raise outcome


# region transfer
def move(
    db: Database, giver: int, taker: int, crash: bool, session: Any = None
) -> None:
    """Move a euro and record it: three writes, which are one only in a session."""
    less = {"$inc": {"euro": -1}}
    more = {"$inc": {"euro": 1}}
    made = {"giver": giver, "taker": taker}
    # Trap: a write without session= is outside, and stays when the rest is undone.
    db["accounts"].update_one({"_id": giver}, less, session=session)
    if crash:
        raise Crash
    db["accounts"].update_one({"_id": taker}, more, session=session)
    db["moves"].insert_one(made, session=session)


def transfer(db: Database, giver: int, taker: int, crash: bool) -> None:
    """Move a euro, all or nothing; after a conflict it is tried again."""
    with db.client.start_session() as session:
        # Trap: move() runs again after a conflict. If it sent a mail, or counted in
        # Python, that would happen twice.
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
    seen = {"taken": 0, "version": 0}  # what every thread has read beforehand
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


def ten_transfers(db: Database, way: Callable[..., None]) -> None:
    """Move ten euros around four accounts; the fifth and the tenth time, crash."""
    for number in range(10):
        giver = number % 4
        taker = (number + 1) % 4
        crash = number in (4, 9)
        with suppress(Crash):
            way(db, giver, taker, crash)


def after_transfers(db: Database, way: Callable[..., None]) -> dict[str, int]:
    """Race 80 transfers, of which 16 crash; return the money left and the records."""
    db["moves"].drop()
    db["accounts"].drop()
    # Created outside: a transaction would conflict with the others over it.
    db.create_collection("moves")
    accounts = [{"_id": number, "euro": 100} for number in range(4)]
    db["accounts"].insert_many(accounts)
    for outcome in start_together([lambda: ten_transfers(db, way)] * 8):
        if isinstance(outcome, Exception):
            raise outcome
    left = [account["euro"] for account in db["accounts"].find()]
    moves = db["moves"].count_documents({})
    return {"euro": sum(left), "moves": moves}


@lesson.demo
def concurrency(env: MongoEnv) -> None:
    """Under load: 16 at once and one winner, and money that stays"""
    env.fresh(users=1)
    visits(env.db)
    subscriptions(env.db)
    seats(env.db)
    env.need_server("a sum that transactions keep", replica_set=True)
    safe = after_transfers(env.db, transfer)
    naive = after_transfers(env.db, move)
    table(
        ("80 transfers, 16 of them crash", "of 400 euro", "recorded"),
        ("transfer", safe["euro"], safe["moves"]),
        ("move", naive["euro"], naive["moves"]),
    )
    check(
        "transactions keep the sum; without, each crash loses a euro",
        {"transfer": safe, "move": naive},
        {
            "transfer": {"euro": 400, "moves": 64},
            "move": {"euro": 384, "moves": 64},
        },
    )


# %% [markdown]
# ## 10. Embed or reference: one read, or a document that does not grow


# %%
# region modelling
def order_embedded(db: Database, user_id: int, order: Document) -> None:
    """Add an order to the document of its user."""
    # Trap: only the 16 MB of a document end this list; then the user can order no
    # more. Embed what is few and read together; $slice keeps the last ten.
    db["people"].update_one({"_id": user_id}, {"$push": {"orders": order}})


def order_referenced(db: Database, user_id: int, order: Document) -> None:
    """Store an order by itself, with the _id of its user."""
    db["orders"].insert_one(order | {"user_id": user_id})


def read_embedded(db: Database, user_id: int) -> Document:
    """Return a user and all orders, by one read."""
    return db["people"].find({"_id": user_id})[0]


def read_referenced(db: Database, user_id: int) -> Document:
    """Return the same by two: an order may come, or go, in between."""
    user = db["plain"].find({"_id": user_id})[0]
    orders = db["orders"].find({"user_id": user_id}, {"_id": 0, "user_id": 0})
    return user | {"orders": list(orders)}


# endregion modelling


@lesson.demo
def modelling(env: MongoEnv) -> None:
    """Embed or reference: 1 read against 2, and what 100 orders weigh"""
    env.fresh()
    people = env.db["people"]
    people.insert_one({"_id": 1, "name": "olha", "orders": []})
    env.db["plain"].insert_one({"_id": 1, "name": "olha"})
    sizes = []
    for number in range(100):
        sizes.append(len(bson.encode(read_embedded(env.db, 1))))
        order = {"number": number, "price": 19.5, "title": "Databases"}
        order_embedded(env.db, 1, order)
        order_referenced(env.db, 1, order)
    referenced = len(bson.encode(env.db["plain"].find({"_id": 1})[0]))
    grown = (sizes[-1] - sizes[0]) // 99
    fact("bytes to read the user's name", f"{sizes[-1]:,} embedded, {referenced} not")
    fact("orders until 16 MB are full", f"{MOST_BYTES // grown:,}")
    check(
        "embedded is 1 read and grows by each order; referenced is 2 and does not",
        {
            "embedded": env.counted(lambda: read_embedded(env.db, 1)),
            "referenced": env.counted(lambda: read_referenced(env.db, 1)),
            "the same": read_embedded(env.db, 1) == read_referenced(env.db, 1),
            "grown by": sizes[-1] / sizes[0],
            "without orders": referenced,
        },
        {
            "embedded": 1,
            "referenced": 2,
            "the same": True,
            "grown by": more_than(50),
            "without orders": less_than(sizes[1]),
        },
    )
    env.need_server("that a user who is full can order no more")
    image = {"scan": "x" * 2**20}
    full = [outcome_of(lambda: order_embedded(env.db, 1, image)) for _ in range(16)]
    refused = [each for each in full if isinstance(each, WriteError)]
    check("16 orders of 1 MB are one too many", len(refused), 1)


# %%
def main(argv: list[str] | None = None) -> int:
    """Teach, with the options of the command line; return the exit code."""
    return lesson.main(argv)


lesson.finish(__name__, main)
