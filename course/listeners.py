"""Who listens at an address, where it is not the service that its URL names.

A server that is silent, or hangs up, may be frozen, or may be one of another kind that
does not understand what it was told. Most of these answer a line of text.
"""

from __future__ import annotations

import socket
import ssl
import struct
from contextlib import suppress

from course.errors import BadInput
from course.services import redact
from course.urls import ServiceUrl

GREETING_LIMIT = 0.25  # seconds; what understands a greeting answers at once
PATIENT_LIMIT = 3.0  # seconds, of what has answered once: it may be busy, or far away
# PostgreSQL answers this before any login, with S or N:
# https://www.postgresql.org/docs/current/protocol-flow.html
SSL_REQUEST = struct.pack("!ii", 8, 80877103)
WANTS_TLS = "a server that wants TLS"
TLS_ANSWERS = (b"\x16\x03", b"\x15\x03")  # a handshake, or an alert
BEGINNINGS = {
    b"+PONG": "Redis",
    b"-": "Redis",
    b"AMQP": "RabbitMQ",
    b"HTTP": "a web server",
    b"\x15\x03": WANTS_TLS,
}


def answer_to(
    greeting: bytes, host: str, port: int, limit: float = GREETING_LIMIT
) -> bytes:
    """Return how what listens there begins its answer; nothing if it says nothing."""
    try:
        with socket.create_connection((host, port), limit) as line:
            line.sendall(greeting)
            return line.recv(8)
    except (OSError, UnicodeError):
        return b""


def listener_at(host: str, port: int) -> str:
    """Return what listens there, by its answers; nothing if none tells."""
    answer = answer_to(b"PING\r\n", host, port)
    for beginning, name in BEGINNINGS.items():
        if answer.startswith(beginning):
            return name
    if answer:
        return "another kind of server"
    answer = answer_to(SSL_REQUEST, host, port)
    if answer in (b"S", b"N"):
        return "PostgreSQL"
    if answer.startswith(b"AMQP"):  # it has waited for as many bytes as these
        return "RabbitMQ"
    # Some hang up on a greeting without TLS, and say nothing.
    if answer_to(hello_of_tls(), host, port).startswith(TLS_ANSWERS):
        return WANTS_TLS
    return ""


def is_redis(host: str, port: int) -> bool:
    """Tell whether what has answered there is a Redis."""
    answer = answer_to(b"PING\r\n", host, port, PATIENT_LIMIT)
    return answer.startswith((b"+PONG", b"-"))


def is_rabbitmq(host: str, port: int) -> bool:
    """Tell whether what has answered there is a RabbitMQ."""
    return answer_to(SSL_REQUEST, host, port, PATIENT_LIMIT).startswith(b"AMQP")


def hello_of_tls() -> bytes:
    """Return how a client of TLS begins."""
    incoming = ssl.MemoryBIO()
    outgoing = ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # nothing but the first bytes is looked at
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


def refuse_another_service(url: ServiceUrl, service: str) -> None:
    """Raise BadInput where something answers at a URL that is not this service."""
    for host in url.hosts:
        if host.name.startswith("/") or not host.port:
            continue
        found = listener_at(host.reached, host.port)
        if found == WANTS_TLS and url.scheme in ("amqps", "rediss"):
            continue  # what it gets; behind that, it is silent
        if found and found != service:
            place = f"at {host.place}"
            raise BadInput(f"{url.source}: no {service} {place}: {found} answers there")


def tls_complaint(url: ServiceUrl, service: str, words: object, right: str) -> BadInput:
    """Return what to say where TLS fails; never on without: that is a downgrade."""
    said = redact(words).rstrip(".")
    problem = f"{url.source}: no TLS with {service} at {url.place}: {said}"
    reason = "does it want a certificate of yours?"
    if "verif" in said or "expired" in said or "match" in said or "signed" in said:
        reason = "its certificate is not trusted;"
    return BadInput(f"{problem}; {reason} {right}")
