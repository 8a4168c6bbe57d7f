"""Random faults from a seed: each message is accounted for, and takes effect once.

A seed is a schedule of cuts, freezes, errors, crashes of relays, and second deliveries.
One that fails prints itself: run `pytest -m soak -k "[17]"` for seed 17.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from lesson_04.amqp_helpers import open_stand_in
from lessons import load
from services import wait_for

from course.amqp.errors import PublishFailed
from course.amqp.trials import consumer_with, emptied, running
from course.lab import in_background

lesson = load("04")
MESSAGES = 60
LIMIT = 60.0
PATIENCE = 5.0  # seconds that a publish may take while everything goes wrong
SEEDS = range(100, 124)  # of the long sweep
SHORT = range(100, 103)  # of every run


@pytest.fixture(scope="module")
def env() -> Iterator[Any]:
    with open_stand_in() as found:
        yield found


class Faults:
    """What goes wrong, and when, as a seed says."""

    def __init__(self, seed: int, network: Any) -> None:
        self.rng = random.Random(seed)
        self.network = network
        self.over = threading.Event()

    def run(self) -> None:
        """Cut, freeze and delay until told that it is over."""
        while not self.over.wait(self.rng.uniform(0.01, 0.15)):
            match self.rng.randrange(4):
                case 0 | 1:
                    self.network.cut()
                case 2:
                    self.network.freeze(self.rng.choice(["up", "down"]))
                    self.over.wait(self.rng.uniform(0.01, 0.1))
                    self.network.cut()
                case _:
                    self.network.delay = self.rng.uniform(0, 0.01)
        self.network.delay = 0
        self.network.cut()

    def work(self, message: Any) -> str:
        """Fail for a while, for good, or not at all: by what is in the message."""
        kind = message.payload["kind"]
        if kind == "permanent":
            raise lesson.PermanentError("for good")
        if kind == "exit" and message.retry_count == 0:
            raise SystemExit(1)
        if kind == "passing" and message.retry_count < 2:
            raise ConnectionError("no answer")
        time.sleep(message.payload["seconds"])
        return str(message.id)


def made(rng: random.Random) -> list[Any]:
    """Return messages of all kinds."""
    kinds = ["good"] * 6 + ["passing", "passing", "exit", "permanent"]
    return [
        lesson.Message(
            payload={"kind": rng.choice(kinds), "seconds": rng.choice([0, 0, 0.005])},
        )
        for _ in range(MESSAGES)
    ]


def follow(env: Any, seed: int, ledger_path: Path) -> None:
    """Follow a schedule, and account for every message at its end."""
    rng = random.Random(seed)
    priorities = rng.choice([0, lesson.URGENT])  # a quorum queue, or a classic one
    messages = made(rng)
    confirmed: set[str] = set()
    with (
        env.queue(f"seed{seed}", priorities=priorities) as queue,
        env.network() as (network, far),
        lesson.Ledger(str(ledger_path)) as ledger,
        lesson.Producer(env.rabbit, deadline=LIMIT) as calm,
        lesson.Producer(
            far, deadline=PATIENCE, window=rng.choice([1, 5, 1000])
        ) as sender,
    ):
        faults = Faults(seed, network)
        kind = lesson.Consumer
        options = {"concurrency": rng.randint(1, 4), "prefetch": rng.choice([1, 5, 50])}
        crew = [
            consumer_with(kind, faults.work, far, queue, calm, ledger, **options)
            for _ in range(2)
        ]
        trouble = in_background(faults.run)
        with running(crew[0]), running(crew[1]):
            for message in messages:
                again = rng.random() < 0.1  # as a relay that has crashed
                arguments = lesson.publish_arguments(message, "", queue)
                with suppress(PublishFailed):
                    sender.wait(*[sender.send(*arguments) for _ in range(1 + again)])
                    confirmed.add(message.id)
            faults.over.set()
            trouble.result(LIMIT)
            sender.deadline = LIMIT
            for message in messages:
                if message.id not in confirmed:  # as it is told to: under the same id
                    sender.publish(*lesson.publish_arguments(message, "", queue))
                    confirmed.add(message.id)
            dead = {one.id for one in messages if one.payload["kind"] == "permanent"}

            def all_done() -> bool:
                done = len(set(ledger.effects(queue)))
                buried = env.rabbit.ready(queue + ".dead")
                return done >= MESSAGES - len(dead) and buried >= len(dead)

            env.until(all_done, LIMIT)
            waits = [env.rabbit.wait_queue(n) for n in range(lesson.MAX_RETRIES)]
            env.until(lambda: env.rabbit.ready(queue, *waits) == 0, LIMIT)
        wait_for(lambda: env.rabbit.ready(queue) == 0)
        effects = Counter(ledger.effects(queue))
        letters = emptied(env.rabbit, queue + ".dead")
    attempted = {one.id for one in messages}
    buried = {about.message_id: about.headers["x-error"] for about, _ in letters}
    assert confirmed == attempted
    assert set(effects) == attempted - dead, "lost, or invented"
    assert set(effects.values()) == {1}, "done twice"
    assert set(buried) == dead
    assert set(buried.values()) <= {"PermanentError: for good"}


@pytest.mark.parametrize("seed", SHORT)
def test_some_schedules_account_for_every_message(
    env: Any, seed: int, tmp_path: Path
) -> None:
    follow(env, seed, tmp_path / "ledger")


@pytest.mark.soak
@pytest.mark.parametrize("seed", SEEDS)
def test_all_schedules_account_for_every_message(
    env: Any, seed: int, tmp_path: Path
) -> None:
    follow(env, seed, tmp_path / "ledger")
