"""MongoDB: lesson 02's profiles and events, each written so that it may come twice."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from course.integrated.sql import Person, Row
from course.integrated.task import Task
from course.mongo.connection import connect
from course.mongo.counting import CommandCounter
from course.mongo.workplace import database_at


class Documents:
    """The collections of a run."""

    def __init__(self, lesson: Any, db: Any) -> None:
        self.lesson = lesson
        self.db = db

    def create_collections(self) -> None:
        """Create lesson 02's collections, with their validators and indexes."""
        manager = self.lesson.MongoDBManager(self.db)
        manager.create_collections_with_schema()

    def insert(self, collection: str, rows: Sequence[Row]) -> None:
        """Insert documents, all in one command; an _id that is there counts as done."""
        # Lesson 02's loader for users does the same for any documents with an _id.
        target = {"users": self.db[collection]}
        loader = self.lesson.UserManager(target)
        report = loader.bulk_insert_users(rows)
        if report.rejected:
            _, reason = report.rejected[0]
            raise ValueError(f"MongoDB refuses some of {collection}: {reason}")

    def count(self, collection: str) -> int:
        """Return how many documents a collection holds."""
        return int(self.db[collection].count_documents({}))

    def events(self) -> list[Row]:
        """Return all events."""
        return list(self.db["events"].find())

    def people(self) -> list[Person]:
        """Return whom the profiles describe."""
        people = []
        for profile in self.db["users"].find():
            person = Person(
                username=profile["username"],
                email=profile["email"],
                since=profile["created_at"],
            )
            people.append(person)
        return people

    def revenue_in_cents(self) -> int:
        """Return what all purchases together brought, by lesson 02's aggregation."""
        tracker = self.lesson.EventTracker(self.db)
        report = tracker.get_purchase_analytics()
        revenue = 0.0
        for category in report["by_category"]:
            revenue += category["revenue"]
        return round(100 * revenue)


def open_documents(lesson: Any, task: Task, stack: ExitStack) -> Documents:
    """Return the database of a task; its client closes with the stack."""
    client = connect(task.mongo_url, CommandCounter())
    stack.enter_context(client)
    return Documents(lesson, database_at(client, task.mongo_database))
