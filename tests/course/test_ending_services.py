"""Live lessons whose server is killed, or frozen, in the middle of a demo.

One line, the tally, exit code 1, no traceback; and what stays is printed by name.
"""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from ends import TALLY, Run, running
from lessons import load, unbroken
from services import Server, private, wait_for

from course.network import FaultyNetwork

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="platform: signals differ"),
]
SERVICE = {"01": "postgres", "02": "mongo", "03": "redis", "04": "rabbitmq"}
VARIABLE = {
    "01": "DATABASE_URL",
    "02": "MONGODB_URI",
    "03": "REDIS_URL",
    "04": "RABBITMQ_URL",
}
# What is named where it stays behind: a schema, a database, keys, queues.
STAYS = {
    "01": r"schema module8_\d{14}_[0-9a-f]{8} left behind",
    "02": r"database module8_\d{14}_[0-9a-f]{8} left behind",
    "03": r"keys module8:\d{14}:[0-9a-f]{8}:\* left behind",
    "04": r"queues and exchanges module8\.\d{14}\.[0-9a-f]{8}\.\* left behind",
}
SAYS_WHO = re.compile(r"\.py: .*127\.0\.0\.1:\d+")
SILENCE_LIMIT = 100.0  # seconds: thirty of patience, and removal, on a busy machine
LATE = 0.05  # seconds into the demos
DEMOS = [(number, demo) for number in SERVICE for demo in load(number).lesson.demos]
LAST = [(number, [*load(number).lesson.demos][-1]) for number in SERVICE]
SECOND = [(number, [*load(number).lesson.demos][1]) for number in SERVICE]


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Server]]:
    """Start what can be had of the servers, by the number of the lesson."""
    with ExitStack() as stack:
        found = {n: stack.enter_context(private(name)) for n, name in SERVICE.items()}
        yield {number: server for number, server in found.items() if server}


def server_of(number: str, servers: dict[str, Server]) -> Server:
    if number not in servers:
        pytest.skip(f"no {SERVICE[number]} here")
    return servers[number]


def begun(one: Run) -> None:
    """Wait for the first demo, and a little longer."""
    assert one.process.stdout
    for line in one.process.stdout:
        if re.match(r"\d+\. ", line):
            break
    else:
        raise AssertionError(one.process.stderr and one.process.stderr.read())
    time.sleep(LATE)


def has_ended_well(number: str, one: Run, printed: str, complaints: str) -> None:
    about = f"{printed}\n{complaints}"
    assert "Traceback" not in complaints, about
    assert TALLY.search(printed.splitlines()[-1]), about
    assert one.folders() == []
    if one.process.returncode == 0:  # the demo was over already
        assert " 0 failed" in printed, about
        return
    assert one.process.returncode == 1, about
    assert "does not answer any more" in unbroken(printed), about
    assert re.search(STAYS[number], unbroken(complaints)), about


def broken(number: str, demo: str, server: Server, home: Path, freeze: bool) -> None:
    """Run a demo, break its server, and see how that ends."""
    urls = {VARIABLE[number]: server.url}
    options = ("--require-live", "--only", demo)
    try:
        with running(number, *options, urls=urls, home=home) as one:
            begun(one)
            if freeze:
                server.freeze()
            else:
                server.kill()
            printed, complaints = one.end()
            has_ended_well(number, one, printed, complaints)
    finally:
        if freeze:
            server.thaw()
        else:
            server.start()


@pytest.mark.parametrize(("number", "demo"), LAST)
def test_a_server_that_is_killed(
    number: str, demo: str, servers: dict[str, Server], tmp_path: Path
) -> None:
    broken(number, demo, server_of(number, servers), tmp_path, freeze=False)


@pytest.mark.parametrize(("number", "demo"), SECOND)
def test_a_server_that_is_frozen(
    number: str, demo: str, servers: dict[str, Server], tmp_path: Path
) -> None:
    broken(number, demo, server_of(number, servers), tmp_path, freeze=True)


@pytest.mark.soak
@pytest.mark.parametrize("freeze", [False, True], ids=["killed", "frozen"])
@pytest.mark.parametrize(("number", "demo"), DEMOS)
def test_a_server_that_breaks_in_any_demo(
    number: str, demo: str, freeze: bool, servers: dict[str, Server], tmp_path: Path
) -> None:
    broken(number, demo, server_of(number, servers), tmp_path, freeze)


@pytest.mark.parametrize("number", SERVICE)
def test_ctrl_c_while_the_server_is_frozen(
    number: str, servers: dict[str, Server], tmp_path: Path
) -> None:
    server = server_of(number, servers)
    urls = {VARIABLE[number]: server.url}
    try:
        with running(number, "--require-live", urls=urls, home=tmp_path) as one:
            begun(one)
            server.freeze()
            for _ in range(3):  # who sees nothing happen presses it again
                one.process.send_signal(signal.SIGINT)
                time.sleep(0.2)
            printed, complaints = one.end()
    finally:
        server.thaw()
    assert one.process.returncode == 130
    assert "  [ended] by SIGINT" in printed
    assert TALLY.search(printed.splitlines()[-1])
    assert "Traceback" not in complaints
    assert re.search(STAYS[number], unbroken(complaints))
    assert one.folders() == []


@pytest.mark.parametrize(
    "number",
    [*(pytest.param(one, marks=pytest.mark.soak) for one in ("01", "02", "03")), "04"],
)
@pytest.mark.parametrize("trips", [15, pytest.param(8, marks=pytest.mark.soak)])
def test_a_server_that_falls_silent_before_the_first_line(
    number: str, trips: int, servers: dict[str, Server], tmp_path: Path
) -> None:
    """It has answered when it was asked; the lesson then opens what it works on."""
    target = server_of(number, servers)
    with FaultyNetwork("127.0.0.1", target.port) as network:
        url = target.url.replace(f":{target.port}", f":{network.port}")
        if number == "02":  # else it goes on to where the server says it is
            url += "?directConnection=true"
        urls = {VARIABLE[number]: url}
        with running(number, "--require-live", urls=urls, home=tmp_path) as one:
            wait_for(
                lambda: network.round_trips >= trips or one.process.poll() is not None,
                60,
                "it never connected",
            )
            network.freeze()
            printed, complaints = one.end(SILENCE_LIMIT)
    about = f"{printed}\n{complaints}"
    assert one.process.returncode in (1, 2, 3), about
    assert "Traceback" not in complaints, about
    if one.process.returncode == 1:
        assert "does not answer any more" in unbroken(printed), about
        assert TALLY.search(printed.splitlines()[-1]), about
    elif one.process.returncode == 2:
        assert SAYS_WHO.search(unbroken(complaints)), about
    else:
        assert re.search(r"backend: .* \(no \w+ at ", unbroken(printed)), about
    assert one.folders() == []
