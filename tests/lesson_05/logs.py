"""Logs, and files of logs, for the tests of lesson 05."""

from __future__ import annotations

import csv
import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lessons import load, path_of, run

lesson: Any = load("05")
SCRIPT = path_of("05")
END, DAYS = date(1997, 9, 30).toordinal(), 273
KINDS = list(lesson.PredictionType)


def as_log(rows: list[tuple[int, int, float]], ids: int) -> Any:
    who, day, paid = (np.array(column) for column in zip(*rows, strict=True))
    return lesson.TransactionLog(who, day, paid, [f"c{k}" for k in range(ids)])


def write(
    path: Path, rows: list[list[str]], header: str = "customer,date,amount"
) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header.split(","), *rows])
    return path


def orders(n: int = 400, start: date = date(2020, 1, 1)) -> list[list[str]]:
    rng = np.random.default_rng(4)
    day = [start + timedelta(int(d)) for d in rng.integers(0, 300, n)]
    who, paid = rng.integers(0, 80, n), rng.integers(1, 90, n)
    rows = zip(who, day, paid, strict=True)
    return [[f"c{c}", str(d), f"{p}.50"] for c, d, p in rows]


def parsed(path: Path, *options: str) -> Any:
    done = run(SCRIPT, "--transactions", str(path), "--json", *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout, parse_constant=pytest.fail)
