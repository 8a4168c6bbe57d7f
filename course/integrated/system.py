"""The whole system: four services, the workers, and the parts of a run in order."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from course.console import (
    TALLY,
    fact,
    note,
    run_claims,
    table,
    tallied,
    told_at_once,
    write,
)
from course.ending import apart, flush, held, interruptible
from course.integrated.analytics import Analytics, first_customers
from course.integrated.answers import answer
from course.integrated.feeding import CAME_AGAIN, deliver_twice, feed
from course.integrated.lessons import BackEnds, Lessons, open_back_ends
from course.integrated.reconciliation import reconcile
from course.integrated.scoring import scores
from course.integrated.shop import Shop
from course.integrated.spans import AGAIN
from course.integrated.timeline import timeline
from course.lab import in_background
from course.naming import folder_of_the_run
from course.watching import Watch

SERVICE_PATIENCE = 20.0  # seconds; longer than a service takes to start again
ANSWER_LIMIT = 2.0  # seconds for the figures of a run that has failed
FEW = 300  # customers on stand-ins
PARTS: list[Callable[[Shop], None]] = [
    deliver_twice,
    feed,
    scores,
    answer,
    reconcile,
    timeline,
]


def run_system(lessons: Lessons, args: Namespace) -> int:
    """Open everything, run the parts, close everything; return the exit code."""
    log = Analytics(lessons.analytics).sample()
    return tallied(partial(run_on_back_ends, lessons, args, log))


def run_on_back_ends(lessons: Lessons, args: Namespace, log: Any) -> int | None:
    """Run the parts on what answers; return an exit code, if nothing was tried."""
    shop: Shop | None = None
    with held(), folder_of_the_run(), ExitStack() as stack:
        back_ends = open_back_ends(lessons, args, stack)
        all_live = all(back_ends.live.values())
        try:
            with told_at_once(), interruptible(), watched(back_ends):
                write(f"backend: {back_ends.backend}")
                if args.require_live and not all_live:
                    return 3
                customers = len(log.ids) if all_live else FEW
                some = first_customers(log, args.customers or customers)
                shop = Shop(lessons, back_ends, some, stack)
                # Stand-ins live in one process: a second worker would wait for it.
                workers = args.workers or (2 if all_live else 1)
                apart(run_parts, shop, workers, args.chaos)
        finally:
            if shop and TALLY["failed"]:
                show_how_far(shop)
    return None


@contextmanager
def watched(back_ends: BackEnds) -> Iterator[None]:
    """End the run when one of the four services has not answered for a while."""
    with ExitStack() as stack:
        for env in back_ends.all:
            stack.enter_context(Watch(env, SERVICE_PATIENCE))
        yield


def run_parts(shop: Shop, workers: int, chaos: bool) -> None:
    """Run the parts, one after the other, up to the first that fails."""
    run_claims(partial(start, shop, workers, chaos))
    parts = [*PARTS, show_chaos] if chaos else PARTS
    for number, part in enumerate(parts, 1):
        if TALLY["failed"]:  # what comes later would build on it
            shop.refuse_lost_services()
            return
        write()
        write(f"{number}. {part.__doc__}", "bold")
        run_claims(partial(part, shop))
        flush()


def start(shop: Shop, workers: int, chaos: bool) -> None:
    """Declare what the shop needs, and start its workers."""
    shop.declare()
    if chaos:
        shop.make_trouble()
    shop.open(workers)


def show_chaos(shop: Shop) -> None:
    """Chaos: what was broken, when, and what that cost"""
    again = shop.database.value(CAME_AGAIN, hop=AGAIN) or 0
    rows = [(one.what, one.when, one.cost) for one in shop.trouble.broken]
    table(("broken", "when", "cost"), *rows)
    note(f"chaos: {again} messages came again, each for one effect")


def applied_in(shop: Shop) -> dict[str, int]:
    """Return how many messages of each queue had their effect."""
    return shop.database.applied()


def show_how_far(shop: Shop) -> None:
    """Print what was published and what has been applied, where SQL still answers."""
    try:
        applied = in_background(partial(applied_in, shop)).result(ANSWER_LIMIT)
    except Exception:
        applied = None
    write()
    write("How far it came", "bold")
    rows = []
    for queue, published in shop.published.items():
        done = "SQL does not answer" if applied is None else applied.get(queue, 0)
        rows.append((queue, published, done))
    table(("queue", "published", "applied"), *rows)
    staff = getattr(shop, "staff", None)  # not there before any was started
    fact("workers that died", len(staff.exit_codes) if staff else 0)
