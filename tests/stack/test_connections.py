"""Each lesson against each way in which a connection fails: exit code and line.

A service that is absent is no mistake: its stand-in takes over, or the exit code is 3
where a service is required. One that answers, but not like this, is named in one line.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from asyncio import StreamReader, StreamWriter
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest
from conftest import absent
from lessons import path_of, run, unbroken
from mongo_rights import READ_WRITE, FewRights
from services import Server
from stack.odd_servers import (
    Certificates,
    Noisy,
    OverTls,
    Silent,
    make_certificates,
)

from course.network import FaultyNetwork

SECRET = "Xq7Zk9Wv"


@dataclass(frozen=True)
class Service:
    """How the URL of a lesson's service is written."""

    number: str
    variable: str
    name: str
    demo: str
    plain: str  # of a place {at}
    over_tls: str  # which verifies with the authority {ca}
    fixture: str  # which gives the URL of a live one
    own_limit: str  # the URL's own option for the time to connect
    asks_first: bool = False  # PostgreSQL agrees on TLS before it begins
    bad_options: dict[str, str] = field(default_factory=dict)  # and what is said


SERVICES = [
    Service(
        "01",
        "DATABASE_URL",
        "PostgreSQL",
        "queries",
        f"postgresql://user:{SECRET}@{{at}}/db",
        f"postgresql://user:{SECRET}@{{at}}/db?sslmode=verify-full&sslrootcert={{ca}}",
        fixture="postgres_url",
        own_limit="connect_timeout=20",
        asks_first=True,
        bad_options={
            "bogus=1": "bogus",
            "timeout=3": "timeout",
            "client_encoding=SQL_ASCII": "client_encoding",
        },
    ),
    Service(
        "02",
        "MONGODB_URI",
        "MongoDB",
        "validators",
        f"mongodb://user:{SECRET}@{{at}}/",
        f"mongodb://user:{SECRET}@{{at}}/?tls=true&tlsCAFile={{ca}}",
        fixture="mongo_url",
        own_limit="serverSelectionTimeoutMS=20000&connectTimeoutMS=20000",
        bad_options={
            "bogus=1": "bogus",
            "timeout=3": "timeout",
            "channel_max=1": "channel_max",
            "tls=perhaps": "tls",
            "maxPoolSize=-1": "maxPoolSize",
        },
    ),
    Service(
        "03",
        "REDIS_URL",
        "Redis",
        "lru",
        f"redis://user:{SECRET}@{{at}}/0",
        f"rediss://user:{SECRET}@{{at}}/0?ssl_ca_certs={{ca}}",
        fixture="redis_url",
        own_limit="socket_timeout=20",
        bad_options={
            "bogus=1": "bogus",
            "timeout=3": "timeout",
            "channel_max=1": "channel_max",
            "socket_timeout=soon": "socket_timeout",
            "credential_provider=x": "redis-py says",
        },
    ),
    Service(
        "04",
        "RABBITMQ_URL",
        "RabbitMQ",
        "routing",
        f"amqp://user:{SECRET}@{{at}}/%2F",
        f"amqps://user:{SECRET}@{{at}}/%2F?ssl_options={{{{'ca_certs':'{{ca}}'}}}}",
        fixture="rabbitmq_url",
        own_limit="stack_timeout=20&socket_timeout=20",
        bad_options={
            "bogus=1": "bogus",
            "timeout=3": "timeout",
            "frame_max=1": "4096",
            "connection_attempts=99999999999": "connection_attempts",
            "ssl_options=['x']": "",
            f"ssl_options={{'password':'{SECRET}'": "",
        },
    ),
]
every_service = pytest.mark.parametrize(
    "service", SERVICES, ids=lambda service: service.number
)
# Lesson 05 opens all four; the first that fails is named as its own lesson names it.
INTEGRATED = ["--integrated"]
as_itself_and_in_05 = pytest.mark.parametrize("alone", [True, False], ids=["", "05"])


def ended(service: Service, url: str, *more: str, alone: bool = True) -> Any:
    """Run a lesson with a URL in its variable; no part of the password is printed."""
    if alone:
        script = path_of(service.number)
        arguments = ["--only", service.demo, *more]
    else:
        script = path_of("05")
        arguments = [*INTEGRATED, "--require-live", *more]
    done = run(script, *arguments, env={service.variable: url})
    assert SECRET not in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done


def refused(service: Service, url: str, *more: str, alone: bool = True) -> str:
    """Return the one line of a run that ends with 2, and prints nothing else."""
    done = ended(service, url, *more, alone=alone)
    assert (done.returncode, done.stdout) == (2, ""), (done.stdout, done.stderr)
    (line,) = done.stderr.splitlines()
    return str(line)


def is_absent(service: Service, url: str, why: str, *more: str) -> None:
    """Assert that the stand-in takes over and says why; where required, 3 it is."""
    done = ended(service, url, *more)
    first = unbroken(done.stdout).splitlines()[0]
    assert done.returncode == 0, done.stdout
    assert f"no {service.name} at " in first
    assert why in first
    assert "docker compose up -d " in first
    done = ended(service, url, "--require-live", *more)
    assert (done.returncode, done.stderr) == (3, "")
    assert len(unbroken(done.stdout).splitlines()) == 1


# Absent


@every_service
def test_a_name_that_does_not_resolve(service: Service) -> None:
    is_absent(service, service.plain.format(at="no-such-host.invalid:1"), "")


@every_service
def test_a_refusal_is_not_waited_for(service: Service) -> None:
    url = service.plain.format(at="127.0.0.1:1")
    begun = time.monotonic()
    done = ended(service, url, "--require-live", "--connect-timeout", "100")
    assert done.returncode == 3
    assert time.monotonic() - begun < 60


@every_service
def test_a_port_that_accepts_and_stays_silent(service: Service) -> None:
    with Silent() as server:
        url = service.plain.format(at=f"127.0.0.1:{server.port}")
        is_absent(service, url, "", "--connect-timeout", "0.4")


@every_service
def test_in_05_an_absent_service_is_exit_3(service: Service) -> None:
    url = service.plain.format(at="127.0.0.1:1")
    done = ended(service, url, alone=False)
    assert (done.returncode, done.stderr) == (3, "")
    assert f"no {service.name} at 127.0.0.1:1" in unbroken(done.stdout)


# Something else answers


@as_itself_and_in_05
@every_service
def test_garbage(service: Service, alone: bool) -> None:
    with Noisy() as server:
        at = f"127.0.0.1:{server.port}"
        line = refused(service, service.plain.format(at=at), alone=alone)
    assert at in line
    assert service.name in line


@every_service
def test_the_port_of_another_service(
    service: Service, redis_url: str, postgres_url: str
) -> None:
    other = urlsplit(postgres_url if service.number == "03" else redis_url)
    at = f"127.0.0.1:{other.port}"
    line = refused(service, service.plain.format(at=at))
    assert at in line
    assert service.name in line


# Certificates


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    if not shutil.which("openssl"):
        absent("no openssl on the PATH to make certificates with")
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize(
    ("name", "alone"),
    [
        ("expired", True),
        ("elsewhere", True),
        ("untrusted", True),
        ("untrusted", False),  # in 05, where the same code opens the connection
        pytest.param("expired", False, marks=pytest.mark.soak),
        pytest.param("elsewhere", False, marks=pytest.mark.soak),
    ],
)
@every_service
def test_a_certificate_that_does_not_hold(
    service: Service, name: str, alone: bool, certificates: Certificates
) -> None:
    context = certificates.context(name)
    with OverTls(context, service.asks_first) as server:
        at = f"localhost:{server.port}"
        url = service.over_tls.format(at=at, ca=certificates.authority)
        line = refused(service, url, alone=alone)
    assert at in line
    assert "certificate" in line.lower()


@every_service
def test_a_certificate_of_ours_is_demanded(
    service: Service, certificates: Certificates
) -> None:
    context = certificates.context("good", demands_one=True)
    with OverTls(context, service.asks_first) as server:
        at = f"localhost:{server.port}"
        url = service.over_tls.format(at=at, ca=certificates.authority)
        line = refused(service, url)
    assert at in line
    assert "certificate" in line.lower()


@every_service
def test_a_server_that_wants_tls_and_gets_none(
    service: Service, certificates: Certificates
) -> None:
    with OverTls(certificates.context("good"), asked_first=False) as server:
        at = f"localhost:{server.port}"
        line = refused(service, service.plain.format(at=at))
    assert at in line
    assert "TLS" in line or "no PostgreSQL" in line or "tls=true" in line


@every_service
def test_a_folder_in_place_of_the_file_of_the_authority(
    service: Service, certificates: Certificates
) -> None:
    with OverTls(certificates.context("good"), service.asks_first) as server:
        at = f"localhost:{server.port}"
        url = service.over_tls.format(at=at, ca=certificates.folder)
        line = refused(service, url)
    assert service.variable in line
    assert str(certificates.folder) in line or "ssl_options" in line


@every_service
def test_behind_tls_a_silent_server_is_absent(
    service: Service, certificates: Certificates
) -> None:
    if service.asks_first:
        absent("platform: PostgreSQL has answered before TLS begins")
    with OverTls(certificates.context("good"), asked_first=False) as server:
        at = f"localhost:{server.port}"
        url = service.over_tls.format(at=at, ca=certificates.authority)
        done = ended(service, url, "--require-live", "--connect-timeout", "2")
    assert (done.returncode, done.stderr) == (3, "")


@every_service
def test_a_missing_file_of_the_authority(
    service: Service, certificates: Certificates
) -> None:
    with OverTls(certificates.context("good"), service.asks_first) as server:
        at = f"localhost:{server.port}"
        line = refused(service, service.over_tls.format(at=at, ca="/nowhere/ca.pem"))
    assert service.variable in line
    assert "/nowhere/ca.pem" in line or "ssl_options" in line


# Options and times


OPTIONS = [(one, option) for one in SERVICES for option in one.bad_options]


@pytest.mark.parametrize(
    ("service", "option"), OPTIONS, ids=lambda part: getattr(part, "number", part)
)
def test_an_option_that_does_not_exist_or_is_absurd(
    service: Service, option: str, request: pytest.FixtureRequest
) -> None:
    fixture = {"01": "postgres_url", "03": "redis_url"}.get(service.number)
    url = service.plain.format(at="127.0.0.1:1")
    if fixture:  # where the library says nothing before it connects
        url = request.getfixturevalue(fixture)
    line = refused(service, f"{url}{'&' if '?' in url else '?'}{option}")
    assert service.variable in line
    assert service.bad_options[option].lower() in line.lower()


@as_itself_and_in_05
@every_service
def test_half_an_address_in_brackets(service: Service, alone: bool) -> None:
    line = refused(service, service.plain.format(at="[::1"), alone=alone)
    assert f"{service.variable} is not a {service.name} URL" in line


@every_service
def test_the_time_to_connect_is_an_option_of_all(service: Service) -> None:
    for wrong in ("0", "-1", "nan", "soon"):
        line = refused(service, "", "--connect-timeout", wrong)
        assert "--connect-timeout: it is not a number of seconds" in line


class Slow(FaultyNetwork):
    """Passes on the first answer of a server only after a while."""

    wait = 1.6  # seconds: more than the limit of a second, less than the wider ones

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        await asyncio.sleep(self.wait)
        await super().serve(reader, writer)


@every_service
def test_a_slow_server_is_met_by_the_option_or_by_its_url(
    service: Service, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue(service.fixture)
    found = urlsplit(url)
    with Slow("127.0.0.1", found.port or 0) as network:
        slow = url.replace(f":{found.port}", f":{network.port}")
        done = ended(service, slow, "--require-live")
        assert done.returncode == 3, done.stdout
        done = ended(service, slow, "--require-live", "--connect-timeout", "20")
        assert done.returncode == 0, done.stdout
        own = f"{slow}{'&' if '?' in slow else '?'}{service.own_limit}"
        done = ended(service, own, "--require-live", "--connect-timeout", "0.2")
        assert done.returncode == 0, done.stdout


# A right that is missing, and a server that is full


def roles(server: Server, statement: str) -> None:
    import psycopg

    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(statement.encode())


def test_postgresql_without_a_right_or_a_connection(private_postgres: Server) -> None:
    service = SERVICES[0]
    roles(private_postgres, f"CREATE ROLE weak LOGIN PASSWORD '{SECRET}'")
    roles(private_postgres, "CREATE ROLE one LOGIN CONNECTION LIMIT 0")
    url = private_postgres.url.replace("postgres@", f"weak:{SECRET}@")
    for alone in (True, False):
        line = refused(service, url, alone=alone)
        assert "permission denied for database" in line
        assert f"127.0.0.1:{private_postgres.port}" in line
    line = refused(service, url.replace("weak:", "one:"))
    assert "too many connections for role" in line
    line = refused(service, url.replace("weak:", "nobody:"))
    assert 'role "nobody" does not exist' in line
    line = refused(service, url.replace("/postgres", "/nowhere"))
    assert 'database "nowhere" does not exist' in line


def test_mongodb_without_a_right_or_a_login(private_mongo: Server) -> None:
    import pymongo

    service = SERVICES[1]
    with pymongo.MongoClient[Any](private_mongo.url) as admin:
        roles = [{"role": "readWrite", "db": "shop"}]
        admin["shop"].command("createUser", "weak", pwd=SECRET, roles=roles)
    for right in ("createCollection", "insert", "remove"):
        with FewRights(private_mongo.port, "shop", READ_WRITE - {right}) as proxy:
            at = f"127.0.0.1:{proxy.port}"
            url = f"mongodb://weak:{SECRET}@{at}/shop?directConnection=true"
            for alone in (True, False) if right == "insert" else (True,):
                line = refused(service, url, alone=alone)
                assert f"lacks the right {right} in the database 'shop'" in line
                assert service.variable in line
    at = f"127.0.0.1:{private_mongo.port}"
    for wrong in (f"nobody:{SECRET}", f"weak:wrong-{SECRET}"):
        line = refused(service, f"mongodb://{wrong}@{at}/shop")
        assert f"{service.variable}: MongoDB at {at} lets nobody in like this" in line
        assert "password" in line


@as_itself_and_in_05
def test_mongodb_that_answers_with_an_error(private_mongo: Server, alone: bool) -> None:
    import pymongo

    place = f"127.0.0.1:{private_mongo.port}"
    refusal = {"failCommands": ["saslStart"], "errorCode": 334}  # no such mechanism
    with pymongo.MongoClient[Any](private_mongo.url) as client:
        fail = partial(client.admin.command, "configureFailPoint", "failCommand")
        fail(mode="alwaysOn", data=refusal)
        try:
            url = f"mongodb://u:{SECRET}@{place}/?authMechanism=PLAIN"
            line = refused(SERVICES[1], url, alone=alone)
        finally:
            fail(mode="off")
    assert f"{SERVICES[1].variable}: MongoDB at {place} says: " in line


def test_redis_without_a_right_or_a_connection(private_redis: Server) -> None:
    import redis

    service = SERVICES[2]
    at = f"127.0.0.1:{private_redis.port}"
    rules = {
        "weak": ["~*", "+@all", "-set"],
        "mute": ["~*", "+@all", "-eval"],
        "blind": ["~*", "+@all", "-info"],
        "fenced": ["~elsewhere:*", "+@all"],
    }
    with redis.Redis(port=private_redis.port) as admin:
        for user, rights in rules.items():
            admin.execute_command("ACL", "SETUSER", user, "on", f">{SECRET}", *rights)
        for user in rules:
            for alone in (True, False) if user == "weak" else (True,):
                url = f"redis://{user}:{SECRET}@{at}/0"
                line = refused(service, url, alone=alone)
                assert at in line
                assert "permission" in line.lower() or "right" in line.lower()
        wrong = refused(service, f"redis://weak:wrong-{SECRET}@{at}/0")
        assert "password" in wrong
        admin.config_set("maxclients", 1)
        line = refused(service, f"redis://{at}/0")
        assert at in line
        assert "max number of clients" in line
        admin.config_set("maxclients", 1000)


def test_rabbitmq_without_a_right_or_a_connection(private_rabbitmq: Server) -> None:
    service = SERVICES[3]
    node = private_rabbitmq
    at = f"127.0.0.1:{node.port}"
    rights = {
        "nothing": None,
        "reader": ("^$", "^$", ".*"),
        "writer": (".*", ".*", "^$"),
        "mute": (".*", "^$", ".*"),
    }
    for user, right in rights.items():
        node.ctl("add_user", user, SECRET)
        if right:
            node.ctl("set_permissions", user, *right)
        for alone in (True, False) if user == "reader" else (True,):
            url = f"amqp://{user}:{SECRET}@{at}/%2F"
            line = refused(service, url, alone=alone)
            assert at in line or "ACCESS_REFUSED" in line
            assert "access" in line.lower()
    node.ctl("set_vhost_limits", '{"max-connections": 0}')
    line = refused(service, node.url)
    assert at in line
    assert "limit" in line
