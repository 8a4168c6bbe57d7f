"""One population, two stores: lesson 02's cohorts are lesson 01's."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from lessons import load

from course.mongo.seed import BARE_EVENT, make_user

sql, documents = load("01"), load("02")


@pytest.fixture(params=["stand-in", "live"])
def env(request: pytest.FixtureRequest) -> Iterator[Any]:
    live = request.param == "live"
    url = request.getfixturevalue("mongo_url") if live else None
    given = {"offline": not live, "require_live": live, "url": url}
    with documents.open_env(argparse.Namespace(**given)) as found:
        yield found


def test_both_lessons_find_the_same_cohorts(env: Any) -> None:
    given = {"offline": True, "require_live": False, "url": None}
    with sql.open_env(argparse.Namespace(**given)) as relational:
        with relational.sessions() as session:
            people = list(session.scalars(sa.select(sql.User)))
            analytics = sql.DataScienceAnalytics(session)
            cohorts = analytics.get_user_metrics_by_registration_cohort()
        assert len(people) > 100
    expected = [
        (
            f"{month // 12}-{month % 12 + 1:02}",
            sum(lags.values()),
            sum(users for lag, users in lags.items() if lag is not None),
        )
        for month, lags in cohorts.items()
    ]
    env.fresh()
    users = [
        make_user(person.id)
        | {"username": person.username, "email": person.email}
        | {"created_at": person.registered_at}
        for person in people
    ]
    report = documents.UserManager(env.db).bulk_insert_users(users)
    assert (report.inserted, report.rejected) == (len(people), [])
    seen = [person for person in people if person.last_seen_at]
    env.db["events"].insert_many(
        [
            BARE_EVENT | {"user_id": person.id, "timestamp": person.last_seen_at}
            for person in seen
        ]
    )
    found = documents.DataProcessor(env.db).calculate_cohort_metrics()
    assert [(row["cohort"], row["users"], row["active"]) for row in found] == expected
