"""Orders by country, computed by the server: write report_by_country()."""

from __future__ import annotations

from datetime import datetime

from course.mongo.codec import Database, Document


def report_by_country(db: Database, start: datetime, end: datetime) -> list[Document]:
    """Return what was paid by country, for start <= placed_at < end.

    Each row has country, orders, customers, revenue (whole cents) and mean, and
    nothing else. The greatest revenue comes first; equal ones are in the order of
    country, None before all texts. One aggregate is sent, and no other command.
    """
    raise NotImplementedError
