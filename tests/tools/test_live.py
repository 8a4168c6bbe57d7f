"""make live: a line per lesson, live or why not, and an exit code that fits."""

from __future__ import annotations

from typing import Any

import pytest

from tools import live

THERE = {
    service: live.Started(f"{service}://", service.title(), "1.2")
    for service in ("postgres", "redis")
}


def lines_of(run: live.Run, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> list[str]:
    monkeypatch.setattr(live, "run_lesson", lambda *args, **urls: run)
    live.report("03", ("redis",), THERE)
    lines: list[str] = capsys.readouterr().out.splitlines()
    return lines


def test_a_lesson_that_held(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    run = live.Run("  [ok] it holds\n\n1 ok, 0 skipped, 0 failed\n", 0)
    (line,) = lines_of(run, monkeypatch, capsys)
    assert "live on Redis 1.2: 1 ok, 0 skipped, 0 failed" in line
    assert live.report("03", ("redis",), THERE)


@pytest.mark.parametrize(
    "run",
    [
        live.Run("  [FAIL] it holds\n\n0 ok, 0 skipped, 1 failed\n", 1),
        live.Run("Traceback\nKeyError: 'x'\n", 1),
        live.Run("1 ok, 0 skipped, 0 failed\nlate words\n", 2),
        live.Run("0 ok, 9 skipped, 0 failed\n", 0),
    ],
)
def test_a_lesson_that_did_not_hold(
    run: live.Run, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    _, reason = lines_of(run, monkeypatch, capsys)
    assert live.why(run) in reason
    assert f"exit code {run.code}" in reason
    assert not live.report("03", ("redis",), THERE)


def test_a_server_that_cannot_be_had_is_named_and_is_no_failure(capsys: Any) -> None:
    assert live.report("04", ("rabbitmq",), THERE)
    assert "not live: no rabbitmq-server on the PATH" in capsys.readouterr().out
