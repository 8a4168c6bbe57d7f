"""Which PostgreSQL a URL means, and whether it is there."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import exc

from course.errors import BadInput, NoService
from course.listeners import SSL_REQUEST, refuse_another_service
from course.services import ServiceAddress, redact
from course.urls import POSTGRES_FORM, ServiceUrl, service_url


@dataclass(frozen=True)
class PostgresServer:
    """A PostgreSQL that was named; its source begins each complaint."""

    url: sa.URL  # with driver, host and port
    named: ServiceUrl

    @property
    def source(self) -> str:
        """Return "--url" or "DATABASE_URL"."""
        return self.named.source

    @property
    def place(self) -> str:
        """Return its host and port."""
        return self.named.place

    def probe(self) -> None:
        """Ask whether PostgreSQL listens there, without logging in.

        Raises NoService if nothing answers, BadInput if something else does.
        """
        nobody = f"no PostgreSQL at {self.place}"
        try:
            answer = self._answer()
        except TimeoutError:
            refuse_another_service(self.named, "PostgreSQL")
            raise NoService(f"{nobody}: timed out") from None
        except OSError as error:
            raise NoService(f"{nobody}: {error.strerror or error}") from None
        if not answer:
            raise NoService(f"{nobody}: it hangs up")
        if answer not in (b"S", b"N"):
            raise BadInput(f"{self.source}: no PostgreSQL listens at {self.place}")

    def _answer(self) -> bytes:
        address = (self.url.host, self.url.port)
        limit = self.named.connect_limit
        with socket.create_connection(address, limit) as line:
            line.sendall(SSL_REQUEST)
            return line.recv(1)

    def complaint(self, error: exc.DBAPIError) -> BadInput:
        """Return what the server said when it refused us, as one line."""
        # The driver's text ends with the server's own words.
        words = str(error.orig).rpartition("FATAL:")[2].split()
        said = redact(" ".join(words))
        return BadInput(f"{self.source}: PostgreSQL at {self.place}: {said}")


def postgres_server(address: ServiceAddress) -> PostgresServer:
    """Return the server that an address names.

    Raises BadInput, without the text of the URL: what is malformed may be a password.
    """
    found = service_url(address, POSTGRES_FORM)
    if len(found.hosts) > 1 or "host" in found.options or "port" in found.options:
        wrong = f"{found.source}: this lesson takes one host, before the database"
        raise BadInput(f"{wrong}; write {POSTGRES_FORM.example}")
    (host,) = found.hosts
    # Trap: many hosts hand out postgres://, a name that SQLAlchemy does not know.
    spelled = re.sub("^[^:]*:", "postgresql+psycopg:", found.text)
    try:
        url = sa.make_url(spelled).set(host=host.name, port=host.port)
    except (exc.ArgumentError, ValueError) as error:
        wrong = f"{found.source} is not a PostgreSQL URL: {redact(error)}"
        raise BadInput(f"{wrong}; write {POSTGRES_FORM.example}") from None
    return PostgresServer(url, found)


def start_options(url: sa.URL, settings: Mapping[str, object]) -> str:
    """Return the start-up options of a connection: its URL's, then these settings."""
    # The URL's own go first: where two set the same name, the last one wins.
    options = [str(url.query.get("options", ""))]
    for name, value in settings.items():
        options.append(f"-c{name}={value}")
    return " ".join(options)
