"""The timeline: what went where, and how fast."""

from __future__ import annotations

from collections import defaultdict

from course.console import note, table
from course.integrated.shop import Shop
from course.integrated.spans import AGAIN, Span, pace_of

ALL_SPANS = "SELECT hop, started, seconds, messages FROM spans"
Hops = dict[str, list[Span]]


def spans_by_hop(shop: Shop) -> Hops:
    """Return how long messages took, of all processes, by hop."""
    spans = [Span(*row) for row in shop.database.rows(ALL_SPANS)]
    spans += shop.publisher.spans
    spans += shop.spans
    hops: Hops = defaultdict(list)
    for span in spans:
        if span.hop != AGAIN:
            hops[span.hop].append(span)
    return hops


def timeline(shop: Shop) -> None:
    """Timeline: what went where, and which hop is the slowest"""
    applied = shop.database.applied()
    live = shop.back_ends.live
    speed = {}
    rows = []
    hops = spans_by_hop(shop)
    for hop in sorted(hops):
        pace = pace_of(hops[hop])
        speed[hop] = pace.speed
        note(f"{hop}: {pace}")
        source, *_, store = hop.split()
        where = "live" if live[store] else "stand-in"
        # A redelivery makes a second span, not a second message.
        messages = applied.get(source, len(hops[hop]))
        rows.append((hop, where, messages))
    slowest = min(speed, key=lambda hop: speed[hop])
    note(f"slowest hop: {slowest}")
    table(("hop", "on a", "messages"), *rows)
