"""Indexes as they are defined, and what a server reads of them for a query."""

from __future__ import annotations

import re
from typing import Any

from course.mongo.codec import Database, Document

INDEX_RULES = ("unique", "expireAfterSeconds", "partialFilterExpression")


def index_definition(index: Any) -> list[object]:
    """Return what an index is: its fields in their order, and its rules."""
    fields = list(dict(index["key"]).items())
    return [fields, *(index.get(rule) for rule in INDEX_RULES)]


def explained(db: Database, pipeline: list[Document]) -> Any:
    """Return how a server runs a pipeline over the events."""
    asked = {"aggregate": "events", "pipeline": pipeline, "cursor": {}}
    return db.command("explain", asked, verbosity="executionStats")


def examined(plan: Any) -> tuple[str, int, int]:
    """Return a plan's index, or COLLSCAN, and the keys and documents that it reads."""
    if "stages" in plan:  # of a pipeline
        plan = plan["stages"][0]["$cursor"]
    stats = plan["executionStats"]
    index = re.search("'indexName': '(.*?)'", str(plan["queryPlanner"]["winningPlan"]))
    name = index[1] if index else "COLLSCAN"
    return name, stats["totalKeysExamined"], stats["totalDocsExamined"]
