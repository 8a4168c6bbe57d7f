"""The compose file, .env and the Makefile, against the scripts and each other."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
import services
from conftest import absent
from dotenv import dotenv_values
from lessons import ROOT, SCRIPTS, VARIABLES
from programs import program

yaml = pytest.importorskip("yaml", reason="pyyaml is in requirements-dev.txt")
COMPOSE = ROOT / "docker-compose.yml"
EXAMPLE = ROOT / ".env.example"
SERVICES = ("postgres", "mongo", "redis", "rabbitmq")
TOOLS = ("pgadmin", "mongo-express", "redisinsight")
SCHEMES = {
    "DATABASE_URL": ("postgresql", "postgres", "POSTGRES"),
    "MONGODB_URI": ("mongodb", "mongo", "MONGO"),
    "REDIS_URL": ("redis", "redis", "REDIS"),
    "RABBITMQ_URL": ("amqp", "rabbitmq", "RABBITMQ"),
}


@pytest.fixture(scope="module")
def stack() -> Any:
    return yaml.safe_load(COMPOSE.read_text("utf-8"))


@pytest.fixture(scope="module")
def example() -> dict[str, str]:
    return {name: value or "" for name, value in dotenv_values(EXAMPLE).items()}


def test_it_follows_the_compose_specification() -> None:
    pytest.importorskip("check_jsonschema", reason="it is in requirements-dev.txt")
    checker = [sys.executable, "-m", "check_jsonschema"]
    schema = ["--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*checker, *schema, COMPOSE], check=False, text=True)
    assert done.returncode == 0


def test_the_services_and_the_tools_profile(stack: Any) -> None:
    assert set(stack["services"]) == {*SERVICES, *TOOLS}
    for name, service in stack["services"].items():
        assert service.get("profiles", []) == (["tools"] if name in TOOLS else [])


@pytest.mark.parametrize("name", [*SERVICES, *TOOLS])
def test_each_service_is_pinned_checked_bounded_and_local(
    stack: Any, name: str
) -> None:
    service = stack["services"][name]
    assert re.fullmatch(r"[\w./-]+:\d+\.\d+(-[a-z]+)?", service["image"])
    assert service["healthcheck"]["test"]
    limits = service["deploy"]["resources"]["limits"]
    assert re.fullmatch(r"\d+[mg]", limits["memory"])
    assert 0 < float(limits["cpus"]) <= 2
    assert 0 < limits["pids"] <= 500
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:${") for port in service["ports"])
    for volume in service.get("volumes", []):
        assert volume.split(":")[0] in stack["volumes"]


def test_every_stateful_service_keeps_its_data_where_its_image_has_it(
    stack: Any,
) -> None:
    folders = {
        name: [volume.split(":")[1] for volume in stack["services"][name]["volumes"]]
        for name in SERVICES
    }
    assert folders == {
        "postgres": ["/var/lib/postgresql"],  # not .../data: that was up to 17
        "mongo": ["/data/db", "/data/configdb"],
        "redis": ["/data"],
        "rabbitmq": ["/var/lib/rabbitmq"],
    }
    assert stack["services"]["rabbitmq"]["hostname"]


def script_of(command: list[str]) -> str:
    """Return the script that a service gives to a shell, as the shell gets it."""
    return command[-1].replace("$$", "$")


def test_redis_runs_by_its_entrypoint_and_takes_the_password_from_no_argument(
    stack: Any, tmp_path: Path
) -> None:
    """The command is run as it stands, with a stand-in for the image's entrypoint."""
    if not program("redis-server"):
        absent("redis-server")
    port = services.free_port()
    seen = tmp_path / "arguments"
    entrypoint = tmp_path / "docker-entrypoint.sh"
    entrypoint.write_text(
        f'#!/bin/sh\necho "$@" > {seen}\nexec "$@" --port {port} --save ""\n'
    )
    entrypoint.chmod(0o755)
    environment = {"REDIS_PASSWORD": "not 4 'ps'", "PATH": f"{tmp_path}:/usr/bin:/bin"}
    script = script_of(stack["services"]["redis"]["command"])
    with subprocess.Popen(
        ["sh", "-c", script], env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL
    ) as server:
        try:
            services.wait_for(lambda: services.answers(port))
            with redis.Redis(port=port, password="not 4 'ps'") as client:
                settings = client.config_get("maxmemory*")
                assert settings["maxmemory-policy"] == "allkeys-lru"
                assert settings["maxmemory"] == "268435456"
            with (
                redis.Redis(port=port) as nobody,
                pytest.raises(redis.exceptions.AuthenticationError),
            ):
                nobody.ping()
        finally:
            server.kill()
    assert seen.read_text().split() == ["redis-server", "-"]


def test_no_service_gets_a_password_as_an_argument(stack: Any) -> None:
    for name, service in stack["services"].items():
        for part in ("command", "entrypoint"):
            text = script_of(service.get(part, [""])).partition("<<END")[0]
            assert "PASSWORD" not in text, name
        check = script_of(service["healthcheck"]["test"])
        given = check.replace("REDISCLI_AUTH=$REDIS_PASSWORD", "")
        assert "PASSWORD" not in given.replace("process.env.MONGO_INITDB_ROOT_PASS", "")


def test_mongod_finds_its_key_again_after_a_restart(stack: Any, tmp_path: Path) -> None:
    """The script runs twice, as at a restart; the kernel guards files below /tmp."""
    script = script_of(stack["services"]["mongo"]["entrypoint"])
    assert "/tmp" not in re.sub(r"^\s*#.*$", "", script, flags=re.MULTILINE)
    key = tmp_path / "mongod.key"
    mine = script.replace("/etc/mongod.key", str(key))
    mine = mine.replace("-o mongodb -g mongodb ", "")
    mine = mine.replace("exec docker-entrypoint.sh", "echo")
    keys = []
    for _ in range(2):
        done = subprocess.run(["bash", "-c", mine], check=True, capture_output=True)
        assert done.stdout.split()[-1] == b"--bind_ip_all"
        assert key.stat().st_mode & 0o777 == 0o400
        keys.append(key.read_text())
    assert keys[0] != keys[1]
    assert all(6 <= len(text) <= 1024 for text in keys)


def test_the_pages_of_mongodb_ask_for_a_login_in_every_version(stack: Any) -> None:
    """1.0 reads ME_CONFIG_BASICAUTH, what follows ME_CONFIG_BASICAUTH_ENABLED."""
    environment = stack["services"]["mongo-express"]["environment"]
    for name in ("ME_CONFIG_BASICAUTH", "ME_CONFIG_BASICAUTH_ENABLED"):
        assert environment[name] == "true"
    assert environment["ME_CONFIG_BASICAUTH_USERNAME"]
    assert "TOOLS_PASSWORD" in environment["ME_CONFIG_BASICAUTH_PASSWORD"]


def test_no_image_gets_a_variable_that_it_refuses(stack: Any) -> None:
    """RabbitMQ's image ends at start-up with most RABBITMQ_* of 3.8, such as *_FILE."""
    allowed = {"RABBITMQ_DEFAULT_USER", "RABBITMQ_DEFAULT_PASS"}
    assert set(stack["services"]["rabbitmq"]["environment"]) == allowed


def test_every_variable_is_in_both_files(example: dict[str, str]) -> None:
    used = set(re.findall(r"(?<!\$)\$\{(\w+)", COMPOSE.read_text("utf-8")))
    assert used == set(example) - set(VARIABLES)
    assert set(VARIABLES) <= set(example)


def test_passwords_are_required_and_none_is_in_the_repository(stack: Any) -> None:
    text = COMPOSE.read_text("utf-8")
    for line in text.splitlines():
        if re.search(r"PASS\w*: ", line) and "$" in line:
            assert ":?" in line
    literal = re.compile(r"(?i)pass\w*[=:] *[\"']?(?!change-me|\$)\w")
    for path in (EXAMPLE, COMPOSE):
        assert not literal.search(path.read_text("utf-8"))


@pytest.mark.parametrize("variable", VARIABLES)
def test_the_urls_fit_the_stack(
    stack: Any, example: dict[str, str], variable: str
) -> None:
    scheme, name, prefix = SCHEMES[variable]
    url = urlsplit(example[variable])
    ports = stack["services"][name]["ports"]
    assert url.scheme == scheme
    assert url.hostname == "127.0.0.1"
    assert url.port == int(example[f"{prefix}_PORT"])
    assert any(port.startswith(f"127.0.0.1:${{{prefix}_PORT") for port in ports)
    assert url.password == example[f"{prefix}_PASSWORD"]
    users = {"postgres": "POSTGRES_USER", "mongo": "MONGO_INITDB_ROOT_USERNAME"}
    users["rabbitmq"] = "RABBITMQ_DEFAULT_USER"
    user = stack["services"][name]["environment"].get(users.get(name, ""), "")
    assert (url.username or "") == user


def code() -> str:
    """Return the text of the lessons and of what they stand on, ports filled in."""
    texts = []
    for path in [*SCRIPTS, *sorted(ROOT.glob("course/**/*.py"))]:
        text = path.read_text("utf-8")
        port = re.search(r"^PORT = (\d+)$", text, re.MULTILINE)
        texts.append(text.replace("{PORT}", port[1]) if port else text)
    return "\n".join(texts)


def test_the_default_urls_of_the_lessons_fit_the_ports(example: dict[str, str]) -> None:
    ports = {
        scheme: example[f"{prefix}_PORT"] for scheme, _, prefix in SCHEMES.values()
    }
    defaults = re.findall(
        r'"(postgresql|mongodb|redis|amqp)://[^"{}]*127\.0\.0\.1:(\d+)', code()
    )
    assert {scheme for scheme, _ in defaults} == set(ports)
    assert all(ports[scheme] == port for scheme, port in defaults if port != "1")


def test_make_writes_fresh_passwords_once(tmp_path: Path) -> None:
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    for name in ("Makefile", ".env.example", "requirements-dev.txt"):
        shutil.copy(ROOT / name, tmp_path)
    command = ["make", "-C", str(tmp_path), ".env", f"PYTHON={sys.executable}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    written = (tmp_path / ".env").read_text("utf-8")
    made = {name: text or "" for name, text in dotenv_values(tmp_path / ".env").items()}
    passwords = [text for name, text in made.items() if name.endswith("_PASSWORD")]
    assert len(passwords) == len(set(passwords)) == 5
    assert all(len(password) >= 20 for password in passwords)
    assert all(password not in done.stdout + done.stderr for password in passwords)
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0
    for variable, (_, _, prefix) in SCHEMES.items():
        assert urlsplit(made[variable]).password == made[f"{prefix}_PASSWORD"]
    subprocess.run(command, check=True, capture_output=True)
    assert (tmp_path / ".env").read_text("utf-8") == written


def test_make_leaves_no_env_that_is_not_whole(tmp_path: Path) -> None:
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    for name in ("Makefile", ".env.example", "requirements-dev.txt"):
        shutil.copy(ROOT / name, tmp_path)
    before = set(tmp_path.iterdir())
    command = ["make", "-C", str(tmp_path), ".env", "PYTHON=python3.99"]
    for _ in range(2):
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 2
        assert "python3.99" in done.stderr
        assert "wrote" not in done.stdout
        assert set(tmp_path.iterdir()) == before


def test_the_hints_of_the_lessons_name_services_that_are_there(stack: Any) -> None:
    hints = set(re.findall(r"docker compose up -d (\w+)", code()))
    assert hints
    assert hints <= set(stack["services"])
