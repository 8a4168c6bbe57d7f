"""Documents that hold: MongoDB, its traps, and what it takes to step over them.

You will see, in order: validators, two schema versions read as one, bulk writes that
lose nothing, pipelines, summaries, a sphere, an export that survives a crash, operator
injection, plans, races and transactions, reliability.

Run:     python 02_mongodb_advanced.py [--list] [--only NAME ...] [--offline]
Service: MongoDB 5.0 or later at $MONGODB_URI (mongodb:// or mongodb+srv://), else at
         127.0.0.1:27017, else SecantusDB's secantusd-py, if installed, for this run.
         All happens in a database module8_<random>, dropped in the end.
Without: mongomock. What it lacks is emulated, as the first line says, or skipped: the
         planner, transactions, change streams, $geoWithin, running totals.
Runtime: 5 s without a server, 30 s on SecantusDB.  Guide: COMPREHENSIVE_GUIDE.md, 2.
"""

# /// script
# requires-python = ">=3.11"
# dependencies = ["pymongo>=4.18.1,<5", "mongomock>=4.3,<5", "jsonschema>=4.20,<5",
#                 "python-dotenv>=1.2.2,<2", "rich>=13.7,<16"]
# ///

from __future__ import annotations

import argparse
import bisect
import functools
import itertools
import json
import logging
import math
import operator
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import timeit
import traceback
import tracemalloc
import uuid
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, cast

import bson
import jsonschema
import mongomock
import mongomock.aggregate
import pymongo
import pymongo.errors as err
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from dotenv import dotenv_values
from pymongo import IndexModel, InsertOne, UpdateOne, monitoring
from pymongo.results import BulkWriteResult
from rich.console import Console
from rich.text import Text

# region harness
# The same bytes in all five scripts (a test compares them): each file runs alone.
DEMOS: dict[str, Callable[[Env], None]] = {}
TALLY: Counter[str] = Counter()


class Skip(Exception):
    """Raised by a demo whose point this back end cannot show; says why."""


class BadInput(Exception):
    """Raised for what the user has to mend: one line on stderr, exit code 2."""


class Parser(argparse.ArgumentParser):
    """Parses the options that all lessons share; a complaint is one line."""

    def __init__(self) -> None:
        super().__init__(description=(__doc__ or "").split("\n\n")[0])
        mode = self.add_mutually_exclusive_group()
        self.add_argument("--list", action="store_true", help="list the demos and exit")
        self.add_argument("--only", nargs="+", metavar="NAME", help="run these demos")
        mode.add_argument("--offline", action="store_true", help="take the stand-in")
        mode.add_argument(
            "--require-live", action="store_true", help="exit 3 if absent"
        )
        self.add_argument("--url", help="the service, instead of the variable's")
        self.add_argument("--verbose", action="store_true", help="logs and tracebacks")

    def error(self, message: str) -> NoReturn:
        """Complain in one line, unlike argparse with its usage text."""
        raise BadInput(message)


def demo(fn: Callable[[Env], None]) -> Callable[[Env], None]:
    """Register a demo; the first line of its docstring is the printed title."""
    DEMOS[fn.__name__] = fn
    return fn


def redact(text: object) -> str:
    """Hide the password of every URL in the text."""
    return re.sub(r"(://[^:/\s]*:)\S*@|(password=)[^&\s]+", r"\1\2***@", str(text))


def setting(name: str, default: str = "") -> str:
    """Return a variable of the environment, else of .env beside this file."""
    dotenv = dotenv_values(Path(__file__).with_name(".env"))
    return os.environ.get(name, dotenv.get(name)) or default


def say(line: str = "", style: str = "") -> None:
    """Print a line: in colour on a terminal, plain when piped."""
    if sys.stdout.isatty():
        Console(highlight=False).print(Text(line, style), soft_wrap=True)
    else:
        print(line)


def show(name: str, value: object) -> None:
    """Print one aligned fact, the same in every run."""
    say(f"  {name:<34} {value}")


def table(header: Sequence[str], *rows: Sequence[object]) -> None:
    """Print rows under their header, columns of numbers to the right."""
    columns = list(zip(header, *rows, strict=True))
    width = [max(len(str(cell)) for cell in column) for column in columns]
    right = [all(isinstance(cell, int | float) for cell in c[1:]) for c in columns]
    for row in (header, *rows):
        cells = zip(row, width, right, strict=True)
        line = "".join(f"  {cell!s:{'>' if r else '<'}{w}}" for cell, w, r in cells)
        say(line.rstrip(), "bold" if row is header else "")


def aside(text: str) -> None:
    """Print what differs from run to run, such as a time, on stderr."""
    print(f"  ~ {text}", file=sys.stderr, flush=True)


def check(claim: str, holds: bool) -> None:
    """Print the claim if it holds, else fail the demo (-O would drop an assert)."""
    if not holds:
        raise AssertionError(claim)
    TALLY["ok"] += 1
    say(f"  [ok] {claim}", "green")


def run_demo(env: Env, run: Callable[[Env], None]) -> None:
    """Run one demo; a false claim or a broken demo is counted, not raised."""
    try:
        run(env)
    except BadInput:
        raise
    except Skip as reason:
        TALLY["skipped"] += 1
        say(f"  [skip] {reason}", "yellow")
    except Exception as error:
        TALLY["failed"] += 1
        kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
        say(f"  [FAIL] {kind}{redact(error)}", "bold red")
        logging.debug("%s", redact(traceback.format_exc()))


def teach(args: argparse.Namespace) -> int:
    """Run the chosen demos on the back end that answers; return the exit code."""
    if unknown := set(args.only or ()) - set(DEMOS):
        raise BadInput(
            f"--only: no demo {min(unknown)!r}; there are {', '.join(DEMOS)}"
        )
    titles = {
        name: (run.__doc__ or name).splitlines()[0] for name, run in DEMOS.items()
    }
    if args.list:
        table(("demo", "what it shows"), *titles.items())
        return 0
    TALLY.clear()
    with open_env(args) as env:
        say(f"backend: {env.backend}")
        if args.require_live and not env.live:
            return 3
        for number, (name, run) in enumerate(DEMOS.items(), 1):
            if name in (args.only or DEMOS):
                say(f"\n{number}. {titles[name]}", "bold")
                run_demo(env, run)
    say(
        "\n"
        + ", ".join(f"{TALLY[kind]} {kind}" for kind in ("ok", "skipped", "failed"))
    )
    return 1 if TALLY["failed"] else 0


def command(
    parser: Parser, argv: list[str] | None, run: Callable[[argparse.Namespace], int]
) -> int:
    """Run what the command line asks for; return the exit code."""
    try:
        args = parser.parse_args(argv)
        level = logging.DEBUG if args.verbose else logging.CRITICAL
        logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
        return run(args)
    except BadInput as problem:
        print(f"{parser.prog}: {redact(problem)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


# endregion harness

Document = dict[str, Any]
Collection = pymongo.collection.Collection[Document]
Database = pymongo.database.Database[Document]

BATCH = 1_000  # documents in one write command; a server takes up to 100,000
PAGE = 500  # documents in memory at once during an export
EARTH_KM = 6_378.1  # the radius of the sphere that MongoDB measures on
# Alone, PyMongo waits 30 s for a server to be found, and for ever for all else.
OPTIONS: dict[str, Any] = {
    "connectTimeoutMS": 1_000,
    "serverSelectionTimeoutMS": 1_000,  # trap: timeoutMS, where set, rules here too
    "waitQueueTimeoutMS": 5_000,  # for a connection of the pool
    "timeoutMS": 30_000,  # for a whole operation, its retry included
    "tz_aware": True,
    "uuidRepresentation": "standard",
    "w": "majority",  # what is acknowledged survives the loss of the primary
    "readConcernLevel": "majority",
}
CODEC = CodecOptions[Document](tz_aware=True, uuid_representation=bson.binary.STANDARD)
RAW = CodecOptions(document_class=RawBSONDocument)

# %% Vocabulary: what the documents look like


def typed(kind: str | list[str], **rules: Any) -> Document:
    """Return the $jsonSchema of a value."""
    return {"bsonType": kind} | rules


def record(required: str, /, **fields: Document) -> Document:
    """Return the $jsonSchema of an object with these fields and no others."""
    schema = typed("object", properties=fields, required=required.split())
    return schema | {"additionalProperties": False}


# PyMongo sends an int as int32 or, from 2**31 on, as int64: "int" alone is too narrow.
WHOLE = typed(["int", "long"], minimum=0)
NUMBER = typed("number", minimum=0)  # int, long, double or Decimal128
TEXT = typed("string", minLength=1, maxLength=200)
TEXTS = typed("array", items=TEXT)
WHEN = typed("date")
PLACE = typed("array", minItems=2, maxItems=2, items=typed("double"))
USER: Document = {
    "_id": WHOLE,
    "schema_version": {"enum": [1, 2]},
    "username": TEXT,
    "email": TEXT | {"pattern": "^[^@ ]+@[^@ ]+$"},
    "created_at": WHEN,
    "interests": TEXTS,  # version 1; since version 2 in the profile
    "profile": record("interests", interests=TEXTS, expertise=TEXT, projects=WHOLE),
    "metrics": record("views", views=WHOLE, engagement=NUMBER),
    "subscriptions": typed("array", items=record("plan", plan=TEXT, since=WHEN)),
}
EVENT: Document = {
    "_id": {},
    "schema_version": {"enum": [1]},
    "user_id": WHOLE,
    "event_type": {"enum": ["view", "search", "cart", "purchase"]},
    "timestamp": WHEN,
    "metadata": typed("object", properties={"price": NUMBER}),  # and whatever else
    "geo": record("type coordinates", type={"enum": ["Point"]}, coordinates=PLACE),
    "session_info": record("device", device=TEXT, os=TEXT, app_version=TEXT),
    "expires_at": WHEN,
}
SCHEMAS = {
    "users": record("schema_version username email created_at", **USER),
    "events": record("schema_version user_id event_type timestamp", **EVENT),
}
BOUGHT = {"partialFilterExpression": {"event_type": "purchase"}}
ESR = [("event_type", 1), ("timestamp", -1), ("metadata.price", 1)]
INDEXES = {
    "users": [
        IndexModel("username", name="username", unique=True),
        IndexModel("email", name="email", unique=True),
        IndexModel("profile.interests", name="interests"),
    ],
    "events": [
        IndexModel([("user_id", 1), ("timestamp", -1)], name="timeline"),
        IndexModel(ESR, name="esr"),  # equality first, then the sort, then the range
        IndexModel([("geo", "2dsphere")], name="place"),
        IndexModel("metadata.category", name="bought", **BOUGHT),
        # Trap: with a TTL index on `timestamp` the history is gone within a minute.
        IndexModel("expires_at", name="expiry", expireAfterSeconds=0),
    ],
}
START = datetime(2025, 6, 1, tzinfo=UTC)
END = START + timedelta(days=28)
KYIV = (30.5234, 50.4501)  # longitude first, as in GeoJSON
SOUND: Document = {
    "schema_version": 1,
    "user_id": 7,
    "event_type": "view",
    "timestamp": START,
}


def point(longitude: float, latitude: float) -> Document:
    """Return a GeoJSON point; raise ValueError outside our area (swapped?)."""
    if not (22 <= longitude <= 41 and 44 <= latitude <= 53):
        raise ValueError(f"({longitude}, {latitude}) is not in our area: swapped?")
    return {"type": "Point", "coordinates": [float(longitude), float(latitude)]}


def make_user(number: int) -> Document:
    """Return a user; every tenth has signed up at 22:30 UTC, the last of a month."""
    month = START.replace(month=1 + number % 5)
    late = month.replace(month=month.month + 1) - timedelta(minutes=90)
    return {
        "_id": number,
        "schema_version": 2,
        "username": f"user{number}",
        "email": f"user{number}@example.org",
        "created_at": month + timedelta(days=number % 28) if number % 10 else late,
        "profile": {"interests": [["sql", "python", "maths"][number % 3]]},
        "subscriptions": [],
    }


def make_events(count: int) -> list[Document]:
    """Return events of 100 users over four weeks, the same every time."""
    chance, made = random.Random(8), []
    for number in range(1, count + 1):
        kind = chance.choices(EVENT["event_type"]["enum"], (60, 20, 12, 8))[0]
        event = SOUND | {"_id": number, "event_type": kind}
        event["user_id"] = chance.randint(1, 100)
        event["timestamp"] = START + (END - START) * chance.randrange(10_000) / 10_000
        event["geo"] = point(chance.gauss(KYIV[0], 0.2), chance.gauss(KYIV[1], 0.1))
        event["session_info"] = {"device": "phone", "os": "linux", "app_version": "8.1"}
        event["metadata"] = {"category": chance.choice(["book", "course"])}
        if kind == "purchase":  # quarters are exact in binary; real money is Decimal128
            event["metadata"] |= {"price": chance.randint(4, 800) / 4, "tags": [1, 2]}
        made.append(event)
    return made


def grouped(rows: Iterable[Document], key: Callable[[Document], Any]) -> dict[Any, Any]:
    """Return lists of rows by key: the plain Python that pipelines are held against."""
    groups: dict[Any, list[Document]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return dict(sorted(groups.items()))


# %% Back end: a server over the wire, or mongomock with its gaps filled


class CommandCounter(monitoring.CommandListener):
    """Counts the commands that go to a server: the round trips."""

    sent = 0

    def started(self, event: object) -> None:
        """Count a command that goes out."""
        self.sent += 1

    def succeeded(self, event: object) -> None:
        """Pass over an answer, of whatever kind."""

    failed = succeeded


@dataclass
class Env:
    """What every demo receives: a database of its own, and who answers."""

    backend: str
    live: bool
    db: Database
    commands: CommandCounter
    url: str = ""
    mongodb: bool = False  # MongoDB itself, whose planner is held to its manual

    def counted(self, work: Callable[[], object]) -> int:
        """Run the work and return how many commands it took."""
        before = self.commands.sent
        work()
        return self.commands.sent - before

    def fresh(self, users: int = 0, events: int = 0) -> list[Document]:
        """Empty the database, create the collections, fill them; return the events."""
        for name in self.db.list_collection_names():
            self.db.drop_collection(name)
        MongoDBManager(self.db).create_collections_with_schema()
        UserManager(self.db).bulk_insert_users([make_user(n + 1) for n in range(users)])
        if made := make_events(events):
            self.db["events"].insert_many(made)
        return made

    def need_server(self, shows: str) -> None:
        """Skip the rest of a demo where it cannot be shown; say what a server shows."""
        if not self.live:
            raise Skip(f"mongomock cannot; a server shows {shows}")
        hello = self.db.client.admin.command("hello")
        if "setName" not in hello and hello.get("msg") != "isdbgrid":
            raise Skip(f"no replica set (one member will do), which shows {shows}")


# region stand-in
BSON_TYPES: dict[type, str] = {dict: "object", list: "array", datetime: "date"}
BSON_TYPES |= {bool: "bool", str: "string", bson.Decimal128: "decimal"}
BSON_TYPES |= {float: "double", bson.Int64: "long"}


def bson_type(
    _: Any, wanted: Any, value: Any, _schema: Any
) -> Iterator[jsonschema.ValidationError]:
    """Check MongoDB's keyword bsonType, which the package jsonschema lacks."""
    name = BSON_TYPES.get(type(value), "other")
    if type(value) is int:
        name = "int" if -(2**31) <= value < 2**31 else "long"
    allowed = {wanted} if isinstance(wanted, str) else set(wanted)
    if "number" in allowed:
        allowed |= {"int", "long", "double", "decimal"}
    if name not in allowed:
        yield jsonschema.ValidationError("type did not match")


Draft4: Any = jsonschema.Draft4Validator
Checker = jsonschema.validators.extend(Draft4, {"bsonType": bson_type})  # type: ignore[no-untyped-call]


def at_fault(error: jsonschema.ValidationError) -> str:
    """Return the property that an error of jsonschema is about."""
    names = [key for key in error.absolute_path if isinstance(key, str)]
    if error.validator in ("required", "additionalProperties"):
        names += re.findall(r"'(\w+)'", error.message)[:1]
    return ".".join(names)


Mocked: Any = mongomock  # its annotations are PyMongo's, which its classes do not keep


class StandIn(Mocked.Collection):  # type: ignore[misc]
    """A mongomock collection with validators and what else the lesson needs."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("insert_one", "update_one", "bulk_write", "find", "aggregate"):
            super().__getattribute__("database").commands.sent += 1
        return super().__getattribute__(name)

    def _insert(self, *args: Any, **options: Any) -> Any:
        with self.database.lock:  # a server changes one document at a time
            return super()._insert(*args, **options)

    def _update(self, *args: Any, **options: Any) -> Any:
        with self.database.lock:
            return super()._update(*args, **options)

    def _ensure_uniques(self, document: Document) -> None:
        """Refuse what a validator or a unique index forbids; mongomock undoes it."""
        if errors := list(self.database.checkers[self.name].iter_errors(document)):
            info = {"details": {"missingProperties": [at_fault(e) for e in errors]}}
            raise err.DuplicateKeyError("failed validation", 121, {"errInfo": info})
        for name, rule in self._store.indexes.items():
            if rule.get("unique"):  # looked up, where mongomock reads the collection
                key = repr((self.name, name, [document.get(f) for f, _ in rule["key"]]))
                owner = self.database.owners.setdefault(key, document["_id"])
                if owner != document["_id"]:
                    pattern = {"keyPattern": dict(rule["key"])}
                    raise err.DuplicateKeyError("duplicate key", 11000, pattern)

    def create_indexes(self, indexes: Sequence[IndexModel]) -> Any:
        """Create indexes; a TTL would go through all documents at every access."""
        names = super().create_indexes(indexes)
        self._store._ttl_indexes.clear()
        return names

    def insert_many(self, documents: Iterable[Document], ordered: bool = True) -> Any:
        """Insert as one command, with the complaints that bulk_write collects."""
        requests = [InsertOne(document) for document in documents]
        for request in requests:  # PyMongo, too, encodes all before it sends any
            bson.encode(request._doc, codec_options=CODEC)
        return self.bulk_write(requests, ordered)

    def bulk_write(self, requests: Sequence[Any], ordered: bool = True) -> Any:
        """Do inserts and updates one by one; mongomock's own fails (its issue 912)."""
        done, errors = Counter[str](nInserted=0, nModified=0, nUpserted=0), []
        for number, request in enumerate(requests):
            try:
                if isinstance(request, InsertOne):
                    self._insert(request._doc)
                    done["nInserted"] += 1
                else:
                    result = self._update(
                        request._filter, request._doc, request._upsert
                    )
                    done["nModified"] += result["nModified"]
                    done["nUpserted"] += result["upserted"] is not None
            except err.WriteError as error:
                why = {"index": number, "code": error.code}
                errors.append(dict(error.details or {}) | why)
                if ordered:
                    break
        if errors:
            raise err.BulkWriteError(done | {"writeErrors": errors})
        return BulkWriteResult(dict(done), True)

    def find_raw_batches(
        self, query: Document, sort: Any, limit: int
    ) -> Iterator[bytes]:
        """Return a page by _id as the bytes that a server would send."""
        key = operator.itemgetter("_id")
        rows = sorted(self._iter_documents({}), key=key)
        start = bisect.bisect(rows, query["_id"]["$gt"], key=key) if query else 0
        yield b"".join(map(bson.encode, rows[start : start + limit]))

    def aggregate(self, pipeline: list[Document]) -> Iterator[Document]:
        """Run a pipeline; a first stage $geoNear and a last one $merge are ours."""
        stages, sent = list(pipeline), self.database.commands.sent
        stored = b"".join(map(bson.encode, self._iter_documents({})))
        rows: Any = bson.decode_all(stored, CODEC)  # copies, as a server's answer is
        if near := stages[0].get("$geoNear"):
            del stages[0]
            centre, reach = near["near"]["coordinates"], near["maxDistance"]
            for row in rows:
                row["metres"] = metres(row["geo"]["coordinates"], centre)
            rows = [row for row in rows if row["metres"] <= reach]
            rows.sort(key=lambda row: float(row["metres"]))
        merge = stages.pop()["$merge"]["into"] if "$merge" in stages[-1] else None
        rows = list(
            Mocked.aggregate.process_pipeline(rows, self.database, stages, None)
        )
        self.database.commands.sent = sent  # $lookup has sent none
        for row in rows if merge else ():
            self.database[merge].replace_one({"_id": row["_id"]}, row, upsert=True)
        return iter(() if merge else rows)


def metres(one: Sequence[float], other: Sequence[float]) -> float:
    """Return a distance by the law of cosines, another way than haversine's."""
    (east, north), (east0, north0) = map(math.radians, one), map(math.radians, other)
    across = math.cos(north) * math.cos(north0) * math.cos(east - east0)
    return 1_000 * EARTH_KM * math.acos(math.sin(north) * math.sin(north0) + across)


class StandInDatabase(Mocked.Database):  # type: ignore[misc]
    """A mongomock database of such collections."""

    def __init__(self, commands: CommandCounter) -> None:
        client = Mocked.MongoClient(tz_aware=True)
        super().__init__(client, "module8", None, codec_options=client.codec_options)
        self.commands, self.lock = commands, threading.RLock()
        self.owners: dict[str, Any] = {}
        self.options: dict[str, Document] = defaultdict(dict)
        self.checkers: dict[str, Any] = defaultdict(lambda: Checker({}))

    def get_collection(self, name: str, **_options: Any) -> Any:
        """Return the collection, the same each time."""
        if name not in self._collection_accesses:
            more = {"_db_store": self._store, "codec_options": self.codec_options}
            self._collection_accesses[name] = StandIn(self, name, **more)
        return self._collection_accesses[name]

    def create_collection(self, name: str, validator: Document | None = None) -> Any:
        """Create a collection with its validator."""
        collection = super().create_collection(name)
        self.command("collMod", name, validator or {"$jsonSchema": {}})
        return collection

    def command(self, _collmod: str, name: str, validator: Document) -> None:
        """Do collMod, the only command that the lesson sends by its name."""
        self.options[name] = {"validator": validator}
        self.checkers[name] = Checker(validator["$jsonSchema"])

    def list_collections(self) -> list[Document]:
        """Return the collections and their validators, as a server does."""
        names = self.list_collection_names()
        return [{"name": name, "options": self.options[name]} for name in names]

    def drop_collection(self, name: str) -> None:
        """Forget a collection, its validator and all unique keys."""
        super().drop_collection(name)
        self.owners.clear()
        self.checkers.pop(name, None)


# endregion stand-in


def connect(url: str, listener: monitoring.CommandListener, **more: Any) -> Any:
    """Return a client with finite waits; raise BadInput for what is no URI."""
    options = OPTIONS | {"event_listeners": [listener]} | more
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # it would ignore an option
            if "://" not in url:
                raise ValueError("it has no scheme")  # PyMongo takes it for a host
            return pymongo.MongoClient(url, **options)
    except (err.PyMongoError, ValueError, UserWarning) as error:
        # The library's words may hold a part of a password that was not encoded.
        why = "is the password percent-encoded?" if "@" in url else error
        right = "mongodb://user:password@host:27017/?option=value or mongodb+srv://..."
        problem = f"--url or MONGODB_URI is no valid URI ({why}); right is {right}"
        raise BadInput(problem) from None


def answer(url: str, commands: CommandCounter, stack: ExitStack) -> Env | str:
    """Return the environment of the server at a URL, or why it does not answer."""
    client = stack.enter_context(connect(url, commands))
    try:
        with pymongo.timeout(1):
            build = client.admin.command("buildInfo")
            client.admin.command("listDatabases", nameOnly=True)
    except err.ConnectionFailure as error:
        return "connection refused" if "refused" in str(error) else "no answer in 1 s"
    except err.OperationFailure as error:
        problem = (
            f"the server lets nobody in like this (code {error.code}): check user, "
        )
        raise BadInput(problem + "password and authSource in the URL") from None
    except err.ConfigurationError as error:
        raise BadInput(f"--url or MONGODB_URI: {error}") from None
    if build["versionArray"][0] < 5:
        raise BadInput(f"MongoDB {build['version']} is too old: 5.0 or later is needed")
    other = build.get("secantusVersion")
    name = (
        f"SecantusDB {other}, not MongoDB," if other else f"MongoDB {build['version']}"
    )
    host, port = client.address or ("several hosts", "")
    db = client[f"module8_{uuid.uuid4().hex[:12]}"]
    return Env(f"{name} at {host}:{port}", True, db, commands, url, mongodb=not other)


@contextmanager
def private_server() -> Iterator[str | None]:
    """Start SecantusDB on a free port for this run; None where it is not installed."""
    beside = Path(sys.executable).with_name("secantusd-py")
    program = str(beside) if beside.exists() else shutil.which("secantusd-py")
    if not program:
        yield None
        return
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    argv = [program, "--port", str(port), "--storage-path", "data"]
    argv.append("--enable-test-commands")  # so that it drops a connection when asked
    quiet: Any = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    with tempfile.TemporaryDirectory(prefix="module8-mongo-") as folder:
        # In a session of its own, it does not hear a Ctrl-C that is meant for us.
        process = subprocess.Popen(argv, cwd=folder, start_new_session=True, **quiet)  # noqa: S603
        try:
            for _ in range(100):
                with suppress(OSError):
                    socket.create_connection(("127.0.0.1", port), 0.1).close()
                    break
                time.sleep(0.05)
            yield f"mongodb://127.0.0.1:{port}/"
        finally:
            process.kill()  # its data go with the folder
            process.wait()


@contextmanager
def open_env(args: argparse.Namespace) -> Iterator[Env]:
    """Open a database of our own where a server answers; drop it in the end."""
    commands, named = CommandCounter(), args.url or setting("MONGODB_URI")
    url = named or "mongodb://127.0.0.1:27017/"
    why, env = "--offline", cast(Env | str, "")
    with ExitStack() as stack:
        if not args.offline:
            env = answer(url, commands, stack)
            why = f"no MongoDB at {redact(url)}: {env}; docker compose up -d mongo"
            # Who names a server wants that one, and no other in its place.
            other = isinstance(env, str) and not named
            if other and (private := stack.enter_context(private_server())):
                env = answer(private, commands, stack)
                if isinstance(env, Env):
                    env.backend = f"{env.backend.split(' at ')[0]} for this run ({why})"
        if isinstance(env, str):
            gaps = "emulated: $jsonSchema, bulk_write, $geoNear, $merge and locks"
            db = cast(Database, StandInDatabase(commands))
            yield Env(
                f"mongomock, in this process ({why}); {gaps}", False, db, commands
            )
            return
        try:
            yield env
        finally:
            with suppress(err.PyMongoError):
                env.db.client.drop_database(env.db.name)


# %% 1. Validators and indexes: the server refuses what must not be stored


# region manager
class MongoDBManager:
    """Keeps collections, validators and indexes as the code has them."""

    def __init__(self, db: Database, schemas: dict[str, Document] = SCHEMAS) -> None:
        self.db, self.schemas = db, schemas

    def create_collections_with_schema(self) -> list[str]:
        """Create or change what differs; return what was done, [] when run again."""
        there = {row["name"]: row["options"] for row in self.db.list_collections()}
        done = []
        for name, schema in self.schemas.items():
            validator = {"$jsonSchema": schema}
            if name not in there:
                self.db.create_collection(name, validator=validator)
                done.append(f"created {name}")
            elif there[name].get("validator") != validator:
                self.db.command("collMod", name, validator=validator)
                done.append(f"changed {name}")
            info = self.db[name].index_information()
            keys = [(key, [*options["key"]]) for key, options in info.items()]
            models = [(index.document, index) for index in INDEXES[name]]
            new = [i for d, i in models if (d["name"], [*d["key"].items()]) not in keys]
            done += self.db[name].create_indexes(new) if new else []
        return done


def broken(info: Any, path: tuple[str, ...] = ()) -> set[str]:
    """Return the properties that errInfo's details (MongoDB 5.0+) say are broken."""
    if isinstance(info, list):
        return set().union(*(broken(part, path) for part in info))
    path += (info["propertyName"],) if "propertyName" in info else ()
    inner = ("details", "schemaRulesNotSatisfied", "propertiesNotSatisfied")
    if parts := [info[key] for key in inner if key in info]:
        return broken(parts, path)
    missing = info.get("missingProperties", []) + info.get("additionalProperties", [])
    return {".".join((*path, name)) for name in missing} or {".".join(path)}


# endregion manager


def verdict(collection: Collection, document: Document) -> str:
    """Try to insert a copy; return "accepted" or the properties that it breaks."""
    try:
        collection.insert_one(dict(document))
    except err.WriteError as error:
        return ", ".join(sorted(broken((error.details or {})["errInfo"])))
    return "accepted"


TRIALS: dict[str, tuple[Document, str]] = {
    "user_id 2**31 (sent as int64)": ({"user_id": 2**31}, "accepted"),
    "price 5 (sent as int32)": ({"metadata": {"price": 5}}, "accepted"),
    "price Decimal128": ({"metadata": {"price": bson.Decimal128("5.2")}}, "accepted"),
    "user_id 1.0": ({"user_id": 1.0}, "user_id"),
    "user_id True": ({"user_id": True}, "user_id"),
    "price '5'": ({"metadata": {"price": "5"}}, "metadata.price"),
    "geo without type": ({"geo": {"coordinates": [30.5, 50.4]}}, "geo.type"),
    "is_admin, not in the schema": ({"is_admin": True}, "is_admin"),
}


@demo
def validators(env: Env) -> None:
    """Validators: they accept what PyMongo sends and name what they refuse"""
    env.fresh()
    price = typed("object", properties={"price": typed("double")})
    first = typed("object", properties={"user_id": typed("int"), "metadata": price})
    env.db.create_collection("first", validator={"$jsonSchema": first})
    tried = [env.db[name] for name in ("unchecked", "first", "events")]
    found = {k: [verdict(c, SOUND | v[0]) for c in tried] for k, v in TRIALS.items()}
    table(
        ("event", "no validator", "int and double", "ours"),
        *((name, *verdicts) for name, verdicts in found.items()),
    )
    unchecked, naive, ours = zip(*found.values(), strict=True)
    sound = "accepted" not in naive[:3] and set(ours[:3]) == {"accepted"}
    check("3 sound events, which int and double refuse, are accepted", sound)
    named = ours == tuple(wanted for _, wanted in TRIALS.values())
    check(
        "5 bad ones, else accepted, are refused by name",
        named and len(set(unchecked)) == 1,
    )
    again, failure = MongoDBManager(env.db).create_collections_with_schema(), ""
    try:
        env.db.create_collection("events")
    except err.CollectionInvalid as error:
        failure = type(error).__name__
    show("create_collection() again", failure)
    check(
        "a second deployment neither changes nor fails", failure != "" and again == []
    )


# %% 2. Types and versions: what changes on the way, and documents of two ages


# region versions
def as_current(user: Document) -> Document:
    """Return a user of any schema version as version 2; the store is not touched."""
    if user["schema_version"] == 2:
        return user
    rest = {key: value for key, value in user.items() if key != "interests"}
    profile = {"interests": user.get("interests", [])}
    return rest | {"schema_version": 2, "profile": profile}


def upgrade_users(users: Collection, batch: int = BATCH) -> int:
    """Store the users of version 1 as version 2, page by page; return how many."""
    upgraded = 0
    while page := list(users.find({"schema_version": 1}).limit(batch)):
        changes = []
        for old in page:
            # Whoever changes the user before we do wins, and we come back to it.
            seen = {key: old.get(key) for key in ("_id", "schema_version", "interests")}
            new = {"schema_version": 2, "profile": as_current(old)["profile"]}
            changes.append(UpdateOne(seen, {"$set": new, "$unset": {"interests": ""}}))
        upgraded += users.bulk_write(changes, ordered=False).modified_count
    return upgraded


# endregion versions


@demo
def versions(env: Env) -> None:
    """Versions: UTC and UUIDs survive the trip, and two schema versions read as one"""
    moment, key = START + timedelta(microseconds=123_456), uuid.UUID(int=8)
    sent = bson.encode({"at": moment, "key": key}, codec_options=CODEC)
    naive, ours = bson.decode(sent), bson.decode(sent, CODEC)
    for name, read in (("PyMongo's defaults", naive), ("our options", ours)):
        show(
            f"read with {name}",
            f"{read['at'].isoformat()}, {type(read['key']).__name__}",
        )
    whole = {"at": moment.replace(microsecond=123_000), "key": key}
    check(
        "moments come back in UTC, cut to ms, and UUIDs as such", ours == whole != naive
    )

    env.fresh()
    first = {k: rule for k, rule in USER.items() if k != "profile"}
    old_schema = record("username", **first | {"schema_version": {"enum": [1]}})
    MongoDBManager(env.db, {"users": old_schema}).create_collections_with_schema()
    manager, people = UserManager(env.db), [make_user(n) for n in range(1, 201)]
    for user in people[:100]:
        user |= {"schema_version": 1, "interests": user.pop("profile")["interests"]}
    refused = [why for _, why in manager.bulk_insert_users(people).rejected]
    changed = MongoDBManager(env.db).create_collections_with_schema()
    manager.bulk_insert_users(people)
    show("100 users of version 2, at first", refused[0])
    beside = (len(refused), changed, manager.users.count_documents({}))
    check(
        "collMod lets version 2 in beside version 1",
        beside == (100, ["changed users"], 200),
    )
    failing = manager.users.count_documents({"profile": None})
    read_by_id = [[user["_id"] for user in manager.find_users_by_interest("sql")]]
    upgraded = [upgrade_users(manager.users, batch=40) for _ in range(2)]
    read_by_id.append([user["_id"] for user in manager.find_users_by_interest("sql")])
    show("without the new field; upgraded, twice", f"{failing}; {upgraded}")
    same = read_by_id == [list(range(3, 201, 3))] * 2 and failing == 100
    check("both versions are found alike, before and after the upgrade", same)
    check("the upgrade is complete, and repeated does nothing", upgraded == [100, 0])


# %% 3. Bulk writes: one command, nothing lost, nothing twice


# region bulk
@dataclass
class LoadReport:
    """What became of a load: every document is in exactly one of the three."""

    inserted: int = 0
    repeated: int = 0  # their _id was there: an earlier run of the same load
    rejected: list[tuple[int, str]] = field(default_factory=list)  # index, reason


UNENCODABLE = (bson.errors.BSONError, TypeError, ValueError, OverflowError)


def unencodable(document: Any) -> str:
    """Return why BSON cannot hold a document, "" if it can."""
    try:
        size = len(bson.encode(document, codec_options=CODEC))
    except UNENCODABLE as error:
        return f"no BSON: {type(error).__name__}"
    return "larger than 16 MB" if size > 2**24 else ""


def reason(error: Document) -> str:
    """Return why a server refused a document."""
    if error["code"] == 11000:
        return f"{', '.join(error.get('keyPattern', ['key']))} is taken"
    if error["code"] == 121:
        return f"breaks {', '.join(sorted(broken(error['errInfo'])))}"
    return f"code {error['code']}"


class UserManager:
    """Users: loading, finding and changing them."""

    def __init__(self, db: Database) -> None:
        self.users = db["users"]

    def bulk_insert_users(
        self, users: Sequence[Document], batch: int = BATCH
    ) -> LoadReport:
        """Insert users that carry their _id; bad ones do not keep good ones out.

        Run again, it inserts what is missing. Raises PyMongoError if the server fails.
        """
        report = LoadReport()
        for start in range(0, len(users), batch):
            chunk = dict(enumerate(users[start : start + batch], start))
            try:
                errors = self._insert([*chunk.values()])
            except UNENCODABLE:  # one such fails the whole call: send the others
                bad = {
                    i: why for i, user in chunk.items() if (why := unencodable(user))
                }
                report.rejected += bad.items()
                chunk = {i: user for i, user in chunk.items() if i not in bad}
                errors = self._insert([*chunk.values()])
            numbers, rows = [*chunk], [*chunk.values()]
            report.inserted += len(rows) - len(errors)
            # Which broken index a server names is its own choice: ask for such _ids.
            doubtful = {
                error["index"]: rows[error["index"]]["_id"]
                for error in errors
                if error["code"] == 11000
                and "_id" not in error.get("keyPattern", "_id")
            }
            query = {"_id": {"$in": [*doubtful.values()]}}
            there = self.users.distinct("_id", query) if doubtful else []
            for error in errors:
                at = error["index"]
                known = at not in doubtful or doubtful[at] in there
                if error["code"] == 11000 and known:
                    report.repeated += 1
                else:
                    report.rejected.append((numbers[at], reason(error)))
        return report

    def _insert(self, users: list[Document]) -> list[Document]:
        """Insert in one command; return the server's complaints about single users."""
        try:
            if users:
                self.users.insert_many(users, ordered=False)
        except err.BulkWriteError as error:
            if error.details.get("writeConcernErrors"):
                raise  # written but not safe, which is no single user's fault
            return cast(list[Document], error.details["writeErrors"])
        return []

    def upsert_users(self, users: Iterable[Document]) -> int:
        """Insert or update users by _id; return how many are new or differ now."""
        changes = [
            UpdateOne({"_id": u["_id"]}, {"$set": u}, upsert=True) for u in users
        ]
        done = self.users.bulk_write(changes, ordered=False)
        return done.upserted_count + done.modified_count

    # endregion bulk
    # region arrays
    def find_users_by_interest(self, interest: str, limit: int = 100) -> list[Document]:
        """Return users of both versions with an interest, in the order of _id."""
        wanted = {"$eq": interest}  # a dict from outside stays a value, no operator
        either = [{"profile.interests": wanted}, {"interests": wanted}]
        found = self.users.find({"$or": either}).sort("_id", 1).limit(limit)
        return [as_current(user) for user in found]

    def add_subscription(self, user_id: int, plan: str, since: datetime) -> bool:
        """Add a plan unless the user has it; raise LookupError for no such user."""
        # Condition and change are one command, so nobody comes in between.
        missing = {"_id": {"$eq": user_id}, "subscriptions.plan": {"$ne": plan}}
        added = {"$push": {"subscriptions": {"plan": plan, "since": since}}}
        done = self.users.update_one(missing, added).matched_count == 1
        if not done and not self.users.find_one({"_id": {"$eq": user_id}}):
            raise LookupError(f"no user {user_id}")
        return done

    # endregion arrays


def stored(
    collection: Collection, rows: list[Document], ordered: bool
) -> tuple[int, str]:
    """Insert rows; return how many are in, and index and code of each refusal."""
    try:
        collection.insert_many(rows, ordered=ordered)
    except err.BulkWriteError as error:
        refused = [f"{e['index']}: {e['code']}" for e in error.details["writeErrors"]]
        return error.details["nInserted"], ", ".join(refused)
    return len(rows), ""


@demo
def bulk(env: Env) -> None:
    """Bulk writes: 500 commands or 1, and every document is accounted for"""
    env.fresh()
    notes = [{"_id": number} for number in range(500)]
    singly = env.counted(lambda: [env.db["singly"].insert_one(note) for note in notes])
    at_once = env.counted(lambda: env.db["at_once"].insert_many(notes))
    show("commands for 500 documents", f"{singly} singly, {at_once} at once")
    check("500 documents take 1 command instead of 500", (singly, at_once) == (500, 1))
    notes[2], notes[5] = notes[0], notes[1]
    ordered, unordered = (stored(env.db[f"o{o}"], notes[:10], o) for o in (True, False))
    header = ("2 of 10 repeated", "in", "index: code")
    table(header, ("ordered", *ordered), ("unordered", *unordered))
    done = (ordered, unordered) == ((2, "2: 11000"), (8, "2: 11000, 5: 11000"))
    check("unordered stores the 8 that it can, ordered stops after 2", done)

    manager, people = UserManager(env.db), [make_user(n) for n in range(1, 10_001)]
    load = env.counted(lambda: manager.bulk_insert_users(people, batch=10_000))
    again = manager.bulk_insert_users(people)
    show("10,000 users", f"{load} command; again: {again.inserted} new")
    once = (load, again) == (1, LoadReport(0, 10_000))
    check("10,000 users are 1 command, and 0 new when it is repeated", once)
    batch: list[Any] = [make_user(n) for n in range(10_001, 10_008)]
    batch[1]["email"], batch[4]["email"] = "nobody", "user1@example.org"
    batch[2]["metrics"] = {"views": object()}
    with suppress(bson.errors.BSONError):
        env.db["users"].insert_many(batch, ordered=False)
    naive = manager.users.count_documents({"_id": {"$gt": 10_000}})
    report = manager.bulk_insert_users(batch)
    ours = manager.users.count_documents({"_id": {"$gt": 10_000}})
    table(("index", "rejected because"), *sorted(report.rejected))
    named = (report.inserted, sorted(dict(report.rejected))) == (ours, [1, 2, 4])
    check(
        "4 of 7 are in, 3 named; insert_many stores none",
        (naive, ours, named) == (0, 4, True),
    )
    people[0]["metrics"] = {"views": 1}
    inserted = manager.bulk_insert_users(people[:9]).inserted
    changed = inserted, [manager.upsert_users(people[:9]) for _ in range(2)]
    show(
        "1 change at the source",
        f"{inserted} by insert; by upsert, twice: {changed[1]}",
    )
    check("upserting brings it in, then 0; inserting nothing", changed == (0, [1, 0]))


# %% 4. Pipelines: the server computes, plain Python agrees


# region tracker
DAY = {"$dateToString": {"date": "$timestamp", "format": "%Y-%m-%d"}}  # in UTC


class EventTracker:
    """Events as they happen, and what they add up to."""

    def __init__(self, db: Database) -> None:
        self.events = db["events"]

    def log_event(self, user_id: int, event_type: str, **more: Any) -> Any:
        """Store an event, now unless `timestamp` is given; return its _id."""
        event = SOUND | {"user_id": user_id, "event_type": event_type}
        event["timestamp"] = datetime.now(UTC)
        return self.events.insert_one(event | more).inserted_id

    # fmt: off
    def get_event_distribution(self, start: datetime, end: datetime) -> list[Document]:
        """Return events and distinct users by type, for start <= timestamp < end."""
        return list(self.events.aggregate([
            {"$match": {"timestamp": {"$gte": start, "$lt": end}}},
            {"$group": {"_id": "$event_type", "events": {"$sum": 1},
                        "users": {"$addToSet": "$user_id"}}},
            {"$set": {"users": {"$size": "$users"}}},
            {"$sort": {"events": -1, "_id": 1}},
        ]))

    def get_user_activity_metrics(self, limit: int = 10) -> list[Document]:
        """Return the most active users: events, active days, last seen."""
        return list(self.events.aggregate([
            {"$group": {"_id": "$user_id", "events": {"$sum": 1},
                        "days": {"$addToSet": DAY}, "last": {"$max": "$timestamp"}}},
            {"$set": {"days": {"$size": "$days"}}},
            {"$sort": {"events": -1, "_id": 1}},
            {"$limit": limit},
        ]))

    def get_purchase_analytics(self) -> Document:
        """Return orders and revenue by category, and orders by price, in one pass."""
        price = "$metadata.price"
        return next(iter(self.events.aggregate([
            {"$match": {"event_type": "purchase"}},
            {"$facet": {
                "by_category": [
                    {"$group": {"_id": "$metadata.category", "orders": {"$sum": 1},
                                "revenue": {"$sum": price}, "mean": {"$avg": price}}},
                    {"$sort": {"_id": 1}}],
                "by_price": [{"$bucket": {
                    "groupBy": price, "boundaries": [0, 50, 100, 10**6],
                    "output": {"orders": {"$sum": 1}}}}],
            }},
        ])))

    def latest_with_names(self, limit: int) -> list[Document]:
        """Return the latest purchases with their users' names, in one command."""
        return list(self.events.aggregate([
            {"$match": {"event_type": "purchase"}},
            {"$sort": {"timestamp": -1, "_id": 1}},
            {"$limit": limit},
            {"$lookup": {"from": "users", "localField": "user_id",
                         "foreignField": "_id", "as": "user"}},
            {"$unwind": "$user"},
            {"$project": {"name": "$user.username"}},
        ]))
    # fmt: on


# endregion tracker


def latest_with_names_naive(db: Database, limit: int) -> list[Document]:
    """Return the same with one query more for every event."""
    bought = db["events"].find({"event_type": "purchase"})
    latest = bought.sort([("timestamp", -1), ("_id", 1)]).limit(limit)
    users = ((e["_id"], db["users"].find_one({"_id": e["user_id"]})) for e in latest)
    return [{"_id": key, "name": user["username"]} for key, user in users if user]


@demo
def pipelines(env: Env) -> None:
    """Pipelines: the server's answers equal plain Python's over 5,000 events"""
    events = env.fresh(users=100, events=5_000)
    tracker, middle = EventTracker(env.db), events[0]["timestamp"]
    spans = [(START, middle), (middle, END)]
    closed = [{"timestamp": {"$gte": start, "$lte": end}} for start, end in spans]
    twice = sum(env.db["events"].count_documents(query) for query in closed)
    halves = [
        row["events"] for s in spans for row in tracker.get_event_distribution(*s)
    ]
    show("in two spans, an event between", f"{sum(halves)} half-open, {twice} closed")
    found = tracker.get_event_distribution(START, END)
    kinds = [(row["_id"], row["events"], row["users"]) for row in found]
    table(("type", "events", "users"), *kinds)
    by_type = grouped(events, lambda event: event["event_type"])
    by_user = grouped(events, lambda event: event["user_id"])
    plain = [(k, len(v), len({e["user_id"] for e in v})) for k, v in by_type.items()]
    same = sorted(kinds) == plain and sum(halves) == 5_000 < twice
    check("the distribution equals the reference; closed spans count double", same)

    days = {
        user: len({e["timestamp"].date() for e in v}) for user, v in by_user.items()
    }
    busy = tracker.get_user_activity_metrics(100)
    show("the busiest user", f"{busy[0]['events']} events on {busy[0]['days']} days")
    plain = sorted((-len(v), user, days[user]) for user, v in by_user.items())
    same = [(-row["events"], row["_id"], row["days"]) for row in busy] == plain
    check(
        "activity equals the reference; days are no events",
        same and -plain[0][0] > plain[0][2],
    )

    by_category = grouped(
        by_type["purchase"], lambda event: event["metadata"]["category"]
    )
    prices = {k: [e["metadata"]["price"] for e in v] for k, v in by_category.items()}
    facets = tracker.get_purchase_analytics()
    sales = [
        (row["_id"], row["orders"], row["revenue"]) for row in facets["by_category"]
    ]
    table(("category", "orders", "revenue"), *sales)
    total = {"$group": {"_id": 0, "sum": {"$sum": "$metadata.price"}}}
    unwound = env.db["events"].aggregate([{"$unwind": "$metadata.tags"}, total])
    naive = next(iter(unwound))["sum"]
    show("revenue after $unwind of two tags", naive)
    bands = Counter(min(p // 50, 2) * 50 for each in prices.values() for p in each)
    same = sales == [(k, len(v), sum(v)) for k, v in prices.items()]
    same &= {row["_id"]: row["orders"] for row in facets["by_price"]} == bands
    doubled = naive == 2 * sum(row[2] for row in sales)
    check("purchases equal the reference; unwound, they double", same and doubled)

    names: list[list[Document]] = []
    loop = env.counted(lambda: names.append(latest_with_names_naive(env.db, 100)))
    joined = env.counted(lambda: names.append(tracker.latest_with_names(100)))
    show(
        "commands for 100 orders with names", f"{loop} in a loop, {joined} with $lookup"
    )
    same = names[0] == names[1] and len(names[0]) == 100
    check(
        "$lookup answers in 1 command, the loop in 101",
        same and (loop, joined) == (101, 1),
    )


# %% 5. Summaries: computed twice and still right


class DataProcessor:
    """What analysts take away: daily summaries, cohorts, exports."""

    def __init__(self, db: Database) -> None:
        self.db = db

    # fmt: off
    # region merge
    def summarize_days(self, start: datetime, end: datetime) -> None:
        """Compute the days from start to before end anew, and replace them in `daily`.

        So a run may be repeated, at once or when events came late; it has to be, after
        a lost connection: drivers do not retry $merge.
        """
        self.db["events"].aggregate([
            {"$match": {"timestamp": {"$gte": start, "$lt": end}}},
            {"$group": {"_id": DAY, "events": {"$sum": 1},
                        "revenue": {"$sum": "$metadata.price"}}},
            {"$merge": {"into": "daily", "whenMatched": "replace"}},
        ])
    # endregion merge

    def running_revenue(self) -> list[float]:
        """Return for each day in `daily` the revenue up to it."""
        total = {"$sum": "$revenue", "window": {"documents": ["unbounded", "current"]}}
        return [row["total"] for row in self.db["daily"].aggregate([
            {"$setWindowFields": {"sortBy": {"_id": 1}, "output": {"total": total}}},
            {"$sort": {"_id": 1}},
        ])]

    # region cohorts
    def calculate_cohort_metrics(self) -> list[Document]:
        """Return users, active users and revenue by calendar month (UTC) of sign-up."""
        spent = {row["_id"]: row["revenue"] for row in self.db["events"].aggregate([
            {"$group": {"_id": "$user_id", "revenue": {"$sum": "$metadata.price"}}},
        ])}
        month = {"$dateToString": {"date": "$created_at", "format": "%Y-%m"}}
        return [{
            "cohort": row["_id"],
            "users": len(row["users"]),
            "active": sum(user in spent for user in row["users"]),
            "revenue": sum(spent.get(user, 0) for user in row["users"]),
        } for row in self.db["users"].aggregate([
            {"$group": {"_id": month, "users": {"$push": "$_id"}}},
            {"$sort": {"_id": 1}},
        ])]
    # endregion cohorts
    # fmt: on

    # region export
    def _page(self, query: Document, size: int) -> bytes:
        """Return documents in the order of _id, as the server has sent them."""
        find: Any = self.db["events"].find_raw_batches
        return b"".join(find(query, sort=[("_id", 1)], limit=size))

    def export_data_for_analysis(
        self, path: Path, page: int = PAGE, on_page: Callable[[int], object] = id
    ) -> int:
        """Append the events that a file lacks, in the order of _id; return how many.

        The file holds BSON documents end to end, as mongodump's do, and is its own
        checkpoint: killed at any byte, it is gone on with behind the last whole one.
        Memory holds one page. All _id must be of one type, for $gt compares within a
        type. Raises ValueError for a file that is something else.
        """
        written = 0
        with path.open("a+b") as file:
            query = {} if (last := last_id(file)) is None else {"_id": {"$gt": last}}
            while data := self._page(query, page):
                file.write(data)
                file.flush()
                rows = bson.decode_all(data, RAW)  # raw: only one _id is looked at
                query = {"_id": {"$gt": rows[-1]["_id"]}}
                written += len(rows)
                on_page(written)
        return written


def last_id(file: BinaryIO) -> Any:
    """Return the _id of the last whole document, or None; cut off a torn one."""
    size, begin, end = file.seek(0, os.SEEK_END), 0, 0
    while end + 4 <= size:
        file.seek(end)
        length = int.from_bytes(file.read(4), "little")
        if not 5 <= length <= 2**24:  # text read as a number is far more
            raise ValueError(f"no BSON document at byte {end}: not an export of ours")
        if end + length > size:
            break
        begin, end = end, end + length
    file.truncate(end)
    file.seek(begin)
    return bson.decode(file.read(end - begin), CODEC)["_id"] if end else None


# endregion export


@demo
def summaries(env: Env) -> None:
    """Summaries: $merge may run twice, $inc may not, and months begin in UTC"""
    events = env.fresh(users=100, events=2_000)
    processor, daily, counters = (
        DataProcessor(env.db),
        env.db["daily"],
        env.db["counters"],
    )
    days = Counter(f"{event['timestamp']:%Y-%m-%d}" for event in events)
    for _ in range(2):
        for day, count in days.items():
            counters.update_one({"_id": day}, {"$inc": {"events": count}}, upsert=True)
        processor.summarize_days(START, END)
    naive, sums = (sum(row["events"] for row in c.find()) for c in (counters, daily))
    show("2,000 events summed up twice", f"{naive} with $inc, {sums} with $merge")
    same = {row["_id"]: row["events"] for row in daily.find()} == days
    check(
        "$merge run twice equals the reference; $inc doubles", same and naive == 4_000
    )

    tracker, revenue = EventTracker(env.db), []
    for late in (False, True):
        if late:
            tracker.log_event(1, "purchase", timestamp=START, metadata={"price": 10.0})
            processor.summarize_days(START, START + timedelta(days=1))
        revenue.append([row["revenue"] for row in daily.find().sort("_id", 1)])
    show("revenue of a day, and with a late event", f"{revenue[0][0]}, {revenue[1][0]}")
    healed = revenue[1] == [revenue[0][0] + 10, *revenue[0][1:]]
    check("a late event is in once its day is run again", healed)

    spent = Counter[int]({1: 10})
    for event in events:
        spent[event["user_id"]] += event.get("metadata", {}).get("price", 0)
    people = grouped(
        map(make_user, range(1, 101)), lambda u: f"{u['created_at']:%Y-%m}"
    )
    ids = {month: [user["_id"] for user in users] for month, users in people.items()}
    plain = [
        (k, len(v), sum(i in spent for i in v), sum(spent[i] for i in v))
        for k, v in ids.items()
    ]
    found = [tuple(row.values()) for row in processor.calculate_cohort_metrics()]
    table(("cohort", "users", "active", "revenue"), *found)
    kyiv = timezone(timedelta(hours=3))
    moved = sum(
        u["created_at"].astimezone(kyiv).month != u["created_at"].month
        for v in people.values()
        for u in v
    )
    show("users in another month in Kyiv", moved)
    check(
        "cohorts by UTC equal the reference; Kyiv's would move 10",
        found == plain and moved == 10,
    )

    env.need_server("running totals by $setWindowFields")
    totals = processor.running_revenue()
    show("revenue of the last day, of all days", f"{revenue[1][-1]}, {totals[-1]}")
    same = totals == list(itertools.accumulate(revenue[1])) != revenue[1]
    check("$setWindowFields' running totals equal itertools.accumulate", same)


# %% 6. Geo: metres on a sphere, longitude first


# region geo
class GeoLocationManager:
    """Finds events by where they happened."""

    def __init__(self, db: Database) -> None:
        self.events = db["events"]

    def find_events_near_location(
        self, longitude: float, latitude: float, max_km: float, limit: int = 100
    ) -> list[Document]:
        """Return events within max_km, nearest first, each with its `metres`."""
        near = {
            "near": point(longitude, latitude),
            "maxDistance": max_km * 1_000,
            "distanceField": "metres",
            "key": "geo",  # which index, should there ever be a second
        }
        # $geoNear has to come first, and has no limit of its own.
        return list(self.events.aggregate([{"$geoNear": near}, {"$limit": limit}]))

    def count_events_within(
        self, longitude: float, latitude: float, max_km: float
    ) -> int:
        """Return how many events are within max_km; this needs no index."""
        circle = [[longitude, latitude], max_km / EARTH_KM]
        return self.events.count_documents(
            {"geo": {"$geoWithin": {"$centerSphere": circle}}}
        )


# endregion geo


def haversine(event: Document, radius_km: float = EARTH_KM) -> float:
    """Return the metres from Kyiv to an event (Sinnott, Sky and Telescope 68, 1984)."""
    lon, lat = map(math.radians, event["geo"]["coordinates"])
    lon0, lat0 = map(math.radians, KYIV)
    across = math.cos(lat) * math.cos(lat0) * math.sin((lon - lon0) / 2) ** 2
    half = math.asin(math.sqrt(math.sin((lat - lat0) / 2) ** 2 + across))
    return 2_000 * radius_km * half


@demo
def geo(env: Env) -> None:
    """Geo: distances to 0.1 m, and what swapped coordinates do"""
    events, manager = env.fresh(events=1_000), GeoLocationManager(env.db)
    found = manager.find_events_near_location(*KYIV, max_km=5)
    radii = (EARTH_KM, 6_371)
    off = [max(abs(row["metres"] - haversine(row, r)) for row in found) for r in radii]
    show("metres off with R = 6371 km", f"up to {off[1]:.1f}")
    check(
        "metres equal haversine's with R = 6378.1 km to 0.1",
        off[0] < 0.1 and off[1] > 1,
    )
    inside = sorted((e for e in events if haversine(e) <= 5_000), key=haversine)
    flat = sum(math.dist(e["geo"]["coordinates"], KYIV) <= 5 / 111 for e in events)
    show("events within 5 km, 5/111 degrees", f"{len(inside)}, {flat}")
    same = [row["_id"] for row in found] == [event["_id"] for event in inside]
    check("$geoNear equals brute force; degrees miss some", same and len(inside) > flat)
    swapped = {"type": "Point", "coordinates": [KYIV[1], KYIV[0]]}
    silent, caught = verdict(env.db["events"], SOUND | {"geo": swapped}), ""
    try:
        point(KYIV[1], KYIV[0])
    except ValueError as error:
        caught = str(error)
    show("Kyiv swapped, for the server", silent)
    show("Kyiv swapped, for point()", caught)
    check("point() refuses swapped coordinates", silent == "accepted" and caught != "")
    env.need_server("$geoWithin count the same events")
    within = manager.count_events_within(*KYIV, 5)
    check(
        "$geoWithin equals brute force; degrees do not", within == len(inside) != flat
    )


# %% 7. Export: pages by key, a file that is its own checkpoint


class Crash(Exception):
    """Stands for a process that ends in the middle of its work."""


def crash_at_1000(written: int) -> None:
    """End an export after two pages of 500."""
    if written == 1_000:
        raise Crash


def export_naive(db: Database, path: Path, on_page: Callable[[int], object]) -> None:
    """Append page by page; unlike ours, from the start each time."""
    for start in range(0, 2_000, PAGE):
        with path.open("ab") as file:
            file.write(DataProcessor(db)._page({"_id": {"$gt": start}}, PAGE))
        on_page(start + PAGE)


@demo
def export(env: Env) -> None:
    """Export: killed half-way and resumed, every document is there once"""
    env.fresh(events=2_000)
    ours = DataProcessor(env.db).export_data_for_analysis
    with tempfile.TemporaryDirectory(prefix="module8-export-") as folder:
        naive, path = Path(folder, "naive"), Path(folder, "ours")
        for on_page in (crash_at_1000, id):
            with suppress(Crash):
                export_naive(env.db, naive, on_page)
        with suppress(Crash):
            ours(path, on_page=crash_at_1000)
        with path.open("ab") as file:
            file.write(bson.encode(SOUND)[:-7])  # it died in the middle of a document
        resumed, data = ours(path), path.read_bytes()
        doubled = len(bson.decode_all(naive.read_bytes(), RAW))
        tracemalloc.start()
        ours(Path(folder, "again"))
        pages = tracemalloc.get_traced_memory()[1]
        listed = list(env.db["events"].find())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    ids = [row["_id"] for row in bson.decode_all(data, RAW)]
    show("documents after a crash at 1,000", f"{doubled} restarted, {len(ids)} resumed")
    once = ids == list(range(1, 2_001)) and resumed == 1_000
    check(
        "resumed, each of 2,000 is there once; restarted, 1,000 twice",
        once and doubled == 3_000,
    )
    aside(f"peak memory: {pages / 1e3:.0f} KB by pages, {peak / 1e3:.0f} KB as a list")
    check(
        "pages take less than half the memory of a list",
        pages < peak / 2 and len(listed) == 2_000,
    )
    ms = []
    for codec in (CODEC, RAW):  # in CPU time, so that busy neighbours do not count
        decode = functools.partial(bson.decode_all, data * 5, codec)
        ms.append(1_000 * min(timeit.repeat(decode, timer=time.process_time, number=1)))
    aside(f"decoding 10,000 documents: {ms[0]:.0f} ms to dict, {ms[1]:.0f} to RawBSON")
    check(
        "RawBSONDocument decodes at least 5 times faster than dict", ms[0] > 5 * ms[1]
    )


# %% 8. Injection: a value that is an operator


# region injection
def plain_fields(body: object, allowed: Iterable[str]) -> Document:
    """Return a client's JSON object of plain values in allowed fields.

    Raises ValueError for all else: operators such as {"$ne": null}, pipelines (lists),
    names with $ or dots, fields that the client has no business with.
    """
    if not isinstance(body, dict) or not body.keys() <= set(allowed):
        raise ValueError("refused: no object of allowed fields")
    if not all(isinstance(value, str | int | float | bool) for value in body.values()):
        raise ValueError("refused: no plain value")
    return body


def log_in(users: Collection, body: object) -> Document | None:
    """Return the user with this name and this token (in life: its hash), or None."""
    given = plain_fields(body, ("username", "token"))
    # $eq is the second wall: what comes through the first is compared, never obeyed.
    return users.find_one(
        {key: {"$eq": given.get(key)} for key in ("username", "token")}
    )


def change_settings(users: Collection, body: object) -> None:
    """Change what users may change themselves, by an update that we have built."""
    users.update_one({"username": "bob"}, {"$set": plain_fields(body, ["city"])})


def search_names(users: Collection, text: str) -> list[Document]:
    """Return the users whose names begin with a text, which is no pattern."""
    return list(users.find({"username": {"$regex": "^" + re.escape(text[:50])}}))


# endregion injection


def log_in_naive(users: Collection, body: Any) -> Document | None:
    """Look up what the client has sent; PyMongo escapes nothing."""
    return users.find_one({"username": body["username"], "token": body["token"]})


def change_naive(users: Collection, body: Any) -> None:
    """Apply what the client has sent: a list is a pipeline, a $set takes any field."""
    users.update_one({"username": "bob"}, body)


ATTACKS: tuple[tuple[str, Callable[..., Any], Callable[..., Any]], ...] = (
    ('{"username": "admin", "token": {"$ne": null}}', log_in_naive, log_in),
    ('{"username": {"$gt": ""}, "token": {"$regex": "^"}}', log_in_naive, log_in),
    ('[{"$set": {"role": "admin"}}]', change_naive, change_settings),
    ('{"$set": {"role": "admin", "rights.billing": 1}}', change_naive, change_settings),
)


def outcome(users: Collection, attack: Callable[..., Any], text: str) -> str:
    """Return what an attacker gets for a JSON text: a login, a role, or a refusal."""
    users.delete_many({})
    users.insert_many(
        [{"username": n, "token": n[::-1], "role": n} for n in ("admin", "bob")]
    )
    try:
        user = attack(users, json.loads(text))
    except ValueError as error:
        return str(error)
    roles = [user["role"] for user in users.find({"username": "bob"})]
    return f"in as {user['username']}" if user else f"bob is {roles[0]}"


@demo
def injection(env: Env) -> None:
    """Injection: a JSON body with an operator logs in, unless values stay values"""
    env.fresh()
    users, rows = env.db["logins"], []
    for text, naive, ours in ATTACKS:
        rows.append((text, outcome(users, naive, text), outcome(users, ours, text)))
    table(("body", "naive", "defended"), *rows)
    won = {row[1] for row in rows} == {"in as admin", "bob is admin"}
    check(
        "operators and pipelines win where naive, not where defended",
        won and {row[2][:7] for row in rows} == {"refused"},
    )
    honest = outcome(users, log_in, '{"username": "admin", "token": "nimda"}')
    naive_hits = users.count_documents({"username": {"$regex": "^.*"}})
    hits = [len(search_names(users, text)) for text in (".*", "adm")]
    show('names that begin with ".*"', f"{naive_hits} as a pattern, {hits[0]} as text")
    check(
        "honest logins and searches work; .* lists nobody",
        (honest, naive_hits, hits) == ("in as admin", 2, [0, 1]),
    )


# %% 9. Plans: what an index saves


def examined(cursor: Any) -> tuple[str, int, int, int]:
    """Return a query's scan, and how many keys and documents it reads and returns."""
    plan = cursor.explain()
    stats = plan["executionStats"]
    scans = re.findall("IXSCAN|COLLSCAN", str(plan["queryPlanner"]["winningPlan"]))
    read = stats["totalKeysExamined"], stats["totalDocsExamined"]
    return scans[0], *read, stats["nReturned"]


@demo
def plans(env: Env) -> None:
    """Plans: what is returned is read, or all there is"""
    count = sum(event["user_id"] == 7 for event in env.fresh(events=1_000))
    env.need_server("COLLSCAN read all documents and IXSCAN those it returns")
    query = env.db["events"].find({"user_id": 7})
    scans = examined(query.clone().hint([("$natural", 1)])), examined(query)
    table(("scan", "keys", "documents", "returned"), *scans)
    exact = scans == (("COLLSCAN", 0, 1_000, count), ("IXSCAN", count, count, count))
    check("with the index only what is returned is read, else all 1,000", exact)
    if not env.mongodb:
        raise Skip(
            "SecantusDB plans as it likes: that ESR spares a sort is not asserted"
        )
    env.db["events"].create_index([ESR[0], ESR[2], ESR[1]], name="ers")
    dear = env.db["events"].find(
        {"event_type": "purchase", "metadata.price": {"$gte": 100}}
    )
    found = [
        dear.clone().sort("timestamp", -1).hint(n).explain() for n in ("ers", "esr")
    ]
    sorts = ["'SORT'" in str(plan["queryPlanner"]["winningPlan"]) for plan in found]
    check(
        "in the order equality, sort, range nothing is sorted in memory",
        sorts == [True, False],
    )


# %% 10. Concurrency: one winner, and no money lost


def race(work: Callable[[], object], workers: int = 16) -> None:
    """Run the work in as many threads at the same moment; raise what one raises."""
    start = threading.Barrier(workers, timeout=10)

    def run(_: int) -> None:
        start.wait()
        work()

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(run, range(workers)))


# region upsert
def count_visit(pages: Collection, name: str) -> None:
    """Count a visit; `name` has a unique index, or two upserts may insert twice."""
    change = {"$inc": {"visits": 1}}
    try:
        pages.update_one({"name": name}, change, upsert=True)
    except err.DuplicateKeyError:  # inserted between our look and our insert
        pages.update_one({"name": name}, change, upsert=True)


# endregion upsert


@demo
def concurrency(env: Env) -> None:
    """Concurrency: 16 threads at once, one document, and the sum of money stays"""
    env.fresh(users=1)
    users, pages, naive = (env.db[name] for name in ("users", "pages", "naive"))
    pages.create_index("name", unique=True)
    looked = threading.Barrier(16, timeout=10)

    def look_then_write() -> None:
        page, user = naive.find_one({"name": "home"}), users.find_one({"_id": 1})
        looked.wait()
        if not page:
            naive.insert_one({"name": "home"})
        if user and not user["subscriptions"]:
            users.update_one({"_id": 1}, {"$push": {"subscriptions": {"plan": "free"}}})

    race(look_then_write)
    race(lambda: count_visit(pages, "home"))
    race(lambda: UserManager(env.db).add_subscription(1, "pro", START))
    plans = Counter(
        row["plan"] for user in users.find() for row in user["subscriptions"]
    )
    counts = naive.count_documents({}), pages.count_documents({})
    header = ("after 16 at once", "look, then write", "one command")
    table(header, ("pages", *counts), ("subscriptions", plans["free"], plans["pro"]))
    visits = [page["visits"] for page in pages.find()]
    check("16 upserts leave 1 page with 16 visits", (counts, visits) == ((16, 1), [16]))
    check("16 clicks subscribe once", plans == {"free": 16, "pro": 1})
    env.need_server("a sum kept by transactions; write skew and its cure")
    transfers(env.db)
    left = [on_call(env.db, shared) for shared in (False, True)]
    show(
        "on call after two asked off at once",
        f"{left[0]}; with a shared write {left[1]}",
    )
    check("write skew leaves nobody on call, a shared write leaves one", left == [0, 1])


# region transfer
def move(
    db: Database, giver: int, taker: int, crash: bool, session: Any = None
) -> None:
    """Move a euro and record it: three writes, which are one only in a session."""
    db["accounts"].update_one({"_id": giver}, {"$inc": {"euro": -1}}, session=session)
    if crash:
        raise Crash
    db["accounts"].update_one({"_id": taker}, {"$inc": {"euro": 1}}, session=session)
    db["moves"].insert_one({"giver": giver, "taker": taker}, session=session)


def transfer(db: Database, giver: int, taker: int, crash: bool = False) -> None:
    """Move a euro, all or nothing; after a conflict the callback is run again."""
    with db.client.start_session() as session:
        session.with_transaction(lambda s: move(db, giver, taker, crash, s))


# endregion transfer


def transfers(db: Database) -> None:
    """Crash in a transfer, then race 80; the money has to be there still."""
    accounts, moves = db.create_collection("accounts"), db.create_collection("moves")
    accounts.insert_many([{"_id": number, "euro": 100} for number in range(4)])
    sums = []
    for way in (transfer, move):
        with suppress(Crash):
            way(db, 0, 1, crash=True)
        sums.append(sum(account["euro"] for account in accounts.find()))

    def ten() -> None:
        for number in range(10):
            transfer(db, number % 4, (number + 1) % 4)

    race(ten, 8)
    total, done = sum(a["euro"] for a in accounts.find()), moves.count_documents({})
    show(
        "of 400 euro after a crash half-way",
        f"{sums[0]}; without a transaction {sums[1]}",
    )
    show("after 80 transfers by 8 threads", f"{total}, {done} recorded")
    kept = (sums, total, done) == ([400, 399], 399, 80)
    check("transactions keep the sum; without, a crash loses a euro", kept)


def on_call(db: Database, shared: bool) -> int:
    """Let two doctors go if another stays, in step; return how many are on call."""
    doctors = db[f"doctors{shared}"]
    doctors.insert_many(
        [{"_id": n, "on_call": n != "rota"} for n in ("ann", "bob", "rota")]
    )

    def ask(session: Any, name: str) -> None:
        if doctors.count_documents({"on_call": True}, session=session) > 1:
            if shared:  # snapshots conflict only where both write the same document
                doctors.update_one({"_id": "rota"}, {"$inc": {"n": 1}}, session=session)
            doctors.update_one(
                {"_id": name}, {"$set": {"on_call": False}}, session=session
            )

    with db.client.start_session() as ann, db.client.start_session() as bob:
        ann.start_transaction()
        bob.start_transaction()
        ask(ann, "ann")
        try:
            ask(bob, "bob")
            ann.commit_transaction()
            bob.commit_transaction()
        except err.OperationFailure:  # TransientTransactionError: again from the start
            bob.abort_transaction()
            ann.commit_transaction()
            bob.with_transaction(lambda session: ask(session, "bob"))
    return doctors.count_documents({"on_call": True})


# %% 11. Reliability: a silent server, a lost connection, a feed taken up again


@demo
def reliability(env: Env) -> None:
    """Reliability: bounded waits, one write per insert, every change delivered once"""
    mute = socket.create_server(("127.0.0.1", 0))  # it accepts, and says nothing
    url = f"mongodb://127.0.0.1:{mute.getsockname()[1]}/"
    with (
        ThreadPoolExecutor() as pool,
        pymongo.MongoClient[Document](url) as naive,
        connect(url, env.commands, timeoutMS=200) as ours,
        mute,  # closed first, which ends the naive wait
    ):
        waits = [pool.submit(c.admin.command, "ping") for c in (naive, ours)]
        failure = type(waits[1].exception(5)).__name__
        still = not waits[0].done()
    show("a mute server, PyMongo's defaults", "still waiting" if still else "gave up")
    show("a mute server, timeoutMS=200", failure)
    check(
        "timeoutMS ends a wait that the defaults go on with",
        still and failure[-12:] == "TimeoutError",
    )
    show("write and read concern", f"{OPTIONS['w']}, {OPTIONS['readConcernLevel']}")
    env.need_server("a feed taken up again, and an insert sent twice but stored once")
    feed_resumed(env.db.create_collection("feed"))
    retried(env)


def feed_resumed(feed: Collection) -> None:
    """Read one change, stop, and go on behind it."""
    # region feed
    with feed.watch() as stream:
        feed.insert_many([{"_id": 1}, {"_id": 2}])
        first = stream.next()["documentKey"]["_id"]
        token = stream.resume_token  # to be stored once the change has had its effect
    feed.insert_one({"_id": 3})
    with feed.watch(resume_after=token) as stream, feed.watch() as anew:
        feed.insert_one({"_id": 4})
        resumed = [stream.next()["documentKey"]["_id"] for _ in range(3)]
        missed = anew.next()["documentKey"]["_id"]
    # endregion feed
    show("changes after the first", f"{resumed} resumed, {[missed]} watched anew")
    right = (first, resumed, missed) == (1, [2, 3, 4], 4)
    check("a stream resumed from its token goes on with 2, a new one with 4", right)


def retried(env: Env) -> None:
    """Drop the connection in the middle of an insert, without and with retryWrites."""
    outcomes, orders = [], env.db["orders"]
    for retry in (False, True):
        commands, app = CommandCounter(), f"module8-{uuid.uuid4().hex[:8]}"
        data = {"failCommands": ["insert"], "closeConnection": True, "appName": app}
        fault = {
            "configureFailPoint": "failCommand",
            "mode": {"times": 1},
            "data": data,
        }
        try:
            env.db.client.admin.command(fault)
        except err.OperationFailure:
            raise Skip(
                "only with enableTestCommands=1 does a server drop an insert"
            ) from None
        client = connect(env.url, commands, appname=app, retryWrites=retry)
        with client, suppress(err.AutoReconnect):
            client[env.db.name]["orders"].insert_one({"_id": retry})
        outcomes.append((commands.sent, orders.count_documents({"_id": retry})))
    header = ("an insert cut off", "sent", "stored")
    table(
        header, ("retryWrites=False", *outcomes[0]), ("retryWrites=True", *outcomes[1])
    )
    check(
        "with retryWrites it is sent twice and stored once",
        outcomes == [(1, 0), (2, 1)],
    )


def main(argv: list[str] | None = None) -> int:
    """Teach, with the options of the command line; return the exit code."""
    return command(Parser(), argv, teach)


if __name__ == "__main__":
    sys.exit(main())
