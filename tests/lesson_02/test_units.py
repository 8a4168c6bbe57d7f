"""Lesson 02 alone: loads, versions, places and operators."""

from __future__ import annotations

import argparse
import copy
import math
import uuid
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import bson
import pymongo
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from lessons import load

from course.mongo.complaints import verdict
from course.mongo.places import Area
from course.mongo.reference import EARTH_KM
from course.mongo.seed import KYIV, START, make_user
from course.mongo.workplace import PrefixedDatabase
from course.standins.mongodb import StandInCollection

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


# --- Loads ----------------------------------------------------------------------------


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
    users = [spoilt(make_user(n), kind) for n, kind in enumerate(kinds, 100)]
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
    big = make_user(4) | {"username": "x" * 17_000_000}
    users: list[Any] = [make_user(n) for n in (1, 2)]
    users += ["no document", big, make_user(5) | {"email": "user1@example.org"}]
    users += [make_user(6) | {"profile": {}}]
    report = lesson.UserManager(env.db).bulk_insert_users(users)
    assert dict(report.rejected) == {
        2: "no document: str",
        3: "larger than 16 MB",
        4: "email is taken",
        5: "breaks profile.interests",
    }
    assert (report.inserted, report.repeated) == (1, 1)


def test_another_user_with_the_same_id_is_no_repetition(env: Any) -> None:
    env.fresh(users=1)
    users = [make_user(number) for number in (1, 2, 3, 4, 5, 6, 3)]
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
    user = make_user(1) | {"email": "nobody"}
    report = lesson.UserManager(env.db).bulk_insert_users([user])
    assert report == lesson.LoadReport(rejected=[(0, "breaks email")])


def test_a_write_concern_that_fails_is_nobodys_fault(
    env: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    env.fresh()
    details = {"nInserted": 1, "writeErrors": [], "writeConcernErrors": [{"code": 64}]}

    def unsafe(*_args: Any, **_options: Any) -> None:
        raise pymongo.errors.BulkWriteError(details)

    monkeypatch.setattr(StandInCollection, "insert_many", unsafe)
    with pytest.raises(pymongo.errors.BulkWriteError):
        lesson.UserManager(env.db).bulk_insert_users([make_user(1)])


def test_an_upgrade_never_overwrites_a_newer_change(
    env: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    env.fresh()
    users = env.db["users"]
    old = make_user(1) | {"schema_version": 1, "interests": ["sql"]}
    del old["profile"]
    users.insert_one(old)
    write = StandInCollection.bulk_write

    def late(self: Any, requests: Any, ordered: bool = True) -> Any:
        # Once, just before the upgrade's own write.
        monkeypatch.setattr(StandInCollection, "bulk_write", write)
        users.update_one({"_id": 1}, {"$set": {"interests": ["python"]}})
        return self.bulk_write(requests, ordered)

    monkeypatch.setattr(StandInCollection, "bulk_write", late)
    assert lesson.upgrade_users(users) == 1
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
    assert manager.add_subscription(1, "pro", START)
    assert not manager.add_subscription(1, "pro", START)
    assert manager.add_subscription(1, "team", START)
    with pytest.raises(LookupError, match="no user 2"):
        manager.add_subscription(2, "pro", START)
    for operator in ({"$ne": None}, {"$gt": 0}):
        with pytest.raises(LookupError):
            manager.add_subscription(operator, "pro", START)
        assert manager.find_users_by_interest(operator) == []


# --- Places and operators -------------------------------------------------------------


@given(st.floats(22, 41), st.floats(44, 53))
def test_no_place_of_ours_survives_a_swap(longitude: float, latitude: float) -> None:
    place = lesson.point(longitude, latitude)
    assert place["coordinates"] == [longitude, latitude]
    with pytest.raises(ValueError, match="swapped"):
        lesson.point(latitude, longitude)


def test_a_kilometre_is_a_thousand_metres_and_not_one_more(env: Any) -> None:
    longitude, latitude = KYIV
    for number, metres in enumerate((0.0, 999.6, 1000.4)):
        north = latitude + math.degrees(metres / 1000 / EARTH_KM)
        geo = {"type": "Point", "coordinates": [longitude, north]}
        lesson.EventTracker(env.db).log_event(number, "view", geo=geo)
    manager = lesson.GeoLocationManager(env.db)
    found = manager.find_events_near_location(longitude, latitude, 1)
    assert [event["user_id"] for event in found] == [0, 1]
    assert [event["metres"] for event in found] == pytest.approx([0, 999.6], abs=0.01)


def test_swapped_places_are_refused_wherever_they_come_in(env: Any) -> None:
    manager, tracker = lesson.GeoLocationManager(env.db), lesson.EventTracker(env.db)
    longitude, latitude = KYIV
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


@pytest.mark.parametrize(
    "place",
    [(13.4, 52.5), (-74.0, 40.7), (151.2, -33.9), (-77, -12), (30, 50), (180, -90)],
)
def test_a_place_may_be_anywhere_and_whole_degrees(
    env: Any, place: tuple[float, float]
) -> None:
    env.fresh()
    assert lesson.point(*place)["coordinates"] == list(place)
    whole = {"type": "Point", "coordinates": list(place)}  # as JSON may bring it
    assert verdict(env.db["events"], lesson.AN_EVENT | {"geo": whole}) == "accepted"
    lesson.EventTracker(env.db).log_event(1, "view", geo=whole)


@pytest.mark.parametrize(
    ("longitude", "latitude"),
    [(52.5, 95), (181, 0), (0, -91), (math.nan, 0), (math.inf, 0), ("30", 50)],
)
def test_what_is_nowhere_is_refused(longitude: Any, latitude: Any) -> None:
    with pytest.raises(ValueError, match=r"nowhere on earth|degrees are numbers"):
        lesson.point(longitude, latitude)


def test_swapped_is_told_by_the_callers_own_area() -> None:
    berlin = Area(5, 47, 16, 56)
    assert lesson.point(13.4, 52.5, berlin)
    with pytest.raises(ValueError, match="swapped"):
        lesson.point(52.5, 13.4, berlin)
    assert lesson.point(52.5, 13.4)  # off Yemen, which is a place
    assert lesson.point(50.45, 30.52, None)


@pytest.mark.parametrize(
    "geo",
    [
        None,
        "30, 50",
        {"lat": 50, "lon": 30},
        {"type": "Polygon", "coordinates": [[[30, 50], [31, 50], [31, 51], [30, 50]]]},
        {"type": "Polygon", "coordinates": [30, 50]},
        {"type": "Point", "coordinates": [30, 50, 100]},
        {"type": "Point", "coordinates": [True, 50]},
        {"type": "Point"},
        {"type": "Point", "coordinates": {"lat": 50, "lon": 30}},
    ],
)
def test_what_is_no_point_is_refused_in_a_sentence(env: Any, geo: Any) -> None:
    env.fresh()
    with pytest.raises(ValueError, match=r"GeoJSON point, such as|are numbers"):
        lesson.EventTracker(env.db).log_event(1, "view", geo=geo)
    assert env.db["events"].count_documents({}) == 0


KEYS = [5, "ann", bson.ObjectId("0123456789ab0123456789ab"), uuid.UUID(int=7)]


@pytest.mark.parametrize("key", KEYS, ids=lambda key: type(key).__name__)
def test_a_user_may_have_any_key(env: Any, key: Any) -> None:
    env.fresh()
    users, tracker = lesson.UserManager(env.db), lesson.EventTracker(env.db)
    load = [make_user(1) | {"_id": key}]
    assert users.bulk_insert_users(load).inserted == 1
    assert users.bulk_insert_users(load).repeated == 1
    assert users.add_subscription(key, "pro", START)
    tracker.log_event(key, "purchase", metadata={"price": 5}, timestamp=START)
    (cohort,) = lesson.DataProcessor(env.db).calculate_cohort_metrics()
    assert (cohort["active"], cohort["revenue"]) == (1, 5)
    assert tracker.get_user_activity_metrics()[0]["_id"] == key
    assert [row["name"] for row in tracker.latest_with_names(5)] == ["user1"]


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


class SomebodyIsFaster:
    """A collection in which every document has changed since it was seen."""

    def __init__(self) -> None:
        self.tries = 0

    def update_one(self, *_: Any) -> Any:
        self.tries += 1
        return SimpleNamespace(modified_count=0)

    def find(self, _: Any) -> list[Any]:
        return [{"_id": 1, "taken": self.tries, "version": self.tries}]


def test_who_comes_too_late_100_times_is_told_that_no_seat_was_taken() -> None:
    flights = SomebodyIsFaster()
    with pytest.raises(TimeoutError, match="somebody was faster, 100 times"):
        lesson.take_seat(flights, flights.find(1)[0])
    assert flights.tries == 100


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


def test_the_documents_at_the_top_are_accepted_and_complete(env: Any) -> None:
    env.fresh()
    assert verdict(env.db["users"], lesson.A_USER) == "accepted"
    assert verdict(env.db["events"], lesson.AN_EVENT) == "accepted"
    shown = {"users": lesson.A_USER, "events": lesson.AN_EVENT}
    not_shown = {"users": {"interests"}, "events": {"_id", "expires_at"}}
    for name, document in shown.items():
        known = lesson.SCHEMAS[name]["properties"].keys()
        assert known - document.keys() == not_shown[name]


def test_a_pipeline_sorts_up_or_down_and_by_nothing_else() -> None:
    """A server refuses other numbers; the stand-in takes any."""
    db = MagicMock()
    tracker = lesson.EventTracker(db)
    tracker.get_user_activity_metrics()
    ((pipeline,), _) = tracker.events.aggregate.call_args
    (order,) = [stage["$sort"] for stage in pipeline if "$sort" in stage]
    assert order == {"events": -1, "_id": 1}


def test_of_a_database_that_others_use_only_ours_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows: list[Any] = [{"name": "run_users", "options": {}}, {"name": "users"}]

    def listed(_: Any, **options: Any) -> list[dict[str, Any]]:
        # Asked for names only, a server says nothing of the rules.
        assert options == {"authorizedCollections": True, "nameOnly": False}
        return rows

    monkeypatch.setattr(pymongo.database.Database, "list_collections", listed)
    with pymongo.MongoClient[Any](connect=False) as client:
        ours = PrefixedDatabase(client, "shop", "run_")
        assert (ours.own("users"), ours.own("run_users")) == ("run_users",) * 2
        assert list(ours.list_collections()) == [rows[0] | {"name": "users"}]
