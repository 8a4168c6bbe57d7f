"""Benchmarks count what they time, and compare only those who give the same answer."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from lessons import ROOT, VARIABLES, load

from course.amqp.finding import DEFAULT_URL, parameters_of
from course.amqp.trials import all_in
from course.errors import BadInput
from course.network import FaultyNetwork
from course.standins.amqp import Broker

sys.path.insert(0, str(ROOT / "benchmarks"))
for package in ("amqpstorm", "kombu", "aio_pika", "pandas", "lifetimes", "clvkit"):
    pytest.importorskip(package, reason="it is in requirements-dev.txt")

import bench_05_customer_value  # noqa: E402
import measure  # noqa: E402
import peers_04  # noqa: E402
import peers_05  # noqa: E402
import readers_04  # noqa: E402
import rounds_04  # noqa: E402

BENCHMARKS = sorted((ROOT / "benchmarks").glob("bench_*.py"))
# With the folder of the script alone on the path, as Python starts it.
STARTED = """
import runpy, sys
sys.path.insert(0, sys.argv[1])
runpy.run_path(sys.argv[2], run_name="imported")
"""
lesson: Any = load("04")
COUNT = 1500  # more than a window


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_each_finds_what_it_imports(path: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-c", STARTED, str(path.parent), str(path)]
    done = subprocess.run(
        command,
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr  # where libraries may warn


class Counted(rounds_04.Counted):
    """Emptied one by one: the stand-in knows no purge."""

    def purge(self) -> int:
        return sum(1 for _ in all_in(self.channel, self.queue))


@pytest.fixture
def rabbit() -> Iterator[Any]:
    with Broker() as broker:
        parameters = parameters_of(DEFAULT_URL)
        parameters.port = broker.port
        yield lesson.RabbitMQConnection(parameters, "module8.bench")


@pytest.fixture
def queue(rabbit: Any) -> Iterator[Counted]:
    name = rabbit.add_queue("bench")
    rabbit.setup_infrastructure()
    with rabbit.channel() as channel:
        yield Counted(channel, name)


def some_messages(queue: str, count: int = COUNT) -> list[peers_04.Message]:
    return [lesson.publish_arguments(one, "", queue) for one in lesson.users(count)]


OPENED: dict[str, Callable[[Any], peers_04.Publisher]] = {
    "a window by hand": lambda rabbit: peers_04.SelectWindow(rabbit.parameters),
    "no confirms": lambda rabbit: peers_04.Blocking(rabbit.parameters, False),
}


@pytest.mark.parametrize("name", OPENED)
def test_all_that_is_published_is_there_when_the_clock_stops(
    name: str, rabbit: Any, queue: Counted
) -> None:
    far = copy.copy(rabbit)
    far.parameters = copy.copy(rabbit.parameters)
    with FaultyNetwork("127.0.0.1", rabbit.parameters.port) as network:
        far.parameters.port = network.port
        with closing(OPENED[name](far)) as client:
            network.delay = 0.05  # so that what is on its way has not arrived
            for _ in range(2):
                client.publish(client.prepared(some_messages(queue.queue)))
                assert queue.ready() == COUNT
                queue.take_out(COUNT)


def test_what_a_consumer_has_read_is_acknowledged_when_the_clock_stops(
    rabbit: Any, queue: Counted
) -> None:
    with closing(peers_04.SelectWindow(rabbit.parameters)) as client:
        client.publish(some_messages(queue.queue))
    readers_04.consume_select(rabbit.parameters, queue.queue, COUNT)
    queue.wait_for(0)


@pytest.mark.parametrize("others", [-1, 1])
def test_a_message_too_few_or_too_many_ends_the_run(
    others: int, rabbit: Any, queue: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds_04, "LIMIT", 0.2)
    with closing(peers_04.SelectWindow(rabbit.parameters)) as client:
        client.publish(some_messages(queue.queue, 10 + others))
    reason = "never had 10" if others < 0 else "has 11 messages, not 10"
    with pytest.raises((RuntimeError, TimeoutError), match=reason):
        queue.take_out(10)


def test_a_peer_with_another_answer_ends_the_run() -> None:
    ours = {"customers": 10.0, "orders": 5.0}
    bench_05_customer_value.check_same("same", ours, {"orders": 5.001})
    with pytest.raises(SystemExit, match="orders"):
        bench_05_customer_value.check_same("other", ours, {"orders": 5.1})


@pytest.mark.parametrize("name", peers_05.FULL | {"clvkit": peers_05.by_clvkit})
def test_each_peer_answers_for_all_customers_as_we_do(name: str) -> None:
    log = load("05").simulate(2_000, 5, days=273)
    peer = (peers_05.FULL | peers_05.AT_A_TENTH)[name]
    found = peers_05.measured(peer, log)
    assert not isinstance(found, str), found
    steps, answers = found
    our_steps, ours = bench_05_customer_value.ours(log)
    bench_05_customer_value.check_same(name, ours, answers)
    assert set(steps) == set(our_steps)
    assert ours["customers"] == 2_000


def refused(script: str, *arguments: str, **variables: str) -> str:
    """Return the one line of a benchmark that ends with 2 and prints nothing else."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / script), *arguments],
        env=os.environ | dict.fromkeys(VARIABLES, "") | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{script}: ")
    assert "s3cret" not in line
    return line


@pytest.mark.parametrize(
    ("script", "variable", "url"),
    [
        ("bench_01_sqlalchemy.py", "DATABASE_URL", "postgresql://u:s3cret@x@h/db"),
        ("bench_02_mongodb.py", "MONGODB_URI", "mongodb://u:s3cret@h/?bogus=1"),
        ("bench_04_rabbitmq.py", "RABBITMQ_URL", "amqp:/u:s3cret@h"),
    ],
)
def test_a_url_that_is_malformed_gets_one_line(
    script: str, variable: str, url: str
) -> None:
    line = refused(script, **{variable: url})
    assert f"{variable} is not a" in line


@pytest.mark.parametrize("typed", ["many", "0", "-1", "1.5"])
def test_a_number_that_is_none_is_bad_input(
    typed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench.py", "3", typed])
    with pytest.raises(BadInput, match="argument 2 is not a number"):
        measure.numbers_given(7, 5000)
    monkeypatch.setattr(sys, "argv", ["bench.py", "3"])
    assert measure.numbers_given(7, 5000) == [3, 5000]
