"""The rows of lesson 01: the same users every time, with ties, NULLs and an offset."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

# World Bank, World Development Indicators, for 2023 as revised until August 2026:
# population is SP.POP.TOTL, GDP per capita NY.GDP.MKTP.CD (current US$) divided by it.
COUNTRIES = {
    "Ukraine": (37_732_836, 4_803, ("Kyiv", "Lviv", "Odesa", "Kharkiv")),
    "Germany": (83_287_273, 54_777, ("Berlin", "Hamburg", "Munich", "Cologne")),
    "Poland": (36_687_353, 22_145, ("Warsaw", "Krakow", "Gdansk", "Wroclaw")),
    "Japan": (124_516_650, 35_215, ("Tokyo", "Osaka", "Nagoya", "Sapporo")),
    "Canada": (40_049_088, 54_848, ("Toronto", "Montreal", "Calgary", "Halifax")),
}
SEED = {
    "olena": "Kyiv",
    "taras_s": "Kyiv",
    "iryna": "Lviv",
}  # the only users in Ukraine
USERS = 600
NEW_YEAR = datetime(2025, 1, 1, tzinfo=UTC)
LATE_EVENING = datetime(2025, 1, 31, 22, 30, tzinfo=timezone(-timedelta(hours=5)))

Make = Callable[..., Any]  # a mapped class


def make_cities(city: Make, address: Make, country: Any, names: Sequence[str]) -> None:
    """Add cities with five addresses each to a country."""
    for name in names:
        streets = [f"Main Street {number}" for number in range(1, 6)]
        homes = [address(street=street) for street in streets]
        city(name=name, country=country, addresses=homes)


def live_through_a_year(user: Any, rng: random.Random) -> None:
    """Draw at random when a user came and was last seen, and what was spent."""
    day = timedelta(days=rng.randrange(365))
    user.registered_at = NEW_YEAR + day
    if user.username == "user100":
        user.registered_at = LATE_EVENING  # already February in UTC
    hours = timedelta(hours=rng.randrange(24 * 200))
    last_visit = user.registered_at + hours
    # One in ten was never seen again, one in five has bought nothing.
    user.last_seen_at = rng.choice([last_visit] * 9 + [None])
    spent = rng.randrange(1, 90_000)
    user.spent_cents = rng.choice([spent] * 4 + [None])
    user.logins = rng.randrange(40)


def population(country: Make, city: Make, address: Make, user: Make) -> list[Any]:
    """Return 5 countries with 20 cities, 100 addresses, 600 users, by these classes."""
    countries = []
    homes: dict[str, list[Any]] = {}  # of each city
    for name, (people, gdp, towns) in COUNTRIES.items():
        made = country(name=name, population=people, gdp_per_capita=gdp)
        make_cities(city, address, made, towns)
        countries.append(made)
        for town in made.cities:
            homes[town.name] = town.addresses

    lives = {name: homes[town][0] for name, town in SEED.items()}
    _, *others = countries
    abroad = []
    for elsewhere in others:
        for town in elsewhere.cities:
            abroad += homes[town.name]
    for number in range(len(SEED), USERS):
        lives[f"user{number:03}"] = abroad[number % len(abroad)]

    rng = random.Random(8)
    for name, home in lives.items():
        made = user(username=name, email=f"{name}@example.org", address=home)
        live_through_a_year(made, rng)
    return countries


def readings(count: int) -> list[dict[str, Any]]:
    """Return rows of measurements by a hundred sensors."""
    rows: list[dict[str, Any]] = []
    for number in range(count):
        sensor = f"s{number % 100:02}"
        rows.append({"sensor": sensor, "value": number % 1000})
    return rows
