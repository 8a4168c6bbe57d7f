"""The guide's settings for TLS and rights, loaded into real, private servers."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import services
from conftest import absent, with_tls
from lessons import ROOT, path_of, run

pytest.importorskip("pwd", reason="platform: Windows has no accounts of this kind")
GUIDE = (ROOT / "COMPREHENSIVE_GUIDE.md").read_text("utf-8")
BLOCKS = dict(
    re.findall(r"^<!-- config: (\S+) -->\n```\w+\n(.*?)^```$", GUIDE, re.M | re.S)
)
PASSWORD = "s3cret-of-this-test"


# With what Python 3.13's default context asks for, and earlier ones do without.
OPENSSL = """
[req]
distinguished_name = name
x509_extensions = authority
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
subjectAltName = DNS:localhost
authorityKeyIdentifier = keyid
extendedKeyUsage = serverAuth
"""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ca.pem, and server.pem for localhost with its key."""
    folder = tmp_path_factory.mktemp("module8-tls")
    (folder / "config").write_text(OPENSSL)

    def openssl(line: str) -> None:
        command = ["openssl", *line.split()]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)

    if not shutil.which("openssl"):
        absent("there is no openssl here")
    new = "req -config config -newkey rsa:2048 -nodes"
    openssl(f"{new} -x509 -days 2 -keyout ca.key -out ca.pem -subj /CN=module8")
    openssl(f"{new} -keyout server.key -out server.csr -subj /CN=localhost")
    signed = "x509 -req -days 2 -CA ca.pem -CAkey ca.key -CAcreateserial"
    own = "-extfile config -extensions server"
    openssl(f"{signed} {own} -in server.csr -out server.pem")
    return folder


@contextmanager
def stopped(name: str, certificates: Path, folder: str = "") -> Iterator[Any]:
    """Yield a private server that has stopped, with the certificates in its folder."""
    with with_tls(), services.private(name) as server:
        if server is None:
            absent(f"there is no {name} here")
        assert server
        server.kill()
        for file in ("ca.pem", "server.pem", "server.key"):
            copy = Path(shutil.copy(certificates / file, server.folder / folder))
            copy.chmod(0o600)
            owner = server.folder.stat()  # the account that the server runs as
            os.chown(copy, owner.st_uid, owner.st_gid)
        yield server


def test_redis_serves_the_cache_over_tls_and_nothing_else(certificates: Path) -> None:
    import redis

    with stopped("redis", certificates) as server:
        digest = hashlib.sha256(PASSWORD.encode()).hexdigest()
        users = BLOCKS["users.acl"].replace("SHA256", digest)
        (server.folder / "users.acl").write_text(users)
        config = BLOCKS["redis.conf"].replace(
            "tls-port 6379", f"tls-port {server.port}"
        )
        settings = server.folder / "redis.conf"
        settings.write_text(f"dir {server.folder}\n{config}bind 127.0.0.1\nsave ''\n")
        *command, _ = server.argv[: server.argv.index("--port") + 1]
        server.argv = [*command, str(settings)]
        server.start()

        authority = certificates / "ca.pem"
        place = f"localhost:{server.port}/0?ssl_ca_certs={authority}"
        url = f"rediss://shop_cache:{PASSWORD}@{place}"
        demos = ("tier", "invalidation", "services")
        done = run(path_of("03"), "--require-live", "--url", url, "--only", *demos)
        assert done.returncode == 0, done.stdout + done.stderr
        assert PASSWORD not in done.stdout + done.stderr

        # The guide's warning: a cache that fails open hides a missing right.
        (server.folder / "users.acl").write_text(users.replace("+@scripting ", ""))
        server.restart()
        only = ("--only", "services")
        hidden = run(path_of("03"), "--require-live", "--url", url, *only)
        assert hidden.returncode in (1, 2), hidden.stdout + hidden.stderr

        with redis.Redis.from_url(url) as client:
            for forbidden in (["FLUSHALL"], ["KEYS", "*"], ["GET", "another"]):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    client.execute_command(*forbidden)
        with (
            redis.Redis.from_url(f"rediss://{place}") as nobody,
            pytest.raises(redis.exceptions.AuthenticationError),
        ):
            nobody.ping()
        with (
            redis.Redis.from_url(f"redis://localhost:{server.port}/0") as plain,
            pytest.raises(redis.exceptions.ConnectionError),
        ):
            plain.ping()
        untrusted = run(path_of("03"), "--only", "lru", "--url", url.partition("?")[0])
        assert untrusted.returncode == 2
        assert "certificate is not trusted" in untrusted.stderr


def test_postgresql_checks_the_host_and_the_roles(certificates: Path) -> None:
    import psycopg

    with stopped("postgres", certificates, "data") as server:
        server.start()  # as its superuser: the roles, then the settings
        with psycopg.connect(server.url, autocommit=True) as owner:
            roles = BLOCKS["roles.sql"].replace("DATABASE shop", "DATABASE postgres")
            owner.execute(roles.encode())
            for role in ("shop_app", "shop_reader"):
                owner.execute(f"ALTER ROLE {role} PASSWORD '{PASSWORD}'".encode())
            owner.execute("SET ROLE shop_owner")
            owner.execute(
                "CREATE TABLE shop.orders (id int GENERATED BY DEFAULT AS IDENTITY)"
            )
        server.kill()
        data = server.folder / "data"
        with (data / "postgresql.conf").open("a") as file:
            file.write(BLOCKS["postgresql.conf"])
        (data / "pg_hba.conf").write_text(BLOCKS["pg_hba.conf"])

        base = f"port={server.port} dbname=postgres password={PASSWORD}"
        checked = f"sslmode=verify-full sslrootcert={certificates / 'ca.pem'}"

        def as_user(role: str) -> Any:
            where = f"host=localhost user={role} {base} {checked}"
            return closing(psycopg.connect(where, autocommit=True))

        def ready() -> bool:
            with suppress(psycopg.OperationalError), as_user("shop_app"):
                return True
            return False

        server.ready = ready
        server.start()
        with as_user("shop_app") as app:
            app.execute("INSERT INTO shop.orders DEFAULT VALUES")
            assert app.execute("SHOW statement_timeout").fetchone() == ("30s",)
            for forbidden in (
                b"DROP TABLE shop.orders",
                b"CREATE TABLE shop.mine ()",
                b"CREATE TABLE public.mine ()",
                b"CREATE TEMPORARY TABLE mine ()",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    app.execute(forbidden)
            # What the guide says is not forbidden.
            app.execute("SET statement_timeout = 0")
            app.execute("SELECT lo_create(0)")
        with as_user("shop_reader") as reader:
            assert reader.execute("SELECT count(*) FROM shop.orders").fetchone() == (1,)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute("DELETE FROM shop.orders")
        # `require` checks the authority if it is given one, and never the host's name.
        encrypted = f"host=127.0.0.1 user=shop_app {base} sslmode=require"
        for authority in ("ca.pem", "absent.pem"):
            given = f"{encrypted} sslrootcert={certificates / authority}"
            psycopg.connect(given, connect_timeout=5).close()
        for refused in (
            f"{encrypted} sslrootcert={certificates / 'server.pem'}",
            f"host=localhost user=shop_app {base} sslmode=disable",
            f"host=127.0.0.1 user=shop_app {base} {checked}",  # not the name signed
            f"host=localhost user=shop_app {base} {checked}/not-the-authority",
        ):
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(refused, connect_timeout=5).close()


@pytest.mark.slow
def test_rabbitmq_takes_only_tls_and_only_our_names(certificates: Path) -> None:
    import ssl

    import pika

    with stopped("rabbitmq", certificates) as server:
        config = BLOCKS["rabbitmq.conf"].replace("5671", str(server.port))
        for file in ("ca.pem", "server.pem", "server.key"):
            config = config.replace(f" {file}", f" {server.folder / file}")
        (server.folder / "rabbitmq.conf").write_text(config)
        server.ready = lambda: services.answers(server.port)
        server.start()
        for line in BLOCKS["rabbitmqctl"].splitlines():
            command = shlex.split(line)[1:]
            server.ctl(*command, *[PASSWORD] * (command[0] == "add_user"))

        url = f"amqps://shop_app:{PASSWORD}@localhost:{server.port}/shop"
        trust = {"SSL_CERT_FILE": str(certificates / "ca.pem")}
        options = ("--require-live", "--url", url, "--only", "pipeline")
        done = run(path_of("04"), *options, env=trust)
        assert done.returncode == 0, done.stdout + done.stderr
        assert PASSWORD not in done.stdout + done.stderr

        parameters = pika.URLParameters(url)
        trusted = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
        trusted.verify_flags |= ssl.VERIFY_X509_STRICT
        parameters.ssl_options = pika.SSLOptions(trusted, "localhost")
        with (
            pika.BlockingConnection(parameters) as connection,
            pytest.raises(pika.exceptions.ChannelClosedByBroker, match="ACCESS"),
        ):
            connection.channel().queue_declare("another", durable=True)
        plain = f"amqp://shop_app:{PASSWORD}@localhost:{server.port}/shop"
        with pytest.raises(pika.exceptions.AMQPError):
            pika.BlockingConnection(pika.URLParameters(plain + "?socket_timeout=2"))


def test_every_block_of_settings_is_tried() -> None:
    source = Path(__file__).read_text("utf-8")
    assert all(f'BLOCKS["{name}"]' in source for name in BLOCKS)
    assert len(BLOCKS) == 7
