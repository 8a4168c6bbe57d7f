"""The figures of lesson 01 in plain Python, to compare those of the database with."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

Users = Sequence[Any]  # each with its address, city and country


def share_at(ordered: Sequence[int], share: float) -> int:
    """Return the least of some values that a share of all of them reach."""
    return ordered[math.ceil(len(ordered) * share) - 1]


def plain_user_statistics(users: Users, active: int) -> dict[str, float]:
    """Return counts, mean logins and spending of users."""
    logins = [user.logins for user in users]
    spent = sorted(user.spent_cents for user in users if user.spent_cents is not None)
    return {
        "users": len(users),
        "active": sum(n >= active for n in logins),
        "buyers": len(spent),
        "logins_mean": round(sum(logins) / len(logins), 2),
        "logins_min": min(logins),
        "logins_max": max(logins),
        "spent_total": sum(spent),
        "spent_median": share_at(spent, 0.5),
        "spent_p90": share_at(spent, 0.9),
    }


def plain_country_statistics(
    countries: Sequence[Any], users: Users
) -> list[tuple[str, int, int, int]]:
    """Return (name, cities, users, cents spent) of each country, with its cities."""
    rows = []
    for country in countries:
        at_home = [user for user in users if user.address.city.country is country]
        cents = sum(user.spent_cents or 0 for user in at_home)
        rows.append((country.name, len(country.cities), len(at_home), cents))
    return rows


def plain_ranks(users: Users) -> list[int]:
    """Return the rank of each user by logins: one more than those who have more."""
    logins = [user.logins for user in users]
    return [1 + sum(n > user.logins for n in logins) for user in users]


def plain_top(users: Users, count: int) -> list[Any]:
    """Return those who spent most, the most first; by id where they spent as much."""
    ordered = sorted(users, key=lambda user: (-(user.spent_cents or 0), user.id))
    return ordered[:count]


def plain_cohorts(users: Users) -> dict[int, Counter[int | None]]:
    """Return users by month registered, then by months until last seen or None."""
    cohorts: dict[int, Counter[int | None]] = {}
    for user in users:
        start = user.registered_at
        month = start.year * 12 + start.month - 1
        lag = None
        if user.last_seen_at:
            end = user.last_seen_at
            lag = end.year * 12 + end.month - 1 - month
        cohorts.setdefault(month, Counter())[lag] += 1
    return cohorts


def plain_shares(users: Users) -> list[tuple[str, int, float]]:
    """Return (country, users, percent of all users), the largest first."""
    lived = Counter(user.address.city.country.name for user in users)
    shares = [(name, n, round(100 * n / len(users), 2)) for name, n in lived.items()]
    return sorted(shares, key=lambda share: (-share[1], share[0]))


def seen_after(months: int, cohort: Mapping[int | None, int]) -> int:
    """Return how many users of a cohort were seen so many months later, or more."""
    seen = 0
    for lag, users in cohort.items():
        if lag is not None and lag >= months:
            seen += users
    return seen
