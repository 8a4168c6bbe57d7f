"""Lesson 02 alone: addresses, credentials, options, what comes back."""

from __future__ import annotations

import argparse
import socket
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import bson
import dns.resolver
import pymongo
import pytest
from lessons import load, path_of, run, unbroken
from pymongo.errors import OperationFailure

from course.errors import BadInput, NoService, Skip
from course.mongo.codec import CODEC
from course.mongo.connection import connect, probed
from course.mongo.counting import CommandCounter
from course.mongo.environment import MongoEnv
from course.mongo.seed import START

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


@pytest.mark.parametrize(
    ("code", "why"),
    [(50, "no answer in 1 s"), (262, "no answer in 1 s"), (8, "error 8")],
)
def test_a_server_in_trouble_is_no_wrong_password(
    told: Callable[[Any], Any], code: int, why: str
) -> None:
    kind = pymongo.errors.ExecutionTimeout if code > 8 else OperationFailure
    with pytest.raises(NoService, match=why):
        told(kind("no", code))
    for refusal in (13, 18, 8000):
        with pytest.raises(BadInput, match="authSource"):
            told(OperationFailure("no", refusal))


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


def test_only_what_needs_a_replica_set_is_skipped_without_one(env: Any) -> None:
    db: Any = SimpleNamespace(client=Mock(**{"admin.command.return_value": {"ok": 1}}))
    env = MongoEnv("", True, db, env.commands, deploy=print)
    env.need_server("plans")
    with pytest.raises(Skip, match="no replica set"):
        env.need_server("transactions", replica_set=True)


def test_a_complaint_about_the_database_blames_who_named_it() -> None:
    build = {"versionArray": [8, 0], "version": "8.0.0"}
    listed = {"databases": [{"name": "shop"}]}
    for source in ("--url", "MONGODB_URI"):
        client: Any = Mock(**{"admin.command.side_effect": [build, listed]})
        client.get_default_database.return_value.name = "shpo"
        with pytest.raises(BadInput, match=f"no database 'shpo'.* in {source}"):
            probed(client, source)


def test_moments_come_back_in_utc_cut_to_ms_and_uuids_as_such() -> None:
    moment = START + timedelta(microseconds=123_456)
    key = uuid.UUID(int=8)
    sent = bson.encode({"at": moment, "key": key}, codec_options=CODEC)
    naive = bson.decode(sent)  # with PyMongo's defaults
    assert naive["at"].tzinfo is None
    assert not isinstance(naive["key"], uuid.UUID)
    cut = moment.replace(microsecond=123_000)
    assert bson.decode(sent, CODEC) == {"at": cut, "key": key}
