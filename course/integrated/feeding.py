"""The feed: sign-ups and orders through the broker into every store, each once."""

from __future__ import annotations

import signal

import numpy as np

from course.claims import at_least, more_than
from course.console import check, fact, table
from course.integrated.analytics import unlike
from course.integrated.books import Books, Purchases, PurchasesWithoutInbox
from course.integrated.broker import Letter, publish
from course.integrated.shop import Shop
from course.integrated.spans import AGAIN
from course.integrated.waiting import reach

TWICE = 20  # orders that are delivered twice
TRIAL = "trial"  # the queue that they come from


def rows_after_two_deliveries(shop: Shop, kind: type[Books]) -> list[str]:
    """Deliver some orders twice to books of a kind; return the ids of SQL's rows.

    The broker may deliver one once more, as it may in every run: twice is the least.
    """
    orders = [shop.order(row).message for row in range(TWICE)]
    letters = [Letter(order, "", TRIAL) for order in orders * 2]
    publish(shop.broker, shop.producer, letters, [])
    consumer = shop.broker.consuming(
        TRIAL,
        "AnalyticsConsumer",
        producer=shop.producer,
        ledger=kind(shop.database, shop.stores, TRIAL),
    )
    with consumer as running:
        reach(kind.__name__, lambda: int(running.counts["acked"]), len(letters))
    ids = [row.id for row in shop.database.rows("SELECT id FROM purchases")]
    shop.database.empty("purchases", "inbox", "spans")
    return ids


def deliver_twice(shop: Shop) -> None:
    """Inbox: delivered twice, done once"""
    shop.broker.declare(extra_queue=TRIAL)
    naive = rows_after_two_deliveries(shop, PurchasesWithoutInbox)
    ours = rows_after_two_deliveries(shop, Purchases)
    table(
        (f"{TWICE} orders, each twice", "rows in SQL"),
        ("no inbox", len(naive)),
        ("inbox", len(ours)),
    )
    check(
        "only the inbox has 20 rows for 20 orders",
        {"inbox": len(ours), "orders": len(set(ours)), "no inbox": len(naive)},
        {"inbox": TWICE, "orders": TWICE, "no inbox": at_least(2 * TWICE)},
    )


def feed(shop: Shop) -> None:
    """Feed: sign-ups and orders up to the cut, in date order"""
    shop.deliver("robots", shop.robots())
    victim = shop.staff.workers[0]
    letters = shop.letters(np.flatnonzero(shop.log.day <= shop.cut))
    shop.deliver("feed", letters, shop.trouble.without_connections)
    then = shop.truth.table
    from_sql = shop.analytics.features(shop.stored(), shop.cut)
    with_later_orders = shop.analytics.features(shop.log, shop.end)
    changed = unlike(then, with_later_orders)
    fact("sign-ups and orders", len(letters))
    fact("features that later orders change", f"{len(changed)} of {len(vars(then))}")
    check(
        "features read back from SQL equal the file's",
        {"wrong": unlike(then, from_sql), "changed later": len(changed)},
        {"wrong": [], "changed later": more_than(4)},
    )
    if shop.chaos:
        check(
            "a worker killed by -9, all connections cut: still equal",
            {"its exit code": victim.poll(), "deaths": shop.staff.deaths},
            {"its exit code": -signal.SIGKILL, "deaths": 1},
        )
        ask = "SELECT sum(messages) FROM spans WHERE hop = :hop"
        again = shop.database.rows(ask, hop=AGAIN)[0][0]
        check(
            "what was not acknowledged came again, for one effect", again, more_than(0)
        )
