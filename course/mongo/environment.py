"""What the demos of lesson 02 run on: a database of their own, or the stand-in."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import pymongo
from pymongo.errors import ConnectionFailure, OperationFailure

from course.ending import remark
from course.errors import BadInput, NoService, Skip
from course.mongo.codec import Database, Document
from course.mongo.connection import VARIABLE, connect, opened
from course.mongo.counting import CommandCounter
from course.mongo.diagnosis import SENSELESS, senseless, words_of_server
from course.mongo.leftovers import (
    CALL_LIMIT,
    leftovers_on,
    remove_collections,
    remove_database,
)
from course.mongo.private_server import private_server
from course.mongo.seed import make_events, make_users
from course.mongo.workplace import workplace
from course.naming import new_name
from course.services import (
    ServiceAddress,
    accepts_connections,
    address_of,
)
from course.standins.mongodb import StandInDatabase
from course.sweeping import Leftover, sweep, temporary_folders
from course.urls import MONGO_FORM, Host, service_url

ASK_LIMIT = 2  # seconds for a server to answer in the midst of a run
PORT = 27017
DEFAULT_URL = f"mongodb://127.0.0.1:{PORT}/"
EMULATED = (
    "$jsonSchema, unique keys, bulk_write, raw batches, $geoNear, $merge, locks, "
    "command counts"
)


@dataclass
class MongoEnv:
    """What every demo receives: a database of its own, and who answers."""

    backend: str
    live: bool
    db: Database
    commands: CommandCounter
    deploy: Callable[[Database], object]  # creates the collections
    url: str = ""
    mongodb: bool = False  # MongoDB itself, whose planner is held to its manual
    may_change_validators: bool = True
    asking: Any = None  # a client that only asks whether the server is still there

    def ask(self) -> None:
        """Raise PyMongo's error if the server does not answer; a refusal is one."""
        with suppress(OperationFailure):
            self.asking.admin.command("ping")

    def leftovers(self) -> list[Leftover]:
        """Return what runs that were killed have left."""
        return leftovers_on(self.asking) if self.live else []

    def sweep(self, really: bool) -> int:
        """List what killed runs have left, and remove it if asked to."""
        return sweep([*self.leftovers(), *temporary_folders()], really)

    def counted(self, work: Callable[[], object]) -> int:
        """Run the work and return how many commands it took."""
        before = self.commands.sent
        work()
        return self.commands.sent - before

    def fresh(
        self, users: int = 0, events: int = 0, located: bool = False
    ) -> list[Document]:
        """Empty the database, create the collections, fill them; return the events."""
        for name in self.db.list_collection_names():
            self.db.drop_collection(name)
        self.deploy(self.db)
        if users:
            self.db["users"].insert_many(make_users(1, users))
        made = make_events(events, located)
        if made:
            self.db["events"].insert_many(made)
        return made

    def need_server(self, shows: str, replica_set: bool = False) -> None:
        """Skip the rest of a demo where it cannot be shown; say what a server shows."""
        if not self.live:
            raise Skip(f"mongomock cannot; a server shows {shows}")
        hello = self.db.client.admin.command("hello")
        alone = "setName" not in hello and hello.get("msg") != "isdbgrid"
        if replica_set and alone:
            raise Skip(f"no replica set (one member will do), which shows {shows}")

    def need_validators_to_change(self) -> None:
        """Skip a demo where its user may not change validators."""
        if not self.may_change_validators:
            raise Skip("this user may not collMod: the role dbAdmin has it")


class Opening:
    """Opens what a run works on; the stack closes it."""

    def __init__(self, address: ServiceAddress, deploy: Any, stack: ExitStack) -> None:
        self.address = address
        self.deploy = deploy
        self.stack = stack
        self.commands = CommandCounter()

    def named_server(self) -> MongoEnv:
        """Open a database on the server of the URL, dropped at the end."""
        # Asked of the port first, as PyMongo takes a second to give up.
        if not self.address.named and not accepts_connections("127.0.0.1", PORT):
            raise NoService("connection refused")
        return self.server(self.address.url, new_name("_"))

    def own_server(self, why: str) -> MongoEnv:
        """Start a server for this run, with which all data goes."""
        url = None
        # A user who names a server wants that one, and no other in its place.
        if not self.address.named:
            url = self.stack.enter_context(private_server())
        if url is None:
            raise NoService("secantusd-py is not installed")
        env = self.server(url, new_name("_"), goes_with_it=True)
        name = env.backend.split(" at ")[0]
        env.backend = f"{name} for this run ({why})"
        return env

    def server(self, url: str, database: str, goes_with_it: bool = False) -> MongoEnv:
        """Open a database on a server; raise NoService where none answers.

        It is dropped at the end, unless it goes with its server.
        """
        client, server = opened(url, self.commands, self.address)
        try:
            place = workplace(client, database, self.address.source)
        except BaseException as error:
            with suppress(Exception):  # a user may not, or the server is gone
                with pymongo.timeout(CALL_LIMIT):
                    client.drop_database(database)
                database = ""
            client.close()
            raise self.refused(error, database) from None
        places = [Host(host, port or 0).place for host, port in client.nodes]
        backend = f"{server.name} at {', '.join(sorted(places))}"
        reach = partial(connect, url, CommandCounter(), self.address.source)
        if goes_with_it:
            self.stack.enter_context(client)
        elif place.whole:
            self.stack.callback(remove_database, client, database, reach, backend)
        else:
            self.stack.callback(remove_collections, client, place.db, reach, backend)
        asking = reach(serverSelectionTimeoutMS=1000, timeoutMS=1000 * ASK_LIMIT)
        self.stack.callback(asking.close)
        return MongoEnv(
            backend=backend,
            live=True,
            db=place.db,
            may_change_validators=place.may_change_validators,
            commands=self.commands,
            deploy=self.deploy,
            url=url,
            mongodb=server.is_mongodb,
            asking=asking,
        )

    def refused(self, error: BaseException, left: str) -> BaseException:
        """Return what to raise where a database of our own cannot be set up.

        `left` is its name if it may still be there.
        """
        source = self.address.source
        # Such as ?w=5 on three members. Without its message, the answer was spoilt.
        if isinstance(error, OperationFailure) and (error.details or {}).get("errmsg"):
            return BadInput(f"{source}: MongoDB says {words_of_server(error)}")
        if not isinstance(error, (ConnectionFailure, OperationFailure, *SENSELESS)):
            return error
        named = service_url(self.address, MONGO_FORM)
        if left:
            remark(f"on MongoDB at {named.place}, database {left} may be left behind")
        if isinstance(error, ConnectionFailure):
            why = f"MongoDB at {named.place} does not answer any more"
            return BadInput(f"{source}: {why}")
        return senseless(error, named)

    def stand_in(self, why: str) -> MongoEnv:
        """Open mongomock, with its gaps filled."""
        return MongoEnv(
            backend=f"mongomock, in this process ({why}); emulated: {EMULATED}",
            live=False,
            db=cast(Database, StandInDatabase(self.commands)),
            commands=self.commands,
            deploy=self.deploy,
        )

    def best(self, looks_back: bool = False) -> MongoEnv:
        """Open the named server, else one of our own, else the stand-in.

        With --sweep a new server is of no use: nothing has been left on it.
        """
        try:
            return self.named_server()
        except NoService as reason:
            where = service_url(self.address, MONGO_FORM).place
            why = f"no MongoDB at {where}: {reason}; docker compose up -d mongo"
        if looks_back:
            return self.stand_in(why)
        try:
            return self.own_server(why)
        except NoService:
            return self.stand_in(why)


@contextmanager
def open_database(
    args: Namespace, deploy: Callable[[Database], object]
) -> Iterator[MongoEnv]:
    """Open a database of our own where a server answers; drop it at the end."""
    address = address_of(args, VARIABLE, DEFAULT_URL)
    with ExitStack() as stack:
        opening = Opening(address, deploy, stack)
        if args.offline:
            yield opening.stand_in("--offline")
        else:
            yield opening.best(getattr(args, "sweep", False))
