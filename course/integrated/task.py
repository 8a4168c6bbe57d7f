"""What a worker process is told when it starts, and what all modules here share."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime

LIMIT = 60.0  # seconds that a run goes on without any progress
BASE = 0.5  # seconds to the first retry; each waits twice as long as the one before
BATCH = 32  # messages that share a commit, at most: the threads of a consumer


@dataclass(frozen=True)
class Place:
    """Where a server listens."""

    host: str
    port: int


@dataclass(frozen=True)
class Lent:
    """Where the process of the stand-ins lends them, and what it wants to hear."""

    port: int
    key: str = field(repr=False)


@dataclass(frozen=True)
class Task:
    """Where everything is, URLs with passwords and all.

    It goes through a pipe and is never an argument, which ps would show to everybody;
    printed, it shows no URL.
    """

    sql_url: str = field(repr=False)
    sql_schema: str  # of PostgreSQL; empty on SQLite, of which the URL is a path
    mongo_url: str = field(repr=False)
    mongo_database: str
    redis_url: str = field(repr=False)
    redis_place: Place | None  # None: where its URL says
    redis_prefix: str
    rabbit_url: str = field(repr=False)
    rabbit_place: Place
    rabbit_prefix: str
    lent: Lent | None  # None if MongoDB and Redis are both servers
    dies_after: int = 0  # orders, with --chaos: the first that gets there; 0 for never

    def to_json(self) -> str:
        """Return the task as one line."""
        return json.dumps(asdict(self))


def task_of(line: str) -> Task:
    """Return the task of a line that `Task.to_json` made."""
    fields = json.loads(line)
    fields["rabbit_place"] = Place(**fields["rabbit_place"])
    if fields["redis_place"]:
        fields["redis_place"] = Place(**fields["redis_place"])
    if fields["lent"]:
        fields["lent"] = Lent(**fields["lent"])
    return Task(**fields)


def date_of(day: int) -> str:
    """Return an ordinal day as 1997-09-30."""
    return date.fromordinal(day).isoformat()


def midnight(day: str) -> datetime:
    """Return the instant at which a day begins, given as 1997-09-30."""
    return datetime.fromisoformat(day).replace(tzinfo=UTC)
