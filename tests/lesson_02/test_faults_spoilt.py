"""Lesson 02 where what its server says is spoilt on the way, while it opens."""

from __future__ import annotations

import argparse
from types import SimpleNamespace
from typing import Any

import pymongo
import pytest
from lessons import load
from services import Server

from course.errors import BadInput
from course.lab import outcome_of
from course.mongo.diagnosis import told_by
from course.network import FaultyNetwork
from course.services import ServiceAddress
from course.urls import MONGO_FORM, service_url

lesson = load("02")
NOISE = bytes(range(200, 256)) * 4
SPOILT = {
    "noise": lambda data: (NOISE, True),
    "too long": lambda data: (b"\xff\xff\xff\x7f" + data[4:], True),
    "no text": lambda data: (data.replace(b"ok\0", b"\xff\xfe\0"), True),
    "without a reason": lambda data: (data.replace(b"\0\xf0?", bytes(3)), True),
    "half": lambda data: (data[: len(data) // 2], False),
}


def opened(network: FaultyNetwork) -> str:
    """Open the lesson; return its complaint, or what answers."""
    url = f"mongodb://127.0.0.1:{network.port}/?directConnection=true"
    given = {"offline": False, "require_live": True, "url": url}

    def open_it() -> Any:
        with lesson.open_env(argparse.Namespace(**given)) as env:
            return env.backend

    outcome = outcome_of(open_it)
    assert isinstance(outcome, BadInput | str), repr(outcome)
    if isinstance(outcome, BadInput):
        assert f"127.0.0.1:{network.port}" in str(outcome), outcome
    return str(outcome)


@pytest.mark.parametrize("how", SPOILT)
def test_one_answer_that_is_spoilt_is_no_riddle(
    how: str, private_mongo: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    if private_mongo.process is None:
        private_mongo.start()
    said = []
    for whole in range(10, 24) if how == "half" else range(3, 19, 3):
        with FaultyNetwork("127.0.0.1", private_mongo.port) as network:
            network.spoilt.extend([lambda data: (data, True)] * whole)
            network.spoilt.append(SPOILT[how])
            said.append(opened(network))
    for one in said:
        assert "replica set" not in one
        assert "E11000" not in one
        assert "MongoDB says None" not in one
    if how != "half":  # which is asked for once more
        assert any("makes no sense" in one for one in said), said
    # What is dropped is not said to be there; what is not, is.
    printed = capsys.readouterr().err
    with pymongo.MongoClient[Any](private_mongo.url) as client:
        left = [one for one in client.list_database_names() if "module8_" in one]
    assert [one for one in left if one not in printed.replace("\n    ", " ")] == []


def test_what_pymongo_gives_up_is_not_what_a_server_said() -> None:
    error = "127.0.0.1:1: operation cancelled"
    silent = SimpleNamespace(server_type_name="Unknown", error=error)
    servers = {("127.0.0.1", 1): silent}
    known = SimpleNamespace(server_descriptions=lambda: servers)
    named = service_url(
        ServiceAddress("mongodb://127.0.0.1:1/", "--url", True), MONGO_FORM
    )
    assert told_by(SimpleNamespace(topology_description=known), named) is None
