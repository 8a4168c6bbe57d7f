"""REQUIRE_LIVE=1: whatever is missing is a failure, so that no skip hides a gap."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest


def _nothing_missing(report: Any) -> Any:
    """Turn a skip into a failure where REQUIRE_LIVE=1 says that nothing is missing.

    Only what no installation can change stays a skip; its reason begins with
    "platform:".
    """
    if report.skipped and os.environ.get("REQUIRE_LIVE") == "1":
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        if "platform:" not in reason:
            report.outcome = "failed"
            report.longrepr = f"REQUIRE_LIVE=1, but: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    return _nothing_missing((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    return _nothing_missing((yield))
