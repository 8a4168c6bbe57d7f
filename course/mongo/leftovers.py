"""Databases of our own: dropped at the end of a run, found where a run was killed."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC
from functools import partial
from typing import Any

import pymongo
from pymongo.errors import (
    AutoReconnect,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from course.console import was_cut_off
from course.ending import in_time, remove
from course.mongo.codec import Database
from course.mongo.workplace import drop_collections
from course.naming import is_of_a_run, made_at
from course.sweeping import Leftover, refuse_clocks_apart

# Seconds in which a write that was cut off may bring a database back: since it was last
# seen, or the server at a write; and how long a drop may take in all, and one call.
QUIET = 3.0
LONGEST_DROP = 30.0
CALL_LIMIT = 5.0
WRITES = ("insert", "update", "remove", "bulkWrite")


def remove_database(client: Any, name: str, reach: Any, backend: str) -> None:
    """Close the client of a run, then drop its database through another one.

    Threads that still work for the run would bring it back, if they could.
    """

    def work() -> None:
        # A goodbye waits for the server, which may be frozen.
        with suppress(TimeoutError):
            in_time(client.close, CALL_LIMIT)
        with reach() as other:
            drop(other[name])

    remove(f"database {name}", backend, work, limit=LONGEST_DROP)


def remove_collections(client: Any, place: Any, reach: Any, backend: str) -> None:
    """Close the client of a run, then drop its collections in a database of others."""

    def work() -> None:
        with suppress(TimeoutError):
            in_time(client.close, CALL_LIMIT)
        with reach() as other:
            drop_in_time(other, place)
            if was_cut_off():  # an insert that was cut off may bring one back
                time.sleep(QUIET)
                drop_in_time(other, place)

    remove(f"collections {place.prefix}*", backend, work, limit=LONGEST_DROP)


def drop_in_time(client: Any, place: Any) -> None:
    """Drop the collections of a run; ask again where an answer does not come.

    A server that cannot be reached at all is not asked again.
    """
    end = time.monotonic() + LONGEST_DROP
    while True:
        try:
            with pymongo.timeout(CALL_LIMIT):
                return drop_collections(client, place)
        except PyMongoError as error:
            if not is_answer_lost(error) or time.monotonic() > end:
                raise


def is_answer_lost(error: PyMongoError) -> bool:
    """Tell whether a server that is there was cut off, or took longer than it may."""
    if isinstance(error, ServerSelectionTimeoutError):
        return False
    return error.timeout or isinstance(error, AutoReconnect)


def drop(db: Database) -> None:
    """Drop a database until it stays away, for a while where a run was cut off.

    Trap: an insert that we cut off goes on at the server, and brings it back.
    """
    started = time.monotonic()
    last_seen = started
    quiet = QUIET if was_cut_off() else 0.0
    while True:
        is_there = True
        is_busy = False
        try:
            with pymongo.timeout(CALL_LIMIT):
                db.client.drop_database(db.name)
                is_there = db.name in db.client.list_database_names()
                is_busy = quiet > 0 and writes_under_way(db)
        except PyMongoError as error:
            if not is_answer_lost(error):
                raise
        now = time.monotonic()
        if is_there or is_busy:
            last_seen = now
        elif now - last_seen >= quiet:
            return
        if now - started > LONGEST_DROP:
            raise TimeoutError(db.name)
        time.sleep(0.1)


def writes_under_way(db: Database) -> bool:
    """Tell whether the server is at a write, to this database as far as it says."""
    ours = {"currentOp": 1, "$ownOps": True}  # which needs no right of its own
    try:
        operations = db.client.admin.command(ours)["inprog"]
    except OperationFailure:
        return False  # it does not tell
    for operation in operations:
        place = operation.get("ns", "")  # SecantusDB leaves it empty
        if operation.get("op") in WRITES and (not place or place.startswith(db.name)):
            return True
    return False


def leftovers_on(client: Any) -> list[Leftover]:
    """Return the databases of runs, and the collections in the database of the URL."""
    found = []
    its_time = client.admin.command("hello")["localTime"]
    refuse_clocks_apart("MongoDB", its_time.replace(tzinfo=UTC))
    # What its user may not list was not made by a run of this user.
    with suppress(OperationFailure):
        for name in client.list_database_names():
            if is_of_a_run(name):
                found.append(Leftover("database", name, partial(drop, client[name])))
    named = client.get_default_database("admin")
    with suppress(OperationFailure):
        for name in named.list_collection_names():
            if made_at(name):
                drop_it = partial(named.drop_collection, name)
                found.append(Leftover("collection", name, drop_it))
    return found
