"""No part of a secret is printed, however its URL is written.

A password is built of pieces that stand nowhere else, with odd characters in between.
The URL around it is good, or broken; then nothing that a lesson prints may hold five
characters of it in a row.
"""

from __future__ import annotations

import io
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import quote

import pytest
import redis
from hypothesis import HealthCheck, Phase, assume, event, example, given, settings
from hypothesis import strategies as st
from lessons import VARIABLES, load, path_of, run
from services import Server

import course.services
from course.errors import BadInput
from course.lab import in_background
from course.services import ServiceAddress
from course.urls import (
    AMQP_FORM,
    MONGO_FORM,
    POSTGRES_FORM,
    REDIS_FORM,
    UrlForm,
    doubtful_names,
    service_url,
)

WINDOW = 5  # characters in a row that must not be seen
PIECES = ["Xq7Zk", "9WvJmQ", "Tr0ubYd", "hUnt3rK", "pLw8nVb"]
ODD = ["/", "@", "?", "#", "[", "]", ":", "%", "&", "=", " ", "\n", "'", '"', "\\"]
ODD += ["{", "}", ",", ";", "%2F", "%40", "%zz", "é", "\t", "=token=", "://", "$", "\0"]


@dataclass(frozen=True)
class Kind:
    """A kind of service: the lesson about it, and a URL where nobody listens."""

    number: str
    variable: str
    form: UrlForm
    demo: str
    behind: tuple[str, ...]  # what may follow the port
    secret_options: tuple[str, ...]


KINDS = [
    Kind(
        "01",
        "DATABASE_URL",
        POSTGRES_FORM,
        "queries",
        ("", "/db", "/db?sslmode=prefer", "/db?connect_timeout=1"),
        ("sslpassword", "password", "passfile"),
    ),
    Kind(
        "02",
        "MONGODB_URI",
        MONGO_FORM,
        "validators",
        ("/", "/shop", "/?tls=true", "/?authSource=admin&bogus=1", "/?tls=perhaps"),
        ("tlsCertificateKeyFilePassword", "TLSCERTIFICATEKEYFILEPASSWORD"),
    ),
    Kind(
        "03",
        "REDIS_URL",
        REDIS_FORM,
        "lru",
        ("", "/0", "/0?socket_timeout=1", "/0?bogus=1", "?timeout=3"),
        ("password", "ssl_password", "ssl_keyfile"),
    ),
    Kind(
        "04",
        "RABBITMQ_URL",
        AMQP_FORM,
        "routing",
        ("", "/", "/%2F", "/%2F?heartbeat=30", "/%2F?channel_max=1", "/?timeout=3"),
        ("password", "secret_key"),
    ),
]
KIND_OF = {kind.number: kind for kind in KINDS}
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.number)


@pytest.fixture(scope="module")
def mains() -> dict[str, Callable[[list[str]], int]]:
    return {kind.number: load(kind.number).main for kind in KINDS}


@pytest.fixture(autouse=True)
def fresh_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test has made known as a secret is none in the next."""
    monkeypatch.setattr(course.services, "SECRETS", set())


# How URLs are made


@st.composite
def passwords(draw: st.DrawFn) -> str:
    """Return pieces with odd characters between them, perhaps at the ends too."""
    pieces = draw(st.lists(st.sampled_from(PIECES), min_size=1, max_size=3))
    between = st.sampled_from(["", *ODD])
    text = draw(between)
    for piece in pieces:
        text += piece + draw(between)
    return text


@st.composite
def broken(draw: st.DrawFn, url: str, scheme: str) -> str:
    """Return a URL with something wrong in its form."""
    rest = url.removeprefix(f"{scheme}://")
    ways = [
        url,
        f"{scheme}:/{rest}",
        f"{scheme}:{rest}",
        f"{scheme}//{rest}",
        f"{scheme}:///{rest}",
        f"{scheme.upper()}://{rest}",
        f"://{rest}",
        rest,
        f"http://{rest}",
        f"x{url}",
        f"{url}\n",
        f"{url}@",
        f"'{url}'",
        url.replace("@", "", 1),
        url.replace(":1", ":port"),
        url.replace(":1", ":99999"),
        url.replace("127.0.0.1", "[::1"),
        url.replace("127.0.0.1", "::1]"),
        url.replace("127.0.0.1", ""),
        url.replace("127.0.0.1", "a b"),
        url.partition("@")[0],
        url.replace("?", "?&&"),
    ]
    url = draw(st.sampled_from(ways))
    place = draw(st.integers(0, len(url)))
    inserted = draw(st.sampled_from(["", "", "", *ODD]))
    return url[:place] + inserted + url[place:]


@st.composite
def urls(draw: st.DrawFn, kind: Kind) -> tuple[str, str]:
    """Return a password and a URL that holds it somewhere, well or badly."""
    password = draw(passwords())
    written = password
    if draw(st.booleans()):
        written = quote(password, safe="")
    scheme = draw(st.sampled_from(kind.form.schemes))
    place = "127.0.0.1:1" + draw(st.sampled_from(kind.behind))
    url = f"{scheme}://user:{written}@{place}"
    where = draw(st.sampled_from(["password", "password", "alone", "user", "option"]))
    if where == "alone":
        url = f"{scheme}://{written}@{place}"
    if where == "user":
        url = f"{scheme}://{written}:{written}@{place}"
    if where == "option":
        name = draw(st.sampled_from(kind.secret_options))
        joined = "&" if "?" in place else "?"
        url = f"{scheme}://{place}{joined}{name}={written}"
    if draw(st.booleans()):
        url = draw(broken(url, scheme))
    return password, url


# What is looked for


def windows(password: str) -> set[str]:
    """Return all runs of five characters of a password that are mostly its own."""
    found = set()
    for start in range(len(password) - WINDOW + 1):
        window = password[start : start + WINDOW]
        if len(re.findall(r"[A-Za-z0-9]", window)) >= WINDOW - 1:
            found.add(window)
    for piece in (*PIECES, "s3cret", "Hunter2", "Tr0ub", "s3cr3t", " cret"):
        if piece in password:
            found |= {piece[n : n + WINDOW] for n in range(len(piece) - WINDOW + 1)}
    return found


def seen(password: str, printed: str) -> list[str]:
    """Return which parts of a password were printed, in any of its spellings."""
    lines = printed.replace("\n", "")  # a line that was broken hides nothing
    return [one for one in windows(password) if one in printed or one in lines]


def is_public(password: str, url: str, form: UrlForm) -> bool:
    """Tell whether a URL can be read, and names the "password" as a host or so."""
    try:
        read = service_url(ServiceAddress(url, "--url", named=True), form)
    except BadInput:
        return False
    public = [read.place, read.path]
    for name, value in read.options.items():
        public += [] if name in doubtful_names(read.options) else [name]
        if not re.search("pass|pwd|secret|key|token", name, re.I):
            public.append(value)
    return bool(seen(password, " ".join(public)))


def printed_by(
    main: Callable[[list[str]], int], arguments: list[str], variables: dict[str, str]
) -> tuple[int, str, str]:
    """Run a lesson in this process, with handlers of its own for its log lines."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    with (
        patch.dict(os.environ, dict.fromkeys(VARIABLES, "") | variables),
        redirect_stdout(io.StringIO()) as out,
        redirect_stderr(io.StringIO()) as err,
    ):
        try:
            code = main(arguments)
        finally:
            root.handlers[:] = handlers
            root.setLevel(level)
    return code, out.getvalue(), err.getvalue()


# Every URL that once showed a part of its password
SHOWN_ONCE = [
    ("03", "Tr0ub@dor/3", "redis://app:Tr0ub@dor/3@h"),
    ("03", "s3cret", "redis:/u:s3cret@h"),
    ("03", "s3cret", "redis:u:s3cret@h"),
    ("03", "s3cret", "u:s3cret@h:6379"),
    ("03", "pa[ss@h", "redis://br:pa[ss@h"),
    ("04", "s3cret", "amqp:/u:s3cret@h"),
    ("04", "s3cret", "u:s3cret@h:5672"),
    ("04", "s3cret", "amqp://s3cret@127.0.0.1:1/"),
    ("02", "se cret", "mongodb://u:se cret@h/"),
    ("02", "s3cret", "mongodb://u/x:s3cret@h/"),
    ("02", "s3cret", "mongodb://127.0.0.1:1/?x=1&tlsCertificateKeyFilePassword=s3cret"),
    ("02", "s3cret", "mongodb://127.0.0.1:1/?tlsCertificateKeyFilePassword=s3cret"),
    ("01", "s3cr3t@Hunter2?x", "postgresql://odd:s3cr3t@Hunter2?x@h/db"),
    ("01", "/Xq7Zk/", "postgresql://%2FXq7Zk%2F127.0.0.1:1@"),
]


# And all others


def holds(
    kind: Kind, case: tuple[str, str], way: str, main: Callable[[list[str]], int]
) -> None:
    """Run a lesson with a URL; it ends with 2 or 3, one line, and no secret."""
    password, url = case
    assume(not is_public(password, url, kind.form))
    assume("\0" not in url and url.strip())  # no program can be given such a URL
    course.services.SECRETS.clear()
    arguments = ["--only", kind.demo, "--require-live", "--connect-timeout", "0.2"]
    variables = {}
    if "verbose" in way:
        arguments.append("--verbose")
    if "variable" in way:
        variables[kind.variable] = url
    else:
        arguments += [f"--url={url}"]
    code, out, err = printed_by(main, arguments, variables)
    event(f"exit code {code}")
    assert seen(password, out + err) == []
    assert code in (2, 3)
    if "verbose" not in way:
        assert "Traceback" not in out + err
    if code == 2 and "verbose" not in way:
        assert out == ""
        assert len(err.splitlines()) == 1


# pika writes a thousand lines of its log where --verbose asks for them: not too often.
WAYS = st.sampled_from(3 * ["option", "variable"] + ["option, verbose"])
AT_LENGTH = settings(
    max_examples=300,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


Test = Callable[..., None]


def urls_of(number: str) -> Callable[[Test], Test]:
    """Give a test the URLs of a kind; those that were shown once come first."""

    def decorate(test: Test) -> Test:
        test = given(case=urls(KIND_OF[number]), way=WAYS)(test)
        for known, password, url in SHOWN_ONCE:
            if known == number:
                test = example(case=(password, url), way="option, verbose")(test)
                test = example(case=(password, url), way="variable")(test)
        return AT_LENGTH(test)

    return decorate


@urls_of("01")
def test_postgresql(mains: Any, case: tuple[str, str], way: str) -> None:
    holds(KIND_OF["01"], case, way, mains["01"])


@urls_of("02")
def test_mongodb(mains: Any, case: tuple[str, str], way: str) -> None:
    holds(KIND_OF["02"], case, way, mains["02"])


@urls_of("03")
def test_redis(mains: Any, case: tuple[str, str], way: str) -> None:
    holds(KIND_OF["03"], case, way, mains["03"])


@urls_of("04")
def test_rabbitmq(mains: Any, case: tuple[str, str], way: str) -> None:
    holds(KIND_OF["04"], case, way, mains["04"])


# The programs themselves, and what they start


@every_kind
def test_a_script_repeats_nothing(kind: Kind) -> None:
    password = "Xq7Zk9WvJmQ"
    scheme = kind.form.schemes[0]
    script = path_of(kind.number)
    url = f"{scheme}://u:{password}/x@h"
    for done in (
        run(script, "--url", f"{scheme}:/u:{password}@h", "--verbose"),
        run(script, url),  # where --url was forgotten
        run(script, "--only", url),
        run(script, env={kind.variable: f"u:{password}@h:1\n"}),
        run(path_of("05"), "--integrated", env={kind.variable: url}),
    ):
        printed = done.stdout + done.stderr
        assert seen(password, printed) == []
        assert (done.returncode, done.stdout) == (2, "")
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["{}"],
        ["--url", "redis://u:my", "{}"],  # a space in a password without quotes
        ["redis:u:{}"],
        ["--only", "redis:u:{}"],
        ["--only", "{}"],
        ["--yes={}"],
        ["--li={}"],
        ["--o={}"],
        ["--pasword={}"],
        ["--password", "{}"],
        ["-p{}"],
        ["-p", "{}"],
        ["--{}"],
    ],
    ids=" ".join,
)
@every_kind
def test_what_is_typed_in_the_wrong_place_is_not_repeated(
    kind: Kind, arguments: list[str], mains: Any
) -> None:
    password = "Xq7Zk9WvJmQ"
    typed = [one.format(password) for one in arguments]
    code, out, err = printed_by(mains[kind.number], typed, {})
    assert seen(password, out + err) == []
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="no /proc here")
def test_no_child_gets_a_secret_as_an_argument(
    private_redis: Server,
) -> None:
    """Run the whole system with a password in each URL; read what ps would show."""
    password = "Xq7Zk9WvJmQ"
    place = f"127.0.0.1:{private_redis.port}"
    with redis.Redis(port=private_redis.port) as admin:
        admin.execute_command(
            "ACL", "SETUSER", "default", "on", "resetpass", f">{password}"
        )
    variables = dict.fromkeys(VARIABLES, "")
    variables["REDIS_URL"] = f"redis://:{password}@{place}/0"
    command = [sys.executable, str(path_of("05")), "--integrated", "--customers", "60"]
    seen_arguments: set[str] = set()
    with subprocess.Popen(
        command,
        env=os.environ | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as program:
        reader = in_background(program.stdout.read)  # type: ignore[union-attr]
        while program.poll() is None:
            for status in Path("/proc").glob("[0-9]*/stat"):
                with suppress(OSError):  # it has ended meanwhile
                    _, parent = status.read_text().rpartition(")")[2].split()[:2]
                    if int(parent) == program.pid:
                        command_line = status.with_name("cmdline").read_bytes()
                        seen_arguments.add(command_line.decode())
            time.sleep(0.1)
        printed = str(reader.result(30))
    assert program.returncode == 0, printed
    assert any("--as-worker" in arguments for arguments in seen_arguments)
    assert seen(password, printed) == []
    assert seen(password, " ".join(seen_arguments)) == []
