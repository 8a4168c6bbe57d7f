"""Redis where it answers, else fakeredis in this process; and the end of a run."""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any, TypeVar

import fakeredis
import redis

from course.caching.client import (
    DEFAULT_URL,
    SCAN_COUNT,
    cache_client,
    escape,
    refuse_client,
    run_script,
    unlink_matching,
)
from course.caching.tracking import CHANNEL, channel_named
from course.console import was_cut_off
from course.ending import remove
from course.errors import BadInput
from course.listeners import is_redis, refuse_another_service, tls_complaint
from course.naming import new_name, run_name_in
from course.services import ServiceAddress, address_of, redact
from course.sweeping import Leftover, refuse_clocks_apart, sweep, temporary_folders
from course.urls import REDIS_FORM, ServiceUrl, service_url

PAUSE = 0.1  # seconds between two looks for keys
NO_NEW_KEY = (
    1.0  # seconds without a new key, until no load of an ended run is under way
)
TLS_FILES = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
NO_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
OLDEST = (6, 2)  # of Redis; below, tracking and UNLINK in scripts differ


@dataclass
class Service:
    """Who answers, how to connect, and a prefix of our own."""

    backend: str
    live: bool
    connect: Callable[[], Any]
    prefix: str = field(default_factory=lambda: f"{new_name(':')}:")

    def ask(self) -> None:
        """Raise redis-py's error if nobody answers; a refusal is an answer."""
        with suppress(redis.ResponseError):
            self._asking.ping()

    @cached_property
    def _asking(self) -> Any:
        return self.connect()

    def leftovers(self) -> list[Leftover]:
        """Return what runs that were killed have left."""
        return leftover_keys(self.connect()) if self.live else []

    def sweep(self, really: bool) -> int:
        """List what killed runs have left, and remove it if asked to."""
        return sweep([*self.leftovers(), *temporary_folders()], really)


AnyService = TypeVar("AnyService", bound=Service)


def stand_in(reason: str) -> Service:
    """Return fakeredis in this process, and why."""
    connect = partial(fakeredis.FakeRedis, server=fakeredis.FakeServer())
    return Service(f"fakeredis, in this process ({reason})", False, connect)


def probe(address: ServiceAddress) -> Service:
    """Return the Redis that answers at the URL within a second, else the stand-in.

    What a server says is repeated, and nothing that the library says while it looks for
    one: that may hold a part of the password.
    """
    named = service_url(address, REDIS_FORM)
    place = named.place
    if "retry_on_error" in named.options:  # redis-py wants a list of exceptions
        raise BadInput(f"{named.source}: retry_on_error cannot stand in a URL")
    for name in REDIS_FORM.timeouts:  # 0 is to wait for no answer: few are that quick
        if re.fullmatch(r"[+-]?(0+\.?0*|\.0+)", named.options.get(name, "")):
            raise BadInput(f"{named.source}: {name} must be above zero")
    limit = named.connect_limit / 2  # of each try, of which there are two
    limits: dict[str, Any] = {"socket_timeout": limit, "socket_connect_timeout": limit}
    try:
        with redis.Redis.from_url(named.text, protocol=2, **limits) as client:
            with hung_up_after(2 * named.connect_limit, client):
                server: Any = client.info("server")
            version = str(server["redis_version"])
            refuse_cluster(server, place)
            try_rights(client)
        with cache_client(named.text, limit) as client:  # as the demos will have it
            refuse_client(client, "")
            client.ping()
    except BadInput:
        raise
    except redis.AuthenticationError:
        form = "before the host write user:password@, or :password@ alone"
        refused = f"Redis at {place} refuses the password"
        problem = f"{named.source}: {refused}; {form}"
    except redis.InvalidResponse:
        problem = f"{named.source}: no Redis at {place}: what answers there is none"
    except (redis.ConnectionError, redis.TimeoutError) as error:
        refuse_what_fails(error, named)
        return stand_in(f"no Redis at {place}: {absence(error)}")
    except redis.RedisError as error:  # such as a right, a replica, or a full memory
        advice = "look at the database number, the rights, and whether it takes writes"
        said = words_of_redis(error).rstrip(".")
        problem = f"{named.source}: Redis at {place}: {said}; {advice}"
    except Exception as error:  # of an option that redis-py has not, or takes as it is
        wrong = f"{named.source} is not a Redis URL: redis-py says: {redact(error)}"
        problem = f"{wrong}; write {REDIS_FORM.example}"
    else:
        if is_recent(version):
            # Two seconds, not 0.2: a busy laptop must not fail a lesson's claims.
            connect = partial(cache_client, named.text, 2.0)
            return Service(f"{product_of(server)} at {place}", True, connect)
        problem = f"Redis {version} at {place} is too old: 6.2 or later is needed"
    raise BadInput(problem)


@contextmanager
def hung_up_after(limit: float, client: Any) -> Iterator[None]:
    """Hang up on an answer that never ends: each piece of it may come in time."""
    over = threading.Event()
    hung_up = threading.Event()

    def watch() -> None:
        while not over.wait(limit):
            hung_up.set()
            client.connection_pool.disconnect()

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    except Exception as error:
        if hung_up.is_set():  # whatever the client makes of that
            raise redis.TimeoutError("its answer has no end") from error
        raise
    finally:
        over.set()


def refuse_cluster(server: dict[str, Any], place: str) -> None:
    """Raise BadInput for a node of a cluster, which has a part of the keys."""
    # Valkey calls it server_mode.
    if "cluster" in (server.get("redis_mode"), server.get("server_mode")):
        problem = f"Redis at {place} is a node of a cluster: name a single server"
        raise BadInput(problem)


def product_of(server: dict[str, Any]) -> str:
    """Return the name and the version of what answers INFO.

    Valkey says that it is a Redis 7.2.4, for the sake of clients that ask no further.
    """
    name = str(server.get("server_name", "redis"))
    return f"{name} {server.get(f'{name}_version', server['redis_version'])}"


def try_rights(client: Any) -> None:
    """Do once what the demos do, with a key of ours; raise NoPermissionError."""
    key = f"{new_name(':')}:rights"
    client.set(key, 1, px=1000)
    try:
        client.get(key)
        client.mget(key)
        client.scan(0, key)
        script = client.register_script("return redis.call('PTTL', KEYS[1])")
        run_script(client, script, [key.encode()], [])
        client.client_id()
        client.execute_command("CLIENT", "TRACKING", "OFF")
        with client.pubsub() as news, channel_named():
            news.subscribe(CHANNEL)  # a user of Redis 7 has no channel by itself
            news.parse_response()
        client.unlink(key)
        transaction = client.pipeline()
        transaction.sadd(key, 1)
        transaction.expire(key, 1)
        transaction.execute()
        client.smembers(key)
    finally:
        client.unlink(key)


def refuse_what_fails(error: Exception, url: ServiceUrl) -> None:
    """Raise BadInput where there is a server, and TLS fails or it is another one."""
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ssl.SSLError) or "SSL" in str(error):
        right = "name its authority with ?ssl_ca_certs=FILE"
        raise tls_complaint(url, "Redis", error, right)
    if isinstance(cause, NO_FILE) and url.scheme == "rediss":
        files = [url.options[name] for name in TLS_FILES if name in url.options]
        problem = f"there is no file {redact(' or '.join(files))} that can be read"
        raise BadInput(f"{url.source}: {problem}")
    if "max number of clients" in str(error):
        raise BadInput(f"{url.source}: Redis at {url.place}: {error}")
    if url.scheme == "rediss" and speaks_without_tls(url):
        raise BadInput(
            f"{url.source}: Redis at {url.place} does not speak TLS: begin with redis://"
        )
    if not isinstance(cause, ConnectionRefusedError | socket.gaierror):
        refuse_another_service(url, "Redis")
        refuse_what_it_cannot(error, url)


def words_of_redis(error: redis.RedisError) -> str:
    """Return what a Redis said of a command, without what it repeats of that."""
    # One without AUTH repeats the beginning of the password.
    return redact(str(error).partition(", with args beginning")[0])


def refuse_what_it_cannot(error: Exception, url: ServiceUrl) -> None:
    """Raise BadInput where Redis answers, and not with the options of a URL."""
    host = url.hosts[0]
    if isinstance(error, redis.TimeoutError) or host.name.startswith("/"):
        return
    if is_redis(host.reached, host.port):
        words = redact(error)
        raise BadInput(f"{url.source}: Redis at {url.place} answers, but: {words}")


def speaks_without_tls(url: ServiceUrl) -> bool:
    """Tell whether a Redis answers there in the clear; it waits for ever on TLS."""
    place = (url.hosts[0].name, url.hosts[0].port)
    limit = url.connect_limit / 2
    with suppress(OSError), socket.create_connection(place, limit) as plain:
        plain.sendall(b"PING\r\n")
        return plain.recv(64).startswith((b"+PONG", b"-NOAUTH"))
    return False


def absence(error: Exception) -> str:
    """Return why nobody answered, and how to start a server."""
    why = "connection refused" if "refused" in str(error) else "no answer"
    return f"{why}; docker compose up -d redis starts one"


def is_recent(version: str) -> bool:
    """Tell whether a version such as 7.2.4 has all that the lesson uses."""
    major, minor, *_ = version.split(".")
    return (int(major), int(minor)) >= OLDEST


@contextmanager
def open_service(args: Namespace, kind: type[AnyService]) -> Iterator[AnyService]:
    """Open Redis or the stand-in; delete every key of ours at the end."""
    if args.offline:
        found = stand_in("as --offline asks")
    else:
        found = probe(address_of(args, "REDIS_URL", DEFAULT_URL))
    env = kind(found.backend, found.live, found.connect)
    try:
        yield env
    finally:
        work = partial(delete_keys, env.connect, env.prefix)
        remove(f"keys {env.prefix}*", env.backend, work, "each expires by itself")


def delete_keys(connect: Callable[[], Any], prefix: str) -> None:
    """Delete every key under a prefix; what a run was cut off in may add some."""
    client = connect()
    pattern = escape(prefix) + "*"
    unlink_matching(client, pattern)
    quiet_at = time.monotonic() + NO_NEW_KEY
    while was_cut_off() and time.monotonic() < quiet_at:
        time.sleep(PAUSE)
        if unlink_matching(client, pattern):
            quiet_at = time.monotonic() + NO_NEW_KEY


def leftover_keys(client: Any) -> list[Leftover]:
    """Return what runs have left, by the prefix of each."""
    with suppress(redis.ResponseError):  # a user without the right to ask
        its_time: Any = client.time()
        refuse_clocks_apart("Redis", datetime.fromtimestamp(its_time[0], UTC))
    prefixes = set()
    for key in client.scan_iter("module8:*", SCAN_COUNT):
        name = key.decode(errors="replace")
        prefix = run_name_in(name)
        if prefix and name.startswith(f"{prefix}:"):
            prefixes.add(prefix)
    found = []
    for prefix in prefixes:
        delete = partial(unlink_matching, client, f"{prefix}:*")
        found.append(Leftover("keys", f"{prefix}:*", delete))
    return found
