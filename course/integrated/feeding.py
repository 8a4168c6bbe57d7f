"""The feed: sign-ups and orders through the broker into every store, each once."""

from __future__ import annotations

import signal

from course.claims import at_least, more_than
from course.console import check, fact, table
from course.integrated.analytics import unlike
from course.integrated.books import Books, Purchases, PurchasesWithoutInbox
from course.integrated.letters import Letter
from course.integrated.shop import Shop
from course.integrated.spans import AGAIN
from course.integrated.waiting import reach

TWICE = 20  # orders that are delivered twice
TRIAL = "trial"  # the queue that they come from
ROBOTS = 3  # sign-ups without an address
CAME_AGAIN = "SELECT sum(messages) FROM spans WHERE hop = :hop"


def delivered_twice(shop: Shop, what: str, kind: type[Books]) -> list[str]:
    """Deliver some orders twice to books of a kind; return the ids of SQL's rows.

    The broker may deliver one once more, as it may in every run: twice is the least.
    """
    for _ in range(2):
        orders = [shop.writer.order(one) for one in shop.purchases[:TWICE]]
        letters = [Letter(order.message, "", TRIAL) for order in orders]
        shop.publisher.publish(letters)
    consumer = shop.broker.consuming(
        TRIAL,
        "AnalyticsConsumer",
        producer=shop.publisher.producer,
        ledger=kind(shop.database, shop.stores, TRIAL),
    )
    with consumer as running:
        reach(what, lambda: int(running.counts["acked"]), 2 * TWICE)
    rows = shop.database.rows("SELECT id FROM purchases")
    shop.database.empty("purchases", "inbox", "spans")  # nothing has been sold yet
    return [row.id for row in rows]


def deliver_twice(shop: Shop) -> None:
    """Inbox: delivered twice, done once"""
    shop.broker.declare_also(TRIAL)
    naive = delivered_twice(shop, "no inbox", PurchasesWithoutInbox)
    ours = delivered_twice(shop, "inbox", Purchases)
    shop.publisher.spans.clear()  # the timeline begins with the feed
    table(
        (f"{TWICE} orders, each twice", "rows in SQL"),
        ("no inbox", len(naive)),
        ("inbox", len(ours)),
    )
    found = {
        "rows with an inbox": len(ours),
        "orders among them": len(set(ours)),
        "rows without": len(naive),
    }
    expected = {
        "rows with an inbox": TWICE,
        "orders among them": TWICE,
        "rows without": at_least(2 * TWICE),
    }
    check("only the inbox has 20 rows for 20 orders", found, expected)


def feed(shop: Shop) -> None:
    """Feed: sign-ups and orders up to the cut, in date order"""
    robots = [shop.writer.robot(number, shop.cut) for number in range(ROBOTS)]
    shop.deliver("robots", robots)
    letters = shop.writer.in_date_order(shop.purchases_until_cut())
    shop.deliver("feed", letters, shop.trouble.without_connections)
    then = shop.truth.table
    from_sql = shop.analytics.features(shop.stored(), shop.cut)
    with_later_orders = shop.analytics.features(shop.log, shop.end)
    changed = unlike(then, with_later_orders)
    fact("sign-ups and orders", len(letters))
    fact("features that later orders change", f"{len(changed)} of {len(vars(then))}")
    found = {
        "features that differ": unlike(then, from_sql),
        "changed by later orders": len(changed),
    }
    expected = {
        "features that differ": [],
        "changed by later orders": more_than(4),
    }
    check("features read back from SQL equal the file's", found, expected)
    if shop.chaos:
        check_chaos(shop)


def check_chaos(shop: Shop) -> None:
    """Claim that a worker died half-way, and that somebody did again what it left."""
    reach("a worker's death", shop.deaths, 1)
    claim = "a worker killed by -9, all connections cut: still equal"
    check(claim, shop.staff.exit_codes, [-signal.SIGKILL])
    again = shop.database.value(CAME_AGAIN, hop=AGAIN)
    claim = "what was not acknowledged came again, for one effect"
    check(claim, again, more_than(0))
