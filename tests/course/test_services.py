"""Where a service is, and what is hidden of it."""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
from lessons import ROOT
from services import free_port

import course.services
from course.errors import BadInput
from course.network import LoopbackServer
from course.services import (
    ServiceAddress,
    accepts_connections,
    address_of,
    redact,
    setting,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://user:s3cr3t@host:6379/0", "redis://user:***@host:6379/0"),
        ("redis://:s3cr3t@host", "redis://:***@host"),
        ("amqp://u:s3/cr@3t@host/%2F failed", "amqp://u:***@host/%2F failed"),
        ("at a://u:s3cr3t@h and b://v:s3cr3t@h", "at a://u:***@h and b://v:***@h"),
        ("postgresql://h/db?password=s3cr3t&x=1", "postgresql://h/db?password=***&x=1"),
        ("mongodb://h/?tlsCertificateKeyFilePassword=s3cr3t", None),
        ("amqp://host:5672/%2F", "amqp://host:5672/%2F"),
        ("a clock at 12:30, me@example.org", "a clock at 12:30, me@example.org"),
    ],
)
def test_a_password_is_hidden_and_nothing_else(text: str, shown: str | None) -> None:
    hidden = redact(text)
    assert "s3" not in hidden
    if shown is not None:
        assert hidden == shown


def test_what_is_long_and_odd_takes_no_minutes() -> None:
    """Each of these once took as long as the square or the cube of its length."""
    program = """
from course.services import redact
for piece in ("x://a", "redis:/", "x://:", "pass", "a-", "a:", "://a: "):
    for end in ("", "@", "@h", " =", "\\n@h"):
        redact(piece * 8000 + end)
        redact(end + piece * 8000)
"""
    command = [sys.executable, "-c", program]
    subprocess.run(command, cwd=ROOT, timeout=60, check=True)


def test_what_is_hidden_may_be_an_exception() -> None:
    assert redact(ValueError("x://u:s3cr3t@h")) == "x://u:***@h"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(course.services, "PROJECT", tmp_path)
    monkeypatch.delenv("SMALL_URL", raising=False)
    return tmp_path


def test_a_setting_is_of_the_environment_then_of_the_file_then_the_default(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert setting("SMALL_URL") == ""
    assert setting("SMALL_URL", "default") == "default"
    (project / ".env").write_text("SMALL_URL='of the file'\nEMPTY=\n")
    assert setting("SMALL_URL", "default") == "of the file"
    assert setting("EMPTY", "default") == "default"
    monkeypatch.setenv("SMALL_URL", "of the environment")
    assert setting("SMALL_URL", "default") == "of the environment"
    # Set to nothing, the environment still wins: that is how a run ignores the file.
    monkeypatch.setenv("SMALL_URL", "")
    assert setting("SMALL_URL", "default") == "default"


def test_a_file_that_cannot_be_read_is_named_and_not_shown(project: Path) -> None:
    (project / ".env").write_bytes("SMALL_URL=s3cr3t".encode("utf-16"))
    with pytest.raises(
        BadInput, match=r"^\.env cannot be read \(UnicodeDecodeError\)$"
    ):
        setting("SMALL_URL")


@pytest.mark.parametrize(
    "line",
    [
        'SMALL_URL="redis://:s3cr3t@h',
        "SMALL_URL='redis://:s3cr3t@h",
        "SMALL_URL redis://:s3cr3t@h",
        "SMALL_URL: redis://:s3cr3t@h",
        'SMALL_URL="redis://:s3cr3t@h" it',
        "set SMALL_URL=redis://:s3cr3t@h",
        "<<<<<<< s3cr3t",
    ],
)
def test_a_line_that_cannot_be_read_is_named_and_not_left_out(
    project: Path, line: str
) -> None:
    text = f"# two lines before\nEMPTY=\n\n \n{line}\nOTHER='it'\n"
    (project / ".env").write_text(text)
    with pytest.raises(BadInput, match=r"^line 5 of \.env is not .* NAME=value") as why:
        setting("SMALL_URL", "default")
    assert "s3cr3t" not in str(why.value)


def test_what_other_systems_write_is_read(project: Path) -> None:
    text = "\ufeffexport SMALL_URL = 'of the file'  # note\r\n\r\nNAME\r\n"
    (project / ".env").write_bytes(text.encode())
    assert setting("SMALL_URL") == "of the file"
    (project / ".env").unlink()
    (project / ".env").mkdir()  # as Docker makes one where it is to mount a file
    assert setting("SMALL_URL", "default") == "default"


def test_an_address_knows_who_named_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = Namespace(url=None)
    found = address_of(args, "SMALL_URL", "small://default")
    assert found == ServiceAddress("small://default", "SMALL_URL", named=False)
    (project / ".env").write_text("SMALL_URL=small://file\n")
    found = address_of(args, "SMALL_URL", "small://default")
    assert found == ServiceAddress("small://file", "SMALL_URL", named=True)
    monkeypatch.setenv("SMALL_URL", "small://variable")
    found = address_of(args, "SMALL_URL", "small://default")
    assert found == ServiceAddress("small://variable", "SMALL_URL", named=True)
    found = address_of(Namespace(url="small://option"), "SMALL_URL")
    assert found == ServiceAddress("small://option", "--url", named=True)


def test_a_port_accepts_connections_while_something_listens() -> None:
    with LoopbackServer() as server:
        assert accepts_connections("127.0.0.1", server.port)
    assert not accepts_connections("127.0.0.1", server.port)
    assert not accepts_connections("127.0.0.1", free_port(), limit=0.1)
