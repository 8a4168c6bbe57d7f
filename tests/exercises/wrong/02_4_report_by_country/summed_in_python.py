"""All orders are fetched and added up in Python."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import Any

from course.mongo.codec import Database, Document


def place_in_report(row: Document) -> tuple[Any, ...]:
    """Return what sorts the rows of the report."""
    country = row["country"]
    return -row["revenue"], country is not None, country or ""


def report_by_country(db: Database, start: datetime, end: datetime) -> list[Document]:
    """Return what was paid by country, for start <= placed_at < end.

    Each row has country, orders, customers, revenue (whole cents) and mean, and
    nothing else. The greatest revenue comes first; equal ones are in the order of
    country, None before all texts. One aggregate is sent, and no other command.
    """
    paid = {"status": "paid", "placed_at": {"$gte": start, "$lt": end}}
    totals: dict[str | None, list[int]] = defaultdict(list)
    customers: dict[str | None, set[int]] = defaultdict(set)
    for order in db["orders"].find(paid):
        country = order.get("country")
        lines = order.get("lines") or []
        totals[country].append(sum(line["amount"] for line in lines))
        if order.get("customer") is not None:
            customers[country].add(order["customer"])
    rows = []
    for country, amounts in totals.items():
        row = {
            "country": country,
            "orders": len(amounts),
            "customers": len(customers[country]),
            "revenue": sum(amounts),
            "mean": sum(amounts) / len(amounts),
        }
        rows.append(row)
    return sorted(rows, key=place_in_report)
