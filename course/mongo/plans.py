"""What a server reads of its indexes and documents for a query."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from course.mongo.codec import Database, Document


def explained(db: Database, pipeline: list[Document]) -> Any:
    """Return how a server runs a pipeline over the events."""
    asked = {"aggregate": "events", "pipeline": pipeline, "cursor": {}}
    return db.command("explain", asked, verbosity="executionStats")


class Examined(NamedTuple):
    """What a server read to answer a query."""

    index_name: str  # or COLLSCAN: it read the whole collection
    keys: int
    documents: int


def examined(plan: Any) -> Examined:
    """Return what a plan, from explain(), has read."""
    if "stages" in plan:  # of a pipeline
        plan = plan["stages"][0]["$cursor"]
    stats = plan["executionStats"]
    # The index stands at a depth that differs from server to server.
    winner = str(plan["queryPlanner"]["winningPlan"])
    index = re.search("'indexName': '(.*?)'", winner)
    return Examined(
        index_name=index[1] if index else "COLLSCAN",
        keys=stats["totalKeysExamined"],
        documents=stats["totalDocsExamined"],
    )
