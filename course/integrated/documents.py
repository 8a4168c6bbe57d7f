"""MongoDB: lesson 02's profiles and events, each written so that it may come twice."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from course.integrated.sql import Person
from course.integrated.task import Task


class Documents:
    """The collections of a run."""

    def __init__(self, lesson: Any, db: Any) -> None:
        self.lesson = lesson
        self.db = db

    def create_collections(self) -> None:
        """Create lesson 02's collections, with their validators and indexes."""
        self.lesson.MongoDBManager(self.db).create_collections_with_schema()

    def insert(self, collection: str, rows: list[dict[str, Any]]) -> None:
        """Insert documents, all in one command; an _id that is there counts as done."""
        loader = self.lesson.UserManager({"users": self.db[collection]})
        rejected = loader.bulk_insert_users(rows).rejected
        if rejected:
            reason = rejected[0][1]
            raise ValueError(f"MongoDB refuses some of {collection}: {reason}")

    def count(self, collection: str) -> int:
        """Return how many documents a collection holds."""
        return int(self.db[collection].count_documents({}))

    def events(self) -> list[dict[str, Any]]:
        """Return all events."""
        return list(self.db["events"].find())

    def people(self) -> list[Person]:
        """Return whom the profiles describe."""
        found = []
        for profile in self.db["users"].find():
            name = profile["username"]
            found.append(Person(name, profile["email"], profile["created_at"]))
        return found

    def revenue_in_cents(self) -> int:
        """Return what all purchases together brought, by lesson 02's aggregation."""
        report = self.lesson.EventTracker(self.db).get_purchase_analytics()
        revenue: float = sum(row["revenue"] for row in report["by_category"])
        return round(100 * revenue)


def open_documents(lesson: Any, task: Task, stack: ExitStack) -> Documents:
    """Return the database of a task; its client closes with the stack."""
    client = lesson.connect(task.mongo_url, lesson.CommandCounter())
    stack.enter_context(client)
    return Documents(lesson, client[task.mongo_database])
