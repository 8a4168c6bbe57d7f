"""Customers are collected in a list for each country, which ends at 16 MB."""

from __future__ import annotations

from datetime import datetime

from course.mongo.codec import Database, Document


def report_by_country(db: Database, start: datetime, end: datetime) -> list[Document]:
    """Return what was paid by country, for start <= placed_at < end.

    Each row has country, orders, customers, revenue (whole cents) and mean, and
    nothing else. The greatest revenue comes first; equal ones are in the order of
    country, None before all texts. One aggregate is sent, and no other command.
    """
    totals = {
        "orders": {"$sum": 1},
        "who": {"$addToSet": "$customer"},
        "guest": {"$max": {"$cond": [{"$eq": ["$customer", None]}, 1, 0]}},
        "revenue": {"$sum": "$revenue"},
    }
    of_order = {
        "_id": "$_id",
        "country": {"$first": "$country"},
        "customer": {"$first": "$customer"},
        "revenue": {"$sum": "$lines.amount"},
    }
    row = {
        "_id": 0,
        "country": "$_id",
        "orders": 1,
        "customers": {"$subtract": [{"$size": "$who"}, "$guest"]},
        "revenue": 1,
        "mean": {"$divide": ["$revenue", "$orders"]},
    }
    null_if_missing = {
        "country": {"$ifNull": ["$country", None]},
        "customer": {"$ifNull": ["$customer", None]},
    }
    pipeline: list[Document] = [
        {"$match": {"status": "paid", "placed_at": {"$gte": start, "$lt": end}}},
        {"$set": null_if_missing},
        {"$unwind": {"path": "$lines", "preserveNullAndEmptyArrays": True}},
        {"$group": of_order},
        {"$group": {"_id": "$country"} | totals},
        {"$project": row},
        {"$sort": {"revenue": -1, "country": 1}},
    ]
    return list(db["orders"].aggregate(pipeline))
