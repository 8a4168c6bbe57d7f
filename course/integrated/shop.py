"""The shop: customers who sign up and buy, and four stores that have to agree."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from course.console import note
from course.integrated.analytics import Analytics, first_orders
from course.integrated.broker import Letter, broker_of, publish, rabbit_url
from course.integrated.cache import Score, cache_of, cache_prefix, redis_url
from course.integrated.desks import DESKS, LAST_DESK
from course.integrated.documents import Documents
from course.integrated.lessons import BackEnds, Lessons
from course.integrated.spans import Span
from course.integrated.sql import Database
from course.integrated.staff import Staff
from course.integrated.stores import Stores, lend
from course.integrated.task import Task
from course.integrated.trouble import Calm, Chaos, Trouble
from course.integrated.waiting import reach

ROBOTS = 3  # sign-ups without an address
FIRST_ROBOT = 1_000_000  # no customer has a number that high
DEAD = [f"{queue}.dead" for queue in DESKS]


class Shop:
    """The four services, the producer and the workers, and what should be in them."""

    def __init__(
        self,
        lessons: Lessons,
        back_ends: BackEnds,
        log: Any,
        stack: ExitStack,
        chaos: bool = False,
    ) -> None:
        self.lessons = lessons
        self.back_ends = back_ends
        self.stack = stack
        self.chaos = chaos
        self.analytics = Analytics(lessons.analytics)
        self.log = log
        self.users = [str(user) for user in log.ids]
        self.end = int(log.day.max())
        self.cut, self.days = self.analytics.halves(log)
        # What the models say of the file itself, which no store has touched.
        self.truth = self.analytics.forecast(log, self.cut, self.days)
        self.published: Counter[str] = Counter()  # copies, by queue
        self.spans: list[Span] = []  # of this process; the workers' are in SQL
        self.scores: dict[str, Score] = {}  # as last read
        self.open_stores()
        self.open_broker()

    def open_stores(self) -> None:
        """Prepare the tables, the collections and the cache."""
        self.database = Database(self.lessons.sql, self.back_ends.sql.engine)
        self.database.create_tables()
        self.documents = Documents(self.lessons.documents, self.back_ends.documents.db)
        self.documents.create_collections()
        self.cache = cache_of(self.lessons.caching, self.back_ends.caching)
        # What we lend to workers has a debt of its own, if it ever has one.
        lent_cache = cache_of(self.lessons.caching, self.back_ends.caching)
        self.stores = Stores(self.documents, lent_cache)

    def open_broker(self) -> None:
        """Declare the queues, and connect as the workers will."""
        self.broker = broker_of(self.lessons.messaging, self.back_ends.messaging)
        self.stack.callback(self.broker.remove)
        self.broker.declare()
        self.trouble = Calm()
        if self.chaos:
            self.trouble = Chaos(self.broker, self.back_ends.caching, self.stack)
        task = self.task()
        self.staff = Staff(task)
        self.stack.callback(self.staff.dismiss)
        reached = self.broker.through(task.rabbit_place)
        self.producer = self.stack.enter_context(reached.producer())

    def task(self) -> Task:
        """Return what a worker has to know."""
        sql = self.database.address()
        documents = self.back_ends.documents
        caching = self.back_ends.caching
        messaging = self.back_ends.messaging
        redis_place = self.trouble.way_to_redis()
        if redis_place:  # what we lend has to go that way, too
            self.stores.scores.move(redis_place)
        lent = None
        if not (documents.live and caching.live):
            lent = lend(self.stores, self.stack)
        return Task(
            sql_url=sql.url,
            sql_schema=sql.schema,
            mongo_url=documents.url,
            mongo_database=documents.db.name,
            redis_url=redis_url(),
            redis_place=redis_place,
            redis_prefix=cache_prefix(caching),
            rabbit_url=rabbit_url(messaging),
            rabbit_place=self.trouble.way_to_broker(self.broker.place()),
            rabbit_prefix=self.broker.prefix,
            lent=lent,
        )

    def open(self, workers: int) -> None:
        """Start the workers, and wait until all consume."""
        early_orders = int((self.log.day <= self.cut).sum())
        self.staff.hire(self.trouble.first_death(early_orders, workers))
        for _ in range(1, workers):
            self.staff.hire()
        reach("workers", lambda: self.broker.consumers(LAST_DESK), workers)

    def order(self, row: int) -> Letter:
        """Return the order in a row of the file."""
        user = self.users[self.log.customer[row]]
        cents = round(100 * self.log.amount[row])
        return self.broker.order(row, user, int(self.log.day[row]), cents)

    def sign_up(self, row: int) -> Letter:
        """Return the sign-up of the customer whose first order is in a row."""
        user = self.users[self.log.customer[row]]
        return self.broker.sign_up(user, address_of(user), int(self.log.day[row]))

    def robots(self) -> list[Letter]:
        """Return sign-ups that have to become dead letters: they have no address."""
        numbers = range(FIRST_ROBOT, FIRST_ROBOT + ROBOTS)
        return [self.broker.sign_up(str(n), "nonsense", self.cut) for n in numbers]

    def letters(self, rows: Any) -> list[Letter]:
        """Return these orders, and who bought first, in the order of their dates."""
        first = first_orders(self.log)
        by_date = np.argsort(self.log.day[rows], kind="stable")
        letters = []
        for row in rows[by_date].tolist():
            if row in first:
                letters.append(self.sign_up(row))
            letters.append(self.order(row))
        return letters

    def deliver(
        self, what: str, letters: Sequence[Letter], trouble: Trouble | None = None
    ) -> None:
        """Publish, half of it in trouble, and wait until all is applied or dead."""
        started = time.monotonic()
        half = len(letters) // 2
        self.publish(letters[:half])
        with (trouble or Calm().without_connections)():
            self.publish(letters[half:])
        reach(what, self.settled, self.published.total())
        seconds = time.monotonic() - started
        speed = len(letters) / seconds
        note(f"{what}: {seconds:.2f} s, {speed:.0f} messages/s")

    def publish(self, letters: Sequence[Letter]) -> None:
        """Publish, wait until all are confirmed, and note who should get copies."""
        exchanges = Counter(letter.exchange for letter in letters)
        publish(self.broker, self.producer, letters, self.spans)
        for queue, desk in DESKS.items():
            self.published[queue] += exchanges[desk.exchange]

    def settled(self) -> int:
        """Return how many copies are applied or dead, and see to the workers."""
        self.staff.replace_dead()
        stand_in = self.back_ends.messaging.broker
        if stand_in:
            stand_in.step()  # its clock, which brings retries back
        applied = sum(self.database.applied().values())
        return applied + self.broker.waiting_in(DEAD)

    def stored(self) -> Any:
        """Return the purchases as SQL has them, in the order of the file."""
        users = sorted(row.username for row in self.database.people())
        code_of = {user: code for code, user in enumerate(users)}
        ask = "SELECT customer, day, cents FROM purchases ORDER BY id"
        rows = self.database.rows(ask)
        customer = np.array([code_of[row.customer] for row in rows])
        day = np.array([row.day for row in rows])
        cents = np.array([row.cents for row in rows])
        return self.analytics.log_of(customer, day, cents / 100, users)


def address_of(user: str) -> str:
    """Return the mail address of a customer: CDNOW has none."""
    return f"{user}@example.org"
