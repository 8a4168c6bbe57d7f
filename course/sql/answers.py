"""The figures of lesson 01 in plain Python, to compare with those of the database."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, date
from typing import Any

from course.sql.months import Cohort, months_between

Users = Sequence[Any]  # each with its address, city and country


def whole(figure: Any) -> int | None:
    """Return a count or a sum as an int, or None for a NULL."""
    # PostgreSQL adds bigints up to a decimal; a float would lose cents above 2**53.
    return None if figure is None else int(figure)


def rounded(figure: Any) -> float | None:
    """Return a figure as a float of two decimals, or None for a NULL."""
    return None if figure is None else round(float(figure), 2)


def share_at(ordered: Sequence[int], share: float) -> int:
    """Return the least value that this share of all values do not exceed."""
    # As percentile_disc does: half of five values is reached at the third.
    reached = math.ceil(len(ordered) * share)
    return ordered[reached - 1]


def plain_user_statistics(users: Users, active: int) -> dict[str, float]:
    """Return counts, mean logins and spending of users."""
    logins = [user.logins for user in users]
    # NULL is not 0: those who never bought count in no mean or percentile of spending.
    buyers = [user for user in users if user.spent_cents is not None]
    spent = sorted(user.spent_cents for user in buyers)
    mean = sum(logins) / len(logins)
    return {
        "users": len(users),
        "active": sum(n >= active for n in logins),
        "buyers": len(buyers),
        "logins_mean": round(mean, 2),
        "logins_min": min(logins),
        "logins_max": max(logins),
        "spent_total": sum(spent),
        "spent_median": share_at(spent, 0.5),
        "spent_p90": share_at(spent, 0.9),
    }


def country_of(user: Any) -> str:
    """Return the name of the country in which a user lives."""
    name: str = user.address.city.country.name
    return name


def plain_country_statistics(
    countries: Sequence[Any], users: Users
) -> list[tuple[Any, ...]]:
    """Return each country's name, cities, users and cents, as sums and in relation."""
    people = Counter(country_of(user) for user in users)
    cents: Counter[str] = Counter()
    for user in users:
        cents[country_of(user)] += user.spent_cents or 0
    rows = []
    for country in countries:
        name = country.name
        cities = len(country.cities)
        density = round(1_000_000 * people[name] / country.population, 2)
        each = round(cents[name] / people[name], 2) if people[name] else None
        counts = (name, cities, people[name], cents[name])
        rows.append((*counts, density, each, country.gdp_per_capita))
    return rows


def plain_ranks(users: Users) -> list[int]:
    """Return each user's rank by logins: one more than the users who have more."""
    logins = [user.logins for user in users]
    ranks = []
    # Slow and short, as the definition is: every user is compared with all others.
    for own in logins:
        better = sum(n > own for n in logins)
        ranks.append(1 + better)
    return ranks


def plain_top(users: Users, count: int) -> list[Any]:
    """Return those who spent most, the most first; by id where they spent the same."""

    def place(user: Any) -> tuple[int, int]:
        spent = user.spent_cents or 0
        return (-spent, user.id)

    return sorted(users, key=place)[:count]


def plain_cohorts(users: Users) -> dict[date, Cohort]:
    """Return what became of users, by the month in which they registered, in UTC."""
    cohorts: dict[date, Cohort] = {}
    for user in users:
        day = user.registered_at.astimezone(UTC).date()
        cohort = cohorts.setdefault(day.replace(day=1), Cohort())
        cohort.users += 1
        if user.spent_cents is not None:
            cohort.buyers += 1
            cohort.spent_cents += user.spent_cents
        last = user.last_seen_at
        last_day = None if last is None else last.astimezone(UTC).date()
        cohort.seen[months_between(day, last_day)] += 1
    return cohorts


def plain_shares(users: Users) -> list[tuple[str, int, float]]:
    """Return (country, users, percent of all users), the largest first."""
    shares = []
    people = Counter(country_of(user) for user in users)
    for name, count in people.items():
        percent = 100 * count / len(users)
        shares.append((name, count, round(percent, 2)))
    shares.sort()  # by name where as many live
    return sorted(shares, key=lambda row: row[1], reverse=True)


def seen_after(*months: int, cohorts: Mapping[date, Cohort]) -> list[list[str | int]]:
    """Return a row for each cohort: its figures, and its users seen so much later."""
    rows = []
    for start, cohort in cohorts.items():
        row: list[str | int] = [f"{start:%Y-%m}"]
        row += [cohort.users, cohort.buyers, cohort.spent_cents]
        for least in months:
            lags = [lag for lag in cohort.seen if lag is not None and lag >= least]
            row.append(sum(cohort.seen[lag] for lag in lags))
        rows.append(row)
    return rows
