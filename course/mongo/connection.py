"""Connecting to MongoDB: finite waits, and what is wrong in one line."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, replace
from typing import Any

import bson.errors
import pymongo
import pymongo.errors
from dns.exception import DNSException
from pymongo import monitoring

from course.errors import BadInput, NoService
from course.listeners import refuse_another_service, tls_complaint
from course.mongo.codec import Document
from course.services import ServiceAddress, redact
from course.urls import MONGO_FORM, ServiceUrl, service_url

VARIABLE = "MONGODB_URI"
OLDEST_SERVER = 5  # from here on, errInfo says which property breaks a validator
PROBE_LIMIT = 1.0  # seconds
NO_ENTRY = (13, 18, 8000)  # unauthorized, no such login, and the same by Atlas
NO_ANSWER = (
    pymongo.errors.ConnectionFailure,
    pymongo.errors.OperationFailure,
    pymongo.errors.ConfigurationError,
)
NO_PROTOCOL = (pymongo.errors.ProtocolError, bson.errors.BSONError)
FOR_EVER = "for ever"
BY_DEFAULT = "as the server says"

# region options
OPTIONS: dict[str, Any] = {
    "timeoutMS": 30_000,  # for a whole operation: finding a server, queue and retry too
    # Trap: the next two do nothing where timeoutMS is set; they are for code that
    # unsets it, which would else wait 30 s for a server and for ever for a connection.
    "serverSelectionTimeoutMS": 1_000,
    "waitQueueTimeoutMS": 5_000,
    "connectTimeoutMS": 1_000,
    "tz_aware": True,
    "uuidRepresentation": "standard",
    "w": "majority",  # what is acknowledged survives the loss of the primary
    "readConcernLevel": "majority",  # and what is read is never rolled back
}
# endregion options


def connect(
    url: str,
    listener: monitoring.CommandListener,
    source: str = VARIABLE,
    **more: Any,
) -> pymongo.MongoClient[Document]:
    """Return a client with finite waits; `source` is who gave the URL.

    Raises BadInput for what is not a valid URI, NoService for a name of mongodb+srv://
    that does not resolve.
    """
    named = service_url(ServiceAddress(url, source, named=True), MONGO_FORM)
    options = OPTIONS | {"event_listeners": [listener]} | more
    for name in {given.lower() for given in named.options}:
        # What the URL says itself wins; PyMongo would take ours.
        options = {ours: options[ours] for ours in options if ours.lower() != name}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # it would ignore an option
            return pymongo.MongoClient(named.text, **options)
    except (pymongo.errors.PyMongoError, ValueError, UserWarning, OSError) as error:
        if isinstance(error.__cause__, DNSException):
            raise NoService("its name does not resolve") from None
        why = redact(error)
        if isinstance(error, OSError):  # whose text does not name the file
            files = [named.options[name] for name in named.options if "File" in name]
            why = f"there is no file {' or '.join(files)}"
        if isinstance(error, UserWarning):  # whose text names no option
            why += f" It has {', '.join(named.options)}."
        problem = f"{source} is not a MongoDB URL: {why}; write {MONGO_FORM.example}"
        raise BadInput(problem) from None


@dataclass(frozen=True)
class Server:
    """A server that has answered."""

    name: str
    is_mongodb: bool  # and not one that speaks its protocol


def probed(
    client: pymongo.MongoClient[Document], source: str, limit: float = PROBE_LIMIT
) -> Server:
    """Ask a server who it is, and whether the database that the URL names is there.

    Raises NoService where nobody answers, BadInput for what the user has to mend.
    """
    try:
        with pymongo.timeout(limit):
            build = client.admin.command("buildInfo")
            listed = client.admin.command("listDatabases", nameOnly=True)
    except NO_ANSWER as error:
        raise diagnosis(error, source, limit) from None
    if build["versionArray"][0] < OLDEST_SERVER:
        raise BadInput(f"MongoDB {build['version']} is too old: 5.0 or later is needed")
    named = client.get_default_database("admin").name
    # Trap: a name with a typing error is no error: the first write creates it.
    if named not in {"admin", *(row["name"] for row in listed["databases"])}:
        right = f"mend the name in {source}, or leave it out"
        raise BadInput(f"no database {named!r} on this server: {right}")
    if "secantusVersion" in build:
        name = f"SecantusDB {build['secantusVersion']}, not MongoDB,"
        return Server(name, is_mongodb=False)
    return Server(f"MongoDB {build['version']}", is_mongodb=True)


def diagnosis(
    error: pymongo.errors.PyMongoError, source: str, limit: float = PROBE_LIMIT
) -> Exception:
    """Return what to raise where a probe failed: NoService, or BadInput."""
    if isinstance(error, pymongo.errors.OperationFailure):
        if error.code in NO_ENTRY:
            problem = f"the server lets nobody in like this (code {error.code})"
            right = "check user, password and authSource in the URL"
            return BadInput(f"{problem}: {right}")
        if not error.timeout:
            return NoService(f"error {error.code}")
    if isinstance(error, pymongo.errors.ConfigurationError):
        return BadInput(f"{source}: {redact(error)}")
    if "refused" in str(error):
        return NoService("connection refused")
    return NoService(f"no answer in {limit:g} s")


def opened(
    url: str, listener: monitoring.CommandListener, address: ServiceAddress
) -> tuple[Any, Server]:
    """Return a client and the server that it talks to; close it where that fails."""
    limit = service_url(replace(address, url=url), MONGO_FORM).connect_limit
    milliseconds = max(round(1000 * limit), OPTIONS["connectTimeoutMS"])
    waits = {"connectTimeoutMS": milliseconds}
    client = connect(url, listener, address.source, **waits)
    try:
        return client, probed(client, address.source, limit)
    except NoService:
        refuse_what_answers(client, service_url(replace(address, url=url), MONGO_FORM))
        client.close()
        raise
    except BaseException:
        client.close()
        raise


def refuse_what_answers(client: pymongo.MongoClient[Document], url: ServiceUrl) -> None:
    """Raise BadInput where something answers that is not MongoDB, or fails at TLS."""
    for server in client.topology_description.server_descriptions().values():
        words = str(server.error or "")
        if re.search("SSL|_ssl|certificate", words):
            reason = words.partition(" (configured")[0]
            right = "name its authority with tlsCAFile=FILE"
            raise tls_complaint(url, "MongoDB", reason, right)
        if isinstance(server.error, NO_PROTOCOL):
            found = f"no MongoDB at {url.place}: what answers there is none"
            raise BadInput(f"{url.source}: {found}")
        if "refused" not in words and "resolve" not in words:
            refuse_another_service(url, "MongoDB")


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
        "read concern": client.read_concern.level or BY_DEFAULT,
    }
