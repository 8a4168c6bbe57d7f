"""--sweep: what is ours and older than an hour is listed, and removed with --yes."""

from __future__ import annotations

import re
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable
from contextlib import closing, redirect_stderr
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from lessons import load, path_of, run
from services import Server, free_port

from course.naming import STAMP, made_at, new_name, run_name_in
from course.network import LoopbackServer
from course.sweeping import OLD, Leftover, sweep

SEPARATORS = ("_", ":", ".", "-")


def name_of_age(separator: str, age: timedelta) -> str:
    made = (datetime.now(UTC) - age).strftime(STAMP)
    return separator.join(("module8", made, "0123abcd"))


@dataclass(frozen=True)
class Names:
    """What lies on a server: of ours, old and new, and of others."""

    old: str
    new: str
    others: tuple[str, ...]


def names(separator: str) -> Names:
    return Names(
        old=name_of_age(separator, timedelta(hours=1, minutes=1)),
        new=name_of_age(separator, timedelta(minutes=40)),
        others=(
            f"module8{separator}user_data",
            f"module8{separator}20200101000000{separator}mine",
            f"mine{separator}{name_of_age(separator, timedelta(days=9))}",
            f"module8{separator}{(datetime.now(UTC) + OLD).strftime(STAMP)}"
            f"{separator}0123abcd",  # made while a clock was wrong
        ),
    )


# Names


@pytest.mark.parametrize("separator", SEPARATORS)
def test_a_name_says_when_it_was_made(separator: str) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    name = new_name(separator)
    made = made_at(name)
    assert made and before <= made <= datetime.now(UTC)
    assert run_name_in(f"{name}{separator}more") == name
    assert new_name(separator) != name


@pytest.mark.parametrize(
    "name",
    [
        "module8",
        "module8_20261129131713",
        "module8_20261329131713_0123abcd",  # no such month
        "module8_20261129131713.0123abcd",
        "my_module8_20261129131713_0123abcd",
        "module8_20261129131713_0123abcde",
        "module8.user_data",
    ],
)
def test_what_is_not_ours_has_no_age(name: str) -> None:
    assert made_at(name) is None


def test_one_that_cannot_be_removed_is_named_and_the_others_go(
    capsys: pytest.CaptureFixture[str],
) -> None:
    removed = []

    def refuse() -> None:
        raise PermissionError("not yours: redis://u:s3cr3t@h")

    first = Leftover("schema", name_of_age("_", timedelta(days=1)), refuse)
    name = name_of_age("_", timedelta(days=2))
    second = Leftover("schema", name, lambda: removed.append(name))
    assert sweep([first, second], really=True) == 1
    printed = capsys.readouterr()
    assert removed == [name]
    assert f"schema {first.name} stays: not yours" in printed.err
    assert "s3cr3t" not in printed.err


# Options


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--sweep", "--offline"], "leave out --offline"),
        (["--yes"], "--yes goes with --sweep"),
    ],
)
@pytest.mark.parametrize("number", ["01", "02", "03", "04", "05"])
def test_options_that_do_not_go_together(
    number: str, options: list[str], complaint: str
) -> None:
    done = run(path_of(number), *options)
    assert done.returncode == 2, done.stdout
    (line,) = done.stderr.splitlines()
    assert complaint in line


NOBODY = {  # nothing listens on port 1
    "01": "postgresql://127.0.0.1:1/name",
    "02": "mongodb://127.0.0.1:1/",
    "03": "redis://127.0.0.1:1",
    "04": "amqp://127.0.0.1:1",
}


@pytest.mark.parametrize("number", NOBODY)
def test_no_service_is_3(number: str) -> None:
    done = run(path_of(number), "--sweep", "--url", NOBODY[number])
    assert done.returncode == 3, done.stderr


# Services


def swept(
    number: str, url: str, home: Path, there: Callable[[], set[str]], all_of: Names
) -> None:
    """Sweep twice: the first time nothing is removed, the second what is old."""
    everything = {all_of.old, all_of.new, *all_of.others}
    assert there() == everything
    env = {"TMPDIR": str(home)}
    listed = run(path_of(number), "--sweep", "--url", url, env=env)
    assert listed.returncode == 0, listed.stderr
    assert re.search(rf" {re.escape(all_of.old)}\S* +1\.\d$", listed.stdout, re.M)
    for name in (all_of.new, *all_of.others):
        assert name not in listed.stdout
    assert there() == everything
    fast = datetime.now(UTC) + 2 * OLD  # says a clock that is wrong
    with (
        patch("course.sweeping.now", lambda: fast),
        redirect_stderr(StringIO()) as said,
    ):
        assert load(number).main(["--sweep", "--yes", "--url", url]) == 2
    assert "the clocks of this machine and of " in said.getvalue()
    assert there() == everything
    done = run(path_of(number), "--sweep", "--yes", "--url", url, env=env)
    assert done.returncode == 0, done.stderr
    assert there() == everything - {all_of.old}
    again = run(path_of(number), "--sweep", "--yes", "--url", url, env=env)
    assert "nothing of ours is older than an hour" in again.stdout


@pytest.mark.slow
def test_schemas(private_postgres: Server, tmp_path: Path) -> None:
    import psycopg

    all_of = names("_")
    with closing(psycopg.connect(private_postgres.url, autocommit=True)) as connection:
        for name in (all_of.old, all_of.new, *all_of.others):
            connection.execute(f"CREATE SCHEMA {name} CREATE TABLE t (n integer)")

        def there() -> set[str]:
            ask = "SELECT nspname FROM pg_namespace WHERE nspname LIKE '%module8%'"
            return {name for (name,) in connection.execute(ask).fetchall()}

        swept("01", private_postgres.url, tmp_path, there, all_of)


@pytest.mark.slow
def test_a_schema_that_only_begins_like_ours_stays(
    private_postgres: Server, tmp_path: Path
) -> None:
    import psycopg
    from psycopg import sql

    old = name_of_age("_", timedelta(days=1))
    likely = [f"{old}; DROP SCHEMA victim", f'{old}"', f"{old}_mine", old.upper()]
    with closing(psycopg.connect(private_postgres.url, autocommit=True)) as connection:
        for name in (*likely, "victim"):
            create = sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name))
            connection.execute(create)
        env = {"TMPDIR": str(tmp_path)}
        url = private_postgres.url
        done = run(path_of("01"), "--sweep", "--yes", "--url", url, env=env)
        assert "nothing of ours is older than an hour" in done.stdout
        there = {
            name for (name,) in connection.execute("SELECT nspname FROM pg_namespace")
        }
        assert there >= {*likely, "victim"}
        for name in (*likely, "victim"):
            drop = sql.SQL("DROP SCHEMA {}").format(sql.Identifier(name))
            connection.execute(drop)


@pytest.mark.slow
def test_a_schema_of_another_user_stays_and_is_named_in_one_line(
    private_postgres: Server, tmp_path: Path
) -> None:
    import psycopg

    old = name_of_age("_", timedelta(days=1))
    with closing(psycopg.connect(private_postgres.url, autocommit=True)) as connection:
        connection.execute("CREATE ROLE sweeper LOGIN")
        connection.execute("GRANT CREATE ON DATABASE postgres TO sweeper")
        connection.execute(f"CREATE SCHEMA {old}")
        url = private_postgres.url.replace("postgres@", "sweeper@")
        env = {"TMPDIR": str(tmp_path)}
        done = run(path_of("01"), "--sweep", "--yes", "--url", url, env=env)
        connection.execute(f"DROP SCHEMA {old}")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"schema {old} stays: ")
    assert "must be owner" in line


@pytest.mark.slow
def test_databases_and_collections(private_mongo: Server, tmp_path: Path) -> None:
    import pymongo

    all_of = names("_")
    with pymongo.MongoClient[dict[str, Any]](private_mongo.url) as client:
        for name in (all_of.old, all_of.new, *all_of.others):
            client[name]["t"].insert_one({})

        def databases() -> set[str]:
            return {one for one in client.list_database_names() if "module8" in one}

        swept("02", private_mongo.url, tmp_path, databases, all_of)
        shop = client["shop"]
        for name in (all_of.old, all_of.new, *all_of.others):
            shop[name].insert_one({})

        def collections() -> set[str]:
            return set(shop.list_collection_names())

        swept("02", f"{private_mongo.url}shop", tmp_path, collections, all_of)


@pytest.mark.slow
def test_keys(private_redis: Server, tmp_path: Path) -> None:
    import redis

    all_of = names(":")
    with redis.Redis.from_url(private_redis.url, decode_responses=True) as client:
        for name in (all_of.old, all_of.new, *all_of.others):
            client.set(f"{name}:a:key", "1")
            client.sadd(f"{name}:another", "1")

        def there() -> set[str]:
            found = set()
            for key in client.scan_iter("*"):
                found.add(re.sub(":(a:key|another)$", "", key))
            return found

        swept("03", private_redis.url, tmp_path, there, all_of)


@pytest.mark.slow
def test_queues_by_the_management_api(
    private_rabbitmq: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pika

    port = free_port()
    all_of = names(".")
    connection = pika.BlockingConnection(pika.URLParameters(private_rabbitmq.url))
    channel = connection.channel()
    for name in (all_of.old, all_of.new, *all_of.others):
        channel.queue_declare(f"{name}.queue", durable=True)
        channel.exchange_declare(f"{name}.exchange", durable=True)
    env = {"TMPDIR": str(tmp_path)}
    without = run(path_of("04"), "--sweep", "--url", private_rabbitmq.url, env=env)
    assert without.returncode == 0  # what cannot be listed expires by itself
    assert "no management API at http://127.0.0.1:15672" in without.stderr
    enabled = private_rabbitmq.folder / "enabled_plugins"
    enabled.write_text("[rabbitmq_management].\n")
    where = f'[{{port, {port}}}, {{ip, "127.0.0.1"}}]'
    private_rabbitmq.ctl(
        "eval",
        f"application:set_env(rabbitmq_management, tcp_config, {where}, "
        f'[{{persistent, true}}]), rabbit_plugins:ensure("{enabled}").',
    )
    monkeypatch.setenv("RABBITMQ_MANAGEMENT_URL", f"http://127.0.0.1:{port}/")

    def there() -> set[str]:
        names_on = "rabbit_amqqueue:list() ++ rabbit_exchange:list(<<$/>>)"
        ask = f"[element(4, element(2, X)) || X <- {names_on}]."
        found = re.findall(
            r'<<"([^"]*module8[^"]*)">>', private_rabbitmq.ctl("eval", ask)
        )
        assert len({name for name in found if name.endswith("queue")}) * 2 == len(found)
        return {re.sub(r"\.(queue|exchange)$", "", name) for name in found}

    swept("04", private_rabbitmq.url, tmp_path, there, all_of)
    connection.close()


MARKER = "Xq7Zk9WvJmQ"


@pytest.mark.parametrize(
    "address",
    [
        f"http://u:{MARKER}@127.0.0.1:1",
        f"http://127.0.0.1:{MARKER}",
        "http://127.0.0.1:99999",
        f"http:u:{MARKER}",
        f"u:{MARKER}@h",
        "http://a b",
        "http://[::1",
        "file:///etc/passwd",
    ],
)
def test_an_address_of_the_management_api_that_is_none_is_not_repeated(
    address: str, rabbitmq_url: str
) -> None:
    env = {"RABBITMQ_MANAGEMENT_URL": address}
    done = run(path_of("04"), "--sweep", "--url", rabbitmq_url, env=env)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "RABBITMQ_MANAGEMENT_URL is not of the form" in line
    assert address not in line
    assert MARKER not in done.stdout + done.stderr


class Answering(LoopbackServer):
    """Answers each request with the same bytes, and hangs up."""

    answer = b""

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        await reader.read(4096)
        writer.write(self.answer)
        writer.close()


LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: "


@pytest.mark.parametrize(
    "answer",
    [b"", b"no HTTP", LENGTH + b"4\r\n\r\nnull", LENGTH + b"99\r\n\r\n["]
    + [LENGTH + b"%d\r\n\r\n" % len(one) + one for one in (b"[1]", b'[{"x": 1}]')],
)
def test_what_answers_like_no_management_api_is_named(
    answer: bytes, rabbitmq_url: str
) -> None:
    with Answering() as server:
        server.answer = answer
        place = f"http://127.0.0.1:{server.port}"
        env = {"RABBITMQ_MANAGEMENT_URL": place}
        done = run(path_of("04"), "--sweep", "--url", rabbitmq_url, env=env)
    assert done.returncode == 0, done.stderr
    assert f"no management API at {place}" in done.stderr


@pytest.mark.parametrize("answer", ["401 Unauthorized", "403 Forbidden"])
def test_a_user_without_the_management_tag_is_named(
    answer: str, rabbitmq_url: str, tmp_path: Path
) -> None:
    with Answering() as server:
        server.answer = f"HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n".encode()
        place = f"http://127.0.0.1:{server.port}"
        env = {"RABBITMQ_MANAGEMENT_URL": place, "TMPDIR": str(tmp_path)}
        done = run(path_of("04"), "--sweep", "--url", rabbitmq_url, env=env)
    assert done.returncode == 0
    assert done.stdout.endswith("\nnothing of ours is older than an hour\n")
    said = " ".join(done.stderr.split())
    reason = answer.partition(" ")[2]
    assert f"API at {place} lets only users with its tag in: {reason}" in said


@pytest.mark.slow
def test_folders_of_runs_that_were_killed(
    private_redis: Server, tmp_path: Path
) -> None:
    all_of = names("-")
    for name in (all_of.old, all_of.new, *all_of.others):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()

    def there() -> set[str]:
        return {path.name for path in tmp_path.iterdir()}

    swept("03", private_redis.url, tmp_path, there, all_of)
