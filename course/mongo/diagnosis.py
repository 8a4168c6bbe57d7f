"""Why a MongoDB cannot be used: nobody answers, or somebody does, and not like this."""

from __future__ import annotations

import re
import struct
from typing import Any

import bson
from pymongo import errors
from pymongo.read_preferences import ReadPreference

from course.ending import GIVEN_UP_BY_PYMONGO, with_kind
from course.errors import BadInput, NoService
from course.listeners import (
    TLS_ANSWERS,
    WANTS_TLS,
    answer_to,
    listener_at,
    tls_complaint,
)
from course.services import redact
from course.urls import Host, ServiceUrl

# What PyMongo, or who reads its answer, makes of one that was spoilt on its way, or was
# given by something else.
SENSELESS = (errors.ProtocolError, bson.errors.BSONError, LookupError, TypeError)
NO_ENTRY = (13, 18, 8000)  # unauthorized, no such login, and the same by Atlas
NOT_ALLOWED = 13
# What a network says where no server answers; all else is an answer.
ABSENT = {
    "refused": "connection refused",
    "No such file": "no such socket",
    "not known": "its name does not resolve",
    "No address": "its name does not resolve",
    "getaddrinfo": "its name does not resolve",
    "name resolution": "its name does not resolve",  # no name server can be asked
    "Try again": "its name does not resolve",
    "unreachable": "no way to its network",
    "No route": "no way to its network",
}
CLOSED = "it hangs up: is it a MongoDB, and does it want tls=true?"
LATE = ("timed out", "timeout", GIVEN_UP_BY_PYMONGO)
OP_MSG = 2013
HELLO = bson.encode({"hello": 1, "$db": "admin"})


def options_of(named: ServiceUrl) -> dict[str, str]:
    """Return the options of a URL by their names, in which case does not count."""
    return {name.lower(): value for name, value in named.options.items()}


def asks_for_tls(named: ServiceUrl) -> bool:
    """Tell whether a URL asks for TLS."""
    options = options_of(named)
    usual = "true" if named.scheme.endswith("+srv") else "false"
    return options.get("tls", options.get("ssl", usual)) == "true"


def diagnosis(
    error: Exception,
    source: str,
    limit: float,
    client: Any = None,
    named: ServiceUrl | None = None,
) -> Exception:
    """Return what to raise where a probe failed: NoService, or BadInput.

    Trap: a stand-in in place of a server that answered would hide what is to be mended.
    """
    if isinstance(error, errors.OperationFailure) and not error.timeout:
        return refused_by_server(error, source, named)
    if isinstance(error, errors.ConfigurationError):
        return BadInput(f"{source}: {redact(error)}")
    no_answer = NoService(f"no answer in {limit:g} s")
    if named is None:
        return no_answer
    if isinstance(error, SENSELESS):
        return senseless(error, named)
    return told_by(client, named) or no_answer


def refused_by_server(
    error: errors.OperationFailure, source: str, named: ServiceUrl | None
) -> BadInput:
    """Return the complaint about a server that is there, and answers with an error."""
    place = f" at {named.place}" if named else ""
    problem = f"{source}: MongoDB{place}"
    if error.code in NO_ENTRY:
        right = "check user, password and authSource in the URL"
        return BadInput(
            f"{problem} lets nobody in like this (code {error.code}): {right}"
        )
    return BadInput(f"{problem} says: {words_of_server(error)}")


def words_of_server(error: errors.OperationFailure) -> str:
    """Return what a server has said, without the rest of its answer."""
    return redact(str(error).partition(", full error")[0])


def senseless(error: Exception, named: ServiceUrl) -> BadInput:
    """Return the complaint about an answer that has no sense, from whatever gave it."""
    why = f"what answers makes no sense ({with_kind(error)})"
    return BadInput(f"{named.source}: no MongoDB at {named.place}: {why}")


def told_by(client: Any, named: ServiceUrl) -> Exception | None:
    """Return what the servers of a URL tell, None where all of them are silent."""
    source = named.source
    servers = client.topology_description.server_descriptions()
    if not servers:  # PyMongo forgets those of another set
        wanted = client.options.replica_set_name
        return BadInput(
            f"{source}: the server that answers is not in the replica set {wanted!r}"
        )
    absent = []
    for (host, port), server in servers.items():
        place = Host(host, port or 0).place
        if server.server_type_name != "Unknown":
            return no_member(client, source)
        said = str(server.error or "").removeprefix(f"{host}:{port}: ")
        said = said.partition(" (conf")[0]
        why = next((ABSENT[sign] for sign in ABSENT if sign in said), "")
        if why:
            absent.append(why)
            continue
        is_late = not said or any(sign in said for sign in LATE)
        if not is_late and re.search("SSL|_ssl|certificate", said):
            right = "name its authority with tlsCAFile=FILE"
            return tls_complaint(named, "MongoDB", said, right)
        if is_late:
            said = heard_at(host, port, asks_for_tls(named))
        elif is_closed(said):
            said = heard_at(host, port, asks_for_tls(named)) or CLOSED
        if said:
            return BadInput(f"{source}: no MongoDB at {place}: {redact(said)}")
    return NoService(absent[0]) if len(absent) == len(servers) else None


def is_closed(said: str) -> bool:
    """Tell whether a server has hung up."""
    return "connection closed" in said or "reset by peer" in said


def no_member(client: Any, source: str) -> Exception:
    """Return the complaint about a set that has none of the members that are asked."""
    wanted = client.read_preference
    if wanted != ReadPreference.PRIMARY:
        return BadInput(
            f"{source}: no member answers for readPreference={wanted.mongos_mode}"
        )
    return BadInput(f"{source}: its replica set has no primary")


def heard_at(host: str, port: int | None, tls: bool) -> str:
    """Return what is told by something that is silent to PyMongo, "" if nothing is."""
    if port is None:  # a socket of Unix
        return ""
    if tls:
        answer = answer_to(hello(), host, port)
        if answer and not answer.startswith(TLS_ANSWERS):
            return "it answers without TLS"
    found = listener_at(host, port)
    if tls and found == WANTS_TLS:
        return ""  # what it gets; behind that, it is silent
    return f"{found} answers there" if found else ""


def hello() -> bytes:
    """Return the first message of MongoDB's protocol."""
    body = struct.pack("<IB", 0, 0) + HELLO
    return struct.pack("<iiii", 16 + len(body), 1, 0, OP_MSG) + body
