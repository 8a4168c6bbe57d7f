"""The rows of lesson 01: the same users every time, with ties, NULLs and an offset."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

# World Bank, World Development Indicators, for 2023 as revised until August 2026:
# population is SP.POP.TOTL, GDP per capita NY.GDP.MKTP.CD (current US$) divided by it.
COUNTRIES = {
    "Ukraine": {"population": 37_732_836, "gdp_per_capita": 4_803},
    "Germany": {"population": 83_287_273, "gdp_per_capita": 54_777},
    "Poland": {"population": 36_687_353, "gdp_per_capita": 22_145},
    "Japan": {"population": 124_516_650, "gdp_per_capita": 35_215},
    "Canada": {"population": 40_049_088, "gdp_per_capita": 54_848},
}
CITIES = {
    "Ukraine": ("Kyiv", "Lviv", "Odesa", "Kharkiv"),
    "Germany": ("Berlin", "Hamburg", "Munich", "Cologne"),
    "Poland": ("Warsaw", "Krakow", "Gdansk", "Wroclaw"),
    "Japan": ("Tokyo", "Osaka", "Nagoya", "Sapporo"),
    "Canada": ("Toronto", "Montreal", "Calgary", "Halifax"),
}
SEED = {
    "olena": "Kyiv",
    "taras_s": "Kyiv",
    "iryna": "Lviv",
}  # the only users in Ukraine
USERS = 600
NEW_YEAR = datetime(2025, 1, 1, tzinfo=UTC)
NEW_YORK = timezone(-timedelta(hours=5))
LATE_EVENING = datetime(2025, 1, 31, 22, 30, tzinfo=NEW_YORK)

Make = Callable[..., Any]  # a mapped class


def make_cities(city: Make, address: Make, country: Any) -> None:
    """Add its cities, with five addresses each, to a country."""
    for name in CITIES[country.name]:
        homes = []
        for number in range(1, 6):
            homes.append(address(street=f"Main Street {number}"))
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
    for name, figures in COUNTRIES.items():
        made = country(name=name, **figures)
        make_cities(city, address, made)
        countries.append(made)
        for town in made.cities:
            homes[town.name] = town.addresses

    home_of = {}  # each user
    for name, city_name in SEED.items():
        home_of[name] = homes[city_name][0]
    abroad = []
    for country_name, city_names in CITIES.items():
        if country_name != "Ukraine":
            for city_name in city_names:
                abroad += homes[city_name]
    for number in range(len(SEED), USERS):
        home_of[f"user{number:03}"] = abroad[number % len(abroad)]

    rng = random.Random(8)
    for name, home in home_of.items():
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
