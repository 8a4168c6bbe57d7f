"""The options of lesson 05 beyond those that all lessons share."""

from __future__ import annotations

import argparse
import re
from datetime import date
from pathlib import Path

from course.analytics.rates import SEED
from course.errors import BadInput
from course.options import Parser

MOST_WORKERS = 16  # each takes 4 of the 100 connections that PostgreSQL has


def day_option(text: str) -> int:
    """Return the ordinal of a date on the command line."""
    try:
        return date.fromisoformat(text).toordinal()
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date (1997-09-30)") from None


def count_option(text: str) -> int:
    """Return a count on the command line."""
    if not re.fullmatch("[0-9]{1,8}", text) or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 99999999")
    return int(text)


def add_options(parser: Parser) -> None:
    """Add the options by which a log is studied, and those of --integrated."""
    add_sources(parser)
    add_backtest(parser)
    add_output(parser)
    add_integrated(parser)


def add_sources(parser: Parser) -> None:
    """Add what says which log is studied."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--transactions",
        type=Path,
        metavar="CSV",
        help="study your own orders: a customer, a date and an amount in each row",
    )
    source.add_argument(
        "--simulate",
        type=count_option,
        default=0,
        metavar="N",
        help="study N invented customers of known habits",
    )
    add = parser.add_argument
    add(
        "--columns",
        metavar="NAMES",
        help="CUSTOMER,DATE,AMOUNT[,ITEM]: the columns of the CSV, by their names",
    )
    add(
        "--seed",
        type=count_option,
        default=SEED,
        metavar="N",
        help="which customers --simulate invents; the same seed, the same customers",
    )


def add_backtest(parser: Parser) -> None:
    """Add what says up to where a log is read, and where it is cut."""
    add = parser.add_argument
    add("--as-of", type=day_option, metavar="DATE", help="read no order after this day")
    add(
        "--calibration-end",
        type=day_option,
        metavar="DATE",
        help="backtest: predict from the orders up to this day",
    )
    add(
        "--horizon",
        type=count_option,
        metavar="DAYS",
        help="backtest: predict so many days, and compare with what happened",
    )


def add_output(parser: Parser) -> None:
    """Add what is made of a study."""
    add = parser.add_argument
    add("--json", action="store_true", help="print the figures as one JSON object")
    add("--report", type=Path, metavar="HTML", help="write a page for a browser")
    add(
        "--plots",
        type=Path,
        metavar="DIR",
        help="draw the backtest into a folder, by matplotlib",
    )


def add_integrated(parser: Parser) -> None:
    """Add the options of all five lessons as one system."""
    add = parser.add_argument
    add(
        "--integrated",
        action="store_true",
        help="run all five lessons as one system, on their services or stand-ins",
    )
    add(
        "--customers",
        type=count_option,
        metavar="N",
        help="how many customers --integrated takes from the sample",
    )
    add(
        "--workers",
        type=count_option,
        metavar="N",
        help="how many worker processes --integrated starts",
    )
    add(
        "--chaos",
        action="store_true",
        help="let --integrated kill a worker and cut connections half-way",
    )
    add("--as-worker", action="store_true", help=argparse.SUPPRESS)


def studies(args: argparse.Namespace) -> bool:
    """Tell whether an option asks to study a log, instead of the demos."""
    own = [args.transactions, args.simulate, args.as_of, args.calibration_end]
    own += [args.horizon, args.json, args.report, args.plots]
    return any(own)


def check_options(args: argparse.Namespace) -> None:
    """Raise BadInput for options that do not go together."""
    of_integrated = args.customers or args.workers or args.chaos
    foreign = studies(args) or args.columns or args.only is not None or args.url
    if args.integrated and foreign:
        said = "--offline, --require-live, --customers, --workers and --chaos"
        raise BadInput(f"--integrated goes with {said}, and no other option")
    if of_integrated and not args.integrated:
        raise BadInput("--customers, --workers and --chaos are of --integrated")
    if (args.workers or 0) > MOST_WORKERS:
        raise BadInput(f"--workers {args.workers}: at most {MOST_WORKERS}")
    if args.only is not None and studies(args):
        raise BadInput("--only runs demos: it does not go with a log that is studied")
