"""No part of a secret is printed of `04 --ledger`, and no file has one in its name."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest
from lesson_04.amqp_helpers import url_of
from lessons import path_of, run
from services import Server

from course.amqp.processes import server_of_ledger
from course.errors import BadInput
from course.standins.amqp import Broker

MARKERS = ("Xq7Zk", "9WvJmQ", "Hunter2", "s3cr3t", "dor3x", "Tr0ub")
LEDGERS = [
    "postgresql://odd:s3cr3t@Hunter2?x@h/db",
    "postgresql://u:Tr0ub@dor3x@h.invalid/db",
    "postgresql://Xq7Zk9WvJmQ@127.0.0.1:1/x",
    "postgresql//u:Xq7Zk9WvJmQ@h/db",
    "postgresql//u:Xq7Zk9WvJmQ",
    "u:Xq7Zk9WvJmQ@h",
    "postgresql:u:Xq7Zk9WvJmQ@h",
    "sqlite://u:Xq7Zk9WvJmQ@h/db",
    "postgresql://u:Xq7Zk9WvJmQ@127.0.0.1:1/x?autocommit=1",
    "postgresql://127.0.0.1:1/x?password=Xq7Zk9WvJmQ",
    "host=127.0.0.1 port=1 dbname=x user=u password=Xq7Zk9WvJmQ",
]


@pytest.mark.parametrize("url", LEDGERS)
def test_a_ledger_is_not_repeated(url: str, tmp_path: Path) -> None:
    with Broker() as broker:
        arguments = ["--url", url_of(broker), "--worker", "user_data"]
        done = run(path_of("04"), *arguments, "--ledger", url, cwd=tmp_path)
    assert not [one for one in MARKERS if one in done.stdout + done.stderr]
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_user_that_may_be_a_password_is_hidden_in_the_words_of_the_server(
    private_postgres: Server, tmp_path: Path
) -> None:
    url = f"postgresql://Xq7Zk9WvJmQ@127.0.0.1:{private_postgres.port}/x"
    with Broker() as broker:
        arguments = ["--url", url_of(broker), "--worker", "user_data"]
        done = run(path_of("04"), *arguments, "--ledger", url, cwd=tmp_path)
    assert not [one for one in MARKERS if one in done.stdout + done.stderr]
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


@pytest.mark.parametrize(
    "keywords",
    [
        "host=127.0.0.1 port=1 dbname=x user=u password=Xq7Zk9WvJmQ",
        " dbname = x password = 'Xq7Zk 9WvJmQ'",
        "password=Xq7Zk9WvJmQ",
        "Server=h;Database=x;Uid=u;Pwd=Xq7Zk9WvJmQ;",
        "127.0.0.1/x?user=u&password=Xq7Zk9WvJmQ",
    ],
)
def test_keywords_of_a_driver_name_no_file(keywords: str) -> None:
    """A file of that name would hold what belongs on a server, and show a password."""
    with pytest.raises(
        BadInput, match="write postgresql://user:password@"
    ) as complaint:
        server_of_ledger(Namespace(ledger=keywords))
    assert not [one for one in MARKERS if one in str(complaint.value)]


@pytest.mark.parametrize(
    "name",
    [
        *("work.sqlite", "sqlite:///a@b", "sqlite://", "a:b", "./a@b", "/a@b", None),
        *("user", "day=3.sqlite", "./user=3", "superuser=3"),
    ],
)
def test_a_file_stays_a_file(name: str | None) -> None:
    args = Namespace(ledger=name)
    assert server_of_ledger(args) is None
    assert args.ledger == name
