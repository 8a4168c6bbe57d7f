"""What the URL of a service means, read strictly: what is ambiguous is refused.

A URL that can be read in one way only is shown, as its hosts and ports. Of any other,
nothing is repeated, since each piece of it may be a piece of a password.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv6Address
from urllib.parse import unquote, unquote_plus

from course.errors import BadInput
from course.services import (
    NAME_OF_SECRET,
    SECRET_WORDS,
    ServiceAddress,
    remember_secret,
)

LONGEST_WAIT = 3600.0  # seconds for --connect-timeout
LONGEST_HOST = 254  # characters of a host, with a dot at its end
OTHER_SCHEMES = {"file", "http", "https", "mariadb", "mysql", "oracle", "sqlite"}
OTHER_SCHEMES |= {"postgresql+asyncpg", "postgresql+psycopg2"}
SECRET_OPTION = re.compile(SECRET_WORDS, re.IGNORECASE)
# In an option such as ssl_options={'password':'...'}.
INNER_SECRET = re.compile(
    rf"""{NAME_OF_SECRET} ["']? \s*[:=]\s*
         (?: "((?:[^"\\]|\\.)*)" | '((?:[^'\\]|\\.)*)' | ["']? ([^"',}}]+) )""",
    re.IGNORECASE | re.VERBOSE,
)
# Names that may be shown behind a secret's value, an & of which begins another option.
USUAL_NAMES = """
application_name appname authmechanism authsource blocked_connection_timeout channel_max
client_encoding connect_timeout connection_attempts connecttimeoutms dbname
decode_responses directconnection frame_max heartbeat hostaddr maxpoolsize options
password protocol replicaset retry_delay retryreads retrywrites serverselectiontimeoutms
service servicefile socket_connect_timeout socket_read_size socket_timeout
sockettimeoutms ssl_ca_certs ssl_cert_reqs ssl_certfile ssl_check_hostname ssl_keyfile
ssl_options ssl_password sslcert sslkey sslmode sslpassword sslrootcert stack_timeout
target_session_attrs tcp_options timeout tlscafile tlscertificatekeyfile
tlscertificatekeyfilepassword username
"""
LEAST_OF_A_SECRET = 5  # characters that would tell something of it
# What SQLAlchemy or psycopg takes for itself, and no text in a URL can be.
NO_OPTIONS = {"autocommit", "context", "cursor_factory", "plugin", "prepare_threshold"}
NO_OPTIONS |= {"row_factory"}
KNOWN_OPTIONS = NO_OPTIONS.union(USUAL_NAMES.split())
NO_HOST = "the host is not the name or the address of a server"
ENCODED = "percent-encoded: / is %2F, ? %3F, # %23, @ %40, [ %5B, % %25"


@dataclass(frozen=True)
class UrlForm:
    """What the URLs of one kind of service look like."""

    service: str  # its name in a sentence
    schemes: tuple[str, ...]
    port: int
    example: str
    timeouts: Mapping[str, float]  # options for the time to connect: seconds per unit
    many_hosts: bool = False
    needs_host: bool = False
    sockets: bool = False  # a host that begins with %2F is the path of one
    colon_in_password: bool = True
    path: str = "[^/]*"  # what may stand behind the / that follows the hosts
    path_problem: str = "what follows the host is not the name of one database"


POSTGRES_FORM = UrlForm(
    service="PostgreSQL",
    schemes=("postgresql", "postgres", "postgresql+psycopg"),
    port=5432,
    example="postgresql://user:password@host:5432/database",
    timeouts={"connect_timeout": 1.0},
    many_hosts=True,
    sockets=True,
)
MONGO_FORM = UrlForm(
    service="MongoDB",
    schemes=("mongodb", "mongodb+srv"),
    port=27017,
    example="mongodb://user:password@host:27017/?option=value, or mongodb+srv://...",
    timeouts={"serverSelectionTimeoutMS": 0.001, "connectTimeoutMS": 0.001},
    many_hosts=True,
    needs_host=True,
    sockets=True,
    colon_in_password=False,
    path=r"[^/\\\"$*<>:|?]*",
)
REDIS_FORM = UrlForm(
    service="Redis",
    schemes=("redis", "rediss", "unix"),
    port=6379,
    example="redis://user:password@host:6379/0, or rediss:// for TLS",
    timeouts={"socket_connect_timeout": 1.0, "socket_timeout": 1.0},
    path=r"\d*",
    path_problem="what follows the host is not the number of a database",
)
AMQP_FORM = UrlForm(
    service="RabbitMQ",
    schemes=("amqp", "amqps"),
    port=5672,
    example="amqp://user:password@host:5672/vhost, or amqps:// for TLS",
    timeouts={"stack_timeout": 1.0, "socket_timeout": 1.0},
    path_problem="what follows the host is not one vhost, whose / is written %2F",
)
PORTS = {"amqps": 5671, "mongodb+srv": 0}  # where a scheme has one of its own
FORMS = (POSTGRES_FORM, MONGO_FORM, REDIS_FORM, AMQP_FORM)


@dataclass(frozen=True)
class Host:
    """A server's name or address and its port; or the path of its socket."""

    name: str
    port: int  # 0 where there is none, for a socket or a name of mongodb+srv://
    address: str = ""  # where it is reached, if not by its name

    @property
    def reached(self) -> str:
        """Return what to connect to."""
        return self.address or self.name

    @property
    def place(self) -> str:
        """Return what may be shown."""
        name = self.reached
        if not self.port or name.startswith("/"):
            return name
        return f"[{name}]:{self.port}" if ":" in name else f"{name}:{self.port}"


@dataclass(frozen=True)
class ServiceUrl:
    """A URL that was read; printed, it shows its hosts and ports."""

    text: str = field(repr=False)  # what a library gets
    source: str  # "--url" or a variable: what a complaint points to
    scheme: str
    hosts: tuple[Host, ...]
    user: str = field(repr=False)
    password: str | None = field(repr=False)
    path: str = field(repr=False)  # a database or a vhost, without the / before it
    options: Mapping[str, str] = field(repr=False)  # where a name is twice: the last
    connect_limit: float  # seconds: the URL's own, else --connect-timeout's, else ours

    @property
    def place(self) -> str:
        """Return its hosts and ports, which may be shown."""
        return ", ".join(host.place for host in self.hosts)


class _Malformed(ValueError):
    """Says which part of a URL is wrong, and repeats nothing of it."""


def service_url(address: ServiceAddress, form: UrlForm) -> ServiceUrl:
    """Return what a URL means; from now on, its password is hidden everywhere.

    Raises BadInput, which says what is wrong and repeats no part of the URL.
    """
    try:
        return _read(address, form)
    except _Malformed as problem:
        wrong = f"{address.source} is not a {form.service} URL: {problem}"
        raise BadInput(f"{wrong}; write {form.example}") from None


def _read(address: ServiceAddress, form: UrlForm) -> ServiceUrl:
    text = address.url.strip()
    if not all(letter.isprintable() and letter != " " for letter in text):
        raise _Malformed("it holds a space (%20), or what cannot be printed")
    scheme, rest = _scheme_and_rest(text, form)
    if "#" in rest:
        raise _Malformed(f"it holds a #; in a password that is {ENCODED}")
    if re.search("%(?![0-9a-fA-F]{2})|%00", rest):
        raise _Malformed("a % must be followed by two digits, or be written %25")
    before_query, _, query = rest.partition("?")
    authority, _, path = before_query.partition("/")
    if "@" in path or "@" in query:
        raise _Malformed(f"an @ stands behind the host; a password is {ENCODED}")
    login, _, netloc = authority.rpartition("@")
    user, password = _login(login, form)
    options = _options(query) if query else {}
    if scheme == "unix":
        hosts = _socket(netloc, path)
    else:
        hosts = _hosts(netloc, options, form, PORTS.get(scheme, form.port))
        if not re.fullmatch(form.path, path):
            raise _Malformed(form.path_problem)
    limit = _connect_limit(options, form) or address.connect_limit
    _remember(login, options)
    return ServiceUrl(
        text,
        address.source,
        scheme,
        hosts,
        user,
        password,
        unquote(path),
        options,
        limit,
    )


def _scheme_and_rest(text: str, form: UrlForm) -> tuple[str, str]:
    """Return a URL's scheme and what is behind its slashes."""
    scheme, slashes, rest = text.partition("://")
    if slashes and scheme.lower() in form.schemes:
        return scheme.lower(), rest
    others = OTHER_SCHEMES.union(*(other.schemes for other in FORMS))
    if slashes and scheme.lower() in others:
        raise _Malformed(f"{scheme.lower()}:// is not for this lesson")
    before, colon, _ = text.partition(":")
    if colon and before.lower() in form.schemes:
        raise _Malformed(f"two slashes must follow {before.lower()}:")
    schemes = " or ".join(f"{name}://" for name in form.schemes[:2])
    raise _Malformed(f"it does not begin with {schemes}")


def _login(login: str, form: UrlForm) -> tuple[str, str | None]:
    """Return user and password; None for a password that is not there."""
    if "@" in login or re.search(r"[\[\]]", login):
        raise _Malformed(f"a character of the user or the password must be {ENCODED}")
    user, colon, password = login.partition(":")
    if ":" in password and not form.colon_in_password:
        raise _Malformed("a : of the user or the password is written %3A")
    return unquote(user), unquote(password) if colon else None


def _hosts(
    netloc: str, options: Mapping[str, str], form: UrlForm, port: int
) -> tuple[Host, ...]:
    """Return the servers that a URL names, or the local one."""
    named = netloc.split(",") if netloc else []
    if "host" in options and form is POSTGRES_FORM:
        return _hosts_of_options(options)
    if form is REDIS_FORM:
        named = [_place_of_redis(netloc, options)] if "," not in netloc else named
    if not named and form.needs_host:
        raise _Malformed("it names no host")
    if not port and (len(named) > 1 or ":" in netloc):
        raise _Malformed("mongodb+srv:// takes one name, without a port")
    if len(named) > 1 and not form.many_hosts:
        raise _Malformed("a , stands in the host: it takes one")
    hosts = tuple(_host(one, port) for one in named or ["127.0.0.1"])
    if any(host.name.startswith("/") for host in hosts) and not form.sockets:
        raise _Malformed(NO_HOST)
    return hosts


def _place_of_redis(netloc: str, options: Mapping[str, str]) -> str:
    """Return where redis-py goes: options say what does not stand before them."""
    place = netloc
    if not netloc:
        name = options.get("host", "127.0.0.1")
        place = f"[{name}]" if ":" in name else name
    if "port" in options and not re.search(r":\d+$", netloc):
        place += f":{options['port']}"
    return place


def _host(text: str, usual_port: int) -> Host:
    """Return a host of the form name, name:port, [address]:port or %2Fsocket."""
    found = re.fullmatch(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::(\d{1,5}))?", text)
    if found is None:
        wrong = "the port is not a number, or there is no @ before the host"
        if "[" in text or "]" in text:
            wrong = "the host is not a whole address in [ ]"
        raise _Malformed(wrong)
    port = usual_port if found[2] is None else int(found[2])
    if not (0 < port < 65536 or found[2] is None):
        raise _Malformed("the port is not a number from 1 to 65535")
    return Host(_host_name(found[1]), port)


def _host_name(text: str) -> str:
    """Return a host without brackets; refuse what cannot be one."""
    if text.startswith("["):
        try:
            IPv6Address(unquote(text[1:-1]))
        except AddressValueError:
            raise _Malformed("what stands in [ ] is not an IPv6 address") from None
        return unquote(text[1:-1])
    name = unquote(text)
    if name.startswith("/") and name.isprintable():
        return name
    if not re.fullmatch(r"[\w-]+(\.[\w-]+)*\.?", text) or not _can_be_asked_for(text):
        raise _Malformed(NO_HOST)
    return text


def _can_be_asked_for(name: str) -> bool:
    """Tell whether a name, and each part of it, is as short as the network takes it."""
    try:
        return len(name.encode("idna")) <= LONGEST_HOST
    except UnicodeError:
        return False


def _hosts_of_options(options: Mapping[str, str]) -> tuple[Host, ...]:
    """Return PostgreSQL's hosts from ?host=a,b&port=1,2, as libpq reads them."""
    hosts = []
    ports = options.get("port", "").split(",")
    names = options["host"].split(",")
    for position, name in enumerate(names):
        port = ports[position] if len(ports) == len(names) else ports[0]
        text = name.replace("/", "%2F")
        if name.count(":") > 1 and "[" not in name:
            text = f"[{name}]"
        if port and not re.fullmatch(r"([^:]+|\[.*\]):\d+", name):
            text = f"{text}:{port}"
        hosts.append(_host(text, POSTGRES_FORM.port))
    return tuple(hosts)


def _socket(netloc: str, path: str) -> tuple[Host, ...]:
    """Return the socket of unix://user:password@/path."""
    if netloc or not path:
        raise _Malformed("unix:// takes the path of a socket, such as unix:///tmp/x")
    return (Host("/" + unquote(path), 0),)


def _options(query: str) -> dict[str, str]:
    """Return the options of a URL; of a name that is there twice, all with commas."""
    options: dict[str, str] = {}
    for part in query.split("&"):
        name, equals, value = part.partition("=")
        if not equals or not re.fullmatch(r"[\w.-]+", name):
            raise _Malformed("what follows the ? is not of the form name=value&...")
        known = f"{options[name]}," if name in options else ""
        options[name] = known + unquote_plus(value)
    return options


def _connect_limit(options: Mapping[str, str], form: UrlForm) -> float | None:
    """Return for how many seconds a URL itself says to wait, if it does."""
    for name, unit in form.timeouts.items():
        for given, value in options.items():
            if given.lower() == name.lower():
                return _seconds(value, unit)
    return None


def _seconds(text: str, unit: float) -> float | None:
    """Return a time above zero; the library complains of anything else."""
    try:
        seconds = float(text) * unit
    except ValueError:
        return None
    return seconds if 0 < seconds <= LONGEST_WAIT else None


def _remember(login: str, options: Mapping[str, str]) -> None:
    """Let what is secret in a URL be hidden from now on."""
    user, _, password = login.partition(":")
    # Trap: a single word before the @ is a user, or a password without its colon, or
    # a token with a colon and nothing behind it.
    remember_secret(password or user)
    if not re.fullmatch(r"[\w.@+-]*", unquote(user)):
        remember_secret(user)  # of a password with an odd character, rather than a name
    for name in doubtful_names(options):
        remember_secret(name)
    for name, value in options.items():
        if SECRET_OPTION.search(name):
            remember_secret(value)
        for inner in INNER_SECRET.finditer(value):
            remember_secret(inner[inner.lastindex or 0])


def doubtful_names(options: Mapping[str, str]) -> list[str]:
    """Return the names that may be the rest of a secret, in which an & stands."""
    names = list(options)
    first = next((n for n, one in enumerate(names) if SECRET_OPTION.search(one)), None)
    later = [] if first is None else names[first + 1 :]
    long = [name for name in later if len(name) >= LEAST_OF_A_SECRET]
    return [name for name in long if name.lower() not in KNOWN_OPTIONS]


def given_url(text: str) -> str:
    """Refuse an empty URL, such as "$UNSET": nobody asked for some other server."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty")
    return text.strip()


def seconds_above_zero(text: str) -> float:
    """Return a number of seconds; refuse what is none, or none that one can wait."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= LONGEST_WAIT:
        wrong = f"it is not a number of seconds up to {LONGEST_WAIT:g}"
        raise argparse.ArgumentTypeError(wrong)
    return seconds
