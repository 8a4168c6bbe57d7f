"""Tests of a service of your own: contract, fault, mutations. See the guide, 12."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

SERVICE = Path(__file__).with_name("welcome.py")
STATEMENTS = ("BEGIN", "INSERT OR IGNORE", "INSERT INTO welcomes", "COMMIT")
ADA = "ada@example.com"


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("service", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check_contract(welcomes: Any) -> None:
    """What both the service and its stand-in promise."""
    assert welcomes.keep("message 1", ADA)
    assert not welcomes.keep("message 1", ADA)  # delivered twice
    assert welcomes.keep("message 2", ADA)  # another message
    assert welcomes.addresses() == [ADA, ADA]


def check_database(path: Path, database: Path) -> None:
    welcomes = load(path).WelcomesInDatabase(database)
    with closing(welcomes.connection):
        check_contract(welcomes)


# region fault
def check_fault(path: Path, database: Path) -> None:
    """Kill a process before each statement; its message comes again, and counts."""
    welcomes = load(path).WelcomesInDatabase(database)
    with closing(welcomes.connection):
        for statement in STATEMENTS:
            child = [sys.executable, __file__, str(path), str(database), statement]
            assert subprocess.run(child, check=False).returncode == 9
            welcomes.keep(statement, ADA)
        assert welcomes.addresses() == [ADA] * len(STATEMENTS)


def die_before(path: Path, database: Path, statement: str) -> None:
    """Handle a message, and end this process before the statement."""
    welcomes = load(path).WelcomesInDatabase(database)

    def watch(sql: str) -> None:
        if sql.startswith(statement):
            os._exit(9)  # as kill -9 does it: nothing is flushed or rolled back

    welcomes.connection.set_trace_callback(watch)
    welcomes.keep(statement, ADA)


# endregion fault


def test_stand_in_keeps_the_contract() -> None:
    check_contract(load(SERVICE).WelcomesInMemory())


@pytest.mark.parametrize("check", [check_database, check_fault])
def test_service(check: Any, tmp_path: Path) -> None:
    check(SERVICE, tmp_path / "database")


WRITE = 'connection.execute("INSERT INTO welcomes'
MUTATIONS = [
    ("INSERT OR IGNORE", "INSERT OR REPLACE", check_database),  # each delivery is new
    (WRITE, f"connection.commit(); {WRITE}", check_fault),  # the id without its effect
]


@pytest.mark.parametrize(("old", "new", "check"), MUTATIONS)
def test_mutation_is_noticed(old: str, new: str, check: Any, tmp_path: Path) -> None:
    source = SERVICE.read_text("utf-8")
    assert source.count(old) == 1
    mutated = tmp_path / "mutated.py"
    mutated.write_text(source.replace(old, new), "utf-8")
    with pytest.raises(AssertionError):
        check(mutated, tmp_path / "database")


if __name__ == "__main__":
    die_before(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
