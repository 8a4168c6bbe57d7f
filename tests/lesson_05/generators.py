"""Simulated shops for lesson 05, with the property that each is named by."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from lesson_05.logs import lesson


def regular_buyers(
    every: int = 7,
    spread: float = 1,
    stop: float = 0.3,
    *,
    n: int = 300,
    days: int = 546,
    seed: int = 0,
) -> Any:
    """Return customers who buy every so many days, some of whom stop at some day."""
    rng = np.random.default_rng(seed)
    who, when = [], []
    for customer in range(n):
        now = float(rng.integers(60))
        end = rng.uniform(0, days) if rng.random() < stop else days
        visits = 0
        while now < days and (visits == 0 or now < end):
            who.append(customer)
            when.append(1000 + int(now))
            visits += 1
            now += max(1.0, every + rng.normal(0, spread))
    paid = rng.uniform(5, 50, len(who))
    ids = [f"c{k}" for k in range(n)]
    return lesson.TransactionLog(np.array(who), np.array(when), paid, ids)


def sample_of(log: Any, count: int, seed: int) -> Any:
    """Return the orders of some customers of a log."""
    rng = np.random.default_rng(seed)
    codes = np.sort(rng.choice(len(log.ids), count, replace=False))
    theirs = log.where(np.isin(log.customer, codes))
    customer = np.searchsorted(codes, theirs.customer)
    return replace(theirs, customer=customer, ids=[str(k) for k in range(count)])
