"""make audit: clean, vulnerable, or not reached, which is not clean."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tools import audit

CLEAN = {"name": "one", "version": "1", "vulns": []}
BAD = {"name": "two", "version": "2", "vulns": [{"id": "CVE-1"}, {"id": "CVE-2"}]}
UNKNOWN = {"name": "three", "skip_reason": "not found"}


def test_a_database_that_keeps_silent_is_not_reached(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wait(command: list[str], **options: Any) -> None:
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(subprocess, "run", wait)
    assert audit.main([]) == 3
    assert capsys.readouterr().out == "audit: not reached (no answer in 600 s)\n"


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([CLEAN], 0, "audit: 1 packages, none with a known vulnerability"),
        ([CLEAN, BAD], 1, "audit: two 2: CVE-1, CVE-2"),
        ([CLEAN, UNKNOWN], 3, "audit: not reached for 1 of 2 packages"),
        ([BAD, UNKNOWN], 1, "audit: two 2: CVE-1, CVE-2"),
        (None, 3, "audit: not reached (ConnectionError: no such host)"),
    ],
)
def test_the_outcome(
    packages: list[dict[str, Any]] | None,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = "" if packages is None else json.dumps({"dependencies": packages})
    done = subprocess.CompletedProcess(
        [], 1, text, "Traceback\nConnectionError: no such host\n"
    )
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: done)
    assert audit.main([]) == code
    assert capsys.readouterr().out.splitlines() == [said]
