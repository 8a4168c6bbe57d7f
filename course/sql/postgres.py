"""Which PostgreSQL a URL means, and whether it is there."""

from __future__ import annotations

import re
import socket
import struct
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import exc

from course.errors import BadInput, NoService
from course.services import ServiceAddress

PROBE_LIMIT = 1.0  # seconds for a server to answer before SQLite takes over
POSTGRES_PORT = 5432
POSTGRES_EXAMPLE = (
    "postgresql://user:password@host:5432/database, a password's @ as %40"
)
# A server answers this before any login, with S or N:
# https://www.postgresql.org/docs/current/protocol-flow.html
SSL_REQUEST = struct.pack("!ii", 8, 80877103)


@dataclass(frozen=True)
class PostgresServer:
    """A PostgreSQL that was named; `source`, which named it, begins each complaint."""

    url: sa.URL  # with driver, host and port
    source: str  # "--url" or "DATABASE_URL"

    @property
    def place(self) -> str:
        """Return its host and port."""
        return f"{self.url.host}:{self.url.port}"

    def probe(self) -> None:
        """Ask whether PostgreSQL listens there, without logging in.

        Raises NoService if nothing answers, BadInput if something else does.
        """
        nobody = f"no PostgreSQL at {self.place}"
        try:
            answer = self._answer()
        except OSError as error:
            raise NoService(f"{nobody}: {error.strerror or error}") from None
        if not answer:
            raise NoService(f"{nobody}: it hangs up")
        if answer not in (b"S", b"N"):
            raise BadInput(f"{self.source}: no PostgreSQL listens at {self.place}")

    def _answer(self) -> bytes:
        address = (self.url.host, self.url.port)
        with socket.create_connection(address, PROBE_LIMIT) as line:
            line.sendall(SSL_REQUEST)
            return line.recv(1)

    def complaint(self, error: exc.DBAPIError, more: str = "") -> BadInput:
        """Return what the server said when it refused us, as one line."""
        said = f"PostgreSQL at {self.place}: {words_of(error)}"
        return BadInput(f"{self.source}: {said}{more}")


def words_of(error: exc.DBAPIError) -> str:
    """Return what the server or the driver said about an error, as one line."""
    # The driver's text ends with the server's own words, which quote no password.
    return " ".join(str(error.orig).rpartition("FATAL:")[2].split())


def sqlstate_of(error: exc.DBAPIError) -> str | None:
    """Return the code that the server gave an error; None if it gave no answer."""
    state: str | None = getattr(error.orig, "sqlstate", None)
    if state is None and "too many connections" in str(error.orig):
        return "53300"  # psycopg keeps no code of what it meets when it connects
    return state


def parsed(url: str) -> sa.URL | None:
    """Return a URL for psycopg, or None if it is malformed."""
    # Trap: many hosts hand out postgres://, a name that SQLAlchemy does not know.
    spelled = re.sub("^postgres(ql)?:", "postgresql+psycopg:", url)
    try:
        found = sa.make_url(spelled)
        port = POSTGRES_PORT if found.port is None else found.port
    except (exc.ArgumentError, ValueError):
        return None
    if not 0 < port < 65536:
        return None
    if "host" in found.query or "port" in found.query:
        return None
    if "@" in f"{found.host}{found.database}":  # of a password that is not encoded
        return None
    return found.set(host=found.host or "127.0.0.1", port=port)


def postgres_server(address: ServiceAddress) -> PostgresServer:
    """Return the server that an address names.

    Raises BadInput, without the text of the URL: what is malformed may be a password.
    """
    url = parsed(address.url)
    if url is None:
        raise BadInput(f"{address.source} is malformed: {POSTGRES_EXAMPLE}")
    if url.drivername != "postgresql+psycopg":
        wrong = f"{address.source}: {url.drivername} is not for this lesson"
        raise BadInput(f"{wrong}: {POSTGRES_EXAMPLE}")
    return PostgresServer(url, address.source)
