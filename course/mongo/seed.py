"""The users and events that lesson 02 works on: the same in every run."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

from course.mongo.codec import Document

START = datetime(2025, 6, 1, tzinfo=UTC)
END = START + timedelta(days=28)
KYIV = (30.5234, 50.4501)  # longitude first, as in GeoJSON
INTERESTS = ["sql", "python", "maths"]
KINDS = ["view", "search", "cart", "purchase"]
KIND_WEIGHTS = (60, 20, 12, 8)
BARE_EVENT: Document = {  # what every event has
    "schema_version": 1,
    "user_id": 7,
    "event_type": "view",
    "timestamp": START,
}


def make_user(number: int) -> Document:
    """Return a user; every tenth has signed up at 22:30 UTC, the last of a month."""
    month = START.replace(month=1 + number % 5)
    created_at = month + timedelta(days=number % 28)
    if number % 10 == 0:
        created_at = month.replace(month=month.month + 1) - timedelta(minutes=90)
    return {
        "_id": number,
        "schema_version": 2,
        "username": f"user{number}",
        "email": f"user{number}@example.org",
        "created_at": created_at,
        "profile": {"interests": [INTERESTS[number % 3]]},
        "subscriptions": [],
    }


def make_users(first: int, last: int) -> list[Document]:
    """Return the users with these numbers and those between."""
    return [make_user(number) for number in range(first, last + 1)]


def make_events(count: int, located: bool = True) -> list[Document]:
    """Return events of 100 users over four weeks, located in and around Kyiv."""
    chance = random.Random(8)
    made = []
    for number in range(1, count + 1):
        event = make_event(number, chance)
        if not located:  # the index on places makes an insert slow
            del event["geo"]
        made.append(event)
    return made


def make_event(number: int, chance: random.Random) -> Document:
    """Return an event; who did what, when and where is left to chance."""
    kind = chance.choices(KINDS, KIND_WEIGHTS)[0]
    user_id = chance.randint(1, 100)
    timestamp = START + (END - START) * chance.randrange(10_000) / 10_000
    place = [chance.gauss(KYIV[0], 0.2), chance.gauss(KYIV[1], 0.1)]
    product = {"sku": f"P-{number}", "title": "Databases", "hours": 12}
    metadata: Document = {"product": product}
    metadata["category"] = chance.choice(["book", "course"])
    # Of whatever was looked at, and not only of what was bought: an event of a shop has
    # the price of its product. Quarters are exact in binary; real money is Decimal128.
    metadata["price"] = chance.randint(4, 800) / 4
    metadata["tags"] = [1, 2]
    return {
        "_id": number,
        "schema_version": 1,
        "user_id": user_id,
        "event_type": kind,
        "timestamp": timestamp,
        "geo": {"type": "Point", "coordinates": place},
        "session_info": {"device": "phone", "os": "linux", "app_version": "8.1"},
        "metadata": metadata,
    }
