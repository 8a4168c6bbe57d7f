"""Lesson 02 alone: its parts against oracles, its input at its worst, its memory."""

from __future__ import annotations

import argparse
import copy
import io
import socket
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import bson
import dns.resolver
import pymongo
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from lessons import load, path_of, run
from pymongo.errors import OperationFailure, WriteError

SCRIPT = path_of("02")
lesson = load("02")
relaxed = settings(
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture
def env() -> Iterator[Any]:
    given = {"offline": True, "require_live": False, "url": None}
    with lesson.open_env(argparse.Namespace(**given)) as found:
        yield found


# --- Addresses, credentials, options ------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://ann:s3cr3t@127.0.0.1/",
        "mongodb://",
        "mongodb://ann:s3cr3t@127.0.0.1:99999/",
        "mongodb://ann:s3cr3t@127.0.0.1:port/",
        "mongodb://ann:s3cr3t@127.0.0.1/a$b",
        "mongodb://ann:s3cr3t@127.0.0.1/two words",
        "mongodb://ann:s3cr3t@@127.0.0.1/",
        "mongodb://ann:s3cr3t@127.0.0.1/?tls=perhaps",
        "mongodb://ann:s3cr3t@127.0.0.1/?no_such_option=1",
        "mongodb://127.0.0.1/?serverSelectionTimeoutMS=soon",
    ],
)
@pytest.mark.parametrize("way", ["option", "variable"])
def test_a_bad_address_gets_one_line(
    url: str,
    way: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["--url", url] if way == "option" else []
    monkeypatch.setenv("MONGODB_URI", url if way == "variable" else "")
    assert lesson.main(["--only", "validators", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert "MONGODB_URI" in printed.err
    assert "right is mongodb://user:" in printed.err
    assert "s3cr3t" not in printed.err


def test_a_mute_server_is_given_up_for_the_stand_in_or_for_exit_3() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"mongodb://ann:s3cr3t@127.0.0.1:{mute.getsockname()[1]}/"
        done = run(SCRIPT, "--only", "validators", "--url", url)
        strict = run(SCRIPT, "--require-live", "--url", url)
    assert done.returncode == 0
    assert "no answer in 1 s" in done.stdout.splitlines()[0]
    assert strict.returncode == 3
    assert len(strict.stdout.splitlines()) == 1
    assert "s3cr3t" not in done.stdout + done.stderr + strict.stdout + strict.stderr


def test_no_wait_is_for_ever() -> None:
    with lesson.connect("mongodb://127.0.0.1:1/", lesson.CommandCounter()) as client:
        pool = client.options.pool_options
        limits = [client.options.timeout, client.options.server_selection_timeout]
        limits += [pool.connect_timeout, pool.wait_queue_timeout]
        assert all(limit and limit <= 30 for limit in limits)
        assert client.options.pool_options.max_pool_size <= 100
        assert client.codec_options.tz_aware
        assert client.codec_options.uuid_representation == bson.binary.STANDARD


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Any]:
    """Return what the probe makes of a server that says, or raises, the same always."""

    def probe(said: Any) -> Any:
        admin = Mock(**{"command.side_effect": said})
        client = nullcontext(SimpleNamespace(admin=admin))
        monkeypatch.setattr(lesson, "connect", lambda *_: client)
        with lesson.ExitStack() as stack:
            return lesson.answer("mongodb://h/", lesson.CommandCounter(), stack)

    return probe


def test_an_old_server_is_refused(told: Callable[[Any], Any]) -> None:
    build = {"versionArray": [4, 4, 29, 0], "version": "4.4.29"}
    with pytest.raises(lesson.BadInput, match=r"4\.4\.29 is too old"):
        told([build, {}])


@pytest.mark.parametrize(
    ("code", "why"),
    [(50, "no answer in 1 s"), (262, "no answer in 1 s"), (8, "error 8")],
)
def test_a_server_in_trouble_is_no_wrong_password(
    told: Callable[[Any], Any], code: int, why: str
) -> None:
    kind = pymongo.errors.ExecutionTimeout if code > 8 else OperationFailure
    assert told(kind("no", code)) == why
    for refusal in (13, 18, 8000):
        with pytest.raises(lesson.BadInput, match="authSource"):
            told(OperationFailure("no", refusal))


def test_a_name_that_does_not_resolve_is_a_server_that_is_absent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unknown(*_args: Any, **_options: Any) -> None:
        raise dns.resolver.NXDOMAIN

    monkeypatch.setattr(dns.resolver, "resolve", unknown)
    arguments = ["--only", "validators", "--url", "mongodb+srv://u:s3cr3t@h.invalid/"]
    for option, code in ([], 0), (["--require-live"], 3):
        assert lesson.main([*option, *arguments]) == code
        printed = capsys.readouterr()
        assert "its name does not resolve" in printed.out.splitlines()[0]
        assert "s3cr3t" not in printed.out + printed.err


def test_only_what_needs_a_replica_set_is_skipped_without_one(env: Any) -> None:
    alone = SimpleNamespace(client=Mock(**{"admin.command.return_value": {"ok": 1}}))
    env = lesson.Env("", True, alone, env.commands)
    env.need_server("plans")
    with pytest.raises(lesson.Skip, match="no replica set"):
        env.need_server("transactions", replica_set=True)


# --- Validators ---------------------------------------------------------------------


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
    found = lesson.broken({"details": info})
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
        (lesson.START, "date"),
    ],
)
def test_bson_types_are_those_of_the_encoder(value: object, name: str) -> None:
    numbers = {"int", "long", "double", "decimal"}
    for kind in sorted(numbers | {"bool", "string", "array", "object", "date"}):
        broken = list(lesson.breaches(lesson.typed(kind), value, "v"))
        assert broken == ([] if kind == name else ["v"])
    broken = list(lesson.breaches(lesson.typed("number"), value, "v"))
    assert broken == ([] if name in numbers else ["v"])
    tags = {"int": 16, "long": 18, "double": 1, "decimal": 19, "bool": 8, "string": 2}
    tags |= {"array": 4, "object": 3, "date": 9}
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
        users.insert_one(lesson.make_user(3) | {"email": "nobody"})
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
    load = [lesson.make_user(3) | {"email": "user1@example.org"}]
    load += [lesson.make_user(4) | {"email": "new@example.org"}]
    assert lesson.UserManager(env.db).bulk_insert_users(load).rejected == [
        (1, "email is taken")
    ]


@pytest.mark.parametrize(
    "stage",
    [
        {"$merge": {"into": "daily"}},
        {"$merge": {"into": "daily", "whenMatched": "merge"}},
        {"$merge": {"into": "daily", "whenMatched": "replace", "on": "day"}},
        {"$geoNear": {"near": lesson.point(*lesson.KYIV), "distanceField": "metres"}},
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
        lesson.verdict(env.db["users"], lesson.make_user(1))


def test_no_keyword_of_the_schemas_is_passed_over() -> None:
    shape = {"properties", "required", "additionalProperties", "items"}

    def keywords(schema: dict[str, Any]) -> set[str]:
        inner = [*schema.get("properties", {}).values(), schema.get("items", {})]
        return set(schema).union(*(keywords(each) for each in inner if each))

    for schema in lesson.SCHEMAS.values():
        assert keywords(schema) <= lesson.RULES.keys() | shape


# --- Loads --------------------------------------------------------------------------


def spoilt(user: dict[str, Any], how: str) -> dict[str, Any]:
    changes: dict[str, dict[str, Any]] = {
        "good": {},
        "email": {"email": "nobody"},
        "taken": {"email": "taken@example.org"},
        "object": {"metrics": {"views": object()}},
        "number": {"metrics": {"views": 2**63}},
        "naught": {"username": "a\0b" * 100},
    }
    return user | changes.get(how, {"schema_version": 3})


KINDS = st.sampled_from(
    ["good", "good", "email", "taken", "object", "number", "naught", "version"]
)


@relaxed
@given(kinds=st.lists(KINDS, max_size=30), batch=st.integers(1, 8))
def test_a_load_accounts_for_every_document(
    env: Any, kinds: list[str], batch: int
) -> None:
    env.fresh(users=1)
    manager = lesson.UserManager(env.db)
    manager.users.update_one({"_id": 1}, {"$set": {"email": "taken@example.org"}})
    users = [spoilt(lesson.make_user(n), kind) for n, kind in enumerate(kinds, 100)]
    report = manager.bulk_insert_users(copy.deepcopy(users[:0]) + users, batch)
    good = [number for number, kind in enumerate(kinds) if kind == "good"]
    bad = [number for number, kind in enumerate(kinds) if kind != "good"]
    assert sorted(number for number, _ in report.rejected) == bad
    assert (report.inserted, report.repeated) == (len(good), 0)
    assert sorted(manager.users.distinct("_id")) == [1, *(n + 100 for n in good)]
    again = manager.bulk_insert_users(users, batch)
    assert (again.inserted, again.repeated) == (0, len(good))


def test_rejections_say_why(env: Any) -> None:
    env.fresh(users=1)
    big = lesson.make_user(4) | {"username": "x" * 17_000_000}
    users: list[Any] = [lesson.make_user(n) for n in (1, 2)]
    users += ["no document", big, lesson.make_user(5) | {"email": "user1@example.org"}]
    users += [lesson.make_user(6) | {"profile": {}}]
    report = lesson.UserManager(env.db).bulk_insert_users(users)
    assert dict(report.rejected) == {
        2: "no BSON: TypeError",
        3: "larger than 16 MB",
        4: "email is taken",
        5: "breaks profile.interests",
    }
    assert (report.inserted, report.repeated) == (1, 1)


def test_another_user_with_the_same_id_is_no_repetition(env: Any) -> None:
    env.fresh(users=1)
    users = [lesson.make_user(number) for number in (1, 2, 3, 4, 5, 6, 3)]
    users[3] = users[0] | {"username": "x", "email": "x@example.org"}  # stored before
    users[4] = users[1] | {"username": "y", "email": "y@example.org"}  # two lines above
    users[5] = users[2] | {"email": "nobody"}
    for inserted, repeated in ((2, 2), (0, 4)):  # the last is the same user again
        report = lesson.UserManager(env.db).bulk_insert_users(users, batch=4)
        assert (report.inserted, report.repeated) == (inserted, repeated)
        assert report.rejected == [
            (3, "_id is twice in this load"),
            (4, "_id is twice in this load"),
            (5, "breaks email"),
        ]
    assert env.db["users"].count_documents({}) == 3


def test_only_a_taken_id_is_forgiven(env: Any) -> None:
    env.fresh(users=1)
    user = lesson.make_user(1) | {"email": "nobody"}
    report = lesson.UserManager(env.db).bulk_insert_users([user])
    assert report == lesson.LoadReport(rejected=[(0, "breaks email")])


def test_a_write_concern_that_fails_is_nobodys_fault(
    env: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    env.fresh()
    details = {"nInserted": 1, "writeErrors": [], "writeConcernErrors": [{"code": 64}]}

    def unsafe(*_args: Any, **_options: Any) -> None:
        raise pymongo.errors.BulkWriteError(details)

    monkeypatch.setattr(lesson.StandIn, "insert_many", unsafe)
    with pytest.raises(pymongo.errors.BulkWriteError):
        lesson.UserManager(env.db).bulk_insert_users([lesson.make_user(1)])


def test_an_upgrade_never_overwrites_a_newer_change(env: Any) -> None:
    env.fresh()
    users = env.db["users"]
    old = lesson.make_user(1) | {"schema_version": 1, "interests": ["sql"]}
    del old["profile"]
    users.insert_one(old)
    write = lesson.StandIn.bulk_write

    def late(self: Any, requests: Any, ordered: bool = True) -> Any:
        lesson.StandIn.bulk_write = write  # once, just before the upgrade's own write
        users.update_one({"_id": 1}, {"$set": {"interests": ["python"]}})
        return self.bulk_write(requests, ordered)

    lesson.StandIn.bulk_write = late
    try:
        assert lesson.upgrade_users(users) == 1
    finally:
        lesson.StandIn.bulk_write = write
    assert users.find_one({"_id": 1})["profile"] == {"interests": ["python"]}


def test_reading_as_version_2_touches_nothing() -> None:
    old = {"_id": 1, "schema_version": 1, "interests": ["sql"], "username": "a"}
    before = copy.deepcopy(old)
    new = lesson.as_current(old)
    assert old == before
    assert lesson.as_current(new) == new == lesson.as_current(lesson.as_current(old))
    assert new["profile"] == {"interests": ["sql"]}
    assert lesson.as_current({"schema_version": 1})["profile"] == {"interests": []}


def test_subscribing_an_unknown_user_is_an_error(env: Any) -> None:
    env.fresh(users=1)
    manager = lesson.UserManager(env.db)
    assert manager.add_subscription(1, "pro", lesson.START)
    assert not manager.add_subscription(1, "pro", lesson.START)
    assert manager.add_subscription(1, "team", lesson.START)
    with pytest.raises(LookupError, match="no user 2"):
        manager.add_subscription(2, "pro", lesson.START)
    for operator in ({"$ne": None}, {"$gt": 0}):
        with pytest.raises(LookupError):
            manager.add_subscription(operator, "pro", lesson.START)
        assert manager.find_users_by_interest(operator) == []


# --- Places and operators -----------------------------------------------------------


@given(st.floats(22, 41), st.floats(44, 53))
def test_no_place_of_ours_survives_a_swap(longitude: float, latitude: float) -> None:
    place = lesson.point(longitude, latitude)
    assert place["coordinates"] == [longitude, latitude]
    with pytest.raises(ValueError, match="swapped"):
        lesson.point(latitude, longitude)


PLACES = st.tuples(st.floats(22, 41), st.floats(44, 53))
NEARBY = st.tuples(st.floats(-1e-4, 1e-4), st.floats(-1e-4, 1e-4))


@given(PLACES, PLACES, NEARBY)
@example(lesson.KYIV, lesson.KYIV, (0.0, 0.0))
def test_the_emulated_sphere_is_haversines(
    one: tuple[float, float], other: tuple[float, float], step: tuple[float, float]
) -> None:
    beside = (one[0] + step[0], one[1] + step[1])
    for end in (other, beside, one):
        wanted = lesson.haversine({"geo": {"coordinates": end}}, start=one)
        assert lesson.metres(one, end) == pytest.approx(wanted, abs=0.1)
    assert lesson.metres(one, one) == 0


def test_swapped_places_are_refused_wherever_they_come_in(env: Any) -> None:
    manager, tracker = lesson.GeoLocationManager(env.db), lesson.EventTracker(env.db)
    longitude, latitude = lesson.KYIV
    for method in (manager.count_events_within, manager.find_events_near_location):
        with pytest.raises(ValueError, match="swapped"):
            method(latitude, longitude, 5)
    for place in ([latitude, longitude], [longitude, latitude]):
        geo = {"type": "Point", "coordinates": place}
        if place[0] == latitude:
            with pytest.raises(ValueError, match="swapped"):
                tracker.log_event(1, "view", geo=geo)
        else:
            tracker.log_event(1, "view", geo=geo)
    assert env.db["events"].count_documents({}) == 1


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
JSON = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["$ne", "a", "b", "a.b", "$where"]), inner)
    ),
    max_leaves=6,
)


@given(JSON)
@example({"a": 2**63})
def test_only_plain_values_in_allowed_fields_pass(body: Any) -> None:
    sound = isinstance(body, dict) and all(
        name in ("a", "b")
        and isinstance(value, str | int | float)
        and (isinstance(value, str | float) or -(2**63) <= value < 2**63)
        for name, value in body.items()
    )
    try:
        assert lesson.plain_fields(body, ("a", "b")) is body
    except ValueError:
        assert not sound
    else:
        assert sound


@pytest.mark.parametrize(
    "body",
    [
        {"username": "admin", "token": "x", "$where": "sleep(9000) || true"},
        {"username": "admin", "token": {"$where": "true"}},
        {"username": "admin", "token": ["nimda"]},
        {"username": "admin", "token": None},
        {"username": "admin", "token": 5, "$expr": True},
        {"username": "sso-admin"},  # who has no token, and None equals that
        {},
        {"username": 2**70, "token": "x"},  # more than BSON's 64 bits
        {"username.first": "a", "token": "x"},
        {"$or": [{}]},
        [{"$match": {}}],
        "admin",
        None,
    ],
)
def test_bodies_with_more_than_a_name_and_a_token_are_refused(
    env: Any, body: Any
) -> None:
    users = env.db["logins"]
    users.insert_one({"username": "sso-admin"})
    with pytest.raises(ValueError, match="refused"):
        lesson.log_in(users, body)


def test_the_second_wall_holds_alone(env: Any) -> None:
    users = env.db["logins"]
    users.insert_one({"username": "admin", "token": "t"})
    for operator in ({"$ne": None}, {"$regex": "^"}, {"$gt": ""}):
        body = {"username": "admin", "token": operator}
        assert lesson.log_in_naive(users, body)
        assert users.find_one(lesson.equal_to(body)) is None


# --- Exports ------------------------------------------------------------------------


@relaxed
@given(data=st.data())
def test_an_export_cut_at_any_byte_is_completed(
    env: Any, tmp_path: Path, data: st.DataObject
) -> None:
    if env.db["events"].count_documents({}) != 60:
        env.fresh(events=60)
    processor = lesson.DataProcessor(env.db)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.unlink(missing_ok=True)
    assert processor.export_data_for_analysis(whole, page=7) == 60
    size = data.draw(st.integers(0, whole.stat().st_size))
    cut.write_bytes(whole.read_bytes()[:size])
    processor.export_data_for_analysis(cut, page=data.draw(st.integers(1, 80)))
    assert cut.read_bytes() == whole.read_bytes()
    with whole.open("rb") as file:
        rows = list(bson.decode_file_iter(file, lesson.CODEC))
    assert rows == list(env.db["events"].find().sort("_id", 1))


@pytest.mark.parametrize(
    "text", [b"user,email\n1,a@b\n", b'{"_id": 1}\n', b"PK\3\4zip"]
)
def test_a_file_that_is_no_export_is_left_alone(
    env: Any, tmp_path: Path, text: bytes
) -> None:
    env.fresh(events=3)
    path = tmp_path / "mine.csv"
    path.write_bytes(text)
    with pytest.raises(ValueError, match="not an export of ours"):
        lesson.DataProcessor(env.db).export_data_for_analysis(path)
    assert path.read_bytes() == text


class Endless:
    """A collection of `count` events that are made when they are asked for."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.body = lesson.make_events(1)[0]

    def find_raw_batches(self, query: Any, sort: Any, limit: int) -> Iterator[bytes]:
        start = query["_id"]["$gt"] + 1 if query else 1
        start = self.count if sort == [("_id", -1)] else start
        for number in range(start, min(start + limit, self.count + 1)):
            yield bson.encode(self.body | {"_id": number})


def test_memory_is_flat_from_10_000_to_200_000_documents(tmp_path: Path) -> None:
    peaks = []
    for count in (10_000, 200_000):
        processor = lesson.DataProcessor({"events": Endless(count)})
        path = tmp_path / str(count)
        tracemalloc.start()
        assert processor.export_data_for_analysis(path, page=2_000) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]


def test_the_last_id_of_an_empty_and_of_a_torn_file() -> None:
    one, two = (bson.encode({"_id": number}) for number in (1, 2))
    for text, last, kept in (
        (b"", None, b""),
        (one[:3], None, b""),
        (one[:-1], None, b""),
        (one, 1, one),
        (one + two[:-1], 1, one),
        (one + two, 2, one + two),
    ):
        file = io.BytesIO(text)
        assert lesson.last_id(file) == last
        assert file.getvalue() == kept
