"""Connecting to MongoDB: finite waits, and what is wrong in one line."""

from __future__ import annotations

import socket
import warnings
from dataclasses import dataclass
from typing import Any

import pymongo
import pymongo.errors
from dns.exception import DNSException
from pymongo import monitoring

from course.errors import BadInput, NoService
from course.mongo.codec import Document
from course.mongo.diagnosis import (
    ABSENT,
    NOT_ALLOWED,
    SENSELESS,
    asks_for_tls,
    diagnosis,
    options_of,
)
from course.services import CONNECT_LIMIT, ServiceAddress, redact
from course.urls import MONGO_FORM, ServiceUrl, service_url

VARIABLE = "MONGODB_URI"
OLDEST_SERVER = 5  # from here on, errInfo says which property breaks a validator
FAR_LIMIT = 10.0  # seconds for a server that is reached by TLS
NO_ANSWER = (
    pymongo.errors.ConnectionFailure,
    pymongo.errors.OperationFailure,
    pymongo.errors.ConfigurationError,
    *SENSELESS,
)
FOR_EVER = "for ever"
BY_DEFAULT = "as the server says"

# region options
OPTIONS: dict[str, Any] = {
    "timeoutMS": 30_000,  # for a whole operation, with its waits and retries
    # Trap: the next two do nothing where timeoutMS is set; they are for code that
    # unsets it, and would wait 30 s for a server and for ever for a connection.
    "serverSelectionTimeoutMS": 1_000,
    "waitQueueTimeoutMS": 5_000,
    "connectTimeoutMS": 1_000,
    "tz_aware": True,
    "uuidRepresentation": "standard",
    "w": "majority",  # what is acknowledged survives the loss of the primary
    # MongoDB's majority waits for the journal unless a set is told not to. Such a
    # set, and other servers, acknowledge what a crash then takes back.
    "journal": True,
    "readConcernLevel": "majority",  # and what is read is never rolled back
}
# endregion options
CONNECTING = ("serverSelectionTimeoutMS", "connectTimeoutMS")
# Waits that timeoutMS puts out of force.
PARTIAL = {"serverselectiontimeoutms", "sockettimeoutms", "waitqueuetimeoutms"}
PARTIAL |= {"wtimeoutms"}


def connect(
    url: str,
    listener: monitoring.CommandListener,
    source: str = VARIABLE,
    limit: float = CONNECT_LIMIT,
    **more: Any,
) -> pymongo.MongoClient[Document]:
    """Return a client with finite waits; `source` is who gave the URL.

    What the URL says goes before our defaults. Raises BadInput for what is not a valid
    URI, NoService for a name of mongodb+srv:// that does not resolve.
    """
    named = service_url(ServiceAddress(url, source, True, limit), MONGO_FORM)
    options = defaults_for(named) | {"event_listeners": [listener]} | more
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # it would ignore an option
            return pymongo.MongoClient(named.text, **options)
    except OSError:  # whose text does not name the file
        given = options_of(named)
        files = [given[name] for name in given if "file" in name]
        problem = f"there is no file {redact(' or '.join(files))} that can be read"
        raise BadInput(f"{source}: {problem}") from None
    except (pymongo.errors.PyMongoError, ValueError, KeyError, UserWarning) as error:
        if isinstance(error.__cause__, DNSException):
            raise NoService("its name does not resolve") from None
        why = redact(error)
        if isinstance(error, UserWarning):  # whose text names no option
            why += f" It has {', '.join(named.options)}."
        problem = f"{source} is not a MongoDB URL: {why}; write {MONGO_FORM.example}"
        raise BadInput(problem) from None


def defaults_for(named: ServiceUrl) -> dict[str, Any]:
    """Return our options, without those that a URL sets itself."""
    # Trap: PyMongo takes an argument before what the URL says, without a word.
    options = options_of(named)
    given = options.keys()
    milliseconds = round(1000 * limit_of(named))
    ours = OPTIONS | dict.fromkeys(CONNECTING, milliseconds)
    # Neither goes together with journal=True.
    if "fsync" in given or options.get("w") == "0":
        del ours["journal"]
    if "timeoutms" not in given and not given.isdisjoint(PARTIAL):
        # The parts are to hold, so the whole must not; it bounds each answer instead.
        ours["socketTimeoutMS"] = ours.pop("timeoutMS")
    found = {name: value for name, value in ours.items() if name.lower() not in given}
    return found | {"tz_aware": True}  # our code counts on it


def limit_of(named: ServiceUrl) -> float:
    """Return how many seconds a server may take until it answers."""
    if asks_for_tls(named) and named.connect_limit == CONNECT_LIMIT:
        return FAR_LIMIT  # TLS and a login take some ten round trips
    return named.connect_limit


@dataclass(frozen=True)
class Server:
    """A server that has answered."""

    name: str
    is_mongodb: bool  # and not one that speaks its protocol


def probed(
    client: pymongo.MongoClient[Document],
    source: str,
    named: ServiceUrl | None = None,
) -> Server:
    """Ask a server who it is; `named` is the URL of the client, as it was read.

    Raises NoService where nobody answers, BadInput for what the user has to mend.
    """
    limit = limit_of(named) if named else CONNECT_LIMIT
    try:
        with pymongo.timeout(limit):
            build = client.admin.command("buildInfo")
            # Whoever is not logged in is refused here, and not by the first.
            client.admin.command("listDatabases", nameOnly=True)
        return known_server(build)
    except NO_ANSWER as error:
        is_let_in = named is not None and named.user != ""
        if getattr(error, "code", None) != NOT_ALLOWED or not is_let_in:
            raise diagnosis(error, source, limit, client, named) from None
        return known_server(build)


def known_server(build: Document) -> Server:
    """Return who says this of itself; BadInput if it is too old."""
    if build["versionArray"][0] < OLDEST_SERVER:
        raise BadInput(f"MongoDB {build['version']} is too old: 5.0 or later is needed")
    if "secantusVersion" in build:
        name = f"SecantusDB {build['secantusVersion']}, not MongoDB,"
        return Server(name, is_mongodb=False)
    return Server(f"MongoDB {build['version']}", is_mongodb=True)


def opened(
    url: str, listener: monitoring.CommandListener, address: ServiceAddress
) -> tuple[Any, Server]:
    """Return a client and the server that it talks to; close it where that fails."""
    source = address.source
    given = ServiceAddress(url, source, address.named, address.connect_limit)
    named = service_url(given, MONGO_FORM)
    client = connect(url, listener, source, address.connect_limit)
    try:
        if not client.write_concern.acknowledged:
            problem = "with w=0 nobody knows what became of a write"
            raise BadInput(f"{source}: {problem}; leave it out")
        refuse_absent(named)
        server = probed(client, source, named)
        find_member(client, source, named)
        return client, server
    except BaseException:
        client.close()
        raise


def refuse_absent(named: ServiceUrl) -> None:
    """Raise NoService where every host refuses, or is none: no wait can help.

    PyMongo would try again until its time is over.
    """
    reasons = []
    for host in named.hosts:
        if not host.port or host.name.startswith("/"):
            return  # a name of mongodb+srv://, or a socket
        try:
            place = (host.name, host.port)
            socket.create_connection(place, limit_of(named)).close()
        except OSError as error:
            reasons.append(next((ABSENT[s] for s in ABSENT if s in str(error)), ""))
        else:
            return
        if not reasons[-1]:
            return
    raise NoService(reasons[0])


def find_member(client: Any, source: str, named: ServiceUrl) -> None:
    """Raise BadInput if there is no member for the reads that a URL asks for."""
    how = client.read_preference
    try:
        with pymongo.timeout(limit_of(named)):
            client.admin.command("ping", read_preference=how)
    except NO_ANSWER as error:
        raise diagnosis(error, source, limit_of(named), client, named) from None


def waits_of(client: Any) -> dict[str, object]:
    """Return how many seconds a client waits, by what it waits for."""
    options = client.options
    return {
        "a server": options.server_selection_timeout,
        "connecting": options.pool_options.connect_timeout,
        "a free connection": options.pool_options.wait_queue_timeout or FOR_EVER,
        "a whole operation": options.timeout or FOR_EVER,
    }


def concerns_of(client: Any) -> dict[str, object]:
    """Return when a client's writes count as done, and what it may read."""
    return {
        "acknowledged by": client.write_concern.document.get("w", BY_DEFAULT),
        "in the journal": client.write_concern.document.get("j", BY_DEFAULT),
        "read concern": client.read_concern.level or BY_DEFAULT,
    }
