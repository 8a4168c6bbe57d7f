"""Sizes each store for a shop: bytes by arithmetic, rates from named measurements.

Run:  python tools/capacity.py [--customers N] [--events-a-day R] [--ram GB] ...

What a row, a document and a key take is computed from samples below, by the layouts
that the stores document; tests/test_capacity.py holds it against real servers. What a
node does in a second is somebody's measurement (RATES says whose): repeat it on your
own machines before you buy any.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime

import bson

DAY = 86_400.0  # seconds
GB = 1e9  # bytes

# Per second, on one node. Source, and what was running:
RATES = {
    # One connection, one row and one commit at a time (lesson 01's load_each),
    # PostgreSQL 15 on two shared cores, every commit flushed to disk.
    "PostgreSQL": 791,
    # redis.io, "Redis benchmark": SET, 50 clients, no pipelining.
    "Redis": 72_144,
    # rabbitmq.com, "RabbitMQ 3.10 Performance Improvements", scenario 2: held by one
    # quorum queue on three nodes of 8 CPUs, with confirms.
    "RabbitMQ": 10_000,
}

EVENT = {
    "_id": bson.ObjectId(b"capacity-12b"),
    "schema_version": 1,
    "user_id": 123_456,
    "event_type": "purchase",
    "timestamp": datetime(2026, 1, 5, tzinfo=UTC),
    "metadata": {"product": "p-123456", "price": 19.5, "category": "book"},
    "geo": {"type": "Point", "coordinates": [30.5234, 50.4501]},
    "session_info": {"device": "phone", "os": "android", "app_version": "8.1.0"},
}
KEY = "module8:shop:1:predict_churn:" + "0" * 32
VALUE = json.dumps({"v": 1, "at": 1767571200.0, "took": 0.012, "value": 0.731})
ORDER_COLUMNS = 8 + 8 + 8 + 8  # id, customer and amount in cents as bigint, timestamptz


def heap_bytes(columns: int) -> float:
    """Return what a row of so many bytes takes in a PostgreSQL table.

    4 bytes of line pointer and a header of 23, aligned to 24, in pages of 8,192 bytes
    with a header of 24 (PostgreSQL manual, "Database Page Layout").
    """
    return (4 + 24 + columns) * 8192 / (8192 - 24)


def index_bytes() -> float:
    """Return what a bigint takes in a B-tree: 16 and a pointer of 4, 90 % full."""
    return (4 + 16) * 8192 / ((8192 - 24 - 16) * 0.9)


def order_bytes() -> float:
    """Return what an order takes, with the indexes on its id and its customer."""
    return heap_bytes(ORDER_COLUMNS) + 2 * index_bytes()


def event_bytes() -> int:
    """Return what an event takes as BSON, before compression and without indexes."""
    return len(bson.encode(EVENT))


def cached_bytes() -> int:
    """Return what a cached prediction takes: 85 for a small pair (redis.io, FAQ)."""
    return 85 + len(KEY) + len(VALUE)


@dataclass(frozen=True)
class Shop:
    """What is to be carried; `peak` is the busiest second over the mean one."""

    customers: int
    orders_a_year: float
    events_a_day: float
    keep_days: float
    hot_days: float
    peak: float
    ram: float  # bytes, of one node

    @property
    def orders_per_second(self) -> float:
        """Return how many orders the busiest second brings."""
        return self.customers * self.orders_a_year / 365 / DAY * self.peak

    @property
    def events_per_second(self) -> float:
        """Return how many events the busiest second brings."""
        return self.customers * self.events_a_day / DAY * self.peak


@dataclass(frozen=True)
class Need:
    """One store's share: bytes kept, bytes to have in memory, writes a second."""

    store: str
    holds: str
    size: float
    hot: float
    memory: float  # of one node, that may hold them
    rate: float

    @property
    def nodes(self) -> int:
        """Return how many nodes the hot bytes and the peak rate take, at least one."""
        busy = self.rate / RATES[self.store] if self.store in RATES else 0.0
        return max(1, math.ceil(self.hot / self.memory), math.ceil(busy))


def needs(shop: Shop) -> list[Need]:
    """Return what each store has to carry."""
    orders = shop.customers * shop.orders_a_year * shop.keep_days / 365
    events = shop.customers * shop.events_a_day
    return [
        Need(
            "PostgreSQL",
            f"{orders:,.0f} orders",
            orders * order_bytes(),
            orders * order_bytes() * min(1.0, shop.hot_days / shop.keep_days),
            shop.ram,
            shop.orders_per_second,
        ),
        Need(
            "MongoDB",
            f"{events * shop.keep_days:,.0f} events",
            events * shop.keep_days * event_bytes(),
            events * min(shop.hot_days, shop.keep_days) * event_bytes(),
            # MongoDB manual, storage.wiredTiger: the cache is half of (RAM - 1 GB).
            max(0.25 * GB, 0.5 * (shop.ram - GB)),
            shop.events_per_second,
        ),
        Need(
            "Redis",
            f"{shop.customers:,} predictions",
            shop.customers * cached_bytes(),
            shop.customers * cached_bytes(),
            # A save forks, and may need the same memory again (redis.io, FAQ).
            shop.ram / 2,
            shop.events_per_second,  # at worst, each makes a prediction stale
        ),
        Need(
            "RabbitMQ",
            "a receipt, an event",
            0.0,
            0.0,
            shop.ram,
            # An order is two messages, and its event goes into two queues (lesson 04).
            3 * shop.orders_per_second + shop.events_per_second,
        ),
    ]


def line(need: Need) -> str:
    """Return a row of the table."""
    rate = f"{RATES[need.store]:,}" if need.store in RATES else "unmeasured"
    return (
        f"{need.store:<11} {need.holds:<24} {need.size / GB:>9,.1f} "
        f"{need.hot / GB:>8,.1f} {need.rate:>9,.0f} {rate:>11} {need.nodes:>6}"
    )


def main(argv: list[str] | None = None) -> int:
    """Print the table; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--customers", type=int, default=1_000_000)
    add("--orders-a-year", type=float, default=3.0, help="of a customer (3)")
    add("--events-a-day", type=float, default=10.0, help="of a customer (10)")
    add("--keep-days", type=float, default=365.0, help="orders and events (365)")
    add("--hot-days", type=float, default=30.0, help="that queries read (30)")
    add("--peak", type=float, default=10.0, help="busiest second over the mean (10)")
    add("--ram", type=float, default=16.0, help="of a node, in GB (16)")
    options = vars(parser.parse_args(argv))
    if min(options.values()) <= 0:
        parser.error("every figure has to be greater than 0")
    shop = Shop(**(options | {"ram": options["ram"] * GB}))
    print(f"an order {order_bytes():.0f} bytes, an event {event_bytes()}, ", end="")
    print(f"a cached prediction {cached_bytes()}")
    print(f"{'store':<11} {'holds':<24} {'GB':>9} {'hot GB':>8} ", end="")
    print(f"{'writes/s':>9} {'node does/s':>11} {'nodes':>6}")
    for need in needs(shop):
        print(line(need))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
