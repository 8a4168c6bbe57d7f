"""Which PostgreSQL a URL means, and whether it is there."""

from __future__ import annotations

import math
import re
import socket
from contextlib import closing
from dataclasses import dataclass, replace
from ipaddress import ip_address
from os import environ

import sqlalchemy as sa
from sqlalchemy import exc

from course.errors import BadInput, NoService
from course.listeners import SSL_REQUEST, refuse_another_service
from course.services import ServiceAddress, redact
from course.sql.connection import LINE_LIMITS
from course.urls import NO_OPTIONS, POSTGRES_FORM, Host, ServiceUrl, service_url

ELSEWHERE = ("service", "servicefile")  # these name a server that we would not show


@dataclass(frozen=True)
class PostgresServer:
    """A PostgreSQL that was named; its source begins each complaint."""

    url: sa.URL  # with driver; with host and port, unless these are several or a socket
    named: ServiceUrl
    hosts: tuple[Host, ...]

    @property
    def source(self) -> str:
        """Return "--url" or "DATABASE_URL"."""
        return self.named.source

    @property
    def place(self) -> str:
        """Return its hosts and ports."""
        return ", ".join(host.place for host in self.hosts)

    def probe(self) -> None:
        """Ask whether PostgreSQL listens there, without logging in.

        Raises NoService if nothing answers, BadInput if something else does. Of several
        hosts, one is enough.
        """
        reasons = []
        others = False
        for host in self.hosts:
            try:
                answer = self._answer(host)
            except OSError as error:
                if isinstance(error, TimeoutError | ConnectionResetError):
                    refuse_another_service(self.named, "PostgreSQL")
                reasons.append(error.strerror or str(error))
                continue
            if answer in (b"S", b"N"):
                return
            if not answer:
                refuse_another_service(self.named, "PostgreSQL")
            others = others or bool(answer)
            reasons.append("it hangs up")
        if others:
            raise BadInput(f"{self.source}: no PostgreSQL listens at {self.place}")
        why = ", ".join(dict.fromkeys(reasons))
        raise NoService(f"no PostgreSQL at {self.place}: {why}")

    def _answer(self, host: Host) -> bytes:
        with closing(line_to(host, self.named.connect_limit)) as line:
            line.sendall(SSL_REQUEST)
            return line.recv(1)

    def complaint(self, error: exc.DBAPIError, more: str = "") -> BadInput:
        """Return what the server said when it refused us, as one line."""
        said = f"PostgreSQL at {self.place}: {words_of(error)}"
        return BadInput(f"{self.source}: {said}{more}")


def line_to(host: Host, limit: float) -> socket.socket:
    """Connect to a port, or to the socket that PostgreSQL has in a folder."""
    if not host.name.startswith("/"):
        return socket.create_connection((host.reached, host.port), limit)
    family = getattr(socket, "AF_UNIX", None)
    if family is None:
        raise OSError("this system has no such sockets")
    line = socket.socket(family)
    line.settimeout(limit)
    try:
        line.connect(f"{host.name}/.s.PGSQL.{host.port}")
    except OSError:
        line.close()
        raise
    return line


def words_of(error: exc.DBAPIError) -> str:
    """Return what the server or the driver said about an error, as one line."""
    # The driver's text ends with the server's own words.
    words = str(error.orig).rpartition("FATAL:")[2].split()
    return redact(" ".join(words))


def sqlstate_of(error: exc.DBAPIError) -> str | None:
    """Return the code that the server gave an error; None if it gave no answer."""
    state: str | None = getattr(error.orig, "sqlstate", None)
    if state is None and "too many connections" in str(error.orig):
        return "53300"  # psycopg keeps no code of what it meets when it connects
    return state


def is_port(text: str) -> bool:
    """Tell whether a text is the number of a port."""
    return bool(re.fullmatch(r"\d{1,5}", text)) and 0 < int(text) < 65536


def hosts_of(found: ServiceUrl) -> tuple[Host, ...]:
    """Return the hosts of a URL, with the addresses that libpq takes instead.

    Where nobody names these, it looks for them in the environment.
    """
    hosts = hosts_with_ports(found)
    given = found.options.get("hostaddr") or environ.get("PGHOSTADDR", "")
    if not given:
        return hosts
    addresses = given.split(",")
    if len(hosts) == 1:
        hosts *= len(addresses)
    if len(hosts) != len(addresses) or not all(map(is_address, addresses)):
        wrong = f"{found.source}: hostaddr does not give each host an address"
        raise BadInput(f"{wrong}, such as 127.0.0.1")
    pairs = zip(hosts, addresses, strict=True)
    return tuple(replace(host, address=address) for host, address in pairs)


def is_address(text: str) -> bool:
    """Tell whether a text is the address of a machine, rather than a name."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def hosts_with_ports(found: ServiceUrl) -> tuple[Host, ...]:
    """Return the hosts of a URL; the option `port` goes before what stands in front."""
    ports = found.options.get("port", "").split(",")
    if "host" in found.options or ports == [""]:
        return found.hosts
    if len(ports) == 1:
        ports *= len(found.hosts)
    if len(ports) != len(found.hosts) or not all(map(is_port, ports)):
        wrong = f"{found.source}: the option port does not give each host a port"
        raise BadInput(f"{wrong}; write {POSTGRES_FORM.example}")
    pairs = zip(found.hosts, map(int, ports), strict=True)
    return tuple(Host(host.name, port) for host, port in pairs)


def psycopg_url(found: ServiceUrl, hosts: tuple[Host, ...]) -> sa.URL:
    """Return a URL as SQLAlchemy takes it: several hosts, or sockets, as options."""
    options = {k: v for k, v in found.options.items() if k not in ("host", "port")}
    if found.connect_limit > LINE_LIMITS["connect_timeout"]:
        # Of whole seconds, as libpq reads it.
        options["connect_timeout"] = str(math.ceil(found.connect_limit))
    if hosts[0].address:
        options["hostaddr"] = ",".join(host.address for host in hosts)
    name: str | None = hosts[0].name
    port: int | None = hosts[0].port
    if len(hosts) > 1 or hosts[0].name.startswith("/"):
        options["host"] = ",".join(host.name for host in hosts)
        options["port"] = ",".join(str(host.port) for host in hosts)
        name = port = None
    # Trap: many hosts hand out postgres://, a name that SQLAlchemy does not know.
    driver = "postgresql+psycopg"
    login = (found.user or None, found.password)
    return sa.URL.create(driver, *login, name, port, found.path or None, options)


def postgres_server(address: ServiceAddress) -> PostgresServer:
    """Return the server that an address names.

    Raises BadInput, without the text of the URL: what is malformed may be a password.
    """
    found = service_url(address, POSTGRES_FORM)
    for name in sorted(NO_OPTIONS.intersection(found.options)):
        raise BadInput(f"{found.source}: {name} is no option of PostgreSQL")
    for name in ELSEWHERE:
        if name in found.options:
            wrong = f"{found.source}: {name} names a server that stands elsewhere"
            raise BadInput(f"{wrong}; write {POSTGRES_FORM.example}")
    hosts = hosts_of(found)
    named = replace(found, hosts=hosts)
    return PostgresServer(psycopg_url(named, hosts), named, hosts)
