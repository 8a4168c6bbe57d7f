"""The same answers in plain Python: what pipelines and distances are held against."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from course.mongo.codec import Document
from course.mongo.seed import KYIV

EARTH_KM = 6_378.1  # the radius of the sphere that MongoDB measures on


def grouped(rows: Iterable[Document], key: Callable[[Document], Any]) -> dict[Any, Any]:
    """Return lists of rows by key, in the order of the keys."""
    groups: dict[Any, list[Document]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return dict(sorted(groups.items()))


def price_of(event: Document) -> Any:
    """Return the price of an event, 0 where there is none."""
    return event.get("metadata", {}).get("price", 0)


def distribution_of(events: list[Document]) -> list[Document]:
    """Return events and distinct users by type, the most frequent type first."""
    rows = []
    for kind, those in grouped(events, lambda event: event["event_type"]).items():
        users = {event["user_id"] for event in those}
        rows.append({"_id": kind, "events": len(those), "users": len(users)})
    return sorted(rows, key=lambda row: -row["events"])


def activity_of(events: list[Document]) -> list[Document]:
    """Return events, active days and the last moment by user, the busiest first."""
    rows = []
    for user, those in grouped(events, lambda event: event["user_id"]).items():
        moments = [event["timestamp"] for event in those]
        days = {moment.date() for moment in moments}
        row = {"_id": user, "events": len(those), "days": len(days)}
        rows.append(row | {"last": max(moments)})
    return sorted(rows, key=lambda row: -row["events"])


def purchases_of(events: list[Document]) -> Document:
    """Return orders and revenue by category, and orders by price."""
    orders = [event for event in events if event["event_type"] == "purchase"]
    by_category = []
    bands = Counter[int]()
    for category, those in grouped(orders, lambda e: e["metadata"]["category"]).items():
        prices = [price_of(order) for order in those]
        row = {"_id": category, "orders": len(prices), "revenue": sum(prices)}
        by_category.append(row | {"mean": sum(prices) / len(prices)})
        bands.update(min(int(price // 50), 2) * 50 for price in prices)
    by_price = [{"_id": band, "orders": bands[band]} for band in sorted(bands)]
    return {"by_category": by_category, "by_price": by_price}


def days_of(events: list[Document]) -> list[Document]:
    """Return events and revenue by day, in UTC."""
    rows = []
    for day, those in grouped(events, lambda e: f"{e['timestamp']:%Y-%m-%d}").items():
        revenue = sum(map(price_of, those))
        rows.append({"_id": day, "events": len(those), "revenue": revenue})
    return rows


def cohorts_of(users: list[Document], events: list[Document]) -> list[Document]:
    """Return users, active users and revenue by month of sign-up, in UTC."""
    spent = Counter[int]()
    for event in events:
        spent[event["user_id"]] += price_of(event)
    rows = []
    for month, those in grouped(users, lambda u: f"{u['created_at']:%Y-%m}").items():
        ids = [user["_id"] for user in those]
        active = sum(user in spent for user in ids)
        row = {"cohort": month, "users": len(ids), "active": active}
        rows.append(row | {"revenue": sum(spent[user] for user in ids)})
    return rows


def haversine(
    event: Document,
    radius_km: float = EARTH_KM,
    start: tuple[float, float] = KYIV,
) -> float:
    """Return the metres to an event (R. W. Sinnott, Sky and Telescope 68, 1984)."""
    lon, lat = map(math.radians, event["geo"]["coordinates"])
    lon0, lat0 = map(math.radians, start)
    across = math.cos(lat) * math.cos(lat0) * math.sin((lon - lon0) / 2) ** 2
    half = math.asin(math.sqrt(math.sin((lat - lat0) / 2) ** 2 + across))
    return 2_000 * radius_km * half
