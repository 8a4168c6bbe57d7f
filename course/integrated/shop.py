"""The shop: customers who sign up and buy, and four stores that have to agree."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from course.console import note
from course.ending import ENDING
from course.integrated.analytics import Analytics, Purchase, purchases_of
from course.integrated.broker import Publisher, broker_of, rabbit_url
from course.integrated.cache import Score, cache_of, cache_prefix, redis_url
from course.integrated.desks import DESKS, LAST_DESK
from course.integrated.documents import Documents
from course.integrated.lessons import BackEnds, Lessons
from course.integrated.letters import Letter, Writer
from course.integrated.spans import Span
from course.integrated.sql import Database
from course.integrated.staff import Staff
from course.integrated.stores import Stores, lend
from course.integrated.task import Task
from course.integrated.trouble import Calm, Chaos, Trouble
from course.integrated.waiting import reach
from course.mongo.workplace import place_of
from course.watching import absence_of

DEAD = [f"{queue}.dead" for queue in DESKS]
IN_FILE_ORDER = "SELECT customer, day, cents FROM purchases ORDER BY id"


class Shop:
    """The four services, the producer and the workers, and what should be in them."""

    def __init__(
        self, lessons: Lessons, back_ends: BackEnds, log: Any, stack: ExitStack
    ) -> None:
        self.lessons = lessons
        self.back_ends = back_ends
        self.stack = stack
        self.chaos = False
        self.trouble = Calm()  # until make_trouble()
        self.analytics = Analytics(lessons.analytics)
        self.read_file(log)
        self.writer = Writer(lessons.messaging)
        self.published = Counter(dict.fromkeys(DESKS, 0))  # copies, by queue
        self.spans: list[Span] = []  # of what this process asks SQL
        self.scores: dict[str, Score] = {}  # as last read
        self.broker = broker_of(lessons.messaging, back_ends.messaging)
        stack.callback(self.broker.remove, back_ends.messaging.backend)

    def declare(self) -> None:
        """Prepare the tables, collections, queues and the cache."""
        self.open_stores()
        self.broker.declare()

    def refuse_lost_services(self) -> None:
        """End the run if something failed since a service is gone: name that one."""
        for env in self.back_ends.all:
            ENDING.lose(absence_of(env))

    def read_file(self, log: Any) -> None:
        """Note what the file says, and what the models say of it.

        Nothing of this goes through a store: it is what the stores are compared with.
        """
        self.log = log
        self.purchases = purchases_of(log)
        self.users = [str(user) for user in log.ids]
        self.end = int(log.day.max())
        self.cut, self.days = self.analytics.halves(log)
        self.truth = self.analytics.forecast(log, self.cut, self.days)

    def open_stores(self) -> None:
        """Prepare the tables, the collections and the cache."""
        sql = self.back_ends.sql
        self.database = Database(self.lessons.sql, sql.engine)
        self.database.create_tables()
        documents = self.back_ends.documents
        self.documents = Documents(self.lessons.documents, documents.db)
        self.documents.create_collections()
        caching = self.back_ends.caching
        self.cache = cache_of(self.lessons.caching, caching)
        # What workers may borrow has a debt of its own, if it ever has one.
        to_lend = cache_of(self.lessons.caching, caching)
        self.stores = Stores(self.documents, to_lend)

    def make_trouble(self) -> None:
        """Have things break from here on: --chaos."""
        self.chaos = True
        redis = self.back_ends.caching
        self.trouble = Chaos(self.broker, redis, self.stack)

    def open(self, workers: int) -> None:
        """Start the workers, wait until all consume, and connect the producer."""
        early = len(self.purchases_until_cut())
        dies_after = self.trouble.first_death(early, workers)
        task = replace(self.task(), dies_after=dies_after)
        self.staff = Staff(task)
        self.stack.callback(self.staff.dismiss)
        for _ in range(workers):
            self.staff.hire()
        # As the workers do, which is with --chaos over a network that can fail.
        reached = self.broker.through(task.rabbit_place)
        producer = self.stack.enter_context(reached.producer())
        self.publisher = Publisher(self.broker, producer)
        reach("workers", self.consumers, workers)

    def consumers(self) -> int:
        """Return how many workers consume, and see to those that have died."""
        self.staff.replace_dead()
        return self.broker.consumers(LAST_DESK)

    def deaths(self) -> int:
        """Return how many workers have died, and replace them."""
        self.staff.replace_dead()
        return len(self.staff.exit_codes)

    def task(self) -> Task:
        """Return what a worker has to know."""
        documents = self.back_ends.documents
        caching = self.back_ends.caching
        messaging = self.back_ends.messaging
        redis_place = self.trouble.way_to_redis()
        if redis_place:  # what we lend has to go that way, too
            self.stores.scores.move(redis_place)
        lent = None
        if not documents.live or not caching.live:
            lent = lend(self.stores, self.stack)
        broker_place = self.broker.place()
        return Task(
            sql_url=self.database.url(),
            sql_schema=self.database.schema(),
            mongo_url=documents.url,
            mongo_database=place_of(documents.db),
            redis_url=redis_url(),
            redis_place=redis_place,
            redis_prefix=cache_prefix(caching),
            rabbit_url=rabbit_url(messaging),
            rabbit_place=self.trouble.way_to_broker(broker_place),
            rabbit_prefix=self.broker.prefix,
            lent=lent,
        )

    def purchases_until_cut(self) -> list[Purchase]:
        """Return the orders that the models learn from."""
        return [one for one in self.purchases if one.day <= self.cut]

    def purchases_after_cut(self) -> list[Purchase]:
        """Return the orders that come when scores are cached already."""
        return [one for one in self.purchases if one.day > self.cut]

    def deliver(
        self, what: str, letters: Sequence[Letter], trouble: Trouble | None = None
    ) -> None:
        """Publish, half of it in trouble, and wait until all is applied or dead."""
        started = time.monotonic()
        half = len(letters) // 2
        self.publish(letters[:half])
        if trouble is None:
            self.publish(letters[half:])
        else:
            with trouble(f"{what}, {half:,} of {len(letters):,}"):
                self.publish(letters[half:])
        # All that was ever published: nothing of an earlier part may still be missing.
        reach(what, self.settled, self.published.total())
        seconds = time.monotonic() - started
        speed = len(letters) / seconds
        note(f"{what}: {seconds:.2f} s, {speed:.0f} messages/s")

    def publish(self, letters: Sequence[Letter]) -> None:
        """Publish, wait until all are confirmed, and note who should get copies."""
        self.publisher.publish(letters)
        exchanges = Counter(letter.exchange for letter in letters)
        for queue, desk in DESKS.items():
            self.published[queue] += exchanges[desk.exchange]

    def settled(self) -> int:
        """Return how many copies are applied or dead, and see to the workers."""
        self.staff.replace_dead()
        stand_in = self.back_ends.messaging.broker
        if stand_in:
            stand_in.step()  # its clock, which brings retries back
        applied = self.database.applied()
        return sum(applied.values()) + self.broker.waiting_in(DEAD)

    def stored(self) -> Any:
        """Return the purchases as SQL has them, in the order of the file."""
        purchases: list[Purchase] = []
        for row in self.database.rows(IN_FILE_ORDER):
            purchase = Purchase(
                row=len(purchases),
                user=row.customer,
                day=row.day,
                cents=row.cents,
            )
            purchases.append(purchase)
        return self.analytics.log_of(purchases)
