"""Where the broker is, and whether it lets us in."""

from __future__ import annotations

import argparse
import copy
import socket
import ssl
from typing import Any

import pika
from pika import exceptions

from course.amqp.internals import (
    CONNECTION_LOST,
    broker_words,
    is_limit,
    refused,
    server_properties,
)
from course.errors import BadInput, NoService
from course.listeners import is_rabbitmq, refuse_another_service, tls_complaint
from course.services import ServiceAddress, address_of, redact
from course.urls import AMQP_FORM, LONGEST_WAIT, ServiceUrl, service_url

AUTHORITY = "SSL_CERT_FILE names an authority of your own"
DEFAULT_URL = "amqp://guest:guest@127.0.0.1:5672/%2F"
LONGEST_HEARTBEAT = 65_535  # seconds, for AMQP
IO_LIMIT = 10.0  # seconds that a connection may take to open, later on
USUAL = {  # what a URL may say otherwise
    "socket_timeout": IO_LIMIT,
    "stack_timeout": IO_LIMIT,
    "connection_attempts": 1,
    "blocked_connection_timeout": 60,
}


def parameters_of(url: str, source: str = "RABBITMQ_URL") -> Any:
    """Return pika's parameters for a URL.

    Raises:
        BadInput: it is not one. It blames `source`, the option or variable that named
            it, and repeats nothing: a password may stand anywhere in it.
    """
    named = service_url(ServiceAddress(url, source, named=True), AMQP_FORM)
    try:
        parameters = pika.URLParameters(named.text)
    except OSError:
        raise BadInput(f"{source}: a file of ssl_options can't be read") from None
    except Exception as error:  # what it reads as Python may be anything
        raise no_such_url(source, error) from None
    if not 0 <= (parameters.heartbeat or 0) <= LONGEST_HEARTBEAT:
        limits = f"0 to {LONGEST_HEARTBEAT} seconds"
        raise BadInput(f"{source}: heartbeat is {limits}")
    for name, value in USUAL.items():
        if name not in named.options:
            setattr(parameters, name, value)
    tries = parameters.connection_attempts
    if tries > 1 and not tries * parameters.retry_delay <= LONGEST_WAIT:
        how = "connection_attempts times retry_delay"
        raise BadInput(f"{source}: {how} is more than {LONGEST_WAIT:g} seconds")
    return parameters


def by_another_way(parameters: Any, host: str, port: int) -> Any:
    """Return parameters for the same broker where a network of ours leads to it."""
    around = copy.copy(parameters)
    secure = parameters.ssl_options
    if secure and secure.server_hostname is None:
        # Trap: a certificate is for the broker's name, not for where the way begins.
        around.ssl_options = pika.SSLOptions(secure.context, parameters.host)
    around.host = host
    around.port = port
    return around


def probing(parameters: Any, named: ServiceUrl) -> Any:
    """Return parameters with which nobody's absence takes long to see."""
    probe = copy.copy(parameters)
    if "socket_timeout" not in named.options:
        probe.socket_timeout = named.connect_limit
    if "stack_timeout" not in named.options:
        probe.stack_timeout = named.connect_limit
    return probe


def broker_of(args: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """Return the parameters of a broker that answers, and what it says of itself.

    Raises:
        NoService: nothing answers there.
        BadInput: what answers does not let us in, or has no valid certificate.
    """
    address = address_of(args, "RABBITMQ_URL", DEFAULT_URL)
    parameters = parameters_of(address.url, address.source)
    named = service_url(address, AMQP_FORM)
    where = named.place
    try:
        probe = probing(parameters, named)
        with pika.BlockingConnection(probe) as connection:
            about = server_properties(connection)
    except ssl.SSLError as error:
        why = getattr(error, "verify_message", error.reason)
        raise tls_complaint(named, "RabbitMQ", why, AUTHORITY) from None
    except UnicodeError:  # of a host that no name server could be asked for
        raise BadInput(f"{address.source}: its host is not a name") from None
    except CONNECTION_LOST as error:
        if refused(error):
            raise BadInput(refusal(named, parameters, error)) from None
        if is_limit(error):
            reason = f"{address.source}: {where}: {broker_words(error)}"
            raise BadInput(reason) from None
        if "SSL" in str(error):
            raise tls_complaint(named, "RabbitMQ", error, AUTHORITY) from None
        if not isinstance(error, exceptions.AMQPConnectionError | socket.gaierror) or (
            isinstance(error, exceptions.IncompatibleProtocolError)
        ):
            refuse_another_service(named, "RabbitMQ")
        refuse_what_it_minds(named, error)
        hint = "docker compose up -d rabbitmq starts one"
        raise NoService(f"no RabbitMQ at {where}; {hint}") from None
    except Exception as error:  # what pika can't send, or set, may be anything
        raise no_such_url(address.source, error) from None
    return parameters, about


def refuse_what_it_minds(named: ServiceUrl, error: Exception) -> None:
    """Raise BadInput where RabbitMQ is there, and hangs up on what a URL asks for."""
    is_away = any(words in repr(error) for words in ("refused", "Timeout", "timed out"))
    place = named.hosts[0]
    if is_away or isinstance(error, socket.gaierror):
        return
    if is_rabbitmq(place.reached, place.port):
        # Without pika's words, in which all that was to be sent may stand.
        why = f"answers, but not to these options: {type(error).__name__}"
        raise BadInput(f"{named.source}: RabbitMQ at {named.place} {why}")


def no_such_url(source: str, error: Exception) -> BadInput:
    """Return what to say of a URL that pika takes for none."""
    wrong = f"{source} is not a RabbitMQ URL: pika says: {redact(error)}"
    return BadInput(f"{wrong}; write {AMQP_FORM.example}")


def refusal(named: ServiceUrl, parameters: Any, error: Exception) -> str:
    """Return which part of a URL the broker refused."""
    what = f"access to {parameters.virtual_host!r}"
    if isinstance(error, exceptions.ProbableAuthenticationError):
        what = "user or password"
    elif "limit" in str(error):
        what = "a connection more than its limit"
    return f"{named.source}: {named.place}: {what} refused"
