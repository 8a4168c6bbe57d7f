"""One population, two stores: lesson 02's cohorts are lesson 01's."""

from __future__ import annotations

import argparse
from typing import Any

import sqlalchemy as sa
from lessons import load

from course.mongo.seed import BARE_EVENT, make_user

sql, lesson = load("01"), load("02")


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
            f"{month:%Y-%m}",
            cohort.users,
            sum(users for lag, users in cohort.seen.items() if lag is not None),
        )
        for month, cohort in cohorts.items()
    ]
    users = [
        make_user(person.id)
        | {"username": person.username, "email": person.email}
        | {"created_at": person.registered_at}
        for person in people
    ]
    report = lesson.UserManager(env.db).bulk_insert_users(users)
    assert (report.inserted, report.rejected) == (len(people), [])
    seen = [person for person in people if person.last_seen_at]
    env.db["events"].insert_many(
        [
            BARE_EVENT | {"user_id": person.id, "timestamp": person.last_seen_at}
            for person in seen
        ]
    )
    found = lesson.DataProcessor(env.db).calculate_cohort_metrics()
    assert [(row["cohort"], row["users"], row["active"]) for row in found] == expected
