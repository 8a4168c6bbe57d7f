"""Lesson 02 alone: addresses, credentials, options, what comes back."""

from __future__ import annotations

import argparse
import socket
import ssl
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock
from urllib.parse import quote

import bson
import dns.resolver
import pymongo
import pytest
from conftest import absent
from lessons import load, path_of, run, unbroken
from programs import program
from pymongo.errors import OperationFailure
from services import Server

from course.errors import BadInput, NoService, Skip
from course.lab import in_background
from course.mongo.codec import CODEC
from course.mongo.connection import (
    concerns_of,
    connect,
    limit_of,
    probed,
    waits_of,
)
from course.mongo.counting import CommandCounter
from course.mongo.diagnosis import told_by
from course.mongo.environment import MongoEnv
from course.mongo.seed import START
from course.network import LoopbackServer
from course.services import ServiceAddress
from course.urls import MONGO_FORM, service_url

lesson = load("02")
SCRIPT = path_of("02")


@pytest.fixture
def env() -> Iterator[Any]:
    given = {"offline": True, "require_live": False, "url": None}
    with lesson.open_env(argparse.Namespace(**given)) as found:
        yield found


@pytest.mark.parametrize(
    "url",
    [
        "http://ann:s3cr3t@127.0.0.1/",
        "mongodb://",
        "mongodb://ann:s3cr3t@127.0.0.1:99999/",
        "mongodb://ann:s3cr3t@127.0.0.1:port/",
        "mongodb://ann:s3cr3t@127.0.0.1/a$b",
        "mongodb://ann:s3cr3t@127.0.0.1/two words",
        "mongodb://ann:s3cr3t@@127.0.0.1/",
        "mongodb://ann:s3cr3t@127.0.0.1/?tls=perhaps",
        "mongodb://ann:s3cr3t@127.0.0.1/?no_such_option=1",
        "mongodb://127.0.0.1/?serverSelectionTimeoutMS=soon",
        "mongodb://127.0.0.1/?datetime_conversion=datetime_ms",
    ],
)
@pytest.mark.parametrize("way", ["option", "variable"])
def test_a_bad_address_gets_one_line(
    url: str,
    way: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["--url", url] if way == "option" else []
    monkeypatch.setenv("MONGODB_URI", url if way == "variable" else "")
    assert lesson.main(["--only", "validators", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    blamed, other = ("--url", "MONGODB_URI")
    if way == "variable":
        blamed, other = other, blamed
    assert f"{blamed} is not a MongoDB URL: " in printed.err
    assert other not in printed.err
    assert "write mongodb://user:" in printed.err
    assert "s3cr3t" not in printed.err


def test_a_mute_server_is_given_up_for_the_stand_in_or_for_exit_3() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"mongodb://ann:s3cr3t@127.0.0.1:{mute.getsockname()[1]}/"
        done = run(SCRIPT, "--only", "validators", "--url", url)
        strict = run(SCRIPT, "--require-live", "--url", url)
    assert done.returncode == 0
    assert "no answer in 1 s" in unbroken(done.stdout).splitlines()[0]
    assert strict.returncode == 3
    assert len(unbroken(strict.stdout).splitlines()) == 1
    assert "s3cr3t" not in done.stdout + done.stderr + strict.stdout + strict.stderr


def test_no_wait_is_for_ever() -> None:
    with connect("mongodb://127.0.0.1:1/", CommandCounter()) as client:
        pool = client.options.pool_options
        limits = [client.options.timeout, client.options.server_selection_timeout]
        limits += [pool.connect_timeout, pool.wait_queue_timeout]
        assert all(limit and limit <= 30 for limit in limits)
        assert client.options.pool_options.max_pool_size <= 100
        assert client.codec_options.tz_aware
        assert client.codec_options.uuid_representation == bson.binary.STANDARD


def test_timeout_ms_ends_a_wait_that_the_defaults_go_on_with() -> None:
    """A frozen server looks like this: the kernel accepts a connection for it."""
    mute = socket.create_server(("127.0.0.1", 0))
    url = f"mongodb://127.0.0.1:{mute.getsockname()[1]}/"
    counter = CommandCounter()
    with (
        pymongo.MongoClient[Any](url) as naive,
        connect(url, counter, timeoutMS=200) as hasty,
        mute,  # closed first, which ends the naive wait
    ):
        assert list(waits_of(naive).values()).count("for ever") == 2
        assert list(waits_of(hasty).values()).count("for ever") == 0
        waiting = in_background(lambda: naive.admin.command("ping"))
        ending = in_background(lambda: hasty.admin.command("ping"))
        with pytest.raises(pymongo.errors.ServerSelectionTimeoutError):
            ending.result(10)
        assert not waiting.done()
    with pytest.raises(pymongo.errors.PyMongoError):
        waiting.result(30)


@pytest.fixture
def told() -> Callable[[Any], Any]:
    """Return what the probe makes of a server that says, or raises, the same always."""

    def probe(said: Any) -> Any:
        admin = Mock(**{"command.side_effect": said})
        client: Any = SimpleNamespace(admin=admin)
        return probed(client, "--url")

    return probe


def test_an_old_server_is_refused(told: Callable[[Any], Any]) -> None:
    build = {"versionArray": [4, 4, 29, 0], "version": "4.4.29"}
    with pytest.raises(BadInput, match=r"4\.4\.29 is too old"):
        told([build, {}])


@pytest.mark.parametrize("code", [50, 262])
def test_a_server_that_takes_too_long_is_absent(
    told: Callable[[Any], Any], code: int
) -> None:
    with pytest.raises(NoService, match="no answer in 1 s"):
        told(pymongo.errors.ExecutionTimeout("no", code))


@pytest.mark.parametrize("code", [13, 18, 8000])
def test_a_server_that_lets_nobody_in_is_there(
    told: Callable[[Any], Any], code: int
) -> None:
    with pytest.raises(BadInput, match=r"--url: .* lets nobody in .* authSource"):
        told(OperationFailure("no", code))


@pytest.mark.parametrize("code", [8, 334, None])
def test_a_server_in_trouble_is_there_and_its_words_are_shown(
    told: Callable[[Any], Any], code: int | None
) -> None:
    """Such as PLAIN where that is not enabled: no stand-in may hide it."""
    with pytest.raises(BadInput, match=r"^--url: MongoDB says: PLAIN is not enabled$"):
        told(OperationFailure("PLAIN is not enabled, full error: {'ok': 0.0}", code))


def test_a_name_that_does_not_resolve_is_a_server_that_is_absent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unknown(*_args: Any, **_options: Any) -> None:
        raise dns.resolver.NXDOMAIN

    monkeypatch.setattr(dns.resolver, "resolve", unknown)
    arguments = ["--only", "validators", "--url", "mongodb+srv://u:s3cr3t@h.invalid/"]
    for option, code in ([], 0), (["--require-live"], 3):
        assert lesson.main([*option, *arguments]) == code
        printed = capsys.readouterr()
        assert "its name does not resolve" in unbroken(printed.out).splitlines()[0]
        assert "s3cr3t" not in printed.out + printed.err


def test_without_a_name_server_every_server_is_absent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(*_args: Any, **_options: Any) -> None:
        said = "Temporary failure in name resolution"
        raise socket.gaierror(socket.EAI_AGAIN, said)

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    arguments = ["--only", "validators", "--url", "mongodb://u:s3cr3t@h.invalid:1/"]
    assert lesson.main(["--require-live", *arguments]) == 3
    printed = capsys.readouterr()
    assert "its name does not resolve" in unbroken(printed.out)
    assert printed.err == ""


@pytest.mark.parametrize(("option", "code"), [([], 0), (["--require-live"], 3)])
def test_a_socket_that_is_not_there_is_a_server_that_is_absent(
    option: list[str], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"mongodb://{quote(str(tmp_path / 'none.sock'), safe='')}/"
    assert lesson.main([*option, "--only", "validators", "--url", url]) == code
    printed = capsys.readouterr()
    assert "none.sock: no such socket" in unbroken(printed.out)
    assert printed.err == ""


def test_only_what_needs_a_replica_set_is_skipped_without_one(env: Any) -> None:
    db: Any = SimpleNamespace(client=Mock(**{"admin.command.return_value": {"ok": 1}}))
    env = MongoEnv("", True, db, env.commands, deploy=print)
    env.need_server("plans")
    with pytest.raises(Skip, match="no replica set"):
        env.need_server("transactions", replica_set=True)


def test_what_a_url_says_goes_before_our_defaults() -> None:
    url = "mongodb://127.0.0.1:1/?CONNECTTIMEOUTMS=5000&serverSelectionTimeoutMS=7000"
    url += "&timeoutMS=9000&w=1&readConcernLevel=local&waitQueueTimeoutMS=3000"
    with connect(url, CommandCounter()) as client:
        options = client.options
        waits = waits_of(client)
        concerns = concerns_of(client)
    assert options.pool_options.connect_timeout == 5
    assert waits == {
        "a server": 7,
        "connecting": 5,
        "a free connection": 3,
        "a whole operation": 9,
    }
    assert concerns["acknowledged by"] == 1
    assert concerns["read concern"] == "local"
    with connect("mongodb://127.0.0.1:1/?w=0", CommandCounter()) as client:
        assert not client.write_concern.acknowledged
    with connect("mongodb://127.0.0.1:1/?journal=false", CommandCounter()) as client:
        assert client.write_concern.document == {"w": "majority", "j": False}
    for query, concern in (
        ("", {"w": "majority", "j": True}),
        ("?w=1", {"w": 1, "j": True}),
        ("?fsync=true", {"w": "majority", "fsync": True}),
    ):
        with connect(f"mongodb://127.0.0.1:1/{query}", CommandCounter()) as client:
            assert client.write_concern.document == concern
    with connect("mongodb://h/?tz_aware=false", CommandCounter()) as client:
        assert client.codec_options.tz_aware


@pytest.mark.parametrize(
    "option", ["serverSelectionTimeoutMS", "SOCKETTIMEOUTMS", "waitQueueTimeoutMS"]
)
def test_a_wait_of_the_url_is_not_put_out_of_force(option: str) -> None:
    """With timeoutMS, PyMongo passes over the waits that are its parts."""
    with connect(f"mongodb://127.0.0.1:1/?{option}=300", CommandCounter()) as client:
        answer = client.options.pool_options.socket_timeout
        assert client.options.timeout is None
        assert answer is not None and answer <= 30
        assert 0.3 in (*waits_of(client).values(), answer)
        started = time.monotonic()
        with pytest.raises(pymongo.errors.ServerSelectionTimeoutError):
            client.admin.command("ping")
        assert time.monotonic() - started < 15  # and not timeoutMS, which is 30 s


@pytest.mark.parametrize(
    ("url", "limit", "seconds"),
    [
        ("mongodb://h/", 1.0, 1.0),
        ("mongodb://h/", 4.0, 4.0),  # --connect-timeout
        ("mongodb://h/?tls=true", 1.0, 10.0),  # as Atlas needs
        ("mongodb://h/?tls=true", 4.0, 4.0),
        ("mongodb+srv://h.example.org/", 1.0, 10.0),
        ("mongodb+srv://h.example.org/?tls=false", 1.0, 1.0),
        ("mongodb://h/?tls=true&serverSelectionTimeoutMS=2500", 1.0, 2.5),
    ],
)
def test_a_far_server_gets_more_than_a_second(
    url: str, limit: float, seconds: float
) -> None:
    named = service_url(ServiceAddress(url, "--url", True, limit), MONGO_FORM)
    assert limit_of(named) == seconds


class Speaks(LoopbackServer):
    """Something that is no MongoDB: it says a word, or hangs up."""

    def __init__(self, word: bytes, asked: bytes = b"") -> None:
        self.word = word
        self.asked = asked

    async def serve(self, reader: Any, writer: Any) -> None:
        if self.asked:
            while (line := await reader.readline()) != self.asked:
                if not line:  # the client has gone
                    return
        else:
            await reader.read(16)
        writer.write(self.word)
        await writer.drain()


@pytest.mark.parametrize(
    ("server", "why"),
    [
        (Speaks(b""), "it hangs up: is it a MongoDB"),
        (Speaks(b"+PONG\r\n", asked=b"PING\r\n"), "Redis answers there"),
        (
            Speaks(b"500 what?\r\n", asked=b"PING\r\n"),
            "another kind of server answers there",
        ),
        (Speaks(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 3), "response id"),
    ],
)
def test_who_answers_and_is_no_mongodb_is_named(
    server: Speaks, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with server:
        url = f"mongodb://ann:s3cr3tpw@127.0.0.1:{server.port}/"
        assert lesson.main(["--only", "validators", "--url", url]) == 2
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert printed.out == ""
    assert f"no MongoDB at 127.0.0.1:{server.port}: " in line
    assert why in line
    assert "s3cr3tpw" not in line


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("tls=true", "it answers without TLS"),
        ("replicaSet=other", "not in the replica set 'other'"),
        ("replicaSet=other&directConnection=true", "replica set named 'other'"),
        ("readPreference=secondary", "no member answers for readPreference=secondary"),
        ("tls=true&tlsCAFile=/no/such/ca.pem", "there is no file /no/such/ca.pem"),
        ("w=0", "nobody knows what became of a write"),
        ("compressors=zip", "Unsupported compressor"),
        ("tlsCAFile=/no/such/ca.pem", "there is no file"),
    ],
)
def test_an_option_that_does_not_fit_the_server_is_named(
    private_mongo: Server, options: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"mongodb://127.0.0.1:{private_mongo.port}/?{options}"
    assert lesson.main(["--only", "validators", "--url", url]) == 2
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert printed.out == ""
    assert why in line


def test_a_certificate_that_is_not_trusted_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    openssl = program("openssl")
    if not openssl:
        absent("openssl is not installed")
    files = [tmp_path / "key.pem", tmp_path / "cert.pem"]
    make = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=h"]
    make += ["-keyout", str(files[0]), "-out", str(files[1])]
    subprocess.run(make, check=True, capture_output=True)  # type: ignore[arg-type]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files[1], files[0])
    with socket.create_server(("127.0.0.1", 0)) as server:
        stop = threading.Event()

        def welcome() -> None:
            server.settimeout(0.1)
            while not stop.is_set():
                with suppress(OSError):
                    context.wrap_socket(server.accept()[0], server_side=True).close()

        welcoming = threading.Thread(target=welcome)
        welcoming.start()
        url = f"mongodb://127.0.0.1:{server.getsockname()[1]}/?tls=true"
        arguments = ["--url", url, "--connect-timeout", "2"]
        try:
            assert lesson.main(["--only", "validators", *arguments]) == 2
        finally:
            stop.set()
            welcoming.join(10)
    assert "certificate verify failed" in capsys.readouterr().err


def test_moments_come_back_in_utc_cut_to_ms_and_uuids_as_such() -> None:
    moment = START + timedelta(microseconds=123_456)
    key = uuid.UUID(int=8)
    sent = bson.encode({"at": moment, "key": key}, codec_options=CODEC)
    naive = bson.decode(sent)  # with PyMongo's defaults
    assert naive["at"].tzinfo is None
    assert not isinstance(naive["key"], uuid.UUID)
    cut = moment.replace(microsecond=123_000)
    assert bson.decode(sent, CODEC) == {"at": cut, "key": key}


@pytest.mark.parametrize("option", ["w=5", "w=nowhere", "readConcernLevel=bogus"])
def test_what_the_server_refuses_of_a_url_is_one_line(
    option: str, private_mongo: Server
) -> None:
    done = run(
        path_of("02"), "--require-live", "--url", f"{private_mongo.url}?{option}"
    )
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    (line,) = done.stderr.splitlines()
    assert "--url: MongoDB says " in line
    assert "full error" not in line
    with pymongo.MongoClient[dict[str, Any]](private_mongo.url) as client:
        made = [name for name in client.list_database_names() if "module8" in name]
    assert made == []


@pytest.mark.parametrize(
    ("address", "place"),
    [(("::1", 27017), "[::1]:27017"), (("/run/m.sock", None), "/run/m.sock")],
)
def test_an_address_is_shown_as_a_url_has_it(
    address: tuple[str, int | None], place: str
) -> None:
    said = f"{address[0]}:{address[1]}: Unknown opcode"
    servers = {address: SimpleNamespace(server_type_name="Unknown", error=said)}
    known = SimpleNamespace(server_descriptions=lambda: servers)
    named = service_url(ServiceAddress("mongodb://h/", "--url", True), MONGO_FORM)
    complaint = told_by(SimpleNamespace(topology_description=known), named)
    assert str(complaint) == f"--url: no MongoDB at {place}: Unknown opcode"


def test_a_file_that_is_missing_is_named_however_its_option_is_written() -> None:
    for option in ("tlsCAFile", "tlscafile"):
        url = f"mongodb://127.0.0.1:1/?tls=true&{option}=/nowhere/ca"
        with pytest.raises(BadInput, match="there is no file /nowhere/ca that"):
            connect(url, CommandCounter(), "--url")
