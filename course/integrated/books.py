"""The consumers' books: whatever a message changes, in any store, happens once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from course.integrated.spans import AGAIN, span_since
from course.integrated.sql import Database, Person, Row
from course.integrated.task import date_of, midnight

Messages = list[Any]  # of lesson 04, each of the kind that its queue carries


@dataclass(frozen=True)
class Entry:
    """A message that waits to be written, and the thread that wants to hear of it."""

    message: Any
    told: Future[bool]


class Books:
    """What one of lesson 04's consumers takes for its ledger.

    Those that wait while others are written share the next commit; the price is that
    one which cannot be written costs all of them a second try. Of itself it keeps the
    inbox; what else a queue's messages change, the classes below say.
    """

    store = ""  # other than SQL, which follow() writes to

    def __init__(
        self, database: Database, stores: Any, queue: str, dies_after: int = 0
    ) -> None:
        self.database = database
        self.stores = stores
        self.queue = queue
        self.dies_after = dies_after
        self.waiting: SimpleQueue[Entry] = SimpleQueue()
        writer = threading.Thread(target=self.write, daemon=True)
        writer.start()

    def is_done(self, queue: str, message: Any) -> bool:
        """Leave it to once(): done in SQL, it may be missing in the other store."""
        return False

    def once(self, queue: str, message: Any, what: str) -> bool:
        """Wait until a message is applied with its batch; tell whether it was new."""
        told: Future[bool] = Future()
        self.waiting.put(Entry(message, told))
        return told.result()

    def write(self) -> None:
        """Apply what waits, together; while that takes its time, more come to wait."""
        while True:
            batch = [self.waiting.get()]
            while not self.waiting.empty():
                batch.append(self.waiting.get())
            self.settle(batch)

    def settle(self, batch: Sequence[Entry]) -> None:
        """Apply a batch, or each alone if that fails: the one at fault fails alone."""
        try:
            new_ids = self.apply([entry.message for entry in batch])
        except Exception as error:
            if len(batch) == 1:
                batch[0].told.set_exception(error)
                return
            for entry in batch:
                self.settle([entry])
        else:
            for entry in batch:
                entry.told.set_result(entry.message.id in new_ids)

    # region once
    def apply(self, batch: Messages) -> set[str]:
        """Apply messages; return the new ids. A crash at any point is mended.

        SQL takes effects and marks together. What lies in another store follows and
        may be repeated; `done` says that it is there. Acknowledgements come last.
        """
        # Trap: mark, then write elsewhere. After a crash in between, the message
        # that comes again is taken for done, and the other store never hears of it.
        started = time.time()
        by_id = {message.id: message for message in batch}
        ids = sorted(by_id)  # or two workers wait for each other's marks
        with self.database.sessions.begin() as session:
            new_ids = self.database.mark(session, self.queue, ids)
            fresh = self.not_applied(batch, new_ids)
            self.record(session, fresh)
        spans = [span_since(f"{self.queue} to SQL", started, len(fresh))]
        repeats = len(batch) - len(fresh)
        spans.append(span_since(AGAIN, started, repeats))
        self.committed(len(fresh))
        if self.store:
            started = time.time()
            self.follow(list(by_id.values()))
            hop = f"{self.queue} to {self.store}"
            spans.append(span_since(hop, started, len(by_id)))
        with self.database.sessions.begin() as session:
            self.database.mark_done(session, self.queue, ids)
            self.database.add_spans(session, spans)
        return new_ids

    # endregion once

    def not_applied(self, batch: Messages, new_ids: set[str]) -> Messages:
        """Return each message once that no transaction has applied before."""
        by_id = {message.id: message for message in batch}
        return [by_id[one] for one in sorted(new_ids)]

    def record(self, session: Any, messages: Messages) -> None:
        """Put the effects of new messages into the transaction."""

    def committed(self, new: int) -> None:
        """Do nothing after a commit; what --chaos kills, dies here."""

    def follow(self, messages: Messages) -> None:
        """Bring messages into the other store, of which some may be there."""


class Users(Books):
    """Sign-ups: a user of lesson 01's model, and a profile of lesson 02's."""

    store = "MongoDB"

    def record(self, session: Any, messages: Messages) -> None:
        """Add users."""
        people = [person_of(message) for message in messages]
        self.database.add_people(session, people)

    def follow(self, messages: Messages) -> None:
        """Insert profiles."""
        profiles = [profile_of(message) for message in messages]
        self.stores.insert("users", profiles)


class Purchases(Books):
    """Orders: a row of SQL each, and a prediction in Redis that is out of date."""

    store = "Redis"
    orders = 0  # that this process has applied

    def record(self, session: Any, messages: Messages) -> None:
        """Add orders."""
        rows = [purchase_of(message) for message in messages]
        self.database.add_purchases(session, rows)

    def committed(self, new: int) -> None:
        """With --chaos, die after so many orders, before any acknowledgement.

        Of all workers that come so far, the first one does: the broker may give nearly
        all orders to any of them.
        """
        self.orders += new
        if self.dies_after and self.orders >= self.dies_after:
            if self.database.claim_once("death"):
                os.kill(os.getpid(), signal.SIGKILL)
            self.dies_after = 0

    def follow(self, messages: Messages) -> None:
        """Forget what was predicted without these orders."""
        self.stores.forget([message.user_id for message in messages])


class PurchasesWithoutInbox(Purchases):
    """The naive variant: it takes every delivery for a new order."""

    def not_applied(self, batch: Messages, new_ids: set[str]) -> Messages:
        """Return all messages, without a look at the marks."""
        return batch


class Events(Books):
    """Orders, once more: as events of lesson 02, whose _id is the message's id."""

    store = "MongoDB"

    def follow(self, messages: Messages) -> None:
        """Insert events."""
        events = [event_of(message) for message in messages]
        self.stores.insert("events", events)


def person_of(message: Any) -> Person:
    """Return who signs up."""
    return Person(
        username=message.username,
        email=message.email,
        since=midnight(message.registration_date),
    )


def purchase_of(message: Any) -> Row:
    """Return SQL's row of an order."""
    return {
        "id": message.id,
        "customer": message.user_id,
        "day": message.properties["day"],
        "cents": message.properties["cents"],
    }


def profile_of(message: Any) -> Row:
    """Return the profile of a sign-up."""
    return {
        "_id": int(message.username),
        "schema_version": 2,
        "username": message.username,
        "email": message.email,
        "created_at": midnight(message.registration_date),
        "profile": {"interests": ["music"]},
    }


def event_of(message: Any) -> Row:
    """Return the event of an order."""
    return {
        "_id": message.id,
        "schema_version": 1,
        "user_id": int(message.user_id),
        "event_type": "purchase",
        "timestamp": midnight(date_of(message.properties["day"])),
        "metadata": {"price": message.properties["cents"] / 100},
    }
