"""The timeline: what went where, and how fast."""

from __future__ import annotations

from collections import defaultdict

from course.console import note, table
from course.integrated.shop import Shop
from course.integrated.spans import AGAIN, Span, pace_of


def spans_by_hop(shop: Shop) -> dict[str, list[Span]]:
    """Return how long messages took, of all processes, by hop."""
    ask = "SELECT hop, started, seconds, messages FROM spans"
    of_workers = [Span(*row) for row in shop.database.rows(ask)]
    by_hop: dict[str, list[Span]] = defaultdict(list)
    for span in shop.spans + of_workers:
        by_hop[span.hop].append(span)
    by_hop.pop(AGAIN, None)
    return by_hop


def timeline(shop: Shop) -> None:
    """Timeline: what went where, and which hop is the slowest"""
    applied = shop.database.applied()
    live = shop.back_ends.live
    speed = {}
    rows = []
    for hop, spans in sorted(spans_by_hop(shop).items()):
        pace = pace_of(spans)
        speed[hop] = pace.speed
        note(f"{hop}: {pace}")
        queue = hop.split()[0]
        store = hop.split()[-1]
        where = "live" if live[store] else "stand-in"
        rows.append((hop, where, applied.get(queue, len(spans))))
    slowest = min(speed, key=lambda hop: speed[hop])
    note(f"slowest hop: {slowest}")
    table(("hop", "on a", "messages"), *rows)
