"""Versions: of the servers in tests, stack and documents, and of the packages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import pytest
from lessons import ROOT, folder_of
from packaging.requirements import Requirement
from packaging.version import Version

from tools.live import named

yaml = pytest.importorskip("yaml", reason="pyyaml is in requirements-dev.txt")
LOCK = (ROOT / "requirements.lock").read_text("utf-8")
README = (ROOT / "README.md").read_text("utf-8")
DETAILS = (ROOT / "docs" / "versions.md").read_text("utf-8")


def image(service: str) -> str:
    """Return the version of a service's image in the stack."""
    stack = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    return str(stack["services"][service]["image"].partition(":")[2].partition("-")[0])


def shown(service: str) -> str:
    """Return as much of an image's version as has to be met: RabbitMQ's minor too."""
    parts = image(service).split(".")
    return ".".join(parts[: 2 if service == "rabbitmq" else 1])


@pytest.mark.newest
@pytest.mark.parametrize("service", ["postgres", "redis", "rabbitmq"])
def test_the_image_of_the_stack_is_of_the_version_that_is_tested(
    service: str, request: pytest.FixtureRequest
) -> None:
    found = named(service, request.getfixturevalue(f"{service}_url"))
    if found.name != "Valkey":  # REDIS_PROGRAM may put it in Redis' place
        assert f"{found.version}.".startswith(f"{shown(service)}.")


MARK = re.compile(r"pytest\.mark\.(?:newest|older)\b")


def marks() -> dict[str, int]:
    """Return how many marks of a version each module has, if it has any."""
    found = {}
    for path in ROOT.glob("tests/**/*.py"):
        if count := len(MARK.findall(path.read_text("utf-8"))):
            found[str(path)] = count
    return found


def collected(root: str) -> set[str]:
    """Return the names of the tests with a mark of a version that a run would run."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:xdist"]
    done = subprocess.run(
        [*command, "-m", "newest or older", *marks()],
        cwd=ROOT,
        env=os.environ | {"NEWEST_ROOT": root},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert done.returncode in (0, 5), done.stdout  # 5: none
    return set(re.findall(r"^tests/.+::.+$", done.stdout, re.MULTILINE))


def test_what_is_bound_to_a_version_runs_in_exactly_one_of_the_two() -> None:
    here, newest = collected(""), collected("/")
    assert not here & newest
    bound = {name for name in newest if "test_the_image_of_the_stack" in name}
    assert len(bound) == 3
    names = {re.sub(r"\[.*", "", name) for name in here | newest}
    assert len(names) >= sum(marks().values()) > 0


def requirements() -> list[Requirement]:
    """Return the lines of requirements.txt."""
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("wanted", requirements(), ids=lambda wanted: wanted.name)
def test_the_lock_is_within_the_ranges(wanted: Requirement) -> None:
    name = re.sub(r"[-_.]+", "[-_.]+", wanted.name)
    pins = re.findall(rf"^{name}(?:\[\w+\])?==([^\s;]+)", LOCK, re.MULTILINE | re.I)
    assert pins
    assert all(Version(pin) in wanted.specifier for pin in pins)


def test_the_lock_has_a_hash_for_everything_and_names_no_host() -> None:
    pins = re.findall(r"^[\w.-]+(?:\[\w+\])?==.*(?:\n .*)*", LOCK, re.MULTILINE)
    assert len(pins) > len(requirements())
    assert all("--hash=sha256:" in pin for pin in pins)
    assert not re.search(r"://|--index|--find-links|--trusted", LOCK)


def rows(text: str) -> list[list[str]]:
    """Return the cells of a Markdown table's rows."""
    return [line.strip("| ").split(" | ") for line in text.splitlines() if "|" in line]


def test_the_table_of_the_readme_has_the_versions_of_the_stack() -> None:
    found = re.search(r"<!-- versions -->\n(.*?)<!-- /versions -->", README, re.S)
    assert found
    on = " ".join(row[1] for row in rows(found[1]))
    for name, service in (
        ("PostgreSQL", "postgres"),
        ("Redis", "redis"),
        ("RabbitMQ", "rabbitmq"),
    ):
        assert re.search(rf"{name} {re.escape(shown(service))}\b", on), name
    assert "failed" not in found[1]
    assert "| MongoDB 8 | not run by these tests |" in found[1]


@pytest.mark.parametrize("number", ["01", "02", "03", "04", "05"])
def test_the_table_of_claims_has_the_claims_of_the_lesson(number: str) -> None:
    golden = (folder_of(number) / "golden.txt").read_text("utf-8")
    claims = re.findall(r"^\s+\[ok\] (.+)$", golden, re.MULTILINE)
    part = DETAILS.partition(f"## {number}\n")[2].partition("\n## ")[0]
    listed: dict[str, Any] = {row[0]: row[1:] for row in rows(part)}
    assert claims
    assert not [claim for claim in claims if "✓" not in listed.get(claim, [])]
    assert "✗" not in part
