"""The workflow on GitHub: valid, and nothing else than what README and stack say."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from typing import Any

import pytest
from lessons import ROOT, SCRIPTS

yaml = pytest.importorskip("yaml", reason="pyyaml is in requirements-dev.txt")
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"
README = (ROOT / "README.md").read_text("utf-8")
VERSIONS = ["3.11", "3.12", "3.13", "3.14"]
SYSTEMS = ("linux", "macos", "windows")


@pytest.fixture(scope="module")
def workflow() -> Any:
    return yaml.safe_load(WORKFLOW.read_text("utf-8"))


def commands(job: Any) -> list[str]:
    """Return the lines that a job runs."""
    steps = [step["run"] for step in job["steps"] if "run" in step]
    return [line for text in steps for line in text.splitlines()]


def make_targets(text: str) -> set[str]:
    """Return the make targets that lines of a shell call."""
    return set(re.findall(r"^make ([a-z]+)", text, re.MULTILINE))


def test_it_is_a_workflow_by_the_published_schema() -> None:
    pytest.importorskip("check_jsonschema", reason="it is in requirements-dev.txt")
    schema = ["--builtin-schema", "vendor.github-workflows"]  # comes with the package
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", *schema, str(WORKFLOW)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_may_only_read_and_names_versions_of_what_it_uses(workflow: Any) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["group"]
    for name, job in workflow["jobs"].items():
        assert "permissions" not in job, name
        assert job["timeout-minutes"] <= 45, name
        assert not job["runs-on"].endswith("-latest"), name
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"[\w/-]+@(v\d+|[0-9a-f]{40})", step["uses"])


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_system_runs_every_python_of_the_project(
    workflow: Any, system: str
) -> None:
    assert workflow["jobs"][system]["strategy"]["matrix"]["python"] == VERSIONS


def test_the_oldest_python_is_the_same_everywhere(workflow: Any) -> None:
    oldest = VERSIONS[0]
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    start = (ROOT / "course" / "start.py").read_text("utf-8")
    asked = re.search(r"^OLDEST_PYTHON = (.+)$", start, re.MULTILINE)
    assert asked
    assert ".".join(re.findall(r"\d+", asked[1])) == oldest
    assert settings["tool"]["mypy"]["python_version"] == oldest
    assert settings["tool"]["ruff"]["target-version"] == "py" + oldest.replace(".", "")
    assert f"Python {oldest} or newer" in README
    for script in SCRIPTS:
        assert f'# requires-python = ">={oldest}"' in script.read_text("utf-8")
    style = [step.get("with", {}) for step in workflow["jobs"]["style"]["steps"]]
    assert oldest in [given.get("python-version") for given in style]


def test_it_types_what_the_readme_tells_a_reader_to_type(workflow: Any) -> None:
    jobs = workflow["jobs"]
    types = {
        system: make_targets("\n".join(commands(jobs[system])))
        for system in ("linux", "macos")
    }
    assert types == {"linux": {"demo", "test", "floors"}, "macos": {"demo", "test"}}
    assert {"demo", "test"} <= make_targets(README)
    assert "`make floors`" in README
    assert make_targets("\n".join(commands(jobs["style"]))) == {"lint", "types"}
    (windows,) = re.findall(r"^```powershell\n(.*?)^```$", README, re.M | re.S)
    typed = windows.splitlines()
    make_environment, *others = commands(jobs["windows"])
    assert re.sub(r"^py -\d\.\d+", "python", typed[0]) == make_environment
    assert set(others) <= set(typed)


def test_its_services_are_those_of_the_stack(workflow: Any) -> None:
    stack = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    services = workflow["jobs"]["linux"]["services"]
    assert set(services) == {"postgres", "redis", "rabbitmq"}
    for name, service in services.items():
        assert service["image"] == stack["services"][name]["image"]
        assert "--health-cmd" in service["options"]
