"""A customer with the number 0 is taken for a guest, as for what is empty in Python."""

from __future__ import annotations

from datetime import datetime

from course.mongo.codec import Database, Document

# A group's key of two fields is another one where a field is missing than where it
# is null.
NULL_IF_MISSING = {
    "country": {"$ifNull": ["$country", None]},
    "customer": {"$ifNull": ["$customer", None]},
}
NUMBER_OR_0 = {"$ifNull": ["$_id.customer", 0]}
IS_GUEST = {"$eq": [NUMBER_OR_0, 0]}


def report_by_country(db: Database, start: datetime, end: datetime) -> list[Document]:
    """Return what was paid by country, for start <= placed_at < end.

    Each row has country, orders, customers, revenue (whole cents) and mean, and
    nothing else. The greatest revenue comes first; equal ones are in the order of
    country, None before all texts. One aggregate is sent, and no other command.
    """
    of_order = {
        "_id": "$_id",
        "country": {"$first": "$country"},
        "customer": {"$first": "$customer"},
        "revenue": {"$sum": "$lines.amount"},
    }
    # Each customer of a country becomes one row, so a sum counts them.
    of_customer = {
        "_id": {"country": "$country", "customer": "$customer"},
        "orders": {"$sum": 1},
        "revenue": {"$sum": "$revenue"},
    }
    of_country = {
        "_id": "$_id.country",
        "orders": {"$sum": "$orders"},
        "customers": {"$sum": {"$cond": [IS_GUEST, 0, 1]}},
        "revenue": {"$sum": "$revenue"},
    }
    row = {
        "_id": 0,
        "country": "$_id",
        "orders": 1,
        "customers": 1,
        "revenue": 1,
        "mean": {"$divide": ["$revenue", "$orders"]},
    }
    pipeline: list[Document] = [
        {"$match": {"status": "paid", "placed_at": {"$gte": start, "$lt": end}}},
        {"$set": NULL_IF_MISSING},
        {"$unwind": {"path": "$lines", "preserveNullAndEmptyArrays": True}},
        {"$group": of_order},
        {"$group": of_customer},
        {"$group": of_country},
        {"$project": row},
        {"$sort": {"revenue": -1, "country": 1}},
    ]
    return list(db["orders"].aggregate(pipeline))
