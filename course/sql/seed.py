"""The rows of lesson 01: the same users every time, with ties, NULLs and an offset."""

from __future__ import annotations

import random
from collections.abc import Callable
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
SEED = {"olena": "Kyiv", "taras_s": "Kyiv", "iryna": "Lviv"}  # all users in Ukraine
USERS = 600
ABROAD = 80  # addresses outside of Ukraine
NEW_YEAR = datetime(2025, 1, 1, tzinfo=UTC)
LATE_EVENING = datetime(2025, 1, 31, 22, 30, tzinfo=timezone(-timedelta(hours=5)))

Make = Callable[..., Any]  # a mapped class


def homes(address: Make) -> list[Any]:
    """Return the five addresses of a city."""
    return [address(street=f"Main Street {number}") for number in range(1, 6)]


def made_user(user: Make, name: str, home: Any, rng: random.Random) -> Any:
    """Return a user whose year is drawn at random."""
    made = user(username=name, email=f"{name}@example.org", address=home)
    made.registered_at = NEW_YEAR + timedelta(days=rng.randrange(365))
    if name == "user100":
        made.registered_at = LATE_EVENING  # already February in UTC
    visit = made.registered_at + timedelta(hours=rng.randrange(24 * 200))
    made.last_seen_at = rng.choice([visit] * 9 + [None])
    made.spent_cents = rng.choice([rng.randrange(1, 90_000)] * 4 + [None])
    made.logins = rng.randrange(40)
    return made


def population(country: Make, city: Make, address: Make, user: Make) -> list[Any]:
    """Return 5 countries with 20 cities, 100 addresses, 600 users, by these classes."""
    rng = random.Random(8)
    countries = []
    cities: dict[str, Any] = {}
    for name, (people, gdp, towns) in COUNTRIES.items():
        made = country(name=name, population=people, gdp_per_capita=gdp)
        countries.append(made)
        for town in towns:
            cities[town] = city(name=town, country=made, addresses=homes(address))
    for name, town in SEED.items():
        made_user(user, name, cities[town].addresses[0], rng)
    abroad = [home for town in [*cities][4:] for home in cities[town].addresses]
    for number in range(len(SEED), USERS):
        made_user(user, f"user{number:03}", abroad[number % ABROAD], rng)
    return countries


def readings(count: int) -> list[dict[str, Any]]:
    """Return rows of measurements by a hundred sensors."""
    return [{"sensor": f"s{i % 100:02}", "value": i % 1000} for i in range(count)]
