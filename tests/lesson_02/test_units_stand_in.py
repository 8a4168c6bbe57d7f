"""Lesson 02 alone: what stands in for MongoDB, against oracles."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import bson
import pymongo
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from lessons import ROOT, load
from pymongo.errors import WriteError

from course.mongo.complaints import broken, verdict
from course.mongo.reference import haversine
from course.mongo.schema import typed
from course.mongo.seed import KYIV, START, make_user
from course.standins.bson_schema import RULES, breaches
from course.standins.mongo_pipeline import metres

lesson = load("02")


@pytest.fixture
def env() -> Iterator[Any]:
    given = {"offline": True, "require_live": False, "url": None}
    with lesson.open_env(argparse.Namespace(**given)) as found:
        yield found


def test_errinfo_of_a_server_is_read_down_to_the_property() -> None:
    """What mongod 8 nests: objects in objects, items of arrays, missing, too many."""
    low = {"operatorName": "minimum", "consideredValue": -1}
    nested = {"propertyName": "price", "details": [low]}
    info = {
        "operatorName": "$jsonSchema",
        "schemaRulesNotSatisfied": [
            {"operatorName": "additionalProperties", "additionalProperties": ["zz"]},
            {"operatorName": "required", "missingProperties": ["timestamp"]},
            {
                "operatorName": "properties",
                "propertiesNotSatisfied": [
                    {
                        "propertyName": "metadata",
                        "details": [
                            {
                                "operatorName": "properties",
                                "propertiesNotSatisfied": [nested],
                            },
                            {"operatorName": "required", "missingProperties": ["q"]},
                        ],
                    },
                    {
                        "propertyName": "subscriptions",
                        "details": [{"operatorName": "items", "details": [low]}],
                    },
                ],
            },
        ],
    }
    found = broken({"details": info})
    expected = {"zz", "timestamp", "metadata.price", "metadata.q", "subscriptions"}
    assert found == expected


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (True, "bool"),
        (5, "int"),
        (2**31 - 1, "int"),
        (-(2**31), "int"),
        (2**31, "long"),
        (bson.Int64(5), "long"),
        (5.0, "double"),
        (bson.Decimal128("5"), "decimal"),
        ("5", "string"),
        ([], "array"),
        ({}, "object"),
        (START, "date"),
        (bson.ObjectId(), "objectId"),
        (bson.Binary(b"7", 128), "binData"),
        (None, "null"),
        (bson.Regex("a"), "regex"),
        (re.compile("a"), "regex"),
        (bson.Timestamp(5, 1), "timestamp"),
    ],
)
def test_bson_types_are_those_of_the_encoder(value: object, name: str) -> None:
    numbers = {"int", "long", "double", "decimal"}
    others = {"bool", "string", "array", "object", "date", "null", "regex"}
    for kind in sorted(numbers | others | {"timestamp"}):
        broken = list(breaches(typed(kind), value, "v"))
        assert broken == ([] if kind == name else ["v"])
    broken = list(breaches(typed("number"), value, "v"))
    assert broken == ([] if name in numbers else ["v"])
    tags = {"int": 16, "long": 18, "double": 1, "decimal": 19, "bool": 8, "string": 2}
    tags |= {"array": 4, "object": 3, "date": 9, "objectId": 7, "binData": 5}
    tags |= {"null": 10, "regex": 11, "timestamp": 17}
    assert bson.encode({"v": value})[4] == tags[name]


def test_an_update_that_breaks_the_validator_is_undone(env: Any) -> None:
    env.fresh(users=2)
    users, before = env.db["users"], list(env.db["users"].find())
    for change in ({"$set": {"email": "nobody"}}, {"$set": {"is_admin": True}}):
        with pytest.raises(WriteError) as refusal:
            users.update_one({"_id": 1}, change)
        assert refusal.value.code == 121
        assert type(refusal.value) is WriteError  # no duplicate key
    with pytest.raises(WriteError) as refusal:
        users.insert_one(make_user(3) | {"email": "nobody"})
    assert type(refusal.value) is WriteError
    with pytest.raises(pymongo.errors.DuplicateKeyError):
        users.update_one({"_id": 1}, {"$set": {"email": "user2@example.org"}})
    assert list(users.find()) == before


def test_a_key_that_was_given_up_may_be_taken(env: Any) -> None:
    env.fresh(users=2)
    users = env.db["users"]
    users.update_one({"_id": 1}, {"$set": {"email": "new@example.org"}})
    users.update_one({"_id": 2}, {"$set": {"email": "user1@example.org"}})
    users.delete_many({"_id": 2})
    load = [make_user(3) | {"email": "user1@example.org"}]
    load += [make_user(4) | {"email": "new@example.org"}]
    assert lesson.UserManager(env.db).bulk_insert_users(load).rejected == [
        (1, "email is taken")
    ]


@pytest.mark.parametrize(
    "stage",
    [
        {"$merge": {"into": "daily"}},
        {"$merge": {"into": "daily", "whenMatched": "merge"}},
        {"$merge": {"into": "daily", "whenMatched": "replace", "on": "day"}},
        {"$geoNear": {"near": lesson.point(*KYIV), "distanceField": "metres"}},
        {"$geoNear": {"near": 0, "maxDistance": 1, "distanceField": "m", "key": "geo"}},
        {"$geoNear": {"near": 0, "maxDistance": 1, "distanceField": "m", "key": "at"}},
    ],
)
def test_what_is_not_emulated_says_so(env: Any, stage: dict[str, Any]) -> None:
    with pytest.raises(NotImplementedError, match="not emulated"):
        env.db["events"].aggregate([stage])


def test_group_takes_what_is_missing_for_null_and_documents_for_keys(env: Any) -> None:
    notes = [{"by": {"a": 1}}, {"by": {"a": 1}}, {}, {"by": None}, {"by": 1}]
    env.db["notes"].insert_many(notes)
    for key, counts in (
        ("$by", [({"a": 1}, 2), (None, 2), (1, 1)]),
        ("$by.a", [(1, 2), (None, 3)]),
    ):
        group = {"$group": {"_id": key, "n": {"$sum": 1}}}
        found = [(row["_id"], row["n"]) for row in env.db["notes"].aggregate([group])]
        assert sorted(found, key=repr) == sorted(counts, key=repr)


def test_raw_batches_come_in_the_order_that_is_asked_for(env: Any) -> None:
    env.db["notes"].insert_many([{"_id": n, "by": n % 2} for n in range(3)])
    find = env.db["notes"].find_raw_batches
    for sort, ids in (
        ([("_id", 1)], [0, 1]),
        ([("_id", -1)], [2, 1]),
    ):
        data = b"".join(find({}, sort=sort, limit=2))
        assert [row["_id"] for row in bson.decode_all(data)] == ids
    with pytest.raises(NotImplementedError):
        list(find({}, sort=[("by", 1), ("_id", 1)], limit=2))


def test_another_error_than_the_validators_is_no_verdict(env: Any) -> None:
    env.fresh(users=1)
    with pytest.raises(pymongo.errors.DuplicateKeyError):
        verdict(env.db["users"], make_user(1))


def test_no_keyword_of_the_schemas_is_passed_over() -> None:
    shape = {"properties", "required", "additionalProperties", "items"}

    def keywords(schema: dict[str, Any]) -> set[str]:
        inner = [*schema.get("properties", {}).values(), schema.get("items", {})]
        return set(schema).union(*(keywords(each) for each in inner if each))

    for schema in lesson.SCHEMAS.values():
        assert keywords(schema) <= RULES.keys() | shape


VALUES = """
import json, sys
sys.path[:0] = [{tests!r}, {root!r}]
import mongomock
def groups():
    notes = mongomock.MongoClient()["plain"]["notes"]
    notes.insert_many([{{"v": v}} for v in (1, True, None)] + [{{}}])
    notes.insert_many([{{"v": v}} for v in (1.0, 0, False)])
    rows = notes.aggregate([{{"$group": {{"_id": "$v", "n": {{"$sum": 1}}}}}}])
    return sorted(repr((row["_id"], row["n"])) for row in rows)
found = [groups()]
import argparse, lessons
lesson = lessons.load("02")
found.append(groups())
args = argparse.Namespace(offline=True, require_live=False, url=None)
with lesson.open_env(args) as env:
    found.append(groups())
    env.fresh(users=3, events=30)
    lesson.EventTracker(env.db).get_purchase_analytics()
    found.append(groups())
print(json.dumps(found))
"""


def test_mongomock_itself_stays_as_it_is() -> None:
    """In a process of its own: here, the lesson is imported already."""
    program = VALUES.format(tests=str(ROOT / "tests"), root=str(ROOT))
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    before, imported, opened, used = json.loads(done.stdout)
    assert before == imported == opened == used
    assert len(before) == 5


PLACES = st.tuples(st.floats(22, 41), st.floats(44, 53))
NEARBY = st.tuples(st.floats(-1e-4, 1e-4), st.floats(-1e-4, 1e-4))


@given(PLACES, PLACES, NEARBY)
@example(KYIV, KYIV, (0.0, 0.0))
def test_the_emulated_sphere_is_haversines(
    one: tuple[float, float], other: tuple[float, float], step: tuple[float, float]
) -> None:
    beside = (one[0] + step[0], one[1] + step[1])
    for end in (other, beside, one):
        wanted = haversine({"geo": {"coordinates": end}}, start=one)
        assert metres(one, end) == pytest.approx(wanted, abs=0.1)
    assert metres(one, one) == 0
