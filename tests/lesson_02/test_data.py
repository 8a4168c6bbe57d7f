"""Lesson 02 given somebody else's data: prices, moments, versions, keys, types."""

from __future__ import annotations

import decimal
import math
import random
import uuid
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from unittest.mock import Mock
from zoneinfo import ZoneInfo

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lessons import load
from pymongo.errors import BulkWriteError

from course.mongo.codec import surely_encodable, unencodable, unencodable_of
from course.mongo.reference import cohorts_of, days_of, purchases_of
from course.mongo.seed import END, START, make_events, make_user, make_users

lesson = load("02")


# --- Revenue --------------------------------------------------------------------------


def test_the_seed_has_a_price_in_every_type() -> None:
    kinds = {row["event_type"] for row in make_events(200) if row["metadata"]["price"]}
    assert kinds == {"view", "search", "cart", "purchase"}


def test_only_what_is_bought_is_revenue(env: Any) -> None:
    env.db["users"].insert_one(make_user(1))
    tracker, processor = lesson.EventTracker(env.db), lesson.DataProcessor(env.db)
    for kind in ("view", "cart", "purchase", "search"):
        more = {"timestamp": START, "metadata": {"price": 100, "category": "book"}}
        tracker.log_event(1, kind, **more)
    tracker.log_event(1, "purchase", timestamp=START)  # without a price
    processor.summarize_days(START, END)
    (cohort,) = processor.calculate_cohort_metrics()
    daily = env.db["daily"].find_one()
    books = tracker.get_purchase_analytics()["by_category"][-1]
    assert (cohort["revenue"], daily["revenue"], books["revenue"]) == (100, 100, 100)
    assert (cohort["active"], daily["events"]) == (1, 5)


def plain(value: Any) -> Decimal:
    return Decimal(str(value)).quantize(Decimal("0.0000000001"))


@pytest.mark.parametrize("share", [1.0, 0.5], ids=["all", "half"])
def test_decimal_prices_add_up_to_the_cent(env: Any, share: float) -> None:
    users, events = make_users(1, 20), make_events(300, located=False)
    chance = random.Random(5)
    for event in events:
        cents = Decimal(chance.randint(1, 99_999)) / 100
        exact = chance.random() < share
        price = bson.Decimal128(cents) if exact else float(cents)
        event["metadata"]["price"] = price
    env.db["users"].insert_many(users)
    env.db["events"].insert_many(events)
    for event in events:
        event["metadata"]["price"] = Decimal(str(event["metadata"]["price"]))
    processor = lesson.DataProcessor(env.db)
    processor.summarize_days(START, END)
    with decimal.localcontext(prec=34):
        pairs = [
            (processor.calculate_cohort_metrics(), cohorts_of(users, events)),
            (list(env.db["daily"].find().sort("_id", 1)), days_of(events)),
            (
                lesson.EventTracker(env.db).get_purchase_analytics()["by_category"],
                purchases_of(events)["by_category"],
            ),
        ]
        for found, wanted in pairs:
            assert len(found) == len(wanted) > 1
            for row, right in zip(found, wanted, strict=True):
                assert row.keys() == right.keys()
                for name in {"revenue", "mean"} & row.keys():
                    assert plain(row.pop(name)) == plain(right.pop(name))
                assert row == right
    bands = lesson.EventTracker(env.db).get_purchase_analytics()["by_price"]
    assert bands == purchases_of(events)["by_price"]


def test_cohorts_and_distribution_collect_no_ids(env: Any) -> None:
    """A document ends at 16 MB, which 1.3 million users of one month fill."""
    commands: list[str] = []
    aggregate = type(env.db["users"]).aggregate

    def seen(self: Any, pipeline: Any, *args: Any, **options: Any) -> Any:
        commands.append(str(pipeline))
        return aggregate(self, pipeline, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(env.db["users"]), "aggregate", seen)
        lesson.DataProcessor(env.db).calculate_cohort_metrics()
        lesson.EventTracker(env.db).get_event_distribution(START, END)
    assert len(commands) == 3
    assert not [each for each in commands if "$push" in each or "$addToSet" in each]


# --- Moments --------------------------------------------------------------------------

NAIVE = datetime(2025, 6, 1, 12)


def test_a_naive_datetime_is_refused_wherever_it_comes_in(env: Any) -> None:
    env.db["users"].insert_one(make_user(1))
    tracker, users = lesson.EventTracker(env.db), lesson.UserManager(env.db)
    processor = lesson.DataProcessor(env.db)
    calls: list[Any] = [
        lambda: tracker.log_event(1, "view", timestamp=NAIVE),
        lambda: tracker.log_event(1, "view", expires_at=NAIVE),
        lambda: tracker.log_event(1, "view", metadata={"seen": [{"at": NAIVE}]}),
        lambda: tracker.get_event_distribution(NAIVE, END),
        lambda: tracker.get_event_distribution(START, NAIVE),
        lambda: processor.summarize_days(START, NAIVE),
        lambda: users.add_subscription(1, "pro", NAIVE),
        lambda: users.upsert_users(
            [make_user(2), make_user(3) | {"created_at": NAIVE}]
        ),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="a naive datetime names no instant"):
            call()
    load = [make_user(4) | {"created_at": NAIVE}, make_user(5)]
    load += [make_user(6) | {"subscriptions": [{"plan": "pro", "since": NAIVE}]}]
    report = users.bulk_insert_users(load)
    assert report.inserted == 1
    assert report.rejected == [
        (0, "created_at has no time zone"),
        (2, "subscriptions.0.since has no time zone"),
    ]
    assert env.db["events"].count_documents({}) == 0
    assert sorted(env.db["users"].distinct("_id")) == [1, 5]


def test_a_moment_of_another_zone_is_the_same_moment(env: Any) -> None:
    kyiv = timezone(timedelta(hours=3))
    at = datetime(2025, 6, 1, 1, 30, tzinfo=kyiv)
    key = lesson.EventTracker(env.db).log_event(1, "view", timestamp=at)
    event = env.db["events"].find_one({"_id": key})
    assert event["timestamp"] == at
    assert event["timestamp"].utcoffset() == timedelta(0)
    lesson.DataProcessor(env.db).summarize_days(at - timedelta(hours=1), END)
    assert [row["_id"] for row in env.db["daily"].find()] == ["2025-05-31"]


# --- Versions -------------------------------------------------------------------------


BEYOND = [
    datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=2))),
    datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-5))),
]


@pytest.mark.parametrize("moment", BEYOND, ids=["year 0", "year 10000"])
def test_a_moment_that_no_year_of_utc_has_is_refused_in_a_sentence(
    env: Any, moment: datetime
) -> None:
    tracker, users = lesson.EventTracker(env.db), lesson.UserManager(env.db)
    user = make_user(1) | {"created_at": moment}
    calls: list[Callable[[], object]] = [
        lambda: tracker.log_event(1, "view", timestamp=moment),
        lambda: tracker.log_event(1, "view", metadata={"at": [moment]}),
        lambda: tracker.get_event_distribution(moment, END),
        lambda: users.upsert_users([user]),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="in UTC, this is not in the years 1 to"):
            call()
    (rejected,) = users.bulk_insert_users([user]).rejected
    assert rejected == (0, "created_at: in UTC, this is not in the years 1 to 9999")


@pytest.mark.parametrize("fold", [0, 1])
def test_an_hour_that_comes_twice_is_two_moments(env: Any, fold: int) -> None:
    kyiv = ZoneInfo("Europe/Kyiv")
    twice = datetime(2025, 10, 26, 3, 30, fold=fold, tzinfo=kyiv)
    key = lesson.EventTracker(env.db).log_event(1, "view", timestamp=twice)
    stored = env.db["events"].find_one({"_id": key})["timestamp"]
    assert stored == datetime(2025, 10, 26, fold, 30, tzinfo=UTC)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_of_nobody_finds_nobody(env: Any, limit: int) -> None:
    env.fresh(users=6)
    users = lesson.UserManager(env.db)
    assert len(users.find_users_by_interest("sql", limit=1)) == 1
    assert users.find_users_by_interest("sql", limit=limit) == []


@pytest.mark.parametrize(
    "text", ["user1\0", "\0", "\ud800", None, b"user1", ["user1"], {"$ne": 1}]
)
def test_what_no_name_begins_with_finds_nobody(env: Any, text: Any) -> None:
    env.fresh(users=6)
    assert len(lesson.search_names(env.db["users"], "user1")) == 1
    assert lesson.search_names(env.db["users"], text) == []


def test_of_a_long_text_the_first_50_characters_are_looked_for() -> None:
    sent = Mock(**{"find.return_value": []})
    lesson.search_names(sent, "a" * 50 + "b")
    sent.find.assert_called_once_with({"username": {"$regex": "^" + "a" * 50}})


def test_no_pattern_is_sent_that_a_server_refuses() -> None:
    """A MongoDB takes no character 0 in a pattern; SecantusDB and mongomock do."""
    sent = Mock(**{"find.return_value": []})
    lesson.search_names(sent, "a\0b")
    ((query,), _) = sent.find.call_args
    assert query == {"username": {"$regex": r"^a\x00b"}}


@pytest.mark.parametrize(
    "interest", [None, ["sql"], {"$ne": None}, {}, True, 0, "\ud800"]
)
def test_what_is_no_text_is_nobodys_interest(env: Any, interest: Any) -> None:
    env.db["users"].insert_many(make_users(1, 6))
    users = lesson.VersionedUsers(env.db)
    assert users.find_users_by_interest(interest) == []
    assert len(users.find_users_by_interest("sql")) == 2


@pytest.mark.parametrize(
    "user",
    [
        {"schema_version": 1, "interests": None},
        {"schema_version": 1, "interests": "sql"},
        {"schema_version": 2, "profile": {"interests": None}},
    ],
)
def test_interests_that_are_no_list_are_refused(user: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="interests is not a list"):
        lesson.as_current(user)


@pytest.mark.parametrize(
    "version",
    [{"schema_version": 3}, {}, {"schema_version": 0}, {"schema_version": True}],
)
def test_a_version_that_is_not_known_is_refused(version: dict[str, Any]) -> None:
    user = {"_id": 8, "username": "ann", "interests": ["sql"]} | version
    with pytest.raises(ValueError, match="user 8 has the schema version"):
        lesson.as_current(user)


def test_an_interest_that_version_1_adds_to_an_upgraded_user_is_kept(env: Any) -> None:
    users = env.db["users"]
    users.insert_one(make_user(1) | {"profile": {"interests": ["sql"], "projects": 3}})
    for interest in ("chess", "sql"):  # an instance of the old release still runs
        users.update_one({"_id": 1}, {"$push": {"interests": interest}})
    both = {"interests": ["sql", "chess"], "projects": 3}
    (found,) = lesson.VersionedUsers(env.db).find_users_by_interest("chess")
    assert found["profile"] == both
    assert "interests" not in found
    assert lesson.upgrade_users(users) == 1
    stored = users.find_one({"_id": 1})
    assert (stored["profile"], "interests" in stored) == (both, False)
    assert lesson.upgrade_users(users) == 0


# --- Loads ----------------------------------------------------------------------------


def test_nothing_to_upsert_is_no_error(env: Any) -> None:
    assert lesson.UserManager(env.db).upsert_users([]) == 0
    assert lesson.UserManager(env.db).bulk_insert_users([]) == lesson.LoadReport()


def test_an_upsert_that_fails_keeps_none_of_the_others_out(env: Any) -> None:
    users = lesson.UserManager(env.db)
    three = [make_user(1), make_user(2), make_user(3)]
    three[1]["email"] = "nobody"
    with pytest.raises(BulkWriteError):
        users.upsert_users(three)
    assert sorted(env.db["users"].distinct("_id")) == [1, 3]


class Odd:
    """Of no type that BSON has."""


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"metrics": {"views": Odd()}}, f"metrics.views: no BSON for {__name__}.Odd"),
        (
            {"subscriptions": [{"plan": {1, 2}}]},
            "subscriptions.0.plan: no BSON for set",
        ),
        ({"metrics": {"views": 2**63}}, "metrics.views: more than 64 bits"),
        ({"metrics": {1: 2}}, "metrics: no key of type int"),
        ({"price": Decimal("1.5")}, "price: no BSON for decimal.Decimal"),
        ({"day": START.date()}, "day: no BSON for datetime.date"),
        ({"n": math.pi, "u": uuid.UUID(int=1), "at": datetime.now(UTC)}, ""),
    ],
)
def test_what_bson_cannot_hold_is_named_by_field_and_type(
    change: dict[Any, Any], why: str
) -> None:
    assert unencodable(make_user(1) | change) == why


MOMENTS = st.sampled_from(
    [
        START,
        datetime(2025, 6, 1),  # without a time zone
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=3))),
        START.astimezone(timezone(timedelta(hours=3))),
        START.replace(tzinfo=bson.tz_util.utc),
    ]
)
VALUES = st.recursive(
    MOMENTS | st.sampled_from([1, 2**63, "x", "\ud800", None, b"x", 0.5, {1}, Odd()]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.dictionaries(st.sampled_from(["a", "b\0", 3]), inner, max_size=2)
    ),
    max_leaves=4,
)


@given(st.lists(st.dictionaries(st.just("field"), VALUES), max_size=25))
def test_who_looks_at_many_at_once_finds_what_a_look_at_each_finds(
    documents: list[Any],
) -> None:
    one_by_one = {}
    for index, document in enumerate(documents):
        if why := unencodable(document):
            one_by_one[index] = {"code": 0, "unsent": why}
    assert unencodable_of(documents) == one_by_one


def test_what_is_plain_and_in_utc_needs_no_look_at_each() -> None:
    assert surely_encodable([{"bio": "x"}, {"tags": ["y"]}])
    assert not surely_encodable([{"bio": "x"}, OrderedDict(bio="y")])


def test_documents_of_more_than_16_mb_together_are_looked_at_singly() -> None:
    big = {"bio": "x" * 9_000_000}
    too_big = {"bio": big["bio"] * 2}
    small: dict[str, Any] = {"bio": ""}
    assert unencodable_of([big, big]) == {}
    found = unencodable_of([small] * 50 + [big, too_big])
    assert found == {51: {"code": 0, "unsent": "larger than 16 MB"}}


def test_numpy_values_are_named_by_field_and_type(env: Any) -> None:
    numpy = pytest.importorskip("numpy")
    users: list[Any] = make_users(1, 3)
    users[0]["metrics"] = {"views": numpy.int64(5)}
    users[2]["_id"] = numpy.int64(3)
    report = lesson.UserManager(env.db).bulk_insert_users(users)
    assert report.rejected == [
        (0, "metrics.views: no BSON for numpy.int64"),
        (2, "_id: no BSON for numpy.int64"),
    ]
    assert report.inserted == 1
