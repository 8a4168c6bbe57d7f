"""Where the broker is, and whether it lets us in."""

from __future__ import annotations

import argparse
import copy
import ssl
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pika
from pika import exceptions

from course.amqp.internals import (
    CONNECTION_LOST,
    is_limit,
    refused,
    server_properties,
    words_of,
)
from course.errors import BadInput, NoService
from course.services import ServiceAddress, address_of, redact

DEFAULT_URL = "amqp://guest:guest@127.0.0.1:5672/%2F"
PROBE_LIMIT = 1.0  # seconds until nobody is there
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
    try:
        if not url.startswith(("amqp://", "amqps://")):
            raise ValueError("scheme")
        parameters = pika.URLParameters(url)
    except (ValueError, TypeError, KeyError, SyntaxError):
        raise BadInput(f"{source} is not a URL like {redact(DEFAULT_URL)}") from None
    except OSError:
        raise BadInput(f"{source}: a file of ssl_options can't be read") from None
    if urlsplit(url).path.count("/") > 1:
        hint = "a / in a vhost's name is written %2F, as in"
        raise BadInput(f"{source}: {hint} {redact(DEFAULT_URL)}")
    given = options_of(url)
    for name, value in USUAL.items():
        if name not in given:
            setattr(parameters, name, value)
    return parameters


def options_of(url: str) -> set[str]:
    """Return the names of the options that a URL gives."""
    return set(parse_qs(urlsplit(url).query))


def probing(parameters: Any, url: str, limit: float) -> Any:
    """Return parameters with which nobody's absence takes long to see."""
    probe = copy.copy(parameters)
    given = options_of(url)
    if not given & {"socket_timeout", "stack_timeout"}:
        probe.socket_timeout = limit
        probe.stack_timeout = limit
    elif "stack_timeout" not in given:
        probe.stack_timeout = parameters.socket_timeout
    return probe


def broker_of(args: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """Return the parameters of a broker that answers, and what it says of itself.

    Raises:
        NoService: nothing answers there.
        BadInput: what answers does not let us in, or has no valid certificate.
    """
    address = address_of(args, "RABBITMQ_URL", DEFAULT_URL)
    parameters = parameters_of(address.url, address.source)
    where = f"{parameters.host}:{parameters.port}"
    limit = getattr(args, "connect_timeout", None) or PROBE_LIMIT
    try:
        probe = probing(parameters, address.url, limit)
        with pika.BlockingConnection(probe) as connection:
            about = server_properties(connection)
    except ssl.SSLError as error:  # never on without: that would be a downgrade
        why = getattr(error, "verify_message", error.reason)
        hint = "SSL_CERT_FILE names an authority of your own"
        raise BadInput(f"{address.source}: {where}: no TLS: {why}; {hint}") from None
    except UnicodeError:  # of a host that no name server could be asked for
        raise BadInput(f"{address.source}: its host is not a name") from None
    except CONNECTION_LOST as error:
        if refused(error):
            raise BadInput(refusal(address, parameters, error)) from None
        if is_limit(error):
            reason = f"{address.source}: {where}: {words_of(error)}"
            raise BadInput(reason) from None
        hint = "docker compose up -d rabbitmq starts one"
        raise NoService(f"no RabbitMQ at {where}; {hint}") from None
    return parameters, about


def refusal(address: ServiceAddress, parameters: Any, error: Exception) -> str:
    """Return which part of a URL the broker refused."""
    what = f"access to {parameters.virtual_host!r}"
    if isinstance(error, exceptions.ProbableAuthenticationError):
        what = "user or password"
    where = f"{parameters.host}:{parameters.port}"
    return f"{address.source}: {where}: {what} refused"
