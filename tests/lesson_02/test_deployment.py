"""Lesson 02 deployed where somebody else's collections and indexes are already."""

from __future__ import annotations

from typing import Any

import pymongo
import pytest
from lessons import load
from pymongo.errors import CollectionInvalid, OperationFailure

from course.mongo.deployment import DeploymentDiffers, created, is_same
from course.mongo.schema import record, typed
from course.mongo.seed import BARE_EVENT, make_user

lesson = load("02")


def state(db: Any) -> dict[str, Any]:
    """Return all that a deployment may change."""
    found = {}
    for row in db.list_collections():
        indexes = db[row["name"]].index_information()
        plain = {
            name: dict(index, key=list(index["key"])) for name, index in indexes.items()
        }
        found[row["name"]] = (row["options"], plain)
    return found


@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"unique": True, "expireAfterSeconds": 5},
        {"unique": True, "sparse": True, "collation": lesson.ANY_CASE},
        {"unique": True, "hidden": True, "collation": lesson.ANY_CASE},
        {"unique": True},  # by case
        {
            "unique": True,
            "collation": lesson.ANY_CASE,
            "partialFilterExpression": {"email": "x"},
        },
        {"unique": False, "collation": lesson.ANY_CASE},
    ],
    ids=lambda rules: "-".join(rules) or "none",
)
def test_an_index_with_other_rules_is_named_and_mended_if_asked(
    env: Any, rules: dict[str, Any]
) -> None:
    manager = lesson.MongoDBManager(env.db)
    right = state(env.db)
    env.db["users"].drop_index("email")
    env.db["users"].create_index("email", name="email", **rules)
    env.db.drop_collection("events")
    before = state(env.db)
    with pytest.raises(OperationFailure, match="users: the index email differs in"):
        manager.create_collections_with_schema()
    assert state(env.db) == before  # nothing half-way: no events either
    done = manager.create_collections_with_schema(mend=True)
    assert done[:2] == ["email", "created events"]
    assert state(env.db) == right
    assert manager.create_collections_with_schema() == []


@pytest.mark.parametrize(
    ("rules", "named"),
    [
        ({"validationAction": "warn"}, "users: the validationAction is 'warn'"),
        ({"validationLevel": "off"}, "users: the validationLevel is 'off'"),
        ({"validator": {}}, "users: the validator is another"),
        ({"validator": {"$jsonSchema": {}}}, "users: the validator is another"),
    ],
)
def test_a_validator_that_is_off_is_named_and_mended_if_asked(
    env: Any, rules: dict[str, Any], named: str
) -> None:
    manager = lesson.MongoDBManager(env.db)
    right = state(env.db)
    env.db.command("collMod", "users", **rules)
    before = state(env.db)
    with pytest.raises(DeploymentDiffers, match=named):
        manager.create_collections_with_schema()
    assert state(env.db) == before
    env.db["users"].insert_one({"_id": "nobody", "username": "x", "email": "x"})
    assert manager.create_collections_with_schema(mend=True) == ["changed users"]
    assert state(env.db) == right
    with pytest.raises(pymongo.errors.WriteError):
        env.db["users"].insert_one({"_id": "nobody else"})
    assert env.db["users"].count_documents({}) == 1  # what is stored stays


def test_an_index_with_the_drivers_own_name_will_do(env: Any) -> None:
    for name in ("users", "events"):
        env.db.drop_collection(name)
    env.db.create_collection("orders")
    manager = lesson.MongoDBManager(env.db)
    manager.create_collections_with_schema()
    env.db.drop_collection("events")
    env.db["users"].drop_index("username")
    assert env.db["users"].create_index("username", unique=True) == "username_1"
    with pytest.raises(OperationFailure) as refusal:  # what the server thinks of two
        env.db["users"].create_indexes(lesson.INDEXES["users"])
    assert refusal.value.code == 85
    done = manager.create_collections_with_schema()
    assert done[0] == "created events"
    assert "username" not in env.db["users"].index_information()
    assert manager.create_collections_with_schema() == []


def test_a_rival_under_another_name_is_a_difference(env: Any) -> None:
    env.db["users"].drop_index("username")
    env.db["users"].create_index("username")
    manager = lesson.MongoDBManager(env.db)
    with pytest.raises(DeploymentDiffers, match="username_1 differs in unique"):
        manager.create_collections_with_schema()
    assert manager.create_collections_with_schema(mend=True) == ["username"]
    assert "username_1" not in env.db["users"].index_information()


def test_an_index_that_cannot_be_mended_stays_as_it_was(env: Any) -> None:
    rules = {"unique": False, "collation": lesson.ANY_CASE}
    users = env.db["users"]
    users.drop_index("email")
    users.create_index("email", name="email", **rules)
    users.create_index("born")
    env.db.command("collMod", "users", validator={}, validationLevel="off")
    users.insert_many([{"_id": _id, "username": _id, "email": "a@b"} for _id in "xy"])
    before = users.index_information()
    manager = lesson.MongoDBManager(env.db)
    with pytest.raises(OperationFailure):  # two documents have one address
        manager.create_collections_with_schema(mend=True)
    assert users.index_information() == before
    users.delete_one({"_id": "y"})
    manager.create_collections_with_schema(mend=True)
    assert users.index_information()["email"]["unique"]


def test_collections_of_ones_own_take_indexes_or_none(env: Any) -> None:
    schemas = {"orders": record("total", _id={}, total=typed("int"))}
    manager = lesson.MongoDBManager(env.db, schemas)
    assert manager.create_collections_with_schema() == ["created orders"]
    assert manager.create_collections_with_schema() == []
    indexes = {"orders": [pymongo.IndexModel("total")]}
    manager = lesson.MongoDBManager(env.db, schemas, indexes)
    assert manager.create_collections_with_schema() == ["total_1"]
    assert manager.create_collections_with_schema() == []


def test_a_view_is_nobodys_collection(env: Any) -> None:
    if not env.live:
        pytest.skip("platform: mongomock has no views")
    env.db.drop_collection("users")
    env.db.command("create", "users", viewOn="events", pipeline=[])
    for mend in (False, True):
        with pytest.raises(DeploymentDiffers, match="users is a view"):
            lesson.MongoDBManager(env.db).create_collections_with_schema(mend)


@pytest.mark.parametrize(
    ("option", "more"),
    [
        ("capped", {"capped": True, "size": 4096}),
        ("collation", {"collation": {"locale": "en", "strength": 1}}),
    ],
)
def test_a_collection_of_another_kind_is_refused_even_to_mend(
    env: Any, option: str, more: dict[str, Any]
) -> None:
    env.db.drop_collection("events")
    env.db.drop_collection("users")
    env.db.create_collection("events", **more)
    before = state(env.db)
    for mend in (False, True):
        with pytest.raises(DeploymentDiffers, match=f"events was made with {option}"):
            lesson.MongoDBManager(env.db).create_collections_with_schema(mend)
    assert state(env.db) == before


@pytest.mark.parametrize(
    "rules",
    [
        {"keys": [("$**", 1)], "wildcardProjection": {"total": 1}},
        {"keys": [("place", "2d")], "min": -10, "max": 10},
        {"keys": "total", "collation": {"locale": "simple"}},
        {"keys": "total", "unique": False, "sparse": False, "hidden": False},
    ],
    ids=["wildcard", "2d", "simple", "switched off"],
)
def test_an_index_with_rules_of_its_own_is_known_again(
    env: Any, rules: dict[str, Any]
) -> None:
    schemas = {"orders": record("total", _id={}, total=typed("int"), place={})}
    indexes = {"orders": [pymongo.IndexModel(**rules)]}
    manager = lesson.MongoDBManager(env.db, schemas, indexes)
    assert len(manager.create_collections_with_schema()) == 2
    assert manager.create_collections_with_schema() == []


def test_an_address_is_one_in_upper_and_lower_case(env: Any) -> None:
    users = [make_user(1), make_user(2) | {"email": "USER1@Example.Org"}]
    report = lesson.UserManager(env.db).bulk_insert_users(users)
    assert report.rejected == [(1, "email is taken")]
    assert report.inserted == 1


def test_what_a_server_adds_to_a_collation_is_no_difference() -> None:
    added = {"caseLevel": False, "caseFirst": "off", "version": "57.1"}
    wanted = {"locale": "en", "strength": 2}
    assert is_same(added | wanted, wanted)
    assert not is_same(added | wanted | {"caseLevel": True}, wanted)
    assert not is_same(added | wanted | {"strength": 1}, wanted)
    assert is_same(False, None)
    assert not is_same(0, None)


def test_where_the_validator_is_off_everything_is_stored(env: Any) -> None:
    bad = BARE_EVENT | {"user_id": -1}
    for rules, stored in (
        ({"validationAction": "warn"}, 1),
        ({"validationAction": "error"}, 1),
        ({"validationLevel": "off"}, 2),
    ):
        env.db.command("collMod", "events", **rules)
        try:
            env.db["events"].insert_one(dict(bad))
        except pymongo.errors.WriteError as error:
            assert error.code == 121
        assert env.db["events"].count_documents({}) == stored


class Second:
    """A database in which another deployment is quicker, or that refuses."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def create_collection(self, *_: Any, **_options: Any) -> None:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [CollectionInvalid("it is there"), OperationFailure("it came to be", 48)],
    ids=["before the last look", "after it"],
)
def test_a_collection_that_another_deployment_has_created_is_no_error(
    error: Exception,
) -> None:
    second: Any = Second(error)
    assert created(second, "users", {}) == []


def test_a_collection_that_may_not_be_created_is_an_error() -> None:
    refused: Any = Second(OperationFailure("not authorized", 13))
    with pytest.raises(OperationFailure, match="not authorized"):
        created(refused, "users", {})
