"""Lesson 05 with --integrated, on stand-ins: exact, also in chaos, and left clean."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from lessons import ROOT, SCRIPTS, path_of, run, unbroken
from services import wait_for

SCRIPT = path_of("05")
GOLDEN = Path(__file__).with_name("golden_integrated.txt")
NOBODY = {  # nothing listens on port 1
    "DATABASE_URL": "postgresql://user:s3cr3t@127.0.0.1:1/name",
    "MONGODB_URI": "mongodb://user:s3cr3t@127.0.0.1:1/",
    "REDIS_URL": "redis://user:s3cr3t@127.0.0.1:1/0",
    "RABBITMQ_URL": "amqp://user:s3cr3t@127.0.0.1:1/%2F",
}


def processes(mark: str) -> set[int]:
    """Return the processes whose environment holds a text."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in path.read_bytes():
                found.add(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with copies of the lessons, the course and the data, to be changed."""
    for script in SCRIPTS:
        shutil.copy(script, tmp_path)
    for folder in ("course", "data"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    return tmp_path


def test_the_golden_output_and_nothing_left_behind(tmp_path: Path) -> None:
    env = {"TMPDIR": str(tmp_path), "MODULE8_MARK": str(tmp_path)}
    done = run(SCRIPT, "--integrated", "--offline", cwd=tmp_path, env=env)
    assert done.stdout == GOLDEN.read_text("utf-8"), done.stderr
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert "slowest hop" in done.stderr
    assert done.stdout.isascii()
    assert not list(tmp_path.iterdir())
    assert not processes(f"MODULE8_MARK={tmp_path}")


def test_chaos_changes_no_figure(tmp_path: Path) -> None:
    options = ["--offline", "--chaos", "--workers", "2"]
    done = run(SCRIPT, "--integrated", *options, env={"TMPDIR": str(tmp_path)})
    assert done.returncode == 0, done.stdout + done.stderr
    calm = GOLDEN.read_text("utf-8").splitlines()
    added = [line for line in done.stdout.splitlines() if line not in calm]
    assert added[:2] == [
        "  [ok] a worker killed by -9, all connections cut: still equal",
        "  [ok] what was not acknowledged came again, for one effect",
    ]
    assert added[-1] == "10 ok, 0 skipped, 0 failed"
    broken = re.sub(r"\s+", " ", done.stdout.partition("7. Chaos: ")[2])
    assert re.search(r"a worker, by kill -9 feed, \d+ orders done", broken)
    assert re.search(r"connections to RabbitMQ feed, \d+ of \d+ ", broken)
    assert re.search(r"Redis late orders, \d+ of \d+ ", broken)
    for cost in (
        r"[1-9]\d* connections were cut",
        r"Redis is back after [\d.]+ s; [1-9]\d* orders wait",
        r"[1-9]\d* messages came again, each for one effect",
    ):
        assert re.search(rf"^  ~ chaos: {cost}$", done.stderr, re.M), done.stderr
    assert set(calm[:-1]) <= set(done.stdout.splitlines())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("number", "store"),
    [("01", "SQL"), ("02", "MongoDB"), ("03", "Redis"), ("04", "RabbitMQ")],
)
def test_a_missing_sibling_is_named(number: str, store: str, home: Path) -> None:
    (home / path_of(number).name).unlink()
    done = run(home / SCRIPT.name, "--integrated", "--offline")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        f"{SCRIPT.name}: --integrated needs lesson {number}: no {number}_*.py here, "
        f"which carries the hops of {store}"
    ]


def test_a_missing_package_is_named(home: Path, tmp_path: Path) -> None:
    (home / "pika.py").write_text("raise ModuleNotFoundError(name='pika')\n")
    done = run(home / SCRIPT.name, "--integrated", env={"PYTHONPATH": str(home)})
    assert (done.returncode, done.stdout) == (2, "")
    hint = "04_rabbitmq_messaging.py needs pika: pip install -r requirements.txt"
    assert done.stderr.splitlines() == [f"{SCRIPT.name}: {hint}"]


@pytest.mark.parametrize(
    "options",
    [
        "--customers 5",
        "--workers 2",
        "--chaos",
        "--integrated --workers 0",
        "--integrated --workers 65",
        "--integrated --customers x",
        "--integrated --only rules",
        "--integrated --url redis://x",
        "--integrated --json",
        "--integrated --simulate 100",
        "--integrated --offline --require-live",
        "--integrated --offline --customers 9999",
        "--integrated --offline --customers 3",
    ],
)
def test_bad_options_get_one_line(options: str) -> None:
    done = run(SCRIPT, *options.split())
    assert done.returncode == 2, done.stdout
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert len(unbroken(done.stdout).splitlines()) <= 1  # the backend line


def test_services_that_do_not_answer_exit_3_and_show_no_password() -> None:
    done = run(SCRIPT, "--integrated", "--require-live", "--verbose", env=NOBODY)
    assert done.returncode == 3, done.stderr
    assert done.stdout.count("127.0.0.1:1") == 4
    assert "s3cr3t" not in done.stdout + done.stderr


def test_another_lessons_bad_url_is_one_line_too() -> None:
    done = run(SCRIPT, "--integrated", env=NOBODY | {"REDIS_URL": "http://:s3cr3t@x"})
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "not a Redis URL" in line
    assert "s3cr3t" not in line


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_its_parent(number: signal.Signals, tmp_path: Path) -> None:
    if not Path("/proc").is_dir():
        pytest.skip("platform: needs /proc")
    mark = f"MODULE8_MARK={tmp_path}"
    command = [sys.executable, str(SCRIPT), "--integrated", "--offline"]
    command += ["--workers", "2"]
    env = os.environ | {"TMPDIR": str(tmp_path), "MODULE8_MARK": str(tmp_path)}
    null, pipe = subprocess.DEVNULL, subprocess.PIPE
    with subprocess.Popen(
        command, env=env, stdin=null, stdout=null, stderr=pipe
    ) as parent:
        wait_for(lambda: len(processes(mark)) == 3, 60)
        parent.send_signal(number)
        printed = parent.communicate(timeout=60)[1]
    assert parent.returncode == (130 if number == signal.SIGINT else -number)
    assert b"Traceback" not in printed or number == signal.SIGKILL
    wait_for(lambda: not processes(mark), 60)
    if number == signal.SIGINT:
        assert not list(tmp_path.iterdir())


@dataclass(frozen=True)
class Change:
    """A change of the text after which the claim must not be made any more."""

    claim: str
    file: str  # of course/integrated
    old: str
    new: str
    times: int = 1
    options: tuple[str, ...] = ()
    error: str = ""  # what fails, where it does before the claim is reached


CHAOS = ("--chaos",)
CHANGES = (
    Change(
        "only the inbox has 20 rows for 20 orders",
        "books.py",
        "fresh = self.not_applied(batch, new_ids)",
        "fresh = batch",
    ),
    Change(
        "features read back from SQL equal the file's",
        "analytics.py",
        "cents = np.rint(100 * log.amount).astype(int)",
        "cents = (100 * log.amount).astype(int)",
    ),
    Change(
        "the second pass asks SQL nothing",
        "cache.py",
        "redis_cache(TTL,",
        "redis_cache(0.001,",
    ),
    Change(
        "whom a purchase came for is read again, who is cached is not",
        "cache.py",
        "self.cache.delete(*keys)",
        "self.cache.delete(*users)",
    ),
    Change(
        "cached predictions = model output",
        "scoring.py",
        "for order in repeat_orders)",
        "for order in orders)",
    ),
    Change(
        "published = applied + dead, in every queue",
        "sql.py",
        '"queue": queue',
        '"queue": "any"',
        2,
        error="TimeoutError: feed",
    ),
    Change(
        "SQL users = MongoDB profiles = customers, one by one",
        "desks.py",
        '"UserDataConsumer", Users',
        '"NotificationConsumer", Users',
    ),
    Change(
        "SQL users = MongoDB profiles = customers, one by one",
        "books.py",
        '"created_at": midnight(message.registration_date)',
        '"created_at": midnight("1997-01-01")',
    ),
    Change(
        "SQL purchases = MongoDB events = the file, row by row",
        "books.py",
        'message.properties["cents"] / 100}',
        'message.properties["cents"] // 100}',
    ),
    Change(
        "SQL purchases = MongoDB events = the file, row by row",
        "books.py",
        '"user_id": int(message.user_id)',
        '"user_id": 1',
    ),
    Change(
        "a worker killed by -9, all connections cut: still equal",
        "staff.py",
        "for worker in dead:",
        "for worker in ():",
        options=CHAOS,
        error="RuntimeError: workers end by themselves",
    ),
    Change(
        "a worker killed by -9, all connections cut: still equal",
        "trouble.py",
        "own = max(1, orders // (32 * workers))",
        "own = 0",
        options=CHAOS,
        error="TimeoutError: a worker's death: 0 of 1",
    ),
    Change(
        "what was not acknowledged came again, for one effect",
        "desks.py",
        "import Books, Events, Purchases, Users",
        "import Books, Events, PurchasesWithoutInbox as Purchases, Users",
        options=CHAOS,
        error="features read back from SQL equal the file's",
    ),
)


def replace_in(path: Path, old: str, new: str, times: int = 1) -> None:
    """Replace a text that stands there so many times."""
    text = path.read_text("utf-8")
    assert text.count(old) == times
    path.write_text(text.replace(old, new), "utf-8")


def test_every_claim_has_a_change() -> None:
    claims = set(
        re.findall(r"^  \[ok\] (.*)$", GOLDEN.read_text("utf-8"), re.MULTILINE)
    )
    assert claims == {change.claim for change in CHANGES if not change.options}
    assert len({change.new for change in CHANGES}) == len(CHANGES)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.new)
def test_a_change_makes_its_claim_fail(change: Change, home: Path) -> None:
    script, parts = home / SCRIPT.name, home / "course" / "integrated"
    replace_in(parts / "task.py", "LIMIT = 60.0", "LIMIT = 20.0")  # stalls are short
    replace_in(parts / change.file, change.old, change.new, change.times)
    options = ["--offline", "--customers", "100", *change.options]
    done = run(script, "--integrated", *options)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"  [FAIL] {change.error or change.claim}" in done.stdout
