"""Where --chaos leads to Redis over a network of its own: TLS is verified as before."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing

import pytest
import redis
import services
from conftest import absent, with_tls
from lessons import load
from services import Server
from stack.odd_servers import Certificates, make_certificates

from course.caching.client import cache_client
from course.integrated.cache import ScoreCache
from course.integrated.task import Place
from course.network import FaultyNetwork

LIMIT = 10.0  # seconds; a handshake on a busy machine


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    if not shutil.which("openssl"):
        absent("no openssl on the PATH to make certificates with")
    return make_certificates(tmp_path_factory.mktemp("module8-certificates"))


@pytest.fixture
def secure(certificates: Certificates) -> Iterator[tuple[Server, int]]:
    """Yield a Redis whose certificate is for localhost, and its port for TLS."""
    port = services.free_port()
    options = ["--tls-port", str(port), "--tls-auth-clients", "no"]
    for option, file in (
        ("cert-file", "good.pem"),
        ("key-file", "good.key"),
        ("ca-cert-file", "ca.pem"),
    ):
        options += [f"--tls-{option}", str(certificates.folder / file)]
    with with_tls(), services.private("redis", *options) as server:
        if server is None:
            absent("no redis-server on the PATH to start a private one from")
        assert server
        yield server, port


def test_a_certificate_is_for_redis_name_wherever_the_way_begins(
    secure: tuple[Server, int], certificates: Certificates
) -> None:
    _, port = secure
    schemes = f"rediss://{{}}:{port}/0?ssl_ca_certs={certificates.authority}"
    for host, fits in (("localhost", True), ("127.0.0.1", False)):
        client = cache_client(schemes.format(host), LIMIT)
        with FaultyNetwork(host, port) as network, closing(client):
            cache = ScoreCache(load("03"), client, "module8:detour:")
            cache.move(Place("127.0.0.1", network.port))
            if fits:
                assert client.ping()
                assert network.clients
            else:
                with pytest.raises(redis.ConnectionError, match="certificate"):
                    client.ping()


def test_the_way_leads_there_without_tls_too(secure: tuple[Server, int]) -> None:
    server, _ = secure
    client = cache_client(server.url, LIMIT)
    with FaultyNetwork("127.0.0.1", server.port) as network, closing(client):
        ScoreCache(load("03"), client, "module8:detour:").move(
            Place("127.0.0.1", network.port)
        )
        assert client.ping()
        assert network.clients
        network.cut()
        assert client.ping()
