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
    # No exclusive group: argparse would write all four on one line of the help.
    parser.add_argument(
        "--transactions",
        type=Path,
        metavar="FILE",
        help="study your own orders, CSV or Parquet: a row has a customer and a date, "
        "and an amount, or a quantity and a price, or neither",
    )
    parser.add_argument(
        "--simulate",
        type=count_option,
        default=0,
        metavar="N",
        help="study N invented customers whose habits are known",
    )
    parser.add_argument(
        "--summary",
        type=Path,
        metavar="CSV",
        help="fit the rows that --summary-sql asks an engine for",
    )
    parser.add_argument(
        "--summary-sql",
        metavar="DIALECT",
        help="print a query for what the models need: postgresql, duckdb or spark",
    )
    add = parser.add_argument
    add(
        "--columns",
        metavar="NAMES",
        help="CUSTOMER,DATE[,AMOUNT[,ITEM]]: the columns of the file, by their names; "
        "AMOUNT may be QUANTITY*PRICE",
    )
    add("--decimal", metavar="MARK", help="how amounts are written: . or ,")
    add(
        "--date-format",
        metavar="ORDER",
        help="how dates are written: dmy, mdy, ymd, excel or epoch for numbers, or a "
        "pattern such as %%d.%%m.%%Y",
    )
    add("--currency", metavar="NAME", help="read the amounts of this currency only")
    add(
        "--accept-refused",
        action="store_true",
        help="go on even if over 1 %% of the rows, or of their sum, are refused",
    )
    add(
        "--accept-dates",
        action="store_true",
        help="go on even if a date is far off the others, or --as-of is after the last",
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
    add(
        "--scores",
        type=Path,
        metavar="FILE",
        help="write a row for each customer, with its forecasts: .csv or .parquet",
    )
    add("--force", action="store_true", help="replace files that exist already")


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
    sources = [args.transactions, args.simulate, args.summary, args.summary_sql]
    cuts = [args.as_of, args.calibration_end, args.horizon]
    outputs = [args.json, args.report, args.plots, args.scores]
    return any([*sources, *cuts, *outputs])


def rules_given(args: argparse.Namespace) -> bool:
    """Tell whether an option says how a file is to be read."""
    return tells_how_to_read(args) or bool(args.accept_dates)


def tells_how_to_read(args: argparse.Namespace) -> bool:
    """Tell whether an option says how the texts of a file are understood."""
    rules = [args.columns, args.decimal, args.date_format, args.currency]
    return any([*rules, args.accept_refused])


def check_options(args: argparse.Namespace) -> None:
    """Raise BadInput for options that do not go together."""
    of_integrated = args.customers or args.workers or args.chaos
    foreign = studies(args) or rules_given(args) or args.only is not None or args.url
    foreign = foreign or args.bet
    if args.integrated and foreign:
        said = "--offline, --require-live, --customers, --workers and --chaos"
        raise BadInput(f"--integrated goes with {said}, and no other option")
    if of_integrated and not args.integrated:
        raise BadInput("--customers, --workers and --chaos are of --integrated")
    if (args.workers or 0) > MOST_WORKERS:
        raise BadInput(f"--workers {args.workers}: at most {MOST_WORKERS}")
    sources = [args.transactions, args.simulate, args.summary, args.summary_sql]
    if sum(map(bool, sources)) > 1:
        names = "--transactions, --simulate, --summary or --summary-sql"
        raise BadInput(f"one log is studied at a time: {names}")
    unread = args.simulate or not studies(args)
    if unread and tells_how_to_read(args) and not args.integrated:
        rules = "--columns, --decimal, --date-format, --currency and --accept-refused"
        raise BadInput(f"{rules} say how a file is read: they go with --transactions")
    if args.summary or args.summary_sql:
        check_summary_options(args)
    for option in ("only", "bet"):
        if getattr(args, option) not in (None, False) and studies(args):
            said = "runs demos: it does not go with a log that is studied"
            raise BadInput(f"--{option} {said}")


def check_summary_options(args: argparse.Namespace) -> None:
    """Raise BadInput for options that a summary cannot follow: it has no customers."""
    of_customers = [args.report, args.plots, args.scores, args.calibration_end]
    if any(of_customers):
        raise BadInput(
            "a summary has no customers: no --report, --plots, --scores, backtest"
        )
    if args.summary_sql and (args.json or args.horizon):
        raise BadInput("--summary-sql prints a query: it takes --as-of and --columns")
    if args.summary and (args.as_of or rules_given(args)):
        raise BadInput(
            "--summary reads what a query made: it takes --horizon and --json"
        )
