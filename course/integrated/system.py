"""The whole system: four services, the workers, and the parts of a run in order."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from course.console import TALLY, print_tally, run_claims, write
from course.integrated.analytics import Analytics, first_customers
from course.integrated.answers import answer
from course.integrated.feeding import deliver_twice, feed
from course.integrated.lessons import Lessons, open_back_ends
from course.integrated.reconciliation import reconcile
from course.integrated.scoring import scores
from course.integrated.shop import Shop
from course.integrated.timeline import timeline

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
    TALLY.clear()
    with ExitStack() as stack:
        back_ends = open_back_ends(lessons, args, stack)
        all_live = all(back_ends.live.values())
        write(f"backend: {back_ends.backend}")
        if args.require_live and not all_live:
            return 3
        customers = len(log.ids) if all_live else FEW
        # Stand-ins live in one process anyway: a second worker would wait for it.
        workers = 2 if all_live else 1
        some = first_customers(log, args.customers or customers)
        shop = Shop(lessons, back_ends, some, stack)
        if args.chaos:
            shop.make_trouble()
        shop.open(args.workers or workers)
        run_parts(shop)
    return print_tally()


def run_parts(shop: Shop) -> None:
    """Run the parts, one after the other, up to the first that fails."""
    for number, part in enumerate(PARTS, 1):
        if not TALLY["failed"]:  # what comes later would build on it
            write()
            write(f"{number}. {part.__doc__}", "bold")
            run_claims(partial(part, shop))
