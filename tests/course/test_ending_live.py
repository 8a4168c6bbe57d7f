"""Live lessons that are ended at any moment: nothing of them may stay anywhere.

Servers are private, so that all that is found on them is of these runs.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest
from ends import TALLY, left_on, running
from lessons import load
from services import Server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="platform: signals differ"),
]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LONGEST = 5.0  # seconds from the start of a run to its signal; starting takes one
VARIABLE = {
    "01": "DATABASE_URL",
    "02": "MONGODB_URI",
    "03": "REDIS_URL",
    "04": "RABBITMQ_URL",
}
every_lesson = pytest.mark.parametrize("number", [*VARIABLE, "05"])


def of_lesson(number: str, servers: dict[str, Server]) -> dict[str, Server]:
    """Return the servers that a lesson uses; 05 takes all of them."""
    if number == "05":
        return servers
    return {VARIABLE[number]: servers[VARIABLE[number]]}


def end_at_a_random_moment(
    number: str, servers: dict[str, Server], home: Path, chance: random.Random
) -> str:
    """End one demo of a lesson by a signal; say what is wrong afterwards."""
    used = of_lesson(number, servers)
    urls = {variable: server.url for variable, server in used.items()}
    options = ["--require-live"]
    if number == "05":
        options += ["--integrated", "--customers", "150"]
    else:
        options += ["--only", chance.choice([*load(number).lesson.demos])]
    name = chance.choice(SIGNALS)
    seconds = chance.uniform(0.2, LONGEST * (2 if number == "05" else 1))
    again = chance.choice((None, 0.05, 0.5))  # a second one, while it cleans up
    about = f"{number} {' '.join(options)} {name.name} after {seconds:.3f}, {again}"
    with running(number, *options, urls=urls, home=home) as one:
        time.sleep(seconds)
        for pause in (0.0, again):
            if pause is not None and one.process.poll() is None:
                time.sleep(pause)
                one.process.send_signal(name)
        printed, complaints = one.end()
    code = one.process.returncode
    wrong = []
    if code == 128 + name:
        if "backend: " in printed and not TALLY.search(printed):
            wrong.append("no tally")
        if f"by {name.name}" not in printed + complaints:
            wrong.append("no reason")
    elif code not in (0, -name):  # it had ended before, or not yet begun
        wrong.append(f"exit code {code}")
    if "Traceback" in complaints:
        wrong.append("a traceback")
    wrong += one.folders()
    wrong += left_on(used)
    return f"{about}: {wrong}\n{printed}\n{complaints}" if wrong else ""


@pytest.mark.parametrize(
    "runs", [2, pytest.param(20, marks=pytest.mark.soak)], ids="{}-runs".format
)
@every_lesson
def test_a_run_that_is_ended_at_any_moment_leaves_nothing(
    number: str, runs: int, servers: dict[str, Server], tmp_path: Path
) -> None:
    seed = int(os.environ.get("MODULE8_SEED") or random.randrange(10**6))
    print(f"MODULE8_SEED={seed}")
    chance = random.Random(seed)
    failures = []
    for _ in range(runs):
        if failure := end_at_a_random_moment(number, servers, tmp_path, chance):
            failures.append(failure)
    assert not failures, f"MODULE8_SEED={seed}\n" + "\n".join(failures)
