"""The same answers in plain Python: what pipelines and distances are held against."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from typing import Any

from course.mongo.codec import Document
from course.mongo.seed import KYIV

KeyOf = Callable[[Document], Any]
EARTH_KM = 6_378.1  # the radius of the sphere that MongoDB measures on


def grouped(rows: Iterable[Document], key: KeyOf) -> dict[Any, Any]:
    """Return lists of rows by key, in the order of the keys."""
    groups: dict[Any, list[Document]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return dict(sorted(groups.items()))


def kind_of_event(event: Document) -> str:
    """Return the type of an event."""
    return str(event["event_type"])


def user_of(event: Document) -> Any:
    """Return the _id of the user of an event."""
    return event["user_id"]


def category_of(event: Document) -> str:
    """Return the category of what an event is about."""
    return str(event["metadata"]["category"])


def day_of(event: Document) -> str:
    """Return the day of an event, in UTC."""
    return f"{event['timestamp']:%Y-%m-%d}"


def month_of(user: Document) -> str:
    """Return the month in which a user signed up, in UTC."""
    return f"{user['created_at']:%Y-%m}"


def price_of(event: Document) -> Any:
    """Return the price of an event, 0 where there is none."""
    return event.get("metadata", {}).get("price", 0)


def revenue_of(events: Iterable[Document]) -> Any:
    """Return what was paid: a view and a cart have a price, and are no revenue."""
    orders = [event for event in events if kind_of_event(event) == "purchase"]
    return sum(map(price_of, orders))


def fewer_events(row: Document) -> int:
    """Return what sorts rows so that the one with most events comes first."""
    return -int(row["events"])


def distribution_of(events: list[Document]) -> list[Document]:
    """Return events and distinct users by type, the most frequent type first."""
    rows = []
    for kind, those in grouped(events, kind_of_event).items():
        users = set(map(user_of, those))
        row = {"_id": kind, "events": len(those), "users": len(users)}
        rows.append(row)
    return sorted(rows, key=fewer_events)


def activity_of(events: list[Document]) -> list[Document]:
    """Return events, active days and the last moment by user, the busiest first."""
    rows = []
    for user, those in grouped(events, user_of).items():
        row = {
            "_id": user,
            "events": len(those),
            "days": len(set(map(day_of, those))),
            "last": max(event["timestamp"] for event in those),
        }
        rows.append(row)
    return sorted(rows, key=fewer_events)


def purchases_of(events: list[Document]) -> Document:
    """Return orders and revenue by category, and orders by price."""
    orders = [event for event in events if kind_of_event(event) == "purchase"]
    by_category = []
    for category, those in grouped(orders, category_of).items():
        revenue = revenue_of(those)
        row = {
            "_id": category,
            "orders": len(those),
            "revenue": revenue,
            "mean": revenue / len(those),
        }
        by_category.append(row)
    bands = Counter(map(band_of, orders))
    by_price = []
    for band in sorted(bands):
        by_price.append({"_id": band, "orders": bands[band]})
    return {"by_category": by_category, "by_price": by_price}


def band_of(order: Document) -> int:
    """Return where the band of an order's price begins: 0, 50, or 100 and above."""
    price = price_of(order)
    if price >= 100:
        return 100
    return 50 if price >= 50 else 0


def days_of(events: list[Document]) -> list[Document]:
    """Return events and revenue by day, in UTC."""
    rows = []
    for day, those in grouped(events, day_of).items():
        row = {"_id": day, "events": len(those), "revenue": revenue_of(those)}
        rows.append(row)
    return rows


def cohorts_of(users: list[Document], events: list[Document]) -> list[Document]:
    """Return users, active users and revenue by month of sign-up, in UTC."""
    spent = {}
    for user, those in grouped(events, user_of).items():
        spent[user] = revenue_of(those)
    rows = []
    for month, those in grouped(users, month_of).items():
        ids = [user["_id"] for user in those]
        row = {
            "cohort": month,
            "users": len(ids),
            "active": sum(user in spent for user in ids),
            "revenue": sum(spent.get(user, 0) for user in ids),
        }
        rows.append(row)
    return rows


def haversine(
    event: Document,
    radius_km: float = EARTH_KM,
    start: tuple[float, float] = KYIV,
) -> float:
    """Return the metres to an event (R. W. Sinnott, Sky and Telescope 68, 1984)."""
    east, north = map(math.radians, event["geo"]["coordinates"])
    east_0, north_0 = map(math.radians, start)
    along = math.sin((north - north_0) / 2) ** 2
    across = math.sin((east - east_0) / 2) ** 2
    shrunk_by = math.cos(north) * math.cos(north_0)  # a degree east is shorter there
    half = math.asin(math.sqrt(along + shrunk_by * across))
    return 2_000 * radius_km * half


def events_around(events: list[Document], border: datetime) -> int:
    """Return how many events are within a day before or from a moment on."""
    day = timedelta(days=1)
    around = 0
    for event in events:
        if border - day <= event["timestamp"] < border + day:
            around += 1
    return around


def moved_to_another_month(users: list[Document], zone: timezone) -> int:
    """Return how many users signed up in another month by the clocks of a zone."""
    moved = 0
    for user in users:
        in_utc = user["created_at"]
        if in_utc.astimezone(zone).month != in_utc.month:
            moved += 1
    return moved


def is_near_naive(event: Document, max_km: float) -> bool:
    """Tell whether an event is near, as if a degree were 111 km in each direction."""
    # True of a degree of latitude; in Kyiv, one of longitude is 71 km.
    degrees = math.dist(event["geo"]["coordinates"], KYIV)
    return degrees * 111 <= max_km


def metres_off(found: list[Document], radius_km: float) -> float:
    """Return how far the server's distances are from haversine's, at most."""
    off = 0.0
    for row in found:
        difference = row["metres"] - haversine(row, radius_km)
        off = max(off, abs(difference))
    return off
