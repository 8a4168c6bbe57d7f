"""Which of lesson 04's consumers reads which queue, and what keeps its books."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from course.integrated.books import Books, Events, Purchases, Users
from course.integrated.broker import open_broker
from course.integrated.cache import open_cache
from course.integrated.documents import open_documents
from course.integrated.lessons import Lessons
from course.integrated.sql import open_database
from course.integrated.stores import Stores, borrow
from course.integrated.task import BATCH, Task


@dataclass(frozen=True)
class Desk:
    """Who does the work of a queue."""

    exchange: str  # from which lesson 04 fills the queue
    consumer: str
    books: type[Books]


DESKS = {
    "user_data": Desk("data_processing", "UserDataConsumer", Users),
    "analytics": Desk("analytics", "AnalyticsConsumer", Purchases),
    "archive": Desk("analytics", "AnalyticsConsumer", Events),
    "notifications": Desk("notifications", "NotificationConsumer", Books),
}
LAST_DESK = "notifications"  # when this one has its consumer, so have the others


def open_desks(lessons: Lessons, task: Task, stack: ExitStack) -> None:
    """Start a consumer for each queue; they stop when the stack closes."""
    database = open_database(lessons.sql, task)
    stack.callback(database.engine.dispose)
    stores = open_stores(lessons, task, stack)
    broker = open_broker(lessons.messaging, task)
    producer = stack.enter_context(broker.producer())
    for queue, desk in DESKS.items():
        consumer = broker.consuming(
            queue,
            desk.consumer,
            producer=producer,
            ledger=desk.books(database, stores, queue, task.dies_after),
            prefetch=2 * BATCH,
            concurrency=BATCH,
        )
        stack.enter_context(consumer)


def open_stores(lessons: Lessons, task: Task, stack: ExitStack) -> Any:
    """Return what lies beside SQL: servers, or stand-ins that another process lends."""
    if task.lent:
        return borrow(task.lent)
    documents = open_documents(lessons.documents, task, stack)
    scores = open_cache(lessons.caching, task)
    return Stores(documents, scores)
